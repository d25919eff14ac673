"""What Sequences say and hold: options, selections, batches, round trips, and every bad input in a sentence."""

import datetime
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import seqscope as sq
from seqscope import Sequences, labelled
from seqscope.errors import DataError, SampleError
from seqscope.sequences import as_sequences

N, T, C = 3, 4, 2
DAYS = pd.date_range("2024-02-27", periods=T)


def noise(*sizes, seed=0):
    return np.random.default_rng(seed).standard_normal(sizes)


def ragged(lengths, n_channels=C):
    return [noise(length, n_channels, seed=place) for place, length in enumerate(lengths)]


def assert_holds(X, expected):
    assert len(X) == len(expected)
    for sequence, values in zip(X, expected, strict=True):
        np.testing.assert_array_equal(sequence.values, values, strict=True)


def refusal(*args, **kwargs):
    """What is said of data that is not taken."""
    with pytest.raises(DataError) as caught:
        Sequences(*args, **kwargs)
    return str(caught.value)


# Options


def test_one_sequence_is_an_array_with_every_name_that_was_given():
    X = Sequences(
        noise(N, T, C),
        lengths=[4, 3, 4],
        channels=["x", "y"],
        samples=["anna", "ben", "cleo"],
        labels=["up", "down", "up"],
        outputs=["down", "up"],
        rate=10.0,
        time_units="ms",
    )
    expected = xr.DataArray(
        noise(N, T, C)[1, :3],
        dims=("time", "channel"),
        coords={
            "sample": "ben",
            "length": 3,
            "label": "down",
            "time": ("time", [0.0, 0.1, 0.2], {"long_name": "Time", "units": "ms"}),
            "channel": ("channel", ["x", "y"], {"long_name": "Channel"}),
        },
        name="value",
        attrs={"seqscope_version": sq.__version__, "outputs": ["down", "up"]},
    )
    xr.testing.assert_identical(X[1], expected)


def test_what_is_not_said_is_numbered_from_0():
    X = Sequences(noise(N, T, C))
    assert X.channels == (0, 1)
    assert X.samples.tolist() == [0, 1, 2]
    assert X.lengths.tolist() == [4, 4, 4]
    assert X.labels is None
    assert X.outputs is None
    assert X[2].time.values.tolist() == [0, 1, 2, 3]
    assert X[2].sample.item() == 2
    assert "label" not in X[2].coords


def test_lengths_cut_sequences_whatever_lies_beyond():
    values = noise(N, T, C)
    values[0, 2:], values[1, 3:] = np.nan, np.inf
    X = Sequences(values, lengths=[2, 3, 1])
    assert_holds(X, [values[0, :2], values[1, :3], values[2, :1]])
    assert X.lengths.tolist() == [2, 3, 1]


@pytest.mark.parametrize("layout", ["NTC", "NCT", "TNC"])
def test_lengths_go_with_samples_in_every_layout(layout):
    values = noise(N, T, C)
    X = Sequences(values.transpose({"NTC": (0, 1, 2), "NCT": (0, 2, 1), "TNC": (1, 0, 2)}[layout]), layout=layout, lengths=[1, 4, 2])
    assert_holds(X, [values[0, :1], values[1], values[2, :2]])


def test_lengths_cut_lists_and_tokens_too():
    assert_holds(Sequences(ragged([4, 2]), lengths=[3, 2]), [ragged([4, 2])[0][:3], ragged([4, 2])[1]])
    assert_holds(Sequences(np.array([[5, 6, 0], [7, 0, 0]]), lengths=[2, 1]), [np.array([5, 6]), np.array([7])])


def test_lengths_may_be_whole_floats():
    assert Sequences(noise(N, T, C), lengths=np.array([2.0, 3.0, 4.0])).lengths.tolist() == [2, 3, 4]


def test_names_may_come_as_any_array():
    X = Sequences(noise(N, T, C), channels=pd.Index(["x", "y"]), samples=pd.Series([7, 8, 9]), labels=xr.DataArray(["a", "b", "a"]))
    assert X.channels == ("x", "y")
    assert X.samples.tolist() == [7, 8, 9]
    assert X.labels.tolist() == ["a", "b", "a"]


def test_names_of_several_parts_stay_apart():
    X = Sequences(noise(N, T, C), channels=pd.MultiIndex.from_tuples([("left", "x"), ("left", "y")]))
    names = [str(name) for name in X[0].channel.values.tolist()]
    assert len(set(names)) == C
    assert "x" in names[0]
    assert "y" in names[1]


def test_names_may_come_from_anything_that_gives_them_one_by_one():
    assert Sequences(noise(N, T, C), channels=(name for name in "xy")).channels == ("x", "y")
    assert Sequences(noise(N, T, C), channels={"x": 1, "y": 2}.keys()).channels == ("x", "y")


def test_names_that_are_said_go_before_those_of_the_data():
    array = xr.DataArray(
        noise(N, T, C),
        dims=("sample", "time", "channel"),
        coords={"sample": [7, 8, 9], "channel": ["x", "y"], "label": ("sample", [0, 1, 0]), "time": [0.5, 1.0, 1.5, 2.0]},
        attrs={"outputs": ["no", "yes"]},
    )
    X = Sequences(array, samples=["a", "b", "c"], channels=["p", "q"], labels=[1, 1, 1], outputs=["0", "1"], rate=1.0)
    assert X.samples.tolist() == ["a", "b", "c"]
    assert X.channels == ("p", "q")
    assert X.labels.tolist() == [1, 1, 1]
    assert X.outputs == ("0", "1")
    assert X[0].time.values.tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "stamps",
    [[0.0, 0.5, 1.5, 4.0], (3, 5, 7, 9), np.array([1.0, 2.0, 3.0, 4.0], np.float32), DAYS, pd.timedelta_range("1s", periods=T)],
    ids=["list", "tuple", "single precision", "dates", "spans"],
)
def test_stamps_are_the_time_of_every_sequence(stamps):
    X = Sequences(ragged([4, 2]), time=stamps)
    np.testing.assert_array_equal(X[0].time.values, np.asarray(stamps), strict=True)
    np.testing.assert_array_equal(X[1].time.values, np.asarray(stamps)[:2], strict=True)
    assert X[0].time.attrs == {"long_name": "Time"}


@pytest.mark.parametrize("kind", [datetime.datetime, pd.Timestamp])
def test_python_dates_are_dates(kind):
    X = Sequences(noise(1, 2, 1), time=[kind(2024, 2, 29, 12), kind(2024, 3, 1)])
    assert X[0].time.dtype.kind == "M"
    np.testing.assert_array_equal(X[0].time.values, np.array(["2024-02-29T12", "2024-03-01T00"], "M8[us]"))


def test_stamps_beyond_the_end_are_left_out():
    X = Sequences(noise(N, T, C), time=[0.0, 0.5, 1.5, 4.0, 99.0])
    assert X[0].time.values.tolist() == [0.0, 0.5, 1.5, 4.0]


def test_every_sequence_may_have_stamps_of_its_own():
    stamps = [[0.0, 0.5, 1.5, 4.0], [7.0, 8.0], [1.0, 2.0, 3.0]]
    X = Sequences(ragged([4, 2, 3]), time=stamps, time_units="s")
    for sequence, own in zip(X, stamps, strict=True):
        assert sequence.time.values.tolist() == own
        assert sequence.time.attrs == {"long_name": "Time", "units": "s"}
    assert X[1:][0].time.values.tolist() == [7.0, 8.0]
    assert X[[2, 0]][0].time.values.tolist() == [1.0, 2.0, 3.0]


def test_every_sequence_may_have_dates_of_its_own():
    X = Sequences(ragged([4, 2]), time=[DAYS, DAYS[:2] + pd.Timedelta("90min")])
    np.testing.assert_array_equal(X[0].time.values, DAYS.values)
    np.testing.assert_array_equal(X[1].time.values, (DAYS[:2] + pd.Timedelta("90min")).values)


def test_a_rate_is_steps_per_second_unless_another_unit_is_said():
    sequence = Sequences(ragged([4, 2]), rate=4)[0]
    assert sequence.time.values.tolist() == [0.0, 0.25, 0.5, 0.75]
    assert sequence.time.attrs["units"] == "s"
    assert Sequences(ragged([4, 2]), rate=4, time_units="h")[1].time.attrs["units"] == "h"


def test_the_unit_of_stamps_that_came_with_the_data_can_be_said():
    index = pd.MultiIndex.from_tuples([("p", 0.0), ("p", 20.0), ("q", 0.0), ("q", 20.0)])
    X = Sequences(pd.DataFrame({"x": [1.0, 2, 3, 4]}, index=index), time_units="ms")
    assert X[0].time.values.tolist() == [0.0, 20.0]
    assert X[0].time.attrs["units"] == "ms"


def test_tokens_have_time_stamps_and_names_like_any_data():
    X = Sequences(np.array([[5, 6], [7, 8]]), samples=["p", "q"], labels=[1, 0], rate=2.0)
    expected = xr.DataArray(
        [7, 8],
        dims="time",
        coords={"sample": "q", "length": 2, "label": 0, "time": ("time", [0.0, 0.5], {"long_name": "Time", "units": "s"})},
        name="value",
        attrs={"seqscope_version": sq.__version__},
    )
    xr.testing.assert_identical(X[1], expected)


def test_stamps_beyond_the_end_of_a_sequence_are_not_its_own():
    """Were they kept, results would have times where there is no value."""
    stamps = [[0.0, 0.5, 1.5, 4.0], [7.0, 8.0, 9.0, 10.0]]
    for X in (Sequences(ragged([4, 2]), time=stamps), Sequences(noise(2, T, C), lengths=[4, 2], time=stamps)):
        found = labelled.result(np.zeros((2, T)), ("sample", "time"), name="found", samples=X.sample_axis, clock=X.clock)
        np.testing.assert_array_equal(found.timestamp, [[0.0, 0.5, 1.5, 4.0], [7.0, 8.0, np.nan, np.nan]])


def test_the_sample_axis_of_results_is_that_of_the_data():
    X = Sequences(ragged([4, 2]), samples=["p", "q"], labels=[1, 0])
    axis = X.sample_axis
    assert (axis.ids.tolist(), axis.lengths.tolist(), axis.labels.tolist(), axis.single) == (["p", "q"], [4, 2], [1, 0], False)
    assert Sequences(noise(T, C)).sample_axis.single


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (noise(N, T, C), "3 sequences, 4 steps, 2 channels"),
        (ragged([4, 2, 7]), "3 sequences, 2 to 7 steps, 2 channels"),
        (noise(1, T, 1), "1 sequence, 4 steps, 1 channel"),
        (noise(T, C), "one sequence, 4 steps, 2 channels"),
        (np.array([[1, 2, 3]]), "1 sequence, 3 steps, tokens"),
        ([np.array([1, 2, 3]), np.array([1])], "2 sequences, 1 to 3 steps, tokens"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_they_say_what_they_hold(data, words):
    X = Sequences(data)
    assert repr(X) == f"Sequences: {words}"
    assert X.describe() == words


def test_sequences_are_taken_as_they_are():
    X = Sequences(noise(N, C, T), layout="NCT", labels=["a", "b", "c"])
    assert as_sequences(X, "TNC") is X
    assert_holds(as_sequences(noise(N, C, T), "NCT"), noise(N, C, T).transpose(0, 2, 1))


def test_sequences_of_sequences_lose_nothing():
    X = Sequences(noise(N, T, C), samples=["a", "b", "c"], labels=[0, 1, 0], channels=["x", "y"], outputs=["n", "y"], rate=10.0)
    for again in (Sequences(X), Sequences(X[:])):
        for got, expected in zip(again, X, strict=True):
            xr.testing.assert_identical(got, expected)
    assert_holds(Sequences(Sequences(ragged([4, 2]))), ragged([4, 2]))


def test_sequences_can_be_given_other_labels():
    X = Sequences(Sequences(ragged([4, 2]), samples=["a", "b"]), labels=["up", "down"])
    assert X[1].label.item() == "down"
    assert X[1].sample.item() == "b"


# Some of it


@st.composite
def data(draw, max_samples=6):
    """Ragged data, series or tokens, with names and stamps of every kind."""
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=max_samples))
    options = {}
    if draw(st.booleans()):
        items = ragged(lengths, draw(st.integers(1, 3)))
        options["channels"] = draw(st.sampled_from([None, [f"channel {place}" for place in range(items[0].shape[1])]]))
    else:
        items = [np.random.default_rng(place).integers(0, 9, length) for place, length in enumerate(lengths)]
    n_samples, longest = len(lengths), max(lengths)
    options["samples"] = draw(st.sampled_from([None, [f"id {place}" for place in range(n_samples)], np.arange(n_samples) * 3 + 5]))
    options["labels"] = draw(st.sampled_from([None, ["up", "down", "sideways"] * n_samples, np.arange(3 * n_samples) / 2]))
    options["labels"] = None if options["labels"] is None else options["labels"][:n_samples]
    options["outputs"] = draw(st.sampled_from([None, ["up", "down"], ["alone"], [3, 1, 2]]))
    kind = draw(st.sampled_from(["none", "rate", "shared", "shared dates", "own", "own dates"]))
    shifts = draw(st.lists(st.integers(-3, 3), min_size=n_samples, max_size=n_samples))
    if kind == "rate":
        options["rate"] = draw(st.sampled_from([0.5, 1, 100.0]))
    elif kind.startswith("shared"):
        options["time"] = 7 + 0.5 * np.arange(longest) if kind == "shared" else pd.date_range("2024-02-28", periods=longest)
    elif kind == "own":
        options["time"] = [shift + np.arange(length) for shift, length in zip(shifts, lengths, strict=True)]
    elif kind == "own dates":
        dates = pd.date_range("2024-02-28", periods=longest)
        options["time"] = [dates[:length] + pd.Timedelta(shift, "h") for shift, length in zip(shifts, lengths, strict=True)]
    if kind in ("rate", "shared", "own"):
        options["time_units"] = draw(st.sampled_from([None, "ms", "minutes"]))
    return items, options


@settings(max_examples=60)
@given(given_data=data())
def test_a_list_of_sequences_is_the_same_data(given_data):
    """List to Sequences to DataArrays to Sequences: every value, type, name, stamp and attribute."""
    items, options = given_data
    X = Sequences(items, **options)
    assert_holds(X, items)
    again = Sequences(list(X))
    for got, expected in zip(again, X, strict=True):
        xr.testing.assert_identical(got, expected)
    assert again.outputs == X.outputs
    assert again.describe() == X.describe()


def test_step_numbers_of_one_sequence_do_not_undo_the_stamps_of_another():
    X = Sequences(ragged([3, 2]), time=[[0, 1, 2], [5, 9]])
    again = Sequences(list(X))
    assert again[0].time.values.tolist() == [0, 1, 2]
    assert again[1].time.values.tolist() == [5, 9]


def test_names_of_outputs_that_are_numbers_stay_numbers():
    X = Sequences(noise(N, T, C), outputs=range(3))
    assert Sequences(list(X)).outputs == X.outputs == (0, 1, 2)


@settings(max_examples=12)
@given(given_data=data(max_samples=2))
def test_a_sequence_is_the_same_after_a_file(given_data, tmp_path_factory):
    items, options = given_data
    path = tmp_path_factory.mktemp("netcdf") / "sequence.nc"
    X = Sequences(items, **options)
    for sequence in X:
        sequence.to_netcdf(path, engine="h5netcdf")
        with xr.open_dataarray(path, engine="h5netcdf") as opened:
            there = opened.load()
        again = Sequences(there)
        assert again.outputs == X.outputs
        xr.testing.assert_identical(again[0], sequence)
        if X.outputs == ("alone",):  # a file keeps a list of one as the one
            there.attrs["outputs"] = ["alone"]
        xr.testing.assert_identical(there, sequence)


def test_dates_are_in_no_unit():
    """A unit on dates is of no use, and a file can't be written with it."""
    for X in (
        Sequences(noise(N, T, C), time=DAYS, time_units="s"),
        Sequences(noise(N, T, C), time=[DAYS + pd.Timedelta(row, "h") for row in range(N)], time_units="s"),
        Sequences(pd.DataFrame(noise(T, C), index=DAYS), time_units="s"),
    ):
        assert "units" not in X[0].time.attrs
        X[0].to_netcdf(engine="h5netcdf")


@settings(max_examples=60)
@given(given_data=data(), choose=st.data())
def test_a_selection_is_what_numpy_selects(given_data, choose):
    items, options = given_data
    X = Sequences(items, **options)
    n = len(items)
    key = choose.draw(
        st.one_of(
            st.slices(n),
            st.lists(st.integers(-n, n - 1), min_size=1, max_size=8),
            st.lists(st.booleans(), min_size=n, max_size=n),
        )
    )
    as_index = key if isinstance(key, slice) else np.array(key)
    rows = np.arange(n)[as_index]
    if not len(rows):
        with pytest.raises(DataError, match=rf"no sequence \(there are {n}\)"):
            X[as_index]
        return
    part = X[key]
    assert isinstance(part, Sequences)
    assert not part.single
    assert len(part) == len(rows)
    for got, row in zip(part, rows, strict=True):
        xr.testing.assert_identical(got, X[int(row)])


@given(given_data=data())
def test_a_selection_of_a_selection(given_data):
    items, options = given_data
    X = Sequences(items, **options)
    for got, place in zip(X[::-1][::2], range(len(items))[::-1][::2], strict=True):
        xr.testing.assert_identical(got, X[place])


def test_a_selection_of_one_is_still_several():
    assert Sequences(noise(T, C)).single
    assert not Sequences(noise(T, C))[:1].single


def test_a_selection_leaves_the_whole_as_it_was():
    X = Sequences(ragged([4, 2, 3]), samples=["p", "q", "r"], labels=[0, 1, 2])
    part = X[1:]
    assert part.samples.tolist() == ["q", "r"]
    assert_holds(X, ragged([4, 2, 3]))
    assert X.samples.tolist() == ["p", "q", "r"]
    assert X.labels.tolist() == [0, 1, 2]


def test_selections_share_the_memory_of_the_data():
    values = noise(N, T, C)
    X = Sequences(values)
    for part in (X[1:], X[[2, 0]], X[np.array([False, True, True])], X[1:][:1]):
        for sequence in part:
            assert np.shares_memory(sequence.values, values)


@pytest.mark.parametrize("position", [0, 1, 2, -1, -3, np.int64(1), np.uint8(2)])
def test_a_position_gives_one_sequence(position):
    X = Sequences(ragged([4, 2, 3]))
    np.testing.assert_array_equal(X[position].values, ragged([4, 2, 3])[position])
    assert X[position].sample.item() == range(3)[position]


@pytest.mark.parametrize("position", [np.array(1), pd.Series([0, 1])[1], xr.DataArray(1), torch.tensor(1)], ids=lambda p: type(p).__name__)
def test_a_position_may_be_an_array_without_axes(position):
    X = Sequences(ragged([4, 2, 3]))
    assert isinstance(X[position], xr.DataArray)
    np.testing.assert_array_equal(X[position].values, ragged([4, 2, 3])[1])


@pytest.mark.parametrize("position", [3, -4, 99])
def test_a_position_that_is_not_there_is_an_index_error_that_says_which_are(position):
    with pytest.raises(SampleError, match=f"no sample {position}: the positions go from 0 to 2") as caught:
        Sequences(ragged([4, 2, 3]))[position]
    assert isinstance(caught.value, IndexError)  # what Python's own `for` and `reversed` go by


def test_going_through_gives_every_sequence_once():
    X = Sequences(ragged([4, 2, 3]))
    assert [sequence.sample.item() for sequence in X] == [0, 1, 2]
    assert [sequence.sample.item() for sequence in X] == [0, 1, 2]
    assert [sequence.sample.item() for sequence in reversed(X)] == [2, 1, 0]


@pytest.mark.parametrize("key", [[], (), slice(3, 3), slice(2, 1), np.array([], int), np.zeros(3, bool)], ids=str)
def test_an_empty_selection_is_refused(key):
    with pytest.raises(DataError, match=r"no sequence \(there are 3\)"):
        Sequences(ragged([4, 2, 3]))[key]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ([0, 3], "index 3 is out of bounds"),
        (np.array([True, False]), "boolean"),
        ([0.5], "integer"),
        ("a", "integer"),
        (None, "integer"),
        (np.array([[0, 1]]), "The selection"),
        ((slice(None), 0), "The selection"),
    ],
    ids=str,
)
def test_a_selection_that_does_not_fit_is_refused_with_what_there_is(key, words):
    with pytest.raises(SampleError) as caught:
        Sequences(ragged([4, 2, 3]))[key]
    assert words in str(caught.value)
    assert "3 sequences, 2 to 4 steps, 2 channels" in str(caught.value)


# Batches


@settings(max_examples=60)
@given(given_data=data(max_samples=9), size=st.integers(1, 5), choose=st.data())
def test_batches_hold_every_row_once_in_equal_lengths_the_longest_first(given_data, size, choose):
    items, options = given_data
    order = choose.draw(st.lists(st.integers(0, len(items) - 1), min_size=1, max_size=9))
    for X, held in ((Sequences(items, **options), items), (Sequences(items, **options)[order], [items[row] for row in order])):
        seen, lengths = [], []
        for batch in X.batches(size):
            rows = np.arange(len(X))[batch.rows]
            assert 1 <= len(rows) == len(batch.values) <= size
            for row, values in zip(rows, batch.values, strict=True):
                np.testing.assert_array_equal(values, held[row], strict=True)
            np.testing.assert_array_equal(batch.lengths, [len(values) for values in batch.values])
            seen += rows.tolist()
            lengths.append(batch.values.shape[1])
        assert sorted(seen) == list(range(len(held)))
        assert lengths == sorted(lengths, reverse=True)


def test_batches_are_as_full_as_they_can_be():
    X = Sequences(ragged([3, 2, 3, 3, 2, 3, 3]))
    assert [(batch.values.shape[1], len(batch.values)) for batch in X.batches(3)] == [(3, 3), (3, 2), (2, 2)]


def test_a_batch_of_neighbours_is_a_view_with_a_slice_for_its_rows():
    values = noise(5, T, C)
    first, second = Sequences(values).batches(3)
    assert (first.rows, second.rows) == (slice(0, 3), slice(3, 5))
    assert np.shares_memory(first.values, values)
    assert np.shares_memory(second.values, values)


def test_a_batch_of_others_says_which_rows_it_holds():
    batches = list(Sequences(ragged([3, 2, 3])).batches(5))
    np.testing.assert_array_equal(batches[0].rows, [0, 2])
    assert batches[1].rows == slice(1, 2)


@pytest.mark.parametrize("size", [0, -1, 1.5, "many"])
def test_batches_of_no_size_are_refused(size):
    with pytest.raises((ValueError, TypeError), match=f"batch.*{size}"):
        list(Sequences(noise(N, T, C)).batches(size))


# Bad input


@pytest.mark.parametrize(
    ("value", "what"), [(np.nan, "NaN"), (np.inf, "Infinity"), (-np.inf, "Infinity")], ids=["NaN", "infinity", "minus infinity"]
)
@pytest.mark.parametrize(("sample", "step", "channel"), [(0, 0, 0), (1, 2, 1), (2, 3, 0), (2, 3, 1)])
def test_a_value_that_is_no_number_is_refused_with_its_place(value, what, sample, step, channel):
    values = noise(N, T, C)
    values[sample, step, channel] = value
    assert refusal(values).startswith(f"{what} in sample {sample}, step {step}, channel {channel}:")
    assert refusal(list(values)).startswith(f"{what} in sample {sample}, step {step}, channel {channel}:")
    named = refusal(values, samples=["anna", "ben", "cleo"], channels=["x", "y"])
    assert named.startswith(f"{what} in sample {['anna', 'ben', 'cleo'][sample]}, step {step}, channel {'xy'[channel]}:")


def test_infinity_at_the_end_in_every_channel_is_no_padding():
    values = noise(N, T, C)
    values[1, 3] = np.inf
    assert refusal(values).startswith("Infinity in sample 1, step 3, channel 0:")


def test_the_first_gap_is_the_one_that_is_named():
    values = noise(N, T, C)
    values[2, 0, 0] = values[1, 3, 1] = values[1, 2, 1] = np.nan
    assert refusal(values).startswith("NaN in sample 1, step 2, channel 1:")


def test_a_gap_in_one_sequence_says_so_too():
    values = noise(T, C)
    values[1, 1] = np.nan
    assert refusal(values).startswith("NaN in sample 0, step 1, channel 1:")
    assert refusal(pd.DataFrame(values, columns=["x", "y"])).startswith("NaN in sample 0, step 1, channel y:")
    assert refusal(xr.DataArray(values.T, dims=("channel", "time"))).startswith("NaN in sample 0, step 1, channel 1:")


def test_lengths_do_not_hide_a_gap_before_the_end():
    values = noise(N, T, C)
    values[1, 1, 0] = np.nan
    assert refusal(values, lengths=[4, 2, 4]).startswith("NaN in sample 1, step 1, channel 0:")
    Sequences(values, lengths=[4, 1, 4])


def test_a_sequence_of_length_0_is_refused_with_its_place():
    assert "Sequence 1 has no steps (length 0)" in refusal(noise(N, T, C), lengths=[4, 0, 2])
    assert "Sequence 2 has no steps (length -1)" in refusal(noise(N, T, C), lengths=[4, 1, -1])
    values = noise(N, T, C)
    values[2] = np.nan
    assert "Sequence 2 has no steps (length 0)" in refusal(values)


def test_lengths_that_reach_into_the_padding_are_refused_with_the_sequence():
    values = noise(N, T, C)
    values[1, 2:] = np.nan
    assert " 1" in refusal(values, lengths=[4, 3, 4])
    assert_holds(Sequences(values, lengths=[4, 2, 4]), [values[0], values[1, :2], values[2]])


def test_lengths_beyond_the_data_are_refused_with_both_numbers():
    assert "Sequence 1 is said to have 5 steps and holds 4" in refusal(noise(N, T, C), lengths=[4, 5, 4])
    assert "Sequence 1 is said to have 3 steps and holds 2" in refusal(ragged([4, 2]), lengths=[4, 3])


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ([4, 4], "shape (2,): expected one for each of the 3 sequences"),
        ([[4, 4, 4]], "shape (1, 3)"),
        (4, "shape ()"),
        ([1.5, 4, 4], "1.5"),
        ([np.nan, 4, 4], "nan"),
        ([None, 4, 4], "None"),
        (["a", "b", "c"], "length"),
    ],
    ids=str,
)
def test_lengths_that_are_no_whole_numbers_one_a_sequence_are_refused(lengths, words):
    message = refusal(noise(N, T, C), lengths=lengths)
    assert "length" in message
    assert words in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": ["x"]}, "1 channel names were given for 2 channels"),
        ({"channels": ["x", "y", "z"]}, "3 channel names were given for 2 channels"),
        ({"samples": ["a", "b"]}, "sample ids have shape (2,): expected one for each of the 3 sequences"),
        ({"samples": [["a", "b", "c"]]}, "sample ids have shape (1, 3)"),
        ({"samples": "abc"}, "sample ids have shape ()"),
        ({"samples": ["a", "b", "a"]}, "sample id a stands 2 times"),
        ({"samples": [7, 7, 7]}, "sample id 7 stands 3 times"),
        ({"labels": [0, 1]}, "labels have shape (2,): expected one for each of the 3 sequences"),
        ({"labels": np.zeros((3, 2))}, "labels have shape (3, 2)"),
        ({"labels": [[0], [0, 1], [1]]}, "can't be read as an array"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_names_that_do_not_fit_are_refused_with_both_numbers(options, words):
    assert words in refusal(noise(N, T, C), **options)


def test_ids_of_mixed_kinds_are_taken():
    ids = np.array([1, "a", 2.5], object)
    assert [sequence.sample.item() for sequence in Sequences(noise(N, T, C), samples=ids)] == [1, "a", 2.5]
    assert "1 stands 2 times" in refusal(noise(N, T, C), samples=np.array([1, "a", 1], object))


def test_tokens_have_no_channel_names():
    assert "Tokens have no channels" in refusal(np.array([[1, 2]]), channels=["x"])


@pytest.mark.parametrize("rate", [0, -1.0, np.nan, np.inf, "100", [100.0]])
def test_a_rate_that_is_none_is_refused(rate):
    message = refusal(noise(N, T, C), rate=rate)
    assert "rate" in message
    assert str(rate) in message


def test_time_and_rate_together_are_refused():
    message = refusal(noise(N, T, C), time=[0, 1, 2, 3], rate=2.0)
    assert "`time`" in message
    assert "`rate`" in message


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ([0, 1, 2], "shape (3,): expected one for each of the 4 steps"),
        (np.zeros((N, T)), "shape (3, 4)"),
        (5.0, "shape ()"),
        ([[0, 1, 2, 3]] * 2, "2 arrays of time stamps were given for 3 sequences"),
        ([[0, 1, 2, 3], [0, 1, 2], [0, 1, 2, 3]], "Sequence 1 has 4 steps and 3 time stamps"),
        ([[0, 1, 2, 3], 5, [0, 1, 2, 3]], "stamps"),
        (["noon", "one", "two", "three"], "stamps"),
        (DAYS.tz_localize("Europe/Vienna"), "stamps"),
        ([None] * T, "stamps"),
        ([0.0, np.nan, 2.0, 3.0], "stamps"),
        (DAYS.where(np.arange(T) != 1), "stamps"),
        ([[0.0, 1.0, 2.0, np.inf]] * N, "stamps"),
        ([[0, 1, 2, 3], DAYS, DAYS], "stamps"),
    ],
    ids=[
        "too few",
        "two axes",
        "a number",
        "too few sequences",
        "too few for one",
        "no array for one",
        "words",
        "zones",
        "nothing",
        "a gap",
        "a gap in dates",
        "infinity",
        "numbers and dates",
    ],
)
def test_time_stamps_that_do_not_fit_are_refused(time, words):
    assert words in refusal(noise(N, T, C), time=time)


def test_too_few_stamps_are_too_few_for_the_longest_alone():
    assert "expected one for each of the 4 steps" in refusal(ragged([2, 4]), time=[0, 1, 2])
    assert Sequences(ragged([2, 4]), lengths=[2, 3], time=[0, 1, 2])[1].time.values.tolist() == [0, 1, 2]


def test_a_unit_without_a_time_is_refused():
    assert "time_units" in refusal(noise(N, T, C), time_units="ms")


@pytest.mark.parametrize("layout", ["ntc", "NHWC", 3, ""])
def test_an_unknown_layout_is_refused_with_the_known_ones(layout):
    message = refusal(noise(N, T, C), layout=layout)
    assert repr(layout) in message
    assert "'NTC', 'NCT', 'TNC', 'NT', 'TN'" in message


def test_data_and_labels_in_one_are_refused_with_what_was_given():
    """What `datasets.japanese_vowels()` gives is a pair: to forget to take it apart is easy."""
    X = Sequences(ragged([4, 2]))
    message = refusal((X, np.array(["a", "b"])))
    assert "Sequences" in message
    assert "inhomogeneous" not in message


# Very many sequences


def test_very_many_sequences_cost_a_few_bytes_each_and_parts_of_them_nothing(tmp_path):
    """A start, a length and an id of eight bytes for each of 10^5, at the peak too; a part is a view of these."""
    np.save(tmp_path / "a.npy", np.zeros((100_000, 3, 2), np.float32))
    values = np.load(tmp_path / "a.npy", mmap_mode="r")
    Sequences(values[:5])  # what is made once
    tracemalloc.start()
    try:
        X = Sequences(values)
        kept, peak = tracemalloc.get_traced_memory()
        assert kept < 26 * 100_000
        assert peak < 40 * 100_000
        tracemalloc.reset_peak()
        parts = [X[start : start + 100] for start in range(0, 100_000, 1000)]
        assert tracemalloc.get_traced_memory()[1] - kept < 100 * 2000
    finally:
        tracemalloc.stop()
    assert parts[3].samples.tolist() == list(range(3000, 3100))
    assert np.shares_memory(parts[3].lengths, X.lengths)


@pytest.mark.parametrize("key", [slice(None), slice(2, 5), slice(-3, None), slice(None, None, -2), slice(5, 100, 3)])
def test_slices_are_those_of_a_list(key):
    X = Sequences([np.full((2 + place % 3, 1), place) for place in range(10)], time=[np.arange(4) * (place + 1.0) for place in range(10)])
    rows = list(range(10))[key]
    assert X[key].samples.tolist() == rows
    for x, row in zip(X[key], rows, strict=True):
        assert x.values[:, 0].tolist() == [row] * (2 + row % 3)
        assert x.time.values.tolist() == [step * (row + 1.0) for step in range(2 + row % 3)]


@pytest.mark.parametrize("ids", [["b", "a", "b", "b", "a"], [3, "a", 3, 3, "a"], [7.0, 1.0, 7.0, 7.0, 1.0]])
def test_the_id_that_stands_most_often_is_named(ids):
    name = {"b": "b", 3: "3", 7.0: "7.0"}[ids[0]]
    with pytest.raises(DataError, match=rf"The sample id {name} stands 3 times: ids must differ"):
        Sequences(np.zeros((5, 2, 1)), samples=np.array(ids, object if 3 in ids else None))


def test_a_gap_is_found_in_whichever_block_it_lies(monkeypatch):
    monkeypatch.setattr("seqscope.sequences.BLOCK_BYTES", 200)
    items = [np.zeros((2 + place % 3, 2)) for place in range(40)]
    items[33][1, 1] = np.nan
    with pytest.raises(DataError, match="NaN in sample 33, step 1, channel 1"):
        Sequences(items)
    items[33][1] = [0, np.inf]
    with pytest.raises(DataError, match="Infinity in sample 33, step 1, channel 1"):
        Sequences(items)
