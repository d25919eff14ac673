"""What is recorded is what the verbs of a scope give, whatever the model and the data are."""

import numpy as np
import pytest
import torch
import xarray as xr

import seqscope as sq
from recorded import files
from seqscope.errors import DataError, LayerError, ModelError, OutputExistsError, SeqscopeError


@pytest.fixture(scope="module")
def vowels():
    return sq.Scope(sq.zoo.japanese_vowels())


@pytest.fixture(scope="module")
def X():
    return sq.datasets.japanese_vowels("test")[0]


class Convolutions(torch.nn.Module):
    """Steps of its own: a valid convolution and a pooling, then a bidirectional GRU."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv1d(3, 6, kernel_size=3)
        self.pool = torch.nn.MaxPool1d(2)
        self.gru = torch.nn.GRU(3, 5, batch_first=True, bidirectional=True)
        self.fc = torch.nn.Linear(10, 2)

    def forward(self, x):
        pooled = self.pool(torch.relu(self.conv(x.transpose(1, 2))))
        return self.fc(self.gru(x)[0][:, -1]) + pooled.mean((1, 2))[:, None]


@pytest.fixture(scope="module")
def ragged():
    random = np.random.default_rng(0)
    data = [random.standard_normal((n, 3)).astype(np.float32) for n in random.integers(4, 12, 37)]
    names = [f"walk {place}" for place in range(37)]
    return sq.Sequences(
        data, channels=["x", "y", "z"], samples=names, labels=["up", "down"] * 18 + ["up"], rate=50.0, outputs=["down", "up"]
    )


def same(found, expected):
    xr.testing.assert_equal(found.load().drop_attrs(), expected.drop_attrs())
    for name in expected.coords:
        assert found.coords[name].dtype == expected.coords[name].dtype
        assert found.coords[name].attrs == expected.coords[name].attrs
    missing = {key: value for key, value in expected.attrs.items() if found.attrs.get(key) != value}
    assert not missing


@pytest.mark.parametrize("shard", [None, 64])
def test_equals_the_verbs_of_a_scope(vowels, X, tmp_path, shard):
    recording = vowels.record(X, tmp_path / "vowels.zarr", "lstm", states=True, shard=shard)
    expected, states = vowels.activations(X, "lstm"), vowels.states(X, "lstm")
    found = recording.activations("lstm")
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-5, atol=1e-6)  # other batches round otherwise
    assert np.array_equal(np.isnan(found.values), np.isnan(expected.values))
    for name in states:
        np.testing.assert_allclose(recording.states("lstm")[name].values, states[name].values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(recording.predictions.values, vowels.predict(X).values, rtol=1e-5, atol=1e-6)
    assert recording.predictions.output.values.tolist() == vowels.predict(X).output.values.tolist()
    right = (vowels.predict(X).idxmax("output").values == X.labels).mean()
    assert recording.accuracy == pytest.approx(right)


def test_labels_are_those_of_a_scope(ragged, tmp_path):
    scope = sq.Scope(Convolutions().eval())
    recording = scope.record(ragged, tmp_path / "walks.zarr", None, states="gru", shard=37)
    same(recording.states("gru"), scope.states(ragged, "gru"))
    recording = scope.record(ragged, tmp_path / "all.zarr", shard=37)
    for layer in recording.layers:
        same(recording.activations(layer), scope.activations(ragged, layer))
    assert recording.layers == tuple(scope.activations(ragged).children)
    same(recording.predictions, scope.predict(ragged))


def test_inputs_come_back_as_they_were(ragged, tmp_path):
    found = sq.Scope(Convolutions().eval()).record(ragged, tmp_path / "walks.zarr", "conv", shard=8).inputs
    assert (found.samples.tolist(), found.labels.tolist(), found.channels) == (
        ragged.samples.tolist(),
        ragged.labels.tolist(),
        ragged.channels,
    )
    assert found.outputs == ragged.outputs
    for mine, theirs in zip(found, ragged, strict=True):
        xr.testing.assert_identical(mine, theirs)


def test_opens_without_seqscope(vowels, X, tmp_path):
    vowels.record(X, tmp_path / "vowels.zarr", "lstm", states={"lstm": ["c", "h"]})
    tree = xr.open_datatree(tmp_path / "vowels.zarr", engine="zarr")
    assert {"inputs", "predictions", "activations", "states", "statistics"} <= set(tree.children)
    assert tree["activations/lstm"].activations.dims == ("sample", "time", "unit")
    assert set(tree["states/lstm"].data_vars) == {"h", "c"}
    assert tree["activations/lstm"].length.values.tolist() == X.lengths.tolist()
    assert tree["activations/lstm"].attrs["layer"] == "lstm"
    assert np.isnan(tree["activations/lstm"].activations.values[0, X.lengths[0] :]).all()


def test_tokens(tmp_path):
    class Reader(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.lstm, self.fc = torch.nn.Embedding(7, 4), torch.nn.LSTM(4, 5, batch_first=True), torch.nn.Linear(5, 3)

        def forward(self, x):
            return self.fc(self.lstm(self.embed(x))[0][:, -1])

    random = np.random.default_rng(0)
    tokens = sq.Sequences([random.integers(0, 7, n) for n in (5, 9, 2, 9)])
    scope = sq.Scope(Reader().eval())
    recording = scope.record(tokens, tmp_path / "text.zarr", shard=2)
    for layer in recording.layers:
        np.testing.assert_allclose(recording.activations(layer).values, scope.activations(tokens, layer).values, rtol=1e-5, atol=1e-6)
    assert [part.values.tolist() for part in recording.inputs] == [part.values.tolist() for part in tokens]


def test_one_sequence_is_a_data_set_of_one(vowels, X, tmp_path):
    recording = vowels.record(X[0], tmp_path / "one.zarr", "lstm")
    assert recording.activations("lstm").sizes == {"sample": 1, "time": 19, "unit": 100}


def test_resuming_does_what_is_missing(vowels, X, tmp_path):
    whole = vowels.record(X, tmp_path / "whole.zarr", "lstm", states="lstm", shard=64)
    part = vowels.record(X, tmp_path / "part.zarr", "lstm", states="lstm", shard=64)
    (tmp_path / "part.zarr/ledger/entries/000002.json").unlink()
    (tmp_path / "part.zarr/ledger/entries/000005.json").unlink()
    part = vowels.record(X, tmp_path / "part.zarr", "lstm", states="lstm", resume=True)
    assert files(tmp_path / "part.zarr") == files(tmp_path / "whole.zarr")
    xr.testing.assert_identical(part.statistics("lstm"), whole.statistics("lstm"))


def test_a_store_that_is_there(vowels, X, tmp_path):
    store = tmp_path / "vowels.zarr"
    vowels.record(X[:20], store, "lstm")
    with pytest.raises(OutputExistsError, match="resume=True to go on"):
        vowels.record(X[:20], store, "lstm")
    with pytest.raises(DataError, match="other data"):
        vowels.record(X[:21], store, "lstm", resume=True)
    with pytest.raises(DataError, match="other layers, states or dtype"):
        vowels.record(X[:20], store, "fc", resume=True)
    other = sq.zoo.japanese_vowels()
    with torch.no_grad():
        other.fc.bias[0] += 1e-3
    with pytest.raises(DataError, match="another model"):
        sq.Scope(other).record(X[:20], store, "lstm", resume=True)
    assert len(vowels.record(X[:30], store, "lstm", overwrite=True)) == 30


def test_resuming_what_is_not_there_starts_it(vowels, X, tmp_path):
    assert vowels.record(X[:9], tmp_path / "new.zarr", "lstm", resume=True).is_complete


def test_a_failing_sample_is_named_and_set_aside(ragged, tmp_path):
    class Picky(Convolutions):
        def forward(self, x):
            if (x[:, 0, 0] == -77).any():
                raise ValueError("sensor fault")
            return super().forward(x)

    data = [np.array(part.values) for part in ragged]
    data[13][0, 0] = -77
    X = sq.Sequences(data, samples=ragged.samples)
    scope = sq.Scope(Picky().eval())
    with pytest.raises(ModelError, match=r"failed on sample walk 13 \(at 13, .*sensor fault"):
        scope.record(X, tmp_path / "picky.zarr", "conv", shard=8)
    recording = scope.record(X, tmp_path / "picky.zarr", "conv", resume=True, on_error="skip")
    assert recording.failed.position.values.tolist() == [13]
    values = recording.activations("conv").values
    assert np.isnan(values[13]).all()
    assert not np.isnan(values[[12, 14], 0]).any()


def test_smaller_types_state_their_error(vowels, X, tmp_path):
    exact = vowels.record(X, tmp_path / "exact.zarr", "lstm").activations("lstm").values
    half = vowels.record(X, tmp_path / "half.zarr", "lstm", dtype="float16")
    bits = vowels.record(X, tmp_path / "bits.zarr", "lstm", keep_bits=7)
    for recording, bound in ((half, 2.0**-11), (bits, 2.0**-8)):
        found = recording.activations("lstm")
        error = np.nanmax(np.abs(found.values.astype(np.float64) - exact))
        assert 0 < error <= bound
        assert "relative error" in found.attrs["rounding"]
        assert recording.statistics("lstm").attrs["largest_rounding_error"] == pytest.approx(error)
    there = np.abs(exact) > 1e-4
    relative = np.abs(bits.activations("lstm").values[there] - exact[there]) / np.abs(exact[there])
    assert relative.max() <= 2.0**-8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"keep_bits": 24}, "keep_bits is 24"),
        ({"keep_bits": 3, "dtype": "float16"}, "one of the two"),
        ({"shard": 0}, "shard is 0"),
        ({"on_error": "ignore"}, "on_error is 'ignore'"),
        ({"resume": True, "overwrite": True}, "Both resume"),
        ({"layers": "lstn"}, "nearest is 'lstm'"),
        ({"states": {"lstm": "q"}}, "no state 'q'"),
    ],
)
def test_options_that_cannot_be(vowels, X, tmp_path, options, message):
    with pytest.raises(SeqscopeError, match=message):
        vowels.record(X, tmp_path / "no.zarr", **options)
    assert not (tmp_path / "no.zarr/zarr.json").exists()


def test_what_was_not_recorded(vowels, X, tmp_path):
    recording = vowels.record(X[:5], tmp_path / "v.zarr", "lstm", inputs=False)
    with pytest.raises(LayerError, match="holds no activations of 'fc'"):
        recording.activations("fc")
    with pytest.raises(LayerError, match="holds no states of 'lstm'"):
        recording.states("lstm")
    with pytest.raises(DataError, match="inputs=False"):
        recording.inputs  # noqa: B018
    with pytest.raises(DataError, match="There is no store"):
        sq.open(tmp_path / "nothing.zarr")


def test_a_damaged_file_is_found_and_done_again(vowels, X, tmp_path):
    store = tmp_path / "v.zarr"
    recording = vowels.record(X[:200], store, "lstm", shard=64)
    before = files(store)
    file = store / "activations/lstm/activations/c/1/0/0"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    (store / "inputs/value/c/2/0/0").write_bytes(b"")
    assert [text.partition("'")[2].partition("'")[0] for text in recording.verify()] == [
        "activations/lstm/activations/c/1/0/0",
        "inputs/value/c/2/0/0",
    ]
    with pytest.warns(UserWarning, match="are done again"):
        vowels.record(X[:200], store, "lstm", resume=True)
    assert files(store) == before


def test_the_data_itself_is_not_written_over(vowels, X, tmp_path):
    before = vowels.record(X[:9], tmp_path / "v.zarr", "lstm").inputs
    with pytest.raises(DataError, match="itself, which would be written over"):
        vowels.record(before, tmp_path / "v.zarr", "lstm", overwrite=True)
    np.save(tmp_path / "v.zarr/x.npy", np.zeros((4, 9, 12), np.float32))
    with pytest.raises(DataError, match="itself, which would be written over"):
        vowels.record(tmp_path / "v.zarr/x.npy", tmp_path / "v.zarr", "lstm", overwrite=True)
    assert len(vowels.record(before, tmp_path / "w.zarr", "lstm")) == 9
