"""A branch knows its parent, and a family is found from any of its runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from dashboard.errors import RunNotFound
from dashboard.history import History
from tests.history.samples import sample_run, sample_steps


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(f"sqlite:///{tmp_path / 'history.db'}")


def store(history: History, steps: int = 12, **changes: object) -> str:
    run_id = history.create_run(sample_run(**changes))
    history.start_run(run_id)
    history.append_steps(run_id, sample_steps(steps), "text")
    history.finish_run(run_id, status="finished", stop_reason="length", output="text", seconds=2.0)
    return run_id


def test_a_run_alone_is_its_own_family(history: History) -> None:
    run_id = store(history)
    [node] = history.family(run_id)
    assert (node.public_id, node.parent, node.branch_position, node.output_tokens) == (run_id, None, None, 12)
    assert node.token_ids == tuple(step.token_id for step in sample_steps(8))


def test_the_whole_family_is_found_from_any_of_its_runs_parents_first(history: History) -> None:
    root = store(history)
    child = store(history, parent=root, branch_position=4)
    other = store(history, parent=root, branch_position=9)
    grandchild = store(history, parent=child, branch_position=6)
    store(history)
    for run_id in (root, child, other, grandchild):
        assert [node.public_id for node in history.family(run_id)] == [root, child, other, grandchild]
    nodes = {node.public_id: node for node in history.family(root)}
    assert (nodes[grandchild].parent, nodes[grandchild].branch_position) == (child, 6)
    assert nodes[other].token_ids == tuple(step.token_id for step in sample_steps(3, start=9))


def test_a_branch_whose_parent_is_deleted_stays_and_says_where_it_parted(history: History) -> None:
    root = store(history)
    child = store(history, parent=root, branch_position=4)
    history.delete_run(root)
    [node] = history.family(child)
    assert (node.parent, node.branch_position) == (None, 4)
    assert history.run(child).parent is None


def test_the_speed_of_a_branch_is_that_of_its_drawn_tokens(history: History) -> None:
    root = store(history)
    assert history.run(root).tokens_per_second == 6.0
    assert history.run(store(history, parent=root, branch_position=9)).tokens_per_second == 1.0
    assert history.run(store(history, steps=2, parent=root, branch_position=9)).tokens_per_second == 0.0


def test_a_large_family_is_told_up_to_a_limit(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.history.branches.MOST_RUNS", 5)
    root = history.create_run(sample_run())
    for position in range(7):
        history.create_run(sample_run(parent=root, branch_position=position))
    nodes = history.family(root)
    assert len(nodes) == 5
    assert [node.branch_position for node in nodes] == [None, 0, 1, 2, 3]


def test_the_run_asked_for_is_told_however_large_its_family_is(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.history.branches.MOST_RUNS", 5)
    root = history.create_run(sample_run())
    branches = [history.create_run(sample_run(parent=root, branch_position=position)) for position in range(7)]
    last = history.create_run(sample_run(parent=branches[6], branch_position=8))
    nodes = history.family(last)
    assert [node.public_id for node in nodes] == [root, *branches[:2], branches[6], last]


def test_a_branch_is_forced_if_its_settings_had_cut_its_first_token(history: History) -> None:
    root = store(history)
    forced = history.create_run(sample_run(parent=root, branch_position=2))
    steps = [replace(step, final_probability=0.0) if step.position == 2 else step for step in sample_steps(4)]
    history.append_steps(forced, steps, "text")
    kept = store(history, parent=root, branch_position=2)
    empty = history.create_run(sample_run(parent=root, branch_position=2))
    by_id = {node.public_id: node for node in history.family(root)}
    assert [by_id[run_id].is_forced for run_id in (root, forced, kept, empty)] == [False, True, False, False]


def test_the_speed_of_an_interrupted_branch_is_that_of_its_drawn_tokens(history: History) -> None:
    branch = history.create_run(sample_run(parent=store(history), branch_position=9))
    history.start_run(branch)
    history.append_steps(branch, sample_steps(12), "text")
    history.mark_interrupted(timedelta(seconds=-1))
    record = history.run(branch)
    assert record.seconds
    assert record.tokens_per_second == pytest.approx(2 / record.seconds)


def test_an_unknown_run_has_no_family(history: History) -> None:
    with pytest.raises(RunNotFound):
        history.family("nosuchrun")
