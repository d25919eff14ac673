"""A cluster writes what one process would, whoever dies over it."""

import itertools
import logging
import os
import signal
import threading
import time

import distributed
import numpy as np
import pytest
import torch

import killed
import seqscope as sq
from recorded import entries, same
from seqscope.errors import ModelError, TooLargeError, UnsupportedError
from seqscope.recording import cluster
from seqscope.recording.shards import Shards

OPTIONS = {"states": {"lstm": "c"}, "shard": killed.SHARD}
QUIET = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # any port
N_SHARDS = killed.N // killed.SHARD


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """Dask says on the terminal what goes wrong here on purpose."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)


@pytest.fixture(scope="module")
def workers():
    """Two processes."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, scheduler_kwargs=QUIET) as started:
        yield started


@pytest.fixture(scope="module")
def client(workers):
    with distributed.Client(workers, set_as_default=False) as made:
        yield made


@pytest.fixture
def threads():
    """Two threads of this process, whose scheduler may go away."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, scheduler_kwargs=QUIET) as started:
        yield started


@pytest.fixture(scope="module")
def X():
    return killed.make()[1]


@pytest.fixture(scope="module")
def scope():
    return sq.Scope(killed.make()[0])


@pytest.fixture(scope="module")
def known(scope, X, tmp_path_factory):
    store = tmp_path_factory.mktemp("known") / "whole.zarr"
    scope.record(X, store, "lstm", **OPTIONS)
    return store


def until(is_so):
    for _ in range(3000):
        if is_so():
            return
        time.sleep(0.02)
    raise AssertionError("It never was.")


def net(nap):
    """The same model, that takes its time on workers: its weights, and so its digest, are the same."""
    model = killed.make()[0]
    model.nap = nap
    return model


def when(is_so, then):
    """Do something in the background as soon as something is so."""

    def run():
        until(is_so)
        then()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_writes_what_one_process_would_and_each_store_its_own(client, scope, X, known, tmp_path):
    for name in ("first.zarr", "second.zarr"):  # the same model and plan again, for another place
        scope.record(X, tmp_path / name, "lstm", **OPTIONS, client=client)
        same(tmp_path / name, known)
    assert client.cluster.scheduler.tasks == {}


def test_inputs_that_are_not_kept(client, scope, X, tmp_path):
    lengths = np.full(24, 5)
    data = [np.random.default_rng(seed).uniform(-1, 1, (24, 5, 3)).astype(np.float32) for seed in range(2)]
    np.save(tmp_path / "x.npy", data[0])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for given, name in ((data[0], "a"), (mapped, "b"), (data[1], "c")):
        recording = scope.record(sq.Sequences(given, lengths=lengths), tmp_path / name, "lstm", inputs=False, shard=8, client=client)
        expected = scope.activations(np.asarray(given), "lstm").values
        np.testing.assert_allclose(recording.activations("lstm").values, expected, rtol=1e-5, atol=1e-6)


def test_only_entries_come_back(threads, scope, X, tmp_path, monkeypatch):
    seen = []
    through = cluster._through

    def watched(client, *rest):
        for entry in through(client, *rest):
            seen.append((len(distributed.protocol.serialize(entry)[1][0]), len(client.cluster.scheduler.tasks)))
            yield entry

    monkeypatch.setattr(cluster, "_through", watched)
    with distributed.Client(threads, set_as_default=False) as client:
        scope.record(X, tmp_path / "x.zarr", "lstm", shard=2, client=client)
    sizes, waiting = zip(*seen, strict=True)
    assert len(sizes) == killed.N // 2
    assert max(sizes) < 2_000
    assert max(waiting) <= 2 * cluster._AHEAD + 2


def test_workers_begin_while_inputs_are_written_and_what_fails_here_is_not_laid_to_them(threads, scope, X, known, tmp_path, monkeypatch):
    store, write_inputs = tmp_path / "x.zarr", Shards.write_inputs

    def unplugged(shards, number, part):
        if number == N_SHARDS - 1:
            until(lambda: entries(store))
            raise FileNotFoundError(2, "No such file or directory", "speech.npy")
        write_inputs(shards, number, part)

    with distributed.Client(threads, set_as_default=False) as client:
        monkeypatch.setattr(Shards, "write_inputs", unplugged)
        with pytest.raises(FileNotFoundError, match=r"speech\.npy"):
            scope.record(X, store, "lstm", **OPTIONS, client=client)
        monkeypatch.undo()
        scope.record(X, store, "lstm", **OPTIONS, client=client, resume=True)
    same(store, known)


def test_a_worker_that_is_killed(workers, client, X, known, tmp_path):
    store = tmp_path / "x.zarr"
    victim = next(iter(workers.workers.values())).process.pid
    thread = when(lambda: entries(store), lambda: os.kill(victim, signal.SIGKILL))
    sq.Scope(net(0.05)).record(X, store, "lstm", **OPTIONS, client=client)
    thread.join()
    same(store, known)


def test_a_worker_without_memory(workers, client, X, known, tmp_path):
    class Hungry(killed.Net):
        def forward(self, x):
            if x.shape[0] > 1 and os.getpid() != home:
                os.kill(os.getpid(), signal.SIGKILL)  # as the nanny, or the system, does
            return super().forward(x)

    home = os.getpid()
    hungry = Hungry().eval()
    hungry.load_state_dict(killed.make()[0].state_dict())
    workers.scheduler.allowed_failures = 0
    with pytest.raises(UnsupportedError, match=r"Workers died again and again over the samples .* call record again with resume=True"):
        sq.Scope(hungry).record(X, tmp_path / "x.zarr", "lstm", **OPTIONS, client=client)
    workers.scheduler.allowed_failures = 3
    recording = sq.Scope(hungry).record(X, tmp_path / "x.zarr", "lstm", **OPTIONS, resume=True)
    np.testing.assert_array_equal(recording.activations("lstm").values, sq.open(known).activations("lstm").values)


def test_a_sample_that_fails_is_named_and_set_aside(client, tmp_path):
    class Picky(killed.Net):
        def forward(self, x):
            if (x[:, 0, 0] == -77).any():
                raise ValueError("sensor fault")
            return super().forward(x)

    data = np.random.default_rng(0).uniform(-1, 1, (32, 5, 3)).astype(np.float32)
    data[13, 0, 0] = -77
    scope, store = sq.Scope(Picky().eval()), tmp_path / "x.zarr"
    with pytest.raises(ModelError, match=r"failed on sample 13 \(at 13, .*sensor fault"):
        scope.record(data, store, "lstm", shard=4, client=client)
    n_done = len(entries(store))
    time.sleep(0.3)
    assert len(entries(store)) == n_done  # no worker writes on
    recording = scope.record(data, store, "lstm", shard=4, client=client, resume=True, on_error="skip")
    assert recording.failed.position.values.tolist() == [13]
    assert np.isnan(recording.activations("lstm").values).any(axis=(1, 2)).nonzero()[0].tolist() == [13]


def test_workers_write_to_s3(client, scope, X, known, s3):
    url, options = s3
    recording = scope.record(X, f"{url}/cluster.zarr", "lstm", **OPTIONS, client=client, storage_options=options)
    assert recording.verify() == []
    np.testing.assert_array_equal(recording.activations("lstm").values, sq.open(known).activations("lstm").values)


def test_a_client_that_is_closed_as_work_is_handed_to_it(threads, scope, X, tmp_path, monkeypatch):
    store, submit = tmp_path / "x.zarr", distributed.Client.submit

    def closing(self, function, *args, **options):
        if len(entries(store)) > 0:
            self.close()
        return submit(self, function, *args, **options)

    monkeypatch.setattr(distributed.Client, "submit", closing)
    with (
        distributed.Client(threads, set_as_default=False) as client,
        pytest.raises(UnsupportedError, match=r"went away before all was done \(ClosedClientError: .*call record with resume=True"),
    ):
        scope.record(X, store, "lstm", **OPTIONS, client=client)


@pytest.mark.parametrize("gone", ["client", "scheduler"])
def test_what_goes_away_on_the_way(threads, X, known, tmp_path, gone):
    store = tmp_path / "x.zarr"
    with distributed.Client(threads, set_as_default=False) as client:
        thread = when(lambda: entries(store), client.close if gone == "client" else threads.close)
        with pytest.raises(
            # what breaks first is chance: a future, the client or a line between the two
            UnsupportedError,
            match=r"went away before all was done( \(\w+Error(: .+)?\))?: what is .*call record with resume=True",
        ):
            sq.Scope(net(0.05)).record(X, store, "lstm", **OPTIONS, client=client)
        thread.join()
        with pytest.raises(UnsupportedError, match=r"The client is clos.*: connect again"):
            sq.Scope(net(0)).record(X, store, "lstm", **OPTIONS, client=client, resume=True)
    assert 0 < len(entries(store)) < N_SHARDS
    sq.Scope(net(0)).record(X, store, "lstm", **OPTIONS, resume=True)
    same(store, known)


def test_ctrl_c_calls_the_workers_off(threads, X, known, tmp_path):
    store = tmp_path / "x.zarr"
    with distributed.Client(threads, set_as_default=False) as client:
        thread = when(lambda: len(entries(store)) > 1, lambda: signal.raise_signal(signal.SIGINT))
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            sq.Scope(net(0.05)).record(X, store, "lstm", **OPTIONS, client=client)
        thread.join()
        assert time.monotonic() - begun < 15
        n_done = len(entries(store))
        time.sleep(0.4)
        assert len(entries(store)) == n_done < N_SHARDS
        assert not (store / "ledger/lock").exists()
        sq.Scope(net(0)).record(X, store, "lstm", **OPTIONS, client=client, resume=True)
    same(store, known)


def test_a_disk_that_is_full_for_a_worker(threads, scope, X, known, tmp_path, monkeypatch):
    calls, write = itertools.count(), Shards.write

    def full(shards, made, beside=None):
        if next(calls) > 3:
            raise OSError(28, "No space left on device")
        return write(shards, made, beside)

    with distributed.Client(threads, set_as_default=False) as client:
        monkeypatch.setattr(Shards, "write", full)
        with pytest.raises(TooLargeError, match="There is no space left"):
            scope.record(X, tmp_path / "x.zarr", "lstm", **OPTIONS, client=client)
        monkeypatch.undo()
        scope.record(X, tmp_path / "x.zarr", "lstm", **OPTIONS, client=client, resume=True)
    same(tmp_path / "x.zarr", known)


def test_what_cannot_be_on_a_cluster(threads, scope, X, tmp_path):
    model = killed.make()[0]
    model.guard = threading.Lock()
    with distributed.Client(threads, set_as_default=False) as client:
        with pytest.raises(ModelError, match=r"can't be sent to another process .*: open it from a file, .* factory='module:callable'"):
            sq.Scope(model).record(X, tmp_path / "x.zarr", "lstm", client=client)
        with pytest.raises(UnsupportedError, match="in the memory of one process"):
            scope.record(X, "memory://cluster", "lstm", client=client)
    with pytest.raises(UnsupportedError, match="connect again, and give the new one"):
        scope.record(X, tmp_path / "x.zarr", "lstm", client=client)
    assert not (tmp_path / "x.zarr").exists()  # the next call need not say that it goes on


def with_a_lock():
    """The model, with something in it that no bytes can be made of."""
    model = killed.make()[0]
    model.guard = threading.Lock()
    return model


def test_a_model_that_cannot_be_sent_is_made_there_as_it_was_here(threads, X, known, tmp_path):
    with distributed.Client(threads, set_as_default=False) as client:
        sq.Scope(factory=with_a_lock).record(X, tmp_path / "x.zarr", "lstm", **OPTIONS, client=client)
        same(tmp_path / "x.zarr", known)
        seeds = itertools.count()

        def another():
            model = with_a_lock()
            with torch.no_grad():
                model.fc.bias += next(seeds)
            return model

        with pytest.raises(ModelError, match="gives another model on a worker"):
            sq.Scope(factory=another).record(X, tmp_path / "y.zarr", "lstm", **OPTIONS, client=client)
