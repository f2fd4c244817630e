"""Runs are stored, read, listed and deleted as they were given."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from dashboard.errors import HistoryError, RunNotFound
from dashboard.history import History, RunSummary
from dashboard.history.tables import Prompt, Run, StepRow
from dashboard.metrics.summary import summary_measures
from dashboard.sampling.settings import KNOB, SamplingSettings
from dashboard.sampling.trace import Trace
from dashboard.sampling.vocabulary import Vocabulary
from tests.history.samples import assert_same_step, sample_run, sample_steps

WEIRD_TEXTS = [
    "\x00",
    "a\x00b\x1a0000",
    "\ud83d",
    "\udc00\ud83d x",
    "🙂👩‍👩‍👧",
    "שלום עולם",
    "<b>&amp;</b>",
    "%_'\"\\",
    "",
    "\r\n\t",
]


@pytest.fixture
def history() -> Iterator[History]:
    history = History("sqlite://")
    yield history
    history.close()


def count(history: History, table: type[Prompt | Run | StepRow]) -> int:
    with history._database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


@pytest.mark.parametrize(
    ("vocabulary", "reshaped"), [(50_257, False), (50_257, True), (100, False), (100, True), (70_000, True)]
)
def test_steps_come_back_bit_for_bit(history: History, vocabulary: int, reshaped: bool) -> None:
    steps = sample_steps(7, vocabulary=vocabulary, reshaped=reshaped)
    run = history.create_run(sample_run())
    history.append_steps(run, steps[:3], "some")
    history.append_steps(run, steps[3:], "some text")
    trace = history.trace(run)
    assert len(trace) == 7
    for step in steps:
        assert_same_step(trace.step(step.position), step)


def test_a_trace_is_that_of_its_steps(history: History) -> None:
    steps = sample_steps(5)
    run = history.create_run(sample_run())
    history.append_steps(run, steps, "")
    ours, expected = history.trace(run), Trace.from_steps(steps)
    for name in Trace.__slots__:
        np.testing.assert_array_equal(getattr(ours, name), getattr(expected, name), strict=True)
    np.testing.assert_array_equal(history.trace_since(run, 3).token_ids, expected.token_ids[3:])
    assert len(history.trace_since(run, 5)) == 0


def test_every_setting_and_every_field_is_stored(history: History) -> None:
    chosen = SamplingSettings(
        top_p=0.1 + 0.2, temperature=0.7, top_k=40, min_p=0.05, typical_p=0.95, epsilon_cutoff=0.0003, eta_cutoff=0.002,
        repetition_penalty=1.2, no_repeat_ngram_size=3, max_new_tokens=11, seed=2**63 - 1,
    )  # fmt: skip
    assert all(getattr(chosen, name) != knob.default for name, knob in KNOB.items())
    experiment, parent = history.create_experiment("Five values of p", "sweep"), history.create_run(sample_run())
    new = sample_run(
        settings=chosen, model_revision="main", parent=parent, branch_position=4, experiment=experiment,
        owner="visitor", note="look at step 3",
    )  # fmt: skip
    run = history.create_run(new)
    record = history.run(run.upper())
    assert record.public_id == run
    for name in type(new).__slots__:
        assert getattr(record, name) == getattr(new, name), name
    assert (record.status, record.stop_reason, record.error, record.measures) == ("queued", None, None, None)
    assert record.created_at.tzinfo is UTC


def test_a_run_lives_from_queued_to_finished(history: History) -> None:
    run, steps = history.create_run(sample_run()), sample_steps(90)
    history.start_run(run)
    assert history.run(run).status == "running"
    history.append_steps(run, steps, "half a te")
    halfway = history.run(run)
    assert (halfway.output, halfway.output_tokens, halfway.finished_at) == ("half a te", 90, None)
    history.finish_run(run, status="finished", stop_reason="eos", output="half a text", seconds=4.5)
    record = history.run(run)
    assert (record.status, record.stop_reason, record.output) == ("finished", "eos", "half a text")
    assert (record.seconds, record.tokens_per_second) == (4.5, 20.0)
    assert record.created_at <= record.started_at <= record.finished_at  # type: ignore[operator]
    assert record.measures == summary_measures(Trace.from_steps(steps))
    assert len(record.sparkline) == 60


def test_a_failed_run_says_why_and_has_no_measures_without_steps(history: History) -> None:
    run = history.create_run(sample_run())
    history.finish_run(run, status="failed", stop_reason="error", output="", seconds=0.0, error="The model is gone.")
    record = history.run(run)
    assert (record.status, record.error, record.measures) == ("failed", "The model is gone.", None)
    assert (record.tokens_per_second, record.sparkline) == (None, ())


@pytest.mark.parametrize("weird", WEIRD_TEXTS, ids=ascii)
def test_weird_text_comes_back_as_it_was(history: History, weird: str) -> None:
    run = history.create_run(sample_run(prompt=weird, note=weird, owner=weird))
    history.finish_run(run, status="stopped", stop_reason="stopped", output=weird, seconds=1.0)
    record, row = history.run(run), history.page(0, 10).rows[0]
    assert [record.prompt, record.output, record.note, record.owner, row.prompt, row.output, row.note] == [weird] * 7


@settings(deadline=None, max_examples=60)
@given(st.text(st.characters(exclude_categories=()) | st.sampled_from("\x00\x1a0f\ud800")))
def test_any_text_is_stored_without_what_a_database_refuses(value: str) -> None:
    from sqlalchemy.dialects import postgresql

    from dashboard.history.types import AnyText

    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    stored = AnyText().process_bind_param(value, dialect)
    assert stored is not None
    assert "\x00" not in stored
    stored.encode("utf-8")
    assert AnyText().process_result_value(stored, dialect) == value


def test_a_prompt_is_stored_once_and_deleted_with_its_last_run(history: History) -> None:
    first, second = history.create_run(sample_run()), history.create_run(sample_run())
    history.create_run(sample_run(prompt="another"))
    assert count(history, Prompt) == 2
    history.delete_run(first)
    assert count(history, Prompt) == 2
    history.delete_run(second)
    assert count(history, Prompt) == 1


def test_deleting_a_run_deletes_its_steps_and_leaves_its_branches(history: History) -> None:
    parent = history.create_run(sample_run())
    history.append_steps(parent, sample_steps(4), "")
    branch = history.create_run(sample_run(parent=parent, branch_position=2))
    history.append_steps(branch, sample_steps(2), "")
    history.delete_run(parent)
    assert count(history, StepRow) == 2
    record = history.run(branch)
    assert (record.parent, record.branch_position) == (None, 2)
    with pytest.raises(RunNotFound):
        history.run(parent)


@pytest.mark.parametrize("run", ["", "7", "no-such-run", "\x00", "\ud83d", "x" * 5_000, "' OR 1=1 --", "0" * 32])
def test_an_id_that_leads_nowhere_is_a_sentence(history: History, run: str) -> None:
    for method in (history.run, history.trace, history.delete_run, history.start_run):
        with pytest.raises(
            RunNotFound, match=r"There is no run .* it was deleted, or the link is incomplete"
        ) as caught:
            method(run)
        assert len(str(caught.value)) < 600
        str(caught.value).encode("utf-8")


def test_appending_to_a_deleted_run_says_that_it_is_gone(history: History) -> None:
    run = history.create_run(sample_run())
    history.delete_run(run)
    with pytest.raises(RunNotFound):
        history.append_steps(run, sample_steps(1), "")
    assert count(history, StepRow) == 0


def test_a_run_without_a_seed_is_refused(history: History) -> None:
    with pytest.raises(ValueError, match="seed"):
        history.create_run(sample_run(settings=SamplingSettings()))


def test_a_thousand_runs_are_paged_newest_first(history: History) -> None:
    first = history.create_run(sample_run())
    with history._database.write() as connection:
        # Made in the database, for speed: 999 later ones, of which two at a time share a moment.
        names = [c.name for c in Run.__table__.columns if c.name not in {"id", "public_id", "created_at", "seed"}]
        listed = ", ".join(names)
        connection.execute(
            text(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999) "
                f"INSERT INTO run (public_id, created_at, seed, {listed}) "
                "SELECT printf('00000000-0000-4000-8000-%012d', i), "
                "printf('2090-01-01 00:%02d:%02d.000000', i / 2 / 60, i / 2 % 60), i, "
                f"{listed} FROM run, n"
            )
        )
    seen: list[RunSummary] = []
    for offset in range(0, 1_100, 100):
        page = history.page(offset, 100)
        assert page.total == 1_000
        assert len(page.rows) == (100 if offset < 1_000 else 0)
        seen += page.rows
    assert [row.seed for row in seen[:-1]] == list(range(999, 0, -1))
    assert seen[-1].public_id == first


def test_a_line_of_the_history_carries_only_the_beginning_of_long_texts(history: History) -> None:
    run = history.create_run(sample_run(prompt="x\x00" * 10_000))
    history.append_steps(run, [], "y" * 10_000)
    row = history.page(0, 1).rows[0]
    assert row.output == "y" * 300
    assert row.prompt.startswith("x\x00x\x00")
    assert len(row.prompt) <= 300


def test_only_silent_runs_become_interrupted_and_keep_their_steps(history: History) -> None:
    silent, alive, done = (history.create_run(sample_run()) for _ in range(3))
    steps = sample_steps(3)
    history.start_run(silent)
    history.append_steps(silent, steps, "so far")
    history.finish_run(done, status="finished", stop_reason="length", output="", seconds=1.0)
    with history._database.write() as connection:
        connection.execute(text("UPDATE run SET heartbeat_at = '2020-01-01 00:00:00.000000'"))
    history.heartbeat([alive, done, "unknown"])
    assert history.mark_interrupted(timedelta(minutes=1)) == 1
    assert history.mark_interrupted(timedelta(minutes=1)) == 0
    record = history.run(silent)
    assert (record.status, record.output, record.stop_reason) == ("interrupted", "so far", None)
    assert "interrupted after 3 tokens" in str(record.error)
    assert record.measures == summary_measures(Trace.from_steps(steps))
    assert len(history.trace(silent)) == 3
    assert [history.run(run).status for run in (alive, done)] == ["queued", "finished"]


def test_a_run_that_was_only_slow_goes_on_after_it_was_taken_for_interrupted(history: History) -> None:
    run = history.create_run(sample_run())
    history.append_steps(run, sample_steps(2), "")
    history.mark_interrupted(timedelta(seconds=-1))
    assert history.run(run).status == "interrupted"
    history.append_steps(run, sample_steps(2, start=2), "")
    record = history.run(run)
    assert (record.status, record.error, record.output_tokens) == ("running", None, 4)


def test_a_vocabulary_is_stored_once_and_read_by_another_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'history.db'}"
    vocabulary = Vocabulary((b"a", b"\xf0\x9f", b"<|end|>"), frozenset({2}))
    writer, reader = History(url), History(url)
    writer.save_vocabulary(vocabulary)
    reader.save_vocabulary(replace(vocabulary))
    other = History(url)
    assert other.vocabulary(vocabulary.fingerprint) == vocabulary
    assert other.vocabulary(vocabulary.fingerprint) is other.vocabulary(vocabulary.fingerprint)
    with pytest.raises(HistoryError, match="load the model once"):
        other.vocabulary("f" * 64)
    for opened in (writer, reader, other):
        opened.close()


def test_four_threads_writing_at_once_lose_nothing(tmp_path: Path) -> None:
    history = History(f"sqlite:///{tmp_path / 'history.db'}", busy_timeout=30)
    steps = sample_steps(2)
    failures: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for i in range(8):
                run = history.create_run(sample_run(prompt=f"shared {i}", note=f"{name}"))
                history.append_steps(run, steps[:1], "")
                history.append_steps(run, steps[1:], "")
                history.finish_run(run, status="finished", stop_reason="length", output="", seconds=1.0)
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    page = history.page(0, 100)
    assert page.total == 32
    assert {(row.status, row.output_tokens) for row in page.rows} == {("finished", 2)}
    assert (count(history, Prompt), count(history, StepRow)) == (8, 64)
    history.close()


def test_every_knob_is_a_column() -> None:
    assert set(KNOB) <= set(Run.__table__.columns.keys())


def test_reading_imports_neither_torch_nor_pandas_nor_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'history.db'}"
    History(url).close()
    code = (
        "import sys; from dashboard.history import History; import dashboard.exchange\n"
        f"History({url!r}).page(0, 10)\n"
        "print([name for name in ('torch', 'transformers', 'pandas', 'alembic', 'streamlit') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
