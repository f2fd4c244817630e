"""``History``: every run, from the moment it is asked for until it is deleted.

A run that was shown is never lost: its steps are written while it grows, each batch in one transaction, and a method
that raises has stored nothing, so that it can simply be called again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import delete, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from dashboard.errors import HistoryError
from dashboard.history import branches, codec, migrate, queries, writes
from dashboard.history.database import Database
from dashboard.history.records import BranchNode, NewRun, RunPage, RunRecord
from dashboard.history.tables import Experiment, Prompt, Run, StepRow, VocabularyRow
from dashboard.sampling.trace import Step, StopReason, Trace
from dashboard.sampling.vocabulary import Vocabulary

EndStatus: TypeAlias = Literal["finished", "stopped", "failed"]

_ALIVE: Final = ("queued", "running")
# The most that one statement names: SQLite's oldest limit on parameters is 999.
_IDS_A_STATEMENT: Final = 500


class History:
    """The stored runs. Thread-safe; one object serves the whole process.

    Opening it makes the database or brings it up to date. Every method may raise HistoryBusy (another writer did not
    end in time), HistoryFull (no room, read-only) and HistoryError; those with an id RunNotFound.

    Args:
        url: an SQLAlchemy URL, e.g. ``sqlite:////srv/history.db``; ``sqlite://`` lives in memory.
        busy_timeout: seconds to wait for another writer.
    """

    def __init__(self, url: str, *, busy_timeout: float = 5.0) -> None:
        self._database = Database(url, busy_timeout=busy_timeout)
        self._vocabularies: dict[str, Vocabulary] = {}
        migrate.upgrade(self._database)

    def close(self) -> None:
        """Close the idle connections."""
        self._database.close()

    # Writing, in the order of a run's life.

    def create_experiment(self, title: str, kind: str) -> str:
        """Store an experiment and return its public id."""
        public_id = str(uuid.uuid4())
        with self._database.write() as connection:
            connection.execute(
                insert(Experiment).values(public_id=public_id, title=title, kind=kind, created_at=_now())
            )
        return public_id

    def create_run(self, run: NewRun) -> str:
        """Store a run as queued and return its public id, a random UUID.

        Raises:
            RunNotFound: the parent is not there any more.
            ValueError: the settings have no seed.
        """
        if run.settings.seed is None:
            raise ValueError("a run without a seed cannot be repeated: call with_seed() first")
        public_id, now = str(uuid.uuid4()), _now()
        with self._database.write() as connection:
            connection.execute(
                insert(Run).values(
                    public_id=public_id,
                    prompt_id=writes.prompt_key(connection, run.prompt),
                    **run.settings.as_dict(),
                    model_name=run.model_name,
                    model_title=run.model_title,
                    model_revision=run.model_revision,
                    model_fingerprint=run.model_fingerprint,
                    vocabulary_fingerprint=run.vocabulary_fingerprint,
                    prompt_token_ids=codec.encode_ids(run.prompt_token_ids),
                    output="",
                    output_tokens=0,
                    status="queued",
                    created_at=now,
                    heartbeat_at=now,
                    parent_id=None if run.parent is None else queries.internal_id(connection, run.parent),
                    branch_position=run.branch_position,
                    experiment_id=writes.experiment_key(connection, run.experiment),
                    owner=run.owner,
                    note=run.note,
                    favourite=False,
                )
            )
        return public_id

    def start_run(self, public_id: str) -> None:
        """Mark a queued run as running."""
        now = _now()
        with self._database.write() as connection:
            key = queries.internal_id(connection, public_id)
            connection.execute(
                update(Run).where(Run.id == key).values(status="running", started_at=now, heartbeat_at=now)
            )

    def append_steps(self, public_id: str, steps: Sequence[Step], output: str) -> None:
        """Store the next steps of a running run and its text so far; with no steps, the text alone.

        A run that was taken for interrupted is running again: its process was only slow.
        """
        rows = [
            writes.step_values(step) for step in steps
        ]  # packed before the transaction, which holds up other writers
        changes: dict[str, Any] = {"output": output, "heartbeat_at": _now()}
        if steps:
            changes["output_tokens"] = steps[-1].position + 1
        with self._database.write() as connection:
            key = queries.internal_id(connection, public_id)
            if rows:
                connection.execute(insert(StepRow), [{"run_id": key, **row} for row in rows])
            connection.execute(update(Run).where(Run.id == key).values(**changes))
            connection.execute(
                update(Run)
                .where(Run.id == key, Run.status == "interrupted")
                .values(status="running", error=None, finished_at=None)
            )

    def heartbeat(self, public_ids: Iterable[str]) -> None:
        """Say that these runs are alive, queued ones included; unknown ids are passed over."""
        wanted, now = list(public_ids), _now()
        if not wanted:
            return
        with self._database.write() as connection:
            for start in range(0, len(wanted), _IDS_A_STATEMENT):
                some = wanted[start : start + _IDS_A_STATEMENT]
                connection.execute(
                    update(Run).where(Run.public_id.in_(some), Run.status.in_(_ALIVE)).values(heartbeat_at=now)
                )

    def finish_run(
        self,
        public_id: str,
        *,
        status: EndStatus,
        stop_reason: StopReason,
        output: str,
        seconds: float,
        error: str | None = None,
    ) -> None:
        """Close a run and compute its measures from the stored steps.

        Args:
            public_id: the run.
            status: how it ended.
            stop_reason: why.
            output: its whole text.
            seconds: the time spent generating.
            error: a sentence for the user, if it failed.
        """
        now = _now()
        with self._database.write() as connection:
            key = queries.internal_id(connection, public_id)
            drawn = _drawn(
                *connection.execute(select(Run.output_tokens, Run.branch_position).where(Run.id == key)).one()
            )
            connection.execute(
                update(Run)
                .where(Run.id == key)
                .values(
                    status=status,
                    stop_reason=stop_reason,
                    output=output,
                    error=error,
                    finished_at=now,
                    heartbeat_at=now,
                    seconds=seconds,
                    tokens_per_second=drawn / seconds if seconds > 0 else None,
                    **queries.measured(connection, key),
                )
            )

    def mark_interrupted(self, older_than: timedelta) -> int:
        """Mark the queued and running runs without a sign of life for ``older_than``; return how many there were.

        Their steps stay, with the measures of what is there.
        """
        cutoff = _now() - older_than
        columns = (Run.id, Run.output_tokens, Run.branch_position, Run.started_at, Run.heartbeat_at)
        silent = select(*columns).where(Run.status.in_(_ALIVE), Run.heartbeat_at < cutoff)
        # Asked without locking first: nearly always there is none.
        with self._database.read() as connection:
            if connection.execute(silent.limit(1)).first() is None:
                return 0
        marked = 0
        with self._database.write() as connection:
            for row in connection.execute(silent).all():
                seconds = (row.heartbeat_at - row.started_at).total_seconds() if row.started_at else None
                result = connection.execute(
                    update(Run)
                    # On a server the run may have given a sign of life meanwhile.
                    .where(Run.id == row.id, Run.status.in_(_ALIVE), Run.heartbeat_at < cutoff)
                    .values(
                        status="interrupted",
                        error=_interrupted_sentence(row.output_tokens),
                        finished_at=row.heartbeat_at,
                        seconds=seconds,
                        tokens_per_second=_drawn(row.output_tokens, row.branch_position) / seconds if seconds else None,
                        **queries.measured(connection, row.id),
                    )
                )
                marked += result.rowcount
        return marked

    def delete_run(self, public_id: str) -> None:
        """Delete a run with its steps, and its prompt if no other run has it; branches from it stay."""
        with self._database.write() as connection:
            key = queries.internal_id(connection, public_id)
            prompt = connection.execute(select(Run.prompt_id).where(Run.id == key)).scalar_one()
            connection.execute(delete(Run).where(Run.id == key))
            try:
                with connection.begin_nested():
                    connection.execute(
                        delete(Prompt).where(Prompt.id == prompt, ~exists().where(Run.prompt_id == prompt))
                    )
            except IntegrityError:
                pass  # on a server: another run with this prompt was stored in this moment, so the prompt stays

    # Reading.

    def run(self, public_id: str) -> RunRecord:
        """Everything about one run but its steps."""
        with self._database.read() as connection:
            return queries.run(connection, public_id)

    def trace(self, public_id: str) -> Trace:
        """All stored steps of a run; of length 0 before the first."""
        return self.trace_since(public_id, 0)

    def trace_since(self, public_id: str, position: int) -> Trace:
        """The stored steps of a run from ``position`` on; row 0 of the result is step ``position``."""
        with self._database.read() as connection:
            return queries.trace_since(connection, queries.internal_id(connection, public_id), position)

    def family(self, public_id: str) -> tuple[BranchNode, ...]:
        """The run that a run stems from, and all branches of that; every parent stands before its children.

        At most ``branches.MOST_RUNS`` of them, the run itself always among them.
        """
        with self._database.read() as connection:
            return branches.family(connection, public_id)

    def page(self, offset: int, limit: int) -> RunPage:
        """``limit`` runs after the newest ``offset`` ones, newest first, and the number of all runs."""
        with self._database.read() as connection:
            return queries.page(connection, offset, limit)

    # Vocabularies, so that reading needs no model.

    def save_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Store a vocabulary, once; call it before the first run of a model."""
        fingerprint = vocabulary.fingerprint
        if fingerprint in self._vocabularies:
            return
        known = select(VocabularyRow.fingerprint).where(VocabularyRow.fingerprint == fingerprint)
        with self._database.read() as connection:
            stored = connection.execute(known).first() is not None
        if not stored:
            packed = vocabulary.pack()
            with self._database.write() as connection:
                writes.insert_once(connection, VocabularyRow, fingerprint=fingerprint, packed=packed)
        self._vocabularies[fingerprint] = vocabulary

    def vocabulary(self, fingerprint: str) -> Vocabulary:
        """A stored vocabulary; read once, then kept. Raises HistoryError for one that is missing or damaged."""
        vocabulary = self._vocabularies.get(fingerprint)
        if vocabulary is None:
            query = select(VocabularyRow.packed).where(VocabularyRow.fingerprint == fingerprint)
            with self._database.read() as connection:
                packed = connection.execute(query).scalar()
            vocabulary = self._vocabularies[fingerprint] = _unpacked(packed)
        return vocabulary


def _now() -> datetime:
    return datetime.now(UTC)


def _drawn(tokens: int, branch_position: int | None) -> int:
    """How many of a run's tokens were drawn; a branch begins with given ones."""
    return tokens if branch_position is None else max(0, tokens - branch_position - 1)


def _unpacked(packed: bytes | None) -> Vocabulary:
    if packed is None:
        raise HistoryError(
            "The tokens of this run's model are not in the history, so its steps cannot be labelled: "
            "load the model once, then open the run again."
        )
    try:
        return Vocabulary.unpack(packed)
    except ValueError as error:
        raise HistoryError(
            "The tokens of this run's model are damaged in the history: restore the database from a backup."
        ) from error


def _interrupted_sentence(tokens: int) -> str:
    if tokens == 0:
        return "The run was interrupted before its first token, because the application ended: run it again."
    return (
        f"The run was interrupted after {tokens:,} token{'s' if tokens > 1 else ''}, because the application ended; "
        "what it had written is here: run it again for the whole text."
    )
