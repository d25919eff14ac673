"""Which methods a model can do, told without explaining anything with them."""

from __future__ import annotations

from seqscope.attribution import METHODS, ScoreCAM, TemporalSaliencyRescaling
from seqscope.attribution.asked import asked_for
from seqscope.attribution.cam import CAM
from seqscope.attribution.heads import AttentionPooling
from seqscope.attribution.method import LAYER, OF_HEAD, Method
from seqscope.attribution.place import place_for
from seqscope.attribution.verb import attribute
from seqscope.engines.base import Engine, HasDense, HasGradients, HasHeads
from seqscope.errors import SeqscopeError, hearing
from seqscope.feed import Feed
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen

# Methods that keep or hide parts of a step, which tokens do not have.
_NOT_OF_TOKENS = (ScoreCAM, TemporalSaliencyRescaling)
# The head that takes the plain mean, so that it has no weights to show.
_WITHOUT_WEIGHTS = "InstancePooling"


def able(specimen: Specimen) -> tuple[str, ...]:
    """The names of the methods that work on a model, in the order of `METHODS`."""
    data = specimen.some_data()
    return tuple(name for name, kind in METHODS.items() if _works(kind(), specimen, data))


def _works(method: Method, specimen: Specimen, data: tuple[Sequences, Feed] | None) -> bool:
    engine = specimen.engine
    if method.needs_gradient and not isinstance(engine, HasGradients):
        return False
    if method.place == OF_HEAD:
        return bool(_heads_for(method, engine))
    if data is None:  # it runs on nothing that was tried: only the data itself will tell
        return method.place != LAYER
    sequences, feed = data
    if sequences.is_tokens and isinstance(method, _NOT_OF_TOKENS):
        return False
    if method.place != LAYER:
        return True
    if isinstance(method, CAM):
        return _reads_a_mean(sequences, feed)
    try:
        place_for(method.name, LAYER, None, specimen, feed, sequences)
    except SeqscopeError:
        return False
    return True


def _heads_for(method: Method, engine: Engine) -> list[str]:
    heads = engine.heads if isinstance(engine, HasHeads) else ()
    weighs = isinstance(method, AttentionPooling)
    return [name for name in heads if not weighs or engine.by_name[name].type != _WITHOUT_WEIGHTS]


def _reads_a_mean(sequences: Sequences, feed: Feed) -> bool:
    """Whether a dense layer reads the mean of a layer over time, as `cam` needs it: tried on one sequence, by the method itself."""
    engine = feed.engine
    if not isinstance(engine, HasDense) or not any(layer.kind == "linear" for layer in engine.layers):
        return False
    fresh = Specimen(engine, layout=feed.layout)  # what is tried is no example that a person gave
    more = {"layer": None, "baseline": None, "reference": None, "seed": 0, "memory": None, "absolute": False, "over": None}
    with hearing():  # a trial warns nobody
        try:
            attribute(fresh, sequences[:1], None, asked_for("cam", {}, **more), None, False)
        except SeqscopeError:
            return False
    return True
