"""The views of a splat scene: training pool, held-out views, video path, from a capture or an orbit."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..cameras import Cameras, Orbit, cameras_extent, fit_orbit, load_cameras
from ..early import views_capture
from ..errors import ConfigError, check_least
from ..scenes import Scene
from .agreement import check_capture
from .crop import crop_to_selection, crop_to_visible, framed_alike, small_views
from .keys import GSViewsConfig
from .views import OrbitRange, SceneViews, capture_orbit, even_orbit, random_orbit, spread_subset, turntable


class ViewPlan:
    """Which cameras an edit renders, by the keys of ``GSViewsConfig``.

    Args:
        cfg: The keys, checked against ``GSViewsConfig``.
        capture: Cameras of the capture; None: read from ``cfg.cameras``, if it names any.

    Raises:
        ConfigError: For a value that cannot be used.
        SceneFormatError: For cameras that cannot be read.
    """

    def __init__(self, cfg: Any, capture: Cameras | None = None) -> None:
        self.cfg, self.capture = cfg, capture
        self._check()
        if capture is None and cfg.cameras:
            self.capture = load_cameras(cfg.cameras, world=cfg.world, dataparser=cfg.dataparser or None)

    def views(self, gaussians: Scene, model_size: int, size_multiple: int) -> SceneViews:
        """The cameras of a run.

        Args:
            gaussians: The source scene, for an orbit (a capture that goes all the way round says its own), and for the
                extent of cameras at one place.
            model_size: Shorter side of training views if the config leaves it open, pixels.
            size_multiple: Sides of training views are rounded to multiples of this.
        """
        cfg = self.cfg
        self.capture = self.capture and self.capture.counted_from(gaussians.offset)
        if self.capture is not None and cfg.check_capture:
            check_capture(gaussians, self.capture, cfg.cameras or "of the capture")
        size = cfg.size or model_size
        test_size = (cfg.test_size, cfg.test_size)
        around = capture_orbit(self.capture) if self.capture is not None else None
        orbit, where = around or self._fitted_orbit(gaussians)
        if self.capture is None or cfg.views == "orbit":
            train = pool = random_orbit(orbit, where, cfg.num_train_views, (size, size), cfg.seed)
        else:
            pool = self.capture
            drawn = spread_subset(pool, cfg.num_train_views, cfg.seed)
            train = (_squared if cfg.frame == "square" else _sized)(drawn, size, size_multiple)
        extent = cameras_extent(pool, gaussians.means)
        fed = (int(train.widths[0]), int(train.heights[0]))
        if cfg.render_size:
            train = train.resized(*(max(1, round(side * cfg.render_size / min(fed))) for side in fed))
        if self.capture is None or around is not None:
            test = even_orbit(orbit, where, cfg.num_test_views, test_size)
            return SceneViews(train, test, turntable(orbit, where, cfg.video_frames, test_size), orbit, fed, extent)
        seen = _sized(self.capture, cfg.test_size, 2)
        video = spread_subset(seen, max(cfg.video_frames, 1))[: cfg.video_frames]
        return SceneViews(train, spread_subset(seen, cfg.num_test_views), video, orbit, fed, extent)

    def cropped(self, views: SceneViews, gaussians: Scene, is_selected: Bool[Tensor, "n"]) -> SceneViews:
        """The views as ``data.crop`` says: training views that show the selection, cut to it, or all as they are."""
        if self.cfg.crop == "none":
            return views
        train = crop_to_selection(views.train, gaussians, is_selected, self.cfg.crop_margin, self.cfg.max_zoom)
        return replace(views, train=train)

    def cropped_on(
        self, views: SceneViews, masks_in: Callable[[Cameras], Float[Tensor, "c 1 h w"]], point: Float[Tensor, "3"]
    ) -> SceneViews:
        """The same around what ``masks_in`` finds in views, 1 where it is.

        Where that is too large to cut any view, all are framed alike about a point instead.
        """
        if self.cfg.crop == "none":
            return views
        is_visible = masks_in(small_views(views.train))[:, 0] > 0
        train = crop_to_visible(views.train, is_visible, self.cfg.crop_margin, self.cfg.max_zoom)
        if len(train) == len(views.train) and torch.allclose(train.Ks, views.train.Ks):
            train = framed_alike(views.train, point)
        return replace(views, train=train)

    def _fitted_orbit(self, gaussians: Scene) -> tuple[Orbit, OrbitRange]:
        cfg = self.cfg
        orbit = fit_orbit(
            gaussians.means, gaussians.opacities, up=cfg.up, stated_up=gaussians.stated_up,
            center=cfg.center and gaussians.local(cfg.center), radius=cfg.radius, cameras=self.capture,
            fov_y_deg=cfg.fov_y_deg,
        )  # fmt: skip
        return orbit, OrbitRange(tuple(cfg.elevation_deg), tuple(cfg.radius_scale), cfg.fov_y_deg)

    def _check(self) -> None:
        cfg = self.cfg
        if cfg.views == "capture" and not cfg.cameras and self.capture is None:
            raise ConfigError(
                what="data.views is capture but there are no cameras", expected="a file or folder of cameras",
                fix="set cameras=PATH, or data.views=orbit",
            )  # fmt: skip
        if cfg.cameras:
            views_capture(cfg.cameras)
        least: dict[str, float] = dict.fromkeys(
            ("batch_size", "num_train_views", "num_test_views", "test_size", "max_zoom"), 1
        )
        least |= dict.fromkeys(("size", "render_size", "crop_margin"), 0)
        check_least("data", cfg, GSViewsConfig, least)
        for name in ("elevation_deg", "radius_scale"):
            values = list(getattr(cfg, name))
            if len(values) != 2 or values[0] > values[1]:
                raise ConfigError(
                    what=f"data.{name} is {values}",
                    expected="two numbers, low then high",
                    fix=f"set data.{name}=[low,high]",
                )


def _squared(cameras: Cameras, side: int, multiple: int) -> Cameras:
    """Every view as the square in the middle of its image, ``side`` pixels rounded to ``multiple``."""
    side = max(1, round(side / multiple)) * multiple
    return cameras.filling(side, side)


def _sized(cameras: Cameras, shorter: int, multiple: int) -> Cameras:
    """Every view with its shorter side at ``shorter`` pixels, sides rounded to ``multiple``; one size for all.

    It has the aspect of most views; of the others, and of what rounding leaves over, the middle is kept.
    """
    sizes = torch.stack([cameras.widths, cameras.heights], -1).double()
    sides = ((sizes * (shorter / sizes.min(dim=1).values)[:, None]) / multiple).round().long().clamp_min(1) * multiple
    kinds, counts = sides.unique(dim=0, return_counts=True)
    width, height = kinds[counts.argmax()].tolist()
    return cameras.filling(width, height)
