"""Addresses, and the small objects behind them, on every kind of store."""

import importlib
import os
import pickle
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from obstore import store as obstore
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore, WrapperStore

from seqscope import errors
from seqscope.errors import DataError, MissingPackageError
from seqscope.recording import stores

KINDS = ("folder", "memory", "fsspec", "s3", "obstore")


def by_obstore(s3, prefix):
    url, options = s3
    return ObjectStore(
        obstore.S3Store(
            url.removeprefix("s3://"),
            prefix=prefix,
            config={
                "access_key_id": options["key"],
                "secret_access_key": options["secret"],
                "endpoint": options["endpoint_url"],
                "region": "us-east-1",
            },
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
    )


@pytest.fixture(params=KINDS)
def store(request, tmp_path, s3, empty_store):
    return by_obstore(s3, f"{tmp_path.name}.zarr") if request.param == "obstore" else empty_store(request.param)


def test_objects_are_written_read_listed_and_deleted(store):
    assert stores.get(store, "ledger/entries/000001.json") is None
    assert stores.size(store, "ledger/entries/000001.json") is None
    assert stores.crc32c(store, "ledger/entries/000001.json") is None
    assert stores.keys(store, "ledger/entries") == []
    for key, data in {
        "ledger/entries/000010.json": b"ten",
        "ledger/entries/000009.json": b"",
        "ledger/entries2": b"beside",
        "zarr.json": b"{}",
    }.items():
        stores.put(store, key, data)
    assert stores.keys(store, "ledger/entries") == ["ledger/entries/000009.json", "ledger/entries/000010.json"]
    assert stores.keys(store, "") == ["ledger/entries/000009.json", "ledger/entries/000010.json", "ledger/entries2", "zarr.json"]
    assert (stores.get(store, "ledger/entries/000010.json"), stores.size(store, "ledger/entries/000010.json")) == (b"ten", 3)
    assert (stores.get(store, "ledger/entries/000009.json"), stores.size(store, "ledger/entries/000009.json")) == (b"", 0)
    stores.put(store, "ledger/entries/000010.json", b"another")
    assert stores.get(store, "ledger/entries/000010.json") == b"another"
    stores.delete(store, "ledger/entries/000010.json")
    stores.delete(store, "ledger/entries/000010.json")
    assert stores.keys(store, "ledger/entries") == ["ledger/entries/000009.json"]


def test_a_checksum_is_that_of_the_bytes_however_many_pieces_are_read(store, monkeypatch):
    monkeypatch.setattr(stores, "_AT_ONCE", 1000)
    data = np.random.default_rng(0).bytes(3500)
    stores.put(store, "big", data)
    stores.put(store, "check", b"123456789")
    assert stores.crc32c(store, "big") == f"{google_crc32c.value(data):08x}"
    assert stores.crc32c(store, "check") == "e3069283"  # the check value of CRC-32C, in RFC 3720's polynomial
    assert int(stores.crc32c(store, "check"), 16) != zlib.crc32(b"123456789")


def test_an_object_is_created_by_one_of_many(store):
    def create(number):
        start.wait()
        return stores.put_if_absent(store, "ledger/lease.json", f"writer {number}".encode())

    start = threading.Barrier(6)
    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(create, range(6)))
    assert stores.get(store, "ledger/lease.json") == f"writer {won.index(True)}".encode()
    assert won.count(True) == 1
    assert not stores.put_if_absent(store, "ledger/lease.json", b"later")


def test_a_lock_alone_is_no_store(store):
    assert not stores.exists(store)
    stores.put(store, stores.LOCK, b"1")
    stores.put(store, stores.LEASE, b"1")
    assert not stores.exists(store)
    stores.put(store, "ledger/begun", b"")
    assert stores.exists(store)
    stores.delete(store, "ledger/begun")
    assert not stores.exists(store)
    stores.put(store, "inputs/zarr.json", b"{}")
    assert stores.exists(store)


def test_what_is_cleared_is_gone_but_for_the_lock(store):
    for key in (stores.LOCK, stores.LEASE, "ledger/begun", "ledger/entries/000001.json", "zarr.json", "inputs/value/c/0/0/0"):
        stores.put(store, key, b"1")
    stores.clear(store)
    assert stores.keys(store, "") == sorted([stores.LOCK, stores.LEASE])
    assert not stores.exists(store)
    stores.clear(store)


def test_arrays_are_written_and_the_witness_remembers_what_reached_the_store(store):
    witness = stores.Witness(store)
    values = np.arange(240.0, dtype="f4").reshape(8, 5, 6)
    zarr.create_group(witness, zarr_format=3)
    array = zarr.create_array(witness, name="value", shape=values.shape, chunks=(2, 5, 3), shards=(4, 5, 6), dtype="f4")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda first: array.__setitem__(slice(first, first + 4), values[first : first + 4]), (0, 4)))
    assert sorted(witness.seen) == ["value/c/0/0/0", "value/c/1/0/0", "value/zarr.json", "zarr.json"]
    for key, figures in witness.seen.items():
        assert figures == (stores.size(store, key), stores.crc32c(store, key))
    np.testing.assert_array_equal(zarr.open_array(store, path="value", mode="r")[:], values)


def test_stores_go_to_another_process(tmp_path, s3):
    url, options = s3
    s3fs = stores.open_store(f"{url}/sent.zarr", storage_options=options)
    sent = (stores.open_store(tmp_path / "sent.zarr"), s3fs, by_obstore(s3, "sent-too.zarr"), stores.Witness(s3fs))
    for store in sent:
        assert stores.is_shared(store)
        stores.put(store, "from", b"here")
        assert stores.keys(store, "") == ["from"]
    code = (
        "import pickle, sys\n"
        "from seqscope.recording import stores\n"
        "for store in pickle.load(sys.stdin.buffer):\n"
        "    stores.put(store, 'back', stores.get(store, 'from') + b' and there')\n"
    )
    subprocess.run([sys.executable, "-c", code], input=pickle.dumps(sent), check=True, timeout=60)
    for store in sent:
        assert stores.get(store, "back") == b"here and there"
        assert stores.keys(store, "") == ["back", "from"]  # also where a listing was asked for before


def test_which_stores_other_processes_can_open(tmp_path):
    assert not stores.is_shared(MemoryStore())
    assert not stores.is_shared(stores.Witness(MemoryStore()))
    assert not stores.is_shared(ObjectStore(obstore.MemoryStore()))
    assert stores.is_shared(ObjectStore(obstore.LocalStore(tmp_path)))
    assert stores.is_shared(stores.Witness(LocalStore(tmp_path)))


@pytest.mark.parametrize("missing", [True, False])
def test_the_witness_remembers_only_what_it_wrote(missing):
    store = MemoryStore()
    witness = stores.Witness(store)
    if not missing:
        stores.put(store, "key", b"older")
    zarr.core.sync.sync(witness.set_if_not_exists("key", stores._buffer(b"newer")))
    assert witness.seen == ({"key": (5, f"{google_crc32c.value(b'newer'):08x}")} if missing else {})
    stores.put(witness, "key", b"newest")
    assert witness.seen["key"][0] == 6
    stores.delete(witness, "key")
    assert witness.seen == {}


def test_what_a_witness_saw_is_what_was_handed_over_and_not_what_a_bad_disk_kept():
    class Lossy(WrapperStore):
        async def set(self, key, value):
            await super().set(key, value[: len(value) // 2])

    witness = stores.Witness(Lossy(MemoryStore()))
    stores.put(witness, "key", b"abcdef")
    assert witness.seen["key"] == (6, f"{google_crc32c.value(b'abcdef'):08x}")
    assert stores.size(witness, "key") == 3


def test_a_failed_write_was_not_seen():
    class Full(WrapperStore):
        async def set(self, key, value):
            raise OSError(28, "No space left on device")

    witness = stores.Witness(Full(MemoryStore()))
    with pytest.raises(OSError, match="No space left"):
        stores.put(witness, "key", b"abcdef")
    assert witness.seen == {}


def test_a_folder_is_a_folder_whatever_way_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for address in ("a b.zarr", Path("a b.zarr"), f"file://{tmp_path}/a%20b.zarr", f"local://{tmp_path}/a b.zarr"):
        store = stores.open_store(address)
        assert isinstance(store, LocalStore)
        assert stores.local_path(store) == tmp_path / "a b.zarr"
    assert not (tmp_path / "a b.zarr").exists()
    assert not stores.exists(store)
    reading = stores.open_store("a b.zarr", read_only=True)
    assert stores.get(reading, "zarr.json") is None
    assert not (tmp_path / "a b.zarr").exists()


def test_a_store_of_zarr_is_taken_as_it_is(tmp_path):
    store = LocalStore(tmp_path)
    assert stores.open_store(store) is store
    assert stores.open_store(LocalStore(tmp_path, read_only=True), read_only=True).read_only
    with pytest.raises(DataError, match=rf"^The store '{tmp_path.name}' was opened to be read only: open it so that it can be written\.$"):
        stores.open_store(LocalStore(tmp_path, read_only=True))


def test_the_free_space_is_that_of_the_disk_where_the_folder_will_be(tmp_path):
    there = os.statvfs(tmp_path)
    found = stores.free_space(stores.open_store(tmp_path / "not" / "there" / "yet.zarr"))
    assert abs(found - there.f_bavail * there.f_frsize) < 1 << 30  # others write to it too
    assert stores.free_space(MemoryStore()) is None
    assert stores.free_space(stores.Witness(LocalStore(tmp_path))) is not None


def test_only_partial_files_of_zarr_are_removed(tmp_path):
    partial = f"zarr.{'0123456789abcdef' * 2}.partial"
    for name in (partial, f"deep/c/0/0.{'f' * 32}.partial", "zarr.json", "a.partial", f"{'f' * 32}.partials", f"x.{'f' * 31}.partial"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    stores.remove_partials(LocalStore(tmp_path))
    assert stores.keys(LocalStore(tmp_path), "") == sorted(["zarr.json", "a.partial", f"{'f' * 32}.partials", f"x.{'f' * 31}.partial"])
    stores.remove_partials(MemoryStore())
    stores.remove_partials(LocalStore(tmp_path / "none"))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("out/vowels.zarr", "out/vowels.zarr"),
        (Path("vowels.zarr"), "vowels.zarr"),
        ("s3://bucket/x.zarr", "s3://bucket/x.zarr"),
        ("s3://someone:s3cr3t@bucket/x.zarr?token=s3cr3t#s3cr3t", "s3://bucket/x.zarr"),
        (LocalStore("/data/vowels.zarr"), "vowels.zarr"),
        (stores.Witness(LocalStore("/data/vowels.zarr")), "vowels.zarr"),
        (MemoryStore(), "MemoryStore"),
        (
            ObjectStore(obstore.S3Store("bucket", prefix="x/y", config={"secret_access_key": "s3cr3t", "access_key_id": "a"})),
            "s3://bucket/x/y",
        ),
        (ObjectStore(obstore.MemoryStore()), "MemoryStore"),
    ],
)
def test_a_message_names_an_address_and_no_secret(address, said):
    assert stores.words(address) == said


def test_a_message_names_a_store_by_its_address(s3):
    url, options = s3
    store = stores.open_store(f"{url}/named.zarr", storage_options=options)
    assert isinstance(store, FsspecStore)
    assert stores.words(store) == f"{url}/named.zarr"


def test_addresses_that_nothing_can_open(tmp_path):
    (tmp_path / "file.zarr").write_bytes(b"")
    with pytest.raises(DataError, match=r"file\.zarr' is a file, and a store is a folder: name another place\.$"):
        stores.open_store(tmp_path / "file.zarr")
    with pytest.raises(DataError, match=r"^'s4://bucket/x' has a scheme that is not known: .* the nearest are 's3', "):
        stores.open_store("s4://someone:s3cr3t@bucket/x")
    with pytest.raises(DataError, match=r"^storage_options= was given with 'x\.zarr': it is for addresses such as 's3://bucket/x'\.$"):
        stores.open_store("x.zarr", storage_options={"key": "s3cr3t"})


def _without(monkeypatch, *packages):
    """As where packages are not installed."""
    for scheme in ("s3", "gs", "hf"):
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, scheme, raising=False)
    real = importlib.import_module

    def lacking(name, *args):
        if name.partition(".")[0] in packages:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name.partition(".")[0])
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", lacking)


def test_a_missing_package_is_named_with_both_ways_to_install_one(monkeypatch):
    _without(monkeypatch, "s3fs", "obstore", "gcsfs", "huggingface_hub")
    for scheme, package in (("s3", "s3fs"), ("gs", "gcsfs")):
        with pytest.raises(MissingPackageError) as caught:
            stores.open_store(f"{scheme}://bucket/x")
        assert (
            str(caught.value)
            == f"{scheme}://... needs the package '{package}', or 'obstore', and neither is installed: pip install {package}"
        )
    with pytest.raises(MissingPackageError) as caught:
        stores.open_store("hf://datasets/x")
    assert str(caught.value) == "hf://... needs the package 'huggingface_hub', which is not installed: pip install huggingface_hub"


def test_obstore_opens_what_fsspec_lacks_the_package_for(monkeypatch, s3):
    url, options = s3
    _without(monkeypatch, "s3fs")
    said = {
        "access_key_id": options["key"],
        "secret_access_key": options["secret"],
        "endpoint": options["endpoint_url"],
        "region": "us-east-1",
    }
    store = stores.open_store(f"{url}/other.zarr", storage_options={**said, "client_options": {"allow_http": True}})
    assert isinstance(store, ObjectStore)
    stores.put(store, "key", b"1")
    assert stores.keys(by_obstore(s3, "other.zarr"), "") == ["key"]
    with pytest.raises(DataError, match=r"^'s3://bucket/x' can't be used \(UnknownConfigurationKeyError: .*'bad'.*storage_options=\.$"):
        stores.open_store("s3://bucket/x", storage_options={**said, "bad": "s3cr3t"})


NO_RETRIES = {"config_kwargs": {"retries": {"max_attempts": 0}}}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"bad_option": "s3cr3t"}, "bad_option"),
        ({"client_kwargs": {"bad_option": "s3cr3t"}}, "bad_option"),
        ({"endpoint_url": "http://127.0.0.1:9"} | NO_RETRIES, "Could not connect"),
        ({"endpoint_url": "nowhere"}, "Invalid endpoint"),
    ],
)
def test_what_does_not_answer_is_said_in_a_sentence_that_keeps_secrets(s3, changed, said):
    with pytest.raises(DataError) as caught:
        stores.open_store("s3://bucket/x.zarr", storage_options=s3[1] | changed)
    assert str(caught.value).startswith("'s3://bucket/x.zarr' can't be used (")
    assert str(caught.value).endswith("): look at the address, the credentials and storage_options=.")
    assert said in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_told_when_it_is_written_to(s3):
    for store in (stores.open_store("s3://no-such-bucket/x", storage_options=s3[1]), by_obstore(("s3://no-such-bucket", s3[1]), "x")):
        with pytest.raises(DataError, match=r"^'s3://no-such-bucket/x' can't be used \(.*bucket.*\): look at the address"):
            stores.put(store, "key", b"1")


def test_a_server_that_refuses_is_told_as_such():
    class Closed(WrapperStore):
        async def get(self, *args):
            raise PermissionError(13, "Access Denied")

    with pytest.raises(
        DataError, match=r"^'MemoryStore' can't be used \(PermissionError: Access Denied\): look at the address, the credentials"
    ):
        stores.get(Closed(MemoryStore()), "key")


def test_a_folder_that_is_refused_is_told_and_a_full_disk_passes_as_it_is(tmp_path):
    with (
        pytest.raises(DataError, match=r"^'x' can't be used \(PermissionError: Permission denied\): name another place"),
        stores.told(LocalStore("x")),
    ):
        raise PermissionError(13, "Permission denied")
    for store in (LocalStore("x"), MemoryStore()):
        with pytest.raises(OSError, match="No space left"), stores.told(store):
            raise OSError(28, "No space left on device")
        with pytest.raises(ZeroDivisionError), stores.told(store):
            raise ZeroDivisionError
        with pytest.raises(errors.BusyError), stores.told(store):
            raise errors.BusyError("busy")


def test_a_store_inside_a_file_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"^'x\.zarr' can't be used \(NotADirectoryError: Not a directory\): name another place"):
        stores.put(stores.open_store(tmp_path / "file" / "x.zarr"), "key", b"1")
