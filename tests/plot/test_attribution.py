"""Pictures of attributions, checked by their artists: what is drawn where, in which colours, under which names."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgba

import seqscope as sq
from seqscope.plot import style

STYLES = ["lanes", "overlay", "heatmap", "bars"]


def sequence(n_steps=40, n_channels=4, **options):
    return sq.Sequences(np.random.default_rng(0).standard_normal((n_steps, n_channels)).cumsum(0), **options)[0]


def explained(x, values=None, *, method="integrated_gradients", **coords):
    values = np.random.default_rng(1).standard_normal(x.shape) if values is None else values
    known = {"time": x.time, "channel": x.channel, "target": "3", "predicted": "3", "score": 5.2} | coords
    return xr.DataArray(values, dims=("time", "channel"), coords=known, attrs={"method": method, "score": "logit"}, name="attribution")


def cam(x, n_steps=6, sees=10, hop=5):
    """Step k of the layer sees 5k .. 5k + 9 of the input."""
    start = hop * np.arange(n_steps)
    time = x.time.values
    return xr.Dataset(
        {"map": ("time", np.linspace(0.0, 1.0, len(x))), "native": ("step", np.linspace(0.0, 1.0, n_steps))},
        coords={
            "time": x.time,
            "step": range(n_steps),
            "time_start": ("step", time[start]),
            "time_end": ("step", time[start + sees - 1]),
            "target": "up",
            "predicted": "down",
            "score": 2.0,
        },
        attrs={"method": "grad_cam", "layer": "conv1d_1", "score": "logit"},
    )


def at_a_layer(x, n_steps=6, n_units=3):
    seen = cam(x, n_steps)
    centres = (style.positions(seen.time_start) + style.positions(seen.time_end)) / 2
    coords = {"time": ("step", centres), "time_start": seen.time_start, "time_end": seen.time_end}
    values = np.random.default_rng(2).standard_normal((n_steps, n_units))
    return xr.DataArray(values, dims=("step", "unit"), coords=coords, attrs={"method": "gradient", "kind": "conv1d", "layer": "conv1d_1"})


def many(n_samples=6, n_steps=12, n_channels=3):
    """Sequences of 7 steps and more, ever longer."""
    values = np.random.default_rng(3).standard_normal((n_samples, n_steps, n_channels))
    for sample in range(n_samples):
        values[sample, n_steps - (n_samples - 1 - sample) :] = np.nan
    coords = {
        "sample": range(n_samples),
        "label": ("sample", ["a", "b"] * (n_samples // 2)),
        "target": ("sample", ["t"] * n_samples),
        "time": ("time", np.arange(n_steps), {"long_name": "Time Step"}),
        "channel": range(n_channels),
    }
    attrs = {"method": "gradient", "score": "logit"}
    return xr.DataArray(values, dims=("sample", "time", "channel"), coords=coords, attrs=attrs, name="attribution")


def mesh(ax):
    (found,) = [artist for artist in ax.collections if isinstance(artist, QuadMesh)]
    return found


def shaded(ax):
    """The values behind the colours, row by row."""
    found = mesh(ax)
    rows, columns = (size - 1 for size in found.get_coordinates().shape[:2])
    return np.ma.masked_array(found.get_array()).reshape(rows, columns)


def borders(ax):
    return mesh(ax).get_coordinates()[0, :, 0]


def row_labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def entries(legend):
    return [text.get_text() for text in legend.get_texts()]


def legends(ax):
    return [artist for artist in [*ax.artists, ax.get_legend()] if artist is not None]


def covers(ax, artist):
    """Whether an artist covers more than a hair of the area where the data is drawn."""
    ax.figure.canvas.draw()
    inside, box = ax.get_window_extent(), artist.get_window_extent()
    return min(inside.x1, box.x1) - max(inside.x0, box.x0) > 1 and min(inside.y1, box.y1) - max(inside.y0, box.y0) > 1


# Lanes


def test_each_channel_has_a_lane_shaded_by_its_attribution():
    x = sequence(channels=["p", "q", "r", "s"])
    ax = sq.plot.attribution(x, explained(x))
    assert len(ax.lines) == 4
    assert row_labels(ax) == ["p", "q", "r", "s"]
    np.testing.assert_array_equal(shaded(ax), explained(x).transpose("channel", "time"))
    rows = mesh(ax).get_coordinates()[:, 0, 1]
    for lane, line in enumerate(ax.lines):
        assert rows[lane] >= line.get_ydata().max() >= line.get_ydata().min() >= rows[lane + 1]
    assert ax.get_ylim() == (-3.5, 0.5)


def test_lanes_are_those_of_a_data_set():
    X, _ = sq.datasets.japanese_vowels("test")
    ax = sq.plot.attribution(X[0], explained(X[0]))
    assert row_labels(ax) == [f"Feature {place}" for place in range(1, 13)]
    assert (ax.get_xlabel(), ax.get_xlim()) == ("Time Step", (-0.5, 18.5))
    np.testing.assert_allclose(borders(ax), np.arange(20) - 0.5)


def test_lines_lie_over_the_colours_and_can_be_read_on_them():
    x = sequence()
    ax = sq.plot.attribution(x, explained(x))
    assert all(line.get_zorder() > mesh(ax).get_zorder() for line in ax.lines)
    for line in ax.lines:
        assert max(to_rgba(line.get_color())[:3]) < 0.2
    for shade in mesh(ax).cmap(np.linspace(0, 1, 11)):
        assert shade[:3] @ [0.2126, 0.7152, 0.0722] > 0.3  # no dark end


def test_a_map_shades_all_lanes_alike():
    x = sequence()
    ax = sq.plot.attribution(x, explained(x).sum("channel", keep_attrs=True))
    assert shaded(ax).shape == (1, 40)
    rows = mesh(ax).get_coordinates()[:, 0, 1]
    assert (rows[0], rows[-1]) == (0.5, -3.5)
    np.testing.assert_allclose(shaded(ax)[0], explained(x).sum("channel"))


def test_the_colours_follow_the_values():
    x = sequence()
    values = np.zeros((40, 4))
    values[3, 1], values[5, 2] = 2.0, -2.0
    ax = sq.plot.attribution(x, explained(x, values))
    shades = mesh(ax).to_rgba(shaded(ax))
    red, blue, white = shades[1, 3], shades[2, 5], shades[0, 0]
    assert red[0] > red[2] + 0.3
    assert blue[2] > blue[0] + 0.3
    assert min(white[:3]) > 0.9


def test_signed_values_have_colours_symmetric_about_zero():
    x = sequence()
    found = mesh(sq.plot.attribution(x, explained(x, np.linspace(-1.0, 3.0, 160).reshape(40, 4))))
    assert (found.norm.vmin, found.norm(0.0), found.norm.vmax) == (-3.0, 0.5, 3.0)
    assert style.DIVERGING in found.cmap.name


@pytest.mark.parametrize("how", ["lanes", "overlay", "heatmap"])
def test_values_without_a_sign_have_colours_from_zero(how):
    x = sequence()
    found = mesh(sq.plot.attribution(x, abs(explained(x)) + 0.5, style=how))
    assert found.norm.vmin == 0.0
    assert style.DIVERGING not in found.cmap.name


def test_rounding_below_zero_is_no_sign():
    x = sequence()
    values = np.abs(np.random.default_rng(1).standard_normal((40, 4)))
    values[0, 0] = -1e-12
    assert mesh(sq.plot.attribution(x, explained(x, values))).norm.vmin == 0.0


def test_what_is_missing_is_not_drawn():
    x = sequence()
    values = np.ones((40, 4))
    values[7] = np.nan
    ax = sq.plot.attribution(x, explained(x, values))
    assert shaded(ax).mask[:, 7].all()
    assert shaded(ax).mask.sum() == 4
    assert mesh(ax).cmap(np.ma.masked_all(1))[0, 3] == 0.0
    assert borders(ax).tolist() == (np.arange(41) - 0.5).tolist()  # the others keep their places


def test_zeros_are_drawn():
    x = sequence()
    assert mesh(sq.plot.attribution(x, explained(x, np.zeros((40, 4))))).norm.vmax == 1.0


def test_padding_is_cut():
    x = sequence()
    padded = explained(x).reindex(time=range(50))
    assert shaded(sq.plot.attribution(x, padded)).shape == (4, 40)
    with_length = padded.fillna(0.0).assign_coords(length=40)
    assert shaded(sq.plot.attribution(x, with_length)).shape == (4, 40)


def test_thirty_lanes_of_300_steps_can_be_read():
    x = sequence(300, 30)
    ax = sq.plot.attribution(x, explained(x))
    ax.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert len(boxes) == 30
    assert not any(upper.overlaps(lower) for upper, lower in itertools.pairwise(boxes))
    assert all(line.get_linewidth() < 1 and line.get_marker() == "None" for line in ax.lines)


def test_lines_in_low_lanes_are_thin_enough_to_leave_the_colours_to_be_seen():
    x = sequence(200, 30)
    _, ax = plt.subplots(figsize=(4, 2.5))
    sq.plot.attribution(x, explained(x), ax=ax)
    lane = ax.get_window_extent().height * 72 / ax.figure.dpi / 30
    assert all(line.get_linewidth() < lane / 10 for line in ax.lines)


def test_the_order_of_dims_and_of_channels_does_not_matter():
    x = sequence(channels=["p", "q", "r", "s"])
    one = sq.plot.attribution(x, explained(x))
    other = sq.plot.attribution(x, explained(x).isel(channel=[2, 0, 3, 1]).transpose("channel", "time"))
    np.testing.assert_array_equal(shaded(one), shaded(other))


def test_time_is_in_the_datas_units():
    x = sequence(rate=10.0)
    ax = sq.plot.attribution(x, explained(x))
    assert ax.get_xlabel() == "Time (s)"
    np.testing.assert_allclose(borders(ax), (np.arange(41) - 0.5) / 10)


@pytest.mark.parametrize("how", STYLES)
def test_dates_are_drawn(how):
    stamps = np.datetime64("2026-01-01") + np.arange(40).astype("timedelta64[D]")
    x = sequence(time=stamps)
    ax = sq.plot.attribution(x, explained(x), style=how)
    ax.figure.canvas.draw()
    assert "2026" in ax.xaxis.get_offset_text().get_text()


def test_each_samples_own_time_stamps_are_found():
    x = sequence(time=np.linspace(1.0, 2.0, 40))
    a = explained(x).assign_coords(time=range(40)).assign_coords(timestamp=("time", x.time.values))
    np.testing.assert_allclose(borders(sq.plot.attribution(x, a))[[0, -1]], [1 - 1 / 78, 2 + 1 / 78])


# Other styles


def test_an_overlay_is_shaded_by_the_sum_and_its_legend_covers_nothing():
    x = sequence()
    ax = sq.plot.attribution(x, explained(x), style="overlay")
    np.testing.assert_allclose(shaded(ax), [explained(x).sum("channel")])
    np.testing.assert_array_equal(ax.lines[2].get_ydata(), x.isel(channel=2))
    rows = mesh(ax).get_coordinates()[:, 0, 1]
    assert tuple(rows) == ax.get_ylim()
    (legend,), (bar,) = legends(ax), ax.child_axes
    assert entries(legend) == ["0", "1", "2", "3"]
    assert not covers(ax, legend)
    assert legend.get_window_extent().x0 > bar.get_tightbbox().x1  # nor the colour bar
    assert ax.figure.bbox.x1 >= legend.get_window_extent().x1
    assert bar.get_ylabel() == "integrated_gradients of the logit,\nsum over channels"


def test_an_overlay_of_many_channels_has_no_legend():
    x = sequence(40, 30)
    ax = sq.plot.attribution(x, explained(x), style="overlay")
    assert len(ax.lines) == 30
    assert ax.get_legend() is None


def test_a_heatmap_has_a_row_for_each_channel_the_first_on_top():
    x = sequence(channels=["p", "q", "r", "s"])
    ax = sq.plot.attribution(x, explained(x), style="heatmap")
    np.testing.assert_array_equal(shaded(ax), explained(x).transpose("channel", "time"))
    assert (row_labels(ax), ax.get_ylim(), ax.get_ylabel()) == (["p", "q", "r", "s"], (3.5, -0.5), "Channel")
    assert mesh(ax).cmap.name == style.DIVERGING
    assert ax.get_facecolor() == to_rgba(style.MISSING)


def test_bars_show_what_is_positive_what_is_negative_and_their_sum():
    x = sequence()
    a = explained(x)
    ax = sq.plot.attribution(x, a, style="bars")
    above, below = ax.containers
    np.testing.assert_allclose(above.datavalues, a.clip(min=0).sum("channel"))
    np.testing.assert_allclose(below.datavalues, a.clip(max=0).sum("channel"))
    (line,) = [patch for patch in ax.patches if hasattr(patch, "get_data")]
    np.testing.assert_allclose(line.get_data().values, a.sum("channel"))
    low, high = ax.get_ylim()
    assert low < below.datavalues.min()
    assert high > above.datavalues.max()
    assert entries(ax.get_legend()) == ["Positive", "Negative", "Sum"]
    assert not covers(ax, ax.get_legend())
    assert ax.get_ylabel().replace("\n", " ") == "integrated_gradients of the logit, sum over channels"
    assert ax.child_axes == []


def test_bars_of_a_map_are_coloured_by_their_sign():
    x = sequence()
    a = explained(x).sum("channel", keep_attrs=True)
    ax = sq.plot.attribution(x, a, style="bars")
    (bars,) = ax.containers
    assert {bool(value > 0) for value in bars.datavalues} == {True, False}
    for bar, value in zip(bars, a.values, strict=True):
        assert bar.get_facecolor() == to_rgba(style.COLORS[1 if value > 0 else 0])
    assert ax.get_legend() is None


def test_bars_without_a_sign_begin_at_zero():
    x = sequence()
    ax = sq.plot.attribution(x, abs(explained(x)), style="bars")
    assert ax.get_ylim()[0] == 0.0
    assert ax.get_legend() is None


def test_channels_without_time_are_bars_the_first_on_top():
    x = sequence(channels=["p", "q", "r", "s"])
    a = explained(x).sum("time", keep_attrs=True)
    ax = sq.plot.attribution(x, a)
    (bars,) = ax.containers
    np.testing.assert_allclose([bar.get_width() for bar in bars], a)
    assert (row_labels(ax), ax.get_ylim()) == (["p", "q", "r", "s"], (3.5, -0.5))
    assert ax.get_xlabel() == "integrated_gradients of the logit"
    with pytest.raises(sq.errors.DataError, match="no time, which style='lanes' needs: leave style= out"):
        sq.plot.attribution(x, a, style="lanes")


def test_an_unknown_style_is_refused_with_the_known_ones():
    x = sequence()
    with pytest.raises(
        sq.errors.DataError, match="no style 'lane': there are 'lanes', 'overlay', 'heatmap', 'bars'; the nearest is 'lanes'"
    ):
        sq.plot.attribution(x, explained(x), style="lane")


# Names


def test_the_title_says_method_target_prediction_and_score():
    x = sequence()
    ax = sq.plot.attribution(x, explained(x))
    assert ax.get_title() == "integrated_gradients for '3' (predicted '3'), logit 5.2"


@pytest.mark.parametrize(
    ("coords", "title"),
    [
        ({"label": "1"}, "integrated_gradients for '3' (predicted '3', labelled '1'), logit 5.2"),
        ({"label": "3"}, "integrated_gradients for '3' (predicted '3'), logit 5.2"),
        ({"target": 7, "predicted": 2}, "integrated_gradients for 7 (predicted 2), logit 5.2"),
    ],
)
def test_the_title_names_the_label_where_the_model_is_wrong(coords, title):
    x = sequence().drop_vars("label", errors="ignore")
    assert sq.plot.attribution(x, explained(x, **coords)).get_title().replace("\n", " ") == title


def test_the_title_says_what_is_known():
    x = sequence()
    bare = explained(x).drop_vars(["predicted", "score", "target"])
    assert sq.plot.attribution(x, bare).get_title() == "integrated_gradients"
    assert sq.plot.attribution(x, bare.drop_attrs()).get_title() == "Attribution"
    assert sq.plot.attribution(x, bare.assign_attrs(target="unit 17 of lstm")).get_title() == "integrated_gradients for unit 17 of lstm"


def test_a_title_may_be_given_or_left_out():
    x = sequence()
    assert sq.plot.attribution(x, explained(x), title="Mine").get_title() == "Mine"
    assert sq.plot.attribution(x, explained(x), title="").get_title() == ""


def test_the_title_stands_above_the_names_above_the_panel():
    x = sequence()
    ax = sq.plot.attribution(x, explained(x), style="bars")
    ax.figure.canvas.draw()
    assert ax.title.get_window_extent().y0 >= ax.get_legend().get_window_extent().y1


@pytest.mark.parametrize("how", ["lanes", "overlay", "heatmap"])
def test_the_colour_bar_names_method_and_score_and_covers_nothing(how):
    x = sequence()
    ax = sq.plot.attribution(x, explained(x), style=how)
    (bar,) = ax.child_axes
    assert bar.get_ylabel().replace("\n", " ").startswith("integrated_gradients of the logit")
    assert not covers(ax, bar)


def test_a_limit_is_the_end_of_the_colours():
    x = sequence()
    for how in ("lanes", "heatmap"):
        found = mesh(sq.plot.attribution(x, explained(x), style=how, limit=0.5))
        assert (found.norm.vmin, found.norm.vmax) == (-0.5, 0.5)
    assert sq.plot.attribution(x, explained(x), style="bars", limit=50).get_ylim() == (-52.5, 52.5)


@pytest.mark.parametrize("limit", [0, -1.0, np.nan, np.inf, "1", True])
def test_a_limit_that_is_none_is_refused(limit):
    x = sequence()
    with pytest.raises(sq.errors.DataError, match="expected a number above zero"):
        sq.plot.attribution(x, explained(x), limit=limit)


def test_channels_can_be_chosen_and_the_sum_is_theirs():
    x = sequence(channels=["p", "q", "r", "s"])
    ax = sq.plot.attribution(x, explained(x), channels=["r", "p"])
    assert row_labels(ax) == ["r", "p"]
    np.testing.assert_array_equal(shaded(ax), explained(x).sel(channel=["r", "p"]).transpose("channel", "time"))
    overlay = sq.plot.attribution(x, explained(x), channels="q", style="overlay")
    np.testing.assert_allclose(shaded(overlay), [explained(x).sel(channel="q")])
    with pytest.raises(sq.errors.DataError, match="There is no channel z: there are 4, p to s"):
        sq.plot.attribution(x, explained(x), channels="z")


def test_the_axes_given_are_drawn_on_and_nothing_is_changed():
    x = sequence()
    before, a = x.copy(deep=True), explained(x)
    kept = a.copy(deep=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 5))
    assert sq.plot.attribution(x, a, ax=right) is right
    assert figure.axes == [left, right]
    assert not left.lines
    xr.testing.assert_identical(x, before)
    xr.testing.assert_identical(a, kept)


# Class activation maps and layers


@pytest.mark.parametrize("how", STYLES)
def test_of_a_class_activation_map_the_map_is_drawn(how):
    x = sequence()
    ax = sq.plot.attribution(x, cam(x), style=how)
    drawn = ax.containers[0].datavalues if how == "bars" else shaded(ax)[0]
    np.testing.assert_allclose(drawn, np.linspace(0, 1, 40))
    assert ax.get_title() == "grad_cam for 'up' (predicted 'down'), logit 2"


@pytest.mark.parametrize("how", STYLES)
@pytest.mark.parametrize("rate", [None, 10.0])
def test_the_field_of_a_layers_step_is_outlined_and_named(how, rate):
    x = sequence(rate=rate)
    ax = sq.plot.attribution(x, cam(x), style=how, field=2)
    (box,) = [patch for patch in ax.patches if not patch.get_fill() and hasattr(patch, "get_width")]
    cell = 1.0 if rate is None else 1 / rate
    assert (box.get_x(), box.get_width()) == (pytest.approx(9.5 * cell), pytest.approx(10 * cell))  # whole cells: steps 10 to 19
    named = [legend for legend in legends(ax) if entries(legend) == ["Step 2 of 'conv1d_1' sees 10 input steps"]]
    assert len(named) == 1
    assert not covers(ax, named[0])
    assert ax.title.get_window_extent().y0 >= named[0].get_window_extent().y1
    lines = [legend for legend in legends(ax) if legend is not named[0]]
    assert [entries(legend) for legend in lines] == ([["0", "1", "2", "3"]] if how == "overlay" else [])


@pytest.mark.parametrize("step", [6, -1, 1.5, True])
def test_a_step_that_the_layer_does_not_have_is_refused(step):
    x = sequence()
    with pytest.raises(sq.errors.DataError, match=f"There is no layer step {step}: there are 6, 0 to 5"):
        sq.plot.attribution(x, cam(x), field=step)


def test_a_field_that_is_not_known_is_refused():
    x = sequence()
    with pytest.raises(sq.errors.DataError, match="does not say what the layer's steps see"):
        sq.plot.attribution(x, explained(x), field=2)


def test_a_layers_own_steps_lie_where_they_look():
    x = sequence()
    a = at_a_layer(x)
    ax = sq.plot.attribution(x, a, style="heatmap", field=0)
    np.testing.assert_array_equal(shaded(ax), a.transpose("unit", "step"))
    np.testing.assert_allclose((borders(ax)[1:] + borders(ax)[:-1]) / 2, a.time)
    assert (ax.get_xlim(), ax.get_ylabel()) == ((-0.5, 39.5), "Filter")
    lanes = sq.plot.attribution(x, a)
    np.testing.assert_allclose(shaded(lanes), [a.sum("unit")])
    assert lanes.child_axes[0].get_ylabel().replace("\n", " ") == "gradient, sum over units"


def test_a_layer_without_a_place_in_time_is_refused():
    x = sequence()
    with pytest.raises(sq.errors.DataError, match=r"no place in the input's time .* plot.heatmap"):
        sq.plot.attribution(x, at_a_layer(x).drop_vars(["time", "time_start", "time_end"]))


# What does not fit


def test_several_samples_are_refused_with_how_to_choose_one():
    x = sequence(12, 3)
    with pytest.raises(sq.errors.DataError, match=r"Attributions of 6 sequences .* a.isel\(sample=0\)"):
        sq.plot.attribution(x, many())
    assert shaded(sq.plot.attribution(x.isel(time=slice(7)), many().isel(sample=0))).shape == (3, 7)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.isel(time=slice(30)), "40 time steps and the attribution 30"),
        (lambda a: a.assign_coords(time=a.time + 5), "lasts from 0 to 39 and the attribution from 5 to 44"),
        (lambda a: a.isel(channel=[0, 1]), "4 channels, 0 to 3, and the attribution 2, 0 to 1: "),
        (lambda a: a.assign_coords(channel=[0, 1, 2, 9]), r"0 to 9 \(9 is not among"),
        (lambda a: a.assign_coords(sample=3), "sample 0 and the attribution that of sample 3"),
        (lambda a: a * np.nan, "all NaN"),
        (lambda a: a.rename(channel="head"), "has dims .*'head'"),
        (lambda a: a.values, "A ndarray was given"),
        (lambda a: a.to_dataset(name="other"), "holds 'other': expected 'map'"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(change, said):
    x = sequence()
    with pytest.raises(sq.errors.DataError, match=said):
        sq.plot.attribution(x, change(explained(x)))


# Several methods


def test_methods_share_one_scale_and_one_colour_bar():
    x = sequence()
    a, b = explained(x, method="gradient"), 10 * explained(x, method="occlusion").assign_attrs(method="occlusion", score="logit")
    panels = sq.plot.compare_attributions(x, [a, b.assign_attrs(method="occlusion", score="logit")])
    assert list(panels) == ["gradient", "occlusion"]
    for ax, one in zip(panels.values(), (a, b), strict=True):
        np.testing.assert_allclose(shaded(ax), (one / abs(one).max()).transpose("channel", "time"))
        assert (mesh(ax).norm.vmin, mesh(ax).norm.vmax) == (-1.0, 1.0)
    figure = panels["gradient"].figure
    (bar,) = [ax for ax in figure.axes if ax not in panels.values()]
    assert bar.get_ylabel().replace("\n", " ") == "Share of each method's largest value"
    assert figure._suptitle.get_text() == "For '3' (predicted '3'), logit 5.2"
    assert [ax.get_title() for ax in panels.values()] == ["gradient", "occlusion"]
    assert (panels["gradient"].get_ylabel() != "", panels["occlusion"].get_ylabel()) == (True, "")


def test_without_normalizing_the_values_are_as_they_are():
    x = sequence()
    a, b = explained(x), 10 * explained(x)
    panels = sq.plot.compare_attributions(x, {"small": a, "large": b.assign_attrs(a.attrs)}, normalize=False)
    np.testing.assert_array_equal(shaded(panels["small"]), a.transpose("channel", "time"))
    assert {mesh(ax).norm.vmax for ax in panels.values()} == {float(abs(b).max())}
    bar = panels["small"].figure.axes[-1]
    assert bar.get_ylabel() == "Attribution of the logit"


def test_an_overlay_is_normalized_by_what_it_draws():
    x = sequence()
    panels = sq.plot.compare_attributions(x, {"a": explained(x), "b": cam(x)}, style="overlay")
    assert [pytest.approx(1.0)] * 2 == [abs(shaded(ax)).max() for ax in panels.values()]
    (legend,) = panels["a"].figure.legends
    assert entries(legend) == ["0", "1", "2", "3"]
    assert not any(covers(ax, legend) for ax in panels.values())


def test_bars_side_by_side_are_explained_once():
    x = sequence()
    panels = sq.plot.compare_attributions(x, {name: explained(x) for name in "abcd"}, style="bars")
    assert len({ax.get_ylim() for ax in panels.values()}) == 1
    (legend,) = panels["a"].figure.legends
    assert entries(legend) == ["Positive", "Negative", "Sum"]
    assert [bool(ax.get_ylabel()) for ax in panels.values()] == [True, False, True, False]
    assert [bool(ax.get_xlabel()) for ax in panels.values()] == [False, False, True, True]


def test_panels_say_what_they_explain_where_that_differs():
    x = sequence()
    panels = sq.plot.compare_attributions(x, {"a": explained(x), "b": explained(x, target="4")})
    assert [ax.get_title().replace("\n", " ")[:9] for ax in panels.values()] == ["a for '3'", "b for '4'"]
    assert panels["a"].figure._suptitle is None


def test_comparing_takes_the_figure_given():
    x = sequence()
    left, right = plt.figure(figsize=(14, 5), layout="constrained").subfigures(1, 2)
    panels = sq.plot.compare_attributions(x, {"a": explained(x)}, figure=right, style="bars", title="Mine")
    assert panels["a"].figure is right
    assert not left.axes


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda a: [a, a], "Two of the attributions are of the method 'integrated_gradients'"),
        (lambda a: [a.drop_attrs()], "no attribute 'method'"),
        (lambda a: [], "no attributions to compare"),
        (lambda a: a, "One attribution was given"),
        (lambda a: {"a": a, "b": a.sum("time")}, "some of whole channels: draw them apart"),
    ],
)
def test_what_can_not_be_compared_is_refused(given, said):
    x = sequence()
    with pytest.raises(sq.errors.DataError, match=said):
        sq.plot.compare_attributions(x, given(explained(x)))


# Classes


def test_each_class_has_a_panel_with_its_mean_without_padding():
    a = many()
    panels = sq.plot.class_attribution(a)
    assert list(panels) == ["a", "b"]
    assert panels["a"].get_title() == "a (n = 3)"
    for name, ax in panels.items():
        own = a.values[a.label.values == name]
        alive = ~np.isnan(own).all(axis=(0, 2))
        expected = np.full(own.shape[1:], np.nan)
        expected[alive] = np.nanmean(own[:, alive], axis=0)
        np.testing.assert_allclose(shaded(ax).filled(np.nan), expected.T)
    most = max(abs(shaded(ax)).max() for ax in panels.values())
    assert {mesh(ax).norm.vmax for ax in panels.values()} == {most}
    assert shaded(panels["a"]).mask[:, -1].all()  # none of its sequences lasts so long
    assert panels["a"].figure.axes[-1].get_ylabel().replace("\n", " ") == "Mean gradient of the logit"


def test_a_dashed_line_stands_where_half_have_ended():
    ax = sq.plot.class_attribution(many(), by=["all"] * 6)["all"]  # lengths 7 to 12
    (line,) = ax.lines
    assert set(line.get_xdata()) == {9.5}  # three of six have a step 9
    (legend,) = ax.figure.legends
    assert entries(legend) == ["Right of it, less than half of the sequences are left"]
    assert not covers(ax, legend)
    assert not sq.plot.class_attribution(many().isel(sample=[5]))["b"].lines


def test_classes_by_labels_of_ones_own_by_a_coordinate_and_by_target():
    a = many()
    assert list(sq.plot.class_attribution(a, by=[2, 1, 2, 1, 2, 1])) == [1, 2]
    assert list(sq.plot.class_attribution(a, by="target")) == ["t"]
    assert list(sq.plot.class_attribution(a.drop_vars("label"))) == ["t"]
    turned = a.label.isel(sample=slice(None, None, -1))  # goes by the samples' ids
    one, other = sq.plot.class_attribution(a, by=turned)["a"], sq.plot.class_attribution(a)["a"]
    np.testing.assert_array_equal(shaded(one), shaded(other))


def test_maps_of_classes_are_one_row_each_and_channels_can_be_chosen():
    a = many()
    panels = sq.plot.class_attribution(a.sum("channel", min_count=1, keep_attrs=True))
    assert {shaded(ax).shape[0] for ax in panels.values()} == {1}
    assert shaded(sq.plot.class_attribution(a, channels=[2, 0])["a"]).shape[0] == 2


@pytest.mark.parametrize(
    ("change", "by", "said"),
    [
        (lambda a: a.isel(sample=0), None, "that of one sequence"),
        (lambda a: a.drop_vars(["label", "target"]), None, "neither labels nor targets"),
        (lambda a: a, "colour", "no coordinate 'colour'"),
        (lambda a: a, ["a", "b"], r"has shape \(2,\) and there are 6 samples"),
        (lambda a: a.mean("time"), None, "and no time"),
        (lambda a: a * np.nan, None, "all NaN"),
        (lambda a: a, xr.DataArray(list("ababab"), dims="sample", coords={"sample": range(1, 7)}), "not of the same samples"),
    ],
)
def test_classes_that_are_not_known_are_refused(change, by, said):
    with pytest.raises(sq.errors.DataError, match=said):
        sq.plot.class_attribution(change(many()), by=by)


# Mass


def test_mass_is_the_mean_share_of_each_step_with_its_quartiles():
    a = many()
    ax = sq.plot.attribution_mass(a)
    mass = np.nansum(np.abs(a.values), axis=2)
    shares = np.where(np.isnan(a.values[..., 0]), np.nan, mass / mass.sum(axis=1, keepdims=True))
    line = ax.lines[0]
    np.testing.assert_array_equal(line.get_xdata(), np.arange(12))
    np.testing.assert_allclose(line.get_ydata(), np.nanmean(shares, axis=0))
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].max() == pytest.approx(np.nanquantile(shares, 0.75, axis=0).max())
    assert entries(ax.get_legend()) == ["Mean (n = 6)", "Lower to upper quartile"]
    assert not covers(ax, ax.get_legend())
    assert (ax.get_xlabel(), ax.get_ylim()[0]) == ("Time Step", 0.0)


def test_every_sample_counts_alike():
    a = many()
    scaled = a * xr.DataArray([1.0, 100.0, 1.0, 5.0, 1.0, 0.01], dims="sample")
    one, other = sq.plot.attribution_mass(a), sq.plot.attribution_mass(scaled)
    np.testing.assert_allclose(one.lines[0].get_ydata(), other.lines[0].get_ydata())


def test_relative_time_stretches_each_sequence_and_keeps_its_mass():
    a = many()
    ax = sq.plot.attribution_mass(a, relative=True)
    line = ax.lines[0]
    assert np.mean(line.get_ydata()) == pytest.approx(1.0)  # a density
    assert ax.get_xlim() == (0.0, 1.0)
    even = xr.where(a.notnull(), 1.0, np.nan).assign_attrs(a.attrs)
    np.testing.assert_allclose(sq.plot.attribution_mass(even, relative=True).lines[0].get_ydata(), 1.0)
    late = even.copy()
    for sample, length in enumerate(range(7, 13)):
        late[sample, : length // 2] = 0.0
    halves = np.array_split(sq.plot.attribution_mass(late, relative=True).lines[0].get_ydata(), 2)
    assert halves[0].mean() < 0.3 < 1.6 < halves[1].mean()


def test_mass_by_class_has_a_line_for_each():
    a = many()
    ax = sq.plot.attribution_mass(a, "label", title="Mass")
    assert entries(ax.get_legend()) == ["a (n = 3)", "b (n = 3)", "Lower to upper quartile"]
    assert len(ax.collections) == 2
    ax.figure.canvas.draw()
    assert ax.title.get_window_extent().y0 >= ax.get_legend().get_window_extent().y1
    apart = sq.plot.attribution_mass(a, by=range(6))
    assert len(apart.lines) == 6
    assert not apart.collections  # bands of many would hide one another
    assert not covers(apart, apart.get_legend())


def test_mass_of_one_sequence_of_a_map_and_in_seconds():
    x = sequence(rate=10.0)
    ax = sq.plot.attribution_mass(explained(x))
    assert ax.lines[0].get_ydata().sum() == pytest.approx(1.0)
    assert ax.get_xlabel() == "Time (s)"
    assert len(sq.plot.attribution_mass(cam(x)).lines[0].get_xdata()) == 40


def test_a_sample_without_attribution_is_left_out_and_not_counted():
    a = many()
    a[2] = a[2] * 0
    assert entries(sq.plot.attribution_mass(a).get_legend())[0] == "Mean (n = 5)"
    with pytest.raises(sq.errors.DataError, match="zero everywhere"):
        sq.plot.attribution_mass(a * 0)
