"""What a class asks for beside real sequences: lanes, scales, scores and names, read from the artists."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import seqscope as sq

LENGTHS = (9, 20, 14, 11)


def made(n_channels=3, n_restarts=4, n_steps=15, *, real=True, **attrs):
    """Restart 2 ends highest, though restart 0 was higher on the way."""
    rng = np.random.default_rng(0)
    score = np.linspace(-1.0, 5.0, 30) * np.ones((n_restarts, 1)) + np.arange(n_restarts)[:, None] % 3
    score[0, 10] = 40.0
    found = xr.Dataset(
        {
            "input": (("restart", "time", "channel"), rng.standard_normal((n_restarts, n_steps, n_channels)).cumsum(1)),
            "score": (("restart", "iteration"), score),
            "margin": (("restart", "iteration"), score - 3.0),
            "probability": ("restart", np.linspace(0.99, 0.99999, n_restarts)),
        },
        coords={"restart": range(n_restarts), "channel": [f"ch {place}" for place in range(n_channels)]},
        attrs={"score": "logit", "objective": "margin"} | attrs,
    )
    found["input"].attrs["long_name"] = "Input for output 'up'"
    if not real:
        return found
    reals = rng.standard_normal((4, max(LENGTHS), n_channels)).cumsum(1) * 3
    for rank, length in enumerate(LENGTHS):
        reals[rank, length:] = np.nan
    return found.assign(
        real_input=(("rank", "real_time", "channel"), reals),
        real_score=("rank", [9.0, 8.0, 7.5, 7.0]),
        real_margin=("rank", [6.0, 6.5, 5.0, 4.0]),
        real_sample=("rank", [17, 3, 40, 8]),
        real_label=("rank", ["up", "up", "down", "up"]),
        distance=("restart", np.full(n_restarts, 1.25)),
    )


def row_labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def said(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def covers(artist, axes):
    box = artist.get_window_extent()
    return [name for name, ax in axes.items() if ax.get_tightbbox().overlaps(box)]


def test_the_made_input_stands_left_of_the_real_ones():
    panels = sq.plot.prototype(made())
    assert list(panels) == ["made", "real 0", "real 1", "real 2"]
    panels["made"].figure.canvas.draw()
    lefts = [ax.get_window_extent().x0 for ax in panels.values()]
    assert lefts == sorted(lefts)
    assert len({round(ax.get_window_extent().y0) for ax in panels.values()}) == 1


def test_each_channel_has_a_lane_and_all_panels_have_the_same():
    found = made()
    panels = sq.plot.prototype(found)
    assert len({ax.get_ylim() for ax in panels.values()}) == len({ax.get_xlim() for ax in panels.values()}) == 1
    assert row_labels(panels["made"]) == ["ch 0", "ch 1", "ch 2"]
    drawn = np.concatenate([found.input.values.reshape(-1, 3), found["real_input"].values[:3].reshape(-1, 3)])
    low, high = np.nanmin(drawn, axis=0), np.nanmax(drawn, axis=0)
    lane = (high - low).max()
    assert f"(a lane spans {lane:.3g})" in panels["made"].get_ylabel().replace("\n", " ")
    for channel, line in enumerate(panels["real 1"].lines):
        undone = (line.get_ydata() + channel) / 0.95 * lane + (low + high)[channel] / 2
        np.testing.assert_allclose(undone, found["real_input"][1, : LENGTHS[1], channel])
        assert -channel - 0.5 < line.get_ydata().min() < line.get_ydata().max() < -channel + 0.5


def test_padding_is_not_drawn_and_the_axis_holds_the_longest():
    panels = sq.plot.prototype(made())
    for rank in range(3):
        line = panels[f"real {rank}"].lines[0]
        assert len(line.get_xdata()) == LENGTHS[rank]
        assert not np.isnan(line.get_ydata()).any()
    assert panels["made"].get_xlim() == (-0.5, 19.5)
    assert panels["made"].get_xlabel() == "Time Step"


def test_the_restart_that_ends_highest_stands_out():
    ax = sq.plot.prototype(made())["made"]
    assert len(ax.lines) == 4 * 3
    strong = [place for place, line in enumerate(ax.lines) if line.get_linewidth() > 1]
    assert [place // 3 for place in strong] == [2, 2, 2]
    assert all(ax.lines[place].get_zorder() > ax.lines[0].get_zorder() for place in strong)
    assert ax.get_title().splitlines()[0].startswith("Made: restart 2, probability")
    assert said(ax.figure) == ["Restart 2", "Other restarts"]


@pytest.mark.parametrize(("objective", "best"), [("margin", 1), ("logit", 2)])
def test_what_was_raised_says_which_restart_is_best(objective, best):
    found = made(objective=objective)
    found["margin"][1] += 50.0
    assert f"restart {best}" in sq.plot.prototype(found)["made"].get_title()


def test_titles_carry_the_scores():
    panels = sq.plot.prototype(made())
    assert panels["made"].get_title().splitlines() == [
        "Made: restart 2, probability 0.997",
        "logit 7, margin 4",
        "distance 1.25 times the data's own",
    ]
    assert panels["real 1"].get_title() == "Real: sample 3, labelled 'up'\nlogit 8, margin 6.5"
    assert panels["made"].figure.get_suptitle() == "Input for output 'up'"
    assert sq.plot.prototype(made(), title="Mine")["made"].figure.get_suptitle() == "Mine"
    assert sq.plot.prototype(made(), title="")["made"].figure.get_suptitle() == ""


def test_a_probability_short_of_one_is_not_rounded_to_one():
    assert "probability > 0.999" in sq.plot.prototype(made(), restart=3)["made"].get_title()


def test_one_restart_is_drawn_alone():
    found = made()
    panels = sq.plot.prototype(found, restart=1)
    assert len(panels["made"].lines) == 3
    assert "restart 1" in panels["made"].get_title()
    assert said(panels["made"].figure) == []
    chosen = sq.plot.prototype(found.isel(restart=1))
    assert chosen["made"].get_title() == panels["made"].get_title()
    np.testing.assert_array_equal(chosen["made"].lines[0].get_ydata(), panels["made"].lines[0].get_ydata())


def test_all_restarts_are_told_apart():
    ax = sq.plot.prototype(made(), restart="all")["made"]
    assert len({line.get_color() for line in ax.lines}) == 4
    assert said(ax.figure) == [f"Restart {place}" for place in range(4)]
    assert ax.get_title().splitlines()[:2] == ["Made: 4 restarts, probability 0.99 to > 0.999", "logit 5 to 7, margin 2 to 4"]


def test_overlaid_channels_share_one_scale_and_are_named_below():
    found = made()
    panels = sq.plot.prototype(found, layout="overlay")
    np.testing.assert_array_equal([line.get_ydata() for line in panels["made"].lines], found.input[2].T)
    np.testing.assert_array_equal(panels["real 0"].lines[1].get_ydata(), found["real_input"][0, : LENGTHS[0], 1])
    assert panels["made"].lines[1].get_color() == panels["real 0"].lines[1].get_color()
    assert said(panels["made"].figure) == ["ch 0", "ch 1", "ch 2"]
    assert len({ax.get_ylim() for ax in panels.values()}) == 1
    assert len(sq.plot.prototype(found, layout="overlay", restart="all")["made"].lines) == 12


@pytest.mark.parametrize("options", [{}, {"layout": "overlay"}, {"restart": "all", "scores": True}, {"reals": 0}])
@pytest.mark.parametrize("n_channels", [1, 12])
def test_names_cover_nothing(options, n_channels):
    panels = sq.plot.prototype(made(n_channels), **options)
    figure = panels["made"].figure
    figure.canvas.draw()
    for legend in figure.legends:
        assert covers(legend, panels) == []
        assert figure.bbox.x0 <= legend.get_window_extent().x0 < legend.get_window_extent().x1 <= figure.bbox.x1


def test_thirty_lanes_can_be_read():
    ax = sq.plot.prototype(made(30))["made"]
    ax.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert len(boxes) == 30
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[place + 1 :])


def test_scores_are_drawn_along_the_iterations_with_the_best_real_one():
    found = made()
    ax = sq.plot.prototype(found, scores=True)["scores"]
    *lines, best_real = ax.lines
    np.testing.assert_array_equal([line.get_ydata() for line in lines], found.margin)
    assert list(best_real.get_ydata()) == [6.5, 6.5]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Iteration", "Margin")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["Best real sequence"]
    ax = sq.plot.prototype(made(objective="logit"), scores=True, restart=3)["scores"]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), found.score[3])
    assert (ax.get_ylabel(), list(ax.lines[1].get_ydata())) == ("Logit", [9.0, 9.0])


def test_scores_that_stop_early_end_where_they_stop():
    found = made(objective="logit")
    found["score"][2, 20:] = np.nan
    panels = sq.plot.prototype(found, restart=2)
    assert f"logit {float(found.score[2, 19]):.3g}" in panels["made"].get_title()


def test_without_real_sequences_there_are_none():
    panels = sq.plot.prototype(made(real=False), scores=True)
    assert list(panels) == ["made", "scores"]
    assert panels["scores"].get_legend() is None
    assert list(sq.plot.prototype(made(), reals=9)) == ["made", *(f"real {rank}" for rank in range(4))]


def test_it_is_drawn_in_the_figure_given():
    figure = plt.figure(layout="constrained")
    below = figure.subfigures(2, 1)[1]
    assert sq.plot.prototype(made(), figure=below)["made"].figure is below


@pytest.mark.parametrize(
    ("found", "options", "message"),
    [
        (np.zeros((2, 3)), {}, r"A ndarray was given to draw: expected 'input' \(restart, time, channel\)"),
        (xr.Dataset({"map": ("time", [1.0])}), {}, r"A Dataset that holds map \('time',\) was given to draw"),
        (made(), {"restart": 4}, "There is no restart 4: there are 4, 0 to 3, and 'all'"),
        (made(), {"layout": "lane"}, "There is no layout 'lane': there are 'lanes', 'overlay'; the nearest is 'lanes'"),
        (made(), {"reals": -1}, "reals is -1: expected the most real sequences to draw"),
        (made().drop_vars("score"), {"scores": True}, "holds no 'score'"),
    ],
)
def test_bad_input_is_a_sentence(found, options, message):
    with pytest.raises(sq.errors.DataError, match=message):
        sq.plot.prototype(found, **options)
