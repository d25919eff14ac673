"""What a decision rests on: two methods in one scale, their words, their Python, and what they say where they fail."""

import re
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
import torch
from bokeh.models import Range1d
from matplotlib.collections import QuadMesh
from playwright.sync_api import expect
from scipy.stats import spearmanr

import seqscope as sq
from nets import Net
from seqscope.errors import DataError, SeqscopeError, UnsupportedError
from seqscope.explorer.frame import Frame
from seqscope.explorer.opening import source_of
from seqscope.explorer.page import Checks, first_choice
from seqscope.explorer.selection import Selection
from seqscope.explorer.theme import DARK, LIGHT
from seqscope.explorer.views.view import Stage
from seqscope.explorer.views.why.explaining import Asked, asked_of
from seqscope.explorer.views.why.view import Why


def view_of(source, look=LIGHT, **said):
    """The view, built, and what is chosen."""
    chosen = replace(first_choice(source), **said)
    view = Why(Stage(source, Selection(chosen, Checks(source)), look, Range1d(0, 1)))
    view.build()
    return view, chosen


def shown(source, **said):
    """The view with its panels filled, and what was found."""
    view, chosen = view_of(source, **said)
    found = view.find(chosen)
    view.show(found, chosen)
    return view, found, chosen


def panel(view, place, name="raw"):
    """What a panel holds, the first channel first."""
    return np.asarray(view._panels[place].lanes.source.data[name][0])[::-1]


def ends(view, place):
    mapper = view._panels[place].lanes.mapper
    return mapper.low, mapper.high


def run(source, code):
    """Run the Python of a view, and give what it makes."""
    names = {"sq": sq, "scope": source.scope, "X": source.X}
    *lines, last = code.split("\n")
    exec("\n".join(lines), names)
    return eval(last, names)


def attributed(source, sample, *args, **options):
    found = source.scope.attribute(source.X[sample], *args, **options)
    return (found["map"] if "map" in getattr(found, "data_vars", ()) else found).transpose(..., "time").values


@pytest.fixture(scope="module")
def planted():
    X, *_ = sq.datasets.planted(4, length=60, n_channels=9)
    return source_of(sq.Scope(sq.zoo.conv_mil()), X)


def small(run, data, *, tokens=0, **children):
    torch.manual_seed(0)
    return source_of(sq.Scope(Net(run, **children)), data)


def data(*lengths, **names):
    random = np.random.default_rng(0)
    return sq.Sequences([random.standard_normal((length, 3)) for length in lengths], **names)


# The numbers


@pytest.mark.parametrize(
    ("method", "versus"), [("integrated_gradients", "occlusion"), ("saliency", "gradient"), ("grad_cam", "smooth_grad")]
)
def test_panels_hold_what_attribute_gives(vowels, method, versus):
    view, _, _ = shown(vowels, sample=3, method=method, versus=versus)
    for place, name in enumerate((method, versus)):
        expected = np.atleast_2d(attributed(vowels, 3, name))
        np.testing.assert_allclose(panel(view, place), expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(panel(view, place, "image"), expected / np.abs(expected).max(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("versus", "limits"), [("occlusion", (-1, 1)), ("saliency", (-1, 1))])
def test_both_panels_have_one_scale(vowels, versus, limits):
    view, _, _ = shown(vowels, versus=versus)
    assert ends(view, 0) == ends(view, 1) == limits


def test_methods_without_a_sign_begin_at_zero(vowels):
    view, _, _ = shown(vowels, method="saliency", versus="grad_cam")
    assert ends(view, 0) == ends(view, 1) == (0, 1)


def test_raw_values_have_the_largest_of_both_as_their_end(vowels):
    view, _, _ = shown(vowels, sizes="raw")
    largest = max(np.abs(attributed(vowels, 0, name)).max() for name in ("integrated_gradients", "occlusion"))
    np.testing.assert_allclose([*ends(view, 0), *ends(view, 1)], [-largest, largest] * 2, rtol=1e-6)
    assert "Attribution" in view._head.object


def test_the_correlation_is_that_of_the_values_shown(vowels):
    view, found, _ = shown(vowels, sample=5)
    rho = spearmanr(attributed(vowels, 5, "integrated_gradients").ravel(), attributed(vowels, 5, "occlusion").ravel()).statistic
    assert found.agreement.value == pytest.approx(rho, abs=1e-6)
    assert found.agreement.count == 12 * vowels.lengths[5]
    assert f"(Spearman): {rho:.2f} over" in view._head.object


def test_lines_are_the_input_in_lanes(vowels):
    view, _, _ = shown(vowels, sample=2)
    lines = view._panels[0].lanes.lines.data
    x = vowels.X[2].values
    spans = np.ptp(x, axis=0)
    assert len(lines["ys"]) == 12
    for place, line in enumerate(lines["ys"]):
        np.testing.assert_allclose(np.diff(line), 0.95 * np.diff(x[:, place]) / spans.max(), atol=1e-6)
        assert 12 - place - 1 < np.mean(line) < 12 - place


def test_the_table_holds_all_values_of_both(vowels):
    view, found, chosen = shown(vowels, sample=1, versus="grad_cam")
    table = view.table(found, chosen)
    n_steps = vowels.lengths[1]
    assert table.groupby("method", sort=False).size().to_dict() == {"integrated_gradients": 12 * n_steps, "grad_cam": n_steps}
    first = table[table.method == "integrated_gradients"].pivot(index="channel", columns="time", values="attribution")
    names = vowels.X.channels
    np.testing.assert_allclose(first.loc[list(names)].values, attributed(vowels, 1, "integrated_gradients"), rtol=1e-5)


# What can be asked


def test_a_unit_is_explained_at_the_step_that_is_said(vowels):
    view, _, _ = shown(vowels, target="@unit", state="c", unit=7, at=4)
    target = sq.target.unit("lstm", 7, state="c", time=4)
    np.testing.assert_allclose(panel(view, 0), attributed(vowels, 0, "integrated_gradients", target=target), rtol=1e-4, atol=1e-6)
    assert not panel(view, 0)[:, 5:].any()
    assert "unit 7 of &#x27;lstm&#x27; (c) at step 4" in view._head.object


def test_an_output_by_its_name_and_a_baseline(vowels):
    view, _, _ = shown(vowels, target="7", baseline="mean")
    with pytest.warns(UserWarning, match="below chance"):
        expected = attributed(vowels, 0, "occlusion", target="7", baseline="mean", reference=vowels.X)
    np.testing.assert_allclose(panel(view, 1), expected, rtol=1e-5, atol=1e-6)
    assert "What speaks for output &#x27;7&#x27;" in view._head.object
    assert "Note: For 1 of 1 sequences the target&#x27;s probability is below chance" in view._panels[1].words.object


def test_at_a_layer_its_units_are_the_rows(vowels):
    view, found, _ = shown(vowels, place="lstm", versus="gradient")
    expected = vowels.scope.attribute(vowels.X[0], "gradient", layer="lstm").transpose("unit", "time").values
    assert found.style == "heatmap"
    np.testing.assert_allclose(panel(view, 1), expected, rtol=1e-5, atol=1e-7)
    assert view._input_box.is_filled


def test_at_a_layer_and_at_the_input_steps_are_summed(vowels):
    view, found, _ = shown(vowels, place="lstm")
    expected = vowels.scope.attribute(vowels.X[0], "integrated_gradients", layer="lstm").sum("unit").values
    assert (found.style, found.agreement.of_steps) == ("lanes", True)
    np.testing.assert_allclose(panel(view, 0)[0], expected, rtol=1e-4, atol=1e-6)


def test_maps_of_a_layer_with_a_clock_of_its_own_are_on_the_inputs(planted):
    view, _, _ = shown(planted, method="grad_cam", versus="instances")
    for place, name in enumerate(("grad_cam", "instances")):
        np.testing.assert_allclose(panel(view, place)[0], attributed(planted, 0, name), rtol=1e-4, atol=1e-6)
    image = view._panels[0].lanes.source.data
    assert (image["x"][0], image["dw"][0], image["dh"][0]) == (-0.5, 60, 9)


@pytest.mark.parametrize(
    ("forward", "children", "names"),
    [
        (lambda net, x: net.fc(net.gru(x)[0][:, -1]), {"gru": torch.nn.GRU(3, 4, batch_first=True), "fc": torch.nn.Linear(4, 1)}, {}),
        (lambda net, x: net.fc(net.gru(x)[0]), {"gru": torch.nn.GRU(3, 4, batch_first=True), "fc": torch.nn.Linear(4, 2)}, {"rate": 10.0}),
    ],
    ids=["regression", "steps"],
)
def test_outputs_of_other_kinds(forward, children, names):
    source = small(forward, data(9, 12, **names), **children)
    view, found, chosen = shown(source, sample=1)
    target = sq.target.output(time=-1) if "rate" in names else None
    np.testing.assert_allclose(panel(view, 0), attributed(source, 1, "integrated_gradients", target=target), rtol=1e-6)
    assert [side.failed for side in found.sides] == ["", ""]
    assert view._controls.widgets["at"].visible == ("rate" in names)
    assert len(run(source, view.code(found, chosen))) == 2


def test_tokens_are_explained_where_they_are_embedded():
    parts = {"embed": torch.nn.Embedding(9, 4), "lstm": torch.nn.LSTM(4, 5, batch_first=True), "fc": torch.nn.Linear(5, 2)}
    X = sq.Sequences(np.random.default_rng(1).integers(0, 9, (3, 8)))
    source = small(lambda net, x: net.fc(net.lstm(net.embed(x))[0][:, -1]), X, **parts)
    view, found, chosen = shown(source)
    expected = source.scope.attribute(X[0], "integrated_gradients", layer="embed").sum("unit").values
    np.testing.assert_allclose(panel(view, 0)[0], expected, rtol=1e-5, atol=1e-8)
    assert "at &#x27;embed&#x27;" in view._panels[0].words.object
    assert len(run(source, view.code(found, chosen))) == 2
    assert "blur" not in view._controls.widgets["baseline"].options


def test_characters_have_a_row_for_each_method():
    model = sq.zoo.char_lstm()
    source = source_of(sq.Scope(model), sq.Sequences.from_text("Friends, Romans", characters=model.characters))
    view, found, chosen = shown(source, method="input_x_gradient", start=2, stop=4)
    sums = source.scope.attribute(source.X[0], "input_x_gradient").sum("channel").values
    np.testing.assert_allclose(found.text.values[0], sums / np.abs(sums).max(), rtol=1e-5)
    hidden = source.scope.attribute(source.X[0], "occlusion", channels="all").isel(channel=0).values
    np.testing.assert_allclose(found.text.values[1], hidden / np.abs(hidden).max(), rtol=1e-5)
    rows = view._text.source.data
    assert "".join(rows["seen"][:15]) == "Friends,·Romans"
    assert set(rows["row"]) == {"input_x_gradient", "occlusion"}
    assert len(view._text.marked.data["x"]) == 2
    np.testing.assert_allclose(run(source, view.code(found, chosen)).painted.values, found.text.values, rtol=1e-5)
    view._clicked(3)
    assert (view.selection.chosen.start, view.selection.chosen.stop) == (3, 4)


def test_onnx_is_asked_what_it_can_do():
    pytest.importorskip("onnxruntime")
    from onnx_nets import conv_net

    source = source_of(sq.Scope(conv_net().model), data(20, 20))
    view, found, _ = shown(source)
    assert list(view._controls.widgets["method"].options.values()) == ["cam", "score_cam", "occlusion", "feature_ablation"]
    assert [side.method for side in found.sides] == ["feature_ablation", "occlusion"]
    assert "integrated_gradients can&#x27;t be done by this model" in view._panels[0].words.object
    assert view._controls.widgets["method"].value == "feature_ablation"
    np.testing.assert_allclose(panel(view, 1), attributed(source, 0, "occlusion"), rtol=1e-4, atol=1e-7)


# Python and paper


@pytest.mark.filterwarnings("ignore:The completeness gap")
@pytest.mark.parametrize(
    "said", [{}, {"sizes": "raw", "versus": "grad_cam"}, {"place": "lstm", "versus": "gradient"}, {"target": "@unit", "baseline": "swap"}]
)
def test_the_python_makes_what_is_seen(vowels, said):
    view, found, chosen = shown(vowels, sample=4, **said)
    axes = run(vowels, view.code(found, chosen))
    figure = view.figure(found, chosen)
    for place, ax in enumerate(axes.values()):
        mesh = next(one for one in ax.collections if isinstance(one, QuadMesh))
        np.testing.assert_allclose(mesh.get_array().ravel(), panel(view, place, "image").ravel(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose([mesh.norm.vmin, mesh.norm.vmax], ends(view, place), rtol=1e-5)
        paper = next(one for one in figure.axes[place].collections if isinstance(one, QuadMesh))
        np.testing.assert_allclose(paper.get_array(), mesh.get_array(), rtol=1e-4, atol=1e-6)
    mpl.pyplot.close("all")


# What fails


def test_one_that_fails_says_so_and_the_other_is_shown(planted):
    view, found, chosen = shown(planted, method="instances", target="@unit", layer="relu_2", unit=3)
    assert "instances gives the evidence" in view._panels[0].words.object
    assert not view._panels[0].box.is_filled
    assert view._panels[1].box.is_filled
    assert found.agreement is None
    assert view.code(found, chosen).endswith("sq.plot.attribution(X[0], first, style='lanes')")
    run(planted, view.code(found, chosen))
    assert len(view.figure(found, chosen).axes) >= 1
    mpl.pyplot.close("all")


def test_both_that_fail_leave_the_lists(vowels):
    view, found, chosen = shown(vowels, target="@unit", at=999)
    assert view._head.object == ""
    assert all("sq-told-here" in one.words.object for one in view._panels)
    assert run(vowels, view.code(found, chosen)) == vowels.scope.methods
    assert view.table(found, chosen).empty


def test_what_is_not_an_error_of_ours_is_said_too(planted, monkeypatch, caplog):
    def broken(*args, **options):
        raise RuntimeError("<b>out of luck</b>")

    monkeypatch.setattr(planted.scope, "attribute", broken)
    view, _, _ = shown(planted, method="saliency", baseline="blur")
    assert "RuntimeError: &lt;b&gt;out of luck&lt;/b&gt;" in view._panels[0].words.object
    assert "out of luck" in caplog.text


def test_a_recording_without_its_model_says_what_to_give(vowels, tmp_path):
    recording = vowels.scope.record(vowels.X[:3], tmp_path / "v.zarr", layers="lstm", progress=False)
    source = source_of(recording)
    assert Why.missing(source) == ""
    selection = Selection(first_choice(source), Checks(source))
    frame = Frame(Why(Stage(source, selection, LIGHT, Range1d(0, 1))), None, None)
    frame.see(True)
    assert "give the model too, as in seqscope explore STORE --model MODEL" in frame._told.object
    view, _, _ = shown(source_of(recording, scope=vowels.scope), sample=2)
    np.testing.assert_allclose(panel(view, 1), attributed(vowels, 2, "occlusion"), rtol=1e-5, atol=1e-6)


def test_a_recording_without_inputs_says_so(vowels, tmp_path):
    recording = vowels.scope.record(vowels.X[:3], tmp_path / "v.zarr", layers="lstm", inputs=False, progress=False)
    view, chosen = view_of(source_of(recording, scope=vowels.scope))
    with pytest.raises(DataError, match="The inputs were not recorded"):
        view.find(chosen)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("method", "integrated_gradient", "There is no method 'integrated_gradient': the nearest are 'integrated_gradients'"),
        ("versus", "<img>", "There is no method '<img>'"),
        ("target", "10", "There is no output '10' to explain"),
        ("baseline", "one", "There is no baseline 'one': expected one of"),
        ("place", "fc2", "There is no layer 'fc2'"),
        ("at", -2, "There is no step -2"),
        ("sizes", "all", "There is no way to make sizes alike 'all'"),
    ],
)
def test_what_an_address_can_not_say(vowels, field, value, sentence):
    selection = Selection(first_choice(vowels), Checks(vowels))
    with pytest.raises(SeqscopeError) as caught:
        selection.choose(**{field: value})
    assert caught.value.message.startswith(sentence)


# What takes long


def test_a_second_look_asks_nothing(vowels, monkeypatch):
    shown(vowels, sample=6, method="smooth_grad")

    def asked(*args, **options):
        raise AssertionError("asked again")

    monkeypatch.setattr(vowels.scope, "attribute", asked)
    _, found, _ = shown(vowels, sample=6, method="smooth_grad", unit=5, sizes="raw")
    assert [side.failed for side in found.sides] == ["", ""]


@pytest.mark.parametrize(("n_steps", "n_channels"), [(10, 3), (300, 9), (1000, 3), (5000, 64), (100_000, 1), (100_000, 12)])
def test_occlusion_of_long_series_takes_longer_windows(n_steps, n_channels):
    X = sq.Sequences(np.zeros((1, n_steps, n_channels), np.float32))
    source = type("Source", (), {"inputs": lambda self: X, "X": X, "once": lambda self, key, make: "no text", "outputs": ["0"]})()
    source.predictions = lambda: type("Output", (), {"dims": ("sample", "output")})
    made = asked_of(source, replace(first_choice_of_nothing(), baseline=""), "occlusion")
    n_rows = made.made().n_variants(n_steps, n_channels)
    assert n_rows * n_steps <= max(2.2e6, 66 * n_steps)
    assert (made.window is None) == (n_steps * n_channels <= max(64, 2e6 / n_steps))


def first_choice_of_nothing():
    from seqscope.explorer.selection import Chosen

    return Chosen()


def test_what_would_take_hours_is_refused():
    X = sq.Sequences(np.zeros((1, 20_000, 3), np.float32))
    with pytest.raises(UnsupportedError, match=r"would run the model on 4\d,\d{3} variants of these 20,000 steps"):
        Asked("temporal_saliency_rescaling").found(None, X, 0)


# What is around


def test_the_brushed_stretch_is_marked_in_both(vowels):
    view, _, _ = shown(vowels, start=3, stop=7)
    for one in view._panels:
        box = one.lanes._brushed
        assert (box.visible, box.left, box.right) == (True, 2.5, 6.5)
    view, _, _ = shown(vowels)
    assert not view._panels[0].lanes._brushed.visible


def test_lists_choose_and_follow(vowels):
    view, chosen = view_of(vowels)
    widgets = view._controls.widgets
    widgets["versus"].value = "saliency"
    widgets["target"].value = "@unit"
    assert (view.selection.chosen.versus, view.selection.chosen.target) == ("saliency", "@unit")
    view._controls.fill(replace(chosen, method="gradient", unit=8))
    assert widgets["method"].value == "gradient"
    assert "unit 8 of lstm" in widgets["target"].options
    assert view.selection.chosen.method == "integrated_gradients"


def test_integrated_gradients_say_whether_they_add_up(vowels):
    view, _, _ = shown(vowels)
    found = vowels.scope.attribute(vowels.X[0], "integrated_gradients")
    words = view._panels[0].words.object
    assert f"sum to {float(found.sum()):.3g}, which is {float(found.gap):.1%} off" in words
    assert "as they should" in words


def test_names_from_data_are_no_part_of_the_page():
    X = data(9, 9, labels=["<i>a</i>", "b"], outputs=["<b>x</b>", "y"])
    parts = {"gru": torch.nn.GRU(3, 4, batch_first=True), "fc": torch.nn.Linear(4, 2)}
    view, _, _ = shown(small(lambda net, x: net.fc(net.gru(x)[0][:, -1]), X, **parts))
    assert "&lt;i&gt;a&lt;/i&gt;" in view._head.object
    assert "<b>x" not in view._head.object + view._panels[0].words.object


@pytest.mark.parametrize("look", [LIGHT, DARK], ids=["light", "dark"])
def test_it_is_made_in_both_themes(vowels, look):
    view, chosen = view_of(vowels, look)
    view.show(view.find(chosen), chosen)
    assert view._panels[0].lanes.plot.background_fill_color == look.ground


# In a browser

_RAW = """name => {
  const plot = window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].get_model_by_name(name); if (!plot) return null;
  const image = plot.renderers.find(one => one.glyph.type == "Image");
  const raw = image.data_source.data.raw[0]; return raw && image.data_source.data.image.length ? Array.from(raw) : null; }"""


_WIDTH = """name => {
  const view = Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name(name));
  return view ? view.el.getBoundingClientRect().width : 0; }"""


def drawn(page, name, until=lambda raw: raw is not None):
    """The values that a panel holds in the browser."""
    for _ in range(150):
        raw = page.evaluate(_RAW, name)
        if until(raw):
            return np.array(raw)
        page.wait_for_timeout(100)
    raise AssertionError(f"'{name}' was not filled")


def of(vowels, sample, name):
    return attributed(vowels, sample, name)[::-1].ravel()


def test_in_the_browser_another_method_is_another_picture(page, served, vowels):
    page.goto(served(vowels) + "?view=why")
    np.testing.assert_allclose(drawn(page, "why-first"), of(vowels, 0, "integrated_gradients"), rtol=1e-4, atol=1e-6)
    before = drawn(page, "why-second")
    np.testing.assert_allclose(before, of(vowels, 0, "occlusion"), rtol=1e-4, atol=1e-6)
    page.get_by_label("Compared with").select_option("gradient")
    expect(page).to_have_url(re.compile("versus=gradient"))
    after = drawn(page, "why-second", lambda raw: raw is not None and not np.allclose(raw, before))
    np.testing.assert_allclose(after, of(vowels, 0, "gradient"), rtol=1e-4, atol=1e-6)
    expect(page.get_by_text("scope.attribute(X[0], 'gradient')")).to_be_visible()
    limits = [
        page.evaluate(
            "n => { const m = Bokeh.documents[0].get_model_by_name(n).renderers[0].glyph.color_mapper; return [m.low, m.high]; }", name
        )
        for name in ("why-first", "why-second")
    ]
    assert limits[0] == limits[1] == [-1, 1]


_CELL = """([step, row]) => {
  const plot = Bokeh.documents[0].get_model_by_name("why-first"), view = Bokeh.index.find_one(plot);
  const box = view.el.getBoundingClientRect(), frame = view.frame.bbox, time = plot.x_range, rows = plot.y_range;
  return [box.left + frame.left + frame.width * (step - time.start) / (time.end - time.start),
          box.top + frame.top + frame.height * (row + 0.5) / (rows.end - rows.start)]; }"""


def test_in_the_browser_hovering_says_the_channel_the_time_and_the_raw_value(page, served, vowels):
    page.goto(served(vowels) + "?view=why&sample=4")
    value = attributed(vowels, 4, "integrated_gradients")[2, 6]
    drawn(page, "why-first")
    page.wait_for_function(f"() => ({_WIDTH})('why-first') > 300")
    page.wait_for_timeout(400)  # until it is laid out
    page.mouse.move(*page.evaluate(_CELL, [6, 2]))
    told = page.locator(".bk-Tooltip").filter(has_text="attribution")
    for words in ("Feature 3", f"{value:.4g}", "6"):
        expect(told.get_by_text(words, exact=True)).to_be_visible()


def test_in_the_browser_another_sample_is_explained(page, served, vowels):
    page.goto(served(vowels) + "?view=why&sample=9")
    first = drawn(page, "why-first")
    page.locator("h1").click()
    page.keyboard.press("ArrowDown")
    after = drawn(page, "why-first", lambda raw: raw is not None and len(raw) != len(first))
    np.testing.assert_allclose(after, of(vowels, 10, "integrated_gradients"), rtol=1e-4, atol=1e-6)
    expect(page.get_by_text("Predicted '1', labelled '1'")).to_be_visible()


def test_in_the_browser_what_fails_takes_no_place_and_comes_back(page, served, planted):
    page.goto(served(planted) + "?view=why&versus=instances&target=@unit&layer=relu_2")
    expect(page.get_by_text("instances gives the evidence")).to_be_visible()
    drawn(page, "why-first")
    page.get_by_label("What is explained").select_option("the predicted output")
    np.testing.assert_allclose(drawn(page, "why-second"), attributed(planted, 0, "instances").ravel(), rtol=1e-4, atol=1e-6)
    expect(page.get_by_text("instances gives the evidence")).to_be_hidden()
    for name in ("why-first", "why-second"):
        page.wait_for_function(f"name => ({_WIDTH})(name) > 300", arg=name)
