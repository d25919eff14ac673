"""Plots are checked by what they drew: the artists, their data, colours and labels."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import seqscope as sq
from seqscope.plot import style


@pytest.fixture
def utterance():
    return sq.datasets.japanese_vowels("test")[0][0]


@pytest.fixture
def hidden(utterance):
    return sq.Scope(sq.zoo.japanese_vowels()).activations(utterance, "lstm")


def units_by_time(values, **coords):
    return xr.DataArray(values, dims=("time", "unit"), coords={"time": range(len(values)), "unit": range(values.shape[1])} | coords)


def mesh_values(ax):
    """What a heatmap shows, row by row."""
    (mesh,) = ax.collections
    rows, columns = (size - 1 for size in mesh.get_coordinates().shape[:2])
    return mesh.get_array().reshape(rows, columns)


def overlap(ax, artist):
    """Whether an artist covers part of the area where the data is drawn."""
    ax.figure.canvas.draw()
    inside, box = ax.get_window_extent(), artist.get_window_extent()
    return inside.overlaps(box)


def row_labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


# Series


def test_series_draws_every_channel_as_it_is(utterance):
    ax = sq.plot.series(utterance, title="Test Observation 1")
    assert len(ax.lines) == 12
    for place, line in enumerate(ax.lines):
        np.testing.assert_array_equal(line.get_ydata(), utterance.isel(channel=place))
        np.testing.assert_array_equal(line.get_xdata(), np.arange(19))
    assert (ax.get_xlabel(), ax.get_title()) == ("Time Step", "Test Observation 1")


def test_series_legend_names_each_channel_and_stands_outside(utterance):
    ax = sq.plot.series(utterance)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == [f"Feature {place}" for place in range(1, 13)]
    assert not overlap(ax, ax.get_legend())
    axes, legend = ax.get_window_extent(), ax.get_legend().get_window_extent()
    assert legend.x0 >= axes.x1  # to the right
    assert legend.y1 == pytest.approx(axes.y1, abs=4)  # level with the top
    assert ax.figure.bbox.x1 >= legend.x1  # and within the figure


def test_series_lines_can_be_told_apart(utterance):
    looks = {(line.get_color(), line.get_linestyle()) for line in sq.plot.series(utterance).lines}
    assert len(looks) == 12


def test_series_time_axis_has_the_datas_units():
    X = sq.Sequences(np.random.default_rng(0).random((50, 2)), rate=100.0)
    ax = sq.plot.series(X[0])
    assert ax.get_xlabel() == "Time (s)"
    np.testing.assert_allclose(ax.lines[0].get_xdata(), np.arange(50) / 100)


def test_series_draws_dates():
    stamps = np.datetime64("2026-01-01") + np.arange(5).astype("timedelta64[D]")
    ax = sq.plot.series(sq.Sequences(np.random.default_rng(0).random((5, 1)), time=stamps)[0])
    ax.figure.canvas.draw()
    assert "2026" in ax.xaxis.get_offset_text().get_text()
    assert {"02", "03", "04", "05"} <= {label.get_text() for label in ax.get_xticklabels()}


def test_series_with_thirty_channels_has_a_lane_for_each():
    values = np.random.default_rng(0).standard_normal((300, 30))
    ax = sq.plot.series(sq.Sequences(values)[0])
    assert len(ax.lines) == 30
    tops = [line.get_ydata().max() for line in ax.lines]
    bottoms = [line.get_ydata().min() for line in ax.lines]
    assert all(bottom > top for bottom, top in zip(bottoms[:-1], tops[1:], strict=True))  # the first on top, none crosses another
    assert row_labels(ax) == [str(place) for place in range(30)]
    for place, line in enumerate(ax.lines):  # one common scale
        assert np.ptp(line.get_ydata()) / np.ptp(values[:, place]) == pytest.approx(np.ptp(ax.lines[0].get_ydata()) / np.ptp(values[:, 0]))


def test_series_lanes_can_be_asked_for_and_name_the_channels_on_the_axis(utterance):
    ax = sq.plot.series(utterance, lanes=True)
    assert ax.get_legend() is None
    assert row_labels(ax) == [f"Feature {place}" for place in range(1, 13)]


def test_series_leaves_out_padding():
    X = sq.Sequences([np.ones((3, 2)), np.ones((7, 2))])
    padded = sq.Scope(sq.zoo.japanese_vowels()).sequences(np.zeros((1, 4, 12)))  # any scope will do to keep torch loaded
    assert len(padded) == 1
    array = xr.concat([X[0].drop_vars(["sample", "length"]), X[1].drop_vars(["sample", "length"])], "sample", join="outer")
    assert len(sq.plot.series(array.isel(sample=0)).lines[0].get_xdata()) == 3


def test_series_draws_on_the_axes_given():
    figure, (left, right) = plt.subplots(1, 2)
    assert sq.plot.series(sq.Sequences(np.ones((4, 1)))[0], ax=right) is right
    assert not left.lines
    assert figure.axes == [left, right]


def test_series_refuses_several_sequences(utterance):
    with pytest.raises(sq.errors.DataError, match=r"One sequence .* \('sample', 'time', 'channel'\)"):
        sq.plot.series(utterance.expand_dims("sample"))


# Heatmap


def test_heatmap_draws_a_row_for_each_unit_the_first_on_top(hidden):
    ax = sq.plot.heatmap(hidden.isel(unit=slice(10)), title="LSTM Activations")
    np.testing.assert_array_equal(mesh_values(ax), hidden.isel(unit=slice(10)).transpose("unit", "time"))
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("Time Step", "Hidden Unit", "LSTM Activations")
    assert row_labels(ax) == [str(unit) for unit in range(10)]
    assert ax.get_ylim() == (9.5, -0.5)
    assert ax.get_xlim() == (-0.5, 18.5)


def test_heatmap_does_not_mind_the_order_of_dims(hidden):
    first, second = sq.plot.heatmap(hidden), sq.plot.heatmap(hidden.transpose("unit", "time"))
    np.testing.assert_array_equal(mesh_values(first), mesh_values(second))


def test_heatmap_colour_bar_has_a_name_and_covers_nothing(hidden):
    ax = sq.plot.heatmap(hidden)
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == "Activation"
    assert not overlap(ax, bar)
    assert sq.plot.heatmap(hidden, colorbar=None).child_axes == []


def test_heatmap_signed_values_get_diverging_colours_centred_on_zero():
    (mesh,) = sq.plot.heatmap(units_by_time(np.array([[-0.2, 0.0], [0.8, 0.1]]))).collections
    assert mesh.cmap.name == style.DIVERGING
    assert (mesh.norm.vmin, mesh.norm(0.0), mesh.norm.vmax) == (-0.8, 0.5, 0.8)


@pytest.mark.parametrize("values", [[[0.1, 0.0], [0.8, 0.3]], [[-3.0, -1.0], [-2.0, -4.0]]])
def test_heatmap_values_of_one_sign_get_sequential_colours(values):
    (mesh,) = sq.plot.heatmap(units_by_time(np.array(values))).collections
    assert mesh.cmap.name == style.SEQUENTIAL
    assert (mesh.norm.vmin, mesh.norm.vmax) == (np.min(values), np.max(values))


def test_heatmap_constant_values_are_drawn():
    assert mesh_values(sq.plot.heatmap(units_by_time(np.zeros((3, 2))))).shape == (2, 3)


def test_heatmap_one_step_is_drawn():
    ax = sq.plot.heatmap(units_by_time(np.ones((1, 3))))
    assert ax.get_xlim() == (-0.5, 0.5)


def test_heatmap_limits_are_common_where_panels_are_compared():
    small, large = units_by_time(np.array([[-0.1, 0.1]])), units_by_time(np.array([[-2.0, 1.0]]))
    limits = sq.plot.limits([small, large])
    assert limits == (-2.0, 2.0)
    (mesh,) = sq.plot.heatmap(small, limits=limits).collections
    assert (mesh.norm.vmin, mesh.norm.vmax) == limits


def test_heatmap_sorted_by_peak_names_each_row_by_its_unit():
    values = np.zeros((4, 3))
    values[[3, 0, 2], [0, 1, 2]] = [1.0, -5.0, 2.0]  # unit 0 peaks last, unit 1 first (below zero), unit 2 between
    ax = sq.plot.heatmap(units_by_time(values), sort="peak")
    assert row_labels(ax) == ["1", "2", "0"]
    np.testing.assert_array_equal(mesh_values(ax), values.T[[1, 2, 0]])


def test_heatmap_of_512_units_has_few_labels_that_do_not_touch():
    ax = sq.plot.heatmap(units_by_time(np.random.default_rng(0).random((50, 512))))
    assert mesh_values(ax).shape == (512, 50)
    ax.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert 10 <= len(boxes) <= style.MOST_ROW_LABELS
    assert not any(upper.overlaps(lower) for upper, lower in itertools.pairwise(boxes))


def test_heatmap_missing_values_are_grey_and_padding_is_cut():
    values = np.array([[1.0, 2.0], [np.nan, 3.0], [np.nan, np.nan]])
    ax = sq.plot.heatmap(units_by_time(values))
    shown = mesh_values(ax)
    assert shown.shape == (2, 2)  # the last step holds nothing
    assert np.ma.getmaskarray(shown).tolist() == [[False, True], [False, False]]


def test_heatmap_cells_lie_where_their_time_is():
    array = units_by_time(np.ones((3, 1)), time=("time", [0.0, 1.0, 3.0], {"units": "s", "long_name": "Time"}))
    ax = sq.plot.heatmap(array)
    np.testing.assert_allclose(ax.collections[0].get_coordinates()[0, :, 0], [-0.5, 0.5, 2.0, 4.0])
    assert ax.get_xlabel() == "Time (s)"


# Several panels


def test_activations_share_one_time_axis(utterance, hidden):
    panels = sq.plot.activations(utterance, hidden, sort="cluster", title="An utterance")
    above, below = panels["input"], panels["activations"]
    assert above.get_xlim() == below.get_xlim() == (-0.5, 18.5)
    above.figure.canvas.draw()
    assert above.get_window_extent().x0 == pytest.approx(below.get_window_extent().x0)
    assert above.get_window_extent().x1 == pytest.approx(below.get_window_extent().x1)  # one step lies above the other
    assert above.get_window_extent().y0 >= below.get_window_extent().y1
    assert (above.get_title(), above.get_xlabel(), below.get_xlabel()) == ("An utterance", "", "Time Step")
    assert sorted(mesh_values(below)[:, -1]) == sorted(hidden.isel(time=-1).values)


def test_activations_draw_on_the_figure_given(utterance, hidden):
    figure = plt.figure()
    panels = sq.plot.activations(utterance, hidden, figure=figure)
    assert figure.axes == [panels["input"], panels["activations"]]


def test_activations_draw_on_a_part_of_a_figure(utterance, hidden):
    left, right = plt.figure(layout="constrained").subfigures(1, 2)
    sq.plot.activations(utterance, hidden, figure=right)
    assert (len(left.axes), len(right.axes)) == (0, 2)


def test_layers_show_names_sizes_and_parameters():
    ax = sq.plot.layers(sq.Scope(sq.zoo.japanese_vowels(), example=sq.datasets.japanese_vowels("test")[0][:1]).layers)
    assert row_labels(ax) == [
        "1  input: sequence input with 12 dimensions",
        "2  lstm: LSTM with 100 hidden units",
        "3  fc: fully connected 9",
        "4  softmax: softmax",
    ]
    assert [bar.get_width() for bar in ax.patches] == [0, 45600, 909, 0]
    assert [text.get_text() for text in ax.texts] == ["", "45,600", "909", "0"]
    (values,) = ax.child_axes
    assert [label.get_text() for label in values.get_yticklabels()] == ["time 19 x channel 12", "time 19 x unit 100", "unit 9", "unit 9"]
    assert ax.get_xlabel() == "Parameters"


def test_the_colours_differ_in_lightness_or_hue_for_all_kinds_of_colour_vision():
    """Pairwise distance in CIELAB after simulating each dichromacy (Viénot et al. 1999, linear RGB matrices)."""
    simulate = {
        "normal": np.eye(3),
        "protan": np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]]),
        "deutan": np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]),
    }
    rgb = np.array([[int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)] for color in style.COLORS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    for name, matrix in simulate.items():
        xyz = np.clip(linear @ matrix.T, 0, 1) @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
        f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
        distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(len(lab), 1)]
        assert distance.min() > 8, (name, distance.min())
