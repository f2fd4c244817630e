"""A known text with its steps, to be walked through and questioned: the heart of Inspect and of Read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

import numpy as np
import streamlit as st

from dashboard.app_pages import shared
from dashboard.app_pages.other_settings import other_settings
from dashboard.app_pages.samplers_view import samplers_view
from dashboard.app_pages.stages_view import stages_view
from dashboard.app_pages.steps_table import steps_table
from dashboard.app_pages.viewing import View, asked_step, choose_step
from dashboard.components.colouring import SCALES, Colouring, colour_values
from dashboard.components.step_marker import Question, step_marker
from dashboard.components.token_strip import strip_tokens, token_strip
from dashboard.figures.bars import bars_figure
from dashboard.figures.canvas import Drawn, sentence_case
from dashboard.figures.landscape import CutLine, landscape_figure
from dashboard.figures.mass import mass_figure
from dashboard.figures.palette import Theme
from dashboard.figures.sentences import FACT_LABELS, count, drawn_sentence, edge_sentence, p_value, token_facts
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import HEAD_SIZE, SIZE_CURVE_P
from dashboard.sampling.what_if import nucleus_masses_at, nucleus_sizes_at

StepPart: TypeAlias = Callable[[View, int], None]
"""Shows one side of the chosen step."""

_LONG_TEXT: Final = 600  # tokens
_TEXT_HEIGHT: Final = 460  # pixels
_DEEPER: Final = 8
_NAMED: Final = 5  # steps that a sentence names one by one


@st.fragment
def explorer(view: View, more: Mapping[str, StepPart] | None = None) -> None:
    """All that changes with the chosen step, p or other settings; redrawn by itself.

    Args:
        view: the text as it is stored or was read.
        more: further sides of a step, by the name under which they are offered.
    """
    selected = asked_step(len(view.trace)) or 0
    colouring, asked = _controls(view)
    for sentence in _answers(view, asked):
        st.text(sentence)
    _strip(asked, selected, colouring)
    _step(asked, selected, {"Distribution": _distribution, **_PARTS, **(more or {})})
    _landscape(view, asked, selected)
    steps_table(asked)


def _controls(view: View) -> tuple[Colouring, View]:
    """The colouring of the text, and the view at the p and with the settings that are asked about."""
    left, middle, right = st.columns([3, 6, 2], gap="medium", vertical_alignment="bottom")
    colouring = left.selectbox(
        "Colour by", list(SCALES), format_func=lambda name: SCALES[name].label, key="colouring", persist_state="session"
    )
    with middle:
        p = _p_slider(view)
    with right:
        asked = other_settings(view)
    return colouring, replace(asked, p=p)


def _p_slider(view: View) -> float:
    """The p of the question, which the address keeps; one that the size curves answer exactly."""
    own = view.settings.top_p
    options = sorted({*SIZE_CURVE_P, own, 1.0})
    key = f"{view.key}-p"

    def keep() -> None:
        p = st.session_state[key]
        if p == own:
            st.query_params.pop("p", None)
        else:
            st.query_params["p"] = f"{p:g}"

    if key not in st.session_state:
        asked = {f"{p:g}": p for p in options}.get(st.query_params.get("p", ""), own)
        st.session_state[key] = asked
    return float(
        st.select_slider(
            "What if p had been …",
            options,
            format_func=lambda p: f"{p:g} ({view.own_name})" if p == own else p_value(p),
            key=key,
            on_change=keep,
            help="Moves the cut of every step; nothing is generated again.",
        )
    )


def _answers(view: View, asked: View) -> list[str]:
    """What the question means for the text as it stands; without a question, what is unusual about the text."""
    cut = np.flatnonzero(asked.cut).tolist()
    if not view.drawn or is_question(view, asked):
        return [what_if_sentence(view, asked, cut)]
    return [forced_sentence(cut)] if cut else []


def forced_sentence(cut: Sequence[int]) -> str:
    """Which tokens stand in a text although its settings had cut them; ``cut`` are their positions, at least one."""
    steps = ", ".join(count(position + 1) for position in cut[:_NAMED]) + (" …" if len(cut) > _NAMED else "")
    tokens = "One token is" if len(cut) == 1 else f"{count(len(cut))} tokens are"
    return f"{tokens} outside the kept set and stand{'s' if len(cut) == 1 else ''} here all the same: step {steps}."


def what_if_sentence(view: View, asked: View, cut: Sequence[int]) -> str:
    """What another p or other settings mean for a text: what would have been cut, and how often one token is left.

    Args:
        view: the text as it is.
        asked: the same text at another p or with other settings.
        cut: positions of the tokens that these would have cut.
    """
    length = len(asked.trace)
    question = f"at p = {p_value(asked.p)}"
    if asked.settings != view.settings:
        question = f"with {', '.join(shared.changes_told(view.settings, asked.settings))}, {question}"
    answer = "this text would still have been possible."
    if cut:
        answer = (
            f"this text would have been impossible at {count(len(cut))} of {count(length)} tokens, "
            f"for the first time at step {count(cut[0] + 1)}."
        )
    single, before = (int(np.count_nonzero(_cut_line(of).sizes == 1)) for of in (asked, view))
    kept = f"{count(single)} of {count(length)} steps would keep a single token"
    if is_question(view, asked):
        kept += f"; {view.own_name if not view.drawn else 'in this run'}, {count(before)} do"
    return f"{sentence_case(question)}, {answer} {kept}."


def is_question(view: View, asked: View) -> bool:
    """Whether something else is asked about than what the text is."""
    return asked.what_if_p is not None or asked.settings != view.settings


def _cut_line(view: View) -> CutLine:
    """Where the cut falls at every step at the p that is asked about."""
    if view.what_if_p is None:
        return CutLine(f"p = {p_value(view.p)}", view.p, view.trace.nucleus_size, view.trace.nucleus_mass)
    sizes, masses = nucleus_sizes_at(view.trace, view.p), nucleus_masses_at(view.trace, view.p)
    return CutLine(f"p = {p_value(view.p)}", view.p, sizes, masses)


def _strip(view: View, selected: int, colouring: Colouring) -> None:
    """The text, every token of which can be chosen."""
    trace, vocabulary = view.trace, view.vocabulary
    cut = np.flatnonzero(view.cut).tolist()
    note = f"not in the nucleus at p = {p_value(view.p)}" if view.what_if_p is not None else "not in the kept set"
    tokens = strip_tokens(
        vocabulary.pieces(trace.token_ids.tolist()),
        colour_values(trace, colouring),
        token_facts(trace, vocabulary, nucleus_sizes=_cut_line(view).sizes),
    )
    # A text of many screens scrolls by itself, so that its steps stay in reach.
    with st.container(height=_TEXT_HEIGHT if len(trace) > _LONG_TEXT else "content", border=False):
        token_strip(
            view.prompt,
            tokens,
            colouring=colouring,
            fact_labels=FACT_LABELS,
            key=f"{view.key}-strip",
            selected=selected,
            struck=cut,
            struck_note=note if cut else "",
            on_choose=choose_step,
            keyboard=True,
        )


def _step(view: View, selected: int, parts: Mapping[str, StepPart]) -> None:
    """The chosen step, from the side that is asked for."""
    step = view.trace.step(selected)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader(f"Step {count(selected + 1)} of {count(len(view.trace))}", anchor=False)
        part = st.segmented_control(
            "Show of this step",
            list(parts),
            default=next(iter(parts)),
            required=True,
            key="step-part",
            label_visibility="collapsed",
            wrap=True,
            persist_state="session",
        )
    # The border that is recorded is that of the settings, whatever p is asked about.
    at = "" if view.what_if_p is None else f"at p = {p_value(view.settings.top_p)}, "
    st.text(f"{sentence_case(drawn_sentence(step))}; {at}{edge_sentence(step, view.vocabulary)}.")
    parts.get(part or "", _distribution)(view, selected)


def _distribution(view: View, selected: int) -> None:
    """The most probable tokens by name, and the mass of the whole vocabulary by rank."""
    step = view.trace.step(selected)
    left, right = st.columns(2, gap="large")
    for column, name, figure in ((left, "bars", bars_figure), (right, "mass", mass_figure)):
        with column:
            drawn = figure(
                step,
                top_p=view.settings.top_p,
                vocabulary=view.vocabulary,
                theme=shared.theme(),
                what_if_p=view.what_if_p,
            )
            shared.chart(drawn, name)


_PARTS: Final[dict[str, StepPart]] = {"Samplers": samplers_view, "How it was made": stages_view}


def _landscape(view: View, asked: View, selected: int) -> None:
    """Every step and every rank; a click chooses the step. Another p is a line over it, which leaves its zoom alone."""
    as_drawn = replace(asked, p=asked.settings.top_p)
    question, deepest = question_of(asked)
    drawn = _drawn_landscape(
        asked.key, asked.settings, view.settings, len(asked.trace), deepest, shared.theme(), as_drawn, view
    )
    shared.chart(drawn, "landscape")
    step_marker(
        "landscape",
        selected=selected,
        length=len(asked.trace),
        key=f"{asked.key}-marker",
        on_choose=choose_step,
        question=question,
    )


def question_of(asked: View) -> tuple[Question | None, int]:
    """The line of the p that is asked about, and the number of tokens down to which the landscape must reach for it.

    That number is 0 where the landscape reaches so far by itself, else one of a few: a slider that is moved on is not
    to change the axes each time.
    """
    if asked.what_if_p is None:
        return None, 0
    sizes = _cut_line(asked).sizes
    rows = {"yaxis": (sizes + 0.5).tolist(), "yaxis2": sizes.tolist()}
    largest = int(sizes.max())
    reaches = largest <= max(int(asked.trace.nucleus_size.max()), int(asked.trace.rank.max()))
    return Question(f"what if p = {p_value(asked.p)}", rows), 0 if reaches else _next_depth(largest)


def _next_depth(tokens: int) -> int:
    depth = HEAD_SIZE
    while depth < tokens:
        depth *= _DEEPER
    return depth


# Chosen steps and other p come and go over the same landscape: it is drawn once for the settings.
@st.cache_resource(max_entries=16, show_spinner=False)
def _drawn_landscape(
    key: str,
    settings: SamplingSettings,
    own: SamplingSettings,
    length: int,
    deepest: int,
    theme: Theme,
    _asked: View,
    _view: View,
) -> Drawn:
    """The landscape of a view; the arguments without an underscore say which one."""
    other = None
    if settings != own:
        other = replace(_cut_line(_view), name=f"{_view.own_name}, p = {p_value(_view.p)}")
    return landscape_figure(
        _asked.trace,
        cut=_cut_line(_asked),
        other=other,
        vocabulary=_asked.vocabulary,
        theme=theme,
        room_for=deepest,
    )
