"""The chosen step on a Plotly chart whose x axis counts steps: marked by a line, and chosen by a click.

The chart itself must not depend on the step. Streamlit knows a chart by a hash of its figure and its description, so
one that marks the step by itself is made anew with every choice: slow, and its zoom is lost. The line is therefore
drawn over the chart in the browser, and a chart that stays the same is not touched at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

from dashboard.components.choice import reported_position, script, style


@dataclass(frozen=True, slots=True)
class Question:
    """A cut that is asked about, drawn over the chart as a stepped line in each of some rows.

    name: what the line is, for its key. rows: Plotly's name of a y axis (``yaxis2``) to the (steps,) values on it.
    """

    name: str
    rows: Mapping[str, Sequence[float]]


def step_marker(
    chart_key: str,
    *,
    selected: int,
    length: int,
    key: str,
    on_choose: Callable[[int], object],
    question: Question | None = None,
) -> None:
    """Mark the chosen step on a chart, and let a click into its plot choose the nearest one.

    A drag still zooms, and a double click that ends the zoom chooses nothing. The marker takes up no room on the
    page; where the chart is not there, or not yet, it waits for it.

    Args:
        chart_key: Streamlit's key of the ``st.plotly_chart``; its x axis counts the steps from 1.
        selected: position of the chosen step as the page knows it, from 0.
        length: number of steps.
        key: Streamlit's key of the marker, one per run.
        on_choose: called with the position before the page runs again.
        question: a line that comes and goes with a slider: drawn over the chart like the chosen step, because another
            figure would take many times longer, and the zoom with it.
    """

    def choose() -> None:
        position = reported_position(key, length)
        if position is not None:
            on_choose(position)

    asked = None
    if question is not None:
        asked = {"name": question.name, "rows": {axis: list(values) for axis, values in question.rows.items()}}
    data = {"chartKey": chart_key, "selected": selected, "length": length, "question": asked}
    _component()(key=key, data=data, on_position_change=choose)


@cache
def _component() -> ComponentRenderer:
    return st.components.v2.component(
        "nucleus_lens_step_marker",
        html='<div class="step-marker"></div>',
        css=style("step_marker.css"),
        js=script("step_marker.js"),
        # The line stands in the chart, outside of this component, where an isolated style sheet would not reach it.
        isolate_styles=False,
    )
