"""Nothing sticks out of a phone's window."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from dashboard.figures.palette import Theme
from tests.browser import steps
from tests.browser.conftest import OpenTab
from tests.browser.server import Server

_WIDTHS = "() => [document.documentElement.scrollWidth, document.querySelector('[data-testid=stMain]').scrollWidth]"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_scrolls_sideways_on_a_phone(open_tab: OpenTab, server: Server, stored_run: str, theme: Theme) -> None:
    phone = open_tab(server.url, width=390, theme=theme)
    for path, heading in (("", "Generate"), (f"inspect?run={stored_run}", "Inspect"), ("history", "History")):
        phone.goto(f"{server.url}/{path}")
        expect(phone.get_by_role("heading", name=heading, exact=True)).to_be_visible(timeout=steps.PATIENCE_MS)
        steps.expect_quiet(phone)
        assert phone.evaluate(_WIDTHS) == [390, 390], heading
