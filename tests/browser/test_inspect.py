"""Inspect: the step can be chosen in every way, and its address be sent."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser import steps
from tests.browser.conftest import OpenTab
from tests.browser.server import Server

# Where a step's column stands in the window; Plotly keeps this in the figure's full layout.
_COLUMN = """(chart, step) => {
    const {xaxis, yaxis} = chart._fullLayout, box = chart.getBoundingClientRect();
    return [box.left + xaxis._offset + xaxis.d2p(step), box.top + yaxis._offset + yaxis._length / 4];
}"""


def _length(server: Server, run_id: str) -> int:
    return int(server.rows("SELECT output_tokens FROM run WHERE public_id = ?", run_id)[0][0])


@pytest.fixture
def length(server: Server, stored_run: str) -> int:
    return _length(server, stored_run)


@pytest.fixture
def inspect(open_tab: OpenTab, server: Server, stored_run: str, length: int) -> Page:
    page = open_tab(f"{server.url}/inspect?run={stored_run}&step=2")
    steps.expect_step(page, 2, length)
    return page


def test_a_clicked_token_becomes_the_step_and_survives_a_reload(inspect: Page, length: int) -> None:
    steps.tokens(inspect).nth(4).locator(".ink").click()
    steps.expect_step(inspect, 5, length)
    inspect.reload()
    steps.expect_step(inspect, 5, length)


def test_arrow_keys_home_and_end_walk_through_the_text(inspect: Page, length: int) -> None:
    steps.tokens(inspect).nth(1).focus()
    for key, step in (("ArrowRight", 3), ("End", length), ("ArrowLeft", length - 1), ("Home", 1)):
        inspect.keyboard.press(key)
        steps.expect_step(inspect, step, length)


def test_another_p_strikes_tokens_and_leaves_the_text(inspect: Page, length: int) -> None:
    text = steps.tokens(inspect).all_inner_texts()
    slider = inspect.get_by_role("slider")
    slider.focus()
    slider.press("Home")
    expect(inspect.get_by_text(re.compile(rf"At p = .* impossible at .* of {length} tokens"))).to_be_visible(
        timeout=steps.PATIENCE_MS
    )
    expect(inspect.locator(".strip .struck").first).to_be_attached()
    expect(inspect).to_have_url(re.compile(r"[?&]p=0\.01(&|$)"))
    expect(inspect.locator(".step-marker-key")).to_have_text("what if p = 0.01")
    expect(inspect.locator(".step-marker-question .cut")).to_have_count(2)  # over ranks and sizes
    slider.press("End")
    expect(inspect.get_by_text("At p = 1, this text would still have been possible.")).to_be_visible(
        timeout=steps.PATIENCE_MS
    )
    expect(inspect.locator(".strip .struck")).to_have_count(0)
    slider.press("ArrowLeft")
    expect(inspect.locator(".step-marker-key")).to_have_text("what if p = 0.999")
    assert steps.tokens(inspect).all_inner_texts() == text
    steps.expect_step(inspect, 2, length)


def test_other_settings_stay_open_while_they_are_changed_and_replay_the_text(inspect: Page, length: int) -> None:
    # The process that made the run has its model in memory.
    inspect.get_by_role("button", name="Other settings").click()
    for label, value, told in (("Temperature", "0.5", "temperature 0.5"), ("Top-k (tokens)", "3", "top-k 3")):
        steps.fill(inspect, label, value)
        expect(inspect.get_by_text(re.compile(rf"^With .*{told} instead of"))).to_be_visible(timeout=steps.PATIENCE_MS)
    expect(inspect.locator(".strip .struck").first).to_be_attached()
    inspect.get_by_role("button", name="Back to how it is").click()
    expect(inspect.get_by_text(re.compile("^With "))).to_have_count(0, timeout=steps.PATIENCE_MS)
    steps.expect_step(inspect, 2, length)


def test_a_click_anywhere_in_the_landscape_chooses_its_step_and_keys_walk_on(inspect: Page, length: int) -> None:
    chart = inspect.locator(".st-key-landscape .js-plotly-plot")
    chart.scroll_into_view_if_needed()
    steps.expect_quiet(inspect)
    inspect.mouse.click(*chart.evaluate(_COLUMN, 7))
    steps.expect_step(inspect, 7, length)
    inspect.keyboard.press("ArrowRight")
    steps.expect_step(inspect, 8, length)
    inspect.keyboard.press("Home")
    steps.expect_step(inspect, 1, length)


def test_a_zoom_of_the_landscape_stays_when_another_step_is_chosen(inspect: Page, length: int) -> None:
    chart = inspect.locator(".st-key-landscape .js-plotly-plot")
    chart.scroll_into_view_if_needed()
    steps.expect_quiet(inspect)
    (left, top), (right, _) = (chart.evaluate(_COLUMN, step) for step in (4, 12))
    inspect.mouse.move(left, top)
    inspect.mouse.down()
    inspect.mouse.move(right, top, steps=6)
    inspect.mouse.up()
    zoomed = "chart => chart._fullLayout.xaxis.range"
    inspect.wait_for_function(f"() => ({zoomed})(document.querySelector('.st-key-landscape .js-plotly-plot'))[0] > 3")
    before = chart.evaluate(zoomed)
    inspect.wait_for_timeout(500)  # a press sooner after a drag is a double click to Plotly, which ends the zoom
    inspect.mouse.click(*chart.evaluate(_COLUMN, 8))
    steps.expect_step(inspect, 8, length)
    steps.expect_quiet(inspect)
    assert chart.evaluate(zoomed) == before


def test_every_side_of_a_step_is_shown_with_and_without_the_model(inspect: Page, length: int) -> None:
    # The process that made the run has its model in memory.
    for part, chart in (("Samplers", "samplers"), ("How it was made", "stages"), ("Distribution", "bars")):
        inspect.get_by_text(part, exact=True).click()
        expect(inspect.locator(f".st-key-{chart} .js-plotly-plot")).to_be_visible(timeout=steps.PATIENCE_MS)
        steps.expect_quiet(inspect)
        steps.expect_step(inspect, 2, length)


def test_a_branch_is_made_watched_and_found_in_the_tree(inspect: Page, length: int, server: Server) -> None:
    inspect.get_by_text("Continue from here", exact=True).click()
    steps.expect_quiet(inspect)
    typed = inspect.get_by_label("A token of your own, or choose one below")
    typed.fill(" castle")
    typed.press("Enter")
    expect(inspect.get_by_text(re.compile(r"The text up to step 1, then “␣castle”"))).to_be_visible(
        timeout=steps.PATIENCE_MS
    )
    steps.fill(inspect, "Tokens to draw", "5")
    inspect.get_by_role("button", name="Continue from here").last.click()
    steps.expect_ended(inspect)
    inspect.get_by_role("link", name="Inspect this run").click()
    expect(inspect.get_by_role("heading", name="Beside its parent, from step 2 on")).to_be_visible(
        timeout=steps.PATIENCE_MS
    )
    branch, _, drawn = server.newest_run()
    assert drawn == 7
    tree = inspect.locator(f".st-key-family-{branch} .js-plotly-plot")
    tree.scroll_into_view_if_needed()
    steps.expect_quiet(inspect)
    lane = """chart => {
        const {xaxis, yaxis} = chart._fullLayout, box = chart.getBoundingClientRect();
        return [box.left + xaxis._offset + xaxis.d2p(20), box.top + yaxis._offset + yaxis.d2p(0)];
    }"""
    inspect.mouse.click(*tree.evaluate(lane))
    expect(inspect.get_by_role("heading", name=f"Step 1 of {length}", exact=True)).to_be_visible(
        timeout=steps.PATIENCE_MS
    )


def test_a_link_to_an_unknown_run_shows_the_ways_on(open_tab: OpenTab, server: Server) -> None:
    page = open_tab(f"{server.url}/inspect?run=nosuchrun&step=3")
    page.get_by_role("link", name="Choose one from the history").click()
    expect(page.get_by_role("heading", name="History")).to_be_visible(timeout=steps.PATIENCE_MS)


@pytest.mark.parametrize("step", ["9999", "0", "two"])
def test_a_link_to_an_unknown_step_says_so_and_shows_the_first(
    open_tab: OpenTab, server: Server, stored_run: str, length: int, step: str
) -> None:
    page = open_tab(f"{server.url}/inspect?run={stored_run}&step={step}")
    expect(page.get_by_text("none of the number in the link")).to_be_visible(timeout=steps.PATIENCE_MS)
    expect(page.get_by_role("heading", name=f"Step 1 of {length}")).to_be_visible(timeout=steps.PATIENCE_MS)
