"""The guidance: a network, a score and a timestep schedule, turned into a loss on rendered images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

import threestudio
from threestudio.utils.base import BaseObject

from ..diffusion import Backbone, ModelKeys, PromptEmbeds, backbone_of
from ..errors import ConfigError
from ..host import Completed, get_device
from ..ranks import ALONE, Rank
from ..scores import Branch, ScoreInputs, predict_branches
from ..seeds import Stream, generator
from .contrast import CDSConfig, ContrastTerm
from .score_options import build_score
from .timesteps import check_range, check_sampler, check_trained, nearest, timestep_at
from .variational import LoraNetworkConfig, VariationalTerm


@dataclass(frozen=True)
class GuidanceOutput:
    """What one guidance step gives.

    Attributes:
        loss: Sum over edits of 0.5 |score|^2 / views of an edit; its gradient on the latents is the score over that
            number of views. Its value is no sign of progress.
        score: (b c zh zw) what was fed back to the latents.
        timestep: The timestep of the first edit; with one seed, of all views.
        change: Mean distance of the latents from those of the source, in the latents' own units; None: not known.
    """

    loss: Tensor
    score: Tensor
    timestep: int
    change: float | Float[Tensor, ""] | None = None

    @property
    def facts(self) -> dict[str, float | Tensor]:
        """What to log of the step: its timestep, the root mean square of the score, how far the edit has come."""
        change = {} if self.change is None else {"change": self.change}
        return {"timestep": self.timestep, "score": self.score.pow(2).mean().sqrt(), **change}


@threestudio.register("ssd-guidance")
class EditGuidance(Completed, BaseObject):
    """Turns the latents of an edit into a loss: any score of ``SCORES`` on any backbone.

    It is also the interface behind the key ``guidance_type``: a guidance of another kind is a subclass, registered
    under a name of its own. Systems use these members and no others:

    - ``backbone``: encodes, decodes, and says sizes and device.
    - ``cfg.offline`` and ``cfg.score``: whether the hub may be asked; what the report says of the score.
    - ``prompt_names``: which prompts ``EditPrompts`` has to embed; ``prompts_of_score(cfg)``: those that its keys alone
      tell of, before a model is loaded.
    - ``reads_image``: whether ``image_condition`` has to be given.
    - ``latent_step(latents, latents_src, prompts, step=..., num_steps=..., seed=...)``: the loss of a step.
    - ``join(rank)``: of several processes, each shows a part of a step's views; called only where there are several.
    - ``state_dict()`` and ``load_state_dict(state)``: what a checkpoint keeps.
    """

    @dataclass
    class Config(BaseObject.Config, ModelKeys):
        """Keys of the guidance: of its model, and these."""

        score: dict = field(default_factory=lambda: {"name": "ssd"})
        """name of a score or preset, and any of its own fields."""
        cds: CDSConfig = field(default_factory=CDSConfig)
        """The contrastive regulariser that may be added to the score; weight 0 is off."""
        lora_network: LoraNetworkConfig = field(default_factory=LoraNetworkConfig)
        """The LoRA that the scores vsd and piva train beside the edit."""
        schedule: Literal["linear", "square-root", "cosine", "dream-time", "uniform"] = "linear"
        """How the timestep falls over the run; linear is the paper's, uniform draws at random."""
        t_min_frac: float = 0.02
        """Smallest timestep over T, in (0, t_max_frac)."""
        t_max_frac: float = 0.98
        """Largest timestep over T, below 1."""
        timestep_stride: int = 1
        """Timesteps from one that may be drawn to the next, >= 1: 2 is a sampler of 500 steps on a model of 1,000."""
        timestep_offset: int = 0
        """Added to the schedule's timestep, not to the t / T that a score reads: 1 in released codes, whose samplers
        count from 1."""
        only_timesteps: list[int] = field(default_factory=list)
        """Timesteps a few-step model was distilled at; the schedule's are moved to the nearest; empty: all are good."""
        grad_clip: float | None = None
        """Largest absolute value of an element of the score; none for no limit."""

    cfg: Config
    rank: Rank = ALONE

    def configure(self, backbone: Backbone | None = None) -> None:
        """Load the model unless one is handed in."""
        cfg = self.cfg
        check_range(cfg.t_min_frac, cfg.t_max_frac, cfg.schedule)
        self.score = build_score(cfg.score)
        self.backbone = backbone or backbone_of(cfg, get_device())
        check_trained(cfg.only_timesteps, self.backbone.num_timesteps)
        check_sampler(cfg.timestep_stride, cfg.timestep_offset, cfg.t_max_frac, self.backbone.num_timesteps)
        learned = [branch for branch in self.score.branches if branch.network == "lora"]
        self._refuse_compiling("score", bool(learned), "switches a LoRA on and off")
        self._refuse_compiling("cds", cfg.cds.weight != 0, "reads the network's layers")
        self.contrast = ContrastTerm(cfg.cds, self.backbone) if cfg.cds.weight != 0 else None
        self.variational = VariationalTerm(cfg.lora_network, self.backbone, learned) if learned else None
        score_reads_image = any(branch.image == "src" for branch in self.score.branches)
        if score_reads_image != self.backbone.has_image_condition:
            kind = "is an InstructPix2Pix model" if self.backbone.has_image_condition else "reads no picture"
            fix = "ssd-ip2p" if self.backbone.has_image_condition else "ssd"
            raise ConfigError(
                what=f"score {cfg.score.get('name', 'ssd')} does not fit model {self.backbone.model_id}, which {kind}",
                expected="a score for this kind of model",
                fix=f"set system.guidance.score.name={fix}, or another model",
            )

    def _refuse_compiling(self, part: str, is_used: bool, why: str) -> None:
        for key in ("compile", "cuda_graphs") if is_used else ():
            if not getattr(self.cfg, key):
                continue
            what = f"system.guidance.{key} is true, and system.guidance.{part} {why}"
            expected, fix = "a network that is not compiled", f"set system.guidance.{key}=false"
            raise ConfigError(what=what, expected=expected, fix=fix)

    def join(self, rank: Rank) -> None:
        """Draw the noise of all processes' views, and use that of its own.

        Raises:
            ConfigError: If the score trains a network, which every process would train on its own views.
        """
        if self.variational is not None and rank.count > 1:
            name = self.cfg.score["name"]
            what = f"score {name} trains a LoRA beside the edit, and {rank.count} devices were asked for"
            fix = "leave out trainer.devices, name one GPU, or use another score"
            raise ConfigError(what=what, expected="one device", fix=fix)
        self.rank = rank

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Every noise prediction that a step may need, the contrastive term's included."""
        extra = self.contrast.branches if self.contrast is not None else ()
        return tuple(dict.fromkeys((*self.score.branches, *extra)))

    @property
    def prompt_names(self) -> set[str]:
        """Which prompts are asked for: src, tgt, null, neg."""
        return {branch.prompt for branch in self.branches}

    @classmethod
    def prompts_of_score(cls, cfg: Mapping[str, Any]) -> set[str]:
        """Which of them the score asks for, by the keys alone, so that a missing one is found before a model is loaded.

        Args:
            cfg: Keys of ``Config``.
        """
        return {branch.prompt for branch in build_score(cfg.get("score", {"name": "ssd"})).branches}

    @property
    def reads_image(self) -> bool:
        """Whether the model is conditioned on the source image."""
        return self.backbone.has_image_condition

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
        """One step: one batched noise prediction, and a loss whose gradient on the latents is the score.

        A batch may hold several edits, each with its views one after the other. An edit draws timestep and noise from
        its own seed, and its loss is the mean over its views, so that it moves as it would alone.

        Args:
            latents: Of the edit as it is now, from ``backbone.encode``; the loss has its gradient there.
            latents_src: Of the same views of the source.
            prompts: By name, one row for all views or one for each.
            step: Step of the run, 0 .. num_steps - 1.
            num_steps: Length of the run.
            seed: With the step it decides timestep and noise, so that a resumed run draws the same. Of several edits
                one seed each: s seeds share the b latents out in groups of b / s.
            image_condition: For InstructPix2Pix, from ``backbone.encode_condition``.
            latent_mask: Factor on the score in [0, 1], where the edit may act.

        Raises:
            ValueError: If the latents cannot be shared out evenly among the seeds.
        """
        seeds = (seed,) if isinstance(seed, int) else tuple(seed)
        if not seeds or len(latents) % len(seeds):
            raise ValueError(f"{len(latents)} latents cannot be shared out evenly among {len(seeds)} seeds")
        timesteps, noise = self._draw(latents, step, num_steps, seeds)
        on_device = torch.tensor(timesteps, device=latents.device)
        score = self.compute_score(
            latents.detach(), latents_src, prompts, on_device, noise, image_condition, step=step, num_steps=num_steps,
            seeds=seeds,
        )  # fmt: skip
        if latent_mask is not None:
            score = score * latent_mask
        if self.cfg.grad_clip is not None:
            score = score.clamp(-self.cfg.grad_clip, self.cfg.grad_clip)
        views_per_edit = len(latents) // len(seeds)
        loss = 0.5 * (latents - (latents.detach() - score)).pow(2).sum() / views_per_edit
        change = (latents.detach() - latents_src).abs().mean()
        return GuidanceOutput(loss, score, timesteps[0], change)

    def _draw(
        self, latents: Float[Tensor, "b c zh zw"], step: int, num_steps: int, seeds: Sequence[int]
    ) -> tuple[list[int], Float[Tensor, "b c zh zw"]]:
        """Timesteps and noise of a step; an edit's views share a timestep."""
        num_views = len(latents) // len(seeds)
        timesteps, noise = [], []
        for seed in seeds:
            draws = generator(seed, step, Stream.DIFFUSION)
            timestep = timestep_at(
                self.cfg.schedule, step, num_steps, num_timesteps=self.backbone.num_timesteps,
                t_min_frac=self.cfg.t_min_frac, t_max_frac=self.cfg.t_max_frac,
                stride=self.cfg.timestep_stride, offset=self.cfg.timestep_offset, generator=draws,
            )  # fmt: skip
            timesteps += [nearest(timestep, self.cfg.only_timesteps)] * num_views
            noise.append(self.rank.randn((num_views, *latents.shape[1:]), draws))
        return timesteps, torch.cat(noise).to(latents)

    @torch.no_grad()
    def compute_score(
        self,
        latents: Float[Tensor, "b c zh zw"],
        latents_src: Float[Tensor, "b c zh zw"],
        prompts: Mapping[str, PromptEmbeds],
        timestep: int | Int[Tensor, "b"],
        noise: Float[Tensor, "b c zh zw"],
        image_condition: Float[Tensor, "b c zh zw"] | None = None,
        *,
        step: int = 0,
        num_steps: int = 1,
        seeds: Sequence[int] = (0,),
    ) -> Float[Tensor, "b c zh zw"]:
        """The score at given timesteps and noise, with the contrastive term if there is one.

        VSD and Piva change the guidance's state: each call trains a LoRA by one step. No other score changes any.

        Args:
            latents: Of the edit.
            latents_src: Of the source.
            prompts: By name, one row for all views or one for each.
            timestep: One for all views or one for each.
            noise: Of each view; edit and source share it.
            image_condition: For InstructPix2Pix.
            step: Step of the run.
            num_steps: Length of the run.
            seeds: One for each edit. With the step they decide what a score draws by itself; the first alone decides
                the places of the contrastive term and the samples that train the LoRA, which all views share.
        """
        timesteps = torch.as_tensor(timestep, device=latents.device).expand(len(latents))
        scheduled = (timesteps - self.cfg.timestep_offset).to(latents).view(-1, 1, 1, 1)
        inputs = ScoreInputs(
            latents_tgt=latents,
            latents_src=latents_src,
            latents_noisy_tgt=self.backbone.add_noise(latents, noise, timesteps),
            latents_noisy_src=self.backbone.add_noise(latents_src, noise, timesteps),
            noise=noise,
            timesteps=timesteps,
            t_frac=scheduled / self.backbone.num_timesteps if self.cfg.timestep_offset else None,
            alphas_cumprod_table=self.backbone.alphas_cumprod.to(latents),
            step=step,
            num_steps=num_steps,
            image_condition=image_condition,
            generators=tuple(generator(seed, step, Stream.SCORE) for seed in seeds),
            rank=self.rank,
        )
        rows = {name: prompts[name].rows(len(latents)) for name in self.prompt_names}
        predict = partial(predict_branches, timesteps=timesteps, prompts=rows, image_condition=image_condition)
        branches = [branch for branch in self.score.branches_at(inputs) if branch.network == "frozen"]
        pull: Tensor | float = 0.0
        if self.contrast is None:
            eps = predict(self.backbone.predict_noise, branches, latents_noisy=inputs.latents_noisy)
        else:
            eps, pull = self.contrast(branches, inputs, predict, generator(seeds[0], step, Stream.CONTRAST))
        if self.variational is not None:
            eps |= self.variational(inputs, rows, generator(seeds[0], step, Stream.LORA))
        return self.score(eps, inputs) + pull

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the guidance: a LoRA trained beside the edit and its optimiser; else nothing."""
        return {} if self.variational is None else {"variational": self.variational.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        if self.variational is not None and "variational" in state:
            self.variational.load_state_dict(state["variational"])
