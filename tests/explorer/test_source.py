"""A recording and a live model give the same values, samples and layers, and the Python that gives them again."""

import threading

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from torch import nn

import onnx_nets
import seqscope as sq
from nets import Net, series
from seqscope.errors import DataError, LayerError, SampleError, TooLargeError
from seqscope.explorer.opening import source_of
from seqscope.recording import reading


def last(found):
    return found[0][:, -1]


def recurrent(cell, outputs=2, **options):
    """A net that reads a series of 3 channels and answers from its last step."""
    layer = cell(3, 5, batch_first=True, **options)
    width = (options.get("proj_size") or 5) * (2 if options.get("bidirectional") else 1)
    return Net(lambda net, x: net.fc(last(net.rnn(x))), rnn=layer, fc=nn.Linear(width, outputs))


def by_steps(net, x):
    return net.fc(net.rnn(x)[0])


NETS = {
    "lstm": lambda: recurrent(nn.LSTM),
    "gru, both directions": lambda: recurrent(nn.GRU, bidirectional=True),
    "stack": lambda: recurrent(nn.GRU, num_layers=2),
    "projected": lambda: recurrent(nn.LSTM, proj_size=2),
    "convolution": lambda: Net(
        lambda net, x: net.fc(net.pool(net.conv(x.transpose(1, 2))).mean(-1)),
        conv=nn.Conv1d(3, 4, 3),
        pool=nn.MaxPool1d(2),
        fc=nn.Linear(4, 2),
    ),
    "outputs with steps": lambda: Net(by_steps, rnn=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 2)),
}
LENGTHS = (9, 6, 11, 6, 8)


@pytest.fixture(scope="module")
def ragged():
    """Five series of 3 channels and 6 to 11 steps, of two classes."""
    data = [series(1, length, 3, seed=length + place)[0] for place, length in enumerate(LENGTHS)]
    return sq.Sequences(data, labels=[0, 1, 1, 0, 1], samples=list("abcde"))


@pytest.fixture(scope="module", params=NETS)
def both(request, ragged, tmp_path_factory):
    """The same net as it runs, and as it was recorded."""
    torch.manual_seed(0)
    tmp_path = tmp_path_factory.mktemp("recorded")
    scope = sq.Scope(NETS[request.param]())
    states = {"states": True} if "convolution" not in request.param else {}
    scope.record(ragged, tmp_path / "run.zarr", "*", **states)
    return source_of(scope, ragged), source_of(tmp_path / "run.zarr")


def test_values_of_a_sample_are_those_of_the_scope_without_padding(both, ragged):
    live, _ = both
    for source in both:
        for shown in source.layers.values():
            for state in shown.states:
                for sample in (0, 2):
                    found = source.values(shown.name, state, sample)
                    if state:
                        name, _, way = state.partition(".")
                        wanted = live.scope.states(ragged[sample], shown.name)[name]
                        wanted = wanted.sel(direction=way) if way else wanted
                    else:
                        wanted = live.scope.activations(ragged[sample], shown.name)
                    # A recording is made batch by batch, and a batch rounds otherwise than a sample alone.
                    np.testing.assert_allclose(found.values, wanted.values, rtol=0 if source is live else 1e-12)
                    assert found.dims[-1] == "unit"
                    assert not found.isnull().any()
                    assert found.sizes["unit"] == len(shown.units_of(state))


def test_a_recording_and_its_model_are_looked_at_alike(both, ragged):
    live, recorded = both
    assert recorded.layers == live.layers
    pd.testing.assert_frame_equal(recorded.samples, live.samples)
    assert (len(recorded), recorded.outputs, recorded.is_classified) == (len(live), live.outputs, live.is_classified)
    for sample in range(len(ragged)):
        np.testing.assert_array_equal(recorded.input(sample).values, ragged[sample].values)
        xr.testing.assert_identical(recorded.input(sample), live.input(sample))
        for name, shown in live.layers.items():
            mine, other = recorded.values(name, shown.states[0], sample), live.values(name, shown.states[0], sample)
            for end in ("time", "time_start", "time_end"):
                assert (end in mine.coords) == (end in other.coords)
                if end in other.coords:
                    np.testing.assert_array_equal(mine.coords[end].values, other.coords[end].values)


def test_whole_is_all_samples_with_padding(both, ragged):
    for source in both:
        for name, shown in source.layers.items():
            for state in (shown.states[0], shown.states[-1]):
                whole = source.whole(name, state)
                assert whole.dims == ("sample", "step" if "step" in whole.dims else "time", "unit")
                for sample in (1, 2):
                    one = source.values(name, state, sample)
                    np.testing.assert_allclose(whole.isel(sample=sample).values[: len(one)], one.values, rtol=1e-12)
                    assert np.isnan(whole.isel(sample=sample).values[len(one) :]).all()


def test_the_python_gives_the_same_values(both, ragged):
    for source in both:
        names = {"sq": sq, "scope": source.scope, "X": source.X, "recording": getattr(source, "recording", None)}
        for name, shown in source.layers.items():
            for state in {*shown.states[:2], shown.states[-1]}:
                found = eval(source.code(name, state, 2), dict(names))
                np.testing.assert_array_equal(found.values, source.values(name, state, 2).values)
                np.testing.assert_array_equal(
                    np.asarray(eval(source.code(name, state, None), dict(names)).values), source.whole(name, state).values
                )


def test_states_of_one_unit_are_those_of_all(both):
    for source in both:
        for name, shown in source.layers.items():
            if shown.is_recurrent:
                way = shown.states[-1].partition(".")[2]
                one = source.states_of_unit(name, 1, 1, way)
                assert "c" in one or "n" in one
                for state, array in one.data_vars.items():
                    np.testing.assert_array_equal(array.values, source.values(name, f"{state}.{way}".strip("."), 1).values[:, 1])


def test_what_both_directions_put_out_has_more_units_than_each():
    shown = source_of(sq.Scope(NETS["gru, both directions"]()), series()).layers["rnn"]
    assert shown.states == ("", *(f"{state}.{way}" for way in ("forward", "backward") for state in "hrzn"))
    assert (len(shown.units), len(shown.units_of("")), len(shown.units_of("h.backward"))) == (10, 10, 5)


def test_what_is_projected_has_fewer_units_than_the_cells():
    shown = source_of(sq.Scope(NETS["projected"]()), series()).layers["rnn"]
    assert {state: len(shown.units_of(state)) for state in shown.states} == {"": 2, "h": 2} | dict.fromkeys("cifgo", 5)


def test_layers_without_steps_are_not_looked_at():
    assert list(source_of(sq.Scope(NETS["lstm"]()), series()).layers) == ["rnn"]
    assert list(source_of(sq.Scope(NETS["convolution"]()), series()).layers) == ["conv", "pool"]
    assert list(source_of(sq.Scope(NETS["outputs with steps"]()), series()).layers) == ["rnn", "fc"]
    assert not source_of(sq.Scope(NETS["convolution"]()), series()).layers["conv"].is_recurrent


def test_tokens_are_looked_at_too():
    net = Net(
        lambda net, x: net.fc(last(net.rnn(net.emb(x)))), emb=nn.Embedding(7, 4), rnn=nn.GRU(4, 5, batch_first=True), fc=nn.Linear(5, 2)
    )
    tokens = np.random.default_rng(0).integers(0, 7, (4, 9))
    source = source_of(sq.Scope(net), tokens)
    assert list(source.layers) == ["emb", "rnn"]
    np.testing.assert_array_equal(source.input(2).values, tokens[2])


def test_a_net_of_onnx_is_looked_at():
    source = source_of(sq.Scope(onnx_nets.recurrent_net().model), series().astype(np.float32))
    assert source.layers["lstm"].is_recurrent
    hidden = source.values("lstm", "h", 1)
    np.testing.assert_array_equal(hidden.values, source.scope.states(source.X[1], "lstm")["h"].values)
    assert not source.scope._engine.__class__.__name__.startswith("Torch")


# Samples


def judged(outputs, labels, names=None):
    """A net that puts out the last step of its input, and data that makes it put out what is wanted."""
    net = Net(lambda net, x: net.same(x)[:, -1], same=nn.Identity())
    X = sq.Sequences(np.repeat(np.asarray(outputs, float)[:, np.newaxis], 3, axis=1), labels=labels, outputs=names)
    return sq.Scope(net, layout="NTC"), X


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0, 1, 1, 0], None),
        ([0, 1, 2, 2], None),
        (["b", "a", "a", "b"], ["a", "b", "c"]),
        ([3, 1, 2, 2], [1, 2, 3]),
        ([3.0, 1.0, 2.0, 2.0], [1, 2, 3]),
        ([True, False, True, True], None),
        ([1, 2, 3, 3], None),  # 3 is no position of three
        (["1", "0", "2", "2"], None),  # names that are numbers, labels that are texts
        ([0, 1, 2, 2], ["a", "b", "c"]),
        ([0.5, 1.0, 2.0, 2.0], None),
        (None, ["a", "b", "c"]),
    ],
)
def test_right_and_wrong_is_as_in_a_recording(labels, names, tmp_path):
    outputs = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [2.0, 0.0, 1.0], [0.0, 0.0, 7.0]])
    scope, X = judged(outputs, labels, names)
    recording = scope.record(X, tmp_path / "run.zarr", "*")
    for source in (source_of(scope, X), source_of(recording)):
        assert source.is_classified == (recording.accuracy is not None)
        if recording.accuracy is not None:
            assert 1 - source.samples["wrong"].mean() == recording.accuracy
            meant = [list(names if names is not None else range(3)).index(label) for label in labels]
            assert source.samples["wrong"].tolist() == (outputs.argmax(axis=1) != meant).tolist()
        assert source.samples["prediction"].tolist() == [str((names or range(3))[place]) for place in outputs.argmax(axis=1)]
        assert source.samples["score"].tolist() == outputs.max(axis=1).tolist()


def test_one_output_is_a_score_and_no_prediction(tmp_path):
    scope, X = judged([[0.5], [2.0], [-1.0]], [0.5, 1.5, -1.0])
    recording = scope.record(X, tmp_path / "run.zarr", "*")
    for source in (source_of(scope, X), source_of(recording)):
        assert list(source.samples) == ["sample", "label", "score", "length"]
        assert source.samples["score"].tolist() == [0.5, 2.0, -1.0]
        assert not source.is_classified


def test_of_outputs_with_steps_the_last_is_told_and_none_is_judged(ragged):
    scope = sq.Scope(NETS["outputs with steps"]())
    source = source_of(scope, ragged)
    for sample, length in enumerate(LENGTHS):
        output = scope.predict(ragged[sample]).values[length - 1]
        assert source.samples["score"][sample] == output.max()
        assert source.samples["prediction"][sample] == str(output.argmax())
    assert "wrong" not in source.samples


def test_what_the_model_gives_no_number_for_has_no_prediction_and_is_no_mistake(tmp_path):
    net = Net(lambda net, x: net.same(x)[:, -1].log(), same=nn.Identity())
    X = sq.Sequences(np.repeat([[[1.0, 2.0]], [[-1.0, 2.0]], [[3.0, 2.0]]], 3, axis=1), labels=[0, 0, 0])
    scope = sq.Scope(net, layout="NTC")
    recording = scope.record(X, tmp_path / "run.zarr", "*")
    for source in (source_of(scope, X), source_of(recording)):
        assert source.samples["prediction"].tolist() == ["1", "", "0"]
        assert source.samples["wrong"].tolist() == [True, False, False]
        assert np.isnan(source.samples["score"][1])


def test_samples_are_told_by_their_ids(both, ragged):
    for source in both:
        assert source.samples["sample"].tolist() == list("abcde")
        assert source.samples["length"].tolist() == list(LENGTHS)
        assert source.labels.tolist() == [0, 1, 1, 0, 1]


# What can't be


@pytest.mark.parametrize("sample", [-1, 370, 10**12])
def test_a_sample_out_of_range_is_an_error_wherever_it_is_asked_for(vowels, sample):
    asks = (lambda: vowels.values("lstm", "", sample), lambda: vowels.states("lstm", sample), lambda: vowels.input(sample))
    for ask in asks:
        with pytest.raises(SampleError, match=f"There is no sample {sample}: the positions go from 0 to 369."):
            ask()


def test_a_layer_or_a_state_that_is_not_there_is_an_error(vowels):
    with pytest.raises(LayerError, match=r"There is no layer 'fc' to look at here: .*'lstm'"):
        vowels.values("fc", "", 0)
    with pytest.raises(LayerError, match="'lstm' has no state 'r'"):
        vowels.values("lstm", "r", 0)


def test_a_whole_layer_that_would_not_fit_is_refused(monkeypatch):
    source = source_of(sq.Scope(NETS["lstm"]()), series())
    monkeypatch.setattr("seqscope.ram.available", lambda: 100)
    with pytest.raises(TooLargeError, match="record"):
        source.whole("rnn", "")


def test_without_inputs_the_rest_is_looked_at(ragged, tmp_path):
    sq.Scope(NETS["lstm"]()).record(ragged, tmp_path / "run.zarr", "*", inputs=False)
    source = source_of(tmp_path / "run.zarr")
    assert source.input(1) is None
    assert source.values("rnn", "", 1).sizes == {"time": 6, "unit": 5}
    with pytest.raises(DataError, match=r"The inputs were not recorded: give the data too, as in explore\(store, X\)"):
        source.inputs()


def test_states_alone_and_activations_alone_are_looked_at(ragged, tmp_path):
    scope = sq.Scope(NETS["lstm"]())
    scope.record(ragged, tmp_path / "states.zarr", states={"rnn": ["c", "f"]})
    scope.record(ragged, tmp_path / "activations.zarr", "rnn")
    assert source_of(tmp_path / "states.zarr").layers["rnn"].states == ("c", "f")
    assert source_of(tmp_path / "activations.zarr").layers["rnn"].states == ("",)
    with pytest.raises(LayerError, match="has no state 'h'"):
        source_of(tmp_path / "states.zarr").values("rnn", "h", 0)


# How it is read


def test_a_layer_is_opened_once_and_one_state_is_read_alone(ragged, tmp_path, monkeypatch):
    sq.Scope(NETS["lstm"]()).record(ragged, tmp_path / "run.zarr", "*", states=True)
    opened = []
    states = reading.Recording.states
    monkeypatch.setattr(reading.Recording, "states", lambda self, layer=None: opened.append(layer) or states(self, layer))
    source = source_of(tmp_path / "run.zarr")
    opened.clear()
    for sample in range(5):
        source.values("rnn", "c", sample)
    assert opened == ["rnn"]
    assert source._lazy("rnn", states=True)["h"].variable._in_memory is False


def test_looking_at_all_does_not_keep_the_store_in_memory(ragged, tmp_path):
    sq.Scope(NETS["lstm"]()).record(ragged, tmp_path / "run.zarr", "*")
    source = source_of(tmp_path / "run.zarr")
    assert source.whole("rnn", "").values.shape == (5, 11, 5)
    assert source._lazy("rnn", states=False).variable._in_memory is False


def test_many_who_look_at_once_see_the_same(both):
    for source in both:
        name, shown = next(iter(source.layers.items()))
        wanted = [source.values(name, shown.states[0], sample).values for sample in range(5)]
        wrong = []
        source.kept = type(source.kept)(n_bytes=10_000)  # so small that much is read again

        def look(seed, source=source, name=name, shown=shown, wanted=wanted, wrong=wrong):
            for sample in np.random.default_rng(seed).integers(0, 5, 10):
                if not np.array_equal(source.values(name, shown.states[0], int(sample)).values, wanted[sample]):
                    wrong.append(sample)

        threads = [threading.Thread(target=look, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
