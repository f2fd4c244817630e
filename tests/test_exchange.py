"""A run document has the keys of the design, exact numbers, and nothing that tells where it was made."""

from __future__ import annotations

import io
import json
import socket
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dashboard.errors import DocumentError
from dashboard.exchange import document_text, run_document, write_document
from dashboard.history import History, RunRecord
from dashboard.sampling.settings import KNOB, SamplingSettings
from dashboard.sampling.trace import Trace
from dashboard.sampling.vocabulary import Vocabulary
from tests.history.samples import sample_run, sample_steps

STEPS = sample_steps(4, vocabulary=300, reshaped=True)
TRACE = Trace.from_steps(STEPS)
VOCABULARY = Vocabulary(tuple(bytes([i % 256]) * (1 + i // 256) for i in range(300)))
RECORD = RunRecord(
    public_id="6a1b0e0e-9c1c-4b4e-8d59-0f6f6b9d0a11",
    prompt="Once upon",
    settings=SamplingSettings(seed=3),
    model_name="pocket",
    model_title="Pocket GPT-2",
    model_revision=None,
    model_fingerprint="f" * 64,
    vocabulary_fingerprint=VOCABULARY.fingerprint,
    prompt_token_ids=(7454, 2402),
    output=" a time",
    output_tokens=4,
    status="finished",
    stop_reason="context",
    created_at=datetime(2026, 11, 24, 12, 30, tzinfo=timezone(timedelta(hours=1))),
)


def test_the_keys_are_those_of_the_design() -> None:
    document = run_document(RECORD, TRACE, VOCABULARY)
    assert list(document) == [
        "format", "version", "id", "created_at", "model", "prompt", "settings", "prompt_token_ids", "output_token_ids",
        "output", "stop_reason", "steps",
    ]  # fmt: skip
    assert list(document["model"]) == ["name", "title", "revision", "fingerprint", "vocabulary_fingerprint"]
    assert list(document["settings"]) == list(KNOB)
    for step in document["steps"]:
        assert list(step) == [
            "position", "token_id", "text", "raw_probability", "probability", "final_probability", "rank", "surprisal",
            "entropy", "nucleus_size", "nucleus_mass", "kept_size", "kept_mass", "reaching_size", "reaching_mass",
            "admitting_p", "last_kept", "first_dropped", "size_curve", "head",
        ]  # fmt: skip
        assert list(step["last_kept"]) == ["token_id", "text", "probability"]


def test_a_branch_tells_its_parent_and_where_it_parts_from_it() -> None:
    branch = replace(RECORD, parent="0" * 36, branch_position=2)
    document = run_document(branch, TRACE, VOCABULARY)
    assert (document["parent"], document["branch_position"]) == ("0" * 36, 2)
    orphan = run_document(replace(branch, parent=None), TRACE, VOCABULARY)
    assert (orphan["parent"], orphan["branch_position"]) == (None, 2)


def test_the_run_is_told_as_it_was() -> None:
    document = run_document(RECORD, TRACE, VOCABULARY)
    assert (document["format"], document["version"]) == ("nucleus-lens/run", 1)
    assert (document["id"], document["created_at"]) == (RECORD.public_id, "2026-11-24T11:30:00+00:00")
    assert (document["prompt"], document["output"], document["stop_reason"]) == ("Once upon", " a time", "context")
    assert document["model"] == {
        "name": "pocket",
        "title": "Pocket GPT-2",
        "revision": None,
        "fingerprint": "f" * 64,
        "vocabulary_fingerprint": VOCABULARY.fingerprint,
    }
    assert document["prompt_token_ids"] == [7454, 2402]
    assert document["output_token_ids"] == [step.token_id for step in STEPS]
    assert [step["text"] for step in document["steps"]] == [VOCABULARY.label(step.token_id) for step in STEPS]
    assert [step["first_dropped"] is None for step in document["steps"]] == [True, False, False, True]


def test_every_number_survives_json_bit_for_bit() -> None:
    read = json.loads(document_text(run_document(RECORD, TRACE, VOCABULARY)))
    for entry, step in zip(read["steps"], STEPS, strict=True):
        scalars = [name for name in entry if isinstance(entry[name], int | float)]
        assert len(scalars) == 15
        assert {name: entry[name] for name in scalars} == {name: getattr(step, name) for name in scalars}
        ids, probabilities, raw = zip(*entry["head"], strict=True)
        assert list(ids) == step.head_ids.tolist()
        assert np.array(probabilities, np.float32).tobytes() == step.head_probabilities.tobytes()
        assert np.array(raw, np.float32).tobytes() == step.head_raw_probabilities.tobytes()
        assert entry["size_curve"] == step.size_curve.tolist()
        assert entry["last_kept"]["probability"] == step.last_kept.probability


def test_heads_may_be_left_out() -> None:
    whole = run_document(RECORD, TRACE, VOCABULARY)
    light = run_document(RECORD, TRACE, VOCABULARY, heads=False)
    for step in whole["steps"]:
        del step["head"]
    assert light == whole


def test_a_stored_run_gives_the_document_that_it_gave_before_it_was_stored() -> None:
    history = History("sqlite://")
    run = history.create_run(sample_run())
    history.append_steps(run, STEPS, "text")
    record = history.run(run)
    stored = run_document(record, history.trace(run), VOCABULARY)
    assert stored == run_document(record, TRACE, VOCABULARY)
    assert stored["stop_reason"] is None
    history.close()


def test_a_run_without_steps_has_a_document() -> None:
    document = run_document(RECORD, Trace.from_steps([]), VOCABULARY)
    assert (document["steps"], document["output_token_ids"]) == ([], [])


def test_nothing_tells_where_it_was_made() -> None:
    record = replace(RECORD, owner="visitor-17", note="private")
    text = document_text(run_document(record, TRACE, VOCABULARY, heads=False))
    for private in ("visitor-17", "private", socket.gethostname(), str(Path.cwd()), str(Path.home()) + "/"):
        assert private not in text


@pytest.mark.parametrize("weird", ["\x00", "\ud83d alone", "🙂 שלום", '"\\u0041"'], ids=ascii)
def test_any_text_is_valid_utf8_and_reads_back(weird: str, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    write_document(run_document(replace(RECORD, prompt=weird), TRACE, VOCABULARY), file)
    assert json.loads(file.read_bytes().decode("utf-8"))["prompt"] == weird


def test_scripts_other_than_latin_stay_readable() -> None:
    assert "שלום" in document_text(run_document(replace(RECORD, prompt="שלום"), TRACE, VOCABULARY))


def test_a_file_and_a_stream_get_the_same_text(tmp_path: Path) -> None:
    document, stream, file = run_document(RECORD, TRACE, VOCABULARY), io.StringIO(), tmp_path / "run.json"
    write_document(document, stream)
    write_document(document, file)
    assert file.read_text(encoding="utf-8") == stream.getvalue() == document_text(document) + "\n"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"run\.json cannot be written"):
        write_document(run_document(RECORD, TRACE, VOCABULARY), tmp_path / "missing" / "run.json")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_stream_without_room_is_a_sentence() -> None:
    # Closing a file that cannot take its buffer raises once more.
    with pytest.raises(DocumentError, match="No space left"), suppress(OSError), Path("/dev/full").open("w") as full:
        write_document(run_document(RECORD, TRACE, VOCABULARY), full)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_number_that_json_cannot_say_is_refused(number: float) -> None:
    damaged: Any = [replace(STEPS[0], entropy=float(number))]
    with pytest.raises(DocumentError, match="not finite"):
        document_text(run_document(RECORD, Trace.from_steps(damaged), VOCABULARY))


def test_times_are_utc() -> None:
    written = run_document(RECORD, TRACE, VOCABULARY)["created_at"]
    assert datetime.fromisoformat(written) == RECORD.created_at
    assert datetime.fromisoformat(written).tzinfo == UTC
