"""One step at a time, the state carried: as a live feed gives them, or as a model's own loop would."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import xarray as xr

from seqscope import labelled, layouts
from seqscope.axes import OUTPUT_VALUE, Reading
from seqscope.engines.base import Carried, Stepped, Stepper
from seqscope.errors import DataError, LayerError, ModelError, SeqscopeError, UnsupportedError, nearest, warn
from seqscope.feed import Feed
from seqscope.labelled import STREAM, TIME, UNIT
from seqscope.selection import layer_of
from seqscope.states import kind_of_names

# So many identical steps in a row look like a loop that feeds one step again and again.
_MOST_ALIKE = 20

Labelled = TypeVar("Labelled")


@dataclass(frozen=True)
class Plan:
    """What a stream runs and what it shows.

    Attributes
    ----------
    n_rows : int
        Streams side by side.
    width : int or None
        The channels of a step; None: it is a token.
    readings : dict of Reading
        The axes of the values that are shown, and of the output (`OUTPUT_VALUE`).
    layers, states : tuple of str
        The layers whose values, and the recurrent layers whose states are shown.
    outputs : sequence or None
        The names of the outputs.
    attrs : dict
        What every result says of itself.
    made : dict
        Labelled arrays of earlier steps, to take the labels from.
    """

    n_rows: int
    width: int | None
    readings: Mapping[str, Reading]
    layers: tuple[str, ...]
    states: tuple[str, ...]
    outputs: Sequence[Hashable] | None
    attrs: Mapping[str, Any]
    made: dict[Any, xr.DataArray] = field(default_factory=dict, compare=False, repr=False)


class Step:
    """What one step gave. Arrays are made and labelled when they are looked at.

    Attributes
    ----------
    output : DataArray (output), or (stream, output)
        The model's output for the steps so far.
    activations : mapping of DataArray (unit), or (stream, unit)
        What the layers asked for put out at this step, by name.
    states : mapping of Dataset
        The states of the recurrent layers asked for after this step, by name, each (unit) or (stream, unit).
    """

    def __init__(self, plan: Plan, stepper: Stepper, stepped: Stepped, *, single: bool) -> None:
        self._plan, self._stepper, self._stepped, self._single = plan, stepper, stepped, single

    @property
    def activations(self) -> Mapping[str, xr.DataArray]:
        """What the layers asked for put out at this step, by name."""
        addresses = [address for address in self._stepped.captured if layer_of(address) in self._plan.layers]
        return _Lazy(addresses, self._activation)

    @property
    def states(self) -> Mapping[str, xr.Dataset]:
        """The states of the recurrent layers asked for after this step, by name."""
        return _Lazy(self._plan.states, self._states)

    @property
    def output(self) -> xr.DataArray:
        """The model's output for the steps so far."""
        value = self._value(OUTPUT_VALUE, [self._stepped.output])
        names = self._plan.outputs if self._plan.outputs is not None and len(self._plan.outputs) == value.shape[-1] else None
        order = [dim for dim in self._plan.readings[OUTPUT_VALUE].order[1:] if dim != TIME]
        dims = [labelled.OUTPUT if dim == UNIT or len(order) == 1 else dim for dim in order]
        return self._labelled(value, dims, "output", {}, {labelled.OUTPUT: names} if labelled.OUTPUT in dims else {})

    def __repr__(self) -> str:
        return f"Step: output, activations of {list(self.activations)}, states of {list(self.states)}"

    def _value(self, address: str, calls: Sequence[Any]) -> np.ndarray:
        return at_step([self._stepper.as_numpy(call) for call in calls], self._plan.readings[address], self._plan.n_rows)

    def _activation(self, address: str) -> xr.DataArray:
        value = self._value(address, self._stepped.captured[address])
        dims = [dim for dim in self._plan.readings[address].order[1:] if dim != TIME]
        return self._labelled(value, dims, labelled.ACTIVATIONS, {"layer": address})

    def _states(self, part: str) -> xr.Dataset:
        native = self._stepped.states(part)
        values = {name: self._stepper.as_numpy(native[name]) for name in labelled.in_state_order(native)}
        sizes = {value.shape[-1] for value in values.values()}
        arrays = {}
        for name, value in values.items():
            dim = labelled.PROJECTION if name == "h" and len(sizes) > 1 else UNIT
            arrays[name] = self._labelled(value, (dim,), name, {"long_name": f"{labelled.STATE_NAMES[name]} {name}"})
        attrs = {"layer": part, "kind": kind_of_names(set(values)), "method": "stream"}
        return xr.Dataset(arrays, attrs=labelled.attributes({**self._plan.attrs, **attrs}))

    def _labelled(
        self,
        value: np.ndarray,
        dims: Sequence[str],
        name: str,
        attrs: Mapping[str, Any],
        names: Mapping[str, Sequence[Hashable] | None] | None = None,
    ) -> xr.DataArray:
        dims = (STREAM, *dims)
        if self._single:
            value, dims = value[0], dims[1:]
        key = (name, attrs.get("layer"), dims, value.shape)
        if key not in self._plan.made:  # making labels takes longer than a step
            said = {**self._plan.attrs, "method": "stream", **attrs}
            self._plan.made[key] = labelled.numbered(np.zeros_like(value), dims, name=name, attrs=said, names=names or {})
        return self._plan.made[key].copy(data=np.array(value))


class _Lazy(Mapping[str, Labelled]):
    """Values by name, each made when it is looked at."""

    def __init__(self, names: Collection[str], make: Callable[[str], Labelled]) -> None:
        self._names, self._make = list(names), make

    def __getitem__(self, name: str) -> Labelled:
        if name not in self._names:
            raise LayerError(f"The stream shows no '{name}': {nearest(name, self._names)}; say layers= or states= when it is made.")
        return self._make(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a name, or a default."""
        return self._make(name) if name in self._names else default

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def at_step(calls: Sequence[np.ndarray], reading: Reading, n_rows: int) -> np.ndarray:
    """A value at one step, (row, ...), from what the model gave for one step."""
    value = reading.apply(calls, n_rows)
    return value.take(0, axis=reading.order.index(TIME)) if TIME in reading.order else value


class Stream:
    """A model that takes one step at a time and carries its state.

    Made by `Scope.stream`; a context manager.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> with sq.Scope(sq.zoo.japanese_vowels()).stream(check=X[:1]) as stream:
    ...     for x_t in X[0]:
    ...         seen = stream.step(x_t)
    >>> seen.states["lstm"].c.sizes, seen.output.idxmax("output").item()
    (Frozen({'unit': 100}), '1')
    """

    def __init__(self, plan: Plan, feed: Feed, stepper: Stepper, start: Carried) -> None:
        self._plan, self._feed, self._stepper = plan, feed, stepper
        self._start = start  # what a state looks like
        self._carried: Carried | None = None
        self._fresh = np.ones(plan.n_rows, bool)
        self._closed = False
        self._before: np.ndarray | None = None
        self._n_alike = 0

    def step(self, x: Any) -> Step:
        """Run one step.

        Parameters
        ----------
        x : array (channel,) or (stream, channel)
            What comes in; for models that take tokens a whole number, or one for each stream.

        Returns
        -------
        Step
            Without the dim `stream` where the step came without it.

        Raises
        ------
        DataError
            The step has another shape, or holds NaN or infinity. The state is as it was.
        UnsupportedError
            The stream is closed.

        Examples
        --------
        >>> import seqscope as sq
        >>> X, y = sq.datasets.japanese_vowels("test")
        >>> stream = sq.Scope(sq.zoo.japanese_vowels()).stream(check=X[:1])
        >>> stream.step(X[0][0]).output.dims
        ('output',)
        """
        self._refuse_closed()
        values, single = self._taken(x)
        self._warn_of_repeats(values)
        anew = self._fresh if self._fresh.any() else None
        stepped = run_step(self._stepper, self._feed, values, self._carried, anew)
        self._carried = stepped.carried
        if anew is not None:
            self._fresh = np.zeros(self._plan.n_rows, bool)
        return Step(self._plan, self._stepper, stepped, single=single)

    def reset(self, streams: Any = None) -> None:
        """Let streams start anew with the next step.

        Parameters
        ----------
        streams : int, slice or sequence, optional
            Which of them, by position; default: all.

        Raises
        ------
        DataError
            There are no such streams.
        """
        try:
            self._fresh[slice(None) if streams is None else streams] = True
        except (IndexError, TypeError, ValueError) as error:
            raise DataError(f"There are no streams {streams!r}: expected positions from 0 to {self._plan.n_rows - 1}.") from error
        self._before, self._n_alike = None, 0

    @property
    def state(self) -> xr.DataTree:
        """All that is carried to the next step: a node a layer, each state (stream, ...), and `fresh` (stream), which start anew.

        A copy: set it again to go back, or keep it in a file (`state.to_netcdf(path)`) and set what `xarray.open_datatree` gives.
        """
        self._refuse_closed()
        carried = self._start if self._carried is None else self._carried
        nodes = {_node(name): self._node(states) for name, states in carried.items()}
        if self._carried is None:  # every stream starts anew: there is nothing yet
            nodes = {name: xr.zeros_like(node) for name, node in nodes.items()}
        root = xr.Dataset({"fresh": (STREAM, self._fresh.copy())}, attrs=labelled.attributes({**self._plan.attrs, "method": "stream"}))
        return xr.DataTree.from_dict({"/": root} | nodes)

    @state.setter
    def state(self, state: xr.DataTree) -> None:
        self._refuse_closed()
        self._carried, self._fresh = self._checked_state(state)
        self._before, self._n_alike = None, 0

    def _refuse_closed(self) -> None:
        if self._closed:
            raise UnsupportedError("The stream is closed: make another one with scope.stream().")

    def close(self) -> None:
        """Give up what the stream holds; a step after it is refused."""
        self._closed = True
        self._carried = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        takes = "a token" if self._plan.width is None else f"{self._plan.width} channels"
        return (
            f"Stream of {self._plan.attrs['model']}: {self._plan.n_rows} side by side, {takes} a step{', closed' if self._closed else ''}"
        )

    def _node(self, states: Mapping[str, Any]) -> xr.Dataset:
        arrays = {name: np.array(self._stepper.as_numpy(tensor)) for name, tensor in states.items()}
        alike = len({array.shape for array in arrays.values()}) == 1

        def dims(name: str, array: np.ndarray) -> list[str]:
            if array.ndim != 2:
                return [f"axis_{axis}" for axis in range(1, array.ndim)]
            return [UNIT if alike or name == "c" else labelled.PROJECTION if name == "h" else f"unit_{name}"]

        return xr.Dataset({name: ((STREAM, *dims(name, array)), array) for name, array in arrays.items()})

    def _checked_state(self, state: Any) -> tuple[Carried, np.ndarray]:
        """A state in native form.

        Raises
        ------
        DataError
            It is not one of this stream's.
        """
        if not isinstance(state, xr.DataTree):
            raise DataError(f"A {type(state).__name__} was given as the state: expected a DataTree as `stream.state` gives it.")
        expected = {_node(name): name for name in self._start}
        fresh: np.ndarray = state.to_dataset()["fresh"].values if "fresh" in state.data_vars else np.zeros(0)
        if set(state.children) != set(expected) or fresh.shape != self._fresh.shape or fresh.dtype.kind not in "biu":
            raise DataError(
                f"The state has the layers {sorted(state.children)} and `fresh` of shape {fresh.shape}: expected {sorted(expected)}, and "
                f"{self._fresh.shape}."
            )
        carried: dict[str, dict[str, Any]] = {}
        for node, name in expected.items():
            template, found = self._node(self._start[name]), state[node].to_dataset()
            for key, like in template.items():
                values = _as_expected(str(key), name, found, like)
                carried.setdefault(name, {})[str(key)] = self._stepper.as_native(values, self._start[name][str(key)])
        return carried, np.array(fresh, bool)

    def _taken(self, x: Any) -> tuple[np.ndarray, bool]:
        """A step as (row, 1, channel), or (row, 1) for tokens, and whether it came without rows."""
        try:
            array = np.array(x.detach().cpu() if hasattr(x, "detach") else x)  # a copy: a feed may fill one buffer again and again
        except (ValueError, TypeError, RuntimeError) as error:
            raise DataError(f"The step can't be read as an array ({error}).") from error
        plan, is_tokens = self._plan, self._plan.width is None
        if array.dtype.kind not in ("iu" if is_tokens else "iufb"):
            raise DataError(f"The step holds {array.dtype}: expected {'whole numbers' if is_tokens else 'numbers'}.")
        step = () if is_tokens else (plan.width,)
        single = array.shape == step
        if not (array.shape == (plan.n_rows, *step) or (single and plan.n_rows == 1)):
            raise DataError(f"The step has the shape {array.shape}: expected {self._shapes_in_words()}.")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"The step holds NaN or infinity at {np.argwhere(~np.isfinite(array))[0].tolist()}: expected numbers.")
        if not is_tokens and array.dtype.kind != "f":
            array = array.astype(np.float64)
        return array.reshape(plan.n_rows, 1, *step), single

    def _shapes_in_words(self) -> str:
        channels = "" if self._plan.width is None else f", {self._plan.width}"
        alone = f"({self._plan.width},) or " if self._plan.width and self._plan.n_rows == 1 else "() or " if self._plan.n_rows == 1 else ""
        return f"{alone}({self._plan.n_rows}{channels}), ({'stream' if not channels else 'stream, channel'})"

    def _warn_of_repeats(self, values: np.ndarray) -> None:
        """Warn once of a loop that feeds one step again and again."""
        if self._n_alike >= _MOST_ALIKE:
            return
        self._n_alike = self._n_alike + 1 if self._before is not None and np.array_equal(values, self._before) else 1
        self._before = values
        if self._n_alike == _MOST_ALIKE:
            warn(f"{_MOST_ALIKE} steps in a row were identical: unless the data is so, the loop feeds one step again and again.")


def _as_expected(key: str, layer: str, found: xr.Dataset, like: xr.DataArray) -> np.ndarray:
    """One state of a layer, its axes by their names.

    Raises
    ------
    DataError
        It is not there, of another shape, or holds something else than numbers.
    """
    if key not in found or set(found[key].dims) != set(like.dims) or found[key].transpose(*like.dims).shape != like.shape:
        given = f"is {dict(found[key].sizes)}" if key in found else "is missing"
        raise DataError(f"The state {key} of '{layer}' {given}: expected {dict(like.sizes)}.")
    values = found[key].transpose(*like.dims).values
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise DataError(f"The state {key} of '{layer}' holds {values.dtype} with NaN or no numbers: expected numbers.")
    return np.ascontiguousarray(values)


def _node(name: str) -> str:
    return name.replace("/", "_")  # "/" would nest


def run_step(stepper: Stepper, feed: Feed, values: np.ndarray, carried: Carried | None, fresh: np.ndarray | None) -> Stepped:
    """Run one step, (row, 1, channel) or (row, 1).

    Raises
    ------
    ModelError
        The framework refused it.
    """
    try:
        return stepper.step(layouts.to_model(values, feed.layout), len(values), carried, fresh)
    except SeqscopeError:
        raise
    except Exception as error:
        raise ModelError(f"The model raised {type(error).__name__} on one step: {error}") from error
