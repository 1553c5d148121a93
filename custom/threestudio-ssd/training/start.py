"""The embedded text-to-image model as the start of another training: its autoencoder stays, the rest is trained on."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from ..errors import ConfigError, first_line
from ..files import sha256

WEIGHTS = ("unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors")
EMBEDDING = "embeddings.token_embedding.weight"
"""What the name of the only weight ends with that depends on the words."""
CHECKSUM_LENGTH = 12
END_OF_WORD = "</w>"
ENDS_OF_BRANCHES = ("conv2.weight", "conv2.bias", "proj_out.weight", "proj_out.bias")
"""What the names of the last weights of a residual branch end with."""


def checksum(folder: Path) -> str:
    """First figures of the sha256 of a model's U-Net and text encoder: which start a training had.

    Raises:
        ConfigError: If the folder holds no such model.
    """
    missing = [name for name in WEIGHTS if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            what=f"run.start is {folder}, which has no {missing[0]}",
            expected="the folder of a model that make-tiny-models wrote, such as data/tiny-ldm",
            fix="name such a folder, or set run.start= to train from random weights",
        )
    return "-".join(sha256(folder / name)[:CHECKSUM_LENGTH] for name in WEIGHTS)


def copy_autoencoder(folder: Path, work: Path) -> None:
    """Put a model's autoencoder into ``work/vae``, as ``vae.train`` would; single precision."""
    vae: Any = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    vae.save_pretrained(work / "vae")


def load_weights(folder: Path, modules: Mapping[str, nn.Module], tokenizer: CLIPTokenizer) -> None:
    """Load a model's U-Net and text encoder into new ones, whose tokenizer may have other words.

    The new U-Net may have more layers a level; it computes what the old one does, see ``deepened``.

    Args:
        folder: Of the model.
        modules: ``unet`` and ``text_encoder``, as built for training.
        tokenizer: Of the new text encoder.

    Raises:
        ConfigError: If the networks have other shapes.
    """
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    words = CLIPTokenizer.from_pretrained(folder / "tokenizer").get_vocab()
    state = text_encoder.state_dict()
    for name, rows in modules["text_encoder"].state_dict().items():
        if name.endswith(EMBEDDING):
            state[name] = moved_rows(state[name], words, rows, tokenizer.get_vocab())
    try:
        modules["unet"].load_state_dict(deepened(unet, modules["unet"]))
        modules["text_encoder"].load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(
            what=f"run.start is {folder}, a model of other shapes ({first_line(error)})",
            expected="a model whose networks have the shapes of training/unet.py",
            fix="name such a folder, or set run.start= to train from random weights",
        ) from error


def deepened(old: Any, new: Any) -> dict[str, Tensor]:
    """Weights with which a U-Net of more layers a level computes what another one does.

    New layers pass on what comes in: the last layer of their residual branch starts at zero. Down levels grow at their
    end, up levels after their first layer, so that each old layer keeps its skip connection.

    Args:
        old: ``UNet2DConditionModel``.
        new: The same with as many layers or more at each level, of random weights.
    """
    depths, given, state = _depths(old), old.state_dict(), {}
    added = [after - before for before, after in zip(depths, _depths(new), strict=True)]
    for name, value in new.state_dict().items():
        source = _place_before(name, depths, added)
        if source in given:
            state[name] = given[source]
        elif source is None:
            state[name] = _passing_on(name, value)
    return state


def _place_before(name: str, depths: list[int], added: list[int]) -> str | None:
    """What a weight of the deeper network was called before it got deeper; None: it belongs to a new layer."""
    match = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*)", name)
    if match is None:
        return name
    side, level, kind, place, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    index = level if side == "down" else len(depths) - 1 - level
    first = depths[index] if side == "down" else 1
    if first <= place < first + added[index]:
        return None
    before = place if place < first else place - added[index]
    return f"{side}_blocks.{level}.{kind}.{before}.{rest}"


def _passing_on(name: str, value: Tensor) -> Tensor:
    """A weight of a new layer that gives what it gets, and nothing of a skip connection."""
    if name.endswith(ENDS_OF_BRANCHES) or name.endswith("conv_shortcut.bias"):
        return torch.zeros_like(value)
    return torch.eye(*value.shape[:2])[..., None, None] if name.endswith("conv_shortcut.weight") else value


def _depths(unet: Any) -> list[int]:
    """Layers at each level of a ``UNet2DConditionModel``."""
    depth, levels = unet.config.layers_per_block, len(unet.config.block_out_channels)
    return [depth] * levels if isinstance(depth, int) else list(depth)


def moved_rows(old: Tensor, old_ids: Mapping[str, int], new: Tensor, new_ids: Mapping[str, int]) -> Tensor:
    """The rows of a token embedding in the order of another vocabulary.

    Tokens of both keep their row. A new word starts at the mean of all old words, plus its random row, so that it
    neither means one of them nor stands out; a new piece of a word, which no caption has, keeps its random row.

    Args:
        old: Trained rows, (n d).
        old_ids: Token -> row in ``old``.
        new: Random rows, (m d).
        new_ids: Token -> row in ``new``.
    """
    rows, mean = new.clone(), old[[old_ids[token] for token in old_ids if _is_word(token)]].mean(0)
    for token, row in new_ids.items():
        if token in old_ids:
            rows[row] = old[old_ids[token]]
        elif _is_word(token):
            rows[row] += mean
    return rows


def _is_word(token: str) -> bool:
    """Whether a token is a whole word of more than one letter."""
    return token.endswith(END_OF_WORD) and len(token) > len(END_OF_WORD) + 1
