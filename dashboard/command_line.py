"""The commands of ``python -m dashboard``: what a page does with a run, for a terminal or a pipe.

Only the text, or the document in its place, goes to standard output; everything said about it goes to standard error.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
import tomllib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from dashboard.config import REPOSITORY, Config, read_config
from dashboard.errors import ConfigError, DocumentError, HistoryError, NucleusLensError
from dashboard.exchange import run_document, write_document
from dashboard.history import EndStatus, History, NewRun, RunRecord
from dashboard.sampling.catalogue import (
    Available,
    CatalogueEntry,
    Downloadable,
    Unavailable,
    availability,
    catalogue,
    choose_default,
    find,
)
from dashboard.sampling.downloads import Progress
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import Step, StopReason, Trace
from dashboard.sampling.vocabulary import Vocabulary
from dashboard.terminal import GrowingText, Printer, ProgressLine, say, stopped_by_ctrl_c, utf8

if TYPE_CHECKING:
    from dashboard.sampling.models import LoadedModel

Ending: TypeAlias = Literal["done", "interrupted", "reader gone"]

_SAVE_EVERY: Final = 1.0  # seconds; the interface stores a growing run as often

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A run to make.

    settings: with a seed. model: its name, None for the one chosen at first.
    document: where the run document goes, "-" for standard output in place of the text, None for nowhere.
    heads: whether the document has them. save: whether the run is stored in the history.
    """

    prompt: str
    settings: SamplingSettings
    model: str | None = None
    document: Path | Literal["-"] | None = None
    heads: bool = True
    save: bool = True


def generate(order: Order) -> Ending:
    """Make a run, print its text while it is drawn, store it and write its document.

    Ctrl-C, or a reader of the text that goes away, stops the run; what was drawn is stored and written all the same.

    Raises:
        NucleusLensError: it cannot be made, stored or written. A history that fails while the run goes on is
            reported last, when the text and the document are out.
    """
    config = read_config(_secrets())
    _check_writable(order.document)
    entry = find(order.model, config) if order.model else _default_entry(config)
    with contextlib.ExitStack() as cleanup:
        history = None
        if order.save:
            history = cleanup.enter_context(contextlib.closing(History(config.database_url)))
        return _generate(order, _load(entry), history)


def list_models() -> None:
    """Print the models that are offered, one a line: name, what it is, whether it can be used now."""
    offered = catalogue(read_config(_secrets()))
    width = max(map(len, offered))
    for entry in offered.values():
        parameters = f" ({entry.parameters})" if entry.parameters else ""
        sys.stdout.write(f"{entry.name:{width}}  {entry.title}{parameters}: {_where(entry)}\n")


def _where(entry: CatalogueEntry) -> str:
    match availability(entry):
        case Available():
            return "on this machine."
        case Downloadable():
            size = f" ({entry.download_bytes / 1e6:,.0f} MB)" if entry.download_bytes else ""
            return f"fetched from the hub when first used{size}."
        case Unavailable(reason):
            return reason


def _generate(order: Order, model: LoadedModel, history: History | None) -> Ending:
    from dashboard.sampling.engine import check_prompt  # noqa: PLC0415  # torch, which the model has brought by now

    prompt_ids = model.encode(order.prompt)
    check_prompt(len(prompt_ids), model.context_length)
    run = NewRun.by(model, order.prompt, prompt_ids, order.settings)
    saving = None if history is None else _Saving(history, model.vocabulary, run)
    stop = threading.Event()
    printer = None if order.document == "-" else Printer(sys.stdout, stop)
    with stopped_by_ctrl_c(stop):
        drawn = _draw(model, run, stop, printer, saving)

    say(_closing_line(drawn, saving, order.settings))
    if drawn.failure is not None:
        raise drawn.failure
    if order.document is not None:
        record = (saving and saving.record) or _unsaved_record(run, drawn, saving.public_id if saving else None)
        document = run_document(record, Trace.from_steps(drawn.steps), model.vocabulary, heads=order.heads)
        write_document(document, utf8(sys.stdout) if order.document == "-" else order.document)
    for part in (saving, printer):
        if part is not None and part.failure is not None:
            raise part.failure
    if printer is not None and printer.reader_gone:
        return "reader gone"
    return "interrupted" if drawn.stop_reason == "stopped" else "done"


@dataclass(slots=True)
class _Drawn:
    """What was drawn. ``failure`` is set if it ended by an error."""

    steps: list[Step]
    output: str = ""
    stop_reason: StopReason = "error"
    seconds: float = 0.0
    failure: Exception | None = None
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def status(self) -> EndStatus:
        """How the history calls this end."""
        if self.stop_reason == "error":
            return "failed"
        return "stopped" if self.stop_reason == "stopped" else "finished"


def _draw(
    model: LoadedModel, run: NewRun, stop: threading.Event, printer: Printer | None, saving: _Saving | None
) -> _Drawn:
    """Draw the tokens, showing and storing each; never raises, so that what was drawn is kept."""
    from dashboard.sampling import engine  # noqa: PLC0415  # torch, as above

    drawn = _Drawn(steps=[])
    text = GrowingText(model.vocabulary)
    progress = ProgressLine(sys.stderr)
    if saving is not None:
        saving.begin()
    started = time.monotonic()
    try:
        for event in engine.generate(
            model, run.prompt_token_ids, [run.settings], should_stop=lambda row: stop.is_set()
        ):
            if isinstance(event, engine.Ended):
                drawn.stop_reason = event.reason
                continue
            drawn.steps.append(event.step)
            # The end-of-text token is a name, not text.
            new = "" if event.step.token_id in model.eos_ids else text.add(event.step.token_id)
            if printer is None:
                progress.show(f"{len(drawn.steps):,} of at most {run.settings.max_new_tokens:,} tokens")
            else:
                printer.write(new)
            if saving is not None:
                saving.add(event.step, text.so_far)
    except KeyboardInterrupt:
        drawn.stop_reason = "stopped"
    except Exception as error:  # whatever it was, the run is closed first and the error raised afterwards
        drawn.failure = error
    drawn.seconds = time.monotonic() - started
    progress.clear()
    if printer is not None:
        printer.write(text.end() + "\n")
    drawn.output = model.vocabulary.output([step.token_id for step in drawn.steps], model.eos_ids)
    if saving is not None:
        saving.end(drawn)
    return drawn


class _Saving:
    """A run on its way into the history.

    A failure stops neither the text nor the run: the steps wait, and are tried once more at the end, when nobody waits
    for the next word.

    public_id: of the run, once it is stored. failure: why it could not be stored, or not whole.
    record: what the history has of it after the end.
    """

    def __init__(self, history: History, vocabulary: Vocabulary, run: NewRun) -> None:
        self._history, self._vocabulary, self._run = history, vocabulary, run
        self.public_id: str | None = None
        self._waiting: list[Step] = []
        self._next = time.monotonic() + _SAVE_EVERY
        self.failure: HistoryError | None = None
        self.record: RunRecord | None = None

    def begin(self) -> None:
        """Store the run before its first token."""
        with self._noticing_failure():
            self._create()

    def add(self, step: Step, output: str) -> None:
        """Take a step, and store those that wait when it is time."""
        self._waiting.append(step)
        if self.failure is None and time.monotonic() >= self._next:
            with self._noticing_failure():
                self._append(self._create(), output)

    def end(self, drawn: _Drawn) -> None:
        """Store what is left and close the run; ``record`` is what was stored, unless ``failure`` says why not."""
        self.failure = None
        with self._noticing_failure():
            public_id = self._create()
            self._append(public_id, drawn.output)
            self._history.finish_run(
                public_id,
                status=drawn.status,
                stop_reason=drawn.stop_reason,
                output=drawn.output,
                seconds=drawn.seconds,
                error=_sentence(drawn.failure) if drawn.failure else None,
            )
            self.record = self._history.run(public_id)

    def _create(self) -> str:
        if self.public_id is None:
            self._history.save_vocabulary(self._vocabulary)
            public_id = self._history.create_run(self._run)
            self.public_id = public_id
            self._history.start_run(public_id)
        return self.public_id

    def _append(self, public_id: str, output: str) -> None:
        self._history.append_steps(public_id, self._waiting, output)
        self._waiting.clear()
        self._next = time.monotonic() + _SAVE_EVERY

    @contextlib.contextmanager
    def _noticing_failure(self) -> Iterator[None]:
        try:
            yield
        except HistoryError as error:
            _log.warning("The run cannot be stored now.", exc_info=error)
            self.failure = error


def _default_entry(config: Config) -> CatalogueEntry:
    choice = choose_default(config)
    say(choice.sentence)
    return find(choice.name, config)


def _load(entry: CatalogueEntry) -> LoadedModel:
    from dashboard.sampling import models  # noqa: PLC0415  # torch: seconds, once nothing else can be wrong

    line = ProgressLine(sys.stderr)

    def report(progress: Progress) -> None:
        if progress.stage == "downloading":
            line.show(f"Fetching {entry.title}: {progress.done / 1e6:,.0f} of {progress.total / 1e6:,.0f} MB")
        else:
            line.show(f"Loading {entry.title}")

    try:
        return models.load(entry, report)
    finally:
        line.clear()


def _closing_line(drawn: _Drawn, saving: _Saving | None, settings: SamplingSettings) -> str:
    count = f"{len(drawn.steps):,} token{'' if len(drawn.steps) == 1 else 's'}"
    how = {
        "stopped": f"Stopped after {count}. ",
        "context": f"The model's context was full after {count}. ",
        "error": f"Failed after {count}. ",
    }.get(drawn.stop_reason, "")
    if saving is None or saving.public_id is None:
        run = "Run not saved"
    else:
        run = f"Run {saving.public_id} saved{' in part' if saving.failure else ''}"
    return f"{how}{run}; seed {settings.seed}."


def _sentence(failure: Exception) -> str:
    if isinstance(failure, NucleusLensError):
        return str(failure)
    return f"The run failed for an unforeseen reason ({type(failure).__name__}); the log says more."


def _unsaved_record(run: NewRun, drawn: _Drawn, public_id: str | None) -> RunRecord:
    """What a document needs to know of a run that no history has, or has only in part under ``public_id``."""
    return RunRecord(
        public_id=public_id or str(uuid.uuid4()),
        prompt=run.prompt,
        settings=run.settings,
        model_name=run.model_name,
        model_title=run.model_title,
        model_revision=run.model_revision,
        model_fingerprint=run.model_fingerprint,
        vocabulary_fingerprint=run.vocabulary_fingerprint,
        prompt_token_ids=run.prompt_token_ids,
        output=drawn.output,
        output_tokens=len(drawn.steps),
        status=drawn.status,
        stop_reason=drawn.stop_reason,
        created_at=drawn.began_at,
    )


def _check_writable(document: Path | Literal["-"] | None) -> None:
    """Notice a mistyped folder before the run instead of after it."""
    if isinstance(document, Path) and (document.is_dir() or not document.absolute().parent.is_dir()):
        what = "is a folder" if document.is_dir() else "is in a folder that does not exist"
        raise DocumentError(f"The document cannot be written: {document} {what}; name a file in an existing folder.")


def _secrets() -> dict[str, Any]:
    """The secrets that Streamlit gives the interface: a run belongs into the history that it shows."""
    file = REPOSITORY / ".streamlit" / "secrets.toml"
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file.name} in .streamlit cannot be read: {error}; correct it or remove it.") from error
