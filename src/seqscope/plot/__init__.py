"""Pictures of the labelled arrays.

One panel takes `ax=` and gives its Axes; several panels take `figure=` and give a dict of Axes. Nothing is shown, no setting of
matplotlib is changed.
"""

from seqscope.plot.activations import activations
from seqscope.plot.filters import filters
from seqscope.plot.heatmap import heatmap
from seqscope.plot.layers import layers
from seqscope.plot.series import series
from seqscope.plot.style import limits

__all__ = ["activations", "filters", "heatmap", "layers", "limits", "series"]
