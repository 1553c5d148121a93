"""The guidance: a network, a score and a timestep schedule, turned into a loss on rendered images."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

import threestudio
from threestudio.utils.base import BaseObject

from ..diffusion import Backbone, PromptEmbeds, load_backbone
from ..errors import ConfigError
from ..scores import Branch, predict_branches
from ..seeds import Stream, generator
from .contrast import CDSConfig, ContrastTerm
from .score_options import build_score
from .timesteps import check_range, check_trained, nearest, timestep_at
from .variational import LoraNetworkConfig, VariationalTerm


@dataclass(frozen=True)
class GuidanceOutput:
    """What one guidance step gives.

    Attributes:
        loss: Scalar whose gradient on the latents is score / b; its value is no sign of progress.
        score: (b c zh zw) what was fed back to the latents.
        timestep: The timestep of the step's first view; with one seed, of all.
    """

    loss: Tensor
    score: Tensor
    timestep: int


@threestudio.register("ssd-guidance")
class SSDGuidance(BaseObject):
    """Any score of the paper on any backbone: ``guidance(images, latents_src, prompts, step=..., num_steps=...)``."""

    @dataclass
    class Config(BaseObject.Config):
        """Keys of the guidance."""

        model: str = "data/tiny-ldm"
        """Hub id or folder of the diffusion model, in diffusers layout."""
        dtype: str | None = None
        """Precision of the network: fp32, bf16, fp16; none chooses for the device."""
        vae_dtype: str | None = None
        """Precision of the VAE: fp32 or bf16; none chooses for the device."""
        vae: str | None = None
        """Another VAE, by folder or hub id; taesd is the tiny one that fits the model."""
        lora: list[str] = field(default_factory=list)
        """LoRA files, each path or path:strength."""
        revision: str | None = None
        """Commit or branch of a hub model."""
        variant: str | None = None
        """Weight files of this variant, such as fp16: half the download where the repository has them."""
        skip_t5: bool = False
        """Leave out SD 3's third text encoder: 9.5 GB in fp16, and the long prompts that only it reads."""
        offline: bool = False
        """Never ask the hub; use what is on disk."""
        channels_last: bool = False
        """Convolution weights channels-last: faster on recent GPUs, and on CPUs."""
        compile: bool = False
        """Put the U-Net through torch.compile: minutes at the first step, faster after it."""
        vae_tiling: bool = False
        """Encode and decode in tiles: less memory for decoding pictures beyond a tile (512 px for SD, 1024 for SDXL and
        SD 3); none in a step of an edit, whose gradient keeps the activations of all tiles."""
        vae_checkpointing: bool = False
        """Recompute the encoder's activations in the backward pass: a third less memory, a third more work."""
        freeu: dict = field(default_factory=lambda: {"kind": "none"})
        """FreeU: kind none, paper or diffusers, and b1 b2 s1 s2; the released code runs paper with 1.1 1.1 0.9 0.2."""
        score: dict = field(default_factory=lambda: {"name": "ssd"})
        """name of a score or preset, and any of its own fields."""
        cds: CDSConfig = field(default_factory=CDSConfig)
        """The contrastive regulariser that may be added to the score; weight 0 is off."""
        lora_network: LoraNetworkConfig = field(default_factory=LoraNetworkConfig)
        """The LoRA that the score vsd trains beside the edit."""
        schedule: Literal["linear", "square-root", "cosine", "dream-time", "uniform"] = "linear"
        """How the timestep falls over the run; linear is the paper's, uniform draws at random."""
        t_min_frac: float = 0.02
        """Smallest timestep over T, in (0, t_max_frac)."""
        t_max_frac: float = 0.98
        """Largest timestep over T, below 1."""
        only_timesteps: list[int] = field(default_factory=list)
        """Timesteps a few-step model was distilled at; the schedule's are moved to the nearest; empty: all are good."""
        grad_clip: float | None = None
        """Largest absolute value of an element of the score; none for no limit."""

    cfg: Config

    def configure(self, backbone: Backbone | None = None) -> None:
        """Load the model unless one is handed in."""
        check_range(self.cfg.t_min_frac, self.cfg.t_max_frac, self.cfg.schedule)
        self.score = build_score(self.cfg.score)
        self.backbone = backbone or load_backbone(
            self.cfg.model,
            device=self.device,
            dtype=self.cfg.dtype,
            vae_dtype=self.cfg.vae_dtype,
            vae=self.cfg.vae,
            lora=list(self.cfg.lora),
            revision=self.cfg.revision,
            variant=self.cfg.variant,
            skip_t5=self.cfg.skip_t5,
            offline=self.cfg.offline,
            freeu=dict(self.cfg.freeu),
            channels_last=self.cfg.channels_last,
            compile=self.cfg.compile,
            vae_tiling=self.cfg.vae_tiling,
            vae_checkpointing=self.cfg.vae_checkpointing,
        )
        check_trained(self.cfg.only_timesteps, self.backbone.num_timesteps)
        has_lora = any(branch.network == "lora" for branch in self.score.branches)
        self._refuse_compiling("score", has_lora, "switches a LoRA on and off")
        self._refuse_compiling("cds", self.cfg.cds.weight != 0, "reads the network's layers")
        self.contrast = ContrastTerm(self.cfg.cds, self.backbone) if self.cfg.cds.weight != 0 else None
        self.variational = VariationalTerm(self.cfg.lora_network, self.backbone) if has_lora else None
        self._needs = set(inspect.signature(self.score.__call__).parameters) - {"eps"}
        reads_picture = any(branch.image == "src" for branch in self.score.branches)
        if reads_picture != self.backbone.has_image_condition:
            kind = "is an InstructPix2Pix model" if self.backbone.has_image_condition else "reads no picture"
            fix = "ssd-ip2p" if self.backbone.has_image_condition else "ssd"
            name = self.cfg.score.get("name", "ssd")
            raise ConfigError(
                what=f"score {name} does not fit model {self.backbone.model_id}, which {kind}",
                expected="a score for this kind of model",
                fix=f"set system.guidance.score.name={fix}, or another model",
            )

    def _refuse_compiling(self, part: str, is_used: bool, why: str) -> None:
        if is_used and self.cfg.compile:
            raise ConfigError(
                what=f"system.guidance.compile is true, and system.guidance.{part} {why}",
                expected="a network that is not compiled",
                fix="set system.guidance.compile=false",
            )

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Every noise prediction that a step may need, the contrastive term's included."""
        extra = self.contrast.branches if self.contrast is not None else ()
        return tuple(dict.fromkeys((*self.score.branches, *extra)))

    @property
    def prompt_names(self) -> set[str]:
        """Which prompts are asked for: src, tgt, null, neg."""
        return {branch.prompt for branch in self.branches}

    @property
    def needs_picture(self) -> bool:
        """Whether the model is conditioned on the source picture."""
        return self.backbone.has_image_condition

    def __call__(
        self,
        images_bchw: Float[Tensor, "b 3 h w"],
        latents_src: Float[Tensor, "b c zh zw"],
        prompts: Mapping[str, PromptEmbeds],
        *,
        step: int,
        num_steps: int,
        seed: int | Sequence[int],
        image_condition: Float[Tensor, "b c zh zw"] | None = None,
        latent_mask: Float[Tensor, "b 1 zh zw"] | None = None,
    ) -> GuidanceOutput:
        """One step: encode with gradient, one batched noise prediction, the score as the latents' gradient.

        Args:
            images_bchw: Renders of the edited scene, in [0, 1]; gradients flow to them.
            latents_src: Latents of the same views of the source scene.
            prompts: By name, one row for all views or one for each.
            step: Step of the run, 0 .. num_steps - 1.
            num_steps: Length of the run.
            seed: With the step, decides timestep and noise, so that a resumed run draws the same. With one seed for
                each view, a view gets what it would get alone.
            image_condition: For InstructPix2Pix, from ``backbone.encode_condition``.
            latent_mask: Factor on the score in [0, 1], where the edit may act.
        """
        return self.latent_step(
            self.backbone.encode(images_bchw), latents_src, prompts, step=step, num_steps=num_steps, seed=seed,
            image_condition=image_condition, latent_mask=latent_mask,
        )  # fmt: skip

    def latent_step(
        self,
        latents: Float[Tensor, "b c zh zw"],
        latents_src: Float[Tensor, "b c zh zw"],
        prompts: Mapping[str, PromptEmbeds],
        *,
        step: int,
        num_steps: int,
        seed: int | Sequence[int],
        image_condition: Float[Tensor, "b c zh zw"] | None = None,
        latent_mask: Float[Tensor, "b 1 zh zw"] | None = None,
    ) -> GuidanceOutput:
        """The same from latents; arguments as for a call."""
        timesteps, noise = self._draw(latents, step, num_steps, seed)
        first_seed = seed if isinstance(seed, int) else seed[0]
        score = self.compute_score(
            latents.detach(), latents_src, prompts, timesteps, noise, image_condition, step, first_seed
        )
        if latent_mask is not None:
            score = score * latent_mask
        if self.cfg.grad_clip is not None:
            score = score.clamp(-self.cfg.grad_clip, self.cfg.grad_clip)
        loss = 0.5 * (latents - (latents.detach() - score)).pow(2).sum() / len(latents)
        return GuidanceOutput(loss, score, int(timesteps[0]))

    def _draw(
        self, latents: Float[Tensor, "b c zh zw"], step: int, num_steps: int, seed: int | Sequence[int]
    ) -> tuple[Int[Tensor, "b"], Float[Tensor, "b c zh zw"]]:
        """Timesteps and noise of a step."""

        def draw(one_seed: int, count: int) -> tuple[Tensor, Tensor]:
            draws = generator(one_seed, step, Stream.DIFFUSION)
            timestep = timestep_at(
                self.cfg.schedule, step, num_steps, num_timesteps=self.backbone.num_timesteps,
                t_min_frac=self.cfg.t_min_frac, t_max_frac=self.cfg.t_max_frac, generator=draws,
            )  # fmt: skip
            timestep = nearest(timestep, self.cfg.only_timesteps)
            return torch.full((count,), timestep), torch.randn((count, *latents.shape[1:]), generator=draws)

        parts = [draw(seed, len(latents))] if isinstance(seed, int) else [draw(each, 1) for each in seed]
        timesteps, noise = (torch.cat(part) for part in zip(*parts, strict=True))
        return timesteps.to(latents.device), noise.to(latents)

    @torch.no_grad()
    def compute_score(
        self,
        latents: Float[Tensor, "b c zh zw"],
        latents_src: Float[Tensor, "b c zh zw"],
        prompts: Mapping[str, PromptEmbeds],
        timestep: int | Int[Tensor, "b"],
        noise: Float[Tensor, "b c zh zw"],
        image_condition: Float[Tensor, "b c zh zw"] | None = None,
        draw: int = 0,
        seed: int = 0,
    ) -> Float[Tensor, "b c zh zw"]:
        """The score, with the contrastive term if there is one; source and target latents share the noise.

        Of all scores, VSD alone leaves a trace: its LoRA has learned a step afterwards.

        Args:
            latents: Of the edit.
            latents_src: Of the source.
            prompts: By name, one row for all views or one for each.
            timestep: One for all views or one for each.
            noise: Of each view.
            image_condition: For InstructPix2Pix.
            draw: With the seed decides the random numbers of the contrastive term and of the LoRA's training, which
                all views share; the step.
            seed: Of the run; of several the first.
        """
        size = len(latents)
        timesteps = torch.as_tensor(timestep, device=latents.device).expand(size)
        noisy_tgt = self.backbone.add_noise(latents, noise, timesteps)
        noisy_src = self.backbone.add_noise(latents_src, noise, timesteps)
        wanted = self.score.branches_at(timesteps) if hasattr(self.score, "branches_at") else self.score.branches
        given = {
            "latents_noisy": {"tgt": noisy_tgt, "src": noisy_src},
            "timesteps": timesteps,
            "prompts": {name: _rows(prompts[name], size) for name in self.prompt_names},
            "image_condition": image_condition,
        }
        frozen = [branch for branch in wanted if branch.network == "frozen"]
        pull = 0.0
        if self.contrast is None:
            eps = predict_branches(self.backbone.predict_noise, frozen, **given)
        else:
            eps, pull = self.contrast(frozen, latents, noise, generator=generator(seed, draw, Stream.CONTRAST), **given)
        if self.variational is not None:
            training = generator(seed, draw, Stream.LORA)
            del given["image_condition"]
            eps |= self.variational(latents, generator=training, **given)
        alphas = self.backbone.alphas_cumprod.to(latents)
        previous = (timesteps - getattr(self.score, "stride", 1)).clamp(min=0)
        known = {
            "noise": noise,
            "timesteps": timesteps,
            "t_frac": (timesteps.to(latents) / self.backbone.num_timesteps).view(-1, 1, 1, 1),
            "latents_tgt": latents,
            "latents_src": latents_src,
            "latents_noisy_tgt": noisy_tgt,
            "latents_noisy_src": noisy_src,
            "alphas_cumprod": alphas[timesteps].view(-1, 1, 1, 1),
            "alphas_cumprod_prev": alphas[previous].view(-1, 1, 1, 1),
            "betas": (1 - alphas[timesteps] / alphas[(timesteps - 1).clamp(min=0)]).view(-1, 1, 1, 1),
        }
        score = self.score(eps, **{name: known[name] for name in self._needs})
        return score + pull

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the guidance: VSD's LoRA and its optimiser; else nothing."""
        return {} if self.variational is None else {"variational": self.variational.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        if self.variational is not None and "variational" in state:
            self.variational.load_state_dict(state["variational"])


def _rows(prompt: PromptEmbeds, size: int) -> PromptEmbeds:
    """One row for each view."""
    return prompt if len(prompt) == size else prompt.expand(size)
