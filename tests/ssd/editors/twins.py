"""Tiny random twins of editing pipelines of diffusers: the real classes, saved as folders that are really loaded."""

from pathlib import Path
from typing import Any

import torch

from threestudio_ssd.diffusion.random import TINY_VAE, letter_tokenizer, random_components

CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
QWEN_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<|im_start|>", "<|im_end|>"]
TINY_FLOW = {"num_train_timesteps": 1000, "use_dynamic_shifting": True}


def write_twin(name: str, folder: Path) -> Path:
    """The folder of a twin, by the name of its class."""
    makers = {
        "Flux2KleinPipeline": klein,
        "Flux2KleinInpaintPipeline": klein,
        "FluxKontextPipeline": kontext,
        "FluxKontextInpaintPipeline": kontext,
        "QwenImageEditPlusPipeline": qwen_edit,
        "ZImageImg2ImgPipeline": z_image,
        "StableDiffusionInstructPix2PixPipeline": instruct_pix2pix,
        "StableDiffusionXLInstructPix2PixPipeline": instruct_pix2pix_xl,
        "StableDiffusionPipeline": stable_diffusion,
    }
    import diffusers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = makers[name]()
        with torch.no_grad():  # a network of zeros at its end would hide what it is given
            for parameter in (parts.get("transformer") or parts["unet"]).parameters():
                if not parameter.any():
                    parameter.normal_(std=0.1)
    getattr(diffusers, name)(**parts).save_pretrained(folder)
    return folder


def klein() -> dict[str, Any]:
    """FLUX.2 klein: Qwen3 embeds the prompt by three of its layers, so that it has 28 of them."""
    from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel

    tokenizer = byte_tokenizer()
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4,
        mid_block_add_attention=False,
    )  # fmt: skip
    transformer = Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, timestep_guidance_channels=8, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
    )  # fmt: skip
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(**TINY_FLOW), "vae": vae, "text_encoder": qwen3(tokenizer, 28),
        "tokenizer": tokenizer, "transformer": transformer, "is_distilled": True,
    }  # fmt: skip


def kontext() -> dict[str, Any]:
    """FLUX.1 Kontext: a pooled embedding by CLIP, tokens by T5."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    parts = random_components(image_size=32)
    letters = [(chr(code), -1.0) for code in range(33, 127)]
    t5_tokenizer = T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), *letters])
    t5 = T5EncoderModel(T5Config(vocab_size=len(t5_tokenizer), d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2))
    clip = parts.text_networks[0]
    transformer = FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=8, pooled_projection_dim=clip.config.hidden_size, guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(**TINY_FLOW), "vae": AutoencoderKL(**TINY_VAE, shift_factor=0.1),
        "text_encoder": clip, "tokenizer": letter_tokenizer(), "text_encoder_2": t5, "tokenizer_2": t5_tokenizer,
        "transformer": transformer,
    }  # fmt: skip


def z_image() -> dict[str, Any]:
    """Z-Image: one stream of image and text tokens."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImageTransformer2DModel

    tokenizer = byte_tokenizer()
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=8,
        axes_dims=[4, 6, 6], axes_lens=[1024, 64, 64],
    )  # fmt: skip
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(**TINY_FLOW), "vae": AutoencoderKL(**TINY_VAE, shift_factor=0.1),
        "text_encoder": qwen3(tokenizer, 2), "tokenizer": tokenizer, "transformer": transformer,
    }  # fmt: skip


def qwen_edit() -> dict[str, Any]:
    """Qwen-Image-Edit: the text encoder sees the images, too; its processor, which needs torchvision, is left out."""
    from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = byte_tokenizer(QWEN_TOKENS)
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "image_pad", "video_pad")}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
            "patch_size": 14, "spatial_merge_size": 2, "window_size": 56, "fullatt_block_indexes": [0],
        },
        image_token_id=ids["image_pad"], video_token_id=ids["video_pad"], vision_start_token_id=ids["vision_start"],
    )  # fmt: skip
    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    transformer = QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(**TINY_FLOW), "vae": vae,
        "text_encoder": Qwen2_5_VLForConditionalGeneration(config), "tokenizer": tokenizer,
        "processor": None, "transformer": transformer,
    }  # fmt: skip


def stable_diffusion(in_channels: int = 4) -> dict[str, Any]:
    """A Stable Diffusion pipeline of the project's own random twin."""
    from diffusers import DDIMScheduler

    parts = random_components(in_channels=in_channels, image_size=32)
    return {
        "vae": parts.vae, "text_encoder": parts.text_networks[0], "tokenizer": parts.tokenizers[0],
        "unet": parts.network, "scheduler": DDIMScheduler(clip_sample=False, steps_offset=1), "safety_checker": None,
        "feature_extractor": None, "requires_safety_checker": False,
    }  # fmt: skip


def instruct_pix2pix() -> dict[str, Any]:
    """The same, with a network that reads an image."""
    return stable_diffusion(8)


def instruct_pix2pix_xl() -> dict[str, Any]:
    """SDXL that reads an image, with the convention of CosXL."""
    from diffusers import DDIMScheduler

    parts = random_components(kind="sdxl", in_channels=8, image_size=32)
    return {
        "vae": parts.vae, "text_encoder": parts.text_networks[0], "text_encoder_2": parts.text_networks[1],
        "tokenizer": parts.tokenizers[0], "tokenizer_2": parts.tokenizers[1], "unet": parts.network,
        "scheduler": DDIMScheduler(clip_sample=False, steps_offset=1), "is_cosxl_edit": True,
    }  # fmt: skip


class QwenProcessor:
    """What the processor of Qwen2-VL does, without the videos for which it needs torchvision."""

    def __init__(self, tokenizer: Any) -> None:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        self.tokenizer = tokenizer
        self.images = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 56 * 56})
        self.seen = 0

    def __call__(self, text: list[str], images: list, padding: bool, return_tensors: str) -> Any:
        """One image token of the text becomes as many as the image has."""
        from transformers import BatchFeature

        pixels = self.images(images=images, return_tensors=return_tensors)
        self.seen += len(images)
        for grid in pixels["image_grid_thw"]:
            count = int(grid.prod()) // 4
            text = [each.replace("<|image_pad|>", "<|held|>" * count, 1) for each in text]
        text = [each.replace("<|held|>", "<|image_pad|>") for each in text]
        return BatchFeature({**self.tokenizer(text, padding=padding, return_tensors=return_tensors), **pixels})


def byte_tokenizer(special: list[str] | None = None) -> Any:
    """A Qwen2 tokenizer without merges."""
    from transformers import Qwen2Tokenizer

    vocab = letter_tokenizer().get_vocab()
    tokens = [token for token in sorted(vocab, key=vocab.get) if not token.startswith("<|")]
    vocab = {token: index for index, token in enumerate([*tokens, "<|endoftext|>"])}
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=[], additional_special_tokens=special or [])
    tokenizer.chat_template = CHAT
    return tokenizer


def qwen3(tokenizer: Any, num_layers: int) -> torch.nn.Module:
    """A Qwen3 of eight channels."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=16, num_hidden_layers=num_layers,
        num_attention_heads=2, num_key_value_heads=2, head_dim=4, max_position_embeddings=512,
    )  # fmt: skip
    return Qwen3ForCausalLM(config)
