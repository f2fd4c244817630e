"""``python -m dashboard``: the engine's text, the history's run and the knobs' words, for a terminal or a pipe."""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import command_line
from dashboard.__main__ import main
from dashboard.config import REPOSITORY, read_config
from dashboard.errors import HistoryFull, ModelError, SettingError
from dashboard.exchange import run_document
from dashboard.history import History
from dashboard.sampling import engine, models
from dashboard.sampling.catalogue import catalogue, find
from dashboard.sampling.engine import Drawn
from dashboard.sampling.models import LoadedModel
from dashboard.sampling.settings import KNOBS, Knob, SamplingSettings
from dashboard.sampling.vocabulary import Vocabulary
from dashboard.terminal import GrowingText, Printer

PROMPT = "In the mystical land of Eldoria"
POCKET = ("generate", "--model", "pocket")
SHORT = (*POCKET, "--prompt", PROMPT, "--seed", "7", "--max-new-tokens", "6")


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int | str | None
    out: str
    err: str


@pytest.fixture(scope="module")
def pocket() -> LoadedModel:
    return models.load(find("pocket", read_config()), lambda progress: None)


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pocket: LoadedModel) -> Path:
    """Where the history will be; the real model is loaded once for all tests."""
    file = tmp_path / "history" / "history.db"
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{file}")
    for name in ("DEFAULT_MODEL", "MODELS_ALLOWED", "ALLOW_LOCAL_MODELS", "LOCAL_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(models, "load", lambda entry, progress: pocket)
    return file


@pytest.fixture
def ask(database: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    def asked(*words: str) -> Answer:
        code: int | str | None
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code
        shown = capsys.readouterr()
        return Answer(code, shown.out, shown.err)

    return asked


@pytest.fixture
def history(database: Path) -> Iterator[History]:
    opened = History(f"sqlite:///{database}")
    yield opened
    opened.close()


def at_the_third_text(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let something happen while a run is being printed."""
    texts, write = [], Printer.write

    def written(printer: Printer, text: str) -> None:
        write(printer, text)
        texts.append(text)
        if len(texts) == 3:
            act()

    monkeypatch.setattr(Printer, "write", written)


def engine_tokens(pocket: LoadedModel, settings: SamplingSettings) -> list[int]:
    events = engine.generate(pocket, pocket.encode(PROMPT), [settings])
    return [event.step.token_id for event in events if isinstance(event, Drawn)]


# The text and the document.


def test_the_text_is_what_the_engine_draws(ask: Callable[..., Answer], pocket: LoadedModel) -> None:
    answer = ask(*SHORT, "--top-p", "0.8")
    tokens = engine_tokens(pocket, SamplingSettings(top_p=0.8, seed=7, max_new_tokens=6))
    assert (answer.code, answer.out) == (0, pocket.vocabulary.decode(tokens) + "\n")


def test_a_document_on_standard_output_is_json_and_nothing_else(ask: Callable[..., Answer]) -> None:
    answer = ask(*SHORT, "--json", "-")

    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} is not JSON")

    document = json.loads(answer.out, parse_constant=refuse)
    assert (document["format"], document["prompt"], len(document["steps"])) == ("nucleus-lens/run", PROMPT, 6)
    assert answer.out.count("\n") == 1
    assert len(document["steps"][0]["head"]) == 256


def test_the_same_seed_gives_the_same_document_but_for_its_id_and_time(ask: Callable[..., Answer]) -> None:
    first, second = (json.loads(ask(*SHORT, "--json", "-").out) for _ in range(2))
    assert first["id"] != second["id"]
    for document in (first, second):
        del document["id"], document["created_at"]
    assert first == second


def another_value(knob: Knob) -> int | float:
    """A value that is allowed and is not the default."""
    if knob.kind == "int":
        return int(knob.low) + 3
    return knob.high if knob.high != knob.default else knob.high / 2


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.name)
def test_every_knob_reaches_the_settings(ask: Callable[..., Answer], knob: Knob) -> None:
    value = another_value(knob)
    few = () if knob.name == "max_new_tokens" else ("--max-new-tokens", "1")
    option = f"--{knob.name.replace('_', '-')}"
    answer = ask(*POCKET, "--prompt", PROMPT, *few, option, str(value), "--json", "-", "--no-save", "--no-heads")
    settings = json.loads(answer.out)["settings"]
    seed = {"seed": settings["seed"]}
    expected = SamplingSettings(**(seed | ({"max_new_tokens": 1} if few else {}) | {knob.name: value}))
    assert settings == expected.as_dict()


def test_a_seed_that_was_not_given_is_told_so_that_the_run_can_be_repeated(ask: Callable[..., Answer]) -> None:
    words = (*POCKET, "--prompt", PROMPT, "--max-new-tokens", "6")
    first = ask(*words)
    seed = first.err.rsplit("seed ", 1)[1].rstrip(".\n")
    assert ask(*words, "--seed", seed).out == first.out


def test_heads_may_be_left_out(ask: Callable[..., Answer]) -> None:
    assert "head" not in json.loads(ask(*SHORT, "--json", "-", "--no-heads").out)["steps"][0]


def test_a_document_in_a_file_leaves_the_text_on_standard_output(ask: Callable[..., Answer], tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    answer = ask(*SHORT, "--json", str(file))
    assert answer.out == json.loads(file.read_text(encoding="utf-8"))["output"] + "\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history", "run.json"]


def test_a_folder_that_does_not_exist_is_noticed_before_the_run(ask: Callable[..., Answer], database: Path) -> None:
    answer = ask(*SHORT, "--json", "nowhere/run.json")
    assert (answer.code, answer.out) == (1, "")
    assert "nowhere/run.json is in a folder that does not exist" in answer.err
    assert not database.exists()


# The prompt.


@pytest.mark.parametrize("words", [("--prompt", "-"), ("--prompt-file", "-")])
def test_a_prompt_is_read_from_standard_input(
    ask: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("Ça va\n\n".encode())))
    document = json.loads(ask(*POCKET, *words, "--max-new-tokens", "1", "--json", "-").out)
    assert document["prompt"] == "Ça va\n"


def test_a_prompt_is_read_from_a_file_without_its_last_line_end(ask: Callable[..., Answer], tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_bytes(b"One\r\ntwo\r\n")
    document = json.loads(ask(*POCKET, "--prompt-file", str(file), "--max-new-tokens", "1", "--json", "-").out)
    assert document["prompt"] == "One\r\ntwo"


@pytest.mark.parametrize(
    ("content", "says"), [(None, "cannot be read"), (b"\xff", "no UTF-8"), (b"", "empty"), (b"a b " * 600, "tokens")]
)
def test_a_prompt_that_cannot_be_run_is_a_sentence_and_is_not_stored(
    ask: Callable[..., Answer], tmp_path: Path, history: History, content: bytes | None, says: str
) -> None:
    file = tmp_path / "prompt.txt"
    if content is not None:
        file.write_bytes(content)
    answer = ask(*POCKET, "--prompt-file", str(file))
    assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
    assert says in answer.err
    assert history.page(0, 1).total == 0


# The history.


def test_the_stored_run_is_the_document(ask: Callable[..., Answer], history: History) -> None:
    answer = ask(*SHORT, "--json", "-")
    document = json.loads(answer.out)
    record = history.run(document["id"])
    vocabulary = history.vocabulary(record.vocabulary_fingerprint)
    assert json.loads(json.dumps(run_document(record, history.trace(record.public_id), vocabulary))) == document
    assert (record.status, record.stop_reason, record.output_tokens) == ("finished", "length", 6)
    assert f"Run {record.public_id} saved; seed 7.\n" in answer.err


def test_without_saving_there_is_no_database(ask: Callable[..., Answer], database: Path) -> None:
    answer = ask(*SHORT, "--no-save")
    assert answer.code == 0
    assert "Run not saved; seed 7." in answer.err
    assert not database.parent.exists()


def test_a_run_is_stored_while_it_grows(
    ask: Callable[..., Answer], history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look() -> None:
        record = history.run(history.page(0, 1).rows[0].public_id)
        seen.append((record.status, record.output_tokens))

    monkeypatch.setattr(command_line, "_SAVE_EVERY", 0.0)
    at_the_third_text(monkeypatch, look)
    assert ask(*SHORT).code == 0
    assert seen == [("running", 2)]


def test_ctrl_c_keeps_what_was_drawn(
    ask: Callable[..., Answer], history: History, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGINT)
    at_the_third_text(monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
    answer = ask(*SHORT, "--json", str(tmp_path / "run.json"))
    record = history.run(history.page(0, 1).rows[0].public_id)
    assert (answer.code, answer.out) == (130, record.output + "\n")
    assert (record.status, record.stop_reason, len(history.trace(record.public_id))) == ("stopped", "stopped", 3)
    assert "Stopped after 3 tokens." in answer.err
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["stop_reason"] == "stopped"
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_that_fails_half_way_keeps_its_steps_and_says_why(
    ask: Callable[..., Answer], history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = engine.generate

    def broken(*arguments: Any, **options: Any) -> Iterator[Any]:
        events = real(*arguments, **options)
        yield next(events)
        yield next(events)
        raise ModelError("The numbers are not finite: try another model.")

    monkeypatch.setattr(engine, "generate", broken)
    answer = ask(*SHORT)
    record = history.run(history.page(0, 1).rows[0].public_id)
    assert (answer.code, answer.out) == (1, record.output + "\n")
    assert (record.status, record.output_tokens) == ("failed", 2)
    assert answer.err.endswith(f"\n{record.error}\n")


@pytest.mark.parametrize("freed", [False, True])
def test_a_locked_history_does_not_stop_the_text_and_is_tried_again_at_the_end(
    ask: Callable[..., Answer], history: History, database: Path, monkeypatch: pytest.MonkeyPatch, freed: bool
) -> None:
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(command_line, "History", functools.partial(History, busy_timeout=0.05))
    if freed:
        at_the_third_text(monkeypatch, lambda: other.execute("ROLLBACK"))
    answer = ask(*SHORT)
    other.close()
    stored = history.page(0, 1)
    assert answer.out == ask(*SHORT, "--no-save").out
    assert (answer.code, stored.total) == ((0, 1) if freed else (1, 0))
    if freed:
        assert stored.rows[0].output_tokens == 6
    else:
        assert "did not become free" in answer.err
        assert "Traceback" not in answer.err


def test_a_full_disk_does_not_stop_the_text_or_the_document(
    ask: Callable[..., Answer], history: History, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_arguments: object) -> None:
        raise HistoryFull("The history cannot be written: make room.")

    whole = ask(*SHORT, "--no-save").out
    monkeypatch.setattr(command_line, "_SAVE_EVERY", 0.0)
    monkeypatch.setattr(History, "append_steps", full)
    answer = ask(*SHORT, "--json", str(tmp_path / "run.json"))
    public_id = history.page(0, 1).rows[0].public_id
    document = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert (answer.code, answer.out) == (1, whole)
    assert answer.err == f"Run {public_id} saved in part; seed 7.\nThe history cannot be written: make room.\n"
    assert (document["id"], document["output"] + "\n") == (public_id, whole)


def test_the_history_is_the_one_that_streamlits_secrets_name(
    ask: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".streamlit").mkdir()
    file = tmp_path / "secret.db"
    (tmp_path / ".streamlit" / "secrets.toml").write_text(f'DATABASE_URL = "sqlite:///{file}"\n')
    monkeypatch.setattr(command_line, "REPOSITORY", tmp_path)
    monkeypatch.delenv("DATABASE_URL")
    assert ask(*SHORT).code == 0
    assert file.exists()


# Wrong usage and failures.


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.name)
@pytest.mark.parametrize("wrong", ["too high", "no number"])
def test_a_setting_out_of_its_range_is_its_sentence(
    ask: Callable[..., Answer], database: Path, knob: Knob, wrong: str
) -> None:
    value = "much" if wrong == "no number" else int(knob.high) + 1
    with pytest.raises(SettingError) as sentence:
        knob.check(value)
    answer = ask(*POCKET, "--prompt", PROMPT, f"--{knob.name.replace('_', '-')}", str(value))
    assert (answer.code, answer.out, answer.err) == (2, "", f"{sentence.value}\n")
    assert not database.exists()


@pytest.mark.parametrize(
    "words",
    [(), ("generate",), ("generate", "--prompt", "a", "--prompt-file", "b"), (*SHORT, "--top", "1"), ("translate",)],
)
def test_wrong_usage_is_one_line_and_code_2(ask: Callable[..., Answer], words: tuple[str, ...]) -> None:
    answer = ask(*words)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)


def test_an_unknown_model_is_a_sentence(ask: Callable[..., Answer]) -> None:
    answer = ask("generate", "--model", "gpt9", "--prompt", PROMPT)
    assert answer.code == 1
    assert answer.err.startswith("There is no model 'gpt9' here: choose one of pocket, gpt2")


def test_only_verbose_shows_the_traceback(ask: Callable[..., Answer], database: Path) -> None:
    database.parent.mkdir()
    database.write_text("This is a letter, not a database. " * 100)
    quiet, verbose = ask(*SHORT), ask(*SHORT, "--verbose")
    assert (quiet.code, verbose.code) == (1, 1)
    assert quiet.err.count("\n") == 1
    assert "Traceback" in verbose.err
    assert verbose.err.endswith(quiet.err)


def test_without_a_model_it_says_which_one_speaks_and_why(ask: Callable[..., Answer]) -> None:
    answer = ask("generate", "--prompt", PROMPT, "--max-new-tokens", "1")
    assert answer.code == 0
    assert answer.err.startswith("Pocket GPT-2, the small bundled model")
    assert "GPT-2 is not on this machine" in answer.err


def test_a_reader_that_goes_away_ends_the_run_quietly(
    ask: Callable[..., Answer], history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    pipe = os.fdopen(writing, "w")
    with monkeypatch.context() as patched, pipe:
        patched.setattr("sys.stdout", pipe)
        at_the_third_text(patched, lambda: os.close(reading))
        answer = ask(*SHORT)
    (row,) = history.page(0, 2).rows
    assert (answer.code, row.status, row.output_tokens) == (141, "stopped", 4)
    assert answer.err == f"Stopped after 4 tokens. Run {row.public_id} saved; seed 7.\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("words", [(), ("--json", "-")])
def test_output_that_cannot_be_written_is_a_sentence(
    ask: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    with monkeypatch.context() as patched, Path("/dev/full").open("w") as full:
        patched.setattr("sys.stdout", full)
        answer = ask(*SHORT, *words)
    assert answer.code == 1
    assert "cannot be written (No space left on device)" in answer.err


# What is shown.


def test_the_help_names_every_knob_with_its_range_default_and_meaning(
    ask: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    answer = ask("generate", "--help")
    assert answer.code == 0
    shown = " ".join(answer.out.split())
    for knob in KNOBS:
        kind, metavar = ("A whole number", "INTEGER") if knob.kind == "int" else ("A number", "NUMBER")
        default = "one is chosen and told" if knob.default is None else str(knob.default).removesuffix(".0")
        entry = f"--{knob.name.replace('_', '-')} {metavar} {knob.help} {kind} {knob.range_text}; default: {default}."
        assert entry in shown


def test_the_models_are_listed_with_where_they_are(ask: Callable[..., Answer]) -> None:
    lines = ask("models").out.splitlines()
    assert [line.split()[0] for line in lines] == list(catalogue(read_config()))
    assert lines[0].endswith("Pocket GPT-2 (18M): on this machine.")


BYTES = Vocabulary(tuple(bytes([i]) for i in range(256)))


@given(st.binary(max_size=20) | st.text(max_size=8).map(lambda text: text.encode("utf-8")))
def test_a_growing_text_never_shows_half_a_character_and_ends_as_the_whole_one(content: bytes) -> None:
    text = GrowingText(BYTES)
    parts = [text.add(byte) for byte in content] + [text.end()]
    assert "".join(parts) == text.so_far == BYTES.decode(content)
    try:
        characters = content.decode("utf-8")
    except UnicodeDecodeError:
        return
    assert [part for part in parts if part] == list(characters)


def test_a_token_beyond_the_vocabulary_has_no_text() -> None:
    assert GrowingText(BYTES).add(300) == ""


@pytest.mark.parametrize(("terminal", "shown"), [(True, "a\\x1b[2J\\x0db\n\té"), (False, "a\x1b[2J\rb\n\té")])
def test_a_model_cannot_command_the_terminal(terminal: bool, shown: str) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    Printer(stream, threading.Event()).write("a\x1b[2J\rb\n\té")
    assert stream.getvalue() == shown


# A process of its own.

HELP = """
import contextlib, sys
from dashboard.__main__ import main
for words in (["--help"], ["generate", "--help"]):
    with contextlib.suppress(SystemExit):
        main(words)
sys.exit(" ".join({"torch", "transformers", "numpy", "sqlalchemy", "streamlit"} & set(sys.modules)) or 0)
"""


def test_help_is_answered_without_importing_anything_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)


def test_it_runs_from_the_repository_and_the_libraries_add_no_word(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dashboard", *SHORT, "--json", "-"],
        cwd=REPOSITORY,
        env=os.environ | {"DATABASE_URL": f"sqlite:///{tmp_path / 'history.db'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert done.stderr == f"Run {document['id']} saved; seed 7.\n"
