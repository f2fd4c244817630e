"""The figure of the stages: the same tokens in each distribution, the cut, and what took the others."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from dashboard.figures.canvas import Drawn
from dashboard.figures.palette import PALETTES
from dashboard.figures.stages import dropped_told, stages_figure
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.stages import STAGES, StagedToken, Stages
from dashboard.sampling.stored_stages import stored_stages
from tests.figures.factory import make_step, make_vocabulary, zipf
from tests.figures.test_distribution import HOSTILE, shape, texts, trace

SIZE = 2_000


def stages(*, drawn: int = 0, top_p: float = 0.5, raw: bool = False, **knobs: Any) -> Stages:
    """The stages of a step in which token ids are ranks from 0."""
    step = make_step(zipf(SIZE), drawn=drawn, top_p=top_p, raw=zipf(SIZE, 0.5) if raw else None)
    return stored_stages(step, SamplingSettings(top_p=top_p, **knobs))


def drawn_figure(of: Stages) -> Drawn:
    return stages_figure(of, position=0, vocabulary=make_vocabulary(SIZE, HOSTILE), theme="light")


def test_each_panel_shows_the_probabilities_of_its_distribution() -> None:
    of = stages(temperature=0.7, raw=True)
    figure = drawn_figure(of)
    assert list(trace(figure, "Raw").x) == [token.raw_probability for token in of.tokens]
    assert list(trace(figure, "Shaped").x) == [token.probability for token in of.tokens]
    assert list(trace(figure, "Final").x) == [token.final_probability for token in of.tokens]


def test_a_tick_marks_where_a_token_stood_one_panel_before() -> None:
    of = stages(temperature=0.7, raw=True)
    figure = drawn_figure(of)
    assert list(trace(figure, "Shaped, before").x) == [
        token.raw_probability for token in of.tokens if token.rank <= 256
    ]
    assert list(trace(figure, "Final, before").x) == [token.probability for token in of.tokens]
    assert list(trace(figure, "Raw, before").x) == []


def test_panels_share_one_scale() -> None:
    figure = drawn_figure(stages(temperature=0.7, raw=True)).figure
    axes = [figure.layout.xaxis, figure.layout.xaxis2, figure.layout.xaxis3]
    assert len({axis.range for axis in axes}) == 1
    assert axes[0].domain[1] < axes[1].domain[0] < axes[1].domain[1] < axes[2].domain[0]


def test_a_distribution_that_nothing_reshaped_is_shown_once() -> None:
    names = {bars.name for bars in drawn_figure(stages()).figure.data}
    assert {"Raw", "Final"} <= names
    assert "Shaped" not in names


def test_the_cut_stands_between_the_last_token_kept_and_the_first_one_dropped() -> None:
    of = stages(drawn=40)
    figure = drawn_figure(of)
    places = dict(zip([token.token_id for token in of.tokens], trace(figure, "Raw").y, strict=True))
    assert of.first_dropped_id is not None
    assert places[of.last_kept_id] < shape(figure, "cut").y0 < places[of.first_dropped_id]


def test_without_a_truncation_no_cut_is_drawn() -> None:
    assert shape(drawn_figure(stages(top_p=1.0)), "cut") is None


def test_where_typical_sampling_dropped_the_top_no_single_line_is_the_cut() -> None:
    of = stages()
    first, *rest = of.tokens
    upside_down = replace(of, tokens=(replace(first, kept=False, dropped_by="typical_p"), *rest))
    assert shape(drawn_figure(upside_down), "cut") is None


def test_colours_tell_kept_dropped_and_drawn() -> None:
    of = stages(drawn=3)
    palette = PALETTES["light"]
    for token, colour in zip(of.tokens, trace(drawn_figure(of), "Raw").marker.color, strict=True):
        expected = palette.kept if token.kept else palette.dropped
        assert colour == (palette.drawn if token.token_id == 3 else expected)


def test_a_dropped_token_names_the_setting_that_took_it_in_place_of_a_number() -> None:
    of = stages()
    numbers = trace(drawn_figure(of), "Final, numbers").text
    for token, number in zip(of.tokens, numbers, strict=True):
        assert ("by top-p" in number) == (token.kept is False)


def test_what_is_not_stored_is_said_to_be_unknown() -> None:
    of = stages()
    first, *rest = of.tokens
    unknown = replace(of, tokens=(replace(first, kept=None, final_probability=None), *rest))
    figure = drawn_figure(unknown)
    assert trace(figure, "Final, numbers").text[0].endswith("not stored")
    assert "not stored" in figure.description


def test_the_drawn_token_is_marked_wherever_it_ranks_and_the_ranks_left_out_are_counted() -> None:
    of = stages(drawn=1_000)
    figure = drawn_figure(of).figure
    [name] = [text for text in figure.layout.yaxis.ticktext if "◆" in text]
    assert "t1000" in name
    ranks = [token.rank for token in of.tokens]
    left_out = [below - above - 1 for above, below in pairwise(ranks) if below > above + 1]
    told = [annotation.text for annotation in figure.layout.annotations if "more" in annotation.text]
    assert told == [f"⋮ {number:,} more" for number in left_out]


@pytest.mark.parametrize("setting", STAGES)
def test_every_setting_that_drops_has_words_for_it(setting: str) -> None:
    token = StagedToken(0, 1, None, None, None, 0.1, 0.1, kept=False, dropped_by=setting, final_probability=0.0)
    assert dropped_told(token).startswith("dropped by ")
    # A panel on a phone is about 80 pixels wide.
    assert setting in {"repetition_penalty", "temperature"} or len(dropped_told(token, short=True)) <= 12
    assert dropped_told(replace(token, dropped_by=None)) == "dropped"


def test_tokens_never_become_markup() -> None:
    for text in texts(drawn_figure(stages())):
        plain = text.replace("<b>", "").replace("</b>", "").replace("<br>", "").replace("</span>", "")
        assert "<img" not in plain
        assert "<b" not in plain
        assert "$" not in plain


def test_the_description_tells_the_drawn_token_and_what_happened_to_it() -> None:
    description = drawn_figure(stages(drawn=1_500)).description
    assert "The drawn token: ␣t1500" in description
    assert "dropped by top-p" in description
