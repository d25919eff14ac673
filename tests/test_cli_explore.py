"""`seqscope explore`: the address on standard output, what is said beside it, and what it refuses."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import panel as pn
import pytest

import seqscope as sq
from asking import get
from commands import typed_in
from seqscope.explorer import server


@pytest.fixture
def typed(tmp_path, monkeypatch, capfd):
    return typed_in(tmp_path, monkeypatch, capfd)


@pytest.fixture
def served(monkeypatch):
    """What was served; nobody waits for it, and no browser opens."""
    seen = []

    def wait(self):
        seen.append((self.url, get(self.url)[0]))
        self.stop()

    def hello(source):
        page = pn.Template("{% extends base %}{% block contents %}{{ name | e }}{% endblock %}")
        page.add_variable("name", source.name)
        return page

    monkeypatch.setattr(server, "page_of", hello)
    monkeypatch.setattr(server.Served, "wait", wait)
    monkeypatch.setattr(server.Served, "show", lambda self: seen.append("shown"))
    return seen


@pytest.fixture
def store(tmp_path):
    X, _ = sq.datasets.japanese_vowels("test")
    sq.Scope(sq.zoo.japanese_vowels()).record(X[:6], tmp_path / "vowels.zarr", "lstm", inputs=False)
    np.savez(
        tmp_path / "vowels.npz",
        X=np.concatenate([X[place].values for place in range(6)]),
        lengths=X.lengths[:6],
        y=X.labels[:6],
    )


def test_of_what_is_no_model_that_is_said_and_not_that_it_lacks_data(typed):
    assert typed("explore", "nofile", "--no-show")[0] == 1
    assert "nofile" in typed("explore", "nofile.pt", "--no-show")[2]
    assert "a model needs data" not in typed("explore", "nofile", "--no-show")[2]


def test_a_model_is_served_and_the_address_is_on_standard_output(typed, served):
    code, shown, said = typed("explore", "japanese_vowels", "japanese_vowels", "--port", 0)
    assert code == 0
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", shown)
    assert said == "Ctrl-C ends it."
    assert served == ["shown", (shown.strip(), 200)]


def test_as_json_without_a_browser_and_without_a_word(typed, served):
    code, shown, said = typed("explore", "japanese_vowels", "japanese_vowels", "--port", 0, "--no-show", "--quiet", "--json")
    told = json.loads(shown)
    assert (code, said, served) == (0, "", [(told["url"], 200)])
    assert told == {"url": f"http://127.0.0.1:{told['port']}/", "host": "127.0.0.1", "port": told["port"]}


def test_a_recording_is_served_with_its_data_and_its_model(typed, served, store):
    for more in ((), ("vowels.npz",), ("vowels.npz", "--model", "japanese_vowels")):
        code, _, said = typed("explore", "vowels.zarr", *more, "--port", 0, "--no-show")
        assert (code, said) == (0, "Ctrl-C ends it.")
    assert [status for _, status in served] == [200] * 3


def test_open_to_other_machines_it_warns_even_where_it_is_to_be_quiet(typed, served, store):
    code, shown, said = typed("explore", "vowels.zarr", "--host", "0.0.0.0", "--port", 0, "--no-show", "--quiet")
    assert code == 0
    assert said.startswith(f"Warning: Whoever has the address {shown.strip()} can look at the data")


def test_a_port_in_use_is_said(typed, served, store):
    with server.serve(_source(), port=0) as first:
        code, shown, said = typed("explore", "vowels.zarr", "--port", first.port, "--no-show")
    taken = re.search(r":(\d+)/", shown)[1]
    assert (code, said) == (0, f"Port {first.port} is in use: taken {taken}. Ctrl-C ends it.")


def _source():
    from seqscope.explorer.opening import source_of

    X, _ = sq.datasets.japanese_vowels("test")
    return source_of(sq.zoo.japanese_vowels(), X[:2])


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("japanese_vowels",), 2, "a model needs data to run on: seqscope explore MODEL DATA"),
        (("nowhere.zarr",), 1, "There is no store 'nowhere.zarr'."),
        (("japanese_vowels", "nowhere.npz"), 1, "nowhere.npz"),
        (("nowhere", "japanese_vowels"), 1, "nowhere"),
        (("japanese_vowels", "japanese_vowels", "--model", "japanese_vowels"), 2, "--model is the model of a recording"),
        (("vowels.zarr", "japanese_vowels"), 1, "The data is not what 'vowels.zarr' was recorded from"),
        (("vowels.zarr", "--model", "attention_lstm"), 1, "'vowels.zarr' was recorded from another model"),
        (("vowels.zarr", "--host", "192.0.2.1"), 1, "The page can't be served at '192.0.2.1', no address of this machine"),
        (("vowels.zarr", "--port", 70000), 2, "less than or equal to 65535"),
    ],
)
def test_what_can_not_be_is_a_sentence(typed, served, store, arguments, code, sentence):
    found, shown, said = typed("explore", *arguments)
    assert found == code
    assert shown == ""
    assert sentence in said
    assert "Traceback" not in said
    assert served == []


@pytest.mark.parametrize("more", [(), ("vowels.npz",), ("vowels.npz", "--model", "japanese_vowels")])
def test_the_python_of_a_recording_opens_it_again(typed, store, monkeypatch, more):
    opened = []
    monkeypatch.setattr(server, "serve", lambda source, **options: opened.append(source) or _Nothing())
    assert typed("explore", "vowels.zarr", *more)[0] == 0
    names = {}
    exec(opened[0].opening, names)
    assert names["recording"].lengths.tolist() == opened[0].lengths.tolist()
    assert ("X" in names) == bool(more)
    if len(more) > 1:
        wanted = opened[0].scope.activations(opened[0].X[2], "lstm")
        np.testing.assert_array_equal(names["scope"].activations(names["X"][2], "lstm").values, wanted.values)


def test_the_python_of_a_model_runs_it_again(typed, monkeypatch):
    opened = []
    monkeypatch.setattr(server, "serve", lambda source, **options: opened.append(source) or _Nothing())
    assert typed("explore", "japanese_vowels", "japanese_vowels:train")[0] == 0
    names = {}
    exec(opened[0].opening, names)
    found = eval(opened[0].code("lstm", "c", 4), names)
    np.testing.assert_array_equal(found.values, opened[0].values("lstm", "c", 4).values)


class _Nothing:
    """Stands for what is served."""

    is_open, notes, url, port = False, (), "", 0

    def show(self):
        pass

    def wait(self):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="A process is sent Ctrl-C otherwise there.")
def test_ctrl_c_ends_it_and_that_is_no_failure():
    arguments = ["explore", "japanese_vowels", "japanese_vowels", "--port", "0", "--no-show"]
    command = [sys.executable, "-c", "from seqscope.cli import main; main()", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert get(process.stdout.readline().strip())[0] == 200
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "Traceback" not in said
