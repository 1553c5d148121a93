"""The editors by inversion of the paper's Table 2, and what else was published of them, by name."""

from dataclasses import dataclass
from typing import Any, ClassVar

from .editor import TwoBranches


@dataclass(frozen=True)
class DDIMPromptToPrompt(TwoBranches):
    """DDIM inversion, Prompt-to-Prompt: "DDIM + P2P"."""


@dataclass(frozen=True)
class DDIMPlugAndPlay(TwoBranches):
    """DDIM inversion, Plug-and-Play: "DDIM + PnP"."""

    usual_control: ClassVar[dict[str, Any]] = {"name": "pnp"}


@dataclass(frozen=True)
class DDIMMasaCtrl(TwoBranches):
    """DDIM inversion, MasaCtrl: "DDIM + MasaCtrl"."""

    usual_control: ClassVar[dict[str, Any]] = {"name": "masactrl"}


@dataclass(frozen=True)
class NullTextPromptToPrompt(TwoBranches):
    """Null-text inversion, Prompt-to-Prompt: "NT + P2P"."""

    usual_inversion: ClassVar[dict[str, Any]] = {"name": "null-text"}


@dataclass(frozen=True)
class StyleDiffusionPromptToPrompt(TwoBranches):
    """StyleDiffusion, Prompt-to-Prompt for longer, without blended words: "StyleD + P2P"."""

    usual_inversion: ClassVar[dict[str, Any]] = {"name": "style-diffusion"}
    usual_control: ClassVar[dict[str, Any]] = {"name": "p2p", "cross_steps": 0.6, "reweight": 1.0, "has_blend": False}


@dataclass(frozen=True)
class DirectPromptToPrompt(TwoBranches):
    """Direct inversion, Prompt-to-Prompt: "DT + P2P"."""

    usual_inversion: ClassVar[dict[str, Any]] = {"name": "direct"}


@dataclass(frozen=True)
class DirectPlugAndPlay(TwoBranches):
    """Direct inversion, Plug-and-Play."""

    usual_inversion: ClassVar[dict[str, Any]] = {"name": "direct"}
    usual_control: ClassVar[dict[str, Any]] = {"name": "pnp"}


@dataclass(frozen=True)
class DirectMasaCtrl(TwoBranches):
    """Direct inversion, MasaCtrl."""

    usual_inversion: ClassVar[dict[str, Any]] = {"name": "direct"}
    usual_control: ClassVar[dict[str, Any]] = {"name": "masactrl"}
