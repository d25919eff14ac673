import numpy as np
import pytest
import xarray as xr

from seqscope import errors, units


def array(values):
    return xr.DataArray(values, dims=("time", "unit"))


def test_order_by_peak_is_the_time_farthest_from_zero():
    values = np.zeros((5, 3))
    values[4, 0], values[1, 1], values[2, 2] = 1.0, -9.0, 3.0
    assert units.order(array(values), "peak").tolist() == [1, 2, 0]


def test_order_by_peak_keeps_ties_as_they_are():
    assert units.order(array(np.ones((4, 5))), "peak").tolist() == [0, 1, 2, 3, 4]


def test_order_by_cluster_puts_alike_units_next_to_each_other():
    random = np.random.default_rng(0)
    waves = np.stack([np.sin(np.arange(50) / 3), np.cos(np.arange(50) / 7), np.linspace(-1, 1, 50)])
    family = np.arange(12) % 3
    values = waves[family].T * random.uniform(1, 5, 12) + 0.01 * random.standard_normal((50, 12))
    found = family[units.order(array(values), "cluster")]
    assert np.count_nonzero(np.diff(found)) == 2  # three families, each in one piece


def test_order_by_cluster_puts_units_that_never_move_last():
    values = np.random.default_rng(0).random((10, 6))
    values[:, [1, 4]] = 0.3
    found = units.order(array(values), "cluster")
    assert sorted(found.tolist()) == list(range(6))
    assert found[-2:].tolist() == [1, 4]


@pytest.mark.parametrize("n_units", [1, 2])
def test_order_by_cluster_of_very_few_units(n_units):
    assert sorted(units.order(array(np.random.default_rng(0).random((5, n_units))), "cluster").tolist()) == list(range(n_units))


def test_padding_does_not_matter():
    values = np.random.default_rng(0).standard_normal((8, 5))
    padded = np.concatenate([values, np.full((3, 5), np.nan)])
    for by in ("peak", "cluster"):
        assert units.order(array(padded), by).tolist() == units.order(array(values), by).tolist()


def test_an_unknown_order_is_refused():
    with pytest.raises(errors.DataError, match="'peak', 'cluster'"):
        units.order(array(np.ones((2, 2))), "size")


def test_several_sequences_are_refused():
    with pytest.raises(errors.DataError, match=r"\('sample', 'time', 'unit'\)"):
        units.order(xr.DataArray(np.ones((2, 3, 4)), dims=("sample", "time", "unit")), "peak")


def test_an_array_without_time_is_refused():
    with pytest.raises(errors.DataError, match="no time axis"):
        units.order(xr.DataArray(np.ones((3, 4)), dims=("sample", "unit")), "peak")
