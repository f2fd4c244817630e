"""Where the cut falls: the order of one distribution, and the transformers pipeline that truncates it.

Top-p in transformers sorts the scores upwards, cumulates their softmax and drops every token up to which the mass is
at most 1 - p (``TopPLogitsWarper``). ``Ranking`` keeps that one sorted, cumulated row and reads from it, bit for bit,
the cut, the ranks, the admitting p and the nucleus size at every other p. All other stages are transformers' classes.

Sorting values alone is several times faster than ``torch.sort`` with indices. Which of several equally probable
tokens falls outside a cut is decided by that sort, though (it is not stable), so ties that matter are put to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.generation.logits_process import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TypicalLogitsWarper,
)

from dashboard.sampling.settings import SamplingSettings


@dataclass(frozen=True)
class Ranking:
    """One row of scores in order of probability, with the mass cumulated from the least probable token upwards.

    scores: (V,) float32, -inf where a token is excluded.
    ascending: (V,) the same values, sorted upwards.
    probabilities: (V,) softmax of ``ascending``.
    mass_from_below: (V,) cumulated ``probabilities``; what transformers compares with 1 - p.
    """

    scores: Tensor
    ascending: Tensor
    probabilities: Tensor
    mass_from_below: Tensor

    @classmethod
    def of(cls, scores: Tensor) -> Ranking:
        """Rank (V,) float32 scores."""
        # numpy's sort of values uses the processor's vector units, and releases the interpreter lock.
        return cls._cumulated(scores, torch.from_numpy(np.sort(scores.numpy())))

    @classmethod
    def _cumulated(cls, scores: Tensor, ascending: Tensor) -> Ranking:
        probabilities = ascending.softmax(dim=-1)
        return cls(scores, ascending, probabilities, probabilities.cumsum(dim=-1))

    def without_lowest(self, scores: Tensor) -> Ranking:
        """The ranking of ``scores``, which are these with the lowest ones set to -inf (as top-k does it)."""
        excluded = len(self.ascending) - int(torch.count_nonzero(scores > -torch.inf))
        ascending = self.ascending.clone()
        ascending[:excluded] = -torch.inf
        return self._cumulated(scores, ascending)

    @cached_property
    def size(self) -> int:
        """Number of tokens that are not excluded."""
        return len(self.ascending) - int(torch.searchsorted(self.ascending, -torch.inf, right=True))

    @cached_property
    def order(self) -> Tensor:
        """(V,) token ids from the least to the most probable, ties in the order in which top-p sees them."""
        return torch.sort(self.scores[None], descending=False)[1][0]

    def position(self, token_id: int) -> int:
        """Index of a token in ``ascending``; V - 1 is the most probable token."""
        score = self.scores[token_id]
        first = int(torch.searchsorted(self.ascending, score))
        beyond = int(torch.searchsorted(self.ascending, score, right=True))
        if beyond - first == 1:
            return first
        return int((self.order == token_id).nonzero())

    def rank(self, token_id: int) -> int:
        """1 for the most probable token."""
        return len(self.ascending) - self.position(token_id)

    def admitting_p(self, token_id: int) -> float:
        """The mass ranked above a token: it is in the nucleus exactly when p is greater (``what_if.is_admitted``)."""
        position = self.position(token_id)
        if position == len(self.ascending) - 1:
            return 0.0
        mass = float(self.mass_from_below[position])
        admitting = 1.0 - mass
        # Rounded down, so that no p next to it is answered wrongly: 1 - p is a multiple of float64's last digit at 1.
        return admitting if 1.0 - admitting >= mass else math.nextafter(admitting, 0.0)

    def nucleus_size(self, p: float) -> int:
        """Number of tokens in the nucleus at ``p``; p = 1 keeps all that are not excluded."""
        return self.size if p >= 1.0 else int(self.nucleus_sizes((p,))[0])

    def nucleus_sizes(self, ps: Sequence[float]) -> NDArray[np.int32]:
        """(len(ps),) nucleus sizes at several p, each below 1."""
        # float32(1 - p) is what transformers' comparison rounds the threshold to.
        thresholds = torch.tensor([1.0 - p for p in ps], dtype=torch.float32)
        dropped = torch.searchsorted(self.mass_from_below, thresholds, right=True)
        sizes = (len(self.mass_from_below) - dropped).clamp(min=1)
        return sizes.to(torch.int32).numpy()

    def nucleus_mass(self, p: float) -> float:
        """Mass of the nucleus at ``p``, from the sum by which the cut was made; 1.0 at p = 1."""
        dropped = len(self.ascending) - self.nucleus_size(p)
        return 1.0 if p >= 1.0 or dropped == 0 else 1.0 - float(self.mass_from_below[dropped - 1])

    def top(self, count: int) -> Tensor:
        """(count,) ids of the most probable tokens, most probable first."""
        values = self.ascending[-count - 1 :]
        if bool((values[1:] == values[:-1]).any()):
            return self.order[-count:].flip(0)
        return torch.topk(self.scores, count).indices

    def nucleus(self, p: float) -> Tensor:
        """(V,) bool, True for the tokens in the nucleus at ``p``: the finite scores of ``TopPLogitsWarper(p)``."""
        if p >= 1.0:
            return self.scores > -torch.inf
        dropped = len(self.ascending) - self.nucleus_size(p)
        if dropped == 0 or self.ascending[dropped - 1] < self.ascending[dropped]:
            return self.scores >= self.ascending[dropped]
        kept = torch.zeros(len(self.scores), dtype=torch.bool)
        kept[self.order[dropped:]] = True
        return kept


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Transformers' processors and warpers for one row, in the order of ``generate``, split where steps are recorded.

    shaping: repetition penalty, no-repeat n-gram, temperature: raw -> shaped.
    before_top_p: top-k. after_top_p: min-p, typical, epsilon, eta.
    """

    shaping: LogitsProcessorList
    before_top_p: LogitsProcessorList
    top_p: float
    after_top_p: LogitsProcessorList

    @classmethod
    def of(cls, settings: SamplingSettings) -> Pipeline:
        """The stages that these settings switch on."""
        s, on = settings, settings.active()
        stages: dict[str, Callable[[], LogitsProcessor]] = {
            "repetition_penalty": lambda: RepetitionPenaltyLogitsProcessor(s.repetition_penalty),
            "no_repeat_ngram_size": lambda: NoRepeatNGramLogitsProcessor(s.no_repeat_ngram_size),
            "temperature": lambda: TemperatureLogitsWarper(s.temperature),
            "top_k": lambda: TopKLogitsWarper(s.top_k),
            "min_p": lambda: MinPLogitsWarper(s.min_p),
            "typical_p": lambda: TypicalLogitsWarper(s.typical_p),
            "epsilon_cutoff": lambda: EpsilonLogitsWarper(s.epsilon_cutoff),
            "eta_cutoff": lambda: EtaLogitsWarper(s.eta_cutoff),
        }

        def chain(*names: str) -> LogitsProcessorList:
            return LogitsProcessorList([stages[name]() for name in names if name in on])

        return cls(
            shaping=chain("repetition_penalty", "no_repeat_ngram_size", "temperature"),
            before_top_p=chain("top_k"),
            top_p=s.top_p,
            after_top_p=chain("min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"),
        )


@dataclass(frozen=True, slots=True)
class Truncated:
    """One step's distribution at each stage of the pipeline.

    logits: (V,) raw scores of the model. shaped: the ranking of the shaped distribution. reaching: the ranking of what
    reaches top-p; the same object as ``shaped`` unless top-k is on. scores: (V,) with -inf for every token dropped.
    """

    logits: Tensor
    shaped: Ranking
    reaching: Ranking
    scores: Tensor

    @property
    def reshaped(self) -> bool:
        """Whether shaping changed anything; if not, the raw distribution is the shaped one."""
        return self.shaped.scores is not self.logits


def truncate(pipeline: Pipeline, token_ids: Tensor, logits: Tensor) -> Truncated:
    """Pass one step's logits through the pipeline.

    Args:
        pipeline: the stages of this row.
        token_ids: (T,) int64, prompt and output so far.
        logits: (V,) float32.
    """
    # A LongTensor is a Tensor of int64 that only transformers' annotations know.
    ids = cast(torch.LongTensor, token_ids[None])
    # transformers' processors may write into their input; the raw logits are still needed.
    shaped = Ranking.of(pipeline.shaping(ids, logits[None].clone())[0] if pipeline.shaping else logits)
    reaching = shaped
    if pipeline.before_top_p:
        reaching = shaped.without_lowest(pipeline.before_top_p(ids, shaped.scores[None])[0])
    scores = reaching.scores
    if pipeline.top_p < 1.0:
        scores = scores.masked_fill(~reaching.nucleus(pipeline.top_p), -torch.inf)
    if pipeline.after_top_p:
        scores = pipeline.after_top_p(ids, scores[None])[0]
    return Truncated(logits, shaped, reaching, scores)
