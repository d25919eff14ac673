"""Heads in torch against their equations, with masks, and what they refuse."""

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import seqscope as sq
from reference_heads import HEADS, reference, some_weights
from seqscope.errors import ModelError
from tolerances import assert_close

WEIGHED = HEADS[1:]
OWN = {"InstancePooling": "sigmoid", "AttentionPooling": "softmax", "AdditivePooling": "sigmoid", "ConjunctivePooling": "sigmoid"}


def make(head, *, attention=None, weights=None, **options):
    """A head of 6 features and 3 outputs in float64, with weights of its own or these."""
    more = {} if head == "InstancePooling" else {"d_attn": 4} | ({} if attention is None else {"attention": attention})
    made = getattr(sq.nn.torch, head)(6, 3, **more, **options).double().eval()
    fill(made, some_weights() if weights is None else weights)
    return made


def fill(head, weights):
    with torch.no_grad():
        for name in ("hidden", "score", "classifier"):
            if hasattr(head, name):
                module = getattr(head, name)
                module.weight.copy_(torch.tensor(np.atleast_2d(weights[name].T)))
                if module.bias is not None:
                    module.bias.copy_(torch.tensor(np.atleast_1d(weights[f"{name}_bias"])))


def features(n_samples=4, n_steps=7, n_features=6, seed=1):
    return torch.tensor(np.random.default_rng(seed).standard_normal((n_samples, n_steps, n_features)))


@pytest.mark.parametrize("attention", [None, "sigmoid", "softmax"])
@pytest.mark.parametrize("head", HEADS)
def test_logits_evidence_and_weights_are_those_of_the_equations(head, attention):
    if head == "InstancePooling" and attention is not None:
        return
    z, lengths = features(), torch.tensor([7, 3, 1, 5])
    there = np.arange(7) < lengths.numpy()[:, None]
    for mask in (None, there):
        expected = reference(head, some_weights(), z.numpy(), attention=attention or OWN[head], there=mask)
        made = make(head, attention=attention)
        given = {} if mask is None else {"lengths": lengths}
        with torch.no_grad():
            found, logits = made.instances(z, **given), made(z, **given)
        assert_close(logits, expected[0])
        assert_close(found["evidence"], expected[1])
        assert_close(found["evidence"].sum(1), logits)
        if head in WEIGHED:
            assert_close(found["weights"], expected[2])


def test_which_kind_of_attention_is_the_default():
    for head in WEIGHED:
        assert make(head).attention == OWN[head]
    weights = make("AttentionPooling").instances(features())["weights"]
    assert_close(weights.sum(1).detach(), np.ones(4))
    assert "weights" not in make("InstancePooling").instances(features())


@pytest.mark.parametrize("head", HEADS)
def test_padding_never_matters_whatever_stands_there(head):
    made, x = make(head), features(1, 5)
    alone = made(x)
    for padding in (0.0, 1e30, float("nan"), float("inf")):
        padded = torch.cat([x, torch.full((1, 4, 6), padding, dtype=x.dtype)], 1)
        mask = torch.arange(9)[None] < 5
        assert_close(made(padded, torch.tensor([5])).detach(), alone.detach())
        assert_close(made(padded, mask=mask).detach(), alone.detach())
        found = made.instances(padded, mask=mask)
        assert all((part[:, 5:] == 0).all() for part in found.values())
        assert_close(found["evidence"][:, :5].detach(), made.instances(x)["evidence"].detach())


def test_lengths_and_masks_may_be_arrays_and_lists():
    made, x, lengths = make("ConjunctivePooling"), features(), [7, 3, 1, 5]
    expected = made(x, torch.tensor(lengths))
    mask = np.arange(7) < np.array(lengths)[:, None]
    for found in (made(x, lengths), made(x, np.array(lengths)), made(x, mask=mask), made(x, mask=mask.tolist())):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("head", HEADS)
def test_no_derivative_reaches_padding_or_is_spoilt_by_it(head):
    x = features(1, 6).index_fill(1, torch.tensor([4, 5]), float("nan")).requires_grad_()
    made = make(head)
    made(x, torch.tensor([4]))[0, 1].backward()
    assert x.grad[:, :4].abs().sum() > 0
    assert (x.grad[:, 4:] == 0).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in made.parameters())


def test_a_mask_may_have_holes():
    mask = torch.tensor([[True, False, True, True, False, True, False]])
    made, x = make("ConjunctivePooling"), features(1)
    assert_close(made(x, mask=mask).detach(), made(x[:, mask[0]]).detach())


@pytest.mark.parametrize("head", HEADS)
def test_channels_first_is_the_same_turned_round(head):
    x = features()
    first = make(head, channels_first=True)
    assert_close(first(x.transpose(1, 2), torch.tensor([7, 2, 3, 4])).detach(), make(head)(x, torch.tensor([7, 2, 3, 4])).detach())
    assert first.instances(x.transpose(1, 2))["evidence"].shape == (4, 7, 3)


def test_a_packed_sequence_brings_its_lengths():
    lstm, head = torch.nn.LSTM(3, 6, batch_first=True).double(), make("AttentionPooling")
    x, lengths = features(3, 7, 3), torch.tensor([2, 7, 4])
    packed, _ = lstm(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    for row, length in enumerate(lengths):
        assert_close(head(packed)[row].detach(), head(lstm(x[row : row + 1, :length])[0])[0].detach())


def test_instance_pooling_is_global_average_pooling_and_a_dense_layer():
    made, x = make("InstancePooling"), features()
    assert_close(made(x).detach(), made.classifier(x.mean(1)).detach())


@pytest.mark.parametrize("attention", ["sigmoid", "softmax"])
def test_additive_and_attention_pooling_give_the_same_logits_as_said(attention):
    assert_close(
        make("AdditivePooling", attention=attention)(features()).detach(),
        make("AttentionPooling", attention=attention)(features()).detach(),
    )


def test_dropout_is_for_training_alone():
    made, x = make("ConjunctivePooling", dropout=0.5), features()
    quiet = made(x)
    assert torch.equal(made(x), quiet)
    made.train()
    assert not torch.equal(made(x), quiet)
    assert_close(made.instances(x)["evidence"].sum(1).detach(), quiet.detach())


def test_a_head_learns_where_the_pattern_is():
    """Trained from labels of whole series alone, the evidence is where the pattern was planted."""
    X, y, truth = sq.datasets.planted(200, length=40, n_channels=2, width=10, seed=3)
    x = torch.tensor(next(X.batches(200)).values).float().transpose(1, 2)
    classes = torch.tensor([X.outputs.index(name) for name in y])
    convolutions = [torch.nn.Conv1d(2, 12, 5, padding=2), torch.nn.ReLU(), torch.nn.Conv1d(12, 12, 5, padding=2), torch.nn.ReLU()]
    net = torch.nn.Sequential(*convolutions, sq.nn.torch.ConjunctivePooling(12, 2, channels_first=True))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), classes).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        assert (net(x).argmax(1) == classes).double().mean() > 0.97
        evidence = net[4].instances(net[:4](x))["evidence"].numpy()
    where = truth.values.any(2)
    own = evidence[np.arange(200), :, classes.numpy()]
    above = (own[where].reshape(200, -1, 1) > own[~where].reshape(200, 1, -1)).mean((1, 2))  # of each series, its area under the curve
    assert np.median(above) > 0.9


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (
            lambda head: head(torch.zeros(4, 6)),
            r"pools over time and was given a tensor of shape \(4, 6\): expected \(sample, time, feature",
        ),
        (lambda head: head(torch.zeros(4, 0, 6)), r"which has no step"),
        (lambda head: head(torch.zeros(4, 7, 5)), r"takes 6 features and was given a tensor of shape \(4, 7, 5\)"),
        (lambda head: head(features(), [7, 3, 8, 5]), r"was given a length of 8 for sample 2: expected 1 to 7, its steps\.$"),
        (lambda head: head(features(), torch.tensor([7, 0, 1, 5])), r"was given a length of 0 for sample 1: expected 1 to 7"),
        (lambda head: head(features(), "7315"), r"takes lengths as a tensor and was given a str"),
        (lambda head: head(features(), 7), r"takes lengths of shape \(4\) and of type int, and was given \(\) of type int64"),
        (lambda head: head(torch.zeros(4, 6, 7)), r"look swapped: say channels_first=True"),
        (lambda head: head(torch.nn.LSTM(2, 6)(torch.zeros(4, 7, 2))), r"was given a tuple: of a recurrent module"),
        (lambda head: head(torch.zeros(4, 7, 6), torch.tensor([7, 7])), r"lengths of shape \(4\) and of type int, and was given \(2\)"),
        (lambda head: head(torch.zeros(4, 7, 6), torch.ones(4)), r"of type int, and was given \(4\) of type float32"),
        (
            lambda head: head(torch.zeros(4, 7, 6), mask=torch.ones(4, 6) > 0),
            r"a mask of shape \(4, 7\) and of type bool, and was given \(4, 6\)",
        ),
        (lambda head: head(torch.zeros(4, 7, 6), torch.ones(4).int(), mask=torch.ones(4, 7) > 0), r"both lengths and a mask"),
    ],
)
@pytest.mark.parametrize("name", ["InstancePooling", "AttentionPooling"])
def test_what_does_not_fit_is_one_sentence(name, run, said):
    with pytest.raises(ModelError, match=f"^{name}.*{said}") as caught:
        run(getattr(sq.nn.torch, name)(6, 3))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_outputs": 0}, "n_outputs=0: expected a whole number"),
        ({"n_features": 2.5}, "n_features=2.5: expected a whole number"),
        ({"d_attn": True}, "d_attn=True: expected a whole number"),
        ({"dropout": 1.0}, "dropout=1.0: expected a share"),
        ({"attention": "max"}, "attention='max': expected one of 'sigmoid', 'softmax'"),
    ],
)
def test_options_out_of_their_range_are_refused(options, said):
    sizes = {"n_features": 6, "n_outputs": 3} | options
    with pytest.raises(ModelError, match=said):
        sq.nn.torch.AdditivePooling(**sizes)
