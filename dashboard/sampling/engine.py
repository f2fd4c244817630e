"""From a prompt to steps: one forward pass, one cut and one draw a token, for one row or several at once.

The tokens of a row are those that ``model.generate(do_sample=True, top_k=<given or 0>, ...)`` draws alone after
``torch.manual_seed(seed)``: the same classes in the same order on float32 logits, and the same ``torch.multinomial``,
only with a generator of the row's own, because the process is shared by all visitors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from dashboard.errors import ModelError, PromptError
from dashboard.sampling.cache import new_cache
from dashboard.sampling.record import record_step
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import Step, StopReason
from dashboard.sampling.truncation import Pipeline, truncate


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
        step = record_step(self.drawn, int(token), truncated, final, self.pipeline.top_p)
        self.token_ids = torch.cat([self.token_ids, token])
        self.drawn += 1
        return step


def generate(
    model: LanguageModel,
    prompt_ids: Sequence[int],
    rows: Sequence[SamplingSettings],
    *,
    should_stop: Callable[[int], bool] = lambda row: False,
) -> Iterator[Drawn | Ended]:
    """Draw tokens for every row until each has ended.

    All rows share the prompt and advance together in one batch; a row that ends drops out of it.

    Args:
        model: the model and its limits.
        prompt_ids: token ids of the prompt, at least one.
        rows: settings of each row; every seed must be set (``SamplingSettings.with_seed``).
        should_stop: asked for each row before each step; True ends that row with reason "stopped".

    Yields:
        ``Drawn`` for each token and one ``Ended`` for each row. A row ends at an end-of-text token, which is its last
        step ("eos"), after max_new_tokens ("length"), or when the model's context is full ("context").

    Raises:
        PromptError: the prompt is empty or leaves no room in the context. Raised before the first event.
        ModelError: the model's logits are not finite.
    """
    check_prompt(len(prompt_ids), model.context_length)
    running = [_start(index, settings, prompt_ids) for index, settings in enumerate(rows)]
    cache = new_cache(model.model.config)
    # The prompt is read once, by itself, however many rows follow: its logits are those that each row would see alone.
    next_logits = _forward(model, torch.tensor([list(prompt_ids)]), cache)
    if len(running) > 1:
        cache.batch_repeat_interleave(len(running))
        next_logits = next_logits.expand(len(running), -1)

    with ThreadPoolExecutor(min(len(running), torch.get_num_threads()), initializer=_one_thread) as pool:
        while running:
            stopped = [row for row in running if should_stop(row.index)]
            yield from (Ended(row.index, "stopped") for row in stopped)
            drawing = [(i, row) for i, row in enumerate(running) if row not in stopped]
            going = []
            for (i, row), step in zip(drawing, pool.map(_draw, drawing, repeat(next_logits)), strict=True):
                yield Drawn(row.index, step)
                reason = _reason_to_end(row, step, model)
                if reason is None:
                    going.append(i)
                else:
                    yield Ended(row.index, reason)
            if going and len(going) < len(running):
                cache.batch_select_indices(torch.tensor(going))
            running = [running[i] for i in going]
            if running:
                next_logits = _forward(model, torch.stack([row.token_ids[-1:] for row in running]), cache)


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


def _draw(place: tuple[int, _Row], logits: Tensor) -> Step:
    """Draw for the row at a place of the batch; ``logits`` is (rows, V)."""
    i, row = place
    return row.draw(logits[i])


def _reason_to_end(row: _Row, step: Step, model: LanguageModel) -> StopReason | None:
    if step.token_id in model.eos_ids:
        return "eos"
    if row.drawn >= row.settings.max_new_tokens:
        return "length"
    if len(row.token_ids) >= model.context_length:
        return "context"
    return None


@torch.inference_mode()
def _forward(model: LanguageModel, token_ids: Tensor, cache: object) -> Tensor:
    """(rows, new tokens) ids -> (rows, V) float32 logits of the next token; the cache grows by the new tokens."""
    outputs = model.model(input_ids=token_ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    logits: Tensor = outputs.logits[:, -1, :].float()
    return logits


def _one_thread() -> None:
    # Each pool thread works on a row of its own; letting every small operation start a team of threads again would
    # only make them wait for each other. OpenMP keeps this number per thread.
    torch.set_num_threads(1)
