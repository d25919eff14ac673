"""Characters coloured by a unit: their values, their colours, their places, and what a click on one chooses."""

import re
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
import torch
from bokeh.models import Range1d
from playwright.sync_api import expect

import seqscope as sq
from nets import Net
from seqscope.errors import UnsupportedError
from seqscope.explorer.opening import source_of
from seqscope.explorer.page import Checks, first_choice
from seqscope.explorer.selection import Selection
from seqscope.explorer.theme import DARK, LIGHT, contrast
from seqscope.explorer.views.text.view import PART, Text
from seqscope.explorer.views.view import Stage

PLAY = sq.datasets.shakespeare("test")


@pytest.fixture(scope="module")
def play():
    """Three texts, the second of several parts."""
    model = sq.zoo.char_lstm()
    texts = [PLAY[:200], PLAY[200:3000], "Et tu,\tBrute?\n".replace("\t", " ")]
    return source_of(sq.Scope(model), sq.Sequences.from_text(texts, characters=model.characters))


def shown(source, look=LIGHT, **said):
    """The view with its text, what was found and what is chosen."""
    chosen = replace(first_choice(source), **said)
    view = Text(Stage(source, Selection(chosen, Checks(source)), look, Range1d(0, 1)))
    view.build()
    found = view.find(chosen)
    view.show(found, chosen)
    return view, found, chosen


def activations(source, sample, unit):
    return source.scope.activations(source.X[sample], "lstm").isel(unit=unit).values


def test_each_character_has_its_value_and_its_place(play):
    view, _, _ = shown(play, unit=5)
    cells = view._text.source.data
    assert "".join(cells["seen"]) == PLAY[:200].replace(" ", "·").replace("\n", "⏎")
    assert cells["place"] == list(range(200))
    np.testing.assert_allclose([float(value) for value in cells["value"]], activations(play, 0, 5), rtol=1e-3, atol=1e-4)
    assert cells["step"][:3] == ["0", "1", "2"]


def test_colours_are_those_of_a_diverging_scale_centred_on_zero(play):
    view, found, _ = shown(play, unit=5)
    values, cells = activations(play, 0, 5), view._text.source.data
    largest = np.abs(values).max()
    shades = mpl.colormaps["RdBu_r"](np.minimum(((values / largest + 1) / 2 * 256).astype(int), 255))
    assert cells["color"] == [mpl.colors.to_hex(shade) for shade in shades]
    assert f"{largest:.3g}" in view._head.object
    assert "Unit 5" in view._head.object
    assert (found.text.norm.vmin, found.text.norm.vmax) == (-largest, largest)


@pytest.mark.parametrize("look", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("state", ["", "f", "c"])
def test_every_letter_can_be_read_on_its_ground(play, look, state):
    view, _, _ = shown(play, look, sample=1, unit=2, state=state)
    cells = view._text.source.data
    assert min(contrast(ink, color) for ink, color in set(zip(cells["ink"], cells["color"], strict=True))) >= 4.5


def test_a_letter_without_a_value_can_be_read(play):
    view, found, _ = shown(play)
    missing = replace(found.text, values=np.full_like(found.text.values, np.nan))
    for look in (LIGHT, DARK):
        view._text.look = look
        view._text.fill(missing)
        cells = view._text.source.data
        assert set(cells["value"]) == {"none"}
        assert contrast(cells["ink"][0], cells["color"][0]) >= 4.5


def test_lines_end_where_the_text_has_newlines(play):
    view, found, _ = shown(play)
    cells = view._text.source.data
    lines = {}
    for y, seen in zip(cells["y"], cells["seen"], strict=True):
        lines[y] = lines.get(y, "") + seen
    expected = [line + "\n" for line in PLAY[:200].split("\n")][:-1] + PLAY[:200].split("\n")[-1:]
    assert list(lines.values()) == [line.replace(" ", "·").replace("\n", "⏎") for line in expected if line]
    assert view._text.plot.yaxis[0].major_label_overrides[10] == "0"
    assert found.length == 200


def test_long_texts_come_in_parts_in_one_scale(play):
    view, found, chosen = shown(play, sample=1, unit=5)
    assert (found.start, found.stop, found.length) == (0, PART, 2800)
    assert len(view._text.source.data["seen"]) == PART
    assert view._turning.visible
    assert view._before.disabled
    assert not view._after.disabled
    later, last, _ = shown(play, sample=1, unit=5, part=2)
    assert (last.start, last.stop) == (2 * PART, 2800)
    assert later._text.source.data["place"] == list(range(2 * PART, 2800))
    assert later._after.disabled
    assert (last.text.norm.vmin, last.text.norm.vmax) == (found.text.norm.vmin, found.text.norm.vmax)
    assert shown(play, sample=1, part=99)[1].start == 2 * PART
    view._after.clicks += 1
    assert view.selection.chosen.part == chosen.part + 1
    view._before.clicks += 1
    assert view.selection.chosen.part == 0


def test_a_page_holds_no_more_than_a_part(play):
    """However long a text is, so much of it is sent."""
    parts = {"embed": torch.nn.Embedding(9, 4), "fc": torch.nn.Linear(4, 9)}
    net = Net(lambda net, x: net.fc(net.embed(x).mean(1)), **parts)
    source = source_of(sq.Scope(net), sq.Sequences.from_text("abcdefghi" * 4000, encoding="ids"))
    view, found, _ = shown(source, part=5)
    assert found.length == 36_000
    assert {len(column) for column in view._text.source.data.values()} == {PART}


def test_a_click_chooses_a_character_and_marks_it(play):
    view, found, chosen = shown(play, sample=1, part=1)
    cells = view._text.source.data
    view._text._tapped(type("Event", (), {"x": cells["x"][40], "y": cells["y"][40]}))
    assert (view.selection.chosen.start, view.selection.chosen.stop) == (PART + 40, PART + 41)
    view.show(found, view.selection.chosen)
    marked = view._text.marked.data
    assert (marked["x"], marked["y"], marked["width"]) == ([cells["x"][40]], [cells["y"][40]], [1])
    view._text._tapped(type("Event", (), {"x": 79.5, "y": 5000.0}))
    assert view.selection.chosen == replace(chosen, start=PART + 40, stop=PART + 41)


def test_a_stretch_over_lines_is_marked_on_each(play):
    first = PLAY.index("\n")
    view, _, _ = shown(play, start=first - 2, stop=first + 1)
    assert view._text.marked.data["width"] == [3]
    view, _, _ = shown(play, start=first - 1, stop=first + 3)
    assert len(view._text.marked.data["width"]) == 3


def test_the_python_and_the_picture_are_what_is_seen(play):
    for said in ({"unit": 5}, {"sample": 1, "part": 1, "state": "f", "unit": 3}):
        view, found, chosen = shown(play, **said)
        names = {"sq": sq, "scope": play.scope, "X": play.X}
        *lines, last = view.code(found, chosen).split("\n")
        exec("\n".join(lines), names)
        made = eval(last, names).painted
        np.testing.assert_allclose(made.values, found.text.values, atol=1e-6)
        assert made.tokens == found.text.tokens
        assert made.positions == found.text.positions
        assert [made.colours(0, place)[0] for place in range(50)] == view._text.source.data["color"][:50]
        figure = view.figure(found, chosen)
        letters = [patch for patch in figure.axes[0].patches if hasattr(patch, "placed")]
        assert sum(len(patch.placed) for patch in letters) == len(found.text.tokens)


def test_the_table_holds_the_whole_text(play):
    view, found, chosen = shown(play, sample=1, unit=4, part=1)
    table = view.table(found, chosen)
    assert "".join(table.character) == PLAY[200:3000]
    np.testing.assert_allclose(table.value, activations(play, 1, 4), atol=1e-6)


# What is text


def embedding():
    torch.manual_seed(0)
    parts = {"embed": torch.nn.Embedding(9, 4), "lstm": torch.nn.LSTM(4, 5, batch_first=True), "fc": torch.nn.Linear(5, 9)}
    return Net(lambda net, x: net.fc(net.lstm(net.embed(x))[0][:, -1]), **parts)


def test_numbers_of_characters_are_text():
    X = sq.Sequences.from_text(["abba", "hagia"], characters="abcdefghi", encoding="ids")
    source = source_of(sq.Scope(embedding()), X)
    assert Text.missing(source) == ""
    view, _, _ = shown(source, sample=1)
    assert "".join(view._text.source.data["seen"]) == "hagia"


def test_the_model_may_say_what_its_numbers_are():
    net = embedding()
    net.characters = "<&>\"'é漢 \n"
    source = source_of(sq.Scope(net), sq.Sequences(np.array([[0, 1, 2, 5, 6, 7, 8, 3]])))
    view, found, chosen = shown(source)
    cells = view._text.source.data
    assert cells["seen"] == ["<", "&", ">", "é", "漢", "·", "⏎", '"']
    assert cells["width"][4] == 2
    names = {"sq": sq, "scope": source.scope, "X": source.X}
    *lines, last = view.code(found, chosen).split("\n")
    exec("\n".join(lines), names)
    assert eval(last, names).painted.tokens == found.text.tokens


def test_series_and_tokens_are_no_text(vowels):
    assert Text.missing(vowels) == "The data is not text: its steps are no characters, as Sequences.from_text makes them."
    tokens = source_of(sq.Scope(embedding()), sq.Sequences(np.array([[0, 1, 2, 5]])))
    assert Text.missing(tokens).startswith("The data is not text")


def test_channels_of_one_letter_are_no_text_where_they_are_no_characters():
    X = sq.Sequences(np.random.default_rng(0).standard_normal((2, 9, 3)), channels=["x", "y", "z"])
    parts = {"gru": torch.nn.GRU(3, 4, batch_first=True), "fc": torch.nn.Linear(4, 2)}
    source = source_of(sq.Scope(Net(lambda net, x: net.fc(net.gru(x)[0][:, -1]), **parts)), X)
    assert Text.missing(source).startswith("The data is not text")


def test_a_recording_is_text_too(play, tmp_path):
    recording = play.scope.record(play.X, tmp_path / "p.zarr", layers="lstm", progress=False)
    view, _, _ = shown(source_of(recording), unit=5)
    np.testing.assert_allclose([float(value) for value in view._text.source.data["value"]], activations(play, 0, 5), rtol=1e-3, atol=1e-4)
    alone = play.scope.record(play.X, tmp_path / "a.zarr", layers="lstm", inputs=False, progress=False)
    assert Text.missing(source_of(alone)) == "The inputs were not recorded, so there is no text."


def test_a_layer_with_steps_of_its_own_says_so():
    torch.manual_seed(0)
    parts = {"conv": torch.nn.Conv1d(3, 4, 3), "fc": torch.nn.Linear(4, 2)}
    net = Net(lambda net, x: net.fc(net.conv(x).mean(-1)), **parts)
    source = source_of(sq.Scope(net), sq.Sequences.from_text("abcabcab", characters="abc"))
    with pytest.raises(UnsupportedError, match="'conv' has steps of its own, fewer than the characters"):
        shown(source)


# In a browser

_PLACE = """place => { const plot = Bokeh.documents[0].get_model_by_name("text"), view = Bokeh.index.find_one(plot);
  const cells = plot.renderers[0].data_source.data, box = view.el.getBoundingClientRect(), frame = view.frame.bbox;
  return [box.left + frame.left + cells.x[place] * frame.width / 80,
          box.top + frame.top + cells.y[place] * frame.height / plot.y_range.start]; }"""
_SEEN = """() => { const plot = window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].get_model_by_name("text");
  return plot ? Array.from(plot.renderers[0].data_source.data.seen).join("") : ""; }"""
_MARKS = "() => Bokeh.documents[0].get_model_by_name('text').renderers[2].data_source.data.x.length"


def wait_for_text(page, start):
    seen = start.replace(" ", "·").replace("\n", "⏎")
    page.wait_for_function(f"start => ({_SEEN})().startsWith(start)", arg=seen)


def test_in_the_browser_a_click_on_a_character_chooses_it(page, served, play):
    page.goto(served(play) + "?view=text&unit=5")
    wait_for_text(page, PLAY[:5])
    page.wait_for_timeout(300)  # until it is laid out
    page.mouse.click(*page.evaluate(_PLACE, 30))
    expect(page).to_have_url(re.compile("start=30&stop=31"))
    page.wait_for_function(f"() => ({_MARKS})() == 1")
    page.mouse.move(*page.evaluate(_PLACE, 12))
    value = activations(play, 0, 5)[12]
    expect(page.get_by_text(f"{value:.4g}", exact=True)).to_be_visible()


def test_in_the_browser_another_sample_unit_and_part_are_shown(page, served, play):
    page.goto(served(play) + "?view=text&unit=5&sample=1")
    wait_for_text(page, PLAY[200:210])
    page.get_by_role("button", name="Next part").click()
    expect(page).to_have_url(re.compile("part=1"))
    wait_for_text(page, PLAY[200 + PART : 210 + PART])
    page.get_by_label("Unit", exact=True).fill("9")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Activation, Unit 9")).to_be_visible()
