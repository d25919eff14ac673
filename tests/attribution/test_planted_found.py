"""Nets that were trained on planted patterns: what decided is known, and each method has to find it."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

import seqscope as sq
from seqscope.errors import UnsupportedError

CHANNEL = 4


def convolutions(n_steps):
    """Any length; steps as the input's."""
    layers = [nn.Conv1d(9, 16, 7, padding=3), nn.ReLU(), nn.Conv1d(16, 16, 7, padding=3), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 2))


def pooled(n_steps):
    """Any length; every fourth step, each seeing 22."""
    layers = [nn.Conv1d(9, 16, 7), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(16, 16, 7), nn.ReLU(), nn.MaxPool1d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 2))


def asker(n_steps):
    """The net that was asked about, with fewer filters: its last pooling has 10 steps for 300."""
    layers = [nn.Conv1d(9, 16, 9), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(5)]
    layers += [nn.Conv1d(16, 16, 9), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(5)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * (((n_steps - 8) // 5 - 8) // 5), 2))


# The net, the lengths, the layer of the last convolution and the last layer with steps.
NETS = {
    "as long as the input": (convolutions, 150, "2", "3"),
    "ragged": (pooled, (80, 110), "3", "5"),
    "9 x 300": (asker, 300, "4", "7"),
}


def trained(make, length, *, shuffled=False, epochs=10, seed=0):
    """A net, and how many of the series that it was trained on it tells apart."""
    X, y, _ = sq.datasets.planted(400, length=length, n_channels=9, channel=CHANNEL, seed=seed)
    classes = torch.tensor([X.outputs.index(name) for name in y])
    if shuffled:
        classes = classes[torch.randperm(len(classes))]
    parts = [(torch.tensor(batch.values).float().transpose(1, 2), classes[batch.rows]) for batch in X.batches(50)]
    torch.manual_seed(seed)
    net = make(length)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.005)
    for _ in range(epochs):
        for place in torch.randperm(len(parts)):
            x, own = parts[place]
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), own).backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        right = sum(int((net(x).argmax(1) == own).sum()) for x, own in parts)
    return net, right / len(X)


@pytest.fixture(scope="module", params=NETS)
def found(request):
    """A trained net's scope, its layers, and other series with where their patterns are."""
    make, length, convolution, last = NETS[request.param]
    net, right = trained(make, length)
    assert right > 0.97, "an explanation of a net that has not learned the pattern proves nothing"
    X, y, truth = sq.datasets.planted(20, length=length, n_channels=9, channel=CHANNEL, seed=1000)
    scope = sq.Scope(net, layout="NCT", outputs=X.outputs)
    assert float((scope.predict(X).argmax("output") == [X.outputs.index(name) for name in y]).mean()) > 0.95
    return scope, convolution, last, X, y, truth


def auroc(attribution, mask):
    """The median over series, each over its own steps."""
    pairs = [(a[there], m[there]) for a, m in zip(attribution, mask, strict=True) for there in [~np.isnan(a)]]
    return float(np.median([roc_auc_score(m, a) for a, m in pairs]))


def test_class_activation_maps_find_it(found):
    scope, convolution, last, X, y, truth = found
    steps = truth.any("channel").values
    for method in ("grad_cam", "grad_cam_pp", "layer_cam", "score_cam"):
        for layer in (convolution, last)[method == "score_cam" :]:  # one that keeps what is below 0 takes too much with it
            made = scope.attribute(X, method, layer=layer, target=list(y))
            assert auroc(made["map"].values, steps) > 0.9, (method, layer)
    assert scope.attribute(X[:1], "grad_cam").attrs["layer"] == convolution


def test_cam_finds_it_where_it_can_be_had(found):
    scope, _, last, X, y, truth = found
    if last == NETS["9 x 300"][3]:
        with pytest.raises(UnsupportedError, match="use grad_cam"):
            scope.attribute(X, "cam")
        return
    made = scope.attribute(X, "cam", target=list(y))
    assert made.attrs["layer"] == last
    assert auroc(made["map"].values, truth.any("channel").values) > 0.95


def test_a_map_of_10_steps_lies_better_than_one_that_is_stretched_end_to_end(found):
    scope, _, last, X, y, truth = found
    if last != NETS["9 x 300"][3]:
        return
    steps = truth.any("channel").values
    for method in ("grad_cam", "layer_cam"):
        made = scope.attribute(X, method, layer=last, target=list(y))
        stretched = [np.interp(np.arange(300), np.linspace(15, 285, 10), row) for row in made["native"].values]
        assert auroc(made["map"].values, steps) > auroc(np.array(stretched), steps) + 0.01


@pytest.mark.filterwarnings("ignore:The completeness gap is over")
def test_integrated_gradients_and_occlusion_find_it(found):
    scope, _, _, X, y, truth = found
    for made in (
        scope.attribute(X, "integrated_gradients", target=list(y), steps=64, abs=True),
        scope.attribute(X, "occlusion", target=list(y), window=10, stride=5),
    ):
        by_channel = made.isel(channel=CHANNEL).values
        assert auroc(by_channel, truth.isel(channel=CHANNEL).values) > 0.85, made.attrs["method"]
        assert auroc(made.values.reshape(len(X), -1), truth.values.reshape(len(X), -1)) > 0.9, made.attrs["method"]


@pytest.mark.filterwarnings("ignore:For .* the target's probability is below chance")
def test_a_net_that_was_trained_on_shuffled_classes_does_not_point_at_it():
    """What keeps these figures from being those of any net that answers to whatever stands out."""
    X, y, truth = sq.datasets.planted(20, length=150, n_channels=9, channel=CHANNEL, seed=1000)
    net, _ = trained(convolutions, 150, shuffled=True, epochs=3)
    made = sq.Scope(net, layout="NCT", outputs=X.outputs).attribute(X, "grad_cam", target=list(y))
    assert auroc(made["map"].values, truth.any("channel").values) < 0.8
