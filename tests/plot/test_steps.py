"""A layer with steps of its own, drawn on the input's time."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import seqscope as sq


def sequence(n_steps=300, n_channels=9, **options):
    values = np.random.default_rng(0).standard_normal((n_steps, n_channels)).cumsum(0)
    return sq.Sequences(values, **options)[0]


def layer(n_steps=50, sees=53, hop=5, *, n_units=128, stamps=None, kind="conv1d", lasts=300):
    """Kernel 9, pool 5, kernel 9: step k sees 5k .. 5k + 52 of the input."""
    stamps = np.arange(lasts) if stamps is None else stamps
    start = hop * np.arange(n_steps)
    end = np.minimum(start + sees - 1, lasts - 1)
    coords = {
        "step": range(n_steps),
        "unit": ("unit", range(n_units), {"long_name": "Hidden Unit"}),
        "time": ("step", stamps[start] + (stamps[end] - stamps[start]) / 2, {"long_name": "Time Step"}),
        "time_start": ("step", stamps[start]),
        "time_end": ("step", stamps[end]),
    }
    values = np.random.default_rng(1).standard_normal((n_steps, n_units))
    return xr.DataArray(values, dims=("step", "unit"), coords=coords, attrs={"kind": kind, "layer": "conv1d_1"})


def borders(ax):
    """Where the cells of a heatmap begin and end."""
    (mesh,) = ax.collections
    return mesh.get_coordinates()[0, :, 0]


def brackets(ax):
    """From where to where each bracket goes, and where its stem stands."""
    return [(*path.vertices[[1, 2, 5], 0],) for path in (patch.get_path() for patch in ax.patches)]


def names(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# On the input's time


def test_cells_lie_over_the_middle_of_what_they_see():
    panels = sq.plot.activations(sequence(), layer())
    above, below = panels["input"], panels["activations"]
    centres = 5 * np.arange(50) + 26
    np.testing.assert_allclose((borders(below)[1:] + borders(below)[:-1]) / 2, centres)
    np.testing.assert_allclose(borders(below)[1:-1], (centres[1:] + centres[:-1]) / 2)
    assert above.get_xlim() == below.get_xlim() == (-0.5, 299.5)  # the input's, not the layer's
    assert (above.get_xlabel(), below.get_xlabel(), below.get_ylabel()) == ("", "Time Step", "Filter")
    above.figure.canvas.draw()
    assert above.get_window_extent().x0 == pytest.approx(below.get_window_extent().x0)
    assert above.get_window_extent().x1 == pytest.approx(below.get_window_extent().x1)


def test_brackets_say_how_far_the_first_and_the_last_step_see():
    below = sq.plot.activations(sequence(), layer())["activations"]
    assert brackets(below) == [(-0.5, 52.5, 26.0), (244.5, 297.5, 271.0)]  # whole cells of the input: steps 0..52 and 245..297
    assert [text.get_text() for text in below.texts] == ["a step sees 53 input steps"]


def test_brackets_stand_between_the_panels_and_cover_nothing():
    panels = sq.plot.activations(sequence(), layer(n_steps=40, sees=100), title="Wide")
    above, below = panels["input"], panels["activations"]
    above.figure.canvas.draw()
    marks = [patch.get_window_extent() for patch in below.patches] + [text.get_window_extent() for text in below.texts]
    panel, upper = below.get_window_extent(), above.get_window_extent()
    assert all(mark.y0 >= panel.y1 and mark.y1 <= upper.y0 for mark in marks)
    first, last, said = marks
    assert said.y0 > max(first.y1, last.y1)


def test_brackets_of_windows_that_overlap_stand_on_two_levels():
    below = sq.plot.activations(sequence(), layer(n_steps=10, sees=153))["activations"]
    below.figure.canvas.draw()
    bars = [patch.get_path().vertices[1, 1] for patch in below.patches]
    assert bars[1] > bars[0]
    apart = sq.plot.activations(sequence(), layer())["activations"]
    assert len({patch.get_path().vertices[1, 1] for patch in apart.patches}) == 1


@pytest.mark.parametrize(
    ("n_steps", "sees", "lasts", "said", "number"),
    [
        (50, 53, 300, "a step sees 53 input steps", 2),
        (50, 70, 300, "a step sees 55 to 70 input steps", 2),  # the last ones see past the end
        (1, 300, 300, "each step sees all 300 input steps", 1),
        (60, 1, 300, "a step sees 1 input step", 2),
    ],
)
def test_brackets_say_in_words_how_much_a_step_sees(n_steps, sees, lasts, said, number):
    below = sq.plot.activations(sequence(lasts), layer(n_steps, sees, lasts=lasts))["activations"]
    assert [text.get_text() for text in below.texts] == [said]
    assert len(below.patches) == number


def test_without_windows_the_time_is_shared_and_there_are_no_brackets():
    below = sq.plot.activations(sequence(), layer().drop_vars(["time_start", "time_end"]))["activations"]
    assert below.get_xlim() == (-0.5, 299.5)
    assert (len(below.patches), len(below.texts)) == (0, 0)


def test_without_time_the_layer_has_an_axis_of_its_own():
    panels = sq.plot.activations(sequence(), layer().drop_vars(["time", "time_start", "time_end"]))
    assert panels["activations"].get_xlim() == (-0.5, 49.5)
    assert (panels["input"].get_xlabel(), panels["activations"].get_xlabel()) == ("Time Step", "Layer Step")
    assert panels["input"].get_xlim() == (-0.5, 299.5)


def test_steps_that_see_the_same_middle_have_an_axis_of_their_own():
    a = layer(n_steps=4)
    a = a.assign_coords(time=("step", [150.0] * 4))  # both ways over the steps: each sees everything
    assert sq.plot.activations(sequence(), a)["activations"].get_xlim() == (-0.5, 3.5)


def test_seconds_are_the_persons_own():
    x = sequence(rate=100.0)
    below = sq.plot.activations(x, layer(stamps=x.time.values))["activations"]
    assert below.get_xlim() == pytest.approx((-0.005, 2.995))
    np.testing.assert_allclose(brackets(below)[0], (-0.005, 0.525, 0.26))
    assert below.texts[0].get_text() == "a step sees 53 input steps"


def test_dates_are_the_persons_own():
    stamps = np.datetime64("2026-01-01T00", "ns") + np.arange(300) * np.timedelta64(1, "h")
    panels = sq.plot.activations(sequence(time=stamps), layer(stamps=stamps.astype("datetime64[ns]")))
    below = panels["activations"]
    assert below.get_xlim() == panels["input"].get_xlim()
    assert below.get_xlim()[1] - below.get_xlim()[0] == pytest.approx(300 / 24)
    assert below.texts[0].get_text() == "a step sees 53 input steps"
    below.figure.canvas.draw()
    assert "2026" in below.xaxis.get_offset_text().get_text()


def test_spans_of_time_are_in_seconds_whatever_they_are_counted_in():
    x = sequence().assign_coords(time=("time", np.arange(300) * np.timedelta64(1, "s"), {"long_name": "Time"}))
    below = sq.plot.activations(x, layer(stamps=np.arange(300) * np.timedelta64(1000, "ms")))["activations"]
    assert below.get_xlim() == (-0.5, 299.5)
    assert brackets(below)[0] == (-0.5, 52.5, 26.0)
    assert below.get_xlabel().endswith("(s)")


def test_a_middle_before_the_first_step_is_marked_at_the_first():
    a = layer()
    a = a.assign_coords(time=a.time - 30.0)  # as where padding lets a step see beyond the border
    below = sq.plot.activations(sequence(), a)["activations"]
    assert brackets(below)[0] == (-0.5, 52.5, -0.5)
    assert below.get_xlim() == (-0.5, 299.5)


def test_times_that_are_all_unknown_give_the_layer_an_axis_of_its_own():
    a = layer()
    a = a.assign_coords({name: a[name] * np.nan for name in ("time", "time_start", "time_end")})
    assert sq.plot.activations(sequence(), a)["activations"].get_xlim() == (-0.5, 49.5)


def test_dates_over_numbers_have_an_axis_each():
    stamps = np.datetime64("2026-01-01", "ns") + np.arange(300) * np.timedelta64(1, "D")
    panels = sq.plot.activations(sequence(time=stamps), layer())
    assert panels["activations"].get_xlim() != panels["input"].get_xlim()
    assert panels["activations"].patches[:] == []


def test_steps_after_the_end_are_left_out():
    a = layer()
    ended = {name: a[name].where(a.step < 20) for name in ("time", "time_start", "time_end")}
    below = sq.plot.activations(sequence(160), a.assign_coords(ended))["activations"]
    assert len(borders(below)) == 21
    assert brackets(below)[1] == (94.5, 147.5, 121.0)
    of_several = a.assign_coords(ended).expand_dims("sample").isel(sample=0)
    assert len(borders(sq.plot.heatmap(of_several))) == 21


def test_the_order_of_dims_does_not_matter():
    one, other = (sq.plot.activations(sequence(), a)["activations"] for a in (layer(), layer().transpose("unit", "step")))
    np.testing.assert_array_equal(one.collections[0].get_array(), other.collections[0].get_array())


def test_a_layer_without_steps_is_refused_and_leaves_no_figure():
    with pytest.raises(sq.errors.DataError, match=r"dims \('unit',\) and no time axis"):
        sq.plot.activations(sequence(), layer().isel(step=0))
    assert plt.get_fignums() == []


# The heatmap alone


def test_heatmap_of_steps_is_drawn_along_time_where_it_is_known():
    ax = sq.plot.heatmap(layer())
    assert ax.get_xlim() == (23.5, 273.5)
    assert ax.get_xlabel() == "Time Step"
    assert sq.plot.heatmap(layer().drop_vars("time")).get_xlim() == (-0.5, 49.5)


@pytest.mark.parametrize(
    ("kind", "label"),
    [("conv1d", "Filter"), ("conv1d_transposed", "Filter"), ("lstm", "Hidden Unit"), ("gru_cell", "Hidden Unit"), ("linear", "Unit")],
)
def test_heatmap_says_what_its_rows_are(kind, label):
    assert sq.plot.heatmap(layer(kind=kind)).get_ylabel() == label


def test_heatmap_keeps_a_name_that_the_person_gave():
    a = layer()
    a.unit.attrs["long_name"] = "Neuron"
    assert sq.plot.heatmap(a).get_ylabel() == "Neuron"


# Units as lines


def test_units_are_drawn_as_lines_on_the_same_axis():
    a = layer()
    panels = sq.plot.activations(sequence(), a, unit=[3, 17, 100])
    below = panels["activations"]
    assert names(below) == ["Filter 3", "Filter 17", "Filter 100"]
    for line, unit in zip(below.lines, (3, 17, 100), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), a.sel(unit=unit))
        np.testing.assert_array_equal(line.get_xdata(), a.time)
    assert below.get_xlim() == panels["input"].get_xlim() == (-0.5, 299.5)
    assert (below.get_ylabel(), below.get_xlabel()) == ("Activation", "Time Step")
    assert len(below.patches) == 2


def test_one_unit_is_named_too():
    assert names(sq.plot.activations(sequence(), layer(), unit=3)["activations"]) == ["Filter 3"]
    assert names(sq.plot.activations(sequence(), layer(kind="lstm"), unit=np.int64(3))["activations"]) == ["Unit 3"]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [(slice(3), [0, 1, 2]), (slice(4, 10, 2), [4, 6, 8]), (slice(-2, None), [126, 127]), (range(2), [0, 1]), ((5, 1), [5, 1])],
)
def test_units_are_named_by_label_and_a_slice_leaves_its_end_out(unit, expected):
    below = sq.plot.activations(sequence(), layer(), unit=unit)["activations"]
    assert names(below) == [f"Filter {label}" for label in expected]


def test_units_go_by_label_where_some_were_taken_out():
    some = layer().isel(unit=slice(10, 20))
    below = sq.plot.activations(sequence(), some, unit=slice(12))["activations"]
    assert names(below) == ["Filter 10", "Filter 11"]
    with pytest.raises(sq.errors.DataError, match=r"no filter 3 in the layer 'conv1d_1': there are 10, 10 to 19\."):
        sq.plot.activations(sequence(), some, unit=3)


@pytest.mark.parametrize("unit", [128, [0, 128], -1, "lstm", slice(128, 200), []])
def test_units_that_are_not_there_are_refused(unit):
    with pytest.raises(sq.errors.DataError, match=r"no filter.*there are 128, 0 to 127\."):
        sq.plot.activations(sequence(), layer(), unit=unit)
    assert plt.get_fignums() == []


def test_many_units_have_lanes_that_are_named():
    below = sq.plot.activations(sequence(), layer(), unit=slice(20))["activations"]
    assert below.get_legend() is None
    assert [label.get_text() for label in below.get_yticklabels()] == [f"Filter {place}" for place in range(20)]


def test_units_have_common_limits_where_they_are_given_and_are_not_sorted():
    below = sq.plot.activations(sequence(), layer(), unit=3, limits=(-5, 5))["activations"]
    assert below.get_ylim() == (-5, 5)
    with pytest.raises(sq.errors.DataError, match=r"sort= .* unit= .*leave one of them out"):
        sq.plot.activations(sequence(), layer(), unit=3, sort="peak")


# Little room


def tight(number=4):
    figure = plt.figure(figsize=(8, 5), layout="constrained")
    return figure, figure.subfigures(2, 2).ravel()[:number]


def test_names_of_thirty_lanes_do_not_touch_in_a_small_panel():
    figure, parts = tight()
    panels = [sq.plot.activations(sequence(n_channels=30), layer(), figure=part) for part in parts]
    figure.canvas.draw()
    for ax in (ax for pair in panels for ax in pair.values()):
        boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
        assert 1 < len(boxes) < 30
        assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[place + 1 :])


def test_rows_are_named_anew_where_the_figure_grows():
    figure, ax = plt.subplots(figsize=(3, 1.5), layout="constrained")
    sq.plot.series(sequence(n_channels=30), ax=ax)
    few = len(ax.get_yticks())
    figure.set_size_inches(8, 9)
    figure.canvas.draw()
    assert few < len(ax.get_yticks()) == 30


def test_titles_and_labels_stay_beside_their_own_panel():
    figure, parts = tight()
    title = "Activations of the second convolution, subject 14, walking"
    panels = [sq.plot.activations(sequence(n_channels=30), layer(), figure=part, title=title) for part in parts]
    figure.canvas.draw()
    for part, pair in zip(parts, panels, strict=True):
        assert pair["input"].get_title().replace("\n", " ") == title
        for ax in pair.values():
            for text in (ax.title, ax.yaxis.label, ax.xaxis.label):
                box = text.get_window_extent()
                assert box.x0 >= part.bbox.x0 - 1
                assert box.x1 <= part.bbox.x1 + 1
                assert box.y0 >= part.bbox.y0 - 1
                assert box.y1 <= part.bbox.y1 + 1


def test_a_legend_that_would_take_the_room_gives_way_to_lanes():
    figure, parts = tight(1)
    x = sequence(n_channels=12, channels=[f"body acceleration {place}" for place in range(12)])
    above = sq.plot.activations(x, layer(), figure=parts[0])["input"]
    assert above.get_legend() is None
    assert sq.plot.series(x, ax=figure.subplots(), lanes=False).get_legend() is not None  # as was asked


def test_legend_is_no_higher_than_a_low_panel():
    ax = plt.figure(figsize=(8, 2), layout="constrained").subplots()
    sq.plot.series(sequence(n_channels=12), ax=ax)
    ax.figure.canvas.draw()
    legend = ax.get_legend().get_window_extent()
    assert legend.y0 >= 0
    assert legend.x1 <= ax.figure.bbox.x1


def test_layers_legend_does_not_touch_the_title():
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
    sq.plot.layers(sq.Scope(model).layers, ax=ax, title="A title that goes on to the right")
    figure.canvas.draw()
    legend = ax.get_legend().get_window_extent()
    assert not legend.overlaps(ax._left_title.get_window_extent())
    assert legend.y0 >= ax.get_window_extent().y1 - 1
