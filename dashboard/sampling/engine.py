"""From a prompt to steps: one forward pass, one cut and one draw a token, for one row or several at once.

The tokens of a row are those that ``model.generate(do_sample=True, top_k=<given or 0>, ...)`` draws alone after
``torch.manual_seed(seed)``: the same classes in the same order on float32 logits, and the same ``torch.multinomial``,
only with a generator of the row's own, because the process is shared by all visitors.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Final, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from dashboard.errors import ModelError, PromptError
from dashboard.sampling.cache import new_cache
from dashboard.sampling.record import record_step
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import Step, StopReason
from dashboard.sampling.truncation import Pipeline, Truncated, truncate

# Given tokens are read many at a time; their logits, 200 KB each, are not to fill the memory.
_GIVEN_AT_A_TIME: Final = 64


class LanguageModel(Protocol):
    """What the engine needs of a model; ``models.LoadedModel`` is one."""

    @property
    def model(self) -> PreTrainedModel:
        """A causal language model in float32, in evaluation mode."""

    @property
    def context_length(self) -> int:
        """The most tokens, prompt included, that the model reads."""

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end the text."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A row has drawn a token."""

    row: int
    step: Step


@dataclass(frozen=True, slots=True)
class Ended:
    """A row has ended; no more of its events follow."""

    row: int
    reason: StopReason


@dataclass(slots=True, eq=False)
class _Row:
    """One row while it runs."""

    index: int
    settings: SamplingSettings
    pipeline: Pipeline
    generator: torch.Generator
    token_ids: Tensor  # (T,) prompt and output so far
    drawn: int = 0

    def draw(self, logits: Tensor) -> Step:
        """Draw the next token from (V,) float32 logits and record how."""
        truncated = truncate(self.pipeline, self.token_ids, logits)
        final = truncated.scores.softmax(dim=-1)
        try:
            token = torch.multinomial(final, num_samples=1, generator=self.generator)
        except RuntimeError as error:
            raise ModelError(
                f"The model gave no usable distribution at step {self.drawn + 1} (its numbers are not finite): "
                "its files are probably damaged; try another model."
            ) from error
        return self._append(int(token), truncated, final)

    def take(self, token_id: int, logits: Tensor) -> Step:
        """Append a token that is given, and record how (V,) float32 logits saw it."""
        truncated = truncate(self.pipeline, self.token_ids, logits)
        return self._append(token_id, truncated, truncated.scores.softmax(dim=-1))

    def _append(self, token_id: int, truncated: Truncated, final: Tensor) -> Step:
        step = record_step(self.drawn, token_id, truncated, final, self.pipeline.top_p)
        self.token_ids = torch.cat([self.token_ids, torch.tensor([token_id])])
        self.drawn += 1
        return step


def generate(
    model: LanguageModel,
    prompt_ids: Sequence[int],
    rows: Sequence[SamplingSettings],
    *,
    given_ids: Sequence[int] = (),
    should_stop: Callable[[int], bool] = lambda row: False,
) -> Iterator[Drawn | Ended]:
    """Draw tokens for every row until each has ended.

    All rows share the prompt and advance together in one batch; a row that ends drops out of it.

    Args:
        model: the model and its limits.
        prompt_ids: token ids of the prompt, at least one.
        rows: settings of each row; every seed must be set (``SamplingSettings.with_seed``).
        given_ids: the first tokens of every row's output, not drawn but taken, as a branch takes those of its parent.
            They are recorded as steps like any other and count towards max_new_tokens; a given token outside the kept
            set has a final probability of 0. What follows is what would follow the same tokens in the prompt.
        should_stop: asked for each row before each step; True ends that row with reason "stopped".

    Yields:
        ``Drawn`` for each token and one ``Ended`` for each row. A row ends at an end-of-text token, which is its last
        step ("eos"), after max_new_tokens ("length"), or when the model's context is full ("context").

    Raises:
        PromptError: the prompt is empty or leaves no room in the context. Raised before the first event.
        ModelError: the model's logits are not finite.
    """
    check_prompt(len(prompt_ids) + max(0, len(given_ids) - 1), model.context_length)
    running = [_start(index, settings, prompt_ids) for index, settings in enumerate(rows)]
    cache = new_cache(model.model.config)
    # The prompt is read once, by itself, however many rows follow: its logits are those that each row would see alone.
    next_logits = _forward(model, torch.tensor([list(prompt_ids)]), cache)[:, -1]

    with ThreadPoolExecutor(min(len(running), torch.get_num_threads()), initializer=single_threaded) as pool:
        for start in range(0, len(given_ids), _GIVEN_AT_A_TIME):
            given = list(given_ids[start : start + _GIVEN_AT_A_TIME])
            after = _forward(model, torch.tensor([given]), cache, keep=len(given))[0]
            for token_id, logits in zip(given, torch.cat([next_logits, after[:-1]]), strict=True):
                running = yield from _without_stopped(running, should_stop)
                steps = pool.map(_take, running, repeat(token_id), repeat(logits))
                running = yield from _without_ended(running, steps, model)
            next_logits = after[-1:]

        if len(running) > 1:
            cache.batch_repeat_interleave(len(running))
        next_logits = next_logits.expand(len(running), -1)
        while running:
            places = {row.index: place for place, row in enumerate(running)}
            running = yield from _without_stopped(running, should_stop)
            steps = pool.map(_draw, running, [next_logits[places[row.index]] for row in running])
            running = yield from _without_ended(running, steps, model)
            if running and len(running) < len(places):
                cache.batch_select_indices(torch.tensor([places[row.index] for row in running]))
            if running:
                next_logits = _forward(model, torch.stack([row.token_ids[-1:] for row in running]), cache)[:, -1]


def check_prompt(length: int, context_length: int) -> None:
    """Raise PromptError unless a prompt of ``length`` tokens leaves room for at least one more."""
    if length == 0:
        raise PromptError("The prompt is empty: write at least one character for the model to continue.")
    if length >= context_length:
        raise PromptError(
            f"The prompt has {length:,} tokens, but this model reads at most {context_length:,} and needs room "
            "for the answer: shorten the prompt or choose a model with a longer context."
        )


def _start(index: int, settings: SamplingSettings, prompt_ids: Sequence[int]) -> _Row:
    if settings.seed is None:
        raise ValueError("a row without a seed cannot be repeated: call with_seed() first")
    return _Row(
        index=index,
        settings=settings,
        pipeline=Pipeline.of(settings),
        generator=torch.Generator().manual_seed(settings.seed),
        token_ids=torch.tensor(list(prompt_ids)),
    )


def _draw(row: _Row, logits: Tensor) -> Step:
    return row.draw(logits)


def _take(row: _Row, token_id: int, logits: Tensor) -> Step:
    return row.take(token_id, logits)


def _without_stopped(running: list[_Row], should_stop: Callable[[int], bool]) -> Generator[Ended, None, list[_Row]]:
    """Tell which rows are stopped, and return the others."""
    stopped = {row.index for row in running if should_stop(row.index)}
    yield from (Ended(index, "stopped") for index in sorted(stopped))
    return [row for row in running if row.index not in stopped]


def _without_ended(
    running: list[_Row], steps: Iterable[Step], model: LanguageModel
) -> Generator[Drawn | Ended, None, list[_Row]]:
    """Tell each row's step and which rows end with it, and return the others."""
    going = []
    for row, step in zip(running, steps, strict=True):
        yield Drawn(row.index, step)
        reason = _reason_to_end(row, step, model)
        if reason is None:
            going.append(row)
        else:
            yield Ended(row.index, reason)
    return going


def _reason_to_end(row: _Row, step: Step, model: LanguageModel) -> StopReason | None:
    if step.token_id in model.eos_ids:
        return "eos"
    if row.drawn >= row.settings.max_new_tokens:
        return "length"
    if len(row.token_ids) >= model.context_length:
        return "context"
    return None


@torch.inference_mode()
def _forward(model: LanguageModel, token_ids: Tensor, cache: object, *, keep: int = 1) -> Tensor:
    """(rows, new tokens) ids -> (rows, keep, V) float32 logits after the last ``keep``; the cache grows."""
    outputs = model.model(input_ids=token_ids, past_key_values=cache, use_cache=True, logits_to_keep=keep)
    logits: Tensor = outputs.logits[:, -keep:, :].float()
    return logits


def single_threaded() -> None:
    """Let the calling thread of a pool compute alone."""
    # Each pool thread works on a row of its own; letting every small operation start a team of threads again would
    # only make them wait for each other. OpenMP keeps this number per thread.
    torch.set_num_threads(1)
