"""One run on its way: what its worker writes and the pages read."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import Step, StopReason, Trace

if TYPE_CHECKING:
    from dashboard.sampling.models import LoadedModel

Phase: TypeAlias = Literal["queued", "loading", "running", "ended"]


@dataclass(frozen=True, slots=True)
class Branch:
    """Where a run leaves another one.

    parent: public id of that run. position: the step at which they part. prompt_ids: of the parent. given_ids: the
    parent's tokens before that step, and the token that stands there instead.
    """

    parent: str
    position: int
    prompt_ids: tuple[int, ...]
    given_ids: tuple[int, ...]


@dataclass(eq=False)
class Job:
    """One run on its way. Written by its worker, read by any page; ``steps`` only ever grows.

    settings: with a seed. run_id: public id of the stored run, once there is one. error: a sentence for the user.
    unsaved: a sentence while steps could not be stored. stored: how many of the steps are in the history.
    drawing_at: when the first token began to be drawn; the given ones of a branch come before, many at a time.
    """

    prompt: str
    settings: SamplingSettings
    model_name: str
    branch: Branch | None = None
    job_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    phase: Phase = "queued"
    run_id: str | None = None
    model: LoadedModel | None = None
    prompt_ids: tuple[int, ...] = ()
    steps: list[Step] = field(default_factory=list)
    stop_reason: StopReason | None = None
    error: str | None = None
    unsaved: str | None = None
    started_at: float | None = None
    drawing_at: float | None = None
    ended_at: float | None = None
    stored: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Ask the worker to end the run before its next step; ``Jobs.stop`` also ends one that still waits."""
        self._stop.set()

    @property
    def is_stopping(self) -> bool:
        """Whether it has been asked to end."""
        return self._stop.is_set()

    def wait_stop(self, seconds: float) -> bool:
        """Wait until it is asked to end, at most for ``seconds``; return whether it was."""
        return self._stop.wait(seconds)

    def text(self, count: int) -> str:
        """The text of the first ``count`` steps, without the end-of-text token."""
        if self.model is None:
            return ""
        return self.model.vocabulary.output([step.token_id for step in self.steps[:count]], self.model.eos_ids)

    @property
    def output(self) -> str:
        """The text so far."""
        return self.text(len(self.steps))

    def trace(self) -> Trace:
        """The steps so far."""
        return Trace.from_steps(self.steps[:])

    @property
    def seconds(self) -> float:
        """Time spent generating so far."""
        if self.started_at is None:
            return 0.0
        return (self.ended_at or time.monotonic()) - self.started_at

    @property
    def given_ids(self) -> tuple[int, ...]:
        """The tokens that the output begins with, not drawn but given; none unless the run is a branch."""
        return self.branch.given_ids if self.branch else ()

    @property
    def tokens_per_second(self) -> float | None:
        """Speed so far, of the tokens that were drawn; None before the first of them."""
        drawn = len(self.steps) - len(self.given_ids)
        if self.drawing_at is None or drawn <= 0:
            return None
        seconds = (self.ended_at or time.monotonic()) - self.drawing_at
        return drawn / seconds if seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Time until max_new_tokens at the speed so far; None before the first token."""
        speed = self.tokens_per_second
        return None if speed is None else (self.settings.max_new_tokens - len(self.steps)) / speed
