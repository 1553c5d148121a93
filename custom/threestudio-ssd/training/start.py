"""The embedded text-to-image model as the start of another training: its autoencoder stays, the rest is trained on."""

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
        modules["unet"].load_state_dict(unet.state_dict())
        modules["text_encoder"].load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(
            what=f"run.start is {folder}, a model of other shapes ({first_line(error)})",
            expected="a model whose networks have the shapes of training/unet.py",
            fix="name such a folder, or set run.start= to train from random weights",
        ) from error


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
