"""The output as prose whose tokens can be chosen, by a click or by the arrow keys.

Text reaches the browser as data and is set with ``textContent``: nothing in a prompt or a token is ever
markup.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

from dashboard.components.choice import reported_position, script, style
from dashboard.components.colouring import SCALES, Colouring
from dashboard.sampling.trace import Floats
from dashboard.sampling.vocabulary import Piece

_LAST_C0_CONTROL: Final = 0x1F
_CONTROL_PICTURES: Final = 0x2400
# Joiners and variation selectors belong to the emoji and scripts that they stand in; the text is wrong
# without them.
_JOINERS: Final = frozenset("\u200c\u200d\ufe0e\ufe0f")
_UNSEEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"})

Run: TypeAlias = str | tuple[str, str]
"""A stretch of a token: text as it is, or (mark, text that the mark stands for)."""


@dataclass(frozen=True, slots=True)
class StripToken:
    """One token of the strip.

    piece: what it adds to the text. value: strength of its wash, 0 to 1. facts: what the card says of it, one
    for each of the ``fact_labels`` given to ``token_strip``.
    """

    piece: Piece
    value: float
    facts: tuple[str, ...]


def strip_tokens(pieces: Sequence[Piece], values: Floats, facts: Sequence[tuple[str, ...]]) -> list[StripToken]:
    """Tokens from ``Vocabulary.pieces``, ``colour_values`` and ``sentences.token_facts`` of each step."""
    return [
        StripToken(piece, float(value), told) for piece, value, told in zip(pieces, values.tolist(), facts, strict=True)
    ]


def token_strip(
    prompt: str,
    tokens: Sequence[StripToken],
    *,
    colouring: Colouring,
    fact_labels: Sequence[str],
    key: str,
    selected: int | None = None,
    struck: Collection[int] = (),
    struck_note: str = "",
    on_choose: Callable[[int], object] | None = None,
    keyboard: bool = False,
) -> int | None:
    """Show the strip and return the position of the token that is chosen now.

    Args:
        prompt: stands before the output, in the secondary colour.
        tokens: the output; while a run grows, pass more under the same key and the strip grows in place.
        colouring: what the washes mean; the legend says it.
        fact_labels: names of the facts on the card that a token shows under the pointer.
        key: Streamlit's key. One per run, so that another run starts a new strip.
        selected: position of the chosen token as the page knows it.
        struck: positions of tokens that another p would have cut.
        struck_note: says what the strike means, in the legend.
        on_choose: called with the position before the page runs again, for pages that show the choice above the strip.
        keyboard: whether the arrow keys walk through this strip wherever the focus is on the page, and charts that
            choose steps choose them here; for at most one strip of a page.

    Returns:
        The position that the user has just chosen, otherwise ``selected``; None where no token stands.
    """
    chosen_slot = f"{key}:chosen"

    def remember() -> None:
        position = reported_position(key, len(tokens))
        if position is not None:
            st.session_state[chosen_slot] = position
            if on_choose is not None:
                on_choose(position)

    chosen: int | None = st.session_state.pop(chosen_slot, selected)
    if chosen is not None and not 0 <= chosen < len(tokens):
        chosen = None
    data = payload(
        prompt,
        tokens,
        colouring=colouring,
        fact_labels=fact_labels,
        selected=chosen,
        struck=struck,
        struck_note=struck_note,
        keyboard=keyboard,
    )
    _component()(key=key, data=data, on_position_change=remember)
    return chosen


def payload(
    prompt: str,
    tokens: Sequence[StripToken],
    *,
    colouring: Colouring,
    fact_labels: Sequence[str],
    selected: int | None,
    struck: Collection[int],
    struck_note: str,
    keyboard: bool = False,
) -> dict[str, Any]:
    """What the browser is sent: plain text and numbers. Each token is [runs, wash 0 to 100, facts]."""
    scale = SCALES[colouring]
    return {
        "prompt": runs(prompt),
        "tokens": [[piece_runs(token.piece), round(token.value * 100), token.facts] for token in tokens],
        "factLabels": list(fact_labels),
        "legend": {"label": scale.label, "low": scale.low, "high": scale.high},
        "hue": scale.hue,
        "selected": selected,
        "struck": sorted(position for position in struck if 0 <= position < len(tokens)),
        "struckNote": struck_note,
        "walksWithKeys": keyboard,
    }


def piece_runs(piece: Piece) -> list[Run]:
    """The runs of one token: its text, then its bytes of an unfinished character, as ``‹F0 9F›``."""
    shown = runs(piece.text)
    if piece.pending:
        shown.append((f"‹{piece.pending.hex(' ').upper()}›", ""))
    return shown or [("∅", "")]


def runs(text: str) -> list[Run]:
    """Split a text into stretches shown as they are and characters shown by a mark.

    A newline is marked and kept, so that the line breaks there and copied text has it. What would be unseen,
    or would reorder the text around it, is replaced by its mark: control pictures, or ``‹U+202E›``.
    """
    shown: list[Run] = []
    plain = ""
    for character in text:
        mark = _mark(character)
        if mark is None:
            plain += character
            continue
        if plain:
            shown.append(plain)
            plain = ""
        shown.append((mark, "\n" if character == "\n" else ""))
    if plain:
        shown.append(plain)
    return shown


def _mark(character: str) -> str | None:
    """The mark that a character is shown by; None for one that is shown as it is."""
    if character == "\n":
        return "⏎"
    if character == "\t":
        return "⇥"
    code = ord(character)
    if code <= _LAST_C0_CONTROL:
        return chr(_CONTROL_PICTURES + code)
    if character == "\x7f":
        return "␡"
    if character not in _JOINERS and unicodedata.category(character) in _UNSEEN_CATEGORIES:
        return f"‹U+{code:04X}›"
    return None


@cache
def _component() -> ComponentRenderer:
    return st.components.v2.component(
        "nucleus_lens_token_strip",
        html='<div class="strip"></div>',
        css=style("token_strip.css"),
        js=script("token_strip.js"),
    )
