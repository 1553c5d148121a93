"""LPIPS, the learned perceptual distance (Zhang et al. 2018, arXiv:1801.03924)."""

from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..errors import ConfigError, MissingPackageError, first_line
from .lpips_backbones import BACKBONES, Backbone
from .regions import Images, MaskMode, Masks, OneEach, masked_pair, normalised, weighted_mean

Net = Literal["alex", "squeeze", "vgg"]

WEIGHTS_URL = "https://download.pytorch.org/models/"
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


class Lpips(nn.Module):
    """The network behind ``lpips``: features at several depths, unit length per pixel, weighted squared difference.

    Args:
        net: Which feature network.
        linear_weights: The learned weight of each channel, one vector for each depth.
    """

    def __init__(self, net: Net, linear_weights: list[Tensor]) -> None:
        super().__init__()
        build, taps, _ = BACKBONES[net]
        self.backbone = Backbone(build, taps)
        self.linear_weights = nn.ParameterList(linear_weights)
        self.label = f"lpips-{net}"

    def _features(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        outputs = self.backbone(normalised(2 * images - 1, SHIFT, SCALE))
        return [output / (output.square().sum(1, keepdim=True) + 1e-8).sqrt() for output in outputs]

    def forward(
        self, images: Float[Tensor, "b 3 h w"], references: Float[Tensor, "b 3 h w"], spatial: bool = False
    ) -> Tensor:
        """Distance per image (b), or, if ``spatial``, a map of it (b h w)."""
        pairs = zip(self.linear_weights, self._features(images), self._features(references), strict=True)
        maps = [torch.einsum("bdhw,d->bhw", (x - y).square(), weight) for weight, x, y in pairs]
        if not spatial:
            return torch.stack([layer.mean((1, 2)) for layer in maps]).sum(0)
        size = images.shape[-2:]
        resized = [interpolate(layer[:, None], size, mode="bilinear", align_corners=False)[:, 0] for layer in maps]
        return torch.stack(resized).sum(0)


def linear_weights(net: Net) -> list[Tensor]:
    """The learned channel weights (version 0.1), which torchmetrics carries as data.

    Raises:
        MissingPackageError: If torchmetrics is not installed.
    """
    try:
        path = Path(str(files("torchmetrics"))) / "functional" / "image" / "lpips_models" / f"{net}.pth"
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            what="lpips needs torchmetrics for its channel weights", expected="torchmetrics >= 1.4",
            fix="pip install torchmetrics",
        ) from error  # fmt: skip
    state = torch.load(path, map_location="cpu", weights_only=True)
    return [state[f"lin{index}.model.1.weight"].flatten() for index in range(len(state))]


def _backbone_state(net: Net, weights: str) -> dict[str, Tensor]:
    name = BACKBONES[net][2]
    path = Path(weights).expanduser()
    path = path / name if path.is_dir() else path
    try:
        if weights == "torchvision":
            state = torch.hub.load_state_dict_from_url(WEIGHTS_URL + name, map_location="cpu", progress=False)
        elif path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ConfigError(
            what=f"the {net} weights of lpips cannot be loaded from {weights} ({first_line(error)})",
            expected=f"a connection, {name} in torch's hub cache, or a folder that holds it",
            fix=f"download {WEIGHTS_URL}{name} and name its folder",
        ) from error
    return {key: value for key, value in state.items() if key.startswith("features.")}


@lru_cache(maxsize=2)
def load_lpips(net: Net = "alex", weights: str = "torchvision", device: str = "cpu") -> Lpips:
    """Load LPIPS version 0.1; the last two loaded stay in memory.

    Args:
        net: ``alex`` (the usual one for comparing), ``vgg``, or ``squeeze`` (PIE-Bench).
        weights: ``torchvision`` takes the ImageNet weights from torch's hub cache or downloads them; else a
            folder with torchvision's file, or the file itself.
        device: Where to put it.

    Raises:
        ConfigError: If the name is unknown or the weights cannot be loaded or do not fit.
        MissingPackageError: If torchmetrics is not installed.
    """
    if net not in BACKBONES:
        raise ConfigError(what=f"lpips has no network {net!r}", expected="alex, squeeze or vgg", fix="choose one")
    model = Lpips(net, linear_weights(net))
    try:
        # Heads that LPIPS does not look at, such as AlexNet's last pooling, have no weights: strict is right.
        model.backbone.load_state_dict(_backbone_state(net, weights))
    except RuntimeError as error:
        raise ConfigError(
            what=f"the weights at {weights} are not those of {net}",
            expected=f"torchvision's {BACKBONES[net][2]}", fix="name the folder that holds that file",
        ) from error  # fmt: skip
    return model.to(device).eval().requires_grad_(False)


def lpips(
    images: Images, references: Images, masks: Masks = None, *, mask_mode: MaskMode = "region",
    model: Lpips | Net = "alex",
) -> OneEach:  # fmt: skip
    """Learned perceptual distance per image; lower is closer. Carries gradient.

    Args:
        images: Images to be judged, [0, 1].
        references: What they are compared with, [0, 1].
        masks: Where to look (1 inside); None is everywhere. ``region`` averages the spatial map under the mask.
        mask_mode: ``region`` or PIE-Bench's ``zeroed``, see ``masked_pair``.
        model: What ``load_lpips`` returned, or a network's name. PIE-Bench uses ``squeeze``, times 10^3.

    Returns:
        One value per image, >= 0; 0 where the images are equal; NaN for an empty region.

    Raises:
        ConfigError: If the weights cannot be loaded.
        ValueError: If shapes or ranges do not fit.
    """
    is_region = masks is not None and mask_mode == "region"
    images, references, weights = masked_pair(images, references, masks, mask_mode)
    network = model if isinstance(model, Lpips) else load_lpips(model, device=str(images.device))
    if is_region:
        return weighted_mean(network(images, references, spatial=True), weights)
    return network(images, references)
