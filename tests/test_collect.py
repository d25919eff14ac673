"""A data set is run batch by batch, and no number depends on who shares a batch with whom."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

import reference as ref
import seqscope as sq
from nets import Net
from seqscope.errors import LayerError, TooLargeError
from tolerances import assert_close


def recurrent(cell, **options):
    ways = 2 if options.get("bidirectional") else 1
    rnn = cell(3, 4, batch_first=True, **options)
    return Net(lambda net, x: net.fc(net.rnn(x)[0][:, -1]), rnn=rnn, fc=nn.Linear(4 * ways, 2))


def convolution():
    return Net(
        lambda net, x: net.fc(net.conv2(net.relu(net.conv1(x))).mean(-1)),
        conv1=nn.Conv1d(3, 4, 5, padding="same"),
        relu=nn.ReLU(),
        conv2=nn.Conv1d(4, 4, 3, padding="same", dilation=2),
        fc=nn.Linear(4, 2),
    )


NETS = {
    "lstm": lambda: recurrent(nn.LSTM),
    "stack both ways": lambda: recurrent(nn.LSTM, num_layers=2, bidirectional=True),
    "gru": lambda: recurrent(nn.GRU),
    "rnn": lambda: recurrent(nn.RNN, bidirectional=True),
    "same-padded convolution": convolution,
}

lengths_of_samples = st.lists(st.integers(1, 12), min_size=1, max_size=6)
# Values that leave no gate at rest: large, tiny and equal ones among them.
values = st.floats(-20, 20, width=32)


def sequences_of(lengths, value, seed):
    random = np.random.default_rng(seed)
    return [random.standard_normal((length, 3)) + value for length in lengths]


@pytest.mark.parametrize("make", NETS.values(), ids=NETS.keys())
@given(lengths=lengths_of_samples, value=values, seed=st.integers(0, 99))
@settings(max_examples=6)
def test_sequence_alone_equals_the_same_sequence_in_a_ragged_data_set(make, lengths, value, seed):
    torch.manual_seed(0)
    scope = sq.Scope(make())
    data = sequences_of(lengths, value, seed)
    together = scope.activations(data)
    for row, one in enumerate(data):
        alone = scope.activations(one)
        for name in together.children:
            found = together[name].activations[row]
            if "time" in found.dims:
                assert found[len(one) :].isnull().all()
                found = found[: len(one)]
            assert_close(found, alone[name].activations)
    assert_close(scope.predict(data[-1]), together["fc"].activations[-1])


@pytest.mark.parametrize("make", NETS.values(), ids=NETS.keys())
@given(lengths=lengths_of_samples, size=st.integers(1, 10), seed=st.integers(0, 99))
@settings(max_examples=6)
def test_result_does_not_depend_on_the_batch_size(make, lengths, size, seed):
    torch.manual_seed(0)
    scope = sq.Scope(make())
    data = sequences_of(lengths, 0.0, seed)
    assert_close(scope.predict(data, batch_size=size), scope.predict(data))
    whole, parts = scope.activations(data), scope.activations(data, batch_size=size)
    for name in whole.children:
        assert_close(parts[name].activations, whole[name].activations)


@settings(max_examples=10)
@given(lengths=lengths_of_samples, size=st.one_of(st.none(), st.integers(1, 10)), seed=st.integers(0, 99))
def test_every_result_stands_at_its_own_sample(lengths, size, seed):
    torch.manual_seed(0)
    model = recurrent(nn.GRU)
    data = sequences_of(lengths, 0.0, seed)
    ids = np.random.default_rng(seed).permutation(len(data)) + 100
    scope = sq.Scope(model)
    sequences = sq.Sequences(data, samples=ids, labels=[str(length) for length in lengths])
    predicted = scope.predict(sequences, batch_size=size)
    found = scope.activations(sequences, "rnn", batch_size=size)
    np.testing.assert_array_equal(predicted.sample, ids)
    for name, one, length in zip(ids, data, lengths, strict=True):
        hidden = ref.stack(model.rnn, one)[-1]
        assert_close(found.sel(sample=name)[:length], hidden)
        assert_close(predicted.sel(sample=name), ref.linear(model.fc, hidden[-1]))
        assert int(predicted.length.sel(sample=name)) == length
        assert str(predicted.label.sel(sample=name).item()) == str(length)


@given(
    picked=st.lists(st.integers(0, 7), min_size=1, max_size=12, unique=True),
    padding=st.sampled_from([np.nan, 0.0, 1e6]),
)
@settings(max_examples=8)
def test_part_of_a_padded_block_equals_the_same_part_of_the_result(picked, padding):
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    lengths = random.integers(1, 10, 8)
    block = random.standard_normal((8, 9, 3))
    block[np.arange(9) >= lengths[:, None]] = padding
    model = convolution()
    scope = sq.Scope(model)
    X = sq.Sequences(block, lengths=lengths)
    assert_close(scope.activations(X[picked], "conv1"), scope.activations(X, "conv1")[picked, : lengths[picked].max()])
    for row, found in zip(picked, scope.activations(X[picked], "conv1"), strict=True):
        assert_close(found[: lengths[row]], ref.conv1d(model.conv1, block[row, : lengths[row]]))


def test_what_lies_behind_the_end_is_nan_and_nothing_else(ragged):
    found = sq.Scope(recurrent(nn.LSTM)).activations(ragged, "rnn")
    behind = np.arange(9) >= np.array([len(one) for one in ragged])[:, None]
    np.testing.assert_array_equal(np.isnan(found.values), np.repeat(behind[..., None], 4, axis=2))


@pytest.mark.parametrize("ragged_data", [True, False])
def test_whole_numbers_stay_so_where_no_sequence_ends_early(ragged_data, ragged, block):
    model = Net(lambda net, x: net.sign(net.rnn(x)[0]).sum(1), rnn=nn.GRU(3, 4, batch_first=True), sign=Sign())
    data = ragged if ragged_data else list(block)
    found = sq.Scope(model).activations(data, "sign")
    assert found.dtype == (np.float64 if ragged_data else np.int64)
    for row, one in enumerate(data):
        np.testing.assert_array_equal(found[row, : len(one)], ref.stack(model.rnn, one)[-1] > 0)
        assert found[row, len(one) :].isnull().all()


class Sign(nn.Module):
    def forward(self, x):
        return (x > 0).long()


def test_result_shares_no_memory_with_the_data(block):
    model = Net(lambda net, x: net.rnn(net.same(x))[0][:, -1], same=nn.Identity(), rnn=nn.GRU(3, 4, batch_first=True))
    before = block.copy()
    found = sq.Scope(model).activations(block, "same")
    assert_close(found, before)
    found.values[:] = 7
    np.testing.assert_array_equal(block, before)


# What does not fit into memory


def test_result_that_would_not_fit_is_refused_and_names_record(monkeypatch, block, reader):
    needed = 4 * 9 * 5 * 8
    scope = sq.Scope(reader)
    monkeypatch.setattr("seqscope.ram.available", lambda: needed - 1)
    with pytest.raises(TooLargeError, match=r"1\.44 kB.*1\.44 kB.*record"):
        scope.activations(block, "rnn")
    assert scope.predict(block).shape == (4, 2)
    monkeypatch.setattr("seqscope.ram.available", lambda: needed)
    assert_close(scope.activations(block, "rnn"), ref.hidden(reader.rnn, block))


def test_all_layers_together_must_fit(monkeypatch, block, reader):
    sizes = {"rnn": 4 * 9 * 5 * 8, "fc": 4 * 2 * 8, "softmax": 4 * 2 * 8}
    monkeypatch.setattr("seqscope.ram.available", lambda: sum(sizes.values()) - 1)
    with pytest.raises(TooLargeError):
        sq.Scope(reader).activations(block)
    assert sq.Scope(reader).activations(block, ["rnn", "fc"])["rnn"].activations.nbytes == sizes["rnn"]


def test_result_that_would_not_fit_is_refused_before_the_data_is_run(monkeypatch):
    """One short sequence of many may be run to see how large its values are, and no more than one batch."""
    rows = []
    model = Net(lambda net, x: (rows.append(len(x)), net.rnn(x)[0][:, -1])[1], rnn=nn.GRU(3, 4, batch_first=True))
    scope = sq.Scope(model)
    scope.predict(np.zeros((3, 2, 3)))
    rows.clear()
    monkeypatch.setattr("seqscope.ram.available", lambda: 1000)
    with pytest.raises(TooLargeError):
        scope.activations(np.random.default_rng(0).standard_normal((1000, 5, 3)), "rnn")
    assert sum(rows) < 200


# Values that do not come out alike


def test_layer_that_runs_for_some_sequences_only(ragged):
    def run(net, x):
        out = net.rnn(x)[0][:, -1]
        return net.long(out) if x.shape[1] > 5 else out

    model = Net(run, rnn=nn.GRU(3, 4, batch_first=True), long=nn.Linear(4, 4))
    scope = sq.Scope(model)
    with pytest.raises(LayerError, match=r"'long' ran for some sequences and not for others"):
        scope.activations(ragged, "long")
    expected = [ref.stack(model.rnn, one)[-1][-1] for one in ragged]
    expected = [ref.linear(model.long, out) if len(one) > 5 else out for one, out in zip(ragged, expected, strict=True)]
    assert_close(scope.predict(ragged), expected)


def test_layer_that_runs_for_short_sequences_only(ragged):
    def run(net, x):
        out = net.rnn(x)[0][:, -1]
        return net.short(out) if x.shape[1] < 5 else out

    model = Net(run, rnn=nn.GRU(3, 4, batch_first=True), short=nn.Linear(4, 4))
    with pytest.raises(LayerError, match=r"'short' (ran for some|never ran)"):
        sq.Scope(model).activations(ragged, "short")


def test_values_that_grow_where_sequences_are_shorter_are_refused(ragged):
    model = Net(
        lambda net, x: net.grow(net.rnn(x)[0])[:, -1],
        rnn=nn.GRU(3, 4, batch_first=True),
        grow=Net(lambda net, h: h.repeat(1, 1 if h.shape[1] > 7 else 4, 1)),
    )
    with pytest.raises(LayerError, match="'grow' gave values of shape"):
        sq.Scope(model).activations(ragged, "grow")


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_batch_size_that_is_none_is_refused(size, reader, block):
    with pytest.raises(sq.errors.SeqscopeError):
        sq.Scope(reader).predict(block, batch_size=size)
