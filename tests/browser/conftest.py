"""One app and one Chromium for all tests in this folder; each test has a tab of its own that must stay clean."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from dashboard.figures.palette import Theme
from tests.browser import steps
from tests.browser.server import Server, served

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# On a deep link Streamlit asks for these below the page's own path first, and then where they are.
_HARMLESS = re.compile(r"^/[a-z]+/_stcore/(health|host-config)$")
# The first run of a process imports torch and loads the model.
_FIRST_RUN_MS = 120_000

OpenTab = Callable[..., Page]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    server = getattr(item, "funcargs", {}).get("server")
    if report.failed and isinstance(server, Server):
        report.sections.append(("log of the app", server.log.read_text()[-8_000:]))
    return report


@pytest.fixture(scope="session")
def chromium() -> str:
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found and Path(found).exists():
        return found
    reason = "no Chromium: install Debian's package `chromium`, or name the program in the variable CHROMIUM"
    if os.environ.get("NUCLEUS_LENS_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        yield browser
        browser.close()


# The browser first: without one no app needs to start.
@pytest.fixture(scope="session")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("app"), "app.log") as running:
        yield running


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[OpenTab]:
    """Open tabs, each a new visitor; errors in them and requests to other hosts fail the test."""
    complaints: list[str] = []
    tabs: list[Page] = []

    def on_console(message: ConsoleMessage) -> None:
        address = message.location["url"]
        if message.type == "error" and not _HARMLESS.match(urlsplit(address).path):
            complaints.append(f"console: {message.text} ({address})")

    def on_request(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob"} and parts.hostname != "localhost":
            complaints.append(f"request to another host: {request.url}")

    def open_one(url: str, *, width: int = 1280, theme: Theme = "light") -> Page:
        tab = browser.new_page(viewport={"width": width, "height": 1000}, color_scheme=theme)
        tabs.append(tab)
        tab.set_default_timeout(steps.PATIENCE_MS)
        tab.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
        tab.on("console", on_console)
        tab.on("request", on_request)
        tab.goto(url)
        return tab

    yield open_one
    for tab in tabs:
        if not tab.is_closed():
            steps.expect_quiet(tab)  # what the page still asks for is heard too
            tab.wait_for_load_state("networkidle")
            tab.close()
    assert not complaints


@pytest.fixture
def tab(open_tab: OpenTab, server: Server, stored_run: str) -> Page:
    """Generate in a tab of its own, in a process whose model is loaded."""
    assert stored_run
    return open_tab(server.url)


@pytest.fixture(scope="session")
def stored_run(browser: Browser, server: Server) -> str:
    """The public id of a finished run of 24 tokens at p = 0.9, made as a visitor makes it."""
    page = browser.new_page()
    page.set_default_timeout(steps.PATIENCE_MS)
    page.goto(server.url)
    steps.run(page, prompt="Once upon a time", tokens=24)
    steps.expect_ended(page, timeout=_FIRST_RUN_MS)
    page.close()
    return server.newest_run()[0]
