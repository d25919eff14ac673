"""One contract for every engine, cell and layout: what is captured equals the equations, for a sequence alone and among others.

In the main process on torch; `tests/engines/test_backends.py` runs it again for Keras on each backend, and for ONNX. float64 where the
engine has it.
"""

import numpy as np
import pytest
import xarray as xr

import seqscope as sq
from contract_makers import BACKEND, CHANNELS, ENGINE, UNITS, convolution, recurrent

DTYPE = "float64" if ENGINE == "torch" else "float32"
TOLERANCE = {"float64": 1e-12, "float32": 2e-6}[DTYPE]
CELLS = ["lstm", "gru", "rnn"] if ENGINE == "torch" else ["lstm", "gru", "gru_before", "rnn"]
LAYOUTS = ["NTC"] if ENGINE == "keras" else ["NTC", "TNC"]


# jax compiles every length anew; the longest is not the first, two are alike, and one is a single step.
LENGTHS = (4, 6, 4, 1) if BACKEND == "jax" else (9, 4, 12, 4, 1, 7, 6)


def data(lengths=LENGTHS):
    random = np.random.default_rng(5)
    return [random.standard_normal((length, CHANNELS)) for length in lengths]


def near(actual, expected):
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_layer_gives_every_step_though_its_model_reads_the_last(cell, both_ways, layout):
    made = recurrent(cell, both_ways=both_ways, layout=layout)
    scope, X = sq.Scope(made.model), data()
    found, outputs = scope.activations(X), scope.predict(X)
    for row, x in enumerate(X):
        expected = made.expected(x)
        near(found["rnn"].activations[row, : len(x)], expected["rnn"])
        assert np.isnan(found["rnn"].activations[row, len(x) :]).all()
        near(found["fc"].activations[row], expected["fc"])
        near(outputs[row], expected["fc"])
        near(scope.activations(x)["rnn"].activations, expected["rnn"])
    assert found["rnn"].activations.dims == ("sample", "time", "unit")
    if both_ways:
        assert list(found["rnn"].direction.values) == ["forward"] * UNITS + ["backward"] * UNITS


@pytest.mark.parametrize("options", [{}, {"padding": "same"}, {"padding": "causal"}, {"stride": 2}, {"dilation": 2}])
def test_convolution_gives_its_equation_and_its_steps_lie_over_what_they_see(options):
    made = convolution(**options)
    scope, X = sq.Scope(made.model), data((9, 12, 9) if BACKEND == "jax" else (9, 12, 8, 9))
    found = scope.activations(X, ["conv", "relu", "fc"])
    for row, x in enumerate(X):
        expected = made.expected(x)
        for name in ("conv", "relu"):
            steps = len(expected[name])
            near(found[name].activations[row, :steps], expected[name])
            assert np.isnan(found[name].activations[row, steps:]).all()
        near(found["fc"].activations[row], expected["fc"])
    if options.get("padding") in ("same", "causal"):
        assert "step" not in found["conv"].dims
    else:
        conv = scope.activations(X[1], "conv")
        starts, ends = (conv[name].values for name in ("time_start", "time_end"))
        stride, reach = options.get("stride", 1), 2 * options.get("dilation", 1)
        np.testing.assert_array_equal(starts, stride * np.arange(len(starts)))
        np.testing.assert_array_equal(ends, starts + reach)


def test_batch_size_and_order_change_nothing():
    scope, X = sq.Scope(recurrent("lstm").model), data()
    whole = scope.activations(X, "rnn")
    for size in (1, 3):
        xr.testing.assert_allclose(whole, scope.activations(X, "rnn", batch_size=size), rtol=1e-5, atol=1e-6)
    turned = scope.activations(X[::-1], "rnn")
    np.testing.assert_allclose(whole.values, turned.values[::-1], rtol=1e-5, atol=1e-6)


def test_many_lengths_in_one_call_equal_each_sequence_alone():
    X = data(tuple(range(1, 24)))
    for made in (recurrent("lstm"), recurrent("gru", both_ways=True)):
        scope = sq.Scope(made.model)
        found = scope.activations(X, "rnn")
        for row, x in enumerate(X):
            near(found[row, : len(x)], made.expected(x)["rnn"])
            assert np.isnan(found[row, len(x) :]).all()


def test_table_says_what_the_layers_are():
    table = sq.Scope(recurrent("lstm").model).layers
    assert [(layer.name, layer.kind, layer.calls) for layer in table] == [("rnn", "lstm", 1), ("fc", "linear", 1)]
    assert table[0].n_params == 4 * UNITS * (CHANNELS + UNITS + (1 if ENGINE == "keras" else 2))
    assert table.input.layout == "NTC"


def test_names_that_do_not_exist_get_the_nearest():
    with pytest.raises(sq.errors.LayerError, match="'rnn'"):
        sq.Scope(recurrent("lstm").model).activations(data(), "rnm")


def test_wrong_number_of_channels_names_both():
    with pytest.raises(sq.errors.DataError, match=r"4 channels .* takes 3"):
        sq.Scope(recurrent("lstm").model).activations([np.zeros((6, 4))], "rnn")


def test_layout_that_the_model_does_not_take_is_told():
    with pytest.raises(sq.errors.SeqscopeError, match="layout='NCT' was said, and the model takes NTC"):
        sq.Scope(recurrent("lstm").model, layout="NCT").activations(np.zeros((4, CHANNELS, 11)), "rnn")
