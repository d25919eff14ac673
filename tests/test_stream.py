"""What a stream promises whatever the framework: its state, refused steps, resets, and a model that is left as it is."""

import copy
import gc
import threading
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch.nn import functional

import seqscope as sq
from nets import Net, series
from seqscope.errors import DataError, LayerError, SeqscopeError, UnsupportedError
from tolerances import assert_close


def net():
    """An LSTM `rnn` of 5 units on 3 channels, and `fc` of 2 on each of its steps."""
    return Net(lambda net, x: net.fc(net.rnn(x)[0]), rnn=nn.LSTM(3, 5, batch_first=True), fc=nn.Linear(5, 2))


def causal():
    """A causal convolution `conv`, a stack of GRUs `rnn`, and `fc`."""

    def run(net, x):
        x = net.conv(functional.pad(x.transpose(1, 2), (4, 0))).transpose(1, 2)
        return net.fc(net.rnn(x)[0])

    return Net(run, conv=nn.Conv1d(3, 4, 3, dilation=2), rnn=nn.GRU(4, 5, num_layers=2, batch_first=True), fc=nn.Linear(5, 2))


class Started(Net):
    """Starts from a state that it has learned."""

    def __init__(self):
        super().__init__(None, rnn=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 2))
        self.start = nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.float64))

    def forward(self, x):
        return self.fc(self.rnn(x, self.start.expand(1, len(x), 5).contiguous())[0])


MODELS = {"lstm": net, "causal": causal, "started": Started}


def stream_of(model=None, n_streams=1, **options):
    return sq.Scope(net() if model is None else model, layout="NTC").stream(n_streams, check=series(1, 6), **options)


def fed(stream, x):
    """The outputs of some steps, (stream, time, output)."""
    return np.stack([stream.step(x[:, t]).output for t in range(x.shape[1])], axis=1)


def whole(model, x):
    with torch.no_grad():
        return model(torch.tensor(x)).numpy()


def assert_same_state(one, other):
    xr.testing.assert_identical(one, other)


# Steps, one by one and side by side


def test_step_without_a_stream_axis_gives_results_without_one():
    stream, x = stream_of(layers=["rnn", "fc"]), series(1, 3)[0]
    seen = stream.step(x[0])
    assert seen.output.dims == ("output",)
    assert {name: array.dims for name, array in seen.activations.items()} == {"rnn": ("unit",), "fc": ("unit",)}
    assert seen.states["rnn"].c.dims == ("unit",)


def test_step_with_a_stream_axis_of_one_gives_results_with_one():
    seen = stream_of().step(series(1, 3)[:, 0])
    assert seen.output.dims == ("stream", "output")
    assert seen.activations["rnn"].dims == ("stream", "unit")
    assert seen.states["rnn"].h.dims == ("stream", "unit")


def test_both_forms_of_a_step_can_be_mixed_and_give_the_same():
    model, x = net(), series(1, 4)
    one, other = stream_of(model), stream_of(model)
    for t in range(4):
        single, rows = one.step(x[0, t]), other.step(x[:, t])
        assert np.array_equal(single.output, rows.output[0])
        one, other = other, one


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_streams_side_by_side_do_not_see_each_other(make):
    model, x = make(), series(3, 6)
    together = fed(stream_of(model, 3), x)
    for row in range(3):
        assert_close(together[row], fed(stream_of(model), x[row : row + 1])[0])


def test_outputs_have_their_names():
    stream = sq.Scope(net(), layout="NTC", outputs=["calm", "storm"]).stream(check=series(1, 6))
    assert stream.step(np.zeros(3)).output["output"].values.tolist() == ["calm", "storm"]


def test_results_say_where_they_come_from():
    seen = stream_of().step(np.zeros(3))
    for array in (seen.output, seen.activations["rnn"], seen.states["rnn"]):
        assert array.attrs["method"] == "stream"
        assert array.attrs["framework"] == "torch"
    assert seen.activations["rnn"].attrs["layer"] == "rnn"
    assert seen.states["rnn"].attrs["kind"] == "lstm"


@pytest.mark.parametrize("kind", [list, np.float32, np.int64, xr.DataArray, torch.tensor])
def test_step_of_any_kind_of_numbers(kind):
    model, values = net(), np.array([1.0, -2.0, 3.0])
    given = values.astype(kind) if kind in (np.float32, np.int64) else kind(values)
    assert_close(stream_of(model).step(given).output, whole(model, values[None, None])[0, 0])


def test_a_list_of_whole_numbers_is_a_step():
    model = net()
    assert_close(stream_of(model).step([1, -2, 3]).output, whole(model, np.array([[[1.0, -2.0, 3.0]]]))[0, 0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_short_floats(dtype):
    model, x = net(), series(1, 6)
    stream = stream_of(copy.deepcopy(model).to(getattr(torch, dtype)))
    assert_close(fed(stream, x), whole(model, x), dtype)


def test_first_askers_example():
    """The network state is updated at each step, and equals that of the one call."""
    X, _ = sq.datasets.japanese_vowels("test")
    scope = sq.Scope(sq.zoo.japanese_vowels())
    with scope.stream(check=X[:1]) as stream:
        hidden = [stream.step(x_t).activations["lstm"] for x_t in X[0]]
    assert_close(xr.concat(hidden, "time"), scope.activations(X[0], "lstm"), "float32")


# Its state


def test_state_has_a_node_for_each_layer_and_the_streams_that_are_fresh():
    stream = stream_of(causal(), 2)
    assert stream.state.fresh.values.tolist() == [True, True]
    seen = stream.step(series(2, 1)[:, 0])
    state = stream.state
    assert state.fresh.values.tolist() == [False, False]
    assert sorted(state.children) == ["conv", "rnn.0", "rnn.1"]
    assert state["conv"].inputs.shape == (2, 3, 4)
    for name in ("rnn.0", "rnn.1"):
        assert state[name].h.dims == ("stream", "unit")
        assert np.array_equal(state[name].h, seen.states[name].h)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_state_that_is_set_again_goes_back(make):
    stream, x = stream_of(make(), 2), series(2, 8)
    fed(stream, x[:, :4])
    kept = stream.state
    once = fed(stream, x[:, 4:])
    stream.state = kept
    assert np.array_equal(fed(stream, x[:, 4:]), once)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_state_of_one_stream_starts_another(make):
    model, x = make(), series(2, 8)
    one, other = stream_of(model, 2), stream_of(model, 2)
    fed(one, x[:, :4])
    other.state = one.state
    assert np.array_equal(fed(other, x[:, 4:]), fed(one, x[:, 4:]))


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_state_survives_a_file(make, tmp_path):
    model, x = make(), series(2, 8)
    stream = stream_of(model, 2)
    fed(stream, x[:, :4])
    stream.reset(1)
    kept = stream.state
    kept.to_netcdf(tmp_path / "state.nc")
    expected = fed(stream, x[:, 4:])
    with xr.open_datatree(tmp_path / "state.nc") as restored:
        other = stream_of(model, 2)
        other.state = restored
        assert_same_state(other.state, kept)
    assert np.array_equal(fed(other, x[:, 4:]), expected)


def test_state_before_the_first_step_can_be_set_later():
    model, x = Started(), series(2, 5)
    stream = stream_of(model, 2)
    at_start = stream.state
    first = fed(stream, x)
    stream.state = at_start
    assert np.array_equal(fed(stream, x), first)


def test_state_before_the_first_step_does_not_depend_on_what_was_checked():
    model = net()
    one, other = (sq.Scope(model, layout="NTC").stream(check=series(1, 6, seed=seed)).state for seed in (1, 2))
    assert_same_state(one, other)


def test_state_that_was_read_is_a_copy():
    model, x = net(), series(1, 4)
    stream = stream_of(model)
    fed(stream, x[:, :2])
    state = stream.state
    state["rnn"].h[:] = 9.0
    state.fresh[:] = True
    assert_close(fed(stream, x[:, 2:]), whole(model, x)[:, 2:])


def test_state_that_was_set_is_a_copy():
    model, x = net(), series(1, 4)
    stream = stream_of(model)
    fed(stream, x[:, :2])
    stream.state = state = stream.state
    state["rnn"].h[:] = 9.0
    state.fresh[:] = True
    assert_close(fed(stream, x[:, 2:]), whole(model, x)[:, 2:])


def test_state_can_be_changed_and_set():
    model, x = net(), series(1, 2)
    stream = stream_of(model)
    stream.step(x[0, 0])
    state = stream.state
    state["rnn"]["h"] = state["rnn"].h * 0 + 0.5
    state["rnn"]["c"] = state["rnn"].c * 0 - 1.0
    stream.state = state
    with torch.no_grad():
        start = torch.full((1, 1, 5), 0.5, dtype=torch.float64), torch.full((1, 1, 5), -1.0, dtype=torch.float64)
        expected = model.fc(model.rnn(torch.tensor(x[:, 1:]), start)[0])
    assert_close(stream.step(x[0, 1]).output, expected[0, 0])


def spoiled(state, how):
    match how:
        case "fewer units":
            return xr.DataTree.from_dict({"/": state.to_dataset(), "/rnn": state["rnn"].to_dataset().isel(unit=slice(3))})
        case "fewer streams":
            return xr.DataTree.from_dict({path: node.to_dataset().isel(stream=[0]) for path, node in state.subtree_with_keys})
        case "another layer":
            return xr.DataTree.from_dict({"/": state.to_dataset(), "/gru": state["rnn"].to_dataset()})
        case "one layer more":
            return xr.DataTree.from_dict({"/": state.to_dataset(), "/rnn": state["rnn"].to_dataset(), "/gru": state["rnn"].to_dataset()})
        case "no c":
            return xr.DataTree.from_dict({"/": state.to_dataset(), "/rnn": state["rnn"].to_dataset().drop_vars("c")})
        case "no fresh":
            return xr.DataTree.from_dict({"/rnn": state["rnn"].to_dataset()})
        case "fresh of another shape":
            root = xr.Dataset({"fresh": ("other", [True, False, True])})
            return xr.DataTree.from_dict({"/": root, "/rnn": state["rnn"].to_dataset()})
        case "words":
            rnn = state["rnn"].to_dataset()
            rnn["h"] = rnn.h.astype(str)
            return xr.DataTree.from_dict({"/": state.to_dataset(), "/rnn": rnn})
        case "not a number":
            rnn = state["rnn"].to_dataset()
            return xr.DataTree.from_dict({"/": state.to_dataset(), "/rnn": rnn * np.nan})
        case "dict":
            return {"rnn": state["rnn"].to_dataset()}
        case "dataset":
            return state["rnn"].to_dataset()
    return None


SPOILED = ["fewer units", "fewer streams", "another layer", "one layer more", "no c", "no fresh", "fresh of another shape", "words"]


@pytest.mark.parametrize("how", [*SPOILED, "not a number", "dict", "dataset", "nothing"])
def test_state_that_does_not_fit_is_refused_and_changes_nothing(how):
    model, x = net(), series(2, 4)
    stream = stream_of(model, 2)
    fed(stream, x[:, :2])
    before = stream.state
    with pytest.raises(DataError) as caught:
        stream.state = spoiled(before, how)
    assert "\n" not in str(caught.value).strip()
    assert_same_state(stream.state, before)
    assert_close(fed(stream, x[:, 2:]), whole(model, x)[:, 2:])


def test_refused_state_says_what_was_given_and_expected():
    stream = stream_of(n_streams=2)
    with pytest.raises(DataError, match=r"'rnn'.*'unit': 3.*'unit': 5"):
        stream.state = spoiled(stream.state, "fewer units")


def test_state_whose_axes_come_in_another_order_is_understood_by_their_names():
    model, x = net(), series(5, 4)  # as many streams as units: the shape does not tell
    stream = stream_of(model, 5)
    fed(stream, x[:, :2])
    state = stream.state
    turned = {"/": state.to_dataset(), "/rnn": state["rnn"].to_dataset().transpose("unit", "stream")}
    stream.state = xr.DataTree.from_dict(turned)
    assert_close(fed(stream, x[:, 2:]), whole(model, x)[:, 2:])


# Starting anew


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_reset_starts_all_streams_anew(make):
    model, x = make(), series(2, 8)
    stream = stream_of(model, 2)
    fed(stream, x[:, :5])
    stream.reset()
    assert stream.state.fresh.all()
    assert_close(fed(stream, x[:, 5:]), whole(model, x[:, 5:]))


@pytest.mark.parametrize("which", [1, -2, [1], slice(1, 2), [False, True, False], np.array([1])], ids=str)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_reset_of_some_streams_leaves_the_others(make, which):
    model, x = make(), series(3, 8)
    stream = stream_of(model, 3)
    fed(stream, x[:, :5])
    stream.reset(which)
    found = fed(stream, x[:, 5:])
    assert_close(found[1], whole(model, x[1:2, 5:])[0])
    assert_close(found[[0, 2]], whole(model, x)[[0, 2], 5:])


def test_reset_before_the_first_step_and_twice_changes_nothing():
    model, x = net(), series(1, 4)
    stream = stream_of(model)
    stream.reset()
    stream.reset(0)
    assert_close(fed(stream, x), whole(model, x))


@pytest.mark.parametrize("which", [3, -4, [0, 3], "first", 1.5, [True, False]], ids=str)
def test_reset_of_streams_that_are_not_there_is_refused(which):
    model, x = net(), series(3, 4)
    stream = stream_of(model, 3)
    fed(stream, x[:, :2])
    with pytest.raises(DataError, match="0 to 2"):
        stream.reset(which)
    assert_close(fed(stream, x[:, 2:]), whole(model, x)[:, 2:])


def test_initial_state_of_the_models_is_used_at_the_start_alone():
    model, x = Started(), series(1, 3)
    stream, other = stream_of(model), copy.deepcopy(model)
    nn.init.zeros_(other.start)
    seen = [stream.step(x[0, t]).output for t in range(3)]
    assert_close(np.stack(seen), whole(model, x)[0])
    assert not np.allclose(seen[0], whole(other, x)[0, 0])


# Steps that are refused


REFUSED = {
    "too many channels": np.zeros(4),
    "too few channels": np.zeros((3, 2)),
    "too few streams": np.zeros((2, 3)),
    "one stream without its axis": np.zeros(3),
    "a time axis": np.zeros((3, 1, 3)),
    "a number": 1.0,
    "NaN": np.array([[0, 0, 0], [0, np.nan, 0], [0, 0, 0]]),
    "infinity": np.array([[0, 0, 0], [0, 0, 0], [0, 0, -np.inf]]),
    "words": np.full((3, 3), "a"),
    "complex numbers": np.zeros((3, 3), complex),
    "dates": np.zeros((3, 3), "datetime64[s]"),
    "objects": np.full((3, 3), None),
    "ragged": [[0, 0, 0], [0, 0], [0, 0, 0]],
    "nothing": None,
    "a tensor that wants a gradient, of another shape": torch.zeros(2, 3, requires_grad=True),
}


@pytest.mark.parametrize("step", REFUSED.values(), ids=REFUSED)
def test_refused_step_changes_nothing(step):
    model, x = net(), series(3, 4)
    stream = stream_of(model, 3)
    fed(stream, x[:, :2])
    before = stream.state
    with pytest.raises(DataError) as caught:
        stream.step(step)
    assert "\n" not in str(caught.value).strip()
    assert_same_state(stream.state, before)
    assert_close(fed(stream, x[:, 2:]), whole(model, x)[:, 2:])


def test_refused_first_step_leaves_the_stream_fresh():
    model, x = Started(), series(1, 3)
    stream = stream_of(model)
    with pytest.raises(DataError):
        stream.step(np.zeros(4))
    assert stream.state.fresh.all()
    assert_close(fed(stream, x), whole(model, x))


def test_refused_steps_say_what_was_given_and_expected():
    stream = stream_of(n_streams=3)
    with pytest.raises(DataError, match=r"\(3, 4\).*\(3, 3\).*stream, channel"):
        stream.step(np.zeros((3, 4)))
    with pytest.raises(DataError, match=r"\[1, 2\]"):
        stream.step(np.array([[0, 0, 0], [0, 0, np.nan], [0, 0, 0]]))
    with pytest.raises(DataError, match=r"\(3,\) or \(1, 3\)"):
        stream_of().step(np.zeros(4))


def test_tensor_that_wants_a_gradient_is_a_step():
    model = net()
    assert_close(stream_of(model).step(torch.ones(3, requires_grad=True)).output, whole(model, np.ones((1, 1, 3)))[0, 0])


def tagger():
    return Net(
        lambda net, ids: net.fc(net.rnn(net.embed(ids))[0]),
        embed=nn.Embedding(7, 3),
        rnn=nn.GRU(3, 5, batch_first=True),
        fc=nn.Linear(5, 2),
    )


def test_tokens_one_by_one_and_side_by_side():
    model, ids = tagger(), np.array([[1, 5, 2], [6, 0, 3]])
    stream = sq.Scope(model).stream(2, check=ids)
    assert_close(fed(stream, ids), whole(model, ids))
    one = sq.Scope(model).stream(check=ids[:1])
    assert_close(np.stack([one.step(int(token)).output for token in ids[0]]), whole(model, ids)[0])


@pytest.mark.parametrize("step", [1.0, np.zeros(2, int), np.zeros((1, 1), int), "a", None, 7, -1], ids=str)
def test_refused_token_changes_nothing(step):
    model, ids = tagger(), np.array([[1, 5, 2]])
    stream = sq.Scope(model).stream(check=ids)
    stream.step(1)
    before = stream.state
    with pytest.raises(SeqscopeError):
        stream.step(step)
    assert_same_state(stream.state, before)
    assert_close(stream.step(5).output, whole(model, ids)[0, 1])


def test_step_after_close_is_refused():
    with stream_of() as stream:
        stream.step(np.zeros(3))
    with pytest.raises(UnsupportedError, match="closed"):
        stream.step(np.zeros(3))
    assert "closed" in repr(stream)


def test_state_after_close_is_refused_or_the_last_one():
    with stream_of() as stream:
        stream.step(np.ones(3))
        last = stream.state
    try:
        found = stream.state
    except SeqscopeError:
        return
    assert_same_state(found, last)


def test_exception_inside_the_block_is_not_swallowed():
    with pytest.raises(ZeroDivisionError), stream_of() as stream:
        raise ZeroDivisionError
    with pytest.raises(UnsupportedError):
        stream.step(np.zeros(3))


@pytest.mark.parametrize("size", [0, -1, 2.0, "2", None, True], ids=str)
def test_number_of_streams_that_is_none_is_refused(size):
    with pytest.raises(DataError, match="batch_size"):
        stream_of(n_streams=size)


def test_data_to_check_with_that_does_not_fit_is_refused():
    with pytest.raises(DataError, match="4 channels"):
        sq.Scope(net(), layout="NTC").stream(check=series(1, 6, 4))


def test_one_step_is_not_enough_to_check_with():
    model = Net(lambda net, x: net.fc(net.rnn(x)[0].mean(dim=1)), rnn=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 2))
    with pytest.raises(SeqscopeError):  # the mean over one step is that step: nothing would tell that this net can't be streamed
        sq.Scope(model, layout="NTC").stream(check=series(1, 1))


# What is shown


def test_layers_and_states_choose_what_is_shown():
    model = causal()
    seen = stream_of(model).step(np.zeros(3))
    assert list(seen.activations) == ["rnn.0", "rnn.1"]
    assert list(seen.states) == ["rnn.0", "rnn.1"]
    seen = stream_of(model, layers=["conv", "fc"], states="rnn.1").step(np.zeros(3))
    assert list(seen.activations) == ["conv", "fc"]
    assert list(seen.states) == ["rnn.1"]
    seen = stream_of(model, layers="rnn.*").step(np.zeros(3))
    assert list(seen.activations) == ["rnn.0", "rnn.1"]
    assert list(stream_of(model, layers=[]).step(np.zeros(3)).activations) == []


def test_what_is_shown_does_not_change_the_outputs():
    model, x = causal(), series(1, 6)
    for options in ({}, {"layers": "fc"}, {"layers": ["conv"], "states": "rnn.0"}, {"layers": []}):
        assert_close(fed(stream_of(model, **options), x), whole(model, x))


@pytest.mark.parametrize("options", [{"layers": "rmn"}, {"states": "rmn"}, {"layers": ["fc", "rmn"]}, {"states": "rmn.*"}], ids=str)
def test_name_that_does_not_exist_is_refused(options):
    with pytest.raises(LayerError, match=r"rmn(.|\n)*rnn"):
        stream_of(**options)


def test_states_of_a_layer_that_has_none_are_refused():
    with pytest.raises(UnsupportedError, match=r"'fc'.*'rnn'"):
        stream_of(states="fc")


def test_layer_that_is_not_shown_is_refused_when_it_is_asked_for():
    seen = stream_of().step(np.zeros(3))
    with pytest.raises(LayerError, match=r"'fc'.*layers="):
        seen.activations["fc"]
    with pytest.raises(LayerError, match=r"'rmn'.*'rnn'"):
        seen.states["rmn"]


def test_what_is_shown_can_be_asked_as_of_any_mapping():
    seen = stream_of().step(np.zeros(3))
    assert "rnn" in seen.activations
    assert "fc" not in seen.activations
    assert seen.states.get("fc") is None


def test_model_without_recurrent_layers_shows_its_output_alone():
    model, x = Net(lambda net, x: net.fc(torch.tanh(x)), fc=nn.Linear(3, 2)), series(1, 6)
    stream = stream_of(model)
    seen = stream.step(x[0, 0])
    assert list(seen.activations) == list(seen.states) == []
    assert_close(seen.output, whole(model, x)[0, 0])


def test_states_of_a_layer_that_is_called_twice_are_told_apart_or_refused():
    model = Net(lambda net, x: net.fc(net.rnn(net.rnn(x)[0])[0]), rnn=nn.GRU(3, 3, batch_first=True), fc=nn.Linear(3, 2))
    seen = stream_of(model).step(np.ones(3))
    calls = seen.activations["rnn"]
    assert calls.dims == ("call", "unit")
    try:
        states = seen.states["rnn"]
    except SeqscopeError:
        return
    assert_close(states.h, calls)


# Identical steps


def test_twenty_identical_steps_warn_once():
    stream = stream_of()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(19):
            stream.step(np.ones(3))
        assert not caught
        for _ in range(60):
            stream.step(np.ones(3))
    assert len(caught) == 1
    assert "20 steps" in str(caught[0].message)
    assert caught[0].filename == __file__  # it points at the loop


def test_reset_counts_identical_steps_anew():
    stream = stream_of()
    for _ in range(3):
        for _ in range(15):
            stream.step(np.ones(3))  # a warning would be an error
        stream.reset()


def test_steps_that_differ_do_not_warn():
    stream, x = stream_of(n_streams=2), np.ones((2, 3))
    for t in range(50):
        x = x.copy()
        x[1, 0] = t  # one stream changes
        stream.step(x)


def test_a_buffer_that_is_filled_again_and_again_does_not_warn():
    stream, buffer = stream_of(), np.zeros(3)
    for x_t in series(1, 50)[0]:
        buffer[:] = x_t
        stream.step(buffer)


def test_step_that_warned_where_warnings_are_errors_counts_or_does_not():
    model, x = net(), np.ones((1, 21, 3))
    stream = stream_of(model)
    fed(stream, x[:, :19])
    before = stream.state
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning):
            stream.step(x[0, 19])
    assert_same_state(stream.state, before)  # a step that raised is not counted


# What is seen stays


def test_what_was_seen_keeps_its_values():
    model, x = causal(), series(2, 12)
    stream = stream_of(model, 2, layers=["conv", "rnn.0", "rnn.1", "fc"])
    seen, at_once = [], []
    for t in range(12):
        seen.append(stream.step(x[:, t]))
        at_once.append(copied(seen[-1]))
    for one, other in zip(seen, at_once, strict=True):
        for name, value in copied(one).items():
            assert np.array_equal(value, other[name]), name


def copied(seen):
    values = {"output": seen.output.values.copy()}
    values |= {name: array.values.copy() for name, array in seen.activations.items()}
    return values | {f"{name} {state}": array.values.copy() for name, of in seen.states.items() for state, array in of.items()}


def test_a_buffer_that_is_filled_again_does_not_change_what_was_seen():
    model, x = causal(), series(1, 3)
    stream, buffer = stream_of(model), x[0, 0].copy()
    seen = stream.step(buffer)
    buffer[:] = 100.0
    expected = stream_of(model).step(x[0, 0])
    for name, value in copied(seen).items():
        assert np.array_equal(value, copied(expected)[name]), name
    assert_close(stream.step(x[0, 1]).output, whole(model, x)[0, 1])


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_writing_into_what_was_seen_changes_no_later_step(make):
    model, x = make(), series(1, 4)
    stream, outputs = stream_of(model, layers="*"), []
    for t in range(4):
        seen = stream.step(x[0, t])
        outputs.append(seen.output.values.copy())
        for array in (seen.output, *seen.activations.values(), *(state for of in seen.states.values() for state in of.values())):
            try:
                array.values[...] = 7.0
            except ValueError:  # read-only is as good
                continue
    assert_close(np.stack(outputs), whole(model, x)[0])


# The person's model


def looks(model):
    return {
        "weights": {name: (value.data_ptr(), value.clone()) for name, value in model.state_dict().items()},
        "grad": {name: (weight.grad, weight.requires_grad) for name, weight in model.named_parameters()},
        "modules": {name: (module.training, set(vars(module)), len(module._forward_hooks)) for name, module in model.named_modules()},
    }


def assert_as_it_was(model, before):
    now = looks(model)
    for name, (place, value) in before["weights"].items():
        assert now["weights"][name][0] == place
        assert torch.equal(now["weights"][name][1], value)
    assert now["grad"] == before["grad"]
    assert now["modules"] == before["modules"]


def test_the_model_is_as_it_was_during_and_after_streaming():
    model = causal().train()
    model.rnn.eval()
    model.fc.weight.requires_grad_(False)
    model.fc.register_forward_hook(lambda *_: None)
    before, random = looks(model), torch.get_rng_state()
    with stream_of(model) as stream:
        assert_as_it_was(model, before)
        for x_t in series(1, 5)[0]:
            stream.step(x_t)
            assert_as_it_was(model, before)
        with pytest.raises(DataError):
            stream.step(np.zeros(4))
    assert_as_it_was(model, before)
    assert torch.equal(torch.get_rng_state(), random)


def test_the_model_is_as_it_was_after_it_was_refused():
    model = Net(lambda net, x: net.fc(net.rnn(x)[0].mean(dim=1)), rnn=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 2)).train()
    before = looks(model)
    with pytest.raises(UnsupportedError):
        stream_of(model)
    assert_as_it_was(model, before)


def test_the_model_can_be_used_and_trained_while_it_is_streamed():
    model, x = net(), series(1, 4)
    stream = stream_of(model)
    first = fed(stream, x[:, :2])
    assert_close(first, whole(model, x)[:, :2])
    kept = {name: value[0] for name, value in stream.state["rnn"].to_dataset().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model.train()
    model(torch.tensor(x)).square().sum().backward()
    optimizer.step()
    model.eval()
    assert not np.allclose(whole(model, x)[:, :2], first)  # the weights are others now
    with torch.no_grad():
        start = tuple(torch.tensor(kept[name].values)[None, None] for name in "hc")
        expected = model.fc(model.rnn(torch.tensor(x[:, 2:]), start)[0])
    assert_close(fed(stream, x[:, 2:]), expected)


def test_running_statistics_of_a_model_that_is_trained_on_are_seen_as_its_weights_are():
    model = Net(
        lambda net, x: net.fc(net.norm(x.transpose(1, 2)).transpose(1, 2) + net.rnn(x)[0]),
        norm=nn.BatchNorm1d(3),
        rnn=nn.GRU(3, 3, batch_first=True),
        fc=nn.Linear(3, 2),
    )
    x = series(1, 4)
    stream = stream_of(model)
    model.train()
    with torch.no_grad():
        model(torch.tensor(5 + series(8, 20)))
    model.eval()
    assert_close(fed(stream, x), whole(model, x))


def test_model_that_keeps_a_tensor_of_its_last_call_can_be_streamed():
    def run(net, x):
        net.kept = net.rnn(x)[0]
        return net.fc(net.kept)

    model, x = Net(run, rnn=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 2)), series(1, 4)
    model(torch.tensor(x))  # with gradients, so that what it keeps hangs on a graph
    kept = model.kept
    assert_close(fed(stream_of(model), x), whole(copy.copy(model), x))
    assert model.kept is kept


def test_two_streams_of_one_scope_are_independent():
    model, x = causal(), series(2, 8)
    scope = sq.Scope(model, layout="NTC")
    one, other = scope.stream(check=x), scope.stream(check=x)
    found = [[], []]
    for t in range(8):
        found[0].append(one.step(x[0, t]).output)
        if t % 2:  # the other one gets behind
            found[1].append(other.step(x[1, t // 2]).output)
    assert_close(np.stack(found[0]), whole(model, x)[0])
    assert_close(np.stack(found[1]), whole(model, x)[1, :4])
    other.reset()
    one.close()
    assert_close(other.step(x[1, 0]).output, whole(model, x)[1, 0])


def test_other_verbs_between_two_steps_change_nothing():
    model, x = net(), series(1, 4)
    scope = sq.Scope(model, layout="NTC")
    stream = scope.stream(check=x)
    first = fed(stream, x[:, :2])
    scope.states(series(2, 5), "rnn")
    scope.activations(series(2, 5))
    assert_close(np.concatenate([first, fed(stream, x[:, 2:])], axis=1), whole(model, x))


@pytest.mark.usefixtures("_threads_take_turns_often")
def test_streams_of_several_threads_do_not_meet():
    model, x = causal(), series(4, 40)
    scope = sq.Scope(model, layout="NTC")
    streams, found = [scope.stream(check=x[:1]) for _ in range(4)], {}

    def work(row):
        found[row] = np.stack([streams[row].step(x[row, t]).output for t in range(40)])

    threads = [threading.Thread(target=work, args=(row,)) for row in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 1, 2, 3]
    for row, outputs in found.items():
        assert_close(outputs, whole(model, x)[row])


# Memory


def n_tensors():
    gc.collect()
    return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())


def test_memory_does_not_grow_with_the_steps():
    stream, x = stream_of(causal(), layers=["conv", "rnn.1"], states="rnn.0"), series(1, 300)[0]

    def run(steps):
        for x_t in steps:
            seen = stream.step(x_t)
            copied(seen)
        return n_tensors()

    after_few = run(x[:20])
    assert run(x[20:]) <= after_few


def test_a_stream_that_is_no_more_leaves_nothing_behind():
    scope = sq.Scope(causal(), layout="NTC", example=series(1, 6))
    scope.stream().close()
    before = n_tensors()
    for _ in range(5):
        with scope.stream() as stream:
            stream.step(np.zeros(3))
    del stream
    assert n_tensors() <= before
