"""What stands around a view: its models when it is first looked at, its numbers when what is chosen changes, its failure in its place."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from html import escape
from typing import Any

import panel as pn
from bokeh.document import Document

from seqscope.errors import SeqscopeError
from seqscope.explorer.selection import Chosen
from seqscope.explorer.views.view import View

_LOG = logging.getLogger(__name__)
_NOTHING = object()


class Frame:
    """A view on the page.

    Parameters
    ----------
    view : View
    workers : Executor
        Where slow views find their numbers.
    document : Document or None
        What the page is in; None outside a server, where everything is done at once.
    """

    def __init__(self, view: View, workers: Executor, document: Document | None) -> None:
        self.view, self._workers, self._document = view, workers, document
        self._told = pn.pane.HTML("", css_classes=["sq-told"], sizing_mode="stretch_width", visible=False)
        self._code = pn.pane.HTML("", css_classes=["sq-code"], sizing_mode="stretch_width", margin=0)
        self.body = pn.Column(pn.Spacer(height=0), sizing_mode="stretch_width", margin=0)
        classes = ["sq-view", f"sq-view-{view.name}"]
        self.panel = pn.Column(self._told, self.body, css_classes=classes, sizing_mode="stretch_width", margin=0)
        self._is_built = self.is_seen = False
        self._shown: Chosen | None = None
        self._found: Any = _NOTHING
        self._turn = 0  # what was asked for last: what comes late is dropped
        view.selection.follow(self._changed)

    def see(self, seen: bool) -> None:
        """Say whether it can be seen; what can't be is not kept up."""
        self.is_seen = seen
        if seen:
            self.refresh()

    def _changed(self, fields: frozenset[str]) -> None:
        if fields & self.view.follows:
            self._shown = None
            if self.is_seen:
                self.refresh()

    def refresh(self) -> None:
        """Bring it up to what is chosen."""
        chosen = self.view.selection.chosen
        if self._shown == chosen or (self._shown is not None and not self._differs(chosen)):
            return
        self._turn += 1
        self._shown = chosen
        if not self._is_built and not self._tried(self._build):
            return
        if self.view.is_slow_for(chosen) and self._document is not None:
            self._tell("Working ...", "busy")
            self._workers.submit(self.view.find, chosen).add_done_callback(partial(self._hand_over, self._turn, chosen))
        else:
            self._tried(lambda: self._arrived(self._turn, chosen, self.view.find(chosen)))

    def _differs(self, chosen: Chosen) -> bool:
        return any(getattr(chosen, name) != getattr(self._shown, name) for name in self.view.follows)

    def _build(self) -> None:
        self.body[:] = [self.view.build(), self._foot()]
        self._is_built = True

    def _hand_over(self, turn: int, chosen: Chosen, future: Future[Any]) -> None:
        """From the thread that found the numbers to the page's own."""
        document = self._document
        if document is not None and document.session_context is not None:
            document.add_next_tick_callback(
                lambda: turn == self._turn and self._tried(lambda: self._arrived(turn, chosen, future.result()))  # nor say what failed late
            )

    def _arrived(self, turn: int, chosen: Chosen, found: Any) -> None:
        if turn != self._turn:
            return
        self._found = found
        self.view.show(found, chosen)
        self._code.object = _code_html(self.view.source.opening, self.view.code(found, chosen))
        self._tell("", "")

    def _tried(self, work: Callable[[], Any]) -> bool:
        """Do it, and say in the view's own place what failed."""
        try:
            work()
        except SeqscopeError as error:
            self._tell(error.message, "failed")
            return False
        except Exception as error:
            _LOG.exception("The view '%s' failed.", self.view.name)
            self._tell(f"This view failed ({type(error).__name__}: {error}); the others go on.", "failed")
            return False
        return True

    def _tell(self, text: str, kind: str) -> None:
        self._told.param.update(object=escape(text), visible=bool(text), css_classes=["sq-told", f"sq-{kind}"])
        self.body.visible = kind != "failed"

    # What is below each view

    def _foot(self) -> pn.Column:
        buttons = [
            pn.widgets.FileDownload(
                callback=partial(self._saved, form),
                filename=f"{self.view.name}.{form}",
                label=form.upper(),
                width=64,
                height=26,
                margin=(2, 6, 0, 0),
                css_classes=["sq-save"],
            )
            for form in ("png", "svg", "csv")
        ]
        saving = pn.Row(*buttons, margin=0)
        return pn.Column(self._code, saving, css_classes=["sq-foot"], sizing_mode="stretch_width", margin=(6, 0, 4, 0))

    def _saved(self, form: str) -> io.BytesIO:
        """The file of a button; an empty one, and a sentence in its place, where it can't be made."""
        file = io.BytesIO()
        if self._found is _NOTHING or self._shown is None:
            return file
        found, chosen = self._found, self._shown

        def write() -> None:
            if form == "csv":
                self.view.table(found, chosen).to_csv(file, index=False)
            else:
                self.view.figure(found, chosen).savefig(file, format=form, dpi=150)

        try:
            write()
        except SeqscopeError as error:
            self._tell(error.message, "note")
        file.seek(0)
        return file


def _code_html(opening: str, code: str) -> str:
    """The lines that make the view; who copies them gets those before them that open what it is about."""
    copy = '<button class="sq-copy" type="button" title="Copy this Python, with the lines that open what it is about">Copy</button>'
    before = f'<pre class="sq-opening" hidden>{escape(opening)}\n</pre>'
    return f'<div class="sq-line">{before}<pre class="sq-python" tabindex="0"><code>{escape(code)}</code></pre>{copy}</div>'
