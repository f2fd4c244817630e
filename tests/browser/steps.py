"""What a visitor does, and what can be seen then."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

PATIENCE_MS = 30_000
ENDED = re.compile(r"tokens in .* ended because")


def run(page: Page, *, prompt: str, tokens: int) -> None:
    """Fill in the form and press Run.

    So hot that the end-of-text token is one of tens of thousands: a run has the length that it is asked for.
    """
    fill(page, "Prompt", prompt)
    fill(page, "Temperature", "5")
    fill(page, "New tokens", str(tokens))
    page.get_by_role("button", name="Run").first.click()


def fill(page: Page, label: str, value: str) -> None:
    """Write into a field and leave it, so that the page has taken it."""
    field = page.get_by_label(label, exact=True).first
    field.fill(value)
    field.press("Tab")
    expect_quiet(page)


def expect_quiet(page: Page) -> None:
    """The page's script has ended."""
    expect(page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')).to_be_visible(
        timeout=PATIENCE_MS
    )


def expect_ended(page: Page, *, timeout: float = PATIENCE_MS) -> None:
    """The run has ended and can be inspected."""
    expect(page.get_by_text(ENDED)).to_be_visible(timeout=timeout)
    expect(page.get_by_role("link", name="Inspect this run")).to_be_visible(timeout=PATIENCE_MS)


def tokens(page: Page) -> Locator:
    """The tokens of the strip."""
    return page.locator(".strip .token")


def expect_step(page: Page, step: int, length: int) -> None:
    """The step is chosen in the heading, the strip and the URL alike."""
    expect(page.get_by_role("heading", name=f"Step {step} of {length}", exact=True)).to_be_visible(timeout=PATIENCE_MS)
    expect(page).to_have_url(re.compile(rf"[?&]step={step}(&|$)"), timeout=PATIENCE_MS)
    expect(tokens(page).nth(step - 1)).to_have_attribute("aria-selected", "true", timeout=PATIENCE_MS)
    expect(page.locator('.strip .token[aria-selected="true"]')).to_have_count(1)
