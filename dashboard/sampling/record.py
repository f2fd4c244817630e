"""A step from its distribution: every number of ``trace.Step``, computed over the whole vocabulary."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dashboard.sampling.trace import HEAD_SIZE, SIZE_CURVE_P, Candidate, Floats32, Step, TokenIds
from dashboard.sampling.truncation import Ranking, Truncated

_LARGEST_UINT16 = 2**16 - 1


def record_step(position: int, token_id: int, truncated: Truncated, final: Tensor, top_p: float) -> Step:
    """The record of one drawn token.

    Args:
        position: 0 for the first new token.
        token_id: the token drawn.
        truncated: the distribution at each stage.
        final: (V,) float32, the distribution that the token was drawn from.
        top_p: the p of the cut.
    """
    shaped, reaching = truncated.shaped, truncated.reaching
    shaped_norm = _log_sum_exp(shaped)
    raw_norm = float(truncated.logits.double().logsumexp(-1)) if truncated.reshaped else shaped_norm

    drawn_position = shaped.position(token_id)
    probability = float(shaped.probabilities[drawn_position])
    raw_log_probability = float(truncated.logits[token_id]) - raw_norm

    head = shaped.top(min(HEAD_SIZE, len(shaped.scores)))
    head_probabilities = _stored(shaped.probabilities[-len(head) :].flip(0))
    head_raw_probabilities = head_probabilities
    if truncated.reshaped:
        head_raw_probabilities = _stored((truncated.logits[head].double() - raw_norm).exp().float())

    kept = truncated.scores > -torch.inf
    shaped_probabilities = shaped.scores.softmax(dim=-1)
    last_kept = lowest_kept(reaching, shaped.scores, kept)
    dropped = highest_dropped(reaching, shaped.scores, kept)
    return Step(
        position=position,
        token_id=token_id,
        raw_probability=math.exp(raw_log_probability) if truncated.reshaped else probability,
        probability=probability,
        final_probability=float(final[token_id]),
        rank=len(shaped.scores) - drawn_position,
        surprisal=-raw_log_probability / math.log(2),
        entropy=_entropy(shaped, shaped_norm),
        nucleus_size=reaching.nucleus_size(top_p),
        nucleus_mass=reaching.nucleus_mass(top_p),
        kept_size=int(torch.count_nonzero(kept)),
        kept_mass=_mass(shaped_probabilities[kept]),
        reaching_size=reaching.size,
        reaching_mass=1.0 if reaching is shaped else _mass(shaped.probabilities[-reaching.size :]),
        admitting_p=reaching.admitting_p(token_id),
        last_kept=Candidate(last_kept, float(shaped_probabilities[last_kept])),
        first_dropped=None if dropped is None else Candidate(dropped, float(shaped_probabilities[dropped])),
        head_ids=_stored_ids(head, len(shaped.scores)),
        head_probabilities=head_probabilities,
        head_raw_probabilities=head_raw_probabilities,
        size_curve=reaching.nucleus_sizes(SIZE_CURVE_P),
    )


def _log_sum_exp(ranking: Ranking) -> float:
    """Natural log of the sum of exp(score)."""
    return float(ranking.ascending.double().logsumexp(-1))


def _entropy(ranking: Ranking, norm: float) -> float:
    """Entropy in bits; ``norm`` is the log of the sum of exp(score). Excluded tokens add nothing."""
    scores = ranking.ascending[-ranking.size :].double()
    probabilities = (scores - norm).exp()
    # The smallest negative zero or rounding below zero of a one-token distribution is no entropy.
    return max(0.0, float((probabilities * (norm - scores)).sum()) / math.log(2))


def _mass(probabilities: Tensor) -> float:
    # float32 probabilities of a whole distribution may sum to a little more than one.
    return min(1.0, float(probabilities.sum(dtype=torch.float64)))


def lowest_kept(reaching: Ranking, scores: Tensor, kept: Tensor) -> int:
    """The id of the lowest-ranked token of ``kept``, (V,) bool; ``scores`` are those of the shaped distribution."""
    inside = scores.masked_fill(~kept, torch.inf)
    # Of equally probable tokens, the one that top-p sees first from below.
    return _first_tied(reaching, int(inside.argmin()), inside, from_below=True)


def highest_dropped(reaching: Ranking, scores: Tensor, kept: Tensor) -> int | None:
    """The id of the highest-ranked token outside ``kept``; None if all that is left is forbidden, or nothing is."""
    outside = scores.masked_fill(kept, -torch.inf)
    token_id = int(outside.argmax())
    # A token forbidden by no-repeat n-grams was never a candidate.
    if outside[token_id] == -torch.inf:
        return None
    return _first_tied(reaching, token_id, outside, from_below=False)


def _first_tied(reaching: Ranking, token_id: int, scores: Tensor, *, from_below: bool) -> int:
    """The first token, in the order in which top-p sees them, whose score is that of ``token_id``."""
    tied = scores == scores[token_id]
    if torch.count_nonzero(tied) == 1:
        return token_id  # the order itself costs a sort with indices
    return int(reaching.order[tied[reaching.order]][0 if from_below else -1])


def _stored(values: Tensor) -> Floats32:
    # A copy, so that 256 numbers do not pin the vocabulary-sized buffer that they are a view of.
    return values.numpy().astype(np.float32, copy=True)


def _stored_ids(ids: Tensor, vocabulary_size: int) -> TokenIds:
    if vocabulary_size - 1 <= _LARGEST_UINT16:
        return ids.numpy().astype(np.uint16)
    return ids.numpy().astype(np.uint32)
