"""Attribution: seqscope against the bare forward and backward passes that each method needs and against other tools, in one run.

torch: a Conv1D net (two convolutions of 128 filters on 300 steps of 9 channels, a dense layer of 300) on noise, and the Japanese Vowels
LSTM on its 370 test sequences of 7 to 29 steps. Integrated gradients of 50 steps, saliency, grad_cam, and occlusion: on the Conv1D net
of windows of 25 steps, every third, in all channels (93 rows a sequence), on the LSTM of 3 steps, every one, in each channel (60 to 324).
Explicit targets, float32, logits. Keras on each backend: integrated gradients and grad_cam of the same convolutions against a gradient
function that is written and compiled by hand, and smooth_grad of 50 copies against tf-keras-vis.

The bare passes run as many rows through the model as the method needs, on tensors that are there already, with derivatives at the input
or the layer alone, at the best of some batch sizes; captum is given as it comes and at the best of the same sizes (the sequences handed
over in parts, which its `internal_batch_size` alone can't do). All are timed in turn, round after round; the median of the ratios to the
bare passes is given. Where a tool computes the same, its numbers are checked. Peak memory is that of a process of its own over what it
held with model and data ready and one tiny call made. Planted data: how well attributions of a trained net rank where the pattern is.

    python benchmarks/attribution.py                      # torch, Keras on each backend, planted data
    python benchmarks/attribution.py --engine torch       # torch, tensorflow, jax, keras-torch, planted
    python benchmarks/attribution.py --quick              # fewer sequences and rounds
    python benchmarks/attribution.py --samples 256        # as many in the timings as in the figures of memory
    python benchmarks/attribution.py --device cuda        # with the share of the time that transfers take
"""

from __future__ import annotations

import argparse
import importlib
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 50
METHODS = ("integrated_gradients", "saliency", "grad_cam", "occlusion")
NETS = {"Conv1D": (16, 32, 64, 128, 256), "LSTM": (64, 128, 256, 512)}  # and the sizes of batches to try
WINDOWS: dict[str, dict[str, Any]] = {
    "Conv1D": {"window": 25, "stride": 3, "channels": "all"},
    "LSTM": {"window": 3, "stride": 1, "channels": "each"},
}
ENGINES = {"torch": "torch", "tensorflow": "tensorflow", "jax": "jax", "keras-torch": "torch", "planted": "torch"}
TRIED_ROWS = 1024  # by which a batch size is chosen
CAPTUM_DEFAULT_MB = 10_000  # what captum's one batch may take, else it is left out


class Incomparable(Exception):
    """A tool that computes something else here."""


# The nets and their data


@dataclass
class Group:
    """Sequences of one length: their rows in the data, tensors in the model's own layout, targets."""

    rows: np.ndarray
    x: Any
    target: Any


class InTorch:
    """A net, its data, and each tool's way to each method; results are lists of arrays, one for each length, in the model's layout."""

    def __init__(self, net: str, n_samples: int, device: str = "cpu") -> None:
        import torch

        import seqscope as sq

        self.net, self.device = net, device
        self.model, self.logits, self.layer, data = (_convolutions if net == "Conv1D" else _vowels)(n_samples)
        for part in (self.model, self.logits):
            part.eval().to(device)
        self.sequences, self.scope = sq.Sequences(data), sq.Scope(self.model)
        lengths = self.sequences.lengths
        self.target = np.zeros(len(self.sequences), int)
        self.groups = []
        for length in np.unique(lengths)[::-1]:
            rows = np.flatnonzero(lengths == length)
            x = torch.from_numpy(np.stack([data[row] for row in rows])).to(device)
            x = x.transpose(1, 2).contiguous() if net == "Conv1D" else x
            with torch.no_grad():
                target = self.logits(x).argmax(1)
            self.target[rows] = target.cpu().numpy()
            self.groups.append(Group(rows, x, target))

    # What the methods need

    def n_variants(self, method: str, n_steps: int) -> int:
        """Rows for each sequence."""
        if method != "occlusion":
            return STEPS if method == "integrated_gradients" else 1
        window = WINDOWS[self.net]
        n_windows = -(-max(n_steps - window["window"], 0) // window["stride"]) + 1
        return n_windows * (12 if window["channels"] == "each" else 1)

    def bare(self, method: str, rows: int, most: int | None = None) -> None:
        """As many passes as the method needs, on tensors that are there; `most`: no more rows than so many."""
        once = self._cam_pass if method == "grad_cam" else self._forward if method == "occlusion" else self._slope
        left = sys.maxsize if most is None else most
        for ready, target, n_rows in self.ready(method, rows):
            total = min(n_rows, left)
            for start in range(0, total, rows):
                size = min(rows, total - start)
                once(ready[:size], target[:size])
            left -= total
        self.wait()

    def ready(self, method: str, rows: int) -> Iterator[tuple[Any, Any, int]]:
        """For each length a batch, its targets, and how many rows there are in all."""
        for group in self.groups:
            total = len(group.x) * self.n_variants(method, self.n_steps(group))
            places = np.arange(min(rows, total)) % len(group.x)
            yield group.x[places], group.target[places], total

    def n_steps(self, group: Group) -> int:
        """The length of a group's sequences."""
        return int(group.x.shape[2 if self.net == "Conv1D" else 1])

    def wait(self) -> None:
        """Until the device is done."""
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()

    def _slope(self, x: Any, target: Any) -> None:
        import torch

        x = x.requires_grad_()
        torch.autograd.grad(self.logits(x).gather(1, target[:, None]).sum(), x)

    def _forward(self, x: Any, target: Any) -> None:
        import torch

        with torch.no_grad():
            self.logits(x).gather(1, target[:, None])

    def _cam_pass(self, x: Any, target: Any) -> None:
        """To the layer, and from there on with derivatives; at each step of a recurrent layer, by a loop over its cell."""
        import torch

        if self.net == "Conv1D":
            place = int(self.layer) + 1
            with torch.no_grad():
                value = self.logits[:place](x)
            value.requires_grad_()
            torch.autograd.grad(self.logits[place:](value).gather(1, target[:, None]).sum(), value)
            return
        lstm, h, kept = self.model.lstm, None, []
        weights = [weight.detach() for weight in lstm.parameters()]
        for step in x.unbind(1):
            h = torch._VF.lstm_cell(step, h or (step.new_zeros(len(x), 100),) * 2, *weights)
            if not kept:
                h = (h[0].requires_grad_(), h[1])
            kept.append(h[0])
        torch.autograd.grad(self.model.fc(h[0]).gather(1, target[:, None]).sum(), kept)

    # Tools

    def seqscope(self, method: str, scope: Any = None) -> list[np.ndarray]:
        """The one call."""
        options = WINDOWS[self.net] if method == "occlusion" else {"steps": STEPS} if method == "integrated_gradients" else {}
        found = (scope or self.scope).attribute(self.sequences, method, target=self.target, progress=False, **options)
        if method == "grad_cam":
            values = found["native"].values
            return [values[group.rows, : self.n_steps(group) if self.net == "LSTM" else None] for group in self.groups]
        values = [found.values[group.rows, : self.n_steps(group)] for group in self.groups]
        return [one.transpose(0, 2, 1) for one in values] if self.net == "Conv1D" else values

    def first_call(self, method: str) -> list[np.ndarray]:
        """The same on a scope that is new."""
        import seqscope as sq

        return self.seqscope(method, sq.Scope(self.model))

    def captum(self, method: str, rows: int | None = None) -> list[np.ndarray]:
        """Captum as it comes; or with so many rows in a pass."""
        import torch

        found = []
        for group in self.groups:
            size = rows or len(group.x)
            parts = zip(group.x.split(size), group.target.split(size), strict=True)
            found.append(torch.cat([self._captum(method, x.detach(), target, rows) for x, target in parts]).detach().cpu().numpy())
        return found

    def _captum(self, method: str, x: Any, target: Any, rows: int | None) -> Any:
        from captum import attr

        match method:
            case "integrated_gradients":
                return attr.IntegratedGradients(self.logits).attribute(x, target=target, n_steps=STEPS, internal_batch_size=rows)
            case "saliency":
                return attr.Saliency(self.logits).attribute(x.requires_grad_(), target=target)
            case "grad_cam":
                if self.net == "LSTM":
                    raise Incomparable("not through the recurrence")
                return attr.LayerGradCam(self.logits, self.logits[int(self.layer)]).attribute(x, target, relu_attributions=True)[:, 0]
        window = WINDOWS[self.net]["window"], WINDOWS[self.net]["stride"]
        shape, stride = ((9, window[0]), (9, window[1])) if self.net == "Conv1D" else ((window[0], 1), (window[1], 1))
        per_pass = 1 if rows is None else max(1, rows // len(x))
        return attr.Occlusion(self.logits).attribute(x, shape, strides=stride, target=target, perturbations_per_eval=per_pass)

    def torchcam(self, method: str) -> list[np.ndarray]:
        """Torchcam on the whole batch."""
        from torchcam.methods import GradCAM

        if self.net == "LSTM":
            raise Incomparable("not through the recurrence")
        found = []
        for group in self.groups:
            with GradCAM(self.logits, self.logits[int(self.layer)]) as cam:
                found.append(cam(group.target.tolist(), self.logits(group.x), normalized=False)[0].detach().cpu().numpy())
        return found

    def pytorch_grad_cam(self, method: str) -> list[np.ndarray]:
        """What pytorch-grad-cam gives on the whole batch."""
        with _without_front("pytorch_grad_cam", absent=("torchvision", "cv2", "ttach")):
            from pytorch_grad_cam.grad_cam import GradCAM
            from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        if self.net == "LSTM":
            raise Incomparable("not through the recurrence")
        with GradCAM(self.logits, [self.logits[int(self.layer)]]) as cam:
            return [cam(group.x.detach(), list(map(ClassifierOutputTarget, group.target.tolist()))) for group in self.groups]

    def tsinterpret(self, method: str) -> list[np.ndarray]:
        """TSInterpret one sequence at a time, as it works; its own scaling, which loses the sign, and rescaling over time left out."""
        import torch

        with _without_front("TSInterpret", "InterpretabilityModels", "Saliency", absent=("shap", "seaborn", "tf_explain")):
            from TSInterpret.InterpretabilityModels.Saliency.SaliencyMethods_PTY import Saliency_PTY

        kind, mode = {"integrated_gradients": "IG", "saliency": "GRAD"}[method], "feat" if self.net == "Conv1D" else "time"
        found = []
        for group in self.groups:
            n_channels = group.x.shape[1 if self.net == "Conv1D" else 2]
            tool = Saliency_PTY(
                self.logits, self.n_steps(group), n_channels, method=kind, mode=mode, tsr=False, normalize=False, device=self.device
            )
            zeros = torch.zeros_like(group.x[:1])
            items = group.x.detach().cpu().numpy()[:, None]
            found.append(
                np.stack([tool.explain(x, int(t), baseline_single=zeros) for x, t in zip(items, group.target.tolist(), strict=True)])
            )
        return found


def _convolutions(n_samples: int) -> tuple[Any, Any, str, Any]:
    """The net of `examples/convolutions.py` in torch."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    stack = [nn.Conv1d(9, 128, 9), nn.BatchNorm1d(128), nn.ReLU(), nn.MaxPool1d(5)]
    stack += [nn.Conv1d(128, 128, 9), nn.BatchNorm1d(128), nn.ReLU(), nn.MaxPool1d(5), nn.Flatten(), nn.Linear(1280, 300)]
    data = np.random.default_rng(0).standard_normal((n_samples, 300, 9)).astype(np.float32)
    return nn.Sequential(*stack, nn.Softmax(-1)), nn.Sequential(*stack), "4", list(data)


def _vowels(n_samples: int) -> tuple[Any, Any, str, Any]:
    """The shipped LSTM; what its softmax is fed is what the other tools explain."""
    from torch import nn

    import seqscope as sq

    model = sq.zoo.japanese_vowels()

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Any) -> Any:
            return self.inner.logits(x)

    X, _ = sq.datasets.japanese_vowels("test")
    return model, Logits(), "lstm", [np.asarray(X[row].values, np.float32) for row in range(len(X))]


class _without_front:
    """Parts of a package imported without what its `__init__` imports, and with stand-ins for packages that only its pictures need."""

    def __init__(self, *path: str, absent: tuple[str, ...]) -> None:
        self._path, self._absent = path, absent

    def __enter__(self) -> None:
        sys.meta_path.append(self)
        if self._path[0] in sys.modules:
            return
        found = importlib.util.find_spec(self._path[0])
        if found is None or found.origin is None:
            sys.meta_path.remove(self)
            raise ModuleNotFoundError(f"No module named {self._path[0]!r}", name=self._path[0])
        folder = Path(found.origin).parent
        for depth in range(1, len(self._path) + 1):
            name = ".".join(self._path[:depth])
            front = sys.modules.setdefault(name, types.ModuleType(name))
            front.__path__ = [str(folder.joinpath(*self._path[1:depth]))]

    def __exit__(self, *error: object) -> None:
        sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """A stand-in, where nothing else was found."""
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in self._absent else None

    def create_module(self, spec: Any) -> types.ModuleType:
        """A module whose every name is a class without anything in it."""
        module = types.ModuleType(spec.name)

        def of_any_name(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

        vars(module)["__getattr__"] = of_any_name
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


# Timing


def seconds(action: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def best(sizes: tuple[int, ...], action: Callable[[int], object]) -> int:
    """The batch size at which an action is fastest: the lowest of two times each, the first to warm up."""
    for size in sizes:
        action(size)
    return min(sizes, key=lambda size: min(seconds(lambda: action(size)) for _ in range(2)))


def in_turn(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Each action in turn, round after round."""
    found: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            found[name].append(seconds(action))
    return found


def figures(taken: list[float], bare: list[float]) -> list[str]:
    """Seconds, ratio, lowest to highest."""
    ratios = np.array(taken) / np.array(bare)
    return [f"{np.median(taken):.3f}", f"{np.median(ratios):.2f}", f"{ratios.min():.2f} to {ratios.max():.2f}"]


def checked(name: str, found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    """Refuse a tool that gives other numbers."""
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * float(np.abs(other).max()), err_msg=name)


def torch_rows(net: str, method: str, options: argparse.Namespace) -> list[list[str]]:
    """A row for each tool."""
    here = InTorch(net, options.samples, options.device)
    expected = here.seqscope(method)
    rows = best(NETS[net], lambda size: here.bare(method, size, TRIED_ROWS))
    actions: dict[str, Callable[[], object]] = {"bare": lambda: here.bare(method, rows)}
    actions |= {"seqscope": lambda: here.seqscope(method), "first": lambda: here.first_call(method)}
    labels = {"bare": f"bare passes, {rows} rows", "seqscope": "seqscope", "first": "seqscope, first call"}
    peaks, refused = {"bare": f"bare:{rows}", "seqscope": "seqscope"}, {}
    try:
        few = InTorch(net, 16, options.device)
        few.groups = few.groups[::6]
        size = best(tuple(size for size in NETS[net] if size <= 256), lambda size: few.captum(method, size))
        size = min(size, options.samples) if net == "Conv1D" else size
        actions |= {"captum": lambda: here.captum(method), "captum best": lambda: here.captum(method, size)}
        labels |= {"captum": "captum, default", "captum best": f"captum, {size} rows"}
        peaks |= {"captum": "captum", "captum best": f"captum:{size}"}
    except Incomparable as error:
        refused["captum"] = str(error)
    for name in {"grad_cam": ("torchcam", "pytorch_grad_cam")}.get(method, () if method == "occlusion" else ("tsinterpret",)):
        try:
            checked(name, getattr(here, name)(method), expected)
            actions[name], labels[name], peaks[name] = (lambda name=name: getattr(here, name)(method)), name, name
        except (ImportError, Incomparable) as error:
            refused[name] = str(error)
        except AssertionError:
            raise
        except Exception as error:  # a tool that does not run here is told of, whatever it raises
            refused[name] = f"{type(error).__name__}: {str(error)[:60]}"
    for name in set(actions) & {"captum", "captum best"}:
        checked(name, actions[name](), expected)  # type: ignore[arg-type]
    found = in_turn(actions, options.rounds)
    made = []
    for name, label in labels.items():
        peak = _peak(net, method, peaks[name], options) if name in peaks and options.device == "cpu" else ""
        made.append([method, label, *figures(found[name], found["bare"]), peak])
        print(" | ".join([net, *made[-1]]), file=sys.stderr, flush=True)
    return made + [[method, name, reason, "", "", ""] for name, reason in refused.items()]


# Memory


def _peak(net: str, method: str, tool: str, options: argparse.Namespace) -> str:
    """How far the peak of a process of its own rises above what it held before."""
    if tool == "captum" and method == "integrated_gradients" and _available() < CAPTUM_DEFAULT_MB:
        return "left out: memory"
    command = [sys.executable, __file__, "--peak", net, method, tool, "--samples", str(options.memory_samples)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return f"{json.loads(done.stdout.splitlines()[-1]):.0f}" if done.returncode == 0 else "does not run"


def report_peak(net: str, method: str, tool: str, n_samples: int) -> None:
    """Run on a few sequences, then on all, and print the rise."""
    name, _, rows = tool.partition(":")
    sizes = [int(rows)] if rows else []
    few, here = InTorch(net, 2), InTorch(net, n_samples)
    if net == "LSTM":
        few.groups = few.groups[-1:]
        few.sequences, few.target = few.sequences[few.groups[0].rows], few.target[few.groups[0].rows]
        few.groups[0].rows = np.arange(len(few.target))
    getattr(few, name)(method, *sizes)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    kept = getattr(here, name)(method, *sizes)
    print(json.dumps(_status("VmHWM") - before))
    del kept


def _status(field: str, where: str = "/proc/self/status") -> float:
    """A figure of this process, in megabytes (Linux)."""
    line = next(line for line in Path(where).read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def _available() -> float:
    return _status("MemAvailable", "/proc/meminfo")


# A GPU


def transfer_rows(options: argparse.Namespace) -> list[list[str]]:
    """What copies to and from the device take of a whole call."""
    from torch.profiler import ProfilerActivity, profile

    rows = []
    for net in NETS:
        here = InTorch(net, options.samples, options.device)
        for method in METHODS:
            here.seqscope(method)
            with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as watched:
                here.seqscope(method)
                here.wait()
            copies = sum(event.self_device_time_total for event in watched.key_averages() if event.key.startswith("Memcpy"))
            found = in_turn({"call": lambda here=here, method=method: (here.seqscope(method), here.wait())}, options.rounds)
            taken = float(np.median(found["call"]))
            rows.append([net, method, f"{taken:.3f}", f"{100 * copies / 1e6 / taken:.1f}"])
    return rows


# Keras


class InKeras:
    """The convolutions in Keras, on the backend of this process, and a gradient function by hand."""

    def __init__(self, n_samples: int) -> None:
        import keras
        from keras import layers as kl
        from keras_contenders import convolutions

        import seqscope as sq

        keras.utils.set_random_seed(0)
        self.model, self.layer, shape = convolutions()
        self.X = np.random.default_rng(0).standard_normal((n_samples, *shape)).astype(np.float32)
        last = self.model.layers[-1]
        twin = kl.Dense(last.units)
        logits = twin(self.model.layers[-2].output)
        twin.set_weights(last.get_weights())
        conv = self.model.get_layer(self.layer)
        self.logits, self.trunk = keras.Model(self.model.inputs, logits), keras.Model(self.model.inputs, conv.output)
        start = value = keras.Input(conv.output.shape[1:])
        for layer in [*self.model.layers[self.model.layers.index(conv) + 1 : -1], twin]:
            value = layer(value)
        self.head = keras.Model(start, value)
        self.target = np.asarray(self.logits.predict(self.X, verbose=0)).argmax(1)
        self.sequences, self.scope = sq.Sequences(self.X), sq.Scope(self.model)
        self._at_input, self._at_layer = compiled_slope(self.logits), compiled_slope(self.head, self.trunk)

    def bare(self, method: str, rows: int, most: int | None = None) -> None:
        """As many compiled passes as the method needs, each waited for."""
        slope, per_sample = (self._at_layer, 1) if method == "grad_cam" else (self._at_input, STEPS)
        places = np.arange(rows) % len(self.X)
        x, target = self.X[places], self.target[places]
        total = min(len(self.X) * per_sample, most or sys.maxsize)
        for start in range(0, total, rows):
            size = min(rows, total - start)
            slope(x[:size], target[:size])

    def seqscope(self, method: str, scope: Any = None) -> np.ndarray:
        """The one call."""
        options = {"integrated_gradients": {"steps": STEPS}, "smooth_grad": {"draws": STEPS}}.get(method, {})
        found = (scope or self.scope).attribute(self.sequences, method, target=self.target, progress=False, **options)
        return np.asarray(found["native"].values if method == "grad_cam" else found.values)

    def tf_keras_vis(self, method: str) -> np.ndarray | None:
        """tf-keras-vis, which makes noise of its own for SmoothGrad."""
        from tf_keras_vis.gradcam import Gradcam
        from tf_keras_vis.saliency import Saliency
        from tf_keras_vis.utils.scores import CategoricalScore

        score = CategoricalScore([int(one) for one in self.target])
        if method == "grad_cam":
            return np.asarray(
                Gradcam(self.logits, clone=False)(score, self.X, penultimate_layer=self.layer, expand_cam=False, normalize_cam=False)
            )
        Saliency(self.logits, clone=False)(score, self.X, smooth_samples=STEPS, keepdims=True, normalize_map=False)
        return None


def compiled_slope(model: Any, trunk: Any = None) -> Callable[[np.ndarray, np.ndarray], object]:
    """The derivative of each row's score at the model's input, as one writes it for a backend; `trunk`: what comes before."""
    import keras

    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            @tf.function(reduce_retracing=True)
            def slope_tf(x: Any, target: Any) -> Any:
                x = x if trunk is None else trunk(x, training=False)
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    score = tf.reduce_sum(tf.gather(model(x, training=False), target, batch_dims=1))
                return tape.gradient(score, x), x

            return lambda x, target: [one.numpy() for one in slope_tf(tf.constant(x), tf.constant(target))]
        case "jax":
            import jax

            parts = [
                ([v.value for v in one.trainable_variables], [v.value for v in one.non_trainable_variables])
                for one in (model, trunk)
                if one is not None
            ]

            @jax.jit
            def slope_jax(x: Any, target: Any, parts: Any) -> Any:
                x = x if trunk is None else trunk.stateless_call(*parts[1], x, training=False)[0]

                def total(x: Any) -> Any:
                    return jax.numpy.take_along_axis(model.stateless_call(*parts[0], x, training=False)[0], target[:, None], 1).sum()

                return jax.grad(total)(x), x

            return lambda x, target: jax.block_until_ready(slope_jax(x, target, parts))
    import torch

    def slope_torch(x: np.ndarray, target: np.ndarray) -> object:
        value = torch.from_numpy(x)
        if trunk is not None:
            with torch.no_grad():
                value = trunk(value, training=False).detach()
        value.requires_grad_()
        return torch.autograd.grad(model(value, training=False).gather(1, torch.from_numpy(target)[:, None]).sum(), value)

    return slope_torch


def keras_rows(engine: str, options: argparse.Namespace) -> list[list[str]]:
    """A row for each method and tool."""
    import seqscope as sq

    here, made = InKeras(options.samples), []
    for method in ("integrated_gradients", "grad_cam", "smooth_grad"):
        rows = best((16, 32, 64, 128), lambda size, method=method: here.bare(method, size, min(TRIED_ROWS, 8 * size)))
        actions: dict[str, Callable[[], object]] = {"bare": lambda method=method, rows=rows: here.bare(method, rows)}
        tools: dict[str, Callable[[], object]] = {"seqscope": lambda method=method: here.seqscope(method)}
        if method != "smooth_grad":
            tools["seqscope, first call"] = lambda method=method: here.seqscope(method, sq.Scope(here.model))
        if engine == "tensorflow" and method != "integrated_gradients":
            tools["tf-keras-vis"] = lambda method=method: here.tf_keras_vis(method)
        refused = {}
        for name, tool in tools.items():
            try:
                given = tool()
                actions[name] = tool
                if method == "grad_cam":
                    checked(name, [np.asarray(given)], [here.seqscope(method)])
            except AssertionError:
                raise
            except Exception as error:  # a tool that does not run here is told of, whatever it raises
                refused[name] = f"{type(error).__name__}: {str(error)[:60]}"
        found = in_turn(actions, options.rounds)
        for name, taken in found.items():
            made.append([method, f"bare compiled passes, {rows} rows" if name == "bare" else name, *figures(taken, found["bare"])])
            print(" | ".join([engine, *made[-1]]), file=sys.stderr, flush=True)
        made += [[method, name, reason, "", ""] for name, reason in refused.items()]
    return made


# Planted data

PLANTED: dict[str, dict[str, Any]] = {
    "3 x 100": {"length": 100, "n_channels": 3},
    "9 x 60 to 100": {"length": (60, 100), "n_channels": 9},
    "9 x 300": {"length": 300, "n_channels": 9},
}


def trained(X: Any, n_channels: int, seed: int, epochs: int) -> Any:
    """Two convolutions read at their mean over time, trained on sequences of any length."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    stack = [nn.Conv1d(n_channels, 32, 9, padding="same"), nn.ReLU(), nn.Conv1d(32, 32, 9, padding="same"), nn.ReLU()]
    model = nn.Sequential(*stack, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 2))
    optimizer, order = torch.optim.Adam(model.parameters(), 3e-3), np.random.default_rng(seed)
    labels = np.unique(X.labels, return_inverse=True)[1]
    batches = [(torch.from_numpy(np.float32(batch.values)).transpose(1, 2), batch.rows) for batch in X.batches(32)]
    for _ in range(epochs):
        for place in order.permutation(len(batches)):
            x, rows = batches[place]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), torch.from_numpy(np.atleast_1d(labels[rows]))).backward()
            optimizer.step()
    return model.eval()


def auroc(size: np.ndarray, truth: np.ndarray) -> float:
    """How well sizes rank what is true, each sequence by itself, in the mean."""
    from sklearn.metrics import roc_auc_score

    scores = []
    for one, where in zip(size, truth, strict=True):
        there = ~np.isnan(one)
        scores.append(roc_auc_score(where[there], one[there]))
    return float(np.mean(scores))


def planted_rows(options: argparse.Namespace) -> list[list[str]]:
    """AUROC by steps and by values, for each data set and method: the median over seeds."""
    import seqscope as sq

    made = []
    n_seeds, n_train, epochs = (2, 200, 6) if options.quick else (3, 400, 10)
    for name, sizes in PLANTED.items():
        found: dict[str, list[tuple[float, float]]] = {}
        right = []
        for seed in range(n_seeds):
            X, _, _ = sq.datasets.planted(n_train, **sizes, channel=1, seed=2 * seed)
            test, y, truth = sq.datasets.planted(60, **sizes, channel=1, seed=2 * seed + 1)
            scope = sq.Scope(trained(X, sizes["n_channels"], seed, epochs))
            target = np.unique(y, return_inverse=True)[1]
            right.append(float((scope.predict(test, progress=False).values.argmax(1) == np.unique(X.labels).searchsorted(y)).mean()))
            steps = truth.values.any(2)
            chosen = {"integrated_gradients": {"steps": STEPS}, "grad_cam": {}, "occlusion": {"window": 9, "stride": 3}}
            for method, more in chosen.items():
                result = scope.attribute(test, method, target=target, progress=False, **more)
                if method == "grad_cam":
                    pair = auroc(result["map"].values, steps), np.nan
                else:
                    sized = np.abs(result.values)
                    pair = auroc(sized.sum(2), steps), auroc(sized.reshape(len(sized), -1), truth.values.reshape(len(sized), -1))
                found.setdefault(method, []).append(pair)
        for method, pairs in found.items():
            medians = np.median(np.array(pairs), axis=0)
            figures_of = ["" if np.isnan(one) else f"{one:.3f}" for one in medians]
            made.append([name, f"{np.median(right):.3f}", method, *figures_of])
            print(" | ".join(made[-1]), file=sys.stderr, flush=True)
    return made


# The tables


def show(title: str, headings: list[str], rows: list[list[str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n{title}\n")
    for row in [headings, ["---"] * len(headings), *rows]:
        print("| " + " | ".join(row) + " |", flush=True)


def run_engine(engine: str, options: argparse.Namespace) -> None:
    """All tables of one engine, in this process."""
    import torch

    torch.set_num_threads(options.threads)
    headings = ["", "", "seconds (median)", "times the bare passes", "lowest to highest"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scores below chance, and of tools that are old
        if engine == "planted":
            names = ["channels x steps", "accuracy", "", "AUROC of steps", "AUROC of values"]
            show("planted: a pattern of 20 steps in one channel, sizes of attributions", names, planted_rows(options))
        elif engine == "torch":
            for net in NETS:
                n = f"{options.samples} x 300 x 9" if net == "Conv1D" else "370 x 7 to 29 x 12"
                title = (
                    f"torch on {options.device}, {options.threads} thread(s): {net}, {n}; memory of {options.memory_samples} (LSTM: all)"
                )
                methods = [one for one in METHODS if options.method in (None, one)]
                rows = [row for method in methods for row in torch_rows(net, method, options)]
                show(title, [*headings, "peak over the idle process, MB"], rows)
            if options.device == "cuda":
                show("transfers", ["", "", "whole call, seconds", "copies, % of it"], transfer_rows(options))
        else:
            title = f"Keras on {ENGINES[engine]}, {options.threads} thread(s): Conv1D, {options.samples} x 300 x 9"
            show(title, headings, keras_rows(engine, options))


def main() -> None:
    """Each engine in a process of its own, since threads and Keras' backend are chosen when a framework is loaded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="rounds of runs; default: 3")
    parser.add_argument("--samples", type=int, help="sequences of the Conv1D net in the timings; default: 64")
    parser.add_argument("--memory-samples", type=int, help="and in the figures of memory; default: 256")
    parser.add_argument("--quick", action="store_true", help="16 sequences, also for memory, and two rounds")
    parser.add_argument("--engine", choices=ENGINES, help="one engine alone")
    parser.add_argument("--method", choices=METHODS, help="one method of torch alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the torch models run")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 3)
    options.samples = options.samples or (16 if options.quick else 64)
    options.memory_samples = options.memory_samples or (16 if options.quick else 256)
    if options.peak:
        warnings.simplefilter("ignore")
        report_peak(*options.peak, options.samples)
    elif options.here:
        run_engine(options.engine, options)
    else:
        for engine in [options.engine] if options.engine else ENGINES:
            _in_process(engine, options.threads)


def _in_process(engine: str, threads: int) -> None:
    variables = {"OMP_NUM_THREADS": str(threads), "TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": "1"}
    xla = f"--xla_cpu_multi_thread_eigen={'false' if threads == 1 else 'true'} intra_op_parallelism_threads={threads}"
    variables |= {"XLA_FLAGS": xla, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": ENGINES[engine]}
    subprocess.run([sys.executable, *sys.argv, "--here", "--engine", engine], check=True, env=os.environ | variables)


if __name__ == "__main__":
    main()
