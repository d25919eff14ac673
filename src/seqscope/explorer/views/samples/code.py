"""The Python that gives the table of samples: what is predicted, beside what is known, filtered and sorted."""

from __future__ import annotations

from seqscope.explorer.any_source import Source
from seqscope.explorer.selection import Chosen
from seqscope.explorer.source import Recorded
from seqscope.explorer.views.samples import listing, ranges
from seqscope.explorer.views.samples.listing import PREDICTION, SCORE, WRONG
from seqscope.labelled import LABEL, OUTPUT, OUTPUT_TIME, SAMPLE

# Stretches of positions, chosen on the map, that still make a line of Python.
_MOST_STRETCHES = 40


def code_of(source: Source, chosen: Chosen) -> str:
    """The lines that make `table`, a DataFrame with a row for each sample that is listed."""
    return "\n".join([*_predicted(source), *_filtered(source, chosen), *_sorted(source, chosen)])


def _predicted(source: Source) -> list[str]:
    lines = [f"found = {'recording.predictions' if isinstance(source, Recorded) else 'scope.predict(X)'}"]
    samples = source.samples
    if OUTPUT_TIME in source.predictions().dims:
        lines.append('found = found.isel(output_time=found.notnull().any("output").sum("output_time") - 1)  # the last step of each')
    if samples[SCORE].isna().any():
        lines.append('found = found.dropna("sample")  # those that have a prediction')
    if PREDICTION not in samples:
        return [*lines, 'table = found.isel(output=0, drop=True).to_dataframe("score").reset_index()']
    # xarray gives numbers as floats here, since it may have to say NaN
    numbers = ".astype(int)" if source.predictions().coords[OUTPUT].dtype.kind in "iu" else ""
    lines.append(f'table = found.idxmax("output"){numbers}.to_dataframe("prediction").reset_index()')
    lines.append('table["score"] = found.max("output").values')
    if WRONG in samples:
        lines.append('table["wrong"] = table["label"].astype(str) != table["prediction"].astype(str)')
    return lines


def _filtered(source: Source, chosen: Chosen) -> list[str]:
    lines = []
    if chosen.among:
        lines += _among(source, chosen.among)
    if chosen.only == WRONG:
        lines.append('table = table[table["wrong"]]')
    if chosen.group:
        lines.append(f'table = table[table["{listing.group_column(source)}"].astype(str) == {chosen.group!r}]')
    if chosen.search:
        columns = [name for name in listing.SEARCHED if name in source.samples]
        lines.append(f"texts = table[{columns!r}].astype(str)")
        lines.append(
            f"table = table[texts.apply(lambda column: column.str.contains({chosen.search!r}, case=False, regex=False)).any(axis=1)]"
        )
    return lines


def _among(source: Source, among: str) -> list[str]:
    parts = [part.partition("-") for part in among.split(".")]
    if len(parts) > _MOST_STRETCHES:
        number = len(ranges.read(among, len(source)))
        return [f"# of these the {number:,} samples that are selected on the map; the CSV file has them"]
    stretches = ", ".join(f"{start}:{int(stop or start) + 1}" for start, _, stop in parts)
    return [f"table = table.iloc[np.r_[{stretches}]]  # selected on the map, with import numpy as np"]


def _sorted(source: Source, chosen: Chosen) -> list[str]:
    column = chosen.sort.removeprefix("-")
    if not column:
        return []
    ascending = ", ascending=False" if chosen.sort.startswith("-") else ""
    as_numbers = ""
    if source.samples[column].dtype.kind not in "iufb" and column in (SAMPLE, LABEL, PREDICTION):
        names = source.samples[column].map(listing.said)
        as_numbers = ", key=lambda column: column.astype(float)" if names.map(_is_number).all() else ""
    return [f'table = table.sort_values("{column}"{ascending}{as_numbers}, kind="stable")']


def _is_number(name: str) -> bool:
    return listing.natural(name)[0] == 0
