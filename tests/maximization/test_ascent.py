"""The parts of an ascent, each against something that knows nothing of it: adjoints, finite differences, torch's own Adam."""

import numpy as np
import pytest
import torch

from seqscope.maximization import ascent
from seqscope.maximization.ascent import Answer, Ascent, Effort, Range
from seqscope.maximization.likeness import Likeness, diversity
from seqscope.maximization.parameters import Components, Fourier, Raw
from seqscope.sequences import Sequences

RANDOM = np.random.default_rng(0)
SERIES = RANDOM.standard_normal((12, 17, 3)).cumsum(1)
STILL = Effort(steps=30, rate=0.1, total_variation=0.0, norm=0.0, jitter=0, scale=0.0)
KINDS = {
    "raw": lambda: Raw(17, 3),
    "fourier": lambda: Fourier(17, 3),
    "fourier, even period": lambda: Fourier(24, 3),
    "fourier, one step": lambda: Fourier(1, 3),
    "components": lambda: Components(SERIES, seed=0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_derivative_is_pulled_back_by_the_adjoint(kind):
    parameters = KINDS[kind]()
    numbers = RANDOM.standard_normal(parameters.shape(2))
    zero = parameters.make(np.zeros_like(numbers))
    made = parameters.make(numbers) - zero  # principal components start from the mean
    slope = RANDOM.standard_normal(made.shape)
    assert np.isclose((made * slope).sum(), (numbers * parameters.pull(slope)).sum(), rtol=1e-10)


def test_fourier_series_are_as_large_as_the_data_and_fall_off_with_the_frequency():
    parameters = Fourier(200, 1)
    made = parameters.make(RANDOM.standard_normal(parameters.shape(400)))
    assert 0.9 < (made**2).mean() < 1.1
    power = (np.abs(np.fft.rfft(made[:, :, 0] * np.hanning(200), axis=1)) ** 2).mean(0)
    slope = np.polyfit(np.log(np.arange(4, 60)), np.log(power[4:60]), 1)[0]
    assert -2.4 < slope < -1.6  # a weight of 1/f is a power of 1/f^2


def test_a_fourier_series_need_not_end_where_it_begins():
    made = Fourier(100, 1).make(RANDOM.standard_normal(Fourier(100, 1).shape(300)))[:, :, 0]
    ends, neighbours = np.abs(made[:, -1] - made[:, 0]).mean(), np.abs(np.diff(made)).mean()
    assert ends > 4 * neighbours


def test_components_are_how_the_data_vary():
    parameters = Components(SERIES, seed=0)
    centred = (SERIES - SERIES.mean(0)).reshape(12, -1)
    space = np.linalg.svd(centred, full_matrices=False)[2][:11]
    made = (parameters.make(RANDOM.standard_normal(parameters.shape(4))) - SERIES.mean(0)).reshape(4, -1)
    np.testing.assert_allclose(made @ space.T @ space, made, atol=1e-8)
    drawn = parameters.make(RANDOM.standard_normal(parameters.shape(20_000)))
    np.testing.assert_allclose(drawn.std(0), SERIES.std(0, ddof=1), rtol=0.05)


@pytest.mark.parametrize(("variation", "norm"), [(1.0, 0.0), (0.0, 1.0), (0.7, 0.3)])
def test_penalties_have_the_derivative_that_finite_differences_give(variation, norm):
    effort = Effort(1, 0.1, variation, norm, 0, 0.0)
    z = RANDOM.standard_normal((2, 6, 2))
    _, push = ascent._penalties(z, effort)
    for place in np.ndindex(*z.shape):
        up, down = z.copy(), z.copy()
        up[place] += 1e-5
        down[place] -= 1e-5
        difference = (ascent._penalties(up, effort)[0] - ascent._penalties(down, effort)[0])[place[0]] / 2e-5
        assert np.isclose(push[place], difference, atol=1e-7)


def test_a_move_in_time_is_linear_interpolation_with_the_ends_held():
    moved = ascent._moved(40, Effort(1, 0.1, 0.0, 0.0, jitter=3, scale=0.1), np.random.default_rng(5))
    shift, stretch = np.random.default_rng(5).uniform(-1, 1, 2) * (3, 0.1)
    series = RANDOM.standard_normal((2, 40, 3))
    places = (np.arange(40) - 19.5) * (1 + stretch) + 19.5 + shift
    expected = np.stack([[np.interp(places, np.arange(40), series[row, :, c]) for c in range(3)] for row in range(2)]).transpose(0, 2, 1)
    np.testing.assert_allclose(ascent._applied(moved, series), expected, atol=1e-12)
    slope = RANDOM.standard_normal(series.shape)
    back = ascent._applied(moved.T, slope)
    assert np.isclose((expected * slope).sum(), (series * back).sum())


def test_bounds_hold_what_goes_out_and_let_back_in():
    span = Range(np.zeros(1), np.array([2.0]), np.array([-1.0]), np.array([1.0]))
    z = np.array([-2.0, -2.0, 0.1, 2.0, 2.0])[None, :, None]
    x, cut_off = span.within(z)
    np.testing.assert_array_equal(x[0, :, 0], [-1, -1, 0.2, 1, 1])
    slope = np.array([-1.0, 1.0, 3.0, 1.0, -1.0])[None, :, None]
    np.testing.assert_array_equal(span.pull(slope, cut_off)[0, :, 0], [0, 2, 6, 0, -2])


def climbed(ask, effort=STILL, n_restarts=2, parameters=None, span=None, moving=None):
    span = span or Range(np.zeros(2), np.ones(2), np.full(2, -np.inf), np.full(2, np.inf))
    made = Ascent(ask, parameters or Raw(5, 2), span, effort, np.random.default_rng(3), n_restarts, lambda done: None)
    before = made.series
    made.climb(effort.steps, np.ones(n_restarts, bool) if moving is None else moving)
    return before, made


def hill(x, top=3.0):
    """A score with its top at a series of `top`."""
    score = -((x - top) ** 2).sum((1, 2))
    return Answer(score, -2 * (x - top), score, np.full(len(x), np.nan))


def test_the_steps_are_those_of_adam():
    before, made = climbed(hill)
    x = torch.tensor(before, requires_grad=True)
    adam = torch.optim.Adam([x], lr=0.1, betas=(0.9, 0.99), eps=1e-12)
    for _ in range(len(made.target)):
        adam.zero_grad()
        ((x - 3.0) ** 2).sum().backward()
        adam.step()
    np.testing.assert_allclose(made.series, x.detach().numpy(), rtol=1e-9)


def test_it_stops_where_nothing_is_gained_and_says_so():
    _, made = climbed(hill, Effort(2000, 0.1, 0.0, 0.0, 0, 0.0))
    assert made.converged
    assert len(made.target) < 1500
    np.testing.assert_allclose(made.series, 3.0, atol=0.05)


def test_a_norm_pulls_towards_the_mean_and_restarts_that_do_not_move_stay():
    free = climbed(hill, Effort(600, 0.1, 0.0, 0.0, 0, 0.0))[1].series
    paying = climbed(hill, Effort(600, 0.1, 0.0, 1.0, 0, 0.0))[1].series
    assert np.abs(paying).max() < 0.95 * np.abs(free).max()
    before, made = climbed(hill, moving=np.array([True, False]))
    np.testing.assert_array_equal(made.series[1], before[1])
    assert (made.series[0] != before[0]).all()


def test_a_total_variation_smooths():
    def zigzag(x):
        return hill(x, top=np.where(np.arange(5) % 2, 1.0, -1.0)[:, None])

    rough = climbed(zigzag, Effort(600, 0.1, 0.0, 0.0, 0, 0.0))[1].series
    smooth = climbed(zigzag, Effort(600, 0.1, 2.0, 0.0, 0, 0.0))[1].series
    assert np.abs(np.diff(smooth, axis=1)).mean() < 0.7 * np.abs(np.diff(rough, axis=1)).mean()


def test_distances_are_what_brute_force_gives():
    X = Sequences([RANDOM.standard_normal((n, 2)) for n in (6, 9, 9, 5, 7)])
    span = Range(np.zeros(2), np.array([1.0, 2.0]), np.full(2, -9.0), np.full(2, 9.0))
    likeness = Likeness.of(X, span, 8, seed=0)
    real = [np.stack([np.interp(np.linspace(0, 1, 8), np.linspace(0, 1, len(x)), c) for c in (x / [1, 2]).T], 1) for x in map(np.array, X)]
    apart = np.array([[np.sqrt(((a - b) ** 2).mean()) for b in real] for a in real])
    own = np.median(np.where(np.eye(5), np.inf, apart).min(1))
    assert np.isclose(likeness.own, own)
    made = RANDOM.standard_normal((3, 8, 2))
    far = np.array([[np.sqrt(((a - b) ** 2).mean()) for b in real] for a in made])
    distance, place = likeness.nearest(made)
    np.testing.assert_allclose(distance, far.min(1) / own)
    np.testing.assert_array_equal(place, far.argmin(1))
    between = np.array([[np.sqrt(((a - b) ** 2).mean()) for b in made] for a in made])
    np.testing.assert_allclose(diversity(made, own), between.sum(1) / 2 / own)
    assert np.isnan(diversity(made[:1], own)).all()


def test_series_that_stand_twice_in_the_data_do_not_make_it_infinitely_dense():
    X = Sequences(np.concatenate([SERIES[:4], SERIES[:4], SERIES[4:5]]))
    span = Range(np.zeros(3), np.ones(3), np.full(3, -99.0), np.full(3, 99.0))
    assert Likeness.of(X, span, 17, seed=0).own > 0
    alone = Likeness.of(Sequences(SERIES[:1]), span, 17, seed=0)
    assert np.isnan(alone.own)
