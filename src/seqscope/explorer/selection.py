"""What a person has chosen: one for each page that is open, followed by all its views, and written in the address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

import param
from panel.io import unlocked

from seqscope.errors import SeqscopeError

ORDERS = ("cluster", "peak", "selectivity", "name")
THEMES = ("light", "dark")
# What a cell of a heatmap shows that stands for many values: the one farthest from zero, or their mean.
CELLS = ("extreme", "mean")
# Each method's attribution as a share of its own largest value, or as it is.
SIZES = ("own", "raw")
# The longest text that an address may give for one field.
_LONGEST = 200


@dataclass(frozen=True)
class Chosen:
    """All that an address says, and nothing else.

    Attributes
    ----------
    view : str
        The name of the view that is looked at.
    sample, unit : int
        Positions, from 0.
    layer, state : str
        A layer's name; of a recurrent one a state ("c", "h.backward"), "" for what it puts out.
    order : str
        How units are sorted: one of `ORDERS`.
    cells : str
        What a cell of a heatmap shows that stands for many values: one of `CELLS`.
    start, stop : int
        The stretch that is brushed, in steps of the layer, the stop left out; 0 and 0: none.
    threshold : float
        From which value a unit is on.
    like : str
        The stretch that matches are looked for, where one of them is looked at: both as sample, start and stop, "0.6.10-17.3.8".
    step : int
        The steps of the sample that were played.
    carried : str
        The samples that were played before with the state carried on, then this one, "3.4.5"; "": it began anew.
    method, versus : str
        The methods of attribution that are compared.
    target, baseline, place : str
        What is explained ("" the predicted one), against what ("" the method's own), at which layer ("" the input).
    at : int
        The step of the output, or of the unit, that is explained; -1: the last.
    sizes : str
        How the colours of two methods are made one scale: one of `SIZES`.
    part : int
        Which part of a long text is shown, from 0.
    search, colour : str
        What the table of samples is searched for; what the map is coloured by.
    only, group, sort : str
        "wrong": only mistakes are listed; the class whose samples are; the column that sorts them, "-score" from the highest down.
    among : str
        The samples that are selected on the map, "0-4.7.9-12"; "": all. In the address where it is short enough.
    theme : str
        One of `THEMES`.
    """

    view: str = "sample"
    sample: int = 0
    layer: str = ""
    state: str = ""
    unit: int = 0
    order: str = "cluster"
    cells: str = "extreme"
    start: int = 0
    stop: int = 0
    threshold: float = 0.3
    like: str = ""
    step: int = 0
    carried: str = ""
    method: str = "integrated_gradients"
    versus: str = "occlusion"
    target: str = ""
    baseline: str = ""
    place: str = ""
    at: int = -1
    sizes: str = "own"
    part: int = 0
    search: str = ""
    colour: str = "label"
    only: str = ""
    group: str = ""
    sort: str = ""
    among: str = ""
    theme: str = "light"

    @property
    def query(self) -> str:
        """The part of an address that says it: what is as it is unless said is left out, and what is too long for one."""
        usual = asdict(Chosen())
        said = {name: value for name, value in asdict(self).items() if value != usual[name]}
        return urlencode({name: value for name, value in said.items() if len(str(value)) <= _LONGEST})


class Selection(param.Parameterized):  # type: ignore[misc]
    """What is chosen now, and who is told when it changes.

    Parameters
    ----------
    chosen : Chosen
    check : function of (field, value, Chosen), optional
        Gives the value as it may be, or raises a SeqscopeError that says why it can't be.
    """

    chosen = param.ClassSelector(class_=Chosen)

    def __init__(self, chosen: Chosen, check: Callable[[str, Any, Chosen], Any] = lambda field, value, chosen: value) -> None:
        super().__init__(chosen=chosen)
        self._check = check

    def choose(self, **changes: Any) -> None:
        """Choose anew, and tell all who follow; what is chosen already tells nobody.

        Raises
        ------
        SeqscopeError
            There is no such sample, layer or unit.
        """
        now = self.chosen
        for name, value in changes.items():
            now = replace(now, **{name: self._check(name, value, replace(now, **{name: value}))})
        if now != self.chosen:
            with unlocked():  # Panel runs some clicks without the document's lock, which Bokeh's models ask for
                self.chosen = now

    def follow(self, told: Callable[[frozenset[str]], None]) -> None:
        """Call a function with the names of the fields that changed, whenever some did."""
        self.param.watch(lambda event: told(_changed(event.old, event.new)), "chosen")


def _changed(old: Chosen, new: Chosen) -> frozenset[str]:
    return frozenset(field.name for field in fields(Chosen) if getattr(old, field.name) != getattr(new, field.name))


def read_query(query: str, first: Chosen, check: Callable[[str, Any, Chosen], Any]) -> tuple[Chosen, list[str]]:
    """Read what an address says, and a sentence for each thing that it says and that can't be.

    Parameters
    ----------
    query : str
        What stands behind the question mark. Only the fields of `Chosen` are read, each as the number or text that it is.
    first : Chosen
        What is chosen where the address does not say.
    """
    given = dict(parse_qsl(query.removeprefix("?"), keep_blank_values=True, max_num_fields=100, errors="replace"))
    return _chosen_from(given, first, check)


def _chosen_from(given: Mapping[str, str], first: Chosen, check: Callable[[str, Any, Chosen], Any]) -> tuple[Chosen, list[str]]:
    now, wrong = first, []
    for field in fields(Chosen):
        if field.name not in given:
            continue
        text = given[field.name]
        try:
            value = _read(text, type(getattr(first, field.name)))
            now = replace(now, **{field.name: check(field.name, value, replace(now, **{field.name: value}))})
        except SeqscopeError as error:
            wrong.append(error.message)
        except ValueError:
            wrong.append(f"The address says {field.name}={text[:_LONGEST]}, which is no {_WORDS[type(getattr(first, field.name))]}.")
    unknown = [name for name in given if name not in {field.name for field in fields(Chosen)}]
    wrong += [f"The address says '{name[:_LONGEST]}', of which nothing is known here." for name in unknown[:5]]
    return now, wrong


_WORDS: dict[type, str] = {int: "whole number", float: "number", str: "name"}


def _read(text: str, kind: type) -> Any:
    if len(text) > _LONGEST:
        raise ValueError(text)
    value = kind(text)
    if kind is float and not -1e300 < value < 1e300:  # NaN and infinity are none of them
        raise ValueError(text)
    return value
