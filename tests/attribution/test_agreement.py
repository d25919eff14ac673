"""The rank correlation of two attributions, against ranks by hand."""

import numpy as np
import pytest
import xarray as xr

from seqscope.attribution.agreement import agreement


def by_hand(a, b):
    """Pearson's correlation of the ranks, where no two values are the same."""
    ranks = [np.argsort(np.argsort(one)) for one in (a.ravel(), b.ravel())]
    return np.corrcoef(*ranks)[0, 1]


@pytest.fixture
def pair():
    random = np.random.default_rng(0)
    values = random.standard_normal((2, 9, 4))
    return [xr.DataArray(one, dims=("time", "channel"), attrs={"signed": 1}) for one in values]


def test_values_are_ranked_one_by_one(pair):
    found = agreement(*pair)
    assert found.value == pytest.approx(by_hand(pair[0].values, pair[1].values))
    assert (found.count, found.of_steps, found.of_sizes) == (36, False, False)
    assert str(found) == f"{found.value:.2f} over 36 values"


def test_dims_go_by_name(pair):
    assert agreement(pair[0], pair[1].transpose("channel", "time")) == agreement(*pair)


def test_padding_is_left_out(pair):
    padded = [one.pad(time=(0, 3)) for one in pair]
    assert padded[0].isnull().sum() == 12
    assert agreement(*padded) == agreement(*pair)


def test_a_map_is_compared_with_the_sums_over_channels(pair):
    line = pair[1].isel(channel=0)
    found = agreement(pair[0], xr.Dataset({"map": line, "native": line}, attrs={"signed": 1}))
    assert found.value == pytest.approx(by_hand(pair[0].values.sum(1), line.values))
    assert (found.count, found.of_steps) == (9, True)


def test_sizes_are_ranked_where_one_has_no_sign(pair):
    sizes = abs(pair[1]).assign_attrs(signed=0)
    found = agreement(pair[0], sizes)
    assert found.value == pytest.approx(by_hand(np.abs(pair[0].values), sizes.values))
    assert "since one of the two has no sign" in str(found)
    assert not agreement(sizes, sizes).of_sizes


def test_nothing_is_said_where_nothing_can_be_compared(pair):
    assert agreement(pair[0], pair[1].rename(time="step").isel(step=slice(4))) is None
    assert agreement(pair[0], xr.zeros_like(pair[1])) is None
    assert agreement(pair[0].isel(time=[0], channel=[0]), pair[1].isel(time=[0], channel=[0])) is None
