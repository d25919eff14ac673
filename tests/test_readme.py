"""What the documents say runs, and the files that they name are there."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

import story_files

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


class TakesLengths(torch.nn.Module):
    """The model of the block on `call=`."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(12, 4, batch_first=True)

    def forward(self, batch, lengths):
        return self.lstm(batch)[0][torch.arange(len(batch)), lengths - 1]


def test_every_python_block_of_the_readme_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    story_files.write_network(tmp_path / "vowels.onnx")
    story_files.write_data(tmp_path / "vowels.mat")
    monkeypatch.setattr("seqscope.explorer._is_interactive", lambda: True)  # the page is not waited for
    monkeypatch.setattr("webbrowser.open", lambda url: None)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 11
    names = {"model": TakesLengths()}
    for block in blocks:
        exec(block, names)
        if "call=" in block:
            assert names["scope"].predict(names["X"][:3]).sizes == {"sample": 3, "output": 4}
    assert names["hidden"].sizes == {"time": 19, "unit": 100}
    assert names["hidden_of_file"].sizes == {"sample": 370, "time": 29, "unit": 100}
    assert names["everything"].sizes == {"sample": 370, "time": 29, "unit": 100}
    assert names["probability"].sizes == {"sample": 370, "output": 9}
    assert names["states"].c.sizes == names["memory"].written.sizes == {"sample": 370, "time": 29, "unit": 100}
    assert list(names["seen"].states["lstm"]) == ["h", "c", "i", "f", "g", "o"]
    assert names["found"].sizes == {"step": 50, "unit": 128}
    assert [int(names["found"][name][place]) for name, place in (("time_end", 0), ("time_start", -1), ("time_end", -1))] == [52, 245, 297]
    assert names["why"].sizes == {"time": 19, "channel": 12}
    assert names["inside"].sizes == {"time": 19, "unit": 100}
    assert names["maps"].sizes == {"sample": 20, "time": 29}
    assert names["asked"].sizes["restart"] == 3
    assert float(names["asked"].probability.min()) > 0.99
    assert names["windows"].sizes["window"] == 6
    assert names["paths"].sizes == {"sample": 370, "time": 29, "component": 2}
    assert names["lost"].sizes == {"unit": 10}
    assert names["recording"].is_complete
    assert names["page"].is_running
    names["page"].stop()
    assert names["one_unit"].equals(names["everything"].sel(unit=17))
    assert names["of_cells"]["mean"].sizes == {"unit": 100}
    assert names["evidence"]["map"].sizes == {"sample": 20, "time": 300}
    assert "LSTM with 100 hidden units" in capsys.readouterr().out
    plt.close("all")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_files_that_a_page_names_are_there(page):
    text = (ROOT / page).read_text()
    named = re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(
        r"`((?:examples|engines|plot|benchmarks)/[\w./]+|\w+\.(?:py|toml|md|txt))`", text
    )
    assert named
    missing = [name for name in named if not any((base / name).exists() for base in (ROOT, ROOT / "src/seqscope"))]
    assert not missing


def test_every_command_of_the_readme_is_a_target_or_a_command():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?<![:\w])make (\w+)", README))
    assert {"demo", "test", "check", "bench", "setup"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
