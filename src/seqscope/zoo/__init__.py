"""Small trained networks that come with the package: plain objects of their framework, in evaluation mode."""

from __future__ import annotations

from importlib import import_module, resources
from typing import Any

from seqscope.engines.base import require_framework
from seqscope.errors import ModelError, nearest

__all__ = ["attention_lstm", "char_lstm", "conv_mil", "japanese_vowels"]

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
    return _made("japanese_vowels", framework)


def char_lstm(framework: str = "torch") -> Any:
    """An LSTM of 64 units that continues a text by characters (`datasets.shakespeare`).

    One-hot characters, an LSTM named `lstm` that gives its last step, dropout of 0.2, a dense layer `fc` of as many outputs as there are
    characters, a softmax. Trained by `examples/train_char_lstm.py`; on the test part of the text it needs 2.36 bits a character (how often
    each character follows the two before it: 2.89).

    Parameters
    ----------
    framework : {"torch", "keras"}
        What the network is made of. Both hold the same weights and give the same numbers.

    Returns
    -------
    torch.nn.Module or keras.Sequential
        Takes (sample, time, character), gives the probability of each character as the next, (sample, 68). Its attribute `characters`
        is the alphabet: a str, in the order of the channels and of the outputs.

    Raises
    ------
    ModelError
        The network is not there for that framework.
    MissingPackageError
        The framework is not installed.

    Examples
    --------
    >>> import seqscope as sq
    >>> model = sq.zoo.char_lstm()
    >>> x = sq.Sequences.from_text("[Exeunt MACBETH and LADY MACBETH", characters=model.characters)
    >>> sq.Scope(model).predict(x).idxmax("output").item()
    '.'
    """
    return _made("char_lstm", framework)


def conv_mil(framework: str = "torch") -> Any:
    """Two convolutions and a head that explains itself, for series of 9 channels and five patterns hidden in them (`datasets.planted`).

    Convolutions `conv1d_1` and `conv1d_2` of 64 filters with batch norm, ReLU and, after the first, pooling; `head`, a
    `nn.torch.ConjunctivePooling`, in place of global average pooling and a dense layer; a softmax. Trained by
    `examples/train_conv_mil.py` on series of 300 steps, `planted(length=300, n_channels=9, pattern=("sine", "ramp", "bump", "peaks",
    "chirp"), channel=(2, 5), noise=0.5)`.

    Parameters
    ----------
    framework : {"torch", "keras"}
        What the network is made of. Both hold the same weights and give the same numbers.

    Returns
    -------
    torch.nn.Module or keras.Sequential
        Takes (sample, channel, time) in torch, (sample, time, channel) in Keras, of 20 steps or more, and gives the probability of each of
        the five classes, in the order above, (sample, 5).

    Raises
    ------
    ModelError
        The network is not there for that framework.
    MissingPackageError
        The framework is not installed.

    Examples
    --------
    >>> import seqscope as sq
    >>> [layer.description for layer in sq.Scope(sq.zoo.conv_mil()).layers if layer.name == "head"]
    ['conjunctive pooling into 5 outputs']
    """
    return _made("conv_mil", framework)


def attention_lstm(framework: str = "torch") -> Any:
    """An LSTM of 64 units, read at all of its steps by attention, that tells nine speakers apart (`datasets.japanese_vowels`).

    Sequence input of 12 channels, an LSTM named `lstm`, `head`, a `nn.torch.AttentionPooling` over its steps, a softmax. Trained by
    `examples/train_attention_lstm.py`.

    Parameters
    ----------
    framework : {"torch", "keras"}
        What the network is made of. Both hold the same weights and give the same numbers.

    Returns
    -------
    torch.nn.Module or keras.Sequential
        Takes (sample, time, channel), gives probabilities (sample, 9) of the speakers "1" to "9". In torch it takes the lengths of padded
        sequences besides; in Keras put a Masking layer of your own in front.

    Raises
    ------
    ModelError
        The network is not there for that framework.
    MissingPackageError
        The framework is not installed.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> sq.Scope(sq.zoo.attention_lstm()).attribute(X[0], "attention_pooling")["map"].sizes
    Frozen({'time': 19})
    """
    return _made("attention_lstm", framework)


def _made(name: str, framework: str) -> Any:
    """A network of that name in that framework, with its shipped weights."""
    if framework not in _FRAMEWORKS:
        raise ModelError(f"The zoo has no network for {framework!r}: {nearest(framework, _FRAMEWORKS)}.")
    require_framework(framework, purpose="A network of the zoo")
    from safetensors.numpy import load

    make = getattr(import_module(f"{__name__}.{framework}"), name)
    return make(load(resources.files(__name__).joinpath(f"{name}.safetensors").read_bytes()))
