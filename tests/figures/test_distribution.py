"""The two figures of one step: bars by name, mass by rank."""

from __future__ import annotations

import html
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dashboard.figures.bars import ROWS, bars_figure
from dashboard.figures.canvas import Drawn, later_colour
from dashboard.figures.mass import mass_figure
from dashboard.figures.palette import PALETTES, Theme
from dashboard.sampling.trace import Step
from tests.figures.factory import make_step, make_vocabulary, zipf

SIZE = 20_000
HOSTILE = ["<b>x</b>", "$x$ and $y$", "&amp;", "\n", "\u202e", "<img src=x onerror=alert(1)>", "%{x}", "\x00"]


def bars(step: Step, top_p: float = 0.9, what_if_p: float | None = None, theme: Theme = "light") -> Drawn:
    vocabulary = make_vocabulary(SIZE, HOSTILE)
    return bars_figure(step, top_p=top_p, vocabulary=vocabulary, theme=theme, what_if_p=what_if_p)


def mass(step: Step, top_p: float = 0.9, what_if_p: float | None = None, theme: Theme = "light") -> Drawn:
    vocabulary = make_vocabulary(SIZE, HOSTILE)
    return mass_figure(step, top_p=top_p, vocabulary=vocabulary, theme=theme, what_if_p=what_if_p)


def shape(drawn: Drawn, name: str) -> Any:
    found = [s for s in drawn.figure.layout.shapes if s.name == name]
    assert len(found) <= 1
    return found[0] if found else None


def trace(drawn: Drawn, name: str) -> Any:
    return next(t for t in drawn.figure.data if t.name == name)


def bar_colours(drawn: Drawn) -> list[str]:
    return list(drawn.figure.data[0].marker.color)


def texts(drawn: Drawn) -> list[str]:
    """Every text of a figure that Plotly would read markup in."""
    found: list[str] = []

    def collect(value: object, name: str = "") -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                collect(inner, key)
        elif isinstance(value, list | tuple | np.ndarray):
            for inner in value:
                collect(inner, name)
        elif isinstance(value, str) and name in {"text", "ticktext", "hovertext", "hovertemplate", "texttemplate"}:
            found.append(value)

    collect(drawn.figure.to_plotly_json())
    return found


# --- the cut ---


@pytest.mark.parametrize("p", [0.1, 0.3, 0.4])
def test_the_cut_between_bars_stands_where_the_nucleus_ends(p: float) -> None:
    step = make_step(zipf(SIZE, 1.3), top_p=p)
    assert step.nucleus_size < ROWS
    assert shape(bars(step, p), "cut").y0 == step.nucleus_size + 0.5


@pytest.mark.parametrize(("power", "p"), [(4.0, 0.9), (1.5, 0.9), (1.0, 0.9), (0.3, 0.95)])
def test_the_cut_on_the_curve_stands_where_the_nucleus_ends(power: float, p: float) -> None:
    step = make_step(zipf(SIZE, power), top_p=p)
    cut = shape(mass(step, p), "cut")
    assert cut.x0 == cut.x1 == step.nucleus_size + 0.5
    assert shape(mass(step, p), "p").y0 == p


def test_ties_do_not_move_the_cut() -> None:
    step = make_step(np.ones(20), top_p=0.5)
    assert step.nucleus_size == 10
    assert shape(bars(step, 0.5), "cut").y0 == 10.5
    assert shape(mass(step, 0.5), "cut").x0 == 10.5
    assert bar_colours(bars(step, 0.5)).count(PALETTES["light"].dropped) == 10


def test_with_p_one_nothing_is_dropped() -> None:
    step = make_step(zipf(SIZE), top_p=1.0)
    assert shape(bars(step, 1.0), "cut") is None
    assert PALETTES["light"].dropped not in bar_colours(bars(step, 1.0))
    assert shape(mass(step, 1.0), "cut").x0 == SIZE + 0.5
    assert "no cut, all 20,000 tokens are kept" in bars(step, 1.0).figure.layout.title.text


def test_a_cut_below_the_rows_is_told_in_words() -> None:
    step = make_step(zipf(SIZE, 0.3), top_p=0.9)
    assert shape(bars(step), "cut") is None
    assert f"after rank {step.nucleus_size:,}" in bars(step).figure.layout.title.text


def test_the_cut_falls_into_the_gap_above_a_drawn_token_that_ranks_below_it() -> None:
    step = make_step(zipf(SIZE), drawn=9_999, top_p=1.0)
    what_if = bars(step, 1.0, 0.5)
    y = what_if.figure.data[0].y
    assert len(y) == ROWS - 1
    assert y[-1] == y[-2] + 2
    assert y[-2] < shape(what_if, "cut").y0 < y[-1]
    assert any("9,977 more" in text for text in texts(what_if))


# --- the colours ---


@pytest.mark.parametrize(("power", "p"), [(4.0, 0.9), (1.3, 0.4), (0.3, 0.95)])
def test_as_many_bars_are_kept_as_the_nucleus_holds(power: float, p: float) -> None:
    step = make_step(zipf(SIZE, power), top_p=p)
    colours = bar_colours(bars(step, p))
    kept, drawn = PALETTES["light"].kept, PALETTES["light"].drawn
    assert colours[0] == drawn
    assert 1 + colours.count(kept) == min(step.nucleus_size, ROWS)
    assert len(colours) == ROWS


def test_the_drawn_token_has_a_mark_as_well_as_a_colour() -> None:
    step = make_step(zipf(SIZE), drawn=3)
    names = bars(step).figure.layout.yaxis.ticktext
    assert [("◆" in name) for name in names] == [row == 3 for row in range(ROWS)]
    dot = trace(mass(step), "drawn")
    assert dot.marker.symbol == "diamond"
    assert list(dot.x) == [4]
    assert dot.y[0] == pytest.approx(zipf(SIZE)[:4].sum())


def test_another_p_moves_the_cut_and_the_colours_and_leaves_the_runs_own_cut() -> None:
    step = make_step(zipf(SIZE, 1.3), drawn=5, top_p=0.6)
    p = 0.4
    size = int(np.searchsorted(np.cumsum(zipf(SIZE, 1.3)), p)) + 1
    assert size < 6 < step.nucleus_size < ROWS
    drawn = bars(step, 0.6, p)
    assert shape(drawn, "cut").y0 == size + 0.5
    assert shape(drawn, "run's cut").y0 == step.nucleus_size + 0.5
    assert bar_colours(drawn).count(PALETTES["light"].kept) == size
    assert shape(mass(step, 0.6, p), "cut").x0 == size + 0.5
    assert shape(mass(step, 0.6, p), "run's cut").x0 == step.nucleus_size + 0.5


def test_what_later_settings_dropped_has_a_colour_of_its_own() -> None:
    step = make_step([0.5, 0.3, 0.1, 0.06, 0.04], top_p=0.95, min_p=0.5)
    palette = PALETTES["light"]
    later = later_colour(palette)
    assert bar_colours(bars(step, 0.95)) == [palette.drawn, palette.kept, later, later, palette.dropped]
    for figure in (bars, mass):
        assert "nucleus of 4, the later settings kept 2" in figure(step, 0.95).description.lower()


def test_where_typical_kept_is_not_stored_the_colours_show_the_nucleus_and_the_words_say_so() -> None:
    step = make_step([0.5, 0.3, 0.1, 0.06, 0.04], top_p=0.95)
    typical = replace(step, kept_size=2, last_kept=replace(step.last_kept, token_id=3))
    assert bar_colours(bars(typical, 0.95)).count(PALETTES["light"].kept) == 3
    assert "the colours show the nucleus" in bars(typical, 0.95).description


def test_the_curve_changes_colour_at_the_cut() -> None:
    step = make_step(zipf(SIZE), top_p=0.9)
    kept, dropped = trace(mass(step), "kept"), trace(mass(step), "dropped")
    assert kept.x[-1] == dropped.x[0] == step.nucleus_size + 0.5
    assert kept.x[-2] == step.nucleus_size
    assert dropped.x[1] > step.nucleus_size
    assert kept.y[-1] == dropped.y[0]
    assert kept.y[-1] == pytest.approx(step.nucleus_mass, abs=1e-4)


# --- the rest ---


def test_raw_probabilities_stand_beside_shaped_ones_only_where_they_differ() -> None:
    plain, heated = make_step(zipf(SIZE)), make_step(zipf(SIZE, 0.5), raw=zipf(SIZE))
    assert not any("raw" in text for text in bars(plain).figure.data[0].text)
    assert all("raw" in text for text in bars(heated).figure.data[0].text)


@pytest.mark.parametrize("figure", [bars, mass])
def test_no_token_is_markup_in_any_text(figure: Any) -> None:
    for drawn, _ in enumerate(HOSTILE):
        step = make_step(zipf(SIZE), drawn=drawn, top_p=0.2)
        for text in texts(figure(step, 0.2)):
            assert "<b>x" not in text
            assert "<img" not in text
            assert "$" not in text
            assert "\u202e" not in text
            assert "\n" not in text
    assert any("&lt;b&gt;x&lt;/b&gt;" in text for text in texts(figure(make_step(zipf(SIZE)), 0.2)))
    assert not any(
        "hovertemplate" in t or "texttemplate" in t for t in figure(make_step(zipf(SIZE))).figure.to_dict()["data"]
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("figure", [bars, mass])
def test_figures_take_the_colours_of_their_theme(figure: Any, theme: Theme) -> None:
    drawn = figure(make_step(zipf(SIZE)), theme=theme)
    assert drawn.figure.layout.paper_bgcolor == PALETTES[theme].background
    other = PALETTES["dark" if theme == "light" else "light"]
    assert not any(colour in drawn.figure.to_json() for colour in (other.kept, other.cut, other.drawn, other.text))


@pytest.mark.parametrize("figure", [bars, mass])
def test_figures_are_small_and_say_in_words_what_they_show(figure: Any) -> None:
    step = make_step(zipf(SIZE), drawn=300)
    drawn = figure(step)
    assert len(drawn.figure.to_json()) < 40_000
    assert f"{step.nucleus_size:,} of 20,000 tokens kept" in drawn.description
    assert "drawn at rank 301" in drawn.description.lower()
    assert "step 1" in drawn.description.lower()


@pytest.mark.parametrize("figure", [bars, mass])
def test_every_step_has_a_figure_of_the_same_height(figure: Any) -> None:
    steps = [make_step([1.0]), make_step([0.5, 0.5], drawn=1), make_step(zipf(SIZE), drawn=9_000)]
    assert len({figure(step).figure.layout.height for step in steps}) == 1


def test_the_lines_under_the_titles_fit_a_phone() -> None:
    step = make_step(zipf(SIZE), drawn=15_000, top_p=0.999)
    for figure in (bars, mass):
        for line in figure(step, 0.999, 0.5).figure.layout.title.text.split("<br>"):
            shown = line.split(">", 1)[-1].replace("</span>", "") if line.startswith("<span") else line
            words = "".join(part.split(">", 1)[-1] for part in shown.split("<span"))
            assert len(html.unescape(words)) <= 74, words


def test_labels_on_the_curve_stay_inside_the_axis() -> None:
    for drawn, p in [(0, 0.01), (3, 0.5), (15_000, 0.99), (SIZE - 1, 1.0)]:
        figure = mass(make_step(zipf(SIZE), drawn=drawn, top_p=p), p).figure
        low, high = figure.layout.xaxis.range
        for note in figure.layout.annotations:
            if note.xref == "paper":
                continue
            place = (note.x - low) / (high - low)
            assert 0 <= place <= 1
            assert note.xanchor == ("left" if place < 0.4 else note.xanchor)
            assert note.xanchor == ("right" if place > 0.7 else note.xanchor)


def test_the_axis_of_ranks_shows_the_whole_vocabulary() -> None:
    figure = mass(make_step(zipf(SIZE))).figure
    low, high = figure.layout.xaxis.range
    assert low < 0
    assert high > math.log10(SIZE)
