"""Units over a data set: the windows that drive them, their paths, their report, read from the artists."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import LineCollection, PathCollection, QuadMesh
from matplotlib.colors import to_hex

import seqscope as sq
from seqscope.plot import style


def entries(legend):
    return [text.get_text() for text in legend.get_texts()]


def mesh(ax):
    (found,) = [artist for artist in ax.collections if isinstance(artist, QuadMesh)]
    rows, columns = (size - 1 for size in found.get_coordinates().shape[:2])
    return np.ma.masked_array(found.get_array()).reshape(rows, columns)


def row_labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def overlap(one, other):
    """Whether two boxes share more than a hair."""
    return min(one.x1, other.x1) - max(one.x0, other.x0) > 1 and min(one.y1, other.y1) - max(one.y0, other.y0) > 1


# Top windows


def windows(n_windows=5, n_channels=3, n_steps=8, names=None, **attrs):
    """The second window begins 3 steps later than the others, the sequence being shorter."""
    rng = np.random.default_rng(0)
    values, on = rng.standard_normal((n_windows, n_steps, n_channels)), rng.uniform(-1, 1, (n_windows, n_steps))
    values[1:2, :3], on[1:2, :3] = np.nan, np.nan
    return xr.Dataset(
        {"input": (("window", "time", "channel"), values), "activation": (("window", "time"), on)},
        coords={
            "time": ("time", np.arange(n_steps) - n_steps + 1, {"long_name": "Steps from the Peak"}),
            "channel": [f"ch {place}" for place in range(n_channels)] if names is None else names,
            "sample": ("window", 10 + np.arange(n_windows)),
            "label": ("window", (["up", "down"] * n_windows)[:n_windows]),
            "start": ("window", 20 + np.arange(n_windows)),
            "stop": ("window", 28 + np.arange(n_windows)),
            "peak": ("window", 27 + np.arange(n_windows)),
            "score": ("window", on[:, -1]),
        },
        attrs={"layer": "lstm", "kind": "lstm", "unit": 17} | attrs,
    )


def characters(names=(" ", "a", "\n", "$"), n_windows=3):
    found = windows(n_windows, len(names), names=list(names))
    places = np.random.default_rng(1).integers(0, len(names), found.input.shape[:2])
    return found.assign(input=found.input.copy(data=np.eye(len(names))[places]).where(found.input.notnull())), places


def test_each_window_stands_above_what_the_unit_does_there():
    found = windows()
    panels = sq.plot.top_windows(found)
    assert list(panels) == [f"{name} {place}" for place in range(5) for name in ("window", "activation")]
    panels["window 0"].figure.canvas.draw()
    for place in range(5):
        above, below = panels[f"window {place}"], panels[f"activation {place}"]
        np.testing.assert_array_equal([line.get_ydata() for line in above.lines[:3]], found.input[place].T)
        known = found.activation[place].dropna("time")
        np.testing.assert_array_equal(below.lines[0].get_xydata(), np.stack([known.time, known], axis=1))
        assert above.get_window_extent().y0 > below.get_window_extent().y1
        assert above.get_window_extent().x0 == pytest.approx(below.get_window_extent().x0)


def test_windows_share_their_scales():
    panels = sq.plot.top_windows(windows())
    for kind in ("window", "activation"):
        axes = [ax for name, ax in panels.items() if name.startswith(kind)]
        assert {ax.get_xlim() for ax in axes} == {(-7.5, 0.5)}
        assert len({ax.get_ylim() for ax in axes}) == 1


def test_a_window_says_where_it_lies_and_how_high_the_unit_is():
    found = windows()
    panels = sq.plot.top_windows(found)
    assert panels["window 1"].get_title() == f"Sample 11, labelled 'down'\nsteps 21 to 28, {float(found.score[1]):.3g} at 28"
    assert panels["window 0"].figure.get_suptitle() == "Unit 17 of 'lstm': what drives it most"
    assert sq.plot.top_windows(found, title="Mine")["window 0"].figure.get_suptitle() == "Mine"
    bare = sq.plot.top_windows(found.drop_vars(["label", "start", "stop", "peak", "sample", "score"]).drop_attrs())
    assert (bare["window 0"].get_title(), bare["window 0"].figure.get_suptitle()) == ("", "")


def test_channels_are_named_once_and_time_at_the_lowest_of_each_column():
    panels = sq.plot.top_windows(windows())
    figure = panels["window 0"].figure
    (legend,) = figure.legends
    assert entries(legend) == ["ch 0", "ch 1", "ch 2"]
    figure.canvas.draw()
    assert not any(ax.get_tightbbox().overlaps(legend.get_window_extent()) for ax in panels.values())
    labelled = [name for name, ax in panels.items() if ax.get_xlabel()]
    assert labelled == ["activation 2", "activation 3", "activation 4"]
    assert panels["activation 3"].get_xlabel() == "Steps from the Peak"
    assert [name for name, ax in panels.items() if ax.get_ylabel() == "Input"] == ["window 0", "window 3"]


def test_the_names_of_a_single_window_lie_within_the_figure():
    figure = sq.plot.top_windows(windows(1, 12))["window 0"].figure
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_many_channels_are_colours_on_one_scale():
    found = windows(n_channels=30)
    panels = sq.plot.top_windows(found)
    shown = mesh(panels["window 1"])
    np.testing.assert_array_equal(shown.filled(np.nan), found.input[1].T)
    assert len({panels[f"window {place}"].collections[0].norm.vmax for place in range(5)}) == 1
    assert to_hex(panels["window 1"].collections[0].cmap(np.ma.masked_all(1))[0], keep_alpha=True).endswith("00")
    assert panels["window 0"].get_ylim() == (29.5, -0.5)
    assert [ax.get_ylabel() for ax in panels["window 0"].figure.axes if ax not in panels.values()] == ["Input"]


def test_characters_are_letters_on_the_colour_of_the_activation():
    found, places = characters()
    panels = sq.plot.top_windows(found)
    seen = {place: [text.get_text() for text in panels[f"window {place}"].texts] for place in range(3)}
    assert seen[0] == ["·a⏎$"[place] for place in places[0]]
    assert seen[1] == ["·a⏎$"[place] for place in places[1, 3:]]
    np.testing.assert_array_equal(mesh(panels["window 0"])[0], found.activation[0])
    panels["window 0"].figure.canvas.draw()


def test_a_layer_with_a_clock_of_its_own_has_values_here_and_there():
    found = windows()
    found["activation"][:, ::2] = np.nan
    line = sq.plot.top_windows(found)["activation 0"].lines[0]
    assert (len(line.get_xdata()), line.get_marker()) == (4, ".")


def test_windows_of_a_trained_network_are_drawn():
    X, _ = sq.datasets.japanese_vowels("test")
    hidden = sq.Scope(sq.zoo.japanese_vowels()).activations(X, "lstm")
    panels = sq.plot.top_windows(sq.units.top_windows(hidden, X, 17, k=2))
    first = panels["window 0"].get_title()
    best = hidden.sel(unit=17)
    sample, step = np.unravel_index(int(np.nanargmax(best.values)), best.shape)
    assert first.startswith(f"Sample {sample}, ")
    assert first.endswith(f"{float(best.max()):.3g} at {step}")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros(3), r"A ndarray was given to draw: expected 'input' \(window, time, channel\)"),
        (xr.Dataset({"input": (("time", "channel"), np.zeros((2, 2)))}), r"A Dataset that holds input \('time', 'channel'\)"),
        (windows() * np.nan, "The windows are all NaN"),
    ],
)
def test_what_holds_no_windows_is_refused(given, message):
    with pytest.raises(sq.errors.DataError, match=message):
        sq.plot.top_windows(given)


# Trajectories


def paths(n_samples=6, n_steps=10, n_components=3, **coords):
    """Sequences of 5 steps and more, the labels of which take turns."""
    values = np.random.default_rng(0).standard_normal((n_samples, n_steps, n_components)).cumsum(1)
    for sample in range(n_samples):
        values[sample, min(n_steps, 5 + sample) :] = np.nan
    known = {
        "sample": range(n_samples),
        "time": ("time", np.arange(n_steps), {"long_name": "Time Step"}),
        "component": range(n_components),
        "label": ("sample", (["a", "b", "c"] * n_samples)[:n_samples]),
        "explained_variance_ratio": ("component", np.array([0.34, 0.2, 0.1])[:n_components]),
    }
    return xr.DataArray(values, dims=("sample", "time", "component"), coords=known | coords, name="projection")


def parts(ax):
    """The paths, their starts and their ends."""
    lines = [line for line in ax.lines if line.get_linestyle() != "None"]
    return lines, [line for line in ax.lines if line.get_marker() == "o"], [line for line in ax.lines if line.get_marker() == "s"]


def test_each_path_goes_from_a_circle_to_a_square_in_the_colour_of_its_class():
    projected = paths()
    lines, starts, ends = parts(ax := sq.plot.trajectories(projected))
    for sample, (line, start, end) in enumerate(zip(lines, starts, ends, strict=True)):
        path = projected[sample].dropna("time").values[:, :2]
        np.testing.assert_array_equal(line.get_xydata(), path)
        np.testing.assert_array_equal(start.get_xydata(), path[:1])
        np.testing.assert_array_equal(end.get_xydata(), path[-1:])
        assert line.get_color() == start.get_color() == end.get_color() == style.COLORS[sample % 3]
        assert start.get_markerfacecolor() == "white"
    assert entries(ax.get_legend()) == ["a", "b", "c", "Start", "End"]


def test_the_axes_are_named_with_their_share_of_the_variance():
    ax = sq.plot.trajectories(paths(), components=(2, 0))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Component 2 (10 % of the variance)", "Component 0 (34 % of the variance)")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), paths()[0].dropna("time")[:, 0])
    bare = sq.plot.trajectories(paths().drop_vars("explained_variance_ratio"))
    assert bare.get_xlabel() == "Component 0"
    assert ax.get_aspect() == 1.0


@pytest.mark.parametrize("color", [None, "time"])
def test_the_legend_of_paths_covers_nothing(color):
    ax = sq.plot.trajectories(paths(), color=color, title="Paths")
    ax.figure.canvas.draw()
    box = ax.get_legend().get_window_extent()
    assert not overlap(box, ax.get_window_extent())
    assert not overlap(box, ax.title.get_window_extent())
    assert ax.figure.bbox.x1 >= box.x1


def test_by_time_each_stretch_has_the_colour_of_the_step_at_which_it_begins():
    projected = paths()
    ax = sq.plot.trajectories(projected, color="time")
    (lines,) = [artist for artist in ax.collections if isinstance(artist, LineCollection)]
    expected = [projected[sample, [step, step + 1], :2].values for sample in range(6) for step in range(min(10, 5 + sample) - 1)]
    np.testing.assert_allclose(lines.get_segments(), expected)
    assert lines.get_array().tolist() == [step for sample in range(6) for step in range(min(10, 5 + sample) - 1)]
    assert ax.child_axes[0].get_ylabel() == "Time Step"
    assert entries(ax.get_legend()) == ["Start", "End"]


def test_without_labels_paths_are_coloured_by_time():
    assert sq.plot.trajectories(paths().drop_vars("label")).child_axes
    assert sq.plot.trajectories(paths()[2]).child_axes


def test_classes_can_be_given():
    ax = sq.plot.trajectories(paths(), color=[1, 1, 1, 2, 2, 2])
    assert entries(ax.get_legend())[:2] == ["1", "2"]


def test_of_many_paths_each_class_keeps_its_share_and_the_rest_is_said():
    labels = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    ax = sq.plot.trajectories(paths(100, label=("sample", labels)), most=10)
    lines, _, _ = parts(ax)
    counts = [sum(line.get_color() == color for line in lines) for color in style.COLORS[:3]]
    assert (counts, len(lines)) == ([6, 3, 1], 10)
    assert ax.get_legend().get_title().get_text() == "10 of 100 sequences"
    by_time = sq.plot.trajectories(paths(100), color="time", most=10)
    assert entries(by_time.get_legend())[-1] == "10 of 100 sequences"
    assert sq.plot.trajectories(paths()).get_legend().get_title().get_text() == ""


def test_a_step_without_a_value_is_a_gap():
    projected = paths()
    projected[5, 4] = np.nan
    lines, _, _ = parts(sq.plot.trajectories(projected))
    assert np.isnan(lines[5].get_xydata()).any(axis=1).nonzero()[0].tolist() == [4]


def test_paths_of_one_step_and_the_order_of_dims():
    _, starts, _ = parts(sq.plot.trajectories(paths(n_steps=1).transpose("component", "time", "sample")))
    assert len(starts) == 6
    sq.plot.trajectories(paths(n_steps=1), color="time").figure.canvas.draw()


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (np.zeros((2, 3)), {}, r"A ndarray was given to draw: expected \(sample, time, component\)"),
        (paths().rename(component="unit"), {}, r"An array with dims \('sample', 'time', 'unit'\)"),
        (paths().expand_dims("direction"), {}, r"choose one, as with .isel\(direction=0\)"),
        (paths(n_components=1), {}, "projected to one component"),
        (paths(), {"components": (0, 7)}, "There is no component 7: there are 3, 0 to 2"),
        (paths(), {"components": 1}, "components is 1: expected two"),
        (paths(), {"most": 0}, "most is 0: expected how many paths"),
        (paths(), {"color": "speaker"}, "The paths have no coordinate 'speaker' .* give color= a class for each"),
        (paths(), {"color": [1, 2]}, r"color= has shape \(2,\) and there are 6 samples"),
        (paths() * np.nan, {}, "The paths are all NaN"),
    ],
)
def test_what_holds_no_paths_is_refused(given, options, message):
    with pytest.raises(sq.errors.DataError, match=message):
        sq.plot.trajectories(given, **options)


# The unit report


def report(n_units=12, **extra):
    """Unit 5 is dead, unit 7 does the same as unit 2, unit 3 forgets nothing."""
    rng = np.random.default_rng(0)
    mean, spread = rng.uniform(-0.3, 0.3, n_units), rng.uniform(0.1, 0.3, n_units)
    dead, twin, half_life = np.arange(n_units) == 5, np.where(np.arange(n_units) == 7, 2, -1), rng.uniform(1.0, 40.0, n_units)
    half_life[3] = np.inf
    correlation = rng.uniform(-1, 1, n_units)
    correlation[4] = np.nan
    figures = {
        "mean": mean,
        "spread": spread,
        "low": mean - 3 * spread,
        "high": mean + 2 * spread,
        "saturated": rng.uniform(0, 1, n_units),
        "dead": dead,
        "duplicate_of": twin,
        "correlation": correlation,
        "channel": np.where(np.isnan(correlation), "", np.array(["ch 0", "ch 2"])[rng.integers(0, 2, n_units)]),
        "lag": np.arange(n_units, dtype=float),
        "half_life": half_life,
    }
    found = xr.Dataset({name: ("unit", values) for name, values in figures.items()}, attrs={"kind": "lstm", "layer": "lstm"})
    return found.assign(
        selectivity=(("unit", "label"), rng.uniform(0, 1, (n_units, 3))),
        left_saturated=(("unit", "gate"), rng.uniform(0, 0.5, (n_units, 2))),
        right_saturated=(("unit", "gate"), rng.uniform(0, 0.5, (n_units, 2))),
    ).assign_coords(unit=range(n_units), label=["x", "y", "z"], gate=["i", "f"], **extra)


PANELS = ["range", "saturated", "half_life", "correlation", "selectivity", "gate i", "gate f"]


def test_what_is_there_has_a_panel():
    found = report()
    assert list(sq.plot.units(found)) == PANELS
    assert list(sq.plot.units(found[["mean", "spread", "low", "high"]])) == ["range"]
    assert "saturated" not in sq.plot.units(found.assign(saturated=found.saturated * np.nan))


def test_rows_are_units_through_all_panels():
    found = report()
    panels = sq.plot.units(found, sort="unit")
    rows = [panels[name] for name in PANELS[:5]]
    assert {ax.get_ylim() for ax in rows} == {(11.5, -0.5)}
    assert row_labels(rows[0]) == [str(unit) for unit in range(12)]
    rows[0].figure.canvas.draw()
    assert len({round(ax.get_window_extent().y0, 1) for ax in rows}) == len({round(ax.get_window_extent().y1, 1) for ax in rows}) == 1
    assert rows[0].get_ylabel() == "Hidden Unit (in order)"


def test_the_range_and_the_spread_are_bars():
    found = report()
    wide, narrow = sq.plot.units(found, sort="unit")["range"].containers
    np.testing.assert_allclose([(bar.get_x(), bar.get_x() + bar.get_width()) for bar in wide], np.stack([found.low, found.high], axis=1))
    ends = np.stack([found["mean"] - found.spread, found["mean"] + found.spread], axis=1)
    np.testing.assert_allclose([(bar.get_x(), bar.get_x() + bar.get_width()) for bar in narrow], ends)


def test_dead_units_and_duplicates_are_marked_and_counted():
    ax = sq.plot.units(report(), sort="unit")["range"]
    marks = {line.get_marker(): list(line.get_ydata()) for line in ax.lines}
    assert (marks["x"], marks["+"]) == ([5], [7])
    assert entries(ax.get_legend()) == ["range", "mean ± spread", "dead", "duplicate"]
    assert ax.figure.get_suptitle() == "12 units of 'lstm': 1 dead over this data, 1 the same as another"
    healthy = report().assign(dead=("unit", np.zeros(12, bool)), duplicate_of=("unit", np.full(12, "")))
    ax = sq.plot.units(healthy)["range"]
    assert entries(ax.get_legend()) == ["range", "mean ± spread"]
    assert ax.figure.get_suptitle() == "12 units of 'lstm': 0 dead over this data, 0 the same as another"


@pytest.mark.parametrize(("sort", "said"), [("spread", "by spread"), ("half_life", "by half life"), ("correlation", "by correlation")])
def test_rows_are_sorted_by_a_figure_the_highest_on_top(sort, said):
    found = report()
    ax = sq.plot.units(found, sort=sort)["range"]
    values = found[sort].fillna(-np.inf).values[[int(label) for label in row_labels(ax)]]
    assert (np.diff(values) <= 0)[np.isfinite(values[1:])].all()
    assert said in ax.get_ylabel()


def test_rows_are_sorted_by_the_class_told_best():
    found = report()
    panels = sq.plot.units(found)
    order = [int(label) for label in row_labels(panels["range"])]
    best = found.selectivity.values.argmax(axis=1)[order]
    assert (np.diff(best) >= 0).all()
    for label in range(3):
        assert (np.diff(found.selectivity.values.max(axis=1)[order][best == label]) <= 0).all()
    np.testing.assert_array_equal(mesh(panels["selectivity"]), found.selectivity[order])


def test_colours_are_centred_where_nothing_is_told():
    panels = sq.plot.units(report(), sort="unit")
    for name, middle, label in (("selectivity", 0.5, "Selectivity (AUROC)"), ("correlation", 0.0, "Strongest correlation")):
        (shown,) = [artist for artist in panels[name].collections if isinstance(artist, QuadMesh)]
        assert shown.norm(middle) == 0.5
        assert panels[name].child_axes[0].get_title() == label


def test_a_correlation_stands_in_the_column_of_its_channel_with_its_lag():
    found = report()
    ax = sq.plot.units(found, sort="unit")["correlation"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["ch 0", "ch 2"]
    shown = mesh(ax)
    for unit in range(12):
        column = {"ch 0": 0, "ch 2": 1}.get(str(found.channel[unit].item()))
        assert shown.mask[unit].tolist() == [place != column for place in range(2)]
        if column is not None:
            assert shown[unit, column] == found.correlation[unit]
    lags = {text.get_position()[1]: text.get_text() for text in ax.texts}
    assert lags == {unit: str(unit) for unit in range(12) if unit != 4}


def test_a_unit_that_forgets_nothing_lies_at_the_end():
    found = report()
    ax = sq.plot.units(found, sort="unit")["half_life"]
    dots, arrows = [line for line in ax.lines if line.get_marker() in ".>"]
    assert (arrows.get_ydata().tolist(), arrows.get_marker()) == ([3], ">")
    np.testing.assert_array_equal(dots.get_xdata(), np.delete(found.half_life.values, 3))
    assert ax.get_xscale() == "log"


def test_gates_are_shut_against_open():
    found = report()
    panels = sq.plot.units(found, sort="unit")
    (dots,) = [artist for artist in panels["gate f"].collections if isinstance(artist, PathCollection)]
    np.testing.assert_array_equal(dots.get_offsets(), np.stack([found.left_saturated[:, 1], found.right_saturated[:, 1]], axis=1))
    assert panels["gate f"].get_title() == "Forget gate f"
    assert (panels["gate f"].get_xlim(), panels["gate f"].get_ylim()) == ((0.0, 1.0), (0.0, 1.0))


@pytest.mark.parametrize("n_units", [8, 100])
def test_the_report_can_be_read(n_units):
    panels = sq.plot.units(report(n_units))
    figure = panels["range"].figure
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in panels["range"].get_yticklabels()]
    assert not any(upper.overlaps(lower) for upper, lower in itertools.pairwise(boxes))
    whole = [ax.get_tightbbox() for ax in panels.values()]
    assert not any(overlap(one, other) for one, other in itertools.combinations(whole, 2))
    assert max(figure.get_size_inches()) <= 15


def test_it_is_drawn_in_the_figure_given():
    figure = plt.figure(figsize=(10, 8), layout="constrained")
    below = figure.subfigures(2, 1)[1]
    assert sq.plot.units(report(), figure=below, title="")["range"].figure is below


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (np.zeros(3), {}, r"A ndarray was given to draw: expected 'mean', 'spread', 'low' and 'high' \(unit\)"),
        (xr.Dataset({"h": ("unit", [1.0])}), {}, "A Dataset that holds 'h' was given"),
        (report(), {"sort": "spraed"}, "Units can't be sorted by 'spraed': the nearest are 'spread', 'saturated'"),
        (report(), {"sort": "channel"}, "Units can't be sorted by 'channel'"),
    ],
)
def test_what_is_no_summary_is_refused(given, options, message):
    with pytest.raises(sq.errors.DataError, match=message):
        sq.plot.units(given, **options)
