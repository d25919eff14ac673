"""The figures that views are made of: on a clock, made once and filled anew."""

from seqscope.explorer.clock import Clock
from seqscope.explorer.heatmap import Heatmap
from seqscope.explorer.letters import Letters
from seqscope.explorer.lines import Lines
from seqscope.explorer.timed import put_clock, timed

__all__ = ["Clock", "Heatmap", "Letters", "Lines", "put_clock", "timed"]
