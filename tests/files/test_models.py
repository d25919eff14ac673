import textwrap
from collections import OrderedDict

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch import nn

import seqscope as sq
from seqscope import errors, files
from seqscope.zoo.torch import JapaneseVowels

keras = pytest.importorskip("keras")


@pytest.fixture
def module_here(tmp_path, monkeypatch):
    (tmp_path / "my_models_for_files.py").write_text(
        textwrap.dedent("""
        from seqscope.zoo.torch import JapaneseVowels as make
        from collections import OrderedDict
        from torch import nn
        value = 3
        def net():
            return nn.Sequential(OrderedDict(rnn=nn.LSTM(3, 4, batch_first=True)))
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
    with pytest.raises(errors.ModelError, match=r"'fc.bias' is 8 there and 9 in the model"):
        files.open_model(f"{module_here}:make", tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"garbage garbage garbage", "is text and no model file"),
        (b"\x08\0\0\0\0\0\0\0{garbage", "can't be read as safetensors"),
        (None, "There is no file"),
    ],
)
def test_weights_that_can_not_be_read(module_here, tmp_path, content, said):
    if content is not None:
        (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(errors.ModelError, match=said):
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


def test_a_command_takes_a_file_of_weights_with_what_makes_the_model(module_here, tmp_path):
    wanted = sq.zoo.japanese_vowels().state_dict()
    torch.save(wanted, tmp_path / "w.pt")
    found = files.open_model(str(tmp_path / "w.pt"), factory=f"{module_here}:make").state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_command_whose_model_is_no_file_needs_no_factory(module_here):
    with pytest.raises(errors.ModelError, match="'japanese_vowels' is no file: leave it out"):
        files.open_model("japanese_vowels", factory=f"{module_here}:make")


# Scope's


def net(units=4):
    return nn.Sequential(OrderedDict(rnn=nn.LSTM(3, units, batch_first=True)))


@pytest.fixture
def trained(tmp_path):
    """The weights of a trained network, in a file of each form, by name."""
    weights = net().state_dict()
    torch.save(weights, tmp_path / "w.pt")
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": weights}, tmp_path / "w.ckpt")
    save_file(weights, tmp_path / "w.safetensors")
    return weights


FILES = ("w.pt", "old.pth", "w.ckpt", "w.safetensors")


def equal(found, wanted):
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("name", FILES)
def test_weights_go_into_a_copy_of_the_model_that_was_given(trained, tmp_path, name):
    given = net()
    before = {key: value.clone() for key, value in given.state_dict().items()}
    scope = sq.Scope(given, weights=tmp_path / name)
    assert scope.model is not given
    assert equal(scope.model.state_dict(), trained)
    assert equal(given.state_dict(), before)


@pytest.mark.parametrize("name", FILES)
def test_a_factory_makes_the_model_of_a_file_of_weights(trained, tmp_path, name, module_here):
    for scope in (
        sq.Scope(tmp_path / name, factory=net),
        sq.Scope(weights=str(tmp_path / name), factory=net),
        sq.Scope(str(tmp_path / name), factory=f"{module_here}:net"),
    ):
        assert equal(scope.model.state_dict(), trained)


def test_a_file_of_weights_alone_says_how_it_is_opened(trained, tmp_path):
    for name in FILES:
        with pytest.raises(errors.ModelError, match=rf"holds weights alone.*Scope\(model, weights='{name}'\).*factory='module:callable'"):
            sq.Scope(tmp_path / name)


def test_weights_go_into_a_model_from_a_file(trained, tmp_path):
    torch.save(net(), tmp_path / "whole.pt")
    scope = sq.Scope(tmp_path / "whole.pt", weights=tmp_path / "w.pt", trust=True)
    assert equal(scope.model.state_dict(), trained)


def test_weights_of_another_network_are_refused_and_the_model_is_as_it_was(trained, tmp_path):
    given = net(5)
    before = {key: value.clone() for key, value in given.state_dict().items()}
    with pytest.raises(errors.ModelError, match="do not fit Sequential"):
        sq.Scope(given, weights=tmp_path / "w.pt")
    assert equal(given.state_dict(), before)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "No model was given"),
        ({"model": nn.Linear(3, 2), "factory": net}, "Both a model and factory= were given"),
        ({"model": "a.pt", "weights": "b.pt", "factory": net}, "two files were given to fill it with, 'a.pt' and 'b.pt'"),
        ({"model": "a.pt", "factory": "my_models"}, "'my_models' names no factory: expected module:callable"),
        ({"factory": lambda: 1 / 0}, "raised ZeroDivisionError"),
        ({"factory": lambda: 3}, "A builtins.int is not a model of a known framework"),
        ({"model": nn.Linear(3, 2), "custom_objects": {"a": 1}}, "custom_objects= are for a model file of Keras"),
    ],
)
def test_what_does_not_go_together(arguments, said):
    with pytest.raises(errors.ModelError, match=said):
        sq.Scope(**arguments)


def test_custom_objects_are_for_keras(tmp_path):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "T", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    onnx.save(helper.make_model(graph), tmp_path / "net.onnx")
    with pytest.raises(errors.ModelError, match="custom_objects= are for files of Keras"):
        sq.Scope(tmp_path / "net.onnx", custom_objects={"a": 1})


def test_a_model_that_can_not_be_copied(trained, tmp_path):
    class Single(nn.Module):
        def __deepcopy__(self, memo):
            raise TypeError("there is only one")

    with pytest.raises(errors.ModelError, match=r"This Single can't be copied \(there is only one\), and what you gave is never changed"):
        sq.Scope(Single(), weights=tmp_path / "w.pt")


# Keras


class Doubled(keras.layers.Layer):
    """A layer that is not registered with Keras."""

    def call(self, x):
        return 2 * x


class OfItsOwn(keras.Model):
    """A model whose layers only its code knows."""

    def __init__(self, **options):
        super().__init__(**options)
        self.rnn = keras.layers.LSTM(4)

    def call(self, x):
        return self.rnn(x)

    def get_config(self):
        return {}


def doubling():
    return keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4), Doubled()])


def of_its_own():
    model = OfItsOwn()
    model(np.zeros((1, 5, 3), np.float32))
    return model


def with_a_lambda():
    return keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4), keras.layers.Lambda(lambda x: 2 * x)])


@pytest.mark.parametrize("make", [doubling, of_its_own, with_a_lambda])
def test_weights_go_into_a_copy_of_a_keras_model_too(tmp_path, make):
    source, given = make(), make()
    source.save_weights(tmp_path / "net.weights.h5")
    before = given.get_weights()
    scope = sq.Scope(given, weights=tmp_path / "net.weights.h5")
    assert scope.model is not given
    for found, wanted, was, left in zip(scope.model.get_weights(), source.get_weights(), before, given.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(left, was)
    X = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    np.testing.assert_array_equal(scope.predict(X), sq.Scope(source).predict(X))


def test_classes_of_a_keras_file_are_named_by_custom_objects(tmp_path):
    source = doubling()
    source.save(tmp_path / "net.keras")
    X = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    scope = sq.Scope(tmp_path / "net.keras", custom_objects={"Doubled": Doubled})
    np.testing.assert_array_equal(scope.predict(X), sq.Scope(source).predict(X))
