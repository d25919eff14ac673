import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import seqscope as sq
from seqscope import labelled
from seqscope.clock import Clock
from seqscope.errors import DataError
from seqscope.labelled import SampleAxis, clock_coords

VERSION = {"seqscope_version": sq.__version__}
DAYS = pd.date_range("2024-02-27", periods=4).values


def numbered(*sizes):
    return np.arange(np.prod(sizes, dtype=int), dtype=np.float32).reshape(sizes)


def two_samples(**changes):
    return SampleAxis(
        **{"ids": np.array(["a", "b"]), "lengths": np.array([4, 2]), "labels": np.array(["x", "y"]), "single": False} | changes
    )


def one_sample(**changes):
    return SampleAxis(**{"ids": np.array([7]), "lengths": np.array([4]), "labels": None, "single": True} | changes)


def reopened(data, tmp_path):
    path = tmp_path / "file.nc"
    data.to_netcdf(path, engine="h5netcdf")
    opened = xr.open_datatree if isinstance(data, xr.DataTree) else xr.open_dataarray
    with opened(path, engine="h5netcdf") as there:
        return there.load()


# The clock


def test_steps_without_stamps_are_numbered():
    coords = clock_coords(Clock(), 3, single=False)
    assert list(coords) == ["time"]
    xr.testing.assert_identical(coords["time"], xr.Variable("time", [0, 1, 2], {"long_name": "Time Step"}))


def test_stamps_are_the_time_coordinate_with_their_unit():
    coords = clock_coords(Clock(np.array([0.0, 0.5, 1.0, 1.5]), units="s"), 3, single=False)
    assert list(coords) == ["time"]
    xr.testing.assert_identical(coords["time"], xr.Variable("time", [0.0, 0.5, 1.0], {"long_name": "Time", "units": "s"}))


def test_dates_are_the_time_coordinate():
    coords = clock_coords(Clock(DAYS), 2, single=True)
    xr.testing.assert_identical(coords["time"], xr.Variable("time", DAYS[:2], {"long_name": "Time"}))


def test_stamps_that_differ_from_sample_to_sample_are_a_coordinate_beside_the_step_numbers():
    clock = Clock(own=(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.5, 1.5])), units="ms")
    coords = clock_coords(clock, 4, single=False)
    xr.testing.assert_identical(coords["time"], xr.Variable("time", [0, 1, 2, 3], {"long_name": "Time Step"}))
    expected = [[0.0, 1.0, 2.0, 3.0], [0.5, 1.5, np.nan, np.nan]]
    xr.testing.assert_identical(coords["timestamp"], xr.Variable(("sample", "time"), expected, {"long_name": "Time", "units": "ms"}))


def test_one_sample_of_those_has_its_own_stamps_as_time():
    clock = Clock(own=(np.array([0.0, 1.0, 2.0]), np.array([0.5, 1.5])), units="ms").take(np.array([1]))
    coords = clock_coords(clock, 2, single=True)
    assert list(coords) == ["time"]
    xr.testing.assert_identical(coords["time"], xr.Variable("time", [0.5, 1.5], {"long_name": "Time", "units": "ms"}))


def test_the_clock_of_some_samples_keeps_their_order_and_unit():
    own = tuple(np.array([place, place + 1.0]) for place in (10.0, 20.0, 30.0))
    taken = Clock(own=own, units="s").take(np.array([2, 0, 2]))
    np.testing.assert_array_equal(taken.own, [own[2], own[0], own[2]])
    assert taken.units == "s"


def test_a_shared_clock_stays_shared_whatever_samples_are_taken():
    clock = Clock(DAYS, units="")
    assert clock.take(np.array([1])) is clock


def test_after_the_end_of_a_sample_there_is_no_date():
    stamps = clock_coords(Clock(own=(DAYS, DAYS[:2])), 4, single=False)["timestamp"]
    np.testing.assert_array_equal(np.isnat(stamps.values), [[False] * 4, [False, False, True, True]])
    np.testing.assert_array_equal(stamps.values[1, :2], DAYS[:2])


def test_whole_numbers_that_differ_get_nan_after_the_end():
    stamps = clock_coords(Clock(own=(np.array([0, 2, 4]), np.array([1]))), 3, single=False)["timestamp"]
    np.testing.assert_array_equal(stamps.values, [[0, 2, 4], [1, np.nan, np.nan]])


def test_dates_of_different_precision_keep_their_time_of_day():
    coarse, fine = np.array(["2024-01-01", "2024-01-02"], "M8[D]"), np.array(["2024-01-01T05:30", "2024-01-02T06:45"], "M8[m]")
    stamps = clock_coords(Clock(own=(coarse, fine)), 2, single=False)["timestamp"]
    np.testing.assert_array_equal(stamps.values[1], fine)
    np.testing.assert_array_equal(stamps.values[0], coarse)


# One sequence, and what came out of a model


def test_a_sequence_has_its_names_its_stamps_and_where_it_comes_from():
    made = labelled.series(
        numbered(4, 2),
        channels=["left", "right"],
        clock=Clock(DAYS),
        samples=one_sample(labels=np.array(["x"])),
        attrs={"outputs": ("x", "y")},
    )
    expected = xr.DataArray(
        numbered(4, 2),
        dims=("time", "channel"),
        coords={
            "time": ("time", DAYS, {"long_name": "Time"}),
            "channel": ("channel", ["left", "right"], {"long_name": "Channel"}),
            "sample": 7,
            "length": 4,
            "label": "x",
        },
        name="value",
        attrs=VERSION | {"outputs": ["x", "y"]},
    )
    xr.testing.assert_identical(made, expected)


def test_tokens_have_no_channel():
    made = labelled.series(np.array([5, 3]), channels=None, clock=Clock(), samples=one_sample(lengths=np.array([2])), attrs={})
    expected = xr.DataArray(
        [5, 3],
        dims="time",
        coords={"time": ("time", [0, 1], {"long_name": "Time Step"}), "sample": 7, "length": 2},
        name="value",
        attrs=VERSION,
    )
    xr.testing.assert_identical(made, expected)


def test_a_result_has_every_coordinate_that_is_known():
    made = labelled.result(
        numbered(2, 4, 3),
        ("sample", "time", "unit"),
        name="activations",
        samples=two_samples(),
        clock=Clock(),
        attrs={"layer": "lstm"},
    )
    expected = xr.DataArray(
        numbered(2, 4, 3),
        dims=("sample", "time", "unit"),
        coords={
            "sample": ["a", "b"],
            "length": ("sample", [4, 2]),
            "label": ("sample", ["x", "y"]),
            "time": ("time", [0, 1, 2, 3], {"long_name": "Time Step"}),
            "unit": ("unit", [0, 1, 2], {"long_name": "Hidden Unit"}),
        },
        name="activations",
        attrs=VERSION | {"layer": "lstm"},
    )
    xr.testing.assert_identical(made, expected)


def test_a_result_for_one_sequence_has_no_sample_dim_and_keeps_its_id():
    made = labelled.result(numbered(1, 4, 3), ("sample", "time", "unit"), name="a", samples=one_sample(), clock=Clock(DAYS))
    assert made.dims == ("time", "unit")
    np.testing.assert_array_equal(made.values, numbered(1, 4, 3)[0])
    assert (made.sample.item(), made.length.item()) == (7, 4)
    assert "label" not in made.coords
    np.testing.assert_array_equal(made.time.values, DAYS)


def test_a_result_without_time_has_no_clock():
    made = labelled.result(numbered(2, 3), ("sample", "unit"), name="a", samples=two_samples(), clock=Clock(DAYS))
    assert set(made.coords) == {"sample", "length", "label", "unit"}


def test_a_result_of_samples_with_clocks_of_their_own_has_them():
    clock = Clock(own=(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.5, 1.5])))
    made = labelled.result(numbered(2, 4), ("sample", "time"), name="a", samples=two_samples(), clock=clock)
    np.testing.assert_array_equal(made.time, [0, 1, 2, 3])
    np.testing.assert_array_equal(made.timestamp.sel(sample="b"), [0.5, 1.5, np.nan, np.nan])


def test_neutral_names_are_numbered_and_said_coordinates_go_before_numbers():
    made = labelled.result(
        numbered(2, 3, 2),
        ("sample", "axis_1", "output"),
        name="a",
        samples=two_samples(),
        clock=Clock(),
        coords={"output": xr.Variable("output", ["yes", "no"])},
    )
    np.testing.assert_array_equal(made.axis_1, [0, 1, 2])
    assert made.axis_1.attrs == {"long_name": "axis_1"}
    assert made.sel(sample="b", output="no").values.tolist() == numbered(2, 3, 2)[1, :, 1].tolist()


def test_values_are_not_copied():
    values = numbered(2, 4, 3)
    made = labelled.result(values, ("sample", "time", "unit"), name="a", samples=two_samples(), clock=Clock())
    assert np.shares_memory(made.values, values)


# Layers


def layer(values, dims, *, on_input_clock=True, directions=1, clock=None, samples=None):
    return labelled.layer_result(
        values,
        dims,
        name="activations",
        on_input_clock=on_input_clock,
        directions=directions,
        samples=samples or two_samples(),
        clock=clock or Clock(DAYS),
        attrs={},
    )


def test_a_layer_on_the_inputs_clock_has_the_inputs_time():
    made = layer(numbered(2, 4, 3), ("sample", "time", "unit"))
    assert made.dims == ("sample", "time", "unit")
    np.testing.assert_array_equal(made.time, DAYS)


def test_a_layer_with_a_clock_of_its_own_has_steps_and_no_time():
    made = layer(numbered(2, 3, 3), ("sample", "time", "unit"), on_input_clock=False)
    assert made.dims == ("sample", "step", "unit")
    np.testing.assert_array_equal(made.step, [0, 1, 2])
    assert made.step.attrs == {"long_name": "Layer Step"}
    assert "time" not in made.coords


def test_units_of_both_directions_say_which_is_theirs():
    made = layer(numbered(2, 4, 6), ("sample", "time", "unit"), directions=2)
    assert made.direction.dims == ("unit",)
    assert made.direction.values.tolist() == ["forward"] * 3 + ["backward"] * 3
    backward = made.where(made.direction == "backward", drop=True)
    np.testing.assert_array_equal(backward.unit, [3, 4, 5])


def test_one_direction_is_not_mentioned():
    assert "direction" not in layer(numbered(2, 4, 6), ("sample", "time", "unit")).coords
    assert "direction" not in layer(numbered(2, 4), ("sample", "time"), directions=2).coords


# Outputs


def output(values, dims, *, names=None, on_input_clock=False, clock=None, samples=None):
    return labelled.output_result(
        values,
        dims,
        names=names,
        on_input_clock=on_input_clock,
        samples=samples or two_samples(),
        clock=clock or Clock(DAYS),
        attrs={},
    )


def test_the_units_of_the_model_are_its_outputs_by_name():
    made = output(numbered(2, 3), ("sample", "unit"), names=["low", "mid", "high"])
    assert made.dims == ("sample", "output")
    assert made.name == "output"
    assert made.sel(sample="b", output="high").item() == 5.0
    assert made.output.attrs == {"long_name": "Output"}


def test_outputs_without_names_are_numbered():
    np.testing.assert_array_equal(output(numbered(2, 3), ("sample", "unit")).output, [0, 1, 2])


def test_a_model_that_gives_one_value_has_one_output():
    made = output(numbered(2), ("sample",), names=["risk"])
    assert made.dims == ("sample", "output")
    assert made.sel(output="risk").values.tolist() == [0.0, 1.0]


def test_a_model_that_gives_one_value_a_step_has_one_output():
    made = output(numbered(2, 4), ("sample", "time"), on_input_clock=True)
    assert made.dims == ("sample", "output_time", "output")
    assert made.sizes["output"] == 1
    np.testing.assert_array_equal(made.isel(output=0), numbered(2, 4))


def test_output_steps_are_on_the_inputs_clock_where_they_follow_it():
    made = output(numbered(2, 4, 3), ("sample", "time", "unit"), on_input_clock=True)
    assert made.dims == ("sample", "output_time", "output")
    np.testing.assert_array_equal(made.output_time, DAYS)
    assert made.output_time.attrs == {"long_name": "Time"}


def test_output_steps_are_numbered_where_they_do_not():
    made = output(numbered(2, 2, 3), ("sample", "time", "unit"))
    np.testing.assert_array_equal(made.output_time, [0, 1])
    assert made.output_time.attrs == {"long_name": "Output Step"}


def test_the_output_for_one_sequence_has_no_sample_dim():
    made = output(numbered(1, 3), ("sample", "unit"), names=["low", "mid", "high"], samples=one_sample())
    assert made.dims == ("output",)
    assert made.sel(output="mid").item() == 1.0


@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "c", "d"], []])
def test_a_wrong_number_of_output_names_is_refused_with_both_numbers(names):
    with pytest.raises(DataError, match=f"{len(names)} output names were given and the model has 3 outputs"):
        output(numbered(2, 3), ("sample", "unit"), names=names)


# Several layers


@pytest.fixture
def arrays():
    return {
        "encoder.lstm": layer(numbered(2, 4, 3), ("sample", "time", "unit")),
        "conv": layer(numbered(2, 2, 5), ("sample", "time", "unit"), on_input_clock=False),
        "fc": layer(numbered(2, 2), ("sample", "unit")),
    }


def test_a_tree_has_a_node_a_layer_and_nothing_but_the_samples_at_its_root(arrays):
    made = labelled.tree(arrays, {"method": "activations"})
    assert list(made.children) == ["encoder.lstm", "conv", "fc"]
    assert made.attrs == VERSION | {"method": "activations"}
    assert list(made.coords) == ["sample"]
    assert made.sample.values.tolist() == ["a", "b"]
    assert not made.data_vars


def test_a_node_of_a_tree_is_the_layers_array_with_all_its_coordinates(arrays):
    made = labelled.tree(arrays, {})
    for name, array in arrays.items():
        xr.testing.assert_equal(made[name]["activations"], array)


def test_a_node_of_a_tree_for_one_sequence_knows_which_it_is():
    array = layer(numbered(1, 4, 3), ("sample", "time", "unit"), samples=one_sample())
    made = labelled.tree({"lstm": array}, {})
    assert not made.dims
    xr.testing.assert_equal(made["lstm"]["activations"], array)


def test_a_node_of_a_tree_has_the_layers_attributes():
    array = labelled.layer_result(
        numbered(2, 4, 3),
        ("sample", "time", "unit"),
        name="activations",
        on_input_clock=True,
        directions=1,
        samples=two_samples(),
        clock=Clock(),
        attrs={"layer": "lstm", "kind": "lstm"},
    )
    assert labelled.tree({"lstm": array}, {})["lstm"].attrs == VERSION | {"layer": "lstm", "kind": "lstm"}


# Attributes, and what is left of all this in a file


def test_attributes_carry_the_version_and_leave_out_what_is_not_known():
    assert labelled.attributes({"layer": "lstm", "target": None}) == VERSION | {"layer": "lstm"}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("lstm", "lstm"),
        ("", ""),
        ("Größe", "Größe"),
        (3, 3),
        (0.25, 0.25),
        (np.float32(0.25), 0.25),
        (True, 1),
        (False, 0),
        (np.bool_(True), 1),
        (("a", "b"), ["a", "b"]),
        (("a",), ["a"]),
        ((1, 2), [1, 2]),
        ((0.5, 1.5), [0.5, 1.5]),
        ([True, False], [1, 0]),
        (np.array([1.5, 2.5]), [1.5, 2.5]),
    ],
    ids=repr,
)
def test_an_attribute_survives_a_file(value, kept, tmp_path):
    array = xr.DataArray([1.0], dims="time", name="value", attrs=labelled.attributes({"said": value}))
    there = reopened(array, tmp_path).attrs["said"]
    assert np.atleast_1d(there).tolist() == np.atleast_1d(kept).tolist()
    assert type(np.atleast_1d(there).tolist()[0]) is type(np.atleast_1d(kept).tolist()[0])


@st.composite
def clocks(draw, lengths):
    """Every kind of clock for samples of these lengths."""
    kind = draw(st.sampled_from(["numbered", "numbers", "dates", "own numbers", "own dates"]))
    units = draw(st.sampled_from(["", "s", "ms", "minutes"])) if "dates" not in kind else ""
    if kind == "numbered":
        return Clock()
    starts = draw(st.lists(st.integers(-50, 50), min_size=len(lengths), max_size=len(lengths)))
    if "dates" in kind:
        rows = tuple(
            np.datetime64("2024-01-01T12", "ns") + np.timedelta64(1, "m") * (start + np.arange(n))
            for start, n in zip(starts, lengths, strict=True)
        )
    else:
        step = draw(st.sampled_from([1, 0.25]))
        rows = tuple(start + step * np.arange(n) for start, n in zip(starts, lengths, strict=True))
    return Clock(own=rows, units=units) if kind.startswith("own") else Clock(max(rows, key=len), units=units)


@st.composite
def results(draw):
    """Results of every kind: with and without samples, steps, labels and stamps of their own."""
    single = draw(st.booleans())
    lengths = np.array(draw(st.lists(st.integers(1, 5), min_size=1, max_size=1 if single else 4)))
    n_samples, n_steps, n_units = len(lengths), int(lengths.max()), draw(st.integers(1, 3))
    ids = draw(st.sampled_from([np.arange(n_samples) + 3, np.array([f"id {place}" for place in range(n_samples)])]))
    labels = draw(
        st.sampled_from([None, np.arange(n_samples) % 2, np.arange(n_samples) * 0.5, np.array(["ja", "nö"] * n_samples)[:n_samples]])
    )
    values = np.random.default_rng(draw(st.integers(0, 9))).standard_normal((n_samples, n_steps, n_units))
    values[np.arange(n_steps) >= lengths[:, None]] = np.nan
    return labelled.layer_result(
        values.astype(draw(st.sampled_from([np.float16, np.float32, np.float64]))),
        ("sample", "time", "unit"),
        name="activations",
        on_input_clock=draw(st.booleans()),
        directions=draw(st.sampled_from([1, 2])) if n_units % 2 == 0 else 1,
        samples=SampleAxis(ids, lengths, labels, single),
        clock=draw(clocks(lengths)),
        attrs={"layer": "lstm", "outputs": ("a", "b"), "score": None, "seed": 0},
    )


@settings(max_examples=25)
@given(made=results())
def test_every_result_is_the_same_after_a_file(made, tmp_path_factory):
    xr.testing.assert_identical(reopened(made, tmp_path_factory.mktemp("netcdf")), made)


def test_a_tree_is_the_same_after_a_file(arrays, tmp_path):
    made = labelled.tree(arrays, {"method": "activations"})
    xr.testing.assert_identical(reopened(made, tmp_path), made)


def test_steps_of_very_many_samples_are_worked_out_for_each_length_once(monkeypatch):
    """Of 10^5 samples of three lengths; each has what it has alone."""
    seen = []
    monkeypatch.setattr(labelled, "at", lambda stamps, places: seen.append(1) or stamps[places])

    class Field:
        def __init__(self, length):
            self.start = np.arange(length)[::-1] if length == 4 else np.arange(length)
            self.end = self.centre = self.start

    lengths = np.arange(100_000) % 3 + 2
    coords = labelled.step_coords({n: Field(n) for n in (2, 3, 4)}, 4, Clock(), SampleAxis(np.arange(100_000), lengths, None, False))
    assert len(seen) == 9
    expected = np.array([[0, 1, np.nan, np.nan], [0, 1, 2, np.nan], [3, 2, 1, 0]])
    np.testing.assert_array_equal(coords["time"].values, np.tile(expected, (33_334, 1))[:100_000])
