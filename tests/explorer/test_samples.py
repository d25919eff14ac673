"""The table of samples: which are listed and in which order, what a row says, and its links with the rest of the page."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from bokeh.models import Range1d
from playwright.sync_api import expect
from tests.nets import Net, series
from torch import nn

import seqscope as sq
from seqscope.errors import DataError
from seqscope.explorer.any_source import Source
from seqscope.explorer.opening import source_of
from seqscope.explorer.page import Checks, Page
from seqscope.explorer.selection import Chosen, Selection, read_query
from seqscope.explorer.theme import LIGHT
from seqscope.explorer.views.samples import listing, ranges
from seqscope.explorer.views.samples.view import ROWS, Samples
from seqscope.explorer.views.view import Stage


class Given(Source):
    """A data set of which only the predictions are known."""

    def __init__(self, values, names, labels=None, ids=None, n_steps=5):
        super().__init__()
        self.X = self.scope = None
        self.name, self.layers = "given", {}
        self._values = xr.DataArray(values, dims=("sample", "output"), coords={"output": names})
        self._labels, self._ids = labels, np.arange(len(values)) if ids is None else ids
        self._n_steps = n_steps

    def _activations_of(self, layer, sample):
        raise NotImplementedError

    _states_of = _activations_of

    def whole(self, layer, state):
        raise NotImplementedError

    def whole_states(self, layer):
        raise NotImplementedError

    def code(self, layer, state, sample):
        return ""

    def predictions(self):
        return self._values

    about = opening = ""
    sample_ids = property(lambda self: self._ids)
    lengths = property(lambda self: np.full(len(self._values), self._n_steps))
    labels = property(lambda self: self._labels)


def seen(source, **choice):
    """A table that shows what is chosen."""
    chosen = Chosen(**choice)
    view = Samples(Stage(source, Selection(chosen, Checks(source)), LIGHT, Range1d()))
    view.build()
    return show(view, chosen)


def show(view, chosen):
    if view.selection.chosen != chosen:
        view.selection.chosen = chosen
    view.show(view.find(chosen), chosen)
    return view


def listed(source, **choice):
    return listing.positions(source, Chosen(**choice)).tolist()


@pytest.fixture(scope="module")
def by_hand(vowels):
    """What the model says of each sample, in float64, by hand."""
    X, labels = sq.datasets.japanese_vowels("test")
    scores = vowels.predictions().values.astype(float)
    frame = pd.DataFrame({"label": labels, "prediction": [str(place + 1) for place in scores.argmax(axis=1)], "score": scores.max(axis=1)})
    return frame.assign(wrong=frame["label"] != frame["prediction"], length=X.lengths)


# Which samples are listed


def test_all_are_listed_as_they_are_in_the_data(vowels):
    assert listed(vowels) == list(range(370))


def test_mistakes_are_those_whose_prediction_is_not_their_label(vowels, by_hand):
    assert listed(vowels, only="wrong") == np.flatnonzero(by_hand["wrong"]).tolist()
    assert 0 < len(listed(vowels, only="wrong")) < 40


def test_a_class_is_that_of_the_label(vowels, by_hand):
    assert listed(vowels, group="3") == np.flatnonzero(by_hand["label"] == "3").tolist()


@pytest.mark.parametrize("column", ["score", "length", "wrong", "label", "prediction"])
@pytest.mark.parametrize("way", ["", "-"])
def test_a_column_sorts_and_ties_stay_in_their_order(vowels, by_hand, column, way):
    expected = by_hand.sort_values(column, ascending=way == "", kind="stable").index.tolist()
    assert listed(vowels, sort=way + column) == expected


def test_filters_and_order_go_together(vowels, by_hand):
    expected = by_hand[by_hand["wrong"] & (by_hand["label"] == "2")].sort_values("score", ascending=False).index.tolist()
    assert listed(vowels, only="wrong", group="2", sort="-score") == expected
    assert listed(vowels, among="30-40", only="wrong") == [place for place in range(30, 41) if by_hand["wrong"][place]]


def test_names_that_are_numbers_are_sorted_by_their_size():
    source = Given(np.eye(4), ["1", "2", "10", "b"], labels=np.array(["10", "b", "2", "1"]))
    assert listed(source, sort="label") == [3, 2, 0, 1]
    assert listed(source, sort="-prediction") == [3, 2, 1, 0]


def test_samples_without_a_score_come_last_either_way():
    source = Given(np.array([[np.nan], [3.0], [1.0]]), ["y"])
    assert listed(source, sort="score") == [2, 1, 0]
    assert listed(source, sort="-score") == [1, 2, 0]


@pytest.mark.parametrize(
    ("text", "rows"), [("ANNA", [0, 2]), ("b.n", [1]), ("(a+)+$", []), (".*", []), ("dog", [0, 1]), ("CAT", [2]), ("é", [1])]
)
def test_a_search_looks_for_plain_text_in_id_label_and_prediction(text, rows):
    ids = np.array(["anna1", "b.né", "hanna2"])
    source = Given(np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]]), ["dog", "cat"], labels=np.array(["x", "y", "z"]), ids=ids)
    assert listed(source, search=text) == rows


def test_a_search_for_a_number_finds_ids_that_hold_it(vowels):
    assert [place for place in listed(vowels, search="36") if place > 9] == [place for place in range(10, 370) if "36" in str(place)]
    assert listed(vowels, search="speaker") == []


def test_positions_are_written_in_few_letters_and_read_back():
    numbers = np.random.default_rng(0).choice(500, 200, replace=False)
    text = ranges.written(numbers)
    assert ranges.read(text, 500).tolist() == sorted(numbers.tolist())
    assert len(text) < len(",".join(map(str, numbers)))


# What an address may say


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("only=right", "There is no filter 'right' of samples: expected 'wrong', or none."),
        ("group=12", "No sample is of the class '12': the nearest are '"),
        ("sort=colour", "Samples can't be sorted by 'colour': expected one of 'sample', 'label'"),
        ("among=3-400", "There are no samples 3-400: the positions go from 0 to 369"),
        ("among=1;drop", "'1;drop' says no samples"),
        ("among=9-3", "There are no samples 9-3"),
        ("among=" + "9" * 199, "'9999999999"),
        ("colour=size", "Samples can't be coloured by 'size'"),
    ],
)
def test_what_an_address_says_wrongly_is_told(vowels, query, sentence):
    chosen, wrong = read_query(f"?{query}&sample=3", Chosen(layer="lstm"), Checks(vowels))
    assert [told.startswith(sentence) for told in wrong] == [True]
    assert (chosen.sample, chosen.only, chosen.group, chosen.sort, chosen.among) == (3, "", "", "", "")


def test_filters_are_refused_where_nothing_is_known_of_mistakes():
    source = Given(np.ones((3, 1)), ["y"], labels=np.array([0.5, 1.5, 2.5]))
    with pytest.raises(DataError, match="not known which samples are wrong"):
        Checks(source)("only", "wrong", Chosen())
    with pytest.raises(DataError, match=r"No sample is of the class '0.5'\."):
        Checks(source)("group", "0.5", Chosen())


def test_a_choice_that_is_too_long_for_an_address_is_left_out_of_it():
    chosen = Chosen(sample=4, among=ranges.written(np.arange(0, 300, 2)))
    assert chosen.query == "sample=4"
    assert Chosen(among="3-9.12").query == "among=3-9.12"


# What is seen


def test_rows_are_read_easily_and_only_those_in_sight_are_sent(vowels, by_hand):
    view = seen(vowels, sort="score", only="wrong")
    rows = by_hand[by_hand["wrong"]].sort_values("score")
    shown = view._rows.value
    assert len(shown) <= ROWS
    assert shown["sample"].tolist() == [str(place) for place in rows.index[:ROWS]]
    assert shown["score"].tolist() == [f"{score:.3f}" for score in rows["score"][:ROWS]]
    assert set(shown["wrong"]) == {"✗ wrong"}
    assert set(seen(vowels, search="nothing like this")._rows.value.columns) == set(shown.columns)


def test_the_chosen_row_is_brought_into_sight_and_marked(vowels):
    view = seen(vowels, sample=100)
    assert view._page == 100 // ROWS
    assert view._rows.value["sample"].tolist()[view._rows.selection[0]] == "100"
    show(view, Chosen(sample=369))
    assert view._rows.value["sample"].tolist()[view._rows.selection[0]] == "369"


def test_leafing_changes_no_choice_and_another_order_begins_at_its_top(vowels):
    view = seen(vowels, sample=100)
    view._turn(1)
    assert (view._page, view._rows.selection, view.selection.chosen.sample) == (100 // ROWS + 1, [], 100)
    show(view, Chosen(sample=100, sort="-score"))
    assert view._page == 0
    view._turn(-1)
    assert (view._page, view._back.disabled) == (0, True)
    view._turn(1000)
    assert (view._at.object, view._next.disabled) == ("page 21 of 21", True)


def test_how_many_are_listed_is_said(vowels, by_hand):
    mistakes = int(by_hand["wrong"].sum())
    assert f"370 samples, {mistakes} mistakes." in seen(vowels)._said.object
    assert (
        f"{mistakes} of 370 samples, {mistakes} mistakes. The chosen one, 0, is not among them." in seen(vowels, only="wrong")._said.object
    )
    assert "None of the 370 samples fits" in seen(vowels, search="nothing")._said.object
    assert "too many for the address" in seen(vowels, among=ranges.written(np.arange(0, 300, 2)))._said.object


def test_a_click_chooses_the_sample_of_the_row(vowels):
    view = seen(vowels, sort="-score")
    view._rows._process_event(type("Click", (), {"event_name": "cell-click", "column": "score", "row": 3, "value": None})())
    assert view.selection.chosen.sample == listed(vowels, sort="-score")[view._page * ROWS + 3]


def test_widgets_choose_and_follow(vowels):
    view = seen(vowels)
    view._only.value = ["wrong"]
    view._group.value = "2"
    view._rows.sorters = [{"field": "score", "dir": "desc"}]
    view._search.value_input = " 3 "
    chosen = view.selection.chosen
    assert (chosen.only, chosen.group, chosen.sort, chosen.search) == ("wrong", "2", "-score", "3")
    show(view, Chosen(sort="length", search="7"))
    assert (view._only.value, view._group.value, view._sort.value, view._search.value) == ([], "", "length", "7")
    assert view._rows.sorters == [{"field": "length", "dir": "asc"}]
    assert view.selection.chosen == Chosen(sort="length", search="7")


def test_arrows_go_through_what_is_listed(vowels):
    view = seen(vowels, only="wrong", sort="score")
    assert view.samples_in_order().tolist() == listed(vowels, only="wrong", sort="score")


def test_what_is_not_known_has_no_column_and_no_filter():
    source = Given(np.array([[0.00001234], [-12.34567], [np.nan]]), ["y"], labels=np.array([0.25, 3.123456, np.nan]))
    view = seen(source)
    assert list(view._rows.value.columns) == ["sample", "label", "score", "length"]
    assert view._rows.value["score"].tolist() == ["1.23e-05", "-12.346", ""]
    assert view._rows.value["label"].tolist() == ["0.25", "3.123", ""]
    assert (view._only.visible, view._group.visible) == (False, False)
    assert "mistakes" not in view._said.object
    unlabelled = seen(Given(np.eye(3), ["a", "b", "c"]))
    assert list(unlabelled._rows.value.columns) == ["sample", "prediction", "score", "length"]
    assert list(unlabelled._group.options) == ["all", "a", "b", "c"]


def test_a_million_samples_send_one_page():
    random = np.random.default_rng(0)
    source = Given(random.random((1_000_000, 3), np.float32), ["a", "b", "c"], labels=random.choice(["a", "b", "c"], 1_000_000))
    view = seen(source, sample=987_654, sort="-score")
    assert len(view._rows.value) == ROWS
    assert view._rows.value["sample"].tolist()[view._rows.selection[0]] == "987654"
    assert len(view._rows.get_root().source.data["sample"]) == ROWS
    assert sum(np.asarray(part).nbytes for part in (view._found.order,)) < 10_000_000


# What makes the same


def run(source, code):
    given = {"sq": sq, "np": np, "scope": source.scope, "X": source.X, "recording": getattr(source, "recording", None)}
    exec(code, given)
    return given["table"]


CHOICES = [
    {},
    {"only": "wrong", "sort": "-score"},
    {"group": "3", "sort": "label"},
    {"search": "36", "sort": "length"},
    {"among": "3-30.40.90-99", "sort": "-prediction"},
]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_the_python_gives_the_table(vowels, choice):
    view = seen(vowels, **choice)
    chosen = Chosen(**choice)
    found = run(vowels, view.code(view.find(chosen), chosen))
    shown = view.table(view.find(chosen), chosen)
    pd.testing.assert_frame_equal(found[list(shown.columns)].reset_index(drop=True), shown.reset_index(drop=True), check_dtype=False)


def test_the_python_of_a_recording_gives_the_table(tmp_path):
    X, _ = sq.datasets.japanese_vowels("test")
    source = source_of(sq.Scope(sq.zoo.japanese_vowels()).record(X[:40], tmp_path / "vowels.zarr", "lstm"))
    view = seen(source, sort="score")
    shown = view.table(view.find(Chosen(sort="score")), Chosen(sort="score"))
    found = run(source, view.code(view.find(Chosen(sort="score")), Chosen(sort="score")))
    assert found["sample"].tolist() == shown["sample"].tolist()
    np.testing.assert_allclose(found["score"], shown["score"])


def test_the_python_leaves_out_samples_without_a_prediction_and_gives_the_others_as_they_are_listed():
    def undecided(net, x):
        return net.fc(net.lstm(x)[0][:, -1]).where(x[:, :1, 0] < 100, torch.nan)

    data = series(6)
    data[3, 0, 0] = 200
    net = Net(undecided, lstm=nn.LSTM(3, 4, batch_first=True), fc=nn.Linear(4, 2))
    source = source_of(sq.Scope(net), sq.Sequences(data, labels=[0, 1, 0, 1, 0, 1]))
    view = seen(source)
    shown = view.table(view.find(Chosen()), Chosen())
    found = run(source, view.code(view.find(Chosen()), Chosen()))
    assert shown["prediction"].tolist()[3] == ""
    assert found["sample"].tolist() == [0, 1, 2, 4, 5]
    known = shown[shown["prediction"] != ""]
    assert found["wrong"].tolist() == known["wrong"].tolist()
    assert found["prediction"].astype(str).tolist() == known["prediction"].tolist()


def test_of_one_sequence_the_python_gives_the_table_too():
    net = Net(lambda net, x: net.fc(net.lstm(x)[0][:, -1]), lstm=nn.LSTM(3, 4, batch_first=True), fc=nn.Linear(4, 2))
    scope = sq.Scope(net)
    X = scope.sequences(series(1)[0])
    source = source_of(scope, X)
    view = seen(source)
    given = {"scope": scope, "X": X}
    exec(source.opening + "\n" + view.code(view.find(Chosen()), Chosen()), given)
    assert given["table"]["score"].tolist() == pytest.approx(view.table(view.find(Chosen()), Chosen())["score"].tolist())


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_the_python_of_outputs_with_steps_takes_the_last_of_each_sample(n_outputs):
    net = Net(lambda net, x: net.fc(net.lstm(x)[0]), lstm=nn.LSTM(3, 4, batch_first=True), fc=nn.Linear(4, n_outputs))
    source = source_of(net, [series(1, length)[0] for length in (4, 7, 5)])
    view = seen(source)
    expected = [source.predictions().values[place, length - 1].max() for place, length in enumerate((4, 7, 5))]
    np.testing.assert_allclose(run(source, view.code(view.find(Chosen()), Chosen()))["score"], expected)
    np.testing.assert_allclose(view.table(view.find(Chosen()), Chosen())["score"], expected)


def test_the_python_leaves_out_what_is_not_recorded_yet(vowels, monkeypatch):
    predictions = vowels.predictions().copy()
    predictions[3:5] = np.nan
    source = Given(predictions.values, vowels.outputs, labels=vowels.labels)
    view = seen(source)
    given = {"scope": type("Fake", (), {"predict": lambda self, X: predictions})(), "X": None}
    exec(view.code(view.find(Chosen()), Chosen()), given)
    shown = view.table(view.find(Chosen()), Chosen())
    assert given["table"]["prediction"].tolist() == [name for name in shown["prediction"] if name]
    assert given["table"]["sample"].tolist() == [place for place in range(370) if place not in (3, 4)]
    assert view._rows.value["score"].tolist()[3:5] == ["", ""]


def test_the_python_holds_what_is_searched_as_text(vowels):
    evil = "'); import os; os.abort(); ('"
    view = seen(vowels, search=evil)
    assert len(run(vowels, view.code(view.find(Chosen(search=evil)), Chosen(search=evil)))) == 0


def test_the_picture_counts_labels_against_predictions(vowels, by_hand):
    view = seen(vowels)
    figure = view.figure(view.find(Chosen()), Chosen())
    ax = figure.axes[0]
    counts = pd.crosstab(by_hand["label"], by_hand["prediction"])
    assert {(text.get_position(), text.get_text()) for text in ax.texts} == {
        ((column, row), str(counts.iloc[row, column])) for row, column in zip(*np.nonzero(counts.values), strict=True)
    }
    np.testing.assert_allclose(ax.images[0].get_array(), counts.values / counts.values.sum(axis=1, keepdims=True))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Predicted class", "Label")


def test_the_picture_of_values_is_their_label_and_score():
    source = Given(np.array([[0.5], [1.0]]), ["y"], labels=np.array([0.25, 1.5]))
    ax = seen(source).figure(seen(source).find(Chosen()), Chosen()).axes[0]
    np.testing.assert_allclose(ax.collections[0].get_offsets(), [[0.25, 0.5], [1.5, 1.0]])
    unlabelled = Given(np.array([[0.5], [1.0]]), ["y"])
    ax = seen(unlabelled).figure(seen(unlabelled).find(Chosen()), Chosen()).axes[0]
    assert sum(bar.get_height() for bar in ax.patches) == 2
    nothing = Chosen(search="nothing")
    view = seen(unlabelled, search="nothing")
    found = view.find(nothing)
    with pytest.raises(DataError, match="nothing to draw"):
        view.figure(found, nothing)


# In a browser


def opened(page, url):
    page.goto(url)
    expect(page.locator(".tabulator-row").first).to_be_visible()
    return page


def at(page, **said):
    for name, value in said.items():
        expect(page).to_have_url(re.compile(rf"[?&]{name}={value}(&|$)"))


def column(page, name):
    return page.locator(f".tabulator-row .tabulator-cell[tabulator-field={name}]")


def test_a_search_filters_the_rows_and_stands_in_the_address(page, served, vowels):
    opened(page, served(vowels))
    page.get_by_label("Search").press_sequentially("36")
    at(page, search="36")
    expect(column(page, "sample").first).to_have_text("36")
    page.get_by_label("Mistakes").check()
    at(page, search="36", only="wrong")
    expect(page.get_by_text("is not among them")).to_be_visible()
    expect(page.get_by_label("Search")).to_have_value("36")


def test_arrows_go_from_a_sample_that_is_filtered_away_to_those_that_are_listed(vowels):
    chosen = Chosen(layer="lstm", sample=2, only="wrong", sort="-score")
    page = Page(vowels, Selection(chosen, Checks(vowels)), [])
    page.template()
    order = listed(vowels, only="wrong", sort="-score")
    assert 2 not in order
    page._pressed("1:0")
    assert page.selection.chosen.sample == order[0]
    page._pressed("2:0")
    assert page.selection.chosen.sample == order[1]
    page.selection.choose(sample=2)
    page._pressed("1:0")
    assert page.selection.chosen.sample == order[-1]


def test_a_click_on_a_row_chooses_and_arrows_go_on_in_the_order_of_the_table(page, served, vowels):
    order = listed(vowels, sort="score")
    opened(page, served(vowels))
    page.locator(".tabulator-col[tabulator-field=score] .tabulator-col-title").click()
    at(page, sort="score")
    expect(column(page, "sample").nth(2)).to_have_text(str(order[2]))
    column(page, "score").nth(ROWS - 2).click()
    at(page, sample=order[ROWS - 2])
    expect(page.locator(".tabulator-row.tabulator-selected [tabulator-field=sample]")).to_have_text(str(order[ROWS - 2]))
    expect(page.get_by_label("Sample", exact=True)).to_have_value(str(order[ROWS - 2]))
    page.locator("h1").click()
    for place in range(ROWS - 1, ROWS + 1):  # over the end of the page
        page.keyboard.press("ArrowDown")
        at(page, sample=order[place])
    expect(page.locator(".tabulator-row.tabulator-selected [tabulator-field=sample]")).to_have_text(str(order[ROWS]))
    expect(page.get_by_text("page 2 of 21")).to_be_visible()


def test_rows_that_are_clicked_one_after_the_other_are_all_chosen(page, served, vowels):
    """Panel runs a click without the document's lock while the selection that the click before made is still on its way."""
    opened(page, served(vowels))
    for place in range(1, 9):
        column(page, "score").nth(place).dispatch_event("click")
        page.wait_for_timeout(30)
    at(page, sample=8)
    expect(page.locator(".tabulator-row.tabulator-selected [tabulator-field=sample]")).to_have_text("8")
    expect(page.get_by_label("Sample", exact=True)).to_have_value("8")


def test_names_are_text_and_no_part_of_the_page(page, served):
    names = np.array(["<img src=x onerror=alert(1)>", "<b>bold</b>"])
    X, _ = sq.datasets.japanese_vowels("test")
    marked = sq.Sequences([np.asarray(X[place]) for place in range(2)], samples=names, labels=names)
    source = source_of(sq.Scope(sq.zoo.japanese_vowels()), marked)
    opened(page, served(source))
    expect(column(page, "sample").first).to_have_text(names[0])
    expect(column(page, "label").nth(1)).to_have_text(names[1])
    assert page.locator(".tabulator-row img, .tabulator-row b").count() == 0
