"""The cells of the landscape hold the mass of their ranks, exactly inside the head and to within one token below it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.figures.landscape_cells import cells_of, row_edges
from dashboard.sampling.trace import HEAD_SIZE, SIZE_CURVE_P, Trace
from tests.figures.factory import make_step, make_trace, zipf

V = 20_000


@pytest.fixture(scope="module")
def trace() -> Trace:
    powers = (4.0, 1.5, 1.0, 0.3)
    return make_trace([make_step(zipf(V, power), position=i) for i, power in enumerate(powers)])


@settings(max_examples=40, deadline=None)
@given(power=st.floats(0.05, 3.0), size=st.integers(1, 5_000), depth=st.integers(1, 5_000))
def test_the_cells_hold_the_mass_of_their_ranks_to_within_one_token(power: float, size: int, depth: int) -> None:
    shaped = zipf(size, power)
    step = make_step(shaped)
    cells = cells_of(make_trace([step]), min(depth, size))
    for first, end, log in zip(cells.edges[:-1] + 0.5, cells.edges[1:] + 0.5, cells.log_probability[:, 0], strict=True):
        ranks = shaped[int(first) - 1 : min(int(end) - 1, size)]
        if not len(ranks):
            assert np.isnan(log)
            continue
        # Below the head the size curve tells where p is reached, and between two of its points the mean is shown.
        within = 1e-5 if end - 1 <= HEAD_SIZE else 0.011 + float(shaped[min(HEAD_SIZE, size) - 1])
        assert 10.0**log * len(ranks) == pytest.approx(ranks.sum(), abs=within)


def test_the_cells_add_up_to_the_whole_distribution(trace: Trace) -> None:
    cells = cells_of(trace, V)
    ranks = np.diff(np.minimum(cells.edges - 0.5, V))
    np.testing.assert_allclose((10.0**cells.log_probability * ranks[:, None]).sum(axis=0), 1.0, atol=1e-4)


def test_rows_hold_single_ranks_first_and_are_few() -> None:
    edges = row_edges(50_257)
    assert edges[:6].tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    assert (np.diff(edges) >= 1).all()
    assert edges[-1] == 50_257.5
    assert len(row_edges(262_144)) - 1 <= 60
    assert row_edges(1).tolist() == [0.5, 1.5]


def test_below_the_head_the_mass_between_two_points_of_the_size_curve_is_what_they_say(trace: Trace) -> None:
    cells = cells_of(trace, V)
    ends = cells.edges[1:] - 0.5
    masses = np.cumsum(10.0**cells.log_probability * np.diff(cells.edges)[:, None], axis=0)
    for position in range(len(trace)):
        step = trace.step(position)
        one_token = float(step.head_probabilities[-1])
        for p, size in zip(SIZE_CURVE_P, step.size_curve.tolist(), strict=True):
            if size > HEAD_SIZE:
                above, below = masses[ends <= size, position], masses[ends >= size, position]
                assert above.max(initial=0.0) <= p + one_token + 1e-4
                assert below.min(initial=1.0) >= p - 1e-4


@pytest.mark.parametrize("top_k", [5, 20, 40])
def test_tokens_that_top_k_took_out_have_no_cell(top_k: int) -> None:
    shaped = zipf(1_000)
    cells = cells_of(make_trace([make_step(shaped, top_k=top_k)]), 100)
    firsts = cells.edges[:-1] + 0.5
    assert np.isnan(cells.log_probability[firsts > top_k, 0]).all()
    assert np.isfinite(cells.log_probability[firsts <= top_k, 0]).all()
    # The row in which the last of them stands is the mean of those that are left.
    row = int(np.flatnonzero(firsts <= top_k)[-1])
    left = shaped[int(firsts[row]) - 1 : top_k]
    assert 10.0 ** cells.log_probability[row, 0] == pytest.approx(left.mean(), rel=1e-4)
