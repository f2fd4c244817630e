"""Tokens as labels: visible, short, never markup."""

from __future__ import annotations

import pytest

from dashboard.figures.labels import markup_free, room_for, token_label, visible


@pytest.mark.parametrize(
    ("token", "label"),
    [
        (" the", "␣the"),
        ("\n", "⏎"),
        ("\t", "⇥"),
        ("\x00", "␀"),
        ("\x1b", "␛"),
        ("\x7f", "␡"),
        ("\u202e", "‹U+202E›"),
        ("\u200b", "‹U+200B›"),
        ("\u00a0", "‹U+00A0›"),
        ("\x85", "‹U+0085›"),
        ("", "∅"),
        ("\u0301", "◌\u0301"),
        ("é", "é"),
        ("😀", "😀"),
    ],
)
def test_what_would_be_unseen_has_a_mark(token: str, label: str) -> None:
    assert visible(token) == label


def test_the_middle_of_a_long_token_gives_way() -> None:
    label = visible("a" * 10 + "b" * 10, longest=11)
    assert label == "aaaaa…bbbbb"
    assert len(visible(" " * 300, longest=12)) == 12


def test_a_token_as_long_as_allowed_stays_whole() -> None:
    assert visible("a" * 18, longest=18) == "a" * 18


def test_a_right_to_left_token_cannot_reorder_what_stands_beside_it() -> None:
    assert visible("שלום") == "\u2068שלום\u2069"


def test_every_isolate_is_closed_even_if_the_token_brings_its_own() -> None:
    assert visible("\u2069ש") == "\u2068‹U+2069›ש\u2069"


@pytest.mark.parametrize("token", ["<b>x</b>", "<a href='x'>", "$x$", "$$", "&amp;", "&lt;b&gt;", "<br>"])
def test_no_label_is_markup_to_plotly(token: str) -> None:
    label = token_label(token)
    assert "<" not in label
    assert ">" not in label
    assert "$" not in label
    assert label.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "").replace("&#36;", "").count("&") == 0


def test_an_entity_in_a_token_is_shown_as_it_is_written() -> None:
    assert markup_free("&lt;") == "&amp;lt;"


def test_names_have_room_for_their_widest() -> None:
    assert room_for(["a"]) < room_for(["a", "abcdef"]) == room_for(["abcdef", "a"])
    assert room_for(["mmmm"]) > room_for(["iiii"])
    assert room_for(["漢字"]) > room_for(["ab"])
    assert room_for(["e\u0301"]) == room_for(["e"])
    assert 100 < room_for(["␣representativ"]) < 150
