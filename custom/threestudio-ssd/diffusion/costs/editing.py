"""What an edited view costs with the large editing models: parameters, memory and operations, counted without weights.

The networks are built on torch's meta device from the sizes that are written down here, and one evaluation is run
there. Sizes: where a field is not set, it is the default of the class in diffusers or transformers. The others are
those of the released configs: FLUX.2 klein 4B has 5 double and 20 single blocks of 24 heads and reads three layers of
2,560 channels of Qwen3-4B (black-forest-labs/flux2, ``Klein4BParams``); T5 is v1.1-XXL; Qwen2.5-VL is the 7B one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .architectures import ARCHITECTURES, CLIP_L, SD_VAE
from .flops import run_predictions
from .memory import PeakMemory, _pairless_attention

BYTES = {"bf16": 2.0, "8-bit": 1.0, "4-bit": 0.5625}
"""Of a weight; 4-bit with a scale of 32 bits for 64 weights."""
GIB = 2**30
TEXT_TOKENS = 512
"""Of a prompt in the FLUX pipelines, which pad to it."""


class Parts(NamedTuple):
    """The networks of a model."""

    network: Any
    """What denoises."""
    texts: list[nn.Module]
    vae: Any


@dataclass(frozen=True)
class EditingModel:
    """A model as its pipeline runs it.

    Attributes:
        make: Builds its networks on the current default device.
        run: One evaluation of the denoising network for an image of so many pixels a side, with its reference image.
        image_shape: Of the VAE's input and of its latents, for a side in pixels.
        num_steps: Denoising steps that its authors give.
        predictions: Evaluations a step.
        keeps_texts: Whether the text encoder sees each image, so that it cannot be freed.
    """

    make: Callable[[], Parts]
    run: Callable[[Any, int, torch.dtype], Any]
    image_shape: Callable[[int], tuple[Sequence[int], Sequence[int]]]
    num_steps: int
    predictions: int = 1
    keeps_texts: bool = False


@dataclass(frozen=True)
class EditCost:
    """What one model needs.

    Attributes:
        parameters: Of the denoising network, the text encoders and the VAE, in units of 1e9.
        activations: Peak of one evaluation for one view, in GiB.
        operations: Of one edited view, in units of 1e12: all evaluations, one encode and one decode.
        evaluations: Of the denoising network for one view.
        keeps_texts: As in ``EditingModel``.
    """

    parameters: tuple[float, float, float]
    activations: float
    operations: float
    evaluations: int
    keeps_texts: bool

    def memory(self, precision: str) -> tuple[float, float]:
        """GiB of the weights while views are edited, and of the text encoders before.

        Args:
            precision: A key of ``BYTES``, of network and text encoders; the VAE stays in bf16.
        """
        network, texts, vae = (1e9 * count / GIB for count in self.parameters)
        held = network + (texts if self.keeps_texts else 0.0)
        return held * BYTES[precision] + vae * BYTES["bf16"], texts * BYTES[precision]


def edit_cost(model: str, image_px: int = 512) -> EditCost:
    """Count one edited view.

    Args:
        model: A key of ``EDITING_MODELS``.
        image_px: Side of the square view, a multiple of 16.
    """
    how, dtype = EDITING_MODELS[model], torch.bfloat16
    with torch.device("meta"), torch.no_grad():
        parts = how.make()
        networks = [parts.network, *parts.texts, parts.vae]
        for network in networks:
            network.to(dtype)
        pixels, latents = how.image_shape(image_px)
        operations = [
            _operations(lambda: how.run(parts.network, image_px, dtype)),
            _operations(lambda: parts.vae.encode(torch.empty(*pixels, dtype=dtype))),
            _operations(lambda: parts.vae.decode(torch.empty(*latents, dtype=dtype))),
        ]
        with _pairless_attention(), PeakMemory() as memory:
            how.run(parts.network, image_px, dtype)
    evaluations = how.num_steps * how.predictions
    counts = [sum(each.numel() for each in network.parameters()) / 1e9 for network in networks]
    total = (evaluations * operations[0] + operations[1] + operations[2]) / 1e12
    parameters = (counts[0], sum(counts[1:-1]), counts[-1])
    return EditCost(parameters, memory.peak / GIB, total, evaluations, how.keeps_texts)


def _operations(run: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _make_klein() -> Parts:
    from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
    from transformers import Qwen3Config, Qwen3ForCausalLM

    network = Flux2Transformer2DModel(
        num_layers=5, num_single_layers=20, num_attention_heads=24, joint_attention_dim=7680, guidance_embeds=False
    )
    text = Qwen3Config(
        vocab_size=151936, hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
    )  # fmt: skip
    return Parts(network, [Qwen3ForCausalLM(text)], AutoencoderKLFlux2())


def _run_klein(network: Any, image_px: int, dtype: torch.dtype) -> None:
    tokens = 2 * (image_px // 16) ** 2  # the view's, and those of its reference
    network(
        hidden_states=torch.empty(1, tokens, 128, dtype=dtype), timestep=torch.empty(1, dtype=dtype), guidance=None,
        encoder_hidden_states=torch.empty(1, TEXT_TOKENS, 7680, dtype=dtype), img_ids=torch.empty(1, tokens, 4),
        txt_ids=torch.empty(1, TEXT_TOKENS, 4),
    )  # fmt: skip


def _make_kontext() -> Parts:
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    t5 = T5Config(
        vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    vae = AutoencoderKL(**SD_VAE | {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False})
    texts: list[nn.Module] = [CLIPTextModel(CLIPTextConfig(**CLIP_L)), T5EncoderModel(t5)]
    return Parts(FluxTransformer2DModel(guidance_embeds=True), texts, vae)


def _run_kontext(network: Any, image_px: int, dtype: torch.dtype) -> None:
    tokens = 2 * (image_px // 16) ** 2
    network(
        hidden_states=torch.empty(1, tokens, 64, dtype=dtype), timestep=torch.empty(1, dtype=dtype),
        guidance=torch.empty(1, dtype=dtype), pooled_projections=torch.empty(1, 768, dtype=dtype),
        encoder_hidden_states=torch.empty(1, TEXT_TOKENS, 4096, dtype=dtype), img_ids=torch.empty(tokens, 3),
        txt_ids=torch.empty(TEXT_TOKENS, 3),
    )  # fmt: skip


def _make_qwen() -> Parts:
    from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {
        "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4,
    }  # fmt: skip
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    return Parts(QwenImageTransformer2DModel(), [Qwen2_5_VLForConditionalGeneration(config)], AutoencoderKLQwenImage())


def _run_qwen(network: Any, image_px: int, dtype: torch.dtype) -> None:
    """The pipeline hands the reference over at 1024 x 1024 whatever the size of the view."""
    cells, reference, text = image_px // 16, 64, 300
    tokens = cells**2 + reference**2
    network(
        hidden_states=torch.empty(1, tokens, 64, dtype=dtype), timestep=torch.empty(1, dtype=dtype),
        encoder_hidden_states=torch.empty(1, text, 3584, dtype=dtype),
        encoder_hidden_states_mask=torch.ones(1, text), img_shapes=[[(1, cells, cells), (1, reference, reference)]],
    )  # fmt: skip


def _make_instruct_pix2pix() -> Parts:
    architecture = ARCHITECTURES["ip2p"]
    return Parts(architecture.make_network(), architecture.make_texts(), architecture.make_vae())


def _run_instruct_pix2pix(network: Any, image_px: int, dtype: torch.dtype) -> None:
    run_predictions(ARCHITECTURES["ip2p"], network, 1, image_px, dtype)


def _shape(channels: int) -> Callable[[int], tuple[Sequence[int], Sequence[int]]]:
    return lambda px: ((1, 3, px, px), (1, channels, px // 8, px // 8))


EDITING_MODELS = {
    "InstructPix2Pix (SD 1.5)": EditingModel(_make_instruct_pix2pix, _run_instruct_pix2pix, _shape(4), 20, 3),
    "FLUX.2 klein 4B": EditingModel(_make_klein, _run_klein, _shape(32), 4),
    "FLUX.1 Kontext dev": EditingModel(_make_kontext, _run_kontext, _shape(16), 28),
    "Qwen-Image-Edit": EditingModel(
        _make_qwen, _run_qwen, lambda px: ((1, 3, 1, 1024, 1024), (1, 16, 1, px // 8, px // 8)), 40, 2, True
    ),
}  # fmt: skip
"""By the names that docs/editors.md has for them."""


def cost_rows(model: str, image_px: int = 512, tera: float = 50.0) -> tuple[str, str]:
    """The model's rows of the two tables in docs/editors.md: memory, and work.

    Args:
        model: A key of ``EDITING_MODELS``.
        image_px: Side of the views.
        tera: Operations a second that a GPU sustains, in units of 1e12.
    """
    cost = edit_cost(model, image_px)
    network, texts, vae = cost.parameters
    held = [f"{cost.memory(precision)[0]:.1f}" for precision in BYTES]
    before = "stays" if cost.keeps_texts else " / ".join(f"{cost.memory(precision)[1]:.1f}" for precision in BYTES)
    size = f"{network:.2f} + {texts:.2f} + {vae:.2f}"
    memory = f"| {model} | {size} | {' | '.join(held)} | {before} | {cost.activations:.1f} |"
    seconds = cost.operations / tera
    work = (
        f"| {model} | {cost.evaluations} | {cost.operations:.0f} | {24 * cost.evaluations:,} / "
        f"{40 * cost.evaluations:,} | {seconds:.1f} | {24 * seconds:.0f} / {40 * seconds:.0f} |"
    )
    return memory, work
