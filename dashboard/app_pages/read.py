"""Read: how likely each token of any text was to a model, and at which p it would have been impossible."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import numpy as np
import streamlit as st

from dashboard.app_pages import shared
from dashboard.app_pages.explorer import explorer
from dashboard.app_pages.model_choice import model_box, model_state
from dashboard.app_pages.viewing import View, reading_of, replayed
from dashboard.errors import NucleusLensError, PromptError
from dashboard.figures.labels import visible
from dashboard.figures.sentences import count
from dashboard.metrics.summary import summary_measures
from dashboard.sampling.catalogue import catalogue
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.what_if import smallest_p

if TYPE_CHECKING:
    from dashboard.sampling.models import LoadedModel
    from dashboard.sampling.replay import Reading

_ASKED: Final = "read-asked"
_SETTINGS: Final = SamplingSettings()


def take_from_run() -> None:
    """Put the text of the run that the address names into the box, once."""
    run_id, part = st.query_params.get("run"), st.query_params.get("part", "prompt")
    if not run_id or st.session_state.get("read-from") == (run_id, part):
        return
    record = shared.history().run(run_id)
    st.session_state["read-from"] = (run_id, part)
    st.session_state["read-text"] = record.prompt + (record.output if part == "output" else "")
    is_offered = record.model_name in catalogue(shared.config())
    st.session_state["model"] = record.model_name if is_offered else shared.default_choice().name
    start()


def start() -> None:
    """Ask for what is in the box to be read."""
    st.query_params.pop("step", None)
    st.session_state[_ASKED] = (st.session_state["read-text"], st.session_state["model"])


def text_box() -> None:
    """The text, and the model that is to read it."""
    st.text_area(
        "Text",
        key="read-text",
        height=150,
        max_chars=shared.config().prompt_length_limit,
        placeholder="Paste any text.",
        persist_state="session",
    )
    left, right = st.columns([2, 3], gap="medium", vertical_alignment="bottom")
    with left:
        model_box()
    with right:
        st.button("Read", type="primary", icon=":material/menu_book:", on_click=start, shortcut="Ctrl+Enter")


def view_of(text: str, model: LoadedModel) -> tuple[View, Reading, str]:
    """The text as the model reads it, and a sentence on what stands before its first token.

    Raises:
        PromptError: there is nothing to read.
    """
    ids = model.encode(text)
    start_id = model.start_id
    if start_id is not None:
        context, label = (start_id,), visible(model.vocabulary.label(start_id))
        beginning = f"Its first token is read after {label}, the token that stands between texts."
    elif len(ids) > 1:
        context, ids = (ids[0],), ids[1:]
        beginning = "Its first token has nothing before it that could predict it, so the second one is step 1."
    else:
        raise PromptError("The text is a single token, which nothing predicts: write some more.")
    reading = reading_of(model, context, tuple(ids))
    digest = hashlib.sha256(f"{model.fingerprint} {ids}".encode()).hexdigest()[:16]
    key = f"read-{digest}"
    view = View(
        key=key,
        prompt="" if start_id is not None else model.vocabulary.decode(context),
        prompt_ids=context,
        trace=replayed(key, reading, _SETTINGS),
        settings=_SETTINGS,
        p=_SETTINGS.top_p,
        drawn=False,
        vocabulary=model.vocabulary,
        model_name=model.name,
        model_title=model.title,
        find_reading=lambda: reading,
    )
    return view, reading, beginning


def windows_sentence(reading: Reading) -> str:
    """How a text was read, as to the model's context."""
    length, context = len(reading), reading.model.context_length
    if len(reading.windows) == 1:
        return f"{count(length)} tokens, read at once."
    least = min(window.scored - window.first for window in reading.windows[1:])
    return (
        f"{count(length)} tokens, more than the {count(context)} that this model reads at once: read in "
        f"{count(len(reading.windows))} overlapping windows, so that each token has at least {count(least + 1)} tokens "
        "before it, fewer only at the beginning of the text."
    )


def cards(view: View) -> None:
    """Four numbers that stand for the text."""
    measures = summary_measures(view.trace)
    assert measures is not None
    impossible = int(np.count_nonzero(view.cut))
    with st.container(horizontal=True):
        st.metric(
            f"Impossible at p = {view.p:g}", f"{count(impossible)} of {count(len(view.trace))} tokens", border=True
        )
        st.metric(
            "Smallest p for this text",
            f"{smallest_p(view.trace):.3f}",
            border=True,
            help="Top-p alone could have written this text exactly when p is greater.",
        )
        st.metric("Median nucleus", f"{measures.median_nucleus_size:,.0f} tokens", border=True)
        st.metric("Perplexity", f"{measures.perplexity:,.1f}", border=True, help="2 to the mean surprisal in bits.")


def result(text: str, name: str) -> None:
    """What the model makes of the text, as soon as it is in memory."""
    model = shared.store().state(name).model
    if model is None:
        model_state(name)
        return
    try:
        view, reading, beginning = view_of(text, model)
    except NucleusLensError as error:
        st.error(shared.as_text(str(error)), icon=":material/error:")
        return
    st.text(f"{windows_sentence(reading)} {beginning}")
    cards(view)
    explorer(view)
    st.caption("Nothing was drawn here: where the figures say “drawn”, they mean the token that stands in the text.")


with shared.errors_shown():
    st.title("Read")
    st.caption("How likely was each token of a text to a model, and which p would have made it impossible?")
    take_from_run()
    text_box()
    if _ASKED in st.session_state:
        result(*st.session_state[_ASKED])
    shared.settled("read")
