"""`seqscope doctor`: what it says of what is here, of what is not, and where no framework is installed."""

import importlib
import json
import subprocess
import sys
import textwrap
from importlib import metadata
from types import SimpleNamespace

import pytest

import commands
import seqscope as sq
from seqscope.cli import doctor
from seqscope.engines import devices

# As if a package were not installed: neither an import nor a look finds it, nor what is said of it.
HIDE = """
    import importlib.abc, importlib.metadata, json, sys
    HIDDEN = ("torch", "keras", "tensorflow", "jax", "onnx", "onnxruntime", "zarr", "dask", "distributed", "panel", "bokeh", "pyarrow")

    class Hide(importlib.abc.MetaPathFinder):
        def __init__(self, finder):
            self.finder = finder

        def find_spec(self, name, path=None, target=None):
            return None if name.partition(".")[0] in HIDDEN else self.finder.find_spec(name, path, target)

        def __getattr__(self, name):
            return getattr(self.finder, name)

    sys.meta_path = [Hide(finder) for finder in sys.meta_path]
    version = importlib.metadata.version

    def told(name):
        if name.removesuffix("-cpu") in HIDDEN:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    importlib.metadata.version = told
    sys.argv = ["seqscope", "doctor", *sys.argv[1:]]
    from seqscope.cli import main
    main()
"""


@pytest.fixture
def surveyed(monkeypatch):
    """Frameworks that are quick to ask: a machine with two accelerators and a broken Keras."""

    def broken():
        raise RuntimeError("libfoo.so is missing\nand more")

    def torch():
        return "torch 9.9", [devices.Device(f"cuda:{place}", "Big Card, 80.0 GB", ("torch",)) for place in range(2)]

    frameworks = (("torch", "numpy", torch), ("keras", "numpy", broken), ("onnx", "not_there_at_all", broken))
    monkeypatch.setattr(devices, "_FRAMEWORKS", frameworks)


@pytest.fixture
def typed(tmp_path, monkeypatch, capfd):
    return commands.typed_in(tmp_path, monkeypatch, capfd)


def test_it_says_what_is_here_in_words_and_for_machines(typed, surveyed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, shown, said = typed("doctor")
    assert (code, said) == (0, "")
    told = json.loads(typed("doctor", "--json")[1])
    assert told["seqscope"] == sq.__version__
    for name in ("numpy", "xarray", "torch"):
        assert told["packages"][name] == metadata.version(name)
        assert metadata.version(name) in shown
    states = {one["name"]: one["problem"] for one in told["frameworks"]}
    assert states == {"torch": "", "keras": "can't be used: RuntimeError: libfoo.so is missing", "onnx": "not installed"}
    assert [one["name"] for one in told["devices"]] == ["CPU", "cuda:0", "cuda:1"]
    assert told["devices"][0]["seen_by"] == ["torch"]
    assert "Big Card, 80.0 GB" in shown
    assert "libfoo.so is missing" in shown


def test_each_extra_says_what_it_adds_and_what_it_lacks(typed, surveyed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    needs = ["numpy>=2", "pyarrow>=17; extra == 'parquet'", "zarr>=99; extra == 'record'", "dask>=2025; extra == 'record'"]
    needs += ["seqscope[parquet,record]; extra == 'all'", "nowhere; extra == 'new'"]
    declared = {"Requires-Dist": needs, "Provides-Extra": ["record", "parquet", "all", "dev", "new"]}
    monkeypatch.setattr(metadata, "metadata", lambda _: SimpleNamespace(get_all=declared.get))
    told = {one["name"]: one for one in json.loads(typed("doctor", "--json")[1])["extras"]}
    assert set(told) == {"record", "parquet", "all", "new"}
    assert (told["parquet"]["complete"], told["parquet"]["command"]) == (True, None)
    assert (told["record"]["installed"], told["record"]["missing"]) == (["dask"], ["zarr"])
    assert told["record"]["command"] == "pip install 'seqscope[record]'"
    assert told["all"]["missing"] == ["zarr"]
    assert told["new"]["missing"] == ["nowhere"]
    assert "lacks zarr: pip install 'seqscope[record]'" in typed("doctor")[1]


def test_every_extra_of_the_package_is_explained():
    names = set(metadata.metadata("seqscope").get_all("Provides-Extra"))
    assert names <= set(doctor._ADDS)


def test_the_frameworks_that_are_here_are_asked():
    import onnxruntime
    import torch

    found = {one.name: one for one in devices.survey().frameworks if one.name != "keras"}  # its backend is chosen for the whole process
    assert found["torch"].runs_on.startswith(f"torch {torch.__version__}")
    assert "CPU" in found["onnx"].runs_on
    assert found["onnx"].runs_on.startswith(f"onnxruntime {onnxruntime.__version__}")


def test_accelerators_are_named_with_their_memory(monkeypatch):
    card = SimpleNamespace(name="Big Card", total_memory=80 * 10**9)
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 1, get_device_properties=lambda _: card)
    torch = SimpleNamespace(
        __version__="9.9",
        cuda=cuda,
        get_num_threads=lambda: 4,
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False)),
    )
    jax = SimpleNamespace(devices=lambda: [SimpleNamespace(platform="gpu"), SimpleNamespace(platform="cpu")])
    keras = SimpleNamespace(__version__="3.9", backend=SimpleNamespace(backend=lambda: "jax"))
    made = {"torch": torch, "jax": jax, "keras": keras}
    monkeypatch.setattr(importlib, "import_module", lambda name: made[name])
    monkeypatch.setattr(devices, "_FRAMEWORKS", devices._FRAMEWORKS[:2])
    found = devices.survey()
    assert [one.runs_on for one in found.frameworks] == ["torch 9.9, 4 threads", "keras 3.9, backend jax"]
    assert found.devices[1] == devices.Device("cuda:0", "Big Card, 80 GB", ("torch", "keras (jax)"))


def test_it_works_where_no_framework_is_installed():
    command = [sys.executable, "-c", textwrap.dedent(HIDE), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert {one["problem"] for one in told["frameworks"]} == {"not installed"}
    assert told["packages"]["torch"] is None
    missing = {one["name"]: one["command"] for one in told["extras"] if not one["complete"]}
    assert missing["torch"] == "pip install 'seqscope[torch]'"
    assert {"keras", "onnx", "record", "parquet", "explore", "all"} <= set(missing)
