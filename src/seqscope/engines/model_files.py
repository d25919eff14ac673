"""Which framework opens a file, told by what the file holds; and one sentence for each file that none opens."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from seqscope.engines.matlab_files import about_mat
from seqscope.errors import ModelError, quoted
from seqscope.inflation import objection_to_hdf5, objection_to_zip
from seqscope.sniff import Kind, is_recording, kind_of

# The framework that opens a model file, by the file's ending.
MODEL_FILES: dict[str, str] = (
    dict.fromkeys((".keras", ".h5", ".hdf5"), "keras")
    | {".onnx": "onnx"}
    | dict.fromkeys((".pt", ".pth", ".pt2", ".jit", ".ts", ".torchscript", ".ckpt", ".bin", ".safetensors"), "torch")
    | dict.fromkeys((".pkl", ".pickle", ".joblib"), "torch")
)

# What readers of archives raise where one is damaged; h5py a SystemError too, where a name in it is no text.
_DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, EOFError, NotImplementedError, SystemError)

# The end of a sentence about a file that would run code.
TRUST = "say trust=True (--trust for a command) only for a file from someone you trust"

_PICKLES = (".pkl", ".pickle", ".joblib")

_ROOMS = {
    Kind.KERAS: "keras",
    Kind.HDF5: "keras",
    Kind.ONNX: "onnx",
    Kind.TORCH: "torch",
    Kind.TORCHSCRIPT: "torch",
    Kind.EXPORTED: "torch",
    Kind.SAFETENSORS: "torch",
    Kind.PICKLE: "torch",
}

# The ending that a file should have.
_ENDINGS = {
    Kind.KERAS: ".keras",
    Kind.HDF5: ".h5",
    Kind.ONNX: ".onnx",
    Kind.EXPORTED: ".pt2",
    Kind.SAFETENSORS: ".safetensors",
    Kind.PICKLE: ".pkl",
}

# What to do about a file that is no model.
_REMEDIES = {
    Kind.EMPTY: "get it again",
    Kind.LFS: "the file itself comes with `git lfs pull` in its repository",
    Kind.HTML: "most likely it was saved in place of the file that it links to: get that one",
    Kind.CUT_ZIP: "it ends too early or is damaged: get it again",
    Kind.COMPRESSED: "unpack it, and open what was in it",
    Kind.TFLITE: "convert it with `python -m tf2onnx.convert --tflite net.tflite --output net.onnx` and open net.onnx",
}

_SAVED_MODEL = (
    "convert it with `python -m tf2onnx.convert --saved-model FOLDER --output net.onnx` and open net.onnx, or load it with the "
    "TensorFlow that it was saved with and save the model as net.h5"
)
_OF_R = "save the network itself in R, with save_model_hdf5(model, 'net.h5') or save_model(model, 'net.keras'), and open that"
_OTHERS = {".pb": _SAVED_MODEL, ".rds": _OF_R, ".rdata": _OF_R, ".rda": _OF_R}
_DATA = (".npy", ".npz", ".csv", ".parquet", ".tsv", ".txt", ".ts", ".nc", ".zarr", ".wav")


def framework_of(path: Path, *, trust: bool = False) -> str:
    """The framework that opens a file.

    Raises
    ------
    ModelError
        The file is not there, is no model, or would run code or fill the memory if it were opened.
    """
    kind = kind_of_model(path)
    if kind is Kind.PICKLE and not trust:
        raise ModelError(_unpickles(path))
    if kind is Kind.UNKNOWN and path.suffix.lower() in MODEL_FILES:  # its framework has a word for what is wrong with it
        return MODEL_FILES[path.suffix.lower()]
    if kind not in _ROOMS:
        raise ModelError(_refusal(path, kind))
    _check_ending(path, kind)
    return _ROOMS[kind]


def check_weights(path: Path, *, trust: bool = False) -> None:
    """Refuse a file that no framework reads weights from; which of them fit a model is for its framework to say.

    Raises
    ------
    ModelError
        The file is not there, is no file of weights, or would run code or fill the memory if it were opened.
    """
    kind = kind_of_model(path)
    if kind is Kind.PICKLE and not trust:
        raise ModelError(_unpickles(path))
    if kind not in _ROOMS and kind is not Kind.UNKNOWN:
        raise ModelError(_refusal(path, kind))


def kind_of_model(path: Path) -> Kind:
    """What a file of a model or of weights is, after a look at the sizes that it declares.

    Raises
    ------
    ModelError
        It is not there, is no file, can't be read, is damaged, or would fill the memory.
    """
    refusal = _no_file(path)
    if refusal:
        raise ModelError(refusal)
    try:
        kind = kind_of(path)
        objection = _objection(path, kind)
    except PermissionError as error:
        raise ModelError(f"'{path}' can't be read: its permissions do not allow it.") from error
    except (*_DAMAGE, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(f"'{path}' is damaged or ends too early ({' '.join(str(error).split())}): get it again.") from error
    if objection is not None:
        raise ModelError(f"'{path}' {objection}: it is not opened.")
    if kind in (Kind.COMPRESSED, Kind.TEXT, Kind.UNKNOWN) and path.suffix.lower() in _PICKLES:  # joblib's, and the oldest are text
        return Kind.PICKLE
    return Kind.MATLAB if path.suffix.lower() == ".mat" and kind in (Kind.HDF5, Kind.UNKNOWN) else kind


def _no_file(path: Path) -> str:
    """Why a path is none of a file, as a sentence; "" where it is one."""
    try:
        if path.is_dir():
            return _about_folder(path)
        if path.exists():
            return "" if path.is_file() else f"'{path}' is a device or a pipe: expected a model file."
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        return f"'{path}' can't be read: {error.strerror}."
    return f"There is no file '{path}'."


def _unpickles(path: Path) -> str:
    return (
        f"'{path}' is a pickle, and opening one runs whatever code is in it: {TRUST}. Of a torch module the weights can be had without: "
        "have them saved with torch.save(model.state_dict(), 'net.pt'), and say Scope(model, weights='net.pt')."
    )


def _objection(path: Path, kind: Kind) -> str | None:
    if kind is Kind.HDF5:
        return objection_to_hdf5(path, path.stat().st_size)
    return objection_to_zip(path) if zipfile.is_zipfile(path) else None


def _check_ending(path: Path, kind: Kind) -> None:
    """A file whose name says something else than it holds is named, and not guessed at; Keras goes by the name."""
    ending = path.suffix.lower()
    misnamed = MODEL_FILES.get(ending, _ROOMS[kind]) != _ROOMS[kind]
    if misnamed or (kind is Kind.KERAS and ending != ".keras"):
        renamed = path.with_suffix(_ENDINGS.get(kind, ".pt")).name
        raise ModelError(f"'{path}' is {kind} by what it holds: rename it to '{renamed}' and open that.")


def _refusal(path: Path, kind: Kind) -> str:
    """The sentence for a file that is no model."""
    ending = path.suffix.lower()
    if kind is Kind.MATLAB:
        return about_mat(path)
    if kind in (Kind.NPY, Kind.NPZ) or (kind is Kind.TEXT and ending in _DATA):
        return f"'{path}' is {kind}, which is data and no model: read it with seqscope.read('{path}')."
    if kind in (Kind.COMPRESSED, Kind.UNKNOWN) and ending in _OTHERS:
        return f"'{path}' can't be opened here: {_OTHERS[ending]}."
    if kind is Kind.ZIP:
        return f"'{path}' is a zip archive with {_listed(_names(path))} in it: unpack it, and open the model file."
    if kind in _REMEDIES:
        return f"'{path}' is {kind} and no model: {_REMEDIES[kind]}."
    known = f"'{path}' is {kind} and no model file ({quoted(MODEL_FILES, most=6)})"
    return f"{known}." if kind is Kind.TEXT else f"{known}: load it with its framework and give Scope what you get."


def _about_folder(path: Path) -> str:
    if (path / "saved_model.pb").is_file():
        return f"'{path}' is a SavedModel of TensorFlow: {_SAVED_MODEL.replace('FOLDER', str(path))}."
    if is_recording(path):
        return f"'{path}' is a recording of what a model did, and no model: open it with sq.open('{path}'), and name the model itself here."
    inside = sorted(file.name for file in path.iterdir() if file.suffix.lower() in MODEL_FILES)
    if inside:
        return f"'{path}' is a folder: name the model file in it ({quoted(inside, most=5)})."
    return f"'{path}' is a folder, and no file in it is a model ({quoted(MODEL_FILES, most=6)}): name a model file."


def _names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _listed(names: list[str]) -> str:
    return quoted(names, most=4) if names else "nothing"
