"""What values lose on their way into a store, on purpose: a smaller type, or fewer bits of the mantissa."""

from __future__ import annotations

import numpy as np
from numcodecs import BitRound

from seqscope.recording.plan import Kept, Plan


def as_written(values: np.ndarray, kept: Kept, plan: Plan) -> tuple[np.ndarray, float]:
    """Values as they are written, and by how much the worst of them differs.

    Bit rounding leaves zeros behind the bits that are kept, which compress well (Klöwer, Razinger, Dominguez, Düben and Palmer 2021,
    "Compressing atmospheric data into its real information content").
    """
    dtype = np.dtype(kept.dtype)
    if dtype.kind != "f" or kept.edges is None:
        return values.astype(dtype, copy=False), 0.0
    if values.dtype.kind != "f":  # whole numbers, where these samples are of one length and those of others end early
        values = values.astype(np.float64)
    with np.errstate(over="ignore"):
        written = values.astype(dtype, copy=False)
    if plan.keep_bits is not None:
        written = _rounded(written, plan.keep_bits)
    return written, 0.0 if written.dtype == values.dtype and plan.keep_bits is None else _largest_error(values, written)


def _rounded(values: np.ndarray, keep_bits: int) -> np.ndarray:
    there = np.where(np.isnan(values), 0, values)  # rounding would turn some NaN into infinity
    codec = BitRound(keep_bits)
    rounded = np.asarray(codec.decode(codec.encode(np.ascontiguousarray(there)))).view(values.dtype).reshape(values.shape)
    return np.where(np.isnan(values), values, rounded)


def _largest_error(values: np.ndarray, written: np.ndarray) -> float:
    worst = 0.0
    for before, after in zip(values, written, strict=True):  # sample by sample, for memory
        with np.errstate(invalid="ignore"):
            apart = np.abs(after.astype(before.dtype) - before)
        worst = max(worst, float(np.nanmax(apart, initial=0.0)))
    return worst
