"""The layers of a model as a picture."""

from __future__ import annotations

from matplotlib.axes import Axes

from seqscope.layers import Layers
from seqscope.plot import style


def layers(table: Layers, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Draw the layers from input to output: what each is, what it puts out, and how many parameters it holds.

    Parameters
    ----------
    table : Layers
        As `scope.layers` gives it.
    ax : Axes, optional
        Where to draw; default: a new figure.
    title : str, optional
        What to write above; default: the model's name.

    Returns
    -------
    Axes
        x: parameters; y: layers, the input on top.

    Examples
    --------
    >>> import seqscope as sq
    >>> ax = sq.plot.layers(sq.Scope(sq.zoo.japanese_vowels()).layers)
    >>> [label.get_text() for label in ax.get_yticklabels()][1]
    '2  lstm: LSTM with 100 hidden units'
    """
    rows = table.rows()
    ax = style.new_axes(ax, (8.0, 1.2 + 0.32 * len(rows)))
    counts = [0, *(layer.n_params for layer in table)]
    trainable = [0, *(layer.trainable for layer in table)]
    places = range(len(rows))
    ax.barh(places, trainable, color=style.COLORS[0], label="trainable")
    frozen = [count - part for count, part in zip(counts, trainable, strict=True)]
    is_two = any(frozen)
    if is_two:
        ax.barh(places, frozen, left=trainable, color=style.COLORS[4], label="not trainable")
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False)
    for place, (row, count) in enumerate(zip(rows, counts, strict=True)):
        ax.annotate(row[4], (count, place), xytext=(4, 0), textcoords="offset points", va="center")
    ax.set_yticks(list(places), [f"{number}  {name}: {what}" for number, name, what, *_ in rows])
    values = ax.secondary_yaxis("right")
    values.set_yticks(list(places), [row[3] for row in rows])
    values.set_ylabel("Value of one sample")
    for side in (ax, values):
        side.tick_params(axis="y", length=0)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, 1.25 * max([*counts, 1]))
    ax.set_xlabel("Parameters")
    ax.spines["top"].set_visible(False)
    ax.set_title(title if title is not None else table.model, loc="left", pad=30.0 if is_two else None)  # above the legend
    return ax
