"""Attributions by derivatives: central differences, captum on the same nets, closed forms, completeness, and what must not matter."""

import copy
import itertools
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import seqscope as sq
from nets import Net, series
from seqscope.attribution import captum
from seqscope.errors import DataError, LayerError, ModelError, UnsupportedError

attr = pytest.importorskip("captum.attr")

# Random nets seldom believe in the output that a test asks for; `test_targets.py` tests that warning.
pytestmark = pytest.mark.filterwarnings("ignore:.*below chance")

METHODS = ("gradient", "saliency", "input_x_gradient", "integrated_gradients", "expected_gradients", "smooth_grad")
AT_SAMPLE = {"gradient", "saliency", "input_x_gradient"}


def recurrent(cell=nn.LSTM, *, time_first=False, outputs=2, **options):
    """A recurrent module `rnn`, read at its last step by `fc`."""
    rnn = cell(3, 4, batch_first=not time_first, **options)
    last = (lambda h: h[-1]) if time_first else (lambda h: h[:, -1])
    return Net(lambda net, x: net.fc(last(net.rnn(x)[0])), rnn=rnn, fc=nn.Linear(8 if rnn.bidirectional else 4, outputs))


def convolution(act=nn.Tanh, **options):
    """Two convolutions and a mean over time; NCT."""
    return Net(
        lambda net, x: net.fc(net.act(net.conv2(net.act(net.conv(x)))).mean(dim=-1)),
        conv=nn.Conv1d(3, 4, 3, **options),
        conv2=nn.Conv1d(4, 5, 2),
        act=act(),
        fc=nn.Linear(5, 2),
    )


def attention():
    """Self-attention over a dense layer, and a mean over time."""
    return Net(
        lambda net, x: net.fc(net.attn(*[torch.tanh(net.inner(x))] * 3)[0].mean(dim=1)),
        inner=nn.Linear(3, 4),
        attn=nn.MultiheadAttention(4, 2, batch_first=True),
        fc=nn.Linear(4, 2),
    )


def quadratic():
    """S0 = the product of the two channels' sums, S1 = the sum of the squares of channel 0."""
    return Net(
        lambda net, x: torch.stack([x[:, :, 0].sum(1) * x[:, :, 1].sum(1), (x[:, :, 0] ** 2).sum(1)], dim=1) + 0 * net.fc.bias,
        fc=nn.Linear(2, 2),
    )


def linear():
    """A sum over time of weighted channels."""
    return Net(lambda net, x: net.fc(x).sum(dim=1), fc=nn.Linear(3, 2))


NETS = {
    "lstm": (recurrent, "NTC"),
    "gru of two layers, both ways, TNC": (lambda: recurrent(nn.GRU, time_first=True, num_layers=2, bidirectional=True), "TNC"),
    "rnn": (lambda: recurrent(nn.RNN), "NTC"),
    "convolution": (convolution, "NCT"),
    "attention": (attention, "NTC"),
}
ORDERS = {"NTC": (0, 1, 2), "TNC": (1, 0, 2), "NCT": (0, 2, 1)}


def to_model(x, layout):
    """(sample, time, channel) as the model takes it; it is its own inverse."""
    return np.ascontiguousarray(np.transpose(x, ORDERS[layout]))


def differences(model, x, layout, output, step=1e-5):
    """The derivative of an output of every sample with respect to its values, one value of all samples at a time."""
    found = np.zeros(x.shape)
    with torch.no_grad():
        for place in np.ndindex(x.shape[1:]):
            ends = []
            for way in (step, -step):
                moved = x.copy()
                moved[(slice(None), *place)] += way
                ends.append(model(torch.tensor(to_model(moved, layout)))[:, output].numpy())
            found[(slice(None), *place)] = (ends[0] - ends[1]) / (2 * step)
    return found


def assert_close(found, expected, share=1e-5):
    """To a share of the largest value."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    scale = np.abs(expected).max()
    assert scale > 1e-6  # or nothing was compared
    np.testing.assert_allclose(found, expected, rtol=0, atol=share * scale)


# Independent checks at the input


@pytest.mark.parametrize("kind", NETS)
def test_gradient_equals_central_differences(kind):
    make, layout = NETS[kind]
    model, x = make(), series(3, 6)
    found = sq.Scope(model).attribute(to_model(x, layout), "gradient", target=1)
    assert found.dims == ("sample", "time", "channel")
    expected = differences(model, x, layout, 1)
    assert_close(found, expected, 1e-7)
    assert_close(sq.Scope(model).attribute(to_model(x, layout), "saliency", target=1), abs(expected), 1e-7)
    assert_close(sq.Scope(model).attribute(to_model(x, layout), "input_x_gradient", target=1), x * expected, 1e-7)


@pytest.mark.parametrize("kind", NETS)
def test_methods_equal_captums(kind):
    make, layout = NETS[kind]
    model, x, base = make(), series(3, 6), series(3, 6, seed=5)
    scope, native = sq.Scope(model), to_model(x, layout)
    row = layout.index("N")
    tensor, against = torch.tensor(native), torch.tensor(to_model(base, layout))

    def turned(t):  # captum wants the samples first
        return model(t.movedim(0, row))

    def theirs(name, **options):
        given = {key: value.movedim(row, 0) if isinstance(value, torch.Tensor) else value for key, value in options.items()}
        of = tensor.movedim(row, 0).clone().requires_grad_()
        found = getattr(attr, name)(turned).attribute(of, target=1, **given).movedim(0, row)
        return to_model(found.detach().numpy(), layout)

    assert_close(scope.attribute(native, "saliency", target=1), theirs("Saliency"))
    assert_close(scope.attribute(native, "gradient", target=1), theirs("Saliency", abs=False))
    assert_close(scope.attribute(native, "input_x_gradient", target=1), theirs("InputXGradient"))
    assert_close(
        scope.attribute(native, "integrated_gradients", target=1, baseline=base, steps=20),
        theirs("IntegratedGradients", baselines=against, n_steps=20, method="gausslegendre"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a coarse rule leaves a gap, which is not what is compared here
        found = scope.attribute(native, "integrated_gradients", target=1, rule="midpoint", steps=7)
    assert_close(found, theirs("IntegratedGradients", n_steps=7, method="riemann_middle"))


def test_integrated_gradients_of_a_product_gives_half_to_each_factor():
    x = series(3, 5, 2)
    found = sq.Scope(quadratic(), layout="NTC").attribute(x, "integrated_gradients", target=0)
    sums = x.sum(1)
    expected = np.stack([x[:, :, 0] * sums[:, 1:] / 2, x[:, :, 1] * sums[:, :1] / 2], axis=-1)
    assert_close(found, expected, 1e-10)
    assert (found.gap < 1e-10).all()


@pytest.mark.parametrize("method", ["integrated_gradients", "expected_gradients"])
def test_of_a_linear_model_each_value_has_its_weight_times_its_distance(method):
    model, x, base = linear(), series(3, 5), series(1, 5, seed=7)
    weights = model.fc.weight.detach().numpy()[1]
    options = {"reference": base} if method == "expected_gradients" else {"baseline": base[0]}
    found = sq.Scope(model).attribute(x, method, target=1, **options)
    assert_close(found, weights * (x - base), 1e-10)


def test_expected_gradients_are_the_mean_over_baselines_and_paths():
    """Of x**2, (x - b) 2 (b + a (x - b)) has the mean x**2 - E[b**2] over a and b; draws enough come near it."""
    x, reference = series(2, 4, 2), series(3, 4, 2, seed=8)
    found = sq.Scope(quadratic(), layout="NTC").attribute(x, "expected_gradients", target=1, reference=reference, draws=4000)
    expected = x[:, :, 0] ** 2 - (reference[:, :, 0] ** 2).mean(0)
    np.testing.assert_allclose(found[..., 0], expected, atol=0.25)
    assert abs(expected).max() > 1
    np.testing.assert_allclose(found.sum(["time", "channel"]), expected.sum(1), atol=0.5)
    assert "reference" in found.attrs["baseline"]


def test_smooth_grad_is_the_mean_derivative_over_noise_of_a_share_of_the_range():
    """Of x**2 the derivative at x + e is 2 (x + e), so what is off is twice the mean of the noise."""
    x, scope = series(4, 30, 2), sq.Scope(quadratic(), layout="NTC")
    plain = scope.attribute(x, "gradient", target=1)
    assert_close(scope.attribute(x, "smooth_grad", target=1, spread=0), plain, 1e-12)
    off = scope.attribute(x, "smooth_grad", target=1, spread=0.2, draws=25)[..., 0] - plain[..., 0]
    spread = np.ptp(x, axis=(1, 2))
    assert 0.8 < (off / spread[:, None]).std() / (2 * 0.2 / 5) < 1.2
    assert abs(off.mean()) < 0.15
    other = scope.attribute(x, "smooth_grad", target=1, spread=0.2, draws=25, seed=1)[..., 0] - plain[..., 0]
    assert abs(np.corrcoef(off.values.ravel(), other.values.ravel())[0, 1]) < 0.3


# Independent checks at layers


@pytest.mark.parametrize("layer", ["conv", "conv2"])
def test_at_a_convolution_methods_equal_captums(layer):
    model, x, base = convolution(), series(3, 8), series(3, 8, seed=5)
    scope, module = sq.Scope(model), model.get_submodule(layer)
    native = to_model(x, "NCT")
    tensor, against = torch.tensor(native, requires_grad=True), torch.tensor(to_model(base, "NCT"))

    def turned(found):
        return found.detach().numpy().transpose(0, 2, 1)

    found = scope.attribute(native, "input_x_gradient", target=1, layer=layer)
    assert found.dims == ("sample", "step", "unit")
    assert_close(found, turned(attr.LayerGradientXActivation(model, module).attribute(tensor, target=1)))
    assert_close(found, scope.attribute(native, "gradient", target=1, layer=layer) * scope.activations(native, layer), 1e-10)
    found = scope.attribute(native, "integrated_gradients", target=1, layer=layer, baseline=base, steps=20)
    theirs = attr.LayerIntegratedGradients(model, module)
    assert_close(found, turned(theirs.attribute(tensor, against, target=1, n_steps=20, method="gausslegendre")))
    assert (found.gap < 1e-5).all()
    scores = [model(torch.tensor(to_model(values, "NCT")))[:, 1].detach().numpy() for values in (x, base)]
    np.testing.assert_allclose(found.sum(["step", "unit"]), scores[0] - scores[1], rtol=1e-5)
    assert {"time", "time_start", "time_end"} <= set(found.coords)


def after(model, x, t, h, c=None):
    """Output 1 where the hidden state after step t is h."""
    state = h[None] if c is None else (h[None], c[None])
    if t == x.shape[1] - 1:
        return model.fc(h)[:, 1]
    return model.fc(model.rnn(x[:, t + 1 :], state)[0][:, -1])[:, 1]


def hidden(model, x, t):
    """h and c after step t, cut off from what was before."""
    _, state = model.rnn(x[:, : t + 1])
    parts = state if isinstance(state, tuple) else (state,)
    return [part[0].detach() for part in parts]


def through_recurrence(model, x):
    """dS/dh_t by running on from the state after each step, and h itself; both (sample, time, unit)."""
    slopes, values = [], []
    for t in range(x.shape[1]):
        h, *c = hidden(model, x, t)
        h = h.requires_grad_()
        slopes.append(torch.autograd.grad(after(model, x, t, h, *c).sum(), h)[0].numpy())
        values.append(h.detach().numpy())
    return np.stack(slopes, 1), np.stack(values, 1)


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
def test_at_a_recurrent_layer_derivatives_go_through_the_recurrence(cell):
    model, x = recurrent(cell), series(3, 6)
    slopes, values = through_recurrence(model, torch.tensor(x))
    scope = sq.Scope(model)
    found = scope.attribute(x, "gradient", target=1, layer="rnn")
    assert found.dims == ("sample", "time", "unit")
    assert_close(found, slopes, 1e-9)
    assert (abs(found.sel(time=0)) > 0).all()  # the plain derivative of what the layer puts out is zero there
    assert_close(scope.attribute(x, "saliency", target=1, layer="rnn"), abs(slopes), 1e-9)
    assert_close(scope.attribute(x, "input_x_gradient", target=1, layer="rnn"), slopes * values, 1e-9)


def test_integrated_gradients_at_a_recurrent_layer_follow_the_inputs_path():
    model, x, base = recurrent(), series(2, 5), series(2, 5, seed=5)
    path = [through_recurrence(model, torch.tensor(base + share * (x - base))) for share in np.linspace(0, 1, 81)]
    pieces = [(a[0] + b[0]) / 2 * (b[1] - a[1]) for a, b in itertools.pairwise(path)]
    found = sq.Scope(model).attribute(x, "integrated_gradients", target=1, layer="rnn", baseline=base, steps=60)
    assert_close(found, np.sum(pieces, axis=0), 1e-3)
    # the score is linear in the last h, so there the path does not matter
    change = path[-1][1][:, -1] - path[0][1][:, -1]
    assert_close(found[:, -1], model.fc.weight.detach().numpy()[1] * change, 1e-10)
    assert "overlap" in found.attrs["completeness"]
    assert "gap" not in found.coords


def test_expected_gradients_at_a_recurrent_layer_follow_the_inputs_path():
    """Where score and layer are linear in h at the last step, every draw gives the weight times the change of h."""
    model, x, base = recurrent(), series(3, 5), series(1, 5, seed=5)
    found = sq.Scope(model).attribute(x, "expected_gradients", target=1, layer="rnn", reference=base, draws=3)
    ends = [model.rnn(torch.tensor(values))[0][:, -1].detach().numpy() for values in (x, base)]
    assert_close(found[:, -1], model.fc.weight.detach().numpy()[1] * (ends[0] - ends[1]), 1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_the_last_layer_of_a_stack_is_what_the_stack_puts_out(method):
    model, x = recurrent(num_layers=2), series(2, 5)
    scope = sq.Scope(model)
    stack = scope.attribute(x, method, target=0, layer="rnn")
    assert_close(stack, scope.attribute(x, method, target=0, layer="rnn.1"), 1e-12)
    below = scope.attribute(x, method, target=0, layer="rnn.0")
    assert below.dims == stack.dims
    assert abs(below - stack).max() > 1e-3
    if method == "input_x_gradient":
        slope = scope.attribute(x, "gradient", target=0, layer="rnn.0")
        assert_close(below, slope * scope.activations(x, "rnn.0"), 1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_at_a_bidirectional_layer_units_are_those_of_its_activations(method):
    model, x = recurrent(nn.GRU, bidirectional=True), series(2, 5)
    scope = sq.Scope(model)
    found = scope.attribute(x, method, target=0, layer="rnn")
    assert found.sizes == {"sample": 2, "time": 5, "unit": 8}
    assert found.direction.values.tolist() == ["forward"] * 4 + ["backward"] * 4
    weights = model.fc.weight.detach().numpy()[0]
    if method == "gradient":  # what is read is forward's last step, and backward's there, which is its first
        np.testing.assert_allclose(found[:, -1], np.broadcast_to(weights, (2, 8)), rtol=1e-10)
        assert not found[:, :-1, 4:].any()
        assert abs(found[:, 0, :4]).min() > 0
    if method == "input_x_gradient":
        slope = scope.attribute(x, "gradient", target=0, layer="rnn")
        assert_close(found, slope * scope.activations(x, "rnn"), 1e-9)


def test_a_layer_whose_value_the_next_one_writes_over_has_its_own_value():
    model, x = convolution(lambda: nn.LeakyReLU(0.3, inplace=True)), series(3, 8)
    scope, native = sq.Scope(model), to_model(x, "NCT")
    slope = scope.attribute(native, "gradient", target=0, layer="conv")
    found = scope.attribute(native, "input_x_gradient", target=0, layer="conv")
    assert_close(found, slope * scope.activations(native, "conv"), 1e-10)


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients"])
def test_a_layer_after_the_logits_is_refused(method):
    model = Net(lambda net, x: net.softmax(net.fc(x).mean(dim=1)), fc=nn.Linear(3, 4), softmax=nn.Softmax(dim=-1))
    with pytest.raises(UnsupportedError, match="The score is the logit, from before the softmax"):
        sq.Scope(model).attribute(series(), method, target=0, layer="softmax")


@pytest.mark.parametrize("end", [torch.sigmoid, torch.sigmoid_, lambda z: z.softmax(-1), lambda z: z.T.softmax(0).T])
@pytest.mark.parametrize("method", ["gradient", "integrated_gradients"])
def test_at_the_layer_that_gives_the_logits_each_logit_stands_for_itself(end, method):
    model, x = Net(lambda net, x: end(net.fc(x.mean(dim=1))), fc=nn.Linear(3, 4)), series()
    found = sq.Scope(model, layout="NTC").attribute(x, method, target=2, layer="fc")
    rest = found.isel(unit=[0, 1, 3])
    assert not rest.any()
    expected = model.fc(torch.tensor(x.mean(1)))[:, 2] - model.fc.bias[2] if method == "integrated_gradients" else torch.ones(4)
    np.testing.assert_allclose(found.isel(unit=2), expected.detach(), rtol=1e-9)
    assert found.attrs["score"] == "logit"


def test_a_layer_that_the_score_does_not_depend_on_has_zeros():
    """Whether the units asked about lie in a module or inside a stack."""
    model, x = recurrent(num_layers=2), series(2, 5)
    scope = sq.Scope(model)
    for target in (sq.target.unit("rnn", 1), sq.target.unit("rnn.0", 1), sq.target.unit("rnn.0", 1, state="c")):
        found = scope.attribute(x, "gradient", target=target, layer="fc")
        assert found.shape == (2, 2)
        assert not found.any()


def test_integrated_gradients_at_attention():
    model, x = attention(), series(3, 6)
    found = sq.Scope(model).attribute(x, "integrated_gradients", target=1, layer="attn")
    assert found.dims == ("sample", "time", "unit")
    with torch.no_grad():
        values = [model.attn(*[torch.tanh(model.inner(torch.tensor(one)))] * 3)[0].numpy() for one in (x, 0 * x)]
    assert_close(found, (values[0] - values[1]) * model.fc.weight.detach().numpy()[1] / 6)  # what follows is linear
    assert not found.gap.any()


def looped():
    """A model that steps an LSTM cell by itself."""

    def run(net, x):
        h = c = torch.zeros(len(x), 4, dtype=x.dtype)
        for x_t in x.unbind(1):
            h, c = net.rnn(x_t, (h, c))
        return net.fc(h)

    return Net(run, rnn=nn.LSTMCell(3, 4), fc=nn.Linear(4, 2))


@pytest.mark.parametrize("method", METHODS)
def test_a_cell_that_the_model_steps_equals_the_layer(method):
    cell, x = looped(), series(2, 5)
    layer = recurrent()
    layer.fc.load_state_dict(cell.fc.state_dict())
    layer.rnn.load_state_dict({f"{name}_l0": value for name, value in cell.rnn.state_dict().items()})
    found, expected = (sq.Scope(model).attribute(x, method, target=1, layer="rnn") for model in (cell, layer))
    assert found.dims == ("sample", "time", "unit")
    assert_close(found, expected, 1e-10)


# Completeness, and its gap


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("rule", ["gauss_legendre", "midpoint"])
def test_integrated_gradients_sum_to_the_change_of_the_score(kind, rule):
    make, layout = NETS[kind]
    model, x, base = make(), series(3, 6), series(3, 6, seed=5)
    found = sq.Scope(model).attribute(to_model(x, layout), "integrated_gradients", target=0, baseline=base, rule=rule, steps=80)
    scores = [model(torch.tensor(to_model(values, layout)))[:, 0].detach().numpy() for values in (x, base)]
    change = scores[0] - scores[1]
    total = found.sum(["time", "channel"]).values
    np.testing.assert_allclose(total, change, atol=2e-3 * np.abs(change).max())
    np.testing.assert_allclose(found.score, scores[0], rtol=1e-10)
    assert found.gap.dims == ("sample",)
    expected = np.abs(total - change) / np.abs(change)
    np.testing.assert_allclose(found.gap, expected, atol=2e-6 * np.abs(found).sum(["time", "channel"]).max() / np.abs(change).min())


def test_a_gap_is_said_and_points_at_the_persons_own_line():
    sharp = Net(lambda net, x: torch.tanh(8 * net.fc(x).sum(dim=1)), fc=nn.Linear(3, 2))
    with pytest.warns(UserWarning, match="completeness gap is over 5 %") as caught:
        found = sq.Scope(sharp).attribute(series(), "integrated_gradients", target=0, steps=1)
    assert [one.filename for one in caught if "completeness" in str(one.message)] == [__file__]
    assert found.gap.max() > 0.05


def test_a_score_that_does_not_change_has_an_endless_gap_and_no_warning_of_numpys():
    """x**3 - x is 0 at 0 and at -1, and a rule of one point between them misses that."""
    model = Net(lambda net, x: (net.fc(x) ** 3 - net.fc(x)).sum(dim=1), fc=nn.Linear(1, 1))
    nn.init.ones_(model.fc.weight)
    nn.init.zeros_(model.fc.bias)
    with pytest.warns(UserWarning, match="completeness") as caught:
        found = sq.Scope(model, layout="NTC").attribute(
            np.zeros((2, 40, 1)), "integrated_gradients", baseline=-1.0, rule="midpoint", steps=1
        )
    assert len(caught) == 1
    np.testing.assert_allclose(found, -0.25)
    assert np.isinf(found.gap).all()


# Baselines


def test_of_several_baselines_the_mean_is_taken():
    model, x, several = recurrent(), series(3, 5), series(2, 5, seed=6)
    scope = sq.Scope(model)
    found = scope.attribute(x, "integrated_gradients", target=0, baseline=list(several))
    apart = [scope.attribute(x, "integrated_gradients", target=0, baseline=one) for one in several]
    assert_close(found, (apart[0] + apart[1]) / 2, 1e-12)
    np.testing.assert_allclose(found.gap, np.maximum(apart[0].gap, apart[1].gap))
    assert abs(apart[0] - apart[1]).max() > 1e-3


@pytest.mark.parametrize("layer", [None, "rnn", "fc"])
def test_a_baseline_of_its_own_for_each_sequence(layer):
    model, x, base = recurrent(), series(3, 5), series(3, 5, seed=6)
    scope = sq.Scope(model)
    found = scope.attribute(x, "integrated_gradients", target=0, layer=layer, baseline=base)
    alone = [scope.attribute(x[[n]], "integrated_gradients", target=0, layer=layer, baseline=base[n]) for n in range(3)]
    assert_close(found, np.concatenate(alone), 1e-12)


# What must not matter


@pytest.fixture
def ragged():
    """Sequences of three lengths, with ids and channels of their own."""
    x = series(5, 9)
    return sq.Sequences([x[0], x[1][:5], x[2][:7], x[3][:5], x[4]], samples=list("pqrst"), channels=["u", "v", "w"])


@pytest.mark.parametrize("layer", [None, "rnn", "fc"])
@pytest.mark.parametrize("method", METHODS)
def test_neither_order_nor_memory_nor_batch_mates_matter(method, layer, ragged):
    """Each sequence alone, all of them shuffled, and in batches of one row give what all together give; noise goes by the ids."""
    scope = sq.Scope(recurrent())
    options = {"target": 1, "layer": layer, "seed": 3}
    if method == "expected_gradients":
        options |= {"reference": series(4, 9, seed=4), "draws": 4}
    if method == "smooth_grad":
        options["draws"] = 4
    if method == "integrated_gradients":
        options["steps"] = 9
    found = scope.attribute(ragged, method, **options)
    close = 1e-6 * float(abs(found).max())
    small = scope.attribute(ragged, method, memory=1, **options)
    shuffled = scope.attribute(ragged[[3, 1, 4, 0, 2]], method, **options)
    assert float(abs(small - found).max()) < close
    assert shuffled.sample.values.tolist() == list("sqtpr")
    assert float(abs(shuffled.sel(sample=found.sample) - found).max()) < close
    for place, name in enumerate("pqrst"):
        alone = scope.attribute(ragged[place], method, **options)
        expected = found.sel(sample=name)
        if layer != "fc":
            length = int(ragged.lengths[place])
            assert np.isnan(expected[length:]).all()
            expected = expected[:length]
        assert alone.dims == expected.dims  # no sample axis where one sequence was given
        np.testing.assert_allclose(alone, expected, rtol=0, atol=close)


def test_the_seed_and_the_ids_are_what_noise_depends_on(ragged):
    scope = sq.Scope(recurrent())
    found = scope.attribute(ragged, "smooth_grad", target=0)
    assert scope.attribute(ragged, "smooth_grad", target=0).equals(found)
    assert not scope.attribute(ragged, "smooth_grad", target=0, seed=1).equals(found)
    twins = sq.Sequences([series(1, 5)[0]] * 2, samples=["a", "b"])
    one, other = scope.attribute(twins, "smooth_grad", target=0)
    assert abs(one.values - other.values).max() > 1e-6
    assert found.attrs["seed"] == 0


@pytest.mark.parametrize("layer", [None, "rnn", "norm"])
@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(method, layer):
    model = Net(
        lambda net, x: net.fc(net.drop(net.norm(net.rnn(x)[0].transpose(1, 2))).mean(-1)),
        rnn=nn.LSTM(3, 4, batch_first=True), norm=nn.BatchNorm1d(4), drop=nn.Dropout(0.5), fc=nn.Linear(4, 2),
    )  # fmt: skip
    model.norm.train()
    model.rnn.weight_hh_l0.requires_grad_(False)
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    scope = sq.Scope(model)
    with pytest.warns(UserWarning, match="Found in training mode, set aside for this call: 'norm'"):
        scope.attribute(series(), method, target=0, layer=layer)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.norm.training
    assert not model.rnn.training
    assert not any(module._forward_hooks or "forward" in vars(module) for module in model.modules())
    assert [name for name, one in model.named_parameters() if not one.requires_grad] == ["rnn.weight_hh_l0"]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int16"])
def test_the_path_is_not_rounded_to_the_datas_type(dtype):
    """Whole numbers would leave a path of two points."""
    x = (10 * series(3, 6)).astype(dtype)
    scope = sq.Scope(convolution())
    expected = scope.attribute(to_model(x.astype("float64"), "NCT"), "integrated_gradients", target=0)
    assert_close(scope.attribute(to_model(x, "NCT"), "integrated_gradients", target=0), expected, 1e-5)


# Labels


def test_labels_and_attributes_say_all_that_a_reader_needs(ragged):
    scope = sq.Scope(recurrent(), outputs=["walk", "run"])
    found = scope.attribute(ragged, "integrated_gradients", target="run", baseline="mean", steps=30)
    assert found.dims == ("sample", "time", "channel")
    assert found.channel.values.tolist() == ["u", "v", "w"]
    assert found.sample.values.tolist() == list("pqrst")
    assert found.length.values.tolist() == [9, 5, 7, 5, 9]
    assert found.target.values.tolist() == ["run"] * 5
    expected = scope.predict(ragged)
    np.testing.assert_allclose(found.score, expected.sel(output="run"), rtol=1e-12)
    assert found.predicted.values.tolist() == expected.output.values[expected.argmax("output")].tolist()
    said = {
        "method": "integrated_gradients", "target": "run", "score": "logit", "signed": 1, "seed": 0, "framework": "torch", "model": "Net",
        "options": "steps=30, rule='gauss_legendre'", "seqscope_version": sq.__version__,
    }  # fmt: skip
    assert {name: found.attrs[name] for name in said} == said
    assert "mean" in found.attrs["baseline"]
    at_layer = scope.attribute(ragged, "saliency", target="run", layer="rnn")
    assert (at_layer.attrs["layer"], at_layer.attrs["kind"], at_layer.attrs["signed"]) == ("rnn", "lstm", 0)
    assert "baseline" not in at_layer.attrs


@pytest.mark.parametrize(
    ("method", "layer"),
    [("integrated_gradients", None), ("smooth_grad", None), ("integrated_gradients", "rnn"), ("expected_gradients", "fc")],
)
def test_results_survive_netcdf(method, layer, ragged, tmp_path):
    found = sq.Scope(recurrent(), outputs=["walk", "run"]).attribute(ragged, method, layer=layer)
    found.to_netcdf(tmp_path / "found.nc")
    again = xr.load_dataarray(tmp_path / "found.nc")
    assert again.equals(found)
    assert again.attrs == found.attrs
    assert set(again.coords) == set(found.coords)


def test_sizes_and_sums(ragged):
    scope = sq.Scope(recurrent())
    found = scope.attribute(ragged, "gradient", target=0)
    sizes = scope.attribute(ragged, "gradient", target=0, abs=True)
    assert sizes.equals(abs(found))
    assert (sizes.attrs["abs"], sizes.attrs["signed"]) == (1, 0)
    by_time = scope.attribute(ragged, "gradient", target=0, reduce="channel")
    assert by_time.dims == ("sample", "time")
    np.testing.assert_allclose(by_time, np.where(np.isnan(found[..., 0]), np.nan, found.sum("channel")))
    by_channel = scope.attribute(ragged, "gradient", target=0, abs=True, reduce="time")
    np.testing.assert_allclose(by_channel, abs(found).sum("time"))
    assert by_channel.attrs["reduce"] == "sum over time"
    at_layer = scope.attribute(ragged, "gradient", target=0, layer="rnn", reduce="channel")
    assert at_layer.dims == ("sample", "time")
    with pytest.raises(DataError, match="reduce is 'unit': expected 'channel' or 'time'"):
        scope.attribute(ragged, "gradient", target=0, reduce="unit")


# Tokens


def reader_of_tokens():
    return Net(
        lambda net, x: net.fc(net.rnn(net.emb(x))[0][:, -1]),
        emb=nn.Embedding(11, 5),
        rnn=nn.LSTM(5, 4, batch_first=True),
        fc=nn.Linear(4, 2),
    )


TOKENS = np.random.default_rng(0).integers(0, 11, (4, 7))


def test_tokens_at_their_embedding_equal_captums():
    model = reader_of_tokens()
    scope, tokens = sq.Scope(model), torch.tensor(TOKENS)
    found = scope.attribute(TOKENS, "integrated_gradients", target=1, layer="emb", baseline=3, steps=20)
    assert found.dims == ("sample", "time", "unit")
    theirs = attr.LayerIntegratedGradients(model, model.emb)
    assert_close(found, theirs.attribute(tokens, torch.full_like(tokens, 3), target=1, n_steps=20).detach().numpy())
    theirs = attr.LayerGradientXActivation(model, model.emb).attribute(tokens, target=1)
    assert_close(scope.attribute(TOKENS, "input_x_gradient", target=1, layer="emb"), theirs.detach().numpy())


def test_tokens_at_their_embedding_may_be_smoothed_and_compared_with_other_tokens():
    """Of a linear model, noise leaves the derivative as it is, and a baseline gives the weight times the distance."""
    model = Net(lambda net, x: net.fc(net.emb(x)).sum(dim=1), emb=nn.Embedding(11, 5), fc=nn.Linear(5, 2))
    scope = sq.Scope(model)
    weights = np.broadcast_to(model.fc.weight.detach().numpy()[1], (4, 7, 5))
    np.testing.assert_allclose(scope.attribute(TOKENS, "smooth_grad", target=1, layer="emb", draws=3), weights, rtol=1e-6)
    other = np.full((1, 7), 4)
    found = scope.attribute(TOKENS, "expected_gradients", target=1, layer="emb", reference=other, draws=3)
    table = model.emb.weight.detach().numpy()
    assert_close(found, weights * (table[TOKENS] - table[other]), 1e-6)
    bent = sq.Scope(reader_of_tokens())
    plain = bent.attribute(TOKENS, "gradient", target=1, layer="emb")
    assert_close(bent.attribute(TOKENS, "smooth_grad", target=1, layer="emb", spread=0, draws=2), plain, 1e-6)
    assert abs(bent.attribute(TOKENS, "smooth_grad", target=1, layer="emb", spread=0.5, draws=2) - plain).max() > 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_tokens_have_no_derivative_and_no_path(method):
    scope = sq.Scope(reader_of_tokens())
    with pytest.raises(UnsupportedError, match="Tokens have no derivative"):
        scope.attribute(TOKENS, method, target=0)
    if method in AT_SAMPLE:
        assert scope.attribute(TOKENS, method, target=0, layer="rnn").sizes == {"sample": 4, "time": 7, "unit": 4}
    else:
        with pytest.raises(UnsupportedError, match="name the layer that embeds them"):
            scope.attribute(TOKENS, method, target=0, layer="rnn")


# Errors


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"steps": 0}, DataError, "steps is 0: expected a whole number, 1 or more"),
        ({"steps": 2.5}, DataError, "steps is 2.5"),
        ({"steps": True}, DataError, "steps is True"),
        ({"rule": "gauss"}, DataError, "no rule 'gauss'"),
        ({"stepps": 3}, DataError, "has no option 'stepps': it has 'steps', 'rule'"),
        ({"layer": "rn"}, LayerError, "No layer is named 'rn': the nearest is 'rnn'"),
        ({"seed": -1}, DataError, "The seed is -1"),
        ({"memory": "much"}, DataError, "memory is 'much'"),
        ({"baseline": "zeros"}, DataError, "no baseline 'zeros'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(options, error, match):
    with pytest.raises(error, match=match):
        sq.Scope(recurrent()).attribute(series(), "integrated_gradients", target=0, **options)


def test_methods_are_checked():
    scope = sq.Scope(recurrent())
    with pytest.raises(UnsupportedError, match="no method 'gradients': the nearest"):
        scope.attribute(series(), "gradients")
    with pytest.raises(UnsupportedError, match="gradient compares with nothing, so it takes no baseline"):
        scope.attribute(series(), "gradient", baseline="mean")
    with pytest.raises(DataError, match="The spread is -1"):
        scope.attribute(series(), "smooth_grad", spread=-1)
    found = scope.attribute(series(), sq.attribution.IntegratedGradients(steps=7), target=0)
    assert found.equals(scope.attribute(series(), "integrated_gradients", steps=7, target=0))


def test_a_model_that_cannot_be_differentiated_says_why():
    class Cut(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, slope):
            raise RuntimeError("no way back")

    model = Net(lambda net, x: Cut.apply(net.fc(x).mean(dim=1)), fc=nn.Linear(3, 2))
    with pytest.raises(ModelError, match="can't be differentiated: RuntimeError: no way back"):
        sq.Scope(model).attribute(series(), "gradient", target=0)


def test_a_derivative_that_is_not_a_number_is_an_error_that_says_where():
    model = Net(lambda net, x: torch.sqrt(abs(x)).sum(dim=1) + net.fc.bias, fc=nn.Linear(3, 3))
    x = np.abs(series(3, 4)) + 0.1
    x[1, 2, 1] = 0
    with pytest.raises(ModelError, match="derivative is NaN or infinite for sequence 1"):
        sq.Scope(model, layout="NTC").attribute(x, "gradient", target=1)


# captum's own methods


@pytest.mark.parametrize("method", ["GradientShap", "DeepLiftShap", "ShapleyValueSampling", "KernelShap", "Lime"])
def test_captums_methods_do_not_depend_on_batches_or_on_torchs_random_state(method):
    """Those that draw do it by seed and id, those that take many baselines take those of one sequence."""
    options = {"n_samples": 4} if "Samp" in method or method in ("KernelShap", "Lime") else {}
    X = sq.Sequences(series(3, 4), samples=["a", "b", "c"])
    scope, several = sq.Scope(recurrent()), list(series(2, 4, seed=6))
    baseline = several if "Shap" in method[-4:] and method != "KernelShap" else "mean"
    found = scope.attribute(X, captum(method, **options), target=0, baseline=baseline, reference=X)
    torch.manual_seed(123)
    np.random.seed(5)
    state, of_torch = np.random.get_state()[1].copy(), torch.get_rng_state()
    again = scope.attribute(X[[2, 0, 1]], captum(method, **options), target=0, baseline=baseline, reference=X, memory=1)
    assert_close(again.sel(sample=found.sample), found, 1e-6)
    assert np.array_equal(np.random.get_state()[1], state)
    assert torch.equal(torch.get_rng_state(), of_torch)
    if method != "DeepLiftShap":
        other = scope.attribute(X, captum(method, **options), target=0, baseline=baseline, reference=X, seed=9)
        assert abs(other - found).max() > 1e-6


def test_captums_integrated_gradients_equal_our_own():
    model, x, several = convolution(), to_model(series(3, 8), "NCT"), list(series(2, 8, seed=6))
    scope = sq.Scope(model)
    found = scope.attribute(x, captum("IntegratedGradients", n_steps=20), target=1, baseline=several)
    assert_close(found, scope.attribute(x, "integrated_gradients", steps=20, target=1, baseline=several))
    assert found.attrs["captum_method"] == "IntegratedGradients"
    assert "n_steps=20" in found.attrs["captum_options"]
    assert "2 sequences" in found.attrs["baseline"]
    function = scope.attribute(x, captum("IntegratedGradients", n_steps=20), target=lambda out: out[:, 1], baseline=several)
    assert_close(function, found, 1e-10)


def test_captums_saliency_has_no_sign_and_no_baseline():
    scope = sq.Scope(recurrent())
    found = scope.attribute(series(), captum("Saliency"), target=0)
    assert_close(found, scope.attribute(series(), "saliency", target=0), 1e-10)
    assert found.attrs["signed"] == 0
    assert "baseline" not in found.attrs
    assert scope.attribute(series(), captum("Saliency", abs=False), target=0).attrs["signed"] == 1


@pytest.mark.parametrize("layers", [1, 2])
def test_captums_deep_lift_sums_to_the_change_of_the_score(layers):
    model = Net(
        lambda net, x: net.fc(net.act(net.conv(x)).mean(dim=-1)).softmax(-1),
        conv=nn.Conv1d(3, 4, layers),
        act=nn.ReLU(),
        fc=nn.Linear(4, 2),
    )
    x = to_model(series(3, 8), "NCT")
    found = sq.Scope(model).attribute(x, captum("DeepLift"), target=1)
    base = model.fc(model.act(model.conv(torch.zeros(3, 3, 8).double())).mean(-1))[:, 1].detach().numpy()
    np.testing.assert_allclose(found.sum(["time", "channel"]), found.score - base, rtol=1e-8)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("method", "options", "error", "match"),
    [
        ("Salency", {}, UnsupportedError, "no method 'Salency'"),
        ("LayerGradCam", {}, UnsupportedError, "no method 'LayerGradCam' that works at the input"),
        ("GuidedGradCam", {}, UnsupportedError, "no method 'GuidedGradCam' that works at the input"),  # which wants a layer
        ("FeaturePermutation", {}, UnsupportedError, "no method 'FeaturePermutation'"),  # which mixes batch-mates
        ("LimeBase", {}, UnsupportedError, "no method 'LimeBase'"),
        ("IntegratedGradients", {"nsteps": 3}, ModelError, "captum's IntegratedGradients raised TypeError"),
        ("IntegratedGradients", {"return_convergence_delta": True}, UnsupportedError, "gave a tuple with these options"),
        ("Occlusion", {}, ModelError, "captum's Occlusion raised TypeError"),
    ],
)
def test_what_captum_cannot_do_is_said_in_a_sentence(method, options, error, match):
    with pytest.raises(error, match=match):
        sq.Scope(recurrent()).attribute(series(), captum(method, **options), target=0)
