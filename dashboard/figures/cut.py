"""Where the cut of one step falls at some p, and the mass of its head up to each rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dashboard.sampling.trace import SIZE_CURVE_P, Floats, Step

# Sliders hand over 0.57 as 0.5700000000000001; no two points of the size curve are closer than this many
# digits.
_P_DIGITS: Final = 3


@dataclass(frozen=True, slots=True)
class Cut:
    """The border of the nucleus at ``p``: it stands between ranks ``size`` and ``size + 1``.

    mass: of the nucleus, in the distribution that reaches top-p; None beyond the head of another p than the
    run's. is_run: whether it is the cut that the sampler made.
    """

    p: float
    size: int
    mass: float | None
    is_run: bool

    @property
    def position(self) -> float:
        """The cut on an axis of ranks."""
        return self.size + 0.5


def run_cut(step: Step, top_p: float) -> Cut:
    """The cut that the sampler made with the run's ``top_p``."""
    return Cut(top_p, step.nucleus_size, step.nucleus_mass, is_run=True)


def cut_at(step: Step, top_p: float, what_if_p: float | None) -> Cut:
    """The cut to show: at ``what_if_p`` if that is another p than the run's ``top_p``.

    Raises ValueError for a p that is neither the run's, nor 1, nor a point of SIZE_CURVE_P.
    """
    if what_if_p is None or what_if_p == top_p:
        return run_cut(step, top_p)
    if what_if_p >= 1:
        return Cut(1.0, step.reaching_size, 1.0, is_run=False)
    p = round(what_if_p, _P_DIGITS)
    if p not in SIZE_CURVE_P:
        raise ValueError(f"p = {what_if_p} is not a point of the size curve")
    size = int(step.size_curve[SIZE_CURVE_P.index(p)])
    masses = head_masses(step)
    return Cut(p, size, float(masses[size - 1]) if size <= len(masses) else None, is_run=False)


def kept_ranks(step: Step) -> int | None:
    """How many ranks from the top the sampler kept after every truncation, if it kept exactly those; else None.

    Typical sampling may drop the most probable token; the other settings drop from below. The last token kept
    tells them apart: if it ranks ``kept_size``, nothing above it can be missing.
    """
    if step.kept_size == step.nucleus_size:
        return step.kept_size
    if step.kept_size <= len(step.head_ids) and step.head_ids[step.kept_size - 1] == step.last_kept.token_id:
        return step.kept_size
    return None


def head_masses(step: Step) -> Floats:
    """(ranks of the head that reach top-p,) mass up to each rank, in the distribution that reaches top-p."""
    reaching = step.head_probabilities[: step.reaching_size].astype(np.float64)
    masses: Floats = np.minimum(np.cumsum(reaching) / step.reaching_mass, 1.0)
    return masses


def mass_curve(step: Step) -> tuple[Floats, Floats]:
    """(points,) ranks and (points,) mass up to each of them, both rising, over all tokens that reach top-p.

    Exact for the ranks of the head, the run's own cut, the drawn token and the last rank. In between stand
    the points (size at p, p) of the size curve, which are below the true mass by less than the probability of
    one token.
    """
    head = head_masses(step)
    points = {rank: float(mass) for rank, mass in enumerate(head, start=1)}
    for p, size in zip(SIZE_CURVE_P, step.size_curve.tolist(), strict=True):
        if size > len(head):
            # Several p may share a size where one token carries much mass: the largest is the closest.
            points[size] = max(p, points.get(size, 0.0))
    points[step.nucleus_size] = step.nucleus_mass
    points[step.reaching_size] = 1.0
    if step.rank <= step.reaching_size:
        points[step.rank] = mass_up_to_drawn(step)
    ranks = np.array(sorted(points), dtype=np.float64)
    masses = np.array([points[int(rank)] for rank in ranks], dtype=np.float64)
    # The head is summed in float64 and the cut in float32: the last digits may disagree.
    return ranks, np.maximum.accumulate(np.minimum(masses, 1.0))


def mass_up_to_drawn(step: Step) -> float:
    """Mass of the drawn token and all that rank above it, in the distribution that reaches top-p."""
    return min(1.0, step.admitting_p + step.probability / step.reaching_mass)
