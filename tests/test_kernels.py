"""The kernels of a convolution, compared with what the layer does to an impulse."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import seqscope as sq
from nets import Net


def by_impulse(conv, channel, length):
    """What a convolution (without bias) gives for one impulse in the middle of one channel: (unit, time)."""
    x = torch.zeros(1, conv.in_channels, length)
    x[0, channel, length // 2] = 1
    with torch.no_grad():
        return conv.eval()(x)[0].numpy()


def filters_of(conv, **options):
    return sq.Scope(nn.Sequential(conv)).filters("0", **options)


@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_kernels_are_what_an_impulse_meets_the_last_tap_first(groups, dilation):
    conv = nn.Conv1d(4, 8, 5, groups=groups, bias=False, dilation=dilation)
    found = filters_of(conv)
    assert found.sizes == {"unit": 8, "tap": 5, "channel": 4 // groups}
    span = 4 * dilation
    for channel in range(4):
        out = by_impulse(conv, channel, 41)
        for unit in range(8):
            group, own = divmod(channel, 4 // groups)
            expected = found.sel(unit=unit, channel=own).values if unit // (8 // groups) == group else np.zeros(5)
            np.testing.assert_array_equal(out[unit, 20 - span : 21 : dilation][::-1], expected)  # step t reads tap k at t + k


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_kernels_of_a_transposed_convolution_are_what_an_impulse_is_spread_to(groups):
    conv = nn.ConvTranspose1d(4, 8, 5, groups=groups, bias=False)
    found = filters_of(conv)
    assert found.sizes == {"unit": 8, "tap": 5, "channel": 4 // groups}
    for channel in range(4):
        out = by_impulse(conv, channel, 21)
        group, own = divmod(channel, 4 // groups)
        for unit in range(8):
            expected = found.sel(unit=unit, channel=own).values if unit // (8 // groups) == group else np.zeros(5)
            np.testing.assert_array_equal(out[unit, 10:15], expected)


def old_norm(conv):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(conv)


NORMS = {
    "weight norm": nn.utils.parametrizations.weight_norm,
    "spectral norm": nn.utils.parametrizations.spectral_norm,
    "old weight norm": old_norm,
    "old spectral norm": nn.utils.spectral_norm,
    "pruned": lambda conv: prune.random_unstructured(conv, "weight", amount=0.5),
}


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS.keys())
@pytest.mark.parametrize("training", [True, False])
def test_kernels_that_are_computed_are_those_of_the_next_pass_and_nothing_changes(norm, training):
    torch.manual_seed(0)
    conv = norm(nn.Conv1d(3, 4, 5, bias=False)).train(training)
    with torch.no_grad():  # as after a step of training: what lies in `weight` is stale
        for parameter in conv.parameters():
            parameter.mul_(torch.linspace(0.5, 2.0, len(parameter)).reshape(-1, *[1] * (parameter.ndim - 1)))
    before = {name: tensor.clone() for name, tensor in conv.state_dict().items()}
    found = filters_of(conv)
    for name, tensor in conv.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert conv.training is training
    for channel in range(3):
        np.testing.assert_allclose(by_impulse(conv, channel, 21)[:, 6:11][:, ::-1], found.sel(channel=channel), rtol=1e-6)


def test_kernels_are_a_copy():
    conv = nn.Conv1d(3, 4, 5)
    before = conv.weight.detach().clone()
    filters_of(conv).values[:] = 0
    assert torch.equal(conv.weight, before)


def test_result_says_what_it_is():
    found = filters_of(nn.Conv1d(3, 4, 5, dilation=2, stride=3), channels=["x", "y", "z"])
    assert found.dims == ("unit", "tap", "channel")
    assert found.channel.values.tolist() == ["x", "y", "z"]
    assert found.tap.values.tolist() == [0, 1, 2, 3, 4]
    assert found.unit.attrs["long_name"] == "Filter"
    said = {"layer": "0", "kind": "conv1d", "layer_type": "Conv1d", "model": "Sequential", "framework": "torch", "method": "filters"}
    assert said.items() <= found.attrs.items()
    assert (found.attrs["dilation"], found.attrs["stride"]) == (2, 3)


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(sq.errors.DataError, match=r"2 channel names were given and a filter of this layer has 3 channels"):
        filters_of(nn.Conv1d(3, 4, 5), channels=["x", "y"])


def test_a_layer_that_is_no_convolution_is_refused_with_those_that_are():
    model = nn.Sequential(nn.Conv1d(3, 4, 5), nn.ReLU(), nn.Conv1d(4, 2, 3))
    with pytest.raises(sq.errors.UnsupportedError, match=r"'1' \(ReLU\) is no convolution .*: ask for one of '0', '2'\.\n.*filters\('1'\)"):
        sq.Scope(model).filters("1")
    with pytest.raises(sq.errors.UnsupportedError, match=r"'lstm' \(LSTM\) is no convolution along time: there is none in this model\."):
        sq.Scope(sq.zoo.japanese_vowels()).filters("lstm")


@pytest.mark.parametrize("name", ["conv_1", "conv*", "conv1[0]", 3])
def test_a_name_that_is_not_there_gives_the_nearest(name):
    model = Net(lambda net, x: net.conv1(x), conv1=nn.Conv1d(3, 4, 5))
    with pytest.raises(sq.errors.LayerError, match=r"No layer is named .*'conv1'"):
        sq.Scope(model).filters(name)


def test_an_engine_without_kernels_is_refused():
    scope = sq.Scope(nn.Sequential(nn.Conv1d(3, 4, 5)))
    scope._engine = SimpleNamespace(by_name=scope._engine.by_name, framework="torch", model_name="Sequential")
    with pytest.raises(sq.errors.UnsupportedError, match="kernels of torch models can't be read"):
        scope.filters("0")


def test_short_floats_become_float32():
    assert filters_of(nn.Conv1d(3, 4, 5).bfloat16()).dtype == np.float32
