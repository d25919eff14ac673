"""How a model is opened out of a file of torch.

What may run code is refused without `trust=True`:

- A pickle (a whole module by `torch.save`, a scikit-learn pipeline by joblib) names functions and calls them while it is read.
- `torch.export.load` unpickles: weights that are more than plain tensors, and objects of an extension, go to Python's own pickle.
- TorchScript is a program. Its interpreter runs no Python, and of torch's own operations two touch files, `save` and `from_file`. A
  program that names neither (nor an operation of another library), and that has no `__setstate__`, which would run while it is opened,
  can only compute; so it is opened like any other model. Everything else in TorchScript needs `trust=True`.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seqscope.engines.model_files import TRUST, kind_of_model
from seqscope.errors import ModelError, quoted, require
from seqscope.sniff import Kind

# What a TorchScript program may name that does more than compute.
_ACTS = re.compile(r"\b(from_file|save|__setstate__|rpc_\w+)\b|\bops\.(?!(?:aten|prim|quantized|_quantized|profiler)\b)(\w+)\.(\w+)")

_UNPICKLED = "Opening it unpickles, which runs whatever code the file names"
_DO_INSTEAD = f"{TRUST}, or have the weights saved, torch.save(model.state_dict(), 'net.pt'), and say Scope(model, weights='net.pt')."


def open_file(path: Path, *, trust: bool = False, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Open a model: a TorchScript program, a program of `torch.export`, or a pickled module.

    Parameters
    ----------
    path : Path
    trust : bool
        Whether code from the file may run. Needed for a pickled module, for `.pt2`, and for TorchScript that does more than compute.
    custom_objects : dict, optional
        Refused: torch finds classes by the modules that they are imported from.

    Returns
    -------
    torch.jit.ScriptModule, torch.export.ExportedProgram, torch.nn.Module
        Whatever the file holds, on the CPU where this machine has no GPU. Of a checkpoint, or of a scikit-learn pipeline, the module in it.

    Raises
    ------
    ModelError
        It holds weights alone, runs code and was not trusted, or can't be read.

    Examples
    --------
    >>> from pathlib import Path
    >>> open_file(Path("src/seqscope/zoo/japanese_vowels.safetensors"))
    Traceback (most recent call last):
        ...
    seqscope.errors.ModelError: 'src/seqscope/zoo/japanese_vowels.safetensors' holds weights alone, ...
    """
    if custom_objects:
        raise ModelError(f"custom_objects= are for files of Keras, and '{path}' is none.")
    kind = kind_of_model(path)
    if kind not in _OPENERS:
        what = "none of the kinds that torch writes: it is cut off, or another file under this name"
        raise ModelError(f"'{path}' is {what if kind is Kind.UNKNOWN else f'{kind}, and no model of torch'}.")
    return _OPENERS[kind](path, trust)


def device() -> str | None:
    """Where what was saved on a GPU goes: to the CPU where there is none."""
    return None if torch.cuda.is_available() else "cpu"


# Weights alone


def _refuse_weights(path: Path, weights: Mapping[str, Any], *, inside: str = "") -> Any:
    """Say that a file holds weights and no model."""
    where = f" (under '{inside}')" if inside else ""
    first = quoted(list(weights)[:3]) + (", ..." if len(weights) > 3 else "")
    raise ModelError(
        f"'{path}' holds weights alone, {len(weights)} tensors{where}: {first}. Make the model that they belong to and say "
        f"Scope(model, weights={path.name!r}), or Scope({path.name!r}, factory='module:callable') with what makes it."
    )


def _open_safetensors(path: Path, trust: bool) -> Any:
    from seqscope.engines.torch_weights import read_safetensors

    return _refuse_weights(path, read_safetensors(path))


# What torch.save wrote


def read_saved(path: Path, *, trust: bool = False) -> Any:
    """What a file of `torch.save` holds: without trust nothing but tensors, numbers, strings, and lists and dicts of them.

    Raises
    ------
    ModelError
        It holds other objects and is not trusted, or can't be read.
    """
    is_zip = zipfile.is_zipfile(path)
    try:
        return torch.load(path, map_location=device(), weights_only=True, mmap=is_zip or None)
    except pickle.UnpicklingError as error:
        named = _named_in(error)
        if not named:
            raise _damaged(path, error) from error
        if not trust:
            raise ModelError(f"'{path}' holds more than weights: {_what(named)}. {_UNPICKLED}: {_DO_INSTEAD}") from error
    except Exception as error:
        raise _damaged(path, error) from error
    return _unpickled(path, lambda: torch.load(path, map_location=device(), weights_only=False))


def _named_in(error: Exception) -> str:
    """The class or function that torch would not unpickle, as `module.name`; "" where that was not what failed."""
    found = re.search(r"GLOBAL ([\w.]+)|(?:class|global|function|type)[: ]+'?<?(?:class ')?([\w]+(?:\.[\w]+)+)", str(error))
    return "" if found is None else found[1] or found[2]


def _what(named: str) -> str:
    module, _, name = named.rpartition(".")
    return f"a pickled {name} ({module})" if module else f"a pickled {name}"


def _damaged(path: Path, error: Exception) -> ModelError:
    said = " ".join(str(error).split()).partition(". ")[0][:200]
    return ModelError(f"'{path}' can't be read: it is cut off or damaged ({type(error).__name__}{': ' if said else ''}{said}).")


def _unpickled(path: Path, load: Callable[[], Any]) -> Any:
    """What a pickle makes, now that it is trusted.

    Raises
    ------
    ModelError
        It needs a class that is not there, or it raised.
    """
    try:
        return load()
    except (AttributeError, ImportError) as error:
        raise ModelError(
            f"'{path}' needs code that is not here ({error}): a pickle holds the name of its class and not the class, so import what "
            "defines it, under the name that it had, or have the weights saved by torch.save(model.state_dict(), file)."
        ) from error
    except Exception as error:
        raise _damaged(path, error) from error


def _open_saved(path: Path, trust: bool) -> Any:
    from seqscope.engines.torch_weights import weights_in

    held = read_saved(path, trust=trust)
    model = _model_in(held)
    if model is not None:
        return model
    sets = weights_in(held)
    if sets:
        inside, weights = next(iter(sets.items()))
        return _refuse_weights(path, weights, inside=inside)
    raise ModelError(f"'{path}' holds {_described(held)}, and neither a model nor weights.")


def _described(held: Any) -> str:
    if isinstance(held, Mapping):
        return f"a dict with {quoted(list(map(str, held))[:5])}" if held else "an empty dict"
    return f"a {type(held).__module__}.{type(held).__qualname__}".replace("builtins.", "")


def _model_in(held: Any) -> Any:
    """The module that an object is, or holds: a checkpoint, an estimator of skorch, a pipeline or a search of scikit-learn around one."""
    for _ in range(5):
        if isinstance(held, nn.Module | torch.export.ExportedProgram):
            return held
        if isinstance(held, Mapping):
            modules = [value for value in held.values() if isinstance(value, nn.Module)]
            return modules[0] if len(modules) == 1 else None
        inner = (getattr(held, name, None) for name in ("module_", "best_estimator_", "regressor_", "estimator_"))
        steps = getattr(held, "steps", None)
        held = next((part for part in inner if part is not None), steps[-1][1] if isinstance(steps, list) and steps else None)
    return None


# Pickles


def _open_pickle(path: Path, trust: bool) -> Any:
    if not trust:
        raise ModelError(f"'{path}' is a pickle. {_UNPICKLED}: {_DO_INSTEAD}")
    joblib = require("joblib", extra="torch", purpose="A pickle of this kind")  # plain pickles too: it tells them by their first bytes
    held = _unpickled(path, lambda: joblib.load(path))
    model = _model_in(held)
    if model is None:
        raise ModelError(f"'{path}' holds {_described(held)}, in which no torch module was found.")
    return model


# Programs


def _open_script(path: Path, trust: bool) -> Any:
    if not trust:
        _refuse_acting(path)
    try:
        with quiet():
            load: Any = torch.jit.load
            return load(str(path), map_location=device())
    except Exception as error:
        raise _damaged(path, error) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the one warning that TorchScript is on its way out, which who opens a file can do nothing about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is (deprecated|not supported)", DeprecationWarning)
        yield


def _refuse_acting(path: Path) -> None:
    """Refuse a TorchScript program that may do more than compute.

    The archive holds its source, which is what torch compiles and runs: a program can't call what its source does not name.

    Raises
    ------
    ModelError
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()  # torch finds them whatever the case of their names, and may take another of two of one name
            sources = [archive.read(part) for part in parts if _is_source(part.filename.lower())]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from error
    named = {found[0] for source in sources for found in _ACTS.finditer(source.decode("utf-8", "replace"))}
    named |= {part.filename for part in parts if part.filename.lower().endswith("model.json")}  # of an older form, which says where else
    if named:
        raise ModelError(
            f"'{path}' is a TorchScript program that may do more than compute: it names {quoted(sorted(named))}, and could touch "
            f"files or call other libraries: {TRUST}."
        )


def _is_source(name: str) -> bool:
    return "code/" in name and not name.endswith(".debug_pkl")


def _open_exported(path: Path, trust: bool) -> Any:
    if not trust:
        raise ModelError(
            f"'{path}' is a program of torch.export. torch.export.load unpickles, so that opening it runs whatever code the file "
            f"names: {TRUST}, or have the model exported to ONNX, torch.onnx.export(model, args, 'net.onnx'), which runs none."
        )
    log = logging.getLogger("torch.export")
    was = log.disabled
    try:
        log.disabled = True  # it would log a whole traceback; the error says what there is to say
        with path.open("rb") as file:
            return torch.export.load(file)
    except Exception as error:
        raise _damaged(path, error) from error
    finally:
        log.disabled = was


_OPENERS: dict[Kind, Callable[[Path, bool], Any]] = {
    Kind.SAFETENSORS: _open_safetensors,
    Kind.TORCH: _open_saved,
    Kind.PICKLE: _open_pickle,
    Kind.TORCHSCRIPT: _open_script,
    Kind.EXPORTED: _open_exported,
}
