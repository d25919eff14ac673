"""The figures that views are made of: on a clock, made once and filled anew."""

from seqscope.explorer.figures.clock import Clock
from seqscope.explorer.figures.heatmap import Heatmap
from seqscope.explorer.figures.letters import Letters
from seqscope.explorer.figures.lines import Lines
from seqscope.explorer.figures.timed import put_clock, timed

__all__ = ["Clock", "Heatmap", "Letters", "Lines", "put_clock", "timed"]
