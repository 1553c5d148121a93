"""CLIP similarity: does the image show what the text says?"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .clip_model import ClipModel, as_clip, as_texts


@torch.no_grad()
def clip_similarity(
    images: Float[Tensor, "b 3 h w"], prompts: str | Sequence[str], model: str | ClipModel = "tiny-clip"
) -> Float[Tensor, " b"]:
    """Cosine between an image's and its prompt's CLIP features (Haque et al. 2023, arXiv:2303.12789, metrics).

    Args:
        images: Images in [0, 1].
        prompts: The target text, one for all images or one for each.
        model: A CLIP or its name, see ``load_clip``. The published figures use ``ViT-L/14``.

    Returns:
        One value per image in [-1, 1], signed. (CLIPScore, Hessel et al. 2021, is 100 max(value, 0).)

    Raises:
        ConfigError: If the model cannot be loaded.
        ValueError: If the images are not in [0, 1] or the prompts do not fit in number.
    """
    clip = as_clip(model, images)
    texts = as_texts(prompts, len(images))
    return (clip.embed_images(images) * clip.embed_texts(texts)).sum(-1)
