"""What a file is, whatever it is called: files that the programs themselves write, and their beginnings."""

import gzip
import pickle
import zipfile

import joblib
import numpy as np
import onnx
import pytest
import scipy.io
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch import nn

from seqscope.sniff import Kind, kind_of

keras = pytest.importorskip("keras")


def save_onnx(path, **options):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    onnx.save(helper.make_model(graph, **options), path)


def save_script(path):
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(nn.Linear(3, 2)), str(path))


def save_exported(path):
    torch.export.save(torch.export.export(nn.Linear(3, 2), (torch.zeros(1, 3),)), path)


def save_zip(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "{}")


WRITERS = {
    "keras": (Kind.KERAS, lambda path: keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path.with_suffix(".keras"))),
    "weights": (Kind.HDF5, lambda path: keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(path)),
    "state dict": (Kind.TORCH, lambda path: torch.save(nn.Linear(3, 2).state_dict(), path)),
    "old state dict": (Kind.TORCH, lambda path: torch.save(nn.Linear(3, 2).state_dict(), path, _use_new_zipfile_serialization=False)),
    "script": (Kind.TORCHSCRIPT, save_script),
    "exported": (Kind.EXPORTED, save_exported),
    "safetensors": (Kind.SAFETENSORS, lambda path: save_file(nn.Linear(3, 2).state_dict(), path)),
    "pickle": (Kind.PICKLE, lambda path: path.write_bytes(pickle.dumps({"a": 1}))),
    "old pickle": (Kind.PICKLE, lambda path: path.write_bytes(pickle.dumps({"a": 1}, protocol=2))),
    "joblib": (Kind.PICKLE, lambda path: joblib.dump({"a": np.ones(3)}, path)),
    "joblib, zlib": (Kind.COMPRESSED, lambda path: joblib.dump({"a": 1}, path, compress=3)),
    "gzip": (Kind.COMPRESSED, lambda path: path.write_bytes(gzip.compress(b"abc"))),
    "onnx": (Kind.ONNX, save_onnx),
    "onnx with all it may say": (
        Kind.ONNX,
        lambda path: save_onnx(path, producer_name="me", doc_string="d", ir_version=8, model_version=3),
    ),
    "npy": (Kind.NPY, lambda path: np.save(path.open("wb"), np.ones(3))),
    "npz": (Kind.NPZ, lambda path: np.savez(path.open("wb"), a=np.ones(3))),
    "mat": (Kind.MATLAB, lambda path: scipy.io.savemat(path.open("wb"), {"a": np.ones(3)})),
    "zip": (Kind.ZIP, lambda path: save_zip(path, "readme.txt")),
    "empty": (Kind.EMPTY, lambda path: path.write_bytes(b"")),
    "page": (Kind.HTML, lambda path: path.write_bytes(b"\n <!DOCTYPE HTML><title>Not found</title>")),
    "pointer": (Kind.LFS, lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n")),
    "text": (Kind.TEXT, lambda path: path.write_text("sample,time,a\n0,0,1\n")),
    "long text": (Kind.TEXT, lambda path: path.write_text("é" * 5001)),  # a character lies across the 4096th byte
    "tflite": (Kind.TFLITE, lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(50))),
    "protobuf of another kind": (Kind.UNKNOWN, lambda path: path.write_bytes(b"\x08\x01\x12\x03\x01\x02\x03")),
    "noise": (Kind.UNKNOWN, lambda path: path.write_bytes(bytes(range(128, 256)))),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_known_by_what_it_holds(tmp_path, name):
    kind, write = WRITERS[name]
    path = tmp_path / ("a.weights.h5" if name == "weights" else "a.bin")
    write(path)
    assert kind_of(next(tmp_path.iterdir())) is kind


def test_the_layout_of_programs_that_older_torch_exported(tmp_path):
    save_zip(tmp_path / "a", "serialized_exported_program.json", "serialized_state_dict.pt", "version")
    assert kind_of(tmp_path / "a") is Kind.EXPORTED


def test_a_zip_archive_without_its_end(tmp_path):
    save_zip(tmp_path / "whole", "config.json", "metadata.json")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:-30])
    assert (kind_of(tmp_path / "whole"), kind_of(tmp_path / "cut")) == (Kind.KERAS, Kind.CUT_ZIP)


def test_an_onnx_model_that_ends_in_its_graph_is_one_still(tmp_path):
    save_onnx(tmp_path / "whole")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:-8])
    assert kind_of(tmp_path / "cut") is Kind.ONNX
