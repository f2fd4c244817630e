"""Generate runs the bundled model, and whatever is typed ends in a run or in one sentence."""

from __future__ import annotations

import time

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.app_pages import shared
from dashboard.history import History
from dashboard.sampling.settings import KNOBS, SamplingSettings
from tests.pages.conftest import Opener
from tests.pages.samples import MARKUP, figures, markdown, press, shape, shown, store_run

pytestmark = pytest.mark.usefixtures("pocket")

TOKENS = 8
AWKWARD = {
    "end of text": "<|endoftext|>",
    "end of text inside": "Once <|endoftext|> upon",
    "control characters": "a\x00b\x07c\x1b[31md\x7f",
    "white space": " \t\r\n\u2028\u00a0\u200b",
    "emoji": "👩\u200d👩\u200d👧 🏳️\u200d🌈 e\u0301",
    "right to left": "\u202eשלום מרחבا\u202c",
    "one character": "x",
    "percent and braces": "%s {0} {{x}} \\n ' \" --",
}


def run(app: AppTest, prompt: str, tokens: int = TOKENS) -> AppTest:
    """Type a prompt, press Run and wait for the end."""
    app.text_area(key="prompt").set_value(prompt)
    app.number_input(key="knob-max_new_tokens").set_value(tokens)
    app.number_input(key="knob-seed").set_value(7)
    app.run()
    press(app, "Run")
    deadline = time.monotonic() + 20
    while not app.get("page_link") and not app.error:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        shown(app.run())
    return shown(app)


def test_the_page_names_the_model_in_use_and_why(open_page: Opener) -> None:
    app = shown(open_page("generate"))
    choice = shared.default_choice()
    assert choice.name == "pocket"
    assert app.caption[0].value == shared.as_text(choice.sentence)
    assert "HF_HUB_OFFLINE" in choice.sentence
    assert app.selectbox(key="model").value == "pocket"


def test_every_knob_has_a_widget_with_its_help_range_and_default(open_page: Opener) -> None:
    app = shown(open_page("generate"))
    widgets = {widget.key: widget for widget in [*app.slider, *app.number_input]}
    assert set(widgets) == {f"knob-{knob.name}" for knob in KNOBS}
    for knob in KNOBS:
        widget = widgets[f"knob-{knob.name}"]
        assert widget.label.startswith(knob.label)
        assert widget.help == knob.help
        assert widget.value == knob.default
        assert widget.min == (knob.low + knob.step if knob.low_open else knob.low)
        # JavaScript's whole numbers are exact up to 2**53 - 1, and the operator limits the length.
        limit = {"seed": 2**53 - 1, "max_new_tokens": shared.config().max_new_tokens_limit}.get(knob.name, knob.high)
        assert widget.max == limit


def test_an_empty_prompt_is_refused_in_one_sentence(open_page: Opener, history: History) -> None:
    app = shown(run(open_page("generate"), ""))
    assert [error.value for error in app.error] == [
        shared.as_text("The prompt is empty: write at least one character for the model to continue.")
    ]
    assert history.page(0, 1).total == 0


def test_a_prompt_longer_than_the_context_is_refused_in_one_sentence(open_page: Opener, history: History) -> None:
    app = shown(run(open_page("generate"), "word " * 2_000))
    [error] = app.error
    assert error.value.startswith("The prompt has 2,0")
    assert "shorten the prompt" in error.value
    assert history.page(0, 1).total == 0


def test_a_run_ends_is_stored_and_offers_the_way_to_inspect_it(open_page: Opener, history: History) -> None:
    app = run(open_page("generate"), "The lighthouse keeper")
    [row] = history.page(0, 10).rows
    [link] = app.get("page_link")
    assert link.proto.label == "Inspect this run"
    assert link.proto.query_string == f"run={row.public_id}&step=1"
    trace = history.trace(row.public_id)
    assert 1 <= len(trace) <= TOKENS
    assert figures(app)[0]["data"][0]["y"] == trace.nucleus_size.tolist()
    assert (row.prompt, row.seed, row.model_name) == ("The lighthouse keeper", 7, "pocket")

    app = shown(app.switch_page(shared.INSPECT).run())
    assert shape(figures(app)[1], "cut")["x0"] == trace.step(0).nucleus_size + 0.5


def test_the_same_seed_and_settings_give_the_same_text(open_page: Opener, history: History) -> None:
    run(open_page("generate"), "Once upon a time")
    run(open_page("generate"), "Once upon a time")
    first, second = history.page(0, 2).rows
    assert first.output == second.output
    assert first.output_tokens


@pytest.mark.parametrize("prompt", AWKWARD.values(), ids=AWKWARD.keys())
def test_an_awkward_prompt_is_run_and_stored_as_it_was_typed(open_page: Opener, history: History, prompt: str) -> None:
    app = run(open_page("generate"), prompt, tokens=3)
    assert not app.error
    [row] = history.page(0, 10).rows
    record = history.run(row.public_id)
    assert record.prompt == prompt
    vocabulary = history.vocabulary(record.vocabulary_fingerprint)
    assert vocabulary.decode(record.prompt_token_ids) == prompt
    assert not vocabulary.special & set(record.prompt_token_ids), "the name of a special token is text"
    shown(app.switch_page(shared.INSPECT).run())
    shown(app.switch_page(shared.HISTORY).run())


def test_a_prompt_is_never_read_as_markup(open_page: Opener) -> None:
    app = run(open_page("generate"), " ".join(MARKUP), tokens=2)
    assert not [value for value in markdown(app) for text in MARKUP if text in value]


def test_what_is_typed_last_is_what_is_run(open_page: Opener, history: History) -> None:
    """The browser may send a last change together with the press of the button."""
    app = shown(open_page("generate"))
    app.text_area(key="prompt").set_value("Typed last")
    app.number_input(key="knob-max_new_tokens").set_value(2)
    app.slider(key="knob-top_p").set_value(0.5)
    press(app, "Run")
    [row] = history.page(0, 10).rows
    record = history.run(row.public_id)
    assert record.prompt == "Typed last"
    assert (record.settings.max_new_tokens, record.settings.top_p) == (2, 0.5)


def test_an_unknown_job_in_the_address_is_passed_over(open_page: Opener) -> None:
    app = shown(open_page("generate", job="no such job"))
    assert not app.error
    assert not app.get("page_link")


def test_an_example_fills_the_prompt(open_page: Opener) -> None:
    app = shown(open_page("generate"))
    preset = shared.presets()[1]
    shown(app.pills(key="example").set_value(preset.name).run())
    assert app.text_area(key="prompt").value == preset.prompt


def test_settings_outlive_a_visit_to_another_page(open_page: Opener, history: History) -> None:
    store_run(history)
    app = shown(open_page("generate"))
    app.slider(key="knob-top_p").set_value(0.42).run()
    app.text_area(key="prompt").set_value("Kept").run()
    app.switch_page(shared.HISTORY).run()
    app = shown(app.switch_page(shared.GENERATE).run())
    assert app.slider(key="knob-top_p").value == 0.42
    assert app.text_area(key="prompt").value == "Kept"


def test_more_than_the_queue_holds_is_refused_in_one_sentence(
    open_page: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = shown(open_page("generate"))
    runs = shared.jobs()
    running = [runs.submit("x", SamplingSettings(max_new_tokens=300, seed=1), "pocket")]
    deadline = time.monotonic() + 5
    while running[0].phase == "queued":
        assert time.monotonic() < deadline
        time.sleep(0.005)
    running += [
        runs.submit("x", SamplingSettings(max_new_tokens=300, seed=1), "pocket")
        for _ in range(shared.config().queue_limit)
    ]
    press(app, "Run")
    for job in running:
        job.stop()
    assert [error.value for error in shown(app).error] == [
        shared.as_text("8 runs are waiting already, which is the limit: wait for one to end, or stop one.")
    ]
