"""What recording on a cluster needs of a model: a digest that tells it from others, its bytes for another process, and few threads."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import os
import pickle
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from seqscope.engines.base import Engine, Travels, engine_for
from seqscope.errors import ModelError, SeqscopeError, UnsupportedError, require

# What a process reads at its start, or where a library is imported, to know how many threads to compute on: OpenMP (torch, onnxruntime's
# sessions here), the libraries of linear algebra, TensorFlow, and XLA, which on a processor heeds these two names and no flag of its own.
THREAD_VARIABLES: tuple[str, ...] = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "NPROC",
    "PJRT_NPROC",
)

# Objects that say where in memory they lie.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_ENDINGS = {"keras": "keras", "onnx": "onnx"}


def fingerprint(engine: Engine) -> str:
    """A digest that tells one model from another: of its framework, its class, its layers, and each bit of its weights and buffers.

    Of a Keras model that was not built yet it is another one than after its first batch, as the weights are not made before.

    Parameters
    ----------
    engine : Engine
        Its model is neither run nor changed. Weights are read one at a time, so that no second copy of all is made.

    Returns
    -------
    str
        64 hexadecimal digits (SHA-256); the same for the same file in any process.

    Raises
    ------
    UnsupportedError
        The engine does not say what its model computes with.

    Examples
    --------
    >>> import seqscope as sq
    >>> from seqscope.engines.base import engine_for
    >>> model, again = sq.zoo.japanese_vowels(), sq.zoo.japanese_vowels()
    >>> fingerprint(engine_for(model)) == fingerprint(engine_for(again))
    True
    """
    digest = hashlib.sha256()
    _add(digest, engine.framework)
    for layer in engine.layers:
        told = (layer.name, layer.kind, layer.type, layer.description, layer.n_params, layer.native_dims, layer.directions, layer.reach)
        _add(digest, repr(told))
    for part in _travelling(engine).contents():
        _add(digest, part)
    return digest.hexdigest()


def _add(digest: Any, part: str | np.ndarray) -> None:
    """Put one part into a digest, with its kind and size before it, so that no two lists of parts run together to the same."""
    if isinstance(part, str):
        data = _ADDRESS.sub("", part).encode()
        digest.update(f"text {len(data)}:".encode())
        digest.update(data)
    else:
        digest.update(f"array {part.dtype.name} {part.shape}:".encode())
        if part.dtype == object:
            digest.update(repr(part.tolist()).encode())
        else:  # seen as bytes without a copy, whatever it holds
            digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data if part.size else b"")


def packed(engine: Engine) -> bytes:
    """A model, and the function that feeds it, as bytes that another process makes the same engine from.

    Classes and functions that are defined in a script or a notebook go along; those of modules go by name, so the other process has to be
    able to import them. The model stays as it is. One of torch goes to the same device, and to the CPU where the other process has no GPU.

    Returns
    -------
    bytes
        For `unpacked`. They hold the weights once, and code: they are for the person's own processes alone.

    Raises
    ------
    ModelError
        The model or the function can't be packed: what stands in the way, and what to do.
    MissingPackageError
        cloudpickle is not installed.

    Examples
    --------
    >>> import seqscope as sq
    >>> from seqscope.engines.base import engine_for
    >>> unpacked(packed(engine_for(sq.zoo.japanese_vowels()))).model_name
    'JapaneseVowels'
    """
    try:
        shipment = _travelling(engine).packed()
    except SeqscopeError:
        raise
    except Exception as error:
        raise ModelError(_why_not(engine, error)) from error
    return pickle.dumps((shipment, fingerprint(engine)), protocol=5)


def unpacked(data: bytes) -> Engine:
    """The engine that `packed` made bytes of: its outputs are the same bit for bit, where the machine and the threads are.

    Parameters
    ----------
    data : bytes
        From a process of the person's own: code in them runs.

    Raises
    ------
    ModelError
        A module that defines a part of the model can't be imported here, Keras runs on another backend here, or the model that came out
        is another one.
    """
    shipment, sent = pickle.loads(data)
    for framework, variables in shipment.environment.items():
        if framework not in sys.modules:
            os.environ.update(variables)
    try:
        model, call = importlib.import_module(f"seqscope.engines.{shipment.room}").opened(shipment.data)
    except SeqscopeError:
        raise
    except ModuleNotFoundError as error:
        raise ModelError(
            f"The model that was sent here needs the module {error.name!r}, which this process can't import: bring it there "
            f"(on Dask, client.upload_file('{error.name}.py')), or define its classes where the recording is started."
        ) from error
    except Exception as error:
        ending = _ENDINGS.get(shipment.room.partition("_")[0], "pt")
        raise ModelError(f"The model that was sent here can't be opened ({_in_short(error)}): {_from_a_file(ending)}.") from error
    engine = engine_for(model, call=call)
    if fingerprint(engine) != sent:
        raise ModelError(
            f"The model {engine.model_name} that was sent here came out as another one: a class of it does not keep all of its weights "
            "when it is saved. Give factory='module:callable' with what makes it."
        )
    return engine


def _travelling(engine: Engine) -> Travels:
    if isinstance(engine, Travels):
        return engine
    raise UnsupportedError(f"A model of {engine.framework} can't be told from others or sent to another process yet.")


def _why_not(engine: Engine, error: Exception) -> str:
    """Why a model can't be packed, or the function that feeds it: whichever of them can't be alone."""
    call = _travelling(engine).call
    with contextlib.suppress(Exception):
        try:
            dumped(call)
        except Exception as of_call:
            return (
                f"The function call= that feeds {engine.model_name} can't be sent to another process ({_in_short(of_call)}): "
                "make it one that uses nothing from outside of it, or put it into a module that the other process can import."
            )
    remedy = _from_a_file(_ENDINGS.get(engine.framework, "pt"))
    return f"The model {engine.model_name} can't be sent to another process ({_in_short(error)}): {remedy}."


def _from_a_file(ending: str) -> str:
    return f"open it from a file, Scope('model.{ending}'), or give factory='module:callable'"


def _in_short(error: Exception) -> str:
    """What a framework says, on one line without its end."""
    text = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__


# How engines pack


def pickler(reduced: Callable[[Any], Any]) -> type[pickle.Pickler]:
    """A pickler that sends classes and functions of scripts too, and objects that do not pickle by themselves in a way of their own.

    Parameters
    ----------
    reduced : function of an object
        What makes it, as `__reduce__` gives it; NotImplemented for an object that goes the usual way.

    Raises
    ------
    MissingPackageError
        cloudpickle is not installed.
    """
    cloudpickle = require("cloudpickle", extra="record", purpose="Sending a model to another process")

    class Pickler(cloudpickle.Pickler):  # type: ignore[name-defined, misc]
        def reducer_override(self, value: Any) -> Any:
            made = reduced(value)
            return super().reducer_override(value) if made is NotImplemented else made

    return Pickler


def dumped(value: Any, reduced: Callable[[Any], Any] = lambda value: NotImplemented) -> bytes:
    """An object as bytes (see `pickler`)."""
    written = io.BytesIO()
    pickler(reduced)(written, protocol=5).dump(value)
    return written.getvalue()


# Threads


def use_threads(n: int) -> None:
    """Let every framework of this process compute on so many threads: meant for the processes of a cluster, which share a machine.

    What is imported already is told so; what is imported later reads the variables of the environment, which are set. TensorFlow and JAX
    that have computed before keep the threads that they have, so start their processes with `THREAD_VARIABLES` set. Sessions of
    onnxruntime that are made from now on have so many.

    Parameters
    ----------
    n : int
        Threads of one process.

    Raises
    ------
    ModelError
        n is less than 1.

    Examples
    --------
    >>> use_threads(1)
    """
    if n < 1:
        raise ModelError(f"A process computes on one thread or more: {n} were asked for.")
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(n)))
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(n)
    tensorflow: Any = sys.modules.get("tensorflow")
    if tensorflow is not None:
        with contextlib.suppress(RuntimeError):  # it has computed before, and its threads are made
            tensorflow.config.threading.set_intra_op_parallelism_threads(n)
            tensorflow.config.threading.set_inter_op_parallelism_threads(n)
    threadpoolctl: Any = sys.modules.get("threadpoolctl")
    if threadpoolctl is not None:
        threadpoolctl.threadpool_limits(n, user_api="blas")
