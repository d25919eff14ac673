"""The Keras engine: any Keras 3 layer or model, on tensorflow, jax or torch.

For the time of a trace each wanted layer's `call` is wrapped (`keras_watch`), so that what it returns is given back beside the output.
Keras' own `StatelessScope` catches what a pass would write into variables: recurrent states, seeds, statistics.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import RLock
from typing import Any

import keras
import numpy as np

from seqscope.cells import CellWeights
from seqscope.engines import keras_attention, keras_backends, keras_cells, keras_gradient, keras_kinds, keras_shipping
from seqscope.engines.base import INSTANCES, STATES, WEIGHTS, Dense, Forward, Gradient, InputHint, MisfitError, Packed, StandIn
from seqscope.engines.holds import NOTHING_HELD, Held
from seqscope.engines.keras_copy import copy_of
from seqscope.engines.keras_holds import tensors_of, why_not
from seqscope.engines.keras_layers import Described, describe
from seqscope.engines.keras_parts import joined, joined_gradients, parts_of
from seqscope.engines.keras_pass import Call, Found, Job, Passes
from seqscope.engines.keras_stream import KerasStepper
from seqscope.engines.keras_weights import load_weights, open_file
from seqscope.engines.score import Score, Target, as_score
from seqscope.errors import LayerError, ModelError, SeqscopeError, UnsupportedError, about_layer, quoted
from seqscope.layers import Layer

__all__ = ["ENGINE", "KerasEngine", "copy_of", "load_weights", "open_file"]

_NOTHING_TO_REPLACE = "replace= is the value of a layer: say which, with layer=."

# Keras' scopes and traces are the process's own.
one_at_a_time = RLock()


class KerasEngine:
    """A Keras model or layer.

    Parameters
    ----------
    model : keras.Layer
    call : function of (model, batch, lengths), optional
        How to feed it; default: `model(batch, training=False)`.

    Raises
    ------
    ModelError
        The model was made under another backend.
    """

    framework = "keras"
    merges_lengths = True

    def __init__(self, model: Any, *, call: Call | None = None) -> None:
        self.model, self.model_name = model, str(model.name)
        self.call, self._told_how = call, call is not None
        self._backend = _backend_of(model)
        self._passes = Passes(model, call or (lambda model, batch, lengths: model(batch, training=False)), self._backend)
        self._has_run = False
        self._checked: set[str] = set()  # layers whose states were compared with what they give
        self._careful: set[str] = set()  # those of them that have to come from the layer's own cells
        self._in_loops: set[str] = set()  # layers found to run inside a loop of the framework's own
        self._variables = model.variables
        self._described = describe(model)

    @staticmethod
    def takes(model: Any) -> bool:
        """Whether this engine is the one for an object.

        Raises
        ------
        ModelError
            It is a model of another Keras than the one that is running: of Keras 2, or from before a change of backend.
        """
        if isinstance(model, keras.Layer):
            return True
        homes = {kind.__module__.partition(".")[0] for kind in type(model).__mro__ if kind.__name__ in ("Layer", "Model")}
        if "tf_keras" in homes:
            raise ModelError("This is a model of Keras 2 (tf_keras): save it, and load the file with Keras 3.")
        if "keras" in homes:
            raise ModelError(
                f"This Keras model was made under another backend than the one that Keras runs on now ({keras.backend.backend()}): "
                "make or load it again in this process, after the backend was set."
            )
        return False

    @property
    def layouts(self) -> tuple[str, ...]:
        """Samples first, as Keras has them; channels last unless a layer says otherwise."""
        return ("NTC", "NCT", "NT") if self._channels_first else ("NTC", "NT")

    @property
    def _channels_first(self) -> bool:
        return any(getattr(layer, "data_format", None) == "channels_first" for layer in self._described.objects.values())

    @property
    def compiles_shapes(self) -> bool:
        """Whether each new shape of a batch costs a compilation."""
        return self._backend.compiles_shapes

    @property
    def in_training(self) -> tuple[str, ...]:
        """None: calls say that they are no training."""
        return ()

    # What it is made of

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in the order in which the model holds them."""
        return self._refreshed().rows

    @property
    def by_name(self) -> Mapping[str, Layer]:
        """Layers and containers by name, cells of recurrent layers too: asking for one tells why it can't be seen."""
        return self._refreshed().by_name

    @property
    def input_hints(self) -> tuple[InputHint, ...]:
        """What the model says that it takes, else what each of its layers takes."""
        inputs = [] if self._told_how else self._inputs
        declared = [hint for hint in map(self._declared_hint, inputs) if hint is not None]
        return tuple(declared) if inputs else self._refreshed().hints

    def _refreshed(self) -> Described:
        """What the model is made of; looked at again where layers were built since, as one that never ran has no weights yet."""
        self._variables = self.model.variables
        if len(self._variables) != self._described.n_variables:
            with one_at_a_time:
                self._described = describe(self.model)
        return self._described

    @property
    def _inputs(self) -> list[_Declared]:
        """The inputs that the model declares; none for a subclassed one, or a Sequential that was never called.

        A Sequential without an input layer takes on the shape of its first batch, samples and steps with it, and runs on others all the
        same: a number of samples is only meant where states are kept for each of them.
        """
        try:
            tensors = list(getattr(self.model, "inputs", None) or [])
        except (AttributeError, ValueError):
            return []
        declared = [_Declared(tensor.name, tuple(tensor.shape)) for tensor in tensors]
        if self._described.states:
            return declared
        return [_Declared(one.name, (None, None, *one.shape[2:])) if one.shape[0] is not None else one for one in declared]

    def _declared_hint(self, declared: _Declared) -> InputHint | None:
        name, shape = declared.name, declared.shape
        if len(shape) == 2:
            tokens = next((hint for hint in self._described.hints if hint.is_tokens), None)
            return None if tokens is None else InputHint(name, tokens.size, is_tokens=True, n_steps=shape[1])
        if len(shape) != 3:
            return None
        n_steps, size = (shape[2], shape[1]) if self._channels_first else (shape[1], shape[2])
        return InputHint(name, size, n_steps=n_steps) if size else None

    def kernel(self, name: str) -> np.ndarray:
        """The kernels of a convolution, (unit, tap, channel) (see `engines.base.HasKernels`)."""
        layer = self._described.objects[name]
        axes = keras_kinds.kernel_axes(layer)
        if axes is None or not layer.built:
            raise UnsupportedError(f"'{name}' is a {type(layer).__name__} and has no kernels (unit, tap, channel) to give.")
        return np.array(keras.ops.convert_to_numpy(layer.kernel).transpose(axes))

    @property
    def recurrent_parts(self) -> Mapping[str, tuple[str, ...]]:
        """The recurrent layers, each with its stacked cells (see `engines.base.HasStates`)."""
        return self._refreshed().parts

    @property
    def stateless(self) -> Mapping[str, str]:
        """Recurrent layers whose states can't be told, and why."""
        return self._refreshed().unknown

    @property
    def attention_layers(self) -> tuple[str, ...]:
        """The layers that have attention weights."""
        return tuple(layer.name for layer in self.layers if keras_attention.has_weights(self._described.objects[layer.name]))

    @property
    def heads(self) -> tuple[str, ...]:
        """The layers that are heads of `seqscope.nn` (see `engines.base.HasHeads`)."""
        return tuple(layer.name for layer in self.layers if keras_kinds.is_head(self._described.objects[layer.name]))

    def recurrent(self, name: str) -> tuple[CellWeights, ...]:
        """The weights of a recurrent layer, one for each direction (see `engines.base.HasStates`)."""
        described = self._refreshed()
        if name in described.unknown:
            raise UnsupportedError(f"The weights of '{name}' can't be told: {described.unknown[name]}.")
        if name not in described.parts or len(described.parts[name]) > 1:
            raise UnsupportedError(f"'{name}' is no recurrent layer with one cell: there are {quoted(described.parts)}.")
        ((holder, (layer, _)),) = described.with_states([name]).items()
        place = int(name.rpartition(".")[2]) if name != holder else 0
        both = (layer.forward_layer, layer.backward_layer) if keras_kinds.is_bidirectional(layer) else (layer,)
        return tuple(keras_cells.as_arrays(keras_cells.cells_of(one)[place]) for one in both)

    def gradient(
        self,
        batch: np.ndarray,
        lengths: np.ndarray,
        target: Target,
        layer: str | None = None,
        *,
        state: str = "h",
        replace: np.ndarray | None = None,
        held: Held = NOTHING_HELD,
    ) -> Gradient:
        """The derivative of each sample's score (see `engines.base.HasGradients`)."""
        with one_at_a_time:
            self._refuse_unfit(batch)
            self._build(batch, lengths)
            described = self._refreshed()
            if layer is None and batch.dtype.kind in "iu":
                raise UnsupportedError("Tokens have no derivative: ask for the one at the layer that embeds them, with layer=.")
            scored = as_score(target, len(batch))
            if isinstance(scored, Score):
                keras_gradient.refuse_unknown(scored, described)
            place = None if layer is None else keras_gradient.place_of(layer, described, state)
            if replace is not None and (place is None or place.state is not None):
                raise UnsupportedError(f"The value of '{layer}' can't be replaced: it is recurrent." if place else _NOTHING_TO_REPLACE)
            rows = self._rows_at_once
            if rows is None or rows == len(batch):
                return self._gradient(batch, lengths, scored, place, replace, held)
            parts = [
                self._gradient(
                    batch[places],
                    lengths[places],
                    scored.take(places) if isinstance(scored, Score) else scored,
                    place,
                    None if replace is None else replace[places],
                    held,
                )
                for places in parts_of(len(batch), rows)
            ]
            return joined_gradients(parts, len(batch), rows)

    def _gradient(
        self,
        batch: np.ndarray,
        lengths: np.ndarray,
        target: Score | Callable[[Any], Any],
        place: keras_gradient.Place | None,
        put: np.ndarray | None,
        held: Held,
    ) -> Gradient:
        """The same of as many rows as the model takes."""
        wanted = ([] if place is None else [place.capture]) + ([target.capture] if isinstance(target, Score) and target.address else [])
        self._refuse_looped({name: reason for name in wanted if (reason := self._loop_of(name)) is not None})
        position, time = (_as_int32(target.position), _as_int32(target.time)) if isinstance(target, Score) else (None, None)
        native = None if put is None else self._to_tensor(np.asarray(put))
        fed = keras_gradient.Fed(self._to_tensor(batch), _as_int32(lengths), position, time, native, tensors_of(held) or None)
        careful = frozenset(self._careful)
        derivative = keras_gradient.Derivative(self._passes, self._backend, self._described, self._variables, target, place, careful, held)
        try:
            found = derivative(fed, self._traced_shape(batch), self._to_array)
        except Exception as error:
            if not isinstance(error, SeqscopeError) and wanted:
                alone = self.forward(batch, lengths, wanted)
                self._refuse_looped(alone.refused)
                if place is not None and put is not None:
                    keras_gradient.refuse_shape(place.name, put.shape, [value.shape for value in alone.captured.get(place.capture, [])])
            raise self._in_words(error) from error
        if found.score.shape != (len(batch),):
            raise ModelError(f"The target gave a tensor of shape {found.score.shape}: expected one score for each of {len(batch)} samples.")
        return found

    def why_not_held(self, name: str) -> str | None:
        """What stands in the way of holding a layer's units (see `engines.base.HasHolds`)."""
        looped = self._loop_of(name)
        return why_not(name, self._refreshed()) if looped is None else f"it {looped}"

    def _refuse_looped(self, reasons: Mapping[str, str]) -> None:
        for name, reason in reasons.items():
            raise UnsupportedError(f"'{name}' {reason}.")

    def stepper(self, capture: Sequence[str], states: Sequence[str]) -> KerasStepper:
        """A function of one step and the state (see `engines.base.HasStreams`)."""
        with one_at_a_time:
            described = self._refreshed()
            parts = dict.fromkeys(part for parts in described.parts.values() for part in parts)  # all: their masked steps hold the state
            job = Job((*capture, *(f"{part}{STATES}" for part in parts)), careful=frozenset(self._careful))
            return KerasStepper(self._passes, self._backend, described, self._variables, job, self._float_type, one_at_a_time)

    def dense(self, name: str) -> Dense:
        """What a Dense layer weighs (see `engines.base.HasDense`)."""
        layer = self._described.objects[name]
        if not isinstance(layer, keras.layers.Dense) or not layer.built:
            raise UnsupportedError(f"'{name}' is a {type(layer).__name__}, whose weights are no plain matrix.")
        matrix = np.array(keras.ops.convert_to_numpy(layer.kernel))
        bias = np.array(keras.ops.convert_to_numpy(layer.bias)) if layer.use_bias else np.zeros(matrix.shape[1])
        return Dense(matrix, bias, getattr(layer.activation, "__name__", ""))

    def contents(self) -> Iterator[str | np.ndarray]:
        """The model's class and weights (see `engines.base.Travels`)."""
        with one_at_a_time:
            yield from keras_shipping.contents(self.model, self._refreshed())

    def packed(self) -> Packed:
        """The model, and the function that feeds it (see `engines.base.Travels`)."""
        with one_at_a_time:
            return keras_shipping.packed(self.model, self.call)

    # What it does

    def forward(
        self,
        batch: np.ndarray,
        lengths: np.ndarray,
        capture: Sequence[str] = (),
        *,
        instead: Mapping[str, StandIn] | None = None,
        padded: bool = False,
        sample_axis: int = 0,
        logits: bool = False,
        target: Callable[[Any], Any] | None = None,
        held: Held = NOTHING_HELD,
    ) -> Forward:
        """Run the model once in evaluation mode, without gradients (see `engines.base.Engine.forward`)."""
        with one_at_a_time:
            self._refuse_unfit(batch)
            self._build(batch, lengths)
            self._refreshed()
            job = Job(tuple(capture), padded, dict(instead or {}), frozenset(self._careful), logits, target, held)
            rows = self._rows_at_once
            if rows is None or rows == len(batch):
                found = self._forward(job, batch, lengths)
            else:
                found = joined([self._forward(job, batch[part], lengths[part]) for part in parts_of(len(batch), rows)], len(batch), rows)
            if self._is_sound(job, found, batch, lengths):
                return found
            return self.forward(batch, lengths, capture, instead=instead, padded=padded, logits=logits, target=target, held=held)

    def _is_sound(self, job: Job, found: Forward, batch: np.ndarray, lengths: np.ndarray) -> bool:
        """Whether the h of states is what the layers themselves give: found out once for each layer.

        Where it is not, as in nets in which rounding grows from step to step, the layer's own cells compute it from then on.

        Raises
        ------
        LayerError
            It is not, although the layer's own cells computed it.
        """
        parts = [name.removesuffix(STATES) for name in job.wanted if name.endswith(STATES)]
        known = {*self._checked, *self._described.with_states(list(job.held))}  # where units are held, the equations give both
        layers = {name: of for name, (layer, of) in self._described.with_states(parts).items() if name not in known and not job.instead}
        if not layers:
            return True
        own = self.forward(batch, lengths, tuple(layers), padded=job.padded, held=job.held)
        for name, of in layers.items():
            h = keras_cells.output_of(self._described.objects[name], name, of, found.captured)
            if h is None or name not in own.captured:
                continue
            try:
                with about_layer(name):
                    keras_cells.check_replay(self._described.objects[name], own.captured[name], h)
            except LayerError:
                if name in self._careful:
                    raise
                self._careful.add(name)
                return False
            self._checked.add(name)
        return True

    def _forward(self, asked: Job, batch: np.ndarray, lengths: np.ndarray) -> Forward:
        looped = {name: reason for name in asked.wanted if (reason := self._loop_of(name)) is not None}
        job = replace(asked, wanted=tuple(name for name in asked.wanted if name not in looped))
        try:
            found = self._run(job, batch, lengths)
        except Exception as error:
            if isinstance(error, LayerError | ModelError) or not self._found_in_loops(job, batch, lengths):
                raise self._in_words(error) from error
            return self._forward(asked, batch, lengths)
        if not found.outputs:
            raise ModelError("The model gave nothing that holds a tensor.")
        captured: dict[str, list[np.ndarray]] = {}
        for address, array in found.arrays(self._to_array):
            captured.setdefault(address, []).append(array)
        dims = {address: _dims_of(address, calls[0].ndim) for address, calls in captured.items() if address.partition(" (")[1]}
        scores = None if found.scores is None else self._to_array(found.scores)
        if scores is not None and scores.shape != (len(batch),):
            raise ModelError(f"The target gave a tensor of shape {scores.shape}: expected one score for each of {len(batch)} samples.")
        output = self._to_array(found.outputs[0])
        return Forward(output, len(found.outputs), captured, found.drew_noise, looped, dims, found.through, scores)

    def _run(self, job: Job, batch: np.ndarray, lengths: np.ndarray) -> Found:
        """One pass."""
        native = self._to_tensor(batch), _as_int32(lengths)
        return self._passes.run(job, *native, described=self._described, variables=self._variables, free=self._traced_shape(batch))

    def _to_tensor(self, batch: np.ndarray) -> Any:
        if batch.dtype.kind in "iu":
            return keras.ops.convert_to_tensor(np.ascontiguousarray(batch), dtype="int32")
        dtype = self._float_type
        return keras.ops.convert_to_tensor(np.ascontiguousarray(batch, dtype if dtype != "bfloat16" else "float32"), dtype=dtype)

    @property
    def _float_type(self) -> str:
        """The type of the first weight that holds floats."""
        floats = (keras.backend.standardize_dtype(variable.dtype) for variable in self._variables)
        return str(next((dtype for dtype in floats if "float" in dtype), keras.config.floatx()))

    def _to_array(self, tensor: Any) -> np.ndarray:
        """Types that NumPy lacks (bfloat16) become float32."""
        array = self._backend.as_numpy(tensor)
        return array if array.dtype.kind in "biufc" else array.astype(np.float32)

    def _traced_shape(self, batch: np.ndarray) -> keras_backends.Shape | None:
        """The batch's shape as far as a trace knows it; None: a trace for each shape."""
        # Traced without a number of steps, TimeDistributed runs as many of them as there are samples (Keras 3.15).
        return None if self._described.stepwise else self._free_shape(batch)

    def _free_shape(self, batch: np.ndarray) -> keras_backends.Shape:
        """The batch's shape with what may differ from call to call left open: samples and steps."""
        if self._told_how or len(self._inputs) != 1:
            return _free(batch.shape)
        return self._inputs[0].shape

    @property
    def _rows_at_once(self) -> int | None:
        """The only number of samples that the model takes, where it declares one: stateful layers do."""
        inputs = self._inputs
        return None if self._told_how or len(inputs) != 1 else inputs[0].shape[0]

    # What it can't do

    def _refuse_unfit(self, batch: np.ndarray) -> None:
        """Say what does not fit the inputs that the model declares: Keras would reshape or fail in many words."""
        inputs = self._inputs
        if self._told_how or not inputs:
            return
        if len(inputs) > 1:
            raise ModelError(
                f"The model has {len(inputs)} inputs ({quoted([declared.name for declared in inputs])}): say how to feed them, with "
                "Scope(model, call=lambda model, batch, lengths: model([batch, ...]))."
            )
        shape = inputs[0].shape
        if len(shape) not in (2, 3):
            raise ModelError(
                f"The model takes input with {len(shape)} axes, {_shape_in_words(shape)}, and seqscope reads sequences, (sample, time, "
                "channel): say how to feed it, with Scope(model, call=...)."
            )
        sizes = zip(shape[1:], batch.shape[1:], strict=False)
        if len(shape) != batch.ndim or any(size not in (None, found) for size, found in sizes):
            raise MisfitError(f"The batch does not fit the input that the model declares, {_shape_in_words(shape)}")

    def _build(self, batch: np.ndarray, lengths: np.ndarray) -> None:
        """Let a model that never ran make its weights, as its first call would."""
        is_built = self._has_run or (self.model.built and all(layer.built for layer in self.model._flatten_layers()))
        if is_built or (isinstance(self.model, keras.Sequential) and _build_sequential(self.model, batch.shape)):
            return
        try:
            with keras.StatelessScope(), self._backend.without_gradients():
                self._passes.call(self.model, self._to_tensor(batch), keras.ops.convert_to_tensor(lengths))
        except Exception as error:
            raise self._in_words(error) from error
        self._has_run = True  # a layer that is not built now is one that the model does not use

    def _loop_of(self, name: str) -> str | None:
        """Why a layer can't be seen, where it runs inside a loop of the framework's own."""
        holder = self._described.looped.get(name)
        if holder is not None:
            return f"runs inside the loop over the steps of '{holder}': ask for '{holder}', whose value is what it gives at every step"
        if name in self._in_loops:
            return "runs inside a loop of the framework's own, out of which no value can be taken: ask for the layer around it"
        return None

    def _found_in_loops(self, job: Job, batch: np.ndarray, lengths: np.ndarray) -> list[str]:
        """After a failure: the layers whose values can't leave the trace, each found alone; none if the model itself fails."""
        if not job.wanted or not self._runs(replace(job, wanted=()), batch, lengths):
            return []
        looped = [name for name in job.wanted if not self._runs(replace(job, wanted=(name,)), batch, lengths)]
        self._in_loops |= set(looped)
        return looped

    def _runs(self, job: Job, batch: np.ndarray, lengths: np.ndarray) -> bool:
        try:
            self._run(job, batch, lengths)
        except Exception:
            return False
        return True

    def _in_words(self, error: Exception) -> Exception:
        """The framework's exception in a sentence."""
        if isinstance(error, SeqscopeError):
            return error
        return ModelError(f"The model raised {type(error).__name__} (Keras on {self._backend.name}): {_first_sentence(error)}")


ENGINE = KerasEngine


@dataclass(frozen=True)
class _Declared:
    """An input that a model declares; None for sizes that may differ."""

    name: str
    shape: tuple[int | None, ...]


def _backend_of(model: Any) -> keras_backends.Backend:
    backend = keras_backends.current()
    if backend is None:
        raise ModelError(f"Keras runs on {keras.backend.backend()!r} here, and seqscope looks into it on tensorflow, jax and torch.")
    return backend


def _as_int32(numbers: np.ndarray | None) -> Any:
    return None if numbers is None else keras.ops.convert_to_tensor(np.asarray(numbers, np.int32))


def _free(shape: tuple[int, ...]) -> tuple[int | None, ...]:
    """A batch's shape with samples and steps left open."""
    return (None,) * min(2, len(shape)) + shape[2:]


def _build_sequential(model: keras.Sequential, batch: tuple[int, ...]) -> bool:
    """Build a Sequential for batches of any size and length, else of this length; False, and as it was, where neither can be."""
    if model.built:
        return False
    before = list(model._layers)
    for shape in (_free(batch), (None, *batch[1:])):
        try:
            model.build(shape)
        except Exception:
            model._layers = before
        if model.built:
            return True
    return False


def _dims_of(address: str, n_axes: int) -> tuple[str, ...]:
    """What the axes of states and attention weights are."""
    if WEIGHTS in address:
        return ("sample", "head", "query", "key")
    if INSTANCES in address:
        return ("sample", "time", "unit")[:n_axes]
    return ("sample", "time", "unit") if n_axes == 3 else ("sample", "unit")


def _shape_in_words(shape: Sequence[int | None]) -> str:
    """A shape in Keras' order: "(sample, time, 12)"."""
    names = ("sample", "time", "channel") if len(shape) < 4 else ("sample",)
    words = [names[axis] if size is None and axis < len(names) else "any" if size is None else str(size) for axis, size in enumerate(shape)]
    return f"({', '.join(words)})"


def _first_sentence(error: Exception) -> str:
    """What an exception of Keras says, without the colours, the arguments and the graph that come after it."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    text = re.sub(r"^Exception encountered when calling [^\n]*\n+", "", text)
    text = re.split(r"\n\s*\n|\nArguments received|Detected at node|\[\[\{\{", text, maxsplit=1)[0]
    return " ".join(text.split()) or type(error).__name__
