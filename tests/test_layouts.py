import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqscope import layouts
from seqscope.errors import DataError

N, T, C = 2, 4, 3


def numbered(n_samples=N, n_steps=T, n_channels=C):
    """Every value says where it stands: 100 * sample + 10 * step + channel."""
    sample, step, channel = np.ogrid[:n_samples, :n_steps, :n_channels]
    return 100 * sample + 10 * step + channel


@pytest.mark.parametrize(
    ("layout", "place"),
    [
        ("NTC", lambda sample, step, channel: (sample, step, channel)),
        ("NCT", lambda sample, step, channel: (sample, channel, step)),
        ("TNC", lambda sample, step, channel: (step, sample, channel)),
    ],
)
def test_each_letter_of_a_series_layout_says_where_its_axis_stands(layout, place):
    fed = layouts.to_model(numbered(), layout)
    for sample, step, channel in np.ndindex(N, T, C):
        assert fed[place(sample, step, channel)] == 100 * sample + 10 * step + channel


@pytest.mark.parametrize(("layout", "place"), [("NT", (1, 3)), ("TN", (3, 1))])
def test_tokens_have_two_axes(layout, place):
    tokens = numbered()[:, :, 0]
    assert layouts.to_model(tokens, layout)[place] == 130
    np.testing.assert_array_equal(layouts.from_model(layouts.to_model(tokens, layout), layout), tokens)


@given(layout=st.sampled_from(sorted(layouts.ORDERS)), sizes=st.tuples(*[st.integers(0, 5)] * 3))
def test_from_model_undoes_to_model(layout, sizes):
    values = numbered(*sizes[:2], 1)[..., 0] if layout in layouts.TOKEN_LAYOUTS else numbered(*sizes)
    np.testing.assert_array_equal(layouts.from_model(layouts.to_model(values, layout), layout), values, strict=True)


@pytest.mark.parametrize("layout", ["NTC", "NCT", "TNC"])
def test_what_a_model_is_fed_is_contiguous(layout):
    assert layouts.to_model(numbered()[:, ::-1], layout).flags.c_contiguous


@pytest.mark.parametrize("layout", ["NTC", "NCT", "TNC"])
def test_what_comes_from_a_model_is_not_copied(layout):
    array = layouts.to_model(numbered(), layout)
    assert np.shares_memory(layouts.from_model(array, layout), array)


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("NTC", "NTC (sample, time, channel)"),
        ("NCT", "NCT (sample, channel, time)"),
        ("TNC", "TNC (time, sample, channel)"),
        ("NT", "NT (sample, time)"),
        ("TN", "TN (time, sample)"),
    ],
)
def test_layouts_are_spelled_out(layout, words):
    assert layouts.in_words(layout) == words
    assert layouts.check(layout) == layout


@pytest.mark.parametrize("layout", ["ntc", "CTN", "", "NTCH", None, 3, ("N", "T", "C"), ["N", "T", "C"]])
def test_an_unknown_layout_is_refused_with_the_known_ones(layout):
    with pytest.raises(DataError) as caught:
        layouts.check(layout)
    message = str(caught.value)
    assert repr(layout) in message
    assert all(f"'{known}'" in message for known in ("NTC", "NCT", "TNC", "NT", "TN"))
