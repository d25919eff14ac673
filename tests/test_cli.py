"""The commands as a person types them: the demo and Ctrl-C in a process of their own, the others in this one."""

import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import roc_auc_score

import seqscope as sq
from seqscope.cli import main

VOWELS = ("activations", "japanese_vowels", "japanese_vowels")


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def seqscope_here(tmp_path, monkeypatch, capfd):
    """A command typed in an empty folder, run in this process."""

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setattr(sys, "argv", ["seqscope", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(ended.value.code, *capfd.readouterr())

    return run


def seqscope(*arguments, cwd=None):
    command = [sys.executable, "-W", "error", "-c", "from seqscope.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd, timeout=300)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, seqscope("demo", "--out", folder)


def test_demo_shows_the_layers_and_says_where_the_files_lie(demo):
    folder, done = demo
    assert (done.returncode, done.stderr) == (0, "")
    rows = [re.split(r"\s*│\s*", line)[1:-1] for line in done.stdout.splitlines() if line.startswith("│")]
    text = " ".join(" ".join(row) for row in rows)
    for part in ("1 input sequence input with 12 dimensions", "lstm LSTM with 100 hidden units", "fc fully connected 9", "softmax softmax"):
        assert all(word in text for word in part.split())
    assert [row[0] for row in rows if row[0]] == ["1", "2", "3", "4"]
    for file in (
        "layers.png",
        "observation.png",
        "hidden_units.png",
        "heatmap.png",
        "explained.png",
        "prototypes.png",
        "units.png",
        "report.html",
    ):
        assert (folder / file).stat().st_size > 5000
        assert file in done.stdout


def test_the_page_needs_nothing_outside_itself(demo):
    page = (demo[0] / "report.html").read_text()
    addresses = re.findall(r"(?:src|href|url|action|@import)\s*[=(]\s*[\"']?([^\"')\s>]+)", page)
    assert addresses
    assert all(address.startswith(("data:image/png;base64,", "#s")) for address in addresses)
    assert "http" not in re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"<script[^>]*\ssrc", page)  # what moves on it is in it


def test_the_page_holds_every_picture_with_words_for_it(demo):
    page = (demo[0] / "report.html").read_text()
    texts = re.findall(r'<img[^>]*alt="([^"]*)"', page)
    assert page.count("data:image/png;base64,") == len(texts) >= 7
    assert all(len(text) > 10 for text in texts)


def test_the_page_says_the_accuracy_that_the_network_has(demo):
    X, y = sq.datasets.japanese_vowels("test")
    right = int((sq.Scope(sq.zoo.japanese_vowels()).predict(X).idxmax("output") == y).sum())
    assert f"Of 370 sequences {right} are given to the right class" in (demo[0] / "report.html").read_text()


def test_the_page_shows_what_each_class_asks_for_and_the_units_that_tell_them(demo):
    page = (demo[0] / "report.html").read_text()
    probability, near, far = map(
        float, re.search(r"probability of ([\d.]+) % or more.* is ([\d.]+) to ([\d.]+) times what is usual", page, re.DOTALL).groups()
    )
    assert probability >= 99
    assert 0 < near < far < 5
    table = page.split("The unit that tells each class best</h2>")[1].split("</table>")[0]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in table.split("<tr>")[2:]]
    assert [row[0] for row in rows] == list("123456789")
    X, y = sq.datasets.japanese_vowels("test")
    mean = sq.Scope(sq.zoo.japanese_vowels()).activations(X, "lstm").mean("time")
    for speaker, unit, _, auroc in rows:
        assert float(auroc) == pytest.approx(roc_auc_score(y == speaker, mean.sel(unit=int(unit))), abs=6e-4)


def test_demo_does_not_write_over_files(demo, seqscope_here):
    again = seqscope_here("demo", "--out", demo[0])
    assert again.returncode == 1
    assert again.stderr.startswith("Error: ")
    assert "--force" in again.stderr
    assert "Traceback" not in again.stderr


def test_layers_shows_the_table(seqscope_here):
    done = seqscope_here("layers", "japanese_vowels", "japanese_vowels")
    assert done.returncode == 0
    assert "45,600" in done.stdout
    assert "time 19" in done.stdout or "time 29" in done.stdout


def test_activations_are_written_and_drawn(seqscope_here, tmp_path):
    arguments = ("activations", "japanese_vowels", "japanese_vowels", "--layer", "lstm", "-o", "h.nc", "--plot", "h.png", "--sample", "2")
    done = seqscope_here(*arguments)
    assert (done.returncode, done.stdout) == (0, "")
    X, _ = sq.datasets.japanese_vowels("test")
    scope = sq.Scope(sq.zoo.japanese_vowels())
    with xr.open_dataarray(tmp_path / "h.nc", engine="h5netcdf") as found:
        xr.testing.assert_allclose(found.load(), scope.activations(X[[2]], "lstm"))
    assert (tmp_path / "h.png").read_bytes().startswith(b"\x89PNG")
    assert "lstm (sample 1, time 19, unit 100) written to h.nc" in done.stderr
    assert "Sample 2 drawn in h.png" in done.stderr
    done = seqscope_here("activations", "japanese_vowels", "japanese_vowels", "--layer", "lstm", "-o", "all.nc")
    with xr.open_dataarray(tmp_path / "all.nc", engine="h5netcdf") as found:
        xr.testing.assert_allclose(found.load(), scope.activations(X, "lstm"))
    assert "sample 370, time 29, unit 100" in done.stderr


def test_activations_of_a_model_and_data_of_ones_own(seqscope_here, tmp_path):
    (tmp_path / "mine.py").write_text(
        textwrap.dedent("""
        import torch
        def net():
            torch.manual_seed(0)
            return torch.nn.Sequential(torch.nn.Conv1d(3, 4, 1), torch.nn.ReLU())
        """)
    )
    array = np.random.default_rng(0).standard_normal((5, 3, 20)).astype(np.float32)  # (sample, channel, time): the model's layout
    np.save(tmp_path / "x.npy", array)
    done = seqscope_here("activations", "mine:net", "x.npy", "--layer", "1", "-o", "a.npz")
    assert done.returncode == 0, done.stderr
    import torch

    torch.manual_seed(0)
    layer = torch.nn.Conv1d(3, 4, 1)
    expected = np.einsum("nct,uc->ntu", array, layer.weight.detach()[:, :, 0]) + layer.bias.detach().numpy()
    with np.load(tmp_path / "a.npz") as found:
        np.testing.assert_allclose(found["activations"], np.maximum(expected, 0), rtol=1e-5, atol=1e-6)


def test_several_layers_go_into_one_file(seqscope_here, tmp_path):
    done = seqscope_here("activations", "japanese_vowels", "japanese_vowels", "--layer", "softmax", "--layer", "l*", "-o", "a.nc")
    assert (done.returncode, done.stdout) == (0, "")
    assert "2 layers written to a.nc" in done.stderr
    X, _ = sq.datasets.japanese_vowels("test")
    expected = sq.Scope(sq.zoo.japanese_vowels()).activations(X, ["softmax", "lstm"])
    with xr.open_datatree(tmp_path / "a.nc", engine="h5netcdf") as found:
        xr.testing.assert_allclose(found.load(), expected)


@pytest.fixture
def drawn(monkeypatch):
    """The panels that a command draws, in place of the look at its picture."""
    made = []
    draw = sq.plot.activations
    monkeypatch.setattr(sq.plot, "activations", lambda *args, **options: made.append(draw(*args, **options)) or made[-1])
    yield made
    plt.close("all")


def test_units_are_drawn_as_lines(seqscope_here, tmp_path, drawn):
    arguments = ("--layer", "lstm", "--unit", "17", "--unit", "3", "--sample", "2", "--plot", "a.png")
    done = seqscope_here("activations", "japanese_vowels", "japanese_vowels", *arguments)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    X, _ = sq.datasets.japanese_vowels("test")
    expected = sq.Scope(sq.zoo.japanese_vowels()).activations(X[2], "lstm")
    first, second = drawn[0]["activations"].get_lines()[:2]
    np.testing.assert_allclose(first.get_ydata(), expected.sel(unit=17), atol=1e-6)
    np.testing.assert_allclose(second.get_ydata(), expected.sel(unit=3), atol=1e-6)


def test_a_glob_that_fits_one_layer_is_drawn(seqscope_here, tmp_path, drawn):
    done = seqscope_here("activations", "japanese_vowels", "japanese_vowels", "--layer", "ls*", "--plot", "a.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert drawn[0]["input"].get_title() == "lstm, sample 0"
    assert drawn[0]["activations"].get_ylabel().startswith("Hidden Unit")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("layers", "nothing"), 1, "no network of the zoo"),
        (("activations", "japanese_vowels", "japanese_vowels", "--layer", "lstn", "-o", "a.nc"), 1, "the nearest is 'lstm'"),
        (("activations", "japanese_vowels", "none.csv", "-o", "a.nc"), 1, "There is no file"),
        (("activations", "japanese_vowels", "japanese_vowels", "-o", "a.xlsx"), 1, "expected an ending"),
        (("activations", "japanese_vowels", "japanese_vowels", "--plot", "a.png"), 1, "one layer, and 3 were asked for, 'lstm', 'fc'"),
        (
            (*VOWELS, "--layer", "fc", "--layer", "lstm", "--plot", "a.png", "-o", "a.nc"),
            1,
            "one layer, and 2 were asked for, 'fc', 'lstm'",
        ),
        ((*VOWELS, "--layer", "fc", "--layer", "lstm", "-o", "a.csv"), 1, "A table holds one layer"),
        ((*VOWELS, "--layer", "fc", "--layer", "lstn", "-o", "a.nc"), 1, "the nearest is 'lstm'"),
        (
            (*VOWELS, "--layer", "lstm", "--unit", "100", "--plot", "a.png", "-o", "a.nc"),
            1,
            "There is no unit 100 in the layer 'lstm'",
        ),
        ((*VOWELS, "--layer", "lstm", "--unit", "x", "--plot", "a.png"), 2, "Invalid value for '--unit'"),
        ((*VOWELS, "--layer", "lstm", "--unit", "3", "-o", "a.nc"), 2, "--unit chooses what a picture shows"),
        (("activations", "japanese_vowels", "japanese_vowels", "--layer", "lstm", "--plot", "a.xyz"), 1, "xyz"),
        (("activations", "japanese_vowels", "japanese_vowels", "--layer", "lstm", "--plot", "a.png", "--sample", "370"), 1, "0 to 369"),
        (("layers", "japanese_vowels", "--layout", "XYZ"), 1, "'NTC', 'NCT', 'TNC'"),
        (("no_such_command",), 2, "No such command"),
    ],
)
def test_mistakes_are_one_sentence_and_an_exit_code(seqscope_here, tmp_path, arguments, code, message):
    done = seqscope_here(*arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_refused_before_any_work(seqscope_here, tmp_path):
    (tmp_path / "a.nc").write_text("mine")
    done = seqscope_here("activations", "japanese_vowels", "japanese_vowels", "--layer", "lstm", "-o", "a.nc")
    assert (done.returncode, (tmp_path / "a.nc").read_text()) == (1, "mine")
    assert "--force" in done.stderr
    forced = seqscope_here("activations", "japanese_vowels", "japanese_vowels", "--layer", "lstm", "-o", "a.nc", "--force")
    assert forced.returncode == 0


def test_ctrl_c_ends_without_a_traceback_or_half_a_file(tmp_path):
    (tmp_path / "slow.py").write_text(
        textwrap.dedent("""
        import time, torch
        class Slow(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = torch.nn.LSTM(2, 2, batch_first=True)
            def forward(self, x):
                print("running", flush=True)
                time.sleep(1)
                return self.fc(x)[0]
        """)
    )
    np.save(tmp_path / "x.npy", np.zeros((5000, 7, 2)))
    command = [
        sys.executable,
        "-c",
        "from seqscope.cli import main; main()",
        "activations",
        "slow:Slow",
        "x.npy",
        "--layer",
        "fc",
        "-o",
        "a.nc",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "running\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in messages
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("__")) == ["slow.py", "x.npy"]


def test_help_of_each_command_has_an_example(seqscope_here):
    for command in ("demo", "layers", "activations", "maximize", "units", "text"):
        assert f"Example: seqscope {command}" in seqscope_here(command, "--help").stdout


def test_version(seqscope_here):
    assert seqscope_here("--version").stdout == f"seqscope {sq.__version__}\n"
