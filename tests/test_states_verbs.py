"""`memory` and `memory_share`, against the sums that define them, written out step by step in float64."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import reference as ref
import reference_states as states
import seqscope as sq
from nets import Net
from seqscope.errors import DataError, LayerError, UnsupportedError
from tolerances import assert_close

LENGTHS = (7, 4, 9, 4, 1)


def written_out(keep, write, start, end):
    """c_T = f_T ... f_1 c_0 + sum over t of (f_T ... f_{t+1}) w_t, T = `end`, as two loops: the terms (time, unit), and the first one."""
    terms = np.zeros_like(keep)
    for t in range(end + 1):
        terms[t] = write[t]
        for later in range(t + 1, end + 1):
            terms[t] = terms[t] * keep[later]
    first = start
    for t in range(end + 1):
        first = first * keep[t]
    return terms, first


def parts_of(found):
    """What a cell keeps and what it writes, step by step."""
    return (found["f"], found["i"] * found["g"]) if "f" in found else (found["z"], (1 - found["z"]) * found["n"])


def check(memory, row, found, start, end=None):
    """One sequence's memory is the sum that defines it, and sums to the state."""
    keep, write = parts_of(found)
    end = len(keep) - 1 if end is None else end
    terms, first = written_out(keep, write, start, end)
    assert_close(memory.written.values[row, : len(keep)], terms)
    assert_close(memory.initial.values[row], first)
    assert np.isnan(memory.written.values[row, len(keep) :]).all()
    assert_close(memory.written[row].sum("time") + memory.initial[row], found["c" if "c" in found else "h"][end])


@pytest.fixture
def open_reader(make_reader):
    """A reader whose gates stand further open than fresh weights leave them."""

    def make(*args, **options):
        model = make_reader(*args, **options)
        with torch.no_grad():
            for name, weight in model.rnn.named_parameters():
                weight.mul_(3.0 if "weight" in name else 1.0)
        return model

    return make


# The sum


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_what_was_written_sums_to_the_last_state(cell, open_reader, ragged):
    model = open_reader(cell)
    memory = sq.Scope(model).memory(ragged, "rnn")
    assert memory.written.dims == ("sample", "time", "unit")
    assert memory.initial.dims == ("sample", "unit")
    for row, x in enumerate(ragged):
        check(memory, row, states.torch_stack(model.rnn, x)[0], np.zeros(5))
    assert (memory.initial == 0).all()


@pytest.mark.parametrize("time", [0, 2, 3, -1, -4])
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_any_step_can_be_taken_apart(cell, time, open_reader, ragged):
    model, X = open_reader(cell), ragged[:4]
    memory = sq.Scope(model).memory(X, time=time)
    for row, x in enumerate(X):
        check(memory, row, states.torch_stack(model.rnn, x)[0], np.zeros(5), end=time % len(x))


def test_what_comes_after_the_time_wrote_nothing(reader, ragged):
    memory = sq.Scope(reader).memory(ragged[:4], time=1)
    for row, x in enumerate(ragged[:4]):
        assert (memory.written[row, 2 : len(x)] == 0).all()
        assert memory.written[row, len(x) :].isnull().all()


@pytest.mark.parametrize("time", [4, -5, 1.0, "last", None])
def test_a_time_that_is_no_step_of_every_sequence(time, reader, ragged):
    scope = sq.Scope(reader)
    if time is None:
        xr.testing.assert_identical(scope.memory(ragged, time=None), scope.memory(ragged))
        return
    with pytest.raises(DataError, match="expected a step of every sequence, 0 to 3, or -1 for the last"):
        scope.memory(ragged[:4], time=time)


def test_one_sequence_has_no_sample(reader, ragged):
    scope = sq.Scope(reader)
    memory = scope.memory(ragged[0], "rnn")
    assert (memory.written.dims, memory.initial.dims, memory.half_life.dims) == (("time", "unit"), ("unit",), ("unit",))
    assert_close(memory.written, scope.memory(ragged, "rnn").written[0, :7])


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("time", [None, 1])
def test_the_backward_direction_ends_at_the_first_step(cell, time, open_reader, ragged):
    model, X = open_reader(cell, bidirectional=True), ragged[:4]
    memory = sq.Scope(model).memory(X, "rnn", time=time)
    assert memory.written.dims == ("sample", "direction", "time", "unit")
    assert memory.half_life.dims == ("direction", "unit")
    for row, x in enumerate(X):
        found = states.torch_stack(model.rnn, x)[0]
        for place, way in enumerate(("forward", "backward")):
            one = {name: value[place] for name, value in found.items()}
            part = memory.sel(direction=way)
            end = (len(x) - 1 if way == "forward" else 0) if time is None else time
            if way == "backward":
                keep, write = (value[::-1] for value in parts_of(one))
                terms, _ = written_out(keep, write, np.zeros(5), len(x) - 1 - end)
                assert_close(part.written.values[row, : len(x)], terms[::-1])
            state = one["c" if "c" in one else "h"][end]
            assert_close(part.written[row].sum("time") + part.initial[row], state)


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_an_initial_state_that_the_model_passes(cell, block):
    start = np.linspace(-1, 1.1, 5)

    def run(net, x):
        one = torch.tensor(start)[None, None].expand(1, len(x), -1).contiguous()
        return net.rnn(x, (one / 2, one) if cell is nn.LSTM else one)[0]

    model = Net(run, rnn=cell(3, 5, batch_first=True))
    memory = sq.Scope(model).memory(block, "rnn")
    for row, x in enumerate(block):
        found = states.torch_stack(model.rnn, x, *([start[None] / 2, start[None]] if cell is nn.LSTM else [start[None]]))[0]
        check(memory, row, found, start)
    assert (memory.initial != 0).all()


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_half_life_is_that_of_the_mean_gate(cell, open_reader, ragged):
    """ln(1/2) over the mean of ln f, over every step of every sequence; checked by letting a content decay by that mean."""
    model = open_reader(cell)
    memory = sq.Scope(model).memory(ragged, "rnn")
    kept = np.concatenate([parts_of(states.torch_stack(model.rnn, x)[0])[0] for x in ragged])
    assert memory.half_life.dims == ("unit",)
    assert_close(memory.half_life, np.log(0.5) / np.log(kept).mean(0))
    assert_close(np.prod(kept, axis=0) ** (memory.half_life.values / len(kept)), np.full(5, 0.5))


def test_gates_that_never_close_keep_for_ever(reader, block):
    with torch.no_grad():
        for name, part in reader.rnn.named_parameters():
            part[5:10] = 0.0 if "weight" in name else 400.0
    memory = sq.Scope(reader).memory(block, "rnn")
    assert np.isposinf(memory.half_life).all()
    found = states.torch_stack(reader.rnn, block[0])[0]
    assert_close(memory.written[0], found["i"] * found["g"])


def test_gates_that_are_shut_keep_the_last_step_alone(reader, block):
    with torch.no_grad():
        for name, part in reader.rnn.named_parameters():
            part[5:10] = 0.0 if "weight" in name else -800.0
    with np.errstate(over="ignore"):
        memory = sq.Scope(reader).memory(block, "rnn")
    assert (memory.half_life == 0).all()
    assert (memory.written[:, :-1] == 0).all()
    assert np.isfinite(memory.written).all()


def test_a_long_memory_does_not_drown_in_rounding(make_reader):
    """A product of many gates underflows, and no logarithm or division may make NaN of that."""
    x = np.random.default_rng(0).standard_normal((1, 3000, 3))
    model = make_reader(nn.LSTM)
    memory = sq.Scope(model).memory(x, "rnn")
    c = sq.Scope(model).states(x, "rnn").c[:, -1]
    assert np.isfinite(memory.written).all()
    assert (memory.written[0, 0] == 0).any() or float(abs(memory.written[0, 0]).max()) < 1e-100
    np.testing.assert_allclose(memory.written.sum("time") + memory.initial, c, rtol=1e-10)


def test_a_projected_lstm_remembers_in_its_cell(block):
    model = Net(lambda net, x: net.rnn(x)[0], rnn=nn.LSTM(3, 5, proj_size=2, batch_first=True))
    memory = sq.Scope(model).memory(block)
    assert memory.written.sizes == {"sample": 4, "time": 9, "unit": 5}
    for row, x in enumerate(block):
        check(memory, row, states.torch_stack(model.rnn, x)[0], np.zeros(5))


def test_a_clock_of_its_own_and_the_time_of_the_input(reader, ragged):
    X = sq.Sequences(ragged, rate=10.0, labels=list("abcde"))
    memory = sq.Scope(reader).memory(X, "rnn")
    np.testing.assert_allclose(memory["time"], np.arange(9) / 10)
    assert memory["label"].values.tolist() == list("abcde")
    strided = Net(lambda net, x: net.rnn(net.conv(x.mT).mT)[0], conv=nn.Conv1d(3, 4, 2, stride=2), rnn=nn.LSTM(4, 5, batch_first=True))
    memory = sq.Scope(strided).memory(ragged[:4])
    assert memory.written.dims == ("sample", "step", "unit")
    for row, x in enumerate(ragged[:4]):
        found = states.torch_stack(strided.rnn, ref.conv1d(strided.conv, x))[0]
        part = memory.drop_vars(["step", "time"]).rename_dims(step="time")
        check(part, row, found, np.zeros(5))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_calls_of_a_shared_layer_are_taken_apart_each(bidirectional, ragged):
    model = Net(lambda net, x: net.rnn(x)[0] + net.rnn(2 * x)[0], rnn=nn.LSTM(3, 5, batch_first=True, bidirectional=bidirectional))
    memory = sq.Scope(model).memory(ragged, "rnn")
    assert memory.written.dims == ("sample", *(["direction"] if bidirectional else []), "call", "time", "unit")
    for row, x in enumerate(ragged):
        for call, scale in enumerate((1, 2)):
            found = states.torch_stack(model.rnn, scale * x)[0]
            if bidirectional:
                found = {name: value[0] for name, value in found.items()}
            part = memory.isel(call=call, direction=0) if bidirectional else memory.isel(call=call)
            check(part, row, found, np.zeros(5))
    with pytest.raises(UnsupportedError, match="bidirectional LSTM" if bidirectional else "'rnn' is called several times in one pass, and"):
        sq.Scope(model).memory_share(ragged, "rnn")


def test_a_cell_that_the_model_loops_over(block):
    def run(net, x):
        h = c = torch.zeros(len(x), 5, dtype=x.dtype)
        for t in range(x.shape[1]):
            h, c = net.cell(x[:, t], (h, c))
        return net.fc(h)

    scope = sq.Scope(Net(run, cell=nn.LSTMCell(3, 5), fc=nn.Linear(5, 2)), layout="NTC")
    memory, share = scope.memory(block), scope.memory_share(block, target=0)
    for row, x in enumerate(block):
        check(memory, row, states.torch_cell(scope.model.cell, x), np.zeros(5))
    assert_close(share.share.sum("time") + share.initial + share.bias, scope.predict(block)[:, 0])


# Which layer


@pytest.fixture
def two():
    return Net(
        lambda net, x: net.fc(net.b(net.a(x)[0])[0]),
        a=nn.LSTM(3, 4, batch_first=True),
        b=nn.RNN(4, 5, batch_first=True),
        fc=nn.Linear(5, 2),
    )


def test_choosing_a_layer(two, reader, block):
    scope = sq.Scope(two)
    assert scope.memory(block, "a").attrs["layer"] == "a"
    xr.testing.assert_identical(sq.Scope(reader).memory(block), sq.Scope(reader).memory(block, "rnn"))
    for verb in (scope.memory, scope.memory_share):
        with pytest.raises(UnsupportedError, match="One recurrent layer is taken at a time, and there are 'a', 'b': name one"):
            verb(block)
        with pytest.raises(UnsupportedError, match=r"'fc' \(Linear\) is a layer of kind 'linear' and has no states"):
            verb(block, "fc")
        with pytest.raises(LayerError, match="No layer is named 'lstn'"):
            verb(block, "lstn")
    with pytest.raises(UnsupportedError, match="A simple RNN computes its state anew at every step"):
        scope.memory(block, "b")


def test_a_layer_of_a_stack(block):
    model = Net(lambda net, x: net.rnn(x)[0], rnn=nn.LSTM(3, 5, num_layers=2, batch_first=True))
    memory = sq.Scope(model).memory(block, "rnn.1")
    for row, x in enumerate(block):
        check(memory, row, states.torch_stack(model.rnn, x)[1], np.zeros(5))
    with pytest.raises(UnsupportedError, match=r"there are 'rnn\.0', 'rnn\.1'"):
        sq.Scope(model).memory(block, "rnn")


def test_attributes_say_what_it_is(reader, block, tmp_path):
    memory = sq.Scope(reader).memory(block)
    assert {"method": "memory", "model": "Reader", "layer": "rnn", "kind": "lstm"}.items() <= memory.attrs.items()
    memory.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    share = sq.Scope(reader).memory_share(block)
    assert {"method": "memory_share", "readout": "fc"}.items() <= share.attrs.items()
    share.to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "b.nc", engine="h5netcdf") as again:
        xr.testing.assert_equal(again.load(), share)


# Shares in a logit


def telescoped(found, c0, column, projection=None):
    """Murdoch and Szlam 2017, equations 8 to 12: each step's share, and the initial state's, as loops over steps and units."""
    n_steps, n_units = found["c"].shape
    last, weigh = found["o"][-1], column if projection is None else column @ projection
    terms, first = written_out(found["f"], found["i"] * found["g"], c0, n_steps - 1)
    share, so_far = np.zeros(n_steps), first.copy()
    initial = sum(weigh[unit] * last[unit] * np.tanh(first[unit]) for unit in range(n_units))
    for t in range(n_steps):
        before, so_far = so_far, so_far + terms[t]
        share[t] = sum(weigh[unit] * last[unit] * (np.tanh(so_far[unit]) - np.tanh(before[unit])) for unit in range(n_units))
    return share, initial


def check_share(found, model, X, targets, c0=None):
    matrix, bias = (part.detach().numpy() for part in (model.fc.weight, model.fc.bias))
    for row, (x, target) in enumerate(zip(X, targets, strict=True)):
        start = np.zeros(model.rnn.hidden_size) if c0 is None else c0
        seen = states.torch_stack(model.rnn, x, None, None if c0 is None else c0[None])[0]
        projection = model.rnn.weight_hr_l0.detach().numpy() if model.rnn.proj_size else None
        share, initial = telescoped(seen, start, matrix[target], projection)
        assert_close(found.share.values[row, : len(x)], share)
        assert np.isnan(found.share.values[row, len(x) :]).all()
        assert_close(found.initial[row], initial)
        assert_close(found.bias[row], bias[target])
        assert_close(found.logit[row], matrix[target] @ seen["h"][-1] + bias[target])
        assert_close(found.share[row].sum() + found.initial[row], found.logit[row] - found.bias[row])


@pytest.mark.parametrize("target", [0, 1, [0, 1, 1, 0, 1], np.int64(1)], ids=str)
def test_shares_follow_the_formula_and_sum_to_the_logit(target, open_reader, ragged):
    model = open_reader(nn.LSTM)
    found = sq.Scope(model).memory_share(ragged, "rnn", target)
    targets = [int(target)] * 5 if np.ndim(target) == 0 else target
    assert found["target"].values.tolist() == targets
    assert found.share.dims == ("sample", "time")
    check_share(found, model, ragged, targets)


def test_the_largest_logit_is_the_default(open_reader, ragged):
    model = open_reader(nn.LSTM)
    scope = sq.Scope(model)
    targets = scope.predict(ragged).argmax("output").values.tolist()
    found = scope.memory_share(ragged)
    assert found["target"].values.tolist() == targets
    check_share(found, model, ragged, targets)


def test_a_target_by_name(reader, ragged):
    by_scope = sq.Scope(reader, outputs=["low", "high"]).memory_share(ragged, target="high")
    by_data = sq.Scope(reader).memory_share(sq.Sequences(ragged, outputs=["low", "high"]), target="high")
    each = sq.Scope(reader, outputs=["low", "high"]).memory_share(ragged, target=["high", "low", "high", "high", "low"])
    plain = sq.Scope(reader).memory_share(ragged, target=1)
    np.testing.assert_array_equal(by_scope.share, plain.share)
    np.testing.assert_array_equal(by_data.share, plain.share)
    assert each["target"].values.tolist() == [1, 0, 1, 1, 0]


@pytest.mark.parametrize("target", [2, -1, "high", 1.0, [0, 1], [0, 1, 2, 0, 0]])
def test_a_target_that_is_not_there(target, reader, ragged):
    with pytest.raises(DataError, match=r"There is no output|2 targets were given for 5 sequences") as raised:
        sq.Scope(reader).memory_share(ragged, target=target)
    assert "memory_share(X) of Reader" in str(raised.value) or "memory_share(X" in str(raised.value)


def test_one_sequence_has_scalars(reader, ragged):
    found = sq.Scope(reader).memory_share(ragged[0], target=1)
    assert found.share.dims == ("time",)
    assert found.initial.dims == found.logit.dims == found["target"].dims == ()
    assert found["target"] == 1
    panels = sq.plot.memory(sq.Sequences(ragged)[0], found)
    assert list(panels) == ["input", "share"]


def test_an_initial_state_has_a_share(block):
    start = np.linspace(-1, 1.1, 5)

    def run(net, x):
        c0 = torch.tensor(start)[None, None].expand(1, len(x), -1).contiguous()
        return net.fc(net.rnn(x, (torch.zeros_like(c0), c0))[0][:, -1])

    model = Net(run, rnn=nn.LSTM(3, 5, batch_first=True), fc=nn.Linear(5, 2))
    found = sq.Scope(model).memory_share(block, target=0)
    check_share(found, model, block, [0] * 4, start)
    assert (found.initial != 0).all()


def test_a_projected_lstm_shares_through_its_projection(block):
    model = Net(lambda net, x: net.fc(net.rnn(x)[0][:, -1]), rnn=nn.LSTM(3, 5, proj_size=2, batch_first=True), fc=nn.Linear(2, 3))
    check_share(sq.Scope(model).memory_share(block, target=2), model, block, [2] * 4)


def test_a_readout_of_the_final_state(block):
    """The model reads h_n, not the last of the outputs."""
    model = Net(lambda net, x: net.fc(net.rnn(x)[1][0][0]), rnn=nn.LSTM(3, 5, batch_first=True), fc=nn.Linear(5, 2))
    check_share(sq.Scope(model).memory_share(block, target=1), model, block, [1] * 4)


def net_with(between, cell=nn.LSTM, **options):
    units = 10 if options.get("bidirectional") else 5
    parts = {"rnn": cell(3, 5, batch_first=True, **options), "norm": nn.LayerNorm(units), "fc": nn.Linear(units, 2)}
    return Net(lambda net, x: net.fc(between(net, net.rnn(x)[0])), **parts)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: net_with(lambda net, h: h[:, -1], nn.GRU), "'rnn' is a GRU"),
        (lambda: net_with(lambda net, h: h[:, -1], nn.RNN), "'rnn' is a RNN"),
        (lambda: net_with(lambda net, h: h[:, -1], bidirectional=True), "'rnn' is a bidirectional LSTM"),
        (lambda: net_with(lambda net, h: net.norm(h[:, -1])), "No dense layer reads the last hidden state as it is"),
        (lambda: net_with(lambda net, h: h.mean(1)), "the model reads other steps too"),
        (lambda: net_with(lambda net, h: torch.relu(h[:, -1])), "there is something between them"),
    ],
)
def test_what_can_not_be_shared_out_is_refused(model, message, block):
    with pytest.raises(UnsupportedError, match=message):
        sq.Scope(model()).memory_share(block, target=0)


# Keras


keras = pytest.importorskip("keras")
from keras import layers as kl  # noqa: E402
from keras import ops  # noqa: E402


@pytest.fixture
def keras_net():
    def make(layer, *, masked=False, activation="softmax"):
        keras.utils.set_random_seed(0)
        before = [kl.Masking()] if masked else []
        return keras.Sequential([keras.Input((None, 3)), *before, layer, kl.Dense(2, activation=activation, name="fc")])

    return make


def keras_data(*, masked=False):
    X = [x.astype(np.float32) for x in np.random.default_rng(2).standard_normal((3, 6, 3))]
    X[1] = X[1][:4]
    if masked:
        for x in X:
            x[1] = 0.0
    return X


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("make", [kl.LSTM, kl.GRU, lambda units, **options: kl.GRU(units, reset_after=False, **options)])
def test_memory_of_a_keras_layer(make, masked, keras_net):
    layer = make(4, name="rnn")
    X = keras_data(masked=masked)
    memory = sq.Scope(keras_net(layer, masked=masked)).memory(X, "rnn")
    for row, x in enumerate(X):
        there = (x != 0).any(1)
        found = states.keras_layer(layer, x, mask=there)
        keep, write = (np.where(there[:, None], part, other) for part, other in zip(parts_of(found), (1.0, 0.0), strict=True))
        terms, _ = written_out(keep, write, np.zeros(4), len(x) - 1)
        np.testing.assert_allclose(memory.written.values[row, : len(x)], terms, atol=1e-6)
        np.testing.assert_allclose(memory.written[row].sum("time"), found["c" if "c" in found else "h"][-1], atol=1e-6)
        if masked:
            assert (memory.written[row, 1] == 0).all()


def test_half_life_leaves_out_what_a_mask_does(keras_net):
    layer, X = kl.LSTM(4, name="rnn"), keras_data(masked=True)
    memory = sq.Scope(keras_net(layer, masked=True)).memory(X)
    kept = np.concatenate([states.keras_layer(layer, x, mask=(x != 0).any(1))["f"] for x in X])
    np.testing.assert_allclose(memory.half_life, np.log(0.5) / np.nanmean(np.log(kept), axis=0), rtol=1e-5)


@pytest.mark.parametrize("make", [kl.LSTM, kl.GRU])
def test_a_keras_layer_that_runs_backwards(make, keras_net):
    layer, X = make(4, name="rnn", go_backwards=True), keras_data()
    memory = sq.Scope(keras_net(layer)).memory(X)
    for row, x in enumerate(X):
        found = states.keras_layer(layer, x)
        terms, _ = written_out(*(part[::-1] for part in parts_of(found)), np.zeros(4), len(x) - 1)
        np.testing.assert_allclose(memory.written.values[row, : len(x)], terms[::-1], atol=1e-6)
        np.testing.assert_allclose(memory.written[row].sum("time"), found["c" if "c" in found else "h"][0], atol=1e-6)


def test_shares_of_a_keras_layer_that_runs_backwards(keras_net):
    layer, X = kl.LSTM(4, name="rnn", go_backwards=True), keras_data()
    model = keras_net(layer)
    found = sq.Scope(model).memory_share(X, target=1)
    column = ops.convert_to_numpy(model.get_layer("fc").kernel)[:, 1].astype(float)
    for row, x in enumerate(X):
        seen = {name: value[::-1] for name, value in states.keras_layer(layer, x).items()}
        np.testing.assert_allclose(found.share.values[row, : len(x)], telescoped(seen, np.zeros(4), column)[0][::-1], atol=1e-6)


def test_both_directions_of_keras(keras_net):
    layer, X = kl.Bidirectional(kl.LSTM(4), name="rnn"), keras_data()
    memory = sq.Scope(keras_net(layer)).memory(X)
    for row, x in enumerate(X):
        found = states.keras_both(layer, x)
        for place, (way, end) in enumerate((("forward", -1), ("backward", 0))):
            np.testing.assert_allclose(memory.written.sel(direction=way)[row].sum("time"), found["c"][place, end], atol=1e-6)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", None])
def test_shares_of_a_keras_readout_with_an_activation(activation, keras_net):
    """The share is in the logit, under the softmax."""
    layer, X = kl.LSTM(4, name="rnn"), keras_data()
    model = keras_net(layer, activation=activation)
    found = sq.Scope(model).memory_share(X, target=[0, 1, 1])
    matrix, bias = (ops.convert_to_numpy(part).astype(float) for part in model.get_layer("fc").weights)
    for row, (x, target) in enumerate(zip(X, (0, 1, 1), strict=True)):
        seen = states.keras_layer(layer, x)
        share, initial = telescoped(seen, np.zeros(4), matrix[:, target])
        np.testing.assert_allclose(found.share.values[row, : len(x)], share, atol=1e-6)
        np.testing.assert_allclose(found.logit[row], share.sum() + initial + bias[target], atol=1e-6)
    assert found.attrs["readout"] == "fc"


def test_shares_of_keras_with_steps_that_a_mask_leaves_out(keras_net):
    layer, X = kl.LSTM(4, name="rnn"), keras_data(masked=True)
    X[0][-1] = 0.0
    found = sq.Scope(keras_net(layer, masked=True)).memory_share(X, target=0)
    np.testing.assert_allclose(found.share.sum("time") + found.initial + found.bias, found.logit, atol=1e-6)
    assert (found.share[:, 1] == 0).all()
