"""Keras models and weights from files: nothing in a file runs unless the person trusts it."""

from __future__ import annotations

import io
import json
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras

from seqscope.engines import keras_h5, keras_legacy
from seqscope.engines.model_files import kind_of_model
from seqscope.errors import ModelError, quoted, warn
from seqscope.sniff import Kind

_HDF5 = (".h5", ".hdf5")
# The file of weights in a `.keras` archive.
_INSIDE = "model.weights.h5"


def open_file(path: Path, *, trust: bool = False, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Open a model that Keras wrote: `.keras`, or `.h5` of any Keras since version 2, also from R.

    Parameters
    ----------
    path : Path
    trust : bool
        Whether code in the file may run, which is what a Lambda layer is.
    custom_objects : dict, optional
        Classes and functions of the person's own that the file names.

    Returns
    -------
    keras.Model
        In Keras 3. A model of Keras 2 computes what it computed there; what had to be changed for that is said in a warning.

    Raises
    ------
    ModelError
        The file is damaged, holds weights alone, holds code, or names a class that is not known.
    """
    if kind_of_model(path) is not Kind.HDF5:
        return _by_keras(path, trust, custom_objects)
    with keras_h5.opened(path) as file:
        config = keras_h5.text_of(file, "model_config")
        version = keras_h5.text_of(file, "keras_version") or "1"
        if config is None:
            raise ModelError(_no_model(path, file))
        if version.startswith("1"):
            raise ModelError(f"'{path}' was written by Keras 1: load it with Keras 2.0 to 2.3 and save it again.")
        if version.startswith("2"):
            if path.suffix.lower() not in _HDF5:  # Keras before 2.12 wrote HDF5 under any ending
                warn(f"'{path}' is an HDF5 file by what it holds, and is opened as one: its ending is .h5.")
            return _of_keras_2(path, file, config, trust, custom_objects or {})
    if path.suffix.lower() not in _HDF5:
        raise ModelError(f"'{path}' is an HDF5 file by what it holds: rename it to '{path.with_suffix('.h5').name}' and open that.")
    return _by_keras(path, trust, custom_objects)


def _of_keras_2(path: Path, file: h5py.File, config: str, trust: bool, custom_objects: Mapping[str, Any]) -> Any:
    """A whole model of Keras 2, its weights put in, with a word on what was repaired."""
    try:
        described = json.loads(config)
        group = file.get(keras_h5.WHOLE)
        if not isinstance(group, h5py.Group):
            raise ModelError(f"the group '{keras_h5.WHOLE}' is missing, which holds its weights")
        saved = keras_h5.saved_layers(group)
        model, repairs, orders = keras_legacy.build(described, saved, custom_objects=custom_objects, trust=trust)
        filling = _filled(keras_h5.top_slots(model, orders), {name.replace("/", "_"): arrays for name, arrays in saved.items()})
    except ModelError as error:
        raise ModelError(f"'{path}' can't be opened: {error.message}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:  # a description that makes no sense
        raise ModelError(f"'{path}' can't be opened, what it says of its model is damaged: {type(error).__name__}: {error}.") from error
    filling.put(model)
    if repairs.made:
        warn(f"'{path}' was written by Keras {keras_h5.text_of(file, 'keras_version')} and repaired for Keras 3: {repairs}.")
    return model


def _no_model(path: Path, file: h5py.File) -> str:
    """What an HDF5 file is that holds no model."""
    if keras_h5.is_by_layer(file):
        layers = list(keras_h5.saved_layers(file))
    elif "layers" in file or "_layer_checkpoint_dependencies" in file:
        layers = list(file.get("layers", file.get("_layer_checkpoint_dependencies")))
    else:
        return f"'{path}' is an HDF5 file that holds no Keras model: {quoted(file, most=6) or 'nothing'}."
    return (
        f"'{path}' holds weights alone (of {quoted(layers, most=6)}) and not the network that they belong to: make the network in code, "
        f"and say Scope(model, weights='{path.name}'), or Scope('{path.name}', factory='module:callable') with what makes it."
    )


def _by_keras(path: Path, trust: bool, custom_objects: Mapping[str, Any] | None) -> Any:
    """A file that Keras 3 opens itself."""
    try:
        return keras.saving.load_model(str(path), custom_objects=dict(custom_objects or {}), compile=False, safe_mode=not trust)
    except Exception as error:
        raise ModelError(_why_not(path, " ".join(str(error).split()))) from error


def _why_not(path: Path, text: str) -> str:
    """Keras' complaint about a file, as a sentence."""
    if "Lambda" in text or "unsafe" in text.lower():
        return f"'{path}' holds a Lambda layer, which is code that opening would run: if you trust the file, say trust=True."
    unknown = re.search(r"Could not locate (?:class|function) '([\w>]+)'|Unknown \w+: '([\w>]+)'", text)
    if unknown is not None:
        name = unknown[1] or unknown[2]
        return f"'{path}' holds {name!r}, which Keras does not know: say what it is with custom_objects={{{name!r}: ...}}."
    return f"'{path}' can't be loaded as a Keras model: {text.partition(' Full object config')[0][:500]}"


# Weights


def load_weights(model: Any, path: Path, *, trust: bool = False) -> None:
    """Fill a Keras model with the weights of a file: `.weights.h5`, `.keras`, or `.h5` of Keras 2, be it of weights or of a whole model.

    Layers of Keras 2 are found by their names, else by their order; the layouts of CuDNNLSTM and CuDNNGRU are converted. Nothing is
    changed where something does not fit.

    Raises
    ------
    ModelError
        The file is not there, is of another kind, or does not fit the model: what is missing, left over, or of another shape is listed.
    """
    if path.suffix.lower() not in (*_HDF5, ".keras"):
        raise ModelError(f"The weights of a Keras model are read from a .h5, .weights.h5 or .keras file, and '{path}' is none.")
    if not path.is_file():
        raise ModelError(f"There is no file '{path}'.")
    if not keras_h5.top_slots(model):
        raise ModelError(f"{model.name} has no weights yet to fill from '{path}': call it once on data, or build it, before.")
    with _weights_in(path) as file:
        group = file.get(keras_h5.WHOLE, file) if not keras_h5.is_by_layer(file) else file
        if keras_h5.is_by_layer(group):
            _fill(model, keras_h5.saved_layers(group), path)
            return
        _check_paths(model, file, path)
    try:
        model.load_weights(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"The weights '{path}' do not fit {model.name}: {' '.join(str(error).split())[:500]}") from error


@contextmanager
def _weights_in(path: Path) -> Iterator[h5py.File]:
    """The HDF5 file of weights, which a `.keras` archive has inside."""
    if path.suffix.lower() != ".keras":
        with keras_h5.opened(path) as file:
            yield file
        return
    try:
        with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read(_INSIDE)), "r") as file:
            yield file
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"'{path}' holds no weights that can be read: {error}") from error


def _fill(model: Any, saved: Mapping[str, list[keras_h5.Saved]], path: Path) -> None:
    """Put weights that Keras 2 saved into a model: by name where all names are the same, else in order where there are as many layers."""
    there = keras_h5.top_slots(model)
    by_order = set(saved) != set(there) and len(saved) == len(there)
    pairs = _in_order(there, saved) if by_order else {name: name for name in there if name in saved}
    try:
        named = {new: saved[old] for new, old in pairs.items()} | ({} if by_order else dict(saved))
        filling = _filled(there, named)
    except ModelError as error:
        in_order = " (its layers have other names, and were taken in order)" if by_order else ""
        raise ModelError(f"The weights '{path}' do not fit {model.name}{in_order}: {error.message}.") from error
    filling.put(model)
    strange = [f"'{old}' for '{new}'" for new, old in pairs.items() if _stem(old) != _stem(new)]
    if by_order and (strange or list(pairs.values()) != list(saved)):
        listed = ", ".join(strange[:6] or [f"'{old}' for '{new}'" for new, old in pairs.items()][:6])
        more = f" and {len(pairs) - 6} more" if len(strange or pairs) > 6 else ""
        warn(f"The layers of '{path}' have other names than those of {model.name} and were taken in order: {listed}{more}.")


def _in_order(there: Mapping[str, Sequence[keras_h5.Slot]], saved: Mapping[str, Sequence[keras_h5.Saved]]) -> dict[str, str]:
    """For the layers of a model the saved ones: in order; where that does not fit and shapes tell, those of the same shapes in order.

    Which of several layers side by side comes first differs between the versions of Keras.
    """
    in_order = dict(zip(there, saved, strict=True))
    trial = keras_h5.Filling()
    for new, old in in_order.items():
        trial.add(new, there[new], saved[old])
    if not trial.unfit:
        return in_order
    free, found = dict(saved), dict[str, str]()
    for new, slots in there.items():
        shapes = [slot.shape for slot in slots]
        fitting = next((name for name, arrays in free.items() if [array.shape for array in arrays] == shapes), None)
        if fitting is None:
            return in_order
        found[new] = fitting
        del free[fitting]
    return found


def _filled(there: Mapping[str, Sequence[keras_h5.Slot]], saved: Mapping[str, Sequence[keras_h5.Saved]]) -> keras_h5.Filling:
    """Layers and what is saved of them, by name.

    Raises
    ------
    ModelError
        A layer is not there, or its weights are others.
    """
    filling = keras_h5.Filling()
    missing, over = [name for name in there if name not in saved], [name for name in saved if name not in there]
    if missing:
        filling.unfit.append(f"the file has none for {quoted(missing)}")
    if over:
        filling.unfit.append(f"left over are {quoted(over)}")
    for name in there:
        if name in saved:
            filling.add(name, there[name], saved[name])
    if filling.unfit:
        more = len(filling.unfit) - 5
        raise ModelError("; ".join([*filling.unfit[:5], *([f"and {more} more"] if more > 0 else [])]))
    return filling


def _stem(name: str) -> str:
    """A layer's name without the number that Keras adds."""
    return re.sub(r"_\d+$", "", name)


def _check_paths(model: Any, file: h5py.File, path: Path) -> None:
    """Compare the places of a Keras 3 file with those that the model itself would write.

    Raises
    ------
    ModelError
        They differ, or their shapes do.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = Path(folder) / "own.weights.h5"
        model.save_weights(own)
        with h5py.File(own, "r") as written:
            expected, found = _shapes(written), _shapes(file)
    roots = {"layers", *(place.partition("/")[0] for place in expected)}  # beside them are an optimizer's and metrics
    missing = [place for place in expected if place not in found]
    over = [place for place in found if place not in expected and place.partition("/")[0] in roots]
    other = [f"{place} is {shape}, and in the file {found[place]}" for place, shape in expected.items() if found.get(place, shape) != shape]
    if missing or over or other:
        words = [f"the file has none for {quoted(missing, most=6)}"] if missing else []
        words += [f"left over are {quoted(over, most=6)}"] if over else []
        raise ModelError(f"The weights '{path}' do not fit {model.name}: {'; '.join([*words, *other[:6]])}.")


def _shapes(file: h5py.File) -> dict[str, tuple[int, ...]]:
    """The arrays of a Keras 3 file, each by its place ("layers/lstm/cell/vars/0"), but for the states of random generators."""
    found: dict[str, tuple[int, ...]] = {}
    file.visititems(lambda name, item: found.update({name: tuple(item.shape)}) if isinstance(item, h5py.Dataset) else None)
    return {name: shape for name, shape in found.items() if "seed_generator" not in name}
