"""A recording is what the verbs of a scope give, whatever the model, the data and the options are."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import seqscope as sq
from seqscope.errors import DataError, LayerError
from tolerances import TOLERANCES

N = 9


class Net(nn.Module):
    """Layers by name, and what is done with them."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.run(self, x)


class Branch(nn.Module):
    """Several tensors, one of them of whole numbers, one with axes that have no name."""

    def forward(self, x):
        return torch.relu(x), x.argmax(-1), {"deep": torch.einsum("ntc,ntd->ncd", x, x)}


class Causal(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3)

    def forward(self, x):
        return self.conv(nn.functional.pad(x.transpose(1, 2), (2, 0))).transpose(1, 2)


def last(net, x):
    return net.fc(net.rnn(x)[0][:, -1])


def convolved(net, x):
    return net.fc(net.pool(net.conv(x.transpose(1, 2))).mean(2))


def thrice(net, x):
    h = net.get_submodule("read/in")(x)
    for _ in range(3):
        h = torch.tanh(net.same(h))
    return net.fc(h.cumsum(1)[:, -1]), h


def attended(net, x):
    h = net.inp(x)
    return net.fc(net.attn(h, h, h)[0].mean(1))


def embedded(net, x):
    return net.fc(net.rnn(net.embed(x.long()))[0][:, -1])


def stack(n, cell=nn.LSTM, units=5, out=None, **options):
    return {"rnn": cell(n, units, batch_first=True, **options), "fc": nn.Linear(out or units, 2)}


MODELS = {
    "stack, both ways": lambda: Net(last, **stack(3, num_layers=2, bidirectional=True, out=10)),
    "projected": lambda: Net(last, **stack(3, proj_size=2, out=2)),
    "gru, one output": lambda: Net(lambda net, x: last(net, x)[:, 0], **stack(3, nn.GRU)),
    "rnn, steps out": lambda: Net(lambda net, x: net.fc(net.rnn(x)[0]), **stack(3, nn.RNN)),
    "own clocks": lambda: Net(convolved, conv=nn.Conv1d(3, 4, 2, stride=2, padding=1), pool=nn.MaxPool1d(2), fc=nn.Linear(4, 2)),
    "dilated, pooled": lambda: Net(
        convolved, conv=nn.Conv1d(3, 4, 3, dilation=2, padding="same"), pool=nn.AdaptiveMaxPool1d(1), fc=nn.Linear(4, 2)
    ),
    "causal": lambda: Net(lambda net, x: net.fc(net.causal(x)[:, -1]), causal=Causal(), fc=nn.Linear(4, 2)),
    "several tensors": lambda: Net(lambda net, x: net.fc(net.branch(x)[0].mean(1)), branch=Branch(), fc=nn.Linear(3, 2)),
    "several calls": lambda: Net(thrice, **{"read/in": nn.Linear(3, 4), "same": nn.Linear(4, 4), "fc": nn.Linear(4, 2)}),
    "attention": lambda: Net(attended, inp=nn.Linear(3, 4), attn=nn.MultiheadAttention(4, 2, batch_first=True), fc=nn.Linear(4, 2)),
    "float64": lambda: Net(last, **stack(3)).double(),
    "bfloat16": lambda: Net(last, **stack(3)).bfloat16(),
}


def steps(lengths=(4, 9, 7, 4, 5, 9, 6, 8, 7), seed=0):
    random = np.random.default_rng(seed)
    return [random.standard_normal((length, 3)).astype(np.float32) for length in lengths]


def same(found, expected, dtype="float32"):
    """Alike in everything: dims, coordinates with their types and attributes, attributes, values (other batches round otherwise)."""
    assert (found.name, found.dims, found.dtype, set(found.coords)) == (expected.name, expected.dims, expected.dtype, set(expected.coords))
    np.testing.assert_allclose(found.values.astype(float), expected.values.astype(float), **TOLERANCES[dtype])
    for name, coord in expected.coords.items():
        assert found.coords[name].variable.identical(coord.variable)
        assert found.coords[name].dtype == coord.dtype or coord.dtype.kind == "U"
    assert {key: value for key, value in found.attrs.items() if key != "rounding"} == expected.attrs


def compare(recording, scope, X, dtype="float32"):
    for layer in recording.layers:
        same(recording.activations(layer), scope.activations(X, layer), dtype)
    for layer in recording.recurrent:
        found, expected = recording.states(layer), scope.states(X, layer)
        assert list(found) == list(expected)
        for state in expected:
            same(found[state], expected[state], dtype)
    same(recording.predictions, scope.predict(X), dtype)
    back = recording.inputs
    assert (back.dtype, back.channels, back.outputs) == (X.dtype, X.channels, X.outputs)
    for mine, theirs in zip(back, X, strict=True):
        xr.testing.assert_identical(mine, theirs)
    assert recording.verify() == []


@pytest.mark.parametrize("model", MODELS)
def test_models(model, tmp_path):
    scope, X = sq.Scope(MODELS[model]().eval()), sq.Sequences(steps(), labels=[0, 1, 1] * 3, rate=10.0)
    has_states = hasattr(scope.model, "rnn")
    recording = scope.record(X, tmp_path / "a.zarr", "*", states=has_states, shard=4)
    assert recording.layers == tuple(dict.fromkeys(array.attrs["layer"] for array in scope.activations(X).children.values()))
    compare(recording, scope, X, model if model in TOLERANCES else "float32")


EQUAL = [7] * N
DATES = {unit: np.datetime64("2020-01-01").astype(f"M8[{unit}]") for unit in ("D", "us", "ns")}
DATA = {
    "ids and labels of text": ([], {"samples": [f"wälk/{place} 😀" for place in range(N)], "labels": ["né", "😀", ""] * 3}),
    "mixed labels": ([], {"labels": np.array(["a", 1, None] * 3, object), "samples": np.arange(N) / 2}),
    "outputs by number": ([], {"labels": [3, 7, 7] * 3, "outputs": [3, 7], "channels": [0.5, 1.5, 2.5]}),
    "dates for samples": ([], {"samples": DATES["us"] + np.arange(N), "labels": DATES["us"] + np.arange(N)}),
    "numbered, with a unit": ([], {"time": np.arange(9), "time_units": "h"}),
    "a unit as of dates": (EQUAL, {"time": np.arange(7.0), "time_units": "days since 2000-01-01"}),
    "a unit as of no dates": (EQUAL, {"time": np.arange(7.0), "time_units": "seconds since the start"}),
    "days": (EQUAL, {"time": DATES["D"] + np.arange(7)}),
    "durations": (EQUAL, {"time": np.arange(7).astype("m8[ms]")}),
    "own times": ([], {"time": [np.arange(n) * 0.1 + place for place, n in enumerate(map(len, steps()))], "time_units": "s"}),
    "own dates": ([], {"time": [DATES["ns"] + np.arange(n) * (place + 1) for place, n in enumerate(map(len, steps()))]}),
}


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return sq.Scope(Net(convolved, conv=nn.Conv1d(3, 4, 2, stride=2), pool=nn.Identity(), fc=nn.Linear(4, 2)).eval())


@pytest.mark.parametrize("data", DATA)
def test_data(small, data, tmp_path):
    lengths, names = DATA[data]
    X = sq.Sequences(steps(lengths) if lengths else steps(), **names)
    recording = small.record(X, tmp_path / "a.zarr", "conv", shard=4)
    compare(recording, small, X)
    assert recording.inputs.samples.dtype.kind == X.samples.dtype.kind
    assert recording.labels is None or recording.labels.tolist() == X.labels.tolist()
    xr.open_datatree(tmp_path / "a.zarr", engine="zarr").load()  # nor does anything in it stop others


@pytest.mark.parametrize("options", [{"shard": 1}, {"shard": 9}, {"shard": 8}, {"shard": 10, "batch_size": 1}, {"batch_size": 3}])
def test_cuts(small, options, tmp_path):
    X = sq.Sequences(steps())
    compare(small.record(X, tmp_path / "a.zarr", "conv", **options), small, X)


@pytest.mark.parametrize("tokens", [np.uint8, np.int64])
def test_tokens_keep_their_type(tokens, tmp_path):
    scope = sq.Scope(Net(embedded, embed=nn.Embedding(7, 4), **stack(4, nn.GRU)).eval())
    X = sq.Sequences([np.arange(length).astype(tokens) % 7 for length in (5, 2, 9)])
    compare(scope.record(X, tmp_path / "a.zarr", states="rnn", shard=2), scope, X)


def test_text_in_windows_that_overlap(tmp_path):
    X = sq.Sequences.from_text("to be, or not to be", window=5, stride=2)
    scope = sq.Scope(Net(last, rnn=nn.LSTM(8, 4, batch_first=True), fc=nn.Linear(4, 8)).eval())
    compare(scope.record(X, tmp_path / "a.zarr", "rnn", shard=4), scope, X)


def test_whole_numbers_where_some_shards_hold_one_length(tmp_path):
    scope = sq.Scope(MODELS["several tensors"]().eval())
    X = sq.Sequences(steps((4, 4, 6, 6)))
    compare(scope.record(X, tmp_path / "a.zarr", shard=2), scope, X)


class Extreme(nn.Module):
    """Infinities, NaN and numbers below what is normal in float16."""

    def forward(self, x):
        return torch.where(x > 1, torch.inf, torch.where(x < -1, torch.nan, x * 1e-5))


@pytest.mark.parametrize("options", [{}, {"dtype": "float16"}, {"keep_bits": 3}])
def test_what_is_not_finite_stays_where_it_is(options, tmp_path):
    scope = sq.Scope(Net(lambda net, x: (net.extreme(x), net.fc(x).mean(1))[1], extreme=Extreme(), fc=nn.Linear(3, 2)).eval())
    X = sq.Sequences(steps())
    found = scope.record(X, tmp_path / "a.zarr", "extreme", **options).activations("extreme")
    expected = scope.activations(X, "extreme").values
    for kind in (np.isnan, np.isposinf):
        assert np.array_equal(kind(found.values), kind(expected))
    finite = np.isfinite(expected)
    apart = np.abs(found.values[finite].astype(float) - expected[finite])
    assert (apart <= np.maximum(np.abs(expected[finite]) * 2.0**-4, 2.0**-24)).all()


def test_layers_that_would_have_one_name(tmp_path):
    net = Net(
        lambda net, x: net.fc(net.a_b(net.get_submodule("a/b")(x)).mean(1)),
        a_b=nn.Linear(3, 3),
        **{"a/b": nn.Linear(3, 3), "fc": nn.Linear(3, 2)},
    )
    with pytest.raises(LayerError, match="would both be 'a_b'"):
        sq.Scope(net.eval()).record(steps(), tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr/zarr.json").exists()
    X, scope = sq.Sequences(steps()), sq.Scope(net.eval())
    compare(scope.record(X, tmp_path / "a.zarr", ["a/b", "fc"]), scope, X)


def test_labels_that_a_store_cannot_take(small, tmp_path):
    with pytest.raises(DataError, match=r"labels hold b'a' \(bytes\)"):
        small.record(sq.Sequences(steps(), labels=np.array([b"a"] * N)), tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr/zarr.json").exists()


def test_ablated(tmp_path):
    scope, X = sq.Scope(MODELS["gru, one output"]().eval()), sq.Sequences(steps())
    with scope.ablate("rnn", [1, 3]):
        recording = scope.record(X, tmp_path / "a.zarr", "rnn", states="rnn", shard=4)
        compare(recording, scope, X)
    assert not recording.activations("rnn").isel(unit=[1, 3]).fillna(0).any()


def test_a_recording_of_a_recording(small, tmp_path):
    X = sq.Sequences(steps(), samples=list("abcdefghi"), labels=list("uvw") * 3)
    first = small.record(X, tmp_path / "a.zarr", "conv", shard=4)
    again = small.record(first.inputs, tmp_path / "b.zarr", "conv", shard=2)
    xr.testing.assert_allclose(first.activations("conv").load(), again.activations("conv").load())
    assert first.attrs["data_digest"] == again.attrs["data_digest"]


def test_units_and_plots_take_it_as_it_is(tmp_path):
    scope, X = sq.Scope(MODELS["gru, one output"]().eval()), sq.Sequences(steps(), labels=["a", "b", "b"] * 3)
    found, expected = scope.record(X, tmp_path / "a.zarr", states=True, shard=4).states("rnn").h, scope.states(X, "rnn").h
    xr.testing.assert_allclose(sq.units.summary(found), sq.units.summary(expected), rtol=1e-4)
    xr.testing.assert_allclose(sq.units.top_windows(found, X, 1), sq.units.top_windows(expected, X, 1), rtol=1e-4)


def test_padding_costs_next_to_nothing(tmp_path):
    random = np.random.default_rng(0)
    lengths = [400, *random.integers(3, 12, 120).tolist()]
    scope = sq.Scope(Net(lambda net, x: net.wide(x), wide=nn.Linear(3, 16)).eval(), layout="NTC")
    scope.record([random.standard_normal((length, 3)).astype(np.float32) for length in lengths], tmp_path / "a.zarr")
    size = sum(file.stat().st_size for file in (tmp_path / "a.zarr/activations/wide/activations/c").rglob("*") if file.is_file())
    assert size < 1.35 * sum(lengths) * 16 * 4 < 0.1 * len(lengths) * 400 * 16 * 4
