"""The page in a browser: its keys, its address, its colours, on a small screen and a large one."""

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import expect


def opened(page, url):
    """Open the page and wait until it stands."""
    page.goto(url)
    page.wait_for_function("window.Bokeh && Bokeh.documents.length > 0 && Bokeh.documents[0].is_idle")
    return page


def at(page, **said):
    """Wait until the address says it."""
    for name, value in said.items():
        expect(page).to_have_url(re.compile(rf"[?&]{name}={value}(&|$)"))


def test_arrows_step_through_samples_and_the_address_follows(page, served, vowels):
    opened(page, served(vowels))
    page.locator("h1").click()
    page.keyboard.press("ArrowDown")
    at(page, sample=1)
    page.keyboard.press("ArrowDown")
    at(page, sample=2)
    page.keyboard.press("ArrowRight")
    at(page, sample=2, unit=r"\d+")
    page.go_back()
    expect(page).not_to_have_url(re.compile("unit="))
    expect(page.get_by_role("spinbutton", name="Sample").or_(page.get_by_label("Sample", exact=True)).first).to_have_value("2")


def test_of_many_presses_at_once_none_is_lost(page, served, vowels):
    opened(page, served(vowels) + "?order=name")
    page.locator("h1").click()
    for key in ("ArrowDown", "ArrowRight", "ArrowDown") * 5:
        page.keyboard.press(key)
    at(page, sample=10, unit=5)


def test_arrows_in_a_list_are_the_lists_own(page, served, vowels):
    opened(page, served(vowels))
    page.get_by_label("Layer", exact=True).focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_timeout(300)
    expect(page).not_to_have_url(re.compile("sample="))


def test_an_address_that_was_sent_shows_the_same(page, served, vowels, new_page):
    opened(page, served(vowels) + "?sample=7&state=c&order=peak&unit=3")
    expect(page.get_by_label("State", exact=True)).to_have_value("c: Cell state")
    page.locator("h1").click()
    page.keyboard.press("ArrowDown")
    at(page, sample=8, state="c", order="peak")
    other = opened(new_page(), page.url)
    expect(other.get_by_label("State", exact=True)).to_have_value("c: Cell state")
    expect(other.get_by_label("Sample", exact=True)).to_have_value("8")
    expect(page.get_by_label("Sample", exact=True)).to_have_value("8")


def test_two_people_do_not_see_each_others_choices(page, served, vowels, new_page):
    opened(page, served(vowels))
    other = opened(new_page(), served(vowels))
    page.locator("h1").click()
    page.keyboard.press("ArrowDown")
    at(page, sample=1)
    expect(other.get_by_label("Sample", exact=True)).to_have_value("0")


def test_a_bad_address_gives_the_page_and_says_so(page, served, vowels):
    opened(page, served(vowels) + "?sample=4000&layer=<img src=x onerror=alert(1)>")
    expect(page.get_by_text("There is no sample 4000: the positions go from 0 to 369.")).to_be_visible()
    expect(page.get_by_text("There is no layer '<img")).to_be_visible()
    expect(page.get_by_label("Sample", exact=True)).to_have_value("0")


def test_whoever_has_a_dark_screen_has_a_dark_page(new_page, served, vowels):
    page = opened(new_page(color_scheme="dark"), served(vowels))
    at(page, theme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
    page.get_by_role("button", name="Light").click()
    at(page, theme="light")
    page.wait_for_function("window.Bokeh && Bokeh.documents.length > 0 && Bokeh.documents[0].is_idle")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (1920, "dark")])
def test_nothing_hangs_over_the_side(new_page, served, vowels, width, theme):
    page = opened(new_page(viewport={"width": width, "height": 1000}), served(vowels) + f"?theme={theme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_keys_are_told_and_python_is_copied(page, served, vowels):
    opened(page, served(vowels))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("h1").click()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("the sample before, the next sample")
    page.get_by_role("button", name="Close").click()
    page.locator(".sq-main").get_by_role("button", name="Copy").first.click()
    expect(page.locator(".sq-status")).to_have_text("Python copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(opening := vowels.opening + "\n")
    assert copied.removeprefix(opening).strip() == page.locator(".sq-main .sq-python").first.inner_text().strip()


def test_what_is_seen_is_saved(page, served, vowels):
    opened(page, served(vowels) + "?sample=7&state=c")
    made = {}
    for form in ("PNG", "SVG", "CSV"):
        with page.expect_download() as waited:
            page.locator(".sq-view-sample").get_by_text(form, exact=True).click()
        assert waited.value.suggested_filename == f"sample.{form.lower()}"
        made[form] = Path(waited.value.path()).read_bytes()
    assert made["PNG"].startswith(b"\x89PNG")
    assert b"<svg" in made["SVG"]
    rows = pd.read_csv(io.BytesIO(made["CSV"]))
    values = vowels.values("lstm", "c", 7)
    np.testing.assert_allclose(rows.to_numpy()[:, -100:], values.values, rtol=1e-6)
