"""PIE-Bench with any score: edit every picture of the dataset folder, measure, print the paper's columns. Resumable."""

import copy
import hashlib
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor

import threestudio
from threestudio.utils.base import Configurable
from threestudio.utils.misc import C

from ..errors import ConfigError
from ..files import write_text
from ..guidance import EditGuidance
from ..guidance.prompts import NEGATIVE_PROMPT
from ..systems import EditablePictures
from ..systems.image_edit import as_tensor, read_rgb
from .pie_dataset import IMAGES, MAPPING, SIZE, PieEntry, load_pie_bench
from .pie_metrics import (
    AS_PUBLISHED,
    EXACT,
    PUBLISHED_JUDGES,
    Judges,
    cut_to_square,
    load_judges,
    pie_figures,
    pie_table,
)


@threestudio.register("app-pie-bench")
class PieBench(Configurable):
    """Run PIE-Bench with the score of a picture config; prints the columns of the paper's Table 2, and more."""

    @dataclass
    class Config:
        """Keys of the benchmark; written ``run.dataset=...`` beside --config."""

        dataset: str = "outputs/toy-pie-bench"
        """Folder with mapping_file.json and annotation_images/."""
        out: str = "outputs/pie-bench"
        """Where edited pictures, rows and table go; one folder for each setting."""
        edited: str = ""
        """Folder of pictures that another tool edited, same paths below it: they are measured, nothing is edited."""
        groups: list[int] = field(default_factory=lambda: list(range(10)))
        """Which of the groups 0 to 9."""
        limit: int = 0
        """So many images of each group at most; 0: all."""
        as_published: bool = False
        """Compute the figures with the published script's quirks."""
        clip_model: str = "tiny-clip"
        """ViT-L/14 as published."""
        structure_model: str = "tiny-clip"
        """facebook/dino-vitb8 as published."""
        lpips_net: str = "tiny"
        """squeeze as published; tiny: a distance on tiny-clip."""

    cfg: Config

    def __call__(self, experiment: DictConfig) -> int:
        """Edit what is not edited yet, measure what is not measured yet, print."""
        if experiment.system_type != "ssd-image-system":
            raise ConfigError(
                what=f"--run pie-bench was given a config of {experiment.system_type}",
                expected="system_type: ssd-image-system", fix="use configs/ssd-image.yaml",
            )  # fmt: skip
        dataset, out = Path(self.cfg.dataset), Path(self.cfg.out)
        entries = self._chosen(load_pie_bench(dataset))
        pictures = Path(self.cfg.edited) if self.cfg.edited else out / IMAGES
        if not self.cfg.edited:
            keep_settings(out / "settings.json", experiment.system, dataset)
            missing = [entry for entry in entries if not result_path(pictures, entry).exists()]
            if missing:
                edit_all(missing, dataset, pictures, experiment.system)
        judges = self._judges()
        rows = self._measure(entries, dataset, pictures, out, judges)
        how = AS_PUBLISHED if self.cfg.as_published else EXACT
        name = "edited by another tool" if self.cfg.edited else experiment.system.guidance.score.get("name", "ssd")
        table = pie_table(rows, name, f"{how}. {judges.label}.", judges.heads)
        write_text(out / "table.md", table)
        sys.stdout.write(f"{table}\n{out / 'table.md'}\n")
        return 0

    def _chosen(self, entries: list[PieEntry]) -> list[PieEntry]:
        chosen = []
        for group in self.cfg.groups:
            some = [entry for entry in entries if entry.group == group]
            chosen += some[: self.cfg.limit or len(some)]
        if not chosen:
            raise ConfigError(
                what=f"run.groups={list(self.cfg.groups)} leaves no image", expected="groups from 0 to 9",
                fix="leave run.groups out for all of them",
            )  # fmt: skip
        return chosen

    def _judges(self) -> Judges:
        judges = load_judges(self.cfg.clip_model, self.cfg.structure_model, self.cfg.lpips_net)
        if self.cfg.as_published and judges.stand_ins:
            wanted = " ".join(f"run.{key}={PUBLISHED_JUDGES[key]}" for key in judges.stand_ins)
            threestudio.warn(
                f"run.as_published=true with embedded networks: those figures compare with no paper; set {wanted}"
            )
        return judges

    def _measure(
        self, entries: list[PieEntry], dataset: Path, pictures: Path, out: Path, judges: Judges
    ) -> list[dict[str, Any]]:
        """One row an image; rows of an earlier run are kept where judges, pictures, mask and prompt are the same."""
        file = out / f"rows{'-as-published' if self.cfg.as_published else ''}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        known = {(row.get("key"), row.get("judges"), row.get("inputs")): row for row in read_rows(file)}
        rows = []
        with file.open("a", encoding="utf-8") as lines:
            for entry in entries:
                inputs = fingerprint(entry, dataset / IMAGES / entry.image_path, result_path(pictures, entry))
                row = known.get((entry.key, judges.label, inputs))
                if row is None:
                    figures = self._figures(entry, dataset, pictures, judges)
                    row = {
                        "key": entry.key, "group": entry.group, **figures, "judges": judges.label,
                        "pictures": str(pictures), "inputs": inputs,
                    }  # fmt: skip
                    lines.write(json.dumps(row) + "\n")
                    lines.flush()
                rows.append(row)
        return rows

    def _figures(self, entry: PieEntry, dataset: Path, pictures: Path, judges: Judges) -> dict[str, float | None]:
        source = as_tensor(read_rgb(dataset / IMAGES / entry.image_path, "the benchmark's"))
        edited = cut_to_square(as_tensor(read_rgb(result_path(pictures, entry), "the edited")), SIZE)
        source, edited = (resized(picture, (SIZE, SIZE)) for picture in (source, edited))
        return pie_figures(source, edited, entry.mask, entry.target_prompt, judges, self.cfg.as_published)


def result_path(pictures: Path, entry: PieEntry) -> Path:
    """Where an edited picture is: the image's own path as ``.png``, or with its own suffix where that exists."""
    path = pictures / entry.image_path
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


def fingerprint(entry: PieEntry, *pictures: Path) -> str:
    """sha256 of all that a row is computed from: group, prompt, mask, and the pictures' files."""
    facts = f"{entry.group}\n{entry.target_prompt}".encode(), np.packbits(entry.mask.numpy()).tobytes()
    files = [path.read_bytes() if path.is_file() else b"" for path in pictures]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in (*facts, *files))).hexdigest()


def keep_settings(path: Path, system: DictConfig, dataset: Path) -> None:
    """Write what the pictures of a folder are edited with and made from, or see that it is the same.

    Raises:
        ConfigError: If the folder holds pictures of other settings.
    """
    keys = ("num_steps", "seed", "parametrisation", "latent_steps", "learning_rate", "guidance")
    found = {
        key: OmegaConf.to_container(system[key]) if OmegaConf.is_config(system[key]) else system[key] for key in keys
    }
    found["dataset"] = str(dataset.resolve())
    found["mapping_sha256"] = hashlib.sha256((dataset / MAPPING).read_bytes()).hexdigest()
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ConfigError(
            what=f"{path.parent} holds pictures of other settings", expected="one folder for each setting and dataset",
            fix="set run.out to another folder",
        )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def edit_all(entries: list[PieEntry], dataset: Path, pictures: Path, system: DictConfig) -> None:
    """Edit each picture as a run of the picture config would, without mask, and write it as soon as it is done."""
    guidance = EditGuidance(system.guidance)
    untrained = copy.deepcopy(guidance.state_dict())
    for number, entry in enumerate(entries):
        guidance.load_state_dict(untrained)
        source = as_tensor(read_rgb(dataset / IMAGES / entry.image_path, "the benchmark's"))
        edited = edit_one(guidance, entry, source, system)
        path = result_path(pictures, entry)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}.tmp.png")
        pixels = (resized(edited, source.shape[-2:])[0].permute(1, 2, 0) * 255 + 0.5).to(torch.uint8)
        Image.fromarray(pixels.numpy()).save(temporary)
        os.replace(temporary, path)
        threestudio.info(f"{number + 1} of {len(entries)}: {entry.image_path}")


def edit_one(
    guidance: EditGuidance, entry: PieEntry, source: Float[Tensor, "1 3 h w"], system: DictConfig
) -> Float[Tensor, "1 3 h2 w2"]:
    """The edited picture, at the size the model works at."""
    backbone = guidance.backbone
    multiple, scale = backbone.size_multiple, backbone.image_size / min(source.shape[-2:])
    sides = [max(multiple, round(side * scale / multiple) * multiple) for side in source.shape[-2:]]
    editable = EditablePictures(backbone, resized(source, sides).to(backbone.device), system.parametrisation)
    target = entry.instruction if backbone.has_image_condition else entry.target_prompt
    texts = {"src": entry.source_prompt, "tgt": target, "null": "", "neg": NEGATIVE_PROMPT}
    prompts = {name: backbone.encode_prompts([texts[name]]) for name in sorted(guidance.prompt_names)}
    optimizer = editable.make_optimizer(system.latent_steps)
    for step in range(system.num_steps):
        loss, _ = editable.step(
            guidance, prompts, step=step, num_steps=system.num_steps, seed=system.seed,
            detail_weight=C(system.lambda_detail, 0, step),
        )  # fmt: skip
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.param_groups[0]["lr"] = C(system.learning_rate, 0, step)
        optimizer.step()
    return editable.result().cpu()


def resized(picture: Float[Tensor, "1 3 h w"], size: Any) -> Float[Tensor, "1 3 h2 w2"]:
    """A picture at another size, antialiased."""
    if tuple(picture.shape[-2:]) == tuple(size):
        return picture
    picture = torch.nn.functional.interpolate(picture, tuple(size), mode="bicubic", antialias=True, align_corners=False)
    return picture.clamp(0, 1)
