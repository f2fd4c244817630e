"""What transformers itself does, for the sampling core to be held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from dashboard.sampling.engine import Drawn, Ended, generate
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import Step, StopReason


@dataclass(frozen=True)
class SmallModel:
    """A model as the engine wants it."""

    model: PreTrainedModel
    context_length: int
    eos_ids: frozenset[int] = frozenset()


def random_model(*, vocabulary: int = 300, context: int = 96, sharpness: float = 60.0, seed: int = 0) -> SmallModel:
    """A tiny GPT-2 with random weights, whose distributions are peaked at some steps and flat at others."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=context,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(sharpness)
    return SmallModel(model, context)


@dataclass(frozen=True)
class Reference:
    """What ``generate`` drew: tokens, and (steps, V) raw logits and truncated scores."""

    tokens: list[int]
    logits: Tensor
    scores: Tensor


def reference(model: SmallModel, prompt_ids: Sequence[int], settings: SamplingSettings) -> Reference:
    """Transformers' own ``generate``, alone, after seeding the global generator."""
    assert settings.seed is not None
    ids = torch.tensor([list(prompt_ids)])
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        generate_alone: Any = model.model.generate
        out = generate_alone(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            max_new_tokens=settings.max_new_tokens,
            eos_token_id=sorted(model.eos_ids) or None,
            pad_token_id=0,
            output_logits=True,
            output_scores=True,
            return_dict_in_generate=True,
            **{"top_k": 0, **settings.active()},
        )
    return Reference(
        tokens=out.sequences[0, len(prompt_ids) :].tolist(),
        logits=torch.cat(out.logits),
        scores=torch.cat(out.scores),
    )


def run(
    model: SmallModel, prompt_ids: Sequence[int], rows: Sequence[SamplingSettings]
) -> tuple[list[list[Step]], list[StopReason]]:
    """All steps of each row, and why each ended."""
    steps: list[list[Step]] = [[] for _ in rows]
    reasons: dict[int, StopReason] = {}
    for event in generate(model, prompt_ids, rows):
        match event:
            case Drawn(row, step):
                assert row not in reasons
                steps[row].append(step)
            case Ended(row, reason):
                assert row not in reasons
                reasons[row] = reason
    return steps, [reasons[row] for row in range(len(rows))]


def tokens(steps: Sequence[Step]) -> list[int]:
    """The drawn ids."""
    return [step.token_id for step in steps]
