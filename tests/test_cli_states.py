"""`seqscope states` as a person types it, in this process, and the form of the files that it writes."""

import sys
import textwrap
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import seqscope as sq
from seqscope.cli import main

VOWELS = ("states", "japanese_vowels", "japanese_vowels")
MINE = """
    import torch

    class Net(torch.nn.Module):
        def __init__(self, **options):
            super().__init__()
            torch.manual_seed(0)
            self.rnn = torch.nn.LSTM(3, 4, batch_first=True, **options)
            self.fc = torch.nn.Linear(3, 3)

        def forward(self, x):
            return self.rnn(self.fc(x))[0]

    def net():
        return Net()

    def both():
        return Net(bidirectional=True)

    def stack():
        return Net(num_layers=2)

    def none():
        return torch.nn.Sequential(torch.nn.Conv1d(3, 2, 1))
"""


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def typed(tmp_path, monkeypatch, capfd):
    """A command typed in a folder with a model and data of one's own, run in this process."""
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE))
    random = np.random.default_rng(0)
    np.savez(
        tmp_path / "x.npz", X=random.standard_normal((3, 6, 3)).astype(np.float32), lengths=np.array([6, 4, 5]), y=np.array(list("abc"))
    )
    monkeypatch.delitem(sys.modules, "mine", raising=False)

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setattr(sys, "argv", ["seqscope", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(ended.value.code, *capfd.readouterr())

    yield run
    sys.modules.pop("mine", None)
    plt.close("all")


def expected(tmp_path, name, layer):
    """What the scope gives for the same model and data."""
    names = {}
    exec((tmp_path / "mine.py").read_text(), names)
    with np.load(tmp_path / "x.npz") as held:
        X = sq.Sequences(held["X"], lengths=held["lengths"], labels=held["y"])
    return sq.Scope(names[name]()).states(X, layer)


def test_states_are_written_and_drawn(typed, tmp_path):
    done = typed(*VOWELS, "--layer", "lstm", "-o", "s.nc", "--plot", "s.png", "--sample", "2")
    assert (done.returncode, done.stdout) == (0, "")
    X, _ = sq.datasets.japanese_vowels("test")
    with xr.open_dataset(tmp_path / "s.nc", engine="h5netcdf") as found:
        xr.testing.assert_allclose(found.load(), sq.Scope(sq.zoo.japanese_vowels()).states(X[[2]], "lstm"))
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    assert "lstm (sample 1, time 19, unit 100) written to s.nc" in done.stderr
    assert "Sample 2 drawn in s.png" in done.stderr


def test_npz_holds_every_state_and_coordinate(typed, tmp_path):
    done = typed("states", "mine:net", "x.npz", "--layer", "rnn", "-o", "s.npz")
    assert done.returncode == 0, done.stderr
    states = expected(tmp_path, "net", "rnn")
    with np.load(tmp_path / "s.npz", allow_pickle=False) as found:
        assert set(found) == {*states.data_vars, *states.coords}
        for name in states.variables:
            np.testing.assert_array_equal(found[name], states[name])


def test_csv_has_a_row_a_step_and_a_column_a_unit(typed, tmp_path):
    done = typed("states", "mine:net", "x.npz", "--layer", "rnn", "-o", "s.csv")
    assert done.returncode == 0, done.stderr
    states, table = expected(tmp_path, "net", "rnn"), pd.read_csv(tmp_path / "s.csv")
    assert list(table.columns) == ["sample", "time", "length", "label", *(f"{state}_{unit}" for state in "hcifgo" for unit in range(4))]
    assert table["sample"].tolist() == [0] * 6 + [1] * 4 + [2] * 5
    assert table["time"].tolist() == [*range(6), *range(4), *range(5)]
    assert table["label"].tolist() == list("aaaaaabbbbccccc")
    row = table[(table["sample"] == 1) & (table["time"] == 3)].iloc[0]
    for state in "hcifgo":
        np.testing.assert_allclose([row[f"{state}_{unit}"] for unit in range(4)], states[state][1, 3], rtol=1e-6)


def test_csv_tells_the_directions_apart(typed, tmp_path):
    done = typed("states", "mine:both", "x.npz", "--layer", "rnn", "-o", "s.csv")
    assert done.returncode == 0, done.stderr
    states, table = expected(tmp_path, "both", "rnn"), pd.read_csv(tmp_path / "s.csv")
    assert len(table) == 15
    found = table.query("sample == 2 and time == 1")["c_backward_3"].item()
    assert found == pytest.approx(float(states.c.sel(direction="backward")[2, 1, 3]), rel=1e-6)


def test_a_stack_goes_into_one_file(typed, tmp_path):
    done = typed("states", "mine:stack", "x.npz", "--layer", "rnn", "-o", "s.nc")
    assert done.returncode == 0, done.stderr
    assert "2 layers written to s.nc" in done.stderr
    with xr.open_datatree(tmp_path / "s.nc", engine="h5netcdf") as found:
        xr.testing.assert_allclose(found.load(), expected(tmp_path, "stack", "rnn"))
    again = typed("states", "mine:stack", "x.npz", "--layer", "rnn.1", "--layer", "rnn.0", "-o", "t.npz")
    assert again.returncode == 0, again.stderr
    with np.load(tmp_path / "t.npz") as found:
        np.testing.assert_array_equal(found["rnn.1/c"], expected(tmp_path, "stack", "rnn.1").c)


def test_without_a_layer_every_recurrent_one_is_written(typed, tmp_path):
    done = typed("states", "mine:net", "x.npz", "-o", "s.nc", "--plot", "s.png")
    assert done.returncode == 0, done.stderr
    assert "1 layer written to s.nc" in done.stderr
    with xr.open_datatree(tmp_path / "s.nc", engine="h5netcdf") as found:
        assert list(found.children) == ["rnn"]


@pytest.fixture
def drawn(monkeypatch):
    """The panels that a command draws, in place of the look at its picture."""
    made = []
    draw = sq.plot.states
    monkeypatch.setattr(sq.plot, "states", lambda *args, **options: made.append(draw(*args, **options)) or made[-1])
    return made


def test_the_units_of_one_sample_are_drawn(typed, tmp_path, drawn):
    done = typed("states", "mine:net", "x.npz", "--layer", "rnn", "--unit", "2", "--unit", "0", "--sample", "1", "--plot", "s.png")
    assert done.returncode == 0, done.stderr
    lines = drawn[0]["c"].get_lines()
    states = expected(tmp_path, "net", "rnn")
    for line, unit in zip(lines[:2], (2, 0), strict=True):
        np.testing.assert_allclose(line.get_ydata(), states.c[1, :4, unit], atol=1e-6)
    assert drawn[0]["input"].get_title() == "rnn, sample 1"


def test_both_directions_are_drawn_side_by_side(typed, tmp_path, drawn):
    done = typed("states", "mine:both", "x.npz", "--layer", "rnn", "--plot", "s.svg")
    assert done.returncode == 0, done.stderr
    assert [panels["input"].get_title() for panels in drawn] == ["rnn, sample 0, forward", "rnn, sample 0, backward"]
    assert (tmp_path / "s.svg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((*VOWELS, "--layer", "fc", "-o", "a.nc"), 1, "'fc' (Linear) is a layer of kind 'linear' and has no states: ask for one of 'lstm'"),
        ((*VOWELS, "--layer", "lstn", "-o", "a.nc"), 1, "the nearest is 'lstm'"),
        ((*VOWELS, "-o", "a.csv"), 1, "A table holds one layer"),
        ((*VOWELS, "--unit", "1", "-o", "a.nc"), 2, "--unit chooses what a picture shows"),
        ((*VOWELS, "--plot", "a.png", "--unit", "100", "-o", "a.nc"), 1, "There is no unit 100"),
        (("states", "mine:none", "x.npz", "-o", "a.nc"), 1, "has no recurrent layer, so no states"),
        (("states", "mine:stack", "x.npz", "--layer", "rnn", "--plot", "a.png"), 1, "A picture shows one layer, and 2 were asked for"),
    ],
)
def test_mistakes_are_one_sentence_and_an_exit_code(typed, tmp_path, arguments, code, message):
    done = typed(*arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert {path.name for path in tmp_path.iterdir() if path.name != "__pycache__"} == {"mine.py", "x.npz"}


def test_help_has_an_example(typed):
    assert "Example: seqscope states" in typed("states", "--help").stdout
