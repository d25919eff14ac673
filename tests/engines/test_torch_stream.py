"""Torch modules step by step: every output, activation and state equals the whole run's, and what can't be streamed is refused by name.

The whole run is torch's own, and its states are those of `reference_states.py`.
"""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import reference_states as ref
import seqscope as sq
from nets import Net, series
from seqscope.errors import UnsupportedError
from tolerances import assert_close

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
LOOPED = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}
NAMES = {"lstm": list("hcifgo"), "gru": list("hrzn"), "rnn": list("ha")}


def per_step(rnn, **children):
    """A recurrent module `rnn`, and a dense layer `fc` on each of its steps."""
    width = getattr(rnn, "proj_size", 0) or rnn.hidden_size
    return Net(lambda net, x: net.fc(net.rnn(x)[0]), rnn=rnn, fc=nn.Linear(width, 2), **children)


def whole(model, x):
    with torch.no_grad():
        out = model(torch.as_tensor(x))
    return (out[0] if isinstance(out, tuple) else out).numpy()


def streamed(model, x, **options):
    """What was seen at each step of a block (stream, time, channel), or of tokens (stream, time)."""
    scope = sq.Scope(model, layout="NTC" if x.ndim == 3 else "NT")
    with scope.stream(len(x), check=x[:1], **options) as stream:
        return [stream.step(x[:, t]) for t in range(x.shape[1])]


def assert_outputs(seen, expected, dtype="float64"):
    """`expected` (stream, time, output), of the whole run."""
    assert len(seen) == expected.shape[1]
    for t, step in enumerate(seen):
        assert step.output.dims == ("stream", "output")
        assert_close(step.output, expected[:, t], dtype)


def assert_states(seen, name, expected, dtype="float64"):
    """`expected`: for each stream the states of the equations (time, unit); h is the activation of the layer too."""
    for t, step in enumerate(seen):
        found = step.states[name]
        assert list(found) == list(expected[0])
        for state, array in found.items():
            assert array.dims[0] == "stream"
            assert_close(array, np.stack([of[state][t] for of in expected]), dtype)
        assert_close(step.activations[name], found.h, dtype)


# Recurrent modules


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_every_step_equals_the_whole_run(cell, streams):
    model, x = per_step(CELLS[cell](3, 5, batch_first=True)), series(streams, 9)
    seen = streamed(model, x)
    assert_outputs(seen, whole(model, x))
    assert_states(seen, "rnn", [ref.torch_stack(model.rnn, one)[0] for one in x])
    assert list(seen[0].states["rnn"]) == NAMES[cell]


@pytest.mark.parametrize("cell", CELLS)
def test_in_float32(cell):
    model, x = per_step(CELLS[cell](3, 5, batch_first=True)).float(), series(2, 9).astype(np.float32)
    seen = streamed(model, x)
    assert seen[0].output.dtype == np.float32
    assert_outputs(seen, whole(model, x), "float32")
    assert_states(seen, "rnn", [ref.torch_stack(model.rnn, one)[0] for one in x], "float32")


@pytest.mark.parametrize("options", [{"bias": False}, {"nonlinearity": "relu"}, {"batch_first": False}], ids=str)
def test_options_of_a_plain_rnn(options):
    rnn = nn.RNN(3, 5, **{"batch_first": True, **options})
    model, x = per_step(rnn), series(2, 7)
    if not rnn.batch_first:
        model = Net(lambda net, x: net.fc(net.rnn(x.transpose(0, 1))[0]).transpose(0, 1), rnn=rnn, fc=nn.Linear(5, 2))
    seen = streamed(model, x)
    assert_outputs(seen, whole(model, x))
    assert_states(seen, "rnn", [ref.torch_stack(rnn, one)[0] for one in x])


def test_model_whose_own_layout_has_time_first():
    model, x = Net(lambda net, x: net.fc(net.rnn(x)[0]), rnn=nn.LSTM(3, 5), fc=nn.Linear(5, 2)), series(2, 7)
    with sq.Scope(model, layout="TNC").stream(2, check=sq.Sequences(x)) as stream:
        seen = [stream.step(x[:, t]) for t in range(7)]
    assert_outputs(seen, whole(model, x.transpose(1, 0, 2)).transpose(1, 0, 2))


@pytest.mark.parametrize("cell", CELLS)
def test_every_layer_of_a_stack(cell):
    rnn = CELLS[cell](3, 5, num_layers=3, batch_first=True, dropout=0.5)
    model, x = per_step(rnn), series(2, 6)
    seen = streamed(model, x)
    assert_outputs(seen, whole(model, x))
    expected = list(zip(*(ref.torch_stack(rnn, one) for one in x), strict=True))
    for layer, states in enumerate(expected):
        assert_states(seen, f"rnn.{layer}", states)
    assert list(seen[0].states) == ["rnn.0", "rnn.1", "rnn.2"]


@pytest.mark.parametrize("n_layers", [1, 2])
def test_projected_lstm(n_layers):
    rnn = nn.LSTM(3, 5, proj_size=2, num_layers=n_layers, batch_first=True)
    model, x = per_step(rnn), series(2, 6)
    seen = streamed(model, x)
    assert_outputs(seen, whole(model, x))
    for layer, states in enumerate(zip(*(ref.torch_stack(rnn, one) for one in x), strict=True)):
        name = f"rnn.{layer}" if n_layers > 1 else "rnn"
        assert_states(seen, name, states)
        assert seen[0].states[name].h.dims == ("stream", "projection")
        assert seen[0].states[name].c.dims == ("stream", "unit")


@pytest.mark.parametrize("cell", CELLS)
def test_cell_that_the_model_loops_over(cell):
    def run(net, x):
        now, out = None, []
        for t in range(x.shape[1]):
            now = net.cell(x[:, t], now)
            out.append(net.fc(now[0] if cell == "lstm" else now))
        return torch.stack(out, dim=1)

    model, x = Net(run, cell=LOOPED[cell](3, 5), fc=nn.Linear(5, 2)), series(2, 6)
    seen = streamed(model, x)
    assert_outputs(seen, whole(model, x))
    assert_states(seen, "cell", [ref.torch_cell(model.cell, one) for one in x])


def test_two_cells_that_feed_each_other_in_one_loop():
    def run(net, x):
        one = two = x.new_zeros(len(x), 4)
        out = []
        for t in range(x.shape[1]):
            one = net.one(x[:, t], one)
            two = net.two(one, two)
            out.append(net.fc(two))
        return torch.stack(out, dim=1)

    model = Net(run, one=nn.GRUCell(3, 4), two=nn.GRUCell(4, 4), fc=nn.Linear(4, 2))
    x = series(2, 6)
    seen = streamed(model, x)
    assert_outputs(seen, whole(model, x))
    first = [ref.torch_cell(model.one, one) for one in x]
    assert_states(seen, "one", first)
    assert_states(seen, "two", [ref.torch_cell(model.two, states["h"]) for states in first])


@pytest.mark.parametrize("cell", CELLS)
def test_learned_initial_state(cell):
    class Started(Net):
        def __init__(self):
            super().__init__(None, rnn=CELLS[cell](3, 5, batch_first=True), fc=nn.Linear(5, 2))
            self.start = nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.float64))

        def forward(self, x):
            start = self.start.expand(1, len(x), 5).contiguous()
            return self.fc(self.rnn(x, (start, -start) if cell == "lstm" else start)[0])

    model, x = Started(), series(2, 6)
    start = model.start.detach().numpy()[None]
    starts = {"h0": start, "c0": -start} if cell == "lstm" else {"h0": start}
    seen = streamed(model, x)
    assert_outputs(seen, whole(model, x))
    assert_states(seen, "rnn", [ref.torch_stack(model.rnn, one, **starts)[0] for one in x])


def test_initial_state_of_ones_in_a_cell_loop():
    def run(net, x):
        h, c, out = x.new_ones(len(x), 5), x.new_ones(len(x), 5), []
        for t in range(x.shape[1]):
            h, c = net.cell(x[:, t], (h, c))
            out.append(net.fc(h))
        return torch.stack(out, dim=1)

    model, x = Net(run, cell=nn.LSTMCell(3, 5), fc=nn.Linear(5, 2)), series(2, 6)
    assert_outputs(streamed(model, x), whole(model, x))


def test_module_that_is_called_twice_carries_a_state_for_each_call():
    model = Net(lambda net, x: net.fc(net.rnn(net.rnn(x)[0])[0]), rnn=nn.GRU(3, 3, batch_first=True), fc=nn.Linear(3, 2))
    x = series(2, 6)
    assert_outputs(streamed(model, x, layers="fc"), whole(model, x))


def test_two_modules_of_one_list_and_a_model_within_a_model():
    inner = nn.Sequential(nn.Linear(3, 4), nn.Tanh())

    def run(net, x):
        x = net.inner(x)
        for rnn in net.rnns:
            x = rnn(x)[0]
        return net.fc(x)

    model = Net(run, inner=inner, rnns=nn.ModuleList([nn.GRU(4, 4, batch_first=True), nn.LSTM(4, 4, batch_first=True)]), fc=nn.Linear(4, 2))
    x = series(2, 6)
    seen = streamed(model, x)
    assert_outputs(seen, whole(model, x))
    with torch.no_grad():
        into = inner(torch.tensor(x)).numpy()
    first = [ref.torch_stack(model.rnns[0], one)[0] for one in into]
    assert_states(seen, "rnns.0", first)
    assert_states(seen, "rnns.1", [ref.torch_stack(model.rnns[1], states["h"])[0] for states in first])


def test_net_that_reads_the_last_step_gives_its_output_for_the_steps_so_far():
    model = Net(lambda net, x: net.fc(net.rnn(x)[0][:, -1]), rnn=nn.LSTM(3, 5, batch_first=True), fc=nn.Linear(5, 2))
    x = series(2, 6)
    expected = np.stack([whole(model, x[:, : t + 1]) for t in range(6)], axis=1)
    assert_outputs(streamed(model, x), expected)


@pytest.mark.parametrize("state", [0, 1])
def test_net_that_reads_the_final_state(state):
    model = Net(lambda net, x: net.fc(net.rnn(x)[1][state][-1]), rnn=nn.LSTM(3, 5, num_layers=2, batch_first=True), fc=nn.Linear(5, 2))
    x = series(2, 6)
    expected = np.stack([whole(model, x[:, : t + 1]) for t in range(6)], axis=1)
    assert_outputs(streamed(model, x), expected)


def test_activations_of_layers_that_are_not_recurrent():
    model, x = per_step(nn.GRU(3, 5, batch_first=True)), series(2, 6)
    seen = streamed(model, x, layers=["fc", "rnn"])
    expected = whole(model, x)
    for t, step in enumerate(seen):
        assert step.activations["fc"].dims == ("stream", "unit")
        assert_close(step.activations["fc"], expected[:, t])


def test_batch_norm_and_dropout_are_those_of_evaluation():
    model = Net(
        lambda net, x: net.fc(net.drop(net.norm(net.rnn(x)[0].transpose(1, 2)).transpose(1, 2))),
        rnn=nn.GRU(3, 5, batch_first=True),
        norm=nn.BatchNorm1d(5),
        drop=nn.Dropout(0.5),
        fc=nn.Linear(5, 2),
    )
    nn.init.uniform_(model.norm.running_mean)
    nn.init.uniform_(model.norm.running_var)
    x = series(2, 6)
    expected = whole(model, x)
    assert_outputs(streamed(model.train(), x), expected)


def test_layer_norm_between_two_recurrent_modules():
    model = Net(
        lambda net, x: net.fc(net.two(net.norm(net.one(x)[0]))[0]),
        one=nn.LSTM(3, 5, batch_first=True),
        norm=nn.LayerNorm(5),
        two=nn.GRU(5, 4, batch_first=True),
        fc=nn.Linear(4, 2),
    )
    x = series(2, 6)
    assert_outputs(streamed(model, x), whole(model, x))


@pytest.mark.parametrize("per", ["step", "last"])
def test_tokens(per):
    def run(net, ids):
        h = net.rnn(net.embed(ids))[0]
        return net.fc(h if per == "step" else h[:, -1])

    model = Net(run, embed=nn.Embedding(11, 3), rnn=nn.LSTM(3, 5, batch_first=True), fc=nn.Linear(5, 2))
    ids = np.random.default_rng(0).integers(0, 11, (3, 7))
    expected = whole(model, ids) if per == "step" else np.stack([whole(model, ids[:, : t + 1]) for t in range(7)], axis=1)
    seen = streamed(model, ids)
    assert_outputs(seen, expected)
    table = model.embed.weight.detach().numpy()
    assert_states(seen, "rnn", [ref.torch_stack(model.rnn, table[row])[0] for row in ids])


def test_packed_input():
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    class Packed(Net):
        def forward(self, x, lengths):
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return self.fc(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0])

    model, x = Packed(None, rnn=nn.LSTM(3, 5, batch_first=True), fc=nn.Linear(5, 2)), series(3, 6)
    with sq.Scope(model, call=lambda model, x, lengths: model(x, lengths)).stream(3, check=x[:1]) as stream:
        seen = [stream.step(x[:, t]) for t in range(6)]
    with torch.no_grad():
        assert_outputs(seen, model(torch.tensor(x), torch.full((3,), 6)).numpy())


# Causal convolutions


class Padded(nn.Module):
    """A convolution that is padded on the left by the person."""

    def __init__(self, n_in, n_out, taps, dilation=1, groups=1):
        super().__init__()
        self.left = dilation * (taps - 1)
        self.conv = nn.Conv1d(n_in, n_out, taps, dilation=dilation, groups=groups)

    def forward(self, x):
        return self.conv(functional.pad(x, (self.left, 0)))


class Chomped(nn.Module):
    """A convolution padded on both sides, of which the right one is cut off."""

    def __init__(self, n_in, n_out, taps, dilation=1, groups=1):
        super().__init__()
        self.right = dilation * (taps - 1)
        self.conv = nn.Conv1d(n_in, n_out, taps, dilation=dilation, groups=groups, padding=self.right)

    def forward(self, x):
        return self.conv(x)[..., : -self.right]


WAYS = {"padded": Padded, "chomped": Chomped}


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize(("taps", "dilation"), [(2, 1), (3, 1), (3, 4), (5, 2)])
@pytest.mark.parametrize("way", WAYS)
def test_causal_convolution(way, taps, dilation, streams):
    model = Net(lambda net, x: net.conv(x.transpose(1, 2)).transpose(1, 2), conv=WAYS[way](3, 4, taps, dilation))
    x = series(streams, 12)
    assert_outputs(streamed(model, x), whole(model, x))


@pytest.mark.parametrize("way", WAYS)
def test_model_that_takes_channels_first(way):
    model, x = Net(lambda net, x: net.conv(x), conv=WAYS[way](3, 4, 3, 2)), series(2, 9)
    with sq.Scope(model, layout="NCT").stream(2, check=sq.Sequences(x)) as stream:
        seen = [stream.step(x[:, t]) for t in range(9)]
    assert_outputs(seen, whole(model, x.transpose(0, 2, 1)).transpose(0, 2, 1))


@pytest.mark.parametrize("way", WAYS)
def test_grouped_convolution_and_one_of_one_tap(way):
    model = Net(
        lambda net, x: net.one(net.conv(x.transpose(1, 2))).transpose(1, 2), conv=WAYS[way](4, 4, 3, groups=2), one=nn.Conv1d(4, 2, 1)
    )
    x = series(2, 8, 4)
    assert_outputs(streamed(model, x), whole(model, x))


def tcn(way, *dilations):
    """Causal convolutions with skips around them."""

    class Block(nn.Module):
        def __init__(self, dilation):
            super().__init__()
            self.one, self.two = WAYS[way](3, 3, 3, dilation), WAYS[way](3, 3, 3, dilation)

        def forward(self, x):
            return torch.relu(x + self.two(torch.relu(self.one(x))))

    return nn.Sequential(*(Block(dilation) for dilation in dilations))


@pytest.mark.parametrize("way", WAYS)
def test_temporal_convolutional_network(way):
    model = Net(lambda net, x: net.fc(net.tcn(x.transpose(1, 2)).transpose(1, 2)), tcn=tcn(way, 1, 2, 4), fc=nn.Linear(3, 2))
    x = series(2, 30)
    assert_outputs(streamed(model, x), whole(model, x))


@pytest.mark.parametrize("way", WAYS)
def test_temporal_convolutional_network_before_an_lstm(way):
    model = Net(
        lambda net, x: net.fc(net.rnn(net.tcn(x.transpose(1, 2)).transpose(1, 2))[0]),
        tcn=tcn(way, 1, 2),
        rnn=nn.LSTM(3, 5, batch_first=True),
        fc=nn.Linear(5, 2),
    )
    x = series(2, 20)
    seen = streamed(model, x)
    assert_outputs(seen, whole(model, x))
    with torch.no_grad():
        into = model.tcn(torch.tensor(x).transpose(1, 2)).transpose(1, 2).numpy()
    assert_states(seen, "rnn", [ref.torch_stack(model.rnn, one)[0] for one in into])


def test_activations_of_a_convolution():
    model = Net(lambda net, x: torch.relu(net.conv(x.transpose(1, 2))).transpose(1, 2), conv=Padded(3, 4, 3))
    x = series(2, 8)
    seen = streamed(model, x, layers="conv.conv")
    with torch.no_grad():
        expected = model.conv(torch.tensor(x).transpose(1, 2)).transpose(1, 2).numpy()
    for t, step in enumerate(seen):
        assert_close(step.activations["conv.conv"], expected[:, t])


def test_activations_of_a_convolution_that_gives_more_steps_than_are_kept():
    model = Net(lambda net, x: torch.relu(net.conv(x.transpose(1, 2))).transpose(1, 2), conv=Chomped(3, 4, 3))
    x = series(2, 8)
    with torch.no_grad():
        expected = model.conv(torch.tensor(x).transpose(1, 2)).transpose(1, 2).numpy()
    for t, step in enumerate(streamed(model, x, layers="conv.conv")):
        assert_close(step.activations["conv.conv"], expected[:, t])


# What is refused, when the stream is made


def refused(model, *said, check=None, **options):
    with pytest.raises(UnsupportedError) as caught:
        sq.Scope(model).stream(check=series(1, 8) if check is None else check, **options)
    for part in ("can't be streamed", *said):
        assert part in str(caught.value)


def test_bidirectional_module_is_refused():
    rnn = nn.LSTM(3, 5, bidirectional=True, batch_first=True)
    refused(Net(lambda net, x: net.fc(net.rnn(x)[0]), rnn=rnn, fc=nn.Linear(10, 2)), "'rnn' is bidirectional")


def test_layer_of_a_stack_that_reads_backwards_is_refused():
    model = Net(lambda net, x: net.fc(net.rnn(x.flip(1))[0].flip(1)), rnn=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 2))
    refused(model, "'rnn'", "8 steps were checked")


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_pooling_over_time_is_refused(pool):
    def run(net, x):
        h = net.rnn(x)[0]
        return net.fc(h.mean(dim=1) if pool == "mean" else h.max(dim=1).values)

    refused(Net(run, rnn=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 2)), "'fc'")


def test_pooling_module_is_refused_by_its_own_name():
    model = Net(
        lambda net, x: net.fc(net.pool(net.rnn(x)[0].transpose(1, 2))[..., 0]),
        rnn=nn.GRU(3, 5, batch_first=True),
        pool=nn.AdaptiveAvgPool1d(1),
        fc=nn.Linear(5, 2),
    )
    refused(model, "'pool'")


def test_pooling_over_a_window_is_refused_by_its_name():
    model = Net(
        lambda net, x: net.fc(net.rnn(net.pool(x.transpose(1, 2)).transpose(1, 2))[0]),
        pool=nn.AvgPool1d(3, stride=1, padding=1),
        rnn=nn.GRU(3, 5, batch_first=True),
        fc=nn.Linear(5, 2),
    )
    refused(model, "'pool'")


@pytest.mark.parametrize("padding", ["same", 1])
def test_convolution_padded_on_both_sides_is_refused(padding):
    model = Net(
        lambda net, x: net.fc(net.conv(x.transpose(1, 2)).transpose(1, 2)), conv=nn.Conv1d(3, 4, 3, padding=padding), fc=nn.Linear(4, 2)
    )
    refused(model, "'conv'")


@pytest.mark.parametrize("options", [{"stride": 2}, {}, {"padding": 2, "padding_mode": "replicate"}], ids=str)
def test_convolution_with_a_clock_of_its_own_is_refused(options):
    model = Net(lambda net, x: net.conv(x.transpose(1, 2)).mean(dim=-1), conv=nn.Conv1d(3, 4, 3, **options))
    refused(model, "'conv'")


def test_padding_on_both_sides_that_is_not_cut_off_is_refused():
    refused(Net(lambda net, x: net.conv(x.transpose(1, 2)).mean(dim=-1), conv=nn.Conv1d(3, 4, 3, padding=2)), "the model's output")


def test_padding_on_the_right_is_refused():
    model = Net(lambda net, x: net.conv(functional.pad(x.transpose(1, 2), (0, 2))).transpose(1, 2), conv=nn.Conv1d(3, 4, 3))
    refused(model, "'conv'")


def test_padding_with_another_value_than_zero_is_refused():
    model = Net(lambda net, x: net.conv(functional.pad(x.transpose(1, 2), (2, 0), value=1.0)).transpose(1, 2), conv=nn.Conv1d(3, 4, 3))
    refused(model, "'conv'")


def test_transposed_convolution_is_refused():
    model = Net(lambda net, x: net.conv(x.transpose(1, 2))[..., 1:-1].transpose(1, 2), conv=nn.ConvTranspose1d(3, 4, 3))
    refused(model, "'conv'")


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_refused(causal):
    def run(net, x):
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1) if causal else None
        return net.fc(net.attn(x, x, x, attn_mask=mask)[0])

    refused(Net(run, attn=nn.MultiheadAttention(4, 2, batch_first=True), fc=nn.Linear(4, 2)), "'attn'", check=series(1, 8, 4))


def test_flatten_of_a_fixed_length_is_refused():
    model = Net(lambda net, x: net.fc(net.rnn(x)[0].flatten(1)), rnn=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(40, 2))
    refused(model)


def test_normalization_over_time_is_refused():
    model = Net(
        lambda net, x: net.fc(net.norm(net.rnn(x)[0].transpose(1, 2)).transpose(1, 2)),
        rnn=nn.GRU(3, 5, batch_first=True),
        norm=nn.InstanceNorm1d(5),
        fc=nn.Linear(5, 2),
    )
    refused(model, "'norm'")


def test_differences_between_steps_are_refused():
    model = Net(
        lambda net, x: net.fc(net.rnn(x - functional.pad(x, (0, 0, 1, 0))[:, :-1])[0]),
        rnn=nn.GRU(3, 5, batch_first=True),
        fc=nn.Linear(5, 2),
    )
    refused(model, "'rnn'")


def test_dependence_on_a_step_number_is_refused():
    model = Net(
        lambda net, x: net.fc(net.rnn(x + torch.arange(x.shape[1])[:, None])[0]), rnn=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 2)
    )
    refused(model, "'rnn'")


def test_initial_state_that_depends_on_all_steps_is_refused():
    def run(net, x):
        return net.fc(net.rnn(x, net.start(x.mean(dim=1))[None])[0])

    refused(Net(run, start=nn.Linear(3, 5), rnn=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 2)), "'rnn'")


def test_encoder_and_decoder_are_refused():
    def run(net, x):
        return net.fc(net.decoder(x, net.encoder(x)[1])[0])

    model = Net(run, encoder=nn.GRU(3, 5, batch_first=True), decoder=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 2))
    refused(model, "'decoder'")


def test_class_with_a_forward_of_its_own_is_heeded_or_refused():
    class Doubled(nn.LSTM):
        def forward(self, x, hx=None):
            h, state = super().forward(x, hx)
            return 2 * h, state

    model, x = per_step(Doubled(3, 5, batch_first=True)), series(2, 6)
    try:
        seen = streamed(model, x)
    except UnsupportedError:
        return
    assert_outputs(seen, whole(model, x))


def test_noise_at_every_step_is_refused():
    model = Net(lambda net, x: net.fc(net.rnn(x + torch.randn_like(x))[0]), rnn=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 2))
    refused(model, "'rnn'")
