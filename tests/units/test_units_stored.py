"""Units of a recording: arrays of a sharded Zarr store that were opened lazily, read here and by the workers of a Dask cluster."""

import pickle
import sys
import tracemalloc

import dask
import numpy as np
import pytest
import xarray as xr
from zarr.storage import LocalStore, WrapperStore

import seqscope as sq
from seqscope import clients, errors, units
from seqscope.units import blocks, working

N, T, H = 75, 12, 32
# So many samples in a block: the chunks hold 8, the shards 40.
BLOCK = 16 * T * H

QUIET = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}


def lengths():
    return np.random.default_rng(5).integers(8, T + 1, N)


def inputs():
    random = np.random.default_rng(1)
    return sq.Sequences([random.standard_normal((n, 3)) for n in lengths()], labels=np.arange(N) % 3)


def hidden(seed=0):
    """Activations that follow the input, two units of which are the same; NaN behind the end."""
    X = inputs()
    values = np.full((N, T, H), np.nan, np.float32)
    mix = np.random.default_rng(seed).standard_normal((3, H))
    for row, n in enumerate(lengths()):
        values[row, :n] = np.tanh(X[row].values @ mix)
    values[..., 30] = values[..., 7]
    coords = {"sample": np.arange(N), "length": ("sample", lengths()), "label": ("sample", np.arange(N) % 3)}
    return xr.DataArray(values, dims=("sample", "time", "unit"), coords=coords, attrs={"layer": "lstm", "kind": "lstm"}, name="activations")


def gates():
    """The states of an LSTM of two directions: gates between 0 and 1."""
    both = np.stack([hidden(seed).values[..., : H // 2] for seed in (1, 2)], axis=1)
    arrays = {name: (("sample", "direction", "time", "unit"), (both * sign + 1) / 2) for name, sign in (("i", 1), ("f", -1), ("o", 1))}
    return xr.Dataset(arrays, coords={"sample": np.arange(N)})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "hidden.zarr"
    sizes = {"chunks": (8, T, 16), "shards": (40, T, H)}
    hidden().to_dataset().to_zarr(path, zarr_format=3, consolidated=False, encoding={"activations": sizes})
    of_states = {name: {"chunks": (8, 2, T, 16), "shards": (40, 2, T, H // 2)} for name in "ifo"}
    gates().to_zarr(path, group="states", zarr_format=3, consolidated=False, encoding=of_states)
    return path


def opened(store, **options):
    return xr.open_dataset(store, engine="zarr", consolidated=False, chunks=None, **options)


@pytest.fixture
def stored(store):
    return opened(store).activations


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK", BLOCK)


@pytest.fixture(scope="module")
def workers():
    import distributed

    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, scheduler_kwargs=QUIET)
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield client


class Counting(WrapperStore):
    """Counts the bytes of chunks that are read."""

    n_bytes = 0

    async def get(self, key, prototype, byte_range=None):
        found = await super().get(key, prototype, byte_range)
        if found is not None and "/c/" in key:
            self.n_bytes += len(found)
        return found

    async def get_partial_values(self, prototype, key_ranges):
        found = await super().get_partial_values(prototype, key_ranges)
        self.n_bytes += sum(len(part) for part in found if part is not None)
        return found


def asked(activations, states=None, **options):
    """Everything that can be asked of them."""
    X = inputs()
    return [
        units.summary(activations, X.labels, X, states, lags=3, **options),
        units.top_windows(activations, X, 9, k=7, steps=4, sign="both", **options),
        units.match(activations, 40, 3, 6, 0.5, units=[3, 8], k=9, **options),
    ]


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        xr.testing.assert_identical(one, other)


def test_stored_as_in_memory_to_the_last_bit(small_blocks, store, stored):
    assert len(list(blocks.take_in(stored).rows())) == 5
    same(asked(stored, opened(store, group="states")), asked(hidden(), gates()))
    assert not stored._in_memory


def test_figures_that_follow_the_input_do_not_depend_on_the_blocks(monkeypatch, stored):
    whole = units.summary(hidden(), X=inputs(), lags=3)
    monkeypatch.setattr(blocks, "_BLOCK", BLOCK)
    in_parts = units.summary(stored, X=inputs(), lags=3)
    for name in ("correlation", "mean", "spread", "duplicate_correlation"):
        np.testing.assert_allclose(in_parts[name], whole[name], rtol=1e-6, atol=1e-8)
    assert (in_parts.channel == whole.channel).all()
    assert in_parts.duplicate_of.values[30] == 7


@pytest.mark.parametrize("in_chunks", [lambda found: found, lambda found: found.chunk({"sample": 40})], ids=["lazy", "dask"])
def test_a_cluster_gives_the_same_bits(small_blocks, store, workers, in_chunks):
    stored, states = in_chunks(opened(store).activations), in_chunks(opened(store, group="states"))
    same(asked(stored, states, client=workers), asked(stored, states))
    assert workers.status == "running"


def test_processes_of_one_thread_give_the_same_bits(small_blocks, stored, monkeypatch):
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)  # Dask leaves it there, and what is there prevails
    before, X = dask.config.get("distributed.nanny.pre-spawn-environ"), inputs()
    with clients.client_of(1) as workers:
        assert list(workers.run(_begun_with).values()) == [("1", str(2**28))]
        found = units.summary(stored, X.labels, X, client=workers)
        hidden().to_dataset().to_zarr("memory://units.zarr", zarr_format=3, consolidated=False)
        with pytest.raises(errors.UnsupportedError, match="sees other values in the array than this process: give it the same files"):
            units.summary(opened("memory://units.zarr").activations, client=workers)
    xr.testing.assert_identical(found, units.summary(stored, X.labels, X))
    assert dask.config.get("distributed.nanny.pre-spawn-environ") == before


def _begun_with():
    import os

    return os.environ["OMP_NUM_THREADS"], os.environ["MALLOC_TRIM_THRESHOLD_"]


def test_what_is_in_memory_is_worked_on_here(small_blocks, workers, monkeypatch):
    monkeypatch.setattr(workers, "submit", None)
    same(asked(hidden(), client=workers), asked(hidden()))


def test_blocks_are_whole_chunks(monkeypatch, stored):
    for size in (3, 9, 100):
        monkeypatch.setattr(blocks, "_BLOCK", size * T * H)
        rows = list(blocks.take_in(stored.transpose("unit", "sample", "time")).rows())
        assert all(part.start % 8 == 0 for part in rows)
        assert [part.start for part in rows[1:]] == [part.stop for part in rows[:-1]]
        assert (rows[0].start, rows[-1].stop) == (0, N)
    assert len(rows) == 2  # of 64 and what is left


def test_what_goes_to_a_worker_is_small(stored):
    rows = stored.variable.isel(sample=slice(16, 32))
    sent = pickle.dumps(rows)
    assert len(sent) < 5000
    np.testing.assert_array_equal(pickle.loads(sent).values, hidden().values[16:32])


def test_only_the_chunks_that_are_needed_are_read(small_blocks, store):
    counting = Counting(LocalStore(store, read_only=True))
    activations = opened(counting).activations
    whole = sum(file.stat().st_size for file in (store / "activations").rglob("c/**/*") if file.is_file())
    taken = blocks.take_in(activations.transpose("unit", "time", "sample"))
    assert taken.is_stored
    before = counting.n_bytes
    units.summary(activations, duplicate=None)
    once = counting.n_bytes - before
    assert 0.95 * whole < once < 1.2 * whole
    units.top_windows(activations, inputs(), 9, k=2)  # one chunk of units in two
    assert 0.4 * whole < counting.n_bytes - before - once < 0.75 * whole


def test_one_block_is_in_memory_at_a_time(monkeypatch, tmp_path):
    values = xr.DataArray(np.random.default_rng(0).random((4000, T, H), np.float32), dims=("sample", "time", "unit"), name="activations")
    encoding = {"activations": {"chunks": (64, T, 16), "shards": (512, T, H)}}
    values.to_dataset().to_zarr(tmp_path / "large.zarr", zarr_format=3, consolidated=False, encoding=encoding)
    monkeypatch.setattr(blocks, "_BLOCK", 5 * BLOCK)  # 64 samples
    monkeypatch.setattr(blocks, "_PIECE", 1 << 12)
    stored = opened(tmp_path / "large.zarr").activations
    units.summary(stored[:100], duplicate=None)
    tracemalloc.start()
    try:
        units.summary(stored, duplicate=None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < values.nbytes / 3


def test_one_sequence_of_a_store(stored):
    xr.testing.assert_identical(units.summary(stored.isel(sample=5)), units.summary(hidden().isel(sample=5)))


def test_infinity_on_a_worker_is_named(small_blocks, tmp_path, workers):
    values = hidden()
    values[61, 2, 11] = np.inf
    values.to_dataset().to_zarr(tmp_path / "inf.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(errors.DataError, match="Unit 11 is infinite at step 2 of sample 61"):
        units.summary(opened(tmp_path / "inf.zarr").activations, client=workers)


def test_a_worker_that_fails_names_the_samples(small_blocks, stored, workers):
    taken = blocks.take_in(stored)
    with pytest.raises(
        errors.UnsupportedError, match=r"A worker failed on the samples 32 to 47 \(ZeroDivisionError: .*\): the workers need"
    ):
        list(working.each_block(taken, _failing, workers))


def _failing(rows, block):
    return 1 / (rows.start - 32)


def test_a_client_that_goes_away(small_blocks, stored):
    import distributed

    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, scheduler_kwargs=QUIET)
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        results = working.each_block(blocks.take_in(stored), _start, client)
        assert next(results) == 0
        client.close()
        with pytest.raises(errors.UnsupportedError, match="The cluster went away before all was read"):
            list(results)
    with pytest.raises(errors.UnsupportedError, match="The client is closed: connect again"):
        units.match(stored, 40, 3, 6, 0.5, units=[3], client=client)


def _start(rows, block):
    return rows.start


def test_results_come_in_order_and_few_blocks_are_ahead(small_blocks, stored, workers, monkeypatch):
    submit, sent = workers.submit, []
    monkeypatch.setattr(workers, "submit", lambda *args, **options: sent.append(args) or submit(*args, **options))
    results = working.each_block(blocks.take_in(stored), _start, workers)
    assert next(results) == 0
    assert len(sent) == 4  # of 5: two for each of two threads
    assert list(results) == list(range(16, N, 16))


def test_a_scheduler_by_its_address(small_blocks, stored):
    import distributed

    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1", scheduler_kwargs=QUIET
    ) as cluster:
        address = cluster.scheduler_address
        xr.testing.assert_identical(
            units.match(stored, 40, 3, 6, 0.5, units=[3], client=address), units.match(stored, 40, 3, 6, 0.5, units=[3])
        )
        with clients.client_of(address) as client:
            assert client.status == "running"
        assert client.status == "closed"


@pytest.mark.parametrize("given", [0, -1, True, 2.5, ["tcp://127.0.0.1:8786"]])
def test_what_is_no_client(given, stored):
    with pytest.raises(errors.DataError, match=r"client is .*: expected a distributed.Client, a scheduler's address such as"):
        units.summary(stored, client=given)


def test_addresses_where_no_scheduler_is(monkeypatch, stored):
    monkeypatch.setattr(clients, "_PATIENCE", 0.3)
    with pytest.raises(errors.UnsupportedError, match=r"No scheduler answers at 'tcp://127.0.0.1:9'"):
        units.top_windows(stored, inputs(), 3, client="tcp://127.0.0.1:9")
    for given in ("nonsense", "http://a:1", ""):
        with pytest.raises(errors.DataError, match=f"client is '{given}', no address of a scheduler"):
            units.summary(stored, client=given)


def test_without_dask(monkeypatch, stored):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        errors.MissingPackageError, match=r"needs the package 'distributed', which is not installed: pip install 'seqscope\[record\]'"
    ):
        units.summary(stored, client="tcp://127.0.0.1:8786")
