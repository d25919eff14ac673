"""`seqscope maximize` as a person types it, in this process, and the files that it writes."""

import textwrap

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import commands
import seqscope as sq

VOWELS = ("maximize", "japanese_vowels")
QUICK = ("--restarts", 2, "--steps", 60)
MINE = """
    import torch

    def net():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Conv1d(2, 3, 3, padding=1), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(24, 2))
"""


@pytest.fixture
def typed(tmp_path, monkeypatch, capfd):
    """A command typed in an empty folder: its exit code, what it wrote on standard output, and on standard error."""
    return commands.typed_in(tmp_path, monkeypatch, capfd)


def cells(shown):
    """The rows of a printed table."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if line.startswith("│")]


def test_what_a_class_asks_for_is_written_drawn_and_shown(typed, tmp_path):
    code, shown, said = typed(*VOWELS, "--target", 2, "--like", "japanese_vowels", *QUICK, "-o", "m.nc", "-o", "m.png", "-o", "m.csv")
    assert code == 0, said
    with xr.open_dataset(tmp_path / "m.nc") as found:
        assert found.input.sizes == {"restart": 2, "time": 15, "channel": 12}
        assert found.attrs["seed"] == 0
        series = found.input.values
        logits = found.score.values[:, -1]
        rows = cells(shown)
    probability = sq.Scope(sq.zoo.japanese_vowels()).predict(sq.Sequences(series)).values[:, 2]  # asked of the model itself
    assert (probability > 0.99).all()
    assert [row[0] for row in rows] == ["0", "1"]
    assert [float(row[1]) for row in rows] == pytest.approx(probability, abs=1e-4)
    assert [float(row[2]) for row in rows] == pytest.approx(logits, rel=1e-3)
    assert [row[-1] for row in rows] == ["yes", "yes"]
    table = pd.read_csv(tmp_path / "m.csv")
    np.testing.assert_allclose(table["input"], series.ravel(), rtol=1e-6)
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    for file in ("m.nc", "m.png", "m.csv"):
        assert file in said
    assert "Best real sequence: sample" in shown


def test_options_reach_the_verb(typed, tmp_path):
    options = ("--length", 9, "--seed", 4, "--parameterisation", "raw", "--objective", "logit", "--restarts", 1, "--steps", 5)
    code, _, said = typed(*VOWELS, "--target", 0, *options, "-o", "m.nc")
    assert code == 0, said
    with xr.open_dataset(tmp_path / "m.nc") as found:
        assert found.input.sizes == {"restart": 1, "time": 9, "channel": 12}
        assert (found.attrs["seed"], found.attrs["parameterisation"], found.attrs["objective"], found.attrs["steps"]) == (
            4,
            "raw",
            "logit",
            5,
        )
        reached = bool(found.reached.all())
    assert ("do not reach a probability of 0.99" in said) is not reached  # what falls short is said


def test_a_unit_of_a_layer_is_a_target(typed, tmp_path):
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE))
    real = np.random.default_rng(0).standard_normal((20, 2, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", real)
    code, shown, said = typed("maximize", "mine:net", "--layer", "0", "--unit", 1, "--like", "x.npy", *QUICK, "-o", "u.nc", "-o", "u.svg")
    assert code == 0, said
    import torch

    torch.manual_seed(0)
    filters = torch.nn.Conv1d(2, 3, 3, padding=1)
    with torch.no_grad(), xr.open_dataset(tmp_path / "u.nc") as found:
        made = filters(torch.from_numpy(found.input.transpose("restart", "channel", "time").values))[:, 1, -1].numpy()
        np.testing.assert_allclose(found.score[:, -1], made, rtol=1e-4)
        assert made.min() >= float(filters(torch.from_numpy(real))[:, 1, -1].max()) - 0.1
    assert [float(row[1]) for row in cells(shown)] == pytest.approx(made, rel=1e-2)
    assert "u.svg" in said


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--target", 9, "--like", "japanese_vowels"), 1, "There is no output 9: the model has 9, at positions 0 to 8"),
        (("--target", "anna", "--like", "japanese_vowels"), 1, "There is no output named 'anna'"),
        (("--layer", "lstm", "--unit", 100, "--length", 9), 1, "There is no unit 100"),
        (("--layer", "lstn", "--unit", 1, "--length", 9), 1, "the nearest is 'lstm'"),
        (("--target", 1), 1, "How long the series is to be can't be told: say DATA, data that the model takes, or --length."),
        (("--target", 1, "--like", "three.npy"), 1, "The data has 3 channels and the model takes 12"),
        (("--target", 1, "--like", "none.csv"), 1, "There is no file 'none.csv'"),
        (("--target", 1, "--length", 9, "--objective", "loud"), 1, "There is no objective 'loud'"),
        (("--target", 1, "--length", 9, "--parameterisation", "fourrier"), 1, "the nearest is 'fourier'"),
        (("--target", 1, "--length", 9, "--restarts", 0), 1, "restarts is 0"),
        ((), 2, "say what is to be high"),
        (("--target", 1, "--layer", "lstm", "--unit", 1), 2, "say what is to be high"),
        (("--layer", "lstm"), 2, "a unit is named by both"),
        (("--target", 1, "--unit", 1), 2, "a unit is named by both"),
        (("--target", 1, "--state", "c"), 2, "--state is that of a unit"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_file(typed, tmp_path, arguments, code, sentence):
    np.save(tmp_path / "three.npy", np.zeros((4, 9, 3), np.float32))
    ended, shown, said = typed(*VOWELS, *arguments, "-o", "x.nc", "-o", "x.png")
    assert ended == code
    assert sentence in said
    assert (shown, "Traceback" in said) == ("", False)
    assert [file.name for file in tmp_path.iterdir()] == ["three.npy"]


def test_files_are_seen_to_before_the_work(typed, tmp_path):
    (tmp_path / "there.nc").write_bytes(b"")
    assert "exists" in typed(*VOWELS, "--target", 1, "-o", "there.nc")[2]
    assert "expected an ending" in typed(*VOWELS, "--target", 1, "-o", "m.doc")[2]
    assert "named twice" in typed(*VOWELS, "--target", 1, "-o", "m.nc", "-o", "m.nc")[2]
