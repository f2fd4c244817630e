"""A token as a label: visible whatever it holds, short, and never markup.

Plotly reads a subset of HTML, entities and ``$...$`` in every text of a figure, so ``markup_free`` must stand
between a token and any of them.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from typing import Final

SPACE_MARK: Final = "␣"
_NAMED_MARKS: Final = {" ": SPACE_MARK, "\n": "⏎", "\t": "⇥", "\x7f": "␡"}
_LAST_C0_CONTROL: Final = 0x1F
_CONTROL_PICTURES: Final = 0x2400
# Control, format, private, unassigned and surrogate characters, and spaces other than the plain one, show
# nothing.
_UNSEEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Co", "Cn", "Cs", "Zs", "Zl", "Zp"})
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL"})
_WIDE: Final = frozenset("mwMW@%‹›⏎⇥◆—…") | frozenset("ABCDGHKNOQRUVXYZ&")
_BESIDE_A_NAME: Final = 12  # pixels between a name, its mark and the axis
_ISOLATE, _END_ISOLATE = "\u2068", "\u2069"


def visible(token: str, longest: int = 18) -> str:
    """The token with its white space and control characters as marks, at most ``longest`` characters of them.

    The middle of a longer token gives way to an ellipsis. An empty token is ``∅``.
    """
    if not token:
        return "∅"
    marks = [_mark(character) for character in token]
    if len(marks) > longest:
        ends = longest - 1
        marks = [*marks[: ends - ends // 2], "…", *marks[len(marks) - ends // 2 :]]
    shown = "".join(marks)
    if unicodedata.combining(shown[0]):
        shown = "◌" + shown
    # An isolate keeps a right-to-left token from reordering the numbers beside it.
    if any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in shown):
        return f"{_ISOLATE}{shown}{_END_ISOLATE}"
    return shown


def room_for(names: Iterable[str]) -> int:
    """Pixels that the widest of these takes as a name of a row, at 13 pixels and bold; a little more rather than less.

    Plotly can find that out itself (``automargin``), but lays the whole figure out again for it.
    """
    return math.ceil(max(sum(map(_width, name)) for name in names)) + _BESIDE_A_NAME


def _width(character: str) -> float:
    if unicodedata.combining(character) or unicodedata.bidirectional(character) == "FSI":
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 14.0
    return 11.5 if character in _WIDE else 7.9


def markup_free(text: str) -> str:
    """The text with everything that Plotly would read as HTML, an entity or MathJax written as entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("$", "&#36;")


def token_label(token: str, longest: int = 18) -> str:
    """``visible`` and ``markup_free``: a token as it may stand in a figure."""
    return markup_free(visible(token, longest))


def _mark(character: str) -> str:
    if named := _NAMED_MARKS.get(character):
        return named
    code = ord(character)
    if code <= _LAST_C0_CONTROL:
        return chr(_CONTROL_PICTURES + code)
    if unicodedata.category(character) in _UNSEEN_CATEGORIES:
        return f"‹U+{code:04X}›"
    return character
