"""Nodes of ComfyUI that edit Gaussian splats; copy or link this folder into ``custom_nodes``."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("threestudio") is None:  # linked from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parents[2]))
if importlib.util.find_spec("threestudio") is None:
    raise ImportError(
        "threestudio-ssd is not installed: run pip install on its checkout, or link this folder instead of copying it"
    )

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
