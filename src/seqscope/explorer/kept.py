"""What was computed or read once, kept for the next who asks: so many bytes of it, over all people who look."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

# What all values together may take; what is larger than that alone is not kept.
BYTES = 400_000_000


class Kept:
    """Values by key, the least recently used dropped first; two who ask for one at a time share the work.

    Parameters
    ----------
    n_bytes : int
        What all together may take.
    """

    def __init__(self, n_bytes: int = BYTES) -> None:
        self._limit, self._size = n_bytes, 0
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._coming: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()

    def __contains__(self, key: Hashable) -> bool:
        """Whether there is a value, so that asking for it takes no time."""
        with self._lock:
            return key in self._values

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of a key, made now if it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            coming, mine = self._coming.get(key), key not in self._coming
            if coming is None:
                coming = self._coming[key] = Future()
        if not mine:
            return coming.result()
        return self._made(key, make, coming)

    def _made(self, key: Hashable, make: Callable[[], Any], coming: Future[Any]) -> Any:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._coming[key]
            coming.set_exception(error)
            raise
        with self._lock:
            del self._coming[key]
            self._keep(key, value)
        coming.set_result(value)
        return value

    def _keep(self, key: Hashable, value: Any) -> None:
        size = _size(value)
        if size > self._limit:
            return
        self._values[key] = value
        self._size += size
        while self._size > self._limit:
            _, dropped = self._values.popitem(last=False)
            self._size -= _size(dropped)


def _size(value: Any) -> int:
    """Bytes of arrays and tables; of what does not tell, a page."""
    size = getattr(value, "nbytes", None)
    return 4096 if size is None else int(size) + 4096
