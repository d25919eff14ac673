"""The views of the page, a file for each, in the order of their tabs."""

from seqscope.explorer.views.live.view import Live
from seqscope.explorer.views.match.view import Match
from seqscope.explorer.views.sample.view import Sample
from seqscope.explorer.views.samples.view import Samples
from seqscope.explorer.views.samples_map.view import SamplesMap
from seqscope.explorer.views.text.view import Text
from seqscope.explorer.views.unit.view import Unit
from seqscope.explorer.views.view import View
from seqscope.explorer.views.why.view import Why

# Beside all others, and those of which one is seen at a time.
SIDE: tuple[type[View], ...] = (Samples, SamplesMap)
MAIN: tuple[type[View], ...] = (Sample, Unit, Match, Why, Live, Text)
