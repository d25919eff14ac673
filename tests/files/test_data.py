"""`sq.read`: what all kinds of files share, arrays, text, and the data that commands are given."""

import io
import pickle
import zipfile

import numpy as np
import pytest

import seqscope as sq
from seqscope import errors, files
from seqscope.files.data import FORMATS
from seqscope.text import text_of


@pytest.mark.parametrize(("name", "size"), [("japanese_vowels", 370), ("japanese_vowels:train", 270), ("japanese_vowels:test", 370)])
def test_a_data_set_is_read_by_its_name(name, size):
    assert len(files.read_data(name)) == len(sq.read(name)) == size


def test_a_text_is_read_by_its_name_with_the_characters_of_the_network_that_reads_it():
    X = files.read_data("shakespeare")
    assert repr(X) == "Sequences: 36 sequences, 576 to 1000 steps, 68 channels"
    assert "".join(text_of(x) for x in X) == sq.datasets.shakespeare("test")
    assert "".join(X.channels) == sq.zoo.char_lstm().characters


def test_sequences_are_given_back():
    X = sq.Sequences(np.ones((2, 3, 1)))
    assert sq.read(X) is X


# Arrays


def test_npy_is_left_in_the_models_layout_for_commands_and_taken_in_as_ntc_by_read(tmp_path):
    array = np.random.default_rng(0).random((3, 4, 2))
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(files.read_data(str(tmp_path / "a.npy")), array)
    np.testing.assert_array_equal(sq.read(tmp_path / "a.npy")[2], array[2])


@pytest.mark.parametrize("layout", ["NTC", "NCT", "TNC", "TCN", "CNT", "CTN"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_order_of_axes_gives_the_same_sequences(tmp_path, layout, order):
    array = np.random.default_rng(0).random((3, 4, 2))
    stored = np.einsum(f"NTC->{layout}", array)
    np.save(tmp_path / "a.npy", np.asarray(stored, order=order))
    X = sq.read(tmp_path / "a.npy", layout=layout)
    assert repr(X) == "Sequences: 3 sequences, 4 steps, 2 channels"
    np.testing.assert_array_equal(np.stack(list(X)), array)


@pytest.mark.parametrize(
    ("layout", "shape", "said"),
    [
        (None, (6, 3), "one sequence, 6 steps, 3 channels"),
        ("TC", (6, 3), "one sequence, 6 steps, 3 channels"),
        ("CT", (6, 3), "one sequence, 3 steps, 6 channels"),
        ("NT", (6, 3), "6 sequences, 3 steps, 1 channel"),
        ("TN", (6, 3), "3 sequences, 6 steps, 1 channel"),
    ],
)
def test_an_array_of_two_axes(tmp_path, layout, shape, said):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random(shape, np.float32))
    assert sq.read(tmp_path / "a.npy", layout=layout).describe() == said


def test_whole_numbers_of_two_axes_are_tokens(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(12).reshape(3, 4))
    assert sq.read(tmp_path / "a.npy").describe() == "3 sequences, 4 steps, tokens"
    assert sq.read(tmp_path / "a.npy", layout="TN").describe() == "4 sequences, 3 steps, tokens"


@pytest.mark.parametrize("name", ["X", "data", "anything"])
def test_npz_with_one_array_of_series(tmp_path, name):
    array = np.random.default_rng(0).random((3, 4, 2))
    np.savez(tmp_path / "a.npz", **{name: array})
    np.testing.assert_array_equal(files.read_data(str(tmp_path / "a.npz")), array)
    np.testing.assert_array_equal(sq.read(tmp_path / "a.npz")[1], array[1])


def test_npz_with_labels_and_lengths(tmp_path):
    array = np.random.default_rng(0).random((3, 4, 2))
    np.savez(tmp_path / "a.npz", X=array, y=np.array(["a", "b", "c"]), lengths=np.array([4, 2, 3]))
    for X in (files.read_data(str(tmp_path / "a.npz")), sq.read(tmp_path / "a.npz")):
        assert (X.lengths.tolist(), X.labels.tolist()) == ([4, 2, 3], ["a", "b", "c"])
        np.testing.assert_array_equal(X[1].values, array[1, :2])


def test_npz_with_all_steps_one_after_the_other(tmp_path):
    steps = np.random.default_rng(0).random((9, 2))
    np.savez_compressed(tmp_path / "a.npz", steps=steps, lengths=np.array([4, 5]), y=[7, 8])
    X = sq.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(X[1].values, steps[4:])
    assert X.labels.tolist() == [7, 8]


def test_the_parts_of_a_data_set_go_together(tmp_path):
    parts = {"x_train": np.ones((3, 4, 2)), "y_train": np.arange(3), "x_test": np.zeros((2, 4, 2)), "y_test": np.eye(2, 4)[[0, 1]]}
    np.savez(tmp_path / "a.npz", **parts)
    X = sq.read(tmp_path / "a.npz", x="x_test")
    assert (len(X), X.labels.tolist()) == (2, [0, 1])  # one-hot, as positions
    assert sq.read(tmp_path / "a.npz", x="x_train").labels.tolist() == [0, 1, 2]
    assert sq.read(tmp_path / "a.npz", x="x_train", y=False).labels is None
    with pytest.raises(errors.DataError, match="it holds 'x_test', 'x_train': say which, such as x='x_test'"):
        sq.read(tmp_path / "a.npz")


def test_labels_that_were_found_and_do_not_fit_are_left_out_with_a_notice_and_refused_where_they_were_said(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.ones((3, 4, 2)), y=np.ones((3, 4)))
    with pytest.warns(UserWarning, match=r"'y' has the shape \(3, 4\), and labels are one for each of the 3 sequences: read without"):
        assert sq.read(tmp_path / "a.npz").labels is None
    with pytest.raises(errors.DataError, match="'y' has the shape"):
        sq.read(tmp_path / "a.npz", y="y")


def test_a_text_file_is_one_sequence_of_characters(tmp_path):
    (tmp_path / "a.txt").write_text("so long", encoding="utf-8-sig")
    X = sq.read(tmp_path / "a.txt")
    assert (text_of(X[0]), X.channels) == ("so long", (" ", "g", "l", "n", "o", "s"))


# What is refused


def saved(write, *arrays, **named):
    file = io.BytesIO()
    write(file, *arrays, **named)
    return file.getvalue()


NPY = saved(np.save, np.ones((3, 4, 2)))
NPZ = saved(np.savez, X=np.ones((3, 4, 2)))


@pytest.mark.parametrize("ending", [ending for ending in FORMATS if ending != ".zarr"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xc8\xc9\xca" * 99, r"can't be read|does not begin as|not text in UTF-8|no MAT-file"),
        (b"\0" * 600, r"can't be read|does not begin as|no MAT-file|is not text|no line of a header|no row"),
    ],
)
def test_files_of_nothing_and_of_noise_are_refused_in_a_sentence(tmp_path, ending, content, message):
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    if ending == ".parquet" and content:
        pytest.importorskip("pyarrow")
    with pytest.raises(errors.DataError, match=message) as caught:
        sq.read(path)
    assert str(caught.value).endswith(".")
    assert f"'{path}'" in str(caught.value)


@pytest.mark.parametrize("ending", [ending for ending in FORMATS if ending not in (".zarr", ".npz")])
def test_a_file_with_another_ending_is_named_by_what_it_is(tmp_path, ending):
    (tmp_path / f"a{ending}").write_bytes(NPZ)
    with pytest.raises(errors.DataError, match=r"is an archive of NumPy arrays, and not a \.|is no MAT-file"):
        sq.read(tmp_path / f"a{ending}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"plain words", r"is text, and not a \.npy file"),
        ("a.npy", NPY[:150], "cut short: 192 bytes of values were expected and it has 22 bytes"),
        ("a.npy", NPY[:40], "can't be read as .npy"),
        ("a.npz", NPZ[:100], "can't be read as .npz"),
        ("a.npz", saved(np.savez, foo=np.ones(3), bar=np.ones(3)), "it holds 'foo', 'bar', and none is known to be the series"),
        ("a.npz", saved(np.savez, steps=np.ones((9, 2)), lengths=np.array([4, 4])), "add up to 8 and it holds 9 steps"),
        ("a.npz", saved(np.savez, steps=np.ones((9, 2)), lengths=np.array([9.5, 4])), "are not whole numbers"),
        ("a.npz", saved(np.savez), "holds nothing|none|is a zip archive"),
        ("a.npy", saved(np.save, np.array(["a", "b"])), "'<U1'|<U1"),
        ("a.npy", saved(np.save, np.full((2, 3, 1), np.inf)), "Infinity in sample 0, step 0, channel 0"),
        ("a.xyz", b"", "neither a data set .* nor a file of a known kind"),
        ("a.npy", b"version https://git-lfs.github.com/spec/v1\n", "is a git-LFS pointer, and not a .npy file"),
    ],
)
def test_files_that_can_not_be_read_are_refused_in_a_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(errors.DataError, match=message):
        sq.read(tmp_path / name)


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "b.npy", "a.mat", "a.csv"])
def test_a_pickle_is_not_opened(tmp_path, name):
    bomb = np.array([Bomb(tmp_path / "ran")], dtype=object)
    write = {"a.npy": lambda file: np.save(file, bomb, allow_pickle=True), "a.npz": lambda file: np.savez(file, X=bomb)}
    with (tmp_path / name).open("wb") as file:
        write.get(name, lambda file: pickle.dump(bomb, file))(file)
    with pytest.raises(errors.DataError, match=r"is a pickle|which is pickled and would run code|no MAT-file"):
        sq.read(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def bomb_of_zeros(path, declared=2**30):
    """An `.npz` of so many bytes of zeros, written piece by piece."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("X.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (declared // 8, 1, 1)})
        for _ in range(declared // 2**20):
            file.write(bytes(2**20))


def test_an_archive_that_would_fill_the_memory_is_not_inflated(tmp_path, monkeypatch):
    monkeypatch.setattr("seqscope.files.arrays._FREE_BYTES", 2**22)
    bomb_of_zeros(tmp_path / "a.npz", 2**23)
    with pytest.raises(errors.DataError, match=r"'X' declares 8\.39 MB in .* kB, as files do that are made to fill the memory"):
        sq.read(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_header_that_declares_more_than_there_is(tmp_path, name):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 64, 1)})
    if name == "a.npy":
        (tmp_path / name).write_bytes(header.getvalue())
    else:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("X.npy", header.getvalue())
    with pytest.raises(errors.DataError, match="cut short: 563 TB"):
        sq.read(tmp_path / name)


def test_what_does_not_fit_in_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("seqscope.ram.available", lambda: 1000)
    (tmp_path / "a.npz").write_bytes(saved(np.savez, X=np.ones((9, 20, 1))))
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * 300)
    (tmp_path / "i.npy").write_bytes(saved(np.save, np.ones((9, 20, 1), np.int8)))
    for name in ("a.npz", "a.csv", "i.npy"):
        with pytest.raises(errors.TooLargeError, match=f"'{tmp_path / name}'.* would take .* of memory are free"):
            sq.read(tmp_path / name)


def test_files_that_are_not_there_and_folders(tmp_path):
    with pytest.raises(errors.DataError, match="There is no file"):
        sq.read(tmp_path / "a.npy")
    with pytest.raises(errors.DataError, match="There is no folder"):
        sq.read(tmp_path / "a.zarr")
    (tmp_path / "b.npy").mkdir()
    with pytest.raises(errors.DataError, match="is a folder: expected a file"):
        sq.read(tmp_path / "b.npy")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.npy", {"x": "X"}, r"x='X' means nothing for a \.npy file: it takes layout="),
        ("a.npy", {"layout": "XYZ"}, "the layout 'XYZ' is not known: say one of 'NTC'"),
        ("a.npy", {"layout": "NT"}, r"the layout NT .* has 2 axes, and the array has the shape \(3, 4, 2\)"),
        ("a.npz", {"sample": "id"}, r"sample='id' means nothing for a \.npz file: it takes x=, y=, layout="),
        ("a.npz", {"x": "Y"}, r"it holds no 'Y' \(x=\)"),
        ("japanese_vowels", {"layout": "NTC"}, "means nothing for the data set"),
    ],
)
def test_options_that_do_not_fit_the_file(tmp_path, monkeypatch, name, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.npy").write_bytes(NPY)
    (tmp_path / "a.npz").write_bytes(NPZ)
    with pytest.raises(errors.DataError, match=message):
        sq.read(name, **options)


def test_a_command_names_one_array_of_a_file_behind_a_colon(tmp_path):
    """As a workspace of MATLAB has them: parts of the data set, and whatever else there was."""
    parts = {"XTrain": np.zeros((3, 4, 2)), "XTest": np.ones((2, 4, 2)), "YTest": np.array([5, 6]), "rate": np.array(0.1)}
    np.savez(tmp_path / "all.npz", **parts)
    with pytest.raises(errors.DataError, match=r"it holds 'XTest', 'XTrain': say which"):
        files.read_data(str(tmp_path / "all.npz"))
    X = files.read_data(f"{tmp_path / 'all.npz'}:XTest")
    assert (len(X), X.labels.tolist()) == (2, [5, 6])
    with pytest.raises(errors.DataError, match=r"it holds no 'XTets' \(x=\): the nearest are 'XTest'"):
        files.read_data(f"{tmp_path / 'all.npz'}:XTets")
    np.save(tmp_path / "one:two.npy", parts["XTest"])
    assert files.read_data(str(tmp_path / "one:two.npy")).shape == (2, 4, 2)
