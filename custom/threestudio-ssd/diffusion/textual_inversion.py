"""Textual inversions (Gal et al. 2022, arXiv:2208.01618): new words of a prompt, with embeddings from files."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ..errors import ConfigError, SceneFormatError, first_line
from .models import Components

EXPECTED = "a .safetensors textual inversion for this kind of model"


class Embedding(NamedTuple):
    """One file and the word that stands for it; written ``path`` or ``path:word``, without it the file's name."""

    path: str
    word: str

    @classmethod
    def of(cls, value: str | Path) -> "Embedding":
        """An Embedding from its text.

        Raises:
            ConfigError: If there is no such file, or no word.
        """
        match = re.fullmatch(r"(.+\.safetensors)(?::(\S+))?", str(value))
        path = Path(match[1]).expanduser() if match is not None else None
        if match is None or path is None or not path.is_file():
            what, expected = f"embeddings has '{value}'", "the path of a .safetensors file, or path:word"
            raise ConfigError(what=what, expected=expected, fix="download the file and correct embeddings=")
        return cls(str(path), match[2] or path.stem)


def add_embeddings(components: Components, values: Sequence[str | Path]) -> None:
    """Teach the text encoders of `components` new words, in place; diffusers puts them in.

    Raises:
        ConfigError: If a file does not exist.
        SceneFormatError: If a file holds no embeddings of the width of a text encoder.
    """
    from diffusers.loaders import TextualInversionLoaderMixin

    for embedding in map(Embedding.of, values):
        loader: Any = TextualInversionLoaderMixin()
        loader.components, loader.hf_device_map = {}, None  # a pipeline has these
        tensors = _read(embedding.path)
        texts = [
            pair for pair in zip(components.tokenizers, components.text_networks, strict=True) if pair[1] is not None
        ]
        fitting = [(each, _of_width(tensors, each[1].get_input_embeddings().weight.shape[1])) for each in texts]
        if not any(rows is not None for _, rows in fitting):
            widths = ", ".join(str(rows.shape[-1]) for rows in tensors)
            what = f"embedding '{embedding.path}' has width {widths}, as no text encoder of '{components.model_id}'"
            raise SceneFormatError(what=what, expected=EXPECTED, fix="choose one that was trained for this model")
        for (tokenizer, network), rows in fitting:
            if rows is None:
                continue
            try:
                loader.load_textual_inversion(rows, token=embedding.word, tokenizer=tokenizer, text_encoder=network)
            except ValueError as error:
                what = f"embeddings: the word '{embedding.word}' cannot be added ({first_line(error)})"
                raise ConfigError(what=what, expected="a new word", fix="write path:word with another") from error
        components.embeddings.append(f"{embedding.path}:{embedding.word}")


def _of_width(tensors: Sequence[Tensor], width: int) -> Tensor | None:
    return next((rows for rows in tensors if rows.shape[-1] == width), None)


def _read(path: str) -> list[Tensor]:
    """The embeddings in a file, one tensor for each text encoder."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = list(load_file(path).values())
    except (SafetensorError, OSError) as error:
        what = f"embedding '{path}' cannot be read ({type(error).__name__}: {first_line(error)})"
        raise SceneFormatError(what=what, expected=EXPECTED, fix="download it again") from error
    return [rows.float().reshape(-1, rows.shape[-1]).squeeze(0) for rows in tensors if rows.dim() in (1, 2)]
