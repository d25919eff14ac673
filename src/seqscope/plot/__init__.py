"""Pictures of the labelled arrays.

One panel takes `ax=` and gives its Axes; several panels take `figure=` and give a dict of Axes. Nothing is shown, no setting of
matplotlib is changed.
"""

from seqscope.plot.activations import activations
from seqscope.plot.attention import attention
from seqscope.plot.filters import filters
from seqscope.plot.heatmap import heatmap
from seqscope.plot.layers import layers
from seqscope.plot.memory import memory
from seqscope.plot.series import series
from seqscope.plot.states import states
from seqscope.plot.style import limits

__all__ = ["activations", "attention", "filters", "heatmap", "layers", "limits", "memory", "series", "states"]
