"""How strongly tokens are washed."""

from __future__ import annotations

import numpy as np
import pytest

from dashboard.components.colouring import SCALES, Colouring, colour_values
from dashboard.sampling.trace import Trace
from tests.figures.factory import make_step, make_trace, zipf

SIZE = 30_000


def trace_of_rising_ranks() -> Trace:
    """One distribution; the tokens drawn are less and less probable."""
    return make_trace([make_step(zipf(SIZE), drawn=drawn) for drawn in (0, 1, 5, 40, 700, 25_000)])


def trace_of_flatter_and_flatter_steps() -> Trace:
    return make_trace([make_step(zipf(SIZE, power)) for power in (8.0, 3.0, 1.5, 1.0, 0.5, 0.0)])


def test_every_colouring_has_a_scale() -> None:
    assert set(SCALES) == {"surprisal", "probability", "rank", "admitting_p", "entropy", "nucleus_size"}
    assert all(scale.label and scale.low and scale.high for scale in SCALES.values())


@pytest.mark.parametrize("colouring", ["surprisal", "probability", "rank", "admitting_p"])
def test_the_less_probable_token_is_washed_more(colouring: Colouring) -> None:
    values = colour_values(trace_of_rising_ranks(), colouring)
    assert (np.diff(values) > 0).all() or (values[-2:] == 1).all()
    assert values[0] < values[1] < values[2] < values[3]


@pytest.mark.parametrize("colouring", ["entropy", "nucleus_size"])
def test_the_flatter_distribution_is_washed_more(colouring: Colouring) -> None:
    values = colour_values(trace_of_flatter_and_flatter_steps(), colouring)
    assert (np.diff(values) >= 0).all()
    assert values[0] < values[2] < values[4]


@pytest.mark.parametrize("colouring", list(SCALES))
def test_strengths_lie_between_nothing_and_one(colouring: Colouring) -> None:
    for trace in (trace_of_rising_ranks(), trace_of_flatter_and_flatter_steps(), make_trace([])):
        values = colour_values(trace, colouring)
        assert values.shape == (len(trace),)
        assert ((values >= 0) & (values <= 1)).all()


def test_the_ends_of_the_scales_are_what_the_legend_says() -> None:
    certain = make_trace([make_step([1.0])])
    assert all(colour_values(certain, colouring)[0] == 0 for colouring in SCALES)
    unlikely = make_trace([make_step(zipf(SIZE), drawn=9_999)])
    assert colour_values(unlikely, "rank")[0] == pytest.approx(1.0)


@pytest.mark.parametrize("colouring", list(SCALES))
def test_a_step_keeps_its_colour_whatever_follows_it(colouring: Colouring) -> None:
    trace = trace_of_rising_ranks()
    alone = colour_values(make_trace([trace.step(1)]), colouring)
    assert colour_values(trace, colouring)[1] == alone[0]
