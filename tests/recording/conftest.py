"""What the tests of recordings share: an S3 server of their own."""

import logging
from collections.abc import Iterator

import pytest


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
