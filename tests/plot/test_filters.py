"""Kernels and their frequency responses: compared with scipy's, and with filters whose response is known."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from scipy.signal import freqz

import seqscope as sq
from seqscope import spectrum


def kernels(values, **attrs):
    """(unit, tap, channel), numbered."""
    values = np.asarray(values, dtype=float)
    coords = {dim: range(size) for dim, size in zip(("unit", "tap", "channel"), values.shape, strict=True)}
    return xr.DataArray(values, dims=("unit", "tap", "channel"), coords=coords, attrs={"kind": "conv1d", "layer": "conv"} | attrs)


def random(n_units=4, n_taps=9, n_channels=9, **attrs):
    return kernels(np.random.default_rng(0).standard_normal((n_units, n_taps, n_channels)), **attrs)


def curve(ax):
    """The thick line: frequency and gain."""
    thick = max(ax.lines, key=lambda line: line.get_linewidth())
    return thick.get_xdata(), thick.get_ydata()


def spread(kernel, dilation):
    """Taps with zeros between them."""
    return np.insert(kernel, np.repeat(np.arange(1, len(kernel)), dilation - 1), 0.0)


# The response


@pytest.mark.parametrize("dilation", [1, 2, 5])
@pytest.mark.parametrize("n_taps", [1, 2, 9, 700])
def test_response_equals_scipys(n_taps, dilation):
    filters = random(2, n_taps, 3, dilation=dilation)
    gain = spectrum.response(filters)
    for unit in range(2):
        for channel in range(3):
            _, expected = freqz(spread(filters.values[unit, :, channel], dilation), worN=gain.frequency.values, fs=1.0)
            np.testing.assert_allclose(gain.values[unit, :, channel], np.abs(expected), rtol=1e-9, atol=1e-9)
    assert (gain.frequency[0], gain.frequency[-1]) == (0.0, 0.5)


def test_response_at_zero_is_the_sum_of_the_taps():
    filters = random()
    np.testing.assert_allclose(spectrum.response(filters).isel(frequency=0), np.abs(filters.sum("tap")))


def test_response_is_the_gain_of_a_sine_that_is_filtered():
    filters = random(1, 9, 1, dilation=2)
    gain = spectrum.response(filters)
    frequency = float(gain.frequency[100])
    sine = np.exp(2j * np.pi * frequency * np.arange(200))
    passed = np.correlate(sine, spread(filters.values[0, :, 0], 2), "valid")
    np.testing.assert_allclose(np.abs(passed), float(gain[0, 100, 0]))


@pytest.mark.parametrize("rate", [0, -50.0, np.inf, np.nan, "50"])
def test_rates_that_are_none_are_refused(rate):
    with pytest.raises(sq.errors.DataError, match="expected steps per second, a number above zero"):
        sq.plot.filters(random(), rate=rate)
    assert plt.get_fignums() == []


# The picture


def test_moving_average_is_low_pass_and_difference_is_high_pass():
    panels = sq.plot.filters(kernels([[[0.5], [0.5]], [[-0.5], [0.5]]]))
    frequency, low = curve(panels["response 0"])
    np.testing.assert_allclose(low, np.abs(np.cos(np.pi * frequency)), atol=1e-12)
    frequency, high = curve(panels["response 1"])
    np.testing.assert_allclose(high, np.abs(np.sin(np.pi * frequency)), atol=1e-12)
    assert np.all(np.diff(low) < 0)
    assert np.all(np.diff(high) > 0)


def test_dilated_moving_average_lets_through_what_repeats_with_the_dilation():
    frequency, gain = curve(sq.plot.filters(kernels([[[0.5], [0.5]]], dilation=2))["response 0"])
    np.testing.assert_allclose(gain, np.abs(np.cos(2 * np.pi * frequency)), atol=1e-12)


def test_thick_line_is_the_root_of_the_summed_squares_of_the_thin_ones():
    panels = sq.plot.filters(random())
    for unit in range(4):
        *thin, thick = panels[f"response {unit}"].lines
        assert len(thin) == 9
        np.testing.assert_allclose(thick.get_ydata(), np.sqrt(sum(line.get_ydata() ** 2 for line in thin)))
        assert thick.get_linewidth() > 2 * thin[0].get_linewidth()


def test_few_channels_are_lines_and_many_are_colours_on_one_scale():
    few, many = random(3, 9, 3), random(3, 9, 9)
    panels = sq.plot.filters(few)
    for unit in range(3):
        lines = [line for line in panels[f"filter {unit}"].lines if len(line.get_xdata()) == 9]
        np.testing.assert_array_equal([line.get_ydata() for line in lines], few.values[unit].T)
    panels = sq.plot.filters(many)
    meshes = [panels[f"filter {unit}"].collections[0] for unit in range(3)]
    for unit, mesh in enumerate(meshes):
        np.testing.assert_array_equal(np.asarray(mesh.get_array()).reshape(9, 9), many.values[unit].T)
        assert (mesh.norm.vmin, mesh.norm.vmax) == (-np.abs(many).max(), np.abs(many).max())
    (bar,) = [ax for ax in panels["filter 0"].figure.axes if ax not in panels.values()]
    assert bar.get_ylabel() == "Weight"


def test_axes_are_named_and_frequencies_go_to_half_of_the_rate():
    panels = sq.plot.filters(random(), title="The first layer")
    assert sorted(panels) == [f"{what} {unit}" for what in ("filter", "response") for unit in range(4)]
    kernel, response = panels["filter 3"], panels["response 3"]
    assert (kernel.get_title(), kernel.get_xlabel(), kernel.get_ylabel()) == ("Filter 3", "Tap", "Channel")
    assert (response.get_xlabel(), response.get_ylabel()) == ("Frequency (cycles per step)", "Gain")
    assert response.get_xlim() == (0.0, 0.5)
    assert kernel.figure.get_suptitle() == "The first layer"
    in_hertz = sq.plot.filters(random(dilation=3), rate=50)
    assert in_hertz["response 3"].get_xlabel() == "Frequency (Hz)"
    assert in_hertz["response 0"].get_xlim() == (0.0, 25.0)
    assert in_hertz["filter 3"].get_xlabel() == "Tap (3 steps apart)"


def test_legend_names_the_lines():
    (legend,) = sq.plot.filters(random(1, 9, 2).assign_coords(channel=["x", "y"]))["filter 0"].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["x", "y", "All channels (root of summed squares)"]
    (legend,) = sq.plot.filters(random())["filter 0"].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Each channel", "All channels (root of summed squares)"]
    assert sq.plot.filters(random(1, 9, 1))["filter 0"].figure.legends == []


def test_the_first_six_are_drawn_and_others_by_label():
    assert len(sq.plot.filters(random(128))) == 12
    some = random(128)
    panels = sq.plot.filters(some, units=[100, 3])
    assert list(panels) == ["filter 100", "filter 3", "response 100", "response 3"]
    np.testing.assert_array_equal(np.asarray(panels["filter 100"].collections[0].get_array()).reshape(9, 9), some.values[100].T)
    with pytest.raises(sq.errors.DataError, match=r"no filter 128 in the layer 'conv': there are 128, 0 to 127\."):
        sq.plot.filters(some, units=128)


def test_more_than_a_page_holds_is_refused_with_how_to_choose():
    with pytest.raises(sq.errors.DataError, match=r"128 filters .* a page holds 24: choose some, as with units=slice\(24\)"):
        sq.plot.filters(random(128), units=slice(128))
    assert plt.get_fignums() == []


def test_a_full_page_is_readable():
    panels = sq.plot.filters(random(128).assign_coords(channel=[f"body_acc_{place}" for place in range(9)]), units=slice(24))
    figure = panels["filter 0"].figure
    figure.canvas.draw()
    width, height = figure.get_size_inches()
    assert width <= 8.3
    assert height <= 11.7  # A4
    texts = [text for ax in panels.values() for text in (ax.title, *ax.get_yticklabels()) if text.get_text() and text.get_visible()]
    boxes = [text.get_window_extent() for text in texts]
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[place + 1 :])
    assert all(ax.get_window_extent().height > 0.3 * figure.dpi for ax in panels.values())


def test_they_draw_on_a_part_of_a_figure():
    left, right = plt.figure(layout="constrained", figsize=(9, 5)).subfigures(1, 2)
    panels = sq.plot.filters(random(), figure=right)
    assert left.axes == []
    assert {ax.figure for ax in panels.values()} == {right}


@pytest.mark.parametrize("drop", ["unit", "channel"])
def test_one_filter_or_one_channel_will_do(drop):
    assert len(sq.plot.filters(random(1, 9, 1).isel({drop: 0}, drop=True))) == 2


def test_the_label_of_one_filter_stays():
    assert sorted(sq.plot.filters(random().isel(unit=2))) == ["filter 2", "response 2"]


def test_kernels_of_zeros_are_drawn():
    assert curve(sq.plot.filters(random() * 0)["response 0"])[1].max() == 0


@pytest.mark.parametrize("given", [np.ones((3, 4, 5)), random().rename(tap="time"), random().expand_dims("sample")])
def test_what_holds_no_kernels_is_refused(given):
    with pytest.raises(sq.errors.DataError, match=r"expected kernels, \(unit, tap, channel\)"):
        sq.plot.filters(given)
