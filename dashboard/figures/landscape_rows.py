"""The rows of the landscape beneath the ranks: nucleus size, kept mass, bits, and the rank of the drawn token.

The label of a step is that of its drawn token among the ranks. One trace of each row has ``hoverinfo="none"``, a label
that is not shown: where all are skipped, Plotly draws no line at the pointer's step.

What stands at every step is one filled shape of many parts: Streamlit has Plotly draw each chart twice, and an element
for each bar, dot or stretch of a line, hundreds of them, would take longer than all the rest of an answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dashboard.figures.canvas import coloured, later_colour, log_axis
from dashboard.figures.palette import Palette, mix
from dashboard.sampling.trace import Floats, Integers, Trace

Numbers: TypeAlias = NDArray[np.integer[Any]] | NDArray[np.floating[Any]]

_LOWEST: Final = 0.7  # below a nucleus of one, so that its bar has a height
_LEAST_OVERSHOOT: Final = 0.02
ROW_HEIGHT: Final = 74
"""Of each row beneath the ranks, pixels."""

_DENSE, _DENSER = 150, 300  # numbers of steps above which marks are drawn finer


@dataclass(frozen=True, slots=True)
class CutLine:
    """Where a cut falls at every step.

    name: in the key, e.g. ``p = 0.9``. p: in the mass row. sizes: (steps,) nucleus sizes. masses: (steps,) of the
    nuclei in the distribution that reaches top-p; NaN where not known.
    """

    name: str
    p: float
    sizes: Integers
    masses: Floats


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the landscape.

    name: Plotly text over it, empty for none. unit: of its y axis. traces: what is drawn, on no axis yet.
    axis: what its y axis has of its own, as Plotly's layout names it.
    """

    name: str
    unit: str
    traces: Sequence[Any]
    axis: dict[str, Any]


def steps_of(trace: Trace) -> Integers:
    """(steps,) numbers of the steps, counted from 1."""
    return np.arange(1, len(trace) + 1)


def sizes_row(trace: Trace, cut: CutLine, other: CutLine | None, palette: Palette, *, room_for: int) -> Row:
    """Blocks of the nucleus size; in front of them what later settings kept of it, where that is less."""
    of_trace = bool((cut.sizes == trace.nucleus_size).all())
    keeps_less = of_trace and bool((trace.kept_size != trace.nucleus_size).any())
    colour = later_colour(palette) if keeps_less else palette.kept
    traces = [_pointed(trace, cut.sizes), blocks("nucleus size", _LOWEST, cut.sizes, colour)]
    name = "<b>Nucleus size</b>"
    if keeps_less:
        traces.append(blocks("kept size", _LOWEST, trace.kept_size, palette.kept))
        name += f"\u2002 {coloured('■', palette.kept)} kept\u2002 {coloured('■', colour)} dropped later"
    largest = max(room_for, cut.sizes.max())
    if other is not None:
        traces.append(stepped("other size", other.sizes, other_line(palette)))
        largest = max(largest, other.sizes.max())
    return Row(name, "tokens (log)", traces, log_axis(_LOWEST, max(float(largest), 10.0) * 1.6))


def mass_row(trace: Trace, cut: CutLine, palette: Palette) -> Row:
    """The mass of the nucleus; what stands above p is the overshoot."""
    shade = mix(palette.kept, palette.background, 0.35)
    room = max(1 - cut.p, _LEAST_OVERSHOOT) * 0.12
    span = (cut.p - room, 1 + room)
    traces = [
        _pointed(trace, np.full(len(trace), cut.p)),
        blocks("overshoot", cut.p, cut.masses, shade, width=1.0),
        levels("kept mass", cut.masses, span, palette.kept, pixels=1.5, width=1.0),
        go.Scatter(
            name="p",
            x=np.array([0.5, len(trace) + 0.5]),
            y=np.array([cut.p, cut.p]),
            mode="lines",
            line={"color": palette.cut, "width": 1.2, "dash": "dash"},
            hoverinfo="skip",
        ),
    ]
    axis = {"range": list(span), "tickvals": sorted({cut.p, 1.0}), "tickformat": ".4~%"}
    name = f"<b>Kept mass</b>\u2002 {coloured('■', shade)} overshoot\u2002 {coloured('╌', palette.cut)} p"
    return Row(name, "mass", traces, axis)


def bits_row(trace: Trace, palette: Palette) -> Row:
    """Entropy, what was to be expected, and surprisal, what came."""
    # An infinite surprisal would leave the axis without an end.
    surprisal = np.where(np.isfinite(trace.surprisal), trace.surprisal, np.nan)
    top = max(1.0, float(trace.entropy.max()), float(np.nanmax(surprisal, initial=0.0)))
    span = (-0.06 * top, 1.1 * top)
    traces = [
        go.Scatter(
            name="entropy",
            x=steps_of(trace),
            y=trace.entropy,
            mode="lines",
            line={"color": palette.kept, "width": 1.2 if len(trace) > _DENSE else 1.6},
            hoverinfo="none",
        ),
        levels("surprisal", surprisal, span, palette.drawn, pixels=3),
    ]
    name = f"{coloured('━', palette.kept)} <b>Entropy</b>\u2002 {coloured('╸', palette.drawn)} <b>Surprisal</b>"
    return Row(name, "bits", traces, {"range": list(span), "nticks": 4})


def drawn_row(trace: Trace, cut: CutLine, palette: Palette) -> Row:
    """The rank of each drawn token by itself; thin below the cut."""
    is_cut = trace.rank > cut.sizes
    axis = log_axis(max(10.0, float(trace.rank.max())) * 1.7, _LOWEST)
    kept, below = (np.where(chosen, trace.rank, np.nan) for chosen in (~is_cut, is_cut))
    traces = [
        _pointed(trace, trace.rank),
        levels("rank", kept, axis["range"], palette.drawn, pixels=4, is_log=True),
        levels("rank below the cut", below, axis["range"], palette.drawn, pixels=1.5, is_log=True),
    ]
    return Row("<b>Rank of the drawn token</b>", "rank (log)", traces, axis)


def dots(name: str, trace: Trace, chosen: NDArray[np.bool_], fill: str, outline: str) -> go.Scatter:
    """Dots at the ranks of the drawn tokens of these steps."""
    steps = steps_of(trace)
    size = next(size for most, size in ((_DENSE, 7), (_DENSER, 5), (math.inf, 4)) if len(trace) <= most)
    return go.Scatter(
        name=name,
        x=steps[chosen],
        y=trace.rank[chosen],
        mode="markers",
        marker={"color": fill, "size": size, "line": {"color": outline, "width": 1}},
        hoverinfo="skip",
    )


def stepped(name: str, values: Numbers, line: dict[str, Any]) -> go.Scatter:
    """A line that is level for the whole width of each step: (steps,) values become (steps + 1,) points."""
    return go.Scatter(
        name=name,
        x=np.arange(len(values) + 1) + 0.5,
        y=np.append(values, values[-1:]),
        mode="lines",
        line={"shape": "hv", **line},
        hoverinfo="skip",
    )


def levels(
    name: str,
    values: Floats,
    span: Sequence[float],
    colour: str,
    *,
    pixels: float,
    height: int = ROW_HEIGHT,
    width: float = 0.8,
    is_log: bool = False,
) -> go.Scatter:
    """A level stroke for each step at its value; none where it is NaN.

    Args:
        name: of the trace.
        values: (steps,).
        span: the range of the axis, in powers of ten where ``is_log``.
        colour: of the strokes.
        pixels: how thick they are.
        height: of the row, pixels.
        width: of a stroke, in steps.
        is_log: whether the axis is logarithmic.
    """
    half = abs(span[1] - span[0]) / height * pixels / 2
    low, high = (values * 10.0**-half, values * 10.0**half) if is_log else (values - half, values + half)
    return blocks(name, low, high, colour, width=width)


def blocks(name: str, low: Numbers | float, high: Numbers, colour: str, *, width: float = 0.9) -> go.Scatter:
    """A filled block for each step: (steps,) values become five points each, the fifth of them a gap.

    A block whose end is not known, NaN, is left out.
    """
    middles, gaps = np.arange(1, len(high) + 1), np.full(len(high), np.nan)
    left, right = middles - width / 2, middles + width / 2
    tops = high.astype(np.float64)
    bottoms = np.where(np.isnan(tops), np.nan, low)
    return go.Scatter(
        name=name,
        x=np.stack([left, left, right, right, gaps], axis=1).ravel().astype(np.float32),
        y=np.stack([bottoms, tops, tops, bottoms, gaps], axis=1).ravel().astype(np.float32),
        mode="none",
        fill="toself",
        fillcolor=colour,
        hoverinfo="skip",
    )


def _pointed(trace: Trace, values: Numbers) -> go.Scatter:
    """Unseen points at the steps, which the pointer finds."""
    return go.Scatter(
        name="pointed", x=steps_of(trace), y=values, mode="lines", line={"width": 0}, opacity=0, hoverinfo="none"
    )


def other_line(palette: Palette) -> dict[str, Any]:
    """How the cut to compare with is drawn."""
    return {"color": palette.text, "width": 1.2, "dash": "dot"}
