"""Steps and traces from explicit probability vectors, by numpy alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from dashboard.sampling.trace import HEAD_SIZE, SIZE_CURVE_P, Candidate, Floats, Step, Trace
from dashboard.sampling.vocabulary import Vocabulary


def make_step(
    probabilities: ArrayLike,
    *,
    drawn: int = 0,
    top_p: float = 0.9,
    top_k: int = 0,
    min_p: float = 0.0,
    raw: ArrayLike | None = None,
    position: int = 0,
) -> Step:
    """A step with this shaped distribution; token ids are indices. Ties rank by id. min_p is applied after top-p."""
    shaped = np.asarray(probabilities, dtype=np.float64)
    shaped = shaped / shaped.sum()
    raw_distribution = shaped if raw is None else np.asarray(raw, dtype=np.float64) / np.sum(raw)
    order = np.argsort(-shaped, kind="stable")
    reaching_size = min(top_k or len(shaped), int(np.count_nonzero(shaped)))
    reaching_mass = float(shaped[order[:reaching_size]].sum())
    reaching = shaped[order[:reaching_size]] / reaching_mass
    from_below = np.cumsum(reaching[::-1], dtype=np.float64).astype(np.float32)

    def size_at(p: float) -> int:
        if p >= 1:
            return reaching_size
        return max(1, reaching_size - int(np.searchsorted(from_below, np.float32(1 - p), side="right")))

    size = size_at(top_p)
    in_nucleus = order[:size]
    kept = in_nucleus[shaped[in_nucleus] >= min_p * shaped.max()]
    dropped = order[~np.isin(order, kept) & (shaped[order] > 0)]
    place = int(np.flatnonzero(order == drawn)[0])
    head = order[:HEAD_SIZE]
    return Step(
        position=position,
        token_id=drawn,
        raw_probability=float(raw_distribution[drawn]),
        probability=float(shaped[drawn]),
        final_probability=float(shaped[drawn] / shaped[kept].sum()) if drawn in kept else 0.0,
        rank=place + 1,
        surprisal=float(-np.log2(raw_distribution[drawn])),
        entropy=float(-(shaped[shaped > 0] * np.log2(shaped[shaped > 0])).sum()),
        nucleus_size=size,
        nucleus_mass=float(reaching[:size].sum()),
        kept_size=len(kept),
        kept_mass=float(shaped[kept].sum()),
        reaching_size=reaching_size,
        reaching_mass=reaching_mass,
        admitting_p=float(reaching[:place].sum()),
        last_kept=Candidate(int(kept[-1]), float(shaped[kept[-1]])),
        first_dropped=Candidate(int(dropped[0]), float(shaped[dropped[0]])) if len(dropped) else None,
        head_ids=head.astype(np.uint16),
        head_probabilities=shaped[head].astype(np.float32),
        head_raw_probabilities=raw_distribution[head].astype(np.float32),
        size_curve=np.array([size_at(p) for p in SIZE_CURVE_P], dtype=np.int32),
    )


def zipf(size: int, power: float = 1.0) -> Floats:
    """(size,) probabilities that fall with the rank, as those of language do."""
    weights: Floats = np.arange(1, size + 1, dtype=np.float64) ** -power
    return weights / float(weights.sum())


def make_vocabulary(size: int, labels: Sequence[str] = ()) -> Vocabulary:
    """A vocabulary of ``size`` tokens; the first ones are ``labels``, the others are named after their id."""
    names = [*labels, *(f" t{i}" for i in range(len(labels), size))]
    return Vocabulary(tuple(name.encode() for name in names))


def make_trace(steps: Sequence[Step]) -> Trace:
    """The steps as columns."""
    return Trace.from_steps(steps)
