"""The Python and the picture on paper of two attributions that are compared."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from seqscope.explorer.selection import Chosen
from seqscope.explorer.source import Source
from seqscope.explorer.views.text.characters import code_of
from seqscope.explorer.views.why.compared import LANES, TEXT, Compared, Side, is_of_steps, name_of
from seqscope.labelled import CHANNEL
from seqscope.plot import text_axes

_VARIABLES = ("first", "second")
_COLUMNS = 80


def python_of(source: Source, chosen: Chosen, made: Compared) -> str:
    """The lines that make what is seen, from `scope` and `X` on."""
    there = made.there
    if not there:
        return "scope.methods"
    calls = [_call(source, chosen, side, is_text=made.style == TEXT) for side in there.values()]
    lines = [f"{variable} = {call}" for variable, call in zip(_VARIABLES, calls, strict=False)]
    named = ", ".join(f"{name!r}: {variable}" for name, variable in zip(there, _VARIABLES, strict=False))
    if made.style == TEXT:
        return "\n".join([*_text_opening(source, chosen), *lines, *_text_lines(source, chosen, made)])
    if len(there) == 1:
        return "\n".join([*lines, f"sq.plot.attribution(X[{chosen.sample}], first, style={made.style!r})"])
    more = "" if chosen.sizes != "raw" else ", normalize=False"
    return "\n".join([*lines, f"sq.plot.compare_attributions(X[{chosen.sample}], {{{named}}}, style={made.style!r}{more})"])


def _call(source: Source, chosen: Chosen, side: Side, *, is_text: bool) -> str:
    asked, array = side.asked, side.array
    if asked is None or array is None:
        return "None"
    code = asked.code(chosen.sample, len(source))
    if not is_text:
        return code
    code += '["map"]' if "map" in side.found else ""
    dims = [str(dim) for dim in array.dims[1:]]
    return code + (f".{'mean' if is_of_steps(side) else 'sum'}({dims[0]!r})" if dims else "") + ".reset_coords(drop=True)"


def _text_opening(source: Source, chosen: Chosen) -> list[str]:
    of = ["from seqscope.text import text_of"] if code_of(source, chosen.sample).startswith("text_of") else []
    return ["import xarray as xr", *of]


def _text_lines(source: Source, chosen: Chosen, made: Compared) -> list[str]:
    is_raw = chosen.sizes == "raw"
    rows = [
        f"{name!r}: {variable}" + ("" if is_raw else f" / abs({variable}).max()")
        for name, variable in zip(made.there, _VARIABLES, strict=False)
    ]
    text, name = code_of(source, chosen.sample), name_of(made, chosen)
    return [f"rows = xr.Dataset({{{', '.join(rows)}}})", f"sq.plot.text({text}, rows, name={name!r})"]


def picture_of(chosen: Chosen, made: Compared) -> Figure:
    """The same picture, on a figure of its own."""
    from seqscope import plot

    figure = Figure(figsize=_size(made), layout="constrained")
    found = {name: side.found for name, side in made.there.items()}
    if made.text is not None:
        text_axes.draw(made.text, figure.subplots(), width=_COLUMNS, title=None)
    elif len(found) == 1:
        plot.attribution(made.x, next(iter(found.values())), style=_style(made), ax=figure.subplots())
    elif found:
        plot.compare_attributions(made.x, found, style=_style(made), normalize=chosen.sizes != "raw", figure=figure)
    return figure


def _style(made: Compared) -> Any:
    return made.style


def _size(made: Compared) -> tuple[float, float]:
    if made.text is not None:
        return 10.5, 1.5 + 0.21 * (len(made.text.rows) + 0.5) * len(made.text.lines(_COLUMNS))
    n_units = max((one.shape[-1] for one in made.drawn if one is not None), default=1)
    n_lanes = made.x.sizes.get(CHANNEL, 1) if made.style == LANES else n_units
    return (10.0 if len(made.there) > 1 else 8.0), min(12.0, 1.8 + 0.3 * n_lanes)
