"""What the marker sends to the browser, and what it takes back; its script is tested in the browser suite."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard.components import choice
from dashboard.components import step_marker as module
from dashboard.components.step_marker import Question, step_marker
from dashboard.figures.palette import PALETTES

FOLDER = Path(module.__file__).parent
STYLE = (FOLDER / "step_marker.css").read_text(encoding="utf-8")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands in for Streamlit's part and keeps what it is given."""
    given: dict[str, Any] = {}

    def component(*, key: str, data: Any, on_position_change: Callable[[], None]) -> None:
        given.update(key=key, data=data, callback=on_position_change)

    monkeypatch.setattr(module, "_component", lambda: component)
    return given


def choose(position: object, sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the page hears when the browser reports ``position`` of three steps."""
    heard: list[int] = []
    step_marker("landscape", selected=1, length=3, key="marker", on_choose=heard.append)
    monkeypatch.setattr(st, "session_state", {"marker": {"position": position}})
    sent["callback"]()
    return heard


def test_the_browser_is_told_the_chart_the_step_and_their_number(sent: dict[str, Any]) -> None:
    step_marker("landscape", selected=1, length=3, key="marker", on_choose=int)
    assert sent["key"] == "marker"
    assert sent["data"] == {"chartKey": "landscape", "selected": 1, "length": 3, "question": None}


def test_the_browser_is_told_the_line_that_is_asked_about(sent: dict[str, Any]) -> None:
    question = Question("what if p = 0.5", {"yaxis": [1.5, 3.5], "yaxis2": [1, 3]})
    step_marker("landscape", selected=1, length=2, key="marker", on_choose=int, question=question)
    assert sent["data"]["question"] == {"name": "what if p = 0.5", "rows": {"yaxis": [1.5, 3.5], "yaxis2": [1, 3]}}


@pytest.mark.parametrize("position", [0, 2])
def test_a_chosen_step_is_reported(position: int, sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(position, sent, monkeypatch) == [position]


@pytest.mark.parametrize("position", [3, -1, "2", 1.0, True, None, {"a": 1}])
def test_what_is_no_step_chooses_nothing(
    position: object, sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose(position, sent, monkeypatch) == []


def test_the_marker_mounts_in_streamlit_beside_a_chart_that_is_not_there() -> None:
    def page() -> None:
        from dashboard.components.step_marker import step_marker

        step_marker("nowhere", selected=0, length=1, key="marker", on_choose=int)

    # Twice: every AppTest is a new runtime, on which the component must be known again.
    for _ in range(2):
        assert not AppTest.from_function(page).run().exception


@pytest.mark.parametrize("name", ["step_marker.js", "token_strip.js"])
def test_every_part_has_what_they_share_before_its_own_script(name: str) -> None:
    script = choice.script(name)
    assert script.index("class Choice") < script.index("export default")
    assert script.endswith((FOLDER / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("unsafe", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("])
def test_the_script_never_makes_markup_of_text(unsafe: str) -> None:
    assert unsafe not in choice.script("step_marker.js")


def test_colours_come_from_the_theme_and_fall_back_to_the_light_palette() -> None:
    light = PALETTES["light"]
    used = dict(re.findall(r"var\(--st-([a-z-]+-color), (#[0-9a-f]{6})\)", STYLE))
    assert used == {"background-color": light.background, "text-color": light.text, "red-color": light.cut}
    assert set(re.findall(r"#[0-9a-f]{6}", STYLE)) == set(used.values())


def test_the_script_hands_on_every_variable_that_the_style_sheet_uses() -> None:
    script = (FOLDER / "step_marker.js").read_text(encoding="utf-8")
    assert set(re.findall(r"var\((--st-[a-z-]+)", STYLE)) == set(re.findall(r'"(--st-[a-z-]+)"', script))
