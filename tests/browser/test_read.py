"""Read: any text, token by token."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser import steps
from tests.browser.conftest import OpenTab
from tests.browser.server import Server

TEXT = "The old man & the <b>sea</b>."


def test_a_pasted_text_is_read_and_its_steps_can_be_walked(open_tab: OpenTab, server: Server, stored_run: str) -> None:
    assert stored_run  # the model is in memory
    page: Page = open_tab(f"{server.url}/read")
    steps.fill(page, "Text", TEXT)
    page.get_by_role("button", name="Read").last.click()
    expect(page.get_by_text(re.compile(r"\d+ tokens, read at once"))).to_be_visible(timeout=steps.PATIENCE_MS)
    expect(steps.tokens(page).first).to_be_visible(timeout=steps.PATIENCE_MS)
    steps.expect_quiet(page)
    length = steps.tokens(page).count()
    assert "".join(steps.tokens(page).all_inner_texts()) == TEXT
    steps.tokens(page).nth(2).locator(".ink").click()
    steps.expect_step(page, 3, length)
    page.keyboard.press("ArrowRight")
    steps.expect_step(page, 4, length)


def test_a_runs_text_is_read_by_its_link(open_tab: OpenTab, server: Server, stored_run: str) -> None:
    page = open_tab(f"{server.url}/inspect?run={stored_run}")
    page.get_by_role("button", name="Read its prompt").click()
    expect(page.get_by_label("Text", exact=True)).to_have_value("Once upon a time", timeout=steps.PATIENCE_MS)
    expect(page.locator(".st-key-landscape .js-plotly-plot")).to_be_visible(timeout=steps.PATIENCE_MS)
