"""The measures of a run are those of its columns, and a sparkline draws any length."""

from __future__ import annotations

import math

import pytest

from dashboard.metrics.summary import SPARKLINE_POINTS, Measures, measures_of, sparkline, summary_measures
from dashboard.sampling.trace import Trace
from tests.history.samples import sample_steps


def test_measures_are_plain_means_the_median_and_two_to_the_mean_surprisal() -> None:
    measures = measures_of([1, 2, 9, 100], [0.5, 1.5, 2.0, 4.0], [1.0, 2.0, 3.0, 6.0])
    assert measures == Measures(mean_nucleus_size=28.0, median_nucleus_size=5.5, mean_entropy=2.0, mean_surprisal=3.0)
    assert measures.perplexity == 8.0


def test_the_measures_of_a_trace_are_those_of_its_columns() -> None:
    trace = Trace.from_steps(sample_steps(5))
    assert summary_measures(trace) == measures_of(trace.nucleus_size, trace.entropy, trace.surprisal)


def test_a_run_without_steps_has_no_measures() -> None:
    assert summary_measures(Trace.from_steps([])) is None
    assert sparkline([]) == ()


def test_a_perplexity_beyond_every_float_is_infinite() -> None:
    measures = measures_of([1], [0.0], [5_000.0])
    assert measures is not None
    assert measures.perplexity == math.inf


def test_a_short_run_is_drawn_step_by_step() -> None:
    assert sparkline([3, 1, 50_257]) == (3.0, 1.0, 50_257.0)


@pytest.mark.parametrize("length", [60, 61, 119, 1_000])
def test_a_long_run_is_drawn_by_means_that_keep_its_level_and_order(length: int) -> None:
    line = sparkline(range(length))
    assert len(line) == SPARKLINE_POINTS
    assert list(line) == sorted(line)
    assert sum(line) / len(line) == pytest.approx((length - 1) / 2, abs=0.5)


def test_each_point_of_a_sparkline_is_the_mean_of_its_stretch() -> None:
    assert sparkline([1, 3, 10, 20], points=2) == (2.0, 15.0)
