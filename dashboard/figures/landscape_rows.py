"""The rows of the landscape beneath the ranks: nucleus size, kept mass, bits, and the rank of the drawn token.

The label of a step is that of its drawn token among the ranks. One trace of each row has ``hoverinfo="none"``, a label
that is not shown: where all are skipped, Plotly draws no line at the pointer's step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dashboard.figures.canvas import coloured, later_colour
from dashboard.figures.palette import Palette, mix
from dashboard.figures.sentences import count
from dashboard.sampling.trace import Floats, Integers, Trace

Numbers: TypeAlias = NDArray[np.integer[Any]] | NDArray[np.floating[Any]]

_DECADES: Final = tuple(10**power for power in range(6))
_LOWEST: Final = 0.7  # below a nucleus of one, so that its bar has a height
_LEAST_OVERSHOOT: Final = 0.02
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


def sizes_row(trace: Trace, cut: CutLine, other: CutLine | None, palette: Palette) -> Row:
    """Bars of the nucleus size; in front of them what later settings kept of it, where that is less."""
    of_trace = bool((cut.sizes == trace.nucleus_size).all())
    keeps_less = of_trace and bool((trace.kept_size != trace.nucleus_size).any())
    colour = later_colour(palette) if keeps_less else palette.kept
    traces = [_bars("nucleus size", trace, cut.sizes, colour)]
    name = "<b>Nucleus size</b>"
    if keeps_less:
        traces.append(_bars("kept size", trace, trace.kept_size, palette.kept))
        name += f"\u2002 {coloured('■', palette.kept)} kept\u2002 {coloured('■', colour)} dropped later"
    largest = cut.sizes.max()
    if other is not None:
        traces.append(stepped("other size", other.sizes, other_line(palette)))
        largest = max(largest, other.sizes.max())
    return Row(name, "tokens (log)", traces, log_axis(_LOWEST, max(float(largest), 10.0) * 1.6, _DECADES))


def mass_row(trace: Trace, cut: CutLine, palette: Palette) -> Row:
    """The mass of the nucleus; what stands above p is the overshoot."""
    shade = mix(palette.kept, palette.background, 0.35)
    traces = [
        go.Bar(
            name="overshoot",
            x=steps_of(trace),
            # A bar of no height where the mass is not known: the pointer finds the step there too.
            y=np.nan_to_num(cut.masses - cut.p),
            base=cut.p,
            width=1,
            marker={"color": shade, "line": {"width": 0}},
            hoverinfo="none",
        ),
        levels("kept mass", cut.masses, {"color": palette.kept, "width": 1.5}),
        go.Scatter(
            name="p",
            x=np.array([0.5, len(trace) + 0.5]),
            y=np.array([cut.p, cut.p]),
            mode="lines",
            line={"color": palette.cut, "width": 1.2, "dash": "dash"},
            hoverinfo="skip",
        ),
    ]
    room = max(1 - cut.p, _LEAST_OVERSHOOT) * 0.12
    axis = {"range": [cut.p - room, 1 + room], "tickvals": sorted({cut.p, 1.0}), "tickformat": ".4~%"}
    name = f"<b>Kept mass</b>\u2002 {coloured('■', shade)} overshoot\u2002 {coloured('╌', palette.cut)} p"
    return Row(name, "mass", traces, axis)


def bits_row(trace: Trace, palette: Palette) -> Row:
    """Entropy, what was to be expected, and surprisal, what came."""
    # An infinite surprisal would leave the axis without an end.
    surprisal = np.where(np.isfinite(trace.surprisal), trace.surprisal, np.nan)
    traces = [
        go.Scatter(
            name="entropy",
            x=steps_of(trace),
            y=trace.entropy,
            mode="lines",
            line={"color": palette.kept, "width": 1.2 if len(trace) > _DENSE else 1.6},
            hoverinfo="none",
        ),
        go.Scatter(
            name="surprisal",
            x=steps_of(trace),
            y=surprisal,
            mode="markers",
            marker={"color": palette.drawn, "size": 3 if len(trace) > _DENSER else 4},
            hoverinfo="skip",
        ),
    ]
    top = max(1.0, float(trace.entropy.max()), float(np.nanmax(surprisal, initial=0.0)))
    name = f"{coloured('━', palette.kept)} <b>Entropy</b>\u2002 {coloured('●', palette.drawn)} <b>Surprisal</b>"
    return Row(name, "bits", traces, {"range": [-0.06 * top, 1.1 * top], "nticks": 4})


def drawn_row(trace: Trace, cut: CutLine, palette: Palette) -> Row:
    """The rank of each drawn token by itself."""
    traces = [
        go.Scatter(
            name="rank",
            x=steps_of(trace),
            y=trace.rank,
            mode="markers",
            marker=drawn_marker(trace, cut, palette),
            hoverinfo="none",
        )
    ]
    deepest = max(10.0, float(trace.rank.max())) * 1.7
    return Row("<b>Rank of the drawn token</b>", "rank (log)", traces, log_axis(deepest, _LOWEST, _DECADES))


def drawn_marker(trace: Trace, cut: CutLine, palette: Palette) -> dict[str, Any]:
    """Dots for the drawn tokens; hollow below the cut."""
    # Numbers on a scale of two colours: Plotly checks a list of colours one by one.
    below = {"color": (trace.rank > cut.sizes).astype(np.uint8), "cmin": 0, "cmax": 1}
    size = next(size for most, size in ((_DENSE, 7), (_DENSER, 5), (math.inf, 4)) if len(trace) <= most)
    outline = {**below, "colorscale": [[0, palette.background], [1, palette.drawn]], "width": 1}
    return {**below, "colorscale": [[0, palette.drawn], [1, palette.background]], "size": size, "line": outline}


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


def levels(name: str, values: Floats, line: dict[str, Any]) -> go.Scatter:
    """The level parts of ``stepped`` alone: (steps,) values become three points each, the third of them a gap."""
    middles, gaps = np.arange(1, len(values) + 1), np.full(len(values), np.nan)
    return go.Scatter(
        name=name,
        x=np.stack([middles - 0.5, middles + 0.5, gaps], axis=1).ravel(),
        y=np.stack([values, values, gaps], axis=1).ravel(),
        mode="lines",
        line=line,
        hoverinfo="skip",
    )


def other_line(palette: Palette) -> dict[str, Any]:
    """How the cut to compare with is drawn."""
    return {"color": palette.text, "width": 1.2, "dash": "dot"}


def log_axis(start: float, end: float, ticks: Sequence[int]) -> dict[str, Any]:
    """A log axis from one value to another, with those of the ticks that lie on it written out."""
    values = [tick for tick in ticks if tick <= max(start, end)]
    return {
        "type": "log",
        "range": [math.log10(start), math.log10(end)],
        "tickvals": values,
        "ticktext": [count(tick) for tick in values],
    }


def _bars(name: str, trace: Trace, sizes: Integers, colour: str) -> go.Bar:
    marker = {"color": colour, "line": {"width": 0}}
    return go.Bar(name=name, x=steps_of(trace), y=sizes, marker=marker, hoverinfo="none")
