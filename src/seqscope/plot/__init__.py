"""Pictures of the labelled arrays.

One panel takes `ax=` and gives its Axes; several panels take `figure=` and give a dict of Axes. Text, which is read in notebooks and
terminals too, is an object that draws itself. Nothing is shown, no setting of matplotlib is changed.
"""

from seqscope.plot.activations import activations
from seqscope.plot.attention import attention
from seqscope.plot.attribution import attribution, compare_attributions
from seqscope.plot.attribution_class import class_attribution
from seqscope.plot.attribution_mass import attribution_mass
from seqscope.plot.filters import filters
from seqscope.plot.heatmap import heatmap
from seqscope.plot.layers import layers
from seqscope.plot.memory import memory
from seqscope.plot.prototype import prototype
from seqscope.plot.series import series
from seqscope.plot.states import states
from seqscope.plot.style import limits
from seqscope.plot.text import Text, text
from seqscope.plot.top_windows import top_windows
from seqscope.plot.trajectories import trajectories
from seqscope.plot.units import units

__all__ = [
    "Text",
    "activations",
    "attention",
    "attribution",
    "attribution_mass",
    "class_attribution",
    "compare_attributions",
    "filters",
    "heatmap",
    "layers",
    "limits",
    "memory",
    "prototype",
    "series",
    "states",
    "text",
    "top_windows",
    "trajectories",
    "units",
]
