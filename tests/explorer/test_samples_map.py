"""The map of samples: where points lie and why, what they look like, and what clicking and a lasso choose."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from bokeh.models import Range1d
from playwright.sync_api import expect
from tests.nets import Net, series
from torch import nn

import seqscope as sq
from seqscope.errors import DataError
from seqscope.explorer.opening import source_of
from seqscope.explorer.page import Checks
from seqscope.explorer.selection import Chosen, Selection
from seqscope.explorer.theme import DARK, LIGHT, contrast
from seqscope.explorer.views.samples import ranges
from seqscope.explorer.views.samples_map import projected as projecting
from seqscope.explorer.views.samples_map.colours import MOST_NAMED, coloured
from seqscope.explorer.views.samples_map.projected import projected
from seqscope.explorer.views.samples_map.view import SamplesMap, legend_html, within
from seqscope.explorer.views.view import Stage


def seen(source, look=LIGHT, **choice):
    """A map that shows what is chosen."""
    chosen = Chosen(**({"layer": next(iter(source.layers))} | choice))
    view = SamplesMap(Stage(source, Selection(chosen, Checks(source)), look, Range1d()))
    view.build()
    return show(view, chosen)


def show(view, chosen):
    view.selection.chosen = chosen
    view.show(view.find(chosen), chosen)
    return view


def components(states):
    """Points, axes and shares of the variance by a singular value decomposition, in float64."""
    centred = states - states.mean(axis=0)
    left, sizes, right = np.linalg.svd(centred.astype(float), full_matrices=False)
    return (left * sizes)[:, :2], right[:2], (sizes**2 / (sizes**2).sum())[:2]


def same_up_to_sign(found, expected, **options):
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, **options)


def last_states(values, lengths):
    return np.stack([values[place, length - 1] for place, length in enumerate(lengths)])


@pytest.fixture(scope="module")
def by_hand(vowels):
    """The states of the vowels, (sample, time, unit), from the model itself."""
    X, _ = sq.datasets.japanese_vowels("test")
    return sq.Scope(sq.zoo.japanese_vowels()).activations(X, "lstm").values


@pytest.fixture(scope="module")
def two_ways():
    """A model whose layer looks both ways, and one that convolves."""
    torch.manual_seed(0)
    both = Net(lambda net, x: net.fc(net.lstm(x)[0][:, -1]), lstm=nn.LSTM(3, 4, batch_first=True, bidirectional=True), fc=nn.Linear(8, 2))
    return source_of(both, series(12, 9))


# Where points lie


def test_points_are_the_last_states_on_their_principal_components(vowels, by_hand):
    points, axes, shares = components(last_states(by_hand, vowels.lengths))
    found = projected(vowels, "lstm", "")
    same_up_to_sign(found.points, points, atol=2e-5)
    same_up_to_sign(found.axes, axes.T, atol=1e-5)
    np.testing.assert_allclose(found.shares, shares, rtol=1e-5)
    assert found.pooled == "last"


def test_points_are_what_scikit_learn_finds(vowels, by_hand):
    from sklearn.decomposition import PCA

    fitted = PCA(2, svd_solver="full")
    same_up_to_sign(
        projected(vowels, "lstm", "").points, fitted.fit_transform(last_states(by_hand, vowels.lengths).astype(float)), atol=2e-5
    )


def test_a_layer_that_looks_back_and_forth_is_averaged_over_time(two_ways):
    values = two_ways.scope.activations(two_ways.X, "lstm").values
    found = projected(two_ways, "lstm", "")
    assert found.pooled == "mean"
    same_up_to_sign(found.points, components(values.mean(axis=1))[0], atol=1e-10)
    assert projected(two_ways, "lstm", "h.backward").pooled == "mean"
    assert "mean over its steps of lstm" in seen(two_ways)._about.object


def test_a_state_has_a_map_of_its_own(vowels):
    X, _ = sq.datasets.japanese_vowels("test")
    cells = sq.Scope(sq.zoo.japanese_vowels()).states(X, "lstm")["c"].values
    same_up_to_sign(projected(vowels, "lstm", "c").points, components(last_states(cells, vowels.lengths))[0], rtol=1e-3, atol=1e-4)


def test_a_recording_gives_the_same_points_block_by_block(vowels, tmp_path, monkeypatch):
    X, _ = sq.datasets.japanese_vowels("test")
    recording = sq.Scope(sq.zoo.japanese_vowels()).record(X, tmp_path / "vowels.zarr", "lstm")
    monkeypatch.setattr("seqscope.units.blocks._BLOCK", 50_000)  # many blocks
    found = projected(source_of(recording), "lstm", "")
    np.testing.assert_allclose(found.points, projected(vowels, "lstm", "").points, atol=2e-5)


def test_a_live_model_runs_on_some_samples_at_a_time(monkeypatch):
    X, _ = sq.datasets.japanese_vowels("test")
    source = source_of(sq.Scope(sq.zoo.japanese_vowels()), X[:60])
    whole = projected(source, "lstm", "h")
    source = source_of(sq.Scope(sq.zoo.japanese_vowels()), X[:60])
    monkeypatch.setattr(projecting, "_LIVE_VALUES", 4 * 29 * 100 * 7)  # seven samples
    monkeypatch.setattr(source, "whole", None)
    np.testing.assert_allclose(projected(source, "lstm", "h").points, whole.points, atol=2e-5)


def test_of_too_many_samples_a_seeded_choice_is_drawn_and_the_chosen_one_placed_among_them(monkeypatch, by_hand):
    monkeypatch.setattr(projecting, "MOST_POINTS", 120)
    X, _ = sq.datasets.japanese_vowels("test")
    source = source_of(sq.Scope(sq.zoo.japanese_vowels()), X)
    found = projected(source, "lstm", "")
    assert len(found.rows) == len(set(found.rows.tolist())) == 120
    states = last_states(by_hand, source.lengths).astype(float)
    same_up_to_sign(found.points, components(states[found.rows])[0], atol=2e-5)
    other = next(place for place in range(370) if place not in found.rows)
    view = seen(source, sample=other)
    expected = (states[other] - states[found.rows].mean(axis=0)) @ found.axes
    np.testing.assert_allclose([view._mark.data["x"][0], view._mark.data["y"][0]], expected, atol=1e-5)
    assert "drawn from 370 (seed 0)" in view._about.object
    chosen = Chosen(layer="lstm", sample=other)
    given = {"sq": sq, "scope": source.scope, "X": source.X}
    exec(view.code(view.find(chosen), chosen), given)
    np.testing.assert_allclose(given["points"], found.points, atol=2e-5)
    assert given["points"].coords["sample"].values.tolist() == found.rows.tolist()


def test_samples_that_are_not_recorded_yet_have_no_points(monkeypatch):
    source = source_of(Net(lambda net, x: net.lstm(x)[0][:, -1], lstm=nn.LSTM(3, 4, batch_first=True)), series(6, 5))
    whole = source.whole("lstm", "").copy()
    whole[2:4] = np.nan
    monkeypatch.setattr(source, "whole", lambda layer, state: whole)
    view = seen(source)
    assert view._found.projected.rows.tolist() == [0, 1, 4, 5]
    assert "2 have no states yet" in view._about.object
    assert all(np.isfinite(view._points.data["x"]))
    whole[1:] = np.nan
    with pytest.raises(DataError, match="One sample has states of 'lstm': a map needs two and more"):
        projecting._projected(source, "lstm", "")


def test_only_the_first_map_of_a_state_takes_long():
    source = source_of(Net(lambda net, x: net.lstm(x)[0][:, -1], lstm=nn.LSTM(3, 2, batch_first=True)), series(5, 4))
    view = SamplesMap(Stage(source, Selection(Chosen(layer="lstm"), Checks(source)), LIGHT, Range1d()))
    assert view.is_slow_for(Chosen(layer="lstm"))
    view.find(Chosen(layer="lstm"))
    assert not view.is_slow_for(Chosen(layer="lstm", sample=3, colour="unit"))
    assert view.is_slow_for(Chosen(layer="lstm", state="c"))


def test_states_without_any_spread_are_points_too():
    source = source_of(Net(lambda net, x: net.lstm(x)[0][:, -1], lstm=nn.LSTM(3, 1, batch_first=True)), np.zeros((5, 4, 3)))
    found = projected(source, "lstm", "")
    np.testing.assert_allclose(found.points, 0, atol=1e-12)
    assert found.shares.tolist() == [0, 0]
    assert (seen(source).plot.x_range.start, seen(source).plot.x_range.end) == (-1, 1)


@pytest.mark.parametrize(("layer", "state"), [("lstm", ""), ("lstm", "c")])
def test_the_python_gives_the_points(vowels, layer, state):
    view = seen(vowels, layer=layer, state=state)
    given = {"sq": sq, "scope": vowels.scope, "X": vowels.X}
    exec(view.code(view._found, view.selection.chosen), given)
    np.testing.assert_allclose(given["points"], view._found.projected.points, atol=1e-4)


def test_the_python_of_averages_and_of_other_clocks_gives_the_points(two_ways):
    convolved = Net(lambda net, x: net.fc(net.conv(x.transpose(1, 2)).mean(2)), conv=nn.Conv1d(3, 5, 3, stride=2), fc=nn.Linear(5, 2))
    for source, layer, state in (
        (two_ways, "lstm", ""),
        (two_ways, "lstm", "c.backward"),
        (source_of(convolved, series(8, 11)), "conv", ""),
    ):
        view = seen(source, layer=layer, state=state)
        given = {"sq": sq, "scope": source.scope, "X": source.X}
        exec(view.code(view._found, view.selection.chosen), given)
        np.testing.assert_allclose(given["points"], view._found.projected.points, atol=1e-6)


# What they look like


def test_classes_have_a_colour_and_a_shape_each_and_are_counted(vowels):
    view = seen(vowels)
    _, labels = sq.datasets.japanese_vowels("test")
    data = view._points.data
    looks = {label: {(data["color"][place], data["marker"][place]) for place in np.flatnonzero(labels == label)} for label in set(labels)}
    assert [len(look) for look in looks.values()] == [1] * 9
    assert len(set.union(*looks.values())) == 9
    assert data["label"] == labels.tolist()
    counts = pd.Series(labels).value_counts()
    assert {entry.name: entry.number for entry in view._found.looks.legend} == counts.to_dict()
    assert all(f"{counts[name]:,} samples" in view._legend.object for name in counts.index)


def test_mistakes_differ_in_colour_and_shape(vowels):
    view = seen(vowels, colour="wrong", among="0-99")
    data, wrong = view._points.data, vowels.samples["wrong"].to_numpy()
    said = pd.DataFrame({name: data[name] for name in ("marker", "color", "x")}, index=[int(name) for name in data["id"]]).sort_index()
    assert set(said["marker"][wrong]) == {"x"}
    assert set(said["marker"][~wrong]) == {"circle"}
    assert said["color"].nunique() == 2
    np.testing.assert_allclose(said["x"], view._found.projected.points[:, 0])
    assert data["marker"][-wrong.sum() :] == ["x"] * wrong.sum()  # on top
    assert sorted(int(data["id"][place]) for place in view._points.selected.indices) == list(range(100))


def test_a_unit_colours_by_its_mean_over_time(vowels, by_hand):
    view = seen(vowels, colour="unit", unit=7)
    means = np.nanmean(by_hand[:, :, 7].astype(float), axis=1)
    np.testing.assert_allclose(view._found.looks.values, means, rtol=1e-4, atol=1e-6)
    size = np.abs(means).max()
    np.testing.assert_allclose([view._mapper.low, view._mapper.high], [-size, size], rtol=1e-4)
    order = np.argsort(means)
    palette = view._mapper.palette
    colors = np.array(view._points.data["color"])
    assert colors[order[-1]] == (palette[-1] if means.max() == size else colors[order[-1]])
    assert view._bar.visible
    assert view._bar.title == "Mean of lstm, unit 7"
    assert view._legend.object == ""


def test_a_unit_that_a_state_does_not_have_is_told(two_ways):
    with pytest.raises(DataError, match=r"no unit 6 in lstm \(Hidden state, backward\): the positions go from 0 to 3"):
        seen(two_ways, colour="unit", unit=6, state="h.backward")
    assert len(seen(two_ways, colour="label", unit=6, state="h.backward")._points.data["x"]) == 12


def test_another_sample_moves_the_ring_and_sends_no_points_again(vowels):
    view = seen(vowels)
    sent = view._points.data
    show(view, Chosen(layer="lstm", sample=20, unit=4, among="3-9"))
    assert view._points.data is sent
    np.testing.assert_allclose([view._mark.data["x"][0], view._mark.data["y"][0]], view._found.projected.points[20])
    show(view, Chosen(layer="lstm", colour="unit", unit=4))
    show(view, Chosen(layer="lstm", colour="unit", unit=5))
    assert view._bar.title == "Mean of lstm, unit 5"
    assert view._hover.tooltips == [
        ("sample", "@id"),
        ("label", "@label"),
        ("predicted class", "@prediction"),
        ("Mean of lstm, unit 5", "@text"),
    ]


def test_many_classes_are_named_where_the_mouse_is():
    names = np.array([f"class {number}" for number in range(200)])
    looks = coloured("label", names, LIGHT, "Label")
    assert looks.text == names.tolist()
    assert looks.legend == []
    assert "200 classes, named where the mouse is" in legend_html(looks)
    some = coloured("label", names[:MOST_NAMED], LIGHT, "Label")
    assert len({(entry.color, entry.marker) for entry in some.legend}) == MOST_NAMED


def test_values_without_a_number_are_grey_and_names_are_no_part_of_the_page():
    looks = coloured("label", np.array([0.5, np.nan]), LIGHT, "Label")
    assert (looks.color[1], looks.text[1]) == (LIGHT.missing, "none")
    assert "&lt;img&gt;" in legend_html(coloured("label", np.array(["<img>"]), LIGHT, "Label"))


@pytest.mark.parametrize("look", [LIGHT, DARK], ids=["light", "dark"])
def test_points_stand_out_from_the_ground(vowels, look):
    data = seen(vowels, look, colour="wrong")._points.data
    assert min(contrast(color, look.ground) for color in set(data["color"])) >= 3
    assert set(seen(vowels, look, colour="score")._points.data["edge"]) == {look.soft}


def test_without_labels_the_prediction_colours():
    source = source_of(sq.Scope(sq.zoo.japanese_vowels()), [np.asarray(series(1, 9, 12)[0]) for _ in range(3)])
    view = seen(source)
    assert view._colour.value == "prediction"
    assert list(view._colour.options.values()) == ["prediction", "score", "unit"]


# What clicking and a lasso choose


class Geometry:
    final = True

    def __init__(self, **geometry):
        self.geometry = geometry


class Place:
    def __init__(self, x, y):
        self.x, self.y = x, y


def test_a_click_near_a_point_chooses_its_sample_and_one_beside_none(vowels):
    view = seen(vowels, sample=5)
    points = view._found.projected.points
    alone = int(np.argmax(np.sort(np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)), axis=1)[:, 1]))
    view._tapped(Place(*(points[alone] + 1e-3)))
    assert view.selection.chosen.sample == alone
    view._tapped(Place(points[:, 0].max() + 1, points[:, 1].max() + 1))
    assert view.selection.chosen.sample == alone


def test_a_lasso_selects_what_is_in_it(vowels):
    view = seen(vowels)
    points = view._found.projected.points
    expected = np.flatnonzero((points[:, 0] > 1) & (points[:, 1] > 0))
    view._selected(Geometry(type="poly", x=[1, 1, 99, 99], y=[0, 99, 99, 0]))
    assert ranges.read(view.selection.chosen.among, 370).tolist() == expected.tolist()
    show(view, view.selection.chosen)
    assert view._points.selected.indices == expected.tolist()
    assert f"{len(expected)} are selected" in view._about.object
    view._clear.clicks += 1
    assert view.selection.chosen.among == ""
    show(view, view.selection.chosen)
    assert (view._points.selected.indices, view._clear.visible) == ([], False)


def test_a_lasso_around_nothing_and_one_that_is_not_finished_change_nothing(vowels):
    view = seen(vowels, among="3-9")
    view._points.selected.indices = []
    view._selected(Geometry(type="rect", x0=90, x1=91, y0=90, y1=91))
    assert view.selection.chosen.among == "3-9"
    assert view._points.selected.indices == list(range(3, 10))
    running = Geometry(type="rect", x0=-99, x1=99, y0=-99, y1=99)
    running.final = False
    view._selected(running)
    assert view.selection.chosen.among == "3-9"


def test_what_a_lasso_holds_is_decided_by_crossings():
    random = np.random.default_rng(0)
    border, points = random.random((7, 2)), random.random((500, 2))
    ends = np.roll(border, -1, axis=0)
    inside = np.zeros(500, bool)
    for (x0, y0), (x1, y1) in zip(border, ends, strict=True):
        crosses = (y0 > points[:, 1]) != (y1 > points[:, 1])
        inside ^= crosses & (points[:, 0] < x0 + (points[:, 1] - y0) * (x1 - x0) / (y1 - y0))
    hull = within(points, {"type": "poly", "x": dict(enumerate(border[:, 0])), "y": border[:, 1]})
    triangle = within(points, {"type": "poly", "x": [0, 1, 0], "y": [0, 0, 1]})
    assert (triangle == (points.sum(axis=1) < 1)).all()
    assert (hull | ~inside).all()  # all that is inside by crossings is inside


def test_the_picture_and_the_table_hold_the_points(vowels):
    view = seen(vowels, colour="wrong", sample=3)
    chosen = view.selection.chosen
    drawn = view.figure(view._found, chosen).axes[0]
    points = view._found.projected.points
    offsets = np.concatenate([part.get_offsets() for part in drawn.collections[:-1]])
    assert {tuple(row) for row in np.round(offsets, 6)} == {tuple(row) for row in np.round(points, 6)}
    np.testing.assert_allclose(drawn.collections[-1].get_offsets(), points[[3]])
    assert re.fullmatch(r"Component 0 \(27 % of the variance\)", drawn.get_xlabel())
    assert view.plot.xaxis.axis_label == drawn.get_xlabel()
    table = view.table(view._found, chosen)
    np.testing.assert_allclose(table[["component_0", "component_1"]], points)
    assert table["sample"].tolist() == list(range(370))


# In a browser


def opened(page, url):
    page.goto(url)
    page.get_by_text("Map", exact=True).click()
    expect(page.get_by_text("Each point is a sample")).to_be_visible()
    return page


def on_screen(page, points):
    """Where points of the map lie on the screen, after it is drawn."""
    page.wait_for_function(f"() => {{ {_MAP} return view.model.inner_width > 0 && view.model.x_range.start < -3; }}")
    box = page.evaluate(
        f"() => {{ {_MAP} const box = view.canvas_view.el.getBoundingClientRect(), frame = view.frame.bbox, m = view.model;"
        " const {x_range, y_range} = m;"
        " return [box.x + frame.x0, box.y + frame.y0, frame.width, frame.height, x_range.start, x_range.end, y_range.start, y_range.end]; }"
    )
    x, y, wide, high, left, right, low, top = box
    return np.column_stack([x + (points[:, 0] - left) / (right - left) * wide, y + (top - points[:, 1]) / (top - low) * high])


_MAP = """
const found = [];
const look = (view) => { if (view.model && view.model.name == "map" && view.canvas_view) found.push(view);
  for (const part of view.children ? view.children() : []) look(part); };
for (const view of Object.values(Bokeh.index)) look(view);
const view = found[0];
if (!view) return false;
"""


def test_a_click_on_a_point_chooses_its_sample(page, served, vowels):
    points = projected(vowels, "lstm", "").points
    alone = int(np.argmax(np.sort(np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)), axis=1)[:, 1]))
    opened(page, served(vowels))
    x, y = on_screen(page, points)[alone]
    page.mouse.click(x, y)
    expect(page).to_have_url(re.compile(rf"[?&]sample={alone}(&|$)"))
    expect(page.get_by_label("Sample", exact=True)).to_have_value(str(alone))


def test_a_lasso_filters_the_table_and_a_button_shows_all_again(page, served, vowels):
    points = projected(vowels, "lstm", "").points
    inside = np.flatnonzero(points[:, 1] > 3.8)
    opened(page, served(vowels))
    corners = on_screen(page, np.array([[-5.0, 3.8], [-5.0, 5.9], [5.0, 5.9], [5.0, 3.8]]))
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=4)
    page.mouse.up()
    expect(page.get_by_text(f"{len(inside)} are selected")).to_be_visible()
    page.get_by_text("Samples", exact=True).first.click()
    expect(page.get_by_text(f"{len(inside)} of 370 samples")).to_be_visible()
    expect(page.locator(".tabulator-row [tabulator-field=sample]").first).to_have_text(str(inside[0]))
    page.get_by_role("button", name="Clear the map's selection").click()
    expect(page.get_by_text("370 samples, ")).to_be_visible()
