"""History: every stored run, newest first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from dashboard.app_pages import shared
from dashboard.figures.labels import visible
from dashboard.figures.sentences import count
from dashboard.history import RunSummary

_PAGE_LENGTH = 25
_PREVIEW = 160


def preview(text: str) -> str:
    """The beginning of a text in one line: newlines as marks, words apart as they are."""
    words = text[:_PREVIEW].replace("\n", " ⏎ ").split(" ")
    return " ".join(visible(word, longest=_PREVIEW) for word in words if word)


def table(rows: Sequence[RunSummary]) -> pd.DataFrame:
    """One line a run, in the order given."""
    return pd.DataFrame(
        {
            "When": [row.created_at for row in rows],
            "Prompt": [preview(row.prompt) for row in rows],
            "Output": [preview(row.output) for row in rows],
            "Model": [row.model_title for row in rows],
            "p": [row.top_p for row in rows],
            "Tokens": [row.output_tokens for row in rows],
            "Mean nucleus": [row.mean_nucleus_size for row in rows],
            "Nucleus size over steps": [list(row.sparkline) for row in rows],
            # A seed may be larger than the browser's numbers are exact.
            "Seed": [str(row.seed) for row in rows],
            "Status": [shared.ending(row.status, row.stop_reason) for row in rows],
        }
    )


def column_config() -> dict[str, ColumnConfig]:
    """Formats and widths."""
    number = st.column_config.NumberColumn
    return {
        "When": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", help="In UTC", width=130),
        "Prompt": st.column_config.TextColumn(width=215),
        "Output": st.column_config.TextColumn(width=200),
        "Model": st.column_config.TextColumn(width=150),
        "p": number(format="%.2f", help="Top-p of the run", width=55),
        "Tokens": number(format="%d", help="Tokens drawn", width=65),
        "Mean nucleus": number(format="%.1f", help="Mean nucleus size, tokens", width=105),
        "Nucleus size over steps": st.column_config.LineChartColumn(width=150),
        "Seed": st.column_config.TextColumn(width=100),
        "Status": st.column_config.TextColumn(width=110),
    }


@st.dialog("Delete this run?")
def confirm_deletion(row: RunSummary) -> None:
    """Ask before a run is deleted."""
    st.text(f"“{preview(row.prompt)}”")
    st.write(f"Its {count(row.output_tokens)} tokens with their distributions cannot be brought back.")
    with st.container(horizontal=True):
        if st.button("Delete", type="primary", icon=":material/delete:", key="delete-for-good"):
            with shared.errors_shown():
                shared.history().delete_run(row.public_id)
            st.session_state["history-note"] = "The run was deleted."
            st.rerun()
        if st.button("Keep it"):
            st.rerun()


def page_number(total: int) -> int:
    """The page asked for in the URL, or the nearest that exists."""
    last = max(1, math.ceil(total / _PAGE_LENGTH))
    try:
        asked = int(st.query_params.get("page", "1"))
    except ValueError:
        asked = 1
    return min(max(asked, 1), last)


def pager(number: int, total: int) -> None:
    """Newer and older, with what is shown between them."""

    def turn(to: int) -> None:
        st.query_params["page"] = str(to)

    first, last = (number - 1) * _PAGE_LENGTH + 1, min(number * _PAGE_LENGTH, total)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Newer", icon=":material/chevron_left:", disabled=number == 1, on_click=turn, args=(number - 1,))
        st.text(f"{count(first)} to {count(last)} of {count(total)}")
        st.button("Older", icon=":material/chevron_right:", disabled=last == total, on_click=turn, args=(number + 1,))


with shared.errors_shown():
    st.title("History")
    shared.jobs()  # looks after the history: a run whose process has died is marked as interrupted
    stored = shared.history()
    total = stored.page(0, 0).total
    number = page_number(total)
    page = stored.page((number - 1) * _PAGE_LENGTH, _PAGE_LENGTH)
    if note := st.session_state.pop("history-note", None):
        st.success(note, icon=":material/check:")
    if not page.rows:
        st.write("No run is stored yet.")
        st.page_link(shared.GENERATE, label="Generate the first one", icon=":material/play_circle:")
        st.stop()
    st.caption(f"{count(total)} {'run' if total == 1 else 'runs'}, newest first. Choose one to open or delete it.")
    # The key holds the ids shown, so that a choice never outlives the rows that it was made among.
    shown = hash(tuple(row.public_id for row in page.rows))
    event = st.dataframe(
        table(page.rows),
        key=f"runs-{shown}",
        hide_index=True,
        column_config=column_config(),
        on_select="rerun",
        selection_mode="single-row",
        row_height=38,
        height=min(len(page.rows), _PAGE_LENGTH) * 38 + 40,
    )
    chosen = [page.rows[index] for index in event.selection.rows if index < len(page.rows)]
    with st.container(horizontal=True):
        if st.button("Open", type="primary", icon=":material/query_stats:", disabled=not chosen):
            st.switch_page(shared.INSPECT, query_params={"run": chosen[0].public_id})
        if st.button("Delete", icon=":material/delete:", disabled=not chosen):
            confirm_deletion(chosen[0])
    if total > _PAGE_LENGTH:
        pager(number, total)
    shared.settled("history")
