"""The few numbers that stand for a whole run in a list: measures and a sparkline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from dashboard.sampling.trace import Trace

SPARKLINE_POINTS: Final = 60
"""The most numbers that a sparkline has."""


@dataclass(frozen=True, slots=True)
class Measures:
    """Measures of a run with at least one step.

    mean_nucleus_size, median_nucleus_size: tokens.
    mean_entropy: of the shaped distributions, bits. mean_surprisal: of the drawn tokens, bits.
    """

    mean_nucleus_size: float
    median_nucleus_size: float
    mean_entropy: float
    mean_surprisal: float

    @property
    def perplexity(self) -> float:
        """2 to the mean surprisal: the model's perplexity on its own output, under the raw distribution."""
        try:
            return math.exp2(self.mean_surprisal)
        except OverflowError:
            return math.inf


def summary_measures(trace: Trace) -> Measures | None:
    """The measures of a run; None for one without steps."""
    return measures_of(trace.nucleus_size, trace.entropy, trace.surprisal)


def measures_of(nucleus_size: ArrayLike, entropy: ArrayLike, surprisal: ArrayLike) -> Measures | None:
    """The measures from the three columns (steps,) that they need; None without steps."""
    sizes = np.asarray(nucleus_size, dtype=np.float64)
    if not len(sizes):
        return None
    return Measures(
        mean_nucleus_size=float(sizes.mean()),
        median_nucleus_size=float(np.median(sizes)),
        mean_entropy=float(np.asarray(entropy, dtype=np.float64).mean()),
        mean_surprisal=float(np.asarray(surprisal, dtype=np.float64).mean()),
    )


def sparkline(nucleus_size: ArrayLike, points: int = SPARKLINE_POINTS) -> tuple[float, ...]:
    """At most ``points`` numbers that draw the nucleus size over a run: means of equal stretches, to one decimal.

    A run with fewer steps is drawn step by step.
    """
    sizes = np.asarray(nucleus_size, dtype=np.float64)
    if not len(sizes):
        return ()
    count = min(points, len(sizes))
    # Stretches that differ in length by one are spread evenly, so that a point stands where its steps are.
    edges = np.arange(count + 1) * len(sizes) // count
    means = np.add.reduceat(sizes, edges[:-1]) / np.diff(edges)
    return tuple(round(float(mean), 1) for mean in means)
