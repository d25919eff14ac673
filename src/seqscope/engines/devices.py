"""What frameworks are here and what they can run on. They are imported here to be asked, each by itself: one that breaks is told so."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from seqscope import ram


@dataclass(frozen=True)
class Device:
    """Something that models can run on.

    Attributes
    ----------
    name : str
        "CPU", "cuda:0".
    details : str
    seen_by : tuple of str
        The frameworks that can use it.
    """

    name: str
    details: str
    seen_by: tuple[str, ...]


@dataclass(frozen=True)
class Framework:
    """A framework that models are opened with.

    Attributes
    ----------
    name : str
    runs_on : str
        Its own version, a backend, providers.
    problem : str
        Why it does not work here; "" where it does.
    """

    name: str
    runs_on: str
    problem: str = ""


@dataclass(frozen=True)
class Survey:
    """What there is."""

    frameworks: tuple[Framework, ...]
    devices: tuple[Device, ...] = field(default_factory=tuple)


def survey() -> Survey:
    """Ask every framework that is installed.

    Examples
    --------
    >>> survey().devices[0].name
    'CPU'
    """
    frameworks: list[Framework] = []
    accelerators: list[Device] = []
    for name, module, look in _FRAMEWORKS:
        runs_on, problem = "", ""
        if importlib.util.find_spec(module) is None:
            problem = "not installed"
        else:
            try:
                runs_on, seen = look()
                accelerators += seen
            except Exception as error:  # a package that is there and broken: whatever it raises is the news
                problem = f"can't be used: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".rstrip(": ")
        frameworks.append(Framework(name, runs_on, problem))
    running = tuple(one.name for one in frameworks if not one.problem)
    return Survey(tuple(frameworks), (_cpu(running), *_together(accelerators)))


def _cpu(seen_by: tuple[str, ...]) -> Device:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free = ram.available()
    parts = [f"{cores} core{'s' if cores != 1 else ''}", platform.machine(), "" if free is None else f"{ram.in_words(free)} of memory free"]
    return Device("CPU", ", ".join(filter(None, parts)), seen_by)


def _together(devices: list[Device]) -> list[Device]:
    """Devices that several frameworks name alike, once each."""
    made: dict[str, Device] = {}
    for one in devices:
        known = made.get(one.name)
        made[one.name] = one if known is None else Device(one.name, known.details, (*known.seen_by, *one.seen_by))
    return list(made.values())


def _look_at_torch() -> tuple[str, list[Device]]:
    torch: Any = importlib.import_module("torch")
    found = []
    for place in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(place)
        found.append(Device(f"cuda:{place}", f"{about.name}, {ram.in_words(about.total_memory)}", ("torch",)))
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple's Metal", ("torch",)))
    n_threads = torch.get_num_threads()
    return f"torch {torch.__version__}, {n_threads} thread{'s' if n_threads > 1 else ''}", found


def _look_at_keras() -> tuple[str, list[Device]]:
    keras: Any = importlib.import_module("keras")
    backend = keras.backend.backend()
    return f"keras {keras.__version__}, backend {backend}", _devices_of_backend(backend)


def _devices_of_backend(backend: str) -> list[Device]:
    """The accelerators of the backend, where it is not torch, which is asked itself."""
    if backend == "tensorflow":
        tensorflow: Any = importlib.import_module("tensorflow")
        places = range(len(tensorflow.config.list_physical_devices("GPU")))
    elif backend == "jax":
        jax: Any = importlib.import_module("jax")
        places = range(sum(one.platform != "cpu" for one in jax.devices()))
    else:
        return []
    return [Device(f"cuda:{place}", "", (f"keras ({backend})",)) for place in places]


def _look_at_onnx() -> tuple[str, list[Device]]:
    onnxruntime: Any = importlib.import_module("onnxruntime")
    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    return f"onnxruntime {onnxruntime.__version__}, providers {', '.join(providers)}", []


# A framework, the package that it needs, what asks it.
_FRAMEWORKS: tuple[tuple[str, str, Callable[[], tuple[str, list[Device]]]], ...] = (
    ("torch", "torch", _look_at_torch),
    ("keras", "keras", _look_at_keras),
    ("onnx", "onnxruntime", _look_at_onnx),
)
