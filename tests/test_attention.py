"""Attention weights of torch models, against softmax(q k' / sqrt(d)) written out by hand in float64."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import reference as ref
import seqscope as sq
from nets import Net, series
from seqscope.errors import LayerError, UnsupportedError
from tolerances import assert_close

RAGGED = (6, 9, 4, 6)


def several(*lengths, channels=4):
    random = np.random.default_rng(1)
    return [random.standard_normal((length, channels)) for length in lengths or RAGGED]


def by_hand(module, query, key=None, forbidden=None):
    """Weights of one sequence, (head, query, key), from the module's own projections; `forbidden`: which scores a mask takes away."""
    key = query if key is None else key
    w = {name: value.detach().double().numpy() for name, value in module.named_parameters()}
    if module._qkv_same_embed_dim:
        to_q, to_k, _ = np.split(w["in_proj_weight"], 3)
    else:
        to_q, to_k = w["q_proj_weight"], w["k_proj_weight"]
    bias_q, bias_k, _ = np.split(w.get("in_proj_bias", np.zeros(3 * module.embed_dim)), 3)
    q, k = query @ to_q.T + bias_q, key @ to_k.T + bias_k
    weights = []
    for head in range(module.num_heads):
        part = slice(head * module.head_dim, (head + 1) * module.head_dim)
        scores = q[:, part] @ k[:, part].T / np.sqrt(module.head_dim)
        weights.append(ref.softmax(scores if forbidden is None else np.where(forbidden, -np.inf, scores)))
    return np.array(weights)


def check(found, expected, X):
    """Every sequence has the weights that are expected of it, which sum to 1, and nothing behind them."""
    assert found.dims == ("sample", "head", "query", "key")
    for row, x in enumerate(X):
        wanted = expected(x)
        _, n_queries, n_keys = wanted.shape
        assert_close(found.values[row, :, :n_queries, :n_keys], wanted)
        np.testing.assert_allclose(found[row, :, :n_queries].sum("key"), 1.0, rtol=1e-12)
        assert np.isnan(found.values[row, :, n_queries:]).all()
        assert np.isnan(found.values[row, :, :, n_keys:]).all()


def self_attention(**options):
    options = {"batch_first": True} | options
    return Net(lambda net, x: net.attn(x, x, x, need_weights=False)[0], attn=nn.MultiheadAttention(4, 2, **options))


# What torch's modules compute


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"batch_first": False}, {"dropout": 0.5}], ids=str)
def test_self_attention(options):
    model = self_attention(**options)
    found = sq.Scope(model, layout="NTC" if options.get("batch_first", True) else "TNC").attention(several(), "attn")
    check(found, lambda x: by_hand(model.attn, x), several())


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("asks", [{"need_weights": False}, {"need_weights": True}, {"average_attn_weights": False}], ids=str)
def test_each_head_whatever_the_model_asks_for(heads, asks):
    model = Net(lambda net, x: net.attn(x, x, x, **asks)[0], attn=nn.MultiheadAttention(4, heads, batch_first=True))
    check(sq.Scope(model).attention(several(), "attn"), lambda x: by_hand(model.attn, x), several())


def test_arguments_by_name():
    model = Net(lambda net, x: net.attn(value=x, key=x, query=x)[0], attn=nn.MultiheadAttention(4, 2, batch_first=True))
    check(sq.Scope(model).attention(several(), "attn"), lambda x: by_hand(model.attn, x), several())


@pytest.mark.parametrize("batch_first", [True, False])
def test_cross_attention_from_learned_queries(batch_first):
    def run(net, x):
        n_samples = x.shape[0] if batch_first else x.shape[1]
        queries = net.asks.weight[None].expand(n_samples, -1, -1) if batch_first else net.asks.weight[:, None].expand(-1, n_samples, -1)
        return net.attn(queries, x, x)[0]

    model = Net(run, asks=nn.Embedding(3, 4), attn=nn.MultiheadAttention(4, 2, batch_first=batch_first))
    X = sq.Sequences(several(), rate=10.0)
    found = sq.Scope(model, layout="NTC" if batch_first else "TNC").attention(X, "attn")
    check(found, lambda x: by_hand(model.attn, model.asks.weight.detach().numpy(), x), several())
    assert found["query"].values.tolist() == [0, 1, 2]
    np.testing.assert_allclose(found["key"], np.arange(9) / 10)


@pytest.mark.parametrize("sizes", [{"kdim": 4, "vdim": 3}, {"kdim": 6, "vdim": 6}], ids=str)
def test_keys_and_values_of_other_sizes(sizes):
    model = Net(
        lambda net, x: net.attn(x, net.key(x), net.value(x))[0],
        key=nn.Linear(4, sizes["kdim"]),
        value=nn.Linear(4, sizes["vdim"]),
        attn=nn.MultiheadAttention(4, 2, batch_first=True, **sizes),
    )
    check(sq.Scope(model).attention(several(), "attn"), lambda x: by_hand(model.attn, x, ref.linear(model.key, x)), several())


def future(n_steps):
    return np.triu(np.ones((n_steps, n_steps), bool), 1)


@pytest.mark.parametrize("floating", [False, True])
@pytest.mark.parametrize("is_causal", [False, True])
def test_a_mask_over_the_future(floating, is_causal):
    def run(net, x):
        mask = torch.tensor(future(x.shape[1]))
        mask = torch.zeros(mask.shape, dtype=x.dtype).masked_fill(mask, float("-inf")) if floating else mask
        return net.attn(x, x, x, attn_mask=mask, is_causal=is_causal, need_weights=False)[0]

    model = Net(run, attn=nn.MultiheadAttention(4, 2, batch_first=True))
    check(sq.Scope(model).attention(several(), "attn"), lambda x: by_hand(model.attn, x, forbidden=future(len(x))), several())


def last_left_out(model, batch, lengths):
    """A mask over each sequence's last key."""
    return model(batch, torch.arange(batch.shape[1])[None] >= lengths[:, None] - 1)


def test_a_padding_mask_through_call():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x, mask):
            return self.attn(x, x, x, key_padding_mask=mask)[0]

    model = Masked().double().eval()
    found = sq.Scope(model, call=last_left_out).attention(several(), "attn")
    check(found, lambda x: by_hand(model.attn, x, forbidden=np.arange(len(x)) == len(x) - 1), several())


def test_a_query_without_any_key_has_no_weights():
    def run(net, x):
        return net.attn(x, x, x, attn_mask=torch.eye(x.shape[1], dtype=torch.bool)[:1].expand(x.shape[1], -1))[0]

    model = Net(run, attn=nn.MultiheadAttention(4, 2, batch_first=True))
    one = sq.Scope(model).attention(np.ones((1, 1, 4)), "attn")
    assert one.isnull().all()


# Encoders, which never ask for weights


def encoder(*, n_layers=2, heads=2, **options):
    layer = nn.TransformerEncoderLayer(4, heads, 6, **{"batch_first": True, "dropout": 0.1} | options)
    return nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=options.get("batch_first", True)).double().eval()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("options", [{}, {"heads": 1}, {"batch_first": False, "heads": 1}, {"norm_first": True, "heads": 1}], ids=str)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
def test_encoder(options, fused):
    """In the conditions of torch's fused kernel (batch first, an even number of heads, no gradient) and out of them."""
    model = encoder(**options)
    for parameter in model.parameters():
        parameter.requires_grad_(not fused)
    tree = sq.Scope(model, layout="NTC" if options.get("batch_first", True) else "TNC").attention(several())
    assert list(tree.children) == ["layers.0.self_attn", "layers.1.self_attn"]

    def shown(layer, x):
        return ref.layer_norm(layer.norm1, x) if layer.norm_first else x

    check(tree["layers.0.self_attn"].attention, lambda x: by_hand(model.layers[0].self_attn, shown(model.layers[0], x)), several())
    if not options.get("norm_first"):
        expected = [by_hand(model.layers[1].self_attn, ref.encoder_layer(model.layers[0], x)[""]) for x in several()]
        deeper = tree["layers.1.self_attn"].attention
        for row, wanted in enumerate(expected):
            assert_close(deeper.values[row, :, : RAGGED[row], : RAGGED[row]], wanted)


def test_encoder_layer_by_its_own_name():
    model = Net(lambda net, x: net.enc(x), enc=nn.TransformerEncoderLayer(4, 2, 6, batch_first=True))
    scope = sq.Scope(model)
    found = scope.attention(several(), "enc")
    assert found.attrs["layer"] == "enc.self_attn"
    xr.testing.assert_identical(found, scope.attention(several(), "enc.self_attn"))


def test_encoder_with_a_padding_mask_stays_on_dense_tensors():
    """Torch would pack the rows into a nested tensor, on which its attention can't be looked at."""

    def call(model, batch, lengths):
        return model(batch, src_key_padding_mask=torch.arange(batch.shape[1])[None] >= lengths[:, None] - 1)

    model = encoder()
    found = sq.Scope(model, call=call).attention(several(), "layers.0.self_attn")
    check(found, lambda x: by_hand(model.layers[0].self_attn, x, forbidden=np.arange(len(x)) == len(x) - 1), several())
    assert model.use_nested_tensor


def test_decoder_looks_at_itself_and_at_the_encoder():
    def run(net, x):
        return net.dec(net.asks.weight[None].expand(len(x), -1, -1), x)

    model = Net(run, asks=nn.Embedding(3, 4), dec=nn.TransformerDecoderLayer(4, 2, 6, batch_first=True))
    tree = sq.Scope(model).attention(several(), "dec")
    asks = model.asks.weight.detach().numpy()
    assert set(tree.children) == {"dec.self_attn", "dec.multihead_attn"}
    own = tree["dec.self_attn"].attention
    assert own.sizes == {"sample": 4, "head": 2, "query": 3, "key": 3}
    assert_close(own[2], by_hand(model.dec.self_attn, asks))
    across = tree["dec.multihead_attn"].attention
    assert across.sizes == {"sample": 4, "head": 2, "query": 3, "key": 9}
    np.testing.assert_allclose(across[2, :, :, :4].sum("key"), 1.0)
    assert across[2, :, :, 4:].isnull().all()


# The model is as it was


@pytest.mark.parametrize("make", [self_attention, lambda: self_attention(batch_first=False), encoder], ids=["first", "second", "encoder"])
def test_the_model_gives_the_same_bits_before_and_after(make):
    model = make()
    x = torch.tensor(series(2, 6, 4))
    before = model(x).detach().numpy().copy()
    scope = sq.Scope(model)
    plain = scope.predict(several(6, 6))
    scope.attention(several(6, 6))
    np.testing.assert_array_equal(model(x).detach().numpy(), before)
    xr.testing.assert_identical(scope.predict(several(6, 6)), plain)
    assert not any("forward" in vars(module) or module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("options", [{}, {"batch_first": False}, {"kdim": 4, "vdim": 4}, {"bias": False}], ids=str)
def test_the_pass_that_looks_gives_the_same_bits(options):
    scope = sq.Scope(self_attention(**options), layout="NTC")
    batch, lengths = series(2, 6, 4), np.array([6, 6])
    plain = scope._engine.forward(batch, lengths)
    seen = scope._engine.forward(batch, lengths, ("attn (weights)",))
    assert list(seen.captured) == ["attn (weights)"]
    np.testing.assert_array_equal(seen.output, plain.output)


def test_an_error_inside_leaves_the_model_as_it_was():
    def run(net, x):
        net.attn(x, x, x)
        if len(net.calls) == 1:
            raise KeyboardInterrupt
        return x

    model = Net(run, attn=nn.MultiheadAttention(4, 2, batch_first=True))
    model.calls = []
    scope = sq.Scope(model, layout="NTC")
    scope.attention(series(2, 6, 4))
    model.calls = [0]
    with pytest.raises(KeyboardInterrupt):
        scope.attention(series(2, 6, 4))
    assert not any("forward" in vars(module) or module._forward_hooks for module in model.modules())


# Labels


def test_one_sequence_has_no_sample_dim():
    model = self_attention()
    scope = sq.Scope(model)
    found = scope.attention(several()[2], "attn")
    assert found.dims == ("head", "query", "key")
    assert_close(found, by_hand(model.attn, several()[2]))
    assert scope.attention(several()[2])["attn"].attention.dims == ("head", "query", "key")


def test_attributes_say_what_it_is():
    found = sq.Scope(self_attention()).attention(several(), "attn")
    said = {"method": "attention", "model": "Net", "framework": "torch", "layer": "attn", "kind": "attention"}
    assert said.items() <= found.attrs.items()
    assert (found.name, found.attrs["layer_type"]) == ("attention", "MultiheadAttention")
    assert found["length"].values.tolist() == list(RAGGED)


def test_queries_and_keys_have_the_time_of_the_input():
    X = sq.Sequences(several(), rate=2.0)
    found = sq.Scope(self_attention()).attention(X, "attn")
    for dim in ("query", "key"):
        np.testing.assert_allclose(found[dim], np.arange(9) / 2)
        assert found[dim].attrs == {"long_name": "Time", "units": "s"}


def test_steps_that_are_not_the_inputs_are_numbered():
    turned = Net(lambda net, x: net.attn(x.flip(1), x.flip(1), x.flip(1))[0], attn=nn.MultiheadAttention(4, 2, batch_first=True))
    halved = Net(lambda net, x: net.attn(x[:, ::2], x[:, ::2], x[:, ::2])[0], attn=nn.MultiheadAttention(4, 2, batch_first=True))
    for model, n_steps in ((turned, 9), (halved, 5)):
        found = sq.Scope(model).attention(sq.Sequences(several(), rate=2.0), "attn")
        assert found["query"].values.tolist() == found["key"].values.tolist() == list(range(n_steps))
        assert "units" not in found["key"].attrs


def test_a_key_more_than_the_input_has_steps():
    model = self_attention(add_zero_attn=True)
    found = sq.Scope(model).attention(sq.Sequences(several(), rate=2.0), "attn")
    assert found.sizes == {"sample": 4, "head": 2, "query": 9, "key": 10}
    np.testing.assert_allclose(found[2, :, :4, :5].sum("key"), 1.0)
    assert found["key"].values.tolist() == list(range(10))
    np.testing.assert_allclose(found["query"], np.arange(9) / 2)


def test_a_layer_called_twice_has_its_calls_apart():
    def run(net, x):
        return net.attn(net.attn(x, x, x)[0], x, x)[0]

    model = Net(run, attn=nn.MultiheadAttention(4, 2, batch_first=True))
    found = sq.Scope(model).attention(several(), "attn")
    assert found.dims == ("sample", "call", "head", "query", "key")
    for row, x in enumerate(several()):
        n_steps = len(x)
        first = found.values[row, :, :, :n_steps, :n_steps]
        assert_close(first[0], by_hand(model.attn, x))
        assert_close(first[1], by_hand(model.attn, ref.attention(model.attn, x)[0], x))


def test_batches_of_any_size_give_the_same():
    scope = sq.Scope(self_attention())
    xr.testing.assert_allclose(scope.attention(several(), "attn"), scope.attention(several(), "attn", batch_size=1), atol=1e-14)


def test_weights_survive_netcdf_and_can_be_drawn(tmp_path):
    tree = sq.Scope(encoder()).attention(several())
    tree.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "a.nc", engine="h5netcdf") as again:
        xr.testing.assert_equal(again.load(), tree)
    panels = sq.plot.attention(tree["layers.0.self_attn"].attention[2])
    assert panels[1].get_xlabel() == "Key (Time Step)"
    assert panels[1].get_xlim() == (-0.5, 3.5)


# Which layers


@pytest.fixture
def scope():
    def run(net, x):
        return net.fc(net.b(*[net.a(x, x, x)[0]] * 3)[0])

    parts = {name: nn.MultiheadAttention(4, 2, batch_first=True) for name in ("a", "b", "spare")}
    return sq.Scope(Net(run, **parts, fc=nn.Linear(4, 2)))


def test_names_globs_and_lists(scope):
    assert set(scope.attention(several(), ["a", "b"]).children) == {"a", "b"}
    assert set(scope.attention(several(), "[ab]").children) == {"a", "b"}
    assert set(scope.attention(several(), ["b"]).children) == {"b"}
    assert isinstance(scope.attention(several(), "b"), xr.DataArray)


def test_what_never_ran_is_left_out_unless_it_was_named(scope):
    with pytest.warns(UserWarning, match="Left out, since they never ran for this input: 'spare'"):
        assert set(scope.attention(several()).children) == {"a", "b"}
    for names in ("spare", ["a", "spare"], "sp*"):
        with pytest.raises(LayerError, match="The layer 'spare' never ran for this input"):
            scope.attention(several(), names)


def test_a_layer_without_weights_is_refused(scope):
    with pytest.raises(
        UnsupportedError, match=r"'fc' \(Linear\) is a layer of kind 'linear' and has no attention weights: ask for one of 'a'"
    ):
        scope.attention(several(), "fc")
    with pytest.raises(UnsupportedError, match="'fc'"):
        scope.attention(several(), ["a", "fc"])


def test_a_subclass_that_is_called_in_its_own_way_is_refused_and_one_that_is_not_is_seen():
    class Alone(nn.MultiheadAttention):
        def forward(self, x):
            return super().forward(x, x, x)

    class Plain(nn.MultiheadAttention):
        pass

    with pytest.raises(UnsupportedError, match=r"'attn' \(Alone\) computes its attention in a way of its own"):
        sq.Scope(Net(lambda net, x: net.attn(x)[0], attn=Alone(4, 2, batch_first=True))).attention(several(), "attn")
    model = Net(lambda net, x: net.attn(x, x, x)[0], attn=Plain(4, 2, batch_first=True))
    check(sq.Scope(model).attention(several(), "attn"), lambda x: by_hand(model.attn, x), several())


def test_an_unknown_layer_gets_the_nearest_names():
    model = Net(lambda net, x: net.enc(x), enc=encoder())
    scope = sq.Scope(model)
    with pytest.raises(LayerError, match=r"No layer is named 'enc\.layers\.7\.self_attn': the nearest are") as raised:
        scope.attention(several(), "enc.layers.7.self_attn")
    assert "attention(X, layers='enc.layers.7.self_attn') of Net" in str(raised.value)
    with pytest.raises(LayerError, match=r"No layer is named 'enc\[1\]'"):
        scope.attention(several(), "enc[1]")
    with pytest.raises(LayerError, match="No layer was asked for"):
        scope.attention(several(), [])
    with pytest.raises(LayerError, match=r"'dec\.\*'"):
        scope.attention(several(), "dec.*")


def test_a_model_without_attention_is_refused(reader, ragged):
    scope = sq.Scope(reader)
    with pytest.raises(UnsupportedError, match="Reader has no attention layer, so no attention weights"):
        scope.attention(ragged)
    with pytest.raises(UnsupportedError, match=r"'rnn' \(LSTM\) is a layer of kind 'lstm' and has no attention weights: no layer of this"):
        scope.attention(ragged, "rnn")
