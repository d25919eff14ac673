"""The layers of a model as data, and the table that shows them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from seqscope.reach import Reach

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Layer:
    """One layer of a model.

    Attributes
    ----------
    name : str
        Its name in the model, dotted where models are nested (`encoder.lstm`).
    kind : str
        What it is, in the same words for every framework: `lstm`, `conv1d`, `linear`, `softmax`, ... or `other`.
    type : str
        The framework's own class name.
    description : str
        What it is in a few words: "LSTM with 100 hidden units".
    n_params : int
        Its parameters, running statistics included; a parameter that several layers share counts with the first.
    trainable : int
        How many of them training would change.
    native_dims : tuple of str or None
        What the axes of its value are by its kind: `sample`, `time`, `unit`; None where the kind does not tell.
    directions : int
        2 for a bidirectional layer, whose units are those of the forward pass, then those of the backward pass.
    reach : Reach or None
        Which places of its input each place of its value depends on, from its own parameters; None where the kind does not tell.
    dims, shape : tuple or None
        Its value for one sample of the example: names and sizes of the axes (None: as many as the data has steps). None until the
        model has run.
    calls : int or None
        How often it is called in one pass; 0: never reached. None until the model has run.
    field : int, str or None
        How many input steps one of its steps sees, away from the borders; "all", "all before" or "all after" where memory or attention
        carries the rest to it. None where it has no steps, or where that can't be known.
    stride : float or None
        How many input steps lie between one of its steps and the next; None where that differs or can't be known.
    """

    name: str
    kind: str
    type: str
    description: str
    n_params: int
    trainable: int
    native_dims: tuple[str, ...] | None = None
    directions: int = 1
    reach: Reach | None = None
    dims: tuple[str, ...] | None = None
    shape: tuple[int | None, ...] | None = None
    calls: int | None = None
    field: int | str | None = None
    stride: float | None = None

    @property
    def sees(self) -> str:
        """What one of its steps sees of the input, in words: "53 steps, every 5"."""
        if self.field is None:
            return ""
        what = self.field if isinstance(self.field, str) else f"{self.field} step{'s' if self.field != 1 else ''}"
        if self.stride is None or self.stride == 1:
            return what
        return f"{what}, backwards" if self.stride == -1 else f"{what}, every {self.stride:g}"

    @property
    def output(self) -> str:
        """Its value for one sample, in words: "time 29 x unit 100"."""
        if self.calls == 0:
            return "not reached"
        if self.dims is None or self.shape is None:
            return ""
        axes = zip(self.dims, self.shape, strict=True)
        return " x ".join(dim if size is None else f"{dim} {size}" for dim, size in axes) or "one value"


@dataclass(frozen=True)
class ModelInput:
    """What the model takes: the first row of the table.

    Attributes
    ----------
    description : str
        "sequence input with 12 dimensions".
    layout : str or None
        The order of its axes; None where it is not known yet.
    shape : str
        One sample of the example: "time 29 x channel 12".
    """

    description: str
    layout: str | None
    shape: str = ""


class Layers(tuple[Layer, ...]):
    """The layers in execution order: a tuple that shows as a table in a terminal and in a notebook.

    Attributes
    ----------
    input : ModelInput
        What the model takes.
    model : str
        The name of the model's class.
    note : str
        What the table can't tell yet, and why.
    """

    input: ModelInput
    model: str
    note: str

    def __new__(cls, layers: Iterable[Layer], *, input: ModelInput, model: str, note: str = "") -> Layers:
        """Make the table of these layers."""
        made = super().__new__(cls, tuple(layers))
        made.input, made.model, made.note = input, model, note
        return made

    @property
    def n_params(self) -> int:
        """All parameters of the model."""
        return sum(layer.n_params for layer in self)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the layers."""
        return tuple(layer.name for layer in self)

    def to_dataframe(self) -> pd.DataFrame:
        """One row a layer, in execution order."""
        import pandas as pd

        columns = ("name", "kind", "type", "description", "output", "n_params", "trainable", "calls", "field", "stride")
        return pd.DataFrame([{column: getattr(layer, column) for column in columns} for layer in self], columns=list(columns))

    def rows(self) -> list[tuple[str, str, str, str, str, str]]:
        """The rows of the table: position, name, description, value for one sample, parameters, what a step sees of the input."""
        first = ("1", "input", self.input.description, self.input.shape, "", "")
        rest = [
            (str(place), layer.name, layer.description, layer.output, f"{layer.n_params:,}", layer.sees)
            for place, layer in enumerate(self, start=2)
        ]
        return [first, *rest]

    @property
    def caption(self) -> str:
        """The last line of the table."""
        frozen = self.n_params - sum(layer.trainable for layer in self)
        parts = [f"{self.n_params:,} parameters" + (f", {frozen:,} not trainable" if frozen else "")]
        if self.input.layout:
            parts.append(f"layout {self.input.layout}")
        return "; ".join([*parts, self.note] if self.note else parts)

    def __rich__(self) -> Table:
        table = Table(title=self.model, caption=self.caption, title_justify="left", caption_justify="left")
        for heading, justify in zip(HEADINGS, ("right", "left", "left", "left", "right", "left"), strict=True):
            table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
        for row in self.rows():
            table.add_row(*row)
        return table

    def __repr__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=110, force_terminal=False, color_system=None).print(self)
        return text.getvalue().rstrip()

    def _repr_html_(self) -> str:
        from html import escape

        head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows())
        return f"<table><caption>{escape(self.model)}: {escape(self.caption)}</caption><tr>{head}</tr>{body}</table>"


HEADINGS = ("#", "Name", "Layer", "Value of one sample", "Parameters", "Sees")
