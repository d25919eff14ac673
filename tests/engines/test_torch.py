"""What is captured from torch modules of every make equals the equations, computed step by step in float64 NumPy."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

import reference as ref
import seqscope as sq
from nets import series
from tolerances import assert_close

DOUBLE = torch.float64


def ready(model, dtype=DOUBLE):
    return model.to(dtype).eval()


class Last(nn.Module):
    """A recurrent module and a dense layer on its last step."""

    def __init__(self, rnn, width):
        super().__init__()
        self.rnn, self.fc = rnn, nn.Linear(width, 2)

    def forward(self, x):
        out = self.rnn(x)[0]
        return self.fc(out[:, -1] if self.rnn.batch_first else out[-1])


# Recurrent layers

STACKS = {
    "one": {},
    "no bias": {"bias": False},
    "stack": {"num_layers": 3},
    "both ways": {"bidirectional": True},
    "stack both ways": {"num_layers": 2, "bidirectional": True},
}


@pytest.mark.parametrize("batch_first", [True, False], ids=["NTC", "TNC"])
@pytest.mark.parametrize("options", STACKS.values(), ids=STACKS.keys())
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_equal_their_equations(cell, options, batch_first):
    ways = 2 if options.get("bidirectional") else 1
    model = ready(Last(cell(3, 5, batch_first=batch_first, **options), 5 * ways))
    x = series()
    scope = sq.Scope(model)
    given = x if batch_first else x.transpose(1, 0, 2)
    expected = [np.array(layer) for layer in zip(*ref.stacks(model.rnn, x), strict=True)]
    names = ["rnn"] if len(expected) == 1 else [f"rnn.{place}" for place in range(len(expected))]
    assert [layer.name for layer in scope.layers] == [*names, "fc"]
    for name, values in zip([*names, "rnn"], [*expected, expected[-1]], strict=True):
        found = scope.activations(given, name)
        assert found.dims == ("sample", "time", "unit")
        assert_close(found, values)
    assert_close(scope.predict(given), ref.linear(model.fc, expected[-1][:, -1]))
    assert scope.layers.input.layout == ("NTC" if batch_first else "TNC")


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}], ids=["one", "stack", "both ways"])
def test_projected_lstm_gives_its_projection(options):
    ways = 2 if options.get("bidirectional") else 1
    model = ready(Last(nn.LSTM(3, 7, proj_size=4, batch_first=True, **options), 4 * ways))
    x = series()
    assert_close(sq.Scope(model).activations(x, "rnn"), ref.hidden(model.rnn, x))
    if "num_layers" in options:
        first = [layers[0] for layers in ref.stacks(model.rnn, x)]
        assert_close(sq.Scope(model).activations(x, "rnn.0"), first)


def test_relu_rnn_is_not_taken_for_tanh():
    model = ready(Last(nn.RNN(3, 5, num_layers=2, nonlinearity="relu", batch_first=True), 5))
    x = series()
    first = [layers[0] for layers in ref.stacks(model.rnn, x)]
    assert_close(sq.Scope(model).activations(x, "rnn.0"), first)


@pytest.mark.parametrize("name", ["rnn.0", "rnn.1", "rnn"])
def test_units_of_both_directions_are_told_apart(name):
    model = ready(Last(nn.GRU(3, 5, num_layers=2, bidirectional=True, batch_first=True), 10))
    x = series()
    found = sq.Scope(model).activations(x, name)
    place = 0 if name == "rnn.0" else 1
    both = np.array([layers[place] for layers in ref.stacks(model.rnn, x)])
    assert_close(found.isel(unit=found.direction == "forward"), both[..., :5])
    assert_close(found.isel(unit=found.direction == "backward"), both[..., 5:])


def test_float32_lstm_of_the_usual_size_equals_float64_equations():
    model = Last(nn.LSTM(12, 100, batch_first=True), 100).eval()
    x = series(3, 29, 12).astype(np.float32)
    assert sq.Scope(model).activations(x, "rnn").dtype == np.float32
    assert_close(sq.Scope(model).activations(x, "rnn"), ref.hidden(model.rnn, x), "float32")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_short_floats_are_run_as_they_are(dtype):
    model = ready(Last(nn.LSTM(3, 5, batch_first=True), 5), getattr(torch, dtype))
    x = series()
    as_fed = torch.tensor(x, dtype=getattr(torch, dtype)).double().numpy()
    found = sq.Scope(model).activations(x, "rnn")
    assert found.dtype == {"float16": np.float16, "bfloat16": np.float32}[dtype]
    assert_close(found, ref.hidden(model.rnn, as_fed), dtype)
    own = model.rnn(torch.tensor(x, dtype=getattr(torch, dtype)))[0].detach().float().numpy()
    np.testing.assert_array_equal(found.values.astype(np.float32), own)


class OwnState(nn.Module):
    """A stack that starts from a state that was learned."""

    def __init__(self, cell, *, as_keyword):
        super().__init__()
        self.rnn = cell(3, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.h0, self.c0 = nn.Parameter(torch.randn(4, 5)), nn.Parameter(torch.randn(4, 5))
        self.as_keyword = as_keyword

    def forward(self, x):
        h, c = (state[:, None].expand(-1, len(x), -1).contiguous() for state in (self.h0, self.c0))
        state = (h, c) if isinstance(self.rnn, nn.LSTM) else h
        return (self.rnn(x, hx=state) if self.as_keyword else self.rnn(x, state))[0]


@pytest.mark.parametrize("as_keyword", [True, False])
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_state_that_the_model_passes_reaches_every_layer_of_a_stack(cell, as_keyword):
    model, x = ready(OwnState(cell, as_keyword=as_keyword)), series()
    h0, c0 = model.h0.detach().numpy(), model.c0.detach().numpy()
    per_sample = [ref.stack(model.rnn, one, h0, c0) for one in x]
    for name, place in {"rnn.0": 0, "rnn.1": 1, "rnn": 1}.items():
        assert_close(sq.Scope(model).activations(x, name), np.array([layers[place] for layers in per_sample]))


class Packed(nn.Module):
    """Packed sequences in and out; lengths are given, or else every row counts in full."""

    def __init__(self, *, batch_first=True, keep_packed=False, **options):
        super().__init__()
        self.batch_first, self.keep_packed = batch_first, keep_packed
        self.rnn = nn.LSTM(3, 5, batch_first=batch_first, **options)

    def forward(self, x, lengths=None):
        if lengths is None:
            rows = x if self.batch_first else x.transpose(0, 1)
            packed = pack_sequence(list(rows))
        else:
            packed = pack_padded_sequence(x, lengths, batch_first=self.batch_first, enforce_sorted=False)
        out = self.rnn(packed)[0]
        return out if self.keep_packed else pad_packed_sequence(out, batch_first=self.batch_first)[0]


@pytest.mark.parametrize("keep_packed", [True, False], ids=["packed out", "padded out"])
@pytest.mark.parametrize("batch_first", [True, False], ids=["NTC", "TNC"])
@pytest.mark.parametrize("call", [None, lambda model, batch, lengths: model(batch, lengths)], ids=["plain", "call"])
def test_packed_sequences_are_unpacked_in_the_order_of_the_samples(call, batch_first, keep_packed, ragged):
    model = ready(Packed(batch_first=batch_first, keep_packed=keep_packed, num_layers=2))
    scope = sq.Scope(model, call=call)
    first, last = zip(*ref.stacks(model.rnn, ragged), strict=True)
    for name, expected in {"rnn.0": first, "rnn.1": last, "rnn": last}.items():
        found = scope.activations(ragged, name)
        for row, values in enumerate(expected):
            assert_close(found[row, : len(values)], values)
            assert found[row, len(values) :].isnull().all()
    output = scope.predict(ragged)
    assert output.dims == ("sample", "output_time", "output")
    assert_close(output[2], last[2])


class DenseOnPacked(nn.Module):
    """A dense layer on the packed steps of all sequences in one."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.rnn = nn.GRU(4, 5, batch_first=True)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        dense = nn.utils.rnn.PackedSequence(self.fc(packed.data), packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        return self.rnn(dense)[1][-1]


def test_layer_on_packed_steps_never_mixes_samples_up():
    """Sorting by length may put many sequences of equal length in any order: then no order is right, and an error is."""
    model, x = ready(DenseOnPacked()), series(40)
    scope = sq.Scope(model, call=lambda module, batch, lengths: module(batch, lengths))
    try:
        found = scope.activations(x, "fc")
    except sq.errors.LayerError:
        return
    assert_close(found, ref.linear(model.fc, x))


class Sorting(nn.Module):
    """Sorts by length on its own, as was the way before torch did so, and brings its output back into order."""

    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.GRU(3, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x, lengths=None):
        if lengths is None:
            lengths = (x != 0).any(-1).sum(1)
        lengths, order = lengths.sort(descending=True)
        last = self.rnn(pack_padded_sequence(x[order], lengths, batch_first=True))[1][-1]
        return self.fc(last)[order.argsort()]


@pytest.mark.parametrize("lengths", [(9,) * 3, (9,) * 40, (12, *(9,) * 40, 12)], ids=["few", "many", "many and few"])
@pytest.mark.parametrize("call", [None, lambda model, batch, lengths: model(batch, lengths)], ids=["plain", "call"])
@pytest.mark.parametrize("name", ["rnn", "fc"])
def test_model_that_sorts_its_batch_never_mixes_samples_up(name, call, lengths):
    """Sequences of equal length come out of torch's sort in any order, once there are more than a few."""
    model, x = ready(Sorting()), [series(1, length, seed=row)[0] for row, length in enumerate(lengths)]
    scope = sq.Scope(model, call=call)
    hidden = [ref.stack(model.rnn, one)[-1] for one in x]
    dense = ref.linear(model.fc, np.array([steps[-1] for steps in hidden]))
    assert_close(scope.predict(x), dense)
    try:
        found = scope.activations(x, name)
    except sq.errors.LayerError:
        assert len(lengths) > 3
        found = scope.activations(x, name, batch_size=1)
    for row, one in enumerate(x):
        assert_close(found[row, : len(one)] if name == "rnn" else found[row], {"rnn": hidden, "fc": dense}[name][row])


def test_lengths_given_to_call_are_those_of_the_sequences(ragged):
    given = []

    def call(model, batch, lengths):
        assert batch.shape[:2] == (len(lengths), lengths[0])
        given.extend(lengths.tolist())
        return model(batch)

    sq.Scope(ready(Last(nn.LSTM(3, 5, batch_first=True), 5)), call=call).predict(ragged)
    assert {len(one) for one in ragged} <= set(given)


class Cells(nn.Module):
    """A cell looped over the steps."""

    def __init__(self, cell):
        super().__init__()
        self.cell, self.fc = cell, nn.Linear(5, 2)

    def forward(self, x):
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.fc(state[0] if isinstance(state, tuple) else state)


@pytest.mark.parametrize(
    ("cell", "equation"),
    [
        (nn.LSTMCell, lambda x, w: ref.lstm(x, w, np.zeros(5), np.zeros(5))[0]),
        (nn.GRUCell, lambda x, w: ref.gru(x, w, np.zeros(5))),
        (nn.RNNCell, lambda x, w: ref.rnn(x, w, np.zeros(5))),
    ],
)
def test_cell_looped_over_the_steps_gives_one_value_a_step(cell, equation, ragged):
    model = ready(Cells(cell(3, 5)))
    found = sq.Scope(model).activations(ragged, "cell")
    assert found.dims == ("sample", "time", "unit")
    for row, x in enumerate(ragged):
        assert_close(found[row, : len(x)], equation(x, ref.weights_of(model.cell)))
        assert found[row, len(x) :].isnull().all()


# Convolutions


class Convolutions(nn.Module):
    """Takes (sample, channel, time), or with `transposes` (sample, time, channel)."""

    def __init__(self, *, transposes, padding="same"):
        super().__init__()
        self.transposes = transposes
        self.conv1 = nn.Conv1d(3, 6, 3, padding=padding)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv1d(6, 4, 3, padding=padding, dilation=2)
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        x = x.transpose(1, 2) if self.transposes else x
        return self.fc(self.pool(self.conv2(self.relu(self.conv1(x)))).squeeze(-1))


@pytest.mark.parametrize("transposes", [False, True], ids=["NCT", "NTC"])
@pytest.mark.parametrize("padding", ["same", 0])
def test_convolutions_equal_sums_over_taps(transposes, padding):
    model, x = ready(Convolutions(transposes=transposes, padding=padding)), series(n_steps=11)
    scope = sq.Scope(model)
    found = scope.activations(x if transposes else x.transpose(0, 2, 1))
    clock = "time" if padding == "same" else "step"
    first = np.array([ref.conv1d(model.conv1, one) for one in x])
    second = np.array([ref.conv1d(model.conv2, one) for one in ref.relu(first)])
    for name, expected in {"conv1": first, "relu": ref.relu(first), "conv2": second}.items():
        assert found[name].activations.dims == ("sample", clock, "unit")
        assert_close(found[name].activations, expected)
    assert_close(found["fc"].activations, ref.linear(model.fc, second.mean(axis=1)))
    assert scope.layers.input.layout == ("NTC" if transposes else "NCT")


def test_batch_norm_runs_on_its_running_statistics():
    model = ready(nn.Sequential(nn.Conv1d(3, 4, 3, padding="same"), nn.BatchNorm1d(4))).train()
    norm, x = model[1], series()
    norm.running_mean.copy_(torch.tensor([1.0, -2.0, 0.5, 0.0]))
    norm.running_var.copy_(torch.tensor([4.0, 0.25, 1.0, 9.0]))
    conv = np.array([ref.conv1d(model[0], one) for one in x])
    w = ref.weights_of(norm)
    scale = np.sqrt(norm.running_var.numpy() + norm.eps)
    expected = (conv - norm.running_mean.numpy()) / scale * w["weight"] + w["bias"]
    found = sq.Scope(model).activations(x.transpose(0, 2, 1), "1")
    assert found.dims == ("sample", "time", "unit")
    assert_close(found, expected)


# Attention


@pytest.mark.parametrize("batch_first", [True, False], ids=["NTC", "TNC"])
def test_multihead_attention_gives_what_it_attended_to(batch_first):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = nn.MultiheadAttention(6, 2, batch_first=batch_first)

        def forward(self, x):
            return self.attn(x, x, x)[0].mean(1 if batch_first else 0)

    model, x = ready(Net()), series(n_channels=6)
    nn.init.normal_(model.attn.in_proj_bias)
    found = sq.Scope(model).activations(x if batch_first else x.transpose(1, 0, 2), "attn")
    assert found.dims == ("sample", "time", "unit")
    assert_close(found, np.array([ref.attention(model.attn, one)[0] for one in x]))


def _encoder(*, batch_first=True, nested=True):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says when it will not use nested tensors
        layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.1, batch_first=batch_first)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)


class Encoder(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.encoder = _encoder(**options)
        for parameter in self.encoder.parameters():
            nn.init.normal_(parameter, std=0.5)
        self.head = nn.Linear(6, 2)

    def forward(self, x, mask=None):
        return self.head(self.encoder(x, src_key_padding_mask=mask))


@pytest.mark.parametrize("batch_first", [True, False], ids=["NTC", "TNC"])
def test_parts_of_a_transformer_encoder_equal_their_equations(batch_first):
    model, x = ready(Encoder(batch_first=batch_first)), series(n_channels=6)
    scope = sq.Scope(model)
    given = x if batch_first else x.transpose(1, 0, 2)
    _check_encoder(model, scope, given, list(x))


def _check_encoder(model, scope, given, sequences):
    captured = scope.activations(given)
    whole = scope.activations(given, "encoder.layers.0")
    predicted = scope.predict(given)
    for row, one in enumerate(sequences):
        parts = ref.encoder_layer(model.encoder.layers[0], one)
        for name in ("self_attn", "norm1", "linear1", "linear2"):
            found = captured[f"encoder.layers.0.{name}"].activations
            assert found.dims == ("sample", "time", "unit")
            assert_close(found[row, : len(one)], parts[name])
        assert_close(whole[row, : len(one)], parts[""])
        second = ref.encoder_layer(model.encoder.layers[1], parts[""])[""]
        assert_close(captured["encoder.layers.1.norm2"].activations[row, : len(one)], second)
        assert_close(predicted[row, : len(one)], ref.linear(model.head, second))


@pytest.mark.parametrize("nested", [True, False], ids=["nested tensors", "dense tensors"])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_transformer_encoder_with_a_padding_mask(nested):
    """The call pads by two steps and masks them: they must change nothing."""
    model = ready(Encoder(nested=nested))

    def call(module, batch, lengths):
        padded = nn.functional.pad(batch, (0, 0, 0, 2), value=50.0)
        mask = torch.arange(padded.shape[1]) >= lengths[:, None]
        return module(padded, mask)[:, : batch.shape[1]]

    sequences = [series(1, length, 6, seed=length)[0] for length in (7, 4, 9, 4)]
    scope = sq.Scope(model, call=call)
    predicted, found = scope.predict(sequences), scope.activations(sequences, "encoder.layers.0.linear1")
    for row, one in enumerate(sequences):
        first = ref.encoder_layer(model.encoder.layers[0], one)
        assert_close(found[row, : len(one)], first["linear1"])
        second = ref.encoder_layer(model.encoder.layers[1], first[""])[""]
        assert_close(predicted[row, : len(one)], ref.linear(model.head, second))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_transformer_encoder_with_a_mask_that_hides_nothing(ragged):
    model = ready(Encoder())
    sequences = [series(1, length, 6, seed=length)[0] for length in (7, 4, 9, 4)]

    def call(module, batch, lengths):
        return module(batch, torch.arange(batch.shape[1]) >= lengths[:, None])

    _check_encoder(model, sq.Scope(model, call=call), sequences, sequences)


class Nested(nn.Module):
    """Gives nested tensors inside, and dense ones at the end."""

    def __init__(self, layout):
        super().__init__()
        self.layout = layout
        self.fc, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        nested = torch.nested.nested_tensor(list(x), layout=self.layout)
        return self.head(torch.nested.to_padded_tensor(self.fc(nested), 0.0))


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_values_that_arrive_as_nested_tensors_are_made_dense(layout, ragged):
    model = ready(Nested(layout))
    found = sq.Scope(model, layout="NTC").activations(ragged, "fc")
    assert found.dims == ("sample", "time", "unit")
    for row, one in enumerate(ragged):
        assert_close(found[row, : len(one)], ref.linear(model.fc, one))


# Modules within modules


class Several(nn.Module):
    """Gives what `give` makes of two values."""

    def __init__(self, give):
        super().__init__()
        self.give, self.a, self.b = give, nn.Linear(3, 4), nn.Linear(3, 2)

    def forward(self, x):
        return self.give(self.a(x), self.b(x))


class Branching(nn.Module):
    def __init__(self, give):
        super().__init__()
        self.rnn, self.branch, self.head = nn.LSTM(3, 3, batch_first=True), Several(give), nn.Linear(4, 2)

    def forward(self, x):
        given = self.branch(self.rnn(x)[0])
        return self.head(next(iter(given.values())) if isinstance(given, dict) else given[0])


GIVEN = {
    "list": (lambda a, b: [a, b], "[0]", "[1]"),
    "tuple": (lambda a, b: (a, b), "[0]", "[1]"),
    "dict": (lambda a, b: {"logits": a, "aux": b}, "[logits]", "[aux]"),
    "nested": (lambda a, b: [a, {"deep": (b * 2, b)}], "[0]", "[1][deep][1]"),
}


@pytest.mark.parametrize(("give", "first", "second"), GIVEN.values(), ids=GIVEN.keys())
def test_modules_that_give_several_tensors_have_a_name_for_each(give, first, second, ragged):
    model = ready(Branching(give))
    scope = sq.Scope(model)
    tree = scope.activations(ragged, ["branch" + first, "branch" + second])
    for row, one in enumerate(ragged):
        hidden = ref.stack(model.rnn, one)[-1]
        assert_close(scope.activations(ragged, "branch" + first)[row, : len(one)], ref.linear(model.branch.a, hidden))
        assert_close(tree["branch" + second].activations[row, : len(one)], ref.linear(model.branch.b, hidden))


@pytest.mark.parametrize(("give", "first", "second"), GIVEN.values(), ids=GIVEN.keys())
def test_output_of_a_model_that_gives_several_tensors_is_the_first(give, first, second):
    model, x = ready(nn.Sequential(nn.Conv1d(4, 3, 3, padding="same"), nn.Flatten(2))), series(n_channels=4)
    model.append(Transposed(Several(give)).double())
    conv = np.array([ref.conv1d(model[0], one) for one in x])
    assert_close(sq.Scope(model).predict(x.transpose(0, 2, 1)), ref.linear(model[2].inner.a, conv))


class Transposed(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.transpose(1, 2))


@pytest.mark.parametrize("give", [lambda a, b: (a,), lambda a, b: [a, None], lambda a, b: {"only": a}])
def test_module_that_gives_one_tensor_in_a_container_needs_no_place(give):
    model, x = ready(Branching(give)), series()
    assert_close(sq.Scope(model).activations(x, "branch"), ref.linear(model.branch.a, ref.hidden(model.rnn, x)))


def test_modules_inside_modules_have_dotted_names():
    model = ready(nn.Sequential())
    model.encoder = nn.ModuleDict({"rnn": Last(nn.GRU(3, 4, batch_first=True), 4)}).double()
    model.forward = lambda x: model.head(model.encoder["rnn"](x))
    model.head = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 3)]).double()
    model.head.forward = lambda x: model.head[1](model.head[0](x))
    x = series()
    scope = sq.Scope(model)
    assert [layer.name for layer in scope.layers] == ["encoder.rnn.rnn", "encoder.rnn.fc", "head.0", "head.1"]
    inner = model.encoder["rnn"]
    hidden = ref.hidden(inner.rnn, x)
    assert_close(scope.activations(x, "encoder.rnn.rnn"), hidden)
    scores = ref.linear(inner.fc, hidden[:, -1])
    assert_close(scope.activations(x, "encoder.rnn"), scores)
    assert_close(scope.activations(x, "head.1"), ref.linear(model.head[1], ref.linear(model.head[0], scores)))


class TwoCalls(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.RNN(3, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        once = self.rnn(x)[0]
        return self.fc(self.rnn(self.fc(once))[0])


def test_calls_of_a_shared_module_are_kept_apart(ragged):
    model = ready(TwoCalls())
    scope = sq.Scope(model)
    rnn, fc = scope.activations(ragged, "rnn"), scope.activations(ragged, "fc")
    assert rnn.dims == fc.dims == ("sample", "call", "time", "unit")
    for row, one in enumerate(ragged):
        first = ref.stack(model.rnn, one)[-1]
        dense = ref.linear(model.fc, first)
        second = ref.stack(model.rnn, dense)[-1]
        for found, calls in ((rnn, [first, second]), (fc, [dense, ref.linear(model.fc, second)])):
            assert_close(found[row, :, : len(one)], np.array(calls))
            assert found[row, :, len(one) :].isnull().all()
    assert [layer.calls for layer in scope.layers] == [2, 2]


class TwoNames(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(3, 5, batch_first=True)
        self.encoder = nn.ModuleList([nn.Linear(5, 5), nn.ReLU()])
        self.again = self.encoder[0]

    def forward(self, x):
        return self.encoder[1](self.again(self.rnn(x)[0]))


def test_module_under_two_names_is_one_layer_and_answers_to_both():
    model, x = ready(TwoNames()), series()
    scope = sq.Scope(model)
    assert [layer.name for layer in scope.layers] == ["rnn", "encoder.0", "encoder.1"]
    assert scope.layers.n_params == sum(parameter.numel() for parameter in model.parameters())
    expected = ref.linear(model.again, ref.hidden(model.rnn, x))
    assert_close(scope.activations(x, "again"), expected)
    assert_close(scope.activations(x, "encoder.0"), expected)
    both = scope.activations(x, ["again", "encoder.0"])
    assert_close(both["again"].activations, expected)
    assert_close(both["encoder.0"].activations, expected)


@pytest.mark.parametrize("calls", [1, 3])
def test_relu_in_place_does_not_change_what_is_seen_before_it(calls, ragged):
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.relu, self.rnn = nn.Linear(3, 4), nn.ReLU(inplace=True), nn.LSTM(4, 5, batch_first=True)

        def forward(self, x):
            return self.rnn(self.relu(self.fc(x)))[0][:, -1]

    model = ready(InPlace())
    scope = sq.Scope(model)
    for _ in range(calls):
        found = scope.activations(ragged)
    for row, one in enumerate(ragged):
        dense = ref.linear(model.fc, one)
        assert (dense < 0).any()
        assert_close(found["fc"].activations[row, : len(one)], dense)
        assert_close(found["relu"].activations[row, : len(one)], ref.relu(dense))


@pytest.mark.parametrize("around", [torch.inference_mode, torch.enable_grad, torch.no_grad])
def test_verbs_may_be_called_in_any_grad_mode(around):
    model = ready(nn.Sequential(nn.GRU(3, 5, batch_first=True), First(), nn.Linear(5, 4), nn.ReLU(inplace=True)))
    x = series()
    scope = sq.Scope(model)
    expected = ref.linear(model[2], ref.hidden(model[0], x))
    with around():
        found, predicted = scope.activations(x), scope.predict(x)
    assert_close(found["2"].activations, expected)
    assert_close(found["3"].activations, ref.relu(expected))
    assert_close(predicted, ref.relu(expected))
    assert_close(scope.activations(x, "2"), expected)


def test_model_that_was_made_in_inference_mode():
    with torch.inference_mode():
        model = ready(nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU(inplace=True)))
    x = series()
    conv = np.array([ref.conv1d(model[0], one) for one in x]) / np.sqrt(1 + model[1].eps)
    found = sq.Scope(model).activations(x.transpose(0, 2, 1))
    assert_close(found["1"].activations, conv)
    assert_close(found["2"].activations, ref.relu(conv))


@pytest.mark.parametrize("inside", [torch.inference_mode, torch.enable_grad, torch.no_grad])
def test_grad_modes_inside_a_model_change_nothing_that_is_seen(inside):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.relu = nn.LSTM(3, 5, batch_first=True), nn.ReLU(inplace=True)

        def forward(self, x):
            with inside():
                return self.relu(self.rnn(x)[0])[:, -1]

    model, x = ready(Own()), series()
    hidden = ref.hidden(model.rnn, x)
    assert_close(sq.Scope(model).activations(x, "rnn"), hidden)
    assert_close(sq.Scope(model).predict(x), ref.relu(hidden[:, -1]))


class Cache(nn.Module):
    """Keeps what it is given in a tensor of its own, and gives a view of it, as caches of keys and values do."""

    def __init__(self, *, as_buffer):
        super().__init__()
        kept = torch.zeros(64, 16, 3).double()
        if as_buffer:
            self.register_buffer("kept", kept)
        else:
            self.kept = kept

    def forward(self, x):
        self.kept[: len(x), : x.shape[1]] = x
        return self.kept[: len(x), : x.shape[1]]


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("as_buffer", [True, False], ids=["buffer", "attribute"])
@pytest.mark.usefixtures("_threads_take_turns_often")
def test_cache_that_is_written_and_given_is_seen_as_it_was_at_that_moment(as_buffer, batch_size):
    """Also while the next batch writes over it."""
    model, x = ready(nn.Sequential(nn.GRU(3, 3, batch_first=True), First(), Cache(as_buffer=as_buffer))), series(60)
    expected = ref.hidden(model[0], x)
    scope = sq.Scope(model)
    assert_close(scope.activations(x, "2", batch_size=batch_size), expected)
    assert_close(scope.predict(x, batch_size=batch_size), expected)
    assert not model[2].kept.any()


class First(nn.Module):
    def forward(self, x):
        return x[0]


def test_bare_recurrent_module_is_a_model():
    model, x = ready(nn.LSTM(3, 5, num_layers=2, batch_first=True)), series()
    scope = sq.Scope(model)
    first, last = (np.array(layer) for layer in zip(*ref.stacks(model, x), strict=True))
    assert [layer.name for layer in scope.layers] == ["lstm.0", "lstm.1"]
    assert_close(scope.activations(x, "lstm.0"), first)
    assert_close(scope.predict(x), last)


# Tokens


class Tokens(nn.Module):
    def __init__(self, *, batch_first):
        super().__init__()
        self.batch_first = batch_first
        self.embed, self.rnn = nn.Embedding(11, 4), nn.LSTM(4, 5, batch_first=batch_first)
        self.head = nn.Linear(5, 2)

    def forward(self, ids):
        return self.head(self.rnn(self.embed(ids))[0][(slice(None), -1) if self.batch_first else -1])


@pytest.mark.parametrize("batch_first", [True, False], ids=["NT", "TN"])
def test_tokens_go_through_embeddings(batch_first):
    model, ids = ready(Tokens(batch_first=batch_first)), np.random.default_rng(0).integers(0, 11, (4, 9))
    scope = sq.Scope(model)
    given = ids if batch_first else ids.T
    table = ref.weights_of(model.embed)["weight"]
    found = scope.activations(given)
    assert found["embed"].activations.dims == found["rnn"].activations.dims == ("sample", "time", "unit")
    assert_close(found["embed"].activations, table[ids])
    hidden = ref.hidden(model.rnn, table[ids])
    assert_close(found["rnn"].activations, hidden)
    assert_close(scope.predict(given), ref.linear(model.head, hidden[:, -1]))
    assert scope.layers.input.layout == ("NT" if batch_first else "TN")


@pytest.mark.parametrize("batch_first", [True, False], ids=["NT", "TN"])
def test_ragged_tokens(batch_first):
    model, random = ready(Tokens(batch_first=batch_first)), np.random.default_rng(0)
    lists = [random.integers(0, 11, length) for length in (6, 2, 8, 2)]
    found = sq.Scope(model).activations(lists, "rnn")
    for row, ids in enumerate(lists):
        expected = ref.stack(model.rnn, ref.weights_of(model.embed)["weight"][ids])[-1]
        assert_close(found[row, : len(ids)], expected)
        assert found[row, len(ids) :].isnull().all()


# Compiled, scripted, lazy


@pytest.mark.parametrize("part", ["whole", "submodule", "in place"])
def test_compiled_modules_are_seen_through_the_original(part):
    model, x = ready(Last(nn.LSTM(3, 5, batch_first=True), 5)), series()
    plain = copy.deepcopy(model)
    if part == "whole":
        model = torch.compile(model, backend="eager")
    elif part == "submodule":
        model.rnn = torch.compile(model.rnn, backend="eager")
        model.forward = lambda x: model.fc(model.rnn(x)[0][:, -1])
    else:
        model.compile(backend="eager")
    scope = sq.Scope(model)
    hidden = ref.hidden(plain.rnn, x)
    assert [layer.name for layer in scope.layers] == ["rnn", "fc"]
    assert scope.model is model
    assert_close(scope.activations(x, "rnn"), hidden)
    assert_close(scope.predict(x), ref.linear(plain.fc, hidden[:, -1]))


def test_compiled_module_that_ran_before_is_seen():
    """Compiled code that is in the cache has no hooks."""
    model, x = torch.compile(ready(Last(nn.LSTM(3, 5, batch_first=True), 5)), backend="eager"), series()
    model(torch.tensor(x))
    assert_close(sq.Scope(model).activations(x, "rnn"), ref.hidden(model.rnn, x))
    assert torch.compiler.is_compiling() is False
    assert_close(model(torch.tensor(x)).detach(), sq.Scope(model).predict(x))


def test_scripted_module_inside_is_seen_as_one_layer():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        inside = torch.jit.script(nn.Sequential(nn.Linear(5, 4), nn.ReLU()).double())
    model, x = ready(nn.Sequential(nn.GRU(3, 5, batch_first=True), First(), inside)), series()
    scope, hidden = sq.Scope(model), ref.hidden(model[0], x)
    assert [(layer.name, layer.description, layer.n_params) for layer in scope.layers][1:] == [
        ("1", "First", 0),
        ("2", "TorchScript Sequential", 24),
    ]
    assert_close(scope.activations(x, "0"), hidden)
    assert_close(scope.activations(x, "2"), ref.relu(ref.linear(inside[0], hidden)))
    with pytest.raises(sq.errors.LayerError, match=r"No layer is named '2\.0'"):
        scope.activations(x, "2.0")
    gradient = scope.attribute(x, "saliency", target=lambda output: output.sum((1, 2)))
    assert_close(
        gradient,
        sq.Scope(nn.Sequential(model[0], model[1], Eager(inside))).attribute(x, "saliency", target=lambda output: output.sum((1, 2))),
    )


class Eager(nn.Module):
    """What a scripted dense layer and ReLU compute."""

    def __init__(self, scripted):
        super().__init__()
        self.weight, self.bias = nn.Parameter(scripted[0].weight.detach()), nn.Parameter(scripted[0].bias.detach())

    def forward(self, x):
        return torch.relu(x @ self.weight.T + self.bias)


@pytest.mark.parametrize("lazy", [nn.LazyLinear, lambda width: nn.LazyConv1d(width, 3), lambda width: nn.LazyBatchNorm1d()])
def test_lazy_module_is_refused_until_it_has_run(lazy):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.Conv1d(3, 4, 3), lazy(2))
    with pytest.raises(sq.errors.ModelError, match="run the model on one batch first"):
        sq.Scope(model)
    model(torch.zeros(2, 3, 9))
    assert len(sq.Scope(model).layers) == 2


# What layers are counted


def test_parameters_are_counted_once_each():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.rnn = nn.Embedding(11, 5), nn.LSTM(5, 5, num_layers=2, batch_first=True)
            self.head = nn.Linear(5, 11)
            self.head.weight = self.embed.weight

        def forward(self, ids):
            return self.head(self.rnn(self.embed(ids))[0])

    layers = sq.Scope(ready(Tied())).layers
    assert {layer.name: layer.n_params for layer in layers} == {"embed": 55, "rnn.0": 240, "rnn.1": 240, "head": 11}
    assert layers.n_params == 55 + 2 * (4 * 5 * 10 + 8 * 5) + 11


def test_running_statistics_are_parameters_that_are_not_trainable():
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.Conv1d(4, 2, 1))
    model[2].weight.requires_grad_(False)
    counted = {layer.name: (layer.n_params, layer.trainable) for layer in sq.Scope(ready(model)).layers}
    assert counted == {"0": (40, 40), "1": (16, 8), "2": (10, 2)}


@pytest.mark.parametrize("options", [{}, {"proj_size": 2}, {"bidirectional": True}, {"bias": False}])
@pytest.mark.parametrize("layers", [1, 3])
def test_parameters_of_a_stack_are_shared_out_among_its_layers(options, layers):
    model = nn.LSTM(3, 5, num_layers=layers, batch_first=True, **options)
    rows = sq.Scope(model).layers
    own = [sum(p.numel() for name, p in model.named_parameters() if f"_l{place}" in name) for place in range(layers)]
    assert [layer.n_params for layer in rows] == own


@pytest.mark.parametrize("normed", ["parametrized", "hooked"])
def test_weight_norm_of_a_stack_counts_what_is_stored_and_shows_what_is_computed(normed):
    model, x = ready(Last(nn.LSTM(3, 5, num_layers=2, batch_first=True), 5)), series()
    first, last = (np.array(layer) for layer in zip(*ref.stacks(model.rnn, x), strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older form is deprecated
        norm = nn.utils.parametrizations.weight_norm if normed == "parametrized" else nn.utils.weight_norm
        norm(model.rnn, "weight_hh_l0")
    scope = sq.Scope(model)
    assert_close(scope.activations(x, "rnn.0"), first)
    assert_close(scope.activations(x, "rnn.1"), last)
    assert scope.layers.n_params == sum(parameter.numel() for parameter in model.parameters())


def test_parameters_of_the_model_itself_are_counted():
    model = ready(OwnState(nn.LSTM, as_keyword=False))
    assert sq.Scope(model).layers.n_params == sum(parameter.numel() for parameter in model.parameters())


def test_model_whose_child_has_the_name_of_its_class_counts_every_parameter():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(7))
            self.net = nn.LSTM(3, 7, batch_first=True)

        def forward(self, x):
            return self.net(x)[0] * self.scale

    model, x = ready(Net()), series()
    assert sq.Scope(model).layers.n_params == sum(parameter.numel() for parameter in model.parameters())
    assert_close(sq.Scope(model).activations(x, "net"), ref.hidden(model.net, x))


def test_model_without_parameters_is_run():
    class Differences(nn.Module):
        def forward(self, x):
            return torch.diff(x, dim=1).abs().sum(1)

    x = series()
    expected = np.abs(np.diff(x.astype(np.float32), axis=1)).sum(axis=1)
    assert_close(sq.Scope(Differences(), layout="NTC").predict(x), expected, "float32")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_model_on_a_gpu_is_fed_there():
    model, x = ready(Last(nn.LSTM(3, 5, num_layers=2, bidirectional=True, batch_first=True), 10)), series()
    first = [layers[0] for layers in ref.stacks(model.rnn, x)]
    assert_close(sq.Scope(model.cuda()).activations(x, "rnn.0"), first)
