"""Asking a server as a browser would, and as one who means harm would."""

import asyncio
import contextlib
import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from typing import Any
from urllib.parse import urlsplit

from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run it in a thread of its own, since Playwright's loop runs in that of the tests."""
    with ThreadPoolExecutor(1) as beside:
        return beside.submit(asyncio.run, coroutine).result()


def get(url, **headers):
    """The status, the headers and the text of an answer."""
    asked = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with contextlib.closing(urllib.request.urlopen(asked, timeout=120)) as answer:
            return answer.status, answer.headers, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode(errors="replace")


def sentence_of(text):
    """What a page of one sentence says."""
    return unescape(re.search(r"<p[^>]*>(.*?)</p>", text)[1])


def token_of(text):
    """What a page connects with."""
    return re.search(r'"token":"([^"]+)"', text)[1]


async def connect(url, token, **headers):
    """The connection of a page."""
    address = urlsplit(url)
    socket = f"ws://{address.netloc}{address.path.rstrip('/')}/ws"
    asked = HTTPRequest(
        socket, headers={name.replace("_", "-"): value for name, value in headers.items()}, connect_timeout=120, request_timeout=120
    )
    return await websocket_connect(asked, subprotocols=["bokeh", token])


def handshake(url, **headers):
    """The status of the answer to whoever asks for a connection, without going on with it."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=120)
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "c2Vxc2NvcGUgdGVzdHMh"}
    try:
        connection.request("GET", f"{address.path.rstrip('/')}/ws", headers=upgrade | headers)
        return connection.getresponse().status
    finally:
        connection.close()


async def message(connection):
    """The next message: its header and its content. What it has in arrays is read past."""
    parts = [await asyncio.wait_for(connection.read_message(), 120) for _ in range(3)]
    header = json.loads(parts[0])
    for _ in range(2 * header.get("num_buffers", 0)):
        await asyncio.wait_for(connection.read_message(), 120)
    return header, json.loads(parts[2])


async def ask(connection, kind, content="{}"):
    """Send a message, and give the answer."""
    header = json.dumps({"msgid": "1", "msgtype": kind})
    for part in (header, "{}", content):
        await connection.write_message(part)
    while True:  # what the page says by itself comes in between
        told, found = await message(connection)
        if told.get("reqid") == "1":
            return told, found


async def leave(connection):
    """Close a connection, and wait until it is."""
    connection.close()
    while await connection.read_message() is not None:
        pass
