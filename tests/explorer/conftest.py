"""A page that is served.

`served(source)` gives the address of a source's page; the browser that looks at it is that of `chromium.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

import seqscope as sq
from seqscope.explorer.opening import source_of
from seqscope.explorer.server import serve


@pytest.fixture(scope="session")
def vowels():
    """A live source that is shared by all tests: its values may be kept, and nothing of it may be changed."""
    X, _ = sq.datasets.japanese_vowels("test")
    return source_of(sq.Scope(sq.zoo.japanese_vowels()), X)


@pytest.fixture(scope="session")
def served() -> Iterator[Callable[..., str]]:
    """Serve a source, and give the address of its page. One that is served already is not served again."""
    known: dict[int, tuple[object, str]] = {}
    with ExitStack() as running:

        def serve_source(source, **options):
            if id(source) not in known or options:
                url = running.enter_context(serve(source, port=0, **options)).url
                known[id(source)] = (source, url)
            return known[id(source)][1]

        yield serve_source
