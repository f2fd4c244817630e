"""How fast the engine draws and records, against transformers' ``generate`` that records nothing, in one process.

    python -m benchmarks.generation [--tokens 60] [--repeats 3] [--rows 1 5 20]

GPT-2 124M with random weights, float32 (speed does not depend on the weights). ``generate`` runs on the plain model,
once for each row in turn with that row's p; the engine runs all rows in one batch, with full recording. Each figure is
the best of the repeats; engine and ``generate`` take turns, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from dashboard.sampling.acceleration import accelerate
from dashboard.sampling.engine import Drawn, generate
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import Step

PS = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class BenchmarkModel:
    """A model without an end-of-text token, so that every run has the same length."""

    model: PreTrainedModel
    context_length: int = 1024
    eos_ids: frozenset[int] = frozenset()


def settings_for(rows: int, tokens: int) -> list[SamplingSettings]:
    """``rows`` settings over five values of p, each with a seed of its own."""
    ps = PS if rows > 1 else (0.9,)
    return [SamplingSettings(top_p=ps[i % len(ps)], seed=i, max_new_tokens=tokens) for i in range(rows)]


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=60, help="new tokens of each row (default 60)")
    parser.add_argument("--repeats", type=int, default=3, help="how often each is timed; the best counts (default 3)")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 5, 20], help="batch sizes (default 1 5 20)")
    options = parser.parse_args()

    torch.manual_seed(0)
    config = GPT2Config(bos_token_id=None, eos_token_id=None)
    plain = GPT2LMHeadModel(config).eval()
    fast_model = deepcopy(plain)
    packed = accelerate(fast_model)
    fast = BenchmarkModel(fast_model)
    prompt = torch.randint(0, config.vocab_size, (32,)).tolist()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, packed products: {packed}")
    print(f"{options.tokens} tokens a row, prompt of {len(prompt)} tokens, best of {options.repeats}\n")
    print("rows   generate in turn   engine, recording   ratio")

    for count in options.rows:
        settings = settings_for(count, options.tokens)

        def in_turn(settings: list[SamplingSettings] = settings) -> None:
            for row in settings:
                _reference(plain, prompt, row)

        def engine(settings: list[SamplingSettings] = settings) -> list[Step]:
            return [event.step for event in generate(fast, prompt, settings) if isinstance(event, Drawn)]

        times = [(seconds(in_turn), seconds(engine)) for _ in range(options.repeats)]
        theirs, ours = (min(column) for column in zip(*times, strict=True))
        total = count * options.tokens
        print(f"{count:4}   {total / theirs:9.1f} tokens/s   {total / ours:10.1f} tokens/s   {theirs / ours:5.2f}")

    print(f"\nmemory of a recorded step: {_bytes_per_step(fast, prompt):,} bytes")


def _reference(model: PreTrainedModel, prompt: list[int], settings: SamplingSettings) -> None:
    torch.manual_seed(settings.seed or 0)
    ids = torch.tensor([prompt])
    generate_alone: Any = model.generate
    generate_alone(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        top_k=0,
        top_p=settings.top_p,
        max_new_tokens=settings.max_new_tokens,
    )


def _bytes_per_step(model: BenchmarkModel, prompt: list[int]) -> int:
    """Python and numpy memory that is still held after a run, for each of its steps."""
    settings = settings_for(1, 50)
    tracemalloc.start()
    steps = [event.step for event in generate(model, prompt, settings) if isinstance(event, Drawn)]
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held // len(steps)


if __name__ == "__main__":
    main()
