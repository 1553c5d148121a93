"""The three feature networks of LPIPS, with torchvision's weight names, so that its files load without it."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, cat, nn


class Fire(nn.Module):
    """Squeeze to few channels, expand to many (Iandola et al. 2016, arXiv:1602.07360, section 3.1)."""

    def __init__(self, num_in: int, num_squeezed: int, num_expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(num_in, num_squeezed, 1)
        self.expand1x1 = nn.Conv2d(num_squeezed, num_expanded, 1)
        self.expand3x3 = nn.Conv2d(num_squeezed, num_expanded, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h w"]:
        """Both expansions side by side."""
        squeezed = self.squeeze(x).relu()
        return cat([self.expand1x1(squeezed).relu(), self.expand3x3(squeezed).relu()], 1)


def _alexnet() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    ]  # fmt: skip


def _squeezenet() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(64, 16, 64), Fire(128, 16, 64), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(128, 32, 128), Fire(256, 32, 128), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
    ]  # fmt: skip


def _vgg16() -> list[nn.Module]:
    layers: list[nn.Module] = []
    num_in = 3
    for block, (num_convs, num_out) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]):
        if block:
            layers.append(nn.MaxPool2d(2, 2))
        for _ in range(num_convs):
            layers += [nn.Conv2d(num_in, num_out, 3, padding=1), nn.ReLU()]
            num_in = num_out
    return layers


class Backbone(nn.Module):
    """A feature network cut at the layers that LPIPS looks at.

    Args:
        build: Makes the layers in torchvision's order; their index is the name in its weight files.
        taps: Indices of the layers whose outputs are compared.
    """

    def __init__(self, build: Callable[[], list[nn.Module]], taps: tuple[int, ...]) -> None:
        super().__init__()
        self.features = nn.Sequential(*build())
        self.taps = taps

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The outputs at the taps, coarser and coarser."""
        outputs = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                outputs.append(x)
        return outputs


BACKBONES: dict[str, tuple[Callable[[], list[nn.Module]], tuple[int, ...], str]] = {
    "alex": (_alexnet, (1, 4, 7, 9, 11), "alexnet-owt-7be5be79.pth"),
    "squeeze": (_squeezenet, (1, 4, 7, 9, 10, 11, 12), "squeezenet1_1-b8a52dc0.pth"),
    "vgg": (_vgg16, (3, 8, 15, 22, 29), "vgg16-397923af.pth"),
}
"""Name in LPIPS -> layers, taps, torchvision's file of ImageNet weights."""
