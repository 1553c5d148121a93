"""LoRA files and their relatives, added to the weights when a model is loaded: no cost afterwards.

LoRA (Hu et al. 2021, arXiv:2106.09685), LoCon, LoHa and LoKr (Yeh et al. 2023, arXiv:2309.14859) and DoRA (Liu et al.
2024, arXiv:2402.09353). PEFT multiplies their matrices.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..early import named
from ..errors import ConfigError, SceneFormatError, first_line
from .families import FAMILIES
from .models import Components

EXPECTED = "a .safetensors LoRA for this kind of model, with diffusers, PEFT or kohya names"
MATRIX_NAME = re.compile(
    r"[._](?:lora[._])(?:linear_layer\.)?(?P<lora>down|up|mid|A|B)(?:\.default)?\.weight$"
    r"|\.(?P<other>hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2|dora_scale|alpha)$"
    r"|\.(?P<magnitude>lora_magnitude_vector)(?:\.default)?(?:\.weight)?$"
)
SHORT = {"A": "down", "B": "up", "lora_magnitude_vector": "dora_scale"}
WHOLE = (
    {"down", "up"},
    {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"},
    *({*first, *second} for first in (("lokr_w1",), ("lokr_w1_a", "lokr_w1_b"))
      for second in (("lokr_w2",), ("lokr_w2_a", "lokr_w2_b"))),
)  # fmt: skip
"""Matrices of which a layer has one set: LoRA, LoHa, LoKr."""


@dataclass(frozen=True)
class Lora:
    """One LoRA file and its strength; written ``path`` or ``path:strength`` in a config."""

    path: str
    strength: float = 1.0

    @classmethod
    def of(cls, value: "str | Path | Lora") -> "Lora":
        """A Lora from itself or from its text.

        Raises:
            ConfigError: If there is no such file.
        """
        if isinstance(value, cls):
            return value
        match = re.fullmatch(r"(.+\.safetensors)(?::(-?\d*\.?\d+))?", str(value))
        path = named(Path(match[1]).expanduser()) if match else Path()
        if match is None or not path.is_file():
            what, expected = f"lora '{value}' is not a file", "the path of a .safetensors file, or path:strength"
            raise ConfigError(what=what, expected=expected, fix="download the LoRA file and correct lora=")
        return cls(str(path), float(match[2] or 1))


def merge_loras(components: Components, loras: Sequence[str | Path | Lora]) -> None:
    """Add each LoRA to the weights of `components`, in place: ``W + strength * alpha / rank * up @ down``.

    A DoRA then gives each column (or row) of the sum its own length; the strength goes from W to that.

    Raises:
        ConfigError: If a file does not exist.
        SceneFormatError: If a file holds no LoRA, or one of another architecture.
    """
    layers = _layers_by_flat_name(components)
    for lora in map(Lora.of, loras):
        for (part, name), change in _read(lora.path, components).items():
            layer = next((layers[part, each] for each in _spellings(name) if (part, each) in layers), None)
            changed = None if layer is None else _changed(layer.weight.data.float(), change)
            if layer is None or changed is None:
                what = f"lora '{lora.path}' does not fit model '{components.model_id}' (at {part} {name})"
                fix = "choose a LoRA that was trained for this model, or remove it from lora="
                raise SceneFormatError(what=what, expected=EXPECTED, fix=fix)
            layer.weight.data += (lora.strength * (changed - layer.weight.data.float())).to(layer.weight)
        components.lora.append(f"{lora.path}:{lora.strength:g}")


def _layers_by_flat_name(components: Components) -> dict[tuple[str, str], Any]:
    """Every layer with a weight, by (part, name with underscores for dots)."""
    return {
        (part, name.replace(".", "_")): layer
        for part, network in components.networks().items()
        for name, layer in network.named_modules()
        if isinstance(getattr(layer, "weight", None), Tensor)
    }


def _spellings(name: str) -> list[str]:
    """The names one layer has had in the versions of the libraries."""
    names = [name, f"{name}_0", f"text_model_{name}", name.removeprefix("text_model_")]
    return [*names, *(each.replace("_processor_", "_") for each in names)]


def _read(path: str, components: Components) -> dict[tuple[str, str], dict[str, Tensor]]:
    """The matrices in a file by their short names, by part and flat layer name.

    Raises:
        SceneFormatError: If it cannot be read, or holds anything but LoRA matrices.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {first_line(error)}") from error
    prefixes = {prefix: part for family in FAMILIES.values() for prefix, part in family.lora_prefixes.items()}
    changes: dict[tuple[str, str], dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        target, kind = _parse(key)
        prefix = next((prefix for prefix in prefixes if target.startswith(prefix)), None)
        if prefix is None or kind is None:
            raise _unreadable(path, f"'{key}' is no matrix of a LoRA, LoCon, LoHa, LoKr or DoRA")
        flat = target.removeprefix(prefix).replace(".", "_")
        name = components.family.lora_layer(flat, components.network)
        changes.setdefault((prefixes[prefix], name), {})[kind] = tensor.float()
    if not changes or any(sum(names <= set(each) for names in WHOLE) != 1 for each in changes.values()):
        raise _unreadable(path, "a layer has no whole set of LoRA matrices" if changes else "it is empty")
    settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    for (part, _), change in changes.items():  # newer files keep alphas once for each part, in their header
        if "alpha" not in change and (alpha := settings.get(f"{part}.lora_alpha")) is not None:
            change["alpha"] = torch.tensor(float(alpha))
    return changes


def _parse(key: str) -> tuple[str, str | None]:
    """Target layer and short name of a tensor; (name, None) if it is no matrix of a LoRA."""
    key = key.removeprefix("base_model.model.")
    match = MATRIX_NAME.search(key)
    if match is None:
        return key, None
    kind = match["lora"] or match["other"] or match["magnitude"]
    return key[: match.start()], SHORT.get(kind, kind)


def _changed(weight: Tensor, change: Mapping[str, Tensor]) -> Tensor | None:
    """A layer's weight, float32, with a change at strength 1; None if the matrices have other shapes."""
    try:
        difference, rank = _difference(change)
    except RuntimeError:  # matrices that cannot be multiplied
        return None
    if difference.shape[0] != weight.shape[0] or difference.numel() != weight.numel():
        return None
    scale = 1.0 if rank is None or "alpha" not in change else float(change["alpha"]) / rank
    changed = weight + scale * difference.reshape(weight.shape).to(weight)
    if (lengths := change.get("dora_scale")) is None:
        return changed
    is_row = lengths.numel() == lengths.shape[0] == weight.shape[0]  # else one for each column
    dims = tuple(range(1, weight.dim())) if is_row else (0, *range(2, weight.dim()))
    shape = [-1 if axis not in dims else 1 for axis in range(weight.dim())]
    if lengths.numel() != weight.shape[0 if is_row else 1]:
        return None
    return changed * lengths.reshape(shape).to(weight) / changed.norm(dim=dims, keepdim=True)


def _difference(change: Mapping[str, Tensor]) -> tuple[Tensor, int | None]:
    """What a change adds before its scale, and its rank; None where alpha does not count (LoKr of whole matrices)."""
    from peft.tuners.loha.layer import make_weight, make_weight_cp
    from peft.tuners.lokr.layer import make_kron
    from peft.tuners.lokr.layer import make_weight_cp as make_tucker

    one = torch.tensor(1.0)
    if "up" in change:
        up, down = change["up"].flatten(1), change["down"].flatten(1)  # a convolution's `up` is 1x1
        return (make_tucker(change["mid"], up.mT, down) if "mid" in change else up @ down), len(down)
    if "hada_w1_a" in change:
        w1a, w1b, w2a, w2b = (change[f"hada_w{number}_{letter}"] for number in (1, 2) for letter in "ab")
        if "hada_t1" in change:
            return make_weight_cp(change["hada_t1"], w1a, w1b, change["hada_t2"], w2a, w2b, one), len(w1b)
        return make_weight(w1a, w1b, w2a, w2b, one), len(w1b)
    first, second = (change.get(f"lokr_w{number}") for number in (1, 2))
    ranks = [len(change[name]) for name in ("lokr_w1_b", "lokr_w2_b") if name in change]
    if first is None:
        first = change["lokr_w1_a"] @ change["lokr_w1_b"]
    if second is None:
        a, b = change["lokr_w2_a"], change["lokr_w2_b"]
        second = make_tucker(change["lokr_t2"], a, b) if "lokr_t2" in change else a @ b
    return make_kron(first, second), ranks[0] if ranks else None


def _unreadable(path: str, why: str) -> SceneFormatError:
    return SceneFormatError(
        what=f"lora '{path}' cannot be read ({why})", expected=EXPECTED, fix="correct lora=, or download it again"
    )
