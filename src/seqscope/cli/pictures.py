"""What commands draw."""

from __future__ import annotations

from typing import Any

import xarray as xr

from seqscope import labelled
from seqscope.errors import UnsupportedError, quoted


def draw_without_screen() -> None:
    """A command draws into files, so it must not look for a screen; set for this process, which is seqscope's own."""
    import matplotlib

    matplotlib.use("agg")


def drawn(shown: xr.DataArray, result: xr.DataArray | xr.Dataset | xr.DataTree, sample: int, units: list[int] | None) -> Any:
    """A figure of one sample's input above one layer's units or states: of the first that the result holds, which is that sample."""
    draw_without_screen()
    layer = one_layer(result)
    chosen = layer.isel({labelled.SAMPLE: 0}) if labelled.SAMPLE in layer.dims else layer
    title = f"{layer.attrs['layer']}, sample {sample}"
    if isinstance(chosen, xr.DataArray):
        from seqscope import plot as plots

        return plots.activations(shown, chosen, unit=units, title=title)["input"].get_figure(root=True)
    return _states_drawn(shown, chosen, units, title)


def one_layer(result: xr.DataArray | xr.Dataset | xr.DataTree) -> xr.DataArray | xr.Dataset:
    """The layer that a picture is to show: the one that was named, or the only one that a glob fits.

    Raises
    ------
    UnsupportedError
        There are several.
    """
    if not isinstance(result, xr.DataTree):
        return result
    if len(result.children) > 1:
        raise UnsupportedError(
            f"A picture shows one layer, and {len(result.children)} were asked for, {quoted(result.children)}: name one with --layer."
        )
    (node,) = result.children.values()
    layer = node.to_dataset()
    return xr.DataArray(layer[labelled.ACTIVATIONS]) if list(layer) == [labelled.ACTIVATIONS] else layer


def _states_drawn(shown: xr.DataArray, states: xr.Dataset, units: list[int] | None, title: str) -> Any:
    """The states of one layer; of a bidirectional one, both directions side by side."""
    import matplotlib.pyplot as plt

    from seqscope import plot as plots

    if labelled.DIRECTION not in states.dims:
        return plots.states(shown, states, unit=units, title=title)["input"].get_figure(root=True)
    ways = states.coords[labelled.DIRECTION].values.tolist()
    figure = plt.figure(figsize=(8.0 * len(ways), 9.0), layout="constrained")
    for part, way in zip(figure.subfigures(1, len(ways), squeeze=False).flat, ways, strict=True):
        plots.states(shown, states.sel({labelled.DIRECTION: way}), unit=units, figure=part, title=f"{title}, {way}")
    return figure
