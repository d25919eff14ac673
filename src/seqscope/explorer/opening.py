"""From what a person has to what is looked at: a store, a recording, a scope or a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqscope import files
from seqscope.errors import DataError, ModelError, UnsupportedError, require
from seqscope.explorer.source import Live, Recorded, Source
from seqscope.scope import Scope
from seqscope.sequences import Sequences, as_sequences

if TYPE_CHECKING:
    from seqscope.recording.reading import Recording


def source_of(
    given: Any, X: Any = None, *, scope: Scope | None = None, code: Mapping[str, str] | None = None, progress: bool | None = None
) -> Source:
    """Open what was given.

    Parameters
    ----------
    given : path or address of a store, Recording, Scope, or a model
    X : optional
        The data, or its file: of a live model what it is to run on; of a recording that was made without its inputs, those.
    scope : Scope, optional
        The model that a recording was made from, for explanations.
    code : dict of str, optional
        The lines of Python that make "scope" and "X", which the views' lines go on from; default: what a path tells.
    progress : bool, optional
        Whether the predictions of a live model show a bar.

    Raises
    ------
    DataError
        There is no such store, it is damaged, a live model was given no data, or the model or the data are not those of the recording.
    ModelError
        It is no model, or can't be opened.
    """
    data = files.read(X) if isinstance(X, str | os.PathLike) else X
    recording = _recording_of(given)
    if recording is not None:
        inputs = _inputs_of(_checked(recording, scope), data, scope)
        return Recorded(recording, inputs, scope, opening=_code_of_recording(given, recording, X, scope, code or {}))
    if scope is not None:
        raise DataError("scope= is the model of a recording: a model that runs is given alone, as in explore(scope, X).")
    live = given if isinstance(given, Scope) else Scope(_known(given))
    if X is None:
        raise DataError("A model was given without data: say what it is to run on, as in explore(scope, X).")
    sequences = live.sequences(data)
    opening = _code_of_model(given, X, sequences, code or {})
    return Live(live, _several(sequences), name=_named(live), opening=opening, progress=progress)


# A live model


def _known(given: Any) -> Any:
    """What may be a model: a file that there is, or an object."""
    if isinstance(given, str | os.PathLike) and not Path(given).exists():
        raise ModelError(f"There is no store and no model file '{given}'.")
    return given


def _several(sequences: Sequences) -> Sequences:
    """One sequence is a data set of one."""
    return sequences[[0]] if sequences.single else sequences


def _named(scope: Scope) -> str:
    return repr(scope).removeprefix("Scope of ").partition(":")[0]


def _code_of_model(given: Any, X: Any, sequences: Sequences, said: Mapping[str, str]) -> str:
    """What is known of the Python that made them: a path is said, an object is left to the person."""
    made = "# scope: as it was given to sq.explore" if isinstance(given, Scope) else "# scope: sq.Scope of the model given to sq.explore"
    if isinstance(given, str | os.PathLike):
        made = f"scope = sq.Scope({str(given)!r})"
    several = ["X = X[[0]]  # one sequence, looked at as a data set of one"] if sequences.single else []
    return _lines(said.get("scope", made), said.get("X", _code_of_data(X, "scope.sequences({})")), *several)


def _code_of_data(X: Any, taken: str) -> str:
    if isinstance(X, str | os.PathLike):
        return f"X = {taken.format(f'sq.read({str(X)!r})')}"
    return f"# X: {taken.format('the data that sq.explore was given')}"


def _lines(*lines: str) -> str:
    needed = ["from seqscope import files"] if any("files." in line for line in lines) else []
    return "\n".join(["import seqscope as sq", *needed, *lines])


# A recording


def _recording_of(given: Any) -> Recording | None:
    """The recording that is meant; None where it is a model."""
    if isinstance(given, Scope):
        return None
    is_path = isinstance(given, str | os.PathLike)
    if is_path and not is_store(given):
        return None
    if not is_path and not type(given).__module__.startswith(("zarr.", "seqscope.recording.", "obstore.")) and not _is_store_object(given):
        return None
    require("zarr", extra="record", purpose="Opening a recording")
    from seqscope.recording.reading import Recording, open_recording

    return given if isinstance(given, Recording) else open_recording(given)


def _is_store_object(given: Any) -> bool:
    """Whether it is a store of Zarr, of whatever class; a model is told without that package."""
    return any(kind.__module__.startswith("zarr.") for kind in type(given).__mro__)


def is_store(given: Any) -> bool:
    """Whether a path or address is that of a store: a folder, an address, or a name that ends as one."""
    text = str(given)
    return os.path.isdir(text) or "://" in text or text.rstrip("/").endswith(".zarr")


def _checked(recording: Recording, scope: Scope | None) -> Recording:
    """A recording that has begun, and that was made from the model if one is given."""
    if not recording.is_complete and not recording.recorded.any():
        raise DataError(f"Nothing of '{recording.name}' is recorded yet: wait, or see that what records it runs.")
    if scope is None:
        return recording
    try:
        digest = scope.digest
    except UnsupportedError as error:
        raise DataError(f"It can't be told whether '{recording.name}' was made from {scope!r}: {error.message}") from error
    if digest != recording.model_digest:
        raise DataError(
            f"'{recording.name}' was recorded from another model ({recording.attrs['model']}; other weights or layers than "
            f"{scope!r}): give the model that it was made from, or leave it out."
        )
    return recording


def _inputs_of(recording: Recording, X: Any, scope: Scope | None) -> Sequences | None:
    """The inputs that were recorded, else those that were given, which must be as many and as long."""
    kept = recording.inputs if _has_inputs(recording) else None
    if X is None:
        return kept
    given = _several(as_sequences(X) if scope is None else scope.sequences(X))
    if len(given) != len(recording) or (given.lengths != recording.lengths).any():
        raise DataError(f"The data is not what '{recording.name}' was recorded from: {given.describe()}, and {recording!r}.")
    return given if kept is None else kept


def _has_inputs(recording: Recording) -> bool:
    from seqscope.recording.plan import INPUTS

    return INPUTS in recording.tree.children


def _code_of_recording(given: Any, recording: Recording, X: Any, scope: Scope | None, said: Mapping[str, str]) -> str:
    is_path = isinstance(given, str | os.PathLike)
    lines = [f"recording = sq.open({recording.name!r})" if is_path else "# recording: as it was given to sq.explore"]
    lines += [] if scope is None else [said.get("scope", "# scope: as it was given to sq.explore")]
    if _has_inputs(recording):
        lines.append("X = recording.inputs")
    elif X is not None:
        lines.append(said.get("X", _code_of_data(X, "sq.Sequences({})" if scope is None else "scope.sequences({})")))
    return _lines(*lines)
