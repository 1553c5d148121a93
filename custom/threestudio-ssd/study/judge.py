"""A vision-language model as a voter: every pair of results in both orders, by any OpenAI-compatible endpoint."""

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import threestudio

from ..errors import ConfigError, check_values, first_line
from ..files import write_text
from ..report.pages import data_uri
from .keys import JudgeConfig
from .make import ASKED, PAGE
from .votes import JUDGE, TIE, read_votes, votes_text

ATTEMPTS = 3
MOST_BYTES = 1 << 22
"""Bytes of an answer that are read."""
PROMPT = """\
You compare two edits of a 3D scene. The first image shows views of the scene before the edit. The second image is \
result 1, the third is result 2, from the same cameras. Asked for was: "{words}"
{question} Answer with the number alone on the last line: 1 or 2."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A key goes to the address it was given for, and to no other."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def check_judge(cfg: Any, video_frames: int = 0) -> str:
    """Find out before any work whether a judge can be asked.

    Args:
        cfg: Keys of ``JudgeConfig``.
        video_frames: Of the study.

    Returns:
        Its key, empty for none.

    Raises:
        ConfigError: For a value that cannot be used, or a variable that is not set.
    """
    parts = urlsplit(cfg.url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ConfigError(
            what="judge.url is no address that can be asked",
            expected="such as http://localhost:8000/v1, without a key in it",
            fix="set judge.url; a key belongs into a variable that judge.key_env names",
        )  # fmt: skip
    if not cfg.model:
        raise ConfigError(what="judge.model is empty", expected="a model of judge.url", fix="set judge.model=NAME")
    if cfg.key_env and not os.environ.get(cfg.key_env):
        fix = f"export {cfg.key_env}=..., or leave judge.key_env out"
        raise ConfigError(what=f"judge.key_env names {cfg.key_env}", expected="a variable that is set", fix=fix)
    if video_frames:
        what, fix = "a judge was set, and the study shows videos", "set video_frames=0, or judge.url="
        raise ConfigError(what=what, expected="pictures, which are what a judge is sent", fix=fix)
    rules = {"timeout": (cfg.timeout > 0, "above 0"), "wait": (cfg.wait >= 0, "at least 0")}
    check_values("judge", cfg, JudgeConfig(), rules)
    return os.environ[cfg.key_env] if cfg.key_env else ""


def votes_file(cfg: Any, study: Path) -> Path:
    """Where a judge's votes go."""
    name = re.sub(r"[^\w.-]+", "-", cfg.model)
    return study / f"votes-judge-{name}.csv"


def ask_judge(cfg: Any, study: Path, key: Mapping[str, Any]) -> Path:
    """Ask a judge what it was not asked yet; each answer is kept at once.

    Both orders of a pair are asked. Where the judge chooses by place, its vote is a tie.

    Args:
        cfg: Keys of ``JudgeConfig``.
        study: Folder of the study.
        key: Of the study.

    Returns:
        The file of its votes.

    Raises:
        ConfigError: If a request failed ``ATTEMPTS`` times; what was answered is kept.
        SceneFormatError: If earlier votes cannot be read.
    """
    path, secret = votes_file(cfg, study), check_judge(cfg)
    rows: dict[tuple[str, str], str] = {}
    if path.is_file():
        for vote in read_votes([str(path)], key):
            if vote.participant != JUDGE + cfg.model:
                what, fix = f"{path} holds votes of {vote.participant}", "rename that file"
                raise ConfigError(what=what, expected=f"those of {JUDGE}{cfg.model}", fix=fix)
        lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
        rows = {(line[-3], line[-2]): line[-1] for line in lines}
    wanted = [(pair, asked) for pair in key["pairs"] for asked in ASKED]
    for pair, asked in wanted:
        if (pair["id"], asked) in rows:
            continue
        try:
            choices = [_choice(cfg, secret, study, pair, asked, order) for order in (("A", "B"), ("B", "A"))]
        except _Failed as error:
            why = str(error).replace(secret, "***") if secret else str(error)
            raise ConfigError(
                what=f"the judge at {cfg.url} failed {ATTEMPTS} times: {why}", expected="an answer to each request",
                fix=f"start the same command again: {len(rows)} of {len(wanted)} votes are kept in {path}",
            ) from None  # fmt: skip
        rows[pair["id"], asked] = choices[0] if choices[0] == choices[1] else TIE
        values = [(key["study"], JUDGE + cfg.model, *place, choice) for place, choice in rows.items()]
        write_text(path, votes_text(values))
    ties = sum(choice == TIE for choice in rows.values())
    threestudio.info(f"{cfg.model} voted {len(rows)} times, {ties} of them ties: {path}")
    return path


class _Failed(Exception):
    """A request that brought no answer."""


def _choice(cfg: Any, secret: str, study: Path, pair: Mapping[str, Any], asked: str, order: tuple[str, str]) -> str:
    """The letter that the judge chooses where the pair is shown in an order."""
    files = [pair["source"], *(pair["options"][letter]["file"] for letter in order)]
    images = [data_uri("image/webp", (study / PAGE / "pictures" / file).read_bytes()) for file in files]
    text = PROMPT.format(words=pair["target_prompt"], question=ASKED[asked])
    content = [{"type": "text", "text": text}, *({"type": "image_url", "image_url": {"url": uri}} for uri in images)]
    body = {"model": cfg.model, "messages": [{"role": "user", "content": content}]}
    for attempt in range(ATTEMPTS):
        try:
            return order[_number(_post(cfg, secret, body)) - 1]
        except _Failed:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(cfg.wait * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def _post(cfg: Any, secret: str, body: Mapping[str, Any]) -> str:
    """What the model says."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {secret}"} if secret else {})
    address = f"{cfg.url.rstrip('/')}/chat/completions"
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)  # noqa: S310  # the scheme was checked
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=cfg.timeout) as response:
            answer = json.loads(response.read(MOST_BYTES))
        return str(answer["choices"][0]["message"]["content"])
    except urllib.error.HTTPError as error:
        raise _Failed(
            f"HTTP {error.code} ({first_line(ValueError(error.read(2000).decode(errors='replace')))})"
        ) from None
    except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
        raise _Failed(first_line(error)) from None


def _number(text: str) -> int:
    """The last 1 or 2 that stands alone in an answer."""
    numbers = re.findall(r"(?<![\w.])[12](?![\w]|\.\d)", text)
    if not numbers:
        raise _Failed(f"it answered neither 1 nor 2, but {first_line(ValueError(text))!r}")
    return int(numbers[-1])
