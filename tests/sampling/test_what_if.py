"""What a stored run says of another p: masses of the nuclei, and which of its tokens would have been cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.sampling.trace import HEAD_SIZE, SIZE_CURVE_P
from dashboard.sampling.what_if import cut_tokens, nucleus_masses_at, nucleus_sizes_at
from tests.figures.factory import make_step, make_trace, zipf


@settings(deadline=None)
@given(power=st.floats(0.0, 3.0), size=st.integers(1, 2_000), p=st.sampled_from([*SIZE_CURVE_P, 1.0]))
def test_the_mass_of_a_nucleus_is_that_of_its_tokens_or_unknown(power: float, size: int, p: float) -> None:
    shaped = zipf(size, power)
    trace = make_trace([make_step(shaped)])
    kept, mass = int(nucleus_sizes_at(trace, p)[0]), nucleus_masses_at(trace, p)[0]
    if kept > HEAD_SIZE and p < 1:
        assert np.isnan(mass)
    else:
        assert mass == pytest.approx(shaped[:kept].sum(), abs=1e-5)
        assert mass >= p - 1e-5


def test_the_mass_is_of_the_distribution_that_reaches_top_p() -> None:
    trace = make_trace([make_step([0.4, 0.3, 0.2, 0.1], top_k=2)])
    assert nucleus_masses_at(trace, 0.5)[0] == pytest.approx(0.4 / 0.7)
    assert nucleus_masses_at(trace, 0.99)[0] == pytest.approx(1.0)


def test_a_token_is_cut_where_the_mass_above_it_reaches_p() -> None:
    trace = make_trace([make_step([0.5, 0.3, 0.2], drawn=drawn, position=drawn) for drawn in range(3)])
    assert cut_tokens(trace, 0.4).tolist() == [False, True, True]
    assert cut_tokens(trace, 0.5).tolist() == [False, True, True]
    assert cut_tokens(trace, 0.51).tolist() == [False, False, True]
    assert cut_tokens(trace, 1.0).tolist() == [False, False, False]


def test_a_token_that_top_k_took_out_is_cut_at_every_p() -> None:
    trace = make_trace([make_step([0.5, 0.3, 0.2], drawn=2, top_k=2)])
    assert cut_tokens(trace, 1.0).tolist() == [True]
    assert cut_tokens(trace, 0.99).tolist() == [True]


def test_a_p_whose_sizes_are_not_stored_is_refused() -> None:
    with pytest.raises(ValueError, match="not a point"):
        nucleus_masses_at(make_trace([make_step([0.5, 0.5])]), 0.123)
