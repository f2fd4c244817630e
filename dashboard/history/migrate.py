"""Bring a database to the tables of today. Runs at every start, and does nothing when there is nothing to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from dashboard.errors import HistoryError
from dashboard.history.database import Database

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_ADVISORY_LOCK: Final = 0x6E75636C  # any number that nobody else uses on this server: "nucl"


def upgrade(database: Database, migrations: Path = MIGRATIONS) -> None:
    """Apply the revisions that the database does not have yet, all of them or none.

    An older database keeps its data. When several processes start at once, one migrates and the others wait.

    Raises:
        HistoryError: the database was written by a newer version of the application.
        HistoryBusy, HistoryFull: it cannot be written now.
    """
    newest = newest_revision(migrations)
    with database.read() as connection:
        if _revision(connection) == newest:
            return
    with database.write() as connection, _alone(connection):
        revision = _revision(connection)
        if revision == newest:
            return
        if revision is not None and revision > newest:
            raise HistoryError(
                f"The history was written by a newer version of Nucleus Lens (revision {revision}, known here up to "
                f"{newest}): update the application, or point DATABASE_URL to another database."
            )
        _run_alembic(connection, migrations)


def newest_revision(migrations: Path = MIGRATIONS) -> str:
    """The last revision's id: revisions are numbered, and each file's name starts with its number.

    Reading the names costs nothing, where importing Alembic to ask would double the time to the first page.
    """
    return max(file.name.split("_")[0] for file in (migrations / "versions").glob("[0-9]*_*.py"))


def _revision(connection: Connection) -> str | None:
    """The revision that the database is at; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


@contextlib.contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Keep other processes from migrating, and SQLite from emptying the tables that refer to a rebuilt one.

    SQLite changes a column by building the table anew and dropping the old one; with foreign keys on, the drop deletes
    what refers to it. They can only be switched outside a transaction, so the running one ends and another begins.
    """
    if connection.dialect.name != "sqlite":
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        yield
        return
    connection.exec_driver_sql("COMMIT")
    connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        yield
        _check_references(connection)
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        with contextlib.suppress(Exception):
            connection.exec_driver_sql("ROLLBACK")
        raise
    finally:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        # The connection's own commit or rollback needs a transaction to end.
        connection.exec_driver_sql("BEGIN")


def _check_references(connection: Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise HistoryError(
            f"The history could not be brought up to date: {len(broken)} rows of {broken[0][0]} would be orphaned; "
            "nothing was changed. Report this with the log."
        )


def _run_alembic(connection: Connection, migrations: Path) -> None:
    # Imported here: needed once in the life of a database.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
