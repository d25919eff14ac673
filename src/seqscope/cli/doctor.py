"""The command that says what is installed here, what runs on what, and what each extra would add."""

from __future__ import annotations

import dataclasses
import platform
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from seqscope._version import __version__
from seqscope.cli import voice
from seqscope.cli.writing import JsonOption, QuietOption
from seqscope.engines import devices

# What every command needs, and what extras bring, in the order in which they are told.
_NEEDED = ("numpy", "scipy", "scikit-learn", "xarray", "h5netcdf", "h5py", "matplotlib", "rich", "typer", "safetensors", "jinja2")
_OPTIONAL = ("torch", "keras", "tensorflow", "jax", "onnx", "onnxruntime", "zarr", "dask", "distributed", "panel", "bokeh", "pyarrow")

_ADDS = {
    "torch": "PyTorch models",
    "keras": "Keras 3 models, with tensorflow, jax or torch to run on",
    "onnx": "ONNX files, such as MATLAB exports",
    "matlab": "MAT-files with categorical and string labels",
    "parquet": "tables as .parquet",
    "record": "recordings of whole data sets (Zarr, Dask), .zarr files",
    "explore": "the page: seqscope explore",
    "all": "all of these",
    "dev": "what tests seqscope",
}


@dataclasses.dataclass(frozen=True)
class Extra:
    """What of an extra is here, and what is not."""

    name: str
    adds: str
    installed: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing

    @property
    def command(self) -> str:
        """What adds the rest."""
        return f"pip install 'seqscope[{self.name}]'"


def doctor(json: JsonOption = False, quiet: QuietOption = False) -> None:
    """What is installed here: versions, backends, devices, and what each extra of seqscope would add."""
    packages = {name: _version(name) for name in (*_NEEDED, *_OPTIONAL)}
    found, extras = devices.survey(), _extras()
    if json:
        voice.write_json(
            {
                "seqscope": __version__,
                "python": platform.python_version(),
                "platform": platform.platform(),
                "packages": packages,
                "frameworks": [dataclasses.asdict(one) for one in found.frameworks],
                "devices": [dataclasses.asdict(one) for one in found.devices],
                "extras": [
                    dataclasses.asdict(one) | {"complete": one.is_complete, "command": one.command if one.missing else None}
                    for one in extras
                ],
            }
        )
        return
    _show(packages, found, extras)


def _show(packages: dict[str, str | None], found: devices.Survey, extras: list[Extra]) -> None:
    from seqscope.report import Table

    versions = [("Platform", platform.platform()), ("Python", platform.python_version()), ("seqscope", __version__)]
    versions += [(name, version or "not installed") for name, version in packages.items()]
    backends = [(one.name, one.runs_on, one.problem or "works") for one in found.frameworks]
    places = [(one.name, one.details, ", ".join(one.seen_by)) for one in found.devices]
    added = [(one.name, one.adds, "complete" if one.is_complete else f"lacks {', '.join(one.missing)}: {one.command}") for one in extras]
    for headings, rows, title in (
        (("Package", "Version"), versions, "Versions"),
        (("Framework", "Runs on", "State"), backends, "Frameworks that seqscope opens models of"),
        (("Device", "What it is", "Seen by"), places, "Devices"),
        (("Extra", "What it adds", "State"), added, "Extras: pip install 'seqscope[NAME]'"),
    ):
        voice.print_table(Table(headings, rows), title)


def _version(package: str) -> str | None:
    """The version that is installed; tensorflow comes by other names too."""
    for name in (package, f"{package}-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _extras() -> list[Extra]:
    """Each extra that the installed package declares; none where seqscope runs without being installed."""
    try:
        about = metadata.metadata("seqscope")
    except metadata.PackageNotFoundError:
        return []
    needs = [Requirement(line) for line in about.get_all("Requires-Dist") or ()]
    names = [name for name in about.get_all("Provides-Extra") or () if name != "dev"]
    return [_extra(name, needs) for name in sorted(names, key=lambda name: [*_ADDS, name].index(name))]


def _extra(name: str, needs: list[Requirement]) -> Extra:
    asked = _of_extra(name, needs)
    there = {str(one.name): _fits(one) for one in asked}
    return Extra(name, _ADDS.get(name, ""), *(tuple(one for one, fits in there.items() if fits is wanted) for wanted in (True, False)))


def _of_extra(name: str, needs: list[Requirement]) -> list[Requirement]:
    """What an extra asks for; one that names others of seqscope's own asks for theirs."""
    found: list[Requirement] = []
    for one in needs:
        if one.marker is not None and one.marker.evaluate({"extra": name}) and not one.marker.evaluate({"extra": ""}):
            others = one.extras if canonicalize_name(one.name) == "seqscope" else ()
            found += [inner for other in sorted(others) for inner in _of_extra(other, needs)] if others else [one]
    return found


def _fits(need: Requirement) -> bool:
    """Whether a package is installed in a version that will do."""
    version = _version(need.name)
    return version is not None and need.specifier.contains(version, prereleases=True)
