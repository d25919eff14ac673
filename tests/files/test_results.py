import numpy as np
import pytest
import xarray as xr

import seqscope as sq
from seqscope import errors, files


@pytest.fixture
def hidden():
    X, _ = sq.datasets.japanese_vowels("test")
    return sq.Scope(sq.zoo.japanese_vowels()).activations(X[:4], "lstm")


def test_netcdf_gives_the_array_back(hidden, tmp_path):
    files.write_result(hidden, tmp_path / "a.nc")
    with xr.open_dataarray(tmp_path / "a.nc", engine="h5netcdf") as found:
        xr.testing.assert_identical(found.load(), hidden)


def test_netcdf_gives_the_tree_back(tmp_path):
    tree = sq.Scope(sq.zoo.japanese_vowels()).activations(sq.datasets.japanese_vowels("test")[0][:3])
    files.write_result(tree, tmp_path / "a.nc")
    with xr.open_datatree(tmp_path / "a.nc", engine="h5netcdf") as found:
        xr.testing.assert_identical(found.load(), tree)


def test_npz_holds_values_and_coordinates(hidden, tmp_path):
    files.write_result(hidden, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["activations"], hidden)
        assert found["label"].tolist() == hidden.label.values.tolist()


def test_npz_of_a_tree_names_the_layers(tmp_path):
    tree = sq.Scope(sq.zoo.japanese_vowels()).activations(sq.datasets.japanese_vowels("test")[0][:3])
    files.write_result(tree, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as found:
        np.testing.assert_array_equal(found["lstm/activations"], tree["lstm/activations"])
        assert found["sample"].tolist() == [0, 1, 2]


def test_csv_has_a_row_for_each_value_and_none_for_padding(hidden, tmp_path):
    files.write_result(hidden, tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert len(lines) == 1 + int(hidden.length.sum()) * 100
    row = dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))
    assert float(row["activations"]) == pytest.approx(float(hidden.sel(sample=3, unit=99, time=int(row["time"]))), rel=1e-6)


def test_a_file_that_exists_is_kept_unless_forced(hidden, tmp_path):
    (tmp_path / "a.nc").write_text("mine")
    with pytest.raises(errors.OutputExistsError, match="--force"):
        files.write_result(hidden, tmp_path / "a.nc")
    assert (tmp_path / "a.nc").read_text() == "mine"
    files.write_result(hidden, tmp_path / "a.nc", force=True)
    assert xr.open_dataarray(tmp_path / "a.nc", engine="h5netcdf").sizes == hidden.sizes


def test_a_failure_while_writing_leaves_the_old_file(hidden, tmp_path, monkeypatch):
    (tmp_path / "a.npz").write_text("mine")

    def half(path, **arrays):
        path.write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez_compressed", half)
    with pytest.raises(OSError, match="No space"):
        files.write_result(hidden, tmp_path / "a.npz", force=True)
    assert (tmp_path / "a.npz").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_an_unknown_ending_lists_the_known_ones(hidden, tmp_path):
    with pytest.raises(errors.UnsupportedError, match=r"'\.xlsx'.*'\.nc', '\.zarr', '\.npz', '\.csv', '\.parquet', '\.mat'"):
        files.write_result(hidden, tmp_path / "a.xlsx")


def test_a_folder_that_is_not_there(hidden, tmp_path):
    with pytest.raises(errors.DataError, match="There is no folder"):
        files.write_result(hidden, tmp_path / "nowhere" / "a.nc")


def test_a_csv_holds_one_layer(tmp_path):
    tree = sq.Scope(sq.zoo.japanese_vowels()).activations(sq.datasets.japanese_vowels("test")[0][:3])
    for name in ("a.csv", "a.parquet"):
        with pytest.raises(errors.UnsupportedError, match="--layer"):
            files.write_result(tree, tmp_path / name)
