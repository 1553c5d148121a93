"""GaussCtrl: every view also attends to a few reference views, and a ControlNet holds it to its depth."""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ...diffusion.attention import Layer
from ...errors import ConfigError
from ...pretrained import ModelUse, frozen, locate
from ...seeds import generator
from ..editor import ImageEditor, Views
from .attention import Attend, attend_own, by_azimuth, parts_of, pick, view_attention
from .consistency import Consistency, unet_of

STREAM = "gaussctrl"
CONTROLNET = ModelUse(
    key="system.editing.consistency.controlnet",
    expected="a folder or hub id of a depth ControlNet of the model's family",
    layout="a ControlNet of diffusers (config.json and its weights)",
    probe="config.json",
    fix="check the name, or leave system.editing.consistency.controlnet empty",
)


@dataclass(frozen=True)
class GaussCtrl(Consistency):
    """Attention-based latent alignment (Wu et al. 2024, arXiv:2403.08733, section 3.3), with depth if a ControlNet is
    given.

    In every self-attention layer of the U-Net a view gives (1 - w) of its own attention and w of the mean of its
    attentions to the reference views; in the ControlNet's, the latter alone. Published with the editor ``inversion``.
    """

    needs = frozenset({"cameras", "depths"})

    num_references: int = 4
    """Reference views, one at random out of each such part of the way round; the same for all steps."""
    weight: float = 0.4
    """w in [0, 1]."""
    controlnet: str = ""
    """Folder or hub id of a depth ControlNet; empty: none."""
    controlnet_scale: float = 1.0
    """Factor on what the ControlNet adds."""

    def load(self, network: Any, device: torch.device, **options: Any) -> Any:
        """The ControlNet, if there is one; see ``Consistency``."""
        unet = unet_of(network, "gaussctrl")
        if not 0 <= self.weight <= 1:
            key = "system.editing.consistency.weight"
            raise ConfigError(what=f"{key} is {self.weight}", expected="0 to 1", fix=f"set {key}=0.4")
        if not self.controlnet:
            return None
        from diffusers import ControlNetModel

        location = locate(self.controlnet, CONTROLNET, **options)
        return frozen(location.read_network(ControlNetModel.from_pretrained, dtype=unet.dtype), device)

    def edit(self, editor: ImageEditor, network: Any, views: Views, own: Any) -> Float[Tensor, "b 3 h w"]:
        """See ``Consistency``."""
        assert views.cameras is not None
        parts = parts_of(by_azimuth(views.cameras.centers), self.num_references)
        references = pick(parts, generator(views.seeds[0], views.round, STREAM))
        unet = unet_of(network, "gaussctrl")
        with view_attention(unet, len(views), reference_attention(references, self.weight)):
            if own is None:
                return editor.edit(network, views)
            with (
                view_attention(own, len(views), reference_attention(references, 1.0)),
                controlled(unet, own, disparity_images(views), self.controlnet_scale),
            ):
                return editor.edit(network, views)


def reference_attention(references: list[int], weight: float) -> Attend:
    """(1 - w) of a view's own attention, w of the mean of its attentions to the references."""

    def attend(layer: Layer, hidden: Tensor) -> Tensor:
        given = (1 - weight) * attend_own(layer, hidden) if weight < 1 else torch.zeros_like(hidden)
        for reference in references:
            seen = hidden[:, reference : reference + 1].expand_as(hidden)
            to_it = layer.attend(hidden.flatten(0, 1), seen.flatten(0, 1)).view_as(hidden)
            given = given + weight / len(references) * to_it
        return given

    return attend


def disparity_images(views: Views) -> Float[Tensor, "b 3 h w"]:
    """What a depth ControlNet reads: 1 / depth, the nearest at 1, in three equal channels."""
    assert views.depths is not None
    disparity = 1 / (views.depths + 1e-5)
    disparity = torch.where(views.depths > 0, disparity, 0.0)
    largest = disparity.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
    return (disparity / largest).expand(-1, 3, -1, -1)


@contextmanager
def controlled(unet: Any, controlnet: Any, images: Float[Tensor, "b 3 h w"], scale: float):
    """While entered, a ControlNet (Zhang et al. 2023, arXiv:2302.05543) adds its features in every call of a U-Net.

    Args:
        unet: A ``UNet2DConditionModel``.
        controlnet: A ``ControlNetModel`` of the same shape.
        images: What it reads, one for each view; every prompt's rows get the same.
        scale: Factor on what it adds.
    """

    def add(module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        sample, timestep, hidden = args[:3]
        seen = images.repeat(len(sample) // len(images), 1, 1, 1).to(sample)
        channels = controlnet.config.in_channels
        down, middle = controlnet(
            sample[:, :channels], timestep, encoder_hidden_states=hidden, controlnet_cond=seen,
            conditioning_scale=scale, return_dict=False,
        )  # fmt: skip
        return args, {
            **kwargs, "down_block_additional_residuals": down, "mid_block_additional_residual": middle,
        }  # fmt: skip

    handle = unet.register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
