"""Windows of the input: a search by hand in plain loops, planted peaks, and convolutions whose receptive field is known."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import seqscope as sq
from seqscope import errors, units
from seqscope.units import blocks

LENGTHS = np.array([30, 44, 12, 44, 25])


def data(n_channels=2, seed=0):
    random = np.random.default_rng(seed)
    return sq.Sequences([random.standard_normal((n, n_channels)) for n in LENGTHS], labels=list("ababa"))


def hidden(n_units=3, seed=1, **attrs):
    values = np.random.default_rng(seed).standard_normal((len(LENGTHS), LENGTHS.max(), n_units))
    values[np.arange(LENGTHS.max()) >= LENGTHS[:, None]] = np.nan
    coords = {"sample": np.arange(len(LENGTHS)), "length": ("sample", LENGTHS), "label": ("sample", list("ababa"))}
    return xr.DataArray(values, dims=("sample", "time", "unit"), coords=coords, attrs={"kind": "lstm"} | attrs)


def by_hand(values, k, before, after, size):
    """The best windows, one after the other, by looking at every step each time."""
    steps = [(size(values[s, t]), s, t) for s, n in enumerate(LENGTHS) for t in range(n)]
    found = []
    for _, s, t in sorted(steps, key=lambda step: -step[0]):
        window = max(t - before, 0), min(t + after + 1, LENGTHS[s])
        if all(s != other or window[1] <= start or window[0] >= stop for other, start, stop, _ in found):
            found.append((s, *window, t))
    return found[:k]


def places(windows):
    return list(zip(*(windows[name].values.tolist() for name in ("sample", "start", "stop", "peak")), strict=True))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK", 300)


@pytest.mark.parametrize(
    ("sign", "size"), [("positive", lambda value: value), ("negative", lambda value: -value), ("both", abs)], ids=["high", "low", "both"]
)
@pytest.mark.parametrize(("steps", "before", "after"), [(None, 19, 0), (7, 6, 0), (1, 0, 0), ((2, 3), 2, 3)])
def test_the_best_windows_do_not_overlap(small_blocks, sign, size, steps, before, after):
    activations, X = hidden(), data()
    found = units.top_windows(activations, X, 1, k=8, steps=steps, sign=sign)
    assert places(found) == by_hand(activations.values[..., 1], 8, before, after, size)
    assert found.time.values.tolist() == list(range(-before, after + 1))
    for row, (sample, start, stop, peak) in enumerate(places(found)):
        inside = found.isel(window=row).dropna("time", how="all", subset=["input"])
        np.testing.assert_array_equal(inside.input, X[sample].values[start:stop])
        np.testing.assert_array_equal(inside.activation, activations.values[sample, start:stop, 1])
        assert inside.time.values.tolist() == list(range(start - peak, stop - peak))
        assert found.score[row] == activations.values[sample, peak, 1] == found.activation[row].sel(time=0)
        assert found.label[row] == "ababa"[sample]


def test_fewer_windows_than_asked_for_where_there_are_no_more():
    found = units.top_windows(hidden(), data(), 0, k=100, steps=40)
    assert 5 <= found.sizes["window"] < 12


def test_samples_go_by_their_ids_and_channels_by_their_names():
    X = sq.Sequences(data(), samples=[f"s{n}" for n in range(5)], channels=["x", "y"])
    activations = hidden().assign_coords(sample=X.samples)
    activations[3, 7, 2] = 9
    found = units.top_windows(activations, X, 2, k=1)
    assert (found.sample.item(), found.peak.item(), found.start.item()) == ("s3", 7, 0)
    assert found.channel.values.tolist() == ["x", "y"]
    assert np.isnan(found.input.sel(time=slice(None, -8))).all()


def test_a_backward_unit_looks_ahead():
    activations = hidden(4).assign_coords(direction=("unit", ["forward"] * 2 + ["backward"] * 2))
    activations[3, 7, :] = 9
    assert places(units.top_windows(activations, data(), 1, k=1, steps=5)) == [(3, 3, 8, 7)]
    found = units.top_windows(activations, data(), 2, k=1, steps=5)
    assert places(found) == [(3, 7, 12, 7)]
    assert found.time.values.tolist() == [0, 1, 2, 3, 4]


def test_one_sequence():
    found = units.top_windows(hidden().isel(sample=1), data()[1], 0, k=2, steps=3)
    assert found.sample.values.tolist() == [1, 1]


def test_the_window_of_a_convolution_is_what_its_step_sees():
    net = nn.Sequential(nn.Conv1d(2, 4, 3, stride=2), nn.ReLU(), nn.Conv1d(4, 3, 2)).double().eval()
    X, scope = data(), sq.Scope(net, layout="NCT")
    activations = scope.activations(X, "2")
    found = units.top_windows(activations, X, 1, k=6)
    assert found.sizes["time"] == 5
    assert found.time.values.tolist() == [-2, -1, 0, 1, 2]
    for row, (_, start, stop, peak) in enumerate(places(found)):
        assert (stop - start, peak - start) == (5, 2)
        window = torch.from_numpy(found.input.values[row].T[None])
        assert net(window)[0, 1, 0].item() == pytest.approx(found.score[row].item())  # nothing else drives it
        assert found.activation[row].sel(time=0) == found.score[row]
        assert np.isfinite(found.activation[row]).values.tolist()[1::2] == [False, False]  # one step of the layer every two


def test_a_window_may_be_cut_off_by_the_ends_where_a_convolution_pads():
    net = nn.Sequential(nn.Conv1d(2, 3, 3, padding=1, stride=2)).double().eval()
    X = sq.Sequences([np.ones((8, 2)), np.ones((6, 2))])
    activations = sq.Scope(net, layout="NCT").activations(X, "0")
    assert "step" in activations.dims
    activations[1, 0, 2] = 9.0
    found = units.top_windows(activations, X, 2, k=1)
    assert places(found) == [(1, 0, 2, 0)]
    assert units.top_windows(activations, X, 2, k=1, steps=5).stop == 3


def test_a_convolution_on_the_clock_of_the_input_needs_its_width():
    with pytest.raises(errors.UnsupportedError, match=r"\(conv1d\) sees of the input is not in the array.*steps="):
        units.top_windows(hidden(kind="conv1d"), data(), 0)
    activations = hidden(kind="conv1d")
    activations[1, 9, 0] = 9
    assert places(units.top_windows(activations, data(), 0, k=1, steps=5)) == [(1, 7, 12, 9)]
    assert places(units.top_windows(activations, data(), 0, k=1, steps=(4, 0))) == [(1, 5, 10, 9)]


def test_an_array_in_chunks_gives_the_same(monkeypatch):
    activations, X = hidden(), data()
    whole = units.top_windows(activations, X, 1)
    monkeypatch.setattr(blocks, "_BLOCK", 300)
    xr.testing.assert_identical(units.top_windows(activations.chunk(sample=2, unit=1), X, 1), whole)


def test_a_unit_that_never_moves_is_said_to():
    activations = hidden()
    activations[..., 1] = activations[..., 1] * 0
    with pytest.warns(UserWarning, match="Unit 1 is 0 at every step"):
        units.top_windows(activations, data(), 1)


def test_the_japanese_vowels_network():
    X, _ = sq.datasets.japanese_vowels("test")
    activations = sq.Scope(sq.zoo.japanese_vowels()).activations(X, "lstm")
    found = units.top_windows(activations, X, 17, k=5, steps=6)
    assert found.score[0] == activations.sel(unit=17).max()
    assert found.attrs["unit"] == 17
    assert found.attrs["layer"] == "lstm"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": 3}, "There is no unit 3: there are 3 units, 0 to 2"),
        ({"unit": [1, 2]}, r"There is no unit \[1, 2\]"),
        ({"unit": np.array([1, 2])}, "There is no unit"),
        ({"unit": "a"}, "There is no unit 'a'"),
        ({"k": 0}, "k is 0: expected a whole number, 1 or more"),
        ({"k": 2.5}, "k is 2.5"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": (1, -1)}, r"steps\[1\] is -1"),
        ({"sign": "up"}, "sign is 'up': say one of 'positive', 'negative', 'both'"),
        ({"X": np.zeros((2, 44, 1))}, "X holds 2 sequences"),
        ({"activations": hidden().where(hidden().unit != 1)}, "Unit 1 is NaN at every step"),
    ],
)
def test_what_can_not_be_used_is_refused_in_a_sentence(options, message):
    with pytest.raises(errors.DataError, match=message):
        units.top_windows(**{"activations": hidden(), "X": data(), "unit": 1} | options)
