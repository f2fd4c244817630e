"""Nucleus Lens: the router. Each page is a file in dashboard/app_pages."""

import streamlit as st

st.set_page_config(page_title="Nucleus Lens", page_icon="dashboard/app_pages/icon.svg", layout="wide")

# Streamlit leaves room above the title for a toolbar that this app does not show; the line beneath Run keeps its height
# when the Stop button gives way to a link, so that the text does not jump; and the chosen segment, in the accent colour
# on a wash of it, would be too faint in the dark: its border tells which it is.
st.html(
    "<style>.stMainBlockContainer { padding-top: 4.5rem; } .st-key-run-bar { min-height: 2.75rem; }"
    '[data-variant="segmented_control"][data-selected="true"] { color: inherit; }</style>'
)
st.logo("dashboard/app_pages/icon.svg", size="large")

st.navigation(
    [
        st.Page("dashboard/app_pages/generate.py", title="Generate", icon=":material/play_circle:", default=True),
        st.Page("dashboard/app_pages/inspect.py", title="Inspect", icon=":material/query_stats:"),
        st.Page("dashboard/app_pages/read.py", title="Read", icon=":material/menu_book:"),
        st.Page("dashboard/app_pages/history.py", title="History", icon=":material/history:"),
    ],
    position="top",
).run()
