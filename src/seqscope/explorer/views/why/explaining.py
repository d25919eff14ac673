"""What is asked of an attribution: from what is chosen to a call of `scope.attribute`, and the same call as Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from seqscope import target as targets
from seqscope.attribution import METHODS
from seqscope.attribution.baselines import NAMES as BASELINES
from seqscope.attribution.method import EITHER, LAYER, Method
from seqscope.errors import DataError, UnsupportedError, hearing, nearest, quoted
from seqscope.explorer.selection import Chosen
from seqscope.explorer.source import Source
from seqscope.explorer.views.text.characters import why_no_text
from seqscope.labelled import OUTPUT, OUTPUT_TIME
from seqscope.scope import Scope
from seqscope.sequences import Sequences

# In place of an output's name: the unit that is chosen, so that what it is on for is explained.
UNIT = "@unit"
# Steps over all rows that a method may run the model on, and those that occlusion keeps to by taking longer windows.
_MOST_STEPS, _FEW_STEPS = 20_000_000, 2_000_000
# Steps of the data that means, noise and other sequences are taken from.
_REFERENCE_STEPS = 200_000
# What takes the place of a method that the model can't do.
_FIRST = ("integrated_gradients", "occlusion", "feature_ablation", "score_cam")
_DRAWN_FROM_DATA = ("mean", "noise", "swap")


@dataclass(frozen=True)
class Told:
    """An attribution, and what `scope.attribute` warned of."""

    result: xr.DataArray | xr.Dataset
    warned: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return int(self.result.nbytes)


@dataclass(frozen=True)
class Asked:
    """One call of `scope.attribute`, but for the sequence.

    Attributes
    ----------
    method : str
    target : str, int, Output, Unit or None
    layer, baseline : str or None
    n_reference : int or None
        How many sequences of the data, from the first on, are given as the reference; None: none is needed.
    window : int or None
        Of occlusion, where a step at a time would take too long.
    channels : str or None
        Of occlusion: "all" where a step is one thing, a character.
    """

    method: str
    target: Any = None
    layer: str | None = None
    baseline: str | None = None
    n_reference: int | None = None
    window: int | None = None
    channels: str | None = None

    def made(self) -> Method:
        """The method with its options."""
        said = {"window": self.window, "channels": self.channels}
        made: Method = METHODS[self.method](**{name: value for name, value in said.items() if value is not None})
        return made

    def found(self, scope: Scope, X: Sequences, sample: int) -> Told:
        """The attribution of one sequence, and what is to be known of it.

        Raises
        ------
        UnsupportedError
            It would take too long for a page.
        SeqscopeError
            As `scope.attribute` does.
        """
        self._refuse_long(X, sample)
        options: dict[str, Any] = {name: value for name, value in self._options().items() if name != "reference"}
        if self.n_reference is not None:
            options["reference"] = X[: self.n_reference]
        with hearing() as heard:
            return Told(scope.attribute(X[sample], self.method, progress=False, **options), tuple(heard))

    def _refuse_long(self, X: Sequences, sample: int) -> None:
        n_steps = int(X.lengths[sample])
        n_rows = self.made().n_variants(n_steps, X.n_channels or 1)
        if n_rows * n_steps > _MOST_STEPS:
            raise UnsupportedError(
                f"{self.method} would run the model on {n_rows:,} variants of these {n_steps:,} steps, which is too much for a page: take "
                "another method, or run it in Python."
            )

    def _options(self) -> dict[str, Any]:
        """The arguments that are not as they are anyway."""
        said = {"target": self.target, "layer": self.layer, "baseline": self.baseline}
        said |= {"window": self.window, "channels": self.channels}
        return {name: value for name, value in said.items() if value is not None}

    def code(self, sample: int, n_samples: int) -> str:
        """The call as Python."""
        said = "".join(f", {name}={_as_python(value)}" for name, value in self._options().items())
        if self.n_reference is not None:
            said += ", reference=X" if self.n_reference == n_samples else f", reference=X[:{self.n_reference}]"
        return f"scope.attribute(X[{sample}], {self.method!r}{said})"


def _as_python(value: Any) -> str:
    if isinstance(value, targets.Output):
        name = "" if value.name is None else f"{value.name!r}, "
        return f"sq.target.output({name}time={value.time})"
    if isinstance(value, targets.Unit):
        said = "".join(f", {name}={given!r}" for name, given in (("state", value.state), ("direction", value.direction)) if given)
        return f"sq.target.unit({value.layer!r}, {value.unit}{said}, time={value.time})"
    return repr(value)


def asked_of(source: Source, chosen: Chosen, method: str) -> Asked:
    """What is chosen, for one method; what the method has no use for is left out."""
    X, kind = source.inputs(), METHODS[method]
    made: Method = kind()
    layer = chosen.place if kind.place in (EITHER, LAYER) else ""
    if X.is_tokens and kind.place == EITHER and made.needs_gradient and not layer:
        layer = embedding_of(source)
    baseline = chosen.baseline if made.uses_baseline and method != "expected_gradients" else ""
    draws = baseline in _DRAWN_FROM_DATA or method == "expected_gradients"
    n_steps, is_occlusion = int(X.lengths[chosen.sample]), method == "occlusion"
    by_step = is_occlusion and not X.is_tokens and not why_no_text(source)
    return Asked(
        method,
        target=_target(source, chosen) if kind.has_target else None,
        layer=layer or None,
        baseline=baseline or None,
        n_reference=_enough(X) if draws else None,
        window=_window(n_steps, 1 if by_step else X.n_channels or 1) if is_occlusion else None,
        channels="all" if by_step else None,
    )


def _target(source: Source, chosen: Chosen) -> Any:
    if chosen.target == UNIT and UNIT not in source.outputs:
        state, _, direction = chosen.state.partition(".")
        return targets.unit(chosen.layer, chosen.unit, state=state or None, time=chosen.at, direction=direction or None)
    name = None if not chosen.target else _output(source, chosen.target)
    return targets.output(name, time=chosen.at) if has_steps(source) else name


def _output(source: Source, said: str) -> str | int:
    """An output by the name that the data knows it by, else by its position."""
    known = source.inputs().outputs or ()
    return said if said in known else source.outputs.index(said)


def has_steps(source: Source) -> bool:
    """Whether there is an output at every step."""
    return OUTPUT_TIME in source.predictions().dims


def embedding_of(source: Source) -> str:
    """The layer that embeds tokens; "" where there is none."""
    return next((name for name, shown in source.layers.items() if shown.kind == "embedding"), "")


def _enough(X: Sequences) -> int:
    """As many sequences as are needed to draw from."""
    return max(1, min(len(X), int(np.searchsorted(np.cumsum(X.lengths), _REFERENCE_STEPS)) + 1))


def _window(n_steps: int, n_channels: int) -> int | None:
    """A window for occlusion with which a long series takes no longer than a person waits; None: one step at a time."""
    n_rows = max(64, _FEW_STEPS // n_steps)
    return None if n_steps * n_channels <= n_rows else min(n_steps, 2 * -(-n_steps * n_channels // n_rows))


def usable(source: Source, wanted: str, other: str) -> str:
    """A method that the model can do: the one that is wanted, else one that is told of first, and not the one it is compared with."""
    able = methods_of(source)
    if wanted in able or not able:
        return wanted
    return next((name for name in (*_FIRST, *able) if name in able and name != other), able[0])


def methods_of(source: Source) -> tuple[str, ...]:
    """The methods that the model can do on such data."""
    if source.scope is None:
        return ()
    able = source.scope.methods
    if not source.inputs().is_tokens or embedding_of(source):
        return able
    return tuple(name for name in able if METHODS[name].place != EITHER or not METHODS[name]().needs_gradient)


def baselines_of(source: Source) -> tuple[str, ...]:
    """What can be compared with."""
    return tuple(name for name in BASELINES if not (source.inputs().is_tokens and name in ("mean", "blur")))


# What an address may say


def check_method(value: str) -> str:
    """A method that there is.

    Raises
    ------
    DataError
    """
    if value not in METHODS:
        raise DataError(f"There is no method '{value}': {nearest(value, METHODS)}.")
    return value


def check_target(source: Source, value: str) -> str:
    """An output that there is, or the unit that is chosen.

    Raises
    ------
    DataError
    """
    known = [str(name) for name in source.predictions().coords[OUTPUT].values]
    if value and value != UNIT and value not in known:
        raise DataError(f"There is no output '{value}' to explain: {nearest(value, known)}.")
    return value


def check_baseline(value: str) -> str:
    """A baseline that there is.

    Raises
    ------
    DataError
    """
    if value and value not in BASELINES:
        raise DataError(f"There is no baseline '{value}': expected one of {quoted(BASELINES)}.")
    return value


def check_step(value: int) -> int:
    """A step counted from the first, or the last.

    Raises
    ------
    DataError
    """
    if value < -1:
        raise DataError(f"There is no step {value}: expected 0 for the first, or -1 for the last.")
    return value
