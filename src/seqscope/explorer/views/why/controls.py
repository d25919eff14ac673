"""The lists beside the view on why: which methods, for which score, against what and where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import panel as pn

from seqscope.errors import SeqscopeError
from seqscope.explorer.selection import Chosen, Selection
from seqscope.explorer.source import Source
from seqscope.explorer.views.why.explaining import UNIT, baselines_of, has_steps, methods_of

# More outputs than this are not listed: the address takes any.
_MOST_LISTED = 1000


class WhyControls:
    """Lists that choose, and follow what is chosen."""

    def __init__(self, source: Source, selection: Selection) -> None:
        self._source, self._selection, self._filling = source, selection, False
        chosen = selection.chosen
        methods = {name.replace("_", " "): name for name in methods_of(source)}
        baselines = {"the method's own": ""} | {name: name for name in baselines_of(source)}
        places = {"the input": ""} | {name: name for name in source.layers}
        self.widgets: dict[str, Any] = {
            "method": _select("Method", methods, chosen.method),
            "versus": _select("Compared with", methods, chosen.versus),
            "target": _select("What is explained", self._targets(chosen), chosen.target, width=190),
            "at": pn.widgets.IntInput(label="At step (-1: last)", value=chosen.at, start=-1, width=120, margin=(2, 10, 4, 0)),
            "baseline": _select("Baseline", baselines, chosen.baseline, width=165),
            "place": _select("Where", places, chosen.place, width=140),
            "sizes": _select("Colours", {"each by its largest value": "own", "raw values": "raw"}, chosen.sizes, width=220),
        }
        for name, widget in self.widgets.items():
            widget.param.watch(lambda event, name=name: self._chose(name, event.new), "value")
        self._told = pn.pane.HTML("", visible=False, css_classes=["sq-soft"], margin=0)
        self.view = pn.Column(pn.FlexBox(*self.widgets.values(), margin=0), self._told, sizing_mode="stretch_width", margin=0)
        self.fill(chosen)

    def _targets(self, chosen: Chosen) -> dict[str, str]:
        outputs = self._source.outputs[:_MOST_LISTED]
        named = {f"output {name}": name for name in outputs}
        first = {"the predicted output" if len(outputs) > 1 else "the output": ""}
        state = f" ({chosen.state})" if chosen.state else ""
        return first | (named if len(outputs) > 1 else {}) | {f"unit {chosen.unit} of {chosen.layer}{state}": UNIT}

    def _chose(self, name: str, value: Any) -> None:
        if self._filling or value is None:
            return
        try:
            self._selection.choose(**{name: value})
        except SeqscopeError as error:
            self._told.param.update(object=error.message, visible=True)

    def fill(self, chosen: Chosen, shown: Mapping[str, str] | None = None) -> None:
        """Bring the lists up to what is chosen.

        Parameters
        ----------
        shown : dict, optional
            What is shown in place of what was chosen: the method and the one it is compared with.
        """
        self._filling = True
        try:
            self._told.visible = False
            self.widgets["target"].options = self._targets(chosen)
            self.widgets["at"].visible = chosen.target == UNIT or has_steps(self._source)
            for name, widget in self.widgets.items():
                value = (shown or {}).get(name, getattr(chosen, name))
                if not isinstance(getattr(widget, "options", None), Mapping) or value in widget.options.values():
                    widget.value = value
        finally:
            self._filling = False


def _select(label: str, options: dict[str, str], value: str, *, width: int = 200) -> pn.widgets.Select:
    there = value if value in options.values() else next(iter(options.values()), None)
    return pn.widgets.Select(label=label, options=options, value=there, width=width, margin=(2, 10, 4, 0))
