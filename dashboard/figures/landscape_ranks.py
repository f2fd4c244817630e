"""The ranks of the landscape: the probability of every rank as colour, where the cuts fall, which tokens were drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from dashboard.figures.canvas import log_axis
from dashboard.figures.labels import markup_free, token_label
from dashboard.figures.landscape_cells import cells_of
from dashboard.figures.landscape_rows import CutLine, Row, dots, levels, other_line, stepped, steps_of
from dashboard.figures.palette import Palette, mix, translucent
from dashboard.figures.sentences import bits, count, p_value, percent
from dashboard.sampling.trace import HEAD_SIZE, Floats, Trace
from dashboard.sampling.vocabulary import Vocabulary

_FIRST_RANK: Final = 0.5  # the upper edge of rank 1
_BELOW: Final = 1.25  # how much further the ranks go than the lowest mark
_ROOM: Final = 1.12  # beneath a mark that stands on the last rank of all
_TICKS: Final = tuple(digit * 10**power for power in range(6) for digit in (1, 2, 5))
_LEAST_PROBABILITY: Final = 1e-5  # the colour of this and all below is that of the background
_PICTURE_ROWS: Final = 240  # as many as there are pixels to tell them apart
_SHADES: Final = 255
_KEYED: Final = (1.0, 0.01, 0.0001)  # probabilities whose colour the key tells
# Of the key of colours in the lines beneath the title, pixels; it fits a phone.
_KEY_TOP, _KEY_LEFT, _KEY_LENGTH = 51, 74, 150
_CROWDED: Final = 80  # steps from which lines between columns would hide the ranks behind them
_FAINTEST: Final = 0.25


def ranks_row(
    trace: Trace,
    cut: CutLine,
    other: CutLine | None,
    vocabulary: Vocabulary,
    palette: Palette,
    *,
    figure_height: int,
    height: int,
    room_for: int,
) -> Row:
    """The probability of every rank as colour, where the cuts fall, and the drawn tokens as a path.

    The key of colours stands in the lines beneath the title of the figure, whose height it must know, in pixels like
    that of the row.
    """
    cuts = [cut.sizes] if other is None else [cut.sizes, other.sizes]
    lowest = max(room_for, *(int(ranks.max()) for ranks in (trace.rank, *cuts)))
    deepest = max(min(math.ceil(max(lowest, HEAD_SIZE) * _BELOW), len(vocabulary)), lowest)
    axis = {**log_axis(max(deepest + 0.5, (lowest + 0.5) * _ROOM), _FIRST_RANK, _TICKS), "showgrid": False}
    is_cut = trace.rank > cut.sizes
    traces = [
        _heatmap(trace, deepest, axis["range"], palette, figure_height),
        # The levels stay clear where the steps are so many that the whole contour would hide the ranks behind it.
        stepped("cut", _cut_ranks(cut), {"color": translucent(palette.cut, _opacity(trace)), "width": 1.2}),
        levels(
            "cut level", _cut_ranks(cut), axis["range"], palette.cut, pixels=2, height=height, width=1.0, is_log=True
        ),
        _path(trace, cut, vocabulary, palette),
        dots("kept tokens", trace, ~is_cut, palette.drawn, palette.background),
        dots("cut tokens", trace, is_cut, palette.background, palette.drawn),
    ]
    if other is not None:
        traces.insert(1, stepped("other cut", _cut_ranks(other), other_line(palette)))
    return Row("", "rank (log)", traces, axis)


def _opacity(trace: Trace) -> float:
    """Of lines from one column to the next: fainter the more steps there are."""
    return round(max(_FAINTEST, min(1.0, _CROWDED / len(trace))), 2)


def _cut_ranks(cut: CutLine) -> Floats:
    """(steps,) a cut stands between the last rank of the nucleus and the next."""
    return cut.sizes.astype(np.float64) + 0.5


def _heatmap(trace: Trace, deepest: int, span: Sequence[float], palette: Palette, figure_height: int) -> go.Heatmap:
    """The cells as a picture whose rows are equally high, which Plotly draws several times faster than given edges.

    Its own y axis lies beneath that of the ranks and is linear in log10(rank) over the same ``span``. A value is 0
    where no token is, else 1 (_LEAST_PROBABILITY or less) to 255 (certainty), linear in the logarithm.
    """
    cells = cells_of(trace, deepest)
    row = (span[0] - span[1]) / _PICTURE_ROWS
    middles = span[1] + (np.arange(_PICTURE_ROWS) + 0.5) * row
    in_cells = np.searchsorted(cells.edges, 10.0**middles) - 1
    logs = np.vstack([cells.log_probability, np.full((1, len(trace)), np.nan)])[
        np.minimum(in_cells, len(cells.edges) - 1)
    ]
    shares = np.clip(1 - logs / math.log10(_LEAST_PROBABILITY), 0, 1)
    return go.Heatmap(
        name="probability",
        x0=1,
        dx=1,
        y0=float(middles[0]),
        dy=row,
        z=np.nan_to_num(1 + np.round(shares * (_SHADES - 1)), nan=0).astype(np.uint8),
        zmin=1,
        zmax=_SHADES,
        colorscale=[
            [0, palette.background],
            [0.5, mix(palette.kept, palette.background, 0.42)],
            [1, mix(palette.text, palette.kept, 0.45)],
        ],
        colorbar=_key_of_colours(palette, figure_height),
        hoverinfo="skip",
    )


def _key_of_colours(palette: Palette, figure_height: int) -> dict[str, Any]:
    """A slim bar beneath the title, right of the word that says what it is of."""
    return {
        "orientation": "h",
        "xref": "container",
        "yref": "container",
        "x": 0,
        "y": 1 - _KEY_TOP / figure_height,
        "xanchor": "left",
        "yanchor": "top",
        "xpad": _KEY_LEFT,
        "ypad": 0,
        "lenmode": "pixels",
        "len": 2 * _KEY_LEFT + _KEY_LENGTH,
        "thickness": 8,
        "outlinewidth": 0,
        "tickvals": [1 + (_SHADES - 1) * (1 - math.log10(share) / math.log10(_LEAST_PROBABILITY)) for share in _KEYED],
        "ticktext": [f"{share * 100:g} %" for share in _KEYED],
        "tickfont": {"size": 11, "color": palette.secondary},
        "tickangle": 0,
        "ticks": "",
    }


def _path(trace: Trace, cut: CutLine, vocabulary: Vocabulary, palette: Palette) -> go.Scatter:
    """The drawn tokens at their ranks; the one trace that has a label under the pointer."""
    return go.Scatter(
        name="drawn",
        x=steps_of(trace),
        y=trace.rank,
        mode="lines",
        line={"color": translucent(palette.drawn, 0.4 * _opacity(trace)), "width": 1},
        hovertext=_hover(trace, cut, vocabulary),
        hoverinfo="text",
    )


def _hover(trace: Trace, cut: CutLine, vocabulary: Vocabulary) -> list[str]:
    """What the label of each step says."""
    columns: list[ArrayLike] = [
        trace.rank, trace.probability, trace.admitting_p, cut.sizes, cut.masses, trace.entropy, trace.surprisal
    ]  # fmt: skip
    labels = vocabulary.labels(trace.token_ids.tolist())
    rows = zip(steps_of(trace).tolist(), labels, *(np.asarray(column).tolist() for column in columns), strict=True)
    texts = []
    for step, label, rank, probability, admitting, size, mass, entropy, surprisal in rows:
        of_mass = "" if math.isnan(mass) else f", {percent(mass)} of the mass"
        lines = [
            f"rank {count(rank)}, probability {percent(probability)}",
            f"admitting p {p_value(admitting)}",
            f"nucleus {count(size)}{of_mass}",
            f"entropy {bits(entropy)}, surprisal {bits(surprisal)}",
        ]
        name = f"<b>{token_label(label, longest=24)}</b>, step {count(step)}"
        texts.append("<br>".join([name, *map(markup_free, lines)]))
    return texts
