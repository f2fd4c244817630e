"""What every figure shares: its frame, its key of colours, and the description that goes with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import plotly.graph_objects as go

from dashboard.figures.labels import markup_free
from dashboard.figures.palette import FONT_FAMILY, Palette, mix
from dashboard.figures.sentences import count

PLOTLY_CONFIG: Final[dict[str, Any]] = {"displayModeBar": False, "displaylogo": False, "responsive": True}
"""For ``st.plotly_chart(..., config=PLOTLY_CONFIG)``: no buttons over the figure."""

TEXT_SIZE: Final = 13
SMALL_TEXT_SIZE: Final = 12
TITLE_SIZE: Final = 15

ROOM_FOR_A_LABEL: Final = "\u00a0"
"""An empty line under the title, where a label may stand over the plot."""


DECADES: Final = tuple(10**power for power in range(7))


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure and what it shows in words, for those who cannot see it (``alt=`` of ``st.plotly_chart``)."""

    figure: go.Figure
    description: str


def new_figure(palette: Palette, title: str, lines: Sequence[str], *, height: int, bottom: int) -> go.Figure:
    """An empty figure in the frame that all share.

    Args:
        palette: the colours of the theme.
        title: what the figure shows, as text of Plotly (``markup_free`` where a token stands in it).
        lines: what stands beneath the title, one entry a line, as text of Plotly; at most about 50 characters each,
            so that they fit a phone.
        height: of the whole figure, pixels.
        bottom: margin below the plot, pixels.
    """
    style = f"font-size:{SMALL_TEXT_SIZE}px;font-weight:400;color:{palette.secondary}"
    under = "".join(f'<br><span style="{style}">{line}</span>' for line in lines)
    axis = {
        "gridcolor": palette.hairline,
        "linecolor": palette.hairline,
        "zeroline": False,
        "fixedrange": True,
        "tickfont": {"color": palette.secondary, "size": SMALL_TEXT_SIZE},
        "title": {"font": {"color": palette.secondary, "size": SMALL_TEXT_SIZE}, "standoff": 6},
    }
    # In one piece: Plotly takes ten times as long to update a layout as to make one.
    layout = {
        "template": "none",
        "title": {
            "text": f"{title}{under}",
            "font": {"size": TITLE_SIZE, "color": palette.text, "weight": 600},
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 20, "l": 2},
        },
        "font": {"family": FONT_FAMILY, "size": TEXT_SIZE, "color": palette.secondary},
        "paper_bgcolor": palette.background,
        "plot_bgcolor": palette.background,
        "height": height,
        "margin": {"l": 56, "r": 12, "t": 38 + 18 * len(lines), "b": bottom, "pad": 0},
        "showlegend": False,
        "dragmode": False,
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": palette.panel,
            "bordercolor": palette.hairline,
            "font": {"family": FONT_FAMILY, "size": TEXT_SIZE, "color": palette.text},
            "align": "left",
        },
        "xaxis": axis,
        "yaxis": axis,
    }
    return go.Figure(layout=layout)


def log_axis(start: float, end: float, ticks: Sequence[int] = DECADES) -> dict[str, Any]:
    """A log axis from one value to another, with those of the ticks that lie on it written out."""
    values = [tick for tick in ticks if tick <= max(start, end)]
    return {
        "type": "log",
        "range": [math.log10(start), math.log10(end)],
        "tickvals": values,
        "ticktext": [count(tick) for tick in values],
    }


def key_line(palette: Palette, *, later_settings: bool = False) -> str:
    """The key of colours as one line of Plotly text: each mark in its colour before its word."""
    entries = [
        ("■", palette.kept, "kept"),
        ("■", palette.dropped, "dropped"),
        ("◆", palette.drawn, "drawn"),
        ("┃", palette.cut, "cut"),
    ]
    if later_settings:
        entries.insert(1, ("■", later_colour(palette), "dropped later"))
    return "\u2002 ".join(f"{coloured(mark, colour)} {word}" for mark, colour, word in entries)


def later_colour(palette: Palette) -> str:
    """For tokens of the nucleus that a setting after top-p dropped: between kept and background."""
    return mix(palette.kept, palette.background, 0.4)


def coloured(text: str, colour: str) -> str:
    """The text in that colour, as Plotly text."""
    return f'<span style="color:{colour}">{markup_free(text)}</span>'


def sentence_case(text: str) -> str:
    """The text with its first letter as a capital; the rest stays."""
    return text[:1].upper() + text[1:]
