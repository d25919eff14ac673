"""What every view is: numbers found for what is chosen, shown in models that are made once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
from bokeh.models import Range1d
from matplotlib.figure import Figure
from panel.viewable import Viewable

from seqscope.explorer.selection import Chosen, Selection
from seqscope.explorer.source import Source
from seqscope.explorer.theme import Look


@dataclass(frozen=True, eq=False)
class Stage:
    """What all views of one page share.

    Attributes
    ----------
    source : Source
    selection : Selection
    look : Look
        The page's colours.
    time : Range1d
        The stretch of the input's time that is in sight: the x axis of every view that has time on it.
    """

    source: Source
    selection: Selection
    look: Look
    time: Range1d


class View(ABC):
    """One way to look at what is chosen.

    `build` makes the models of the page, once, when the view is first looked at; `find` gives the numbers for what is chosen and touches
    no model of the page, so that it may run beside it; `show` puts them into the models. What makes the same in Python, as a table and as
    a picture comes from the numbers, too.

    Attributes
    ----------
    name, title : str
        In the address, and on the tab.
    follows : frozenset of str
        The fields of `Chosen` that it depends on.
    is_slow : bool
        Whether finding may take longer than a person waits: it then runs beside the page.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    follows: ClassVar[frozenset[str]]
    is_slow: ClassVar[bool] = False

    def __init__(self, stage: Stage) -> None:
        self.stage, self.source, self.selection, self.look = stage, stage.source, stage.selection, stage.look

    @classmethod
    def missing(cls, source: Source) -> str:
        """Why there is no such view of a source, in a sentence; "" where there is one."""
        return ""

    def is_slow_for(self, chosen: Chosen) -> bool:
        """Whether finding this may take longer than a person waits."""
        return self.is_slow

    @abstractmethod
    def build(self) -> Viewable:
        """The models, still empty."""

    @abstractmethod
    def find(self, chosen: Chosen) -> Any:
        """The numbers."""

    @abstractmethod
    def show(self, found: Any, chosen: Chosen) -> None:
        """Fill the models."""

    @abstractmethod
    def code(self, found: Any, chosen: Chosen) -> str:
        """The Python that makes what is seen, from `scope` or `recording` and `X` on."""

    @abstractmethod
    def table(self, found: Any, chosen: Chosen) -> pd.DataFrame:
        """The numbers as rows, for a CSV file."""

    @abstractmethod
    def figure(self, found: Any, chosen: Chosen) -> Figure:
        """A picture on paper, as the Python of `code` draws it; on a `Figure` of its own, since several people may ask at once."""
