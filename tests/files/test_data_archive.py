"""The archive's `.ts` files, written here by the format's own rules."""

import numpy as np
import pytest

import seqscope as sq
from seqscope import errors

HEADER = """# A comment
@problemName Made
@timeStamps {times}
@missing false
@univariate {univariate}
@dimensions 2
@equalLength false
@classLabel true a b
@data
"""


def written(tmp_path, text):
    (tmp_path / "a.ts").write_text(text)
    return sq.read(tmp_path / "a.ts")


def text_of(X, labels, times=None):
    lines = []
    for row, (x, label) in enumerate(zip(X, labels, strict=True)):
        stamps = None if times is None else times[row]
        cells = [[repr(float(v)) if stamps is None else f"({stamps[t]},{float(v)!r})" for t, v in enumerate(channel)] for channel in x.T]
        lines.append(":".join([",".join(channel) for channel in cells] + [label]))
    return "\n".join(lines) + "\n"


@pytest.fixture
def series():
    random = np.random.default_rng(0)
    return [random.standard_normal((length, 2)) for length in (4, 2, 3)]


def test_several_dimensions_of_unequal_length(tmp_path, series):
    X = written(tmp_path, HEADER.format(times="false", univariate="false") + text_of(series, "bab"))
    assert (X.labels.tolist(), X.outputs) == (["b", "a", "b"], ("a", "b"))
    for x, expected in zip(X, series, strict=True):
        np.testing.assert_array_equal(x.values, expected)


def test_one_dimension_without_labels(tmp_path):
    X = written(tmp_path, "@univariate true\n@classLabel false\n@data\n1,2,3\n\n4,5\n")
    assert (X.describe(), X.labels) == ("2 sequences, 2 to 3 steps, 1 channel", None)


def test_numbers_to_predict(tmp_path):
    X = written(tmp_path, "@targetLabel true\n@data\n1,2,3:4,5,6:0.25\n7,8,9:1,2,3:-2\n")
    assert (X.describe(), X.labels.tolist()) == ("2 sequences, 3 steps, 2 channels", [0.25, -2.0])


def test_times_that_are_numbers(tmp_path, series):
    times = [[0.0, 0.5, 2.0, 2.5], [1.0, 2.0], [0.0, 1.0, 4.0]]
    X = written(tmp_path, HEADER.format(times="true", univariate="false") + text_of(series, "aab", times))
    for x, values, stamps in zip(X, series, times, strict=True):
        np.testing.assert_array_equal(x.values, values)
        np.testing.assert_array_equal(x.time, stamps)


def test_times_that_are_dates_keep_their_colons(tmp_path):
    line = "(2026-01-31 10:00:00,1.5),(2026-01-31 10:00:01,2.5):(2026-01-31 10:00:00,3),(2026-01-31 10:00:01,4):a\n"
    X = written(tmp_path, HEADER.format(times="true", univariate="false") + line)
    np.testing.assert_array_equal(X[0].values, [[1.5, 3], [2.5, 4]])
    assert X[0].time.values[1] - X[0].time.values[0] == np.timedelta64(1, "s")


def test_japanese_vowels_goes_there_and_back(tmp_path):
    X, y = sq.datasets.japanese_vowels("test")
    head = "@univariate false\n@dimensions 12\n@classLabel true 1 2 3 4 5 6 7 8 9\n@data\n"
    found = written(tmp_path, head + text_of([x.values for x in X[:40]], y[:40]))
    assert (found.labels.tolist(), found.outputs) == (y[:40].tolist(), X.outputs)
    np.testing.assert_array_equal(found.all_steps(), X[:40].all_steps())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3\n", r"line 1 \('1,2,3'\) is no line of a header"),
        ("@univariate true\n", "no line '@data'"),
        ("@univariate true\n@data\n", "no sequence behind '@data'"),
        ("@univariate perhaps\n@data\n1\n", "line 1 is '@univariate perhaps': expected true or false"),
        ("@dimensions two\n@data\n1\n", "expected the number of dimensions"),
        ("@data\n1,?,3\n", "line 2: dimension 0, step 1 is '\\?', a missing value"),
        ("@data\n1,x,3\n", "line 2: dimension 0, step 1 is 'x': expected a number"),
        ("@data\n1,2:3,4\n1,2\n", "line 3: it has 1 dimensions and 2 are expected"),
        ("@dimensions 2\n@data\n1,2\n", "line 3: it has 1 dimensions and 2 are expected"),
        ("@data\n1,2:3,4,5\n", "line 2: its dimensions have 2, 3 values"),
        ("@classLabel true a b\n@data\n1,2:a\n1,2:c\n", "line 4: its class 'c' is none of 'a', 'b'"),
        ("@classLabel true a b\n@data\n1,2\n", "line 3: it has 0 dimensions"),
        ("@targetLabel true\n@data\n1,2:?\n", "the value to predict is '\\?'"),
        ("@timeStamps true\n@data\n1,2\n", r"expected \(time,value\) pairs"),
        ("@timeStamps true\n@data\n(0,1),(1,2):(0,1),(2,2)\n", "its dimensions have different times"),
        ("@timeStamps true\n@data\n(soon,1)\n", "has times such as 'soon'"),
        ("@timeStamps true\n@data\n(1,2),(0\n", r"expected \(time,value\) pairs"),
        ("@data\n1,NaN,3\n", "NaN in sample 0, step 1"),
    ],
)
def test_files_that_break_the_rules_are_refused_by_their_line(tmp_path, text, message):
    with pytest.raises(errors.DataError, match=message):
        written(tmp_path, text)
