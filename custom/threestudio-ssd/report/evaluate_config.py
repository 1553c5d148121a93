"""The keys of a measurement of an edit; apart from what measures, so that they are read in no time."""

from dataclasses import dataclass, field
from typing import Literal

from ..cameras import World
from ..masks import MaskConfig


@dataclass
class EvaluateConfig:
    """Keys of a measurement."""

    before: str = ""
    """Splat before the edit."""
    after: str = ""
    """Splat after it, same coordinates."""
    cameras: str = ""
    """File or folder of cameras, as for an edit; empty: an orbit fitted to the first splat."""
    world: World = "auto"
    """Axes and scale of a transforms.json's cameras, as ``data.world`` of an edit."""
    dataparser: str = ""
    """dataparser_transforms.json of a nerfstudio training run, as ``data.dataparser`` of an edit."""
    up: str | None = None
    """Up axis of an orbit, +x .. -z; none finds it."""
    truth: str = ""
    """Splat of what the edit should be, if there is one."""
    source_prompt: str = ""
    """Caption of the source; without captions there are no CLIP figures."""
    target_prompt: str = ""
    """Caption of the wanted edit."""
    protocol: Literal["paired-views", "ssd-released-script"] = "paired-views"
    """paired-views: the metric; ssd-released-script: what the paper's released script computes, defects and all."""
    num_views: int = 20
    """Poses, drawn once by ``seed`` and the same for both splats, >= 2; the paper's 20."""
    path_frames: int = 24
    """Frames of the path on which neighbours are compared, >= 2: a turntable, or the capture in its order."""
    seed: int = 0
    """Draws the poses, and the views of the released script."""
    size: int = 512
    """Shorter side of the renders, pixels."""
    background: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Colour behind the scene, RGB in [0, 1]."""
    clip_model: str = "auto"
    """ViT-L/14 is the published one; tiny-clip compares runs with each other. auto: that of the run's own report, which
    lies beside ``after``; tiny-clip where there is none."""
    lpips_net: Literal["none", "alex", "squeeze", "vgg"] = "none"
    """LPIPS between before and after; its weights come from torch's hub cache or the network."""
    structure_model: str = ""
    """facebook/dino-vitb8 for the structure distance; empty: none."""
    mask: MaskConfig = field(default_factory=MaskConfig)
    """What was to change, as for an edit, found on the first splat: figures inside and outside of it."""
    out: str = "outputs/evaluate"
    """Where ``evaluate.json evaluate.md views.png`` go."""
