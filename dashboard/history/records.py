"""What goes into the history and what comes out: frozen values without any SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from dashboard.metrics.summary import Measures
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import StopReason

if TYPE_CHECKING:
    from dashboard.sampling.models import LoadedModel

RunStatus: TypeAlias = Literal["queued", "running", "finished", "stopped", "failed", "interrupted"]
"""Where a run is. The first two are alive; "interrupted" is a run whose process ended without finishing it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to be stored, before its first token.

    settings: with a seed. parent: public id of the run that this one branches from, at ``branch_position``.
    experiment: public id of the experiment that it belongs to.
    """

    prompt: str
    settings: SamplingSettings
    model_name: str
    model_title: str
    model_revision: str | None
    model_fingerprint: str
    vocabulary_fingerprint: str
    prompt_token_ids: tuple[int, ...]
    parent: str | None = None
    branch_position: int | None = None
    experiment: str | None = None
    owner: str | None = None
    note: str = ""

    @classmethod
    def by(cls, model: LoadedModel, prompt: str, prompt_token_ids: Sequence[int], settings: SamplingSettings) -> NewRun:
        """A run of a loaded model."""
        return cls(
            prompt=prompt,
            settings=settings,
            model_name=model.name,
            model_title=model.title,
            model_revision=model.revision,
            model_fingerprint=model.fingerprint,
            vocabulary_fingerprint=model.vocabulary.fingerprint,
            prompt_token_ids=tuple(prompt_token_ids),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """Everything known of a run but its steps. The fields without a default suffice to describe one never stored.

    Times are UTC. seconds: time spent generating. measures: None until the run has ended, and without steps.
    error: a sentence for the user, for failed and interrupted runs.
    """

    public_id: str
    prompt: str
    settings: SamplingSettings
    model_name: str
    model_title: str
    model_revision: str | None
    model_fingerprint: str
    vocabulary_fingerprint: str
    prompt_token_ids: tuple[int, ...]
    output: str
    output_tokens: int
    status: RunStatus
    stop_reason: StopReason | None
    created_at: datetime
    error: str | None = None
    started_at: datetime | None = None
    heartbeat_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float | None = None
    tokens_per_second: float | None = None
    measures: Measures | None = None
    sparkline: tuple[float, ...] = ()
    parent: str | None = None
    branch_position: int | None = None
    experiment: str | None = None
    owner: str | None = None
    note: str = ""
    favourite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One line of the history. ``prompt`` and ``output`` are their beginnings, at most PREVIEW_LENGTH characters."""

    public_id: str
    created_at: datetime
    prompt: str
    output: str
    model_name: str
    model_title: str
    top_p: float
    temperature: float
    seed: int
    status: RunStatus
    stop_reason: StopReason | None
    output_tokens: int
    seconds: float | None
    mean_nucleus_size: float | None
    perplexity: float | None
    sparkline: tuple[float, ...]
    favourite: bool
    note: str


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some lines of the history, newest first, and how many there are in all."""

    rows: tuple[RunSummary, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchNode:
    """One run of a family. ``token_ids`` are its first tokens from where it branches off, or from its beginning.

    parent: public id of the run that it branches from at ``branch_position``. A branch whose parent was deleted has a
    position and no parent. is_forced: whether its settings had cut the token at which it branches off.
    """

    public_id: str
    parent: str | None
    branch_position: int | None
    output_tokens: int
    status: RunStatus
    top_p: float
    temperature: float
    seed: int
    perplexity: float | None
    token_ids: tuple[int, ...]
    is_forced: bool
