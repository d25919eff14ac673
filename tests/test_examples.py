"""The examples run as a person would run them, but in this process, which has read the frameworks already."""

import re
import runpy
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def run(monkeypatch, capsys):
    def run(example, *arguments):
        monkeypatch.setattr(sys, "argv", [example, *map(str, arguments)])
        runpy.run_path(str(ROOT / "examples" / example), run_name="__main__")
        return capsys.readouterr().out

    yield run
    plt.close("all")


def test_character_model_is_trained_looked_at_and_drawn(run, tmp_path):
    picture = tmp_path / "characters.png"
    out = run("character_model.py", "--epochs", "1", "--out", picture)
    assert "'lstm': {'sample': 50, 'time': 24, 'unit': 64}" in out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_convolutions_are_trained_looked_at_and_drawn(run, tmp_path):
    out = run("convolutions.py", "--epochs", "1", "--out", tmp_path)
    assert "50 steps; the first sees input steps 0 to 52, the last 245 to 297" in out
    assert "543,404 parameters, 512 not trainable" in out
    for name in ("layer.png", "filters_over_time.png", "kernels.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_planted_pattern_is_learned_explained_and_drawn(run, tmp_path):
    out = run("planted_pattern.py", "--epochs", "1", "--out", tmp_path)
    assert "occlusion: area under the ROC curve" in out
    assert (tmp_path / "explained.png").read_bytes().startswith(b"\x89PNG")


def test_units_of_the_character_model_follow_what_a_person_can_name(run, tmp_path):
    out = run("text_units.py", "--out", tmp_path)
    found = re.findall(r"^(.+): unit \d+, correlation ([+-]\d\.\d\d); by chance (\d\.\d\d)$", out, re.MULTILINE)
    assert len(found) == 5
    for _, correlation, chance in found:
        assert abs(float(correlation)) > 5 * float(chance) > 0
    assert abs(float(found[0][1])) > 0.6  # "place in the line"
    assert (tmp_path / "text_units.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "text_units.html").read_text(encoding="utf-8")
    assert page.count("<span title=") == 2 * 557  # a box for each character and unit
