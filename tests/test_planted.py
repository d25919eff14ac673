"""Planted patterns: what is planted is compared with series written out one by one, and a small net has to learn the classes."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seqscope.datasets import planted
from seqscope.errors import DataError

NAMES = ["sine", "ramp", "bump", "peaks", "chirp"]


@st.composite
def options(draw):
    """What can be asked for: even or ragged, one channel or several, every kind of place, patterns for all channels or for each."""
    n, width, n_channels = draw(st.integers(1, 9)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    shortest = width + draw(st.integers(0, 5))
    channel = draw(st.lists(st.integers(0, n_channels - 1), min_size=1, unique=True))
    shape = (draw(st.integers(2, 4)), width, *([len(channel)] if draw(st.booleans()) else []))
    inside = st.integers(0, shortest - width)
    return {
        "n": n,
        "length": (shortest, shortest + draw(st.integers(0, 5))) if draw(st.booleans()) else shortest,
        "n_channels": n_channels,
        "pattern": np.random.default_rng(draw(st.integers(0, 99))).normal(size=shape),
        "channel": channel,
        "place": draw(st.one_of(st.just("random"), inside, st.lists(inside, min_size=n, max_size=n))),
        "seed": draw(st.integers(0, 99)),
    }


@given(options())
def test_without_noise_there_is_the_pattern_where_the_truth_says_and_nothing_elsewhere(asked):
    X, y, truth = planted(**asked, noise=0.0)
    pattern, width = asked["pattern"], asked["pattern"].shape[1]
    per_channel = np.broadcast_to(pattern[..., None] if pattern.ndim == 2 else pattern, (*pattern.shape[:2], len(asked["channel"])))
    shortest, longest = np.broadcast_to(asked["length"], 2)
    assert (len(X), X.n_channels) == (asked["n"], asked["n_channels"])
    assert truth.dims == ("sample", "time", "channel")
    assert truth.dtype == bool
    assert truth.shape == (len(X), X.lengths.max(), X.n_channels)
    for row, series in enumerate(X):
        place = int(truth.place[row])
        assert shortest <= len(series) <= longest
        assert 0 <= place <= len(series) - width
        if asked["place"] != "random":
            assert place == np.broadcast_to(asked["place"], len(X))[row]
        wanted, inside = np.zeros(series.shape), np.zeros(truth.shape[1:], bool)
        for step in range(width):
            for position, channel in enumerate(asked["channel"]):
                wanted[place + step, channel] = per_channel[int(y[row]), step, position]
                inside[place + step, channel] = True
        np.testing.assert_array_equal(series, wanted)
        np.testing.assert_array_equal(truth[row], inside)


@given(options(), st.floats(0.1, 3.0), st.sampled_from([0.0, 0.7, -0.4]))
def test_noise_is_added_to_the_same_patterns_at_the_same_places(asked, noise, autocorrelation):
    clean, y, truth = planted(**asked, noise=0.0)
    noisy, y_noisy, truth_noisy = planted(**asked, noise=noise, autocorrelation=autocorrelation)
    twice, _, _ = planted(**asked, noise=2 * noise, autocorrelation=autocorrelation)
    np.testing.assert_array_equal(y_noisy, y)
    xr.testing.assert_equal(truth_noisy, truth)
    for one, other, third in zip(clean, noisy, twice, strict=True):
        assert (other != one).all(), "noise on every channel and at every step"
        np.testing.assert_allclose(third - one, 2 * (other - one), atol=1e-12)


@given(options())
def test_the_same_seed_gives_the_same_data_and_another_seed_other_noise(asked):
    (X, y, truth), (again, y_again, truth_again) = planted(**asked), planted(**asked)
    for one, other in zip(X, again, strict=True):
        xr.testing.assert_identical(one, other)
    np.testing.assert_array_equal(y, y_again)
    xr.testing.assert_identical(truth, truth_again)
    other, _, _ = planted(**asked | {"seed": asked["seed"] + 1})
    shared = min(len(X[0]), len(other[0]))
    assert (X[0].values[:shared] != other[0].values[:shared]).all()


def test_a_call_leaves_the_global_random_state_alone():
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    planted(5)
    assert np.random.random() == expected


@given(st.integers(1, 40), st.integers(2, 5), st.integers(0, 99))
def test_there_are_equally_many_of_each_class_or_one_more(n, n_classes, seed):
    X, y, truth = planted(n, pattern=NAMES[:n_classes], seed=seed)
    counts = [int((y == name).sum()) for name in NAMES[:n_classes]]
    assert sum(counts) == n
    assert max(counts) - min(counts) <= 1
    assert X.outputs == tuple(NAMES[:n_classes])
    np.testing.assert_array_equal(X.labels, y)
    np.testing.assert_array_equal(truth.label, y)


def test_the_order_of_the_classes_and_the_place_say_nothing_of_each_other():
    _, y, truth = planted(4000, length=40)
    second = y == "peaks"
    assert abs((second[1:] == second[:-1]).mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)
    assert abs(np.corrcoef(second, truth.place)[0, 1]) < 4 / np.sqrt(4000)


def test_lengths_and_places_are_equally_likely_wherever_the_pattern_fits():
    X, _, truth = planted(12000, length=(9, 11), n_channels=1, width=8)
    assert np.bincount(X.lengths)[9:] == pytest.approx([4000] * 3, rel=0.06)
    for length in (9, 10, 11):
        places = truth.place[X.lengths == length]
        assert np.bincount(places) / len(places) == pytest.approx([1 / (length - 7)] * (length - 7), rel=0.1)


@pytest.mark.parametrize("autocorrelation", [0.0, 0.9, -0.5])
def test_the_noise_has_its_deviation_at_every_step_and_its_autocorrelation(autocorrelation):
    X, _, truth = planted(4000, length=30, n_channels=2, noise=0.7, autocorrelation=autocorrelation, place=10)
    (values,) = (batch.values for batch in X.batches(len(X)))
    assert truth[:, 10, 0].all()
    assert values[..., 1].std(axis=0) == pytest.approx(np.full(30, 0.7), rel=0.06)
    assert values[:, :10].mean(axis=0) == pytest.approx(np.zeros((10, 2)), abs=0.06)
    for step in (1, 29):
        assert np.corrcoef(values[:, step - 1, 1], values[:, step, 1])[0, 1] == pytest.approx(autocorrelation, abs=0.07)
        assert np.corrcoef(values[:, step, 0], values[:, step, 1])[0, 1] == pytest.approx(0.0, abs=0.07)


@given(st.integers(8, 64))
def test_named_patterns_differ_in_shape_alone_and_in_no_shift_of_one_another(width):
    X, y, _ = planted(5, length=width, n_channels=1, pattern=NAMES, width=width, noise=0.0)
    shapes = {name: series.values[:, 0] for name, series in zip(y, X, strict=True)}
    for name, shape in shapes.items():
        assert shape.mean() == pytest.approx(0.0, abs=1e-12)
        assert (shape**2).mean() == pytest.approx(1.0)
        for other in set(shapes) - {name}:
            assert np.correlate(shape, shapes[other], "full").max() / width < 0.8
    assert (np.diff(shapes["ramp"]) > 0).all()
    np.testing.assert_allclose(shapes["sine"], -shapes["sine"][::-1], atol=1e-12)
    for even in ("bump", "peaks"):
        np.testing.assert_allclose(shapes[even], shapes[even][::-1], atol=1e-12)


def test_where_a_class_has_zeros_alone_nothing_was_planted():
    """The first class shows in channel 2, the second in channel 0, and a zero inside a pattern is a part of it."""
    pattern = np.zeros((3, 4, 2))
    pattern[0, :, 0], pattern[1, :, 1] = [0, 1, 0, 2], 1
    X, y, truth = planted(30, length=(6, 9), n_channels=3, channel=[2, 0], pattern=pattern)
    assert X.outputs == ("0", "1", "2")
    for name, counts in {"0": [0, 0, 4], "1": [4, 0, 0], "2": [0, 0, 0]}.items():
        assert (truth[y == name].sum("time") == counts).all()


def test_the_truth_lies_beside_the_data_sample_by_sample(tmp_path):
    X, _, truth = planted(20, length=(60, 100), n_channels=9, channel=[1, 7], noise=0.0)
    for row in (0, 7, 19):
        seen = X[row].where(truth[row], drop=True)
        assert seen.shape == (20, 2)
        assert int(seen.time[0]) == int(truth.place[row])
        assert list(seen.channel.values) == [1, 7]
    inside = truth.where(truth.time < truth.length)
    np.testing.assert_array_equal(inside.isnull().all("channel").sum("time"), X.lengths.max() - X.lengths)
    assert float(inside.mean()) == pytest.approx(20 * 2 / (9 * X.lengths.mean()))
    truth.to_netcdf(tmp_path / "truth.nc", engine="h5netcdf")
    with xr.open_dataarray(tmp_path / "truth.nc", engine="h5netcdf") as read:
        xr.testing.assert_equal(read, truth)
        assert list(read.attrs["patterns"]) == ["sine", "peaks"]


class Convolutions(nn.Module):
    """Two convolutions, the mean over a series' own steps, and a dense layer."""

    def __init__(self, channels):
        super().__init__()
        self.features = nn.Sequential(nn.Conv1d(channels, 16, 7, padding=3), nn.ReLU(), nn.Conv1d(16, 16, 7, padding=3), nn.ReLU())
        self.fc = nn.Linear(16, 2)

    def forward(self, x, lengths):
        inside = torch.arange(x.shape[2]) < lengths[:, None]
        return self.fc((self.features(x) * inside[:, None]).sum(dim=2) / lengths[:, None])


def tensors(X, y):
    (batch,) = X.padded_batches(len(X))
    classes = torch.tensor([X.outputs.index(name) for name in y[batch.rows]])
    return torch.tensor(batch.values, dtype=torch.float32).transpose(1, 2).contiguous(), torch.tensor(batch.lengths), classes


@pytest.mark.parametrize("length", [300, (60, 100)])
def test_a_small_convolutional_net_learns_the_classes_of_another_seed(length):
    torch.manual_seed(0)
    x, lengths, classes = tensors(*planted(600, length=length, n_channels=9, channel=4)[:2])
    net = Convolutions(9)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(8):
        for rows in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[rows], lengths[rows]), classes[rows]).backward()
            optimizer.step()
    x, lengths, classes = tensors(*planted(400, length=length, n_channels=9, channel=4, seed=1)[:2])
    with torch.no_grad():
        assert (net(x, lengths).argmax(dim=1) == classes).float().mean() > 0.95


FIT = np.eye(2, 5)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"n": 0}, "`n`, the number of series, is 0: expected a whole number, 1 or more"),
        ({"n": 2.0}, "is 2.0: expected a whole number"),
        ({"n_channels": 0}, "`n_channels` is 0"),
        ({"seed": -1}, "`seed` is -1: expected a whole number, 0 or more"),
        ({"seed": None}, "`seed` is None"),
        ({"length": 19}, "The pattern has 20 steps and the shortest series 19"),
        ({"length": (4, 90), "pattern": FIT}, "The pattern has 5 steps and the shortest series 4"),
        ({"length": (90, 60)}, "The lengths go from 90 to 60: expected the shortest first"),
        ({"length": 60.5}, "The length is 60.5: expected a number of steps, or the shortest and the longest"),
        ({"length": (60, 70, 80)}, "The length is (60, 70, 80)"),
        ({"length": (60, 70.0)}, "is 70.0: expected a whole number"),
        ({"length": (0, 70)}, "is 0: expected a whole number, 1 or more"),
        ({"pattern": ["sine", "rump"]}, "There is no pattern 'rump': the nearest are 'ramp', 'bump'"),
        ({"pattern": np.array(["sine", "rump"])}, "There is no pattern 'rump': the nearest are 'ramp', 'bump'"),
        ({"pattern": "sine"}, "The pattern is 'sine': expected a list, one pattern for each class"),
        ({"pattern": ["sine"]}, "There is one pattern: expected two or more"),
        ({"pattern": ["sine", "ramp", "sine"]}, "The classes 'sine', 'sine' have the same pattern"),
        ({"pattern": np.ones((2, 5))}, "The classes '0', '1' have the same pattern"),
        ({"pattern": ["sine", [1.0, 2.0]]}, "no array of numbers and no list of names"),
        ({"pattern": []}, "shape (0,): expected (class, step) or (class, step, channel)"),
        ({"pattern": np.ones(5)}, "shape (5,): expected (class, step) or (class, step, channel)"),
        ({"pattern": FIT[..., None], "channel": [0, 1]}, "(2, 5, 1), (class, step, channel), and `channel` names 2"),
        ({"pattern": FIT * np.nan}, "The pattern holds NaN or infinity"),
        ({"pattern": FIT, "width": 6}, "`width` is 6 and the pattern was given with 5 steps"),
        ({"width": 7}, "`width`, the number of steps of a pattern given by name, is 7: expected a whole number, 8 or more"),
        ({"channel": 3}, "There is no channel 3 to plant in: the positions go from 0 to 2"),
        ({"channel": [0, -1]}, "There is no channel -1"),
        ({"channel": [1, 1]}, "The channels are [1, 1]: expected each of them once"),
        ({"channel": []}, "The channel is []: expected a position"),
        ({"channel": "a"}, "The channel is 'a': expected a position"),
        ({"place": 81}, "The place is 81, outside: the pattern fits in the shortest series from step 0 to 80"),
        ({"place": -1}, "The place is -1, outside"),
        ({"place": 41, "length": (60, 100)}, "The place is 41, outside: the pattern fits in the shortest series from step 0 to 40"),
        ({"n": 3, "place": [0, 80, 81]}, "The place of sample 2 is 81, outside"),
        ({"n": 3, "place": [0, 80]}, "The places have shape (2,): expected one step, or one for each of the 3 series"),
        ({"place": 1.5}, "The place is 1.5: expected the first step"),
        ({"place": [[1], [1, 2]]}, "expected the first step"),
        ({"place": "randm"}, "There is no place 'randm': the nearest is 'random', or give the first step"),
        ({"noise": -0.1}, "The noise is -0.1: expected a standard deviation"),
        ({"noise": np.nan}, "The noise is nan"),
        ({"noise": "white"}, "The noise is 'white'"),
        ({"autocorrelation": 1.0}, "The autocorrelation of the noise is 1.0: expected a number between -1 and 1"),
    ],
)
def test_what_can_not_be_planted_is_refused_in_a_sentence(asked, words):
    with pytest.raises(DataError) as caught:
        planted(**asked)
    assert words in str(caught.value)
