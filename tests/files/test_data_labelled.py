"""Files with named axes, sound, and data that stay in their file: against xarray, the standard library and the values written."""

import json
import os
import struct
import warnings
import wave

import numpy as np
import pytest
import xarray as xr

import seqscope as sq
from seqscope import errors
from seqscope.files import labelled_files

RANDOM = np.random.default_rng(0)


@pytest.fixture
def array():
    """Four samples of up to 6 steps and 3 channels, in an order of axes that is not ours."""
    values = RANDOM.standard_normal((4, 6, 3)).astype(np.float32)
    values[2, 4:] = np.nan
    coords = {
        "sample": ["p", "q", "r", "s"],
        "time": ("time", np.arange(6) / 4, {"units": "s"}),
        "channel": ["ax", "ay", "az"],
        "label": ("sample", np.array(["walk", "run", "walk", "run"])),
    }
    return xr.DataArray(values, coords, ("sample", "time", "channel"), name="signal").transpose("channel", "sample", "time")


def check(X, array):
    assert (X.channels, X.samples.tolist(), X.labels.tolist()) == (("ax", "ay", "az"), ["p", "q", "r", "s"], ["walk", "run", "walk", "run"])
    assert (X.lengths.tolist(), X.clock.units) == ([6, 6, 4, 6], "s")
    for x in X:
        expected = array.sel(sample=x.sample).transpose("time", "channel").dropna("time")
        np.testing.assert_array_equal(x.values, expected.values)
        np.testing.assert_array_equal(x.time, expected.time)


FORMS = pytest.mark.parametrize("form", ["nc", "nc3", "zarr2", "zarr3"])


def written(array, path, form):
    if form.startswith("nc"):
        path = path / "a.nc"
        array.to_netcdf(path, engine="scipy" if form == "nc3" else "h5netcdf")
    else:
        pytest.importorskip("zarr")
        path = path / "a.zarr"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that texts have no settled form in Zarr 3
            array.to_dataset().to_zarr(path, zarr_format=int(form[-1]), consolidated=False)
    return path


@FORMS
@pytest.mark.parametrize("large", [10**9, 0])
def test_names_times_and_labels_come_along_in_memory_and_left_in_the_file(tmp_path, array, form, large, monkeypatch):
    monkeypatch.setattr(labelled_files, "LARGE", large)
    path = written(array, tmp_path, form)
    X = sq.read(path)
    check(X, array)
    if not large:
        assert not isinstance(X._steps, np.ndarray)
        np.testing.assert_array_equal(next(X[[3, 0, 1]].batches(3)).values, np.stack([X[3], X[0], X[1]]))


def test_a_model_reads_what_is_left_in_the_file_as_what_is_in_memory(tmp_path, array, monkeypatch, make_reader):
    array.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    here = sq.read(tmp_path / "a.nc")
    monkeypatch.setattr(labelled_files, "LARGE", 0)
    there = sq.read(tmp_path / "a.nc")
    scope = sq.Scope(make_reader(channels=3))
    xr.testing.assert_identical(scope.activations(here, "rnn"), scope.activations(there, "rnn"))
    np.testing.assert_array_equal(here.all_steps(), there.all_steps())
    np.testing.assert_array_equal(sq.Sequences(list(there)).all_steps(), here.all_steps())


def test_one_variable_is_chosen_by_its_name_and_another_holds_the_labels(tmp_path, array):
    data = xr.Dataset({"a": array.drop_vars("label"), "b": 2 * array.drop_vars("label"), "kind": ("sample", [3, 1, 2, 0])})
    data.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(errors.DataError, match="it holds 'a', 'b'"):
        sq.read(tmp_path / "a.nc")
    X = sq.read(tmp_path / "a.nc", x="b", y="kind")
    np.testing.assert_array_equal(X[0].values, 2 * array.transpose("sample", "time", "channel").values[0])
    assert X.labels.tolist() == [3, 1, 2, 0]
    with pytest.raises(errors.DataError, match=r"'a' has the dims .*: labels have the dim 'sample' alone"):
        sq.read(tmp_path / "a.nc", x="b", y="a")


def test_what_seqscope_writes_it_reads(tmp_path):
    X, _ = sq.datasets.japanese_vowels("test")
    hidden = sq.Scope(sq.zoo.japanese_vowels()).activations(X[:4], "lstm")
    hidden.rename(unit="channel").to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    found = sq.read(tmp_path / "a.nc")
    assert (found.lengths.tolist(), found.labels.tolist(), found.n_channels) == (X[:4].lengths.tolist(), X[:4].labels.tolist(), 100)


def test_axes_without_known_names(tmp_path):
    xr.DataArray(np.ones((2, 3)), dims=("a", "b"), name="x").to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(errors.DataError, match=r"it holds 'x' \('a', 'b'\), and none has a dim 'time': rename yours"):
        sq.read(tmp_path / "a.nc")


def test_a_zarr_store_that_pickles_is_not_read(tmp_path):
    zarr = pytest.importorskip("zarr")
    numcodecs = pytest.importorskip("numcodecs")

    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    root.create_array("x", shape=(1,), dtype="f8", attributes={"_ARRAY_DIMENSIONS": ["time"]})
    folder = tmp_path / "a.zarr" / "time"
    folder.mkdir()
    about = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "compressor": None, "fill_value": None, "order": "C"}
    (folder / ".zarray").write_text(json.dumps(about | {"filters": [{"id": "pickle", "protocol": 4}]}))
    (folder / ".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["time"]}')
    (folder / "0").write_bytes(numcodecs.Pickle().encode(np.array([Bomb()], object)))
    with pytest.raises(errors.DataError, match=r"'time/\.zarray' says that values are pickled"):
        sq.read(tmp_path / "a.zarr")
    assert not (tmp_path / "ran").exists()


def test_a_store_that_declares_far_more_than_it_has(tmp_path):
    zarr = pytest.importorskip("zarr")
    store = zarr.open_group(tmp_path / "a.zarr", mode="w")
    store.create_array("x", shape=(10**9, 100, 10), chunks=(1000, 100, 10), dtype="f4", dimension_names=["sample", "time", "channel"])
    with pytest.raises(errors.DataError, match=r"it declares up to 8 TB, and .* are there"):
        sq.read(tmp_path / "a.zarr")


def test_stores_that_are_damaged(tmp_path, array):
    path = written(array, tmp_path, "zarr3")
    (path / "signal" / "zarr.json").write_text("{")
    with pytest.raises(errors.DataError, match=r"can't be read as \.zarr"):
        sq.read(path)
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(errors.DataError, match=r"can't be read as \.zarr|it holds no variable"):
        sq.read(tmp_path / "b.zarr")
    written(array, tmp_path, "nc")
    (tmp_path / "b.nc").write_bytes((tmp_path / "a.nc").read_bytes()[:3000])
    with pytest.raises(errors.DataError, match=r"can't be read as \.nc"):
        sq.read(tmp_path / "b.nc")


# Sound


@pytest.mark.parametrize(("width", "channels"), [(1, 1), (2, 1), (2, 2), (3, 2), (4, 1)])
def test_whole_numbers_of_a_sound_are_parts_of_the_full_scale(tmp_path, width, channels):
    """Written by the standard library; the lowest, the highest and silence are what they should be."""
    low, high = (0, 255) if width == 1 else (-(2 ** (8 * width - 1)), 2 ** (8 * width - 1) - 1)
    silence = 128 if width == 1 else 0
    values = [low, high, silence, high // 3] * channels
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((channels, width, 8000, 0, "NONE", ""))
        file.writeframes(b"".join(value.to_bytes(width, "little", signed=width > 1) for value in values))
    X = sq.read(tmp_path / "a.wav")
    full = 2.0 ** (8 * width - 1)
    expected = (np.array(values, np.float64).reshape(-1, channels) - silence) / full
    assert X.single
    np.testing.assert_allclose(X[0].values, expected, rtol=2e-7, atol=0)
    assert -1 == X[0].values.min() < X[0].values.max() < 1
    assert (float(X[0].time[3]), X.clock.units) == (3 / 8000, "s")


def test_a_sound_of_floats_stays_as_it_is(tmp_path):
    wavfile = pytest.importorskip("scipy.io.wavfile")
    sound = RANDOM.standard_normal((50, 2)).astype(np.float32)
    wavfile.write(tmp_path / "a.wav", 16000, sound)
    np.testing.assert_array_equal(sq.read(tmp_path / "a.wav")[0].values, sound)


@pytest.mark.parametrize(
    "content",
    [b"RIFF\x04\0\0\0WAVE", b"RIFF" + b"\xff" * 60, struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36, b"WAVE", b"fmt ", 16, 1, 0, 0, 0, 0, 16)],
)
def test_a_sound_that_is_damaged(tmp_path, content):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(errors.DataError, match=r"can't be read as \.wav|no sound|a rate of"):
        sq.read(tmp_path / "a.wav")


# Larger than memory


@pytest.mark.parametrize(("layout", "axes"), [("NTC", (0, 1, 2)), ("NCT", (0, 2, 1)), ("TNC", (1, 0, 2))])
def test_an_npy_file_is_never_in_memory_as_a_whole(tmp_path, monkeypatch, layout, axes):
    """No piece that is read, whatever asks for it, is as large as the file: told by what `Stored` and NumPy hand out."""
    monkeypatch.setattr("seqscope.stored.BLOCK_BYTES", 4000)
    values = RANDOM.standard_normal((40, 25, 3))
    values[7, 20:] = np.nan
    np.save(tmp_path / "a.npy", values.transpose(axes))
    X = sq.read(tmp_path / "a.npy", layout=layout)
    assert X.lengths.tolist() == [25] * 7 + [20] + [25] * 32
    base = X._steps
    if layout == "NTC":
        while not isinstance(base, np.memmap):
            base = base.base
    else:
        assert max(piece.nbytes for piece in sq.stored.pieces(base, 25)) <= 4000
    np.testing.assert_array_equal(X[7].values, values[7, :20])
    rows = [39, 3, 11]
    np.testing.assert_array_equal(next(X[rows].batches(8)).values, values[rows])
    np.testing.assert_array_equal(next(X[3:6].batches(8)).values, values[3:6])
    for batch in X.padded_batches(16):
        for row, value, length in zip(batch.rows, batch.values, batch.lengths, strict=True):
            np.testing.assert_array_equal(value[:length], values[row, :length])


def test_nan_within_is_found_whatever_lies_in_the_file(tmp_path):
    values = RANDOM.standard_normal((40, 25, 3))
    values[7, 20, 1] = np.nan
    np.save(tmp_path / "a.npy", values.transpose(0, 2, 1))
    with pytest.raises(errors.DataError, match="NaN in sample 7, step 20, channel 1"):
        sq.read(tmp_path / "a.npy", layout="NCT")
