"""No file runs its code, fills the memory or reads other files. That a bomb is one is shown where it goes off: with trust=True."""

import io
import json
import os
import pickle
import shutil
import zipfile

import h5py
import joblib
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch import nn

import seqscope as sq
from seqscope.errors import ModelError

keras = pytest.importorskip("keras")


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path):
    """What a bomb makes when it goes off."""
    return tmp_path / "went_off"


def refused(path, **options):
    """The one sentence in which a file is refused."""
    with pytest.raises(ModelError) as caught:
        sq.Scope(path, **options)
    said = caught.value.message
    assert "\n" not in said
    assert "Traceback" not in said
    assert len(said) < 1000
    return said


def said_of(path):
    """The sentence in which a file is refused, "" where it is opened."""
    try:
        sq.Scope(path)
    except sq.errors.SeqscopeError as error:
        return error.message
    return ""


# Pickles


def write_pickle(path, bomb):
    path.write_bytes(pickle.dumps(bomb))


def write_old_torch(path, bomb):
    torch.save({"weight": torch.zeros(3), "more": bomb}, path, _use_new_zipfile_serialization=False)


def write_inside(path, bomb, *, folder="net", place="data.pkl", others=()):
    """A zip archive as torch writes them, with the bomb in it."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (("version", "3"), ("byteorder", "little"), *others):
            archive.writestr(f"{folder}/{name}", content)
        archive.writestr(f"{folder}/{place}", pickle.dumps(bomb))


def write_exported(path, bomb):
    write_inside(path, bomb, place="data/sample_inputs/model.pt", others=[("archive_format", "pt2"), ("models/model.json", "{}")])


def write_script(path, bomb):
    write_inside(path, bomb, others=[("code/__torch__.py", ""), ("constants.pkl", pickle.dumps(()))])


WRITERS = {
    "pickle": write_pickle,
    "joblib": lambda path, bomb: joblib.dump(bomb, path),
    "torch": lambda path, bomb: torch.save({"weight": torch.zeros(3), "more": bomb}, path),
    "old torch": write_old_torch,
    "exported": write_exported,
    "script": write_script,
}
ENDINGS = (".pt", ".pth", ".pkl", ".pickle", ".joblib", ".bin", ".ckpt", ".pt2", ".jit", ".h5", ".keras", ".onnx", ".safetensors", "")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("form", WRITERS)
def test_a_pickle_bomb_does_not_go_off(tmp_path, mark, form, ending):
    path = tmp_path / f"net{ending}"
    WRITERS[form](path, Bomb(mark))
    refused(path)
    refused(nn.Linear(3, 2), weights=path)
    refused(path, factory=lambda: nn.Linear(3, 2))
    assert not mark.exists()


@pytest.mark.parametrize("compress", [3, ("gzip", 3), ("bz2", 3), ("xz", 3)])
def test_a_compressed_pickle_bomb_does_not_go_off(tmp_path, mark, compress):
    joblib.dump(Bomb(mark), tmp_path / "net.joblib", compress=compress)
    assert "runs whatever code is in it" in refused(tmp_path / "net.joblib")
    assert not mark.exists()


@pytest.mark.parametrize("form", ["pickle", "joblib", "torch", "old torch"])
def test_the_bombs_are_real_ones(tmp_path, mark, form):
    path = tmp_path / "net.pkl"
    WRITERS[form](path, Bomb(mark))
    refused(path, trust=True)  # there is no model in it
    assert mark.exists()


# Keras


def touching(mark):
    """A model with a Lambda layer that makes a folder when it is called, which happens where a model is put together."""
    text = str(mark)
    layer = keras.layers.Lambda(lambda x: (__import__("os").makedirs(text, exist_ok=True), x)[1])
    return keras.Sequential([keras.Input((3,)), layer, keras.layers.Dense(2)])


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_lambda_bomb_goes_off_where_it_is_trusted_alone(tmp_path, mark, ending):
    path = tmp_path / f"net{ending}"
    touching(mark).save(path)
    mark.rmdir()
    assert "Lambda" in refused(path)
    assert not mark.exists()
    sq.Scope(path, trust=True)
    assert mark.exists()


def rewritten(path, change):
    """A `.keras` file with other settings in it."""
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    settings = json.loads(held["config.json"])
    change(settings)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (held | {"config.json": json.dumps(settings).encode()}).items():
            archive.writestr(name, content)


@pytest.mark.parametrize("place", ["activation", "layer"])
def test_a_function_of_another_module_is_not_called(tmp_path, mark, place):
    path = tmp_path / "net.keras"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
    called = {"module": "os", "class_name": "function", "config": "mkdir", "registered_name": "mkdir"}
    made = {"module": "os", "class_name": "mkdir", "config": {"path": str(mark)}, "registered_name": None}

    def change(settings):
        layers = settings["config"]["layers"]
        if place == "activation":
            layers[1]["config"]["activation"] = called
        else:
            layers[1] = made

    rewritten(path, change)
    refused(path)
    assert not mark.exists()


# ONNX


def save_onnx(path, location):
    """A graph that adds weights of 8 bytes which are in another file."""
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", str(location)), ("offset", "0"), ("length", "8")):
        weights.external_data.add(key=key, value=value)
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "T", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", value[:1], value[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


@pytest.fixture
def secret(tmp_path):
    """A file beside the folder that a model is in."""
    (tmp_path / "secret").write_bytes(np.array([7, 8], np.float32).tobytes())
    (tmp_path / "models").mkdir()
    return tmp_path / "secret"


@pytest.mark.parametrize("way", ["up", "down and up", "absolute", "link", "linked folder"])
def test_weights_of_an_onnx_model_stay_in_its_folder(secret, way):
    folder = secret.parent / "models"
    location = {"up": "../secret", "down and up": "a/../../secret", "absolute": secret, "link": "inside", "linked folder": "out/secret"}[
        way
    ]
    (folder / "a").mkdir()
    if way == "link":
        (folder / "inside").symlink_to(secret)
    if way == "linked folder":
        (folder / "out").symlink_to(secret.parent)
    save_onnx(folder / "net.onnx", location)
    refused(folder / "net.onnx")
    refused(folder / "net.onnx", trust=True)


def test_weights_in_the_folder_are_read(secret):
    shutil.copy(secret, secret.parent / "models" / "weights")
    save_onnx(secret.parent / "models" / "net.onnx", "weights")
    scope = sq.Scope(secret.parent / "models" / "net.onnx", layout="NTC")
    np.testing.assert_array_equal(scope.activations(np.zeros((1, 3, 2), np.float32), "y")[0], [[7, 8]] * 3)


def test_an_onnx_model_without_the_file_of_its_weights(tmp_path):
    save_onnx(tmp_path / "net.onnx", "weights")
    assert "weights" in refused(tmp_path / "net.onnx")


# Bombs of size, whose sizes `tests/test_inflation.py` varies


def test_an_archive_that_would_fill_the_memory_is_not_inflated(tmp_path, monkeypatch):
    path = tmp_path / "net.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", b" " * 110 * 2**20)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)  # what read, extract and Keras go by
    assert "as files do that are made to fill the memory: it is not opened" in refused(path)
    refused(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), weights=path)


@pytest.mark.parametrize("ending", [".h5", ".weights.h5", ".keras"])
def test_weights_that_would_fill_the_memory_are_not_read(tmp_path, ending):
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        file.attrs["model_config"] = "{}"
        file.create_dataset("layers/dense/vars/0", (10**6, 10**6), "f4", chunks=(100, 100), compression="gzip")
    path = tmp_path / f"net{ending}"
    if ending == ".keras":
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
        with zipfile.ZipFile(path) as archive:
            settings = {name: archive.read(name) for name in ("config.json", "metadata.json")}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (settings | {"model.weights.h5": held.getvalue()}).items():
                archive.writestr(name, content)
    else:
        path.write_bytes(held.getvalue())
    assert "declares 4 TB" in refused(path)
    assert "declares 4 TB" in refused(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), weights=path)


@pytest.mark.parametrize("kind", ["link", "external"])
def test_weights_that_are_another_file_are_not_read(tmp_path, kind):
    (tmp_path / "secret").write_bytes(bytes(24))
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.attrs["model_config"] = "{}"
        if kind == "link":
            file["model_weights"] = h5py.ExternalLink("secret", "/")
        else:
            file.create_dataset("model_weights/a/w", (3, 2), "f4", external=[(str(tmp_path / "secret"), 0, 24)])
    assert "from other files: it is not opened" in refused(tmp_path / "net.h5")


# Damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file of each kind that can be opened or be weights."""
    folder = tmp_path_factory.mktemp("whole")
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    made.save(folder / "net.keras")
    made.save_weights(folder / "net.weights.h5")
    with h5py.File(folder / "net.h5", "w") as file:  # as `save` writes it
        file.attrs.update({"model_config": json.dumps({"class_name": "Sequential", "config": made.get_config()}), "keras_version": "3.0.0"})
        file.create_dataset("model_weights/dense/kernel", data=np.ones((3, 2)))
    torch.save(net.state_dict(), folder / "net.pt")
    torch.save(net.state_dict(), folder / "old.pt", _use_new_zipfile_serialization=False)
    save_file(net.state_dict(), folder / "net.safetensors")
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(net), str(folder / "net.jit"))
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "T", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "net.onnx")
    return folder


KINDS = ("net.keras", "net.weights.h5", "net.h5", "net.pt", "old.pt", "net.safetensors", "net.jit", "net.onnx")


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_cut_short_is_refused_in_a_sentence(whole, tmp_path, name):
    content = (whole / name).read_bytes()
    for part in (0, 1, 7, 8, 9, 60, len(content) // 3, len(content) // 2, len(content) - 100, len(content) - 1):
        (tmp_path / name).write_bytes(content[: max(part, 0)])
        refused(tmp_path / name)
        refused(nn.Linear(3, 2), weights=tmp_path / name)


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_damaged_is_opened_or_refused_in_a_sentence(whole, tmp_path, name):
    content, random = (whole / name).read_bytes(), np.random.default_rng(0)
    for _ in range(8):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[random.integers(len(content), size=30)] = random.integers(256, size=30)
        (tmp_path / name).write_bytes(damaged.tobytes())
        assert "\n" not in said_of(tmp_path / name)


@pytest.mark.parametrize("missing", ["model_config", "model_weights", "everything"])
def test_an_hdf5_file_with_something_missing(whole, tmp_path, missing):
    shutil.copy(whole / "net.h5", tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "a") as file:
        if missing != "model_config":
            del file["model_weights"]
        if missing != "model_weights":
            del file.attrs["model_config"]
    refused(tmp_path / "net.h5")
