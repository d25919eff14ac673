"""`seqscope stream`: CSV lines in, JSON lines out."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import seqscope as sq
from seqscope.cli import app

X, _ = sq.datasets.japanese_vowels("test")


def run(text, *options):
    return CliRunner().invoke(app, ["stream", "japanese_vowels", *options], input=text)


def lines_of(sequence):
    return "\n".join(",".join(str(value) for value in step) for step in sequence.values)


def test_each_line_gives_the_output_and_the_states_after_it():
    result = run(lines_of(X[0]), "--layer", "lstm")
    written = [json.loads(line) for line in result.stdout.splitlines()]
    scope = sq.Scope(sq.zoo.japanese_vowels())
    states, output = scope.states(X[0], "lstm"), scope.predict(X[0])
    assert [line["step"] for line in written] == list(range(X[0].sizes["time"]))
    for name in states:
        np.testing.assert_allclose([line["states"]["lstm"][name] for line in written], states[name].values, atol=1e-5)
    np.testing.assert_allclose(list(written[-1]["output"].values()), output.values, atol=1e-5)


def test_names_come_first_and_an_empty_line_starts_anew():
    text = lines_of(X[0][:2])
    once = run(text, "--state", "h").stdout.splitlines()
    twice = run(",".join(map(str, X.channels)) + f"\n{text}\n\n{text}\n", "--state", "h").stdout.splitlines()
    bare = [{key: value for key, value in json.loads(line).items() if key != "step"} for line in twice]
    assert len(once) == 2
    assert bare == [{key: value for key, value in json.loads(line).items() if key != "step"} for line in once] * 2
    assert set(bare[0]["states"]["lstm"]) == {"h"}


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("1,2,3", (), r"Line 1: The step has the shape \(3,\): expected \(12,\)"),
        (lines_of(X[0][:1]) + "\n1,zwei,3", (), "Line 2 holds '1,zwei,3': expected numbers"),
        (lines_of(X[0][:1]), ("--state", "q"), "'lstm' has no state 'q': there are h, c, i, f, g, o"),
        (lines_of(X[0][:1]), ("--layer", "fc"), "'fc' .* has no states"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(text, options, says):
    result = run(text, *options)
    assert isinstance(result.exception, sq.errors.SeqscopeError)
    with pytest.raises(type(result.exception), match=says):
        raise result.exception
