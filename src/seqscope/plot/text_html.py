"""Coloured text as HTML that needs nothing from outside, on light pages and dark ones."""

from __future__ import annotations

from html import escape

from seqscope.plot.text_parts import Cell, Painted, shade

_BLOCK = "font-family:ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;font-size:14px;line-height:1.45;overflow-x:auto;"
_LINE = "white-space:pre;"
_ASIDE = "opacity:.65;user-select:none;"
_BAR = "display:inline-block;width:16em;height:1em;vertical-align:middle;border-radius:2px;background:linear-gradient(to right,{});"
_NUMBERS = "display:inline-flex;width:16em;justify-content:space-between;"
_STOPS = 17


def fragment(text: Painted, *, width: int, title: str | None) -> str:
    """What a notebook shows: a title, what the colours mean, and the lines."""
    lines = text.lines(width)
    gutter = max(len(text.positions[cells[0].place]) for cells in lines)
    margin = max(map(len, text.rows)) if len(text.rows) > 1 else 0
    blocks = [_block(text, cells, gutter, margin) for cells in lines]
    head = f'<div style="font-weight:bold;">{escape(title)}</div>' if title else ""
    return f'<div class="seqscope-text" style="{_BLOCK}">{head}{_legend(text)}{"".join(blocks)}</div>'


def page(text: Painted, *, width: int, title: str | None) -> str:
    """A file of its own."""
    head = '<meta charset="utf-8"><meta name="color-scheme" content="light dark">'
    head += '<meta name="viewport" content="width=device-width">'
    named = f"<title>{escape(title or text.legend)}</title>"
    body = fragment(text, width=width, title=title)
    return f'<!doctype html>\n<html lang="und"><head>{head}{named}</head>\n<body style="margin:1.5em;">{body}</body></html>\n'


def _legend(text: Painted) -> str:
    """The colours from low to high, with their numbers below."""
    stops = ",".join(shade(text.cmap, stop / (_STOPS - 1))[0] for stop in range(_STOPS))
    numbers = "".join(f"<span>{value:.3g}</span>" for value, _ in text.ends)
    return (
        f'<div class="legend" style="margin:.3em 0 .8em;"><span style="{_BAR.format(stops)}"></span> {escape(text.legend)}<br>'
        f'<span style="{_NUMBERS}">{numbers}</span></div>'
    )


def _block(text: Painted, cells: list[Cell], gutter: int, margin: int) -> str:
    """One line of the text, once for each row."""
    space = "margin-bottom:.6em;" if margin else ""
    rows = []
    for row, name in enumerate(text.rows):
        first = text.positions[cells[0].place] if row == 0 else ""
        aside = first.rjust(gutter) + "  " + (name.ljust(margin) + "  " if margin else "")
        rows.append(f'<div style="{_LINE}"><span style="{_ASIDE}">{escape(aside)}</span>{_line(text, cells, row)}</div>')
    return f'<div style="{space}">{"".join(rows)}</div>'


def _line(text: Painted, cells: list[Cell], row: int) -> str:
    """The tokens of one line, and the gaps between words."""
    parts, column = [], 0
    for cell in cells:
        colours = text.colours(row, cell.place)
        look = f' style="background:{colours[0]};color:{colours[1]};"' if colours else ""
        gap = " " * (cell.column - column)
        parts.append(f'{gap}<span title="{escape(text.said(row, cell.place))}"{look}>{escape(cell.seen)}</span>')
        column = cell.column + cell.width
    return "".join(parts)
