"""The table of samples: what each is, what the model says to it, and whether that is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from seqscope.labelled import LABEL, LENGTH, OUTPUT, OUTPUT_TIME, SAMPLE

PREDICTION, SCORE, WRONG = "prediction", "score", "wrong"


def table_of(predictions: xr.DataArray | None, ids: np.ndarray, lengths: np.ndarray, labels: np.ndarray | None) -> pd.DataFrame:
    """The table of samples.

    Parameters
    ----------
    predictions : DataArray (sample, output) or (sample, output_time, output), optional
        Of outputs with steps, the last step with a value is told, and nothing is judged.
    ids, lengths, labels : array (sample,)

    Returns
    -------
    DataFrame
        `sample`, `label`, `prediction` (the name of the highest of several outputs; "" where there is none), `score` (its value), `length`,
        `wrong` (where every label is the name of an output). What is not known is left out.
    """
    columns: dict[str, Any] = {SAMPLE: ids}
    if labels is not None:
        columns[LABEL] = labels
    if predictions is None:
        return pd.DataFrame(columns | {LENGTH: lengths})
    values = _last(predictions).values
    names = predictions.coords[OUTPUT].values.tolist() if OUTPUT in predictions.coords else list(range(values.shape[1]))
    missing = np.isnan(values).any(axis=1)
    best = np.where(missing, 0, np.nan_to_num(values, nan=-np.inf).argmax(axis=1))
    if len(names) > 1:
        columns[PREDICTION] = np.where(missing, "", np.array([str(name) for name in names], object)[best])
    columns[SCORE] = np.where(missing, np.nan, values[np.arange(len(values)), best])
    columns[LENGTH] = lengths
    meant = None if OUTPUT_TIME in predictions.dims or len(names) < 2 else positions_of(labels, names)
    if meant is not None:
        columns[WRONG] = ~missing & (best != meant)
    return pd.DataFrame(columns)


def positions_of(labels: np.ndarray | None, names: list[Any]) -> np.ndarray | None:
    """Which output each label means; None where that can't be told.

    As where a recording counts its mistakes, each must be the name of an output; of outputs without names that is the position.
    """
    if labels is None:
        return None
    given = labels.tolist()
    place = {name: position for position, name in enumerate(names)}
    return np.array([place[label] for label in given]) if set(given) <= set(place) else None


def _last(predictions: xr.DataArray) -> xr.DataArray:
    if OUTPUT_TIME not in predictions.dims:
        return predictions.transpose(SAMPLE, OUTPUT)
    there = predictions.notnull().any(OUTPUT).sum(OUTPUT_TIME)
    return predictions.isel({OUTPUT_TIME: there - 1}).transpose(SAMPLE, OUTPUT)
