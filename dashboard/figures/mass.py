"""The whole vocabulary of one step: the mass up to each rank, and where p cuts it off."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import plotly.graph_objects as go

from dashboard.figures.canvas import ROOM_FOR_A_LABEL, Drawn, log_axis, new_figure, sentence_case
from dashboard.figures.cut import Cut, cut_at, mass_curve, mass_up_to_drawn, run_cut
from dashboard.figures.labels import markup_free, visible
from dashboard.figures.palette import PALETTES, Palette, Theme, translucent
from dashboard.figures.sentences import (
    count,
    drawn_sentence,
    edge_sentence,
    kept_sentence,
    later_settings_sentence,
    p_value,
    percent,
)
from dashboard.sampling.trace import Floats, Step
from dashboard.sampling.vocabulary import Vocabulary

_HEIGHT: Final = 570
_BOTTOM: Final = 44
_FIRST_RANK: Final = 0.8  # left end of the axis; rank 1 itself stays clear of the frame
_TOP: Final = 1.04
# Two p closer than this would print over each other at the right of the plot.
_LABELS_APART: Final = 0.06
# Room for the name of the drawn token, as a share of the axis on a phone.
_NAME_WIDTH: Final = 0.4
_CLOSE: Final = 0.12
# Where along the axis labels change the side that they stand on, so that they stay inside.
_RIGHT_HALF: Final = 0.5


def mass_figure(
    step: Step, *, top_p: float, vocabulary: Vocabulary, theme: Theme, what_if_p: float | None = None
) -> Drawn:
    """Cumulative mass by rank, on a log axis, in the distribution that reaches top-p.

    The cut stands between the last rank of the nucleus and the next; the arguments are those of
    ``bars_figure``.
    """
    palette = PALETTES[theme]
    cut = cut_at(step, top_p, what_if_p)
    ranks, masses = mass_curve(step)
    figure = new_figure(
        palette,
        f"Step {count(step.position + 1)}: mass by rank, whole vocabulary",
        [*_lines(step, cut, vocabulary), ROOM_FOR_A_LABEL],
        height=_HEIGHT,
        bottom=_BOTTOM,
    )
    last_rank = len(vocabulary) * 1.15
    figure.update_xaxes(
        **log_axis(_FIRST_RANK, last_rank),
        title_text="rank (log)",
        showgrid=True,
    )
    figure.update_yaxes(
        range=[0, _TOP],
        tickvals=[0, 0.2, 0.4, 0.6, 0.8, 1],
        tickformat=".0%",
        title_text="mass up to that rank",
    )
    figure.update_layout(margin={"r": 50})
    _draw_curve(figure, ranks, masses, cut, palette)
    if not cut.is_run:
        apart = abs(cut.p - top_p) >= _LABELS_APART
        _draw_cut(figure, run_cut(step, top_p), palette, main=False, labelled=apart)
    _draw_cut(figure, cut, palette, main=True, labelled=True)
    _name_cut(figure, step, cut, palette, last_rank)
    _draw_drawn(figure, step, cut, vocabulary, palette, last_rank)
    return Drawn(figure, _description(step, cut, vocabulary))


def _draw_curve(figure: go.Figure, ranks: Floats, masses: Floats, cut: Cut, palette: Palette) -> None:
    """The curve in two parts that meet at the cut: kept above it, dropped below it."""
    at_cut = float(np.interp(math.log(cut.position), np.log(ranks), masses))
    inside = ranks <= cut.size
    points = [
        (float(rank), float(mass), f"rank {count(int(rank))}<br>mass up to it {markup_free(percent(float(mass)))}")
        for rank, mass in zip(ranks, masses, strict=True)
    ]
    border = (cut.position, at_cut, f"cut at p = {p_value(cut.p)}")
    kept = [point for point, is_inside in zip(points, inside, strict=True) if is_inside]
    dropped = [point for point, is_inside in zip(points, inside, strict=True) if not is_inside]
    parts = [
        ("kept", [*kept, border], palette.kept, translucent(palette.kept, 0.22)),
        ("dropped", [border, *dropped], palette.secondary, translucent(palette.dropped, 0.35)),
    ]
    for name, part, line, fill in parts:
        figure.add_trace(
            go.Scatter(
                name=name,
                x=[x for x, _, _ in part],
                y=[round(y, 6) for _, y, _ in part],
                mode="lines",
                line={"color": line, "width": 2},
                fill="tozeroy",
                fillcolor=fill,
                hovertext=[text for _, _, text in part],
                hoverinfo="text",
            )
        )


def _draw_cut(figure: go.Figure, cut: Cut, palette: Palette, *, main: bool, labelled: bool) -> None:
    """The vertical line of the cut and the horizontal one of p; thin where another cut is the main one."""
    upright = {"width": 2 if main else 1, "dash": "solid" if main else "dot"}
    level = {"width": 1, "dash": "dash" if main else "dot"}
    figure.add_shape(
        type="line",
        name="cut" if main else "run's cut",
        x0=cut.position,
        x1=cut.position,
        y0=0,
        y1=_TOP,
        line={"color": palette.cut, **upright},
        layer="above",
    )
    figure.add_shape(
        type="line",
        name="p" if main else "run's p",
        xref="paper",
        x0=0,
        x1=1,
        y0=cut.p,
        y1=cut.p,
        line={"color": palette.cut, **level},
    )
    if labelled:
        figure.add_annotation(
            xref="paper",
            x=1,
            y=cut.p,
            text=f"p = {p_value(cut.p)}",
            showarrow=False,
            xanchor="left",
            xshift=3,
            font={"color": palette.cut, "size": 12},
        )


def _name_cut(figure: go.Figure, step: Step, cut: Cut, palette: Palette, last_rank: float) -> None:
    """Over the cut, how many tokens it leaves."""
    others_follow = cut.is_run and step.kept_size != step.nucleus_size
    along = _along(cut.position, last_rank)
    figure.add_annotation(
        x=math.log10(cut.position),
        yref="paper",
        y=1,
        yanchor="bottom",
        text=f"cut: {count(cut.size)} {'in the nucleus' if others_follow else 'kept'}",
        showarrow=False,
        xanchor="right" if along > _RIGHT_HALF else "left",
        xshift=4 if along > _RIGHT_HALF else -4,
        font={"color": palette.cut, "size": 12, "weight": 600},
    )


def _draw_drawn(
    figure: go.Figure, step: Step, cut: Cut, vocabulary: Vocabulary, palette: Palette, last_rank: float
) -> None:
    """The drawn token on the curve: a diamond at its rank, named."""
    mass = mass_up_to_drawn(step)
    label = visible(vocabulary.label(step.token_id), longest=14)
    figure.add_trace(
        go.Scatter(
            name="drawn",
            x=[step.rank],
            y=[mass],
            mode="markers",
            marker={
                "symbol": "diamond",
                "size": 13,
                "color": palette.drawn,
                "line": {"color": palette.background, "width": 2},
            },
            hovertext=[
                f"<b>{markup_free(label)}</b><br>{markup_free(drawn_sentence(step)).replace(', ', '<br>')}"
                f"<br>mass up to it {markup_free(percent(mass))}"
            ],
            hoverinfo="text",
            cliponaxis=False,
        )
    )
    x, side, shift = _beside(step.rank, cut, last_rank)
    figure.add_annotation(
        x=math.log10(x),
        y=mass,
        text=f"<b>{markup_free(label)}</b>, rank {count(step.rank)}",
        showarrow=False,
        xanchor=side,
        yanchor="top",
        xshift=shift,
        yshift=-5,
        font={"color": palette.text, "size": 13},
        bgcolor=translucent(palette.background, 0.75),
        borderpad=1,
    )


def _beside(rank: int, cut: Cut, last_rank: float) -> tuple[float, str, int]:
    """Where the drawn token's name stands: its x, the side of it that is tied there, and a shift in pixels.

    Right of the token if it fits there without crossing the cut, else left of it, else beyond a cut close by.
    """
    dot, line = _along(rank, last_rank), _along(cut.position, last_rank)
    fits_right, fits_left = dot + _NAME_WIDTH <= 1, dot - _NAME_WIDTH >= 0
    if fits_right and not dot < line < dot + _NAME_WIDTH:
        return rank, "left", 10
    if fits_left and not dot - _NAME_WIDTH < line < dot:
        return rank, "right", -10
    if fits_right:
        return (cut.position, "left", 6) if line - dot < _CLOSE else (rank, "left", 10)
    return rank, "right", -10


def _along(rank: float, last_rank: float) -> float:
    """Where a rank stands along the axis, 0 to 1."""
    return math.log(rank / _FIRST_RANK) / math.log(last_rank / _FIRST_RANK)


def _lines(step: Step, cut: Cut, vocabulary: Vocabulary) -> list[str]:
    """Beneath the title: how much is kept, and the two tokens beside the cut where they are known."""
    if not cut.is_run:
        kept = kept_sentence(cut.size, len(vocabulary), cut.mass)
        return [
            markup_free(f"What if p = {p_value(cut.p)}: {kept}"),
            markup_free(sentence_case(drawn_sentence(step))),
        ]
    kept = kept_sentence(cut.size, len(vocabulary), cut.mass)
    if step.kept_size != step.nucleus_size:
        kept = later_settings_sentence(step)
    return [markup_free(sentence_case(text)) for text in (kept, edge_sentence(step, vocabulary, longest=9))]


def _description(step: Step, cut: Cut, vocabulary: Vocabulary) -> str:
    sentences = [
        f"Cumulative mass by rank over the whole vocabulary at step {count(step.position + 1)}",
        f"At p = {p_value(cut.p)}, {kept_sentence(cut.size, len(vocabulary), cut.mass)}",
    ]
    if cut.is_run:
        sentences.append(sentence_case(edge_sentence(step, vocabulary)))
        if step.kept_size != step.nucleus_size:
            sentences.append(sentence_case(later_settings_sentence(step)))
    sentences.append(f"“{visible(vocabulary.label(step.token_id))}” was {drawn_sentence(step)}")
    return ". ".join(sentences) + "."
