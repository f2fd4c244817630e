"""Parts of pages that Streamlit does not bring along, each with its own script and style sheet."""
