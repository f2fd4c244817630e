"""What is stored is what was drawn, whatever is locked, full, failing or killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dashboard import jobs as jobs_module
from dashboard.config import REPOSITORY
from dashboard.errors import HistoryBusy, HistoryFull
from dashboard.history import History
from dashboard.jobs import Jobs
from dashboard.sampling.store import ModelStore
from dashboard.sampling.trace import Step
from tests.history.samples import assert_same_step
from tests.jobs.conftest import MakeJobs
from tests.jobs.tiny import PROMPT, Refusing, Tiny, assert_stored, ended, expected, settings, until


@pytest.mark.parametrize("error", [HistoryFull, HistoryBusy])
def test_a_history_that_recovers_has_every_step_once(
    jobs: Jobs,
    history: Refusing,
    model: Tiny,
    monkeypatch: pytest.MonkeyPatch,
    error: type[HistoryBusy | HistoryFull],
) -> None:
    monkeypatch.setattr(jobs_module, "_FLUSH_SECONDS", 0.0)
    go_on = threading.Event()
    model.model.before = lambda number: go_on.wait(5) if number == 6 else None
    history.error, history.refusals = error, 4
    job = jobs.submit(PROMPT, settings(12), "pocket")
    until(lambda: model.model.passes == 6 and len(job.steps) == 6)
    assert history.refused == 4
    assert job.unsaved is None, "the fifth batch was stored"
    history.refusals = 1
    go_on.set()
    assert_stored(history, ended(job), expected(settings(12)))
    assert (job.unsaved, job.error) == (None, None)
    assert history.run(job.run_id or "").status == "finished"


def test_a_run_says_that_its_steps_are_not_stored_yet(
    jobs: Jobs, history: Refusing, model: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "_FLUSH_SECONDS", 0.0)
    go_on = threading.Event()
    model.model.before = lambda number: go_on.wait(5) if number == 3 else None
    history.refusals = 10**6
    job = jobs.submit(PROMPT, settings(6), "pocket")
    until(lambda: history.refused == 3)
    until(lambda: job.unsaved is not None)
    assert job.unsaved == "The disk is full: make room."
    assert len(history.trace(job.run_id or "")) == 0
    history.refusals = 0
    go_on.set()
    assert_stored(history, ended(job), expected(settings(6)))
    assert job.unsaved is None


def test_a_history_that_never_recovers_leaves_the_steps_in_memory_with_its_sentence(
    jobs: Jobs, history: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "_FLUSH_SECONDS", 0.01)
    history.refusals = 10**6
    job = ended(jobs.submit(PROMPT, settings(6), "pocket"))
    assert job.unsaved == "The disk is full: make room."
    assert [step.token_id for step in job.steps] == [step.token_id for step in expected(settings(6))]
    assert job.stop_reason == "length"
    assert history.run(job.run_id or "").status == "running", "a run is not called finished while its steps are missing"


@pytest.mark.parametrize("error", [HistoryFull, HistoryBusy])
def test_the_end_of_a_run_is_stored_once_the_history_recovers(
    jobs: Jobs, history: Refusing, monkeypatch: pytest.MonkeyPatch, error: type[HistoryBusy | HistoryFull]
) -> None:
    monkeypatch.setattr(jobs_module, "_FLUSH_SECONDS", 0.01)
    really = history.finish_run
    failures = [error("Locked."), error("Locked.")]

    def finish(public_id: str, **values: Any) -> None:
        if failures:
            raise failures.pop()
        really(public_id, **values)

    monkeypatch.setattr(history, "finish_run", finish)
    job = ended(jobs.submit(PROMPT, settings(6), "pocket"))
    assert_stored(history, job, expected(settings(6)))
    assert history.run(job.run_id or "").status == "finished"
    assert job.unsaved is None


def test_an_unforeseen_failure_is_told_and_keeps_the_steps(jobs: Jobs, model: Tiny, history: History) -> None:
    def fail(number: int) -> None:
        if number == 4:
            raise ZeroDivisionError("in the engine")

    model.model.before = fail
    job = ended(jobs.submit(PROMPT, settings(12), "pocket"))
    assert job.error is not None
    assert "not foreseen" in job.error
    assert_stored(history, job, expected(settings(12))[:4])
    record = history.run(job.run_id or "")
    assert (record.status, record.stop_reason, record.error) == ("failed", "error", job.error)
    assert record.measures is not None
    model.model.before = lambda number: None
    assert ended(jobs.submit(PROMPT, settings(2), "pocket")).error is None, "the worker lives on"


def test_an_unforeseen_failure_of_the_history_ends_its_run_alone(
    jobs: Jobs, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(public_id: str, steps: Sequence[Step], output: str) -> None:
        raise ZeroDivisionError("in the history")

    with monkeypatch.context() as broken:
        broken.setattr(history, "append_steps", fail)
        job = ended(jobs.submit(PROMPT, settings(4), "pocket"))
    assert job.error is not None
    assert job.unsaved is not None
    assert len(job.steps) == 4
    assert_stored(history, ended(jobs.submit(PROMPT, settings(4), "pocket")), expected(settings(4)))


def test_a_run_deleted_while_it_grows_ends_with_a_sentence(
    jobs: Jobs, model: Tiny, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "_FLUSH_SECONDS", 0.0)
    go_on = threading.Event()
    model.model.before = lambda number: go_on.wait(5) if number == 2 else None
    job = jobs.submit(PROMPT, settings(12), "pocket")
    until(lambda: job.stored == 2)
    history.delete_run(job.run_id or "")
    go_on.set()
    ended(job)
    assert job.error is not None
    assert ended(jobs.submit(PROMPT, settings(2), "pocket")).error is None


def test_a_run_that_waits_gives_signs_of_life(
    history: History, store: ModelStore, model: Tiny, monkeypatch: pytest.MonkeyPatch, make_jobs: MakeJobs
) -> None:
    monkeypatch.setattr(jobs_module, "_HEARTBEAT_SECONDS", 0.02)
    store.get("pocket")
    runs = make_jobs()
    go_on = threading.Event()
    model.model.before = lambda number: go_on.wait(10)
    first = runs.submit(PROMPT, settings(1), "pocket")
    waiting = runs.submit(PROMPT, settings(1), "pocket")

    def age() -> timedelta:
        record = history.run(waiting.run_id or "")
        assert record.heartbeat_at is not None
        return record.heartbeat_at - record.created_at

    silence = timedelta(seconds=0.6)
    until(lambda: age() > silence)
    assert history.mark_interrupted(silence) == 0
    assert history.run(waiting.run_id or "").status == "queued"
    go_on.set()
    ended(first)
    assert ended(waiting).error is None


_CHILD = """
import sys, time
from dashboard import jobs
from dashboard.history import History
from dashboard.sampling.store import ModelStore
from tests.jobs.tiny import CONFIG, PROMPT, Loader, Tiny, settings

jobs._FLUSH_SECONDS = 0.05
model = Tiny()
model.model.before = lambda number: time.sleep(0.02)
store = ModelStore(CONFIG, loader=Loader(model))
store.get("pocket")
job = jobs.Jobs(History(sys.argv[1]), store).submit(PROMPT, settings(80), "pocket")
print(job.run_id, flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_a_run_that_can_be_read(history: History, tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, f"sqlite:///{tmp_path / 'history.db'}"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    with child:
        assert child.stdout is not None
        try:
            run_id = child.stdout.readline().strip()
            until(lambda: len(history.trace(run_id)) >= 3)
        finally:
            child.send_signal(signal.SIGKILL)
    assert history.run(run_id).status == "running"
    assert history.mark_interrupted(timedelta(0)) == 1
    record, trace = history.run(run_id), history.trace(run_id)
    assert record.status == "interrupted"
    assert record.error is not None
    assert 3 <= len(trace) < 80
    assert record.output_tokens == len(trace)
    whole = expected(settings(80))
    for position in range(len(trace)):
        assert_same_step(trace.step(position), whole[position])
    assert record.output == Tiny().vocabulary.decode([step.token_id for step in whole[: len(trace)]])
