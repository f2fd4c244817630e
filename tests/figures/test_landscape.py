"""The landscape tells of every step and rank what the trace tells: cells, contour, path and the rows beneath."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from dashboard.figures.landscape import CutLine, landscape_figure
from dashboard.figures.palette import PALETTES, Theme, translucent
from dashboard.sampling.trace import Step, Trace
from dashboard.sampling.what_if import nucleus_masses_at, nucleus_sizes_at
from tests.figures.factory import make_step, make_trace, make_vocabulary, zipf

V = 20_000


@pytest.fixture(scope="module")
def trace() -> Trace:
    shapes = [(4.0, 0), (1.5, 7), (1.0, 300), (0.3, 4_000)]
    return make_trace([make_step(zipf(V, power), drawn=drawn, position=i) for i, (power, drawn) in enumerate(shapes)])


def cut_at(trace: Trace, p: float) -> CutLine:
    if p == 0.9:
        return CutLine("p = 0.9", p, trace.nucleus_size, trace.nucleus_mass)
    return CutLine(f"p = {p}", p, nucleus_sizes_at(trace, p), nucleus_masses_at(trace, p))


def figure(trace: Trace, p: float = 0.9, *, vocabulary: int = V, theme: Theme = "light", compare: bool = False) -> Any:
    other = cut_at(trace, 0.9) if compare else None
    return landscape_figure(
        trace, cut=cut_at(trace, p), vocabulary=make_vocabulary(vocabulary), theme=theme, other=other
    ).figure


def named(drawn: Any, name: str) -> Any:
    [found] = [trace for trace in drawn.data if trace.name == name]
    return found


def blocks(drawn: Any, name: str) -> Any:
    """(blocks, 4) of a trace of blocks: left, right, bottom and top of each."""
    x, y = (np.asarray(getattr(named(drawn, name), axis), dtype=np.float64).reshape(-1, 5) for axis in "xy")
    assert np.isnan(x[:, 4]).all()
    assert (x[:, 0] == x[:, 1]).all()
    assert (x[:, 2] == x[:, 3]).all()
    return np.stack([x[:, 0], x[:, 2], y[:, 0], y[:, 1]], axis=1)


def tops(drawn: Any, name: str) -> list[float]:
    return [float(top) for top in blocks(drawn, name)[:, 3]]


def middles(drawn: Any, name: str, *, is_log: bool = False) -> Any:
    """(blocks,) where thin blocks stand."""
    low, high = blocks(drawn, name)[:, 2:].T
    return np.sqrt(low * high) if is_log else (low + high) / 2


@pytest.mark.parametrize("p", [0.01, 0.5, 0.9, 0.999, 1.0])
def test_the_contour_stands_below_the_last_rank_kept_for_the_width_of_its_step(trace: Trace, p: float) -> None:
    contour = named(figure(trace, p), "cut")
    assert contour.line.shape == "hv"
    assert contour.line.color == translucent(PALETTES["light"].cut, 1)
    assert list(contour.x) == [0.5, 1.5, 2.5, 3.5, 4.5]
    expected = (trace.nucleus_size if p == 0.9 else nucleus_sizes_at(trace, p)) + 0.5
    assert list(contour.y) == [*expected, expected[-1]]
    strokes = blocks(figure(trace, p), "cut level")
    assert strokes[:, :2].tolist() == [[0.5, 1.5], [1.5, 2.5], [2.5, 3.5], [3.5, 4.5]]
    np.testing.assert_allclose(middles(figure(trace, p), "cut level", is_log=True), expected, rtol=1e-6)
    # Two pixels of some four hundred: no stroke reaches another rank.
    assert (strokes[:, 3] / strokes[:, 2] < 1.07).all()


def test_the_more_steps_the_fainter_are_lines_across_columns_but_not_the_levels_of_the_cut() -> None:
    step = make_step(zipf(300))
    few, many = (figure(make_trace([replace(step, position=i) for i in range(n)]), vocabulary=300) for n in (10, 600))
    assert named(few, "cut").line.color == translucent(PALETTES["light"].cut, 1)
    assert named(many, "cut").line.color == translucent(PALETTES["light"].cut, 0.25)
    assert named(few, "cut level").fillcolor == named(many, "cut level").fillcolor == PALETTES["light"].cut
    assert named(few, "kept tokens").marker.size > named(many, "kept tokens").marker.size


def test_ties_at_the_cut_do_not_move_the_contour() -> None:
    step = make_step([0.25, 0.25, 0.25, 0.25], top_p=0.5)
    drawn = figure(make_trace([step]), vocabulary=4)
    assert named(drawn, "cut").y[0] == step.nucleus_size + 0.5 == 2.5


def test_a_nucleus_of_one_token_and_a_vocabulary_of_one_are_drawn() -> None:
    assert named(figure(make_trace([make_step([1.0])]), vocabulary=1), "cut").y[0] == 1.5
    assert named(figure(make_trace([make_step([0.99, 0.005, 0.005])]), vocabulary=3), "cut").y[0] == 1.5
    single = make_trace([make_step([1.0])])
    told = landscape_figure(single, cut=cut_at(single, 0.9), vocabulary=make_vocabulary(1), theme="dark").description
    assert "at the one step" in told


def test_the_axis_of_ranks_is_logarithmic_goes_down_and_holds_every_cut_and_drawn_token(trace: Trace) -> None:
    for p in (0.5, 0.9, 1.0):
        axis = figure(trace, p).layout.yaxis
        low, high = axis.range
        assert axis.type == "log"
        assert low > high
        assert 10**high == pytest.approx(0.5)
        assert 10**low > max(cut_at(trace, p).sizes.max() + 0.5, trace.rank.max())
        assert 10**low <= V * 1.13
        # Half of a mark on the last rank of all stands beneath it.
        assert p < 1 or 10**low > V * 1.1


def test_the_axes_reach_as_far_as_is_asked_but_not_beyond_the_vocabulary(trace: Trace) -> None:
    def ends(room_for: int) -> tuple[float, float]:
        cut = cut_at(trace, 0.5)
        layout = landscape_figure(
            trace, cut=cut, vocabulary=make_vocabulary(V), theme="light", room_for=room_for
        ).figure.layout
        return 10 ** layout.yaxis.range[0], 10 ** layout.yaxis2.range[1]

    assert ends(10) == ends(0)
    assert min(ends(15_000)) > 15_000
    assert ends(10**6) == ends(V)


def test_the_drawn_tokens_are_a_path_through_their_ranks(trace: Trace) -> None:
    path = named(figure(trace), "drawn")
    assert path.mode == "lines"
    assert list(path.x) == [1, 2, 3, 4]
    assert list(path.y) == trace.rank.tolist() == [1, 8, 301, 4_001]


def test_drawn_tokens_below_the_cut_are_hollow(trace: Trace) -> None:
    drawn = figure(trace, 0.3)
    is_cut = trace.rank > nucleus_sizes_at(trace, 0.3)
    assert is_cut.sum() == 3
    palette = PALETTES["light"]
    for name, which, fill in (("kept tokens", ~is_cut, palette.drawn), ("cut tokens", is_cut, palette.background)):
        dots = named(drawn, name)
        assert list(dots.x) == (np.flatnonzero(which) + 1).tolist()
        assert list(dots.y) == trace.rank[which].tolist()
        assert dots.marker.color == fill
        assert {dots.marker.color, dots.marker.line.color} == {palette.drawn, palette.background}


def test_the_picture_shows_each_rank_of_the_head_in_the_colour_of_its_probability(trace: Trace) -> None:
    drawn = figure(trace)
    picture = named(drawn, "probability")
    z = np.asarray(picture.z)
    assert (picture.x0, picture.dx, z.shape[1]) == (1, 1, 4)
    low, high = drawn.layout[picture.yaxis.replace("y", "yaxis")].range
    assert (low, high) == drawn.layout.yaxis.range
    assert drawn.layout.yaxis.overlaying == picture.yaxis  # so that the marks stand in front of it
    # The rows fill the axis, each centred on its y.
    assert picture.y0 - picture.dy / 2 == pytest.approx(high)
    assert picture.y0 + (len(z) - 0.5) * picture.dy == pytest.approx(low)
    ranks = 10.0 ** (picture.y0 + np.arange(len(z)) * picture.dy)
    single = ranks < 11.5
    assert set(np.round(ranks[single])) == set(range(1, 12))
    for shades, rank in zip(z[single], np.round(ranks[single]).astype(int), strict=True):
        shares = np.clip(1 + np.log10(trace.head_probabilities[:, rank - 1]) / 5, 0, 1)
        np.testing.assert_allclose(shades, 1 + shares * 254, atol=0.51)


def test_the_picture_has_no_colour_where_no_token_is() -> None:
    trace = make_trace([make_step(zipf(1_000), top_k=5)])
    z = np.asarray(named(figure(trace, vocabulary=1_000), "probability").z)
    picture = named(figure(trace, vocabulary=1_000), "probability")
    ranks = 10.0 ** (picture.y0 + np.arange(len(z)) * picture.dy)
    assert (z[ranks > 5.5] == 0).all()
    assert (z[ranks < 5.5] > 0).all()
    assert picture.zmin == 1


def test_all_rows_share_one_axis_of_steps(trace: Trace) -> None:
    drawn = figure(trace)
    layout = drawn.layout.to_plotly_json()
    assert [name for name in layout if name.startswith("xaxis")] == ["xaxis"]
    rows = [name for name in layout if name.startswith("yaxis")]
    assert len(rows) == 6
    domains = sorted(layout[row]["domain"] for row in rows if "overlaying" not in layout[row])
    assert len(domains) == 5
    assert all(high < low for (_, high), (low, _) in pairwise(domains))
    assert all(layout[row]["fixedrange"] for row in rows)
    assert {trace.xaxis for trace in drawn.data} <= {None, "x"}
    assert drawn.layout.xaxis.fixedrange is False
    assert (drawn.layout.hovermode, drawn.layout.hoversubplots, drawn.layout.dragmode) == ("x", "axis", "zoom")
    assert (drawn.layout.xaxis.showspikes, drawn.layout.xaxis.spikemode) == (True, "across")
    assert drawn.layout.uirevision == figure(trace, 0.5).layout.uirevision is not None


def test_the_rows_beneath_tell_sizes_masses_entropy_surprisal_and_rank(trace: Trace) -> None:
    drawn = figure(trace)
    assert tops(drawn, "nucleus size") == trace.nucleus_size.tolist()
    np.testing.assert_allclose(middles(drawn, "kept mass"), trace.nucleus_mass, rtol=1e-6)
    assert list(named(drawn, "p").y) == [0.9, 0.9]
    np.testing.assert_allclose(blocks(drawn, "overshoot")[:, 2], 0.9, rtol=1e-6)
    np.testing.assert_allclose(tops(drawn, "overshoot"), trace.nucleus_mass, rtol=1e-6)
    assert list(named(drawn, "entropy").y) == trace.entropy.tolist()
    np.testing.assert_allclose(middles(drawn, "surprisal"), trace.surprisal, rtol=1e-5)
    is_cut = trace.rank > trace.nucleus_size
    for name, which in (("rank", ~is_cut), ("rank below the cut", is_cut)):
        expected = np.where(which, trace.rank, np.nan)
        np.testing.assert_allclose(middles(drawn, name, is_log=True), expected, rtol=1e-5)


def test_a_compared_cut_is_dotted_over_ranks_and_sizes(trace: Trace) -> None:
    drawn = figure(trace, 0.5, compare=True)
    assert list(named(drawn, "other cut").y)[:-1] == (trace.nucleus_size + 0.5).tolist()
    assert named(drawn, "other cut").line.dash == "dot"
    assert list(named(drawn, "other size").y)[:-1] == trace.nucleus_size.tolist()
    assert tops(drawn, "nucleus size") == nucleus_sizes_at(trace, 0.5).tolist()
    assert not [t for t in figure(trace, 0.5).data if t.name.startswith("other")]


def test_a_mass_that_is_not_known_is_not_drawn(trace: Trace) -> None:
    cut = cut_at(trace, 0.5)
    unknown = np.isnan(cut.masses)
    assert unknown.tolist() == [False, False, False, True]
    drawn = figure(trace, 0.5)
    for name in ("kept mass", "overshoot"):
        assert np.isnan(blocks(drawn, name)[:, 2:]).all(axis=1).tolist() == unknown.tolist()
    assert "of the mass" in named(drawn, "drawn").hovertext[2]
    assert "of the mass" not in named(drawn, "drawn").hovertext[3]


def test_what_later_settings_keep_stands_in_front_of_the_nucleus() -> None:
    steps = [make_step(zipf(100), min_p=0.3, position=i) for i in range(3)]
    trace = make_trace(steps)
    drawn = figure(trace, vocabulary=100)
    assert steps[0].kept_size < steps[0].nucleus_size
    assert tops(drawn, "nucleus size") == [step.nucleus_size for step in steps]
    assert tops(drawn, "kept size") == [step.kept_size for step in steps]
    assert named(drawn, "kept size").fillcolor == PALETTES["light"].kept
    names = [t.name for t in drawn.data]
    assert names.index("kept size") > names.index("nucleus size")
    assert any("dropped later" in note.text for note in drawn.layout.annotations)
    # What the settings would have kept at another p is not stored.
    assert "kept size" not in [t.name for t in figure(trace, 0.5, vocabulary=100).data]


def test_the_label_of_a_step_tells_its_numbers_once(trace: Trace) -> None:
    drawn = figure(trace)
    assert [t.name for t in drawn.data if t.hoverinfo not in {"skip", "none"}] == ["drawn"]
    label = named(drawn, "drawn").hovertext[1]
    step = trace.step(1)
    for told in (" t7", "step 2", "rank 8", f"nucleus {step.nucleus_size}", "% of the mass", "admitting p", "bits"):
        assert told.replace(" t7", "␣t7") in label
    # A row all of whose traces are skipped would have no line at the pointer's step.
    assert {t.yaxis for t in drawn.data if t.hoverinfo == "none"} == {"y2", "y3", "y4", "y5"}


def test_tokens_are_never_read_as_markup() -> None:
    step = make_step([0.5, 0.3, 0.2], drawn=1)
    drawn = landscape_figure(
        make_trace([step]),
        cut=CutLine("<b>p</b>", 0.9, np.array([2]), np.array([0.8])),
        other=CutLine("<u>run</u>", 0.9, np.array([2]), np.array([0.8])),
        vocabulary=make_vocabulary(3, ["a", "<i>$x$", "c"]),
        theme="light",
    ).figure
    [label] = named(drawn, "drawn").hovertext
    assert label.startswith("<b>&lt;i&gt;&#36;x&#36;</b>, step 1<br>")
    assert "cut at &lt;b&gt;p&lt;/b&gt;" in drawn.layout.title.text
    assert "&lt;u&gt;run&lt;/u&gt;" in drawn.layout.title.text


def test_a_replayed_token_that_nothing_keeps_does_not_break_it(trace: Trace) -> None:
    odd = replace(
        trace,
        probability=np.zeros(4),
        rank=np.full(4, V),
        surprisal=np.array([np.inf, 1, 2, 3]),
        admitting_p=np.ones(4),
    )
    drawn = figure(odd)
    assert np.isnan(blocks(drawn, "surprisal")[:, 3]).tolist() == [True, False, False, False]
    assert 10 ** drawn.layout.yaxis.range[0] >= V


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_key_names_every_mark_in_its_colour(trace: Trace, theme: Theme) -> None:
    palette = PALETTES[theme]
    title = figure(trace, 0.5, theme=theme, compare=True).layout.title.text
    for colour, word in ((palette.cut, "cut at p = 0.5"), (palette.drawn, "drawn"), (palette.text, "p = 0.9")):
        assert colour in title
        assert word in title
    assert "below the cut" in title
    assert "probability" in title
    bar = named(figure(trace, theme=theme), "probability")
    shares = [float(text.split()[0]) / 100 for text in bar.colorbar.ticktext]
    assert 10.0 ** ((np.asarray(bar.colorbar.tickvals) - 1) / 254 * 5 - 5) == pytest.approx(shares)
    assert bar.colorscale[0][1] == palette.background


def test_the_description_tells_the_spread_in_words(trace: Trace) -> None:
    told = landscape_figure(
        trace, cut=cut_at(trace, 0.9), vocabulary=make_vocabulary(V), theme="light", other=cut_at(trace, 0.5)
    ).description
    assert f"from {trace.nucleus_size.min():,} to {trace.nucleus_size.max():,}" in told
    assert "each of 4 steps" in told
    assert f"{np.count_nonzero(trace.rank > trace.nucleus_size)} of 4 are below the cut" in told
    assert "For comparison, p = 0.5" in told


def test_three_hundred_steps_are_a_figure_of_modest_size() -> None:
    step: Step = make_step(zipf(50_257, 1.1), drawn=40)
    trace = make_trace([replace(step, position=i) for i in range(300)])
    packed = figure(trace, vocabulary=50_257).to_json()
    assert len(packed) < 400_000
    assert '"z":{"dtype":"u1","bdata":' in packed
