"""What is searched in: how the numbers that an ascent moves make a series.

Each is linear, so that the derivative with respect to the numbers is the adjoint of `make`. The series are standardised ones: 0 is the
mean of each channel, 1 its standard deviation.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy import fft

# Principal components at most.
_MOST_COMPONENTS = 50


class Parameters(Protocol):
    """Numbers that make series."""

    def shape(self, n_restarts: int) -> tuple[int, ...]:
        """How many numbers there are, restarts first."""
        ...

    def make(self, numbers: np.ndarray) -> np.ndarray:
        """The series (restart, time, channel). Numbers that are drawn from a standard normal give a variance of about 1."""
        ...

    def pull(self, slope: np.ndarray) -> np.ndarray:
        """The derivative with respect to the numbers, from that with respect to the series."""
        ...


class Raw:
    """Every value of the series is a number of its own."""

    def __init__(self, n_steps: int, n_channels: int) -> None:
        self._sizes = (n_steps, n_channels)

    def shape(self, n_restarts: int) -> tuple[int, ...]:
        """As the series."""
        return (n_restarts, *self._sizes)

    def make(self, numbers: np.ndarray) -> np.ndarray:
        """The numbers themselves."""
        return numbers

    def pull(self, slope: np.ndarray) -> np.ndarray:
        """The derivative itself."""
        return slope


class Fourier:
    """Fourier coefficients of each channel, those of frequency f weighed with 1/f.

    A step of the ascent then moves slow changes more than fast ones, as in most measured signals (Olah, Mordvintsev and Schubert 2017,
    "Feature Visualization", for images). The period is a quarter longer than the series, so that its end need not meet its beginning.
    """

    def __init__(self, n_steps: int, n_channels: int) -> None:
        self._n_steps, self._n_channels = n_steps, n_channels
        self._period = int(fft.next_fast_len(n_steps + max(8, n_steps // 4), real=True))
        frequency = np.arange(self._period // 2 + 1)
        # Of how many real numbers a coefficient is the sum, up to a factor: the two ends of the spectrum stand for themselves alone.
        self._times = np.where((frequency == 0) | (2 * frequency == self._period), 1.0, 2.0)[:, None]
        weights = 1 / np.maximum(frequency, 1)[:, None]
        variance = (weights**2 * self._times**2).sum() / self._period
        self._weights = weights / np.sqrt(variance)

    def shape(self, n_restarts: int) -> tuple[int, ...]:
        """(restart, frequency, channel, real or imaginary part)."""
        return (n_restarts, len(self._weights), self._n_channels, 2)

    def make(self, numbers: np.ndarray) -> np.ndarray:
        """The sum of the waves, over the steps of the series."""
        coefficients = numbers.view(np.complex128)[..., 0] * self._weights
        waves: np.ndarray = fft.irfft(coefficients, self._period, axis=1, norm="ortho")
        return waves[:, : self._n_steps]

    def pull(self, slope: np.ndarray) -> np.ndarray:
        """The coefficients of the derivative, with the same weights."""
        coefficients = fft.rfft(slope, self._period, axis=1, norm="ortho")
        coefficients *= self._weights * self._times
        pulled: np.ndarray = coefficients[..., None].view(np.float64)
        pulled[:, self._times[:, 0] == 1, :, 1] = 0  # no imaginary part goes into the series there
        return pulled


class Components:
    """Principal components of real series: what is made is a mixture of how the data vary.

    Parameters
    ----------
    series : array (sample, time, channel)
        Standardised real series of the length that is to be made.
    """

    def __init__(self, series: np.ndarray, seed: int) -> None:
        from sklearn.decomposition import PCA

        flat = series.reshape(len(series), -1)
        count = min(_MOST_COMPONENTS, len(flat) - 1, flat.shape[1])
        found = PCA(count, svd_solver="randomized", random_state=seed).fit(flat)
        self._sizes = series.shape[1:]
        self._mean = found.mean_.reshape(self._sizes)
        self._matrix = found.components_ * np.sqrt(found.explained_variance_)[:, None]  # (component, time x channel)

    def shape(self, n_restarts: int) -> tuple[int, ...]:
        """(restart, component)."""
        return (n_restarts, len(self._matrix))

    def make(self, numbers: np.ndarray) -> np.ndarray:
        """The data's mean and as much of each component as its number says, in standard deviations along it."""
        return np.asarray(self._mean + (numbers @ self._matrix).reshape(-1, *self._sizes))

    def pull(self, slope: np.ndarray) -> np.ndarray:
        """The derivative along each component."""
        return np.asarray(slope.reshape(len(slope), -1) @ self._matrix.T)
