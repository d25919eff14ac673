"""Keras' backend is chosen when Keras is imported, so each runs in a process of its own: the contract, and the Keras tests."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
FILES = {
    "tensorflow": ["contract", "engines/test_keras.py", "engines/test_keras_attention.py"],
    "jax": ["contract", "engines/test_keras.py", "engines/test_keras_attention.py"],
    "torch": ["contract"],  # the Keras tests run on it in the main process
}


@pytest.fixture(scope="module")
def processes():
    """One for each backend that is installed, side by side."""
    begun = {backend: _begin(backend, files) for backend, files in FILES.items() if importlib.util.find_spec(backend) is not None}
    yield begun
    for process in begun.values():
        process.kill()


def _begin(backend, files):
    environment = os.environ | {"KERAS_BACKEND": backend, "SEQSCOPE_ENGINE": "keras", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # what is compiled here runs once
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(str(TESTS / file) for file in files)]
    return subprocess.Popen(command, cwd=TESTS.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("backend", FILES)
def test_contract_and_keras_models(backend, processes):
    if backend not in processes:
        pytest.skip(f"{backend} is not installed")
    said, _ = processes[backend].communicate()
    assert processes[backend].returncode == 0, said[-8000:]
    assert " passed" in said or "%]" in said
