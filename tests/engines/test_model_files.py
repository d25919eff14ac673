"""Files that are no models, or not the ones that their names say: one sentence each, before any framework is asked."""

import os
import pickle
import sys
import zipfile

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from seqscope.engines import matlab_files, model_files
from seqscope.engines.base import require_framework
from seqscope.engines.model_files import MODEL_FILES, check_weights, framework_of, kind_of_model
from seqscope.errors import MissingPackageError, ModelError

HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"


def refused(path, **options):
    with pytest.raises(ModelError) as caught:
        framework_of(path, **options)
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.keras", b"", "is empty and no model: get it again"),
        ("a.onnx", b"<!doctype html><html>", "is a web page and no model: .* get that one"),
        ("a.onnx", b"version https://git-lfs.github.com/spec/v1\noid", "is a git-LFS pointer .* `git lfs pull`"),
        ("a.pt", ZIP + bytes(90), "is the beginning of a zip archive .* get it again"),
        ("a.h5", HDF5 + bytes(90), "is damaged or ends too early .*: get it again"),
        ("a.h5", b"config: yes\n", "is text and no model file"),
        ("a.model", bytes(range(128, 200)), "is of no known kind .* load it with its framework"),
        ("a.npy", b"\x93NUMPY\x01\x00", "is data and no model: read it with seqscope.read"),
        ("a.csv", b"sample,time,x\n", "is data and no model: read it with seqscope.read"),
        ("a.ts", b"@problemName a\n", "is data and no model: read it with seqscope.read"),  # aeon's, where TorchScript's would be no text
        ("a.tflite", b"\x1c\0\0\0TFL3", "python -m tf2onnx.convert --tflite"),
        ("saved_model.pb", b"\x08\x01\x12\x03\x01\x02\x03", "python -m tf2onnx.convert --saved-model"),
        ("a.rds", b"\x1f\x8b\x08\x00", r"save_model_hdf5\(model, 'net.h5'\)"),
        ("a.onnx.gz", b"\x1f\x8b\x08\x00", "is a compressed file .* unpack it"),
    ],
)
def test_what_is_no_model(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=said):
        framework_of(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    assert "There is no file" in refused(tmp_path / "a.keras")


def test_a_name_that_no_system_takes(tmp_path):
    assert "can't be read: File name too long" in refused(tmp_path / ("a" * 500))


def test_folders(tmp_path):
    assert "no file in it is a model" in refused(tmp_path)
    (tmp_path / "a.h5").touch()
    assert "name the model file in it ('a.h5')" in refused(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    assert f"--saved-model {tmp_path} --output" in refused(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes are made otherwise there")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.pt")
    assert "is a device or a pipe" in refused(tmp_path / "a.pt")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    (tmp_path / "a.pt").write_bytes(ZIP)

    def denied(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(model_files, "kind_of", denied)  # who runs the tests may be allowed everything
    assert "its permissions do not allow it" in refused(tmp_path / "a.pt")


def test_an_archive_around_a_model_says_what_is_in_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("info.yml", "")
        archive.writestr("net.keras", "")
    assert "'info.yml', 'net.keras' in it: unpack it" in refused(tmp_path / "a.zip")


# What a file is goes before its name


def write_keras(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("metadata.json", "{}")


def write_hdf5(path):
    h5py.File(path, "w").close()


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("a.h5", write_keras, "is a Keras 3 model by what it holds: rename it to 'a.keras'"),
        ("a.pt", write_keras, "is a Keras 3 model by what it holds: rename it to 'a.keras'"),
        ("a.pth", write_hdf5, "is an HDF5 file by what it holds: rename it to 'a.h5'"),
        ("a.onnx", lambda path: torch.save({}, path), "is a file of torch.save by what it holds: rename it to 'a.pt'"),
        ("a", write_keras, "rename it to 'a.keras'"),  # Keras goes by the name
    ],
)
def test_a_model_under_another_name_is_told(tmp_path, name, write, said):
    write(tmp_path / name)
    assert said in refused(tmp_path / name)


def test_names_that_say_nothing_and_hdf5_named_keras_are_no_hindrance(tmp_path):
    torch.save({}, tmp_path / "weights")
    write_hdf5(tmp_path / "a.keras")  # which Keras 2 wrote
    assert (framework_of(tmp_path / "weights"), framework_of(tmp_path / "a.keras")) == ("torch", "keras")


def test_what_can_not_be_told_goes_by_its_name(tmp_path):
    (tmp_path / "a.onnx").write_bytes(bytes(range(128, 256)))
    assert framework_of(tmp_path / "a.onnx") == "onnx"


@pytest.mark.parametrize("name", ["a.pkl", "a.joblib", "a.pt", "a.keras", "a.h5", "a.onnx", "a"])
def test_a_pickle_is_refused_whatever_its_name(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps({"a": 1}))
    assert "opening one runs whatever code is in it: say trust=True" in refused(tmp_path / name)
    with pytest.raises(ModelError, match="say trust=True"):
        check_weights(tmp_path / name)


@pytest.mark.parametrize("protocol", [0, 1, 2, 5])
def test_a_pickle_of_any_age_is_one(tmp_path, protocol):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": 1}, protocol=protocol))
    assert "is a pickle" in refused(tmp_path / "a.pkl")
    assert framework_of(tmp_path / "a.pkl", trust=True) == "torch"


def test_every_ending_has_a_framework():
    assert set(MODEL_FILES.values()) == {"keras", "onnx", "torch"}


# Weights


def test_weights_are_looked_at_as_models_are(tmp_path):
    for name, content, said in (("a.h5", b"", "is empty"), ("a.pt", b"<html>", "is a web page"), ("a.npz", None, "is data and no model")):
        np.savez(tmp_path / name, a=np.ones(3)) if content is None else (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=said):
            check_weights(tmp_path / name)
    torch.save({}, tmp_path / "b.h5")
    check_weights(tmp_path / "b.h5")  # whether it fits is for the framework to say


# MATLAB


def save_network(path, classname, version):
    matio = pytest.importorskip("matio")
    made = matio.utils.matclass.MatlabOpaque({"Layers": np.zeros((2, 2))}, classname)
    matio.save_to_mat(str(path), {"x": np.zeros((2, 3)), "net": made}, version=version)


@pytest.mark.parametrize("version", ["v7", "v7.3"])
@pytest.mark.parametrize("classname", ["SeriesNetwork", "DAGNetwork", "dlnetwork", "nnet.cnn.LayerGraph"])
def test_a_network_of_matlab(tmp_path, version, classname):
    save_network(tmp_path / "speech.mat", classname, version)
    said = refused(tmp_path / "speech.mat")
    assert f"holds 'net', a {classname} of MATLAB's own" in said
    assert 'call exportONNXNetwork(net, "speech.onnx") and open speech.onnx' in said


def test_a_shallow_network_of_matlab(tmp_path):
    save_network(tmp_path / "a.mat", "network", "v7")
    assert "'net', a network of MATLAB's shallow kind" in refused(tmp_path / "a.mat")


def test_data_of_matlab(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"X": np.zeros((2, 3)), "y": np.zeros(2)})
    pytest.importorskip("matio")
    assert "holds data ('X', 'y') and no network: read it with seqscope.read" in refused(tmp_path / "a.mat")


def test_a_file_of_matlab_that_can_not_be_looked_into(tmp_path, monkeypatch):
    monkeypatch.setattr(matlab_files.importlib.util, "find_spec", lambda name: None)
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    said = refused(tmp_path / "a.mat")
    assert 'exportONNXNetwork(net, "net.onnx")' in said
    assert "seqscope.read(" in said


def test_a_broken_file_of_matlab(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    assert 'exportONNXNetwork(net, "net.onnx")' in refused(tmp_path / "a.mat")


def test_a_kind_is_told_once_for_all(tmp_path):
    write_hdf5(tmp_path / "a.mat")
    assert kind_of_model(tmp_path / "a.mat") == "a MATLAB file"


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_package_that_an_onnx_file_needs_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"A file needs the package '{package}', which is not installed: pip install"):
        require_framework("onnx", purpose="A file")
