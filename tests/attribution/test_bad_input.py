"""What a person may type by mistake gets a sentence that names it; what they should know is warned of once, with its figure."""

import re
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import seqscope as sq
from nets import Net, series
from seqscope.attribution import FeatureAblation, GradCAM, IntegratedGradients, Occlusion, TemporalSaliencyRescaling
from seqscope.errors import DataError, LayerError, ModelError, SeqscopeError, UnsupportedError

X = series()


def reader(outputs=3, *, softmax=True):
    torch.manual_seed(0)
    layers = {"rnn": nn.GRU(3, 5, batch_first=True), "fc": nn.Linear(5, outputs)}
    if not softmax:
        return Net(lambda net, x: net.fc(net.rnn(x)[0][:, -1]), **layers)
    return Net(lambda net, x: net.softmax(net.fc(net.rnn(x)[0][:, -1])), **layers, softmax=nn.Softmax(-1))


def speller():
    torch.manual_seed(0)
    return Net(lambda net, x: net.fc(net.rnn(net.emb(x))[0][:, -1]), emb=nn.Embedding(8, 4), rnn=nn.GRU(4, 5, batch_first=True),
               fc=nn.Linear(5, 1))  # fmt: skip


def convolver():
    torch.manual_seed(0)
    return Net(
        lambda net, x: net.fc(torch.relu(net.conv(x.permute(0, 2, 1))).mean(2)), conv=nn.Conv1d(3, 4, 3, padding=1), fc=nn.Linear(4, 2)
    )


@pytest.fixture(scope="module")
def scope():
    return sq.Scope(reader())


def refused(call, kind, *words):
    """The message, one sentence of seqscope's own with these words, and the call behind it."""
    error = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except SeqscopeError as caught:
            error = caught
    assert error is not None, "nothing was refused"
    assert type(error) is kind, f"{type(error).__name__}: {error.message}"
    for word in words:
        assert word in error.message, error.message
    assert "\n" not in error.message
    assert error.message.endswith((".", ")"))
    assert len(error.message) < 420
    assert error.call.startswith("attribute ")
    return error.message


@pytest.fixture
def warned():
    """The messages that a call warns of."""

    def messages(call):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        for one in caught:
            assert issubclass(one.category, UserWarning)
        return [str(one.message) for one in caught]

    return messages


# The method and its options

LIST = "'gradient', 'saliency'"
METHODS = [
    (None, (), "None", LIST),
    (5, (), "5", LIST),
    (True, (), "True", LIST),
    (object(), (), "object", LIST),
    (["occlusion"], (), "['occlusion']", LIST),
    (Occlusion, (), "Occlusion", LIST),
    (nn.Linear(1, 1), (), "Linear", LIST),
    ("occlusio", (), "There is no method 'occlusio': the nearest is 'occlusion'"),
    ("Occlusion", (), "the nearest is 'occlusion'"),
    ("integrated gradients", (), "'integrated_gradients'"),
    ("gradcam", (), "'grad_cam'"),
    ("", (), "There is no method ''", LIST),
]


@pytest.mark.parametrize(("method", "_", "words"), [(one, two, words) for one, two, *words in METHODS], ids=lambda value: str(value)[:20])
def test_a_method_that_is_none(scope, method, _, words):
    refused(lambda: scope.attribute(X, method), UnsupportedError, *words)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("occlusion", {"steps": 5}, ["occlusion has no option 'steps'", "'window', 'stride', 'channels', 'fill'"]),
        ("occlusion", {"windows": 5}, ["'windows'", "'window'"]),
        ("occlusion", {"groups": [(0, None)]}, ["'groups'", "'window'"]),
        ("feature_ablation", {"window": 2}, ["feature_ablation has no option 'window'", "'groups', 'fill'"]),
        ("gradient", {"steps": 5}, ["gradient has no option 'steps'", "none"]),
        ("temporal_saliency_rescaling", {"steps": 5}, ["gradient has no option 'steps'"]),
        (Occlusion(window=2), {"steps": 5}, ["occlusion has no option 'steps'"]),
        (IntegratedGradients(), {"window": 5}, ["integrated_gradients has no option 'window'"]),
    ],
)
def test_an_option_of_another_method(scope, method, options, words):
    refused(lambda: scope.attribute(X, method, **options), DataError, *words)


@pytest.mark.parametrize("value", [0, -1, 2.5, "3", None, True, [2], np.array([2]), np.float64(2)], ids=repr)
@pytest.mark.parametrize("name", ["window", "stride"])
def test_a_window_that_is_no_number_of_steps(scope, name, value):
    if (name, value) == ("stride", None):
        return  # half a window
    refused(lambda: scope.attribute(X, "occlusion", **{name: value}), DataError, f"{name} is {value!r}", "whole number")
    with pytest.raises(DataError, match="whole number"):
        Occlusion(**{name: value})


@pytest.mark.parametrize("value", ["any", "channel", 0, None, ["each"], np.array([0, 1]), True], ids=repr)
def test_channels_are_each_or_all(scope, value):
    refused(lambda: scope.attribute(X, "occlusion", channels=value), DataError, f"channels is {value!r}", "'each'", "'all'")


def test_a_stride_that_leaves_steps_out(scope):
    refused(lambda: scope.attribute(X, "occlusion", window=2, stride=3), DataError, "stride is 3", "window 2")


def test_a_window_longer_than_the_series(scope):
    refused(lambda: scope.attribute(X, "occlusion", window=10), DataError, "window", "10", "9")


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([], ["groups is []"]),
        ((), ["groups is ()"]),
        (5, ["groups is 5"]),
        ("all", ["groups is 'all'"]),
        ({"left": (0, None)}, ["groups is {'left'"]),
        ((group for group in [(0, None)]), ["groups is <generator"]),
        ([0, 1], ["A group is 0", "pair (channels, times)"]),
        ([None], ["A group is None"]),
        (["left"], ["A group is 'left'"]),
        ([(0, None, 1)], ["A group is (0, None, 1)"]),
        ([(7, None)], ["There is no channel 7", "3, at positions 0 to 2", "'left', 'right', 'up'"]),
        ([(-1, None)], ["There is no channel -1"]),
        ([("lft", None)], ["There is no channel 'lft'", "'left'"]),
        ([(["left", "down"], None)], ["There is no channel 'down'"]),
        ([(True, None)], ["There is no channel True"]),
        ([(1.5, None)], ["There is no channel 1.5"]),
        ([([[0]], None)], ["There is no channel [0]"]),
        ([({}, None)], ["no channel"]),
        ([([], None)], ["A group has no channel"]),
        ([(slice(2), None)], ["There is no channel slice"]),
        ([(0, 3)], ["The times of a group are 3", "(start, stop)"]),
        ([(0, (3, 3))], ["(3, 3)", "start < stop"]),
        ([(0, (5, 2))], ["(5, 2)", "start < stop"]),
        ([(0, (-3, 0))], ["(-3, 0)", "0 <= start"]),
        ([(0, (0.5, 2))], ["(0.5, 2)"]),
        ([(0, (False, True))], ["(False, True)"]),
        ([(0, (1, None))], ["(1, None)", "a slice"]),
        ([(0, (1, 2, 3))], ["(1, 2, 3)"]),
        ([(0, "morning")], ["'morning'"]),
        ([(0, slice("a", 3))], ["slice('a', 3"]),
        ([(0, slice(None, None, 0))], ["slice(None, None, 0)"]),
        (np.zeros((3, 9), int), ["shape (3, 9)", "(9, 3)", "(time, channel)"]),
        (np.zeros((8, 3), int), ["shape (8, 3)", "(9, 3)"]),
        (np.zeros((9, 3)), ["float64", "whole numbers"]),
        (np.zeros((9, 3), bool), ["bool", "whole numbers"]),
        (np.zeros(9, int), ["shape (9,)", "(9, 3)"]),
        (np.int64(3), ["shape ()", "(9, 3)"]),
        (np.full((9, 3), -1), ["no group"]),
    ],
    ids=lambda value: str(value)[:30].replace("\n", " "),
)
def test_groups_that_are_none(groups, words):
    scope = sq.Scope(reader())
    named = sq.Sequences(X, channels=["left", "right", "up"])
    refused(lambda: scope.attribute(named, "feature_ablation", groups=groups), DataError, *words)


def test_tokens_have_no_channels():
    scope, words = sq.Scope(speller()), np.ones((2, 5), int)
    refused(lambda: scope.attribute(words, "feature_ablation", groups=[(0, (0, 2))]), DataError, "channels 0", "tokens have none")
    message = refused(lambda: scope.attribute(words, "temporal_saliency_rescaling"), UnsupportedError, "Tokens have no derivative")
    assert "occlusion" in message
    around = TemporalSaliencyRescaling(Occlusion())
    refused(lambda: scope.attribute(words, around), DataError, "tokens have none", "use occlusion")
    for fill in ("mean", "blur"):
        refused(lambda fill=fill: scope.attribute(words, "occlusion", fill=fill), DataError, f"Tokens have no {fill}", "'zero'")
    refused(lambda: scope.attribute(words, "occlusion", fill=2.5), DataError, "float", "the number of a token")
    refused(lambda: scope.attribute(words, "occlusion", fill=np.zeros((5, 3), int)), DataError, "shape (5, 3)")
    refused(lambda: scope.attribute(words, "occlusion", fill=np.zeros((2, 5, 3), int)), DataError, "(time) or (sample, time)")
    refused(lambda: scope.attribute(words, "occlusion", fill=[X[0]]), DataError, "3 channels", "tokens")


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"quantile": 1}, DataError, ["quantile is 1", "0 to less than 1"]),
        ({"quantile": -0.1}, DataError, ["quantile is -0.1"]),
        ({"quantile": "half"}, DataError, ["quantile is 'half'"]),
        ({"quantile": None}, DataError, ["quantile is None"]),
        ({"quantile": float("nan")}, DataError, ["quantile is nan"]),
        ({"of": None}, UnsupportedError, ["None", "Occlusion(window=3)"]),
        ({"of": "occlusion"}, UnsupportedError, ["'occlusion'", "Occlusion(window=3)"]),
        ({"of": Occlusion}, UnsupportedError, ["Occlusion", "Occlusion(window=3)"]),
        ({"of": GradCAM()}, UnsupportedError, ["at the input", "grad_cam"]),
        ({"of": TemporalSaliencyRescaling()}, UnsupportedError, ["temporal_saliency_rescaling is none"]),
        ({"of": Occlusion(fill="mean")}, DataError, ["'mean'", "say it once"]),
        ({"of": Occlusion(fill=np.zeros(3)), "fill": np.ones(3)}, DataError, ["say it once"]),
    ],
    ids=str,
)
def test_rescaling_of_what_can_not_be_rescaled(options, kind, words):
    with pytest.raises(kind) as caught:
        TemporalSaliencyRescaling(**options)
    for word in words:
        assert word in caught.value.message


def test_rescaling_says_what_a_draw_needs(scope):
    around = TemporalSaliencyRescaling(sq.attribution.ExpectedGradients(draws=2))
    refused(lambda: scope.attribute(X, around), UnsupportedError, "expected_gradients draws from several", "fill=")
    assert scope.attribute(X[:1, :3], around, baseline=[X[1], X[2]]).shape == (1, 3, 3)


# Baselines


@pytest.mark.parametrize("method", ["occlusion", "integrated_gradients"])
@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        ("men", ["There is no baseline 'men'", "the nearest is 'mean'"]),
        ("Zero", ["'Zero'", "'zero'"]),
        ("", ["''", "'zero', 'mean', 'blur', 'noise', 'swap'"]),
        (b"zero", ["bytes", "zero, mean, blur, noise, swap"]),
        (True, ["bool"]),
        (1j, ["complex"]),
        ({}, ["dict"]),
        ({"a": 1}, ["dict"]),
        ({1, 2}, ["set"]),
        (object(), ["object"]),
        (np.sum, ["zero, mean, blur, noise, swap"]),
        (slice(3), ["slice"]),
        (np.datetime64("2020-01-01"), ["datetime64"]),
        (np.array(["a"]), ["ndarray of <U1"]),
        (np.array([1, None, 2]), ["ndarray of object"]),
        ([], ["several baselines", "empty"]),
        (["zero", "mean"], ["several baselines"]),
        ([1.0, None, 2.0], ["several baselines"]),
        ([0, 0], ["2 channels", "3 channels"]),
        (np.zeros(2), ["2 channels", "3 channels"]),
        (np.zeros((9, 4)), ["4 channels", "3 channels"]),
        (np.zeros((3, 9)), ["9 channels", "3 channels"]),
        (np.zeros((5, 3)), ["(5, 3)", "5 steps", "has 9"]),
        (np.zeros((4, 8, 3)), ["(4, 8, 3)", "8 steps"]),
        (np.zeros((3, 9, 3)), ["(3, 9, 3)", "4 sequences", "one for each"]),
        (np.zeros((1, 4, 9, 3)), ["(1, 4, 9, 3)", "(channel), (time, channel) or (sample, time, channel)"]),
        ([np.zeros((8, 3))], ["8 steps", "9"]),
        ([np.zeros((9, 3)), np.zeros((4, 3))], ["4 to 9 steps"]),
        ([np.zeros((9, 2))], ["2 channels"]),
        ([np.zeros((9, 3)), np.zeros((9, 2))], ["2 channels"]),
        ([np.full((9, 3), np.nan)], ["several baselines"]),
        (sq.Sequences(np.ones((2, 9), int)), ["tokens", "3 channels"]),
        (float("nan"), ["NaN"]),
        (float("inf"), ["infinite"]),
        (np.array([0, np.nan, 0]), ["NaN"]),
        (np.full((9, 3), np.inf), ["infinite"]),
        (np.where(np.arange(9)[:, None] < 7, X, np.nan), ["NaN", "within the length"]),
        (xr.DataArray(np.zeros((9, 3)), dims=("t", "c")), ["('t', 'c')", "(time, channel)"]),
        (xr.DataArray(np.zeros((4, 3)), dims=("sample", "channel")), ["('sample', 'channel')"]),
        (xr.DataArray(np.zeros((9, 2)), dims=("time", "channel")), ["2 channels"]),
        (xr.Dataset(), ["Dataset"]),
    ],
    ids=lambda value: str(value)[:30].replace("\n", " "),
)
def test_a_baseline_that_is_none(scope, method, baseline, words):
    refused(lambda: scope.attribute(X, method, baseline=baseline), DataError, *words)


def test_a_baseline_too_large_for_the_type_of_the_data():
    """In float32 it is infinite, which some nets bear in silence; as a token of one byte it would be another token."""
    single = sq.Scope(reader().float())
    refused(lambda: single.attribute(X.astype(np.float32), "occlusion", fill=1e300), DataError, "infinite", "float32")
    words = np.ones((2, 4), np.int8)
    refused(lambda: sq.Scope(speller()).attribute(words, "occlusion", fill=257), DataError, "int8")


@pytest.mark.parametrize("baseline", ["zero", "men", 0, X])
@pytest.mark.parametrize("method", ["gradient", "saliency", "smooth_grad", "grad_cam"])
def test_a_baseline_for_a_method_that_compares_with_nothing(scope, method, baseline):
    refused(lambda: scope.attribute(X, method, baseline=baseline), UnsupportedError, method, "no baseline")


def test_a_fill_and_a_baseline_that_contradict_each_other(scope):
    refused(lambda: scope.attribute(X, "occlusion", fill="mean", baseline="zero"), DataError, "fill", "baseline")


REFERENCES = [
    (series(3, 9, 4), ["reference has 4 channels", "3 channels"]),
    (series(3, 9, 2), ["reference has 2 channels", "3 channels"]),
    (sq.Sequences(np.ones((2, 9), int)), ["reference has tokens", "3 channels"]),
]


@pytest.mark.parametrize(("reference", "words"), REFERENCES, ids=["4", "2", "tokens"])
@pytest.mark.parametrize("fill", ["zero", "mean", "noise", "swap", 0.5])
def test_a_reference_of_another_kind(scope, fill, reference, words):
    refused(lambda: scope.attribute(X, "occlusion", fill=fill, reference=reference), DataError, *words)


@pytest.mark.parametrize(("reference", "words"), REFERENCES, ids=["4", "2", "tokens"])
def test_a_reference_of_another_kind_to_draw_baselines_from(scope, reference, words):
    refused(lambda: scope.attribute(X, "expected_gradients", reference=reference, draws=2), DataError, *words)


@pytest.mark.parametrize("reference", [5, [], "X", object(), np.zeros((2, 2, 2, 2)), np.full((2, 9, 3), np.nan)], ids=lambda v: str(v)[:9])
def test_a_reference_that_is_no_data(scope, reference):
    refused(lambda: scope.attribute(X, "occlusion", fill="mean", reference=reference), DataError)


def test_nothing_to_swap_with(scope):
    for alone, reference in [(X[0], None), (X[:1], None), (X[:1], X[:1]), (np.stack([X[0]] * 3), None)]:
        refused(
            lambda alone=alone, reference=reference: scope.attribute(alone, "occlusion", fill="swap", reference=reference),
            DataError,
            "no other sequence",
            "reference=",
        )


# Target, layer, and the rest of the call

METHOD = ["gradient", "occlusion"]
TARGETS = [
    (3, DataError, ["There is no output 3", "positions 0 to 2", "'a', 'b', 'c'"]),
    (-1, DataError, ["There is no output -1"]),
    (True, DataError, ["True"]),
    (1.5, DataError, ["1.5"]),
    ("d", DataError, ["There is no output named 'd'", "'a', 'b', 'c'"]),
    ("A", DataError, ["'A'"]),
    ((), DataError, ["0 targets", "4 sequences"]),
    ([0], DataError, ["1 targets", "4 sequences"]),
    ([0, 1], DataError, ["2 targets", "4 sequences"]),
    ([0, 1, 2, 3], DataError, ["There is no output 3"]),
    (["a", "b", "c", "d"], DataError, ["'d'"]),
    ([None] * 4, DataError, ["None"]),
    (np.array([0.0, 1, 2, 0]), DataError, ["0.0"]),
    ({}, DataError, ["{}"]),
    ({0}, DataError, ["{0}"]),
    (b"a", DataError, ["b'a'"]),
    (object(), DataError, ["object"]),
    (sq.target.output("d"), DataError, ["'d'"]),
    (sq.target.output("a", time=-1), DataError, ["without steps"]),
    (sq.target.output(time="all"), DataError, ["without steps"]),
    (sq.target.unit("rn", 1), LayerError, ["No layer is named 'rn'", "'rnn'"]),
    (sq.target.unit("rnn", 17), DataError, ["unit 17", "'rnn'"]),
    (sq.target.unit("rnn", 1, time=20), DataError, ["step 20"]),
    (sq.target.unit("rnn", 1, state="c"), UnsupportedError, ["'c'", "'h', 'r', 'z', 'n'"]),
    (sq.target.unit("fc", 1, state="c"), UnsupportedError, ["not recurrent", "'c'"]),
    (sq.target.unit("rnn", 1, direction="forward"), UnsupportedError, ["one direction"]),
    (lambda output: output, ModelError, ["(4, 3)", "one score for each"]),
    (lambda output: output.sum(), ModelError, ["one score for each"]),
    (lambda output: 3, ModelError, ["int", "one score for each"]),
    (lambda output: None, ModelError, ["NoneType", "one score for each"]),
    (lambda: 3, ModelError, ["TypeError"]),
]


@pytest.mark.parametrize("method", METHOD)
@pytest.mark.parametrize(("target", "kind", "words"), TARGETS, ids=lambda value: re.sub(r" at 0x\w+", "", str(value))[:30])
def test_a_target_that_is_none(method, target, kind, words):
    named = sq.Scope(reader(), outputs=["a", "b", "c"])
    refused(lambda: named.attribute(X, method, target=target), kind, *words)


@pytest.mark.parametrize("method", METHOD)
@pytest.mark.parametrize(
    "target", [np.zeros((2, 2), int), torch.zeros(2, 2), X, [[0], [1], [2], [0, 1]]], ids=["array", "tensor", "X", "list"]
)
def test_a_target_of_several_axes(scope, method, target):
    refused(lambda: scope.attribute(X, method, target=target), DataError)


@pytest.mark.parametrize(
    "layer",
    ["rn", "", 5, True, nn.ReLU(), nn.ReLU, ["rnn"], {"rnn"}],
    ids=lambda value: str(value)[:20],
)
@pytest.mark.parametrize("method", ["gradient", "integrated_gradients", "grad_cam"])
def test_a_layer_that_is_none(scope, method, layer):
    refused(lambda: scope.attribute(X, method, layer=layer), LayerError, "named" if isinstance(layer, str) else "")


@pytest.mark.parametrize("layer", ["rnn", "rn", 5, ["rnn"]], ids=str)
@pytest.mark.parametrize("method", ["occlusion", "feature_ablation", "temporal_saliency_rescaling"])
def test_a_layer_where_the_input_is_explained(scope, method, layer):
    refused(lambda: scope.attribute(X, method, layer=layer), UnsupportedError, method, "at the input", "layer=")


def test_a_layer_without_steps(scope):
    refused(lambda: scope.attribute(X, "grad_cam", layer="fc"), UnsupportedError, "'fc'", "with steps")


def test_no_layer_where_one_is_needed():
    net = Net(lambda net, x: net.fc(x.sum(1)), fc=nn.Linear(3, 2))
    refused(lambda: sq.Scope(net).attribute(X, "grad_cam"), UnsupportedError, "layer=")


@pytest.mark.parametrize(
    "seed",
    [
        -1,
        None,
        "a",
        1.5,
        True,
        float("nan"),
        [1],
        np.array([1, 2]),
    ],
    ids=repr,
)
def test_a_seed_that_is_none(scope, seed):
    refused(lambda: scope.attribute(X, "occlusion", fill="noise", seed=seed), DataError, "seed is", repr(seed))


@pytest.mark.parametrize(
    "memory",
    [
        "lots",
        "",
        0,
        -1,
        "0GB",
        "-1GB",
        ".GB",
        "..",
        "1.2.3GB",
        "1,5GB",
        "GB",
        "10 PB",
        float("nan"),
        float("inf"),
        True,
        [1],
        b"1GB",
    ],
    ids=repr,
)
def test_a_budget_that_is_none(scope, memory):
    refused(lambda: scope.attribute(X, "occlusion", memory=memory), DataError, f"memory is {memory!r}", "'1GB'")


@pytest.mark.parametrize(
    "memory",
    [
        "1kB",
        "1 GB",
        "1gb",
        "0.5MB",
        "64",
        64,
        1e9,
        np.int64(10**9),
        "1GiB",
        1e16,
    ],
)
def test_budgets_as_people_write_them(scope, memory):
    assert scope.attribute(X[:1, :2], "occlusion", memory=memory).shape == (1, 2, 3)


@pytest.mark.parametrize("reduce", ["unit", "Channel", "sample", "", 5, True, False, ("channel", "time"), ["time"]], ids=repr)
def test_a_sum_over_what_is_not_there(scope, reduce):
    refused(lambda: scope.attribute(X, "occlusion", reduce=reduce), DataError, f"reduce is {reduce!r}", "'channel'", "'time'")


def test_a_sum_over_channels_that_tokens_lack():
    refused(
        lambda: sq.Scope(speller()).attribute(np.ones((2, 4), int), "occlusion", reduce="channel"), DataError, "reduce is 'channel'", "time"
    )


@pytest.mark.parametrize("options", [{"abs": True}, {"reduce": "time"}])
def test_a_map_has_nothing_to_sum(options):
    refused(lambda: sq.Scope(convolver()).attribute(X, "grad_cam", **options), DataError, "class activation map")


@pytest.mark.parametrize(
    "data",
    [None, 5, "X", [], {}, np.zeros((0, 9, 3)), np.zeros((2, 0, 3)), np.full((2, 9, 3), np.nan), series(2, 9, 4)],
    ids=lambda value: str(getattr(value, "shape", value)),
)
@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_data_that_is_none(scope, method, data):
    refused(lambda: scope.attribute(data, method), DataError)


@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_tokens_for_a_net_of_floats(scope, method):
    refused(lambda: scope.attribute(np.ones((2, 9), int), method), DataError, "takes series of floats")


def test_a_token_that_the_net_does_not_know():
    """It is a sentence that names the model, and not the framework's own error."""
    refused(lambda: sq.Scope(speller()).attribute(np.ones((2, 4), int), "occlusion", fill=99), ModelError, "out of range")


# NaN from the model


class Fragile(nn.Module):
    """Gives NaN where the input has a value above 9, and where it is all zeros at a step."""

    def __init__(self, *, at_zero=False):
        super().__init__()
        self.fc, self.at_zero = nn.Linear(3, 2), at_zero
        self.double().eval()

    def forward(self, x):
        bad = (x == 0).all(2).any(1) if self.at_zero else (x > 9).flatten(1).any(1)
        return torch.where(bad[:, None], torch.nan, self.fc(x.sum(1)))


@pytest.mark.parametrize("target", [0, None])
@pytest.mark.parametrize("method", ["gradient", "occlusion", "feature_ablation", "temporal_saliency_rescaling", "integrated_gradients"])
def test_nan_from_the_model_says_for_which_sequence(method, target):
    values = X.copy()
    values[2, 4, 1] = 10
    named = sq.Sequences(values, samples=["p", "q", "r", "s"])
    words = ["NaN"] if target is None else ["NaN", "sequence r"]
    refused(lambda: sq.Scope(Fragile()).attribute(named, method, target=target), ModelError, *words)


def test_nan_where_the_prediction_is_looked_for_says_for_which_sequence():
    values = X.copy()
    values[2, 4, 1] = 10
    named = sq.Sequences(values, samples=["p", "q", "r", "s"])
    refused(lambda: sq.Scope(Fragile()).attribute(named, "occlusion"), ModelError, "NaN", "sequence r")


def test_nan_only_where_something_is_hidden():
    refused(lambda: sq.Scope(Fragile(at_zero=True)).attribute(X, "occlusion", channels="all"), ModelError, "NaN", "sequence 0")
    found = sq.Scope(Fragile(at_zero=True)).attribute(X, "occlusion", channels="all", fill="mean")
    assert np.isfinite(found).all()


@pytest.mark.parametrize("method", ["gradient", "occlusion", "temporal_saliency_rescaling"])
def test_nan_weights(method):
    net = reader()
    with torch.no_grad():
        net.fc.weight[0, 0] = torch.nan
    refused(lambda: sq.Scope(net).attribute(X, method), ModelError, "NaN", "weights")


# Warnings: once for each cause, with the figure, and none where nothing is wrong

EVERY = ["gradient", "integrated_gradients", "occlusion", "feature_ablation", "temporal_saliency_rescaling"]


def trained():
    torch.manual_seed(0)
    return Net(
        lambda net, x: net.fc(net.drop(net.norm(x.permute(0, 2, 1))).mean(2)),
        norm=nn.BatchNorm1d(3),
        drop=nn.Dropout(0.5),
        fc=nn.Linear(3, 2),
    )


@pytest.mark.parametrize("method", EVERY)
def test_training_mode_is_set_aside_and_said_once(warned, method):
    net = trained()
    expected = sq.Scope(net).attribute(X, method)
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    kept = []
    messages = warned(lambda: kept.append(sq.Scope(net).attribute(X, method)))
    assert len(messages) == 1
    assert "training mode" in messages[0]
    assert "'norm'" in messages[0]
    assert "'drop'" in messages[0]
    np.testing.assert_array_equal(kept[0], expected)
    assert net.training
    assert net.norm.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("method", EVERY)
def test_a_target_below_chance_is_said_once(warned, method):
    """The figure is the lowest probability, by the net itself; over groups of other lengths too."""
    net = reader()
    ragged = [X[0], X[1, :5], X[2, :7], X[3, :5]]
    with torch.no_grad():
        probability = np.concatenate([net(torch.from_numpy(one)[None]).numpy() for one in ragged])
    target = int(probability.mean(0).argmin())
    below = probability[:, target] < 1 / 3
    assert below.any()
    messages = warned(lambda: sq.Scope(net).attribute(ragged, method, target=target, memory="30kB"))
    assert len(messages) == 1
    assert f"For {below.sum()} of 4 sequences" in messages[0]
    assert "below chance (1/3" in messages[0]
    assert f"{probability[:, target].min():.2g}" in messages[0]


@pytest.mark.parametrize("method", EVERY)
def test_a_target_that_is_chosen_is_not_warned_of(warned, method):
    scope = sq.Scope(reader())
    chosen = scope.predict(X).values.argmax(1)
    for target in (None, chosen, chosen.tolist(), sq.target.unit("rnn", 2), lambda output: output[:, 0]):
        assert warned(lambda target=target: scope.attribute(X, method, target=target)) == []


@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_a_regression_has_no_chance(warned, method):
    assert warned(lambda: sq.Scope(reader(1, softmax=False)).attribute(X, method)) == []
    assert warned(lambda: sq.Scope(reader(1, softmax=False)).attribute(X, method, target=0)) == []


@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_answers_of_their_own_have_no_chance(warned, method):
    """Behind a sigmoid the outputs do not compete."""
    torch.manual_seed(0)
    net = Net(lambda net, x: net.sigmoid(net.fc(x.sum(1)) - 5), fc=nn.Linear(3, 3), sigmoid=nn.Sigmoid())
    assert warned(lambda: sq.Scope(net).attribute(X, method, target=1)) == []


def normaliser(scale):
    """Probabilities that nothing can be looked through for: written out by hand."""

    def run(net, x):
        odds = torch.exp(scale * net.fc(x.mean(1)))
        return odds / odds.sum(1, keepdim=True)

    torch.manual_seed(0)
    return Net(run, fc=nn.Linear(3, 2))


@pytest.mark.parametrize("method", ["gradient", "occlusion", "integrated_gradients"])
def test_a_saturated_probability_is_said_once(warned, method):
    net = normaliser(20)
    with torch.no_grad():
        top = net(torch.from_numpy(X)).numpy().max(1)
    stuck = int((top > 0.99).sum())
    assert 0 < stuck <= 4
    messages = [one for one in warned(lambda: sq.Scope(net).attribute(X, method)) if "completeness" not in one]
    assert len(messages) == 1
    assert f"for {stuck} of 4 sequences it is saturated" in messages[0]
    assert "logits" in messages[0]
    assert warned(lambda: sq.Scope(normaliser(1)).attribute(X, method)) == []


def test_a_window_that_some_sequences_do_not_fill_is_said_once(warned):
    ragged = [X[0], X[1, :5], X[2, :3], X[3, :2]]
    messages = warned(lambda: sq.Scope(reader()).attribute(ragged, "occlusion", window=4))
    assert len(messages) == 1
    for figure in ("4 steps", "2 of 4 sequences", "2 steps"):
        assert figure in messages[0]
    assert warned(lambda: sq.Scope(reader()).attribute(ragged, "occlusion", window=2)) == []


def test_a_window_inside_a_rescaling_is_looked_at_too(warned):
    scope, ragged = sq.Scope(reader()), [X[0], X[1, :2]]
    refused(lambda: scope.attribute(ragged, TemporalSaliencyRescaling(Occlusion(window=10))), DataError, "10", "9")
    assert len(warned(lambda: scope.attribute(ragged, TemporalSaliencyRescaling(Occlusion(window=3))))) == 1


def test_a_group_that_no_sequence_reaches_is_said_once(warned):
    scope = sq.Scope(reader())
    messages = warned(lambda: scope.attribute(X, "feature_ablation", groups=[(0, None), (1, (20, 30)), (2, (40, 50))]))
    assert len(messages) == 1
    assert "group 1" in messages[0]
    assert "9 steps" in messages[0]
    assert warned(lambda: scope.attribute([X[0], X[1, :4]], "feature_ablation", groups=[(0, (6, 30))])) == []


def test_a_completeness_gap_is_said_once(warned):
    """One step through a net that bends; the largest gap stands in the coordinate too."""
    net = Net(lambda net, x: net.fc(torch.tanh(5 * x).sum(1)), fc=nn.Linear(3, 1))
    kept = []
    messages = warned(lambda: kept.append(sq.Scope(net).attribute([*X, X[0, :4]], "integrated_gradients", steps=1)))
    gap = kept[0].gap.values
    assert len(messages) == 1
    assert f"for {(gap > 0.05).sum()} of 5 scores" in messages[0]
    assert f"{100 * gap.max():.0f} %" in messages[0]
    assert warned(lambda: sq.Scope(net).attribute(X, "integrated_gradients", steps=300)) == []


def test_two_causes_are_two_warnings(warned):
    net = reader()
    target = int(sq.Scope(net).predict(X).values.mean(0).argmin())
    messages = warned(lambda: sq.Scope(net).attribute([X[0], X[1, :2]], "occlusion", window=3, target=target))
    assert len(messages) == 2
    assert "hidden whole" in messages[0]
    assert "below chance" in messages[1]


SHORT = [X[0], X[1, :2]]


@pytest.mark.parametrize(
    ("make", "data", "method", "options"),
    [
        pytest.param(lambda: trained().train(), X, "gradient", {}, id="training"),
        pytest.param(reader, X, "gradient", {"target": 1}, id="chance"),
        pytest.param(lambda: normaliser(20), X, "gradient", {}, id="saturated"),
        pytest.param(reader, SHORT, "occlusion", {"window": 3}, id="window"),
        pytest.param(reader, X, "feature_ablation", {"groups": [(0, (20, 30))]}, id="group"),
        pytest.param(reader, X, "integrated_gradients", {"steps": 1, "baseline": 9}, id="gap"),
    ],
)
def test_a_warning_points_at_the_line_of_the_person(make, data, method, options):
    scope = sq.Scope(make())
    here = test_a_warning_points_at_the_line_of_the_person.__code__
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scope.attribute(data, method, **options)
    assert len(caught) == 1, [str(one.message) for one in caught]
    assert caught[0].filename == __file__
    assert caught[0].lineno in {line for _, _, line in here.co_lines()}


def test_a_class_of_ablation_checks_itself():
    with pytest.raises(DataError, match="groups is 5"):
        FeatureAblation(5)
