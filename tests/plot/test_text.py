"""Coloured text: what is seen of each token and in which colours, in a figure, on a page and in a terminal."""

import io
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex, to_rgb
from rich.console import Console

import seqscope as sq
from seqscope.plot.text_axes import Letters

TEXT = "To be, or not\n\tto <b> & co."  # 27 characters


def activations(n_steps=27, n_units=6, **attrs):
    values = np.tanh(np.random.default_rng(0).standard_normal((n_steps, n_units)).cumsum(0))
    coords = {"time": ("time", np.arange(n_steps), {"long_name": "Time Step"}), "unit": range(n_units)}
    return xr.DataArray(values, dims=("time", "unit"), coords=coords, name="activations", attrs={"kind": "lstm"} | attrs)


def drawn(ax):
    """What is seen of each token, by its row and its place, and in which ink."""
    letters = [artist for artist in ax.get_children() if isinstance(artist, Letters)]
    return {(row, cell.place): (cell.seen, to_hex(one.get_facecolor())) for one in letters for cell, row, _ in one.placed}


def backgrounds(ax):
    (found,) = [artist for artist in ax.collections if isinstance(artist, PolyCollection)]
    return found


class Page(HTMLParser):
    """The tokens of a page: text, style and title of each span with a title; and all tags that are open at the end."""

    def __init__(self, html):
        super().__init__()
        self.tokens, self.open, self.text, self.tags = [], [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append((tag, dict(attrs)))
        if tag == "span" and "title" in dict(attrs):
            self.tokens.append([dict(attrs)["title"], dict(attrs).get("style", ""), ""])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        self.text += data
        if self.open and "title" in self.open[-1][1]:
            self.tokens[-1][2] += data


def page_of(shown):
    return Page(shown._repr_html_())


def printed(shown, width=120):
    console = Console(file=io.StringIO(), record=True, width=width, color_system="truecolor", force_terminal=True)
    shown.print(console)
    return console


def contrast(one, other):
    """WCAG 2.1, written anew."""

    def luminance(colour):
        parts = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


# What is seen


def test_white_space_is_seen_and_a_newline_breaks_the_line():
    shown = sq.plot.text(TEXT, activations().sel(unit=3))
    seen = [one for one, _ in drawn(shown.draw()).values()]
    assert sorted(seen) == sorted("To·be,·or·not⏎→to·<b>·&·co.")
    assert "".join(text for _, _, text in page_of(shown).tokens) == "To·be,·or·not⏎→to·<b>·&·co."
    assert "  0  To·be,·or·not⏎\n" in (out := printed(shown).export_text().replace("\n 0", "\n  0"))
    assert " 14  →to·<b>·&·co." in out.replace("\n14", "\n 14")


@pytest.mark.parametrize(
    ("token", "seen"), [("", "∅"), ("a b", "a·b"), ("\x1b", "\\x1b"), ("\u00a0", "⍽"), ("\u0301", "◌\u0301"), ("\r\n", "↵⏎"), ("é", "é")]
)
def test_what_can_not_be_printed_is_seen_all_the_same(token, seen):
    assert page_of(sq.plot.text([token, "x"], [1.0, 2.0])).tokens[0][2] == seen


def lines_of(shown):
    """The text of each line of the page, in its first row."""
    html = shown._repr_html_()
    return [Page(part.partition("</div>")[0]).tokens for part in html.split('<div style="white-space:pre;">')[1:]]


def test_long_texts_are_broken_between_words_and_nothing_is_lost():
    text = "the quick brown fox jumps over the lazy dog " * 3 + "x" * 45
    shown = sq.plot.text(text, np.linspace(-1, 1, len(text)), width=20)
    lines = ["".join(token[2] for token in line) for line in lines_of(shown)]
    assert "".join(lines) == text.replace(" ", "·")
    assert max(map(len, lines)) <= 20
    assert lines[0] == "the·quick·brown·fox·"
    assert all(line.endswith("·") for line in lines[:6])
    assert lines[-3:] == ["x" * 20, "x" * 20, "x" * 5]


@pytest.mark.parametrize("width", [1, 2, 7, 80])
@pytest.mark.parametrize("text", ["a", "\n", "\n\n\n", " a b  c ", "ab\ncd\n", "日本 語 text"])
def test_each_token_stands_once_whatever_the_width(text, width):
    shown = sq.plot.text(text, np.arange(len(text)) - 1.0, width=width)
    assert [int(title.split()[2].rstrip(",")) for title, _, _ in page_of(shown).tokens] == list(range(len(text)))


def test_words_stand_apart():
    shown = sq.plot.text(["the", "cat", "sat"], [1.0, -1.0, 0.5], width=8)
    assert "the cat\n" in printed(shown).export_text()
    corners = [path.vertices[:, 0] for path in backgrounds(shown.draw()).get_paths()]
    assert [(corner.min(), corner.max()) for corner in corners] == [(0, 3), (4, 7), (0, 3)]


def test_wide_letters_have_two_columns():
    shown = sq.plot.text("日本go", np.arange(4.0))
    cells = shown.painted.lines(80)[0]
    assert [(cell.column, cell.width) for cell in cells] == [(0, 2), (2, 2), (4, 1), (5, 1)]


# Rows


def test_units_stand_one_below_the_other_line_by_line():
    a = activations().sel(unit=[3, 5])
    shown = sq.plot.text(TEXT, a, title="Two units")
    ax = shown.draw()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Unit 3", "Unit 5"] * 2
    np.testing.assert_allclose(shown.painted.values, a.transpose("unit", "time"))
    assert [title.rpartition("(")[2] for title, _, _ in page_of(shown).tokens[12:16]] == ["Unit 3)", "Unit 3)", "Unit 5)", "Unit 5)"]
    lines = printed(shown).export_text().splitlines()
    assert lines[0] == "Two units"
    assert [line[:12] for line in lines[2:5]] == [" 0  Unit 3  ", "    Unit 5  ", ""]
    assert ax.get_title() == "Two units"


def test_where_not_all_lines_can_be_named_each_named_line_has_all_its_units():
    text = "ab\n" * 30
    ax = sq.plot.text(text, xr.DataArray(np.zeros((90, 2)), dims=("time", "unit"), coords={"unit": [3, 5]})).draw()
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert 2 <= len(names) < 60
    assert names == ["Unit 3", "Unit 5"] * (len(names) // 2)


def test_the_order_of_dims_does_not_matter():
    a = activations()
    one, other = sq.plot.text(TEXT, a), sq.plot.text(TEXT, a.transpose("unit", "time"))
    np.testing.assert_array_equal(one.painted.values, other.painted.values)


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        (activations(kind="conv1d").sel(unit=[2, 1]), ["Filter 2", "Filter 1"]),
        (activations().rename(unit="channel").assign_coords(channel=list("abcdef")), [f"Channel {name}" for name in "abcdef"]),
        (activations().sel(unit=4), ["Unit 4"]),
        (activations().values[:, :2], ["Row 0", "Row 1"]),
        (activations().values[:, 0], [""]),
        (
            xr.concat([activations().isel(unit=[0, 1])] * 2, xr.Variable("direction", ["forward", "backward"])),
            ["Forward, Unit 0", "Forward, Unit 1", "Backward, Unit 0", "Backward, Unit 1"],
        ),
    ],
)
def test_rows_are_named_by_their_dims(values, rows):
    assert list(sq.plot.text(TEXT, values).painted.rows) == rows


def test_the_gates_of_one_unit_are_rows_of_their_names():
    gates = abs(activations()).sel(unit=2)
    states = xr.Dataset({"i": gates.assign_attrs(long_name="Input gate"), "f": (1 - gates).assign_attrs(long_name="Forget gate")})
    shown = sq.plot.text(TEXT, states).painted
    assert (list(shown.rows), shown.legend) == (["Input gate", "Forget gate"], "Gate, Unit 2")
    assert (shown.norm.vmin, shown.norm.vmax) == (0.0, 1.0)
    mixed = sq.plot.text(TEXT, states.assign(h=activations().sel(unit=2))).painted
    assert (mixed.legend, mixed.norm(0.0)) == ("State, Unit 2", 0.5)


def test_the_only_sample_needs_no_choice():
    np.testing.assert_array_equal(sq.plot.text(TEXT, activations().expand_dims("sample")).painted.values, activations().T)


# Colours


def test_signed_values_have_colours_symmetric_about_zero():
    shown = sq.plot.text(TEXT, np.linspace(-0.5, 2.0, len(TEXT)))
    norm = backgrounds(shown.draw()).norm
    assert (norm.vmin, norm(0.0), norm.vmax) == (-2.0, 0.5, 2.0)
    assert shown.painted.cmap.name == sq.plot.style.DIVERGING


def test_gates_have_colours_from_zero_to_one_and_others_from_zero():
    gate = (abs(activations()).sel(unit=1) * 0.5).rename("f")
    assert (sq.plot.text(TEXT, gate).painted.norm.vmin, sq.plot.text(TEXT, gate).painted.norm.vmax) == (0.0, 1.0)
    other = sq.plot.text(TEXT, gate.rename("score")).painted.norm
    assert (other.vmin, other.vmax) == (0.0, float(gate.max()))


def test_limits_are_kept_and_what_lies_beyond_is_said():
    shown = sq.plot.text("abc", [-3.0, 0.0, 9.0], limits=(-2, 2))
    (bar,) = shown.draw().child_axes
    assert bar._colorbar.extend == "both"
    assert shown.painted.colours(0, 2) == (to_hex(shown.painted.cmap(1.0)), "#ffffff")


def test_every_token_has_the_same_colours_in_all_three_outputs():
    a = activations().sel(unit=3)
    shown = sq.plot.text(TEXT, a)
    ax = shown.draw()
    shades, inks = backgrounds(ax), drawn(ax)
    console = printed(shown)
    segments = [segment for segment in console._record_buffer if segment.style and segment.style.bgcolor and segment.text.strip()]
    in_terminal = [(one.style.bgcolor.triplet.hex, one.style.color.triplet.hex) for one in segments][-len(TEXT) :]
    for place, (_, look, _) in enumerate(page_of(shown).tokens):
        back, ink = re.findall("#[0-9a-f]{6}", look)
        assert back == to_hex(shades.cmap(shades.norm(float(a[place]))))
        assert ink == inks[0, place][1]
        assert in_terminal[place] == (back, ink)


def test_letters_are_legible_on_every_colour():
    for signed in (-1.0, 0.0):
        shown = sq.plot.text("x" * 101, np.linspace(signed, 1, 101))
        for place in range(101):
            back, ink = shown.painted.colours(0, place)
            assert contrast(back, ink) >= 4.5
            assert contrast(back, ink) >= contrast(back, "#000000" if ink == "#ffffff" else "#ffffff")


def test_missing_values_have_no_colour():
    values = activations().sel(unit=3)
    values[4:6] = np.nan
    shown = sq.plot.text(TEXT, values)
    assert [look for _, look, _ in page_of(shown).tokens[4:6]] == ["", ""]
    assert "no value" in page_of(shown).tokens[4][0]
    ax = shown.draw()
    shades = backgrounds(ax)
    assert np.ma.getmaskarray(shades.get_array()).nonzero()[0].tolist() == [4, 5]
    assert to_hex(shades.to_rgba(shades.get_array())[4]) == sq.plot.style.MISSING.lower()
    assert drawn(ax)[0, 4][1] == "#000000"


def test_padding_beyond_the_text_is_left_out():
    padded = activations().reindex(time=range(40))
    np.testing.assert_array_equal(sq.plot.text(TEXT, padded).painted.values, activations().T)


# What is said


def test_the_colour_bar_says_what_the_values_are():
    attribution = activations().sum("unit").rename("attribution").assign_attrs(method="gradient", score="logit")
    assert sq.plot.text(TEXT, activations().sel(unit=3)).draw().child_axes[0].get_ylabel().replace("\n", " ") == "Activation, Unit 3"
    assert sq.plot.text(TEXT, attribution).painted.legend == "gradient of the logit"
    assert sq.plot.text(TEXT, attribution, name="Mine").painted.legend == "Mine"
    assert sq.plot.text("ab", [1, 2]).painted.legend == "Value"
    shown = sq.plot.text("ab", [-1.5, 1.0], name="<Mine>")
    assert "<Mine>" in page_of(shown).text
    assert all(number in page_of(shown).text for number in ("-1.5", "0", "1.5"))
    first = printed(shown).export_text().splitlines()[0]
    assert re.fullmatch(r"-1\.5 +0 +1\.5  <Mine>", first)


def test_a_token_says_its_value_and_its_position():
    title = page_of(sq.plot.text(TEXT, activations().sel(unit=3))).tokens[2][0]
    assert title == f"Time Step 2, ' ': {float(activations()[2, 3]):.4g} (Unit 3)"


def test_a_panel_says_where_its_lines_begin():
    ax = sq.plot.text(TEXT, activations().sel(unit=3)).draw()
    assert ([label.get_text() for label in ax.get_yticklabels()], ax.get_ylabel()) == (["0", "14"], "Time Step")


# Pages and pictures


def test_html_is_escaped_closed_and_needs_nothing_from_outside(tmp_path):
    shown = sq.plot.text(TEXT + "\"'", activations(len(TEXT) + 2), title="<script>alert(1)</script>")
    file = shown.save(tmp_path / "page.html")
    html = file.read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    assert not {"script", "link", "img", "b"} & {tag for tag, _ in page.tags}
    assert not {"src", "href"} & {name for _, attrs in page.tags for name in attrs}
    assert html.startswith("<!doctype html>")
    assert ("meta", {"charset": "utf-8"}) in page.tags
    assert ("meta", {"name": "color-scheme", "content": "light dark"}) in page.tags
    assert shown._repr_html_() in html


def test_on_the_page_letters_without_a_colour_have_the_pages_own():
    html = sq.plot.text("ab", [np.nan, 1.0])._repr_html_()
    assert len(re.findall(r"[;\"]color:", html)) == 1


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")])
def test_pictures_are_written_and_their_figures_closed(tmp_path, name, start):
    assert sq.plot.text(TEXT, activations()).save(tmp_path / name).read_bytes().startswith(start)
    assert plt.get_fignums() == []


def test_it_is_drawn_in_the_panel_given_and_letters_fill_their_cells():
    _, ax = plt.subplots(figsize=(3, 2))
    assert sq.plot.text(TEXT, activations().sel(unit=3)).draw(ax) is ax
    (bottom, top), (left, right) = ax.get_ylim(), ax.get_xlim()
    for letters in [artist for artist in ax.get_children() if isinstance(artist, Letters)]:
        box = letters.get_path().get_extents()
        assert left <= box.x0 < box.x1 <= right
        assert top <= box.y0 < box.y1 <= bottom
        for cell, _, row_top in letters.placed:
            one = Letters([(cell, 0, row_top)], "#000000").get_path().get_extents()
            assert cell.column <= one.x0 < one.x1 <= cell.column + cell.width
            assert row_top <= one.y0 < one.y1 <= row_top + 1


def test_a_narrow_terminal_breaks_lines_earlier():
    text = "the quick brown fox jumps over the lazy dog"
    lines = printed(sq.plot.text(text, np.linspace(0, 1, len(text))), width=24).export_text().splitlines()[1:]
    assert max(map(len, lines)) <= 24
    assert "".join(line[4:] for line in lines) == text.replace(" ", "·")


def test_dollars_are_dollars():
    ax = sq.plot.text(["$x$", "^2"], [1.0, 2.0]).draw()
    ax.figure.canvas.draw()
    assert {seen for seen, _ in drawn(ax).values()} == {"$x$", "^2"}


def test_it_says_what_it_is():
    assert repr(sq.plot.text("ab", np.zeros((2, 3)))) == "Text of 2 tokens in 3 rows: .print() it, .draw() it or .save('text.html')"


# Bad input


@pytest.mark.parametrize(
    ("tokens", "values", "message"),
    [
        ("", [], "The text is empty: there is nothing to draw"),
        ([], [], "The text is empty: there is nothing to draw"),
        ("abc", [1.0, 2.0], "There are 3 tokens and 2 values: expected a value for each token"),
        ("ab", [1.0, 2.0, 3.0], "There are 2 tokens and 3 values"),
        (["a", 3], [1.0, 2.0], "Token 1 is 3, a int: expected text, or a list of str"),
        (np.zeros((2, 90)), [1.0, 2.0], r"Token 0 is .{,40}, a list: .* of X\[0\] from Sequences.from_text, seqscope.text.text_of"),
        (7, [1.0], "A int was given as tokens: expected text"),
        ("ab", [np.nan, np.nan], "The values are all NaN"),
        ("ab", [1.0, np.inf], "The value at position 1 is inf"),
        ("ab", np.zeros((2, 3, 4)), r"The values have shape \(2, 3, 4\): expected one for each token, \(time\)"),
        ("ab", ["x", "y"], "The values are of type <U1: expected numbers"),
        ("ab", xr.DataArray(np.zeros((5, 2)), dims=("sample", "time")), r"The values of 5 samples .* as with .isel\(sample=0\)"),
        ("ab", xr.DataArray(np.zeros((2, 65)), dims=("time", "channel")), r"makes 65 rows, and 16 at most .* \.sum\('channel'\)"),
        ("ab", xr.DataArray(np.zeros(2), dims="unit"), "no time axis"),
        ("ab", xr.Dataset(), "The Dataset of values is empty"),
    ],
)
def test_bad_input_is_a_sentence(tokens, values, message):
    with pytest.raises(sq.errors.DataError, match=message):
        sq.plot.text(tokens, values)


@pytest.mark.parametrize("width", [0, -3, 2.5, True, "wide"])
def test_a_width_is_a_number_of_letters(width):
    with pytest.raises(sq.errors.DataError, match=r"The width is .*: expected the most letters on a line"):
        sq.plot.text("ab", [1, 2], width=width)


def test_too_much_for_a_picture_is_said_and_a_page_takes_it(tmp_path):
    shown = sq.plot.text("x" * 20_001, np.zeros(20_001))
    with pytest.raises(sq.errors.DataError, match=r"20001 tokens on 251 lines .* save it as .html"):
        shown.draw()
    assert shown.save(tmp_path / "long.html").stat().st_size > 20_001
    with pytest.raises(sq.errors.DataError, match="3000 tokens on 3000 lines"):
        sq.plot.text("\n" * 3000, np.zeros(3000)).draw()


def test_a_name_says_what_to_write(tmp_path):
    with pytest.raises(sq.errors.DataError, match=r"'text.doc' does not say what to write: expected a name that ends in .html"):
        sq.plot.text("ab", [1, 2]).save(tmp_path / "text.doc")
