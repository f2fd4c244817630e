"""How strongly each token of the strip is washed with colour, and what the strength means.

The stronger the wash, the further from the obvious: a token that was unlikely, or a step at which much was
possible. The scales are fixed, so that a run keeps its colours while it grows and two runs can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from dashboard.sampling.trace import Floats, Integers, Trace

Colouring: TypeAlias = Literal["surprisal", "probability", "rank", "admitting_p", "entropy", "nucleus_size"]

_LARGEST_BITS: Final = 12.0
_LARGEST_RANK: Final = 10_000


@dataclass(frozen=True, slots=True)
class Scale:
    """What one colouring shows.

    label: its name in the interface. low, high: what no wash and the strongest one stand for. hue: ``drawn``
    where it speaks of the drawn token, ``kept`` where it speaks of the whole step. values: (steps,) strength,
    0 to 1.
    """

    label: str
    low: str
    high: str
    hue: Literal["drawn", "kept"]
    values: Callable[[Trace], Floats]


def _linear(numbers: Floats, largest: float) -> Floats:
    return np.clip(numbers / largest, 0.0, 1.0)


def _logarithmic(numbers: Integers) -> Floats:
    """0 for 1, 1 for _LARGEST_RANK and beyond."""
    logs: Floats = np.log(np.maximum(numbers, 1)) / np.log(_LARGEST_RANK)
    return np.clip(logs, 0.0, 1.0)


SCALES: Final[dict[Colouring, Scale]] = {
    "surprisal": Scale(
        "Surprisal",
        "0 bits",
        "12 bits or more",
        "drawn",
        lambda trace: _linear(trace.surprisal, _LARGEST_BITS),
    ),
    "probability": Scale(
        "Probability", "100 %", "0 %", "drawn", lambda trace: np.clip(1.0 - trace.probability, 0.0, 1.0)
    ),
    "rank": Scale("Rank", "1", "10,000 or more", "drawn", lambda trace: _logarithmic(trace.rank)),
    "admitting_p": Scale("Admitting p", "0", "1", "drawn", lambda trace: np.clip(trace.admitting_p, 0.0, 1.0)),
    "entropy": Scale(
        "Entropy", "0 bits", "12 bits or more", "kept", lambda trace: _linear(trace.entropy, _LARGEST_BITS)
    ),
    "nucleus_size": Scale(
        "Nucleus size", "1 token", "10,000 or more", "kept", lambda trace: _logarithmic(trace.nucleus_size)
    ),
}
"""Every colouring of the strip, in the order in which it is offered."""


def colour_values(trace: Trace, colouring: Colouring) -> Floats:
    """(steps,) strength of the wash behind each token, 0 to 1."""
    return SCALES[colouring].values(trace)
