"""The family of a run: the run it stems from, and all branches of that, read level by level."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Final, NamedTuple

from sqlalchemy import Connection, func, select

from dashboard.history import queries
from dashboard.history.records import BranchNode
from dashboard.history.tables import Run, StepRow

MOST_RUNS: Final = 400
"""The most runs of a family that are told: the way to the run that was asked for, then the others level by level."""

LABEL_TOKENS: Final = 8
"""Tokens of each run, from where it branches off, that are told with it."""


def family(connection: Connection, public_id: str) -> tuple[BranchNode, ...]:
    """The run at the root first, then its branches, every parent before its children."""
    way = _way_to(connection, queries.internal_id(connection, public_id))
    keys, level = way[-MOST_RUNS:], [way[0]]
    while level and len(keys) < MOST_RUNS:
        children = select(Run.id).where(Run.parent_id.in_(level)).order_by(Run.id)
        level = list(connection.execute(children.limit(MOST_RUNS)).scalars())
        keys += [key for key in level if key not in way][: MOST_RUNS - len(keys)]
    # A parent is always older than its branch.
    return _nodes(connection, sorted(keys))


def _way_to(connection: Connection, key: int) -> list[int]:
    """The keys from the root to a run."""
    way = [key]
    while (parent := connection.execute(select(Run.parent_id).where(Run.id == way[0])).scalar()) is not None:
        way.insert(0, parent)
    return way


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
    starts = _starts(connection, keys)
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
            token_ids=starts.get(row.id, _NO_STEPS).token_ids,
            is_forced=row.branch_position is not None and starts.get(row.id, _NO_STEPS).is_forced,
        )
        for row in (rows[key] for key in keys if key in rows)
    )


class _Start(NamedTuple):
    """A run's first tokens from where it branches off, and whether the first of them was outside its kept set."""

    token_ids: tuple[int, ...]
    is_forced: bool


_NO_STEPS: Final = _Start((), is_forced=False)


def _starts(connection: Connection, keys: Iterable[int]) -> dict[int, _Start]:
    start = func.coalesce(Run.branch_position, 0)
    query = (
        select(StepRow.run_id, StepRow.token_id, StepRow.final_probability)
        .join(Run, Run.id == StepRow.run_id)
        .where(Run.id.in_(keys), StepRow.position >= start, StepRow.position < start + LABEL_TOKENS)
        .order_by(StepRow.run_id, StepRow.position)
    )
    by_run = groupby(connection.execute(query), key=lambda row: row.run_id)
    steps = {key: list(rows) for key, rows in by_run}
    return {
        key: _Start(tuple(row.token_id for row in rows), is_forced=rows[0].final_probability <= 0)
        for key, rows in steps.items()
    }
