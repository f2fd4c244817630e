"""The models in memory: each loaded once, in the background, for all visitors.

torch and transformers take seconds to import, so they are imported where a model is first loaded, on the
loading thread; the first page may import this module and wait for neither.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from dashboard.config import Config
from dashboard.errors import ModelError
from dashboard.sampling.catalogue import CatalogueEntry, find
from dashboard.sampling.downloads import Progress, ProgressReport

if TYPE_CHECKING:
    from dashboard.sampling.models import LoadedModel

_log = logging.getLogger(__name__)

LoadStage: TypeAlias = Literal["absent", "waiting", "downloading", "loading", "ready", "failed"]
Loader: TypeAlias = "Callable[[CatalogueEntry, ProgressReport], LoadedModel]"


@dataclass(frozen=True, slots=True)
class LoadState:
    """Where a model stands.

    stage: "absent" (never asked for, or dropped), "waiting", "downloading", "loading", "ready" or "failed".
    done, total: bytes of its files, 0 of 0 while unknown.
    error: one sentence if failed. model: the model if ready.
    """

    stage: LoadStage
    done: int = 0
    total: int = 0
    error: str | None = None
    model: LoadedModel | None = None

    @property
    def is_busy(self) -> bool:
        """Whether it is on its way, so that asking again will tell more."""
        return self.stage in {"waiting", "downloading", "loading"}


_ABSENT = LoadState("absent")


class ModelStore:
    """Thread-safe. At most ``keep`` models are in memory; the least recently used gives way to the next."""

    def __init__(self, config: Config, *, keep: int = 2, loader: Loader | None = None) -> None:
        """An empty store.

        Args:
            config: which models are offered.
            keep: models in memory at most, the one being loaded included. A run that still uses a dropped
                model keeps it alive until it ends.
            loader: what loads a model; by default ``models.load``.
        """
        self._config = config
        self._keep = keep
        self._load = loader or _load
        # One lock for all states: two visitors who ask at the same moment start one load.
        self._changed = threading.Condition()
        # In the order of use, latest last.
        self._states: OrderedDict[str, LoadState] = OrderedDict()
        self._failures: dict[str, ModelError] = {}

    def state(self, name: str) -> LoadState:
        """Where a model stands; starts nothing."""
        with self._changed:
            return self._states.get(name, _ABSENT)

    def request(self, name: str, *, retry: bool = False) -> LoadState:
        """Where a model stands, after starting to load it if nobody has. Returns at once.

        A load that failed stays failed, so that a page may ask at every rerun; ``retry`` starts another.

        Raises:
            ModelNotFound: no model of that name is offered.
        """
        entry = find(name, self._config)
        with self._changed:
            state = self._states.get(name, _ABSENT)
            if state.stage == "absent" or (state.stage == "failed" and retry):
                state = LoadState("waiting")
                self._states[name] = state
                threading.Thread(target=self._run, args=(entry,), name=f"load-{name}", daemon=True).start()
            self._states.move_to_end(name)
            return state

    def get(self, name: str) -> LoadedModel:
        """The model, loading it if need be and waiting for it; an earlier failure is tried once more.

        Raises:
            ModelError: it cannot be loaded; the sentence says why.
        """
        state = self.request(name, retry=True)
        # More than once only if it is dropped for another model right after it was loaded.
        while state.model is None:
            with self._changed:
                self._changed.wait_for(lambda: not self.state(name).is_busy)
                state = self.state(name)
                if state.stage == "failed":
                    failure = self._failures[name]
                    raise type(failure)(str(failure)) from failure
            if state.model is None:
                state = self.request(name)
        return state.model

    def _run(self, entry: CatalogueEntry) -> None:
        """Load one model; the body of a loading thread."""

        def report(progress: Progress) -> None:
            if progress.stage == "loading":
                self._make_room(entry.name)
            if progress.stage != "ready":
                self._set(entry.name, LoadState(progress.stage, progress.done, progress.total))

        try:
            model = self._load(entry, report)
        except ModelError as error:
            _log.warning("%s cannot be loaded: %s", entry.name, error, exc_info=error.__cause__)
            self._fail(entry.name, error)
        except Exception as error:
            _log.exception("%s cannot be loaded", entry.name)
            self._fail(entry.name, _unexpected(entry, error))
        else:
            with self._changed:
                last = self._states[entry.name]
                self._set(entry.name, replace(last, stage="ready", done=last.total, model=model))

    def _make_room(self, name: str) -> None:
        """Drop the models unused for longest until the one about to be loaded fits among ``keep``."""
        with self._changed:
            others = [other for other, state in self._states.items() if state.model is not None and other != name]
            for other in others[: max(0, len(others) - self._keep + 1)]:
                del self._states[other]

    def _set(self, name: str, state: LoadState) -> None:
        with self._changed:
            self._states[name] = state
            self._changed.notify_all()

    def _fail(self, name: str, error: ModelError) -> None:
        with self._changed:
            self._failures[name] = error
            self._set(name, LoadState("failed", error=str(error)))


def _unexpected(entry: CatalogueEntry, error: Exception) -> ModelError:
    if isinstance(error, MemoryError):
        return ModelError(f"There is not enough memory for {entry.title}: choose a smaller model.")
    failure = ModelError(f"{entry.title} cannot be loaded ({type(error).__name__}); the log says more.")
    failure.__cause__ = error
    return failure


_first_import = threading.Lock()


def _load(entry: CatalogueEntry, progress: ProgressReport) -> LoadedModel:
    # One thread at a time, because transformers' lazy imports are not made for two.
    with _first_import:
        # Pages are drawn while tokens are. OpenMP's threads would spin while they wait for each other, ten times slower
        # where a page wants the core (docs/measurements.md); read once, when torch brings OpenMP along.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        from dashboard.sampling import models  # noqa: PLC0415  # torch: seconds that only a model is worth

        # Streamlit collects all garbage after every redraw, holding the interpreter lock: with what torch and
        # transformers bring along, a third of a second in which nothing else runs. What is imported stays anyway.
        gc.freeze()
    model = models.load(entry, progress)
    _trim_memory()
    return model


def _trim_memory() -> None:
    """Give back what loading has freed, about 100 MB for GPT-2: glibc keeps it. Other systems need no help."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
