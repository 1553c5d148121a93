"""A perceptual distance for the offline demo, on the features of the embedded CLIP. It is not LPIPS."""

import torch
from torch.nn.functional import interpolate, normalize

from .clip_model import ClipModel, as_clip
from .regions import Images, MaskMode, Masks, OneEach, masked_pair, weighted_mean


def tiny_perceptual_distance(
    images: Images, references: Images, masks: Masks = None, *, mask_mode: MaskMode = "region",
    model: str | ClipModel = "tiny-clip",
) -> OneEach:  # fmt: skip
    """Mean of 1 - cos between the patch features of two images, over all layers of a CLIP's image network.

    It needs no download and knows the toy world alone: compare runs with each other by it, never with papers,
    and never call it LPIPS.

    Args:
        images: Images to be judged, [0, 1].
        references: What they are compared with, [0, 1].
        masks: Where to look (1 inside), shrunk to the patch grid by area; None is everywhere.
        mask_mode: ``region`` or ``zeroed``, see ``masked_pair``.
        model: A CLIP or its name, see ``load_clip``.

    Returns:
        One value per image in [0, 2]; 0 where the images are equal; NaN for an empty region.

    Raises:
        ConfigError: If the model cannot be loaded.
        ValueError: If shapes or ranges do not fit.
    """
    images, references, weights = masked_pair(images, references, masks, mask_mode)
    clip = as_clip(model, images)
    pixels = clip.prepare(torch.cat([images, references]))
    layers = clip.network.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states[1:]
    first, second = normalize(torch.stack(layers)[:, :, 1:], dim=-1).chunk(2, dim=1)
    distances = (first - second).square().sum(-1).mean(0) / 2
    side = round(distances.shape[1] ** 0.5)
    patch_weights = interpolate(weights[:, None].float(), (side, side), mode="area")[:, 0]
    return weighted_mean(distances.unflatten(1, (side, side)), patch_weights.to(distances))
