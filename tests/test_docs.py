"""The pages of docs/: what they say in Python and in commands runs, on files as MATLAB and R write them."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnx
import pytest
import xarray as xr

import onnx_nets
import seqscope as sq
import story_files
from seqscope.cli import main

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def brought(tmp_path_factory):
    """The files that the pages speak of."""
    folder = tmp_path_factory.mktemp("brought")
    story_files.write_network(folder / "vowels.onnx")
    story_files.write_data(folder / "vowels.mat")
    story_files.write_keras2(folder / "net.h5")
    story_files.write_table(folder / "speech.csv")
    return folder


@pytest.fixture
def folder(brought, tmp_path, monkeypatch):
    """A folder with these files, in which the commands are typed."""
    shutil.copytree(brought, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    plt.close("all")


def blocks(page, language):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.DOTALL | re.MULTILINE)
    return [block for own, block in found if own == language]


def run(page):
    names = {}
    for block in blocks(page, "python"):
        exec(block, names)
    return names


def test_the_page_for_matlab_users(folder, capsys):
    names = run("matlab.md")
    assert [layer.name for layer in names["scope"].layers] == ["lstm", "fc", "softmax"]
    assert "sequence input with 12 dimensions" in capsys.readouterr().out
    assert names["hidden"].sizes == {"time": 19, "unit": 100}
    assert names["everything"].sizes == names["states"].c.sizes == {"sample": 370, "time": 29, "unit": 100}
    assert names["X"].labels.dtype.kind == "i"
    assert float((names["scope"].predict(names["X"]).idxmax("output").astype(int) == names["X"].labels).mean()) > 0.9
    assert list(names["seen"].states["lstm"]) == ["h", "c", "i", "f", "g", "o"]
    assert names["difference"] < 1e-5
    assert names["why"].sizes == {"time": 19, "channel": 12}
    assert names["asked"].attrs["target"] == "3"


def test_the_page_for_r_users(folder):
    with pytest.warns(UserWarning, match=r"written by Keras 2.* repaired for Keras 3: .* time_major=False"):
        names = run("r.md")
    X, y = sq.datasets.japanese_vowels("test")
    assert names["X"].labels.tolist() == list(map(int, y[:20]))
    np.testing.assert_allclose(names["hidden"], sq.Scope(sq.zoo.japanese_vowels()).activations(X[:20], "lstm"), atol=1e-5)
    assert list(names["states"]) == ["h", "c", "i", "f", "g", "o"]
    assert names["same"]
    assert names["ragged"].sizes == {"sample": 2, "time": 19, "unit": 100}
    assert {"sample", "time", "unit", "activations"} <= set(names["frame"])


def test_the_page_on_onnx(folder):
    names = run("onnx.md")
    assert names["last"].sizes["sample"] == 370
    assert names["hiding"].sizes == {"sample": 4, "time": 19, "channel": 12}
    assert names["same"]


def test_the_page_on_recording(folder):
    names = run("recording.md")
    everything = names["scope"].activations(names["X"], "lstm")
    np.testing.assert_array_equal(names["hidden"], everything)
    np.testing.assert_array_equal(names["one_sequence"], everything[3])
    np.testing.assert_array_equal(names["one_unit"], everything.sel(unit=17))
    assert names["cell"].sizes == {"sample": 370, "time": 29, "unit": 100}
    np.testing.assert_allclose(names["mean"], everything.mean(("sample", "time")), atol=1e-6)
    assert list(map(len, names["whence"][:2])) == [64, 64]
    assert names["report"].sizes["unit"] == 100
    assert names["wrong"] == []
    assert "float32 written as float16" in names["stated"]
    assert 0 < names["found"] < 2**-11
    assert names["recording"].is_complete
    assert names["of_speech"].activations("lstm").sizes["sample"] == 20
    assert names["elsewhere"].layers == ("fc",)


def test_the_methods_that_the_page_on_onnx_names_are_those_that_are_refused(folder):
    scope, X = sq.Scope("vowels.onnx"), sq.read("vowels.mat")
    _, refused = (ROOT / "docs" / "onnx.md").read_text().split("## What does not")
    named = {name for name in re.findall(r"`(\w+)`", refused.split("## Recurrent layers")[0]) if name in sq.attribution.METHODS}
    assert {"gradient", "grad_cam", "instances"} <= named
    for name in sq.attribution.METHODS:
        if name in named or name in ("cam", "temporal_saliency_rescaling"):  # these for reasons of their own, and not for every network
            with pytest.raises(sq.errors.UnsupportedError):
                scope.attribute(X[0], name)
        else:
            scope.attribute(X[0], name)


@pytest.mark.filterwarnings("ignore:.*repaired for Keras 3")  # a notice, see above
@pytest.mark.parametrize("page", [page.name for page in PAGES])
def test_every_command_of_a_page_runs(folder, monkeypatch, capfd, page):
    story_files.write_data(folder / "vowels.mat", slice(None, None, 10))  # fewer, for what is drawn of all of them
    commands = [line for block in blocks(page, "") for line in block.splitlines() if line.startswith("seqscope ")]
    assert commands or page == "onnx.md"
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, (command, capfd.readouterr().err)
    written = {path.name for path in folder.iterdir()}
    assert set(re.findall(r"(?:-o|--plot) (\S+)", "\n".join(commands))) <= written


@pytest.mark.parametrize("page", [page.name for page in PAGES])
def test_the_files_and_verbs_that_a_page_names_are_there(page):
    text = (ROOT / "docs" / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#:]+)[^)]*\)", text) if not link.startswith("http")]
    assert not [link for link in links if not (ROOT / "docs" / link).exists()]
    assert not [verb for verb in re.findall(r"\bscope[.$](\w+)", text) if not hasattr(sq.Scope, verb)]
    assert not [
        name for room, name in re.findall(r"\bsq[.$](plot|units|target|attribution)[.$](\w+)", text) if not hasattr(getattr(sq, room), name)
    ]


@pytest.mark.parametrize(("opset", "n_batch"), [(14, "N"), (8, 1), (11, 4)])
def test_a_network_out_of_matlab_shows_what_the_same_network_shows_in_torch(folder, opset, n_batch):
    """The picture that people ask for: the first ten hidden units of an utterance, at every step."""
    onnx.checker.check_model(str(story_files.write_network(folder / "net.onnx", opset=opset, n_batch=n_batch)))
    scope, torch_scope = sq.Scope("net.onnx"), sq.Scope(sq.zoo.japanese_vowels())
    data, (X, y) = sq.read("vowels.mat"), sq.datasets.japanese_vowels("test")
    assert data.labels.tolist() == list(map(int, y))
    np.testing.assert_allclose(scope.predict(data), torch_scope.predict(X), atol=1e-5)
    hidden = scope.activations(data, "lstm")
    np.testing.assert_allclose(hidden, torch_scope.activations(X, "lstm"), atol=1e-5)
    states, expected = scope.states(data[:20], "lstm"), torch_scope.states(X[:20], "lstm")
    assert list(states) == list(expected)
    xr.testing.assert_allclose(states.drop_vars("label"), expected.drop_vars("label"), atol=1e-5)
    axes = sq.plot.heatmap(hidden[0].isel(unit=slice(10)), title="LSTM Activations")
    drawn = np.ma.filled(axes.images[0].get_array() if axes.images else axes.collections[0].get_array(), np.nan).reshape(10, -1)
    np.testing.assert_allclose(drawn[:, :19], torch_scope.activations(X[0], "lstm").transpose("unit", "time")[:10], atol=1e-5)


def test_a_file_that_fixes_the_number_of_steps_takes_that_number_alone():
    scope = sq.Scope(onnx_nets.recurrent_net(n_time=12, n_batch=1).model)
    assert scope.predict(np.zeros((12, 2, 3))).sizes == {"sample": 2, "output": 4}
    with pytest.raises(sq.errors.ModelError, match="fixes the number of steps at 12, and a sequence has 7: give sequences of 12 steps"):
        scope.predict([np.zeros((12, 3)), np.zeros((7, 3))])


def test_the_page_about_the_explorer():
    names = run("explorer.md")
    assert names["address"].startswith("http://127.0.0.1:")
    assert not names["served"].is_running
