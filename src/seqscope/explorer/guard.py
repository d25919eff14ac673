"""Who is let in: which names and origins, and what a browser is told to keep to."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from html import escape
from typing import Any
from urllib.parse import urlsplit

from bokeh.resources import Resources
from bokeh.server.tornado import BokehTornado
from bokeh.server.views.autoload_js_handler import AutoloadJsHandler
from bokeh.server.views.ico_handler import IcoHandler
from bokeh.server.views.metadata_handler import MetadataHandler
from bokeh.server.views.static_handler import StaticHandler
from panel.io.server import DocHandler, WSHandler
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, HTTPServerRequest
from tornado.web import OutputTransform, RequestHandler
from tornado.websocket import WebSocketClosedError

from seqscope.explorer.line import Line

LOOPBACK = ("127.0.0.1", "localhost")
# Pages that may be open at once, over all people: each takes some megabytes.
MOST_PAGES = 100
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?")


class Doors:
    """Which names this server answers to, and which pages may connect to it.

    A page of another site can reach a server of this machine by having its own name stand for 127.0.0.1 (DNS rebinding): so the name that
    a request is for must be one of this server's. And a page of another origin may not connect: the origin must be the name that was asked.

    Parameters
    ----------
    host : str
        The address that is listened on.
    """

    def __init__(self, host: str) -> None:
        self.is_local = host in LOOPBACK
        # A server that listens on all addresses can't know its names; the token in its addresses is what keeps others out.
        self._names = None if host in ("0.0.0.0", "") else {*LOOPBACK, host.lower(), *([] if self.is_local else _names_of_this_machine())}

    def knows(self, host: str) -> bool:
        """Whether a `Host` header names this server: whatever the port, since a tunnel may have another."""
        if not _HOST.fullmatch(host):
            return False
        return self._names is None or name_in(host) in self._names

    def is_own(self, origin: str, host: str) -> bool:
        """Whether an `Origin` header is that of a page that came from the host which is asked."""
        return urlsplit(origin).netloc.lower() == host.lower() and self.knows(host)


def _names_of_this_machine() -> set[str]:
    return {name.lower() for name in (socket.gethostname(), socket.getfqdn())}


def name_in(host: str) -> str:
    """The name in a `Host` header, without its port."""
    return host.partition(":")[0].lower()


class Guarded(BokehTornado):  # type: ignore[misc]
    """Bokeh's application behind its doors.

    It serves pages, their web sockets and Bokeh's own files, all from here; a script for the pages of others (`autoload.js`) and
    Panel's route that imports modules by their names are left out.
    """

    def __init__(self, applications: Any, doors: Doors, **options: Any) -> None:
        self.doors = doors
        super().__init__(
            applications,
            use_index=False,
            redirect_root=False,
            transforms=[Headers],
            default_handler_class=NotHere,
            log_function=lambda handler: None,
            extra_websocket_origins=["*"],  # `Socket` looks at them
            **options,
        )
        rules = self.wildcard_router.rules
        rules[:] = [rule for rule in rules if not _is_one_of(rule.target, (AutoloadJsHandler, MetadataHandler, IcoHandler))]
        for rule in rules:
            rule.target = {DocHandler: Page, WSHandler: Socket}.get(rule.target, rule.target)

    def resources(self, absolute_url: Any = None) -> Resources:
        """Where pages get Bokeh from: here, whatever the environment says."""
        return Resources(mode="server", root_url=f"{self._prefix}/", path_versioner=StaticHandler.append_version)

    def find_handler(self, request: HTTPServerRequest, **options: Any) -> HTTPMessageDelegate:
        """Who answers a request, if it may be answered."""
        refused = self._refused(request)
        if refused:
            answer: HTTPMessageDelegate = self.get_handler_delegate(request, Refused, {"status": 403, "sentence": refused})
            return answer
        found: HTTPMessageDelegate = super().find_handler(request, **options)
        return found

    def new_connection(self, protocol: Any, socket: Socket, *of: Any) -> Any:
        """A connection that is told everything in its order."""
        return super().new_connection(protocol, Line(socket), *of)

    def _refused(self, request: HTTPServerRequest) -> str:
        """Why a request is not answered; "" where it is."""
        if not self.doors.knows(request.host):
            return (
                "This address does not lead to seqscope's page: it was asked for under a name that is not its own. Open the address that "
                "seqscope gave."
            )
        asked = request.headers
        if asked.get("Sec-Fetch-Site") == "cross-site" and asked.get("Sec-Fetch-Mode") in ("no-cors", "cors"):
            return "Pages of other sites may not read from here."
        return ""

    @property
    def n_pages(self) -> int:
        """How many pages are open."""
        return sum(len(list(context.sessions)) for context in self.applications.values())


def _is_one_of(target: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(target, type) and issubclass(target, kinds)


class Page(DocHandler):  # type: ignore[misc]
    """The page itself."""

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Make a page of its own for whoever asks."""
        if self.application.n_pages >= MOST_PAGES:
            say(self, 503, f"{MOST_PAGES} pages are open here, and there is no room for more: close some, and try again in half a minute.")
            return
        await super().get(*args, **kwargs)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say that it failed, and no more."""
        say(self, status_code, "This page could not be made." if status_code >= 500 else "This address can't be answered.")


class Socket(WSHandler):  # type: ignore[misc]
    """The connection of a page that is open."""

    connection: Any

    def check_origin(self, origin: str) -> bool:
        """Let in pages that came from here."""
        return bool(self.application.doors.is_own(origin, self.request.host))

    def on_close(self) -> None:
        """End the connection; one whose page was given up before has nothing left to end, which Bokeh takes for a mistake."""
        if self.connection is not None and self.connection._session is None:
            self.application.client_lost(self.connection)
            self.connection = None
        super().on_close()

    async def send_message(self, message: Any) -> None:
        """Send what Bokeh says to the page; of a failure no trace of the program, and to a page that was closed nothing."""
        if message.msgtype == "ERROR":
            message.content["traceback"] = None
        with suppress(WebSocketClosedError):
            await message.send(self)


class Refused(RequestHandler):
    """A page of one sentence."""

    def initialize(self, status: int, sentence: str) -> None:
        """Take what is to be said."""
        self._status, self._sentence = status, sentence

    def prepare(self) -> None:
        """Say it, whatever was asked."""
        say(self, self._status, self._sentence)
        self.finish()


class NotHere(Refused):
    """What is said of every address where nothing is."""

    def initialize(self) -> None:  # type: ignore[override]
        """Take what is to be said."""
        super().initialize(404, "There is nothing at this address: open the address that seqscope gave, as a whole.")


def say(handler: RequestHandler, status: int, sentence: str) -> None:
    """Answer with a page of one sentence."""
    handler.set_status(status)
    handler.set_header("Content-Type", "text/html; charset=utf-8")
    handler.write(
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>seqscope</title><link rel="icon" href="data:,">'
        f'<meta name="color-scheme" content="light dark"></head><body><p>{escape(sentence)}</p></body></html>'
    )


class Headers(OutputTransform):
    """What each answer tells the browser: to keep to this machine, and to show the page in no frame but a notebook's."""

    def __init__(self, request: HTTPServerRequest) -> None:
        self._host = request.host if _HOST.fullmatch(request.host) else "localhost"

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        """Add the headers."""
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers["Content-Security-Policy"] = _policy(self._host)
        headers["Server"] = "seqscope"
        headers.pop("Access-Control-Allow-Origin", None)
        return status_code, headers, chunk


def _policy(host: str) -> str:
    """What a page may load: from here alone. Bokeh makes functions of text, so that must be let."""
    names = dict.fromkeys((*LOOPBACK, name_in(host)))
    frames = " ".join(f"{scheme}://{name}:*" for name in names for scheme in ("http", "https"))
    return (
        "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
        f"connect-src 'self' ws://{host} wss://{host} data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
        f"frame-ancestors 'self' {frames} vscode-webview: vscode-file:"
    )
