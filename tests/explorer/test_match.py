"""Where else the units of a stretch are on: what is searched, shown, ranked and clicked, against a search by hand."""

import re
from dataclasses import replace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from bokeh.events import SelectionGeometry, Tap
from bokeh.models import Range1d
from playwright.sync_api import expect

import seqscope as sq
from nets import Net
from seqscope.errors import DataError
from seqscope.explorer.opening import source_of
from seqscope.explorer.page import Checks, first_choice
from seqscope.explorer.selection import Selection, read_query
from seqscope.explorer.stretches import Stretch, like, searched
from seqscope.explorer.theme import DARK, LIGHT
from seqscope.explorer.views.match.view import Match
from seqscope.explorer.views.view import Stage

# In sample 100 ten units go on at step 6.
BRUSHED = {"sample": 100, "start": 6, "stop": 10}


def view_of(source, look=LIGHT, **said):
    chosen = replace(first_choice(source), **said)
    view = Match(Stage(source, Selection(chosen, Checks(source)), look, Range1d(0, 1)))
    view.build()
    return view


def shown(source, **said):
    """The view as it is seen, and what was found."""
    view = view_of(source, **said)
    return view, refreshed(view)


def refreshed(view):
    chosen = view.selection.chosen
    found = view.find(chosen)
    view.show(found, chosen)
    return found


def by_hand(values, start, stop, threshold):
    """The selected units of the first sample given, and every run of steps in which they are on, in plain loops."""
    own = values[0]
    on = own >= threshold
    selected = [
        unit
        for unit in range(own.shape[1])
        if on[start:stop, unit].all() and not (start and on[start - 1, unit]) and not (stop < len(own) and on[stop, unit])
    ]
    runs = []
    for sample, array in enumerate(values):
        step = 0
        while step < len(array):
            end = step
            while end < len(array) and (array[end, selected] >= threshold).all():
                end += 1
            if end > step and not (sample == 0 and step < stop and end > start):
                others = int((array[step:end] >= threshold).all(axis=0).sum()) - len(selected)
                runs.append((sample, step, end, len(selected) / (len(selected) + others)))
            step = end + 1
    return selected, sorted(runs, key=lambda run: (-run[3], abs(run[2] - run[1] - (stop - start)), run[0], run[1]))


def first_is(position, source):
    """The values of all samples, that of a position first."""
    order = [position, *(place for place in range(len(source)) if place != position)]
    return order, [source.values("lstm", "", place).values for place in order]


# The numbers


def test_units_and_places_are_those_of_a_search_by_hand(vowels):
    _, found = shown(vowels, **BRUSHED)
    order, values = first_is(100, vowels)
    selected, runs = by_hand(values, 6, 10, 0.3)
    assert found.units.tolist() == selected
    assert found.result.attrs["n_found"] == len(runs)
    scores = [run[3] for run in runs]
    np.testing.assert_allclose(found.table["score"], scores[: len(found.table)])
    known = {(order[sample], start, stop) for sample, start, stop, _ in runs}
    assert {(one.sample, one.start, one.stop) for one in found.stretches} <= known
    assert found.table["rank"].tolist() == list(range(1, 21))
    assert found.table["label"].tolist() == [vowels.labels[one.sample] for one in found.stretches]


def test_the_picture_holds_the_units_and_the_places(vowels):
    view, found = shown(vowels, **BRUSHED)
    values = vowels.values("lstm", "", 100).values
    np.testing.assert_allclose(view._units.on.data["ys"], values[:, found.units].T)
    np.testing.assert_allclose(view._units.off.data["ys"], np.delete(values, found.units, axis=1).T)
    assert view._units.line.location == 0.3
    assert (view._units.stretch.left, view._units.stretch.right) == (5.5, 9.5)
    assert list(view._chips.options.values()) == found.units.tolist()
    assert view._table.value["score"].tolist() == [f"{score:.3f}" for score in found.table["score"]]
    places = found.places
    best = found.stretches[0]
    expected = vowels.X[best.sample].values[best.start : best.stop]
    window = places.windows["input"].isel(window=1, time=slice(4, 4 + best.stop - best.start))
    np.testing.assert_allclose(window, expected)
    mean = vowels.values("lstm", "", best.sample).values[best.start : best.stop][:, found.units].mean(axis=1)
    np.testing.assert_allclose(places.windows["activation"].isel(window=1)[4 : 4 + len(mean)], mean, rtol=1e-5)
    assert places.titles[1].startswith(f"1: sample {best.sample} (3)\n{best.start} to {best.stop - 1}, ")
    width = np.subtract(view._places.shades.data["right"], view._places.shades.data["left"])
    assert width.tolist() == [4, *(one.stop - one.start for one in found.stretches[:6])]


def test_another_threshold_is_another_list(vowels):
    view, before = shown(vowels, **BRUSHED)
    view._threshold.value = 0.5
    assert view.selection.chosen.threshold == 0.5
    after = refreshed(view)
    selected, runs = by_hand(first_is(100, vowels)[1], 6, 10, 0.5) if not after.unknown else ([], [])
    assert after.units.tolist() == selected != before.units.tolist()
    assert after.result is None or after.result.attrs["n_found"] == len(runs)


def test_where_no_unit_is_on_it_says_what_to_do_and_the_controls_stay(vowels):
    view, found = shown(vowels, **BRUSHED, threshold=3.0)
    assert found.result is None
    assert "No unit is at 3 or above" in view._failed.object
    assert "threshold=" in view._failed.object
    assert view._failed.visible
    assert not view._table.visible
    assert len(view._units.off.data["ys"]) == 100
    advised = float(re.search(r"threshold=([\d.]+)", found.unknown)[1])
    view._threshold.value = advised
    assert len(refreshed(view).units) > 0
    assert not view._failed.visible
    assert view._table.visible


def test_a_stretch_beyond_the_sample_is_told(vowels):
    view, found = shown(vowels, sample=100, start=6, stop=99)
    assert "The stretch from 6 to 99 is not within sample 100, which has 10 steps" in found.unknown
    assert not view._units.stretch.visible


def test_nothing_is_searched_before_a_stretch_is_brushed(vowels):
    view, found = shown(vowels)
    assert not view.is_slow_for(view.selection.chosen)
    assert found.result is None
    assert not found.unknown
    assert "Nothing is brushed yet" in view._head.object
    assert "units.match" not in view.code(found, view.selection.chosen)


# What a person does


def test_a_brush_and_a_click_choose(vowels):
    view, _ = shown(vowels, sample=100)
    plot = view._units
    geometry = {"type": "rect", "x0": 5.6, "x1": 9.4, "y0": 0, "y1": 1}
    plot.plot._trigger_event(SelectionGeometry(model=plot.plot, geometry=geometry, final=False))
    assert view.selection.chosen.stop == 0
    plot.plot._trigger_event(SelectionGeometry(model=plot.plot, geometry=geometry, final=True))
    assert (view.selection.chosen.start, view.selection.chosen.stop) == (6, 10)
    plot.plot._trigger_event(Tap(model=plot.plot, x=3.0, y=0.4001, sx=0, sy=0))
    assert view.selection.chosen.threshold == pytest.approx(0.4, abs=0.01)
    view._start.value = 7
    assert (view.selection.chosen.start, view.selection.chosen.stop) == (7, 10)
    view._start.value = 12
    assert (view.selection.chosen.start, view.selection.chosen.stop) == (12, 13)
    view._clear.clicks += 1
    assert (view.selection.chosen.start, view.selection.chosen.stop) == (0, 0)


def test_a_click_on_a_place_shows_it_and_keeps_what_is_searched_for(vowels):
    view, found = shown(vowels, **BRUSHED)
    best = found.stretches[0]
    view._clicked(0)
    chosen = view.selection.chosen
    assert Stretch(chosen.sample, chosen.start, chosen.stop) == best
    again = refreshed(view)
    assert again.query == Stretch(100, 6, 10)
    assert again.result is found.result
    np.testing.assert_allclose(view._units.on.data["ys"], vowels.values("lstm", "", best.sample).values[:, found.units].T)
    assert f"Above is one of these, in sample {best.sample}" in view._head.object
    assert view._back.visible
    view._back.clicks += 1
    assert searched(view.selection.chosen) == Stretch(100, 6, 10)
    assert (view.selection.chosen.sample, view.selection.chosen.like) == (100, "")


def test_another_sample_or_brush_searches_anew(vowels):
    view, _ = shown(vowels, **BRUSHED)
    view._clicked(0)
    sample = view.selection.chosen.sample
    view.selection.choose(sample=5)
    assert searched(view.selection.chosen).sample == 5
    view.selection.choose(sample=sample)
    view._brushed(2, 4)
    assert searched(view.selection.chosen) == Stretch(sample, 2, 4)


def test_a_click_on_a_unit_chooses_it(vowels):
    view, found = shown(vowels, **BRUSHED)
    view._chips.value = int(found.units[3])
    assert view.selection.chosen.unit == found.units[3]


def test_what_was_searched_for_is_in_the_address(vowels):
    view, found = shown(vowels, **BRUSHED)
    view._clicked(1)
    chosen, wrong = read_query(view.selection.chosen.query, first_choice(vowels), Checks(vowels))
    assert wrong == []
    assert chosen == view.selection.chosen
    assert chosen.like == like(found.query, found.stretches[1])


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("like=7", "'7' says no stretch with a match of it"),
        ("like=0.1.2-999.1.2", "There is no sample 999"),
        ("start=-3", "A stretch can't begin or end at step -3"),
        ("threshold=inf", "The address says threshold=inf, which is no number."),
    ],
)
def test_a_bad_address_is_told(vowels, query, sentence):
    _, (wrong,) = read_query(query, first_choice(vowels), Checks(vowels))
    assert wrong.startswith(sentence)


# What else is made of them


def run(source, code):
    """Run the Python of a view, and give what it names."""
    names = {"sq": sq, "scope": source.scope, "X": source.X, "recording": getattr(source, "recording", None)}
    with mpl.rc_context({"backend": "agg"}):
        exec(code, names)
    return names


@pytest.mark.parametrize("state", ["", "c"])
def test_the_python_finds_and_draws_the_same(vowels, state):
    view, found = shown(vowels, **BRUSHED, state=state)
    names = run(vowels, view.code(found, view.selection.chosen))
    try:
        assert names["found"]["start"].values.tolist() == found.table["start"].tolist()
        assert names["found"].unit.values.tolist() == found.units.tolist()
        drawn = [ax.collections[0].get_array() for ax in names["axes"].flat]
        titles = [ax.get_title() for ax in names["axes"].flat]
    finally:
        plt.close("all")
    saved = [ax for ax in view.figure(found, view.selection.chosen).axes if ax.collections and ax.get_title()]
    assert [ax.get_title() for ax in saved] == titles
    for ax, array in zip(saved, drawn, strict=True):
        np.testing.assert_allclose(ax.collections[0].get_array(), array, rtol=1e-5)


def test_the_table_is_saved_and_a_picture_of_nothing_is_not(vowels):
    view, found = shown(vowels, **BRUSHED)
    table = view.table(found, view.selection.chosen)
    assert list(table) == ["rank", "sample", "label", "prediction", "start", "stop", "length", "score", "others"]
    empty = view_of(vowels)
    with pytest.raises(DataError, match="brush a stretch first"):
        empty.figure(refreshed(empty), empty.selection.chosen)


# Other models


def test_a_recording_without_its_inputs(vowels, tmp_path):
    vowels.scope.record(vowels.X[:60], str(tmp_path / "v.zarr"), layers=["lstm"], inputs=False, progress=False)
    source = source_of(str(tmp_path / "v.zarr"))
    values = source.values("lstm", "", 3).values
    rise = values[10:].min(axis=0) - values[9]
    unit = int(rise.argmax())
    view, found = shown(source, sample=3, start=10, stop=len(values), threshold=float(values[9, unit] + rise[unit] / 2))
    assert unit in found.units
    assert not view._places.input.visible
    names = run(source, view.code(found, view.selection.chosen))
    plt.close("all")
    assert names["found"]["sample"].values.tolist() == found.table["sample"].tolist()


def random_data(*lengths):
    random = np.random.default_rng(0)
    return sq.Sequences([random.standard_normal((length, 3)) for length in lengths])


def test_a_layer_with_steps_of_its_own():
    torch.manual_seed(0)
    net = Net(lambda net, x: net.conv(x.transpose(1, 2)).mean(2), conv=torch.nn.Conv1d(3, 4, 5, stride=2))
    source = source_of(sq.Scope(net, layout="NTC"), random_data(21, 30, 25))
    values = source.values("conv", "", 0).values
    step = int(values[1:-1, 2].argmax()) + 1
    view, found = shown(source, layer="conv", start=step, stop=step + 1, threshold=float(values[step, 2]) - 1e-3)
    assert 2 in found.units
    first = step * 2  # a step sees five inputs around its middle
    np.testing.assert_allclose(view._units.stretch.left, first + 2 - 1, atol=1e-9)
    shaded = found.places.windows["input"].isel(window=0, time=slice(4, 4 + int(found.places.lengths[0])))
    np.testing.assert_allclose(shaded[0], source.X[0].values[first + 1], rtol=1e-6)


def test_both_directions():
    torch.manual_seed(0)
    net = Net(lambda net, x: net.gru(x)[0].mean(1), gru=torch.nn.GRU(3, 4, batch_first=True, bidirectional=True))
    source = source_of(sq.Scope(net), random_data(12, 15, 9))
    values = source.values("gru", "h.backward", 0).values
    unit, step = 1, int(values[:, 1].argmax())
    view, found = shown(source, layer="gru", state="h.backward", start=step, stop=step + 1, threshold=float(values[step, unit]) - 1e-4)
    assert unit in found.units
    names = run(source, view.code(found, view.selection.chosen))
    plt.close("all")
    assert names["found"].unit.values.tolist() == found.units.tolist()


def test_a_text_shows_its_letters():
    model = sq.zoo.char_lstm()
    texts = ["the king, the queen", "then the crown", "to be or not"]
    source = source_of(sq.Scope(model), sq.Sequences.from_text(texts, characters=model.characters))
    values = source.values("lstm", "", 0).values
    rise = values[2] - np.maximum(values[1], values[3])
    unit = int(rise.argmax())
    view, found = shown(source, start=2, stop=3, threshold=float(values[2, unit] - rise[unit] / 2))
    assert unit in found.units
    assert "".join(found.places.texts[0])[:3] == "the"
    n = len(found.places.texts[0])
    assert list(view._places.letters.data["text"])[:n] == found.places.texts[0]
    np.testing.assert_allclose(np.diff(view._places.letters.data["x"][:n]), 1)


@pytest.mark.parametrize("look", [LIGHT, DARK], ids=["light", "dark"])
def test_it_is_made_in_both_themes(vowels, look):
    view = view_of(vowels, look, **BRUSHED)
    refreshed(view)
    assert view._units.plot.background_fill_color == look.ground


# In a browser


def rows(page):
    return page.locator(".sq-matches .tabulator-row")


def test_in_the_browser_a_brush_gives_ranked_places_and_a_click_goes_there(page, served, vowels):
    page.goto(served(vowels) + "?view=match&sample=100")
    expect(page.get_by_text("Nothing is brushed yet.")).to_be_visible()
    place = page.evaluate(
        """() => { const plot = Bokeh.documents[0].get_model_by_name("match"), view = Bokeh.index.find_one(plot);
        const box = view.canvas.el.getBoundingClientRect(), x = view.frame.x_scale, y = view.frame.y_scale;
        return [box.x + x.compute(5.6), box.x + x.compute(9.4), box.y + y.compute(0)]; }"""
    )
    page.mouse.move(place[0], place[2])
    page.mouse.down()
    page.mouse.move((place[0] + place[1]) / 2, place[2], steps=4)
    page.mouse.move(place[1], place[2], steps=4)
    page.mouse.up()
    expect(page).to_have_url(re.compile("start=6.*stop=10"))
    expect(page.get_by_text("35 other places")).to_be_visible()
    expect(rows(page).first).to_contain_text("0.400")
    scores = [float(text) for text in page.locator('.sq-matches .tabulator-cell[tabulator-field="score"]').all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    best = rows(page).first.locator('[tabulator-field="sample"]').inner_text()
    rows(page).first.click()
    expect(page).to_have_url(re.compile(rf"sample={best}&"))
    expect(page.get_by_label("Sample", exact=True)).to_have_value(best)
    expect(page.get_by_text(f"Above is one of these, in sample {best}")).to_be_visible()


def test_in_the_browser_the_threshold_changes_the_places(page, served, vowels):
    page.goto(served(vowels) + "?view=match&sample=100&start=6&stop=10")
    expect(page.get_by_text("10 units are on")).to_be_visible()
    box = page.get_by_label("Threshold")
    box.fill("9")
    box.press("Enter")
    expect(page.get_by_text("No unit is at 9 or above")).to_be_visible()
    box.fill("0.45")
    box.press("Enter")
    expect(page).to_have_url(re.compile("threshold=0.45"))
    expect(page.get_by_text("No unit is at 9 or above")).to_be_hidden()
    expect(rows(page).first).to_be_visible()
