"""Figures on a clock: what they hold, where it lies, what is told of it."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from bokeh.models import Range1d

from seqscope.explorer.figures import Clock, Heatmap, Letters, Lines
from seqscope.explorer.figures.pictures import MOST_COLUMNS, MOST_ROWS
from seqscope.explorer.theme import DARK, LIGHT, contrast


def layer(n_steps=20, n_units=5, **coords):
    values = np.random.default_rng(0).standard_normal((n_steps, n_units)).astype(np.float32)
    dim = "step" if "time_start" in coords else "time"
    return xr.DataArray(values, dims=(dim, "unit"), coords={name: (dim, value) for name, value in coords.items()})


def filled(array, time=None, chosen=None, brushed=None, **options):
    edges = Clock(array).edges
    heatmap = Heatmap(LIGHT, time or Range1d(edges[0], edges[-1]), chosen=chosen, brushed=brushed)
    n_units = array.sizes["unit"]
    order = options.pop("order", np.arange(n_units))
    heatmap.fill(array, order, [f"u{unit}" for unit in range(n_units)], limits=(-3, 3), rows_label="Hidden Unit", **options)
    return heatmap


# Clocks


def test_numbered_steps_lie_on_their_numbers():
    clock = Clock(layer())
    np.testing.assert_array_equal(clock.edges, np.arange(21) - 0.5)
    assert (clock.words[3], clock.said(3, 6), clock.step_at(-9), clock.step_at(7.4), clock.step_at(99)) == ("3", "3 to 5", 0, 7, 19)
    assert clock.steps_between(2.9, 6.1) == slice(3, 7)
    assert clock.steps_between(6.1, 2.9) == slice(3, 7)
    assert clock.seen(2, 3) == ""
    assert (clock.seen(2, 4, "all before"), clock.seen(2, 4, "all after"), clock.seen(2, 4, "all")) == ("0 to 3", "2 to 19", "0 to 19")
    assert (clock.seen(2, 3, 1), clock.seen(2, 3, 7)) == ("2", "7 steps")


def test_dates_and_seconds_are_said_as_such():
    dates = np.datetime64("2024-03-01T08:00", "ns") + np.arange(4) * np.timedelta64(10, "m")
    clock = Clock(layer(4, time=dates))
    assert clock.is_dated
    assert clock.words[1] == "2024-03-01 08:10:00"
    assert np.diff(clock.at).tolist() == [600_000.0] * 3
    spans = Clock(layer(4, time=np.arange(4) * np.timedelta64(500, "ms")))
    assert (spans.words[3], spans.at.tolist()) == ("1.5 s", [0.0, 0.5, 1.0, 1.5])


def test_a_layer_on_a_clock_of_its_own_lies_where_it_looks():
    starts = np.arange(0, 20, 2)
    clock = Clock(layer(10, time=starts + 2.0, time_start=starts, time_end=starts + 4))
    assert (clock.edges[0], clock.edges[-1]) == (1.0, 21.0)
    assert (clock.seen(0, 1), clock.seen(2, 4)) == ("0 to 4", "4 to 10")


# Heatmaps


def test_rows_are_in_their_order_from_the_top():
    array = layer()
    order = np.array([3, 0, 4, 1, 2])
    heatmap = filled(array, order=order)
    image = heatmap.source.data["image"][0]
    np.testing.assert_array_equal(image[::-1], array.values.T[order])
    assert heatmap.is_whole
    assert [heatmap.source.data[name][0] for name in ("x", "y", "dw", "dh")] == [-0.5, -0.5, 20.0, 5]
    assert heatmap._rows.data["names"] == [["u3", "u0", "u4", "u1", "u2"]]


def test_a_click_tells_row_and_step():
    told = []
    heatmap = filled(layer(), chosen=lambda row, step: told.append((row, step)))
    for x, y in ((0.2, 4.2), (19.3, -0.4), (5.6, 2.1), (3.0, 7.0), (3.0, -0.6)):
        heatmap._tapped(SimpleNamespace(x=x, y=y))
    assert told == [(0, 0), (4, 19), (2, 6)]


def test_a_brush_tells_the_steps_whose_middles_it_holds():
    told = []
    heatmap = filled(layer(), brushed=lambda *stretch: told.append(stretch))
    for final, x0, x1 in ((False, 1, 5), (True, 2.6, 7.2), (True, 7.2, 2.6), (True, 3.1, 3.4)):
        heatmap._boxed(SimpleNamespace(final=final, geometry={"type": "rect", "x0": x0, "x1": x1}))
    assert told[:2] == [(3, 8), (3, 8)]
    assert told[2][0] == told[2][1]
    assert len(told) == 3


def test_the_marked_row_and_the_brushed_stretch_are_framed():
    heatmap = filled(layer())
    heatmap.mark(1)
    assert (heatmap._mark.bottom, heatmap._mark.top, heatmap._mark.visible) == (2.5, 3.5, True)
    heatmap.brush(4, 9)
    assert (heatmap._brushed.left, heatmap._brushed.right, heatmap._brushed.visible) == (3.5, 8.5, True)
    heatmap.mark(None)
    for start, stop in ((0, 0), (5, 5), (9, 4), (-2, 3), (4, 99)):
        heatmap.brush(start, stop)
        assert not heatmap._brushed.visible
    assert not heatmap._mark.visible


def test_a_long_series_is_aggregated_and_its_detail_comes_with_the_zoom():
    array = layer(100_000, 3)
    time = Range1d(-0.5, 99_999.5)
    heatmap = filled(array, time)
    image, mean = heatmap.source.data["image"][0], heatmap.source.data["other"][0]
    assert not heatmap.is_whole
    assert image.shape == mean.shape == (3, MOST_COLUMNS)
    assert np.abs(image).max() == np.abs(array.values).max()
    assert np.abs(mean).max() < np.abs(image).max()
    assert "to" in heatmap._columns.data["words"][0][700]
    time.update(start=50_000, end=50_100)
    columns = heatmap.source.data["image"][0].shape[1]
    first = round(heatmap.source.data["x"][0] + 0.5)
    assert first <= 50_000 <= 50_100 <= first + columns < 50_300
    np.testing.assert_array_equal(heatmap.source.data["image"][0][::-1], array.values.T[:, first : first + columns])
    assert heatmap._columns.data["words"][0][0] == str(first)
    time.update(start=-0.5, end=99_999.5)
    np.testing.assert_array_equal(heatmap.source.data["image"][0], image)


def test_the_mean_is_drawn_where_it_is_asked_for():
    array = layer(10_000, 2)
    extreme, mean = filled(array), filled(array, cells="mean")
    np.testing.assert_array_equal(mean.source.data["image"][0], extreme.source.data["other"][0])
    np.testing.assert_array_equal(mean.source.data["other"][0], extreme.source.data["image"][0])
    assert [name for name, _ in mean._hover.tooltips][-2:] == ["mean", "extreme"]


def test_many_units_share_rows_until_they_are_zoomed_into():
    array = layer(10, 3000)
    heatmap = filled(array)
    assert heatmap.source.data["image"][0].shape == (MOST_ROWS, 10)
    assert heatmap._columns.data["rows"][0][:2] == [0, 4]
    heatmap.plot.y_range.update(start=2899.5, end=2999.5)  # the first 100 from the top
    assert heatmap.source.data["dh"] == [100]
    np.testing.assert_array_equal(heatmap.source.data["image"][0][::-1], array.values.T[:100])


def test_steps_that_are_not_equally_wide_are_drawn_as_wide_as_they_are():
    times = np.array([0.0, 1.0, 2.0, 10.0, 11.0])
    array = layer(5, 1, time=times)
    heatmap = filled(array)
    image, edges = heatmap.source.data["image"][0][0], Clock(array).edges
    middles = edges[0] + (np.arange(len(image)) + 0.5) * (edges[-1] - edges[0]) / len(image)
    clear = np.abs(middles[:, None] - edges).min(axis=1) > 0.2
    steps = np.searchsorted(edges, middles) - 1
    np.testing.assert_array_equal(image[clear], array.values[steps[clear], 0])


def test_what_a_step_sees_is_told_where_it_is_known():
    starts = np.arange(6)
    own = filled(layer(6, time=starts + 1.0, time_start=starts, time_end=starts + 2))
    assert own._columns.data["seen"][0] == [f"{start} to {start + 2}" for start in starts]
    assert "sees input" in dict(own._hover.tooltips)
    assert "sees input" not in dict(filled(layer())._hover.tooltips)
    assert filled(layer(), sees="all before")._columns.data["seen"][0][:3] == ["0", "0 to 1", "0 to 2"]


# Lines and letters


def test_lines_are_named_and_told_apart():
    lines = Lines(DARK, Range1d(0, 19))
    rows = np.random.default_rng(1).standard_normal((10, 20))
    lines.fill(Clock(layer()), rows, [f"Channel with a long name {row}" for row in range(10)])
    data = lines.source.data
    np.testing.assert_array_equal(np.array(data["ys"]), rows)
    assert len(set(zip(data["color"], data["dash"], strict=True))) == 10
    assert all(contrast(color, DARK.ground) >= 3 for color in data["color"])
    assert lines._legend.visible
    assert all(len(short) <= 13 for short in data["short"])
    lines.fill(Clock(layer()), np.repeat(rows, 2, axis=0), [str(row) for row in range(20)])
    assert not lines._legend.visible


def test_a_long_line_has_more_points_where_a_person_zooms_in():
    time = Range1d(-0.5, 99_999.5)
    lines, row = Lines(LIGHT, time), np.random.default_rng(2).standard_normal(100_000)
    lines.fill(Clock(layer(100_000, 1)), row[None], ["x"])
    (x,), (y,) = lines.source.data["xs"], lines.source.data["ys"]
    assert len(x) <= 2 * MOST_COLUMNS
    assert (y.min(), y.max()) == (row.min(), row.max())
    time.update(start=500, end=600)
    (x,), (y,) = lines.source.data["xs"], lines.source.data["ys"]
    np.testing.assert_array_equal(y, row[x.astype(int)])
    assert (np.diff(x) == 1).all()


def test_a_series_of_one_step_is_a_point():
    lines = Lines(LIGHT, Range1d(-0.5, 0.5))
    lines.fill(Clock(layer(1, 2)), np.array([[1.5], [np.nan]]), ["a", "b"])
    assert (lines._points.data["y"], lines._points.data["name"]) == ([1.5], ["a"])


def test_letters_are_written_where_they_can_be_read():
    time = Range1d(-0.5, 999.5)
    letters, text = Letters(LIGHT, time), "abcdefghij" * 100
    letters.fill(Clock(layer(1000, 1)), text)
    assert letters.source.data["text"] == []
    assert "1,000 steps" in letters._hint.text
    time.update(start=99.5, end=119.5)
    assert "".join(letters.source.data["text"]) == text[100:120]
    assert not letters._hint.visible


@pytest.mark.parametrize("n_steps", [1, 2])
def test_very_short_series_have_a_width(n_steps):
    heatmap = filled(layer(n_steps))
    assert heatmap.source.data["dw"] == [n_steps]
