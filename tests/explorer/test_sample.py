"""One sample: its channels, a layer's units, the chosen unit, and what a person does with them."""

import re
import shutil
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from bokeh.models import Range1d

import seqscope as sq
from seqscope.explorer.opening import source_of
from seqscope.explorer.page import Checks, Controls, first_choice
from seqscope.explorer.selection import Selection
from seqscope.explorer.theme import LIGHT
from seqscope.explorer.views.sample.channels import UNKNOWN
from seqscope.explorer.views.sample.view import Sample
from seqscope.explorer.views.view import Stage


class Net(torch.nn.Module):
    """A convolution that makes steps of its own, read in both directions."""

    def __init__(self, n_channels):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv1d(n_channels, 6, 5, stride=2)
        self.gru = torch.nn.GRU(6, 4, batch_first=True, bidirectional=True)
        self.fc = torch.nn.Linear(8, 2)

    def forward(self, x):
        return self.fc(self.gru(torch.tanh(self.conv(x)).transpose(1, 2))[0][:, -1])


def series(n_channels, n=4, steps=40):
    return np.random.default_rng(0).standard_normal((n, steps, n_channels)).astype(np.float32)


@pytest.fixture(scope="module")
def strided():
    return source_of(sq.Scope(Net(3).eval(), layout="NCT"), sq.Sequences(series(3)))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Vowels in a store without their inputs."""
    path = tmp_path_factory.mktemp("sample") / "vowels.zarr"
    X, _ = sq.datasets.japanese_vowels("test")
    sq.Scope(sq.zoo.japanese_vowels()).record(X[:12], path, "lstm", states=True, inputs=False, progress=False)
    return source_of(path)


def shown(source, **choice):
    """A view that shows what is chosen, with what it found."""
    selection = Selection(first_choice(source), Checks(source))
    selection.choose(**choice)
    view = Sample(Stage(source, selection, LIGHT, Range1d(-0.5, 28.5)))
    view.build()
    found = view.find(selection.chosen)
    view.show(found, selection.chosen)
    return SimpleNamespace(view=view, found=found, chosen=selection.chosen, selection=selection)


def image_of(view):
    return view._heatmap.source.data["image"][0][::-1]


def test_channels_and_units_are_those_of_the_sample(vowels):
    seen = shown(vowels, sample=3, order="name", unit=7)
    X, _ = sq.datasets.japanese_vowels("test")
    scope = sq.Scope(sq.zoo.japanese_vowels())
    np.testing.assert_array_equal(np.array(seen.view._channels.lines.source.data["ys"]), X[3].values.T)
    np.testing.assert_allclose(image_of(seen.view), scope.activations(X[3], "lstm").values.T, atol=1e-6)
    states = scope.states(X[3], "lstm").sel(unit=7)
    strip = seen.view._strip
    assert strip.gates.source.data["name"] == ["i input", "f forget", "o output"]
    for gate, line in zip("ifo", strip.gates.source.data["ys"], strict=True):
        np.testing.assert_allclose(line, states[gate], atol=1e-6)
    drawn = dict(zip(strip.values.source.data["name"], strip.values.source.data["ys"], strict=True))
    np.testing.assert_allclose(drawn["c cell"], states["c"], atol=1e-6)
    np.testing.assert_allclose(drawn["h hidden"], states["h"], atol=1e-6)


def test_another_unit_leaves_the_heatmap_as_it_is(vowels):
    seen = shown(vowels, sample=3)
    before = seen.view._heatmap.source.data["image"][0]
    seen.selection.choose(unit=50)
    seen.view.show(seen.view.find(seen.selection.chosen), seen.selection.chosen)
    assert seen.view._heatmap.source.data["image"][0] is before
    row = seen.view.units_in_order().index(50)
    assert seen.view._heatmap._mark.top == 99 - row + 0.5


def test_a_click_chooses_the_unit_of_the_row_and_a_brush_the_stretch(vowels):
    seen = shown(vowels, sample=3, order="peak")
    seen.view._heatmap._tapped(SimpleNamespace(x=4.0, y=99.0 - 12))
    assert seen.selection.chosen.unit == seen.view.units_in_order()[12]
    seen.view._heatmap._boxed(SimpleNamespace(final=True, geometry={"x0": 1.6, "x1": 6.4}))
    assert (seen.selection.chosen.start, seen.selection.chosen.stop) == (2, 7)
    seen.view.show(seen.view.find(seen.selection.chosen), seen.selection.chosen)
    assert "Stretch: 2 to 6" in seen.view._told.object
    seen.view._heatmap._boxed(SimpleNamespace(final=True, geometry={"x0": 3.1, "x1": 3.2}))
    assert (seen.selection.chosen.start, seen.selection.chosen.stop) == (0, 0)


def test_a_layer_with_steps_of_its_own_lies_where_it_looks(strided):
    seen = shown(strided, layer="conv", state="", sample=1)
    data = seen.view._heatmap.source.data
    times = seen.found.values.coords["time"].values
    assert data["x"][0] == pytest.approx(times[0] - 1)
    assert data["dw"][0] == pytest.approx(2 * len(times))
    assert seen.view._heatmap._columns.data["seen"][0][0] == "0 to 4"
    assert not seen.found.unit.gates


@pytest.mark.parametrize(("unit", "way", "place"), [(1, "forward", 1), (6, "backward", 2)])
def test_a_unit_of_two_directions_has_the_gates_of_its_own(strided, unit, way, place):
    seen = shown(strided, layer="gru", state="", unit=unit)
    states = (
        sq.Scope(Net(3).eval(), layout="NCT").states(sq.Sequences(series(3)[:1]), "gru").isel(sample=0).sel(direction=way).isel(unit=place)
    )
    for gate in "rz":
        np.testing.assert_allclose(seen.found.unit.gates[gate], states[gate].values, atol=1e-5)
    assert f'.sel(direction="{way}")' in seen.view.code(seen.found, seen.chosen)


def test_without_inputs_there_is_a_sentence(recorded):
    seen = shown(recorded, sample=2)
    assert seen.view._channels.panel.object == UNKNOWN
    assert image_of(seen.view).shape == (100, recorded.lengths[2])
    assert set(seen.found.unit.gates) == {"i", "f", "o"}


def test_many_channels_are_rows_of_colours():
    source = source_of(sq.Scope(Net(30).eval(), layout="NCT"), sq.Sequences(series(30)))
    channels = shown(source).view._channels
    assert channels.lines is None
    np.testing.assert_array_equal(channels.heatmap.source.data["image"][0][::-1], series(30)[0].T)


def test_a_text_is_letters():
    X = sq.Sequences.from_text("to be, or not to be", window=5)
    net = torch.nn.LSTM(X.n_channels, 3, batch_first=True)
    letters = shown(source_of(sq.Scope(net), X), sample=1).view._channels.letters
    assert "".join(letters.source.data["text"]) == ",·or·"


@pytest.mark.parametrize(
    "choice",
    [
        {"sample": 4, "unit": 9},
        {"sample": 4, "unit": 9, "state": "c", "order": "peak"},
        {"sample": 4, "unit": 9, "order": "selectivity"},
        {"sample": 4, "unit": 9, "state": "f", "order": "name"},
    ],
)
def test_the_python_draws_what_is_seen(vowels, choice):
    seen = shown(vowels, **choice)
    X, _ = sq.datasets.japanese_vowels("test")
    plt.close("all")
    exec(seen.view.code(seen.found, seen.chosen), {"sq": sq, "X": X, "scope": sq.Scope(sq.zoo.japanese_vowels())})
    above, below = (plt.figure(number) for number in plt.get_fignums())
    mesh = next(mesh for ax in above.axes for mesh in ax.collections if mesh.get_array().size == image_of(seen.view).size)
    np.testing.assert_allclose(np.asarray(mesh.get_array()).reshape(100, -1), image_of(seen.view), atol=1e-5)
    gates = next(ax for ax in below.axes if ax.get_ylabel() == "Gates")
    for line, gate in zip(gates.lines, "ifo", strict=False):
        np.testing.assert_allclose(line.get_ydata(), seen.found.unit.gates[gate], atol=1e-5)
    plt.close("all")
    paper = seen.view.figure(seen.found, seen.chosen)
    drawn = [mesh for sub in paper.subfigs for ax in sub.axes for mesh in ax.collections if mesh.get_array() is not None]
    assert any(
        np.allclose(np.asarray(mesh.get_array()).ravel(), image_of(seen.view).ravel(), atol=1e-6)
        for mesh in drawn
        if mesh.get_array().size > 300
    )


def test_the_python_of_a_recording_without_inputs_runs(recorded):
    seen = shown(recorded, sample=5, order="peak")
    plt.close("all")
    exec(seen.view.code(seen.found, seen.chosen), {"sq": sq, "recording": recorded.recording})
    mesh = plt.gcf().axes[0].collections[0]
    np.testing.assert_allclose(np.asarray(mesh.get_array()).reshape(100, -1), image_of(seen.view), atol=1e-6)
    plt.close("all")
    assert seen.view.figure(seen.found, seen.chosen).axes


def test_the_table_has_a_column_for_each_unit(vowels, strided):
    seen = shown(vowels, sample=3)
    table = seen.view.table(seen.found, seen.chosen)
    np.testing.assert_array_equal(table["unit 42"], seen.found.values.sel(unit=42))
    assert table["time"].tolist() == list(range(18))
    own = shown(strided, layer="conv", state="")
    assert own.view.table(own.found, own.chosen)["time_end"].tolist() == list(range(4, 40, 2))


# In the browser


def heatmap_box(page):
    return page.locator(".sq-view-sample .bk-Figure").nth(1).bounding_box()


def wait_for_address(page, pattern):
    page.wait_for_function("pattern => new RegExp(pattern).test(location.search)", arg=pattern)


def test_click_and_brush_in_the_page(page, served, vowels):
    page.goto(served(vowels) + "?sample=3")
    page.get_by_text("Sample 3").first.wait_for()
    box = heatmap_box(page)
    middle, high = box["x"] + box["width"] / 2, box["y"] + 120
    page.mouse.click(middle, high)
    wait_for_address(page, r"unit=\d+")
    unit = re.search(r"unit=(\d+)", page.url)[1]
    page.get_by_text(f"Unit {unit}", exact=True).wait_for()
    page.keyboard.down("Shift")
    page.mouse.move(middle - 60, high)
    page.mouse.move(middle - 58, high)
    page.mouse.down()
    page.mouse.move(middle + 100, high + 5, steps=5)
    page.mouse.up()
    page.keyboard.up("Shift")
    wait_for_address(page, r"start=\d+&stop=\d+")
    page.get_by_text("Stretch:").wait_for()
    page.get_by_text("Clear stretch").click()
    page.wait_for_function("() => !location.search.includes('start=')")


def test_dragging_brushes_where_that_is_chosen_and_the_wheel_zooms_rows_on_their_names(page, served, vowels):
    page.goto(served(vowels) + "?sample=3")
    page.get_by_text("Drag brushes").click()
    box = heatmap_box(page)
    middle, high = box["x"] + box["width"] / 2, box["y"] + 120
    page.wait_for_timeout(300)
    page.mouse.move(middle - 60, high)
    page.mouse.move(middle - 58, high)
    page.mouse.down()
    page.mouse.move(middle + 100, high, steps=5)
    page.mouse.up()
    wait_for_address(page, r"start=\d+&stop=\d+")
    page.mouse.move(box["x"] + 30, high)
    page.mouse.move(box["x"] + 32, high)
    page.mouse.wheel(0, -300)
    page.wait_for_function(
        "() => [...Bokeh.documents[0]._all_models.values()].some(m => m.type === 'Range1d' && m.reset_end === 99.5 && m.end - m.start < 90)"
    )


def test_where_the_input_is_lost_it_is_said_and_the_units_are_shown(tmp_path):
    path = tmp_path / "vowels.zarr"
    X, _ = sq.datasets.japanese_vowels("test")
    sq.Scope(sq.zoo.japanese_vowels()).record(X[:6], path, "lstm", states=True, progress=False)
    whole = shown(source_of(path), sample=2, state="c", unit=3)
    shutil.rmtree(path / "inputs/value/c")
    seen = shown(source_of(path), sample=2, state="c", unit=3)
    assert seen.found.input is None
    assert "Its input is not in the store any more" in seen.view._told.object
    np.testing.assert_array_equal(seen.found.values.values, whole.found.values.values)
    assert seen.found.unit.gates


def test_classes_that_are_no_names_of_outputs_sort_units_too(vowels):
    names = np.array(list("abcdefghi"))[vowels.labels.astype(int) - 1]
    source = source_of(vowels.scope, sq.Sequences(list(vowels.X), labels=names))
    assert not source.is_classified
    assert "selectivity" in Controls(source, Selection(first_choice(source), Checks(source))).order.options
    np.testing.assert_array_equal(shown(source, order="selectivity").found.order, shown(vowels, order="selectivity").found.order)
