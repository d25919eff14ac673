"""What is done once for a store: the bins of its histograms at the beginning; statistics, failures and consolidated metadata at the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import Store

from seqscope.errors import DataError
from seqscope.recording import ledger, skeleton, stores
from seqscope.recording.ledger import Entry, Ledger
from seqscope.recording.plan import FAILED, STATISTICS, Plan
from seqscope.recording.running import statistics_of

_EDGES = f"{ledger.ROOT}/edges.safetensors.zst"


def keep_edges(store: Store, plan: Plan) -> None:
    """Write the bins, so that all parts of a recording count in the same."""
    edges = {kept.path: kept.edges for kept in plan.arrays if kept.edges is not None}
    stores.put(store, _EDGES, ledger.packed(edges))


def with_edges(store: Store, plan: Plan) -> Plan:
    """The plan with the bins that the store was begun with."""
    data = stores.get(store, _EDGES)
    try:
        edges = ledger.unpacked(data or b"")
    except Exception:  # it is missing, or damaged, and the same model and data give the same bins
        keep_edges(store, plan)
        return plan
    return replace(plan, arrays=tuple(replace(kept, edges=edges.get(kept.path, kept.edges)) for kept in plan.arrays))


def finish(store: Store, plan: Plan) -> None:
    """Write the statistics of every array and the samples that failed, and put all metadata into one file."""
    entries = [entry for number in range(plan.n_shards) if (entry := Ledger(store).read(number)) is not None]
    with skeleton.no_warnings():
        root = zarr.open_group(store, mode="r+", zarr_format=3, use_consolidated=False)
        for group in (STATISTICS, FAILED):  # of an end that was not reached
            if group in root:
                del root[group]
    witness = stores.Witness(store)
    for path, found in statistics_of(store).items():
        skeleton.write_group(witness, f"{STATISTICS}/{path}", found)
    failed = failures(entries)
    if failed.sizes["failure"]:
        skeleton.write_group(witness, FAILED, failed)
    skeleton.enter(store, ledger.END, witness, plan.n_samples)
    correct, known = sum(entry.correct for entry in entries), sum(entry.labelled for entry in entries)
    skeleton.consolidate(store)
    with skeleton.no_warnings():  # last, in one file with what was consolidated
        root = zarr.open_group(store, mode="r+", zarr_format=3)
        root.attrs.update({"complete": 1, "n_failed": failed.sizes["failure"]} | ({"accuracy": correct / known} if known else {}))


def check_frame(store: Store, name: str) -> None:
    """Refuse to go on with a store of which something is lost that was written once, at its beginning.

    Raises
    ------
    DataError
    """
    frame = Ledger(store, ledger.FRAME)
    entry = frame.read(0)
    wrong = frame.damage(entry, thorough=True) if entry is not None else []
    if wrong:
        raise DataError(f"'{name}' can't be gone on with: {wrong[0]}. Begin again with overwrite=True, or name another store.")


def has_end(store: Store) -> bool:
    """Whether what is written at the end is there, as it was written."""
    end = Ledger(store, ledger.END)
    entry = end.read(0)
    return entry is not None and not end.damage(entry, thorough=True)


def reopen(store: Store) -> None:
    """Say that a store is not finished any more: a part of it is done again."""
    with skeleton.no_warnings():
        zarr.open_group(store, mode="r+", zarr_format=3, use_consolidated=False).attrs["complete"] = 0


def failures(entries: Iterable[Entry]) -> xr.Dataset:
    """The samples that were set aside, by position, and what was said of each."""
    found = sorted((int(place), message) for entry in entries for place, message in entry.failed.items())
    places, messages = np.array([place for place, _ in found], np.int64), np.array([message for _, message in found], dtype=str)
    return xr.Dataset({"position": ("failure", places), "message": ("failure", messages)})
