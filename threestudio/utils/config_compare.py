"""Whether two configs give the same result: their values key by key, without the keys that cannot change it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

CANNOT_CHANGE_RESULTS = frozenset({
    # names of a run and of its folder
    "name", "description", "tag", "use_timestamp", "timestamp", "exp_root_dir", "exp_dir", "trial_name", "trial_dir",
    # when checkpoints are written and which one a run goes on from; a resumed run is the run that was not stopped
    "resume", "checkpoint", "trainer.enable_checkpointing",
    # how many GPUs the command line named, and what the environment gave
    "n_gpus", "from_environment",
    # what is logged, drawn or freed beside the steps
    "system.cleanup_after_validation_step", "system.cleanup_after_test_step", "trainer.log_every_n_steps",
    "trainer.logger", "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.profiler",
    "trainer.default_root_dir", "viewer",
})  # fmt: skip
"""Dotted keys, each with all that is below it, that decide how a run is named, kept or looked at, never its result."""


def settings(config: Mapping[str, Any] | DictConfig, without: frozenset[str]) -> dict[str, str]:
    """A config flat: dotted key -> value as JSON.

    Args:
        config: Resolved.
        without: Dotted keys, each with all that is below it, that are left out.
    """
    return {key: json.dumps(value) for key, value in leaves(config).items() if not is_below(key, without)}


def digests(config: Mapping[str, Any] | DictConfig) -> dict[str, str]:
    """A config flat: dotted key -> digest of its value, hexadecimal, of all keys that can change a result."""
    flat = settings(config, CANNOT_CHANGE_RESULTS)
    return {key: hashlib.blake2b(value.encode(), digest_size=8).hexdigest() for key, value in flat.items()}


def differing_key(earlier: Mapping[str, str], now: Mapping[str, str], without: frozenset[str]) -> str | None:
    """The first dotted key whose digest differs, or that only one side has; None where all are the same.

    Args:
        earlier: Of ``digests``.
        now: The same.
        without: Dotted keys, each with all that is below it, that do not count.
    """
    keys = (key for key in (*now, *earlier) if not is_below(key, without))
    return next((key for key in keys if earlier.get(key) != now.get(key)), None)


def difference(earlier: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """How two settings differ, as the end of a sentence on what was made; None where they are the same."""
    for key in (*now, *earlier):
        if key not in earlier:
            return f"without {key}, and now it is {now[key]}"
        if key not in now:
            return f"with {key} {earlier[key]}, and now there is none"
        if earlier[key] != now[key]:
            return f"with {key} {earlier[key]}, and now it is {now[key]}"
    return None


def leaves(tree: Mapping[str, Any] | DictConfig, prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by dotted key; lists and empty mappings are values."""
    values: dict[str, Any] = {}
    for key, value in plain(tree).items():
        value = plain(value)
        is_branch = isinstance(value, Mapping) and value
        values |= leaves(value, f"{prefix}{key}.") if is_branch else {f"{prefix}{key}": value}
    return values


def plain(value: Any) -> Any:
    """A config as dicts, lists and values; anything else as it is."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def is_below(key: str, tops: frozenset[str]) -> bool:
    """Whether a dotted key is one of these, or below one."""
    return any(key == top or key.startswith(f"{top}.") for top in tops)
