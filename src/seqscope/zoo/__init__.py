"""Small trained networks that come with the package: plain objects of their framework, in evaluation mode."""

from __future__ import annotations

from importlib import import_module, resources
from typing import Any

from seqscope.engines.base import require_framework
from seqscope.errors import ModelError, nearest

__all__ = ["japanese_vowels"]

_FRAMEWORKS = ("torch", "keras")


def japanese_vowels(framework: str = "torch") -> Any:
    """An LSTM of 100 units that tells nine speakers apart (`datasets.japanese_vowels`).

    Sequence input of 12 channels, an LSTM named `lstm` that gives its last step, a dense layer `fc` of 9, a softmax. Trained by
    `examples/train_japanese_vowels.py`.

    Parameters
    ----------
    framework : {"torch", "keras"}
        What the network is made of. Both hold the same weights and give the same numbers.

    Returns
    -------
    torch.nn.Module or keras.Sequential
        Takes (sample, time, channel), gives probabilities (sample, 9) of the speakers "1" to "9".

    Raises
    ------
    ModelError
        The network is not there for that framework.
    MissingPackageError
        The framework is not installed.

    Examples
    --------
    >>> import seqscope as sq
    >>> sq.Scope(sq.zoo.japanese_vowels())
    Scope of JapaneseVowels (torch): 3 layers, 46,509 parameters
    """
    if framework not in _FRAMEWORKS:
        raise ModelError(f"The zoo has no network for {framework!r}: {nearest(framework, _FRAMEWORKS)}.")
    require_framework(framework, purpose="A network of the zoo")
    from safetensors.numpy import load

    networks = import_module(f"{__name__}.{framework}")
    return networks.japanese_vowels(load(resources.files(__name__).joinpath("japanese_vowels.safetensors").read_bytes()))
