"""Which layers a person asked for: names, globs, one tensor of several ("branch[0]"), or all."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from seqscope.axes import Reading
from seqscope.errors import LayerError, about_layer, nearest, quoted, warn

_PLACES = re.compile(r"(\[[^\[\]]*\])+$")  # the end of "branch[0]": one tensor of those that a layer gives


def layer_of(address: str) -> str:
    """The layer that a value belongs to.

    >>> layer_of("encoder.branch[0]")
    'encoder.branch'
    """
    return _PLACES.sub("", address)


NEVER_RAN = "never ran for this input (a module whose `forward` is called directly is not seen either)"


@dataclass(frozen=True)
class Request:
    """One layer that is wanted.

    Attributes
    ----------
    layer : str
        Its name.
    place : str or None
        The one tensor of it that is wanted, as an address.
    by_name : bool
        Whether it was asked for by its own name, so that not to see it is an error; else it came with a glob or with all.
    """

    layer: str
    place: str | None = None
    by_name: bool = True

    def pick(self, readings: Mapping[str, Reading | LayerError]) -> dict[str, Reading]:
        """The values that answer the request, out of those that were seen.

        Raises
        ------
        LayerError
            The layer never ran, gives several tensors of which none was named, or has a value that can't be labelled.
        """
        found = [address for address in readings if layer_of(address) == self.layer]
        with about_layer(self.layer):
            if not found:
                raise LayerError(NEVER_RAN)
            if self.place is not None and self.place not in found:
                raise LayerError(f"gives no '{self.place}': there are {quoted(found)}")
            if self.by_name and self.place is None and len(found) > 1:
                raise LayerError(f"gives {len(found)} tensors: ask for one of {quoted(found)}")
            return {address: _readable(readings[address]) for address in ([self.place] if self.place else found)}


def _readable(reading: Reading | LayerError) -> Reading:
    if isinstance(reading, LayerError):
        raise reading
    return reading


@dataclass(frozen=True)
class Selection:
    """All layers that are wanted; `one`: a single array is, rather than a tree."""

    requests: tuple[Request, ...]
    one: bool

    @property
    def capture(self) -> tuple[str, ...]:
        """The layers to look at, each once."""
        return tuple(dict.fromkeys(request.layer for request in self.requests))

    def pick(self, readings: Mapping[str, Reading | LayerError]) -> dict[str, Reading]:
        """The values to keep. What came with a glob or with all and can't be seen is left out with a warning."""
        chosen: dict[str, Reading] = {}
        left_out: dict[str, list[str]] = {}  # by the reason
        for request in self.requests:
            try:
                chosen |= request.pick(readings)
            except LayerError as error:
                if request.by_name:
                    raise
                left_out.setdefault(error.message.removeprefix(f"The layer '{request.layer}' "), []).append(request.layer)
        told = " ".join(f"The layer{'s' if len(names) > 1 else ''} {quoted(names)} {reason}" for reason, names in left_out.items())
        if not chosen:
            raise LayerError(f"None of the layers could be seen. {told}")
        if left_out:
            warn(f"Left out: {told}")
        if any(request.by_name for request in self.requests):
            return chosen
        return {address: chosen[address] for address in readings if address in chosen}  # in the order in which they ran


def select(layers: str | Sequence[str] | None, names: Sequence[str], rows: Sequence[str]) -> Selection:
    """Find the layers that are meant.

    Parameters
    ----------
    layers : str, sequence of str, or None
        What the person said; None: all.
    names : sequence of str
        All names that can be asked for, containers among them.
    rows : sequence of str
        The names of the layers proper.

    Raises
    ------
    LayerError
        No layer has such a name; the nearest ones are given.

    Examples
    --------
    >>> select("encoder.*", ["encoder", "encoder.lstm", "encoder.fc", "head"], ["encoder.lstm", "encoder.fc", "head"]).capture
    ('encoder.lstm', 'encoder.fc')
    """
    if layers is None:
        return Selection(tuple(Request(name, by_name=False) for name in rows), one=False)
    wanted = [layers] if isinstance(layers, str) else list(layers) if isinstance(layers, Iterable) else [layers]
    for name in wanted:
        if not isinstance(name, str):
            raise LayerError(f"A layer was asked for by {name!r}: expected a name, a glob, or a list of them; {nearest('', names)}.")
    if not wanted:
        raise LayerError("No layer was asked for: give a name, a glob, or nothing for all of them.")
    requests = tuple(request for name in wanted for request in _requests(name, names, rows))
    return Selection(requests, one=isinstance(layers, str) and requests[0].by_name)


def _requests(name: str, names: Sequence[str], rows: Sequence[str]) -> list[Request]:
    """One layer by its name, or the layers proper that a glob fits."""
    if name in names:
        return [Request(name)]
    if layer_of(name) in names:
        return [Request(layer_of(name), place=name)]
    matching = fnmatch.filter(rows, name)
    if not matching:
        raise LayerError(f"No layer is named '{name}': {nearest(name, names)}.")
    return [Request(found, by_name=False) for found in matching]
