"""What stands around a view: when it is made, kept up and left alone, and what is said where it fails."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pandas as pd
import panel as pn
import pytest
from bokeh.models import Range1d
from matplotlib.figure import Figure

from seqscope.errors import DataError
from seqscope.explorer.frame import Frame
from seqscope.explorer.selection import Chosen, Selection
from seqscope.explorer.theme import LIGHT
from seqscope.explorer.views.view import Stage, View


class Echo(View):
    """Shows the number of the sample, and says what was done."""

    name, title = "echo", "Echo"
    follows = frozenset({"sample"})
    fails_at = -1

    def __init__(self, stage):
        super().__init__(stage)
        self.done = []

    def build(self):
        self.done.append("build")
        self.text = pn.pane.Str("")
        return self.text

    def find(self, chosen):
        self.done.append(f"find {chosen.sample}")
        if chosen.sample == self.fails_at:
            raise DataError("Sample 3 is <b>not</b> there.")
        if chosen.sample == 9:
            raise RuntimeError("out of luck")
        return chosen.sample

    def show(self, found, chosen):
        self.text.object = str(found)

    def code(self, found, chosen):
        return f"X[{found}] < 1"

    def table(self, found, chosen):
        return pd.DataFrame({"sample": [found]})

    def figure(self, found, chosen):
        figure = Figure(figsize=(2, 1))
        figure.subplots().plot([0, found])
        return figure


@pytest.fixture
def selection():
    return Selection(Chosen())


@pytest.fixture
def view(selection):
    return Echo(Stage(SimpleNamespace(opening="X = 1 < 2"), selection, LIGHT, Range1d()))


@pytest.fixture
def frame(view):
    with ThreadPoolExecutor(1) as workers:
        yield Frame(view, workers, None)


def test_nothing_is_made_before_it_is_seen(frame, view, selection):
    selection.choose(sample=2)
    assert view.done == []
    frame.see(True)
    assert view.done == ["build", "find 2"]
    assert view.text.object == "2"


def test_what_is_out_of_sight_is_not_kept_up_until_it_is_seen_again(frame, view, selection):
    frame.see(True)
    frame.see(False)
    selection.choose(sample=1)
    selection.choose(sample=4)
    assert view.done == ["build", "find 0"]
    frame.see(True)
    assert view.done == ["build", "find 0", "find 4"]


def test_what_a_view_does_not_follow_leaves_it_alone(frame, view, selection):
    frame.see(True)
    selection.choose(unit=3)
    frame.see(False)
    frame.see(True)
    assert view.done == ["build", "find 0"]


def test_a_failure_is_said_in_the_view_and_the_next_choice_is_shown(frame, view, selection):
    view.fails_at = 3
    frame.see(True)
    selection.choose(sample=3)
    assert frame._told.object == "Sample 3 is &lt;b&gt;not&lt;/b&gt; there."
    assert frame._told.visible
    assert not frame.body.visible
    selection.choose(sample=4)
    assert not frame._told.visible
    assert frame.body.visible
    assert view.text.object == "4"


def test_a_mistake_of_the_programs_is_said_too_and_logged(frame, view, selection, caplog):
    frame.see(True)
    selection.choose(sample=9)
    assert "RuntimeError: out of luck" in frame._told.object
    assert "others go on" in frame._told.object
    assert "out of luck" in caplog.text


def test_what_comes_late_is_dropped(frame, view, selection):
    frame.see(True)
    selection.choose(sample=1)
    late = frame._turn - 1
    frame._arrived(late, Chosen(sample=0), 0)
    assert view.text.object == "1"


def test_the_python_is_shown_as_text(frame, selection):
    frame.see(True)
    assert frame._code.object.index("X = 1 &lt; 2") < frame._code.object.index("X[0] &lt; 1")


def test_files_hold_what_is_seen(frame, selection):
    frame.see(True)
    selection.choose(sample=5)
    assert frame._saved("csv").read() == b"sample\n5\n"
    assert frame._saved("png").read().startswith(b"\x89PNG")
    assert b"<svg" in frame._saved("svg").read()
