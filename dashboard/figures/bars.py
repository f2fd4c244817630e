"""The most probable tokens of one step by name: kept, dropped, drawn, and where the cut falls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import plotly.graph_objects as go

from dashboard.figures.canvas import Drawn, coloured, key_line, later_colour, new_figure, sentence_case
from dashboard.figures.cut import Cut, cut_at, kept_ranks, run_cut
from dashboard.figures.labels import markup_free, room_for, token_label, visible
from dashboard.figures.palette import PALETTES, Palette, Theme
from dashboard.figures.sentences import (
    count,
    drawn_sentence,
    kept_sentence,
    later_settings_sentence,
    p_value,
    percent,
)
from dashboard.sampling.trace import Step
from dashboard.sampling.vocabulary import Vocabulary

ROWS: Final = 24
"""Rows of the figure; when the drawn token ranks below them, the last two are a gap and that token."""

_HEIGHT: Final = 570
_BOTTOM: Final = 44
_BAR_WIDTH: Final = 0.72
_NAME_LENGTH: Final = 14  # characters
# Room right of the longest bar for its percentage, as a share of the axis.
_ROOM_FOR_NUMBERS: Final = 1.3
_ROOM_FOR_TWO_NUMBERS: Final = 1.9


@dataclass(frozen=True, slots=True)
class _Row:
    """One token of the figure; ``place`` is its y, 1 for the topmost row."""

    place: int
    rank: int
    token_id: int
    probability: float
    raw_probability: float


def bars_figure(
    step: Step, *, top_p: float, vocabulary: Vocabulary, theme: Theme, what_if_p: float | None = None
) -> Drawn:
    """Named bars for the most probable tokens of a step, with their shaped probabilities.

    Args:
        step: the step.
        top_p: the run's p.
        vocabulary: names the tokens.
        theme: light or dark.
        what_if_p: another p, of SIZE_CURVE_P or 1: kept, dropped and the cut are then those of that p, and the run's
            own cut stays as a thin line. Raises ValueError for a p whose nucleus size is not stored.
    """
    palette = PALETTES[theme]
    cut = cut_at(step, top_p, what_if_p)
    rows = _rows(step)
    figure = new_figure(
        palette,
        f"Step {count(step.position + 1)}: the most probable tokens",
        [key_line(palette, later_settings=_later_dropped(step, cut)), _cut_line(step, cut)],
        height=_HEIGHT,
        bottom=_BOTTOM,
    )
    figure.add_trace(_bars(rows, step, cut, vocabulary, palette))
    if not cut.is_run:
        _draw_cut(figure, run_cut(step, top_p), rows, palette, shown=False)
    _draw_cut(figure, cut, rows, palette)
    _draw_gap(figure, rows, palette)
    longest = max(row.probability for row in rows)
    reshaped = _is_reshaped(step)
    figure.update_xaxes(
        range=[0, longest * (_ROOM_FOR_TWO_NUMBERS if reshaped else _ROOM_FOR_NUMBERS)],
        tickformat=".3~%",
        nticks=5,
        title_text="probability, shaped (the raw one beside it)" if reshaped else "probability",
    )
    figure.update_yaxes(
        range=[ROWS + 0.75, 0.25],
        tickvals=[row.place for row in rows],
        ticktext=[_row_name(row, step, vocabulary, palette) for row in rows],
        tickfont={"color": palette.text, "size": 13},
        showgrid=False,
    )
    figure.layout.margin.l = room_for(
        visible(vocabulary.label(row.token_id), _NAME_LENGTH) + ("◆ " if row.rank == step.rank else "") for row in rows
    )
    return Drawn(figure, _description(step, cut, rows, vocabulary))


def _rows(step: Step) -> list[_Row]:
    """The ranks that fit, and the drawn token in a row of its own when it ranks below them."""
    shown = min(ROWS, len(step.head_ids))
    below = step.rank > shown
    if below:
        shown = min(shown, ROWS - 2)
    rows = [
        _Row(
            place=rank,
            rank=rank,
            token_id=int(step.head_ids[rank - 1]),
            probability=float(step.head_probabilities[rank - 1]),
            raw_probability=float(step.head_raw_probabilities[rank - 1]),
        )
        for rank in range(1, shown + 1)
    ]
    if below:
        # One row further down when its neighbours are not shown: the empty place is the gap.
        gap = 1 if step.rank > shown + 1 else 0
        rows.append(_Row(shown + gap + 1, step.rank, step.token_id, step.probability, step.raw_probability))
    return rows


def _bars(rows: list[_Row], step: Step, cut: Cut, vocabulary: Vocabulary, palette: Palette) -> go.Bar:
    def colour(row: _Row) -> str:
        if row.rank == step.rank:
            return palette.drawn
        if row.rank > cut.size:
            return palette.dropped
        return palette.kept if row.rank <= kept else later_colour(palette)

    kept = _kept_of(step, cut)

    return go.Bar(
        orientation="h",
        y=[row.place for row in rows],
        x=[row.probability for row in rows],
        width=_BAR_WIDTH,
        marker={"color": [colour(row) for row in rows], "line": {"width": 0}, "cornerradius": 2},
        text=[_number(row, step, palette) for row in rows],
        textposition="outside",
        textfont={"color": palette.secondary, "size": 12},
        cliponaxis=False,
        constraintext="none",
        customdata=[row.rank for row in rows],
        hovertext=[_hover(row, step, cut, vocabulary) for row in rows],
        hoverinfo="text",
    )


def _draw_cut(figure: go.Figure, cut: Cut, rows: list[_Row], palette: Palette, *, shown: bool = True) -> None:
    """A cut as a line between two rows, if it falls among them, inside the gap when it falls there.

    ``shown`` is the cut that the colours follow; another one is a thin line.
    """
    place = _cut_place(cut, rows)
    if place is None:
        return
    figure.add_shape(
        type="line",
        name="cut" if shown else "run's cut",
        xref="paper",
        x0=0,
        x1=1,
        y0=place,
        y1=place,
        line={"color": palette.cut, "width": 2} if shown else {"color": palette.cut, "width": 1, "dash": "dot"},
        layer="above",
    )
    figure.add_annotation(
        xref="paper",
        x=1,
        y=place,
        text=f"cut at p = {p_value(cut.p)}" if shown else f"the run's cut, p = {p_value(cut.p)}",
        showarrow=False,
        xanchor="right",
        yanchor="top",
        font={"color": palette.cut, "size": 12},
        bgcolor=palette.background,
        borderpad=1,
        yshift=-2,
    )


def _cut_place(cut: Cut, rows: list[_Row]) -> float | None:
    """The y of the cut: between the rows of ``size`` and ``size + 1``; None below all rows."""
    last = rows[-1]
    if cut.size >= last.rank:
        return None
    above = max((row.place for row in rows if row.rank <= cut.size), default=0)
    below = min(row.place for row in rows if row.rank > cut.size)
    return (above + below) / 2


def _draw_gap(figure: go.Figure, rows: list[_Row], palette: Palette) -> None:
    """Say how many ranks the gap above the drawn token's row leaves out."""
    if len(rows) < 2 or rows[-1].place == rows[-2].place + 1:  # noqa: PLR2004 - a gap needs a row on each side
        return
    left_out = rows[-1].rank - rows[-2].rank - 1
    figure.add_annotation(
        x=0,
        y=rows[-1].place - 1,
        text=f"⋮ {count(left_out)} more" if left_out > 1 else "⋮ 1 more",
        showarrow=False,
        xanchor="left",
        xshift=6,
        font={"color": palette.secondary, "size": 12},
        bgcolor=palette.background,
    )


def _row_name(row: _Row, step: Step, vocabulary: Vocabulary, palette: Palette) -> str:
    name = token_label(vocabulary.label(row.token_id), _NAME_LENGTH)
    if row.rank != step.rank:
        return f"{name} "
    return f"{coloured('◆', palette.drawn)} <b>{name}</b> "


def _number(row: _Row, step: Step, palette: Palette) -> str:
    number = markup_free(percent(row.probability, padded=True))
    raw = f"\u2002 raw {markup_free(percent(row.raw_probability, padded=True))}" if _is_reshaped(step) else ""
    if row.rank != step.rank:
        return number + raw
    rank = f", rank {count(row.rank)}" if row.rank > ROWS - 2 else ""
    return f'<b><span style="color:{palette.text}">{number}{rank}</span></b>{raw}'


def _hover(row: _Row, step: Step, cut: Cut, vocabulary: Vocabulary) -> str:
    lines = [
        f"<b>{token_label(vocabulary.label(row.token_id), longest=40)}</b>",
        f"rank {count(row.rank)}",
        f"probability {markup_free(percent(row.probability))}",
    ]
    if _is_reshaped(step):
        lines.append(f"raw probability {markup_free(percent(row.raw_probability))}")
    if row.rank > cut.size:
        lines.append("below the cut")
    else:
        kept = row.rank <= _kept_of(step, cut)
        lines.append("in the nucleus" if kept else "in the nucleus, dropped by a later setting")
    if row.rank == step.rank:
        lines.append("drawn")
    return "<br>".join(lines)


def _cut_line(step: Step, cut: Cut) -> str:
    """One line under the title: where the cut falls, also when no row shows it."""
    p = f"p = {p_value(cut.p)}" if cut.is_run else f"What if p = {p_value(cut.p)}"
    if cut.is_run and step.kept_size != step.nucleus_size:
        return f"{p}: {later_settings_sentence(step)}"
    if cut.size >= step.reaching_size:
        return f"{p}: no cut, all {count(cut.size)} tokens are kept"
    where = "the cut falls after the first token" if cut.size == 1 else f"the cut falls after rank {count(cut.size)}"
    return f"{p}: {where}"


def _kept_of(step: Step, cut: Cut) -> int:
    """Ranks to colour as kept: those of the nucleus, less those that a later setting is known to have dropped."""
    kept = kept_ranks(step) if cut.is_run else None
    return cut.size if kept is None else kept


def _later_dropped(step: Step, cut: Cut) -> bool:
    return _kept_of(step, cut) < cut.size


def _is_reshaped(step: Step) -> bool:
    return step.head_raw_probabilities is not step.head_probabilities and bool(
        (step.head_raw_probabilities != step.head_probabilities).any()
    )


def _description(step: Step, cut: Cut, rows: list[_Row], vocabulary: Vocabulary) -> str:
    named = [f"{visible(vocabulary.label(row.token_id))} {percent(row.probability)}" for row in rows[:5]]
    sentences = [
        f"Bars of the {len(rows)} tokens shown at step {count(step.position + 1)}, most probable first: "
        + ", ".join(named),
        sentence_case(kept_sentence(cut.size, len(vocabulary), cut.mass)) + f" at p = {p_value(cut.p)}",
        sentence_case(drawn_sentence(step)),
    ]
    if step.kept_size != step.nucleus_size:
        later = sentence_case(later_settings_sentence(step))
        known = kept_ranks(step) is not None
        sentences.append(later if known else f"{later}, not stored which: the colours show the nucleus")
    return ". ".join(sentences) + "."
