"""Keras models of every make. In the main process on the torch backend; `test_backends.py` runs this file on the others."""

import os

import numpy as np
import pytest

import seqscope as sq

keras = pytest.importorskip("keras")
from keras import layers as kl  # noqa: E402
from keras import ops  # noqa: E402

from seqscope.engines.base import engine_for  # noqa: E402

BACKEND = keras.backend.backend()


@pytest.fixture(autouse=True)
def _same_weights_in_every_run():
    keras.utils.set_random_seed(0)


def data(*lengths, channels=3):
    """Series of these lengths. On jax, which compiles every length anew, those of a test that names none are alike."""
    random = np.random.default_rng(1)
    lengths = lengths or ((9, 9, 9) if BACKEND == "jax" else (6, 9, 6))
    return [random.standard_normal((length, channels)).astype(np.float32) for length in lengths]


def some(*cases):
    """The cases of a test: on jax the first one alone, since every shape of every model is compiled."""
    return cases[:1] if BACKEND == "jax" else cases


def run(model, x, **options):
    """What Keras itself gives for one sequence."""
    return ops.convert_to_numpy(model(x[None], training=False, **options))[0]


def with_sequences(layer, x):
    """What a recurrent layer of the same weights that returns sequences gives, by Keras itself."""
    twin = type(layer).from_config(layer.get_config() | {"return_sequences": True})
    twin.build((None, None, x.shape[-1]))
    twin.set_weights(layer.get_weights())
    return run(twin, x)


def check(scope, name, expected, X):
    """Every sequence of a data set gives what is expected of it alone."""
    whole = scope.activations(X, name)
    check_values(whole, expected, X)
    return whole


def check_values(whole, expected, X):
    for row, x in enumerate(X):
        wanted = expected(x)
        np.testing.assert_allclose(whole.values[row, : len(wanted)], wanted, atol=2e-6)
        assert np.isnan(whole.values[row, len(wanted) :]).all()


@pytest.mark.parametrize("make", some(kl.LSTM, kl.GRU, kl.SimpleRNN))
def test_sequential_that_reads_the_last_step_gives_every_step(make):
    model = keras.Sequential([keras.Input((None, 3)), make(4, name="rnn"), kl.Dense(2)])
    X = data(6, 9, 6)
    whole = check(sq.Scope(model), "rnn", lambda x: with_sequences(model.layers[0], x), X)
    assert whole.dims == ("sample", "time", "unit")
    np.testing.assert_allclose(whole.isel(sample=0, time=5), run(model.layers[0], X[0]), atol=2e-6)


def test_functional_model_with_branches():
    x = keras.Input((None, 3))
    a, b = kl.Conv1D(4, 3, padding="same", name="left")(x), kl.GRU(4, return_sequences=True, name="right")(x)
    model = keras.Model(x, kl.Dense(2)(kl.GlobalMaxPooling1D()(kl.Add(name="sum")([a, b]))))
    found = sq.Scope(model).activations(data())
    np.testing.assert_allclose(found["sum"].activations, found["left"].activations + found["right"].activations, atol=2e-6)


class Subclassed(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.block = keras.Sequential([kl.Conv1D(4, 2, name="conv"), kl.ReLU(name="relu")], name="block")
        self.rnn = kl.LSTM(5, name="rnn")
        self.head = kl.Dense(2, name="head")

    def call(self, x):
        return self.head(self.rnn(self.block(x)))


def test_subclassed_and_nested_models_have_dotted_names():
    model = Subclassed()
    model(data()[0][None])
    scope = sq.Scope(model)
    assert [layer.name for layer in scope.layers] == ["block.conv", "block.relu", "rnn", "head"]
    found = scope.activations(data(), ["block.relu", "block", "rnn"])
    check_values(found["block.relu"].activations, lambda x: run(model.block, x), data())
    check_values(found["block"].activations, lambda x: run(model.block, x), data())
    check_values(found["rnn"].activations, lambda x: with_sequences(model.rnn, run(model.block, x)), data())


def test_subclassed_model_that_never_ran_is_built_from_the_data():
    scope = sq.Scope(Subclassed())
    assert scope.activations(data(), "rnn").sizes == {"sample": 3, "step": 8, "unit": 5}
    assert scope.layers.n_params == sum(weight.size for weight in scope.model.get_weights())


@pytest.mark.filterwarnings("ignore:.build..:UserWarning")  # Keras' own, at any first call of such a model
def test_layer_that_a_model_holds_and_does_not_use_is_never_reached():
    class Holds(Subclassed):
        def __init__(self):
            super().__init__()
            self.unused = kl.Dense(3, name="unused")

    scope = sq.Scope(Holds())
    assert scope.activations(data(), "rnn").sizes["unit"] == 5
    assert {layer.name: layer.calls for layer in scope.layers} == {"block.conv": 1, "block.relu": 1, "rnn": 1, "head": 1, "unused": 0}
    with pytest.raises(sq.errors.LayerError, match="'unused' never ran"):
        scope.activations(data(), "unused")


@pytest.mark.parametrize("fixed", [False, True])
def test_sequential_with_a_dense_head_that_was_never_called(fixed):
    stack = [kl.Conv1D(4, 3, name="conv"), kl.Flatten() if fixed else kl.GlobalMaxPooling1D(), kl.Dense(2)]
    scope = sq.Scope(keras.Sequential(stack))
    assert scope.activations(data(8, 8), "conv").sizes == {"sample": 2, "step": 6, "unit": 4}


def test_sequential_that_was_never_called():
    model = keras.Sequential([kl.LSTM(4, name="rnn"), kl.Dense(2)])
    scope = sq.Scope(model)
    assert "never" in str(scope.layers) or "nothing" in str(scope.layers)
    check(scope, "rnn", lambda x: with_sequences(model.layers[0], x), data())
    assert scope.layers[0].n_params == 4 * 4 * (3 + 4 + 1)


def test_sequential_that_was_called_on_one_batch_takes_others():
    model = keras.Sequential([kl.LSTM(4, name="rnn"), kl.Dense(2)])
    model(np.zeros((2, 5, 3), np.float32))
    check(sq.Scope(model), "rnn", lambda x: with_sequences(model.layers[0], x), data())


@pytest.mark.parametrize(
    ("merge", "sequences"),
    [("concat", False), ("concat", True), ("sum", True), ("ave", False), ("mul", True)][: 2 if BACKEND == "jax" else None],
)
def test_bidirectional_layer_gives_every_step_of_both_ways(merge, sequences):
    layer = kl.Bidirectional(kl.LSTM(4, name="cell", return_sequences=sequences), merge_mode=merge, name="both")
    model = keras.Sequential([keras.Input((None, 3)), layer, *([kl.GlobalMaxPooling1D()] if sequences else []), kl.Dense(2)])

    def expected(x):
        one = with_sequences(layer.forward_layer, x)
        other = with_sequences(layer.backward_layer, x)[::-1]
        merged = {"concat": np.concatenate([one, other], 1), "sum": one + other, "ave": (one + other) / 2, "mul": one * other}
        return merged[merge]

    names = ["both", "both.forward_cell", "both.backward_cell"]
    whole, forward, backward = (found.activations for found in (sq.Scope(model).activations(data(), names)[name] for name in names))
    check_values(whole, expected, data())
    assert ("direction" in whole.coords) == (merge == "concat")
    check_values(forward, lambda x: with_sequences(layer.forward_layer, x), data())
    check_values(backward, lambda x: with_sequences(layer.backward_layer, x)[::-1], data())  # aligned to input time


def test_layer_that_goes_backwards_is_aligned_to_input_time():
    model = keras.Sequential([keras.Input((None, 3)), kl.GRU(4, go_backwards=True, name="rnn"), kl.Dense(2)])
    check(sq.Scope(model), "rnn", lambda x: with_sequences(model.layers[0], x)[::-1], data())


def test_layer_inside_time_distributed_has_its_calls_stacked_on_time():
    inner = kl.Dense(4, name="inner")
    model = keras.Sequential([keras.Input((None, 3)), kl.TimeDistributed(inner, name="each"), kl.LSTM(2)])
    scope = sq.Scope(model)
    for found in scope.activations(data(), ["each", "each.inner"]).children.values():
        check_values(found.activations, lambda x: run(inner, x), data())
        assert found.activations.dims == ("sample", "time", "unit")


def test_model_inside_time_distributed():
    inner = keras.Sequential([kl.Dense(4, name="a"), kl.ReLU(name="b")], name="part")
    model = keras.Sequential([keras.Input((7, 3)), kl.TimeDistributed(inner, name="each"), kl.GlobalMaxPooling1D()])
    check(sq.Scope(model), "each.part.b", lambda x: ops.convert_to_numpy(inner(x)), data(7, 7))


def test_masking_equals_the_sequence_alone():
    model = keras.Sequential([keras.Input((None, 3)), kl.Masking(name="mask"), kl.LSTM(4, name="rnn"), kl.Dense(2)])
    scope, X = sq.Scope(model), data(6, 9, 6)
    check(scope, "rnn", lambda x: with_sequences(model.layers[1], x), X)
    padded = np.zeros((3, 9, 3), np.float32)
    for row, x in enumerate(X):
        padded[row, : len(x)] = x
    np.testing.assert_allclose(scope.predict(padded), scope.predict(X), atol=2e-6)
    np.testing.assert_allclose(scope.predict(X), [run(model, x) for x in X], atol=2e-6)


def test_shared_layer_has_its_calls_apart_and_counts_once():
    x, shared = keras.Input((None, 3)), kl.Dense(3, name="shared")
    model = keras.Model(x, kl.GlobalMaxPooling1D()(shared(kl.ReLU()(shared(x)))))
    scope = sq.Scope(model)
    found = scope.activations(data()[0], "shared")
    assert found.dims == ("call", "time", "unit")
    first = run(shared, data()[0])
    np.testing.assert_allclose(found[0], first, atol=2e-6)
    np.testing.assert_allclose(found[1], run(shared, np.maximum(first, 0)), atol=2e-6)
    assert scope.layers.n_params == 12


def test_several_inputs_are_fed_through_call():
    a, b = keras.Input((None, 3), name="a"), keras.Input((None, 3), name="b")
    model = keras.Model([a, b], kl.Dense(2)(kl.LSTM(4, name="rnn")(kl.Add()([a, b]))))
    with pytest.raises(sq.errors.ModelError, match=r"2 inputs \('a', 'b'\).*call="):
        sq.Scope(model).predict(data())
    scope = sq.Scope(model, call=lambda model, batch, lengths: model([batch, batch]))
    check(scope, "rnn", lambda x: with_sequences(model.get_layer("rnn"), 2 * x), data())


@pytest.mark.skipif(BACKEND == "tensorflow", reason="tensorflow convolves with channels last alone on a CPU")
def test_channels_first():
    stack = [kl.Conv1D(4, 3, data_format="channels_first", name="conv"), kl.GlobalMaxPooling1D(data_format="channels_first")]
    model = keras.Sequential([keras.Input((3, None)), *stack])
    scope, (x,) = sq.Scope(model), data(8)
    assert scope.layers.input.layout == "NCT"
    found = scope.activations(x, "conv")
    assert found.sizes == {"step": 6, "unit": 4}
    np.testing.assert_allclose(found, run(model.layers[0], x.T).T, atol=2e-6)


def test_call_may_turn_the_axes_for_series_of_several_lengths():
    model = keras.Sequential([keras.Input((None, 3)), kl.LSTM(4, name="rnn")])
    scope = sq.Scope(model, call=lambda model, batch, lengths: model(ops.transpose(batch, (0, 2, 1))), layout="NCT")
    check(scope, "rnn", lambda x: with_sequences(model.layers[0], x), data(6, 9, 6))


def test_several_outputs():
    x = keras.Input((None, 3))
    hidden = kl.LSTM(4, name="rnn")(x)
    model = keras.Model(x, {"first": kl.Dense(2, name="one")(hidden), "second": kl.Dense(3, name="two")(hidden)})
    scope = sq.Scope(model)
    assert scope.predict(data()).attrs["tensor"] == "the first of 2 that the model gives"
    assert scope.activations(data(), "two").sizes == {"sample": 3, "unit": 3}


def test_layer_of_several_tensors_has_a_name_for_each():
    class Two(kl.Layer):
        def call(self, x):
            return x + 1, x * 2

    x = keras.Input((None, 3))
    one, two = Two(name="two")(x)
    scope = sq.Scope(keras.Model(x, kl.GlobalMaxPooling1D()(kl.Add()([one, two]))))
    np.testing.assert_allclose(scope.activations(data()[0], "two[1]"), 2 * data()[0], atol=2e-6)
    with pytest.raises(sq.errors.LayerError, match=r"'two\[0\]', 'two\[1\]'"):
        scope.activations(data()[0], "two")


def test_states_that_a_layer_returns_are_no_value_of_it():
    x = keras.Input((None, 3))
    _, h, c = kl.LSTM(4, return_sequences=True, return_state=True, name="rnn")(x)
    model = keras.Model(x, kl.Dense(2)(kl.Concatenate()([h, c])))
    whole = sq.Scope(model).activations(data(), "rnn")
    assert whole.sizes == {"sample": 3, "time": 9, "unit": 4}
    np.testing.assert_allclose(sq.Scope(model).predict(data()), [run(model, x) for x in data()], atol=2e-6)


def test_encoder_and_decoder_with_a_state_handed_over():
    x = keras.Input((None, 3))
    _, h, c = kl.LSTM(4, return_state=True, name="encoder")(x)
    model = keras.Model(x, kl.LSTM(4, return_sequences=True, name="decoder")(kl.RepeatVector(5)(h), initial_state=[h, c]))
    scope, X = sq.Scope(model), data()
    found, outputs = scope.activations(X), scope.predict(X)
    for row, x in enumerate(X):
        np.testing.assert_allclose(outputs[row], run(model, x), atol=2e-6)
        np.testing.assert_allclose(found["decoder"].activations[row], run(model, x), atol=2e-6)


@pytest.mark.parametrize("batch", some(2, 1))
def test_stateful_model_starts_from_zero_and_keeps_its_states(batch):
    rnn = kl.LSTM(4, stateful=True, name="rnn")
    model = keras.Sequential([keras.Input(batch_shape=(batch, None, 3)), rnn, kl.Dense(2)])
    X, scope = data(6, 6, 4), sq.Scope(model)
    model(np.ones((batch, 5, 3), np.float32))
    held = [ops.convert_to_numpy(state).copy() for state in rnn.states]
    assert any(state.any() for state in held)
    found, outputs = scope.activations(X, "rnn"), scope.predict(X)
    for state, before in zip(rnn.states, held, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(state), before)
    for row, x in enumerate(X):
        rnn.reset_states()
        expected = ops.convert_to_numpy(model(np.repeat(x[None], batch, 0)))[0]
        np.testing.assert_allclose(outputs[row], expected, atol=2e-6)
        np.testing.assert_allclose(found[row].dropna("time")[-1], ops.convert_to_numpy(rnn.states[0])[0], atol=2e-6)
    assert scope.layers.n_params == 4 * 4 * 8 + 10  # states are no parameters


@pytest.mark.parametrize("cell", some(kl.LSTMCell, kl.GRUCell, kl.SimpleRNNCell))
def test_cell_in_an_rnn_gives_every_step_and_is_refused_by_name_inside(cell):
    model = keras.Sequential([keras.Input((None, 3)), kl.RNN(cell(4, name="cell"), name="rnn"), kl.Dense(2)])
    scope = sq.Scope(model)
    full = kl.RNN(model.layers[0].cell, return_sequences=True)
    check(scope, "rnn", lambda x: run(full, x), data())
    with pytest.raises(sq.errors.LayerError, match=r"'rnn.cell' runs inside the loop over the steps of 'rnn': ask for 'rnn'"):
        scope.activations(data(), "rnn.cell")
    assert [layer.name for layer in scope.layers] == ["rnn", "dense"] or scope.layers[1].name.startswith("dense")


class Scanned(kl.Layer):
    """A layer that calls another inside a loop of the backend's own."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = kl.Dense(3, name="inner")

    def build(self, shape):
        self.inner.build((shape[0], shape[2]))

    def call(self, x):
        steps = ops.transpose(x, (1, 0, 2))
        return ops.transpose(ops.scan(lambda carry, step: (carry, self.inner(step)), ops.zeros_like(steps[0]), steps)[1], (1, 0, 2))


def test_layer_inside_a_scan_is_seen_or_refused_by_name_and_the_rest_is_seen():
    x = keras.Input((6, 3))
    model = keras.Model(x, kl.GlobalMaxPooling1D(name="pool")(kl.ReLU(name="relu")(Scanned(name="scanned")(x))))
    scope, X = sq.Scope(model), np.stack(data(6, 6))
    if BACKEND == "torch":  # runs as it is: the calls are seen one by one
        assert scope.activations(X, "scanned.inner").sizes["unit"] == 3
        return
    with pytest.raises(sq.errors.LayerError, match=r"'scanned.inner' runs inside a loop"):
        scope.activations(X, "scanned.inner")
    with pytest.warns(UserWarning, match=r"Left out.*scanned.inner"):
        found = scope.activations(X)
    np.testing.assert_allclose(found["relu"].activations, np.maximum(ops.convert_to_numpy(model.layers[1](X)), 0), atol=2e-6)


def test_lambda_layer_of_a_live_model_is_a_layer_like_others():
    model = keras.Sequential([keras.Input((None, 3)), kl.Lambda(lambda x: x * 2, name="double"), kl.LSTM(2)])
    check(sq.Scope(model), "double", lambda x: 2 * x, data())


def test_embedding_takes_tokens():
    model = keras.Sequential([keras.Input((None,), dtype="int32"), kl.Embedding(7, 4, name="letters"), kl.GRU(3), kl.Dense(2)])
    scope, ids = sq.Scope(model), np.array([[1, 2, 3, 6], [0, 5, 5, 1]])
    table = model.layers[0].get_weights()[0]
    np.testing.assert_allclose(scope.activations(ids, "letters"), table[ids], atol=2e-6)
    assert scope.layers.input.layout == "NT"
    with pytest.raises(sq.errors.DataError, match="tokens"):
        scope.predict(np.zeros((2, 4, 3)))


def test_attention_gives_what_it_attended_to():
    x = keras.Input((None, 4))
    attended, _ = kl.MultiHeadAttention(2, 3, name="attention")(x, x, return_attention_scores=True)
    model = keras.Model(x, kl.GlobalAveragePooling1D()(attended))
    layer = model.get_layer("attention")
    X = data(channels=4)
    check(sq.Scope(model), "attention", lambda one: ops.convert_to_numpy(layer(one[None], one[None]))[0], X)


def test_dropout_is_off_and_noise_of_a_layer_is_said_to_be_noise():
    model = keras.Sequential([keras.Input((None, 3)), kl.Dropout(0.5, name="drop"), kl.LSTM(2, dropout=0.5, recurrent_dropout=0.5)])
    scope = sq.Scope(model)
    check(scope, "drop", lambda x: x, data())
    np.testing.assert_array_equal(scope.predict(data()), scope.predict(data()))


@pytest.mark.skipif(BACKEND == "jax", reason="float64 needs jax_enable_x64")
def test_float64_model_is_run_in_float64():
    model = keras.Sequential(
        [keras.Input((None, 3), dtype="float64"), kl.LSTM(4, dtype="float64", name="rnn"), kl.Dense(2, dtype="float64")]
    )
    assert sq.Scope(model).activations(data(), "rnn").dtype == np.float64


def test_mixed_precision_gives_floats_that_numpy_has():
    policy = "mixed_bfloat16"
    model = keras.Sequential([keras.Input((None, 3)), kl.Dense(4, dtype=policy, name="half"), kl.LSTM(2)])
    assert sq.Scope(model).activations(data(), "half").dtype == np.float32


def weights_and_places(model):
    """Everything of a model that a pass might touch."""
    parts = model._flatten_layers()
    return [weight.copy() for weight in model.get_weights()], [dict(part.__dict__) for part in parts]


def assert_untouched(model, before):
    weights, places = before
    for weight, held in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(weight, held)
    for part, held in zip(model._flatten_layers(), places, strict=True):
        now = {name: value for name, value in part.__dict__.items() if name not in ("_called",)}
        assert {name for name in now if now[name] is not held.get(name)} == set()


def everything():
    x = keras.Input((8, 3))
    h = kl.Bidirectional(kl.LSTM(4, name="cell"), name="both")(kl.BatchNormalization(name="norm")(kl.Conv1D(4, 3, name="conv")(x)))
    return keras.Model(x, kl.Dense(2, name="head")(kl.Dropout(0.3, seed=1)(h)))


def test_model_is_left_as_it_was():
    model, X = everything(), np.stack(data(8, 8, 8))
    model(X)
    before = weights_and_places(model)
    scope = sq.Scope(model)
    scope.activations(X)
    scope.activations(X, "both.backward_cell")
    print(scope.layers)
    assert_untouched(model, before)


def test_model_is_left_as_it_was_after_an_exception():
    model, X = everything(), np.stack(data(8, 8, 8))
    model(X)
    before = weights_and_places(model)

    def fails(model, batch, lengths):
        model(batch)
        raise ValueError("a mistake of the person's")

    with pytest.raises(sq.errors.ModelError, match="a mistake of the person's"):
        sq.Scope(model, call=fails, layout="NTC").activations(X, "both")
    assert_untouched(model, before)


@pytest.mark.parametrize("make", [everything, lambda: keras.Sequential([keras.Input((8, 3)), kl.LSTM(4), kl.Dense(2)])])
def test_looking_changes_no_bit_of_the_output(make):
    engine, x, lengths = engine_for(make()), np.stack(data(8, 8)), np.full(2, 8)
    plain = engine.forward(x, lengths).output
    np.testing.assert_array_equal(engine.forward(x, lengths, [layer.name for layer in engine.layers]).output, plain)


def test_weights_that_change_between_calls_are_seen():
    model = keras.Sequential([keras.Input((None, 3)), kl.LSTM(4, name="rnn"), kl.Dense(2)])
    scope, x = sq.Scope(model), data()[0]
    first = scope.activations(x, "rnn")
    model.compile("sgd", "mse")
    model.fit(np.stack(data(6, 6)), np.zeros((2, 2)), epochs=2, verbose=0)
    second = scope.activations(x, "rnn")
    assert not np.allclose(first, second)
    np.testing.assert_allclose(second, with_sequences(model.layers[0], x), atol=2e-6)
    model.predict(np.stack(data(6, 6)), verbose=0)  # gives up its arrays on jax
    np.testing.assert_allclose(scope.activations(x, "rnn"), second, atol=0)


@pytest.mark.parametrize(
    ("stack", "bears"),
    [
        ([kl.LSTM, lambda: kl.Dense(2)], True),
        ([lambda: kl.Conv1D(3, 3, padding="causal"), kl.LSTM], True),
        ([lambda: kl.Conv1D(3, 3, activation="relu"), kl.GlobalMaxPooling1D], False),
        ([lambda: kl.Bidirectional(kl.LSTM(2))], False),
    ][: 2 if BACKEND == "jax" else None],
)
def test_lengths_are_padded_into_one_batch_only_where_nothing_can_see_it(stack, bears):
    made = [make(2) if make is kl.LSTM else make() for make in stack]
    model = keras.Sequential([keras.Input((None, 3)), *made])
    for layer in model.layers:  # padding with zeros stays below every maximum: a trial alone would not show it
        if isinstance(layer, kl.Conv1D):
            layer.set_weights([np.abs(weight) for weight in layer.get_weights()])
    scope, X = sq.Scope(model), [np.abs(x) for x in data(*((5, 9, 16) if BACKEND == "jax" else range(5, 17)))]
    np.testing.assert_allclose(scope.predict(X), [run(model, x) for x in X], atol=2e-6)
    assert list(scope._specimen._feed.bears_padding.values()) == [bears]


def test_what_the_person_put_in_place_of_a_call_is_kept_and_run():
    model = keras.Sequential([keras.Input((None, 3)), kl.Dense(3, name="dense"), kl.LSTM(2)])
    layer = model.layers[0]
    own = lambda x, **options: x * 3  # noqa: E731
    layer.__dict__["call"] = own
    np.testing.assert_allclose(sq.Scope(model).activations(data()[0], "dense"), 3 * data()[0], atol=2e-6)
    assert layer.__dict__["call"] is own


def test_layer_alone_is_a_model():
    layer = kl.LSTM(4, name="alone")
    layer.build((None, None, 3))
    check(sq.Scope(layer), "alone", lambda x: with_sequences(layer, x), data())


def test_four_axes_are_refused_in_a_sentence():
    model = keras.Sequential([keras.Input((8, 8, 3)), kl.Conv2D(2, 3), kl.Flatten(), kl.Dense(2)])
    with pytest.raises(sq.errors.ModelError, match=r"takes input with 4 axes, \(sample, 8, 8, 3\).*sequences"):
        sq.Scope(model).predict(data())


def test_length_that_the_model_does_not_take_is_told():
    model = keras.Sequential([keras.Input((8, 3)), kl.Flatten(), kl.Dense(2)])
    assert sq.Scope(model).layers[0].shape == (24,)
    with pytest.raises(sq.errors.ModelError, match=r"declares, \(sample, 8, 3\).*1x6x3|declares, \(sample, 8, 3\).*6x3"):
        sq.Scope(model).predict(data(6, 6))


def test_framework_error_is_one_sentence():
    class Wrong(kl.Layer):
        def call(self, x):
            return ops.reshape(x, (-1, 7, 11))

    model = keras.Sequential([Wrong(name="wrong"), kl.LSTM(2)])
    with pytest.raises(sq.errors.ModelError) as caught:
        sq.Scope(model).predict(data(6, 6))
    assert f"Keras on {BACKEND}" in str(caught.value)
    assert "Arguments received" not in str(caught.value)


def test_model_of_keras_2_is_refused_in_a_sentence():
    Layer = type("Layer", (), {"__module__": "tf_keras.src.engine.base_layer"})
    with pytest.raises(sq.errors.ModelError, match="Keras 2"):
        engine_for(type("Model", (Layer,), {})())


def test_model_made_under_another_backend_is_refused_in_a_sentence():
    Layer = type("Layer", (), {"__module__": "keras.src.layers.layer"})
    with pytest.raises(sq.errors.ModelError, match=f"another backend than the one that Keras runs on now .{BACKEND}."):
        engine_for(type("Model", (Layer,), {})())


def test_kernels_are_units_by_taps_by_channels():
    model = keras.Sequential([keras.Input((None, 3)), kl.Conv1D(4, 5, name="conv"), kl.Conv1DTranspose(2, 3, name="up")])
    scope = sq.Scope(model)
    kernel = model.layers[0].get_weights()[0]
    np.testing.assert_array_equal(scope.filters("conv"), kernel.transpose(2, 0, 1))
    assert scope.filters("up").sizes == {"unit": 2, "tap": 3, "channel": 4}
    with pytest.raises(sq.errors.UnsupportedError, match="DepthwiseConv1D"):
        sq.Scope(keras.Sequential([keras.Input((None, 3)), kl.DepthwiseConv1D(3, name="deep")])).filters("deep")


@pytest.mark.skipif(os.environ.get("KERAS_BACKEND", BACKEND) != BACKEND, reason="the backend is chosen at Keras' import")
def test_zoo_network_gives_the_numbers_of_the_torch_one():
    torch = pytest.importorskip("torch")
    X, _ = sq.datasets.japanese_vowels("test")
    ours, theirs = (sq.Scope(sq.zoo.japanese_vowels(framework)) for framework in ("keras", "torch"))
    with torch.no_grad():
        names, few = ["lstm", "fc", "softmax"], X[: 3 if BACKEND == "jax" else 40]
        found, expected = (scope.activations(few, names) for scope in (ours, theirs))
    for name in names:
        assert found[name].activations.dims == expected[name].activations.dims
        np.testing.assert_allclose(found[name].activations, expected[name].activations, atol=1e-5)


def seen_by_raising(model, names, n_steps):
    """First and last input step that each step of a layer answers to: the real layers, all weights positive, one step raised at a time.

    By layer; the model runs once for all.
    """
    for layer in model.layers:
        layer.set_weights([np.abs(weight) + 0.1 for weight in layer.get_weights()])
    parts = keras.Model(model.inputs[0], [model.get_layer(name).output for name in names])
    batch = np.repeat(1 + np.abs(data(n_steps)[0])[None], n_steps + 1, axis=0)
    batch[np.arange(n_steps), np.arange(n_steps)] += 1
    seen = {}
    for name, part in zip(names, parts(batch), strict=True):
        values = ops.convert_to_numpy(part)
        moved = (np.abs(values[:-1] - values[-1]) > 1e-5 * values.max()).any(axis=-1).T  # (step, input step)
        seen[name] = moved.argmax(axis=1), n_steps - 1 - moved[:, ::-1].argmax(axis=1)
    return seen


@pytest.mark.parametrize("stride", some(1, 3))
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_steps_of_convolution_and_pooling_lie_over_what_they_see(padding, stride):
    x = keras.Input((29, 3))
    hidden = kl.Conv1D(4, 4, padding=padding, strides=stride, name="conv")(x)
    hidden = kl.AveragePooling1D(3, 2, padding="same", name="pool")(hidden)
    hidden = kl.Add(name="sum")([hidden, kl.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu", name="side")(hidden)])
    hidden = kl.Conv1DTranspose(4, 3, strides=2, padding=padding, name="up")(hidden)
    model = keras.Model(x, kl.UpSampling1D(2, name="twice")(hidden))
    scope, X = sq.Scope(model), np.stack(data(29, 29))
    names = ["conv", "pool", "side", "sum", "up", "twice"]
    whole = scope.activations(X, names)
    for name, (start, end) in seen_by_raising(model, names, 29).items():
        found = whole[name].activations
        if "time" in found.dims:
            assert (start <= np.arange(29)).all()
            assert (end >= np.arange(29)).all()
        else:
            np.testing.assert_array_equal(found.time_start, start)
            np.testing.assert_array_equal(found.time_end, end)


def test_the_net_of_two_convolutions_has_its_lengths_parameters_and_windows():
    stack = [kl.Conv1D(128, 9, name="conv1d_1"), kl.BatchNormalization(), kl.ReLU(), kl.MaxPooling1D(5), kl.Conv1D(128, 9, name="conv1d_2")]
    stack += [kl.BatchNormalization(), kl.ReLU(), kl.MaxPooling1D(5, name="pool"), kl.Flatten(), kl.Dense(300, activation="softmax")]
    scope = sq.Scope(keras.Sequential([keras.Input((300, 9)), *stack]))
    assert [layer.n_params for layer in scope.layers] == [10496, 512, 0, 0, 147584, 512, 0, 0, 0, 384300]
    assert "543,404 parameters, 512 not trainable" in str(scope.layers)
    assert [layer.shape[0] for layer in scope.layers[:8]] == [292, 292, 292, 58, 50, 50, 50, 10]
    found = scope.activations(data(300, channels=9), "conv1d_2")
    assert [int(found[name][place]) for name, place in [("time_start", 0), ("time_end", 0), ("time_start", -1), ("time_end", -1)]] == [
        0,
        52,
        245,
        297,
    ]
    last = scope.activations(data(300, channels=9), "pool").isel(step=-1)
    assert (int(last.time_start), int(last.time_end)) == (225, 297)


def test_step_of_an_encoder_and_of_its_decoder():
    x = keras.Input((None, 3))
    hidden = kl.RepeatVector(4)(kl.LSTM(3, name="encoder")(kl.Conv1D(3, 2, strides=2, name="conv")(x)))
    scope = sq.Scope(keras.Model(x, kl.LSTM(3, return_sequences=True, name="decoder")(hidden)))
    (x,) = data(12)
    encoder, decoder = scope.activations(x, "encoder"), scope.activations(x, "decoder")
    np.testing.assert_array_equal(encoder.time_start, np.zeros(6))
    np.testing.assert_array_equal(encoder.time_end, 2 * np.arange(6) + 1)
    np.testing.assert_array_equal(decoder.time_start, np.zeros(4))
    np.testing.assert_array_equal(decoder.time_end, np.full(4, 11))
