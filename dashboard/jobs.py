"""Runs in worker threads: a bounded queue, progress while they run, and a Stop that is obeyed at the next step.

The page that started a run only watches it: leaving or reloading it loses nothing. A run's steps go into the history
about once a second while it grows; a database that is busy or full does not end the run, whose steps are kept in memory
and offered again.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import OrderedDict
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from dashboard.errors import HistoryBusy, HistoryError, HistoryFull, ModelError, NucleusLensError, QueueFull
from dashboard.history import EndStatus, History, NewRun
from dashboard.job import Branch, Job
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.store import ModelStore
from dashboard.sampling.trace import StopReason

if TYPE_CHECKING:
    from dashboard.sampling.models import LoadedModel

_log = logging.getLogger(__name__)

_FLUSH_SECONDS: Final = 1.0
_HEARTBEAT_SECONDS: Final = 3.0
# Several missed heartbeats: a machine that is short of breath must not have its runs declared dead.
SILENT_FOR: Final = timedelta(seconds=20)
_SWITCH_SECONDS: Final = 0.0002
_LAST_TRIES: Final = 5
_CLOSE_WITHIN: Final = 10.0
_JOBS_KEPT: Final = 64


class Jobs:
    """The runs of this process. Thread-safe; one object serves all visitors."""

    def __init__(self, history: History, store: ModelStore, *, workers: int = 1, queue_limit: int = 8) -> None:
        """Start the worker threads.

        Args:
            history: where runs are stored.
            store: where their models come from.
            workers: runs computed at the same time.
            queue_limit: runs that may wait.
        """
        # A model's forward pass gives up the interpreter lock several hundred times a step, and waits for it each time
        # as long as a page that is being drawn may hold it: 5 ms by default, which made a watched run crawl.
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._history = history
        self._store = store
        self._queue_limit = queue_limit
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        # A list, not a queue.Queue: a run that is stopped while it waits gives up its place at once.
        self._waiting: list[Job] = []
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._tend, name="heartbeat", daemon=True),
            *(threading.Thread(target=self._work, name=f"run-{number}", daemon=True) for number in range(workers)),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop all runs and end the threads, which would go on writing into the history; what was drawn is kept."""
        self._closed.set()
        with self._lock:
            alive = [job for job in self._jobs.values() if job.phase != "ended"]
            self._arrived.notify_all()
        for job in alive:
            self.stop(job)
        for thread in self._threads:
            thread.join(_CLOSE_WITHIN)

    def submit(self, prompt: str, settings: SamplingSettings, model_name: str, branch: Branch | None = None) -> Job:
        """Queue a run. Its model is loaded if it is not there yet.

        Args:
            prompt: the text to go on from.
            settings: a missing seed is chosen now.
            model_name: of the catalogue.
            branch: where the run leaves another one of the same prompt.

        Raises:
            QueueFull: too many runs are waiting.
            PromptError: the prompt is empty or too long, if the model is there to tell.
            ModelNotFound: no such model is offered.
            RunNotFound: the run to branch from is not there any more.
            ModelError: another model of that name wrote the run to branch from, if the model is there to tell.
            HistoryError: the run cannot be stored.
        """
        if branch is not None:
            self._history.run(branch.parent)  # raises before anything is queued, also while the model is not there
        job = Job(prompt, settings.with_seed(), model_name, branch)
        with self._lock:
            self._check_room()
        # A load that failed before this run was asked for is worth another try; one that fails for it is not.
        ready = self._store.request(model_name, retry=True).model
        if ready is not None:
            self._prepare(job, ready)
        try:
            with self._lock:
                self._check_room()
                self._forget_old()
                self._jobs[job.job_id] = job
                self._waiting.append(job)
                self._arrived.notify()
        except QueueFull as error:
            # Others were quicker while this run was stored.
            self._fail(job, str(error))
            raise
        return job

    def stop(self, job: Job) -> None:
        """End a run: at once if it waits for its turn, before its next step if it runs. What it has drawn is kept."""
        job.stop()
        with self._lock:
            was_waiting = job in self._waiting
            if was_waiting:
                self._waiting.remove(job)
        if was_waiting:
            try:
                self._finish(job, "stopped", "stopped")
            finally:
                job.phase = "ended"

    def find(self, job_id: str) -> Job | None:
        """A job of this process by its id; None if it is unknown or forgotten."""
        with self._lock:
            return self._jobs.get(job_id)

    def of_run(self, run_id: str) -> Job | None:
        """The job that computes or has computed a run here."""
        with self._lock:
            return next((job for job in self._jobs.values() if job.run_id == run_id), None)

    def ahead_of(self, job: Job) -> int:
        """How many runs are before a queued one, the running ones included."""
        with self._lock:
            before = list(self._jobs.values())
        return sum(1 for other in before[: before.index(job)] if other.phase != "ended") if job in before else 0

    def _check_room(self) -> None:
        if len(self._waiting) >= self._queue_limit:
            raise QueueFull(
                f"{self._queue_limit} runs are waiting already, which is the limit: wait for one to end, or stop one."
            )

    def _forget_old(self) -> None:
        ended = [job_id for job_id, job in self._jobs.items() if job.phase == "ended"]
        for job_id in ended[: max(0, len(self._jobs) - _JOBS_KEPT)]:
            del self._jobs[job_id]

    def _prepare(self, job: Job, model: LoadedModel) -> None:
        """Read the prompt and store the run as queued."""
        from dashboard.sampling.engine import check_prompt  # noqa: PLC0415  # torch, which is there once a model is

        job.model = model
        job.prompt_ids = job.branch.prompt_ids if job.branch else tuple(model.encode(job.prompt))
        if job.branch is not None and self._history.run(job.branch.parent).model_fingerprint != model.fingerprint:
            raise ModelError(
                f"{model.title} has other weights now than when it wrote the run to continue, so it cannot go on from "
                "there: start a new run with the same prompt."
            )
        # The last given token may fill the context, as the last drawn one may.
        check_prompt(len(job.prompt_ids) + max(0, len(job.given_ids) - 1), model.context_length)
        self._history.save_vocabulary(model.vocabulary)
        run = NewRun.by(model, job.prompt, job.prompt_ids, job.settings)
        if job.branch is not None:
            run = replace(run, parent=job.branch.parent, branch_position=job.branch.position)
        job.run_id = self._history.create_run(run)

    def _work(self) -> None:
        """The body of a worker thread."""
        while True:
            with self._arrived:
                self._arrived.wait_for(lambda: self._waiting or self._closed.is_set())
                if not self._waiting:
                    return
                job = self._waiting.pop(0)
            try:
                self._run(job)
            except NucleusLensError as error:
                _log.warning("A run failed: %s", error, exc_info=error)
                self._fail(job, str(error))
            except Exception:
                _log.exception("A run failed")
                self._fail(job, "The run failed for a reason that was not foreseen; the log says more. Run it again.")
            finally:
                job.ended_at = job.ended_at or time.monotonic()
                job.phase = "ended"

    def _run(self, job: Job) -> None:
        model = job.model or self._await_model(job)
        if model is None or job.is_stopping:
            self._finish(job, "stopped", "stopped")
            return
        if job.run_id is None:
            self._prepare(job, model)
        assert job.run_id is not None
        self._history.start_run(job.run_id)
        self._generate(job, model)

    def _await_model(self, job: Job) -> LoadedModel | None:
        """The job's model once it is loaded; None if the job was stopped before."""
        job.phase = "loading"
        state = self._store.request(job.model_name)
        while state.is_busy:
            if job.wait_stop(0.1):
                return None
            state = self._store.request(job.model_name)
        if state.model is None:
            raise ModelError(state.error or f"The model {job.model_name} could not be loaded: run it again.")
        return state.model

    def _generate(self, job: Job, model: LoadedModel) -> None:
        from dashboard.sampling.engine import Drawn, generate  # noqa: PLC0415  # torch, which is there once a model is

        job.phase = "running"
        job.started_at = job.drawing_at = flushed_at = time.monotonic()
        events = generate(
            model,
            job.prompt_ids,
            [job.settings],
            given_ids=job.given_ids,
            should_stop=lambda row: job.is_stopping,
        )
        reason: StopReason = "error"
        for event in events:
            if not isinstance(event, Drawn):
                reason = event.reason
                continue
            job.steps.append(event.step)
            if len(job.steps) == len(job.given_ids):
                job.drawing_at = time.monotonic()
            if time.monotonic() - flushed_at >= _FLUSH_SECONDS:
                self._try_to_store(job)
                flushed_at = time.monotonic()
        job.ended_at = time.monotonic()
        self._finish(job, "stopped" if reason == "stopped" else "finished", reason)

    def _try_to_store(self, job: Job) -> None:
        """Store the steps so far, or leave them for the next time if the history is busy or full."""
        try:
            self._store_steps(job)
        except (HistoryBusy, HistoryFull) as error:
            _log.warning("Steps of run %s are not stored yet: %s", job.run_id, error)
            job.unsaved = str(error)

    def _store_steps(self, job: Job) -> None:
        assert job.run_id is not None
        drawn = len(job.steps)
        if drawn > job.stored:
            self._history.append_steps(job.run_id, job.steps[job.stored : drawn], job.text(drawn))
            job.stored = drawn
        job.unsaved = None

    def _finish(self, job: Job, status: EndStatus, reason: StopReason, error: str | None = None) -> None:
        """Store the steps that are left and the end of the run; a history that is busy or full is asked again."""
        job.stop_reason = reason
        job.error = error
        if job.run_id is None:
            return
        for attempt in range(_LAST_TRIES):
            if attempt:
                time.sleep(_FLUSH_SECONDS)
            try:
                self._store_steps(job)
                self._history.finish_run(
                    job.run_id, status=status, stop_reason=reason, output=job.output, seconds=job.seconds, error=error
                )
            except HistoryError as failure:
                _log.warning("The end of run %s is not stored", job.run_id, exc_info=failure)
                job.unsaved = str(failure)
                if not isinstance(failure, HistoryBusy | HistoryFull):
                    return
            else:
                return

    def _fail(self, job: Job, sentence: str) -> None:
        job.ended_at = time.monotonic()
        try:
            self._finish(job, "failed", "error", sentence)
        except Exception:
            # What failed may be the history itself; the worker has to live on for the runs that wait.
            _log.exception("The end of run %s is not stored", job.run_id)
            job.unsaved = "The last steps of the run could not be stored; the log says more."

    def _tend(self) -> None:
        """Give signs of life for the runs here, and notice runs whose process gives none any more."""
        while not self._closed.is_set():
            with self._lock:
                alive = [job.run_id for job in self._jobs.values() if job.run_id and job.phase != "ended"]
            try:
                self._history.heartbeat(alive)
                self._history.mark_interrupted(SILENT_FOR)
            except HistoryError as error:
                _log.warning("No sign of life could be stored: %s", error)
            except Exception:
                _log.exception("No sign of life could be stored")
            self._closed.wait(_HEARTBEAT_SECONDS)
