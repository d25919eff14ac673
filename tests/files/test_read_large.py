"""Data larger than memory: what is written to a file as it comes is what is read at once, in the memory of one part."""

import errno
import itertools
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import seqscope as sq
from seqscope import errors
from seqscope.stored import is_mapped

RANDOM = np.random.default_rng(0)
X3 = RANDOM.standard_normal((7, 5, 2)).astype(np.float32)
Y = np.arange(7) % 3


def check_same(kept, X):
    """Everything is the same, the types too, and the steps of one of them are in a file."""
    assert is_mapped(kept._steps)
    assert kept.describe() == X.describe()
    assert (kept.dtype, kept.channels, kept.single, kept.outputs) == (X.dtype, X.channels, X.single, X.outputs)
    for name in ("lengths", "samples", "labels"):
        one, other = getattr(kept, name), getattr(X, name)
        assert (one is None) == (other is None)
        if other is not None:
            np.testing.assert_array_equal(one, other)
            assert one.dtype.kind == other.dtype.kind
    assert (kept.clock.is_numbered, kept.clock.units, kept.clock.own is None) == (X.clock.is_numbered, X.clock.units, X.clock.own is None)
    for one, other in zip(kept, X, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.time.values, other.time.values)


@pytest.fixture
def small_parts(monkeypatch):
    """A few rows at a time."""
    monkeypatch.setattr("seqscope.files.table_files.PART_BYTES", 1600)


@pytest.fixture
def walks():
    """Sequences of 1 to 40 steps, in the order of their samples."""
    lengths = RANDOM.integers(1, 30, 24)
    frame = pd.DataFrame(RANDOM.standard_normal((lengths.sum(), 2)), columns=["ax", "ay"])
    frame.insert(0, "sample", np.repeat([f"walk{place:03}" for place in range(24)], lengths))
    frame.insert(1, "time", np.concatenate([RANDOM.permutation(n) for n in lengths]) * 0.5)
    frame.insert(2, "label", np.repeat(RANDOM.choice(["slow", "fast", "very fast"], 24), lengths))
    return frame


# Loaders


@pytest.mark.parametrize(
    "source",
    [
        list(zip(X3, Y, strict=True)),
        list(X3),
        [(X3[:4], np.eye(3)[Y[:4]]), (X3[4:, :3], np.eye(3)[Y[4:]])],
        [(np.arange(3), "a"), (np.arange(5), "bcd")],
        [np.linspace(0, 1, 4), np.linspace(0, 2, 9)],
        [X3[0], X3[1].astype(np.float64), np.arange(10).reshape(5, 2)],
        [np.arange(4, dtype=np.int16), np.arange(6, dtype=np.int64) * 2**40],
        [np.where(np.arange(5)[:, None] < 3, X3[0], np.nan), X3[1]],
        DataLoader(TensorDataset(torch.tensor(X3), torch.tensor(Y)), batch_size=3),
        [(X3[0], 1)],
    ],
    ids=["pairs", "series", "one-hot", "tokens", "1-D", "wider", "wider tokens", "padded", "torch", "one"],
)
def test_a_loader_gives_the_same(tmp_path, monkeypatch, source):
    monkeypatch.setattr("seqscope.files.kept._TOGETHER", 2)
    check_same(sq.read(source, keep=tmp_path / "a.npy"), sq.read(source))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_the_file_holds_the_steps_and_no_padding(tmp_path):
    sq.read([X3[0], X3[1, :2]], keep=str(tmp_path / "a.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.concatenate([X3[0], X3[1, :2]]))


def test_most_is_how_many_are_taken_of_what_has_no_end(tmp_path):
    X = sq.read(((X3, Y) for _ in itertools.count()), most=10, keep=tmp_path / "a.npy")
    assert X.labels.tolist() == [*Y, *Y[:3]]
    assert len(np.load(tmp_path / "a.npy")) == 50


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ([(X3, Y[:4])], {}),
        ([(X3[0], 1), (X3[1], [1, 2])], {}),
        ([(X3[0], 1), (X3[1], 1), X3[2]], {}),
        ([(X3[0], 1), (X3[1][:, :1], 1)], {}),
        ([X3[0], np.arange(3)], {}),
        ([], {}),
        (itertools.repeat((X3[0], 1)), {}),
        ([X3[0], np.where(np.arange(5)[:, None] == 3, np.nan, X3[1])], {}),
        ([X3[0], np.full((3, 2), np.nan)], {}),
        ([(X3[0], 1)], {"most": 0}),
    ],
)
def test_what_a_loader_gives_is_refused_in_the_same_words_and_nothing_is_left(tmp_path, source, options):
    with pytest.raises(errors.DataError) as at_once:
        sq.read(source, **options)
    with pytest.raises(errors.DataError) as kept:
        sq.read(source, **options, keep=tmp_path / "a.npy")
    assert str(kept.value) == str(at_once.value)
    assert not list(tmp_path.iterdir())


def _stopping(error):
    yield X3[0]
    raise error


@pytest.mark.parametrize(
    ("raised", "told", "message"),
    [
        (RuntimeError("the disk is on fire"), errors.DataError, "it raised RuntimeError behind item 0: the disk is on fire"),
        (KeyboardInterrupt("the keyboard"), KeyboardInterrupt, "the keyboard"),
    ],
)
def test_a_loader_that_stops_leaves_nothing(tmp_path, raised, told, message):
    with pytest.raises(told, match=message):
        sq.read(_stopping(raised), keep=tmp_path / "a.npy")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    """A limit on the size of files stands for it: the system refuses to write on."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, hard))
    try:
        with pytest.raises(errors.TooLargeError, match=r"no space left for '.*a\.npy' \(keep=\), after [23]\.?\d* MB: make some, or name"):
            sq.read((np.ones((1000, 50)) for _ in range(30)), keep=tmp_path / "a.npy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_file_that_can_not_be_written(tmp_path, monkeypatch):
    def refuse(**options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryDirectory", refuse)
    with pytest.raises(errors.DataError, match=r"The file '.*a\.npy' \(keep=\) can't be written: Permission denied"):
        sq.read([X3[0]], keep=tmp_path / "a.npy")


def test_a_place_that_is_taken_or_not_there(tmp_path):
    (tmp_path / "a.npy").write_text("mine")
    with pytest.raises(errors.OutputExistsError, match=r"a\.npy' exists, and `keep` writes over no file: name another one, or delete it"):
        sq.read([X3[0]], keep=tmp_path / "a.npy")
    assert (tmp_path / "a.npy").read_text() == "mine"
    with pytest.raises(errors.DataError, match=r"There is no folder '.*none' to keep 'a\.npy' in"):
        sq.read([X3[0]], keep=tmp_path / "none" / "a.npy")
    with pytest.raises(errors.DataError, match=r"expected a name that ends in '\.npy', such as keep='b\.npy'"):
        sq.read([X3[0]], keep=tmp_path / "b.zarr")
    np.save(tmp_path / "x.npy", X3)
    with pytest.raises(errors.DataError, match=r"The option keep='.*c\.npy' means nothing for a \.npy file"):
        sq.read(tmp_path / "x.npy", keep=tmp_path / "c.npy")


def test_the_memory_of_one_item_is_enough(tmp_path):
    """200 MB of 100 items; NumPy tells tracemalloc what it takes, and the system what the process has of its own."""
    items = (np.full((5000, 100), place, np.float32) for place in range(100))
    before = _own_memory()
    tracemalloc.start()
    try:
        X = sq.read(items, keep=tmp_path / "a.npy")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert X._steps.nbytes == 200_000_000
    assert peak < 40_000_000
    assert _own_memory() - before < 60_000_000
    assert X[97].values.mean() == 97


def _own_memory():
    """Bytes that are not of files, on Linux."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def test_without_a_file_the_message_names_it(tmp_path, monkeypatch, walks):
    monkeypatch.setattr("seqscope.files.loaders._LOOK_EVERY", 1000)
    monkeypatch.setattr("seqscope.ram.available", lambda: 5000)
    with pytest.raises(errors.TooLargeError, match=r"with most=, or a file that they are written to .*keep='steps\.npy'"):
        sq.read((X3[0], 1) for _ in itertools.count())
    walks.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(errors.TooLargeError, match=r"name a file that its steps are written to as they come, such as keep='steps\.npy'"):
        sq.read(tmp_path / "a.csv")


# Tables


def _write(frame, path, **options):
    if path.suffix == ".csv":
        frame.to_csv(path, index=options.pop("index", False), **options)
    else:
        pytest.importorskip("pyarrow")
        frame.to_parquet(path, row_group_size=37, **options)
    return path


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@pytest.mark.parametrize(
    "form", ["all", "no times", "no label", "one clock", "dates", "numbers", "one sequence", "float32", "gaps", "padded"]
)
def test_a_long_table_gives_the_same(tmp_path, walks, ending, form):
    if form == "no times":
        walks = walks.drop(columns="time")
    if form == "no label":
        walks = walks.drop(columns="label")
    if form == "one clock":
        walks["time"] = walks.groupby("sample").cumcount() * 0.25
    if form == "dates":
        walks["time"] = pd.Timestamp("2026-01-31") + pd.to_timedelta(walks["time"] * 60, unit="s")
    if form == "numbers":
        walks["sample"], walks["ax"] = pd.factorize(walks["sample"])[0] + 5, np.arange(len(walks))
    if form == "one sequence":
        walks = walks[["ax", "ay"]].assign(time=np.arange(len(walks))[::-1] * 0.5)
    if form == "float32":
        walks = walks.astype({"ax": np.float32, "ay": np.float32})
    if form == "gaps":  # rows of nothing at the ends of sequences
        walks["time"] = walks.groupby("sample").cumcount()
        walks.loc[(walks["time"] > 3) & (walks["sample"] < "walk015"), ["ax", "ay"]] = np.nan
    if form == "padded":  # whole numbers, with gaps further on alone
        walks = walks.assign(ax=np.arange(len(walks)), ay=np.arange(len(walks))).astype({"ax": "Int64", "ay": "Int64"})
        walks["time"] = walks.groupby("sample").cumcount()
        walks.loc[(walks["time"] > 3) & (walks["sample"] > "walk020"), ["ax", "ay"]] = pd.NA
    path = _write(walks, tmp_path / f"a{ending}")
    check_same(sq.read(path, keep=tmp_path / "kept.npy"), sq.read(path))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@pytest.mark.parametrize("form", ["numbered", "named", "times", "labelled"])
def test_a_wide_table_gives_the_same(tmp_path, ending, form):
    values = RANDOM.standard_normal((40, 12))
    values[20:, 9:] = np.nan
    frame = pd.DataFrame(values, columns=[f"{'t' * (form == 'named')}{place * (0.5 if form == 'times' else 1)}" for place in range(12)])
    if form == "labelled":
        frame.insert(0, "label", [f"{'long ' * (place // 30)}{place % 3}" for place in range(40)])
        frame.insert(0, "sample", [f"s{place}" for place in range(40)])
    options = {"layout": "wide"} if form == "times" else {}
    path = _write(frame, tmp_path / f"a{ending}")
    check_same(sq.read(path, **options, keep=tmp_path / "kept.npy"), sq.read(path, **options))


@pytest.mark.usefixtures("small_parts")
def test_tables_as_other_programs_write_them_give_the_same(tmp_path, walks):
    archive = tmp_path / "a.tsv"
    archive.write_text("".join(f"{place % 2 + 1}\t{place}.5\t{place}.25" + "\t7.0" * (place % 2) + "\n" for place in range(40)))
    check_same(sq.read(archive, layout="wide", label=0, keep=tmp_path / "a.npy"), sq.read(archive, layout="wide", label=0))
    spreadsheet = _write(walks, tmp_path / "b.csv", sep=";", decimal=",", encoding="utf-8-sig", lineterminator="\r\n")
    check_same(sq.read(spreadsheet, keep=tmp_path / "b.npy"), sq.read(spreadsheet))


def test_parquet_with_an_index_of_pandas(tmp_path, small_parts, walks):
    indexed = _write(walks.set_index(["sample", "time"]), tmp_path / "a.parquet")
    check_same(sq.read(indexed, keep=tmp_path / "a.npy"), sq.read(indexed))
    counted = walks[["ax", "ay"]].rename_axis("time")
    counted = _write(counted, tmp_path / "b.parquet")
    check_same(sq.read(counted, keep=tmp_path / "b.npy"), sq.read(counted))
    shuffled = _write(walks.sample(frac=1, random_state=1).sort_values("sample"), tmp_path / "c.parquet")
    check_same(sq.read(shuffled, keep=tmp_path / "c.npy"), sq.read(shuffled))
    categories = _write(walks.astype({"sample": "category", "label": "category"}), tmp_path / "d.parquet")
    check_same(sq.read(categories, keep=tmp_path / "d.npy"), sq.read(categories))


def test_numbers_that_turn_to_words_are_words_from_the_first(tmp_path, small_parts):
    samples = [f"{place:03}" for place in range(99)] + ["a"]
    rows = [f"{name},{step},{'u' if name == '095' else len(name.strip('0'))},1.5\n" for name in samples for step in (0, 1)]
    (tmp_path / "a.csv").write_text("sample,time,label,x\n" + "".join(rows))
    X = sq.read(tmp_path / "a.csv", keep=tmp_path / "a.npy")
    check_same(X, sq.read(tmp_path / "a.csv"))
    assert X.samples[:2].tolist() == ["000", "001"]


def test_a_column_that_counts_the_rows(tmp_path, small_parts):
    text = '"","sample","a"\n' + "".join(f'"{row + 1}",{row // 3},{row}.5\n' for row in range(600))
    (tmp_path / "a.csv").write_text(text)
    with pytest.warns(UserWarning, match="it is left out"):
        at_once = sq.read(tmp_path / "a.csv")
    with pytest.warns(UserWarning, match="it is left out") as told:
        check_same(sq.read(tmp_path / "a.csv", keep=tmp_path / "a.npy"), at_once)
    assert len(told) == 1
    (tmp_path / "b.csv").write_text(text.replace('"500"', '"777"'))
    told = pytest.raises(errors.DataError, match=r"counts the rows, but not behind row \d+: give it a name")
    with told, pytest.warns(UserWarning, match="it is left out"):
        sq.read(tmp_path / "b.csv", keep=tmp_path / "b.npy")


def test_rows_of_a_sample_that_comes_again_are_told(tmp_path, small_parts, walks):
    again = pd.concat([walks, walks[walks["sample"] == "walk003"].assign(time=lambda rows: rows["time"] + 100)])
    path = _write(again, tmp_path / "a.parquet")
    with pytest.raises(errors.DataError, match=r"rows of sample walk003 do not stand together, .*: sort the table by 'sample', or read"):
        sq.read(path, keep=tmp_path / "a.npy")
    assert not (tmp_path / "a.npy").exists()
    assert len(sq.read(path)) == 24


MANY = "sample,time,a\n" + "".join(f"{row // 4},{row % 4},{row}\n" for row in range(100))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    ("text", "options"),
    [
        (MANY + "7,8\n", {}),
        (MANY + "7,8,9,10\n", {}),
        (MANY + "30,0,x\n", {}),
        (MANY + "30,1,5\n30,1,6\n", {}),
        (MANY + ",0,5\n", {}),
        (MANY + "30,0,\n30,1,5\n", {}),
        (MANY.replace(",a", ",label") + "30,0,1\n", {}),
        ("sample,a,b\n" + "".join(f"{row},1,2\n" for row in range(40)), {}),
        ("0.1,0.2\n0.3,0.4\n", {}),
        ("1,0.5,0.7\n2,0.6,0.8\n" * 20, {"layout": "wide"}),
        ("a,b\n", {}),
        ("\n\n", {}),
        (MANY, {"layout": "NTC"}),
        (MANY, {"sample": "c"}),
    ],
)
def test_a_table_is_refused_in_the_same_words_and_nothing_is_left(tmp_path, text, options):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(errors.DataError) as at_once:
        sq.read(tmp_path / "a.csv", **options)
    with pytest.raises(errors.DataError) as kept:
        sq.read(tmp_path / "a.csv", **options, keep=tmp_path / "a.npy")
    assert str(kept.value) == str(at_once.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_parquet_file_is_read_in_the_memory_of_a_part(tmp_path):
    """48 MB in row groups: what pandas and NumPy take is told by tracemalloc, what Arrow takes by its pool."""
    pyarrow = pytest.importorskip("pyarrow")
    n_steps, n_samples = 600, 1000
    names = [f"c{place}" for place in range(10)]
    frame = pd.DataFrame(RANDOM.standard_normal((n_steps * n_samples, 10)), columns=names)
    frame.insert(0, "sample", np.repeat(np.arange(n_samples), n_steps))
    frame.to_parquet(tmp_path / "a.parquet", row_group_size=50_000, compression=None)
    expected = frame[names].to_numpy()[-n_steps:].copy()
    del frame
    held = pyarrow.total_allocated_bytes()
    tracemalloc.start()
    try:
        X = sq.read(tmp_path / "a.parquet", keep=tmp_path / "a.npy")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert X._steps.nbytes == 48_000_000
    assert peak < 35_000_000
    assert pyarrow.total_allocated_bytes() - held < 10_000_000
    np.testing.assert_array_equal(X[-1].values, expected)


# In another process


SUMS = """
import pickle, sys
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        X = pickle.load(file)
    print(repr([(x.shape, float(x.sum()), str(x.dtype)) for x in (X[0], X[len(X) - 1])]), X.lengths.tolist(), X.samples.tolist())
"""


def _in_files(tmp_path, monkeypatch):
    """Sequences that lie in files, in every way in which they can."""
    values = RANDOM.standard_normal((60, 250, 3)).astype(np.float32)
    np.save(tmp_path / "a.npy", values)
    yield sq.read(tmp_path / "a.npy")
    yield sq.read(tmp_path / "a.npy")[10:20]
    yield sq.read(tmp_path / "a.npy")[[40, 3, 17]]
    yield sq.Sequences(np.load(tmp_path / "a.npy", mmap_mode="r")[5:, ::2, ::-1])
    np.save(tmp_path / "b.npy", values.transpose(1, 2, 0))
    yield sq.read(tmp_path / "b.npy", layout="TCN")[30:]
    yield sq.read(list(values[:, :, :2]), keep=tmp_path / "kept.npy")[7:9]
    yield sq.read([np.arange(9), np.arange(2000)], keep=tmp_path / "tokens.npy")
    monkeypatch.setattr("seqscope.files.labelled_files.LARGE", 1000)
    names = {"sample": [f"s{place}" for place in range(60)], "channel": ["x", "y", "z"]}
    array = sq.labelled.xr.DataArray(values, dims=("sample", "time", "channel"), coords=names, name="X")
    array.to_netcdf(tmp_path / "c.nc", engine="h5netcdf")
    yield sq.read(tmp_path / "c.nc")[20:30]
    if pytest.importorskip("zarr"):
        array.drop_vars("sample").drop_vars("channel").to_zarr(tmp_path / "d.zarr", consolidated=False)
        yield sq.read(tmp_path / "d.zarr")[[50, 2]]


def test_pickled_they_say_where_they_lie_and_give_the_same_in_another_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, expected = [], []
    for place, X in enumerate(_in_files(tmp_path.relative_to(tmp_path), monkeypatch)):
        pickled = pickle.dumps(X)
        assert len(pickled) < 12_000
        names.append(str(tmp_path / f"{place}.pickle"))
        (tmp_path / names[-1]).write_bytes(pickled)
        ends = [(x.shape, float(x.sum()), str(x.dtype)) for x in (X[0], X[len(X) - 1])]
        expected.append(f"{ends!r} {X.lengths.tolist()} {X.samples.tolist()}")
    done = subprocess.run([sys.executable, "-c", SUMS, *names], cwd="/", capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == expected, done.stderr


def test_a_file_that_is_gone_or_cut_where_it_is_unpickled_is_told(tmp_path):
    np.save(tmp_path / "a.npy", X3)
    pickled = pickle.dumps(sq.read(tmp_path / "a.npy"))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").unlink()
    with pytest.raises(errors.DataError, match=r"These sequences lie in the file '.*a\.npy', which can't be read here .*under this path"):
        pickle.loads(pickled)
    (tmp_path / "a.npy").write_bytes(content[:-10])
    with pytest.raises(errors.DataError, match="which can't be read here"):
        pickle.loads(pickled)


def test_values_that_a_file_does_not_hold_are_pickled(tmp_path):
    """A map that copies on writing keeps what is written to itself; a file may be gone while it is mapped."""
    np.save(tmp_path / "a.npy", X3)
    changed = np.load(tmp_path / "a.npy", mmap_mode="c")
    changed[3] = 8
    assert (pickle.loads(pickle.dumps(sq.Sequences(changed)))[3].values == 8).all()
    X = sq.read(tmp_path / "a.npy")
    (tmp_path / "a.npy").unlink()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(X))[6].values, X3[6])
    in_memory = sq.Sequences(X3)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(in_memory))[6].values, X3[6])
