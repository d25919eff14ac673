"""seqscope looks inside trained sequence networks: labelled arrays and pictures of every unit at every time step."""

from seqscope import datasets, errors, plot, zoo
from seqscope._version import __version__
from seqscope.layers import Layer, Layers
from seqscope.scope import Scope
from seqscope.sequences import Sequences

__all__ = ["Layer", "Layers", "Scope", "Sequences", "__version__", "datasets", "errors", "plot", "zoo"]
