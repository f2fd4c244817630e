"""The family of a run: the run it stems from, and all branches of that, read level by level."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Final

from sqlalchemy import Connection, func, select

from dashboard.history import queries
from dashboard.history.records import BranchNode
from dashboard.history.tables import Run, StepRow

MOST_RUNS: Final = 400
"""The most runs of a family that are told; a larger one ends there, the oldest branches first."""

LABEL_TOKENS: Final = 8
"""Tokens of each run, from where it branches off, that are told with it."""

# The most that one statement names: SQLite's oldest limit on parameters is 999.
_IDS_A_STATEMENT: Final = 500


def family(connection: Connection, public_id: str) -> tuple[BranchNode, ...]:
    """The run at the root first, then its branches, every parent before its children."""
    keys = [_root(connection, queries.internal_id(connection, public_id))]
    level = keys
    while level and len(keys) < MOST_RUNS:
        children = select(Run.id).where(Run.parent_id.in_(level[:_IDS_A_STATEMENT])).order_by(Run.id)
        level = list(connection.execute(children.limit(MOST_RUNS - len(keys))).scalars())
        keys = keys + level
    return _nodes(connection, keys)


def _root(connection: Connection, key: int) -> int:
    # A parent is always older than its branch, so this ends.
    while (parent := connection.execute(select(Run.parent_id).where(Run.id == key)).scalar()) is not None:
        key = parent
    return key


def _nodes(connection: Connection, keys: list[int]) -> tuple[BranchNode, ...]:
    query = select(
        Run.id,
        Run.public_id,
        Run.parent_id,
        Run.branch_position,
        Run.output_tokens,
        Run.status,
        Run.top_p,
        Run.temperature,
        Run.seed,
        Run.perplexity,
    ).where(Run.id.in_(keys))
    rows = {row.id: row for row in connection.execute(query)}
    labels = _labels(connection, keys)
    return tuple(
        BranchNode(
            public_id=row.public_id,
            parent=rows[row.parent_id].public_id if row.parent_id in rows else None,
            branch_position=row.branch_position,
            output_tokens=row.output_tokens,
            status=row.status,
            top_p=row.top_p,
            temperature=row.temperature,
            seed=row.seed,
            perplexity=row.perplexity,
            token_ids=labels.get(row.id, ()),
        )
        for row in (rows[key] for key in keys if key in rows)
    )


def _labels(connection: Connection, keys: Iterable[int]) -> dict[int, tuple[int, ...]]:
    """The first tokens of each run, from where it branches off."""
    start = func.coalesce(Run.branch_position, 0)
    query = (
        select(StepRow.run_id, StepRow.token_id)
        .join(Run, Run.id == StepRow.run_id)
        .where(Run.id.in_(keys), StepRow.position >= start, StepRow.position < start + LABEL_TOKENS)
        .order_by(StepRow.run_id, StepRow.position)
    )
    by_run = groupby(connection.execute(query), key=lambda row: row.run_id)
    return {key: tuple(row.token_id for row in rows) for key, rows in by_run}
