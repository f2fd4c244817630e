"""Branches of a run: going on from another token, the family as a tree, and a branch beside its parent."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.app_pages import shared
from dashboard.app_pages.knobs import knob_input
from dashboard.app_pages.other_settings import ASKABLE
from dashboard.app_pages.viewing import View
from dashboard.components.colouring import colour_values
from dashboard.components.token_strip import strip_tokens, token_strip
from dashboard.errors import NucleusLensError, RunNotFound
from dashboard.figures.canvas import PLOTLY_CONFIG
from dashboard.figures.cut import kept_ranks
from dashboard.figures.family import tree_figure
from dashboard.figures.labels import visible
from dashboard.figures.parting import parting_figure
from dashboard.figures.sentences import FACT_LABELS, count, p_value, percent, token_facts
from dashboard.history import RunRecord
from dashboard.history.branches import MOST_RUNS
from dashboard.job import Branch
from dashboard.metrics.summary import measures_of
from dashboard.sampling.catalogue import catalogue
from dashboard.sampling.settings import KNOB, SamplingSettings
from dashboard.sampling.trace import Step, Trace
from dashboard.sampling.vocabulary import Vocabulary

_KNOBS: Final = ("top_p", *ASKABLE)
_LEAST_MORE: Final = 20
_CONTEXT_SHOWN: Final = 240  # characters of the shared text before two continuations


def alternatives_view(record: RunRecord, view: View, position: int) -> None:
    """The tokens of a step, one of which can be chosen to go on from, and with which settings."""
    step = view.trace.step(position)
    left, right = st.columns([3, 2], gap="large")
    with left:
        token_id = _chosen_token(view, step)
    with right:
        _settings_boxes(view, position)
        if token_id is None:
            st.text("Choose a token: the text up to here stays, that token follows, and the model goes on from there.")
        else:
            st.text(branch_sentence(view, step, token_id, _settings(view)))
        offered = record.model_name in catalogue(shared.config())
        if not offered:
            st.text(f"{record.model_title} is not offered here, so this run cannot be continued.")
        if st.button(
            "Continue from here",
            type="primary",
            icon=":material/call_split:",
            disabled=token_id is None or not offered,
            key=f"{view.key}-branch",
        ):
            assert token_id is not None
            _start(record, view, position, token_id)


def alternative_rows(step: Step, vocabulary: Vocabulary) -> pd.DataFrame:
    """The head of a step, one row a token; probabilities in per cent."""
    kept = kept_ranks(step)
    ranks = np.arange(1, len(step.head_ids) + 1)
    states = [_own_state(step) if rank == step.rank else _state(int(rank), step, kept) for rank in ranks]
    return pd.DataFrame(
        {
            "Rank": ranks,
            "Token": [visible(label, longest=40) for label in vocabulary.labels(step.head_ids.tolist())],
            "Probability": step.head_probabilities.astype(np.float64) * 100,
            "Raw": step.head_raw_probabilities.astype(np.float64) * 100,
            "State": states,
        }
    )


def _own_state(step: Step) -> str:
    """What became of the token that stands in the text."""
    return "drawn" if step.final_probability > 0 else "in the text, forced"


def _state(rank: int, step: Step, kept: int | None) -> str:
    if rank > step.nucleus_size:
        return "cut"
    if kept is None:
        return "in the nucleus"
    return "kept" if rank <= kept else "cut later"


def branch_sentence(view: View, step: Step, token_id: int, settings: SamplingSettings) -> str:
    """What will happen: where the branch leaves the text, with which token, and whether the settings had cut it."""
    before = "The text begins" if step.position == 0 else f"The text up to step {count(step.position)}, then"
    name = f"“{visible(view.vocabulary.label(token_id))}”"
    places = np.flatnonzero(step.head_ids == token_id)
    if not len(places):
        return f"{before} {name}, below rank {count(len(step.head_ids))}: unless these settings keep it, it is forced."
    rank = int(places[0]) + 1
    told = f"{before} {name}, rank {count(rank)}, {percent(float(step.head_probabilities[rank - 1]))}"
    as_shown = all(getattr(settings, name) == getattr(view.settings, name) for name in ASKABLE)
    if not as_shown or settings.top_p != view.settings.top_p:
        return f"{told}; if the changed settings cut it, it is forced."
    if _state(rank, step, kept_ranks(step)) in {"cut", "cut later"}:
        return f"{told}: it was cut at p = {p_value(view.settings.top_p)}, so it is forced."
    return f"{told}."


def _chosen_token(view: View, step: Step) -> int | None:
    """The token to go on from: typed, or a row of the table; None before one is chosen."""
    typed = st.text_input(
        "A token of your own, or choose one below",
        key=f"{view.key}-{step.position}-typed",
        placeholder="with its leading space, if it begins a word",
    )
    event = st.dataframe(
        alternative_rows(step, view.vocabulary),
        key=f"{view.key}-{step.position}-alternatives",
        hide_index=True,
        column_config={
            "Rank": st.column_config.NumberColumn(format="localized", width=60),
            "Probability": st.column_config.NumberColumn(format="%.4f %%", help="In the shaped distribution."),
            "Raw": st.column_config.NumberColumn(format="%.4f %%", help="Before any setting."),
            "State": st.column_config.TextColumn(help="What the settings made of it. A token that was cut is forced."),
        },
        on_select="rerun",
        selection_mode="single-row",
        height=420,
    )
    if typed:
        token_id = view.vocabulary.find(typed)
        if token_id is None:
            st.text(f"“{visible(typed, longest=40)}” is not a single token of this model: try with a space before it.")
        return token_id
    rows = event.selection.rows
    return int(step.head_ids[rows[0]]) if rows and rows[0] < len(step.head_ids) else None


def _settings_boxes(view: View, position: int) -> None:
    """How far to go on, with which seed, and the other knobs folded away."""
    left, right = st.columns(2)
    limit = max(1, shared.config().max_new_tokens_limit)
    more = min(max(len(view.trace) - position - 1, _LEAST_MORE), limit)
    with left:
        # One for each step: as many are offered as the run has left there.
        key = f"{view.key}-{position}-branch-more"
        st.session_state.setdefault(key, more)
        st.number_input("Tokens to draw", 1, limit, key=key)
    with right:
        knob_input("seed", key=f"{view.key}-branch-seed")
    changed = shared.changes_told(view.settings, _settings(view))
    with st.expander("Other settings" + (f": {', '.join(changed)}" if changed else "")):
        for start in range(0, len(_KNOBS), 2):
            for column, name in zip(st.columns(2), _KNOBS[start : start + 2], strict=False):
                with column:
                    knob_input(name, key=_key(view, name), default=_own(view, name))


def _key(view: View, name: str) -> str:
    # Another question asked above gives other settings to begin with.
    return f"{view.key}-branch-{name}-{_own(view, name)}"


def _own(view: View, name: str) -> float | int:
    own: float | int = view.p if name == "top_p" else getattr(view.settings, name)
    return own


def _settings(view: View) -> SamplingSettings:
    chosen = {name: st.session_state.get(_key(view, name), _own(view, name)) for name in _KNOBS}
    return SamplingSettings.from_dict({**view.settings.as_dict(), **chosen})


def _start(record: RunRecord, view: View, position: int, token_id: int) -> None:
    """Queue the branch and watch it on Generate."""
    given = (*view.trace.token_ids[:position].tolist(), token_id)
    more, seed = (st.session_state[f"{view.key}-{name}"] for name in (f"{position}-branch-more", "branch-seed"))
    try:
        settings = SamplingSettings.from_dict(
            {**_settings(view).as_dict(), "max_new_tokens": len(given) + more, "seed": seed}
        )
        branch = Branch(record.public_id, position, record.prompt_token_ids, given)
        job = shared.jobs().submit(record.prompt, settings, record.model_name, branch)
    except NucleusLensError as error:
        st.error(shared.as_text(str(error)), icon=":material/error:")
        return
    st.session_state["job"] = job.job_id
    st.switch_page(shared.GENERATE, query_params={"job": job.job_id})


def tree_view(record: RunRecord, vocabulary: Vocabulary) -> None:
    """The family of a run that has one; a click opens a run of it."""
    nodes = shared.history().family(record.public_id)
    if len(nodes) < 2:  # noqa: PLR2004 - a family
        return
    st.subheader("Branches", anchor=False)
    if len(nodes) >= MOST_RUNS:
        st.text(f"At most {count(MOST_RUNS)} runs of a family are drawn: the way to this one, and the oldest others.")
    drawn = tree_figure(nodes, current=record.public_id, vocabulary=vocabulary, theme=shared.theme())
    event = st.plotly_chart(
        drawn.figure,
        theme=None,
        config=PLOTLY_CONFIG,
        alt=drawn.description,
        key=f"family-{record.public_id}",
        on_select="rerun",
        selection_mode="points",
    )
    by_id = {node.public_id: node for node in nodes}
    clicked = [str(point.get("customdata")) for point in event.selection.points]
    chosen = by_id.get(clicked[0]) if clicked else None
    if chosen is not None and chosen.public_id != record.public_id:
        # A branch is opened where it begins to be one.
        step = str((chosen.branch_position or 0) + 1)
        st.switch_page(shared.INSPECT, query_params={"run": chosen.public_id, "step": step})


def comparison_view(record: RunRecord, trace: Trace, vocabulary: Vocabulary) -> None:
    """A branch beside its parent, from the step where they part."""
    position = record.branch_position
    if position is None:
        return
    if record.parent is None:
        st.subheader("Beside its parent", anchor=False)
        st.text("The run that it branches from was deleted.")
        return
    try:
        parent = shared.history().run(record.parent)
        parent_trace = shared.history().trace(record.parent)
    except RunNotFound as error:
        st.text(str(error))
        return
    parting = parting_of(parent_trace, trace, position)
    st.subheader(f"Beside its parent, from step {count(parting + 1)} on", anchor=False)
    st.text(parting_sentence(record, parent, trace, position, parting=parting))
    for column, run, its_trace in zip(st.columns(2, gap="large"), (parent, record), (parent_trace, trace), strict=True):
        with column:
            _continuation(run, its_trace, vocabulary, parting, is_branch=run is record)
    if len(trace) > parting and len(parent_trace) > parting:
        drawn = parting_figure(parent_trace, trace, parting, theme=shared.theme())
        shared.chart(drawn, "parting")
    st.dataframe(measure_rows(parent_trace, trace, parting), key="parting-measures")


def parting_of(parent: Trace, branch: Trace, position: int) -> int:
    """The first step at which a branch made at ``position`` differs from its parent, or the end of the shorter one.

    That is ``position``, unless the branch begins with its parent's own token: it may go on as its parent did.
    """
    length = min(len(parent), len(branch))
    differs = np.flatnonzero(parent.token_ids[position:length] != branch.token_ids[position:length])
    return position + int(differs[0]) if len(differs) else max(position, length)


def parting_sentence(record: RunRecord, parent: RunRecord, trace: Trace, position: int, *, parting: int) -> str:
    """How a branch came to part from its parent: its token, whether that was forced, and other settings.

    Args:
        record: the branch.
        parent: its parent.
        trace: the branch's steps.
        position: where it was made.
        parting: where they differ first.
    """
    sentence = "It goes on from another token"
    if parting > position:
        sentence = f"It goes on from its parent's own token at step {count(position + 1)}"
    if len(trace) > position:
        rank, shaped = int(trace.rank[position]), float(trace.probability[position])
        forced = trace.final_probability[position] <= 0
        sentence += f", of rank {count(rank)} and probability {percent(shaped)}"
        sentence += "; its settings cut that token, so it was forced" if forced else "; its settings keep that token"
    changed = shared.changes_told(parent.settings, record.settings)
    ignored = {KNOB["seed"].label.lower(), KNOB["max_new_tokens"].label.lower()}
    told = [change for change in changed if not change.startswith(tuple(ignored))]
    return f"{sentence}. " + (f"Other settings: {', '.join(told)}." if told else "The settings are the same.")


def measure_rows(parent: Trace, branch: Trace, position: int) -> pd.DataFrame:
    """Measures of both from the step on where they part, one row a run."""
    rows = {}
    for name, trace in (("Parent", parent), ("This branch", branch)):
        measures = measures_of(trace.nucleus_size[position:], trace.entropy[position:], trace.surprisal[position:])
        rows[name] = {
            "Tokens": max(0, len(trace) - position),
            "Mean nucleus": round(measures.mean_nucleus_size, 1) if measures else None,
            "Mean entropy, bits": round(measures.mean_entropy, 2) if measures else None,
            "Mean surprisal, bits": round(measures.mean_surprisal, 2) if measures else None,
            "Perplexity": round(measures.perplexity, 1) if measures else None,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _continuation(run: RunRecord, trace: Trace, vocabulary: Vocabulary, position: int, *, is_branch: bool) -> None:
    """The end of the shared text, and what this run made of it."""
    st.caption("This branch" if is_branch else "Its parent")
    pieces = vocabulary.pieces(trace.token_ids.tolist())
    # A character that the next token completes is shown there.
    shared_text = run.prompt + "".join(piece.text for piece in pieces[:position])
    if len(shared_text) > _CONTEXT_SHOWN:
        shared_text = "… " + shared_text[-_CONTEXT_SHOWN:]
    tokens = strip_tokens(
        pieces[position:],
        colour_values(trace, "surprisal")[position:],
        token_facts(trace, vocabulary)[position:],
    )
    token_strip(
        shared_text,
        tokens,
        colouring="surprisal",
        fact_labels=FACT_LABELS,
        key=f"parting-{run.public_id}-{position}",
    )
