"""The tables of the history. A change here needs a revision in ``migrations/versions``; a test compares the two."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dashboard.history.types import AnyText, UtcTime

# Names for everything: SQLite can only change a constraint that has one.
_NAMES: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
_ID_LENGTH: Final = 36  # a UUID with its hyphens
_SHA256_LENGTH: Final = 64  # in hex


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map = {str: AnyText(), float: Double(), datetime: UtcTime()}  # noqa: RUF012


class Prompt(Base):
    """A text that runs start from, once."""

    __tablename__ = "prompt"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    # The text itself may be longer than PostgreSQL can index.
    sha256: Mapped[str] = mapped_column(String(_SHA256_LENGTH), unique=True)


class Experiment(Base):
    """Runs made together to be compared."""

    __tablename__ = "experiment"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(String(_ID_LENGTH), unique=True)
    title: Mapped[str]
    kind: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime]


class Run(Base):
    """One run. Sampling settings are columns of their knob's name; the measures are None until the run has ended."""

    __tablename__ = "run"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(String(_ID_LENGTH), unique=True)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompt.id"), index=True)

    top_p: Mapped[float]
    temperature: Mapped[float]
    top_k: Mapped[int]
    min_p: Mapped[float]
    typical_p: Mapped[float]
    epsilon_cutoff: Mapped[float]
    eta_cutoff: Mapped[float]
    repetition_penalty: Mapped[float]
    no_repeat_ngram_size: Mapped[int]
    max_new_tokens: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)

    model_name: Mapped[str] = mapped_column(index=True)
    model_title: Mapped[str]
    model_revision: Mapped[str | None]
    model_fingerprint: Mapped[str]
    # No foreign key: a run read from a document may name a vocabulary that was never seen here.
    vocabulary_fingerprint: Mapped[str] = mapped_column(String(_SHA256_LENGTH))

    prompt_token_ids: Mapped[bytes] = mapped_column(LargeBinary)
    output: Mapped[str] = mapped_column(default="")
    output_tokens: Mapped[int] = mapped_column(default=0)
    status: Mapped[str] = mapped_column(String(16), index=True)
    stop_reason: Mapped[str | None] = mapped_column(String(16))
    error: Mapped[str | None]

    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    seconds: Mapped[float | None]
    tokens_per_second: Mapped[float | None]

    mean_nucleus_size: Mapped[float | None]
    median_nucleus_size: Mapped[float | None]
    mean_entropy: Mapped[float | None]
    mean_surprisal: Mapped[float | None]
    perplexity: Mapped[float | None]
    sparkline: Mapped[list[float] | None] = mapped_column(JSON(none_as_null=True))

    parent_id: Mapped[int | None] = mapped_column(ForeignKey("run.id", ondelete="SET NULL"), index=True)
    branch_position: Mapped[int | None]
    experiment_id: Mapped[int | None] = mapped_column(ForeignKey("experiment.id", ondelete="SET NULL"), index=True)
    owner: Mapped[str | None]
    note: Mapped[str] = mapped_column(default="")
    favourite: Mapped[bool] = mapped_column(default=False)

    # Newest first is this index read backwards.
    __table_args__ = (Index(None, "created_at", "id"),)


class StepRow(Base):
    """One step: the scalars of ``trace.Step`` by name, its head and its size curve packed by ``codec``."""

    __tablename__ = "step"

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    token_id: Mapped[int]
    raw_probability: Mapped[float]
    probability: Mapped[float]
    final_probability: Mapped[float]
    rank: Mapped[int]
    surprisal: Mapped[float]
    entropy: Mapped[float]
    nucleus_size: Mapped[int]
    nucleus_mass: Mapped[float]
    kept_size: Mapped[int]
    kept_mass: Mapped[float]
    reaching_size: Mapped[int]
    reaching_mass: Mapped[float]
    admitting_p: Mapped[float]
    last_kept_id: Mapped[int]
    last_kept_probability: Mapped[float]
    # Both None where nothing was dropped.
    first_dropped_id: Mapped[int | None]
    first_dropped_probability: Mapped[float | None]
    head: Mapped[bytes] = mapped_column(LargeBinary)
    size_curve: Mapped[bytes] = mapped_column(LargeBinary)


class VocabularyRow(Base):
    """The tokens of a model, packed, so that stored runs can be read where the model is not installed."""

    __tablename__ = "vocabulary"

    fingerprint: Mapped[str] = mapped_column(String(_SHA256_LENGTH), primary_key=True)
    packed: Mapped[bytes] = mapped_column(LargeBinary)


class Tag(Base):
    """A word that runs can be marked with."""

    __tablename__ = "tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


run_tag: Final = Table(
    "run_tag",
    Base.metadata,
    Column("run_id", ForeignKey("run.id", ondelete="CASCADE"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id", ondelete="CASCADE"), primary_key=True, index=True),
)
