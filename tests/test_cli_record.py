"""`seqscope record` as a person types it: in this process, and once in one of its own that is killed and gone on with."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest
import xarray as xr

import commands
import seqscope as sq

MINE = """
    import time

    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.rnn, self.fc = torch.nn.LSTM(3, 4, batch_first=True), torch.nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.rnn(x)[0][:, -1])

    class Slow(Net):
        def forward(self, x):
            time.sleep(0.1)
            return super().forward(x)

    class Picky(Net):
        def forward(self, x):
            if (x[:, 0, 0] == -77).any():
                raise ValueError("sensor fault")
            return super().forward(x)

    class Interrupted(Net):
        def forward(self, x):
            if (x[:, 0, 0] == -77).any():
                raise KeyboardInterrupt
            return super().forward(x)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE))
    series = np.random.default_rng(0).standard_normal((40, 6, 3)).astype(np.float32)
    np.savez(tmp_path / "x.npz", X=series, y=np.arange(40) % 2)
    series[[13, 14], 0, 0] = -77
    np.savez(tmp_path / "faults.npz", X=series)
    rows = [f"{sample},{step},{','.join(map(str, series[sample, step]))}" for sample in range(3) for step in range(6)]
    (tmp_path / "table.csv").write_text("\n".join(["sample,time,a,b,c", *rows]))
    return tmp_path


@pytest.fixture
def typed(folder, monkeypatch, capfd):
    """A command typed in a folder with models and data: its exit code, and the words of its standard output and standard error."""
    run = commands.typed_in(folder, monkeypatch, capfd)

    def in_words(*arguments):
        code, shown, said = run(*arguments)
        return code, commands.in_a_line(shown), said

    return in_words


def test_it_records_says_what_and_how_to_open_it(typed):
    code, shown, said = typed("record", "mine:Net", "x.npz", "v.zarr", "--layer", "rnn", "--states", "all", "--shard", 16, "--quiet")
    assert (code, said) == (0, "")
    assert "Recorded in 'v.zarr'" in shown
    assert "Activations rnn States rnn Sequences 40 sequences, 6 steps" in shown
    assert "To open it sq.open('v.zarr')" in shown
    recording = sq.open("v.zarr")
    import mine

    scope = sq.Scope(mine.Net())
    np.testing.assert_allclose(recording.activations("rnn").values, scope.activations(sq.read("x.npz"), "rnn").values, atol=1e-6)
    assert set(recording.states("rnn")) == set("hcifgo")
    assert f"Accuracy {recording.accuracy:.3f}" in shown
    assert f"Size {recording.size}" in shown


def test_options_are_those_of_the_verb(typed):
    command = ("record", "mine:Net", "x.npz", "v.zarr", "--no-inputs", "--dtype", "float16", "--batch-size", 5, "--shard", 8)
    code, _, said = typed(*command, "--layer", "rnn", "--layer", "f*", "--states", "rnn")
    assert (code, said) == (0, "")
    recording = sq.open("v.zarr")
    assert (recording.layers, recording.recurrent) == (("rnn", "fc"), ("rnn",))
    assert (recording.settings["batch_size"], recording.settings["shard"], recording.settings["inputs"]) == (5, 8, False)
    assert recording.activations("rnn").dtype == np.float16
    assert typed("record", "mine:Net", "table.csv", "t.zarr", "--keep-bits", 7, "--layer", "rnn")[0] == 0
    assert sq.open("t.zarr").settings["keep_bits"] == 7
    assert sq.open("t.zarr").inputs.channels == ("a", "b", "c")


def test_an_address_and_what_its_file_system_is_told(typed):
    code, shown, said = typed(
        "record", "mine:Net", "x.npz", "memory://typed.zarr", "--layer", "fc", "--storage-option", "skip_instance_cache=True"
    )
    assert (code, said) == (0, "")
    assert "sq.open('memory://typed.zarr', storage_options=...)" in shown
    assert sq.open("memory://typed.zarr").is_complete


def test_samples_that_fail_are_set_aside_and_told(typed):
    code, shown, said = typed("record", "mine:Picky", "faults.npz", "v.zarr", "--layer", "rnn")
    assert (code, shown) == (1, "")
    assert "sensor fault" in said
    code, shown, _ = typed("record", "mine:Picky", "faults.npz", "v.zarr", "--layer", "rnn", "--resume", "--skip-errors")
    assert code == 0
    assert "Set aside 2 that the model failed on, at 13, 14" in shown
    assert np.isnan(sq.open("v.zarr").activations("rnn").isel(sample=[13, 14])).all()


def test_what_was_interrupted_goes_on(typed):
    code, shown, said = typed("record", "mine:Interrupted", "faults.npz", "v.zarr", "--layer", "rnn", "--shard", 4, "--resume")
    assert (code, shown) == (130, "")
    assert "what is recorded stays. Type the same with --resume to go on." in said


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("x.npz", "there.zarr"), 1, "'there.zarr' exists: say --resume to go on with it, or --overwrite to begin again."),
        (("faults.npz", "there.zarr", "--resume"), 1, "give what it was made from, another store, or --overwrite."),
        (("x.npz", "new.zarr", "--workers", 2, "--client", "tcp://a:1"), 2, "say one of the two"),
        (("x.npz", "new.zarr", "--workers", 0), 2, "greater than or equal to 1"),
        (("x.npz", "new.zarr", "--layer", "rn"), 1, "the nearest is 'rnn'"),
        (("x.npz", "new.zarr", "--dtype", "int8"), 1, "dtype is 'int8'"),
        (("x.npz", "new.zarr", "--storage-option", "anon"), 2, "expected KEY=VALUE"),
        (("x.npz", "nowhere://new.zarr"), 1, "scheme that is not known"),
        (("none.npz", "new.zarr"), 1, "There is no file 'none.npz'"),
        (("none.csv", "new.zarr"), 1, "There is no file 'none.csv'"),
        (("x.npz",), 2, "Missing argument 'STORE'"),
        (("there.zarr", "there.zarr", "--overwrite"), 2, "DATA and STORE are the same"),
        (("x.npz", "mine.py"), 1, "'mine.py' is a file, and a store is a folder"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(typed, folder, arguments, code, sentence):
    if "there.zarr" in arguments:
        assert typed("record", "mine:Net", "x.npz", "there.zarr", "--layer", "fc")[0] == 0
    ended, shown, said = typed("record", "mine:Net", *arguments)
    assert ended == code
    assert sentence in said
    assert (shown, "Traceback" in said) == ("", False)
    assert not [file for file in folder.glob("new.zarr/**/*") if file.is_file() and file.name != "lock"]


def test_a_recording_in_place_of_data_or_model(typed):
    assert typed("record", "mine:Net", "x.npz", "v.zarr", "--layer", "rnn")[0] == 0
    code, shown, said = typed("units", "mine:Net", "v.zarr", "--layer", "rnn", "-o", "u.nc")  # its inputs, with their labels
    assert code == 0, said
    with xr.open_dataset("u.nc") as report:
        assert report["selectivity"].sizes == {"unit": 4, "label": 2}
    code, shown, said = typed("layers", "v.zarr")
    assert (code, shown) == (1, "")
    assert "'v.zarr' is a recording of what a model did, and no model: open it with sq.open('v.zarr')" in said
    assert typed("record", "mine:Net", "x.npz", "bare.zarr", "--layer", "rnn", "--no-inputs")[0] == 0
    code, _, said = typed("units", "mine:Net", "bare.zarr", "--layer", "rnn")
    assert code == 1
    assert "'bare.zarr' was recorded with inputs=False: give the data itself." in said


def test_a_process_that_is_killed_is_looked_into_and_gone_on_with(typed, folder):
    """Another process writes; what is there can be read all the while; it is killed, and the work goes on here."""
    command = [sys.executable, "-c", "from seqscope.cli import main; main()", "record", "mine:Slow", "x.npz", "v.zarr", "--layer", "rnn"]
    writer = subprocess.Popen([*command, "--shard", "2"], cwd=folder, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        seen = _first_entries(folder / "v.zarr", writer)
        assert 0 < int(seen.recorded.sum()) < 40
    finally:
        writer.send_signal(signal.SIGKILL)
        said = writer.communicate()[1].decode()
    assert said == ""
    half = sq.open("v.zarr")
    recorded = half.recorded.values
    assert not half.is_complete
    assert "recorded so far" in repr(half)
    values = half.activations("rnn").values
    assert not np.isnan(values[recorded]).any()
    code, shown, _ = typed("record", "mine:Slow", "x.npz", "v.zarr", "--layer", "rnn", "--resume", "--shard", 2)
    assert code == 0
    assert "complete" in shown
    whole = sq.open("v.zarr")
    assert whole.verify() == []
    assert np.array_equal(whole.activations("rnn").values[recorded], values[recorded])


def _first_entries(store, writer):
    """The store as soon as some of it is recorded, looked at from the moment on that it is there."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(600):
            assert writer.poll() is None, writer.communicate()[1]
            try:
                seen = sq.open(store)
            except sq.errors.DataError as error:
                assert "There is no store" in str(error) or "not begun in full" in str(error)  # noqa: PT017
                seen = None
            if seen is not None:
                assert "recorded so far" in repr(seen)
                assert "recorded so far" in seen._repr_html_()
                there = seen.recorded.values
                values = seen.activations("rnn").values
                assert not np.isnan(values[there]).any()
                if there.sum() > 4:
                    assert seen.statistics("rnn")["mean"].sizes == {"unit": 4}
                    assert 0 <= seen.accuracy <= 1
                    xr.open_datatree(store, engine="zarr", consolidated=False).close()
                    return seen
            time.sleep(0.05)
    raise AssertionError("nothing was recorded in time")
