"""Fingerprints: every key that can change a result counts, the others do not, and a message names what differs."""

import json
import shutil

import pytest
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from tests.edit_world import REPOSITORY, SIZE
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.benchmarks.fingerprint import (
    CANNOT_CHANGE_RESULTS,
    check_same,
    difference,
    fingerprint,
    kept,
    leaves,
    refuse_unread,
)
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.errors import ConfigError, SceneFormatError
from threestudio_ssd.guidance import score_options
from threestudio_ssd.scores import SSD


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fingerprint") / "model"
    save_components(random_components(image_size=SIZE), folder)
    return folder


def experiment(model, *changes, config="ssd-image"):
    return complete(load_config(REPOSITORY / "configs" / f"{config}.yaml", cli_args=[f"model={model}", *changes]))


def changed(cfg, key, value):
    """The same config with another value, of whatever type, at a dotted key."""
    plain = OmegaConf.create(OmegaConf.to_container(cfg))
    OmegaConf.update(plain, key, value, merge=False, force_add=True)
    return plain


def test_the_same_config_has_the_same_fingerprint(model):
    """Also after it went through a file, and at another time of day."""
    earlier = fingerprint(experiment(model, "timestamp=@1"), dataset="here")
    now = fingerprint(experiment(model, "timestamp=@2"), dataset="here")
    assert difference(json.loads(json.dumps(earlier)), now) is None
    assert now["dataset"] == '"here"'
    assert now["system.guidance.t_max_frac"] == "0.98"


def test_rows_are_kept_and_taken_again_only_with_the_same_settings(tmp_path):
    file, made = tmp_path / "row.json", []

    def make():
        made.append(1)
        return [{"success": len(made)}]

    assert kept(file, {"seed": "1"}, make) == kept(file, {"seed": "1"}, make) == [{"success": 1}]
    with pytest.raises(ConfigError, match="with seed 1, and now it is 2"):
        kept(file, {"seed": "2"}, make)
    file.write_text("{}")
    with pytest.raises(ConfigError, match="does not say what it was made with"):
        kept(file, {"seed": "1"}, make)
    assert len(made) == 1


def test_what_a_killed_sweep_left_empty_is_made_again(tmp_path):
    """Rows or a picture of no bytes, as a version that did not write files whole left them; half rows are said."""
    file, picture, made = tmp_path / "row.json", tmp_path / "a.png", []

    def make():
        made.append(1)
        picture.write_bytes(b"png")
        return [len(made)]

    for left in (file, picture):
        kept(file, {}, make, [picture])
        left.write_bytes(b"")
    assert kept(file, {}, make, [picture]) == kept(file, {}, make, [picture]) == [3]
    picture.unlink()
    assert kept(file, {}, make, [picture]) == [4]
    file.write_text('{"settings": {')
    with pytest.raises(SceneFormatError, match=r"row.json is not valid JSON .*delete the file to make it again"):
        kept(file, {}, make, [picture])


@pytest.mark.parametrize("config", ["ssd-image", "ssd-gs"])
def test_every_other_key_counts(model, config):
    """Each leaf of the config, changed by itself, is the one that is named; so is one that only one side has."""
    cfg = experiment(model, config=config)
    earlier = fingerprint(cfg)
    counted = [key for key in leaves(cfg) if key in earlier]
    assert len(counted) > 40
    loaded = {f"system.guidance.{name}" for name in ("score.name", "model", "vae", "lora", "embeddings")}
    for key in set(counted) - loaded:
        now = fingerprint(changed(cfg, key, "another"))
        assert difference(earlier, now) == f'with {key} {earlier[key]}, and now it is "another"'
    now = fingerprint(changed(cfg, "system.guidance.score.name", "dds"))
    name = cfg.system.guidance.score.name
    assert difference(earlier, now) == f'with system.guidance.score.name "{name}", and now it is "dds"'


@pytest.mark.parametrize("key", sorted(CANNOT_CHANGE_RESULTS))
def test_a_key_that_cannot_change_a_result_does_not_count(model, key):
    cfg = experiment(model)
    earlier = fingerprint(cfg)
    for value in (1, {"deep": 2}):
        assert difference(earlier, fingerprint(changed(cfg, key, value))) is None


def test_other_weights_in_the_same_folder_count(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "model")
    earlier = fingerprint(experiment(folder))
    file = next(iter(sorted(folder.glob("unet/*.safetensors"))))
    weights = load_file(file)
    first = next(iter(weights))
    save_file({**weights, first: weights[first] + 1}, file)
    now = fingerprint(experiment(folder))
    key = f"weights.model/unet/{file.name}"
    assert difference(earlier, now) == f"with {key} {earlier[key]}, and now it is {now[key]}"
    assert len(json.loads(now[key])) == 64


def test_a_schedule_s_settings_beside_the_weights_count(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "model")
    earlier = fingerprint(experiment(folder))
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(file.read_text().replace("epsilon", "v_prediction"))
    assert "weights.model/scheduler/scheduler_config.json" in difference(earlier, fingerprint(experiment(folder)))


def test_a_hub_model_counts_by_its_commit(model, hub_cache):
    commit = hub_cache("owner/name", model)
    cfg = experiment("owner/name", "system.guidance.offline=true")
    assert fingerprint(cfg)["weights.model"] == json.dumps(commit)


def test_a_changed_default_of_a_score_counts(model, monkeypatch):
    earlier = fingerprint(experiment(model, "system.guidance.score={name: ssd-code}"))
    monkeypatch.setitem(score_options.PRESETS, "ssd-code", SSD(enhance_weight=1.0))
    now = fingerprint(experiment(model, "system.guidance.score={name: ssd-code}"))
    assert difference(earlier, now) == "with system.guidance.score.enhance_weight 5.5, and now it is 1.0"


def test_a_score_s_default_may_be_written_out(model):
    earlier = fingerprint(experiment(model, "system.guidance.score={name: ssd-code}"))
    now = fingerprint(experiment(model, "system.guidance.score={name: ssd-code, enhance_weight: 5.5}"))
    assert difference(earlier, now) is None


def test_a_key_that_only_one_side_has_is_no_match():
    assert difference({"a": "1"}, {"a": "1", "b": "2"}) == "without b, and now it is 2"
    assert difference({"a": "1", "b": "2"}, {"a": "1"}) == "with b 2, and now there is none"


def test_the_message_names_file_key_and_both_values():
    check_same("rows.json", {"a": "1"}, {"a": "1"}, "delete it")
    with pytest.raises(ConfigError) as error:
        check_same("rows.json", {"a": "1"}, {"a": "2"}, "delete it")
    assert str(error.value) == (
        "rows.json was made with a 1, and now it is 2; expected one folder for each setting; delete it"
    )


def test_a_key_that_is_not_read_may_have_its_default_or_usual_value(model):
    reads = frozenset({"seed", "data_type", "data", "system_type", "trainer"})
    cfg = experiment(model)
    own = {key: value for key, value in leaves(cfg.system, "system.").items()}
    refuse_unread(cfg, "a test", reads, own)
    with pytest.raises(ConfigError, match=r"system\.lambda_detail is 10, which a test does not read; expected 0\.0"):
        refuse_unread(cfg, "a test", reads, {key: own[key] for key in own if key != "system.lambda_detail"})
