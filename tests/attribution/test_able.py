"""Which methods a model can do: told beforehand, and true of what `attribute` then does."""

import pytest
from torch import nn

import seqscope as sq
from nets import Net, series
from seqscope.attribution import METHODS
from seqscope.errors import SeqscopeError

GRADIENTS = ["gradient", "saliency", "input_x_gradient", "integrated_gradients", "expected_gradients", "smooth_grad"]
MAPS = ["grad_cam", "grad_cam_pp", "layer_cam", "score_cam"]
HIDING = ["occlusion", "feature_ablation", "temporal_saliency_rescaling"]


def conv_with_mean():
    parts = {"conv": nn.Conv1d(3, 4, 3), "relu": nn.ReLU(), "fc": nn.Linear(4, 2)}
    return Net(lambda net, x: net.fc(net.relu(net.conv(x)).mean(-1)), **parts)


def last_step():
    return Net(lambda net, x: net.fc(net.lstm(x)[0][:, -1]), lstm=nn.LSTM(3, 4, batch_first=True), fc=nn.Linear(4, 2))


def dense_only():
    return Net(lambda net, x: net.fc(x.flatten(1)), fc=nn.Linear(27, 2))


def of_tokens():
    parts = {"embed": nn.Embedding(7, 4), "lstm": nn.LSTM(4, 4, batch_first=True), "fc": nn.Linear(4, 2)}
    return Net(lambda net, x: net.fc(net.lstm(net.embed(x))[0][:, -1]), **parts)


def with_head(kind):
    conv = nn.Conv1d(3, 4, 3)
    return Net(lambda net, x: net.head(net.conv(x)), conv=conv, head=kind(4, 2, channels_first=True))


@pytest.mark.parametrize(
    ("net", "names"),
    [
        (conv_with_mean, [*GRADIENTS, "cam", *MAPS, *HIDING]),
        (last_step, [*GRADIENTS, *MAPS, *HIDING]),
        (dense_only, [*GRADIENTS, *HIDING]),
        (of_tokens, [*GRADIENTS, "grad_cam", "grad_cam_pp", "layer_cam", "occlusion", "feature_ablation"]),
        (lambda: with_head(sq.nn.torch.ConjunctivePooling), [*GRADIENTS, *MAPS, "instances", "attention_pooling", *HIDING]),
        (lambda: with_head(sq.nn.torch.InstancePooling), [*GRADIENTS, *MAPS, "instances", *HIDING]),
    ],
    ids=["conv", "lstm", "dense", "tokens", "head", "head without weights"],
)
def test_torch_models(net, names):
    assert list(sq.Scope(net()).methods) == names


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("net", [conv_with_mean, last_step], ids=["conv", "lstm"])
def test_what_is_named_works_and_what_is_not_is_refused(net, name):
    X = sq.Sequences(series(n_samples=2))
    scope = sq.Scope(net())
    if name in scope.methods:
        scope.attribute(X, name)
    else:
        with pytest.raises(SeqscopeError):
            scope.attribute(X, name)


def test_the_same_network_in_keras_can_do_the_same():
    pytest.importorskip("keras")
    assert sq.Scope(sq.zoo.japanese_vowels("keras")).methods == sq.Scope(sq.zoo.japanese_vowels()).methods


def test_onnx_has_no_derivatives():
    pytest.importorskip("onnxruntime")
    from onnx_nets import conv_net

    assert list(sq.Scope(conv_net().model).methods) == ["cam", "score_cam", "occlusion", "feature_ablation"]


def test_asking_leaves_the_table_of_layers_as_it_was():
    scope = sq.Scope(conv_with_mean())
    before = scope.layers.to_dataframe().to_string()
    assert scope.methods
    assert scope.layers.to_dataframe().to_string() == before
