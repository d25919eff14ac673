"""All samples as a table: filtered, sorted, searched, and clicked."""

from __future__ import annotations

from typing import Any

import pandas as pd
import panel as pn
from matplotlib.figure import Figure
from panel.viewable import Viewable

from seqscope.explorer.selection import Chosen
from seqscope.explorer.views.view import View


class Samples(View):
    """The table of samples."""

    name, title = "samples", "Samples"
    follows = frozenset({"sample", "search"})

    def build(self) -> Viewable:
        self._table = pn.widgets.Tabulator(
            self.source.samples, pagination="remote", page_size=20, disabled=True, show_index=False, selectable=1, height=620, sizing_mode="stretch_width",
        )
        self._table.on_click(lambda event: self.selection.choose(sample=int(event.row)))
        return self._table

    def find(self, chosen: Chosen) -> pd.DataFrame:
        return self.source.samples

    def show(self, found: Any, chosen: Chosen) -> None:
        self._table.selection = [chosen.sample]

    def code(self, found: Any, chosen: Chosen) -> str:
        return "scope.predict(X)"

    def table(self, found: Any, chosen: Chosen) -> pd.DataFrame:
        return found

    def figure(self, found: Any, chosen: Chosen) -> Figure:
        return Figure()
