"""One unit over the whole data set: its report, what drives it, and the way from a window to its sample."""

import re
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from bokeh.models import Range1d

import seqscope as sq
from seqscope.explorer.opening import source_of
from seqscope.explorer.page import Checks, first_choice
from seqscope.explorer.selection import Selection
from seqscope.explorer.theme import LIGHT
from seqscope.explorer.views.unit.found import K, stretch_of
from seqscope.explorer.views.unit.paper import words
from seqscope.explorer.views.unit.view import Unit
from seqscope.explorer.views.view import Stage


def shown(source, **choice):
    """A view that shows what is chosen, with what it found."""
    selection = Selection(first_choice(source), Checks(source))
    selection.choose(**choice)
    view = Unit(Stage(source, selection, LIGHT, Range1d(0, 1)))
    view.build()
    found = view.find(selection.chosen)
    view.show(found, selection.chosen)
    return SimpleNamespace(view=view, found=found, chosen=selection.chosen, selection=selection)


@pytest.fixture(scope="module")
def seen(vowels):
    return shown(vowels, unit=17)


@pytest.fixture(scope="module")
def values(vowels):
    """All values of unit 17: (sample, time)."""
    return vowels.whole("lstm", "").values[..., 17].astype(float)


def test_figures_are_those_of_all_steps(seen, values):
    report = {name: float(seen.found.report[name][0]) for name in ("mean", "spread", "low", "high", "saturated")}
    known = values[~np.isnan(values)]
    expected = (known.mean(), known.std(), known.min(), known.max(), (np.abs(known) >= 0.95).mean())
    assert list(report.values()) == pytest.approx(expected, abs=1e-5)
    said = dict(words(seen.found))
    assert said["Range"] == f"{known.min():.4g} to {known.max():.4g}"
    assert said["Dead"] == "no"
    assert said["Input gate i"].startswith("shut ")


def test_bars_are_the_histogram_and_the_areas_under_the_curves(seen, values, vowels):
    known = values[~np.isnan(values)]
    counts, edges = np.histogram(known, 40)
    np.testing.assert_array_equal(seen.view.counts.data["count"], counts)
    np.testing.assert_allclose(seen.view.counts.data["left"], edges[:-1], atol=1e-6)
    means = np.nanmean(values, axis=1)
    for label, told in zip(seen.view.told.data["label"], seen.view.told.data["auroc"], strict=True):
        inside = vowels.labels == label
        above = means[inside][:, None] - means[~inside][None]
        assert told == pytest.approx(((above > 0) + 0.5 * (above == 0)).mean(), abs=1e-6)


def test_windows_are_where_the_unit_is_highest(seen, values, vowels):
    windows = seen.found.windows
    best = np.nanmax(values, axis=1)
    assert windows.sizes["window"] == K
    assert windows["score"].values[0] == pytest.approx(best.max())
    first = int(windows["sample"][0])
    assert first == best.argmax()
    drawn = seen.view._windows
    start, stop = int(windows["start"][0]), int(windows["stop"][0])
    np.testing.assert_allclose(drawn.values.data["ys"][0], values[first, start:stop], atol=1e-6)
    np.testing.assert_allclose(drawn.lines.data["ys"][0], vowels.input(first).values[start:stop, 0])
    assert f"sample {first} ({vowels.labels[first]})" in drawn.titles.data["text"][0]


def test_a_click_on_a_window_shows_its_stretch_in_its_sample(vowels):
    seen = shown(vowels, unit=17, view="unit")
    drawn = seen.view._windows
    for place, x in ((2, drawn.peaks.data["x"][2] - 1), (0, 0.1), (5, drawn._across.end - 0.1)):
        drawn._tapped(SimpleNamespace(x=x, y=0))
        window = seen.found.windows.isel(window=place)
        chosen = seen.selection.chosen
        assert (chosen.view, chosen.sample, chosen.start, chosen.stop) == (
            "sample",
            int(window["sample"]),
            int(window["start"]),
            int(window["stop"]),
        )


def test_a_window_of_a_layer_with_its_own_steps_is_those_steps_that_lie_in_it():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.fc = torch.nn.Conv1d(2, 4, 6, stride=3), torch.nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(torch.tanh(self.conv(x)).mean(-1))

    X = np.random.default_rng(0).standard_normal((5, 60, 2)).astype(np.float32)
    seen = shown(source_of(sq.Scope(Net().eval(), layout="NCT"), sq.Sequences(X)), unit=1)
    found = stretch_of(seen.view.source, seen.chosen, seen.found.windows, 0)
    window = seen.found.windows.isel(window=0)
    times = seen.view.source.values("conv", "", found["sample"]).coords["time"].values
    inside = np.flatnonzero((times >= int(window["start"]) - 0.5) & (times <= int(window["stop"]) - 0.5))
    assert (found["start"], found["stop"]) == (inside[0], inside[-1] + 1)
    assert "no labels" in seen.found.unknown[0]
    assert not seen.view._class_panel.visible


def test_without_inputs_the_rest_is_there_with_a_sentence(tmp_path):
    X, _ = sq.datasets.japanese_vowels("test")
    sq.Scope(sq.zoo.japanese_vowels()).record(X[::8], tmp_path / "store.zarr", "lstm", inputs=False, progress=False)
    source = source_of(tmp_path / "store.zarr")
    seen = shown(source, unit=3)
    assert seen.found.windows is None
    assert "inputs were not recorded" in seen.view._unknown.object
    assert not seen.view._windows.panel.visible
    assert "left_saturated" not in seen.found.report
    space = {"sq": sq, "recording": source.recording}
    exec(seen.view.code(seen.found, seen.chosen), space)
    plt.close("all")
    np.testing.assert_allclose(space["report"]["mean"], seen.found.report["mean"])
    assert seen.view.figure(seen.found, seen.chosen).axes


@pytest.mark.parametrize("state", ["", "c"])
def test_the_python_gives_the_same_numbers(vowels, state):
    seen = shown(vowels, unit=5, state=state)
    X, _ = sq.datasets.japanese_vowels("test")
    space = {"sq": sq, "X": X, "scope": sq.Scope(sq.zoo.japanese_vowels())}
    exec(seen.view.code(seen.found, seen.chosen), space)
    plt.close("all")
    for name in ("mean", "high", "selectivity", "left_saturated", "half_life"):
        np.testing.assert_allclose(space["report"][name], seen.found.report[name], rtol=1e-5, atol=1e-7)
    assert space["followed"]["channel"].values == seen.found.followed["channel"].values
    np.testing.assert_allclose(space["windows"]["input"], seen.found.windows["input"])
    np.testing.assert_allclose(space["windows"]["score"], seen.found.windows["score"], rtol=1e-6)


def test_the_table_has_all_figures(seen):
    table = seen.view.table(seen.found, seen.chosen).set_index("figure")["value"]
    assert table["mean"] == pytest.approx(float(seen.found.report["mean"][0]))
    assert len(table.loc["selectivity"]) == 9
    assert table.loc["count"].sum() == seen.found.counts.sum()
    assert len(table.loc["top window"]) == K


def test_names_out_of_the_data_are_text(vowels):
    """What a channel or a layer is called is not taken for a part of the page."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = torch.nn.GRU(2, 3, batch_first=True)

        def forward(self, x):
            return self.rnn(x)[0][:, -1]

    X = sq.Sequences(np.random.default_rng(0).standard_normal((6, 9, 2)), channels=["<b>one</b>", "<img src=x>"], labels=["<i>", "b"] * 3)
    seen = shown(source_of(sq.Scope(Net()), X), unit=1)
    assert "<b>one" not in seen.view._report.object
    assert "<img" not in seen.view._report.object


def test_from_the_page_of_a_unit_to_the_sample(page, served, vowels):
    page.goto(served(vowels) + "?view=unit&unit=17")
    page.get_by_text("what drives it most").wait_for()
    page.wait_for_function(
        "() => [...Bokeh.documents[0]._all_models.values()].some(m => m.type === 'Figure' && m.x_range.end > 100 && m.x_range.start === 0)"
    )
    box = page.locator(".sq-view-unit .bk-Figure").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.4, box["y"] + 100)
    page.wait_for_function(
        "() => /sample=\\d+/.test(location.search) && /stop=\\d+/.test(location.search) && !/view=unit/.test(location.search)"
    )
    page.get_by_text("Stretch:").wait_for()


def test_titles_of_windows_stand_side_by_side_whatever_the_labels_are(vowels):
    values = np.linspace(-1.7715497575913886, 2, len(vowels))
    drawn = shown(source_of(vowels.scope, sq.Sequences(list(vowels.X), labels=values)), unit=17).view._windows
    titles = [text.splitlines()[0] for text in drawn.titles.data["text"]]
    assert all(re.fullmatch(r"sample \d+ \(-?[\d.e-]{1,10}\)", title) for title in titles)
    long = np.where(vowels.labels.astype(int) > 4, "somebody who speaks low", "somebody who speaks high")
    drawn = shown(source_of(vowels.scope, sq.Sequences(list(vowels.X), labels=long)), unit=17).view._windows
    assert {len(text.splitlines()[0]) for text in drawn.titles.data["text"]} == {20}
