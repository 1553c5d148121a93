"""Attention taps: self-attention outputs of a network as feature maps that carry gradient.

The contrastive loss of CDS (Nam et al. 2024, arXiv:2311.18608) compares, between source and target, the output of
every self-attention layer (``attn1``, after its output projection) on the way up the U-Net.
"""

from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ConfigError
from .backbone import Backbone


class AttentionTaps:
    """Collects feature maps while it is entered: one list of maps for each network call.

    Example::

        with AttentionTaps(backbone) as taps:
            backbone.predict_noise(latents_noisy, timesteps, prompts, with_grad=True)
        maps = taps.calls[-1]  # list of (b c h w), coarse to fine, attached to the graph

    Args:
        backbone: Its U-Net is tapped; a compiled one must not be.

    Raises:
        ConfigError: If the network has no up path (SD 3's transformer).
    """

    def __init__(self, backbone: Backbone) -> None:
        unet = backbone.network
        if not hasattr(unet, "up_blocks"):
            what = f"model '{backbone.model_id}' has no U-Net to take self-attention features from"
            fix = "choose such a model, or switch the contrastive term off"
            raise ConfigError(what=what, expected="a model with a U-Net (SD 1.x, 2.x, XL, InstructPix2Pix)", fix=fix)
        self.calls: list[list[Float[Tensor, "b c h w"]]] = []
        self._unet = unet
        self._latent_size = (1, 1)
        self._handles = []

    @property
    def layer_names(self) -> list[str]:
        """The tapped layers, in the order of their maps."""
        return [name for name, _ in self._layers()]

    def __enter__(self) -> "AttentionTaps":
        self._handles = [self._unet.register_forward_pre_hook(self._begin, with_kwargs=True)]
        self._handles += [layer.register_forward_hook(self._keep) for _, layer in self._layers()]
        return self

    def __exit__(self, *raised: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _layers(self) -> list[tuple[str, nn.Module]]:
        named = self._unet.up_blocks.named_modules(prefix="up_blocks")
        return [(name, layer) for name, layer in named if name.endswith(".attn1")]

    def _begin(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        latents = args[0] if args else kwargs["sample"]
        self._latent_size = tuple(latents.shape[-2:])
        self.calls.append([])

    def _keep(self, module: nn.Module, args: tuple, output: Float[Tensor, "b hw c"]) -> None:
        height, width = size_with(output.shape[1], self._latent_size)
        self.calls[-1].append(output.mT.unflatten(-1, (height, width)))


def size_with(num_tokens: int, latent_size: tuple[int, int]) -> tuple[int, int]:
    """The level of the U-Net (each halves the one above, rounding up) that has `num_tokens` cells."""
    height, width = latent_size
    while height * width != num_tokens:
        if height * width < num_tokens or height * width == 1:
            raise ValueError(f"no level of a {latent_size[0]}x{latent_size[1]} latent has {num_tokens} cells")
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width
