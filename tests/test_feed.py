"""The layout that a model takes is found by trying, said where it can't be, and named in every error about shapes."""

import numpy as np
import pytest
import torch
from torch import nn

import reference as ref
import seqscope as sq
from nets import Net, series
from seqscope.errors import DataError, ModelError
from tolerances import assert_close


def lstm(batch_first, *, bidirectional=False, units=5):
    place = (slice(None), -1) if batch_first else -1
    rnn = nn.LSTM(3, units, batch_first=batch_first, bidirectional=bidirectional)
    return Net(lambda net, x: net.fc(net.rnn(x)[0][place]), rnn=rnn, fc=nn.Linear(units * (2 if bidirectional else 1), 3))


def convolution(*, transposes):
    return Net(lambda net, x: net.conv(x.transpose(1, 2) if transposes else x).relu().mean(-1), conv=nn.Conv1d(3, 5, 3, padding="same"))


def tokens(batch_first):
    place = (slice(None), -1) if batch_first else -1
    return Net(lambda net, ids: net.rnn(net.embed(ids))[0][place], embed=nn.Embedding(7, 3), rnn=nn.GRU(3, 5, batch_first=batch_first))


def attention(batch_first):
    return Net(lambda net, x: net.attn(x, x, x)[0].mean(1 if batch_first else 0), attn=nn.MultiheadAttention(3, 1, batch_first=batch_first))


def upside_down(*, transposes):
    """The modules stand in another order than they run in, so that the first widths that the layers tell are wrong ones."""
    return Net(
        lambda net, x: net.fc(net.mid(net.conv(x.transpose(1, 2) if transposes else x).relu()).mean(-1)),
        fc=nn.Linear(4, 2),
        mid=nn.Conv1d(5, 4, 3, padding="same"),
        conv=nn.Conv1d(3, 5, 3, padding="same"),
    )


def upside_down_lstm(batch_first):
    place = (slice(None), -1) if batch_first else -1
    return Net(lambda net, x: net.fc(net.rnn(x)[0][place]), fc=nn.Linear(4, 2), rnn=nn.LSTM(3, 4, batch_first=batch_first))


def pointwise():
    return Net(lambda net, x: net.fc(x).relu(), fc=nn.Linear(3, 2))


MODELS = {
    "lstm NTC": (lambda: lstm(True), "NTC"),
    "lstm TNC": (lambda: lstm(False), "TNC"),
    "both ways NTC": (lambda: lstm(True, bidirectional=True), "NTC"),
    "both ways TNC": (lambda: lstm(False, bidirectional=True), "TNC"),
    "lstm of every step TNC": (lambda: Net(lambda net, x: net.rnn(x)[0], rnn=nn.LSTM(3, 3)), "TNC"),
    "convolution NCT": (lambda: convolution(transposes=False), "NCT"),
    "convolution NTC": (lambda: convolution(transposes=True), "NTC"),
    "attention NTC": (lambda: attention(True), "NTC"),
    "attention TNC": (lambda: attention(False), "TNC"),
    "norm first NTC": (
        lambda: Net(lambda net, x: net.rnn(net.norm(x))[0][:, -1], norm=nn.LayerNorm(3), rnn=nn.GRU(3, 5, batch_first=True)),
        "NTC",
    ),
    "upside down NCT": (lambda: upside_down(transposes=False), "NCT"),
    "upside down NTC": (lambda: upside_down(transposes=True), "NTC"),
    "upside down lstm NTC": (lambda: upside_down_lstm(True), "NTC"),
    "upside down lstm TNC": (lambda: upside_down_lstm(False), "TNC"),
    "batch norm first NCT": (
        lambda: Net(lambda net, x: net.conv(net.norm(x)).mean(-1), norm=nn.BatchNorm1d(3), conv=nn.Conv1d(3, 5, 3)),
        "NCT",
    ),
}


@pytest.mark.parametrize(("make", "layout"), MODELS.values(), ids=MODELS.keys())
def test_layout_is_found_without_data(make, layout):
    assert sq.Scope(make()).layers.input.layout == layout


@pytest.mark.parametrize("shape", [(4, 9, 3), (3, 3, 3)], ids=str)
@pytest.mark.parametrize(("make", "layout"), MODELS.values(), ids=MODELS.keys())
def test_array_in_the_layout_of_the_model_is_what_the_model_runs_on(make, layout, shape):
    """And data that knows its own axes gives the same."""
    model, x = make(), series(*shape)
    axes = {"NTC": (0, 1, 2), "NCT": (0, 2, 1), "TNC": (1, 0, 2)}[layout]
    given = np.ascontiguousarray(x.transpose(axes))
    output = model(torch.tensor(given)).detach().numpy()
    expected = output.transpose(1, 0, 2) if output.ndim == 3 else output  # (time, sample, unit)
    scope = sq.Scope(model)
    assert_close(scope.predict(given), expected)
    assert_close(scope.predict(list(x)), expected)
    assert_close(scope.predict(sq.Sequences(given, layout=layout)), expected)
    assert_close(sq.Scope(model, layout=layout).predict(given), expected)
    assert scope.layers.input.shape == sq.Scope(model, example=list(x)).layers.input.shape == f"time {shape[1]} x channel 3"
    assert scope.layers.input.layout == layout


@pytest.mark.parametrize("batch_first", [True, False], ids=["NT", "TN"])
@pytest.mark.parametrize("shape", [(4, 9), (3, 3), (1, 6)], ids=str)
def test_tokens_in_the_layout_of_the_model(batch_first, shape):
    model, ids = tokens(batch_first), np.random.default_rng(0).integers(0, 7, shape)
    given = ids if batch_first else ids.T
    expected = ref.hidden(model.rnn, ref.weights_of(model.embed)["weight"][ids])[:, -1]
    scope = sq.Scope(model)
    assert_close(scope.predict(given), expected)
    assert_close(scope.predict(list(ids)), expected)
    assert scope.layers.input.layout == ("NT" if batch_first else "TN")


def test_longest_lengths_are_tried_for_deep_valid_convolutions():
    children = {f"conv{place}": nn.Conv1d(3, 3, 9, dilation=4) for place in range(3)}
    model = Net(lambda net, x: net.conv2(net.conv1(net.conv0(x))), **children)  # sees 97 steps
    assert sq.Scope(model).layers.input.layout == "NCT"


def test_length_that_the_model_insists_on_is_taken_from_the_data():
    def halves(net, x):
        down = net.down(x)
        return net.up(down) + x[:, :2]  # only even lengths come out as they went in

    model = Net(halves, down=nn.Conv1d(3, 5, 2, stride=2), up=nn.ConvTranspose1d(5, 2, 2, stride=2))
    x = series(4, 16)
    expected = model(torch.tensor(x.transpose(0, 2, 1))).detach().numpy().transpose(0, 2, 1)
    found = sq.Scope(model).predict(x.transpose(0, 2, 1))
    assert found.dims == ("sample", "output_time", "output")
    assert_close(found, expected)


@pytest.mark.parametrize("head_first", [False, True])
@pytest.mark.parametrize("shape", [(4, 9, 3), (4, 4, 3), (4, 3, 3)], ids=str)
def test_fixed_length_is_taken_from_the_data(shape, head_first):
    parts = {"conv": nn.Conv1d(3, 4, 3, padding="same"), "fc": nn.Linear(4 * shape[1], 2)}
    parts = dict(reversed(parts.items())) if head_first else parts
    model = Net(lambda net, x: net.fc(net.conv(x).flatten(1)), **parts)
    x = series(*shape)
    conv = np.array([ref.conv1d(model.conv, one) for one in x])
    expected = ref.linear(model.fc, conv.transpose(0, 2, 1).reshape(4, -1))
    layout = None if shape[1] != shape[2] else "NCT"
    assert_close(sq.Scope(model, layout=layout).predict(x.transpose(0, 2, 1)), expected)
    assert_close(sq.Scope(model, layout=layout).predict(list(x)), expected)


# What can't be told


@pytest.mark.parametrize("model", [pointwise, lambda: Net(lambda net, ids: net.embed(ids), embed=nn.Embedding(3, 2))])
def test_layout_that_fits_in_several_ways_is_asked_for(model):
    model = model()
    x = series() if hasattr(model, "fc") else np.random.default_rng(0).integers(0, 3, (4, 9))
    with pytest.raises(ModelError, match=r"(?s)layout .* can't be told.*Scope\(model, layout='NT"):
        sq.Scope(model).predict(x)
    with pytest.raises(ModelError, match=r"layout"):
        _ = sq.Scope(model).layers


@pytest.mark.parametrize("layout", ["NTC", "TNC"])
def test_layout_that_is_said_is_taken(layout):
    model, x = pointwise(), series()
    given = x if layout == "NTC" else x.transpose(1, 0, 2)
    found = sq.Scope(model, layout=layout).predict(given)
    assert found.dims == ("sample", "output_time", "output")
    assert_close(found, ref.relu(ref.linear(model.fc, x)))


def test_layout_that_fits_in_several_ways_for_this_length_alone_is_asked_for():
    """As many steps as channels, and a model that runs on no other length."""
    model = Net(lambda net, x: net.fc(x.flatten(1)), fc=nn.Linear(9, 2))
    with pytest.raises(ModelError, match="layout"):
        sq.Scope(model).predict(series(4, 3))


@pytest.mark.parametrize("samples", [1, 4])
def test_model_whose_output_says_nothing_is_not_taken_for_another_layout(samples):
    """A head that has learned nothing yet: the same output whatever goes in."""
    model = lstm(False)
    nn.init.zeros_(model.fc.weight)
    x = series(samples)
    try:
        found = sq.Scope(model).activations(list(x), "rnn")
    except ModelError as error:
        told = str(error)
    else:
        told = "layout found"
        assert_close(found, ref.hidden(model.rnn, x))
    assert "layout" in told


@pytest.mark.parametrize("form", ["array", "list"])
def test_model_that_mixes_the_samples_is_refused(form):
    """Batch norm without running statistics: what comes out depends on who shares the batch, in evaluation mode too."""
    norm = nn.BatchNorm1d(5, track_running_stats=False)
    model = Net(lambda net, x: net.norm(net.conv(x)).relu().mean(-1), conv=nn.Conv1d(3, 5, 3), norm=norm)
    with pytest.raises(sq.errors.SeqscopeError):
        sq.Scope(model).predict(series().transpose(0, 2, 1) if form == "array" else list(series()))


def test_three_outputs_of_which_the_middle_one_answers_are_no_samples():
    model = Net(lambda net, x: net.fc(net.rnn(x)[0][:, -1]).relu(), rnn=nn.LSTM(3, 5, batch_first=True), fc=nn.Linear(5, 3))
    with torch.no_grad():
        model.fc.weight[::2] = 0
        model.fc.bias[:] = 1
    x = series()
    expected = ref.relu(ref.linear(model.fc, ref.hidden(model.rnn, x)[:, -1]))
    assert_close(sq.Scope(model).predict(x), expected)


def test_unknown_layout_is_refused():
    with pytest.raises(DataError, match=r"'NTCH' is not known.*'NTC', 'NCT', 'TNC'"):
        sq.Scope(pointwise(), layout="NTCH")


# What does not fit


@pytest.mark.parametrize("n_channels", [1, 2, 4, 5, 12])
@pytest.mark.parametrize(
    ("make", "layout"), [(lambda: lstm(True), "NTC"), (lambda: lstm(False), "TNC"), (lambda: convolution(transposes=False), "NCT")]
)
def test_wrong_number_of_channels_names_both_numbers_and_the_layout(make, layout, n_channels):
    """5 is the width that a layer inside takes."""
    for seen_before in (False, True):
        scope = sq.Scope(make())
        if seen_before:
            scope.predict(list(series()))
        for data in (list(series(4, 9, n_channels)), sq.Sequences(series(4, 9, n_channels))):
            with pytest.raises(DataError) as raised:
                scope.predict(data)
            for words in (f"{n_channels} channel", "model takes 3", layout):
                assert words in str(raised.value)


def test_array_with_the_wrong_number_of_channels():
    with pytest.raises(DataError, match=r"5 channels and the model takes 3.*NTC \(sample, time, channel\)"):
        sq.Scope(lstm(True)).activations(series(4, 9, 5), "rnn")


def test_swapped_axes_are_seen():
    with pytest.raises(DataError, match="swapped"):
        sq.Scope(lstm(True)).predict(series(4, 3, 9))


def test_wrong_layout_that_was_said_names_the_right_one():
    with pytest.raises(ModelError, match=r"layout='NCT' was said, and the model takes NTC \(sample, time, channel\)"):
        sq.Scope(lstm(True), layout="NCT").predict(series(4, 9, 3).transpose(0, 2, 1))


@pytest.mark.parametrize("seen_before", [False, True])
@pytest.mark.parametrize("data", [np.zeros((4, 9), int), [np.zeros(9, int)], np.zeros(9, int)], ids=["array", "list", "one"])
def test_tokens_where_floats_are_meant(data, seen_before):
    scope = sq.Scope(lstm(True))
    if seen_before:
        scope.predict(series())
    with pytest.raises(DataError, match=r"Integer tokens were given, and the model takes series of floats: its layer 'rnn' has 3 channels"):
        scope.predict(data)


def with_positions(*, before):
    """A recurrent net that adds a learned table of positions, which is an embedding and takes no tokens."""
    parts = {"positions": nn.Embedding(2048, 3), "rnn": nn.GRU(3, 5, batch_first=True)}
    if not before:
        parts = dict(reversed(parts.items()))
    return Net(lambda net, x: net.rnn(x + net.positions(torch.arange(x.shape[1])))[0][:, -1], **parts)


@pytest.mark.parametrize("before", [False, True])
def test_table_of_positions_is_not_taken_for_the_input(before):
    model, x = with_positions(before=before), series()
    assert sq.Scope(model).layers.input.layout == "NTC"
    places = ref.weights_of(model.positions)["weight"][:9]
    assert_close(sq.Scope(model).predict(x), ref.hidden(model.rnn, x + places)[:, -1])


def test_tokens_where_floats_are_meant_and_an_embedding_is_inside():
    with pytest.raises(DataError, match="Integer tokens were given, and the model takes series of floats"):
        sq.Scope(with_positions(before=False)).predict(np.arange(36).reshape(4, 9))


@pytest.mark.parametrize("seen_before", [False, True])
@pytest.mark.parametrize("data", [series(), list(series()), series()[0]], ids=["array", "list", "one"])
def test_floats_where_tokens_are_meant(data, seen_before):
    scope = sq.Scope(tokens(True))
    if seen_before:
        scope.predict(np.arange(10).reshape(2, 5) % 7)
    said = r"Series of 3 channels were given, and the model takes integer tokens: its layer 'embed' knows 7"
    with pytest.raises(DataError, match=f"{said}|tokens, and an array of floats of shape"):
        scope.predict(data)


def test_token_that_the_model_does_not_know_is_an_error_with_its_cause():
    with pytest.raises(ModelError, match="IndexError") as raised:
        sq.Scope(tokens(True)).predict(np.array([[1, 2, 99]]))
    assert isinstance(raised.value.__cause__, IndexError)


def test_error_of_the_framework_is_the_cause():
    error = ZeroDivisionError("inside")

    def run(net, x):
        if len(x) == 4:
            raise error
        return net.rnn(x)[0][:, -1]

    model = Net(run, rnn=nn.GRU(3, 5, batch_first=True))
    with pytest.raises(ModelError, match=r"ZeroDivisionError: inside \(on a batch of shape 4x9x3, layout NTC") as raised:
        sq.Scope(model).predict(series(), batch_size=4)
    assert raised.value.__cause__ is error


def test_call_that_fails_is_told_and_not_taken_for_a_shape():
    def call(model, batch, lengths):
        return model(batch, lengths)

    with pytest.raises(ModelError, match="TypeError"):
        sq.Scope(lstm(True), call=call).predict(series())
