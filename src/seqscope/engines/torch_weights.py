"""Weights from a safetensors file into a torch module: nothing in the file can run."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from seqscope.errors import ModelError, quoted


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill a module with the weights of a file; it must hold each of them, in its shape, and no others.

    Raises
    ------
    ModelError
        The file is no safetensors file, or its names or shapes are not the model's.
    """
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The weights '{path}' can't be read as safetensors: {error}") from error
    own = model.state_dict()
    missing, left_over = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or left_over:
        parts = [f"it lacks {quoted(missing)}"] if missing else []
        parts += [f"it has {quoted(left_over)}, which the model does not know"] if left_over else []
        raise ModelError(f"The weights '{path}' do not fit {type(model).__name__}: {'; '.join(parts)}.")
    for name, tensor in weights.items():
        if tensor.shape != own[name].shape:
            raise ModelError(f"The weight '{name}' in '{path}' has shape {tuple(tensor.shape)}; the model's has {tuple(own[name].shape)}.")
    model.load_state_dict(weights)
