"""What an edit may change: the words of the config, turned into a selection of Gaussians."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from omegaconf import DictConfig
from torch import Tensor

import threestudio

from ..cameras import Cameras
from ..errors import ConfigError, check_values
from ..fields import RadianceField
from ..gaussians import rgbs_from_sh0
from ..host import parse_structured
from ..pretrained import is_embedded, is_toy_scene
from ..rendering import render_bchw
from ..scenes import Scene
from .box import checked_box, checked_sphere, in_box, in_sphere
from .clean import grown, with_interior, with_seam_by_color, without_floaters
from .picture import load_masks
from .saved import load_selection
from .tracing import trace_views

LEAST_AGREEMENT = 0.15
"""Overlap of the best mask with what the selection shows there, below which masks belong to another scene."""
AUTO = "auto"
"""What ``settle_mask`` chooses."""


@dataclass
class MaskPart:
    """One thing that a Gaussian can be in; with several keys, it must be in all of them."""

    text: str | None = None
    """What to change, in words; found in the training views by ``segmenter``."""
    picture: str | None = None
    """A mask picture named after a view of the capture, or a folder of them; white may change."""
    box: list[float] | None = None
    """x_min y_min z_min x_max y_max z_max, world units."""
    sphere: list[float] | None = None
    """x y z radius, world units."""
    saved: str | None = None
    """selection.npy of an earlier run of this scene."""
    any_of: list[Any] = field(default_factory=list)
    """Parts of which at least one must hold: [{text: a chair}, {box: [...]}]."""
    none_of: list[Any] = field(default_factory=list)
    """Parts none of which may hold: [{text: the floor}]."""


@dataclass
class MaskConfig(MaskPart):
    """Keys of the mask; with several, a Gaussian must pass all of them; with none, everything may change."""

    segmenter: str = "auto"
    """Short name, folder or hub id of the text-prompted segmenter. auto: clipseg, but data/tiny-seg where an embedded
    model edits the embedded scene, for it knows nothing else."""
    revision: str | None = None
    """Branch, tag or commit of the segmenter's hub repository; for two, joined by a plus; none for the newest."""
    offline: bool = False
    """Whether to look for the segmenter only in the local hub cache."""
    confidence: float | None = None
    """How sure the segmenter must be, in (0, 1): of a pixel (CLIPSeg) or an object (SAM 3, GroundingDINO); none: what
    is usual for it, 0.3 for GroundingDINO and 0.5 for the others."""
    threshold: float = 0.5
    """Share of its visible weight that must lie under the masks for a Gaussian to be selected, in (0, 1)."""
    num_views: int = 24
    """Views that a text mask is traced through."""
    view_size: int = 256
    """Shorter side of these views, pixels; whatever the diffusion model's is."""
    clean: bool = True
    """Rid masks traced from text and pictures of floaters, and add what they enclose but no view shows."""
    seam: Literal["auto", "mask", "color"] = "auto"
    """color: where a traced selection stands on something, and of what hardly shows, neighbours of like colour decide
    as well, so that no rim of it stays and no ground beneath it goes along. auto: where the selection is replaced."""
    grow: float = 0.0
    """World units that the whole selection grows by; below 0 it shrinks."""


@dataclass(frozen=True)
class Evidence:
    """Masks in images that a selection was traced from.

    Attributes:
        views: (c) the views, at the masks' size.
        masks: (c h w) in [0, 1].
        agreements: (c) overlap with the selection, intersection over union.
        is_trusted: (c) whether the mask was counted.
    """

    views: Cameras
    masks: Float[Tensor, "c h w"]
    agreements: Float[Tensor, "c"]
    is_trusted: Bool[Tensor, "c"]


@dataclass(frozen=True)
class Selection:
    """The Gaussians an edit may change, and the masks in images they come from."""

    is_selected: Bool[Tensor, "n"]
    evidence: list[Evidence] = field(default_factory=list)


@dataclass(frozen=True)
class _Scene:
    """What parts of a mask are looked for in."""

    gaussians: Scene
    views: Cameras
    capture: Cameras | None
    background: Tensor
    of_texts: dict[str, tuple[Cameras, Tensor]]


def check_mask(cfg: MaskConfig | DictConfig) -> None:
    """Find what is wrong with the mask's keys before any work.

    Raises:
        ConfigError: For an unknown key in a part, a part without any key, or a number out of range.
    """
    check_values("mask", cfg, MaskConfig, {
        "threshold": (0 < cfg.threshold < 1, "between 0 and 1"),
        "num_views": (cfg.num_views >= 1, "at least 1"),
        "view_size": (cfg.view_size >= 16, "at least 16"),
    })  # fmt: skip
    if cfg.confidence is not None and not 0 < cfg.confidence < 1:
        raise ConfigError(
            what=f"mask.confidence is {cfg.confidence}", expected="between 0 and 1", fix="set mask.confidence=null"
        )
    _check_parts(cfg, "mask")


def settle_mask(cfg: DictConfig, scene: str, model: str | None = None, *, is_replaced: bool = False) -> DictConfig:
    """The mask's keys with what ``auto`` means in its place.

    Args:
        cfg: Keys of ``MaskConfig``.
        scene: The splat file that they select from.
        model: The diffusion model of the edit; None where there is none.
        is_replaced: Whether something else comes into the place of the selection.

    Raises:
        ConfigError: If the segmenter is not to be had, or as in ``check_mask``.
    """
    check_mask(cfg)
    settled = cfg.copy()
    if cfg.seam == AUTO:
        settled.seam = "color" if is_replaced else "mask"
    if not _reads_text(cfg):
        return settled
    from .text import locate_segmenter

    if cfg.segmenter == AUTO:
        is_toy = is_toy_scene(scene) and (model is None or is_embedded(model))
        settled.segmenter = "data/tiny-seg" if is_toy else "clipseg"
        threestudio.info(f"mask.segmenter is {settled.segmenter}.")
    locate_segmenter(settled.segmenter, revision=cfg.revision, is_offline=cfg.offline)
    return settled


def find_selection(
    cfg: MaskConfig | DictConfig, gaussians: Scene, views: Cameras, capture: Cameras | None, background: Tensor,
    of_texts: dict[str, tuple[Cameras, Tensor]] | None = None,
) -> Selection:  # fmt: skip
    """Turn the words of the config into a selection.

    Args:
        cfg: What to select.
        gaussians: The scene.
        views: Training views, for a text mask.
        capture: The capture's cameras, for mask pictures.
        background: Behind the scene.
        of_texts: Views and masks of texts that were looked for before in these views, by their words; filled with
            those of this call. None: nothing is kept.

    Raises:
        ConfigError: If the selection is empty, a key cannot be used, or mask pictures come without cameras.
    """
    check_mask(cfg)
    evidence: list[Evidence] = []
    scene = _Scene(gaussians, views, capture, background, {} if of_texts is None else of_texts)
    is_selected = _in_part(cfg, cfg, scene, evidence)
    is_selected = grown(gaussians.means, is_selected, cfg.grow)
    if not is_selected.any():
        what = f"the mask ({describe_mask(cfg)}) selects none of {len(gaussians)} {gaussians.parts}"
        raise ConfigError(what=what, expected="at least one", fix=_way_to_some(cfg, gaussians))
    threestudio.info(f"The mask selects {int(is_selected.sum()):,} of {len(gaussians):,} {gaussians.parts}.")
    return Selection(is_selected, evidence)


def _way_to_some(cfg: Any, gaussians: Scene) -> str:
    """What to do about a mask that selects nothing."""
    places = [f"mask.{name}" for name in ("box", "sphere") if _is_set(cfg, name)]
    ends = gaussians.means.amin(dim=0), gaussians.means.amax(dim=0)
    low, high = ([round(each, 2) for each in gaussians.local(end.tolist(), sign=1)] for end in ends)
    advice = f"move or enlarge {' and '.join(places)}: centres lie between {low} and {high}" if places else ""
    if any(_is_set(cfg, name) for name in _KEYS if name not in ("box", "sphere")):
        advice += ", or check the other keys of the mask" if advice else "lower mask.threshold, or check the pictures"
    return advice or "enlarge the selection, or raise mask.grow"


def describe_mask(part: MaskPart | MaskConfig | DictConfig) -> str:
    """The keys of a part that are set, with their values, as one line."""
    words = [f"{name} {_plain(getattr(part, name))}" for name in _KEYS if _is_set(part, name)]
    return ", ".join(words) or "everything"


_KEYS = ("text", "picture", "box", "sphere", "saved", "any_of", "none_of")


def _reads_text(part: Any) -> bool:
    inner = [each for name in ("any_of", "none_of") for each in _inner(part, name)]
    return _is_set(part, "text") or any(_reads_text(each) for each in inner)


def _is_set(part: Any, name: str) -> bool:
    value = getattr(part, name)
    return value is not None and value != "" and not (name.endswith("_of") and len(value) == 0)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _inner(part: Any, name: str) -> list[DictConfig]:
    return [parse_structured(MaskPart, inner) for inner in getattr(part, name)]


def _check_parts(part: Any, path: str) -> None:
    if part.box is not None:
        checked_box(part.box, f"{path}.box")
    if part.sphere is not None:
        checked_sphere(part.sphere, f"{path}.sphere")
    for name in ("any_of", "none_of"):
        for index, keys in enumerate(getattr(part, name)):
            where = f"{path}.{name}[{index}]"
            if not isinstance(keys, dict | DictConfig):
                fix = "write it as {text: a chair}, for example"
                raise ConfigError(what=f"{where} is {keys!r}", expected="a group of keys", fix=fix)
            inner = parse_structured(MaskPart, keys)
            if not any(_is_set(inner, key) for key in _KEYS):
                expected, fix = f"one of its keys: {', '.join(_KEYS)}", "say what it is, or remove it"
                raise ConfigError(what=f"{where} is empty", expected=expected, fix=fix)
            _check_parts(inner, where)


def _in_part(part: Any, cfg: MaskConfig | DictConfig, scene: _Scene, evidence: list[Evidence]) -> Bool[Tensor, "n"]:
    """The Gaussians that pass every key of a part."""
    gaussians = scene.gaussians
    is_in = torch.ones(len(gaussians), dtype=torch.bool, device=gaussians.device)
    if part.box is not None:
        is_in &= in_box(gaussians.means, gaussians.local(checked_box(part.box)))
    if part.sphere is not None:
        is_in &= in_sphere(gaussians.means, gaussians.local(checked_sphere(part.sphere)))
    if part.saved:
        is_in &= load_selection(part.saved, len(gaussians)).to(is_in.device)
    if part.picture:
        views, masks, inside = _image_masks(part.picture, scene)
        is_in &= _traced(views, masks, cfg, scene, evidence, inside)
        _check_agreement(evidence[-1], part.picture)
    if part.text:
        is_in &= _traced(*_text_masks(part.text, cfg, scene), cfg, scene, evidence)
    if len(part.any_of):
        is_in &= torch.stack([_in_part(inner, cfg, scene, evidence) for inner in _inner(part, "any_of")]).any(dim=0)
    for inner in _inner(part, "none_of"):
        is_in &= ~_in_part(inner, cfg, scene, evidence)
    return is_in


def _image_masks(picture: str, scene: _Scene) -> tuple[Cameras, Tensor, Tensor]:
    if scene.capture is None:
        expected, fix = "the cameras of the views that the masks were drawn on", "set cameras=PATH, or use mask.box"
        raise ConfigError(what=f"mask.picture is {picture} but there are no cameras", expected=expected, fix=fix)
    return load_masks(picture, scene.capture)


def _check_agreement(evidence: Evidence, picture: str) -> None:
    """Refuse mask pictures that lie nowhere on the scene: they were drawn on another one."""
    best = float(evidence.agreements.max())
    if best < LEAST_AGREEMENT:
        raise ConfigError(
            what=f"mask.picture {picture} does not lie on the scene: mask and selection overlap by {best:.0%} at best",
            expected="masks drawn on photographs or renders of this very scene",
            fix="set cameras and mask.picture to the capture of the scene, or use mask.text, mask.box or mask.sphere",
        )


def _text_masks(text: str, cfg: MaskConfig | DictConfig, scene: _Scene) -> tuple[Cameras, Tensor]:
    from .text import segment

    if text in scene.of_texts:
        return scene.of_texts[text]
    count = len(scene.views)
    views = scene.views[torch.linspace(0, count - 1, min(cfg.num_views, count)).round().long()]
    views = views.scaled(cfg.view_size / int(min(views.widths[0], views.heights[0])))
    images = render_bchw(scene.gaussians, views, scene.background)
    segmenter = "clipseg" if cfg.segmenter == AUTO else cfg.segmenter
    masks = segment(images, text, segmenter, cfg.confidence, revision=cfg.revision, is_offline=cfg.offline)
    scene.of_texts[text] = views, masks.float()
    return scene.of_texts[text]


def _traced(
    views: Cameras, masks: Tensor, cfg: MaskConfig | DictConfig, scene: _Scene, evidence: list[Evidence],
    inside: Tensor | None = None,
) -> Bool[Tensor, "n"]:  # fmt: skip
    """The Gaussians under masks in images, cleaned if the config says so."""
    if isinstance(scene.gaussians, RadianceField):
        threestudio.info(f"Tracing {len(views)} masks into the field; about half a second each.")
    traced = trace_views(scene.gaussians, views, masks, cfg.threshold, inside)
    evidence.append(Evidence(views, masks, traced.agreements, traced.is_trusted))
    if num_left := int((~traced.is_trusted).sum()):
        threestudio.warn(f"{num_left} of {len(views)} masks contradict the others and are left out; see save/mask.")
    is_selected, means = traced.is_selected, scene.gaussians.means
    if cfg.clean:
        is_selected = with_interior(means, without_floaters(means, is_selected, traced.weights), traced.is_seen)
    if cfg.seam == "color":
        rgbs = rgbs_from_sh0(scene.gaussians.sh0[:, 0]).clamp(0, 1)
        is_selected = with_seam_by_color(means, rgbs, is_selected, traced.weights)
    return is_selected
