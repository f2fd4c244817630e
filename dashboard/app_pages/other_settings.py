"""The question "what if the other knobs had been different?", answered by one forward pass over the known tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import streamlit as st

from dashboard.app_pages.knobs import knob_input
from dashboard.app_pages.viewing import View, ask_for_model, replayed
from dashboard.sampling.settings import SamplingSettings

ASKABLE: Final = (
    "temperature",
    "top_k",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "repetition_penalty",
    "no_repeat_ngram_size",
)
"""The knobs that act on a step; p has a slider of its own, which needs no model."""


def other_settings(view: View) -> View:
    """Show the knobs, and return the view as they make it: the same tokens, replayed, or the view itself."""
    chosen = {name: st.session_state.get(_key(view, name), getattr(view.settings, name)) for name in ASKABLE}
    changed = [name for name, value in chosen.items() if value != getattr(view.settings, name)]
    # Its label never changes: Streamlit would take it for another popover, and close it with every value.
    fold = st.popover(
        "Other settings", icon=":material/tune:", width="stretch", key=f"{view.key}-other-settings", on_change="rerun"
    )
    # Eight inputs that nobody sees would be made anew with every step that is chosen.
    if fold.open:
        with fold:
            _knobs(view, is_changed=bool(changed))
    if not changed:
        return view
    reading = view.find_reading()
    if reading is None:
        ask_for_model(view, "to replay the text with other settings")
        return view
    settings = SamplingSettings.from_dict({**view.settings.as_dict(), **chosen})
    return replace(view, settings=settings, trace=replayed(view.key, reading, settings))


def _knobs(view: View, *, is_changed: bool) -> None:
    st.text("What if the other settings had been different? The tokens stay, their distributions are made again.")
    for start in range(0, len(ASKABLE), 2):
        for column, name in zip(st.columns(2), ASKABLE[start : start + 2], strict=True):
            with column:
                knob_input(name, key=_key(view, name), default=getattr(view.settings, name))
    st.button(
        "Back to how it is",
        icon=":material/undo:",
        key=f"{view.key}-back",
        on_click=_reset,
        args=(view,),
        disabled=not is_changed,
    )


def _key(view: View, name: str) -> str:
    return f"{view.key}-what-if-{name}"


def _reset(view: View) -> None:
    for name in ASKABLE:
        st.session_state[_key(view, name)] = getattr(view.settings, name)
