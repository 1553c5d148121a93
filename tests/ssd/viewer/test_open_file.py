"""``--run open``: one file, for one page of the web, on loopback."""

import subprocess
import sys
import threading
import urllib.error
import urllib.request
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.edit_world import REPOSITORY
from threestudio_ssd.errors import ConfigError, SceneFormatError
from threestudio_ssd.viewer.open_file import EDITOR, FileServer

SPLAT = REPOSITORY / "data" / "toy-scene" / "scene.ply"
PAGE = "https://superspl.at"


@pytest.fixture
def served(tmp_path):
    """A server of a file with a name that no address can hold as it is; and the file."""
    file = tmp_path / "a b%20c.ply"
    file.write_bytes(SPLAT.read_bytes())
    with FileServer(file) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server, file
        server.shutdown()
        thread.join()


def ask(address: str, method: str = "GET", **headers: str):
    """Status, headers and body; names of headers have ``_`` for ``-``."""
    words = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(address, method=method, headers=words)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, b""


def test_the_link_names_the_file_on_loopback(served):
    server, _ = served
    assert server.link.startswith(f"{EDITOR}?load=http%3A%2F%2F127.0.0.1%3A")
    (address,) = parse_qs(urlsplit(server.link).query)["load"]
    assert address == server.address
    assert urlsplit(address).path == "/a_b_20c.ply"
    assert server.server_address[0] == "127.0.0.1"


def test_the_editor_reads_the_file_whole_and_in_parts(served):
    server, file = served
    status, headers, body = ask(server.address, Origin=PAGE)
    assert (status, headers["Access-Control-Allow-Origin"], body) == (200, PAGE, file.read_bytes())
    status, headers, body = ask(server.address, "HEAD", Origin=PAGE)
    assert (status, headers["Content-Length"], body) == (200, str(file.stat().st_size), b"")
    status, headers, body = ask(server.address, Origin=PAGE, Range="bytes=4-9")
    assert (status, body) == (206, file.read_bytes()[4:10])
    assert headers["Content-Range"] == f"bytes 4-9/{file.stat().st_size}"
    status, headers, _ = ask(server.address, "OPTIONS", Origin=PAGE, Access_Control_Request_Private_Network="true")
    assert (status, headers["Access-Control-Allow-Private-Network"]) == (204, "true")


@pytest.mark.parametrize("path", ["/", "/other.ply", "/../scene.ply", "/a_b_20c.ply/", "/%2e%2e/etc/passwd"])
def test_no_other_path_is_there(served, path):
    base = served[0].address.removesuffix(served[0].path)
    status, headers, _ = ask(base + path, Origin=PAGE)
    assert (status, headers["Access-Control-Allow-Origin"]) == (404, None)


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example:80"}, {"Origin": "https://evil.example"},
     {"Origin": "null"}, {"Host": "evil.example@127.0.0.1"}],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_other_pages_and_names_are_refused(served, method, headers):
    status, answered, body = ask(served[0].address, method, **headers)
    assert (status, answered["Access-Control-Allow-Origin"], body) == (403, None, b"")


def test_what_cannot_be_served_is_one_line(tmp_path):
    with pytest.raises(SceneFormatError, match="does not exist"):
        FileServer(tmp_path / "none.ply")
    with pytest.raises(SceneFormatError, match="is a folder"):
        FileServer(tmp_path)
    (tmp_path / "notes.txt").write_text("secret")
    with pytest.raises(SceneFormatError, match="file of another kind"):
        FileServer(tmp_path / "notes.txt")
    for port in (70000, -1):
        with pytest.raises(ConfigError, match=f"port {port} cannot be had"):
            FileServer(SPLAT, port)
    with FileServer(SPLAT) as server, pytest.raises(ConfigError, match="cannot be had"):
        FileServer(SPLAT, server.server_address[1])
    with pytest.raises(ConfigError, match="editor is 'superspl.at'"):
        FileServer(SPLAT, editor="superspl.at")


def test_the_command_prints_the_link_and_stops_with_ctrl_c():
    command = [sys.executable, "launch.py", "--run", "open", str(SPLAT)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        link = run.stdout.readline().strip()
        (address,) = parse_qs(urlsplit(link).query)["load"]
        assert ask(address)[2] == SPLAT.read_bytes()
        run.send_signal(2)
        assert run.wait(20) == 0


def test_a_page_of_the_web_reads_it_in_a_real_browser(page, served):
    """The page's own fetch, with the browser's CORS, from the editor's origin and from another."""
    server, file = served
    page.context.grant_permissions(["local-network-access"])  # what the browser asks its user for
    for origin, length in ((PAGE, file.stat().st_size), ("https://evil.example", None)):
        page.route(f"{origin}/**", lambda route: route.fulfill(body="<html></html>", content_type="text/html"))
        page.goto(f"{origin}/editor")
        script = "address => fetch(address).then(r => r.arrayBuffer()).then(b => b.byteLength).catch(() => null)"
        assert page.evaluate(script, server.address) == length
