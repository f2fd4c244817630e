"""The tree of a run's family and the parting of two runs show where each leaves the other."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from dashboard.figures.family import tree_figure
from dashboard.figures.parting import parting_figure
from tests.figures.factory import make_step, make_trace, make_vocabulary, zipf


@dataclass(frozen=True)
class Run:
    public_id: str
    parent: str | None = None
    branch_position: int | None = None
    output_tokens: int = 20
    status: str = "finished"
    top_p: float = 0.9
    token_ids: tuple[int, ...] = (0, 1)
    is_forced: bool = False


FAMILY = [
    Run("root"),
    Run("late", "root", 12),
    Run("early", "root", 3),
    Run("leaf", "late", 15, token_ids=(2,)),
]


def tree(current: str = "leaf", nodes: list[Run] = FAMILY, labels: tuple[str, ...] = (" a", " b", " c")) -> Any:
    return tree_figure(nodes, current=current, vocabulary=make_vocabulary(3, labels), theme="light").figure


def lanes(figure: Any) -> dict[str, int]:
    """The place of each run; its row reaches a little over it, for its label."""
    [targets] = [trace for trace in figure.data if trace.name == "runs"]
    return {run: round(y + 0.2) for run, y in zip(targets.customdata, targets.y, strict=True)}


def paths(figure: Any, name: str) -> list[list[tuple[float, float]]]:
    """Where each line of one trace begins and where it ends."""
    [drawn] = [trace for trace in figure.data if trace.name == name]
    found: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(drawn.x, drawn.y, strict=True):
        if x is None:
            found.append([])
        else:
            found[-1].append((x, y))
    return [[path[0], path[-1]] for path in found if path]


def test_a_click_anywhere_in_the_row_of_a_run_tells_it() -> None:
    figure = tree()
    [targets] = [trace for trace in figure.data if trace.name == "runs"]
    assert sorted(targets.customdata) == ["early", "late", "leaf", "root"]
    assert targets.base == 0
    assert min(targets.x) >= 20.5
    assert targets.width == 1
    assert targets.unselected.marker.opacity == 1


def test_every_run_has_a_lane_beneath_its_parent_and_late_branches_stand_closer() -> None:
    assert lanes(tree()) == {"root": 0, "late": 1, "leaf": 2, "early": 3}


def test_a_branch_leaves_the_lane_of_its_parent_between_two_steps() -> None:
    assert sorted(paths(tree("root"), "others")) == [
        [(3.5, 0), (20.5, 3)],
        [(12.5, 0), (20.5, 1)],
        [(15.5, 1), (20.5, 2)],
    ]


def test_a_branch_made_at_an_inherited_step_leaves_the_lane_on_which_that_step_stands() -> None:
    nodes = [*FAMILY, Run("back", "leaf", 5), Run("same", "late", 12)]
    figure = tree("back", nodes)
    assert paths(figure, "this run") == [[(5.5, 0), (20.5, lanes(figure)["back"])]]
    assert paths(figure, "inherited") == [[(0.5, 0), (5.5, 0)]]
    assert [(12.5, 0), (20.5, lanes(figure)["same"])] in paths(figure, "others")


def test_no_elbow_crosses_a_lane_in_between() -> None:
    random = Random(7)
    nodes = [Run("0", output_tokens=100)]
    for number in range(1, 40):
        nodes.append(Run(str(number), random.choice(nodes).public_id, random.randrange(90), 100))
    everyone = paths(tree("none of them", nodes), "others")
    assert len(everyone) == 40
    for (x, top), (_, bottom) in everyone:
        for (start, _), (_, place) in everyone:
            assert not top < place < bottom or start >= x


def test_what_the_run_on_the_page_inherits_is_thin_and_its_own_steps_are_strong() -> None:
    figure = tree("leaf")
    assert paths(figure, "this run") == [[(15.5, 1), (20.5, 2)]]
    assert paths(figure, "inherited") == [[(12.5, 0), (15.5, 1)], [(0.5, 0), (12.5, 0)]]
    widths = {trace.name: trace.line.width for trace in figure.data if trace.type == "scatter"}
    assert widths["inherited"] < widths["others"] < widths["this run"]


def test_the_run_on_the_page_is_named_strongly_and_every_other_plainly() -> None:
    texts = {note.y: note.text for note in tree("early").layout.annotations}
    assert [texts[place].startswith("<b>") for place in range(4)] == [False, False, False, True]
    assert texts[2] == "“c”"


def test_a_name_stands_left_of_a_late_elbow_where_it_might_not_fit_at_its_right() -> None:
    notes = {note.y: note for note in tree("root").layout.annotations}
    assert [notes[place].xanchor for place in range(4)] == ["left", "right", "right", "left"]
    assert notes[2].x == 15.5


def test_what_is_unusual_about_a_run_stands_with_its_name() -> None:
    nodes = [Run("root", None, 4), Run("forced", "root", 9, is_forced=True), Run("grows", "root", 6, status="running")]
    texts = [note.text for note in tree("root", nodes).layout.annotations]
    assert [text.partition(" · ")[2] for text in texts] == ["of a deleted run", "forced", "running"]


def test_a_branch_whose_parent_was_deleted_begins_the_tree_with_all_its_steps() -> None:
    figure = tree("orphan", [Run("orphan", None, 7), Run("child", "orphan", 3)])
    assert paths(figure, "this run") == [[(0.5, 0), (20.5, 0)]]
    assert paths(figure, "others") == [[(3.5, 0), (20.5, 1)]]


def test_a_run_without_tokens_has_a_row_that_can_be_clicked_and_says_so() -> None:
    figure = tree("x", [Run("x", output_tokens=0, token_ids=())])
    [targets] = [trace for trace in figure.data if trace.name == "runs"]
    assert targets.x[0] > 0
    assert figure.layout.annotations[0].text == "<b>no token yet</b>"


def test_a_large_family_is_no_taller_than_it_must_be() -> None:
    few, many = ([Run("0"), *(Run(str(i), "0", i % 19) for i in range(1, n))] for n in (12, 60))
    assert tree("0", few).layout.height < 600
    assert tree("0", many).layout.height < 1_600


def test_names_are_never_read_as_markup() -> None:
    figure = tree("root", [Run("root", token_ids=(0, 1, 2))], ("<b>x</b>", "$y$", "&amp;"))
    assert "<b>x" not in figure.layout.annotations[0].text
    assert "$" not in figure.layout.annotations[0].text


def test_the_description_names_every_run_and_where_it_parts() -> None:
    told = tree_figure(FAMILY, current="late", vocabulary=make_vocabulary(3), theme="dark").description
    assert told.count("20 tokens, finished") == 4
    assert "this run, “t0 t1”: parts from its parent at step 13" in told


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
