"""The two figures of the samplers: the cuts of one step, and the kept sizes of all."""

from __future__ import annotations

import html
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from dashboard.figures.canvas import Drawn
from dashboard.figures.palette import PALETTES, Theme
from dashboard.figures.sampler_sizes import Sizes, sampler_sizes_figure
from dashboard.figures.samplers import (
    NEEDS_THE_MODEL,
    extremes_sentence,
    kept_words,
    probability_curve,
    samplers_figure,
)
from dashboard.sampling.samplers import SAMPLERS, Kept, stored_kept
from dashboard.sampling.trace import HEAD_SIZE, Candidate, Step
from tests.figures.factory import make_step, make_vocabulary, zipf
from tests.figures.test_distribution import HOSTILE, texts

SIZE = 20_000
VALUES = {sampler.name: float(sampler.start) for sampler in SAMPLERS}
THEMES: tuple[Theme, ...] = ("light", "dark")


def stored(step: Step) -> dict[str, Kept | None]:
    """What storage says at the values to begin with."""
    return {name: stored_kept(step, name, value, top_k=0, vocabulary_size=SIZE) for name, value in VALUES.items()}


def top(name: str, size: int, first: int = 1, mass: float | None = 0.63) -> Kept:
    return Kept(name, VALUES[name], size, first, first + size - 1, mass, Candidate(0, 0.01))


def figure(step: Step, kept: dict[str, Kept | None] | None = None, theme: Theme = "light") -> Drawn:
    vocabulary = make_vocabulary(SIZE, HOSTILE)
    return samplers_figure(step, VALUES, kept or stored(step), vocabulary=vocabulary, theme=theme)


def trace(drawn: Drawn, name: str) -> Any:
    [found] = [trace for trace in drawn.figure.data if trace.name == name]
    return found


def words(drawn: Drawn) -> list[str]:
    """The words of the lanes or rows, without their markup."""
    plain = []
    for note in drawn.figure.layout.annotations:
        parts = note.text.split("<")
        plain.append(html.unescape(parts[0] + "".join(part.split(">", 1)[1] for part in parts[1:])))
    return plain


# --- one step ---


@pytest.mark.parametrize("size", [1, 12, 351, 19_999])
def test_a_lane_reaches_from_the_first_to_the_last_rank_and_its_cut_stands_behind_it(size: int) -> None:
    step = make_step(zipf(SIZE))
    drawn = figure(step, {**dict.fromkeys(VALUES), "min_p": top("min_p", size)})
    bar, cut = trace(drawn, "min_p"), trace(drawn, "min_p cut")
    assert bar.base[0] + bar.x[0] == pytest.approx(size + 0.5)
    assert list(cut.x) == pytest.approx([size + 0.5])
    low, high = (10**end for end in drawn.figure.layout.xaxis.range)
    assert low <= bar.base[0] < 1
    assert size + 0.5 < high
    assert bar.marker.color == PALETTES["light"].kept
    assert cut.marker.line.color == PALETTES["light"].cut


def test_typical_sampling_is_cut_on_both_sides() -> None:
    drawn = figure(make_step(zipf(SIZE)), {**dict.fromkeys(VALUES), "typical_p": top("typical_p", 10, first=3)})
    bar = trace(drawn, "typical_p")
    assert (bar.base[0], bar.base[0] + bar.x[0]) == (2.5, 12.5)
    assert list(trace(drawn, "typical_p cut").x) == [2.5, 12.5]
    assert "ranks 3 to 12" in bar.hovertext[0]


def test_a_sampler_that_keeps_everything_has_no_cut() -> None:
    drawn = figure(make_step(zipf(SIZE)), {**dict.fromkeys(VALUES), "top_k": top("top_k", SIZE, mass=1.0)})
    assert not trace(drawn, "top_k cut").x


def test_lanes_stand_in_the_order_of_the_values_each_with_its_numbers() -> None:
    step = make_step(zipf(SIZE, 1.2))
    drawn, kept = figure(step), stored(step)
    told = [sampler.told(VALUES[sampler.name]) for sampler in SAMPLERS]
    assert [line.split("\u2002")[0] for line in words(drawn)] == told
    assert [line.split("\u2002 ")[1] for line in words(drawn)] == [kept_words(kept[name]) for name in VALUES]
    heights = [note.y for note in drawn.figure.layout.annotations]
    assert heights == sorted(heights)


def test_a_lane_that_needs_the_model_says_so_and_shows_nothing_as_dropped() -> None:
    step = make_step(zipf(SIZE))
    drawn = figure(step, {**dict.fromkeys(VALUES), "top_k": top("top_k", 50)})
    assert sum(NEEDS_THE_MODEL in line for line in words(drawn)) == len(VALUES) - 1
    assert len(trace(drawn, "vocabulary").y) == 1
    assert f"Top-n-sigma 1: {NEEDS_THE_MODEL}" in drawn.description


def test_the_hover_names_the_least_likely_token_still_allowed() -> None:
    step = make_step(zipf(SIZE))
    drawn = figure(step, {**dict.fromkeys(VALUES), "top_k": replace(top("top_k", 50), last=Candidate(49, 0.002))})
    for name in ("top_k", "top_k cut"):
        [hover] = trace(drawn, name).hovertext
        assert "least likely still allowed: “␣t49”" in hover
        assert "at rank 50, probability 0.2" in hover


def test_the_drawn_token_has_a_diamond_on_the_curve_and_a_line_through_the_lanes() -> None:
    drawn = figure(make_step(zipf(SIZE), drawn=299))
    diamond = trace(drawn, "drawn")
    assert (diamond.x[0], diamond.marker.symbol) == (300, "diamond")
    assert diamond.y[0] == pytest.approx(zipf(SIZE)[299])
    [line] = drawn.figure.layout.shapes
    assert (line.x0, line.x1, line.y0, line.y1, line.yref) == (300, 300, 0, 1, "paper")


def test_the_fewest_and_the_most_are_told() -> None:
    kept = {"top_p": top("top_p", 351), "min_p": top("min_p", 1), "top_k": top("top_k", 50)}
    assert extremes_sentence(kept) == "From 1 token (min-p) to 351 (top-p)"
    assert extremes_sentence({**kept, "typical_p": None}) == "From 1 token (min-p) to 351 (top-p), of 3 known"
    assert extremes_sentence({"top_p": top("top_p", 3), "min_p": top("min_p", 3)}) == "All keep 3 tokens"
    assert "without the model" in extremes_sentence({"top_p": None})


# --- the curve ---


@pytest.mark.parametrize("power", [0.0, 0.3, 1.0, 1.5])
def test_the_curve_is_exact_in_the_head_and_close_to_the_mean_below_it(power: float) -> None:
    shaped = zipf(SIZE, power)
    ranks, probabilities = probability_curve(make_step(shaped), SIZE)
    np.testing.assert_allclose(probabilities[:HEAD_SIZE], shaped[:HEAD_SIZE], rtol=1e-6)
    assert list(ranks[:HEAD_SIZE]) == list(range(1, HEAD_SIZE + 1))
    assert np.all(np.diff(ranks) >= 0)
    assert np.all(np.diff(probabilities) <= 1e-12)
    assert ranks[-1] == SIZE
    pairs = zip(ranks[HEAD_SIZE::2], ranks[HEAD_SIZE + 1 :: 2], probabilities[HEAD_SIZE::2], strict=True)
    for first, last, mean in pairs:
        assert mean == pytest.approx(shaped[int(first) - 1 : int(last)].mean(), rel=0.05)


def test_where_rounding_alone_is_left_below_the_head_the_curve_ends_there() -> None:
    shaped = np.array([1.0, *[1e-12] * (SIZE - 1)])
    ranks, _ = probability_curve(make_step(shaped), SIZE)
    assert ranks[-1] == HEAD_SIZE


def test_the_curve_of_a_run_with_top_k_goes_on_to_the_end_of_the_vocabulary() -> None:
    shaped = zipf(SIZE)
    ranks, probabilities = probability_curve(make_step(shaped, top_k=400), SIZE)
    assert ranks[-1] == SIZE
    assert probabilities[-1] == pytest.approx(shaped[400:].mean(), rel=0.05)


def test_forbidden_tokens_have_no_place_on_the_curve() -> None:
    ranks, probabilities = probability_curve(make_step([0.5, 0.5, 0.0, 0.0]), 4)
    assert (list(ranks), list(probabilities)) == ([1, 2], [0.5, 0.5])


# --- every step ---


def sizes(steps: int = 30) -> dict[str, Sizes]:
    random = np.random.default_rng(0)
    return {name: random.integers(1, 300, steps) for name in VALUES}


def rows(drawn: Drawn) -> list[Any]:
    return [row for row in drawn.figure.data if row.name != "comparison"]


def test_every_sampler_has_a_row_of_its_own_over_the_same_steps() -> None:
    of = sizes()
    drawn = sampler_sizes_figure(of, VALUES, theme="light")
    assert len(rows(drawn)) == 7
    for row, values in zip(rows(drawn), of.values(), strict=True):
        assert list(row.x) == list(range(1, 31))
        assert list(row.y) == list(values)
        assert row.xaxis is None
    axes = [drawn.figure.layout[f"yaxis{i}" if i > 1 else "yaxis"] for i in range(1, 8)]
    assert len({axis.range for axis in axes}) == 1
    for above, below in pairwise(axes):
        assert above.domain[0] > below.domain[1]
    assert {axis.type for axis in axes} == {"log"}
    assert 10 ** axes[0].range[1] > max(int(np.max(values)) for values in of.values())


def test_steps_that_are_not_known_are_gaps_and_counted() -> None:
    of = sizes(10)
    of["typical_p"] = np.array([3.0, math.nan, *[5.0] * 8])
    of["top_n_sigma"] = np.full(10, math.nan)
    drawn = sampler_sizes_figure(of, VALUES, theme="light")
    assert rows(drawn)[3].y[:3] == (3, None, 5)
    assert words(drawn)[3].endswith("known at 9 of 10 steps")
    assert words(drawn)[6].endswith(NEEDS_THE_MODEL)
    assert f"Top-n-sigma 1: {NEEDS_THE_MODEL}" in drawn.description


def test_sizes_are_summed_up_in_words() -> None:
    of = {**sizes(3), "top_p": np.array([1, 1_400, 12]), "top_k": np.array([50, 50, 50])}
    drawn = sampler_sizes_figure(of, VALUES, theme="light")
    assert words(drawn)[:2] == ["Top-p 0.9\u2002 median 12, 1 to 1,400", "Top-k 50\u2002 50 at every step"]
    assert "Top-p 0.9: median 12, 1 to 1,400. Top-k 50: 50 at every step." in drawn.description


def test_zoom_and_hover_go_along_all_rows_and_survive_another_value() -> None:
    layouts = [sampler_sizes_figure(sizes(n), VALUES, theme="light").figure.layout for n in (1, 30)]
    assert layouts[0].uirevision == layouts[1].uirevision
    assert layouts[0].hoversubplots == "axis"
    assert layouts[0].height == layouts[1].height
    assert tuple(layouts[0].xaxis.range) == (0.4, 1.6)


# --- both ---


@pytest.mark.parametrize("theme", THEMES)
def test_figures_take_the_colours_of_their_theme(theme: Theme) -> None:
    other = PALETTES["dark" if theme == "light" else "light"]
    for drawn in (figure(make_step(zipf(SIZE)), theme=theme), sampler_sizes_figure(sizes(), VALUES, theme=theme)):
        assert drawn.figure.layout.paper_bgcolor == PALETTES[theme].background
        assert not any(colour in drawn.figure.to_json() for colour in (other.kept, other.cut, other.drawn, other.text))


def test_no_token_is_markup_in_any_text() -> None:
    for token in range(len(HOSTILE)):
        step = make_step(zipf(SIZE), drawn=token)
        kept = {name: replace(top(name, 5), last=Candidate(token, 0.1)) for name in VALUES}
        for text in texts(figure(step, dict(kept))):
            assert "<b>x" not in text
            assert "<img" not in text
            assert "$" not in text
            assert "\u202e" not in text
            assert "\n" not in text
    assert not any("hovertemplate" in t for t in figure(make_step(zipf(SIZE))).figure.to_dict()["data"])


@pytest.mark.parametrize("power", [0.0, 0.3, 1.0, 4.0])
def test_lines_fit_a_phone(power: float) -> None:
    drawn = figure(make_step(zipf(SIZE, power), drawn=SIZE - 1))
    for line in [*words(drawn), *words(sampler_sizes_figure(sizes(), VALUES, theme="light"))]:
        assert len(line) <= 50, line
    assert len(extremes_sentence(stored(make_step(zipf(SIZE, power))))) <= 60
    assert len(drawn.figure.to_json()) < 60_000


def test_every_step_has_a_figure_of_the_same_height() -> None:
    steps = [make_step([1.0]), make_step([0.5, 0.5], drawn=1), make_step(zipf(SIZE), drawn=9_000)]
    assert len({figure(step).figure.layout.height for step in steps}) == 1
