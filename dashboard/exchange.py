"""Run documents: a run with its steps as JSON, to be sent to a colleague or read by another program.

The document is built from plain values, a ``RunRecord``, a ``Trace`` and a ``Vocabulary``, so that it serves the
history and the command line alike, which may have no database. It names no host, path or person.

Numbers survive: JSON carries each as the shortest decimal that reads back as the same double, and a float32 is written
as the double of the same value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any, Final, TextIO

from dashboard.errors import DocumentError
from dashboard.history.records import RunRecord
from dashboard.sampling.trace import STEP_NUMBERS, Candidate, Step, Trace
from dashboard.sampling.vocabulary import Vocabulary

FORMAT: Final = "nucleus-lens/run"
VERSION: Final = 1

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def run_document(record: RunRecord, trace: Trace, vocabulary: Vocabulary, *, heads: bool = True) -> dict[str, Any]:
    """The document of a run, made of what JSON knows: dicts, lists, texts, numbers, None.

    Args:
        record: the run; its ``public_id`` becomes "id". "stop_reason" is None while the run goes on, and for an
            interrupted one.
        trace: its steps from the first on.
        vocabulary: what its token ids read as.
        heads: whether each step carries its head, which is nine tenths of the document.
    """
    document = {
        "format": FORMAT,
        "version": VERSION,
        "id": record.public_id,
        "created_at": record.created_at.astimezone(UTC).isoformat(),
        "model": {
            "name": record.model_name,
            "title": record.model_title,
            "revision": record.model_revision,
            "fingerprint": record.model_fingerprint,
            "vocabulary_fingerprint": record.vocabulary_fingerprint,
        },
        "prompt": record.prompt,
        "settings": record.settings.as_dict(),
        "prompt_token_ids": list(record.prompt_token_ids),
        "output_token_ids": trace.token_ids.tolist(),
        "output": record.output,
        "stop_reason": record.stop_reason,
        "steps": list(_steps(trace, vocabulary, heads=heads)),
    }
    if record.branch_position is not None:
        document |= {"parent": record.parent, "branch_position": record.branch_position}
    return document


def document_text(document: dict[str, Any]) -> str:
    """The document as JSON that is valid UTF-8: letters of any script as they are, lone surrogates escaped.

    Raises:
        DocumentError: a number is not finite, which JSON cannot say.
    """
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise DocumentError(
            "This run cannot be exported: one of its numbers is not finite, and JSON has no word for it; "
            "its model's files are probably damaged."
        ) from error
    # Only texts can hold a surrogate, and inside a JSON text the escape means the same character.
    return _LONE_SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def write_document(document: dict[str, Any], target: Path | TextIO) -> None:
    """Write the document to a file, which appears whole or not at all, or to an open text stream.

    Raises:
        DocumentError: the file or the stream cannot be written, or a number is not finite.
        BrokenPipeError: the reader of the stream went away.
    """
    text = document_text(document) + "\n"
    if not isinstance(target, Path):
        _write_stream(text, target)
        return
    part = target.with_name(target.name + ".part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(target)
    except OSError as error:
        raise DocumentError(
            f"The document {target.name} cannot be written ({error.strerror}): "
            "choose another folder, or make room on the disk."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _write_stream(text: str, stream: TextIO) -> None:
    try:
        stream.write(text)
        # What is still buffered may find the disk full.
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DocumentError(
            f"The document cannot be written ({error.strerror}): send it somewhere else, or make room on the disk."
        ) from error


def _steps(trace: Trace, vocabulary: Vocabulary, *, heads: bool) -> Iterator[dict[str, Any]]:
    for position in range(len(trace)):
        step = trace.step(position)
        entry = _step_entry(step, vocabulary)
        if heads:
            entry["head"] = _head_rows(step)
        yield entry


def _step_entry(step: Step, vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "position": step.position,
        "token_id": step.token_id,
        "text": vocabulary.label(step.token_id),
        **{name: getattr(step, name) for name in STEP_NUMBERS},
        "last_kept": _candidate_entry(step.last_kept, vocabulary),
        "first_dropped": None if step.first_dropped is None else _candidate_entry(step.first_dropped, vocabulary),
        "size_curve": step.size_curve.tolist(),
    }


def _candidate_entry(candidate: Candidate, vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "token_id": candidate.token_id,
        "text": vocabulary.label(candidate.token_id),
        "probability": candidate.probability,
    }


def _head_rows(step: Step) -> list[list[float]]:
    """[token id, shaped probability, raw probability] of each token of the head."""
    columns = step.head_ids.tolist(), step.head_probabilities.tolist(), step.head_raw_probabilities.tolist()
    return [list(row) for row in zip(*columns, strict=True)]
