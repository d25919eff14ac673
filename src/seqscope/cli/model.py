"""The model that a command is given: MODEL, and the options that say how it is opened. The same for every command, and only here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from seqscope import files
from seqscope.cli import completing
from seqscope.cli.expand import stand_for
from seqscope.scope import Scope

MODEL_HELP = (
    "A network of the zoo (japanese_vowels), a model file (.keras, .h5, .onnx, TorchScript, .pt2), or module:callable, a function or class "
    "that makes the model."
)

# What a network of the zoo is made of, unless said.
_TORCH = "torch"
_PANEL = "Model"


@dataclass(frozen=True)
class ModelGiven:
    """What a person typed to say which model is meant."""

    name: str
    weights: Path | None
    factory: str | None
    trust: bool
    framework: str
    layout: str | None

    def scope(self, *, example: Any = None) -> Scope:
        """A scope of it."""
        model = files.open_model(self.name, self.weights, framework=self.framework, factory=self.factory, trust=self.trust)
        return Scope(model, layout=self.layout, example=example)

    @property
    def code(self) -> str:
        """The same in Python: "sq.Scope(files.open_model('japanese_vowels'))"."""
        weights = None if self.weights is None else str(self.weights)
        said = {"weights": weights, "factory": self.factory, "trust": self.trust or None}
        said["framework"] = None if self.framework == _TORCH else self.framework
        options = "".join(f", {name}={value!r}" for name, value in said.items() if value is not None)
        return f"sq.Scope(files.open_model({self.name!r}{options}){'' if self.layout is None else f', layout={self.layout!r}'})"


def takes_model(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take MODEL and its options; its parameter `model` gets them as a `ModelGiven`."""
    return stand_for("model", _typed, command, n_first=1)


def takes_model_or(metavar: str, help: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """As `takes_model`, of a command whose first argument may be something else, and is called otherwise."""
    first, *others = inspect.signature(_typed, eval_str=True).parameters.values()
    argument = typer.Argument(metavar=metavar, help=help, show_default=False, autocompletion=completing.models)

    def typed(**values: Any) -> ModelGiven:
        return _typed(**values)

    asked = first.replace(annotation=Annotated[str, argument])
    typed.__signature__ = inspect.Signature([asked, *others])  # type: ignore[attr-defined]
    return lambda command: stand_for("model", typed, command, n_first=1)


def _typed(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=False, autocompletion=completing.models)],
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="A file of weights for the model: .safetensors, a state dict, .weights.h5, .h5.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    factory: Annotated[
        str | None,
        typer.Option(
            "--factory",
            metavar="MODULE:CALLABLE",
            help="What makes the model, where MODEL is a file of weights alone.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Run code from the files (pickles, Lambda layers): only for files from someone you trust.",
            rich_help_panel=_PANEL,
        ),
    ] = False,
    framework: Annotated[
        str,
        typer.Option(
            "--framework",
            help="What a network of the zoo is made of: torch or keras.",
            rich_help_panel=_PANEL,
            autocompletion=completing.one_of("torch", "keras"),
        ),
    ] = _TORCH,
    layout: Annotated[
        str | None,
        typer.Option(
            "--layout",
            help="The order of the model's input axes: NTC, NCT or TNC (NT, TN).",
            rich_help_panel=_PANEL,
            autocompletion=completing.one_of("NTC", "NCT", "TNC", "NT", "TN"),
        ),
    ] = None,
) -> ModelGiven:
    return ModelGiven(model, weights, factory, trust, framework, layout)
