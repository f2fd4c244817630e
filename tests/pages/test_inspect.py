"""Inspect shows a stored run as it was drawn, says so when there is nothing to show, and needs no model."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.config import REPOSITORY
from dashboard.history import History
from dashboard.sampling.settings import SamplingSettings
from tests.pages.conftest import Opener
from tests.pages.samples import MARKUP, figures, markdown, numbers, plain, press, shape, shown, store_run

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def test_without_any_run_the_page_says_so_and_shows_the_ways_on(open_page: Opener) -> None:
    app = shown(open_page("inspect"))
    assert plain(app) == ["No run is stored yet."]
    assert [link.proto.label for link in app.get("page_link")] == ["Generate a run", "Choose one from the history"]


@pytest.mark.parametrize("run_id", [UNKNOWN, "no id", "'; drop table run; --", "x" * 2_000, "\x00", "é🙂"])
def test_an_id_that_is_no_run_is_told_in_a_sentence(open_page: Opener, history: History, run_id: str) -> None:
    store_run(history)
    app = shown(open_page("inspect", run=run_id))
    assert len(plain(app)) == 1
    assert not figures(app)
    assert len(app.get("page_link")) == 2
    assert history.page(0, 1).total == 1


def test_without_an_id_the_newest_run_is_shown(open_page: Opener, history: History) -> None:
    store_run(history)
    newest, _ = store_run(history)
    app = shown(open_page("inspect"))
    assert app.query_params["run"] == newest
    assert len(figures(app)) == 3


def test_without_an_id_a_newer_run_that_has_no_steps_is_passed_over(open_page: Opener, history: History) -> None:
    with_steps, _ = store_run(history)
    store_run(history, steps=0, end="stopped")
    assert shown(open_page("inspect")).query_params["run"] == with_steps


def test_a_step_is_shown_with_the_cut_where_the_run_made_it(open_page: Opener, history: History) -> None:
    run_id, steps = store_run(history)
    app = shown(open_page("inspect", run=run_id, step="4"))
    bars, mass, landscape = figures(app)
    assert shape(mass, "cut")["x0"] == steps[3].nucleus_size + 0.5
    assert shape(mass, "p")["y0"] == 0.85
    assert bars["data"][0]["x"][0] == pytest.approx(float(steps[3].head_probabilities[0]))
    assert numbers(landscape, "nucleus size", "y")[1::5] == [step.nucleus_size for step in steps]
    assert numbers(landscape, "drawn", "y") == [step.rank for step in steps]
    assert numbers(landscape, "cut", "y")[3] == steps[3].nucleus_size + 0.5
    assert app.subheader[0].value == "Step 4 of 12"
    assert not app.info


@pytest.mark.parametrize("step", ["0", "13", "-1", "99999999999999999999", "nonsense", "1.5", "", "٣x"])
def test_a_step_that_the_run_does_not_have_is_told_and_the_first_is_shown(
    open_page: Opener, history: History, step: str
) -> None:
    run_id, steps = store_run(history)
    app = shown(open_page("inspect", run=run_id, step=step))
    assert [info.value for info in app.info] == [
        "This run has 12 steps and none of the number in the link, so its first step is shown."
    ]
    assert app.subheader[0].value == "Step 1 of 12"
    assert shape(figures(app)[1], "cut")["x0"] == steps[0].nucleus_size + 0.5


def test_another_p_moves_the_cut_and_counts_the_tokens_that_it_would_have_dropped(
    open_page: Opener, history: History
) -> None:
    run_id, steps = store_run(history, steps=30)
    app = open_page("inspect", run=run_id, step="2")
    struck_at = {}
    for p, column in ((0.5, 49), (0.1, 9)):
        app = shown(app.select_slider[0].set_value(p).run())
        mass = figures(app)[1]
        assert shape(mass, "cut")["x0"] == int(steps[1].size_curve[column]) + 0.5
        assert shape(mass, "run's cut")["x0"] == steps[1].nucleus_size + 0.5
        struck_at[p] = [step.position for step in steps if step.admitting_p >= p]
        assert (
            f"At p = {p}, this text would have been impossible at {len(struck_at[p])} of 30 tokens, "
            f"for the first time at step {struck_at[p][0] + 1}." in _answer(app)
        )
        single = sum(int(step.size_curve[column]) == 1 for step in steps)
        assert f"{single} of 30 steps would keep a single token" in _answer(app)
        landscape = figures(app)[2]
        # The line of the other p lies over the landscape, which stays as it is.
        assert numbers(landscape, "nucleus size", "y")[1::5] == [step.nucleus_size for step in steps]
        assert app.query_params["p"] == str(p)
    assert 0 < len(struck_at[0.5]) < len(struck_at[0.1])
    app = shown(app.select_slider[0].set_value(1.0).run())
    assert "At p = 1, this text would still have been possible." in _answer(app)
    app = shown(app.select_slider[0].set_value(0.85).run())
    assert not any("would" in text for text in plain(app))
    assert "p" not in app.query_params
    assert shape(figures(app)[1], "cut")["x0"] == steps[1].nucleus_size + 0.5


def test_a_p_in_the_address_is_asked_about_and_nonsense_there_is_passed_over(
    open_page: Opener, history: History
) -> None:
    run_id, _ = store_run(history)
    assert open_page("inspect", run=run_id, p="0.5").select_slider[0].value == 0.5
    for p in ("nonsense", "0", "-1", "0.12345", "1e400", ""):
        assert shown(open_page("inspect", run=run_id, p=p)).select_slider[0].value == 0.85


def test_other_settings_need_the_model_and_say_so(open_page: Opener, history: History) -> None:
    run_id, _ = store_run(history)
    app = open_page("inspect", run=run_id)
    app.session_state[f"run-{run_id}-what-if-temperature"] = 0.5
    app = shown(app.run())
    assert "Pocket GPT-2 is needed to replay the text with other settings, and is not in memory." in plain(app)
    assert "Load the model" in [button.label for button in app.button]
    app.session_state[f"run-{run_id}-other-settings"] = True  # open
    app = shown(app.run())
    assert app.number_input(key=f"run-{run_id}-what-if-temperature").value == 0.5
    app = shown(press(app, "Back to how it is"))
    assert not any("needed to replay" in text for text in plain(app))


@pytest.mark.parametrize("top_p", [0.333, 0.9999, 1.0, 1e-6])
def test_a_run_whose_p_is_no_point_of_the_slider_is_shown_at_its_own_p(
    open_page: Opener, history: History, top_p: float
) -> None:
    run_id, steps = store_run(history, settings=SamplingSettings(top_p=top_p, seed=1))
    app = shown(open_page("inspect", run=run_id))
    assert app.select_slider[0].value == top_p
    options = app.select_slider[0].options
    assert len(set(options)) == len(options)
    assert shape(figures(app)[1], "cut")["x0"] == steps[0].nucleus_size + 0.5


def test_a_run_without_steps_is_told_as_such(open_page: Opener, history: History) -> None:
    run_id, _ = store_run(history, steps=0, end="stopped")
    app = shown(open_page("inspect", run=run_id, step="1"))
    assert "No token of this run is stored, so there is nothing to inspect." in plain(app)
    assert not figures(app)


def test_an_interrupted_run_shows_what_it_had_written(open_page: Opener, history: History) -> None:
    run_id, steps = store_run(history, steps=5, end=None)
    assert history.mark_interrupted(timedelta(0)) == 1
    app = shown(open_page("inspect", run=run_id))
    assert [warning.value for warning in app.warning] == [
        "The run was interrupted after 5 tokens, because the application ended; what it had written is here: "
        "run it again for the whole text\\.".replace(":", "\\:")
    ]
    assert numbers(figures(app)[2], "nucleus size", "y")[1::5] == [step.nucleus_size for step in steps]


def test_a_run_that_still_grows_is_told_as_such(open_page: Opener, history: History) -> None:
    run_id, _ = store_run(history, steps=3, end=None)
    app = shown(open_page("inspect", run=run_id))
    assert len(app.info) == 1
    assert len(figures(app)) == 3


@pytest.mark.parametrize("text", MARKUP)
def test_a_prompt_is_never_read_as_markup(open_page: Opener, history: History, text: str) -> None:
    run_id, _ = store_run(history, prompt=text, model_title=text)
    app = shown(open_page("inspect", run=run_id))
    assert not [value for value in markdown(app) if text in value]


def test_tokens_are_never_read_as_markup_by_a_figure(open_page: Opener, history: History) -> None:
    run_id, steps = store_run(history, steps=30)
    app = open_page("inspect", run=run_id)
    marked = [step.position for step in steps if any(i < len(MARKUP) for i in step.head_ids[:20].tolist())]
    assert marked, "some step has such a token among its bars"
    app = shown(open_page("inspect", run=run_id, step=str(marked[0] + 1)))
    assert not [value for figure in figures(app) for value in _strings(figure) if "<b>x</b>" in value]


def _answer(app: AppTest) -> str:
    """What the page says of the p that is asked about."""
    [answer] = [text for text in plain(app) if text.startswith(("At p", "With "))]
    return answer


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for child in children for text in _strings(child)]


def test_its_prompt_and_settings_can_be_taken_to_generate(open_page: Opener, history: History, pocket: None) -> None:
    settings = SamplingSettings(top_p=0.6, temperature=0.7, top_k=40, max_new_tokens=17, seed=123)
    run_id, _ = store_run(history, settings=settings, prompt="Again, please")
    app = shown(press(open_page("inspect", run=run_id), "Use its prompt and settings"))
    assert app.title[0].value == "Generate"
    assert app.text_area(key="prompt").value == "Again, please"
    knobs = {widget.key.removeprefix("knob-"): widget.value for widget in [*app.slider, *app.number_input]}
    assert knobs == settings.as_dict()


_WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None
from streamlit.testing.v1 import AppTest

for page, charts in (("inspect", 3), ("history", 0)):
    app = AppTest.from_file("streamlit_app.py", default_timeout=30)
    app.switch_page(f"dashboard/app_pages/{page}.py").run()
    assert not app.exception, app.exception
    assert not app.error, app.error
    assert app.title[0].value.lower() == page
    assert len(app.get("plotly_chart")) == charts
print("shown")
"""


def test_a_stored_run_is_shown_where_torch_is_not_installed(history: History, database_url: str) -> None:
    store_run(history)
    child = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH],
        cwd=REPOSITORY,
        env={**os.environ, "DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.strip() == "shown"
