"""Pure functions from steps and traces to Plotly figures, each with a description in words."""
