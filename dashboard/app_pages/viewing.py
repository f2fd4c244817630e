"""What Inspect and Read show of a known text, handed from one part of the page to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from dashboard.app_pages import shared
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import Trace
from dashboard.sampling.vocabulary import Vocabulary

if TYPE_CHECKING:
    from dashboard.sampling.replay import Reading


@dataclass(frozen=True, slots=True)
class View:
    """A text with its steps.

    key: begins the keys of this view's widgets; one per run or text.
    prompt, prompt_ids: what stands before the first step.
    trace: the steps, as they were stored or as they were replayed with other settings.
    settings: those that the trace was made with.
    p: the p that is asked about; ``settings.top_p`` unless the slider was moved.
    model_name: the catalogue's name of the model that the text belongs to.
    find_reading: the text as the model reads it, with the full distribution of each step; None where the model is not
        in memory. The first call for a text takes one forward pass, later ones nothing.
    """

    key: str
    prompt: str
    prompt_ids: tuple[int, ...]
    trace: Trace
    settings: SamplingSettings
    p: float
    vocabulary: Vocabulary
    model_name: str
    model_title: str
    find_reading: Callable[[], Reading | None]


def ask_for_model(view: View, why: str) -> None:
    """Say that something needs the model, and offer to load it.

    Args:
        view: what is shown.
        why: a clause that goes on from "The model is needed".
    """
    state = shared.store().state(view.model_name)
    if state.is_busy:
        st.caption(shared.as_text(f"Loading {view.model_title} …"))
        return
    st.text(f"{view.model_title} is needed {why}, and is not in memory.")
    if state.error:
        st.error(shared.as_text(state.error), icon=":material/error:")
    if st.button("Load the model", icon=":material/memory:", key=f"{view.key}-load-{why}"):
        shared.store().request(view.model_name, retry=True)
        st.rerun()
