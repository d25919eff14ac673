"""The colours of the page, light and dark: text on its ground at 4.5 to 1 and more, marks at 3 to 1 (WCAG 2.2, AA)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
from bokeh.models import Plot
from matplotlib.colors import to_hex

from seqscope.plot import style


@dataclass(frozen=True)
class Look:
    """Colours, as "#rrggbb".

    Attributes
    ----------
    text, soft : str
        Of what is read, and of what stands beside it.
    ground, panel, line : str
        What is behind, what stands out a little from it, what divides.
    mark : str
        Of what is chosen.
    wrong : str
        Of a mistake.
    colors : tuple of str
        Of lines and classes, told apart with any kind of colour vision.
    missing : str
        Of cells without a value.
    """

    name: str
    text: str
    soft: str
    ground: str
    panel: str
    line: str
    mark: str
    wrong: str
    colors: tuple[str, ...]
    missing: str

    def dress(self, plot: Plot) -> Plot:
        """Give a plot the page's colours."""
        plot.background_fill_color, plot.border_fill_color, plot.outline_line_color = self.ground, self.ground, self.line
        for axis in plot.axis:
            axis.axis_label_text_color = axis.major_label_text_color = self.text
            axis.axis_line_color = axis.major_tick_line_color = self.soft
            axis.minor_tick_line_color = None
            axis.axis_label_text_font_style = "normal"
        for grid in plot.grid:
            grid.grid_line_color = None
        if plot.title is not None:
            plot.title.text_color = self.text
        for legend in plot.legend:
            legend.label_text_color, legend.background_fill_color, legend.border_line_color = self.text, self.ground, self.line
        return plot

    @property
    def variables(self) -> dict[str, str]:
        """The colours by their names in the style sheet."""
        names = ("text", "soft", "ground", "panel", "line", "mark", "wrong")
        return {f"--sq-{name}": getattr(self, name) for name in names}


# Okabe and Ito's colours, those that are too light or too dark for the ground moved in lightness alone.
LIGHT = Look(
    "light",
    text="#1b1f24",
    soft="#57606a",
    ground="#ffffff",
    panel="#f6f8fa",
    line="#d0d7de",
    mark="#b34700",
    wrong="#a40e26",
    colors=("#0072B2", "#C44F00", "#008060", "#B05586", "#2E86B8", "#9A6B00", "#000000", "#6E6E6E"),
    missing=style.MISSING,
)
DARK = Look(
    "dark",
    text="#e6edf3",
    soft="#9da7b3",
    ground="#0d1117",
    panel="#161b22",
    line="#30363d",
    mark="#ffab4a",
    wrong="#ff8f8f",
    colors=("#4DA3DD", "#F0833A", "#2FC49A", "#E39BC6", "#8CCBF0", "#F0B53A", "#F0F0F0", "#A8A8A8"),
    missing="#3a3f46",
)
LOOKS = {look.name: look for look in (LIGHT, DARK)}


@cache
def palette(name: str, number: int = 256) -> list[str]:
    """A colour map of matplotlib as Bokeh takes it: "RdBu_r", "viridis". The same list each time, which is not to be changed."""
    return [to_hex(color) for color in mpl.colormaps[name](np.linspace(0, 1, number))]


def scale(low: float, high: float) -> tuple[list[str], float, float]:
    """Colours for values from low to high, as `plot` has them: diverging and centred on zero where both signs are there."""
    if low < 0 < high:
        size = max(-low, high)
        return palette(style.DIVERGING), -size, size
    return palette(style.SEQUENTIAL), low, high if high > low else low + 1.0


def contrast(color: str, ground: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2, "contrast ratio").

    >>> round(contrast("#000000", "#ffffff"), 1)
    21.0
    """
    high, low = sorted((_luminance(color), _luminance(ground)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(color: Any) -> float:
    parts = np.array(mpl.colors.to_rgb(color))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
