"""History lists every run, newest first, a page at a time, and deletes one only after asking."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.app_pages import shared
from dashboard.errors import HistoryBusy
from dashboard.history import History
from dashboard.sampling.settings import SamplingSettings
from tests.pages.conftest import Opener
from tests.pages.samples import MARKUP, markdown, plain, press, shown, store_run


def prompts(app: AppTest) -> list[str]:
    return [str(prompt) for prompt in app.dataframe[0].value["Prompt"]]


def choose(app: AppTest, history: History, row: int, *, offset: int = 0) -> AppTest:
    """Select a row, as a click on its box does."""
    ids = tuple(summary.public_id for summary in history.page(offset, 25).rows)
    selection: Any = {"selection": {"rows": [row], "columns": [], "cells": []}}
    app.session_state[f"runs-{hash(ids)}"] = selection
    return app.run()


def answer(app: AppTest, label: str) -> AppTest:
    """Press a button of the dialog that Delete opens. AppTest runs whole pages: Delete must be pressed with it."""
    question, *answers = [button for button in app.button if button.label in {"Delete", label}]
    assert question.key != "delete-for-good"
    question.click()
    answers[-1].click()
    return app.run()


def test_without_any_run_the_page_says_so_and_shows_the_way_on(open_page: Opener) -> None:
    app = shown(open_page("history"))
    assert "No run is stored yet." in markdown(app)
    assert [link.proto.label for link in app.get("page_link")] == ["Generate the first one"]


def test_a_run_is_one_line_with_its_facts(open_page: Opener, history: History) -> None:
    settings = SamplingSettings(seed=2**63 - 1, top_p=0.85)
    _, steps = store_run(history, prompt="A\nB  C\x00", settings=settings)
    app = shown(open_page("history"))
    line = app.dataframe[0].value.iloc[0]
    assert line["Tokens"] == len(steps)
    assert line["Mean nucleus"] == pytest.approx(sum(step.nucleus_size for step in steps) / len(steps))
    assert line["Nucleus size over steps"][0] == pytest.approx(steps[0].nucleus_size)
    assert line["Seed"] == "9223372036854775807", "every digit of the largest seed"
    assert (line["p"], line["Model"], line["Status"]) == (0.85, "Pocket GPT-2", "full length")
    assert "\n" not in line["Prompt"]
    assert "\x00" not in line["Prompt"]
    assert "1 run, newest first. Choose one to open or delete it." in markdown(app)


def test_sixty_runs_are_paged_newest_first(open_page: Opener, history: History) -> None:
    for number in range(60):
        store_run(history, steps=1, prompt=f"run {number}")
    app = shown(open_page("history"))
    assert "60 runs, newest first. Choose one to open or delete it." in markdown(app)
    assert prompts(app) == [f"run {number}" for number in range(59, 34, -1)]
    assert plain(app) == ["1 to 25 of 60"]
    [newer] = [button for button in app.button if button.label == "Newer"]
    assert newer.disabled
    app = shown(press(app, "Older"))
    assert prompts(app) == [f"run {number}" for number in range(34, 9, -1)]
    app = shown(press(app, "Older"))
    assert prompts(app) == [f"run {number}" for number in range(9, -1, -1)]
    assert plain(app) == ["51 to 60 of 60"]
    [older] = [button for button in app.button if button.label == "Older"]
    assert older.disabled
    app = shown(press(app, "Newer"))
    assert plain(app) == ["26 to 50 of 60"]
    for asked, first in (("99", "51 to 60 of 60"), ("-3", "1 to 25 of 60"), ("nonsense", "1 to 25 of 60")):
        assert plain(shown(open_page("history", page=asked))) == [first]


def test_nothing_can_be_opened_or_deleted_before_a_run_is_chosen(open_page: Opener, history: History) -> None:
    store_run(history)
    app = shown(open_page("history"))
    assert {button.label: button.disabled for button in app.button} == {"Open": True, "Delete": True}


def test_the_chosen_run_is_opened(open_page: Opener, history: History) -> None:
    for number in range(3):
        store_run(history, prompt=f"run {number}")
    app = shown(press(shown(choose(open_page("history"), history, 2)), "Open"))
    assert app.title[0].value == "Inspect"
    assert app.query_params["run"] == history.page(2, 1).rows[0].public_id


def test_a_run_is_deleted_only_after_the_question_is_answered(open_page: Opener, history: History) -> None:
    for number in range(3):
        store_run(history, prompt=f"run {number}")
    app = shown(press(shown(choose(open_page("history"), history, 1)), "Delete"))
    assert "“run 1”" in plain(app)
    assert history.page(0, 1).total == 3, "asked, not yet deleted"
    app = shown(answer(app, "Delete"))
    assert [row.prompt for row in history.page(0, 9).rows] == ["run 2", "run 0"]
    assert [success.value for success in app.success] == ["The run was deleted."]
    assert prompts(app) == ["run 2", "run 0"]


def test_a_run_is_kept_if_the_question_is_answered_so(open_page: Opener, history: History) -> None:
    store_run(history)
    app = press(shown(choose(open_page("history"), history, 0)), "Delete")
    app = shown(answer(app, "Keep it"))
    assert history.page(0, 1).total == 1
    assert not app.success


def test_a_run_that_cannot_be_deleted_is_told(
    open_page: Opener, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_run(history)
    app = shown(choose(open_page("history"), history, 0))

    def refuse(self: History, public_id: str) -> None:
        raise HistoryBusy("Someone else is writing: try again.")

    monkeypatch.setattr(History, "delete_run", refuse)
    press(app, "Delete")
    app = shown(answer(app, "Delete"))
    assert [error.value for error in app.error] == [shared.as_text("Someone else is writing: try again.")]
    assert not app.success


@pytest.mark.parametrize("text", MARKUP)
def test_a_prompt_is_never_read_as_markup(open_page: Opener, history: History, text: str) -> None:
    store_run(history, prompt=text)
    app = press(shown(choose(open_page("history"), history, 0)), "Delete")
    assert not [value for value in markdown(shown(app)) if text in value]


def test_a_database_that_cannot_be_opened_is_told_in_a_sentence(
    open_page: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:////proc/no/such/folder/history.db")
    shared.config.clear()
    for page in ("history", "inspect", "generate"):
        app = shown(open_page(page))
        assert len(app.error) == 1, page
