"""Who may talk to a server of ours: this machine's browser, and beyond this machine whoever has the token."""

import hmac
import secrets
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from ..errors import ConfigError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names that a browser of this machine calls it by."""
LEAST_TOKEN = 16
"""Characters of a token that cannot be guessed by trying."""


@dataclass(frozen=True)
class Guard:
    """Which requests a server answers.

    A page of the web can make a browser send requests here, under a name of its own that points to this machine. Such
    a name stands in ``Host``, and such a page in ``Origin``, so both are read. Beyond loopback any name may be right,
    and a token decides, which the first link carries and a cookie from then on.

    Attributes:
        host: Address that the server is bound to.
        token: What must be known; None: nothing, on loopback alone.
        origins: Pages elsewhere that may ask, such as ``https://superspl.at``.
    """

    host: str
    token: str | None = None
    origins: tuple[str, ...] = ()

    def refusal(self, path: str, host: str, origin: str | None, cookie: str = "") -> str | None:
        """Why a request is not answered; None if it is.

        Args:
            path: Path and query.
            host: Its header ``Host``.
            origin: Its header ``Origin``; None without.
            cookie: Its header ``Cookie``.
        """
        if self.host in LOOPBACK and name_of(host) not in LOOPBACK:
            return f"host {host!r} is not this machine"
        if origin is not None and origin not in (f"http://{host}", *self.origins):
            return f"origin {origin!r} is another page"
        if self.token is not None and not self._knows_token(cookie, path):
            return "the token is missing; open the link that was printed"
        return None

    def cookie(self, path: str) -> str | None:
        """The cookie for a request whose link carries the token; None for all others."""
        if self.token is None or not self._is_token(_token_in(path)):
            return None
        return f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/"

    def _knows_token(self, cookie: str, path: str) -> bool:
        try:
            morsel = SimpleCookie(cookie).get(COOKIE)
        except CookieError:
            morsel = None
        return self._is_token(morsel.value if morsel else "") or self._is_token(_token_in(path))

    def _is_token(self, text: str) -> bool:
        return self.token is not None and hmac.compare_digest(text.encode(), self.token.encode())


COOKIE = "threestudio-ssd-token"


def guard_of(host: str, token: str | None) -> Guard:
    """The guard of a server by the keys ``host`` and ``token``; beyond loopback a token is drawn where none is given.

    Raises:
        ConfigError: For a token that could be guessed, or that no link could carry.
    """
    if token is not None and (len(token) < LEAST_TOKEN or not token.replace("-", "").replace("_", "").isalnum()):
        what = f"token has {len(token)} characters" if len(token) < LEAST_TOKEN else "token is no plain word"
        expected = f"at least {LEAST_TOKEN} letters, digits, - and _"
        raise ConfigError(what=what, expected=expected, fix="leave it out, and one is drawn where it is needed")
    if token is None and host not in LOOPBACK:
        token = secrets.token_urlsafe(24)
    return Guard(host, token)


def link_of(guard: Guard, port: int) -> str:
    """The address to open in a browser."""
    host = "localhost" if guard.host in LOOPBACK else guard.host
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/" + (f"?token={guard.token}" if guard.token else "")


def name_of(host: str) -> str:
    """The name in a ``Host`` header, without its port."""
    return urlsplit(f"//{host}").hostname or "" if not set(host) & set("/@?#\\") else ""


def _token_in(path: str) -> str:
    return parse_qs(urlsplit(path).query).get("token", [""])[0]
