"""One self-contained page from texts, tables and pictures: no address outside it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqscope._version import __version__
from seqscope.report.hover import Panel, panels_of

__all__ = ["Picture", "Section", "Table", "drawn", "write_page"]

DPI = 130


@dataclass(frozen=True)
class Picture:
    """A picture as PNG.

    Attributes
    ----------
    png : bytes
    text : str
        What it shows, for those who can't see it.
    panels : tuple of Panel
        Its heatmaps, for a pointer over them.
    """

    png: bytes
    text: str
    panels: tuple[Panel, ...] = ()

    @classmethod
    def of(cls, figure: Figure, text: str) -> Picture:
        """Draw a figure."""
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DPI)
        return cls(file.getvalue(), text, tuple(panels_of(figure)))

    @property
    def cells(self) -> str:
        """The heatmaps as JSON, which can stand in a page whatever is in it."""
        said = json.dumps([asdict(panel) for panel in self.panels], separators=(",", ":"), allow_nan=False)
        return said.replace("<", "\\u003c").replace("&", "\\u0026")

    @property
    def address(self) -> str:
        """The picture itself, as an address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


def drawn(shown: Axes | Figure | Mapping[str, Axes], text: str) -> Picture:
    """The whole figure that a panel, or several, are in, as a picture; the figure is closed after."""
    import matplotlib.pyplot as plt

    one: Any = next(iter(shown.values())) if isinstance(shown, Mapping) else shown
    figure = one.get_figure(root=True)
    try:
        return Picture.of(figure, text)
    finally:
        plt.close(figure)


@dataclass(frozen=True)
class Table:
    """Rows under headings; `numeric` are the positions of the columns to align to the right."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    numeric: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Section:
    """A heading, what to see, the table or picture, and the Python that makes it; `name` is that of a file for the picture."""

    title: str
    text: str
    code: str
    table: Table | None = None
    picture: Picture | None = None
    name: str = ""


def write_page(path: Path, *, title: str, lead: str, sections: Sequence[Section], made_from: str) -> None:
    """Write the page.

    Parameters
    ----------
    lead : str
        What the page is about, in a sentence or two.
    made_from : str
        The model, the data and the versions, for the last line.
    """
    source, script = (resources.files(__name__).joinpath(name).read_text(encoding="utf-8") for name in ("page.html", "page.js"))
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(source).render(
        title=title, lead=lead, sections=sections, made_from=made_from, version=__version__, script=script
    )
    path.write_text(page, encoding="utf-8")
