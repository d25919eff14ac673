"""The one shape of all commands: the same arguments and options, files, pipes, exit codes."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.io
import xarray as xr
from typer.main import get_command

import commands
import seqscope as sq
from seqscope.cli import app, as_json, completing

MINE = """
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.rnn, self.fc = torch.nn.LSTM(3, 4, batch_first=True), torch.nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.rnn(x)[0][:, -1])

    class Breaks(Net):
        def forward(self, x):
            raise OSError(28, "No space left on device", "scratch")
"""

# What is typed behind a command that gives a result: each of them takes -o, --plot, --json, --quiet, --force.
GIVING = {
    "layers": ("mine:Net", "x.npz"),
    "activations": ("mine:Net", "x.npz", "--layer", "rnn"),
    "states": ("mine:Net", "x.npz", "--layer", "rnn"),
    "explain": ("mine:Net", "x.npz", "--target", 0, "--method", "saliency"),
    "maximize": ("mine:Net", "x.npz", "--target", 0, "--restarts", 1, "--steps", 2, "--objective", "logit"),
    "units": ("mine:Net", "x.npz"),
    "match": ("mine:Net", "x.npz", "--sample", 1, "--from", 2, "--to", 4, "--threshold", 0.05, "--unit", 1),
    "text": ("mine:Net", "abc.txt", "--unit", 1, "--characters", "abc"),
}
ALL = (
    *("layers", "activations", "states", "stream", "explain", "maximize", "units", "match", "text", "record", "report", "explore"),
    *("demo", "doctor"),
)
giving = pytest.mark.parametrize("command", GIVING)
pytestmark = pytest.mark.filterwarnings("ignore:.*do not reach|.*below chance")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE))
    (tmp_path / "abc.txt").write_text("abcab" * 5)
    series = np.random.default_rng(0).standard_normal((5, 9, 3)).astype(np.float32)
    np.savez(tmp_path / "x.npz", X=series, y=np.array(list("aabba")))
    return tmp_path


@pytest.fixture
def typed(folder, monkeypatch, capfd):
    """A command typed in a folder with a model and data: its exit code, its standard output, its standard error."""
    yield commands.typed_in(folder, monkeypatch, capfd)
    plt.close("all")


def new_files(folder):
    return {path.name for path in folder.iterdir()} - {"mine.py", "abc.txt", "x.npz", "__pycache__"}


# What is listed


def test_help_lists_the_commands_in_the_order_of_work(typed):
    listed = [command.callback.__name__ for command in app.registered_commands]
    assert listed == [name for name in ALL if name in listed]
    assert {*GIVING, "stream", "record", "demo", "doctor"} <= set(listed)
    code, shown, _ = typed("--help")
    assert code == 0
    places = [shown.index(f"│ {name} ") for name in listed]
    assert places == sorted(places)


@pytest.mark.parametrize("command", [command.callback.__name__ for command in app.registered_commands])
def test_help_says_what_it_does_and_gives_an_example(typed, command):
    code, shown, said = typed(command, "--help")
    assert (code, said) == (0, "")
    assert f"Example: seqscope {command}" in shown or f"| seqscope {command}" in shown
    about = get_command(app).commands[command]
    assert all(getattr(option, "help", "") for option in about.params)
    assert about.help.split("\n")[0].endswith(".")
    assert "--quiet" in [name for option in about.params for name in option.opts]


@giving
def test_options_that_are_shared_are_the_same(command):
    options = {option.name: option for option in get_command(app).commands[command].params}
    shared = {option.name: option for option in get_command(app).commands["activations"].params}
    for name in ("model", "output", "plot", "json", "quiet", "force", "weights", "factory", "trust", "framework", "layout"):
        assert (options[name].opts, options[name].help) == (shared[name].opts, shared[name].help)
    if command != "text":
        assert "data" in options


# What is written


@giving
def test_without_a_file_a_summary_is_shown(typed, folder, command):
    code, shown, _ = typed(command, *GIVING[command])
    assert code == 0
    assert len(shown.splitlines()) > 2
    assert not new_files(folder)


@giving
def test_the_ending_chooses_the_form(typed, folder, command):
    more = (".png", ".svg", ".pdf", ".html") if command == "activations" else ()  # what is drawn takes its time
    names = [f"r{ending}" for ending in (".nc", ".zarr", ".npz", ".mat", ".csv", ".parquet", *more)]
    options = [part for name in names for part in ("-o", name)]
    code, _, said = typed(command, *GIVING[command], *options, "--plot", "p.png", "--quiet")
    assert code == 0, said
    assert new_files(folder) == {*names, "p.png"}
    with xr.open_dataset("r.nc", engine="h5netcdf") as kept, xr.open_zarr("r.zarr", chunks=None) as stored, np.load("r.npz") as arrays:
        assert set(kept.data_vars) == set(stored.data_vars)
        for name, array in kept.data_vars.items():
            if array.dtype.kind == "f":
                np.testing.assert_array_equal(stored[name], array)
                np.testing.assert_array_equal(arrays[name], array)
        assert set(kept.data_vars) <= set(scipy.io.loadmat("r.mat"))
    assert Path("r.csv").read_text() == pd.read_parquet("r.parquet").to_csv(index=False)
    beginnings = {"r.png": b"\x89PNG", "p.png": b"\x89PNG", "r.pdf": b"%PDF", "r.svg": b"<?xml", "r.html": b"<!doctype html>"}
    assert all(Path(name).read_bytes().startswith(begin) for name, begin in beginnings.items() if name in new_files(folder))


@pytest.mark.parametrize("command", sorted(set(GIVING) - {"text", "units"}))  # a text holds itself alone; units: test_cli_units
def test_the_python_on_a_page_makes_what_it_shows(typed, folder, command, monkeypatch):
    assert typed(command, *GIVING[command], "-o", "p.html", "-o", "r.nc")[0] == 0
    monkeypatch.syspath_prepend(str(folder))
    page, names = (folder / "p.html").read_text(), {}
    assert "http" not in re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)
    for block in re.findall(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL):
        exec(unescape(block), names)
    with xr.open_dataset("r.nc", engine="h5netcdf") as kept:
        made = names.get("found", names.get("report"))
        if made is None:
            assert [layer.name for layer in names["scope"].layers] == kept["layer"].values.tolist()
            return
        for name, array in (made.to_dataset() if isinstance(made, xr.DataArray) else made).data_vars.items():
            if array.dtype.kind == "f":
                np.testing.assert_allclose(array, kept[name], atol=1e-6)


@giving
def test_an_ending_that_is_not_known_is_told_before_the_work(typed, folder, command):
    for option, name in (("-o", "r.doc"), ("-o", "noending"), ("--plot", "p.nc")):
        code, shown, said = typed(command, "no_such:model", *GIVING[command][1:], option, name)
        assert (code, shown) == (1, "")
        assert said.count(". ") == 0
        assert "expected an ending out of '.png'" in said if option == "--plot" else "'.nc', '.zarr', '.npz'" in said
    assert not new_files(folder)


@giving
def test_files_that_exist_are_kept_unless_forced(typed, folder, command):
    (folder / "r.npz").write_text("mine")
    code, shown, said = typed(command, *GIVING[command], "-o", "r.npz", "--plot", "p.png")
    assert (code, shown, (folder / "r.npz").read_text()) == (1, "", "mine")
    assert "'r.npz' exists: say --force" in said
    assert new_files(folder) == {"r.npz"}
    assert typed(command, *GIVING[command], "-o", "r.npz", "--force", "--quiet")[0] == 0
    assert (folder / "r.npz").read_bytes().startswith(b"PK")
    assert "named twice" in typed(command, *GIVING[command], "-o", "p.png", "--plot", "./p.png")[2]
    assert "There is no folder 'none'" in typed(command, *GIVING[command], "-o", "none/r.npz")[2]


def test_where_one_file_fails_there_is_none(typed, folder):
    code, shown, said = typed("activations", "mine:Net", "x.npz", "-o", "a.nc", "-o", "a.csv", "-o", "a.zarr")
    assert (code, shown) == (1, "")
    assert "A table holds one layer: name it with --layer" in said
    assert not new_files(folder)


# Standard output and standard error


@giving
def test_json_on_standard_output_is_the_result(typed, command):
    code, shown, _ = typed(command, *GIVING[command], "--json", "-o", "r.nc")
    assert code == 0
    told = json.loads(shown, parse_constant=pytest.fail)  # no NaN, which is no JSON
    assert told["files"] == ["r.nc"]
    if command == "layers":
        assert [layer["name"] for layer in told["layers"]] == ["rnn", "fc"]
        return
    made = xr.Dataset.from_dict(told) if "data_vars" in told else xr.DataArray.from_dict(told).to_dataset()
    with xr.open_dataset("r.nc", engine="h5netcdf") as kept:
        assert dict(made.sizes) == dict(kept.sizes) == told["sizes"]
        for name, array in kept.data_vars.items():
            if array.dtype.kind == "f":
                np.testing.assert_allclose(made[name].values.astype(float), array, rtol=1e-6)


@giving
def test_quiet_is_quiet_and_results_stay(typed, command):
    code, shown, said = typed(command, *GIVING[command], "--quiet")
    assert (code, bool(shown), "written" in said) == (0, True, False)
    loud = typed(command, *GIVING[command], "-o", "r.nc")[2]
    assert "written to r.nc" in loud
    assert "written" not in typed(command, *GIVING[command], "-o", "s.nc", "--quiet")[2]


@giving
def test_a_dash_is_csv_on_standard_output(typed, folder, command):
    code, shown, said = typed(command, *GIVING[command], "-o", "-", "-o", "r.csv")
    assert code == 0, said
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(shown)), pd.read_csv(folder / "r.csv"))
    assert typed(command, *GIVING[command], "-o", "-", "--json")[0] == 2


def test_of_many_values_json_tells_sizes_and_extremes():
    values = np.random.default_rng(0).standard_normal((11, 100, 100))
    values[0, 0, 0] = np.nan
    told = as_json.as_json(xr.DataArray(values, dims=("sample", "time", "unit"), coords={"unit": range(100)}, name="h"))
    assert "data" not in told
    assert (told["sizes"], told["dtype"]) == ({"sample": 11, "time": 100, "unit": 100}, "float64")
    assert told["mean"] == pytest.approx(np.nanmean(values))
    assert (told["lowest"], told["highest"]) == (np.nanmin(values), np.nanmax(values))
    assert told["coords"]["unit"]["data"] == list(range(100))
    tree = as_json.as_json(xr.DataTree.from_dict({"/a": xr.Dataset({"x": ("time", [1.0, np.nan, np.inf])})}))
    assert tree["layers"]["a"]["data_vars"]["x"]["data"] == [1.0, None, "inf"]
    when = xr.DataArray([1], dims="time", coords={"time": np.array(["2020-01-02"], "M8[ns]")})
    assert as_json.as_json(when)["coords"]["time"]["data"][0].startswith("2020-01-02")


# Standard input


@pytest.fixture
def piped(monkeypatch):
    """Let standard input hold these bytes."""

    def hold(data):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))

    return hold


def test_data_comes_by_standard_input(typed, folder, piped):
    with np.load("x.npz") as held:
        series = held["X"]
    rows = [f"{sample},{step},{','.join(map(str, series[sample, step]))}" for sample in range(5) for step in range(9)]
    table = "\n".join(["sample,time,a,b,c", *rows]).encode()
    array = io.BytesIO()
    np.save(array, series)
    frame = pd.read_csv(io.BytesIO(table)).to_parquet()
    for place, data in enumerate((table, array.getvalue(), (folder / "x.npz").read_bytes(), frame)):
        piped(data)
        code, _, said = typed("activations", "mine:Net", "-", "--layer", "rnn", "-o", f"{place}.npz")
        assert code == 0, said
    found = [np.load(f"{place}.npz")["activations"] for place in range(4)]
    assert found[0].shape == (5, 9, 4)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-6)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [(b"", "Standard input is empty"), (b"a,b\n1,zwei\n", "Error: Standard input"), (b"\xff\xfe\x00\x01" * 9, "Error: Standard input")],
)
def test_what_is_wrong_with_standard_input_is_said_without_a_file_of_ours(typed, piped, data, sentence):
    piped(data)
    code, shown, said = typed("activations", "mine:Net", "-")
    assert (code, shown) == (1, "")
    assert sentence in said
    assert "seqscope-" not in said


def test_a_text_comes_by_standard_input(typed, piped):
    arguments = ("--unit", 1, "--characters", "abc", "--json")
    piped(b"abcab" * 5)
    assert typed("text", "mine:Net", "-", *arguments)[1] == typed("text", "mine:Net", "abc.txt", *arguments)[1]
    piped(b"\xff\xff")
    assert "Standard input is not text in UTF-8: byte 0xff at 0." in typed("text", "mine:Net", "-", *arguments)[2]
    piped(b"")
    assert "Standard input is empty" in typed("text", "mine:Net", "-", *arguments)[2]


def test_stream_plays_data_step_by_step(typed, folder):
    code, shown, said = typed("stream", "mine:Net", "x.npz", "--state", "h")
    assert code == 0, said
    lines = [json.loads(line) for line in shown.splitlines()]
    assert typed("states", "mine:Net", "x.npz", "--layer", "rnn", "-o", "s.nc")[0] == 0
    with xr.open_dataset("s.nc", engine="h5netcdf") as states:  # each sample anew
        np.testing.assert_allclose([line["states"]["rnn"]["h"] for line in lines], states["h"].values.reshape(45, 4), atol=1e-6)
    one = typed("stream", "mine:Net", "x.npz", "--state", "h", "--sample", 3)[1]
    assert [json.loads(line)["states"] for line in one.splitlines()] == [line["states"] for line in lines[27:36]]
    code, _, said = typed("stream", "mine:Net", "--sample", 3)
    assert code == 2
    assert "lines that come by standard input are taken as they come" in said


# Samples, and how it ends


@pytest.mark.parametrize("command", ["activations", "states", "explain", "units", "stream"])
def test_a_sample_is_the_only_one(typed, command):
    arguments = GIVING.get(command, ("mine:Net", "x.npz"))
    code, shown, said = typed(command, *arguments, "--sample", 5)
    assert (code, shown) == (1, "")
    assert "There is no sample 5: the data has 5 samples, at 0 to 4." in said
    code, shown, said = typed(command, *arguments, "--sample", -1)
    assert (code, shown) == (2, "")
    assert "'--sample'" in said
    if command in ("activations", "states", "explain"):
        typed(command, *arguments, "--sample", 3, "-o", "one.nc")
        typed(command, *arguments, "-o", "all.nc")
        with xr.open_dataset("one.nc", engine="h5netcdf") as one, xr.open_dataset("all.nc", engine="h5netcdf") as every:
            xr.testing.assert_allclose(one, every.isel(sample=[3]))


def test_of_one_sample_the_number_is_said(typed, folder):
    np.save(folder / "one.npy", np.zeros((1, 9, 3), np.float32))
    assert "There is no sample 1: the data has one sample, at 0." in typed("activations", "mine:Net", "one.npy", "--sample", 1)[2]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("activations", "no_such", "x.npz"), 1, "Error: 'no_such' is no network of the zoo"),
        (("activations", "mine:Net", "none.npz"), 1, "Error: There is no file 'none.npz'."),
        (("units", "mine:Net", "x.npz", "--layer", "rn"), 1, "the nearest is 'rnn'"),
        (("explain", "mine:Net", "x.npz", "--method", "saliencies"), 1, "There is no method 'saliencies': the nearest are 'saliency'"),
        (("explain", "mine:Net", "x.npz", "--nonsense"), 2, "No such option: --nonsense"),
        (("maximize", "mine:Net", "x.npz", "--like", "x.npz", "--target", 0), 2, "DATA and --like mean the same: say one of the two"),
        (("record", "mine:Net", "x.npz"), 2, "Missing argument 'STORE'"),
        (("record", "mine:Net", "x.npz", "a.zarr", "-o", "a.zarr"), 2, "STORE and -o mean the same: say one of the two"),
        (("record", "mine:Net", "-", "a.zarr"), 2, "give a file, and no standard input"),
        (("activations", "mine:Breaks", "x.npz"), 1, "No space left on device"),
        (("nonsense",), 2, "No such command 'nonsense'"),
        ((), 2, ""),
    ],
)
def test_exit_codes(typed, folder, arguments, code, sentence):
    ended, shown, said = typed(*arguments)
    assert ended == code
    assert sentence in said
    assert "Traceback" not in said
    assert not shown or not arguments
    assert not new_files(folder)


def test_a_disk_that_is_full_is_one_sentence(typed, folder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "a.npz")

    monkeypatch.setattr(np, "savez_compressed", full)
    code, shown, said = typed("activations", "mine:Net", "x.npz", "--layer", "rnn", "-o", "a.npz")
    assert (code, shown, said) == (1, "", "Error: No space left on device: a.npz")
    assert not new_files(folder)


def test_record_tells_machines_and_takes_o(typed):
    code, shown, said = typed("record", "mine:Net", "x.npz", "-o", "v.zarr", "--layer", "rnn", "--json", "--quiet")
    assert (code, said) == (0, "")
    told = json.loads(shown)
    recording = sq.open("v.zarr")
    assert (told["store"], told["layers"], told["n_samples"], told["complete"]) == ("v.zarr", ["rnn"], 5, True)
    assert told["accuracy"] == recording.accuracy
    assert told["settings"] == recording.settings


@pytest.mark.parametrize("command", ["layers mine:Net", "stream mine:Net big.npy"])
def test_a_reader_that_goes_ends_it_without_a_word(folder, command):
    np.save(folder / "big.npy", np.zeros((2, 2000, 3), np.float32))
    read, write = os.pipe()
    code = f"import sys; sys.argv = {['seqscope', *command.split()]!r}; from seqscope.cli import main; main()"
    with subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdout=write, stderr=subprocess.PIPE, text=True) as process:
        os.close(write)
        os.close(read)
        said = process.communicate(timeout=120)[1]
    assert (process.returncode, said) == (141, "")


# What a shell completes


def test_values_complete_without_a_framework(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "inner").mkdir()
    (folder / "inner" / "net.onnx").write_bytes(b"")
    (folder / "y.csv").write_bytes(b"")
    assert completing.models("ja") == ["japanese_vowels"]
    assert {"mine:", "inner/"} < set(completing.models(""))
    assert completing.models("inner/") == ["inner/net.onnx"]
    assert completing.data("") == ["japanese_vowels", "shakespeare", "abc.txt", "inner/", "x.npz", "y.csv"]
    assert completing.data("nowhere/") == []
    assert completing.texts("a") == ["abc.txt"]
    assert completing.methods("grad") == [name for name in sq.attribution.METHODS if name.startswith("grad")]
    assert completing.one_of("zero", "mean")("z") == ["zero"]


def test_layers_complete_for_networks_of_the_zoo():
    context = SimpleNamespace(params={"model": "japanese_vowels"}, args=[])
    assert completing.layers(context, "") == ["lstm", "fc", "softmax"]
    assert completing.layers(SimpleNamespace(params={"model": None}, args=["japanese_vowels", "x.npz"]), "l") == ["lstm"]
    assert completing.layers(SimpleNamespace(params={"model": "mine:Net"}, args=[]), "") == []


def test_a_shell_is_told_and_nothing_slow_is_loaded_for_it(folder):
    line, expected = "seqscope explain japanese_vowels x.npz --method int", ["integrated_gradients"]
    code = """
        import sys
        from seqscope.cli import app
        try:
            app(prog_name="seqscope")
        finally:
            print(sorted({"torch", "keras", "matplotlib", "panel"} & set(sys.modules)), file=sys.stderr)
    """
    asked = {"_SEQSCOPE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folder,
        env=os.environ | asked,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.split() == expected
    assert done.stderr.strip() == "[]"


def test_several_layers_for_what_holds_one_are_refused_before_the_work(typed, folder, monkeypatch):
    seen = []
    verb = sq.Scope.activations
    monkeypatch.setattr(sq.Scope, "activations", lambda scope, X, *rest, **options: seen.append(len(X)) or verb(scope, X, *rest, **options))
    for options in (("--plot", "a.png"), ("-o", "a.html"), ("-o", "a.csv"), ("-o", "-")):
        code, shown, said = typed("activations", "mine:Net", "x.npz", "-o", "a.nc", *options)
        assert (code, shown) == (1, "")
        assert "one layer" in said
    assert seen == [1] * 4
    assert not new_files(folder)


README = (Path(__file__).parents[1] / "README.md").read_text()
PLAIN = "\n".join(block for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE) if not kind)


@pytest.mark.parametrize("line", sorted(set(re.findall(r"^(?:.*\| )?(seqscope \w[^|\n]*)", PLAIN, re.MULTILINE))))
def test_the_commands_of_the_readme_can_be_typed(line):
    _, name, *arguments = shlex.split(line)
    get_command(app).commands[name].make_context(name, arguments)  # what can't be understood is an error
