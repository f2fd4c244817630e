"""How the distribution of one step was made, stage by stage, in numbers.

``staging.stages_of`` knows every number from the model's logits. Without a model, ``stored_stages`` answers from the
recorded step and leaves None what that does not tell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import SIZE_CURVE_P, Step

PENALTIES: Final = ("repetition_penalty", "no_repeat_ngram_size")
TRUNCATIONS: Final = ("top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
STAGES: Final = (*PENALTIES, "temperature", *TRUNCATIONS)
"""The settings that are stages, in the order of transformers' ``generate``."""

SHOWN: Final = 12
"""The number of most probable tokens that are followed through the stages, unless more are asked for."""


@dataclass(frozen=True, slots=True)
class StagedToken:
    """One token at every stage. None is what a stored step does not tell.

    rank: 1 for the most probable token of the shaped distribution.
    logit: of the model. penalised: after the penalties. tempered: after the temperature. All three in natural units,
        -inf once the token is forbidden.
    raw_probability, probability, final_probability: in the raw, shaped and final distribution.
    kept: whether the token was left after every truncation.
    dropped_by: the setting that took it, the first one if several would have; None if it was kept.
    """

    token_id: int
    rank: int
    logit: float | None
    penalised: float | None
    tempered: float | None
    raw_probability: float | None
    probability: float
    kept: bool | None
    dropped_by: str | None
    final_probability: float | None


@dataclass(frozen=True, slots=True)
class Penalty:
    """What a penalty did to the logits. changed: tokens that it changed or forbade. Entropies in bits."""

    setting: str
    changed: int | None
    entropy_before: float | None
    entropy_after: float | None


@dataclass(frozen=True, slots=True)
class Temperature:
    """What the temperature did. Entropies in bits; ``top`` is the probability of the most probable token."""

    entropy_before: float | None
    entropy_after: float
    top_before: float | None
    top_after: float


@dataclass(frozen=True, slots=True)
class Softmax:
    """The shaped distribution. Its entropy in bits, and the probability of its most probable token."""

    entropy: float
    top: float


@dataclass(frozen=True, slots=True)
class Truncation:
    """What one truncation took. reached, left: numbers of tokens. mass: of those left, in the shaped distribution."""

    setting: str
    reached: int | None
    left: int | None
    mass: float | None


@dataclass(frozen=True, slots=True)
class Renormalisation:
    """By what every probability left was multiplied, so that they sum to 1 again."""

    factor: float


@dataclass(frozen=True, slots=True)
class Draw:
    """The token drawn. final_probability is 0 for one that was given although the settings had dropped it."""

    token_id: int
    rank: int
    final_probability: float


Change: TypeAlias = Penalty | Temperature | Softmax | Truncation | Renormalisation | Draw


@dataclass(frozen=True, slots=True)
class Stages:
    """One step, from the logits to the draw.

    tokens: by rank: the most probable ones, the drawn one, and those beside the cut, if there is one and their rank is
        known; from logits also the model's favourite, which penalties may have pushed down.
    changes: what each active stage did over the whole vocabulary, in order; renormalisation only after a truncation.
    off: the settings of ``STAGES`` that did nothing because they were off.
    last_kept_id, first_dropped_id: as ``Step.last_kept`` and ``Step.first_dropped``.
    """

    tokens: tuple[StagedToken, ...]
    changes: tuple[Change, ...]
    off: tuple[str, ...]
    drawn_id: int
    last_kept_id: int
    first_dropped_id: int | None


def active_stages(settings: SamplingSettings) -> tuple[str, ...]:
    """The settings that are active stages, in order."""
    on = settings.active()
    return tuple(name for name in STAGES if name in on)


def stages_off(settings: SamplingSettings) -> tuple[str, ...]:
    """The settings that are stages and off, in order."""
    on = settings.active()
    return tuple(name for name in STAGES if name not in on)


@dataclass(frozen=True, slots=True)
class Misreading:
    """What p keeps of a step, beside what it would keep if it counted tokens instead of mass.

    size: tokens that p keeps. choices: tokens that reach top-p. share_size: ``p`` of these choices, rounded up.
    share_mass: what the ``share_size`` most probable tokens weigh at least, in the distribution that reaches top-p.
    """

    p: float
    size: int
    choices: int
    share_size: int
    share_mass: float


def misreading(step: Step, p: float, *, top_p: float) -> Misreading:
    """How far "p = 0.1" is from "the top 10 % of the choices" at a step.

    Args:
        step: the step.
        p: the p of the settings, one of SIZE_CURVE_P, or 1. Raises ValueError for another p: no stored number tells
            its nucleus size.
        top_p: that of the settings.
    """
    points = dict(zip(SIZE_CURVE_P, step.size_curve.tolist(), strict=True)) | {
        top_p: step.nucleus_size,
        1.0: step.reaching_size,
    }
    if p not in points:
        raise ValueError(f"p = {p} is not a point of the size curve")
    # 0.07 times 100 is a little more than 7 to a computer.
    share_size = max(1, math.ceil(round(p * step.reaching_size, 6)))
    # A set of tokens weighs no less than the largest nucleus that fits into it, and that no less than its p.
    share_mass = max((point for point, size in points.items() if size <= share_size), default=0.0)
    in_head = step.head_probabilities[: min(share_size, step.reaching_size)]
    head_mass = float(in_head.sum(dtype="float64")) / step.reaching_mass
    # Rounded down: it is a lower bound.
    return Misreading(
        p, points[p], step.reaching_size, share_size, max(share_mass, math.floor(head_mass * 1000) / 1000)
    )
