"""Runs in the background: what is stored is what the engine draws, whatever stops, fails or dies on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from dashboard import jobs as jobs_module
from dashboard.config import REPOSITORY, read_config
from dashboard.errors import (
    HistoryBusy,
    HistoryFull,
    ModelError,
    ModelFilesError,
    ModelNotFound,
    PromptError,
    QueueFull,
    RunNotFound,
)
from dashboard.history import History, NewRun
from dashboard.jobs import Branch, Job, Jobs
from dashboard.sampling.catalogue import CatalogueEntry
from dashboard.sampling.downloads import Progress, ProgressReport
from dashboard.sampling.engine import Drawn, generate
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.store import ModelStore
from dashboard.sampling.trace import Step
from dashboard.sampling.vocabulary import Vocabulary
from tests.history.samples import assert_same_step
from tests.sampling.reference import random_model, run

if TYPE_CHECKING:
    from dashboard.sampling.models import LoadedModel

CONFIG = read_config({"models_allowed": "pocket"})
PROMPT = "A lighthouse"


class Watched:
    """The network, with a hook before each forward pass that may wait or raise; it is given the pass's number."""

    def __init__(self, network: Any) -> None:
        self.network = network
        self.config = network.config
        self.passes = 0
        self.before: Callable[[int], object] = lambda number: None

    def __call__(self, **inputs: Any) -> Any:
        self.before(self.passes)
        self.passes += 1
        return self.network(**inputs)


@dataclass
class Tiny:
    """A ``LoadedModel`` with random weights whose first 256 tokens are the bytes."""

    model: Watched = field(default_factory=lambda: Watched(random_model(vocabulary=300).model))
    name: str = "pocket"
    title: str = "Tiny"
    revision: str = "test"
    fingerprint: str = "f" * 64
    vocabulary: Vocabulary = field(
        default_factory=lambda: Vocabulary(tuple(bytes([i % 256]) * (i // 256 + 1) for i in range(300)))
    )
    context_length: int = 96
    eos_ids: frozenset[int] = frozenset()

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


class Loader:
    """Hands the tiny model to a store, after ``before`` has waited or raised."""

    def __init__(self, model: Tiny) -> None:
        self.model = model
        self.calls = 0
        self.before: Callable[[], object] = lambda: None

    def __call__(self, entry: CatalogueEntry, progress: ProgressReport) -> LoadedModel:
        self.calls += 1
        progress(Progress("loading", 0, 1))
        self.before()
        return cast("LoadedModel", self.model)


class Refusing(History):
    """A history that refuses the next ``refusals`` batches of steps, and counts them."""

    refusals = 0
    refused = 0
    error: type[HistoryBusy | HistoryFull] = HistoryFull

    def append_steps(self, public_id: str, steps: Sequence[Step], output: str) -> None:
        if self.refusals > 0:
            self.refusals -= 1
            self.refused += 1
            raise self.error("The disk is full: make room.")
        super().append_steps(public_id, steps, output)


@pytest.fixture
def model() -> Tiny:
    return Tiny()


@pytest.fixture
def loader(model: Tiny) -> Loader:
    return Loader(model)


@pytest.fixture
def store(loader: Loader) -> ModelStore:
    return ModelStore(CONFIG, loader=loader)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[Refusing]:
    stored = Refusing(f"sqlite:///{tmp_path / 'history.db'}", busy_timeout=1.0)
    yield stored
    stored.close()


@pytest.fixture
def jobs(history: Refusing, store: ModelStore) -> Jobs:
    """Jobs whose model is loaded already."""
    store.get("pocket")
    return Jobs(history, store, queue_limit=2)


def settings(tokens: int = 12, seed: int = 5) -> SamplingSettings:
    return SamplingSettings(top_p=0.9, max_new_tokens=tokens, seed=seed)


def expected(chosen: SamplingSettings, prompt: str = PROMPT) -> list[Step]:
    """The steps that the engine draws by itself."""
    steps, _ = run(cast(Any, Tiny()), list(prompt.encode()), [chosen])
    return steps[0]


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def ended(job: Job) -> Job:
    until(lambda: job.phase == "ended")
    return job


def assert_stored(history: History, job: Job, steps: Sequence[Step]) -> None:
    """The history holds exactly these steps of the job, each once."""
    assert job.run_id is not None
    trace = history.trace(job.run_id)
    assert len(trace) == len(steps)
    for position, step in enumerate(steps):
        assert_same_step(trace.step(position), step)
    record = history.run(job.run_id)
    assert record.output == Tiny().vocabulary.decode([step.token_id for step in steps])
    assert record.output_tokens == len(steps)


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


def test_a_run_stopped_while_it_waits_gives_up_its_place(history: History, store: ModelStore, model: Tiny) -> None:
    go_on = threading.Event()
    model.model.before = lambda number: go_on.wait(5)
    store.get("pocket")
    jobs = Jobs(history, store, queue_limit=1)
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
    history: History, store: ModelStore, model: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    model.model.before = lambda number: go_on.wait(5)
    store.get("pocket")
    jobs = Jobs(history, store, queue_limit=1)
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


def test_a_run_stopped_while_its_model_loads_ends_at_once(history: History, store: ModelStore, loader: Loader) -> None:
    go_on = threading.Event()
    loader.before = lambda: go_on.wait(5)
    job = Jobs(history, store).submit(PROMPT, settings(), "pocket")
    until(lambda: job.phase == "loading")
    job.stop()
    until(lambda: job.phase == "ended", 0.5)
    go_on.set()
    assert (job.run_id, job.steps, job.stop_reason, job.error) == (None, [], "stopped", None)


def test_a_run_waits_for_its_model_and_is_then_stored(history: History, store: ModelStore, loader: Loader) -> None:
    go_on = threading.Event()
    loader.before = lambda: go_on.wait(5)
    job = Jobs(history, store).submit(PROMPT, settings(), "pocket")
    until(lambda: job.phase == "loading")
    assert job.run_id is None
    go_on.set()
    assert_stored(history, ended(job), expected(settings()))


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


def test_two_workers_compute_two_runs_at_the_same_time(history: History, store: ModelStore, model: Tiny) -> None:
    store.get("pocket")
    # Each run's first pass waits for the other's: were they not at the same time, the barrier would break.
    meeting = threading.Barrier(2, timeout=5)
    model.model.before = lambda number: meeting.wait() if number == 0 else None
    both = Jobs(history, store, workers=2)
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


@pytest.mark.parametrize("prompt", ["", "x" * 96])
def test_a_prompt_that_cannot_be_run_is_refused_at_once_when_the_model_is_there(
    jobs: Jobs, history: History, prompt: str
) -> None:
    with pytest.raises(PromptError):
        jobs.submit(prompt, settings(), "pocket")
    assert history.page(0, 1).total == 0


def test_a_prompt_that_cannot_be_run_ends_the_job_when_the_model_comes_later(
    history: History, store: ModelStore, loader: Loader
) -> None:
    go_on = threading.Event()
    loader.before = lambda: go_on.wait(5)
    job = Jobs(history, store).submit("x" * 96, settings(), "pocket")
    go_on.set()
    ended(job)
    assert job.error is not None
    assert job.error.startswith("The prompt has 96 tokens, but this model reads at most 96")
    assert job.run_id is None
    assert history.page(0, 1).total == 0


def test_a_model_that_is_not_offered_is_refused(jobs: Jobs) -> None:
    with pytest.raises(ModelNotFound):
        jobs.submit(PROMPT, settings(), "no such model")


def test_a_model_that_cannot_be_loaded_ends_the_job_with_its_sentence_and_is_tried_anew_by_the_next(
    history: History, store: ModelStore, loader: Loader
) -> None:
    def fail() -> None:
        raise ModelFilesError("The files of Tiny are damaged: copy them again.")

    loader.before = fail
    runs = Jobs(history, store)
    job = ended(runs.submit(PROMPT, settings(), "pocket"))
    assert (job.error, job.stop_reason, job.run_id) == (
        "The files of Tiny are damaged: copy them again.",
        "error",
        None,
    )
    assert loader.calls == 1, "a load that fails is not repeated by the same run"
    loader.before = lambda: None
    assert_stored(history, ended(runs.submit(PROMPT, settings(), "pocket")), expected(settings()))


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
    history: History, store: ModelStore, model: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "_HEARTBEAT_SECONDS", 0.02)
    store.get("pocket")
    runs = Jobs(history, store)
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


_CHILD = """
import sys, time
from dashboard import jobs
from dashboard.history import History
from dashboard.sampling.store import ModelStore
from tests.test_jobs import CONFIG, PROMPT, Loader, Tiny, settings

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
