"""What is in sight: pictures of more than a screen shows are made anew where a person zooms in."""

from __future__ import annotations

from collections.abc import Callable

from bokeh.models import Range1d

# Milliseconds after which the detail follows a zoom: it takes a message and a picture.
_WAIT = 120


def follow(ranges: tuple[Range1d, ...], refill: Callable[[], None]) -> None:
    """Call a function when a range has changed, a moment later and once for many changes; at once outside a page."""
    waits = False

    def now() -> None:
        nonlocal waits
        waits = False
        refill()

    def changed(attr: str, old: object, new: object) -> None:
        nonlocal waits
        document = ranges[0].document
        if document is None or document.session_context is None:
            refill()
        elif not waits:
            waits = True
            document.add_timeout_callback(now, _WAIT)

    for one in ranges:
        one.on_change("start", changed)
        one.on_change("end", changed)
