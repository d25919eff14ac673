"""What a convolution's filters let through, by frequency."""

from __future__ import annotations

import numpy as np
import xarray as xr

from seqscope import labelled
from seqscope.errors import DataError

# At least so many frequencies between zero and half of the rate, so that a curve is smooth.
N_FREQUENCIES = 256


def response(filters: xr.DataArray, rate: float | None = None) -> xr.DataArray:
    """The magnitude of each kernel's discrete Fourier transform over its taps, zero-padded (Oppenheim and Schafer 2010, 5.1).

    Taps that the attribute `dilation` says are some steps apart stand that far apart.

    Parameters
    ----------
    filters : DataArray (unit, tap, channel)
        As `scope.filters` gives it.
    rate : float, optional
        Steps per second of what the layer takes; default: frequency counts cycles per step.

    Returns
    -------
    DataArray (unit, frequency, channel)
        From 0 to half of the rate.

    Raises
    ------
    DataError
        The rate is no number above zero.

    Examples
    --------
    >>> mean = xr.DataArray(np.full((1, 2, 1), 0.5), dims=("unit", "tap", "channel"))
    >>> response(mean).values[0, [0, -1], 0].round(3)
    array([1., 0.])
    """
    if rate is not None and not (isinstance(rate, int | float | np.number) and 0 < rate < np.inf):
        raise DataError(f"The rate is {rate!r}: expected steps per second, a number above zero.")
    values = filters.transpose(labelled.UNIT, labelled.TAP, labelled.CHANNEL).values
    dilation = int(filters.attrs.get("dilation", 1))
    spread = np.zeros((len(values), (values.shape[1] - 1) * dilation + 1, values.shape[2]))
    spread[:, ::dilation] = values
    n_points = max(2 * N_FREQUENCIES, 4 * 2 ** int(np.ceil(np.log2(spread.shape[1]))))
    gain = np.abs(np.fft.rfft(spread, n_points, axis=1))
    attrs = {"long_name": "Frequency", "units": "cycles per step" if rate is None else "Hz"}
    frequency = xr.Variable("frequency", np.fft.rfftfreq(n_points) * (1.0 if rate is None else float(rate)), attrs)
    coords = {name: coord for name, coord in filters.coords.items() if labelled.TAP not in coord.dims}
    dims = (labelled.UNIT, "frequency", labelled.CHANNEL)
    return xr.DataArray(gain, dims=dims, coords=coords | {"frequency": frequency}, name="gain", attrs={"long_name": "Gain"})
