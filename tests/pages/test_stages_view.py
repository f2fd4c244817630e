"""The part of a page that shows how a step's distribution was made, with and without a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from dashboard.app_pages import stages_view as part
from dashboard.app_pages.viewing import View
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.stages import Misreading, Stages, Truncation
from dashboard.sampling.staging import stages_of
from dashboard.sampling.stored_stages import stored_stages
from dashboard.sampling.trace import Step, Trace
from dashboard.sampling.vocabulary import Vocabulary
from tests.figures.factory import make_step, zipf
from tests.pages.samples import MARKUP, figures, markdown, plain, shown

SIZE = 1_000
VOCABULARY = Vocabulary(tuple(token.encode() for token in [*MARKUP, *(f" t{i}" for i in range(SIZE - len(MARKUP)))]))
LOGITS = torch.from_numpy(zipf(SIZE)).log().float()


class KnownText:
    """What the part asks of a reading."""

    def logits(self, first: int, end: int) -> torch.Tensor:
        return LOGITS.expand(end - first, SIZE)

    def ids_before(self, position: int) -> torch.Tensor:
        return torch.tensor([7, 8, 9])


def view_of(step: Step, settings: SamplingSettings, *, p: float | None = None, with_model: bool = False) -> View:
    reading: Any = KnownText() if with_model else None
    return View(
        key="view",
        prompt="",
        prompt_ids=(7, 8, 9),
        trace=Trace.from_steps([step]),
        settings=settings,
        p=settings.top_p if p is None else p,
        drawn=True,
        vocabulary=VOCABULARY,
        model_name="pocket",
        model_title="Pocket GPT-2",
        find_reading=lambda: reading,
    )


SCRIPT = """
import streamlit as st
from dashboard.app_pages.stages_view import stages_view
stages_view(st.session_state["view"], 0)
"""


def page(view: View) -> AppTest:
    app = AppTest.from_string(SCRIPT, default_timeout=30)
    app.session_state["view"] = view
    return shown(app.run())


STEP = make_step(zipf(SIZE), drawn=0, top_p=0.5)


def test_without_a_model_the_stages_are_those_of_the_stored_step_and_the_model_is_offered() -> None:
    app = page(view_of(STEP, SamplingSettings(top_p=0.5)))
    assert any(f"{STEP.nucleus_size} of 1,000 left".replace(" ", "") in text.replace(" ", "") for text in markdown(app))
    assert "Logit" not in app.dataframe[0].value.columns
    assert any("for the logits themselves" in text for text in plain(app))
    [figure] = figures(app)
    assert {"Raw", "Final"} <= {trace["name"] for trace in figure["data"]}


def test_with_the_model_the_logits_are_there_and_every_active_stage_has_a_column() -> None:
    settings = SamplingSettings(top_p=0.5, temperature=0.7, repetition_penalty=1.2)
    table = page(view_of(STEP, settings, with_model=True)).dataframe[0].value
    assert list(table.columns) == [
        "Token",
        "Rank",
        "Logit",
        "After penalties",
        "After temperature",
        "Raw",
        "Shaped",
        "Truncation",
        "Final",
    ]
    exact = stages_of(settings, torch.tensor([7, 8, 9]), LOGITS, 0)
    assert table["Logit"].tolist() == [token.logit for token in exact.tokens]
    assert table["Final"].dropna().tolist() == pytest.approx(
        [100 * (token.final_probability or 0) for token in exact.tokens if token.kept]
    )


def test_with_the_model_the_p_that_is_asked_about_cuts() -> None:
    app = page(view_of(STEP, SamplingSettings(top_p=0.5), p=0.1, with_model=True))
    assert any("Top\\-p 0\\.1" in text for text in markdown(app))


def test_without_the_model_it_says_which_p_the_stages_are_of() -> None:
    app = page(view_of(STEP, SamplingSettings(top_p=0.5), p=0.1))
    assert any("Shown for p = 0.5" in text for text in markdown(app))


def test_stages_that_are_off_are_named_in_a_line_and_have_no_card() -> None:
    app = page(view_of(STEP, SamplingSettings(top_p=0.5)))
    [off] = [text for text in markdown(app) if text.startswith("Off:")]
    assert "temperature" in off
    assert "top-p" not in off
    assert not any("**Temperature" in text for text in markdown(app))


def test_tokens_are_shown_as_text() -> None:
    app = page(view_of(STEP, SamplingSettings(top_p=0.5), with_model=True))
    for text in markdown(app):
        for token in MARKUP:
            assert token not in text
    assert app.dataframe[0].value["Token"][0] == f"◆ {MARKUP[0]}"


def test_a_dropped_token_has_the_setting_that_took_it_in_place_of_a_probability() -> None:
    stages = stored_stages(STEP, SamplingSettings(top_p=0.5))
    rows = part.stage_rows(stages, SamplingSettings(top_p=0.5), view_of(STEP, SamplingSettings(top_p=0.5)))
    dropped = rows[[token.kept is False for token in stages.tokens]]
    assert len(dropped)
    assert set(dropped["Truncation"]) == {"dropped by top-p"}
    assert dropped["Final"].isna().all()


def test_a_token_that_was_only_read_was_not_drawn() -> None:
    settings = SamplingSettings(top_p=0.5)
    stages: Stages = stored_stages(STEP, settings)
    view = view_of(STEP, settings)
    assert part.change_told(stages.changes[-1], settings, view)[0] == "Drawn"
    assert part.change_told(stages.changes[-1], settings, replace(view, drawn=False))[0] == "In the text"


def test_a_truncation_that_took_nothing_says_so() -> None:
    settings = SamplingSettings(top_p=0.5)
    told = part.change_told(Truncation("top_p", 40, 40, 1.0), settings, view_of(STEP, settings))
    assert told == ("Top-p 0.5", ["took no token", "of the 40"])


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        (
            Misreading(0.1, 1, 49_152, 4_916, 0.999),
            "p = 0.1 keeps 1 token here: the smallest set whose mass reaches 10 %. The top 10 % of the 49,152 choices "
            "would be 4,916 tokens, with at least 99.9 % of the mass.",
        ),
        (
            Misreading(0.9, 4, 40, 36, 1.0),
            "p = 0.9 keeps 4 tokens here: the smallest set whose mass reaches 90 %. The top 90 % of the 40 choices "
            "that reach top-p would be 36 tokens, with all of the mass.",
        ),
        (
            Misreading(0.1, 1, 1, 1, 1.0),
            "p = 0.1 keeps 1 token here: the smallest set whose mass reaches 10 %. That is no fewer than the top 10 % "
            "of the one choice that reaches top-p would be.",
        ),
    ],
)
def test_the_misreading_is_told_with_the_numbers_of_the_step(numbers: Misreading, told: str) -> None:
    assert part.misreading_told(numbers, 49_152).replace("\u00a0", " ") == told


@pytest.mark.parametrize(("top_p", "notes"), [(0.5, ["p = 0.1", "p = 0.5"]), (0.1, ["p = 0.1"]), (1.0, ["p = 0.1"])])
def test_the_misreading_is_told_for_a_tenth_and_for_the_runs_own_p(top_p: float, notes: list[str]) -> None:
    step = make_step(zipf(SIZE), drawn=0, top_p=top_p)
    app = page(view_of(step, SamplingSettings(top_p=top_p)))
    told = [text for text in plain(app) if text.startswith("p = ")]
    assert [text[: text.index(" keeps")] for text in told] == notes
