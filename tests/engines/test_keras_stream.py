"""Keras models step by step: every output, activation and state equals the whole run's, and what can't be streamed is refused by name.

In the main process on the torch backend. On the others each stream is compiled, so there some cases stand for all:
`SEQSCOPE_ENGINE=keras KERAS_BACKEND=jax pytest tests/engines/test_keras_stream.py`.
"""

import threading

import numpy as np
import pytest

import reference_states as ref
import seqscope as sq
from seqscope.errors import DataError, UnsupportedError
from tolerances import assert_close

keras = pytest.importorskip("keras")
from keras import layers as kl  # noqa: E402
from keras import ops  # noqa: E402

BACKEND = keras.backend.backend()


def gru_before(units, **options):
    return kl.GRU(units, reset_after=False, **options)


KINDS = {"lstm": kl.LSTM, "gru": kl.GRU, "gru reset before": gru_before, "rnn": kl.SimpleRNN}
NAMES = {"lstm": list("hcifgo"), "gru": list("hrzn"), "gru reset before": list("hrzn"), "rnn": list("ha")}


@pytest.fixture(autouse=True)
def _same_weights_in_every_run():
    keras.utils.set_random_seed(0)


def some(*cases):
    """The cases of a test: on the compiled backends the first alone."""
    return cases if BACKEND == "torch" else cases[:1]


def data(n_streams=2, n_steps=6, channels=3):
    return np.random.default_rng(1).standard_normal((n_streams, n_steps, channels)).astype(np.float32)


def sequential(*layers, steps=None, channels=3, **options):
    """A model of these layers, none of whose weights are zero: Keras' biases start as zeros and ones."""
    return shaken(keras.Sequential([keras.Input((steps, channels), **options), *layers]))


def shaken(model):
    random = np.random.default_rng(3)
    model.set_weights([random.uniform(-0.7, 0.7, weight.shape).astype(weight.dtype) for weight in model.get_weights()])
    return model


def whole(model, x):
    return np.array(ops.convert_to_numpy(model(ops.convert_to_tensor(x), training=False)))


def stream_of(model, x, **options):
    return sq.Scope(model).stream(len(x), check=x[:1], **options)


def streamed(model, x, **options):
    """What was seen at each step of a block (stream, time, channel), or of tokens (stream, time)."""
    with stream_of(model, x, **options) as stream:
        return [stream.step(x[:, t]) for t in range(x.shape[1])]


def assert_outputs(seen, expected, dtype="float32"):
    """`expected` (stream, time, output), of the whole run."""
    for t, step in enumerate(seen):
        assert step.output.dims == ("stream", "output")
        assert_close(step.output, expected[:, t], dtype)


def assert_states(seen, name, expected, dtype="float32"):
    """`expected`: for each stream the states of the equations (time, unit)."""
    for t, step in enumerate(seen):
        found = step.states[name]
        assert set(found) == set(expected[0])
        for state, array in found.items():
            assert array.dims == ("stream", "unit")
            assert_close(array, np.stack([of[state][t] for of in expected]), dtype)


# Recurrent layers


@pytest.mark.parametrize("streams", some(3, 1))
@pytest.mark.parametrize("kind", KINDS)
def test_every_step_equals_the_whole_run(kind, streams):
    model, x = sequential(KINDS[kind](5, return_sequences=True, name="rnn"), kl.Dense(2, name="fc")), data(streams)
    seen = streamed(model, x)
    assert_outputs(seen, whole(model, x))
    assert_states(seen, "rnn", [ref.keras_layer(model.get_layer("rnn"), one) for one in x])
    assert list(seen[0].states["rnn"]) == NAMES[kind]
    for step in seen:
        assert_close(step.activations["rnn"], step.states["rnn"].h, "float32")


@pytest.mark.parametrize("kind", some(*KINDS))
def test_net_that_reads_the_last_step_gives_its_output_for_the_steps_so_far(kind):
    model, x = sequential(KINDS[kind](5, name="rnn"), kl.Dense(2, activation="softmax", name="fc")), data()
    seen = streamed(model, x, layers=["rnn", "fc"])
    assert_outputs(seen, np.stack([whole(model, x[:, : t + 1]) for t in range(6)], axis=1))
    for step in seen:
        assert_close(step.activations["fc"], step.output, "float32")


@pytest.mark.parametrize("kind", some("lstm", "gru reset before"))
@pytest.mark.parametrize(
    "options", some({"implementation": 1, "dropout": 0.5, "recurrent_dropout": 0.5}, {"unroll": True}, {"use_bias": False})
)
def test_options_of_a_layer(kind, options):
    model = sequential(KINDS[kind](5, return_sequences=True, name="rnn", **options), kl.Dense(2), steps=6 if "unroll" in options else None)
    x = data()
    seen = streamed(model, x)
    assert_outputs(seen, whole(model, x))
    assert_states(seen, "rnn", [ref.keras_layer(model.get_layer("rnn"), one) for one in x])


def test_activations_of_other_kinds():
    model = sequential(kl.LSTM(5, activation="softsign", recurrent_activation="hard_sigmoid", return_sequences=True, name="rnn"))
    x = data()
    assert_states(streamed(model, x), "rnn", [ref.keras_layer(model.get_layer("rnn"), one) for one in x])


@pytest.mark.skipif(BACKEND == "jax", reason="jax computes in float32")
def test_in_float64():
    model = sequential(kl.GRU(5, return_sequences=True, name="rnn", dtype="float64"), dtype="float64")
    x = data().astype(np.float64)
    seen = streamed(model, x)
    assert seen[0].output.dtype == np.float64
    assert_states(seen, "rnn", [ref.keras_layer(model.get_layer("rnn"), one) for one in x], "float64")


@pytest.mark.skipif(BACKEND == "jax", reason="jax computes in float32")
def test_rounding_of_a_float64_net_with_dense_layers_is_no_reason_to_refuse_it():
    """On torch Keras' own Dense rounds float64 to float32."""
    wide = {"dtype": "float64", "return_sequences": True}
    model = keras.Sequential(
        [keras.Input((None, 3), dtype="float64"), kl.LSTM(64, **wide), kl.Dense(64, dtype="float64"), kl.LSTM(64, **wide)]
    )
    x = data(1, 60).astype(np.float64)
    seen, expected = streamed(model, x), whole(model, x)
    np.testing.assert_allclose(np.stack([step.output for step in seen], axis=1), expected, atol=1e-5)


def test_layers_one_after_the_other():
    layers = (
        kl.LSTM(5, return_sequences=True, name="one"),
        kl.LayerNormalization(),
        kl.GRU(4, return_sequences=True, name="two"),
        kl.TimeDistributed(kl.Dense(2)),
    )
    model, x = sequential(*layers), data()
    seen = streamed(model, x)
    assert_outputs(seen, whole(model, x))
    assert_states(seen, "one", [ref.keras_layer(model.get_layer("one"), one) for one in x])
    assert list(seen[0].states) == ["one", "two"]


@pytest.mark.parametrize("stacked", some(True, False))
def test_stacked_cells(stacked):
    cells = [kl.LSTMCell(5), kl.GRUCell(4)]
    model = sequential(kl.RNN(kl.StackedRNNCells(cells) if stacked else cells, return_sequences=True, name="rnn"), kl.Dense(2))
    x = data()
    seen = streamed(model, x)
    assert_outputs(seen, whole(model, x))
    for place, states in enumerate(zip(*(ref.keras_stack(model.get_layer("rnn"), one) for one in x), strict=True)):
        assert_states(seen, f"rnn.{place}", states)


@pytest.mark.parametrize("sequences", some(True, False))
@pytest.mark.parametrize("kind", some("lstm", "gru"))
def test_stateful_layer_starts_from_zero_and_keeps_its_own_state(kind, sequences):
    layer = KINDS[kind](5, return_sequences=sequences, stateful=True, name="rnn")
    model, x = shaken(keras.Sequential([keras.Input(batch_shape=(2, None, 3)), layer, kl.Dense(2)])), data()
    whole(model, x)
    before = [np.array(ops.convert_to_numpy(state)) for state in layer.states]
    seen = streamed(model, x)
    assert all(np.array_equal(ops.convert_to_numpy(now), then) for now, then in zip(layer.states, before, strict=True))
    assert any(state.any() for state in before)
    assert_states(seen, "rnn", [ref.keras_layer(layer, one) for one in x])


def test_initial_state_that_the_model_makes():
    class Started(keras.Model):
        def __init__(self):
            super().__init__()
            self.start = self.add_weight(shape=(1, 5), initializer="ones", name="start")
            self.rnn, self.fc = kl.LSTM(5, return_sequences=True, name="rnn"), kl.Dense(2, name="fc")

        def call(self, x):
            start = ops.repeat(self.start, ops.shape(x)[0], axis=0)
            return self.fc(self.rnn(x, initial_state=[start, -start]))

    model, x = Started(), data()
    model(x)
    seen = streamed(model, x)
    assert_outputs(seen, whole(model, x))
    ones = np.ones(5)
    assert_states(seen, "rnn", [ref.keras_layer(model.rnn, one, (ones, -ones)) for one in x])


def test_layer_of_a_nested_model():
    inner = keras.Sequential([keras.Input((None, 3)), kl.GRU(4, return_sequences=True, name="rnn")], name="inner")
    model, x = sequential(kl.Dense(3), inner, kl.Dense(2)), data()
    seen = streamed(model, x)
    assert_outputs(seen, whole(model, x))
    into = whole(model.layers[0], x)
    assert_states(seen, "inner.rnn", [ref.keras_layer(inner.get_layer("rnn"), one) for one in into])


def test_layer_that_is_called_twice_carries_a_state_for_each_call():
    rnn, x = kl.GRU(3, return_sequences=True, name="rnn"), keras.Input((None, 3))
    model, given = shaken(keras.Model(x, kl.Dense(2)(rnn(rnn(x))))), data()
    stream = stream_of(model, given, layers=[])
    assert_outputs([stream.step(given[:, t]) for t in range(6)], whole(model, given))


@pytest.mark.parametrize("sequences", some(True, False))
def test_tokens(sequences):
    layers = kl.Embedding(11, 3), kl.LSTM(5, return_sequences=sequences, name="rnn"), kl.Dense(2)
    model = shaken(keras.Sequential([keras.Input((None,), dtype="int32"), *layers]))
    ids = np.random.default_rng(0).integers(0, 11, (3, 6))
    expected = whole(model, ids) if sequences else np.stack([whole(model, ids[:, : t + 1]) for t in range(6)], axis=1)
    assert_outputs(streamed(model, ids), expected)


def test_batch_norm_and_dropout_are_those_of_evaluation():
    model = sequential(kl.GRU(5, return_sequences=True, name="rnn"), kl.BatchNormalization(name="norm"), kl.Dropout(0.5), kl.Dense(2))
    model.get_layer("norm").moving_variance.assign(ops.ones(5) * 2)
    x = data()
    assert_outputs(streamed(model, x), whole(model, x))


# Masks


def test_masked_steps_hold_the_state():
    model, x = sequential(kl.Masking(), kl.LSTM(5, return_sequences=True, name="rnn"), kl.Dense(2)), data(2, 6)
    x[0, 2] = 0
    x[1, 3:5] = 0
    assert_outputs(streamed(model, x), whole(model, x))


def test_masked_step_after_a_check_without_one_holds_the_state_or_is_refused():
    model, x = sequential(kl.Masking(), kl.GRU(5, return_sequences=True, name="rnn"), kl.Dense(2)), data(1, 6)
    x[0, 3] = 0
    try:
        stream = sq.Scope(model).stream(check=data(1, 5))
    except UnsupportedError:
        return
    assert_outputs([stream.step(x[:, t]) for t in range(6)], whole(model, x))


def test_masked_step_of_a_layer_whose_states_are_not_shown():
    layers = kl.GRU(5, return_sequences=True, name="one"), kl.GRU(4, return_sequences=True, name="two")
    model, x = sequential(kl.Masking(), *layers, kl.Dense(2)), data(1, 6)
    x[0, 3] = 0
    try:
        stream = sq.Scope(model).stream(check=data(1, 5), layers="one", states="two")
    except UnsupportedError:
        return
    seen = [stream.step(x[:, t]) for t in range(6)]
    assert_outputs(seen, whole(model, x))
    expected = ref.keras_layer(layers[0], x[0], mask=x[0].any(axis=-1))["h"]
    for t, step in enumerate(seen):
        assert_close(step.activations["one"][0], expected[t], "float32")


# Causal convolutions


@pytest.mark.parametrize(("taps", "dilation", "groups"), some((3, 2, 1), (2, 1, 1), (5, 1, 1), (3, 1, 3)))
def test_causal_convolution(taps, dilation, groups):
    conv = kl.Conv1D(6, taps, dilation_rate=dilation, groups=groups, padding="causal", name="conv")
    model, x = sequential(conv, kl.ReLU(), kl.Dense(2)), data(2, 10)
    seen = streamed(model, x, layers="conv")
    assert_outputs(seen, whole(model, x))
    expected = whole(conv, x)
    for t, step in enumerate(seen):
        assert_close(step.activations["conv"], expected[:, t], "float32")


def test_temporal_convolutional_network_before_an_lstm():
    given = keras.Input((None, 3))
    x = given
    for dilation in (1, 2):
        x = kl.Add()([x, kl.Conv1D(3, 2, dilation_rate=dilation, padding="causal", activation="relu", name=f"conv_{dilation}")(x)])
    model = shaken(keras.Model(given, kl.Dense(2)(kl.LSTM(5, return_sequences=True, name="rnn")(x))))
    x = data(2, 10)
    stream = stream_of(model, x)
    assert_outputs([stream.step(x[:, t]) for t in range(10)], whole(model, x))
    assert sorted(stream.state.children) == ["conv_1", "conv_2", "rnn"]


# State, resets and refused steps, as far as they are the engine's


def test_state_is_set_again_restored_from_a_file_and_started_anew(tmp_path):
    import xarray as xr

    model = sequential(
        kl.Conv1D(4, 3, padding="causal", name="conv"), kl.LSTM(5, return_sequences=True, name="rnn"), kl.Dense(2, name="fc")
    )
    x = data(3, 8)
    expected = whole(model, x)
    stream = stream_of(model, x)
    for t in range(4):
        stream.step(x[:, t])
    kept = stream.state
    kept.to_netcdf(tmp_path / "state.nc")
    assert_outputs([stream.step(x[:, t]) for t in range(4, 8)], expected[:, 4:])
    with xr.open_datatree(tmp_path / "state.nc") as restored:
        stream.state = restored
    stream.reset(1)
    expected[1, 4:] = whole(model, x[1:2, 4:])[0]
    assert_outputs([stream.step(x[:, t]) for t in range(4, 8)], expected[:, 4:])
    for node in ("conv", "rnn"):
        kept[node] = kept[node].to_dataset().astype(np.float64)  # as what is computed with them may be
    stream.state = kept
    found = stream.step(x[:, 4])
    assert found.output.dtype == np.float32
    assert_close(found.output[0], expected[0, 4], "float32")


def test_state_that_was_set_is_a_copy():
    model, x = sequential(kl.GRU(5, return_sequences=True, name="rnn"), kl.Dense(2)), data(1)
    stream, expected = stream_of(model, x), whole(model, x)
    stream.step(x[:, 0])
    stream.state = state = stream.state
    state["rnn"].h[:] = 9.0
    assert_close(stream.step(x[:, 1]).output, expected[:, 1], "float32")


def test_refused_steps_change_nothing():
    model, x = sequential(kl.GRU(5, return_sequences=True, name="rnn"), kl.Dense(2)), data()
    stream, expected = stream_of(model, x), whole(model, x)
    assert_close(stream.step(x[:, 0]).output, expected[:, 0], "float32")
    for step in (np.zeros((2, 4)), np.full((2, 3), np.nan), np.zeros((1, 3)), np.full((2, 3), "a")):
        with pytest.raises(DataError):
            stream.step(step)
    assert_close(stream.step(x[:, 1]).output, expected[:, 1], "float32")


def test_whole_numbers_and_long_floats_are_steps():
    model = sequential(kl.GRU(5, return_sequences=True, name="rnn"), kl.Dense(2))
    x = np.array([[[1, -2, 3], [0, 1, 0]]])
    expected = whole(model, x.astype(np.float32))
    stream = stream_of(model, x.astype(np.float32))
    assert_close(stream.step([1, -2, 3]).output, expected[0, 0], "float32")
    assert_close(stream.step(x[0, 1].astype(np.float64)).output, expected[0, 1], "float32")


def test_what_was_seen_keeps_its_values():
    model = sequential(
        kl.Conv1D(4, 3, padding="causal", name="conv"), kl.LSTM(5, return_sequences=True, name="rnn"), kl.Dense(2, name="fc")
    )
    x, buffer = data(2, 8), np.zeros((2, 3), np.float32)
    stream, expected = stream_of(model, x, layers=["conv", "rnn", "fc"]), whole(model, x)
    seen, at_once = [], []
    for t in range(8):
        buffer[:] = x[:, t]  # the caller's own array, filled again
        seen.append(stream.step(buffer))
        at_once.append(copied(seen[-1]))
    for one, other in zip(seen, at_once, strict=True):
        for name, value in copied(one).items():
            assert np.array_equal(value, other[name]), name
    assert_outputs(seen, expected)


def copied(seen):
    values = {"output": seen.output.values.copy()}
    values |= {name: array.values.copy() for name, array in seen.activations.items()}
    return values | {f"{name} {state}": array.values.copy() for name, of in seen.states.items() for state, array in of.items()}


def test_writing_into_what_was_seen_changes_no_later_step():
    model, x = sequential(kl.GRU(5, return_sequences=True, name="rnn"), kl.Dense(2)), data(1)
    stream, expected = stream_of(model, x), whole(model, x)
    for t in range(6):
        seen = stream.step(x[:, t])
        assert_close(seen.output, expected[:, t], "float32")
        for array in (seen.output, seen.activations["rnn"], *seen.states["rnn"].values()):
            try:
                array.values[...] = 7.0
            except ValueError:  # read-only is as good
                continue


def test_the_model_is_as_it_was_and_its_new_weights_are_seen():
    model, x = sequential(kl.LSTM(5, return_sequences=True, dropout=0.5, name="rnn"), kl.BatchNormalization(), kl.Dense(2)), data()
    model.layers[1].set_weights([np.ones(5), np.zeros(5), np.zeros(5), np.ones(5)])
    stream = stream_of(model, x)
    looks = [(layer.trainable, sorted(vars(layer))) for layer in model.layers]
    weights = [weight.copy() for weight in model.get_weights()]
    states = stream.step(x[:, 0]).states["rnn"]
    assert [(layer.trainable, sorted(vars(layer))) for layer in model.layers] == looks
    assert all(np.array_equal(now, then) for now, then in zip(model.get_weights(), weights, strict=True))
    model.set_weights([weight / 2 for weight in weights])
    hidden = [ref.keras_layer(model.layers[0], one[1:2], (h, c))["h"] for one, h, c in zip(x, states.h, states.c, strict=True)]
    expected = whole(keras.Sequential(model.layers[1:]), np.stack(hidden).astype(np.float32))
    assert_close(stream.step(x[:, 1]).output, expected[:, 0], "float32")


@pytest.mark.usefixtures("_threads_take_turns_often")
@pytest.mark.skipif(BACKEND != "torch", reason="compiled: the model is only touched while it is traced")
def test_streams_of_several_threads_do_not_meet():
    model, x = sequential(kl.GRU(5, return_sequences=True, name="rnn"), kl.Dense(2)), data(3, 30)
    scope, expected = sq.Scope(model), whole(model, x)
    streams, found, raised = [scope.stream(check=x[:1]) for _ in x], {}, []

    def work(row):
        try:
            found[row] = np.stack([streams[row].step(x[row, t]).output for t in range(30)])
        except Exception as error:
            raised.append(error)

    threads = [threading.Thread(target=work, args=(row,)) for row in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not raised
    for row, outputs in found.items():
        assert_close(outputs, expected[row], "float32")


# What is refused, when the stream is made


def refused(model, *said, x=None):
    with pytest.raises(UnsupportedError) as caught:
        sq.Scope(model).stream(check=data(1, 8) if x is None else x)
    for part in ("can't be streamed", *said):
        assert part in str(caught.value)


def test_bidirectional_layer_is_refused():
    refused(sequential(kl.Bidirectional(kl.LSTM(5, return_sequences=True), name="both"), kl.Dense(2)), "'both' is bidirectional")


def test_layer_that_goes_backwards_is_refused():
    refused(sequential(kl.LSTM(5, go_backwards=True, name="rnn"), kl.Dense(2)), "'rnn'", "backwards")


@pytest.mark.parametrize("options", [{"padding": "same"}, {"padding": "valid"}, {"padding": "causal", "strides": 2}], ids=str)
def test_convolution_that_is_not_causal_is_refused(options):
    refused(sequential(kl.Conv1D(4, 3, name="conv", **options), kl.LSTM(5)), "'conv'")


@pytest.mark.parametrize("layer", some(kl.GlobalAveragePooling1D, kl.GlobalMaxPooling1D, lambda name: kl.MaxPooling1D(2, name=name)))
def test_pooling_over_time_is_refused(layer):
    refused(sequential(kl.LSTM(5, return_sequences=True), layer(name="pool"), kl.Dense(2)), "'pool'")


def test_pooling_over_a_window_of_the_same_length_is_refused():
    refused(sequential(kl.AveragePooling1D(3, strides=1, padding="same", name="pool"), kl.LSTM(5)), "'pool'")


def test_attention_is_refused():
    x = keras.Input((None, 4))
    attended = kl.MultiHeadAttention(2, 2, name="attn")(x, x, use_causal_mask=True)
    refused(shaken(keras.Model(x, kl.Dense(2)(attended))), "'attn'", x=data(1, 8, 4))


def test_flatten_of_a_fixed_length_is_refused():
    refused(sequential(kl.LSTM(5, return_sequences=True), kl.Flatten(), kl.Dense(2), steps=8))


def test_other_convolutions_along_time_are_refused():
    for layer in some(
        kl.SeparableConv1D(4, 3, padding="same", name="conv"),
        kl.DepthwiseConv1D(3, padding="same", name="conv"),
        kl.Conv1DTranspose(4, 3, padding="same", name="conv"),
    ):
        refused(sequential(layer, kl.LSTM(5, return_sequences=True)), "'conv'")


def test_initial_state_that_depends_on_all_steps_is_refused():
    x = keras.Input((None, 3))
    start = kl.Dense(5, name="start")(kl.GlobalAveragePooling1D(name="mean")(x))
    refused(shaken(keras.Model(x, kl.Dense(2)(kl.GRU(5, name="rnn")(x, initial_state=start)))), "'rnn'")
