"""The report as a person types it."""

import json

import numpy as np
import pytest

from commands import typed_in

MINE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv1d(2, 3, 5), nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(self.conv(x).mean(-1))
"""


@pytest.fixture
def seqscope_here(tmp_path, monkeypatch, capfd):
    (tmp_path / "mine.py").write_text(MINE)
    np.savez(tmp_path / "data.npz", X=np.random.default_rng(0).standard_normal((6, 30, 2)).astype("float32"), y=np.arange(6) % 2)
    return typed_in(tmp_path, monkeypatch, capfd)


def test_a_page_is_written_and_says_what_was_typed(seqscope_here, tmp_path):
    typed = ("report", "mine:Net", "data.npz", "-o", "report.html", "-o", "again.html", "--sample", 3, "--quiet")
    assert seqscope_here(*typed) == (0, "", "")
    page = (tmp_path / "report.html").read_text()
    assert "seqscope report mine:Net data.npz -o report.html" in page
    assert "files.open_model(&#39;mine:Net&#39;)" in page
    assert "Below, sample 3: 30 steps." in page
    assert (tmp_path / "again.html").read_text() == page


def test_where_it_lies_is_said_as_json(seqscope_here):
    code, shown, said = seqscope_here("report", "mine:Net", "data.npz", "-o", "report.html", "--json")
    assert code == 0
    assert json.loads(shown) == {"files": ["report.html"]}
    assert "Report on mine:Net written to report.html" in said


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["-o", "report.pdf"], "A report is a page: 'report.pdf' should end in .html."),
        (["-o", "there.html"], "'there.html' exists"),
        (["--sample", "9"], "There is no sample 9: the data has 6 samples, at 0 to 5."),
        (["--layer", "cov"], "There is no layer 'cov'"),
        (["--method", "magic"], "This model can't be explained by 'magic'"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(seqscope_here, tmp_path, more, sentence):
    (tmp_path / "there.html").write_text("mine")
    before = {path.name for path in tmp_path.iterdir()}
    code, shown, said = seqscope_here("report", "mine:Net", "data.npz", *more)
    assert (code, shown) == (1, "")
    assert said.startswith("Error: ")
    assert sentence in said
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == before
    assert (tmp_path / "there.html").read_text() == "mine"
