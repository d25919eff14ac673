"""The layer that commands about units look at, and its values at each step."""

from __future__ import annotations

import xarray as xr

from seqscope import files
from seqscope.errors import DataError, LayerError, UnsupportedError, nearest, quoted
from seqscope.labelled import STEP, TIME, UNIT
from seqscope.scope import Scope
from seqscope.sequences import Sequences

_RECURRENT = ("lstm", "gru", "rnn")


def layer_of(scope: Scope, name: str | None) -> str:
    """The layer that was named, or the only recurrent one.

    Raises
    ------
    LayerError
        None was named, and there is not one alone.
    """
    if name is not None:
        return name
    recurrent = [layer.name for layer in scope.layers if layer.kind in _RECURRENT]
    if len(recurrent) != 1:
        found = f"has {len(recurrent)} recurrent layers, {quoted(recurrent)}" if recurrent else "has no recurrent layer"
        raise LayerError(f"The model {found}: name the layer of the units with --layer.")
    return recurrent[0]


def of_one_layer(found: files.Result, layer: str) -> xr.DataArray:
    """What was read, once it is that of one layer and has units and steps.

    Raises
    ------
    UnsupportedError
    """
    if not isinstance(found, xr.DataArray):
        raise UnsupportedError(f"'{layer}' stands for several layers, {quoted(found.children)}: name one with --layer.")
    if not {TIME, STEP} & set(found.dims) or UNIT not in found.dims:
        raise UnsupportedError(
            f"'{layer}' has no units with a value at each step, but the dims {quoted(map(str, found.dims))}: name another with --layer."
        )
    return found


def values_of(scope: Scope, X: Sequences | xr.DataArray, layer: str, state: str | None, *, progress: bool | None = None) -> xr.DataArray:
    """What the layer's units do at each step: what they put out, or one of its states.

    Raises
    ------
    DataError
        There is no such state.
    UnsupportedError, LayerError
    """
    if state is None:
        return of_one_layer(scope.activations(X, layer, progress=progress), layer)
    found: files.Result | xr.DataArray = scope.states(X, layer, progress=progress)
    if isinstance(found, xr.Dataset):
        if state not in found:
            raise DataError(f"'{layer}' has no state {state!r}: {nearest(state, map(str, found))}.")
        found = found[state].assign_attrs(found.attrs | found[state].attrs)
    return of_one_layer(found, layer)
