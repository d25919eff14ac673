"""Occlusion, ablation and rescaling: against captum, the papers' own loops in NumPy, and a linear net that tells what was filled in."""

import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from captum.attr import FeatureAblation as CaptumAblation
from captum.attr import Occlusion as CaptumOcclusion
from torch import nn

import seqscope as sq
from nets import Net, series
from seqscope.attribution import FeatureAblation, IntegratedGradients, Occlusion, TemporalSaliencyRescaling
from seqscope.engines.base import HasGradients
from seqscope.errors import UnsupportedError

WEIGHTS = np.array([0.5, -2.0, 1.5])
LENGTHS = (7, 4, 9, 4, 2, 9)


def reader(outputs=1):
    """A net that bends, so that windows are more than the sum of their values; one output is a regression and warns of nothing."""
    torch.manual_seed(0)
    return Net(lambda net, x: net.fc(net.rnn(x)[0][:, -1]), rnn=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, outputs))


def linear():
    """The sum over time of weighted channels: what a value is replaced with is x - drop / weight."""
    net = Net(lambda net, x: net.fc(x.sum(1)), fc=nn.Linear(3, 1))
    with torch.no_grad():
        net.fc.weight.copy_(torch.from_numpy(WEIGHTS))
        net.fc.bias.fill_(7)
    return net


def speller():
    """Tokens 0 to 7, read one after the other."""
    torch.manual_seed(0)
    return Net(lambda net, x: net.fc(net.rnn(net.emb(x))[0][:, -1]), emb=nn.Embedding(8, 4), rnn=nn.GRU(4, 5, batch_first=True),
               fc=nn.Linear(5, 1))  # fmt: skip


def ragged(lengths=LENGTHS, **options):
    return sq.Sequences([series(1, length, seed=10 + place)[0] for place, length in enumerate(lengths)], **options)


def words(lengths=LENGTHS):
    random = np.random.default_rng(3)
    return [random.integers(1, 8, length) for length in lengths]


def score_of(net, output=0):
    """One sequence's score, by the net itself."""

    def score(x):
        with torch.no_grad():
            return float(net(torch.from_numpy(np.ascontiguousarray(x))[None])[0, output])

    return score


def occluded(score, x, fill, *, window=1, stride=None, each=True):
    """Occlusion as one would write it on paper, of one sequence."""
    stride = stride or max(1, window // 2)
    starts = [0]
    while starts[-1] + window < len(x):
        starts.append(starts[-1] + stride)
    total, count = np.zeros(x.shape), np.zeros(x.shape)
    for start in starts:
        for channels in [[c] for c in range(x.shape[1])] if each else [list(range(x.shape[1]))]:
            hidden = np.zeros(x.shape, bool)
            hidden[start : start + window, channels] = True
            total[hidden] += score(x) - score(np.where(hidden, fill, x))
            count[hidden] += 1
    return total / count


def fill_read_back(X, **options):
    """What stood in place of each value, read from the linear net's answers."""
    X = X if isinstance(X, sq.Sequences) else sq.Sequences(X)
    found = sq.Scope(linear()).attribute(X, "occlusion", **options).values
    found = found[None] if X.single else found
    return [one.values - found[row, : len(one)] / WEIGHTS for row, one in enumerate(X)]


def same(found, expected, **tolerance):
    tolerance = tolerance or {"rtol": 0, "atol": 1e-10 if np.asarray(found).dtype == np.float64 else 1e-7}
    np.testing.assert_allclose(found, expected, **tolerance)


# Occlusion

WINDOWS = [(1, None), (2, None), (3, 1), (4, 3), (5, 5), (8, 3), (9, None), (9, 9)]


@pytest.mark.parametrize("channels", ["each", "all"])
@pytest.mark.parametrize(("window", "stride"), WINDOWS)
def test_occlusion_is_captums(window, stride, channels):
    """Windows that divide the 9 steps, that are cut by the end, and the whole series."""
    net, x = reader(3), torch.from_numpy(series())
    chosen = net(x).argmax(1)  # the predicted output is the default
    width = 1 if channels == "each" else 3
    expected = (
        CaptumOcclusion(net)
        .attribute(x, target=chosen, sliding_window_shapes=(window, width), strides=(stride or max(1, window // 2), width))
        .numpy()
    )
    found = sq.Scope(net).attribute(x.numpy(), "occlusion", window=window, stride=stride, channels=channels)
    same(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())  # captum's masks are float32
    assert np.abs(expected).max() > 1e-2
    assert list(found.target.values) == chosen.tolist()


@pytest.mark.parametrize("base", [0.7, [0.1, 0.2, 0.3]])
def test_occlusion_of_other_values_is_captums(base):
    net, x = reader(), torch.from_numpy(series())
    against = torch.tensor(base, dtype=torch.float64).expand(x.shape).contiguous()
    expected = CaptumOcclusion(net).attribute(x, target=0, sliding_window_shapes=(3, 1), strides=(2, 1), baselines=against)
    same(sq.Scope(net).attribute(x.numpy(), "occlusion", window=3, stride=2, baseline=base), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("window", "stride", "channels"), [(1, None, "each"), (3, 2, "each"), (2, 1, "all")])
def test_occlusion_of_ragged_data_is_that_of_each_alone(window, stride, channels):
    X, net = ragged(), reader()
    found = sq.Scope(net).attribute(X, "occlusion", window=window, stride=stride, channels=channels) if window < 3 else None
    if found is None:
        with pytest.warns(UserWarning, match="hidden whole"):
            found = sq.Scope(net).attribute(X, "occlusion", window=window, stride=stride, channels=channels)
    for row, one in enumerate(X):
        expected = occluded(score_of(net), one.values, 0, window=window, stride=stride, each=channels == "each")
        same(found.values[row, : len(one)], expected)
        assert np.isnan(found.values[row, len(one) :]).all()
        assert found.score[row] == pytest.approx(score_of(net)(one.values))


def test_occlusion_of_a_linear_net_is_known():
    """Of single values the part that each has in the score; of a window its sum, in the mean over the windows that cover a step."""
    x = series()
    scope = sq.Scope(linear())
    same(scope.attribute(x, "occlusion"), WEIGHTS * x)
    part = (WEIGHTS * x).sum(2)
    found = scope.attribute(x, "occlusion", window=5, stride=3, channels="all")  # 0-4, 3-7, 6-8
    first, second, third = (part[:, start : start + 5].sum(1) for start in (0, 3, 6))
    expected = np.stack([first] * 3 + [(first + second) / 2] * 2 + [second] + [(second + third) / 2] * 2 + [third], axis=1)
    same(found, np.repeat(expected[..., None], 3, axis=2))


def test_a_unit_and_a_function_are_targets():
    net, x = reader(3), series()
    scope = sq.Scope(net)

    def unit(values):
        with torch.no_grad():
            return float(net.rnn(torch.from_numpy(values)[None])[0][0, 4, 2])

    same(scope.attribute(x, "occlusion", target=sq.target.unit("rnn", 2, time=4))[1], occluded(unit, x[1], 0))
    found = scope.attribute(x, "occlusion", target=lambda output: output[:, 0] * output[:, 1])
    same(found[2], occluded(lambda values: score_of(net, 0)(values) * score_of(net, 1)(values), x[2], 0))


def test_every_step_of_the_output_has_its_own_occlusion():
    torch.manual_seed(0)
    net = Net(lambda net, x: net.fc(net.rnn(x)[0]), rnn=nn.GRU(3, 4, batch_first=True), fc=nn.Linear(4, 1))
    X = ragged((5, 3))
    found = sq.Scope(net).attribute(X, "occlusion", target=sq.target.output(0, time="all"))
    assert found.dims == ("sample", "output_time", "time", "channel")
    for row, one in enumerate(X):
        for step in range(len(one)):

            def score(values, step=step):
                with torch.no_grad():
                    return float(net(torch.from_numpy(values)[None])[0, step, 0])

            same(found.values[row, step, : len(one)], occluded(score, one.values, 0))
    assert np.isnan(found.values[1, 3:]).all()
    assert np.isnan(found.values[1, :3, 3:]).all()


# Tokens


def test_tokens_are_explained_in_the_nets_own_precision():
    assert sq.Scope(speller()).attribute(words(), "occlusion").dtype == np.float64


@pytest.mark.parametrize(("fill", "token"), [("zero", 0), (5, 5), (np.arange(9) % 8, np.arange(9) % 8)])
def test_tokens_are_replaced_by_tokens(fill, token):
    net, X = speller(), words()
    score = score_of(net)
    found = sq.Scope(net).attribute(X, "occlusion", fill=fill)
    assert found.dims == ("sample", "time")
    for row, one in enumerate(X):
        for step in range(len(one)):
            hidden = one.copy()
            hidden[step] = np.broadcast_to(token, 9)[step]
            assert found.values[row, step] == pytest.approx(score(one) - score(hidden), abs=1e-12)
        assert np.isnan(found.values[row, len(one) :]).all()
    assert found.attrs["baseline"] == ("token 0" if isinstance(fill, str) else "5" if isinstance(fill, int) else "an array")


def test_windows_and_stretches_of_tokens():
    net, X = speller(), np.stack(words((9, 9)))
    score = score_of(net)
    found = sq.Scope(net).attribute(X, "occlusion", window=6, stride=4)
    first, second = (score(X[1]) - score(np.where((np.arange(9) >= at) & (np.arange(9) < at + 6), 0, X[1])) for at in (0, 4))
    same(found[1], [first] * 4 + [(first + second) / 2] * 2 + [second] * 3)
    same(sq.Scope(net).attribute(X, "feature_ablation")[1], np.full(9, score(X[1]) - score(0 * X[1])))
    found = sq.Scope(net).attribute(X, "feature_ablation", groups=[(None, (0, 4)), (None, slice(-2, None))])
    ends = [score(X[1]) - score(np.where(mask, 0, X[1])) for mask in (np.arange(9) < 4, np.arange(9) >= 7)]
    same(found[1], [ends[0]] * 4 + [0] * 3 + [ends[1]] * 2)
    by_number = sq.Scope(net).attribute(X, "feature_ablation", groups=np.array([2] * 4 + [-1] * 3 + [0] * 2))
    same(by_number, found)


@pytest.mark.parametrize("fill", ["noise", "swap"])
def test_tokens_that_are_drawn_come_from_the_data(fill):
    """All other data is the token 3, or 5 at its last step: nothing else can stand there."""
    net, x = speller(), np.array([[1, 2, 4, 6]])
    reference = np.array([[3, 3, 3, 3], [3, 3, 3, 3]])
    score = score_of(net)
    found = sq.Scope(net).attribute(x, "occlusion", fill=fill, reference=reference)
    expected = [score(x[0]) - score(np.where(np.arange(4) == step, 3, x[0])) for step in range(4)]
    same(found[0], expected)


# What stands in place of something


def test_zero_is_the_default():
    for filled in (fill_read_back(ragged()), fill_read_back(ragged(), fill="zero"), fill_read_back(ragged(), baseline="zero")):
        assert all(np.abs(one).max() < 1e-12 for one in filled)


@pytest.mark.parametrize("padded", [False, True])
def test_the_mean_is_of_the_steps_that_are_there(padded):
    X = ragged()
    data = X
    if padded:
        data = np.full((len(X), 9, 3), np.nan)
        for row, one in enumerate(X):
            data[row, : len(one)] = one
    mean = np.concatenate([one.values for one in X]).mean(0)
    for one in fill_read_back(data, fill="mean"):
        same(one, np.broadcast_to(mean, one.shape))


def test_the_mean_is_that_of_the_reference():
    reference = [series(1, 3, seed=1)[0] + 5, series(1, 8, seed=2)[0]]
    mean = np.concatenate(reference).mean(0)
    for one in fill_read_back(ragged(), fill="mean", reference=reference):
        same(one, np.broadcast_to(mean, one.shape))


def test_the_blur_is_a_gaussian_of_a_tenth_of_the_length():
    """Written out: weights exp(-d²/2s²) up to 4 s (rounded), the ends held."""
    X = ragged((1, 4, 30))
    for one, found in zip(X, fill_read_back(X, fill="blur"), strict=True):
        sigma = 0.1 * len(one)
        reach = int(4 * sigma + 0.5)
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        held = np.pad(one.values, [(reach, reach), (0, 0)], mode="edge")
        expected = np.stack([np.convolve(held[:, c], weights / weights.sum(), mode="valid") for c in range(3)], axis=1)
        same(found, expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_blur_in_other_precisions(dtype):
    x = series().astype(dtype)
    found = sq.Scope(linear()).attribute(x, "occlusion", fill="blur")
    same(found, sq.Scope(linear()).attribute(x.astype(np.float64), "occlusion", fill="blur"), rtol=0, atol=0.01)
    assert found.dtype == np.float64  # the model's own


def test_noise_is_drawn_from_the_values_of_the_channel():
    X = ragged()
    pool = np.concatenate([one.values for one in X])
    filled = np.concatenate(fill_read_back(X, fill="noise"))
    for channel in range(3):
        off = np.abs(filled[:, channel, None] - pool[None, :, channel])
        assert off.min(1).max() < 1e-9  # each is a value of this channel
        assert len(set(off.argmin(1).tolist())) > 10  # and not always the same
    steps = [np.abs(filled[:, c, None] - pool[None, :, c]).argmin(1) for c in range(3)]
    assert not np.array_equal(steps[0], steps[1])  # each channel is drawn by itself


@pytest.mark.parametrize("fill", ["noise", "swap"])
def test_what_is_drawn_follows_the_id_and_the_seed(fill):
    X = ragged(samples=["a", "b", "c", "d", "e", "f"])
    scope = sq.Scope(reader())
    found = scope.attribute(X, "occlusion", fill=fill, reference=X)
    same(scope.attribute(X, "occlusion", fill=fill), found)  # the reference is X by itself
    for rows in ([5, 3, 0, 1, 4, 2], [3, 4], [4], np.array([False, True, False, False, False, True])):
        some = scope.attribute(X[rows], "occlusion", fill=fill, reference=X)
        same(some, found.sel(sample=X.samples[rows]).isel(time=slice(some.sizes["time"])))
    for row in range(6):
        alone = scope.attribute(X[row], "occlusion", fill=fill, reference=X)
        same(alone, found.isel(sample=row, time=slice(alone.sizes["time"])))
    other = scope.attribute(X, "occlusion", fill=fill, seed=1)
    assert not np.allclose(other, found, equal_nan=True)
    renamed = scope.attribute(ragged(samples=list("ghijkl")), "occlusion", fill=fill)
    assert not np.allclose(renamed, found, equal_nan=True)
    assert f"seed {other.attrs['seed']}" in other.attrs["baseline"]


def which(filled, X):
    """The sequence of which a fill is the beginning."""
    n = len(filled)
    return [row for row, one in enumerate(X) if len(one) >= n and np.abs(one.values[:n] - filled).max() < 1e-9]


@pytest.mark.parametrize("seed", range(5))
def test_a_swap_is_with_another_sequence_that_is_long_enough(seed):
    X = ragged()
    chosen = [which(filled, X) for filled in fill_read_back(X, fill="swap", seed=seed)]
    assert all(len(one) == 1 for one in chosen)
    assert all(one[0] != row for row, one in enumerate(chosen))
    assert chosen[2] == [5]  # there are two of 9 steps
    assert chosen[5] == [2]


@pytest.mark.parametrize("seed", range(6))
def test_a_swap_is_never_with_itself_though_the_reference_holds_it(seed):
    """As Sequences under its own id; as an array, where its place gives it another."""
    block = series(3)
    X = sq.Sequences(block)
    for some, reference in [(X[1:2], X), (X[1], X), (block[1:2], block), (block[1:2].astype(np.float32), block)]:
        found = fill_read_back(sq.Sequences(some), fill="swap", reference=reference, seed=seed)[0]
        off = [np.abs(found - one).max() for one in block]
        assert off[1] > 0.1
        assert min(off) < 1e-5


def test_a_swap_uses_all_of_the_reference():
    X, reference = ragged((4,)), ragged((4, 4, 4))
    reference = sq.Sequences([one.values + 1 for one in reference])
    chosen = {which(fill_read_back(X, fill="swap", reference=reference, seed=seed)[0], reference)[0] for seed in range(30)}
    assert chosen == {0, 1, 2}


def test_a_swap_with_shorter_sequences_holds_the_last_value_of_the_longest():
    short = [series(1, 3, seed=4)[0], series(1, 5, seed=5)[0]]
    (found,) = fill_read_back(series(1, 9), fill="swap", reference=short)
    same(found, np.concatenate([short[1], np.repeat(short[1][-1:], 4, axis=0)]))


def test_values_and_arrays_as_fill():
    X = ragged()
    long = series(1, 12, seed=6)[0]
    padded = np.full((len(X), 10, 3), np.nan)  # NaN in the padding is nobody's value
    for row, length in enumerate(LENGTHS):
        padded[row, :length] = row
    for fill, expected in [
        (0.25, lambda row, n: np.full((n, 3), 0.25)),
        (np.float32(0.25), lambda row, n: np.full((n, 3), 0.25)),
        (3, lambda row, n: np.full((n, 3), 3)),
        (np.array([1, 2, 3]), lambda row, n: np.tile([1, 2, 3], (n, 1))),
        ([1, 2, 3], lambda row, n: np.tile([1, 2, 3], (n, 1))),
        (torch.tensor([1.0, 2, 3], requires_grad=True), lambda row, n: np.tile([1, 2, 3], (n, 1))),
        (long, lambda row, n: long[:n]),
        (ragged()[2], lambda row, n: ragged()[2].values[:n]),
        (padded, lambda row, n: np.full((n, 3), row)),
    ]:
        for by in ("fill", "baseline"):
            for row, found in enumerate(fill_read_back(X, **{by: fill})):
                same(found, expected(row, LENGTHS[row]))


def test_a_labelled_array_goes_by_its_names():
    """A transposed array, channels in another order, and samples in another order and of another number."""
    X = sq.Sequences(series(), channels=["x", "y", "z"], samples=[10, 20, 30, 40])
    values = series(6, 9, 3, seed=9)
    labelled = xr.DataArray(
        values, dims=("sample", "time", "channel"), coords={"sample": [30, 10, 50, 20, 40, 60], "channel": ["z", "x", "y"]}
    )
    expected = labelled.sel(sample=[10, 20, 30, 40], channel=["x", "y", "z"]).values
    same(np.stack(fill_read_back(X, fill=labelled.transpose("channel", "time", "sample"))), expected)
    same(np.stack(fill_read_back(X, fill=labelled[0].T)), np.stack([labelled[0].sel(channel=["x", "y", "z"]).values] * 4))
    same(np.stack(fill_read_back(X, fill=labelled[0, 0])), np.broadcast_to(labelled[0, 0].sel(channel=["x", "y", "z"]).values, (4, 9, 3)))
    same(np.stack(fill_read_back(X, fill=xr.DataArray(2.5))), np.full((4, 9, 3), 2.5))


@pytest.mark.parametrize("as_what", [list, tuple, sq.Sequences])
def test_of_several_fills_the_mean(as_what):
    """All of them are used: of a net that bends, the mean of what each gives."""
    x, several = series(2), [series(1, 9, seed=7)[0], series(1, 11, seed=8)[0], series(1, 9, seed=9)[0]]
    net = reader()
    scope = sq.Scope(net)
    given = as_what(several)
    for method, options in [("occlusion", {"window": 3}), ("feature_ablation", {}), ("feature_ablation", {"groups": [(0, (2, 5))]})]:
        found = scope.attribute(x, method, fill=given, **options)
        same(found, np.mean([scope.attribute(x, method, fill=one[:9], **options) for one in several], axis=0))
        assert found.attrs["baseline"] == "3 sequences"
    same(scope.attribute(x, "occlusion", baseline=given), scope.attribute(x, "occlusion", fill=given))


def test_several_fills_of_ragged_data():
    X, several = ragged(), [series(1, 9, seed=7)[0], series(1, 11, seed=8)[0]]
    for row, found in enumerate(fill_read_back(X, fill=several)):
        n = LENGTHS[row]
        same(found, (several[0][:n] + several[1][:n]) / 2)


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        ("zero", "zero (the mean of a standardised series)"),
        ("mean", "mean of each channel of the data given"),
        ("blur", "blur (Gaussian, 0.1 of the length)"),
        ("noise", "noise (values of each channel drawn from those of the data given, seed 4)"),
        ("swap", "swap (another sequence of the data given, seed 4)"),
        (0.5, "0.5"),
        ([1.0, 2, 3], "a value for each channel"),
        (series(1)[0], "an array"),
        (series(), "an array for each sequence"),
        ([series(1)[0]], "a sequence"),
    ],
)
def test_the_attributes_say_what_stood_there(fill, words):
    found = sq.Scope(linear()).attribute(series(), "occlusion", fill=fill, seed=4)
    assert found.attrs["baseline"] == words
    assert found.attrs["method"] == "occlusion"
    assert found.attrs["signed"] == 1
    assert found.attrs["seed"] == 4


def test_the_attributes_say_that_a_reference_was_given():
    found = sq.Scope(linear()).attribute(series(), "occlusion", fill="mean", reference=series(2))
    assert found.attrs["baseline"] == "mean of each channel of reference"


# Ablation of groups


def test_ablation_is_captums():
    """A group for each channel without any said; else by the number of each value's group, as captum has it."""
    net, x = reader(3), torch.from_numpy(series())
    chosen = net(x).argmax(1)
    scope = sq.Scope(net)
    numbers = np.random.default_rng(5).integers(0, 6, (9, 3))
    for groups, mask in [(None, np.tile(np.arange(3), (9, 1))), (numbers, numbers), (3 * numbers, numbers)]:
        expected = CaptumAblation(net).attribute(x, target=chosen, feature_mask=torch.from_numpy(mask))
        same(scope.attribute(x.numpy(), "feature_ablation", groups=groups), expected)
    against = torch.from_numpy(series(seed=5))
    expected = CaptumAblation(net).attribute(x, target=chosen, feature_mask=torch.from_numpy(numbers), baselines=against)
    same(scope.attribute(x.numpy(), "feature_ablation", groups=numbers, fill=against.numpy()), expected)


NAMED = ["left", "right", "up"]
FORMS = [
    ((0, None), [0], slice(None)),
    (("right", None), [1], slice(None)),
    ((["up", 0], (2, 5)), [0, 2], slice(2, 5)),
    ((("left", "right"), [2, 5]), [0, 1], slice(2, 5)),
    ((np.array([1, 2]), slice(None, None, 2)), [1, 2], slice(None, None, 2)),
    ((np.array(["up"]), slice(-3, None)), [2], slice(-3, None)),
    ((range(2), (7, 100)), [0, 1], slice(7, 9)),
    ((np.int64(2), (np.int64(1), np.int64(3))), [2], slice(1, 3)),
    ((None, (3, 4)), [0, 1, 2], slice(3, 4)),
    ([None, None], [0, 1, 2], slice(None)),
]


@pytest.mark.parametrize(("group", "channels", "times"), FORMS, ids=lambda value: str(value)[:30])
def test_a_group_in_every_form(group, channels, times):
    net, x = reader(), series()
    X = sq.Sequences(x, channels=NAMED)
    hidden = np.zeros((9, 3), bool)
    hidden[np.ix_(np.arange(9)[times], channels)] = True
    found = sq.Scope(net).attribute(X, "feature_ablation", groups=[group])
    for row in range(4):
        same(found[row], hidden * (score_of(net)(x[row]) - score_of(net)(np.where(hidden, 0, x[row]))))


def test_an_integer_is_a_position_whatever_the_names_are():
    """As for outputs: names that are numbers do not get in the way."""
    X = sq.Sequences(series(), channels=[2, 0, 1])
    found = sq.Scope(linear()).attribute(X, "feature_ablation", groups=[(2, None)])
    same(found.isel(channel=2), np.repeat((WEIGHTS * series()).sum(1)[:, 2:], 9, axis=1))
    assert not found.isel(channel=[0, 1]).values.any()


def test_a_value_of_several_groups_has_their_sum_and_of_none_nothing():
    x = series()
    part = WEIGHTS * x
    found = sq.Scope(linear()).attribute(x, "feature_ablation", groups=[(0, (0, 4)), ([0, 1], (2, 6))])
    first, second = part[:, :4, 0].sum(1), part[:, 2:6, :2].sum((1, 2))
    expected = np.zeros(x.shape)
    expected[:, :4, 0] += first[:, None]
    expected[:, 2:6, :2] += second[:, None, None]
    same(found, expected)


@pytest.mark.parametrize("groups", [[(0, (0, 3)), (None, slice(-2, None)), ([1, 2], (3, 9))], "numbers"])
def test_groups_of_ragged_data_end_with_each_sequence(groups):
    """An array of numbers is that of the longest: the shorter have its beginning, and a group that they do not reach hides nothing."""
    X, net = ragged(), reader()
    numbers = np.random.default_rng(5).integers(-1, 6, (9, 3))
    groups = numbers if isinstance(groups, str) else groups
    found = sq.Scope(net).attribute(X, "feature_ablation", groups=groups)
    score = score_of(net)
    for row, one in enumerate(X):
        x, n = one.values, len(one)
        if groups is numbers:
            masks = [numbers[:n] == number for number in range(6)]
        else:
            grid = np.arange(n)[:, None], np.arange(3)
            masks = [(grid[1] == 0) & (grid[0] < 3), (grid[0] >= n - 2) & (grid[1] >= 0), (grid[1] > 0) & (grid[0] >= 3)]
        same(found.values[row, :n], sum(mask * (score(x) - score(np.where(mask, 0, x))) for mask in masks))
        assert np.isnan(found.values[row, n:]).all()


def test_numbers_of_groups_in_other_kinds_of_arrays():
    numbers = np.random.default_rng(5).integers(0, 4, (9, 3))
    scope = sq.Scope(linear())
    expected = scope.attribute(series(), "feature_ablation", groups=numbers)
    for groups in (numbers.astype(np.uint8), torch.from_numpy(numbers), xr.DataArray(numbers, dims=("time", "channel")),
                   np.concatenate([numbers, numbers])):  # fmt: skip
        same(scope.attribute(series(), "feature_ablation", groups=groups), expected)


# Rescaling along time


def gradient_of(net):
    def found(x):
        values = torch.from_numpy(np.ascontiguousarray(x))[None].requires_grad_()
        net(values)[0, 0].backward()
        return values.grad[0].numpy()

    return found


def integrated(net, steps, base=0.0):
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    slope = gradient_of(net)
    return lambda x: (x - base) * sum(w / 2 * slope(base + (1 + a) / 2 * (x - base)) for a, w in zip(nodes, weights, strict=True))


def rescaled(explain, x, fill, quantile=0.55):
    """Algorithm 1 of Ismail et al. 2020, step by step; returns it, and the weights of the steps."""
    plain = explain(x)
    of_step, result = np.zeros(len(x)), np.zeros(x.shape)
    for t in range(len(x)):
        hidden = x.copy()
        hidden[t] = fill[t]
        of_step[t] = np.abs(plain - explain(hidden)).sum()
    for t in np.flatnonzero(of_step >= np.quantile(of_step, quantile) - 1e-12):
        for c in range(x.shape[1]):
            hidden = x.copy()
            hidden[t, c] = fill[t, c]
            result[t, c] = of_step[t] * np.abs(plain - explain(hidden)).sum()
    return result


INNER = {
    "gradient": ({}, gradient_of),
    "integrated_gradients": ({"steps": 4}, lambda net: integrated(net, 4)),
    "occlusion": ({"window": 2}, lambda net: lambda x: occluded(score_of(net), x, 0, window=2)),
    "input_x_gradient": ({}, lambda net: lambda x: x * gradient_of(net)(x)),
    "feature_ablation": (
        {"groups": [(0, (0, 2)), ([1, 2], None)]},
        lambda net: (
            lambda x: sum(
                mask * (score_of(net)(x) - score_of(net)(np.where(mask, 0, x)))
                for mask in (
                    (np.arange(len(x)) < 2)[:, None] & (np.arange(3) == 0),
                    np.broadcast_to(np.arange(3) > 0, x.shape),
                )
            )
        ),
    ),
}
METHODS = sq.attribution.METHODS


@pytest.mark.parametrize("quantile", [0, 0.55, 0.9])
@pytest.mark.parametrize("inner", INNER)
def test_rescaling_is_the_papers(inner, quantile):
    net, X = reader(), ragged((6, 2, 4))
    options, make = INNER[inner]
    found = sq.Scope(net).attribute(X, TemporalSaliencyRescaling(METHODS[inner](**options), quantile=quantile))
    for row, one in enumerate(X):
        expected = rescaled(make(net), one.values, np.zeros(one.shape), quantile)
        same(found.values[row, : len(one)], expected, rtol=1e-8, atol=1e-14)
        assert expected.max() > 1e-6
        assert np.isnan(found.values[row, len(one) :]).all()
    assert found.attrs["of"] == inner
    assert found.attrs["signed"] == 0
    assert (found.values[~np.isnan(found.values)] >= 0).all()


def test_rescaling_goes_around_the_gradient_unless_said():
    net, x = reader(), series(2, 5)
    found = sq.Scope(net).attribute(x, "temporal_saliency_rescaling", quantile=0.2, fill="mean")
    mean = np.broadcast_to(x.mean((0, 1)), (5, 3))
    same(found[1], rescaled(gradient_of(net), x[1], mean, 0.2), rtol=1e-8, atol=1e-14)
    assert found.attrs["of"] == "gradient"
    assert found.attrs["baseline"] == "mean of each channel of the data given"


def test_rescaling_takes_the_other_methods_name_and_options():
    scope, x = sq.Scope(reader()), series(2, 5)
    expected = scope.attribute(x, TemporalSaliencyRescaling(Occlusion(window=2, channels="all"), quantile=0.3))
    found = scope.attribute(x, "temporal_saliency_rescaling", of="occlusion", window=2, channels="all", quantile=0.3)
    same(found, expected)
    found = scope.attribute(x, "temporal_saliency_rescaling", of=IntegratedGradients(steps=3))
    same(found, scope.attribute(x, TemporalSaliencyRescaling(IntegratedGradients(steps=3))))


def test_what_is_hidden_is_the_other_methods_baseline_too():
    """Integrated gradients start from the fill of the sequence itself, also where a step is hidden."""
    net, x = reader(), series(3, 5)
    base = series(3, 5, seed=8)
    found = sq.Scope(net).attribute(x, TemporalSaliencyRescaling(IntegratedGradients(steps=3), quantile=0.3), baseline=base)
    for row in range(3):
        same(found[row], rescaled(integrated(net, 3, base[row]), x[row], base[row], 0.3), rtol=1e-8, atol=1e-14)


def test_rescaling_with_several_fills_takes_the_mean_change():
    net, x, several = reader(), series(1, 4), [series(1, 4, seed=5)[0], series(1, 4, seed=6)[0]]
    found = sq.Scope(net).attribute(x, "temporal_saliency_rescaling", fill=several, quantile=0)
    slope = gradient_of(net)

    def change(hidden):
        return np.mean([np.abs(slope(x[0]) - slope(np.where(hidden, fill, x[0]))).sum() for fill in several])

    for t in range(4):
        whole = change((np.arange(4) == t)[:, None] & np.ones(3, bool))
        for c in range(3):
            one = np.zeros((4, 3), bool)
            one[t, c] = True
            assert found.values[0, t, c] == pytest.approx(whole * change(one), rel=1e-8)


def test_steps_of_equal_weight_are_kept_together():
    """A net that squares each step weighs steps of equal size alike but for rounding: all of the heaviest are looked at."""
    net = Net(lambda net, x: net.fc((x**2).sum(1)), fc=nn.Linear(3, 1))
    x = np.zeros((1, 6, 3))
    x[0, [1, 3, 4]] = [[0.1, 0.2, 0.3], [0.3, 0.1, 0.2], [0.2, 0.3, 0.1]]
    with torch.no_grad():
        net.fc.weight.fill_(0.7)
    found = sq.Scope(net).attribute(x, "temporal_saliency_rescaling", quantile=0.75)
    assert (np.count_nonzero(found.values[0], axis=1) == [0, 3, 0, 3, 3, 0]).all()


def test_rescaling_draws_the_same_noise_for_the_same_sequence():
    """SmoothGrad around hidden values: the same copies, so that a linear net's answers do not change at all."""
    found = sq.Scope(linear()).attribute(series(2, 4), TemporalSaliencyRescaling(METHODS["smooth_grad"](draws=3)))
    same(found, np.zeros((2, 4, 3)), rtol=0, atol=1e-20)


# In whatever company and layout

ASKED = {
    "occlusion": {"window": 2},
    "noise": {"fill": "noise"},
    "swap": {"fill": "swap"},
    "feature_ablation": {"groups": [(0, None), ([1, 2], slice(-3, None))]},
    "temporal_saliency_rescaling": {"quantile": 0.5},
}


def ask(scope, X, name, **options):
    return scope.attribute(X, name if name in METHODS else "occlusion", **ASKED[name], **options)


@pytest.mark.parametrize("name", ASKED)
def test_memory_and_company_and_order_do_not_matter(name):
    X, net = ragged(), reader()
    rows = []
    net.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    scope = sq.Scope(net)
    scope.predict(X)
    found = ask(scope, X, name)
    largest = {}
    for memory in ("1kB", "20kB", 30_000, "10GB"):
        rows.clear()
        same(ask(scope, X, name, memory=memory), found)
        largest[memory] = max(rows)
    assert largest["1kB"] <= largest["20kB"] <= largest["10GB"] > largest["1kB"]  # the budget sets the batch
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = ask(scope, X[order], name, reference=X)
    same(shuffled, found.isel(sample=order))
    assert shuffled.sample.values.tolist() == order.tolist()
    for row in range(len(X)):
        alone = ask(scope, X[row], name, reference=X)
        assert alone.dims == ("time", "channel")
        same(alone, found.isel(sample=row, time=slice(LENGTHS[row])))


def test_a_budget_of_a_row_runs_row_by_row():
    rows, net = [], reader()
    scope = sq.Scope(net)
    scope.predict(series())
    net.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    scope.attribute(series(), "occlusion", target=lambda output: output[:, 0], memory="1kB")
    assert max(rows[-20:]) == 1


@pytest.mark.parametrize("name", ASKED)
def test_every_kind_of_data_gives_the_same(name):
    X = series(4, 9, 3)
    scope = sq.Scope(reader())
    found = ask(scope, X, name)
    padded = np.concatenate([X, np.full((4, 2, 3), np.nan)], axis=1)
    labelled = xr.DataArray(X.transpose(2, 0, 1), dims=("channel", "sample", "time"))
    for data in (padded, labelled, list(X), sq.Sequences(X), torch.from_numpy(X), sq.Sequences(X.transpose(1, 0, 2), layout="TNC")):
        other = ask(scope, data, name)
        assert other.dims == ("sample", "time", "channel")
        same(other.isel(time=slice(9)), found)


@pytest.mark.parametrize("layout", ["NCT", "TNC"])
@pytest.mark.parametrize("name", ASKED)
def test_nets_of_other_layouts_give_the_same(name, layout):
    """Data and reference come as the model takes them; results and baselines are (sample, time, channel)."""
    plain = reader()
    axes = {"NCT": (0, 2, 1), "TNC": (1, 0, 2)}[layout]
    turned = Net(lambda net, x: net.net(x.permute(*axes)), net=plain)
    X = series(4, 9, 3)
    found = ask(sq.Scope(turned, layout=layout), X.transpose(axes), name, reference=X.transpose(axes))
    assert found.dims == ("sample", "time", "channel")
    same(found, ask(sq.Scope(plain), X, name, reference=X))
    if name == "occlusion":
        base = series(1, 9, 3, seed=8)[0]
        same(
            sq.Scope(turned, layout=layout).attribute(X.transpose(axes), "occlusion", fill=base),
            sq.Scope(plain).attribute(X, "occlusion", fill=base),
        )


def test_float32_stays_float32():
    net = reader().float()
    found = sq.Scope(net).attribute(series().astype(np.float32), "occlusion", window=3)
    assert found.dtype == np.float32
    same(found, sq.Scope(reader()).attribute(series(), "occlusion", window=3), rtol=0, atol=1e-5)


def test_the_data_is_left_as_it_was():
    x, base = series(), series(seed=8)
    kept = x.copy(), base.copy()
    for options in ({"fill": base}, {"fill": "blur"}, {"fill": "swap"}):
        sq.Scope(reader()).attribute(x, "occlusion", **options)
        sq.Scope(reader()).attribute(x, "temporal_saliency_rescaling", **options)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(base, kept[1])


# Signs and sums


@pytest.mark.parametrize("method", ["occlusion", "temporal_saliency_rescaling"])
def test_sizes_and_sums(method):
    X, scope = ragged(), sq.Scope(reader())
    plain = scope.attribute(X, method)
    lengths = np.array(LENGTHS)
    sized = scope.attribute(X, method, abs=True)
    same(sized, np.abs(plain.values))
    assert (sized.attrs["abs"], sized.attrs["signed"]) == (1, 0)
    assert "abs" not in plain.attrs
    over = scope.attribute(X, method, reduce="channel")
    assert over.dims == ("sample", "time")
    for row, n in enumerate(lengths):
        same(over.values[row, :n], plain.values[row, :n].sum(-1))
        assert np.isnan(over.values[row, n:]).all()  # padding stays padding
    over = scope.attribute(X, method, reduce="time", abs=True)
    assert over.dims == ("sample", "channel")
    same(over, np.nansum(np.abs(plain.values), axis=1))
    assert over.attrs["reduce"] == "sum over time"
    assert {"target", "score", "length"} <= set(over.coords)
    assert scope.attribute(X[0], method, reduce="channel").dims == ("time",)
    for name in ("method", "baseline", "model", "target"):
        assert over.attrs[name] == plain.attrs[name]


def test_steps_of_tokens_can_be_summed():
    found = sq.Scope(speller()).attribute(words(), "occlusion", reduce="time")
    assert found.dims == ("sample",)
    same(found, np.nansum(sq.Scope(speller()).attribute(words(), "occlusion").values, axis=1))


# Names, instances, and engines without derivatives


def test_an_instance_stands_for_a_name():
    scope, x = sq.Scope(reader()), series()
    expected = scope.attribute(x, "occlusion", window=3, fill="mean")
    same(scope.attribute(x, Occlusion(window=3, fill="mean")), expected)
    same(scope.attribute(x, Occlusion(window=2, fill="mean"), window=3), expected)
    assert "window=3" in expected.attrs["options"]
    same(scope.attribute(x, FeatureAblation([(0, None)])), scope.attribute(x, "feature_ablation", groups=[(0, None)]))


@pytest.fixture
def without_derivatives():
    """A scope whose engine offers none, as one of ONNX would."""
    torch.manual_seed(0)
    net = Net(
        lambda net, x: net.fc(torch.relu(net.conv(x.permute(0, 2, 1))).mean(2)), conv=nn.Conv1d(3, 4, 3, padding=1), fc=nn.Linear(4, 1)
    )
    scope, plain = sq.Scope(net, layout="NTC"), sq.Scope(net, layout="NTC")
    scope._engine.__class__ = type("Plain", (type(scope._engine),), {"gradient": None})
    assert not isinstance(scope._engine, HasGradients)
    return scope, plain


def test_what_hides_needs_no_derivatives(without_derivatives):
    scope, plain = without_derivatives
    X = ragged((7, 4, 9))
    for method, options in [
        ("occlusion", {"window": 2}),
        ("feature_ablation", {}),
        (TemporalSaliencyRescaling(Occlusion()), {}),
    ]:
        same(scope.attribute(X, method, **options), plain.attribute(X, method, **options))
    found, expected = scope.attribute(X, "score_cam", layer="conv"), plain.attribute(X, "score_cam", layer="conv")
    same(found["map"], expected["map"])


@pytest.mark.parametrize("method", [name for name, kind in METHODS.items() if kind().needs_gradient])
def test_what_derives_says_what_can_be_used_instead(without_derivatives, method):
    scope, _ = without_derivatives
    with pytest.raises(UnsupportedError) as caught:
        scope.attribute(ragged(), method)
    assert caught.value.message.startswith(f"{method} needs derivatives, and ")
    for able in ("'occlusion'", "'feature_ablation'", "'score_cam'"):
        assert able in caught.value.message
    for unable in ("'gradient'", "'integrated_gradients'", "'grad_cam'"):
        assert unable not in caught.value.message


def test_nothing_is_warned_of_where_nothing_is_wrong():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in ("occlusion", "feature_ablation", "temporal_saliency_rescaling"):
            sq.Scope(reader(3)).attribute(ragged(), method)
            sq.Scope(reader()).attribute(ragged(), method)
