"""How the page is served and kept safe."""

from playwright.sync_api import expect


def test_a_page_comes_whole_from_this_machine(served, vowels, page, watched):
    page.goto(served(vowels))
    expect(page.get_by_role("heading", level=1)).to_have_text(vowels.name)
    page.wait_for_function("window.Bokeh && Bokeh.documents.length > 0")
    page.wait_for_load_state("networkidle")
    page.screenshot(path="/tmp/h_first.png")
    assert any(url.startswith("ws://127.0.0.1:") for url in watched.asked)
    assert len(watched.asked) > 5
