"""Makes a study: pictures of every result by the same cameras, a page that does not say whose they are, and its key."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from threestudio.utils.saving import SaverMixin

from ..data import ViewPlan
from ..data.keys import GSViewsConfig
from ..errors import ConfigError, check_values
from ..files import write_bytes, write_text
from ..gaussians import Gaussians
from ..gaussians.io import load_gaussians
from ..host import parse_structured
from ..images import pixels_of
from ..rendering import render_each
from ..report.pages import as_webp, write_page
from ..seeds import generator
from .keys import StudyConfig
from .results import Result, edits_of, key_text, read_key

ASKED = {
    "follows": "Which result follows the words best?",
    "keeps": "Which result best keeps everything that the words do not mention?",
}
"""What people are asked of each question, as in the paper."""
PAGE, KEY = "page", "study-key.json"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LONGEST = 1280
"""Longer side of a picture of several views, pixels."""


def make_study(cfg: Any) -> dict[str, Any]:
    """Render, and write ``page/`` and ``study-key.json`` into ``cfg.out``.

    Args:
        cfg: Keys of ``StudyConfig``.

    Returns:
        The key.

    Raises:
        ConfigError: For a value that cannot be used, or where another study is in that folder.
    """
    rules = {"views": (cfg.views >= 1, "at least 1"), "video_frames": (cfg.video_frames >= 0, "at least 0")}
    check_values("run", cfg, StudyConfig(), {**rules, "size": (cfg.size >= 16, "at least 16")})
    edits = edits_of(cfg)
    if (most := max(map(len, edits.values()))) > len(LETTERS):
        raise ConfigError(what=f"an edit has {most} results", expected=f"at most {len(LETTERS)}", fix="name fewer")
    contents: dict[str, Any] = {}
    questions: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for (source, words), methods in edits.items():
        files = dict(_pictures(cfg, source, methods, contents))
        about = {"edit": f"{Path(source).stem}: {words}", "target_prompt": words, "source": files.pop("")}
        both = list(combinations(methods, 2))
        for names in both if cfg.show == "pairs" else [tuple(methods)]:
            questions.append({**about, "options": _shuffled(names, files, cfg.seed, len(questions), "study")})
        for names in both:
            pairs.append({**about, "options": _shuffled(names, files, cfg.seed, len(pairs), "study-pairs")})
    order = torch.randperm(len(questions), generator=generator(cfg.seed, 0, "study-questions")).tolist()
    key = {
        "study": "", "title": cfg.title, "seed": cfg.seed,
        "methods": sorted({name for methods in edits.values() for name in methods}),
        "questions": [{"id": f"q{number + 1}", **questions[place]} for number, place in enumerate(order)],
        "pairs": [{"id": f"p{number + 1}", **pair} for number, pair in enumerate(pairs)],
    }  # fmt: skip
    key["study"] = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
    _write(Path(cfg.out), key, contents)
    return key


def _pictures(
    cfg: Any, source: str, methods: Mapping[str, Result], contents: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """Method, "" for the source, and the file that shows it; its content goes into ``contents``.

    Files are named after their content, so that a name says nothing of who made it.
    """
    before, first = load_gaussians(source), next(iter(methods.values()))
    keys = dict(first.views)
    if cfg.cameras or cfg.up is not None:
        keys = {"cameras": cfg.cameras, "world": cfg.world, "up": cfg.up}
    keys |= {
        "num_train_views": 2, "num_test_views": cfg.views, "test_size": cfg.size, "video_frames": cfg.video_frames,
        "check_capture": False,
    }  # fmt: skip
    views = ViewPlan(parse_structured(GSViewsConfig, keys)).views(before, cfg.size, 2)
    background = torch.tensor(list(cfg.background))
    for method, splat in [
        ("", before),
        *((name, load_gaussians(each.splat, beside=before)) for name, each in methods.items()),
    ]:
        yield (
            method,
            _picture(splat, views.video if cfg.video_frames else views.test, background, cfg.video_frames, contents),
        )


def _picture(
    splat: Gaussians, cameras: Any, background: Float[Tensor, "3"], video_frames: int, contents: dict[str, Any]
) -> str:
    images = [pixels_of(image) for image in render_each(splat, cameras, background)]
    content: Any = images if video_frames else as_webp(_montage(images), LONGEST)
    digest = hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()[:16]
    file = f"{digest}.{'mp4' if video_frames else 'webp'}"
    contents[file] = content
    return file


def _montage(images: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures in rows that make a square, smaller ones on black."""
    across = int(np.ceil(np.sqrt(len(images))))
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    cells = np.zeros((int(np.ceil(len(images) / across)) * across, height, width, 3), np.uint8)
    for cell, image in zip(cells, images, strict=False):
        cell[: image.shape[0], : image.shape[1]] = image
    rows = [np.concatenate(list(cells[start : start + across]), axis=1) for start in range(0, len(cells), across)]
    return np.concatenate(rows)


def _shuffled(
    names: Sequence[str], files: Mapping[str, str], seed: int, number: int, stream: str
) -> dict[str, dict[str, str]]:
    """Letter -> method and file, the methods in an order of chance."""
    order = torch.randperm(len(names), generator=generator(seed, number, stream)).tolist()
    shuffled = [names[int(place)] for place in order]
    return {letter: {"method": name, "file": files[name]} for letter, name in zip(LETTERS, shuffled, strict=False)}


def _write(out: Path, key: dict[str, Any], contents: Mapping[str, Any]) -> None:
    if (out / KEY).exists() and read_key(out / KEY)["study"] != key["study"]:
        raise ConfigError(
            what=f"{out} holds another study, whose votes could no longer be read", expected="an empty folder",
            fix="choose another out, or remove that one",
        )  # fmt: skip
    folder = SaverMixin()
    folder.set_save_dir(out / PAGE)
    for file, content in sorted(contents.items()):
        if file.endswith(".mp4"):
            folder.save_video(f"pictures/{file}", content)
        else:
            write_bytes(out / PAGE / "pictures" / file, content)
    questions = [
        {
            "id": question["id"], "words": question["target_prompt"], "source": question["source"],
            "options": {letter: option["file"] for letter, option in question["options"].items()},
        }
        for question in key["questions"]
    ]  # fmt: skip
    write_page(
        out / PAGE / "index.html",
        "study.html",
        title=key["title"],
        study=key["study"],
        questions=questions,
        asked=ASKED,
    )
    write_text(out / KEY, key_text(key))
