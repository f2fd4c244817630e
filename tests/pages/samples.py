"""Stored runs for the pages to show, and what a page shows of them."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from streamlit.testing.v1 import AppTest

from dashboard.history import History
from dashboard.sampling.trace import Step, StopReason
from dashboard.sampling.vocabulary import Vocabulary
from tests.history.samples import sample_run, sample_steps

MARKUP = ("<b>x</b>", "$x$", "**x**", "[x](http://x)", "`x`")
"""What Markdown and HTML would make something else of."""

VOCABULARY = Vocabulary(tuple(token.encode() for token in [*MARKUP, *(f" t{i}" for i in range(1_000 - len(MARKUP)))]))


def store_run(
    history: History, *, steps: int = 12, end: StopReason | None = "length", **changes: Any
) -> tuple[str, list[Step]]:
    """Store a run of some steps; ``end`` None leaves it running."""
    history.save_vocabulary(VOCABULARY)
    drawn = sample_steps(steps, vocabulary=len(VOCABULARY))
    run_id = history.create_run(sample_run(vocabulary_fingerprint=VOCABULARY.fingerprint, **changes))
    history.start_run(run_id)
    text = VOCABULARY.decode([step.token_id for step in drawn])
    history.append_steps(run_id, drawn, text)
    if end is not None:
        status: Any = {"stopped": "stopped", "error": "failed"}.get(end, "finished")
        history.finish_run(run_id, status=status, stop_reason=end, output=text, seconds=1.0)
    return run_id, drawn


def figures(app: AppTest) -> list[dict[str, Any]]:
    """The Plotly figures of a page, in its order."""
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def numbers(figure: dict[str, Any], name: str, axis: str) -> list[float]:
    """The numbers of one axis of the one trace of that name, however Plotly has packed them."""
    [found] = [trace for trace in figure["data"] if trace.get("name") == name]
    packed = found[axis]
    values = packed
    if isinstance(packed, dict):
        values = np.frombuffer(base64.b64decode(packed["bdata"]), dtype=packed["dtype"]).tolist()
    return [float(value) for value in values]


def shape(figure: dict[str, Any], name: str) -> dict[str, Any]:
    """The one shape of that name."""
    [found] = [shape for shape in figure["layout"]["shapes"] if shape.get("name") == name]
    return dict(found)


def markdown(app: AppTest) -> list[str]:
    """All text of a page that is read as Markdown or HTML."""
    kinds = (app.markdown, app.caption, app.title, app.subheader, app.error, app.warning, app.info, app.success)
    return [str(element.value) for elements in kinds for element in elements]


def plain(app: AppTest) -> list[str]:
    """All text of a page that is shown as it is."""
    return [str(element.value) for element in app.text]


def press(app: AppTest, label: str) -> AppTest:
    """Press the one button with this label."""
    [button] = [button for button in app.button if button.label == label]
    return button.click().run()


def shown(app: AppTest) -> AppTest:
    """The app itself, once it is certain that nothing in it raised."""
    assert not app.exception, [element.message for element in app.exception]
    return app
