"""The insides of recurrent and attention layers: what is drawn of gates, memory and weights, read from the artists."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import seqscope as sq
from seqscope.plot import style

VARIABLES = {"lstm": "hcifgo", "gru": "hrzn", "rnn": "ha"}
NUMBERED = {"time": ("time", np.arange(20), {"long_name": "Time Step"})}
STEPS = {
    "step": range(10),
    "time": ("step", 2.0 * np.arange(10) + 0.5, {"long_name": "Time Step"}),
    "time_start": ("step", 2 * np.arange(10)),
    "time_end": ("step", 2 * np.arange(10) + 1),
}


def sequence(n_steps=20, n_channels=3, **options):
    return sq.Sequences(np.random.default_rng(0).standard_normal((n_steps, n_channels)).cumsum(0), **options)[0]


def seen(kind="lstm", n_units=6, *, projection=None, coords=NUMBERED):
    """States of one sequence: gates between 0 and 1, others on both sides of zero."""
    rng = np.random.default_rng(1)
    dim = "step" if "step" in coords else "time"
    n_steps = 10 if dim == "step" else xr.Dataset(coords=coords).sizes["time"]
    values = {name: rng.uniform(0 if name in "ifozr" else -1, 1, (n_steps, n_units)) for name in VARIABLES[kind]}
    states = xr.Dataset({name: ((dim, "unit"), value) for name, value in values.items()}, attrs={"kind": kind, "layer": "lstm"})
    if projection is not None:
        h = xr.Variable((dim, "projection"), values["h"][:, :projection])
        states = states.drop_vars("h").assign(h=h).assign_coords(projection=range(projection))
    return states.assign_coords(coords | {"unit": range(n_units)})


def kept(n_units=6, *, initial=1.0, coords=NUMBERED):
    states = seen("rnn", n_units, coords=coords)
    left = xr.DataArray(initial * np.linspace(-3, 1, n_units), dims="unit")
    return xr.Dataset({"written": states["a"], "initial": left, "half_life": ("unit", np.ones(n_units))}, attrs=states.attrs)


def shares(initial=0.0, coords=NUMBERED):
    return xr.Dataset({"share": ("time", np.linspace(-1, 2, 20)), "initial": ((), initial)}, coords=coords)


def attended(n_heads=4, n_queries=5, n_keys=7, **coords):
    values = np.random.default_rng(2).dirichlet(np.ones(n_keys), (n_heads, n_queries))
    return xr.DataArray(values, dims=("head", "query", "key"), coords=coords)


def said(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def label(ax):
    return ax.get_ylabel().replace("\n", " ")


def data_lines(ax):
    return [line for line in ax.lines if not line.get_label().startswith("_")]


def covers(ax, artist):
    ax.figure.canvas.draw()
    return ax.get_window_extent().overlaps(artist.get_window_extent())


def mesh_values(ax):
    (mesh,) = ax.collections
    rows, columns = (size - 1 for size in mesh.get_coordinates().shape[:2])
    return mesh.get_array().reshape(rows, columns)


# States of several units


LABELS = {
    "lstm": {
        "i": "Input gate i",
        "f": "Forget gate f",
        "g": "Candidate g",
        "o": "Output gate o",
        "c": "Cell state c",
        "h": "Hidden state h",
    },
    "gru": {"r": "Reset gate r", "z": "Update gate z", "n": "Candidate n", "h": "Hidden state h"},
    "rnn": {"a": "Pre-activation a", "h": "Hidden state h"},
}


@pytest.mark.parametrize("kind", LABELS)
def test_each_state_has_a_panel_with_a_line_for_each_unit(kind):
    states = seen(kind)
    panels = sq.plot.states(sequence(), states, title="Inside")
    assert list(panels) == ["input", *LABELS[kind]]
    for name, expected in LABELS[kind].items():
        assert label(panels[name]) == expected
        lines = data_lines(panels[name])
        assert len(lines) == 3
        for unit, line in enumerate(lines):
            np.testing.assert_array_equal(line.get_ydata(), states[name].sel(unit=unit))
            np.testing.assert_array_equal(line.get_xdata(), np.arange(20))
    assert panels["input"].get_title() == "Inside"
    assert len(panels["input"].lines) == 3


def test_gates_go_from_zero_to_one_and_show_what_stands_open_or_shut():
    states = seen()
    panels = sq.plot.states(sequence(), states.assign(f=states.f * 0 + 1.0, i=states.i * 0.1))
    for name in "ifo":
        low, high = panels[name].get_ylim()
        assert -0.1 < low < 0
        assert 1 < high < 1.1
    assert all(panels[name].get_ylim() not in [panels["i"].get_ylim()] for name in "gch")


def test_a_gate_that_goes_beyond_is_drawn_whole():
    states = seen()
    ax = sq.plot.states(sequence(), states.assign(o=3 * states.o - 1))["o"]
    assert ax.get_ylim()[0] < float((3 * states.o - 1).sel(unit=slice(0, 2)).min())
    assert ax.get_ylim()[1] > float((3 * states.o - 1).sel(unit=slice(0, 2)).max())


def test_states_of_a_trained_network_are_drawn():
    X, _ = sq.datasets.japanese_vowels("test")
    states = sq.Scope(sq.zoo.japanese_vowels()).states(X, "lstm").isel(sample=1)  # padded: others are longer
    panels = sq.plot.states(X[1], states, unit=[7, 99])
    for name, ax in panels.items():
        if name != "input":
            np.testing.assert_array_equal(data_lines(ax)[1].get_ydata(), states[name].sel(unit=99).dropna("time"))
            assert ax.get_xlim() == panels["input"].get_xlim() == (-0.5, X[1].sizes["time"] - 0.5)


def test_the_units_are_named_once_outside_and_look_alike_in_every_panel():
    panels = sq.plot.states(sequence(), seen(), unit=[5, 0])
    assert said(panels["i"]) == ["Unit 5", "Unit 0"]
    assert not covers(panels["i"], panels["i"].get_legend())
    assert [name for name, ax in panels.items() if ax.get_legend() is not None] == ["input", "i"]
    looks = {tuple((line.get_color(), line.get_linestyle()) for line in data_lines(ax)) for name, ax in panels.items() if name != "input"}
    assert looks == {((style.COLORS[0], "-"), (style.COLORS[1], "-"))}


@pytest.mark.parametrize(("unit", "expected"), [(slice(2), [0, 1]), (slice(-2, None), [4, 5]), ((3, 1), [3, 1]), (range(4), [0, 1, 2, 3])])
def test_units_go_by_label(unit, expected):
    assert said(sq.plot.states(sequence(), seen("gru"), unit=unit)["r"]) == [f"Unit {place}" for place in expected]


def test_the_panels_share_one_time_axis_that_is_labelled_once():
    panels = sq.plot.states(sequence(), seen())
    axes = list(panels.values())
    axes[0].figure.canvas.draw()
    assert {ax.get_xlim() for ax in axes} == {(-0.5, 19.5)}
    assert [ax.get_xlabel() for ax in axes] == [""] * 6 + ["Time Step"]
    assert len({round(ax.get_window_extent().x0, 3) for ax in axes}) == len({round(ax.get_window_extent().x1, 3) for ax in axes}) == 1
    assert not any(one.get_window_extent().overlaps(other.get_window_extent()) for one, other in itertools.pairwise(axes))


def test_zero_is_marked_where_states_have_both_signs():
    states = seen()
    panels = sq.plot.states(sequence(), states.assign(c=states.c + 9))
    assert [name for name, ax in panels.items() if any(list(line.get_ydata()) == [0, 0] for line in ax.lines)] == ["g", "h"]


# States of one unit


@pytest.mark.parametrize(
    ("kind", "panels_of", "gates"),
    [
        ("lstm", ["input", "gates", "g", "c", "h"], {"i": "Input gate i", "f": "Forget gate f", "o": "Output gate o"}),
        ("gru", ["input", "gates", "n", "h"], {"r": "Reset gate r", "z": "Update gate z"}),
    ],
)
def test_gates_of_one_unit_share_a_panel_and_differ_in_colour_and_line(kind, panels_of, gates):
    states = seen(kind)
    panels = sq.plot.states(sequence(), states, unit=4)
    assert list(panels) == panels_of
    ax = panels["gates"]
    assert said(ax) == list(gates.values())
    assert ax.get_legend().get_title().get_text() == "Unit 4"
    assert not covers(ax, ax.get_legend())
    for line, name in zip(ax.lines, gates, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), states[name].sel(unit=4))
    assert len({line.get_color() for line in ax.lines}) == len({line.get_linestyle() for line in ax.lines}) == len(gates)
    assert {line.get_color() for line in ax.lines} <= set(style.COLORS)
    assert (round(ax.get_ylim()[0]), round(ax.get_ylim()[1])) == (0, 1)
    np.testing.assert_array_equal(data_lines(panels["h"])[0].get_ydata(), states.h.sel(unit=4))


def test_one_unit_of_a_layer_without_gates_is_named():
    panels = sq.plot.states(sequence(), seen("rnn"), unit=[4])
    assert list(panels) == ["input", "a", "h"]
    assert said(panels["a"]) == ["Unit 4"]


# Projections, padding, other clocks


def test_a_projected_hidden_state_is_drawn_at_the_same_positions_under_its_own_name():
    states = seen(projection=2)
    panels = sq.plot.states(sequence(), states)
    assert said(panels["i"]) == ["Unit 0", "Unit 1", "Unit 2"]
    assert said(panels["h"]) == ["Projection 0", "Projection 1"]
    np.testing.assert_array_equal(data_lines(panels["h"])[1].get_ydata(), states.h.sel(projection=1))
    assert said(sq.plot.states(sequence(), states, unit=1)["h"]) == ["Projection 1"]


def test_a_projected_hidden_state_without_these_positions_is_left_out_with_the_reason():
    panels = sq.plot.states(sequence(), seen(projection=2), unit=slice(3, 6))
    assert "h" not in panels
    assert panels["c"].figure.get_supxlabel() == "Hidden state h is left out: it is projected to 2 values, with none at the units drawn."


def test_padding_is_not_drawn():
    states = seen()
    panels = sq.plot.states(sequence(), states.where(states.time < 12), unit=1)
    assert len(panels["gates"].lines[0].get_xdata()) == len(data_lines(panels["h"])[0].get_xdata()) == 12
    assert panels["h"].get_xlim() == (-0.5, 19.5)
    lasting = kept()
    panels = sq.plot.memory(sequence(), lasting.assign(written=lasting.written.where(lasting.time < 12)))
    assert mesh_values(panels["written"]).shape == (6, 12)


def test_a_step_that_a_mask_leaves_out_is_a_gap_in_the_gates_alone():
    states = seen()
    masked = states.assign({name: states[name].where(states.time != 5) for name in "ifgo"})
    panels = sq.plot.states(sequence(), masked, unit=1)
    for line in panels["gates"].lines:
        assert np.flatnonzero(np.isnan(line.get_ydata())).tolist() == [5]
    assert not np.isnan(data_lines(panels["h"])[0].get_ydata()).any()


def test_the_order_of_dims_does_not_matter():
    one, other = (sq.plot.states(sequence(), states)["c"] for states in (seen(), seen().transpose("unit", "time")))
    for line, same in zip(data_lines(one), data_lines(other), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), same.get_ydata())
    one, other = (sq.plot.memory(sequence(), memory)["written"] for memory in (kept(), kept().transpose("unit", "time")))
    np.testing.assert_array_equal(mesh_values(one), mesh_values(other))
    one, other = (sq.plot.attention(weights)[1] for weights in (attended(), attended().transpose("key", "head", "query")))
    np.testing.assert_array_equal(mesh_values(one), mesh_values(other))


def test_a_layer_with_steps_of_its_own_is_drawn_on_the_inputs_time():
    panels = sq.plot.states(sequence(), seen(coords=STEPS))
    np.testing.assert_array_equal(panels["c"].lines[0].get_xdata(), 2.0 * np.arange(10) + 0.5)
    assert {ax.get_xlim() for ax in panels.values()} == {(-0.5, 19.5)}
    assert [text.get_text() for text in panels["i"].texts] == ["a step sees 2 input steps"]
    below = sq.plot.memory(sequence(), kept(coords=STEPS))["written"]
    assert below.get_xlim() == (-0.5, 19.5)
    assert [text.get_text() for text in below.texts] == ["a step sees 2 input steps"]


def test_steps_without_a_time_have_an_axis_of_their_own():
    panels = sq.plot.states(sequence(), seen(coords={"step": range(10)}))
    assert (panels["input"].get_xlabel(), panels["i"].get_xlabel(), panels["h"].get_xlabel()) == ("Time Step", "", "Layer Step")
    assert (panels["input"].get_xlim(), panels["i"].get_xlim(), panels["h"].get_xlim()) == ((-0.5, 19.5), (-0.5, 9.5), (-0.5, 9.5))


def test_seconds_and_dates_are_the_persons_own():
    seconds = sequence(rate=10.0)
    assert sq.plot.states(seconds, seen(coords={"time": seconds.time}))["h"].get_xlabel() == "Time (s)"
    dates = sequence(time=np.datetime64("2026-01-01T00", "ns") + np.arange(20) * np.timedelta64(1, "h"))
    ax = sq.plot.memory(dates, kept(coords={"time": dates.time}))["written"]
    ax.figure.canvas.draw()
    assert "2026" in ax.xaxis.get_offset_text().get_text()


def test_one_step_is_drawn():
    states = seen(coords={"time": ("time", [0])})
    assert sq.plot.states(sequence(1), states)["h"].lines[0].get_marker() == "."
    assert mesh_values(sq.plot.memory(sequence(1), kept(coords={"time": ("time", [0])}))["written"]).shape == (6, 1)


# Memory


def test_memory_is_a_heatmap_centred_on_zero_with_a_named_colour_bar():
    memory = kept(initial=0.0)
    panels = sq.plot.memory(sequence(), memory, title="What was kept")
    assert list(panels) == ["input", "written"]  # nothing is left of the initial state
    ax = panels["written"]
    np.testing.assert_array_equal(mesh_values(ax), memory.written.transpose("unit", "time"))
    (mesh,) = ax.collections
    most = float(abs(memory.written).max())
    assert (mesh.cmap.name, mesh.norm.vmin, mesh.norm(0.0), mesh.norm.vmax) == (style.DIVERGING, -most, 0.5, most)
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == "Share of the cell state"
    assert not covers(ax, bar)
    assert (panels["input"].get_title(), panels["input"].get_xlabel(), ax.get_xlabel()) == ("What was kept", "", "Time Step")
    assert panels["input"].get_xlim() == ax.get_xlim() == (-0.5, 19.5)


def test_memory_of_one_sign_has_zero_in_the_middle_too():
    memory = kept(initial=0.0)
    (mesh,) = sq.plot.memory(sequence(), memory.assign(written=abs(memory.written) + 1))["written"].collections
    assert mesh.norm(0.0) == 0.5
    (mesh,) = sq.plot.memory(sequence(), memory * 0)["written"].collections
    assert (mesh.norm.vmin, mesh.norm.vmax) == (-1.0, 1.0)


def test_memory_shows_what_is_left_of_the_initial_state_in_the_same_colours():
    memory = kept()
    panels = sq.plot.memory(sequence(), memory)
    side, below = panels["initial"], panels["written"]
    np.testing.assert_array_equal(mesh_values(side)[:, 0], memory.initial)
    (mesh,), (other,) = side.collections, below.collections
    assert (mesh.norm.vmin, mesh.norm.vmax) == (other.norm.vmin, other.norm.vmax) == (-3.0, 3.0)
    assert (side.get_xlabel(), side.get_ylabel(), below.get_ylabel()) == ("Initial state", "Hidden Unit", "")
    assert side.get_ylim() == below.get_ylim() == (5.5, -0.5)
    below.figure.canvas.draw()
    assert [text.get_text() for text in side.get_yticklabels()] == [str(unit) for unit in range(6)]
    assert side.get_window_extent().x1 < below.get_window_extent().x0
    box = side.xaxis.label.get_window_extent()
    assert not any(box.overlaps(text.get_window_extent()) for text in [*below.get_xticklabels(), below.xaxis.label])
    assert box.x0 >= 0


def test_memory_of_some_units():
    memory = kept()
    panels = sq.plot.memory(sequence(), memory, unit=[4, 1], limits=(-2, 2))
    np.testing.assert_array_equal(mesh_values(panels["written"]), memory.written.sel(unit=[4, 1]).transpose("unit", "time"))
    np.testing.assert_array_equal(mesh_values(panels["initial"])[:, 0], memory.initial.sel(unit=[4, 1]))
    assert panels["written"].collections[0].norm.vmax == 2.0
    assert mesh_values(sq.plot.memory(sequence(), memory, unit=4)["written"]).shape == (1, 20)


def test_shares_are_bars_from_a_line_at_zero():
    panels = sq.plot.memory(sequence(), shares())
    assert list(panels) == ["input", "share"]
    ax = panels["share"]
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], np.linspace(-1, 2, 20))
    np.testing.assert_allclose([bar.get_x() + bar.get_width() / 2 for bar in ax.patches], np.arange(20))
    assert [list(line.get_ydata()) for line in ax.lines] == [[0, 0]]
    assert (label(ax), ax.get_xlabel()) == ("Share in the logit", "Time Step")
    assert len({bar.get_facecolor() for bar in ax.patches}) == 2  # for and against
    assert ax.get_xlim() == panels["input"].get_xlim() == (-0.5, 19.5)


def test_the_initial_states_share_is_a_bar_on_the_same_axis():
    panels = sq.plot.memory(sequence(), shares(initial=-4.0))
    (bar,) = panels["initial"].patches
    assert bar.get_height() == -4.0
    assert panels["initial"].get_ylim() == panels["share"].get_ylim()
    assert panels["share"].get_ylim()[0] < -4.0
    assert (label(panels["initial"]), panels["initial"].get_xlabel()) == ("Share in the logit", "Initial state")


@pytest.mark.parametrize("values", [np.zeros(20), np.ones(20), -np.ones(20)])
def test_shares_of_one_sign_start_at_zero(values):
    ax = sq.plot.memory(sequence(), shares().assign(share=("time", values)))["share"]
    low, high = ax.get_ylim()
    assert low <= 0 <= high
    assert low < high


# Attention


def test_each_head_has_a_panel_and_all_share_one_range_of_colours():
    weights = attended()
    panels = sq.plot.attention(weights, title="Encoder")
    assert list(panels) == [0, 1, 2, 3]
    for head, ax in panels.items():
        np.testing.assert_array_equal(mesh_values(ax), weights.isel(head=head))
        (mesh,) = ax.collections
        assert (mesh.cmap.name, mesh.norm.vmin, mesh.norm.vmax) == (style.SEQUENTIAL, 0.0, float(weights.max()))
        assert ax.get_title() == f"Head {head}"
        assert (ax.get_xlim(), ax.get_ylim()) == ((-0.5, 6.5), (4.5, -0.5))  # the first query on top
    figure = panels[0].figure
    (bar,) = [ax for ax in figure.axes if ax not in panels.values()]
    assert bar.get_ylabel() == "Attention weight"
    assert not any(covers(ax, bar) for ax in panels.values())
    assert figure.get_suptitle() == "Encoder"
    assert [panels[head].get_xlabel() for head in range(4)] == ["", "", "Key (Time Step)", "Key (Time Step)"]
    assert [label(panels[head]) for head in range(4)] == ["Query (Time Step)", "", "Query (Time Step)", ""]


@pytest.mark.parametrize(("head", "expected"), [(2, [2]), ([3, 0], [3, 0]), (slice(1, 3), [1, 2])])
def test_heads_are_chosen_by_label(head, expected):
    weights = attended()
    panels = sq.plot.attention(weights, head=head)
    assert list(panels) == expected
    for label_, ax in panels.items():
        np.testing.assert_array_equal(mesh_values(ax), weights.isel(head=label_))
        assert ax.get_title() == f"Head {label_}"


def test_every_column_of_heads_is_labelled_at_its_lowest_panel():
    panels = sq.plot.attention(attended(7))
    assert [head for head, ax in panels.items() if ax.get_xlabel()] == [4, 5, 6]
    panels[0].figure.canvas.draw()
    assert all(any(text.get_visible() and text.get_text() for text in panels[head].get_xticklabels()) for head in (4, 5, 6))


def test_attention_without_heads_is_one_panel():
    panels = sq.plot.attention(attended().isel(head=2, drop=True))
    assert list(panels) == [0]
    assert panels[0].get_title() == ""


def test_attention_of_padding_is_cut_at_the_end_alone():
    weights = attended(query=range(5), key=range(7))
    known = (weights["query"] < 4) & (weights["key"] < 5) & (weights["query"] != 1)
    shown = mesh_values(sq.plot.attention(weights.where(known))[0])
    assert shown.shape == (4, 5)
    assert np.ma.getmaskarray(shown).all(axis=1).tolist() == [False, True, False, False]  # a query that sees nothing keeps its place


def test_attention_has_the_datas_units():
    seconds = {"long_name": "Time", "units": "s"}
    ax = sq.plot.attention(attended(1, query=("query", np.arange(5) / 10, seconds), key=("key", np.arange(7) / 10, seconds)))[0]
    assert (ax.get_xlabel(), label(ax)) == ("Key (Time, s)", "Query (Time, s)")
    assert ax.get_xlim() == pytest.approx((-0.05, 0.65))
    stamps = np.datetime64("2026-01-01", "ns") + np.arange(5) * np.timedelta64(1, "D")
    ax = sq.plot.attention(attended(1, 5, 5, query=("query", stamps), key=("key", stamps)))[0]
    ax.figure.canvas.draw()
    assert "2026" in ax.xaxis.get_offset_text().get_text()
    assert "2026" in ax.yaxis.get_offset_text().get_text()


# Parts of a figure, and little room


DRAWN = {
    "states": lambda part: sq.plot.states(sequence(n_channels=12), seen(), figure=part),
    "one unit": lambda part: sq.plot.states(sequence(n_channels=12), seen(), unit=2, figure=part),
    "memory": lambda part: sq.plot.memory(sequence(n_channels=12), kept(40), figure=part),
    "share": lambda part: sq.plot.memory(sequence(n_channels=12), shares(1.0), figure=part),
    "attention": lambda part: sq.plot.attention(attended(), figure=part),
}


@pytest.mark.parametrize("what", DRAWN)
@pytest.mark.parametrize("size", [(8, 5), (8, 14)])
def test_parts_of_a_figure_keep_to_themselves(what, size):
    figure = plt.figure(figsize=size, layout="constrained")
    parts = figure.subfigures(2, 2).ravel()[1:3]  # one above the other and beside it
    panels = [list(DRAWN[what](part).values()) for part in parts]
    figure.canvas.draw()
    for part, axes in zip(parts, panels, strict=True):
        legends = [*part.legends, *(ax.get_legend() for ax in axes if ax.get_legend() is not None)]
        assert not any(ax.get_window_extent().overlaps(legend.get_window_extent()) for ax in axes for legend in legends)
        for artist in [*axes, *legends, *(ax.xaxis.label for ax in axes)]:
            box = artist.get_window_extent()
            assert part.bbox.x0 - 1 <= box.x0 <= box.x1 <= part.bbox.x1 + 1
            assert part.bbox.y0 - 1 <= box.y0 <= box.y1 <= part.bbox.y1 + 1
    assert not [ax for ax in figure.axes if ax.figure not in parts]


def test_low_panels_are_named_by_a_letter_and_the_units_below_all():
    part = plt.figure(figsize=(8, 5), layout="constrained").subfigures(2, 2)[0, 0]
    panels = sq.plot.states(sequence(), seen(), figure=part)
    assert [label(panels[name]) for name in "ifgoch"] == list("ifgoch")
    (legend,) = part.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Unit 0", "Unit 1", "Unit 2"]
    part.figure.canvas.draw()
    names = [panels[name].yaxis.label.get_window_extent() for name in "ifgoch"]
    assert not any(one.overlaps(other) for place, one in enumerate(names) for other in names[place + 1 :])


# What is refused


@pytest.mark.parametrize(("draw", "given"), [(sq.plot.states, seen()), (sq.plot.memory, kept())])
def test_several_sequences_and_both_directions_are_refused(draw, given):
    with pytest.raises(sq.errors.DataError, match=r"2 sequences were given and one is drawn: choose it, .* \.isel\(sample=0\)"):
        draw(sequence(), xr.concat([given, given], "sample"))
    both = xr.concat([given, given], xr.Variable("direction", ["forward", "backward"]))
    with pytest.raises(sq.errors.DataError, match=r'reads the sequence both ways .* \.sel\(direction="forward"\)'):
        draw(sequence(), both)
    assert "input" in draw(sequence(), both.sel(direction="forward"))


@pytest.mark.parametrize("draw", [sq.plot.states, sq.plot.memory])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (seen().h, "A DataArray was given to draw: expected a Dataset"),
        (np.ones((20, 3)), "A ndarray was given to draw: expected a Dataset"),
        (
            xr.DataTree.from_dict({"lstm.0": seen(), "lstm.1": seen()}),
            r"layers 'lstm\.0', 'lstm\.1' .* choose one, .*\(X\[0\], 'lstm\.0'\)",
        ),
        (xr.Dataset({"other": seen().h}), "The Dataset holds 'other': expected"),
        (xr.Dataset(), "The Dataset holds nothing: expected"),
    ],
)
def test_what_is_no_dataset_of_states_is_refused(draw, given, expected):
    with pytest.raises(sq.errors.DataError, match=expected):
        draw(sequence(), given)
    assert plt.get_fignums() == []


@pytest.mark.parametrize(("draw", "given"), [(sq.plot.states, seen()), (sq.plot.memory, kept())])
@pytest.mark.parametrize("unit", [6, [0, 6], -1, slice(6, 9), []])
def test_units_that_are_not_there_are_refused(draw, given, unit):
    with pytest.raises(sq.errors.DataError, match=r"no unit.* in the layer 'lstm': there are 6, 0 to 5\."):
        draw(sequence(), given, unit=unit)
    assert plt.get_fignums() == []


def test_more_units_than_a_panel_holds_are_refused():
    with pytest.raises(sq.errors.DataError, match=r"20 units were asked for and a panel holds 16: choose some"):
        sq.plot.states(sequence(), seen(n_units=20), unit=slice(None))
    assert plt.get_fignums() == []


def test_shares_have_no_units_and_limits_an_order():
    with pytest.raises(sq.errors.DataError, match="A share in the logit is that of all units: leave unit= out"):
        sq.plot.memory(sequence(), shares(), unit=3)
    with pytest.raises(sq.errors.DataError, match=r"expected \(low, high\)"):
        sq.plot.memory(sequence(), kept(), limits=(1, -1))
    assert plt.get_fignums() == []


def test_several_inputs_are_refused():
    with pytest.raises(sq.errors.DataError, match="One sequence is drawn"):
        sq.plot.states(sequence().expand_dims("sample"), seen())
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (attended().expand_dims("sample"), r"of one sequence are drawn, .* choose one, as with \.isel\(sample=0\)"),
        (attended().isel(key=0), r"An array with dims \('head', 'query'\) was given: expected attention weights"),
        (attended().values, "A ndarray was given: expected attention weights"),
        (attended() * np.nan, "The attention weights are all NaN"),
    ],
)
def test_what_is_no_attention_of_one_sequence_is_refused(given, expected):
    with pytest.raises(sq.errors.DataError, match=expected):
        sq.plot.attention(given)
    assert plt.get_fignums() == []


@pytest.mark.parametrize("head", [4, -1, [], slice(4, 9)])
def test_heads_that_are_not_there_are_refused(head):
    with pytest.raises(sq.errors.DataError, match=r"no head.*: there are 4, 0 to 3\."):
        sq.plot.attention(attended(), head=head)
    assert plt.get_fignums() == []
