import io
import sys

import pytest

from seqscope import progress

CHUNKS = [(2, "a"), (3, "b"), (5, "c")]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def use_terminal(monkeypatch):
    """A terminal in place of standard error (for the test's own body: pytest sets it anew after the fixtures), any work being long."""
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(progress, "PATIENCE_S", -1.0)
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


@pytest.fixture
def bars(monkeypatch):
    """Every bar that is made, with what it was told."""
    made = []

    class Bar:
        def __init__(self, what, total):
            self.what, self.total, self.steps, self.closed = what, total, [], 0
            made.append(self)

        def advance(self, size):
            self.steps.append(size)

        def close(self):
            self.closed += 1

    monkeypatch.setattr(progress, "_Bar", Bar)
    return made


@pytest.mark.parametrize("show", [True, False])
def test_every_chunk_comes_through_in_order(show, bars):
    assert list(progress.tracked(CHUNKS, total=10, what="lstm", show=show)) == ["a", "b", "c"]
    assert len(bars) == show


def test_the_bar_counts_the_units_of_each_chunk(bars):
    list(progress.tracked(CHUNKS, total=10, what="lstm", show=True))
    (bar,) = bars
    assert (bar.what, bar.total, bar.steps, bar.closed) == ("lstm", 10, [2, 3, 5], 1)


def test_a_chunk_counts_once_it_is_done_and_not_when_it_is_handed_out(bars):
    chunks = progress.tracked(CHUNKS, total=10, what="lstm", show=True)
    next(chunks)
    assert bars[0].steps == []
    next(chunks)
    assert bars[0].steps == [2]


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_the_bar_is_taken_away_when_the_work_breaks_off(bars, stop):
    def failing():
        yield 2, "a"
        raise stop

    with pytest.raises(stop):
        list(progress.tracked(failing(), total=10, what="lstm", show=True))
    assert bars[0].closed == 1


def test_the_bar_is_taken_away_when_no_one_wants_the_rest(bars):
    chunks = progress.tracked(CHUNKS, total=10, what="lstm", show=True)
    next(chunks)
    chunks.close()
    assert bars[0].closed == 1


@pytest.mark.parametrize(("is_terminal", "n_bars"), [(True, 1), (False, 0)])
def test_a_bar_shows_on_a_terminal_and_nowhere_else(monkeypatch, bars, is_terminal, n_bars):
    monkeypatch.setattr(sys, "stderr", Terminal() if is_terminal else io.StringIO())
    list(progress.tracked(CHUNKS, total=10, what="lstm"))
    assert len(bars) == n_bars


def test_no_bar_where_there_is_no_standard_error_at_all(monkeypatch, bars):
    monkeypatch.setattr(sys, "stderr", None)  # as under pythonw, or in a service
    assert list(progress.tracked(CHUNKS, total=10, what="lstm")) == ["a", "b", "c"]
    assert not bars


def test_long_work_shows_what_it_is_and_how_far_it_has_come(monkeypatch):
    terminal = use_terminal(monkeypatch)
    chunks = progress.tracked(CHUNKS, total=10, what="activations of lstm")
    for _ in range(3):
        next(chunks)
    chunks.close()
    seen = terminal.getvalue()
    assert "activations of lstm" in seen
    assert "5/10" in seen


def test_short_work_shows_nothing(monkeypatch):
    terminal = use_terminal(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE_S", 3600.0)
    list(progress.tracked(CHUNKS, total=10, what="lstm"))
    assert terminal.getvalue() == ""


def test_work_of_one_chunk_shows_no_bar_that_is_full_at_once(monkeypatch):
    terminal = use_terminal(monkeypatch)
    list(progress.tracked([(10, "a")], total=10, what="lstm"))
    assert terminal.getvalue() == ""


def test_the_cursor_is_given_back(monkeypatch):
    terminal = use_terminal(monkeypatch)

    def interrupted():
        yield 2, "a"
        yield 3, "b"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(progress.tracked(interrupted(), total=10, what="lstm"))
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert terminal.getvalue().count(hide) == terminal.getvalue().count(show) == 1


def test_nothing_goes_to_standard_output(monkeypatch, capsys):
    terminal = use_terminal(monkeypatch)
    list(progress.tracked(CHUNKS, total=10, what="lstm"))
    assert "10/10" in terminal.getvalue()
    assert capsys.readouterr().out == ""
