"""Programs of torch.export equal the modules they were made from and the equations: by module and by node, of any shape they take."""

import contextlib
import logging
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import reference as ref
import seqscope as sq
from nets import series
from seqscope.engines.torch import load_weights
from tolerances import assert_close

AUTO, DYNAMIC = torch.export.Dim.AUTO, torch.export.Dim.DYNAMIC


class Block(nn.Module):
    """A convolution whose ReLU is no module."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(3, 4, 3, padding=2, dilation=2), nn.BatchNorm1d(4)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))


class Mixed(nn.Module):
    """Everything at once: a container, a stack both ways, a dense layer called twice, a softmax."""

    def __init__(self, rnn=nn.LSTM):
        super().__init__()
        self.block, self.rnn = Block(), rnn(4, 5, 2, batch_first=True, bidirectional=True)
        self.fc, self.head = nn.Linear(10, 10), nn.Linear(10, 2)

    def forward(self, x):
        h = self.rnn(self.block(x.transpose(1, 2)).transpose(1, 2))[0]
        return torch.softmax(self.head(self.fc(torch.tanh(self.fc(h[:, -1])))), -1)


class Steps(nn.Module):
    """A convolution and a dense layer on each step: it takes any number of steps."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.head = nn.Conv1d(3, 4, 3, stride=2), nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.act(self.conv(x.transpose(1, 2))).mean(-1))


def ready(model):
    torch.manual_seed(0)
    model = model.double().eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d):
            nn.init.normal_(part.running_mean)
    return model


def exported(model, n_samples=4, shapes=None, n_steps=9):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch, about its own weights
        return torch.export.export(model, (torch.tensor(series(n_samples, n_steps)),), dynamic_shapes=shapes)


@pytest.fixture(scope="module")
def mixed():
    return ready(Mixed())


@pytest.fixture(scope="module")
def programs(mixed):
    """Of any batch size, and fixed to one."""
    return {0: exported(mixed, shapes=({0: AUTO},)), 4: exported(mixed), 1: exported(mixed, 1)}


@pytest.fixture(scope="module")
def program(programs):
    """Fixed to 4 samples."""
    return programs[4]


def embedded(mixed, x):
    """What the block gives, (sample, time, unit), by the equations: dilation 2, two zeros on both sides."""
    w, b = ref.weights_of(mixed.block.conv)["weight"], ref.weights_of(mixed.block.conv)["bias"]
    padded = np.pad(x, [(0, 0), (2, 2), (0, 0)])
    conv = sum(padded[:, 2 * tap : 2 * tap + x.shape[1]] @ w[:, :, tap].T for tap in range(3)) + b
    norm = mixed.block.norm
    mean, var = norm.running_mean.numpy(), norm.running_var.numpy()
    scale = ref.weights_of(norm)
    return conv, ref.relu((conv - mean) / np.sqrt(var + norm.eps) * scale["weight"] + scale["bias"])


@pytest.mark.parametrize("size", [0, 4, 1])
def test_values_equal_the_equations(size, programs, mixed):
    scope, x = sq.Scope(programs[size]), series(6)
    conv, block = embedded(mixed, x)
    first, last = (np.array(layer) for layer in zip(*ref.stacks(mixed.rnn, block), strict=True))
    assert_close(scope.activations(x, "block.conv"), conv)
    found = scope.activations(x, ["rnn.0", "rnn.1", "rnn"])
    for name, expected in {"rnn.0": first, "rnn.1": last, "rnn": last}.items():
        assert found[name].activations.dims == ("sample", "time", "unit")
        assert_close(found[name].activations, expected)
    once = ref.linear(mixed.fc, last[:, -1])
    logits = ref.linear(mixed.head, ref.linear(mixed.fc, np.tanh(once)))
    assert_close(scope.activations(x, "fc").sel(call=0), once)
    assert_close(scope.activations(x, "head"), logits)
    assert_close(scope.predict(x), ref.softmax(logits))


def test_nodes_are_seen_by_their_names(program, mixed):
    scope, x = sq.Scope(program), series(6)
    _, block = embedded(mixed, x)
    relu = scope.activations(x, "relu")
    assert relu.attrs["layer_type"] == "aten.relu.default"
    for found in (relu, scope.activations(x, "block")):
        assert found.dims == ("sample", "time", "unit")
        assert_close(found, block)
    assert_close(scope.activations(x, "linear_1"), scope.activations(x, "fc").sel(call=1))
    assert_close(scope.activations(x, "softmax"), scope.predict(x))
    with pytest.raises(sq.errors.LayerError, match=r"the nearest .*'softmax'"):
        scope.activations(x, "softmux")


def test_table(program, mixed):
    scope = sq.Scope(program)
    rows = {layer.name: (layer.kind, layer.description, layer.n_params) for layer in scope.layers}
    assert rows == {
        "block.conv": ("conv1d", "Conv1d with 4 filters of 3 steps", 40),
        "block.norm": ("batch_norm", "BatchNorm1d", 16),
        "rnn.0": ("lstm", "bidirectional LSTM with 5 hidden units", 2 * (20 * 9 + 40)),
        "rnn.1": ("lstm", "bidirectional LSTM with 5 hidden units", 2 * (20 * 15 + 40)),
        "fc": ("linear", "fully connected 10", 110),
        "head": ("linear", "fully connected 2", 22),
    }
    assert scope.layers.n_params == sum(p.numel() for p in mixed.parameters()) + 8
    assert (scope.layers.input.layout, scope.layers.model) == ("NTC", "Mixed")
    assert {layer.name: layer.calls for layer in scope.layers}["fc"] == 2


def test_states_equal_the_module_s_own(program, mixed):
    x = series(6)
    found, expected = sq.Scope(program).states(x), sq.Scope(mixed).states(x)
    for name in ("rnn.0", "rnn.1"):
        for state in "hcifgo":
            assert_close(found[name][state], expected[name][state])
    memory, own = sq.Scope(program).memory(x, "rnn.1"), sq.Scope(mixed).memory(x, "rnn.1")
    assert_close(memory.written, own.written)


@pytest.mark.parametrize("rnn", [nn.GRU, nn.RNN, lambda n, _, *rest, **options: nn.LSTM(n, 7, *rest, proj_size=5, **options)])
def test_states_of_every_cell(rnn):
    model, x = ready(Mixed(rnn)), series(6)
    found, expected = sq.Scope(exported(model)).states(x), sq.Scope(model).states(x)
    for name in ("rnn.0", "rnn.1"):
        for state in expected[name].data_vars:
            assert_close(found[name][state], expected[name][state])


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("saliency", {}),
        ("integrated_gradients", {"steps": 8}),
        ("occlusion", {}),
        ("feature_ablation", {}),
        ("grad_cam", {"layer": "block.conv"}),
        ("integrated_gradients", {"steps": 8, "layer": "head"}),
    ],
)
def test_attribution_is_that_of_the_module(method, options, program, mixed):
    x, layer = series(6), {name: value for name, value in options.items() if name == "layer"}
    chosen = {name: value for name, value in options.items() if name != "layer"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an untrained model does not choose the output
        found, expected = (sq.Scope(model).attribute(x, method, target=1, **layer, **chosen) for model in (program, mixed))
    assert found.attrs["score"] == "logit"
    if method == "grad_cam":
        found, expected = found.native, expected.native
    assert_close(found, expected)


class Tokens(nn.Module):
    """Tokens through a GRU that takes the time first, of which the last step is read."""

    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.head = nn.Embedding(20, 4), nn.GRU(4, 5), nn.Linear(5, 3)

    def forward(self, ids):
        return self.head(self.rnn(self.embed(ids).transpose(0, 1))[0][-1])


def test_tokens_and_time_first_in_a_program_of_one_sample():
    model, ids = ready(Tokens()), np.random.default_rng(0).integers(0, 20, (6, 7))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch, about its own weights
        scope, own = sq.Scope(torch.export.export(model, (torch.tensor(ids[:1]),))), sq.Scope(model)
    assert_close(scope.predict(ids), own.predict(ids))
    for name in ("embed", "rnn"):
        found, expected = scope.activations(ids, name), own.activations(ids, name)
        assert found.dims == expected.dims == ("sample", "time", "unit")
        assert_close(found, expected)
    assert_close(scope.states(ids, "rnn").z, own.states(ids, "rnn").z)
    assert_close(scope.attribute(ids, "occlusion", target=1), own.attribute(ids, "occlusion", target=1))
    assert_close(scope.attribute(ids, "saliency", target=1, layer="embed"), own.attribute(ids, "saliency", target=1, layer="embed"))


def test_steps_of_any_number():
    model = ready(Steps())
    scope, own = sq.Scope(exported(model, shapes=({0: DYNAMIC, 1: DYNAMIC},))), sq.Scope(model)
    lists = [series(1, n)[0] for n in (9, 5, 14, 5)]
    assert_close(scope.predict(lists), own.predict(lists))
    for name in ("conv", "act"):
        found, expected = scope.activations(lists, name), own.activations(lists, name)
        assert found.dims == expected.dims
        assert_close(found, expected)
        assert found.time.equals(expected.time)
    assert [layer.sees for layer in scope.layers] == [layer.sees for layer in own.layers]


def test_program_is_left_as_it_was_and_its_buffers_too():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x):
            self.count.add_(1)
            return self.fc(x).mean(1) + self.count

    model, x = ready(Counting()), series()
    program = exported(model)
    before = {name: value.clone() for name, value in program.state_dict.items()}
    state = torch.get_rng_state()
    first = sq.Scope(program, layout="NTC").predict(x)
    sq.Scope(program, layout="NTC").attribute(x, "saliency", target=lambda output: output.sum(1))
    assert_close(first, sq.Scope(program, layout="NTC").predict(x))
    assert all(torch.equal(value, before[name]) for name, value in program.state_dict.items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in program.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_call_feeds_a_program_of_several_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x, scale):
            return self.fc(x).mean(1) * scale

    model, x = ready(Two()), series(6)
    program = torch.export.export(model, (torch.tensor(series()), torch.ones(1).double()))
    scope = sq.Scope(program, call=lambda run, batch, lengths: run(batch, torch.full((1,), 2.0).double()))
    assert_close(scope.predict(x), 2 * ref.linear(model.fc, x).mean(1))


# What is refused


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda scope, x: scope.predict(x[:, :7]), "exported for an input of 4 x 9 x 3: export it with dynamic_shapes="),
        (lambda scope, x: scope.predict(x[:, :, :2]), "2 channels and the model takes 3"),
        (lambda scope, x: scope.attribute(x, "grad_cam", layer="rnn", target=0), "inside the recurrence of 'rnn' can't be had"),
        (
            lambda scope, x: scope.attribute(x, "saliency", target=sq.target.unit("rnn.1", 1, state="c", time=-1, direction="forward")),
            "load the weights into",
        ),
        (lambda scope, x: scope.stream(check=x[:1]), "can't be streamed"),
        (lambda scope, x: scope.states(x, "fc"), "has no states"),
    ],
)
def test_what_can_t_be_done_is_told(program, ask, told):
    with pytest.raises(sq.errors.SeqscopeError, match=told) as error:
        ask(sq.Scope(program), series(6))
    assert "Traceback" not in str(error.value)


def test_program_that_was_taken_apart_says_so(program, mixed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch, about its own ways
        scope, x = sq.Scope(program.run_decompositions()), series(6)
    with pytest.raises(sq.errors.UnsupportedError, match=r"'rnn' .*can't be told: the program has it taken apart"):
        scope.states(x, "rnn")
    assert_close(scope.predict(x), sq.Scope(mixed).predict(x))
    assert_close(scope.activations(x, "head"), sq.Scope(mixed).activations(x, "head"))
    with pytest.raises(sq.errors.ModelError, match="holds its own already"):
        load_weights(scope.model, None)


# Files


def test_file_is_opened_only_where_it_is_trusted(program, mixed, tmp_path):
    torch.export.save(program, tmp_path / "net.pt2")
    with pytest.raises(sq.errors.ModelError, match=r"torch\.export\.load unpickles, .*trust=True.*torch.onnx.export"):
        sq.Scope(tmp_path / "net.pt2")
    scope, own, x = sq.Scope(tmp_path / "net.pt2", trust=True), sq.Scope(mixed), series(6)
    assert type(scope.model) is torch.export.ExportedProgram
    assert [layer.name for layer in scope.layers] == [layer.name for layer in own.layers]
    assert_close(scope.predict(x), own.predict(x))
    assert_close(scope.activations(x, "rnn.0"), own.activations(x, "rnn.0"))


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_file_does_run_code_when_torch_opens_it(program, tmp_path):
    """What the refusal is for: torch falls back on Python's pickle where an example input is more than tensors."""
    torch.export.save(program, tmp_path / "net.pt2")
    gone_off = tmp_path / "gone_off"
    with zipfile.ZipFile(tmp_path / "net.pt2") as source, zipfile.ZipFile(tmp_path / "bomb.pt2", "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("sample_inputs/model.pt"):
                torch.save((Bomb(gone_off),), tmp_path / "inputs.pt", pickle_module=pickle)
                content = (tmp_path / "inputs.pt").read_bytes()
            target.writestr(name, content)
    with pytest.raises(sq.errors.ModelError, match="trust=True"):
        sq.Scope(tmp_path / "bomb.pt2")
    assert not gone_off.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(sq.errors.ModelError):
            sq.Scope(tmp_path / "bomb.pt2", trust=True)
    assert gone_off.exists()


@pytest.mark.parametrize("part", [0.2, 0.7])
def test_file_that_is_cut_off_is_told(part, program, tmp_path, caplog):
    torch.export.save(program, tmp_path / "whole.pt2")
    whole = (tmp_path / "whole.pt2").read_bytes()
    (tmp_path / "net.pt2").write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(sq.errors.ModelError, match=r"net\.pt2"):
        sq.Scope(tmp_path / "net.pt2", trust=True)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
