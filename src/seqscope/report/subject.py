"""What a report is about: a model, its data, what it says to them, and which samples, layer and methods are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from seqscope.errors import DataError, LayerError, SampleError, nearest, quoted
from seqscope.judged import PREDICTION, SCORE, WRONG, table_of
from seqscope.labelled import OUTPUT, OUTPUT_TIME, SAMPLE, STEP, TIME, UNIT
from seqscope.scope import Scope
from seqscope.sequences import Sequences
from seqscope.target import output

# Sequences over which the units of a layer are judged, and samples that are shown, at most.
_MOST, _SHOWN = 2000, 4
# Sequences with more channels than this have no lane for each.
MOST_LANES = 24
_RECURRENT = ("lstm", "gru", "rnn")


@dataclass(frozen=True)
class Asked:
    """What a person asked for; None: what suits.

    Attributes
    ----------
    layers : sequence of str, optional
    samples : sequence of int, optional
        Positions.
    methods : sequence of str, optional
        Methods of attribution that are compared, two or more; to one alone another is added.
    target : int or str, optional
        What is explained; None: what is predicted.
    seed : int
    opening : str
        The Python that makes `scope` and `X`.
    made_from : str
        Where the model and the data come from, for the last section.
    command : str
        What was typed; "" where it was not.
    """

    layers: Sequence[str] | None = None
    samples: Sequence[int] | None = None
    methods: Sequence[str] | None = None
    target: int | str | None = None
    seed: int = 0
    opening: str = "import seqscope as sq\n# scope and X as they were given to scope.report"
    made_from: str = ""
    command: str = ""


class Subject:
    """A model and its data, looked at once.

    Parameters
    ----------
    scope : Scope
    X : Sequences
    asked : Asked

    Raises
    ------
    SampleError, LayerError, DataError
        What was asked for is not there.
    """

    def __init__(self, scope: Scope, X: Sequences, asked: Asked) -> None:
        self.scope, self.X, self.asked = scope, X, asked
        self.X.single = False
        self.predictions = scope.predict(X)
        self.table: pd.DataFrame = table_of(self.predictions, np.asarray(X.samples), X.lengths, X.labels)
        self.samples = self._samples()
        self.layers = self._layers()
        self.methods = self._methods()

    @property
    def opening(self) -> str:
        """The Python that makes `scope` and `X`, with the line's end."""
        return self.asked.opening.rstrip("\n") + "\n"

    @property
    def is_classified(self) -> bool:
        """Whether it can be told of each sample if the model is right."""
        return WRONG in self.table

    @cached_property
    def wrong(self) -> list[int]:
        """The samples that the model is wrong about, those first of which it is surest."""
        if not self.is_classified:
            return []
        rows = np.flatnonzero(self.table[WRONG].to_numpy())
        return rows[np.argsort(-self.table[SCORE].to_numpy()[rows], kind="stable")].tolist()  # type: ignore[no-any-return]

    @cached_property
    def part(self) -> Sequences:
        """The sequences over which units are judged: all, or the first of many."""
        return self.X[:_MOST]

    def named(self, row: int) -> str:
        """A sample in words: "sample 3"."""
        return f"sample {self.table['sample'].iloc[row]}"

    def said(self, row: int) -> str:
        """What the model says to a sample, in words."""
        score = f"{self.table[SCORE].iloc[row]:.3g}"
        found = f"{self.table[PREDICTION].iloc[row]} ({score})" if PREDICTION in self.table else score
        return found if "label" not in self.table else f"{found}, labelled {self.table['label'].iloc[row]}"

    def _samples(self) -> list[int]:
        """The samples that are shown: those that were asked for; else one that is typical, the least sure one, and the worst mistake."""
        if self.asked.samples is not None:
            return [self._position(row) for row in self.asked.samples]
        score = self.table[SCORE].to_numpy()
        if OUTPUT_TIME in self.predictions.dims or not np.isfinite(score).any():
            return list(range(min(_SHOWN - 1, len(self.X))))
        right = ~self.table[WRONG].to_numpy() if self.is_classified else np.ones(len(score), bool)
        known = np.flatnonzero(right & np.isfinite(score))
        order = known[np.argsort(score[known], kind="stable")]
        chosen = [int(order[len(order) // 2]), int(order[0])] if len(order) else []
        return list(dict.fromkeys([*chosen, *self.wrong[:1]])) or [0]

    def _position(self, row: int) -> int:
        if not 0 <= row < len(self.X):
            raise SampleError(f"There is no sample {row}: the positions go from 0 to {len(self.X) - 1}.")
        return row

    def _layers(self) -> list[str]:
        """The layers whose units are looked at: those that were asked for; else the first recurrent one, or the last with steps."""
        there = {layer.name: layer for layer in self.scope.layers}
        if self.asked.layers is not None:
            for name in self.asked.layers:
                if name not in there:
                    raise LayerError(f"There is no layer '{name}': {nearest(name, there)}.")
            return list(self.asked.layers)
        with_units = [name for name, layer in there.items() if layer.dims is not None and set(layer.dims) in ({TIME, UNIT}, {STEP, UNIT})]
        recurrent = [name for name in with_units if there[name].kind in _RECURRENT]
        return recurrent[:1] or with_units[-1:]

    def _methods(self) -> tuple[str, ...]:
        """Two methods, as unlike each other as the model allows: one by derivatives, one that hides parts of the input."""
        able = self.scope.methods
        if self.asked.methods is not None:
            unknown = [name for name in self.asked.methods if name not in able]
            if unknown:
                raise DataError(f"This model can't be explained by '{unknown[0]}': expected methods out of {quoted(able, most=20)}.")
        asked = tuple(self.asked.methods or ())
        known = ("occlusion", "feature_ablation") if self.X.is_tokens else ("integrated_gradients", "occlusion", "feature_ablation")
        suitable = [name for name in known if name in able and name not in asked]
        return asked + tuple(suitable[: max(0, 2 - len(asked))])

    def attributed(self, row: int, method: str, *, target: Any = None) -> xr.DataArray | xr.Dataset:
        """What a sample's values contribute, by one method."""
        wanted = self.target(row)[0] if target is None else target
        options = self.options(method)
        return self.scope.attribute(self.X[row], method, target=wanted, seed=self.asked.seed, progress=False, **options)

    def target(self, row: int) -> tuple[Any, str]:
        """What is explained of a sample, and the same in Python: of outputs with steps the one that is highest in the end."""
        if self.asked.target is not None or OUTPUT_TIME not in self.predictions.dims:
            return self.asked.target, repr(self.asked.target)
        there = self.predictions.isel({SAMPLE: row}).dropna(OUTPUT_TIME, how="all")
        place = int(there.isel({OUTPUT_TIME: -1}).argmax(OUTPUT))
        return output(place, time=-1), f"sq.target.output({place}, time=-1)"

    def options(self, method: str) -> dict[str, Any]:
        """How a method is asked: where there are many channels they are hidden together, since each by itself would take too long."""
        return {"channels": "all"} if method == "occlusion" and (self.X.n_channels or 0) > MOST_LANES else {}
