"""What each layer's step sees of the input, against raising one input step after the other in a net of positive weights."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import seqscope as sq
from nets import Net, series
from seqscope.axes import Reading
from seqscope.receptive import Fields

CLASSES = 300


def asker():
    """The net whose lengths and windows its owner worked out by hand: 300 -> 292 -> 58 -> 50 -> 10."""
    torch.manual_seed(0)
    conv = [nn.Conv1d(9, 128, 9), nn.BatchNorm1d(128), nn.ReLU(), nn.MaxPool1d(5)]
    conv += [nn.Conv1d(128, 128, 9), nn.BatchNorm1d(128), nn.ReLU(), nn.MaxPool1d(5)]
    return nn.Sequential(*conv, nn.Flatten(), nn.Linear(1280, CLASSES), nn.Softmax(-1)).double().eval()


def fields_of(model, X, **options):
    """The field of every layer that has steps, found at the longest length."""
    scope = sq.Scope(model, **options)
    sequences, feed = scope._specimen.take_in(X)
    readings = scope._specimen.readings(feed, sequences, [layer.name for layer in scope._engine.layers])
    known = {name: reading for name, reading in readings.items() if name and isinstance(reading, Reading)}
    return Fields(feed, sequences.n_channels).at(int(sequences.lengths.max()), known), known


def brute(model, n_steps, n_channels, names, readings, *, scale=1e8):
    """Start and end of each layer's steps (None where a step answers to nothing), by the model's own layers with positive weights."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(0.5, 1.5)
    base = torch.rand(1, n_channels, n_steps, dtype=torch.float64) + 1
    raised = base + scale * torch.eye(n_steps, dtype=torch.float64)[:, None]
    seen = {}
    modules = dict(model.named_modules())
    handles = [modules[name].register_forward_hook(lambda m, a, v, name=name: seen.__setitem__(name, v)) for name in names]
    with torch.no_grad():
        model(torch.cat([raised, base]))
    for handle in handles:
        handle.remove()
    found = {}
    for name in names:
        value = readings[name].apply([seen[name].numpy()], n_steps + 1)
        value = np.moveaxis(value, readings[name].order.index("time"), 1).reshape(n_steps + 1, value.shape[1], -1)
        moved = (np.abs(value[:-1] - value[-1]) > 1e-9 * np.abs(value[-1]).max()).any(-1)
        found[name] = None if not moved.any(0).all() else (moved.argmax(0), n_steps - 1 - moved[::-1].argmax(0))
    return found


def assert_field(field, start, end):
    np.testing.assert_array_equal(field.start, start)
    np.testing.assert_array_equal(field.end, end)


# The net of the person who asked


def test_windows_that_were_worked_out_by_hand():
    X = np.random.default_rng(0).standard_normal((4, 9, 300))
    found, _ = fields_of(asker(), X, layout="NCT")
    assert {name: len(field.start) for name, field in found.items() if field} == dict(
        zip("01234567", [292, 292, 292, 58, 50, 50, 50, 10], strict=True)
    )
    conv, pool = found["4"], found["7"]
    assert (conv.start[0], conv.end[0], conv.start[-1], conv.end[-1]) == (0, 52, 245, 297)
    assert (pool.start[-1], pool.end[-1]) == (225, 297)
    assert (conv.size, conv.stride, pool.size, pool.stride) == (53, 5.0, 73, 25.0)
    np.testing.assert_array_equal(conv.centre, 26 + 5 * np.arange(50))
    assert found["9"] is None


def test_activations_say_where_their_steps_lie():
    scope = sq.Scope(asker(), layout="NCT")
    made = scope.activations(np.random.default_rng(0).standard_normal((2, 9, 300)), "4")
    assert made.dims == ("sample", "step", "unit")
    assert made.time_start.dims == made.time_end.dims == made.time.dims == ("step",)
    assert (made.time_start.values[-1], made.time_end.values[-1]) == (245, 297)
    assert made.time.attrs == {"long_name": "Time Step"}
    assert made.time_start.attrs == {"long_name": "First Time Step"}
    layers = {layer.name: layer for layer in scope.layers}
    assert (layers["4"].field, layers["4"].stride, layers["4"].sees) == (53, 5.0, "53 steps, every 5")
    assert layers["9"].sees == ""
    assert scope.layers.rows()[5][5] == "53 steps, every 5"
    assert scope.layers.to_dataframe().set_index("name").loc["4", "field"] == 53


# Any stack


class Residual(nn.Module):
    def __init__(self, channels, taps, dilation):
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, taps, dilation=dilation, padding="same")

    def forward(self, x):
        return torch.relu(self.conv(x)) + x


class Branches(nn.Module):
    def __init__(self, channels, taps):
        super().__init__()
        self.wide = nn.Conv1d(channels, channels // 2, taps, dilation=2, padding="same")
        self.narrow = nn.Conv1d(channels, channels // 2, 1)

    def forward(self, x):
        return torch.cat([self.wide(x), self.narrow(x)], 1)


class Causal(nn.Conv1d):
    """A convolution with a forward of its own, as many write it."""

    def forward(self, x):
        return super().forward(nn.functional.pad(x, ((self.kernel_size[0] - 1) * self.dilation[0], 0)))


@st.composite
def blocks(draw):
    whole = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    taps, stride = whole(1, 5), whole(1, 3)
    match draw(st.sampled_from(["conv", "conv", "same", "causal", "pool", "up", "transposed", "residual", "branches", "norm"])):
        case "conv":
            mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
            options = {"stride": stride, "dilation": whole(1, 3), "padding": whole(0, taps), "groups": draw(st.sampled_from([1, 2, 4]))}
            return nn.Conv1d(4, 4, taps, padding_mode=mode, **options)
        case "same":
            return nn.Conv1d(4, 4, taps, dilation=whole(1, 3), padding="same")
        case "causal":
            return Causal(4, 4, taps, dilation=whole(1, 3))
        case "pool":
            kind = draw(st.sampled_from([nn.MaxPool1d, nn.AvgPool1d]))
            return kind(taps, stride, padding=whole(0, taps // 2), ceil_mode=draw(st.booleans()))
        case "up":
            return nn.Upsample(scale_factor=2, mode=draw(st.sampled_from(["nearest", "linear"])))
        case "transposed":
            more = whole(0, stride - 1)
            return nn.ConvTranspose1d(4, 4, taps, stride, padding=whole(0, (taps - 1) // 2), output_padding=more, dilation=whole(1, 2))
        case "residual":
            return Residual(4, taps, whole(1, 4))
        case "branches":
            return Branches(4, taps)
    return nn.Sequential(nn.BatchNorm1d(4), nn.ReLU())


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@settings(max_examples=60)
@given(st.lists(blocks(), min_size=1, max_size=5), st.integers(20, 150))
def test_any_stack_sees_what_moves_it(parts, n_steps):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(3, 4, 1), *parts).double().eval()
    try:
        with torch.no_grad():
            steps = model(torch.zeros(1, 3, n_steps, dtype=torch.float64)).shape[-1]
    except RuntimeError:
        assume(False)
    assume(0 < steps < 1000)
    found, readings = fields_of(model, np.random.default_rng(0).standard_normal((3, 3, n_steps)), layout="NCT")
    names = [name for name, reading in readings.items() if "time" in reading.dims]
    for name, expected in brute(model, n_steps, 3, names, readings).items():
        assert (found[name] is None) == (expected is None), name
        if expected is not None:
            assert_field(found[name], *expected)


def gated(net, x):
    """WaveNet: gates and sums over dilated causal convolutions."""
    x, total = net.first(x), 0
    for power, (signal, gate, mix) in enumerate(zip(net.signals, net.gates, net.mixes, strict=True)):
        before = nn.functional.pad(x, (2**power, 0))
        y = mix(torch.tanh(signal(before)) * torch.sigmoid(gate(before)))
        x, total = x + y, total + y
    return net.last(torch.relu(total))


def test_deep_gated_sums_lose_nothing_on_the_way():
    dilated = {name: nn.ModuleList(nn.Conv1d(6, 6, 2, dilation=2**i) for i in range(8)) for name in ("signals", "gates")}
    ends = {"first": nn.Conv1d(3, 6, 1), "last": nn.Conv1d(6, 2, 1)}
    model = Net(gated, **dilated, **ends, mixes=nn.ModuleList(nn.Conv1d(6, 6, 1) for _ in range(8)))
    found, _ = fields_of(model, np.random.default_rng(0).standard_normal((2, 3, 400)), layout="NCT")
    assert_field(found["last"], np.maximum(np.arange(400) - 255, 0), np.arange(400))


def test_sixty_residual_blocks_and_forty_dense_ones():
    def residual(net, x):
        for conv in net.convs:
            x = x + torch.relu(conv(x))
        return x.mean(-1)

    def dense(net, x):
        for conv in net.convs:
            x = torch.cat([x, torch.relu(conv(x))], 1)
        return x.mean(-1)

    steps = np.arange(200)
    for run, convs in (
        (residual, [nn.Conv1d(4, 4, 3, padding=1) for _ in range(60)]),
        (dense, [nn.Conv1d(4 + 2 * place, 2, 3, padding=1) for place in range(40)]),
    ):
        model, X = Net(run, convs=nn.ModuleList(convs)), np.random.default_rng(0).standard_normal((2, 4, 200))
        last = fields_of(model, X, layout="NCT")[0][f"convs.{len(convs) - 1}"]
        assert_field(last, np.maximum(steps - len(convs), 0), np.minimum(steps + len(convs), 199))


@pytest.mark.parametrize("n_steps", [50, 2000])
def test_a_layer_scaled_by_a_mean_over_all_steps_sees_all(n_steps):
    def run(net, x):
        x = net.conv(x)
        return net.after(x * torch.sigmoid(net.squeeze(x.mean(-1)))[..., None]).mean(-1)

    layers = {"conv": nn.Conv1d(3, 4, 3), "squeeze": nn.Linear(4, 4), "after": nn.Conv1d(4, 4, 3)}
    found, _ = fields_of(Net(run, **layers), np.random.default_rng(0).standard_normal((2, 3, n_steps)), layout="NCT")
    assert found["conv"].size == 3
    assert_field(found["after"], np.zeros(n_steps - 4), np.full(n_steps - 4, n_steps - 1))
    assert (found["after"].seen, found["after"].stride) == ("all", None)


@pytest.mark.parametrize("n_steps", [40, 700])
def test_same_convolution_stands_at_the_step_itself(n_steps):
    convs = [nn.Conv1d(3 if i == 0 else 2, 2, 3, dilation=2**i, padding="same") for i in range(4)]
    found, _ = fields_of(nn.Sequential(*convs).eval(), np.random.default_rng(0).standard_normal((2, 3, n_steps)), layout="NCT")
    steps = np.arange(n_steps)
    for place, field in enumerate(found.values()):
        reach = 2 ** (place + 1) - 1
        assert_field(field, np.maximum(steps - reach, 0), np.minimum(steps + reach, n_steps - 1))
        np.testing.assert_array_equal(field.centre, steps)
        assert field.on_input_clock
        assert field.size == 2 * reach + 1


# Memory and attention


@pytest.mark.parametrize("n_steps", [12, 60, 900])
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("n_layers", [1, 2])
def test_recurrent_layers_see_all_before_and_all_after(cell, both_ways, n_layers, n_steps):
    rnn = cell(3, 4, num_layers=n_layers, bidirectional=both_ways, batch_first=True)
    found, _ = fields_of(Net(lambda net, x: net.rnn(x)[0], rnn=rnn), series(3, n_steps))
    assert len(found) == n_layers
    for field in found.values():
        assert_field(field, np.zeros(n_steps), np.full(n_steps, n_steps - 1) if both_ways else np.arange(n_steps))
        np.testing.assert_array_equal(field.centre, np.arange(n_steps))
        assert field.on_input_clock
        assert (field.size, field.seen) == (None, "all" if both_ways else "all before")


def test_gru_after_convolution_and_pooling_after_that():
    def run(net, x):
        h = net.gru(net.conv(x.transpose(1, 2)).transpose(1, 2))[0]
        return net.pool(h.transpose(1, 2)).mean(-1)

    model = Net(run, conv=nn.Conv1d(3, 4, 5, stride=2), gru=nn.GRU(4, 5, batch_first=True), pool=nn.MaxPool1d(3))
    found, _ = fields_of(model, series(3, 51))
    steps = np.arange(24)
    assert_field(found["conv"], 2 * steps, 2 * steps + 4)
    assert_field(found["gru"], 0 * steps, 2 * steps + 4)
    np.testing.assert_array_equal(found["gru"].centre, 2 * steps + 2)
    assert_field(found["pool"], np.zeros(8), 6 * np.arange(8) + 8)
    np.testing.assert_array_equal(found["pool"].centre, 6 * np.arange(8) + 4)
    assert found["pool"].stride == 6


def test_what_pooling_leaves_out_is_still_seen_through_the_backward_pass():
    def run(net, x):
        return net.pool(net.rnn(x)[0].transpose(1, 2)).mean(-1)

    found, _ = fields_of(Net(run, rnn=nn.LSTM(3, 4, bidirectional=True, batch_first=True), pool=nn.MaxPool1d(3)), series(3, 100))
    assert_field(found["pool"], np.zeros(33), np.full(33, 99))


@pytest.mark.parametrize("n_steps", [30, 90, 900])
def test_memory_begins_and_ends_where_the_input_was_cut(n_steps):
    model = Net(lambda net, x: net.rnn(x[:, 5:-7])[0], rnn=nn.GRU(3, 4, bidirectional=True, batch_first=True))
    field = fields_of(model, series(3, n_steps))[0]["rnn"]
    assert_field(field, np.full(n_steps - 12, 5), np.full(n_steps - 12, n_steps - 8))
    np.testing.assert_array_equal(field.centre, 5 + np.arange(n_steps - 12))


@pytest.mark.parametrize("n_steps", [60, 600])
def test_memory_of_chunks_ends_with_them(n_steps):
    def run(net, x):
        return net.fc(net.rnn(x.reshape(-1, 10, 3))[0].reshape(len(x), -1, 4))

    model = Net(run, rnn=nn.LSTM(3, 4, batch_first=True), fc=nn.Linear(4, 2))
    field = fields_of(model, series(3, n_steps), layout="NTC")[0]["fc"]
    if n_steps > 512:
        assert field is None  # too long to give every step a row of its own
    else:
        assert_field(field, np.arange(n_steps) // 10 * 10, np.arange(n_steps))


@pytest.mark.parametrize("n_steps", [60, 3000])
def test_a_running_sum_of_a_long_input_is_not_known(n_steps):
    model = Net(lambda net, x: net.fc(x.cumsum(1)), fc=nn.Linear(3, 2))
    field = fields_of(model, series(3, n_steps))[0]["fc"]
    if n_steps > 512:
        assert field is None
    else:
        assert_field(field, np.zeros(n_steps), np.arange(n_steps))
    assert sq.Scope(model).activations(series(3, n_steps), "fc").dims == ("sample", "time", "unit")


def test_cell_in_a_loop_sees_all_before():
    def run(net, x):
        state, steps = None, []
        for step in x.unbind(1):
            state = net.cell(step, state)
            steps.append(state)
        return net.fc(torch.stack(steps, 1))

    found, _ = fields_of(Net(run, cell=nn.GRUCell(3, 4), fc=nn.Linear(4, 2)), series(3, 40))
    for field in found.values():
        assert_field(field, np.zeros(40), np.arange(40))


def test_state_that_goes_in_has_seen_what_made_it():
    def run(net, x):
        _, state = net.encoder(x)
        return net.decoder(torch.zeros_like(x), state)[0]

    rnns = {name: nn.LSTM(3, 4, batch_first=True) for name in ("encoder", "decoder")}
    found, _ = fields_of(Net(run, **rnns), series(3, 20))
    assert_field(found["decoder"], np.zeros(20), np.full(20, 19))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_attention_sees_all_unless_it_is_masked(causal, batch_first):
    layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=batch_first, dropout=0.0)

    def run(net, x):
        x = x if batch_first else x.transpose(0, 1)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1 if batch_first else 0]).double() if causal else None
        x = net.encoder(x, mask=mask, is_causal=causal)
        return x if batch_first else x.transpose(0, 1)

    model = Net(run, encoder=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))
    found, _ = fields_of(model, series(3, 70, 6), layout="NTC")
    assert len(found) > 10
    steps = np.arange(70)
    for field in found.values():
        assert field is not None
        assert_field(field, 0 * steps, steps if causal else 0 * steps + 69)
        assert field.on_input_clock


def test_attention_to_another_sequence_sees_that():
    def run(net, x):
        return net.attention(x[:, ::3], *[net.conv(x.transpose(1, 2)).transpose(1, 2)] * 2)[0]

    model = Net(run, attention=nn.MultiheadAttention(4, 2, batch_first=True), conv=nn.Conv1d(4, 4, 3))
    found, _ = fields_of(model, series(3, 30, 4), layout="NTC")
    assert_field(found["attention"], np.zeros(10), np.full(10, 29))


def test_encoder_and_decoder():
    def run(net, x):
        return net.both(x, x, tgt_mask=nn.Transformer.generate_square_subsequent_mask(x.shape[1]).double())

    model = Net(run, both=nn.Transformer(8, 2, 1, 1, 16, batch_first=True))
    found, _ = fields_of(model, series(3, 40, 8), layout="NTC")
    steps = np.arange(40)
    for name, field in found.items():
        before_encoder = name in {f"both.decoder.layers.0.{part}" for part in ("self_attn", "dropout1", "norm1")}
        assert_field(field, 0 * steps, steps if before_encoder else 0 * steps + 39)
        np.testing.assert_array_equal(field.centre, steps)


# Tokens


def test_embedded_tokens_with_positions():
    def run(net, x):
        h = net.token(x) + net.position(torch.arange(x.shape[1]))
        return net.conv(h.transpose(1, 2)).mean(-1)

    model = Net(run, token=nn.Embedding(20, 4, padding_idx=0), position=nn.Embedding(64, 4), conv=nn.Conv1d(4, 3, 5, stride=3))
    tokens = np.random.default_rng(0).integers(1, 20, (4, 32))
    made = sq.Scope(model).activations(tokens, "conv")
    np.testing.assert_array_equal(made.time_start, 3 * np.arange(10))
    np.testing.assert_array_equal(made.time_end, 3 * np.arange(10) + 4)


# Which clock


@pytest.mark.parametrize("n_steps", [3, 30, 300])
def test_a_layer_that_runs_backwards_is_on_another_clock(n_steps):
    model = Net(lambda net, x: net.fc(net.rnn(x.flip(1))[0]), rnn=nn.LSTM(3, 4, batch_first=True), fc=nn.Linear(4, 2))
    made = sq.Scope(model).activations(series(4, n_steps), "rnn")
    assert made.dims == ("sample", "step", "unit")
    np.testing.assert_array_equal(made.time, np.arange(n_steps)[::-1])
    assert sq.Scope(model, example=series(4, n_steps)).layers[0].sees == "all after, backwards"
    np.testing.assert_array_equal(made.time_end, np.full(n_steps, n_steps - 1))
    np.testing.assert_array_equal(made.time_start, np.arange(n_steps)[::-1])


def test_a_plain_layer_is_on_the_inputs_clock_without_its_field_being_found(monkeypatch):
    monkeypatch.setattr(Fields, "_find", lambda *args: pytest.fail("not needed"))
    model = Net(lambda net, x: net.rnn(x)[0], rnn=nn.LSTM(3, 4, batch_first=True))
    assert sq.Scope(model).activations(series(4, 500), "rnn").dims == ("sample", "time", "unit")


# Ragged data and clocks


def pooled():
    def run(net, x):
        return net.pool(net.conv(x.transpose(1, 2))).mean(-1)

    return Net(run, conv=nn.Conv1d(3, 4, 3), pool=nn.MaxPool1d(2, padding=1))


def test_ragged_samples_share_what_they_agree_in():
    X = [series(1, n)[0] for n in (20, 9, 14, 5)]
    scope = sq.Scope(pooled())
    conv, pool = scope.activations(X, "conv"), scope.activations(X, "pool")
    assert conv.time.dims == conv.time_start.dims == conv.time_end.dims == ("step",)
    assert pool.time.dims == pool.time_start.dims == ("step",)
    assert pool.time_end.dims == ("sample", "step")  # the last window of a shorter one is cut
    for row, x in enumerate(X):
        alone = scope.activations(x[None], "pool")[0]
        n_own = alone.sizes["step"]
        np.testing.assert_array_equal(pool.time_end[row, :n_own], alone.time_end)
        assert np.isnan(pool.time_end[row, n_own:]).all()


def test_seconds_dates_and_clocks_of_each_sample():
    model = Net(lambda net, x: net.conv(x.transpose(1, 2)), conv=nn.Conv1d(3, 4, 4, stride=2))
    scope = sq.Scope(model)
    seconds = scope.activations(sq.Sequences(series(2, 10), rate=4), "conv")
    np.testing.assert_allclose(seconds.time_start, [0, 0.5, 1.0, 1.5])
    np.testing.assert_allclose(seconds.time, [0.375, 0.875, 1.375, 1.875])
    assert seconds.time.attrs == {"long_name": "Time", "units": "s"}
    days = np.datetime64("2024-01-01", "D") + np.arange(10)
    dates = scope.activations(sq.Sequences(series(2, 10), time=days), "conv")
    assert dates.time_end.values[0] == np.datetime64("2024-01-04")
    assert dates.time.values[0] == np.datetime64("2024-01-02T12:00")
    own = scope.activations(sq.Sequences([*series(2, 10)], time=[np.arange(10.0), 100 + 2 * np.arange(10.0)]), "conv")
    assert own.time.dims == ("sample", "step")
    np.testing.assert_allclose(own.time[1], [103, 107, 111, 115])


def test_coordinates_survive_a_file(tmp_path):
    made = sq.Scope(pooled()).activations([series(1, n)[0] for n in (20, 9)], "pool")
    made.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_dataarray(tmp_path / "a.nc", engine="h5netcdf") as read:
        xr.testing.assert_identical(read.load(), made)


# What does not matter, and what can't be known


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_weights_do_not_matter(weight):
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Conv1d(4, 4, 3), nn.BatchNorm1d(4)).eval()
    expected, _ = fields_of(model, np.random.default_rng(0).standard_normal((3, 3, 20)), layout="NCT")
    for parameter in model.parameters():
        nn.init.constant_(parameter, weight)
    scope = sq.Scope(model, layout="NCT")
    made = scope.activations(np.random.default_rng(0).standard_normal((3, 3, 20)), "2")
    np.testing.assert_array_equal(made.time_end - made.time_start, np.full(16, 4))
    np.testing.assert_array_equal(made.time_start, expected["2"].start)


def test_a_layer_that_answers_to_nothing_has_no_coordinates():
    model = Net(
        lambda net, x: net.fc(net.odd(x.new_ones(len(x), 3, x.shape[1] - 2) + 0 * x.mean()).mean(-1)),
        odd=nn.Conv1d(3, 4, 1),
        fc=nn.Linear(4, 2),
    )
    scope = sq.Scope(model, layout="NTC")
    made = scope.activations(series(4, 12), "odd")
    assert "time_start" not in made.coords
    assert {layer.name: layer.sees for layer in scope.layers} == {"odd": "", "fc": ""}


def test_a_model_that_draws_noise_has_no_fields():
    model = Net(lambda net, x: net.conv((x + torch.randn_like(x)).transpose(1, 2)).mean(-1), conv=nn.Conv1d(3, 4, 3))
    found, _ = fields_of(model, series(3, 20), layout="NTC")
    assert found == {"conv": None}


def test_a_model_that_fails_with_stand_ins_is_run_as_it_is_and_left_as_it_was():
    def run(net, x):
        if "_conv_forward" in vars(net.conv):
            raise RuntimeError("not with me")
        return net.conv(x.transpose(1, 2)).mean(-1)

    model = Net(run, conv=nn.Conv1d(3, 4, 3))
    before = dict(vars(model.conv))
    found, _ = fields_of(model, series(3, 20))
    assert_field(found["conv"], np.arange(18), np.arange(18) + 2)
    assert vars(model.conv).keys() == before.keys()
    assert not model.conv._forward_hooks


def test_five_thousand_steps():
    convs = [nn.Conv1d(3 if i == 0 else 4, 4, 3, dilation=2**i, padding=2**i) for i in range(6)]
    model = nn.Sequential(*convs, nn.MaxPool1d(7)).eval()
    found, _ = fields_of(model, np.random.default_rng(0).standard_normal((2, 3, 5000)), layout="NCT")
    steps = np.arange(714)
    assert_field(found["6"], np.maximum(7 * steps - 63, 0), np.minimum(7 * steps + 6 + 63, 4999))
    np.testing.assert_allclose(found["6"].centre, 7 * steps + 3)
