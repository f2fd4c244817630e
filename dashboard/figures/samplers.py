"""Seven samplers side by side: where each of them cuts the distribution of one step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import plotly.graph_objects as go

from dashboard.figures.canvas import Drawn, coloured, key_line, log_axis, new_figure
from dashboard.figures.cut import mass_curve
from dashboard.figures.labels import markup_free, visible
from dashboard.figures.palette import PALETTES, Palette, Theme, translucent
from dashboard.figures.sentences import count, percent
from dashboard.sampling.samplers import SAMPLER, Kept
from dashboard.sampling.trace import Floats, Step
from dashboard.sampling.vocabulary import Vocabulary

NEEDS_THE_MODEL: Final = "needs the model"

# Pixels of the parts of the first figure, from top to bottom.
_CURVE: Final = 220
_GAP: Final = 14
_LANE: Final = 40
_BOTTOM: Final = 44
_LINES: Final = 2  # beneath the title
_TOP: Final = 38 + 18 * _LINES
# Within a lane, from 0 at its top to 1: its words, and its bar beneath.
_WORDS_AT: Final = 0.3
_BAR_AT: Final = 0.75
_BAR: Final = 0.26
_TRACK: Final = 0.08

_FIRST_RANK: Final = 0.8  # left end of the axis; rank 1 itself stays clear of the frame
# Means over fewer ranks than this share of them would show the rounding of the size curve.
_LEAST_STRETCH: Final = 1.15
# What is left of the mass below this is float32's rounding, not the probability of tokens.
_LEAST_REST: Final = 1e-5
_POWERS: Final = {0: "100 %", -1: "10 %", -2: "1 %", -3: "0.1 %", -4: "0.01 %", -6: "10⁻⁴ %", -8: "10⁻⁶ %"}
_LOWEST_PROBABILITY: Final = 1e-9


def samplers_figure(
    step: Step, values: Mapping[str, float], kept: Mapping[str, Kept | None], *, vocabulary: Vocabulary, theme: Theme
) -> Drawn:
    """Probability by rank over the whole vocabulary, and beneath it, on the same axis, what each sampler keeps.

    Args:
        step: the step; its shaped distribution is drawn.
        values: the samplers, by name, with their values; one lane each, in this order.
        kept: what each of them keeps, by name; None where the model is needed to tell.
        vocabulary: names the tokens.
        theme: light or dark.
    """
    palette = PALETTES[theme]
    lanes = _LANE * len(values)
    plot = _CURVE + _GAP + lanes
    figure = new_figure(
        palette,
        f"Step {count(step.position + 1)}: {len(values)} samplers, one distribution",
        [key_line(palette), markup_free(extremes_sentence(kept))],
        height=_TOP + plot + _BOTTOM,
        bottom=_BOTTOM,
    )
    last_rank = len(vocabulary) * 1.15
    figure.update_xaxes(
        **log_axis(_FIRST_RANK, last_rank),
        title_text="rank (log)",
        anchor="y2",
    )
    _draw_curve(figure, step, vocabulary, palette, 1 - _CURVE / plot)
    frame = {"fixedrange": True, "showgrid": False, "zeroline": False, "showticklabels": False}
    figure.update_layout(yaxis2={"domain": [0, lanes / plot], "range": [len(values), 0], "anchor": "x", **frame})
    told = [lane for lane, name in enumerate(values) if kept[name] is not None]
    figure.add_trace(_track(told, last_rank, palette))
    _draw_drawn_rank(figure, step, palette)
    for lane, (name, value) in enumerate(values.items()):
        _draw_lane(figure, lane, name, value, kept[name], step, vocabulary, palette)
    figure.update_layout(barmode="overlay", margin={"t": _TOP})
    return Drawn(figure, _description(step, values, kept, vocabulary))


def probability_curve(step: Step, vocabulary_size: int) -> tuple[Floats, Floats]:
    """(points,) ranks and (points,) probabilities of the shaped distribution; a level stretch has two points.

    Exact for the ranks of the head. Below it stands the mean between two points of the size curve, which is not stored
    where less mass is left than float32 tells from none.
    """
    head = step.head_probabilities.astype(np.float64)
    head = head[head > 0]
    ranks, masses = list(np.arange(1.0, len(head) + 1)), list(head)
    before, mass = len(head), float(head.sum())
    points = [(int(rank), float(share) * step.reaching_mass) for rank, share in zip(*mass_curve(step), strict=True)]
    for rank, up_to in [*points, (vocabulary_size, 1.0)]:
        is_last = rank == vocabulary_size
        if rank < before * _LEAST_STRETCH and not is_last:
            continue
        if rank > before and up_to - mass > _LEAST_REST:
            # A mean of what ranks lower cannot be more probable.
            mean = min(masses[-1], (up_to - mass) / (rank - before))
            ranks += [before + 1, rank]
            masses += [mean, mean]
            before, mass = rank, up_to
    return np.array(ranks), np.array(masses)


def _draw_curve(figure: go.Figure, step: Step, vocabulary: Vocabulary, palette: Palette, from_: float) -> None:
    """The curve in the upper part of the plot, which begins at ``from_``, with the drawn token on it."""
    ranks, probabilities = probability_curve(step, len(vocabulary))
    lowest = max(_LOWEST_PROBABILITY, min(float(probabilities.min()), step.probability or 1.0))
    figure.update_yaxes(
        domain=[from_, 1],
        type="log",
        range=[math.log10(lowest) - 0.4, 0.25],
        tickvals=[10.0**power for power in _POWERS],
        ticktext=list(_POWERS.values()),
        title_text="probability (log)",
    )
    named = [visible(label) for label in vocabulary.labels(step.head_ids[: len(probabilities)].tolist())]
    hover = [
        (f"<b>{markup_free(named[i])}</b><br>" if i < len(named) else "")
        + f"rank {count(int(rank))}<br>probability {markup_free(percent(float(probability)))}"
        + ("" if i < len(named) else ", mean around it")
        for i, (rank, probability) in enumerate(zip(ranks, probabilities, strict=True))
    ]
    figure.add_trace(
        go.Scatter(
            name="probability",
            x=ranks.tolist(),
            y=[float(f"{probability:.4g}") for probability in probabilities],
            mode="lines",
            line={"color": palette.secondary, "width": 2},
            hovertext=hover,
            hoverinfo="text",
        )
    )
    label = markup_free(visible(vocabulary.label(step.token_id)))
    told = f"rank {count(step.rank)}<br>probability {markup_free(percent(step.probability))}"
    figure.add_trace(
        go.Scatter(
            name="drawn",
            x=[step.rank],
            y=[max(step.probability, lowest)],
            mode="markers",
            marker={
                "symbol": "diamond",
                "size": 13,
                "color": palette.drawn,
                "line": {"color": palette.background, "width": 2},
            },
            hovertext=[f"<b>{label}</b>, drawn<br>{told}"],
            hoverinfo="text",
            cliponaxis=False,
        )
    )


def _draw_drawn_rank(figure: go.Figure, step: Step, palette: Palette) -> None:
    """A line from the drawn token through all lanes: who would have allowed it."""
    figure.add_shape(
        type="line",
        name="drawn",
        yref="paper",
        x0=step.rank,
        x1=step.rank,
        y0=0,
        y1=1,
        line={"color": palette.drawn, "width": 1.5, "dash": "dot"},
    )


def _track(lanes: Sequence[int], last_rank: float, palette: Palette) -> go.Bar:
    """The whole vocabulary as a thin line in these lanes: what is not kept is dropped."""
    return go.Bar(
        name="vocabulary",
        orientation="h",
        y=[lane + _BAR_AT for lane in lanes],
        base=[_FIRST_RANK] * len(lanes),
        x=[last_rank - _FIRST_RANK] * len(lanes),
        width=_TRACK,
        marker={"color": palette.dropped, "line": {"width": 0}},
        hoverinfo="skip",
        yaxis="y2",
    )


def _draw_lane(
    figure: go.Figure,
    lane: int,
    name: str,
    value: float,
    kept: Kept | None,
    step: Step,
    vocabulary: Vocabulary,
    palette: Palette,
) -> None:
    """One sampler: its name and numbers, and under them a bar from its first to its last rank with its cuts."""
    told = SAMPLER[name].told(value)
    figure.add_annotation(**lane_words(told, kept_words(kept), palette), yref="y2", y=lane + _WORDS_AT)
    if kept is None:
        return
    # Cuts stand between two ranks, as everywhere; nothing stands before the first.
    start = kept.first_rank - 0.5 if kept.first_rank > 1 else _FIRST_RANK
    end = kept.last_rank + 0.5
    hover = "<br>".join([f"<b>{told}</b>", *(markup_free(line) for line in _hover_lines(kept, vocabulary))])
    figure.add_trace(
        go.Bar(
            name=name,
            orientation="h",
            y=[lane + _BAR_AT],
            base=[start],
            x=[end - start],
            width=_BAR,
            marker={"color": palette.kept, "line": {"width": 0}},
            hovertext=[hover],
            hoverinfo="text",
            yaxis="y2",
        )
    )
    cuts = [start] if kept.first_rank > 1 else []
    if kept.last_rank < len(vocabulary):
        cuts.append(end)
    figure.add_trace(
        go.Scatter(
            name=f"{name} cut",
            x=cuts,
            y=[lane + _BAR_AT] * len(cuts),
            mode="markers",
            marker={"symbol": "line-ns", "size": 16, "line": {"color": palette.cut, "width": 3}},
            hovertext=[hover] * len(cuts),
            hoverinfo="text",
            yaxis="y2",
        )
    )


def lane_words(told: str, numbers: str, palette: Palette) -> dict[str, object]:
    """An annotation at the left of the plot, legible over lines: a sampler's name, and its numbers after it."""
    return {
        "xref": "paper",
        "x": 0,
        "xanchor": "left",
        "text": f"<b>{coloured(told, palette.text)}</b>\u2002 {markup_free(numbers)}",
        "showarrow": False,
        "font": {"color": palette.secondary, "size": 13},
        "bgcolor": translucent(palette.background, 0.8),
        "borderpad": 1,
    }


def kept_words(kept: Kept | None) -> str:
    """``12 tokens, 63.0 %``; without the mass where it is not known, and without tokens where they are not."""
    if kept is None:
        return NEEDS_THE_MODEL
    tokens = _tokens(kept.size)
    return tokens if kept.mass is None else f"{tokens}, {percent(kept.mass)}"


def extremes_sentence(kept: Mapping[str, Kept | None]) -> str:
    """Which samplers keep the fewest and the most tokens of a step: ``From 4 tokens (min-p) to 351 (top-p)``."""
    known = [one for one in kept.values() if one is not None]
    if not known:
        return "None can be told without the model"
    fewest, most = min(known, key=lambda one: one.size), max(known, key=lambda one: one.size)
    of_which = "" if len(known) == len(kept) else f", of {len(known)} known"
    if fewest.size == most.size:
        return f"All keep {_tokens(most.size)}{of_which}"
    names = [SAMPLER[one.sampler].knob.label.lower() for one in (fewest, most)]
    return f"From {_tokens(fewest.size)} ({names[0]}) to {count(most.size)} ({names[1]}){of_which}"


def _tokens(size: int) -> str:
    return "1 token" if size == 1 else f"{count(size)} tokens"


def _hover_lines(kept: Kept | None, vocabulary: Vocabulary) -> list[str]:
    if kept is None:
        return [NEEDS_THE_MODEL]
    lines = [f"{kept_words(kept)}{'' if kept.mass is None else ' of the mass'}"]
    if kept.first_rank > 1:
        lines.append(f"ranks {count(kept.first_rank)} to {count(kept.last_rank)}")
    if kept.last is not None:
        lines.append(f"least likely still allowed: “{visible(vocabulary.label(kept.last.token_id))}”")
        lines.append(f"at rank {count(kept.last_rank)}, probability {percent(kept.last.probability)}")
    return lines


def _description(
    step: Step, values: Mapping[str, float], kept: Mapping[str, Kept | None], vocabulary: Vocabulary
) -> str:
    sentences = [
        f"Probability by rank at step {count(step.position + 1)}, and what each sampler alone would keep",
        *(
            f"{SAMPLER[name].told(value)}: {', '.join(_hover_lines(kept[name], vocabulary))}"
            for name, value in values.items()
        ),
        f"“{visible(vocabulary.label(step.token_id))}” was drawn at rank {count(step.rank)}",
    ]
    return ". ".join(sentences) + "."
