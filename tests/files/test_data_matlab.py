"""MAT-files: written by SciPy, by hand as MATLAB writes version 7.3, and by mat-io; read back against what was written."""

import sys

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io

import seqscope as sq
from seqscope import errors

RANDOM = np.random.default_rng(0)
SHAPES = ((2, 4), (2, 6), (2, 5))


@pytest.fixture
def matrices():
    """Three sequences as MATLAB's networks take them, (channel, time)."""
    return [RANDOM.standard_normal(shape) for shape in SHAPES]


def cells(items):
    """A cell array, a column."""
    array = np.empty((len(items), 1), object)
    array[:, 0] = items
    return array


def write_v5(path, **variables):
    """As MATLAB's -v7 does it: deflated."""
    scipy.io.savemat(path, {n: cells(v) if isinstance(v, list) else v for n, v in variables.items()}, do_compression=True)


def write_v73(path, **variables):
    """As MATLAB does it: HDF5 behind a header of 512 bytes, axes turned round, cells as references into #refs#, texts as codes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")
        for name, value in variables.items():
            if isinstance(value, list):
                places = [put(refs, f"{name}_{place}", item).ref for place, item in enumerate(value)]
                made = file.create_dataset(name, (1, len(value)), h5py.ref_dtype)
                made[0] = places
                made.attrs["MATLAB_class"] = np.bytes_("cell")
            else:
                put(file, name, value)
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  5 10:00:00 2026 HDF5 schema 1.00 .".ljust(116) + bytes(8)
    with open(path, "r+b") as file:
        file.write(header + b"\x00\x02IM")


def put(group, name, value):
    if isinstance(value, str):
        codes = np.array([[ord(letter)] for letter in value], np.uint16)
        made = group.create_dataset(name, data=codes)
        made.attrs.update({"MATLAB_class": np.bytes_("char"), "MATLAB_int_decode": 2})
        return made
    value = np.atleast_2d(value)
    kind = {"float64": "double", "float32": "single"}.get(str(value.dtype), str(value.dtype))
    made = group.create_dataset(name, data=value.T, compression="gzip", chunks=True)
    made.attrs["MATLAB_class"] = np.bytes_(kind)
    return made


WRITERS = pytest.mark.parametrize("write", [write_v5, write_v73])


@WRITERS
def test_a_cell_array_of_channels_by_time_with_texts_as_labels(tmp_path, matrices, write):
    write(tmp_path / "a.mat", XTrain=matrices, YTrain=["walk", "run", "walk"])
    X = sq.read(tmp_path / "a.mat")
    assert (X.describe(), X.labels.tolist()) == ("3 sequences, 4 to 6 steps, 2 channels", ["walk", "run", "walk"])
    for x, matrix in zip(X, matrices, strict=True):
        np.testing.assert_array_equal(x.values, matrix.T)


@WRITERS
def test_matrices_of_time_by_channel_are_told_by_the_axis_that_is_alike(tmp_path, matrices, write):
    write(tmp_path / "a.mat", X=[matrix.T for matrix in matrices], Y=np.array([[3.0], [1.0], [2.0]]))
    X = sq.read(tmp_path / "a.mat")
    assert X.labels.tolist() == [3, 1, 2]
    np.testing.assert_array_equal(X[1].values, matrices[1].T)


@WRITERS
def test_matrices_alike_in_both_axes_are_channels_by_time_unless_said(tmp_path, write):
    block = list(RANDOM.standard_normal((3, 4, 6)))
    write(tmp_path / "a.mat", X=block)
    np.testing.assert_array_equal(sq.read(tmp_path / "a.mat")[2].values, block[2].T)
    np.testing.assert_array_equal(sq.read(tmp_path / "a.mat", layout="TC")[2].values, block[2])


@WRITERS
@pytest.mark.parametrize(("layout", "axes"), [(None, (0, 1, 2)), ("CTN", (2, 1, 0)), ("NCT", (0, 2, 1))])
def test_an_array_is_indexed_as_in_matlab(tmp_path, write, layout, axes):
    array = RANDOM.standard_normal((3, 4, 2))
    write(tmp_path / "a.mat", X=array)
    np.testing.assert_array_equal(np.stack(list(sq.read(tmp_path / "a.mat", layout=layout))), array.transpose(axes))


@WRITERS
def test_a_matrix_has_to_be_said_and_a_vector_not(tmp_path, write):
    matrix = RANDOM.standard_normal((3, 5))
    write(tmp_path / "a.mat", signal=matrix, vector=matrix[:1])
    with pytest.raises(errors.DataError, match=r"'signal' is a matrix of 3 x 5: say layout='CT'"):
        sq.read(tmp_path / "a.mat", x="signal")
    np.testing.assert_array_equal(sq.read(tmp_path / "a.mat", x="signal", layout="CT")[0].values, matrix.T)
    assert sq.read(tmp_path / "a.mat", x="signal", layout="NT").describe() == "3 sequences, 5 steps, 1 channel"
    assert sq.read(tmp_path / "a.mat", x="vector").describe() == "one sequence, 5 steps, 1 channel"


@WRITERS
def test_training_and_test_sets_in_one_file(tmp_path, matrices, write):
    write(tmp_path / "a.mat", XTrain=matrices, YTrain=["a", "b", "c"], XTest=matrices[:2], YTest=["d", "e"])
    with pytest.raises(errors.DataError, match="say which, such as x="):
        sq.read(tmp_path / "a.mat")
    assert sq.read(tmp_path / "a.mat", x="XTest").labels.tolist() == ["d", "e"]


def test_rows_of_characters_are_labels(tmp_path, matrices):
    scipy.io.savemat(tmp_path / "a.mat", {"X": cells(matrices), "Y": np.array(["no ", "yes", "no "])})
    assert sq.read(tmp_path / "a.mat").labels.tolist() == ["no", "yes", "no"]


@pytest.mark.parametrize("version", ["v7", "v7.3"])
class TestClassesOfMatlab:
    def write(self, path, version, **variables):
        pytest.importorskip("matio").save_to_mat(str(path), variables, version=version)

    def test_categorical_labels_and_the_order_of_their_names(self, tmp_path, matrices, version):
        names = pd.Categorical(["run", "walk", "run"], categories=["walk", "run"])
        self.write(tmp_path / "a.mat", version, XTrain=cells(matrices), YTrain=names)
        X = sq.read(tmp_path / "a.mat")
        assert (X.labels.tolist(), X.outputs) == (["run", "walk", "run"], ("walk", "run"))
        np.testing.assert_array_equal(X[2].values, matrices[2].T)

    def test_string_labels(self, tmp_path, matrices, version):
        names = np.array([["x"], ["yy"], ["zzz"]], dtype=np.dtypes.StringDType())
        self.write(tmp_path / "a.mat", version, XTrain=cells(matrices), YTrain=names)
        assert sq.read(tmp_path / "a.mat").labels.tolist() == ["x", "yy", "zzz"]

    def test_without_mat_io_the_data_are_read_and_the_labels_left_with_a_notice(self, tmp_path, matrices, version, monkeypatch):
        self.write(tmp_path / "a.mat", version, XTrain=cells(matrices), YTrain=pd.Categorical(["a", "b", "a"]))
        monkeypatch.setitem(sys.modules, "matio", None)
        with pytest.warns(UserWarning, match="'YTrain' are a categorical of MATLAB, which needs the package mat-io: read without them"):
            X = sq.read(tmp_path / "a.mat")
        assert (len(X), X.labels) == (3, None)
        assert sq.read(tmp_path / "a.mat", y=False).labels is None
        with pytest.raises(errors.MissingPackageError, match=r"seqscope\[matlab\]"):
            sq.read(tmp_path / "a.mat", y="YTrain")

    def test_a_categorical_is_no_series(self, tmp_path, version):
        self.write(tmp_path / "a.mat", version, Y=pd.Categorical(["a", "b", "a"]))
        with pytest.raises(errors.DataError, match="of MATLAB's class categorical: expected a cell array of matrices"):
            sq.read(tmp_path / "a.mat", x="Y")


# What is refused


@WRITERS
@pytest.mark.parametrize(
    ("variables", "options", "message"),
    [
        ({"X": [np.ones((2, 3)), np.ones((3, 4))]}, {}, r"alike in neither axis \(2 to 3 rows, 3 to 4 columns\)"),
        ({"X": [np.ones((2, 3)), "text"]}, {}, r"the cell X\{2\} holds an array of type <U4"),
        ({"X": [np.ones((2, 3))]}, {"layout": "NTC"}, "is a cell array: say layout='CT'"),
        ({"foo": np.ones((2, 3)), "bar": np.ones((2, 3))}, {}, "'foo', 'bar'|'bar', 'foo'"),
        ({"X": [np.array([[1.0, np.nan, 2.0]])]}, {}, "NaN in sample 0, step 1"),
        ({"X": [np.ones((2, 3))] * 2, "Y": ["a", "b", "c"]}, {"y": "Y"}, r"'Y' has the shape \(3,\)"),
    ],
)
def test_variables_that_are_no_series(tmp_path, write, variables, options, message):
    write(tmp_path / "a.mat", **variables)
    with pytest.raises(errors.DataError, match=message):
        sq.read(tmp_path / "a.mat", **options)


@WRITERS
@pytest.mark.parametrize("part", [0.01, 0.1, 0.3, 0.6, 0.99])
def test_files_that_are_cut_short(tmp_path, matrices, write, part):
    write(tmp_path / "a.mat", XTrain=matrices, YTrain=["a", "b", "c"])
    content = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(content[: int(len(content) * part)])
    with pytest.raises(errors.DataError, match=r"cut short|holds nothing|no MAT-file|can't be read as \.mat"):
        sq.read(tmp_path / "a.mat")


def test_a_struct_is_listed_and_refused(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"X": {"inside": np.ones((2, 3))}})
    with pytest.raises(errors.DataError, match="it holds 'X', and none is known to be the series"):
        sq.read(tmp_path / "a.mat")
    with pytest.raises(errors.DataError, match="of MATLAB's class struct"):
        sq.read(tmp_path / "a.mat", x="X")


def test_version_4_says_how_to_save_it(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"X": np.ones((2, 3))}, format="4")
    with pytest.raises(errors.DataError, match=r"no MAT-file of version 5, 7 or 7\.3: save it in MATLAB with save\(file"):
        sq.read(tmp_path / "a.mat")


def test_what_inflates_to_fill_the_memory_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("seqscope.files.matlab_v5._FREE_BYTES", 2**20)
    scipy.io.savemat(tmp_path / "a.mat", {"X": np.zeros((100, 100, 400))}, do_compression=True)
    with pytest.raises(errors.DataError, match=r"it inflates to more than .* as files do that are made to fill the memory"):
        sq.read(tmp_path / "a.mat")
    with h5py.File(tmp_path / "b.mat", "w", userblock_size=512) as file:
        file.create_dataset("X", (2, 10**6, 100), chunks=(1, 10**6, 1), compression="gzip")
    with pytest.raises(errors.DataError, match="it declares 800 MB in a file of"):
        sq.read(tmp_path / "b.mat")


def test_hdf5_that_takes_its_data_from_elsewhere_or_refers_to_nothing(tmp_path, matrices):
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["X"] = h5py.ExternalLink("/etc/other.h5", "X")
    with pytest.raises(errors.DataError, match="it takes 'X' from other files"):
        sq.read(tmp_path / "a.mat")
    write_v73(tmp_path / "b.mat", X=matrices)
    with h5py.File(tmp_path / "b.mat", "r+") as file:
        file["X"][0, 0] = h5py.Reference()
    with pytest.raises(errors.DataError, match=r"the cell X\{1\} refers to nothing"):
        sq.read(tmp_path / "b.mat")


def test_a_cell_that_holds_itself_ends(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        made = file.create_dataset("X", (1, 3), h5py.ref_dtype)
        made[0] = [made.ref] * 3
        made.attrs["MATLAB_class"] = np.bytes_("cell")
    with pytest.raises(errors.DataError, match=r"X\{1\} is a cell within a cell"):
        sq.read(tmp_path / "a.mat")


@pytest.mark.parametrize(("place", "kind"), [(184, 255), (184, 0x0109), (184, 14), (152, 200), (144, 0x0806)])
def test_an_element_of_a_kind_that_there_is_not_is_told_before_scipy_meets_it(tmp_path, place, kind):
    path = tmp_path / "damaged.mat"
    scipy.io.savemat(path, {"X": np.random.default_rng(0).random((3, 5, 2))})
    content = bytearray(path.read_bytes())
    content[place : place + 2] = kind.to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(sq.errors.DataError, match=r"is damaged: an (array|element)"):
        sq.read(path)
