"""Seven samplers on the same distribution: what each alone would keep of the chosen step, and of every step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from dashboard.app_pages import shared
from dashboard.app_pages.viewing import Latest, View, ask_for_model, choose_step
from dashboard.components.step_marker import step_marker
from dashboard.figures.canvas import Drawn
from dashboard.figures.labels import visible
from dashboard.figures.palette import Theme
from dashboard.figures.sampler_sizes import Sizes, sampler_sizes_figure
from dashboard.figures.samplers import samplers_figure
from dashboard.sampling.samplers import SAMPLERS, Kept, Sampler, shaping_only, stored_kept
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import Step

if TYPE_CHECKING:
    from dashboard.sampling.replay import Reading

Values: TypeAlias = tuple[tuple[str, float], ...]
"""Names of samplers with their values, in the order of ``SAMPLERS``; a key of caches."""

_INPUT_WIDTH: Final = 138  # pixels; two stand side by side on a phone
_DECIMALS: Final = {0.1: "%.1f", 0.01: "%.2f", 0.0001: "%.4f"}
_WHY: Final = "for top-n-sigma and for every cut that the stored head does not prove"


def samplers_view(view: View, position: int) -> None:
    """The values, the cuts of the chosen step as a figure and a table, and the kept sizes of all steps."""
    values = _values()
    st.text(
        "Each sampler alone, on the same distribution: where it is peaked, top-k still keeps its k tokens; where it is "
        "flat, top-p keeps hundreds and min-p a few. The values are yours to move; nothing is generated again."
    )
    reading = view.find_reading()
    if reading is None:
        ask_for_model(view, _WHY)
    kept = _kept(view, reading, position, values)
    drawn = samplers_figure(
        view.trace.step(position), dict(values), kept, vocabulary=view.vocabulary, theme=shared.theme()
    )
    shared.chart(drawn, "samplers")
    st.dataframe(
        kept_rows(view, position, kept, values),
        hide_index=True,
        column_config=_columns(),
        placeholder="–",
        key="sampler-table",
    )
    sizes = _sizes(view, reading, values)
    drawn = _drawn_sizes(view.key, view.settings, len(view.trace), values, reading is not None, shared.theme(), sizes)
    shared.chart(drawn, "sampler-sizes")
    step_marker(
        "sampler-sizes",
        selected=position,
        length=len(view.trace),
        key=f"{view.key}-sampler-marker",
        on_choose=choose_step,
    )


def _values() -> Values:
    """An input for the value of each sampler, and the values."""
    with st.container(horizontal=True):
        return tuple((sampler.name, _value(sampler)) for sampler in SAMPLERS)


def _value(sampler: Sampler) -> float:
    knob, key = sampler.knob, f"sampler-{sampler.name}"
    st.session_state.setdefault(key, sampler.start)
    help_text = shared.as_text(f"{knob.help} {sampler.source}.")
    if knob.kind == "int":
        return st.number_input(
            knob.label,
            min_value=int(knob.low),
            max_value=int(knob.high),
            step=1,
            help=help_text,
            key=key,
            width=_INPUT_WIDTH,
            persist_state="session",
        )
    return st.number_input(
        knob.label,
        min_value=knob.low + knob.step if knob.low_open else knob.low,
        max_value=float(knob.high),
        step=knob.step,
        format=_DECIMALS[knob.step],
        help=help_text,
        key=key,
        width=_INPUT_WIDTH,
        persist_state="session",
    )


def kept_rows(view: View, position: int, kept: Mapping[str, Kept | None], values: Values) -> pd.DataFrame:
    """One row a sampler; what is not known is left empty. Mass and probability are in per cent."""
    rank = int(view.trace.rank[position])
    rows = []
    for sampler, (name, value) in zip(SAMPLERS, values, strict=True):
        one = kept[name]
        last = one.last if one else None
        rows.append(
            {
                "Sampler": sampler.knob.label,
                "Value": f"{value:g}",
                "Kept": one.size if one else None,
                "Mass": one.mass * 100 if one and one.mass is not None else None,
                "Least likely still allowed": visible(view.vocabulary.label(last.token_id), 40) if last else None,
                "Its probability": last.probability * 100 if last else None,
                "Its rank": one.last_rank if one else None,
                "Allows this token": one.first_rank <= rank <= one.last_rank if one else None,
            }
        )
    table = pd.DataFrame(rows)
    return table.astype({"Kept": "Int64", "Its rank": "Int64", "Allows this token": "boolean"})


def _columns() -> dict[str, ColumnConfig]:
    number = st.column_config.NumberColumn
    return {
        "Value": st.column_config.TextColumn(alignment="right"),
        "Kept": number(format="localized", help="Tokens that the sampler keeps of this step."),
        "Mass": number(format="%.2f %%", help="Of these tokens in the shaped distribution."),
        "Its probability": number(format="%.4f %%", help="In the shaped distribution."),
        "Its rank": number(format="localized", help="1 is the most probable token of the shaped distribution."),
        "Allows this token": st.column_config.CheckboxColumn(help="Whether it keeps the token of the text."),
    }


def _kept(view: View, reading: Reading | None, position: int, values: Values) -> dict[str, Kept | None]:
    """What each sampler keeps of a step: by the model's distribution if it is there, else by what is stored."""
    if reading is not None:
        return _kept_by_classes(view.key, shaping_only(view.settings), position, values, reading)
    step = view.trace.step(position)
    return {name: _stored(view, step, name, value) for name, value in values}


@st.cache_data(max_entries=256, show_spinner=False)
def _kept_by_classes(
    key: str, shaping: SamplingSettings, position: int, values: Values, _reading: Reading
) -> dict[str, Kept | None]:
    """What transformers' classes keep of one step; ``key`` names the text and its model."""
    from dashboard.sampling.warpers import kept_by, shaped_at  # noqa: PLC0415  # torch, which is there once a model is

    shaped = shaped_at(_reading, shaping, position)
    return {name: kept_by(name, value, shaped) for name, value in values}


def _sizes(view: View, reading: Reading | None, values: Values) -> dict[str, Sizes]:
    """(steps,) kept sizes by sampler. One that was not asked before is computed alone, all new ones together."""
    if reading is None:
        return {
            name: _stored_sizes(view.key, view.settings, len(view.trace), name, value, view) for name, value in values
        }
    from dashboard.sampling.warpers import kept_sizes  # noqa: PLC0415  # torch, which is there once a model is

    latest, shaping = _latest_sizes(), shaping_only(view.settings)
    keys = {name: (view.key, shaping, name, value) for name, value in values}
    known = dict(latest.items())
    missing = {name: value for name, value in values if keys[name] not in known}
    if missing:
        with st.spinner("Applying the samplers to every step …"):
            known.update((keys[name], sizes) for name, sizes in kept_sizes(reading, shaping, missing).items())
    return {name: latest.get(key, partial(known.__getitem__, key)) for name, key in keys.items()}


@st.cache_resource(show_spinner=False)
def _latest_sizes() -> Latest[tuple[str, SamplingSettings, str, float], Sizes]:
    return Latest(keep=512)


@st.cache_data(max_entries=512, show_spinner=False)
def _stored_sizes(key: str, settings: SamplingSettings, length: int, name: str, value: float, _view: View) -> Sizes:
    """(steps,) kept sizes as far as they are stored, else NaN; the arguments without an underscore say of what."""
    kept = (_stored(_view, _view.trace.step(position), name, value) for position in range(length))
    return np.array([math.nan if one is None else one.size for one in kept])


def _stored(view: View, step: Step, name: str, value: float) -> Kept | None:
    return stored_kept(step, name, value, top_k=view.settings.top_k, vocabulary_size=len(view.vocabulary))


# Chosen steps come and go over the same figure: it is drawn once for each set of values.
@st.cache_resource(max_entries=16, show_spinner=False)
def _drawn_sizes(
    key: str,
    settings: SamplingSettings,
    length: int,
    values: Values,
    with_model: bool,
    theme: Theme,
    _sizes: dict[str, Sizes],
) -> Drawn:
    """The figure of all steps; the arguments without an underscore say which one."""
    return sampler_sizes_figure(_sizes, dict(values), theme=theme)
