"""The one door: names, tables, coordinates and errors, as a person meets them."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import reference as ref
import seqscope as sq
from nets import Net
from seqscope.errors import DataError, LayerError, ModelError
from tolerances import assert_close


@pytest.fixture
def classifier():
    """Modules in another order than they run in; one never runs, one is shared, one gives two tensors, one is half frozen."""

    def run(net, x):
        x = net.norm(net.conv(x.transpose(1, 2))).transpose(1, 2)
        x = net.relu(net.encoder.rnn(x)[0])
        first, second = net.branch(x[:, -1])
        return net.fc(net.relu(first) + second)

    net = Net(
        run,
        fc=nn.Linear(4, 2),
        spare=nn.Linear(7, 7),
        relu=nn.ReLU(),
        branch=Net(lambda part, x: (part.a(x), part.b(x)), b=nn.Linear(5, 4), a=nn.Linear(5, 4)),
        encoder=nn.ModuleDict({"rnn": nn.LSTM(4, 5, num_layers=2, bidirectional=False, batch_first=True)}),
        norm=nn.BatchNorm1d(4),
        conv=nn.Conv1d(3, 4, 3, padding="same"),
    )
    net.encoder.rnn = net.encoder["rnn"]
    net.fc.bias.requires_grad_(False)
    return net


ORDER = ["conv", "norm", "encoder.rnn.0", "encoder.rnn.1", "relu", "branch.a", "branch.b", "fc", "spare"]
PARAMETERS = {
    "conv": (40, 40),
    "norm": (16, 8),
    "encoder.rnn.0": (220, 220),
    "encoder.rnn.1": (240, 240),
    "relu": (0, 0),
    "branch.a": (24, 24),
    "branch.b": (24, 24),
    "fc": (10, 8),
    "spare": (56, 56),
}


# The table


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("with_data", [False, True])
def test_layers_stand_in_the_order_in_which_they_run(classifier, block, with_data):
    scope = sq.Scope(classifier)
    if with_data:
        scope.predict(block)
    layers = scope.layers
    assert [layer.name for layer in layers] == list(layers.names) == ORDER
    assert {layer.name: (layer.n_params, layer.trainable) for layer in layers} == PARAMETERS
    assert layers.n_params == 630
    assert {layer.name: layer.calls for layer in layers if layer.calls != 1} == {"relu": 2, "spare": 0}


def test_table_shows_the_sizes_of_the_data_once_there_are_some(classifier, block):
    scope = sq.Scope(classifier)
    before = {layer.name: (layer.dims, layer.shape) for layer in scope.layers}
    assert before["encoder.rnn.0"] == (("time", "unit"), (None, 5))
    assert before["conv"] == (("time", "unit"), (None, 4))
    assert before["fc"] == (("unit",), (2,))
    assert before["spare"] == (None, None)
    assert scope.layers.input.shape == ""
    assert scope.layers.input.description == "sequence input with 3 dimensions"
    scope.activations(block, "fc")
    after = {layer.name: (layer.dims, layer.shape) for layer in scope.layers}
    assert after["encoder.rnn.0"] == (("time", "unit"), (9, 5))
    assert after["norm"] == (("time", "unit"), (9, 4))
    assert after["fc"] == before["fc"]
    assert scope.layers.input.shape == "time 9 x channel 3"
    assert scope.layers.input.layout == "NTC"


def test_example_fills_the_table(classifier, block):
    layers = sq.Scope(classifier, example=block[:1]).layers
    assert {layer.name: layer.shape for layer in layers}["encoder.rnn.1"] == (9, 5)


def test_table_of_a_model_that_runs_on_nothing_that_was_tried_says_so(block):
    model = Net(lambda net, x: net.fc(net.rnn(x)[0].flatten(1)), fc=nn.Linear(45, 2), rnn=nn.GRU(3, 5, batch_first=True))
    scope = sq.Scope(model)
    layers = scope.layers
    assert [layer.name for layer in layers] == ["fc", "rnn"]
    assert "example=" in layers.note
    assert "example=" in repr(layers)
    scope.predict(block)
    assert [layer.name for layer in scope.layers] == ["rnn", "fc"]
    assert not scope.layers.note
    assert [layer.name for layer in sq.Scope(model, example=block).layers] == ["rnn", "fc"]


def test_table_as_text(classifier, block):
    text = repr(sq.Scope(classifier, example=block).layers)
    rows = {row.split("│")[2].strip(): [cell.strip() for cell in row.split("│")[1:-1]] for row in text.splitlines() if "│" in row}
    assert rows["input"][2:4] == ["sequence input with 3 dimensions", "time 9 x channel 3"]
    assert rows["encoder.rnn.0"] == ["4", "encoder.rnn.0", "LSTM with 5 hidden units", "time 9 x unit 5", "220", "all before"]
    assert rows["spare"][3] == "not reached"
    assert "630 parameters, 10 not trainable" in text
    assert "layout NTC" in text
    assert text.splitlines()[0].startswith("Net")


def test_table_as_a_page_has_every_row_and_no_markup_of_the_model(block):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("<b>&", nn.GRU(3, 5, batch_first=True))

        def forward(self, x):
            return getattr(self, "<b>&")(x)[0][:, -1]

    page = sq.Scope(Odd().double(), example=block).layers._repr_html_()
    assert "<td>&lt;b&gt;&amp;</td>" in page
    assert "<td>time 9 x unit 5</td>" in page
    assert page.count("<tr>") == 3  # headings, input, one layer


def test_table_as_a_frame(classifier, block):
    frame = sq.Scope(classifier, example=block).layers.to_dataframe().set_index("name")
    assert list(frame.index) == ORDER
    assert frame.n_params.to_dict() == {name: total for name, (total, _) in PARAMETERS.items()}
    assert frame.trainable.sum() == 620
    assert frame.loc["relu", "calls"] == 2
    assert frame.loc["conv", "kind"] == "conv1d"
    assert frame.loc["encoder.rnn.1", ["type", "output"]].tolist() == ["LSTM", "time 9 x unit 5"]


def test_scope_says_what_it_is_of(classifier):
    assert repr(sq.Scope(classifier)) == "Scope of Net (torch): 9 layers, 630 parameters"
    assert sq.Scope(classifier).model is classifier


def test_table_of_a_token_model():
    model = Net(lambda net, ids: net.rnn(net.embed(ids))[0][:, -1], embed=nn.Embedding(11, 4), rnn=nn.GRU(4, 5, batch_first=True))
    scope = sq.Scope(model)
    assert scope.layers.input.description == "tokens, 11 different ones"
    scope.predict(np.arange(12).reshape(2, 6) % 11)
    assert scope.layers.input.shape == "time 6"
    assert {layer.name: layer.shape for layer in scope.layers} == {"embed": (6, 4), "rnn": (6, 5)}


# What is asked for


def test_all_layers_are_given_but_those_that_never_ran(classifier, block):
    with pytest.warns(UserWarning, match=r"'relu' was called 2 times.*'spare' never ran|'spare' never ran.*'relu' was called 2 times"):
        tree = sq.Scope(classifier).activations(block)
    assert set(tree.children) == set(ORDER) - {"spare", "relu"}
    conv = np.array([ref.conv1d(classifier.conv, one) for one in block])
    assert_close(tree["conv"].activations, conv)
    scale = np.sqrt(1 + classifier.norm.eps)  # running mean 0, variance 1
    first, last = zip(*ref.stacks(classifier.encoder.rnn, conv / scale), strict=True)
    assert_close(tree["encoder.rnn.0"].activations, first)
    assert_close(tree["encoder.rnn.1"].activations, last)


def test_names_globs_and_lists(classifier, block):
    scope = sq.Scope(classifier)
    one = scope.activations(block, "branch.a")
    assert isinstance(one, xr.DataArray)
    assert one.name == "activations"
    assert set(scope.activations(block, "branch.?").children) == {"branch.a", "branch.b"}
    assert set(scope.activations(block, "branch.a*").children) == {"branch.a"}
    assert set(scope.activations(block, ["branch.a", "conv"]).children) == {"branch.a", "conv"}
    xr.testing.assert_identical(scope.activations(block, "branch[0]").drop_attrs(), one.drop_attrs())
    tree = scope.activations(block, ["branch.a", "encoder.*"])
    assert_close(tree["branch.a"].activations, one)
    assert set(tree.dims) == {"sample"}
    assert tree["branch.a"]["length"].values.tolist() == [9] * 4


def test_names_of_outputs_come_from_the_scope_or_the_data(reader, block):
    named = sq.Sequences(block, outputs=["x", "y"])
    scope = sq.Scope(reader)
    expected = ref.softmax(ref.linear(reader.fc, ref.hidden(reader.rnn, block)[:, -1]))
    assert_close(scope.predict(block).sel(output=1), expected[:, 1])
    assert_close(scope.predict(named).sel(output="y"), expected[:, 1])
    assert_close(sq.Scope(reader, outputs=["low", "high"]).predict(named).sel(output="high"), expected[:, 1])
    assert_close(scope.predict(named[0]).sel(output="y"), expected[0, 1])


def test_results_carry_what_is_needed_to_cite_them(reader, block):
    found = sq.Scope(reader).activations(block, "rnn")
    said = {
        "layer": "rnn",
        "kind": "lstm",
        "model": "Reader",
        "framework": "torch",
        "method": "activations",
        "seqscope_version": sq.__version__,
    }
    assert said.items() <= found.attrs.items()
    assert sq.Scope(reader).predict(block).attrs["method"] == "predict"


def test_results_survive_netcdf(reader, ragged, tmp_path):
    X = sq.Sequences(ragged, labels=list("abcde"), outputs=["x", "y"], rate=10.0)
    scope = sq.Scope(reader)
    tree, predicted = scope.activations(X), scope.predict(X)
    tree.to_netcdf(tmp_path / "tree.nc", engine="h5netcdf")
    predicted.to_netcdf(tmp_path / "predicted.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "tree.nc", engine="h5netcdf") as again:
        xr.testing.assert_equal(again["rnn"].activations.load(), tree["rnn"].activations)
    with xr.open_dataarray(tmp_path / "predicted.nc", engine="h5netcdf") as again:
        xr.testing.assert_equal(again.load(), predicted)


# The data in every form


def test_every_form_of_the_same_data_gives_the_same(reader, ragged):
    padded = np.full((5, 9, 3), np.nan)
    for row, one in enumerate(ragged):
        padded[row, : len(one)] = one
    forms = {
        "list": ragged,
        "tuple": tuple(ragged),
        "sequences": sq.Sequences(ragged),
        "padded": padded,
        "padded sequences": sq.Sequences(np.nan_to_num(padded, nan=9.0), lengths=[len(one) for one in ragged]),
        "labelled": xr.DataArray(padded, dims=("sample", "time", "channel")),
        "labelled in another order": xr.DataArray(padded, dims=("sample", "time", "channel")).transpose("channel", "sample", "time"),
        "list of labelled": [xr.DataArray(one, dims=("time", "channel")) for one in ragged],
        "list of tensors": [torch.tensor(one) for one in ragged],
        "tensor": torch.tensor(padded),
        "selection": sq.Sequences(ragged[::-1])[::-1],
    }
    scope = sq.Scope(reader)
    for form, data in forms.items():
        found, predicted = scope.activations(data, "rnn"), scope.predict(data)
        assert found.dims == ("sample", "time", "unit"), form
        for row, one in enumerate(ragged):
            hidden = ref.stack(reader.rnn, one)[-1]
            assert_close(found[row, : len(one)], hidden)
            assert found[row, len(one) :].isnull().all(), form
            assert_close(predicted[row], ref.softmax(ref.linear(reader.fc, hidden[-1])))


def test_one_sequence_gives_no_sample_dim(reader, ragged):
    X = sq.Sequences(ragged, samples=list("vwxyz"), labels=[5, 4, 3, 2, 1])
    scope = sq.Scope(reader)
    hidden = ref.stack(reader.rnn, ragged[1])[-1]
    for data in (X[1], ragged[1], X[1].drop_vars(["sample", "label", "length"])):
        found, predicted = scope.activations(data, "rnn"), scope.predict(data)
        assert found.dims == ("time", "unit")
        assert predicted.dims == ("output",)
        assert_close(found, hidden)
        assert_close(predicted, ref.softmax(ref.linear(reader.fc, hidden[-1])))
    found = scope.activations(X[1], "rnn")
    assert (found["sample"].item(), found["label"].item(), found["length"].item()) == ("w", 4, 4)
    tree = scope.activations(X[1])
    assert tree["rnn"].activations.dims == ("time", "unit")
    assert_close(tree["fc"].activations, ref.linear(reader.fc, hidden[-1]))


def test_part_of_the_data_keeps_the_sample_dim(reader, ragged):
    X = sq.Sequences(ragged)
    found = sq.Scope(reader).activations(X[1:2], "rnn")
    assert found.dims == ("sample", "time", "unit")
    assert found["sample"].values.tolist() == [1]
    assert_close(found[0], ref.stack(reader.rnn, ragged[1])[-1])


@pytest.mark.parametrize("single", [False, True])
def test_rate_is_carried_over(reader, ragged, single):
    X = sq.Sequences(ragged, rate=50.0)
    found = sq.Scope(reader).activations(X[0] if single else X, "rnn")
    np.testing.assert_allclose(found["time"], np.arange(7 if single else 9) / 50)
    assert found["time"].attrs["units"] == "s"
    row = found if single else found.isel(sample=0)
    assert_close(row.sel(time=0.04), ref.stack(reader.rnn, ragged[0])[-1][2])


def test_time_of_a_labelled_array_is_carried_over(reader, block):
    dates = np.datetime64("2024-01-01", "ns") + np.arange(9) * np.timedelta64(1, "h")
    array = xr.DataArray(block, dims=("sample", "time", "channel"), coords={"time": dates, "sample": list("abcd")})
    found = sq.Scope(reader).activations(array, "rnn")
    np.testing.assert_array_equal(found["time"], dates)
    assert_close(found.sel(sample="c", time="2024-01-01T05:00"), ref.stack(reader.rnn, block[2])[-1][5])
    one = sq.Scope(reader).activations(array[2], "rnn")
    np.testing.assert_array_equal(one["time"], dates)
    assert one["sample"].item() == "c"


def test_clocks_that_differ_between_samples_are_carried_over(reader, ragged):
    clocks = [np.arange(len(one)) * 0.5 + row for row, one in enumerate(ragged)]
    X = sq.Sequences(ragged, time=clocks, time_units="min")
    found = sq.Scope(reader).activations(X, "rnn")
    np.testing.assert_array_equal(found["time"], np.arange(9))
    for row, clock in enumerate(clocks):
        np.testing.assert_array_equal(found["timestamp"][row, : len(clock)], clock)
        assert found["timestamp"][row, len(clock) :].isnull().all()
    one = sq.Scope(reader).activations(X[3], "rnn")
    np.testing.assert_array_equal(one["time"], clocks[3])
    assert one["time"].attrs["units"] == "min"


def test_float32_data_goes_to_a_float64_model_and_back(reader, block):
    found = sq.Scope(reader).activations(block.astype(np.float32), "rnn")
    assert found.dtype == np.float64
    assert_close(found, ref.hidden(reader.rnn, block.astype(np.float32).astype(float)))
    reader.float()
    found = sq.Scope(reader).activations(block, "rnn")
    assert found.dtype == np.float32
    assert_close(found, ref.hidden(reader.rnn, block), "float32")


def test_scope_that_saw_some_data_is_ready_for_other_data(reader, block, ragged):
    scope = sq.Scope(reader)
    for data in (block[0], ragged, block[:1, :1], block, ragged[4]):
        found = scope.activations(data, "rnn")
        rows = [data] if isinstance(data, np.ndarray) and data.ndim == 2 else list(data)
        found = found.expand_dims("sample") if "sample" not in found.dims else found
        for row, one in enumerate(rows):
            assert_close(found[row, : len(one)], ref.stack(reader.rnn, one)[-1])


def test_weights_that_change_later_are_seen(reader, block):
    """A scope looks at the model, not at a copy."""
    scope = sq.Scope(reader)
    scope.activations(block, "rnn")
    with torch.no_grad():
        reader.rnn.weight_hh_l0.mul_(0.5)
    assert_close(scope.activations(block, "rnn"), ref.hidden(reader.rnn, block))


# Errors


def test_unknown_layer_gets_the_nearest_names(classifier, block):
    scope = sq.Scope(classifier)
    with pytest.raises(LayerError, match=r"No layer is named 'encoder\.rnn\.7': the nearest are 'encoder\.rnn\.[01]'") as raised:
        scope.activations(block, "encoder.rnn.7")
    assert isinstance(raised.value, LookupError)
    assert "activations(X, layers='encoder.rnn.7') of Net, X being a ndarray of shape (4, 9, 3)" in str(raised.value)
    with pytest.raises(LayerError, match="'convv': the nearest is 'conv'"):
        scope.activations(block, ["fc", "convv"])
    with pytest.raises(LayerError, match=r"'decoder\.\*'"):
        scope.activations(block, "decoder.*")
    with pytest.raises(LayerError, match="No layer was asked for"):
        scope.activations(block, [])


def test_layer_that_never_ran_is_an_error(classifier, block):
    scope = sq.Scope(classifier)
    for names in ("spare", ["fc", "spare"], "spare*"):
        with pytest.raises(LayerError, match="'spare' never ran for this input"):
            scope.activations(block, names)


def test_layer_that_gives_several_tensors_asks_which(classifier, block):
    scope = sq.Scope(classifier)
    with pytest.raises(LayerError, match=r"'branch' gives 2 tensors: ask for one of 'branch\[0\]', 'branch\[1\]'"):
        scope.activations(block, "branch")
    with pytest.raises(LayerError, match=r"'branch' gives no 'branch\[2\]': there are 'branch\[0\]', 'branch\[1\]'"):
        scope.activations(block, "branch[2]")
    with pytest.raises(LayerError, match=r"No layer is named 'brunch\[0\]'"):
        scope.activations(block, "brunch[0]")


def test_wrong_number_of_output_names(reader, block):
    with pytest.raises(DataError, match="3 output names were given and the model has 2 outputs"):
        sq.Scope(reader, outputs=list("abc")).predict(block)


def test_output_names_of_the_data_that_do_not_fit_are_those_of_another_model(reader, block):
    assert sq.Scope(reader).predict(sq.Sequences(block, outputs=["a"])).output.values.tolist() == [0, 1]


def test_error_inside_the_model_keeps_its_cause(block):
    cause = RuntimeError("broken inside")

    def run(net, x):
        raise cause

    with pytest.raises(ModelError, match=r"(?s)RuntimeError: broken inside.*in predict\(X\) of Net") as raised:
        sq.Scope(Net(run, rnn=nn.GRU(3, 5, batch_first=True))).predict(block)
    assert raised.value.__cause__ is cause


@pytest.mark.parametrize("model", [object(), lambda x: x, np.zeros(3), "model.keras", nn.Linear], ids=lambda model: type(model).__name__)
def test_what_is_no_model_is_refused(model):
    with pytest.raises(ModelError):
        sq.Scope(model)


def test_model_that_gives_no_tensor_is_refused(block):
    with pytest.raises(ModelError, match="gave a str, which holds no tensor"):
        sq.Scope(Net(lambda net, x: "nothing", fc=nn.GRU(3, 5)), layout="NTC").predict(block)


def test_model_without_layers(block):
    """One without modules inside is a layer itself."""

    class Sum(nn.Module):
        def forward(self, x):
            return x.sum(1)

    scope = sq.Scope(Sum(), layout="NTC")
    assert [layer.name for layer in scope.layers] == ["sum"]
    assert_close(scope.activations(block, "sum"), block.astype(np.float32).sum(axis=1), "float32")


def test_data_errors_name_the_call(reader, block):
    block[1, 2, 0] = np.inf
    with pytest.raises(DataError, match=r"(?s)Infinity in sample 1, step 2, channel 0.*predict\(X\) of Reader, X being a ndarray"):
        sq.Scope(reader).predict(block)
    with pytest.raises(DataError, match=r"(?s)Scope\(X\) of Reader"):
        sq.Scope(reader, example=block)


def test_error_does_not_spoil_the_scope(reader, block):
    scope = sq.Scope(reader)
    for wrong in (block[:, :, :2], np.zeros((2, 4), int), [np.zeros((0, 3))]):
        with pytest.raises(DataError):
            scope.predict(wrong)
        with pytest.raises(LayerError):
            scope.activations(block, "nothing")
    assert_close(scope.activations(block, "rnn"), ref.hidden(reader.rnn, block))
    assert [layer.name for layer in scope.layers] == ["rnn", "fc", "softmax"]


def test_first_of_several_outputs_says_that_it_is_one_of_several(block):
    model = Net(lambda net, x: {"tags": net.rnn(x)[0], "last": net.rnn(x)[0][:, -1]}, rnn=nn.GRU(3, 5, batch_first=True))
    found = sq.Scope(model).predict(block)
    assert_close(found, ref.hidden(model.rnn, block))
    assert found.attrs["tensor"] == "the first of 2 that the model gives"
    other = sq.Scope(model, call=lambda model, batch, lengths: model(batch)["last"]).predict(block)
    assert_close(other, ref.hidden(model.rnn, block)[:, -1])
    assert "tensor" not in other.attrs
