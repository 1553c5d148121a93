"""A model's weights under the names of its original code, as single checkpoints have them: the inverse of loading."""

import torch
from torch import Tensor, nn

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}  # fmt: skip


def _layer(name: str, names: dict[str, str]) -> str:
    old = next(each for each in names if name.startswith(f"{each}."))
    return names[old] + name.removeprefix(old)


def unet(network: nn.Module, prefix: str = "model.diffusion_model.") -> dict[str, Tensor]:
    """Of a ``UNet2DConditionModel``: blocks counted in one row, a level's last up block holds its up-sampler."""
    per_level = network.config.layers_per_block
    top = {
        "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "time_embedding.cond_proj": "time_embed.cond_proj", "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0",
        "conv_out": "out.2", "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    }  # fmt: skip
    named = {}
    for name, weight in network.state_dict().items():
        parts = name.split(".")
        if parts[0] == "mid_block":
            rest = ".".join(parts[3:])
            index = 1 if parts[1] == "attentions" else 2 * int(parts[2])
            new = f"middle_block.{index}.{rest if index == 1 else _layer(rest, RESNET)}"
        elif parts[0] in ("down_blocks", "up_blocks"):
            is_down, level, kind, number = parts[0] == "down_blocks", int(parts[1]), parts[2], int(parts[3])
            rest = ".".join(parts[4:])
            row = level * (per_level + 1) + (is_down + number if kind in ("resnets", "attentions") else per_level)
            row += is_down and kind == "downsamplers"
            side = "input_blocks" if is_down else "output_blocks"
            if kind == "resnets":
                new = f"{side}.{row}.0.{_layer(rest, RESNET)}"
            elif kind == "attentions":
                new = f"{side}.{row}.1.{rest}"
            elif is_down:
                new = f"{side}.{row}.0.op.{parts[-1]}"
            else:
                has_attention = hasattr(network.up_blocks[level], "attentions")
                new = f"{side}.{row}.{1 + has_attention}.conv.{parts[-1]}"
        else:
            new = _layer(name, top)
        named[prefix + new] = weight
    return named


def vae(network: nn.Module, prefix: str = "first_stage_model.") -> dict[str, Tensor]:
    """Of an ``AutoencoderKL``: up blocks counted from the finest, projections of attention as 1x1 convolutions."""
    levels = len(network.config.block_out_channels)
    named = {}
    for name, weight in network.state_dict().items():
        parts = name.split(".")
        rest = ".".join(parts[1:]).replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if parts[1] == "mid_block":
            kind, number, inner = parts[2], int(parts[3]), ".".join(parts[4:])
            rest = (
                f"mid.block_{number + 1}.{inner}" if kind == "resnets" else f"mid.attn_1.{_layer(inner, VAE_ATTENTION)}"
            )
            if kind == "attentions" and weight.dim() == 2:
                weight = weight[:, :, None, None]
        elif parts[1] in ("down_blocks", "up_blocks"):
            side, level = parts[1].removesuffix("_blocks"), int(parts[2])
            level = level if side == "down" else levels - 1 - level
            inner = ".".join(parts[5:]).replace("conv_shortcut", "nin_shortcut")
            is_resnet = parts[3] == "resnets"
            rest = f"{side}.{level}.{f'block.{parts[4]}' if is_resnet else f'{side}sample'}.{inner}"
        named[f"{prefix}{parts[0] + '.' if '.' in name else ''}{rest}"] = weight
    return named


def clip(network: nn.Module, prefix: str = "cond_stage_model.transformer.") -> dict[str, Tensor]:
    """Of a CLIP text network as OpenAI's code keeps it."""
    names = {name.removeprefix("text_model."): weight for name, weight in network.state_dict().items()}
    return {
        prefix + (name if name.startswith("text_projection") else f"text_model.{name}"): w for name, w in names.items()
    }


def open_clip(network: nn.Module, prefix: str = "cond_stage_model.model.") -> dict[str, Tensor]:
    """The same as OpenCLIP keeps it: three projections in one matrix, the last one the other way round."""
    state = {name.removeprefix("text_model."): weight for name, weight in network.state_dict().items()}
    named = {
        "token_embedding.weight": state.pop("embeddings.token_embedding.weight"),
        "positional_embedding": state.pop("embeddings.position_embedding.weight"),
        "ln_final.weight": state.pop("final_layer_norm.weight"), "ln_final.bias": state.pop("final_layer_norm.bias"),
    }  # fmt: skip
    if "text_projection.weight" in state:
        named["text_projection"] = state.pop("text_projection.weight").T
    for number in range(network.config.num_hidden_layers):
        layer, new = f"encoder.layers.{number}.", f"transformer.resblocks.{number}."
        for kind in ("weight", "bias"):
            parts = [state.pop(f"{layer}self_attn.{letter}_proj.{kind}") for letter in "qkv"]
            named[f"{new}attn.in_proj_{kind}"] = torch.cat(parts)
    for name, weight in state.items():
        if name.startswith("encoder.layers."):
            _, _, number, rest = name.split(".", 3)
            named[f"transformer.resblocks.{number}.{_layer(rest, OPEN_CLIP)}"] = weight
    return {prefix + name: weight for name, weight in named.items()}


def sd3_transformer(network: nn.Module, prefix: str = "model.diffusion_model.") -> dict[str, Tensor]:
    """Of an ``SD3Transformer2DModel``: two streams in joint blocks, projections of attention in one matrix."""
    state = dict(network.state_dict())
    last = network.config.num_layers - 1
    top = {
        "pos_embed.proj": "x_embedder.proj", "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
        "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
        "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
        "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2", "context_embedder": "context_embedder",
        "norm_out.linear": "final_layer.adaLN_modulation.1", "proj_out": "final_layer.linear",
    }  # fmt: skip
    named = {"pos_embed": state.pop("pos_embed.pos_embed")}
    inner = {
        "norm1.linear": "x_block.adaLN_modulation.1", "norm1_context.linear": "context_block.adaLN_modulation.1",
        "attn.to_out.0": "x_block.attn.proj", "attn.to_add_out": "context_block.attn.proj",
        "attn.norm_q": "x_block.attn.ln_q", "attn.norm_k": "x_block.attn.ln_k",
        "attn.norm_added_q": "context_block.attn.ln_q", "attn.norm_added_k": "context_block.attn.ln_k",
        "attn2.to_out.0": "x_block.attn2.proj", "attn2.norm_q": "x_block.attn2.ln_q",
        "attn2.norm_k": "x_block.attn2.ln_k", "ff.net.0.proj": "x_block.mlp.fc1", "ff.net.2": "x_block.mlp.fc2",
        "ff_context.net.0.proj": "context_block.mlp.fc1", "ff_context.net.2": "context_block.mlp.fc2",
    }  # fmt: skip
    for number in range(last + 1):
        block, new = f"transformer_blocks.{number}.", f"joint_blocks.{number}."
        triples = {
            "attn.to_{}": "x_block.attn",
            "attn.add_{}_proj": "context_block.attn",
            "attn2.to_{}": "x_block.attn2",
        }
        for pattern, target in triples.items():
            for kind in ("weight", "bias"):
                keys = [f"{block}{pattern.format(letter)}.{kind}" for letter in "qkv"]
                if keys[0] in state:
                    named[f"{new}{target}.qkv.{kind}"] = torch.cat([state.pop(key) for key in keys])
    for name, weight in state.items():
        if name.startswith("transformer_blocks."):
            _, number, rest = name.split(".", 2)
            is_swapped = int(number) == last and rest.startswith("norm1_context.")
            named[f"joint_blocks.{number}.{_layer(rest, inner)}"] = _swapped(weight) if is_swapped else weight
        else:
            named[_layer(name, top)] = _swapped(weight) if name.startswith("norm_out.linear") else weight
    return {prefix + name: weight for name, weight in named.items()}


def flux(network: nn.Module) -> dict[str, Tensor]:
    """Of a ``FluxTransformer2DModel`` or ``Flux2Transformer2DModel``, whose files hold the network alone."""
    state, named = dict(network.state_dict()), {}
    embed = "time_guidance_embed" if "Flux2" in type(network).__name__ else "time_text_embed"
    top = {
        "x_embedder": "img_in", "context_embedder": "txt_in", "proj_out": "final_layer.linear",
        "norm_out.linear": "final_layer.adaLN_modulation.1",
        **{f"{kind}_stream_modulation{stream}.linear": f"{kind}_stream_modulation{stream}.lin"
           for kind, stream in (("double", "_img"), ("double", "_txt"), ("single", ""))},
        **{f"{embed}.{old}_embedder.linear_{number}": f"{new}.{layer}"
           for old, new in (("timestep", "time_in"), ("text", "vector_in"), ("guidance", "guidance_in"))
           for number, layer in ((1, "in_layer"), (2, "out_layer"))},
    }  # fmt: skip
    double = {
        "norm1.linear": "img_mod.lin", "norm1_context.linear": "txt_mod.lin", "attn.to_out.0": "img_attn.proj",
        "attn.to_add_out": "txt_attn.proj", "attn.norm_q.weight": "img_attn.norm.query_norm.scale",
        "attn.norm_k.weight": "img_attn.norm.key_norm.scale",
        "attn.norm_added_q.weight": "txt_attn.norm.query_norm.scale",
        "attn.norm_added_k.weight": "txt_attn.norm.key_norm.scale", "ff.net.0.proj": "img_mlp.0",
        "ff.net.2": "img_mlp.2", "ff_context.net.0.proj": "txt_mlp.0", "ff_context.net.2": "txt_mlp.2",
        "ff.linear_in": "img_mlp.0", "ff.linear_out": "img_mlp.2", "ff_context.linear_in": "txt_mlp.0",
        "ff_context.linear_out": "txt_mlp.2",
    }  # fmt: skip
    single = {
        "norm.linear": "modulation.lin", "attn.norm_q.weight": "norm.query_norm.scale",
        "attn.norm_k.weight": "norm.key_norm.scale", "proj_out": "linear2", "attn.to_qkv_mlp_proj": "linear1",
        "attn.to_out": "linear2",
    }  # fmt: skip
    fused = {
        "transformer_blocks": {"img_attn.qkv": ["attn.to_q", "attn.to_k", "attn.to_v"],
                               "txt_attn.qkv": [f"attn.add_{letter}_proj" for letter in "qkv"]},
        "single_transformer_blocks": {"linear1": ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"]},
    }  # fmt: skip
    groups = {"transformer_blocks": ("double_blocks", double), "single_transformer_blocks": ("single_blocks", single)}
    for group, triples in fused.items():
        for number in {int(name.split(".")[1]) for name in state if name.startswith(f"{group}.")}:
            for target, layers in triples.items():
                for kind in ("weight", "bias"):
                    keys = [f"{group}.{number}.{layer}.{kind}" for layer in layers]
                    if keys[0] in state:
                        joined = torch.cat([state.pop(key) for key in keys])
                        named[f"{groups[group][0]}.{number}.{target}.{kind}"] = joined
    for name, weight in state.items():
        group, _, rest = name.partition(".")
        if group in groups:
            new, layers = groups[group]
            number, _, rest = rest.partition(".")
            old = next(each for each in layers if f"{rest}.".startswith(f"{each}."))
            named[f"{new}.{number}.{layers[old]}{rest.removeprefix(old)}"] = weight
        else:
            named[_layer(name, top)] = _swapped(weight) if name.startswith("norm_out.linear") else weight
    return named


def _swapped(weight: Tensor) -> Tensor:
    """Scale and shift in the other order."""
    return torch.cat(weight.chunk(2)[::-1])
