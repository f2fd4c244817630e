"""What Inspect and Read show of a known text, handed from one part of the page to the next."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from dashboard.app_pages import shared
from dashboard.figures.sentences import count
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import Trace
from dashboard.sampling.vocabulary import Vocabulary
from dashboard.sampling.what_if import cut_tokens

if TYPE_CHECKING:
    from dashboard.sampling.models import LoadedModel
    from dashboard.sampling.replay import Reading

K = TypeVar("K")
V = TypeVar("V")

_POLL_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 0.4


@dataclass(frozen=True, slots=True)
class View:
    """A text with its steps.

    key: begins the keys of this view's widgets; one per run or text.
    prompt, prompt_ids: what stands before the first step.
    trace: the steps, as they were stored or as they were replayed with other settings.
    settings: those that the trace was made with.
    p: the p that is asked about; ``settings.top_p`` unless the slider was moved.
    drawn: whether the settings drew the text, as in a run; a text that is only read was never drawn.
    model_name, model_title: the model that the text belongs to, by its names in the catalogue and in the interface.
    find_reading: the text as the model reads it, with the full distribution of each step; None where the model is not
        in memory. The first call for a text takes one forward pass, later ones nothing.
    """

    key: str
    prompt: str
    prompt_ids: tuple[int, ...]
    trace: Trace
    settings: SamplingSettings
    p: float
    drawn: bool
    vocabulary: Vocabulary
    model_name: str
    model_title: str
    find_reading: Callable[[], Reading | None]

    @property
    def what_if_p(self) -> float | None:
        """The p that is asked about, if it is another one than that of the settings."""
        return None if self.p == self.settings.top_p else self.p

    @property
    def own_name(self) -> str:
        """How the text as it is stands beside what is asked."""
        return "this run" if self.drawn else "as read"

    @property
    def cut(self) -> NDArray[np.bool_]:
        """(steps,) whether a token of the text is outside the kept set, or outside the nucleus at another p."""
        if self.what_if_p is None:
            return self.trace.final_probability <= 0
        return cut_tokens(self.trace, self.p)


def asked_step(length: int) -> int | None:
    """The step in the URL, from 0; None if it is no step of a text of this length. Steps are counted from 1 there."""
    try:
        step = int(st.query_params.get("step", "1"))
    except ValueError:
        return None
    return step - 1 if 1 <= step <= length else None


def choose_step(position: int) -> None:
    """Make a step, from 0, the chosen one; the URL is where the choice is kept, so that it can be sent."""
    st.query_params["step"] = str(position + 1)


def reading_of(model: LoadedModel, context_ids: tuple[int, ...], ids: tuple[int, ...]) -> Reading:
    """A text as a model in memory reads it; the last few readings of models still in memory are kept.

    Args:
        model: the model.
        context_ids: what stands before the text.
        ids: the text.
    """
    from dashboard.sampling.replay import read  # noqa: PLC0415  # torch, which is there once a model is

    readings = _readings()
    for key, reading in readings.items():
        # A model that has given way to another is not to be held by what it read.
        if reading.model is not shared.store().state(key[0]).model:
            readings.drop(key)
    with _progress("Reading the text once with the model") as report:
        return readings.get((model.name, context_ids, ids), lambda: read(model, context_ids, ids, report))


def replayed(key: str, reading: Reading, settings: SamplingSettings) -> Trace:
    """What other settings make of the same tokens; ``key`` names the text and its model. The last few are kept."""
    from dashboard.sampling.replay import replay  # noqa: PLC0415  # torch, which is there once a model is

    seedless = replace(settings, seed=None)
    with _progress("Replaying every step with these settings") as report:
        return _replays().get((key, seedless), lambda: replay(reading, settings, report))


@st.cache_resource(show_spinner=False)
def _readings() -> Latest[tuple[str, tuple[int, ...], tuple[int, ...]], Reading]:
    return Latest(keep=4)


@st.cache_resource(show_spinner=False)
def _replays() -> Latest[tuple[str, SamplingSettings], Trace]:
    return Latest(keep=24)


class Latest(Generic[K, V]):
    """The results that were used last. Unlike Streamlit's caches, it lets what makes a result show its progress."""

    def __init__(self, keep: int) -> None:
        """Keep at most so many."""
        self._keep = keep
        self._results: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The result of ``key``, made now if it is not there."""
        with self._lock:
            found = self._results.get(key)
        result = make() if found is None else found
        with self._lock:
            self._results[key] = result
            self._results.move_to_end(key)
            while len(self._results) > self._keep:
                self._results.popitem(last=False)
        return result

    def items(self) -> list[tuple[K, V]]:
        """All of them, least recently used first."""
        with self._lock:
            return list(self._results.items())

    def drop(self, key: K) -> None:
        """Forget one."""
        with self._lock:
            self._results.pop(key, None)


@contextmanager
def _progress(text: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for work that takes longer than a blink, gone when it is done."""
    place, started = st.empty(), time.monotonic()

    def report(done: int, total: int) -> None:
        if time.monotonic() - started > _PATIENCE_SECONDS:
            place.progress(min(1.0, done / total), f"{text}: {count(done)} of {count(total)} tokens")

    yield report
    place.empty()


def ask_for_model(view: View, why: str) -> None:
    """Say that something needs the model, and offer to load it.

    Args:
        view: what is shown.
        why: a clause that goes on from "The model is needed".
    """
    state = shared.store().state(view.model_name)
    if state.is_busy:
        await_model(view.model_name, view.model_title)
        return
    if state.model is not None:
        st.text(f"{view.model_title} is needed {why}, but the one in memory has other weights than the one that wrote.")
        return
    st.text(f"{view.model_title} is needed {why}, and is not in memory.")
    if state.error:
        st.error(shared.as_text(state.error), icon=":material/error:")
    if st.button("Load the model", icon=":material/memory:", key=f"{view.key}-load-{why}"):
        with shared.errors_shown():
            shared.store().request(view.model_name, retry=True)
        st.rerun()


@st.fragment(run_every=_POLL_SECONDS)
def await_model(name: str, title: str) -> None:
    """Say how a model's loading stands, and run the page again once it is there."""
    state = shared.store().state(name)
    if not state.is_busy:
        st.rerun()
    shared.loading_line(state, title)
