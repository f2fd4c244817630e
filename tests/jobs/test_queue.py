"""Runs wait for their turn, for room and for their model; Stop is obeyed at once."""

from __future__ import annotations

import threading
import time

import pytest

from dashboard.errors import QueueFull
from dashboard.history import History, NewRun
from dashboard.job import Job
from dashboard.jobs import Jobs
from dashboard.sampling.store import ModelStore
from tests.jobs.conftest import MakeJobs
from tests.jobs.tiny import PROMPT, Loader, Tiny, assert_stored, ended, expected, settings, until


def test_stop_ends_a_run_within_half_a_second_and_keeps_what_was_drawn(
    jobs: Jobs, model: Tiny, history: History
) -> None:
    model.model.before = lambda number: time.sleep(0.01)
    job = jobs.submit(PROMPT, settings(80), "pocket")
    until(lambda: len(job.steps) >= 3)
    asked_at = time.monotonic()
    job.stop()
    ended(job)
    assert time.monotonic() - asked_at < 0.5
    assert 3 <= len(job.steps) < 80
    assert_stored(history, job, expected(settings(80))[: len(job.steps)])
    record = history.run(job.run_id or "")
    assert (record.status, record.stop_reason) == ("stopped", "stopped")


def test_a_run_stopped_while_it_waits_ends_without_a_step(jobs: Jobs, model: Tiny, history: History) -> None:
    go_on = threading.Event()
    model.model.before = lambda number: go_on.wait(5)
    first = jobs.submit(PROMPT, settings(2), "pocket")
    second = jobs.submit(PROMPT, settings(2), "pocket")
    assert jobs.ahead_of(second) == 1
    jobs.stop(second)
    assert second.phase == "ended"
    assert len(first.steps) == 0
    go_on.set()
    ended(first)
    assert len(first.steps) == 2
    assert_stored(history, second, [])
    assert history.run(second.run_id or "").status == "stopped"


def test_a_run_stopped_while_it_waits_gives_up_its_place(
    history: History, store: ModelStore, model: Tiny, make_jobs: MakeJobs
) -> None:
    go_on = threading.Event()
    model.model.before = lambda number: go_on.wait(5)
    store.get("pocket")
    jobs = make_jobs(queue_limit=1)
    first = jobs.submit(PROMPT, settings(2), "pocket")
    until(lambda: first.phase == "running")
    second = jobs.submit(PROMPT, settings(2), "pocket")
    with pytest.raises(QueueFull):
        jobs.submit(PROMPT, settings(2), "pocket")
    jobs.stop(second)
    third = jobs.submit(PROMPT, settings(2), "pocket")
    go_on.set()
    assert_stored(history, ended(third), expected(settings(2)))
    assert history.run(second.run_id or "").status == "stopped"
    assert second.steps == []


def test_a_run_that_loses_the_last_place_while_it_is_stored_is_refused_and_stored_as_such(
    history: History, store: ModelStore, model: Tiny, monkeypatch: pytest.MonkeyPatch, make_jobs: MakeJobs
) -> None:
    go_on = threading.Event()
    model.model.before = lambda number: go_on.wait(5)
    store.get("pocket")
    jobs = make_jobs(queue_limit=1)
    first = jobs.submit(PROMPT, settings(2), "pocket")
    until(lambda: first.phase == "running")
    create_run = history.create_run
    quicker: list[Job] = []

    def create_late(run: NewRun) -> str:
        public_id = create_run(run)
        monkeypatch.setattr(history, "create_run", create_run)
        quicker.append(jobs.submit(PROMPT, settings(2), "pocket"))
        return public_id

    monkeypatch.setattr(history, "create_run", create_late)
    with pytest.raises(QueueFull) as caught:
        jobs.submit(PROMPT, settings(2), "pocket")
    go_on.set()
    ended(quicker[0])
    refused = next(row for row in history.page(0, 10).rows if row.status == "failed")
    assert history.run(refused.public_id).error == str(caught.value)


def test_a_run_stopped_while_its_model_loads_ends_at_once(loader: Loader, make_jobs: MakeJobs) -> None:
    go_on = threading.Event()
    loader.before = lambda: go_on.wait(5)
    job = make_jobs().submit(PROMPT, settings(), "pocket")
    until(lambda: job.phase == "loading")
    job.stop()
    until(lambda: job.phase == "ended", 0.5)
    go_on.set()
    assert (job.run_id, job.steps, job.stop_reason, job.error) == (None, [], "stopped", None)


def test_one_worker_computes_runs_in_the_order_of_asking(jobs: Jobs, model: Tiny) -> None:
    go_on = threading.Event()
    model.model.before = lambda number: go_on.wait(5)
    first = jobs.submit(PROMPT, settings(4), "pocket")
    until(lambda: first.phase == "running")
    second = jobs.submit(PROMPT, settings(4), "pocket")
    third = jobs.submit(PROMPT, settings(4), "pocket")
    assert [jobs.ahead_of(job) for job in (first, second, third)] == [0, 1, 2]
    assert second.phase == third.phase == "queued"
    go_on.set()
    starts = [ended(job).started_at or 0.0 for job in (first, second, third)]
    ends = [job.ended_at or 0.0 for job in (first, second, third)]
    assert ends[0] <= starts[1] <= ends[1] <= starts[2]


def test_two_workers_compute_two_runs_at_the_same_time(
    history: History, store: ModelStore, model: Tiny, make_jobs: MakeJobs
) -> None:
    store.get("pocket")
    # Each run's first pass waits for the other's: were they not at the same time, the barrier would break.
    meeting = threading.Barrier(2, timeout=5)
    model.model.before = lambda number: meeting.wait() if number == 0 else None
    both = make_jobs(workers=2)
    first = both.submit(PROMPT, settings(6, seed=1), "pocket")
    second = both.submit(PROMPT, settings(6, seed=2), "pocket")
    assert_stored(history, ended(first), expected(settings(6, seed=1)))
    assert_stored(history, ended(second), expected(settings(6, seed=2)))


def test_a_full_queue_refuses_the_next_run_in_a_sentence(jobs: Jobs, model: Tiny, history: History) -> None:
    go_on = threading.Event()
    model.model.before = lambda number: go_on.wait(5)
    first = jobs.submit(PROMPT, settings(1), "pocket")
    until(lambda: first.phase == "running")
    waiting = [jobs.submit(PROMPT, settings(1), "pocket") for _ in range(2)]
    with pytest.raises(QueueFull, match=r"^2 runs are waiting already, which is the limit: wait for one to end"):
        jobs.submit(PROMPT, settings(1), "pocket")
    assert history.page(0, 10).total == 3, "the refused run is not stored"
    go_on.set()
    for job in waiting:
        ended(job)
    assert ended(jobs.submit(PROMPT, settings(1), "pocket")).error is None


def test_closed_jobs_stop_their_runs_and_end_their_threads(make_jobs: MakeJobs, model: Tiny, history: History) -> None:
    before = set(threading.enumerate())
    jobs = make_jobs(workers=2)
    assert len(set(threading.enumerate()) - before) == 3
    model.model.before = lambda number: time.sleep(0.01)
    running = [jobs.submit(PROMPT, settings(60, seed), "pocket") for seed in range(2)]
    until(lambda: all(len(job.steps) > 1 for job in running))
    waiting = jobs.submit(PROMPT, settings(5), "pocket")
    jobs.close()
    assert not set(threading.enumerate()) - before
    for job in (*running, waiting):
        assert job.phase == "ended"
        assert history.run(job.run_id or "").status == "stopped"
    assert all(len(history.trace(job.run_id or "")) == len(job.steps) > 1 for job in running)
