"""The views of a splat scene: training pool, held-out views, video path, from a capture or an orbit."""

from collections.abc import Iterator
from dataclasses import replace

import pytorch_lightning as pl
import torch
from jaxtyping import Bool
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

import threestudio
from threestudio.utils.config import parse_structured

from ..cameras import Cameras, Orbit, fit_orbit, load_cameras
from ..early import views_capture
from ..errors import ConfigError, check_values
from ..gaussians import Gaussians
from .crop import crop_to_selection
from .keys import GSViewsConfig
from .views import OrbitRange, SceneViews, capture_orbit, even_orbit, random_orbit, spread_subset, turntable


class Steps(IterableDataset):
    """One empty item a step; which views a step shows follows from the step itself, so that resuming is exact."""

    def __iter__(self) -> Iterator[dict]:
        while True:
            yield {}


@threestudio.register("gs-views")
class GSViews(pl.LightningDataModule):
    """Data module of the views; a system asks it once: ``views(gaussians, model_size)``."""

    Config = GSViewsConfig

    def __init__(self, cfg: dict | DictConfig | None = None) -> None:
        super().__init__()
        self.cfg = parse_structured(GSViewsConfig, cfg)
        self._check()
        self.capture = None
        if self.cfg.cameras:
            dataparser = self.cfg.dataparser or None
            self.capture = load_cameras(self.cfg.cameras, world=self.cfg.world, dataparser=dataparser)

    def views(self, gaussians: Gaussians, model_size: int, size_multiple: int) -> SceneViews:
        """The cameras of a run.

        Args:
            gaussians: The source scene, for an orbit; a capture that goes all the way round says its own.
            model_size: Shorter side of training views if the config leaves it open, pixels.
            size_multiple: Sides of training views are rounded to multiples of this.
        """
        cfg = self.cfg
        size = cfg.size or model_size
        test_size = (cfg.test_size, cfg.test_size)
        around = capture_orbit(self.capture) if self.capture is not None else None
        orbit, where = around or self._fitted_orbit(gaussians)
        if self.capture is None or cfg.views == "orbit":
            train = random_orbit(orbit, where, cfg.num_train_views, (size, size), cfg.seed)
        else:
            train = _sized(spread_subset(self.capture, cfg.num_train_views, cfg.seed), size, size_multiple)
        fed = (int(train.widths[0]), int(train.heights[0]))
        if cfg.render_size:
            train = train.resized(*(max(1, round(side * cfg.render_size / min(fed))) for side in fed))
        if self.capture is None or around is not None:
            test = even_orbit(orbit, where, cfg.num_test_views, test_size)
            return SceneViews(train, test, turntable(orbit, where, cfg.video_frames, test_size), orbit, fed)
        seen = _sized(self.capture, cfg.test_size, 2)
        video = spread_subset(seen, max(cfg.video_frames, 1))[: cfg.video_frames]
        return SceneViews(train, spread_subset(seen, cfg.num_test_views), video, orbit, fed)

    def cropped(self, views: SceneViews, gaussians: Gaussians, is_selected: Bool[Tensor, "n"]) -> SceneViews:
        """The views as ``data.crop`` says: training views that show the selection, cut to it, or all as they are."""
        if self.cfg.crop == "none":
            return views
        train = crop_to_selection(views.train, gaussians, is_selected, self.cfg.crop_margin, self.cfg.max_zoom)
        return replace(views, train=train)

    def _fitted_orbit(self, gaussians: Gaussians) -> tuple[Orbit, OrbitRange]:
        cfg = self.cfg
        orbit = fit_orbit(
            gaussians.means, gaussians.opacities, up=cfg.up, center=cfg.center, radius=cfg.radius,
            cameras=self.capture, fov_y_deg=cfg.fov_y_deg,
        )  # fmt: skip
        return orbit, OrbitRange(tuple(cfg.elevation_deg), tuple(cfg.radius_scale), cfg.fov_y_deg)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Steps(), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return DataLoader([{}], batch_size=None)  # pyright: ignore[reportArgumentType]  # a list serves as well

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader

    def _check(self) -> None:
        cfg = self.cfg
        if cfg.views == "capture" and not cfg.cameras:
            raise ConfigError(
                what="data.views is capture but there are no cameras", expected="a file or folder of cameras",
                fix="set cameras=PATH, or data.views=orbit",
            )  # fmt: skip
        if cfg.cameras:
            views_capture(cfg.cameras)
        least = dict.fromkeys(("batch_size", "num_train_views", "num_test_views", "test_size", "max_zoom"), 1)
        least |= dict.fromkeys(("size", "render_size", "crop_margin"), 0)
        rules = {name: (getattr(cfg, name) >= value, f"at least {value}") for name, value in least.items()}
        check_values("data", cfg, GSViewsConfig, rules)
        for name in ("elevation_deg", "radius_scale"):
            values = list(getattr(cfg, name))
            if len(values) != 2 or values[0] > values[1]:
                raise ConfigError(
                    what=f"data.{name} is {values}",
                    expected="two numbers, low then high",
                    fix=f"set data.{name}=[low,high]",
                )


def _sized(cameras: Cameras, shorter: int, multiple: int) -> Cameras:
    """Every view with its shorter side at ``shorter`` pixels, sides rounded to ``multiple``; one size for all.

    It has the aspect of most views; of the others, and of what rounding leaves over, the middle is kept.
    """
    sizes = torch.stack([cameras.widths, cameras.heights], -1).double()
    sides = ((sizes * (shorter / sizes.min(dim=1).values)[:, None]) / multiple).round().long().clamp_min(1) * multiple
    kinds, counts = sides.unique(dim=0, return_counts=True)
    width, height = kinds[counts.argmax()].tolist()
    return cameras.filling(width, height)
