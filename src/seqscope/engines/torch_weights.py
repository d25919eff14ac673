"""Weights from a file into a torch module: of safetensors, or of `torch.save`, read so that nothing in the file can run."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.parameter import is_lazy

from seqscope.engines.model_files import kind_of_model
from seqscope.engines.torch_files import device, read_saved
from seqscope.errors import ModelError, quoted, warn
from seqscope.sniff import Kind

Weights = Mapping[str, torch.Tensor]

# How deep in a checkpoint weights are looked for.
_DEPTH = 3
# Buffers that older versions of torch did not save, and that nothing is computed from in evaluation mode.
_LATER = "num_batches_tracked"
# What torch.compile puts into names.
_COMPILED = "_orig_mod."


def load_weights(model: nn.Module, path: Path, *, trust: bool = False) -> None:
    """Fill a module with the weights of a file; it must hold each of them, in its shape, and no others.

    Weights are looked for in a checkpoint too ({"state_dict": ...}). A prefix that all names have ("module.", "model.") is taken off, or
    put on, where the names fit then, and a notice says so. Numbers of another precision are converted to the model's. What the model uses
    under two names may have one in the file.

    Parameters
    ----------
    model : torch.nn.Module
        It is changed.
    path : Path
        A safetensors file, or one of `torch.save`.
    trust : bool
        Whether code from the file may run; needed only where it holds other objects than weights, numbers and text.

    Raises
    ------
    ModelError
        The file can't be read, holds no weights, or its names or shapes are not the model's.

    Examples
    --------
    >>> from pathlib import Path
    >>> import seqscope as sq
    >>> load_weights(sq.zoo.japanese_vowels(), Path("src/seqscope/zoo/japanese_vowels.safetensors"))
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"Weights from a file go into a torch.nn.Module, and a {type(model).__name__} holds its own already.")
    sets = _sets(path, trust)
    module = getattr(model, "_orig_mod", model)
    fits = [_Fit.of(module, inside, weights) for inside, weights in sets.items()]
    best = min(fits, key=lambda fit: fit.misfit)
    if best.misfit and not _takes(module, best.weights):  # names that it translates itself: of an older form of weight norm, say
        raise ModelError(f"The weights '{path}' do not fit {type(module).__name__}: {best.told}.")
    others = [fit.inside for fit in fits if fit is not best and not fit.misfit and not best.misfit]
    try:
        module.load_state_dict(best.weights, strict=False)
    except Exception as error:  # a hook of the module's own
        raise ModelError(f"The weights '{path}' can't be put into {type(module).__name__}: {' '.join(str(error).split())}") from error
    _tell(path, best, others)


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file.

    Raises
    ------
    ModelError
        It is none, or is cut off.
    """
    try:
        return load_file(path, device=device() or "cpu")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The weights '{path}' can't be read as safetensors: {error}") from error


def weights_in(held: object, inside: str = "", depth: int = _DEPTH) -> dict[str, dict[str, torch.Tensor]]:
    """Every set of weights in what `torch.save` wrote, by where it is: "" is the whole, "model.ema" a dict in a dict.

    A set is a dict whose keys are names and whose values are tensors; what is no tensor in it (a version) is left out.

    Examples
    --------
    >>> list(weights_in({"epoch": 3, "state_dict": {"fc.weight": torch.ones(2, 3)}, "optimizer": {"state": {0: torch.ones(3)}}}))
    ['state_dict']
    """
    if isinstance(held, nn.Module):
        return {inside: dict(held.state_dict())}
    if not isinstance(held, Mapping) or not all(isinstance(name, str) for name in held):
        return {}
    tensors = {name: value for name, value in held.items() if isinstance(value, torch.Tensor)}
    found = {inside: tensors} if tensors else {}
    for name, value in held.items() if depth else ():
        found |= weights_in(value, f"{inside}.{name}" if inside else name, depth - 1)
    return found


def _sets(path: Path, trust: bool) -> dict[str, dict[str, torch.Tensor]]:
    """The sets of weights in a file."""
    kind = kind_of_model(path)
    if kind is Kind.SAFETENSORS:
        return {"": read_safetensors(path)}
    if kind is not Kind.TORCH:
        what = "no file that weights are read from" if kind is Kind.UNKNOWN else kind
        raise ModelError(
            f"'{path}' is {what}: torch's weights are read from safetensors, or from what torch.save(model.state_dict(), file) wrote."
        )
    found = weights_in(read_saved(path, trust=trust))
    if not found:
        raise ModelError(f"'{path}' holds no weights: expected a dict of tensors by name, as model.state_dict() gives it.")
    return found


@dataclass(frozen=True)
class _Fit:
    """How a set of weights fits a module, under names that come nearest to its own.

    Attributes
    ----------
    inside : str
        Where in the file the set is.
    changed : str
        What was done to the names, in words; "" for nothing.
    missing, left_over, misshapen : list of str
        The module's names that the set lacks, names that the module does not know, and names of another shape, both shapes told.
    """

    inside: str
    weights: dict[str, torch.Tensor]
    changed: str
    missing: list[str]
    left_over: list[str]
    misshapen: list[str]

    @classmethod
    def of(cls, module: nn.Module, inside: str, weights: Weights) -> _Fit:
        """The best of the ways to read the names, the plainest first."""
        own = module.state_dict(keep_vars=True)
        return min((cls._of(own, inside, *way) for way in _renamed(weights, own)), key=lambda fit: fit.misfit)

    @classmethod
    def _of(cls, own: Mapping[str, torch.Tensor], inside: str, weights: dict[str, torch.Tensor], changed: str) -> _Fit:
        there = {_place(own[name]) for name in own.keys() & weights.keys() if not is_lazy(own[name])}
        missing = [name for name in own if name not in weights and not name.endswith(_LATER) and _place(own[name]) not in there]
        misshapen = [
            f"'{name}' is {_shape(weights[name])} there and {_shape(tensor)} in the model"
            for name, tensor in own.items()
            if name in weights and not is_lazy(tensor) and weights[name].shape != tensor.shape
        ]
        return cls(inside, weights, changed, missing, [name for name in weights if name not in own], misshapen)

    @property
    def misfit(self) -> int:
        """How many names do not fit."""
        return len(self.missing) + len(self.left_over) + len(self.misshapen)

    @property
    def told(self) -> str:
        """What does not fit, in words."""
        parts = [f"it lacks {quoted(self.missing)}"] if self.missing else []
        parts += [f"it has {quoted(self.left_over)}, which the model does not know"] if self.left_over else []
        parts += [", ".join(self.misshapen[:12]) + (f" and {len(self.misshapen) - 12} more" if len(self.misshapen) > 12 else "")]
        return "; ".join(part for part in parts if part) + (f" ({self.changed})" if self.changed else "")


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _place(tensor: torch.Tensor) -> object:
    """What two names of one tensor have in common."""
    if is_lazy(tensor) or tensor.layout is not torch.strided:
        return id(tensor)
    return tensor.untyped_storage().data_ptr() or id(tensor), tensor.storage_offset(), tensor.shape, tensor.stride()


def _renamed(weights: Weights, own: Mapping[str, torch.Tensor]) -> Iterator[tuple[dict[str, torch.Tensor], str]]:
    """The set under its own names, then with a prefix taken off or put on, with what was done in words."""
    plain = {name.replace(_COMPILED, ""): tensor for name, tensor in weights.items()}
    done = f"without '{_COMPILED}'" if plain.keys() != weights.keys() else ""
    yield dict(weights), ""
    if done:
        yield plain, done
    for prefix in _prefixes(plain):
        cut = {name.removeprefix(prefix): tensor for name, tensor in plain.items()}
        if len(cut) == len(plain):
            yield cut, f"without '{prefix}' in front of the names"
    for prefix in _prefixes(own):
        yield {f"{prefix}{name}": tensor for name, tensor in plain.items()}, f"with '{prefix}' in front of the names"


def _prefixes(names: Mapping[str, torch.Tensor]) -> list[str]:
    """What names begin with up to a dot, for most of them: "module.", "module.model."."""
    parts = [name.split(".") for name in names]
    found: dict[str, int] = {}
    for part in parts:
        for prefix in itertools.accumulate(part[:-1], lambda a, b: f"{a}.{b}"):
            found[f"{prefix}."] = found.get(f"{prefix}.", 0) + 1
    return [prefix for prefix, count in found.items() if 2 * count > len(parts)]


def _takes(module: nn.Module, weights: Weights) -> bool:
    """Whether a module takes weights under names that are not its own: tried on a copy."""
    try:
        with torch.no_grad():
            found = copy.deepcopy(module).load_state_dict(weights, strict=False)
    except Exception:  # whatever a hook of the module's own raises
        return False
    return not found.missing_keys and not found.unexpected_keys


def _tell(path: Path, fit: _Fit, others: list[str]) -> None:
    """Give notice of what was done to make a file fit."""
    if fit.changed:
        warn(f"The weights '{path}' fit {fit.changed}.")
    if others:
        warn(f"'{path}' holds several sets of weights that fit: '{fit.inside}' was taken, and not {quoted(others)}.")
