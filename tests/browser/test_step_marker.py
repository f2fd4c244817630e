"""Choosing a step on a chart and with the keys, on the page of step_page.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import steps
from tests.browser.conftest import OpenTab
from tests.browser.server import Server, served
from tests.browser.step_page import LENGTH

# Where Plotly itself has drawn the dot of a step, and its frame, in the window.
_PLACES = """step => {
    const chart = document.querySelector(".st-key-chart .js-plotly-plot");
    const dot = chart.querySelectorAll(".scatterlayer .point")[step - 1]?.getBoundingClientRect();
    const frame = chart.querySelector(".svg-container").getBoundingClientRect();
    const plots = [...chart.querySelectorAll(".nsewdrag")].map(plot => plot.getBoundingClientRect());
    return {
        dot: dot && dot.left + dot.width / 2,
        top: Math.min(...plots.map(plot => plot.top)),
        bottom: Math.max(...plots.map(plot => plot.bottom)),
        left: plots[0].left,
        right: plots[0].right,
        frame: [frame.left, frame.right],
        range: chart._fullLayout.xaxis.range.map(Math.round),
    };
}"""
_LINE = """() => {
    const lines = [...document.querySelectorAll(".step-marker-line")].filter(line => !line.hidden);
    if (lines.length !== 1) return { count: lines.length };
    const [line, label] = [lines[0], lines[0].firstChild].map(element => element.getBoundingClientRect());
    return {
        count: 1,
        x: line.left + line.width / 2,
        width: line.width,
        top: line.top,
        bottom: line.bottom,
        label: lines[0].textContent,
        labelled: [label.left, label.right],
        colour: getComputedStyle(lines[0]).borderLeftColor,
        chart: lines[0].closest("[class*=st-key-]").className,
    };
}"""


@pytest.fixture(scope="module")
def step_page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    assert browser
    with served(tmp_path_factory.mktemp("steps"), "steps.log", "tests/browser/step_page.py") as running:
        yield running


@pytest.fixture
def page(open_tab: OpenTab, step_page: Server) -> Page:
    tab = open_tab(step_page.url)
    _expect_line(tab, 10)
    steps.expect_quiet(tab)
    return tab


def _expect_line(page: Page, step: int) -> None:
    """The line is on the chart, over both rows, at the place where Plotly has drawn the step."""
    page.wait_for_function(
        "text => [...document.querySelectorAll('.step-marker-line')].some(e => !e.hidden && e.textContent === text)",
        arg=f"step {step}",
    )
    line, places = page.evaluate(_LINE), page.evaluate(_PLACES, step)
    assert line["width"] >= 1
    assert line["x"] == pytest.approx(places["dot"], abs=1)
    assert (line["top"], line["bottom"]) == pytest.approx((places["top"], places["bottom"]), abs=1)
    assert "st-key-chart" in line["chart"]
    left, right = places["frame"]
    assert left - 0.5 <= line["labelled"][0] < line["labelled"][1] <= right + 0.5


def _expect_answered(page: Page, step: int, choices: int) -> None:
    """The page has heard of the choice, and of no other."""
    expect(page.get_by_text(f"Step {step} after {choices} choices", exact=True)).to_be_visible()
    steps.expect_quiet(page)
    expect(steps.tokens(page).nth(step - 1)).to_have_attribute("aria-selected", "true")
    _expect_line(page, step)


def _click(page: Page, step: int, *, down: float = 0.8, count: int = 1) -> None:
    """Click where the step is drawn, so far down the plot."""
    places = page.evaluate(_PLACES, step)
    height = places["bottom"] - places["top"]
    page.mouse.click(places["dot"] + 3, places["top"] + down * height, click_count=count, delay=20)


def _zoom(page: Page, first: int, last: int) -> None:
    start, end = page.evaluate(_PLACES, first), page.evaluate(_PLACES, last)
    page.mouse.move(start["dot"], start["top"] + 30)
    page.mouse.down()
    page.mouse.move(end["dot"], end["top"] + 35, steps=8)
    page.mouse.up()
    page.wait_for_function(
        "([lo, hi]) => { const r = document.querySelector('.st-key-chart .js-plotly-plot')._fullLayout.xaxis.range; "
        "return Math.abs(r[0] - lo) < 1 && Math.abs(r[1] - hi) < 1; }",
        arg=[first, last],
    )
    page.wait_for_timeout(350)  # Plotly takes a press that follows sooner for the second of a double click


def _range(page: Page) -> list[int]:
    return list(page.evaluate(_PLACES, 1)["range"])


def test_a_click_anywhere_in_the_plot_chooses_the_nearest_step(page: Page) -> None:
    for choices, (step, down) in enumerate([(42, 0.1), (20, 0.5), (51, 0.9)], start=1):
        _click(page, step, down=down)
        _expect_answered(page, step, choices)


def test_a_click_shows_in_chart_and_text_before_the_page_answers(page: Page) -> None:
    _click(page, 42)
    assert page.evaluate(_LINE)["label"] == "step 42"
    expect(steps.tokens(page).nth(41)).to_have_attribute("aria-selected", "true", timeout=100)
    assert page.get_by_text("after 0 choices").is_visible()
    _expect_answered(page, 42, 1)


def test_a_drag_zooms_and_chooses_nothing(page: Page) -> None:
    _zoom(page, 5, 30)
    steps.expect_quiet(page)
    _expect_line(page, 10)
    expect(page.get_by_text("after 0 choices")).to_be_visible()


def test_choices_leave_the_zoom_and_the_line_follows_it(page: Page) -> None:
    _zoom(page, 20, 40)
    assert page.evaluate(_LINE)["count"] == 0, "step 10 is out of sight"
    _click(page, 33)
    _expect_answered(page, 33, 1)
    steps.tokens(page).nth(24).locator(".ink").click()
    _expect_answered(page, 25, 2)
    assert _range(page) == [20, 40]


def test_a_double_click_shows_the_whole_run_and_keeps_the_chosen_step(page: Page) -> None:
    _zoom(page, 5, 30)
    _click(page, 22, count=2)
    page.wait_for_function(
        "() => document.querySelector('.st-key-chart .js-plotly-plot')._fullLayout.xaxis.range[1] > 60"
    )
    expect(page.get_by_text("Step 10 after 2 choices", exact=True)).to_be_visible()
    _expect_line(page, 10)


def test_a_click_beside_the_plot_or_on_another_chart_chooses_nothing(page: Page) -> None:
    places = page.evaluate(_PLACES, 30)
    page.mouse.click(places["dot"], places["bottom"] + 20)
    page.mouse.click(places["dot"], places["top"] - 20)
    page.mouse.click(places["left"] - 20, places["top"] + 50)
    page.locator(".st-key-other .js-plotly-plot").click(position={"x": 300, "y": 150})
    page.mouse.click(places["dot"], places["top"] + 50, button="right")
    page.wait_for_timeout(300)
    expect(page.get_by_text("Step 10 after 0 choices")).to_be_visible()
    assert page.evaluate(_LINE)["label"] == "step 10"


def test_the_line_comes_back_with_a_new_figure_a_new_size_and_a_new_chart(page: Page) -> None:
    page.evaluate("() => { document.querySelector('.st-key-chart .js-plotly-plot').isOld = true; }")
    steps.fill(page, "Version", "3")
    page.wait_for_function("() => document.querySelector('.st-key-chart .js-plotly-plot')?.isOld === undefined")
    _expect_line(page, 10)
    page.set_viewport_size({"width": 700, "height": 1000})
    page.wait_for_function("() => document.querySelector('.st-key-chart .svg-container').clientWidth < 700")
    page.wait_for_timeout(300)
    _expect_line(page, 10)
    page.get_by_text("Show the chart").click()
    expect(page.locator(".step-marker-line")).to_have_count(0)
    page.get_by_text("Show the chart").click()
    _expect_line(page, 10)
    _click(page, 12)
    _expect_answered(page, 12, 1)


@pytest.mark.parametrize("step", [1, LENGTH])
def test_the_label_stays_inside_of_a_narrow_chart(open_tab: OpenTab, step_page: Server, step: int) -> None:
    phone = open_tab(step_page.url, width=390)
    _expect_line(phone, 10)
    steps.tokens(phone).nth(step - 1).locator(".ink").click()
    _expect_answered(phone, step, 1)


def test_the_line_has_the_colour_of_the_text_in_either_theme(open_tab: OpenTab, step_page: Server) -> None:
    page = open_tab(step_page.url, theme="dark")
    _expect_line(page, 10)
    assert page.evaluate(_LINE)["colour"] == "rgb(230, 237, 240)"
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"() => ({_LINE})().colour === 'rgb(29, 42, 48)'")
    _expect_line(page, 10)


def test_the_marker_takes_up_no_room(page: Page) -> None:
    gaps = page.evaluate("""() => {
        const boxes = [...document.querySelectorAll("[data-testid=stElementContainer]")]
            .map(element => element.getBoundingClientRect())
            .filter(box => box.height > 0);
        return boxes.slice(1).map((box, i) => Math.round(box.top - boxes[i].bottom));
    }""")
    assert len(set(gaps)) == 1, gaps


def test_arrow_keys_walk_wherever_the_focus_is(page: Page) -> None:
    page.keyboard.press("ArrowRight")
    _expect_answered(page, 11, 1)
    page.get_by_text("Show the chart").locator("xpath=ancestor::label").locator("input").focus()
    page.keyboard.press("ArrowLeft")
    _expect_answered(page, 10, 2)


def test_a_held_key_moves_the_outline_at_once_and_tells_the_page_at_the_end(page: Page) -> None:
    page.keyboard.down("ArrowRight")
    for _ in range(9):
        page.keyboard.down("ArrowRight")
    page.keyboard.up("ArrowRight")
    assert page.evaluate(_LINE)["label"] == "step 20"
    _expect_answered(page, 20, 2)


def test_steps_taken_while_the_page_answers_are_not_undone_by_its_answers(page: Page) -> None:
    page.evaluate(f"""() => {{
        window.seen = [];
        const look = () => {{
            const label = ({_LINE})().label;
            if (label !== window.seen.at(-1)) window.seen.push(label);
            requestAnimationFrame(look);
        }};
        look();
    }}""")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(120)
    expect(page.get_by_text("Step 15 after")).to_be_visible()
    steps.expect_quiet(page)
    seen = page.evaluate("window.seen")
    assert seen == [f"step {step}" for step in range(10, 16)]


def test_keys_that_scroll_the_page_choose_nothing(page: Page) -> None:
    for key in ("End", "Home", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    expect(page.get_by_text("Step 10 after 0 choices")).to_be_visible()


def test_home_and_end_are_the_keys_of_a_chart_that_was_clicked(page: Page) -> None:
    _click(page, 30)
    page.keyboard.press("End")
    _expect_answered(page, LENGTH, 2)
    page.keyboard.press("Home")
    _expect_answered(page, 1, 3)


def test_fields_sliders_and_lists_keep_their_keys(page: Page) -> None:
    for control in (page.get_by_label("Field"), page.get_by_label("Box"), page.get_by_role("slider").first):
        control.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowLeft")
    page.get_by_label("Box").click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    page.get_by_label("Version").focus()
    page.keyboard.press("ArrowLeft")
    steps.expect_quiet(page)
    expect(page.get_by_text("Step 10 after 0 choices")).to_be_visible()


def test_walking_with_the_text_out_of_sight_does_not_scroll_back_to_it(page: Page) -> None:
    steps.tokens(page).nth(9).locator(".ink").click()
    page.set_viewport_size({"width": 1280, "height": 400})
    page.locator(".st-key-other").scroll_into_view_if_needed()
    before = page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop")
    assert before > 0
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("Step 11 after")).to_be_attached()
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop") == before
