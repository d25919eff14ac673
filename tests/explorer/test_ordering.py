"""The rows of a heatmap."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import seqscope as sq
from seqscope.explorer.ordering import limits_of, ordered, selectivity, takes_long
from seqscope.explorer.page import first_choice


@pytest.fixture
def chosen(vowels):
    return first_choice(vowels)


@pytest.mark.parametrize("by", ["peak", "cluster"])
def test_units_are_sorted_as_units_order_sorts_them(vowels, chosen, by):
    values = vowels.values("lstm", "c", 5)
    found = ordered(vowels, replace(chosen, order=by, state="c", sample=5), values)
    np.testing.assert_array_equal(found, sq.units.order(values, by))


def test_by_name_is_as_they_are(vowels, chosen):
    np.testing.assert_array_equal(ordered(vowels, replace(chosen, order="name"), vowels.values("lstm", "", 0)), np.arange(100))


def test_selectivity_is_the_area_under_the_curve_and_sorts_the_best_first(vowels, chosen):
    told = selectivity(vowels, "lstm", "")
    means = vowels.whole("lstm", "").mean("time").values.astype(float)  # NaN after the end is left out
    labels = np.unique(vowels.labels)
    for unit, label in ((3, 0), (17, 4), (99, 8)):
        inside = vowels.labels == labels[label]
        above = means[inside, unit][:, None] - means[~inside, unit][None]
        assert told[unit, label] == pytest.approx(((above > 0) + 0.5 * (above == 0)).mean(), abs=1e-6)
    order = ordered(vowels, replace(chosen, order="selectivity"), vowels.values("lstm", "", 0))
    best = np.abs(told - 0.5).max(axis=1)[order]
    assert (np.diff(best) <= 0).all()
    assert not takes_long(vowels, replace(chosen, order="selectivity"))


def test_what_reads_all_samples_takes_long_until_it_is_done(vowels, chosen):
    asked = replace(chosen, order="selectivity", state="f")
    assert takes_long(vowels, asked)
    ordered(vowels, asked, vowels.values("lstm", "f", 0))
    assert not takes_long(vowels, asked)
    assert not takes_long(vowels, replace(chosen, order="cluster"))


def test_missing_values_do_not_stop_the_order(chosen):
    class Source:
        is_classified = False

        def once(self, key, make):
            return make()

    values = xr.DataArray(np.random.default_rng(0).standard_normal((9, 6)), dims=("time", "unit"))
    values[4, 2] = np.nan
    for by in ("peak", "cluster"):
        assert sorted(ordered(Source(), replace(chosen, order=by), values).tolist()) == list(range(6))
    empty = values.isel(time=slice(0))
    assert ordered(Source(), replace(chosen, order="peak"), empty).tolist() == list(range(6))
    assert limits_of(Source(), chosen, empty) == (0.0, 1.0)
