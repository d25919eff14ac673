"""Keras' backend is chosen at its import, so each runs in a process of its own: the contract, and the Keras tests. So does ONNX."""

import atexit
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
KERAS = [
    "engines/test_keras.py",
    "engines/test_keras_states.py",
    "engines/test_keras_stream.py",
    "engines/test_keras_attention.py",
    "engines/test_keras_targets.py",
    "engines/test_keras_ablation.py",
    "engines/test_keras_maximize.py",
    "attribution/test_agree.py",
    "nn/test_keras.py",
]
FILES = {
    "tensorflow": ["contract", *KERAS],
    "jax": ["contract", *KERAS],
    "torch": ["contract"],  # the Keras tests run on it in the main process
    "onnxruntime": ["contract"],
}
# What is compiled here runs once, so compiling has to be cheap: it takes twice as long where loops are fused.
XLA_FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
# What was begun, and where it writes.
processes: dict[str, tuple[subprocess.Popen, Path]] = {}


def begin(folder):
    """Let the backends run while this process goes through the other tests (see conftest.py)."""
    for backend, files in FILES.items():
        if importlib.util.find_spec(backend) is not None:
            processes[backend] = _begin(backend, files, folder / f"{backend}.txt")
            atexit.register(processes[backend][0].kill)


def _begin(backend, files, log):
    of_keras = {"KERAS_BACKEND": backend, "SEQSCOPE_ENGINE": "keras", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment = os.environ | ({"SEQSCOPE_ENGINE": "onnx"} if backend == "onnxruntime" else of_keras)
    environment |= {"XLA_FLAGS": XLA_FLAGS}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(str(TESTS / file) for file in files)]
    with log.open("w") as written:
        return subprocess.Popen(command, cwd=TESTS.parent, env=environment, stdout=written, stderr=subprocess.STDOUT), log


@pytest.mark.parametrize("backend", FILES)
def test_contract_and_keras_models(backend):
    if backend not in processes:
        pytest.skip(f"{backend} is not installed")
    process, log = processes[backend]
    status = process.wait()
    said = log.read_text()
    assert status == 0, said[-8000:]
    assert " passed" in said or "%]" in said
