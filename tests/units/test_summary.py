"""Figures of units: brute force in float64 NumPy, scikit-learn's AUROC, and units made so that the answer is known."""

import dask.array
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from sklearn.metrics import roc_auc_score
from torch import nn

import seqscope as sq
from seqscope import errors, units
from seqscope.units import blocks

LENGTHS = np.array([9, 14, 6, 14, 11, 8, 12])


def padded(values, lengths=LENGTHS, **attrs):
    """Activations (sample, time, unit) of sequences so long, NaN behind them."""
    values = np.array(values)
    values[np.arange(values.shape[1]) >= np.asarray(lengths)[:, None]] = np.nan
    coords = {"sample": np.arange(len(values)), "length": ("sample", np.asarray(lengths))}
    return xr.DataArray(values, dims=("sample", "time", "unit"), coords=coords, attrs=attrs)


def ragged(n_units=5, *, dtype=np.float64, seed=0, **attrs):
    values = np.tanh(np.random.default_rng(seed).standard_normal((len(LENGTHS), LENGTHS.max(), n_units)))
    return padded(values.astype(dtype), **attrs)


def steps_of(activations):
    """Every step of every sequence, (step, unit), in float64."""
    rows = activations.values.reshape(-1, activations.sizes["unit"]).astype(np.float64)
    return rows[~np.isnan(rows).all(axis=1)]


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks and pieces, though there is little data."""
    monkeypatch.setattr(blocks, "_BLOCK", 150)
    monkeypatch.setattr(blocks, "_PIECE", 40)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 2e-6)])
@pytest.mark.parametrize("n_units", [1, 5, 3000])
def test_moments_are_those_of_all_steps(small_blocks, dtype, rtol, n_units):
    activations = ragged(n_units, dtype=dtype)
    rows, found = steps_of(activations), units.summary(activations, duplicate=None)
    for name, expected in {"mean": rows.mean(0), "spread": rows.std(0), "low": rows.min(0), "high": rows.max(0)}.items():
        np.testing.assert_allclose(found[name], expected, rtol=rtol, atol=rtol)
    np.testing.assert_array_equal(found.saturated, (np.abs(rows) >= dtype(0.95)).mean(0))
    assert not found.dead.any()
    assert found.attrs["n_steps"] == LENGTHS.sum()


@pytest.mark.parametrize("seed", range(12))
def test_any_shape_with_any_gaps_in_any_blocks(monkeypatch, seed):
    random = np.random.default_rng(seed)
    monkeypatch.setattr(blocks, "_BLOCK", int(random.choice([50, 5000])))
    monkeypatch.setattr(blocks, "_PIECE", int(random.choice([30, 700])))
    shape = random.integers(1, 12), random.integers(5, 60), random.integers(1, 70)
    values = (random.standard_normal(shape) * random.choice([0.1, 5]) + random.choice([0, 3, 50])).astype(random.choice(["f2", "f4", "f8"]))
    values[random.random(shape) < random.choice([0, 0.05])] = np.nan
    activations = padded(values, random.integers(5, shape[1] + 1, shape[0]))
    found, rows = units.summary(activations), activations.values.reshape(-1, shape[2]).astype(np.float64)
    np.testing.assert_allclose(found["mean"], np.nanmean(rows, axis=0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.spread, np.nanstd(rows, axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found.low, np.nanmin(rows, axis=0))
    np.testing.assert_array_equal(found.high, np.nanmax(rows, axis=0))


@pytest.mark.parametrize("pieces", [40, 1 << 17])
def test_a_mean_far_from_zero_keeps_its_spread_in_float32(monkeypatch, pieces):
    monkeypatch.setattr(blocks, "_PIECE", pieces)
    values = 1000 + np.random.default_rng(0).standard_normal((200, 50, 3))
    activations = padded(values.astype(np.float32), np.full(200, 50))
    np.testing.assert_allclose(units.summary(activations).spread, steps_of(activations).std(0), rtol=1e-5)


def test_a_unit_that_hardly_moves_at_the_end_of_its_range_keeps_its_spread():
    values = np.random.default_rng(0).standard_normal((50, 40, 4)).astype(np.float32)
    values[..., 2] = 0.99 + 1e-3 * np.tanh(values[..., 2])
    activations = padded(np.tanh(values), np.full(50, 40))
    activations[..., 2] = values[..., 2]
    found, rows = units.summary(activations), steps_of(activations)
    np.testing.assert_allclose(found.spread, rows.std(0), rtol=1e-4)
    np.testing.assert_array_equal(found.saturated, (np.abs(rows) >= np.float32(0.95)).mean(0))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.71, 0.95, 0.999])
def test_saturation_counts_values_at_the_very_threshold(threshold):
    at = np.float32(threshold)
    near = np.array([at, np.nextafter(at, np.float32(0)), np.nextafter(at, np.float32(1)), -at, 0.1], np.float32)
    activations = xr.DataArray(near.reshape(1, 5, 1), dims=("sample", "time", "unit"), attrs={"kind": "lstm"})
    assert units.summary(activations, saturated=threshold).saturated == 0.6


def test_a_unit_that_never_moves_is_dead_and_has_no_spread(small_blocks):
    activations = ragged(kind="lstm", dtype=np.float32)
    activations[..., 1] = activations[..., 1] * 0 + np.float32(0.3)
    found = units.summary(activations)
    assert found.dead.values.tolist() == [False, True, False, False, False]
    assert (float(found.spread[1]), float(found["mean"][1])) == (0.0, float(np.float32(0.3)))
    assert "sequences given only" in found.attrs["dead"]


def test_in_a_rectified_layer_saturated_is_the_time_at_zero():
    values = np.maximum(np.random.default_rng(0).standard_normal((7, 14, 4)) * 3, 0)
    values[..., 2] = 0
    activations = padded(values, kind="nonlinearity")
    found, rows = units.summary(activations), steps_of(activations)
    np.testing.assert_array_equal(found.saturated, (rows == 0).mean(0))
    assert found.dead.values.tolist() == [False, False, True, False]
    assert "share of time at 0" in found.attrs["saturated"]


def test_a_layer_without_ends_has_no_saturation():
    found = units.summary(ragged(kind="conv1d"))
    assert np.isnan(found.saturated).all()
    assert found.attrs["saturated"].startswith("not defined")


def test_a_mask_within_a_sequence_leaves_steps_out(small_blocks):
    activations = ragged()
    activations[1, 3:5] = np.nan  # every unit
    activations[3, 2:9, 2] = np.nan  # one
    found, rows = units.summary(activations), activations.values.reshape(-1, 5)
    np.testing.assert_allclose(found["mean"], np.nanmean(rows, axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.spread, np.nanstd(rows, axis=0), rtol=1e-12)
    np.testing.assert_array_equal(found.low, np.nanmin(rows, axis=0))


def test_a_unit_with_gaps_in_much_data():
    values = np.tanh(np.random.default_rng(0).standard_normal((60, 50, 4)).astype(np.float32))
    values[::7, ::3, 1] = np.nan
    activations = padded(values, np.full(60, 50))
    found, rows = units.summary(activations), values.reshape(-1, 4).astype(np.float64)
    np.testing.assert_allclose(found["mean"], np.nanmean(rows, axis=0), atol=1e-7)
    np.testing.assert_allclose(found.spread, np.nanstd(rows, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(found.saturated, np.nanmean(np.where(np.isnan(rows), np.nan, np.abs(rows) >= np.float32(0.95)), axis=0))


def test_one_sequence_is_a_data_set_of_one():
    activations = ragged()
    one = units.summary(activations.isel(sample=1))
    np.testing.assert_allclose(one["mean"], activations.isel(sample=1).mean("time"))
    assert one.sizes == {"unit": 5}


def test_the_order_of_the_dims_does_not_matter():
    activations = ragged()
    xr.testing.assert_allclose(units.summary(activations), units.summary(activations.transpose("unit", "time", "sample")))


def test_bidirectional_units_keep_their_direction():
    activations = ragged(4).assign_coords(direction=("unit", ["forward"] * 2 + ["backward"] * 2))
    assert units.summary(activations).direction.values.tolist() == ["forward", "forward", "backward", "backward"]


# Units that do the same


def test_duplicates_are_found_with_their_sign(small_blocks):
    activations = ragged(8, dtype=np.float32)
    activations[..., 3] = 0.5 * activations[..., 1] + 0.2
    activations[..., 6] = -activations[..., 1]
    activations[..., 7] = 0.0 * activations[..., 1]  # moves as little as unit 5: no correlation
    activations[..., 5] = 0.0 * activations[..., 1]
    found = units.summary(activations)
    assert found.duplicate_of.values.tolist() == [-1, -1, -1, 1, -1, -1, 1, -1]
    np.testing.assert_allclose(found.duplicate_correlation[[3, 6]], [1, -1], atol=1e-6)


def test_duplicates_in_much_data_are_those_of_all_correlations(monkeypatch):
    monkeypatch.setattr(blocks, "_PIECE", 1000)
    monkeypatch.setattr(blocks, "_BLOCK", 60_000)
    random = np.random.default_rng(0)
    values = random.standard_normal((100, 80, 20)).astype(np.float32)
    noise = random.standard_normal((100, 80)).astype(np.float32)
    for unit, size in {7: 0.01, 9: 0.03, 11: 0.044, 13: 0.046, 15: 0.3}.items():  # r falls below .999 about units 11 and 13
        values[..., unit] = -3 * (values[..., 2] + size * noise) + 5
    values[60:, :, 17] = values[60:, :, 16]  # alike in a part only
    activations = padded(values, random.integers(40, 81, 100))
    r = pd.DataFrame(steps_of(activations)).corr().values
    expected = [next((other for other in range(unit) if abs(r[unit, other]) >= 0.999), -1) for unit in range(20)]
    found = units.summary(activations)
    assert found.duplicate_of.values.tolist() == expected
    assert (expected[7], expected[9], expected[15], expected[17]) == (2, 2, -1, -1)
    np.testing.assert_allclose(found.duplicate_correlation[[7, 9]], r[[7, 9], 2], atol=1e-6)


def test_the_threshold_of_duplicates(small_blocks):
    activations = ragged(2)
    r = float(pd.DataFrame(steps_of(activations)).corr().iloc[0, 1])
    assert units.summary(activations, duplicate=abs(r) - 1e-9).duplicate_of.values.tolist() == [-1, 0]
    assert units.summary(activations, duplicate=abs(r) + 1e-9).duplicate_of.values.tolist() == [-1, -1]
    assert "duplicate_of" not in units.summary(activations, duplicate=None)


# What a unit follows


def brute_force(activations, X, lags):
    """Pearson's r by pandas, pair by pair: (lag, channel, unit)."""
    found = np.zeros((len(lags), X[0].shape[1], activations.sizes["unit"]))
    for at, lag in enumerate(lags):
        pairs = []
        for sample, x in enumerate(X):
            for t in range(len(x)):
                if 0 <= t - lag < len(x):
                    pairs.append(np.concatenate([x[t - lag], activations.values[sample, t]]))
        table = pd.DataFrame(pairs).corr().values
        found[at] = table[: X[0].shape[1], X[0].shape[1] :]
    return found


def test_the_strongest_lagged_correlation(small_blocks):
    random = np.random.default_rng(1)
    X = [random.standard_normal((length, 3)) + 5 for length in LENGTHS]
    activations = ragged(4)
    lags = [0, 1, 2, 3, -1, -2]
    found, expected = units.summary(activations, X=X, lags=lags), brute_force(activations, X, lags)
    flat = expected.reshape(-1, 4)
    best = np.abs(flat).argmax(axis=0)
    np.testing.assert_allclose(found.correlation, flat[best, np.arange(4)], rtol=1e-10)
    np.testing.assert_array_equal(found.lag, np.array(lags)[best // 3])
    np.testing.assert_array_equal(found.channel, best % 3)


def test_a_unit_that_follows_a_channel_has_a_positive_lag():
    random = np.random.default_rng(2)
    X = random.standard_normal((30, 60, 2))
    values = 0.1 * random.standard_normal((30, 60, 3))
    values[:, 4:, 0] -= X[:, :-4, 1]
    values[:, :-2, 1] += X[:, 2:, 0]
    values[..., 2] = 7.0
    sequences = sq.Sequences(X, channels=["a", "b"])
    found = units.summary(padded(values, np.full(30, 60)), X=sequences, lags=6)
    assert found.channel.values.tolist() == ["b", "a", ""]
    assert found.lag.values.tolist()[:2] == [4, -2]
    assert found.correlation.values[0] < -0.99
    assert np.isnan(found.correlation.values[2])


def test_a_recurrent_layer_follows_and_does_not_lead():
    X = np.random.default_rng(2).standard_normal((30, 60, 1))
    ahead = padded(np.roll(X, -2, axis=1), np.full(30, 60), kind="lstm")
    assert units.summary(ahead, X=X, lags=3).lag.values >= 0
    assert units.summary(ahead, X=X, lags=range(-3, 4)).lag == -2


def test_a_layer_on_its_own_clock_follows_from_the_middle_of_what_it_sees():
    net = nn.Sequential(nn.Conv1d(2, 2, 5, stride=2, bias=False)).double().eval()
    kernel = torch.zeros(2, 2, 5, dtype=torch.float64)
    kernel[0, 1, 2] = kernel[1, 0, 0] = 1.0  # unit 0 is channel 1 in the middle of the window, unit 1 channel 0 at its start
    net[0].weight.data = kernel
    X = [np.random.default_rng(length).standard_normal((length, 2)) for length in (*LENGTHS, 30)]
    activations = sq.Scope(net, layout="NCT").activations(X, "0")
    assert "step" in activations.dims
    found = units.summary(activations, X=X, lags=4)
    assert found.channel.values.tolist() == [1, 0]
    assert found.lag.values.tolist() == [0, 2]
    np.testing.assert_allclose(found.correlation, 1)
    by_date = sq.Sequences(X, time=[pd.date_range("2020-01-01", periods=len(x), freq="h") for x in X])
    dated = sq.Scope(net, layout="NCT").activations(by_date, "0")
    assert units.summary(dated, X=by_date, lags=4).lag.values.tolist() == [0, 2]


# Which class a unit tells apart


@pytest.mark.parametrize("by", ["mean", "last", "max"])
def test_selectivity_is_the_auroc_of_one_class_against_the_rest(small_blocks, by):
    activations, y = ragged(6), np.array(["a", "b", "a", "c", "c", "b", "a"])
    activations[..., 3] = activations[..., 3].round()  # ties
    last = [activations.values[sample, length - 1] for sample, length in enumerate(LENGTHS)]
    figures = {"mean": np.nanmean(activations, axis=1), "max": np.nanmax(activations, axis=1), "last": np.stack(last)}[by]
    found = units.summary(activations, y, by=by)
    assert found.label.values.tolist() == ["a", "b", "c"]
    expected = [[roc_auc_score(y == label, figures[:, unit]) for label in "abc"] for unit in range(6)]
    np.testing.assert_allclose(found.selectivity, expected, rtol=1e-12)


# Gates


def states_of(kind, gates, seed=3):
    random = np.random.default_rng(seed)
    names = ("h", "c", "i", "f", "g", "o") if kind == "lstm" else ("h", "r", "z", "n")
    return xr.Dataset({name: padded(random.beta(0.5, 0.5, (len(LENGTHS), LENGTHS.max(), gates))) for name in names})


@pytest.mark.parametrize(("kind", "gates", "keeps"), [("lstm", "ifo", "f"), ("gru", "rz", "z")])
def test_saturated_gates_and_half_life(small_blocks, kind, gates, keeps):
    states = states_of(kind, 4)
    found = units.summary(states.h, states=states)
    assert found.gate.values.tolist() == list(gates)
    for gate in gates:
        rows = steps_of(states[gate])
        np.testing.assert_allclose(found.left_saturated.sel(gate=gate), (rows < 0.1).mean(0))
        np.testing.assert_allclose(found.right_saturated.sel(gate=gate), (rows > 0.9).mean(0))
    np.testing.assert_allclose(found.half_life, -np.log(2) / np.log(steps_of(states[keeps])).mean(0), rtol=1e-10)


def test_a_gate_that_is_always_open_never_forgets():
    states = states_of("lstm", 2)
    states.f[..., 0] = states.f[..., 0] * 0 + 1
    states.f[2, 3, 1] = 0
    assert units.summary(states.h, states=states).half_life.values.tolist() == [np.inf, 0]


def test_states_of_both_directions_go_to_their_units(make_reader):
    X = [np.random.default_rng(length).standard_normal((length, 3)) for length in LENGTHS]
    scope = sq.Scope(make_reader(bidirectional=True))
    states = scope.states(X, "rnn")
    found = units.summary(scope.activations(X, "rnn"), states=states)
    rows = steps_of(states.f.isel(direction=1))
    np.testing.assert_allclose(found.half_life[5:], -np.log(2) / np.log(rows).mean(0))
    np.testing.assert_allclose(found.right_saturated.sel(gate="o")[:5], (steps_of(states.o.isel(direction=0)) > 0.9).mean(0))


# Arrays in chunks, and the shipped network


def test_an_array_in_chunks_gives_the_same_and_is_never_held_whole(monkeypatch):
    activations, states, y = ragged(4, dtype=np.float32), states_of("lstm", 4), np.array([0, 1, 0, 1, 1, 0, 0])
    X = [np.random.default_rng(length).standard_normal((length, 2)) for length in LENGTHS]
    whole = units.summary(activations, y, X, states)
    monkeypatch.setattr(blocks, "_BLOCK", 100)
    read = []

    def seen(block):
        read.append(block.shape[0])
        return block

    lazy = activations.copy(data=dask.array.from_array(activations.values, chunks=(2, 14, 2)).map_blocks(seen, dtype=np.float32))
    read.clear()
    xr.testing.assert_allclose(units.summary(lazy, y, X, states.chunk(sample=3)), whole)
    assert max(read) == 2
    assert sum(read) == len(LENGTHS) * 2  # each chunk once


def test_the_japanese_vowels_network():
    scope = sq.Scope(sq.zoo.japanese_vowels())
    X, y = sq.datasets.japanese_vowels("test")
    hidden, states = scope.activations(X, "lstm"), scope.states(X, "lstm")
    found, rows = units.summary(hidden, y, X, states), steps_of(hidden)
    np.testing.assert_allclose(found["mean"], rows.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.spread, rows.std(0), rtol=1e-5)
    np.testing.assert_allclose(found.half_life, scope.memory(X, "lstm").half_life, rtol=1e-5)
    figures = np.nanmean(hidden.values.astype(np.float64), axis=1)
    np.testing.assert_allclose(found.selectivity[17, 4], roc_auc_score(np.asarray(y) == "5", figures[:, 17]))
    assert found.attrs["layer"] == "lstm"
    assert "0.95" in found.attrs["saturated"]


# What can't be used


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda a: a.isel(time=0, drop=True), {}, "no time axis"),
        (lambda a: a.isel(unit=0, drop=True), {}, "no units"),
        (lambda a: a.expand_dims(direction=2), {}, "a dim 'direction' besides 'time' and 'unit'"),
        (lambda a: a.values, {}, "a ndarray was given"),
        (lambda a: a.to_dataset(name="h"), {}, "take one of its arrays"),
        (lambda a: a.isel(sample=slice(0)), {}, "is empty"),
        (lambda a: a > 0, {}, "an array of bool"),
        (lambda a: a.where(a.unit != 2), {}, "Unit 2 is NaN at every step"),
        (lambda a: a * np.nan, {}, "Every unit is NaN"),
        (lambda a: a, {"y": [0, 1]}, r"y has shape \(2,\) and the activations 7 sequences"),
        (lambda a: a, {"y": [1] * 7}, "y holds one class, 1"),
        (lambda a: a, {"y": np.arange(7) / 3}, "expected classes"),
        (lambda a: a, {"y": xr.DataArray(np.arange(7) % 2, dims="sample", coords={"sample": np.arange(7) + 1})}, "y has other samples"),
        (lambda a: a, {"y": np.arange(7) % 2, "by": "median"}, "by is 'median': say one of 'mean', 'last', 'max'"),
        (lambda a: a, {"X": np.zeros((3, 14, 2))}, "X holds 3 sequences, .* and the activations 7 sequences"),
        (lambda a: a, {"X": np.zeros((7, 14, 2))}, "X has 14 steps in sample 0 and the activations come from 9"),
        (lambda a: a.drop_vars("length"), {"X": np.zeros((7, 13, 2))}, "the activations 14 steps"),
        (lambda a: a, {"X": np.zeros((7, 14), int)}, "X is tokens"),
        (lambda a: a, {"X": sq.Sequences([np.zeros((n, 2)) for n in LENGTHS], samples=list("abcdefg"))}, "X has other samples"),
        (lambda a: a, {"X": [np.zeros((n, 2)) for n in LENGTHS], "lags": 1.5}, "lags is 1.5"),
        (lambda a: a, {"X": [np.zeros((n, 2)) for n in LENGTHS], "lags": []}, r"lags is \[\]"),
        (lambda a: a, {"saturated": 2}, "saturated is 2: expected a number above 0, at most 1"),
        (lambda a: a, {"duplicate": 0}, "duplicate is 0: expected a number above 0"),
        (lambda a: a, {"states": {}}, "states is a dict"),
        (lambda a: a, {"states": states_of("lstm", 4)}, "The gate i has 7 samples and 4 units"),
    ],
)
def test_what_can_not_be_used_is_refused_in_a_sentence(change, options, message):
    with pytest.raises(errors.DataError, match=message):
        units.summary(change(ragged()), **options)


def test_infinity_is_refused_with_its_place(small_blocks):
    activations = ragged()
    activations[4, 2, 3] = np.inf
    with pytest.raises(errors.DataError, match="Unit 3 is infinite at step 2 of sample 4"):
        units.summary(activations)


def test_states_without_gates_and_steps_without_a_place_are_refused():
    with pytest.raises(errors.UnsupportedError, match="have no gates"):
        units.summary(ragged(), states=xr.Dataset({"h": ragged(), "a": ragged()}))
    with pytest.raises(errors.UnsupportedError, match="not known: expected the coordinates 'time', 'time_start'"):
        units.summary(ragged().rename(time="step").drop_vars("length"), X=[np.zeros((n, 2)) for n in LENGTHS])


def test_missing_classes_cut_activations_and_a_model_for_a_scope_are_refused():
    X, y = sq.datasets.japanese_vowels("test")
    X, y = X[:6], y[:6]
    scope = sq.Scope(sq.zoo.japanese_vowels())
    hidden = scope.activations(X, "lstm")
    for missing in (None, np.nan):
        with pytest.raises(errors.DataError, match="y has no class for sample 2"):
            sq.units.summary(hidden, [*y[:2], missing, *y[3:]])
    assert sq.units.summary(hidden, np.array([1, "a", 1, "a", 1, "a"], object)).label.values.tolist() == ["1", "a"]
    with pytest.raises(errors.DataError, match="have 15 steps and the longest input 24"):
        sq.units.summary(hidden.isel(time=slice(2, 17)), X=X)
    with pytest.raises(errors.DataError, match="expected the Scope of a model"):
        sq.units.ablation(scope.model, X, "lstm")
