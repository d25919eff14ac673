import io
import sys
from types import SimpleNamespace

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
        def __init__(self, what, total, unit):
            self.what, self.total, self.unit, self.steps, self.closed = what, total, unit, [], 0
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


@pytest.fixture
def clock(monkeypatch):
    """The time, which stands still until it is set."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def seen_after(terminal, reached, clock, *, unit="", total=20_000):
    """What is shown after the last of these: seconds, units done by then, and a text."""
    with progress.counting(total=total, what="Recording", unit=unit) as bar:
        for seconds, *said in reached:
            clock.seconds = seconds
            bar(*said)
        before = len(terminal.getvalue())
    return terminal.getvalue()[before:]  # the line is drawn once more when the bar is closed


def test_the_bar_says_how_many_a_second_and_how_long_it_takes(monkeypatch, clock):
    terminal = use_terminal(monkeypatch)
    seen = seen_after(terminal, [(1, 2_000), (3, 4_480), (6, 8_200)], clock, unit="sequences")
    assert "8,200/20,000 sequences" in seen
    assert "1,240/s" in seen  # (8,200 - 2,000) / 5
    assert "0:00:10" in seen  # 11,800 / 1,240 = 9.5


def test_what_was_there_when_the_work_was_taken_up_is_not_in_the_rate(monkeypatch, clock):
    terminal = use_terminal(monkeypatch)
    seen = seen_after(terminal, [(1, 15_000), (11, 15_025)], clock, unit="sequences")
    assert "2.5/s" in seen
    assert "0:33:10" in seen  # 4,975 / 2.5


def test_slow_work_has_a_rate_too(monkeypatch, clock):
    terminal = use_terminal(monkeypatch)
    assert "0.1/s" in seen_after(terminal, [(1, 1), (2, 10), (102, 12)], clock, unit="sequences", total=100)  # 11 / 101


def test_nothing_is_said_of_a_rate_where_nothing_is_counted_that_has_a_name(monkeypatch, clock):
    terminal = use_terminal(monkeypatch)
    assert "/s" not in seen_after(terminal, [(1, 2_000), (3, 4_480)], clock)


def test_a_text_stays_until_another_is_given(monkeypatch, clock):
    terminal = use_terminal(monkeypatch)
    assert "accuracy [.97]" in seen_after(terminal, [(1, 10, "accuracy [.5]"), (2, 20, "accuracy [.97]"), (3, 30)], clock)
    terminal = use_terminal(monkeypatch)
    assert "accuracy" not in seen_after(terminal, [(1, 10, "accuracy [.5]"), (2, 20, "")], clock)


def test_all_of_it_has_room_on_a_narrow_terminal(monkeypatch, clock):
    terminal = use_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    seen = seen_after(terminal, [(1, 2_000, "accuracy 0.931"), (3, 4_480), (6, 8_200)], clock, unit="sequences")
    assert all(part in seen for part in ("Recording", "8,200/20,000 sequences", "1,240/s", "0:00:10", "accuracy 0.931"))


def test_a_function_that_no_bar_listens_to_takes_the_same():
    with progress.counting(total=10, what="Recording", show=False) as bar:
        assert bar(3) is bar(4, "accuracy 0.5") is None


@pytest.fixture
def notebook(monkeypatch):
    """A notebook's kernel in place of IPython, as far as it is asked: what its page showed, one after another."""
    page = []

    class Handle:
        def update(self, what, *, raw):
            assert raw
            page.append(what["text/plain"])

    def display(what, *, raw, display_id):
        assert raw
        assert display_id
        assert what == {"text/plain": ""}
        return Handle()

    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    monkeypatch.setattr(progress, "PATIENCE_S", -1.0)
    return SimpleNamespace(page=page, shell=shell)


def test_a_notebook_shows_a_line_that_is_written_over_and_taken_away(notebook, monkeypatch):
    monkeypatch.setattr(progress, "_NOTEBOOK_S", 0.0)
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())  # as there: no terminal
    list(progress.tracked(CHUNKS, total=10, what="activations of lstm", unit="sequences"))
    *lines, last = notebook.page
    assert ["2/10 sequences" in lines[0], "5/10 sequences" in lines[1], "10/10 sequences" in lines[2]] == [True] * 3
    assert all("activations of lstm" in line and "\n" not in line and "\x1b" not in line for line in lines)
    assert last == ""
    assert stream.getvalue() == ""


def test_a_notebook_is_told_now_and_then(notebook, monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress.counting(total=1000, what="Recording") as bar:
        for done in range(100):
            clock.seconds = done * 0.01
            bar(done)
    assert len(notebook.page) == 5  # at 0, 0.3, 0.6 and 0.9 seconds, and empty at the end


def test_ipython_without_a_page_shows_nothing(notebook, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    del notebook.shell.kernel
    list(progress.tracked(CHUNKS, total=10, what="lstm"))
    assert not notebook.page


def test_ipython_is_not_imported_to_look_for_a_notebook(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert list(progress.tracked(CHUNKS, total=10, what="lstm")) == ["a", "b", "c"]
    assert "IPython" not in sys.modules
