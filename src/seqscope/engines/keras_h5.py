"""HDF5 files that Keras wrote: what is in them, and weights put into the layers of a model.

Keras 2 (and R, which calls it) keeps the weights of each layer in a group of its name, in an order of its own: those that are trained
first, then the rest. An array is read only after its shape was found to fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import keras
import numpy as np

from seqscope.engines import keras_kinds
from seqscope.errors import ModelError

# The first bytes of every HDF5 file.
_SIGNATURE = b"\x89HDF\r\n\x1a\n"

# The group in which a whole model keeps its weights; files of weights alone have them at the top.
WHOLE = "model_weights"

# Weights that an option of Keras 2 added to a layer, and that are for training alone.
_TRAINING_ONLY = ("renorm_mean", "renorm_stddev", "renorm_mean_weight", "renorm_stddev_weight")


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises
    ------
    ModelError
        It is not there, is none, is cut off, or what is read of it inside the `with` turns out broken.
    """
    if not path.is_file():
        raise ModelError(f"There is no file '{path}'.")
    with path.open("rb") as begun:
        start = begun.read(len(_SIGNATURE))
    if start != _SIGNATURE:
        what = "is empty" if not start else "is no HDF5 file, whatever its name says: it begins with other bytes"
        raise ModelError(f"'{path}' {what}.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
        raise ModelError(f"'{path}' can't be read, it is cut off or damaged: {' '.join(str(error).split())}") from error


def text_of(file: h5py.File, name: str) -> str | None:
    """A text among a file's attributes."""
    value = file.attrs.get(name)
    return value.decode("utf-8") if isinstance(value, bytes) else None if value is None else str(value)


def names_in(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names among a group's attributes; a long one is in pieces ("layer_names0", "layer_names1")."""
    pieces = [attribute] if attribute in group.attrs else []
    while not pieces or pieces[0] != attribute:
        if f"{attribute}{len(pieces)}" not in group.attrs:
            break
        pieces.append(f"{attribute}{len(pieces)}")
    return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for piece in pieces for name in np.ravel(group.attrs[piece])]


def is_by_layer(group: h5py.Group) -> bool:
    """Whether a group holds weights as Keras 2 has them, layer by layer."""
    return "layer_names" in group.attrs or "layer_names0" in group.attrs


@dataclass(frozen=True)
class Saved:
    """An array in a file: where it is, and its shape.

    Attributes
    ----------
    name : str
        As the file has it, "lstm/lstm_cell/kernel:0".
    dataset : h5py.Dataset
    """

    name: str
    dataset: h5py.Dataset

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return tuple(self.dataset.shape)

    def read(self) -> np.ndarray:
        """The array."""
        return np.asarray(self.dataset)


def saved_layers(group: h5py.Group) -> dict[str, list[Saved]]:
    """The layers of which weights are saved, in the file's order, each with its arrays.

    Raises
    ------
    ModelError
        A group or array that the file lists is not there, or is no numbers.
    """
    found: dict[str, list[Saved]] = {}
    for layer in names_in(group, "layer_names"):
        inside = _member(group, layer, h5py.Group)
        arrays = [Saved(name, _member(inside, name, h5py.Dataset)) for name in names_in(inside, "weight_names")]
        arrays = [array for array in arrays if array.name.rpartition("/")[2].partition(":")[0] not in _TRAINING_ONLY]
        if arrays:
            found[layer] = arrays
    return found


def _member(group: h5py.Group, name: str, kind: type) -> Any:
    """What lies in a group."""
    found = group.get(name)
    if not isinstance(found, kind) or (isinstance(found, h5py.Dataset) and found.dtype.kind not in "fiub"):
        what = "does not hold" if found is None else "holds as something else"
        raise ModelError(f"it lists {name!r} among its weights, which it {what}")
    return found


@dataclass(frozen=True)
class Slot:
    """A variable of a model that a saved array fills.

    Attributes
    ----------
    owner : str
        The layer's dotted name.
    variable : keras.Variable
    cell : layer or None
        The cell that it belongs to, where that is one of an LSTM or GRU.
    """

    owner: str
    variable: Any
    cell: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The variable's shape."""
        return tuple(self.variable.shape)

    def __str__(self) -> str:
        return f"{self.owner}/{self.variable.name}"


# The layers of models in the order that a file has, where it is known, by the model's id.
Orders = Mapping[int, Sequence[Any]]
NO_ORDERS: Orders = MappingProxyType({})


def slots_of(layer: Any, orders: Orders = NO_ORDERS) -> list[Slot]:
    """The variables of a layer in the order in which Keras 2 saved them, each once: what is trained, then the rest."""
    trained, rest = _ordered(layer, layer.name, orders)
    return list({id(slot.variable): slot for slot in reversed(trained + rest)}.values())[::-1]


def _ordered(layer: Any, name: str, orders: Orders) -> tuple[list[Slot], list[Slot]]:
    """What is trained of a layer and of those in it, and what is not."""
    cell = layer if isinstance(layer, (keras.layers.LSTMCell, keras.layers.GRUCell)) else None
    trained = [Slot(name, variable, cell) for variable in layer._trainable_variables]
    rest = [Slot(name, variable, cell) for variable in _fixed(layer)]
    if not layer.trainable:
        trained, rest = [], trained + rest
    for child in orders.get(id(layer)) or _inside(layer):
        more, less = _ordered(child, f"{name}.{child.name}", orders)
        trained, rest = trained + (more if layer.trainable else []), rest + ([] if layer.trainable else more) + less
    return trained, rest


def _fixed(layer: Any) -> list[Any]:
    """What a layer holds besides what is trained, without the states of recurrent layers and random generators."""
    states = {id(state) for state in keras.tree.flatten(getattr(layer, "states", None) or [])} if keras_kinds.is_recurrent(layer) else set()
    return [one for one in layer._non_trainable_variables if id(one) not in states and one.name != "seed_generator_state"]


def _inside(layer: Any) -> list[Any]:
    """The layers inside a layer, in Keras 2's order."""
    if keras_kinds.is_bidirectional(layer):
        return [layer.forward_layer, layer.backward_layer]
    if isinstance(layer, keras.Model):
        return list(layer.layers)
    return list(layer._layers)


@dataclass
class Filling:
    """Which saved array goes into which variable, put together before anything is changed.

    Attributes
    ----------
    pairs : list of (Slot, array or Saved)
    unfit : list of str
        What does not fit, in words.
    converted : list of str
        The layers whose layout was that of cuDNN.
    """

    pairs: list[tuple[Slot, Any]] = field(default_factory=list)
    unfit: list[str] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)

    def add(self, name: str, slots: Sequence[Slot], arrays: Sequence[Saved]) -> None:
        """Pair the variables of a layer with the arrays saved of it."""
        if len(slots) != len(arrays):
            self.unfit.append(
                f"the layer '{name}' has {len(slots)} weights ({_listed(slots)}), and {len(arrays)} are saved ({_listed(arrays)})"
            )
            return
        place = 0
        while place < len(slots):
            n_cell = _n_of_cell(slots, place)
            if n_cell == 3 and slots[place + 2].shape != arrays[place + 2].shape:
                self._add_cell(slots[place : place + 3], arrays[place : place + 3])
            else:
                for slot, array in zip(slots[place : place + n_cell], arrays[place : place + n_cell], strict=True):
                    self._add_one(slot, array)
            place += n_cell

    def _add_one(self, slot: Slot, array: Saved) -> None:
        if slot.shape != array.shape:
            self.unfit.append(f"'{slot}' has shape {slot.shape}, and '{array.name}' in the file {array.shape}")
        self.pairs.append((slot, array))

    def _add_cell(self, slots: Sequence[Slot], arrays: Sequence[Saved]) -> None:
        """A cell whose bias is not as the file has it: cuDNN's layout, or another kind of GRU."""
        kernel, recurrent, bias = arrays
        n_gates = 4 if isinstance(slots[0].cell, keras.layers.LSTMCell) else 3
        units = slots[1].shape[0]
        fits = slots[0].shape == kernel.shape and slots[1].shape == recurrent.shape
        if fits and bias.shape == (2 * n_gates * units,) and (n_gates == 4 or slots[0].cell.reset_after):
            self.pairs.extend(zip(slots, from_cudnn([array.read() for array in arrays], n_gates), strict=True))
            self.converted.append(slots[0].owner)
        elif fits and n_gates == 3 and int(np.prod(bias.shape)) == 2 * int(np.prod(slots[2].shape)):
            self.unfit.append(f"'{slots[0].owner}' was saved as a GRU with reset_after=True (two biases): make it with reset_after=True")
        elif fits and n_gates == 3 and 2 * int(np.prod(bias.shape)) == int(np.prod(slots[2].shape)):
            self.unfit.append(f"'{slots[0].owner}' was saved as a GRU with reset_after=False (one bias): make it with reset_after=False")
        else:
            for slot, array in zip(slots, arrays, strict=True):
                self._add_one(slot, array)

    def put(self, model: Any) -> None:
        """Fill the variables of a model."""
        for slot, array in self.pairs:
            slot.variable.assign(array.read() if isinstance(array, Saved) else array)
        for layer in model._flatten_layers():
            if hasattr(layer, "finalize_state"):  # what is computed from weights, as a Normalization does
                layer.finalize_state()


def _n_of_cell(slots: Sequence[Slot], place: int) -> int:
    """How many variables from a place on belong to one cell; 1 for others."""
    cell = slots[place].cell
    if cell is None:
        return 1
    return sum(slot.cell is cell for slot in slots[place : place + 3])


def _listed(things: Sequence[Slot] | Sequence[Saved]) -> str:
    names = [thing.name if isinstance(thing, Saved) else thing.variable.name for thing in things]
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "") if names else "none"


def from_cudnn(arrays: Sequence[np.ndarray], n_gates: int) -> list[np.ndarray]:
    """The kernels and biases of a CuDNNLSTM or CuDNNGRU as LSTM and GRU have them.

    cuDNN has each gate's matrix as rows of outputs: they are turned around. Its two biases are added up in an LSTM, which has one (nothing
    comes between them), and kept apart in a GRU (the reset gate does).

    Parameters
    ----------
    arrays : list
        Kernel (inputs, n_gates x units), recurrent kernel (units, n_gates x units), biases (2 x n_gates x units,).
    n_gates : int
        4 of an LSTM, 3 of a GRU.
    """
    kernel, recurrent, bias = arrays
    kernels = [gate.T.reshape(gate.shape, order="F") for gate in np.hsplit(kernel, n_gates)]
    recurrents = [gate.T for gate in np.hsplit(recurrent, n_gates)]
    both = bias.reshape(2, -1)
    return [np.hstack(kernels), np.hstack(recurrents), both.sum(axis=0) if n_gates == 4 else both]


def top_slots(model: Any, orders: Orders = NO_ORDERS) -> dict[str, list[Slot]]:
    """The layers of a model that have weights, as Keras 2 counts them: nested models are one, each with its variables in order."""
    layers = orders.get(id(model)) or (model.layers if hasattr(model, "layers") else [model])
    return {layer.name: slots for layer in layers if (slots := slots_of(layer, orders))}
