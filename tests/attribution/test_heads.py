"""What heads say of themselves, as `scope.attribute` gives it: sums, clocks, names, and what is refused."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.text import Text
from sklearn.metrics import roc_auc_score
from torch import nn

import seqscope as sq
from nets import Net, series
from reference_heads import HEADS
from seqscope.errors import DataError, LayerError, ModelError, UnsupportedError

pytestmark = pytest.mark.filterwarnings("ignore:For .* the target's probability is below chance")

PLANTED = {"length": 300, "n_channels": 9, "pattern": ("sine", "ramp", "bump", "peaks", "chirp"), "channel": (2, 5), "noise": 0.5}


def convolutions(head="ConjunctivePooling", n_outputs=4, *more):
    stack = [nn.Conv1d(3, 6, 3), nn.ReLU(), nn.MaxPool1d(2), getattr(sq.nn.torch, head)(6, n_outputs, channels_first=True)]
    return nn.Sequential(*stack, *more).double().eval()


def recurrent(**options):
    def run(net, x):
        return net.head(net.lstm(x)[0])

    return Net(run, lstm=nn.LSTM(3, 5, batch_first=True), head=sq.nn.torch.AttentionPooling(5, 4, **options))


@pytest.mark.parametrize("head", HEADS)
def test_evidence_sums_to_the_logit_for_every_length(head):
    X = [series(1, n)[0] for n in (12, 9, 20, 9)]
    found = sq.Scope(convolutions(head, 4, nn.Softmax(-1))).attribute(X, "instances", target=[0, 1, 2, 3])
    np.testing.assert_allclose(found["native"].sum("step"), found.score, rtol=1e-9)
    assert found.attrs["additive"] == "true"
    assert (found.attrs["score"], found.attrs["looked_through"], found.attrs["kind"]) == ("logit", "softmax", "pooling_head")
    assert found["native"].notnull().sum("step").values.tolist() == [5, 3, 9, 3]
    assert found["map"].notnull().sum("time").values.tolist() == [12, 9, 20, 9]


def test_evidence_is_that_of_the_head_and_of_the_class():
    net, x = convolutions(), series(2, 12)
    expected = net[3].instances(net[:3](torch.tensor(x).transpose(1, 2)))["evidence"].detach().numpy()
    for target in range(4):
        found = sq.Scope(net).attribute(sq.Sequences(x), "instances", target=target)
        np.testing.assert_allclose(found["native"], expected[:, :, target], rtol=1e-12)


def test_evidence_of_instance_pooling_is_the_class_activation_map_with_the_bias_shared():
    net = convolutions("InstancePooling")
    plain = nn.Sequential(*net[:3], nn.AdaptiveAvgPool1d(1), nn.Flatten(), net[3].classifier).eval()
    X = sq.Sequences(series(3, 12))
    cam = sq.Scope(plain).attribute(X, "cam", target=1, layer="2")
    own = sq.Scope(net).attribute(X, "instances", target=1)
    np.testing.assert_allclose(own["native"], (cam["native"] + net[3].classifier.bias[1].item()) / 5, rtol=1e-9)
    for name in ("time_centre", "time_start", "time_end"):
        assert own[name].equals(cam[name])


def test_it_lies_on_the_clock_of_what_the_head_reads():
    found = sq.Scope(convolutions()).attribute(sq.Sequences(series(2, 12)), "instances")
    assert found["native"].dims == ("sample", "step")
    assert found.time_start.values.tolist() == [0, 2, 4, 6, 8]
    assert found.time_end.values.tolist() == [3, 5, 7, 9, 11]
    on_clock = sq.Scope(recurrent()).attribute(series(2, 12), "instances")
    assert on_clock["native"].dims == on_clock["map"].dims == ("sample", "time")


@pytest.mark.parametrize("attention", ["softmax", "sigmoid"])
def test_softmax_over_time_does_not_blur_the_clock(attention):
    """Each softmax weight depends on all steps, and still belongs to its own."""
    net = nn.Sequential(nn.Conv1d(3, 6, 3), sq.nn.torch.AttentionPooling(6, 2, attention=attention, channels_first=True)).eval()
    found = sq.Scope(net).attribute(sq.Sequences(series(2, 12)), "attention_pooling")
    assert (found.time_end - found.time_start).values.tolist() == [2] * 10


def test_weights_are_named_as_weights_and_for_no_target():
    scope, x = sq.Scope(recurrent()), series(3, 9)
    found = scope.attribute(x, "attention_pooling")
    np.testing.assert_allclose(found["native"].sum("time"), 1)
    assert found["map"].attrs["long_name"] == "Attention weight"
    assert not {"target", "score", "predicted"} & set(found.coords)
    assert not {"target", "score", "baseline", "additive"} & set(found.attrs)
    assert "importance" not in repr(found).lower()
    assert found["native"].dtype == np.float64
    with pytest.raises(UnsupportedError, match="attention_pooling gives the same for all outputs: leave target out"):
        scope.attribute(x, "attention_pooling", target=1)
    assert scope.attribute(x, "instances")["map"].attrs["long_name"] == "Evidence of the head"


def test_the_picture_of_weights_says_that_they_are_weights():
    scope, x = sq.Scope(recurrent()), series(1, 9)
    found = scope.attribute(x, "attention_pooling").isel(sample=0)
    ax = sq.plot.attribution(scope.sequences(x)[0], found)
    figure = (next(iter(ax.values())) if isinstance(ax, dict) else ax).get_figure(root=True)
    said = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "Attention weight" in said
    assert "importance" not in said.lower()
    plt.close(figure)


def test_alone_and_among_others_is_the_same():
    scope, X = sq.Scope(recurrent()), [series(1, n)[0] for n in (5, 9, 7, 9)]
    for method in ("instances", "attention_pooling"):
        together = scope.attribute(X, method)
        for row, x in enumerate(X):
            np.testing.assert_allclose(together["map"][row, : len(x)], scope.attribute([x], method)["map"][0], rtol=1e-10)


def test_a_model_that_takes_lengths_gives_the_same():
    net = recurrent()
    net.run = lambda net, x, lengths=None: net.head(net.lstm(x)[0], lengths)
    type(net).forward_with = lambda self, x, lengths: self.run(self, x, lengths)
    X = [series(1, n)[0] for n in (5, 9, 7)]
    told = sq.Scope(net, call=lambda model, batch, lengths: model.forward_with(batch, lengths))
    np.testing.assert_allclose(told.predict(X), sq.Scope(recurrent_like(net)).predict(X), rtol=1e-10)


def recurrent_like(net):
    made = recurrent()
    made.load_state_dict(net.state_dict())
    return made


def test_a_unit_of_an_inner_head_is_explained_where_the_output_is_refused():
    net, x = convolutions("AdditivePooling", 4, nn.Linear(4, 4)), sq.Sequences(series(2, 12))
    scope = sq.Scope(net)
    with pytest.raises(UnsupportedError, match=r"does not sum to the model's score: .*target=seqscope.target.unit\('3', 0\)"):
        scope.attribute(x, "instances")
    found = scope.attribute(x, "instances", target=sq.target.unit("3", 2))
    np.testing.assert_allclose(found["native"].sum("step"), scope.activations(x, "3")[:, 2], rtol=1e-9)


@pytest.mark.parametrize("ends_with_axis", [True, False])
def test_a_model_of_one_output_has_its_evidence_with_and_without_the_axis(ends_with_axis):
    def run(net, x):
        probability = torch.sigmoid(net.head(net.lstm(x)[0]))
        return probability if ends_with_axis else probability.squeeze(1)

    net = Net(run, lstm=nn.LSTM(3, 5, batch_first=True), head=sq.nn.torch.ConjunctivePooling(5, 1))
    found = sq.Scope(net).attribute(series(3), "instances")
    np.testing.assert_allclose(found["native"].sum("time"), net.head(net.lstm(torch.tensor(series(3)))[0])[:, 0].detach(), rtol=1e-9)
    assert found.attrs["looked_through"] == "sigmoid"


def test_several_heads_have_to_be_named():
    def run(net, x):
        h = net.lstm(x)[0]
        return net.one(h) + net.other(h)

    heads = {name: sq.nn.torch.ConjunctivePooling(5, 2) for name in ("one", "other")}
    scope, x = sq.Scope(Net(run, lstm=nn.LSTM(3, 5, batch_first=True), **heads)), series(2)
    with pytest.raises(UnsupportedError, match="has 'one', 'other': say which, with layer="):
        scope.attribute(x, "attention_pooling")
    assert scope.attribute(x, "attention_pooling", layer="other").attrs["layer"] == "other"
    with pytest.raises(UnsupportedError, match="does not sum to the model's score"):
        scope.attribute(x, "instances", layer="one")


@pytest.mark.parametrize("method", ["instances", "attention_pooling"])
def test_what_has_no_such_head_is_one_sentence(method, reader, block):
    with pytest.raises(UnsupportedError, match=r"needs a model that ends in a head of seqscope.nn, such as seqscope.nn.torch.Conj"):
        sq.Scope(reader).attribute(block, method)
    scope = sq.Scope(recurrent())
    with pytest.raises(UnsupportedError, match=r"is for a head of seqscope\.nn, and 'lstm' is none: Net has 'head'"):
        scope.attribute(block, method, layer="lstm")
    with pytest.raises(LayerError, match="No layer is named 'haed': the nearest is 'head'"):
        scope.attribute(block, method, layer="haed")
    with pytest.raises(DataError, match=f"abs and reduce are for attributions by value: what {method} gives has one value"):
        scope.attribute(block, method, abs=True)


def test_the_mean_has_no_weights():
    with pytest.raises(UnsupportedError, match="takes the mean over all steps and has no attention weights"):
        sq.Scope(convolutions("InstancePooling")).attribute(sq.Sequences(series(2, 12)), "attention_pooling")


def test_a_target_that_is_no_output_of_the_head_is_refused():
    with pytest.raises(UnsupportedError, match=r"the evidence for what the head 'head' gives: ask for an output, or for target.unit"):
        sq.Scope(recurrent()).attribute(series(2), "instances", target=sq.target.unit("lstm", 1))


def test_a_head_on_a_net_with_no_time_axis_is_one_sentence():
    for stack in ([nn.Conv1d(3, 6, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten()], [nn.Conv1d(3, 6, 3), nn.Flatten()]):
        scope = sq.Scope(nn.Sequential(*stack, sq.nn.torch.ConjunctivePooling(6, 2)).double().eval())
        with pytest.raises(ModelError, match="ConjunctivePooling pools over time and was given a tensor of shape"):
            scope.attribute(sq.Sequences(series(2, 12)), "instances")


def test_it_is_told_of_in_the_table_and_not_by_attention():
    scope = sq.Scope(recurrent())
    head = scope.layers[-1]
    assert (head.name, head.kind, head.description) == ("head", "pooling_head", "attention pooling into 4 outputs")
    assert head.n_params == 5 * 8 + 8 + 8 + 5 * 4 + 4
    with pytest.raises(UnsupportedError, match=r"attribute\(X, 'attention_pooling'\) gives its weights"):
        scope.attention(series(2), "head")


def test_a_stream_of_it_is_refused():
    with pytest.raises(UnsupportedError, match="'head' gives another value at step"):
        sq.Scope(recurrent()).stream(check=series(1))


def test_the_model_is_as_it_was():
    net = recurrent(dropout=0.3).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.warns(UserWarning, match="Found in training mode"):
        sq.Scope(net).attribute(series(2), "instances")
    assert net.training
    assert not net.head._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_shipped_net_points_at_the_pattern():
    X, y, truth = sq.datasets.planted(40, **PLANTED, seed=1000)
    scope = sq.Scope(sq.zoo.conv_mil(), outputs=X.outputs)
    steps = truth.values.any(2)
    found = scope.attribute(X, "instances", target=list(y))
    np.testing.assert_allclose(found["native"].sum("step"), found.score, atol=1e-5)
    assert np.median([roc_auc_score(where, row) for where, row in zip(steps, found["map"].values, strict=True)]) > 0.95
    weights = scope.attribute(X, "attention_pooling")["map"].values
    assert np.median([roc_auc_score(where, row) for where, row in zip(steps, weights, strict=True)]) > 0.9


def test_a_head_behind_a_layer_of_the_width_of_the_flattened_input_says_that_time_is_gone():
    net = nn.Sequential(nn.Flatten(), nn.Linear(27, 8), sq.nn.torch.ConjunctivePooling(8, 2)).eval()
    with pytest.raises(ModelError, match=r"pools over time and was given a tensor of shape \(\d, 8\)"):
        sq.Scope(net).attribute(np.zeros((2, 9, 3), np.float32), "instances")
