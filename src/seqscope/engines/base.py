"""The Engine protocol: the few verbs that every framework offers, and that every method is written on.

An engine takes and gives NumPy arrays. It knows its framework; it knows nothing of data sets, labels or methods. A new framework
is one new file beside this one (with its engine as `ENGINE`, `open_file` and `load_weights`), one line in `FRAMEWORKS`, and one for each
ending of its files in `model_files`.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np

from seqscope.cells import CellWeights
from seqscope.engines.holds import NOTHING_HELD, Held
from seqscope.engines.model_files import check_weights, framework_of
from seqscope.engines.score import Target
from seqscope.errors import MissingPackageError, ModelError, quoted, require
from seqscope.layers import Layer


class MisfitError(ModelError):
    """A batch has other sizes than the model says it takes. It stays inside: `feed` says what is wrong with the data."""


@dataclass(frozen=True)
class InputHint:
    """What a layer that may be the model's first one takes, read off its parameters.

    Attributes
    ----------
    layer : str
        The layer's name.
    size : int
        The number of channels; the number of different tokens where `is_tokens`.
    n_steps : int or None
        The only length that it takes, where there is just one.
    """

    layer: str
    size: int
    is_tokens: bool = False
    n_steps: int | None = None


# What is computed in place of a layer: its input in, its value out. An attention layer whose call has a mask says so by the keyword
# `sees`, a bool array (query, key), or None.
StandIn = Callable[..., np.ndarray]


# What may be captured of a layer besides its value: its name with one of these behind it. A layer's states stand under
# "lstm (states)[c]", under "lstm (states)[backward][c]" where it is bidirectional; attention weights under "attn (weights)"; of a
# head of `seqscope.nn` what it reads, and what it has to say of each step, under "head (instances)[features]", "[evidence]", "[weights]".
STATES, WEIGHTS, INSTANCES = " (states)", " (weights)", " (instances)"
FEATURES, EVIDENCE, POOLING = "[features]", "[evidence]", "[weights]"
FORWARD, BACKWARD = "forward", "backward"


@dataclass(frozen=True)
class Forward:
    """What one pass gave.

    Attributes
    ----------
    output : array
        The model's output; the first tensor where it gives several.
    n_outputs : int
        How many tensors the model gave.
    captured : dict of lists of arrays
        Each layer's value at each call, in order of the first call, axes as the layer gave them. A layer that gives several
        tensors has an entry for each: `branch[0]`, `branch[1]`, or `branch[name]`. States and attention weights, where they were
        asked for, stand under names of their own (`STATES`, `WEIGHTS`).
    drew_noise : bool
        Whether the pass drew random numbers, so that samples differ by their place in the batch.
    refused : dict of str
        Layers that were to be captured and can't be, and why: one that runs inside a loop of the framework's own.
    dims : dict of tuples
        What the axes of a captured value are by its kind, for states and attention weights: `sample`, `time`, `unit`.
    through : str
        The function that was looked through where logits were asked for: "softmax", "log_softmax", "sigmoid"; "" where the model does
        not end in one, or where that can't be seen.
    scores : array (sample,) or None
        What a target that is a function made of what the model gave.
    """

    output: np.ndarray
    n_outputs: int
    captured: dict[str, list[np.ndarray]]
    drew_noise: bool = False
    refused: Mapping[str, str] = field(default_factory=dict)
    dims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    through: str = ""
    scores: np.ndarray | None = None


class Engine(Protocol):
    """A model of one framework.

    Every call leaves the model as it was: modes, hooks, gradients, weights, running statistics, states, random state and global
    flags, after an exception or Ctrl-C too; and is safe to make from several threads. Verbs that only some frameworks can do
    (gradients, recurrent weights, streaming) are optional: a method that needs one asks for it and raises
    `errors.UnsupportedError` where it is missing.
    """

    framework: str
    model: Any
    model_name: str
    layouts: tuple[str, ...]  # what its models may take, see `seqscope.layouts`
    merges_lengths: bool  # whether few large batches, padded, run much faster than one batch for every length

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in the order in which the model holds them, as far as they are known without running it."""
        ...

    @property
    def by_name(self) -> Mapping[str, Layer]:
        """Everything that `capture` takes: the layers, and the containers around them."""
        ...

    @property
    def input_hints(self) -> tuple[InputHint, ...]:
        """What the model may take, the likeliest first; empty where its parameters do not tell."""
        ...

    @property
    def compiles_shapes(self) -> bool:
        """Whether every new shape of a batch costs a compilation."""
        ...

    @property
    def in_training(self) -> tuple[str, ...]:
        """Batch norm and dropout layers that were found in training mode; a call sets that aside."""
        ...

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
        """Run the model once in evaluation mode, without gradients.

        Parameters
        ----------
        batch : array
            In the model's own layout.
        lengths : int array (sample,)
            For models that take lengths, through `call`.
        capture : sequence of str
            The layers whose values to keep, out of `by_name`; a name with `STATES` or `WEIGHTS` behind it asks for those.
        instead : dict of functions, optional
            What to compute in place of a layer: a function of its first input that gives its first value, both with axes as the layer
            has them. The engine puts it where the layer would give it (a recurrent layer's last step and states are made from it).
        padded : bool
            Whether sequences end before the batch does. An engine that can takes each one's own last step for that of a recurrent
            layer; whether the rest of the model bears padding is for the caller to find out.
        sample_axis : int
            The axis of the batch that is the samples', for models that take so many at a time.
        held : dict of Hold, optional
            Units that are held in this pass, by layer, where the engine can (`HasHolds`).

        Raises
        ------
        ModelError
            The framework refused the batch; its own exception is the cause.
        """
        ...


@runtime_checkable
class HasStates(Protocol):
    """An engine that captures the gates and cells of recurrent layers, and attention weights. Optional."""

    @property
    def recurrent_parts(self) -> Mapping[str, tuple[str, ...]]:
        """The layers that have states, each with the parts that states are captured of: a stack's layers, else itself."""
        ...

    @property
    def stateless(self) -> Mapping[str, str]:
        """Recurrent layers whose states can't be told, and what stands in the way."""
        ...

    @property
    def attention_layers(self) -> tuple[str, ...]:
        """The layers that have attention weights."""
        ...

    def recurrent(self, name: str) -> tuple[CellWeights, ...]:
        """The weights of a recurrent layer in canonical order and shape, as arrays: one for each direction.

        Raises
        ------
        UnsupportedError
            The cell is of a kind whose equations are not known, or has options that they do not cover.
        """
        ...


@runtime_checkable
class HasHeads(Protocol):
    """An engine that captures what heads of `seqscope.nn` have to say of each step, by their name with `INSTANCES` behind it. Optional."""

    @property
    def heads(self) -> tuple[str, ...]:
        """The layers that are such heads."""
        ...


@dataclass(frozen=True)
class Gradient:
    """Scores and their derivatives.

    Attributes
    ----------
    score : array (sample,)
        A final softmax, log-softmax or sigmoid is looked through, see `through`; what a function made is as it made it.
    gradients : dict of lists of arrays
        At the input: one array in the model's own layout, under "". At a layer: for each direction ("" where there is one) an array for
        each call; of a recurrent layer (sample, time, unit), of another one as the layer gives its value.
    values : dict of lists of arrays
        What the derivatives at a layer are with respect to, in the same form; empty at the input.
    through : str
        As in `Forward`.
    output : array or None
        The model's output, looked through where the score is one of its numbers; None where it was not kept.
    """

    score: np.ndarray
    gradients: dict[str, list[np.ndarray]]
    values: dict[str, list[np.ndarray]] = field(default_factory=dict)
    through: str = ""
    output: np.ndarray | None = None


@runtime_checkable
class HasGradients(Protocol):
    """An engine that can differentiate. Optional."""

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
        """The derivative of each sample's score with respect to the input, or to what a layer gives.

        At a recurrent layer, or at a cell that the model loops over, it is the total derivative with respect to h_t (or c_t) at every
        step, through the recurrence: the plain derivative at the layer's output is zero at every step but the last where a model reads
        the last. It is had by stepping through the cell's equations.

        Parameters
        ----------
        batch, lengths
            As in `forward`.
        target : int, Score, or function
            The score, see `engines.score`: of the logit where it is one of the model's outputs.
        layer : str, optional
            A layer of `by_name`; default: the input.
        state : {"h", "c"}
            Which state of a recurrent layer.
        replace : array, optional
            The value that a layer which is not recurrent gives in this pass, with axes as the layer has them.
        held : dict of Hold, optional
            Units that are held, as in `forward`: derivatives are those of the model with these units as constants. At the layer itself
            they are with respect to the values that are held.

        Raises
        ------
        ModelError
            The framework refused the batch, or the target gives no score for each sample.
        UnsupportedError
            The input is tokens and no layer is named, the layer has no such state, or its value can't be replaced.
        """
        ...


@runtime_checkable
class HasHolds(Protocol):
    """An engine whose passes take `held`: units that are switched off or clamped while the model runs. Optional."""

    def why_not_held(self, name: str) -> str | None:
        """What stands in the way of holding a layer's units, as the end of a sentence; None where nothing does.

        A recurrent layer's h is held at every step, so its recurrence has to be known.
        """
        ...


@dataclass(frozen=True)
class Packed:
    """A model, and the function that feeds it, as bytes for another process.

    Attributes
    ----------
    room : str
        The module of this folder that opens them: its `opened` gives the two.
    data : bytes
    environment : dict of dicts
        By framework the variables that are to be set before that is imported.
    """

    room: str
    data: bytes
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@runtime_checkable
class Travels(Protocol):
    """An engine whose model can be told from others and sent to another process (see `engines.shipping`). Optional."""

    call: Any  # the function that feeds the model, as it was given, or None

    def contents(self) -> Iterator[str | np.ndarray]:
        """What the model computes with, one by one: the name of its class, what of its structure `layers` leave out, every weight.

        Nothing that differs between two processes that opened the same file.
        """
        ...

    def packed(self) -> Packed:
        """The model, and `call`, as bytes.

        Raises
        ------
        Exception
            Whatever the framework raises for a model that can't be written.
        """
        ...


# What is carried from step to step: for each layer by name its states by name ("h", "c", or "inputs" of a convolution), (row, ...), as
# native tensors.
Carried = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Stepped:
    """What one step gave, as native tensors.

    Attributes
    ----------
    output : tensor
        The model's output, one step long.
    captured : dict of lists of tensors
        Each wanted layer's value, as `Forward.captured`.
    states : function of a name
        The states of a recurrent layer after the step, (row, unit) by name: computed when they are asked for, where that is cheaper.
    carried : dict of dicts
        What the next step starts from.
    """

    output: Any
    captured: Mapping[str, list[Any]]
    states: Callable[[str], Mapping[str, Any]]
    carried: Carried


class Stepper(Protocol):
    """A model that runs one step at a time, its state put in and taken out.

    Attributes
    ----------
    dtype : str
        What it computes in.
    """

    dtype: str

    def step(self, batch: np.ndarray, n_rows: int, carried: Carried | None, fresh: np.ndarray | None) -> Stepped:
        """Run one step.

        Parameters
        ----------
        batch : array
            One step in the model's own layout.
        n_rows : int
            The sequences in it.
        carried : dict of dicts or None
            What the step before gave; None at the first.
        fresh : bool array (row,) or None
            Rows that start anew, from the state that the model itself makes; None: none does.
        """
        ...

    def as_numpy(self, tensor: Any) -> np.ndarray:
        """An array of a native tensor."""
        ...

    def as_native(self, array: np.ndarray, like: Any) -> Any:
        """A native tensor of an array, of the type and on the device of another."""
        ...


@runtime_checkable
class HasStreams(Protocol):
    """An engine that can run a model one step at a time. Optional."""

    def stepper(self, capture: Sequence[str], states: Sequence[str]) -> Stepper:
        """A form of the model that runs one step at a time.

        Parameters
        ----------
        capture, states : sequence of str
            The layers whose values, and the recurrent layers (`HasStates.recurrent_parts`) whose states are wanted.

        Raises
        ------
        UnsupportedError
            A layer needs steps that are still to come, and which.
        """
        ...


@runtime_checkable
class HasCaptum(Protocol):
    """An engine whose models captum's methods run on. Optional."""

    def captum(
        self,
        method: str,
        options: Mapping[str, Any],
        batch: np.ndarray,
        lengths: np.ndarray,
        target: Target,
        baseline: np.ndarray,
        *,
        held: Held = NOTHING_HELD,
    ) -> np.ndarray:
        """What a method of captum gives for a batch, in the model's own layout.

        Raises
        ------
        UnsupportedError
            captum has no such method at the input.
        ModelError
            It raised.
        """
        ...


@dataclass(frozen=True)
class Dense:
    """A dense layer: activation(x @ matrix + bias), arrays (unit, output) and (output). The activation by its name, "linear" for none."""

    matrix: np.ndarray
    bias: np.ndarray
    activation: str = "linear"


@runtime_checkable
class HasDense(Protocol):
    """An engine that can show what its dense layers weigh. Optional."""

    def dense(self, name: str) -> Dense:
        """The weights of a layer of kind "linear", as copies."""
        ...


@runtime_checkable
class HasKernels(Protocol):
    """An engine that can show the kernels of a convolution. Optional."""

    def kernel(self, name: str) -> np.ndarray:
        """The kernels of one convolution along time, as they are in evaluation mode.

        Parameters
        ----------
        name : str
            A layer of `by_name` whose kind starts with "conv1d".

        Returns
        -------
        array (unit, tap, channel)
            A copy. Tap 0 is the first in time: a unit at step t is the sum over taps and channels of kernel[tap, channel] times the
            input at t + tap * dilation (less the padding). Where the layer has groups, the channels are those of the unit's own group.
            Of a transposed convolution, which spreads each input step over several of its own, tap 0 is the first that it is spread to.

        Raises
        ------
        UnsupportedError
            The layer's kernels can't be given in this form.
        """
        ...


# A framework by the name of its module, and the module of this folder that holds its engine. Asked in this order: with the torch
# backend every Keras layer is an nn.Module too, so Keras comes before torch.
FRAMEWORKS: dict[str, str] = {
    "keras": "seqscope.engines.keras",
    "torch": "seqscope.engines.torch",
    "onnx": "seqscope.engines.onnx",
}

# Other packages that a framework's engine needs, and whose objects it takes.
_ALSO = {"onnx": ("onnxruntime",)}


# What Keras may run on.
KERAS_BACKENDS = ("tensorflow", "jax", "torch")


def open_file(path: Path, *, trust: bool = False, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Open a model file with its framework, which is told by what the file holds.

    Parameters
    ----------
    path : Path
        The file.
    trust : bool
        Whether code from the file may run, as it does when a file is unpickled.
    custom_objects : dict, optional
        Classes and functions of the person's own that a Keras file names.

    Raises
    ------
    ModelError
        The file is not there, is no model, holds weights alone, would run code, or can't be opened.
    MissingPackageError
        Its framework is not installed.
    """
    framework = framework_of(path, trust=trust)
    require_framework(framework, purpose=f"The file '{path}'")
    if custom_objects and framework == "onnx":
        raise ModelError(f"custom_objects= are for files of Keras, and '{path}' is none.")
    return importlib.import_module(FRAMEWORKS[framework]).open_file(path, trust=trust, custom_objects=custom_objects)


def require_framework(framework: str, *, purpose: str) -> None:
    """Import a framework, or say in a sentence what is missing.

    Raises
    ------
    MissingPackageError
        The framework is not installed, or not the backend that Keras is set to run on.
    """
    try:
        for package in (framework, *_ALSO.get(framework, ())):
            require(package, extra=framework, purpose=purpose)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if framework != "keras" or missing not in KERAS_BACKENDS:
            raise
        there = [name for name in KERAS_BACKENDS if name != missing and importlib.util.find_spec(name) is not None]
        remedy = f"set the environment variable KERAS_BACKEND to {' or '.join(there)}" if there else f"pip install {missing}"
        raise MissingPackageError(f"Keras is set to run on {missing}, which is not installed: {remedy}, before Python starts.") from error


def engine_for(model: Any, *, call: Any = None) -> Engine:
    """Find the engine for a model: only frameworks that the person has imported are asked.

    Raises
    ------
    ModelError
        No framework knows the object.
    """
    engine: Engine = _room_of(model).ENGINE(model, call=call)
    return engine


def load_weights(model: Any, path: Path, *, trust: bool = False) -> None:
    """Fill a model with the weights of a file: the model itself, no copy.

    Raises
    ------
    ModelError
        No framework knows the object, the file can't be read without running code, or it does not fit the model.
    """
    room = _room_of(model)
    check_weights(path, trust=trust)
    room.load_weights(model, path, trust=trust)


def copy_of(model: Any) -> Any:
    """A model like another one, that can be filled with other weights.

    Raises
    ------
    ModelError
        No framework knows the object, or it can't be copied.
    """
    room = _room_of(model)
    try:
        return getattr(room, "copy_of", copy.deepcopy)(model)
    except Exception as error:
        why = " ".join(str(error).split()).partition(". ")[0]
        raise ModelError(
            f"This {type(model).__name__} can't be copied ({why}), and what you gave is never changed: fill it with the weights yourself, "
            "or say factory= with what makes it."
        ) from error


def _room_of(model: Any) -> ModuleType:
    """The module that holds the engine for a model."""
    for framework, room in FRAMEWORKS.items():
        packages = (framework, *_ALSO.get(framework, ()))
        if type(model).__module__.partition(".")[0] in packages:
            require_framework(framework, purpose=f"A model of {framework}")
        if any(package in sys.modules for package in packages) and all(importlib.util.find_spec(package) for package in packages):
            module = importlib.import_module(room)
            if module.ENGINE.takes(model):
                return module
    raise ModelError(f"A {type(model).__module__}.{type(model).__qualname__} is not a model of a known framework ({quoted(FRAMEWORKS)}).")
