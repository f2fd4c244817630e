"""Inspect: one stored run, understood step by step. Needs no model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from dashboard.app_pages import shared
from dashboard.app_pages.branches_view import alternatives_view, comparison_view, tree_view
from dashboard.app_pages.explorer import explorer
from dashboard.app_pages.knobs import offer
from dashboard.app_pages.viewing import View, asked_step, reading_of
from dashboard.errors import RunNotFound
from dashboard.exchange import document_text, run_document
from dashboard.figures.sentences import count
from dashboard.history import RunRecord
from dashboard.metrics.summary import summary_measures
from dashboard.sampling.trace import Trace
from dashboard.sampling.vocabulary import Vocabulary
from dashboard.sampling.what_if import smallest_p

if TYPE_CHECKING:
    from dashboard.sampling.replay import Reading


def friendly_page(sentence: str) -> None:
    """Where there is nothing to inspect: say so and show the ways on."""
    st.title("Inspect")
    st.text(sentence)
    with st.container(horizontal=True):
        st.page_link(shared.GENERATE, label="Generate a run", icon=":material/play_circle:")
        st.page_link(shared.HISTORY, label="Choose one from the history", icon=":material/history:")
    st.stop()


def asked_run() -> str:
    """The run's id in the URL; without one, that of the newest run that has something to show, if a recent one has."""
    run_id = st.query_params.get("run")
    if run_id:
        return run_id
    recent = shared.history().page(0, 25).rows
    if not recent:
        friendly_page("No run is stored yet.")
    chosen = next((row for row in recent if row.output_tokens), recent[0]).public_id
    st.query_params["run"] = chosen
    return chosen


def heading(record: RunRecord) -> None:
    """Title, one line of facts, and what is unusual about the run."""
    st.title("Inspect")
    facts = [
        record.model_title,
        *shared.settings_told(record.settings),
        f"{count(record.output_tokens)} tokens",
        shared.ending(record.status, record.stop_reason),
        f"{record.created_at:%Y-%m-%d %H:%M} UTC",
    ]
    st.caption(shared.as_text(" · ".join(facts)))
    if record.error:
        st.warning(shared.as_text(record.error), icon=":material/warning:")
    if record.status in {"queued", "running"}:
        st.info("This run is still being written; what is stored so far is shown.", icon=":material/hourglass_top:")
        if job := shared.jobs().of_run(record.public_id):
            st.page_link(
                shared.GENERATE,
                label="Watch it grow",
                icon=":material/play_circle:",
                query_params={"job": job.job_id},
            )


def cards(trace: Trace) -> None:
    """Four numbers that stand for the run."""
    measures = summary_measures(trace)
    assert measures is not None
    single = int(np.count_nonzero(trace.nucleus_size == 1))
    numbers = [
        ("Median nucleus", f"{measures.median_nucleus_size:,.0f} tokens", None),
        ("Single-candidate steps", f"{count(single)} of {count(len(trace))}", None),
        (
            "Smallest p for this text",
            f"{smallest_p(trace):.3f}",
            "Top-p, with the other settings of the run, could have written this text exactly when p is greater.",
        ),
        ("Perplexity", f"{measures.perplexity:,.1f}", "2 to the mean surprisal in bits."),
    ]
    with st.container(horizontal=True):
        for label, value, help_text in numbers:
            st.metric(label, value, border=True, help=help_text)


def view_of(record: RunRecord, trace: Trace, vocabulary: Vocabulary) -> View:
    """The run as it is stored."""

    def find_reading() -> Reading | None:
        model = shared.store().state(record.model_name).model
        if model is None or model.fingerprint != record.model_fingerprint:
            return None
        return reading_of(model, record.prompt_token_ids, tuple(trace.token_ids.tolist()))

    return View(
        key=f"run-{record.public_id}",
        prompt=record.prompt,
        prompt_ids=record.prompt_token_ids,
        trace=trace,
        settings=record.settings,
        p=record.settings.top_p,
        drawn=True,
        vocabulary=vocabulary,
        model_name=record.model_name,
        model_title=record.model_title,
        find_reading=find_reading,
    )


def ways_on(record: RunRecord, trace: Trace, vocabulary: Vocabulary) -> None:
    """Take the run somewhere else."""

    def document() -> str:
        return document_text(run_document(record, trace, vocabulary))

    with st.container(horizontal=True):
        if st.button("Use its prompt and settings", icon=":material/replay:"):
            offer(record.settings)
            st.session_state["prompt"] = record.prompt
            st.session_state["model"] = record.model_name
            st.switch_page(shared.GENERATE)
        for label, part in (("Read its prompt", "prompt"), ("Read prompt and output", "output")):
            if st.button(label, icon=":material/menu_book:"):
                st.switch_page(shared.READ, query_params={"run": record.public_id, "part": part})
        st.download_button(
            "Run document (JSON)",
            document,
            file_name=f"run-{record.public_id}.json",
            mime="application/json",
            icon=":material/download:",
            on_click="ignore",
        )


with shared.errors_shown():
    shared.jobs()  # looks after the history: a run whose process has died is marked as interrupted
    run_id = asked_run()
    try:
        record = shared.history().run(run_id)
    except RunNotFound as error:
        friendly_page(str(error))
    trace, vocabulary = shared.history().trace(run_id), shared.history().vocabulary(record.vocabulary_fingerprint)
    heading(record)
    if not len(trace):
        st.text(record.prompt)
        st.text("No token of this run is stored, so there is nothing to inspect.")
        st.stop()
    if asked_step(len(trace)) is None:
        st.info(
            f"This run has {count(len(trace))} steps and none of the number in the link, so its first step is shown.",
            icon=":material/info:",
        )
    cards(trace)
    explorer(
        view_of(record, trace, vocabulary),
        {"Continue from here": lambda view, position: alternatives_view(record, view, position)},
    )
    comparison_view(record, trace, vocabulary)
    tree_view(record, vocabulary)
    ways_on(record, trace, vocabulary)
    shared.settled("inspect")
