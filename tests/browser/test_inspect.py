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
    expect(inspect.get_by_text(re.compile(rf"At p = .* of {length} tokens would have been cut"))).to_be_visible(
        timeout=steps.PATIENCE_MS
    )
    expect(inspect.locator(".strip .struck").first).to_be_attached()
    slider.press("End")
    expect(inspect.get_by_text("At p = 1 this text would still have been possible.")).to_be_visible(
        timeout=steps.PATIENCE_MS
    )
    expect(inspect.locator(".strip .struck")).to_have_count(0)
    assert steps.tokens(inspect).all_inner_texts() == text
    steps.expect_step(inspect, 2, length)


def test_a_click_in_a_column_of_the_nucleus_chart_chooses_its_step(inspect: Page, length: int) -> None:
    chart = inspect.locator(".st-key-nucleus .js-plotly-plot")
    chart.scroll_into_view_if_needed()
    steps.expect_quiet(inspect)
    inspect.mouse.click(*chart.evaluate(_COLUMN, 7))
    steps.expect_step(inspect, 7, length)


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
