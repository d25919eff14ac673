"""Text whose characters are coloured by what a network does at each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console, ConsoleOptions, RenderableType

from seqscope.errors import DataError
from seqscope.plot import text_axes, text_html, text_terminal
from seqscope.plot.text_parts import Painted, Values, painted

_PICTURES, _PAGES, _DPI = (".png", ".svg", ".pdf"), (".html", ".htm"), 150


@dataclass(frozen=True, repr=False)
class Text:
    """Coloured text: shows itself in a notebook, prints itself in a terminal, draws itself with matplotlib.

    It holds no picture until one is asked for. `plot.text` makes it.
    """

    painted: Painted
    width: int
    title: str | None

    def draw(self, ax: Axes | None = None) -> Axes:
        """Draw with matplotlib; default: on a new figure. The type is as large as the panel allows.

        Raises
        ------
        DataError
            There are more tokens than one picture holds.
        """
        return text_axes.draw(self.painted, ax, width=self.width, title=self.title)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write a page (.html) that needs nothing from outside, or a picture (.png, .svg, .pdf).

        Raises
        ------
        DataError
            The name ends in something else.
        """
        path = Path(path)
        kind = path.suffix.lower()
        if kind not in (*_PAGES, *_PICTURES):
            raise DataError(f"{path.name!r} does not say what to write: expected a name that ends in .html, .png, .svg or .pdf.")
        if kind in _PAGES:
            path.write_text(text_html.page(self.painted, width=self.width, title=self.title), encoding="utf-8")
            return path
        figure = self.draw().figure
        try:
            figure.savefig(path, dpi=_DPI)  # type: ignore[union-attr]
        finally:
            plt.close(figure if isinstance(figure, Figure) else None)
        return path

    def print(self, console: Console | None = None) -> None:
        """Print in the terminal, as `rich.print` does too."""
        (console or Console()).print(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        return text_terminal.lines_of(self.painted, width=self.width, title=self.title, room=options.max_width)

    def _repr_html_(self) -> str:
        return text_html.fragment(self.painted, width=self.width, title=self.title)

    def __repr__(self) -> str:
        n_tokens, n_rows = len(self.painted.tokens), len(self.painted.rows)
        rows = f" in {n_rows} rows" if n_rows > 1 else ""
        return f"Text of {n_tokens} token{'s' if n_tokens > 1 else ''}{rows}: .print() it, .draw() it or .save('text.html')"


def text(
    tokens: str | Iterable[str],
    values: Values,
    *,
    width: int = 80,
    limits: tuple[float, float] | None = None,
    name: str | None = None,
    title: str | None = None,
) -> Text:
    """Colour each character of a text by a unit's activation, a gate or an attribution.

    White space is seen: a space as "·", a newline as "⏎", a tab as "→". Lines are broken between words where they can be. What a value is
    missing for has no colour (in matplotlib it is grey). Several rows stand one below the other, line by line, all in one range of colours.

    This is the one plot that gives no Axes: text is read in a notebook and in a terminal more often than in a figure, so it gives an object
    that shows itself in both, and draws itself with `.draw(ax)`, which gives the Axes.

    Parameters
    ----------
    tokens : str or list of str
        A character, or a word, for each step.
    values : DataArray (time), (time, unit) or any other dims beside time, Dataset, or NumPy array
        The values of one text, as `scope.activations(x, "lstm").sel(unit=[3, 17])` gives them, 16 rows at most; a Dataset has a row for
        each of its arrays, such as the gates of one unit. Values beyond the last token may be padding. An attribution of one-hot characters
        is added up first: `scope.attribute(x, "input_x_gradient").sum("channel", keep_attrs=True)`.
    width : int
        The most letters on a line; fewer where the terminal is narrower.
    limits : (low, high), optional
        The range of the colours, for texts that are to be compared; default: gates from 0 to 1, signed values symmetric about zero, others
        from zero.
    name : str, optional
        What the values are called; default: as the array says.
    title : str, optional
        What to write above.

    Returns
    -------
    Text
        Shows itself in a notebook; `.print()`, `.draw(ax)`, `.save("text.html")`.

    Raises
    ------
    DataError
        The text is empty or no text, or the values are not those of one text or not as many.

    References
    ----------
    Karpathy, Johnson and Fei-Fei, "Visualizing and Understanding Recurrent Networks", 2015, figure 2.

    Examples
    --------
    >>> import seqscope as sq
    >>> shown = sq.plot.text("to be", [0.9, 0.1, -0.4, 0.2, -0.9], name="Activation")
    >>> shown
    Text of 5 tokens: .print() it, .draw() it or .save('text.html')
    >>> ax = shown.draw()
    >>> ax.child_axes[0].get_ylabel()
    'Activation'
    """
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise DataError(f"The width is {width!r}: expected the most letters on a line, a whole number above zero.")
    return Text(painted(tokens, values, limits=limits, name=name), width, title)
