"""The runs of one family as a tree over their steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import plotly.graph_objects as go

from dashboard.figures.canvas import SMALL_TEXT_SIZE, Drawn, coloured, new_figure
from dashboard.figures.labels import SPACE_MARK, markup_free, visible
from dashboard.figures.palette import PALETTES, Palette, Theme, mix
from dashboard.figures.sentences import count, p_value
from dashboard.sampling.vocabulary import Vocabulary

_TOP: Final = 38 + 18
_BOTTOM: Final = 44
# Pixels of a lane: a large family stands closer together.
_LANE: Final = 38
_CLOSE_LANE: Final = 23
_FEW: Final = 20
_LABEL_LENGTH: Final = 20
_LATE: Final = 0.5  # a lane that begins further right than this share of the axis has its label left of its elbow
_TOLD: Final = 12  # runs that the description names one by one
_UNFINISHED: Final = frozenset({"queued", "running", "failed", "interrupted"})

# Half a corner's width as a share of the axis, and its height as a share of a lane.
_CORNER_WIDTH: Final = 0.006
_CORNER_HEIGHT: Final = 0.3
_CORNER_POINTS: Final = 5


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
    def status(self) -> str:
        """Where it stands, in a word."""

    @property
    def top_p(self) -> float:
        """Its p."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Its first tokens from where it branches off."""

    @property
    def is_forced(self) -> bool:
        """Whether its settings had cut the token at which it branches off."""


@dataclass(frozen=True, slots=True)
class _Lane:
    """A run as it is drawn.

    place: its y, 0 at the top. start, end: of its own steps on the axis; half a step before and after them.
    leaves: the lane that its elbow comes from; None for the root.
    """

    node: Node
    place: int
    start: float
    end: float
    leaves: str | None


def tree_figure(nodes: Sequence[Node], *, current: str, vocabulary: Vocabulary, theme: Theme) -> Drawn:
    """One lane a run over the steps; a branch leaves the lane that its shared text stands on, where they part.

    A click anywhere in the row of a run selects a point whose ``customdata`` is the run's public id.

    Args:
        nodes: a family, every parent before its children; at least one.
        current: public id of the run on the page: drawn strong, what it inherits as a thin line on the lanes of others.
        vocabulary: names the tokens.
        theme: light or dark.
    """
    palette = PALETTES[theme]
    lanes = _lanes(nodes)
    pitch = _LANE if len(nodes) <= _FEW else _CLOSE_LANE
    figure = new_figure(
        palette,
        f"The family of this run: {count(len(nodes))} run{'' if len(nodes) == 1 else 's'}",
        [
            f"{coloured('━', palette.accent)} this run\u2002 {coloured('─', palette.accent)} what it inherits\u2002 "
            f"{coloured('━', _other(palette))} others"
        ],
        height=_TOP + _BOTTOM + pitch * len(nodes),
        bottom=_BOTTOM,
    )
    last = max(1.0, *(lane.end for lane in lanes.values()))
    others = [lane for lane in lanes.values() if lane.node.public_id != current]
    figure.add_trace(_lines("others", [_path(lane, lanes, last) for lane in others], _other(palette), 2.5))
    if current in lanes:
        figure.add_trace(_lines("inherited", list(_inherited(lanes[current], lanes, last)), palette.accent, 1.5))
        figure.add_trace(_lines("this run", [_path(lanes[current], lanes, last)], palette.accent, 4.0))
    for lane in lanes.values():
        _name(figure, lane, lane.node.public_id == current, last, vocabulary, palette)
    figure.add_trace(_targets(list(lanes.values()), last, vocabulary))
    figure.update_xaxes(range=[0, last + 0.5], title_text="step", showgrid=False, tickformat=",d", nticks=11)
    figure.update_yaxes(range=[len(nodes) - 0.5, -0.75], showticklabels=False, showgrid=False, showline=False)
    figure.update_layout(barmode="overlay", margin={"l": 12, "r": 12, "t": _TOP})
    return Drawn(figure, _description(lanes, current, vocabulary))


def _other(palette: Palette) -> str:
    """For runs that are not the one on the page; quieter than text."""
    return mix(palette.secondary, palette.background, 0.55)


def _lanes(nodes: Sequence[Node]) -> dict[str, _Lane]:
    """The lane of each run, from the top.

    The branches of a lane stand beneath it, those that leave it last first: no elbow crosses a lane in between.
    """
    by_id = {node.public_id: node for node in nodes}
    leaves = {node.public_id: _leaves(node, by_id) for node in nodes}
    branches: dict[str | None, list[Node]] = {}
    for node in nodes:
        branches.setdefault(leaves[node.public_id], []).append(node)
    lanes: dict[str, _Lane] = {}
    waiting = list(reversed(branches.get(None, [])))
    while waiting:
        node = waiting.pop()
        before = leaves[node.public_id]
        start = 0.5 if before is None else (node.branch_position or 0) + 0.5
        lanes[node.public_id] = _Lane(node, len(lanes), start, max(node.output_tokens + 0.5, start + 0.5), before)
        waiting.extend(sorted(branches.get(node.public_id, []), key=lambda branch: branch.branch_position or 0))
    return lanes


def _leaves(node: Node, by_id: Mapping[str, Node]) -> str | None:
    """The run on whose own steps a branch parts: an ancestor further up if its parent only inherits that step."""
    parent = by_id.get(node.parent or "")
    while parent is not None and (node.branch_position or 0) <= (parent.branch_position or 0):
        further = by_id.get(parent.parent or "")
        if further is None:
            break
        parent = further
    return None if parent is None else parent.public_id


def _path(lane: _Lane, lanes: Mapping[str, _Lane], last: float) -> list[tuple[float, float]]:
    """The points of a lane, with the rounded elbow that leads to it."""
    ends = (lane.end, float(lane.place))
    if lane.leaves is None:
        return [(lane.start, float(lane.place)), ends]
    width, height = min(_CORNER_WIDTH * last, (lane.end - lane.start) / 2), _CORNER_HEIGHT
    corner = [i / (_CORNER_POINTS - 1) for i in range(_CORNER_POINTS)]
    return [
        (lane.start, float(lanes[lane.leaves].place)),
        *((lane.start + width * t * t, lane.place - height * (1 - t) * (1 - t)) for t in corner),
        ends,
    ]


def _inherited(lane: _Lane, lanes: Mapping[str, _Lane], last: float) -> Iterator[list[tuple[float, float]]]:
    """The stretches of other lanes that a run's text begins with, from itself back to the beginning."""
    while lane.leaves is not None:
        until, lane = lane.start, lanes[lane.leaves]
        yield [*_path(lane, lanes, last)[:-1], (until, float(lane.place))]


def _lines(name: str, paths: Sequence[Sequence[tuple[float, float]]], colour: str, width: float) -> go.Scatter:
    # None lifts the pen between two paths.
    points = [point for path in paths for point in (*path, (None, None))]
    return go.Scatter(
        name=name,
        x=[x for x, _ in points],
        y=[y for _, y in points],
        mode="lines",
        line={"color": colour, "width": width, "simplify": False},
        hoverinfo="skip",
    )


def _name(
    figure: go.Figure, lane: _Lane, is_current: bool, last: float, vocabulary: Vocabulary, palette: Palette
) -> None:
    """The first words of a run over its lane, or left of its elbow where they might not fit."""
    is_late = lane.start > _LATE * last
    words = markup_free(_words(lane.node, vocabulary))
    notes = [note for note in _notes(lane.node) if note]
    figure.add_annotation(
        x=lane.start,
        y=lane.place,
        text=" · ".join([f"<b>{words}</b>" if is_current else words, *notes]),
        showarrow=False,
        xanchor="right" if is_late else "left",
        yanchor="bottom",
        xshift=-6 if is_late else 6,
        yshift=1,
        font={"color": palette.text if is_current else palette.secondary, "size": SMALL_TEXT_SIZE},
        bgcolor=palette.background if is_late else None,  # elbows of other lanes may pass there
        borderpad=0,
    )


def _notes(node: Node) -> list[str]:
    """What is unusual about a run, a word each."""
    lost = "of a deleted run" if node.parent is None and node.branch_position is not None else ""
    return [lost, "forced" if node.is_forced else "", node.status if node.status in _UNFINISHED else ""]


def _words(node: Node, vocabulary: Vocabulary) -> str:
    """A run's first words from where it branches off; white space between them as such, the rest visible."""
    text = vocabulary.decode(node.token_ids).strip(" ")
    if not text:
        return "no token yet" if not node.token_ids else visible(vocabulary.decode(node.token_ids))
    shown = visible(text[:_LABEL_LENGTH], longest=2 * _LABEL_LENGTH).replace(SPACE_MARK, " ")
    return f"“{shown}{'…' if len(text) > _LABEL_LENGTH else ''}”"


def _targets(lanes: Sequence[_Lane], last: float, vocabulary: Vocabulary) -> go.Bar:
    """Unseen bars over the rows, labels included: lines without markers do not hear a click."""
    return go.Bar(
        name="runs",
        orientation="h",
        base=0,
        x=[last + 0.5] * len(lanes),
        y=[lane.place - 0.2 for lane in lanes],  # a row reaches over its label
        width=1,
        marker={"color": "rgba(0, 0, 0, 0)", "line": {"width": 0}},
        # Plotly fades what is not selected; nothing here is to fade.
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
        customdata=[lane.node.public_id for lane in lanes],
        hovertext=[_hover(lane.node, vocabulary) for lane in lanes],
        hoverinfo="text",
    )


def _hover(node: Node, vocabulary: Vocabulary) -> str:
    lines = [f"<b>{markup_free(_words(node, vocabulary))}</b>", *_facts(node), "click to open"]
    return "<br>".join(lines)


def _facts(node: Node) -> list[str]:
    start = "from the beginning"
    if node.branch_position is not None:
        whom = "its parent" if node.parent is not None else "a run that was deleted"
        start = f"parts from {whom} at step {count(node.branch_position + 1)}"
    facts = [start, f"p = {p_value(node.top_p)}, {count(node.output_tokens)} tokens, {node.status}"]
    return [*facts, "its first own token was cut, so it was forced"] if node.is_forced else facts


def _description(lanes: Mapping[str, _Lane], current: str, vocabulary: Vocabulary) -> str:
    sentences = [f"A tree of {count(len(lanes))} runs over their steps"]
    for lane in list(lanes.values())[:_TOLD]:
        name = "this run, " if lane.node.public_id == current else ""
        sentences.append(f"{name}{_words(lane.node, vocabulary)}: {', '.join(_facts(lane.node))}")
    if len(lanes) > _TOLD:
        sentences.append(f"{count(len(lanes) - _TOLD)} more")
    return ". ".join(sentences) + "."
