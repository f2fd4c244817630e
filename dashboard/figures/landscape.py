"""The landscape of a run: every step and every rank in one picture, with what sums each step up beneath it.

The figure does not depend on the chosen step: a line over it marks that (``components.step_marker``), so it is drawn
once for a run and a question, and keeps its zoom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from dashboard.figures.canvas import ROOM_FOR_A_LABEL, SMALL_TEXT_SIZE, Drawn, coloured, new_figure
from dashboard.figures.labels import markup_free
from dashboard.figures.landscape_ranks import ranks_row
from dashboard.figures.landscape_rows import ROW_HEIGHT, CutLine, Row, bits_row, drawn_row, mass_row, sizes_row
from dashboard.figures.palette import PALETTES, Palette, Theme
from dashboard.figures.sentences import bits, count, p_value
from dashboard.sampling.trace import Integers, Trace
from dashboard.sampling.vocabulary import Vocabulary

__all__ = ["CutLine", "landscape_figure"]

_HEIGHT: Final = 940
_BOTTOM: Final = 44
_LEFT: Final = 64
_GAP: Final = 32  # between two rows, pixels; the name of the lower one stands there
_ROWS_BENEATH: Final = 4
_PICTURE_AXIS: Final = "y9"  # of the picture of probabilities, beneath the axis of ranks
_FEW_STEPS: Final = 12  # each has its number on the axis


def landscape_figure(
    trace: Trace,
    *,
    cut: CutLine,
    vocabulary: Vocabulary,
    theme: Theme,
    other: CutLine | None = None,
    room_for: int = 0,
) -> Drawn:
    """Ranks of all steps by colour, the cut as a contour, the drawn tokens as a path, on one x axis with their sums.

    Beneath the ranks stand nucleus size, kept mass, entropy with surprisal, and the rank of the drawn token.

    Args:
        trace: at least one step.
        cut: the cut to show: the contour stands between ranks ``size`` and ``size + 1``.
        vocabulary: names the tokens.
        theme: light or dark.
        other: a cut to compare with, dotted.
        room_for: a number of tokens down to which the axes reach at least, if the vocabulary does: something may be
            drawn over the figure there.
    """
    palette = PALETTES[theme]
    # The key of colours takes two lines; the label of the chosen step stands in the last.
    lines = [_key(trace, cut, other, palette), "probability", ROOM_FOR_A_LABEL, ROOM_FOR_A_LABEL]
    frame = new_figure(palette, "The landscape: every step, every rank", lines, height=_HEIGHT, bottom=_BOTTOM)
    margin = frame.layout.margin
    ranks_height = _HEIGHT - margin.t - margin.b - _ROWS_BENEATH * (ROW_HEIGHT + _GAP)
    deepest = min(room_for, len(vocabulary))
    rows = [
        ranks_row(trace, cut, other, vocabulary, palette, figure_height=_HEIGHT, height=ranks_height, room_for=deepest),
        sizes_row(trace, cut, other, palette, room_for=deepest),
        mass_row(trace, cut, palette),
        bits_row(trace, palette),
        drawn_row(trace, cut, palette),
    ]
    return Drawn(_laid_out(frame, rows, len(trace), palette), _description(trace, cut, other))


def _laid_out(frame: go.Figure, rows: Sequence[Row], length: int, palette: Palette) -> go.Figure:
    """The rows beneath each other on one x axis, so that zoom and hover are the same in each."""
    layout = frame.layout.to_plotly_json()
    axes: dict[str, Any] = {}
    names = []
    for number, (row, (bottom, top)) in enumerate(zip(rows, _domains(layout["margin"], len(rows)), strict=True), 1):
        suffix = "" if number == 1 else str(number)
        axes[f"yaxis{suffix}"] = {
            **layout["yaxis"],
            **row.axis,
            "title": {**layout["yaxis"]["title"], "text": row.unit},
            "domain": [bottom, top],
            "anchor": "x",
            "tickcolor": palette.dropped,
        }
        for drawn in row.traces:
            drawn.yaxis = _PICTURE_AXIS if drawn.type == "heatmap" else f"y{suffix}"
        if row.name:
            names.append(_name_over(row, top, palette))
    # The picture lies beneath: what is drawn on an axis that overlays another stands in front.
    axes[_PICTURE_AXIS.replace("y", "yaxis")] = {
        "domain": axes["yaxis"]["domain"],
        "anchor": "x",
        "range": axes["yaxis"]["range"],
        "fixedrange": True,
        "visible": False,
    }
    axes["yaxis"]["overlaying"] = _PICTURE_AXIS
    steps_axis = {
        **layout["xaxis"],
        "title": {**layout["xaxis"]["title"], "text": "step (drag to zoom, double click for all)"},
        "anchor": f"y{len(rows)}",
        "range": [0.5, length + 0.5],
        "minallowed": 0.5,
        "maxallowed": length + 0.5,
        "fixedrange": False,
        "separatethousands": True,
        "nticks": 11,
        "dtick": 1 if length <= _FEW_STEPS else None,
        "tickcolor": palette.dropped,
        "showgrid": False,
        "showspikes": True,
        "spikemode": "across",
        "spikesnap": "data",
        "spikethickness": 1,
        "spikedash": "solid",
        "spikecolor": palette.secondary,
    }
    changes = {
        "xaxis": steps_axis,
        **axes,
        "annotations": names,
        "margin": {**layout["margin"], "l": _LEFT},
        "dragmode": "zoom",
        "hovermode": "x",
        "hoversubplots": "axis",
        "uirevision": "landscape",
    }
    # A new figure: to update so many entries of one takes Plotly five times as long.
    return go.Figure([drawn for row in rows for drawn in row.traces], {**layout, **changes})


def _domains(margin: dict[str, Any], rows: int) -> list[tuple[float, float]]:
    """The shares of the plot between which each row stands, the topmost first."""
    plot = _HEIGHT - margin["t"] - margin["b"]
    tops = [plot, *((ROW_HEIGHT + _GAP) * below - _GAP for below in range(rows - 1, 0, -1))]
    bottoms = [tops[1] + _GAP, *(top - ROW_HEIGHT for top in tops[1:])]
    return [(bottom / plot, top / plot) for bottom, top in zip(bottoms, tops, strict=True)]


def _name_over(row: Row, top: float, palette: Palette) -> dict[str, Any]:
    return {
        "text": row.name,
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": top,
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"color": palette.secondary, "size": SMALL_TEXT_SIZE},
    }


def _key(trace: Trace, cut: CutLine, other: CutLine | None, palette: Palette) -> str:
    """The key of the marks as one line of Plotly text."""
    entries = [
        f"{coloured('━', palette.cut)} cut at {markup_free(cut.name)}",
        f"{coloured('●', palette.drawn)} drawn",
    ]
    if (trace.rank > cut.sizes).any():
        entries.append(f"{coloured('○', palette.drawn)} below the cut")
    if other is not None:
        entries.append(f"{coloured('┈', palette.text)} {markup_free(other.name)}")
    return "\u2002 ".join(entries)


def _description(trace: Trace, cut: CutLine, other: CutLine | None) -> str:
    def spread(values: Integers) -> str:
        least, middle, most = (count(int(f(values))) for f in (np.min, np.median, np.max))
        return f"from {least} to {most}, median {middle}"

    below = int(np.count_nonzero(trace.rank > cut.sizes))
    steps = "the one step" if len(trace) == 1 else f"each of {count(len(trace))} steps"
    sentences = [
        f"The probability of every rank at {steps}, with the cut and the drawn tokens",
        f"The nucleus size at p = {p_value(cut.p)} runs {spread(cut.sizes)}",
        f"The rank of the drawn token runs {spread(trace.rank)}; {count(below)} of {count(len(trace))} "
        f"{'is' if below == 1 else 'are'} below the cut",
        f"The mean entropy is {bits(float(trace.entropy.mean()))}, "
        f"the mean surprisal {bits(float(trace.surprisal.mean()))}",
    ]
    if other is not None:
        sentences.append(f"For comparison, {other.name}: nucleus size {spread(other.sizes)}")
    return ". ".join(sentences) + "."
