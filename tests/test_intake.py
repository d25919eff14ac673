"""Every kind of data that people have: the right values in the right place, with the names that came along, or one clear sentence."""

import datetime
import itertools

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from seqscope import Scope, Sequences
from seqscope.clock import Clock
from seqscope.errors import DataError
from seqscope.intake import as_array, as_numbers, take_in

N, T, C = 2, 4, 3
LAYOUTS = {"NTC": (0, 1, 2), "NCT": (0, 2, 1), "TNC": (1, 0, 2)}


def noise(*sizes, seed=0):
    return np.random.default_rng(seed).standard_normal(sizes)


def briefly(value):
    """An id for a case of a test."""
    return f"{type(value).__name__} {value.shape}" if hasattr(value, "shape") else str(value)[:40]


def assert_holds(X, expected, *, single=False):
    """Value by value, type by type, one after the other."""
    assert len(X) == len(expected)
    assert X.single == single
    for sequence, values in zip(X, expected, strict=True):
        np.testing.assert_array_equal(sequence.values, values, strict=True)


# Arrays


@pytest.mark.parametrize("layout", LAYOUTS)
def test_three_axes_are_sequences_in_the_layout_that_is_said(layout):
    values = noise(N, T, C)
    X = Sequences(values.transpose(LAYOUTS[layout]), layout=layout)
    assert_holds(X, values)
    assert X[0].dims == ("time", "channel")


def test_three_axes_are_sample_time_channel_where_nothing_is_said():
    assert_holds(Sequences(noise(N, T, C)), noise(N, T, C))


def test_two_axes_are_one_sequence_time_by_channel_in_any_layout():
    assert_holds(Sequences(noise(T, C)), [noise(T, C)], single=True)
    assert_holds(Sequences(noise(T, C), layout="NCT"), [noise(T, C)], single=True)


def test_one_axis_is_one_sequence_of_one_channel():
    assert_holds(Sequences(noise(T)), [noise(T, 1)], single=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_floats_stay_as_they_are(dtype, layout):
    values = noise(N, T, C).astype(dtype)
    X = Sequences(values.transpose(LAYOUTS[layout]), layout=layout)
    assert X.dtype == dtype
    assert_holds(X, values)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.uint64, bool])
def test_whole_numbers_with_three_axes_are_a_series_of_floats(dtype):
    values = (np.arange(N * T * C) % 7).reshape(N, T, C).astype(dtype)
    assert_holds(Sequences(values), values.astype(np.float64))


def test_truth_values_are_a_series_and_no_tokens():
    values = np.array([[True, False], [False, False], [True, True]])
    assert_holds(Sequences(values), [values.astype(np.float64)], single=True)


def test_an_array_in_the_first_layout_is_not_copied():
    values = noise(N, T, C)
    flat = take_in(values, "NTC")
    assert np.shares_memory(flat.steps, values)
    np.testing.assert_array_equal(flat.steps, values.reshape(N * T, C))
    np.testing.assert_array_equal(flat.starts, [0, T])
    np.testing.assert_array_equal(flat.lengths, [T, T])


@pytest.mark.parametrize(
    "arranged",
    [
        pytest.param(np.asfortranarray, id="Fortran"),
        pytest.param(lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1], id="reversed"),
        pytest.param(lambda a: np.repeat(a, 2, axis=1)[:, ::2], id="strided"),
        pytest.param(lambda a: np.broadcast_to(a[0], a.shape), id="broadcast"),
        pytest.param(lambda a: a.astype(">f8"), id="big-endian"),
        pytest.param(lambda a: a.astype(np.longdouble), id="long double"),
    ],
)
def test_how_an_array_lies_in_memory_does_not_matter(arranged):
    values = np.repeat(noise(1, T, C), N, axis=0)
    X = Sequences(arranged(values))
    for batch in X.batches(N):
        np.testing.assert_array_equal(batch.values, values)


def test_an_array_that_may_not_be_written_to_is_taken_and_left_alone():
    values = noise(N, T, C)
    values.flags.writeable = False
    assert_holds(Sequences(values), noise(N, T, C))


def test_an_array_on_disk_is_read_where_it_lies(tmp_path):
    np.save(tmp_path / "data.npy", noise(N, T, C))
    on_disk = np.load(tmp_path / "data.npy", mmap_mode="r")
    X = Sequences(on_disk)
    assert_holds(X, noise(N, T, C))
    assert np.shares_memory(next(X.batches(N)).values, on_disk)


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(lambda a: a.astype(">f4"), id="big-endian"),
        pytest.param(lambda a: a.astype(np.longdouble), id="long double"),
        pytest.param(lambda a: a.astype(np.float16), id="half"),
        pytest.param(np.asfortranarray, id="Fortran"),
        pytest.param(lambda a: a[::-1][::-1], id="reversed"),
        pytest.param(lambda a: np.broadcast_to(a, a.shape), id="read-only"),
        pytest.param(lambda a: torch.tensor(a, requires_grad=True), id="tensor with gradient"),
        pytest.param(lambda a: a.tolist(), id="nested lists"),
        pytest.param(list, id="list"),
        pytest.param(lambda a: pd.concat({place: pd.DataFrame(values) for place, values in enumerate(a)}), id="frame"),
        pytest.param(
            lambda a: pd.concat({place: pd.DataFrame(values) for place, values in enumerate(a.astype(">f8"))}), id="big-endian frame"
        ),
        pytest.param(lambda a: list(a.astype(">f8")), id="big-endian list"),
        pytest.param(lambda a: xr.DataArray(a.T, dims=("channel", "time", "sample")), id="labelled"),
    ],
)
def test_however_the_data_is_stored_the_model_sees_the_same(stored):
    values = np.round(noise(N, T, C) * 64) / 64  # the same numbers in every type
    scope = Scope(torch.nn.Sequential(torch.nn.Linear(C, 2), torch.nn.Tanh()), layout="NTC")
    np.testing.assert_array_equal(scope.predict(stored(values)).values, scope.predict(values).values)


# Tensors


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(torch.tensor, id="plain"),
        pytest.param(lambda a: torch.tensor(a, requires_grad=True), id="leaf with gradient"),
        pytest.param(lambda a: torch.tensor(a, requires_grad=True) * 1.0, id="in a graph"),
        pytest.param(lambda a: torch.nn.Parameter(torch.tensor(a)), id="parameter"),
        pytest.param(lambda a: torch.tensor(a.transpose(2, 1, 0).copy()).permute(2, 1, 0), id="permuted"),
        pytest.param(lambda a: torch._neg_view(torch.tensor(-a)), id="negated lazily"),
    ],
)
def test_a_tensor_is_an_array(made):
    assert_holds(Sequences(made(noise(N, T, C))), noise(N, T, C))


def test_a_tensor_of_half_precision_brain_floats_keeps_its_values():
    tensor = torch.tensor(noise(N, T, C)).to(torch.bfloat16)
    X = Sequences(tensor)
    assert X.dtype == np.float32
    assert_holds(X, np.array(tensor.tolist(), np.float32))


@pytest.mark.parametrize(("dtype", "expected"), [(torch.float16, np.float16), (torch.float32, np.float32), (torch.float64, np.float64)])
def test_a_tensor_keeps_its_precision(dtype, expected):
    assert Sequences(torch.zeros(N, T, C, dtype=dtype)).dtype == expected


def test_a_list_of_tensors_is_ragged():
    long, short = noise(5, C), noise(2, C)
    assert_holds(Sequences([torch.tensor(long, requires_grad=True), torch.tensor(short)]), [long, short])


def test_a_tensor_of_whole_numbers_with_two_axes_is_tokens():
    X = Sequences(torch.tensor([[3, 1, 4], [1, 5, 9]]))
    assert X.is_tokens
    assert_holds(X, [np.array([3, 1, 4]), np.array([1, 5, 9])])


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda: torch.eye(3).to_sparse(), id="sparse"),
        pytest.param(lambda: torch.zeros(2, 3, 4, device="meta"), id="without values"),
    ],
)
def test_a_tensor_that_is_no_array_is_refused_in_a_sentence(made):
    with pytest.raises(DataError, match="Tensor"):
        Sequences(made())


def test_tensors_of_other_frameworks_are_read_through_what_they_offer_numpy():
    class Foreign:
        def __array__(self, dtype=None, copy=None):
            return noise(N, T, C)

    assert_holds(Sequences(Foreign()), noise(N, T, C))


# Lists


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), n_channels=st.integers(1, 3), as_tuple=st.booleans())
@settings(max_examples=50)
def test_a_list_of_series_of_any_lengths(lengths, n_channels, as_tuple):
    items = [noise(length, n_channels, seed=place) for place, length in enumerate(lengths)]
    assert_holds(Sequences(tuple(items) if as_tuple else items), items)


def test_a_list_of_lists_of_lists_is_a_list_of_series():
    assert_holds(
        Sequences([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [[7.0, 8.0]]]),
        [np.array([[1, 2], [3, 4], [5, 6.0]]), np.array([[7, 8.0]])],
    )


def test_a_list_of_series_of_whole_numbers_is_no_tokens():
    items = [np.array([[1, 2], [3, 4]]), np.array([[5, 6]], np.uint8)]
    assert_holds(Sequences(items), [item.astype(np.float64) for item in items])


def test_a_list_of_floats_with_one_axis_is_sequences_of_one_channel():
    assert_holds(Sequences([noise(3), noise(5)]), [noise(3)[:, None], noise(5)[:, None]])


def test_a_list_of_whole_numbers_with_one_axis_is_tokens_of_any_lengths():
    X = Sequences([np.array([3, 1, 4]), np.array([1]), [5, 9]])
    assert X.is_tokens
    assert_holds(X, [np.array([3, 1, 4]), np.array([1]), np.array([5, 9])])


@pytest.mark.parametrize(("numbers", "is_tokens"), [([0.5, 1.5, 2.5], False), ([5, 1, 2], True)])
def test_a_plain_list_of_numbers_is_one_sequence(numbers, is_tokens):
    X = Sequences(numbers)
    assert X.single
    assert X.is_tokens == is_tokens
    np.testing.assert_array_equal(X[0].values.ravel(), numbers)


def test_a_list_of_mixed_precision_keeps_the_finest():
    X = Sequences([noise(3, C).astype(np.float32), noise(2, C, seed=1)])
    assert_holds(X, [noise(3, C).astype(np.float32).astype(np.float64), noise(2, C, seed=1)])


def test_each_item_of_a_list_loses_its_own_padding():
    padded = np.vstack([noise(2, C), np.full((3, C), np.nan)])
    assert_holds(Sequences([padded, noise(4, C), padded]), [noise(2, C), noise(4, C), noise(2, C)])


# Tokens


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint64])
def test_whole_numbers_with_two_axes_are_tokens_sample_by_time(dtype):
    tokens = np.array([[3, 1, 4], [1, 5, 9]], dtype)
    X = Sequences(tokens)
    assert X.is_tokens
    assert X.n_channels is None
    assert X.channels is None
    assert X[1].dims == ("time",)
    assert_holds(X, tokens)


def test_tokens_may_have_the_time_first():
    tokens = np.array([[3, 1, 4], [1, 5, 9]])
    assert_holds(Sequences(tokens.T, layout="TN"), tokens)
    assert_holds(Sequences(tokens, layout="NT"), tokens)


@pytest.mark.parametrize(
    ("stored", "layout"),
    [
        pytest.param(lambda ids: ids, "NT", id="array"),
        pytest.param(lambda ids: ids.T, "TN", id="time first"),
        pytest.param(list, None, id="list"),
        pytest.param(lambda ids: xr.DataArray(ids, dims=("sample", "time")), None, id="labelled"),
    ],
)
def test_tokens_of_another_byte_order_are_turned_into_the_machines_own(stored, layout):
    """Frameworks take no other."""
    ids = np.array([[3, 1], [1, 500]], np.int32)
    X = Sequences(stored(ids.astype(">i4")), layout=layout)
    assert X.dtype.isnative
    assert_holds(X, ids)


def test_whole_numbers_with_one_axis_are_one_sequence_of_tokens():
    assert_holds(Sequences(np.array([3, 1, 4])), [np.array([3, 1, 4])], single=True)


# Labelled arrays


@pytest.mark.parametrize("dims", list(itertools.permutations(("sample", "time", "channel"))), ids="-".join)
def test_a_labelled_array_goes_by_its_dims_in_any_order(dims):
    array = xr.DataArray(noise(N, T, C), dims=("sample", "time", "channel"))
    assert_holds(Sequences(array.transpose(*dims)), noise(N, T, C))


@pytest.mark.parametrize("layout", [None, *LAYOUTS])
def test_dims_go_before_a_layout(layout):
    array = xr.DataArray(noise(N, C, T), dims=("sample", "channel", "time"))
    assert_holds(Sequences(array, layout=layout), noise(N, C, T).transpose(0, 2, 1))


@pytest.mark.parametrize("dims", [("time", "channel"), ("channel", "time")])
def test_a_labelled_array_without_samples_is_one_sequence(dims):
    array = xr.DataArray(noise(T, C), dims=("time", "channel")).transpose(*dims)
    assert_holds(Sequences(array), [noise(T, C)], single=True)


def test_a_labelled_array_without_channels_has_one():
    assert_holds(Sequences(xr.DataArray(noise(T, N), dims=("time", "sample"))), noise(T, N).T[:, :, None])
    assert_holds(Sequences(xr.DataArray(noise(T), dims="time")), [noise(T, 1)], single=True)


@pytest.mark.parametrize("dims", [("sample", "time"), ("time", "sample")])
def test_a_labelled_array_of_whole_numbers_without_channels_is_tokens(dims):
    tokens = np.array([[3, 1, 4], [1, 5, 9]])
    X = Sequences(xr.DataArray(tokens, dims=("sample", "time")).transpose(*dims))
    assert X.is_tokens
    assert_holds(X, tokens)


def test_a_labelled_array_of_whole_numbers_with_channels_is_a_series():
    assert_holds(Sequences(xr.DataArray([[1, 2], [3, 4]], dims=("time", "channel"))), [np.array([[1.0, 2.0], [3.0, 4.0]])], single=True)


def test_a_labelled_array_brings_all_its_names():
    array = xr.DataArray(
        noise(N, T, C),
        dims=("sample", "time", "channel"),
        coords={
            "sample": ["anna", "ben"],
            "channel": ["x", "y", "z"],
            "time": ("time", [0.0, 0.5, 1.0, 1.5], {"units": "ms"}),
            "label": ("sample", ["up", "down"]),
            "length": ("sample", [4, 2]),
        },
        attrs={"outputs": ["down", "up"]},
    )
    X = Sequences(array)
    assert_holds(X, [noise(N, T, C)[0], noise(N, T, C)[1, :2]])
    assert X.samples.tolist() == ["anna", "ben"]
    assert X.channels == ("x", "y", "z")
    assert X.labels.tolist() == ["up", "down"]
    assert X.lengths.tolist() == [4, 2]
    assert X.outputs == ("down", "up")
    assert X[1].time.values.tolist() == [0.0, 0.5]
    assert X[1].time.attrs["units"] == "ms"


def test_a_labelled_array_brings_the_stamps_of_each_sample():
    stamps = np.array([[0.0, 1.0, 2.0, 3.0], [0.25, 1.5, np.nan, np.nan]])
    array = xr.DataArray(
        noise(N, T, C),
        dims=("sample", "time", "channel"),
        coords={"timestamp": (("sample", "time"), stamps, {"units": "s"}), "length": ("sample", [4, 2])},
    )
    X = Sequences(array)
    assert X[0].time.values.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert X[1].time.values.tolist() == [0.25, 1.5]
    assert X[1].time.attrs["units"] == "s"


def test_a_time_that_differs_from_sample_to_sample_is_the_stamps_of_each():
    stamps = [[0.0, 1.0, 2.0, 3.0], [5.0, 6.0, 7.0, 8.0]]
    array = xr.DataArray(noise(N, T, C), dims=("sample", "time", "channel"), coords={"time": (("sample", "time"), stamps)})
    assert [sequence.time.values.tolist() for sequence in Sequences(array)] == stamps


def test_one_labelled_sequence_brings_its_scalar_names():
    array = xr.DataArray(noise(T, C), dims=("time", "channel"), coords={"sample": "anna", "label": "up"})
    X = Sequences(array)
    assert X.samples.tolist() == ["anna"]
    assert X.labels.tolist() == ["up"]
    assert X.single


@pytest.mark.parametrize("piece", [slice(2), slice(1, 3), slice(2, None)])
def test_a_piece_of_a_sequence_is_a_shorter_sequence(piece):
    """A person looks at part of X[0]: its coordinate `length` still says how long the whole was."""
    X = Sequences(noise(N, T, C), rate=10.0)
    part = Sequences(X[1].isel(time=piece))
    assert_holds(part, [noise(N, T, C)[1, piece]], single=True)
    assert part[0].length.item() == part[0].sizes["time"]
    np.testing.assert_array_equal(part[0].time, np.arange(T)[piece] / 10.0)


def test_a_list_of_labelled_sequences_with_dims_in_any_order():
    one, two = xr.DataArray(noise(4, C), dims=("time", "channel")), xr.DataArray(noise(C, 2), dims=("channel", "time"))
    assert_holds(Sequences([one, two]), [noise(4, C), noise(C, 2).T])


def test_a_list_of_labelled_and_plain_arrays_goes_by_the_dims_of_the_labelled():
    labelled = xr.DataArray(noise(3, 3), dims=("channel", "time"))
    assert_holds(Sequences([labelled, noise(2, 3, seed=1)]), [noise(3, 3).T, noise(2, 3, seed=1)])


def test_a_list_of_labelled_sequences_brings_their_names():
    items = [
        xr.DataArray(
            noise(n, 2),
            dims=("time", "channel"),
            coords={
                "sample": name,
                "label": place,
                "channel": ["x", "y"],
                "time": pd.date_range("2024-05-01", periods=n) + pd.Timedelta(place, "h"),
            },
        )
        for place, (name, n) in enumerate({"anna": 4, "ben": 2}.items())
    ]
    X = Sequences(items)
    assert X.samples.tolist() == ["anna", "ben"]
    assert X.labels.tolist() == [0, 1]
    assert X.channels == ("x", "y")
    np.testing.assert_array_equal(X[1].time, items[1].time)
    np.testing.assert_array_equal(X[0].time, items[0].time)


def test_a_list_of_labelled_arrays_that_hold_several_samples_each_loses_none():
    block = xr.DataArray(noise(2, T, C), dims=("sample", "time", "channel"))
    with pytest.raises(DataError, match="Item 0 of the list"):
        Sequences([block, block])


def test_labelled_sequences_whose_channels_differ_are_not_mixed_up():
    one = xr.DataArray(noise(T, 2), dims=("time", "channel"), coords={"channel": ["x", "y"]})
    other = xr.DataArray(noise(T, 2), dims=("time", "channel"), coords={"channel": ["y", "x"]})
    with pytest.raises(DataError, match="Item 1 of the list"):
        Sequences([one, other])


def test_labelled_sequences_that_count_time_in_different_units_are_not_mixed_up():
    one = xr.DataArray(noise(2, 1), dims=("time", "channel"), coords={"time": ("time", [0.0, 1.0], {"units": "s"})})
    other = xr.DataArray(noise(2, 1), dims=("time", "channel"), coords={"time": ("time", [0.0, 1000.0], {"units": "ms"})})
    with pytest.raises(DataError) as caught:
        Sequences([one, other])
    assert "'s'" in str(caught.value)
    assert "'ms'" in str(caught.value)


def test_labelled_sequences_of_different_outputs_are_not_mixed_up():
    one = xr.DataArray(noise(T, C), dims=("time", "channel"), attrs={"outputs": ["yes", "no"]})
    with pytest.raises(DataError, match=r"outputs"):
        Sequences([one, one.assign_attrs(outputs=["no", "yes"])])


@pytest.mark.parametrize(
    ("dims", "named"),
    [
        (("sample", "channel"), "('sample', 'channel')"),
        (("sample", "step", "channel"), "('sample', 'step', 'channel')"),
        (("sample", "time", "unit"), "('sample', 'time', 'unit')"),
        (("sample", "time", "channel", "trial"), "trial"),
        ((), "()"),
    ],
)
def test_a_labelled_array_of_other_dims_is_refused_with_its_dims_and_the_way_to_rename_them(dims, named):
    with pytest.raises(DataError) as caught:
        Sequences(xr.DataArray(noise(*[2] * len(dims)), dims=dims))
    assert named in str(caught.value)
    assert "rename" in str(caught.value)


@pytest.mark.parametrize("kind", [xr.Dataset, xr.DataTree])
def test_a_dataset_is_refused_with_the_way_to_its_arrays(kind):
    with pytest.raises(DataError, match=rf"A {kind.__name__} holds several arrays: .* data\['value'\]"):
        Sequences(kind())


# Frames


def test_a_frame_without_samples_is_one_sequence():
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [4.0, 5.0, 6.0]})
    X = Sequences(frame)
    assert_holds(X, [np.array([[1, 4], [2, 5], [3, 6.0]])], single=True)
    assert X.channels == ("x", "y")
    assert X[0].time.attrs == {"long_name": "Time Step"}


def test_the_index_of_a_frame_without_samples_is_its_time():
    days = pd.date_range("2024-05-01", periods=3)
    X = Sequences(pd.DataFrame({"x": [1.0, 2.0, 3.0]}, index=days))
    assert X.single
    np.testing.assert_array_equal(X[0].time, days)
    seconds = Sequences(pd.DataFrame({"x": [1.0, 2.0, 3.0]}, index=[0.5, 1.0, 1.5]))
    assert seconds[0].time.values.tolist() == [0.5, 1.0, 1.5]


def test_a_column_alone_is_one_sequence_of_one_channel():
    X = Sequences(pd.Series([1.0, 2.0, 3.0], name="pulse"))
    assert_holds(X, [np.array([[1.0], [2.0], [3.0]])], single=True)
    assert X.channels == ("pulse",)


def test_an_index_of_two_levels_is_sample_and_time():
    index = pd.MultiIndex.from_tuples([("b", 0.5), ("b", 1.0), ("a", 7.0), ("a", 8.0), ("a", 9.5)])
    X = Sequences(pd.DataFrame({"x": [1.0, 2, 3, 4, 5], "y": [6.0, 7, 8, 9, 10]}, index=index))
    assert_holds(X, [np.array([[1, 6], [2, 7.0]]), np.array([[3, 8], [4, 9], [5, 10.0]])])
    assert X.samples.tolist() == ["b", "a"]
    assert X[0].time.values.tolist() == [0.5, 1.0]
    assert X[1].time.values.tolist() == [7.0, 8.0, 9.5]


def test_times_that_are_step_numbers_are_no_stamps():
    index = pd.MultiIndex.from_tuples([(9, 0), (9, 1), (4, 0)])
    X = Sequences(pd.DataFrame({"x": [1.0, 2, 3]}, index=index))
    assert X.samples.tolist() == [9, 4]
    assert X[0].time.attrs == {"long_name": "Time Step"}


def test_rows_of_samples_may_be_mixed():
    index = pd.MultiIndex.from_tuples([("b", 1.5), ("a", 2.5), ("b", 3.5), ("a", 4.5), ("b", 5.5)])
    X = Sequences(pd.DataFrame({"x": [10.0, 20, 30, 40, 50]}, index=index))
    assert X.samples.tolist() == ["b", "a"]
    assert_holds(X, [np.array([[10.0], [30], [50]]), np.array([[20.0], [40]])])
    assert X[0].time.values.tolist() == [1.5, 3.5, 5.5]
    assert X[1].time.values.tolist() == [2.5, 4.5]


@pytest.mark.parametrize("name", ["sample", None, "patient"])
def test_an_index_that_repeats_is_the_sample(name):
    frame = pd.DataFrame({"x": [1.0, 2, 3, 4]}, index=pd.Index(["p", "q", "p", "p"], name=name))
    X = Sequences(frame)
    assert X.samples.tolist() == ["p", "q"]
    assert_holds(X, [np.array([[1.0], [3], [4]]), np.array([[2.0]])])


def test_an_index_named_sample_is_the_sample_though_it_does_not_repeat():
    X = Sequences(pd.DataFrame({"x": [1.0, 2]}, index=pd.Index([5, 3], name="sample")))
    assert X.samples.tolist() == [5, 3]
    assert_holds(X, [np.array([[1.0]]), np.array([[2.0]])])


def test_levels_that_are_named_go_by_their_names():
    index = pd.MultiIndex.from_product([[0.5, 1.5, 2.5], ["p", "q"]], names=["time", "sample"])
    X = Sequences(pd.DataFrame({"x": [1.0, 2, 3, 4, 5, 6]}, index=index))
    assert X.samples.tolist() == ["p", "q"]
    assert_holds(X, [np.array([[1.0], [3], [5]]), np.array([[2.0], [4], [6]])])
    assert X[0].time.values.tolist() == [0.5, 1.5, 2.5]


def test_an_index_of_three_levels_is_refused():
    index = pd.MultiIndex.from_tuples([("p", 1, 0), ("p", 1, 1), ("p", 2, 0)], names=["patient", "visit", "minute"])
    with pytest.raises(DataError, match="level"):
        Sequences(pd.DataFrame({"x": [1.0, 2, 3]}, index=index))


def test_rows_without_values_at_the_end_of_a_sample_are_padding():
    """As xarray's to_dataframe and pandas' unstack leave them, for samples as for one sequence."""
    index = pd.MultiIndex.from_product([["p", "q"], [0.0, 0.5, 1.0]])
    X = Sequences(pd.DataFrame({"x": [1.0, 2, 3, 4, np.nan, np.nan], "y": [1.0, 2, 3, 4, np.nan, np.nan]}, index=index))
    assert_holds(X, [np.array([[1.0, 1], [2, 2], [3, 3]]), np.array([[4.0, 4]])])
    alone = Sequences(pd.DataFrame({"x": [1.0, 2, np.nan]}))
    assert_holds(alone, [np.array([[1.0], [2.0]])], single=True)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"x": [1, 2], "y": [True, False]}, [[1, 1], [2, 0]]),
        ({"x": [1.5, 2.5], "y": [True, False]}, [[1.5, 1], [2.5, 0]]),
        ({"x": [1, 2], "y": [0.5, 1.5]}, [[1, 0.5], [2, 1.5]]),
        ({"x": pd.array([1, 2], "Int64"), "y": pd.array([0.5, 1.5], "Float64")}, [[1, 0.5], [2, 1.5]]),
        ({"x": pd.array([True, False], "boolean"), "y": [0.5, 1.5]}, [[1, 0.5], [0, 1.5]]),
    ],
    ids=["whole and truth", "float and truth", "whole and float", "nullable", "nullable truth"],
)
def test_columns_of_any_numbers_are_floats(columns, expected):
    assert_holds(Sequences(pd.DataFrame(columns)), [np.array(expected, float)], single=True)


def test_single_precision_columns_stay_so():
    assert Sequences(pd.DataFrame({"x": np.float32([1, 2])})).dtype == np.float32


def test_a_frame_equals_the_array_in_it():
    values = noise(N, T, C)
    frame = pd.concat({place: pd.DataFrame(sequence) for place, sequence in enumerate(values)})
    X, plain = Sequences(frame), Sequences(values)
    for got, expected in zip(X, plain, strict=True):
        xr.testing.assert_identical(got, expected)


def test_columns_with_two_levels_keep_both():
    frame = pd.DataFrame(noise(T, 2), columns=pd.MultiIndex.from_tuples([("left", "x"), ("left", "y")]))
    sequence = Sequences(frame)[0]
    np.testing.assert_array_equal(sequence.values, noise(T, 2))
    assert all("left" in str(name) for name in sequence.channel.values.tolist())


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame(), "frame is empty (0 rows, 0 columns)"),
        (pd.DataFrame({"x": [], "y": []}), "frame is empty (0 rows, 2 columns)"),
        (pd.DataFrame(index=[0, 1, 2]), "frame is empty (3 rows, 0 columns)"),
        (pd.Series([], dtype=float), "empty"),
        (pd.DataFrame({"x": [1.0], "who": ["anna"]}), "columns 'who' of the frame are not numbers"),
        (pd.DataFrame({"x": [1.0], "day": pd.to_datetime(["2024-05-01"])}), "columns 'day' of the frame are not numbers"),
        (pd.DataFrame({"x": [1.0 + 2.0j]}), "complex128"),
        (pd.DataFrame({"x": [1.0, 2.0, 3.0]}, index=pd.Index([0, 0, None], name="sample")), "sample"),
    ],
    ids=["no rows", "no rows but columns", "no columns", "empty column", "words", "dates", "complex", "row without a sample"],
)
def test_a_frame_that_is_no_data_is_refused(frame, words):
    with pytest.raises(DataError) as caught:
        Sequences(frame)
    assert words in str(caught.value)


def test_frames_in_a_list_are_not_mixed_up():
    one, other = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]}), pd.DataFrame({"y": [5.0], "x": [6.0]})
    assert Sequences([one, one]).channels == ("x", "y")
    with pytest.raises(DataError, match="Item 1 of the list"):
        Sequences([one, other])


# Padding


@pytest.mark.parametrize("layout", LAYOUTS)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), n_channels=st.integers(1, 3), extra=st.integers(0, 2))
@settings(max_examples=30)
def test_a_padded_array_is_the_list_of_what_it_holds(layout, lengths, n_channels, extra):
    items = [noise(length, n_channels, seed=place) for place, length in enumerate(lengths)]
    padded = np.full((len(items), max(lengths) + extra, n_channels), np.nan)
    for row, item in zip(padded, items, strict=True):
        row[: len(item)] = item
    X = Sequences(padded.transpose(LAYOUTS[layout]), layout=layout)
    assert_holds(X, items)
    for got, expected in zip(X, Sequences(items), strict=True):
        xr.testing.assert_identical(got, expected)


@given(array=hnp.arrays(np.float32, st.tuples(*[st.integers(1, 4)] * 3), elements=st.sampled_from([0.0, 1.0, np.nan])))
@settings(max_examples=150)
def test_only_steps_at_the_end_that_are_nan_in_every_channel_are_padding(array):
    """A slow reading of the rule, on every pattern of gaps."""

    def ends(sequence):
        n_steps = len(sequence)
        while n_steps and np.isnan(sequence[n_steps - 1]).all():
            n_steps -= 1
        return n_steps

    lengths = [ends(sequence) for sequence in array]
    gaps = [np.argwhere(np.isnan(sequence[:length])) for sequence, length in zip(array, lengths, strict=True)]
    if 0 in lengths:
        with pytest.raises(DataError, match=f"Sequence {lengths.index(0)} has no steps"):
            Sequences(array)
    elif any(map(len, gaps)):
        sample = next(place for place, gap in enumerate(gaps) if len(gap))
        step, channel = gaps[sample][0]
        with pytest.raises(DataError, match=f"^NaN in sample {sample}, step {step}, channel {channel}:"):
            Sequences(array)
    else:
        assert_holds(Sequences(array), [sequence[:length] for sequence, length in zip(array, lengths, strict=True)])


def test_values_that_are_masked_are_not_used():
    """NumPy gives what lies under the mask to whoever does not ask: here 99, which no one measured."""
    hidden = np.ma.masked_array([[1.0, 2.0], [99.0, 99.0]], mask=[[False, False], [True, True]])
    assert_holds(Sequences(hidden), [np.array([[1.0, 2.0]])], single=True)
    gap = np.ma.masked_array([[1.0, 99.0], [3.0, 4.0]], mask=[[False, True], [False, False]])
    with pytest.raises(DataError, match="NaN in sample 0, step 0, channel 1"):
        Sequences(gap)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_an_array_that_may_be_masked_and_is_not_is_an_array(dtype):
    values = np.array([[1, 2, 3], [4, 5, 6]], dtype)
    X, plain = Sequences(np.ma.masked_array(values)), Sequences(values)
    assert X.dtype == dtype
    assert X.describe() == plain.describe()
    assert_holds(X, [sequence.values for sequence in plain], single=plain.single)


# What is no data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "list is empty"),
        ((), "list is empty"),
        (np.zeros(0), "no steps"),
        (np.zeros((0, 3)), "no steps"),
        (np.zeros((3, 0)), "no channels"),
        (np.zeros((0, 4, 3)), "no sequence"),
        (np.zeros((2, 0, 3)), "Sequence 0 has no steps"),
        (np.zeros((2, 4, 0)), "no channels"),
        (np.zeros(0, int), "no steps"),
        (np.zeros((0, 4), int), "no sequence"),
        (np.zeros((3, 0), int), "Sequence 0 has no steps"),
        ([np.zeros((2, 3)), np.zeros((0, 3))], "Sequence 1 has no steps"),
        ([np.zeros(2), np.zeros(0)], "Sequence 1 has no steps"),
        ([[1.0, 2.0], []], "Sequence 1 has no steps"),
        ([[]], "Sequence 0 has no steps"),
        ([np.full((2, 3), np.nan)], "Sequence 0 has no steps"),
        (xr.DataArray(np.zeros((0, 3)), dims=("time", "channel")), "no steps"),
        (xr.DataArray(np.zeros((0, 4, 3)), dims=("sample", "time", "channel")), "no sequence"),
        (torch.zeros(0, 4, 3), "no sequence"),
    ],
    ids=briefly,
)
def test_empty_data_is_refused_with_what_is_missing(data, words):
    with pytest.raises(DataError) as caught:
        Sequences(data)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.array(3.5), ["0 axes", "shape ()"]),
        (7, ["0 axes", "shape ()"]),
        (np.zeros((2, 3, 4, 5)), ["4 axes", "shape (2, 3, 4, 5)"]),
        (np.zeros((2, 3, 4, 5), int), ["4 axes", "shape (2, 3, 4, 5)"]),
        (np.array([np.zeros((2, 1)), np.zeros((3, 1))], object), ["dtype object", "list of 2-D float arrays"]),
        (np.array([[1.0, None]]), ["dtype object"]),
        (None, ["object"]),
        ({"x": [1.0]}, ["object"]),
        (np.array([["1.5", "2.5"]]), ["dtype <U3", "floats", "integers"]),
        (["words", "words"], ["text, 'words'", "Sequences.from_text"]),
        ("data.csv", ["text, 'data.csv'", "a file has to be read first"]),
        (b"bytes", ["|S5"]),
        (np.zeros((3, 2), complex), ["dtype complex128"]),
        (np.zeros((3, 2), "M8[s]"), ["dtype datetime64[s]"]),
        (np.zeros(3, [("x", float)]), ["dtype", "'x'"]),
        ([np.zeros((2, 3)), np.zeros((2, 4))], ["Item 1 of the list has 4 channels", "item 0 has 3 channels"]),
        ([np.zeros((2, 3)), np.zeros(2)], ["Item 1 of the list has 1 channel", "item 0 has 3 channels"]),
        ([np.zeros(2, int), np.zeros((2, 3))], ["Item 1 of the list has 3 channels", "item 0 has tokens"]),
        ([np.zeros((2, 3)), np.zeros((2, 3, 4))], ["Item 1 of the list", "3 axes, shape (2, 3, 4)"]),
        ([np.zeros(3), 1.0], ["Item 1 of the list", "0 axes"]),
        ([np.zeros((2, 3)), np.zeros((2, 3), complex)], ["Item 1 of the list", "complex128"]),
        ([np.zeros((2, 3)), None], ["Item 1 of the list"]),
        ([[["a", "b"]]], ["Item 0 of the list", "<U1"]),
        ([[[1.0, 2.0], [3.0]]], ["can't be read as an array"]),
        ([torch.nn.Linear(2, 2)], ["Item 0 of the list"]),
    ],
    ids=briefly,
)
def test_what_is_no_data_is_refused_with_what_was_given(data, words):
    with pytest.raises(DataError) as caught:
        Sequences(data)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("layout", ["NT", "TN"])
@pytest.mark.parametrize("data", [np.zeros((2, 3, 4)), np.zeros((2, 3))], ids=["three axes", "two axes"])
def test_floats_in_a_layout_of_tokens_are_refused(data, layout):
    with pytest.raises(DataError, match=layout):
        Sequences(data, layout=layout)


# The parts


def test_numbers_are_read_without_a_copy_where_they_are_floats():
    values = noise(3)
    assert as_numbers(values) is values
    assert as_array(values) is values


def test_what_can_not_be_an_array_says_what_it_is():
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise TypeError("not today")

    with pytest.raises(DataError, match=r"The data \(Broken\) can't be read as an array: not today"):
        as_array(Broken())


def test_stamps_that_agree_as_far_as_they_go_are_one_clock():
    clock = Clock.of([np.array([0.5, 1.0]), np.array([0.5, 1.0, 1.5])], "s")
    assert clock.stamps.tolist() == [0.5, 1.0, 1.5]
    assert clock.own is None
    assert clock.units == "s"


def test_stamps_that_differ_are_a_clock_for_each():
    own = [np.array([0.5, 1.0]), np.array([0.5, 2.0, 2.5])]
    clock = Clock.of(own, "s")
    assert clock.stamps is None
    np.testing.assert_array_equal(clock.own[0], own[0])
    np.testing.assert_array_equal(clock.own[1], own[1])
    assert clock.units == "s"


def test_step_numbers_are_stamps_only_where_they_count_in_a_unit():
    assert Clock.of([np.arange(3)], "").stamps is None
    assert Clock.of([np.arange(3)], "s").stamps.tolist() == [0, 1, 2]
    assert Clock.of([np.arange(3) + 1], "").stamps.tolist() == [1, 2, 3]
    dates = np.array([datetime.datetime(1970, 1, 1)], "M8[ns]")
    assert Clock.of([dates], "").stamps is dates
