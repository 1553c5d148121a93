"""What a splat file holds: counts, extents, what its header says, whether cameras fit; and keys to paste."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras import Cameras, World, load_cameras
from ..cameras.cameras import FAR
from ..cameras.orbit import up_of_scene, weighted_quantiles
from ..data.agreement import agreement
from ..early import named
from ..fields import LatentField, RadianceField, field_as_gaussians, is_field, load_field
from ..gaussians import Gaussians, rgbs_from_sh0
from ..gaussians.io import load_gaussians
from ..gaussians.io.losses import unknown_columns
from ..metrics.colors import are_out_of_range

SHARES = (0.01, 0.05, 0.5, 0.95, 0.99)
"""Quantiles that are told; the second and the last but one are the core of the scene."""
CORE = (SHARES[1], SHARES[-2])
LEAST_OPACITY = 1 / 255
"""Gaussians below it draw nothing, and do not count for the extents."""
MOST_LOOKED_THROUGH = 100
"""Cameras that are asked what they see, at most, evenly spread."""
FIELD = "radiance field"


@dataclass
class InfoConfig:
    """Keys of a look at a file."""

    path: str = ""
    """The splat: .ply .compressed.ply .splat .spz .sog .ksplat .pt .pth .ckpt; or the folder of a radiance field."""
    cameras: str = ""
    """File or folder of its capture, to see whether it fits; empty: none."""
    world: World = "auto"
    """Axes and scale of a transforms.json's cameras, as ``data.world`` of an edit."""
    dataparser: str = ""
    """dataparser_transforms.json of a nerfstudio training run, as ``data.dataparser`` of an edit."""
    json: bool = False
    """Print one JSON document in place of the text."""


def read_info(cfg: Any) -> dict[str, Any]:
    """The facts of a file, plain values.

    Args:
        cfg: Keys of ``InfoConfig``.

    Raises:
        SceneFormatError: If the file or the cameras cannot be read.
    """
    capture = None
    if cfg.cameras:
        capture = load_cameras(cfg.cameras, world=cfg.world, dataparser=cfg.dataparser or None)
    scene = load_field(cfg.path) if is_field(cfg.path) else load_gaussians(cfg.path)
    gaussians = field_as_gaussians(scene) if isinstance(scene, RadianceField) else scene
    capture = capture and capture.counted_from(gaussians.offset)
    facts = {"file": cfg.path, "bytes": num_bytes(named(cfg.path)), **scene_facts(gaussians, capture)}
    if isinstance(scene, RadianceField):
        facts |= _field_facts(scene)
    if capture is not None:
        facts["cameras"] = capture_facts(gaussians, capture, cfg.cameras)
    return facts


def _field_facts(field: RadianceField) -> dict[str, Any]:
    """What only a radiance field says of itself; its nodes are counted as Gaussians are."""
    says: dict[str, Any] = {"resolution": field.lattice.resolution, "half": number(field.lattice.half)}
    if isinstance(field, LatentField):
        says |= {"autoencoder": field.space.autoencoder.model, "size": field.space.size}
    kind = f"{FIELD} of latents" if isinstance(field, LatentField) else FIELD
    return {"format": kind, "gaussians": len(field), "says": says}


def num_bytes(path: Path) -> int:
    """Size of a file, or of the files in a folder."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def scene_facts(gaussians: Gaussians, capture: Cameras | None = None) -> dict[str, Any]:
    """Counts, extents, opacities, sizes, colours, up, what the file says of itself, and keys to paste.

    Args:
        gaussians: As they were read.
        capture: Its cameras, which know where up is.
    """
    origin, opacities = gaussians.origin, gaussians.opacities
    is_drawn = opacities > LEAST_OPACITY
    facts: dict[str, Any] = {
        "format": origin.format if origin is not None else None, "gaussians": len(gaussians),
        "drawn": int(is_drawn.sum()), "not_finite_or_unturned": len(origin.altered) if origin is not None else 0,
        "sh_degree": gaussians.sh_degree, "says": dict(origin.notes) if origin is not None else {},
        "comments": comments_of(gaussians), "other_columns": unknown_columns(gaussians),
    }  # fmt: skip
    if not is_drawn.any():
        return facts
    offset = torch.tensor(gaussians.offset, dtype=torch.float64)
    means = gaussians.means[is_drawn].double() + offset
    up, how = up_of_scene(means, opacities[is_drawn].double(), capture, gaussians.stated_up)
    rgbs = rgbs_from_sh0(gaussians.sh0[is_drawn, 0])
    return facts | {
        "up": axis_name(up), "up_found_by": how,
        "extents": dict(zip("xyz", quantiles(means), strict=True)),
        "bounds": [means.amin(0).tolist(), means.amax(0).tolist()],
        "opacity": quantiles(opacities[:, None].double())[0], "size": quantiles(sizes(gaussians)[is_drawn][:, None])[0],
        "colours_out_of_range": float(are_out_of_range(rgbs).float().mean()), "keys": keys_to_paste(means, up),
    }  # fmt: skip


def sizes(gaussians: Gaussians) -> Float[Tensor, "n"]:
    """Geometric mean of each Gaussian's standard deviations, world units, float64."""
    return gaussians.log_scales.double().mean(dim=1).exp()


def quantiles(values: Float[Tensor, "n d"]) -> list[dict[str, float]]:
    """Of each column, the values below which ``SHARES`` of the rows lie, as ``{"1%": ..., ...}``."""
    evenly = torch.ones(len(values), dtype=values.dtype)
    columns = torch.stack([weighted_quantiles(values, evenly, share) for share in SHARES]).T.tolist()
    return [{f"{share:.0%}": value for share, value in zip(SHARES, column, strict=True)} for column in columns]


def axis_name(axis: Float[Tensor, "3"]) -> str:
    """``+x`` .. ``-z`` where a direction is one of them, else three numbers as a config has them."""
    place = int(axis.abs().argmax())
    if float(axis[place].abs()) > 1 - 1e-6:
        return f"{'+' if axis[place] > 0 else '-'}{'xyz'[place]}"
    return numbers(axis.tolist())


def keys_to_paste(means: Float[Tensor, "n 3"], up: Float[Tensor, "3"]) -> list[str]:
    """What to write after a command: the core of the scene as a box and as a sphere, and where up is."""
    evenly = torch.ones(len(means), dtype=means.dtype)
    low, middle, high = (weighted_quantiles(means, evenly, share) for share in (CORE[0], 0.5, CORE[1]))
    keys = []
    if (low < high).all():
        keys.append(f"mask.box={numbers([*low.tolist(), *high.tolist()])}")
    radius = float(weighted_quantiles((means - middle).norm(dim=1, keepdim=True), evenly, CORE[1]))
    if radius > 0:
        keys.append(f"mask.sphere={numbers([*middle.tolist(), radius])}")
    name = axis_name(up)
    return [*keys, f"data.up={name}"] if name[0] in "+-" else keys


def numbers(values: Sequence[float]) -> str:
    """Numbers as a list that can be pasted after ``key=``."""
    return f"[{','.join(map(number, values))}]"


def number(value: float) -> str:
    """Four digits, or hundredths of what is large, as map coordinates are."""
    return f"{value + 0.0:.4g}" if abs(value) < FAR else f"{value:.2f}"


def comments_of(gaussians: Gaussians) -> list[str]:
    """The comment lines of a PLY's header."""
    header = getattr(gaussians.origin.file, "header", None) if gaussians.origin is not None else None
    return list(header.comments) if header is not None else []


def capture_facts(gaussians: Gaussians, capture: Cameras, name: str) -> dict[str, Any]:
    """What the cameras of a capture are, what they see of the scene, and whether they fit it.

    Args:
        gaussians: The scene.
        capture: Its cameras.
        name: What they were given as.
    """
    agreed = agreement(gaussians, capture, name)
    fit, problem = agreed.fit, agreed.problem
    sides = sorted({(int(width), int(height)) for width, height in zip(capture.widths, capture.heights, strict=True)})
    return {
        "views": len(capture), "photographs": agreed.num_photographs, "sizes": [list(each) for each in sides],
        "scene_seen": seen_share(gaussians, capture), "images_covered": agreed.covered,
        "psnr": fit.psnr if fit is not None else None, "psnr_other_views": fit.others if fit is not None else None,
        "problem": None if problem is None else {"what": problem.what, "fix": problem.fix},
    }  # fmt: skip


def seen_share(gaussians: Gaussians, cameras: Cameras) -> float:
    """Share of the drawn Gaussians whose centre lies in at least one image, whatever stands in front of it."""
    means = gaussians.means[gaussians.opacities > LEAST_OPACITY]
    if not len(means):
        return 0.0
    is_seen = torch.zeros(len(means), dtype=torch.bool)
    rows = torch.linspace(0, len(cameras) - 1, min(MOST_LOOKED_THROUGH, len(cameras))).round().long()
    for row in rows.tolist():
        places, depths = cameras.pixels(row, means)
        size = torch.stack([cameras.widths[row], cameras.heights[row]])
        is_seen |= (depths > 0) & ((places >= 0) & (places <= size)).all(dim=1)
    return float(is_seen.float().mean())


def as_text(facts: Mapping[str, Any]) -> str:
    """The facts for people, with the keys to paste last."""
    says = [f"{key} {value}" for key, value in facts["says"].items()] + [f'"{text}"' for text in facts["comments"]]
    parts = "nodes" if str(facts["format"]).startswith(FIELD) else "Gaussians"
    lines = [
        f"{facts['file']}: {facts['format']}, {facts['bytes'] / 1e6:.2f} MB",
        f"{facts['gaussians']:,} {parts}, {facts['drawn']:,} of them drawn; SH degree {facts['sh_degree']}",
    ]
    if facts["not_finite_or_unturned"]:
        lines.append(f"{facts['not_finite_or_unturned']:,} rows hold NaN, infinity or no rotation")
    lines.append(f"the file says: {'; '.join(says) or 'nothing of itself'}")
    if facts["other_columns"]:
        lines.append(f"other columns: {', '.join(facts['other_columns'])}")
    if "up" not in facts:
        return "\n".join([*lines, "Nothing in it is drawn: every opacity is below 1/255."]) + "\n"
    lines.append(f"up: {facts['up']} ({facts['up_found_by']})")
    rows = {**{f"{axis} (world units)": values for axis, values in facts["extents"].items()},
            "opacity": facts["opacity"], "size (world units)": facts["size"]}  # fmt: skip
    heads = list(facts["opacity"])
    lines += ["", f"{'':20}" + "".join(f"{head:>11}" for head in heads)]
    lines += [f"{name:20}" + "".join(f"{number(values[head]):>11}" for head in heads) for name, values in rows.items()]
    low, high = (numbers(corner) for corner in facts["bounds"])
    lines += ["", f"outermost centres: {low} to {high}"]
    lines.append(f"colours out of range: {facts['colours_out_of_range']:.2%} of what is drawn")
    if "cameras" in facts:
        lines += _camera_lines(facts["cameras"])
    return "\n".join([*lines, "", "to paste (the box and the sphere hold the middle of the scene):",
                      *(f"  {key}" for key in facts["keys"])]) + "\n"  # fmt: skip


def _camera_lines(facts: Mapping[str, Any]) -> list[str]:
    sides = ", ".join(f"{width} x {height}" for width, height in facts["sizes"][:3])
    more = " and more" if len(facts["sizes"]) > 3 else ""
    lines = [
        f"cameras: {facts['views']} views of {sides}{more}, {facts['photographs']} with their photographs",
        f"  they see {facts['scene_seen']:.0%} of it; it covers {facts['images_covered']:.0%} of their images",
    ]
    if facts["psnr"] is not None:
        lines.append(f"  renders come within {facts['psnr']:.1f} dB of the photographs")
    problem = facts["problem"]
    fits = "  they fit" if facts["psnr"] is not None else "  they fit as far as can be seen without photographs"
    return [*lines, fits if problem is None else f"  they do not fit: {problem['what']}; {problem['fix']}"]
