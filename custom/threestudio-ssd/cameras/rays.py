"""Rays through the cells of several images of one object, in a frame of that object."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from .cameras import Cameras
from .orbit import USUAL_UP, orbit_frame, up_of_cameras


@dataclass(frozen=True, eq=False)
class ObjectFrame:
    """Where an object is, which way it looks, and a length to measure by.

    Attributes:
        axes: (3 3) unit vectors, one a row, perpendicular; the first is where its front looks, the last is up.
        center: (3) its origin, world.
        unit: A length, world units, > 0: about the distance of the cameras from there.
    """

    axes: Float[Tensor, "3 3"]
    center: Float[Tensor, "3"]
    unit: float

    @classmethod
    def seen_by(cls, cameras: Cameras) -> "ObjectFrame":
        """That of what cameras have in their middle: it is where the rays through the images' middles come closest.

        Up is as the cameras are held; the front is any.
        """
        forwards, centers = cell_rays(cameras, (1, 1))[:, 0].double(), cameras.centers.double().cpu()
        across = torch.eye(3, dtype=torch.float64) - forwards[:, :, None] * forwards[:, None]
        center = (torch.linalg.pinv(across.sum(0)) @ (across @ centers[..., None]).sum(0))[:, 0]
        up = up_of_cameras(cameras)
        axes = torch.stack(orbit_frame(USUAL_UP if up is None else up))
        return cls(axes.float(), center.float(), float((centers - center).norm(dim=1).mean()))


@dataclass(frozen=True, eq=False)
class ObjectViews:
    """Cameras that look at one object, and its frame; rays are in the frame's axes and unit.

    Attributes:
        cameras: The views.
        frame: Of the object.
    """

    cameras: Cameras
    frame: ObjectFrame

    @classmethod
    def of(cls, cameras: Cameras) -> "ObjectViews":
        """Cameras that have the object in their middle."""
        return cls(cameras, ObjectFrame.seen_by(cameras))

    def plucker(self, size: tuple[int, int]) -> Float[Tensor, "c n 6"]:
        """Pluecker coordinates of the rays through the middles of cells: direction, and moment about the origin.

        Args:
            size: Rows and columns of cells in each image.
        """
        frame = self.frame
        origins = (self.cameras.centers.cpu() - frame.center) @ frame.axes.T / frame.unit
        directions = cell_rays(self.cameras, size) @ frame.axes.T
        moments = torch.linalg.cross(origins[:, None].expand_as(directions), directions)
        return torch.cat([directions, moments], dim=-1)

    def passing(self, size: tuple[int, int]) -> Float[Tensor, "c 8 h w"]:
        """Directions of the rays through the middles of cells, and where these pass the origin.

        That is the point nearest to it. The last two numbers say how far to the right of the origin that is and how far
        below it, as the image has these directions.

        Args:
            size: Rows and columns of cells in each image.
        """
        rays = self.plucker(size)
        nearest = torch.linalg.cross(rays[..., :3], rays[..., 3:])
        across = self.cameras.viewmats[:, :2, :3].cpu() @ self.frame.axes.T
        passed = torch.cat([rays[..., :3], nearest, nearest @ across.mT], dim=-1)
        return passed.mT.unflatten(2, size).contiguous()


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
