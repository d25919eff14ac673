"""What the model loses without a unit: each switched off in turn, over a data set."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from seqscope import labelled, progress
from seqscope.ablation import Units, units_of
from seqscope.attribution.scoring import Outputs, scoring_for
from seqscope.axes import OUTPUT_VALUE, Reading
from seqscope.batching import batches_for
from seqscope.collect import MOST_ROWS, collect
from seqscope.engines.score import Score
from seqscope.errors import DataError, ModelError, UnsupportedError, in_call
from seqscope.feed import Feed
from seqscope.labelled import TIME, UNIT
from seqscope.randomness import state_kept
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen

if TYPE_CHECKING:
    from seqscope.scope import Scope

_LONG_NAMES = {
    "accuracy": "Accuracy without the unit",
    "accuracy_lost": "Accuracy lost",
    "changed": "Share of sequences predicted otherwise",
    "score_lost": "Score lost",
}


def ablation(
    scope: Scope,
    X: Any,
    layer: str,
    *,
    y: Any = None,
    units: Any = None,
    value: Any = "zero",
    reference: Any = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """What the model loses where a unit is switched off, unit by unit.

    Each takes about one pass over the data. A loss says what the rest of the model can't make up for: of units that do the same, none
    may be missed.

    Parameters
    ----------
    scope : Scope
    X : Sequences, or anything that `Sequences` takes
    layer : str
        As in `Scope.ablate`.
    y : sequence of int or str, optional
        The right output of each sequence, by position or name; default: the labels of X.
    units : int, sequence of int, slice, or bool array (unit,), optional
        Default: all.
    value, reference : optional
        At what a unit is held, as in `Scope.ablate`; "mean" is over X by default.
    progress : bool, optional
        Whether to show a bar; default: where standard error is a terminal and the work is long.

    Returns
    -------
    Dataset of arrays (unit)
        `accuracy` without the unit; `accuracy_lost`, by how much that is below the attribute `accuracy`, which is with all units;
        `changed`, the share of sequences whose predicted output is another one; `score_lost`, by how much the score of the right output
        falls, in the mean over the sequences: of its logit where that can be seen (attribute `score`). Without labels the last two alone,
        `score_lost` then of the output that is predicted with all units.

    Raises
    ------
    UnsupportedError
        The model has an output at every step, or one alone, so that none is predicted.
    LayerError, DataError, ModelError

    Notes
    -----
    Morcos, Barrett, Rabinowitz and Botvinick 2018, "On the importance of single directions for generalization".

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> lost = ablation(sq.Scope(sq.zoo.japanese_vowels()), X[::10], "lstm", y=y[::10], units=[3, 17])
    >>> lost.sizes, list(lost)
    (Frozen({'unit': 2}), ['accuracy', 'accuracy_lost', 'changed', 'score_lost'])
    """
    if not hasattr(scope, "_specimen"):
        raise DataError(
            f"The first argument is a {type(scope).__name__}: expected the Scope of a model, then the data: ablation(scope, X, layer)."
        )
    specimen, names = scope._specimen, scope._outputs
    with in_call(lambda: f"ablation(X, {layer!r}) of {specimen.engine.model_name}"), state_kept():
        of_layer = units_of(specimen, layer)
        positions = of_layer.positions(slice(None) if units is None else units)
        over = X if reference is None and isinstance(value, str) and value == "mean" else reference
        values = of_layer.values(positions, value, specimen, over)
        asked = _asked(specimen, X, y, names)
        table = _table(specimen, asked, of_layer, positions, values, progress)
        held = value if isinstance(value, str) else "given"
        return _labelled(specimen, table, asked, of_layer, positions, held)


@dataclass(frozen=True)
class _Asked:
    """The data, and which output of each sequence is the right one.

    Attributes
    ----------
    reading : Reading
        The axes of the model's output.
    base : array (sample, output)
        The scores of all outputs with nothing (more) held.
    right : int array (sample,) or None
        None: there are no labels.
    """

    sequences: Sequences
    outputs: Outputs
    reading: Reading
    base: np.ndarray
    right: np.ndarray | None


def _asked(specimen: Specimen, X: Any, y: Any, names: tuple[Hashable, ...] | None) -> _Asked:
    sequences, feed = specimen.take_in(X)
    reading = specimen.readings(feed, sequences, (OUTPUT_VALUE,))[OUTPUT_VALUE]
    if not isinstance(reading, Reading):
        raise ModelError(f"The model's output {reading.message}.")
    if TIME in reading.dims:
        raise UnsupportedError("The model has an output at every step, so that no one output is predicted for a sequence.")
    labels = sequences.labels if y is None else y
    scoring = scoring_for(None if labels is None else list(np.asarray(labels)), specimen, feed, sequences, names)
    if scoring.outputs is None or scoring.outputs.size < 2:
        raise UnsupportedError("The model has one output, so that none is predicted rather than another: `Scope.ablate` holds units.")
    collect(feed, sequences, {OUTPUT_VALUE: reading}, (), show_progress=False)  # which looks whether rows keep their order
    base = _scores(feed, sequences, scoring.outputs, reading)
    finite = np.isfinite(base).all(1)
    if not finite.all():
        raise ModelError(f"The model's output is NaN or infinite for sequence {sequences.samples[int(finite.argmin())]}.")
    return _Asked(sequences, scoring.outputs, reading, base, None if labels is None else scoring.positions)


def _scores(feed: Feed, sequences: Sequences, outputs: Outputs, reading: Reading) -> np.ndarray:
    """The scores of all outputs for each sequence, (sample, output): logits where they can be seen."""
    found = np.empty((len(sequences), outputs.size))
    for batch in batches_for(feed, sequences, {OUTPUT_VALUE: reading}, (), MOST_ROWS):
        n_rows = len(batch.values)
        output = feed.forward(batch.values, (), batch.own, logits=True).output
        found[batch.rows] = Score(np.zeros(n_rows, int), None, outputs.dims).all_of(output)[: batch.n_sequences]
    return found


def _table(
    specimen: Specimen, asked: _Asked, of_layer: Units, positions: np.ndarray, values: np.ndarray, show: bool | None
) -> dict[str, np.ndarray]:
    """The figures of each unit."""
    rows = np.arange(len(asked.sequences))
    before = asked.base.argmax(1)
    right = before if asked.right is None else asked.right
    found: dict[str, list[float]] = {name: [] for name in _LONG_NAMES}

    def held() -> Iterator[tuple[int, Feed]]:
        for position, value in zip(positions, values, strict=True):
            without = specimen.holding(of_layer.hold(np.array([position]), np.array([value])))
            yield 1, without.take_in(asked.sequences)[1]

    for feed in progress.tracked(held(), total=len(positions), what="Ablating", show=show, unit="units"):
        scores = _scores(feed, asked.sequences, asked.outputs, asked.reading)
        after = scores.argmax(1)
        found["accuracy"].append(float((after == right).mean()))
        found["accuracy_lost"].append(float((before == right).mean() - (after == right).mean()))
        found["changed"].append(float((after != before).mean()))
        found["score_lost"].append(float((asked.base - scores)[rows, right].mean()))
    if asked.right is None:
        del found["accuracy"], found["accuracy_lost"]
    return {name: np.array(figures) for name, figures in found.items()}


def _labelled(
    specimen: Specimen, table: dict[str, np.ndarray], asked: _Asked, of_layer: Units, positions: np.ndarray, value: str
) -> xr.Dataset:
    by_name = specimen.engine.by_name
    layer = by_name.get(of_layer.layer) or by_name[of_layer.layer.rpartition(".")[0]]  # one of several cells
    coords: dict[str, Any] = {UNIT: xr.Variable(UNIT, positions, {"long_name": labelled.LONG_NAMES[UNIT]})}
    if layer.directions == 2:
        coords[labelled.DIRECTION] = xr.Variable(UNIT, np.where(positions < of_layer.count // 2, "forward", "backward"))
    about: dict[str, Any] = {"layer": of_layer.layer, "kind": layer.kind, "layer_type": layer.type, "value": value}
    about |= {"n_sequences": len(asked.sequences), "score": asked.outputs.kind}
    about |= {"score_of": "the predicted output" if asked.right is None else "the right output"}
    if asked.right is not None:
        about["accuracy"] = float((asked.base.argmax(1) == asked.right).mean())
    variables = {name: xr.Variable(UNIT, figures, {"long_name": _LONG_NAMES[name]}) for name, figures in table.items()}
    return xr.Dataset(variables, coords=coords, attrs=labelled.attributes(specimen.attrs("ablation") | about))
