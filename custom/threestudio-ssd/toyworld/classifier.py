"""The judge of toy edits: which object, colour, pattern, ground and time of day does an image show?"""

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..errors import ConfigError, first_line
from ..files import sha256
from ..pretrained import DATA
from .vocabulary import ATTRIBUTES

IMAGE_SIZE = 64
WEIGHTS_NAME = "classifier.safetensors"
DEFAULT_FOLDER = DATA / "tiny-classifier"


class AttributeReading(NamedTuple):
    """What the classifier reads of one attribute in a stack of images."""

    logits: Float[Tensor, "b k"]
    labels: Int[Tensor, " b"]
    words: list[str]


def _conv(num_in: int, num_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(num_in, num_out, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(num_out), nn.ReLU()
    )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class AttributeClassifier(nn.Module):
    """A small convolutional network with one head for each attribute of the toy world."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.PixelUnshuffle(2), _conv(12, 32), _Residual(32), _conv(32, 64, 2), _Residual(64),
            _conv(64, 128, 2), _Residual(128),
        )  # fmt: skip
        self.heads = nn.ModuleDict({name: nn.Linear(256, len(words)) for name, words in ATTRIBUTES.items()})

    def forward(self, images: Float[Tensor, "b 3 64 64"]) -> dict[str, Float[Tensor, "b k"]]:
        """Logits of every attribute's words for images in [0, 1] of the network's size."""
        maps = self.features(2 * images - 1)
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
        return {name: head(pooled) for name, head in self.heads.items()}

    @torch.no_grad()
    def read(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, AttributeReading]:
        """What images of any size show.

        Args:
            images: Images in [0, 1]; resized to 64x64 (antialiased) if they have another size.

        Returns:
            Attribute name -> logits, labels (indices into ``ATTRIBUTES[name]``) and words.
        """
        images = images.to(next(self.parameters()))
        if images.shape[-2:] != (IMAGE_SIZE, IMAGE_SIZE):
            size = (IMAGE_SIZE, IMAGE_SIZE)
            images = interpolate(images, size, mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)
        readings = {}
        for name, logits in self(images).items():
            labels = logits.argmax(1)
            readings[name] = AttributeReading(logits, labels, [ATTRIBUTES[name][label] for label in labels.tolist()])
        return readings


def classifier_checksum() -> str:
    """sha256 of the classifier's weights, for benchmarks that keep what it read."""
    return sha256(DEFAULT_FOLDER / WEIGHTS_NAME)


def load_classifier(path: str | Path = DEFAULT_FOLDER, device: str = "cpu"):
    """Load the trained classifier as a function of images.

    Args:
        path: Its folder or its safetensors file.
        device: Where to put it.

    Returns:
        ``read(images (b 3 h w) in [0, 1]) -> dict[attribute, AttributeReading(logits, labels, words)]``.

    Raises:
        ConfigError: If the file is missing or of another network.
    """
    path = Path(path)
    path = path / WEIGHTS_NAME if path.suffix != ".safetensors" else path
    network = AttributeClassifier()
    try:
        network.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            what=f"the attribute classifier at {path} cannot be loaded ({first_line(error)})",
            expected="the folder data/tiny-classifier that the repository ships",
            fix="restore it from the repository, or run `make models`",
        ) from error
    return network.to(device).eval().requires_grad_(False).read
