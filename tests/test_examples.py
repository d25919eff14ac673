"""The examples run as a person would run them, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_character_model_is_trained_looked_at_and_drawn(tmp_path):
    picture = tmp_path / "characters.png"
    command = [sys.executable, ROOT / "examples" / "character_model.py", "--epochs", "1", "--out", picture]
    done = subprocess.run(command, env=os.environ | {"KERAS_BACKEND": "torch"}, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "'lstm': {'sample': 50, 'time': 24, 'unit': 64}" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
