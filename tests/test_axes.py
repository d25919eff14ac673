"""Axes are named for what they are, whatever their sizes: a neutral name is honest, a wrong one is a bug."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import reference as ref
import seqscope as sq
from nets import Net, series
from tolerances import assert_close


def last(x):
    return x[:, -1]


# Sizes that look alike


@pytest.mark.parametrize(("samples", "steps", "units"), list(itertools.product([1, 3], [1, 3, 5], [3, 5])))
@pytest.mark.parametrize("batch_first", [True, False], ids=["NTC", "TNC"])
def test_equal_sizes_of_samples_steps_and_units_mix_nothing_up(batch_first, samples, steps, units):
    """Three samples are what the axes are found with, so three steps and three units are the hard case."""
    model = Net(
        lambda net, x: net.head(net.tanh(net.rnn(x)[0])[(slice(None), -1) if batch_first else -1]),
        rnn=nn.LSTM(3, units, batch_first=batch_first),
        tanh=nn.Tanh(),
        head=nn.Linear(units, units),
    )
    x = series(samples, steps)
    found = sq.Scope(model, layout="NTC" if batch_first else "TNC").activations(x if batch_first else x.transpose(1, 0, 2))
    hidden = ref.hidden(model.rnn, x)
    for name, expected in {"rnn": hidden, "tanh": np.tanh(hidden)}.items():
        assert found[name].activations.dims == ("sample", "time", "unit")
        assert_close(found[name].activations, expected)
    assert found["head"].activations.dims == ("sample", "unit")
    assert_close(found["head"].activations, ref.linear(model.head, np.tanh(hidden)[:, -1]))


@pytest.mark.parametrize(("samples", "steps", "filters"), list(itertools.product([1, 3], [1, 3, 5], [3, 5])))
def test_equal_sizes_in_a_convolution_mix_nothing_up(samples, steps, filters):
    model = Net(
        lambda net, x: net.pool(net.relu(net.conv(x))).squeeze(-1),
        conv=nn.Conv1d(3, filters, 3, padding="same"),
        relu=nn.ReLU(),
        pool=nn.AdaptiveMaxPool1d(1),
    )
    nn.init.ones_(model.conv.bias)
    x = series(samples, steps)
    found = sq.Scope(model, layout="NCT").activations(x.transpose(0, 2, 1))
    conv = np.array([ref.conv1d(model.conv, one) for one in x])
    assert found["conv"].activations.dims == found["relu"].activations.dims == ("sample", "time", "unit")
    assert_close(found["conv"].activations, conv)
    assert_close(found["relu"].activations, ref.relu(conv))


# What stands behind recurrent and convolution layers


def test_norm_and_dropout_behind_both_directions():
    model = Net(
        lambda net, x: last(net.dropout(net.norm(net.rnn(x)[0]))),
        rnn=nn.LSTM(3, 5, batch_first=True, bidirectional=True),
        norm=nn.LayerNorm(10),
        dropout=nn.Dropout(0.5),
    ).train()
    x = series()
    expected = ref.layer_norm(model.norm, ref.hidden(model.rnn, x))
    for name in ("norm", "dropout"):
        found = sq.Scope(model).activations(x, name)
        assert found.dims == ("sample", "time", "unit")
        assert "direction" not in found.coords
        assert_close(found, expected)


@pytest.mark.parametrize("time_first", [False, True])
def test_samples_and_steps_folded_into_one_axis_are_taken_apart(time_first, ragged):
    def run(net, x):
        hidden = net.rnn(x)[0]
        rows = (hidden.transpose(0, 1) if time_first else hidden).reshape(-1, 5)
        out = net.relu(net.fc(rows))
        shape = (x.shape[1], x.shape[0], 4) if time_first else (x.shape[0], x.shape[1], 4)
        out = out.reshape(shape)
        return out[-1] if time_first else out[:, -1]

    model = Net(run, rnn=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 4), relu=nn.ReLU())
    found = sq.Scope(model).activations(ragged)
    for name in ("fc", "relu"):
        assert found[name].activations.dims == ("sample", "time", "unit")
    for row, one in enumerate(ragged):
        dense = ref.linear(model.fc, ref.stack(model.rnn, one)[-1])
        assert_close(found["fc"].activations[row, : len(one)], dense)
        assert_close(found["relu"].activations[row, : len(one)], ref.relu(dense))
        assert found["fc"].activations[row, len(one) :].isnull().all()


def test_flatten_and_dense_layer_of_a_fixed_length():
    """The model runs on one length only, so the clock is found from which steps answer."""
    model = Net(
        lambda net, x: net.fc(net.flatten(net.relu(net.conv(x)))),
        conv=nn.Conv1d(3, 4, 3, padding="same"),
        relu=nn.ReLU(),
        flatten=nn.Flatten(),
        fc=nn.Linear(4 * 9, 2),
    )
    nn.init.ones_(model.conv.bias)  # most filters answer
    x = series()
    found = sq.Scope(model).activations(x.transpose(0, 2, 1))
    conv = np.array([ref.conv1d(model.conv, one) for one in x])
    flat = ref.relu(conv).transpose(0, 2, 1).reshape(4, -1)
    assert found["relu"].activations.dims == ("sample", "time", "unit")
    assert_close(found["relu"].activations, ref.relu(conv))
    for name, expected in {"flatten": flat, "fc": ref.linear(model.fc, flat)}.items():
        assert found[name].activations.dims == ("sample", "unit")
        assert_close(found[name].activations, expected)


@pytest.mark.parametrize("steps", [4, 9])
def test_dense_layer_of_a_fixed_length_with_as_many_units_as_steps(steps):
    model = Net(lambda net, x: net.head(net.fc(x.flatten(1))), fc=nn.Linear(3 * steps, steps), head=nn.Linear(steps, steps))
    x = series(n_steps=steps)
    found = sq.Scope(model, layout="NTC").activations(x, "fc")
    assert found.dims == ("sample", "unit")
    assert_close(found, ref.linear(model.fc, x.reshape(4, -1)))


@pytest.mark.parametrize("over", [lambda x: x.mean(1), lambda x: x.max(1).values, last])
def test_what_was_pooled_over_time_has_no_steps(over, ragged):
    model = Net(lambda net, x: net.fc(over(net.rnn(x)[0])), rnn=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 2))
    scope = sq.Scope(model)
    fc = scope.activations(ragged, "fc")
    assert fc.dims == ("sample", "unit")
    assert not fc.isnull().any()
    expected = [over(torch.tensor(ref.stack(model.rnn, one)[-1])[None])[0].numpy() for one in ragged]
    assert_close(fc, ref.linear(model.fc, np.array(expected)))


def test_layer_with_its_own_clock_has_steps():
    model = Net(lambda net, x: net.pool(net.conv(x)).mean(-1), conv=nn.Conv1d(3, 5, 3, stride=2, padding=1), pool=nn.MaxPool1d(2, stride=1))
    x = [*series(3, 8), *series(2, 12)]
    found = sq.Scope(model).activations(x)
    for row, one in enumerate(x):
        conv = ref.conv1d(model.conv, one)
        pooled = np.maximum(conv[:-1], conv[1:])
        for name, expected in {"conv": conv, "pool": pooled}.items():
            assert found[name].activations.dims == ("sample", "step", "unit")
            assert found[name].coords["time"].dims == ("step",)  # where a step lies in the input, not the input's clock
            assert_close(found[name].activations[row, : len(expected)], expected)
            assert found[name].activations[row, len(expected) :].isnull().all()


# Attention


def test_attention_weights_have_neutral_names(ragged):
    """Two axes follow the length: which is the query and which the key can't be told from outside."""

    def run(net, x):
        hidden = net.rnn(x)[0]
        weights = net.softmax(net.query(hidden) @ net.key(hidden).transpose(1, 2))
        return last(weights @ hidden)

    model = Net(run, rnn=nn.GRU(3, 5, batch_first=True), query=nn.Linear(5, 5), key=nn.Linear(5, 5), softmax=nn.Softmax(-1))
    found = sq.Scope(model).activations(ragged, "softmax")
    assert found.dims == ("sample", "axis_1", "axis_2")
    for row, one in enumerate(ragged):
        hidden = ref.stack(model.rnn, one)[-1]
        expected = ref.softmax(ref.linear(model.query, hidden) @ ref.linear(model.key, hidden).T)
        assert_close(found[row, : len(one), : len(one)], expected)
        assert found[row, len(one) :].isnull().all()
        assert found[row, :, len(one) :].isnull().all()


def test_attention_weights_of_several_heads_have_neutral_names():
    def run(net, x):
        weights = net.attn(x, x, x, average_attn_weights=False)[1]
        return net.drop(weights).sum((1, 2))[:, -1:] + last(net.rnn(x)[0])

    model = Net(run, attn=nn.MultiheadAttention(6, 2, batch_first=True), drop=nn.Dropout(), rnn=nn.GRU(6, 5, batch_first=True))
    x = series(n_channels=6)
    found = sq.Scope(model).activations(x, "drop")
    assert found.dims == ("sample", "axis_1", "axis_2", "axis_3")
    assert_close(found, np.array([ref.attention(model.attn, one)[1] for one in x]))


def test_pooling_by_attention_has_one_weight_a_step(ragged):
    def run(net, x):
        hidden = net.rnn(x)[0]
        weights = net.softmax(net.score(hidden))
        return (weights * hidden).sum(1)

    model = Net(run, rnn=nn.GRU(3, 5, batch_first=True), score=nn.Linear(5, 1), softmax=nn.Softmax(1))
    found = sq.Scope(model).activations(ragged, "softmax")
    assert found.dims == ("sample", "time", "unit")
    for row, one in enumerate(ragged):
        scores = ref.linear(model.score, ref.stack(model.rnn, one)[-1])
        assert_close(found[row, : len(one)], ref.softmax(scores.T).T)


# Calls


def test_cell_that_is_called_for_every_step_of_one_sample_after_the_other(ragged):
    """Sample by sample: the calls are the samples."""
    model = Net(lambda net, x: torch.stack([net.rnn(one)[0][-1] for one in x]), rnn=nn.GRU(3, 5, batch_first=True))
    found = sq.Scope(model, layout="NTC").activations(ragged, "rnn")
    assert found.dims == ("sample", "time", "unit")
    for row, one in enumerate(ragged):
        assert_close(found[row, : len(one)], ref.stack(model.rnn, one)[-1])


def test_dense_layer_looped_over_the_steps_is_on_the_clock(ragged):
    def run(net, x):
        hidden = net.rnn(x)[0]
        return torch.stack([net.fc(step) for step in hidden.unbind(1)], 1)

    model = Net(run, rnn=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 2))
    found = sq.Scope(model).activations(ragged, "fc")
    assert found.dims == ("sample", "time", "unit")
    for row, one in enumerate(ragged):
        assert_close(found[row, : len(one)], ref.linear(model.fc, ref.stack(model.rnn, one)[-1]))


def test_fixed_number_of_calls_is_no_clock(ragged):
    def run(net, x):
        x = net.rnn(x)[0]
        for _ in range(4):
            x = net.fc(x)
        return last(x)

    model = Net(run, rnn=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 5))
    found = sq.Scope(model).activations(ragged, "fc")
    assert found.dims == ("sample", "call", "time", "unit")
    for row, one in enumerate(ragged):
        value = ref.stack(model.rnn, one)[-1]
        for call in range(4):
            value = ref.linear(model.fc, value)
            assert_close(found[row, call, : len(one)], value)


def test_calls_of_different_shapes_are_an_error_that_says_so():
    model = Net(
        lambda net, x: last(net.relu(net.b(net.relu(net.a(net.rnn(x)[0]))))),
        rnn=nn.GRU(3, 5, batch_first=True),
        a=nn.Linear(5, 7),
        b=nn.Linear(7, 2),
        relu=nn.ReLU(),
    )
    x = series()
    scope = sq.Scope(model)
    with pytest.raises(sq.errors.LayerError, match=r"'relu' was called 2 times .* different shapes"):
        scope.activations(x, "relu")
    with pytest.warns(UserWarning, match="'relu' was called 2 times"):
        found = scope.activations(x)
    assert sorted(found.children) == ["a", "b", "rnn"]
    first = ref.linear(model.a, ref.hidden(model.rnn, x))
    assert_close(found["b"].activations, ref.linear(model.b, ref.relu(first)))
    assert {layer.name: layer.calls for layer in scope.layers}["relu"] == 2


# Values that do not answer


def recurrent(run, **children):
    return Net(run, rnn=nn.GRU(3, 5, batch_first=True), **children)


def test_layer_whose_weights_are_zero_is_shown_as_zeros():
    """As residual branches and heads are before they have learned anything."""
    model = recurrent(lambda net, x: last(net.fc(net.rnn(x)[0])) + last(net.rnn(x)[0])[:, :2], fc=nn.Linear(5, 2))
    nn.init.zeros_(model.fc.weight)
    nn.init.constant_(model.fc.bias, 0.5)
    found = sq.Scope(model).activations(series(), "fc")
    assert found.dims == ("sample", "time", "unit")
    assert_close(found, np.full((4, 9, 2), 0.5))


def test_dead_relu_is_shown_as_zeros():
    model = recurrent(lambda net, x: last(net.relu(net.rnn(x)[0] - 2) + net.rnn(x)[0]), relu=nn.ReLU())
    tree = _all(sq.Scope(model), series())
    assert_close(tree["relu"].activations, np.zeros((4, 9, 5)))


def _all(scope, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # layers may be left out, with a warning
        return scope.activations(x)


def test_output_that_is_constant_is_given():
    model = recurrent(lambda net, x: net.fc(last(net.rnn(x)[0])), fc=nn.Linear(5, 2))
    nn.init.zeros_(model.fc.weight)
    found = sq.Scope(model, layout="NTC").predict(series())
    assert_close(found, np.tile(ref.weights_of(model.fc)["bias"], (4, 1)))


def test_output_that_is_a_whole_number_is_given():
    model = recurrent(lambda net, x: net.fc(last(net.rnn(x)[0])).argmax(-1), fc=nn.Linear(5, 2))
    model.fc.bias.data = torch.tensor([0.0, 5.0]).double()  # the same class for all
    found = sq.Scope(model, layout="NTC").predict(series())
    assert_close(found.squeeze("output"), np.ones(4))


def test_output_of_a_model_that_diverged_is_nan():
    model = recurrent(lambda net, x: net.fc(last(net.rnn(x)[0])), fc=nn.Linear(5, 2))
    nn.init.constant_(model.rnn.weight_ih_l0, float("nan"))
    scope = sq.Scope(model, layout="NTC")
    assert scope.predict(series()).isnull().all()
    assert scope.activations(series(), "fc").dims == ("sample", "unit")


@pytest.mark.parametrize("form", ["(time, unit)", "(1, time, unit)"])
def test_learned_positions_do_not_keep_the_other_layers_from_being_seen(form):
    def run(net, x):
        places = torch.arange(x.shape[1])
        table = net.positions(places if form == "(time, unit)" else places[None])
        return last(net.rnn(x + table)[0])

    model, x = recurrent(run, positions=nn.Embedding(64, 3)), series()
    expected = ref.hidden(model.rnn, x + ref.weights_of(model.positions)["weight"][:9])
    assert_close(_all(sq.Scope(model), x)["rnn"].activations, expected)


def test_value_without_axes_does_not_keep_the_other_layers_from_being_seen():
    class Temperature(nn.Module):
        def __init__(self):
            super().__init__()
            self.log = nn.Parameter(torch.tensor(0.3))

        def forward(self):
            return self.log.exp()

    model, x = recurrent(lambda net, x: last(net.rnn(x)[0]) / net.temperature(), temperature=Temperature()), series()
    scope = sq.Scope(model)
    assert_close(_all(scope, x)["rnn"].activations, ref.hidden(model.rnn, x))
    assert_close(_all(scope, x[0])["rnn"].activations, ref.hidden(model.rnn, x)[0])
    with pytest.raises(sq.errors.LayerError, match=r"temperature.*no axis follows the samples"):
        scope.activations(x, "temperature")


def test_value_that_mixes_the_samples_is_refused():
    model = recurrent(lambda net, x: last(net.mix(net.rnn(x)[0])), mix=Net(lambda net, h: h.mean(0, keepdim=True).expand_as(h)))
    with pytest.raises(sq.errors.LayerError, match="'mix'"):
        sq.Scope(model, layout="NTC").activations(series(), "mix")


def test_output_that_lost_its_sample_axis_to_squeeze():
    """`squeeze()` takes the samples away where there is one: the numbers come out right or the sentence says what is wrong."""
    model = recurrent(lambda net, x: net.fc(last(net.rnn(x)[0])).squeeze(), fc=nn.Linear(5, 1))
    x = series()
    scope = sq.Scope(model)
    assert_close(scope.predict(x).squeeze("output"), ref.linear(model.fc, ref.hidden(model.rnn, x)[:, -1])[:, 0])
    assert scope.layers.names == ("rnn", "fc")
    try:
        found = scope.predict(x[:1])
    except sq.errors.SeqscopeError:
        return
    assert_close(found.squeeze(), ref.linear(model.fc, ref.hidden(model.rnn, x)[:1, -1]).squeeze())


# What was found on some data holds for other data


def _looped(net, x):
    state = None
    for step in x.unbind(1):
        state = net.cell(step, state)
    return state


def _folded(net, x):
    return net.fc(x.reshape(-1, 3)).reshape(*x.shape[:2], 5)[:, -1] + last(net.rnn(x)[0])


@pytest.mark.parametrize(
    ("make", "name", "equation"),
    [
        (lambda: Net(_looped, cell=nn.GRUCell(3, 5)), "cell", lambda net, x: ref.gru(x, ref.weights_of(net.cell), np.zeros(5))),
        (lambda: recurrent(_folded, fc=nn.Linear(3, 5)), "fc", lambda net, x: ref.linear(net.fc, x)),
        (lambda: recurrent(lambda net, x: last(net.rnn(x)[0])), "rnn", lambda net, x: ref.stack(net.rnn, x)[-1]),
        (
            lambda: recurrent(lambda net, x: last(net.relu(net.rnn(x)[0] + 1)), relu=nn.ReLU()),
            "relu",
            lambda net, x: ref.relu(ref.stack(net.rnn, x)[-1] + 1),
        ),
    ],
    ids=["cell", "folded", "rnn", "relu"],
)
@pytest.mark.parametrize("lengths", [(1, 7), (7, 1), (3, 5), (5, 3)], ids=str)
@pytest.mark.parametrize("samples", [1, 4])
def test_scope_that_saw_one_length_reads_another_as_well(make, name, equation, lengths, samples):
    model = make()
    scope = sq.Scope(model)
    for length in lengths:
        x = series(samples, length)
        found = scope.activations(list(x), name)
        assert found.dims == ("sample", "time", "unit")
        assert_close(found, np.array([equation(model, one) for one in x]))


@pytest.mark.parametrize("fill", [0, 5])
@pytest.mark.parametrize("samples", [1, 3])
def test_tokens_that_are_all_the_same(fill, samples):
    """As a first try of a person is, or one sequence of padding tokens."""
    model = Net(
        lambda net, ids: last(net.norm(net.rnn(net.embed(ids))[0])),
        embed=nn.Embedding(11, 4),
        rnn=nn.GRU(4, 5, batch_first=True),
        norm=nn.LayerNorm(5),
    )
    ids = np.full((samples, 6), fill)
    hidden = ref.hidden(model.rnn, ref.weights_of(model.embed)["weight"][ids])
    found = sq.Scope(model).activations(ids, "norm")
    assert found.dims == ("sample", "time", "unit")
    assert_close(found, ref.layer_norm(model.norm, hidden))


def test_complex_values_are_kept_whole(ragged):
    """As nets give that work on spectra: the frequencies follow the length, and are a clock of their own."""

    class Spectrum(nn.Module):
        def forward(self, x):
            return torch.fft.fft(x, dim=1) * 1j

    model = recurrent(lambda net, x: net.spectrum(net.rnn(x)[0]).abs().mean(1), spectrum=Spectrum())
    found = sq.Scope(model).activations(ragged, "spectrum")
    for row, one in enumerate(ragged):
        expected = np.fft.fft(ref.stack(model.rnn, one)[-1], axis=0) * 1j
        np.testing.assert_allclose(found[row, : len(one)], expected, atol=1e-12)
        assert found[row, len(one) :].isnull().all()


def test_data_that_does_not_vary():
    model = recurrent(lambda net, x: last(net.norm(net.rnn(x)[0])), norm=nn.LayerNorm(5))
    x = np.full((4, 9, 3), 2.5)
    found = sq.Scope(model).activations(x, "norm")
    assert found.dims == ("sample", "time", "unit")
    assert_close(found, ref.layer_norm(model.norm, ref.hidden(model.rnn, x)))


# Outputs


def test_output_with_steps_is_on_the_input_clock(ragged):
    model = recurrent(lambda net, x: net.fc(net.rnn(x)[0]), fc=nn.Linear(5, 2))
    found = sq.Scope(model, outputs=["low", "high"]).predict(sq.Sequences(ragged, rate=4.0))
    assert found.dims == ("sample", "output_time", "output")
    np.testing.assert_array_equal(found.output_time, np.arange(9) / 4)
    for row, one in enumerate(ragged):
        assert_close(found.sel(output=["low", "high"])[row, : len(one)], ref.linear(model.fc, ref.stack(model.rnn, one)[-1]))
        assert found[row, len(one) :].isnull().all()


def test_output_on_a_clock_of_its_own_is_numbered():
    model = Net(lambda net, x: net.conv(x).transpose(1, 2), conv=nn.Conv1d(3, 2, 3))
    x = series()
    found = sq.Scope(model).predict(sq.Sequences(x, rate=4.0))
    assert found.dims == ("sample", "output_time", "output")
    np.testing.assert_array_equal(found.output_time, np.arange(7))
    assert_close(found, np.array([ref.conv1d(model.conv, one) for one in x]))


@pytest.mark.parametrize("shape", ["(sample,)", "(sample, 1)"])
def test_scalar_output_is_one_output(shape, ragged):
    def run(net, x):
        out = net.fc(last(net.rnn(x)[0]))
        return out.squeeze(-1) if shape == "(sample,)" else out

    model = recurrent(run, fc=nn.Linear(5, 1))
    scope = sq.Scope(model, outputs=["level"])
    expected = np.array([ref.linear(model.fc, ref.stack(model.rnn, one)[-1][-1]) for one in ragged])
    assert scope.predict(ragged).dims == ("sample", "output")
    assert_close(scope.predict(ragged), expected)
    assert_close(scope.predict(ragged[0]).sel(output="level"), expected[0, 0])


def test_scalar_output_for_every_step(ragged):
    model = recurrent(lambda net, x: net.fc(net.rnn(x)[0]).squeeze(-1), fc=nn.Linear(5, 1))
    found = sq.Scope(model).predict(ragged)
    assert found.dims == ("sample", "output_time", "output")
    for row, one in enumerate(ragged):
        assert_close(found[row, : len(one)], ref.linear(model.fc, ref.stack(model.rnn, one)[-1]))
        assert found[row, len(one) :].isnull().all()


# A model of a fixed length


def test_time_is_found_in_a_convolution_net_of_a_fixed_length():
    """Valid convolutions and pooling leave the last three of 300 steps out, and a dense layer on the flattened rest fixes the length."""
    layers = [nn.Conv1d(9, 16, 9), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(5)]
    layers += [nn.Conv1d(16, 12, 9), nn.BatchNorm1d(12), nn.ReLU(), nn.MaxPool1d(5), nn.Flatten(), nn.Linear(120, 4), nn.Softmax(-1)]
    model, x = nn.Sequential(*layers).double().eval(), series(4, 300, 9).transpose(0, 2, 1)
    scope = sq.Scope(model)
    tree = scope.activations(x)
    value = torch.tensor(x)
    for place, (layer, n_steps) in enumerate(zip(layers, [292, 292, 292, 58, 50, 50, 50, 10], strict=False)):
        with torch.no_grad():
            value = layer(value)
        found = tree[str(place)].activations
        assert dict(found.sizes) == {"sample": 4, "step": n_steps, "unit": value.shape[1]}
        assert_close(found, value.transpose(1, 2))
    assert [dict(tree[str(place)].activations.sizes) for place in (8, 9, 10)] == [{"sample": 4, "unit": n} for n in (120, 4, 4)]
    assert {layer.name: layer.dims for layer in scope.layers}["4"] == ("step", "unit")
