"""States on a few axes, for a picture of their paths through time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from seqscope.errors import DataError, SeqscopeError, UnsupportedError
from seqscope.labelled import COMPONENT, LONG_NAMES, UNIT, attributes
from seqscope.units.blocks import Taken, one_of, positive, take_in
from seqscope.units.moments import over_blocks

METHODS = ("pca",)


def project(activations: xr.DataArray, method: Any = "pca", *, n_components: int = 2) -> xr.DataArray:
    """States on a few axes, fitted once over all steps of all sequences, so that every path lies in one space.

    Parameters
    ----------
    activations : DataArray (sample, time, unit)
        What `scope.activations(X, layer)` gives, or an array of `scope.states`; `step` in place of `time` will do, or one sequence.
    method : "pca", or an estimator of scikit-learn
        "pca": principal components, from the covariance of the units, summed up block by block. An estimator (with `fit`, or
        `partial_fit`, and `transform`) is fitted as it is, on a copy: block by block where it has `partial_fit`, else on all steps at
        once, which copies them.
    n_components : int
        The axes; an estimator has its own.

    Returns
    -------
    DataArray (sample, time, component)
        NaN where a state has a unit without a value. The coordinate `explained_variance_ratio` (component) where the method knows it.

    Raises
    ------
    DataError
        There are fewer units or steps than components, or no step has a value in every unit.
    UnsupportedError
        The estimator can't place states that it was not fitted on (t-SNE), or is none.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> paths = sq.units.project(sq.Scope(sq.zoo.japanese_vowels()).activations(X, "lstm"))
    >>> paths.dims, bool(paths.explained_variance_ratio.sum() > 0.4)
    (('sample', 'time', 'component'), True)
    """
    taken = take_in(activations)
    if isinstance(method, str):
        one_of(method, METHODS, "method")
        fitted: Any = _PrincipalComponents(taken, positive(n_components, "n_components"))
        name = method
    else:
        fitted, name = _fitted(taken, method), type(method).__name__
    values = np.concatenate([_placed(fitted, block) for _, block in taken.blocks()])
    coords = {key: coord for key, coord in taken.array.coords.items() if UNIT not in coord.dims}
    coords[COMPONENT] = xr.Variable(COMPONENT, np.arange(values.shape[2]), {"long_name": LONG_NAMES[COMPONENT]})
    ratio = getattr(fitted, "explained_variance_ratio_", None)
    if ratio is not None:
        coords["explained_variance_ratio"] = xr.Variable(COMPONENT, ratio, {"long_name": "Share of the variance"})
    made = xr.DataArray(values, dims=(*taken.array.dims[:2], COMPONENT), coords=coords, name="projection")
    made.attrs = attributes(taken.attrs("units.project") | {"projection": name})
    return made.isel({taken.array.dims[0]: 0}) if taken.single else made


class _PrincipalComponents:
    """Principal components from the covariance: what `sklearn.decomposition.PCA` finds, without all steps side by side."""

    def __init__(self, taken: Taken, n_components: int) -> None:
        found = over_blocks(taken, 1.0, products=1)
        n, co = found.co_n, found.co
        if co is None or n < 2 or n_components > min(n, taken.n_units):
            raise DataError(
                f"{n_components} components were asked for and there are {taken.n_units} units and {n} steps with a value in each: "
                f"expected {max(1, min(n, taken.n_units))} components at most, and two steps."
            )
        values, vectors = np.linalg.eigh(co)
        vectors, values = vectors[:, ::-1], np.maximum(values[::-1], 0)
        signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])  # the largest loading is positive
        self.mean, self.axes = found.co_mean, (vectors * signs)[:, :n_components]
        self.explained_variance_ratio_ = values[:n_components] / values.sum() if values.any() else np.zeros(n_components)

    def transform(self, rows: np.ndarray) -> np.ndarray:
        """States on the components."""
        return np.asarray((rows - self.mean) @ self.axes)


def _fitted(taken: Taken, method: Any) -> Any:
    """A copy of an estimator, fitted over all complete steps."""
    from sklearn.base import clone

    if isinstance(method, type) or not hasattr(method, "transform") or not (hasattr(method, "fit") or hasattr(method, "partial_fit")):
        raise UnsupportedError(
            f"{method!r} can't be fitted once and then place states: expected 'pca', or an estimator of scikit-learn, such as "
            "PCA(3), with `fit` and `transform` (t-SNE has none)."
        )
    try:
        return _fit(taken, clone(method))
    except (TypeError, ValueError) as error:
        if isinstance(error, SeqscopeError):
            raise
        raise DataError(f"{method!r} can't be fitted to {taken.n_units} units: {error}") from error


def _fit(taken: Taken, estimator: Any) -> Any:
    """Fit it in place: in blocks where it can be."""
    rows = list(_complete(taken)) if not hasattr(estimator, "partial_fit") else None
    if rows is not None:
        _check_some(sum(len(part) for part in rows))
        return estimator.fit(np.concatenate(rows))
    n_rows = 0
    for part in _complete(taken):
        estimator.partial_fit(part)
        n_rows += len(part)
    _check_some(n_rows)
    return estimator


def _complete(taken: Taken) -> Iterator[np.ndarray]:
    """The steps that have a value in every unit, (step, unit), block by block; a last small block goes with the one before it."""
    held: np.ndarray | None = None
    for _, block in taken.blocks():
        rows = block.reshape(-1, block.shape[-1])
        rows = rows[~np.isnan(rows).any(axis=1)]
        if held is not None and len(rows) >= len(held) // 2:
            yield held
            held = rows
        else:
            held = rows if held is None else np.concatenate([held, rows])
    if held is not None and len(held):
        yield held


def _check_some(n_rows: int) -> None:
    if not n_rows:
        raise DataError("No step has a value in every unit: there is nothing to project.")


def _placed(fitted: Any, block: np.ndarray) -> np.ndarray:
    """A block on the components, (sample, time, component); NaN where there is no state."""
    rows = block.reshape(-1, block.shape[-1])
    there = ~np.isnan(rows).any(axis=1)
    placed = np.asarray(fitted.transform(rows[there])) if there.any() else None
    width = placed.shape[1] if placed is not None else fitted.transform(np.zeros((1, rows.shape[1]))).shape[1]
    found = np.full((len(rows), width), np.nan, np.result_type(block.dtype, np.float32))
    if placed is not None:
        found[there] = placed
    return found.reshape(*block.shape[:2], width)
