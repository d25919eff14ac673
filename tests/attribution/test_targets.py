"""Targets: which score is explained. Outputs, steps of them, units, gates and cells, functions; and the logit before a softmax."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from torch import nn

import reference_states as ref
import seqscope as sq
from nets import Net, series
from seqscope.errors import DataError, LayerError, ModelError, UnsupportedError

# Random nets seldom believe in the output that a test asks for; there is one test of that warning below.
pytestmark = pytest.mark.filterwarnings("ignore:.*below chance")

unit, output = sq.target.unit, sq.target.output


def ending_in(end, outputs=3):
    """A dense layer `fc` over the mean of a GRU's h, and what `end` makes of the logits."""
    return Net(lambda net, x: end(net.fc(net.rnn(x)[0].mean(dim=1))), rnn=nn.GRU(3, 4, batch_first=True), fc=nn.Linear(4, outputs))


def at_every_step(end=lambda z: z, outputs=3):
    """The same with an output at every step."""
    return Net(lambda net, x: end(net.fc(net.rnn(x)[0])), rnn=nn.GRU(3, 4, batch_first=True), fc=nn.Linear(4, outputs))


def by_autograd(score, x):
    """A score's derivative, from torch's own machinery on the model as it is."""
    tensor = torch.tensor(x, requires_grad=True)
    scores = score(tensor)
    assert scores.shape == (len(x),)
    return scores.detach().numpy(), torch.autograd.grad(scores.sum(), tensor)[0].numpy()


def logits_of(model, x):
    """What the dense layer gives, whatever comes after it."""
    h = model.rnn(x)[0]
    return model.fc(h.mean(dim=1))


def assert_explains(found, score, x, share=1e-9):
    """The array is the derivative of this score, and says its value."""
    scores, expected = by_autograd(score, x)
    np.testing.assert_allclose(found.score, scores, rtol=1e-9)
    np.testing.assert_allclose(found, expected, rtol=0, atol=share * abs(expected).max())
    assert abs(expected).max() > 1e-6


# The score is the logit


class Method(nn.Module):
    def forward(self, x):
        return x.softmax(-1)


LOOKED_THROUGH = {
    "a module": (nn.Softmax(dim=-1), "softmax"),
    "a module of a module": (nn.Sequential(nn.Identity(), nn.Softmax(dim=1)), "softmax"),
    "a method": (Method(), "softmax"),
    "functional": (lambda z: F.softmax(z, dim=1), "softmax"),
    "functional by keyword": (lambda z: F.softmax(input=z, dim=1), "softmax"),
    "torch": (lambda z: torch.softmax(z, 1), "softmax"),
    "special": (lambda z: torch.special.softmax(z, 1), "softmax"),
    "log_softmax": (lambda z: F.log_softmax(z, dim=-1), "log_softmax"),
    "log_softmax module": (nn.LogSoftmax(dim=-1), "log_softmax"),
    "special log_softmax": (lambda z: torch.special.log_softmax(z, 1), "log_softmax"),
    "sigmoid": (torch.sigmoid, "sigmoid"),
    "sigmoid module": (nn.Sigmoid(), "sigmoid"),
    "sigmoid in place": (lambda z: z.sigmoid_(), "sigmoid"),
    "expit": (torch.special.expit, "sigmoid"),
    "logsigmoid": (F.logsigmoid, "log_sigmoid"),
    "and a new axis taken away": (lambda z: F.softmax(z[:, None], dim=-1).squeeze(1), "softmax"),
    "and a view": (lambda z: F.softmax(z, dim=-1).view(-1, 3).contiguous(), "softmax"),
    "turned": (lambda z: F.softmax(z.T, dim=0).T, "softmax"),
    "turned by mT": (lambda z: F.softmax(z.mT, dim=0).mT, "softmax"),
    "of the log": (lambda z: F.log_softmax(z, dim=-1).exp(), "log_softmax"),
    "then its log": (lambda z: F.softmax(z, dim=-1).log(), "softmax"),
    "one by one": (lambda z: torch.stack([torch.sigmoid(one) for one in z.unbind(1)], dim=1), "sigmoid"),
    "one behind the other": (lambda z: torch.cat([torch.sigmoid(z[:, :1]), torch.sigmoid(z[:, 1:])], dim=1), "sigmoid"),
    "in a tuple": (lambda z: (F.softmax(z, dim=-1), z.sum(1)), "softmax"),
    "in a dict": (lambda z: {"probability": F.softmax(z, dim=-1)}, "softmax"),
}


@pytest.mark.parametrize("how", LOOKED_THROUGH)
def test_a_last_softmax_or_sigmoid_is_looked_through(how):
    end, name = LOOKED_THROUGH[how]
    model, x = ending_in(end), series(3, 5)
    found = sq.Scope(model).attribute(x, "gradient", target=2)
    assert found.attrs["score"] == "logit"
    assert found.attrs["looked_through"] == name
    assert_explains(found, lambda tensor: logits_of(model, tensor)[:, 2], x)


def overwritten(z):
    p = F.softmax(z, dim=-1)
    return p.mul_(torch.tensor([1.0, 2.0, 3.0], dtype=p.dtype))


def logits_overwritten(z):
    z = z * 1
    p = F.log_softmax(z, dim=-1)
    z.mul_(3)
    return p


NOT_LAST = {
    "raw logits": lambda z: z,
    "inside": lambda z: torch.tanh(F.softmax(z, dim=-1) @ torch.ones(3, 3, dtype=z.dtype).tril()),
    "times a number": lambda z: 2 * F.softmax(z, dim=-1),
    "clamped": lambda z: F.softmax(z, dim=-1).clamp(1e-9, 1),
    "logits written over": logits_overwritten,
    "different ones": lambda z: torch.cat([torch.sigmoid(z[:, :1]), F.softmax(z[:, 1:], dim=-1)], dim=1),
    "beside a number": lambda z: torch.cat([torch.sigmoid(z[:, :2]), z[:, 2:]], dim=1),
}


@pytest.mark.parametrize("how", NOT_LAST)
def test_what_is_not_a_last_softmax_is_left_alone(how):
    model, x = ending_in(NOT_LAST[how]), series(3, 5)
    found = sq.Scope(model).attribute(x, "gradient", target=2)
    assert "looked_through" not in found.attrs
    assert_explains(found, lambda tensor: model(tensor)[:, 2], x)


def test_probabilities_that_were_written_over_are_not_looked_through():
    """Torch can't go back through this one, and another score in its place would be worse than an error."""
    scope = sq.Scope(ending_in(overwritten))
    with pytest.raises(ModelError, match="can't be differentiated: RuntimeError: one of the variables"):
        scope.attribute(series(3, 5), "gradient", target=2)
    found = scope.attribute(series(3, 5), "occlusion", target=2)
    with torch.no_grad():
        np.testing.assert_allclose(found.score, scope.model(torch.tensor(series(3, 5)))[:, 2])


def test_a_softmax_that_cannot_be_looked_through_is_said_to_be_a_probability():
    model, x = ending_in(lambda z: F.softmax(z, dim=-1).clamp(1e-9, 1)), series(3, 5)
    assert sq.Scope(model).attribute(x, "gradient", target=2).attrs["score"] == "probability"


def test_attention_inside_a_model_is_no_last_softmax():
    model = Net(lambda net, x: net.fc((F.softmax(net.weigh(x), dim=1) * x).sum(dim=1)), weigh=nn.Linear(3, 1), fc=nn.Linear(3, 2))
    x = series(3, 5)
    found = sq.Scope(model).attribute(x, "gradient", target=1)
    assert "looked_through" not in found.attrs
    assert_explains(found, lambda tensor: model(tensor)[:, 1], x)


@pytest.mark.parametrize("shape", ["(N, 1)", "(N,)"])
@pytest.mark.parametrize("target", [None, 0])
def test_one_output_with_a_sigmoid(shape, target):
    model, x = ending_in(lambda z: torch.sigmoid(z) if shape == "(N, 1)" else torch.sigmoid(z).squeeze(-1), 1), series(3, 5)
    found = sq.Scope(model).attribute(x, "gradient", target=target)
    assert (found.attrs["score"], found.attrs["looked_through"]) == ("logit", "sigmoid")
    assert_explains(found, lambda tensor: logits_of(model, tensor)[:, 0], x)
    assert "predicted" not in found.coords


@pytest.mark.parametrize("shape", ["(N, 1)", "(N,)"])
def test_a_regression(shape):
    model, x = ending_in(lambda z: z if shape == "(N, 1)" else z[:, 0], 1), series(3, 5)
    found = sq.Scope(model, outputs=["height"]).attribute(x, "gradient", target="height")
    assert found.attrs["score"] == "output"
    assert found.target.values.tolist() == ["height"] * 3
    assert_explains(found, lambda tensor: logits_of(model, tensor)[:, 0], x)
    assert sq.Scope(model).attribute(x, "gradient").equals(sq.Scope(model).attribute(x, "gradient", target=0))


# Outputs


def test_the_predicted_output_is_each_sequences_own():
    model, x = ending_in(nn.Softmax(dim=-1)), series(24, 5)
    with torch.no_grad():
        model.fc.bias -= logits_of(model, torch.tensor(x)).median(dim=0).values
        best = logits_of(model, torch.tensor(x)).argmax(1)
    assert len(set(best.tolist())) > 1  # or nothing is told apart
    found = sq.Scope(model, outputs=["a", "b", "c"]).attribute(x, "gradient")
    assert_explains(found, lambda tensor: logits_of(model, tensor)[torch.arange(24), best], x)
    assert found.attrs["target"] == "the predicted output"
    assert found.target.values.tolist() == found.predicted.values.tolist() == ["abc"[place] for place in best]


ONE_EACH = {
    "list": ["a", "c", "b", "a"],
    "positions": [0, 2, 1, 0],
    "tuple": (0, 2, 1, 0),
    "array": np.array([0, 2, 1, 0]),
    "array of names": np.array(["a", "c", "b", "a"]),
    "tensor": torch.tensor([0, 2, 1, 0]),
    "DataArray": xr.DataArray([0, 2, 1, 0], dims="sample"),
    "Series": pd.Series(["a", "c", "b", "a"], index=[7, 8, 9, 10]),
    "output": output(["a", "c", "b", "a"]),
}


@pytest.mark.parametrize("kind", ONE_EACH)
def test_one_target_for_each_sequence(kind):
    model, x = ending_in(lambda z: z), series(4, 5)
    found = sq.Scope(model, outputs=["a", "b", "c"]).attribute(x, "gradient", target=ONE_EACH[kind])
    assert_explains(found, lambda tensor: model(tensor)[torch.arange(4), torch.tensor([0, 2, 1, 0])], x)
    assert found.target.values.tolist() == ["a", "c", "b", "a"]


def test_one_target_for_each_goes_with_its_sequence_whatever_the_lengths():
    x, scope = series(4, 9), sq.Scope(ending_in(lambda z: z), outputs=["a", "b", "c"])
    ragged = [x[0][:5], x[1], x[2][:7], x[3][:5]]
    found = scope.attribute(ragged, "gradient", target=["a", "c", "b", "b"])
    for place, name in enumerate(["a", "c", "b", "b"]):
        alone = scope.attribute([ragged[place]], "gradient", target=name)
        np.testing.assert_allclose(found[place, : len(ragged[place])], alone[0], rtol=1e-9)
    assert found.target.values.tolist() == ["a", "c", "b", "b"]


@pytest.mark.parametrize("target", ["b", 1, np.int64(1), np.str_("b"), torch.tensor(1), output("b"), output(1)])
def test_one_target_for_all(target):
    model, x = ending_in(lambda z: z), series(2, 5)
    found = sq.Scope(model, outputs=["a", "b", "c"]).attribute(x, "gradient", target=target)
    assert_explains(found, lambda tensor: model(tensor)[:, 1], x)
    assert found.attrs["target"] == "b"


@pytest.mark.parametrize(
    ("target", "match"),
    [
        (3, "There is no output 3: the model has 3, at positions 0 to 2, named 'a', 'b', 'c'"),
        (-1, "There is no output -1"),
        ("d", "There is no output named 'd'"),
        (1.0, r"There is no output named 1.0: a position is a whole number, 1 \(in R 1L\)"),
        ([0, 1], "2 targets were given for 4 sequences"),
        (range(3), "3 targets were given for 4 sequences"),
        (np.array([[0, 1]]), r"The targets have shape \(1, 2\): expected one for all sequences, or \(sample\)"),
        (output("a", time=0), "has one output for each sequence, without steps: leave time out"),
    ],
)
def test_outputs_that_are_not_there(target, match):
    with pytest.raises(DataError, match=match):
        sq.Scope(ending_in(lambda z: z), outputs=["a", "b", "c"]).attribute(series(), "gradient", target=target)


# Outputs at every step


@pytest.mark.parametrize("end", [lambda z: z, nn.Softmax(dim=-1), lambda z: F.log_softmax(z, -1)])
@pytest.mark.parametrize("time", [0, 3, -1, -5, np.int64(2)])
def test_an_output_at_one_step(end, time):
    model, x = at_every_step(end), series(3, 5)
    found = sq.Scope(model).attribute(x, "gradient", target=output(1, time=time))
    assert_explains(found, lambda tensor: model.fc(model.rnn(tensor)[0])[:, time, 1], x)
    assert found.attrs["target"].endswith(f"at step {time}")
    assert found.predicted.values.tolist() == model(torch.tensor(x))[:, time].argmax(-1).tolist()


def test_an_output_at_every_step_of_ragged_sequences():
    model, x = at_every_step(nn.Softmax(dim=-1)), series(3, 6)
    ragged, scope = [x[0][:4], x[1], x[2][:4]], sq.Scope(model)
    found = scope.attribute(ragged, "gradient", target=output(1, time="all"))
    assert found.sizes == {"sample": 3, "output_time": 6, "time": 6, "channel": 3}
    assert found.score.dims == found.target.dims == ("sample", "output_time")
    for place, one in enumerate(ragged):
        for step in range(len(one)):
            _, expected = by_autograd(lambda tensor, step=step: model.fc(model.rnn(tensor)[0])[:, step, 1], one[None])
            np.testing.assert_allclose(found[place, step, : len(one)], expected[0], atol=1e-12)
    rest = found[0]
    assert np.isnan(rest[4:]).all()
    assert np.isnan(rest[:, 4:]).all()
    assert np.isnan(found.score[0, 4:]).all()
    assert not found[1, 2, 3:].any()  # what comes later speaks for nothing
    single = scope.attribute(x[1], "gradient", target=output(1, time="all"))
    assert single.dims == ("output_time", "time", "channel")
    np.testing.assert_allclose(single, found[1], atol=1e-12)


@pytest.mark.parametrize("method", ["integrated_gradients", "expected_gradients", "smooth_grad"])
def test_every_step_is_explained_as_each_step_alone(method):
    """Noise goes by the sequence, so that steps can be compared."""
    scope, x = sq.Scope(at_every_step()), series(2, 4)
    options = {"steps": 5} if method == "integrated_gradients" else {"draws": 3}
    options |= {"reference": series(3, 4, seed=3)} if method == "expected_gradients" else {}
    every = scope.attribute(x, method, target=output(None, time="all"), memory=1, **options)
    for step in range(4):
        alone = scope.attribute(x, method, target=output(None, time=step), **options)
        np.testing.assert_allclose(every.isel(output_time=step), alone, atol=1e-10)
        assert every.target.isel(output_time=step).values.tolist() == alone.target.values.tolist()
        np.testing.assert_allclose(every.score.isel(output_time=step), alone.score)
    if method == "integrated_gradients":
        assert every.gap.dims == ("sample", "output_time")


def test_outputs_on_a_clock_of_their_own():
    """Of a model whose output has as many classes as its input has steps, the steps are still told by their axis."""
    model = Net(lambda net, x: net.conv(x), conv=nn.Conv1d(3, 9, 3, stride=2))
    x, scope = series(2, 9).transpose(0, 2, 1), sq.Scope(model)
    with pytest.raises(DataError, match="There is no output step 4 in sequence 0, which has 4"):
        scope.attribute(x, "gradient", target=output(8, time=4))
    found = scope.attribute(x, "gradient", target=output(8, time=-1))
    weights = model.conv.weight.detach().numpy()[8].T
    np.testing.assert_allclose(found[0, 6:9], weights, rtol=1e-9)
    assert not found[0, :6].any()
    every = scope.attribute(x, "gradient", target=output(8, time="all"))
    assert every.sizes == {"sample": 2, "output_time": 4, "time": 9, "channel": 3}


def test_one_output_at_every_step_without_an_axis_for_it():
    model, x = at_every_step(lambda z: torch.sigmoid(z[..., 0]), 1), series(3, 5)
    found = sq.Scope(model).attribute(x, "gradient", target=output(time=-2))
    assert (found.attrs["score"], found.attrs["looked_through"]) == ("logit", "sigmoid")
    assert_explains(found, lambda tensor: model.fc(model.rnn(tensor)[0])[:, -2, 0], x)


@pytest.mark.parametrize("target", [None, 1, output(1)])
def test_with_an_output_at_every_step_the_step_must_be_said(target):
    with pytest.raises(DataError, match="The model has an output at every step: say which"):
        sq.Scope(at_every_step()).attribute(series(), "gradient", target=target)


@pytest.mark.parametrize(("time", "has"), [(5, 4), (4, 4), (-5, 4)])
def test_steps_that_the_shortest_sequence_lacks(time, has):
    x = series(2, 9)
    with pytest.raises(DataError, match=rf"There is no output step {time} in sequence 1, which has {has}"):
        sq.Scope(at_every_step()).attribute([x[0], x[1][:4]], "gradient", target=output(0, time=time))


def test_every_step_at_a_layer_is_refused():
    with pytest.raises(UnsupportedError, match="time='all' explains every output step at the input alone"):
        sq.Scope(at_every_step()).attribute(series(), "gradient", target=output(0, time="all"), layer="rnn")


# Units, gates and cells


def differences(score, x, step=1e-5):
    """The derivative of a score of one sequence with respect to each of its values."""
    found = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        moved = np.zeros(x.shape)
        moved[place] = step
        found[place] = (score(x + moved) - score(x - moved)) / (2 * step)
    return found


STATES = [
    *[(nn.LSTM, state) for state in "hcifgo"],
    *[(nn.GRU, state) for state in "hrzn"],
    *[(nn.RNN, state) for state in "ha"],
]


@pytest.mark.parametrize(("cell", "state", "time_first"), [*((*one, False) for one in STATES), (nn.LSTM, "c", True), (nn.GRU, "z", True)])
def test_states_of_a_stack_that_runs_both_ways(cell, state, time_first):
    """Every gate and cell at a step, of the second layer's backward half, against the equations."""
    model = Net(
        lambda net, x: net.fc(net.rnn(x)[0].select(0 if time_first else 1, -1)),
        rnn=cell(3, 2, num_layers=2, bidirectional=True, batch_first=not time_first),
        fc=nn.Linear(4, 2),
    )
    x = series(2, 4)

    def score(one):
        below = [
            ref._torch_direction(model.rnn, f"_l0{end}", one[::way], None, None)["h"][::way] for end, way in (("", 1), ("_reverse", -1))
        ]
        steps = ref._torch_direction(model.rnn, "_l1_reverse", np.concatenate(below, axis=1)[::-1], None, None)[state]
        return steps[::-1][1, 1]  # backward is aligned to the input's time

    native = x.transpose(1, 0, 2) if time_first else x
    found = sq.Scope(model).attribute(native, "gradient", target=unit("rnn.1", 1, state=state, time=-3, direction="backward"))
    np.testing.assert_allclose(found.score, [score(one) for one in x], rtol=1e-9)
    np.testing.assert_allclose(found, [differences(score, one) for one in x], atol=1e-8)
    assert abs(found).max() > 1e-3
    assert found.attrs["score"] == "unit"
    assert found.attrs["target"] == f"unit 1 of 'rnn.1' ({state}, backward) at step -3"


@pytest.mark.parametrize("state", [None, "h"])
def test_a_unit_of_what_a_recurrent_layer_puts_out(state):
    model, x = ending_in(lambda z: z), series(2, 5)
    found = sq.Scope(model).attribute(x, "gradient", target=unit("rnn", 2, state=state, time=3))
    assert_explains(found, lambda tensor: model.rnn(tensor)[0][:, 3, 2], x)
    assert not found[:, 4].any()


@pytest.mark.parametrize("place", [0, 3, 4, 7])
@pytest.mark.parametrize("layer", ["rnn.0", "rnn.1", "rnn"])
def test_units_inside_a_stack_are_those_of_its_activations(layer, place):
    """Directions one behind the other, as `scope.activations` has them."""
    model = Net(
        lambda net, x: net.fc(net.rnn(x)[0][:, -1]),
        rnn=nn.GRU(3, 4, num_layers=2, bidirectional=True, batch_first=True),
        fc=nn.Linear(8, 2),
    )
    x, scope = series(3, 5), sq.Scope(model)
    found = scope.attribute(x, "gradient", target=unit(layer, place, time=1))
    np.testing.assert_allclose(found.score, scope.activations(x, layer).isel(unit=place, time=1), rtol=1e-9)
    step = 1e-5
    moved = x.copy()
    moved[:, 2, 1] += step
    ahead = scope.activations(moved, layer).isel(unit=place, time=1)
    moved[:, 2, 1] -= 2 * step
    np.testing.assert_allclose(found[:, 2, 1], (ahead - scope.activations(moved, layer).isel(unit=place, time=1)) / (2 * step), atol=1e-8)


@pytest.mark.parametrize("layer", ["conv", "act", "norm"])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_filter_of_a_convolution(layer, inplace):
    """On the layer's own clock; also where the next layer writes over its value."""
    model = Net(
        lambda net, x: net.fc(net.act(net.norm(net.conv(x))).mean(dim=-1)),
        conv=nn.Conv1d(3, 4, 3, stride=2), norm=nn.BatchNorm1d(4), act=nn.LeakyReLU(0.2, inplace=inplace), fc=nn.Linear(4, 2),
    )  # fmt: skip
    x = series(2, 9)

    def score(tensor):
        value = model.norm(model.conv(tensor.transpose(1, 2))) if layer != "conv" else model.conv(tensor.transpose(1, 2))
        return (F.leaky_relu(value, 0.2) if layer == "act" else value)[:, 3, -2]

    found = sq.Scope(model).attribute(x.transpose(0, 2, 1), "gradient", target=unit(layer, 3, time=-2))
    assert_explains(found, score, x)
    assert found.attrs["target"] == f"unit 3 of '{layer}' at step -2"


def test_a_step_of_a_layer_without_steps_is_refused():
    with pytest.raises(DataError, match="asks for unit 1 of 'fc' at step 2, and that layer has no steps: leave time out"):
        sq.Scope(ending_in(nn.Softmax(dim=-1))).attribute(series(), "gradient", target=unit("fc", 1, time=2))


def test_a_unit_of_a_layer_that_is_called_several_times_or_has_steps_as_rows_is_refused():
    twice = Net(lambda net, x: net.fc(torch.tanh(net.fc(x))).mean(dim=1), fc=nn.Linear(3, 3))
    with pytest.raises(UnsupportedError, match="'fc' is called several times in a pass"):
        sq.Scope(twice).attribute(series(), "gradient", target=unit("fc", 1))
    rows = Net(lambda net, x: net.fc(x.reshape(-1, 3)).reshape(len(x), -1, 2).mean(dim=1), fc=nn.Linear(3, 2))
    with pytest.raises(UnsupportedError, match="'fc' has samples and steps in one axis"):
        sq.Scope(rows, layout="NTC").attribute(series(), "gradient", target=unit("fc", 1))


def test_a_unit_of_a_layer_without_steps():
    model, x = ending_in(nn.Softmax(dim=-1)), series(2, 5)
    found = sq.Scope(model).attribute(x, "gradient", target=unit("fc", 1))
    assert_explains(found, lambda tensor: logits_of(model, tensor)[:, 1], x)
    probability = sq.Scope(ending_in(nn.Softmax(dim=-1))).attribute(x, "gradient", target=unit("fc", 1))
    assert probability.attrs["score"] == "unit"


def looped(n_cells=1):
    def run(net, x):
        h = c = torch.zeros(len(x), 4, dtype=x.dtype)
        for x_t in x.unbind(1):
            h, c = net.cell(x_t, (h, c))
        return net.fc(h)

    return Net(run, cell=nn.LSTMCell(3, 4), fc=nn.Linear(4, 2))


@pytest.mark.parametrize("state", [None, "h", "c", "f"])
@pytest.mark.parametrize("layer", [None, "cell"])
def test_units_of_a_cell_that_the_model_steps(state, layer):
    """Its calls are the steps: as of the layer with the same weights."""
    model, x = looped(), series(2, 5)
    stack = Net(lambda net, x: net.fc(net.cell(x)[0][:, -1]), cell=nn.LSTM(3, 4, batch_first=True), fc=nn.Linear(4, 2))
    stack.cell.load_state_dict({f"{name}_l0": value for name, value in model.cell.state_dict().items()})
    target = unit("cell", 2, state=state, time=-2)
    found, expected = (sq.Scope(one).attribute(x, "gradient", target=target, layer=layer) for one in (model, stack))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-10)
    assert abs(expected).max() > 1e-3


@pytest.mark.parametrize(("target", "layer"), [("rnn", "rnn"), ("rnn.1", "rnn"), ("rnn.1", "rnn.1"), ("rnn.0", "rnn.0"), ("rnn", "rnn.1")])
def test_a_unit_at_its_own_layer_has_a_derivative_of_one_at_itself(target, layer):
    model = Net(lambda net, x: net.fc(net.rnn(x)[0][:, -1]), rnn=nn.LSTM(3, 4, num_layers=2, batch_first=True), fc=nn.Linear(4, 2))
    found = sq.Scope(model).attribute(series(2, 5), "gradient", target=unit(target, 1, time=3), layer=layer)
    np.testing.assert_allclose(found[:, 3], [[0, 1, 0, 0]] * 2, atol=1e-12)
    assert not found[:, 4].any()
    assert abs(found[:, 2]).min() > 0  # through the recurrence


def test_a_cell_at_the_hidden_states_of_its_own_layer():
    """c_t takes h_{t-1} in through the gates: the equations, with something added to h on the way."""
    model, x = Net(lambda net, x: net.fc(net.rnn(x)[0][:, -1]), rnn=nn.LSTM(3, 4, batch_first=True), fc=nn.Linear(4, 2)), series(1, 4)

    def score(added):
        h = c = np.zeros(4)
        for x_t, plus in zip(x[0], added, strict=True):
            now = ref._torch_direction(model.rnn, "_l0", x_t[None], h, c)
            h, c = now["h"][0] + plus, now["c"][0]
        return c[2]

    found = sq.Scope(model).attribute(x, "gradient", target=unit("rnn", 2, state="c"), layer="rnn")
    np.testing.assert_allclose(found[0], differences(score, np.zeros((4, 4))), atol=1e-9)
    assert not found[0, -1].any()  # the last h comes after the last c


def test_a_filter_at_its_own_layer():
    model = Net(lambda net, x: net.fc(torch.tanh(net.conv(x)).mean(dim=-1)), conv=nn.Conv1d(3, 4, 3), fc=nn.Linear(4, 2))
    x, scope = series(2, 8).transpose(0, 2, 1), sq.Scope(model)
    expected = np.zeros((2, 6, 4))
    expected[:, 2, 1] = 1
    assert np.array_equal(scope.attribute(x, "gradient", target=unit("conv", 1, time=2), layer="conv"), expected)
    whole = scope.attribute(x, "integrated_gradients", target=unit("conv", 1, time=2), layer="conv")
    ends = [scope.activations(values, "conv").isel(unit=1, step=2) for values in (x, np.zeros_like(x))]
    np.testing.assert_allclose(whole.sum(["step", "unit"]), ends[0] - ends[1], rtol=1e-9)
    assert not whole.gap.any()


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "expected_gradients", "smooth_grad", "occlusion"])
def test_every_method_explains_states_of_ragged_sequences(method):
    model, x = ending_in(nn.Softmax(dim=-1)), series(3, 6)
    ragged, scope = sq.Sequences([x[0][:4], x[1], x[2][:4]], samples=["a", "b", "c"]), sq.Scope(model)
    options = {"reference": series(2, 6, seed=4)} if method == "expected_gradients" else {"steps": 20} if method.startswith("int") else {}
    found = scope.attribute(ragged, method, target=unit("rnn", 1, state="z", time=-1), **options)
    states = scope.states(ragged, "rnn")["z"].isel(unit=1)
    last = [float(states.sel(sample=name).dropna("time")[-1]) for name in "abc"]
    np.testing.assert_allclose(found.score, last, rtol=1e-9)
    for place, name in enumerate("abc"):
        alone = scope.attribute(ragged[place], method, target=unit("rnn", 1, state="z", time=-1), **options)
        np.testing.assert_allclose(alone, found.sel(sample=name)[: len(alone)], atol=1e-9)
    if method == "integrated_gradients":
        assert (found.gap < 1e-5).all()


@pytest.mark.parametrize(
    ("target", "error", "match"),
    [
        (unit("rn", 0), LayerError, "No layer is named 'rn': the nearest are 'rnn'"),
        (unit("rnn", 8), DataError, "There is no unit 8 in what 'rnn' gives"),
        (unit("rnn", 0, time=4), DataError, "There is no step 4 in what 'rnn' gives"),
        (unit("rnn", 0, time=-5), DataError, "There is no step -5"),
        (unit("rnn", 0, state="z"), UnsupportedError, "'rnn' is a stack: say which of its layers, 'rnn.0', 'rnn.1'"),
        (unit("rnn.0", 0, state="c"), UnsupportedError, "'rnn.0' has no state 'c': it has 'h', 'r', 'z', 'n'"),
        (unit("rnn.0", 0, state="z"), UnsupportedError, "say direction='forward' or 'backward'"),
        (unit("rnn.0", 8), DataError, "There is no unit 8"),
        (unit("rnn.0", 4, state="z", direction="forward"), DataError, "There is no unit 4"),
        (unit("fc", 0, state="h"), UnsupportedError, r"'fc' \(Linear\) is not recurrent and has no state 'h'"),
        (unit("fc", 2), DataError, "There is no unit 2 in what 'fc' gives"),
    ],
)
def test_units_that_are_not_there(target, error, match):
    model = Net(
        lambda net, x: net.fc(net.rnn(x)[0][:, -1]),
        rnn=nn.GRU(3, 4, num_layers=2, bidirectional=True, batch_first=True),
        fc=nn.Linear(8, 2),
    )
    x = series(2, 6)
    with pytest.raises(error, match=match):
        sq.Scope(model).attribute([x[0], x[1][:4]], "gradient", target=target)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: unit("rnn", 1.5), "The unit of a target is 1.5: expected a whole number"),
        (lambda: unit("rnn", True), "The unit of a target is True"),
        (lambda: unit("rnn", -1), "The unit of a target is -1: positions count from 0"),
        (lambda: unit("rnn", 1, time="all"), "The time of a target is 'all'"),
        (lambda: unit(3, 1), "The layer of a target is 3: expected its name"),
        (lambda: unit("rnn", 1, direction="left"), "The direction of a target is 'left'"),
        (lambda: output("a", time="last"), "The time of a target is 'last': expected a whole number, or 'all'"),
        (lambda: output("a", time=1.0), "The time of a target is 1.0"),
    ],
)
def test_targets_are_checked_when_they_are_made(make, match):
    with pytest.raises(DataError, match=match):
        make()


# Functions


def test_a_function_of_the_native_output():
    model, x = ending_in(nn.Softmax(dim=-1)), series(3, 5)

    def margin(out):
        return out[:, 1] - out[:, 0]

    found = sq.Scope(model).attribute(x, "gradient", target=margin)
    assert_explains(found, lambda tensor: margin(model(tensor)), x)  # what it is given is what the model gives, not the logits
    assert (found.attrs["target"], found.attrs["score"]) == ("function margin", "function")
    assert "target" not in found.coords


def test_a_function_sees_everything_that_the_model_gives():
    model = Net(lambda net, x: (net.fc(net.rnn(x)[0][:, -1]), {"h": net.rnn(x)[0]}), rnn=nn.GRU(3, 4, batch_first=True), fc=nn.Linear(4, 2))
    x = series(3, 5)
    found = sq.Scope(model).attribute(x, "gradient", target=lambda out: out[1]["h"][:, 2, 1] * out[0][:, 0])
    assert_explains(found, lambda tensor: model(tensor)[1]["h"][:, 2, 1] * model(tensor)[0][:, 0], x)


@pytest.mark.parametrize("layer", [None, "rnn", "fc"])
@pytest.mark.parametrize("method", ["integrated_gradients", "expected_gradients", "smooth_grad"])
def test_a_function_that_picks_an_output_gives_what_the_output_gives(method, layer):
    scope, x, few = sq.Scope(ending_in(lambda z: z)), series(3, 5), {"integrated_gradients": {"steps": 5}}.get(method, {"draws": 3})
    found = scope.attribute(x, method, target=lambda out: out[:, 1], layer=layer, memory=1, **few)
    np.testing.assert_allclose(found, scope.attribute(x, method, target=1, layer=layer, **few), atol=1e-12)


@pytest.mark.parametrize(
    ("target", "error", "match"),
    [
        (lambda out: out, ModelError, r"The target gave a tensor of shape \(4, 3\): expected one score for each of the 4 samples"),
        (lambda out: out.sum(), ModelError, r"The target gave a tensor of shape \(\)"),
        (lambda out: out[:, 5], ModelError, "The target raised IndexError"),
        (lambda out: [1, 2, 3, 4], ModelError, "The target gave a list"),
        (lambda out: out.argmax(1), UnsupportedError, "The score has no derivative"),
        (lambda out: out.detach()[:, 0], UnsupportedError, "The score has no derivative"),
    ],
)
@pytest.mark.parametrize("layer", [None, "rnn", "fc"])
def test_functions_that_give_no_score(target, error, match, layer):
    with pytest.raises(error, match=match):
        sq.Scope(ending_in(lambda z: z)).attribute(series(), "gradient", target=target, layer=layer)


# Warnings


def test_a_target_that_the_model_does_not_believe_in_is_warned_of_where_the_person_asked():
    model = ending_in(nn.Softmax(dim=-1))
    with torch.no_grad():
        model.fc.bias += torch.tensor([0.0, 0.0, -5.0])
    scope = sq.Scope(model)
    with pytest.warns(
        UserWarning, match=r"For 4 of 4 sequences the target's probability is below chance \(1/3; the lowest is 0\.00"
    ) as caught:
        scope.attribute(series(), "gradient", target=2)
    assert [one.filename for one in caught] == [__file__]


@pytest.mark.filterwarnings("error")
def test_what_needs_no_warning_has_none():
    """The predicted output; one of several sigmoids, each with a chance of its own; a regression."""
    x = series()
    sq.Scope(ending_in(nn.Softmax(dim=-1))).attribute(x, "gradient")
    for end, outputs in ((nn.Sigmoid(), 3), (nn.Sigmoid(), 1), (nn.Identity(), 1)):
        model = ending_in(end, outputs)
        with torch.no_grad():
            model.fc.bias -= 3
        sq.Scope(model).attribute(x, "gradient", target=0)


def test_a_probability_that_is_saturated_is_warned_of():
    model = ending_in(lambda z: F.softmax(100 * z, dim=-1).clamp(0, 1))
    with pytest.warns(UserWarning, match="The score is a probability, and for [1-4] of 4 sequences it is saturated"):
        sq.Scope(model).attribute(series(), "gradient")
