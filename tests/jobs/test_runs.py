"""A run in the background is stored as the engine draws it, and tells how it stands."""

from __future__ import annotations

import threading

import pytest

from dashboard import jobs as jobs_module
from dashboard.history import History
from dashboard.jobs import Jobs
from dashboard.sampling.settings import SamplingSettings
from tests.jobs.conftest import MakeJobs
from tests.jobs.tiny import PROMPT, Loader, Tiny, assert_stored, ended, expected, settings, until


def test_a_run_is_stored_as_the_engine_draws_it(jobs: Jobs, history: History) -> None:
    job = ended(jobs.submit(PROMPT, settings(), "pocket"))
    assert_stored(history, job, expected(settings()))
    record = history.run(job.run_id or "")
    assert (record.status, record.stop_reason, record.error) == ("finished", "length", None)
    assert (record.prompt, record.settings, record.prompt_token_ids) == (PROMPT, settings(), tuple(PROMPT.encode()))
    assert history.vocabulary(record.vocabulary_fingerprint) == Tiny().vocabulary
    assert record.measures is not None
    assert job.output == record.output
    assert (job.error, job.unsaved) == (None, None)


def test_a_run_without_a_seed_is_given_one_that_repeats_it(jobs: Jobs, history: History) -> None:
    job = ended(jobs.submit(PROMPT, SamplingSettings(max_new_tokens=6), "pocket"))
    assert job.settings.seed is not None
    assert_stored(history, job, expected(job.settings))


def test_steps_stored_in_many_batches_are_each_stored_once(
    jobs: Jobs, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "_FLUSH_SECONDS", 0.0)
    job = ended(jobs.submit(PROMPT, settings(20), "pocket"))
    assert_stored(history, job, expected(settings(20)))


def test_a_job_is_found_by_its_id_and_by_its_run(jobs: Jobs) -> None:
    job = ended(jobs.submit(PROMPT, settings(2), "pocket"))
    assert jobs.find(job.job_id) is job
    assert jobs.of_run(job.run_id or "") is job
    assert jobs.find("unknown") is None
    assert jobs.of_run("unknown") is None


def test_a_run_waits_for_its_model_and_is_then_stored(history: History, loader: Loader, make_jobs: MakeJobs) -> None:
    go_on = threading.Event()
    loader.before = lambda: go_on.wait(5)
    job = make_jobs().submit(PROMPT, settings(), "pocket")
    until(lambda: job.phase == "loading")
    assert job.run_id is None
    go_on.set()
    assert_stored(history, ended(job), expected(settings()))


def test_progress_is_told_in_tokens_and_seconds(jobs: Jobs, model: Tiny) -> None:
    go_on = threading.Event()
    model.model.before = lambda number: go_on.wait(5) if number == 3 else None
    job = jobs.submit(PROMPT, settings(12), "pocket")
    until(lambda: len(job.steps) == 3)
    speed, left = job.tokens_per_second, job.seconds_left
    assert speed is not None
    assert left is not None
    assert 0 < speed <= 3 / 0.0001
    assert left > 0
    assert len(job.trace()) == 3
    go_on.set()
    ended(job)
    assert job.seconds_left == 0
    assert job.tokens_per_second == pytest.approx(12 / job.seconds)
