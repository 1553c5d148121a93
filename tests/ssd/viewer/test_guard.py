"""Whom a server answers: names of this machine and its own pages, beyond it whoever has the token."""

import pytest

from threestudio_ssd.errors import ConfigError
from threestudio_ssd.viewer.guard import COOKIE, Guard, guard_of, link_of, name_of

TOKEN = "a-token-that-nobody-guesses"


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:8080", "LOCALHOST:9000"])
def test_names_of_this_machine_are_answered_on_loopback(host):
    guard = Guard("127.0.0.1")
    assert guard.refusal("/", host, None) is None
    assert guard.refusal("/", host, f"http://{host}") is None


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:8080", "localhost.evil.example", "evil@localhost", "localhost#.evil"]
)
def test_other_names_are_refused_on_loopback(host):
    assert "is not this machine" in (Guard("127.0.0.1").refusal("/", host, None) or "")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:9999", "https://localhost:8080", ""]
)
def test_pages_elsewhere_are_refused(origin):
    for guard in (Guard("127.0.0.1"), Guard("0.0.0.0", TOKEN)):  # nothing is bound
        refused = guard.refusal(f"/?token={TOKEN}", "localhost:8080", origin)
        assert refused is not None
        assert "is another page" in refused
    friend = Guard("127.0.0.1", origins=("https://superspl.at",))
    assert friend.refusal("/", "localhost", "https://superspl.at") is None


def test_beyond_loopback_the_token_decides():
    guard = Guard("0.0.0.0", TOKEN)  # nothing is bound
    here = ("/", "192.168.1.7:8080", None)
    assert "token is missing" in (guard.refusal(*here) or "")
    assert guard.refusal(*here, f"{COOKIE}={TOKEN}") is None
    assert guard.refusal(f"/?token={TOKEN}", *here[1:]) is None
    for wrong in (f"{COOKIE}={TOKEN[:-1]}", f"{COOKIE}=", "other=1", f"{COOKIE}=\u00e9", '"'):
        assert guard.refusal(*here, wrong) is not None
    assert guard.refusal("/?token=", *here[1:]) is not None
    assert guard.cookie("/?token=wrong") is None
    assert guard.cookie(f"/?token={TOKEN}") == f"{COOKIE}={TOKEN}; HttpOnly; SameSite=Strict; Path=/"
    assert Guard("127.0.0.1").cookie("/?token=") is None


def test_a_token_is_drawn_where_it_is_needed():
    assert guard_of("localhost", None).token is None
    drawn = [guard_of("0.0.0.0", None).token or "" for _ in range(2)]  # nothing is bound
    assert drawn[0] != drawn[1]
    assert min(map(len, drawn)) >= 16
    assert guard_of("::1", TOKEN).token == TOKEN
    for token, said in (
        ("short", "5 characters"),
        ("with a space in the midst", "no plain word"),
        ("", "0 characters"),
    ):
        with pytest.raises(ConfigError, match=said):
            guard_of("localhost", token)


def test_the_link_is_what_a_browser_opens():
    assert link_of(Guard("127.0.0.1"), 8080) == "http://localhost:8080/"
    assert link_of(Guard("10.0.0.5", TOKEN), 81) == f"http://10.0.0.5:81/?token={TOKEN}"
    assert link_of(Guard("fe80::1", TOKEN), 81).startswith("http://[fe80::1]:81/")
    assert name_of("[::1]:8080") == "::1"
