"""How a trained model gets into the folder that it is read from, with a page that says what it is."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..files import markdown_table, weights_table, write_json, write_text


def save_pipeline(kind: Any, out: Path, readme: Callable[[Path], None] | None = None, **parts: Any) -> None:
    """Put a whole model in diffusers layout, float16, in the place of what was there.

    Args:
        kind: The class of its ``DiffusionPipeline``.
        out: Its folder; pages and images (``*.md``, ``*.png``) that are there already stay.
        readme: Writes ``README.md``, and what else belongs there, into the folder of the weights; None: nothing new.
        **parts: Networks, tokenizer and scheduler, by the names that the pipeline has for them.
    """
    parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = kind(**parts).to(torch.float16)
    staging = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    pipeline.save_pretrained(staging, safe_serialization=True)
    for config in staging.glob("*/config.json"):
        _forget_origin(config)
    for kept in [*out.glob("*.md"), *out.glob("*.png")]:
        shutil.copy(kept, staging / kept.name)
    if readme is not None:
        readme(staging)
    replace_folder(staging, out)


def replace_folder(new: Path, folder: Path) -> None:
    """Put a whole folder in the place of another, which stays until the new one is there."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def save_and_reload(network: Any, tokenizer: Any, folder: Path, **settings: Any) -> Any:
    """Write a network of transformers in half precision with its tokenizer; give back what a reader of them gets.

    Args:
        network: A CLIP or CLIPSeg.
        tokenizer: Its tokenizer.
        folder: Where they go.
        **settings: Of its images, for ``preprocessor_config.json``.
    """
    network.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", settings)
    return type(network).from_pretrained(folder).float().eval()


def write_readme(
    folder: Path, name: str, about: str, recipe: str, heading: str = "", figures: Mapping[str, float] | str = ""
) -> None:
    """Write ``README.md`` beside the weights.

    Args:
        folder: Holds the weights, itself or in folders of its parts.
        name: Of the model.
        about: What it is, where it comes from, its licence.
        recipe: How it was trained.
        heading: What the figures were measured on.
        figures: Shares in [0, 1] by name, or a Markdown table of them.
    """
    weights = weights_table(folder)
    if not isinstance(figures, str):
        figures = markdown_table(("figure", "share"), [(key, f"{share:.4f}") for key, share in figures.items()])
    parts = (f"# {name}", about.strip(), weights, f"Recipe: {recipe}", heading, figures)
    write_text(folder / "README.md", "\n\n".join(filter(None, parts)) + "\n")


def _forget_origin(config: Path) -> None:
    """Take the path of the folder that a part was read from out of its saved config."""
    keys = json.loads(config.read_text())
    if keys.pop("_name_or_path", None) is not None:
        write_json(config, keys)
