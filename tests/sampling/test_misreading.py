"""How far "p = 0.1" is from "the top 10 % of the choices"."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.stages import Misreading, misreading
from dashboard.sampling.trace import SIZE_CURVE_P
from tests.sampling.test_engine import any_settings
from tests.sampling.test_stages import any_logits, made


@settings(max_examples=100, deadline=None)
@given(logits=any_logits(), p=st.sampled_from([*SIZE_CURVE_P, 1.0]), knobs=any_settings())
def test_a_share_of_the_choices_weighs_at_least_what_is_said(logits: Tensor, p: float, knobs: SamplingSettings) -> None:
    truncated, step, _ = made(knobs, logits)
    said = misreading(step, p, top_p=knobs.top_p)
    reaching = truncated.reaching
    assert said.size == reaching.nucleus_size(p)
    assert said.choices == reaching.size
    assert said.share_size - 1 < p * reaching.size + 1e-6
    assert said.share_size >= p * reaching.size - 1e-6
    mass = float(reaching.probabilities[-said.share_size :].sum(dtype=torch.float64))
    assert said.share_mass <= mass + 1e-5
    assert said.share_mass >= p - 1e-5 or said.size > said.share_size


def test_ten_per_cent_of_the_mass_is_not_ten_per_cent_of_the_tokens() -> None:
    logits = -torch.arange(1, 50_258).double().log().float() * 2
    step = made(SamplingSettings(top_p=0.9), logits)[1]
    said = misreading(step, 0.1, top_p=0.9)
    assert said == Misreading(p=0.1, size=1, choices=50_257, share_size=5_026, share_mass=0.999)
    assert misreading(step, 0.9, top_p=0.9).size == step.nucleus_size


def test_the_mass_of_a_share_is_that_in_what_reaches_top_p() -> None:
    step = made(SamplingSettings(top_k=2), torch.tensor([0.4, 0.3, 0.2, 0.08, 0.01, 0.01]).log())[1]
    # 0.4 of 0.7, rounded down.
    assert misreading(step, 0.5, top_p=0.9) == Misreading(p=0.5, size=1, choices=2, share_size=1, share_mass=0.571)


def test_a_share_of_whole_tokens_is_not_rounded_up_by_a_digit_of_no_meaning() -> None:
    step = made(SamplingSettings(top_p=1.0), torch.randn(100))[1]
    assert 0.07 * 100 > 7
    assert misreading(step, 0.07, top_p=1.0).share_size == 7


def test_a_p_whose_nucleus_is_not_stored_is_not_guessed() -> None:
    step = made(SamplingSettings(top_p=0.905), torch.randn(300))[1]
    assert misreading(step, 0.905, top_p=0.905).size == step.nucleus_size
    with pytest.raises(ValueError, match="not a point"):
        misreading(step, 0.907, top_p=0.905)
