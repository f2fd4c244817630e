"""What the command line shows and hears: text as it grows, a line of progress, Ctrl-C."""

from __future__ import annotations

import codecs
import contextlib
import io
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final, TextIO

from dashboard.errors import DocumentError
from dashboard.sampling.vocabulary import Vocabulary

# A terminal obeys these, and a model may write any of them; line feed and tab stay.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class GrowingText:
    """The text of a run while it grows: whole characters only, and at the end exactly ``Vocabulary.decode``."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._tokens = vocabulary.tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.so_far = ""

    def add(self, token_id: int) -> str:
        """What this token completes."""
        # Weights may be padded beyond the vocabulary; such a token has no text.
        return self._grow(self._decoder.decode(self._tokens[token_id] if token_id < len(self._tokens) else b""))

    def end(self) -> str:
        """U+FFFD if the last character was never completed."""
        return self._grow(self._decoder.decode(b"", final=True))

    def _grow(self, new: str) -> str:
        self.so_far += new
        return new


class Printer:
    """Text to a stream, at once. Where it can go no further, the run is told to stop.

    reader_gone: the reader went away, as ``head`` does. failure: another reason, as a sentence.
    """

    def __init__(self, stream: TextIO, stop: threading.Event) -> None:
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without some letter shows a question mark; the run goes on.
            stream.reconfigure(errors="replace")
        self._stream, self._stop = stream, stop
        self.reader_gone = False
        self.failure: DocumentError | None = None

    def write(self, text: str) -> None:
        """Show a text; to a pipe or a file it goes unchanged."""
        if self.reader_gone or self.failure or not text:
            return
        if self._stream.isatty():
            text = _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            self.reader_gone = True
            self._stop.set()
        except OSError as error:
            self.failure = DocumentError(f"The text cannot be written ({error.strerror}): send it somewhere else.")
            self.failure.__cause__ = error
            self._stop.set()


class ProgressLine:
    """One line that changes in place on a terminal; in a log, a line now and then."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._pause = 0.1 if self._live else 10.0
        self._next = time.monotonic() + (0.0 if self._live else self._pause)

    def show(self, text: str) -> None:
        """Show how far it is, unless the last time was only just."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._pause
        self._stream.write(f"\r\033[K{text}" if self._live else f"{text}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Make room for what is said next."""
        if self._live:
            self._stream.write("\r\033[K")


@contextlib.contextmanager
def stopped_by_ctrl_c(stop: threading.Event) -> Iterator[None]:
    """The first Ctrl-C lets the step in hand end and the run be stored; a second one does not wait."""

    def handle(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def utf8(stream: TextIO) -> TextIO:
    """JSON is UTF-8, whatever the terminal's own encoding."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8")
    return stream


def say(text: str) -> None:
    """A sentence about what goes on, to standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
