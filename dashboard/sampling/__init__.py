"""The sampling core: a prompt becomes steps, and every step records its whole distribution.

Nothing here knows of Streamlit or SQL. `settings`, `trace`, `what_if` and `vocabulary` need numpy at most, so that
pages which only read stored runs never import torch; `truncation`, `engine` and `models` do.
"""
