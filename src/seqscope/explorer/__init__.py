"""The explorer: a local page over a recording or a live model."""

from __future__ import annotations

import sys
from typing import Any

from seqscope.errors import in_call, warn
from seqscope.explorer.opening import source_of
from seqscope.explorer.server import Served, serve
from seqscope.scope import Scope

__all__ = ["Served", "explore"]


def explore(
    given: Any,
    X: Any = None,
    *,
    scope: Scope | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    show: bool | None = None,
    block: bool | None = None,
) -> Served:
    """Open the page: look at a recording or a live model in the browser.

    In a script or from a terminal's prompt the browser opens; in a script this goes on until Ctrl-C. In a notebook the page shows itself
    below the cell. Everything comes from this machine, and unless `host` says otherwise it is served to this machine alone.

    Parameters
    ----------
    given : path or address of a store, Recording, Scope, or a model
    X : optional
        The data: of a live model what it is to run on; of a recording that was made without its inputs, those.
    scope : Scope, optional
        The model that a recording was made from, for explanations.
    host : str, default "127.0.0.1"
        The address to listen on. With another the page can be opened from other machines by whoever has its address, which then has a token
        in it.
    port : int, default 5006
        Where it is in use the next free one is taken; 0: any that is free.
    show : bool, optional
        Whether to open the browser; default: unless it is a notebook.
    block : bool, optional
        Whether to wait until Ctrl-C; default: unless it is a notebook or a prompt.

    Returns
    -------
    Served
        With `url`, `stop()`, and as a context manager.

    Raises
    ------
    DataError
        There is no such store, a live model was given no data, the model or the data are not those of the recording, or no port is free.
    ModelError
        The model can't be opened.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> with sq.explore(sq.Scope(sq.zoo.japanese_vowels()), X, port=0, show=False, block=False) as served:
    ...     served.url.startswith("http://127.0.0.1:")
    True
    """
    with in_call(lambda: "explore(...)"):
        served = serve(source_of(given, X, scope=scope), host=host, port=port)
    for note in served.notes:
        warn(note)
    if show or (show is None and not _in_notebook()):
        served.show()
    if block or (block is None and not _is_interactive()):
        sys.stderr.write(f"Served at {served.url} until Ctrl-C.\n")
        served.wait()
    return served


def _in_notebook() -> bool:
    """Whether this runs in the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    running = None if shell is None else shell.get_ipython()
    return running is not None and getattr(running, "kernel", None) is not None


def _is_interactive() -> bool:
    """Whether somebody types the next line while this goes on."""
    shell = sys.modules.get("IPython")
    return hasattr(sys, "ps1") or bool(sys.flags.interactive) or (shell is not None and shell.get_ipython() is not None)
