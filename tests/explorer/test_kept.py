"""What is kept: so many bytes, the last used; two who ask at a time share the work."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from seqscope.explorer.kept import Kept


def test_what_was_made_once_is_not_made_again():
    kept, made = Kept(), []
    for _ in range(3):
        assert kept.get("a", lambda: made.append(1) or "value") == "value"
    assert made == [1]


def test_the_least_recently_used_goes_first():
    kept, made = Kept(n_bytes=3 * (8_000 + 4_096)), []

    def ask(key):
        kept.get(key, lambda: made.append(key) or np.zeros(1000))

    for key in "abc":
        ask(key)
    ask("a")
    ask("d")  # b was used longest ago
    made.clear()
    for key in "acd":
        ask(key)
    assert made == []
    ask("b")
    assert made == ["b"]


def test_what_is_larger_than_all_is_not_kept_and_pushes_nothing_out():
    kept, made = Kept(n_bytes=20_000), []
    kept.get("small", lambda: np.zeros(10))
    for _ in range(2):
        kept.get("large", lambda: made.append(1) or np.zeros(10_000))
    assert made == [1, 1]
    kept.get("small", lambda: pytest.fail("it was thrown away"))


def test_it_never_holds_more_than_it_may():
    kept = Kept(n_bytes=100_000)
    for number in range(200):
        kept.get(number, lambda number=number: np.zeros(number * 10))
        assert sum(value.nbytes for value in kept._values.values()) <= 100_000
        assert kept._size <= 100_000


def test_two_who_ask_at_a_time_share_the_work():
    kept, made, begun, go_on = Kept(), [], threading.Event(), threading.Event()

    def make():
        made.append(1)
        begun.set()
        assert go_on.wait(30)
        return "value"

    with ThreadPoolExecutor(4) as people:
        first = people.submit(kept.get, "a", make)
        assert begun.wait(30)
        others = [people.submit(kept.get, "a", make) for _ in range(3)]
        assert people.submit is not None
        assert kept.get("b", lambda: "another is not kept waiting") == "another is not kept waiting"
        go_on.set()
        assert {one.result(30) for one in (first, *others)} == {"value"}
    assert made == [1]


def test_a_failure_is_told_to_all_and_the_next_tries_again():
    kept = Kept()
    with pytest.raises(ZeroDivisionError):
        kept.get("a", lambda: 1 / 0)
    assert kept.get("a", lambda: "value") == "value"
