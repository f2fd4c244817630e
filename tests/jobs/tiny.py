"""A tiny model, a history that refuses, and what the tests of jobs wait for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from dashboard.config import read_config
from dashboard.errors import HistoryBusy, HistoryFull
from dashboard.history import History
from dashboard.job import Job
from dashboard.sampling.catalogue import CatalogueEntry
from dashboard.sampling.downloads import Progress, ProgressReport
from dashboard.sampling.settings import SamplingSettings
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


def settings(tokens: int = 12, seed: int = 5) -> SamplingSettings:
    return SamplingSettings(top_p=0.9, max_new_tokens=tokens, seed=seed)


def expected(chosen: SamplingSettings, prompt: str = PROMPT) -> list[Step]:
    """The steps that the engine draws by itself."""
    steps, _ = run(cast(Any, Tiny()), list(prompt.encode()), [chosen])
    return steps[0]


def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
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
