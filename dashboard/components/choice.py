"""What the parts of a page that choose steps have in common, beside their script ``choice.js``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import streamlit as st

_FOLDER: Final = Path(__file__).parent


def reported_position(key: str, length: int) -> int | None:
    """The position that the part ``key`` has just reported; None unless it is one of ``length`` steps.

    A choice is whatever the browser sends, so it is looked at before anything is done with it.
    """
    position = st.session_state[key].get("position")
    if isinstance(position, int) and not isinstance(position, bool) and 0 <= position < length:
        return position
    return None


def script(name: str) -> str:
    """The script of a part, with what all of them share before it."""
    return "".join((_FOLDER / file).read_text(encoding="utf-8") for file in ("choice.js", name))


def style(name: str) -> str:
    """The style sheet of a part."""
    return (_FOLDER / name).read_text(encoding="utf-8")
