"""The examples run as a person would run them, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(example, *arguments):
    command = [sys.executable, ROOT / "examples" / example, "--epochs", "1", *arguments]
    done = subprocess.run(command, env=os.environ | {"KERAS_BACKEND": "torch"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_character_model_is_trained_looked_at_and_drawn(tmp_path):
    picture = tmp_path / "characters.png"
    done = run("character_model.py", "--out", picture)
    assert "'lstm': {'sample': 50, 'time': 24, 'unit': 64}" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_convolutions_are_trained_looked_at_and_drawn(tmp_path):
    done = run("convolutions.py", "--out", tmp_path)
    assert "50 steps; the first sees input steps 0 to 52, the last 245 to 297" in done.stdout
    assert "543,404 parameters, 512 not trainable" in done.stdout
    for name in ("layer.png", "filters_over_time.png", "kernels.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_planted_pattern_is_learned_explained_and_drawn(tmp_path):
    done = run("planted_pattern.py", "--out", tmp_path)
    assert "occlusion: area under the ROC curve" in done.stdout
    assert (tmp_path / "explained.png").read_bytes().startswith(b"\x89PNG")
