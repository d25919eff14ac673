"""Units: what each does over a data set, what drives it, where units do it together, and the paths of the states through time.

Every function takes what `scope.activations(X, layer)` gives, in memory, in chunks (dask) or in a store that was
opened lazily, and reads it block by block along the samples. Where it takes `client=`, the workers of a Dask cluster do so.
"""

from seqscope.units.ablation import ablation
from seqscope.units.clocks import clock_of
from seqscope.units.matching import match
from seqscope.units.neighbours import nearest
from seqscope.units.ordering import order
from seqscope.units.projection import project
from seqscope.units.statistics import summary
from seqscope.units.windows import top_windows

__all__ = ["ablation", "clock_of", "match", "nearest", "order", "project", "summary", "top_windows"]
