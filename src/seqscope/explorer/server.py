"""The server of the page: a thread of its own, a port that is free, an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from html import escape
from pathlib import Path

import panel as pn
from bokeh.core.validation import silence
from bokeh.core.validation.warnings import EMPTY_LAYOUT
from bokeh.server.server import BaseServer
from panel.io.application import build_applications
from panel.io.resources import DIST_DIR
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.web import StaticFileHandler

from seqscope.errors import DataError, SeqscopeError
from seqscope.explorer.guard import Doors, Guarded
from seqscope.explorer.page import page_of
from seqscope.explorer.source import Source

_LOG = logging.getLogger(__name__)
HOST, PORT = "127.0.0.1", 5006
# How many ports are tried, one after the other.
_TRIED = 100
# Milliseconds after which the page of somebody who has gone is given up, and between looking for such pages.
_UNUSED, _LOOKED_FOR = 15_000, 3_000
# A message that a page sends is a choice, never data.
_LARGEST_MESSAGE = 1_000_000

# Makes a page over a source, for one session.
Making = Callable[[Source], pn.Template]


class Served:
    """A page that is served, in a thread of its own, until it is stopped. In a notebook it shows itself.

    Parameters
    ----------
    source : Source
    host : str
        The address that is listened on.
    bound : socket
        That listens on it.
    make : function of Source
        Makes the page for one session.
    notes : tuple of str

    Attributes
    ----------
    url : str
        The address of the page.
    notes : tuple of str
        What there is to be said of it, a sentence each.
    """

    def __init__(self, source: Source, host: str, bound: socket.socket, make: Making, notes: tuple[str, ...] = ()) -> None:
        self.notes, self._socket, self._doors = notes, bound, Doors(host)
        # Who can reach this machine does not reach the page without its address.
        self._prefix = "" if self._doors.is_local else f"/{secrets.token_urlsafe(24)}"
        self.port: int = bound.getsockname()[1]
        self.url = f"http://{_named(host)}:{self.port}{self._prefix}/"
        self._application: Guarded | None = None
        self._begun: Future[tuple[IOLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=self._run, args=(source, make), name=f"seqscope-page-{self.port}", daemon=True)
        self._thread.start()
        self._begun.result()

    def _run(self, source: Source, make: Making) -> None:
        try:
            asyncio.run(self._serve(source, make))
        except BaseException as error:  # handed to the thread that waits for it
            if self._begun.done():
                _LOG.exception("The server of the page ended.")
            else:
                self._begun.set_exception(error)
        finally:
            self._socket.close()

    async def _serve(self, source: Source, make: Making) -> None:
        loop, ended = IOLoop.current(), asyncio.Event()
        self._application = application = self._guarded(source, make)
        http = HTTPServer(application)
        http.add_sockets([self._socket])
        server = BaseServer(loop, application, http)
        server.start()
        self._begun.set_result((loop, ended))
        await ended.wait()
        await _close(application, http)
        server.stop()

    def _guarded(self, source: Source, make: Making) -> Guarded:
        return Guarded(
            build_applications({"/": lambda: _page_or_sentence(source, make)}, title="seqscope"),
            self._doors,
            prefix=self._prefix,
            extra_patterns=[(r"/(favicon\.ico)", StaticFileHandler, {"path": str(Path(DIST_DIR, "images"))})],
            # Nobody gets into the page of another by naming a session in the address: those that were not made here are not signed.
            secret_key=secrets.token_hex(32).encode(),
            sign_sessions=True,
            include_headers=[],
            include_cookies=[],
            check_unused_sessions_milliseconds=_LOOKED_FOR,
            unused_session_lifetime_milliseconds=_UNUSED,
            websocket_max_message_size_bytes=_LARGEST_MESSAGE,
        )

    @property
    def is_open(self) -> bool:
        """Whether other machines can open it, with its address."""
        return bool(self._prefix)

    @property
    def is_running(self) -> bool:
        """Whether it is still served."""
        return self._thread.is_alive()

    @property
    def n_pages(self) -> int:
        """How many pages are open."""
        return 0 if self._application is None or not self.is_running else self._application.n_pages

    def stop(self) -> None:
        """End it: pages that are open lose their connection, and the port is free. Once is enough; more does no harm."""
        if self.is_running:
            loop, ended = self._begun.result()
            with suppress(RuntimeError):  # it ended by itself meanwhile
                loop.add_callback(ended.set)
            self._thread.join()

    def wait(self) -> None:
        """Wait until Ctrl-C, or until it is stopped from elsewhere; then it is stopped."""
        try:
            while self.is_running:
                self._thread.join(0.2)  # on Windows Ctrl-C does not wake a thread that waits without an end
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()

    def show(self) -> None:
        """Open it in the person's browser, where there is a screen: without one a browser may be one of the terminal, and would take it."""
        if sys.platform != "linux" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")):
            webbrowser.open(self.url)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Served at {self.url}" if self.is_running else "Served: stopped"

    def _repr_html_(self) -> str:
        if not self.is_running:
            return "<p>This page is no longer served.</p>"
        address = escape(self.url, quote=True)
        return (
            f'<iframe src="{address}" title="seqscope" allow="clipboard-write" '
            'style="width: 100%; height: 900px; border: 1px solid #d0d7de; background: #fff"></iframe>'
            f'<p><a href="{address}" target="_blank" rel="noopener">{address}</a></p>'
        )


def _page_or_sentence(source: Source, make: Making) -> pn.Template:
    """The page; where it can't be made, one that says so."""
    try:
        return make(source)
    except SeqscopeError as error:
        return _sentence(error.message)
    except Exception as error:
        _LOG.exception("The page could not be made.")
        return _sentence(f"This page could not be made ({type(error).__name__}); where seqscope was started there is more about it.")


def _sentence(text: str) -> pn.Template:
    page = pn.Template(
        '{% extends base %}{% block title %}seqscope{% endblock %}{% block contents %}<p role="alert">{{ sentence | e }}</p>{% endblock %}'
    )
    page.add_variable("sentence", text)
    return page


async def _close(application: Guarded, http: HTTPServer) -> None:
    """Give up all connections and all sessions."""
    http.stop()
    for client in list(application._clients):
        connection = client._socket.socket.ws_connection
        application.client_lost(client)
        if connection is not None:
            connection.stream.close()
    await http.close_all_connections()
    for context in application.applications.values():
        for session in list(context.sessions):
            session.request_expiration()
    await application._cleanup_sessions()


# Where


def serve(source: Source, *, host: str | None = None, port: int | None = None, make: Making | None = None) -> Served:
    """Serve the page of a source, in a thread.

    Parameters
    ----------
    source : Source
    host : str, default "127.0.0.1"
        The address to listen on. With another than this machine's own the page's address has a token in it.
    port : int, default 5006
        The next free one is taken where it is in use; 0: any that is free.
    make : function of Source, optional
        Makes the page for one session; default: `page_of`.

    Raises
    ------
    DataError
        The host is not one of this machine's, or no port is free.
    """
    silence(EMPTY_LAYOUT, True)  # a view that was not looked at yet is none
    wanted = PORT if port is None else port
    listened = host or HOST
    bound = _bound(listened, wanted)
    taken = bound.getsockname()[1]
    notes = [f"Port {wanted} is in use: taken {taken}."] if wanted and taken != wanted else []
    served = Served(source, listened, bound, make or page_of, tuple(notes))
    if served.is_open:
        served.notes += (f"Whoever has the address {served.url} can look at the data: it leads here from other machines, unencrypted.",)
    return served


def _bound(host: str, port: int) -> socket.socket:
    """A socket on the first free port from one on."""
    if ":" in host:
        raise DataError(f"The page can't be served at '{host}': give a name or an address of the form 192.0.2.1.")
    if not 0 <= port <= 65535:
        raise DataError(f"There is no port {port}: the numbers go from 0 to 65535.")
    tried = range(port, min(port + _TRIED, 65536)) if port else range(1)
    for number in tried:
        try:
            return _listening(host, number)
        except OSError as error:
            is_taken = error.errno == errno.EADDRINUSE or (error.errno == errno.EACCES and sys.platform == "win32")
            if error.errno == errno.EACCES and not is_taken:
                raise DataError(f"Port {number} may not be used by this person: give one above 1023.") from error
            if not is_taken:
                raise DataError(f"The page can't be served at '{host}', no address of this machine ({error.strerror or error}).") from error
    raise DataError(f"Of the ports {tried[0]} to {tried[-1]} none is free: give another with port=.")


def _listening(host: str, port: int) -> socket.socket:
    address = socket.getaddrinfo(host or None, port, socket.AF_INET, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)[0][-1]
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let two listen at one port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setblocking(False)
        made.bind(address)
        made.listen(128)
    except OSError:
        made.close()
        raise
    return made


def _named(host: str) -> str:
    """The name in the address of what listens at a host."""
    return socket.gethostname() if host in ("0.0.0.0", "") else host
