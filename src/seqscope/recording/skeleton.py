"""The store itself: groups, coordinates and empty arrays, and what is added at the end."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import Store
from zarr.codecs import BloscCodec

from seqscope.errors import DataError
from seqscope.labelled import LABEL, LENGTH, SAMPLE
from seqscope.recording import columns, ledger, stores
from seqscope.recording.ledger import Entry, Ledger
from seqscope.recording.plan import Kept, Plan
from seqscope.sequences import Sequences
from seqscope.sniff import RECORDING

# What is said of a store that is a recording: which form it has.
MARK, FORM = RECORDING, 1
# Coordinates along the samples are read in pieces of this many.
_COORD_CHUNK = 1 << 18
# What is known of every sample.
OF_SAMPLES = (SAMPLE, LENGTH, LABEL)


def check_form(attrs: Mapping[str, Any], name: str) -> None:
    """Refuse what is no recording, or one of a form that is not known here.

    Raises
    ------
    DataError
    """
    if MARK not in attrs:
        raise DataError(f"'{name}' is no recording of seqscope, or was not begun in full.")
    if attrs[MARK] != FORM:
        version = attrs.get("seqscope_version", "of another version")
        raise DataError(
            f"'{name}' is a recording of form {attrs[MARK]}, written by seqscope {version}, and form {FORM} is read here: open it with "
            "that version."
        )


def build(store: Store, plan: Plan, templates: Mapping[str, xr.Dataset], sequences: Sequences, attrs: Mapping[str, Any]) -> None:
    """Make an empty store. What is said of the root comes last: a store without it was never begun.

    Parameters
    ----------
    templates : dict of Dataset
        The labelled arrays by group, whose values are not looked at.
    attrs : dict
        What is said of the whole.
    """
    stores.put(store, ledger.BEGUN, b"")
    with no_warnings():
        witness = stores.Witness(store)
        _make_ledger(witness, plan)
        for group, data in templates.items():
            own = {name: column for name, column in sequences.sample_axis.coords().items() if name != SAMPLE}
            write_group(witness, group, data.drop_vars([*OF_SAMPLES, *data.data_vars], errors="ignore").assign_coords(own))
        for kept in plan.written:
            _make_array(witness, plan, kept, templates[kept.group][kept.name])
        write_group(witness, "", xr.Dataset(coords=xr.Coordinates(sequences.sample_axis.coords(), indexes={})))  # an index is a copy
        zarr.open_group(witness, mode="r+", zarr_format=3).attrs.update(dict(attrs) | {MARK: FORM})
        enter(store, ledger.FRAME, witness, plan.n_samples)


def enter(store: Store, kind: str, witness: stores.Witness, n_samples: int) -> None:
    """Enter into the ledger what was written once; not what is said of the root, which changes."""
    files = {key: figures for key, figures in sorted(witness.seen.items()) if key != "zarr.json"}
    Ledger(store, kind).write(Entry(0, (0, n_samples), files))


def _make_ledger(store: Store, plan: Plan) -> None:
    """An array beside the ledger, under the same name: before anything is listed, since what lies behind an array is not."""
    zarr.create_group(store, zarr_format=3)
    firsts = zarr.create_array(
        store,
        name=ledger.ROOT,
        shape=(plan.n_shards,),
        dtype="int64",
        dimension_names=("shard",),
        attributes={"long_name": "First sample of a unit of work"},
    )
    firsts[:] = np.arange(plan.n_shards, dtype=np.int64) * plan.per_shard


def _make_array(store: Store, plan: Plan, kept: Kept, template: xr.DataArray) -> None:
    chunk, shard = plan.cut(kept)
    zarr.create_array(
        store,
        name=kept.path,
        shape=(plan.n_samples, *kept.sizes),
        dtype=kept.dtype,
        chunks=chunk,
        shards=shard,
        compressors=_compressor(kept),
        fill_value=kept.fill,
        dimension_names=kept.dims,
        attributes=_array_attrs(plan, kept, template),
    )


def _compressor(kept: Kept) -> BloscCodec:
    return BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=np.dtype(kept.dtype).itemsize)


def _array_attrs(plan: Plan, kept: Kept, template: xr.DataArray) -> dict[str, Any]:
    """What is said of an array: its own, which coordinates belong to it (as xarray has it), and what its values lost."""
    names = " ".join(sorted(str(name) for name in template.coords if name not in template.dims))
    said = dict(template.attrs) | ({"coordinates": names} if names else {})
    rounding = rounding_of(plan, kept, template.dtype)
    return said | ({"rounding": rounding} if rounding else {})


def rounding_of(plan: Plan, kept: Kept, given: np.dtype[Any]) -> str:
    """What the values of an array lose on their way into the store, in words; "" where nothing."""
    if kept.edges is None:  # inputs and predictions are written as they are
        return ""
    dtype = np.dtype(kept.dtype)
    if plan.keep_bits is not None and dtype.kind == "f":
        return f"{plan.keep_bits} bits of the mantissa kept: relative error at most {2.0 ** -(plan.keep_bits + 1):.2g}"
    if dtype == given:
        return ""
    about = np.finfo(dtype)
    small = f", and at most {float(about.smallest_subnormal) / 2:.2g} below {float(about.smallest_normal):.2g} in size"
    return f"{given} written as {dtype}: relative error at most {float(about.eps) / 2:.2g}{small}"


def write_group(store: Store, group: str, data: xr.Dataset) -> None:
    """Write a group as xarray does, text in the type that Zarr v3 has for it; numbers of very many samples a piece at a time.

    Parameters
    ----------
    group : str
        "" for the root.
    """
    made = columns.as_stored(data)
    encoding = {str(name): {"chunks": _coord_chunks(variable)} for name, variable in made.variables.items() if variable.ndim}
    # xarray and Zarr hold several copies of what they write: those of a million numbers would be what decides over the memory.
    long = {} if any(variable.dtype.kind not in "iufb" for variable in made.variables.values()) else _along_many_samples(made)
    with no_warnings():
        (made.isel({SAMPLE: slice(_COORD_CHUNK)}) if long else made).to_zarr(
            store, group=group or None, mode="a", consolidated=False, encoding=encoding, zarr_format=3
        )
    for name, variable in long.items():
        _write_rest(zarr.open_array(store, path=f"{group}/{name}".lstrip("/"), mode="r+", zarr_format=3), variable)


def _along_many_samples(data: xr.Dataset) -> dict[str, xr.Variable]:
    if data.sizes.get(SAMPLE, 0) <= _COORD_CHUNK:
        return {}
    return {str(name): variable for name, variable in data.variables.items() if variable.dims[:1] == (SAMPLE,)}


def _write_rest(array: zarr.Array[Any], variable: xr.Variable) -> None:
    """What comes behind the first piece."""
    array.resize(variable.shape)
    for start in range(_COORD_CHUNK, len(variable), _COORD_CHUNK):
        array[start : start + _COORD_CHUNK] = variable[start : start + _COORD_CHUNK].values


def _coord_chunks(variable: xr.Variable) -> tuple[int, ...]:
    return tuple(min(size, _COORD_CHUNK) if dim == SAMPLE else max(1, size) for dim, size in variable.sizes.items())


def consolidate(store: Store) -> None:
    """Put what is said of all arrays into one file, so that a store opens with one request: the last thing that is done."""
    with no_warnings():
        zarr.consolidate_metadata(store, zarr_format=3)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Leave out what Zarr and xarray say about a writer's choices: that consolidated metadata is not part of the specification yet."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        yield
