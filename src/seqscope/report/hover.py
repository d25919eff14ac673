"""What a pointer over a picture is told: the cells of the heatmaps in it, read off the drawn figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

# Of larger heatmaps the cells are not told: they would make the page large, and a pointer can't find them.
_MOST_CELLS = 20_000


@dataclass(frozen=True)
class Panel:
    """A heatmap in a picture.

    Attributes
    ----------
    box : tuple of float
        Left, top, right and bottom, as shares of the picture.
    across, down : list of float
        The borders of the cells, as shares of the box.
    columns, rows : list of str
        What they are called.
    values : list of list of float or None
        By row, then by column; to three figures.
    x, y : str
        What the axes are called.
    """

    box: tuple[float, float, float, float]
    across: list[float]
    down: list[float]
    columns: list[str]
    rows: list[str]
    values: list[list[float | None]]
    x: str
    y: str


def panels_of(figure: Figure) -> list[Panel]:
    """The heatmaps of a figure that was drawn."""
    found = [(ax, mesh) for ax in figure.axes for mesh in ax.collections if isinstance(mesh, QuadMesh) and ax.get_label() != "<colorbar>"]
    return [panel for ax, mesh in found if (panel := _panel(figure, ax, mesh)) is not None]


def _panel(figure: Figure, ax: Axes, mesh: QuadMesh) -> Panel | None:
    values: np.ndarray = np.ma.filled(np.ma.asarray(mesh.get_array(), float), np.nan)
    corners: Any = mesh.get_coordinates()
    xs, ys = corners[0, :, 0], corners[:, 0, 1]
    values = values.reshape(len(ys) - 1, len(xs) - 1)
    if values.size > _MOST_CELLS or not ax.get_visible():
        return None
    box = ax.get_window_extent()
    width, height = figure.bbox.width, figure.bbox.height
    place = (box.x0 / width, 1 - box.y1 / height, box.x1 / width, 1 - box.y0 / height)
    names_x, names_y = (axis.get_major_formatter() for axis in (ax.xaxis, ax.yaxis))
    return Panel(
        tuple(round(float(part), 4) for part in place),  # type: ignore[arg-type]
        _shares(xs, ax.get_xlim()),
        _shares(ys, ax.get_ylim()[::-1]),
        [_name(names_x, at) for at in (xs[1:] + xs[:-1]) / 2],
        [_name(names_y, at) for at in (ys[1:] + ys[:-1]) / 2],
        [[None if np.isnan(value) else float(f"{value:.3g}") for value in row] for row in values.tolist()],
        ax.get_xlabel().replace("\n", " "),
        ax.get_ylabel().replace("\n", " "),
    )


def _shares(places: np.ndarray, limits: tuple[float, float]) -> list[float]:
    return [round(float(share), 4) for share in (places - limits[0]) / (limits[1] - limits[0])]


def _name(formatter: Any, place: float) -> str:
    """What the axis calls a place; its number where it has no name."""
    said = str(formatter(place, None))
    return said or f"{place:g}"
