"""The map of samples on paper."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from seqscope.explorer.theme import LIGHT
from seqscope.explorer.views.samples_map.colours import CROSS, MARKERS, Coloured
from seqscope.explorer.views.samples_map.projected import Projected
from seqscope.plot import style

# From so many points on they are one picture inside the drawing, which would be slow to open otherwise.
_MANY = 3000


def draw(made: Projected, looks: Coloured, chosen: np.ndarray, *, title: str) -> Figure:
    """A scatter with its legend or its scale, the chosen sample in a ring."""
    figure = Figure(figsize=(8.0, 6.0), layout="constrained")
    ax = figure.subplots()
    colors, markers = np.array(looks.color, object), np.array(looks.marker, object)
    edge = "none" if looks.values is None else LIGHT.soft  # what is near to white is seen by its edge
    for marker in sorted(set(looks.marker), key=lambda marker: marker == CROSS):  # mistakes lie on top
        of = markers == marker
        x, y = made.points[of].T
        options: dict[str, Any] = {"linewidths": 1.2} if marker == CROSS else {"linewidths": 0.3, "edgecolors": edge}
        ax.scatter(x, y, c=list(colors[of]), marker=MARKERS[marker], s=22, alpha=0.75, rasterized=len(markers) > _MANY, **options)
    if np.isfinite(chosen).all():
        ax.scatter(chosen[:1], chosen[1:], s=150, facecolors="none", edgecolors=LIGHT.mark, linewidths=2, zorder=3)
    if looks.values is not None:
        cmap, norm = style.color_scale(*looks.limits)
        figure.colorbar(ScalarMappable(norm, cmap), ax=ax, label=looks.title)
    elif looks.legend:
        handles = [
            Line2D([], [], linestyle="none", marker=MARKERS[entry.marker], color=entry.color, label=f"{entry.name} ({entry.number:,})")
            for entry in looks.legend
        ]
        figure.legend(handles=handles, title=looks.title, loc="outside right upper", frameon=False, fontsize="small")
    ax.set(xlabel=axis_label(made, 0), ylabel=axis_label(made, 1))
    ax.set_title(f"{title}: {len(made.rows):,} samples")
    return figure


def axis_label(made: Projected, number: int) -> str:
    """What a component is called, with its share of the variance."""
    return f"Component {number} ({made.shares[number]:.0%} of the variance)".replace("%", " %")
