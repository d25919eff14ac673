"""Files of Keras 2: what Keras 3 makes of them computes what Keras 2 (tf_keras) computed, and what can't be is told in a sentence."""

import atexit
import base64
import contextlib
import importlib.util
import json
import marshal
import os
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

import seqscope as sq
from seqscope.engines.keras_weights import load_weights, open_file

keras = pytest.importorskip("keras")
from keras import layers as kl  # noqa: E402

TESTS = Path(__file__).parent.parent


# What was begun: a process that saves networks with Keras 2, where it writes them, and what it says.
begun: list[tuple[subprocess.Popen, Path, Path]] = []
MISSING = [name for name in ("tensorflow", "tf_keras") if importlib.util.find_spec(name) is None]


def begin(folder):
    """Let Keras 2 save its networks while this process goes through the other tests (see conftest.py)."""
    if not MISSING:
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, str(TESTS / "keras2_nets.py"), str(folder)]
        with (folder / "said.txt").open("w") as said:
            process = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
        begun.append((process, folder, folder / "said.txt"))
        atexit.register(process.kill)


@pytest.fixture(scope="module")
def nets():
    """A folder with networks that Keras 2 saved, each with data and what Keras 2 computes of it."""
    if MISSING:
        pytest.skip(f"the reference is tf_keras, and {MISSING[0]} is not installed")
    ((process, folder, said),) = begun
    assert process.wait() == 0, said.read_text()[-3000:]
    return folder


def opened(path):
    """The model of a file, and what was said of it."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = open_file(path)
    return model, [str(warning.message) for warning in said]


def arrays_of(path, letter):
    with np.load(path.with_suffix(".npz")) as saved:
        names = sorted((name for name in saved if name[0] == letter), key=lambda name: int(name[1:]))
        return [saved[name] for name in names]


def off_by(path):
    """How far the outputs of an opened model are from those of Keras 2, relative to their size."""
    x, expected = arrays_of(path, "x"), arrays_of(path, "y")
    model, _ = opened(path)
    found = keras.tree.flatten(model(x if len(x) > 1 else x[0], training=False))
    assert [tuple(one.shape) for one in found] == [one.shape for one in expected]
    pairs = zip((keras.ops.convert_to_numpy(one) for one in found), expected, strict=True)
    return max(float(np.abs(one - other).max()) / max(1.0, float(np.abs(other).max())) for one, other in pairs)


def test_opened_models_compute_what_keras_2_computed(nets):
    paths = sorted(nets.glob("*.h5"))
    assert len(paths) > 140
    off = {path.stem: off_by(path) for path in paths}
    assert {name: value for name, value in off.items() if not value < 1e-6} == {}


@pytest.mark.parametrize("name", ["activations_of_cells", "conv_causal_2", "layer_norm", "batch_norm", "merge_Add", "long_names"])
def test_the_reference_tells_models_apart(nets, name):
    path = nets / f"{name}.h5"
    model, _ = opened(path)
    model.set_weights([weight * 1.1 for weight in model.get_weights()])
    x = arrays_of(path, "x")[0]
    found, expected = keras.tree.flatten(model(x, training=False)), arrays_of(path, "y")
    assert max(np.abs(keras.ops.convert_to_numpy(one) - other).max() for one, other in zip(found, expected, strict=True)) > 1e-3


def test_meanings_that_changed_make_a_difference(nets):
    """The case above would pass without the repair if Keras 3's own hard_sigmoid were the same."""
    x = arrays_of(nets / "gates.h5", "x")[0]
    assert np.abs(keras.ops.convert_to_numpy(keras.activations.hard_sigmoid(x)) - np.clip(0.2 * x + 0.5, 0, 1)).max() > 1e-2


@pytest.mark.parametrize("name", ["conv_same_1", "batch_norm", "nested_sequential", "heads", "float64", "embedding", "merge_Concatenate"])
def test_files_that_need_no_repair_are_opened_without_a_word(nets, name):
    _, said = opened(nets / f"{name}.h5")
    assert [words for words in said if "time_major=False" not in words] == []
    assert bool(said) == (name in ("nested_sequential", "float64", "embedding"))  # recurrent layers say time_major=False


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("slashes", "'/' in names is '_' now ('a/b', 'a/b/lstm')"),
        ("LSTM_time_major", "is done by swapping the axes before and after ("),
        ("activations", "hard_sigmoid is that of Keras 2, clip(0.2 x + 0.5, 0, 1)"),
        ("activations", "ThresholdedReLU, which Keras 3 has no more, is a ReLU with a threshold"),
        ("operations", "an operation of TensorFlow is done with one of Keras"),
        ("cudnn_LSTM", "CuDNNLSTM, which Keras 3 has no more, is an LSTM ('rnn')"),
        ("cudnn_GRU", "is a GRU with reset_after=True ('rnn')"),
    ],
)
def test_repairs_are_told_in_one_warning(nets, name, words):
    _, said = opened(nets / f"{name}.h5")
    assert len(said) == 1
    assert words in said[0]
    assert said[0].startswith(f"'{nets / name}.h5' was written by Keras 2.")


def test_masks_that_end_are_no_warning_at_each_call(nets):
    for name in ("mask_ends_at_flatten", "mask_ends_at_conv", "nested_masked"):
        model, _ = opened(nets / f"{name}.h5")
        model(arrays_of(nets / f"{name}.h5", "x")[0])  # warnings are errors


@pytest.mark.parametrize("name", ["GRU_zero_masked", "bidirectional_LSTM_concat_masked", "bidirectional_GRU_concat_masked"])
def test_states_of_masked_layers_that_give_zeros_are_told(nets, name):
    path = nets / f"{name}.h5"
    x = arrays_of(path, "x")[0]
    scope = sq.Scope(opened(path)[0])
    layer = next(layer.name for layer in scope.layers if layer.kind in ("gru", "lstm", "rnn"))
    states = scope.states(x, layer)
    gate = next(states[gate] for gate in ("i", "z") if gate in states).values
    assert np.isnan(gate[1]).any()
    assert not np.isnan(gate[0]).any()


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_layers_for_cudnn_fill_those_of_a_model(nets, cell):
    path = nets / f"cudnn_{cell}.h5"
    model = keras.Sequential([keras.Input((None, 3)), getattr(kl, cell)(4, return_sequences=True, name="mine")])
    with pytest.warns(UserWarning, match="'rnn' for 'mine'"):
        load_weights(model, path)
    found = keras.ops.convert_to_numpy(model(arrays_of(path, "x")[0]))
    np.testing.assert_allclose(found, arrays_of(path, "y")[0], atol=1e-6)


def test_layer_for_cudnn_does_not_fill_another_kind_of_gru(nets):
    model = keras.Sequential([keras.Input((None, 3)), kl.GRU(4, reset_after=False, name="rnn")])
    with pytest.raises(sq.errors.ModelError, match=r"two biases.*make it with reset_after=True"):
        load_weights(model, nets / "cudnn_GRU.h5")


# Files put together here, as Keras before TensorFlow's and R wrote them


def write(path, config, weights, *, version="2.1.5", whole=True):
    """A file of standalone Keras 2: weights is a dict of dicts of arrays."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = version.encode(), b"tensorflow"
        if config is not None:
            file.attrs["model_config"] = json.dumps(config).encode()
        group = file.create_group("model_weights") if whole else file
        group.attrs["keras_version"], group.attrs["backend"] = version.encode(), b"tensorflow"
        group.attrs["layer_names"] = np.array([name.encode() for name in weights], dtype="S")
        for layer, arrays in weights.items():
            inside = group.create_group(layer)
            inside.attrs["weight_names"] = np.array([f"{layer}/{name}:0".encode() for name in arrays], dtype="S")
            for name, array in arrays.items():
                inside[f"{layer}/{name}:0"] = array
    return path


def gru_weights(random, units=4, channels=3):
    shapes = {"kernel": (channels, 3 * units), "recurrent_kernel": (units, 3 * units), "bias": (3 * units,)}
    return {name: random.standard_normal(shape).astype("f4") * 0.7 for name, shape in shapes.items()}


def replay_gru(x, weights):
    """GRU of the first Keras 2, in float64: hard gates, the reset gate before the product."""
    w, u, b = (weights[name].astype(float) for name in ("kernel", "recurrent_kernel", "bias"))
    units = len(u)
    h = np.zeros((len(x), units))
    for x_t in np.moveaxis(x.astype(float), 1, 0):
        a = x_t @ w + b
        z, r = (np.clip(0.2 * (a[:, at] + h @ u[:, at]) + 0.5, 0, 1) for at in (slice(0, units), slice(units, 2 * units)))
        h = z * h + (1 - z) * np.tanh(a[:, 2 * units :] + (r * h) @ u[:, 2 * units :])
    return h


def test_gru_from_r_whose_options_were_not_said_yet_is_as_it_was(tmp_path):
    """As R's keras saved it: a Sequential model that is a list, without an input layer and with names of the person's own."""
    random = np.random.default_rng(0)
    weights = {"reader/gru": gru_weights(random), "classes": {"kernel": random.standard_normal((4, 2)), "bias": random.standard_normal(2)}}
    gru = {"name": "reader/gru", "units": 4, "batch_input_shape": [None, None, 3], "activation": "tanh", "implementation": 0}
    dense = {"name": "classes", "units": 2, "activation": "linear", "kernel_initializer": {"class_name": "Orthodox", "config": {}}}
    config = [{"class_name": "GRU", "config": gru}, {"class_name": "Dense", "config": dense}]
    path = write(tmp_path / "of_r.h5", {"class_name": "Sequential", "config": config}, weights, version="2.2.4")
    model, (said,) = opened(path)
    for words in (
        "reset_after, which the file does not say yet, is False",
        "only 'batch_input_shape' told",
        "'/' in names",
        "hard_sigmoid",
    ):
        assert words in said
    x = random.standard_normal((5, 7, 3)).astype("f4")
    scope = sq.Scope(model)
    h = replay_gru(x, weights["reader/gru"])
    np.testing.assert_allclose(scope.activations(x, "reader_gru")[:, -1], h, atol=1e-6)
    np.testing.assert_allclose(scope.states(x, "reader_gru").h[:, -1], h, atol=1e-6)
    np.testing.assert_allclose(scope.predict(x), h @ weights["classes"]["kernel"] + weights["classes"]["bias"], atol=1e-5)


def sequential(*layers):
    """A description of layers after an input of three channels."""
    begin = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 5, 3], "name": "in", "dtype": "float32"}}
    return {"class_name": "Sequential", "config": {"name": "net", "layers": [begin, *layers]}}


def layer(kind, name="mine", **options):
    return {"class_name": kind, "config": {"name": name, "trainable": True, "dtype": "float32", **options}}


@pytest.mark.parametrize(
    ("described", "words"),
    [
        (
            layer("LocallyConnected1D", filters=2),
            "'mine' is a LocallyConnected1D, which Keras 3 has no more: convert it to ONNX with tf2onnx",
        ),
        (
            layer("WordAttention"),
            r"'mine' is a 'WordAttention', which Keras does not know: say what it is with custom_objects={'WordAttention'",
        ),
        (layer("Dense", units=2, activation="snake"), r"the activation 'snake', which Keras does not know.*custom_objects={'snake': ...}"),
        (layer("Dense", units=2, sharpness=3), "has sharpness=3, which Keras 3 has no more"),
        (layer("BatchNormalization", axis=[1, 2]), r"normalizes over the axes \[1, 2\] at once"),
        (layer("Dense", units="many"), r"'mine' \(Dense\) can't be made by Keras 3"),
        (
            layer("Lambda", function=["code", None, None], function_type="lambda"),
            "code that opening would run: if you trust the file, say trust",
        ),
        (layer("Lambda", function="times", function_type="function"), r"function 'times', which the file does not hold.*custom_objects"),
        ({"config": {}}, "describes a layer without its class"),
    ],
)
def test_layers_that_cannot_be_are_named(tmp_path, described, words):
    path = write(tmp_path / "net.h5", sequential(described), {})
    with pytest.raises(sq.errors.ModelError, match=words) as caught:
        open_file(path)
    assert str(caught.value).startswith(f"'{path}' can't be opened: ")
    assert len(str(caught.value)) < 500


def test_operations_that_are_not_known_are_named(tmp_path):
    calls = {"name": "tf.signal.rfft", "class_name": "TFOpLambda", "config": {"name": "tf.signal.rfft", "function": "signal.rfft"}}
    begin = sequential()["config"]["layers"][0] | {"name": "in", "inbound_nodes": []}
    layers = [begin, calls | {"inbound_nodes": [["in", 0, 0, {}]]}]
    config = {"name": "net", "layers": layers, "input_layers": [["in", 0, 0]], "output_layers": [["tf.signal.rfft", 0, 0]]}
    path = write(tmp_path / "net.h5", {"class_name": "Functional", "config": config}, {})
    with pytest.raises(sq.errors.ModelError, match=r"is the operation tf\.signal\.rfft, which has no counterpart here: convert it to ONNX"):
        open_file(path)


def test_layers_that_wait_for_each_other_are_told(tmp_path):
    begin = sequential()["config"]["layers"][0] | {"name": "in", "inbound_nodes": []}
    pair = [{**layer("Dense", name, units=3), "name": name, "inbound_nodes": [[[of, 0, 0, {}]]]} for name, of in (("a", "b"), ("b", "a"))]
    config = {"name": "net", "layers": [begin, *pair], "input_layers": [["in", 0, 0]], "output_layers": [["b", 0, 0]]}
    path = write(tmp_path / "net.h5", {"class_name": "Model", "config": config}, {})
    with pytest.raises(sq.errors.ModelError, match="its layers wait for each other or for what is not there: 'a' is one of 2"):
        open_file(path)


class Doubled(kl.Layer):
    """A layer of a person's own."""

    def call(self, x):
        return x * 2


def test_classes_and_functions_of_the_persons_own(tmp_path):
    described = [
        layer("Doubled"),
        layer("Dense", "dense", units=2, activation="cubed"),
        layer("Lambda", "last", function="plus_one", function_type="function", arguments={"much": 3.0}),
    ]
    kernel = np.ones((3, 2), "f4")
    path = write(tmp_path / "net.h5", sequential(*described), {"dense": {"kernel": kernel, "bias": np.zeros(2, "f4")}})
    own = {"Doubled": Doubled, "cubed": lambda x: x**3, "plus_one": lambda x, much: x + much}
    model = open_file(path, custom_objects=own)
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("f4")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(x)), (2 * x @ kernel) ** 3 + 3, rtol=1e-5)


def test_code_in_a_file_runs_only_if_it_is_trusted(tmp_path, monkeypatch):
    monkeypatch.delenv("SEQSCOPE_BOMB", raising=False)
    bomb = compile("lambda x: (__import__('os').environ.update(SEQSCOPE_BOMB='1'), x * 2.0)[1]", "bomb", "eval").co_consts[0]
    code = base64.b64encode(marshal.dumps(bomb)).decode()
    path = write(tmp_path / "net.h5", sequential(layer("Lambda", function=[code, None, None], function_type="lambda")), {})
    with pytest.raises(sq.errors.ModelError, match="trust=True"):
        open_file(path)
    assert "SEQSCOPE_BOMB" not in os.environ
    model = open_file(path, trust=True)
    monkeypatch.setenv("SEQSCOPE_BOMB", "taken away after the test")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(np.ones((1, 5, 3), "f4"))), np.full((1, 5, 3), 2.0))


# Damaged files


def dense_file(path, **given):
    return write(path, sequential(layer("Dense", units=2)), {"mine": {"kernel": np.ones((3, 2)), "bias": np.ones(2)} | given})


def test_damaged_files_are_told_in_a_sentence(tmp_path):
    path = dense_file(tmp_path / "net.h5")
    open_file(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for size in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(sq.errors.ModelError, match=r"net\.h5"):
            open_file(path)
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.integers(8, len(whole))] = rng.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(sq.errors.ModelError):
            opened(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.attrs.__setitem__("model_config", b"{"), "what it says of its model is damaged: JSONDecodeError"),
        (lambda file: file.attrs.__setitem__("model_config", b"[1, 2]"), "its description of the model is none of Keras"),
        (lambda file: file.attrs.__setitem__("model_config", b'{"class_name": "Sequential", "config": {}}'), "damaged: KeyError: 'layers'"),
        (lambda file: file.attrs.__setitem__("keras_version", b"1.2.2"), "was written by Keras 1"),
        (lambda file: file.__delitem__("model_weights"), "the group 'model_weights' is missing"),
        (lambda file: file.__delitem__("model_weights/mine"), "lists 'mine' among its weights, which it does not hold"),
        (lambda file: file.__delitem__("model_weights/mine/mine/bias:0"), "lists 'mine/bias:0' among its weights, which it does not hold"),
        (lambda file: file["model_weights"].attrs.__setitem__("layer_names", np.array([b""])[:0]), "the file has none for 'mine'"),
        (lambda file: file.attrs.__delitem__("model_config"), r"is an HDF5 file that holds no Keras model: 'model_weights'"),
    ],
)
def test_files_that_lack_something(tmp_path, change, words):
    path = dense_file(tmp_path / "net.h5")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(sq.errors.ModelError, match=words):
        open_file(path)


def test_weights_of_another_shape_are_told(tmp_path):
    path = dense_file(tmp_path / "net.h5", kernel=np.ones((7, 2)))
    with pytest.raises(sq.errors.ModelError, match=r"'mine/kernel' has shape \(3, 2\), and 'mine/kernel:0' in the file \(7, 2\)"):
        open_file(path)


# Weights alone


@pytest.fixture
def small():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((None, 3)), kl.LSTM(4, name="lstm"), kl.BatchNormalization(name="norm"), kl.Dense(2, name="head")])


def lstm_weights(random):
    shapes = {"kernel": (3, 16), "recurrent_kernel": (4, 16), "bias": (16,)}
    return {name: random.standard_normal(shape).astype("f4") for name, shape in shapes.items()}


def all_weights(names=("lstm", "norm", "head")):
    random = np.random.default_rng(0)
    norm = {name: random.uniform(0.5, 1, 4).astype("f4") for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    head = {"kernel": random.standard_normal((4, 2)).astype("f4"), "bias": random.standard_normal(2).astype("f4")}
    return dict(zip(names, (lstm_weights(random), norm, head), strict=True))


def test_weights_of_keras_2_fill_a_model_by_name_in_any_order(small, tmp_path):
    weights = all_weights()
    path = write(tmp_path / "w.h5", None, {name: weights[name] for name in ("head", "lstm", "norm")}, whole=False)
    load_weights(small, path)
    expected = [array for name in ("lstm", "norm", "head") for array in weights[name].values()]
    for found, array in zip(small.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(found, array)


def test_weights_of_numbered_names_fill_in_order_without_a_word_and_others_with_one(small, tmp_path):
    weights = all_weights(("lstm_7", "norm_3", "head_12"))
    load_weights(small, write(tmp_path / "w.h5", None, weights, whole=False))
    np.testing.assert_array_equal(small.get_layer("head").kernel.numpy(), weights["head_12"]["kernel"])
    path = write(tmp_path / "other.h5", None, all_weights(("reader", "norm", "classes")), whole=False)
    with pytest.warns(UserWarning, match="'reader' for 'lstm', 'classes' for 'head'"):
        load_weights(small, path)


def test_weights_in_another_order_are_told_apart_by_their_shapes(small, tmp_path):
    weights = all_weights(("a", "b", "c"))
    path = write(tmp_path / "w.h5", None, {name: weights[name] for name in "cab"}, whole=False)
    with pytest.warns(UserWarning, match="'a' for 'lstm', 'b' for 'norm', 'c' for 'head'"):
        load_weights(small, path)
    np.testing.assert_array_equal(small.get_layer("head").kernel.numpy(), weights["c"]["kernel"])


def test_weights_that_do_not_fit_are_listed_and_change_nothing(small, tmp_path):
    before = small.get_weights()
    weights = all_weights()
    cases = {
        "has none for 'head'; left over are 'tail', 'more'": {"lstm": weights["lstm"], "norm": weights["norm"], "tail": {}, "more": {}},
        r"'head/kernel' has shape \(4, 2\), and 'head/kernel:0' in the file \(4, 9\)": weights | {"head": {"kernel": np.ones((4, 9))}},
        "layer 'norm' has 4 weights .gamma, beta, moving_mean, moving_variance., and 1 are saved": weights
        | {"norm": {"gamma": np.ones(4)}},
    }
    for place, (words, arrays) in enumerate(cases.items()):
        head = weights["head"]
        filled = {name: one or head for name, one in arrays.items()}
        filled["head" if "head" in filled else "tail"] = {**head, **filled.get("head", {})}
        with pytest.raises(sq.errors.ModelError, match=words):
            load_weights(small, write(tmp_path / f"{place}.h5", None, filled, whole=False))
    for found, array in zip(small.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, array)


def test_weights_alone_are_no_model_and_say_how_they_are_used(small, tmp_path):
    old, new = write(tmp_path / "old.h5", None, all_weights(), whole=False), tmp_path / "new.weights.h5"
    small.save_weights(new)
    for path, names in ((old, "'lstm', 'norm', 'head'"), (new, "'batch_normalization', 'dense', 'lstm'")):
        with pytest.raises(sq.errors.ModelError, match=rf"holds weights alone \(of {names}.*Scope\(model, weights=.{path.name}.\)"):
            open_file(path)


@pytest.mark.parametrize("name", ["w.weights.h5", "w.keras"])
def test_weights_of_keras_3_that_do_not_fit_are_listed_and_change_nothing(small, tmp_path, name):
    save = small.save_weights if "weights" in name else small.save
    save(tmp_path / name)
    load_weights(small, tmp_path / name)
    other = keras.Sequential([keras.Input((None, 3)), kl.GRU(4, name="gru"), kl.Dense(3, name="head")])
    before = other.get_weights()
    with pytest.raises(
        sq.errors.ModelError, match=r"none for 'layers/gru/cell/vars/0'.*left over are 'layers/batch.*dense/vars/0 is \(4, 3\)"
    ):
        load_weights(other, tmp_path / name)
    for found, array in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, array)


def test_model_without_weights_yet_is_told(tmp_path):
    path = write(tmp_path / "w.h5", None, all_weights(), whole=False)
    with pytest.raises(sq.errors.ModelError, match=r"has no weights yet to fill.*call it once on data"):
        load_weights(keras.Sequential([kl.LSTM(4)]), path)


def test_h5_of_keras_3_keeps_the_meaning_of_keras_3(tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), kl.LSTM(4, recurrent_activation="hard_sigmoid")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(tmp_path / "net.h5")
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("f4")
    again, said = opened(tmp_path / "net.h5")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(again(x)), keras.ops.convert_to_numpy(model(x)), atol=1e-6)
    assert said == []


def test_opened_model_is_saved_and_opened_as_one_of_keras_3(nets, tmp_path):
    for name in ("gates", "documents", "average_pool_same", "LSTM_time_major"):
        model, _ = opened(nets / f"{name}.h5")
        model.save(tmp_path / f"{name}.keras")
        x = arrays_of(nets / f"{name}.h5", "x")[0]
        again = keras.tree.flatten(open_file(tmp_path / f"{name}.keras")(x))
        for found, expected in zip(again, arrays_of(nets / f"{name}.h5", "y"), strict=True):
            np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, atol=1e-5)
