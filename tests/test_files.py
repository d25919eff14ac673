import textwrap

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import save_file

import seqscope as sq
from seqscope import errors, files
from seqscope.text import text_of
from seqscope.zoo.torch import JapaneseVowels


@pytest.fixture
def hidden():
    X, _ = sq.datasets.japanese_vowels("test")
    return sq.Scope(sq.zoo.japanese_vowels()).activations(X[:4], "lstm")


# Data


@pytest.mark.parametrize(("name", "size"), [("japanese_vowels", 370), ("japanese_vowels:train", 270), ("japanese_vowels:test", 370)])
def test_a_data_set_is_read_by_its_name(name, size):
    assert len(files.read_data(name)) == size


def test_a_text_is_read_by_its_name_with_the_characters_of_the_network_that_reads_it():
    X = files.read_data("shakespeare")
    assert repr(X) == "Sequences: 36 sequences, 576 to 1000 steps, 68 channels"
    assert "".join(text_of(x) for x in X) == sq.datasets.shakespeare("test")
    assert "".join(X.channels) == sq.zoo.char_lstm().characters


def test_npy_is_read_as_it_is(tmp_path):
    array = np.random.default_rng(0).random((3, 4, 2))
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(files.read_data(str(tmp_path / "a.npy")), array)


@pytest.mark.parametrize("name", ["X", "data", "anything"])
def test_npz_with_one_array_of_series(tmp_path, name):
    array = np.random.default_rng(0).random((3, 4, 2))
    np.savez(tmp_path / "a.npz", **{name: array})
    np.testing.assert_array_equal(files.read_data(str(tmp_path / "a.npz")), array)


def test_npz_with_labels_and_lengths(tmp_path):
    array = np.random.default_rng(0).random((3, 4, 2))
    np.savez(tmp_path / "a.npz", X=array, y=np.array(["a", "b", "c"]), lengths=np.array([4, 2, 3]))
    X = files.read_data(str(tmp_path / "a.npz"))
    assert (X.lengths.tolist(), X.labels.tolist()) == ([4, 2, 3], ["a", "b", "c"])
    np.testing.assert_array_equal(X[1].values, array[1, :2])


def test_npz_with_all_steps_one_after_the_other(tmp_path):
    steps = np.random.default_rng(0).random((9, 2))
    np.savez(tmp_path / "a.npz", steps=steps, lengths=np.array([4, 5]))
    X = files.read_data(str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(X[1].values, steps[4:])


def test_csv_with_samples_times_and_labels(tmp_path):
    (tmp_path / "a.csv").write_text("sample,time,label,ax,ay\ns1,0.0,walk,1,2\ns1,0.5,walk,3,4\ns2,0.0,run,5,6\n")
    X = files.read_data(str(tmp_path / "a.csv"))
    assert (X.samples.tolist(), X.labels.tolist(), X.channels) == (["s1", "s2"], ["walk", "run"], ("ax", "ay"))
    np.testing.assert_array_equal(X[0].values, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(X[0].time, [0.0, 0.5])


def test_csv_without_samples_is_one_sequence(tmp_path):
    (tmp_path / "a.csv").write_text("time,ax,ay\n0.0,1,2\n0.5,3,4\n")
    X = files.read_data(str(tmp_path / "a.csv"))
    assert X.single
    np.testing.assert_array_equal(X[0].values, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(X[0].time, [0.0, 0.5])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"", "can't be read as .npy"),
        ("a.npz", b"not a zip", "can't be read as .npz"),
        ("a.csv", b"", "can't be read as .csv"),
        ("a.csv", b"a,b\n1,2\n3,4,5\n", "can't be read as .csv"),
        ("a.csv", b"a,b\n1,x\n", "'b'"),
        ("a.xyz", b"", "neither a data set .* nor a file of a known kind"),
    ],
)
def test_files_that_can_not_be_read_are_refused_in_a_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(errors.DataError, match=message):
        files.read_data(str(tmp_path / name))


def test_a_pickle_in_an_npy_file_is_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(errors.DataError, match=r"can't be read as \.npy"):
        files.read_data(str(tmp_path / "a.npy"))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(errors.DataError, match="There is no file"):
        files.read_data(str(tmp_path / "a.npy"))


def test_npz_without_series_lists_what_it_holds(tmp_path):
    np.savez(tmp_path / "a.npz", foo=np.ones(3), bar=np.ones(3))
    with pytest.raises(errors.DataError, match="'foo', 'bar'"):
        files.read_data(str(tmp_path / "a.npz"))


def test_npz_whose_lengths_do_not_add_up(tmp_path):
    np.savez(tmp_path / "a.npz", steps=np.ones((9, 2)), lengths=np.array([4, 4]))
    with pytest.raises(errors.DataError, match="add up to 8 and it holds 9 steps"):
        files.read_data(str(tmp_path / "a.npz"))


# Models


@pytest.fixture
def module_here(tmp_path, monkeypatch):
    (tmp_path / "my_models_for_files.py").write_text(
        textwrap.dedent("""
        from seqscope.zoo.torch import JapaneseVowels as make
        value = 3
        def fails():
            return 1 / 0
        """)
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_models_for_files"


def test_a_model_is_made_by_a_callable_in_the_current_folder(module_here):
    assert isinstance(files.open_model(f"{module_here}:make"), JapaneseVowels)


def test_weights_fill_the_model(module_here, tmp_path):
    wanted = sq.zoo.japanese_vowels().state_dict()
    save_file(wanted, tmp_path / "w.safetensors")
    found = files.open_model(f"{module_here}:make", tmp_path / "w.safetensors").state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_weights_that_do_not_fit_are_refused_by_name(module_here, tmp_path):
    weights = dict(sq.zoo.japanese_vowels().state_dict())
    weights["extra"] = weights.pop("fc.bias")
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(errors.ModelError, match=r"lacks 'fc.bias'; it has 'extra'"):
        files.open_model(f"{module_here}:make", tmp_path / "w.safetensors")


def test_weights_of_another_shape_are_refused_with_both_shapes(module_here, tmp_path):
    weights = dict(sq.zoo.japanese_vowels().state_dict())
    weights["fc.bias"] = torch.zeros(8)
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(errors.ModelError, match=r"'fc.bias'.*\(8,\).*\(9,\)"):
        files.open_model(f"{module_here}:make", tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [b"", b"garbage garbage garbage", None])
def test_weights_that_can_not_be_read(module_here, tmp_path, content):
    if content is not None:
        (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(errors.ModelError, match="can't be read as safetensors"):
        files.open_model(f"{module_here}:make", tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("japanese_vowel", "the nearest is 'japanese_vowels'"),
        ("no_such_module_at_all:make", "'no_such_module_at_all' of .* can't be found"),
        ("my_models_for_files:nothing", "has no 'nothing'"),
        ("my_models_for_files:fails", "raised ZeroDivisionError"),
        ("my_models_for_files:value", "raised TypeError"),
    ],
)
def test_models_that_can_not_be_made(module_here, source, message):
    with pytest.raises(errors.ModelError, match=message):
        files.open_model(source)


# Results


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
    with pytest.raises(errors.UnsupportedError, match=r"'\.xlsx'.*'\.nc', '\.npz', '\.csv'"):
        files.write_result(hidden, tmp_path / "a.xlsx")


def test_a_folder_that_is_not_there(hidden, tmp_path):
    with pytest.raises(errors.DataError, match="There is no folder"):
        files.write_result(hidden, tmp_path / "nowhere" / "a.nc")


def test_a_csv_holds_one_layer(tmp_path):
    tree = sq.Scope(sq.zoo.japanese_vowels()).activations(sq.datasets.japanese_vowels("test")[0][:3])
    with pytest.raises(errors.UnsupportedError, match="--layer"):
        files.write_result(tree, tmp_path / "a.csv")
