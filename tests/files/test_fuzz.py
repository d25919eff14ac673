"""Damaged files of every kind: each gives what it should or one sentence, within a bounded time and memory, and nothing else.

A few in every run; `make check-deep` tries thousands (SEQSCOPE_DEEP=1). A kind of file is a line in `DATA`: a name, and what makes a
valid file of it.
"""

import os
import resource
import signal
import warnings
import wave
from contextlib import contextmanager

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import seqscope as sq
from onnx_nets import recurrent_net
from seqscope.zoo.torch import JapaneseVowels

# A library that fails half way through a damaged file may leave it to the garbage collector to close it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

DEEP = "SEQSCOPE_DEEP" in os.environ
FUZZ = settings(
    max_examples=3000 if DEEP else 15,
    derandomize=not DEEP,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
MOST_SECONDS = 30  # for one file of a few kilobytes: hundreds of times what any takes
MOST_BYTES = 1_000_000_000


# Valid files


def npy(path):
    np.save(path, np.random.default_rng(0).random((3, 5, 2)))


def npz(path):
    np.savez_compressed(path, X=np.random.default_rng(0).random((3, 5, 2)), y=np.arange(3), lengths=np.array([5, 4, 3]))


def csv_long(path):
    frame = pd.DataFrame(np.random.default_rng(0).random((9, 2)), columns=["ax", "ay"])
    frame.assign(sample=list("aaabbbccc"), time=[0, 1, 2] * 3, label=list("uuuvvvuuu")).to_csv(path, index=False)


def csv_wide(path):
    pd.DataFrame(np.random.default_rng(0).random((3, 6)), columns=range(6)).assign(label=[1, 2, 1]).to_csv(path, index=False)


def parquet(path):
    pytest.importorskip("pyarrow")
    pd.DataFrame({"sample": [0, 0, 1], "time": [0, 1, 0], "a": [1.0, 2, 3]}).to_parquet(path)


def cells():
    made = np.empty((3, 1), object)
    made[:, 0] = [np.random.default_rng(n).random((2, n)) for n in (4, 5, 6)]
    return made


def mat_v5(path):
    scipy.io.savemat(path, {"XTrain": cells(), "YTrain": np.array(["a", "b", "a"], object)}, do_compression=True)


def mat_v5_plain(path):
    scipy.io.savemat(path, {"X": np.random.default_rng(0).random((3, 5, 2)), "Y": np.arange(3.0)})


def mat_v73(path):
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = [file.create_dataset(f"#refs#/{n}", data=cell.T).ref for n, cell in enumerate(cells()[:, 0])]
        file.create_dataset("X", (1, 3), h5py.ref_dtype)[0] = refs
        file["X"].attrs["MATLAB_class"] = np.bytes_("cell")
        file.create_dataset("Y", data=np.array([[1.0, 2, 1]]), compression="gzip", chunks=True)


def mat_categorical(path):
    matio = pytest.importorskip("matio")
    matio.save_to_mat(str(path), {"X": cells(), "Y": pd.Categorical(["a", "b", "a"])}, version="v7")


def ts(path):
    path.write_text("@problemName Made\n@timeStamps false\n@dimensions 2\n@classLabel true a b\n@data\n1,2,3:4,5,6:a\n1.5,2:3,4:b\n")


def ts_times(path):
    path.write_text("@timeStamps true\n@univariate true\n@classLabel false\n@data\n(0,1.5),(0.5,2.5)\n(0,1),(1,2),(2,3)\n")


def netcdf(path, engine="h5netcdf"):
    coords = {"sample": [1, 2], "time": [0.0, 0.5, 1.0], "channel": [0, 1]}
    xr.DataArray(np.ones((2, 3, 2)), coords, ("sample", "time", "channel"), name="x").to_netcdf(path, engine=engine)


def netcdf_classic(path):
    netcdf(path, "scipy")


def wav(path):
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.arange(200, dtype="<i2").tobytes())


def txt(path):
    path.write_text("to be, or not to be", encoding="utf-8")


DATA = {
    "npy": (npy, ".npy"),
    "npz": (npz, ".npz"),
    "csv long": (csv_long, ".csv"),
    "csv wide": (csv_wide, ".csv"),
    "parquet": (parquet, ".parquet"),
    "mat 5, deflated": (mat_v5, ".mat"),
    "mat 5": (mat_v5_plain, ".mat"),
    "mat 7.3": (mat_v73, ".mat"),
    "mat categorical": (mat_categorical, ".mat"),
    "ts": (ts, ".ts"),
    "ts with times": (ts_times, ".ts"),
    "nc": (netcdf, ".nc"),
    "nc classic": (netcdf_classic, ".nc"),
    "wav": (wav, ".wav"),
    "txt": (txt, ".txt"),
}


def state_dict(path):
    torch.save(JapaneseVowels().state_dict(), path)


def safetensors(path):
    save_file(JapaneseVowels().state_dict(), path)


def keras_model(path):
    keras = pytest.importorskip("keras")
    keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4, name="lstm"), keras.layers.Dense(2)]).save(path)


def onnx_model(path):
    onnx = pytest.importorskip("onnx")
    onnx.save(recurrent_net().model, path)


FILLED = {"factory": JapaneseVowels}
MODELS = {
    "pt": (state_dict, ".pt", FILLED),
    "safetensors": (safetensors, ".safetensors", FILLED),
    "keras": (keras_model, ".keras", {}),
    "h5": (keras_model, ".h5", {}),
    "onnx": (onnx_model, ".onnx", {}),
}


# Damage

EXTREMES = [bytes(4), b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x01\0\0\0\0\0\0\x40"]


@st.composite
def damaged(draw, content):
    """A valid file cut short, with bytes changed, left out, doubled, put in from elsewhere, or with numbers at their ends."""
    made = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(made) - 1)))
        size = draw(st.integers(1, 64))
        match draw(st.sampled_from(["cut", "change", "leave out", "double", "put in", "extreme", "digit"])):
            case "cut":
                del made[place:]
            case "change":
                made[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case "leave out":
                del made[place : place + size]
            case "double":
                made[place:place] = made[place : place + size]
            case "put in":
                made[place:place] = draw(st.binary(max_size=16))
            case "extreme":
                value = draw(st.sampled_from(EXTREMES))
                made[place : place + len(value)] = value
            case "digit":
                made[place:place] = draw(st.sampled_from([b"9" * 12, b"-", b"\n", b",", b":", b'"', b"nan", b"1e999", b"\0", b"?"]))
    return bytes(made)


class TooLongError(BaseException):
    """No `Exception`, so that no reader takes it for a damaged file."""


@contextmanager
def bounded():
    """Fail where the time or the memory of the process grows beyond what a small file may take."""

    def too_long(*_):
        raise TooLongError(f"more than {MOST_SECONDS} s")

    before, handler = peak(), signal.signal(signal.SIGALRM, too_long)
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
    assert peak() - before < MOST_BYTES


def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def attempt(read, path, content, expected):
    """Read a file: what is expected, or an error of ours that says so in a line."""
    if content is not None:
        path.write_bytes(content)
    with bounded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = read(path)
        except sq.errors.SeqscopeError as error:
            found = error
    assert isinstance(found, expected | sq.errors.SeqscopeError)
    assert not isinstance(found, Exception) or (found.message and "Traceback" not in found.message)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("kind", DATA)
def test_damaged_data_give_sequences_or_a_sentence(folder, kind):
    make, ending = DATA[kind]
    path = folder / f"valid{ending}"
    make(path)
    content = path.read_bytes()
    assert isinstance(sq.read(path), sq.Sequences)  # else the damage would prove nothing

    @FUZZ
    @given(damaged(content))
    def run(changed):
        attempt(sq.read, folder / f"damaged{ending}", changed, sq.Sequences)

    run()


@FUZZ
@given(st.sampled_from(sorted({ending for _, ending in DATA.values()})), st.binary(max_size=200))
def test_noise_gives_sequences_or_a_sentence(folder, ending, content):
    attempt(sq.read, folder / f"noise{ending}", content, sq.Sequences)


@pytest.mark.parametrize("file", ["x/zarr.json", "x/c/0/0/0", "time/zarr.json", "zarr.json"])
def test_a_damaged_store_gives_sequences_or_a_sentence(tmp_path, file):
    pytest.importorskip("zarr")
    path = tmp_path / "valid.zarr"
    xr.DataArray(np.ones((2, 3, 2)), {"time": [0.0, 0.5, 1.0]}, ("sample", "time", "channel"), "x").to_dataset().to_zarr(
        path, consolidated=False
    )
    content = (path / file).read_bytes()
    assert isinstance(sq.read(path), sq.Sequences)

    @settings(FUZZ, max_examples=500 if DEEP else 5)
    @given(damaged(content))
    def run(changed):
        (path / file).write_bytes(changed)
        attempt(sq.read, path, None, sq.Sequences)

    run()


@pytest.mark.parametrize("kind", MODELS)
def test_damaged_models_give_a_scope_or_a_sentence(folder, kind):
    make, ending, options = MODELS[kind]
    path = folder / f"valid_model{ending}"
    make(path)
    content = path.read_bytes()
    assert isinstance(sq.Scope(path, **options), sq.Scope)

    @settings(FUZZ, max_examples=300 if DEEP else 5)
    @given(damaged(content))
    def run(changed):
        attempt(lambda path: sq.Scope(path, **options), folder / f"damaged_model{ending}", changed, sq.Scope)

    run()
