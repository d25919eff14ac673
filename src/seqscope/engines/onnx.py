"""The ONNX engine: any graph that onnxruntime runs, seen through outputs added to a copy in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from scipy.special import log_softmax, softmax

from seqscope.cells import CellWeights
from seqscope.engines import onnx_shipping
from seqscope.engines.base import STATES, Dense, Forward, InputHint, Packed, StandIn
from seqscope.engines.holds import NOTHING_HELD, Held
from seqscope.engines.onnx_cells import KINDS as RECURRENT
from seqscope.engines.onnx_feeding import ALONE, STEPPED, Feeding, Passes, feeding_of, one_by_one, run_batch
from seqscope.engines.onnx_files import load_weights, model_of, open_file
from seqscope.engines.onnx_graph import DRAWS, Graph, Node
from seqscope.engines.onnx_inputs import inputs_of
from seqscope.engines.onnx_layers import ARRANGES, Place, Table
from seqscope.engines.onnx_seen import INITIAL, Seen, as_y, put_together, seen_value
from seqscope.engines.onnx_session import Sessions
from seqscope.engines.onnx_states import States
from seqscope.engines.onnx_stream import OnnxStepper
from seqscope.engines.score import score_by_function
from seqscope.errors import LayerError, ModelError, SeqscopeError, UnsupportedError, nearest
from seqscope.layers import Layer

__all__ = ["ENGINE", "OnnxEngine", "load_weights", "open_file"]

# How a model is fed: a function of (model, batch, lengths) that gives what the model gives.
Call = Callable[["Runner", np.ndarray, np.ndarray], Any]

# What scales its numbers by the largest of a batch.
_OVER_BATCHES = ("DynamicQuantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul")
# What is looked through where it comes last.
_LAST = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
_NEVER_RAN = "never ran for this input (inside a branch that was not taken, or a loop that made no step)"
_BENDS: dict[str, Callable[..., np.ndarray]] = {"Softmax": softmax, "LogSoftmax": log_softmax}


class OnnxEngine:
    """An ONNX model.

    Parameters
    ----------
    model : onnx.ModelProto or onnxruntime.InferenceSession
        Of a session the file is read that it was made from; it is run on the session's own providers.
    call : function of (model, batch, lengths), optional
        How to feed it: `model(batch, name=value)` with the values of further inputs; default: `model(batch)`.

    Raises
    ------
    ModelError
        The graph is broken, or has no input that a sequence could go into.
    """

    framework = "onnx"
    merges_lengths = compiles_shapes = False
    in_training: tuple[str, ...] = ()

    def __init__(self, model: Any, *, call: Call | None = None) -> None:
        self.model = model
        self._proto, providers, name = model_of(model)
        self.graph = Graph(self._proto)
        self.model_name = name
        self._sessions = Sessions(self.graph, providers=providers)
        self._sessions.session([info.name for info in self.graph.inputs], self.graph.outputs)  # what can't run is refused here
        self._table = Table(self.graph)
        self.call = call
        self._call: Call = call or (lambda runner, batch, lengths: runner(batch))
        self.feeding: Feeding = feeding_of(inputs_of(self.graph))
        if any(node.op in _OVER_BATCHES and node.input(0) in self.graph.following for node in self.graph.nodes):
            self.feeding = one_by_one(self.feeding)
        self.layouts = self.feeding.layouts
        carried = [(state.input, state.output) for state in self.feeding.inputs.carried]
        self.states = States(self.graph, self._table, carried, stepped=self.feeding.way == STEPPED)

    @staticmethod
    def takes(model: Any) -> bool:
        """Whether this engine is the one for an object."""
        return isinstance(model, onnx.ModelProto | onnxruntime.InferenceSession)

    # What it is made of

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in the order in which they run."""
        places = {node.name: place for place, node in enumerate(self.graph.nodes)}
        rows = [(places[self._table.places[row.name].node.name], row) for row in self._table.rows]
        rows += [(places[self.states.node_of(name).name], row) for name, row in self.states.rows.items()]  # behind what they are made of
        return tuple(row for _, row in sorted(rows, key=lambda placed: placed[0]))

    @cached_property
    def by_name(self) -> Mapping[str, Layer]:
        """Layers, nodes that arrange values, and every tensor."""
        return self._table.by_name() | {name: row for name, row in self.states.rows.items() if name not in self._table.places}

    @cached_property
    def input_hints(self) -> tuple[InputHint, ...]:
        """What the layers take."""
        return tuple(self._table.hints(self.feeding.inputs.main))

    @property
    def runs_each_step(self) -> bool:
        """Whether the graph takes one step, so that it runs for each."""
        return self.feeding.way == STEPPED

    @property
    def recurrent_parts(self) -> Mapping[str, tuple[str, ...]]:
        """The recurrent layers (see `engines.base.HasStates`)."""
        return {name: (name,) for name in self.states.names}

    @property
    def stateless(self) -> Mapping[str, str]:
        """Recurrent layers whose states can't be told (see `engines.base.HasStates`)."""
        return self.states.untold

    attention_layers: tuple[str, ...] = ()

    def recurrent(self, name: str) -> tuple[CellWeights, ...]:
        """The weights of a recurrent layer, one for each direction (see `engines.base.HasStates`)."""
        return self.states.weights(name)

    def dense(self, name: str) -> Dense:
        """What a product with a constant matrix weighs (see `engines.base.HasDense`)."""
        place = self._table.places[name]
        node, constants = place.node, [self.graph.constant(weight) for weight in place.weights]
        matrix, bias = constants[0], constants[1].reshape(-1) if len(constants) > 1 else None
        if node.op == "Gemm":
            matrix = (matrix.T if node.attribute("transB", 0) else matrix) * node.attribute("alpha", 1.0)
            bias = None if bias is None else bias * node.attribute("beta", 1.0)
        n_outputs = matrix.shape[1]
        return Dense(matrix.copy(), np.zeros(n_outputs) if bias is None else np.broadcast_to(bias, (n_outputs,)).copy())

    def kernel(self, name: str) -> np.ndarray:
        """The kernels of a convolution, (unit, tap, channel) (see `engines.base.HasKernels`)."""
        node = self._table.places[name].node
        weight = self.graph.constant(node.input(1))
        if node.op == "Conv":
            return weight.transpose(0, 2, 1).copy()
        channels, filters, taps = weight.shape  # all channels, and the filters of one group
        groups = int(node.attribute("group", 1))
        grouped = weight.reshape(groups, channels // groups, filters, taps)
        return grouped.transpose(0, 2, 3, 1).reshape(groups * filters, taps, channels // groups)

    def contents(self) -> Iterator[str | np.ndarray]:
        """The nodes and the weights (see `engines.base.Travels`)."""
        return onnx_shipping.contents(self.graph)

    def packed(self) -> Packed:
        """The graph, and the function that feeds it (see `engines.base.Travels`)."""
        return onnx_shipping.packed(self.model, self._proto, self.call)

    # What it does

    def forward(
        self,
        batch: np.ndarray,
        lengths: np.ndarray,
        capture: Sequence[str] = (),
        *,
        instead: Mapping[str, StandIn] | None = None,
        padded: bool = False,
        sample_axis: int = 0,
        logits: bool = False,
        target: Callable[[Any], Any] | None = None,
        held: Held = NOTHING_HELD,
    ) -> Forward:
        """Run the graph once (see `engines.base.Engine.forward`)."""
        if held:
            raise UnsupportedError("Units of an ONNX model can't be held: its graph computes them where nothing can be put in.")
        seen = {name: self.seen(name) for name in capture}
        runner = Runner(
            self, tuple(tensor for one in seen.values() for tensor in one.tensors), instead or {}, (lengths, sample_axis), logits=logits
        )
        output = self.fed(runner, batch, lengths)
        found = {name: put_together(runner.passes, one, self.feeding.way) for name, one in seen.items()}
        captured = {f"{name}{behind}": calls for name, by_place in found.items() for behind, calls in by_place.items()}
        refused = {name: _NEVER_RAN for name, by_place in found.items() if not by_place}
        dims = {address: dims for address, calls in captured.items() if STATES in address and (dims := _dims_of(address, calls[0]))}
        scores = None if target is None else self._scores(target, output, len(lengths))
        outputs = [self.output(tensor, runner.passes) for tensor in self.outputs]
        return Forward(outputs[0], len(outputs), captured, self._draws, refused, dims, runner.through, scores)

    def fed(self, runner: Any, batch: np.ndarray, lengths: np.ndarray) -> Any:
        """What the model gives for a batch, by the function that feeds it."""
        try:
            output = self._call(runner, batch, lengths)
        except SeqscopeError:
            raise
        except Exception as error:
            raise ModelError(f"The function that feeds the model raised {type(error).__name__}: {error}") from error
        if not runner.passes.parts:
            raise ModelError("The function that feeds the model never ran it: it is to call model(batch, ...) and give what that gives.")
        return output

    def _scores(self, target: Callable[[Any], Any], output: Any, n_rows: int) -> np.ndarray:
        scores = np.asarray(score_by_function(target, output))
        if scores.shape != (n_rows,):
            raise ModelError(f"The target gave an array of shape {scores.shape}: expected one score for each of the {n_rows} samples.")
        return scores

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The tensors that the model gives, states that are carried aside."""
        carried = {state.output for state in self.feeding.inputs.carried}
        return tuple(name for name in self.graph.outputs if name not in carried) or self.graph.outputs

    @cached_property
    def _draws(self) -> bool:
        return any(node.op in DRAWS for node in self.graph.nodes)

    def seen(self, name: str) -> Seen:
        """How what is captured under a name is made."""
        if name.endswith(STATES):
            return self.states.seen(name.removesuffix(STATES))
        if name in self.states.rows:
            return self.states.value(name)
        place = self._table.places.get(name) or self._table.others.get(name)
        if place is None:
            raise LayerError(f"No layer is named '{name}': {nearest(name, self.by_name)}.")
        return seen_value(place, self.sample_axes.get(place.tensor), self._step_axis(place.tensor))

    def output(self, tensor: str, passes: Passes) -> np.ndarray:
        """An output over all runs: where each is a step, with the steps behind the samples."""
        step_axis = self._step_axis(tensor)
        seen = Seen((tensor,), lambda found: {"": [found[tensor]]}, self.sample_axes.get(tensor), step_axis)
        calls = put_together(passes, seen, self.feeding.way)[""]
        return np.stack(calls, axis=1) if self.feeding.way == STEPPED and step_axis is None else calls[-1]

    def _step_axis(self, tensor: str) -> int | None:
        """The axis of a single step that a tensor of a graph has which takes steps, if it has one."""
        axis, shape = self.feeding.squeezed, self.graph.shapes.get(tensor, ())
        has_one = self.feeding.way == STEPPED and axis is not None and len(shape) == 3 and shape[axis] == 1
        return axis if has_one else None

    @cached_property
    def sample_axes(self) -> Mapping[str, int]:
        """Which axis of a tensor is the samples', where they go through in parts: of as many as the file fixes, or one by one."""
        feeding = self.feeding
        fixed = [axis for axis, n_rows in feeding.rows.items() if n_rows]
        n_rows = 1 if feeding.way == ALONE or not fixed else feeding.rows[fixed[0]]
        with_rows = [state for state in feeding.inputs.states if len(state.shape) > 1 and state.shape[-2] == n_rows]
        axes = {state.input: len(state.shape) - 2 for state in with_rows}
        if feeding.way == ALONE:  # nor does what goes in have a sample axis: recurrent operators put one in
            top = [node for node in self.graph.nodes if node.op in RECURRENT and not node.around]
            axes |= {node.input(0): 0 if node.attribute("layout", 0) else 1 for node in top}
            return self.graph.sample_axes(axes | {node.output(0): 0 if node.attribute("layout", 0) else 2 for node in top})
        if len(fixed) != 1:
            return {}
        behind = feeding.squeezed is not None and feeding.squeezed <= fixed[0]
        return self.graph.sample_axes(axes | {feeding.inputs.main: fixed[0] + behind})

    @property
    def dtype(self) -> np.dtype:
        """What it computes in."""
        kinds = [self.graph.types.get(tensor) for tensor in (*self.outputs, self.feeding.inputs.main)]
        types = [helper.tensor_dtype_to_np_dtype(kind) for kind in kinds if kind]
        return next((dtype for dtype in types if dtype.kind == "f"), np.dtype(np.float32))

    def stepper(self, capture: Sequence[str], states: Sequence[str]) -> OnnxStepper:
        """A copy of the graph that runs one step at a time (see `engines.base.HasStreams`)."""
        return OnnxStepper(self, self._sessions, capture, states)

    # How a part of the batch runs

    def run(self, known: Mapping[str, np.ndarray], wanted: Sequence[str], instead: Mapping[str, StandIn]) -> dict[str, np.ndarray]:
        """The wanted tensors from the graph's inputs; layers that are replaced are computed in their order, each from what is before it."""
        if instead:
            known = dict(known)
            for name, place in self._table.places.items():
                if name in instead:
                    x = self._sessions.run(known, [place.node.input(0)])[place.node.input(0)]
                    known |= self._instead(place, instead[name](x))
        return self._sessions.run(known, wanted)

    def _instead(self, place: Place, value: np.ndarray) -> dict[str, np.ndarray]:
        """What a node would give, from the value that takes its place; a recurrent node's last states have seen every step."""
        node = place.node
        if node.op not in RECURRENT:
            return {place.tensor: self.graph.as_input(place.tensor, value)}
        y = as_y(node, value)
        last = y.max(axis=1 if node.attribute("layout", 0) else 0)
        if node.attribute("layout", 0):
            last = last.reshape(len(y), -1, y.shape[-1])
        given = (y, last, last)
        return {tensor: self.graph.as_input(tensor, array) for tensor, array in zip(node.outputs, given, strict=False) if tensor}

    @cached_property
    def last(self) -> Node | None:
        """The softmax or sigmoid that the model ends in; what only arranges values may come behind it."""
        node = self.graph.producers.get(self.outputs[0])
        while node is not None and node.op in ARRANGES and node.input(0) in self.graph.following:
            node = self.graph.producers.get(node.input(0))
        return node if node is not None and node.op in _LAST and not node.around else None


def _dims_of(address: str, state: np.ndarray) -> tuple[str, ...] | None:
    """What the axes of a state are; None where calls are steps."""
    if state.ndim == 3:
        return "sample", "time", "unit"
    return ("sample", "unit") if address.endswith(INITIAL) else None


class Runner:
    """A model as a function of its inputs, as `call=` gets it.

    `model(batch)` runs it on sequences; `model(batch, name=value)` with values of further inputs, arrays or numbers. It gives the output,
    or a tuple of the outputs where there are several.

    Parameters
    ----------
    samples : pair of int array (sample,) and int
        The length of each sequence, and the axis of the samples.
    """

    def __init__(
        self,
        engine: OnnxEngine,
        tensors: tuple[str, ...],
        instead: Mapping[str, StandIn],
        samples: tuple[np.ndarray, int],
        *,
        logits: bool,
    ) -> None:
        self.passes = Passes()
        self.through = ""
        self._engine, self._instead, (self._lengths, self._sample_axis) = engine, instead, samples
        self._last = engine.last if logits else None
        carried = tuple(state.output for state in engine.feeding.inputs.carried)
        ends = () if self._last is None else (self._last.input(0), self._last.value)
        self._wanted = tuple(dict.fromkeys((*engine.outputs, *carried, *ends, *tensors)))

    def __call__(self, batch: Any, **more: Any) -> Any:
        """Run sequences, in the model's layout."""
        engine = self._engine
        array = np.asarray(batch)
        passes = run_batch(engine.graph, engine.feeding, array, self._lengths, more, self._run, sample_axis=self._sample_axis)
        self.passes.add(passes)
        values = tuple(engine.output(tensor, self.passes) for tensor in engine.outputs)
        return values if len(values) > 1 else values[0]

    def _run(self, known: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        found = self._engine.run(known, self._wanted, self._instead)
        return found if self._last is None else found | self._looked_through(known, found, self._last)

    def _looked_through(self, known: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], last: Node) -> dict[str, np.ndarray]:
        """The output before its softmax or sigmoid, arranged as it is behind it; nothing where that is over another axis than the last."""
        logits, output = found[last.input(0)], self._engine.outputs[0]
        if last.op != "Sigmoid" and not np.allclose(found[last.value], _BENDS[last.op](logits, axis=-1), atol=1e-4):
            return {}
        self.through = _LAST[last.op]
        if last.value == output:
            return {output: logits}
        return self._engine.run({**known, last.value: logits}, (output,), {})


ENGINE = OnnxEngine
