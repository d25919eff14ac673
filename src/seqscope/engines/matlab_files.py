"""What a `.mat` file holds, for one sentence: MATLAB's networks are objects of its own, which only MATLAB can export."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

from seqscope.errors import quoted

# The classes of MATLAB's networks (layers and graphs of layers are in a package of their own), and that of its shallow ones.
_NETWORKS, _PARTS, _SHALLOW = ("SeriesNetwork", "DAGNetwork", "dlnetwork"), "nnet.cnn.", "network"


def about_mat(path: Path) -> str:
    """The sentence for a `.mat` file that was given as a model."""
    classes = _classes(path)
    networks = {name: kind for name, kind in classes.items() if kind in _NETWORKS or kind.startswith(_PARTS)}
    if networks:
        name, kind = next(iter(networks.items()))
        return (
            f"'{path}' holds '{name}', a {kind} of MATLAB's own, which only MATLAB can read: there, with the Deep Learning Toolbox "
            f'Converter for ONNX Model Format, call exportONNXNetwork({name}, "{path.stem}.onnx") and open {path.stem}.onnx.'
        )
    shallow = [name for name, kind in classes.items() if kind == _SHALLOW]
    if shallow:
        return (
            f"'{path}' holds '{shallow[0]}', a network of MATLAB's shallow kind, which has no export: build it anew as a dlnetwork, "
            "whose exportONNXNetwork gives a file that can be opened."
        )
    if classes:
        return f"'{path}' holds data ({quoted(classes, most=5)}) and no network: read it with seqscope.read('{path}')."
    return (
        f"'{path}' is a MATLAB file: a network in it is exported in MATLAB, exportONNXNetwork(net, \"net.onnx\"), and net.onnx opened; "
        f"data in it is read with seqscope.read('{path}')."
    )


def _classes(path: Path) -> dict[str, str]:
    """The class of each variable; none where the file can't be looked into."""
    if importlib.util.find_spec("matio") is None:
        return {}
    import matio

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is in a variable, which is not asked here
            return {str(name): str(kind) for name, (_, kind) in matio.whosmat(str(path)).items()}
    except Exception:  # a format with many readers and writers: whatever went wrong, the sentence helps
        return {}
