"""What yields data: torch's and TensorFlow's own loaders, and plain Python."""

import itertools
import os

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import seqscope as sq
from seqscope import errors

RANDOM = np.random.default_rng(0)
X3 = RANDOM.standard_normal((7, 5, 2)).astype(np.float32)
Y = np.arange(7) % 3


def check(X):
    np.testing.assert_array_equal(np.stack(list(X)), X3)
    assert X.labels.tolist() == Y.tolist()


class Numbered(Dataset):
    """As people write them: items by number, and no end of their own."""

    def __len__(self):
        return 7

    def __getitem__(self, place):
        return torch.tensor(X3[place % 7]), int(Y[place % 7])


class Flowing(IterableDataset):
    def __iter__(self):
        return ((torch.tensor(x), y) for x, y in zip(X3, Y, strict=True))


@pytest.mark.parametrize("data", [TensorDataset(torch.tensor(X3), torch.tensor(Y)), Numbered(), Flowing()])
def test_a_dataset_of_torch_gives_one_sequence_an_item_and_a_loader_over_it_batches(data):
    check(sq.read(data))
    check(sq.read(DataLoader(data, batch_size=3)))
    check(sq.read(DataLoader(data, batch_size=None)))


def test_batches_of_a_sampler_of_their_own_and_of_one():
    data = TensorDataset(torch.tensor(X3), torch.tensor(Y))
    check(sq.read(DataLoader(data, batch_sampler=[[0, 1, 2], [3], [4, 5, 6]])))
    check(sq.read(DataLoader(data, batch_size=1)))


class LikeTf:
    """What tells a tf.data set: the form of its elements, and how many there are, -1 where it has no end."""

    element_spec = object()

    def __init__(self, items, cardinality):
        self.items, self._cardinality = items, cardinality

    def __iter__(self):
        return iter(self.items)

    def cardinality(self):
        return np.int64(self._cardinality)


def test_what_looks_like_tf_data():
    one_hot = np.eye(3)[Y]
    check(sq.read(LikeTf([(X3[:4], one_hot[:4]), (X3[4:], one_hot[4:])], 2)))
    check(sq.read(LikeTf(list(zip(X3, Y, strict=True)), -2)))
    with pytest.raises(errors.DataError, match="it has no end: say most="):
        sq.read(LikeTf(itertools.repeat((X3, Y)), -1))


@pytest.mark.skipif("SEQSCOPE_DEEP" not in os.environ, reason="TensorFlow takes seconds to load: part of make check-deep")
def test_tf_data_in_batches_and_alone():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((X3, np.eye(3)[Y]))  # one-hot, as Keras takes them
    check(sq.read(data))
    check(sq.read(data.batch(3)))
    with pytest.raises(errors.DataError, match="it has no end: say most="):
        sq.read(data.repeat())
    assert sq.read(data.repeat(), most=10).labels.tolist() == [*Y, *Y[:3]]


def test_anything_that_yields_pairs_or_series():
    check(sq.read(zip(X3, Y, strict=True)))
    check(sq.read([(X3[:4], Y[:4]), (X3[4:], Y[4:])]))
    assert sq.read(iter(X3)).labels is None
    assert sq.read((x for x in X3), most=3).describe() == "3 sequences, 5 steps, 2 channels"


def test_ragged_batches_tokens_and_layouts():
    assert sq.read([(X3[:2], Y[:2]), (X3[2:4, :3], Y[2:4])]).lengths.tolist() == [5, 5, 3, 3]
    assert sq.read(DataLoader(TensorDataset(torch.arange(12).reshape(3, 4)), batch_size=2)).describe() == "3 sequences, 4 steps, tokens"
    turned = torch.tensor(X3).permute(0, 2, 1)
    check(sq.read(DataLoader(TensorDataset(turned, torch.tensor(Y)), batch_size=3), layout="NCT"))
    check(sq.read(TensorDataset(turned, torch.tensor(Y)), layout="NCT"))


def test_a_gradient_and_half_precision_are_no_hindrance():
    x = torch.tensor(X3, requires_grad=True)
    assert sq.read([(x.bfloat16(), Y)]).dtype == np.float32


class Fails:
    def __iter__(self):
        yield X3[0], 1
        raise RuntimeError("the disk is on fire")


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ([{"x": X3[0], "y": 1}], {}, r"item 0: it is a dict of 'x', 'y': give pairs, as sq.read\(\(item\['x'\], item\['y'\]\) for item in"),
        ([(X3, Y, Y)], {}, r"item 0: it has 3 parts: give pairs \(x, y\)"),
        ([(X3, Y[:4])], {}, r"item 0: its labels have the shape \(4,\) for 7 sequences"),
        ([(X3[0], np.ones(5))], {}, "labels"),
        ([(X3[0], 1), (X3[1], [1, 2])], {}, "its labels are not one for each sequence: say y=False"),
        ([(X3[0], 1), (X3[1][:, :1], 1)], {}, "has 1 channels and item 0 has 2 channels"),
        ([], {}, "it yields nothing"),
        (Fails(), {}, "it raised RuntimeError behind item 0: the disk is on fire"),
        (itertools.repeat((X3[0], 1)), {}, "it has no end: say most="),
        ([(X3[0], 1)], {"most": 0}, "`most` is 0: expected a number of sequences"),
        ([(X3[0], 1)], {"sample": "a"}, "sample='a' means nothing for a loader"),
        (X3, {}, "data already: give it to Sequences"),
        (torch.tensor(X3), {}, "data already: give it to Sequences"),
        ([("some text", 1)], {}, "item 0"),
        (3, {}, "can't be read: expected a file's path, or a loader"),
    ],
)
def test_what_is_no_data_is_refused_in_a_sentence(source, options, message):
    with pytest.raises(errors.DataError, match=message):
        sq.read(source, **options)


def test_what_does_not_end_is_stopped(monkeypatch):
    monkeypatch.setattr("seqscope.files.loaders.MOST", 50)
    with pytest.raises(errors.DataError, match="it gave more than 50 sequences and does not tell how many there are: say most="):
        sq.read((X3[0], 1) for _ in itertools.count())


def test_what_does_not_fit_in_memory_is_stopped(monkeypatch):
    monkeypatch.setattr("seqscope.files.loaders._LOOK_EVERY", 1000)
    monkeypatch.setattr("seqscope.ram.available", lambda: 5000)
    with pytest.raises(errors.TooLargeError, match="What the loader gives"):
        sq.read((X3[0], 1) for _ in itertools.count())
