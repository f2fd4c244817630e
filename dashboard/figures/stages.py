"""The most probable tokens of one step side by side: raw, shaped and final, so that each stage shows what it did."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import plotly.graph_objects as go

from dashboard.figures.canvas import ROOM_FOR_A_LABEL, Drawn, coloured, key_line, new_figure
from dashboard.figures.labels import markup_free, room_for, token_label, visible
from dashboard.figures.palette import PALETTES, Palette, Theme
from dashboard.figures.sentences import count, percent
from dashboard.sampling.settings import KNOB
from dashboard.sampling.stages import StagedToken, Stages
from dashboard.sampling.vocabulary import Vocabulary

_ROW: Final = 25  # pixels
_BAR_WIDTH: Final = 0.7
_NAME_LENGTH: Final = 12  # characters
_BETWEEN: Final = 0.03  # of the width, between two panels
# Room right of the longest bar for its number, as a share of the panel.
_ROOM_FOR_NUMBERS: Final = 1.85
_SHORT: Final = {"no_repeat_ngram_size": "n-gram", "epsilon_cutoff": "epsilon", "eta_cutoff": "eta"}


@dataclass(frozen=True, slots=True)
class _Panel:
    """One distribution.

    values: a probability a token, None where it is not known. before: those of the panel before it, if there is one.
    axis, domain: where it stands, from left to right.
    """

    name: str
    values: list[float | None]
    before: list[float | None] | None
    axis: str
    domain: tuple[float, float]


def stages_figure(stages: Stages, *, position: int, vocabulary: Vocabulary, theme: Theme) -> Drawn:
    """Bars of the same tokens in the raw, the shaped and the final distribution, on one scale.

    A tick on a bar marks where the token stood one panel before. The raw panel is left out where nothing reshaped it.

    Args:
        stages: of the step.
        position: of the step, from 0.
        vocabulary: names the tokens.
        theme: light or dark.
    """
    palette = PALETTES[theme]
    places = _places(stages.tokens)
    panels = _panels(stages)
    figure = new_figure(
        palette,
        f"Step {count(position + 1)}: from the raw to the final distribution",
        [key_line(palette), f"{coloured('│', palette.text)} where the token stood one panel before", ROOM_FOR_A_LABEL],
        height=round(places[-1] * _ROW) + 124,
        bottom=14,
    )
    longest = max(value for panel in panels for value in panel.values if value is not None)
    # A layout made at once is checked once; three axes changed one by one take Plotly longer than all the rest.
    frame = figure.layout.to_plotly_json()
    horizontal = {
        **frame["xaxis"],
        "range": [0, longest * _ROOM_FOR_NUMBERS],
        "showgrid": False,
        "showline": False,
        "showticklabels": False,
        "zeroline": True,
        "zerolinecolor": palette.hairline,
    }
    vertical = {
        **frame["yaxis"],
        "range": [places[-1] + 0.6, 0.4],
        "tickvals": places,
        "ticktext": [_name(token, stages, vocabulary, palette) for token in stages.tokens],
        "tickfont": {"color": palette.text, "size": 13},
        "showgrid": False,
        "showline": False,
    }
    names = [visible(vocabulary.label(token.token_id), _NAME_LENGTH) for token in stages.tokens]
    layout = {
        **frame,
        "margin": {**frame["margin"], "l": room_for(f"{name}◆ " for name in names)},
        **{panel.axis.replace("x", "xaxis"): {**horizontal, "domain": list(panel.domain)} for panel in panels},
        "yaxis": vertical,
        "annotations": [*(_title(panel, palette) for panel in panels), *_gaps(stages, places, palette)],
        "shapes": _cuts(stages, places, palette),
    }
    traces = [trace for panel in panels for trace in _traces(panel, stages, places, vocabulary, palette)]
    return Drawn(go.Figure(traces, layout), _description(stages, position, vocabulary))


def dropped_told(token: StagedToken, *, short: bool = False) -> str:
    """What took a token, in a few words: ``dropped by top-p``; ``by top-p`` where room is short."""
    if token.dropped_by is None:
        return "dropped"
    name = KNOB[token.dropped_by].label.lower()
    return f"by {_SHORT.get(token.dropped_by, name)}" if short else f"dropped by {name}"


def _panels(stages: Stages) -> list[_Panel]:
    raw = [token.raw_probability for token in stages.tokens]
    shaped: list[float | None] = [token.probability for token in stages.tokens]
    distributions = {"Raw": raw, "Shaped": shaped, "Final": [token.final_probability for token in stages.tokens]}
    if raw == shaped:
        del distributions["Shaped"]
    width = (1 - _BETWEEN * (len(distributions) - 1)) / len(distributions)
    panels: list[_Panel] = []
    for number, (name, values) in enumerate(distributions.items()):
        start = number * (width + _BETWEEN)
        before = panels[-1].values if panels else None
        panels.append(_Panel(name, values, before, f"x{number + 1}" if number else "x", (start, start + width)))
    return panels


def _places(tokens: tuple[StagedToken, ...]) -> list[float]:
    """The y of each token, 1 for the topmost row; one place more where ranks between two tokens are left out."""
    places = [1.0]
    for above, below in pairwise(tokens):
        places.append(places[-1] + (1 if below.rank <= above.rank + 1 else 2))
    return places


def _traces(
    panel: _Panel, stages: Stages, places: list[float], vocabulary: Vocabulary, palette: Palette
) -> list[go.Bar | go.Scatter]:
    """The bars of a panel, the ticks on them, and the numbers beside them."""
    tokens = stages.tokens
    before = panel.before or [None] * len(tokens)
    ticks = [(place, value) for place, value in zip(places, before, strict=True) if value]
    bars = go.Bar(
        name=panel.name,
        orientation="h",
        xaxis=panel.axis,
        y=places,
        x=[value or 0 for value in panel.values],
        width=_BAR_WIDTH,
        marker={
            "color": [_colour(token, stages, palette) for token in tokens],
            "line": {"width": 0},
            "cornerradius": 2,
        },
        hovertext=[_hover(token, stages, vocabulary) for token in tokens],
        hoverinfo="text",
    )
    marks = go.Scatter(
        name=f"{panel.name}, before",
        xaxis=panel.axis,
        y=[place for place, _ in ticks],
        x=[value for _, value in ticks],
        mode="markers",
        marker={"symbol": "line-ns", "size": _ROW * _BAR_WIDTH - 3, "line": {"color": palette.text, "width": 1.5}},
        hoverinfo="skip",
    )
    numbers = go.Scatter(
        name=f"{panel.name}, numbers",
        xaxis=panel.axis,
        y=places,
        x=[max(value or 0, other or 0) for value, other in zip(panel.values, before, strict=True)],
        mode="text",
        text=[
            f"\u00a0{_number(token, value, stages, palette, is_final=panel.name == 'Final')}"
            for token, value in zip(tokens, panel.values, strict=True)
        ],
        textposition="middle right",
        textfont={"color": palette.secondary, "size": 12},
        cliponaxis=False,
        hoverinfo="skip",
    )
    return [bars, marks, numbers]


def _title(panel: _Panel, palette: Palette) -> dict[str, Any]:
    return {
        "text": panel.name,
        "x": panel.domain[0],
        "xref": "paper",
        "y": 1,
        "yref": "paper",
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"color": palette.text, "size": 13, "weight": 600},
    }


def _number(token: StagedToken, value: float | None, stages: Stages, palette: Palette, *, is_final: bool) -> str:
    if value is None:
        return "not stored"
    if is_final and token.kept is False:
        return dropped_told(token, short=True)
    number = markup_free(percent(value, padded=True))
    is_drawn = token.token_id == stages.drawn_id
    return f'<b><span style="color:{palette.text}">{number}</span></b>' if is_drawn else number


def _colour(token: StagedToken, stages: Stages, palette: Palette) -> str:
    if token.token_id == stages.drawn_id:
        return palette.drawn
    return palette.dropped if token.kept is False else palette.kept


def _cuts(stages: Stages, places: list[float], palette: Palette) -> list[dict[str, Any]]:
    """The cut as a line, where all that is kept stands above all that is dropped; else none."""
    kept = [place for place, token in zip(places, stages.tokens, strict=True) if token.kept is not False]
    dropped = [place for place, token in zip(places, stages.tokens, strict=True) if token.kept is False]
    if not dropped or not kept or max(kept) > min(dropped):
        return []
    place = (max(kept) + min(dropped)) / 2
    line = {"color": palette.cut, "width": 2}
    return [{"type": "line", "name": "cut", "xref": "paper", "x0": 0, "x1": 1, "y0": place, "y1": place, "line": line}]


def _gaps(stages: Stages, places: list[float], palette: Palette) -> list[dict[str, Any]]:
    """How many ranks are left out between two tokens."""
    left_out = [below.rank - above.rank - 1 for above, below in pairwise(stages.tokens)]
    return [
        {
            "text": f"⋮ {count(ranks)} more",
            "x": 0,
            "xref": "paper",
            "y": place - 1,
            "xanchor": "left",
            "xshift": 6,
            "showarrow": False,
            "font": {"color": palette.secondary, "size": 12},
            "bgcolor": palette.background,
        }
        for ranks, place in zip(left_out, places[1:], strict=True)
        if ranks > 0
    ]


def _name(token: StagedToken, stages: Stages, vocabulary: Vocabulary, palette: Palette) -> str:
    name = token_label(vocabulary.label(token.token_id), _NAME_LENGTH)
    if token.token_id != stages.drawn_id:
        return f"{name} "
    return f"{coloured('◆', palette.drawn)} <b>{name}</b> "


def _hover(token: StagedToken, stages: Stages, vocabulary: Vocabulary) -> str:
    shares = {
        "raw": token.raw_probability,
        "shaped": token.probability,
        "final": token.final_probability,
    }
    lines = [f"<b>{token_label(vocabulary.label(token.token_id), longest=40)}</b>", f"rank {count(token.rank)}"]
    lines += [f"{name} {markup_free(percent(value))}" for name, value in shares.items() if value is not None]
    if token.kept is False:
        lines.append(dropped_told(token))
    if token.token_id == stages.drawn_id:
        lines.append("drawn")
    return "<br>".join(lines)


def _description(stages: Stages, position: int, vocabulary: Vocabulary) -> str:
    def told(token: StagedToken) -> str:
        name = visible(vocabulary.label(token.token_id))
        raw = "unknown" if token.raw_probability is None else percent(token.raw_probability)
        end = "not stored" if token.final_probability is None else percent(token.final_probability)
        if token.kept is False:
            end = dropped_told(token)
        return f"{name} {raw}, {percent(token.probability)}, {end}"

    drawn = next(token for token in stages.tokens if token.token_id == stages.drawn_id)
    named = "; ".join(told(token) for token in stages.tokens[:5])
    return (
        f"Bars of {len(stages.tokens)} tokens in the raw, the shaped and the final distribution of step "
        f"{count(position + 1)}. "
        f"The most probable ones: {named}. The drawn token: {told(drawn)}."
    )
