"""How near a captured number must come to the reference: one table, by the type that the model computes in."""

from typing import Any

import numpy as np

# float32 in full precision; float16 and bfloat16 keep 11 and 8 bits, and errors add up over the steps.
TOLERANCES: dict[str, dict[str, float]] = {
    "float64": {"rtol": 1e-12, "atol": 1e-12},
    "float32": {"rtol": 1e-5, "atol": 1e-5},
    "float16": {"rtol": 5e-3, "atol": 5e-3},
    "bfloat16": {"rtol": 4e-2, "atol": 4e-2},
}


def assert_close(actual: Any, expected: Any, dtype: str = "float64") -> None:
    """Same shape, same places of NaN, and numbers within the tolerance of the type."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual.astype(np.float64), expected.astype(np.float64), **TOLERANCES[dtype])
