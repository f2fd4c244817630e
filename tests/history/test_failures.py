"""Locked, full, damaged, killed: a sentence for the user, and nothing that was stored is lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event

from dashboard.errors import HistoryBusy, HistoryError, HistoryFull
from dashboard.history import History
from tests.history.samples import assert_same_step, sample_run, sample_steps

REPOSITORY = Path(__file__).parents[2]

WRITER = """
import itertools, sys
from dashboard.history import History
from tests.history.samples import sample_run, sample_steps
history = History(sys.argv[1])
run = history.create_run(sample_run())
history.start_run(run)
for position in itertools.count():
    history.append_steps(run, sample_steps(1, start=position, vocabulary=300), "x" * (position + 1))
    print(run, flush=True)
"""


def test_a_locked_database_is_a_sentence_after_the_timeout_and_can_be_tried_again(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    history = History(f"sqlite:///{file}", busy_timeout=0.1)
    run, steps = history.create_run(sample_run()), sample_steps(2)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.perf_counter()
    with pytest.raises(HistoryBusy, match=r"did not become free within 0\.1 s: try again"):
        history.append_steps(run, steps, "text")
    assert time.perf_counter() - started < 2
    assert history.run(run).output == ""  # reading goes on beside the writer
    other.execute("ROLLBACK")
    other.close()
    history.append_steps(run, steps, "text")
    assert len(history.trace(run)) == 2
    history.close()


def test_a_full_disk_is_a_sentence_and_what_was_stored_stays(tmp_path: Path) -> None:
    history = History(f"sqlite:///{tmp_path / 'history.db'}")
    run, steps = history.create_run(sample_run()), sample_steps(30)
    history.append_steps(run, steps[:2], "two")
    history.close()
    limit = [1]  # in pages; SQLite raises it to the size that the file has

    @event.listens_for(history._database.engine, "connect")
    def limited(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {limit[0]}")

    with pytest.raises(HistoryFull, match="make room or delete old runs"):
        history.append_steps(run, steps[2:], "thirty")
    record = history.run(run)
    assert (record.output, record.output_tokens, len(history.trace(run))) == ("two", 2, 2)

    limit[0] = 10_000
    history.close()
    history.append_steps(run, steps[2:], "thirty")
    trace = history.trace(run)
    assert len(trace) == 30
    assert_same_step(trace.step(29), steps[29])
    history.close()


def test_a_file_that_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    file.write_text("This is a letter, not a database. " * 100)
    with pytest.raises(HistoryError, match="is no SQLite database"):
        History(f"sqlite:///{file}")


def test_a_database_that_may_only_be_read_is_read_and_says_so_when_written(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    writer = History(f"sqlite:///{file}")
    run = writer.create_run(sample_run())
    writer.close()
    reader = History(f"sqlite:///file:{file}?mode=ro&uri=true")
    assert reader.run(run).prompt == sample_run().prompt
    with pytest.raises(HistoryFull, match="read-only"):
        reader.append_steps(run, sample_steps(1), "")
    reader.close()


@pytest.mark.parametrize("url", ["", "history.db", "nosuch://host/name"])
def test_an_unusable_url_is_a_sentence(url: str) -> None:
    with pytest.raises(HistoryError, match="DATABASE_URL"):
        History(url)


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "history.db"
    History(f"sqlite:///{file}").close()
    assert file.exists()


def test_a_full_disk_shows_the_text_that_did_not_fit_in_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    history = History(f"sqlite:///{tmp_path / 'history.db'}")
    run = history.create_run(sample_run())
    history.close()

    @event.listens_for(history._database.engine, "connect")
    def limited(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")

    for write in (
        lambda: history.create_run(sample_run(prompt="my secret " * 100_000)),
        lambda: history.append_steps(run, [], "my secret " * 100_000),
    ):
        with pytest.raises(HistoryFull) as caught:
            write()
        assert "secret" not in caplog.text + str(caught.value.__cause__)
    assert history.page(0, 10).total == 1
    history.close()


def test_a_killed_writer_leaves_a_readable_run_marked_as_interrupted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'history.db'}"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline().strip() for _ in range(5)]
        os.kill(writer.pid, signal.SIGKILL)
    run = lines[0]
    history = History(url)
    assert history.mark_interrupted(timedelta(0)) == 1
    record, trace = history.run(run), history.trace(run)
    assert record.status == "interrupted"
    assert len(trace) == record.output_tokens == len(record.output) >= 5
    assert record.measures is not None
    assert_same_step(trace.step(4), sample_steps(1, start=4, vocabulary=300)[0])
    history.close()
