"""Units switched off or clamped: against step-by-step equations, zeroed weights and hooks put in by hand, all in float64."""

import copy

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import seqscope as sq
from nets import Net, series
from reference import sigmoid, weights_of
from seqscope.engines.base import engine_for
from seqscope.engines.holds import Hold
from seqscope.errors import DataError, LayerError, ModelError, UnsupportedError

# The nets are not trained: what they are asked about need not be what they choose.
pytestmark = pytest.mark.filterwarnings("ignore:.*below chance", "ignore:.*completeness gap")

EXACT = {"rtol": 1e-10, "atol": 1e-12}


# One direction of a recurrent layer, one sequence, one step at a time, h held after each


def held_run(w, kind, x, held, h=None, c=None):
    """h at every step, (time, unit), and the last c; `held` is a dict of values by unit."""
    n = w["weight_hh"].shape[1]
    h, c = np.zeros(n) if h is None else h, np.zeros(len(w["weight_hh"]) // 4) if c is None else c
    steps = []
    for step in x:
        of_x, of_h = w["weight_ih"] @ step + w["bias_ih"], w["weight_hh"] @ h + w["bias_hh"]
        if kind == "lstm":
            i, f, g, o = np.split(of_x + of_h, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            h = w["weight_hr"] @ h if "weight_hr" in w else h
        elif kind == "gru":
            (rx, zx, nx), (rh, zh, nh) = np.split(of_x, 3), np.split(of_h, 3)
            r, z = sigmoid(rx + rh), sigmoid(zx + zh)
            h = (1 - z) * np.tanh(nx + r * nh) + z * h
        else:
            h = np.tanh(of_x + of_h)
        h = np.array([held.get(unit, value) for unit, value in enumerate(h)])
        steps.append(h)
    return np.array(steps), c


def layer_weights(module, layer=0, end=""):
    w = weights_of(module)
    return {name.removesuffix(f"_l{layer}{end}"): value for name, value in w.items() if name.endswith(f"_l{layer}{end}")}


def of_layer(module, kind, x, held, layer=0):
    """Every sequence's h, (sample, time, unit), the backward direction behind the forward one."""
    n = module.hidden_size
    forward = np.array([held_run(layer_weights(module, layer), kind, one, held)[0] for one in x])
    if not module.bidirectional:
        return forward
    of_way = {unit - n: value for unit, value in held.items() if unit >= n}
    backward = np.array([held_run(layer_weights(module, layer, "_reverse"), kind, one[::-1], of_way)[0][::-1] for one in x])
    return np.concatenate([forward, backward], axis=-1)


KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
HELD = {1: 0.5, 3: -0.2}


def recurrent(kind="lstm", n_outputs=3, **options):
    torch.manual_seed(0)
    layer = KINDS[kind](3, 5, batch_first=True, **options)
    width = (options.get("proj_size") or 5) * (1 + options.get("bidirectional", False))
    return Net(lambda net, x: net.fc(net.layer(x)[0][:, -1]), layer=layer, fc=nn.Linear(width, n_outputs))


def dense(module, x):
    w = weights_of(module)
    return x @ w["weight"].T + w["bias"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("held", [HELD, {2: 0.0}], ids=["values", "zero"])
def test_a_recurrent_layer_steps_with_its_h_held(kind, held):
    net, x = recurrent(kind), series()
    scope, expected = sq.Scope(net), of_layer(net.layer, kind, x, held)
    with scope.ablate("layer", list(held), value=list(held.values())) as ablated:
        assert ablated is scope
        np.testing.assert_allclose(scope.predict(x), dense(net.fc, expected[:, -1]), **EXACT)
        np.testing.assert_allclose(scope.activations(x, "layer"), expected, **EXACT)
        states = scope.states(x, "layer")
    np.testing.assert_allclose(states.h, expected, **EXACT)
    before = np.concatenate([np.zeros((4, 1, 5)), expected[:, :-1]], axis=1)
    w = layer_weights(net.layer)
    gate = {"lstm": "i", "gru": "r", "rnn": "a"}[kind]
    of_gate = (x @ w["weight_ih"].T + w["bias_ih"] + before @ w["weight_hh"].T + w["bias_hh"])[..., :5]
    np.testing.assert_allclose(states[gate], of_gate if kind == "rnn" else sigmoid(of_gate), **EXACT)


@pytest.mark.parametrize("held", [{1: 0.5, 8: -0.2}, {0: 0.0, 7: 0.0}, {7: 0.3}], ids=["values", "zero", "backward"])
def test_both_directions_forward_units_first(held):
    net, x = recurrent(bidirectional=True), series()
    scope, expected = sq.Scope(net), of_layer(net.layer, "lstm", x, held)
    with scope.ablate("layer", list(held), value=list(held.values())):
        np.testing.assert_allclose(scope.predict(x), dense(net.fc, expected[:, -1]), **EXACT)
        states = scope.states(x, "layer")
    both = np.concatenate([states.h.sel(direction="forward"), states.h.sel(direction="backward")], axis=-1)
    np.testing.assert_allclose(both, expected, **EXACT)


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_layers_of_a_stack_apart(value):
    net, x = recurrent(num_layers=2), series()
    scope = sq.Scope(net)
    lower = of_layer(net.layer, "lstm", x, {2: value})
    upper = of_layer(net.layer, "lstm", lower, {4: value}, layer=1)
    with scope.ablate("layer.0", 2, value=value), scope.ablate("layer", 4, value=value):  # the stack's name is its last layer
        np.testing.assert_allclose(scope.activations(x, "layer.0"), lower, **EXACT)
        np.testing.assert_allclose(scope.activations(x, "layer.1"), upper, **EXACT)
        out = scope.predict(x)
    np.testing.assert_allclose(out, dense(net.fc, upper[:, -1]), **EXACT)
    assert out.attrs["ablated"] == f"layer.0: 2 at {value:g}; layer.1: 4 at {value:g}"


def test_a_projected_h_is_held_after_the_projection():
    net, x = recurrent(proj_size=2), series()
    with sq.Scope(net).ablate("layer", 1, value=0.4) as scope:
        expected = of_layer(net.layer, "lstm", x, {1: 0.4})
        np.testing.assert_allclose(scope.predict(x), dense(net.fc, expected[:, -1]), **EXACT)
        assert scope.states(x, "layer").c.sizes["unit"] == 5


class Looped(nn.Module):
    """Steps a cell itself, from a learned state."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(1)
        self.cell = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}[kind](3, 5)
        self.h = nn.Parameter(torch.randn(5))
        self.kind = kind
        self.double().eval()

    def forward(self, x):
        h = self.h.expand(len(x), -1)
        state = (h, torch.zeros_like(h)) if self.kind == "lstm" else h
        for step in x.unbind(1):
            state = self.cell(step, state)
        return state[0] if self.kind == "lstm" else state


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_cell_that_the_model_loops_over_starts_from_the_models_own_state(kind):
    net, x = Looped(kind), series()
    w, h0 = weights_of(net.cell), net.h.detach().numpy()
    expected = np.array([held_run(w, kind, one, HELD, h=h0)[0] for one in x])
    scope = sq.Scope(net)
    with scope.ablate("cell", [1, 3], value=[0.5, -0.2]):
        np.testing.assert_allclose(scope.predict(x), expected[:, -1], **EXACT)
        np.testing.assert_allclose(scope.states(x, "cell").h, expected, **EXACT)
        found = scope.attribute(x, "gradient", target=0)
    np.testing.assert_allclose(found, slope(lambda x: np.array([held_run(w, kind, one, HELD, h=h0)[0][-1] for one in x]), x), atol=1e-8)


def test_zeros_are_held_also_where_the_layer_starts_from_another_h():
    torch.manual_seed(0)
    start = torch.randn(1, 1, 5, dtype=torch.float64)
    net = Net(lambda net, x: net.gru(x, start.expand(-1, len(x), -1).contiguous())[0][:, -1], gru=nn.GRU(3, 5, batch_first=True))
    x = series()
    expected = [held_run(layer_weights(net.gru), "gru", one, {2: 0.0}, h=start[0, 0].numpy())[0][-1] for one in x]
    with sq.Scope(net).ablate("gru", 2) as scope:
        np.testing.assert_allclose(scope.predict(x), expected, **EXACT)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_packed_sequences(value):
    net = recurrent(bidirectional=True)
    ragged = [series(1, n)[0] for n in (4, 7, 5)]

    def call(model, batch, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(batch, lengths, batch_first=True, enforce_sorted=False)
        _, (last, _) = model.layer(packed)
        return model.fc(torch.cat([last[0], last[1]], -1))

    with sq.Scope(net, call=call, layout="NTC").ablate("layer", [1, 8], value=value) as scope:
        out, h = scope.predict(ragged), scope.states(ragged, "layer").h
    for row, x in enumerate(ragged):
        expected = of_layer(net.layer, "lstm", x[None], {1: value, 8: value})[0]
        both = np.concatenate(list(h[row, :, : len(x)].values), axis=-1)
        np.testing.assert_allclose(both, expected, **EXACT)
        np.testing.assert_allclose(out[row], dense(net.fc, np.concatenate([expected[-1, :5], expected[0, 5:]])), **EXACT)


# Layers without a recurrence


def convolutions():
    torch.manual_seed(0)
    children = {"conv": nn.Conv1d(3, 6, 3), "act": nn.ReLU(), "head": nn.Linear(6, 4)}
    return Net(lambda net, x: net.head(net.act(net.conv(x.transpose(1, 2))).mean(-1)), **children)


def without_filters(net, filters):
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.conv.weight[filters] = 0
        other.conv.bias[filters] = 0
    return other


def test_filters_of_a_convolution_whose_channels_come_first():
    net, x = convolutions(), series()
    expected = without_filters(net, [1, 4])(torch.from_numpy(x)).detach()
    with sq.Scope(net).ablate("conv", [4, 1]) as scope:
        np.testing.assert_allclose(scope.predict(x), expected, **EXACT)
        conv = scope.activations(x, "conv")
    assert conv.dims == ("sample", "step", "unit")
    assert (conv.isel(unit=[1, 4]) == 0).all()
    assert (conv.isel(unit=0) != 0).any()


@pytest.mark.parametrize("units", [slice(1, 3), np.array([False, True, True, False]), [2, 1], range(1, 3)], ids=str)
def test_units_of_a_dense_layer_are_rows_of_its_weight(units):
    net, x = convolutions(), series()
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.head.weight[1:3] = 0
        other.head.bias[1:3] = 0
    with sq.Scope(net).ablate("head", units) as scope:
        np.testing.assert_allclose(scope.predict(x), other(torch.from_numpy(x)).detach(), **EXACT)


def test_a_layer_that_is_called_twice_is_held_at_both_calls_as_by_hooks():
    torch.manual_seed(0)
    net = Net(lambda net, x: net.shared(torch.tanh(net.shared(x)))[:, -1], shared=nn.Linear(3, 3))
    x = series()
    hook = net.shared.register_forward_hook(lambda module, args, value: torch.where(torch.tensor([False, True, False]), 0.3, value))
    expected = net(torch.from_numpy(x)).detach()
    hook.remove()
    with sq.Scope(net).ablate("shared", 1, value=0.3) as scope:
        np.testing.assert_allclose(scope.predict(x), expected, **EXACT)
        assert (scope.activations(x, "shared").isel(unit=1) == 0.3).all()


def test_the_weights_of_attention_layers_are_those_of_the_model_with_units_held():
    torch.manual_seed(0)
    net = Net(
        lambda net, x: net.attn(*(3 * [net.proj(x)]))[0].mean(1), proj=nn.Linear(3, 4), attn=nn.MultiheadAttention(4, 2, batch_first=True)
    )
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.proj.weight[2] = 0
        other.proj.bias[2] = 0
    x = series()
    with sq.Scope(net).ablate("proj", 2) as scope:
        np.testing.assert_allclose(scope.attention(x, "attn"), sq.Scope(other).attention(x, "attn"), **EXACT)


# Attributions


def slope(run, x, position=0, step=1e-5):
    """The derivative of an output by central differences, as x."""
    found = np.zeros_like(x)
    for place in np.ndindex(x.shape[1:]):
        moved = np.zeros(x.shape[1:])
        moved[place] = step
        found[(slice(None), *place)] = (run(x + moved) - run(x - moved))[:, position] / (2 * step)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("held", [HELD, {2: 0.0}], ids=["values", "zero"])
def test_derivatives_are_those_of_the_model_with_units_held(kind, held):
    net, x = recurrent(kind), series(n_steps=5)
    scope = sq.Scope(net)
    with scope.ablate("layer", list(held), value=list(held.values())):
        found = scope.attribute(x, "gradient", target=1)
    expected = slope(lambda x: dense(net.fc, of_layer(net.layer, kind, x, held)[:, -1]), x, position=1)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    assert found.attrs["ablated"].startswith("layer: ")


def test_the_derivative_at_the_layer_is_with_respect_to_what_is_held():
    net, x = recurrent(), series(n_steps=5)
    scope = sq.Scope(net)

    def score(value):
        with scope.ablate("layer", 1, value=value):
            return scope.predict(x).isel(output=0)

    with scope.ablate("layer", 1, value=0.5):
        found = scope.attribute(x, "gradient", target=0, layer="layer")
    np.testing.assert_allclose(found.isel(unit=1).sum("time"), (score(0.5 + 1e-5) - score(0.5 - 1e-5)) / 2e-5, atol=1e-8)


def test_derivatives_at_one_layer_while_another_is_held():
    net, x = convolutions(), series()
    other = sq.Scope(without_filters(net, [2]))
    with sq.Scope(net).ablate("conv", 2) as scope:
        found, state = (one.attribute(x, "grad_cam", layer="act", target=1).native for one in (scope, other))
        np.testing.assert_allclose(found, state, **EXACT)
        target = sq.target.unit("act", 0)
        np.testing.assert_allclose(*(one.attribute(x, "gradient", target=target) for one in (scope, other)), **EXACT)


@pytest.mark.parametrize("method", ["occlusion", "integrated_gradients", "score_cam"])
def test_methods_see_the_model_with_units_held(method):
    net, x = convolutions(), series()
    options = {"layer": "act"} if method == "score_cam" else {}
    expected = sq.Scope(without_filters(net, [0, 2])).attribute(x, method, target=1, **options)
    with sq.Scope(net).ablate("conv", [0, 2]) as scope:
        found = scope.attribute(x, method, target=1, **options)
    np.testing.assert_allclose(found.native if options else found, expected.native if options else expected, **EXACT)


def test_nothing_reaches_a_score_past_a_layer_that_is_held_whole():
    net, x = recurrent(), series()
    with sq.Scope(net).ablate("layer", slice(None), value=0.1) as scope:
        assert (scope.attribute(x, "occlusion", target=0) == 0).all()
        assert (scope.attribute(x, "gradient", target=0) == 0).all()
        assert np.ptp(scope.predict(x).values, axis=0).max() == 0


# At what


def test_mean_is_each_units_own_with_nothing_held():
    net, x = recurrent(), series(6)
    ragged = [one[: 4 + row] for row, one in enumerate(x)]
    scope = sq.Scope(net)
    mean = np.concatenate(of_layer_each(net.layer, ragged)).mean(0)
    expected = of_layer(net.layer, "lstm", x, {0: mean[0], 3: mean[3]})
    with scope.ablate("layer", 3, value="mean", reference=ragged), scope.ablate("layer", 0, value="mean", reference=ragged):
        np.testing.assert_allclose(scope.activations(x, "layer"), expected, **EXACT)


def of_layer_each(module, ragged):
    return [of_layer(module, "lstm", one[None], {})[0] for one in ragged]


def test_values_go_by_the_units_of_an_array_with_names():
    net, x = recurrent(), series()
    scope = sq.Scope(net)
    means = scope.activations(x, "layer").mean(("sample", "time"))
    assert "unit" not in means.coords or means.sizes["unit"] == 5
    named = means.assign_coords(unit=range(5))
    with scope.ablate("layer", [3, 1], value=named):
        found = scope.activations(x, "layer").isel(unit=[3, 1], time=0, sample=0)
    np.testing.assert_allclose(found, means[[3, 1]])
    with pytest.raises(DataError, match="no unit 3, which is to be held"), scope.ablate("layer", 3, value=named[:2]):
        pass
    with pytest.raises(DataError, match=r"dims \('a',\): expected one value for each unit"):
        scope.ablate("layer", 3, value=xr.DataArray([1.0], dims="a")).__enter__()


# Contexts


def test_contexts_add_up_and_the_inner_value_counts():
    net, x = recurrent(), series()
    scope = sq.Scope(net)
    plain = scope.predict(x)
    with scope.ablate("layer", [0, 1], value=0.5):
        outer = scope.predict(x)
        with scope.ablate("layer", [1, 2]):
            found = scope.activations(x, "layer")
        xr.testing.assert_identical(scope.predict(x), outer)
    np.testing.assert_allclose(found, of_layer(net.layer, "lstm", x, {0: 0.5, 1: 0.0, 2: 0.0}), **EXACT)
    xr.testing.assert_identical(scope.predict(x), plain)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("layer", ["layer", "fc"])
def test_everything_is_as_before_also_after_an_exception(error, layer):
    net, x = recurrent(num_layers=2).train(), series()
    weights = copy.deepcopy(net.state_dict())
    attributes = {name: dict(vars(module)) for name, module in net.named_modules()}
    scope = sq.Scope(net)
    plain = scope.predict(x)

    def stop(net, x):
        net.fc(net.layer(x)[0][:, -1])
        raise error

    def in_the_context():
        with scope.ablate(layer, [0, 1]):
            net.run = stop
            scope.predict(x)

    with pytest.raises(ModelError if error is RuntimeError else error):
        in_the_context()
    net.run = attributes[""]["run"]
    xr.testing.assert_identical(scope.predict(x), plain)
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    for name, module in net.named_modules():
        assert not module._forward_hooks
        assert vars(module).keys() == attributes[name].keys()
        assert module.training


def test_what_is_known_of_the_layers_is_found_out_with_nothing_held():
    net, x = convolutions(), series()
    known = sq.Scope(net, example=x)
    scope = sq.Scope(net)
    with scope.ablate("conv", slice(None), value=1.0), scope.ablate("head", slice(None)):
        inside = scope.activations(x)  # nothing that comes in reaches these values any more
        table = str(scope.layers)
    outside = known.activations(x)
    for name, node in inside.children.items():
        assert node.dataset.sizes == outside[name].dataset.sizes
        assert node.dataset.coords.equals(outside[name].dataset.coords)
    assert table == str(known.layers) == str(scope.layers)
    xr.testing.assert_identical(scope.activations(x, "act"), known.activations(x, "act"))


def test_another_scope_on_the_same_model_sees_nothing_held():
    net, x = recurrent(), series()
    other = sq.Scope(net)
    plain = other.predict(x)
    with sq.Scope(net).ablate("layer", 0):
        xr.testing.assert_identical(other.predict(x), plain)


# Verbs that get in the way of it, or that it gets in the way of


def test_memory_of_an_lstm_still_sums_to_c():
    net, x = recurrent(), series()
    with sq.Scope(net).ablate("layer", [0, 2], value=0.3) as scope:
        memory, c = scope.memory(x, "layer"), scope.states(x, "layer").c
        np.testing.assert_allclose(memory.written.sum("time") + memory.initial, c.isel(time=-1), **EXACT)
        with pytest.raises(UnsupportedError, match="a logit is no sum over its steps: ask outside of `ablate`"):
            scope.memory_share(x, "layer")
        with pytest.raises(UnsupportedError, match="can't be streamed while units of it are held"):
            scope.stream()
    scope.stream(check=x[:1])
    with sq.Scope(recurrent("gru")).ablate("layer", 0) as scope, pytest.raises(UnsupportedError, match="its h is no sum of what its steps"):
        scope.memory(x, "layer")


class Own(nn.LSTM):
    def forward(self, x, hx=None):
        return super().forward(2 * x, hx)


@pytest.mark.parametrize(
    ("layer", "units", "options", "error", "said"),
    [
        ("layr", 0, {}, LayerError, "No layer is named 'layr': the nearest is 'layer'."),
        (3, 0, {}, LayerError, "No layer is named 3"),
        ("layer", 5, {}, DataError, "There is no unit 5 in 'layer', which has 5: 0 to 4."),
        ("layer", [0, -1], {}, DataError, "There is no unit -1 in 'layer'"),
        ("layer", "a", {}, DataError, "were given as 'a': expected positions from 0 to 4, a slice, or a bool mask of length 5"),
        ("layer", [0.5], {}, DataError, "were given as [0.5]: expected positions"),
        ("layer", [True, False], {}, DataError, "were given as a mask of shape (2,)"),
        ("layer", True, {}, DataError, "were given as a mask of shape (1,)"),
        ("layer", {0, 1}, {}, DataError, "were given as {0, 1}"),
        ("layer", None, {}, DataError, "were given as None"),
        ("layer", [], {}, DataError, "No unit of 'layer' was given: it has 5, 0 to 4."),
        ("layer", slice(7, 9), {}, DataError, "No unit of 'layer' was given"),
        ("layer", [1, 1], {}, DataError, "Unit 1 of 'layer' was given twice."),
        ("layer", 0, {"value": "mean"}, DataError, "say which, with reference=X"),
        ("layer", 0, {"value": "off"}, DataError, "can't be held at 'off': expected 'zero', 'mean', a number, or one for each unit"),
        ("layer", 0, {"value": object}, DataError, "can't be held at <class 'object'>"),
        ("layer", [0, 1], {"value": [1, 2, 3]}, DataError, "The value has shape (3,), and 2 units were given"),
        ("layer", 0, {"value": np.inf}, DataError, "can't be held at NaN or infinity"),
        ("layer", 0, {"reference": 1}, DataError, "give it with value='mean', or leave it out"),
        ("own", 0, {}, UnsupportedError, "it is a Own with a forward of its own, whose recurrence is not known."),
        ("unused", 0, {}, LayerError, "The layer 'unused' never ran for this input"),
        ("sums", 0, {}, LayerError, "gives (sample), in which its units can't be told"),
    ],
)
def test_bad_input_in_a_sentence(layer, units, options, error, said):
    net = Net(
        lambda net, x: net.fc(net.layer(net.own(x)[0])[0][:, -1]) + net.sums(x)[:, None],
        layer=nn.LSTM(5, 5, batch_first=True),
        own=Own(3, 5, batch_first=True),
        fc=nn.Linear(5, 2),
        unused=nn.Linear(2, 2),
        sums=Sums(),
    )
    scope = sq.Scope(net, layout="NTC", example=series())
    with pytest.raises(error) as found:
        scope.ablate(layer, units, **options).__enter__()
    assert said in found.value.message
    assert "\n" not in found.value.message
    assert "in ablate(" in str(found.value)


class Sums(nn.Module):
    def forward(self, x):
        return x.sum((1, 2))


def test_a_layer_that_does_not_run_for_some_input():
    net = Net(lambda net, x: net.fc(x[:, -1]) if x.shape[1] > 5 else x[:, -1], fc=nn.Linear(3, 3))
    with (
        sq.Scope(net, layout="NTC", example=series(n_steps=9)).ablate("fc", 0) as scope,
        pytest.raises(LayerError, match="The units of 'fc' can't be held: it never ran for this input"),
    ):
        scope.predict(series(n_steps=4))


def test_units_are_not_held_in_a_value_that_they_do_not_fit():
    net, x = convolutions(), series()
    lengths = np.full(len(x), x.shape[1])
    for axis, said in (
        (1, "The layer 'head' gives 4 units for this input, and 3 when some of them were held."),
        (2, "gives torch.float64"),
    ):
        hold = Hold(np.array([True, False, False]), np.zeros(3), axis)
        with pytest.raises(LayerError) as found:
            engine_for(net).forward(x, lengths, held={"head": hold})
        assert said in found.value.message


# The table


def test_the_table_is_what_each_unit_makes_of_the_predictions():
    net, x = convolutions(), series(30)
    y = np.random.default_rng(0).integers(0, 4, 30)
    before = net(torch.from_numpy(x)).detach().numpy()
    table = sq.units.ablation(sq.Scope(net), x, "conv", y=y)
    assert table.sizes == {"unit": 6}
    assert table.attrs["accuracy"] == (before.argmax(1) == y).mean()
    for unit in range(6):
        after = without_filters(net, [unit])(torch.from_numpy(x)).detach().numpy()
        here = table.sel(unit=unit)
        assert float(here.accuracy) == (after.argmax(1) == y).mean()
        assert float(here.accuracy_lost) == pytest.approx((before.argmax(1) == y).mean() - (after.argmax(1) == y).mean())
        assert float(here.changed) == (after.argmax(1) != before.argmax(1)).mean()
        np.testing.assert_allclose(here.score_lost, (before - after)[np.arange(30), y].mean(), **EXACT)


def test_the_table_of_an_lstm_by_its_labels_and_at_the_mean_of_the_data():
    net = recurrent()
    x = series(12)
    data = sq.Sequences(x, labels=list("abcabcabcabc"), outputs=list("abc"))
    h = of_layer(net.layer, "lstm", x, {})
    right = np.tile([0, 1, 2], 4)
    table = sq.units.ablation(sq.Scope(net), data, "layer", units=[4, 0], value="mean")
    np.testing.assert_array_equal(table.unit, [4, 0])
    for unit in (4, 0):
        held = of_layer(net.layer, "lstm", x, {unit: h[..., unit].mean()})
        lost = (dense(net.fc, h[:, -1]) - dense(net.fc, held[:, -1]))[np.arange(12), right].mean()
        np.testing.assert_allclose(table.score_lost.sel(unit=unit), lost, **EXACT)
    unlabelled = sq.units.ablation(sq.Scope(net), x, "layer", units=0)
    assert list(unlabelled) == ["changed", "score_lost"]
    assert "accuracy" not in unlabelled.attrs


def test_the_table_looks_through_a_softmax():
    net, x = convolutions(), series(10)
    ending = Net(lambda whole, x: torch.softmax(whole.net(x), -1), net=net)
    found = sq.units.ablation(sq.Scope(ending), x, "net.conv", y=[0] * 10)
    np.testing.assert_allclose(found.score_lost, sq.units.ablation(sq.Scope(net), x, "conv", y=[0] * 10).score_lost, **EXACT)
    assert found.attrs["score"] == "logit"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"y": [0, 1]}, DataError, "2 targets were given for 4 sequences"),
        ({"y": [0, 1, 2, 9]}, DataError, "There is no output 9"),
        ({"units": 9}, DataError, "There is no unit 9 in 'layer'"),
        ({"value": "mean", "reference": np.zeros((2, 4, 7))}, DataError, "7 channels"),
    ],
)
def test_bad_input_of_the_table(options, error, said):
    with pytest.raises(error, match=said):
        sq.units.ablation(sq.Scope(recurrent()), series(), "layer", **options)


def test_no_table_where_nothing_is_predicted():
    with pytest.raises(UnsupportedError, match="one output"):
        sq.units.ablation(sq.Scope(recurrent(n_outputs=1)), series(), "layer")
    stepwise = Net(lambda net, x: net.fc(net.layer(x)[0]), layer=nn.LSTM(3, 5, batch_first=True), fc=nn.Linear(5, 2))
    with pytest.raises(UnsupportedError, match="an output at every step"):
        sq.units.ablation(sq.Scope(stepwise), series(), "layer")
