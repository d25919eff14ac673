"""TorchScript: predicted with, perturbed, left as it was; for its inside there is one sentence."""

import contextlib
import warnings
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

import reference as ref
import seqscope as sq
from nets import series
from tolerances import assert_close

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of making them; opening a file is quiet


@pytest.fixture
def programs(reader, block, tmp_path):
    """The reader scripted, traced, frozen, and out of a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer
        made = {"scripted": torch.jit.script(reader), "traced": torch.jit.trace(reader, torch.tensor(block))}
    torch.jit.save(made["scripted"], tmp_path / "net.pt")
    return made | {"frozen": torch.jit.freeze(made["scripted"]), "file": tmp_path / "net.pt"}


@pytest.mark.parametrize("kind", ["scripted", "traced", "frozen", "file"])
def test_predictions_and_perturbation_are_those_of_the_module(programs, kind, reader, block):
    scope, eager = sq.Scope(programs[kind]), sq.Scope(reader)
    last = ref.hidden(reader.rnn, block)[:, -1]
    assert_close(scope.predict(block), ref.softmax(ref.linear(reader.fc, last)))
    own = lambda output: torch.log(output[:, 1])  # noqa: E731  the logits of a program can't be seen
    for method in ("occlusion", "feature_ablation"):
        assert_close(scope.attribute(block, method, target=own), eager.attribute(block, method, target=own))


@pytest.mark.parametrize("kind", ["scripted", "traced", "file"])
def test_table_holds_the_modules_that_have_weights(programs, kind):
    scope = sq.Scope(programs[kind])
    found = [(layer.name, layer.kind, layer.description, layer.n_params, layer.calls) for layer in scope.layers]
    assert found == [("rnn", "lstm", "LSTM with 5 hidden units", 200, None), ("fc", "linear", "fully connected 2", 12, None)]
    assert "not reached" not in repr(scope.layers)
    assert scope.layers.input.layout == "NTC"


@pytest.mark.parametrize(
    "ask",
    [
        lambda scope, x: scope.activations(x, "rnn"),
        lambda scope, x: scope.activations(x),
        lambda scope, x: scope.states(x, "rnn"),
        lambda scope, x: scope.states(x),
        lambda scope, x: scope.memory(x),
        lambda scope, x: scope.stream(check=x[:1]),
        lambda scope, x: scope.ablate("rnn", [0]).__enter__(),
    ],
)
def test_inside_is_refused_in_a_sentence_that_says_what_to_do(programs, block, ask):
    with pytest.raises(sq.errors.SeqscopeError, match=r"export the model to ONNX .* or load its weights into the nn.Module"):
        ask(sq.Scope(programs["scripted"]), block)


def test_derivatives_are_refused_and_methods_without_are_named(programs, block):
    with pytest.raises(sq.errors.UnsupportedError, match=r"needs derivatives, and TorchScript models have none here: use .*occlusion"):
        sq.Scope(programs["scripted"]).attribute(block, "saliency")


class Counting(nn.Module):
    """Keeps what it saw in attributes that are no buffers, writes into one in place, and a buffer."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.last, self.count, self.kept = torch.zeros(2), 0, [torch.zeros(2)]
        self.register_buffer("total", torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.fc(x).mean(1) + self.last
        self.last = y.mean(0)
        self.count += 1
        self.kept.append(self.last)
        self.kept[0] += 1.0
        self.total += 1.0
        return y


def test_program_is_left_as_it_was(block):
    program = torch.jit.script(Counting())
    program.train()
    kept = program.last
    for ask in (lambda: sq.Scope(program).predict(block), lambda: sq.Scope(program, call=_failing).predict(block)):
        with contextlib.suppress(sq.errors.ModelError):
            ask()
        assert (program.count, len(program.kept), program.training) == (0, 1, True)
        assert program.last is kept
        assert not any(bool(tensor.any()) for tensor in (program.last, program.kept[0], program.total))
    expected = block.astype(np.float32) @ program.fc.weight.detach().numpy().T + program.fc.bias.detach().numpy()
    assert_close(sq.Scope(program, layout="NTC").predict(block), expected.mean(1), "float32")


def _failing(program, batch, lengths):
    program(batch)
    raise KeyboardInterrupt if batch is None else ValueError("after the program ran")


def test_failing_program_says_its_last_line(programs):
    with pytest.raises(sq.errors.SeqscopeError) as error:
        sq.Scope(programs["scripted"]).predict(series(n_channels=4))
    assert "Traceback" not in str(error.value)
    assert "4 channels" in str(error.value)


# What may run


class Acting(nn.Module):
    """Writes a file, when it is called and when it is opened."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path
        self.register_buffer("weight", torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.from_file(self.path, True, 3).fill_(1.0)

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, str, bool]:
        return self.weight, self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, str, bool]) -> None:
        self.path, self.training = state[1], state[2]
        self.weight = torch.from_file(self.path, True, 3).fill_(1.0)


class Loading(nn.Module):
    """Reads a file when it is called."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("secret", False, 1)


def test_program_that_touches_files_is_opened_only_where_it_is_trusted(tmp_path):
    made = tmp_path / "made"
    torch.jit.save(torch.jit.script(Acting(str(made))), tmp_path / "net.pt")
    with pytest.raises(sq.errors.ModelError, match="may do more than compute: it names '__setstate__', 'from_file'"):
        sq.Scope(tmp_path / "net.pt")
    assert not made.exists()
    sq.Scope(tmp_path / "net.pt", trust=True)
    assert made.exists()  # torch runs a program's __setstate__ while it opens it: this is what the refusal is for
    torch.jit.save(torch.jit.script(Loading()), tmp_path / "reads.pt")
    with pytest.raises(sq.errors.ModelError, match="'from_file'"):
        sq.Scope(tmp_path / "reads.pt")


@pytest.mark.parametrize("hidden", ["NET/CODE/__torch__/extra.PY", "net/code/__torch__/extra.py", "net/model.json"])
def test_source_is_found_where_torch_would_find_it(hidden, programs, tmp_path):
    with zipfile.ZipFile(programs["file"]) as source, zipfile.ZipFile(tmp_path / "twice.pt", "w") as target, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two parts of one name
        for name in source.namelist():
            target.writestr(name, source.read(name))
        for content in (b"torch.from_file()", b"pass"):
            target.writestr(hidden, content)
    with pytest.raises(sq.errors.ModelError, match="may do more than compute"):
        sq.Scope(tmp_path / "twice.pt")


def test_operations_on_files_are_those_that_are_looked_for():
    """Of all operations that torch's interpreter knows, by their arguments."""
    schemas = torch._C._jit_get_all_schemas()
    on_files = {
        schema.name
        for schema in schemas
        for argument in schema.arguments
        if str(argument.type) == "str" and any(word in argument.name for word in ("file", "path", "dir", "url"))
    }
    assert on_files == {"aten::save", "aten::from_file"}


def test_opening_is_quiet_and_a_damaged_program_is_told(programs, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sq.Scope(programs["file"])
    whole = programs["file"].read_bytes()
    place = whole.index(b"code/__torch__")
    (tmp_path / "damaged.pt").write_bytes(whole[:place] + b"\x00" * 40 + whole[place + 40 :])
    with pytest.raises(sq.errors.ModelError, match=r"damaged\.pt"):
        sq.Scope(tmp_path / "damaged.pt")
