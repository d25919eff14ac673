"""Where else units are on together, and the nearest states: planted stretches, and brute force over every step."""

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import cdist

import seqscope as sq
from seqscope import errors, units
from seqscope.units import blocks

LENGTHS = np.array([20, 15, 18, 9])


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK", 200)
    monkeypatch.setattr(blocks, "_PIECE", 30)


def padded(values):
    values[np.arange(values.shape[1]) >= LENGTHS[:, None]] = np.nan
    coords = {"sample": list("pqrs"), "length": ("sample", LENGTHS), "label": ("sample", [0, 1, 0, 1])}
    return xr.DataArray(values, dims=("sample", "time", "unit"), coords=coords)


def planted():
    """Units 1 and 3 are on together in sample p from 4 to 8, and at four other places."""
    values = np.full((4, 20, 6), 0.1)
    for sample, start, stop in ((0, 4, 8), (0, 12, 15), (1, 0, 4), (2, 15, 18), (3, 2, 8)):
        values[sample, start:stop, [1, 3]] = 0.9
    values[0, :, 5] = values[2, 15:18, 0] = values[2, 10:18, 5] = 0.9  # another unit, on before and after too; and two others in r
    values[1, 8:12, 1] = 0.9  # one of the two alone
    return padded(values)


def rows_of(found, *names):
    return list(zip(*(found[name].values.tolist() for name in names), strict=True))


def test_the_units_on_in_a_stretch_and_the_other_places_where_they_are(small_blocks):
    found = units.match(planted(), "p", 4, 8, 0.5)
    assert found.unit.values.tolist() == [1, 3]
    assert rows_of(found, "sample", "start", "stop", "length", "others") == [
        ("q", 0, 4, 4, 0),  # as long as the stretch
        ("s", 2, 8, 6, 0),
        ("p", 12, 15, 3, 1),
        ("r", 15, 18, 3, 2),
    ]
    np.testing.assert_allclose(found.score, [1, 1, 2 / 3, 1 / 2])
    assert found.label.values.tolist() == [1, 1, 0, 0]
    assert found.attrs["n_found"] == 4


def test_a_unit_that_is_on_around_it_counts_where_that_is_allowed():
    assert units.match(planted(), "p", 4, 8, 0.5, before=0, after=0).unit.values.tolist() == [1, 3, 5]
    assert units.match(planted(), "p", 4, 7, 0.5, after=0).unit.values.tolist() == [1, 3]
    assert units.match(planted(), "q", 0, 4, 0.5).unit.values.tolist() == [1, 3]  # nothing lies before
    assert units.match(planted(), "r", 15, 18, 0.5, before=6).unit.values.tolist() == [0, 1, 3]


def test_units_that_are_named():
    found = units.match(planted(), "p", 4, 8, 0.5, units=[1])
    assert found.unit.values.tolist() == [1]
    assert ("q", 8, 12) in rows_of(found, "sample", "start", "stop")


def test_the_best_are_kept(small_blocks):
    found = units.match(planted(), "p", 4, 8, 0.5, k=2)
    assert found.sample.values.tolist() == ["q", "s"]
    assert found.attrs["n_found"] == 4


def test_runs_agree_with_a_look_at_every_step(small_blocks):
    activations = padded(np.random.default_rng(0).random((4, 20, 5)))
    found = units.match(activations, "q", 3, 5, 0.4, units=[0, 2], k=100)
    expected = set()
    for sample, length in enumerate(LENGTHS):
        on = (activations.values[sample, :length][:, [0, 2]] >= 0.4).all(axis=1)
        for start in range(length):
            for stop in range(start + 1, length + 1):
                longest = on[start:stop].all() and not on[start - 1 : start].any() and not on[stop : stop + 1].any()
                if longest and not (sample == 1 and start < 5 and stop > 3):
                    expected.add(("pqrs"[sample], start, stop))
    assert set(rows_of(found, "sample", "start", "stop")) == expected
    assert (np.diff(found.score) <= 0).all()


def test_no_other_place_is_an_empty_result():
    found = units.match(planted(), "p", 4, 8, 0.5, units=[0, 1, 4])
    assert found.sizes["rank"] == 0
    assert found.attrs["n_found"] == 0


def test_the_threshold_that_would_select_a_unit_is_said_and_does():
    with pytest.raises(
        errors.DataError, match=r"No unit is at 0\.95 or above from step 4 to 7 of sample p.*threshold=0\.9 would"
    ) as caught:
        units.match(planted(), "p", 4, 8, 0.95)
    assert str(caught.value).endswith("would select unit 1.")
    assert units.match(planted(), "p", 4, 8, 0.9).unit.values.tolist() == [1, 3]
    activations = padded(np.random.default_rng(3).standard_normal((4, 20, 8)))
    with pytest.raises(errors.DataError, match="threshold=") as caught:
        units.match(activations, "s", 4, 6, 3.0)
    said = float(str(caught.value).partition("threshold=")[2].split()[0])
    unit = int(str(caught.value).rpartition(" ")[2].rstrip("."))
    assert unit in units.match(activations, "s", 4, 6, said).unit


def test_a_stretch_that_no_threshold_selects():
    activations = padded(np.ones((4, 20, 2)))
    with pytest.raises(errors.DataError, match="no threshold would select one; before=0 and after=0"):
        units.match(activations, "p", 4, 8, 0.5)


def test_an_array_in_chunks_gives_the_same(small_blocks):
    lazy = planted().chunk(sample=1, time=7)
    xr.testing.assert_identical(units.match(lazy, "p", 4, 8, 0.5), units.match(planted(), "p", 4, 8, 0.5))
    xr.testing.assert_allclose(units.nearest(lazy, "p", 5), units.nearest(planted(), "p", 5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample": ["p"]}, r"There is no sample \['p'\]"),
        ({"sample": "x"}, "There is no sample 'x': there are 4 samples, 'p' to 's'"),
        ({"start": 8, "stop": 8}, "The stretch from 8 to 8 is not within sample p, which has 20 steps: expected 0 <= start < stop <= 20"),
        ({"sample": "s", "start": 5, "stop": 10}, "not within sample s, which has 9 steps"),
        ({"start": -2}, "The stretch from -2"),
        ({"start": 1.5}, "The stretch from 1.5"),
        ({"threshold": "high"}, "threshold is 'high'"),
        ({"threshold": np.nan}, "threshold is nan"),
        ({"before": -1}, "before is -1: expected a whole number, 0 or more"),
        ({"k": 0}, "k is 0"),
        ({"units": [1, 9]}, "There is no unit 9: there are 6 units"),
        ({"units": []}, "units names no unit"),
    ],
)
def test_what_can_not_be_matched_is_refused_in_a_sentence(options, message):
    with pytest.raises(errors.DataError, match=message):
        units.match(**{"activations": planted(), "sample": "p", "start": 4, "stop": 8, "threshold": 0.5} | options)


# The nearest states


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("gap", [1, 4])
def test_the_nearest_states_agree_with_all_distances(small_blocks, metric, gap):
    activations = padded(np.random.default_rng(0).standard_normal((4, 20, 6)).astype(np.float32))
    values = activations.values.astype(np.float64)
    state, left = values[1, 7], []
    for sample, length in enumerate(LENGTHS):
        distances = cdist(values[sample, :length], state[None], metric)[:, 0]
        left += [(d, sample, t) for t, d in enumerate(distances) if sample != 1 or abs(t - 7) >= gap]
    expected = []
    for d, sample, t in sorted(left):
        if all(sample != s or abs(t - u) >= gap for _, s, u in expected):
            expected.append((d, sample, t))
    found = units.nearest(activations, "q", 7, k=9, metric=metric, gap=gap)
    assert rows_of(found, "sample", "time") == [("pqrs"[sample], t) for _, sample, t in expected[:9]]
    np.testing.assert_allclose(found.distance, [d for d, *_ in expected[:9]], atol=1e-7)
    assert found.label[0] == [0, 1, 0, 1][expected[0][1]]


def test_a_place_that_was_found_can_be_given_on():
    activations = planted()
    found = units.match(activations, "p", 4, 8, 0.5)
    again = units.match(activations, found.sample[0], found.start[0], found.stop[0], found.attrs["threshold"], units=found.unit)
    assert ("p", 4, 8) in rows_of(again, "sample", "start", "stop")
    assert units.nearest(activations, found.sample[1], found.start[1]).sizes["rank"] == 10


def test_steps_count_from_the_end_too():
    activations = padded(np.random.default_rng(0).standard_normal((4, 20, 6)))
    xr.testing.assert_identical(units.nearest(activations, "s", -1), units.nearest(activations, "s", 8))


def test_neighbours_in_the_network_are_of_the_class():
    X, _ = sq.datasets.japanese_vowels("test")
    hidden = sq.Scope(sq.zoo.japanese_vowels()).activations(X, "lstm")
    assert (units.nearest(hidden, 40, -1, k=10).label == X.labels[40]).all()
    found = units.match(hidden, 100, 6, 10, before=0, after=0)
    on = hidden.sel(unit=found.unit, sample=found.sample[0]).isel(time=slice(int(found.start[0]), int(found.stop[0])))
    assert (on >= 0.3).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample": 7}, "There is no sample 7"),
        ({"sample": "s", "time": 9}, "There is no step 9 in sample s, which has 9 steps: expected 0 to 8"),
        ({"time": 1.0}, "There is no step 1.0"),
        ({"metric": "hamming"}, "metric is 'hamming': say one of 'euclidean', 'cosine'"),
        ({"gap": 0}, "gap is 0"),
        ({"k": -1}, "k is -1"),
        ({"activations": padded(np.zeros((4, 20, 2))), "metric": "cosine"}, "is 0 in every unit and has no direction"),
        ({"activations": planted().where(planted().unit > 0)}, "holds NaN or infinity"),
    ],
)
def test_states_that_have_no_neighbours_are_refused_in_a_sentence(options, message):
    with pytest.raises(errors.DataError, match=message):
        units.nearest(**{"activations": planted(), "sample": "p", "time": 4} | options)


def test_a_unit_named_twice_is_refused():
    X, _ = sq.datasets.japanese_vowels("test")
    hidden = sq.Scope(sq.zoo.japanese_vowels()).activations(X[:4], "lstm")
    with pytest.raises(errors.DataError, match="names a unit twice"):
        sq.units.match(hidden, 0, 2, 5, units=[1, 1])
