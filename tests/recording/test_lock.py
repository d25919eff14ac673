"""One writer for a store: who is refused, what a killed holder leaves, how a lease is lost."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from seqscope.errors import BusyError, DataError
from seqscope.recording import lock, stores
from seqscope.recording.lock import held

HERE = f"process {os.getpid()} on host {socket.gethostname()} \\(since \\d\\d:\\d\\d:\\d\\d\\)"


@pytest.fixture(params=["folder", "memory", "fsspec", "s3"])
def store(request, empty_store):
    return empty_store(request.param)


@pytest.fixture
def short(monkeypatch):
    """A lease that runs out soon."""
    monkeypatch.setattr(lock, "LEASE_S", 0.9)
    monkeypatch.setattr(lock, "SETTLE_S", 0.05)


def until(happens, seconds=10.0):
    """Wait for what another thread does."""
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.01)


def lost(holding):
    with suppress(BusyError):
        holding.check()
        return False
    return True


def test_a_second_writer_is_refused_until_the_first_is_done(store):
    with held(store, name="vowels.zarr") as holding:
        assert not stores.exists(store)
        holding.check()
        with pytest.raises(BusyError, match=rf"^'vowels\.zarr' is being written by {HERE}: wait for it.*, or write to another store\.$"):
            held(store, name="vowels.zarr").__enter__()
        stores.put(store, "zarr.json", b"{}")
        stores.clear(store)
        holding.check()
        with pytest.raises(BusyError, match="is being written by"):
            held(store, name="vowels.zarr").__enter__()
    assert stores.keys(store, "") == []
    with held(store, name="vowels.zarr") as holding:
        holding.check()


def test_a_lease_says_when_it_runs_out_and_a_lock_does_not(tmp_path):
    with (
        held(MemoryStore(), name="x"),
        held(memory := MemoryStore(), name="y"),
        pytest.raises(BusyError, match=r"wait for it, or for its lease to expire, in (60|59) s, or write to another store\.$"),
    ):
        held(memory, name="y").__enter__()
    with held(LocalStore(tmp_path), name="z"), pytest.raises(BusyError, match=r": wait for it, or write to another store\.$"):
        held(LocalStore(tmp_path), name="z").__enter__()


def test_one_of_many_threads_has_it(store):
    def take(_):
        start.wait()
        try:
            stack.enter_context(held(store, name="x"))
        except BusyError:
            return False
        return True

    start = threading.Barrier(4)
    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(take, range(4))).count(True) == 1


def test_writers_that_come_and_go_are_never_two(tmp_path):
    """The file of the lock is deleted by each that is done, so that the next must not lock one that is gone."""
    inside, most, entered = 0, 0, 0
    counting = threading.Lock()

    def write(_):
        nonlocal inside, most, entered
        with suppress(BusyError), held(LocalStore(tmp_path / "x.zarr"), name="x"):
            with counting:
                inside, entered = inside + 1, entered + 1
                most = max(most, inside)
            time.sleep(0.0002)
            with counting:
                inside -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(300)))
    assert most == 1
    assert entered > 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_it_is_released_also_after_an_error(store):
    def fail():
        stores.put(store, "zarr.json", b"{}")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), held(store, name="x"):
        fail()
    assert stores.keys(store, "") == ["zarr.json"]
    with held(store, name="x"):
        pass
    assert stores.exists(store)


def test_folders_that_were_there_stay_there(tmp_path):
    with held(LocalStore(tmp_path / "empty"), name="x"):
        assert (tmp_path / "empty" / "ledger" / "lock").exists()
    assert not (tmp_path / "empty").exists()
    (tmp_path / "mine").mkdir()
    with held(LocalStore(tmp_path / "mine"), name="x"):
        pass
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


HOLDER = """
import os, signal, sys
from pathlib import Path
from seqscope.recording import stores
from seqscope.recording.lock import held

store = stores.open_store(sys.argv[1])
with held(store, name="x"):
    child = os.fork()  # as a loader's workers are; it outlives the holder, and must not keep the lock
    if child == 0:
        signal.pause()
    print(child, flush=True)
    sys.stdin.readline()
    Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
    stores.put(store, "inputs/zarr.json", b"cut short")
"""


def test_a_killed_holder_leaves_the_store_free_and_what_it_was_writing_is_removed(tmp_path):
    store = stores.open_store(tmp_path / "x.zarr")
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "x.zarr")], stdin=-1, stdout=-1, text=True) as holder:
        child = int(holder.stdout.readline())
        try:
            with pytest.raises(BusyError, match=rf"^'x\.zarr' is being written by process {holder.pid} on host "):
                held(store, name="x.zarr").__enter__()
            holder.stdin.write("\n")
            holder.stdin.flush()
            assert holder.wait(30) == -signal.SIGKILL
            os.kill(child, 0)  # still there
            with held(store, name="x.zarr") as holding:
                holding.check()
                assert len(list(tmp_path.rglob("*.partial"))) == 1
                stores.remove_partials(store)
                assert stores.keys(store, "") == [stores.LOCK]
        finally:
            os.kill(child, signal.SIGKILL)
    assert stores.keys(store, "") == []


def test_a_folder_that_was_taken_away_is_told(tmp_path):
    with held(LocalStore(tmp_path / "x.zarr"), name="x.zarr") as holding:
        (tmp_path / "x.zarr").rename(tmp_path / "y.zarr")
        with pytest.raises(BusyError, match=r"^'x\.zarr' was deleted, moved or begun again by someone while it was being written"):
            holding.check()
        with held(LocalStore(tmp_path / "x.zarr"), name="x.zarr") as other:
            other.check()
            assert lost(holding)
    assert (tmp_path / "y.zarr" / "ledger" / "lock").exists()


def test_a_folder_that_can_not_be_made_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"^'x\.zarr' can't be used \(NotADirectoryError: Not a directory\): name another place"):
        held(LocalStore(tmp_path / "file" / "x.zarr"), name="x.zarr").__enter__()


@pytest.mark.parametrize("without", ["fcntl", "flock"])
def test_a_folder_without_locks_is_leased(tmp_path, monkeypatch, without):
    if without == "fcntl":  # Windows
        monkeypatch.setattr(lock, "fcntl", None)
    else:  # some file systems of a network

        def refused(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(lock.fcntl, "flock", refused)
    store = LocalStore(tmp_path / "x.zarr")
    with held(store, name="x.zarr") as holding:
        holding.check()
        assert stores.get(store, stores.LEASE) is not None
        assert not stores.exists(store)
        with pytest.raises(BusyError, match="for its lease to expire"):
            held(store, name="x.zarr").__enter__()
    assert stores.get(store, stores.LEASE) is None


def of_another(**changes):
    return json.dumps({"holder": "other", "host": "far", "pid": 7, "since": 0.0, "until": 0.0} | changes).encode()


def test_a_lease_is_renewed_as_long_as_it_is_held(short):
    store = MemoryStore()
    with held(store, name="x") as holding:
        first = json.loads(stores.get(store, stores.LEASE))
        until(lambda: json.loads(stores.get(store, stores.LEASE))["until"] > first["until"] + 0.3)
        holding.check()
        with pytest.raises(BusyError, match="is being written by"):
            held(store, name="x").__enter__()
    assert (first["pid"], first["host"]) == (os.getpid(), socket.gethostname())
    assert not [thread for thread in threading.enumerate() if thread.name == "seqscope-lease"]


@pytest.mark.parametrize(
    "left", [of_another(until=time.time() - 1), b"", b'{"holder": "cut sh', b"[1]"], ids=["expired", "empty", "cut", "other"]
)
def test_a_lease_that_ran_out_or_says_nothing_is_taken_over(short, left):
    store = MemoryStore()
    stores.put(store, stores.LEASE, left)
    with held(store, name="x") as holding:
        holding.check()
        assert json.loads(stores.get(store, stores.LEASE))["pid"] == os.getpid()
        with pytest.raises(BusyError, match="is being written by"):
            held(store, name="x").__enter__()


def test_a_lease_of_another_day_is_named_with_its_day(monkeypatch):
    store = MemoryStore()
    stores.put(store, stores.LEASE, of_another(until=time.time() + 42.4, since=time.mktime((2025, 3, 4, 21, 40, 5, 0, 0, -1))))
    with pytest.raises(BusyError) as caught:
        held(store, name="s3://bucket/x").__enter__()
    assert str(caught.value) == (
        "'s3://bucket/x' is being written by process 7 on host far (since 2025-03-04 21:40:05): "
        "wait for it, or for its lease to expire, in 42 s, or write to another store."
    )


def test_of_two_that_take_a_lease_over_the_last_has_it(short, monkeypatch):
    store = MemoryStore()
    stores.put(store, stores.LEASE, of_another())
    monkeypatch.setattr(lock.time, "sleep", lambda _: stores.put(store, stores.LEASE, of_another(until=time.time() + 9)))
    with pytest.raises(BusyError, match=r"^'x' is being written by process 7 on host far \(since .*\): .* in 9 s"):
        held(store, name="x").__enter__()


@pytest.mark.parametrize("taken", [True, False])
def test_a_lease_that_another_took_is_told_and_left_to_the_other(short, taken):
    store = MemoryStore()
    with held(store, name="x") as holding:
        if taken:
            stores.put(store, stores.LEASE, of_another(until=time.time() + 60))
        else:
            stores.delete(store, stores.LEASE)
        until(lambda: lost(holding))
        why = r"process 7 on host far \(since .*\) has taken it over" if taken else "it was deleted"
        with pytest.raises(BusyError, match=rf"^The lease on 'x' was lost: {why}\. Nothing more is written; .* resume=True\.$"):
            holding.check()
    assert (stores.get(store, stores.LEASE) is not None) is taken


class Silent(WrapperStore):
    """A store that leaves so many questions without an answer."""

    n_silent = 0

    async def set(self, key, value):
        self._answer()
        await super().set(key, value)

    async def get(self, *args):
        self._answer()
        return await super().get(*args)

    def _answer(self):
        if self.n_silent:
            self.n_silent -= 1
            raise ConnectionError("nobody answers")


def test_a_store_that_answers_again_in_time_is_still_held(short, monkeypatch):
    monkeypatch.setattr(lock, "LEASE_S", 1.5)
    with held(store := Silent(MemoryStore()), name="x") as holding:
        before = json.loads(stores.get(store, stores.LEASE))["until"]
        store.n_silent = 1
        until(lambda: json.loads(stores.get(store._store, stores.LEASE))["until"] > before)
        assert store.n_silent == 0
        holding.check()


def test_a_store_that_answers_no_more_is_lost_when_the_lease_runs_out(short):
    with held(store := Silent(MemoryStore()), name="x") as holding:
        holding.check()
        store.n_silent = 10**6
        until(lambda: lost(holding))
        store.n_silent = 0
        with pytest.raises(BusyError, match=r"^The lease on 'x' was lost: the store could not be asked for \d+ s, and the lease ran out\."):
            holding.check()  # for good: another may have had it meanwhile
