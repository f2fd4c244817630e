"""Two runs from the step where they part: nucleus size and surprisal of both over the steps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dashboard.figures.canvas import ROOM_FOR_A_LABEL, SMALL_TEXT_SIZE, Drawn, coloured, log_axis, new_figure
from dashboard.figures.labels import markup_free
from dashboard.figures.palette import PALETTES, Theme
from dashboard.figures.sentences import count
from dashboard.sampling.trace import Trace

_HEIGHT: Final = 400
_STEPS_BEFORE: Final = 8  # shared steps shown before two runs part
_LOWEST: Final = 0.7  # below a nucleus of one


def parting_figure(parent: Trace, branch: Trace, position: int, *, theme: Theme) -> Drawn:
    """Nucleus size and surprisal of a run and its branch, from a few steps before the one at which they part.

    Args:
        parent: all steps of the run.
        branch: all steps of the branch.
        position: of the first step at which they differ, from 0.
        theme: light or dark.
    """
    palette = PALETTES[theme]
    figure = new_figure(
        palette,
        "Nucleus size and surprisal from where they part",
        [
            f"{coloured('━', palette.accent)} this branch\u2002 {coloured('┅', palette.secondary)} its parent",
            ROOM_FOR_A_LABEL,
        ],
        height=_HEIGHT,
        bottom=44,
    )
    first = max(0, position - _STEPS_BEFORE)
    last = max(len(parent), len(branch))
    second_row = figure.layout.yaxis.to_plotly_json()
    figure.update_layout(
        yaxis={"domain": [0.56, 1.0], "anchor": "x"},
        yaxis2={**second_row, "domain": [0.0, 0.44], "anchor": "x"},
    )
    for trace, name, colour, dash in (
        (parent, "parent", palette.secondary, "dot"),
        (branch, "branch", palette.accent, "solid"),
    ):
        line = {"color": colour, "dash": dash, "width": 2}
        for axis, column in (("y", trace.nucleus_size), ("y2", trace.surprisal)):
            figure.add_trace(_over_steps(column, first, name=name, axis=axis, line=line))
    largest = max(int(trace.nucleus_size[first:].max(initial=1)) for trace in (parent, branch))
    top = max(10, 10 ** math.ceil(math.log10(largest * 1.2)))
    figure.update_layout(
        yaxis={
            **log_axis(_LOWEST, top),
            "title": {"text": "nucleus (log)"},
        },
        yaxis2={"rangemode": "tozero", "title": {"text": "surprisal, bits"}, "nticks": 5},
    )
    figure.update_xaxes(
        range=[first + 0.5, last + 0.5], anchor="y2", title_text="step", showgrid=False, tickformat=",d", nticks=11
    )
    figure.add_shape(
        type="line",
        name="parting",
        x0=position + 1,
        x1=position + 1,
        yref="paper",
        y0=0,
        y1=1,
        line={"color": palette.text, "width": 1, "dash": "dot"},
    )
    figure.add_annotation(
        x=position + 1,
        yref="paper",
        y=1,
        yanchor="bottom",
        xanchor="left" if position - first < (last - first) / 2 else "right",
        text=f"they part at step {count(position + 1)}",
        showarrow=False,
        font={"color": palette.text, "size": SMALL_TEXT_SIZE},
    )
    return Drawn(figure, _parting_description(parent, branch, position))


def _over_steps(column: NDArray[Any], first: int, *, name: str, axis: str, line: dict[str, Any]) -> go.Scatter:
    label = "nucleus size %{y:,}" if axis == "y" else "surprisal %{y:.1f} bits"
    return go.Scatter(
        name=name,
        x=np.arange(first + 1, len(column) + 1),
        y=column[first:],
        yaxis=axis,
        mode="lines+markers",
        line=line,
        marker={"size": 4},
        hovertemplate=f"{markup_free(name)}, step %{{x:,}}<br>{label}<extra></extra>",
    )


def _parting_description(parent: Trace, branch: Trace, position: int) -> str:
    def median(columns: Iterable[Trace]) -> list[str]:
        return [
            count(int(np.median(trace.nucleus_size[position:]))) if len(trace) > position else "none"
            for trace in columns
        ]

    of_branch, of_parent = median((branch, parent))
    return (
        f"Two runs that part at step {count(position + 1)}: from there on the median nucleus size is {of_branch} "
        f"in the branch and {of_parent} in its parent."
    )
