"""Score distillation of a field of latents (ED-NeRF, Park et al. 2023, arXiv:2310.02712): no encoder in the loop."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..cameras import Cameras
from ..errors import ConfigError
from ..fields import LatentField
from .gaussian_edit import SceneUnderEdit
from .objectives import Distillation


class LatentDistillation(Distillation):
    """Rendered and refined latents are what the score sees; its gradient goes through the refining layer to the nodes.

    The source's latents are rendered as well, so that source and edit agree to the bit where nothing changed.
    """

    def prepare(self, scenes: Sequence[SceneUnderEdit], views_per_step: int) -> None:
        """See ``Distillation``; what is masked has the size that the field was fitted to."""
        views, space = scenes[0].cameras, scenes[0].editable.source.space
        width, height = space.cells(int(views.widths[0]), int(views.heights[0]))
        self.size = (width * space.downscale, height * space.downscale)
        super().prepare(scenes, views_per_step)

    def look(
        self, scene: LatentField, cameras: Cameras, background: Float[Tensor, "3"], **options: Any
    ) -> tuple[Float[Tensor, "b zh zw d"], dict[str, Any]]:
        """Refined latents; behind the scene is the latent that the field was fitted with."""
        return scene.render_latents(cameras)[0].permute(0, 2, 3, 1), {}

    def _shown(self, images: Float[Tensor, "b zh zw d"]) -> Float[Tensor, "b d zh zw"]:
        return images.permute(0, 3, 1, 2)

    def _latents(self, renders: Float[Tensor, "b d zh zw"]) -> Float[Tensor, "b d zh zw"]:
        return renders

    def _pictures(self, renders: Float[Tensor, "b d zh zw"]) -> Float[Tensor, "b 3 h w"]:
        return self.guidance.backbone.decode(renders)


def check_latent_edit(cfg: Any, crop: str) -> None:
    """Refuse what is said of colours and pictures: an edit of latents sees neither.

    Args:
        cfg: Keys of ``SceneEditConfig``.
        crop: That of the views.

    Raises:
        ConfigError: For the first key.
    """
    keep = cfg.keep
    asked = [
        ("system.colors", cfg.colors, "free"), ("system.lambda_shading", cfg.lambda_shading, 0),
        ("system.lambda_detail", cfg.lambda_detail, 0), ("system.keep.lambda_mse", keep.lambda_mse, 0),
        ("system.keep.lambda_clip", keep.lambda_clip, 0), ("data.crop", crop, "none"),
    ]  # fmt: skip
    for key, value, usual in asked:
        if value != usual:
            raise ConfigError(
                what=f"{key} is {value}, and scene {cfg.scene} is a radiance field of latents, which an edit sees as "
                "they are, in whole views", expected=str(usual), fix=f"set {key}={usual}, or start from "
                "configs/ed-nerf.yaml",
            )  # fmt: skip
