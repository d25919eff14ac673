"""Colours that can be read: WCAG 2.2 asks 4.5 to 1 of text and 3 to 1 of marks that mean something (AA)."""

import re
from importlib import resources

import numpy as np
import pytest

from seqscope.explorer.theme import DARK, LIGHT, contrast, scale


@pytest.mark.parametrize("look", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("text", ["text", "soft", "wrong", "mark"])
@pytest.mark.parametrize("ground", ["ground", "panel"])
def test_text_is_read_on_every_ground(look, text, ground):
    assert contrast(getattr(look, text), getattr(look, ground)) >= 4.5


@pytest.mark.parametrize("look", [LIGHT, DARK], ids=["light", "dark"])
def test_lines_stand_out_from_the_ground(look):
    assert [color for color in look.colors if contrast(color, look.ground) < 3] == []
    assert len(set(look.colors)) == len(look.colors)


@pytest.mark.parametrize(
    ("first", "second", "ratio"), [("#000000", "#ffffff", 21.0), ("#ffffff", "#ffffff", 1.0), ("#777777", "#ffffff", 4.48)]
)
def test_contrast_is_that_of_the_standard(first, second, ratio):
    assert contrast(first, second) == pytest.approx(ratio, abs=0.01)
    assert contrast(second, first) == contrast(first, second)


def test_signed_values_have_white_at_zero():
    colors, low, high = scale(-0.2, 0.8)
    assert (low, high) == (-0.8, 0.8)
    assert contrast(colors[len(colors) // 2], "#ffffff") < 1.1


def test_values_of_one_sign_begin_with_the_lowest():
    assert scale(0.25, 0.75)[1:] == (0.25, 0.75)
    _, low, high = scale(0.5, 0.5)
    assert high > low


def test_style_sheets_have_no_colours_of_their_own():
    """All come from `Look`, so that what is tested here is what is seen."""
    for name in ("page.css", "parts.css"):
        sheet = resources.files("seqscope.explorer").joinpath(name).read_text(encoding="utf-8")
        assert re.findall(r"#[0-9a-fA-F]{3,8}\b|\brgba?\(", sheet) == []


def luminance(color):
    parts = np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def test_sequential_colours_grow_lighter():
    colors, _, _ = scale(0.0, 1.0)
    assert (np.diff([luminance(color) for color in colors[::16]]) > 0).all()
