"""A user's scene: nothing of the shipped toy scene and of its models gets into the run unless it is asked for."""

import json
import shutil

import pytest

import threestudio_ssd as ssd
from tests.e2e.test_edit import launch
from tests.edit_world import REPOSITORY, SMOKE
from threestudio.run import main
from threestudio.utils.config import config_to_primitive, load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.masks import selection, settle_mask, text
from threestudio_ssd.report.edit_report import clip_model_of

CONFIGS = [
    path
    for folder in ("configs", "configs/baselines", "configs/smoke")
    for path in sorted((REPOSITORY / folder).glob("*.yaml"))
    if path.stem not in ("fit-gs", "fit-nerf", "fit-ed-nerf")
]
CAPTURES = {"banana": "data/banana/banana.spz", "plant": "data/plant/plant.ply",
            "playbot": "data/playbot/playbot_31k.ply"}  # fmt: skip
"""Configs of shipped scenes other than the toy scene."""
PICTURES = ("ssd-image", "editor-image")
"""Configs that edit a picture."""
PROMPTS = ("source_prompt=a man", "target_prompt=a clown")
KINDS = dict.fromkeys(("idu-nerf", "repaint-nerf", "ssd-nerf"), "scene.field") | {"ed-nerf": "latent.field"}
"""Configs of fields, and which."""
TOY = REPOSITORY / "data" / "toy-scene" / "scene.ply"
FEW = ("steps=2", "data.num_train_views=4", "data.num_test_views=2", "data.test_size=24", "data.video_frames=0")


@pytest.fixture
def mine(world, tmp_path, monkeypatch):
    """A folder with my.ply and nothing else; commands run in it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(world / "scene.ply", tmp_path / "my.ply")
    return tmp_path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_scene_alone_brings_nothing_of_the_toy_world(path):
    word = "picture" if path.stem in PICTURES else "scene"
    module = "data" if word == "picture" else "system"
    for given in (word, f"{module}.{word}"):
        cfg = config_to_primitive(complete(load_config(path, cli_args=[f"{given}=my.ply", "timestamp=now"])))
        nothing_is_left(cfg)


def nothing_is_left(cfg):
    """Neither prompts nor masks nor cameras of a shipped scene."""
    said = json.dumps({key: cfg[key] for key in ("data", "system", "tag")}).replace('"snowman"', "")  # the model's word
    for leaked in ("toy-scene", "tiny-seg", "tiny-clip", "ball", "grass", "make it blue", "snow", "sand", "banana"):
        assert leaked not in said, leaked
    assert not cfg["data"].get("cameras")
    assert not cfg["system"].get("box")
    assert not any(cfg["system"].get("mask", {}).get(key) for key in ("text", "picture", "box", "any_of", "none_of"))
    assert not any(cfg["system"].get("prompt_processor", {}).get(f"{key}_prompt") for key in ("source", "target"))
    assert cfg["data"].get("up") in (None, "+z")
    assert cfg["system"].get("background", [0.0, 0.0, 0.0]) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_shipped_scene_still_comes_with_its_own(path):
    cfg = complete(load_config(path))
    if path.stem in PICTURES:
        assert cfg.data.picture == "data/toy-scene/view.png"
    elif path.stem in CAPTURES:
        assert cfg.system.scene == CAPTURES[path.stem]
        assert cfg.data.cameras == ("data/banana" if path.stem == "banana" else "")
        assert (cfg.system.background[0] == 1) == (path.stem != "banana")
        assert cfg.system.mask.box or cfg.system.mask.picture == "data/banana/masks"
        assert cfg.data.up == ("-y" if path.stem == "playbot" else None)
    else:
        assert cfg.system.scene == f"data/toy-scene/{KINDS.get(path.stem, 'scene.ply')}"
        assert cfg.data.cameras == ("" if path.stem == "orbit" else "data/toy-scene/cameras.json")
    if "prompt_processor" in cfg.system:
        assert cfg.system.prompt_processor.source_prompt
        assert cfg.system.prompt_processor.target_prompt


def refused(capsys, mine, *words):
    """The one line that a command is refused with; nothing is left behind."""
    before = sorted(mine.iterdir())
    assert main([*words, "trainer.accelerator=cpu"]) == 2
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, lines
    assert sorted(mine.iterdir()) == before
    return errors[0]


def config(name):
    return ("--config", str(REPOSITORY / "configs" / f"{name}.yaml"))


def test_a_scene_alone_is_told_what_is_missing(mine, capsys):
    """Before the model is looked for: there is none of this name."""
    words = (*config("ssd-gs"), "scene=my.ply", "model=no/such/model")
    assert refused(capsys, mine, *words).startswith("error: target_prompt is empty; expected")
    missing = refused(capsys, mine, *words, "target_prompt=a clown")
    assert missing == (
        "error: source_prompt is empty; expected a sentence for what is there; this score compares the two prompts; "
        'set source_prompt="a photo of ..."'
    )


@pytest.mark.parametrize("name", ["baselines/sds", "ssd-gs-ip2p", "ssd-gs-ip2p-tiny"])
def test_scores_that_read_no_source_prompt_and_instructions_do_without(mine, capsys, name):
    words = (*config(name), "scene=my.ply", "target_prompt=a clown", "model=no/such/model")
    assert "model folder 'no/such/model' does not exist" in refused(capsys, mine, *words)


def test_the_command_at_the_top_of_the_config_asks_clipseg(world, mine):
    """A model in the layout of Stable Diffusion 1.5, a text mask, and a machine without network and cache."""
    words = ("scene=my.ply", *PROMPTS, "mask.text=face", f"model={world / 'model'}", f"system.clip_model={world}/clip")
    done = launch(*config("ssd-gs-sd15"), *words, "trainer.accelerator=cpu", folder=mine)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: mask.segmenter 'CIDAS/clipseg-rd64-refined' cannot be fetched: ")
    assert "hf download CIDAS/clipseg-rd64-refined" in errors[0]
    assert "Traceback" not in done.stderr
    assert [path.name for path in mine.iterdir()] == ["my.ply"]


@pytest.mark.parametrize("stage", [(), ("--run", "preview")])
def test_the_embedded_model_does_not_ask_its_segmenter_on_another_scene(mine, capsys, monkeypatch, stage):
    monkeypatch.chdir(REPOSITORY)
    words = (*stage, *config("ssd-gs"), f"scene={mine / 'my.ply'}", *PROMPTS, "mask.text=face", "mask.offline=true")
    assert "mask.segmenter 'CIDAS/clipseg-rd64-refined' cannot be fetched" in refused(capsys, mine, *words)


def test_it_is_asked_where_it_is_named(world, mine):
    """A whole run with a model in the layout of Stable Diffusion 1.5: a fitted orbit, the segmenter that was named."""
    words = ("scene=my.ply", *PROMPTS, f"model={world / 'model'}", f"system.clip_model={world}/clip", "tag=run")
    words += ("mask.text=the object", f"mask.segmenter={REPOSITORY}/data/tiny-seg", "use_timestamp=false", *FEW)
    words += ("mask.num_views=6", "mask.view_size=64", "system.preview_every=0", "system.growth.kind=none")
    done = launch(*config("ssd-gs-sd15"), *words, "trainer.accelerator=cpu", folder=mine)
    assert done.returncode in (0, 3), done.stderr
    report = json.loads((mine / "outputs/ssd-gs-sd15/run/save/report.json").read_text())
    assert (report["source_prompt"], report["target_prompt"]) == ("a man", "a clown")
    assert 0 < report["num_selected"] < report["num_gaussians_before"]


@pytest.fixture
def located(monkeypatch):
    """Which segmenters are looked for; all of them are there."""
    names = []
    monkeypatch.setattr(text, "locate_segmenter", lambda name, **more: names.append(name))
    return names


@pytest.mark.parametrize(
    ("scene", "model", "segmenter", "expected"),
    [
        (TOY, "data/tiny-ldm", "auto", "data/tiny-seg"),
        (TOY, str(REPOSITORY / "data" / "tiny-ip2p"), "auto", "data/tiny-seg"),
        (TOY, None, "auto", "data/tiny-seg"),
        (TOY, "stable-diffusion-v1-5/stable-diffusion-v1-5", "auto", "clipseg"),
        (TOY, "data/tiny-ldm", "sam3", "sam3"),
        ("my.ply", "data/tiny-ldm", "auto", "clipseg"),
        ("my.ply", None, "auto", "clipseg"),
        ("my.ply", "stable-diffusion-v1-5/stable-diffusion-v1-5", "auto", "clipseg"),
        ("my.ply", "data/tiny-ldm", "data/tiny-seg", "data/tiny-seg"),
    ],
)
def test_which_segmenter_is_asked(mine, located, scene, model, segmenter, expected):
    given = [f"scene={scene}", f"mask.segmenter={segmenter}"]
    for words in ("mask.text=face", "mask.none_of=[{any_of: [{text: face}]}]"):
        mask = complete(load_config(SMOKE, cli_args=["tag=run", *given, words])).system.mask
        assert settle_mask(mask, str(scene), model).segmenter == expected
        assert mask.segmenter == segmenter
    assert located == [expected] * 2


def test_no_segmenter_is_looked_for_without_words(mine, located):
    mask = complete(load_config(SMOKE, cli_args=["tag=run", "scene=my.ply", "mask.box=[0,0,0,1,1,1]"])).system.mask
    assert settle_mask(mask, "my.ply").segmenter == selection.AUTO
    assert located == []


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        ("data/tiny-ldm", "auto", "tiny-clip"), ("stable-diffusion-v1-5/stable-diffusion-v1-5", "auto", "ViT-L/14"),
        ("my/model", "auto", "ViT-L/14"), ("my/model", "tiny-clip", "tiny-clip"),
    ],
)  # fmt: skip
def test_a_real_model_is_reported_on_by_a_real_clip(model, given, expected):
    cfg = complete(load_config(SMOKE, cli_args=[f"model={model}", f"system.clip_model={given}"]))
    assert clip_model_of(cfg.system) == expected


def test_the_python_call_keeps_the_same_rules(world, mine):
    words = {"target": "a clown", "model": world / "model", "steps": 1, "config": SMOKE}
    with pytest.raises(ValueError, match="source_prompt is empty"):
        ssd.edit_scene("my.ply", **words)
    with pytest.raises(ValueError, match="CIDAS/clipseg-rd64-refined"):
        ssd.edit_scene("my.ply", source="a man", mask=ssd.Mask(text="face", offline=True), **words)
    edit = ssd.edit_scene("my.ply", source="a man", **words)
    assert edit.is_selected.all()
