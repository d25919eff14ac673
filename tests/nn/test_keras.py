"""Heads in Keras against their equations, with masks, in files, and what they refuse; on each backend (see test_backends.py)."""

import keras
import numpy as np
import pytest
from keras import layers

import seqscope as sq
from reference_heads import HEADS, reference, some_weights
from seqscope.errors import ModelError
from tolerances import assert_close

WEIGHED = HEADS[1:]
OWN = {"InstancePooling": "sigmoid", "AttentionPooling": "softmax", "AdditivePooling": "sigmoid", "ConjunctivePooling": "sigmoid"}
DTYPE = "float32"  # in which Keras multiplies matrices of float64 too, except on tensorflow


def make(head, *, attention=None, **options):
    """A head of 6 features and 3 outputs, with the weights of the reference."""
    more = {} if head == "InstancePooling" else {"d_attn": 4} | ({} if attention is None else {"attention": attention})
    made = getattr(sq.nn.keras, head)(3, dtype=DTYPE, **more, **options)
    made.build((None, None, 6))
    weights = some_weights()
    for name in ("hidden", "score", "classifier"):
        if hasattr(made, name):
            part = getattr(made, name)
            part.set_weights(
                [weights[name].reshape(part.kernel.shape), *([np.atleast_1d(weights[f"{name}_bias"])] if part.use_bias else [])]
            )
    return made


def features(n_samples=4, n_steps=7, n_features=6, seed=1):
    return np.random.default_rng(seed).standard_normal((n_samples, n_steps, n_features)).astype(DTYPE)


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("attention", [None, "sigmoid", "softmax"])
@pytest.mark.parametrize("head", HEADS)
def test_logits_evidence_and_weights_are_those_of_the_equations(head, attention):
    if head == "InstancePooling" and attention is not None:
        return
    z, there = features(), np.arange(7) < np.array([7, 3, 1, 5])[:, None]
    for mask in (None, there):
        expected = reference(head, some_weights(), z.astype(float), attention=attention or OWN[head], there=mask)
        made = make(head, attention=attention)
        native = None if mask is None else keras.ops.convert_to_tensor(mask)
        found, logits = made.instances(z, native), made(keras.ops.convert_to_tensor(z), mask=native)
        assert_close(numbers(logits), expected[0], DTYPE)
        assert_close(numbers(found["evidence"]), expected[1], DTYPE)
        assert_close(numbers(found["evidence"]).sum(1), numbers(logits), DTYPE)
        if head in WEIGHED:
            assert_close(numbers(found["weights"]), expected[2], DTYPE)


@pytest.mark.parametrize("head", HEADS)
def test_padding_never_matters_whatever_stands_there(head):
    made, x = make(head), features(1, 5)
    alone = numbers(made(keras.ops.convert_to_tensor(x)))
    mask = keras.ops.convert_to_tensor(np.arange(9)[None] < 5)
    for padding in (0.0, 1e30, float("nan")):
        padded = keras.ops.convert_to_tensor(np.concatenate([x, np.full((1, 4, 6), padding, x.dtype)], 1))
        assert_close(numbers(made(padded, mask=mask)), alone, DTYPE)
        assert all((numbers(part)[:, 5:] == 0).all() for part in made.instances(padded, mask).values())


def test_a_mask_comes_along_and_ends_with_the_head():
    stack = [layers.Masking(), layers.LSTM(6, return_sequences=True), sq.nn.keras.AttentionPooling(3), layers.Softmax()]
    model = keras.Sequential([keras.Input((None, 2)), *stack])
    x = features(1, 5, 2).astype("float32")
    padded = np.concatenate([x, np.zeros((1, 3, 2), "float32")], 1)
    assert_close(numbers(model(padded)), numbers(model(x)), "float32")
    assert getattr(model(padded), "_keras_mask", None) is None


def test_a_mask_may_be_an_array_or_a_list():
    made, x, mask = make("ConjunctivePooling"), features(2), np.arange(7) < np.array([[7], [3]])
    expected = numbers(made(x, mask=keras.ops.convert_to_tensor(mask)))
    assert_close(numbers(made(x, mask=mask)), expected, DTYPE)
    assert_close(numbers(made(x, mask=mask.tolist())), expected, DTYPE)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="what is in a file does not depend on the backend")
def test_a_head_is_kept_in_a_file_with_its_options(tmp_path):
    made = [sq.nn.keras.ConjunctivePooling(3, attention="softmax", d_attn=5, dropout=0.2, name="head")]
    model = keras.Sequential([keras.Input((None, 2)), layers.Conv1D(6, 3), *made])
    x = features(2, 7, 2).astype("float32")
    model.save(tmp_path / "model.keras")
    scope = sq.Scope(tmp_path / "model.keras")
    head = scope.model.get_layer("head")
    assert_close(numbers(scope.model(x)), numbers(model(x)), "float32")
    assert (head.attention, head.d_attn, head.dropout.rate, head.n_outputs, head.n_features) == ("softmax", 5, 0.2, 3, 6)
    assert [(layer.kind, layer.n_params) for layer in scope.layers][-1] == ("pooling_head", 6 * 5 + 5 + 5 + 6 * 3 + 3)
    assert scope.layers[-1].description == "conjunctive pooling into 3 outputs"


@pytest.mark.filterwarnings("ignore:For .* the target's probability is below chance")
@pytest.mark.parametrize("head", ["AttentionPooling", "ConjunctivePooling"])
def test_evidence_sums_to_the_logit_of_a_model(head):
    stack = [layers.Conv1D(6, 3), layers.MaxPooling1D(2), getattr(sq.nn.keras, head)(3), layers.Softmax()]
    X = sq.Sequences([features(1, n, 2)[0] for n in (12, 9, 12)])
    scope = sq.Scope(keras.Sequential([keras.Input((None, 2)), *stack]))
    found = scope.attribute(X, "instances", target=[0, 1, 2])
    assert found.attrs["additive"] == "true"
    np.testing.assert_allclose(found["native"].sum("step"), found.score, atol=1e-5)
    assert found["native"].sizes == {"sample": 3, "step": 5}
    assert found["native"].notnull().sum("step").values.tolist() == [5, 3, 5]
    weights = scope.attribute(X, "attention_pooling")["native"]
    assert weights.attrs["long_name"] == "Attention weight, on the layer's own clock"
    if head == "AttentionPooling":
        np.testing.assert_allclose(weights.sum("step"), 1, atol=1e-6)


@pytest.mark.filterwarnings("ignore:For .* the target's probability is below chance")
def test_a_model_of_one_length_has_its_evidence_in_place():
    stack = [layers.Conv1D(6, 3, padding="same"), sq.nn.keras.AdditivePooling(3)]
    found = sq.Scope(keras.Sequential([keras.Input((12, 2)), *stack])).attribute(features(2, 12, 2), "instances", target=1)
    assert found["native"].dims == ("sample", "time")
    np.testing.assert_allclose(found["native"].sum("time"), found.score, atol=1e-5)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda head: head(keras.ops.zeros((4, 6))), r"pools over time and was given a tensor of shape \(4, 6\)"),
        (lambda head: head(keras.ops.zeros((4, 7, 5))), r"takes 6 features and was given a tensor of shape \(4, 7, 5\)"),
        (lambda head: head([1, 2]), r"takes a tensor and was given a list"),
        (
            lambda head: head(keras.ops.zeros((4, 7, 6)), mask=keras.ops.ones((4, 6), "bool")),
            r"takes a mask of shape \(4, 7\) and of type bool",
        ),
        (lambda head: head(keras.Input((6,))), r"pools over time and was given a tensor of shape \(any, 6\): expected"),
    ],
)
def test_what_does_not_fit_is_one_sentence(run, said):
    for head in (sq.nn.keras.ConjunctivePooling(3, n_features=6), make("ConjunctivePooling")):
        with pytest.raises(ModelError, match=f"^ConjunctivePooling {said}") as caught:
            run(head)
        assert "\n" not in str(caught.value)


def test_options_out_of_their_range_are_refused():
    for options, said in (({"n_outputs": 0}, "n_outputs=0"), ({"n_outputs": 3, "attention": "max"}, "attention='max'")):
        with pytest.raises(ModelError, match=said):
            sq.nn.keras.AdditivePooling(**options)
