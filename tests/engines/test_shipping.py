"""Models in another process: told from others by every bit of their weights, sent as bytes, and the same there bit for bit."""

import copy
import functools
import json
import os
import pickle
import subprocess
import sys
import threading
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import onnx_nets
import seqscope as sq
from nets import series
from seqscope.engines import shipping
from seqscope.engines.base import engine_for, open_file
from seqscope.engines.onnx_session import session_options
from seqscope.engines.shipping import THREAD_VARIABLES, fingerprint, packed, unpacked, use_threads
from seqscope.errors import ModelError

keras = pytest.importorskip("keras")
from keras import layers as kl  # noqa: E402
from keras import ops  # noqa: E402

X = series(4, 9, 3).astype(np.float32)
LENGTHS = np.full(4, 9)

# What the other process does: it knows nothing of these tests.
WORKER = """
import json, sys
from pathlib import Path
import numpy as np
from seqscope.engines.base import engine_for, open_file
from seqscope.engines.shipping import fingerprint, unpacked, use_threads

use_threads(1)
folder, told = Path(sys.argv[1]), {}
for path in sorted(folder.glob("*.packed")):
    engine = unpacked(path.read_bytes())
    batch = np.load(path.with_suffix(".npy"))
    output = engine.forward(batch, np.full(4, 9)).output
    told[path.stem] = output.tobytes().hex(), [layer.name for layer in engine.layers], fingerprint(engine)
for path in folder.glob("net.*"):
    told[path.name] = fingerprint(engine_for(open_file(path, trust=True)))
print(json.dumps(told))
"""


def net(rnn=nn.LSTM):
    """A network whose class no other process can import."""

    class Local(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.norm, self.fc = rnn(3, 5, batch_first=True), nn.BatchNorm1d(5), nn.Linear(5, 2)
            self.scale = torch.tensor([1.0, 2.0, 0.5])

        def forward(self, x):
            return self.fc(self.norm(self.rnn(x * self.scale)[0][:, -1]))

    torch.manual_seed(0)
    made = Local().eval()
    nn.init.normal_(made.norm.running_mean)
    return made


def normed():
    """Convolutions whose weights are computed from others, which torch does not pickle."""
    torch.manual_seed(0)
    norm = nn.utils.parametrizations.weight_norm
    rnn = norm(nn.GRU(4, 3, batch_first=True), "weight_hh_l0")
    return nn.Sequential(norm(nn.Conv1d(9, 9, 2)), norm(nn.Linear(2, 4)), rnn).eval()


@functools.cache
def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(net())


@functools.cache
def frozen():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.freeze(scripted())


@functools.cache
def exported():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(net(), (torch.tensor(X),))


def around():
    """A module around a program."""

    class Around(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return 2 * self.inner(x)

    return Around(scripted())


@functools.cache
def of_keras():
    """A model with classes, functions and a lambda of its own, whose inner layers are named by Keras."""

    class Twice(keras.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.first, self.second = kl.Dense(4, activation=shifted), kl.Dense(4)

        def build(self, shape):
            self.first.build(shape)
            self.second.build((*shape[:-1], 4))

        def call(self, x):
            return self.second(self.first(x))

    def shifted(x):
        return ops.tanh(x + OFFSET)

    keras.utils.set_random_seed(0)
    kl.Dense(1)  # so that the numbers of the names are not those of another process
    inputs = keras.Input((None, 3))
    steps = kl.Lambda(lambda x: ops.cumsum(x, axis=1))(Twice()(inputs))
    return keras.Model(inputs, kl.Dense(2)(kl.BatchNormalization()(kl.LSTM(5)(steps))))


OFFSET = 0.25


@functools.cache
def sequential():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((None, 3)), kl.Bidirectional(kl.GRU(4)), kl.Dense(2)])


@functools.cache
def of_onnx():
    return onnx_nets.recurrent_net().model


def session():
    return onnxruntime.InferenceSession(of_onnx().SerializeToString(), session_options(), providers=["CPUExecutionProvider"])


CASES = {
    "module": lambda: engine_for(net()),
    "lambda": lambda: engine_for(net(), call=lambda model, batch, lengths: OFFSET * model(batch)),
    "parametrized": lambda: engine_for(normed()),
    "zoo": lambda: engine_for(sq.zoo.japanese_vowels()),
    "scripted": lambda: engine_for(scripted()),
    "scripted inside": lambda: engine_for(around()),
    "frozen": lambda: engine_for(frozen()),
    "exported": lambda: engine_for(exported()),
    "keras": lambda: engine_for(of_keras()),
    "sequential": lambda: engine_for(sequential(), call=lambda model, batch, lengths: 2 * model(batch)),
    "onnx": lambda: engine_for(of_onnx()),
    "session": lambda: engine_for(session(), call=lambda model, batch, lengths: model(batch)),
}


def batch_for(name):
    random = np.random.default_rng(3)
    if name == "zoo":
        return random.standard_normal((4, 9, 12)).astype(np.float32)
    return np.ascontiguousarray(X.transpose(1, 0, 2)) if name in ("onnx", "session") else X


@pytest.fixture(scope="module", autouse=True)
def begun(tmp_path_factory):
    """Another process at work on every case, and on files, while the other tests run here."""
    folder = tmp_path_factory.mktemp("sent")
    for name, make in CASES.items():
        (folder / f"{name}.packed").write_bytes(packed(make()))
        np.save(folder / f"{name}.npy", batch_for(name))
    for name, save in FILES.items():
        save(folder / name)
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    command = [sys.executable, "-c", WORKER, str(folder)]
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=said, stderr=subprocess.STDOUT)
    yield process, folder
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def told(begun):
    """What it says."""
    process, folder = begun
    status, said = process.wait(), (folder / "said.txt").read_text()
    assert status == 0, said[-4000:]
    return json.loads(said.splitlines()[-1]), folder


def _save_script(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(scripted(), path)


FILES = {
    "net.pt": _save_script,
    "net.pt2": lambda path: torch.export.save(exported(), path),
    "net.keras": lambda path: sequential().save(path),
    "net.onnx": lambda path: path.write_bytes(of_onnx().SerializeToString()),
}


def nudged(array):
    """The array with its last number moved to the next that its type has."""
    array = np.array(array)
    array.flat[-1] = np.nextafter(array.flat[-1], np.inf, dtype=array.dtype)
    return array


@pytest.mark.parametrize("name", ["rnn.weight_hh_l0", "norm.running_var", "fc.bias", "scale"])
def test_one_bit_of_any_tensor_of_torch_is_seen(name):
    model, seen = net(), set()
    engine = engine_for(model)
    seen.add(fingerprint(engine))
    place, _, key = name.rpartition(".")
    tensor = getattr(model.get_submodule(place), key)
    tensor.data.copy_(torch.tensor(nudged(tensor.detach().numpy())))
    seen.add(fingerprint(engine))
    assert len(seen) == 2
    model.half()  # the values of a halved network may be the same ones, and its computations are not
    assert fingerprint(engine) not in seen


def test_class_layers_and_options_are_seen_and_not_the_state_of_training():
    made = [nn.Linear(3, 2), nn.Linear(3, 2), nn.Conv1d(3, 2, 1), nn.Conv1d(3, 2, 1, dilation=2)]
    for module in made:
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    first, second, conv, dilated = [fingerprint(engine_for(nn.Sequential(module))) for module in made]
    assert first == second
    assert len({first, conv, dilated}) == 3
    made[1].requires_grad_(False).train()
    assert fingerprint(engine_for(nn.Sequential(made[1]))) == first


def test_packed_weights_of_quantized_layers_are_seen():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = [torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8) for model in (net(), net())]
        other = net()
        other.fc.weight.data[0, 0] += 1
        quantized.append(torch.ao.quantization.quantize_dynamic(other, {nn.Linear}, torch.qint8))
        digests = [fingerprint(engine_for(model)) for model in quantized]
    assert digests[0] == digests[1] != digests[2]


def test_one_bit_of_programs_is_seen():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        makers = [torch.jit.script, lambda model: torch.jit.freeze(torch.jit.script(model))]
        makers.append(lambda model: torch.export.export(model, (torch.tensor(X),)))
        for make in makers:
            other = net()
            other.fc.bias.data.copy_(torch.tensor(nudged(other.fc.bias.detach().numpy())))
            assert fingerprint(engine_for(make(net()))) != fingerprint(engine_for(make(other)))


def test_one_bit_of_keras_is_seen_and_not_the_numbers_in_names():
    model = sequential()
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    digest = fingerprint(engine_for(model))
    assert model.name == twin.name or fingerprint(engine_for(twin)) == digest
    assert fingerprint(engine_for(twin)) == digest
    for place in range(len(twin.weights)):
        weights = model.get_weights()
        weights[place] = nudged(weights[place])
        twin.set_weights(weights)
        assert fingerprint(engine_for(twin)) != digest


def test_one_bit_of_onnx_is_seen_and_not_who_wrote_it():
    digest = fingerprint(engine_for(of_onnx()))
    assert fingerprint(engine_for(session())) == digest
    for change in ("producer_name", "weight", "attribute"):
        model = copy.deepcopy(of_onnx())
        if change == "producer_name":
            model.producer_name = "another"
        elif change == "weight":
            weight = next(one for one in model.graph.initializer if one.name.endswith("_R"))
            weight.CopyFrom(onnx_nets.tensor(nudged(onnx_nets.numpy_helper.to_array(weight)), weight.name))
        else:
            next(node for node in model.graph.node if node.op_type == "Softmax").attribute[0].i = 0
        assert (fingerprint(engine_for(model)) == digest) == (change == "producer_name")


def test_parts_of_a_digest_do_not_run_together():
    class Told:
        framework, layers, call = "none", (), None

        def __init__(self, *parts):
            self.parts = parts

        def contents(self):
            return iter(self.parts)

        def packed(self):
            raise NotImplementedError

    a = np.arange(6, dtype=np.float32)
    lists = [("ab", "c"), ("a", "bc"), ("abc",), (a,), (a.reshape(2, 3),), (a.view(np.int32),), (a[:2], a[2:]), (a[:0], a)]
    assert len({fingerprint(Told(*parts)) for parts in lists}) == len(lists)
    assert fingerprint(Told("<f at 0x7f00>")) == fingerprint(Told("<f at 0x8f11>"))


def test_packing_leaves_the_model_as_it_was_and_takes_what_hangs_on_it():
    model = net()
    model.rnn.register_forward_hook(lambda module, args, value: (2 * value[0], value[1]))
    model.train()
    before = pickle.dumps(model.state_dict()), model.training
    twin = unpacked(packed(engine_for(model)))
    assert (pickle.dumps(model.state_dict()), model.training) == before
    assert twin.model.training
    assert twin.in_training == ("norm",)
    np.testing.assert_array_equal(twin.forward(X, LENGTHS).output, engine_for(model).forward(X, LENGTHS).output)


def test_tensors_that_share_memory_are_sent_once():
    model = nn.Sequential(nn.Linear(300, 300, bias=False), nn.Linear(300, 300, bias=False))
    model[1].weight.data = model[0].weight.data.t()
    data = packed(engine_for(model))
    assert len(data) < 1.2 * 300 * 300 * 4
    twin = unpacked(data).model
    assert twin[0].weight.data_ptr() == twin[1].weight.data_ptr()


# What can't be sent


def refused(action):
    with pytest.raises(ModelError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_a_model_that_holds_a_lock_says_how_it_can_be_sent():
    model = net()
    model.lock = threading.Lock()
    message = refused(lambda: packed(engine_for(model)))
    assert message == (
        "The model Local can't be sent to another process (TypeError: cannot pickle '_thread.lock' object): "
        "open it from a file, Scope('model.pt'), or give factory='module:callable'."
    )


def test_a_function_that_holds_a_file_is_told_from_the_model(tmp_path):
    with (tmp_path / "log.txt").open("w") as log:

        def call(model, batch, lengths):
            log.write("one")
            return model(batch)

        message = refused(lambda: packed(engine_for(net(), call=call)))
    assert message.startswith("The function call= that feeds Local can't be sent to another process (PicklingError: Cannot pickle files ")


def test_a_class_of_a_module_that_is_not_there_is_named(monkeypatch):
    engine = engine_for(net())
    home = type(sys)("only_here")
    home.Local = type(engine.model)
    home.Local.__module__, home.Local.__qualname__ = "only_here", "Local"
    monkeypatch.setitem(sys.modules, "only_here", home)
    data = packed(engine)
    monkeypatch.delitem(sys.modules, "only_here")
    assert "needs the module 'only_here', which this process can't import" in refused(lambda: unpacked(data))


def test_a_keras_model_without_weights_or_that_loses_them_is_refused(monkeypatch):
    fresh = keras.Sequential([kl.LSTM(3), kl.Dense(2)])
    assert "has no weights yet, and each process would draw its own" in refused(lambda: packed(engine_for(fresh)))

    class Forgets(keras.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1],))

        def call(self, x):
            return x * self.w

        def save_own_variables(self, store):
            pass

        def load_own_variables(self, store):
            pass

    model = keras.Sequential([keras.Input((None, 3)), Forgets()])
    data = packed(engine_for(model))
    assert "does not keep all of its weights when it is saved" in refused(lambda: unpacked(data))
    data, here = packed(engine_for(sequential())), keras.backend.backend()
    monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
    message = refused(lambda: unpacked(data))
    assert message.startswith(f"A model of Keras on {here} was sent to a process where Keras runs on numpy: set the environment variable")


def test_a_keras_class_that_can_not_be_made_again_is_refused_before_it_is_sent():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = kl.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Net()
    model(X)
    message = refused(lambda: packed(engine_for(model)))
    assert "Net'> could not be deserialized properly" in message
    assert message.endswith("open it from a file, Scope('model.keras'), or give factory='module:callable'.")


def test_keras_is_set_to_the_backend_of_the_model_where_it_is_not_there_yet(monkeypatch):
    data = packed(engine_for(sequential()))
    monkeypatch.setenv("KERAS_BACKEND", "other")
    unpacked(data)
    assert os.environ["KERAS_BACKEND"] == "other"  # Keras is there, and what is set comes too late
    monkeypatch.delitem(sys.modules, "keras")
    unpacked(data)
    assert os.environ["KERAS_BACKEND"] == keras.backend.backend()


# Threads


def test_frameworks_compute_on_as_many_threads_as_they_are_told(monkeypatch):
    for variable in THREAD_VARIABLES:
        monkeypatch.setenv(variable, "7")
    before = torch.get_num_threads()
    try:
        use_threads(2)
        assert torch.get_num_threads() == 2
        assert session_options().intra_op_num_threads == 2
        assert {os.environ[variable] for variable in THREAD_VARIABLES} == {"2"}
    finally:
        torch.set_num_threads(before)
    assert refused(lambda: use_threads(0)) == "A process computes on one thread or more: 0 were asked for."


def test_an_engine_that_can_not_travel_says_so():
    class Bare:
        framework, layers = "another framework", ()

    with pytest.raises(sq.errors.UnsupportedError, match="A model of another framework can't be told from others"):
        shipping.fingerprint(Bare())


# What the other process says, waited for last


@pytest.mark.parametrize("name", CASES)
def test_another_process_makes_the_same_engine(name, told):
    engine = CASES[name]()
    output, layers, digest = told[0][name]
    assert layers == [layer.name for layer in engine.layers]
    assert digest == fingerprint(engine)
    assert output == engine.forward(batch_for(name), LENGTHS).output.tobytes().hex()


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_the_same_model_in_every_process(name, told):
    said, folder = told
    own = engine_for(open_file(folder / name, trust=True))
    assert said[name] == fingerprint(own)
    if name != "net.pt2":  # torch writes a program's operations anew, under the options that it has by default
        assert said[name] == fingerprint(engine_for({"net.pt": scripted, "net.keras": sequential, "net.onnx": of_onnx}[name]()))
