"""Tables, held to what pandas' own reshaping and plain Python make of the same rows."""

import numpy as np
import pandas as pd
import pytest

import seqscope as sq
from seqscope import errors

RANDOM = np.random.default_rng(0)


def written(tmp_path, text, name="a.csv", **options):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return sq.read(tmp_path / name, **options)


@pytest.fixture
def long():
    """Three sequences of 4, 2 and 3 steps, their rows shuffled."""
    frame = pd.DataFrame(RANDOM.standard_normal((9, 2)), columns=["ax", "ay"])
    frame.insert(0, "sample", list("pppp") + list("qq") + list("rrr"))
    frame.insert(1, "time", [0.0, 0.5, 1.0, 1.5, 0.0, 0.5, 0.25, 0.5, 0.75])
    frame.insert(2, "label", ["walk"] * 4 + ["run"] * 2 + ["walk"] * 3)
    return frame


def check_long(X, frame):
    assert X.channels == ("ax", "ay")
    for x, sample, label in zip(X, X.samples, X.labels, strict=True):
        rows = frame[frame["sample"] == sample].sort_values("time")
        np.testing.assert_array_equal(x.values, rows[["ax", "ay"]].to_numpy())
        np.testing.assert_array_equal(x.time, rows["time"])
        assert {label} == set(rows["label"])
    assert sorted(X.samples) == ["p", "q", "r"]


def test_long_rows_in_any_order_are_ordered_by_sample_and_time(tmp_path, long):
    shuffled = long.sample(frac=1, random_state=1)
    shuffled.to_csv(tmp_path / "a.csv", index=False)
    check_long(sq.read(tmp_path / "a.csv"), long)


@pytest.mark.parametrize(
    "options", [{"sep": ";"}, {"sep": ";", "decimal": ","}, {"sep": "\t"}, {"encoding": "utf-8-sig"}, {"lineterminator": "\r\n"}]
)
def test_the_ways_of_spreadsheets(tmp_path, long, options):
    long.to_csv(tmp_path / "a.csv", index=False, **options)
    check_long(sq.read(tmp_path / "a.csv"), long)


def test_columns_of_other_names(tmp_path, long):
    long.rename(columns={"sample": "id", "time": "t", "label": "activity"}).to_csv(tmp_path / "a.csv", index=False)
    check_long(sq.read(tmp_path / "a.csv", sample="id", time="t", label="activity"), long)


def test_names_are_known_whatever_their_case(tmp_path, long):
    long.rename(columns={"sample": "Sample", "time": "TIME", "label": "Label"}).to_csv(tmp_path / "a.csv", index=False)
    check_long(sq.read(tmp_path / "a.csv"), long)


def test_parquet(tmp_path, long):
    pytest.importorskip("pyarrow")
    long.sample(frac=1, random_state=1).to_parquet(tmp_path / "a.parquet")
    check_long(sq.read(tmp_path / "a.parquet"), long)
    long.set_index(["sample", "time"]).to_parquet(tmp_path / "b.parquet")  # its index is told by its names
    check_long(sq.read(tmp_path / "b.parquet"), long)


def test_parquet_that_is_cut_short(tmp_path, long):
    pytest.importorskip("pyarrow")
    long.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:500])
    with pytest.raises(errors.DataError, match=r"can't be read as \.parquet"):
        sq.read(tmp_path / "b.parquet")


def test_parquet_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1\xff\xfe" * 40)
    with pytest.raises(errors.MissingPackageError, match=r"needs the package 'pyarrow'.*seqscope\[parquet\]"):
        sq.read(tmp_path / "a.parquet")


def test_without_samples_a_table_is_one_sequence(tmp_path):
    X = written(tmp_path, "time,ax,ay\n0.0,1,2\n0.5,3,4\n")
    assert X.single
    np.testing.assert_array_equal(X[0].values, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(X[0].time, [0.0, 0.5])


def test_times_are_dates_where_they_are(tmp_path):
    X = written(tmp_path, "time,a\n2026-01-31 10:00,1\n2026-01-31 10:01,2\n")
    assert X[0].time.values[1] - X[0].time.values[0] == np.timedelta64(1, "m")


@pytest.mark.parametrize(
    "heading",
    ["label,0,1,2,3", "label,t0,t1,t2,t3", "label,T_1,T_2,T_3,T_4", "label,time 1,time 2,time 3,time 4", "label,step1,step2,step3,step4"],
)
def test_wide_is_told_by_the_names_of_the_columns(tmp_path, heading):
    X = written(tmp_path, f"{heading}\nu,4,5,6,7\nv,8,9,10,\n")
    assert (X.describe(), X.labels.tolist()) == ("2 sequences, 3 to 4 steps, 1 channel", ["u", "v"])
    np.testing.assert_array_equal(X[1].values[:, 0], [8, 9, 10])


def test_wide_columns_named_by_their_times(tmp_path):
    X = written(tmp_path, "sample,0.0,0.5,1.5\np,4,5,6\nq,8,9,10\n", layout="wide")
    np.testing.assert_array_equal(X[0].time, [0.0, 0.5, 1.5])
    assert X.samples.tolist() == ["p", "q"]


@pytest.mark.parametrize("between", [",", "\t"])
def test_a_table_of_the_ucr_archive(tmp_path, between):
    """No names, the class first, the rows of different length."""
    rows = [["1", "0.5", "0.7"], ["2", "0.6", "0.8", "0.9"]]
    X = written(tmp_path, "\n".join(between.join(row) for row in rows), "a.tsv", layout="wide", label=0)
    assert (X.lengths.tolist(), X.labels.tolist()) == ([2, 3], [1, 2])
    np.testing.assert_array_equal(X[1].values[:, 0], [0.6, 0.8, 0.9])


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n3,4,5\n", {}, "Expected 2 fields in line 3, saw 3"),
        ("a,b\n1,2\n3\n4,5\n", {}, "expected 2 in line 3, saw 1"),
        ("a,b\n1,2,3\n4,5,6\n", {}, "2 names in the first line and 3 cells in the second"),
        ("a,b\n1,x\n", {}, "the column 'b' holds 'x' in row 0, and every column of values is numbers"),
        ("\n\n", {}, "holds no"),
        ("a,b\n", {}, "holds no row"),
        ('a,b\n1,"2\n', {}, "EOF inside string"),
        ("0.1,0.2\n0.3,0.4\n", {}, "no line of names: write one in front, or say layout='long' .* or layout='wide'"),
        ("1,0.5,0.7\n2,0.6,0.8\n", {"layout": "wide"}, "say label=0 if it is the class, label=False"),
        ("sample,a,b\n0,1,2\n1,3,4\n", {}, "one row for each 'sample' and no column of times: say layout='long'"),
        ("sample,time,a\n0,1,2\n0,1,4\n", {}, r"two rows have the same sample 0, time 1 \(the second is row 1\)"),
        ("time,a\n0,2\n0,4\n", {}, "say sample= the column that tells them apart"),
        ("sample,time,label,a\n0,1,u,2\n0,2,v,4\n", {}, "the 'label' changes within sample 0"),
        ("sample,time,a\n0,1,2\n0,2,\n0,3,5\n", {}, "NaN in sample 0, step 1, channel a"),
        ("sample,time,a\n0,0,2\n,2,4\n", {}, "row 1 has nothing in the column 'sample'"),
        ("time,a\n31/01/26,1\n01/02/26,2\n", {}, "no numbers and no dates"),
        ("sample,time\n0,1\n", {}, "none of values"),
        ("a,b\n1,2\n", {"sample": "c"}, r"no column 'c' \(sample=\)"),
        ("a,b\n1,2\n", {"layout": "NTC"}, "'NTC' is not one of a table: say layout='long'"),
        ("time,a\n1,2\n", {"layout": "wide", "time": "time"}, "none for the time"),
    ],
)
def test_tables_that_are_wrong_or_could_be_meant_in_several_ways(tmp_path, text, options, message):
    with pytest.raises(errors.DataError, match=message):
        written(tmp_path, text, **options)


def test_what_was_said_settles_it(tmp_path):
    assert written(tmp_path, "0.1,0.2\n0.3,0.4\n", layout="long").describe() == "one sequence, 2 steps, 2 channels"
    assert written(tmp_path, "0.1,0.2\n0.3,0.4\n", layout="wide").describe() == "2 sequences, 2 steps, 1 channel"
    assert written(tmp_path, "sample,a,b\n0,1,2\n1,3,4\n", layout="long").describe() == "2 sequences, 1 steps, 2 channels"
    assert written(tmp_path, "sample,a,b\n0,1,2\n1,3,4\n", layout="wide").describe() == "2 sequences, 2 steps, 1 channel"
    assert written(tmp_path, "1,5,7\n2,6,8\n", layout="wide", label=False).labels is None


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_of_rows_as_r_and_pandas_write_them_are_no_channel(tmp_path, first):
    with pytest.warns(UserWarning, match="The first column has no name and counts the rows: it is left out"):
        X = written(tmp_path, f'"","sample","a"\n"{first}",1,5\n"{first + 1}",1,6\n"{first + 2}",2,7\n')
    assert (X.describe(), X.samples.tolist(), X[0].values.tolist()) == ("2 sequences, 1 to 2 steps, 1 channel", [1, 2], [[5], [6]])
    kept = written(tmp_path, ",a\n3,5\n9,6\n")
    assert kept.describe() == "one sequence, 2 steps, 2 channels"


def test_a_table_in_another_encoding(tmp_path):
    (tmp_path / "a.csv").write_bytes("größe\n1\n".encode("latin-1"))
    with pytest.raises(errors.DataError, match="is not text in UTF-8: byte 0xf6 at 2: save it as UTF-8"):
        sq.read(tmp_path / "a.csv")
