"""Values of the environment stay there, and words make no paths."""

import json

import pytest

from threestudio.errors import one_line
from threestudio.utils.config import ExperimentConfig, dump_config, load_config
from threestudio.utils.saving import SaverMixin

TEXT = """
scene: ${oc.env:FUZZ_SCENES}/scene.ply
steps: ${oc.decode:${oc.env:FUZZ_STEPS}}
tag: a
use_timestamp: false
exp_root_dir: ${oc.env:FUZZ_SCENES}/runs
data: {places: [1, "${scene}"]}
system: {scene: "${scene}", num_steps: "${steps}"}
"""


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.setenv("FUZZ_SCENES", "somewhere-secret")
    monkeypatch.setenv("FUZZ_STEPS", "7")
    return load_config(TEXT, from_string=True)


def test_a_saved_config_names_variables_and_reads_to_the_same(experiment, tmp_path):
    assert experiment.system.scene == "somewhere-secret/scene.ply"
    dump_config(tmp_path / "parsed.yaml", experiment)
    saved = (tmp_path / "parsed.yaml").read_text()
    assert "secret" not in saved
    assert "num_steps: ${oc.decode:${oc.env:FUZZ_STEPS}}" in saved
    again = load_config(tmp_path / "parsed.yaml")
    for key in ("data", "system", "trial_dir"):
        assert again[key] == experiment[key]


def test_a_report_names_variables(experiment, tmp_path):
    saver = SaverMixin()
    saver.set_save_dir(tmp_path)
    saver.save_json("report.json", {"scene": experiment.system.scene, "steps": 7})
    assert json.loads((tmp_path / "report.json").read_text()) == {
        "scene": "${oc.env:FUZZ_SCENES}/scene.ply", "steps": 7,
    }  # fmt: skip


@pytest.mark.parametrize("timestamp", ["/../../x", "..", "@1/../../../x", "\0"])
def test_a_timestamp_makes_no_path(timestamp):
    config = ExperimentConfig(tag="a", timestamp=timestamp)
    assert "/" not in config.trial_name
    assert config.trial_dir == f"outputs/default/{config.trial_name}"


def test_a_name_fits_into_a_file_system():
    config = ExperimentConfig(tag="草原の上に置かれた青く光る大きなボールの写真、" * 6, timestamp="")
    assert 0 < len(config.trial_name.encode()) <= 200


def test_a_message_is_short_and_steers_no_terminal():
    from threestudio.errors import ConfigError

    line = one_line(ConfigError(what="a\x1b[2Jb\n" + "x" * 5000, expected="c", fix="d"))
    assert line.startswith("error: a?[2Jb xxx")
    assert len(line) < 700
