"""What the history is asked, as functions of a connection; they read only."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Row, func, select
from sqlalchemy.orm import aliased

from dashboard.errors import RunNotFound
from dashboard.history import codec
from dashboard.history.records import RunPage, RunRecord, RunSummary
from dashboard.history.tables import Experiment, Prompt, Run, StepRow
from dashboard.history.types import AnyText
from dashboard.metrics.summary import Measures, measures_of, sparkline
from dashboard.sampling.settings import KNOB, SamplingSettings
from dashboard.sampling.trace import Trace

PREVIEW_LENGTH: Final = 300
"""Characters of a prompt and of an output that a line of the history carries."""

_SHOWN_ID_LENGTH: Final = 60


def internal_id(connection: Connection, public_id: str) -> int:
    """The key of a run. Raises RunNotFound for an id that is unknown or no id at all."""
    key = connection.execute(select(Run.id).where(Run.public_id == canonical_id(public_id))).scalar()
    if key is None:
        raise not_found(public_id)
    return key


def canonical_id(public_id: str) -> str:
    """The id as it is stored, in lower case with hyphens. Raises RunNotFound for what cannot be an id."""
    try:
        return str(uuid.UUID(public_id))
    except ValueError as error:
        raise not_found(public_id) from error


def not_found(public_id: str) -> RunNotFound:
    """The sentence for an id that leads to no run."""
    shown = ascii(public_id[:_SHOWN_ID_LENGTH])
    return RunNotFound(
        f"There is no run {shown} in this history: it was deleted, or the link is incomplete; "
        "look for it on the history page."
    )


def run(connection: Connection, public_id: str) -> RunRecord:
    """One run. Raises RunNotFound."""
    parent = aliased(Run)
    query = (
        select(
            Run,
            Prompt.text.label("prompt"),
            parent.public_id.label("parent"),
            Experiment.public_id.label("experiment"),
        )
        .join(Prompt, Run.prompt_id == Prompt.id)
        .outerjoin(parent, Run.parent_id == parent.id)
        .outerjoin(Experiment, Run.experiment_id == Experiment.id)
        .where(Run.public_id == canonical_id(public_id))
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise not_found(public_id)
    return _record(row)


def _record(row: Row[*tuple[Any, ...]]) -> RunRecord:
    return RunRecord(
        public_id=row.public_id,
        prompt=row.prompt,
        settings=SamplingSettings(**{name: getattr(row, name) for name in KNOB}),
        model_name=row.model_name,
        model_title=row.model_title,
        model_revision=row.model_revision,
        model_fingerprint=row.model_fingerprint,
        vocabulary_fingerprint=row.vocabulary_fingerprint,
        prompt_token_ids=codec.decode_ids(row.prompt_token_ids),
        output=row.output,
        output_tokens=row.output_tokens,
        status=row.status,
        stop_reason=row.stop_reason,
        error=row.error,
        created_at=row.created_at,
        started_at=row.started_at,
        heartbeat_at=row.heartbeat_at,
        finished_at=row.finished_at,
        seconds=row.seconds,
        tokens_per_second=row.tokens_per_second,
        measures=_measures(row),
        sparkline=tuple(row.sparkline or ()),
        parent=row.parent,
        branch_position=row.branch_position,
        experiment=row.experiment,
        owner=row.owner,
        note=row.note,
        favourite=row.favourite,
    )


def _measures(row: Row[*tuple[Any, ...]]) -> Measures | None:
    if row.mean_nucleus_size is None:
        return None
    return Measures(
        mean_nucleus_size=row.mean_nucleus_size,
        median_nucleus_size=row.median_nucleus_size,
        mean_entropy=row.mean_entropy,
        mean_surprisal=row.mean_surprisal,
    )


def page(connection: Connection, offset: int, limit: int) -> RunPage:
    """``limit`` runs after the newest ``offset`` ones, and the number of all runs."""
    query = (
        select(
            Run.public_id,
            Run.created_at,
            func.substr(Prompt.text, 1, PREVIEW_LENGTH, type_=AnyText()).label("prompt"),
            func.substr(Run.output, 1, PREVIEW_LENGTH, type_=AnyText()).label("output"),
            Run.model_name,
            Run.model_title,
            Run.top_p,
            Run.temperature,
            Run.seed,
            Run.status,
            Run.stop_reason,
            Run.output_tokens,
            Run.seconds,
            Run.mean_nucleus_size,
            Run.perplexity,
            Run.sparkline,
            Run.favourite,
            Run.note,
        )
        .join(Prompt, Run.prompt_id == Prompt.id)
        .order_by(Run.created_at.desc(), Run.id.desc())
        .offset(offset)
        .limit(limit)
    )
    rows = tuple(
        RunSummary(**{**row._mapping, "sparkline": tuple(row.sparkline or ())}) for row in connection.execute(query)
    )
    return RunPage(rows, connection.execute(select(func.count()).select_from(Run)).scalar_one())


def trace_since(connection: Connection, run_key: int, position: int) -> Trace:
    """The steps of a run from ``position`` on; row 0 of the result is step ``position``."""
    # Columns by name, not entities: a trace is hundreds of rows, and is read again with every click.
    columns = [column for column in StepRow.__table__.columns if column.name not in {"run_id", "position"}]
    query = select(*columns).where(StepRow.run_id == run_key, StepRow.position >= position).order_by(StepRow.position)
    rows = connection.execute(query).all()
    values: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) or [()] * len(columns)
    by_name = {column.name: column_values for column, column_values in zip(columns, values, strict=True)}
    heads = codec.decode_heads(by_name["head"])
    dropped = by_name["first_dropped_id"]

    def floats(name: str) -> Any:
        return np.array(by_name[name], dtype=np.float64)  # None becomes NaN

    def integers(name: str) -> Any:
        return np.array(by_name[name], dtype=np.int64)

    return Trace(
        token_ids=integers("token_id"),
        raw_probability=floats("raw_probability"),
        probability=floats("probability"),
        final_probability=floats("final_probability"),
        rank=integers("rank"),
        surprisal=floats("surprisal"),
        entropy=floats("entropy"),
        nucleus_size=integers("nucleus_size"),
        nucleus_mass=floats("nucleus_mass"),
        kept_size=integers("kept_size"),
        kept_mass=floats("kept_mass"),
        reaching_size=integers("reaching_size"),
        reaching_mass=floats("reaching_mass"),
        admitting_p=floats("admitting_p"),
        last_kept_ids=integers("last_kept_id"),
        last_kept_probability=floats("last_kept_probability"),
        first_dropped_ids=np.array([-1 if i is None else i for i in dropped], dtype=np.int64),
        first_dropped_probability=floats("first_dropped_probability"),
        head_ids=heads.ids,
        head_probabilities=heads.probabilities,
        head_raw_probabilities=heads.raw_probabilities,
        size_curves=codec.decode_curves(by_name["size_curve"]),
    )


def measured(connection: Connection, run_key: int) -> dict[str, Any]:
    """The columns of ``Run`` that sum up its stored steps: measures, perplexity and sparkline; none without steps."""
    query = (
        select(StepRow.nucleus_size, StepRow.entropy, StepRow.surprisal)
        .where(StepRow.run_id == run_key)
        .order_by(StepRow.position)
    )
    rows = connection.execute(query).all()
    if not rows:
        return {}
    sizes, entropies, surprisals = zip(*rows, strict=True)
    measures = measures_of(sizes, entropies, surprisals)
    assert measures is not None
    return {
        "mean_nucleus_size": measures.mean_nucleus_size,
        "median_nucleus_size": measures.median_nucleus_size,
        "mean_entropy": measures.mean_entropy,
        "mean_surprisal": measures.mean_surprisal,
        "perplexity": measures.perplexity,
        "sparkline": list(sparkline(sizes)),
    }
