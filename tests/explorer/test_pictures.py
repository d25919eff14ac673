"""Arrays brought to the size of a screen, against loops over their groups."""

import itertools

import numpy as np
import pytest

from seqscope.explorer.figures.pictures import MOST_COLUMNS, aggregated, columns_of, groups, over, thinned


@pytest.fixture
def values():
    return np.random.default_rng(0).standard_normal((37, 5000)).astype(np.float32)


def farthest(cells):
    known = cells[np.isfinite(cells)]
    return known[np.abs(known).argmax()] if known.size else np.nan


def test_what_fits_is_left_as_it_is(values):
    found = aggregated(values[:, :100])
    assert found.is_whole
    np.testing.assert_array_equal(found.extreme, values[:, :100])
    np.testing.assert_array_equal(found.mean, values[:, :100])


@pytest.mark.parametrize("gaps", [False, True])
def test_each_cell_is_the_mean_and_the_extreme_of_its_group(values, gaps):
    if gaps:
        values[:, 100:200] = np.nan
        values[3, ::7] = np.nan
    found = aggregated(values, most_rows=10, most_columns=50)
    assert found.mean.shape == found.extreme.shape == (10, 50)
    assert not found.is_whole
    for row in range(10):
        for column in range(50):
            cells = values[found.rows[row] : found.rows[row + 1], found.columns[column] : found.columns[column + 1]].astype(float)
            assert found.extreme[row, column] == pytest.approx(farthest(cells), nan_ok=True)
            expected = np.nan if np.isnan(cells).all() else np.nanmean(cells)
            assert found.mean[row, column] == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_a_single_peak_in_a_long_series_is_still_seen():
    values = np.zeros((1, 100_000), np.float32)
    values[0, 77_777] = -5.0
    found = aggregated(values)
    assert found.extreme.shape == (1, MOST_COLUMNS)
    assert found.extreme.min() == -5.0


def test_equal_steps_have_a_column_each():
    for edges in (np.arange(30) - 0.5, np.linspace(0, 3, 301), 1.7e12 + 600_000.0 * np.arange(50)):
        found = columns_of(edges)
        assert found.is_whole
        np.testing.assert_array_equal(found.start, np.arange(len(edges) - 1))


def test_columns_have_the_steps_that_lie_in_them():
    edges = np.cumsum(np.random.default_rng(1).exponential(1.0, 300))
    found = columns_of(edges, most=40)
    borders = np.linspace(edges[0], edges[-1], len(found.start) + 1)
    assert len(found.start) <= 40
    for column, (low, high) in enumerate(itertools.pairwise(borders)):
        inside = [step for step in range(len(edges) - 1) if edges[step] < high - 1e-4 and edges[step + 1] > low + 1e-4]
        assert list(range(found.start[column], found.stop[column])) == inside


def test_a_wide_step_fills_several_columns_with_its_value():
    edges = np.array([0.0, 1.0, 2.0, 12.0])
    columns = columns_of(edges)
    mean, extreme = over(np.array([[1.0, -2.0, 3.0]], np.float32), groups(1, 10), columns)
    middles = (np.arange(len(columns.start)) + 0.5) * 12 / len(columns.start)
    expected = np.select([middles < 1, middles < 2], [1.0, -2.0], 3.0)
    np.testing.assert_array_equal(extreme[0], expected)
    np.testing.assert_array_equal(mean[0], expected)


def test_a_thinned_line_keeps_the_lowest_and_highest_of_each_group():
    rng = np.random.default_rng(2)
    x, y = np.arange(10_001.0), rng.standard_normal(10_001)
    y[500:900] = np.nan
    seen_x, seen_y = thinned(x, y, most=100)
    assert len(seen_x) <= 200
    assert (np.diff(seen_x) > 0).all()
    size = -(-len(x) // 100)
    for start in range(0, len(x), size):
        part, shown = y[start : start + size], seen_y[(seen_x >= start) & (seen_x < start + size)]
        if not np.isnan(part).all():
            assert {np.nanmin(part), np.nanmax(part)} == set(shown.tolist())


def test_a_short_line_is_not_thinned():
    x = np.arange(50.0)
    assert thinned(x, x, most=25)[0] is x
