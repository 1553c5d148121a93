"""An editor from its keys: the method by name, the model it computes with."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..diffusion import ModelKeys
from ..errors import ConfigError
from ..named import build_named
from .consistency import CONSISTENCIES
from .editor import EDITORS, EditorPrompts, ImageEditor
from .loaded import LoadedEditor

OF_IMAGES = frozenset({"names"})
"""Optional fields of ``Views`` that images without a scene have."""


@dataclass
class EditorKeys(ModelKeys):
    """Keys of an editor: of its model, and these."""

    editor: dict = field(default_factory=lambda: {"name": "sdedit"})
    """name of an editor, and any of its own fields."""
    consistency: dict = field(default_factory=lambda: {"name": "none"})
    """name of a way to edit views together, and any of its own fields."""
    batch_size: int = 8
    """Views that go through the network at once, >= 1: more need more memory."""


def build_editor(options: Mapping[str, Any], key: str = "system.editing.editor") -> ImageEditor:
    """The editor that ``{name: ..., field: value, ...}`` describes.

    Args:
        options: ``name`` is a key of ``EDITORS``; the rest are fields of that editor.
        key: Where the options stand in the config, for messages.

    Raises:
        ConfigError: For an unknown name, an unknown field, or a value that cannot be used.
    """
    editor = build_named(options, EDITORS, key=key, kind="editor", default="sdedit")
    editor.check(key)
    return editor


def load_editor(
    cfg: Any, device: torch.device, prompts: EditorPrompts, words: Sequence[str] = (), *,
    given: Collection[str] = OF_IMAGES,
) -> LoadedEditor:  # fmt: skip
    """The editor and model that ``EditorKeys`` name, with the prompts embedded.

    Args:
        cfg: The keys, at ``system.editing``.
        device: Where it runs.
        prompts: Of the edit.
        words: Everything that ``Views.words`` may say.
        given: Which optional fields of ``Views`` the edit has, of those that ``needs`` may name.

    Raises:
        ConfigError: For a value or model that cannot be used.
    """
    if cfg.batch_size < 1:
        fix = f"set system.editing.batch_size={EditorKeys.batch_size}"
        raise ConfigError(what=f"system.editing.batch_size is {cfg.batch_size}", expected="at least 1", fix=fix)
    editor = build_editor(cfg.editor)
    key = "system.editing.consistency"
    consistency = build_named(cfg.consistency, CONSISTENCIES, key=key, kind="consistency", default="none")
    for kind, name, needs in (
        ("editor", cfg.editor.get("name", "sdedit"), editor.needs),
        ("consistency", cfg.consistency.get("name", "none"), consistency.needs),
    ):
        if missing := sorted(needs.difference(given)):
            what = f"system.editing.{kind}.name is {name}, which needs the {' and '.join(missing)} of the views"
            expected, fix = "one that this edit has all of that for", f"set system.editing.{kind}.name to another"
            raise ConfigError(what=what, expected=expected, fix=f"{fix}, or edit a scene with configs/shape-gs.yaml")
    network = editor.load(cfg, device, prompts, words)
    own = consistency.load(network, device, revision=None, is_offline=cfg.offline)
    return LoadedEditor(editor, network, cfg.batch_size, consistency, own)
