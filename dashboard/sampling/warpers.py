"""Seven samplers on the same distribution, each alone: transformers' own warper classes decide what is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor
from transformers.generation.logits_process import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    LogitsProcessor,
    MinPLogitsWarper,
    TopKLogitsWarper,
    TypicalLogitsWarper,
)

from dashboard.sampling.engine import single_threaded
from dashboard.sampling.replay import ProgressReport, Reading
from dashboard.sampling.samplers import SAMPLER, Kept, shaping_only
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import Candidate, Integers
from dashboard.sampling.truncation import Pipeline, Ranking, truncate

# Logits are made for so many steps at a time: 200 KB each for GPT-2's vocabulary.
_AT_A_TIME: Final = 32
# The warpers do not look at the tokens before.
_NO_IDS: Final = cast(torch.LongTensor, torch.zeros((1, 1), dtype=torch.int64))


class TopNSigmaLogitsWarper(LogitsProcessor):
    """Keeps the tokens whose logit is at most ``n`` standard deviations below the highest.

    Tang et al. 2024, "Top-nσ: Not All Logits Are You Need" (arXiv 2411.07641), which transformers has no class for.
    The deviation is the sample's (divided by one less than the count), as in the authors' own code, over the logits of
    the whole vocabulary; forbidden tokens have none. Dividing all logits by a temperature divides the deviation too,
    so the same tokens are kept at every temperature. Equal logits are all kept: nothing is below the highest.
    """

    def __init__(self, n: float) -> None:
        self.n = n

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Keep of each row of (rows, V) scores what is close enough to its highest; -inf is the rest."""
        rows = []
        for row in scores:
            # In float64 the sum over a vocabulary does not depend on the order of its tokens.
            logits = row[row > -torch.inf].double()
            deviation = float(logits.std()) if len(logits) > 1 else 0.0
            rows.append(row.masked_fill(row.double() < logits.max() - self.n * deviation, -torch.inf))
        return cast(torch.FloatTensor, torch.stack(rows))


_WARPERS: Final[dict[str, Callable[[Any], LogitsProcessor]]] = {
    "top_k": lambda k: TopKLogitsWarper(int(k)),
    "min_p": MinPLogitsWarper,
    "typical_p": TypicalLogitsWarper,
    "epsilon_cutoff": EpsilonLogitsWarper,
    "eta_cutoff": EtaLogitsWarper,
    "top_n_sigma": TopNSigmaLogitsWarper,
}


def kept_mask(name: str, value: float, shaped: Ranking) -> Tensor:
    """(V,) bool, True for the tokens that a sampler of ``samplers.SAMPLER`` keeps of a distribution."""
    if value == SAMPLER[name].knob.off:
        return shaped.scores > -torch.inf
    if name == "top_p":
        return shaped.nucleus(value)
    warped: Tensor = _WARPERS[name](value)(_NO_IDS, cast(torch.FloatTensor, shaped.scores[None]))
    return warped[0] > -torch.inf


def kept_size(name: str, value: float, shaped: Ranking) -> int:
    """How many tokens ``kept_mask`` keeps."""
    if name == "top_p":
        return shaped.nucleus_size(value)
    return int(torch.count_nonzero(kept_mask(name, value, shaped)))


def kept_by(name: str, value: float, shaped: Ranking) -> Kept:
    """What a sampler of ``samplers.SAMPLER`` keeps of a distribution, with its mass and its last token."""
    # From the least probable token upwards, so the first of them is the last one kept.
    positions = kept_mask(name, value, shaped)[shaped.order].nonzero()[:, 0]
    last, first = int(positions[0]), int(positions[-1])
    mass = float(shaped.probabilities[positions].sum(dtype=torch.float64))
    return Kept(
        sampler=name,
        value=value,
        size=len(positions),
        first_rank=len(shaped.scores) - first,
        last_rank=len(shaped.scores) - last,
        # A whole distribution in float32 sums to 1 only nearly.
        mass=1.0 if len(positions) == shaped.size else min(1.0, mass),
        last=Candidate(int(shaped.order[last]), float(shaped.probabilities[last])),
    )


def shaped_at(reading: Reading, settings: SamplingSettings, position: int) -> Ranking:
    """The shaped distribution of one step of a text, with the penalties and the temperature of ``settings``."""
    pipeline = Pipeline.of(shaping_only(settings))
    [logits] = reading.logits(position, position + 1)
    return truncate(pipeline, reading.ids_before(position), logits).shaped


def kept_sizes(
    reading: Reading,
    settings: SamplingSettings,
    values: Mapping[str, float],
    on_progress: ProgressReport = lambda done, total: None,
) -> dict[str, Integers]:
    """(steps,) kept size of every step for each sampler in ``values``, which maps names to values.

    Every sampler sees the same distribution, shaped by ``settings``; one sort of it serves them all.
    """
    pipeline = Pipeline.of(shaping_only(settings))
    ids = reading.ids_before(len(reading))
    before = len(reading.context_ids)

    def sizes_of(position: int, logits: Tensor) -> list[int]:
        shaped = truncate(pipeline, ids[: before + position], logits).shaped
        return [kept_size(name, value, shaped) for name, value in values.items()]

    sizes: list[list[int]] = []
    with ThreadPoolExecutor(torch.get_num_threads(), initializer=single_threaded) as pool:
        for first in range(0, len(reading), _AT_A_TIME):
            logits = reading.logits(first, min(first + _AT_A_TIME, len(reading)))
            sizes.extend(pool.map(sizes_of, range(first, first + len(logits)), logits))
            on_progress(len(sizes), len(reading))
    columns = np.array(sizes, dtype=np.int64).T
    return dict(zip(values, columns, strict=True))
