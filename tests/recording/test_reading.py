"""A recording that is read: what is read of it, what it gives to everything else, and what is said of one that is not whole."""

import gc
import json
import pickle
import shutil
import weakref

import numpy as np
import pytest
import torch
import xarray as xr
from zarr.storage import LocalStore, WrapperStore

import seqscope as sq
from seqscope.errors import DataError, SeqscopeError
from seqscope.recording import finish, skeleton
from seqscope.units import blocks

N, SHARD, T, H = 60, 16, 9, 40


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.fc = torch.nn.LSTM(3, H, batch_first=True), torch.nn.Linear(H, 2)

    def forward(self, x):
        return self.fc(self.lstm(x)[0][:, -1])


@pytest.fixture(scope="module")
def scope():
    return sq.Scope(Net().eval())


@pytest.fixture(scope="module")
def X():
    random = np.random.default_rng(0)
    data = [random.standard_normal((n, 3)).astype(np.float32) for n in random.integers(4, T + 1, N)]
    names = [f"walk {place}" for place in range(N)]
    return sq.Sequences(data, channels=["x", "y", "z"], samples=names, labels=["up", "down"] * (N // 2), rate=50.0, outputs=["down", "up"])


@pytest.fixture(scope="module")
def folder(scope, X, tmp_path_factory):
    folder = tmp_path_factory.mktemp("read") / "walks.zarr"
    scope.record(X, folder, ["lstm", "fc"], states={"lstm": ["h"]}, shard=SHARD)
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "walks.zarr")


class Counting(WrapperStore):
    """A store that writes down what is read of it: keys, and bytes."""

    def __init__(self, store, read=None):
        super().__init__(store)
        self.read = [] if read is None else read

    def _with_store(self, store):
        return type(self)(store, self.read)

    async def get(self, key, prototype, byte_range=None):
        found = await super().get(key, prototype, byte_range)
        self.read.append((key, 0 if found is None else len(found)))
        return found

    def taken(self):
        read, self.read[:] = list(self.read), []
        return read


# What is read


def test_only_what_is_looked_at_is_read(folder):
    store = Counting(LocalStore(folder, read_only=True))
    recording = sq.open(store)
    opened = store.taken()
    assert not [key for key, _ in opened if "/activations/c/" in key or "/value/c/" in key or "/prediction/c/" in key]
    assert sum(size for key, size in opened if "zarr.json" not in key) < 20_000
    lstm, states = recording.activations("lstm"), recording.states("lstm")
    repr((recording, lstm, states, recording.activations(), recording.states(), recording.inputs))
    recording._repr_html_()
    assert not [key for key, _ in store.taken() if "/c/" in key and "statistics" not in key and "ledger" not in key]
    whole = (folder / "activations/lstm/activations/c/0/0/0").stat().st_size
    lstm.isel(sample=3).load()
    assert {key for key, _ in store.read} == {"activations/lstm/activations/c/0/0/0"}
    assert sum(size for _, size in store.taken()) <= whole
    unit = lstm.isel(unit=slice(20, 21)).values  # of three groups of units one, of each shard
    taken = store.taken()
    assert {key for key, _ in taken} == {f"activations/lstm/activations/c/{number}/0/0" for number in range(4)}
    stored = sum((folder / key).stat().st_size for key in {key for key, _ in taken})
    assert sum(size for _, size in taken) < 0.55 * stored
    assert unit.shape == (N, T, 1)
    states["h"].isel(sample=slice(16, 32), unit=0).load()
    assert {key for key, _ in store.taken()} == {"states/lstm/h/c/1/0/0"}
    recording.inputs[50].load()
    assert {key for key, _ in store.taken()} == {"inputs/value/c/3/0/0"}


def test_what_was_read_is_not_kept_for_others(copied, scope, X):
    """An array that was looked at while the recording went on does not hide what came later."""
    lost = copied / "activations/lstm/activations/c/2/0/0"
    there = lost.read_bytes()
    lost.unlink()
    recording = sq.open(copied)
    assert np.isnan(recording.activations("lstm").values[32:48]).all()
    lost.write_bytes(there)
    assert not np.isnan(recording.activations("lstm").values[32:48, 0]).any()


# What it gives


def test_inputs_are_sequences_that_stay_there(folder, X):
    inputs = sq.open(folder).inputs
    assert inputs.lies_in_file
    for mine, theirs in zip(pickle.loads(pickle.dumps(inputs))[5:9], X[5:9], strict=True):
        xr.testing.assert_identical(mine, theirs)
    assert (inputs.samples.tolist(), inputs.labels.tolist()) == (X.samples.tolist(), X.labels.tolist())
    assert (inputs.channels, inputs.outputs, inputs.single, inputs.clock.units) == (X.channels, X.outputs, X.single, X.clock.units)


def test_data_files_are_read_from_it(copied, X):
    for read in (sq.read(copied), sq.files.read_data(str(copied))):
        xr.testing.assert_identical(read[7], X[7])
        assert read.labels.tolist() == X.labels.tolist()
    assert sq.read(copied, y=False).labels is None
    with pytest.raises(DataError, match=r"it is a recording.*leave x= and y= out"):
        sq.read(copied, x="value")
    copied.rename(copied.with_name("walks"))  # whatever it is called
    assert len(sq.read(copied.with_name("walks"))) == N


def test_trees_are_those_of_a_scope(folder, scope, X):
    recording = sq.open(folder)
    for found, expected in ((recording.activations(), scope.activations(X, ["lstm", "fc"])), (recording.states(), None)):
        assert found.to_dataset().sizes == {"sample": N}
        assert set(found.children) == ({"lstm"} if expected is None else set(expected.children))
    for name in ("lstm", "fc"):
        expected = scope.activations(X, name)
        np.testing.assert_allclose(recording.activations()[name].activations.values, expected.values, rtol=1e-5, atol=1e-6)
        assert recording.activations()[name].activations.attrs["layer"] == name


def test_units_are_told_as_in_memory(folder, scope, X, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK", 16 * T * H)  # more than one block
    recording = sq.open(folder)
    lstm, states, inputs = recording.activations("lstm"), recording.states("lstm"), recording.inputs
    kept = lstm.copy().load()
    xr.testing.assert_allclose(
        sq.units.summary(lstm, X=inputs, y=recording.labels), sq.units.summary(kept, X=X, y=X.labels), rtol=1e-5, atol=1e-6
    )
    xr.testing.assert_identical(sq.units.summary(states["h"]), sq.units.summary(states["h"].copy().load()))
    xr.testing.assert_identical(sq.units.top_windows(lstm, inputs, 7, 4), sq.units.top_windows(kept, X, 7, 4))
    xr.testing.assert_identical(sq.units.match(lstm, "walk 3", 1, 4, 0.1), sq.units.match(kept, "walk 3", 1, 4, 0.1))
    statistics = recording.statistics("lstm")
    np.testing.assert_allclose(statistics["mean"], np.nanmean(kept.values.astype(float), axis=(0, 1)), rtol=1e-6, atol=1e-8)
    assert not lstm._in_memory


def test_units_are_told_by_a_cluster(folder):
    import distributed

    quiet = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    lstm = sq.open(folder).activations("lstm")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, scheduler_kwargs=quiet) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        found = sq.units.summary(lstm, client=client)
    xr.testing.assert_identical(found, sq.units.summary(lstm))


def test_pictures_take_it(folder):
    import matplotlib.pyplot as plt

    recording = sq.open(folder)
    series, hidden = recording.inputs[3], recording.activations("lstm").isel(sample=3)
    axes = sq.plot.activations(series, hidden, unit=[0, 7])
    np.testing.assert_array_equal(axes["input"].lines[0].get_ydata(), series.isel(channel=0).values)
    sq.plot.heatmap(hidden.isel(unit=slice(10)))
    sq.plot.states(series, recording.states("lstm").isel(sample=3), unit=[0])
    plt.close("all")


def test_it_shows_itself(copied):
    recording = sq.open(copied)
    assert repr(recording).startswith(
        f"Recording '{copied}': {N} sequences, 4 to {T} steps; activations of lstm, fc; states of lstm; complete"
    )
    shown = recording._repr_html_()
    assert all(f"<th>{what}</th><td>{text}</td>" in shown for what, text in recording.in_words().items())
    root = json.loads((copied / "zarr.json").read_text())
    root["attributes"]["model"] = "<script>alert(1)</script>"
    (copied / "zarr.json").write_text(json.dumps(root))
    assert "&lt;script&gt;" in sq.open(copied)._repr_html_()
    assert "<script" not in sq.open(copied)._repr_html_()


def test_it_goes_to_another_process_and_goes_away(folder):
    recording = sq.open(folder)
    sent = pickle.dumps(recording)
    assert len(sent) < 2000
    xr.testing.assert_identical(pickle.loads(sent).activations("lstm"), recording.activations("lstm"))
    gone = weakref.ref(recording)
    del recording
    gc.collect()
    assert gone() is None


def test_opens_without_seqscope_and_without_a_warning(folder, copied):
    with xr.open_datatree(folder, engine="zarr") as tree:
        assert tree["activations/lstm"].activations.sizes == {"sample": N, "time": T, "unit": H}
    finish.reopen(LocalStore(copied))
    (copied / "ledger/entries/000002.json").unlink()
    with xr.open_datatree(copied, engine="zarr", consolidated=False) as tree:
        assert tree["states/lstm"].h.sizes == {"sample": N, "time": T, "unit": H}
    assert sq.open(copied).recorded.values.tolist() == [not 32 <= place < 48 for place in range(N)]


# What is not whole

PIECES = [
    "states/zarr.json",
    "activations/lstm/activations/zarr.json",
    "activations/lstm/activations/c/1/0/0",
    "activations/lstm/unit/zarr.json",
    "inputs/value/c/0/0/0",
    "predictions/prediction/zarr.json",
    "length/c/0",
    "statistics/activations/lstm/activations/mean/c/0",
    "ledger/statistics/000001.safetensors.zst",
]


@pytest.mark.parametrize("piece", PIECES)
def test_a_piece_that_is_lost_is_named(copied, piece):
    (copied / piece).unlink()
    told = sq.open(copied).verify()
    assert len(told) == 1
    assert f"'{piece}' is missing" in told[0]
    try:  # in a store that goes on nothing is consolidated: a sentence, or what is there
        finish.reopen(LocalStore(copied))
        recording = sq.open(copied)
        repr(recording), recording.activations("lstm").values, recording.states("lstm").load(), recording.predictions.values
        recording.statistics("lstm"), recording.inputs[20].values, recording.accuracy, recording.size
    except SeqscopeError as error:
        assert "\n" not in error.message  # noqa: PT017


def test_the_root_or_the_ledger_lost(copied, tmp_path):
    ledger = copied / "ledger"
    for entry in sorted(ledger.glob("entries/*")):
        entry.unlink()
    assert not sq.open(copied).recorded.any()
    assert "The entry 0 of the ledger is missing" in sq.open(copied).verify()[0]
    (copied / "zarr.json").unlink()
    with pytest.raises(DataError, match="is no recording of seqscope, or was not begun in full"):
        sq.open(copied)
    with pytest.raises(DataError, match=r"There is no store 'nothing\.zarr'"):
        sq.open("nothing.zarr")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    with pytest.raises(DataError, match="no recording"):
        sq.open(tmp_path / "other")
    xr.Dataset({"x": ("time", [1.0])}).to_zarr(tmp_path / "plain.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(DataError, match="is no recording of seqscope"):
        sq.open(tmp_path / "plain.zarr")
    with pytest.raises(DataError, match="is a file"):
        sq.open(tmp_path / "other/notes.txt")


def test_inputs_that_are_not_there_are_not_taken_for_values(copied):
    (copied / "inputs/value/c/1/0/0").unlink()
    inputs = sq.open(copied).inputs
    assert np.isfinite(inputs[3].values).all()
    with pytest.raises(DataError, match="The inputs of sample 16 are not in"):
        inputs[14:20].loaded()


def test_tokens_that_are_not_there(tmp_path):
    class Reader(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.gru = torch.nn.Embedding(7, 4), torch.nn.GRU(4, 5, batch_first=True)

        def forward(self, x):
            return self.gru(self.embed(x))[0][:, -1]

    random = np.random.default_rng(0)
    tokens = sq.Sequences([random.integers(0, 7, n) for n in (5, 9, 2, 9)])
    sq.Scope(Reader().eval()).record(tokens, tmp_path / "text.zarr", "gru", shard=2)
    assert [part.values.tolist() for part in sq.read(tmp_path / "text.zarr")] == [part.values.tolist() for part in tokens]
    (tmp_path / "text.zarr/inputs/value/c/1/0").unlink()
    with pytest.raises(DataError, match="The inputs of sample 2 are not in"):
        sq.read(tmp_path / "text.zarr")


def test_a_newer_form_is_refused(copied, scope, X):
    root = json.loads((copied / "zarr.json").read_text())
    root["attributes"][skeleton.MARK] = 2
    (copied / "zarr.json").write_text(json.dumps(root))
    for use in (lambda: sq.open(copied), lambda: sq.read(copied), lambda: scope.record(X, copied, ["lstm", "fc"], resume=True)):
        with pytest.raises(DataError, match=r"is a recording of form 2, .* form 1 is read here"):
            use()


def test_killed_at_the_very_end_it_opens_and_is_finished(copied, scope, X, monkeypatch):
    asked = {"states": {"lstm": ["h"]}, "resume": True}
    (copied / "ledger/entries/000002.json").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(skeleton, "consolidate", lambda store: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            scope.record(X, copied, ["lstm", "fc"], **asked)
    assert not sq.open(copied).is_complete
    recording = scope.record(X, copied, ["lstm", "fc"], **asked)
    assert recording.is_complete
    assert recording.verify() == []
    (copied / "statistics/activations/lstm/activations/mean/c/0").unlink()  # what is written at the end is written again
    assert scope.record(X, copied, ["lstm", "fc"], **asked).verify() == []
    (copied / "activations/lstm/unit/c/0").unlink()
    with pytest.raises(DataError, match="can't be gone on with: 'activations/lstm/unit/c/0' is missing"):
        scope.record(X, copied, ["lstm", "fc"], **asked)
