"""The nucleus size of every step of a run, while it grows and right after it has ended."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import plotly.graph_objects as go

from dashboard.figures.canvas import Drawn, coloured, log_axis, new_figure
from dashboard.figures.labels import markup_free
from dashboard.figures.palette import PALETTES, Theme
from dashboard.figures.sentences import count, drawn_sentence, p_value
from dashboard.sampling.trace import Trace

_HEIGHT: Final = 240
_BOTTOM: Final = 40
_LOWEST: Final = 0.7  # below a nucleus of one, so that its bar has a height
_LEAST_TOP: Final = 1_000


def nucleus_figure(trace: Trace, *, top_p: float, theme: Theme, planned_steps: int | None = None) -> Drawn:
    """Bars of the nucleus size over the steps of a run, on a log axis.

    Args:
        trace: the steps so far; may be empty.
        top_p: the run's p.
        theme: light or dark.
        planned_steps: max_new_tokens of a run that is still growing: the axis keeps that length, so nothing jumps.
    """
    palette = PALETTES[theme]
    sizes = trace.nucleus_size
    top = max(_LEAST_TOP, 10 ** math.ceil(math.log10(int(sizes.max(initial=1)) * 1.2)))
    figure = new_figure(
        palette,
        "Nucleus size at every step",
        [f"{coloured('■', palette.kept)} at p = {p_value(top_p)}"],
        height=_HEIGHT,
        bottom=_BOTTOM,
    )
    figure.add_trace(
        go.Bar(
            name="nucleus size",
            x=np.arange(1, len(trace) + 1).tolist(),
            y=sizes.tolist(),
            marker={"color": palette.kept, "line": {"width": 0}},
            hoverinfo="skip",
        )
    )
    if planned_steps is None:
        # While a run grows the figure is replaced several times a second: nobody could read a label.
        figure.add_trace(_columns(trace, top))
    figure.update_xaxes(
        range=[0.4, max(planned_steps or len(trace), 1) + 0.6],
        title_text="step",
        showgrid=False,
        tickformat=",d",
        nticks=11,
    )
    figure.update_yaxes(
        **log_axis(_LOWEST, top),
        title_text="tokens (log)",
    )
    figure.update_layout(barmode="overlay", bargap=0.12)
    return Drawn(figure, _description(trace, top_p))


def _columns(trace: Trace, top: float) -> go.Bar:
    """Unseen columns of full height: a step's numbers are found wherever the pointer is in its column."""

    def hover(position: int) -> str:
        lines = [
            f"<b>step {count(position + 1)}</b>",
            f"nucleus size {count(int(trace.nucleus_size[position]))}",
        ]
        drawn = markup_free(drawn_sentence(trace.step(position)))
        return "<br>".join([*lines, *drawn.split(", ")])

    return go.Bar(
        name="step",
        x=list(range(1, len(trace) + 1)),
        y=[top] * len(trace),
        width=1,
        marker={"color": "rgba(0, 0, 0, 0)", "line": {"width": 0}},
        hovertext=[hover(position) for position in range(len(trace))],
        hoverinfo="text",
    )


def _description(trace: Trace, top_p: float) -> str:
    if not len(trace):
        return "Nucleus size at every step: no step yet."
    least, middle, most = (count(int(f(trace.nucleus_size))) for f in (np.min, np.median, np.max))
    return (
        f"Nucleus size over {count(len(trace))} steps at p = {p_value(top_p)}: from {least} to {most}, median {middle}."
    )
