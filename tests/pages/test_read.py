"""Read tells of every token of a text what the model itself says, however long or odd the text is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from dashboard.app_pages import shared
from dashboard.history import History
from dashboard.sampling.models import LoadedModel
from tests.pages.conftest import Opener
from tests.pages.samples import MARKUP, figures, markdown, plain, press, shown, store_run

pytestmark = pytest.mark.usefixtures("pocket")

TEXT = "Once upon a time there was a little fox who lived in the old forest."


def read(app: AppTest, text: str) -> AppTest:
    """Paste a text and press Read."""
    app.text_area(key="read-text").set_value(text).run()
    return shown(press(app, "Read"))


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: str(metric.value) for metric in app.metric}


@pytest.fixture
def model() -> LoadedModel:
    return shared.store().get("pocket")


def admitting(model: LoadedModel, text: str) -> np.ndarray:
    """(tokens,) the mass ranked above each token, from the model's own logits after the end-of-text token."""
    ids = model.encode(text)
    with torch.inference_mode():
        logits = model.model(input_ids=torch.tensor([[50_256, *ids]])).logits[0, :-1].float()
    probabilities = logits.softmax(-1)
    drawn = probabilities[range(len(ids)), ids]
    return torch.where(probabilities > drawn[:, None], probabilities, 0).sum(-1).numpy()


def test_a_text_is_impossible_at_the_tokens_that_no_nucleus_of_that_p_holds(
    open_page: Opener, model: LoadedModel
) -> None:
    app = read(open_page("read"), TEXT)
    above = admitting(model, TEXT)
    count = int((above >= 0.9).sum())
    assert 0 < count < len(above)
    assert metrics(app)["Impossible at p = 0.9"] == f"{count} of {len(above)} tokens"
    assert metrics(app)["Smallest p for this text"] == f"{above.max():.3f}"
    [answer] = [text for text in plain(app) if text.startswith("At p = 0.9")]
    assert f"impossible at {count} of {len(above)} tokens" in answer
    assert f"for the first time at step {int(np.flatnonzero(above >= 0.9)[0]) + 1}." in answer


def test_another_p_is_answered_at_once(open_page: Opener, model: LoadedModel) -> None:
    app = read(open_page("read"), TEXT)
    above = admitting(model, TEXT)
    for p in (0.3, 0.7):
        app = shown(app.select_slider[0].set_value(p).run())
        count = int((above >= p).sum())
        assert count > 0
        assert any(f"impossible at {count} of {len(above)} tokens" in text for text in plain(app))
    app = shown(app.select_slider[0].set_value(1.0).run())
    assert any("At p = 1, this text would still have been possible." in text for text in plain(app))


def test_a_text_longer_than_the_context_is_read_in_windows_and_that_is_said(
    open_page: Opener, model: LoadedModel
) -> None:
    text = " ".join(f"{TEXT} {number}" for number in range(50))
    length = len(model.encode(text))
    assert length > 2 * model.context_length - 600
    app = read(open_page("read"), text)
    assert metrics(app)["Impossible at p = 0.9"].endswith(f" of {length:,} tokens")
    [said] = [text for text in plain(app) if "overlapping windows" in text]
    assert f"{length:,} tokens, more than the 512" in said
    assert len(figures(app)) == 3


def test_the_first_token_is_read_after_the_token_between_texts(open_page: Opener) -> None:
    app = read(open_page("read"), "Once")
    assert any("read after <|endoftext|>" in text for text in plain(app))
    assert metrics(app)["Impossible at p = 0.9"].endswith("of 1 tokens")


def test_an_empty_text_is_answered_by_a_sentence(open_page: Opener) -> None:
    app = read(open_page("read"), "")
    assert len(app.error) == 1
    assert not figures(app)


@pytest.mark.parametrize("text", [*MARKUP, "<|endoftext|>", "\x00\x1b[31m", "👩\u200d👩\u200d👧", "\u202eשלום"])
def test_any_text_is_read_as_text(open_page: Opener, text: str) -> None:
    app = read(open_page("read"), text)
    assert not app.error
    assert figures(app)
    assert not [value for value in markdown(app) if text in value]


@pytest.mark.parametrize(("part", "holds"), [("prompt", "The keeper"), ("output", "The keeper t")])
def test_a_runs_text_is_taken_by_its_link(open_page: Opener, history: History, part: str, holds: str) -> None:
    run_id, _ = store_run(history, prompt="The keeper")
    app = shown(open_page("read", run=run_id, part=part))
    text = app.text_area(key="read-text").value
    assert text == "The keeper" + (history.run(run_id).output if part == "output" else "")
    assert figures(app)


def test_a_run_of_a_model_that_is_not_offered_is_read_by_the_one_to_begin_with(
    open_page: Opener, history: History
) -> None:
    run_id, _ = store_run(history, prompt="The keeper", model_name="gone")
    app = shown(open_page("read", run=run_id))
    assert app.selectbox(key="model").value == "pocket"
    assert figures(app)


def test_a_link_to_an_unknown_run_is_told_in_a_sentence(open_page: Opener) -> None:
    app = shown(open_page("read", run="nosuchrun"))
    assert len(app.error) == 1
