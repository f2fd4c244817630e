"""What a stored run says about another p, without a model: numpy on a trace, nothing else.

Transformers' top-p drops a token when the mass cumulated up to it from below is at most 1 - p, both rounded to
float32. ``is_admitted`` repeats that comparison bit for bit, so a stored admitting p answers for any p exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dashboard.sampling.trace import SIZE_CURVE_P, Floats, Integers, Trace


def is_admitted(admitting_p: ArrayLike, p: float) -> NDArray[np.bool_]:
    """Whether a token with this admitting p is in the nucleus at ``p``; elementwise. p = 1 admits everything.

    An admitting p of 0 belongs to the most probable token, which top-p never drops.
    """
    admitting = np.asarray(admitting_p, dtype=np.float64)
    if p >= 1.0:
        return np.ones(admitting.shape, dtype=np.bool_)
    mass_from_below = (1.0 - admitting).astype(np.float32)
    return (mass_from_below > np.float32(1.0 - p)) | (admitting <= 0.0)


def nucleus_sizes_at(trace: Trace, p: float) -> Integers:
    """(steps,) nucleus size of every step at ``p``, which is one of SIZE_CURVE_P, or 1: all that reaches top-p.

    Raises ValueError for another p, whose sizes no stored number tells.
    """
    if p >= 1.0:
        return trace.reaching_size
    try:
        column = SIZE_CURVE_P.index(p)
    except ValueError:
        raise ValueError(f"p = {p} is not a point of the size curve") from None
    return trace.size_curves[:, column].astype(np.int64)


def smallest_p(trace: Trace) -> float:
    """The largest admitting p of the run: top-p alone could have written this text exactly when p is greater.

    0.0 for a run in which every token was the most probable one, and for one without steps.
    """
    return float(trace.admitting_p.max(initial=0.0))


def nucleus_masses_at(trace: Trace, p: float) -> Floats:
    """(steps,) mass of the nucleus at ``p`` in the distribution that reaches top-p.

    Exact where the nucleus lies in the head, NaN where it reaches below it: no stored number tells that mass, which is
    more than p by less than the probability of one token. Raises ValueError like ``nucleus_sizes_at``.
    """
    if p >= 1.0:
        return np.ones(len(trace))
    sizes = nucleus_sizes_at(trace, p)
    masses = np.cumsum(trace.head_probabilities, axis=1, dtype=np.float64)
    in_head = sizes <= masses.shape[1]
    known = masses[np.arange(len(trace)), np.minimum(sizes, masses.shape[1]) - 1] / trace.reaching_mass
    return np.where(in_head, np.minimum(known, 1.0), np.nan)


def cut_tokens(trace: Trace, p: float) -> NDArray[np.bool_]:
    """(steps,) whether top-p at ``p`` would have cut the token of a step, or something before top-p has."""
    return ~is_admitted(trace.admitting_p, p) | (trace.rank > trace.reaching_size)
