"""`seqscope match` as a person types it, in this process: what it finds, shows, draws and writes."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import commands
import seqscope as sq

MINE = """
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.rnn, self.conv = torch.nn.LSTM(3, 6, batch_first=True), torch.nn.Conv1d(6, 5, 3, stride=2)

        def forward(self, x):
            return self.conv(self.rnn(x)[0].transpose(1, 2)).mean(2)
"""
STRETCH = ("--sample", 2, "--from", 3, "--to", 6, "--threshold", 0.1)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE))
    series = np.cumsum(np.random.default_rng(0).standard_normal((9, 16, 3)), axis=1).astype(np.float32) / 2
    xr.Dataset(
        {"X": (("sample", "time", "channel"), series)}, coords={"sample": [f"s{number}" for number in range(9)], "time": range(16)}
    ).to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
    return tmp_path


@pytest.fixture
def typed(folder, monkeypatch, capfd):
    yield commands.typed_in(folder, monkeypatch, capfd)
    plt.close("all")


def hidden(folder):
    """What the recurrent layer puts out, by torch itself."""
    names = {}
    exec((folder / "mine.py").read_text(), names)
    with xr.open_dataset(folder / "x.nc", engine="h5netcdf") as data, torch.no_grad():
        return names["Net"]().rnn(torch.from_numpy(data["X"].values))[0].numpy()


def runs(values, units, threshold):
    """Every longest run of steps in which all units are on: (sample, start, stop), found the slow way."""
    found = []
    for sample, steps in enumerate((values[..., units] >= threshold).all(axis=2)):
        start = None
        for step, on in enumerate([*steps, False]):
            if on and start is None:
                start = step
            if not on and start is not None:
                found.append((f"s{sample}", start, step))
                start = None
    return found


@pytest.mark.parametrize("around", [1, 0])
def test_it_finds_every_place_where_the_units_of_the_stretch_are_on(typed, folder, around):
    stretch = ("--sample", 4, "--from", 9, "--to", 13, "--threshold", 0.1, "--before", around, "--after", around)
    code, shown, said = typed("match", "mine:Net", "x.nc", *stretch, "--most", 100, "-o", "m.csv", "-o", "m.nc")
    assert (code, shown) == (0, ""), said
    values = hidden(folder)
    inside, beside = values[4, 9:13] >= 0.1, values[4, [8, 13]] >= 0.1
    expected = np.flatnonzero(inside.all(axis=0) & ~(beside.any(axis=0) & bool(around))).tolist()
    assert len(expected) == (1 if around else 2)
    with xr.open_dataset("m.nc", engine="h5netcdf") as found:
        assert found["unit"].values.tolist() == expected
    table = pd.read_csv("m.csv")
    places = set(zip(table["sample"], table["start"], table["stop"], strict=True))
    assert places == {run for run in runs(values, expected, 0.1) if run != ("s4", 9, 13)}
    assert table["score"].is_monotonic_decreasing
    assert f"{len(places)} of {len(places)} places written to m.csv" in said


def test_without_a_file_the_places_are_listed_the_best_first(typed):
    code, shown, said = typed("match", "mine:Net", "x.nc", *STRETCH, "--unit", 1, "--most", 2, "--threshold", 0.05)
    assert (code, said) == (0, "")
    assert "Sample 2, steps 3 to 5: 1 unit is at 0.05 or above, 1." in shown
    rows = [line for line in shown.splitlines() if line.startswith("│")]
    assert len(rows) == 2
    assert "The best 2 of " in shown


def test_the_stretch_and_the_best_places_are_drawn(typed, folder, monkeypatch):
    drawn = []
    heatmap = sq.plot.heatmap
    monkeypatch.setattr(sq.plot, "heatmap", lambda values, **options: drawn.append(values) or heatmap(values, **options))
    arguments = ("match", "mine:Net", "x.nc", *STRETCH, "--unit", 1, "--unit", 3, "--threshold", -0.2)
    code, _, said = typed(*arguments, "--plot", "m.png", "-o", "m.csv")
    assert code == 0, said
    assert (folder / "m.png").read_bytes().startswith(b"\x89PNG")
    table, values = pd.read_csv("m.csv"), hidden(folder)
    assert len(drawn) == 1 + min(8, len(table))
    first = drawn[0]
    assert first["unit"].values.tolist() == [1, 3]
    np.testing.assert_allclose(first, values[2, first["time"].values][:, [1, 3]], atol=1e-6)
    assert {3, 4, 5} <= set(first["time"].values.tolist())
    assert drawn[1]["sample"].item() == table["sample"][0]


def test_states_and_layers_with_steps_of_their_own(typed, folder):
    code, _, said = typed("match", "mine:Net", "x.nc", *STRETCH, "--unit", 1, "--state", "c", "--most", 100, "-o", "c.csv")
    assert code == 0, said
    import mine

    cells = sq.Scope(mine.Net()).states(sq.read("x.nc"), "rnn")["c"].values
    places = set(pd.read_csv("c.csv")[["sample", "start", "stop"]].itertuples(index=False, name=None))
    assert places == {(sample, start, stop) for sample, start, stop in runs(cells, [1], 0.1) if sample != "s2" or stop <= 3 or start >= 6}
    code, _, said = typed(
        *("match", "mine:Net", "x.nc", "--layer", "conv", "--sample", 0, "--from", 1, "--to", 3),
        *("--unit", 0, "--threshold", -1, "-o", "own.nc", "--plot", "own.png"),
    )
    assert code == 0, said
    with xr.open_dataset("own.nc", engine="h5netcdf") as found:
        assert found.attrs["layer"] == "conv"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--sample", 9, "--from", 1, "--to", 2), 1, "There is no sample 9: the data has 9 samples, at 0 to 8."),
        (("--sample", 2, "--from", 9, "--to", 40), 1, "The stretch from 9 to 40 is not within sample s2, which has 16 steps"),
        (("--sample", 2, "--from", 4, "--to", 4), 1, "expected 0 <= start < stop <= 16"),
        (("--sample", 2, "--from", 4, "--to", 6, "--threshold", 0.99), 1, "No unit is at 0.99 or above from step 4 to 5 of sample s2"),
        (("--sample", 2, "--from", 4, "--to", 6), 1, "--before 0 and --after 0 let units be on around it too, and --unit names them"),
        (("--sample", 0, "--from", 8, "--to", 10), 1, "would select unit"),
        (("--sample", 2, "--from", 4, "--to", 6, "--unit", 6), 1, "There is no unit 6"),
        (("--sample", 2, "--from", 4, "--to", 6, "--state", "z"), 1, "'rnn' has no state 'z'"),
        (("--sample", 2, "--from", 4), 2, "Missing option '--to'"),
        (("--sample", 2, "--from", 4, "--to", 6, "--most", 0), 2, "'--most'"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_file(typed, folder, arguments, code, sentence):
    before = {path.name for path in folder.iterdir() if path.is_file()}
    ended, shown, said = typed("match", "mine:Net", "x.nc", *arguments, "-o", "m.nc", "-o", "m.png")
    assert ended == code
    assert sentence in said
    assert (shown, "Traceback" in said) == ("", False)
    assert {path.name for path in folder.iterdir() if path.is_file()} == before
