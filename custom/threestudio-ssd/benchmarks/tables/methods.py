"""The methods of a table: which config each runs with, and what it is told."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from threestudio.utils.config import load_config

from ...guidance import build_score
from ..toy.items import methods_from
from .captures import Capture
from .keys import TableEdit, chosen

NO_SCENE = "-"
"""Stands for the scene while only the method is asked about."""


@dataclass(frozen=True)
class TableMethod:
    """A config with changes, or another tool whose results are there.

    Attributes:
        name: Of its row.
        config: The config file; empty for another tool.
        words: ``key=value`` changes to it.
        is_instructed: Whether it reads instructions in place of captions.
    """

    name: str
    config: str
    words: tuple[str, ...] = ()
    is_instructed: bool = False

    def experiment(self, *more: str) -> DictConfig:
        """The complete config with more changes; without a scene among them, for questions about the method."""
        return complete_config(self.config, f"scene={NO_SCENE}", *self.words, *more)

    def experiment_of(self, edit: TableEdit, capture: Capture, scene: Path, has_mask: bool, *more: str) -> DictConfig:
        """The complete config of one edit.

        Args:
            edit: Its prompts.
            capture: Its cameras.
            scene: The splat.
            has_mask: Whether what may change is looked for in the edit's words.
            *more: Further changes.
        """
        return self.experiment(
            f"scene={scene}", f"cameras={capture.cameras}", f"source_prompt={edit.source_prompt}",
            f"target_prompt={edit.instruction if self.is_instructed else edit.target_prompt}",
            *([f"mask.text={edit.mask}"] if edit.mask and has_mask else []), *more,
        )  # fmt: skip


def chosen_methods(cfg: DictConfig) -> list[TableMethod]:
    """The methods that are asked for, with the changes that the table makes to all of them.

    Raises:
        ConfigError: For a name that no method has, or a config that cannot be loaded.
    """
    methods = []
    names = chosen("system.chosen", cfg.chosen, [str(name) for name in cfg.methods])
    for method in methods_from({name: cfg.methods[name] for name in names}):
        steps = [] if cfg.steps is None else [f"steps={cfg.steps}"]
        words = (*steps, *(str(word) for word in cfg.overrides), *method.overrides)
        plain = TableMethod(method.name, method.config, words)
        branches = build_score(plain.experiment().system.guidance.score).branches
        is_instructed = any(branch.image == "src" for branch in branches)
        model = cfg.instruction_model if is_instructed else cfg.caption_model
        models = () if model is None else (f"model={model}",)
        methods.append(TableMethod(method.name, method.config, (*models, *words), is_instructed))
    return methods


def other_tools(folder: Path) -> list[TableMethod]:
    """The tools whose results are there: a folder each, with a splat for each edit."""
    return [TableMethod(path.name, "") for path in sorted(folder.iterdir()) if path.is_dir()]


def complete_config(path: str, *words: str) -> DictConfig:
    """A config file, here or in the repository, with changes, checked and complete."""
    from threestudio.utils.config_tree import complete

    return complete(load_config(path, cli_args=[*words, "use_timestamp=true"]))
