"""Small radiance fields whose looks are known."""

import torch


def ball_field(resolution=21, radius=0.6, half=1.0, sh_degree=0):
    """An opaque ball in the middle of the cube, its colour following the place; space around it is empty."""
    from threestudio_ssd.fields import RadianceField, whole_lattice
    from threestudio_ssd.gaussians import sh0_from_rgbs

    lattice = whole_lattice(torch.zeros(3), half, resolution)
    distances = lattice.means.norm(dim=1)
    lattice = lattice.select(distances < radius + 2 * lattice.side)
    inside = radius - lattice.means.norm(dim=1)
    rgbs = (0.5 + 0.4 * lattice.means / radius).clamp(0, 1)
    count = len(lattice)
    return RadianceField(
        lattice, 20 * inside / lattice.side / 2, sh0_from_rgbs(rgbs)[:, None],
        0.1 * torch.randn(count, (sh_degree + 1) ** 2 - 1, 3, generator=torch.Generator().manual_seed(1)),
    )  # fmt: skip


def around(count=6, size=24, radius=3.0):
    """Cameras around the middle that look at it."""
    from threestudio_ssd.cameras import orbit_cameras

    azimuths = torch.arange(count) * 360.0 / count
    return orbit_cameras(torch.zeros(3), radius, 20.0, azimuths, 40.0, size, size, up=torch.tensor([0.0, 0, 1]))
