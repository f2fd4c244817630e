"""A page of its own for the parts that choose steps: a strip, a chart with the marker, and what stands around them."""

from __future__ import annotations

import time

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from dashboard.components.step_marker import step_marker
from dashboard.components.token_strip import strip_tokens, token_strip
from dashboard.figures.canvas import PLOTLY_CONFIG, ROOM_FOR_A_LABEL, new_figure
from dashboard.figures.palette import PALETTES
from dashboard.sampling.vocabulary import Piece

LENGTH = 60
# The page is as slow as one that draws figures, so that what the browser does by itself can be told apart.
SECONDS_TO_ANSWER = 0.3


def chart(name: str, version: int = 0) -> None:
    """Two rows on one x axis; another version is another figure."""
    palette = PALETTES["dark" if st.context.theme.type == "dark" else "light"]
    figure = new_figure(palette, name, [ROOM_FOR_A_LABEL], height=360, bottom=44)
    steps = list(range(1, LENGTH + 1))
    heights = [(step * 7 + version) % 10 for step in steps]
    figure.add_trace(go.Scatter(x=steps, y=heights, mode="markers", marker={"color": palette.drawn}))
    figure.add_trace(go.Bar(x=steps, y=heights, yaxis="y2", marker={"color": palette.kept}))
    figure.update_layout(yaxis={"domain": [0.55, 1]}, yaxis2={"domain": [0, 0.45], "fixedrange": True})
    figure.update_layout(dragmode="zoom", uirevision="steps")
    figure.update_xaxes(range=[0.4, LENGTH + 0.6], fixedrange=False, anchor="y2")
    st.plotly_chart(figure, theme=None, config={**PLOTLY_CONFIG, "doubleClick": "reset"}, key=name)


@st.fragment
def explorer() -> None:
    """What is redrawn with a choice."""

    def choose(position: int) -> None:
        st.session_state["step"] = position
        st.session_state["choices"] = st.session_state.get("choices", 0) + 1

    selected = st.session_state.setdefault("step", 9)
    if st.session_state.get("choices"):
        time.sleep(SECONDS_TO_ANSWER)
    tokens = strip_tokens([Piece(f" t{i}") for i in range(LENGTH)], np.zeros(LENGTH), [("fact",)] * LENGTH)
    token_strip(
        "Prompt",
        tokens,
        colouring="rank",
        fact_labels=("Fact",),
        key="strip",
        selected=selected,
        on_choose=choose,
        keyboard=True,
    )
    if st.checkbox("Show the chart", value=True):
        version = int(st.number_input("Version", 0, 9))
        chart("chart", version)
        step_marker("chart", selected=selected, length=LENGTH, key="marker", on_choose=choose)
        st.text("Below")
    chart("other")
    st.slider("Slider", 0, 10, 5)
    st.selectbox("Box", ["one", "two", "three"])
    st.text_input("Field", "some text")
    st.text(f"Step {selected + 1} after {st.session_state.get('choices', 0)} choices")


st.set_page_config(layout="wide")
explorer()
