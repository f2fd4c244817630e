"""What the strip sends to the browser, and what it takes back; its script is tested in the browser suite."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard.components import token_strip as module
from dashboard.components.token_strip import StripToken, payload, piece_runs, runs, strip_tokens
from dashboard.figures.palette import LARGEST_WASH, PALETTES
from dashboard.sampling.vocabulary import Piece

FOLDER = Path(module.__file__).parent
SCRIPT = (FOLDER / "token_strip.js").read_text(encoding="utf-8")
STYLE = (FOLDER / "token_strip.css").read_text(encoding="utf-8")


def packed(**changes: Any) -> dict[str, Any]:
    tokens = [StripToken(Piece(" the"), 0.25, ("the", "1")), StripToken(Piece("re"), 1.0, ("re", "2"))]
    arguments: dict[str, Any] = {
        "prompt": "Hi",
        "tokens": tokens,
        "colouring": "surprisal",
        "fact_labels": ("Token", "Rank"),
        "selected": 1,
        "struck": (),
        "struck_note": "",
    }
    return payload(**(arguments | changes))


def test_plain_text_is_one_run() -> None:
    assert runs(" <b>plain</b> & $text$ 😀 שלום") == [" <b>plain</b> & $text$ 😀 שלום"]
    assert runs("") == []


def test_a_newline_is_marked_and_kept() -> None:
    assert runs("a\n\nb") == ["a", ("⏎", "\n"), ("⏎", "\n"), "b"]


@pytest.mark.parametrize(
    ("character", "mark"),
    [
        ("\t", "⇥"),
        ("\r", "␍"),
        ("\x00", "␀"),
        ("\x7f", "␡"),
        ("\x85", "‹U+0085›"),
        ("\u202e", "‹U+202E›"),
        ("\u2066", "‹U+2066›"),
        ("\u200b", "‹U+200B›"),
        ("\u2028", "‹U+2028›"),
        ("\ue000", "‹U+E000›"),
    ],
)
def test_what_is_unseen_or_reorders_text_gives_way_to_its_mark(character: str, mark: str) -> None:
    assert runs(f"a{character}b") == ["a", (mark, ""), "b"]


@pytest.mark.parametrize("text", ["👩\u200d💻", "❤\ufe0f", "می\u200cخواهم"])
def test_joiners_stay_where_emoji_and_scripts_need_them(text: str) -> None:
    assert runs(text) == [text]


def test_bytes_of_an_unfinished_character_are_shown_in_hex() -> None:
    assert piece_runs(Piece("", b"\xf0\x9f")) == [("‹F0 9F›", "")]
    assert piece_runs(Piece("a", b"\xc3")) == ["a", ("‹C3›", "")]


def test_a_token_without_text_can_still_be_chosen() -> None:
    assert piece_runs(Piece("")) == [("∅", "")]


def test_the_texts_of_all_runs_are_the_output() -> None:
    text = "One\n two\n\nthree 😀"
    told = "".join(run if isinstance(run, str) else run[1] for run in runs(text))
    assert told == text


def test_the_payload_is_json_of_plain_text() -> None:
    data = packed()
    assert json.loads(json.dumps(data)) == {
        "prompt": ["Hi"],
        "tokens": [[[" the"], 25, ["the", "1"]], [["re"], 100, ["re", "2"]]],
        "factLabels": ["Token", "Rank"],
        "legend": {"label": "Surprisal", "low": "0 bits", "high": "12 bits or more"},
        "hue": "drawn",
        "selected": 1,
        "struck": [],
        "struckNote": "",
        "walksWithKeys": False,
    }


def test_struck_positions_are_sorted_and_within_the_output() -> None:
    assert packed(struck={7, 1, 0, -1})["struck"] == [0, 1]


def test_the_hue_says_whether_the_token_or_the_step_is_coloured() -> None:
    assert packed(colouring="entropy")["hue"] == "kept"
    assert packed(colouring="rank")["hue"] == "drawn"


def test_strip_tokens_bring_text_strength_and_facts_together() -> None:
    tokens = strip_tokens([Piece("a"), Piece("b")], np.array([0.0, 0.5]), [("1",), ("2",)])
    assert tokens == [StripToken(Piece("a"), 0.0, ("1",)), StripToken(Piece("b"), 0.5, ("2",))]
    with pytest.raises(ValueError, match="shorter"):
        strip_tokens([Piece("a"), Piece("b")], np.array([0.0, 0.5]), [("1",)])


def test_a_thousand_tokens_are_a_modest_payload() -> None:
    facts = ("␣something", "13.4 %", "15.4 %", "1,234", "11.2 bits", "12,345 of 50,257", "p > 0.95")
    tokens = [StripToken(Piece(" something"), 0.5, facts)] * 1_000
    assert len(json.dumps(packed(tokens=tokens), ensure_ascii=False)) < 150_000


@pytest.mark.parametrize("unsafe", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("])
def test_the_script_never_makes_markup_of_text(unsafe: str) -> None:
    assert unsafe not in SCRIPT


def test_the_strongest_wash_is_the_one_whose_contrast_is_tested() -> None:
    assert f"--largest-wash: {LARGEST_WASH:.0%};" in STYLE


def test_colours_come_from_the_theme_and_fall_back_to_the_light_palette() -> None:
    light = PALETTES["light"]
    expected = {
        "background-color": light.background,
        "text-color": light.text,
        "gray-color": light.secondary,
        "border-color": light.hairline,
        "orange-color": light.drawn,
        "green-color": light.kept,
        "red-color": light.cut,
        "secondary-background-color": light.panel,
    }
    used = dict(re.findall(r"var\(--st-([a-z-]+-color), (#[0-9a-f]{6})\)", STYLE))
    assert used == expected
    assert set(re.findall(r"#[0-9a-f]{6}", STYLE)) == set(expected.values())


# --- the wrapper, with Streamlit's part replaced by one that answers as the browser would ---


def strip_page() -> None:
    import streamlit as st

    from dashboard.components.token_strip import StripToken, token_strip
    from dashboard.sampling.vocabulary import Piece

    heard = st.session_state.setdefault("heard", [])
    tokens = [StripToken(Piece(text), 0.5, (text,)) for text in ("a", " b", " c")]
    st.session_state.chosen = token_strip(
        "Hi",
        tokens,
        colouring="rank",
        fact_labels=("Token",),
        key="strip",
        selected=st.session_state.get("chosen"),
        on_choose=heard.append,
    )


Answer = Callable[[object], AppTest]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Run the page, choose a position in the "browser", and run it again."""
    sent: dict[str, Any] = {}

    def component(*, key: str, data: Any, on_position_change: Callable[[], None]) -> None:
        sent.update(data=data, callback=on_position_change)

    monkeypatch.setattr(module, "_component", lambda: component)

    def choose(position: object) -> AppTest:
        page = AppTest.from_function(strip_page).run()
        assert not page.exception
        page.session_state["strip"] = {"position": position}
        with monkeypatch.context() as patch:
            patch.setattr(st, "session_state", page.session_state)
            sent["callback"]()
        page.run()
        assert not page.exception
        assert sent["data"]["selected"] == page.session_state["chosen"]
        return page

    return choose


def test_the_strip_mounts_in_streamlit() -> None:
    # Twice: every AppTest is a new runtime, on which the component must be known again.
    for _ in range(2):
        page = AppTest.from_function(strip_page).run()
        assert not page.exception
        assert page.session_state["chosen"] is None


def test_a_choice_beyond_the_output_is_none() -> None:
    page = AppTest.from_function(strip_page)
    page.session_state["chosen"] = 99
    page.run()
    assert not page.exception
    assert page.session_state["chosen"] is None


def test_a_choice_is_returned_reported_and_remembered_by_the_page(answer: Answer) -> None:
    page = answer(2)
    assert page.session_state["chosen"] == 2
    assert page.session_state["heard"] == [2]
    assert page.run().session_state["chosen"] == 2


@pytest.mark.parametrize("position", [3, -1, "2", 1.5, True, None, {"a": 1}])
def test_what_is_no_position_of_a_token_chooses_nothing(answer: Answer, position: object) -> None:
    page = answer(position)
    assert page.session_state["chosen"] is None
    assert page.session_state["heard"] == []
