"""Names and values as they are written where there is little room."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

# Letters above one of several windows that stand side by side.
TITLE = 20


def short(name: str, n_letters: int) -> str:
    """A name, cut where it has more letters."""
    return name if len(name) <= n_letters else name[: n_letters - 1] + "…"


def said(value: Any) -> str:
    """A label, a number or an id; "" where there is none."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.4g}"
    return "" if value is None or value is pd.NaT else str(value)
