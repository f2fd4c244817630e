"""Generate: write a prompt, set the knobs, and watch the tokens arrive."""

from __future__ import annotations

import streamlit as st

from dashboard.app_pages import shared
from dashboard.app_pages.knobs import MAIN, knob_input, knob_key
from dashboard.app_pages.model_choice import model_box, model_sentence, model_state
from dashboard.components.colouring import colour_values
from dashboard.components.token_strip import strip_tokens, token_strip
from dashboard.errors import NucleusLensError, PromptError
from dashboard.figures.nucleus import nucleus_figure
from dashboard.figures.sentences import FACT_LABELS, count, smallest_p_sentence, token_facts
from dashboard.job import Job
from dashboard.sampling.catalogue import catalogue
from dashboard.sampling.settings import KNOBS, SamplingSettings
from dashboard.sampling.trace import Trace
from dashboard.sampling.what_if import smallest_p

_POLL_SECONDS = 0.4
_ENDINGS = {
    "eos": "the model ended the text",
    "length": "it has the length that was asked for",
    "context": "the model's context is full",
    "stopped": "it was stopped",
}


def prompt_box() -> None:
    """The prompt, with examples to start from."""
    examples = {preset.name: preset.prompt for preset in shared.presets()}

    def take_example() -> None:
        chosen = st.session_state["example"]
        if chosen is not None:
            st.session_state["prompt"] = examples[chosen]

    st.session_state.setdefault("prompt", shared.presets()[0].prompt)
    st.text_area(
        "Prompt", key="prompt", height=110, max_chars=shared.config().prompt_length_limit, persist_state="session"
    )
    st.pills("Examples", list(examples), key="example", on_change=take_example, label_visibility="collapsed")


def settings_boxes() -> str:
    """The model and every knob, those most used in reach; returns the model's name."""
    columns = st.columns([2, 2, 1, 1], gap="medium")
    with columns[0]:
        model = model_box()
    for column, name in zip(columns[1:], MAIN, strict=True):
        with column:
            knob_input(name, limit=shared.config().max_new_tokens_limit if name == "max_new_tokens" else None)
    others = [knob for knob in KNOBS if knob.name not in MAIN]
    changed = [
        knob.label.lower() for knob in others if st.session_state.get(knob_key(knob.name), knob.default) != knob.default
    ]
    with st.expander("More settings" + (f": {', '.join(changed)}" if changed else ""), key="more-settings"):
        for start in range(0, len(others), 4):
            for column, knob in zip(st.columns(4, gap="medium"), others[start : start + 4], strict=False):
                with column:
                    knob_input(knob.name)
    return model


def start() -> None:
    """Queue a run and make this page watch it.

    The widgets are read here: a change that is sent together with the press, as Ctrl+Enter in the prompt does, is in
    the session state by now, but was not there when the button was drawn.
    """
    prompt, model = st.session_state["prompt"], st.session_state["model"]
    values = {knob.name: st.session_state[knob_key(knob.name)] for knob in KNOBS}
    try:
        if not prompt:
            raise PromptError("The prompt is empty: write at least one character for the model to continue.")
        job = shared.jobs().submit(prompt, SamplingSettings.from_dict(values), model)
    except NucleusLensError as error:
        st.session_state["refusal"] = str(error)
        return
    st.session_state.pop("refusal", None)
    st.query_params["job"] = st.session_state["job"] = job.job_id


def facts_line(job: Job) -> str:
    """One line on how the run stands."""
    drawn, wanted = len(job.steps), job.settings.max_new_tokens
    match job.phase:
        case "queued":
            ahead = shared.jobs().ahead_of(job)
            return f"Waiting for {count(ahead)} {'run' if ahead == 1 else 'runs'} to end" if ahead else "Starting"
        case "loading":
            return "Waiting for the model"
        case "running" if not drawn:
            return "Reading the prompt"
        case "running":
            speed = f", {job.tokens_per_second:.1f} tokens/s" if job.tokens_per_second else ""
            left = f", about {job.seconds_left:.0f} s left" if job.seconds_left is not None else ""
            return f"{count(drawn)} of at most {count(wanted)} tokens{speed}{left}"
        case _:
            why = _ENDINGS.get(job.stop_reason or "", "it failed")
            speed = f", {job.tokens_per_second:.1f} tokens/s" if job.tokens_per_second else ""
            return f"{count(drawn)} tokens in {job.seconds:.1f} s{speed}; ended because {why}"


def model_title(job: Job) -> str:
    """The name of the job's model in the interface, before it is loaded too."""
    return job.model.title if job.model else catalogue(shared.config())[job.model_name].title


def settings_line(job: Job) -> str:
    """The settings that act, in one line."""
    return " · ".join([model_title(job), *shared.settings_told(job.settings)])


def show(job: Job, *, polling: bool) -> None:
    """The run: its state, the nucleus size so far and the text so far."""
    ended = job.phase == "ended"
    if polling and ended:
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center", key="run-bar"):
        st.text(facts_line(job))
        if not ended:
            label = "Stopping" if job.is_stopping else "Stop"
            st.button(
                label,
                icon=":material/stop_circle:",
                key="stop",
                on_click=shared.jobs().stop,
                args=(job,),
                disabled=job.is_stopping,
            )
        elif job.run_id and job.steps:
            st.page_link(
                shared.INSPECT,
                label="Inspect this run",
                icon=":material/query_stats:",
                query_params={"run": job.run_id, "step": str(job.branch.position + 1 if job.branch else 1)},
            )
    st.caption(shared.as_text(settings_line(job)))
    if job.phase == "loading":
        shared.loading_line(shared.store().state(job.model_name), model_title(job))
    if job.error:
        st.error(shared.as_text(job.error), icon=":material/error:")
    if job.unsaved:
        st.warning(shared.as_text(f"Not stored yet: {job.unsaved}"), icon=":material/warning:")
    if job.model is not None and (job.steps or not ended):
        show_steps(job, job.trace(), ended=ended)


def show_steps(job: Job, trace: Trace, *, ended: bool) -> None:
    """Chart first, because its height is fixed; the text beneath it grows downwards."""
    assert job.model is not None
    vocabulary = job.model.vocabulary
    planned = None if ended else job.settings.max_new_tokens
    drawn = nucleus_figure(trace, top_p=job.settings.top_p, theme=shared.theme(), planned_steps=planned)
    shared.chart(drawn, "nucleus")
    tokens = strip_tokens(
        vocabulary.pieces(trace.token_ids.tolist()),
        colour_values(trace, "surprisal"),
        token_facts(trace, vocabulary),
    )
    chosen = token_strip(
        job.prompt, tokens, colouring="surprisal", fact_labels=FACT_LABELS, key=f"strip-{job.job_id}", selected=None
    )
    if chosen is not None and ended and job.run_id:
        st.switch_page(shared.INSPECT, query_params={"run": job.run_id, "step": str(chosen + 1)})
    if ended and len(trace):
        hint = "Choose a token to see the distribution that it was drawn from."
        st.caption(shared.as_text(f"{smallest_p_sentence(smallest_p(trace)).capitalize()}. {hint}"))


with shared.errors_shown():
    st.title("Generate")
    st.caption(shared.as_text(model_sentence()))
    prompt_box()
    model = settings_boxes()
    st.button(
        "Run",
        type="primary",
        icon=":material/play_arrow:",
        on_click=start,
        shortcut="Ctrl+Enter",
    )
    if "refusal" in st.session_state:
        st.error(shared.as_text(st.session_state["refusal"]), icon=":material/error:")

    # The address survives a reload of the tab, the session a visit to another page.
    watched = shared.jobs().find(st.query_params.get("job", st.session_state.get("job", "")))
    if watched is not None:
        running = watched.phase != "ended"
        st.fragment(show, run_every=_POLL_SECONDS if running else None)(watched, polling=running)
    elif not shared.store().state(model).model:
        model_state(model)
    shared.settled("generate")
