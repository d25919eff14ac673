"""Every state of every recurrent torch layer equals the equations, at every step: `reference_states.py` computes what is expected.

The way in which states are got depends on the sizes (batch, steps, units), so these are drawn, and some are large.
"""

import copy
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import reference_states as ref
import seqscope as sq
from nets import series
from tolerances import assert_close

CELLS = [nn.LSTM, nn.GRU, nn.RNN]
NAMES = {nn.LSTM: list("hcifgo"), nn.GRU: list("hrzn"), nn.RNN: list("ha")}


class Last(nn.Module):
    """A recurrent module `rnn` and a dense layer `fc` on its last step."""

    def __init__(self, rnn):
        super().__init__()
        width = (getattr(rnn, "proj_size", 0) or rnn.hidden_size) * (2 if rnn.bidirectional else 1)
        self.rnn, self.fc = rnn, nn.Linear(width, 2)

    def forward(self, x):
        out = self.rnn(x)[0]
        return self.fc(out[:, -1] if self.rnn.batch_first else out[-1])


def make(cell, *sizes, dtype=torch.float64, **options):
    return Last(cell(*sizes, batch_first=True, **options)).to(dtype).eval()


def sequences(*lengths, channels=3):
    random = np.random.default_rng(2)
    return [random.standard_normal((length, channels)) for length in lengths or (7, 4, 9, 4, 1)]


def check(found, expected, dtype="float64"):
    """A Dataset of several sequences holds these states, and NaN after a sequence's end."""
    assert isinstance(found, xr.Dataset)
    assert list(found.data_vars) == list(expected[0])
    for name, array in found.data_vars.items():
        check_state(array, [states[name] for states in expected], dtype)
    projected = expected[0]["h"].shape[-1] != expected[0][list(expected[0])[-1]].shape[-1]
    assert {name: array.dims[-1] for name, array in found.items()} == dict.fromkeys(found, "unit") | (
        {"h": "projection"} if projected else {}
    )


def check_state(array, expected, dtype):
    assert array.dims[:-1] == (("sample", "direction", "time") if expected[0].ndim == 3 else ("sample", "time"))
    if expected[0].ndim == 3:
        assert array.direction.values.tolist() == ["forward", "backward"]
    assert array.sizes["sample"] == len(expected)
    for row, values in zip(array.values, expected, strict=True):
        length = values.shape[-2]
        assert_close(row[..., :length, :], values, dtype)
        assert np.isnan(row[..., length:, :]).all()


def check_layers(scope, module, X, given, dtype="float64", **starts):
    """Every layer of a stack `rnn` in the tree, and one of them by its name."""
    expected = list(zip(*(ref.torch_stack(module, x, **starts) for x in X), strict=True))
    if len(expected) == 1:
        return check(scope.states(given, "rnn"), expected[0], dtype)
    whole = scope.states(given, "rnn")
    assert isinstance(whole, xr.DataTree)
    for place, layer in enumerate(expected):
        check(whole[f"rnn.{place}"].to_dataset(inherit=True), layer, dtype)
    place = len(X) % len(expected)
    check(scope.states(given, f"rnn.{place}"), expected[place], dtype)


# All options, drawn


@st.composite
def nets(draw):
    """A recurrent module with options and sizes of all sorts."""
    cell = draw(st.sampled_from(CELLS))
    channels, units = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    layers = draw(st.integers(1, 3))
    options = {name: draw(st.booleans()) for name in ("bias", "bidirectional", "batch_first")}
    options |= {"num_layers": layers, "dropout": draw(st.sampled_from([0.0, 0.5])) if layers > 1 else 0.0}
    if cell is nn.LSTM and units > 1 and draw(st.booleans()):
        options["proj_size"] = draw(st.integers(1, units - 1))
    if cell is nn.RNN:
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    torch.manual_seed(draw(st.integers(0, 100)))
    return cell(channels, units, **options)


@settings(max_examples=25)
@given(rnn=nets(), batch=st.integers(1, 5), steps=st.integers(1, 20), dtype=st.sampled_from(["float32", "float64"]))
def test_every_state_equals_the_equations(rnn, batch, steps, dtype):
    model = Last(rnn).to(getattr(torch, dtype)).eval()
    x = series(batch, steps, rnn.input_size).astype(dtype)
    check_layers(sq.Scope(model), rnn, x, x if rnn.batch_first else x.transpose(1, 0, 2), dtype)


@settings(max_examples=20)
@given(rnn=nets(), lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6), dtype=st.sampled_from(["float32", "float64"]))
def test_series_of_several_lengths_give_what_each_gives_alone(rnn, lengths, dtype):
    model = Last(rnn).to(getattr(torch, dtype)).eval()
    X = [x.astype(dtype) for x in sequences(*lengths, channels=rnn.input_size)]
    check_layers(sq.Scope(model), rnn, X, X, dtype)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_one_sequence_has_no_sample(cell, bidirectional):
    model, x = make(cell, 3, 5, bidirectional=bidirectional), series()[0]
    found, expected = sq.Scope(model).states(x, "rnn"), ref.torch_stack(model.rnn, x)[0]
    assert list(found.data_vars) == NAMES[cell]
    for name, array in found.items():
        assert array.dims == (("direction", "time", "unit") if bidirectional else ("time", "unit"))
        assert_close(array, expected[name])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("cell", CELLS)
def test_short_floats(cell, dtype):
    model, x = make(cell, 3, 5, dtype=getattr(torch, dtype)), series()
    as_fed = torch.tensor(x, dtype=getattr(torch, dtype)).double().numpy()
    check(sq.Scope(model).states(x, "rnn"), [ref.torch_stack(model.rnn, one)[0] for one in as_fed], dtype)


# Sizes: one long series (of several blocks of 64 steps), many short ones, wide layers

SIZES = {
    "long": (1, 300, 2, 9),
    "long and wide": (1, 200, 12, 100),
    "two long": (2, 150, 3, 5),
    "many": (64, 70, 3, 17),
    "very many, short": (700, 3, 3, 4),
    "one step each": (300, 1, 6, 9),
    "wide": (3, 20, 40, 256),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("cell", CELLS)
def test_sizes_of_every_kind(cell, size, dtype):
    batch, steps, channels, units = size
    model = make(cell, channels, units, dtype=getattr(torch, dtype))
    x = series(batch, steps, channels).astype(dtype)
    found = sq.Scope(model).states(x, "rnn")
    some = sorted({0, batch // 2, batch - 1})  # the reference is slow
    check(found.isel(sample=some), [ref.torch_stack(model.rnn, x[row])[0] for row in some], dtype)
    assert found.sizes == {"sample": batch, "time": steps, "unit": units}
    assert all(np.isfinite(array).all() for array in found.values())


@pytest.mark.parametrize("size", [(1, 300, 2, 9), (64, 70, 3, 17)], ids=["long", "many"])
@pytest.mark.parametrize("cell", CELLS)
def test_sizes_of_stacks_that_run_both_ways(cell, size):
    batch, steps, channels, units = size
    options = {"proj_size": 4} if cell is nn.LSTM else {}
    model, x = make(cell, channels, units, num_layers=2, bidirectional=True, **options), series(batch, steps, channels)
    expected = [ref.torch_stack(model.rnn, one) for one in x[-2:]]
    found = sq.Scope(model).states(x, "rnn")
    for place in range(2):
        layer = found[f"rnn.{place}"].to_dataset(inherit=True).isel(sample=slice(-2, None))
        check(layer, [layers[place] for layers in expected])


@pytest.mark.parametrize("cell", CELLS)
def test_many_series_of_many_lengths(cell):
    lengths = [1 + (7 * row) % 23 for row in range(120)]
    model, X = make(cell, 3, 5), sequences(*lengths)
    check_layers(sq.Scope(model), model.rnn, X, X)


@pytest.mark.parametrize("batch", [4, 80])
@pytest.mark.parametrize("cell", CELLS)
def test_net_in_which_rounding_grows_gives_what_the_model_gave(cell, batch):
    """In float32 such a net has no right answer but its own: h is the model's, and the gates are those of one step from there."""
    model, x = make(cell, 3, 32, dtype=torch.float32), series(batch, 150).astype(np.float32)
    with torch.no_grad():
        model.rnn.weight_hh_l0.mul_(12)
    found = sq.Scope(model).states(x, "rnn")
    own = model.rnn(torch.tensor(x))[0].detach().numpy()
    assert_close(found.h, own, "float32")
    for row in (0, batch - 1):
        for step in (1, 75, 149):
            before = {f"{name}0": found[name].values[row, step - 1 : step].astype(np.float64) for name in "hc" if name in found}
            for name, values in ref.torch_stack(model.rnn, x[row, step : step + 1], **before)[0].items():
                assert_close(found[name].values[row, step : step + 1], values, "float32")


# What can't be worked back from h: gates that are shut, saturated, or multiplied by nothing


@pytest.mark.parametrize("steps", [6, 70])
@pytest.mark.parametrize("level", [-800.0, -30.0, 30.0, 800.0])
@pytest.mark.parametrize("gate", range(4))
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_gates_that_are_shut_or_wide_open(cell, gate, level, steps):
    if cell is nn.GRU and gate == 3:
        pytest.skip("three gates")
    model, x = make(cell, 3, 5), series(n_steps=steps)
    with torch.no_grad():
        model.rnn.bias_ih_l0[5 * gate : 5 * gate + 5] = level
    with np.errstate(over="ignore"):
        expected = [ref.torch_stack(model.rnn, one)[0] for one in x]
    check(sq.Scope(model).states(x, "rnn"), expected)


@pytest.mark.parametrize("cell", CELLS)
def test_a_layer_of_zeros(cell):
    model, x = make(cell, 3, 5), series()
    with torch.no_grad():
        for parameter in model.rnn.parameters():
            parameter.zero_()
    check_layers(sq.Scope(model), model.rnn, x, x)


def test_relu_units_that_are_off_keep_their_pre_activation():
    model, x = make(nn.RNN, 3, 5, nonlinearity="relu"), series()
    found = sq.Scope(model).states(x, "rnn")
    assert (found.a.values < -0.1).any()
    check(found, [ref.torch_stack(model.rnn, one)[0] for one in x])


# States that the model passes


class OwnState(nn.Module):
    """Starts from a state that was learned."""

    def __init__(self, rnn, *, as_keyword):
        super().__init__()
        self.rnn, self.as_keyword = rnn, as_keyword
        rows = rnn.num_layers * (2 if rnn.bidirectional else 1)
        self.h0 = nn.Parameter(torch.randn(rows, getattr(rnn, "proj_size", 0) or rnn.hidden_size))
        self.c0 = nn.Parameter(torch.randn(rows, rnn.hidden_size))

    def forward(self, x):
        h, c = (state[:, None].expand(-1, len(x), -1).contiguous() for state in (self.h0, self.c0))
        state = (h, c) if isinstance(self.rnn, nn.LSTM) else h
        return (self.rnn(x, hx=state) if self.as_keyword else self.rnn(x, state))[0]


@pytest.mark.parametrize("as_keyword", [True, False])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 3}], ids=str)
@pytest.mark.parametrize("cell", [*CELLS, "projected"])
def test_state_that_the_model_passes(cell, options, as_keyword):
    cell, options = (nn.LSTM, options | {"proj_size": 2}) if cell == "projected" else (cell, options)
    model = OwnState(cell(3, 5, batch_first=True, **options), as_keyword=as_keyword).double().eval()
    starts = {"h0": model.h0.detach().numpy(), "c0": model.c0.detach().numpy()}
    scope = sq.Scope(model)
    for X in (series(3), series(1, 140), sequences(7, 4, 1)):
        check_layers(scope, model.rnn, X, X, **starts)


class EncoderDecoder(nn.Module):
    """The decoder starts from the encoder's last state, and has steps of its own."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.LSTM(3, 5, batch_first=True), nn.LSTM(2, 5, batch_first=True)

    def forward(self, x):
        _, state = self.encoder(x)
        return self.decoder(x.new_ones(len(x), 4, 2), state)[0]


def test_decoder_starts_from_the_state_of_its_encoder():
    model = EncoderDecoder().double().eval()
    scope = sq.Scope(model)
    for X in (series(), sequences()):
        found = scope.states(X)
        assert set(found.children) == {"encoder", "decoder"}
        for row, x in enumerate(X):
            first = ref.torch_stack(model.encoder, x)[0]
            second = ref.torch_stack(model.decoder, np.ones((4, 2)), first["h"][-1:], first["c"][-1:])[0]
            for name, expected in {"encoder": first, "decoder": second}.items():
                for state, values in expected.items():
                    assert_close(found[name][state].values[row, : len(values)], values)


class Streams(nn.Module):
    """Calls its LSTM once a step and carries the state itself."""

    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        state = None
        for step in range(x.shape[1]):
            out, state = self.rnn(x[:, step : step + 1], state)
        return self.fc(out[:, -1])


def test_layer_that_is_called_once_a_step_carries_its_state():
    model, x = Streams().double().eval(), series()
    scope = sq.Scope(model)
    found, whole = scope.states(x, "rnn"), scope.activations(x, "rnn")
    assert found.h.dims == whole.dims
    assert_close(found.h, whole)
    for row, one in enumerate(x):
        for name, values in ref.torch_stack(model.rnn, one)[0].items():
            assert_close(found[name].isel(sample=row).values.reshape(values.shape), values)


class Shared(nn.Module):
    """One LSTM, called on the series and on its double."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 5, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0][:, -1] + self.rnn(2 * x)[0][:, -1]


def test_calls_of_a_shared_layer_are_told_apart():
    model, x = Shared().double().eval(), series()
    scope = sq.Scope(model)
    found, whole = scope.states(x, "rnn"), scope.activations(x, "rnn")
    assert found.h.dims == found.i.dims == whole.dims
    assert_close(found.h, whole)
    for row, one in enumerate(x):
        for call, given_to_it in enumerate((one, 2 * one)):
            for name, values in ref.torch_stack(model.rnn, given_to_it)[0].items():
                assert_close(found[name].isel(sample=row, call=call), values)


# Packed sequences


class Packed(nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=self.rnn.batch_first, enforce_sorted=False)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=self.rnn.batch_first)[0]


@settings(max_examples=20)
@given(rnn=nets(), lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_packed_sequences(rnn, lengths):
    model, X = Packed(rnn).double().eval(), sequences(*lengths, channels=rnn.input_size)
    scope = sq.Scope(model, call=lambda module, batch, lengths: module(batch, lengths))
    check_layers(scope, rnn, X, X)


class PackedAtOnce(nn.Module):
    """Packs by the lengths that it finds in the data, so that one batch holds several."""

    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn
        self.h0, self.c0 = nn.Parameter(torch.randn(4, 5)), nn.Parameter(torch.randn(4, 5))

    def forward(self, x):
        lengths = (x != 0).any(-1).sum(1)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        h, c = (state[:, None].expand(-1, len(x), -1).contiguous() for state in (self.h0, self.c0))
        out = self.rnn(packed, (h, c) if isinstance(self.rnn, nn.LSTM) else h)[0]
        return pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])[0]


@pytest.mark.parametrize("cell", CELLS)
def test_packed_sequences_of_several_lengths_in_one_batch(cell):
    """After a sequence's end there is nothing: NaN, or what the model itself puts there (h is 0)."""
    model, lengths = PackedAtOnce(cell(3, 5, num_layers=2, bidirectional=True, batch_first=True)).double().eval(), (4, 9, 1, 9, 6)
    X = sequences(*lengths)
    padded = np.zeros((5, 9, 3))
    for row, x in enumerate(X):
        padded[row, : len(x)] = x
    starts = [state.detach().numpy() for state in (model.h0, model.c0)]
    for place in range(2):
        found = sq.Scope(model).states(padded, f"rnn.{place}")
        for row, x in enumerate(X):
            for name, values in ref.torch_stack(model.rnn, x, *starts)[place].items():
                assert_close(found[name].values[row, :, : len(x)], values)
                after = found[name].values[row, :, len(x) :]
                assert np.isnan(after).all() or not after.any()


# Models that write over what a layer gave or was given


class WritesOver(nn.Module):
    """A ReLU in place on what the LSTM gave, as `nn.ReLU(inplace=True)` does."""

    def __init__(self, rnn):
        super().__init__()
        self.rnn, self.relu = rnn, nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.rnn(x)[0])[:, -1]


@pytest.mark.parametrize("batch", [4, 80])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"num_layers": 2}], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_value_that_the_model_writes_over(cell, options, batch):
    model, x = WritesOver(cell(3, 5, batch_first=True, **options)).double().eval(), series(batch, 6)
    check_layers(sq.Scope(model), model.rnn, x, x)


class Buffers(nn.Module):
    """A cell that reads every step from one buffer and keeps its state in another."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        step, h = x.new_empty(len(x), 3), x.new_zeros(len(x), 5)
        for t in range(x.shape[1]):
            step.copy_(x[:, t])
            h.copy_(self.cell(step, h))
        return h


@pytest.mark.parametrize("cell", [nn.GRUCell, nn.RNNCell])
def test_cell_that_reads_from_a_buffer(cell):
    model, X = Buffers(cell(3, 5)).double().eval(), sequences()
    check(sq.Scope(model).states(X, "cell"), [ref.torch_cell(model.cell, x) for x in X])


class OneByOne(nn.Module):
    """Gives its LSTM one sequence at a time, without a sample axis."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 5)

    def forward(self, x):
        return torch.stack([self.rnn(one)[0][-1] for one in x])


def test_layer_that_is_given_one_sequence_at_a_time():
    model, x = OneByOne().double().eval(), series()
    scope = sq.Scope(model, layout="NTC")
    found = scope.states(x, "rnn")
    assert found.h.dims == scope.activations(x, "rnn").dims
    check(found, [ref.torch_stack(model.rnn, one)[0] for one in x])


# Cells in loops of the person's own


class Loop(nn.Module):
    """A cell looped over the steps, from a state of zeros or a learned one."""

    def __init__(self, cell, *, starts):
        super().__init__()
        self.cell, self.fc, self.starts = cell, nn.Linear(5, 2), starts
        self.h0, self.c0 = nn.Parameter(torch.randn(5)), nn.Parameter(torch.randn(5))

    def forward(self, x):
        h, c = self.h0.expand(len(x), -1), self.c0.expand(len(x), -1)
        state = None if not self.starts else (h, c) if isinstance(self.cell, nn.LSTMCell) else h
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.fc(state[0] if isinstance(state, tuple) else state)


LOOPED = {
    "lstm": lambda: nn.LSTMCell(3, 5),
    "gru": lambda: nn.GRUCell(3, 5),
    "rnn": lambda: nn.RNNCell(3, 5),
    "relu rnn": lambda: nn.RNNCell(3, 5, nonlinearity="relu"),
    "no bias": lambda: nn.LSTMCell(3, 5, bias=False),
    "gru no bias": lambda: nn.GRUCell(3, 5, bias=False),
}


@pytest.mark.parametrize("starts", [False, True], ids=["from zero", "from a state"])
@pytest.mark.parametrize("cell", LOOPED.values(), ids=LOOPED.keys())
def test_cells_looped_over_the_steps(cell, starts):
    model = Loop(cell(), starts=starts).double().eval()
    state = [model.h0.detach().numpy(), model.c0.detach().numpy()] if starts else []
    scope = sq.Scope(model)
    for X in (series(), sequences(7, 4, 1), series(1, 70)):
        found = scope.states(X, "cell")
        check(found, [ref.torch_cell(model.cell, x, *state) for x in X])
        assert_close(found.h, scope.activations(X, "cell"))


class TwoCells(nn.Module):
    """Two cells in one loop, the second on what the first gives; the state is passed by name."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.LSTMCell(3, 4), nn.GRUCell(4, 5)

    def forward(self, x):
        state, h = None, x.new_zeros(len(x), 5)
        for step in x.unbind(1):
            state = self.first(step, hx=state)
            h = self.second(state[0], hx=h)
        return h


def test_two_cells_in_one_loop():
    model = TwoCells().double().eval()
    for X in (series(), sequences()):
        first = [ref.torch_cell(model.first, x) for x in X]
        scope = sq.Scope(model)
        check(scope.states(X, "first"), first)
        check(scope.states(X, "second"), [ref.torch_cell(model.second, states["h"]) for states in first])


# Weights that are computed before they are used


def old_weight_norm(rnn):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still in people's models
        nn.utils.weight_norm(rnn, "weight_hh_l0")
    return rnn.weight_hh_l0_g


def new_weight_norm(rnn):
    parametrizations.weight_norm(rnn, "weight_hh_l0")
    return rnn.parametrizations.weight_hh_l0.original0


def pruned(rnn):
    prune.random_unstructured(rnn, "weight_hh_l0", 0.5)
    return rnn.weight_hh_l0_orig


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}], ids=["one", "stack"])
@pytest.mark.parametrize("change", [old_weight_norm, new_weight_norm, pruned])
@pytest.mark.parametrize("cell", CELLS)
def test_weights_that_are_computed_before_a_call(cell, change, options):
    model, x = make(cell, 3, 5, **options), series()
    part = change(model.rnn)
    with torch.no_grad():
        part.mul_(3)  # as training would: what was computed before is stale now
    scope = sq.Scope(model)
    found = [scope.states(x, name) for name in (["rnn.0", "rnn.1"] if options else ["rnn"])]
    own = model.rnn(torch.tensor(x))[0].detach().numpy()
    assert_close(found[-1].h, own)
    for place, states in enumerate(found):
        check(states, [ref.torch_stack(model.rnn, one)[place] for one in x])


# Modules that are not what they seem: refused, or right


class Scaled(nn.LSTM):
    def forward(self, x, hx=None):
        return super().forward(2 * x, hx)


class Added(nn.LSTM):
    """A residual connection: what it puts out is no hidden state."""

    def forward(self, x, hx=None):
        out, state = super().forward(x, hx)
        return out + x, state


class Turned(nn.LSTM):
    def forward(self, x, hx=None):
        out, state = super().forward(x.flip(1), hx)
        return out.flip(1), state


class Coupled(nn.LSTM):
    """Forgets as much as it writes: other equations on the same weights."""

    def forward(self, x, hx=None):
        h = c = x.new_zeros(len(x), self.hidden_size)
        steps = []
        for step in x.unbind(1):
            a = step @ self.weight_ih_l0.T + self.bias_ih_l0 + h @ self.weight_hh_l0.T + self.bias_hh_l0
            i, _, g, o = a.chunk(4, 1)
            c = (1 - i.sigmoid()) * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            steps.append(h)
        return torch.stack(steps, 1), (h[None], c[None])


class Plain(nn.LSTM):
    """A subclass that adds nothing."""


def refused_or_right(scope, x, name, expected):
    """`expected`: for one sequence all that may be said about it, none where only refusing is right."""
    try:
        found = scope.states(x, name)
    except sq.errors.SeqscopeError:
        return False
    answers = [[answer(one) for one in x] for answer in expected]
    for answer in answers:
        if all(np.allclose(found[state], [one[state] for one in answer], atol=1e-10) for state in found):
            return True
    raise AssertionError(f"{type(scope.model.rnn).__name__} was neither refused nor right")


SUBCLASSES = {
    Plain: lambda rnn: [lambda x: ref.torch_stack(rnn, x)[0]],
    Scaled: lambda rnn: [lambda x: ref.torch_stack(rnn, 2 * x)[0]],
    Added: lambda rnn: [lambda x: ref.torch_stack(rnn, x)[0]],
    Turned: lambda rnn: [lambda x: {name: values[::-1] for name, values in ref.torch_stack(rnn, x[::-1])[0].items()}],
    Coupled: lambda rnn: [],
}


@pytest.mark.parametrize("size", [(4, 9), (1, 300)], ids=["some", "long"])
@pytest.mark.parametrize("kind", SUBCLASSES)
def test_subclass_is_refused_or_right(kind, size):
    model, x = Last(kind(3, 3, batch_first=True)).double().eval(), series(*size)
    answered = refused_or_right(sq.Scope(model), x, "rnn", SUBCLASSES[kind](model.rnn))
    assert answered or kind is not Plain


class TakesLengths(nn.LSTM):
    """Its second argument is no state."""

    def forward(self, x, lengths=None):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out, state = super().forward(packed)
        return pad_packed_sequence(out, batch_first=True)[0], state


class NamesItOtherwise(nn.LSTM):
    def forward(self, sequence, *, start=None):
        return super().forward(sequence, start)


class WithArguments(nn.Module):
    def __init__(self, rnn, arguments):
        super().__init__()
        self.rnn, self.arguments = rnn, arguments

    def forward(self, x):
        args, named = self.arguments(x)
        return self.rnn(*args, **named)[0][:, -1]


ARGUMENTS = {
    TakesLengths: lambda x: ((x, torch.full((len(x),), x.shape[1])), {}),
    NamesItOtherwise: lambda x: ((), {"sequence": x, "start": (x.new_ones(1, len(x), 3), x.new_ones(1, len(x), 3))}),
}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_subclass_with_arguments_of_its_own_is_refused_or_right(kind):
    model, x = WithArguments(kind(3, 3, batch_first=True), ARGUMENTS[kind]).double().eval(), series()
    start = {} if kind is TakesLengths else {"h0": np.ones((1, 3)), "c0": np.ones((1, 3))}
    refused_or_right(sq.Scope(model), x, "rnn", [lambda one: ref.torch_stack(model.rnn, one, **start)[0]])


def test_one_module_under_two_names():
    model, x = Last(nn.LSTM(3, 5, batch_first=True)).double().eval(), series()
    model.alias = model.rnn
    scope, expected = sq.Scope(model), [ref.torch_stack(model.rnn, one)[0] for one in x]
    check(scope.states(x, "rnn"), expected)
    check(next(iter(scope.states(x).children.values())).to_dataset(), expected)
    check(scope.states(x, "alias"), expected)  # as `activations` takes it


class LayerNormed(nn.LSTMCell):
    """A cell whose hidden state is normalised."""

    def forward(self, x, state=None):
        h, c = super().forward(x, state)
        return nn.functional.layer_norm(h, (5,)), c


def test_subclass_of_a_cell_is_refused():
    model = Loop(LayerNormed(3, 5), starts=False).double().eval()
    with pytest.raises(sq.errors.SeqscopeError, match="cell"):
        sq.Scope(model).states(series(), "cell")


def test_input_that_a_hook_of_the_persons_changes():
    model, x = make(nn.LSTM, 3, 5), series()
    model.rnn.register_forward_pre_hook(lambda module, args: (2 * args[0], *args[1:]))
    assert_close(sq.Scope(model).activations(x, "rnn"), model.rnn(torch.tensor(x))[0].detach())
    refused_or_right(sq.Scope(model), x, "rnn", [lambda one: ref.torch_stack(model.rnn, 2 * one)[0]])


def test_output_that_a_hook_of_the_persons_changes():
    model, x = make(nn.LSTM, 3, 5), series()
    model.rnn.register_forward_hook(lambda module, args, output: (2 * output[0], output[1]))
    refused_or_right(sq.Scope(model), x, "rnn", [lambda one: ref.torch_stack(model.rnn, one)[0]])


@pytest.mark.parametrize("size", [(4, 9), (1, 300)], ids=["some", "long"])
def test_forward_that_was_replaced(size):
    model, x = Last(nn.LSTM(3, 3, batch_first=True)).double().eval(), series(*size)
    model.rnn.forward = Coupled.forward.__get__(model.rnn)
    refused_or_right(sq.Scope(model), x, "rnn", [])


# What is asked for, and what is there


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]


class Several(nn.Module):
    """An LSTM in a module, a stack of GRUs, and layers without states."""

    def __init__(self):
        super().__init__()
        self.encoder, self.gru, self.fc = Encoder(), nn.GRU(4, 5, num_layers=2, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        return self.fc(self.gru(self.encoder(x))[0][:, -1])


def test_all_recurrent_layers_are_the_default():
    model, X = Several().double().eval(), sequences()
    scope = sq.Scope(model)
    found = scope.states(X)
    assert isinstance(found, xr.DataTree)
    assert set(found.children) == {"encoder.lstm", "gru.0", "gru.1"}
    lower = [ref.torch_stack(model.encoder.lstm, x)[0] for x in X]
    upper = [ref.torch_stack(model.gru, states["h"]) for states in lower]
    check(found["encoder.lstm"].to_dataset(), lower)
    check(scope.states(X, "encoder.lstm"), lower)
    for place in range(2):
        check(found[f"gru.{place}"].to_dataset(), [layers[place] for layers in upper])
    some = scope.states(X, ["gru.1", "encoder.lstm"])
    assert set(some.children) == {"gru.1", "encoder.lstm"}
    assert set(scope.states(X, "gru*").children) == {"gru.0", "gru.1"}


def test_a_recurrent_module_alone_is_a_model():
    rnn, x = nn.LSTM(3, 5, batch_first=True).double().eval(), series()
    scope = sq.Scope(rnn)
    check(scope.states(x, scope.layers[0].name), [ref.torch_stack(rnn, one)[0] for one in x])


class Strided(nn.Module):
    """The LSTM's clock is not the input's."""

    def __init__(self):
        super().__init__()
        self.conv, self.rnn = nn.Conv1d(3, 4, 3, stride=2), nn.LSTM(4, 5, batch_first=True)

    def forward(self, x):
        return self.rnn(self.conv(x.transpose(1, 2)).transpose(1, 2))[0][:, -1]


def test_clock_of_a_layer_after_a_strided_convolution():
    model, x = Strided().double().eval(), series(n_steps=15)
    scope = sq.Scope(model)
    found, whole, below = scope.states(x, "rnn"), scope.activations(x, "rnn"), scope.activations(x, "conv")
    assert found.h.dims == found.i.dims == whole.dims == ("sample", "step", "unit")
    assert set(whole.coords) == set(found.h.coords)
    for row in range(len(x)):
        for name, values in ref.torch_stack(model.rnn, below[row].values)[0].items():
            assert_close(found[name][row], values)


@pytest.mark.parametrize("cell", CELLS)
def test_h_equals_the_activations(cell):
    X = sequences()
    model = make(cell, 3, 5, num_layers=2)
    for name in ("rnn.0", "rnn.1"):
        assert_close(sq.Scope(model).states(X, name).h, sq.Scope(model).activations(X, name))
    model = make(cell, 3, 5, bidirectional=True)
    whole = sq.Scope(model).activations(X, "rnn")
    h = sq.Scope(model).states(X, "rnn").h
    for way in ("forward", "backward"):
        assert_close(h.sel(direction=way), whole.isel(unit=whole.direction == way))


@pytest.mark.parametrize("cell", CELLS)
def test_size_of_the_batch_changes_nothing(cell):
    model, X = make(cell, 3, 5), sequences(*[9] * 20, *[4] * 5)
    scope = sq.Scope(model)
    whole = scope.states(X, "rnn")
    for batch_size in (1, 3, 25):
        for name, array in scope.states(X, "rnn", batch_size=batch_size).items():
            assert_close(array, whole[name])


def test_layer_without_states_is_refused_by_what_it_is():
    with pytest.raises(sq.errors.SeqscopeError) as caught:
        sq.Scope(Several().double().eval()).states(series(), "fc")
    said = str(caught.value)
    assert "'fc'" in said
    assert "fully connected" in said or "linear" in said.lower()
    assert all(f"'{name}'" in said for name in ("encoder.lstm", "gru.0", "gru.1"))


def test_name_that_no_layer_has_gets_the_nearest():
    with pytest.raises(sq.errors.LayerError, match=r"the nearest (is|are) .*'encoder\.lstm'"):
        sq.Scope(Several().double().eval()).states(series(), "encoder.lstn")


@pytest.mark.parametrize("asked", [[], 3, [3], "zzz*"], ids=repr)
def test_what_is_no_name_is_refused_in_a_sentence(asked):
    with pytest.raises(sq.errors.LayerError):
        sq.Scope(Several().double().eval()).states(series(), asked)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.unused = nn.LSTM(3, 5, batch_first=True), nn.GRU(3, 5, num_layers=2)

    def forward(self, x):
        return self.rnn(x)[0][:, -1]


def test_layer_that_never_ran_is_an_error_by_name_and_a_warning_in_the_whole():
    model, x = Unused().double().eval(), series()
    scope = sq.Scope(model)
    for name in ("unused", "unused.1", ["rnn", "unused"]):
        with pytest.raises(sq.errors.LayerError, match=r"'unused(\.[01])?' never ran"):
            scope.states(x, name)
    with pytest.warns(UserWarning, match=r"Left out.*unused"):
        found = scope.states(x)
    assert set(found.children) == {"rnn"}


def test_model_without_recurrent_layers_says_so():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).double().eval()
    with pytest.raises(sq.errors.SeqscopeError, match="state"):
        sq.Scope(model).states(series())


# The model stays as it was


def snapshot(model):
    modes = {name: module.training for name, module in model.named_modules()}
    hooks = {name: (len(module._forward_hooks), len(module._forward_pre_hooks)) for name, module in model.named_modules()}
    wants = {name: (parameter.requires_grad, parameter.grad is None, id(parameter)) for name, parameter in model.named_parameters()}
    return modes, hooks, wants, copy.deepcopy(model.state_dict()), torch.get_rng_state(), torch.is_grad_enabled()


def assert_same(before, after):
    assert before[:3] == after[:3]
    assert before[5] == after[5]
    assert torch.equal(before[4], after[4])
    assert before[3].keys() == after[3].keys()
    assert all(torch.equal(before[3][name], value) for name, value in after[3].items())


@pytest.mark.parametrize("name", [None, "gru.0", "encoder.lstm", "fc"])
@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_as_it_was(name, training):
    model = Several().double().train(training)
    model.gru.eval()
    model.encoder.lstm.weight_hh_l0.requires_grad_(False)
    before = snapshot(model)
    scope = sq.Scope(model)
    try:
        scope.states(sequences(), name)
        scope.states(series(1, 300), name)
    except sq.errors.SeqscopeError:
        assert name == "fc"
    assert_same(before, snapshot(model))
    model(torch.tensor(series())).sum().backward()  # what was looked at can still be trained


def test_dropout_of_a_model_in_training_is_off():
    model, x = make(nn.LSTM, 3, 5, num_layers=2, dropout=0.9).train(), series()
    check_layers(sq.Scope(model), model.rnn, x, x)
    assert model.rnn.training


def test_states_under_no_grad_and_with_grad_are_the_same():
    model, x = make(nn.GRU, 3, 5), series()
    plain = sq.Scope(model).states(x, "rnn")
    with torch.no_grad():
        xr.testing.assert_identical(sq.Scope(model).states(x, "rnn"), plain)
