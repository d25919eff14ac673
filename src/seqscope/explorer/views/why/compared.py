"""Two attributions of one sequence, brought to one scale: the numbers of the page's view on why."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import pandas as pd
import xarray as xr

from seqscope.attribution.agreement import Agreement, agreement
from seqscope.errors import SeqscopeError, UnsupportedError
from seqscope.explorer.selection import Chosen
from seqscope.explorer.source import Source
from seqscope.explorer.views.text.characters import characters, why_no_text
from seqscope.explorer.views.why.explaining import Asked, asked_of, usable
from seqscope.labelled import SAMPLE, STEP, UNIT
from seqscope.plot.attribution_parts import Scale, beside, scale_of, sequence_of, summed
from seqscope.plot.attribution_styles import shown
from seqscope.plot.text_parts import Painted, painted

_LOG = logging.getLogger(__name__)
# Characters of a text that is shown as one; a longer one is shown on the time axis.
MOST_LETTERS = 2000
# Of what the colours are, where each method has its own largest value.
SHARE = "Share of each method's largest value"
LANES, HEATMAP, TEXT = "lanes", "heatmap", "text"


@dataclass(frozen=True)
class Side:
    """What one method says.

    Attributes
    ----------
    method : str
    asked : Asked or None
    found : DataArray, Dataset or None
        None where it failed; `failed` then says why.
    array : DataArray or None
        Its values beside the sequence: (time, channel), (time), (time, unit) or (step, unit).
    instead : str
        The method that was asked for, where the model can't do it.
    warned : tuple of str
        What is to be known of it, in sentences.
    """

    method: str
    asked: Asked | None = None
    found: Any = None
    array: xr.DataArray | None = None
    failed: str = ""
    instead: str = ""
    warned: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compared:
    """What two methods say of one sequence.

    Attributes
    ----------
    x : DataArray (time, channel)
        The sequence; of tokens their numbers.
    sides : tuple of Side
    drawn : tuple of DataArray or None
        What is drawn of each side, not yet divided by its size.
    sizes : tuple of float
        What each is divided by.
    scale : Scale
        Of what is drawn, divided: one for both.
    style : {"lanes", "heatmap", "text"}
    agreement : Agreement or None
    text : Painted or None
        The characters with a row for each side, where the data is text.
    """

    x: xr.DataArray
    sides: tuple[Side, Side]
    drawn: tuple[xr.DataArray | None, ...]
    sizes: tuple[float, ...]
    scale: Scale
    style: str
    agreement: Agreement | None
    text: Painted | None = None

    @property
    def there(self) -> dict[str, Side]:
        """The sides that did not fail, by the name to write above them."""
        named: dict[str, Side] = {}
        for side in self.sides:
            if side.array is not None:
                named[side.method if side.method not in named else f"{side.method}, again"] = side
        return named

    def table(self) -> pd.DataFrame:
        """A row for each value of each method."""
        frames = []
        for side in self.there.values():
            array: Any = side.array
            values = array.reset_coords(drop=True).rename("attribution").to_dataframe().reset_index()
            frames.append(values[[*array.dims, "attribution"]].assign(method=side.method))
        empty = pd.DataFrame({"method": [], "attribution": []})
        return pd.concat(frames, ignore_index=True).set_index("method").reset_index() if frames else empty


def compared(source: Source, chosen: Chosen) -> Compared:
    """Ask both methods, and bring what they say to one scale.

    Raises
    ------
    UnsupportedError
        There is no model.
    DataError
        There are no inputs.
    """
    if source.scope is None:
        raise UnsupportedError(
            "What a decision rests on is asked of the model, and this is a recording alone: give the model too, as in "
            "seqscope explore STORE --model MODEL."
        )
    x = sequence_of(source.inputs()[chosen.sample], None)
    first = usable(source, chosen.method, chosen.versus)
    second = usable(source, chosen.versus, first)
    sides = (_side(source, chosen, first, chosen.method, x), _side(source, chosen, second, chosen.versus, x))
    there = [side.array for side in sides if side.array is not None]
    style = _style(source, chosen, there)
    drawn = tuple(None if side.array is None else _drawn(style, side, side.array) for side in sides)
    sizes = tuple(1.0 if one is None or chosen.sizes == "raw" else float(abs(one).max()) or 1.0 for one in drawn)
    divided = [one / size for one, size in zip(drawn, sizes, strict=True) if one is not None]
    scale = scale_of(divided, None) if divided else Scale(1.0, signed=True)
    alike = None if drawn[0] is None or drawn[1] is None else agreement(drawn[0], drawn[1])
    made = Compared(x, sides, drawn, sizes, scale, style, alike)
    return made if style != TEXT else Compared(x, sides, drawn, sizes, scale, style, alike, _painted(source, chosen, made))


def _side(source: Source, chosen: Chosen, method: str, wanted: str, x: xr.DataArray) -> Side:
    """Ask one method; what fails is said in its place."""
    scope, X, asked = source.scope, source.inputs(), None
    replaced = wanted if method != wanted else ""
    try:
        asked = wish = asked_of(source, chosen, method)
        if scope is None:
            raise UnsupportedError("There is no model.")
        told = source.once(("attribution", chosen.sample, asked), lambda: wish.found(scope, X, chosen.sample))
        return Side(method, asked, told.result, beside(x, told.result, None), instead=replaced, warned=told.warned)
    except SeqscopeError as error:
        return Side(method, asked, failed=error.message, instead=replaced)
    except Exception as error:
        _LOG.exception("The method '%s' failed.", method)
        return Side(method, asked, failed=f"This method failed ({type(error).__name__}: {error}).", instead=replaced)


def _style(source: Source, chosen: Chosen, there: list[xr.DataArray]) -> str:
    """As text where it is one; a heatmap where all are at a layer's units; else lanes of channels."""
    is_short = int(source.lengths[chosen.sample]) <= MOST_LETTERS
    if there and is_short and not any(STEP in array.dims for array in there) and not why_no_text(source):
        return TEXT
    return HEATMAP if there and all(UNIT in array.dims for array in there) else LANES


def _drawn(style: str, side: Side, array: xr.DataArray) -> xr.DataArray:
    if style != TEXT:
        return shown(style, array)[0]
    return array.mean(str(array.dims[1]), keep_attrs=True) if is_of_steps(side) else summed(array)


def is_of_steps(side: Side) -> bool:
    """Whether whole steps were hidden, so that each channel was given all of it."""
    return side.asked is not None and side.asked.channels == "all"


def _painted(source: Source, chosen: Chosen, made: Compared) -> Painted:
    """The characters with a row of values for each method."""
    rows = {}
    for name, one, size in zip(_names(made), made.drawn, made.sizes, strict=True):
        if one is not None:
            rows[name] = (one / size).reset_coords(drop=True).drop_vars(SAMPLE, errors="ignore")
    return painted(characters(source, chosen.sample), xr.Dataset(rows), limits=None, name=name_of(made, chosen))


def _names(made: Compared) -> list[str]:
    named = iter(made.there)
    return ["" if one is None else next(named) for one in made.drawn]


def name_of(made: Compared, chosen: Chosen) -> str:
    """What the colours are."""
    name = SHARE if chosen.sizes != "raw" else "Attribution"
    summed_up = any(side.array is not None and side.array.ndim > 1 and not is_of_steps(side) for side in made.sides)
    return name + (", sums over each character" if made.style == TEXT and summed_up else "")
