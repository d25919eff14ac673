"""Where a recording comes from: which model, which data, which settings; and what differs from another's."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from typing import Any

import google_crc32c
import numpy as np

from seqscope._version import __version__
from seqscope.engines.shipping import fingerprint
from seqscope.errors import DataError, warn
from seqscope.recording.plan import ACTIVATIONS, STATES, Plan
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen

MODEL, DATA, SETTINGS, VERSIONS = "model_digest", "data_digest", "settings", "versions"
_PACKAGES = ("numpy", "xarray", "zarr", "dask", "torch", "keras", "tensorflow", "jax", "onnxruntime")
# Sequences whose bytes are looked at together.
_TOGETHER = 65_536
_PIECE = 1 << 16


def provenance(specimen: Specimen, sequences: Sequences, plan: Plan) -> dict[str, Any]:
    """What is said of a store: attributes that survive Zarr. No clock time is among them, so that equal recordings are equal."""
    return specimen.attrs("record") | {
        MODEL: fingerprint(specimen.engine),
        DATA: digest_of(sequences),
        SETTINGS: json.dumps(_settings(plan) | {"call": _name_of(getattr(specimen.engine, "call", None))}, sort_keys=True),
        VERSIONS: json.dumps(_versions(), sort_keys=True),
        "seqscope_version": __version__,
        "n_samples": len(sequences),
        "n_steps": int(sequences.lengths.sum()),
        "single": int(sequences.single),
        "outputs": [name if isinstance(name, str | int | float) else str(name) for name in sequences.outputs or ()],
        "time_units": sequences.clock.units,
        "layers": list(dict.fromkeys(kept.source for kept in plan.arrays if kept.group.startswith(f"{ACTIVATIONS}/"))),
        "recurrent": list(dict.fromkeys(kept.source for kept in plan.arrays if kept.group.startswith(f"{STATES}/"))),
    }


def _settings(plan: Plan) -> dict[str, Any]:
    held = {name: [np.flatnonzero(hold.mask).tolist(), hold.values[hold.mask].tolist()] for name, hold in plan.held.items()}
    return {
        "arrays": {kept.path: [list(kept.dims), list(kept.sizes), kept.dtype] for kept in plan.arrays},
        "inputs": plan.inputs is not None,
        "keep_bits": plan.keep_bits,
        "batch_size": plan.batch_size,
        "shard": plan.per_shard,
        "layout": plan.layout,
        "ablated": held,
        "outputs": None if plan.outputs is None else [str(name) for name in plan.outputs],
    }


def _name_of(call: Any) -> str | None:
    """What feeds the model, where the person said it: by its name, since code has no digest."""
    return None if call is None else str(getattr(call, "__qualname__", type(call).__name__))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def digest_of(sequences: Sequences) -> str:
    """A digest of a data set: every value, length, name, label and time. It is read once, block by block.

    SHA-256, of the values over a CRC-32C of each 64 kB, which is ten times as fast: it tells data sets apart, not a forgery.
    """
    known = [str(part) for part in (sequences.channels, sequences.outputs, sequences.dtype.newbyteorder("="), sequences.clock.units)]
    found = hashlib.sha256("\n".join(known).encode())
    for column in (sequences.lengths, sequences.samples, sequences.labels, sequences.clock.stamps):
        found.update(b"|" if column is None else _bytes_of(column))
    for start in range(0, len(sequences), _TOGETHER):
        part = sequences[start : start + _TOGETHER]
        values = np.ascontiguousarray(part.all_steps(), sequences.dtype.newbyteorder("=")).reshape(-1).view(np.uint8)
        for piece in range(0, len(values), _PIECE):
            found.update(google_crc32c.value(values[piece : piece + _PIECE]).to_bytes(4, "big"))
        for stamps in part.clock.own or ():
            found.update(_bytes_of(stamps))
    return found.hexdigest()


def _bytes_of(column: np.ndarray) -> bytes:
    return "\n".join(map(str, column.tolist())).encode() if column.dtype.kind in "UOTmM" else np.ascontiguousarray(column).tobytes()


def check_same(there: Mapping[str, Any], now: Mapping[str, Any], name: str) -> None:
    """Refuse to go on with a store that was made from another model, other data or with other settings.

    Raises
    ------
    DataError
        It was; says what differs.
    """
    wrong = []
    if there[MODEL] != now[MODEL]:
        wrong.append(f"another model ({there['model']} there, {now['model']} now, with other weights or layers)")
    if there[DATA] != now[DATA]:
        sizes = f"{there['n_samples']:,} sequences of {there['n_steps']:,} steps there, {now['n_samples']:,} of {now['n_steps']:,} now"
        wrong.append(f"other data ({sizes})")
    wrong += _differing_settings(json.loads(there[SETTINGS]), json.loads(now[SETTINGS]))
    if wrong:
        raise DataError(f"'{name}' was made from {'; '.join(wrong)}: give what it was made from, another store, or overwrite=True.")
    before, after = json.loads(there[VERSIONS]), json.loads(now[VERSIONS])
    changed = [f"{package} {version} and now {after.get(package)}" for package, version in before.items() if version != after.get(package)]
    if changed:
        warn(f"'{name}' was begun with {', '.join(changed)}: what is added may differ from it by rounding.")


def _differing_settings(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    wrong = []
    for name, before in there.items():
        after = now.get(name)
        if name == "arrays" and before != after:
            paths = sorted(path for path in {*before, *(after or ())} if before.get(path) != (after or {}).get(path))
            wrong.append(f"other layers, states or dtype ({', '.join(paths[:4])})")
        elif before != after:
            wrong.append(f"other settings ({name} {before!r} there, {after!r} now)")
    return wrong
