"""`seqscope units` as a person types it, in this process: the table, the page and the other files."""

import re
import sys
import textwrap
import warnings
from html import unescape

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from sklearn.metrics import roc_auc_score

from seqscope.cli import main

MINE = """
    import torch

    class Net(torch.nn.Module):
        def __init__(self, **options):
            super().__init__()
            torch.manual_seed(0)
            self.rnn = torch.nn.LSTM(3, 4, batch_first=True, **options)
            self.fc = torch.nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.rnn(x)[0][:, -1])

    def net():
        return Net()

    def stack():
        return Net(num_layers=2)

    def filters():
        torch.manual_seed(0)
        first = torch.nn.Conv1d(3, 4, 3, padding=1)
        with torch.no_grad():
            first.weight[1], first.bias[1] = first.weight[0], first.bias[0]  # does the same
            first.bias[2] = -100.0  # never above zero
        return torch.nn.Sequential(first, torch.nn.ReLU(), torch.nn.Conv1d(4, 2, 3))

    class Reader(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.ids, self.rnn = torch.nn.Embedding(5, 3), torch.nn.GRU(3, 4, batch_first=True)

        def forward(self, x):
            return self.rnn(self.ids(x))[0][:, -1]
"""


@pytest.fixture
def typed(tmp_path, monkeypatch, capfd):
    """A command typed in a folder with models and data: its exit code, its standard output, its standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE))
    random = np.random.default_rng(0)
    series = random.standard_normal((8, 14, 3)).astype(np.float32)
    np.savez("x.npz", X=series, y=np.array(list("aabbabab")))
    np.savez("measured.npz", X=series, y=random.standard_normal(8))
    np.save("filtered.npy", series.transpose(0, 2, 1))
    np.save("ids.npy", random.integers(0, 5, (6, 9)))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["seqscope", "units", *map(str, arguments)])
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # as in a process of its own
            with pytest.raises(SystemExit) as ended:
                main()
        shown, said = capfd.readouterr()
        return ended.value.code, shown, " ".join(said.replace("│", " ").split())

    return run


def test_the_report_is_written_drawn_and_shown(typed, tmp_path):
    code, shown, said = typed("mine:net", "x.npz", "--layer", "rnn", "-o", "u.csv", "-o", "u.nc", "-o", "u.png")
    assert code == 0, said
    with np.load(tmp_path / "x.npz") as arrays:
        X, y = arrays["X"], arrays["y"]
    sys.modules.pop("mine", None)
    import mine

    hidden = mine.net().rnn(torch.from_numpy(X))[0].detach().numpy()
    table = pd.read_csv(tmp_path / "u.csv")
    assert table["unit"].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(table["mean"], hidden.mean((0, 1)), rtol=1e-5, atol=1e-7)
    auroc = [roc_auc_score(y == "a", hidden.mean(1)[:, unit]) for unit in range(4)]
    np.testing.assert_allclose(table["selectivity_a"], auroc)
    with xr.open_dataset(tmp_path / "u.nc") as report:
        np.testing.assert_allclose(report["spread"], hidden.std((0, 1)), rtol=1e-5)
        assert report["left_saturated"].sizes == {"unit": 4, "gate": 3}
    assert (tmp_path / "u.png").read_bytes().startswith(b"\x89PNG")
    strongest = int(np.abs(np.array(auroc) - 0.5).argmax())
    first = next(line for line in shown.splitlines()[::-1] if "AUROC" in line)
    rows = shown.splitlines()[shown.splitlines().index(first) + 2 :]
    assert int(rows[0].split("│")[1]) == strongest
    assert "4 units of 'rnn' written to u.csv" in said
    assert "4 units of 'rnn' drawn in u.png" in said


def test_the_page_holds_what_there_is_and_needs_nothing_else(typed, tmp_path):
    assert typed("mine:net", "x.npz", "--layer", "rnn", "-o", "u.html", "-o", "u.nc")[0] == 0
    page = (tmp_path / "u.html").read_text()
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings[:5] == ["The layer as a whole", "Every unit", "The most telling units", "The unit that tells each class best", "Gates"]
    assert all(heading.startswith("What drives unit") for heading in headings[5:])
    assert len(headings) > 5
    assert page.count("data:image/png;base64,") == 1 + len(headings[5:])
    assert "http" not in re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"<script[^>]*\ssrc", page)  # what moves on it is in it
    names: dict = {}
    for block in re.findall(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL):  # the Python on the page makes what it shows
        exec(unescape(block), names)
    with xr.open_dataset(tmp_path / "u.nc") as report:
        np.testing.assert_allclose(names["report"]["selectivity"], report["selectivity"])


def test_units_that_do_nothing_of_their_own_are_named(typed, tmp_path):
    code, shown, said = typed("mine:filters", "filtered.npy", "--layer", "1", "-o", "u.html")
    assert code == 0, said
    page = (tmp_path / "u.html").read_text()
    assert "Units that do nothing of their own" in page
    idle = page.split("Units that do nothing of their own</h2>")[1].split("</table>")[0]
    assert re.findall(r"<td[^>]*>(.*?)</td>", idle) == ["1", "the same as unit 0", "1.0000", "2", "dead", ""]
    assert "Gates" not in page
    assert "tells each class" not in page  # the data names none
    assert re.search(r"Dead over this data\s*│\s*1 │", shown)


def test_layers_of_every_kind_are_reported_on(typed, tmp_path):
    assert typed("mine:filters", "filtered.npy", "--layer", "2", "-o", "own_clock.html")[0] == 0
    code, _, said = typed("mine:stack", "x.npz", "--layer", "rnn", "-o", "stack.csv")
    assert code == 0
    assert "Warning: 'rnn' is a stack: its gates are told layer by layer, 'rnn.0', 'rnn.1'." in said
    code, _, said = typed("mine:Reader", "ids.npy", "--layer", "rnn", "-o", "ids.html")
    assert code == 0
    assert "Warning: What drives a unit is shown for series only" in said
    code, shown, _ = typed("mine:net", "measured.npz", "--layer", "rnn")  # what is measured is no class; nothing is written
    assert (code, "AUROC" in shown) == (0, False)
    assert {file.name for file in tmp_path.glob("*.html")} == {"own_clock.html", "ids.html"}


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("mine:net", "x.npz", "--layer", "rn"), 1, "No layer is named 'rn': the nearest is 'rnn'"),
        (("mine:net", "x.npz", "--layer", "fc"), 1, "'fc' has no units with a value at each step"),
        (("mine:filters", "filtered.npy", "--layer", "[01]"), 1, "'[01]' stands for several layers, '0', '1'"),
        (("mine:net", "none.npz", "--layer", "rnn"), 1, "There is no file 'none.npz'"),
        (("mine:net", "filtered.npy", "--layer", "rnn"), 1, "The data has 14 channels and the model takes 3"),
        (("mine:filters", "filtered.npy"), 1, "The model has no recurrent layer: name the layer of the units with --layer."),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_file(typed, tmp_path, arguments, code, sentence):
    before = {file.name for file in tmp_path.iterdir() if file.is_file()}
    ended, shown, said = typed(*arguments, "-o", "u.html", "-o", "u.png", "-o", "u.csv")
    assert ended == code
    assert sentence in said
    assert (shown, "Traceback" in said) == ("", False)
    assert {file.name for file in tmp_path.iterdir() if file.is_file()} == before


def test_files_are_seen_to_before_the_work(typed, tmp_path):
    (tmp_path / "there.html").write_text("mine")
    assert "exists" in typed("mine:net", "x.npz", "--layer", "rnn", "-o", "there.html")[2]
    assert "expected an ending out of '.nc'" in typed("mine:net", "x.npz", "--layer", "rnn", "-o", "u.doc")[2]
    assert (tmp_path / "there.html").read_text() == "mine"


def test_of_many_classes_those_that_are_told_best_are_listed():
    from seqscope.report.units import class_table, driven, notable

    told = np.full((3, 40), 0.5)
    told[1, 7], told[2, 8] = 1.0, 0.0
    report = xr.Dataset({"selectivity": (("unit", "label"), told)}, coords={"unit": [10, 11, 12], "label": np.arange(40)})
    table = class_table(report)
    assert table.rows[:2] == [("7", "11", "higher", "1.000"), ("8", "12", "lower", "0.000")]
    assert len(table.rows) == 12
    assert "12 of 40" in table.caption
    assert set(notable(report, 2)) == {11, 12}
    assert driven(report, 1) == [11]  # 12 is lower in its class
