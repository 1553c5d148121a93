"""PIE-Bench with any score or image editor: edit all images, measure, tabulate. Goes on where it was stopped."""

import copy
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

import threestudio
from threestudio.utils.folders import sole_use
from threestudio.utils.saving import remove_left_behind

from ...data.image import check_size
from ...editors import EditorPrompts, PromptedBackbone, build_editor, load_editor
from ...editors.image_edit import check_strength, image_views
from ...edits.image_edit import ImageBatchEdit
from ...errors import ConfigError
from ...files import is_whole, sha256, write_json, write_text
from ...guidance import EditGuidance, guidance_class
from ...host import get_device
from ...images import as_tensor, fitting_size, read_rgb, resized, save_image
from ...pretrained import is_embedded
from ...report.edit_report import model_of
from ..fingerprint import CANNOT_CHANGE_RESULTS, check_same, fingerprint, refuse_unread
from .dataset import IMAGES, MAPPING, SIZE, TRUTHS, PieEntry, load_pie_bench
from .metrics import (
    AS_PUBLISHED,
    EMBEDDED_JUDGES,
    EXACT,
    PUBLISHED_JUDGES,
    Judges,
    cut_to_square,
    load_judges,
    pie_figures,
    pie_table,
    truth_figures,
)

SCORE, EDITOR = "ssd-image-system", "editor-image-system"
"""Systems whose configs it takes."""
EditSome = Callable[[Sequence[PieEntry], Tensor], Tensor]
"""Entries and their images (b 3 h w) in [0, 1] -> the edited images (b 3 h2 w2)."""
COSTS = "costs.jsonl"
"""File beside edited images: what each cost to edit."""
SUPPLIED = frozenset({
    "data.picture", "system.prompt_processor.source_prompt", "system.prompt_processor.target_prompt",
    "system.source_prompt", "system.target_prompt",
})  # fmt: skip
"""Keys of an image config in whose place the benchmark puts its own images and prompts."""
READS = {
    SCORE: frozenset({
        "seed", "data_type", "data.size", "system_type", "system.num_steps", "system.seed", "system.parametrisation",
        "system.latent_steps", "system.learning_rate", "system.lambda_detail", "system.guidance_type",
        "system.guidance", "system.prompt_processor.negative_prompt",
    }),
    EDITOR: frozenset({
        "seed", "data_type", "data.size", "system_type", "system.seed", "system.strength", "system.editing",
        "system.negative_prompt",
    }),
}  # fmt: skip
"""Keys of an image config that the benchmark's edits follow; any other that is set is refused."""


def run_pie_bench(cfg: Any, experiment: DictConfig) -> str:
    """Edit what is not edited yet, measure what is not measured yet, and write the table.

    Args:
        cfg: Keys of ``--run pie-bench``.
        experiment: Complete config of an edit of an image.

    Returns:
        The table and its path, for printing.

    Raises:
        ConfigError: If the config is of another system, sets a key that the benchmark does not read, or the folder
            holds images of other settings.
    """
    if experiment.system_type not in READS:
        raise ConfigError(
            what=f"--run pie-bench was given a config of {experiment.system_type}",
            expected=f"system_type: {SCORE} or {EDITOR}",
            fix="use configs/ssd-image.yaml, or configs/editor-image.yaml for an image editor",
        )  # fmt: skip
    dataset, out = Path(cfg.dataset), Path(cfg.out)
    with sole_use(out):
        remove_left_behind(out)
        return _run_alone(cfg, experiment, dataset, out)


def _run_alone(cfg: Any, experiment: DictConfig, dataset: Path, out: Path) -> str:
    """The same, in a folder of results that nobody else writes into."""
    check_batch(cfg.batch, "run.batch")
    entries = chosen_entries(load_pie_bench(dataset), cfg.groups, cfg.limit)
    images = Path(cfg.edited) if cfg.edited else out / IMAGES
    if not cfg.edited:
        reads = READS[experiment.system_type] | SUPPLIED
        refuse_unread(experiment, "PIE-Bench", reads, {"trainer.max_steps": experiment.system.num_steps})
    judges = load_judges(**judge_names(cfg, model_of(experiment.system)))
    if not cfg.edited:
        keep_settings(out / "settings.json", experiment, dataset)
        missing = [entry for entry in entries if not is_whole(result_path(images, entry))]
        if missing:
            edit_all(missing, dataset, images, experiment, cfg.batch)
    if cfg.as_published and judges.stand_ins:
        wanted = " ".join(f"run.{key}={PUBLISHED_JUDGES[key]}" for key in judges.stand_ins)
        threestudio.warn(
            f"run.as_published=true with embedded networks: those figures compare with no paper; set {wanted}"
        )
    rows = measure(entries, dataset, images, out, judges, cfg.as_published)
    name = "edited by another tool" if cfg.edited else method_of(experiment)
    table = pie_table(rows, name, f"{counting(cfg.as_published)}. {judges.label}.", judges.heads)
    write_text(out / "table.md", table)
    return f"{table}\n{out / 'table.md'}\n"


def judge_names(cfg: Any, diffusion_model: str) -> dict[str, str]:
    """The networks that judge, by key: as named, or those that suit the diffusion model of the edits.

    Args:
        cfg: Keys of ``--run pie-bench``.
        diffusion_model: Folder or hub id.
    """
    usual = EMBEDDED_JUDGES if is_embedded(diffusion_model) else PUBLISHED_JUDGES
    named = {"clip_model": cfg.clip_model, "structure_model": cfg.structure_model, "lpips_net": cfg.lpips_net}
    return {key: usual[key] if name == "auto" else name for key, name in named.items()}


def chosen_entries(
    entries: Sequence[PieEntry], groups: Sequence[int], limit: int, prefix: str = "run."
) -> list[PieEntry]:
    """The entries of some groups, of each the first ``limit``; 0 for all of them.

    Args:
        entries: All of a benchmark.
        groups: Numbers from 0 to 9.
        limit: At least 0.
        prefix: What stands before the names of the keys, for messages.

    Raises:
        ConfigError: If there are none, or the limit is below 0.
    """
    if limit < 0:
        fix = f"set {prefix}limit=0 for all of them"
        raise ConfigError(what=f"{prefix}limit is {limit}", expected="at least 0", fix=fix)
    by_group = [[entry for entry in entries if entry.group == group] for group in groups]
    chosen = [entry for members in by_group for entry in members[: limit or len(members)]]
    if not chosen:
        raise ConfigError(
            what=f"{prefix}groups={list(groups)} leaves no image", expected="groups from 0 to 9",
            fix=f"leave {prefix}groups out for all of them",
        )  # fmt: skip
    return chosen


def keep_settings(path: Path, experiment: DictConfig, dataset: Path) -> None:
    """Write what the images of a folder are edited with and made from, or see that it is the same.

    Args:
        path: File of the settings, in the folder of the results.
        experiment: Complete config of the edit.
        dataset: Folder of the benchmark, wherever it lies; its mapping file's checksum and its pictures count.

    Raises:
        ConfigError: If the folder holds images of other settings, or the size is none.
    """
    check_size(experiment.data.size or 0)
    now = fingerprint(
        experiment, without=CANNOT_CHANGE_RESULTS | SUPPLIED, mapping_sha256=sha256(dataset / MAPPING),
        pictures=_pictures(dataset),
    )  # fmt: skip
    if path.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        check_same(path.parent, earlier, now, "set run.out to another folder")
    else:
        write_json(path, now)


def _pictures(dataset: Path) -> str:
    """The names and sizes of all pictures as one checksum; reading them all would take longer than editing some."""
    folder, checksum = dataset / IMAGES, hashlib.sha256()
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        checksum.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
    return checksum.hexdigest()


def measure(
    entries: Sequence[PieEntry], dataset: Path, images: Path, out: Path, judges: Judges, as_published: bool
) -> list[dict[str, Any]]:
    """One row an image; earlier rows are kept where judges, images, mask, prompt and how figures count are the same."""
    file, how = out / f"rows{'-as-published' if as_published else ''}.jsonl", counting(as_published)
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = {tuple(row.get(name) for name in ("key", "judges", "inputs", "counted")): row for row in read_rows(file)}
    rows = []
    with file.open("a", encoding="utf-8") as lines:  # a line that was cut off is taken out by read_rows
        for entry in entries:
            paths = dataset / IMAGES / entry.image_path, result_path(images, entry)
            truth = dataset / TRUTHS / entry.image_path
            inputs = checksum_of_inputs(entry, *paths, *([truth] if truth.is_file() else []))
            row = kept.get((entry.key, judges.label, inputs, how))
            if row is None:
                source = as_tensor(read_rgb(paths[0], "the benchmark's"))
                edited = cut_to_square(as_tensor(read_rgb(paths[1], "the edited")), SIZE)
                source, edited = (resized(image, (SIZE, SIZE)) for image in (source, edited))
                figures = pie_figures(source, edited, entry.mask, entry.target_prompt, judges, as_published)
                if truth.is_file():
                    wanted = resized(as_tensor(read_rgb(truth, "the true")), (SIZE, SIZE))
                    figures |= truth_figures(edited, wanted, entry.mask)
                row = {
                    "key": entry.key, "group": entry.group,
                    **{name: "inf" if value == math.inf else value for name, value in figures.items()},
                    "judges": judges.label, "pictures": str(images), "inputs": inputs, "counted": how,
                }  # fmt: skip
                lines.write(json.dumps(row) + "\n")
                lines.flush()
            rows.append(row)
    return rows


def counting(as_published: bool) -> str:
    """How figures are computed, in words; a row keeps them, so that none of another definition is taken for it."""
    return AS_PUBLISHED if as_published else EXACT


def result_path(images: Path, entry: PieEntry) -> Path:
    """Where an edited image is: the entry's own path as ``.png``, or with its own suffix where that exists."""
    path = images / entry.image_path
    return path if path.exists() and path.suffix != ".png" else path.with_suffix(".png")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of an earlier run, none without the file; a line that was cut off is taken out of it, with a warning."""
    if not path.exists():
        return []
    text, rows = path.read_text(encoding="utf-8", errors="replace"), []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            threestudio.warn(f"{path}: line {number} is cut off; its picture is measured again.")
    whole = "".join(json.dumps(row) + "\n" for row in rows)
    if whole != text:
        write_text(path, whole)
    return rows


def checksum_of_inputs(entry: PieEntry, *images: Path) -> str:
    """sha256 of all that a row is computed from: group, prompt, mask, and the images' files."""
    facts = f"{entry.group}\n{entry.target_prompt}".encode(), np.packbits(entry.mask.numpy()).tobytes()
    files = [path.read_bytes() if path.is_file() else b"" for path in images]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in (*facts, *files))).hexdigest()


def check_batch(batch: int, key: str) -> None:
    """Refuse a number of images that cannot be edited side by side.

    Raises:
        ConfigError: If it is below 1.
    """
    if batch < 1:
        raise ConfigError(what=f"{key} is {batch}", expected="at least 1", fix=f"set {key}=1")


def edit_all(entries: Sequence[PieEntry], dataset: Path, images: Path, experiment: DictConfig, batch: int = 1) -> None:
    """Edit each image as a run of the image config would, without mask, and write it as soon as it is done.

    What each costs is added to ``costs.jsonl`` beside the folder of images.

    Args:
        entries: What to edit.
        dataset: Folder of the benchmark.
        images: Where results go.
        experiment: Complete config of the edit.
        batch: Images side by side, each as it would be alone but for the rounding of its network's sums.
    """
    edit, is_alone = (by_score if experiment.system_type == SCORE else by_editor)(entries, experiment)
    done = 0
    for part, sources in _batches(entries, dataset, 1 if is_alone else batch):
        started = time.process_time()
        edited = edit(part, sources)
        seconds = (time.process_time() - started) / len(part)
        for entry, image in zip(part, resized(edited, sources.shape[-2:]), strict=True):
            save_image(result_path(images, entry), image.permute(1, 2, 0))
        with (images.parent / COSTS).open("a", encoding="utf-8") as lines:
            lines.writelines(json.dumps({"key": entry.key, "cpu_seconds": seconds}) + "\n" for entry in part)
        done += len(part)
        threestudio.info(f"{done} of {len(entries)}: {part[-1].image_path}")


def _batches(
    entries: Sequence[PieEntry], dataset: Path, batch: int
) -> Iterator[tuple[list[PieEntry], Float[Tensor, "b 3 h w"]]]:
    """Entries whose images are of one size, so many at once at most, and these images; in order."""
    part: list[PieEntry] = []
    sources: list[Tensor] = []
    for entry in entries:
        source = as_tensor(read_rgb(dataset / IMAGES / entry.image_path, "the benchmark's"))
        if part and (len(part) == batch or source.shape != sources[0].shape):
            yield part, torch.cat(sources)
            part, sources = [], []
        part.append(entry)
        sources.append(source)
    yield part, torch.cat(sources)


def method_of(experiment: DictConfig) -> str:
    """Name of the score or editor."""
    system = experiment.system
    if experiment.system_type == SCORE:
        return system.guidance.score.get("name", "ssd")
    return system.editing.editor.get("name", "sdedit")


def by_score(entries: Sequence[PieEntry], experiment: DictConfig) -> tuple[EditSome, bool]:
    """Editing by a score, whose network is loaded once; what it trains is forgotten from one image to the next.

    Returns:
        The editing, and whether images have to come one at a time: where the score trains on them.
    """
    guidance = guidance_class(experiment.system.guidance_type)(experiment.system.guidance)
    untrained = copy.deepcopy(guidance.state_dict())

    def edit(part: Sequence[PieEntry], sources: Float[Tensor, "b 3 h w"]) -> Tensor:
        guidance.load_state_dict(untrained)
        return edit_some(guidance, part, sources, experiment)

    return edit, guidance.variational is not None


def by_editor(entries: Sequence[PieEntry], experiment: DictConfig) -> tuple[EditSome, bool]:
    """Editing by an image editor, whose network is loaded once with the prompts of all entries.

    Returns:
        The editing, and whether images have to come one at a time: where all are told the same, or look at each other.

    Raises:
        ConfigError: For an editor whose images come from elsewhere, or a value that cannot be used.
    """
    system = experiment.system
    check_strength(system)
    editor = build_editor(system.editing.editor)
    if not editor.has_network:
        what = f"system.editing.editor.name is {method_of(experiment)}, which takes images that are edited elsewhere"
        raise ConfigError(what=what, expected="an editor with a network", fix="set run.edited to the edited images")
    reads_instruction = editor.reads_instruction_of(system.editing)
    prompts = {
        entry.key: EditorPrompts(
            entry.source_prompt, entry.instruction if reads_instruction else entry.target_prompt,
            system.negative_prompt, blended=entry.blended_word,
        )
        for entry in entries
    }  # fmt: skip
    first, *others = prompts.values()
    loaded = load_editor(system.editing, get_device(), first._replace(others=tuple(others)))
    network = loaded.network

    def edit(part: Sequence[PieEntry], sources: Float[Tensor, "b 3 h w"]) -> Tensor:
        sides = fitting_size(sources.shape[-2:], experiment.data.size or network.image_size, network.size_multiple)
        views = image_views(system, resized(sources, sides).to(get_device()), [entry.key for entry in part])
        asked = [prompts[entry.key] for entry in part]
        views = dataclasses.replace(views, prompts=asked)
        return dataclasses.replace(loaded, network=network.asked(asked[0]))(views).cpu()

    return edit, not isinstance(network, PromptedBackbone) or loaded.consistency.sees_all_views


def edit_some(
    guidance: EditGuidance, entries: Sequence[PieEntry], sources: Float[Tensor, "b 3 h w"], experiment: DictConfig
) -> Float[Tensor, "b 3 h2 w2"]:
    """The edited images, at the size that the config or the model says; each has the seed of the config."""
    backbone, system = guidance.backbone, experiment.system
    sides = fitting_size(sources.shape[-2:], experiment.data.size or backbone.image_size, backbone.size_multiple)
    negative = system.prompt_processor.negative_prompt
    texts = {
        "src": [entry.source_prompt for entry in entries],
        "tgt": [entry.instruction if backbone.has_image_condition else entry.target_prompt for entry in entries],
        "null": [""],
        "neg": [negative],
    }
    prompts = {name: backbone.encode_prompts(texts[name]) for name in sorted(guidance.prompt_names)}
    seeds = [system.seed] * len(entries)
    edit = ImageBatchEdit(resized(sources, sides).to(backbone.device), guidance, prompts, system, seeds)
    edit.prepare()
    edit.make_steps()
    if edit.is_stuck or not edit.is_finite():
        what = f"the edit of {', '.join(entry.image_path for entry in entries)} is not finite"
        what += f" after {edit.num_steps} steps"
        raise ConfigError(what=what, expected="finite pixels", fix="lower system.learning_rate")
    return edit.result().cpu()
