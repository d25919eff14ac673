"""What a Keras model's scores are: logits, functions, and single numbers of outputs, layers and states, with their derivatives.

The references are the networks' equations in float64 NumPy, central differences of them, and models cut in two. Each backend runs these
tests in a process of its own: where it compiles, few cases, since each costs a compilation.
"""

import numpy as np
import pytest

import reference_states as ref
from nets import series
from seqscope.engines.base import engine_for
from seqscope.engines.score import Score
from seqscope.errors import LayerError, ModelError, SeqscopeError, UnsupportedError

keras = pytest.importorskip("keras")
from keras import layers as kl  # noqa: E402
from keras import ops  # noqa: E402

BACKEND = keras.backend.backend()
OUTPUT_TIME, STEPS = ("sample", "time", "output"), ("sample", "time", "unit")


@pytest.fixture(autouse=True)
def _same_weights_in_every_run():
    keras.utils.set_random_seed(0)


def some(*cases):
    """The cases of a test: on the compiled backends the first alone."""
    return cases if BACKEND == "torch" else cases[:1]


def shaken(model, seed=3):
    """A model none of whose weights are zero."""
    random = np.random.default_rng(seed)
    model.set_weights([random.uniform(-0.7, 0.7, weight.shape).astype(weight.dtype) for weight in model.get_weights()])
    return model


def model_of(*layers, steps=None):
    return shaken(keras.Sequential([keras.Input((steps, 3)), *layers]))


def floats(*shape, seed=1):
    return series(*shape, seed=seed).astype(np.float32)


def lengths_of(x):
    return np.full(len(x), x.shape[1])


def forward(model, x, *capture, **options):
    return engine_for(model).forward(x, lengths_of(x), capture, **options)


def gradient(model, x, target, layer=None, **options):
    found = engine_for(model).gradient(x, lengths_of(x), target, layer, **options)
    assert found.score.shape == (len(x),)
    return found


def score(position, time=None, dims=("sample", "output"), address=""):
    return Score(np.asarray(position), None if time is None else np.asarray(time), dims, address)


def differences(function, shape, step=1e-5):
    """The derivative of a number with respect to each entry of an array of zeros."""
    found = np.zeros(shape)
    for place in np.ndindex(*shape):
        added = np.zeros(shape)
        added[place] = step
        found[place] = (function(added) - function(-added)) / (2 * step)
    return found


def assert_near(found, expected, scale=1.0):
    """Up to float32."""
    np.testing.assert_allclose(found, expected, rtol=1e-4 * scale, atol=3e-5 * scale)
    assert np.abs(expected).max() > 1e-2  # or nothing was compared


def dense(layer, h):
    matrix, bias = (weight.astype(np.float64) for weight in layer.get_weights())
    return h @ matrix + bias


def convolved(layer, x):
    kernel, bias = (weight.astype(np.float64) for weight in layer.get_weights())
    return np.array([np.einsum("tcf,tc->f", kernel, x[t : t + len(kernel)]) + bias for t in range(len(x) - len(kernel) + 1)])


def refused(kind, *args, **options):
    with pytest.raises(kind) as caught:
        gradient(*args, **options)
    return str(caught.value)


# Logits


class Own(keras.Model):
    """Ends in a function that no layer stands for."""

    def __init__(self, end):
        super().__init__()
        self.pool, self.fc, self.end = kl.GlobalAveragePooling1D(), kl.Dense(2, name="fc"), end

    def call(self, x):
        return self.end(self.fc(self.pool(x)))


def native_softmax(x):
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.nn.softmax(x)
    if BACKEND == "jax":
        import jax

        return jax.nn.softmax(x)
    import torch

    return torch.softmax(x, dim=-1)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


FUNCTIONS = {
    "softmax": softmax,
    "log_softmax": lambda x: np.log(softmax(x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def pooled(*layers):
    return model_of(kl.GlobalAveragePooling1D(), *layers)


ENDS = {
    "dense": ("softmax", lambda: pooled(kl.Dense(2, activation="softmax"))),
    "dense log": ("log_softmax", lambda: pooled(kl.Dense(2, activation="log_softmax"))),
    "dense sigmoid": ("sigmoid", lambda: pooled(kl.Dense(2, activation="sigmoid"))),
    "layer": ("softmax", lambda: pooled(kl.Dense(2), kl.Softmax())),
    "activation": ("softmax", lambda: pooled(kl.Dense(2), kl.Activation("softmax"))),
    "reshaped": ("sigmoid", lambda: pooled(kl.Dense(2), kl.Reshape((2, 1)), kl.Activation("sigmoid"), kl.Flatten())),
    "ops": ("softmax", lambda: Own(ops.softmax)),
    "activations": ("sigmoid", lambda: Own(keras.activations.sigmoid)),
    "native": ("softmax", lambda: Own(native_softmax)),
    "squeezed": ("sigmoid", lambda: Own(lambda x: ops.squeeze(ops.sigmoid(ops.expand_dims(x, -1)), -1))),
}


@pytest.mark.parametrize("end", ENDS)
def test_logits_are_what_went_into_the_last_function(end):
    name, make = ENDS[end]
    model, x = make(), floats(3, 4)
    given = forward(model, x)
    found = forward(model, x, logits=True)
    (fc,) = [layer for layer in model._flatten_layers() if isinstance(layer, kl.Dense)]
    assert (given.through, found.through) == ("", name)
    np.testing.assert_allclose(found.output, dense(fc, x.astype(np.float64).mean(axis=1)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(given.output, FUNCTIONS[name](found.output), rtol=1e-5, atol=1e-6)


def test_logits_are_those_of_a_model_without_the_function():
    with_it, without = (model_of(kl.Conv1D(4, 2), kl.Flatten(), kl.Dense(2, activation=name), steps=5) for name in ("softmax", None))
    x = floats(3, 5)
    assert np.array_equal(forward(with_it, x, logits=True).output, forward(without, x).output)
    one, other = (gradient(model, x, 1) for model in (with_it, without))
    assert (one.through, other.through) == ("softmax", "")
    assert np.array_equal(one.output, forward(without, x).output)
    np.testing.assert_allclose(one.score, other.score, rtol=1e-6)
    np.testing.assert_allclose(one.gradients[""][0], other.gradients[""][0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("how", ["dense", "each step"])
def test_logits_at_every_step(how):
    head = kl.Dense(2, activation="softmax", name="fc")
    model, x = model_of(kl.Conv1D(4, 2), head if how == "dense" else kl.TimeDistributed(head)), floats(2, 5)
    found = forward(model, x, logits=True)
    assert found.through == "softmax"
    expected = np.array([dense(head, convolved(model.layers[0], sample)) for sample in x.astype(np.float64)])
    np.testing.assert_allclose(found.output, expected, rtol=1e-5, atol=1e-6)
    at = gradient(model, x, score([1, 0], [-1, 2], OUTPUT_TIME))
    np.testing.assert_allclose(at.score, [expected[0, -1, 1], expected[1, 2, 0]], rtol=1e-5, atol=1e-6)
    assert not at.gradients[""][0][0, :3].any()
    assert at.gradients[""][0][0, 3:].all()


@pytest.mark.parametrize(
    "model",
    [
        lambda: pooled(kl.Dense(2)),
        lambda: model_of(kl.Dense(2), kl.Softmax(axis=1)),
        lambda: Own(lambda x: ops.softmax(x, axis=0)),
        lambda: Own(lambda x: 2 * ops.softmax(x)),
        lambda: pooled(kl.Dense(4, activation="sigmoid"), kl.Dense(2)),
    ],
    ids=["linear", "over time", "over samples", "changed", "further back"],
)
def test_nothing_else_is_looked_through(model):
    model, x = model(), floats(3, 4)
    found = forward(model, x, logits=True)
    assert found.through == ""
    assert np.array_equal(found.output, forward(model, x).output)


def test_functions_are_as_they_were():
    from keras.src import backend

    before = [backend.nn.softmax, backend.nn.sigmoid, backend.numpy.reshape]
    model, x = pooled(kl.Dense(2, activation="softmax")), floats(2, 4)
    forward(model, x, logits=True)
    refused(ModelError, model, x, 5)
    assert [backend.nn.softmax, backend.nn.sigmoid, backend.numpy.reshape] == before
    assert engine_for(model).in_training == ()


# Functions as targets


def test_target_of_a_forward_pass_is_given_what_the_model_gives():
    model, x = pooled(kl.Dense(2, activation="softmax")), floats(3, 4)
    found = forward(model, x, logits=True, target=lambda given: given[:, 0] - given[:, 1])
    given = forward(model, x).output
    np.testing.assert_allclose(found.scores, given[:, 0] - given[:, 1], rtol=1e-6, atol=1e-7)
    assert found.through == "softmax"
    np.testing.assert_allclose(gradient(model, x, lambda given: given[:, 0]).score, given[:, 0], rtol=1e-6)


def test_targets_that_give_no_scores_are_refused():
    model, x = pooled(kl.Dense(2)), floats(3, 4)
    for target in (lambda given: given, lambda given: 1.0, lambda given: given[:2, 0]):
        with pytest.raises(SeqscopeError, match=r"one score for each|target"):
            forward(model, x, target=target)
    with pytest.raises(ModelError, match="The target raised AttributeError"):
        forward(model, x, target=lambda given: given.no_such_thing)


# Scores of layers and states


def states_of(layer, x):
    return ref.keras_both(layer, x) if isinstance(layer, kl.Bidirectional) else ref.keras_layer(layer, x)


@pytest.mark.parametrize(
    ("make", "states"),
    some(
        (lambda: kl.LSTM(4, name="rnn"), some("o", "c", "h", "i", "f", "g")),
        (lambda: kl.GRU(4, name="rnn"), ("r", "z", "n", "h")),
        (lambda: kl.SimpleRNN(4, name="rnn", go_backwards=True), ("a", "h")),
    ),
    ids=some("lstm", "gru", "rnn backwards"),
)
def test_state_of_a_unit_at_a_step(make, states):
    model, x = model_of(make(), kl.Dense(2, name="fc")), floats(2, 5)
    rnn = model.layers[0]
    for state in states:
        found = gradient(model, x, score([1, -1], [3, -2], STEPS, f"rnn (states)[{state}]"))
        assert found.through == ""
        for sample, unit, one, at in zip(x.astype(np.float64), (1, 3), found.score, found.gradients[""][0], strict=True):

            def value(added, sample=sample, unit=unit, state=state):
                return states_of(rnn, sample + added)[state][3, unit]

            np.testing.assert_allclose(one, value(0.0), rtol=1e-4, atol=1e-6)
            assert_near(at, differences(value, (5, 3)))


def test_state_of_a_direction_and_what_comes_before_it():
    both = kl.Bidirectional(kl.LSTM(4), name="both")
    model, x = model_of(kl.Conv1D(3, 2, name="conv"), both, kl.Dense(2, name="fc")), floats(2, 5)
    found = gradient(model, x, score([1, 2], [0, 2], STEPS, "both (states)[backward][c]"), "conv")
    for sample, unit, t, one, at in zip(x.astype(np.float64), (1, 2), (0, 2), found.score, found.gradients[""][0], strict=True):
        conv = convolved(model.get_layer("conv"), sample)

        def value(added, conv=conv, unit=unit, t=t):
            return ref.keras_layer(both.backward_layer, conv + added)["c"][t, unit]

        np.testing.assert_allclose(one, value(0.0), rtol=1e-4, atol=1e-6)
        assert_near(at, differences(value, (4, 3)))
    np.testing.assert_allclose(found.values[""][0][1], conv, rtol=1e-4, atol=1e-6)


def test_unit_of_a_layer_at_a_step():
    model, x = model_of(kl.Conv1D(4, 3, activation="tanh", name="conv"), kl.GlobalMaxPooling1D(), kl.Dense(2, name="fc")), floats(2, 6)
    conv = model.get_layer("conv")
    found = gradient(model, x, score([3, 0], [-1, 1], STEPS, "conv"))
    for sample, unit, t, one, at in zip(x.astype(np.float64), (3, 0), (3, 1), found.score, found.gradients[""][0], strict=True):

        def value(added, sample=sample, unit=unit, t=t):
            return np.tanh(convolved(conv, sample + added))[t, unit]

        np.testing.assert_allclose(one, value(0.0), rtol=1e-4)
        assert_near(at, differences(value, (6, 3)))
    itself = gradient(model, x, score([3, 0], [-1, 1], STEPS, "conv"), "conv").gradients[""][0]
    assert itself[0, 3, 3] == itself[1, 1, 0] == 1
    assert itself.sum() == 2


def test_state_that_depends_on_an_earlier_one_of_the_same_layer():
    model, x = model_of(kl.LSTM(4, name="rnn"), kl.Dense(2, name="fc")), floats(1, 5)
    cell = model.layers[0].cell
    found = gradient(model, x, score([2], [3], STEPS, "rnn (states)[f]"), "rnn", state="c")

    def value(added):
        h = c = np.zeros(4)
        for x_t, plus in zip(x[0].astype(np.float64), added, strict=True):
            now = ref.keras_cell(cell, x_t[None], (h, c))
            c = now["c"][0] + plus
            h = now["o"][0] * np.tanh(c)
            yield now["f"][0][2]

    assert_near(found.gradients[""][0][0], differences(lambda added: list(value(added))[3], (5, 4)))
    assert not found.gradients[""][0][0, 3:].any()  # a forget gate does not depend on the cell it makes


@pytest.mark.skipif(BACKEND == "jax", reason="jax computes in float32")
def test_in_float64():
    layers = kl.GRU(4, name="rnn", dtype="float64"), kl.Dense(2, name="fc", dtype="float64", activation="softmax")
    model, x = shaken(keras.Sequential([keras.Input((None, 3), dtype="float64"), *layers])), series(1, 5)

    def logit(added):
        return dense(layers[1], states_of(layers[0], x[0] + added)["h"][-1])[1]

    def gate(added):
        return states_of(layers[0], x[0] + added)["z"][2, 1]

    # Keras' own product takes float64 as float32 on torch; the states are those of the equations.
    for target, function, near in ((1, logit, 1e-6), (score([1], [2], STEPS, "rnn (states)[z]"), gate, 1e-12)):
        found = gradient(model, x, target)
        np.testing.assert_allclose(found.score, [function(0.0)], rtol=near)
        np.testing.assert_allclose(found.gradients[""][0][0], differences(function, (5, 3)), rtol=max(near * 10, 1e-6), atol=1e-8)


# Values, and values put in their place


@pytest.mark.parametrize(("layer", "state"), some(("both", "c"), ("conv", "h"), ("rnn", "h")))
def test_values_are_what_a_forward_pass_captures(layer, state):
    one = kl.Bidirectional(kl.LSTM(3), name="both") if layer == "both" else kl.GRU(3, name="rnn")
    model, x = model_of(kl.Conv1D(4, 2, name="conv"), one, kl.Dense(2, name="fc")), floats(2, 5)
    found = gradient(model, x, 1, layer, state=state)
    addresses = {
        "conv": {"": "conv"},
        "both": {way: f"both (states)[{way}][c]" for way in ("forward", "backward")},
        "rnn": {"": "rnn (states)[h]"},
    }[layer]
    captured = forward(model, x, next(iter(addresses.values())).partition("[")[0]).captured
    assert list(found.values) == list(found.gradients) == list(addresses)
    for way, address in addresses.items():
        np.testing.assert_allclose(found.values[way][0], captured[address][0], rtol=1e-5, atol=1e-6)
        assert found.values[way][0].shape == found.gradients[way][0].shape


def test_value_put_in_the_place_of_a_layers_own():
    end = [kl.GRU(3, name="rnn"), kl.Dense(2, activation="softmax", name="fc")]
    model, x = model_of(kl.Conv1D(4, 2, activation="relu", name="conv"), *end), floats(2, 5)
    rest = keras.Sequential([keras.Input((None, 4)), *end])
    put = floats(2, 4, 4, seed=5)
    found, expected = gradient(model, x, 1, "conv", replace=put), gradient(rest, put, 1)
    assert found.through == "softmax"
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-6)
    np.testing.assert_allclose(found.gradients[""][0], expected.gradients[""][0], rtol=1e-5, atol=1e-7)
    assert np.array_equal(found.values[""][0], put)
    assert "has shape" in refused(ModelError, model, x, 1, "conv", replace=put[:, :3])
    assert "has shape" in refused(ModelError, model, x, 1, "conv", replace=put[..., :3])
    assert "recurrent" in refused(UnsupportedError, model, x, 1, "rnn", replace=put)
    assert "layer=" in refused(UnsupportedError, model, x, 1, replace=x)


def test_model_with_a_fixed_number_of_rows():
    layers = kl.Conv1D(3, 2, name="conv"), kl.LSTM(3, stateful=True, name="rnn"), kl.Dense(2, activation="softmax", name="fc")
    model = shaken(keras.Sequential([keras.Input(batch_shape=(2, 5, 3)), *layers]))
    free, x = (
        keras.Sequential([keras.Input((5, 3)), kl.Conv1D(3, 2, name="conv"), kl.LSTM(3, name="rnn"), kl.Dense(2, activation="softmax")]),
        floats(3, 5),
    )
    free.set_weights([weight for weight in model.get_weights() if weight.shape != (2, 3)])
    target = score([0, 1, 1])
    one, other = (gradient(each, x, target, "conv") for each in (model, free))
    np.testing.assert_allclose(one.score, other.score, rtol=1e-5)
    np.testing.assert_allclose(one.gradients[""][0], other.gradients[""][0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(one.values[""][0], other.values[""][0], rtol=1e-5, atol=1e-6)
    found = forward(model, x, logits=True, target=lambda given: given[:, 1])
    assert found.through == one.through == "softmax"
    np.testing.assert_allclose(found.output, other.output, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.scores, softmax(other.output)[:, 1], rtol=1e-5)


# What is compiled


@pytest.mark.skipif(BACKEND == "torch", reason="nothing is compiled")
def test_other_numbers_of_the_same_kind_are_not_compiled_anew():
    traces = []

    def counted(x):
        traces.append(x.shape)
        return x

    model, x = model_of(kl.Lambda(counted), kl.Conv1D(4, 2, name="conv"), kl.LSTM(3, name="rnn"), kl.Dense(3)), floats(2, 5)
    engine, lengths = engine_for(model), lengths_of(x)

    def n_traced(*calls):
        traces.clear()
        for target, layer in calls:
            engine.gradient(x, lengths, target, layer)
        return len(traces)

    unit = [score([unit, 0], [t, 1], STEPS, "rnn (states)[c]") for unit, t in ((0, 1), (2, 3), (1, -1))]
    assert n_traced((0, "conv"), (unit[0], None))
    assert not n_traced((1, "conv"), (score([2, 1]), "conv"), (-1, "conv"), (unit[1], None), (unit[2], None))
    assert n_traced((score([0, 0], [0, 0], STEPS, "rnn (states)[h]"), None))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="jax compiles every shape, and torch none")
@pytest.mark.parametrize("layer", [None, "conv", "rnn"])
def test_one_trace_for_all_shapes(layer):
    traces = []
    model = model_of(kl.Lambda(lambda x: traces.append(x.shape) or x), kl.Conv1D(4, 2, name="conv"), kl.GRU(3, name="rnn"), kl.Dense(3))
    engine = engine_for(model)
    for shape in ((2, 5), (3, 7), (1, 4)):
        x = floats(*shape)
        found = engine.gradient(x, lengths_of(x), 1, layer).gradients[""][0]
        assert found.shape == {None: (*shape, 3), "conv": (shape[0], shape[1] - 1, 4), "rnn": (shape[0], shape[1] - 1, 3)}[layer]
        assert len(set(traces)) == 1
        assert len(traces) <= 2


# Refusals


def test_what_is_not_there_is_refused():
    shared = kl.Dense(3, name="twice")
    start = keras.Input((None, 3))
    rnn = kl.LSTM(3, name="rnn")
    model = shaken(keras.Model(start, kl.Dense(2, name="fc")(rnn(shared(shared(start))))))
    x = floats(2, 5)
    assert "twice" in refused(UnsupportedError, model, x, score([0, 0], [0, 0], STEPS, "twice"))
    assert "twice" in refused(UnsupportedError, model, x, 0, "twice")
    assert "no such" in refused(LayerError, model, x, score([0, 0], address="no such"))
    assert "rnn (states)[z]" in refused(LayerError, model, x, score([0, 0], [0, 0], STEPS, "rnn (states)[z]"))
    for wrong in some(score([0, 0], [0, 0], OUTPUT_TIME), score([0, 3]), score([-3, 0])):
        assert "There is no output" in refused(ModelError, model, x, wrong)
    for unit, time in some((0, 5), (3, 0), (-4, 0), (0, -6)):
        sentence = refused(ModelError, model, x, score([0, unit], [0, time], STEPS, "rnn (states)[c]"))
        assert str(unit or time) in sentence
    assert "expected the position" in refused(ModelError, model, x, "class")
