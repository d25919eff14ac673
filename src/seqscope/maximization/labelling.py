"""The series that were made, and the figures about them, as a labelled Dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from seqscope import labelled
from seqscope.labelled import CHANNEL, ITERATION, RANK, REAL_TIME, RESTART, TIME
from seqscope.maximization.aim import Aim
from seqscope.maximization.asked import Asked
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen


@dataclass(frozen=True)
class Real:
    """The target's score of each real sequence, and its margin (NaN where the score is raised), (sample,)."""

    score: np.ndarray
    margin: np.ndarray

    def best(self, number: int) -> np.ndarray:
        """The sequences that score highest, by what was raised: places in the data set."""
        raised = self.score if np.isnan(self.margin).all() else self.margin
        return np.argsort(-raised, kind="stable")[:number]


@dataclass(frozen=True)
class Made:
    """What was made.

    Attributes
    ----------
    input : array (restart, time, channel)
    score, margin : array (restart, iteration)
    probability : array (restart,) or None
    reached : bool array (restart,)
    diversity : array (restart,)
    nearest : (array (restart,), int array (restart,)) or None
        How far the nearest real sequence is, and its place in the data set.
    own_distance : float
        The unit of distances, in standard deviations.
    real : Real or None
    aim : Aim
    asked : Asked
    n_driven_on : int
        How often restarts that fell short were driven on.
    converged : bool
    """

    input: np.ndarray
    score: np.ndarray
    margin: np.ndarray
    probability: np.ndarray | None
    reached: np.ndarray
    diversity: np.ndarray
    nearest: tuple[np.ndarray, np.ndarray] | None
    own_distance: float
    real: Real | None
    aim: Aim
    asked: Asked
    n_driven_on: int
    converged: bool


def label(made: Made, sequences: Sequences, specimen: Specimen) -> xr.Dataset:
    """Name the axes, and say what a reader needs to cite the arrays."""
    kind = made.aim.scoring.kind
    in_own = "median distance of a real sequence from the nearest other one" if made.real is not None else "standard deviation"
    said = labelled.attributes({"long_name": f"Input for {made.aim.scoring.text}", "outputs": sequences.outputs})
    variables: dict[str, Any] = {
        "input": ((RESTART, TIME, CHANNEL), made.input.astype(sequences.dtype), said),
        "score": ((RESTART, ITERATION), made.score, {"long_name": f"Score ({kind})"}),
        "reached": (RESTART, made.reached, {"long_name": "Reached what it was to reach"}),
        "diversity": (RESTART, made.diversity, {"long_name": "Mean distance from the other restarts", "units": in_own}),
    }
    if not np.isnan(made.margin).all():
        variables["margin"] = ((RESTART, ITERATION), made.margin, {"long_name": "Margin over the best other output (logit)"})
    if made.probability is not None:
        variables["probability"] = (RESTART, made.probability, {"long_name": "Probability"})
    coords: dict[str, Any] = {
        RESTART: np.arange(len(made.input)),
        ITERATION: np.arange(made.score.shape[1]),
        TIME: np.arange(made.input.shape[1]),
        CHANNEL: list(sequences.channels or range(made.input.shape[2])),
    }
    if made.real is not None and made.nearest is not None:
        distance, place = made.nearest
        variables["distance"] = (RESTART, distance, {"long_name": "Distance from the nearest real sequence", "units": in_own})
        variables["nearest"] = (RESTART, sequences.samples[place], {"long_name": "Nearest real sequence"})
        variables |= _real_variables(made, sequences, kind)
        coords |= {RANK: np.arange(len(variables["real_score"][1])), REAL_TIME: np.arange(variables["real_input"][1].shape[1])}
    named = {name: xr.Variable(name, values, {"long_name": labelled.LONG_NAMES[name]}) for name, values in coords.items()}
    return xr.Dataset(variables, named, labelled.attributes(_attrs(made, specimen)))


def _real_variables(made: Made, sequences: Sequences, kind: str) -> dict[str, Any]:
    """The real sequences that score highest, NaN after their ends."""
    real: Any = made.real
    best = real.best(made.asked.n_real)
    flat = sequences.to_flat()
    longest = int(sequences.lengths[best].max(initial=1))
    shown = np.full((len(best), longest, made.input.shape[2]), np.nan, sequences.dtype)
    for rank, row in enumerate(best):
        shown[rank, : sequences.lengths[row]] = flat.part(row)
    found = {
        "real_input": ((RANK, REAL_TIME, CHANNEL), shown, {"long_name": "Real sequences that score highest"}),
        "real_score": (RANK, real.score[best], {"long_name": f"Score ({kind})"}),
        "real_sample": (RANK, sequences.samples[best], {"long_name": "Sample"}),
    }
    if not np.isnan(real.margin).all():
        found["real_margin"] = (RANK, real.margin[best], {"long_name": "Margin over the best other output (logit)"})
    if sequences.labels is not None:
        found["real_label"] = (RANK, sequences.labels[best], {"long_name": "Label"})
    return found


def _attrs(made: Made, specimen: Specimen) -> dict[str, Any]:
    """What a reader needs to cite the arrays."""
    asked, outputs = made.asked, made.aim.scoring.outputs
    effort = asked.effort
    return specimen.attrs("maximize") | {
        "target": made.aim.scoring.text,
        "score": made.aim.scoring.kind,
        "objective": "margin" if made.aim.by_margin else "logit",
        "looked_through": outputs.through or None if outputs is not None else None,
        "parameterisation": asked.parameterisation,
        "total_variation": effort.total_variation,
        "norm": effort.norm,
        "jitter": effort.jitter,
        "scale": effort.scale,
        "rate": effort.rate,
        "steps": effort.steps,
        "reach": asked.reach,
        "seed": asked.seed,
        "own_distance": made.own_distance,
        "driven_on": made.n_driven_on,
        "converged": made.converged,
        "n_real": None if made.real is None else len(made.real.score),
    }
