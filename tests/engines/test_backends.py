"""Keras' backend is chosen when Keras is imported, so each runs in a process of its own: the contract, and the Keras tests."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_contract_and_keras_models(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    files = [TESTS / "contract"] if backend == "torch" else [TESTS / "contract", TESTS / "engines" / "test_keras.py"]
    environment = os.environ | {"KERAS_BACKEND": backend, "SEQSCOPE_ENGINE": "keras", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, files)]
    done = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
