"""What the tests of recordings share: an S3 server of their own."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from zarr.abc.store import Store
from zarr.storage import MemoryStore

from seqscope.recording import stores


@pytest.fixture(scope="session")
def s3() -> Iterator[tuple[str, dict[str, str]]]:
    """An empty bucket, and the storage options that reach it: take a name of your own in it (f"{url}/mine.zarr")."""
    import s3fs
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"key": "someone", "secret": "s3cr3t", "endpoint_url": f"http://{host}:{port}"}
    s3fs.S3FileSystem(**options).mkdir("bucket")
    yield "s3://bucket", options
    server.stop()


@pytest.fixture
def empty_store(tmp_path: Path, s3: tuple[str, dict[str, str]]) -> Callable[[str], Store]:
    """Makes a store of a kind in which nothing is yet: "folder", "memory", "fsspec", "s3"."""
    name = f"{tmp_path.name}.zarr"
    made: dict[str, Callable[[], Store]] = {
        "folder": lambda: stores.open_store(tmp_path / "some" / name),
        "memory": MemoryStore,
        "fsspec": lambda: stores.open_store(f"memory://{name}"),
        "s3": lambda: stores.open_store(f"{s3[0]}/{tmp_path.parent.name}/{name}", storage_options=s3[1]),
    }
    return lambda kind: made[kind]()
