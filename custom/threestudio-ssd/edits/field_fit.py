"""A radiance field from posed photographs, or from the renders of a splat: coarse first, finer where something is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.functional import max_pool3d, softplus
from torch.optim import Adam, Optimizer

import threestudio

from ..cameras import Cameras
from ..data import ViewPlan
from ..data.photos import PhotoCapture, Photos
from ..errors import ConfigError, check_values
from ..fields import Lattice, RadianceField, march, ray_weights, rays_of, whole_lattice
from ..fields.lattice import LEAST_RESOLUTION, MOST_RESOLUTION, first_resolution
from ..fields.model import PARAMETERS, visible
from ..fields.rays import Rays, pixel_rays
from ..gaussians import Gaussians
from ..host import get_device
from ..rendering import render_each
from ..scenes import load_splat
from ..seeds import Stream, generator
from .edit import Edit, Facts, value_at
from .field_splat import CUBE, STEPS
from .field_start import around_points, beyond_open_space, near_surfaces
from .keys import EditConfig, check_background, check_not_negative, check_num_steps

EMPTY_WEIGHT = 0.01
"""A cell of which no sample makes up this share of a pixel is empty; a sky that is far away stays haze."""
START_DEPTH, NEAR_SURFACES = 0.02, 0.1
"""Optical depth of a cell at the start: of a lattice that fills all space, and of one that is around surfaces alone."""
NEAR_POINTS, FAR_FROM_POINTS = 1.0, 0.002
"""The same where a capture has sparse points: of cells with points, and of all others."""
PRUNING_VIEWS, PRUNING_SIZE = 48, 48
"""Views, and their shorter side in pixels, that decide which cells are empty."""
VIEW_SIZE = 128
"""Shorter side of renders of a splat that are fitted, pixels, where ``data.size`` leaves it open."""
PLACES = 20
"""Binary places to which the middle of the scene and its distance are rounded."""
SMOOTHED_CELLS = 1 << 14
"""Cells whose nodes are held together at a step."""


@dataclass
class FieldRates:
    """Adam's learning rate per attribute, > 0, a number or schedule [step, value, value, step]."""

    raw_densities: Any = 0.2
    """Of the densities before the softplus."""
    sh0: Any = 0.1
    """Of the degree 0 coefficients; times 0.28 in colour."""
    shN: Any = 0.02
    """Of the higher degrees."""


@dataclass
class FieldFitConfig(EditConfig):
    """Keys of a fit of a radiance field."""

    scene: str = ""
    """Splat whose renders are fitted, where the data are views; empty where they are photographs."""
    num_steps: int = 1500
    """Optimisation steps, >= 1."""
    seed: int = 0
    """Decides which rays a step shows."""
    background: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Colour behind the scene, RGB in [0, 1]."""
    resolution: int = 113
    """Nodes along each axis in the end, at least; half of them in the cube around the scene, 4 to 512."""
    doublings: int = 2
    """How often the lattice gets twice as fine on the way, 0 to 6."""
    refine_at: list[float] = field(default_factory=lambda: [0.15, 0.35])
    """When it does, shares of the run in (0, 1), rising; one for each doubling."""
    cube: float = CUBE
    """Half the side of the cube around the scene, in distances of the cameras from its middle, > 0."""
    center: list[float] | None = None
    """Middle of the cube, world; none: the point that the cameras look at."""
    half: float | None = None
    """Half its side, world units, > 0; none: as ``cube`` says."""
    sh_degree: int = 0
    """Highest degree of view-dependent colour, 0 to 4."""
    rays: int = 1024
    """Rays a step of the finest lattice, >= 1; half as many for each doubling that is still to come."""
    learning_rates: FieldRates = field(default_factory=FieldRates)
    """Per attribute; they fall to a tenth over the run."""
    lambda_smooth: float = 1e-3
    """Weight of the squared differences of neighbouring nodes, >= 0."""
    lambda_sparse: float = 1e-4
    """Weight of log(1 + d^2) over a ray's optical depths d, >= 0: space is empty where it can be."""
    splat_steps: int = STEPS
    """Steps of fitting the splat that is written beside the field, for viewers; 0: none."""
    preview_every: int = 500
    """Steps between pictures of the progress in save/progress; 0: none."""


class FieldFitting(Edit):
    """A field that moves towards photographs, ray by ray.

    Args:
        cfg: Keys of ``FieldFitConfig``.
        photos: What it should look like.
        lattice: The coarsest one.
        background: (d) the colour behind it.
        sh0: Colours of its nodes; None: grey.
        depths: Optical depths of a cell at its nodes; None: ``START_DEPTH``.
    """

    nodes: Int[Tensor, "n 3"]
    resolution: Tensor

    def __init__(
        self, cfg: Any, photos: Photos, lattice: Lattice, background: Float[Tensor, "d"],
        sh0: Float[Tensor, "n 1 d"] | None = None, depths: Float[Tensor, "n"] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(cfg.num_steps)
        self.cfg, self.photos, self.lattice = cfg, photos, lattice
        self.background, channels = background, len(background)
        self._pixels = PhotoPixels(photos)
        self._refinements = {round(share * cfg.num_steps) for share in cfg.refine_at}
        count, rest = len(lattice), (cfg.sh_degree + 1) ** 2 - 1
        if depths is None:
            depths = torch.full((count,), START_DEPTH, dtype=torch.float64, device=lattice.center.device)
        self._hold(lattice, {
            "raw_densities": depths.double().expm1().log().float(),
            "sh0": torch.zeros(count, 1, channels, device=lattice.center.device) if sh0 is None else sh0,
            "shN": torch.zeros(count, rest, channels, device=lattice.center.device),
        })  # fmt: skip

    def _hold(self, lattice: Lattice, values: Mapping[str, Tensor]) -> None:
        self.lattice = lattice
        self.register_buffer("nodes", lattice.nodes)
        self.register_buffer("resolution", torch.tensor(lattice.resolution))
        self.values = nn.ParameterDict({name: nn.Parameter(values[name]) for name in PARAMETERS})

    def field(self) -> RadianceField:
        """The field as it is now, with gradient."""
        return RadianceField(self.lattice, **self.values)

    def make_optimizers(self) -> list[Optimizer]:
        """One, with a group for each attribute."""
        groups = [{"params": [each], "name": name} for name, each in self.values.items() if each.numel()]
        return [Adam(groups, lr=0.0, eps=1e-15)]

    def before_step(self, step: int, optimizers: Sequence[Optimizer]) -> None:
        """Leave out empty cells and make the others finer, where it is time."""
        if step in self._refinements:
            self._replace(refined(self._pruned()), optimizers[0])

    def loss(self, step: int) -> tuple[Tensor, Facts]:
        """The mean squared error of some rays, and what holds neighbours together."""
        cfg, field, draws = self.cfg, self.field(), generator(self.cfg.seed, step, Stream.RAYS)
        count = self._num_rays(step)
        rays, targets = self._pixels.draw(count, draws)
        samples = march(self.lattice, rays, torch.rand(count, generator=draws))
        with torch.no_grad():
            samples = samples.select(visible(field, samples))
        images, _, _ = field.render_rays(rays, samples, self.background)
        error = (images - targets).square().mean()
        loss = error
        if cfg.lambda_smooth:
            loss = loss + cfg.lambda_smooth * self._roughness(field, draws)
        if cfg.lambda_sparse:
            loss = loss + cfg.lambda_sparse * field.depths_at(samples).square().log1p().sum() / count
        facts = {"loss": loss.detach(), "psnr": -10 * torch.log10(error.detach().clamp_min(1e-10))}
        return loss, facts | {"nodes": float(len(field))}

    def _num_rays(self, step: int) -> int:
        """Rays of a step: half as many before each refinement, when rays go through more that is not empty yet."""
        return max(1, self.cfg.rays >> sum(step < refinement for refinement in self._refinements))

    def _roughness(self, field: RadianceField, draws: torch.Generator) -> Float[Tensor, ""]:
        """Mean squared difference of neighbouring nodes in some cells."""
        cells = torch.randint(len(self.lattice.corner_rows), (SMOOTHED_CELLS,), generator=draws)
        rows = self.lattice.corner_rows[cells.to(self.nodes.device)].long()
        values = torch.cat([field.raw_densities[:, None], field.sh0[:, 0]], dim=1)
        corners = values.index_select(0, rows.flatten()).view(-1, 2, 2, 2, values.shape[1])
        return sum(corners.diff(dim=axis).square().mean() for axis in (1, 2, 3))  # pyright: ignore[reportReturnType]

    def set_rates(self, optimizers: Sequence[Optimizer], step: int) -> None:
        """Those of the keys, falling to a tenth by a constant ratio a step."""
        for group in optimizers[0].param_groups:
            group["lr"] = value_at(self.cfg.learning_rates[group["name"]], step) * 0.1 ** (step / self.num_steps)

    @torch.no_grad()
    def _replace(self, new: RadianceField, optimizer: Optimizer) -> None:
        """Put another field in place of this one; the optimiser starts anew, on the new nodes."""
        self._hold(new.lattice, new.parameters())
        optimizer.state.clear()
        for group in optimizer.param_groups:
            if group["name"] in self.values:
                group["params"] = [self.values[group["name"]]]
        threestudio.debug(f"The field has {len(new):,} nodes.")

    @torch.no_grad()
    def _pruned(self) -> RadianceField:
        """The field without empty cells.

        Raises:
            ConfigError: If no photograph shows anything.
        """
        field = self.field().detach()
        kept = self._seen_nodes(field)
        if not kept.any():
            raise ConfigError(
                what="the fit found nothing in any view", expected="photographs of a scene",
                fix="check system.background, and that cameras and photographs belong together",
            )  # fmt: skip
        return field.select(kept)

    def _seen_nodes(self, field: RadianceField) -> Bool[Tensor, "n"]:
        """The corners of all cells that some photograph shows, and of those around them."""
        lattice, views = field.lattice, self.photos.cameras
        most_seen = field.raw_densities.new_zeros(len(lattice.corner_rows))
        for row in torch.linspace(0, len(views) - 1, min(PRUNING_VIEWS, len(views))).round().long().tolist():
            view = views[row]
            view = view.scaled(min(1.0, PRUNING_SIZE / int(min(view.widths[0], view.heights[0]))))
            rays = rays_of(view, 0)
            samples = march(lattice, rays)
            weights = ray_weights(field.depths_at(samples), samples.rays, samples.num_rays)
            most_seen.scatter_reduce_(0, samples.cells, weights, "amax")
        is_shown = torch.zeros_like(lattice.cell_of, dtype=torch.float32)
        is_shown[lattice.cell_of >= 0] = (most_seen > EMPTY_WEIGHT).float()
        is_near = max_pool3d(is_shown[None, None], 3, stride=1, padding=1)[0, 0] > 0
        rows = lattice.corner_rows[is_near[lattice.cell_of >= 0]].flatten().long()
        return torch.zeros(len(lattice), dtype=torch.bool, device=rows.device).index_fill_(0, rows, True)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """A checkpoint may hold another lattice than the first one."""
        nodes = state_dict.get(f"{prefix}nodes")
        if nodes is not None:
            old = self.lattice
            lattice = Lattice(old.center, old.half, int(state_dict[f"{prefix}resolution"]), nodes.to(old.nodes.device))
            shapes = {name: values.shape[1:] for name, values in self.values.items()}
            self._hold(lattice, {name: old.center.new_zeros(len(nodes), *shape) for name, shape in shapes.items()})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class PhotoPixels:
    """All pixels of all photographs that show something, to draw rays from.

    Args:
        photos: Where the fit runs.
    """

    def __init__(self, photos: Photos) -> None:
        cameras, self.photos = photos.cameras, photos
        places = [inside.flatten().nonzero()[:, 0] for inside in photos.inside]
        self.views = torch.cat([torch.full_like(each, view) for view, each in enumerate(places)])
        self.pixels = torch.cat(places)
        self.colors = torch.cat(
            [image.flatten(0, 1)[place] for image, place in zip(photos.images, places, strict=True)]
        )
        self.widths = cameras.widths.to(self.views.device)

    def draw(self, count: int, draws: torch.Generator) -> tuple[Rays, Float[Tensor, "r d"]]:
        """Rays at random, and the colours that they should show."""
        chosen = torch.randint(len(self.pixels), (count,), generator=draws).to(self.pixels.device)
        views, pixels, cameras = self.views[chosen], self.pixels[chosen], self.photos.cameras
        widths = self.widths[views]
        rays = pixel_rays(cameras.viewmats[views], cameras.Ks[views], pixels % widths, pixels // widths)
        return rays, self.colors[chosen]


def refined(field: RadianceField) -> RadianceField:
    """The field on a lattice twice as fine; along each ray it is as opaque as before."""
    finer = field.lattice.refined()
    halves = torch.stack([finer.nodes // 2, (finer.nodes + 1) // 2], dim=1)  # the same twice where a node was
    x, y, z = halves.unbind(dim=2)
    rows = field.lattice.row_of[x[:, :, None, None], y[:, None, :, None], z[:, None, None, :]].flatten(1).long()
    values: dict[str, Any] = {name: tensor[rows].mean(dim=1) for name, tensor in field.parameters().items()}
    depths = softplus(values["raw_densities"].double()) / 2
    values["raw_densities"] = (depths + torch.log(-torch.expm1(-depths))).to(values["raw_densities"])
    return field.like(finer, **values)


def looked_at(cameras: Cameras) -> tuple[Float[Tensor, "3"], float]:
    """The point nearest to all optical axes, and the median distance of the cameras from it, world units."""
    centers, forwards = cameras.centers.double(), cameras.forwards.double()
    across = torch.eye(3).to(centers) - forwards[:, :, None] * forwards[:, None, :]
    point = torch.linalg.lstsq(across.sum(0), (across @ centers[:, :, None]).sum(0)).solution[:, 0]
    distance = float((centers - point).norm(dim=1).median())
    part = 2.0 ** (math.frexp(distance)[1] - PLACES)  # sums in another order end in other last bits
    return ((point / part).round() * part + 0.0).float(), round(distance / part) * part


class FieldFit:
    """Photographs, or renders of a splat, and the field that is fitted to them.

    Args:
        cfg: Keys of ``FieldFitConfig``, checked against it.

    Raises:
        ConfigError: For a value that cannot be used.
        SceneFormatError: For a splat that cannot be read.
    """

    rates: type = FieldRates
    """Keys of the learning rates."""
    edit: FieldFitting
    photos: Photos
    judges: Photos
    cloud: tuple[Float[Tensor, "p 3"], Float[Tensor, "p 3"]] | None = None
    """Sparse points of the photographs, and their colours."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg, self.device = cfg, get_device()
        check_num_steps(cfg, FieldFitConfig)
        check_background(cfg)
        check_not_negative("system.learning_rates", cfg.learning_rates, self.rates)
        shares, keys = list(cfg.refine_at), FieldFitConfig()
        check_values("system", cfg, keys, {
            "resolution": (LEAST_RESOLUTION <= cfg.resolution <= MOST_RESOLUTION,
                           f"{LEAST_RESOLUTION} to {MOST_RESOLUTION}"),
            "doublings": (0 <= cfg.doublings <= 6, "0 to 6"),
            "refine_at": (len(shares) == cfg.doublings and all(0 < share < 1 for share in shares)
                          and sorted(set(shares)) == shares,
                          f"{cfg.doublings} rising shares of the run, between 0 and 1, one for each doubling"),
            "cube": (0 < cfg.cube < math.inf, "above 0, and finite"),
            "half": (cfg.half is None or 0 < cfg.half < math.inf, "above 0, and finite"),
            "center": (cfg.center is None or len(cfg.center) == 3, "x, y and z"),
            "sh_degree": (0 <= cfg.sh_degree <= 4, "0 to 4"),
            "rays": (cfg.rays >= 1, "at least 1"),
            "lambda_sparse": (0 <= cfg.lambda_sparse < math.inf, "at least 0, and finite"),
            "lambda_smooth": (0 <= cfg.lambda_smooth < math.inf, "at least 0, and finite"),
            "splat_steps": (cfg.splat_steps >= 0, "at least 0"),
        })  # fmt: skip
        self.source: Gaussians | None = load_splat(cfg.scene) if cfg.scene else None

    @property
    def background(self) -> Float[Tensor, "3"]:
        """Colour behind the scene, where the fit runs."""
        return torch.tensor(list(self.cfg.background), dtype=torch.float32, device=self.device)

    @property
    def sh_degree_reached(self) -> int:
        """That of the keys."""
        return self.cfg.sh_degree

    def scene(self) -> RadianceField:
        """The field as it is now."""
        return self.edit.field().detach()

    def splat_views(self) -> Cameras:
        """The views of the images, at one size, that a splat of the field is fitted in."""
        cameras = self.photos.cameras
        side = min(VIEW_SIZE, int(torch.minimum(cameras.widths, cameras.heights).min()))
        return cameras.filling(side, side)

    def open_photographs(self, capture: PhotoCapture) -> None:
        """Read the photographs and lay out the lattice.

        Args:
            capture: Has the photographs.

        Raises:
            ConfigError: If a splat is named as well.
        """
        if self.source is not None:
            raise ConfigError(
                what=f"system.scene is {self.cfg.scene}, and the data are photographs", expected="one of them",
                fix="leave out scene, or set data_type=gs-views",
            )  # fmt: skip
        photos, self.judges = capture.split(self.cfg.background)
        cloud = capture.points()
        self.cloud = cloud and (cloud[0].to(self.device), cloud[1].to(self.device))
        self._lay_out(photos)

    def open_views(self, plan: ViewPlan) -> None:
        """Render the splat from its training views, and from those that judge, and lay out the lattice.

        Args:
            plan: Says which views there are.

        Raises:
            ConfigError: If no splat is named.
        """
        if self.source is None:
            expected, fix = "a splat file", "set scene=my.ply, or data_type=gs-photos for photographs"
            raise ConfigError(what="system.scene is empty", expected=expected, fix=fix)
        views = plan.views(self.source, plan.cfg.size or VIEW_SIZE, 1)
        photos, self.judges = (self._renders(cameras) for cameras in (views.train, views.test))
        self._lay_out(photos)

    def _renders(self, cameras: Cameras) -> Photos:
        assert self.source is not None
        images = [image.cpu() for image in render_each(self.source.to(self.device), cameras, self.background)]
        return Photos(cameras, images, [torch.ones_like(image[..., 0], dtype=torch.bool) for image in images])

    def _lay_out(self, photos: Photos) -> None:
        cfg = self.cfg
        self.photos = photos.to(self.device)
        center, distance = looked_at(photos.cameras)
        center = center if cfg.center is None else torch.tensor(list(cfg.center), dtype=torch.float32)
        half = cfg.cube * distance if cfg.half is None else cfg.half
        resolution = max(first_resolution(cfg.resolution, cfg.doublings), LEAST_RESOLUTION)
        lattice = whole_lattice(center.to(self.device), half, resolution)
        if self.source is None:
            lattice = beyond_open_space(lattice, self.photos.cameras, self.cloud and self.cloud[0])
        self.edit = self.fitting(lattice)
        count = len(photos.images)
        threestudio.info(f"{count} images, {len(self.judges.images)} that judge; a cube of half side {half:.3g}.")

    def fitting(self, lattice: Lattice) -> FieldFitting:
        """The edit of the fit.

        Args:
            lattice: The coarsest one: whole, or of photographs what lies beyond the open space before them.
        """
        depths, colors = None, None
        if self.source is not None:
            lattice, colors = near_surfaces(lattice, self.source.to(self.device), self.photos.cameras)
            depths = torch.full((len(lattice),), NEAR_SURFACES, dtype=torch.float64, device=self.device)
        elif self.cloud is not None:
            is_near, colors = around_points(lattice, *self.cloud)
            depths = torch.where(is_near, NEAR_POINTS, FAR_FROM_POINTS)
        return FieldFitting(self.cfg, self.photos, lattice, self.background, colors, depths)
