"""How many tokens each of several samplers keeps at every step of a text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, TypeAlias

import numpy as np
import plotly.graph_objects as go

from dashboard.figures.canvas import Drawn, log_axis, new_figure
from dashboard.figures.palette import PALETTES, Palette, Theme, translucent
from dashboard.figures.samplers import NEEDS_THE_MODEL, lane_words
from dashboard.figures.sentences import count
from dashboard.sampling.samplers import SAMPLER
from dashboard.sampling.trace import Floats, Integers

Sizes: TypeAlias = Integers | Floats
"""(steps,) kept sizes; NaN where one is not known."""

_BOTTOM: Final = 44
# Pixels of the figure: its left margin, a row with its words, and the part of that which is plotted.
_MARGIN: Final = 56
_ROW: Final = 74
_ROW_PLOT: Final = 48
_SIZES_TOP: Final = 38 + 18
_LEAST_SIZE: Final = 0.8  # below a kept size of one


def sampler_sizes_figure(sizes: Mapping[str, Sizes], values: Mapping[str, float], *, theme: Theme) -> Drawn:
    """The kept size of every step, one row for each sampler over the same steps, all on the same log scale.

    Seven lines over each other could not be told apart; in rows, a step is one column. The first sampler stands as a
    dotted line in the other rows. Does not depend on the chosen step.

    Args:
        sizes: (steps,) kept sizes by sampler, in the order of the rows; NaN leaves a gap.
        values: of the samplers, by name.
        theme: light or dark.
    """
    palette = PALETTES[theme]
    first = next(iter(sizes))
    steps = max(1, len(sizes[first]))
    known = [float(np.nanmax(of)) for of in sizes.values() if np.isfinite(of).any()]
    decades = max(2, math.ceil(math.log10(max(known, default=1.0) * 1.1)))
    plot = _ROW * len(sizes)
    figure = new_figure(
        palette,
        "Tokens kept at every step",
        [f"Dotted in every row: {SAMPLER[first].told(values[first])}"],
        height=_SIZES_TOP + plot + _BOTTOM,
        bottom=_BOTTOM,
    )
    figure.update_layout(
        margin={"t": _SIZES_TOP, "l": _MARGIN},
        hovermode="x unified",
        hoversubplots="axis",
        uirevision="sampler-sizes",
    )
    figure.update_xaxes(
        range=[0.4, steps + 0.6],
        title_text="step",
        unifiedhovertitle_text="step %{x}",
        tickformat=",d",
        nticks=11,
        showgrid=False,
        anchor=_axis(len(sizes) - 1),
    )
    ticks = [10**i for i in range(0, decades, 2 if decades > 2 else 1)]  # noqa: PLR2004  as many as a row has room for
    for row, (name, of) in enumerate(sizes.items()):
        bottom = 1 - (row + 1) * _ROW / plot
        top = bottom + _ROW_PLOT / plot
        scale = {
            "domain": [bottom, top],
            "anchor": "x",
            **log_axis(_LEAST_SIZE, 10 ** (decades + 0.1), ticks),
        }
        figure.update_layout({_axis(row).replace("y", "yaxis"): {**figure.layout.yaxis.to_plotly_json(), **scale}})
        told = SAMPLER[name].told(values[name])
        figure.add_trace(_line(told, of, row, palette))
        if row and np.isfinite(of).any():
            figure.add_trace(_comparison(sizes[first], row, palette))
        words = lane_words(told, _range_words(of), palette)
        figure.add_annotation(**words, yref="paper", y=top, yanchor="bottom", xshift=-_MARGIN)
    return Drawn(figure, _sizes_description(sizes, values))


def _axis(row: int) -> str:
    """Plotly's name of the y axis of a row."""
    return f"y{row + 1}" if row else "y"


def _plain(sizes: Sizes) -> list[int | None]:
    return [None if math.isnan(size) else int(size) for size in sizes.tolist()]


def _line(told: str, sizes: Sizes, row: int, palette: Palette) -> go.Scatter:
    return go.Scatter(
        name=told,
        x=list(range(1, len(sizes) + 1)),
        y=_plain(sizes),
        yaxis=_axis(row),
        # Dots, because a line needs two steps, and a step between two gaps is known too.
        mode="lines+markers",
        line={"shape": "hvh", "color": palette.kept, "width": 1.5},
        marker={"color": palette.kept, "size": 3},
        fill="tozeroy",
        fillcolor=translucent(palette.kept, 0.22),
        hovertemplate=f"{told}: %{{y:,}}<extra></extra>",
    )


def _comparison(sizes: Sizes, row: int, palette: Palette) -> go.Scatter:
    return go.Scatter(
        name="comparison",
        x=list(range(1, len(sizes) + 1)),
        y=_plain(sizes),
        yaxis=_axis(row),
        mode="lines",
        line={"shape": "hvh", "color": palette.text, "width": 1, "dash": "dot"},
        hoverinfo="skip",
    )


def _range_words(sizes: Sizes) -> str:
    """``median 14, 1 to 355``; where some steps are not known, only how many are."""
    known = sizes[np.isfinite(sizes)]
    if not len(known):
        return NEEDS_THE_MODEL
    if len(known) < len(sizes):
        return f"known at {count(len(known))} of {count(len(sizes))} steps"
    least, middle, most = (count(int(number)) for number in (known.min(), np.median(known), known.max()))
    return f"{least} at every step" if least == most else f"median {middle}, {least} to {most}"


def _sizes_description(sizes: Mapping[str, Sizes], values: Mapping[str, float]) -> str:
    told = [f"{SAMPLER[name].told(values[name])}: {_range_words(of)}" for name, of in sizes.items()]
    return ". ".join(["Tokens that each sampler alone would keep at every step", *told]) + "."
