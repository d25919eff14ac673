"""Statistics of recordings: two passes in float64, np.histogram unit by unit, and parts that are merged."""

import io

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from seqscope import errors, units
from seqscope.recording import figures
from seqscope.recording.figures import Figures, edges_for, figures_of

BOUNDED = edges_for("lstm", "h", np.zeros(0))


def values(n_rows=700, n_columns=5, *, dtype=np.float64, seed=0):
    return np.tanh(np.random.default_rng(seed).standard_normal((n_rows, n_columns))).astype(dtype)


@pytest.fixture
def small_pieces(monkeypatch):
    """Several pieces and groups of columns, though there is little data."""
    monkeypatch.setattr(figures, "_PIECE", 60)
    monkeypatch.setattr(figures, "_BLOCK", 200)
    monkeypatch.setattr(figures, "_COLUMNS", 3)


def finite(column):
    return column[np.isfinite(column)].astype(np.float64)


def check_moments(found, rows, rtol=1e-9):
    """Against two passes over each column."""
    for place, column in enumerate(rows.T):
        there, moments = finite(column), found.moments
        mean = there.mean()
        assert moments.n[place] == len(there)
        np.testing.assert_allclose(moments.mean[place], mean, rtol=rtol, atol=rtol * there.std())
        np.testing.assert_allclose(moments.m2[place] / len(there), ((there - mean) ** 2).mean(), rtol=rtol)
        assert (moments.low[place], moments.high[place]) == (there.min(), there.max())


def check_histogram(found, rows):
    """Against np.histogram for each column, and what lies beyond."""
    edges = found.edges
    for place, column in enumerate(rows.T):
        there = column[~np.isnan(column)].astype(np.float64)
        inner, _ = np.histogram(there, edges)
        assert found.histogram[place].tolist() == [(there < edges[0]).sum(), *inner, (there > edges[-1]).sum()]
        assert found.histogram[place].sum() == len(there)


def same_bits(one, other):
    mine, others = one.to_arrays(), other.to_arrays()
    return mine.keys() == others.keys() and all(
        mine[name].dtype == others[name].dtype and mine[name].tobytes() == others[name].tobytes() for name in mine
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("n_columns", [1, 5, 600])
def test_figures_are_those_of_two_passes_in_float64(dtype, n_columns):
    rows = values(n_columns=n_columns, dtype=dtype)
    found = figures_of(rows, BOUNDED)
    check_moments(found, rows)
    check_histogram(found, rows)
    assert not found.n_infinite.any()


def test_a_large_mean_does_not_hide_a_small_spread():
    rows = (1e6 + np.random.default_rng(0).standard_normal((50_000, 3))).astype(np.float32)
    found = figures_of(rows, edges_for("linear", "activations", rows[:50]))
    check_moments(found, rows)
    check_histogram(found, rows)
    assert (found.histogram[0, 1:-1] > 0).sum() > 16  # bins that tell the values apart


def test_a_constant_unit_has_no_spread_at_all():
    rows = values(dtype=np.float32)
    rows[:, 2] = np.float32(0.1)
    found = figures_of(rows, BOUNDED)
    assert found.moments.m2[2] == 0
    assert found.moments.mean[2] == np.float32(0.1)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_padding_is_no_value(small_pieces, dtype):
    rows = values(dtype=dtype)
    rows[100:250] = np.nan
    rows[600:] = np.nan
    found = figures_of(rows, BOUNDED)
    check_moments(found, rows)
    check_histogram(found, rows)
    assert same_bits(found, figures_of(rows.copy(order="F"), BOUNDED))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_columns_may_have_holes_of_their_own(small_pieces, dtype):
    rows = values(dtype=dtype)
    rows[::7, 0], rows[5:90, 3], rows[40:60] = np.nan, np.nan, np.nan
    found = figures_of(rows, BOUNDED)
    check_moments(found, rows)
    check_histogram(found, rows)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_infinite_values_are_counted_and_kept_out_of_the_mean(small_pieces, dtype):
    rows = values(dtype=dtype)
    rows[3, 1], rows[4, 1], rows[9, 2], rows[50:60] = np.inf, -np.inf, np.inf, np.nan
    found = figures_of(rows, BOUNDED)
    check_moments(found, rows)
    check_histogram(found, rows)
    assert found.n_infinite.tolist() == [0, 2, 1, 0, 0]
    assert (found.histogram[1, 0], found.histogram[1, -1]) == (1, 1)


def test_a_column_may_be_infinite_throughout():
    rows = values(50, 2)
    rows[:, 1] = np.inf
    found = figures_of(rows, BOUNDED)
    assert found.moments.n.tolist() == [50, 0]
    assert found.histogram[1, -1] == found.n_infinite[1] == 50


@pytest.mark.parametrize("rows", [np.arange(-40, 60, dtype=np.int64).reshape(50, 2), np.arange(100, dtype=np.uint8).reshape(50, 2)])
def test_whole_numbers_count_as_they_are(rows):
    found = figures_of(rows, edges_for("embedding", "activations", rows))
    check_moments(found, rows)
    check_histogram(found, rows)
    assert not found.histogram[:, [0, -1]].any()


@pytest.mark.parametrize("rows", [np.zeros((0, 3), np.float32), np.full((20, 3), np.nan)])
def test_no_value_at_all_is_no_error(rows):
    found = figures_of(rows, BOUNDED)
    assert not found.moments.n.any()
    assert not found.histogram.any()
    more = values(50, 3)
    np.testing.assert_array_equal(found.merged(figures_of(more, BOUNDED)).moments.mean, figures_of(more, BOUNDED).moments.mean)


# Bins


def test_a_value_on_an_edge_is_in_the_bin_above_and_on_the_last_edge_below():
    rows = np.concatenate([BOUNDED, [-1e-12, 1e-12, -1 - 1e-12, 1 + 1e-12]])[:, None]
    for beyond in (rows, rows[:-2]):  # with values beyond the edges, and without
        check_histogram(figures_of(beyond, BOUNDED), beyond)
    check_histogram(figures_of(rows.astype(np.float32), BOUNDED), rows.astype(np.float32))


@pytest.mark.parametrize(
    ("kind", "name", "bounded"),
    [
        ("lstm", "h", True),
        ("lstm", "f", True),
        ("gru", "n", True),
        ("lstm", "c", False),
        ("rnn", "a", False),
        ("lstm", "activations", True),
        ("softmax", "activations", True),
        ("linear", "activations", False),
        ("conv1d", "activations", False),
    ],
)
def test_what_stays_within_1_has_bins_from_minus_1_to_1(kind, name, bounded):
    edges = edges_for(kind, name, np.array([[0.25, np.nan], [0.5, -0.125]]))
    assert np.array_equal(edges, np.linspace(-1, 1, 65)) == bounded


def test_a_cell_with_another_activation_has_bins_where_its_values_are():
    edges = edges_for("lstm", "h", np.array([0.0, 7.0]))
    assert edges[-1] >= 10.5


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=20),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 99),
)
def test_any_values_make_bins_that_count_any_values(few, dtype, seed):
    few = np.array(few, dtype)
    edges = edges_for("linear", "activations", few)
    assert 65 <= len(edges) <= 131
    assert np.isfinite(edges).all()
    assert (np.diff(edges) > 0).all()
    there = finite(few)
    if there.size:
        half = (there.max() - there.min()) / 2
        assert edges[0] <= there.min() - half
        assert edges[-1] >= there.max() + half
    around = np.random.default_rng(seed).choice(np.concatenate([edges, few, [0, np.nan, np.inf, -1e-30]]), 300)
    with np.errstate(over="ignore"):  # what is too large for float32 is infinite, and counted as such
        rows = np.stack([around, around[::-1] * 1.1], axis=1).astype(dtype)
    rows[np.abs(rows) < (edges[1] - edges[0]) * 1e-36] = 0  # a share of the width that float32 has no number for counts as 0
    check_histogram(figures_of(rows, edges), rows)


@pytest.mark.parametrize("few", [np.zeros(0), np.full(9, np.nan), np.full(9, 3.5), np.full(9, -1e6), np.array([-1.7e308, 1.7e308])])
def test_bins_are_there_for_few_values_too(few):
    edges = edges_for("linear", "activations", few)
    assert 65 <= len(edges) <= 131
    assert np.isfinite(edges).all()
    rows = np.array([[0.0], [3.5], [-1e6], [np.nan], [1e200]])
    check_histogram(figures_of(rows, edges), rows)


# Parts


def parts(n=7, dtype=np.float32):
    rows = values(1000, 4, dtype=dtype) * np.array([1, 3, 1e-3, 1]).astype(dtype) + np.array([0, 50, 0, 0]).astype(dtype)
    rows[::9, 2], rows[700:750] = np.nan, np.nan
    edges = edges_for("linear", "activations", rows[:100])
    return rows, edges, [figures_of(part, edges) for part in np.array_split(rows, n)]


def merged(found):
    whole = found[0]
    for part in found[1:]:
        whole = whole.merged(part)
    return whole


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_parts_say_what_one_says(dtype):
    rows, edges, found = parts(50, dtype)
    whole, together = figures_of(rows, edges), merged(found)
    check_moments(together, rows)
    check_histogram(together, rows)
    spread = np.sqrt(whole.moments.m2 / whole.moments.n)
    assert (np.abs(together.moments.mean - whole.moments.mean) <= 1e-12 * (np.abs(whole.moments.mean) + spread)).all()
    np.testing.assert_allclose(together.moments.m2, whole.moments.m2, rtol=1e-12)
    for name in ("n", "low", "high", "near_end", "at_zero"):
        np.testing.assert_array_equal(getattr(together.moments, name), getattr(whole.moments, name))


def test_the_same_parts_in_the_same_order_give_the_same_bits():
    _, edges, found = parts()
    again = [figures_of(part, edges) for part in np.array_split(parts()[0], 7)]
    assert same_bits(merged(found), merged(again))
    assert not same_bits(merged(found), merged(found[:-1]))


def test_figures_come_back_from_a_file_bit_for_bit():
    _, _, found = parts()
    file = io.BytesIO()
    np.savez(file, **merged(found).to_arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        back = Figures.from_arrays(stored)
    assert same_bits(back, merged(found))
    assert same_bits(back.merged(found[0]), merged([*found, found[0]]))


# What is shown


def shown(rows, kind="lstm", **attrs):
    found = figures_of(rows, edges_for(kind, "activations", rows))
    return figures.summary(found, dims=("unit",), sizes=(rows.shape[1],), coords={}, attrs={"kind": kind} | attrs)


@pytest.mark.parametrize("kind", ["lstm", "linear", "relu", "tanh"])
def test_the_summary_says_what_that_of_units_says(kind):
    rows = values(n_columns=4) * 1.3
    rows = np.maximum(rows, 0) if kind == "relu" else np.clip(rows, -1, 1)
    rows[:, 3] = 0.25 if kind != "relu" else 0
    expected = units.summary(xr.DataArray(rows[None], dims=("sample", "time", "unit"), attrs={"kind": kind}), duplicate=None)
    found = shown(rows, kind)
    assert found.attrs["saturated"] == expected.attrs["saturated"]
    assert found.attrs["n_steps"] == expected.attrs["n_steps"]
    for name in ("mean", "spread", "low", "high", "saturated", "dead"):
        xr.testing.assert_allclose(found[name], expected[name], rtol=1e-12)
        assert found[name].attrs == expected[name].attrs


def test_the_histogram_has_its_bins_and_survives_files(tmp_path):
    rows = values(dtype=np.float32) * 5
    found = shown(rows, "linear", layer="fc")
    assert found.histogram.dims == ("unit", "bin")
    assert (found.bin_low[0], found.bin_high[-1]) == (-np.inf, np.inf)
    np.testing.assert_array_equal(found.bin_low[1:], found.bin_high[:-1])
    inside = (rows[:, 1:2] >= found.bin_low.values) & (rows[:, 1:2] < found.bin_high.values)
    np.testing.assert_array_equal(found.histogram.sel(unit=1), inside.sum(axis=0))
    found.to_netcdf(tmp_path / "figures.nc", engine="h5netcdf")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "figures.nc", engine="h5netcdf"), found)


def test_columns_may_have_several_dims():
    rows = values(n_columns=6)
    found = figures_of(rows, BOUNDED)
    coords = {"direction": xr.Variable("direction", ["forward", "backward"])}
    shaped = figures.summary(found, dims=("direction", "unit"), sizes=(2, 3), coords=coords, attrs={}, kind="lstm")
    assert shaped.histogram.dims == ("direction", "unit", "bin")
    np.testing.assert_allclose(shaped["mean"].sel(direction="backward", unit=1), rows[:, 4].mean())
    single = figures.summary(figures_of(rows[:, :1], BOUNDED), dims=(), sizes=(), coords={}, attrs={}, kind="lstm")
    assert single["mean"].dims == ()


def test_a_unit_without_any_value_is_nan_and_not_dead():
    rows = np.maximum(values(), 0)
    rows[:, 2] = np.nan
    found = shown(rows, "relu")
    assert np.isnan([found[name][2] for name in ("mean", "spread", "low", "high", "saturated")]).all()
    assert not found.dead[2]
    assert not np.isnan(found["saturated"][[0, 1, 3, 4]]).any()


def test_infinite_values_are_shown_where_there_are_any():
    rows = values()
    assert "n_infinite" not in shown(rows)
    rows[4, 1] = np.inf
    found = shown(rows)
    assert found.n_infinite.values.tolist() == [0, 1, 0, 0, 0]
    assert found.attrs["saturated"].startswith("not defined")


# What can't be


def test_what_is_no_table_of_numbers_is_refused():
    with pytest.raises(errors.DataError, match=r"an array \(2, 3, 4\) of float64 was given"):
        figures_of(np.zeros((2, 3, 4)), BOUNDED)
    with pytest.raises(errors.DataError, match="of complex128 was given"):
        figures_of(np.zeros((2, 3), complex), BOUNDED)
    with pytest.raises(errors.DataError, match="multiples of their distance, a power of two"):
        figures_of(np.zeros((2, 3)), np.linspace(0, 1, 11))


def test_parts_that_do_not_belong_together_are_refused():
    found = figures_of(values(), BOUNDED)
    with pytest.raises(errors.DataError, match=r"5 units in 66 bins .* can't be merged with those of 3 units"):
        found.merged(figures_of(values(n_columns=3), BOUNDED))
    with pytest.raises(errors.DataError, match=r"66 bins around -1 to 1 can't be merged .* around -2 to 2"):
        found.merged(figures_of(values(), BOUNDED * 2))
    with pytest.raises(errors.DataError, match="statistics of 5 columns, and 2 directions, 3 units were expected"):
        figures.summary(found, dims=("direction", "unit"), sizes=(2, 3), coords={}, attrs={})
