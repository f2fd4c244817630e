"""Runs and steps to store: made by arithmetic, so that no test of the history loads a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from dashboard.history import NewRun
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import HEAD_SIZE, SIZE_CURVE_P, Candidate, Step, TokenIds


def sample_step(position: int, *, vocabulary: int = 50_257, reshaped: bool = False, seed: int = 0) -> Step:
    """A step of a distribution as uneven as a language model's."""
    random = np.random.default_rng([seed, position])
    logits = np.sort(random.normal(scale=3.0, size=vocabulary))[::-1]
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    size = min(HEAD_SIZE, vocabulary)
    head = probabilities[:size].astype(np.float32)
    chosen = random.permutation(vocabulary)[:size]
    ids: TokenIds = chosen.astype(np.uint16) if vocabulary <= 2**16 else chosen.astype(np.uint32)
    curve = np.searchsorted(np.cumsum(probabilities), SIZE_CURVE_P) + 1
    drawn = int(random.integers(size))
    return Step(
        position=position,
        token_id=int(ids[drawn]),
        raw_probability=float(head[drawn]),
        probability=float(head[drawn]),
        final_probability=float(head[drawn] / 0.9),
        rank=drawn + 1,
        surprisal=float(-np.log2(head[drawn])),
        entropy=float(-(probabilities * np.log2(probabilities)).sum()),
        nucleus_size=int(curve[89]),
        nucleus_mass=0.9 + position * 1e-17,
        kept_size=int(curve[89]),
        kept_mass=0.1 + 0.2,
        reaching_size=vocabulary,
        reaching_mass=1.0,
        admitting_p=float(probabilities[:drawn].sum()),
        last_kept=Candidate(int(ids[3]), float(head[3])),
        first_dropped=None if position % 3 == 0 else Candidate(int(ids[4]), float(head[4])),
        head_ids=ids,
        head_probabilities=head,
        head_raw_probabilities=random.permutation(head) if reshaped else head,
        size_curve=curve.astype(np.int32),
    )


def sample_steps(count: int, *, start: int = 0, **options: Any) -> list[Step]:
    """Steps one after the other."""
    return [sample_step(position, **options) for position in range(start, start + count)]


def sample_run(**changes: Any) -> NewRun:
    """A run to store."""
    values: dict[str, Any] = {
        "prompt": "The lighthouse keeper",
        "settings": SamplingSettings(seed=7, top_p=0.85),
        "model_name": "pocket",
        "model_title": "Pocket GPT-2",
        "model_revision": None,
        "model_fingerprint": "a" * 64,
        "vocabulary_fingerprint": "b" * 64,
        "prompt_token_ids": (464, 1657, 50_256),
    }
    return NewRun(**(values | changes))


def assert_same_step(got: Step, expected: Step) -> None:
    """Every number is the same, arrays bit for bit and of the same type."""
    for name in Step.__slots__:
        ours, theirs = getattr(got, name), getattr(expected, name)
        if isinstance(theirs, np.ndarray):
            assert ours.dtype == theirs.dtype, name
            assert ours.tobytes() == theirs.tobytes(), name
        else:
            assert ours == theirs, name
