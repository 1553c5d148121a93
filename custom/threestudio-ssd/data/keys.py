"""The keys of the data modules, apart from them, so that checking keys does not import Lightning."""

from dataclasses import dataclass, field
from typing import Literal

from ..cameras import World


@dataclass
class GSViewsConfig:
    """Keys of the views."""

    cameras: str = ""
    """File or folder of the capture's cameras; empty: an orbit around the scene."""
    world: World = "auto"
    """Axes and scale of a transforms.json's cameras: colmap (those of a splat trained on COLMAP's cameras), file (as
    written), training (those of a nerfstudio splat); auto: training if ``dataparser`` is known, else colmap."""
    dataparser: str = ""
    """dataparser_transforms.json of a nerfstudio training run; empty: the one beside transforms.json, if any."""
    batch_size: int = 1
    """Views a step, >= 1."""
    size: int = 0
    """Shorter side of the pictures that the diffusion model gets, pixels; 0: what it was trained on."""
    render_size: int = 0
    """Shorter side at which training views are rendered before they are resized to ``size``, pixels; 0: the same."""
    frame: Literal["native", "square"] = "native"
    """Of training views from a capture. native: whole, the longer side longer than ``size``. square: ``size`` on both
    sides, what the longer side has more is cut off evenly, as the paper's code does."""
    crop: Literal["none", "selection"] = "none"
    """selection: training views are cut around what may change, so that a small object fills the diffusion image. In a
    change of shape, where that fills every view already, all are framed alike instead."""
    crop_margin: float = 0.25
    """Space around the selection in a cut view, in units of its own size, >= 0."""
    max_zoom: float = 6.0
    """How much a cut enlarges a view at most, >= 1; a splat has little detail to enlarge."""
    num_train_views: int = 96
    """Views drawn once, each used again and again, so that what is known of them is computed once."""
    num_test_views: int = 8
    """Held-out views of the report."""
    test_size: int = 512
    """Shorter side of pictures and video, pixels."""
    video_frames: int = 90
    """Frames of the before/after video; 0: no video."""
    views: Literal["auto", "orbit", "capture"] = "auto"
    """orbit: random views around the scene; capture: the capture's own cameras; auto: capture if there is one."""
    up: str | None = None
    """Up axis of the orbit, +x .. -z; none finds it."""
    center: list[float] | None = None
    """World point the orbit looks at; none finds it."""
    radius: float | None = None
    """Orbit radius in world units; none fits the scene into the picture."""
    elevation_deg: list[float] = field(default_factory=lambda: [5.0, 45.0])
    """Lowest and highest elevation of orbit views, degrees."""
    radius_scale: list[float] = field(default_factory=lambda: [0.92, 1.1])
    """Nearest and farthest orbit view, in orbit radii."""
    fov_y_deg: float = 40.0
    """Vertical opening angle of orbit views, degrees."""
    seed: int = 0
    """Decides which views are drawn."""
    check_capture: bool = True
    """Stop before any work where cameras hardly see the scene, or renders are not what the photographs show."""


@dataclass
class PhotosConfig:
    """Keys of the photographs."""

    cameras: str = ""
    """Folder or file of the capture; its photographs are found from there."""
    world: World = "auto"
    """Axes and scale of a transforms.json's cameras: colmap, file (as
    written), training (those of a nerfstudio training run); auto: training if ``dataparser`` is known, else colmap."""
    dataparser: str = ""
    """dataparser_transforms.json of a nerfstudio training run; empty: the one beside transforms.json, if any."""
    size: int = 256
    """Shorter side the photographs are fitted at, pixels; smaller ones are not enlarged."""
    hold_out_every: int = 8
    """Every so-manieth photograph, from the first, is left out and judges the fit; 0: none."""


@dataclass
class SingleImageConfig:
    """Keys of the image."""

    picture: str = ""
    """File to edit, any size and aspect."""
    size: int = 0
    """Shorter side in pixels it is edited at; 0: what the diffusion model was trained on."""
