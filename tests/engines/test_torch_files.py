"""Weights from files into torch modules, and models out of files: what fits, what is refused, and that nothing in a file runs."""

import pickle
import warnings
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

import seqscope as sq
from seqscope.engines.torch import load_weights, open_file


class Tagger(nn.Module):
    """Embedding, LSTM, batch norm and a head that shares the embedding's weights."""

    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(7, 5), nn.LSTM(5, 5, batch_first=True)
        self.norm, self.head = nn.BatchNorm1d(5), nn.Linear(5, 7)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.norm(self.rnn(self.embed(ids))[0][:, -1]))


def tagger(seed=0):
    torch.manual_seed(seed)
    return Tagger().eval()


def assert_filled(model, source):
    for name, tensor in source.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=0, atol=0)


def legacy(held, path):
    torch.save(held, path, _use_new_zipfile_serialization=False)


# Weights


@pytest.mark.parametrize("write", [torch.save, legacy], ids=["zip", "legacy"])
@pytest.mark.parametrize("ending", [".pt", ".bin", ".ckpt", ".pkl"])
def test_state_dict_fills_a_module(write, ending, tmp_path):
    source, model = tagger(1), tagger(2)
    write(source.state_dict(), tmp_path / f"net{ending}")
    filled = sq.Scope(model, weights=tmp_path / f"net{ending}").model
    assert_filled(filled, source)
    assert filled.head.weight is filled.embed.weight
    assert_filled(model, tagger(2))


def test_safetensors_of_tied_weights_fill_a_module(tmp_path):
    source, model = tagger(1), tagger(2)
    save_model(source, tmp_path / "net.safetensors")
    load_weights(model, tmp_path / "net.safetensors")
    assert_filled(model, source)


@pytest.mark.parametrize(
    ("nested", "said"),
    [
        (lambda weights: {"epoch": 3, "model_state_dict": weights, "optimizer": {"state": {0: {"m": torch.ones(2)}}}}, None),
        (lambda weights: {"state_dict": {f"module.{name}": value for name, value in weights.items()}}, "without 'module.'"),
        (lambda weights: {"state_dict": {f"net.core.{name}": value for name, value in weights.items()}}, "without 'net.core.'"),
        (lambda weights: {f"_orig_mod.{name}": value for name, value in weights.items()}, "without '_orig_mod.'"),
        (lambda weights: {name.replace("rnn.", "rnn._orig_mod."): value for name, value in weights.items()}, "without '_orig_mod.'"),
        (lambda weights: {"model": weights, "ema": weights}, "several sets of weights that fit: 'model' was taken, and not 'ema'"),
    ],
)
def test_weights_are_found_in_checkpoints_and_under_prefixes(nested, said, tmp_path):
    source, model = tagger(1), tagger(2)
    torch.save(nested(source.state_dict()), tmp_path / "net.pt")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        load_weights(model, tmp_path / "net.pt")
    assert_filled(model, source)
    assert [said in str(notice.message) for notice in told] == ([True] if said else [])


def test_prefix_is_put_on_for_a_wrapped_module(tmp_path):
    source, model = tagger(1), nn.Sequential(tagger(2))
    save_file({name: value.clone() for name, value in source.state_dict().items()}, tmp_path / "net.safetensors")
    with pytest.warns(UserWarning, match="with '0.' in front of the names"):
        load_weights(model, tmp_path / "net.safetensors")
    assert_filled(model[0], source)


def test_weights_keep_the_precision_of_the_model_and_may_lack_the_count_of_batches(tmp_path):
    source, model = tagger(1), tagger(2)
    weights = {name: value.half() for name, value in source.state_dict().items() if "num_batches" not in name}
    torch.save(weights, tmp_path / "net.pt")
    load_weights(model, tmp_path / "net.pt")
    assert model.rnn.weight_ih_l0.dtype == torch.float32
    torch.testing.assert_close(model.rnn.weight_ih_l0, weights["rnn.weight_ih_l0"].float(), rtol=0, atol=0)


def test_weights_of_an_older_weight_norm_are_taken_as_the_module_translates_them(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        older = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 2)))
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    torch.save(older.state_dict(), tmp_path / "net.pt")
    load_weights(model, tmp_path / "net.pt")
    torch.testing.assert_close(model[0].weight, older[0].weight)


def test_misfit_is_told_in_one_sentence_and_changes_nothing(tmp_path):
    model, weights = tagger(2), tagger(1).state_dict()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights["extra.weight"] = torch.ones(2)
    weights["rnn.bias_ih_l0"] = torch.ones(12)
    del weights["rnn.bias_hh_l0"]
    torch.save(weights, tmp_path / "net.pt")
    with pytest.raises(sq.errors.ModelError) as error:
        load_weights(model, tmp_path / "net.pt")
    assert "lacks 'rnn.bias_hh_l0'; it has 'extra.weight', which the model does not know; 'rnn.bias_ih_l0' is 12 there and 20" in str(
        error.value
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_of_another_kind_are_refused_by_what_they_are(tmp_path):
    torch.save({"epoch": 3, "lr": [0.1]}, tmp_path / "none.pt")
    with pytest.raises(sq.errors.ModelError, match="holds no weights"):
        load_weights(tagger(), tmp_path / "none.pt")
    with pytest.raises(sq.errors.ModelError, match="There is no file"):
        load_weights(tagger(), tmp_path / "missing.pt")
    np.save(tmp_path / "array.npy", np.ones(3))
    with pytest.raises(sq.errors.ModelError, match="is a NumPy array"):
        load_weights(tagger(), tmp_path / "array.npy")


@pytest.mark.parametrize("nested", [False, True])
def test_weights_alone_given_as_a_model_say_what_they_are_and_what_to_do(nested, tmp_path):
    weights = tagger().state_dict()
    torch.save({"state_dict": weights} if nested else weights, tmp_path / "net.pt")
    with pytest.raises(sq.errors.ModelError) as error:
        sq.Scope(tmp_path / "net.pt")
    told = str(error.value)
    assert f"{len(weights)} tensors" in told
    assert ("(under 'state_dict')" in told) == nested
    assert "'embed.weight', 'rnn.weight_ih_l0'" in told
    assert "Scope(model, weights='net.pt')" in told
    assert "factory='module:callable'" in told


# Pickles


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def gone_off(tmp_path):
    """The file that a bomb makes."""
    return tmp_path / "gone_off"


@pytest.mark.parametrize("write", [torch.save, legacy, joblib.dump, lambda held, path: path.write_bytes(pickle.dumps(held))])
@pytest.mark.parametrize("held", [lambda bomb: bomb, lambda bomb: {"state_dict": {"fc.weight": torch.ones(2, 3)}, "extra": bomb}])
@pytest.mark.parametrize("ending", [".pt", ".pkl"])
def test_bomb_does_not_go_off(write, held, ending, tmp_path, gone_off):
    path = tmp_path / f"net{ending}"
    write(held(Bomb(gone_off)), path)
    for use in (lambda: sq.Scope(path), lambda: sq.Scope(nn.Linear(3, 2), weights=path)):
        with pytest.raises(sq.errors.ModelError):
            use()
    assert not gone_off.exists()


def test_pickled_module_is_opened_only_where_it_is_trusted(tmp_path):
    model, ids = tagger(), np.random.default_rng(0).integers(0, 7, (4, 6))
    torch.save(model, tmp_path / "net.pt")
    with pytest.raises(sq.errors.ModelError) as error:
        sq.Scope(tmp_path / "net.pt")
    assert "a pickled Tagger" in str(error.value)
    assert "unpickles, which runs whatever code the file names" in str(error.value)
    assert "torch.save(model.state_dict(), 'net.pt')" in str(error.value)
    opened = sq.Scope(tmp_path / "net.pt", trust=True)
    np.testing.assert_array_equal(opened.predict(ids), sq.Scope(model).predict(ids))


@pytest.mark.parametrize("compressed", [False, True])
def test_estimators_are_opened_for_the_module_in_them(compressed, tmp_path):
    pytest.importorskip("sklearn")
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    path = tmp_path / "pipeline.joblib"
    joblib.dump(Pipeline([("scale", StandardScaler()), ("net", Holder(tagger()))]), path, compress=3 if compressed else 0)
    with pytest.raises(sq.errors.ModelError, match="pickle"):
        sq.Scope(path)
    assert type(sq.Scope(path, trust=True).model) is Tagger


class Holder:
    """Keeps a module as an estimator of skorch does."""

    def __init__(self, module):
        self.module_ = module


def test_pickle_whose_class_is_gone_says_so(tmp_path, monkeypatch):
    torch.save(tagger(), tmp_path / "net.pt")
    monkeypatch.delitem(globals(), "Tagger")
    with pytest.raises(sq.errors.ModelError, match=r"needs code that is not here .*Tagger"):
        sq.Scope(tmp_path / "net.pt", trust=True)


def test_trusted_file_without_a_model_says_what_it_holds(tmp_path):
    joblib.dump([1, 2], tmp_path / "list.joblib")
    with pytest.raises(sq.errors.ModelError, match="holds a list, in which no torch module was found"):
        sq.Scope(tmp_path / "list.joblib", trust=True)


# Damaged files


@pytest.mark.parametrize("write", [torch.save, legacy], ids=["zip", "legacy"])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("trust", [False, True])
def test_file_that_is_cut_off_is_told_in_one_sentence(write, part, trust, tmp_path):
    write(tagger().state_dict(), tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "net.pt").write_bytes(whole[: int(part * len(whole))])
    for use in (lambda: sq.Scope(tmp_path / "net.pt", trust=trust), lambda: sq.Scope(tagger(), weights=tmp_path / "net.pt", trust=trust)):
        with pytest.raises(sq.errors.ModelError, match=r"net\.pt"):
            use()


@pytest.mark.parametrize("content", [b"hello, world", b"\x00" * 100, b"PK\x03\x04rest", bytes(range(256))])
def test_mislabelled_file_is_told_in_one_sentence(content, tmp_path):
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(sq.errors.ModelError, match=r"net\.pt"):
        sq.Scope(tmp_path / "net.pt")


def test_archive_that_would_fill_the_memory_is_not_opened(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", b"\x00" * 130_000_000)
    with pytest.raises(sq.errors.ModelError, match="declares"):
        open_file(tmp_path / "net.pt")
