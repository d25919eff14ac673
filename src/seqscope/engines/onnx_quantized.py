"""The states of onnxruntime's LSTM with weights of 8 bits, replayed with its own rounding.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md (DynamicQuantizeLSTM) has the operator. What is multiplied with
the weights is rounded to 8 bits as it comes: the whole input at once, and h at each step. Scale and zero point are those of the range of
what is rounded together, with zero in it. With several threads the samples are cut into as many parts, whose h are rounded apart; the
number of threads is not known here, so those numbers are tried that make a difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from seqscope import cells
from seqscope.cells import CellWeights
from seqscope.engines.onnx_cells import KINDS, direction_of, weights_of
from seqscope.engines.onnx_recurrent import InPlace, States, replay
from seqscope.errors import LayerError

Array = np.ndarray
_LEVELS = np.float32(255)


@dataclass(frozen=True)
class Quantized:
    """A matrix (row, column) of 8-bit numbers: whole numbers from their zero point on, and the scale of each column or of all."""

    whole: Array
    scale: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return self.whole.shape

    def times(self, rows: Array) -> Array:
        """`rows @ matrix`, the rows rounded together."""
        low, high = np.float32(min(0.0, rows.min(initial=0))), np.float32(max(0.0, rows.max(initial=0)))
        step = (high - low) / _LEVELS or np.float32(1)
        zero = np.clip(np.rint(-low / step), 0, _LEVELS)
        whole = np.clip(np.rint(rows / step) + zero, 0, _LEVELS) - zero
        return np.asarray((whole.astype(np.float64) @ self.whole).astype(np.float32) * (step * self.scale))


class _Rounding(InPlace):
    """The operations of the equations, products with a quantized matrix as onnxruntime has them.

    Parameters
    ----------
    n_samples : int
    together : int
        How many samples' h are rounded together.
    """

    def __init__(self, n_samples: int, together: int) -> None:
        self._n_samples, self._together = n_samples, together

    def affine(self, rows: Array, matrix: Any, bias: Array) -> Array:
        """What the input adds to the gates."""
        return np.asarray(matrix.times(rows) + bias)

    def add_product(self, a: Array, rows: Array, matrix: Any) -> Array:
        """What h adds to them, step by step."""
        for step in range(0, len(rows), self._n_samples):
            for first in range(step, step + self._n_samples, self._together):
                part = slice(first, min(first + self._together, step + self._n_samples))
                a[part] += matrix.times(rows[part])
        return a


def replay_quantized(node: onnx.NodeProto, arrays: Mapping[str, Array], Y: Array) -> dict[str, States]:
    """Every state of a DynamicQuantizeLSTM node at every step, as `onnx_recurrent.replay` gives them.

    Parameters
    ----------
    arrays : dict of arrays
        What goes into the node, by the names of `onnx_cells.INPUTS`.
    Y : array (time, direction, sample, unit)
        The node's own h.

    Raises
    ------
    LayerError
        The states do not make the h that the node gave, however many threads it ran with.
    """
    weights = [_with_matrices(node, own, arrays, way) for way, own in enumerate(weights_of(node, arrays))]
    n_samples = arrays["X"].shape[1]
    h, c, lengths = (arrays.get(name) for name in ("initial_h", "initial_c", "sequence_lens"))
    refused: LayerError | None = None
    for together in _parts(n_samples):
        try:
            return replay(
                weights,
                arrays["X"],
                direction=direction_of(node),
                initial_h=h,
                initial_c=c,
                sequence_lens=lengths,
                Y=Y,
                ops=_Rounding(n_samples, together),
            )
        except LayerError as error:
            refused = refused or error
    raise refused or LayerError("was given no samples")


def _parts(n_samples: int) -> Sequence[int]:
    """How many samples may be rounded together: all, or what each of several threads gets."""
    return list(dict.fromkeys(-(-n_samples // threads) for threads in range(1, n_samples + 1)))


def _with_matrices(node: onnx.NodeProto, weights: CellWeights, arrays: Mapping[str, Array], way: int) -> CellWeights:
    return replace(weights, input=_matrix(node, arrays, "W", way), hidden=_matrix(node, arrays, "R", way))


def _matrix(node: onnx.NodeProto, arrays: Mapping[str, Array], name: str, way: int) -> Quantized:
    """W or R of one direction, the gates in the order of the equations."""
    kind, order = KINDS[node.op_type]

    def ordered(columns: Array) -> Array:
        return np.concatenate(cells.in_order(kind, np.split(columns, len(order), axis=-1), order), axis=-1)

    scale, zero = arrays[f"{name}_scale"][way], arrays[f"{name}_zero_point"][way].astype(np.float64)
    whole = arrays[name][way].astype(np.float64) - zero
    return Quantized(ordered(whole), ordered(scale) if np.size(scale) > 1 else np.float32(scale).reshape(-1)[:1])
