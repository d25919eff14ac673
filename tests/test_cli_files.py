"""Model files as commands take them: MODEL and its options are the same for all commands."""

import inspect
import os
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import seqscope as sq
from seqscope import files
from seqscope.cli import app
from seqscope.cli.model import ModelGiven
from test_cli import seqscope_here  # noqa: F401, a fixture

MINE = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0][:, -1]
"""


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a module that makes a network, and weights for it."""
    (tmp_path / "net_of_mine.py").write_text(MINE)
    weights = {name.replace("0.", "rnn."): value for name, value in nn.Sequential(nn.LSTM(3, 4)).state_dict().items()}
    torch.save(weights, tmp_path / "w.pt")
    np.save(tmp_path / "x.npy", np.zeros((2, 5, 3), np.float32))
    return tmp_path


@pytest.mark.parametrize("said", [("w.pt", "--factory", "net_of_mine:Net"), ("net_of_mine:Net", "--weights", "w.pt")])
def test_a_file_of_weights_and_what_makes_the_model(folder, seqscope_here, said):  # noqa: F811
    done = seqscope_here("activations", said[0], "x.npy", *said[1:], "--layer", "rnn", "-o", "h.npz")
    assert done.returncode == 0, done.stderr
    rnn = nn.LSTM(3, 4, batch_first=True)
    rnn.load_state_dict({name.removeprefix("rnn."): value for name, value in torch.load(folder / "w.pt").items()})
    with np.load(folder / "h.npz") as found:
        np.testing.assert_allclose(found["activations"], rnn(torch.zeros(2, 5, 3))[0].detach().numpy(), atol=1e-6)


def test_a_file_of_weights_alone(folder, seqscope_here):  # noqa: F811
    done = seqscope_here("layers", "w.pt")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Error: 'w.pt' holds weights alone" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pickled_network_is_opened_where_it_is_trusted(folder, seqscope_here):  # noqa: F811
    torch.save(nn.Sequential(nn.LSTM(3, 4)), folder / "whole.pt")
    refused, opened = seqscope_here("layers", "whole.pt"), seqscope_here("layers", "whole.pt", "--trust")
    assert (refused.returncode, opened.returncode) == (1, 0)
    assert "trust=True" in refused.stderr
    assert "144 parameters" in opened.stdout


def test_a_pickle_bomb_does_not_go_off(folder, seqscope_here):  # noqa: F811
    (folder / "net.pkl").write_bytes(pickle.dumps(Bomb(folder / "went_off")))
    done = seqscope_here("layers", "net.pkl")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--trust" in done.stderr
    assert not (folder / "went_off").exists()


def test_every_command_that_takes_a_model_takes_its_options():
    commands = {command.callback.__name__: inspect.signature(command.callback).parameters for command in app.registered_commands}
    taking = {name: list(parameters) for name, parameters in commands.items() if "model" in parameters}
    assert set(commands) - set(taking) <= {"demo", "doctor", "explore"}
    for parameters in taking.values():
        assert parameters[0] == "model"
        assert parameters[-5:] == ["weights", "factory", "trust", "framework", "layout"]


@pytest.mark.parametrize(
    "given",
    [
        ModelGiven("japanese_vowels", None, None, False, "torch", None),
        ModelGiven("japanese_vowels", None, None, False, "torch", "NTC"),
        ModelGiven("w.pt", None, "net_of_mine:Net", True, "torch", None),
    ],
)
def test_the_code_of_a_model_makes_the_scope_that_the_command_made(folder, monkeypatch, given):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    made = eval(given.code, {"sq": sq, "files": files})
    assert repr(made) == repr(given.scope())
