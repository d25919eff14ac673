"""A browser that looks at pages, one for all tests of a run.

`page` is a tab of Chromium, `new_page(...)` gives tabs with other options. A test whose tab had errors in its console, or asked another
machine than this for anything, fails at its end.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

# Seconds in milliseconds: a machine with much to do is slow to start a page.
PATIENCE = 20_000
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, without a window."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("The page is looked at in Chromium, and there is none here.")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        yield running
        running.close()


class Watched:
    """Writes down what tabs complain of and whom they ask."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.asked: list[str] = []

    def watch(self, page: Page) -> None:
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", lambda connection: self.asked.append(connection.url))

    @property
    def outside(self) -> list[str]:
        """What was asked of other machines."""
        parts = [(url, urlsplit(url)) for url in self.asked]
        return [url for url, part in parts if part.scheme not in ("data", "blob", "about", "file") and part.hostname != "127.0.0.1"]


@pytest.fixture
def watched() -> Watched:
    """What the tabs of this test complained of and whom they asked."""
    return Watched()


@pytest.fixture
def new_page(browser: Browser, watched: Watched) -> Iterator[Callable[..., Page]]:
    """Open a tab of a person of its own, with options of Playwright's `new_context`: `color_scheme="dark"`, `viewport=...`."""
    with ExitStack() as opened:

        def open_tab(**options):
            context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
            opened.callback(context.close)
            context.set_default_timeout(PATIENCE)
            page = context.new_page()
            watched.watch(page)
            return page

        yield open_tab
    assert watched.errors == []
    assert watched.outside == []


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """A tab of Chromium, 1280 wide."""
    return new_page()
