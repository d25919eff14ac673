"""The model that a command is given: MODEL, and the options that say how it is opened. The same for every command, and only here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from seqscope import files
from seqscope.scope import Scope

MODEL_HELP = (
    "A network of the zoo (japanese_vowels), a model file (.keras, .h5, .onnx, TorchScript, .pt2), or module:callable, a function or class "
    "that makes the model."
)

# What a network of the zoo is made of, unless said.
_TORCH = "torch"


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
    """Let a command take MODEL and its options; its first parameter gets them as a `ModelGiven`."""
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    model, *options = inspect.signature(_typed, eval_str=True).parameters.values()
    names = [option.name for option in (model, *options)]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        given = _typed(**{name: values.pop(name) for name in names})
        command(given, **values)

    shown = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (model, *own, *options)]
    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return run


def _typed(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=False)],
    weights: Annotated[
        Path | None,
        typer.Option("--weights", metavar="FILE", help="A file of weights for the model: .safetensors, a state dict, .weights.h5, .h5."),
    ] = None,
    factory: Annotated[
        str | None,
        typer.Option("--factory", metavar="MODULE:CALLABLE", help="What makes the model, where MODEL is a file of weights alone."),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run code from the files (pickles, Lambda layers): only for files from someone you trust.")
    ] = False,
    framework: Annotated[str, typer.Option("--framework", help="What a network of the zoo is made of: torch or keras.")] = _TORCH,
    layout: Annotated[str | None, typer.Option("--layout", help="The order of the model's input axes: NTC, NCT or TNC (NT, TN).")] = None,
) -> ModelGiven:
    return ModelGiven(model, weights, factory, trust, framework, layout)
