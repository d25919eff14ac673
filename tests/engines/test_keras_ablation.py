"""Units of Keras layers switched off or clamped, against step-by-step equations in NumPy and zeroed weights.

Each backend runs these tests in a process of its own: few nets, since each costs a compilation.
"""

import numpy as np
import pytest

import seqscope as sq
from nets import series
from reference import sigmoid
from seqscope.errors import DataError, LayerError, UnsupportedError

keras = pytest.importorskip("keras")
from keras import layers as kl  # noqa: E402

BACKEND = keras.backend.backend()
CLOSE = {"rtol": 1e-4, "atol": 1e-5}

# The nets are not trained: what they are asked about need not be what they choose.
pytestmark = pytest.mark.filterwarnings("ignore:.*below chance")


def shaken(model, seed=3):
    """A model none of whose weights are zero."""
    random = np.random.default_rng(seed)
    model.set_weights([random.uniform(-0.7, 0.7, weight.shape).astype(weight.dtype) for weight in model.get_weights()])
    return model


def model_of(*layers):
    return shaken(keras.Sequential([keras.Input((None, 3)), *layers]))


def arrays(layer):
    return [np.asarray(weight, np.float64) for weight in layer.get_weights()]


def held_run(weights, x, held, kind="lstm", there=None):
    """h at every step, (sample, time, unit), with units held after each; a step that is not there keeps the h before."""
    kernel, recurrent, bias = weights
    n = len(recurrent)
    h = c = np.zeros((len(x), n))
    steps = []
    for t in range(x.shape[1]):
        if kind == "lstm":
            i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
            after_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            after = sigmoid(o) * np.tanh(after_c)
        else:
            (zx, rx, nx), (zh, rh, nh) = (np.split(part, 3, axis=1) for part in (x[:, t] @ kernel + bias[0], h @ recurrent + bias[1]))
            z, after_c = sigmoid(zx + zh), c
            after = (1 - z) * np.tanh(nx + sigmoid(rx + rh) * nh) + z * h
        after[:, list(held)] = list(held.values())
        here = np.ones((len(x), 1), bool) if there is None else there[:, t, None]
        h, c = np.where(here, after, h), np.where(here, after_c, c)
        steps.append(h)
    return np.stack(steps, axis=1)


HELD = {1: 0.5, 3: -0.2}


@pytest.mark.parametrize("kind", ["lstm", "gru"] if BACKEND == "torch" else ["lstm"])
def test_a_recurrent_layer_steps_with_its_h_held(kind):
    model = model_of({"lstm": kl.LSTM, "gru": kl.GRU}[kind](4, name="layer"), kl.Dense(2, name="fc"))
    x = series().astype(np.float32)
    kernel, bias = arrays(model.get_layer("fc"))
    expected = held_run(arrays(model.get_layer("layer")), x, HELD, kind)
    before = model.get_weights()
    scope = sq.Scope(model)
    plain = scope.predict(x)
    with scope.ablate("layer", list(HELD), value=list(HELD.values())):
        np.testing.assert_allclose(scope.predict(x), expected[:, -1] @ kernel + bias, **CLOSE)
        np.testing.assert_allclose(scope.activations(x, "layer"), expected, **CLOSE)
        np.testing.assert_allclose(scope.states(x, "layer").h, expected, **CLOSE)
        found = scope.attribute(x, "gradient", target=1)
        at_layer = scope.attribute(x, "gradient", target=1, layer="layer")
    np.testing.assert_allclose(found, slope(model, x, kind), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(at_layer.isel(time=-1), np.broadcast_to(kernel[:, 1], (4, 4)), **CLOSE)
    np.testing.assert_array_equal(scope.predict(x), plain)
    assert all(map(np.array_equal, before, model.get_weights()))
    assert "call" not in vars(model.get_layer("layer"))


def slope(model, x, kind, step=1e-5):
    """The derivative of output 1 with HELD held, by central differences of the equations."""
    (kernel, bias), weights = arrays(model.get_layer("fc")), arrays(model.get_layer("layer"))
    found = np.zeros(x.shape)
    for place in np.ndindex(x.shape[1:]):
        moved = np.zeros(x.shape[1:])
        moved[place] = step
        above, below = ((held_run(weights, x + way * moved, HELD, kind)[:, -1] @ kernel + bias)[:, 1] for way in (1, -1))
        found[(slice(None), *place)] = (above - below) / (2 * step)
    return found


def test_both_directions_and_a_mask_and_ragged_data():
    recurrent = kl.Bidirectional(kl.LSTM(4, return_sequences=True), name="both")
    model = model_of(kl.Masking(), recurrent, kl.GlobalAveragePooling1D(name="mean"), kl.Dense(2, name="fc"))
    lengths = (4, 5, 6, 7, 8) if BACKEND == "torch" else (6, 6, 6)  # padding is tried out as the model is, which takes long on the others
    ragged = [one[:length] for one, length in zip(series(5).astype(np.float32), lengths, strict=False)]
    ragged[1][0] = 0  # masked
    kernel, bias = arrays(model.get_layer("fc"))
    with sq.Scope(model).ablate("both", [1, 6], value=[0.5, -0.2]) as scope:
        h, out = scope.activations(ragged, "both"), scope.predict(ragged)
    weights = arrays(recurrent)
    for row, x in enumerate(ragged):
        there = (x != 0).any(1)[None]
        forward = held_run(weights[:3], x[None], {1: 0.5}, there=there)[0]
        backward = held_run(weights[3:], x[None, ::-1], {2: -0.2}, there=there[:, ::-1])[0, ::-1]
        expected = np.concatenate([forward, backward], axis=1)
        np.testing.assert_allclose(h[row, : len(x)][there[0]], expected[there[0]], **CLOSE)
        np.testing.assert_allclose(out[row], expected[there[0]].mean(0) @ kernel + bias, **CLOSE)
        assert h[row, len(x) :].isnull().all()


def test_stacked_cells_apart_and_convolutions():
    model = model_of(kl.Conv1D(5, 3, name="conv"), kl.RNN([kl.LSTMCell(4), kl.LSTMCell(2)], return_sequences=True, name="rnn"))
    x = series().astype(np.float32)
    kernel, bias = arrays(model.get_layer("conv"))
    kernel[..., 2], bias[2] = 0, 0
    conv = sum(x[:, tap : tap + 7] @ kernel[tap] for tap in range(3)) + bias
    weights = arrays(model.get_layer("rnn"))
    lower = held_run(weights[:3], conv, {1: 0.5})
    scope = sq.Scope(model)
    with scope.ablate("conv", 2), scope.ablate("rnn.0", 1, value=0.5), scope.ablate("rnn", 0, value=0.3):
        np.testing.assert_allclose(scope.predict(x), held_run(weights[3:], lower, {0: 0.3}), **CLOSE)
        states = scope.states(x, "rnn")
    np.testing.assert_allclose(states["rnn.0"].h, lower, **CLOSE)
    assert states["rnn.1"].attrs["ablated"] == "conv: 2 at 0; rnn.0: 1 at 0.5; rnn.1: 0 at 0.3"


class Counting(keras.layers.Layer):
    """Gives what it takes, and counts how often it is called: compiled, once for each compilation."""

    n_calls = 0

    def call(self, x):
        self.n_calls += 1
        return x

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.skipif(BACKEND == "torch", reason="nothing is compiled")
def test_what_was_compiled_for_one_unit_runs_for_the_others():
    counting = Counting()
    model = model_of(kl.LSTM(4, name="layer"), counting, kl.Dense(3, name="fc"))
    scope, x = sq.Scope(model), series().astype(np.float32)
    sq.units.ablation(scope, x, "layer", units=0, y=[0, 1, 2, 0])
    sq.units.ablation(scope, x, "fc", units=0, y=[0, 1, 2, 0])
    known = counting.n_calls
    sq.units.ablation(scope, x, "layer", y=[0, 1, 2, 0])
    sq.units.ablation(scope, x, "fc", y=[0, 1, 2, 0], value=0.5)
    assert counting.n_calls == known


def test_the_table_is_what_each_unit_makes_of_the_predictions():
    model = model_of(kl.LSTM(4, name="layer"), kl.Dense(3, activation="softmax", name="fc"))
    x, y = series(8).astype(np.float32), np.arange(8) % 3
    kernel, bias = arrays(model.get_layer("fc"))
    weights = arrays(model.get_layer("layer"))
    logits = [held_run(weights, x, held)[:, -1] @ kernel + bias for held in ({}, *({unit: 0.0} for unit in range(4)))]
    table = sq.units.ablation(sq.Scope(model), x, "layer", y=y)
    right = [(one.argmax(1) == y).mean() for one in logits]
    np.testing.assert_allclose(table.accuracy, right[1:])
    np.testing.assert_allclose(table.accuracy_lost, np.subtract(right[0], right[1:]), atol=1e-12)
    np.testing.assert_allclose(table.score_lost, [(logits[0] - one)[np.arange(8), y].mean() for one in logits[1:]], **CLOSE)


class Own(kl.LSTMCell):
    def call(self, x, states, training=False):
        return super().call(2 * x, states, training)


@pytest.mark.parametrize(
    ("layer", "name", "unit", "error", "said"),
    [
        (
            lambda: kl.Bidirectional(kl.LSTM(4), merge_mode="sum", name="both"),
            "both",
            0,
            UnsupportedError,
            "put together with merge_mode='sum'",
        ),
        (lambda: kl.RNN(Own(4), name="own"), "own", 0, UnsupportedError, "The units of 'own' can't be held: its cell is a Own"),
        (
            lambda: kl.RNN(kl.LSTMCell(4), name="rnn"),
            "rnn.lstm_cell",
            0,
            UnsupportedError,
            "it runs inside the loop over the steps of 'rnn'",
        ),
        (lambda: kl.LSTM(4, name="layer"), "layer", 4, DataError, "There is no unit 4 in 'layer', which has 4: 0 to 3."),
        (lambda: kl.LSTM(4, name="layer"), "layr", 0, LayerError, "No layer is named 'layr'"),
    ],
)
def test_bad_input_in_a_sentence(layer, name, unit, error, said):
    layer = layer()
    model = model_of(layer)
    if "." in name:
        name = f"{name.partition('.')[0]}.{layer.cell.name}"
    with pytest.raises(error) as found:
        sq.Scope(model).ablate(name, unit).__enter__()
    assert said in found.value.message
