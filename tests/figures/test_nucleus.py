"""The nucleus size over the steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dashboard.figures.nucleus import WhatIf, nucleus_figure
from dashboard.figures.palette import PALETTES
from dashboard.sampling.trace import Trace
from dashboard.sampling.what_if import nucleus_sizes_at
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


def test_a_click_anywhere_in_a_column_tells_the_position_of_the_step(trace: Trace) -> None:
    columns = named(nucleus_figure(trace, top_p=0.9, theme="light").figure, "step")
    assert list(columns.customdata) == [0, 1, 2, 3]
    assert min(columns.y) >= trace.nucleus_size.max()
    assert columns.width == 1
    assert columns.unselected.marker.opacity == 1


def test_nothing_but_bars_moves_while_a_run_grows(trace: Trace) -> None:
    first = make_trace([trace.step(0)])
    empty = make_trace([])
    figures = [nucleus_figure(t, top_p=0.9, theme="light", planned_steps=100).figure for t in (empty, first, trace)]
    assert len({tuple(f.layout.xaxis.range) for f in figures}) == 1
    assert len({f.layout.height for f in figures}) == 1


def test_another_p_is_a_line_over_the_bars(trace: Trace) -> None:
    what_if = WhatIf(0.5, nucleus_sizes_at(trace, 0.5))
    drawn = nucleus_figure(trace, top_p=0.9, theme="light", what_if=what_if)
    line = named(drawn.figure, "what if")
    assert list(line.y) == nucleus_sizes_at(trace, 0.5).tolist()
    assert line.line.color == PALETTES["light"].cut
    assert "At p = 0.5 it would be" in drawn.description


def test_the_axis_has_room_for_the_sizes_at_another_p(trace: Trace) -> None:
    everything = WhatIf(1.0, nucleus_sizes_at(trace, 1.0))
    figure = nucleus_figure(
        make_trace([trace.step(0)]), top_p=0.9, theme="light", what_if=WhatIf(1.0, everything.sizes[:1])
    ).figure
    assert 10 ** figure.layout.yaxis.range[1] > 20_000


def test_the_chosen_step_is_marked(trace: Trace) -> None:
    figure = nucleus_figure(trace, top_p=0.9, theme="dark", selected=2).figure
    line = next(s for s in figure.layout.shapes if s.name == "chosen step")
    assert line.x0 == line.x1 == 3
    assert np.flatnonzero(named(figure, "nucleus size").marker.line.width).tolist() == [2]


def test_a_choice_beyond_the_steps_marks_nothing(trace: Trace) -> None:
    assert not nucleus_figure(trace, top_p=0.9, theme="light", selected=99).figure.layout.shapes


def test_the_description_tells_the_spread(trace: Trace) -> None:
    description = nucleus_figure(trace, top_p=0.9, theme="light", selected=0).description
    assert f"from 1 to {trace.nucleus_size.max():,}" in description
    assert "Step 1 is chosen, with 1" in description
    assert nucleus_figure(make_trace([]), top_p=0.9, theme="light").description.endswith("no step yet.")


def test_a_thousand_steps_are_a_figure_of_modest_size() -> None:
    steps = [make_step(zipf(300), position=i) for i in range(1_000)]
    assert len(nucleus_figure(make_trace(steps), top_p=0.9, theme="light").figure.to_json()) < 250_000
