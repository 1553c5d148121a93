"""Serves one splat file on this machine, so that the SuperSplat editor in its browser can read it."""

import re
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ..early import splat_file
from ..errors import ConfigError, SceneFormatError
from .guard import Guard

EDITOR = "https://superspl.at/editor"
READ_THERE = (".ply", ".splat", ".spz", ".sog", ".ksplat")
"""Suffixes of files that the editor reads."""
ADDRESS = "127.0.0.1"
PIECE = 1 << 20
"""Bytes that are sent at a time."""


class FileServer(ThreadingHTTPServer):
    """Answers GET and HEAD of one path with one file, for one page of the web, on loopback.

    Args:
        path: The file.
        port: Where; 0: any that is free.
        editor: The page that may read it.

    Raises:
        ConfigError: If the port is taken, or the editor is no address of a page.
        SceneFormatError: If there is no such file, or the editor reads none of its kind.
    """

    daemon_threads = True

    def __init__(self, path: str | Path, port: int = 0, editor: str = EDITOR) -> None:
        page = urlsplit(editor)
        if page.scheme not in ("http", "https") or not page.netloc:
            expected, fix = "the address of a page, https://...", f"set editor={EDITOR}"
            raise ConfigError(what=f"editor is {editor!r}", expected=expected, fix=fix)
        self.file, self.editor = _readable(path), editor
        # Servers of pages decode an address once more than they should, so the name is one that needs no encoding.
        self.path = "/" + re.sub(r"[^A-Za-z0-9._-]+", "_", self.file.name)
        self.guard = Guard(ADDRESS, origins=(f"{page.scheme}://{page.netloc}",))
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as cause:
            what = f"port {port} cannot be had ({getattr(cause, 'strerror', None) or cause})"
            expected, fix = "a free port from 1 to 65535, or 0 for any", "leave port out"
            raise ConfigError(what=what, expected=expected, fix=fix) from cause

    @property
    def address(self) -> str:
        """Where the file is."""
        return f"http://{ADDRESS}:{self.server_address[1]}{self.path}"

    @property
    def link(self) -> str:
        """The editor with the file in it."""
        return f"{self.editor}?load={quote(self.address, safe='')}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where a browser hung up, as it does when a page is left."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _readable(path: str | Path) -> Path:
    file = splat_file(path)
    if not file.is_file() or file.suffix.lower() not in READ_THERE:
        what = f"{path} is a {'folder' if file.is_dir() else 'file of another kind'}"
        expected = f"a splat file that the editor reads: {' '.join(READ_THERE)}"
        raise SceneFormatError(what=what, expected=expected, fix=f"launch.py --run convert {path} scene.ply")
    return file


class _Handler(BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """The file, or the part of it that was asked for."""
        self._answer(has_body=True)

    def do_HEAD(self) -> None:
        """How long it is."""
        self._answer(has_body=False)

    def do_OPTIONS(self) -> None:
        """A browser asks before a page of the web reads from this machine."""
        if not self._is_refused():
            self._begin(HTTPStatus.NO_CONTENT, 0)
            self.send_header("Access-Control-Allow-Methods", "GET, HEAD")
            self.send_header("Access-Control-Allow-Headers", "Range")
            self.send_header("Access-Control-Allow-Private-Network", "true")
            self.end_headers()

    def _answer(self, *, has_body: bool) -> None:
        if self._is_refused():
            return
        size = self.server.file.stat().st_size
        first, last = _range(self.headers.get("Range", ""), size)
        is_part = (first, last) != (0, size - 1)
        self._begin(HTTPStatus.PARTIAL_CONTENT if is_part else HTTPStatus.OK, last - first + 1)
        if is_part:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if has_body:
            self._send(first, last - first + 1)

    def _send(self, first: int, count: int) -> None:
        with self.server.file.open("rb") as file:
            file.seek(first)
            while count > 0 and (piece := file.read(min(PIECE, count))):
                self.wfile.write(piece)
                count -= len(piece)

    def _is_refused(self) -> bool:
        """Answer what is not for this page or asks for another path with an error."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if self.server.guard.refusal(self.path, host, origin) is not None:
            self.send_error(HTTPStatus.FORBIDDEN)
            return True
        if self.path != self.server.path:
            self.send_error(HTTPStatus.NOT_FOUND)
            return True
        return False

    def _begin(self, status: HTTPStatus, length: int) -> None:
        self.send_response(status)
        self.send_header("Access-Control-Allow-Origin", self.server.guard.origins[0])
        self.send_header("Access-Control-Expose-Headers", "Content-Length, Content-Range")
        self.send_header("Vary", "Origin")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(length))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""


def _range(text: str, size: int) -> tuple[int, int]:
    """First and last byte of one range that can be had; the whole file for anything else."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", text.strip())
    if match is None or int(match[1]) >= size:
        return 0, size - 1
    return int(match[1]), min(int(match[2] or size - 1), size - 1)
