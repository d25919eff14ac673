"""What a page is told, in the order in which it was said.

Bokeh writes what changed when a callback is over; Panel writes what a widget changed at once, and so past what Bokeh has yet to write. A
page that is told of a change before it is told of the model that changed drops it, and shows something old. Here both write to the same
line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from panel.io.document import extra_socket_handlers

if TYPE_CHECKING:
    from seqscope.explorer.guard import Socket


class Line:
    """Stands for the socket of a connection where something is written to it.

    A message takes its place when it is said, not when somebody waits for it: the socket's lock lets them through in that order.
    """

    def __init__(self, socket: Socket) -> None:
        self.socket = socket

    def send_message(self, message: Any) -> Awaitable[None]:
        """Say it; what is given back ends when it is written."""
        return asyncio.ensure_future(self.socket.send_message(message))

    def ping(self, data: bytes) -> None:
        """Ask whether the page is still there."""
        self.socket.ping(data)


def _write(connection: Any, events: Any = None, msg: Any = None) -> list[Awaitable[None]]:
    """How Panel writes."""
    return [connection._socket.send_message(connection.protocol.create("PATCH-DOC", events) if msg is None else msg)]


extra_socket_handlers[Line] = _write
