"""The landscape of a run: every step and every rank in one picture, with what sums each step up beneath it.

The figure does not depend on the chosen step: a line over it marks that (``components.step_marker``), so it is drawn
once for a run and a question, and keeps its zoom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from dashboard.figures.canvas import ROOM_FOR_A_LABEL, SMALL_TEXT_SIZE, Drawn, coloured, new_figure
from dashboard.figures.labels import markup_free, token_label
from dashboard.figures.landscape_cells import Cells, cells_of
from dashboard.figures.palette import PALETTES, Palette, Theme, mix, translucent
from dashboard.figures.sentences import bits, count, p_value, percent
from dashboard.sampling.trace import HEAD_SIZE, Floats, Integers, Trace
from dashboard.sampling.vocabulary import Vocabulary

Row: TypeAlias = tuple[str, float, float, str]
"""Plotly's name of a y axis, the share of the plot where it begins and ends, and what its axis counts."""

_HEIGHT: Final = 900
_BOTTOM: Final = 44
_ROWS: Final[dict[str, Row]] = {
    "rank": ("y", 0.585, 1.0, "rank (log)"),
    "nucleus": ("y2", 0.44, 0.545, "tokens (log)"),
    "mass": ("y3", 0.295, 0.4, "mass"),
    "bits": ("y4", 0.15, 0.255, "bits"),
    "drawn": ("y5", 0.0, 0.11, "rank (log)"),
}
_FIRST_RANK: Final = 0.5  # the upper edge of rank 1
_LEAST_DEPTH: Final = HEAD_SIZE * 1.2
_LEAST_PROBABILITY: Final = 1e-5  # the colour of this and all below is that of the background
_MIDDLE: Final = 0.5
_LEAST_OVERSHOOT: Final = 0.02
_CROWDED: Final = 150  # steps from which dots are smaller
_KEYED: Final = (1.0, 0.1, 0.01, 0.001, 0.0001)  # probabilities whose colour the key tells
_TICKS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000)
_LABELLED: Final = (1, 10, 100, 1_000, 10_000, 100_000)


@dataclass(frozen=True, slots=True)
class CutLine:
    """Where a cut falls at every step.

    name: in the key, e.g. ``p = 0.9``. sizes: (steps,) nucleus sizes. masses: (steps,) NaN where not known.
    """

    name: str
    p: float
    sizes: Integers
    masses: Floats


def landscape_figure(
    trace: Trace, *, cut: CutLine, vocabulary: Vocabulary, theme: Theme, other: CutLine | None = None
) -> Drawn:
    """Ranks of all steps by colour, the cut as a contour, the drawn tokens as a path, on one x axis with their sums.

    Beneath the ranks stand nucleus size, kept mass, entropy with surprisal, and the rank of the drawn token.

    Args:
        trace: at least one step.
        cut: the cut to show: the contour stands between ranks ``size`` and ``size + 1``.
        vocabulary: names the tokens.
        theme: light or dark.
        other: a cut to compare with, dotted.
    """
    palette = PALETTES[theme]
    depth = _depth(trace, cut, other, len(vocabulary))
    figure = new_figure(
        palette,
        "The landscape: every step, every rank",
        [*_key(trace, cut, other, palette), ROOM_FOR_A_LABEL],
        height=_HEIGHT,
        bottom=_BOTTOM,
    )
    steps = np.arange(1, len(trace) + 1)
    _lay_out(figure, len(trace), palette)
    _draw_ranks(figure, cells_of(trace, depth), palette)
    _draw_sizes(figure, trace, cut, other, steps, palette)
    _draw_masses(figure, cut, steps, palette)
    _draw_bits(figure, trace, steps, palette)
    _draw_contours(figure, cut, other, steps, palette)
    _draw_path(figure, trace, cut, vocabulary, steps, palette)
    _name_rows(figure, trace, palette)
    figure.update_layout(yaxis={"range": [math.log10(depth), math.log10(_FIRST_RANK)], **_rank_ticks(depth, _TICKS)})
    return Drawn(figure, _description(trace, cut, other))


def _depth(trace: Trace, cut: CutLine, other: CutLine | None, vocabulary_size: int) -> float:
    """The lowest rank that is shown: below every cut and drawn token, or as deep as the vocabulary is."""
    deepest = max(int(values.max()) for values in (cut.sizes, trace.rank, *([] if other is None else [other.sizes])))
    return min(max(deepest * 1.3, _LEAST_DEPTH), vocabulary_size) + 0.5


def _lay_out(figure: go.Figure, length: int, palette: Palette) -> None:
    """One x axis for all rows, so that zoom and hover are the same in each; a drag zooms the steps."""
    shared = figure.layout.yaxis.to_plotly_json()
    rows: dict[str, Any] = {}
    for axis, low, high, title in _ROWS.values():
        rows["yaxis" + axis[1:]] = {
            **shared,
            "anchor": "x",
            "domain": [low, high],
            "title": {**shared["title"], "text": title},
            "fixedrange": True,
        }
    figure.update_layout(
        rows,
        dragmode="zoom",
        hovermode="x",
        hoversubplots="axis",
        uirevision="landscape",
        bargap=0.1,
        margin={"l": 64},
    )
    figure.update_xaxes(
        range=[0.5, length + 0.5],
        anchor="y5",
        fixedrange=False,
        title_text="step (drag to zoom, double click for all)",
        tickformat=",d",
        nticks=11,
        showgrid=False,
        minallowed=0.5,
        maxallowed=length + 0.5,
        showspikes=True,
        spikemode="across",
        spikesnap="data",
        spikethickness=1,
        spikedash="solid",
        spikecolor=palette.secondary,
    )


def _name_rows(figure: go.Figure, trace: Trace, palette: Palette) -> None:
    """Over each row beneath the ranks, what it shows."""
    shade = mix(palette.kept, palette.background, 0.3)
    later = f"\u2002 {coloured('━', palette.cut)} kept by all settings" if _keeps_less(trace) else ""
    names = {
        "nucleus": f"<b>Nucleus size</b>{later}",
        "mass": f"<b>Kept mass</b>\u2002 {coloured('■', shade)} overshoot, above p",
        "bits": f"{coloured('━', palette.kept)} <b>Entropy</b>\u2002 {coloured('●', palette.drawn)} <b>Surprisal</b>",
        "drawn": "<b>Rank of the drawn token</b>",
    }
    for row, name in names.items():
        figure.add_annotation(
            text=name,
            xref="paper",
            yref="paper",
            x=0,
            y=_ROWS[row][2],
            xanchor="left",
            yanchor="bottom",
            showarrow=False,
            font={"color": palette.secondary, "size": SMALL_TEXT_SIZE},
        )


def _rank_ticks(depth: float, ticks: tuple[int, ...]) -> dict[str, Any]:
    values = [tick for tick in ticks if tick <= depth]
    return {"type": "log", "tickvals": values, "ticktext": [count(tick) for tick in values]}


def _draw_ranks(figure: go.Figure, cells: Cells, palette: Palette) -> None:
    """The probability of every rank as colour, on a log scale; the key beneath the title tells it."""
    figure.add_trace(
        go.Heatmap(
            name="probability",
            x=np.arange(cells.log_probability.shape[1] + 1, dtype=np.float32) + 0.5,
            y=cells.edges.astype(np.float32),
            z=cells.log_probability,
            zmin=math.log10(_LEAST_PROBABILITY),
            zmax=0,
            colorscale=[[0, palette.background], [0.5, _shade(0.5, palette)], [1, _shade(1, palette)]],
            showscale=False,
            hoverinfo="skip",
        )
    )


def _shade(share: float, palette: Palette) -> str:
    """The colour of a probability, by its place on the log scale from _LEAST_PROBABILITY, 0, to certainty, 1."""
    middle, darkest = mix(palette.kept, palette.background, 0.42), mix(palette.text, palette.kept, 0.45)
    if share <= _MIDDLE:
        return mix(middle, palette.background, share / _MIDDLE)
    return mix(darkest, middle, (share - _MIDDLE) / (1 - _MIDDLE))


def _draw_contours(figure: go.Figure, cut: CutLine, other: CutLine | None, steps: Integers, palette: Palette) -> None:
    """A cut stands between the last rank of the nucleus and the next, for the whole width of its step."""
    if other is not None:
        figure.add_trace(_stepped(steps, other.sizes + 0.5, name="other cut", axis="y", palette=palette, main=False))
    figure.add_trace(_stepped(steps, cut.sizes + 0.5, name="cut", axis="y", palette=palette, main=True))


def _stepped(
    steps: Integers, values: NDArray[Any], *, name: str, axis: str, palette: Palette, main: bool
) -> go.Scatter:
    """A line that is level over each step's column, from half a step before the first to half a step after the last."""
    return go.Scatter(
        name=name,
        x=np.concatenate([steps - 0.5, steps[-1:] + 0.5]),
        y=np.concatenate([values, values[-1:]]).astype(np.float32),
        yaxis=axis,
        mode="lines",
        line={
            "color": palette.cut if main else palette.text,
            "width": 1.8 if main else 1.2,
            "shape": "hv",
            "dash": "solid" if main else "dot",
        },
        hoverinfo="skip",
    )


def _draw_path(
    figure: go.Figure, trace: Trace, cut: CutLine, vocabulary: Vocabulary, steps: Integers, palette: Palette
) -> None:
    """The drawn tokens at their ranks: as a path over the ranks, and by themselves in the last row."""
    crowded = len(trace) > _CROWDED
    # Numbers on a scale of two colours: Plotly checks a list of colours one by one.
    is_cut = (trace.rank > cut.sizes).astype(np.uint8)
    filled = [[0, palette.drawn], [1, palette.background]]
    outline = [[0, palette.background], [1, palette.drawn]]
    marker = {
        "color": is_cut,
        "colorscale": filled,
        "cmin": 0,
        "cmax": 1,
        "size": 5 if crowded else 7,
        "line": {"color": is_cut, "colorscale": outline, "cmin": 0, "cmax": 1, "width": 1},
    }
    figure.add_trace(
        go.Scatter(
            name="drawn",
            x=steps,
            y=trace.rank,
            yaxis="y",
            mode="lines+markers",
            line={"color": translucent(palette.drawn, 0.35), "width": 1},
            marker=marker,
            text=_hover(trace, cut, vocabulary),
            hovertemplate="%{text}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            name="rank",
            x=steps,
            y=trace.rank,
            yaxis="y5",
            mode="markers",
            marker=marker,
            hoverinfo="skip",
        )
    )
    deepest = max(10.0, float(trace.rank.max())) * 1.6
    figure.update_layout(yaxis5={"range": [math.log10(deepest), math.log10(0.7)], **_rank_ticks(deepest, _LABELLED)})


def _draw_sizes(
    figure: go.Figure, trace: Trace, cut: CutLine, other: CutLine | None, steps: Integers, palette: Palette
) -> None:
    """Bars of the nucleus size; where later settings kept less of it, that too."""
    figure.add_trace(
        go.Bar(
            name="nucleus size",
            x=steps,
            y=cut.sizes,
            yaxis="y2",
            marker={"color": palette.kept, "line": {"width": 0}},
            hoverinfo="skip",
        )
    )
    if _keeps_less(trace):
        figure.add_trace(_stepped(steps, trace.kept_size, name="kept", axis="y2", palette=palette, main=True))
    if other is not None:
        figure.add_trace(_stepped(steps, other.sizes, name="other size", axis="y2", palette=palette, main=False))
    largest = max(int(cut.sizes.max()), 1 if other is None else int(other.sizes.max()), 10) * 1.6
    figure.update_layout(yaxis2={"range": [math.log10(0.7), math.log10(largest)], **_rank_ticks(largest, _LABELLED)})


def _keeps_less(trace: Trace) -> bool:
    return bool((trace.kept_size != trace.nucleus_size).any())


def _draw_masses(figure: go.Figure, cut: CutLine, steps: Integers, palette: Palette) -> None:
    """The mass of the nucleus; what stands above p is the overshoot."""
    figure.add_trace(_level(steps, cut.p, palette))
    figure.add_trace(
        go.Scatter(
            name="kept mass",
            x=np.concatenate([steps - 0.5, steps[-1:] + 0.5]),
            y=np.concatenate([cut.masses, cut.masses[-1:]]),
            yaxis="y3",
            mode="lines",
            line={"color": palette.kept, "width": 1.2, "shape": "hv"},
            fill="tonexty",
            fillcolor=translucent(palette.kept, 0.3),
            hoverinfo="skip",
        )
    )
    room = max(1 - cut.p, _LEAST_OVERSHOOT) * 0.12
    figure.update_layout(
        yaxis3={"range": [cut.p - room, 1 + room], "tickvals": sorted({cut.p, 1.0}), "tickformat": ".4~%"},
    )


def _level(steps: Integers, p: float, palette: Palette) -> go.Scatter:
    return go.Scatter(
        name="p",
        x=np.array([steps[0] - 0.5, steps[-1] + 0.5]),
        y=np.array([p, p]),
        yaxis="y3",
        mode="lines",
        line={"color": palette.cut, "width": 1.2, "dash": "dash"},
        hoverinfo="skip",
    )


def _draw_bits(figure: go.Figure, trace: Trace, steps: Integers, palette: Palette) -> None:
    """Entropy, what was to be expected, and surprisal, what came."""
    surprisal = np.where(np.isfinite(trace.surprisal), trace.surprisal, np.nan)
    figure.add_trace(
        go.Scatter(
            name="entropy",
            x=steps,
            y=trace.entropy,
            yaxis="y4",
            mode="lines",
            line={"color": palette.kept, "width": 1.5},
            hoverinfo="skip",
        )
    )
    figure.add_trace(
        go.Scatter(
            name="surprisal",
            x=steps,
            y=surprisal,
            yaxis="y4",
            mode="markers",
            marker={"color": palette.drawn, "size": 4},
            hoverinfo="skip",
        )
    )
    figure.update_layout(yaxis4={"rangemode": "tozero", "nticks": 4})


def _hover(trace: Trace, cut: CutLine, vocabulary: Vocabulary) -> list[str]:
    """What the label of each step says."""
    labels = vocabulary.labels(trace.token_ids.tolist())
    columns: list[ArrayLike] = [
        trace.rank, trace.probability, trace.admitting_p, cut.sizes, cut.masses, trace.entropy, trace.surprisal
    ]  # fmt: skip
    rows = zip(labels, *(np.asarray(column).tolist() for column in columns), strict=True)
    texts = []
    for position, (label, rank, probability, admitting, size, mass, entropy, surprisal) in enumerate(rows):
        kept = count(size) if math.isnan(mass) else f"{count(size)}, {percent(mass)} of the mass"
        lines = [
            f"rank {count(rank)}, probability {percent(probability)}",
            f"admitting p {p_value(admitting)}",
            f"nucleus {kept}",
            f"entropy {bits(entropy)}, surprisal {bits(surprisal)}",
        ]
        name = f"<b>{token_label(label, longest=24)}</b>, step {count(position + 1)}"
        texts.append("<br>".join([name, *map(markup_free, lines)]))
    return texts


def _key(trace: Trace, cut: CutLine, other: CutLine | None, palette: Palette) -> list[str]:
    """The key in two lines: the marks of the rows, and the colours of the probabilities."""
    entries = [
        f"{coloured('┃', palette.cut)} cut at {markup_free(cut.name)}",
        f"{coloured('●', palette.drawn)} drawn",
    ]
    if (trace.rank > cut.sizes).any():
        entries.append(f"{coloured('○', palette.drawn)} below the cut")
    if other is not None:
        entries.append(f"{coloured('┊', palette.text)} {markup_free(other.name)}")
    span = -math.log10(_LEAST_PROBABILITY)
    shades = [
        f"{coloured('■', _shade(1 + math.log10(share) / span, palette))} {markup_free(f'{share * 100:g}')}\u00a0%"
        for share in _KEYED
    ]
    return ["\u2002 ".join(entries), "\u2002 ".join(["probability", *shades])]


def _description(trace: Trace, cut: CutLine, other: CutLine | None) -> str:
    def spread(values: NDArray[Any]) -> str:
        least, middle, most = (count(int(f(values))) for f in (np.min, np.median, np.max))
        return f"from {least} to {most}, median {middle}"

    sentences = [
        f"The probability of every rank at each of {count(len(trace))} steps, with the cut and the drawn tokens",
        f"The nucleus size at p = {p_value(cut.p)} runs {spread(cut.sizes)}",
        f"The rank of the drawn token runs {spread(trace.rank)}",
        f"The mean entropy is {bits(float(trace.entropy.mean()))}, the mean surprisal {bits(_mean(trace.surprisal))}",
    ]
    if other is not None:
        sentences.append(f"For comparison, {other.name}: nucleus size {spread(other.sizes)}")
    return ". ".join(sentences) + "."


def _mean(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.inf
