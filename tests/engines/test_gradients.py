"""Derivatives of a score, at the input and at a layer, equal central differences of the networks' equations in float64 NumPy.

At a recurrent layer the derivative is the total one: what is added to h_t (or c_t) is carried on, and so are the differences here.
`test_backends.py` can run the Keras half on the other backends.
"""

import copy
import os
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import reference_states as ref
from nets import Net, series
from seqscope.engines.base import engine_for
from seqscope.errors import DataError, LayerError, ModelError, SeqscopeError, UnsupportedError

keras = pytest.importorskip("keras")
from keras import layers as kl  # noqa: E402
from keras import ops  # noqa: E402

BACKEND = keras.backend.backend()
on_torch = pytest.mark.skipif(os.environ.get("SEQSCOPE_ENGINE") == "keras", reason="this process tests Keras")

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
LOOPED = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}
WHERE = [("lstm", "h"), ("lstm", "c"), ("gru", "h"), ("rnn", "h")]


@pytest.fixture(autouse=True)
def _same_weights_in_every_run():
    keras.utils.set_random_seed(0)
    torch.manual_seed(0)


# What is compared with: differences, and equations with something added


def differences(score, shape, step=1e-5):
    """The derivative of a score with respect to each entry of an array of zeros."""
    found = np.zeros(shape)
    for place in np.ndindex(*shape):
        added = np.zeros(shape)
        added[place] = step
        found[place] = (score(added) - score(-added)) / (2 * step)
    return found


def nudged(one_step, x, added, state="h", h=None, c=None, *, there=None, bend=np.tanh, projection=None):
    """h at every step, (time, unit), where something is added to h or c at each step and carried on.

    `one_step(x_t, h, c)` gives the states of a sequence of one step. A step that is not there holds what was before it.
    """
    hidden = []
    for t, (x_t, plus) in enumerate(zip(x, added, strict=True)):
        if there is None or there[t]:
            now = {name: values[0] for name, values in one_step(x_t[None], h, c).items()}
            h, c = now["h"], now.get("c")
        if state == "h":
            h = h + plus
        else:
            c = c + plus
            h = now["o"] * bend(c)
            h = h if projection is None else projection @ h
        hidden.append(h)
    return np.array(hidden)


def layer_nudged(module, x, added, state="h", h=None, c=None, *, layer=0, backward=False):
    """The same of one direction of a layer of an `nn.LSTM`, `nn.GRU` or `nn.RNN`; `added` and what is given are in the input's order."""
    end, order = f"_l{layer}{'_reverse' if backward else ''}", slice(None, None, -1 if backward else 1)
    hr = getattr(module, f"weight_hr{end}", None)
    projection = None if hr is None else hr.detach().numpy()

    def one_step(x_t, h, c):
        return ref._torch_direction(module, end, x_t, h, c)

    return nudged(one_step, x[order], added[order], state, h, c, projection=projection)[order]


def dense(layer, h):
    return layer.weight.detach().numpy() @ h + layer.bias.detach().numpy()


def assert_same(found, expected, scale=1.0):
    """Up to the error of central differences in float64."""
    np.testing.assert_allclose(found, expected, rtol=1e-6 * scale, atol=1e-8 * scale)
    assert np.abs(expected).max() > 1e-4  # or nothing was compared


def derivative(model, x, target=0, layer=None, *, call=None, lengths=None, **state):
    """What the engine finds, (score, by direction)."""
    x = np.asarray(x)
    lengths = np.full(len(x), x.shape[1]) if lengths is None else np.asarray(lengths)
    found = engine_for(model, call=call).gradient(x, lengths, target, layer, **state)
    assert found.score.shape == (len(lengths),)
    return found.score, found.gradients


def at(model, x, target=0, layer=None, **options):
    """The derivative where there is one direction and one call."""
    _, by_way = derivative(model, x, target, layer, **options)
    assert list(by_way) == [""]
    (found,) = by_way[""]
    return found


def last(rnn, **children):
    """A recurrent module `rnn`, and a dense layer `fc` that reads its last step alone."""
    width = (getattr(rnn, "proj_size", 0) or rnn.hidden_size) * (2 if rnn.bidirectional else 1)
    return Net(lambda net, x: net.fc(net.rnn(x)[0][:, -1]), rnn=rnn, fc=nn.Linear(width, 2), **children)


def score_of(model, x, output):
    with torch.no_grad():
        return model(torch.tensor(x))[:, output].numpy()


# Torch, at the input


@on_torch
@pytest.mark.parametrize("cell", CELLS)
def test_at_the_input_of_a_recurrent_net(cell):
    model, x = last(CELLS[cell](3, 4, batch_first=True)), series(2, 5)
    score, by_way = derivative(model, x, 1)
    np.testing.assert_allclose(score, score_of(model, x, 1), rtol=1e-12)
    expected = differences(lambda added: score_of(model, x + added, 1).sum(), x.shape)
    assert_same(by_way[""][0], expected)


@on_torch
def test_at_the_input_of_a_convolution_in_its_own_layout():
    net = Net(
        lambda net, x: net.fc(torch.tanh(net.conv(x)).mean(dim=-1)), conv=nn.Conv1d(3, 4, 3, padding=2, dilation=2), fc=nn.Linear(4, 2)
    )
    x = series(2, 6).transpose(0, 2, 1)
    assert_same(at(net, x, lengths=[6, 6]), differences(lambda added: score_of(net, x + added, 0).sum(), x.shape))


@on_torch
def test_in_a_net_that_computes_in_float32():
    model, x = last(nn.GRU(3, 4, batch_first=True)), series(2, 5)
    expected = at(model, x)
    found = at(copy.deepcopy(model).float(), x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


# Torch, at a recurrent layer


@on_torch
@pytest.mark.parametrize(("cell", "state"), WHERE)
def test_at_every_step_of_a_layer_whose_last_step_is_read(cell, state):
    model, x = last(CELLS[cell](3, 4, batch_first=True)), series(2, 6)
    found = at(model, x, 1, "rnn", state=state)
    for sample, given in zip(x, found, strict=True):
        expected = differences(lambda added, x=sample: dense(model.fc, layer_nudged(model.rnn, x, added, state)[-1])[1], (6, 4))
        assert_same(given, expected)
    assert (np.abs(found).max(axis=-1) > 1e-6).all()  # no step is without an effect, though the last alone is read


@on_torch
def test_plain_rnn_with_relu_and_no_bias():
    model, x = last(nn.RNN(3, 4, nonlinearity="relu", bias=False, batch_first=True)), series(1, 5)
    bend = ref.ACTIVATIONS["relu"]
    w_x, w_h = model.rnn.weight_ih_l0.detach().numpy(), model.rnn.weight_hh_l0.detach().numpy()

    def score(added):
        h = np.zeros(4)
        for x_t, plus in zip(x[0], added, strict=True):
            h = bend(w_x @ x_t + w_h @ h) + plus
        return dense(model.fc, h)[0]

    assert_same(at(model, x, 0, "rnn")[0], differences(score, (5, 4)))


@on_torch
@pytest.mark.parametrize("state", ["h", "c"])
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_at_each_layer_of_a_stack(name, layer, state):
    if (name, state) == ("gru", "c"):
        pytest.skip("a GRU has no c")
    model, x = last(CELLS[name](3, 4, num_layers=2, batch_first=True, dropout=0.5)), series(2, 5)
    found = at(model, x, 0, f"rnn.{layer}", state=state)

    def score(added, x):
        for place in range(2):
            plus = added if place == layer else np.zeros((5, 4))
            x = layer_nudged(model.rnn, x, plus, state if place == layer else "h", layer=place)
        return dense(model.fc, x[-1])[0]

    for sample, given in zip(x, found, strict=True):
        assert_same(given, differences(lambda added, x=sample: score(added, x), (5, 4)))


@on_torch
def test_a_stack_itself_is_its_last_layer():
    model, x = last(nn.LSTM(3, 4, num_layers=2, batch_first=True)), series(2, 5)
    assert np.array_equal(at(model, x, 0, "rnn"), at(model, x, 0, "rnn.1"))
    assert not np.allclose(at(model, x, 0, "rnn"), at(model, x, 0, "rnn.0"))


@on_torch
@pytest.mark.parametrize(("cell", "state"), WHERE)
def test_both_directions_are_in_the_order_of_the_input(cell, state):
    rnn = CELLS[cell](3, 4, bidirectional=True, batch_first=True)
    model = Net(lambda net, x: net.fc(net.rnn(x)[0][:, 2]), rnn=rnn, fc=nn.Linear(8, 2))  # a step in the middle sees either way
    x = series(2, 5)
    _, by_way = derivative(model, x, 1, "rnn", state=state)
    assert list(by_way) == ["forward", "backward"]

    def score(x, forward, backward):
        of_h = [layer_nudged(rnn, x, added, state, backward=place == 1) for place, added in enumerate((forward, backward))]
        return dense(model.fc, np.concatenate(of_h, axis=1)[2])[1]

    none = np.zeros((5, 4))
    for sample, forward, backward in zip(x, *by_way["forward"], *by_way["backward"], strict=True):
        assert_same(forward, differences(lambda added, x=sample: score(x, added, none), (5, 4)))
        assert_same(backward, differences(lambda added, x=sample: score(x, none, added), (5, 4)))
        assert not forward[3:].any()  # after the step that is read, a state forward changes nothing
        assert not backward[:2].any()


@on_torch
def test_first_layer_of_a_bidirectional_stack():
    rnn = nn.GRU(3, 2, num_layers=2, bidirectional=True, batch_first=True)
    model, x = last(rnn), series(1, 4)
    _, by_way = derivative(model, x, 0, "rnn.0")

    def score(forward, backward):
        h, none = x[0], np.zeros((4, 2))
        for layer, (one, other) in enumerate([(forward, backward), (none, none)]):
            h = np.concatenate([layer_nudged(rnn, h, one, layer=layer), layer_nudged(rnn, h, other, layer=layer, backward=True)], axis=1)
        return dense(model.fc, h[-1])[0]

    assert_same(by_way["forward"][0][0], differences(lambda added: score(added, np.zeros((4, 2))), (4, 2)))
    assert_same(by_way["backward"][0][0], differences(lambda added: score(np.zeros((4, 2)), added), (4, 2)))


@on_torch
@pytest.mark.parametrize(("state", "size"), [("h", 2), ("c", 4)])
def test_projected_lstm(state, size):
    model, x = last(nn.LSTM(3, 4, proj_size=2, batch_first=True)), series(2, 5)
    for sample, given in zip(x, at(model, x, 0, "rnn", state=state), strict=True):
        expected = differences(lambda added, x=sample: dense(model.fc, layer_nudged(model.rnn, x, added, state)[-1])[0], (5, size))
        assert_same(given, expected)


@on_torch
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_packed_input_of_several_lengths(cell, bidirectional):
    rnn = CELLS[cell](3, 4, batch_first=True, bidirectional=bidirectional)

    def run(net, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out, _ = pad_packed_sequence(net.rnn(packed)[0], batch_first=True)
        return net.fc(out[torch.arange(len(x)), lengths - 1])

    class Packed(Net):
        def forward(self, x, lengths):
            return run(self, x, lengths)

    model = Packed(None, rnn=rnn, fc=nn.Linear(8 if bidirectional else 4, 2))
    x, lengths = series(3, 6), [4, 6, 1]
    _, by_way = derivative(model, x, 1, "rnn", call=lambda model, x, lengths: model(x, lengths), lengths=lengths)
    for row, length in enumerate(lengths):
        alone, none = x[row, :length], np.zeros((length, 4))

        def score(forward, backward, x=alone):
            h = layer_nudged(rnn, x, forward)
            h = np.concatenate([h, layer_nudged(rnn, x, backward, backward=True)], axis=1) if bidirectional else h
            return dense(model.fc, h[-1])[1]

        for way, (found,) in by_way.items():
            expected = differences(lambda a, way=way, n=none: score(n, a) if way == "backward" else score(a, n), (length, 4))
            assert_same(found[row, :length], expected)
            assert not found[row, length:].any()  # padding has no effect


@on_torch
def test_final_states_of_packed_input_are_differentiated_too():
    class Final(Net):
        def forward(self, x, lengths):
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            _, (h, c) = self.rnn(packed)
            return self.fc(torch.cat([h[-1], c[-1]], dim=1))

    model = Final(None, rnn=nn.LSTM(3, 4, batch_first=True), fc=nn.Linear(8, 2))
    x, lengths = series(2, 5), [3, 5]
    call = lambda model, x, lengths: model(x, lengths)  # noqa: E731
    found = at(model, x, 0, "rnn", call=call, lengths=lengths, state="c")

    def score(x, added):
        h, c = None, None
        for x_t, plus in zip(x, added, strict=True):
            now = ref._torch_direction(model.rnn, "_l0", x_t[None], h, c)
            c = now["c"][0] + plus
            h = now["o"][0] * np.tanh(c)
        return dense(model.fc, np.concatenate([h, c]))[0]

    for row, length in enumerate(lengths):
        assert_same(found[row, :length], differences(lambda added, x=x[row, :length]: score(x, added), (length, 4)))


@on_torch
@pytest.mark.parametrize(("cell", "state"), WHERE)
def test_cell_that_the_model_loops_over_has_a_derivative_at_every_call(cell, state):
    def run(net, x):
        now = None
        for t in range(x.shape[1]):
            now = net.cell(x[:, t], now)
        return net.fc(now[0] if cell == "lstm" else now)

    model, x = Net(run, cell=LOOPED[cell](3, 4), fc=nn.Linear(4, 2)), series(2, 5)
    _, by_way = derivative(model, x, 1, "cell", state=state)
    assert len(by_way[""]) == 5
    found = np.stack(by_way[""], axis=1)

    def score(x, added):
        return dense(model.fc, nudged(lambda x_t, h, c: ref.torch_cell(model.cell, x_t, h, c), x, added, state)[-1])[1]

    for sample, given in zip(x, found, strict=True):
        assert_same(given, differences(lambda added, x=sample: score(x, added), (5, 4)))


@on_torch
@pytest.mark.parametrize("state", ["h", "c"])
def test_initial_state_made_by_the_model(state):
    def run(net, x):
        start = torch.tanh(net.start(x.mean(dim=1)))[None]
        return net.fc(net.rnn(x, (start, 2 * start))[0][:, -1])

    model = Net(run, start=nn.Linear(3, 4), rnn=nn.LSTM(3, 4, batch_first=True), fc=nn.Linear(4, 2))
    x = series(2, 5)
    for sample, given in zip(x, at(model, x, 0, "rnn", state=state), strict=True):
        start = np.tanh(dense(model.start, sample.mean(axis=0)))

        def score(added, x=sample, h=start):
            return dense(model.fc, layer_nudged(model.rnn, x, added, state, h, 2 * h)[-1])[0]

        assert_same(given, differences(score, (5, 4)))


@on_torch
def test_recurrent_layer_that_takes_time_first():
    rnn = nn.GRU(3, 4)
    model = Net(lambda net, x: net.fc(net.rnn(x)[0][-1]), rnn=rnn, fc=nn.Linear(4, 2))
    x = series(2, 5)
    found = at(model, x.transpose(1, 0, 2), 0, "rnn", lengths=[5, 5])
    assert found.shape == (2, 5, 4)
    for sample, given in zip(x, found, strict=True):
        assert_same(given, differences(lambda added, x=sample: dense(model.fc, layer_nudged(rnn, x, added)[-1])[0], (5, 4)))


@on_torch
def test_encoder_whose_state_starts_a_decoder():
    def run(net, x):
        _, h = net.encoder(x)
        return net.fc(net.decoder(x, h)[0][:, -1])

    model = Net(run, encoder=nn.GRU(3, 4, batch_first=True), decoder=nn.GRU(3, 4, batch_first=True), fc=nn.Linear(4, 2))
    x = series(2, 4)
    none = np.zeros((4, 4))
    for sample, given in zip(x, at(model, x, 0, "encoder"), strict=True):

        def score(added, x=sample):
            return dense(model.fc, layer_nudged(model.decoder, x, none, h=layer_nudged(model.encoder, x, added)[-1])[-1])[0]

        assert_same(given, differences(score, (4, 4)))


@on_torch
def test_module_called_twice_has_two_derivatives():
    model = Net(lambda net, x: net.fc(net.rnn(net.rnn(x)[0])[0][:, -1]), rnn=nn.GRU(3, 3, batch_first=True), fc=nn.Linear(3, 2))
    x, none = series(1, 4), np.zeros((4, 3))
    _, by_way = derivative(model, x, 0, "rnn")

    def score(one, other):
        return dense(model.fc, layer_nudged(model.rnn, layer_nudged(model.rnn, x[0], one), other)[-1])[0]

    assert_same(by_way[""][0][0], differences(lambda added: score(added, none), (4, 3)))
    assert_same(by_way[""][1][0], differences(lambda added: score(none, added), (4, 3)))


@on_torch
def test_tokens_have_a_derivative_at_the_layer_that_embeds_them():
    model = Net(
        lambda net, ids: net.fc(net.rnn(net.embed(ids))[0][:, -1]),
        embed=nn.Embedding(7, 3),
        rnn=nn.LSTM(3, 4, batch_first=True),
        fc=nn.Linear(4, 2),
    )
    ids = np.array([[1, 4, 4, 0], [6, 2, 3, 5]])
    found, table = at(model, ids, 0, "embed"), model.embed.weight.detach().numpy()
    for row, given in zip(ids, found, strict=True):

        def score(added, x=table[row]):
            return dense(model.fc, layer_nudged(model.rnn, x + added, np.zeros((4, 4)))[-1])[0]

        assert_same(given, differences(score, (4, 3)))


# Torch, at another layer


def by_hook(model, module, x, output=0):
    """Differences with respect to what a module gives, added by a hook."""
    shapes = []
    handle = module.register_forward_hook(lambda _, args, value: shapes.append(tuple(value.shape)))
    score_of(model, x, output)
    handle.remove()

    def score(added):
        handle = module.register_forward_hook(lambda _, args, value: value + torch.tensor(added))
        try:
            return score_of(model, x, output).sum()
        finally:
            handle.remove()

    return differences(score, shapes[0])


@on_torch
def test_at_a_convolution_and_at_dense_layers():
    model = Net(
        lambda net, x: net.out(torch.tanh(net.fc(torch.tanh(net.conv(x.transpose(1, 2))).mean(dim=-1)))),
        conv=nn.Conv1d(3, 4, 3),
        fc=nn.Linear(4, 5),
        out=nn.Linear(5, 2),
    )
    x = series(2, 6)
    for name, shape in {"conv": (2, 4, 4), "fc": (2, 5), "out": (2, 2)}.items():
        found = at(model, x, 1, name)
        assert found.shape == shape
        assert_same(found, by_hook(model, model.get_submodule(name), x, 1))
    assert np.array_equal(at(model, x, 1, "out"), [[0, 1], [0, 1]])


@on_torch
def test_at_a_container_and_at_an_activation_that_writes_over_its_input():
    body = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))
    model, x = Net(lambda net, x: net.fc(net.body(x).mean(dim=1)), body=body, fc=nn.Linear(4, 2)), series(2, 5)
    assert_same(at(model, x, 0, "body"), by_hook(model, body, x))
    assert np.array_equal(at(model, x, 0, "body.1"), at(model, x, 0, "body"))
    assert_same(at(model, x, 0, "body.0"), by_hook(model, body[0], x))


@on_torch
def test_layer_that_the_score_does_not_depend_on_has_zeros():
    model = Net(
        lambda net, x: (net.fc(net.rnn(x)[0][:, -1]), net.other(x)),
        rnn=nn.GRU(3, 4, batch_first=True),
        fc=nn.Linear(4, 2),
        other=nn.Linear(3, 2),
    )
    found = at(model, series(2, 5), 0, "other")
    assert found.shape == (2, 5, 2)
    assert not found.any()


# Torch, targets


@on_torch
def test_target_may_be_a_function_of_all_that_the_model_gives():
    model = Net(lambda net, x: (net.fc(net.rnn(x)[0]), x), rnn=nn.GRU(3, 4, batch_first=True), fc=nn.Linear(4, 2))
    x = series(2, 5)
    score, by_way = derivative(model, x, lambda given: given[0][:, 2, 0] * given[0][:, 4, 1], "rnn")

    def product(x, added):
        h = layer_nudged(model.rnn, x, added)
        return dense(model.fc, h[2])[0] * dense(model.fc, h[4])[1]

    np.testing.assert_allclose(score, [product(sample, np.zeros((5, 4))) for sample in x], rtol=1e-10)
    for sample, given in zip(x, by_way[""][0], strict=True):
        assert_same(given, differences(lambda added, x=sample: product(x, added), (5, 4)))


@on_torch
def test_target_may_be_counted_from_the_end():
    model, x = last(nn.GRU(3, 4, batch_first=True)), series(2, 5)
    assert np.array_equal(at(model, x, -1, "rnn"), at(model, x, 1, "rnn"))
    assert not np.array_equal(at(model, x, -1, "rnn"), at(model, x, 0, "rnn"))


# Torch, the model afterwards


def noisy():
    """Modes, requires_grad, gradients, running statistics and a hook that are not what they mostly are."""
    model = Net(
        lambda net, x: net.fc(net.drop(net.norm(net.rnn(x)[0][:, -1]))),
        rnn=nn.LSTM(3, 4, num_layers=2, batch_first=True, dropout=0.5),
        norm=nn.BatchNorm1d(4),
        drop=nn.Dropout(0.5),
        fc=nn.Linear(4, 2),
    ).train()
    model.rnn.eval()
    model.fc.weight.requires_grad_(False)
    model.fc.bias.grad = torch.ones(2, dtype=torch.float64)
    model.fc.register_forward_hook(lambda *_: None)
    return model


def looks(model):
    return {
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
        "grad": {name: None if weight.grad is None else weight.grad.clone() for name, weight in model.named_parameters()},
        "wants": {name: weight.requires_grad for name, weight in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "own": {name: set(vars(module)) for name, module in model.named_modules()},
        "hooks": {name: list(module._forward_hooks) for name, module in model.named_modules()},
        "random": torch.get_rng_state(),
        "flags": (torch.backends.cudnn.enabled, torch.is_grad_enabled()),
    }


def assert_as_it_was(now, before):
    assert set(now) == set(before)
    for name, value in before.items():
        if isinstance(value, dict):
            assert_as_it_was(now[name], value)
        elif isinstance(value, torch.Tensor):
            assert torch.equal(now[name], value), name
        else:
            assert now[name] == value, name


@on_torch
@pytest.mark.parametrize("layer", [None, "rnn", "rnn.0", "norm", "fc"])
def test_the_module_is_as_it_was(layer):
    model, x = noisy(), series(2, 5)
    before, batch = looks(model), x.copy()
    at(model, x, 0, layer)
    assert_as_it_was(looks(model), before)
    assert np.array_equal(x, batch)


@on_torch
@pytest.mark.parametrize("layer", [None, "rnn", "rnn.0", "norm", "fc"])
def test_the_module_is_as_it_was_after_an_interruption(layer):
    model, x = noisy(), series(2, 5)
    before = looks(model)
    with mock.patch.object(model.drop, "forward", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        at(model, x, 0, layer)
    assert_as_it_was(looks(model), before)


@on_torch
def test_frozen_weights_and_a_caller_without_gradients_make_no_difference():
    model, x = last(nn.LSTM(3, 4, batch_first=True)), series(2, 5)
    expected = at(model, x, 0, "rnn"), at(model, x, 0)
    model.requires_grad_(False)
    with torch.no_grad():
        assert_same(at(model, x, 0, "rnn"), expected[0])
        assert_same(at(model, x, 0), expected[1])


@on_torch
def test_random_layers_are_quiet():
    model, x = noisy(), series(2, 5)
    assert np.array_equal(at(model, x, 0, "rnn.0"), at(model, x, 0, "rnn.0"))


# Torch, what is refused


def refused(error, model, x, target=0, layer=None, **options):
    """The sentence of an error of seqscope's own."""
    with pytest.raises(error) as caught:
        derivative(model, x, target, layer, **options)
    assert isinstance(caught.value, SeqscopeError)
    return str(caught.value)


@on_torch
def test_tokens_without_a_layer_are_refused():
    model = Net(lambda net, ids: net.fc(net.embed(ids).mean(dim=1)), embed=nn.Embedding(7, 3), fc=nn.Linear(3, 2))
    assert "layer=" in refused(UnsupportedError, model, np.array([[1, 2, 3]]))


@on_torch
@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_cell_state_of_a_layer_that_has_none_is_refused(cell):
    model = last(CELLS[cell](3, 4, batch_first=True))
    assert "'rnn'" in refused(UnsupportedError, model, series(2, 5), 0, "rnn", state="c")
    assert "'fc'" in refused(UnsupportedError, model, series(2, 5), 0, "fc", state="c")


@on_torch
def test_state_that_does_not_exist_is_refused():
    said = refused(UnsupportedError, last(nn.LSTM(3, 4, batch_first=True)), series(2, 5), 0, "rnn", state="g")
    assert "'g'" in said
    assert "h or c" in said


@on_torch
@pytest.mark.parametrize("target", [2, -3, 100])
def test_output_that_does_not_exist_is_refused(target):
    said = refused(ModelError, last(nn.GRU(3, 4, batch_first=True)), series(2, 5), target)
    assert str(target) in said
    assert "(2, 2)" in said


@on_torch
def test_position_in_outputs_that_have_steps_is_refused():
    model = Net(lambda net, x: net.fc(net.rnn(x)[0]), rnn=nn.GRU(3, 4, batch_first=True), fc=nn.Linear(4, 2))
    assert "(2, 5, 2)" in refused(ModelError, model, series(2, 5), 0, "rnn")


@on_torch
@pytest.mark.parametrize(
    "target",
    [lambda given: given, lambda given: given.sum(), lambda given: given[:1, 0], lambda given: 1.0, lambda given: None],
    ids=["all", "one", "fewer", "number", "nothing"],
)
@pytest.mark.parametrize("layer", [None, "rnn"])
def test_function_that_gives_no_score_for_each_sample_is_refused(target, layer):
    assert "one score for each" in refused(ModelError, last(nn.GRU(3, 4, batch_first=True)), series(2, 5), target, layer)


@on_torch
def test_function_without_a_derivative_is_refused():
    refused(SeqscopeError, last(nn.GRU(3, 4, batch_first=True)), series(2, 5), lambda given: given.argmax(dim=1))
    refused(SeqscopeError, last(nn.GRU(3, 4, batch_first=True)), series(2, 5), lambda given: given.detach()[:, 0])


@on_torch
def test_function_that_raises_is_an_error_of_seqscopes():
    refused(SeqscopeError, last(nn.GRU(3, 4, batch_first=True)), series(2, 5), lambda given: given[:, 5])


@on_torch
def test_layer_that_does_not_exist_is_refused():
    assert "rmn" in refused(LayerError, last(nn.GRU(3, 4, batch_first=True)), series(2, 5), 0, "rmn")


@on_torch
def test_layer_that_never_runs_is_refused():
    model = last(nn.GRU(3, 4, batch_first=True), spare=nn.Linear(3, 3))
    assert "'spare' never ran" in refused(LayerError, model, series(2, 5), 0, "spare")


@on_torch
def test_batch_that_the_model_refuses_is_an_error_of_seqscopes():
    for layer in (None, "rnn"):
        refused((ModelError, DataError), last(nn.GRU(3, 4, batch_first=True)), series(2, 5, 7), 0, layer)


# Torch, what is easily overlooked


@on_torch
def test_class_with_a_forward_of_its_own_is_heeded_or_refused():
    class Doubled(nn.LSTM):
        def forward(self, x, hx=None):
            h, state = super().forward(x, hx)
            return 2 * h, state

    model, x = last(Doubled(3, 4, batch_first=True)), series(2, 5)
    try:
        score, _ = derivative(model, x, 1, "rnn")
    except SeqscopeError:
        return
    np.testing.assert_allclose(score, score_of(model, x, 1), rtol=1e-10)  # the score is that of the model as it is


@on_torch
def test_model_that_writes_over_its_input():
    def run(net, x):
        x -= x.mean(dim=1, keepdim=True)
        return net.fc(net.rnn(x)[0][:, -1])

    model, x = Net(run, rnn=nn.GRU(3, 4, batch_first=True), fc=nn.Linear(4, 2)), series(2, 5)
    assert_same(at(model, x), differences(lambda added: score_of(model, x + added, 0).sum(), x.shape))


@on_torch
def test_recurrent_layer_that_is_given_one_sequence_at_a_time():
    def run(net, x):
        return torch.stack([net.fc(net.rnn(one)[0][-1]) for one in x])

    model, x = Net(run, rnn=nn.LSTM(3, 4, batch_first=True), fc=nn.Linear(4, 2)), series(2, 5)
    _, by_way = derivative(model, x, 0, "rnn")
    for sample, given in zip(x, by_way[""], strict=True):
        expected = differences(lambda added, x=sample: dense(model.fc, layer_nudged(model.rnn, x, added)[-1])[0], (5, 4))
        assert_same(np.reshape(given, (5, 4)), expected)


@on_torch
@pytest.mark.parametrize("layer", [None, "rnn", "fc"])
def test_in_a_net_of_bfloat16(layer):
    model, x = last(nn.LSTM(3, 4, batch_first=True)), series(2, 5)
    expected = at(model, x, 0, layer)
    np.testing.assert_allclose(at(copy.deepcopy(model).bfloat16(), x, 0, layer), expected, rtol=0.1, atol=0.02)


@on_torch
@pytest.mark.parametrize("layer", [None, "rnn"])
def test_inside_inference_mode(layer):
    model, x = last(nn.LSTM(3, 4, batch_first=True)), series(2, 5)
    expected = at(model, x, 0, layer)
    with torch.inference_mode():
        found = at(model, x, 0, layer)
    assert_same(found, expected)


@on_torch
def test_model_that_turns_gradients_off_is_refused():
    class Quiet(Net):
        @torch.no_grad()
        def forward(self, x):
            return self.fc(self.rnn(x)[0][:, -1])

    for layer in (None, "rnn"):
        refused(SeqscopeError, Quiet(None, rnn=nn.GRU(3, 4, batch_first=True), fc=nn.Linear(4, 2)), series(2, 5), 0, layer)


# Keras. In float32, since jax has no more: so are the tolerances


def model_of(*layers, steps=None, channels=3):
    """A model of these layers, none of whose weights are zero: Keras' biases start as zeros and ones."""
    return shaken(keras.Sequential([keras.Input((steps, channels)), *layers]))


def shaken(model):
    random = np.random.default_rng(3)
    model.set_weights([random.uniform(-0.7, 0.7, weight.shape).astype(weight.dtype) for weight in model.get_weights()])
    return model


def floats(*shape):
    return series(*shape).astype(np.float32)


def assert_near(found, expected, scale=1.0):
    """Up to float32."""
    np.testing.assert_allclose(found, expected, rtol=1e-4 * scale, atol=3e-5 * scale)
    assert np.abs(expected).max() > 1e-2  # or nothing was compared


def keras_nudged(layer, x, added, state="h", start=(None, None), there=None):
    """h at every step of an `LSTM`, a `GRU`, a `SimpleRNN` or a cell, in the order of the input."""
    cell = getattr(layer, "cell", layer)
    order = slice(None, None, -1 if getattr(layer, "go_backwards", False) else 1)
    zero = np.zeros(cell.units)
    h, c = (zero if part is None else part for part in start)

    def one_step(x_t, h, c):
        return ref.keras_cell(cell, x_t, (h, c)[: len(np.atleast_1d(cell.state_size))])

    there = None if there is None else there[order]
    return nudged(one_step, x[order], added[order], state, h, c, there=there, bend=ref.ACTIVATIONS[cell.activation.__name__])[order]


def keras_dense(layer, h):
    matrix, bias = (weight.astype(np.float64) for weight in layer.get_weights())
    return h @ matrix + bias


KERAS = {"lstm": kl.LSTM, "gru": kl.GRU, "gru before": lambda *a, **k: kl.GRU(*a, reset_after=False, **k), "rnn": kl.SimpleRNN}
KERAS_WHERE = [("lstm", "h"), ("lstm", "c"), ("gru", "h"), ("gru before", "h"), ("rnn", "h")]


def some(*cases):
    """The cases of a test: on the compiled backends the first alone."""
    return cases if BACKEND == "torch" else cases[:1]


@pytest.mark.parametrize(("cell", "state"), KERAS_WHERE)
def test_keras_layer_whose_last_step_is_read(cell, state):
    model, x = model_of(KERAS[cell](4, name="rnn"), kl.Dense(2, name="fc")), floats(2, 5)
    rnn, fc = model.layers
    found = at(model, x, 1, "rnn", state=state)
    for sample, given in zip(x, found, strict=True):
        assert_near(given, differences(lambda added, x=sample: keras_dense(fc, keras_nudged(rnn, x, added, state)[-1])[1], (5, 4)))
    assert (np.abs(found).max(axis=-1) > 1e-5).all()


@pytest.mark.parametrize("cell", some(*KERAS))
def test_keras_input(cell):
    model, x = model_of(KERAS[cell](4, name="rnn"), kl.Dense(2, name="fc")), floats(2, 5)
    rnn, fc = model.layers
    score, by_way = derivative(model, x, 1)
    none = np.zeros((5, 4))
    for sample, one, given in zip(x.astype(np.float64), score, by_way[""][0], strict=True):

        def score_at(added, x=sample):
            return keras_dense(fc, keras_nudged(rnn, x + added, none)[-1])[1]

        np.testing.assert_allclose(one, score_at(0.0), rtol=1e-5)
        assert_near(given, differences(score_at, (5, 3)))


@pytest.mark.skipif(BACKEND == "jax", reason="jax computes in float32")
def test_keras_layer_in_float64():
    layers = kl.LSTM(4, name="rnn", dtype="float64"), kl.Dense(2, name="fc", dtype="float64")
    model, x = shaken(keras.Sequential([keras.Input((None, 3), dtype="float64"), *layers])), series(2, 5)
    rnn, fc = model.layers
    found = at(model, x, 0, "rnn", state="c")
    assert found.dtype == np.float64
    for sample, given in zip(x, found, strict=True):
        assert_same(given, differences(lambda added, x=sample: keras_dense(fc, keras_nudged(rnn, x, added, "c")[-1])[0], (5, 4)))


@pytest.mark.parametrize("options", some({"return_sequences": True}, {}), ids=str)
@pytest.mark.parametrize(("cell", "state"), some(*KERAS_WHERE))
def test_keras_layer_that_goes_backwards_is_in_the_order_of_the_input(cell, state, options):
    head = [kl.Lambda(lambda h: h[:, -1], name="end")] if options else []
    model = model_of(KERAS[cell](4, name="rnn", go_backwards=True, **options), *head, kl.Dense(2, name="fc"))
    rnn, fc, x = model.layers[0], model.layers[-1], floats(2, 5)
    for sample, given in zip(x, at(model, x, 0, "rnn", state=state), strict=True):
        assert_near(given, differences(lambda added, x=sample: keras_dense(fc, keras_nudged(rnn, x, added, state)[0])[0], (5, 4)))


@pytest.mark.parametrize("unroll", some(False, True))
@pytest.mark.parametrize(("cell", "state"), some(*KERAS_WHERE))
def test_keras_masked_steps(cell, state, unroll):
    model = model_of(kl.Masking(), KERAS[cell](4, name="rnn", unroll=unroll), kl.Dense(2, name="fc"), steps=5)
    rnn, fc = model.get_layer("rnn"), model.get_layer("fc")
    x = floats(2, 5)
    x[0, 3:] = 0
    x[1, 1] = 0
    found = at(model, x, 0, "rnn", state=state)
    for sample, given in zip(x, found, strict=True):
        there = sample.any(axis=-1)
        # A masked step holds the state before it, and gives that again: what is added there is not carried on by every backend alike,
        # so the steps that count are compared, where nothing is added at the others.
        expected = differences(lambda a, x=sample, t=there: keras_dense(fc, keras_nudged(rnn, x, a, state, there=t)[-1])[0], (5, 4))
        assert_near(given[there], expected[there])


@pytest.mark.parametrize(("sequences", "merge"), some((False, "concat"), (True, "sum")))
@pytest.mark.parametrize(("cell", "state"), some(*KERAS_WHERE))
def test_keras_both_directions(cell, state, sequences, merge):
    head = [kl.Lambda(lambda h: h[:, 2], name="middle")] if sequences else []
    both = kl.Bidirectional(KERAS[cell](4, return_sequences=sequences), merge_mode=merge, name="rnn")
    model = model_of(both, *head, kl.Dense(2, name="fc"))
    fc, x, none = model.layers[-1], floats(2, 5), np.zeros((5, 4))
    _, by_way = derivative(model, x, 1, "rnn", state=state)
    assert list(by_way) == ["forward", "backward"]

    def score(x, forward, backward):
        one, other = keras_nudged(both.forward_layer, x, forward, state), keras_nudged(both.backward_layer, x, backward, state)
        one, other = (one[2], other[2]) if sequences else (one[-1], other[0])
        return keras_dense(fc, np.concatenate([one, other]) if merge == "concat" else one + other)[1]

    for sample, forward, backward in zip(x, *by_way["forward"], *by_way["backward"], strict=True):
        assert_near(forward, differences(lambda added, x=sample: score(x, added, none), (5, 4)))
        assert_near(backward, differences(lambda added, x=sample: score(x, none, added), (5, 4)))


@pytest.mark.parametrize("wanted", some("rnn.0", "rnn.1", "rnn"))
@pytest.mark.parametrize(("cell", "state"), some(("LSTMCell", "c"), ("LSTMCell", "h"), ("GRUCell", "h")))
def test_keras_stacked_cells(cell, state, wanted):
    model = model_of(kl.RNN([getattr(kl, cell)(4), getattr(kl, cell)(4)], name="rnn"), kl.Dense(2, name="fc"))
    rnn, fc = model.layers
    x, none = floats(2, 5), np.zeros((5, 4))

    def score(x, added):
        for place, one in enumerate(rnn.cell.cells):
            is_it = place == (0 if wanted == "rnn.0" else 1)
            x = keras_nudged(one, x, added if is_it else none, state if is_it else "h")
        return keras_dense(fc, x[-1])[0]

    for sample, given in zip(x, at(model, x, 0, wanted, state=state), strict=True):
        assert_near(given, differences(lambda added, x=sample: score(x, added), (5, 4)))


def test_keras_initial_state_and_final_state():
    x = keras.Input((None, 3))
    start = kl.Dense(4, name="start")(kl.GlobalAveragePooling1D()(x))
    _, h, c = kl.LSTM(4, return_state=True, name="rnn")(x, initial_state=[start, start])
    model = shaken(keras.Model(x, kl.Dense(2, name="fc")(kl.Concatenate()([h, c]))))
    rnn, x = model.get_layer("rnn"), floats(2, 5)

    def score(x, added):
        h = c = keras_dense(model.get_layer("start"), x.mean(axis=0))
        for x_t, plus in zip(x, added, strict=True):
            now = ref.keras_cell(rnn.cell, x_t[None], (h, c))
            c = now["c"][0] + plus
            h = now["o"][0] * np.tanh(c)
        return keras_dense(model.get_layer("fc"), np.concatenate([h, c]))[0]

    for sample, given in zip(x, at(model, x, 0, "rnn", state="c"), strict=True):
        assert_near(given, differences(lambda added, x=sample: score(x, added), (5, 4)))


@pytest.mark.parametrize("options", some({"activation": "softsign", "recurrent_activation": "hard_sigmoid"}, {"stateful": True}), ids=str)
def test_keras_options_of_a_layer(options):
    layer = kl.LSTM(4, name="rnn", dropout=0.5, **options)
    shape = {"batch_shape": (2, 5, 3)} if "stateful" in options else {"shape": (None, 3)}
    model, x = shaken(keras.Sequential([keras.Input(**shape), layer, kl.Dense(2, name="fc")])), floats(2, 5)
    for state in ("h", "c"):
        for sample, given in zip(x, at(model, x, 0, "rnn", state=state), strict=True):

            def score(added, x=sample, state=state):
                return keras_dense(model.get_layer("fc"), keras_nudged(layer, x, added, state)[-1])[0]

            assert_near(given, differences(score, (5, 4)))


def test_keras_layer_of_a_nested_model():
    inner = keras.Sequential([keras.Input((None, 3)), kl.GRU(4, name="rnn")], name="inner")
    model, x = model_of(inner, kl.Dense(2, name="fc")), floats(2, 5)
    rnn, fc = inner.get_layer("rnn"), model.get_layer("fc")
    for sample, given in zip(x, at(model, x, 0, "inner.rnn"), strict=True):
        assert_near(given, differences(lambda added, x=sample: keras_dense(fc, keras_nudged(rnn, x, added)[-1])[0], (5, 4)))


def test_keras_convolution_and_dense_layers():
    model = model_of(
        kl.Conv1D(4, 3, name="conv"), kl.Activation("tanh"), kl.GlobalAveragePooling1D(), kl.Dense(2, activation="softmax", name="fc")
    )
    conv, fc, x = model.get_layer("conv"), model.get_layer("fc"), floats(2, 6)
    kernel, bias = (weight.astype(np.float64) for weight in conv.get_weights())

    def head(value):  # the score is the logit: the softmax is looked through
        return keras_dense(fc, np.tanh(value).mean(axis=0))[1]

    for sample, at_conv, at_fc in zip(x, at(model, x, 1, "conv"), at(model, x, 1, "fc"), strict=True):
        value = np.array([np.einsum("tcf,tc->f", kernel, sample[t : t + 3]) + bias for t in range(4)])
        assert_near(at_conv, differences(lambda added, value=value: head(value + added), (4, 4)))
        assert np.array_equal(at_fc, [0, 1])


def test_keras_tokens_at_the_layer_that_embeds_them():
    layers = kl.Embedding(7, 3, name="embed"), kl.LSTM(4, name="rnn"), kl.Dense(2, name="fc")
    model = shaken(keras.Sequential([keras.Input((None,), dtype="int32"), *layers]))
    ids = np.array([[1, 4, 4, 0], [6, 2, 3, 5]])
    table, none = layers[0].get_weights()[0].astype(np.float64), np.zeros((4, 4))
    for row, given in zip(ids, at(model, ids, 0, "embed"), strict=True):

        def score(added, x=table[row]):
            return keras_dense(layers[2], keras_nudged(layers[1], x + added, none)[-1])[0]

        assert_near(given, differences(score, (4, 3)))
    assert "layer=" in refused(UnsupportedError, model, ids)


def test_keras_target_may_be_a_function():
    model, x = model_of(kl.GRU(4, return_sequences=True, name="rnn"), kl.Dense(2, name="fc")), floats(2, 5)
    rnn, fc = model.layers
    score, by_way = derivative(model, x, lambda given: given[:, 2, 0] * given[:, 4, 1], "rnn")

    def product(x, added):
        value = keras_dense(fc, keras_nudged(rnn, x, added))
        return value[2, 0] * value[4, 1]

    np.testing.assert_allclose(score, [product(sample, np.zeros((5, 4))) for sample in x], rtol=1e-4)
    for sample, given in zip(x, by_way[""][0], strict=True):
        assert_near(given, differences(lambda added, x=sample: product(x, added), (5, 4)))


def test_keras_model_is_as_it_was():
    layers = (
        kl.LSTM(4, return_sequences=True, stateful=True, dropout=0.5, name="rnn"),
        kl.BatchNormalization(name="norm"),
        kl.Dropout(0.5, name="drop"),
        kl.GRU(4, name="gru"),
        kl.Dense(2, name="fc"),
    )
    model = keras.Sequential([keras.Input(batch_shape=(2, 5, 3)), *layers])
    layers[3].trainable = False
    x = floats(2, 5)
    model(x)  # a state that is not zero

    def looks():
        kept = [ops.convert_to_numpy(weight).copy() for weight in (*model.weights, *model.non_trainable_variables, *layers[0].states)]
        return kept, [(layer.trainable, sorted(vars(layer)), getattr(layer, "return_sequences", None)) for layer in layers]

    weights, options = looks()
    found = {layer: at(model, x, 0, layer) for layer in some("rnn", None, "norm", "gru", "fc")}
    assert all(np.array_equal(now, before) for now, before in zip(looks()[0], weights, strict=True))
    assert looks()[1] == options
    if BACKEND == "torch":
        assert all(weight.value.grad is None for weight in model.weights)
    assert np.array_equal(found["rnn"], at(model, x, 0, "rnn"))  # nothing is drawn, and no state carried on


def test_keras_refusals_are_sentences():
    model = model_of(kl.GRU(4, name="rnn"), kl.Dense(2, name="fc"))
    x = floats(2, 5)
    assert "'rnn'" in refused(UnsupportedError, model, x, 0, "rnn", state="c")
    assert "'fc'" in refused(UnsupportedError, model, x, 0, "fc", state="c")
    assert "rmn" in refused(LayerError, model, x, 0, "rmn")
    for target in (2, -3):
        assert str(target) in refused(ModelError, model, x, target, "rnn")
    for layer in some("rnn", None):
        for target in (lambda given: given, lambda given: 1.0, lambda given: None):
            assert "one score for each" in refused(ModelError, model, x, target, layer)
        refused(SeqscopeError, model, x, lambda given: given[:1, 0], layer)
        refused(SeqscopeError, model, x, lambda given: ops.argmax(given, axis=1), layer)
        refused(SeqscopeError, model, x, lambda given: given.no_such_thing, layer)
