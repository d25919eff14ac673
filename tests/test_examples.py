"""The examples run as a person would run them, in a process of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(example, *arguments):
    command = [sys.executable, ROOT / "examples" / example, *arguments]
    done = subprocess.run(command, env=os.environ | {"KERAS_BACKEND": "torch"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_character_model_is_trained_looked_at_and_drawn(tmp_path):
    picture = tmp_path / "characters.png"
    done = run("character_model.py", "--epochs", "1", "--out", picture)
    assert "'lstm': {'sample': 50, 'time': 24, 'unit': 64}" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_convolutions_are_trained_looked_at_and_drawn(tmp_path):
    done = run("convolutions.py", "--epochs", "1", "--out", tmp_path)
    assert "50 steps; the first sees input steps 0 to 52, the last 245 to 297" in done.stdout
    assert "543,404 parameters, 512 not trainable" in done.stdout
    for name in ("layer.png", "filters_over_time.png", "kernels.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_planted_pattern_is_learned_explained_and_drawn(tmp_path):
    done = run("planted_pattern.py", "--epochs", "1", "--out", tmp_path)
    assert "occlusion: area under the ROC curve" in done.stdout
    assert (tmp_path / "explained.png").read_bytes().startswith(b"\x89PNG")


def test_units_of_the_character_model_follow_what_a_person_can_name(tmp_path):
    done = run("text_units.py", "--out", tmp_path)
    found = re.findall(r"^(.+): unit \d+, correlation ([+-]\d\.\d\d); by chance (\d\.\d\d)$", done.stdout, re.MULTILINE)
    assert len(found) == 5
    for _, correlation, chance in found:
        assert abs(float(correlation)) > 5 * float(chance) > 0
    assert abs(float(found[0][1])) > 0.6  # "place in the line"
    assert (tmp_path / "text_units.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "text_units.html").read_text(encoding="utf-8")
    assert page.count("<span title=") == 2 * 557  # a box for each character and unit
