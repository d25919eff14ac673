"""Keras networks and files through the doors that torch ones take: the zoo, Scope, the commands. On the torch backend.

One command runs in a process of its own, the others in this one.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import seqscope as sq
from seqscope import files
from seqscope.engines import base
from test_cli import seqscope, seqscope_here  # noqa: F401, a fixture

keras = pytest.importorskip("keras")
from keras import layers as kl  # noqa: E402


@pytest.fixture
def saved(tmp_path):
    """A small model in a file, and data for it."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, 3)), kl.LSTM(4, name="lstm"), kl.Dense(2, name="head")])
    model.save(tmp_path / "net.keras")
    X = np.random.default_rng(0).standard_normal((5, 7, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", X=X)
    return model, tmp_path / "net.keras", X


def test_zoo_network_in_keras_gives_the_numbers_of_the_torch_one():
    X, _ = sq.datasets.japanese_vowels("test")
    ours, theirs = (sq.Scope(sq.zoo.japanese_vowels(framework)) for framework in ("keras", "torch"))
    found, expected = ours.activations(X), theirs.activations(X)
    assert list(found.children) == list(expected.children) == ["lstm", "fc", "softmax"]
    for name in expected.children:
        np.testing.assert_allclose(found[name].activations, expected[name].activations, atol=1e-5)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-5)


def test_scope_of_a_file_equals_that_of_its_model(saved):
    model, path, X = saved
    np.testing.assert_array_equal(sq.Scope(path).activations(X, "lstm"), sq.Scope(model).activations(X, "lstm"))
    np.testing.assert_array_equal(sq.Scope(str(path)).predict(X), sq.Scope(model).predict(X))


def test_weights_fill_a_keras_model(saved, tmp_path):
    model, _, X = saved
    model.save_weights(tmp_path / "other.weights.h5")
    keras.utils.set_random_seed(1)
    fresh = keras.models.clone_model(model)
    base.load_weights(fresh, tmp_path / "other.weights.h5")
    np.testing.assert_array_equal(sq.Scope(fresh).predict(X), sq.Scope(model).predict(X))


@pytest.mark.parametrize("name", ["other.weights.h5", "other.safetensors"])
def test_weights_that_are_not_there_or_of_another_kind(saved, tmp_path, name):
    with pytest.raises(sq.errors.ModelError, match=rf"{name}"):
        base.load_weights(saved[0], tmp_path / name)


def test_weights_of_another_model(saved, tmp_path):
    other = keras.Sequential([keras.Input((None, 3)), kl.LSTM(5, name="lstm"), kl.Dense(2, name="head")])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(sq.errors.ModelError, match="do not fit"):
        base.load_weights(saved[0], tmp_path / "other.weights.h5")


def test_missing_and_broken_files_and_other_endings(tmp_path):
    (tmp_path / "broken.keras").write_bytes(b"no archive")
    for name, words in {"none.keras": "no file", "broken.keras": "is text and no model", "net.bin": "no file"}.items():
        with pytest.raises(sq.errors.ModelError, match=words):
            sq.Scope(tmp_path / name)


def test_lambda_layer_in_a_file_is_refused_in_a_sentence(tmp_path):
    keras.Sequential([keras.Input((None, 3)), kl.Lambda(lambda x: x * 2), kl.LSTM(2)]).save(tmp_path / "net.keras")
    with pytest.raises(sq.errors.ModelError, match=r"holds a Lambda layer.*trust=True") as caught:
        sq.Scope(tmp_path / "net.keras")
    assert len(caught.value.message) < 400


class OwnLayer(kl.Layer):
    """A layer of a module that this process can't import."""

    __module__ = "module_of_somebody_else"

    def call(self, x):
        return x + 1


def test_class_that_keras_does_not_know_is_named(tmp_path):
    keras.Sequential([keras.Input((None, 3)), OwnLayer(), kl.LSTM(2)]).save(tmp_path / "net.keras")
    with pytest.raises(sq.errors.ModelError, match="OwnLayer") as caught:
        sq.Scope(tmp_path / "net.keras")
    assert "custom_objects" in str(caught.value)


def test_commands_take_keras_files(saved, seqscope_here):  # noqa: F811
    model, path, X = saved
    done = seqscope("layers", path, cwd=path.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(word in done.stdout for word in ["LSTM", "with", "4", "hidden", "units"])
    done = seqscope_here("activations", path, "data.npz", "--layer", "lstm", "-o", "hidden.nc", "--plot", "hidden.png")
    assert done.returncode == 0, done.stderr
    with xr.open_dataarray(path.parent / "hidden.nc") as found:
        np.testing.assert_allclose(found, sq.Scope(model).activations(X, "lstm"), atol=1e-6)


def test_weights_of_a_command_fill_a_keras_model(saved, seqscope_here):  # noqa: F811
    model, path, X = saved
    model.save_weights(path.parent / "w.weights.h5")
    (path.parent / "keras_of_mine.py").write_text(
        "import keras\n"
        "def net():\n"
        "    stack = [keras.layers.LSTM(4, name='lstm'), keras.layers.Dense(2, name='head')]\n"
        "    return keras.Sequential([keras.Input((None, 3)), *stack])\n"
    )
    arguments = ("keras_of_mine:net", "data.npz", "--weights", "w.weights.h5", "--layer", "lstm", "--layer", "head", "-o", "all.nc")
    done = seqscope_here("activations", *arguments)
    assert done.returncode == 0, done.stderr
    with xr.open_datatree(path.parent / "all.nc", engine="h5netcdf") as found:
        for name in ("lstm", "head"):
            np.testing.assert_allclose(found[name].activations, sq.Scope(model).activations(X, name), atol=1e-6)


def test_demo_in_keras_writes_the_same_page(tmp_path, seqscope_here, monkeypatch):  # noqa: F811
    monkeypatch.setattr("seqscope.report.why.ASCENT", {"restarts": 1, "steps": 3, "reach": 0.0})  # the way there is tested elsewhere
    done = seqscope_here("demo", "--framework", "keras", "--out", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "96.8 %" in page
    assert "japanese_vowels(&#39;keras&#39;)" in page
    assert len(list(tmp_path.glob("*.png"))) == 7


def test_demo_in_a_framework_that_is_not_there(tmp_path, seqscope_here):  # noqa: F811
    done = seqscope_here("demo", "--framework", "matlab", "--out", tmp_path / "demo")
    assert done.returncode == 1
    assert done.stderr == "Error: The zoo has no network for 'matlab': there are 'torch', 'keras'.\n"


def test_backend_that_is_not_installed_is_told(saved):
    script = (
        "import sys\n"
        "sys.modules['tensorflow'] = None\n"
        "import seqscope as sq\n"
        f"try:\n    sq.Scope({str(saved[1])!r})\n"
        "except sq.errors.MissingPackageError as error:\n    print(error)\n"
    )
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert "Keras is set to run on tensorflow, which is not installed: set the environment variable KERAS_BACKEND" in done.stdout


def test_model_of_a_command_is_a_file_a_name_or_a_callable():
    with pytest.raises(sq.errors.ModelError, match=r"no model file \('.keras', '.h5', .* more\) and not of the form module:callable"):
        files.open_model("something")


def test_net_of_two_convolutions_gives_the_same_numbers_and_windows_in_torch():
    import torch
    from torch import nn

    keras.utils.set_random_seed(0)
    stack = [
        kl.Conv1D(128, 9, name="conv1d_1"),
        kl.BatchNormalization(name="norm_1"),
        kl.ReLU(name="relu_1"),
        kl.MaxPooling1D(5, name="pool_1"),
    ]
    stack += [
        kl.Conv1D(128, 9, name="conv1d_2"),
        kl.BatchNormalization(name="norm_2"),
        kl.ReLU(name="relu_2"),
        kl.MaxPooling1D(5, name="pool_2"),
    ]
    model = keras.Sequential([keras.Input((300, 9)), *stack, kl.Flatten(name="flat"), kl.Dense(300, activation="softmax", name="dense")])

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            for place, n_in in (("1", 9), ("2", 128)):
                self.add_module(f"conv1d_{place}", nn.Conv1d(n_in, 128, 9))
                self.add_module(f"norm_{place}", nn.BatchNorm1d(128, eps=1e-3))
                self.add_module(f"relu_{place}", nn.ReLU())
                self.add_module(f"pool_{place}", nn.MaxPool1d(5))
            self.dense = nn.Linear(1280, 300)

        def forward(self, x):
            for layer in list(self.children())[:-1]:
                x = layer(x)
            return self.dense(x.transpose(1, 2).flatten(1)).softmax(dim=-1)

    twin = Twin().eval()
    with torch.no_grad():
        for place in "12":
            kernel, bias = model.get_layer(f"conv1d_{place}").get_weights()
            getattr(twin, f"conv1d_{place}").weight.copy_(torch.from_numpy(kernel.transpose(2, 1, 0).copy()))
            getattr(twin, f"conv1d_{place}").bias.copy_(torch.from_numpy(bias))
        kernel, bias = model.get_layer("dense").get_weights()
        twin.dense.weight.copy_(torch.from_numpy(kernel.T.copy()))
        twin.dense.bias.copy_(torch.from_numpy(bias))
    X = sq.Sequences(np.random.default_rng(0).standard_normal((6, 300, 9)).astype(np.float32), layout="NTC")
    ours, theirs = sq.Scope(model), sq.Scope(twin)
    assert theirs.layers.n_params == ours.layers.n_params == 543_404
    assert [layer.n_params for layer in theirs.layers] == [10496, 512, 0, 0, 147584, 512, 0, 0, 384300]
    found, expected = ours.activations(X), theirs.activations(X)
    for name in ("conv1d_1", "norm_1", "relu_1", "pool_1", "conv1d_2", "norm_2", "relu_2", "pool_2"):
        assert found[name].activations.dims == expected[name].activations.dims == ("sample", "step", "unit")
        np.testing.assert_allclose(found[name].activations, expected[name].activations, atol=1e-4)
        for coordinate in ("time", "time_start", "time_end"):
            np.testing.assert_array_equal(found[name][coordinate], expected[name][coordinate])
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-5)
    np.testing.assert_array_equal(ours.filters("conv1d_1"), theirs.filters("conv1d_1"))
