"""viser's server behind a guard: on loopback unless a host is named, no share link, nothing printed but our own."""

import io
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from http import HTTPStatus
from typing import Any

import viser
from websockets.asyncio import server as sockets
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from threestudio.errors import is_user_error, one_line

from ..errors import ConfigError
from .guard import Guard, link_of

_LOCK = threading.Lock()


class Server(viser.ViserServer):
    """A window in the browser.

    Args:
        guard: Where it is bound, and whom it answers.
        port: The next one that is free is taken if somebody has it.
        title: Above the panel.

    Raises:
        ConfigError: If nothing can be bound there.
    """

    def __init__(self, guard: Guard, port: int, title: str) -> None:
        _check_address(guard.host, port)
        with _guarding(guard) as is_guarded, redirect_stdout(io.StringIO()):
            super().__init__(guard.host, port, label=title, verbose=False)
            if not is_guarded:
                self.stop()
                raise RuntimeError(f"viser {viser.__version__} serves in another way; its requests are not checked")
        self.link = link_of(guard, self.get_port())
        """What to open in a browser."""
        self.gui.configure_theme(show_share_button=False, show_logo=False)

    def request_share_url(self, verbose: bool = True) -> None:
        """Never: viser would send the scene through a server of its own."""

    def stop(self) -> None:
        """Stop serving; viser's word on it is not part of what a run prints."""
        with redirect_stdout(io.StringIO()):
            super().stop()

    @contextmanager
    def saying(self) -> Iterator[None]:
        """Show what is wrong with an input as a notice in the browser: a callback has no caller to tell."""
        try:
            yield
        except Exception as error:
            if not is_user_error(error):
                raise
            self.notice("This cannot be done", one_line(error))

    def notice(self, title: str, body: str = "") -> None:
        """A notice in every browser that looks."""
        for client in self.get_clients().values():
            client.add_notification(title, body, auto_close_seconds=12)


def _check_address(host: str, port: int) -> None:
    """Find out whether the address is one of this machine's; viser would try a thousand ports and then wait forever.

    Raises:
        ConfigError: If it is not.
    """
    try:
        if not 0 <= port <= 65535:
            raise OSError(None, "no port has that number")
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError as cause:
        what, expected = f"host {host}, port {port} cannot be bound ({cause.strerror})", "an address of this machine"
        raise ConfigError(what=what, expected=expected, fix="set host=127.0.0.1 and port=8080") from cause


@contextmanager
def _guarding(guard: Guard) -> Iterator[list[bool]]:
    """Servers that viser starts meanwhile ask the guard first: viser has no place of its own for such a check.

    Yields:
        A list that is no longer empty once one was started.
    """
    serve, is_guarded = sockets.serve, []

    def guarded(*args: Any, process_request: Any, **options: Any) -> Any:
        is_guarded.append(True)
        return serve(*args, process_request=_checked(guard, process_request), **options)

    with _LOCK:
        sockets.serve = guarded  # pyright: ignore[reportAttributeAccessIssue]  # put back below
        try:
            yield is_guarded
        finally:
            sockets.serve = serve


def _checked(guard: Guard, answer: Callable[[Any, Request], Response | None]) -> Any:
    """What answers a request, after the guard; a link with the token is answered with a cookie and the page without."""

    def process(connection: Any, request: Request) -> Response | None:
        host, origin, cookie = (_one(request.headers, name) for name in ("Host", "Origin", "Cookie"))
        refusal = guard.refusal(request.path, host or "", origin, cookie or "")
        if refusal is not None:
            body = f"{refusal}\n".encode()
            headers = Headers({"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))})
            return Response(HTTPStatus.FORBIDDEN, "Forbidden", headers, body)
        if (cookie := guard.cookie(request.path)) is not None:
            headers = Headers({"Location": "/", "Set-Cookie": cookie, "Content-Length": "0"})
            return Response(HTTPStatus.SEE_OTHER, "See Other", headers, b"")
        return answer(connection, request)

    return process


def _one(headers: Headers, name: str) -> str | None:
    """A header that may stand there once; several are as good as a wrong one."""
    values = headers.get_all(name)
    return ", ".join(values) if values else None
