"""Scope: the one door. Each verb is a few lines that hand over to the room that does it."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from seqscope import ablation, attention, labelled, layouts, memory
from seqscope.attribution.able import able
from seqscope.attribution.asked import asked_for
from seqscope.attribution.labelling import reduced
from seqscope.attribution.verb import attribute
from seqscope.axes import OUTPUT_VALUE
from seqscope.collect import collect
from seqscope.engines.base import WEIGHTS, Engine, HasKernels, engine_for
from seqscope.errors import LayerError, ModelError, UnsupportedError, in_call, require
from seqscope.files.models import model_of
from seqscope.kernels import convolution, spacing
from seqscope.layers import Layers
from seqscope.maximization.ascent import Effort
from seqscope.maximization.asked import Asked
from seqscope.maximization.verb import maximize
from seqscope.randomness import state_kept
from seqscope.selection import select
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen
from seqscope.states import choose_recurrent, in_order, label_states, one_recurrent, recurrent_parts, see_states
from seqscope.stream import Stream
from seqscope.stream_check import open_stream

if TYPE_CHECKING:
    from seqscope.recording.asked import States
    from seqscope.recording.reading import Recording


class Scope:
    """Look inside a trained sequence model.

    Parameters
    ----------
    model : torch.nn.Module, keras.Layer, onnx.ModelProto, onnxruntime.InferenceSession, or path of a model file
        A trained model, which is never changed. Stateful Keras layers start every sequence from zero states, as after `reset_states`.
        A file is opened for what it holds: `.keras`, `.h5`, `.onnx`, TorchScript, `.pt2`, a pickled module. With `factory` it is a file
        of weights.
    weights : path, optional
        Weights for the model: a torch state dict, `.safetensors`, `.weights.h5`, `.h5`. They go into a copy, which `model` then gives.
    factory : str or callable, optional
        What makes the model that a file of weights is for: "module:callable", or a function or class that is called with nothing.
    trust : bool
        Whether code from a file may run, as it does wherever a file is unpickled: only for a file from someone you trust.
    custom_objects : dict, optional
        Classes and functions of your own that a Keras file names.
    outputs : sequence of str, optional
        The names of the model's outputs (classes); default: those of the data, else 0, 1, ...
    layout : {"NTC", "NCT", "TNC", "NT", "TN"}, optional
        The order of the axes that the model takes: N samples, T time, C channels; tokens have no C. Default: found by trying.
    example : optional
        Data of the kind that the model takes, for `layers`; default: the first data that a verb is given, else noise.
    call : function of (model, batch, lengths), optional
        How to feed a model that takes lengths, masks or several inputs: it gets the batch in the model's layout and the length of
        each sequence, both as native tensors, and gives what the model gives. Default: `model(batch)`.

    Raises
    ------
    ModelError
        The object is no model of a known framework, or its inside can't be seen; a file is not there, is no model, holds weights alone,
        or would run code.

    Examples
    --------
    >>> import seqscope as sq
    >>> scope = sq.Scope(sq.zoo.japanese_vowels())
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> scope.activations(X[0], "lstm").sizes
    Frozen({'time': 19, 'unit': 100})
    """

    def __init__(
        self,
        model: Any = None,
        *,
        weights: str | os.PathLike[str] | None = None,
        factory: str | Callable[[], Any] | None = None,
        trust: bool = False,
        custom_objects: Mapping[str, Any] | None = None,
        outputs: Sequence[Hashable] | None = None,
        layout: str | None = None,
        example: Any = None,
        call: Callable[[Any, Any, Any], Any] | None = None,
    ) -> None:
        with in_call(lambda: f"Scope({str(model)!r})" if isinstance(model, str | os.PathLike) else "Scope"):
            file = model if isinstance(model, str | os.PathLike) else None
            self._opened_from = (file, weights, factory, trust, custom_objects)
            model = model_of(model, weights=weights, factory=factory, trust=trust, custom_objects=custom_objects)
            self._engine: Engine = engine_for(model, call=call)
        self._outputs = None if outputs is None else tuple(outputs)
        self._specimen = Specimen(self._engine, layout=None if layout is None else layouts.check(layout))
        if example is not None:
            with _verb(lambda: self._describe("Scope", example)):
                self._specimen.show(self._specimen.take_in(example)[0])

    @property
    def model(self) -> Any:
        """The object that was given; what was opened or filled, where a file was."""
        return self._engine.model

    @property
    def digest(self) -> str:
        """What tells the model from others: 64 hexadecimal digits, of its class, its layers, and each bit of its weights.

        Raises
        ------
        UnsupportedError
            The engine does not say what its model computes with.

        Examples
        --------
        >>> import seqscope as sq
        >>> sq.Scope(sq.zoo.japanese_vowels()).digest == sq.Scope(sq.zoo.japanese_vowels()).digest
        True
        """
        from seqscope.engines.shipping import fingerprint

        return fingerprint(self._engine)

    def __repr__(self) -> str:
        layers = self._engine.layers
        total = sum(layer.n_params for layer in layers)
        return f"Scope of {self._engine.model_name} ({self._engine.framework}): {len(layers)} layers, {total:,} parameters"

    # The verbs

    def sequences(self, X: Any) -> Sequences:
        """The data as every verb takes it in: an array without names in the model's own layout.

        Raises
        ------
        DataError, ModelError

        Examples
        --------
        >>> import numpy as np
        >>> import seqscope as sq
        >>> sq.Scope(sq.zoo.japanese_vowels()).sequences(np.zeros((4, 20, 12)))
        Sequences: 4 sequences, 20 steps, 12 channels
        """
        with _verb(lambda: self._describe("sequences", X)):
            return self._specimen.take_in(X)[0]

    @property
    def layers(self) -> Layers:
        """The layers in execution order: a tuple of `Layer` that shows as a table.

        Examples
        --------
        >>> import seqscope as sq
        >>> scope = sq.Scope(sq.zoo.japanese_vowels())
        >>> [(layer.name, layer.description, layer.n_params) for layer in scope.layers]
        [('lstm', 'LSTM with 100 hidden units', 45600), ('fc', 'fully connected 9', 909), ('softmax', 'softmax', 0)]
        """
        with _verb(lambda: f"layers of {self._engine.model_name}"):
            return self._specimen.layers()

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods of attribution that this model can do, by the names that `attribute` takes.

        It is told by what the framework offers (derivatives), by the layers, and for `cam` by one pass over one sequence. Each is
        there that works with its usual options on some data; what the data and the target ask for besides, `attribute` says: methods of
        derivatives need `layer=` where the model takes tokens.

        Examples
        --------
        >>> import seqscope as sq
        >>> methods = sq.Scope(sq.zoo.japanese_vowels()).methods
        >>> "integrated_gradients" in methods, "instances" in methods
        (True, False)
        """
        with _verb(lambda: f"methods of {self._engine.model_name}"):
            return self._specimen.once("methods", lambda: able(self._specimen))

    def predict(self, X: Any, *, batch_size: int | None = None, progress: bool | None = None) -> xr.DataArray:
        """What the model puts out.

        Parameters
        ----------
        X : Sequences, or anything that `Sequences` takes
            An array without names has the layout that the model takes.
        batch_size : int, optional
            Sequences at a time; by default as many as suit the memory.
        progress : bool, optional
            Whether to show a bar; default: where standard error is a terminal and the work is long.

        Returns
        -------
        DataArray (sample, output), (sample, output_time, output) where outputs have steps
            Without `sample` where one sequence was given. In the model's own units: probabilities where it ends in a softmax. Of a
            model that gives several tensors, the first, which the attribute `tensor` says; `call=` can choose another.

        Raises
        ------
        DataError, ModelError, TooLargeError

        Examples
        --------
        >>> import seqscope as sq
        >>> X, y = sq.datasets.japanese_vowels("test")
        >>> probability = sq.Scope(sq.zoo.japanese_vowels()).predict(X)
        >>> probability.sizes, bool((probability.idxmax("output") == y).mean() > 0.9)
        (Frozen({'sample': 370, 'output': 9}), True)
        """
        with _verb(lambda: self._describe("predict", X)):
            sequences, feed = self._specimen.take_in(X)
            reading = self._specimen.readings(feed, sequences, (OUTPUT_VALUE,))[OUTPUT_VALUE]
            if isinstance(reading, LayerError):
                raise ModelError(f"The model's output {reading.message}.")
            found = collect(feed, sequences, {OUTPUT_VALUE: reading}, (), batch_size=batch_size, show_progress=progress)
            self._specimen.show(sequences)
            return self._specimen.label_output(feed, found[OUTPUT_VALUE], sequences, self._outputs)

    def activations(
        self,
        X: Any,
        layers: str | Sequence[str] | None = None,
        *,
        batch_size: int | None = None,
        progress: bool | None = None,
    ) -> xr.DataArray | xr.DataTree:
        """What layers put out at every time step.

        Parameters
        ----------
        X : Sequences, or anything that `Sequences` takes
            An array without names has the layout that the model takes.
        layers : str, or sequence of str, optional
            A name, of a layer or of a container around layers, gives its array; a glob over the layers ("encoder.*"), several names,
            or nothing (every layer) a tree. A layer that gives several tensors has a name for each: "branch[0]", "branch[1]".
        batch_size : int, optional
            Sequences at a time; by default as many as suit the memory.
        progress : bool, optional
            Whether to show a bar; default: where standard error is a terminal and the work is long.

        Returns
        -------
        DataArray (sample, time, unit), or a DataTree with one node (`activations`) a layer
            Without `sample` where one sequence was given. `step` in place of `time` where the layer has a clock of its own, with the
            coordinates `time` (the middle of what a step sees of the input), `time_start` and `time_end` (the first and the last
            input step that it sees) in the input's time, where they can be known; no such dim where it has no steps; `call` where it
            is called several times. NaN after the end of a sequence. What can't be told has a neutral name (`axis_1`). `unit` has the
            coordinate `direction` in bidirectional layers.

        Raises
        ------
        LayerError
            No layer has that name (the nearest ones are given), or it never ran.
        DataError, ModelError, TooLargeError

        Examples
        --------
        >>> import seqscope as sq
        >>> X, y = sq.datasets.japanese_vowels("test")
        >>> scope = sq.Scope(sq.zoo.japanese_vowels())
        >>> scope.activations(X, "lstm").dims
        ('sample', 'time', 'unit')
        >>> sorted(scope.activations(X[:5]).children)
        ['fc', 'lstm', 'softmax']
        """
        with _verb(lambda: self._describe("activations", X, layers)):
            selection = select(layers, tuple(self._engine.by_name), [layer.name for layer in self._engine.layers])
            sequences, feed = self._specimen.take_in(X)
            readings = selection.pick(self._specimen.readings(feed, sequences, selection.capture))
            found = collect(feed, sequences, readings, selection.capture, batch_size=batch_size, show_progress=progress)
            self._specimen.show(sequences)
            fields = self._specimen.place_steps(feed, sequences, readings, found)
            arrays = {
                address: self._specimen.label_layer(address, value, sequences, fields.get(address)) for address, value in found.items()
            }
            return next(iter(arrays.values())) if selection.one else labelled.tree(arrays, self._specimen.attrs("activations"))

    def states(
        self,
        X: Any,
        layer: str | Sequence[str] | None = None,
        *,
        batch_size: int | None = None,
        progress: bool | None = None,
    ) -> xr.Dataset | xr.DataTree:
        """Hidden states, memory cells and gates of recurrent layers at every time step.

        They follow from the layer's own weights, input and hidden states by the equations of its kind (`seqscope.cells`), and are
        compared with what the layer gives.

        Parameters
        ----------
        X : Sequences, or anything that `Sequences` takes
            An array without names has the layout that the model takes.
        layer : str, or sequence of str, optional
            The name of a recurrent layer, or of a cell that the model loops over, gives its Dataset; the name of a stack, a glob,
            several names, or nothing (every recurrent layer) a tree.
        batch_size : int, optional
            Sequences at a time; by default as many as suit the memory.
        progress : bool, optional
            Whether to show a bar; default: where standard error is a terminal and the work is long.

        Returns
        -------
        Dataset of arrays (sample, time, unit), or a DataTree with one node a layer
            LSTM: `h` hidden state, `c` cell state, `i` input gate, `f` forget gate, `g` candidate, `o` output gate. GRU: `h`, `r` reset
            gate, `z` update gate, `n` candidate; h is (1 - z) n + z times the h before. RNN: `h`, and `a` before the nonlinearity. With
            a dim `direction` where the layer is bidirectional, the backward one aligned to input time; a projected LSTM's h has the
            dim `projection`. Time and samples as in `activations`. NaN after the end of a sequence, and gates where a mask leaves a
            step out.

        Raises
        ------
        UnsupportedError
            The layer is not recurrent (those that are are named), or its cell has options that the equations do not cover.
        LayerError
            No layer has that name, it never ran, or it gives other values than its equations.
        DataError, ModelError, TooLargeError

        Notes
        -----
        Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000 (LSTM); Cho et al. 2014 (GRU); Elman 1990 (RNN).

        Examples
        --------
        >>> import seqscope as sq
        >>> X, y = sq.datasets.japanese_vowels("test")
        >>> states = sq.Scope(sq.zoo.japanese_vowels()).states(X[0], "lstm")
        >>> list(states), states.c.dims
        (['h', 'c', 'i', 'f', 'g', 'o'], ('time', 'unit'))
        """
        with _verb(lambda: self._describe("states", X, layer)):
            wanted = choose_recurrent(layer, self._engine)
            seen = see_states(self._specimen, X, wanted.parts, by_name=wanted.by_name, batch_size=batch_size, show_progress=progress)
            found = {part: label_states(self._specimen, part, seen, in_order(seen.of(part)), "states") for part in seen.parts}
            return next(iter(found.values())) if wanted.one else labelled.tree(found, self._specimen.attrs("states"))

    def memory(self, X: Any, layer: str | None = None, *, time: int | None = None, batch_size: int | None = None) -> xr.Dataset:
        """What a cell state is made of: how much of what each step wrote is left in the end.

        An LSTM's cell state is a sum over the steps that wrote it, c_T = sum over t of (f_T ... f_{t+1}) i_t g_t, plus what is left of
        the initial state, f_T ... f_1 c_0. A GRU's hidden state is one too, with z in place of f and (1 - z) n in place of i g.

        Parameters
        ----------
        X : Sequences, or anything that `Sequences` takes
        layer : str, optional
            An LSTM or a GRU; default: the only recurrent layer.
        time : int, optional
            The step whose state is taken apart; default: each sequence's last one (the first for the backward direction).

        Returns
        -------
        Dataset
            `written` (sample, time, unit): what each step wrote, as far as it is left; 0 after `time`, NaN after the end. `initial`
            (sample, unit): what is left of the initial state. Both sum to the state. `half_life` (unit): the steps after which half of
            what was written is left, ln(1/2) over the mean of ln f over the data. With `direction` where the layer is bidirectional,
            with `call` where it is called several times.

        Raises
        ------
        UnsupportedError
            The layer keeps no such sum, or there are several and none was named.
        LayerError, DataError, ModelError, TooLargeError

        Examples
        --------
        >>> import numpy as np
        >>> import seqscope as sq
        >>> X, y = sq.datasets.japanese_vowels("test")
        >>> scope = sq.Scope(sq.zoo.japanese_vowels())
        >>> memory = scope.memory(X[0], "lstm")
        >>> c = scope.states(X[0], "lstm").c.isel(time=-1)
        >>> bool(np.allclose(memory.written.sum("time") + memory.initial, c, atol=1e-5))
        True
        """
        with _verb(lambda: self._describe("memory", X, layer)):
            part = one_recurrent(layer, self._engine)
            seen = see_states(self._specimen, X, (part,), batch_size=batch_size)
            ablation.refuse_sum(self._specimen, part, seen.kind(part))
            return label_states(self._specimen, part, seen, memory.labelled_parts(seen, part, time), "memory")

    def memory_share(self, X: Any, layer: str | None = None, target: Any = None, *, batch_size: int | None = None) -> xr.Dataset:
        """Each step's share in a logit that a dense layer reads from an LSTM's last hidden state.

        By the telescoping of Murdoch and Szlam 2017, "Automatic Rule Extraction from Long Short Term Memory Networks": with C_t the part
        of the last cell state that the steps up to t wrote, step t has the share w . o_T (tanh C_t - tanh C_{t-1}). This is a
        decomposition of one number, and not a cause: the gates that a share depends on have themselves seen other steps.

        Parameters
        ----------
        X : Sequences, or anything that `Sequences` takes
        layer : str, optional
            An LSTM; default: the only recurrent layer.
        target : int or str, or one for each sequence, optional
            The output, by position or name; default: the one with the largest logit.

        Returns
        -------
        Dataset
            `share` (sample, time), `initial` (sample) for the initial state, `bias` (sample); they sum to `logit` (sample). `target`
            (sample) is a coordinate.

        Raises
        ------
        UnsupportedError
            The layer is no LSTM of one direction, or no dense layer reads its last hidden state.
        LayerError, DataError, ModelError, TooLargeError

        Examples
        --------
        >>> import seqscope as sq
        >>> X, y = sq.datasets.japanese_vowels("test")
        >>> share = sq.Scope(sq.zoo.japanese_vowels()).memory_share(X[0], "lstm", target=0)
        >>> bool(abs(share.share.sum() + share.initial + share.bias - share.logit) < 1e-5)
        True
        """
        with _verb(lambda: self._describe("memory_share", X, layer)):
            part = one_recurrent(layer, self._engine)
            ablation.refuse_share(self._specimen, part)
            dense = memory.dense_layers(self._engine)
            seen = see_states(self._specimen, X, (part,), batch_size=batch_size, also=tuple(dense))
            names = self._outputs or seen.sequences.outputs
            parts, targets, readout = memory.labelled_shares(seen, part, self._engine, dense, target, names)
            made = label_states(self._specimen, part, seen, parts, "memory_share")
            return made.assign_coords(target=targets).assign_attrs(readout=readout)

    def stream(
        self,
        batch_size: int = 1,
        *,
        check: Any = None,
        layers: str | Sequence[str] | None = None,
        states: str | Sequence[str] | None = None,
    ) -> Stream:
        """Run the model one step at a time, its state carried, as a live feed gives the steps.

        The model itself runs on one step, its recurrent layers from the state where they ended, its causal convolutions over their last
        inputs. So this works for models whose steps meet in such layers alone. A sequence is streamed and run whole at the start, and a
        model that gives something else is refused. Where it makes an initial state of its own, step 0 starts from that.

        Parameters
        ----------
        batch_size : int
            Streams side by side.
        check : optional
            The sequence to check with, its first 100 steps at most; default: the example that the scope was given, else seeded noise.
        layers : str, or sequence of str, optional
            The layers whose activations each step shows; default: the recurrent ones.
        states : str, or sequence of str, optional
            The recurrent layers whose states each step shows; default: all.

        Returns
        -------
        Stream
            `step(x_t)` runs a step; `state` can be read and set; `reset(streams)` lets some start anew; a context manager.

        Raises
        ------
        UnsupportedError
            The model can't be streamed; says which layer needs steps that are still to come.
        LayerError, DataError, ModelError

        Examples
        --------
        >>> import seqscope as sq
        >>> X, y = sq.datasets.japanese_vowels("test")
        >>> scope = sq.Scope(sq.zoo.japanese_vowels())
        >>> with scope.stream(check=X[:1]) as stream:
        ...     hidden = [stream.step(x_t).activations["lstm"] for x_t in X[0]]
        >>> bool(abs(hidden[-1] - scope.activations(X[0], "lstm").isel(time=-1)).max() < 1e-5)
        True
        """
        with _verb(lambda: f"stream({batch_size!r}) of {self._engine.model_name}"):
            ablation.refuse_stream(self._specimen)
            parts = recurrent_parts(states, self._engine)
            data = self._specimen.some_data() if check is None else self._specimen.take_in(check)
            if data is None:
                raise ModelError("The model ran on nothing that was tried: say what it takes, with scope.stream(check=X[:1]).")
            return open_stream(self._specimen, batch_size, *data, layers=layers, states=parts, outputs=self._outputs)

    def attention(
        self,
        X: Any,
        layer: str | Sequence[str] | None = None,
        *,
        batch_size: int | None = None,
        progress: bool | None = None,
    ) -> xr.DataArray | xr.DataTree:
        """Attention weights: how much of each key's value a query takes in, also where the model never asks for them.

        They say where a layer looks, and not what a decision rests on: other weights may lead to the same decision (Jain and Wallace
        2019, "Attention is not Explanation").

        Parameters
        ----------
        X : Sequences, or anything that `Sequences` takes
            An array without names has the layout that the model takes.
        layer : str, or sequence of str, optional
            The name of an attention layer, or of a container around one, gives its array; a glob over the attention layers, several
            names, or nothing (every attention layer) a tree.
        batch_size : int, optional
            Sequences at a time; by default as many as suit the memory.
        progress : bool, optional
            Whether to show a bar; default: where standard error is a terminal and the work is long.

        Returns
        -------
        DataArray (sample, head, query, key), or a DataTree with one node (`attention`) a layer
            They sum to 1 over `key`; those of a query that a mask leaves no key are NaN in torch and 0 in Keras. Without `sample` where
            one sequence was given; `call` behind it where the layer is called several times. `query` and `key` have the input's time
            where they are the input's steps, else numbers from 0. NaN where a sequence has ended.

        Raises
        ------
        UnsupportedError
            The layer has no attention weights; those that have are named.
        LayerError
            No layer has that name (the nearest ones are given), or it never ran.
        DataError, ModelError, TooLargeError

        Notes
        -----
        Vaswani et al. 2017, "Attention Is All You Need"; Bahdanau, Cho and Bengio 2015 (additive attention).

        Examples
        --------
        >>> import torch
        >>> import seqscope as sq
        >>> X, y = sq.datasets.japanese_vowels("test")
        >>> layer = torch.nn.TransformerEncoderLayer(12, nhead=2, dim_feedforward=16, batch_first=True)
        >>> weights = sq.Scope(layer).attention(X[0], "self_attn")
        >>> dict(weights.sizes), bool(abs(weights.sum("key") - 1).max() < 1e-6)
        ({'head': 2, 'query': 19, 'key': 19}, True)
        """
        with _verb(lambda: self._describe("attention", X, layer)):
            wanted = attention.choose(layer, self._engine)
            sequences, feed = self._specimen.take_in(X)
            readings = attention.pick(self._specimen.readings(feed, sequences, wanted.capture), wanted)
            found = collect(feed, sequences, readings, tuple(readings), batch_size=batch_size, show_progress=progress)
            self._specimen.show(sequences)
            arrays = {
                (name := address.removesuffix(WEIGHTS)): attention.label(self._specimen, name, value, feed, sequences)
                for address, value in found.items()
            }
            return next(iter(arrays.values())) if wanted.one else labelled.tree(arrays, self._specimen.attrs("attention"))

    def attribute(
        self,
        X: Any,
        method: Any = "integrated_gradients",
        *,
        target: Any = None,
        layer: str | None = None,
        baseline: Any = None,
        reference: Any = None,
        seed: int = 0,
        memory: str | int | None = None,
        abs: bool = False,
        reduce: str | None = None,
        progress: bool | None = None,
        **options: Any,
    ) -> xr.DataArray | xr.Dataset:
        """Which values of the input, or of a layer, a score rests on.

        The score is the logit: a final softmax, log-softmax or sigmoid is looked through where it can be seen; the attribute `score`
        says what it is.

        Parameters
        ----------
        X : Sequences, or anything that `Sequences` takes
        method : str, or one of `seqscope.attribution`
            gradient, saliency, input_x_gradient, integrated_gradients, expected_gradients, smooth_grad; cam, grad_cam, grad_cam_pp,
            layer_cam, score_cam; occlusion, feature_ablation; temporal_saliency_rescaling; of models that end in a head of `seqscope.nn`
            instances, attention_pooling.
        target : optional
            An output by position or name, one for all sequences or one for each; default: the predicted one. `seqscope.target` has
            outputs at a step, units, gates and cells. Or a function of what the model gives, as native tensors.
        layer : str, optional
            Where derivatives are taken; default: the input, for class activation maps the last convolution.
        baseline : optional
            What the input is compared with: "zero" (the default, and the mean of a standardised series), "mean", "blur", "noise", "swap",
            a number, an array (channel) or (time, channel), a sequence, one for each sequence (sample, time, channel), or several.
        reference : optional
            Data for means, noise, other sequences and expected gradients; default: X.
        seed : int
            Of what is drawn, together with each sequence's id.
        memory : str or int, optional
            Bytes that a batch may take, such as "1GB"; default: a quarter of what is free.
        abs : bool
            Whether to give sizes in place of signed values.
        reduce : {"channel", "time"}, optional
            What to sum over.
        progress : bool, optional
            Whether to show a bar; default: where standard error is a terminal and the work is long.
        **options
            The method's own: see its dataclass in `seqscope.attribution`.

        Returns
        -------
        DataArray (sample, time, channel); (sample, time) for tokens; at a layer as its activations, (sample, time, unit)
            In units of the score, for derivatives in units of the score for a unit of the input. With a dim `output_time` where the target
            is every step. NaN after the end of a sequence. Coordinates `target`, `predicted` and `score` of each sequence; of integrated
            gradients `gap`, how far the sum is from the change of the score, as a share of it.
        Dataset, of class activation maps, and of what a head says of itself
            `native` on the layer's clock, and `map` (sample, time) on the input's: each step of the layer spread over the input steps that
            it sees, most on their centre. Where the layer has a clock of its own, `native` has the dim `step` with what each sees,
            `time_centre`, `time_start`, `time_end`; else both are the same.

        Raises
        ------
        UnsupportedError
            There is no such method, or it can't be used on this model or at this place.
        LayerError, DataError, ModelError, TooLargeError

        Examples
        --------
        >>> import seqscope as sq
        >>> X, y = sq.datasets.japanese_vowels("test")
        >>> scope = sq.Scope(sq.zoo.japanese_vowels())
        >>> found = scope.attribute(X[0], "integrated_gradients", target="1")
        >>> found.dims, found.attrs["score"], bool(found.gap < 0.05)
        (('time', 'channel'), 'logit', True)
        """
        wanted = f"{method!r}" if isinstance(method, str) else type(method).__name__
        with _verb(lambda: self._describe(f"attribute {wanted}", X)):
            more = {"baseline": baseline, "reference": reference, "seed": seed, "memory": memory, "absolute": abs, "over": reduce}
            asked = asked_for(method, options, layer=layer, **more)
            found = attribute(self._specimen, X, target, asked, self._outputs, progress)
            return reduced(found, asked)

    def maximize(
        self,
        target: Any,
        *,
        like: Any = None,
        length: int | None = None,
        objective: str | None = None,
        parameterisation: str = "fourier",
        restarts: int = 4,
        steps: int = 300,
        rate: float = 0.05,
        total_variation: float = 0.2,
        norm: float = 0.3,
        jitter: int = 2,
        scale: float = 0.05,
        bounds: Any = None,
        reach: float = 0.99,
        n_real: int = 5,
        seed: int = 0,
        progress: bool | None = None,
    ) -> xr.Dataset:
        """An input that a class or a unit asks for: activation maximization.

        From random series, gradient ascent on the score (Adam, over several restarts in one batch) with what keeps the result readable:
        slow changes before fast ones, penalties, bounds, and small moves in time while it goes. What one class alone asks for is seen by
        the margin over the best other output: the score itself also rises with what all classes share.

        Parameters
        ----------
        target : int, str, or one of `seqscope.target`
            As in `attribute`; one, for all restarts.
        like : Sequences, or anything that `Sequences` takes, optional
            Real data: each channel's mean, standard deviation and extremes, which are the bounds; the real sequences that score highest;
            how far outside the data the result lies. Default: channels of mean 0 and standard deviation 1, no bounds.
        length : int, optional
            Steps; default: the median of `like`.
        objective : {"logit", "margin"}, optional
            What is raised: the score, or how far it lies above the best other output. Default: the margin where outputs compete, which is
            where there are several that do not end in sigmoids.
        parameterisation : {"fourier", "components", "raw"}
            What is searched in: Fourier coefficients weighed with 1/f; principal components of `like`; the values themselves.
        restarts : int
            Random beginnings.
        steps : int
            Iterations at most. The ascent ends sooner where hardly anything is gained any more.
        rate : float
            Adam's step, in standard deviations of the channels.
        total_variation, norm : float
            What is paid for a mean change of one standard deviation from step to step, and for a mean square of 1: as a share of what
            the score would gain, by its first slope, if all values moved by a standard deviation.
        jitter : int
            Steps by which the series is moved in time at each iteration, at most; none during the last fifth.
        scale : float
            The share by which its time axis is stretched or pressed together, at most.
        bounds : (low, high), optional
            Each a number, or an array (channel); default: the extremes of `like`.
        reach : float
            The probability that each restart is to have, where outputs are or become probabilities; of other scores, each is to have that
            of the best real sequence; 0: nothing is asked. One that falls short is driven on with a quarter of the penalties, up to three
            times, then warned of.
        n_real : int
            Real sequences that are shown.
        seed : int
        progress : bool, optional
            Whether to show a bar; default: where standard error is a terminal and the work is long.

        Returns
        -------
        Dataset
            `input` (restart, time, channel) in the units of the data; `score` and, where there are other outputs, `margin` (restart,
            iteration), of the series as it was jittered, the last as it is; `probability`, `reached` (restart); `diversity` (restart): mean
            distance from the other restarts. With `like`: `distance` (restart) from the nearest real sequence, which `nearest` names;
            `real_input` (rank, real_time, channel), those that score highest, with `real_score`, `real_margin`, `real_sample`, `real_label`
            (rank). Distances are root mean square differences of standardised series, all brought to one length, in units of the median
            distance of a real sequence from the nearest other one (attribute `own_distance`, in standard deviations); of one sequence
            alone, and without any, in standard deviations.

        Raises
        ------
        UnsupportedError
            The model has no derivatives, takes tokens, or no derivative of the target reaches the input.
        DataError
            There is no such output, unit or step, in the data or in what is to be made, or an option that can't be; `like` does not fit
            the model, or never changes.
        LayerError, ModelError

        Notes
        -----
        Erhan, Bengio, Courville and Vincent 2009, "Visualizing higher-layer features of a deep network"; Simonyan, Vedaldi and Zisserman
        2014; for the parameterisation and the jitter Olah, Mordvintsev and Schubert 2017, "Feature Visualization".

        Examples
        --------
        >>> import seqscope as sq
        >>> X, y = sq.datasets.japanese_vowels("train")
        >>> found = sq.Scope(sq.zoo.japanese_vowels()).maximize("3", like=X, restarts=2, steps=60)
        >>> found.input.sizes, found.attrs["objective"], bool((found.probability > 0.99).all())
        (Frozen({'restart': 2, 'time': 15, 'channel': 12}), 'margin', True)
        """
        with _verb(lambda: f"maximize({target!s}) of {self._engine.model_name}"):
            effort = Effort(steps, rate, total_variation, norm, jitter, scale)
            asked = Asked(length, objective, parameterisation, bounds, restarts, seed, reach, n_real, effort)
            return maximize(self._specimen, target, like, asked, self._outputs, progress)

    @contextmanager
    def ablate(self, layer: str, units: Any, *, value: Any = "zero", reference: Any = None) -> Iterator[Scope]:
        """Switch units of a layer off, or clamp them: a context in which the scope's verbs see the model without them.

        A unit of a recurrent layer has its hidden state h held at every step: neither the layer behind it nor its own recurrence sees
        what the unit would have given (the gates and c are still computed; the initial state stays the model's own). Of any other layer
        the value is replaced once it is computed. A stack's name means its last layer. Derivatives are those of the model with these
        units as constants.

        Parameters
        ----------
        layer : str
            Its name.
        units : int, sequence of int, slice, or bool array (unit,)
            Positions; of a bidirectional layer the forward units come first.
        value : "zero", "mean", number, or array with one for each of the units
            At what they are held. "mean": each at its mean over all steps of `reference`, with nothing held. A DataArray (unit) goes by
            its `unit` coordinate.
        reference : optional
            The data of "mean".

        Yields
        ------
        Scope
            This one. Contexts can be nested: units add up, and of one that is held twice the inner value counts. Results say what was
            held, in the attribute `ablated`. Meanwhile other threads that use this scope see the units held as well; other scopes on
            the same model, and the model itself, do not.

        Raises
        ------
        UnsupportedError
            The layer's recurrence is not known, so that it can't be stepped through. Inside: the model can't be streamed.
        LayerError, DataError, ModelError

        Notes
        -----
        Morcos, Barrett, Rabinowitz and Botvinick 2018, "On the importance of single directions for generalization", has both values.

        Examples
        --------
        >>> import seqscope as sq
        >>> X, y = sq.datasets.japanese_vowels("test")
        >>> scope = sq.Scope(sq.zoo.japanese_vowels())
        >>> with scope.ablate("lstm", [3, 17], value="mean", reference=X) as ablated:
        ...     lost = scope.predict(X)
        >>> lost.attrs["ablated"], bool((lost.idxmax("output") == y).mean() > 0.8)
        ('lstm: 3, 17 at values of their own', True)
        """
        with _verb(lambda: f"ablate({layer!r}, {units!r}) of {self._engine.model_name}"):
            held = ablation.held_units(self._specimen, layer, units, value, reference)
        before = self._specimen
        self._specimen = before.holding(held)
        try:
            yield self
        finally:
            self._specimen = before

    def record(
        self,
        X: Any,
        store: Any,
        layers: str | Sequence[str] | None = None,
        *,
        states: States | None = None,
        inputs: bool = True,
        dtype: str | None = None,
        keep_bits: int | None = None,
        batch_size: int | None = None,
        shard: int | None = None,
        client: Any = None,
        resume: bool = False,
        overwrite: bool = False,
        on_error: Literal["raise", "skip"] = "raise",
        storage_options: Mapping[str, Any] | None = None,
        progress: bool | None = None,
    ) -> Recording:
        """Write what layers do over a whole data set to disk: activations, states, predictions and inputs, by one process or a cluster.

        The samples are cut into shards. A shard is one unit of work: it is run, written, and entered in the store's ledger with the
        checksums of its files. What was interrupted goes on with ``resume=True`` and does only what is missing or damaged.

        Parameters
        ----------
        X : Sequences, anything that `Sequences` takes, a data file's path, or a loader
            `seqscope.read` has what a file or a loader may be; it may be larger than memory.
        store : path, address or zarr Store
            A folder, an address that fsspec or obstore knows ("s3://bucket/vowels.zarr"), or a store object of Zarr.
        layers : str, or sequence of str, optional
            The layers whose activations are written, as in `activations`; default: all, or none where `states` are asked for.
        states : bool, str, sequence of str, or dict, optional
            The recurrent layers whose states are written, as in `states`; True: all; a dict names the states: {"lstm": ["h", "c"]}.
        inputs : bool
            Whether the inputs are written too. A cluster's workers read them from there.
        dtype : {"float16", "float32"}, optional
            What values are written as; default: what the model gives.
        keep_bits : int, optional
            Round the mantissa to so many bits (of 23), which makes a store smaller. The error is stated in the attribute `rounding`.
        batch_size : int, optional
            Sequences run together; default: as many as suit the memory.
        shard : int, optional
            Sequences in a shard; default: as many as take 128 MB before compression, over all that is written.
        client : distributed.Client, str or int, optional
            Who does it: a Dask client, the address of a scheduler, or a number of worker processes to start here; default: this process.
        resume : bool
            Go on with the store where there is one.
        overwrite : bool
            Write over the store where there is one.
        on_error : {"raise", "skip"}
            What happens where the model fails on a sample: an error that names it, or it is NaN in the store and listed in `failed`.
        storage_options : dict, optional
            What the file system of an address is told.
        progress : bool, optional
            Whether to show a bar, with rate, time left and accuracy; default: where standard error is a terminal, and in a notebook.

        Returns
        -------
        Recording
            What `seqscope.open` gives: lazy arrays (sample, time, unit), statistics, predictions.

        Raises
        ------
        OutputExistsError
            The store exists, and neither resume nor overwrite was said.
        BusyError
            Another process writes to it.
        DataError
            The store was made from another model, data or settings (says what differs), or an option can't be.
        TooLargeError
            There is no space for it: said before it begins, from an estimate, or when a disk is full.
        ModelError
            The model fails on a sample, or can't be sent to workers.
        UnsupportedError
            The cluster went away, or workers died again and again.
        MissingPackageError, LayerError

        Notes
        -----
        A store is a Zarr v3 hierarchy that `xarray.open_datatree` opens without seqscope: `inputs`, `predictions`, `activations/<layer>`,
        `states/<layer>`, `statistics/...`.

        Examples
        --------
        >>> import tempfile
        >>> import seqscope as sq
        >>> X, y = sq.datasets.japanese_vowels("test")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     recording = sq.Scope(sq.zoo.japanese_vowels()).record(X, f"{folder}/vowels.zarr", states="lstm")
        ...     mean = recording.statistics("lstm", "c")["mean"]
        >>> mean.sizes, recording.accuracy > 0.9
        (Frozen({'unit': 100}), True)
        """
        from seqscope.recording.asked import Asked as Recorded

        require("zarr", extra="record", purpose="Recording")
        from seqscope.recording.sending import Recipe
        from seqscope.recording.verb import record

        with _verb(lambda: self._describe(f"record to {store!s:.80}", X)):
            recipe = Recipe.of(*self._opened_from)
            more = (batch_size, shard, resume, overwrite, on_error, storage_options, client, progress, recipe)
            asked = Recorded(layers, states, inputs, dtype, keep_bits, *more)
            return record(self._specimen, X, store, asked, self._outputs)

    def report(
        self,
        X: Any,
        path: str | os.PathLike[str],
        *,
        layers: str | Sequence[str] | None = None,
        samples: int | Sequence[int] | None = None,
        methods: Sequence[str] | None = None,
        target: int | str | None = None,
        seed: int = 0,
        force: bool = False,
        progress: bool | None = None,
    ) -> Path:
        """Write one page on the model and its data: layers, samples, states, attributions, mistakes, prototypes, units.

        The page is a file of its own that asks nothing of any network, and can be sent in a mail. Each section shows the Python that makes
        it; a part that a model can't have (ONNX has no derivatives, data may have no labels) says so in its place.

        Parameters
        ----------
        X : Sequences, or anything that `Sequences` takes
            Units are judged over the first 2,000 sequences.
        path : path
            Where to write; it ends in .html.
        layers : str, or sequence of str, optional
            The layers whose units are looked at, by name; default: the first recurrent one, else the last whose units have a value at
            each step.
        samples : int, or sequence of int, optional
            Positions of the samples that are shown, the first of them in pictures; default: a typical one, the one that the model is least
            sure of, and the mistake that it is surest of.
        methods : (str, str), optional
            The methods of attribution that are compared; default: integrated gradients and occlusion, as far as the model has derivatives.
        target : int or str, optional
            What is explained, as in `attribute`; default: what is predicted.
        seed : int
        force : bool
            Whether to write over a file that exists.
        progress : bool, optional
            Whether to show a bar; default: where standard error is a terminal and the work is long.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        UnsupportedError
            The file's name does not end in .html.
        OutputExistsError
            The file exists, and force was not said.
        SampleError, LayerError, DataError, ModelError
            There is no such sample, layer or method, or the model does not run on the data.

        Examples
        --------
        >>> import tempfile
        >>> import torch
        >>> import seqscope as sq
        >>> X, y, truth = sq.datasets.planted(6, length=30, n_channels=2)
        >>> model = torch.nn.Sequential(torch.nn.Conv1d(2, 3, 5), torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = sq.Scope(model).report(X, f"{folder}/report.html").read_text()
        >>> "What the decision rests on" in page
        True
        """
        from seqscope.report.subject import Asked as OfReport
        from seqscope.report.verb import report

        with _verb(lambda: self._describe(f"report to {path!s:.80}", X)):
            several = [layers] if isinstance(layers, str) else layers
            shown = [samples] if isinstance(samples, int) else samples
            asked = OfReport(several, shown, methods, target, seed)
            return report(self, self._specimen.take_in(X)[0], Path(path), asked, force=force, progress=progress)

    def filters(self, layer: str, *, channels: Sequence[Hashable] | None = None) -> xr.DataArray:
        """The kernels of a convolution: what each filter weighs each channel with, step by step.

        Parameters
        ----------
        layer : str
            Its name.
        channels : sequence, optional
            The names of what the layer takes; default: numbers.

        Returns
        -------
        DataArray (unit, tap, channel)
            Tap 0 is the first in time. Where the layer has groups, the channels are those of a filter's own group. Of a transposed
            convolution, which spreads each step of its input over several of its own, tap 0 is the first that it is spread to.
            The attributes `stride` and `dilation` say how far apart the places and the taps of a filter are, where that is known.

        Raises
        ------
        LayerError
            No layer has that name; the nearest ones are given.
        UnsupportedError
            The layer is no convolution along time.
        DataError
            The channels' names do not fit in number.

        Examples
        --------
        >>> import torch
        >>> import seqscope as sq
        >>> sq.Scope(torch.nn.Conv1d(9, 128, kernel_size=7)).filters("conv1d").sizes
        Frozen({'unit': 128, 'tap': 7, 'channel': 9})
        """
        with _verb(lambda: f"filters({layer!r}) of {self._engine.model_name}"):
            found = convolution(layer, self._engine.by_name)
            if not isinstance(self._engine, HasKernels):
                raise UnsupportedError(f"The kernels of {self._engine.framework} models can't be read yet.")
            attrs = self._specimen.attrs("filters") | {"layer": layer, "kind": found.kind, "layer_type": found.type} | spacing(found)
            return labelled.filters_result(self._engine.kernel(layer), channels=channels, attrs=attrs)

    def _describe(self, verb: str, data: Any, layers: Any = None) -> str:
        """The person's own call, for an error's last line."""
        given = data.describe() if isinstance(data, Sequences) else _kind_and_shape(data)
        wanted = "" if layers is None else f", layers={layers!r}"
        return f"{verb}(X{wanted}) of {self._engine.model_name}, X being {given}"


@contextmanager
def _verb(describe: Callable[[], str]) -> Iterator[None]:
    """What every verb does around its work: name the call in an error, leave the random state as it was."""
    with in_call(describe), state_kept():
        yield


def _kind_and_shape(data: Any) -> str:
    shape = f" of shape {tuple(data.shape)}" if hasattr(data, "shape") else f" of {len(data)}" if hasattr(data, "__len__") else ""
    return f"a {type(data).__name__}{shape}"
