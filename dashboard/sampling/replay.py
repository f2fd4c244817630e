"""A known text as a model reads it: one forward pass instead of one a token.

A stored run is read again to see what other settings would have made of the same tokens; any other text to see how
likely each of its tokens is. The logits of every position differ from those of a run by rounding alone (some 1e-5):
a forward pass over many tokens adds its products in another order than one over a single token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dashboard.errors import ModelError, PromptError
from dashboard.sampling.engine import LanguageModel, single_threaded
from dashboard.sampling.record import record_step
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import Step, Trace
from dashboard.sampling.truncation import Pipeline, truncate

ProgressReport: TypeAlias = Callable[[int, int], None]
"""Told (tokens done, tokens in all) now and then, from the calling thread."""

# Logits are made for so many positions at a time: 200 KB each for GPT-2's vocabulary.
_AT_A_TIME: Final = 32

_plain_output_layers: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a long text that the model reads at once.

    first, end: of its tokens in the whole sequence. scored: the first position whose prediction is taken from this
    window; those before it are only read.
    """

    first: int
    scored: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A text that has been read. Keeps the model's last hidden states, so that any step's logits cost one product.

    context_ids: what stands before the text, at least one token. token_ids: the text itself; its tokens are the steps.
    windows: how it was read; one for what fits the context.
    """

    model: LanguageModel
    context_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    windows: tuple[Window, ...]
    _states: Tensor  # (steps, width) hidden states, or (steps, V) logits where the output layer is not a plain one

    def __len__(self) -> int:
        return len(self.token_ids)

    @torch.inference_mode()
    def logits(self, first: int, end: int) -> Tensor:
        """(end - first, V) float32 raw logits from which the tokens of these steps are drawn."""
        states = self._states[first:end]
        if not _has_plain_output_layer(self.model):
            return states
        layer: Any = self.model.model.get_output_embeddings()
        logits: Tensor = layer(states).float()
        return logits

    def ids_before(self, position: int) -> Tensor:
        """(T,) int64, everything that stands before a step; what penalties look at."""
        return torch.tensor([*self.context_ids, *self.token_ids[:position]])


def windows_of(length: int, context_length: int) -> tuple[Window, ...]:
    """How a sequence of ``length`` tokens, of which the last is only predicted, is read.

    Each window but the first begins half a context later than the one before and is scored in its second half, so
    every token is predicted from at least half a context (fewer only at the beginning of the text).
    """
    inputs = length - 1
    if inputs <= context_length:
        return (Window(0, 0, inputs),)
    stride = max(1, context_length // 2)
    ends = [context_length]
    while ends[-1] < inputs:
        ends.append(min(ends[-1] + stride, inputs))
    first = Window(0, 0, context_length)
    return (first, *(Window(end - context_length, before, end) for before, end in pairwise(ends)))


def read(
    model: LanguageModel,
    context_ids: Sequence[int],
    token_ids: Sequence[int],
    on_progress: ProgressReport = lambda done, total: None,
) -> Reading:
    """Read a known text.

    Args:
        model: the model and its limits.
        context_ids: what stands before the text, at least one token: a run's prompt, or a token that begins a text.
        token_ids: the text, at least one token.
        on_progress: told after each window.

    Raises:
        PromptError: there is nothing to read, or nothing before it.
        ModelError: the model's numbers are not finite.
    """
    if not context_ids or not token_ids:
        raise PromptError("There is nothing to read: write at least one character.")
    sequence = [*context_ids, *token_ids]
    windows = windows_of(len(sequence), model.context_length)
    wanted = len(context_ids) - 1  # the first position whose prediction is a step
    states = []
    for window in windows:
        start = max(window.scored, wanted)
        if start < window.end:
            states.append(_states_of(model, sequence[window.first : window.end])[start - window.first :])
        on_progress(max(0, window.end - wanted), len(token_ids))
    joined = torch.cat(states)
    if not bool(torch.isfinite(joined).all()):
        raise ModelError(
            "The model gave no usable distribution (its numbers are not finite): its files are probably damaged; "
            "try another model."
        )
    return Reading(model, tuple(context_ids), tuple(token_ids), windows, joined)


def replay(
    reading: Reading,
    settings: SamplingSettings,
    on_progress: ProgressReport = lambda done, total: None,
) -> Trace:
    """What the settings make of every step of a known text, as a trace of the same tokens.

    A token outside the kept set has a final probability of 0; nothing is drawn, so a seed is not needed.
    """
    steps: list[Step] = []
    pipeline = Pipeline.of(settings)
    ids = reading.ids_before(len(reading))
    before = len(reading.context_ids)

    def record(position: int, logits: Tensor) -> Step:
        truncated = truncate(pipeline, ids[: before + position], logits)
        token_id = reading.token_ids[position]
        return record_step(position, token_id, truncated, truncated.scores.softmax(dim=-1), pipeline.top_p)

    with ThreadPoolExecutor(torch.get_num_threads(), initializer=single_threaded) as pool:
        for first, logits in _chunks(reading):
            steps.extend(pool.map(record, range(first, first + len(logits)), logits))
            on_progress(len(steps), len(reading))
    return Trace.from_steps(steps)


def _chunks(reading: Reading) -> Iterator[tuple[int, Tensor]]:
    for first in range(0, len(reading), _AT_A_TIME):
        yield first, reading.logits(first, min(first + _AT_A_TIME, len(reading)))


@torch.inference_mode()
def _states_of(model: LanguageModel, token_ids: Sequence[int]) -> Tensor:
    """(T,) ids -> (T, width) last hidden states, or (T, V) logits."""
    ids = torch.tensor([list(token_ids)])
    if _has_plain_output_layer(model):
        states: Tensor = model.model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
        return states
    return _logits_of(model, ids)


@torch.inference_mode()
def _has_plain_output_layer(model: LanguageModel) -> bool:
    """Whether the logits are the output layer's product with the last hidden state and nothing more; tried once."""
    known = _plain_output_layers.get(model.model)
    if known is None:
        # Two tokens of the vocabulary: some models scale or bend their logits, which would show.
        ids = torch.tensor([[0, min(1, model.model.config.vocab_size - 1)]])
        layer: Any = model.model.get_output_embeddings()
        states = model.model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
        known = layer is not None and torch.allclose(layer(states).float(), _logits_of(model, ids), atol=1e-3)
        _plain_output_layers[model.model] = known
    return known


def _logits_of(model: LanguageModel, ids: Tensor) -> Tensor:
    logits: Tensor = model.model(input_ids=ids, use_cache=False).logits[0].float()
    return logits
