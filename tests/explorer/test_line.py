"""What a page is told: all of it, in its order, over slow connections too; and nothing once it is closed."""

import asyncio
import logging
import re
import time

import panel as pn
import pytest
from bokeh.models import Button, Column, Div
from panel.io.server import WSHandler
from playwright.sync_api import expect

from seqscope.explorer.guard import Socket
from seqscope.explorer.server import serve


def growing(source):
    """A page with a button that gives it a line of text, and then changes the line."""
    button = Button(label="More")
    lines = Column(button)

    def grow(event):
        line = Div(text="first")
        lines.children = [button, line]  # Bokeh writes this as the callback ends
        with pn.io.unlocked():  # and Panel this at once
            line.text = "last"

    button.on_event("button_click", grow)
    page = pn.Template("{% extends base %}{% block contents %}{{ embed(roots.lines) }}{% endblock %}")
    page.add_panel("lines", pn.pane.Bokeh(lines))
    return page


def test_what_is_new_is_told_before_what_changes_in_it(page, vowels):
    with serve(vowels, port=0, make=growing) as running:
        page.goto(running.url)
        page.get_by_role("button", name="More").click()
        expect(page.get_by_text("last")).to_be_visible()
        page.close()


@pytest.fixture
def slow(monkeypatch):
    """Have each piece of a message take its time."""
    write = WSHandler.write_message

    async def slowly(self, *of, **options):
        await asyncio.sleep(0.003)
        await write(self, *of, **options)

    monkeypatch.setattr(Socket, "write_message", slowly)


def tab(page, name):
    return page.locator(".bk-tab").filter(has_text=re.compile(f"^{name}$"))


def test_on_a_slow_connection_all_views_are_filled_and_nothing_is_told_before_what_it_is_about(slow, page, served, vowels, watched):
    page.goto(served(vowels))
    for name in ("Map", "Unit", "Live"):
        tab(page, name).click()
        page.wait_for_timeout(700)  # one view is still on its way as the next is asked for
    expect(page.get_by_text("Step 0 of 19")).to_be_visible()
    tab(page, "Map").click()
    expect(page.get_by_text("Each point is a sample")).to_be_visible()
    assert watched.errors == []


def test_a_page_that_is_closed_while_it_is_told_something_leaves_no_word(slow, page, vowels, caplog):
    with serve(vowels, port=0) as running:
        page.goto(running.url)
        tab(page, "Unit").click()
        page.wait_for_timeout(100)
        page.close()
        until = time.monotonic() + 30
        while running._application._clients and time.monotonic() < until:
            time.sleep(0.05)
        assert not running._application._clients
        time.sleep(1)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
