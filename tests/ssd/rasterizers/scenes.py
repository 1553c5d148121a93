"""Small scenes for the tests: random ones, and the ones that break rasterisers."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Scene:
    """Arguments of one render; one camera."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor
    viewmats: Tensor
    Ks: Tensor
    width: int
    height: int
    sh_degree: int | None = None

    def parameters(self) -> dict[str, Tensor]:
        names = ("means", "quats", "scales", "opacities", "colors", "viewmats")
        return {name: getattr(self, name) for name in names}

    @property
    def num_channels(self) -> int:
        return 3 if self.sh_degree is not None else self.colors.shape[-1]


def camera(width: int, height: int, *, camera_model: str = "pinhole", distance: float = 4.0):
    """A camera a little off every axis, looking at the origin."""
    angle = torch.tensor(0.2)
    c, s = angle.cos(), angle.sin()
    one, zero = torch.ones(()), torch.zeros(())
    yaw = torch.stack([c, zero, s, zero, one, zero, -s, zero, c]).reshape(3, 3)
    pitch = torch.stack([one, zero, zero, zero, c, -s, zero, s, c]).reshape(3, 3)
    viewmat = torch.eye(4)
    viewmat[:3, :3] = yaw @ pitch
    viewmat[:3, 3] = torch.tensor([0.1, -0.2, distance])
    focal = 0.3 * width if camera_model == "ortho" else 1.1 * width
    K = torch.tensor([[focal, 0.0, 0.48 * width], [0.0, 1.05 * focal, 0.53 * height], [0.0, 0.0, 1.0]])
    return viewmat[None], K[None]


def random_scene(
    num_gaussians=300, width=45, height=37, sh_degree=None, num_channels=3, seed=0, camera_model="pinhole",
    scale=(0.01, 0.3), spread=0.8,
):  # fmt: skip
    """Gaussians of all shapes around the origin, some of them outside the image."""
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.tensor(scale).log()
    n = num_gaussians
    viewmats, Ks = camera(width, height, camera_model=camera_model)
    if sh_degree is None:
        colors = torch.rand(n, num_channels, generator=generator)
    else:
        colors = torch.randn(n, (sh_degree + 1) ** 2, 3, generator=generator) * 0.4
    return Scene(
        means=spread * torch.randn(n, 3, generator=generator),
        quats=torch.randn(n, 4, generator=generator),
        scales=(low + (high - low) * torch.rand(n, 3, generator=generator)).exp(),
        opacities=0.02 + 0.97 * torch.rand(n, generator=generator),
        colors=colors, viewmats=viewmats, Ks=Ks, width=width, height=height, sh_degree=sh_degree,
    )  # fmt: skip


def behind_and_near() -> Scene:
    """Gaussians behind the camera, around it and on the near plane."""
    scene = random_scene(200, 32, 32, seed=1)
    scene.viewmats = torch.eye(4)[None]
    scene.means[:, 2] = torch.linspace(-2.0, 2.0, 200)
    scene.means[100:105, 2] = 0.01
    scene.scales *= 0.2
    return scene


def larger_than_the_image() -> Scene:
    scene = random_scene(60, 40, 24, seed=2, scale=(1.0, 50.0))
    scene.opacities *= 0.3
    return scene


def thinner_than_a_pixel() -> Scene:
    """Needles and flakes down to a thousandth of a pixel, and some that are long as well."""
    scene = random_scene(200, 48, 48, seed=3, scale=(1e-5, 0.02))
    scene.scales[:60, 0] = 3.0
    return scene


def extreme_opacities() -> Scene:
    scene = random_scene(200, 32, 32, seed=4)
    scene.opacities[:80] = 0.0
    scene.opacities[80:120] = 1.0
    return scene


def one_depth() -> Scene:
    """Thousands of Gaussians at exactly one depth: drawn in the order they are listed."""
    scene = random_scene(3000, 24, 24, seed=5, scale=(0.02, 0.1), spread=0.5)
    scene.viewmats = torch.eye(4)[None]
    scene.means[:, 2] = 2.0
    return scene


def depth_ties() -> Scene:
    """Pairs of Gaussians at the same depth, far apart in the list."""
    scene = random_scene(200, 24, 24, seed=6)
    scene.viewmats = torch.eye(4)[None]
    scene.means[:, 2] = 2.0 + torch.arange(200).remainder(100) / 64
    return scene


def no_gaussians() -> Scene:
    return random_scene(0, 20, 10, seed=7)


def one_pixel() -> Scene:
    return random_scene(50, 1, 1, seed=8)


def odd_size() -> Scene:
    return random_scene(150, 67, 3, seed=9)


def deep() -> Scene:
    """5,000 layers over one pixel; half of them are hidden by the others."""
    scene = random_scene(5000, 3, 3, seed=10, scale=(0.02, 0.05))
    scene.means[:, :2] *= 0.01
    scene.viewmats = torch.eye(4)[None]
    scene.means[:, 2] = torch.linspace(2.0, 4.0, 5000)
    scene.opacities = 0.005 + 0.02 * scene.opacities
    return scene


HARD_SCENES = {
    scene.__name__: scene
    for scene in (
        behind_and_near, larger_than_the_image, thinner_than_a_pixel, extreme_opacities, one_depth, depth_ties,
        no_gaussians, one_pixel, odd_size, deep,
    )
}  # fmt: skip
