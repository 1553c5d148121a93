"""Fields of latents and the autoencoders they are seen through: the one place that brings the two together."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import torch

from .diffusion import Backbone, load_backbone
from .errors import ConfigError, SceneFormatError
from .fields import AutoencoderName, LatentField
from .scenes import Scene, load_scene


def checksum_of(vae: Any) -> str:
    """Checksum of an autoencoder's weights, the same in whichever precision up to half it was loaded."""
    digest = hashlib.sha256()
    for name, weight in sorted(vae.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().bfloat16().view(torch.int16).contiguous().numpy().tobytes())
    return digest.hexdigest()


def name_of(backbone: Backbone) -> AutoencoderName:
    """The autoencoder of a model, as the file of a field names it."""
    checksum = checksum_of(backbone.vae)
    return AutoencoderName(checksum, backbone.model_id, backbone.revision, backbone.vae_id, backbone.vae_revision)


def seen_through(field: LatentField, backbone: Backbone, path: str | Path) -> LatentField:
    """A field of latents with the decoder of a model at hand.

    Args:
        field: Anywhere.
        backbone: The model.
        path: The field's, for messages.

    Raises:
        ConfigError: If the latents are of another autoencoder.
        SceneFormatError: If the field's file says something else of it.
    """
    made = field.space.autoencoder
    if checksum_of(backbone.vae) != made.checksum:
        vae = f" vae={made.vae}" if made.vae else ""
        raise ConfigError(
            what=f"scene {path} holds latents of the autoencoder of {made.model}{vae and f' with{vae}'}, and model "
            f"{backbone.model_id} has another", expected="the model that the field was fitted with",
            fix=f"set model={made.model}{vae}, or fit a field anew: configs/fit-ed-nerf.yaml",
        )  # fmt: skip
    if field.space.downscale != backbone.downscale:
        raise SceneFormatError(
            what=f"scene {path} has the latent.downscale {field.space.downscale}, and its autoencoder "
            f"{backbone.downscale}", expected="a field as it was written", fix="copy the whole folder again",
        )  # fmt: skip
    return field.decoded_by(lambda latents: backbone.decode(latents.to(backbone.device)).to(latents.device))


def load_visible(path: str | Path, *, beside: Scene | None = None) -> Scene:
    """The scene of a file, ready to be shown: for a field of latents its autoencoder is loaded.

    Args:
        path: As for ``load_scene``.
        beside: As for ``load_scene``.

    Raises:
        ConfigError: If the autoencoder cannot be had, or is another one by now.
        SceneFormatError: If the scene cannot be read.
    """
    scene = load_scene(path, beside=beside)
    if not isinstance(scene, LatentField):
        return scene
    return seen_through(scene, _model(scene.space.autoencoder), path)


@cache
def _model(made: AutoencoderName) -> Backbone:
    """The model that has an autoencoder; the scenes that a command compares share it."""
    model = load_backbone(made.model, revision=made.revision, vae=made.vae, vae_revision=made.vae_revision)
    model.free_text_encoder()
    return model
