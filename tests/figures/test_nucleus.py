"""The nucleus size over the steps."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.figures.nucleus import nucleus_figure
from dashboard.sampling.trace import Trace
from tests.figures.factory import make_step, make_trace, zipf


@pytest.fixture
def trace() -> Trace:
    powers = (4.0, 1.5, 1.0, 0.3)
    return make_trace([make_step(zipf(20_000, power), drawn=i, position=i) for i, power in enumerate(powers)])


def named(figure: Any, name: str) -> Any:
    return next(t for t in figure.data if t.name == name)


def test_each_bar_is_the_nucleus_size_of_its_step(trace: Trace) -> None:
    figure = nucleus_figure(trace, top_p=0.9, theme="light").figure
    bars = named(figure, "nucleus size")
    assert list(bars.x) == [1, 2, 3, 4]
    assert list(bars.y) == trace.nucleus_size.tolist()
    assert figure.layout.yaxis.type == "log"
    assert 10 ** figure.layout.yaxis.range[1] > trace.nucleus_size.max()


def test_the_numbers_of_a_step_are_found_anywhere_in_its_column(trace: Trace) -> None:
    columns = named(nucleus_figure(trace, top_p=0.9, theme="light").figure, "step")
    assert list(columns.x) == [1, 2, 3, 4]
    assert min(columns.y) >= trace.nucleus_size.max()
    assert columns.width == 1
    assert f"nucleus size {trace.nucleus_size[2]:,}" in columns.hovertext[2]


def test_nothing_but_bars_moves_while_a_run_grows(trace: Trace) -> None:
    first = make_trace([trace.step(0)])
    empty = make_trace([])
    figures = [nucleus_figure(t, top_p=0.9, theme="light", planned_steps=100).figure for t in (empty, first, trace)]
    assert len({tuple(f.layout.xaxis.range) for f in figures}) == 1
    assert len({f.layout.height for f in figures}) == 1


def test_the_description_tells_the_spread(trace: Trace) -> None:
    description = nucleus_figure(trace, top_p=0.9, theme="light").description
    assert f"from 1 to {trace.nucleus_size.max():,}" in description
    assert nucleus_figure(make_trace([]), top_p=0.9, theme="light").description.endswith("no step yet.")


def test_a_thousand_steps_are_a_figure_of_modest_size() -> None:
    steps = [make_step(zipf(300), position=i) for i in range(1_000)]
    assert len(nucleus_figure(make_trace(steps), top_p=0.9, theme="light").figure.to_json()) < 250_000
