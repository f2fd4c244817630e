"""Any database, empty or old, becomes that of today and keeps what it holds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from dashboard.errors import HistoryError
from dashboard.history import History, migrate
from dashboard.history.database import Database
from dashboard.history.tables import Base
from tests.history.samples import assert_same_step, sample_run, sample_steps

REPOSITORY = Path(__file__).parents[2]

# Rebuilds "run", which steps refer to: SQLite cannot change a column otherwise.
LATER_REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "9000"
down_revision = {before!r}

def upgrade():
    with op.batch_alter_table("run") as batch:
        batch.add_column(sa.Column("colour", sa.Text(), nullable=False, server_default="blue"))
        batch.alter_column("note", type_=sa.String(500))
    {more}
"""


def later_migrations(folder: Path, more: str = "") -> Path:
    """The migrations of a version to come."""
    migrations = folder / "migrations"
    shutil.copytree(migrate.MIGRATIONS, migrations, ignore=shutil.ignore_patterns("__pycache__"))
    content = LATER_REVISION.format(before=migrate.newest_revision(), more=more)
    (migrations / "versions" / "9000_later.py").write_text(content)
    return migrations


def revision(database: Database) -> str | None:
    with database.read() as connection:
        return migrate._revision(connection)


def test_the_revisions_make_exactly_the_tables_of_today() -> None:
    database = Database("sqlite://")
    migrate.upgrade(database)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    database.close()


def test_the_newest_revision_is_the_one_that_alembic_finds() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.MIGRATIONS))
    assert migrate.newest_revision() == ScriptDirectory.from_config(config).get_current_head()


def test_an_older_database_keeps_its_runs_and_their_steps(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'history.db'}"
    history, steps = History(url), sample_steps(3)
    run = history.create_run(sample_run(note="kept"))
    history.append_steps(run, steps, "text")
    branch = history.create_run(sample_run(parent=run, branch_position=1))
    history.close()

    database = Database(url)
    migrate.upgrade(database, later_migrations(tmp_path))
    assert revision(database) == "9000"
    with database.read() as connection:
        assert connection.execute(text("SELECT DISTINCT colour FROM run")).scalars().all() == ["blue"]
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
    database.close()
    assert history.run(run).note == "kept"
    assert history.run(branch).parent == run
    for step in steps:
        assert_same_step(history.trace(run).step(step.position), step)
    history.close()


@pytest.mark.parametrize(
    "more", ["raise RuntimeError('half way')", "op.execute('UPDATE step SET run_id = 77')"], ids=["error", "orphans"]
)
def test_a_revision_that_fails_changes_nothing(tmp_path: Path, more: str) -> None:
    url = f"sqlite:///{tmp_path / 'history.db'}"
    history = History(url)
    run = history.create_run(sample_run())
    history.append_steps(run, sample_steps(2), "text")
    before = revision(history._database)
    with pytest.raises((RuntimeError, HistoryError), match=r"half way|nothing was changed"):
        migrate.upgrade(history._database, later_migrations(tmp_path, more))
    assert revision(history._database) == before
    with history._database.read() as connection:
        columns = connection.execute(text("SELECT * FROM run")).keys()
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
    assert "colour" not in columns
    assert len(history.trace(run)) == 2
    history.close()


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'history.db'}"
    database = Database(url)
    migrate.upgrade(database, later_migrations(tmp_path))
    database.close()
    with pytest.raises(HistoryError, match=r"newer version of Nucleus Lens.*update the application"):
        History(url)
    assert revision(database) == "9000"
    database.close()


def test_upgrading_twice_does_nothing_the_second_time() -> None:
    history = History("sqlite://")
    run = history.create_run(sample_run())
    migrate.upgrade(history._database)
    assert history.run(run).status == "queued"
    history.close()


def test_three_processes_may_start_at_once_on_an_empty_disk(tmp_path: Path) -> None:
    code = (
        "import sys; from dashboard.history import History; from tests.history.samples import sample_run\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "History(sys.argv[1], busy_timeout=30).create_run(sample_run())"
    )
    url = f"sqlite:///{tmp_path / 'history.db'}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, url],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    history = History(url)
    assert history.page(0, 10).total == 3
    with history._database.read() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    history.close()
