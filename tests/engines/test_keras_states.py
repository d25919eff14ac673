"""Every state of every recurrent Keras layer equals the equations, at every step: `reference_states.py` computes what is expected.

In the main process on the torch backend; `test_backends.py` runs this file on the others. There a graph is traced for each model and
each length, so the data have few lengths.
"""

import numpy as np
import pytest
import xarray as xr

import reference_states as ref
import seqscope as sq
from seqscope.engines import keras_cells
from tolerances import assert_close

keras = pytest.importorskip("keras")
from keras import layers as kl  # noqa: E402
from keras import ops  # noqa: E402

BACKEND = keras.backend.backend()


@pytest.fixture(autouse=True)
def _same_weights_in_every_run():
    keras.utils.set_random_seed(0)


def gru_before(units, **options):
    return kl.GRU(units, reset_after=False, **options)


KINDS = {"lstm": kl.LSTM, "gru": kl.GRU, "gru reset before": gru_before, "rnn": kl.SimpleRNN}
NAMES = {"lstm": list("hcifgo"), "gru": list("hrzn"), "gru reset before": list("hrzn"), "rnn": list("ha")}


def data(*lengths, channels=3):
    random = np.random.default_rng(1)
    lengths = lengths or ((6, 4, 6) if BACKEND == "torch" else (6, 6))
    return [random.standard_normal((length, channels)).astype(np.float32) for length in lengths]


def some(*cases):
    """The cases of a test: on the compiled backends the first alone."""
    return cases if BACKEND == "torch" else cases[:1]


def crossed(one, other):
    """All pairs of two lists; on the compiled backends each of the first list with one of the second."""
    one, other = list(one), list(other)
    if BACKEND == "torch":
        return [(a, b) for a in one for b in other]
    return [(a, other[place % len(other)]) for place, a in enumerate(one)]


def sequential(*layers, steps=None, channels=3, dtype=None):
    """A model of these layers, none of whose weights are zero: Keras' biases start as zeros and ones."""
    model = keras.Sequential([keras.Input((steps, channels), dtype=dtype), *layers])
    shaken(model)
    return model


def shaken(model):
    random = np.random.default_rng(3)
    model.set_weights([random.uniform(-0.7, 0.7, weight.shape).astype(weight.dtype) for weight in model.get_weights()])


def check(found, expected, dtype="float32", dims=("sample",)):
    """A Dataset of several sequences holds these states, and NaN after a sequence's end."""
    assert isinstance(found, xr.Dataset)
    assert set(found.data_vars) == set(expected[0])
    for name, array in found.items():
        check_state(array, [states[name] for states in expected], dtype, dims)


def check_state(array, expected, dtype, dims):
    assert array.dims == (*dims, *(("direction",) if expected[0].ndim == 3 else ()), "time", "unit")
    assert len(array) == len(expected)
    for row, values in zip(array.values, expected, strict=True):
        length = values.shape[-2]
        assert_close(row[..., :length, :], values, dtype)
        assert np.isnan(row[..., length:, :]).all()


def check_rnn(model, X=None, expected=None, dtype="float32"):
    """The layer `rnn` gives the equations' states, and its h is its activations."""
    X = data() if X is None else X
    layer, scope = model.get_layer("rnn"), sq.Scope(model)
    found = scope.states(X, "rnn")
    check(found, [(expected or (lambda x: ref.keras_layer(layer, x)))(x) for x in X], dtype)
    assert_close(found.h, scope.activations(X, "rnn"), dtype)
    return found


# The four cells, and their options


@pytest.mark.parametrize("kind", KINDS)
def test_every_state_equals_the_equations(kind):
    found = check_rnn(sequential(KINDS[kind](5, name="rnn"), kl.Dense(2)), data(6, 4, 6) if kind == "lstm" else data())
    assert list(found.data_vars) == NAMES[kind]


@pytest.mark.parametrize("kind", some(*KINDS))
def test_one_sequence_has_no_sample(kind):
    model, (x, *_) = sequential(KINDS[kind](5, name="rnn")), data()
    found, expected = sq.Scope(model).states(x, "rnn"), ref.keras_layer(model.get_layer("rnn"), x)
    for name, array in found.items():
        assert array.dims == ("time", "unit")
        assert_close(array, expected[name], "float32")


BENDS = ["relu", "sigmoid", "hard_sigmoid", "linear", "softsign", "elu", "selu", "softplus", "silu", None]


@pytest.mark.parametrize(("kind", "activation"), crossed(KINDS, BENDS))
def test_activations_of_the_candidate(kind, activation):
    check_rnn(sequential(KINDS[kind](4, activation=activation, name="rnn")), data(6, 6))


@pytest.mark.parametrize(("kind", "activation"), crossed(["lstm", "gru", "gru reset before"], ["hard_sigmoid", "relu", "tanh", "linear"]))
def test_activations_of_the_gates(kind, activation):
    check_rnn(sequential(KINDS[kind](4, recurrent_activation=activation, name="rnn")), data(6, 6))


def test_activation_of_the_persons_own():
    def odd(x):
        return ops.tanh(2.0 * x) + 0.1 * x

    model = sequential(kl.LSTM(4, activation=odd, name="rnn"))
    layer, X = model.get_layer("rnn"), data(6, 6)
    found = sq.Scope(model).states(X, "rnn")
    ref.ACTIVATIONS["odd"] = lambda x: np.tanh(2.0 * x) + 0.1 * x
    try:
        check(found, [ref.keras_layer(layer, x) for x in X])
    finally:
        del ref.ACTIVATIONS["odd"]


@pytest.mark.parametrize("kind", some(*KINDS))
def test_no_bias(kind):
    check_rnn(sequential(KINDS[kind](4, use_bias=False, name="rnn")), data(6, 6))


@pytest.mark.parametrize("sequences", some(False, True))
@pytest.mark.parametrize("kind", some(*KINDS))
def test_backwards_is_aligned_to_input_time(kind, sequences):
    check_rnn(sequential(KINDS[kind](4, go_backwards=True, return_sequences=sequences, name="rnn")))


@pytest.mark.parametrize("kind", some(*KINDS))
def test_layer_that_returns_sequences(kind):
    check_rnn(sequential(KINDS[kind](4, return_sequences=True, name="rnn"), kl.Dense(2)))


@pytest.mark.parametrize("sequences", some(False, True))
@pytest.mark.parametrize("kind", some(*KINDS))
def test_layer_that_returns_its_state(kind, sequences):
    x = keras.Input((None, 3))
    _, *state = KINDS[kind](4, return_state=True, return_sequences=sequences, name="rnn")(x)
    model = keras.Model(x, kl.Dense(2)(kl.Concatenate()([*state, state[0]])))
    shaken(model)
    check_rnn(model)


@pytest.mark.parametrize("backwards", some(True, False))
@pytest.mark.parametrize("kind", some(*KINDS))
def test_unrolled_layer(kind, backwards):
    check_rnn(sequential(KINDS[kind](4, unroll=True, go_backwards=backwards, name="rnn"), steps=6), data(6, 6))


@pytest.mark.parametrize("kind", some(*KINDS))
def test_the_other_implementation_and_dropout(kind):
    options = {"dropout": 0.5, "recurrent_dropout": 0.5} | ({} if kind == "rnn" else {"implementation": 1})
    check_rnn(sequential(KINDS[kind](4, name="rnn", **options)))


@pytest.mark.parametrize("size", some((64, 10), (1, 150)), ids=str)
@pytest.mark.parametrize("kind", some(*KINDS))
def test_sizes(kind, size):
    batch, steps = size
    check_rnn(sequential(KINDS[kind](17, name="rnn")), data(*[steps] * batch))


# Masks: h and c are held, and no gate is computed


def masked(lengths, holes=()):
    """Padded series, and which steps count: those after the end and some in between do not."""
    X, steps = data(*lengths), max(lengths)
    padded = np.zeros((len(X), steps, 3), np.float32)
    for row, x in enumerate(X):
        padded[row, : len(x)] = x
    for row, step in holes:
        padded[row, step] = 0
    return padded, padded.any(axis=-1)


@pytest.mark.parametrize("holes", some(((0, 2), (0, 3), (2, 4)), ()), ids=str)
@pytest.mark.parametrize(
    ("options", "kind"), crossed([{}, {"go_backwards": True}, {"return_sequences": True}, {"unroll": True}], KINDS), ids=str
)
def test_masked_steps_hold_the_state(kind, options, holes):
    model = sequential(kl.Masking(), KINDS[kind](4, name="rnn", **options), kl.Dense(2), steps=6)
    padded, mask = masked((6, 4, 6), holes)
    found = sq.Scope(model).states(padded, "rnn")
    check(found, [ref.keras_layer(model.get_layer("rnn"), x, mask=there) for x, there in zip(padded, mask, strict=True)])


@pytest.mark.parametrize("kind", some(*KINDS))
def test_masks_before_the_first_step(kind):
    model = sequential(kl.Masking(), KINDS[kind](4, name="rnn"))
    padded, mask = masked((6, 4, 6), [(0, 0), (0, 1), (1, 0)])
    found = sq.Scope(model).states(padded, "rnn")
    check(found, [ref.keras_layer(model.get_layer("rnn"), x, mask=there) for x, there in zip(padded, mask, strict=True)])


def test_series_of_several_lengths_for_a_model_that_masks():
    model = sequential(kl.Masking(), kl.LSTM(4, name="rnn"), kl.Dense(2))
    check_rnn(model, data(6, 4, 6))


def test_embedding_that_masks():
    model = keras.Sequential(
        [keras.Input((None,), dtype="int32"), kl.Embedding(7, 3, mask_zero=True, name="letters"), kl.GRU(4, name="rnn")]
    )
    shaken(model)
    ids = np.array([[1, 2, 3, 6, 0, 0], [5, 0, 5, 1, 2, 3]])
    table, layer = model.layers[0].get_weights()[0], model.get_layer("rnn")
    found = sq.Scope(model).states(ids, "rnn")
    check(found, [ref.keras_layer(layer, table[one], mask=one != 0) for one in ids])


# States that the model passes, and states that a layer keeps


@pytest.mark.parametrize("kind", some(*KINDS))
def test_state_from_another_layer(kind):
    x = keras.Input((None, 3))
    mean = kl.GlobalAveragePooling1D()(x)
    state = [kl.Dense(4, name=f"start{number}")(mean) for number in range(2 if kind == "lstm" else 1)]
    model = keras.Model(x, kl.Dense(2)(KINDS[kind](4, name="rnn")(x, initial_state=state)))
    shaken(model)

    def expected(one):
        starts = [model.get_layer(f"start{number}").get_weights() for number in range(len(state))]
        return ref.keras_layer(model.get_layer("rnn"), one, [one.mean(axis=0) @ kernel + bias for kernel, bias in starts])

    check_rnn(model, expected=expected)


def test_encoder_and_decoder():
    x = keras.Input((6, 3))
    _, h, c = kl.LSTM(4, return_state=True, name="encoder")(x)
    model = keras.Model(x, kl.LSTM(4, return_sequences=True, name="decoder")(kl.RepeatVector(5)(h), initial_state=[h, c]))
    shaken(model)
    X, scope = data(6, 6), sq.Scope(model)
    found = scope.states(X)
    assert isinstance(found, xr.DataTree)
    assert set(found.children) == {"encoder", "decoder"}
    first = [ref.keras_layer(model.get_layer("encoder"), x) for x in X]
    check(found["encoder"].to_dataset(), first)
    for row, states in enumerate(first):
        h, c = states["h"][-1], states["c"][-1]
        for name, values in ref.keras_layer(model.get_layer("decoder"), np.tile(h, (5, 1)), [h, c]).items():
            assert_close(found["decoder"][name].values[row], values, "float32")


@pytest.mark.parametrize("kind", some(*KINDS))
@pytest.mark.parametrize("batch", some(2, 1))
def test_stateful_layer_starts_from_zero_and_keeps_its_state(kind, batch):
    model = keras.Sequential([keras.Input(batch_shape=(batch, None, 3)), KINDS[kind](4, stateful=True, name="rnn"), kl.Dense(2)])
    rnn = model.get_layer("rnn")
    model(np.ones((batch, 5, 3), np.float32))
    held = [ops.convert_to_numpy(state).copy() for state in rnn.states]
    assert any(state.any() for state in held)
    check_rnn(model, data(6, 6, 6))
    for state, before in zip(rnn.states, held, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(state), before)


# Both ways, cells, stacks of cells


@pytest.mark.parametrize("sequences", some(False, True))
@pytest.mark.parametrize(("kind", "merge"), some(*zip(KINDS, ["concat", "sum", "mul", "ave"], strict=True), ("lstm", None)))
def test_both_ways(kind, merge, sequences):
    inner = KINDS[kind](4, return_sequences=sequences, name="cell")
    x = keras.Input((None, 3))
    out = kl.Bidirectional(inner, merge_mode=merge, name="rnn")(x)
    model = keras.Model(x, kl.Add()(out) if merge is None else out)
    shaken(model)
    X, layer = data(), model.get_layer("rnn")
    found = sq.Scope(model).states(X, "rnn")
    check(found, [ref.keras_both(layer, x) for x in X])
    assert found.direction.values.tolist() == ["forward", "backward"]


def test_both_ways_with_masks():
    model = sequential(kl.Masking(), kl.Bidirectional(kl.LSTM(4), name="rnn"))
    padded, mask = masked((6, 4, 6), [(0, 2)])
    found = sq.Scope(model).states(padded, "rnn")
    check(found, [ref.keras_both(model.get_layer("rnn"), x, mask=there) for x, there in zip(padded, mask, strict=True)])


def test_both_ways_from_a_state_of_the_models():
    x = keras.Input((None, 3))
    mean = kl.GlobalAveragePooling1D()(x)
    state = [kl.Dense(4, name=f"start{number}")(mean) for number in range(4)]
    model = keras.Model(x, kl.Bidirectional(kl.LSTM(4), name="rnn")(x, initial_state=state))
    shaken(model)
    X, starts = data(), [model.get_layer(f"start{number}").get_weights() for number in range(4)]
    found = sq.Scope(model).states(X, "rnn")
    check(found, [ref.keras_both(model.get_layer("rnn"), x, [x.mean(axis=0) @ kernel + bias for kernel, bias in starts]) for x in X])


def test_both_ways_of_layers_with_options_of_their_own():
    back = kl.LSTM(4, go_backwards=True, activation="relu", name="back")
    model, X = sequential(kl.Bidirectional(kl.LSTM(4), backward_layer=back, name="rnn")), data()
    check(sq.Scope(model).states(X, "rnn"), [ref.keras_both(model.get_layer("rnn"), x) for x in X])


def test_both_ways_of_two_kinds_is_refused():
    back = kl.GRU(4, go_backwards=True, name="back")
    model = sequential(kl.Bidirectional(kl.LSTM(4), backward_layer=back, name="rnn"))
    with pytest.raises(sq.errors.SeqscopeError, match="rnn"):
        sq.Scope(model).states(data(), "rnn")


def test_both_ways_of_a_stack_of_cells():
    model, X = sequential(kl.Bidirectional(kl.RNN([kl.LSTMCell(4), kl.GRUCell(3)]), name="rnn")), data()
    whole, layer = sq.Scope(model).states(X, "rnn"), model.get_layer("rnn")
    sides = [[ref.keras_stack(side, x) for x in X] for side in (layer.forward_layer, layer.backward_layer)]
    for place in range(2):
        pairs = zip(*([layers[place] for layers in side] for side in sides), strict=True)
        check(whole[f"rnn.{place}"].to_dataset(), [{name: np.stack([one[name], other[name]]) for name in one} for one, other in pairs])


def test_one_cell_in_two_layers():
    cell, x = kl.LSTMCell(4), keras.Input((None, 3))
    there = kl.RNN(cell, return_sequences=True, name="there")(x)
    back = kl.RNN(cell, go_backwards=True, name="back")(x)
    model = keras.Model(x, kl.Concatenate()([kl.GlobalMaxPooling1D()(there), back]))
    shaken(model)
    X, found = data(), sq.Scope(model).states(data())
    for name in ("there", "back"):
        check(found[name].to_dataset(), [ref.keras_layer(model.get_layer(name), x) for x in X])


CELLS = {
    "lstm": kl.LSTMCell,
    "gru": kl.GRUCell,
    "gru reset before": lambda units: kl.GRUCell(units, reset_after=False),
    "rnn": kl.SimpleRNNCell,
}


@pytest.mark.parametrize("backwards", some(False, True))
@pytest.mark.parametrize("kind", some("gru reset before", "lstm", "gru", "rnn"))
def test_cell_in_an_rnn(kind, backwards):
    found = check_rnn(sequential(kl.RNN(CELLS[kind](4), go_backwards=backwards, name="rnn"), kl.Dense(2)))
    assert list(found.data_vars) == NAMES[kind]


STACKS = {
    "lstm, gru": lambda: [kl.LSTMCell(4), kl.GRUCell(5)],
    "gru, rnn, lstm": lambda: [kl.GRUCell(4, reset_after=False), kl.SimpleRNNCell(3), kl.LSTMCell(5)],
}


@pytest.mark.parametrize(
    ("cells", "options"),
    some(
        (STACKS["lstm, gru"], {}),
        (STACKS["lstm, gru"], {"return_sequences": True}),
        (STACKS["lstm, gru"], {"unroll": True}),
        (STACKS["gru, rnn, lstm"], {}),
        (STACKS["gru, rnn, lstm"], {"go_backwards": True}),
    ),
)
def test_stack_of_cells_in_an_rnn(cells, options):
    model = sequential(kl.RNN(cells(), name="rnn", **options), kl.Dense(2), steps=6 if "unroll" in options else None)
    X, scope = data(6, 6) if "unroll" in options else data(), sq.Scope(model)
    whole = scope.states(X, "rnn")
    assert isinstance(whole, xr.DataTree)
    expected = list(zip(*(ref.keras_stack(model.get_layer("rnn"), x) for x in X), strict=True))
    assert set(whole.children) == {f"rnn.{place}" for place in range(len(expected))}
    for place, states in enumerate(expected):
        check(whole[f"rnn.{place}"].to_dataset(), states)
    check(scope.states(X, f"rnn.{place}"), states)
    assert_close(whole[f"rnn.{len(expected) - 1}"].h, scope.activations(X, "rnn"), "float32")


def test_stack_of_cells_with_masks():
    model = sequential(kl.Masking(), kl.RNN([kl.LSTMCell(4), kl.GRUCell(5)], name="rnn"))
    padded, mask = masked((6, 4, 6), [(0, 2)])
    whole = sq.Scope(model).states(padded, "rnn")
    expected = [ref.keras_stack(model.get_layer("rnn"), x, there) for x, there in zip(padded, mask, strict=True)]
    for place, states in enumerate(zip(*expected, strict=True)):
        check(whole[f"rnn.{place}"].to_dataset(), states)


def test_stack_of_layers():
    model = sequential(kl.LSTM(4, return_sequences=True, name="lower"), kl.GRU(5, name="upper"), kl.Dense(2, name="head"))
    X, scope = data(), sq.Scope(model)
    found = scope.states(X)
    assert set(found.children) == {"lower", "upper"}
    lower = [ref.keras_layer(model.get_layer("lower"), x) for x in X]
    check(found["lower"].to_dataset(), lower)
    check(found["upper"].to_dataset(), [ref.keras_layer(model.get_layer("upper"), states["h"]) for states in lower])


# Where a layer stands


def test_layer_of_a_nested_model():
    x = keras.Input((None, 3))
    encoder = keras.Sequential([keras.Input((None, 3)), kl.Dense(3, name="dense"), kl.LSTM(4, name="lstm")], name="encoder")
    model = keras.Model(x, kl.Dense(2)(encoder(x)))
    shaken(model)
    kernel, bias = encoder.get_layer("dense").get_weights()
    X = data()
    found = sq.Scope(model).states(X, "encoder.lstm")
    check(found, [ref.keras_layer(encoder.get_layer("lstm"), x @ kernel + bias) for x in X])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.rnn = kl.GRU(4, name="rnn")
        self.head = kl.Dense(2, name="head")

    def call(self, x):
        return self.head(self.rnn(2.0 * x))


def test_layer_of_a_subclassed_model_reads_what_it_is_given():
    model = Subclassed()
    model(data()[0][None])
    shaken(model)
    check_rnn(model, expected=lambda x: ref.keras_layer(model.rnn, 2.0 * x))


def test_clock_of_a_layer_after_a_strided_convolution():
    model = sequential(kl.Conv1D(4, 3, strides=2, name="conv"), kl.LSTM(5, name="rnn"))
    X, scope = data(9, 9), sq.Scope(model)
    found, whole, below = scope.states(X, "rnn"), scope.activations(X, "rnn"), scope.activations(X, "conv")
    assert found.h.dims == found.i.dims == whole.dims
    for row in range(2):
        for name, values in ref.keras_layer(model.get_layer("rnn"), below.values[row]).items():
            assert_close(found[name].values[row], values, "float32")


def test_calls_of_a_shared_layer_are_told_apart():
    x, shared = keras.Input((None, 3)), kl.LSTM(4, name="rnn")
    model = keras.Model(x, kl.Add()([shared(x), shared(kl.ReLU()(x))]))
    shaken(model)
    X, scope = data(6, 6), sq.Scope(model)
    found, whole = scope.states(X, "rnn"), scope.activations(X, "rnn")
    assert found.h.dims == found.c.dims == whole.dims
    assert_close(found.h, whole, "float32")
    for row, one in enumerate(X):
        for call, given_to_it in enumerate((one, np.maximum(one, 0))):
            for name, values in ref.keras_layer(shared, given_to_it).items():
                assert_close(found[name].isel(sample=row, call=call), values, "float32")


@pytest.mark.skipif(BACKEND == "jax", reason="float64 needs jax_enable_x64")
@pytest.mark.parametrize("kind", some(*KINDS))
def test_float64(kind):
    """Keras multiplies matrices of float64 in float32, except on tensorflow: no more can be asked of its own numbers."""
    model = sequential(KINDS[kind](4, dtype="float64", name="rnn"), dtype="float64")
    X = [x.astype(np.float64) for x in data(6, 6)]
    found = check_rnn(model, X, dtype="float64" if BACKEND == "tensorflow" else "float32")
    assert all(array.dtype == np.float64 for array in found.values())


@pytest.mark.skipif(BACKEND == "jax", reason="float64 needs jax_enable_x64")
def test_everything_in_float64():
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        model = sequential(kl.LSTM(4, name="rnn"), kl.Dense(2))
        X = [x.astype(np.float64) for x in data(6, 6)]
        found = check_rnn(model, X, dtype="float64" if BACKEND == "tensorflow" else "float32")
        assert found.c.dtype == np.float64
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


@pytest.mark.skipif(BACKEND != "torch", reason="one backend tells")
@pytest.mark.parametrize(("policy", "dtype"), [("mixed_float16", "float16"), ("mixed_bfloat16", "bfloat16")])
@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision(kind, policy, dtype):
    model, X = sequential(KINDS[kind](16, dtype=policy, name="rnn")), data(30, 30)
    check(sq.Scope(model).states(X, "rnn"), [ref.keras_layer(model.get_layer("rnn"), x) for x in X], dtype)


# What is refused, and what is left as it was


class Odd(kl.LSTMCell):
    """Other equations on the same weights."""

    def call(self, inputs, states, training=False):
        h, state = super().call(inputs, states, training=training)
        return 2.0 * h, [2.0 * h, state[1]]


class Scaled(kl.LSTM):
    """A layer that changes what goes in."""

    def call(self, sequences, initial_state=None, mask=None, training=False):
        return super().call(2.0 * sequences, initial_state=initial_state, mask=mask, training=training)


def test_subclass_of_a_cell_is_refused():
    model = sequential(kl.RNN(Odd(4), name="rnn"))
    with pytest.raises(sq.errors.SeqscopeError, match="rnn"):
        sq.Scope(model).states(data(6, 6), "rnn")


def test_subclass_of_a_layer_is_refused_or_right():
    model, X = sequential(Scaled(4, name="rnn")), data(6, 6)
    try:
        found = sq.Scope(model).states(X, "rnn")
    except sq.errors.SeqscopeError:
        return
    layer = model.get_layer("rnn")
    check(found, [ref.keras_cell(layer.cell, 2.0 * x) for x in X])


class OddLoop(kl.LSTM):
    """A layer that changes what goes into its loop."""

    def inner_loop(self, sequences, initial_state, mask, training=False):
        return super().inner_loop(2.0 * sequences, initial_state, mask, training)


def test_layer_with_a_loop_of_its_own_is_refused_or_right():
    model, X = sequential(OddLoop(4, name="rnn")), data(6, 6)
    try:
        found = sq.Scope(model).states(X, "rnn")
    except sq.errors.SeqscopeError:
        return
    check(found, [ref.keras_cell(model.get_layer("rnn").cell, 2.0 * x) for x in X])


def test_layer_of_another_family_is_refused_by_name():
    model = keras.Sequential([keras.Input((None, 8, 3)), kl.ConvLSTM1D(4, 3, name="conv_lstm")])
    with pytest.raises(sq.errors.UnsupportedError, match="conv_lstm"):
        sq.Scope(model, layout="NTC").states(np.zeros((2, 5, 8, 3), np.float32), "conv_lstm")


@pytest.mark.skipif(BACKEND != "torch", reason="one backend tells")
@pytest.mark.parametrize("kind", KINDS)
def test_net_in_which_rounding_grows_gives_what_the_model_gave(kind):
    """In float32 such a net has no right answer but its own."""
    model = sequential(KINDS[kind](32, name="rnn"))
    model.set_weights([3 * weight for weight in model.get_weights()])
    X, scope = np.stack(data(*[60] * 30)), sq.Scope(model)
    assert_close(scope.states(X, "rnn").h, scope.activations(X, "rnn"), "float32")


@pytest.mark.skipif(BACKEND != "torch", reason="one backend tells")
@pytest.mark.parametrize("backwards", [False, True])
def test_net_in_which_rounding_grows_both_ways_and_backwards(backwards):
    one = kl.GRU(32, return_sequences=True, go_backwards=backwards, name="rnn")
    model = sequential(one if backwards else kl.Bidirectional(one, name="rnn"))
    model.set_weights([3 * weight for weight in model.get_weights()])
    X, scope = np.stack(data(*[60] * 30)), sq.Scope(model)
    h, given = scope.states(X, "rnn").h, scope.activations(X, "rnn").values
    if not backwards:
        given = np.stack(np.split(given, 2, axis=-1), axis=1)
    assert h.dims == (("sample", "time", "unit") if backwards else ("sample", "direction", "time", "unit"))
    assert_close(h.values, given, "float32")


@pytest.mark.skipif(BACKEND != "torch", reason="one backend tells")
def test_nets_in_which_rounding_grows_one_behind_the_other():
    """The second gets what it always gets: it would be another sequence after some steps if it got the first one's replay."""
    model = sequential(kl.GRU(32, return_sequences=True, name="first"), kl.LSTM(32, return_sequences=True, name="second"))
    model.set_weights([3 * weight for weight in model.get_weights()])
    X, scope = np.stack(data(*[60] * 30)), sq.Scope(model)
    found = scope.states(X, ["first", "second"])
    for name in ("first", "second"):
        assert_close(found[name].h, scope.activations(X, name), "float32")


@pytest.mark.skipif(BACKEND != "torch", reason="one backend tells")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backwards", [False, True])
def test_states_along_the_layers_own_hidden_state_are_its_states(kind, backwards):
    """On a net in which rounding does not grow both ways to its states give the same, masked steps, initial and last states too."""
    layer = KINDS[kind](5, name="rnn", return_sequences=True, return_state=True, go_backwards=backwards)
    x, mask = np.stack(data(6, 6)), np.ones((2, 6), bool)
    mask[0, 4:] = False
    start = [ops.convert_to_tensor(np.full((2, 5), 0.3, np.float32))] * (2 if kind == "lstm" else 1)
    layer(x, initial_state=start, mask=mask)
    random = np.random.default_rng(3)
    layer.set_weights([random.uniform(-0.7, 0.7, weight.shape).astype(weight.dtype) for weight in layer.get_weights()])
    found, given = {False: {}, True: {}}, {}
    for careful, kept in found.items():
        with keras_cells.showing(layer, lambda place, tensor, _, kept=kept: kept.update({place: tensor}), careful=careful):
            given[careful] = [ops.convert_to_numpy(one) for one in layer(x, initial_state=start, mask=mask)]
    own = [ops.convert_to_numpy(one) for one in layer(x, initial_state=start, mask=mask)]
    assert all(np.array_equal(one, other) for one, other in zip(given[True], own, strict=True))
    assert found[True].keys() == found[False].keys()
    assert np.isnan(ops.convert_to_numpy(found[True]["[]"])[0, 4:]).any()
    for place, tensor in found[True].items():
        np.testing.assert_allclose(ops.convert_to_numpy(tensor), ops.convert_to_numpy(found[False][place]), atol=2e-6)


def test_layer_without_states_is_refused_by_what_it_is():
    model = sequential(kl.LSTM(4, name="rnn"), kl.Dense(2, name="head"))
    with pytest.raises(sq.errors.SeqscopeError) as caught:
        sq.Scope(model).states(data(6, 6), "head")
    said = str(caught.value)
    assert "'head'" in said
    assert "'rnn'" in said
    with pytest.raises(sq.errors.LayerError, match="the nearest is 'rnn'"):
        sq.Scope(model).states(data(6, 6), "rnm")


def test_model_is_left_as_it_was():
    model = sequential(kl.Masking(), kl.Bidirectional(kl.LSTM(4, return_sequences=True), name="both"), kl.GRU(3, name="rnn"))
    before = [weight.copy() for weight in model.get_weights()]
    parts = [(part, dict(part.__dict__)) for part in model._flatten_layers()]
    output = ops.convert_to_numpy(model(np.stack(data(6, 6))))
    sq.Scope(model).states(data(6, 6))
    for weight, held in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, held)
    for part, held in parts:
        assert {name for name, value in part.__dict__.items() if name != "_called" and value is not held.get(name)} == set()
    np.testing.assert_array_equal(ops.convert_to_numpy(model(np.stack(data(6, 6)))), output)


def test_layer_whose_states_cannot_be_told_is_left_out_with_a_warning_or_refused_where_it_is_the_only_one():
    class Odd(kl.SimpleRNNCell):
        def call(self, x, states, training=False):
            return super().call(x, states, training=training)

    both = keras.Sequential([keras.Input((None, 3)), kl.RNN(Odd(4), return_sequences=True, name="odd"), kl.GRU(5, name="gru")])
    with pytest.warns(UserWarning, match=r"Left out: The states of 'odd' can't be told: its cell is a Odd"):
        assert set(sq.Scope(both).states(np.zeros((2, 4, 3), np.float32)).children) == {"gru"}
    alone = keras.Sequential([keras.Input((None, 3)), kl.RNN(Odd(4), name="odd")])
    with pytest.raises(sq.errors.UnsupportedError, match="its cell is a Odd"):
        sq.Scope(alone).states(np.zeros((2, 4, 3), np.float32))
