"""The runs of one family as a tree, and two runs from the step where they part."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dashboard.figures.canvas import ROOM_FOR_A_LABEL, SMALL_TEXT_SIZE, Drawn, coloured, new_figure
from dashboard.figures.labels import markup_free, token_label
from dashboard.figures.palette import PALETTES, Palette, Theme
from dashboard.figures.sentences import count, p_value
from dashboard.sampling.trace import Trace
from dashboard.sampling.vocabulary import Vocabulary

_LANE: Final = 42  # pixels
_FRAME: Final = 110
_PARTING_HEIGHT: Final = 400
_STEPS_BEFORE: Final = 8  # shared steps shown before two runs part
_LABEL_LENGTH: Final = 30
_LATE: Final = 0.4  # share of the axis after which a name no longer fits on a phone
_LOWEST: Final = 0.7  # below a nucleus of one


class Node(Protocol):
    """What the tree needs to know of a run; ``history.BranchNode`` is one."""

    @property
    def public_id(self) -> str:
        """Names the run; what a click tells."""

    @property
    def parent(self) -> str | None:
        """The run that it branches from, if that is in the family."""

    @property
    def branch_position(self) -> int | None:
        """The step, from 0, at which it parts from its parent."""

    @property
    def output_tokens(self) -> int:
        """Its length."""

    @property
    def top_p(self) -> float:
        """Its p."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Its first tokens from where it branches off."""


def tree_figure(nodes: Sequence[Node], *, current: str, vocabulary: Vocabulary, theme: Theme) -> Drawn:
    """One lane a run over the steps; a branch leaves the lane of its parent at the step where they part.

    A click anywhere on a lane selects a point whose ``customdata`` is the run's public id.

    Args:
        nodes: a family, every parent before its children; at least one.
        current: public id of the run on the page, drawn strong, with the way that leads to it.
        vocabulary: names the tokens.
        theme: light or dark.
    """
    palette = PALETTES[theme]
    lanes = _lanes(nodes)
    by_id = {node.public_id: node for node in nodes}
    figure = new_figure(
        palette,
        f"The family of this run: {count(len(nodes))} runs",
        [f"{coloured('━', palette.accent)} this run and the way to it\u2002 {coloured('━', palette.secondary)} others"],
        height=_FRAME + _LANE * len(nodes),
        bottom=40,
    )
    way = _way_to(current, by_id)
    # Those on the way last, so that they lie over the others.
    for node in sorted(nodes, key=lambda node: node.public_id in way):
        until = way.get(node.public_id, 0)
        _draw_lane(figure, node, lanes, until, palette)
    longest = max(1, *(node.output_tokens for node in nodes))
    for node in nodes:
        lane, is_current = lanes[node.public_id], node.public_id == current
        _name_lane(figure, node, lane, vocabulary, palette, is_current=is_current, longest=longest)
    figure.add_trace(_targets(nodes, lanes))
    figure.update_xaxes(range=[0, longest + 1], title_text="step", showgrid=False, tickformat=",d", nticks=11)
    figure.update_yaxes(range=[len(nodes) - 0.45, -0.75], showticklabels=False, showgrid=False, showline=False)
    figure.update_layout(barmode="overlay", margin={"l": 12})
    return Drawn(figure, _tree_description(nodes, current, vocabulary))


def _lanes(nodes: Sequence[Node]) -> dict[str, int]:
    """The lane of each run, from the top.

    The branches of a run stand beneath it, those that leave it last first: no elbow crosses a lane in between.
    """
    children: dict[str | None, list[Node]] = {}
    for node in nodes:
        children.setdefault(node.parent, []).append(node)
    lanes: dict[str, int] = {}
    waiting = list(reversed(children.get(None, [])))
    while waiting:
        node = waiting.pop()
        lanes[node.public_id] = len(lanes)
        waiting.extend(sorted(children.get(node.public_id, []), key=lambda child: child.branch_position or 0))
    return lanes


def _way_to(current: str, by_id: Mapping[str, Node]) -> dict[str, int]:
    """The runs that lead to one, and up to which step each is shared with it."""
    way: dict[str, int] = {}
    node, until = by_id.get(current), None
    while node is not None:
        way[node.public_id] = node.output_tokens if until is None else until
        until = node.branch_position or 0
        node = by_id.get(node.parent) if node.parent else None
    return way


def _draw_lane(figure: go.Figure, node: Node, lanes: Mapping[str, int], until: int, palette: Palette) -> None:
    """A run's own steps as a line, with the elbow from its parent; strong up to the step ``until``."""
    y = lanes[node.public_id]
    start = _start(node)
    parts = [(start, float(node.output_tokens), palette.secondary, 1.5)]
    if until > 0:
        parts = [
            (start, float(until), palette.accent, 3.0),
            (float(until), float(node.output_tokens), palette.secondary, 1.5),
        ]
    for number, (low, high, colour, width) in enumerate(parts):
        xs, ys = [low, max(high, low + 0.5)], [float(y), float(y)]
        if number == 0 and node.parent in lanes:
            xs, ys = [low, *xs], [float(lanes[node.parent or ""]), *ys]
        figure.add_trace(go.Scatter(x=xs, y=ys, mode="lines", line={"color": colour, "width": width}, hoverinfo="skip"))


def _start(node: Node) -> float:
    """Where a run's own lane begins on the axis of steps: between the last shared step and its first own one."""
    return 0.5 if node.branch_position is None else node.branch_position + 0.5


def _name_lane(
    figure: go.Figure,
    node: Node,
    lane: int,
    vocabulary: Vocabulary,
    palette: Palette,
    *,
    is_current: bool,
    longest: int,
) -> None:
    """What a run says first, over its lane; tied to the end of the axis where it begins too late to fit."""
    words = f"“{_words(node, vocabulary)}”"
    told = f"<b>{words}</b>" if is_current else words
    begins_late = _start(node) > longest * _LATE
    figure.add_annotation(
        x=longest + 1 if begins_late else _start(node),
        y=lane,
        text=f"{told}, p = {p_value(node.top_p)}, {count(node.output_tokens)} tokens",
        showarrow=False,
        xanchor="right" if begins_late else "left",
        yanchor="bottom",
        xshift=0 if begins_late else 6,
        font={"color": palette.text if is_current else palette.secondary, "size": SMALL_TEXT_SIZE},
        bgcolor=palette.background,
        borderpad=1,
        yshift=1,
    )


def _words(node: Node, vocabulary: Vocabulary) -> str:
    return token_label(vocabulary.decode(node.token_ids).strip(), longest=_LABEL_LENGTH).replace("␣", " ")


def _targets(nodes: Sequence[Node], lanes: Mapping[str, int]) -> go.Bar:
    """Unseen bars over the lanes: lines without markers do not hear a click."""
    return go.Bar(
        name="runs",
        orientation="h",
        base=[_start(node) for node in nodes],
        x=[max(node.output_tokens - _start(node), 2.0) for node in nodes],
        y=[lanes[node.public_id] for node in nodes],
        width=0.95,
        marker={"color": "rgba(0, 0, 0, 0)", "line": {"width": 0}},
        # Plotly fades what is not selected; nothing here is to fade.
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
        customdata=[node.public_id for node in nodes],
        hovertext=[_lane_hover(node) for node in nodes],
        hoverinfo="text",
    )


def _lane_hover(node: Node) -> str:
    start = "from the beginning"
    if node.branch_position is not None:
        start = f"parts at step {count(node.branch_position + 1)}"
    return f"{start}, {count(node.output_tokens)} tokens<br>click to open"


def _tree_description(nodes: Sequence[Node], current: str, vocabulary: Vocabulary) -> str:
    sentences = [f"A tree of {count(len(nodes))} runs over their steps"]
    for node in nodes:
        name = "this run" if node.public_id == current else "a run"
        parts = "begins the tree"
        if node.branch_position is not None:
            parts = f"parts at step {count(node.branch_position + 1)}"
        sentences.append(f"“{_words(node, vocabulary)}”, {name} of {count(node.output_tokens)} tokens, {parts}")
    return ". ".join(sentences) + "."


def parting_figure(parent: Trace, branch: Trace, position: int, *, theme: Theme) -> Drawn:
    """Nucleus size and surprisal of a run and its branch, from a few steps before the one at which they part.

    Args:
        parent: all steps of the run.
        branch: all steps of the branch.
        position: of the first step at which they differ, from 0.
        theme: light or dark.
    """
    palette = PALETTES[theme]
    figure = new_figure(
        palette,
        "Nucleus size and surprisal from where they part",
        [
            f"{coloured('━', palette.accent)} this branch\u2002 {coloured('┅', palette.secondary)} its parent",
            ROOM_FOR_A_LABEL,
        ],
        height=_PARTING_HEIGHT,
        bottom=44,
    )
    first = max(0, position - _STEPS_BEFORE)
    last = max(len(parent), len(branch))
    second_row = figure.layout.yaxis.to_plotly_json()
    figure.update_layout(
        yaxis={"domain": [0.56, 1.0], "anchor": "x"},
        yaxis2={**second_row, "domain": [0.0, 0.44], "anchor": "x"},
    )
    for trace, name, colour, dash in (
        (parent, "parent", palette.secondary, "dot"),
        (branch, "branch", palette.accent, "solid"),
    ):
        line = {"color": colour, "dash": dash, "width": 2}
        for axis, column in (("y", trace.nucleus_size), ("y2", trace.surprisal)):
            figure.add_trace(_over_steps(column, first, name=name, axis=axis, line=line))
    largest = max(int(trace.nucleus_size[first:].max(initial=1)) for trace in (parent, branch))
    top = max(10, 10 ** math.ceil(math.log10(largest * 1.2)))
    figure.update_layout(
        yaxis={
            "type": "log",
            "range": [math.log10(_LOWEST), math.log10(top)],
            "tickvals": [10**i for i in range(7) if 10**i <= top],
            "ticktext": [count(10**i) for i in range(7) if 10**i <= top],
            "title": {"text": "nucleus (log)"},
        },
        yaxis2={"rangemode": "tozero", "title": {"text": "surprisal, bits"}, "nticks": 5},
    )
    figure.update_xaxes(
        range=[first + 0.5, last + 0.5], anchor="y2", title_text="step", showgrid=False, tickformat=",d", nticks=11
    )
    figure.add_shape(
        type="line",
        name="parting",
        x0=position + 1,
        x1=position + 1,
        yref="paper",
        y0=0,
        y1=1,
        line={"color": palette.text, "width": 1, "dash": "dot"},
    )
    figure.add_annotation(
        x=position + 1,
        yref="paper",
        y=1,
        yanchor="bottom",
        xanchor="left" if position - first < (last - first) / 2 else "right",
        text=f"they part at step {count(position + 1)}",
        showarrow=False,
        font={"color": palette.text, "size": SMALL_TEXT_SIZE},
    )
    return Drawn(figure, _parting_description(parent, branch, position))


def _over_steps(column: NDArray[Any], first: int, *, name: str, axis: str, line: dict[str, Any]) -> go.Scatter:
    label = "nucleus size %{y:,}" if axis == "y" else "surprisal %{y:.1f} bits"
    return go.Scatter(
        name=name,
        x=np.arange(first + 1, len(column) + 1),
        y=column[first:],
        yaxis=axis,
        mode="lines+markers",
        line=line,
        marker={"size": 4},
        hovertemplate=f"{markup_free(name)}, step %{{x:,}}<br>{label}<extra></extra>",
    )


def _parting_description(parent: Trace, branch: Trace, position: int) -> str:
    def median(columns: Iterable[Trace]) -> list[str]:
        return [
            count(int(np.median(trace.nucleus_size[position:]))) if len(trace) > position else "none"
            for trace in columns
        ]

    of_branch, of_parent = median((branch, parent))
    return (
        f"Two runs that part at step {count(position + 1)}: from there on the median nucleus size is {of_branch} "
        f"in the branch and {of_parent} in its parent."
    )
