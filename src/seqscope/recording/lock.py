"""One writer for a store: a lock that dies with its process where the store is a folder, a lease that runs out elsewhere."""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from zarr.abc.store import Store

from seqscope.errors import BusyError
from seqscope.recording import stores

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LEASE_S = 60.0
SETTLE_S = 2.0  # how long one who takes a lease over waits before reading it back: longer than another needs to write its own

_N_TRIES = 50
_open_here: set[int] = set()  # files that hold a lock, which a forked child would hold on to


class Lock(Protocol):
    """What is held of a store."""

    def check(self) -> None:
        """Go on where it is still held.

        Raises
        ------
        BusyError
            It was lost.
        """


@contextmanager
def held(store: Store, *, name: str) -> Iterator[Lock]:
    """Be the only one that writes to a store.

    Parameters
    ----------
    store : Store
        Which need not be there yet.
    name : str
        How a message names it.

    Yields
    ------
    Lock
        Whose `check` raises where the lock was lost meanwhile.

    Raises
    ------
    BusyError
        Another process, or another call of this one, writes to it.

    Examples
    --------
    >>> from seqscope.recording.stores import open_store
    >>> with held(open_store("memory://vowels"), name="vowels") as lock:
    ...     lock.check()
    """
    folder = stores.local_path(store)
    with stores.told(store):
        file = None if folder is None or fcntl is None else _locked(folder, name)
    with _lease(store, name) if file is None else _kept(file) as lock:
        yield lock


@dataclass(frozen=True)
class _Holder:
    """Who holds a store, as its lock or lease says it."""

    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    since: float = field(default_factory=time.time)
    until: float = 0.0
    holder: str = field(default_factory=lambda: secrets.token_hex(8))

    @classmethod
    def of(cls, data: bytes | None) -> _Holder | None:
        """None where nothing is there, or nothing that can be read."""
        try:
            said = json.loads(data or b"")
            return cls(int(said["pid"]), str(said["host"]), float(said["since"]), float(said["until"]), str(said["holder"]))
        except (ValueError, KeyError, TypeError):
            return None

    @property
    def data(self) -> bytes:
        """As it is written."""
        return json.dumps(asdict(self)).encode()

    @property
    def words(self) -> str:
        """As a message names it."""
        began = time.localtime(self.since)
        is_today = began[:3] == time.localtime()[:3]
        return f"process {self.pid} on host {self.host} (since {time.strftime('%H:%M:%S' if is_today else '%Y-%m-%d %H:%M:%S', began)})"


def _busy(name: str, holder: _Holder | None, *, lease: bool) -> BusyError:
    who = "another process" if holder is None else holder.words
    runs_out = f", or for its lease to expire, in {max(holder.until - time.time(), 0):.0f} s" if lease and holder is not None else ""
    return BusyError(f"'{name}' is being written by {who}: wait for it{runs_out}, or write to another store.")


class _File:
    """A lock on a file inside the store's folder, which the system takes back when the process ends, however it does."""

    def __init__(self, number: int, path: Path, name: str, made: list[Path]) -> None:
        self._number, self._path, self._name, self._made = number, path, name, made

    def check(self) -> None:
        if not _is_at(self._number, self._path):
            raise BusyError(
                f"'{self._name}' was deleted, moved or begun again by someone while it was being written: nothing more is written to it."
            )

    def release(self) -> None:
        """Leave nothing behind: no lock, and no folder that holds nothing."""
        if self._number not in _open_here:  # a forked child that comes by here has none to release
            return
        with suppress(OSError):
            if _is_at(self._number, self._path):
                self._path.unlink()
                for folder in self._made:
                    folder.rmdir()
        _open_here.discard(self._number)
        os.close(self._number)


@contextmanager
def _kept(file: _File) -> Iterator[Lock]:
    try:
        yield file
    finally:
        file.release()


def _locked(folder: Path, name: str) -> _File | None:
    """The lock of a folder, which is made; None where its file system has no locks.

    One who releases deletes the file, so a lock counts only on the file that is still at its place.
    """
    path = folder / stores.LOCK
    made = [part for part in (path.parent, folder) if not part.exists()]
    for _ in range(_N_TRIES):
        with suppress(FileNotFoundError):  # its folder was just taken away by one who released
            _make(path.parent)
            number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(number, path):
                    os.ftruncate(number, 0)
                    os.pwrite(number, _Holder().data, 0)
                    _open_here.add(number)
                    return _File(number, path, name, made)
                os.close(number)
            except OSError as error:
                holder = _Holder.of(os.pread(number, 4096, 0))
                os.close(number)
                if error.errno in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL):
                    return None
                if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                    raise
                raise _busy(name, holder, lease=False) from None
    raise _busy(name, None, lease=False)


def _make(folder: Path) -> None:
    """Make a folder that may be there, and that another may take away while it is looked at."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # pathlib's answer also where it was there, and is gone when it asks whether it is a folder
        if folder.exists():
            raise
        raise FileNotFoundError(folder) from None


def _is_at(number: int, path: Path) -> bool:
    try:
        there, here = path.stat(), os.fstat(number)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _closed_in_child() -> None:
    """A child that lives on must not keep a store locked: its copy of the file is closed, which the lock itself survives."""
    for number in _open_here:
        with suppress(OSError):
            os.close(number)
    _open_here.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_closed_in_child)


class _Lease:
    """An object in the store that says until when it is held, written anew by a thread as long as it is."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._mine = _Holder(until=time.time() + LEASE_S)
        self._lost = ""
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew_on, name="seqscope-lease", daemon=True)

    def take(self) -> None:
        """Get it, or say who has it."""
        if not stores.put_if_absent(self._store, stores.LEASE, self._mine.data):
            there = self._there()
            if there is not None and there.until > time.time():
                raise _busy(self._name, there, lease=True)
            self._take_over()
        self._thread.start()

    def check(self) -> None:
        now = time.time()
        if not self._lost and now > self._mine.until:
            self._lost = f"the store could not be asked for {now - self._mine.until + LEASE_S:.0f} s, and the lease ran out"
        if self._lost:
            raise BusyError(
                f"The lease on '{self._name}' was lost: {self._lost}. Nothing more is written; when no one else writes to it, "
                "call record again with resume=True."
            )

    def release(self) -> None:
        """Delete it, if it is still one's own; where the store does not answer it runs out by itself."""
        if self._mine.pid != os.getpid():  # a forked child
            return
        self._released.set()
        self._thread.join(LEASE_S / 3)
        with suppress(Exception):
            if self._is_mine(self._there()):
                stores.delete(self._store, stores.LEASE)

    def _take_over(self) -> None:
        """Take one that ran out: of several that write theirs the last has it."""
        self._mine = replace(self._mine, until=time.time() + LEASE_S)
        stores.put(self._store, stores.LEASE, self._mine.data)
        time.sleep(SETTLE_S)
        there = self._there()
        if not self._is_mine(there):
            raise _busy(self._name, there, lease=True)

    def _renew_on(self) -> None:
        while not self._lost and not self._released.wait(LEASE_S / 3):
            with suppress(Exception):  # a store that does not answer now may do so later; `check` sees to the time
                self._renew()

    def _renew(self) -> None:
        there = self._there()
        if not self._is_mine(there):
            self._lost = "it was deleted" if there is None else f"{there.words} has taken it over"
            return
        longer = replace(self._mine, until=time.time() + LEASE_S)
        stores.put(self._store, stores.LEASE, longer.data)
        self._mine = longer

    def _there(self) -> _Holder | None:
        return _Holder.of(stores.get(self._store, stores.LEASE))

    def _is_mine(self, there: _Holder | None) -> bool:
        return there is not None and there.holder == self._mine.holder


@contextmanager
def _lease(store: Store, name: str) -> Iterator[Lock]:
    lease = _Lease(store, name)
    lease.take()
    try:
        yield lease
    finally:
        lease.release()
