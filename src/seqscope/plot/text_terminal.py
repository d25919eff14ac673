"""Coloured text in a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.style import Style
from rich.text import Text

from seqscope.plot.text_parts import Cell, Painted, shade

_BAR = 24
_ASIDE = Style(dim=True)


def lines_of(text: Painted, *, width: int, title: str | None, room: int) -> Iterator[Text]:
    """The title, what the colours mean, and the lines, broken earlier where the terminal is narrower than they are."""
    gutter = max(map(len, text.positions))
    margin = max(map(len, text.rows)) if len(text.rows) > 1 else 0
    aside = gutter + 2 + (margin + 2 if margin else 0)
    if title:
        yield Text(title, style="bold")
    yield _legend(text)
    for cells in text.lines(max(1, min(width, room - aside))):
        for row, name in enumerate(text.rows):
            first = text.positions[cells[0].place] if row == 0 else ""
            beside = first.rjust(gutter) + "  " + (name.ljust(margin) + "  " if margin else "")
            yield _line(text, cells, row, beside)
        if margin:
            yield Text("")


def _legend(text: Painted) -> Text:
    """The colours from low to high, their numbers on them where they lie, and what they stand for."""
    low, *middle, high = [(f"{value:.3g}", part) for value, part in text.ends]
    letters = [" "] * _BAR
    for number, part in middle:
        letters[round(part * (_BAR - 1))] = number
    legend = Text(f"{low[0]} ", no_wrap=True, overflow="ellipsis")
    for place, letter in enumerate(letters):
        back, ink = shade(text.cmap, place / (_BAR - 1))
        legend.append(letter, Style(color=ink, bgcolor=back))
    return legend.append(f" {high[0]}  {text.legend}")


def _line(text: Painted, cells: list[Cell], row: int, beside: str) -> Text:
    """The tokens of one line, and the gaps between words."""
    line = Text(no_wrap=True, overflow="ellipsis").append(beside, _ASIDE)
    column = 0
    for cell in cells:
        colours = text.colours(row, cell.place)
        line.append(" " * (cell.column - column))
        line.append(cell.seen, Style(color=colours[1], bgcolor=colours[0]) if colours else None)
        column = cell.column + cell.width
    return line
