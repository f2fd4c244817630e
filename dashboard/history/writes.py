"""Single rows on their way into the database; the transactions around them are ``store``'s."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from dashboard.errors import HistoryError
from dashboard.history import codec
from dashboard.history.tables import Experiment, Prompt, VocabularyRow
from dashboard.sampling.trace import STEP_NUMBERS, Step


def prompt_key(connection: Connection, text: str) -> int:
    """The key of a prompt, which is stored now if it is new."""
    sha256 = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    # On a server the lock keeps the prompt while this run refers to it; SQLite has only one writer.
    query = select(Prompt.id).where(Prompt.sha256 == sha256).with_for_update()
    key = connection.execute(query).scalar()
    if key is None:
        insert_once(connection, Prompt, text=text, sha256=sha256)
        key = connection.execute(query).scalar_one()
    return key


def insert_once(connection: Connection, table: type[Prompt | VocabularyRow], **values: object) -> None:
    """Insert a row unless another writer has just done so."""
    try:
        with connection.begin_nested():
            connection.execute(insert(table).values(**values))
    except IntegrityError:
        pass


def experiment_key(connection: Connection, public_id: str | None) -> int | None:
    """The key of an experiment. Raises HistoryError for one that is not there any more."""
    if public_id is None:
        return None
    key = connection.execute(select(Experiment.id).where(Experiment.public_id == public_id)).scalar()
    if key is None:
        raise HistoryError("The experiment of this run was deleted: start the experiment again.")
    return key


def step_values(step: Step) -> dict[str, Any]:
    """The columns of a step."""
    dropped = step.first_dropped
    return {
        **{name: getattr(step, name) for name in STEP_NUMBERS},
        "last_kept_id": step.last_kept.token_id,
        "last_kept_probability": step.last_kept.probability,
        "first_dropped_id": None if dropped is None else dropped.token_id,
        "first_dropped_probability": None if dropped is None else dropped.probability,
        "head": codec.encode_head(step.head_ids, step.head_probabilities, step.head_raw_probabilities),
        "size_curve": codec.encode_curve(step.size_curve),
    }
