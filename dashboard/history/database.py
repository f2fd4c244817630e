"""The connection to the database: one transaction at a time that writes, and errors as sentences.

Everything that depends on the kind of database is in the functions ``_prepare_*`` and ``_error_for``; the rest is
portable SQLAlchemy.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from dashboard.errors import HistoryBusy, HistoryError, HistoryFull

logger = logging.getLogger(__name__)

_WRITES: Final = "nucleus_lens_writes"
_PRIMARY_SQLITE_CODE: Final = 0xFF

_BUSY: Final = (
    "The history is being written by someone else and did not become free within {seconds:g} s: try again in a moment."
)
_FULL: Final = (
    "The history cannot be written, because its disk is full or its file is read-only: "
    "make room or delete old runs, then try again; what was stored before is unharmed."
)
_UNREACHABLE: Final = (
    "The history cannot be opened: check that the database of DATABASE_URL exists, runs and may be read from here."
)
_DAMAGED: Final = (
    "The history's file is damaged or is no SQLite database: restore it from a backup, or move it away to start anew."
)
_OTHER: Final = "The history could not do this; the log has the database's own words. Try again, or check DATABASE_URL."

_SQLITE_SENTENCES: Final[dict[int, tuple[type[HistoryError], str]]] = {
    sqlite3.SQLITE_BUSY: (HistoryBusy, _BUSY),
    sqlite3.SQLITE_LOCKED: (HistoryBusy, _BUSY),
    sqlite3.SQLITE_FULL: (HistoryFull, _FULL),
    sqlite3.SQLITE_READONLY: (HistoryFull, _FULL),
    sqlite3.SQLITE_IOERR: (HistoryFull, _FULL),
    sqlite3.SQLITE_CANTOPEN: (HistoryError, _UNREACHABLE),
    sqlite3.SQLITE_CORRUPT: (HistoryError, _DAMAGED),
    sqlite3.SQLITE_NOTADB: (HistoryError, _DAMAGED),
}
# Codes of PostgreSQL's manual, appendix A; a class of two letters stands for all of its codes.
_POSTGRESQL_SENTENCES: Final[dict[str, tuple[type[HistoryError], str]]] = {
    "40": (HistoryBusy, _BUSY),  # serialisation failure, deadlock
    "55P03": (HistoryBusy, _BUSY),  # lock timeout
    "57014": (HistoryBusy, _BUSY),  # statement timeout
    "53100": (HistoryFull, _FULL),  # disk full
    "25006": (HistoryFull, _FULL),  # read-only transaction
    "53300": (HistoryBusy, _BUSY),  # too many connections
    "08": (HistoryError, _UNREACHABLE),
    "28": (HistoryError, _UNREACHABLE),  # wrong password
    "3D": (HistoryError, _UNREACHABLE),  # no such database
}


class Database:
    """An engine with the rules of this project. Thread-safe.

    Args:
        url: an SQLAlchemy URL; a SQLite file and its folder are made when missing, ``sqlite://`` lives in memory.
        busy_timeout: seconds to wait for another writer before HistoryBusy.

    Raises:
        HistoryError: the URL cannot be used, or its driver is not installed.
    """

    def __init__(self, url: str, *, busy_timeout: float = 5.0) -> None:
        self.busy_timeout = busy_timeout
        self.engine = _engine(_parsed(url), busy_timeout)

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and is not held up by a writer."""
        with self.translated(), self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write: all of it is stored, or, when anything raises, none of it.

        Raises:
            HistoryBusy: another writer did not end within the busy timeout.
            HistoryFull: no room, or not allowed to write.
            HistoryError: anything else that the database refuses.
        """
        writer = self.engine.execution_options(**{_WRITES: True})
        with self.translated(), writer.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the database's errors into sentences. Broken constraints and wrong SQL pass: they are defects."""
        try:
            yield
        except (IntegrityError, ProgrammingError):
            raise
        except (DBAPIError, sqlite3.Error, PoolTimeoutError) as error:
            kind, sentence = _error_for(error)
            logger.warning("The history failed: %s", error.orig if isinstance(error, DBAPIError) else error)
            raise kind(sentence.format(seconds=self.busy_timeout)) from error

    def close(self) -> None:
        """Close idle connections; the object can be used again."""
        self.engine.dispose()


def _parsed(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError as error:
        # Without the text, which may hold a password.
        raise HistoryError(
            "DATABASE_URL is no database URL: write it as sqlite:////srv/history.db or "
            "postgresql://user:password@host/name."
        ) from error
    # Hosting services still hand out the scheme that SQLAlchemy dropped.
    return url.set(drivername="postgresql") if url.drivername == "postgres" else url


def _engine(url: URL, busy_timeout: float) -> Engine:
    sqlite = url.get_backend_name() == "sqlite"
    # Without hide_parameters an error would carry the prompt and whole heads into the log.
    options: dict[str, Any] = {"pool_timeout": max(busy_timeout, 1.0), "hide_parameters": True}
    if sqlite and url.database in {None, "", ":memory:"}:
        # A database in memory lives as long as its connection, so there is one, and threads take turns.
        options |= {
            "poolclass": QueuePool,
            "pool_size": 1,
            "max_overflow": 0,
            "connect_args": {"check_same_thread": False},
        }
    elif sqlite and not str(url.database).startswith("file:"):  # a URI of SQLite's own names no folder to make
        _make_folder(Path(str(url.database)))
        options["connect_args"] = {"timeout": busy_timeout}
    else:
        options["pool_pre_ping"] = True
    try:
        engine = create_engine(url, **options)
    except (ImportError, NoSuchModuleError) as error:
        raise HistoryError(
            f"The driver for {url.drivername} databases is not installed: for PostgreSQL, run "
            "pip install 'psycopg[binary]' and write DATABASE_URL as postgresql+psycopg://..."
        ) from error
    if sqlite:
        _prepare_sqlite(engine)
    elif url.get_backend_name() == "postgresql":
        _prepare_postgresql(engine, busy_timeout)
    return engine


def _make_folder(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HistoryError(
            f"The folder of the history, {file.parent.name}, cannot be made: {error.strerror}; correct DATABASE_URL."
        ) from error


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        # Python's driver would open transactions by its own rules; "began" does it.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        # With WAL, losing power can lose the last commits but never damages the file.
        connection.execute("PRAGMA synchronous = NORMAL")
        # A step is 1.5 to 2.3 KB: of the usual 4 KB page it would leave half empty. Acts on a new file only.
        connection.execute("PRAGMA page_size = 16384")
        if connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete":
            # WAL stays with the file. On a read-only disk, or while another process does the same, it works without.
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        # A deferred transaction that reads before it writes fails at once when another has written meanwhile.
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare_postgresql(engine: Engine, busy_timeout: float) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {int(busy_timeout * 1000)}")
        connection.commit()


def _error_for(error: Exception) -> tuple[type[HistoryError], str]:
    if isinstance(error, PoolTimeoutError):
        return HistoryBusy, _BUSY
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error) and "no such savepoint" in str(cause):
        # On a full disk SQLite ends the whole transaction, so that undoing a part of it fails too: what came first
        # is the reason.
        earlier: BaseException | None = cause
        while earlier is not None:
            cause = earlier if isinstance(earlier, sqlite3.Error) else cause
            earlier = earlier.__context__
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", None)
        return _SQLITE_SENTENCES.get((code or 0) & _PRIMARY_SQLITE_CODE, (HistoryError, _OTHER))
    state = getattr(cause, "sqlstate", None)
    if state is None:
        # psycopg has no code for a server that cannot be reached at all.
        return HistoryError, _UNREACHABLE
    return _POSTGRESQL_SENTENCES.get(state) or _POSTGRESQL_SENTENCES.get(state[:2], (HistoryError, _OTHER))
