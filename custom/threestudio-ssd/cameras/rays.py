"""Rays through the cells of several images of one object, in a frame of that object."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from .cameras import Cameras
from .orbit import orbit_frame


@dataclass(frozen=True, eq=False)
class ObjectViews:
    """Cameras that look at one object, and a frame for it; rays are in its axes and its unit.

    Attributes:
        cameras: The views.
        axes: (3 3) unit vectors, one a row, perpendicular; the last is up.
        center: (3) the object's middle, world.
        unit: A length, world units, > 0: about the distance of the cameras from there.
    """

    cameras: Cameras
    axes: Float[Tensor, "3 3"]
    center: Float[Tensor, "3"]
    unit: float

    @classmethod
    def of(cls, cameras: Cameras) -> "ObjectViews":
        """Cameras that have the object in their middle: it is where the rays through the images' middles come closest.

        Up is the mean of the images' up directions.
        """
        forwards, centers = cell_rays(cameras, (1, 1))[:, 0].double(), cameras.centers.double().cpu()
        across = torch.eye(3, dtype=torch.float64) - forwards[:, :, None] * forwards[:, None]
        center = (torch.linalg.pinv(across.sum(0)) @ (across @ centers[..., None]).sum(0))[:, 0]
        up = cameras.ups.double().cpu().mean(0)
        axes = torch.stack(orbit_frame(up if float(up.norm()) > 0 else "-y"))
        return cls(cameras, axes.float(), center.float(), float((centers - center).norm(dim=1).mean()))

    def plucker(self, size: tuple[int, int]) -> Float[Tensor, "c n 6"]:
        """Pluecker coordinates of the rays through the middles of cells: direction, and moment about the middle.

        Args:
            size: Rows and columns of cells in each image.
        """
        origins = (self.cameras.centers.cpu() - self.center) @ self.axes.T / self.unit
        directions = cell_rays(self.cameras, size) @ self.axes.T
        moments = torch.linalg.cross(origins[:, None].expand_as(directions), directions)
        return torch.cat([directions, moments], dim=-1)


def cell_rays(cameras: Cameras, size: tuple[int, int]) -> Float[Tensor, "c n 3"]:
    """Unit directions, in the world, of the rays through the middles of cells, row by row.

    Args:
        cameras: The views.
        size: Rows and columns of cells in each image.
    """
    rows, columns = torch.meshgrid(*((torch.arange(side) + 0.5) / side for side in size), indexing="ij")
    shares = torch.stack([columns, rows, torch.ones_like(rows)], -1).flatten(0, 1).double()
    ones = torch.ones(len(cameras), dtype=torch.float64)
    sides = torch.stack([cameras.widths.double().cpu(), cameras.heights.double().cpu(), ones], -1)
    directions = shares * sides[:, None] @ torch.linalg.inv(cameras.Ks.double().cpu()).mT
    return normalize(directions @ cameras.viewmats[:, :3, :3].double().cpu(), dim=-1).float()
