"""The diffusion model as the rest of the project sees it: one interface, whatever its family."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

import threestudio

from ..errors import ConfigError
from ..pretrained import locate
from .compiled import compiled
from .freeu import FreeU, install_freeu
from .lora import Lora, merge_loras
from .models import MODEL, Components, OtherVae, load_components
from .noise import NoiseLevels, noise_levels
from .offload import Turns
from .options import BackboneOptions
from .precision import cpu_autocast, place
from .prompts import PromptEmbeds, TextEncoders
from .single_file import read_single_file
from .textual_inversion import add_embeddings
from .words import unknown_words


@dataclass
class Counters:
    """What a backbone has computed so far: the costs of a step, for tests and reports."""

    network_calls: int = 0
    """Forward passes of the U-Net or transformer."""
    rows: int = 0
    """Noise predictions: batch rows summed over the network calls."""
    encodes: int = 0
    """Forward passes of the VAE encoder."""
    encoded_images: int = 0
    """Images summed over the encodes."""
    decodes: int = 0
    """Forward passes of the VAE decoder."""
    prompts: int = 0
    """Prompts that went through the text encoder."""

    def reset(self) -> None:
        """Back to zero."""
        self.__init__()


class Backbone:
    """A frozen latent diffusion model: encode, decode, add noise, predict epsilon, embed prompts.

    Not an nn.Module on purpose: its weights belong in no checkpoint and to no optimiser. All tensors that go
    in and out are float32; the networks run in their own dtypes.

    Args:
        components: The parts, see `load_components`; they are frozen and moved.
        options: Keyword arguments of `BackboneOptions`: device, precisions, switches.
    """

    def __init__(self, components: Components, **options: Any) -> None:
        chosen = BackboneOptions(**options)
        self.device = torch.device(chosen.device)
        self.family, self.model_id, self.revision = components.family, components.model_id, components.revision
        self.lora = tuple(components.lora)
        self.vae_id, self.vae_revision = components.vae_id, components.vae_revision
        self.dtype, self.vae_dtype = chosen.network_dtype(self.family), chosen.autoencoder_dtype
        self.embeddings, self.quantization = tuple(components.embeddings), chosen.quantization
        self.autocast = cpu_autocast(chosen.dtype, self.device, components.network)
        self._turns = Turns(self.device) if chosen.offload == "model" else None
        put = self._turns.put if self._turns is not None else place
        is_stored = chosen.quantization != "none"  # quantised weights keep their types
        self.network: Any = put(
            components.network, self.device, None if is_stored else self.dtype, chosen.channels_last
        )
        self.vae: Any = place(components.vae, self.device, self.vae_dtype, chosen.channels_last)
        self.has_image_condition = components.has_image_condition
        texts = [net and put(net, self.device, self.dtype) for net in components.text_networks]
        self.text_encoders: TextEncoders | None = TextEncoders(
            list(components.tokenizers), texts, self.device, components.zero_empty_prompts
        )
        self.noise_levels: NoiseLevels = noise_levels(components.scheduler_config).to(self.device)
        self.counters = Counters()
        self.freeu = FreeU.of(chosen.freeu)
        install_freeu(self.network, self.freeu)
        if chosen.vae_tiling:
            self.vae.enable_tiling()
        self._has_checkpointing = chosen.vae_checkpointing
        if chosen.vae_checkpointing:
            self.vae.enable_gradient_checkpointing()
        is_compiled = chosen.compile or chosen.cuda_graphs
        self._network_call: Any = compiled(self.network, chosen.cuda_graphs) if is_compiled else self.network

    # -- what the model is -----------------------------------------------------------------------------------
    @property
    def provenance(self) -> dict[str, Any]:
        """What was loaded and how, for a report: enough to load the same again. ``vae`` is None for the model's own."""
        return {
            "model": self.model_id,
            "revision": self.revision,
            "dtype": str(self.dtype).removeprefix("torch."),
            "autocast": self.autocast and str(self.autocast).removeprefix("torch."),
            "vae": self.vae_id,
            "vae_revision": self.vae_revision,
            "vae_dtype": str(self.vae_dtype).removeprefix("torch."),
            "lora": list(self.lora),
            "embeddings": list(self.embeddings),
            "quantization": self.quantization,
        }

    @property
    def num_timesteps(self) -> int:
        """T; timesteps are 0 .. T-1, more noise with each."""
        return len(self.noise_levels)

    @property
    def alphas_cumprod(self) -> Float[Tensor, "t"]:
        """Signal variance of each timestep, in [0, 1]; for a rectified flow, of its equivalent level."""
        return self.noise_levels.alphas_cumprod

    @property
    def prediction_type(self) -> str:
        """What the network predicts inside: epsilon, v_prediction, sample or flow. Callers get epsilon."""
        return self.noise_levels.prediction_type

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return self.vae.config.latent_channels

    @property
    def downscale(self) -> int:
        """Pixels per latent cell, along one side."""
        config = self.vae.config
        blocks = config.get("block_out_channels") or config.encoder_block_out_channels
        return 2 ** (len(blocks) - 1)

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this: the downscale, times the patch of a transformer."""
        return self.downscale * self.family.cell_multiple(self.network)

    @property
    def image_size(self) -> int:
        """The side in pixels that the model was trained on."""
        return self.family.num_cells(self.network) * self.downscale

    def check_image_size(self, height: int, width: int) -> None:
        """Accept any aspect ratio whose sides fit the latent grid.

        Raises:
            ConfigError: If a side is not a positive multiple of `size_multiple`.
        """
        step = self.size_multiple
        if min(height, width) < step or height % step or width % step:
            nearest = [max(step, round(side / step) * step) for side in (height, width)]
            what = f"image size {width}x{height} does not fit model '{self.model_id}'"
            expected, fix = f"width and height in multiples of {step}", f"use {nearest[1]}x{nearest[0]}"
            raise ConfigError(what=what, expected=expected, fix=fix)

    # -- images and latents ----------------------------------------------------------------------------------
    def encode(self, images_bchw: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c zh zw"]:
        """Scaled posterior mean of images in [0, 1]; gradients flow to the images.

        Raises:
            ConfigError: If the size does not fit, see `check_image_size`.
        """
        output = self._encoder_output(images_bchw)
        latents = output.latents if hasattr(output, "latents") else output.latent_dist.mean
        return (latents.float() - self._shift) * self.vae.config.scaling_factor

    def encode_condition(self, images_bchw: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c zh zw"]:
        """The latents InstructPix2Pix is conditioned on: posterior mode, not scaled (Brooks et al. 2023)."""
        output = self._encoder_output(images_bchw)
        if hasattr(output, "latents"):  # a TAESD's latents come scaled
            return output.latents.float() / self.family.latent_scale
        return output.latent_dist.mode().float()

    def decode(self, latents: Float[Tensor, "b c zh zw"]) -> Float[Tensor, "b 3 h w"]:
        """Images in [0, 1] from scaled latents."""
        self.counters.decodes += 1
        self._make_room()
        unscaled = latents / self.vae.config.scaling_factor + self._shift
        with self._own_precision():
            return (self.vae.decode(unscaled.to(self.vae_dtype)).sample.float() / 2 + 0.5).clamp(0, 1)

    def _encoder_output(self, images_bchw: Float[Tensor, "b 3 h w"]) -> Any:
        self.check_image_size(*images_bchw.shape[-2:])
        self.counters.encodes += 1
        self._make_room()
        self.counters.encoded_images += len(images_bchw)
        with self._own_precision():
            return self.vae.encode((images_bchw * 2 - 1).to(self.vae_dtype))

    def _own_precision(self) -> torch.autocast:
        """Keeps a trainer's autocast (float16, say) from overruling the precision chosen for each network."""
        return torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None)

    def _make_room(self) -> None:
        """The VAE works next, and always lies on the device: what takes turns leaves it."""
        if self._turns is not None:
            self._turns.leave()

    @property
    def _shift(self) -> float:
        return self.vae.config.get("shift_factor") or 0.0

    def shrink(self) -> str | None:
        """Do with less memory from now on, at the same results; returns the key that says so, None if there is none."""
        if self._has_checkpointing or not getattr(self.vae, "_supports_gradient_checkpointing", False):
            return None
        self._has_checkpointing = True
        self.vae.enable_gradient_checkpointing()
        return "system.guidance.vae_checkpointing=true"

    # -- noise -----------------------------------------------------------------------------------------------
    def add_noise(
        self,
        latents: Float[Tensor, "b c zh zw"],
        noise: Float[Tensor, "b c zh zw"],
        timesteps: Int[Tensor, "..."] | int,
    ) -> Float[Tensor, "b c zh zw"]:
        """``sqrt(abar_t) z + sqrt(1 - abar_t) noise`` with this model's noise levels, whatever its kind."""
        return self.noise_levels.add_noise(latents, noise, self._timesteps(timesteps, len(latents)))

    def predict_noise(
        self,
        latents_noisy: Float[Tensor, "b c zh zw"],
        timesteps: Int[Tensor, "..."] | int,
        prompts: PromptEmbeds,
        image_condition: Float[Tensor, "b c zh zw"] | None = None,
        *,
        with_grad: bool = False,
    ) -> Float[Tensor, "b c zh zw"]:
        """Epsilon for each row, in one network call, whatever the network itself predicts.

        Args:
            latents_noisy: From `add_noise`.
            timesteps: One for all rows or one for each, in [0, T).
            prompts: One row for each latent.
            image_condition: From `encode_condition`; None stands for "no image" (zeros) in models that read
                one.
            with_grad: Whether gradients flow to `latents_noisy` (the contrastive loss of CDS needs it).

        Raises:
            ValueError: If the rows do not match, or a model that reads no image is given one.
        """
        num_rows = len(latents_noisy)
        if len(prompts) != num_rows:
            raise ValueError(f"{num_rows} latents but {len(prompts)} prompts; give one prompt row for each latent")
        timesteps = self._timesteps(timesteps, num_rows)
        with torch.set_grad_enabled(with_grad and torch.is_grad_enabled()), self._own_precision():
            latents_in, times = self.noise_levels.network_input(latents_noisy, timesteps)
            latents_in = self._with_condition(latents_in, image_condition).to(self.dtype)
            embeds = prompts.to(self.dtype)
            prediction = self.family.predict(
                self._network_call, self.network.config, latents_in, times, embeds, self.downscale
            )
            self.counters.network_calls += 1
            self.counters.rows += num_rows
            return self.noise_levels.to_epsilon(prediction.float(), latents_noisy, timesteps)

    def _timesteps(self, timesteps: Tensor | int, num_rows: int) -> Int[Tensor, "b"]:
        timesteps = torch.as_tensor(timesteps, device=self.device)
        return timesteps.reshape(-1).expand(num_rows) if timesteps.numel() == 1 else timesteps

    def _with_condition(self, latents: Tensor, image_condition: Tensor | None) -> Tensor:
        if not self.has_image_condition:
            if image_condition is not None:
                raise ValueError(f"model '{self.model_id}' reads no image condition")
            return latents
        condition = torch.zeros_like(latents) if image_condition is None else image_condition
        return torch.cat([latents, condition], dim=1)

    # -- prompts ---------------------------------------------------------------------------------------------
    def encode_prompts(self, prompts: Sequence[str]) -> PromptEmbeds:
        """Embed prompts, one row each; "" is the null prompt. Too long ones are cut with a warning.

        Raises:
            RuntimeError: After `free_text_encoder`.
        """
        if self.text_encoders is None:
            raise RuntimeError("the text encoder was freed; embed all prompts before free_text_encoder()")
        self.counters.prompts += len(prompts)
        self.text_encoders.warn_of_dropped_words(prompts)
        with torch.no_grad(), self._own_precision():
            return self.family.embed(self.text_encoders, prompts, self.network)

    def warn_of_unknown_words(self, prompts: Sequence[str]) -> None:
        """Warn of words that a small model has never met, where it says which it has; before `free_text_encoder`."""
        words = unknown_words(self.text_encoders, prompts) if self.text_encoders is not None else []
        if words:
            listed = ", ".join(f'"{word}"' for word in words)
            threestudio.warn(
                f"{self.model_id} has never met {listed}, so expect nothing of it; it knows the toy world of "
                "docs/embedded-models.md alone. Name a model that knows more: model=HUB_ID."
            )

    def free_text_encoder(self) -> None:
        """Give the memory of the text encoders back; `encode_prompts` cannot be called any more."""
        self._make_room()
        self.text_encoders = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def load_backbone(
    model: str | Path,
    *,
    vae: str | None = None,
    vae_revision: str | None = None,
    lora: str | Sequence[str] = (),
    embeddings: Sequence[str] = (),
    revision: str | None = None,
    variant: str | None = None,
    offline: bool = False,
    skip_t5: bool = False,
    **options: Any,
) -> Backbone:
    """Load a model by hub id, from a folder in diffusers layout, or from one file with the names of the original code.

    Args:
        model: Hub id, folder or ``.safetensors`` file. Withdrawn ids (stabilityai/stable-diffusion-2-1-base) resolve to
            their successors.
        vae: Another VAE by folder or hub id; "taesd" is the tiny one that fits the model.
        vae_revision: Branch, tag or commit of that VAE's hub id.
        lora: LoRA files, each ``path`` or ``path:strength``, merged into the weights.
        embeddings: Textual inversions, each ``path`` or ``path:word``.
        revision: Branch, tag or commit of a hub id; the commit used is kept in `Backbone.revision`.
        variant: Weight files of this variant, such as "fp16".
        offline: Whether to use the local hub cache only.
        skip_t5: Whether to leave out SD 3's third text encoder (9.5 GB in float16).
        options: Keyword arguments of `BackboneOptions`: device, dtype, vae_dtype, freeu, channels_last, compile,
            cuda_graphs, vae_tiling, vae_checkpointing, quantization, offload.

    Raises:
        ConfigError: If the model does not exist, cannot be fetched, or an option does not suit it.
        SceneFormatError: If it is broken, or of a kind that is not supported.
    """
    chosen = BackboneOptions(**options)  # a misspelt precision fails before a download, and so does a missing LoRA
    loras = [Lora.of(each) for each in ([lora] if isinstance(lora, str) else lora)]
    location = locate(model, MODEL, revision=revision, is_offline=offline, variant=variant)
    other_vae = None if vae is None else OtherVae(vae, vae_revision)
    read = read_single_file if Path(location.location).is_file() else load_components
    components = read(location, chosen, vae=other_vae, skip_t5=skip_t5)
    if loras and chosen.quantization != "none":
        what, expected = (
            f"lora with quantization={chosen.quantization}",
            "one of the two: LoRAs are added to whole weights",
        )
        raise ConfigError(what=what, expected=expected, fix="leave quantization out, or the LoRAs")
    merge_loras(components, loras)
    add_embeddings(components, embeddings)
    return Backbone(components, **options)
