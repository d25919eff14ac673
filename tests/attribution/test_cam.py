"""Class activation maps: the papers' equations written out step by step, captum, and nets whose right map is known."""

import functools

import matplotlib as mpl
import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import seqscope as sq
from nets import Net, series
from seqscope.errors import DataError, LayerError, SeqscopeError, UnsupportedError

captum_attr = pytest.importorskip("captum.attr")
mpl.use("agg")

BY_GRADIENT = ["grad_cam", "grad_cam_pp", "layer_cam"]
ALL = [*BY_GRADIENT, "score_cam"]
# Small nets are hardly ever sure of a class, which is not what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:For .* the target's probability is below chance")


def gap(*layers, units=6):
    """A sequential net that ends in a mean over time and a dense layer."""
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(units, 3)).double().eval()


def asker(units=8):
    """The net whose windows its owner worked out by hand, with fewer filters: 9 x 300 -> 292 -> 58 -> 50 -> 10."""
    conv = [nn.Conv1d(9, units, 9), nn.BatchNorm1d(units), nn.ReLU(), nn.MaxPool1d(5)]
    conv += [nn.Conv1d(units, units, 9), nn.BatchNorm1d(units), nn.ReLU(), nn.MaxPool1d(5)]
    return nn.Sequential(*conv, nn.Flatten(), nn.Linear(10 * units, 5), nn.Softmax(-1)).double().eval()


def ntc(n_samples=3, n_steps=30, n_channels=4):
    return series(n_samples, n_steps, n_channels)


def nct(*sizes):
    return ntc(*sizes).transpose(0, 2, 1)


# The papers, written out for one sequence: A and G are (time, unit)


def grad_cam(A, G):
    weights = [sum(G[t, k] for t in range(len(A))) / len(A) for k in range(A.shape[1])]
    return [max(0, sum(weights[k] * A[t, k] for k in range(A.shape[1]))) for t in range(len(A))]


def grad_cam_pp(A, G):
    """With Y = exp(S) the n-th derivative is exp(S) g^n; the factor exp(S), the same everywhere, is left out of the weights."""
    weights = []
    for k in range(A.shape[1]):
        total, weight = sum(A[:, k]), 0
        for g in G[:, k]:
            if g:
                weight += g**2 / (2 * g**2 + total * g**3) * max(g, 0)
        weights.append(weight)
    return [max(0, sum(weights[k] * A[t, k] for k in range(A.shape[1]))) for t in range(len(A))]


def layer_cam(A, G):
    return [max(0, sum(max(G[t, k], 0) * A[t, k] for k in range(A.shape[1]))) for t in range(len(A))]


PAPERS = {"grad_cam": grad_cam, "grad_cam_pp": grad_cam_pp, "layer_cam": layer_cam}


def value_and_gradient(model, layer, X, score):
    """What a module gives and the derivative of the sum of scores there, by autograd on its own output."""
    kept = []

    def keep(_, args, value):
        first = value[0] if isinstance(value, tuple) else value
        first.retain_grad()
        kept.append((first, first.detach().clone()))

    handle = model.get_submodule(layer).register_forward_hook(keep)
    score(model(torch.tensor(X, requires_grad=True))).sum().backward()
    handle.remove()
    (value, copied), = kept  # fmt: skip
    return copied.numpy(), value.grad.numpy()


class Turned(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


def attention(net, x):
    return net.fc(net.encoder(net.embed(x))[:, 0])


def as_image(net, x):
    return net.fc(torch.relu(net.conv(x[:, None])).amax((-1, -2)))


fc = functools.partial(nn.Linear, 6, 3)
# A net, the layer, the data's layout, and how the layer's own axes become (sample, time, unit).
KINDS = {
    "conv": lambda: (nn.Sequential(nn.Conv1d(4, 6, 5), nn.ReLU(), nn.Flatten(), nn.Linear(156, 3)), "0", "NCT", (0, 2, 1)),
    "max pooling": lambda: (
        nn.Sequential(nn.Conv1d(4, 6, 4, stride=2), nn.MaxPool1d(3, 2), nn.Flatten(), nn.Linear(36, 3)),
        "1",
        "NCT",
        (0, 2, 1),
    ),
    "dilated": lambda: (gap(nn.Conv1d(4, 6, 3, dilation=4), nn.Tanh()), "0", "NCT", (0, 2, 1)),
    "causal": lambda: (gap(nn.ConstantPad1d((4, 0), 0.0), nn.Conv1d(4, 6, 5), nn.Tanh()), "1", "NCT", (0, 2, 1)),
    "transposed": lambda: (gap(nn.Conv1d(4, 6, 3, stride=3), nn.ConvTranspose1d(6, 6, 4, 2), nn.ReLU()), "1", "NCT", (0, 2, 1)),
    "turned": lambda: (
        Net(lambda n, x: n.fc(n.norm(n.turn(n.conv(x))).amax(1)), conv=nn.Conv1d(4, 6, 5), turn=Turned(), norm=nn.LayerNorm(6), fc=fc()),
        "norm",
        "NCT",
        (0, 1, 2),
    ),
    "dense by step": lambda: (Net(lambda n, x: n.fc(torch.relu(n.lin(x)).amax(1)), lin=nn.Linear(4, 6), fc=fc()), "lin", "NTC", (0, 1, 2)),
    "dense, time first": lambda: (
        Net(lambda n, x: n.fc(torch.relu(n.lin(x)).amax(0)), lin=nn.Linear(4, 6), fc=fc()),
        "lin",
        "TNC",
        (1, 0, 2),
    ),
    "attention": lambda: (
        Net(
            attention,
            embed=nn.Linear(4, 8),
            encoder=nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2),
            fc=nn.Linear(8, 3),
        ),
        "encoder.layers.0.norm2",
        "NTC",
        (0, 1, 2),
    ),
}


def in_layout(X, layout):
    return X.transpose({"NTC": (0, 1, 2), "NCT": (0, 2, 1), "TNC": (1, 0, 2)}[layout])


@pytest.mark.parametrize("method", BY_GRADIENT)
@pytest.mark.parametrize("kind", KINDS)
def test_as_the_papers_have_it_whatever_the_layout(kind, method):
    model, layer, layout, axes = KINDS[kind]()
    model = model.double().eval()
    X = in_layout(ntc(), layout)
    found = sq.Scope(model, layout=layout).attribute(X, method, layer=layer, target=1)["native"]
    value, gradient = (array.transpose(axes) for array in value_and_gradient(model, layer, X, lambda output: output[:, 1]))
    expected = np.array([PAPERS[method](A, G) for A, G in zip(value, gradient, strict=True)])
    assert expected.any(), "a map of zeros would prove nothing"
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", BY_GRADIENT)
def test_rows_of_samples_and_steps_in_one_axis(method):
    model = Net(
        lambda n, x: n.fc(torch.relu(n.lin(x.reshape(-1, 4))).reshape(len(x), -1, 6).amax(1)), lin=nn.Linear(4, 6), fc=nn.Linear(6, 3)
    )
    X = ntc()
    found = sq.Scope(model, layout="NTC").attribute(X, method, layer="lin", target=2)["native"]
    A, G = (array.reshape(3, 30, 6) for array in value_and_gradient(model, "lin", X, lambda output: output[:, 2]))
    np.testing.assert_allclose(found, [PAPERS[method](*pair) for pair in zip(A, G, strict=True)], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", BY_GRADIENT)
def test_layers_with_no_axis_of_units_or_with_two(method):
    flat = Net(lambda n, x: n.fc(n.act(n.conv(x).squeeze(1))[:, -3:]), conv=nn.Conv1d(4, 1, 5), act=nn.Tanh(), fc=nn.Linear(3, 3))
    scope = sq.Scope(flat, layout="NCT", example=nct())
    A, G = (array[..., None] for array in value_and_gradient(flat, "act", nct(), lambda output: output[:, 0]))
    found = scope.attribute(nct(), method, layer="act", target=0)["native"]
    np.testing.assert_allclose(found, [PAPERS[method](*pair) for pair in zip(A, G, strict=True)], rtol=1e-9, atol=1e-12)

    image = Net(as_image, conv=nn.Conv2d(1, 2, (3, 5)), fc=nn.Linear(2, 3))  # (sample, filter, channel, time)
    A, G = (
        array.transpose(0, 3, 1, 2).reshape(3, 26, 4) for array in value_and_gradient(image, "conv", nct(), lambda output: output[:, 0])
    )
    found = sq.Scope(image, layout="NCT").attribute(nct(), method, layer="conv", target=0)["native"]
    np.testing.assert_allclose(found, [PAPERS[method](*pair) for pair in zip(A, G, strict=True)], rtol=1e-9, atol=1e-12)


def test_score_cam_of_layers_with_no_axis_of_units_or_with_two():
    flat = Net(lambda n, x: n.fc(n.act(n.conv(x).squeeze(1))[:, -3:]), conv=nn.Conv1d(4, 1, 5), act=nn.Tanh(), fc=nn.Linear(3, 3))
    image = Net(as_image, conv=nn.Conv2d(1, 2, (3, 5)), fc=nn.Linear(2, 3))
    for model, layer in ((flat, "act"), (image, "conv")):
        found = sq.Scope(model, layout="NCT").attribute(nct(), "score_cam", layer=layer)
        assert (found["native"].shape, found["map"].shape) == ((3, 26), (3, 30))


def test_as_captum_has_it():
    model = nn.Sequential(
        nn.Conv1d(4, 6, 5), nn.ReLU(), nn.Conv1d(6, 5, 3), nn.ReLU(), nn.AdaptiveMaxPool1d(2), nn.Flatten(), nn.Linear(10, 3)
    )
    model = model.double().eval()
    for layer in ("0", "1", "2"):
        peer = captum_attr.LayerGradCam(model, model.get_submodule(layer))
        for relu in (True, False):
            expected = peer.attribute(torch.tensor(nct()), target=1, relu_attributions=relu).detach().numpy()[:, 0]
            found = sq.Scope(model, layout="NCT").attribute(nct(), "grad_cam", layer=layer, target=1, relu=relu)
            np.testing.assert_allclose(found["native"], expected, rtol=1e-9, atol=1e-12)
            assert found.attrs["signed"] == (not relu)


def test_weights_are_those_of_very_small_derivatives_too():
    """Their squares are too small for a number in float32, their share is not."""
    model = gap(nn.Conv1d(4, 6, 5), nn.ReLU()).float()
    scope, X = sq.Scope(model, layout="NCT"), nct().astype(np.float32)
    usual = scope.attribute(X, "grad_cam_pp", target=0)["native"]
    with torch.no_grad():
        model[4].weight *= 1e-30
    small = scope.attribute(X, "grad_cam_pp", target=0)["native"]
    assert float(usual.max()) > 0
    # alpha -> 1/2 as g -> 0
    value, gradient = value_and_gradient(model, "0", X, lambda output: output[:, 0])
    expected = np.maximum((value * np.maximum(gradient, 0).sum(2, keepdims=True) / 2).sum(1), 0)
    assert expected.any()
    np.testing.assert_allclose(small, expected, rtol=1e-4)


# Score-CAM


def matrix_of(native, n_steps):
    """How much each input step takes of each layer step, step by step from the coordinates: most where it lies on the centre."""
    if "step" not in native.dims:
        return np.eye(n_steps)
    matrix = np.zeros((native.sizes["step"], n_steps))
    windows = zip(native.time_start.values, native.time_end.values, native.time_centre.values, strict=True)
    for step, (start, end, centre) in enumerate(windows):
        for time in range(start, end + 1):
            matrix[step, time] = max(1 - abs(time - centre) / ((end - start) / 2 + 1), 1e-6)
    total = matrix.sum(0)
    return np.divide(matrix, total, out=np.zeros_like(matrix), where=total > 0)


@pytest.mark.parametrize("baseline", [None, "mean", 0.7])
def test_score_cam_as_the_paper_has_it(baseline):
    model, X = gap(nn.Conv1d(4, 6, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(6, 6, 3), nn.Tanh()), nct()
    found = sq.Scope(model, layout="NCT").attribute(X, "score_cam", layer="3", target=2, baseline=baseline)
    value, _ = value_and_gradient(model, "3", X, lambda output: output[:, 2])
    matrix = matrix_of(found["native"], 30)
    seen = matrix.any(0)
    for x, A, native in zip(X, value, found["native"].values, strict=True):
        base = np.zeros_like(x) if baseline is None else np.full_like(x, 0.7) if baseline == 0.7 else X.mean((0, 2))[:, None] + 0 * x
        scores = []
        for unit in A:
            on_time = unit @ matrix
            mask = (on_time - on_time[seen].min()) / (on_time[seen].max() - on_time[seen].min()) * seen
            scores.append(float(model(torch.tensor(base + mask * (x - base))[None])[0, 2].detach()))
        weights = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(native, np.maximum(weights @ A, 0), rtol=1e-9, atol=1e-12)


def test_score_cam_keeps_what_a_unit_is_most_active_at():
    """A net that reads the mean of channel 0: the unit that follows it gets the weight, and the one that answers to channel 1 does not."""
    model = Net(lambda n, x: 200 * n.conv(x)[:, :1].clamp(0).mean(-1) * torch.tensor([1.0, -1.0]), conv=nn.Conv1d(2, 2, 1, bias=False))
    with torch.no_grad():
        model.conv.weight[:] = torch.eye(2)[..., None]
    X = np.zeros((1, 2, 40))
    X[0, 0, 5:10] = X[0, 1, 25:30] = 1
    found = sq.Scope(model, layout="NCT").attribute(X, "score_cam", target=0)["map"].values[0]
    np.testing.assert_allclose(found, X[0, 0], atol=1e-6)


def test_tokens_have_no_values_to_keep_a_share_of():
    model = Net(
        lambda n, x: n.fc(torch.relu(n.conv(n.embed(x).transpose(1, 2))).mean(-1)),
        embed=nn.Embedding(10, 5),
        conv=nn.Conv1d(5, 6, 3),
        fc=nn.Linear(6, 3),
    )
    X, scope = np.random.default_rng(0).integers(0, 10, (4, 20)), sq.Scope(model)
    with pytest.raises(UnsupportedError, match="tokens have none: use layer_cam, or occlusion"):
        scope.attribute(X, "score_cam")
    for method in BY_GRADIENT:
        found = scope.attribute(X, method)
        assert (found["map"].shape, found["native"].shape) == ((4, 20), (4, 18))


# CAM


def mean_then_dense(net, x):
    return net.fc(net.features(x).mean(-1))


def features(*more):
    return nn.Sequential(nn.Conv1d(4, 6, 5), nn.BatchNorm1d(6), nn.ReLU(), *more)


POOLED = {
    "adaptive": lambda: (gap(nn.Conv1d(4, 6, 5), nn.ReLU()), "1"),
    "softmax": lambda: (nn.Sequential(*gap(nn.Conv1d(4, 6, 5), nn.ReLU()), nn.Softmax(-1)), "1"),
    "mean": lambda: (Net(mean_then_dense, features=features(), fc=fc()), "features.2"),
    "dropout before": lambda: (Net(mean_then_dense, features=features(nn.Dropout(0.5)), fc=fc()), "features.3"),
    "dropout after": lambda: (
        Net(lambda n, x: n.fc(n.drop(n.features(x).mean(-1))), features=features(), drop=nn.Dropout(0.5), fc=fc()),
        "features.2",
    ),
    "no bias": lambda: (Net(mean_then_dense, features=features(), fc=nn.Linear(6, 3, bias=False)), "features.2"),
    "one output": lambda: (
        Net(lambda n, x: torch.sigmoid(n.fc(n.features(x).mean(-1))).squeeze(-1), features=features(), fc=nn.Linear(6, 1)),
        "features.2",
    ),
    "recurrent": lambda: (
        Net(lambda n, x: n.fc(n.rnn(x.transpose(1, 2))[0].mean(1)), rnn=nn.GRU(4, 6, batch_first=True), fc=fc()),
        "rnn",
    ),
    "bidirectional": lambda: (
        Net(lambda n, x: n.fc(n.rnn(x.transpose(1, 2))[0].mean(1)), rnn=nn.LSTM(4, 3, batch_first=True, bidirectional=True), fc=fc()),
        "rnn",
    ),
}


@pytest.mark.parametrize("kind", POOLED)
def test_cam_averages_to_the_logit_less_the_bias(kind):
    model, layer = POOLED[kind]()
    model = model.double().eval()
    found = sq.Scope(model, layout="NCT").attribute(nct(), "cam")
    assert (found.attrs["layer"], found.attrs["signed"]) == (layer, 1)
    dense = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    bias = np.zeros(3) if dense.bias is None else dense.bias.detach().numpy()
    pooled = found["native"].mean(found["native"].dims[1])
    np.testing.assert_allclose(pooled + bias[found.target.values.astype(int)], found.score, rtol=1e-9)
    named = sq.Scope(model, layout="NCT").attribute(nct(), "cam", layer=layer)
    xr.testing.assert_identical(named, found)


def test_grad_cam_of_such_a_network_is_cam_by_the_number_of_steps():
    scope = sq.Scope(gap(nn.Conv1d(4, 6, 5), nn.ReLU()), layout="NCT")
    cam, signed, cut = (
        scope.attribute(nct(), method, layer="1", target=1, **more)["native"]
        for method, more in (("cam", {}), ("grad_cam", {"relu": False}), ("grad_cam", {}))
    )
    np.testing.assert_allclose(signed, cam / 26, rtol=1e-9, atol=1e-15)
    np.testing.assert_array_equal(cut, np.maximum(signed, 0))
    assert float(cam.min()) < 0


def concatenated(net, x):
    x = net.conv(x)
    return net.fc(torch.cat([x.mean(-1), x.amax(-1)], 1))


OTHERWISE = {
    "max": (lambda n, x: n.fc(n.conv(x).amax(-1)), 6),
    "sum": (lambda n, x: n.fc(n.conv(x).sum(-1)), 6),
    "mean and max": (concatenated, 12),
    "last step": (lambda n, x: n.fc(n.conv(x)[..., -1]), 6),
    "flatten": (lambda n, x: n.fc(n.conv(x).flatten(1)), 156),
    "a function between": (lambda n, x: n.fc(torch.relu(n.conv(x)).mean(-1)), 6),
    "a function behind": (lambda n, x: torch.tanh(n.fc(n.conv(x).mean(-1))), 6),
}


@pytest.mark.parametrize("scale", [1.0, 1e-5])
@pytest.mark.parametrize("kind", OTHERWISE)
def test_cam_of_other_networks_is_refused(kind, scale):
    """However small the weights: whether two logits agree is no matter of how far they are from 1."""
    run, size = OTHERWISE[kind]
    if kind == "a function behind" and scale < 1:
        pytest.skip("so near to 0 the function is none")
    model = Net(run, conv=nn.Conv1d(4, 6, 5), fc=nn.Linear(size, 3))
    with torch.no_grad():
        model.fc.weight *= scale
    with pytest.raises(UnsupportedError, match="use grad_cam") as raised:
        sq.Scope(model, layout="NCT").attribute(nct(), "cam")
    assert "'conv' is not read in that way" in str(raised.value)


@pytest.mark.parametrize("target", [sq.target.unit("conv", 1), lambda output: output[:, 0]])
def test_cam_of_anything_but_an_output_is_refused(target):
    model = Net(lambda n, x: n.fc(n.conv(x).mean(-1)), conv=nn.Conv1d(4, 6, 5), fc=fc())
    with pytest.raises(UnsupportedError, match="cam explains outputs of the model: for a unit or a function, use grad_cam"):
        sq.Scope(model, layout="NCT").attribute(nct(), "cam", target=target)


def test_cam_before_a_batch_norm_is_refused():
    with pytest.raises(UnsupportedError, match=r"'features\.0' is not read in that way"):
        sq.Scope(Net(mean_then_dense, features=features(), fc=fc()), layout="NCT").attribute(nct(), "cam", layer="features.0")


def test_cam_in_float32():
    model = Net(mean_then_dense, features=features(), fc=fc()).float()
    with torch.no_grad():
        model.fc.weight *= 1000
    found = sq.Scope(model, layout="NCT").attribute(nct().astype(np.float32), "cam")
    assert found["map"].dtype == np.float32
    bias = model.fc.bias.detach().numpy()[found.target.values.astype(int)]
    np.testing.assert_allclose(found["native"].mean("step") + bias, found.score, rtol=1e-3)


# The right place


@pytest.mark.parametrize("method", ALL)
def test_the_last_pooling_of_the_net_that_was_asked_about(method):
    found = sq.Scope(asker(), layout="NCT").attribute(nct(2, 300, 9), method, layer="7")
    native, on_time = found["native"], found["map"]
    assert (native.dims, native.sizes["step"], on_time.dims, on_time.sizes["time"]) == (("sample", "step"), 10, ("sample", "time"), 300)
    np.testing.assert_array_equal(native.time_centre, 36 + 25 * np.arange(10))
    np.testing.assert_array_equal(native.time_start, 25 * np.arange(10))
    np.testing.assert_array_equal(native.time_end, 72 + 25 * np.arange(10))
    assert (on_time.isel(time=slice(298, None)) == 0).all(), "no step sees the last two"
    np.testing.assert_allclose(on_time, native.values @ matrix_of(native, 300), rtol=1e-12)
    assert float(on_time.max()) <= float(native.max())


def test_by_itself_it_is_the_last_convolution():
    found = sq.Scope(asker(), layout="NCT").attribute(nct(2, 300, 9), "grad_cam")
    assert (found.attrs["layer"], found.attrs["kind"], found["native"].sizes["step"]) == ("4", "conv1d", 50)
    np.testing.assert_array_equal(found["native"].time_centre, 26 + 5 * np.arange(50))
    out_of_order = Net(lambda n, x: n.fc(n.a(n.b(x)).mean(-1)), a=nn.Conv1d(6, 6, 3), b=nn.Conv1d(4, 6, 3), fc=fc())
    assert sq.Scope(out_of_order, layout="NCT").attribute(nct(), "grad_cam").attrs["layer"] == "a"


@pytest.mark.parametrize("method", ["layer_cam", "score_cam"])
@pytest.mark.parametrize("place", [70, 111, 200, 230])
def test_a_bump_is_found_where_it_is(place, method):
    """The first pooling step that sees it is not where a map that is stretched end to end would have it."""
    model = asker()
    with torch.no_grad():
        for conv in (model[0], model[4]):
            conv.weight.abs_()
            conv.bias.zero_()
        model[9].weight.abs_()
    X = np.zeros((1, 9, 300))
    X[:, :, place - 2 : place + 3] = 1
    on_time = sq.Scope(model, layout="NCT").attribute(X, method, layer="7")["map"].values[0]
    middle = (on_time * np.arange(300)).sum() / on_time.sum()
    # a step of the layer is 25 input steps, so that a bump lies within half of that from the next centre
    assert abs(middle - place) < 13
    assert abs(on_time.argmax() - place) < 13


def identity(**options):
    """A convolution of kernel 5 whose unit is the mean of what it sees."""
    conv = nn.Conv1d(1, 1, 5, bias=False, **options)
    nn.init.constant_(conv.weight, 0.2)
    return conv


SEEING = {
    "valid": lambda: (identity(), "0"),
    "strided": lambda: (identity(stride=3), "0"),
    "dilated": lambda: (identity(dilation=3), "0"),
    "strided beyond the kernel": lambda: (identity(stride=8), "0"),
    "padded on the right": lambda: (nn.Sequential(nn.ConstantPad1d((0, 3), 0.0), identity()), "0.1"),
    "transposed": lambda: (nn.Sequential(identity(stride=4), nn.ConvTranspose1d(1, 1, 2, 2, bias=False)), "0.1"),
    "pooled": lambda: (nn.Sequential(identity(), nn.AvgPool1d(4)), "0.1"),
}


@pytest.mark.parametrize("kind", SEEING)
def test_each_step_is_spread_over_what_it_sees_and_no_further(kind):
    """By the gradient of each layer step with respect to the input: a reference that knows no formula."""
    part, layer = SEEING[kind]()
    model = nn.Sequential(part, nn.Flatten(), nn.LazyLinear(2))
    X = np.random.default_rng(0).uniform(1, 2, (1, 1, 60))
    model(torch.tensor(X, dtype=torch.float32))
    model = model.double().eval()
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.abs_()
    found = sq.Scope(model, layout="NCT").attribute(X, "layer_cam", layer=layer, target=0)
    native, on_time = found["native"].values[0], found["map"].values[0]
    x = torch.tensor(X, requires_grad=True)
    value = part(x)[0, 0]
    sees = np.stack([torch.autograd.grad(step, x, retain_graph=True)[0].numpy()[0, 0] != 0 for step in value])
    for time in range(60):
        # a dilated kernel sees from its first tap to its last
        here = [step for step, row in enumerate(sees) if row.any() and row.argmax() <= time <= 59 - row[::-1].argmax()]
        if here:
            assert native[here].min() - 1e-12 <= on_time[time] <= native[here].max() + 1e-12
        else:
            assert on_time[time] == 0
    assert native.max() > 0


def test_a_layer_as_long_as_the_input_is_not_moved():
    found = sq.Scope(gap(nn.Conv1d(4, 6, 5, padding=2), nn.ReLU()), layout="NCT").attribute(nct(), "grad_cam", layer="0")
    assert found["map"].dims == found["native"].dims == ("sample", "time")
    np.testing.assert_array_equal(found["map"], found["native"])


def test_a_layer_that_runs_backwards_is_turned_round():
    """It has as many steps as the input, but the first is where the input's last is."""
    model = Net(lambda n, x: n.fc(n.conv(x.flip(-1))[..., -3:].amax(-1)), conv=nn.Conv1d(1, 6, 1), fc=fc())
    with torch.no_grad():
        model.conv.weight.fill_(1)
        model.fc.weight.abs_()
    X = np.random.default_rng(0).uniform(1, 2, (1, 1, 40))
    found = sq.Scope(model, layout="NCT").attribute(X, "layer_cam", layer="conv", target=0)
    assert found["native"].dims == ("sample", "step")
    np.testing.assert_array_equal(found["map"], found["native"].values[:, ::-1])
    assert set(found["map"].values[0].nonzero()[0]) <= {0, 1, 2}
    assert found["map"].values.any()


def test_what_no_step_sees_is_not_guessed():
    """The first four steps of this layer see padding alone."""
    model = gap(nn.ConstantPad1d((8, 0), 0.0), nn.Conv1d(4, 6, 5), nn.ReLU())
    for method in ALL:
        with pytest.raises(UnsupportedError, match="see of the input can't be known"):
            sq.Scope(model, layout="NCT").attribute(nct(), method)


def test_time_stamps_are_kept():
    time = np.datetime64("2026-01-01") + np.arange(30).astype("timedelta64[m]")
    x = xr.DataArray(ntc(1)[0], dims=("time", "channel"), coords={"time": time})
    found = sq.Scope(gap(nn.Conv1d(4, 6, 5), nn.ReLU(), nn.MaxPool1d(3)), layout="NCT").attribute(x, "grad_cam", layer="2")
    np.testing.assert_array_equal(found["map"].time, time)
    assert found["native"].time_start.values[1] == time[3]


# Through a recurrence


class Steps(nn.Module):
    """An LSTM or GRU that is written out, with a zero added to h at every step."""

    def __init__(self, rnn, layer):
        super().__init__()
        self.rnn, self.layer = rnn, layer

    def forward(self, x):
        nudges, values = [], []
        for number in range(self.rnn.num_layers):
            weights = [getattr(self.rnn, f"{name}_l{number}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            step = torch._VF.lstm_cell if isinstance(self.rnn, nn.LSTM) else torch._VF.gru_cell
            h = c = torch.zeros(len(x), self.rnn.hidden_size, dtype=x.dtype)
            seen = []
            for t in range(x.shape[1]):
                h = step(x[:, t], (h, c) if isinstance(self.rnn, nn.LSTM) else h, *weights)
                if isinstance(h, tuple):
                    h, c = h
                if number == self.layer:
                    nudges.append(torch.zeros_like(h, requires_grad=True))
                    h = h + nudges[-1]
                    values.append(h)
                seen.append(h)
            x = torch.stack(seen, 1)
        return x[:, -1], values, nudges


@pytest.mark.parametrize("method", BY_GRADIENT)
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize(("n_layers", "layer", "name"), [(1, 0, "rnn"), (2, 1, "rnn.1"), (2, 0, "rnn.0"), (2, 1, "rnn")])
@pytest.mark.parametrize("time_first", [False, True])
def test_a_net_that_reads_the_last_step_is_explained_through_the_recurrence(cell, n_layers, layer, name, time_first, method):
    rnn = cell(4, 5, n_layers, batch_first=not time_first)
    model = Net(
        lambda n, x: n.fc(n.rnn(x)[0][-1 if time_first else slice(None), slice(None) if time_first else -1]), rnn=rnn, fc=nn.Linear(5, 3)
    )
    X = ntc(2, 12)
    found = sq.Scope(model, layout="TNC" if time_first else "NTC").attribute(
        X.transpose(1, 0, 2) if time_first else X, method, layer=name, target=0
    )
    last, values, nudges = Steps(rnn, layer)(torch.tensor(X))
    gradients = torch.autograd.grad(model.fc(last)[:, 0].sum(), nudges)
    A, G = (torch.stack(list(parts), 1).detach().numpy() for parts in (values, gradients))
    assert (np.abs(G[:, :-1]).sum((1, 2)) > 0).all()
    np.testing.assert_allclose(found["native"], [PAPERS[method](*pair) for pair in zip(A, G, strict=True)], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(found["map"], found["native"])


def test_the_map_of_an_lstm_that_reads_the_last_step_is_not_one_bar(reader, block):
    maps = sq.Scope(reader).attribute(block, "grad_cam", relu=False)
    assert maps.attrs["layer"] == "rnn"
    assert (np.abs(maps["map"].isel(time=slice(-1))) > 0).all()


def test_without_a_layer_a_recurrent_net_is_explained_at_its_last():
    model = Net(lambda n, x: n.fc(n.b(n.a(x)[0])[0][:, -1]), a=nn.GRU(4, 5, batch_first=True), b=nn.GRU(5, 6, 2, batch_first=True), fc=fc())
    assert sq.Scope(model, layout="NTC").attribute(ntc(), "layer_cam").attrs["layer"] == "b.1"


@pytest.mark.parametrize("method", BY_GRADIENT)
def test_a_cell_that_the_model_loops_over(method):
    """The same weights in a layer and in a cell give the same map."""

    def run(net, x):
        h = None
        for t in range(x.shape[1]):
            h = net.cell(x[:, t], h)
        return net.fc(h)

    looped = Net(run, cell=nn.GRUCell(4, 6), fc=fc())
    whole = Net(lambda n, x: n.fc(n.rnn(x)[0][:, -1]), rnn=nn.GRU(4, 6, batch_first=True), fc=looped.fc)
    for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(whole.rnn, f"{kind}_l0").data = getattr(looped.cell, kind).data
    one, other = (sq.Scope(model, layout="NTC").attribute(ntc(), method, target=1)["map"] for model in (looped, whole))
    assert other.values.any()
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", [*BY_GRADIENT, "score_cam"])
@pytest.mark.parametrize("n_layers", [1, 2])
def test_both_ways(n_layers, method):
    rnn = nn.LSTM(4, 3, n_layers, batch_first=True, bidirectional=True)
    model = Net(lambda n, x: n.fc(n.rnn(x)[0][:, -1]), rnn=rnn, fc=fc())
    found = sq.Scope(model, layout="NTC").attribute(ntc(), method, layer="rnn" if n_layers == 1 else "rnn.1", target=0)["map"]
    assert found.dims == ("sample", "time")
    assert found.values.any()


def test_both_ways_in_numbers():
    """Units of both directions are summed: where one direction is read, the map is that of a layer in this direction alone."""
    both = nn.GRU(4, 3, batch_first=True, bidirectional=True)
    model = Net(lambda n, x: n.fc(n.rnn(x)[0][:, -1]), rnn=both, fc=fc())
    with torch.no_grad():
        model.fc.weight[:, 3:] = 0
    forward = Net(lambda n, x: n.fc(n.rnn(x)[0][:, -1]), rnn=nn.GRU(4, 3, batch_first=True), fc=nn.Linear(3, 3))
    forward.rnn.load_state_dict({name: value for name, value in both.state_dict().items() if not name.endswith("reverse")})
    forward.fc.weight.data, forward.fc.bias.data = model.fc.weight.data[:, :3], model.fc.bias.data
    for method in BY_GRADIENT:
        one, other = (sq.Scope(net, layout="NTC").attribute(ntc(), method, target=0)["map"] for net in (model, forward))
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ["score_cam", "cam"])
def test_a_stack_by_its_own_name_is_its_last_layer(method):
    model = Net(lambda n, x: n.fc(n.rnn(x)[0].mean(1)), rnn=nn.GRU(4, 6, 2, batch_first=True), fc=fc())
    one, other = (sq.Scope(model, layout="NTC").attribute(ntc(), method, layer=name, target=0) for name in ("rnn", "rnn.1"))
    np.testing.assert_array_equal(one["map"], other["map"])


def test_a_recurrent_layer_behind_a_pooling():
    model = Net(
        lambda n, x: n.fc(n.rnn(n.pool(x).transpose(1, 2))[0][:, -1]), pool=nn.AvgPool1d(3), rnn=nn.LSTM(4, 6, batch_first=True), fc=fc()
    )
    for method in ALL:
        found = sq.Scope(model, layout="NCT").attribute(nct(), method)
        assert (found["native"].shape, found["map"].shape) == ((3, 10), (3, 30))
        # what memory carries is no reason to spread a step over all that came before
        np.testing.assert_allclose(found["map"], np.repeat(found["native"].values, 3, axis=1))


# What a layer has to have


@pytest.mark.parametrize("method", [*ALL, "cam"])
@pytest.mark.parametrize("layer", ["3", "4"])
def test_a_layer_without_steps_is_refused_in_one_sentence(method, layer):
    with pytest.raises(UnsupportedError, match=f"'{layer}' gives .*: name one with steps, such as a convolution") as raised:
        sq.Scope(gap(nn.Conv1d(4, 6, 5), nn.ReLU()), layout="NCT").attribute(nct(), method, layer=layer)
    assert raised.value.message.count(". ") == 0


@pytest.mark.parametrize("method", [*ALL, "cam"])
def test_nothing_to_choose_from_is_said_in_one_sentence(method):
    model = nn.Sequential(nn.Flatten(), nn.Linear(120, 3)).double()
    with pytest.raises(UnsupportedError, match="needs a layer with steps, and no convolution or recurrent layer was found: name one with"):
        sq.Scope(model, layout="NCT").attribute(nct(), method)


def test_a_wrong_name_gets_the_nearest():
    with pytest.raises(LayerError, match="No layer is named 'conv'"):
        sq.Scope(gap(nn.Conv1d(4, 6, 5), nn.ReLU()), layout="NCT").attribute(nct(), "grad_cam", layer="conv")


def test_a_convolution_of_one_step_is_not_chosen():
    """Squeeze and excitation: its convolutions are dense layers by another name."""

    def run(net, x):
        x = torch.relu(net.conv(x))
        return net.fc((x * torch.sigmoid(net.squeeze(x.mean(-1, keepdim=True)))).mean(-1))

    model = Net(run, conv=nn.Conv1d(4, 6, 5), squeeze=nn.Conv1d(6, 6, 1), fc=fc())
    assert sq.Scope(model, layout="NCT").attribute(nct(), "grad_cam").attrs["layer"] == "conv"


@pytest.mark.parametrize("method", BY_GRADIENT)
def test_what_is_changed_in_place_behind_the_layer(method):
    maps = []
    for inplace in (False, True):
        torch.manual_seed(0)
        model = gap(nn.Conv1d(4, 6, 5), nn.ReLU(inplace=inplace))
        maps.append(sq.Scope(model, layout="NCT").attribute(nct(), method, layer="0", target=1)["native"])
    xr.testing.assert_identical(*maps)


# Each sequence for itself


@pytest.mark.parametrize("method", [*ALL, "cam"])
def test_ragged_is_as_each_alone(method):
    X = [np.random.default_rng(length).standard_normal((length, 4)) for length in (30, 20, 11, 20, 7)]
    scope = sq.Scope(gap(nn.Conv1d(4, 6, 5), nn.ReLU(), nn.MaxPool1d(3)), layout="NCT")
    found = scope.attribute(X, method, layer="2")
    assert found["native"].time_centre.dims in (("step",), ("sample", "step"))
    for sample, x in enumerate(X):
        one = scope.attribute(sq.Sequences([x])[0], method, layer="2")
        assert (one["map"].dims, one["native"].dims) == (("time",), ("step",))
        for name in ("map", "native"):
            here, size = found[name].values[sample], one[name].size
            np.testing.assert_allclose(here[:size], one[name], rtol=1e-9, atol=1e-15)
            assert np.isnan(here[size:]).all()
            assert np.isfinite(here[:size]).all()


@pytest.mark.parametrize("method", ["grad_cam", "score_cam"])
def test_ragged_with_stamps_that_end_and_padding_that_is_nan(method):
    scope = sq.Scope(gap(nn.Conv1d(4, 6, 5), nn.ReLU()), layout="NCT")
    X = [np.random.default_rng(length).standard_normal((length, 4)) for length in (20, 12, 9)]
    padded = np.full((3, 4, 20), np.nan)
    for row, x in enumerate(X):
        padded[row, :, : len(x)] = x.T
    xr.testing.assert_equal(scope.attribute(X, method), scope.attribute(padded, method))


@pytest.mark.parametrize("method", [*ALL, "cam"])
def test_batch_mates_change_nothing(method):
    scope = sq.Scope(Net(mean_then_dense, features=features(), fc=fc()), layout="NCT")
    X = nct(40)
    whole, wild = scope.attribute(X, method), scope.attribute(np.concatenate([X[:2], 1e3 * X[2:]]), method)
    few = scope.attribute(X[:2], method, memory=64_000_000)
    for name in ("map", "native"):
        np.testing.assert_allclose(whole[name][:2], few[name], rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(wild[name][:2], few[name], rtol=1e-9, atol=1e-14)
        assert not np.allclose(whole[name][2:], wild[name][2:])


def test_small_batches_give_the_same():
    """Score-CAM's rows for one sequence are cut over several batches here."""
    scope, X = sq.Scope(gap(nn.Conv1d(4, 6, 5), nn.ReLU()), layout="NCT"), nct(5)
    for method in [*ALL, "cam"]:
        xr.testing.assert_allclose(scope.attribute(X, method), scope.attribute(X, method, memory=40_000), rtol=1e-12)


# Scores of every kind


def by_step(net, x):
    return net.fc(net.rnn(torch.relu(net.conv(x)).transpose(1, 2))[0])


@pytest.mark.parametrize("method", BY_GRADIENT)
def test_scores_of_every_kind(method):
    model = Net(by_step, conv=nn.Conv1d(4, 6, 5), rnn=nn.LSTM(6, 6, batch_first=True), fc=fc())
    scope, X = sq.Scope(model, layout="NCT"), nct()
    hidden = lambda model, x: model.rnn(torch.relu(model.conv(x)).transpose(1, 2))[0]  # noqa: E731
    for target, score in (
        (sq.target.output(1, time=7), lambda output: output[:, 7, 1]),
        (sq.target.output(1, time=-1), lambda output: output[:, -1, 1]),
        (sq.target.output([0, 2, 1], time=-1), lambda output: output[[0, 1, 2], -1, [0, 2, 1]]),
        (lambda output: output[:, -1, 0] - output[:, 3, 1], lambda output: output[:, -1, 0] - output[:, 3, 1]),
        (sq.target.unit("rnn", 2, time=9), None),
    ):
        found = scope.attribute(X, method, layer="conv", target=target)
        if score is None:
            model.run, plain = hidden, model.run
            A, G = value_and_gradient(model, "conv", X, lambda output: output[:, 9, 2])
            model.run = plain
        else:
            A, G = value_and_gradient(model, "conv", X, score)
        A, G = A.transpose(0, 2, 1), G.transpose(0, 2, 1)
        np.testing.assert_allclose(found["native"], [PAPERS[method](*pair) for pair in zip(A, G, strict=True)], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ALL)
def test_a_cell_state_as_score(method):
    model = Net(by_step, conv=nn.Conv1d(4, 6, 5), rnn=nn.LSTM(6, 6, batch_first=True), fc=fc())
    found = sq.Scope(model, layout="NCT").attribute(nct(), method, layer="conv", target=sq.target.unit("rnn", 2, state="c", time=7))
    assert found.attrs["score"] == "unit"
    assert "target" not in found.coords
    # what comes after the step can't matter
    if method == "layer_cam":
        assert not found["native"][:, 8:].values.any()
    assert found["native"].values.any()


def test_every_step_at_once_is_refused_at_a_layer():
    model = Net(by_step, conv=nn.Conv1d(4, 6, 5), rnn=nn.LSTM(6, 6, batch_first=True), fc=fc())
    with pytest.raises(UnsupportedError, match="for a layer, say one step"):
        sq.Scope(model, layout="NCT").attribute(nct(), "grad_cam", target=sq.target.output(1, time="all"))


def test_maps_have_one_value_a_step_already():
    scope = sq.Scope(gap(nn.Conv1d(4, 6, 5)), layout="NCT")
    for more in ({"abs": True}, {"reduce": "channel"}):
        with pytest.raises(DataError, match="has one value for each step already"):
            scope.attribute(nct(), "grad_cam", **more)
    with pytest.raises(SeqscopeError):
        scope.attribute(nct(), "grad_cam", baseline="mean")


# What is done with it


@pytest.mark.parametrize("X", [nct(), [np.random.default_rng(n).standard_normal((n, 4)) for n in (30, 20, 9)]], ids=["even", "ragged"])
def test_through_a_file(X, tmp_path):
    scope = sq.Scope(gap(nn.Conv1d(4, 6, 5), nn.ReLU(), nn.MaxPool1d(2)), layout="NCT", outputs=["a", "b", "c"])
    for method in [*ALL, "cam"]:
        found = scope.attribute(X, method, layer="2")
        found.to_netcdf(tmp_path / f"{method}.nc", engine="h5netcdf")
        with xr.open_dataset(tmp_path / f"{method}.nc", engine="h5netcdf") as read:
            xr.testing.assert_equal(read.load(), found)
            assert read.attrs["method"] == method
            assert read["native"].attrs == found["native"].attrs
            assert set(read.attrs) == set(found.attrs)


@pytest.mark.parametrize("layer", ["0", "2"])
def test_it_is_drawn_beside_its_sequence(layer):
    X = sq.Sequences([np.random.default_rng(n).standard_normal((n, 4)) for n in (30, 20, 9)])
    scope = sq.Scope(gap(nn.Conv1d(4, 6, 5), nn.ReLU(), nn.MaxPool1d(2)), layout="NCT")
    found = scope.attribute(X, "grad_cam", layer=layer)
    for row in range(3):
        for one in (found.isel(sample=row), scope.attribute(X[row], "grad_cam", layer=layer)):
            ax = sq.plot.attribution(X[row], one, field=1)
            assert ax.get_xlabel() == "Time Step"
            mpl.pyplot.close(ax.figure)


def test_a_step_that_a_shorter_sequence_lacks_is_not_outlined():
    X = sq.Sequences([np.random.default_rng(n).standard_normal((n, 4)) for n in (30, 9)])
    found = sq.Scope(gap(nn.Conv1d(4, 6, 5), nn.ReLU()), layout="NCT").attribute(X, "grad_cam")
    assert np.isnan(found["native"][1, 24])
    with pytest.raises(DataError, match="There is no layer step 24"):
        sq.plot.attribution(X[1], found.isel(sample=1), field=24)
