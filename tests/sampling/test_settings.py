"""Each knob says its range, and nothing out of it gets through."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.errors import SettingError
from dashboard.sampling.settings import KNOB, KNOBS, Knob, SamplingSettings


def test_the_defaults_are_top_p_alone_and_a_hundred_tokens() -> None:
    settings = SamplingSettings()
    assert settings.active() == {"top_p": 0.9}
    assert settings.max_new_tokens == 100
    assert settings.seed is None


@pytest.mark.parametrize(
    "knobs",
    [
        {"top_p": 0},
        {"top_p": 1.5},
        {"top_p": math.nan},
        {"top_p": -0.1},
        {"temperature": 0},
        {"temperature": math.inf},
        {"top_k": -1},
        {"top_k": 2.5},
        {"top_k": True},
        {"min_p": -0.01},
        {"typical_p": 0.0},
        {"epsilon_cutoff": 1.0},
        {"eta_cutoff": -1},
        {"repetition_penalty": 0},
        {"no_repeat_ngram_size": -2},
        {"max_new_tokens": 0},
        {"seed": -1},
        {"seed": 2**63},
        {"seed": "seven"},
        {"top_p": None},
    ],
    ids=str,
)
def test_a_value_out_of_range_names_the_knob_the_value_and_the_range(knobs: dict[str, Any]) -> None:
    ((name, value),) = knobs.items()
    with pytest.raises(SettingError) as caught:
        SamplingSettings(**knobs)
    sentence = str(caught.value)
    assert name in sentence
    assert str(value) in sentence
    assert KNOB[name].range_text in sentence


@given(st.sampled_from(KNOBS), st.floats() | st.integers())
def test_a_checked_value_lies_in_the_range_or_is_refused(knob: Knob, value: float) -> None:
    try:
        checked = knob.check(value)
    except SettingError:
        return
    assert checked == value
    assert isinstance(checked, float if knob.kind == "float" else int)
    assert knob.low < checked <= knob.high or (checked == knob.low and not knob.low_open)


def test_every_knob_is_described_and_its_default_and_off_value_are_allowed() -> None:
    for knob in KNOBS:
        assert knob.help.endswith(".")
        assert knob.label
        for value in (knob.default, knob.off):
            if value is not None:
                assert knob.check(value) == value


def test_an_unset_seed_is_chosen_and_a_given_one_is_kept() -> None:
    chosen = {SamplingSettings().with_seed().seed for _ in range(20)}
    assert len(chosen) == 20
    assert all(seed is not None and 0 <= seed < 2**32 for seed in chosen)
    assert SamplingSettings(seed=0).with_seed().seed == 0


def test_settings_survive_a_round_trip_through_a_mapping() -> None:
    settings = SamplingSettings(top_p=0.3, top_k=50, seed=9, repetition_penalty=1.2)
    assert SamplingSettings.from_dict(settings.as_dict()) == settings
    assert list(settings.as_dict()) == [knob.name for knob in KNOBS]


def test_an_unknown_setting_is_refused_by_name() -> None:
    with pytest.raises(SettingError, match="top_q"):
        SamplingSettings.from_dict({"top_q": 1})
