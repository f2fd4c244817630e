"""A branch is stored as the engine draws it after its parent's tokens."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import pytest

from dashboard.errors import ModelError, PromptError, RunNotFound
from dashboard.history import History
from dashboard.job import Branch, Job
from dashboard.jobs import Jobs
from dashboard.sampling.engine import Drawn, generate
from tests.jobs.tiny import PROMPT, Tiny, assert_stored, ended, settings, until
from tests.sampling.reference import run


def branch_of(history: History, job: Job, position: int, token_id: int) -> Branch:
    """The branch of an ended run that has another token at a step."""
    assert job.run_id is not None
    before = history.trace(job.run_id).token_ids[:position].tolist()
    return Branch(job.run_id, position, job.prompt_ids, (*before, token_id))


def test_a_branch_is_stored_as_the_engine_draws_it_after_its_parents_tokens(jobs: Jobs, history: History) -> None:
    parent = ended(jobs.submit(PROMPT, settings(), "pocket"))
    branch = branch_of(history, parent, 5, 42)
    job = ended(jobs.submit(PROMPT, settings(14, seed=9), "pocket", branch))
    record = history.run(job.run_id or "")
    assert (record.parent, record.branch_position) == (parent.run_id, 5)
    assert record.prompt_token_ids == parent.prompt_ids
    assert (record.status, record.output_tokens) == ("finished", 14)
    events = generate(cast(Any, Tiny()), parent.prompt_ids, [settings(14, seed=9)], given_ids=branch.given_ids)
    steps = [event.step for event in events if isinstance(event, Drawn)]
    assert_stored(history, job, steps)
    assert [step.token_id for step in steps][:6] == list(branch.given_ids)
    alone, _ = run(cast(Any, Tiny()), [*parent.prompt_ids, *branch.given_ids], [settings(8, seed=9)])
    assert [step.token_id for step in steps][6:] == [step.token_id for step in alone[0]]


def test_the_speed_of_a_branch_counts_what_it_drew(jobs: Jobs, history: History) -> None:
    parent = ended(jobs.submit(PROMPT, settings(), "pocket"))
    job = ended(jobs.submit(PROMPT, settings(8), "pocket", branch_of(history, parent, 5, 42)))
    assert job.drawing_at is not None
    assert job.ended_at is not None
    assert job.tokens_per_second == pytest.approx(2 / (job.ended_at - job.drawing_at))
    only_given = ended(jobs.submit(PROMPT, settings(6), "pocket", branch_of(history, parent, 5, 42)))
    assert only_given.tokens_per_second is None
    assert len(only_given.steps) == 6


def test_a_stopped_branch_keeps_its_steps(jobs: Jobs, history: History, model: Tiny) -> None:
    parent = ended(jobs.submit(PROMPT, settings(), "pocket"))
    branch = branch_of(history, parent, 5, 42)
    model.model.before = lambda number: time.sleep(0.01)
    job = jobs.submit(PROMPT, settings(60), "pocket", branch)
    until(lambda: len(job.steps) > len(branch.given_ids))
    jobs.stop(job)
    ended(job)
    record = history.run(job.run_id or "")
    assert (record.status, record.parent, record.branch_position) == ("stopped", parent.run_id, 5)
    assert record.output_tokens == len(job.steps) > 6


def test_a_branch_of_a_run_that_was_deleted_is_refused_before_anything_is_queued(jobs: Jobs, history: History) -> None:
    parent = ended(jobs.submit(PROMPT, settings(), "pocket"))
    branch = branch_of(history, parent, 5, 42)
    history.delete_run(branch.parent)
    with pytest.raises(RunNotFound):
        jobs.submit(PROMPT, settings(), "pocket", branch)
    assert history.page(0, 5).total == 0


def test_a_branch_may_fill_the_context_but_not_exceed_it(jobs: Jobs, history: History) -> None:
    parent = ended(jobs.submit(PROMPT, settings(), "pocket"))
    assert parent.run_id is not None
    room = 96 - len(parent.prompt_ids)
    full = ended(
        jobs.submit(PROMPT, settings(200), "pocket", Branch(parent.run_id, room - 1, parent.prompt_ids, (1,) * room))
    )
    assert (len(full.steps), full.stop_reason, full.error) == (room, "context", None)
    with pytest.raises(PromptError, match="at most 96"):
        jobs.submit(PROMPT, settings(200), "pocket", Branch(parent.run_id, room, parent.prompt_ids, (1,) * (room + 1)))


def test_the_time_spent_on_given_tokens_does_not_slow_down_what_is_foretold(
    jobs: Jobs, history: History, model: Tiny
) -> None:
    parent = ended(jobs.submit(PROMPT, settings(), "pocket"))
    branch = branch_of(history, parent, 5, 42)
    begun = model.model.passes
    go_on = threading.Event()

    # The prompt and the given tokens take 0.4 s together, every token after them no time at all.
    def slow(number: int) -> None:
        if number < begun + 2:
            time.sleep(0.2)
        if number == begun + 8:
            go_on.wait(5)

    model.model.before = slow
    job = jobs.submit(PROMPT, settings(60), "pocket", branch)
    until(lambda: len(job.steps) > len(branch.given_ids))
    assert job.seconds >= 0.4
    assert job.seconds_left is not None
    assert job.seconds_left < 5, "by the speed since the beginning it would be more than 20 s"
    go_on.set()
    ended(job)


def test_a_branch_of_what_other_weights_wrote_is_refused(jobs: Jobs, history: History, model: Tiny) -> None:
    parent = ended(jobs.submit(PROMPT, settings(), "pocket"))
    branch = branch_of(history, parent, 5, 42)
    model.fingerprint = "e" * 64
    with pytest.raises(ModelError, match="Tiny has other weights now"):
        jobs.submit(PROMPT, settings(), "pocket", branch)
    assert history.page(0, 5).total == 1
