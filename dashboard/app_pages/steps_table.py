"""Every step of a text as one row of numbers, to sort, to search and to choose from."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from dashboard.app_pages.viewing import View, choose_step
from dashboard.figures.labels import visible
from dashboard.figures.sentences import p_value
from dashboard.sampling.what_if import nucleus_sizes_at

_ROW: Final = 35  # pixels
_ROWS_SHOWN: Final = 12


def steps_table(view: View) -> None:
    """The table, folded away until it is asked for; choosing a row chooses its step."""
    fold = st.expander("All steps as a table", icon=":material/table_rows:", key="steps-table", on_change="rerun")
    if not fold.open:
        return
    table = step_rows(view)
    key = f"{view.key}-steps"

    def choose() -> None:
        rows = st.session_state[key].selection.rows
        if rows and rows[0] < len(table):
            choose_step(int(rows[0]))

    with fold:
        st.dataframe(
            table,
            key=key,
            hide_index=True,
            column_config=_columns(view),
            on_select=choose,
            selection_mode="single-row",
            row_height=_ROW,
            height=min(len(table), _ROWS_SHOWN) * _ROW + 40,
        )


def step_rows(view: View) -> pd.DataFrame:
    """One row a step, in order; probabilities in per cent, entropy and surprisal in bits."""
    trace = view.trace
    columns = {
        "Step": range(1, len(trace) + 1),
        "Token": [visible(label, longest=40) for label in view.vocabulary.labels(trace.token_ids.tolist())],
        "Rank": trace.rank,
        "Raw": trace.raw_probability * 100,
        "Shaped": trace.probability * 100,
        "Final": trace.final_probability * 100,
        "Surprisal": trace.surprisal,
        "Entropy": trace.entropy,
        "Admitting p": trace.admitting_p,
        "Nucleus": trace.nucleus_size,
        "Kept": trace.kept_size,
        "Nucleus mass": trace.nucleus_mass * 100,
        # The mass reaches p in float32, whose last digit may lie below p.
        "Overshoot": np.maximum(trace.nucleus_mass - view.settings.top_p, 0) * 100,
    }
    if view.what_if_p is not None:
        columns[f"Nucleus at p = {p_value(view.p)}"] = nucleus_sizes_at(trace, view.p)
    columns["Cut"] = view.cut
    return pd.DataFrame(columns)


def _columns(view: View) -> dict[str, ColumnConfig]:
    number = st.column_config.NumberColumn
    cut_by = f"p = {p_value(view.p)}" if view.what_if_p is not None else "the settings"
    return {
        "Step": number(format="localized", width=60),
        "Token": st.column_config.TextColumn(width=130),
        "Rank": number(format="localized", help="1 is the most probable token of the shaped distribution.", width=70),
        "Raw": number(format="%.3f %%", help="Probability before any setting.", width=90),
        "Shaped": number(format="%.3f %%", help="Probability after penalties and temperature.", width=90),
        "Final": number(format="%.3f %%", help="Probability that it was drawn with; 0 if it was cut.", width=90),
        "Surprisal": number(format="%.2f bits", width=95),
        "Entropy": number(format="%.2f bits", help="Of the shaped distribution.", width=95),
        "Admitting p": number(format="%.4f", help="The token is in the nucleus exactly when p is greater.", width=95),
        "Nucleus": number(format="localized", help="Tokens that top-p keeps.", width=80),
        "Kept": number(format="localized", help="Tokens left after every truncation.", width=80),
        "Nucleus mass": number(format="%.3f %%", help="Of the distribution that reaches top-p.", width=105),
        "Overshoot": number(format="%.3f %%", help="How far the mass of the nucleus exceeds p.", width=90),
        "Cut": st.column_config.CheckboxColumn(help=f"Whether {cut_by} cuts the token.", width=60),
    }
