"""Seven samplers that can be held against the same distribution, and what a stored step says of each.

Each sampler is meant alone, on the shaped distribution of a step. What a model's full distribution says is in
``warpers``; here are their descriptions, and the answers that need no model: exact ones, or none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from dashboard.sampling.settings import KNOB, Knob, SamplingSettings
from dashboard.sampling.trace import SIZE_CURVE_P, Candidate, Floats, Step


@dataclass(frozen=True, slots=True)
class Sampler:
    """One way to truncate. ``start`` is the value to begin with, ``source`` who described it and whose value that is.

    ``knob.off`` is the value that keeps everything, None where there is none.
    """

    knob: Knob
    start: float | int
    source: str

    @property
    def name(self) -> str:
        """Transformers' name of the setting."""
        return self.knob.name

    def told(self, value: float) -> str:
        """The sampler with a value, in words: ``Min-p 0.05``."""
        return f"{self.knob.label} {value:g}"


_TOP_N_SIGMA = Knob(
    name="top_n_sigma",
    label="Top-n-sigma",
    kind="float",
    low=0.0,
    high=5.0,
    low_open=True,
    default=1.0,
    off=None,
    step=0.1,
    unit="",
    help="Keep the tokens whose logit is at most this many standard deviations of all logits below the highest; "
    "the temperature does not change which.",
)

SAMPLERS: Final[tuple[Sampler, ...]] = (
    Sampler(KNOB["top_p"], 0.9, "Holtzman et al. 2020, The Curious Case of Neural Text Degeneration"),
    Sampler(KNOB["top_k"], 50, "Fan et al. 2018, Hierarchical Neural Story Generation; 50 is transformers' default"),
    Sampler(KNOB["min_p"], 0.05, "Nguyen et al. 2024, Turning Up the Heat; they advise 0.05 to 0.1"),
    Sampler(KNOB["typical_p"], 0.9, "Meister et al. 2023, Locally Typical Sampling; 0.9 is transformers' default"),
    Sampler(KNOB["epsilon_cutoff"], 0.0005, "Hewitt et al. 2022, Truncation Sampling as Language Model Desmoothing"),
    Sampler(KNOB["eta_cutoff"], 0.001, "Hewitt et al. 2022, Truncation Sampling as Language Model Desmoothing"),
    Sampler(_TOP_N_SIGMA, 1.0, "Tang et al. 2024, Top-nσ: Not All Logits Are You Need; 1 is their own value"),
)
SAMPLER: Final[dict[str, Sampler]] = {sampler.name: sampler for sampler in SAMPLERS}


@dataclass(frozen=True, slots=True)
class Kept:
    """What one sampler keeps of one step: the tokens of the ranks ``first_rank`` to ``last_rank``, ``size`` of them.

    first_rank: 1, except that typical sampling may drop the most probable tokens.
    mass: of these tokens in the shaped distribution. last: the least probable of them. Both are None where a stored
    step does not tell; the model's distribution always does.
    """

    sampler: str
    value: float
    size: int
    first_rank: int
    last_rank: int
    mass: float | None
    last: Candidate | None


def shaping_only(settings: SamplingSettings) -> SamplingSettings:
    """The part of the settings that makes the shaped distribution, without any truncation."""
    return SamplingSettings(
        top_p=1.0,
        temperature=settings.temperature,
        repetition_penalty=settings.repetition_penalty,
        no_repeat_ngram_size=settings.no_repeat_ngram_size,
    )


def stored_kept(step: Step, name: str, value: float, *, top_k: int, vocabulary_size: int) -> Kept | None:
    """What a sampler alone would keep of a stored step, if its numbers prove it.

    Exact or None: the size and the ranks are those of transformers' class on the full distribution. Where the set is
    proven but reaches below the head, its mass and last token are None unless the run's own cut is the same.

    Args:
        step: the stored step.
        name: one of ``SAMPLER``. Top-n-sigma is never answered: it asks for the logits of the whole vocabulary.
        value: of that sampler.
        top_k: that of the settings that the step was made with: it bounds what the size curve speaks of; 0 is off.
        vocabulary_size: of the model: its many small probabilities are what rounding errors come from.
    """
    stored = _Stored(step, top_k, vocabulary_size)
    if value == SAMPLER[name].knob.off:
        ranks = None if stored.whole is None else (1, stored.whole)
    elif name == "typical_p":
        ranks = _typical(stored, value)
    else:
        size = _SIZES[name](stored, value) if name in _SIZES else None
        ranks = None if size is None else (1, size)
    if ranks is None:
        return None
    first, last = ranks
    mass, lowest = stored.mass_and_last(first, last)
    return Kept(name, value, last - first + 1, first, last, mass, lowest)


@dataclass(frozen=True)
class _Stored:
    """A stored step, as far as it speaks of the whole shaped distribution."""

    step: Step
    top_k: int
    vocabulary_size: int

    @cached_property
    def head(self) -> Floats:
        """Shaped probabilities of the most probable tokens, most probable first."""
        return self.step.head_probabilities.astype(np.float64)

    @property
    def whole(self) -> int | None:
        """The number of tokens that are not forbidden; not stored where top-k was on."""
        return self.step.reaching_size if self.top_k == 0 else None

    @property
    def is_all_in_head(self) -> bool:
        return self.whole is not None and self.whole <= len(self.head)

    @property
    def rounding(self) -> float:
        """The most by which float32 probabilities and their sums may differ between two orders of summation.

        Twice what was measured on distributions made to be bad, flat ones with ties, of 50,000 and 150,000 tokens; it
        grows with the number of tokens.
        """
        return 1e-5 + 4e-9 * self.vocabulary_size

    @property
    def entropy(self) -> float:
        """In nats."""
        return self.step.entropy * math.log(2)

    @property
    def entropy_rounding(self) -> float:
        """The most by which transformers' float32 entropy may be off, in nats; measured likewise."""
        return 5 * self.rounding

    def mass_and_last(self, first: int, last: int) -> tuple[float | None, Candidate | None]:
        """The mass of these ranks and the last of their tokens, where they are known."""
        step = self.step
        if last <= len(self.head):
            mass = 1.0 if last - first + 1 == self.whole else min(1.0, float(self.head[first - 1 : last].sum()))
            return mass, Candidate(int(step.head_ids[last - 1]), float(self.head[last - 1]))
        # What is left after every truncation is a part of the nucleus: of the same size, it is the nucleus.
        lowest = step.last_kept if last == step.nucleus_size == step.kept_size else None
        if last == step.reaching_size:
            return step.reaching_mass, lowest
        return (None if lowest is None else step.kept_mass), lowest


def _top_p(stored: _Stored, p: float) -> int | None:
    curve = stored.step.size_curve
    if stored.whole is not None:
        # The threshold as transformers rounds it: p of a slider need not be p of the curve in every digit.
        threshold, thresholds = np.float32(1 - p), 1 - np.array(SIZE_CURVE_P)
        if np.any(same := thresholds.astype(np.float32) == threshold):
            return int(curve[np.argmax(same)])
        above = int(np.searchsorted(SIZE_CURVE_P, p))
        smallest = int(curve[above - 1]) if above else 1
        largest = int(curve[above]) if above < len(curve) else stored.whole
        if smallest == largest:
            return smallest
    masses = np.cumsum(stored.head)
    size = int(np.searchsorted(masses, p)) + 1
    if size > len(masses) or masses[size - 1] < p + stored.rounding:
        return None
    return size if size == 1 or masses[size - 2] < p - stored.rounding else None


def _top_k(stored: _Stored, k: float) -> int | None:
    if stored.whole is not None and k >= stored.whole:
        return stored.whole
    if k == stored.top_k:
        return stored.step.reaching_size
    # Tokens as probable as the last one are kept too, and equal probabilities may hide equal logits.
    k = int(k)
    return k if k < len(stored.head) and stored.head[k] < stored.head[k - 1] else None


def _min_p(stored: _Stored, share: float) -> int | None:
    # Both sides of this comparison carry the same error of their sum: only the last digits are left to differ.
    return _at_least(stored, share * stored.head[0], margin=1e-5)


def _epsilon(stored: _Stored, epsilon: float) -> int | None:
    return _at_least(stored, epsilon, margin=stored.rounding)


def _eta(stored: _Stored, epsilon: float) -> int | None:
    milder = math.sqrt(epsilon) * math.exp(-stored.entropy)
    return _at_least(stored, min(epsilon, milder), margin=stored.rounding + stored.entropy_rounding)


def _at_least(stored: _Stored, threshold: float, *, margin: float) -> int | None:
    """How many tokens are at least this probable, the first one always counted.

    None where a probability lies within ``margin`` of the threshold, as a share of it, or beyond the head.
    """
    first, below = stored.head[0], stored.head[1:]
    if np.any(np.abs(below - threshold) <= margin * threshold):
        return None
    size = 1 + int(np.count_nonzero(below > threshold))
    if size == len(stored.head) and not stored.is_all_in_head:
        return None
    # Where nothing reaches the threshold, all that tie with the first are kept.
    return None if size == 1 and len(below) and below[0] == first else size


def _typical(stored: _Stored, mass: float) -> tuple[int, int] | None:
    """The ranks that typical sampling keeps: those closest to the entropy in surprisal, until they reach the mass."""
    with np.errstate(divide="ignore"):
        surprisal = -np.log(stored.head)
    away = surprisal - stored.entropy
    distance = np.abs(away)
    order = np.argsort(distance, kind="stable")
    masses = np.cumsum(stored.head[order])
    count = int(np.searchsorted(masses, mass)) + 1
    if count > len(order) or masses[count - 1] < mass + stored.rounding:
        return None
    if count > 1 and masses[count - 2] > mass - stored.rounding:
        return None
    last = order[count - 1]
    margin = 2 * stored.entropy_rounding
    # Tokens outside the head are no more probable than its last one: they must all be further away.
    if not stored.is_all_in_head and away[-1] <= distance[last] + margin:
        return None
    # An error of the entropy moves what is above it and what is below it apart; on one side the order is that of rank.
    contested = np.abs(distance - distance[last]) <= margin
    if distance[last] > margin:
        contested &= np.sign(away) != np.sign(away[last])
    contested |= np.abs(surprisal - surprisal[last]) <= stored.rounding
    contested[last] = False
    if np.any(contested):
        return None
    ranks = order[:count] + 1
    return int(ranks.min()), int(ranks.max())


_SIZES: Final[dict[str, Callable[[_Stored, float], int | None]]] = {
    "top_p": _top_p,
    "top_k": _top_k,
    "min_p": _min_p,
    "epsilon_cutoff": _epsilon,
    "eta_cutoff": _eta,
}
