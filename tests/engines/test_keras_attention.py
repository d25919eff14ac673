"""Attention weights of Keras' layers, against weights computed by hand from the layers' own kernels in float64."""

import numpy as np
import pytest

import seqscope as sq
from seqscope.errors import LayerError, UnsupportedError

keras = pytest.importorskip("keras")
from keras import layers as kl  # noqa: E402
from keras import ops  # noqa: E402

BACKEND = keras.backend.backend()


@pytest.fixture(autouse=True)
def _same_weights_in_every_run():
    keras.utils.set_random_seed(0)


def data(*lengths, channels=4):
    random = np.random.default_rng(1)
    return [random.standard_normal((length, channels)).astype(np.float32) for length in lengths or (6, 9, 6)]


def some(*cases):
    """The cases of a test: on jax the first one alone, since every shape of every model is compiled."""
    return cases[:1] if BACKEND == "jax" else cases


def softmax(scores, allowed=True):
    raised = np.where(allowed, np.exp(scores - scores.max(-1, keepdims=True)), 0.0)
    return raised / raised.sum(-1, keepdims=True)


def projected(dense, x):
    """What an einsum layer makes of one sequence: (time, head, size)."""
    kernel = ops.convert_to_numpy(dense.kernel).astype(float)
    bias = 0.0 if dense.bias is None else ops.convert_to_numpy(dense.bias).astype(float)
    return np.einsum("tc,chs->ths", x.astype(float), kernel) + bias


def by_hand(layer, query, key, allowed=True):
    """Weights of a layer with heads, (head, query, key); several query heads may share one head of keys."""
    q, k = projected(layer._query_dense, query), projected(layer._key_dense, key)
    k = np.repeat(k, q.shape[1] // k.shape[1], axis=1)
    return softmax(np.einsum("qhs,khs->hqk", q, k) / np.sqrt(q.shape[2]), allowed)


def check(model, name, expected, X=None):
    """Every sequence has the weights that are expected of it, which sum to 1, and nothing behind them."""
    X = data() if X is None else X
    found = sq.Scope(model).attention(X, name)
    assert found.dims == ("sample", "head", "query", "key")
    for row, x in enumerate(X):
        wanted = expected(x)
        _, n_queries, n_keys = wanted.shape
        np.testing.assert_allclose(found.values[row, :, :n_queries, :n_keys], wanted, atol=2e-6)
        np.testing.assert_allclose(found[row, :, :n_queries].sum("key"), 1.0, atol=1e-6)
        assert np.isnan(found.values[row, :, n_queries:]).all()
        assert np.isnan(found.values[row, :, :, n_keys:]).all()
    return found


def model_of(layer, **options):
    x = keras.Input((None, 4))
    return keras.Model(x, kl.Dense(2)(layer(x, x, **options)))


def causal(n_steps):
    return np.tril(np.ones((n_steps, n_steps), bool))


@pytest.mark.parametrize(
    "make",
    some(
        lambda: kl.MultiHeadAttention(2, 3, name="attn"),
        lambda: kl.MultiHeadAttention(3, 2, value_dim=5, use_bias=False, dropout=0.5, name="attn"),
        lambda: kl.GroupQueryAttention(3, 4, 2, name="attn"),
    ),
)
@pytest.mark.parametrize("use_causal_mask", some(True, False))
def test_layers_with_heads(make, use_causal_mask):
    layer = make()
    model = model_of(layer, use_causal_mask=use_causal_mask)
    found = check(model, "attn", lambda x: by_hand(layer, x, x, causal(len(x)) if use_causal_mask else True))
    assert found.attrs["kind"] == "attention"
    assert found["key"].values.tolist() == list(range(9))


def scores_of(layer, query, key):
    """Scores of a layer without heads, (query, key)."""
    query, key = query.astype(float), key.astype(float)
    scale = 1.0 if layer.scale is None else ops.convert_to_numpy(layer.scale).astype(float)
    if isinstance(layer, kl.AdditiveAttention):
        return (scale * np.tanh(query[:, None] + key[None])).sum(-1)
    if layer.score_mode == "concat":
        weight = ops.convert_to_numpy(layer.concat_score_weight).astype(float)
        return weight * np.tanh(scale * (query[:, None] + key[None])).sum(-1)
    return scale * (query @ key.T)


@pytest.mark.parametrize(
    "make",
    some(
        lambda: kl.AdditiveAttention(name="attn"),
        lambda: kl.AdditiveAttention(use_scale=False, name="attn"),
        lambda: kl.Attention(name="attn"),
        lambda: kl.Attention(use_scale=True, name="attn"),
        lambda: kl.Attention(score_mode="concat", dropout=0.5, name="attn"),
    ),
)
@pytest.mark.parametrize("use_causal_mask", some(False, True))
def test_layers_without_heads_have_one(make, use_causal_mask):
    layer, x = make(), keras.Input((None, 4))
    hidden = kl.Dense(4, name="hidden")(x)
    model = keras.Model(x, layer([x, hidden], use_causal_mask=use_causal_mask))
    dense = model.get_layer("hidden")
    kernel, bias = (ops.convert_to_numpy(variable).astype(float) for variable in (dense.kernel, dense.bias))

    def expected(x):
        return softmax(scores_of(layer, x, x @ kernel + bias), causal(len(x)) if use_causal_mask else True)[None]

    assert check(model, "attn", expected).sizes["head"] == 1


def test_a_mask_of_the_steps_that_a_layer_leaves_out():
    layer, x = kl.MultiHeadAttention(2, 3, name="attn"), keras.Input((None, 4))
    masked = kl.Masking()(x)
    model = keras.Model(x, layer(masked, masked))
    X = data()
    for one in X:
        one[[1, -1]] = 0.0

    def expected(x):
        there = (x != 0).any(1)
        return by_hand(layer, x, x, there[None] & np.ones((len(x), 1), bool))

    found = sq.Scope(model).attention(X, "attn")
    for row, one in enumerate(X):
        there = (one != 0).any(1)
        weights = found.values[row, :, : len(one), : len(one)]
        np.testing.assert_allclose(weights[:, there], expected(one)[:, there], atol=2e-6)
        assert (weights[:, ~there] == 0).all()  # Keras masks queries too, which leaves them no key


def test_the_pass_that_looks_keeps_the_masks_and_gives_the_same():
    """What comes after the layer gets the mask that it would get."""
    x = keras.Input((None, 4))
    masked = kl.Masking()(x)
    attended = kl.MultiHeadAttention(2, 3, name="attn")(query=masked, value=masked)
    model = keras.Model(x, kl.LSTM(3, name="rnn")(attended))
    X = data()
    for one in X:
        one[-2:] = 0.0
    scope = sq.Scope(model)
    batch, lengths = np.stack([X[0], X[2]]), np.array([6, 6])
    plain = scope._engine.forward(batch, lengths, ("rnn",))
    seen = scope._engine.forward(batch, lengths, ("rnn", "attn (weights)"))
    np.testing.assert_array_equal(seen.output, plain.output)
    np.testing.assert_array_equal(seen.captured["rnn"][0], plain.captured["rnn"][0])
    np.testing.assert_allclose(seen.captured["attn (weights)"][0].sum(-1)[:, :, :4], 1.0, atol=1e-6)


def test_a_padding_mask_of_tokens():
    ids = keras.Input((None,), dtype="int32")
    embedded = kl.Embedding(7, 4, mask_zero=True, name="embed")(ids)
    layer = kl.MultiHeadAttention(2, 3, name="attn")
    model = keras.Model(ids, kl.GlobalAveragePooling1D()(layer(embedded, embedded)))
    tokens = np.array([[1, 2, 3, 4, 0, 0], [5, 6, 1, 2, 3, 4]])
    table = ops.convert_to_numpy(model.get_layer("embed").embeddings)
    found = sq.Scope(model).attention(tokens, "attn")
    for row, one in enumerate(tokens):
        there = one > 0
        np.testing.assert_allclose(found.values[row][:, there], by_hand(layer, table[one[there]], table[one], there), atol=2e-6)
        assert (found.values[row][:, ~there] == 0).all()


def test_cross_attention_on_another_clock():
    layer, x = kl.MultiHeadAttention(2, 3, name="attn"), keras.Input((None, 4))
    pooled = kl.AveragePooling1D(3)(x)
    model = keras.Model(x, layer(x, pooled))
    found = check(model, "attn", lambda x: by_hand(layer, x, x[: len(x) // 3 * 3].reshape(-1, 3, 4).mean(1)))
    assert found.sizes == {"sample": 3, "head": 2, "query": 9, "key": 3}


class Called(keras.Model):
    """Asks for the scores itself, and calls by name."""

    def __init__(self):
        super().__init__()
        self.attn = kl.Attention(name="attn")
        self.heads = kl.MultiHeadAttention(2, 3, name="heads")

    def call(self, x):
        value, scores = self.attn(inputs=[x, x], return_attention_scores=True)
        return self.heads(query=value, value=x, key=x) + ops.sum(scores)


def test_a_model_that_asks_itself_and_calls_by_name():
    model = Called()
    model(data()[0][None])
    check(model, "attn", lambda x: softmax(scores_of(model.attn, x, x))[None])
    tree = sq.Scope(model).attention(data())
    assert set(tree.children) == {"attn", "heads"}
    assert tree["heads"].attention.sizes == {"sample": 3, "head": 2, "query": 9, "key": 9}


def test_the_model_is_as_it_was():
    layer = kl.MultiHeadAttention(2, 3, name="attn")
    model = model_of(layer)
    before = ops.convert_to_numpy(model(data()[0][None]))
    held = set(vars(layer))
    sq.Scope(model).attention(data())
    assert set(vars(layer)) == held
    np.testing.assert_array_equal(ops.convert_to_numpy(model(data()[0][None])), before)


def test_attention_over_other_axes_than_time_is_refused():
    x = keras.Input((None, 4))
    wide = kl.Reshape((-1, 2, 2))(x)
    attended = kl.MultiHeadAttention(2, 3, attention_axes=(1, 2), name="attn")(wide, wide)
    model = keras.Model(x, kl.Reshape((-1, 4))(attended))
    with pytest.raises(LayerError, match="The layer 'attn' has attention weights with axes"):
        sq.Scope(model).attention(data(6), "attn")


def test_a_layer_without_weights_is_refused():
    model = model_of(kl.MultiHeadAttention(2, 3, name="attn"))
    dense = model.layers[-1].name
    with pytest.raises(UnsupportedError, match=rf"'{dense}' \(Dense\) is a layer of kind 'linear' .*: ask for one of 'attn'"):
        sq.Scope(model).attention(data(), dense)


class Alone(kl.MultiHeadAttention):
    def call(self, query, value, key=None):
        return super().call(query, value)


def test_a_layer_with_a_call_of_its_own_is_refused():
    with pytest.raises(UnsupportedError, match=r"'attn' \(Alone\) computes its attention in a way of its own"):
        sq.Scope(model_of(Alone(2, 3, name="attn"))).attention(data(), "attn")
