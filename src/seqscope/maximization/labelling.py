"""The series that were made, and the figures about them, as a labelled Dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from seqscope import labelled
from seqscope.clock import Clock, at
from seqscope.labelled import CHANNEL, ITERATION, RANK, REAL_TIME, RESTART, TIME
from seqscope.maximization.aim import Aim
from seqscope.maximization.ascent import Answer
from seqscope.maximization.asked import Asked
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen


@dataclass(frozen=True)
class Real:
    """The target's score of each real sequence, and its margin (NaN where it has none), (sample,)."""

    score: np.ndarray
    margin: np.ndarray

    def best(self, number: int, *, by_margin: bool) -> np.ndarray:
        """The sequences that score highest, by what was raised: places in the data set."""
        return np.argsort(-(self.margin if by_margin else self.score), kind="stable")[:number]


@dataclass(frozen=True)
class Stand:
    """Where the restarts are.

    Attributes
    ----------
    x : array (restart, time, channel)
        In the units of the data.
    answer : Answer
    probability : array (restart,) or None
        That of the target, where outputs are or become probabilities.
    reached : bool array (restart,)
        Which are what they are to be.
    """

    x: np.ndarray
    answer: Answer
    probability: np.ndarray | None
    reached: np.ndarray


@dataclass(frozen=True)
class Made:
    """What was made.

    Attributes
    ----------
    stand : Stand
        At the end.
    score, margin : array (restart, iteration)
    diversity : array (restart,)
    nearest : (array (restart,), int array (restart,)) or None
        How far the nearest real sequence is, and its place in the data set.
    own_distance : float or None
        The unit of distances, in standard deviations: how far a real sequence lies from the next. None: a standard deviation.
    real : Real or None
    aim : Aim
    asked : Asked
    n_driven_on : int
        How often restarts that fell short were driven on.
    converged : bool
    """

    stand: Stand
    score: np.ndarray
    margin: np.ndarray
    diversity: np.ndarray
    nearest: tuple[np.ndarray, np.ndarray] | None
    own_distance: float | None
    real: Real | None
    aim: Aim
    asked: Asked
    n_driven_on: int
    converged: bool


def label(made: Made, sequences: Sequences, specimen: Specimen) -> xr.Dataset:
    """Name the axes, and say what a reader needs to cite the arrays."""
    kind = made.aim.scoring.kind
    unit = "standard deviation" if made.own_distance is None else "median distance of a real sequence from the nearest other one"
    said = labelled.attributes({"long_name": f"Input for {made.aim.scoring.text}", "outputs": sequences.outputs})
    variables: dict[str, Any] = {
        "input": ((RESTART, TIME, CHANNEL), made.stand.x.astype(sequences.dtype), said),
        "score": ((RESTART, ITERATION), made.score, {"long_name": f"Score ({kind})"}),
        "reached": (RESTART, made.stand.reached, {"long_name": "Reached what it was to reach"}),
        "diversity": (RESTART, made.diversity, {"long_name": "Mean distance from the other restarts", "units": unit}),
    }
    if not np.isnan(made.margin).all():
        variables["margin"] = ((RESTART, ITERATION), made.margin, {"long_name": "Margin over the best other output (logit)"})
    if made.stand.probability is not None:
        variables["probability"] = (RESTART, made.stand.probability, {"long_name": "Probability"})
    coords: dict[str, Any] = {
        RESTART: np.arange(len(made.stand.x)),
        ITERATION: np.arange(made.score.shape[1]),
        CHANNEL: list(sequences.channels or range(made.stand.x.shape[2])),
    }
    if made.real is not None and made.nearest is not None:
        distance, place = made.nearest
        variables["distance"] = (RESTART, distance, {"long_name": "Distance from the nearest real sequence", "units": unit})
        variables["nearest"] = (RESTART, sequences.samples[place], {"long_name": "Nearest real sequence"})
        variables |= _real_variables(made, sequences, kind)
        coords[RANK] = np.arange(len(variables["real_score"][1]))
    named = {name: xr.Variable(name, values, {"long_name": labelled.LONG_NAMES[name]}) for name, values in coords.items()}
    found = xr.Dataset(variables, named, labelled.attributes(_attrs(made, specimen)))
    return found.assign_coords({dim: _times(dim, found.sizes[dim], sequences.clock) for dim in (TIME, REAL_TIME) if dim in found.sizes})


def _times(dim: str, n_steps: int, clock: Clock) -> xr.Variable:
    """The times of the data, going on as they do; step numbers where they are dates, or differ from sequence to sequence."""
    stamps = clock.stamps
    if stamps is None or clock.is_dates or len(stamps) < 2:
        return xr.Variable(dim, np.arange(n_steps), {"long_name": labelled.LONG_NAMES[dim]})
    times = stamps[:n_steps] if n_steps <= len(stamps) else at(stamps, np.arange(float(n_steps)))
    return xr.Variable(dim, times, {"long_name": "Time"} | ({"units": clock.units} if clock.units else {}))


def _real_variables(made: Made, sequences: Sequences, kind: str) -> dict[str, Any]:
    """The real sequences that score highest, NaN after their ends."""
    real: Any = made.real
    best = real.best(made.asked.n_real, by_margin=made.aim.by_margin)
    flat = sequences.to_flat()
    longest = int(sequences.lengths[best].max(initial=1))
    shown = np.full((len(best), longest, made.stand.x.shape[2]), np.nan, sequences.dtype)
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
        "bounds": "as said" if asked.bounds is not None else None if made.real is None else "extremes of the data",
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
