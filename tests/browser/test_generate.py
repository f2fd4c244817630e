"""Generate: tokens arrive, a run can be stopped, and a reload loses nothing."""

from __future__ import annotations

import re
import time

from playwright.sync_api import Page, expect

from tests.browser import steps
from tests.browser.conftest import OpenTab
from tests.browser.server import Server

_MARKUP = "<b>bold</b> <script>window.hacked=1</script> $x^2$ :material/home: **x**"
# Notes at every frame how tall the chart is and how many tokens stand below it. A look from outside the window could
# fall between two frames, where Streamlit swaps the chart for its next state.
_WATCH = """() => {
    window.heights = new Set();
    window.counts = new Set();
    const look = () => {
        const boxes = [...document.querySelectorAll(".st-key-nucleus")].map(chart => chart.getBoundingClientRect());
        if (boxes.length) window.heights.add(boxes.reduce((sum, box) => sum + Math.round(box.height), 0));
        for (const host of document.querySelectorAll('[class*="st-key-strip-"] *')) {
            const strip = host.shadowRoot?.querySelector(".strip");
            if (strip) window.counts.add(strip.querySelectorAll(".token").length);
        }
        requestAnimationFrame(look);
    };
    look();
}"""


def _start_long_run(tab: Page) -> None:
    steps.run(tab, prompt="Once upon a time there was a king", tokens=400)
    expect(steps.tokens(tab).nth(4)).to_be_attached(timeout=steps.PATIENCE_MS)


def _stop(tab: Page) -> None:
    tab.get_by_role("button", name="Stop").click()
    steps.expect_ended(tab)


def test_tokens_arrive_bit_by_bit_under_a_chart_of_constant_height(tab: Page) -> None:
    tab.evaluate(_WATCH)
    steps.run(tab, prompt="Once upon a time", tokens=400)
    # However slow the machine, the window saw the strip at three lengths before the run was over.
    tab.wait_for_function("[...window.counts].filter(count => count > 0).length >= 3", timeout=steps.PATIENCE_MS)
    _stop(tab)
    assert steps.tokens(tab).count() < 400
    heights = tab.evaluate("[...window.heights]")
    assert len(heights) == 1, heights
    assert heights[0] > 100


def test_a_stopped_run_ends_at_once_and_keeps_its_tokens(tab: Page, server: Server) -> None:
    _start_long_run(tab)
    before = time.monotonic()
    _stop(tab)
    # Two polls of the page and a write, with room for a busy machine.
    assert time.monotonic() - before < 5
    expect(tab.get_by_text("ended because it was stopped")).to_be_visible()
    _, status, kept = server.newest_run()
    assert status == "stopped"
    assert 0 < kept < 400
    expect(steps.tokens(tab)).to_have_count(kept)


def test_a_reload_in_the_middle_keeps_watching_the_same_run(tab: Page, server: Server) -> None:
    _start_long_run(tab)
    expect(tab).to_have_url(re.compile(r"[?&]job="))
    address, run_id = tab.url, server.newest_run()[0]
    tab.reload()
    expect(tab.get_by_role("button", name="Stop")).to_be_visible(timeout=steps.PATIENCE_MS)
    assert tab.url == address
    _stop(tab)
    assert server.newest_run()[:2] == (run_id, "stopped")


def test_the_ended_run_leads_to_its_first_step(tab: Page, server: Server) -> None:
    steps.run(tab, prompt="The cat", tokens=3)
    steps.expect_ended(tab)
    tab.get_by_role("link", name="Inspect this run").click()
    run_id, _, drawn = server.newest_run()
    steps.expect_step(tab, 1, drawn)
    expect(tab).to_have_url(re.compile(rf"/inspect\?.*run={run_id}"))


def test_markup_in_a_prompt_is_shown_as_it_is_on_every_page(tab: Page, open_tab: OpenTab, server: Server) -> None:
    steps.run(tab, prompt=_MARKUP, tokens=3)
    steps.expect_ended(tab)
    inspect = open_tab(f"{server.url}/inspect?run={server.newest_run()[0]}&step=1")
    for page in (tab, inspect):
        expect(page.locator(".strip .prompt")).to_have_text(_MARKUP, timeout=steps.PATIENCE_MS)
        assert page.locator(".strip b, .strip script, .strip strong, .strip .katex").count() == 0
        assert page.evaluate("window.hacked") is None
