"""Scores with a state or a second network call, on a whole scene: VSD's LoRA survives a resume, CDS counts its cost."""

import json

from tests.edit_world import run

WORDS = {
    "system.guidance.score.name": "vsd",
    "system.guidance.lora_network.learning_rate": 0.01,
    "system.guidance.cds.weight": 3,
}


def test_vsd_with_the_contrastive_term_resumes_to_the_same_bytes(world, tmp_path):
    """A step: encode; null alone and the source's features in one call, the target with gradient, the LoRA twice."""
    _, whole = run(world, tmp_path / "whole", "train", "test", "export", **WORDS)
    report = json.loads((whole / "save" / "report.json").read_text())
    assert (report["network_calls"], report["noise_predictions"], report["encodes"]) == (4 * 3, 4 * 5, 4 + 6)
    run(world, tmp_path / "half", "train", **WORDS, **{"trainer.max_steps": 2})
    code, half = run(world, tmp_path / "half", "train", "export", **WORDS, resume="auto")
    assert code == 0
    assert (half / "save" / "edited.ply").read_bytes() == (whole / "save" / "edited.ply").read_bytes()
