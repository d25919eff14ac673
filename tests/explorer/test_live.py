"""A sample that is played: what the stream gives step by step is what the model gives all at once, and what is shown of it."""

import re
from dataclasses import replace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import panel as pn
import pytest
import torch
from bokeh.models import Range1d
from playwright.sync_api import expect

import seqscope as sq
from nets import Net
from seqscope.errors import DataError, UnsupportedError
from seqscope.explorer.opening import source_of
from seqscope.explorer.page import Checks, first_choice
from seqscope.explorer.selection import Selection, read_query
from seqscope.explorer.theme import DARK, LIGHT
from seqscope.explorer.views.live.view import Live
from seqscope.explorer.views.view import Stage

# As promised for float32 in one table of the tests: step by step equals all at once.
EXACT = {"rtol": 1e-5, "atol": 1e-6}


def view_of(source, look=LIGHT, **said):
    """The view, built, following what is chosen as its frame does."""
    chosen = replace(first_choice(source), view="live", **said)
    view = Live(Stage(source, Selection(chosen, Checks(source)), look, Range1d(0, 1)))
    view.build()
    view.selection.follow(lambda fields: refreshed(view) if fields & view.follows else None)
    refreshed(view)
    return view


def refreshed(view):
    view.found = view.find(view.selection.chosen)
    view.show(view.found, view.selection.chosen)


def picture(view):
    """The cells, (step, unit), as they are on the page."""
    cells = np.asarray(view._heatmap.source.data["image"][0])[::-1].T
    found = np.full_like(cells, np.nan)
    found[:, view._order] = cells
    return found


@pytest.fixture
def clock(monkeypatch):
    """What is called by the clock of the page, called by hand."""

    class Callback:
        def __init__(self, do, period):
            self.do, self.period, self.runs = do, period, True

        def stop(self):
            self.runs = False

    made = []

    def add(do, period):
        made.append(Callback(do, period))
        return made[-1]

    monkeypatch.setattr(pn.state, "add_periodic_callback", add)
    return made


# The numbers


@pytest.mark.parametrize("state", ["", "c", "f"])
def test_what_is_played_is_what_the_model_gives_at_once(vowels, state):
    view = view_of(vowels, sample=4, state=state, step=24)
    x = vowels.X[4]
    expected = vowels.scope.states(x, "lstm")[state].values if state else vowels.scope.activations(x, "lstm").values
    np.testing.assert_allclose(view.found.played.values, expected, **EXACT)
    np.testing.assert_allclose(picture(view), expected, **EXACT)
    np.testing.assert_allclose(view.found.played.outputs[-1], vowels.scope.predict(x).values, **EXACT)
    view.close()


def test_opened_at_a_step_so_many_are_played(vowels):
    view = view_of(vowels, step=7)
    expected = vowels.scope.activations(vowels.X[0], "lstm").values
    np.testing.assert_allclose(picture(view)[:7], expected[:7], **EXACT)
    assert np.isnan(picture(view)[7:]).all()
    assert len(view._outputs.source.data["x"]) == 7
    (hidden,) = view._curtains
    assert (hidden.left, hidden.right, hidden.visible) == (6.5, 18.5, True)
    assert "<b>Step 7 of 19</b> of sample 0, from a fresh state." in view._told.object
    said = vowels.scope.predict(vowels.X[0][:7])
    assert f"'{said.idxmax('output').item()}' now ({float(said.max()):.3f})" in view._told.object.replace("&#x27;", "'")


def test_a_step_sends_its_column_alone(vowels, monkeypatch):
    view = view_of(vowels, step=3)
    patches, filled = [], []
    source = view._heatmap.source
    monkeypatch.setattr(type(source), "patch", lambda self, given: patches.append(given))
    monkeypatch.setattr(view._heatmap, "fill", lambda *args, **options: filled.append(args))
    view._step.clicks += 1
    assert view.selection.chosen.step == 4
    ((_, _, columns), values) = patches[0]["image"][0]
    assert columns == slice(3, 4)
    expected = vowels.scope.activations(vowels.X[0], "lstm").values[3]
    np.testing.assert_allclose(values[:, 0], expected[view._order][::-1], **EXACT)
    assert filled == []
    assert len(view._outputs.source.data["x"]) == 4


def test_back_and_forth_gives_the_same(vowels):
    view = view_of(vowels, step=12)
    view._place.value = 5
    assert np.isnan(picture(view)[5:]).all()
    view._place.value = 19
    np.testing.assert_allclose(picture(view), vowels.scope.activations(vowels.X[0], "lstm").values, **EXACT)
    assert view._step.disabled
    assert not view._curtains[0].visible


# Playing


def test_it_plays_to_the_end_and_says_where_it_is(vowels, clock):
    view = view_of(vowels, sample=1, step=0)
    view._play.clicks += 1
    (ticking,) = clock
    assert ticking.period == 200
    assert view._play.label == "Pause"
    for n in range(1, 6):
        ticking.do()
        assert view._place.value == n
        assert np.isnan(picture(view)[:, 0]).sum() == 17 - n
    assert view.selection.chosen.step == 0  # no line in the history for each step
    view._play.clicks += 1
    assert (view.selection.chosen.step, ticking.runs, view._play.label) == (5, False, "Play")
    view._play.clicks += 1
    while clock[-1].runs:
        clock[-1].do()
    assert view.selection.chosen.step == 17
    np.testing.assert_allclose(picture(view), vowels.scope.activations(vowels.X[1], "lstm").values, **EXACT)


def test_never_more_than_ten_steps_a_second(vowels, clock):
    view = view_of(vowels)
    view._speed.value = max(view._speed.options.values())
    view._play.clicks += 1
    assert clock[-1].period == 100
    view._speed.value = 1
    assert [one.runs for one in clock] == [False, True]
    assert clock[-1].period == 1000


def test_it_pauses_where_nobody_looks(vowels, clock):
    view = view_of(vowels)
    view._play.clicks += 1
    clock[-1].do()
    view.selection.choose(view="sample")
    clock[-1].do()
    assert not view.is_playing
    assert view.selection.chosen.step == 1


def test_another_sample_stops_it(vowels, clock):
    view = view_of(vowels)
    view._play.clicks += 1
    clock[-1].do()
    view.selection.choose(sample=9)
    assert not view.is_playing
    assert (view.selection.chosen.step, view._place.value) == (0, 0)


def test_another_order_while_it_plays_goes_on(vowels, clock):
    view = view_of(vowels)
    view._play.clicks += 1
    for _ in range(3):
        clock[-1].do()
    view.selection.choose(order="peak")
    assert view.is_playing
    assert view._place.value == 3
    clock[-1].do()
    np.testing.assert_allclose(picture(view)[:4], vowels.scope.activations(vowels.X[0], "lstm").values[:4], **EXACT)


def test_reset_begins_anew(vowels, clock):
    view = view_of(vowels)
    view._play.clicks += 1
    for _ in range(3):
        clock[-1].do()
    view._reset.clicks += 1
    assert not view.is_playing
    assert view.selection.chosen.step == 0
    assert np.isnan(picture(view)).all()
    view._step.clicks += 1
    np.testing.assert_allclose(picture(view)[0], vowels.scope.activations(vowels.X[0], "lstm").values[0], **EXACT)


# The state carried on


def test_carried_on_it_is_one_long_sample(vowels, clock):
    view = view_of(vowels, sample=2, step=5)
    view._carry.clicks += 1  # what is left of sample 2 is played first
    assert (view.selection.chosen.sample, view.selection.chosen.carried, view.is_playing) == (3, "2.3", True)
    while clock[-1].runs:
        clock[-1].do()
    both = np.concatenate([vowels.X[2].values, vowels.X[3].values])
    expected = vowels.scope.activations(both[None], "lstm").values[0, len(vowels.X[2]) :]
    np.testing.assert_allclose(picture(view), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected - vowels.scope.activations(vowels.X[3], "lstm").values).max() > 0.1
    assert "with the state carried on from sample 2" in view._told.object
    sent = view_of(vowels, **{name: getattr(view.selection.chosen, name) for name in ("sample", "step", "carried")})
    np.testing.assert_allclose(picture(sent), expected, rtol=1e-4, atol=1e-5)


def test_the_next_sample_from_a_fresh_state(vowels, clock):
    view = view_of(vowels, sample=2, step=5)
    view._next.clicks += 1
    while clock[-1].runs:
        clock[-1].do()
    assert (view.selection.chosen.sample, view.selection.chosen.carried) == (3, "")
    np.testing.assert_allclose(picture(view), vowels.scope.activations(vowels.X[3], "lstm").values, **EXACT)


def test_what_was_carried_holds_for_its_sample_alone(vowels):
    view = view_of(vowels, sample=3, carried="2.3", step=4)
    view.selection.choose(sample=5)
    assert "from a fresh state" in view._told.object
    np.testing.assert_allclose(picture(view)[:4], vowels.scope.activations(vowels.X[5], "lstm").values[:4], **EXACT)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("step=-1", "-1 steps can't be played: expected 0 or more."),
        ("carried=x", "'x' says no samples that were played one after the other"),
        ("carried=999.0", "There is no sample 999"),
        ("carried=" + ".".join(["1"] * 30), "29 samples can't be played before another: expected 20 at most."),
    ],
)
def test_a_bad_address_is_told(vowels, query, sentence):
    _, (wrong,) = read_query(query, first_choice(vowels), Checks(vowels))
    assert wrong.startswith(sentence)


def test_more_steps_than_there_are_is_the_whole_sample(vowels):
    view = view_of(vowels, sample=7, step=29)
    view.selection.choose(sample=0)
    assert "<b>Step 19 of 19</b>" in view._told.object
    chosen, wrong = read_query(view.selection.chosen.query, first_choice(vowels), Checks(vowels))
    assert (chosen.step, wrong) == (19, [])


# Where it can't be


def data(*lengths):
    random = np.random.default_rng(0)
    return sq.Sequences([random.standard_normal((length, 3)) for length in lengths])


def test_a_model_that_looks_ahead_says_so():
    torch.manual_seed(0)
    net = Net(lambda net, x: net.gru(x)[0].mean(1), gru=torch.nn.GRU(3, 4, batch_first=True, bidirectional=True))
    source = source_of(sq.Scope(net), data(12, 15))
    with pytest.raises(UnsupportedError, match="can't be streamed"):
        view_of(source)


def test_without_a_model_it_says_what_to_give(vowels, tmp_path):
    vowels.scope.record(vowels.X[:3], str(tmp_path / "v.zarr"), layers=["lstm"], progress=False)
    source = source_of(str(tmp_path / "v.zarr"))
    assert not Live.missing(source)
    with pytest.raises(UnsupportedError, match="There is no live model here"):
        view_of(source)


def test_a_closed_page_holds_no_stream(vowels, clock):
    view = view_of(vowels, step=3)
    stream = view._player._stream
    view._play.clicks += 1
    view.close()
    assert not clock[-1].runs
    with pytest.raises(UnsupportedError, match="closed"):
        stream.step(vowels.X[0].values[0])


def test_what_fails_while_it_plays_is_told_in_its_place(vowels, clock, monkeypatch):
    view = view_of(vowels, step=2)
    view._play.clicks += 1
    monkeypatch.setattr(view._player, "to", lambda *given: (_ for _ in ()).throw(DataError("The step holds <NaN>.")))
    clock[-1].do()
    assert not view.is_playing
    assert view._failed.visible
    assert view._failed.object == "The step holds &lt;NaN&gt;."


def test_tokens_are_played():
    torch.manual_seed(0)
    net = Net(
        lambda net, x: net.head(net.lstm(net.embed(x))[0][:, -1]),
        embed=torch.nn.Embedding(10, 4),
        lstm=torch.nn.LSTM(4, 5, batch_first=True),
        head=torch.nn.Linear(5, 2),
    )
    X = sq.Sequences([np.arange(8) % 10, np.arange(3, 9)])
    source = source_of(sq.Scope(net), X)
    view = view_of(source, layer="lstm", step=8)
    np.testing.assert_allclose(view.found.played.values, source.scope.activations(X[0], "lstm").values, **EXACT)
    names = run(source, view)
    np.testing.assert_allclose(names["values"].values, view.found.played.values, **EXACT)


# What else is made of it


def run(source, view):
    """Run the Python of the view, and give what it names."""
    names = {"sq": sq, "scope": source.scope, "X": source.X}
    with mpl.rc_context({"backend": "agg"}):
        exec(view.code(view.found, view.selection.chosen), names)
    plt.close("all")
    return names


@pytest.mark.parametrize(("state", "step", "carried"), [("", 7, ""), ("c", 18, ""), ("", 6, "1.2")])
def test_the_python_plays_the_same(vowels, state, step, carried):
    view = view_of(vowels, sample=2 if carried else 8, state=state, step=min(step, int(vowels.lengths[8])), carried=carried)
    names = run(vowels, view)
    np.testing.assert_allclose(names["values"].values, view.found.played.values, **EXACT)
    np.testing.assert_allclose(names["outputs"].values, view.found.played.outputs, **EXACT)


def test_the_table_and_the_figure_hold_what_was_played(vowels):
    view = view_of(vowels, step=7)
    table = view.table(view.found, view.selection.chosen)
    expected = vowels.scope.activations(vowels.X[0], "lstm").values[:7]
    np.testing.assert_allclose(table.filter(like="unit ").to_numpy(), expected, **EXACT)
    assert [name for name in table if name.startswith("output ")] == [f"output {name}" for name in range(1, 10)]
    figure = view.figure(view.found, view.selection.chosen)
    meshes = [
        part.get_array() for ax in figure.axes for part in ax.collections if part.get_array() is not None and part.get_array().size == 700
    ]
    np.testing.assert_allclose(np.asarray(meshes[0]).reshape(100, 7), expected.T, **EXACT)


def test_nothing_is_saved_before_a_step_is_played(vowels):
    view = view_of(vowels)
    with pytest.raises(DataError, match="No step has been played yet"):
        view.table(view.found, view.selection.chosen)
    assert len(run(vowels, view)["values"]) == 19


@pytest.mark.parametrize("look", [LIGHT, DARK], ids=["light", "dark"])
def test_it_is_made_in_both_themes(vowels, look):
    assert view_of(vowels, look)._outputs.plot.background_fill_color == look.ground


# In a browser

_CELLS = """() => {
  const plot = window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].get_model_by_name("live"); if (!plot) return -1;
  const image = plot.renderers.find(one => one.glyph.type == "Image").data_source.data.image[0];
  return image ? Array.from(image).filter(one => !Number.isNaN(one)).length / 100 : -1; }"""


def test_in_the_browser_it_plays_pauses_and_begins_anew(page, served, vowels):
    page.goto(served(vowels) + "?view=live&sample=7")
    expect(page.get_by_text("Step 0 of 29")).to_be_visible()
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function(f"({_CELLS})() >= 3")
    page.get_by_role("button", name="Pause").click()
    expect(page).to_have_url(re.compile(r"[?&]step=\d+"))
    step = int(re.search(r"step=(\d+)", page.url)[1])
    page.wait_for_function(f"({_CELLS})() == {step}")
    page.wait_for_timeout(500)
    assert page.evaluate(_CELLS) == step
    page.get_by_role("button", name="Reset", exact=True).click()
    page.wait_for_function(f"({_CELLS})() == 0")
    expect(page).not_to_have_url(re.compile("step="))


def test_in_the_browser_the_address_says_how_far_it_was_played(page, served, vowels):
    page.goto(served(vowels) + "?view=live&step=7")
    page.wait_for_function(f"({_CELLS})() == 7")
    page.get_by_role("button", name="Step", exact=True).click()
    page.wait_for_function(f"({_CELLS})() == 8")
    expect(page).to_have_url(re.compile("step=8"))
    page.get_by_role("button", name="Next sample, carry on").click()
    expect(page).to_have_url(re.compile("carried=0.1"))
    expect(page.get_by_text("with the state carried on from sample 0")).to_be_visible()
    expect(page.get_by_label("Sample", exact=True)).to_have_value("1")
    page.get_by_role("button", name="Pause").click()
    expect(page).to_have_url(re.compile(r"carried=0.1"))
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
