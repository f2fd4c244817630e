"""Widgets drawn from the one description of each knob."""

from __future__ import annotations

import math
from typing import Final

import streamlit as st

from dashboard.sampling.settings import KNOB, Knob, SamplingSettings

MAIN: Final = ("top_p", "temperature", "max_new_tokens")
"""The knobs in reach; the others are folded away."""

# Streamlit sends whole numbers as doubles, which are exact up to here.
_LARGEST_WHOLE: Final = 2**53 - 1
_STEP_DECIMALS: Final = {0.05: "%.2f", 0.01: "%.2f", 0.0001: "%.4f"}


def knob_key(name: str) -> str:
    """The session state key of a knob's widget."""
    return f"knob-{name}"


def knob_input(
    name: str, *, limit: int | None = None, key: str | None = None, default: float | int | None = None
) -> None:
    """The widget of one knob, with its range and help.

    Args:
        name: the knob.
        limit: lowers the top of the range.
        key: where its value is in the session state; by default ``knob_key(name)``.
        default: the value to begin with; by default the knob's own.
    """
    knob = KNOB[name]
    key = key or knob_key(name)
    value = st.session_state.setdefault(key, _default(knob, limit) if default is None else default)
    # A run made without these widgets may have a value below their first step.
    lowest = min(knob.low + knob.step if knob.low_open else knob.low, math.inf if value is None else value)
    highest = min(knob.high, limit or knob.high)
    if name == "top_p":
        # From the smallest step: p = 0 keeps nothing.
        st.slider(knob.label, lowest, highest, step=knob.step, help=knob.help, key=key, persist_state="session")
        return
    label = f"{knob.label} ({knob.unit})" if knob.unit and knob.unit not in knob.label else knob.label
    if knob.kind == "int":
        st.number_input(
            label,
            min_value=int(lowest),
            max_value=min(int(highest), _LARGEST_WHOLE),
            step=1,
            help=knob.help,
            key=key,
            placeholder="chosen at random",
            persist_state="session",
        )
        return
    st.number_input(
        label,
        min_value=float(lowest),
        max_value=float(highest),
        step=knob.step,
        format=_STEP_DECIMALS[knob.step],
        help=knob.help,
        key=key,
        persist_state="session",
    )


def offer(settings: SamplingSettings) -> None:
    """Let the widgets begin with these settings; to be called on another page, or before they are drawn."""
    for name, value in settings.as_dict().items():
        st.session_state[knob_key(name)] = value


def _default(knob: Knob, limit: int | None) -> float | int | None:
    if knob.default is not None and limit is not None:
        return min(knob.default, limit)
    return knob.default
