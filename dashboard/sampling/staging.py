"""The stages of one step from the model's logits: transformers' own classes, one after the other."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor

from dashboard.sampling.record import highest_dropped, lowest_kept
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.stages import (
    PENALTIES,
    SHOWN,
    TRUNCATIONS,
    Change,
    Draw,
    Penalty,
    Renormalisation,
    Softmax,
    StagedToken,
    Stages,
    Temperature,
    Truncation,
    active_stages,
    stages_off,
)
from dashboard.sampling.truncation import Pipeline, Ranking, truncate

_NOTHING: Final = SamplingSettings(top_p=1.0)


def stages_of(
    settings: SamplingSettings, ids_before: Tensor, logits: Tensor, drawn_id: int, *, shown: int = SHOWN
) -> Stages:
    """Pass one step's logits through the stages one by one.

    Args:
        settings: which stages act.
        ids_before: (T,) int64, prompt and output so far; what penalties look at.
        logits: (V,) float32, raw scores of the model.
        drawn_id: the token drawn.
        shown: the number of most probable tokens to follow.
    """
    scores = {"": logits}
    for name in active_stages(settings):
        alone: dict[str, Any] = {name: getattr(settings, name)}
        [*_, before] = scores.values()
        scores[name] = truncate(Pipeline.of(replace(_NOTHING, **alone)), ids_before, before).scores
    penalised, tempered = _last(scores, PENALTIES), _last(scores, (*PENALTIES, "temperature"))
    shaped = Ranking.of(tempered)
    [*_, left] = scores.values()
    final, kept = left.softmax(dim=-1), left > -torch.inf
    raw_norm = float(logits.double().logsumexp(-1))

    def token(token_id: int) -> StagedToken:
        position = shaped.position(token_id)
        probability = float(shaped.probabilities[position])
        is_reshaped = tempered is not logits
        return StagedToken(
            token_id=token_id,
            rank=len(logits) - position,
            logit=float(logits[token_id]),
            penalised=float(penalised[token_id]),
            tempered=float(tempered[token_id]),
            raw_probability=math.exp(float(logits[token_id]) - raw_norm) if is_reshaped else probability,
            probability=probability,
            kept=bool(kept[token_id]),
            dropped_by=next((name for name, after in scores.items() if after[token_id] == -torch.inf), None) or None,
            final_probability=float(final[token_id]),
        )

    reaching = shaped.without_lowest(scores["top_k"]) if "top_k" in scores else shaped
    last_kept, first_dropped = lowest_kept(reaching, tempered, kept), highest_dropped(reaching, tempered, kept)
    top = shaped.top(min(shown, len(logits))).tolist()
    # The model's own favourite may have been pushed down the list by the penalties.
    ids = {*top, drawn_id, int(logits.argmax()), *([] if first_dropped is None else [last_kept, first_dropped])}
    tokens = sorted((token(token_id) for token_id in ids), key=lambda token: token.rank)
    return Stages(
        tokens=tuple(tokens),
        changes=(*_changes(scores, shaped), Draw(drawn_id, shaped.rank(drawn_id), float(final[drawn_id]))),
        off=stages_off(settings),
        drawn_id=drawn_id,
        last_kept_id=last_kept,
        first_dropped_id=first_dropped,
    )


def _last(scores: dict[str, Tensor], names: tuple[str, ...]) -> Tensor:
    """The scores after the last of these stages that acts; the logits before all."""
    return next((scores[name] for name in reversed(names) if name in scores), scores[""])


def _changes(scores: dict[str, Tensor], shaped: Ranking) -> list[Change]:
    """What the stages before the draw did, from the (V,) scores after each and the shaped distribution."""
    changes: list[Change] = []
    before = scores[""]
    entropy = _entropy(before)
    for name, after in scores.items():
        if name in PENALTIES or name == "temperature":
            entropy_before, entropy = entropy, _entropy(after)
        if name in PENALTIES:
            changes.append(Penalty(name, int(torch.count_nonzero(after != before)), entropy_before, entropy))
        elif name == "temperature":
            changes.append(Temperature(entropy_before, entropy, _top(before), _top(after)))
        before = after
    changes.append(Softmax(entropy, float(shaped.probabilities[-1])))

    before, probabilities = shaped.scores, shaped.scores.softmax(dim=-1)
    for name in TRUNCATIONS:
        if name in scores:
            left = scores[name] > -torch.inf
            reached = int(torch.count_nonzero(before > -torch.inf))
            # float32 probabilities of a whole distribution may sum to a little more than one.
            mass = min(1.0, float(probabilities[left].sum(dtype=torch.float64)))
            changes.append(Truncation(name, reached, int(torch.count_nonzero(left)), mass))
            before = scores[name]
    if isinstance(last := changes[-1], Truncation):
        assert last.mass is not None
        changes.append(Renormalisation(1 / last.mass))
    return changes


def _entropy(scores: Tensor) -> float:
    """Entropy in bits of the softmax of (V,) scores; excluded tokens add nothing."""
    possible = scores[scores > -torch.inf].double()
    norm = possible.logsumexp(-1)
    return max(0.0, float(((possible - norm).exp() * (norm - possible)).sum()) / math.log(2))


def _top(scores: Tensor) -> float:
    """Probability of the most probable token."""
    return float(scores.softmax(dim=-1).max())
