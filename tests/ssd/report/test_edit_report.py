"""The report's own parts: what it says of packages, and the model it needs."""

import pytest

from threestudio_ssd.errors import ConfigError
from threestudio_ssd.report import edit_report as report


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(report, "PACKAGES", ("torch", "no-such-package"))
    versions = report.package_versions()
    assert versions["torch"]
    assert versions["no-such-package"] is None


def test_a_missing_clip_has_its_message(tmp_path):
    with pytest.raises(ConfigError) as caught:
        report.check_report_model(str(tmp_path / "clip"), offline=False)
    folder = tmp_path / "clip"
    assert caught.value.what == f"system.clip_model is {folder}: clip_model folder '{folder}' does not exist"
    assert caught.value.fix == "set system.clip_model=tiny-clip, or a folder, or download it once while online"


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({}, []),
        ({"changed_visibly": False}, ["The edit changed nothing visible."]),
        (
            {"clip_directional_similarity": -0.1234, "clip_similarity": 0.21, "clip_similarity_before": 0.25},
            [
                "The edit moved away from the prompt: its directional CLIP similarity is -0.123, and the prompt fits "
                "the result worse than the source, 0.210 after 0.250."
            ],
        ),
        ({"clip_directional_similarity": -0.1234, "clip_similarity": 0.248, "clip_similarity_before": 0.25}, []),
        ({"changed_share": 0.42}, ["The edit is half done: 42% of what the selection shows changed visibly."]),
        ({"changed_share": None, "clip_directional_similarity": None}, []),
    ],
)
def test_what_is_said_of_a_result(figures, said):
    usual = {"changed_visibly": True, "changed_share": 0.9, "clip_directional_similarity": 0.2}
    assert report.verdicts_of({**usual, **figures}) == said
