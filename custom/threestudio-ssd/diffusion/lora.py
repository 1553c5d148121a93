"""LoRA files (Hu et al. 2021, arXiv:2106.09685), added to the weights when a model is loaded: no cost afterwards."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ConfigError, SceneFormatError, first_line
from .families import FAMILIES
from .models import Components

EXPECTED = "a .safetensors LoRA for this kind of model, with diffusers, PEFT or kohya names"
MATRIX_NAME = re.compile(r"[._](?:lora[._])(?:linear_layer\.)?(down|up|A|B)(?:\.default)?\.weight$")


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
        if match is None or not Path(match[1]).expanduser().is_file():
            what, expected = f"lora '{value}' is not a file", "the path of a .safetensors file, or path:strength"
            raise ConfigError(what=what, expected=expected, fix="download the LoRA file and correct lora=")
        return cls(str(Path(match[1]).expanduser()), float(match[2] or 1))


@dataclass
class _Change:
    """The matrices of one layer."""

    down: Tensor
    up: Tensor
    alpha: float | None = None


def merge_loras(components: Components, loras: Sequence[str | Path | Lora]) -> None:
    """Add each LoRA to the weights of `components`, in place: ``W + strength * alpha / rank * up @ down``.

    Raises:
        ConfigError: If a file does not exist.
        SceneFormatError: If a file holds no LoRA, or one of another architecture.
    """
    layers = _layers_by_flat_name(components)
    for lora in map(Lora.of, loras):
        for (part, name), change in _read(lora.path, components).items():
            layer = next((layers[part, each] for each in _spellings(name) if (part, each) in layers), None)
            if layer is None or not _fits(layer.weight, change):
                what = f"lora '{lora.path}' does not fit model '{components.model_id}' (at {part} {name})"
                fix = "choose a LoRA that was trained for this model, or remove it from lora="
                raise SceneFormatError(what=what, expected=EXPECTED, fix=fix)
            alpha = len(change.down) if change.alpha is None else change.alpha
            product = change.up.float().flatten(1) @ change.down.float().flatten(1)  # a convolution's `up` is 1x1
            difference = product * (alpha / len(change.down))
            layer.weight.data += (lora.strength * difference).reshape(layer.weight.shape).to(layer.weight)
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


def _read(path: str, components: Components) -> dict[tuple[str, str], _Change]:
    """The changes in a file, by part and flat layer name.

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
    matrices: dict[tuple[str, str], dict[str, Any]] = {}
    for key, tensor in tensors.items():
        target, kind = _parse(key)
        prefix = next((prefix for prefix in prefixes if target.startswith(prefix)), None)
        if prefix is None or kind is None:
            raise _unreadable(path, f"'{key}' is no LoRA matrix; DoRA, LoHa and LoKr are not supported")
        flat = target.removeprefix(prefix).replace(".", "_")
        name = components.family.lora_layer(flat, components.network)
        matrices.setdefault((prefixes[prefix], name), {})[kind] = tensor.item() if kind == "alpha" else tensor
    if not matrices or any(not {"down", "up"} <= set(each) for each in matrices.values()):
        raise _unreadable(path, "it does not hold pairs of LoRA matrices")
    changes = {layer: _Change(**each) for layer, each in matrices.items()}
    _apply_metadata_alphas(changes, metadata)
    return changes


def _parse(key: str) -> tuple[str, str | None]:
    """(target layer, "down" or "up" or "alpha") of a tensor's name; (name, None) if it is none of these."""
    key = key.removeprefix("base_model.model.")
    if key.endswith(".alpha"):
        return key.removesuffix(".alpha"), "alpha"
    match = MATRIX_NAME.search(key)
    if match is None:
        return key, None
    return key[: match.start()], {"A": "down", "B": "up"}.get(match[1], match[1])


def _apply_metadata_alphas(changes: dict[tuple[str, str], _Change], metadata: dict[str, str]) -> None:
    """Alphas that newer files keep once for each part, in their header."""
    settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    for (part, _), change in changes.items():
        if change.alpha is None:
            change.alpha = settings.get(f"{part}.lora_alpha")


def _fits(weight: Tensor, change: _Change) -> bool:
    shapes = weight.shape[0] == change.up.shape[0], weight.shape[1:].numel() == change.down.shape[1:].numel()
    return all(shapes) and change.up.shape[1] == change.down.shape[0]


def _unreadable(path: str, why: str) -> SceneFormatError:
    return SceneFormatError(
        what=f"lora '{path}' cannot be read ({why})", expected=EXPECTED, fix="correct lora=, or download it again"
    )
