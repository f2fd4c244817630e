"""The tree of a run's family and the parting of two runs show where each leaves the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from dashboard.figures.family import parting_figure, tree_figure
from dashboard.figures.palette import PALETTES
from tests.figures.factory import make_step, make_trace, make_vocabulary, zipf


@dataclass(frozen=True)
class Run:
    public_id: str
    parent: str | None = None
    branch_position: int | None = None
    output_tokens: int = 20
    top_p: float = 0.9
    token_ids: tuple[int, ...] = (0, 1)


FAMILY = [
    Run("root"),
    Run("late", "root", 12),
    Run("early", "root", 3),
    Run("leaf", "late", 15, token_ids=(2,)),
]


def tree(current: str = "leaf", nodes: list[Run] = FAMILY, labels: tuple[str, ...] = (" a", " b", " c")) -> Any:
    return tree_figure(nodes, current=current, vocabulary=make_vocabulary(3, labels), theme="light").figure


def lines(figure: Any) -> list[Any]:
    return [trace for trace in figure.data if trace.type == "scatter"]


def lanes(figure: Any) -> dict[str, float]:
    [targets] = [trace for trace in figure.data if trace.name == "runs"]
    return dict(zip(targets.customdata, targets.y, strict=True))


def test_a_click_on_a_lane_tells_its_run_from_where_it_begins_to_its_end() -> None:
    [targets] = [trace for trace in tree().data if trace.name == "runs"]
    assert list(targets.customdata) == ["root", "late", "early", "leaf"]
    assert list(targets.base) == [0.5, 12.5, 3.5, 15.5]
    assert [base + length for base, length in zip(targets.base, targets.x, strict=True)] == [20, 20, 20, 20]
    assert targets.unselected.marker.opacity == 1


def test_every_run_has_a_lane_beneath_its_parent_and_late_branches_stand_closer() -> None:
    assert lanes(tree()) == {"root": 0, "late": 1, "leaf": 2, "early": 3}


def test_a_branch_leaves_the_lane_of_its_parent_between_two_steps() -> None:
    elbows = {(line.x[0], line.y[0], line.y[1]) for line in lines(tree()) if len(line.x) == 3}
    assert elbows == {(12.5, 0, 1), (3.5, 0, 3), (15.5, 1, 2)}


def test_the_way_to_the_run_on_the_page_is_strong_up_to_where_it_leaves_each_run() -> None:
    strong = [line for line in lines(tree()) if line.line.color == PALETTES["light"].accent]
    assert sorted((line.x[0], line.x[-1]) for line in strong) == [(0.5, 12), (12.5, 15), (15.5, 20)]


def test_the_run_on_the_page_is_named_strongly_and_every_other_plainly() -> None:
    texts = [note.text for note in tree("early").layout.annotations]
    assert [text.startswith("<b>") for text in texts] == [False, False, True, False]
    assert "“c”, p = 0.9, 20 tokens" in texts[3]


def test_a_branch_whose_parent_was_deleted_is_a_root_of_its_own() -> None:
    figure = tree("orphan", [Run("orphan", None, 7)])
    assert lanes(figure) == {"orphan": 0}
    assert figure.data[0].x[0] == 7.5


def test_a_run_without_tokens_has_a_lane_that_can_be_clicked() -> None:
    [targets] = [t for t in tree("x", [Run("x", output_tokens=0, token_ids=())]).data if t.name == "runs"]
    assert targets.x[0] > 0


def test_names_are_never_read_as_markup() -> None:
    figure = tree("root", [Run("root", token_ids=(0, 1, 2))], ("<b>x</b>", "$y$", "&amp;"))
    assert "<b>x" not in figure.layout.annotations[0].text
    assert "$" not in figure.layout.annotations[0].text


def test_the_description_names_every_run_and_where_it_parts() -> None:
    told = tree_figure(FAMILY, current="late", vocabulary=make_vocabulary(3), theme="dark").description
    assert told.count("a run of 20 tokens") == 3
    assert told.count("this run of 20 tokens, parts at step 13") == 1


@pytest.mark.parametrize("position", [0, 3, 12])
def test_two_runs_are_shown_from_a_little_before_they_part(position: int) -> None:
    parent = make_trace([make_step(zipf(500, 1.0), position=i) for i in range(20)])
    branch = make_trace([make_step(zipf(500, 2.0), drawn=3, position=i) for i in range(14)])
    figure = parting_figure(parent, branch, position, theme="light").figure
    [line] = [shape for shape in figure.layout.shapes if shape.name == "parting"]
    assert line.x0 == line.x1 == position + 1
    first = max(0, position - 8)
    for name, trace in (("parent", parent), ("branch", branch)):
        sizes, surprisals = [drawn for drawn in figure.data if drawn.name == name]
        assert list(sizes.x) == list(range(first + 1, len(trace) + 1))
        assert list(sizes.y) == trace.nucleus_size[first:].tolist()
        assert list(surprisals.y) == trace.surprisal[first:].tolist()
        assert (sizes.yaxis, surprisals.yaxis) == ("y", "y2")
    assert figure.layout.yaxis.type == "log"
    dashes = {drawn.name: drawn.line.dash for drawn in figure.data}
    assert dashes == {"parent": "dot", "branch": "solid"}


def test_the_parting_is_told_in_words() -> None:
    trace = make_trace([make_step([0.5, 0.3, 0.2], position=i) for i in range(5)])
    told = parting_figure(trace, trace, 2, theme="light").description
    assert "part at step 3" in told
    assert f"is {int(trace.nucleus_size[0])} in the branch" in told
