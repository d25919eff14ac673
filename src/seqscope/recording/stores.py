"""Where a recording stands: a folder, a bucket, memory. Addresses, Zarr's stores behind them, and small objects beside the arrays."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import google_crc32c
from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.core.common import concurrent_map
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore, WrapperStore, ZipStore

from seqscope.errors import DataError, MissingPackageError, SeqscopeError, nearest, require

Address = str | os.PathLike[str] | Store
T = TypeVar("T")

# What keeps a second writer out (see `lock`). It is there before the store is, and alone it is no store.
LOCK, LEASE = "ledger/lock", "ledger/lease.json"

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)  # of one letter it would be a drive of Windows
_LOCAL = ("file", "local")
_USUAL = ("s3", "gs", "gcs", "az", "abfs", "file", "memory", "https")
_OBSTORE = {
    "s3": "s3",
    "s3a": "s3a",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "abfs": "abfs",
    "abfss": "abfss",
    "adl": "adl",
    "http": "http",
    "https": "https",
}
_BUCKETS = {"S3Store": "s3", "GCSStore": "gs"}
_PARTIAL = re.compile(r".+\.[0-9a-f]{32}\.partial")
_AT_ONCE = 8 << 20  # bytes that are held of an object while its checksum is taken
_N_AT_ONCE = 32  # requests
_CLIENTS = {"aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "obstore", "s3fs"}
# What the system says of a disk that takes no more.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def open_store(address: Address, *, storage_options: Mapping[str, Any] | None = None, read_only: bool = False) -> Store:
    """Zarr's store at an address. Nothing is made there yet.

    Parameters
    ----------
    address : str, path or Store
        A folder; "s3://bucket/x" or what else fsspec or obstore know; a store of Zarr, which is taken as it is.
    storage_options : dict, optional
        What fsspec's file system (obstore's store, where fsspec lacks the package) is opened with.
    read_only : bool
        Whether writing to it is an error.

    Raises
    ------
    DataError
        The scheme is not known, the options are wrong, or nothing answers there.
    MissingPackageError
        The scheme needs a package that is not installed.

    Examples
    --------
    >>> open_store("memory://vowels")
    <FsspecStore(AsyncFileSystemWrapper, /vowels)>
    """
    if not isinstance(address, Store):
        scheme = _SCHEME.match(os.fspath(address))
        if scheme is not None and scheme[1].lower() not in _LOCAL:
            return _remote(str(address), scheme[1].lower(), dict(storage_options or {}), read_only)
    if storage_options:
        raise DataError(f"storage_options= was given with '{words(address)}': it is for addresses such as 's3://bucket/x'.")
    if isinstance(address, Store):
        if address.read_only and not read_only:
            raise DataError(f"The store '{words(address)}' was opened to be read only: open it so that it can be written.")
        return address
    path = _path(os.fspath(address)).absolute()  # a worker may run in another folder
    if path.exists() and not path.is_dir():
        raise DataError(f"'{words(address)}' is a file, and a store is a folder: name another place.")
    return LocalStore(path, read_only=read_only)


def words(address: Address) -> str:
    """An address as a message names it: no user, no password, no token.

    >>> words("s3://key:secret@bucket/vowels.zarr?token=123")
    's3://bucket/vowels.zarr'
    """
    if not isinstance(address, Store):
        text = os.fspath(address)
        if _SCHEME.match(text) is None:
            return text
        parts = urlsplit(text)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    store = _inner(address)
    path = local_path(store)
    if path is not None:
        return path.name
    if isinstance(store, FsspecStore):
        return words(store.fs.unstrip_protocol(store.path))
    inside = getattr(store, "store", None)  # obstore's
    scheme, bucket = _BUCKETS.get(type(inside).__name__), (getattr(inside, "config", None) or {}).get("bucket")
    return f"{scheme}://{bucket}/{inside.prefix or ''}" if inside is not None and scheme and bucket else type(inside or store).__name__


def is_shared(store: Store) -> bool:
    """Whether other processes can open it too, by its pickled bytes."""
    store = _inner(store)
    if isinstance(store, FsspecStore):
        return _protocol(store) != "memory"
    if isinstance(store, ObjectStore):
        return type(store.store).__name__ != "MemoryStore"
    return not isinstance(store, MemoryStore | ZipStore)


def exists(store: Store) -> bool:
    """Whether anything is there: a folder that is empty, or that holds a lock alone, is not."""
    with told(store):
        if _names(store, "") - {"ledger"}:
            return True
        names = _names(store, "ledger") - {LOCK.rpartition("/")[2], LEASE.rpartition("/")[2]}
        return not all(map(_PARTIAL.fullmatch, names))


def local_path(store: Store) -> Path | None:
    """The folder of a store on a disk of this machine; None of any other."""
    store = _inner(store)
    if isinstance(store, LocalStore):
        return store.root
    return Path(store.path) if isinstance(store, FsspecStore) and _protocol(store) in _LOCAL else None


def free_space(store: Store) -> int | None:
    """Bytes that are free where a store stands, or will stand; None where that can't be known."""
    path = local_path(store)
    if path is None:
        return None
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    return shutil.disk_usage(there).free


def clear(store: Store, *, spared: Sequence[str] = ()) -> None:
    """Delete everything in a store but what keeps a second writer out, and the objects that are to be spared."""
    path, kept = local_path(store), (LOCK, LEASE, *spared)
    with told(store):
        if path is None:
            found = [key for key in sync(_listed(store.list)) if key not in kept]
            sync(_deleted(store, found))
            return
        for entry in path.iterdir() if path.is_dir() else ():
            _removed(entry, spared=tuple(path / key for key in kept))


def remove_partials(store: Store) -> None:
    """Delete the files that a killed process was writing: they have names of their own until they are whole."""
    path = local_path(store)
    if path is not None:
        for folder, _, files in os.walk(path):
            for file in filter(_PARTIAL.fullmatch, files):
                Path(folder, file).unlink(missing_ok=True)


def get(store: Store, key: str) -> bytes | None:
    """The bytes of an object; None where there is none."""
    return _read(store, key, None)


def put(store: Store, key: str, data: bytes) -> None:
    """Write an object, over one that is there."""
    _ask(store, store.set(key, _buffer(data)))


def put_if_absent(store: Store, key: str, data: bytes) -> bool:
    """Write an object where none is there, and say whether it was this call that did.

    Of several that call at once only one is told so, where the store can do that (a disk of this machine, S3, GCS, Azure), and where
    not, as far as reading it back shows: let the data of each differ.
    """
    if _ask(store, store.exists(key)):
        return False
    _ask(store, _created(store, key, _buffer(data)))
    return get(store, key) == data


def delete(store: Store, key: str) -> None:
    """Delete an object, if it is there."""
    _ask(store, store.delete(key))


def keys(store: Store, prefix: str) -> list[str]:
    """The objects under a prefix ("ledger/entries"), sorted by name."""
    folder = prefix.rstrip("/") + "/" if prefix else ""
    found = _found(store, _listed(store.list_prefix, folder))
    return sorted(key for key in found or () if key.startswith(folder))


def size(store: Store, key: str) -> int | None:
    """Bytes of an object; None where there is none."""
    return _found(store, _inner(store).getsize(key))


def crc32c(store: Store, key: str) -> str | None:
    """CRC-32C of an object, 8 hexadecimal digits; None where there is none. A large one is read piece by piece.

    >>> store = open_store("memory://doctest")
    >>> put(store, "digits", b"123456789")
    >>> crc32c(store, "digits")
    'e3069283'
    """
    n_bytes = size(store, key)
    if n_bytes is None:
        return None
    checksum = 0
    for start in range(0, n_bytes, _AT_ONCE):
        piece = _read(store, key, RangeByteRequest(start, min(start + _AT_ONCE, n_bytes)))
        if piece is None:
            return None
        checksum = google_crc32c.extend(checksum, piece)
    return f"{checksum:08x}"


class Witness(WrapperStore[Store]):
    """A store that passes everything on, and remembers of each object that was written its bytes and its CRC-32C.

    Parameters
    ----------
    store : Store
        Where it is written.

    Attributes
    ----------
    seen : dict of (int, str)
        By key: what was handed over to be written, so that a disk that lost some of it is found out.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.seen: dict[str, tuple[int, str]] = {}

    def _with_store(self, store: Store) -> Witness:
        other = type(self)(store)
        other.seen = self.seen
        return other

    async def set(self, key: str, value: Buffer) -> None:
        """Write, and remember it once it is written."""
        await super().set(key, value)
        self.seen[key] = _figures(value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write where nothing is there; what stays as it was is not remembered."""
        there = await self.exists(key)
        await super().set_if_not_exists(key, value)
        if not there:
            self.seen[key] = _figures(value)

    async def _set_many(self, values: Iterable[tuple[str, Buffer]]) -> None:
        await Store._set_many(self, values)  # one by one, through `set`

    async def delete(self, key: str) -> None:
        """Delete, and forget: Zarr deletes a chunk that has come to hold nothing."""
        await super().delete(key)
        self.seen.pop(key, None)


@contextmanager
def told(store: Store) -> Iterator[None]:
    """Say in a sentence what a store, or the library that asks it, raised; a full disk passes as it is.

    Raises
    ------
    DataError
        No permission, no such bucket, nobody answers there.
    """
    try:
        yield
    except SeqscopeError:
        raise
    except Exception as error:
        is_client = type(error).__module__.partition(".")[0] in _CLIENTS
        is_local = local_path(store) is not None
        is_refusal = (
            isinstance(error, PermissionError | NotADirectoryError | IsADirectoryError) or getattr(error, "errno", None) == errno.EROFS
        )
        is_told = is_refusal if is_local else is_client or isinstance(error, OSError)
        if not is_told or getattr(error, "errno", None) in FULL:
            raise
        raise DataError(_refusal(words(store), error, is_local=is_local)) from error


def _refusal(name: str, error: Exception, *, is_local: bool = False) -> str:
    said = (getattr(error, "strerror", None) or str(error)).strip().partition("\n")[0][:300].rstrip(".") or "it says nothing more"
    remedy = "name another place, or have it opened for you" if is_local else "look at the address, the credentials and storage_options="
    return f"'{name}' can't be used ({type(error).__name__}: {said}): {remedy}."


def _remote(url: str, scheme: str, options: dict[str, Any], read_only: bool) -> Store:
    """A store elsewhere, by fsspec or else by obstore; asked once, so that what is wrong is said now."""
    store = None
    try:
        store = _by_fsspec(url, scheme, options, read_only) or _by_obstore(url, scheme, options, read_only)
        sync(store.exists("zarr.json"))
    except SeqscopeError:
        raise
    except Exception as error:
        raise DataError(_refusal(words(url), error)) from error
    return store


def _by_fsspec(url: str, scheme: str, options: dict[str, Any], read_only: bool) -> Store | None:
    """None where the package for the scheme is not installed and obstore's is."""
    fsspec = require("fsspec", extra="record", purpose=f"The address '{words(url)}'")
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError:
        known = [*_USUAL, *fsspec.available_protocols()]
        raise DataError(
            f"'{words(url)}' has a scheme that is not known: expected a folder, or one such as 's3://'; {nearest(scheme, known)}."
        ) from None
    except ImportError as error:
        cause = error.__cause__ or error.__context__
        package = getattr(cause, "name", None) or scheme
        if scheme in _OBSTORE and _has_obstore():
            return None
        lacking = f"'{package}', or 'obstore', and neither is" if scheme in _OBSTORE else f"'{package}', which is not"
        raise MissingPackageError(f"{scheme}://... needs the package {lacking} installed: pip install {package}") from error
    # A listing that fsspec has kept would not show what other processes wrote since.
    return FsspecStore.from_url(url, storage_options={"use_listings_cache": False, **options}, read_only=read_only)


def _by_obstore(url: str, scheme: str, options: dict[str, Any], read_only: bool) -> Store:
    obstore = require("obstore.store", extra="record", purpose=f"{scheme}://...")
    return ObjectStore(obstore.from_url(f"{_OBSTORE[scheme]}{url[len(scheme) :]}", **options), read_only=read_only)


def _has_obstore() -> bool:
    try:
        require("obstore.store", extra="record", purpose="")
    except MissingPackageError:
        return False
    return True


def _path(text: str) -> Path:
    return Path(url2pathname(urlsplit(text).path) if text.lower().startswith("file://") else text.removeprefix("local://"))


def _inner(store: Store) -> Store:
    while isinstance(store, WrapperStore):
        store = store._store
    return store


def _protocol(store: FsspecStore) -> str:
    """The scheme of fsspec's file system: "s3", "memory"."""
    system = getattr(store.fs, "sync_fs", store.fs)  # one that is not asynchronous stands in a wrapper
    return system.protocol if isinstance(system.protocol, str) else system.protocol[0]


def _ask(store: Store, answer: Coroutine[Any, Any, T]) -> T:
    with told(store):
        return sync(answer)


def _found(store: Store, answer: Coroutine[Any, Any, T]) -> T | None:
    """What a store answers; None where nothing is there."""
    with told(store), suppress(FileNotFoundError):
        return sync(answer)
    return None


def _read(store: Store, key: str, part: RangeByteRequest | None) -> bytes | None:
    found = _found(store, store.get(key, default_buffer_prototype(), part))
    return None if found is None else found.to_bytes()


def _names(store: Store, folder: str) -> set[str]:
    """What stands directly in a folder."""
    return {name.strip("/").rpartition("/")[2] for name in sync(_listed(store.list_dir, folder))} - {""}


async def _listed(by: Callable[..., AsyncIterator[str]], *folder: str) -> list[str]:
    return [name async for name in by(*folder)]  # asked within the loop, as obstore needs it


async def _deleted(store: Store, found: Iterable[str]) -> None:
    await concurrent_map([(key,) for key in found], store.delete, limit=_N_AT_ONCE)


async def _created(store: Store, key: str, value: Buffer) -> None:
    """Write an object where none is there; nothing is said where another was faster."""
    inner = _inner(store)
    if not isinstance(inner, FsspecStore):
        await store.set_if_not_exists(key, value)
        return
    try:  # what `FsspecStore` itself does here is to look and then to write
        await inner.fs._pipe_file(f"{inner.path}/{key}", value.to_bytes(), mode="create")
    except FileExistsError:
        return
    except NotImplementedError:
        await store.set_if_not_exists(key, value)


def _removed(entry: Path, spared: tuple[Path, ...]) -> None:
    if entry in spared:
        return
    if any(entry in path.parents for path in spared):
        for inside in entry.iterdir():
            _removed(inside, spared)
    elif entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)


def _buffer(data: bytes) -> Buffer:
    return default_buffer_prototype().buffer.from_bytes(data)


def _figures(value: Buffer) -> tuple[int, str]:
    return len(value), f"{google_crc32c.value(value.as_numpy_array()):08x}"
