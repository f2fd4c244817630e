"""The nucleus size of every step of a run, while it grows and afterwards."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import plotly.graph_objects as go

from dashboard.figures.canvas import ROOM_FOR_A_LABEL, Drawn, coloured, new_figure
from dashboard.figures.labels import markup_free
from dashboard.figures.palette import PALETTES, Palette, Theme, mix
from dashboard.figures.sentences import count, drawn_sentence, p_value
from dashboard.sampling.trace import Integers, Trace

_HEIGHT: Final = 258
_BOTTOM: Final = 40
_LOWEST: Final = 0.7  # below a nucleus of one, so that its bar has a height
_LEAST_TOP: Final = 1_000


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The nucleus sizes of a run at another p: (steps,) of ``what_if.nucleus_sizes_at``."""

    p: float
    sizes: Integers


def nucleus_figure(
    trace: Trace,
    *,
    top_p: float,
    theme: Theme,
    selected: int | None = None,
    what_if: WhatIf | None = None,
    planned_steps: int | None = None,
) -> Drawn:
    """Bars of the nucleus size over the steps of a run, on a log axis.

    In an ended run, a click anywhere in a step's column selects a point whose ``customdata`` is the step's position.

    Args:
        trace: the steps so far; may be empty.
        top_p: the run's p.
        theme: light or dark.
        selected: position of the chosen step, marked.
        what_if: sizes at another p, drawn as a line over the bars.
        planned_steps: max_new_tokens of a run that is still growing: the axis keeps that length, so nothing jumps,
            and no column can be chosen yet.
    """
    palette = PALETTES[theme]
    sizes = trace.nucleus_size
    steps = np.arange(1, len(trace) + 1)
    largest = max(int(sizes.max(initial=1)), 1 if what_if is None else int(what_if.sizes.max(initial=1)))
    top = max(_LEAST_TOP, 10 ** math.ceil(math.log10(largest * 1.2)))
    figure = new_figure(
        palette,
        "Nucleus size at every step",
        [_key(top_p, what_if, palette), ROOM_FOR_A_LABEL],
        height=_HEIGHT,
        bottom=_BOTTOM,
    )
    figure.add_trace(_bars(steps, sizes, selected, palette, _run_colour(what_if, palette)))
    if what_if is not None:
        figure.add_trace(_line(steps, what_if, palette))
    if planned_steps is None:
        # While a run grows the figure is replaced several times a second: nobody could read a label or aim at a column.
        figure.add_trace(_columns(trace, what_if, top))
    figure.update_xaxes(
        range=[0.4, max(planned_steps or len(trace), 1) + 0.6],
        title_text="step",
        showgrid=False,
        tickformat=",d",
        nticks=11,
    )
    figure.update_yaxes(
        type="log",
        range=[math.log10(_LOWEST), math.log10(top)],
        tickvals=[10**i for i in range(7) if 10**i <= top],
        ticktext=[count(10**i) for i in range(7) if 10**i <= top],
        title_text="tokens (log)",
    )
    figure.update_layout(barmode="overlay", bargap=0.12)
    if selected is not None and 0 <= selected < len(trace):
        _mark_selected(figure, selected, palette)
    return Drawn(figure, _description(trace, top_p, selected, what_if))


def _bars(steps: Integers, sizes: Integers, selected: int | None, palette: Palette, colour: str) -> go.Bar:
    outlined = [2.0 if position == selected else 0.0 for position in range(len(steps))]
    return go.Bar(
        name="nucleus size",
        x=steps.tolist(),
        y=sizes.tolist(),
        marker={"color": colour, "line": {"color": palette.text, "width": outlined}},
        hoverinfo="skip",
    )


def _run_colour(what_if: WhatIf | None, palette: Palette) -> str:
    """Bars step back where a line must be seen in front of them."""
    return palette.kept if what_if is None else mix(palette.kept, palette.background, 0.5)


def _line(steps: Integers, what_if: WhatIf, palette: Palette) -> go.Scatter:
    return go.Scatter(
        name="what if",
        x=steps.tolist(),
        y=what_if.sizes.tolist(),
        mode="lines",
        line={"color": palette.cut, "width": 1.5, "shape": "hvh"},
        hoverinfo="skip",
    )


def _columns(trace: Trace, what_if: WhatIf | None, top: float) -> go.Bar:
    """Unseen columns of full height: a step is found and clicked wherever the pointer is in its column."""

    def hover(position: int) -> str:
        lines = [
            f"<b>step {count(position + 1)}</b>",
            f"nucleus size {count(int(trace.nucleus_size[position]))}",
        ]
        if what_if is not None:
            lines.append(f"at p = {p_value(what_if.p)}: {count(int(what_if.sizes[position]))}")
        drawn = markup_free(drawn_sentence(trace.step(position)))
        return "<br>".join([*lines, *drawn.split(", ")])

    unseen = {"color": "rgba(0, 0, 0, 0)", "line": {"width": 0}}
    return go.Bar(
        name="step",
        x=list(range(1, len(trace) + 1)),
        y=[top] * len(trace),
        width=1,
        marker=unseen,
        # Plotly fades what is not selected; the chosen step is marked by this figure itself.
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
        customdata=list(range(len(trace))),
        hovertext=[hover(position) for position in range(len(trace))],
        hoverinfo="text",
    )


def _mark_selected(figure: go.Figure, selected: int, palette: Palette) -> None:
    figure.add_shape(
        type="line",
        name="chosen step",
        x0=selected + 1,
        x1=selected + 1,
        yref="paper",
        y0=0,
        y1=1,
        line={"color": palette.text, "width": 1, "dash": "dot"},
        layer="below",
    )
    figure.add_annotation(
        x=selected + 1,
        yref="paper",
        y=1,
        yanchor="bottom",
        text=f"step {count(selected + 1)}",
        showarrow=False,
        font={"color": palette.text, "size": 12},
    )


def _key(top_p: float, what_if: WhatIf | None, palette: Palette) -> str:
    run = f"{coloured('■', _run_colour(what_if, palette))} at p = {p_value(top_p)}, the run"
    if what_if is None:
        return run
    return f"{run}\u2003{coloured('┃', palette.cut)} what if p = {p_value(what_if.p)}"


def _description(trace: Trace, top_p: float, selected: int | None, what_if: WhatIf | None) -> str:
    if not len(trace):
        return "Nucleus size at every step: no step yet."
    sizes = trace.nucleus_size

    def spread(values: Integers) -> str:
        least, middle, most = (count(int(f(values))) for f in (np.min, np.median, np.max))
        return f"from {least} to {most}, median {middle}"

    sentences = [f"Nucleus size over {count(len(trace))} steps at p = {p_value(top_p)}: {spread(sizes)}"]
    if what_if is not None:
        sentences.append(f"At p = {p_value(what_if.p)} it would be {spread(what_if.sizes)}")
    if selected is not None and 0 <= selected < len(trace):
        sentences.append(f"Step {count(selected + 1)} is chosen, with {count(int(sizes[selected]))}")
    return ". ".join(sentences) + "."
