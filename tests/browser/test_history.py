"""History: stored runs are found, opened and deleted, also by the next process."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser import steps
from tests.browser.conftest import OpenTab
from tests.browser.server import Server, served

# The table is drawn on a canvas: the marker of the first row lies below the header, at the left edge.
_MARKER_X, _HEADER, _ROW = 16, 38, 38


def _choose_first_row(page: Page) -> None:
    table = page.get_by_test_id("stDataFrame")
    expect(table.locator("canvas").first).to_be_visible(timeout=steps.PATIENCE_MS)
    steps.expect_quiet(page)
    table.click(position={"x": _MARKER_X, "y": _HEADER + _ROW / 2})
    expect(page.get_by_role("button", name="Open")).to_be_enabled(timeout=steps.PATIENCE_MS)


@pytest.fixture
def history(open_tab: OpenTab, server: Server, stored_run: str) -> Page:
    page = open_tab(f"{server.url}/history")
    expect(page.get_by_text("newest first")).to_be_visible(timeout=steps.PATIENCE_MS)
    return page


def test_the_newest_run_is_first_and_opens(history: Page, server: Server) -> None:
    _choose_first_row(history)
    history.get_by_role("button", name="Open").click()
    run_id, _, length = server.newest_run()
    expect(history).to_have_url(re.compile(rf"/inspect\?run={run_id}"), timeout=steps.PATIENCE_MS)
    expect(history.get_by_role("heading", name=f"Step 1 of {length}")).to_be_visible(timeout=steps.PATIENCE_MS)


def test_a_run_is_deleted_only_after_confirmation(tab: Page, server: Server, stored_run: str) -> None:
    steps.run(tab, prompt="To be deleted", tokens=2)
    steps.expect_ended(tab)
    run_id = server.newest_run()[0]
    assert run_id != stored_run
    tab.get_by_role("link", name="History").click()
    _choose_first_row(tab)
    question = tab.get_by_role("dialog")

    tab.get_by_role("button", name="Delete").click()
    expect(question.get_by_text("To be deleted")).to_be_visible(timeout=steps.PATIENCE_MS)
    question.get_by_role("button", name="Keep it").click()
    expect(question).to_be_hidden(timeout=steps.PATIENCE_MS)
    assert server.newest_run()[0] == run_id

    tab.get_by_role("button", name="Delete").click()
    question.get_by_role("button", name="Delete").click()
    expect(tab.get_by_text("The run was deleted.")).to_be_visible(timeout=steps.PATIENCE_MS)
    assert server.newest_run()[0] != run_id


def test_the_next_process_finds_the_runs_of_the_last(open_tab: OpenTab, server: Server, stored_run: str) -> None:
    before = server.rows("SELECT public_id FROM run")
    with served(server.database.parent, "next.log") as successor:
        page = open_tab(f"{successor.url}/history")
        number = len(before)
        expect(page.get_by_text(f"{number} {'run' if number == 1 else 'runs'}, newest first")).to_be_visible(
            timeout=steps.PATIENCE_MS
        )
        page.goto(f"{successor.url}/inspect?run={stored_run}&step=3")
        expect(page.get_by_role("heading", name=re.compile("^Step 3 of "))).to_be_visible(timeout=steps.PATIENCE_MS)
        page.close()
