"""Runs of a graph: a session of onnxruntime for each choice of tensors, made when it is first needed and kept."""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from seqscope.engines import onnx_parts
from seqscope.engines.onnx_graph import Graph
from seqscope.engines.onnx_proto import array_of
from seqscope.errors import ModelError

# Sessions that are kept: a model's receptive fields are found with one for each layer.
_MOST = 256
# What a run refuses is raised, with the words that are otherwise printed.
_SILENT = 4

# What onnxruntime says of a graph that it can't run, and the same for the person who exported it.
_STANDARD = "export the model with operators of ONNX's own"
_OLDER = "export the model for an older one, or bring onnxruntime up to date"
_WORDS = {
    r"No Op registered for (\S+) with domain_version of (\S+)": f"there is no operator '{{0}}' in opset {{1}}: {_STANDARD}",
    r"Fatal error: :?(\S+)\(\S+\) is not a registered function/op": f"it has none for the operator '{{0}}': {_STANDARD}",
    r"In Node, \(\".*?\", (\w+), .* No opset import for domain '(\S*)'": f"it has none for the operator '{{1}}:{{0}}': {_STANDARD}",
    r"Could not find an implementation for (\w+)\((\d+)\)": "it has '{0}' for other kinds of numbers alone: export it in float32",
    r"Opset (\d+) is under development.* till opset (\d+)": f"its opset is {{0}}, and the newest known is {{1}}: {_OLDER}",
    r"Unsupported model IR version: (\d+), max .* (\d+)": f"its IR version is {{0}}, the newest known is {{1}}: {_OLDER}",
    r"Missing opset in the model": "the file does not say for which opset it is: export it again",
    r"In Node, \(\"(.*?)\", (\w+), .* Error (.*)": "something is wrong with the node '{0}' ({1}): {2}",
}
# Places in onnxruntime's own source.
_OWN_PLACES = re.compile(
    r"/onnxruntime_src/\S+ .*?\([^()]*\)+(?: const)? |\w+\.(?:cc|h):\d+ \w+ |^\d+ : [A-Z_]+ : |\(\"?ONNXRuntimeError\"?\)"
)


class Sessions:
    """Runs parts of a graph.

    Parameters
    ----------
    providers : sequence of str, optional
        What onnxruntime computes on; default: all that it has, the fastest first.
    """

    def __init__(self, graph: Graph, *, providers: Sequence[Any] | None = None) -> None:
        self.graph = graph
        self.providers = list(providers) if providers is not None else usable_providers()
        self._made: OrderedDict[tuple[tuple[str, ...], tuple[str, ...]], onnxruntime.InferenceSession] = OrderedDict()
        self._lock = threading.Lock()
        self._weights: dict[str, onnxruntime.OrtValue] = {}

    def run(self, known: Mapping[str, np.ndarray], wanted: Sequence[str]) -> dict[str, np.ndarray]:
        """The wanted tensors, from known ones: the graph's inputs, and any that take the place of what a node gives.

        Raises
        ------
        ModelError
            onnxruntime refused them; its exception is the cause.
        """
        found = {name: np.asarray(known[name]) for name in wanted if name in known}
        found |= {name: self.graph.constant(name) for name in wanted if name in self.graph.constants and name not in found}
        left = sorted({name for name in wanted if name not in found})
        if left:
            session = self.session(known, left)
            fed = {own.name: known[own.name] for own in session.get_inputs() if own.name in known}
            try:
                found |= dict(zip(left, session.run(None, fed), strict=True))
            except Exception as error:
                raise ModelError(f"onnxruntime raised {type(error).__name__}: {in_short(error)}") from error
        return found

    def session(self, known: Iterable[str], wanted: Iterable[str]) -> onnxruntime.InferenceSession:
        """A session that gives tensors in the order of their names.

        Raises
        ------
        ModelError
            onnxruntime can't run the graph.
        """
        key = (tuple(sorted(known)), tuple(sorted(wanted)))
        with self._lock:
            if key not in self._made:
                self._made[key] = self._make(*key)
                if len(self._made) > _MOST:
                    self._made.popitem(last=False)
            self._made.move_to_end(key)
            return self._made[key]

    def _make(self, known: Sequence[str], wanted: Sequence[str]) -> onnxruntime.InferenceSession:
        part = onnx_parts.part(self.graph, known, wanted)
        shared = [tensor.name for tensor in part.graph.initializer if tensor.name in self.graph.large]
        options = session_options()
        if shared:
            options.add_external_initializers(shared, [self._weight(name) for name in shared])
        try:
            return onnxruntime.InferenceSession(part.SerializeToString(), options, providers=self.providers)
        except Exception as error:
            raise ModelError(why_not(error)) from error

    def _weight(self, name: str) -> onnxruntime.OrtValue:
        if name not in self._weights:
            self._weights[name] = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array_of(self.graph.weights[name])))
        return self._weights[name]


def session_options() -> onnxruntime.SessionOptions:
    """Options of a session: no chatter, and as many threads as the environment says."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdecimal():
        options.intra_op_num_threads = int(said)
    return options


def usable_providers() -> list[str]:
    """What onnxruntime computes on here: the GPU where there is one, else the processor. Providers that send data away are left out."""
    here = onnxruntime.get_available_providers()
    return [name for name in here if name in ("CUDAExecutionProvider", "ROCMExecutionProvider")] + ["CPUExecutionProvider"]


def why_not(error: Exception) -> str:
    """Why a graph can't run, as a sentence."""
    text, version = " ".join(str(error).split()), onnxruntime.__version__
    for pattern, said in _WORDS.items():
        if found := re.search(pattern, text):
            return f"onnxruntime {version} can't run the graph: {said.format(*found.groups()).rstrip(' .')}."
    return f"onnxruntime {version} can't run the graph: {in_short(error)}"


def in_short(error: Exception) -> str:
    """What onnxruntime says, on one line, without its own places in the source."""
    text = " ".join(str(error).split())
    text = text.rpartition("Status Message: ")[2] if "Status Message: " in text else text.partition("[ONNXRuntimeError] : ")[2] or text
    return _OWN_PLACES.sub("", text)
