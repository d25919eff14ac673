"""Networks of Keras 2, saved by Keras 2 itself (tf_keras) with what it computes of some data: the reference of `test_keras_legacy.py`.

Run as a script, in a process of its own since it needs tensorflow: `python keras2_nets.py FOLDER`. For each case it writes NAME.h5 and
NAME.npz (inputs x0, x1, ..., outputs y0, ...).
"""

import json
import os
import sys
from pathlib import Path

import h5py
import numpy as np

STEPS, CHANNELS, TOKENS = 6, 3, 7

ACTIVATIONS = [
    "elu",
    "exponential",
    "gelu",
    "hard_sigmoid",
    "leaky_relu",
    "linear",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "softmax",
    "softplus",
    "softsign",
    "swish",
    "tanh",
    "LeakyReLU",
]
CELLS = ["LSTM", "GRU", "SimpleRNN"]


class Nets:
    """Makes the cases with Keras 2 (`k`)."""

    def __init__(self, k, tf):
        self.k, self.l, self.tf = k, k.layers, tf

    def series(self, *layers, **options):
        """Layers one after the other, over a series."""
        return self.k.Sequential([self.l.Input((STEPS, CHANNELS), **options), *layers])

    def masked(self, *layers):
        """After a Masking."""
        return self.series(self.l.Masking(-1.0), *layers)

    def tokens(self, *layers, **options):
        """After an Embedding."""
        return self.k.Sequential([self.l.Input((STEPS,), dtype="int32"), self.l.Embedding(TOKENS, 4, **options), *layers])

    def functional(self, of):
        """What a function makes of a series."""
        x = self.l.Input((STEPS, CHANNELS))
        return self.k.Model(x, of(x))

    # Activations

    def activations(self):
        layers = {name: self.l.Activation(name) for name in ACTIVATIONS}
        layers |= {f"dense {name}": self.l.Dense(4, activation=name) for name in ACTIVATIONS}
        layers |= {
            "relu plain": self.l.ReLU(),
            "relu options": self.l.ReLU(max_value=1.5, negative_slope=0.2, threshold=0.3),
            "leaky": self.l.LeakyReLU(),
            "leaky alpha": self.l.LeakyReLU(alpha=0.05),
            "elu alpha": self.l.ELU(alpha=0.3),
            "thresholded": self.l.ThresholdedReLU(theta=0.6),
            "prelu": self.l.PReLU(),
            "prelu shared": self.l.PReLU(shared_axes=[1]),
            "softmax axis": self.l.Softmax(axis=1),
            "softmax axes": self.l.Softmax(axis=[1, 2]),
            "of a layer": self.l.Dense(4, activation=self.l.LeakyReLU(0.17)),
        }
        yield "activations", self._side_by_side(layers), {}
        cells = {name: self.l.SimpleRNN(3, activation=name, unroll=True) for name in ACTIVATIONS if name not in ("softmax", "exponential")}
        yield "activations_of_cells", self._side_by_side(cells), {}
        gates = {f"{cell} {name}": self._gated(cell, name) for name in ("hard_sigmoid", "tanh", "relu") for cell in CELLS[:2]}
        yield "gates", self._side_by_side(gates | {"of a layer": self.l.LSTM(4, activation=self.l.ELU(0.4))}), {}

    def _side_by_side(self, layers):
        """A model that gives what each of the layers makes of a series."""
        x = self.l.Input((STEPS, CHANNELS))
        return self.k.Model(x, {name: layer(x) for name, layer in layers.items()})

    def _gated(self, cell, activation):
        return getattr(self.l, cell)(4, recurrent_activation=activation, activation="softsign", return_sequences=True, unroll=True)

    # Recurrent

    def recurrent(self):
        options = {
            "plain": {},
            "sequences": {"return_sequences": True},
            "backwards": {"go_backwards": True, "return_sequences": True},
            "backwards_last": {"go_backwards": True},
            "no_bias": {"use_bias": False},
            "unrolled": {"unroll": True, "return_sequences": True},
            "dropout": {"dropout": 0.3, "recurrent_dropout": 0.2},
            "zero_masked": {"zero_output_for_mask": True, "return_sequences": True},
        }
        for cell in CELLS:
            layer = getattr(self.l, cell)
            for name, given in options.items():
                yield f"{cell}_{name}", self.masked(layer(4, **given)), {}
            yield f"{cell}_state", self.functional(lambda x, layer=layer: layer(4, return_state=True, return_sequences=True)(x)), {}
            yield f"{cell}_state_given", self.functional(lambda x, layer=layer: self._decoder(layer, x)), {}
            yield f"{cell}_stateful", self._stateful(layer), {}
            yield f"{cell}_time_major", self._time_major(layer, sequences=True), {"time_first": True}
            yield f"{cell}_cell", self.masked(self.l.RNN(getattr(self.l, f"{cell}Cell")(4), return_sequences=True)), {}
        yield "time_major_last", self._time_major(self.l.LSTM, sequences=False), {"time_first": True}
        yield "float64", self.series(self.l.LSTM(4, dtype="float64"), dtype="float64"), {}
        yield "gru_reset_before", self.series(self.l.GRU(4, reset_after=False, return_sequences=True)), {}
        cells = [self.l.LSTMCell(4), self.l.GRUCell(3, reset_after=False), self.l.SimpleRNNCell(2)]
        yield "stacked_cells", self.masked(self.l.RNN(cells, return_sequences=True)), {}
        yield "stacked_cells_backwards", self.series(self.l.RNN([self.l.GRUCell(4), self.l.GRUCell(3)], go_backwards=True)), {}
        yield "conv_lstm", self._conv_lstm(), {"shape": (4, 5, 6, 2)}

    def _decoder(self, layer, x):
        _, *states = layer(4, return_state=True)(x)
        return layer(4, return_sequences=True)(self.l.Dense(3)(x), initial_state=states)

    def _stateful(self, layer):
        return self.k.Sequential([layer(4, stateful=True, return_sequences=True, batch_input_shape=(4, STEPS, CHANNELS)), self.l.Dense(2)])

    def _time_major(self, layer, *, sequences):
        return self.k.Sequential(
            [self.l.Input((4, CHANNELS), batch_size=STEPS), layer(5, time_major=True, return_sequences=sequences), self.l.Dense(2)]
        )

    def _conv_lstm(self):
        return self.k.Sequential([self.l.Input((5, 6, 2)), self.l.ConvLSTM1D(3, 2, return_sequences=True)])

    # Wrappers

    def wrappers(self):
        for cell in CELLS:
            for merge in ("concat", "sum", "mul", "ave") if cell == "LSTM" else ("concat",):
                layer = getattr(self.l, cell)(4, return_sequences=True)
                yield f"bidirectional_{cell}_{merge}_masked", self.masked(self.l.Bidirectional(layer, merge_mode=merge)), {}
            last = getattr(self.l, cell)(4)
            yield f"bidirectional_{cell}_last_masked", self.masked(self.l.Bidirectional(last)), {}
            inner = getattr(self.l, cell)(4, time_major=True, return_sequences=True)
            yield (
                f"bidirectional_{cell}_time_major",
                self.k.Sequential([self.l.Input((4, CHANNELS), batch_size=STEPS), self.l.Bidirectional(inner)]),
                {"time_first": True},
            )
        apart = self.l.Bidirectional(self.l.LSTM(4, return_sequences=True), merge_mode=None)
        yield "bidirectional_apart", self.functional(apart), {}
        yield "bidirectional_state", self.functional(self.l.Bidirectional(self.l.LSTM(4, return_state=True))), {}
        yield "bidirectional_state_given", self.functional(self._both_ways), {}
        other = self.l.Bidirectional(self.l.LSTM(4), backward_layer=self.l.GRU(4, go_backwards=True))
        yield "bidirectional_other_backwards", self.masked(other), {}
        own = self.l.Bidirectional(self.l.GRU(4, go_backwards=True, return_sequences=True))
        yield "bidirectional_backwards", self.series(own), {}
        yield "bidirectional_of_cells", self.masked(self.l.Bidirectional(self.l.RNN([self.l.LSTMCell(3), self.l.LSTMCell(2)]))), {}
        yield "bidirectional_stack", self.masked(*(self.l.Bidirectional(self.l.LSTM(3, return_sequences=True)) for _ in "ab")), {}
        yield "bidirectional_named", self.masked(self.l.Bidirectional(self.l.LSTM(3, name="inner"), name="outer")), {}
        yield "distributed_dense", self.masked(self.l.TimeDistributed(self.l.Dense(4, activation="relu")), self.l.LSTM(2)), {}
        yield "distributed_norm", self.series(self.l.TimeDistributed(self.l.BatchNormalization())), {}
        small = self.k.Sequential([self.l.Input((CHANNELS,)), self.l.Dense(4, "tanh"), self.l.Dense(2)], name="small")
        yield "distributed_model", self.series(self.l.TimeDistributed(small)), {}
        windows = {"shape": (4, 3, STEPS, CHANNELS)}
        yield "distributed_lstm", self._windows(self.l.TimeDistributed(self.l.LSTM(4)), self.l.LSTM(2)), windows
        inside = self.l.TimeDistributed(self.l.Bidirectional(self.l.GRU(4)))
        yield "distributed_bidirectional", self._windows(inside, self.l.LSTM(2)), windows
        yield "distributed_conv", self._windows(self.l.TimeDistributed(self.l.Conv1D(4, 3)), self.l.Flatten()), windows
        masks = [self.l.TimeDistributed(self.l.Masking(-1.0)), self.l.TimeDistributed(self.l.LSTM(4)), self.l.LSTM(3)]
        yield "distributed_masking", self._windows(*masks), windows | {"masked": True}
        yield "documents", self._documents(), {"tokens": (4, 3, STEPS)}

    def _both_ways(self, x):
        _, *states = self.l.Bidirectional(self.l.LSTM(4, return_state=True))(x)
        return self.l.Bidirectional(self.l.LSTM(4))(x, initial_state=states)

    def _windows(self, *layers):
        return self.k.Sequential([self.l.Input((3, STEPS, CHANNELS)), *layers])

    def _documents(self):
        words = self.l.TimeDistributed(self.l.Embedding(TOKENS, 4, mask_zero=True))
        sentences = self.l.TimeDistributed(self.l.Bidirectional(self.l.LSTM(3)))
        return self.k.Sequential([self.l.Input((3, STEPS), dtype="int32"), words, sentences, self.l.GRU(4)])

    # Convolutions, pooling, masks, norms

    def others(self):
        for padding in ("valid", "same", "causal"):
            for dilation in (1, 2):
                conv = self.l.Conv1D(4, 3, padding=padding, dilation_rate=dilation, activation="relu")
                yield f"conv_{padding}_{dilation}", self.series(conv), {}
        yield "conv_stride", self.series(self.l.Conv1D(4, 2, strides=2, padding="same", use_bias=False)), {}
        yield "conv_groups", self.series(self.l.Conv1D(6, 2, groups=3)), {}
        yield "conv_transposed", self.series(self.l.Conv1DTranspose(4, 3, strides=2)), {}
        yield "conv_separable", self.series(self.l.SeparableConv1D(4, 3, depth_multiplier=2)), {}
        yield "conv_depthwise", self.series(self.l.DepthwiseConv1D(3, depth_multiplier=2)), {}
        pooling = {"max": self.l.MaxPooling1D, "average": self.l.AveragePooling1D}
        for name, pool in pooling.items():
            yield f"{name}_pool", self.series(pool(2)), {}
            yield f"{name}_pool_same", self.series(pool(3, strides=2, padding="same")), {}
            yield f"{name}_pool_channels", self.series(pool(2, data_format="channels_first", padding="same")), {}
        for name in ("GlobalAveragePooling1D", "GlobalMaxPooling1D"):
            yield f"{name}_masked", self.masked(self.l.LSTM(4, return_sequences=True), getattr(self.l, name)()), {}
            yield f"{name}_channels", self.series(getattr(self.l, name)(data_format="channels_first", keepdims=True)), {}
        yield "batch_norm", self.series(self.l.BatchNormalization(), self.l.Dense(2)), {}
        yield "batch_norm_axis", self.series(self.l.BatchNormalization(axis=1, scale=False)), {}
        yield "batch_norm_bare", self.series(self.l.BatchNormalization(center=False, scale=False, epsilon=0.01)), {}
        yield "layer_norm", self.series(self.l.LayerNormalization()), {}
        yield "layer_norm_axes", self.series(self.l.LayerNormalization(axis=[1, 2], epsilon=1e-5)), {}
        yield "unit_norm", self.series(self.l.UnitNormalization()), {}
        yield "embedding", self.tokens(self.l.LSTM(3)), {}
        yield "embedding_masked", self.tokens(self.l.LSTM(3, return_sequences=True), self.l.GRU(2), mask_zero=True), {}
        yield "embedding_bidirectional", self.tokens(self.l.Bidirectional(self.l.LSTM(3)), self.l.Dense(2), mask_zero=True), {}
        yield "mask_through_dropout", self.masked(self.l.Dropout(0.5), self.l.Dense(4), self.l.LayerNormalization(), self.l.LSTM(2)), {}
        yield "mask_ends_at_flatten", self.masked(self.l.LSTM(4, return_sequences=True), self.l.Flatten(), self.l.Dense(2)), {}
        yield "mask_ends_at_conv", self.masked(self.l.GRU(4, return_sequences=True), self.l.Conv1D(3, 2), self.l.LSTM(2)), {}
        yield "mask_ends_at_pool", self.masked(self.l.GRU(4, return_sequences=True), self.l.MaxPooling1D(2), self.l.LSTM(2)), {}
        yield (
            "reshaped",
            self.series(self.l.Permute((2, 1)), self.l.Reshape((-1, 2)), self.l.ZeroPadding1D((1, 2)), self.l.Cropping1D(1)),
            {},
        )
        yield "repeated", self.series(self.l.LSTM(3), self.l.RepeatVector(4), self.l.UpSampling1D(2), self.l.LSTM(2)), {}
        yield "noise", self.series(self.l.GaussianNoise(0.3), self.l.SpatialDropout1D(0.2), self.l.ActivityRegularization(0.1)), {}
        yield "rescaled", self.series(self.l.Rescaling(0.5, 1.0), self.l.Normalization()), {}
        yield "half", self.series(self.l.Dense(3, dtype="mixed_float16"), self.l.Dense(2, dtype="float32")), {"rough": True}

    # Graphs

    def graphs(self):
        for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"):
            yield (
                f"merge_{name}",
                self.functional(lambda x, name=name: getattr(self.l, name)()([self.l.Dense(4)(x), self.l.Dense(4)(x)])),
                {},
            )
        yield "merge_masked", self.functional(self._merge_masked), {}
        yield "dot", self.functional(lambda x: self.l.Dot(axes=(2, 1), normalize=True)([x, self.l.Permute((2, 1))(x)])), {}
        yield "attention", self.functional(lambda x: self.l.Attention(use_scale=True)([self.l.Dense(4)(x), self.l.Dense(4)(x)])), {}
        yield "attention_masked", self.functional(self._attention_masked), {}
        yield "attention_additive", self.functional(lambda x: self.l.AdditiveAttention()([self.l.Dense(4)(x), self.l.Dense(4)(x)])), {}
        yield "attention_causal", self.functional(lambda x: self.l.Attention()([x, x], use_causal_mask=True)), {}
        yield "heads", self.functional(lambda x: self.l.MultiHeadAttention(2, 3)(x, x)), {}
        yield "heads_masked", self.functional(self._heads_masked), {}
        yield "shared", self.functional(self._shared), {}
        yield "nested", self.functional(self._nested), {}
        yield "nested_masked", self.functional(lambda x: self.l.LSTM(2)(self._reader()(self.l.Masking(-1.0)(x)))), {}
        yield "nested_masks", self.series(self._reader(self.l.Masking(-1.0)), self.l.LSTM(2)), {}
        yield "nested_twice", self.functional(self._nested_twice), {}
        yield "nested_frozen", self.functional(self._nested_frozen), {}
        yield "nested_sequential", self.series(self.k.Sequential([self.l.LSTM(4, return_sequences=True)]), self.l.Dense(2)), {}
        yield "slashes", self.functional(lambda x: self.l.LSTM(3, name="a/b/lstm")(self.l.Dense(4, name="a/b")(x))), {}
        yield "two_inputs", self._two_inputs(), {"inputs": 2}
        yield "operations", self.functional(self._operations), {}
        yield "slices", self.functional(lambda x: self.l.Dense(2)(self.l.LSTM(3, return_sequences=True)(x)[:, -1])), {}
        yield "deferred", self._deferred(), {}
        yield "long_names", self.series(*(self.l.Dense(3, name=f"{'long' * 5000}_{i}") for i in range(4))), {}

    def _merge_masked(self, x):
        x = self.l.Masking(-1.0)(x)
        both = [self.l.LSTM(4, return_sequences=True)(x), self.l.GRU(4, return_sequences=True)(x)]
        return self.l.GRU(2)(self.l.Concatenate()(both))

    def _attention_masked(self, x):
        x = self.l.LSTM(4, return_sequences=True)(self.l.Masking(-1.0)(x))
        return self.l.GlobalAveragePooling1D()(self.l.Attention()([x, x]))

    def _heads_masked(self, x):
        x = self.l.Masking(-1.0)(x)
        return self.l.GlobalAveragePooling1D()(self.l.MultiHeadAttention(2, 3)(x, x))

    def _shared(self, x):
        lstm, dense = self.l.LSTM(3, return_sequences=True), self.l.Dense(3)
        return self.l.Concatenate()([lstm(x), lstm(dense(lstm(x))), dense(x)])

    def _model(self, name):
        inside = self.l.Input((STEPS, CHANNELS))
        left, right = self.l.Conv1D(4, 2, padding="same")(inside), self.l.GRU(4, return_sequences=True)(inside)
        both = self.l.BatchNormalization()(self.l.Add()([right, left]))
        return self.k.Model(inside, [self.l.Dense(3)(both), left], name=name)

    def _reader(self, *before):
        """A model of a series that masks go through."""
        return self.series(*before, self.l.GRU(CHANNELS, return_sequences=True), self.l.Dropout(0.1))

    def _nested(self, x):
        one, other = self._model("inner")(x)
        return self.l.LSTM(2)(self.l.Concatenate()([one, other]))

    def _nested_twice(self, x):
        inner = self._model("inner")
        again, _ = inner(inner(x)[0])
        return self.l.Dense(2)(again)

    def _nested_frozen(self, x):
        inner = self._model("inner")
        inner.layers[1].trainable = False
        return self.l.Dense(2)(
            self.k.Sequential([self.l.Input((STEPS, CHANNELS)), self.l.Dense(3, trainable=False), self.l.LSTM(3)])(inner(x)[0])
        )

    def _two_inputs(self):
        series, words = self.l.Input((STEPS, CHANNELS), name="series"), self.l.Input((STEPS,), dtype="int32", name="words")
        both = [self.l.LSTM(3)(series), self.l.LSTM(3)(self.l.Embedding(TOKENS, 3, mask_zero=True)(words))]
        return self.k.Model([series, words], {"sum": self.l.Add()(both), "both": self.l.Concatenate()(both)})

    def _operations(self, x):
        tf = self.tf
        y = tf.transpose(tf.reshape(self.l.Dense(4)(x), (-1, STEPS, 2, 2)), (0, 1, 3, 2))
        y = tf.reduce_mean(y * 2.0 + 1.0, axis=3) - tf.math.tanh(x[..., 1:])
        y = tf.concat([y, tf.nn.relu(1.0 - x)], axis=-1) / 3.0
        y = tf.expand_dims(tf.reduce_max(y, axis=1, keepdims=True), -1)
        return self.l.Dense(2)(tf.squeeze(y, [1, 3]) ** 2)

    def _deferred(self):
        model = self.k.Sequential([self.l.LSTM(4, return_sequences=True), self.l.Dense(2)])
        model(np.zeros((4, STEPS, CHANNELS), "f4"))
        return model

    def all(self):
        """All of them: name, model, what its data is like."""
        for group in (self.activations, self.recurrent, self.wrappers, self.others, self.graphs):
            yield from group()


def data_of(model, random, *, shape=None, tokens=None, masked=False, inputs=1, time_first=False, rough=False):
    """Data that a model takes; series of it end in padding of -1, texts in 0."""
    found = []
    for tensor in model.inputs:
        of_words = tensor.dtype.name == "int32"
        sizes = tokens or shape or ((STEPS, 4, CHANNELS) if time_first else (4, *tensor.shape[1:]))
        x = random.integers(1, TOKENS, sizes) if of_words else random.standard_normal(sizes)
        padded = x if masked or tokens else x[..., None, :, :] if not of_words else x[..., None, :]
        if (not time_first and shape is None) or masked:
            padded[1, -1, -2:] = padded[2, -1, -4:] = 0 if of_words else -1
        found.append(x.astype(tensor.dtype.name))
    return found


def fill(model, random):
    """Weights of some size, biases too; variances are positive."""
    for weight in model.weights:
        value = random.standard_normal(weight.shape) * 0.5
        if weight.dtype.is_floating and "seed" not in weight.name:
            weight.assign((np.abs(value) + 0.1 if "variance" in weight.name else value).astype(weight.dtype.name))
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def write_cudnn(k, folder, random):
    """Networks with layers for cuDNN, which only GPUs run: what LSTM and GRU compute with their weights as Keras 2 converts them."""
    from tf_keras.src.saving.legacy.hdf5_format import preprocess_weights_for_loading

    for cell, n_gates in {"LSTM": 4, "GRU": 3}.items():
        layer = getattr(k.layers, cell)(4, return_sequences=True, name="rnn")
        model = k.Sequential([k.layers.Input((STEPS, CHANNELS)), layer])
        arrays = [random.standard_normal(shape).astype("f4") for shape in ((CHANNELS, n_gates * 4), (4, n_gates * 4), (2 * n_gates * 4,))]
        model.set_weights(preprocess_weights_for_loading(layer, arrays, "2", "tensorflow"))
        model.save(folder / f"cudnn_{cell}.h5", save_format="h5", include_optimizer=False)
        x = random.standard_normal((4, STEPS, CHANNELS)).astype("f4")
        np.savez(folder / f"cudnn_{cell}.npz", x0=x, y0=model(x).numpy())
        with h5py.File(folder / f"cudnn_{cell}.h5", "a") as file:
            described = json.loads(file.attrs["model_config"])
            spec = described["config"]["layers"][1]
            spec["class_name"] = f"CuDNN{cell}"
            kept = ("name", "trainable", "dtype", "units", "return_sequences", "return_state", "go_backwards", "stateful")
            spec["config"] = {option: spec["config"][option] for option in kept}
            file.attrs["model_config"] = json.dumps(described)
            group = file["model_weights/rnn"]
            for name, array in zip(list(group.attrs["weight_names"]), arrays, strict=True):
                del group[name]
                group[name] = array


def main(folder):
    """Write all cases."""
    import tensorflow as tf
    import tf_keras as k

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for layer in (k.layers.LSTM, k.layers.GRU):  # they would build a kernel for GPUs and its gradient too, which takes most of the time
        layer._could_use_gpu_kernel = property(lambda self: False, lambda self, value: None)
    random = np.random.default_rng(0)
    for name, model, like in Nets(k, tf).all():
        fill(model, random)
        x = data_of(model, random, **like)
        model.save(folder / f"{name}.h5", save_format="h5", include_optimizer=False)
        y = model(x if len(x) > 1 else x[0], training=False)
        outputs = tf.nest.flatten(y)
        inputs = {f"x{i}": value for i, value in enumerate(x)}
        np.savez(folder / f"{name}.npz", **inputs, **{f"y{i}": value.numpy() for i, value in enumerate(outputs)})
    write_cudnn(k, folder, random)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main(Path(sys.argv[1]))
