"""From what a person has to what is looked at: a store, a recording, a scope or a model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from seqscope.errors import DataError, require
from seqscope.explorer.source import Live, Recorded, Source
from seqscope.scope import Scope

if TYPE_CHECKING:
    from seqscope.recording.reading import Recording


def source_of(given: Any, X: Any = None, *, scope: Scope | None = None, opening: str | None = None) -> Source:
    """Open what was given.

    Parameters
    ----------
    given : path or address of a store, Recording, Scope, or a model
    X : optional
        The data: of a live model what it is to run on; of a recording that was made without its inputs, those.
    scope : Scope, optional
        The model that a recording was made from, for explanations.
    opening : str, optional
        The Python that the views' lines go on from; default: as told by what was given.

    Raises
    ------
    DataError
        There is no such store, it is damaged, a live model was given no data, or the model or the data are not those of the recording.
    ModelError
    """
    recording = _recording_of(given)
    if recording is not None:
        return _recorded(recording, X, scope, opening)
    if scope is not None:
        raise DataError("scope= is the model of a recording: a model that runs is given alone, as in explore(scope, X).")
    live = given if isinstance(given, Scope) else Scope(given)
    if X is None:
        raise DataError("A model was given without data: say what it is to run on, as in explore(scope, X).")
    return Live(live, X, name=_named(live), opening=opening or "import seqscope as sq\n# scope and X as they were given to sq.explore")


def _recording_of(given: Any) -> Recording | None:
    """The recording that is meant; None where it is a model."""
    if isinstance(given, Scope):
        return None
    is_path = isinstance(given, str | os.PathLike)
    if is_path and not is_store(given):
        return None
    require("zarr", extra="record", purpose="Opening a recording")
    from zarr.abc.store import Store

    from seqscope.recording.reading import Recording, open_recording

    if isinstance(given, Recording):
        return given
    return open_recording(given) if is_path or isinstance(given, Store) else None


def is_store(given: Any) -> bool:
    """Whether a path or address is that of a store: a folder, an address, or a name that ends as one."""
    text = str(given)
    return os.path.isdir(text) or "://" in text or text.rstrip("/").endswith(".zarr")


def _recorded(recording: Recording, X: Any, scope: Scope | None, opening: str | None) -> Recorded:
    if not recording.recorded.any():
        raise DataError(f"Nothing of '{recording.name}' is recorded yet: wait, or see that seqscope record runs.")
    if scope is not None and scope.digest != recording.model_digest:
        raise DataError(
            f"'{recording.name}' was recorded from another model ({recording.attrs['model']}; other weights or layers than "
            f"{scope!r}): give the model that it was made from, or leave it out."
        )
    inputs = _inputs_of(recording, X, scope)
    said = opening or f"import seqscope as sq\nrecording = sq.open({recording.name!r})\nX = recording.inputs"
    return Recorded(recording, inputs, scope, opening=said)


def _inputs_of(recording: Recording, X: Any, scope: Scope | None) -> Any:
    """The inputs that were recorded, else those that were given, which must be as many and as long."""
    from seqscope.recording.plan import INPUTS
    from seqscope.sequences import as_sequences

    if INPUTS in recording.tree.children:
        return recording.inputs
    if X is None:
        return None
    given = scope.sequences(X) if scope is not None else as_sequences(X)
    if len(given) != len(recording) or (given.lengths != recording.lengths).any():
        raise DataError(f"The data is not what '{recording.name}' was recorded from: {given.describe()}, and {recording!r}.")
    return given


def _named(scope: Scope) -> str:
    return repr(scope).removeprefix("Scope of ").partition(":")[0]
