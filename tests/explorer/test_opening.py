"""What may be opened, what is said of what may not, and the Python that opens it again."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from torch import nn

import seqscope as sq
from nets import Net, series
from seqscope.errors import DataError, MissingPackageError, ModelError, SampleError, SeqscopeError, UnsupportedError
from seqscope.explorer.opening import source_of
from seqscope.recording.shards import Shards


def net():
    return Net(lambda net, x: net.fc(net.rnn(x)[0][:, -1]), rnn=nn.GRU(3, 4, batch_first=True), fc=nn.Linear(4, 2))


@pytest.fixture(scope="module")
def scope():
    return sq.Scope(net())


@pytest.fixture(scope="module")
def X():
    return sq.Sequences(series(6), labels=[0, 1] * 3)


@pytest.fixture(scope="module")
def whole(scope, X, tmp_path_factory):
    """A recording in three shards of two samples."""
    place = tmp_path_factory.mktemp("whole") / "run.zarr"
    scope.record(X, place, "*", states=True, shard=2)
    return place


@pytest.fixture
def store(whole, tmp_path):
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "run.zarr"))


@pytest.fixture
def half(scope, X, tmp_path, monkeypatch):
    """A recording that was interrupted in its third shard."""
    write = Shards.write

    def stop(self, made, beside=None):
        if made.number == 2:
            raise KeyboardInterrupt
        return write(self, made, beside)

    with monkeypatch.context() as patched:
        patched.setattr(Shards, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            scope.record(X, tmp_path / "half.zarr", "*", shard=2)
    return tmp_path / "half.zarr"


def in_a_line(error):
    assert "\n" not in error.value.message
    return error.value.message


# What is given


def test_a_path_a_recording_and_a_store_are_the_same(whole):
    for given in (whole, str(whole), sq.open(whole), zarr.storage.LocalStore(whole, read_only=True)):
        source = source_of(given)
        assert (len(source), source.name, list(source.layers)) == (6, "run.zarr", ["rnn"])


def test_a_model_is_taken_as_a_scope_is(X):
    assert source_of(net(), X).layers == source_of(sq.Scope(net()), X).layers


def test_one_sequence_is_a_data_set_of_one(scope, X):
    source = source_of(scope, X[2])
    assert len(source) == 1
    np.testing.assert_array_equal(source.input(0).values, X[2].values)


def test_the_data_that_was_given_is_left_as_it_is(scope, X):
    given = X[[0, 1]]
    source_of(scope, given)
    assert not given.single
    assert len(given) == 2


def test_files_are_read(scope, X, tmp_path):
    np.savez(tmp_path / "data.npz", X=np.stack([X[place].values for place in range(6)]), y=X.labels)
    source = source_of(scope, tmp_path / "data.npz")
    np.testing.assert_array_equal(source.input(3).values, X[3].values)


def test_a_model_stands_beside_its_recording(whole, scope):
    assert source_of(whole, scope=sq.Scope(net_like(scope))).scope is not None


def net_like(scope):
    same = net()
    same.load_state_dict(scope.model.state_dict())
    return same


# What can't be opened


@pytest.mark.parametrize("name", ["nowhere.zarr", "nowhere/", "s3x://bucket/run.zarr"])
def test_a_store_that_is_not_there(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SeqscopeError) as error:
        source_of(name)
    assert name.rstrip("/").rpartition("/")[2][:5] in in_a_line(error)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.keras", "nowhere.onnx"])
def test_a_file_that_is_not_there_is_neither_store_nor_model(tmp_path, name, monkeypatch, X):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=f"There is no store and no model file '{name}'."):
        source_of(name, X)


def test_a_folder_that_is_no_recording(tmp_path):
    with pytest.raises(DataError, match="There is no store"):
        source_of(tmp_path)
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(DataError, match="no recording of seqscope"):
        source_of(tmp_path / "other.zarr")


@pytest.mark.parametrize("given", [3, None, [1, 2], {"a": 1}, np.zeros((2, 3)), b"run.zarr"])
def test_what_is_neither_store_nor_model(given, X):
    with pytest.raises(SeqscopeError) as error:
        source_of(given, X)
    assert len(in_a_line(error)) > 20


def test_a_model_without_data(scope):
    with pytest.raises(DataError, match=r"A model was given without data: say what it is to run on, as in explore\(scope, X\)."):
        source_of(scope)


@pytest.mark.parametrize("given", [series(4, 9, 5), np.zeros((3,)), "nowhere.npz", [], np.full((2, 9, 3), np.nan)])
def test_data_that_does_not_fit_the_model(scope, given):
    with pytest.raises(SeqscopeError) as error:
        source_of(scope, given)
    assert len(in_a_line(error)) > 20


def test_a_model_without_steps_has_nothing_to_look_at(X):
    flat = Net(lambda net, x: net.fc(x.mean(1)), fc=nn.Linear(3, 2))
    with pytest.raises(
        DataError, match=r"There is nothing to look at over time: no layer of Net \(torch\) has units with a value at each step."
    ):
        source_of(flat, X)


def test_a_scope_beside_a_model(scope, X):
    with pytest.raises(DataError, match="scope= is the model of a recording"):
        source_of(scope, X, scope=scope)


def test_the_model_of_another_recording(whole):
    torch.manual_seed(1)  # the recorded one may have been made under the seed that each test begins with
    with pytest.raises(DataError, match=r"'.*run.zarr' was recorded from another model \(Net; other weights or layers than") as error:
        source_of(whole, scope=sq.Scope(net()))
    in_a_line(error)


def test_a_model_of_which_it_can_not_be_told(whole, scope, monkeypatch):
    def refuse(self):
        raise UnsupportedError("It does not say what it computes with.")

    monkeypatch.setattr(sq.Scope, "digest", property(refuse))
    with pytest.raises(DataError, match=r"It can't be told whether '.*run.zarr' was made from .*: It does not say"):
        source_of(whole, scope=scope)


@pytest.mark.parametrize("given", [series(5), series(6, 8)])
def test_other_data_than_was_recorded(whole, scope, given):
    for options in ({}, {"scope": scope}):
        with pytest.raises(DataError, match=r"The data is not what '.*run.zarr' was recorded from") as error:
            source_of(whole, given, **options)
        in_a_line(error)


def test_the_inputs_may_be_given_where_they_were_not_recorded(scope, X, tmp_path):
    scope.record(X, tmp_path / "bare.zarr", "*", inputs=False)
    for options in ({}, {"scope": scope}):
        source = source_of(tmp_path / "bare.zarr", X, **options)
        np.testing.assert_array_equal(source.input(4).values, X[4].values)


def test_without_the_package_for_stores(whole, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingPackageError, match=r"needs the package 'zarr', which is not installed: pip install 'seqscope\[record\]'"):
        source_of(whole)


# A store that is being written


def test_a_store_that_is_being_written_is_looked_at_as_far_as_it_goes(half, scope, X):
    source = source_of(half)
    assert source.state == "STILL BEING WRITTEN: 4 of 6 recorded when this page was opened"
    assert source.about.startswith("STILL BEING WRITTEN: 4 of 6")
    assert source.there.tolist() == [True] * 4 + [False] * 2
    assert len(source) == 6
    np.testing.assert_allclose(source.values("rnn", "", 3).values, scope.activations(X[3], "rnn").values, rtol=1e-12)
    for ask in (lambda: source.values("rnn", "", 4), lambda: source.input(5)):
        with pytest.raises(SampleError, match=r"Sample [45] was not recorded yet when this page was opened."):
            ask()
    assert source.samples["prediction"].tolist()[4:] == ["", ""]
    assert source.samples["wrong"].tolist()[4:] == [False, False]


def test_a_store_in_which_nothing_is_recorded_yet(scope, X, tmp_path, monkeypatch):
    def stop(self, made, beside=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(Shards, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        scope.record(X, tmp_path / "half.zarr", "*", shard=2)
    with pytest.raises(DataError, match=r"Nothing of '.*half.zarr' is recorded yet: wait, or see that what records it runs."):
        source_of(tmp_path / "half.zarr")


def test_samples_that_the_model_failed_on_say_so(tmp_path):
    def run(net, x):
        if (x[:, 0, 0] > 10).any():
            raise ValueError("too large")
        return net.fc(net.rnn(x)[0][:, -1])

    data = series(8)
    data[6, 0, 0] = 99.0
    picky = Net(run, rnn=nn.GRU(3, 4, batch_first=True), fc=nn.Linear(4, 2))
    sq.Scope(picky, layout="NTC").record(data, tmp_path / "run.zarr", "*", on_error="skip")
    source = source_of(tmp_path / "run.zarr")
    assert source.there.tolist() == [True] * 6 + [False, True]
    assert "the model failed on 1" in source.state
    with pytest.raises(SampleError, match=r"The model failed on sample 6 when it was recorded: .*too large"):
        source.values("rnn", "", 6)


# A store of which a part is gone


def test_a_whole_store_says_nothing_of_its_state(whole):
    source = source_of(whole)
    assert source.state == ""
    assert source.there.all()


def consolidated(store):
    """Take back what Zarr keeps of all groups in one place, as in a store that was copied by hand."""
    said = json.loads((store / "zarr.json").read_text())
    said.pop("consolidated_metadata", None)
    (store / "zarr.json").write_text(json.dumps(said))


def test_without_its_root_it_is_no_recording(store):
    (store / "zarr.json").unlink()
    with pytest.raises(DataError) as error:
        source_of(store)
    in_a_line(error)


@pytest.mark.parametrize("part", ["states/rnn", "states", "activations/rnn", "activations", "predictions", "inputs", "statistics"])
@pytest.mark.parametrize("kept", [True, False], ids=["kept in one place", "not kept"])
def test_without_a_group_it_is_said_and_the_rest_goes_on(store, part, kept):
    shutil.rmtree(store / part)
    if not kept:
        consolidated(store)
    try:
        source = source_of(store)
    except DataError as error:
        assert "\n" not in error.message  # noqa: PT017
        assert not kept
        return
    said = [source.state]
    for name, shown in source.layers.items():
        for state in shown.states:
            try:
                assert source.values(name, state, 1).notnull().all()
            except DataError as error:
                said.append(error.message)
    try:
        source.input(1)
        source.predictions()
    except DataError as error:
        said.append(error.message)
    assert all("\n" not in sentence for sentence in said)
    assert len(source.samples) == 6
    if part not in ("statistics", "inputs") or (part == "inputs" and kept):
        assert any(said), "a part is lost and nothing says so"


@pytest.mark.parametrize(("group", "state"), [("activations/rnn/activations", ""), ("states/rnn/z", "z")])
def test_without_the_file_of_some_samples_these_say_so_and_the_others_are_looked_at(store, group, state):
    shutil.rmtree(store / group / "c" / "1")
    source = source_of(store)
    assert source.values("rnn", state, 0).notnull().all()
    with pytest.raises(DataError, match=rf"What 'rnn' does in sample 3 is not in '.*run.zarr' any more: '{group}/c/1/0/0' is missing"):
        source.values("rnn", state, 3)


def test_a_file_that_was_cut_short_is_a_sentence(store):
    file = next(path for path in (store / "activations/rnn/activations/c/1").rglob("*") if path.is_file())
    file.write_bytes(file.read_bytes()[:40])
    source = source_of(store)
    with pytest.raises(DataError, match="What 'rnn' does in sample 2") as error:
        source.values("rnn", "", 2)
    in_a_line(error)
    assert source.values("rnn", "", 5).notnull().all()


def test_without_predictions_samples_have_none(store):
    shutil.rmtree(store / "predictions" / "prediction" / "c" / "1")
    source = source_of(store)
    assert source.samples["prediction"].tolist()[2:4] == ["", ""]
    assert "" not in source.samples["prediction"].tolist()[4:]
    assert source.state == "The predictions of 2 samples are missing"


def test_without_its_ledger_it_is_looked_at_and_says_so(store):
    shutil.rmtree(store / "ledger" / "entries")
    source = source_of(store)
    assert source.state == "DAMAGED: the ledger knows of 0 of 6 samples, recording.verify() says what is lost"
    assert source.values("rnn", "", 3).notnull().all()
    assert source.there.all()


# The Python that opens it again


def test_the_python_opens_the_same(whole, X, tmp_path, monkeypatch):
    monkeypatch.chdir(whole.parent)
    names = {}
    exec(source_of("run.zarr").opening, names)
    assert len(names["recording"]) == len(names["X"]) == 6


def test_of_a_model_file_and_a_data_file_the_python_is_known(tmp_path, monkeypatch):
    import onnx

    import onnx_nets

    monkeypatch.chdir(tmp_path)
    onnx.save(onnx_nets.recurrent_net().model, "net.onnx")
    np.save("data.npy", series().astype(np.float32))
    source = source_of("net.onnx", "data.npy")
    names = {}
    exec(source.opening, names)
    found = eval(source.code("lstm", "h", 2), names)
    np.testing.assert_array_equal(found.values, source.values("lstm", "h", 2).values)


def test_objects_are_named_where_the_python_is_not_known(scope, X, whole):
    assert "# scope: as it was given to sq.explore" in source_of(scope, X).opening
    assert "# recording: as it was given to sq.explore" in source_of(sq.open(whole)).opening
    exec(source_of(scope, X).opening, {})
    exec(source_of(sq.open(whole), scope=sq.Scope(net_like(scope))).opening, {"recording": sq.open(whole)})


def test_what_is_said_of_the_python_is_taken(scope, X, whole):
    code = {"scope": "scope = sq.Scope(net)", "X": "X = scope.sequences(files.read_data('data.npz'))"}
    said = source_of(scope, X, code=code).opening
    assert said.splitlines() == ["import seqscope as sq", "from seqscope import files", *code.values()]
