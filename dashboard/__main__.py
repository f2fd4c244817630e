"""Nucleus Lens without a browser: ``python -m dashboard generate --prompt "Once upon a time"``.

This file holds what is asked and how it ends; ``command_line`` does the work and is imported once the question is
understood, so that ``--help`` and a mistyped option are answered at once.

Exit codes: 0 done, 1 failed with a sentence, 2 asked wrongly, 130 stopped with Ctrl-C, 141 the reader of the output
went away (128 + SIGPIPE, as a shell counts it).
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

from dashboard.errors import NucleusLensError, PromptError, SettingError
from dashboard.sampling.settings import KNOBS, Knob, SamplingSettings

FAILED: Final = 1
ASKED_WRONGLY: Final = 2
INTERRUPTED: Final = 130
READER_GONE: Final = 141

_PROGRAM: Final = "python -m dashboard"
_EXAMPLES: Final = f"""\
examples:
  {_PROGRAM} generate --prompt "Once upon a time" --top-p 0.5 --seed 7
  {_PROGRAM} generate --prompt-file story.txt --model gpt2 --json run.json
  echo "Once upon a time" | {_PROGRAM} generate --prompt - --no-save --json - | jq .output
"""

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks and return the exit code; wrong usage leaves with SystemExit, as argparse does.

    Args:
        arguments: the words after ``python -m dashboard``; those of the process if None.
    """
    asked = _parser().parse_args(arguments)
    with _logging(verbose=asked.verbose):
        try:
            return _models() if asked.command == "models" else _generate(asked)
        except NucleusLensError as error:
            _log.info("The command failed.", exc_info=error)
            sys.stderr.write(f"{error}\n")
            return ASKED_WRONGLY if isinstance(error, SettingError) else FAILED
        except KeyboardInterrupt:
            sys.stderr.write("Stopped.\n")
            return INTERRUPTED
        except BrokenPipeError:
            return READER_GONE
        finally:
            _leave_quietly()


def _generate(asked: argparse.Namespace) -> int:
    # The settings first: they need nothing, and most mistakes are in them.
    given = {knob.name: getattr(asked, knob.name) for knob in KNOBS}
    settings = SamplingSettings.from_dict({name: value for name, value in given.items() if value is not None})

    from dashboard import command_line  # noqa: PLC0415  # the database's library: half a second

    order = command_line.Order(
        prompt=_prompt(asked),
        settings=settings.with_seed(),
        model=asked.model,
        document=asked.json if asked.json in {None, "-"} else Path(asked.json),
        heads=asked.heads,
        save=asked.save,
    )
    ending = command_line.generate(order)
    return {"done": 0, "interrupted": INTERRUPTED, "reader gone": READER_GONE}[ending]


def _models() -> int:
    from dashboard import command_line  # noqa: PLC0415  # see above

    command_line.list_models()
    return 0


def _prompt(asked: argparse.Namespace) -> str:
    """The prompt as given, or as read, without the one line end that editors and ``echo`` add."""
    source = asked.prompt_file
    if source is None and asked.prompt != "-":
        return str(asked.prompt)
    name = "standard input" if source in {None, "-"} else source
    try:
        content = sys.stdin.buffer.read() if name == "standard input" else Path(source).read_bytes()
        return content.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise PromptError(f"The prompt cannot be read from {name} ({error.strerror}): name a text file.") from error
    except UnicodeDecodeError as error:
        raise PromptError(f"The prompt in {name} is no UTF-8 text: save it as UTF-8 and try again.") from error


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence instead of the usage, which for so many knobs fills the screen."""
        self.exit(ASKED_WRONGLY, f"{message[:1].upper()}{message[1:]}; {self.prog} --help shows what can be asked.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=_PROGRAM,
        description="Nucleus Lens without a browser. The dashboard itself: streamlit run streamlit_app.py.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_generate(commands)
    models = commands.add_parser("models", help="list the models and whether each can be used now", allow_abbrev=False)
    _add_verbose(models)
    return parser


def _add_generate(commands: argparse._SubParsersAction[_Parser]) -> None:
    generate = commands.add_parser(
        "generate",
        help="continue a prompt, and keep the run in the history",
        usage=f"{_PROGRAM} generate (--prompt TEXT | --prompt-file FILE) [options]",
        description="Continue a prompt. The text goes to standard output as it is drawn, everything else to standard "
        "error; the run is stored in the history that the dashboard shows.",
        allow_abbrev=False,
    )
    prompts = generate.add_argument_group("the prompt").add_mutually_exclusive_group(required=True)
    prompts.add_argument("--prompt", metavar="TEXT", help="the text to continue; - reads standard input")
    prompts.add_argument(
        "--prompt-file", metavar="FILE", help="a UTF-8 text file to continue; one line end at its end is not part of it"
    )
    generate.add_argument(
        "--model",
        metavar="NAME",
        help=f"a name that '{_PROGRAM} models' lists; default: the one that the dashboard chooses at first",
    )
    knobs = generate.add_argument_group("the sampler")
    for knob in KNOBS:
        knobs.add_argument(
            "--" + knob.name.replace("_", "-"), type=_number, metavar=_METAVARS[knob.kind], help=_knob_help(knob)
        )
    outcome = generate.add_argument_group("what becomes of it")
    outcome.add_argument(
        "--json",
        metavar="FILE",
        help="write the run document, with every step, to this file; - writes it to standard output, in place of the "
        "text",
    )
    outcome.add_argument(
        "--no-heads",
        dest="heads",
        action="store_false",
        help="leave the most probable tokens of each step out of the document, which makes it ten times smaller",
    )
    outcome.add_argument(
        "--no-save", dest="save", action="store_false", help="do not store the run; the database is not even opened"
    )
    _add_verbose(generate)


def _add_verbose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verbose", action="store_true", help="show the log, with the cause of a failure")


_METAVARS: Final = {"float": "NUMBER", "int": "INTEGER"}


def _knob_help(knob: Knob) -> str:
    kind = "A whole number" if knob.kind == "int" else "A number"
    default = "one is chosen and told" if knob.default is None else f"{knob.default:g}"
    # argparse formats its helps with %.
    return f"{knob.help} {kind} {knob.range_text}; default: {default}.".replace("%", "%%")


def _number(text: str) -> int | float | str:
    """The number that a text says, or the text itself, which its knob then refuses in a sentence with the range."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


@contextlib.contextmanager
def _logging(*, verbose: bool) -> Iterator[None]:
    """Show the log on standard error, or nothing of it: without any handler, warnings and tracebacks would appear."""
    handler = logging.StreamHandler() if verbose else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root, ours = logging.getLogger(), logging.getLogger("dashboard")
    level = ours.level
    root.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        ours.setLevel(level)


def _leave_quietly() -> None:
    """Write out what is buffered; if nobody reads it, let Python not complain of that when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # reported already, or nobody is there to read it
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    # The bars of the libraries, which read this when they are imported; ``terminal.ProgressLine`` tells the same.
    os.environ.setdefault("TQDM_DISABLE", "1")
    sys.exit(main())
