"""Which model speaks or reads: the choice, why it is the one to begin with, and how its loading stands."""

from __future__ import annotations

import streamlit as st

from dashboard.app_pages import shared
from dashboard.sampling.catalogue import Available, Downloadable, Unavailable, availability, catalogue


def model_sentence() -> str:
    """Which model speaks, and why."""
    choice = shared.default_choice()
    name = st.session_state.get("model", choice.name)
    offered = catalogue(shared.config())
    if name == choice.name or name not in offered:
        return choice.sentence
    return f"{offered[name].title} is in use, as chosen below. {offered[name].description}"


def model_box() -> str:
    """The model that is to speak."""
    offered = catalogue(shared.config())
    names = list(offered)
    if st.session_state.get("model") not in names:
        st.session_state["model"] = shared.default_choice().name

    def label(name: str) -> str:
        entry = offered[name]
        size = f", {entry.parameters}" if entry.parameters else ""
        match availability(entry):
            case Available():
                state = ""
            case Downloadable():
                state = f", {entry.download_bytes / 1e6:,.0f} MB to fetch" if entry.download_bytes else ", to fetch"
            case Unavailable():
                state = ", not available"
        return f"{entry.title}{size}{state}"

    name = st.selectbox("Model", names, format_func=label, key="model", persist_state="session")
    return str(name)


@st.fragment(run_every=1.0)
def model_state(name: str) -> None:
    """Load the chosen model in the background, and show how that stands until it is there."""
    state, title = shared.store().state(name), catalogue(shared.config())[name].title
    if state.stage == "absent":
        # Importing torch takes seconds of the interpreter's time: the page is drawn first, at the next poll it begins.
        if st.session_state.get("model-asked") == name:
            state = shared.store().request(name)
        else:
            st.session_state["model-asked"] = name
            st.caption(shared.as_text(f"Loading {title} …"))
    shared.loading_line(state, title)
    if state.stage == "failed" and st.button("Try again", icon=":material/refresh:"):
        shared.store().request(name, retry=True)
        st.rerun(scope="fragment")
    if state.stage == "ready":
        st.rerun()
