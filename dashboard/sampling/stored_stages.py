"""What a stored step tells of its stages, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

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
from dashboard.sampling.trace import Step

_AFTER_TOP_P: Final = TRUNCATIONS[TRUNCATIONS.index("top_p") + 1 :]


def stored_stages(step: Step, settings: SamplingSettings, *, shown: int = SHOWN) -> Stages:
    """What a stored step tells of its stages.

    Exact or None, but for the order of equally probable tokens below the head. Logits are never known. Which tokens
    the settings after top-p took is known, except where typical sampling dropped the most probable ones and the last
    one kept is below the head or ties with another.

    Args:
        step: the stored step.
        settings: those that it was made with.
        shown: the number of most probable tokens to follow, at most those of the head.
    """
    stored = _Stored(step, settings)
    return Stages(
        tokens=stored.tokens(shown),
        changes=stored.changes(),
        off=stages_off(settings),
        drawn_id=step.token_id,
        last_kept_id=step.last_kept.token_id,
        first_dropped_id=None if step.first_dropped is None else step.first_dropped.token_id,
    )


@dataclass(frozen=True)
class _Stored:
    """A stored step and the settings that it was made with."""

    step: Step
    settings: SamplingSettings

    @cached_property
    def active(self) -> tuple[str, ...]:
        return active_stages(self.settings)

    @property
    def is_reshaped(self) -> bool:
        return "temperature" in self.active or any(name in self.active for name in PENALTIES)

    @cached_property
    def later(self) -> tuple[str, ...]:
        """The truncations after top-p that took something, as far as is known."""
        took = self.step.kept_size < self.step.nucleus_size
        return tuple(name for name in _AFTER_TOP_P if took and name in self.active)

    @cached_property
    def kept_ranks(self) -> range | None:
        """The ranks left after every truncation.

        They are always an unbroken row: typical sampling may begin it below rank 1, all else only ends it.
        """
        step = self.step
        if "typical_p" not in self.later or self._is_top_kept:
            return range(1, step.kept_size + 1)
        last = self.rank_in_head(step.last_kept.token_id)
        if last is None or self._ties(last):
            return None
        return range(last - step.kept_size + 1, last + 1)

    @property
    def _is_top_kept(self) -> bool:
        step, head = self.step, self.step.head_probabilities
        if step.first_dropped is None or step.head_ids[0] == step.last_kept.token_id:
            return True
        rank = self.rank_in_head(step.first_dropped.token_id)
        return bool(head[0] > head[-1 if rank is None else rank - 1])

    def rank_in_head(self, token_id: int) -> int | None:
        """The rank of a token of the head, and None for others."""
        found = (self.step.head_ids == token_id).nonzero()[0]
        return int(found[0]) + 1 if len(found) else None

    def _ties(self, rank: int) -> bool:
        """Whether another token may be as probable as the one of this rank in the head."""
        head = self.step.head_probabilities
        return rank == len(head) or int((head == head[rank - 1]).sum()) > 1

    def _is_beside_tied_cut(self, rank: int) -> bool:
        """Whether top-p may have decided between this token and an equally probable one.

        It does so by the order in which it sees them, which is that of the ranks only as long as top-k is off.
        """
        if "top_k" not in self.active:
            return False
        head, size = self.step.head_probabilities, self.step.nucleus_size
        if rank > len(head) or size >= len(head):
            return rank > len(head) or bool(head[rank - 1] == head[-1])
        return bool(head[size - 1] == head[size] == head[rank - 1])

    def tokens(self, shown: int) -> tuple[StagedToken, ...]:
        """The most probable tokens, the drawn one and those beside the cut, by rank."""
        step = self.step
        ranks = self.kept_ranks
        top = [self._head_token(rank) for rank in range(1, min(shown, len(step.head_ids)) + 1)]
        found = {token.token_id: token for token in top}
        others: list[tuple[int, int | None, float, float | None]] = [
            (step.token_id, step.rank, step.probability, step.raw_probability)
        ]
        beside = [] if step.first_dropped is None else [(step.last_kept, 0), (step.first_dropped, 1)]
        for candidate, below in beside:
            raw = None if self.is_reshaped else candidate.probability
            others.append(
                (candidate.token_id, None if ranks is None else ranks[-1] + below, candidate.probability, raw)
            )
        for token_id, rank, probability, raw in others:
            if (in_head := self.rank_in_head(token_id)) is not None:
                found.setdefault(token_id, self._head_token(in_head))
            # Its place is known only below the head: in it stand other tokens.
            elif rank is not None and rank > len(step.head_ids):
                found.setdefault(token_id, self._token(token_id, rank, probability, raw))
        return tuple(sorted(found.values(), key=lambda token: token.rank))

    def _head_token(self, rank: int) -> StagedToken:
        step = self.step
        return self._token(
            int(step.head_ids[rank - 1]),
            rank,
            float(step.head_probabilities[rank - 1]),
            float(step.head_raw_probabilities[rank - 1]),
        )

    def _token(self, token_id: int, rank: int, probability: float, raw: float | None) -> StagedToken:
        step = self.step
        kept = self._is_kept(token_id, rank)
        final = None if kept is None else 0.0
        if token_id == step.token_id:
            final = step.final_probability
        elif kept:
            final = min(1.0, probability / step.kept_mass)
        return StagedToken(
            token_id=token_id,
            rank=rank,
            logit=None,
            penalised=None,
            tempered=None,
            raw_probability=raw,
            probability=probability,
            kept=kept,
            dropped_by=self._dropped_by(rank, probability) if kept is False else None,
            final_probability=final,
        )

    def _is_kept(self, token_id: int, rank: int) -> bool | None:
        step = self.step
        known = {step.last_kept.token_id: True}
        if step.first_dropped is not None:
            known[step.first_dropped.token_id] = False
        if step.final_probability > 0:
            known[step.token_id] = True
        if token_id in known:
            return known[token_id]
        is_unsure = self._is_beside_tied_cut(rank)
        if rank > step.reaching_size or (rank > step.nucleus_size and not is_unsure):
            return False
        return None if is_unsure or self.kept_ranks is None else rank in self.kept_ranks

    def _dropped_by(self, rank: int, probability: float) -> str | None:
        if rank > self.step.reaching_size:
            before = [name for name in ("no_repeat_ngram_size", "top_k") if name in self.active]
            # A forbidden token has no probability left that top-k could take.
            return "top_k" if before[1:] and probability > 0 else _only(before)
        if self.later and self._is_beside_tied_cut(rank):
            return None
        return "top_p" if rank > self.step.nucleus_size or not self.later else _only(self.later)

    def changes(self) -> tuple[Change, ...]:
        """What each active stage did, as far as is known."""
        step, active = self.step, self.active
        top = float(step.head_probabilities[0])
        penalties = [name for name in active if name in PENALTIES]
        has_temperature = "temperature" in active
        changes: list[Change] = [Penalty(name, None, None, None) for name in penalties]
        if has_temperature:
            top_before = None if penalties else float(step.head_raw_probabilities[0])
            changes.append(Temperature(None, step.entropy, top_before, top))
        elif penalties:
            changes[-1] = Penalty(penalties[-1], None, None, step.entropy)
        changes.append(Softmax(step.entropy, top))
        truncations = [name for name in active if name in TRUNCATIONS]
        changes.extend(self._truncation(name) for name in truncations)
        if truncations:
            changes.append(Renormalisation(1 / step.kept_mass))
        return (*changes, Draw(step.token_id, step.rank, step.final_probability))

    def _truncation(self, name: str) -> Truncation:
        step = self.step
        if name == "top_k":
            return Truncation(name, None, step.reaching_size, step.reaching_mass)
        if name == "top_p":
            mass = step.nucleus_mass * step.reaching_mass if self.later else step.kept_mass
            return Truncation(name, step.reaching_size, step.nucleus_size, mass)
        if not self.later:
            return Truncation(name, step.nucleus_size, step.kept_size, step.kept_mass)
        is_last = name == self.later[-1]
        return Truncation(
            name,
            step.nucleus_size if name == self.later[0] else None,
            step.kept_size if is_last else None,
            step.kept_mass if is_last else None,
        )


def _only(names: Sequence[str]) -> str | None:
    """The one name there is, if there is but one."""
    return names[0] if len(names) == 1 else None
