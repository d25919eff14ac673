"""Results as stores, tables and structs, read back by the libraries that people read them with."""

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import scipy.io
import xarray as xr

import seqscope as sq
from seqscope import errors, files

X, y = sq.datasets.japanese_vowels("test")


@pytest.fixture(scope="module")
def scope():
    return sq.Scope(sq.zoo.japanese_vowels())


@pytest.fixture(scope="module")
def hidden(scope):
    return scope.activations(X[:4], "lstm")


@pytest.fixture(scope="module")
def states(scope):
    return scope.states(X[:4], "lstm")


@pytest.fixture(scope="module")
def tree(scope):
    return scope.activations(X[:4])


def as_text(data):
    """Text of any kind as NumPy's plain one."""
    kinds = {name: variable for name, variable in data.variables.items() if variable.dtype.kind in "OT"}
    return data.assign({name: (one.dims, np.array(one.values.tolist(), str), one.attrs) for name, one in kinds.items()})


# Zarr


def test_a_store_gives_an_array_and_a_dataset_back(hidden, states, tmp_path):
    files.write_result(hidden, tmp_path / "h.zarr")
    with xr.open_zarr(tmp_path / "h.zarr", chunks=None) as found:
        xr.testing.assert_equal(as_text(found.load())["activations"], hidden)
        assert found.attrs["layer"] == "lstm"
        assert found["label"].values.tolist() == ["1"] * 4
    files.write_result(states, tmp_path / "s.zarr")
    with xr.open_zarr(tmp_path / "s.zarr", chunks=None) as found:
        xr.testing.assert_identical(as_text(found.load()), as_text(states))


def test_a_store_gives_a_tree_back(tree, tmp_path):
    files.write_result(tree, tmp_path / "t.zarr")
    with xr.open_datatree(tmp_path / "t.zarr", engine="zarr", chunks=None) as found:
        assert set(found.children) == {"lstm", "fc", "softmax"}
        for name, node in tree.children.items():
            xr.testing.assert_equal(as_text(found[name].to_dataset()), node.to_dataset())


def test_a_store_is_written_over_as_a_whole_and_another_folder_never(hidden, tree, tmp_path):
    files.write_result(tree, tmp_path / "a.zarr")
    with pytest.raises(errors.OutputExistsError, match="--force"):
        files.write_result(hidden, tmp_path / "a.zarr")
    files.write_result(hidden, tmp_path / "a.zarr", force=True)
    assert not (tmp_path / "a.zarr" / "fc").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "b.zarr" / "mine.txt").write_text("mine")
    with pytest.raises(errors.OutputExistsError, match="is a folder, which no result is written over"):
        files.write_result(hidden, tmp_path / "b.zarr", force=True)
    sq.Scope(sq.zoo.japanese_vowels()).record(X[:2], tmp_path / "c.zarr", "fc")
    with pytest.raises(errors.OutputExistsError, match="is a recording, which no result is written over"):
        files.write_result(hidden, tmp_path / "c.zarr", force=True)
    assert sq.open(tmp_path / "c.zarr").is_complete


# Parquet


@pytest.mark.parametrize("what", ["hidden", "states"])
def test_a_parquet_file_holds_what_the_csv_file_holds(what, tmp_path, request):
    result = request.getfixturevalue(what)
    files.write_result(result, tmp_path / "a.csv")
    files.write_result(result, tmp_path / "a.parquet")
    found = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pandas()
    pd.testing.assert_frame_equal(found, pd.read_csv(tmp_path / "a.csv", dtype={"label": str}), check_dtype=False, rtol=1e-6)
    assert found.filter(regex="activations|h_").dtypes.iloc[0] == np.float32


# MATLAB


def load(path):
    return scipy.io.loadmat(path, simplify_cells=True)


def test_a_mat_file_says_what_its_axes_are(hidden, tmp_path):
    files.write_result(hidden, tmp_path / "a.mat")
    found = load(tmp_path / "a.mat")["activations"]
    np.testing.assert_array_equal(found["values"], hidden.values)
    assert found["values"].dtype == np.float32
    assert found["dims"].tolist() == ["sample", "time", "unit"]
    assert found["coords"]["label"].tolist() == ["1"] * 4
    np.testing.assert_array_equal(found["coords"]["length"], hidden.length)
    assert found["attrs"]["layer"] == "lstm"


def test_a_mat_file_has_a_struct_for_each_array_and_each_layer(states, tree, tmp_path):
    files.write_result(states, tmp_path / "s.mat")
    found = load(tmp_path / "s.mat")
    for name in "hcifgo":
        np.testing.assert_array_equal(found[name]["values"], states[name].values)
    files.write_result(tree, tmp_path / "t.mat")
    found = load(tmp_path / "t.mat")
    np.testing.assert_array_equal(found["fc"]["activations"]["values"], tree["fc/activations"].values)


def test_names_and_values_that_matlab_does_not_have_are_made_such(tmp_path):
    given = xr.Dataset(
        {
            "1st.gate": ("sample", np.array([1, 2], np.float16)),
            "1st gate": ("sample", [True, False]),
            "word": ((), "one"),
        },
        coords={
            "when": ("sample", np.array(["2020-01-01", "2020-01-02"], "M8[ns]")),
            "lag": ("sample", np.array([1500, 2], "m8[ms]")),
            "unit": [3, 4],
        },
        attrs={"kinds": ["a", "b"], "sizes": np.array([1.0, 2.0])},
    )
    files.write_result(given, tmp_path / "a.mat")
    found = load(tmp_path / "a.mat")
    assert found["x1st_gate"]["values"].tolist() == [1.0, 2.0]
    assert found["x1st_gate_"]["values"].astype(bool).tolist() == [True, False]
    assert found["word"]["values"] == "one"
    assert found["x1st_gate"]["coords"]["when"].tolist()[0].startswith("2020-01-01")
    assert found["x1st_gate"]["coords"]["lag"].tolist() == [1.5, 0.002]
    assert found["unit"]["values"].tolist() == [3, 4]
    assert found["word"]["attrs"]["kinds"].tolist() == ["a", "b"]
    assert found["word"]["attrs"]["sizes"].tolist() == [1.0, 2.0]


def test_what_no_mat_file_can_hold_is_said_before_it_is_written(tmp_path):
    large = xr.DataArray(np.broadcast_to(np.float32(0), (600, 1000, 1000)), dims=("sample", "time", "unit"), name="activations")
    with pytest.raises(errors.TooLargeError, match=r"'activations' would take 2\.4 GB: write \.nc or \.zarr"):
        files.write_result(large, tmp_path / "a.mat")
    assert not list(tmp_path.iterdir())


# All of them


@pytest.mark.parametrize("name", [f"a{ending}" for ending in files.RESULTS])
def test_names_of_several_kinds_are_written_as_text(scope, tmp_path, name):
    mixed = sq.Sequences([x.values for x in X[:4]], labels=np.array([1, "a", 2.5, None], dtype=object))
    files.write_result(scope.activations(mixed, "lstm"), tmp_path / name)
    files.write_result(scope.activations(mixed, "lstm"), tmp_path / name, force=True)
    if name == "a.npz":
        with np.load(tmp_path / name, allow_pickle=False) as found:
            assert found["label"].tolist() == ["1", "a", "2.5", ""]
    if name == "a.mat":
        assert load(tmp_path / name)["activations"]["coords"]["label"].tolist()[:3] == ["1", "a", "2.5"]
    if name == "a.parquet":
        assert pd.read_parquet(tmp_path / name)["label"].unique().tolist() == ["1", "a", "2.5", ""]


@pytest.mark.parametrize(("name", "package"), [("a.zarr", "zarr"), ("a.parquet", "pyarrow")])
def test_a_package_that_is_missing_is_named(hidden, tmp_path, monkeypatch, name, package):
    def missing(module, **said):
        raise errors.MissingPackageError(f"{said['purpose']} needs the package '{module}': seqscope[{said['extra']}]")

    monkeypatch.setattr("seqscope.files.results.require", missing)
    with pytest.raises(errors.MissingPackageError, match=package):
        files.write_result(hidden, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_of_several_files_all_are_there_or_none(tmp_path):
    (tmp_path / "b").write_text("old")

    def fail():
        with files.all_or_none([tmp_path / "a", tmp_path / "b"]) as (first, _):
            first.write_text("new")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"b": "old"}
    with files.all_or_none([tmp_path / "a", tmp_path / "b"]) as made:
        for place in made:
            place.write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "new"}


def test_a_folder_that_may_not_be_written_into(hidden, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    with pytest.raises(errors.DataError, match="Nothing may be written into the folder"):
        files.write_result(hidden, tmp_path / "a.nc")
