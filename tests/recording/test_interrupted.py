"""Nothing is lost: processes that are killed, disks that are full, files that are damaged; and the store is then as if nothing had been."""

import errno
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from zarr.storage import LocalStore, MemoryStore, WrapperStore

import seqscope as sq
from seqscope.errors import BusyError, DataError, OutputExistsError, TooLargeError
from seqscope.recording import space, stores

if sys.platform == "win32":
    pytest.skip("processes are forked and killed here", allow_module_level=True)

import killed
from recorded import entries, files, same

OPTIONS = {"states": {"lstm": "c"}, "shard": killed.SHARD}
N_SHARDS = killed.N // killed.SHARD


class Nursery:
    """A process whose children record, and are killed."""

    def __init__(self, folder: Path) -> None:
        self._said = folder / "said"
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, killed.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __call__(self, **job) -> dict:
        if "pid" not in job:
            self._said.unlink(missing_ok=True)
        print(json.dumps({"said": str(self._said), **job}), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    @property
    def said(self) -> str:
        return self._said.read_text() if self._said.exists() else ""

    def close(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def known(nursery, tmp_path_factory):
    """A store that nothing happened to."""
    store = tmp_path_factory.mktemp("known") / "whole.zarr"
    assert nursery(store=str(store))["code"] == 0, nursery.said
    return store


@pytest.fixture(scope="module")
def scope():
    return sq.Scope(killed.make()[0])


@pytest.fixture(scope="module")
def X():
    return killed.make()[1]


def done_by(store, pid):
    return sum(json.loads(path.read_text())["worker"].endswith(f":{pid}") for path in entries(store))


def copied(known, place):
    """A copy of a store, to be damaged."""
    for name, data in files(known).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    for kind in ("entries", "inputs"):
        for path in known.glob(f"ledger/{kind}/*"):
            (place / path.relative_to(known)).parent.mkdir(parents=True, exist_ok=True)
            (place / path.relative_to(known)).write_bytes(path.read_bytes())
    return place


def test_a_process_killed_again_and_again_leaves_what_it_did(nursery, known, tmp_path):
    """Right before a random change to a file: of the skeleton, of a unit of work, of the end."""
    store, dice = tmp_path / "killed.zarr", random.Random(0)
    for change in (dice.randrange(3), dice.randrange(400), dice.randrange(500, 700), dice.randrange(60, 120)):
        assert nursery(store=str(store), change=change, options={"resume": True})["code"] == -signal.SIGKILL, nursery.said
    before = len(entries(store))
    assert 0 < before < N_SHARDS
    end = nursery(store=str(store), options={"resume": True})
    assert end["code"] == 0, nursery.said
    assert done_by(store, end["pid"]) == N_SHARDS - before
    same(store, known)
    xr.testing.assert_identical(sq.open(store).statistics("lstm", "c"), sq.open(known).statistics("lstm", "c"))
    assert not list(store.rglob("*.partial"))


def test_a_process_killed_at_a_random_time(nursery, known, tmp_path):
    store, dice = tmp_path / "killed.zarr", random.Random(1)
    for _ in range(2):
        nursery(store=str(store), signal=signal.SIGKILL, after=dice.uniform(0.1, 2), options={"resume": True})
    assert nursery(store=str(store), options={"resume": True})["code"] == 0, nursery.said
    same(store, known)


def test_killed_while_it_finishes(nursery, known, tmp_path):
    store = copied(known, tmp_path / "end.zarr")
    entries(store)[3].unlink()
    for change in (40, 300):
        assert nursery(store=str(store), change=change, options={"resume": True})["code"] == -signal.SIGKILL, nursery.said
        assert len(sq.open(store)) == killed.N
    assert nursery(store=str(store), options={"resume": True})["code"] == 0, nursery.said
    same(store, known)


def test_killed_while_another_is_written_over(nursery, known, tmp_path):
    store = copied(known, tmp_path / "over.zarr")
    for change in (2, 80):
        assert nursery(store=str(store), change=change, options={"overwrite": True})["code"] == -signal.SIGKILL, nursery.said
    assert nursery(store=str(store), options={"overwrite": True})["code"] == 0, nursery.said
    same(store, known)


def test_ctrl_c_leaves_a_store_that_goes_on(nursery, known, tmp_path):
    store = tmp_path / "stopped.zarr"
    child = nursery(store=str(store), nap=0.05, goes_on=True)["pid"]
    until(lambda: len(entries(store)) > 1)
    stopped = nursery(pid=child, signal=signal.SIGINT)
    assert (stopped["code"], nursery.said.partition(":")[0]) == (1, "KeyboardInterrupt")
    assert stopped["seconds"] < 3
    assert not (store / "ledger/lock").exists()
    assert 1 < len(entries(store)) < N_SHARDS
    assert nursery(store=str(store), options={"resume": True})["code"] == 0, nursery.said
    same(store, known)


def test_two_writers(nursery, known, scope, X, tmp_path):
    store = tmp_path / "two.zarr"
    child = nursery(store=str(store), nap=0.1, goes_on=True)["pid"]
    until(lambda: entries(store))
    for option in ("resume", "overwrite"):
        with pytest.raises(BusyError, match=rf"is being written by process {child} on host .*wait for it"):
            scope.record(X, store, "lstm", **OPTIONS, **{option: True})
    assert not sq.open(store).is_complete  # one may read
    nursery(pid=child, signal=signal.SIGKILL)
    assert nursery(store=str(store), options={"resume": True})["code"] == 0, nursery.said
    same(store, known)


def until(is_so: Callable[[], object]) -> None:
    for _ in range(600):
        if is_so():
            return
        time.sleep(0.02)
    raise AssertionError("It never was.")


# Full disks


class Small(WrapperStore):
    """A store with room for so many bytes."""

    room = 0

    async def set(self, key, value):
        Small.room -= len(value)
        if Small.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        await super().set(key, value)


@pytest.mark.skipif(sys.platform != "linux", reason="no other system lets another process' limits be set")
def test_a_disk_that_is_full(nursery, known, tmp_path):
    """The system refuses to write on: a file may not grow past 1000 bytes, as at the disk's end."""
    import resource

    store = tmp_path / "full.zarr"
    child = nursery(store=str(store), nap=0.05, goes_on=True)["pid"]
    until(lambda: len(entries(store)) > 1)
    resource.prlimit(child, resource.RLIMIT_FSIZE, (1000, 1000))
    assert nursery(pid=child)["code"] == 1
    assert nursery.said.startswith("TooLargeError: There is no space left for")
    assert "Make room, then call record again with resume=True" in nursery.said
    before = len(entries(store))
    assert 1 < before < N_SHARDS
    assert not list(store.rglob("*.partial"))
    end = nursery(store=str(store), options={"resume": True})
    assert (end["code"], done_by(store, end["pid"])) == (0, N_SHARDS - before)
    same(store, known)


def test_a_small_file_system(scope, X, tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", place], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        (place / "ballast").write_bytes(bytes(500_000))
        with pytest.raises(TooLargeError, match="There is no space left"):
            scope.record(X, place / "x.zarr", "lstm", **OPTIONS)
        (place / "ballast").unlink()
        assert scope.record(X, place / "x.zarr", "lstm", **OPTIONS, resume=True).verify() == []
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_store_object_that_is_full(scope, X):
    memory = MemoryStore()
    Small.room = 80_000
    with pytest.raises(TooLargeError, match="There is no space left for 'MemoryStore'"):
        scope.record(X, Small(memory), "lstm", **OPTIONS)
    recording = scope.record(X, memory, "lstm", **OPTIONS, resume=True)
    assert recording.verify() == []
    np.testing.assert_array_equal(
        recording.activations("lstm").values, scope.record(X, MemoryStore(), "lstm", **OPTIONS).activations("lstm").values
    )


def test_what_would_not_fit_is_not_begun(scope, X, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "free_space", lambda store: 20_000)
    with pytest.raises(TooLargeError, match=r"would take about .* and 20.* are free there: name another place"):
        scope.record(X, tmp_path / "x.zarr", "lstm", **OPTIONS)
    assert not (tmp_path / "x.zarr").exists()


def test_the_estimate_is_near_what_is_taken(scope, tmp_path, monkeypatch):
    said = []
    estimate = space.estimate
    monkeypatch.setattr(space, "estimate", lambda *given: said.append(estimate(*given)) or said[0])
    dice = np.random.default_rng(1)
    data = [dice.standard_normal((n, 3)).astype(np.float32) for n in dice.integers(20, 200, 300)]
    scope.record(data, tmp_path / "x.zarr", "lstm", states=True)
    taken = sum(path.stat().st_size for path in (tmp_path / "x.zarr").rglob("*") if path.is_file())
    assert said[0] == pytest.approx(taken, rel=0.25)


# Damage


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "file"),
    [
        (cut, "activations/lstm/activations/c/3/0/0"),
        (flipped, "inputs/value/c/3/0/0"),
        (Path.unlink, "predictions/prediction/c/3/0"),
        (flipped, "ledger/statistics/000003.safetensors.zst"),
    ],
)
def test_a_damaged_file_is_named_and_done_again(scope, X, known, nursery, tmp_path, harm, file):
    store = copied(known, tmp_path / "x.zarr")
    harm(store / file)
    (wrong,) = sq.open(store).verify()
    assert wrong.startswith(f"'{file}'")
    assert wrong.endswith("(samples 24 to 31)")
    with pytest.warns(UserWarning, match=rf"'{file}' .*: the samples 24 to 31 are done again"):
        again = scope.record(X, store, "lstm", **OPTIONS, resume=True)
    assert again.verify() == []
    assert done_by(store, os.getpid()) == 1
    same(store, known)


@pytest.mark.parametrize("text", ['{"number": 3, "rows": [24', "7"])
def test_a_damaged_entry_is_named_and_done_again(scope, X, known, tmp_path, text):
    store = copied(known, tmp_path / "x.zarr")
    entries(store)[3].write_text(text)
    assert sq.open(store).verify() == ["The entry 3 of the ledger is damaged."]
    with pytest.warns(UserWarning, match="the entry 3 of the ledger is damaged: the samples 24 to 31 are done again"):
        scope.record(X, store, "lstm", **OPTIONS, resume=True)
    same(store, known)


@pytest.mark.parametrize("harm", [flipped, Path.unlink])
def test_bins_that_are_damaged_are_made_again(scope, X, known, tmp_path, harm):
    store = copied(known, tmp_path / "x.zarr")
    harm(store / "ledger/edges.safetensors.zst")
    entries(store)[5].unlink()
    scope.record(X, store, "lstm", **OPTIONS, resume=True)
    same(store, known)


@pytest.mark.parametrize("lost", ["activations/lstm/activations/zarr.json", "states/lstm"])
def test_a_half_deleted_store_is_told(scope, X, known, tmp_path, lost):
    store = copied(known, tmp_path / "x.zarr")
    removed(store / lost)
    assert f"'{lost}" in sq.open(store).verify()[0]
    with pytest.raises(DataError, match=rf"can't be gone on with: '{lost}.*' is missing. Begin again with overwrite=True"):
        scope.record(X, store, "lstm", **OPTIONS, resume=True)
    assert scope.record(X, store, "lstm", **OPTIONS, overwrite=True).verify() == []


def test_a_store_without_its_root_is_told(scope, X, known, tmp_path):
    store = copied(known, tmp_path / "x.zarr")
    (store / "zarr.json").unlink()
    with pytest.raises(DataError, match="is no recording of seqscope, or was not begun in full"):
        sq.open(store)
    with pytest.raises(DataError, match=r"is half deleted: 'zarr.json'"):
        scope.record(X, store, "lstm", **OPTIONS, resume=True)
    assert len(entries(store)) == N_SHARDS
    scope.record(X, store, "lstm", **OPTIONS, overwrite=True)
    same(store, known)


def removed(path):
    if path.is_dir():
        for inside in path.iterdir():
            removed(inside)
        path.rmdir()
    else:
        path.unlink()


# Places


def test_what_is_no_recording_is_left_alone(scope, X, tmp_path):
    place = tmp_path / "thesis"
    (place / "ledger").mkdir(parents=True)
    (place / "chapter.txt").write_text("words")
    (place / "ledger/money.txt").write_text("none")
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(place / "a.nc", engine="scipy")
    before = files(place)
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(DataError, match="is no recording of seqscope: nothing in it is touched"):
            scope.record(X, place, "lstm", **options)
    assert files(place) == before


def test_places_that_cannot_be(scope, X, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("words")
    with pytest.raises(DataError, match=r"'.*notes.txt' is a file, and a store is a folder"):
        scope.record(X, file, "lstm", overwrite=True)
    with pytest.raises(DataError, match=r"can't be used \(NotADirectoryError: Not a directory\): name another place"):
        scope.record(X, file / "x.zarr", "lstm")
    assert file.read_text() == "words"
    assert scope.record(X, tmp_path / "a/b/c.zarr", "lstm").is_complete
    with pytest.raises(OutputExistsError):
        scope.record(X, tmp_path / "a/b/c.zarr", "lstm")


# Stores elsewhere


class Failing(LocalStore):
    """A store that refuses to write a part of an array."""

    async def set(self, key, value):
        if key.startswith("activations/lstm/activations/c/5"):
            raise PermissionError(errno.EACCES, "Permission denied")
        await super().set(key, value)


def test_a_store_that_fails_goes_on(scope, X, tmp_path):
    with pytest.raises(DataError, match=r"can't be used \(PermissionError: Permission denied\)"):
        scope.record(X, Failing(tmp_path / "x.zarr"), "lstm", **OPTIONS)
    assert len(entries(tmp_path / "x.zarr")) == 5
    assert scope.record(X, tmp_path / "x.zarr", "lstm", **OPTIONS, resume=True).verify() == []


def elsewhere(kind, request):
    """An address, and what reaches it."""
    if kind == "memory":
        return "memory://interrupted.zarr", {}
    url, options = request.getfixturevalue("s3")
    if kind == "s3":
        return f"{url}/interrupted.zarr", {"storage_options": options}
    obstore = pytest.importorskip("obstore.store")
    from zarr.storage import ObjectStore

    return ObjectStore(obstore.MemoryStore()), {}


@pytest.mark.parametrize("kind", ["memory", "obstore"])  # S3 in test_cluster
def test_other_stores_go_on_too(scope, X, known, request, monkeypatch, kind):
    address, options = elsewhere(kind, request)
    monkeypatch.setattr("seqscope.recording.lock.SETTLE_S", 0.05)
    calls = itertools.count()
    forward = killed.Net.forward

    def stopped(net, x):
        if next(calls) == 30:
            raise KeyboardInterrupt
        return forward(net, x)

    monkeypatch.setattr(killed.Net, "forward", stopped)
    with pytest.raises(KeyboardInterrupt):
        scope.record(X, address, "lstm", **OPTIONS, **options)
    assert 0 < int(sq.open(address, **options).recorded.sum()) < killed.N
    recording = scope.record(X, address, "lstm", **OPTIONS, **options, resume=True)
    assert recording.verify() == []
    expected = sq.open(known)
    np.testing.assert_allclose(recording.activations("lstm").values, expected.activations("lstm").values, rtol=1e-6)
    again = sq.open(address, **options)
    assert again.is_complete
    assert again.inputs[5].equals(expected.inputs[5])
    if kind == "memory":
        from fsspec.implementations.memory import MemoryFileSystem

        MemoryFileSystem.store.clear()
