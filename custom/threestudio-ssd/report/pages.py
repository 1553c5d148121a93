"""Pages that people read: one house style and one base for all, filled in by templates that escape what they are given.

Pictures go into a page as WebP, and a page asks for nothing from the network: ``templates/base.html`` forbids it.
"""

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from ..files import write_text

TEMPLATES = Path(__file__).parent / "templates"
LONGEST, QUALITY = 1024, 88
"""Longer side of a picture in a page, pixels, and its quality as WebP."""


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def fill(template: str, **content: Any) -> str:
    """The text that a template of ``templates/`` makes of its content; all texts are escaped."""
    return _templates().get_template(template).render(content)


def write_page(path: str | Path, template: str, **content: Any) -> None:
    """The same, written, whole or not at all."""
    write_text(path, fill(template, **content))


def as_webp(picture: Image.Image | UInt8[np.ndarray, "h w 3"], longest: int = LONGEST) -> bytes:
    """A picture as a WebP file, made smaller where its longer side has more than ``longest`` pixels."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image = image.convert("RGB")
    image.thumbnail((longest, longest))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY, method=4)
    return file.getvalue()


def data_uri(kind: str, content: bytes) -> str:
    """A file as an address that holds it, such as of the kind ``image/webp``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def inline(picture: Image.Image | UInt8[np.ndarray, "h w 3"], longest: int = LONGEST) -> str:
    """A picture as an address that holds it."""
    return data_uri("image/webp", as_webp(picture, longest))
