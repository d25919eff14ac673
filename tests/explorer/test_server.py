"""How the page is served, to whom, and what is left when it ends."""

import asyncio
import gc
import os
import re
import socket
import subprocess
import sys
import threading
import time
import types
import weakref
from pathlib import Path

import panel as pn
import pytest
from bokeh.io.state import curstate
from playwright.sync_api import expect

import seqscope as sq
from asking import ask, connect, get, handshake, leave, message, run, sentence_of, token_of
from seqscope import explorer
from seqscope.errors import DataError, MissingPackageError
from seqscope.explorer import guard, server
from seqscope.explorer.guard import Doors
from seqscope.explorer.page import page_of
from seqscope.explorer.server import serve


def small(source):
    """A page with a field."""
    page = pn.Template("{% extends base %}{% block contents %}<h1>{{ name | e }}</h1>{{ embed(roots.field) }}{% endblock %}")
    page.add_variable("name", source.name)
    page.add_panel("field", pn.widgets.TextInput(label="field"))
    return page


@pytest.fixture
def running(vowels):
    """A small page that is served."""
    with serve(vowels, port=0, make=small) as running:
        yield running


# Everything comes from here


def test_a_page_comes_whole_from_this_machine(served, vowels, page, watched):
    page.goto(served(vowels))
    expect(page.get_by_role("heading", level=1)).to_have_text(vowels.name)
    page.wait_for_function("window.Bokeh && Bokeh.documents.length > 0")
    page.wait_for_load_state("networkidle")
    assert any(url.startswith("ws://127.0.0.1:") for url in watched.asked)
    assert len(watched.asked) > 5
    assert watched.outside == []


def test_it_does_so_whatever_the_environment_says(vowels, page, monkeypatch):
    monkeypatch.setenv("BOKEH_RESOURCES", "cdn")
    with serve(vowels, port=0, make=small) as running:
        page.goto(running.url)
        expect(page.get_by_role("textbox")).to_be_visible()
        assert "https://" not in page.content().replace("https://localhost", "")


def test_answers_tell_the_browser_to_keep_to_this_machine(running):
    status, headers, text = get(running.url)
    assert status == 200
    host = running.url.split("/")[2]
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'self' data: blob: 'unsafe-inline' 'unsafe-eval'"
    assert policy["connect-src"] == f"'self' ws://{host} wss://{host} data: blob:"
    assert "http://localhost:*" in policy["frame-ancestors"].split()
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in headers
    assert "Access-Control-Allow-Origin" not in headers
    for path in re.findall(r'(?:src|href)="(static/[^"]+)"', text)[:2]:
        status, headers, _ = get(running.url + path)
        assert status == 200
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_notebook_of_this_machine_may_frame_it(running, page):
    with serve_html(f'<iframe src="{running.url}" title="page"></iframe>')() as url:
        page.goto(url)
        expect(page.frame_locator("iframe").get_by_role("textbox")).to_be_visible()


def serve_html(body):
    """A server of one page, as a notebook's own."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f'<link rel="icon" href="data:,">{body}'.encode())

        def log_message(self, *_):
            pass

    class Served:
        def __enter__(self):
            self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
            threading.Thread(target=self.server.serve_forever, daemon=True).start()
            return f"http://127.0.0.1:{self.server.server_port}/"

        def __exit__(self, *_):
            self.server.shutdown()
            self.server.server_close()

    return Served


# Who is let in


def test_it_listens_on_this_machine_alone(running):
    bound = running._socket.getsockname()
    assert bound == ("127.0.0.1", running.port)
    assert running.url == f"http://127.0.0.1:{running.port}/"
    assert not running.is_open


@pytest.mark.parametrize(
    "host", ["elsewhere.example", "elsewhere.example:5006", "127.0.0.1.elsewhere.example", "192.0.2.1", "localhost@x", "", "[::1]"]
)
@pytest.mark.parametrize("path", ["", "ws", "static/js/bokeh.min.js"])
def test_a_name_that_is_not_its_own_is_refused(running, host, path):
    """A page of another site may have its name stand for 127.0.0.1, and would then be of the same origin."""
    status, headers, text = get(running.url + path, Host=host)
    assert status in (400, 403)
    if status == 403:
        assert sentence_of(text).startswith("This address does not lead to seqscope's page: it was asked for under a name")
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("host", ["localhost:{port}", "LOCALHOST:{port}", "127.0.0.1:{port}", "localhost:9999"])
def test_its_own_names_are_answered_at_any_port_since_a_tunnel_may_have_another(running, host):
    assert get(running.url, Host=host.format(port=running.port))[0] == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://elsewhere.example",
        "http://elsewhere.example:{port}",
        "https://127.0.0.1",
        "http://localhost:9999",
        "http://localhost:{port}",
        "null",
        "http://127.0.0.1:{port}.elsewhere.example",
    ],
)
def test_another_origin_may_not_connect(running, origin):
    assert handshake(running.url, Origin=origin.format(port=running.port)) == 403


def test_its_own_origin_may_connect(running):
    async def look():
        connection = await connect(running.url, token_of(get(running.url)[2]), Origin=running.url.rstrip("/"))
        header, _ = await message(connection)
        await leave(connection)
        return header["msgtype"]

    assert run(look()) == "ACK"


def test_scripts_of_other_sites_may_not_read_or_open_pages(running):
    for mode in ("no-cors", "cors"):
        status, _, text = get(running.url, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode=mode)
        assert status == 403
        assert sentence_of(text) == "Pages of other sites may not read from here."
    assert running.n_pages == 0
    assert get(running.url, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200  # a link that was clicked


@pytest.mark.parametrize(
    "path",
    [
        "autoload.js?bokeh-autoload-element=1",
        "metadata",
        "components/os/environ/_css/x",
        "nothing",
        "../../etc/passwd",
        "static/../../../etc/passwd",
        "static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "liveness",
        "admin",
    ],
)
def test_there_is_nothing_else(running, path):
    status, _, text = get(running.url + path)
    assert status in (403, 404)
    assert "root:" not in text
    assert "Traceback" not in text


def test_a_wrong_address_is_a_sentence(running):
    assert (
        sentence_of(get(running.url + "nothing")[2]) == "There is nothing at this address: open the address that seqscope gave, as a whole."
    )


def test_the_address_can_not_name_a_session(running):
    """Else whoever made the address could look over a person's shoulder."""
    status, _, text = get(running.url + "?bokeh-session-id=mine")
    assert status == 403
    assert running.n_pages == 0
    assert sentence_of(text) == "This address can't be answered."


def test_a_token_that_was_not_given_here_does_not_connect(running, vowels):
    with serve(vowels, port=0, make=small) as other:
        token = token_of(get(other.url)[2])

        async def look():
            connection = await connect(running.url, token)
            said = await asyncio.wait_for(connection.read_message(), 10)
            connection.close()
            return said

        assert run(look()) is None
    assert running.n_pages == 0


# Open to other machines


def test_with_another_host_the_address_has_a_token_and_nothing_is_without_it(vowels, new_page):
    with serve(vowels, host="0.0.0.0", port=0, make=small) as running:
        token = running.url.rstrip("/").rpartition("/")[2]
        assert len(token) >= 32
        assert running.is_open
        assert running.notes[-1].startswith(f"Whoever has the address {running.url} can look at the data")
        here = f"http://127.0.0.1:{running.port}/"
        wrong = token[:-1] + ("x" if token[-1] != "x" else "y")
        for path in ("", "ws", "static/js/bokeh.min.js", token[:-1], f"{wrong}/", "favicon.ico"):
            status, headers, text = get(here + path)
            assert status == 404
            assert token not in text + str(headers)
            assert sentence_of(text).startswith("There is nothing at this address")
        page = new_page()
        page.goto(f"{here}{token}/")
        expect(page.get_by_role("textbox")).to_be_visible()
        page.get_by_role("textbox").fill("x")
        assert get(f"{here}{token}/static/js/bokeh.min.js")[0] == 200
        assert handshake(f"{here}{token}/", Origin="http://elsewhere.example") == 403


def test_each_time_it_is_another_token(vowels):
    with serve(vowels, host="0.0.0.0", port=0, make=small) as first, serve(vowels, host="0.0.0.0", port=0, make=small) as second:
        assert first.url.split("/")[3] != second.url.split("/")[3]


def test_a_host_answers_to_its_own_names_only():
    doors = Doors("192.0.2.7")
    assert doors.knows("192.0.2.7:5006")
    assert doors.knows(f"{socket.gethostname()}:5006") or "_" in socket.gethostname()
    assert not doors.knows("elsewhere.example:5006")
    assert doors.is_own("http://192.0.2.7:5006", "192.0.2.7:5006")
    assert not doors.is_own("http://192.0.2.7:80", "192.0.2.7:5006")
    anywhere = Doors("0.0.0.0")
    assert anywhere.knows("lab.example:5006")
    assert anywhere.is_own("https://lab.example:5006", "lab.example:5006")
    assert not anywhere.is_own("http://elsewhere.example", "lab.example:5006")
    assert not anywhere.knows("lab.example:5006\r\nX: y")


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("192.0.2.1", "The page can't be served at '192.0.2.1', no address of this machine"),
        ("::1", "The page can't be served at '::1': give a name or an address of the form 192.0.2.1."),
        ("nowhere.invalid", "The page can't be served at 'nowhere.invalid', no address of this machine"),
    ],
)
def test_a_host_that_is_none_of_this_machine(vowels, host, sentence):
    with pytest.raises(DataError) as error:
        serve(vowels, host=host, port=0, make=small)
    assert error.value.message.startswith(sentence)


# Ports


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_where_a_port_is_in_use_the_next_is_taken_and_said(vowels):
    with serve(vowels, port=0, make=small) as first:
        assert first.notes == ()
        with serve(vowels, port=first.port, make=small) as second:
            assert second.port > first.port
            assert second.notes == (f"Port {first.port} is in use: taken {second.port}.",)
            assert get(first.url)[0] == get(second.url)[0] == 200


def test_a_port_that_is_stopped_is_free_again(vowels):
    first = serve(vowels, port=0, make=small)
    get(first.url)
    first.stop()
    with serve(vowels, port=first.port, make=small) as second:
        assert second.port == first.port


def test_no_port_is_free(vowels, monkeypatch):
    monkeypatch.setattr(server, "_TRIED", 1)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]
        with pytest.raises(DataError, match=f"Of the ports {port} to {port} none is free: give another with port=."):
            serve(vowels, port=port, make=small)


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_no_such_port(vowels, port):
    with pytest.raises(DataError, match=f"There is no port {port}: the numbers go from 0 to 65535."):
        serve(vowels, port=port, make=small)


def test_two_that_begin_at_once_take_two_ports(vowels):
    port, found = free_port(), []
    threads = [threading.Thread(target=lambda: found.append(serve(vowels, port=port, make=small))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert len({one.port for one in found}) == 4
        assert {get(one.url)[0] for one in found} == {200}
    finally:
        for one in found:
            one.stop()


# What fails


def test_a_page_that_can_not_be_made_says_so_and_the_next_is_made(vowels, new_page, caplog):
    failing = iter([DataError("There is no <b>store</b>."), ZeroDivisionError("secret path"), None])

    def make(source):
        error = next(failing)
        if error is not None:
            raise error
        return small(source)

    with serve(vowels, port=0, make=make) as running:
        page = new_page()
        page.goto(running.url)
        expect(page.get_by_role("alert")).to_have_text("There is no <b>store</b>.")
        page.goto(running.url)
        expect(page.get_by_role("alert")).to_contain_text("This page could not be made (ZeroDivisionError)")
        assert "secret path" not in page.content()
        assert "Traceback" not in page.content()
        assert "secret path" in caplog.text
        page.goto(running.url)
        expect(page.get_by_role("textbox")).to_be_visible()


def test_a_message_that_fails_gets_no_trace_of_the_program(running):
    async def look():
        connection = await connect(running.url, token_of(get(running.url)[2]))
        await message(connection)
        answer = await ask(
            connection, "PATCH-DOC", '{"events": [{"kind": "ModelChanged", "model": {"id": "none"}, "attr": "x", "new": 1}]}'
        )
        await leave(connection)
        return answer

    header, content = run(look())
    assert header["msgtype"] == "ERROR"
    assert content["traceback"] is None
    assert ".py" not in content["text"]


# Several people


def test_two_people_do_not_see_each_others_choices(served, vowels, new_page):
    first, second = new_page(), new_page()
    for page in (first, second):
        page.goto(served(vowels))
        page.wait_for_function("window.Bokeh && Bokeh.documents.length > 0")
        page.get_by_role("heading", level=1).click()
    first.keyboard.press("ArrowDown")
    first.wait_for_url("**sample=1**")
    second.wait_for_timeout(500)
    assert "sample=" not in second.url
    second.keyboard.press("ArrowUp")
    second.wait_for_url("**sample=369**")
    assert "sample=1" in first.url


def test_twenty_people_at_once_get_their_pages_and_leave_nothing_behind(vowels, monkeypatch):
    monkeypatch.setattr(server, "_UNUSED", 120_000)
    monkeypatch.setattr(server, "_LOOKED_FOR", 100)
    documents = []

    def make(source):
        documents.append(weakref.ref(pn.state.curdoc))
        return page_of(source)

    async def person(url):
        status, _, text = await asyncio.to_thread(get, url)
        connection = await connect(url, token_of(text), Origin=url.rstrip("/"))
        await message(connection)
        header, content = await ask(connection, "PULL-DOC-REQ")
        return connection, (status, header["msgtype"], len(content["doc"]["roots"]) > 3)

    async def all_at_once(number):
        people = await asyncio.gather(*(person(running.url) for _ in range(number)))
        n_pages = running.n_pages
        await asyncio.gather(*(leave(connection) for connection, _ in people))
        return n_pages, [seen for _, seen in people]

    with serve(vowels, port=0, make=make) as running:
        run(all_at_once(1))  # imports and caches
        before = in_memory()
        n_pages, seen = run(all_at_once(20))
        grown = in_memory() - before
        assert seen == [(200, "PULL-DOC-REPLY", True)] * 20
        assert n_pages == 21
        assert grown < 20 * 10_000_000
        running._application._unused_session_lifetime_milliseconds = 1
        gone(running)
        assert len(documents) == 21
        assert freed(documents)


def in_memory():
    """Bytes that this process has in memory."""
    if sys.platform != "linux":
        pytest.skip("What a process holds is read from /proc.")
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def gone(running):
    """Wait until the pages of those who left are given up."""
    until = time.monotonic() + 30
    while running.n_pages and time.monotonic() < until:
        time.sleep(0.05)
    assert running.n_pages == 0


def freed(references):
    """Whether no document is held any more, once what is on its way is done; Bokeh itself holds the one that was the current one last."""

    def held():
        gc.collect()
        return [reference for reference in references if reference() not in (None, curstate().document)]

    until = time.monotonic() + 30
    while held() and time.monotonic() < until:
        time.sleep(0.1)
    return not held()


def test_too_many_pages_are_refused_in_a_sentence(running, monkeypatch):
    monkeypatch.setattr(guard, "MOST_PAGES", 2)
    assert [get(running.url)[0] for _ in range(3)] == [200, 200, 503]
    assert sentence_of(get(running.url)[2]).startswith("2 pages are open here, and there is no room for more")


def test_several_are_served_at_once_and_end_one_by_one(vowels):
    with serve(vowels, port=0, make=small) as first:
        with serve(vowels, port=0, make=small) as second:
            assert get(first.url)[0] == get(second.url)[0] == 200
        assert not second.is_running
        assert get(first.url)[0] == 200


# How it ends


def test_it_ends_while_a_page_is_open_and_frees_what_it_held(vowels, page, watched):
    before = threading.active_count()
    documents = []

    def make(source):
        documents.append(weakref.ref(pn.state.curdoc))
        return small(source)

    running = serve(vowels, port=0, make=make)
    page.goto(running.url)
    expect(page.get_by_role("textbox")).to_be_visible()
    running.stop()
    running.stop()  # more than once does no harm
    assert repr(running) == "Served: stopped"
    assert "no longer served" in running._repr_html_()
    with socket.socket() as one:
        assert one.connect_ex(("127.0.0.1", running.port)) != 0
    assert freed(documents)
    assert threading.active_count() <= before
    page.goto("about:blank")
    watched.errors[:] = [
        error
        for error in watched.errors
        if "WebSocket" not in error and "ERR_CONNECTION_REFUSED" not in error and "bokeh" not in error.lower()
    ]


def test_ctrl_c_ends_a_script(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import seqscope as sq\n"
        "X, _ = sq.datasets.japanese_vowels('test')\n"
        "served = sq.explore(sq.Scope(sq.zoo.japanese_vowels()), X[:3], port=0, show=False)\n"
        "print(served, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        url = re.fullmatch(r"Served at (http://127\.0\.0\.1:\d+/) until Ctrl-C\.\n", line)[1]
        assert get(url)[0] == 200
        process.send_signal(subprocess.signal.SIGINT)
        shown, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, shown, said) == (0, "Served: stopped\n", "")


# explore()


@pytest.fixture
def opened(monkeypatch):
    """The addresses that a browser was asked to open; there is a screen."""
    seen = []
    monkeypatch.setattr(server.webbrowser, "open", seen.append)
    monkeypatch.setenv("DISPLAY", ":0")
    return seen


@pytest.fixture
def scope():
    return sq.Scope(sq.zoo.japanese_vowels())


def few():
    return sq.datasets.japanese_vowels("test")[0][:3]


def test_explore_opens_the_browser_and_waits(scope, opened, monkeypatch, capsys):
    waited = []
    monkeypatch.setattr(server.Served, "wait", lambda self: waited.append(self.url))
    with sq.explore(scope, few(), port=0) as served:
        assert opened == waited == [served.url]
        assert capsys.readouterr().err == f"Served at {served.url} until Ctrl-C.\n"


def test_explore_neither_opens_nor_waits_where_it_is_told(scope, opened):
    with sq.explore(scope, few(), port=0, show=False, block=False) as served:
        assert opened == []
        assert served.is_running


def test_without_a_screen_no_browser_takes_the_terminal(scope, opened, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    with sq.explore(scope, few(), port=0, show=True, block=False):
        assert opened == []


def test_at_a_prompt_it_does_not_wait(scope, opened, monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with sq.explore(scope, few(), port=0) as served:
        assert opened == [served.url]
        assert repr(served) == f"Served at {served.url}"


def test_in_a_notebook_it_shows_itself_in_a_frame(scope, opened, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=object())))
        known = {name: getattr(explorer, name)() for name in ("_in_notebook", "_is_interactive")}
    assert known == {"_in_notebook": True, "_is_interactive": True}
    for name, value in known.items():
        monkeypatch.setattr(explorer, name, lambda value=value: value)
    with explorer.explore(scope, few(), port=0) as served:
        assert opened == []
        assert f'<iframe src="{served.url}"' in served._repr_html_()


def test_explore_says_which_port_was_taken_and_to_whom_it_is_open(scope):
    port = free_port()
    with sq.explore(scope, few(), port=port, show=False, block=False), pytest.warns(UserWarning, match=f"Port {port} is in use: taken "):
        sq.explore(scope, few(), port=port, show=False, block=False).stop()
    with pytest.warns(UserWarning, match="can look at the data: it leads here from other machines"):
        sq.explore(scope, few(), host="0.0.0.0", port=0, show=False, block=False).stop()


def test_explore_says_its_call_where_it_fails(tmp_path):
    with pytest.raises(DataError) as error:
        sq.explore(tmp_path / "nowhere.zarr", show=False, block=False)
    assert "There is no store" in str(error.value)
    assert "explore(" in str(error.value) or "open(" in str(error.value)


def test_without_the_packages_of_the_page_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "panel", None)
    with pytest.raises(
        MissingPackageError, match=r"The page needs the package 'panel', which is not installed: pip install 'seqscope\[explore\]'"
    ):
        sq.explore  # noqa: B018


def test_nothing_of_the_page_is_loaded_with_the_package():
    code = "import sys, seqscope; print([name for name in ('panel', 'bokeh', 'tornado') if name in sys.modules])"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout == "[]\n"
