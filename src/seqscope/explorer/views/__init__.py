"""The views of the page, a file for each, in the order of their tabs."""

from seqscope.explorer.views.live import Live
from seqscope.explorer.views.match import Match
from seqscope.explorer.views.sample import Sample
from seqscope.explorer.views.samples import Samples
from seqscope.explorer.views.samples_map import SamplesMap
from seqscope.explorer.views.text import Text
from seqscope.explorer.views.unit import Unit
from seqscope.explorer.views.view import View
from seqscope.explorer.views.why import Why

# Beside all others, and those of which one is seen at a time.
SIDE: tuple[type[View], ...] = (Samples, SamplesMap)
MAIN: tuple[type[View], ...] = (Sample, Unit, Match, Why, Live, Text)
