"""Inspect: one stored run, understood step by step. Needs no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from dashboard.app_pages import shared
from dashboard.app_pages.knobs import offer
from dashboard.components.colouring import SCALES, Colouring, colour_values
from dashboard.components.token_strip import strip_tokens, token_strip
from dashboard.errors import RunNotFound
from dashboard.exchange import document_text, run_document
from dashboard.figures.bars import bars_figure
from dashboard.figures.canvas import PLOTLY_CONFIG, sentence_case
from dashboard.figures.mass import mass_figure
from dashboard.figures.nucleus import WhatIf, nucleus_figure
from dashboard.figures.sentences import (
    FACT_LABELS,
    count,
    drawn_sentence,
    edge_sentence,
    p_value,
    token_facts,
)
from dashboard.history import RunRecord
from dashboard.metrics.summary import summary_measures
from dashboard.sampling.trace import SIZE_CURVE_P, Trace
from dashboard.sampling.vocabulary import Vocabulary
from dashboard.sampling.what_if import is_admitted, nucleus_sizes_at, smallest_p


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


def asked_step(length: int) -> int | None:
    """The step in the URL, from 0; None if it is no step of a run of this length. Steps are counted from 1 there."""
    try:
        step = int(st.query_params.get("step", "1"))
    except ValueError:
        return None
    return step - 1 if 1 <= step <= length else None


def choose_step(position: int) -> None:
    """Make a step, from 0, the chosen one; the URL is where the choice is kept, so that it can be sent."""
    st.query_params["step"] = str(position + 1)


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


def controls(record: RunRecord) -> tuple[Colouring, float]:
    """The colouring of the strip, and the p of the question."""
    left, right = st.columns([1, 2], gap="large")
    colourings = list(SCALES)
    colouring = left.selectbox(
        "Colour by", colourings, format_func=lambda name: SCALES[name].label, key="colouring", persist_state="session"
    )
    own = record.settings.top_p
    options = sorted({*SIZE_CURVE_P, own, 1.0})
    key = f"what-if-{record.public_id}"
    st.session_state.setdefault(key, own)
    p = right.select_slider(
        "What if p had been …",
        options,
        format_func=lambda p: f"{p:g} (this run)" if p == own else p_value(p),
        key=key,
        help="Moves the cut of the stored run; nothing is generated again.",
    )
    return colouring, float(p)


def what_if_sentence(struck: Sequence[int], length: int, p: float) -> str:
    """What the other p means for the text as it stands."""
    if not struck:
        return f"At p = {p_value(p)} this text would still have been possible."
    share = f"{count(len(struck))} of {count(length)} tokens"
    return f"At p = {p_value(p)}, {share} would have been cut, the first of them at step {count(struck[0] + 1)}."


def strip(
    record: RunRecord, trace: Trace, vocabulary: Vocabulary, selected: int, colouring: Colouring, p: float
) -> None:
    """The text, every token of which can be chosen."""
    struck: list[int] = []
    note = ""
    if p != record.settings.top_p:
        note = f"not in the nucleus at p = {p_value(p)}"
        struck = np.flatnonzero(~is_admitted(trace.admitting_p, p)).tolist()
        st.text(what_if_sentence(struck, len(trace), p))
    tokens = strip_tokens(
        vocabulary.pieces(trace.token_ids.tolist()),
        colour_values(trace, colouring),
        [token_facts(trace, position, vocabulary) for position in range(len(trace))],
    )
    token_strip(
        record.prompt,
        tokens,
        colouring=colouring,
        fact_labels=FACT_LABELS,
        key=f"strip-{record.public_id}",
        selected=selected,
        struck=struck,
        struck_note=note,
        on_choose=choose_step,
    )


def step_view(record: RunRecord, trace: Trace, vocabulary: Vocabulary, selected: int, p: float) -> None:
    """The distribution of the chosen step."""
    step = trace.step(selected)
    st.subheader(f"Step {count(selected + 1)} of {count(len(trace))}", anchor=False)
    st.text(f"{sentence_case(drawn_sentence(step))}. In this run, {edge_sentence(step, vocabulary)}.")
    what_if_p = None if p == record.settings.top_p else p
    left, right = st.columns(2, gap="large")
    for column, name, figure in ((left, "bars", bars_figure), (right, "mass", mass_figure)):
        with column:
            drawn = figure(
                step,
                top_p=record.settings.top_p,
                vocabulary=vocabulary,
                theme=shared.theme(),
                what_if_p=what_if_p,
            )
            st.plotly_chart(drawn.figure, theme=None, config=PLOTLY_CONFIG, alt=drawn.description, key=name)


def nucleus_view(record: RunRecord, trace: Trace, selected: int, p: float) -> None:
    """Nucleus size over all steps; a click on a column chooses the step."""
    what_if = None if p == record.settings.top_p else WhatIf(p, nucleus_sizes_at(trace, p))
    drawn = nucleus_figure(trace, top_p=record.settings.top_p, theme=shared.theme(), selected=selected, what_if=what_if)

    def pick() -> None:
        points = st.session_state["nucleus"].selection.points
        if points:
            choose_step(int(points[0]["customdata"]))

    st.plotly_chart(
        drawn.figure,
        theme=None,
        config=PLOTLY_CONFIG,
        alt=drawn.description,
        key="nucleus",
        on_select=pick,
        selection_mode="points",
    )


@st.fragment
def explorer(record: RunRecord, trace: Trace, vocabulary: Vocabulary) -> None:
    """All that changes with the chosen step or p; redrawn by itself."""
    selected = asked_step(len(trace)) or 0
    colouring, p = controls(record)
    strip(record, trace, vocabulary, selected, colouring, p)
    step_view(record, trace, vocabulary, selected, p)
    nucleus_view(record, trace, selected, p)


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
    explorer(record, trace, vocabulary)
    ways_on(record, trace, vocabulary)
