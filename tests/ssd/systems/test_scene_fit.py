"""A splat from photographs: it comes closer to held-out ones, grows, and resumes to the same bytes."""

import json
import shutil

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from tests.edit_world import QUIET, REPOSITORY, toy_cameras, toy_parts, write_colmap_capture
from threestudio.trainer import run_experiment
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.cameras import cameras_extent, load_points
from threestudio_ssd.data.modules import PhotosData
from threestudio_ssd.edits.fit import FitConfig, SceneFit
from threestudio_ssd.edits.photometric import gaussians_from_points, photometric_loss, random_points
from threestudio_ssd.errors import ConfigError, SceneFormatError
from threestudio_ssd.gaussians.io import load_gaussians
from threestudio_ssd.rendering import render_each

SIZE = 24


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    """A COLMAP folder in text form: nine photographs of a toy scene and every twentieth Gaussian as a sparse point."""
    folder = tmp_path_factory.mktemp("capture")
    gaussians, _ = toy_parts(keep_every=3)
    write_colmap_capture(folder, gaussians, toy_cameras(9, SIZE))
    return folder


def fit(capture, out, *stages, expected=0, **more):
    """Run the fit config small, to an exit code; returns the folder."""
    words = {
        "cameras": capture, "exp_root_dir": out, "use_timestamp": "false", "trainer.accelerator": "cpu", "steps": 120,
        "data.size": SIZE, "data.hold_out_every": 4, "system.sh_degree": 1, "system.sh_every": 20,
        "system.growth.start": 10, "system.growth.stop": 60, "system.growth.every": 10, "system.preview_every": 0,
        "system.growth.grad_above": 1e-3, "system.learning_rates.sh0": 0.05,
        "system.learning_rates.log_scales": 0.02, **QUIET, **more,
    }  # fmt: skip
    cfg = load_config(
        REPOSITORY / "configs" / "fit-gs.yaml", cli_args=[f"{key}={value}" for key, value in words.items()]
    )
    assert run_experiment(complete(cfg), list(stages)) == expected
    return out / "fit-gs" / "fit"


FULL = {"system.sh_degree": 2, "system.sh_every": 0.2667}
"""The degrees of the shipped config."""


@pytest.fixture(scope="module")
def fitted(capture, tmp_path_factory):
    return fit(capture, tmp_path_factory.mktemp("fitted"), "train", "test", "export")


def test_held_out_photographs_are_met_better(fitted, capture, tmp_path):
    report = json.loads((fitted / "save" / "report.json").read_text())
    page = (fitted / "save" / "report.html").read_text(encoding="utf-8")
    assert f"{report['psnr']:.1f} dB PSNR on photographs that it was not fitted to." in page
    assert "<strong>Gaussians</strong>" in page
    assert report["held_out"] == ["view_000", "view_004", "view_008"]
    assert report["photos"] == 6
    points = load_points(capture)
    start = gaussians_from_points(*points)
    judges = PhotosData({"cameras": str(capture), "size": SIZE, "hold_out_every": 4}).capture.split((0, 0, 0))[1]
    errors = [
        (a - b).pow(2).mean()
        for a, b in zip(render_each(start, judges.cameras, torch.zeros(3)), judges.images, strict=True)
    ]
    before = float(torch.stack([-10 * error.log10() for error in errors]).mean())
    assert report["psnr"] > before + 2
    result = load_gaussians(fitted / "save" / "fitted.ply")
    assert result.sh_degree == 1
    assert result.shN.abs().max() > 0
    assert len(result) == report["num_gaussians"] > len(start)


def test_a_resumed_fit_gives_the_same_bytes(fitted, capture, tmp_path):
    fit(capture, tmp_path, "train", **{"trainer.max_steps": 20})
    folder = fit(capture, tmp_path, "train", "export", resume="auto")
    assert (folder / "save" / "fitted.ply").read_bytes() == (fitted / "save" / "fitted.ply").read_bytes()


@pytest.mark.parametrize("steps", [120, 500, 1500, 3000])
def test_all_degrees_are_fitted_in_a_run_of_any_length(steps):
    job = SceneFit(OmegaConf.structured(FitConfig(num_steps=steps, sh_every=0.2667)))
    degrees = [job.sh_degree_at(step) for step in range(steps)]
    assert [degrees.count(degree) / steps for degree in range(3)] == pytest.approx([0.267, 0.267, 0.466], abs=0.01)
    assert job.sh_degree_reached == 2


def test_at_its_own_length_the_config_raises_the_degree_every_1333_steps():
    cfg = complete(load_config(REPOSITORY / "configs" / "fit-gs.yaml", cli_args=[]))
    job = SceneFit(cfg.system)
    assert [job.sh_degree_at(step) for step in (0, 1333, 1334, 2666, 2667, 4999)] == [0, 0, 1, 1, 2, 2]


def test_a_short_fit_has_colours_of_the_second_degree(capture, tmp_path):
    folder = fit(capture, tmp_path, "train", "test", "export", steps=12, **FULL)
    assert json.loads((folder / "save" / "report.json").read_text())["sh_degree"] == 2
    result = load_gaussians(folder / "save" / "fitted.ply")
    assert result.shN.shape[1] == 8
    assert result.shN[:, 3:].abs().max() > 0


def test_a_degree_that_is_not_reached_is_said(capture, tmp_path, caplog):
    folder = fit(capture, tmp_path, "train", "test", "export", steps=12, **FULL | {"system.sh_every": 8})
    assert "The fit reaches degree 1 of 2 in 12 steps, as it goes up by one every 8 of them" in caplog.text
    assert json.loads((folder / "save" / "report.json").read_text())["sh_degree"] == 1
    assert not load_gaussians(folder / "save" / "fitted.ply").shN[:, 3:].any()


@pytest.mark.parametrize("value", [0, 0.0, 1.5, -3])
def test_a_degree_s_length_that_cannot_be_is_refused(value):
    with pytest.raises(ConfigError) as error:
        SceneFit(OmegaConf.structured(FitConfig(sh_every=value)))
    assert error.value.what == f"system.sh_every is {value}"
    assert error.value.fix == "set system.sh_every=0.1667"


def test_a_fit_is_counted_in_the_extent_of_its_cameras(capture):
    data = PhotosData({"cameras": str(capture), "size": SIZE, "hold_out_every": 4})
    job = SceneFit(OmegaConf.structured(FitConfig()))
    job.open(data.capture)
    assert job.edit.scenes[0].extent == cameras_extent(data.capture.split((0, 0, 0))[0].cameras)


def test_points_in_text_and_binary_agree(capture, tmp_path):
    import struct

    points, rgbs = load_points(capture)
    assert rgbs.min() >= 0
    assert rgbs.max() <= 1
    rows = [
        struct.pack("<Q3d3BdQ", i, *place, *color, 0.5, 2) + struct.pack("<4i", 1, 2, 3, 4)
        for i, (place, color) in enumerate(
            zip(points.double().tolist(), (rgbs * 255).round().int().tolist(), strict=True)
        )
    ]
    path = tmp_path / "points3D.bin"
    path.write_bytes(struct.pack("<Q", len(rows)) + b"".join(rows))
    again = load_points(path)
    assert torch.equal(again[0], points)
    assert torch.equal(again[1], rgbs)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SceneFormatError, match="cannot be read"):
        load_points(path)
    assert load_points(tmp_path) is None


def test_gaussians_from_points_fill_the_gaps():
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 2]])
    start = gaussians_from_points(points, torch.full((4, 3), 0.7), sh_degree=2)
    assert start.sh_degree == 2
    torch.testing.assert_close(start.scales[0], torch.full((3,), 3.0**0.5))
    torch.testing.assert_close(start.opacities, torch.full((4,), 0.1))
    torch.testing.assert_close(start.sh0[:, 0] * 0.28209479 + 0.5, torch.full((4, 3), 0.7))
    assert len(gaussians_from_points(points[:1], torch.rand(1, 3))) == 1


def test_random_points_fill_the_ellipsoid_evenly(generator):
    sizes = torch.tensor([2.0, 1.0, 0.5])
    inside = (random_points(4000, torch.ones(3), sizes, generator) - 1) / sizes
    radii = inside.norm(dim=1)
    assert radii.max() <= 1 + 1e-5
    assert (radii**3).mean().item() == pytest.approx(0.5, abs=0.02)
    assert inside.mean(dim=0).abs().max() < 0.03


def test_the_loss_is_zero_for_equal_pictures_and_mixes_both_terms(generator):
    a, b = torch.rand(2, 1, 20, 24, 3, generator=generator)
    assert photometric_loss(a, a, 0.2).item() == pytest.approx(0, abs=1e-6)
    from threestudio_ssd.metrics import ssim

    l1, dissimilar = (a - b).abs().mean(), 1 - ssim(a.permute(0, 3, 1, 2), b.permute(0, 3, 1, 2)).mean()
    torch.testing.assert_close(photometric_loss(a, b, 0.3), 0.7 * l1 + 0.3 * dissimilar)
    torch.testing.assert_close(photometric_loss(a[:, :8], b[:, :8], 0.3), (a[:, :8] - b[:, :8]).abs().mean())


def test_pixels_that_the_target_does_not_show_have_no_part_in_the_loss(generator):
    a, b = torch.rand(2, 1, 20, 24, 3, generator=generator)
    inside = torch.ones(1, 20, 24, dtype=torch.bool)
    inside[:, :, 15:] = False
    a.requires_grad_()
    for lambda_ssim in (0.0, 0.2):
        loss = photometric_loss(a, torch.where(inside[..., None], b, 7.0), lambda_ssim, inside)
        assert loss.item() == photometric_loss(a, b, lambda_ssim, inside).item()
        (gradient,) = torch.autograd.grad(loss, a)
        assert not gradient[~inside].any()
        assert gradient[inside].any(dim=-1).all()
    seen = (a - b).abs()[inside].mean()
    torch.testing.assert_close(photometric_loss(a, b, 0.0, inside), seen)


@pytest.fixture
def pincushion(capture, tmp_path):
    """The same capture, taken to be through a lens whose pinhole picture reaches beyond the photograph; all white."""
    folder = tmp_path / "pincushion"
    shutil.copytree(capture, folder)
    camera = (folder / "sparse" / "0" / "cameras.txt").read_text().split()
    camera[1] = "OPENCV"
    (folder / "sparse" / "0" / "cameras.txt").write_text(" ".join([*camera, "0.5", "0", "0", "0"]))
    for path in (folder / "images").iterdir():
        Image.new("RGB", (SIZE, SIZE), (255, 255, 255)).save(path)
    return folder


def test_the_black_around_an_undistorted_photograph_is_neither_fitted_nor_judged(pincushion, tmp_path, monkeypatch):
    seen = []

    def recorded(images, targets, lambda_ssim, inside):
        seen.append((targets, inside))
        return photometric_loss(images, targets, lambda_ssim, inside)

    monkeypatch.setattr("threestudio_ssd.edits.objectives.photometric_loss", recorded)
    folder = fit(pincushion, tmp_path, "train", "test", "export", steps=2)
    for target, inside in seen:
        assert 0.02 < (~inside).float().mean() < 0.4
        assert target[inside].min() > 0.99
        assert target[0, 0, 0].max() == 0
    judges = PhotosData({"cameras": str(pincushion), "size": SIZE, "hold_out_every": 4}).capture.split((0, 0, 0))[1]
    renders = render_each(load_gaussians(folder / "save" / "fitted.ply"), judges.cameras, torch.zeros(3))
    values = [
        -10 * (image - 1)[inside].pow(2).mean().log10() for image, inside in zip(renders, judges.inside, strict=True)
    ]
    report = json.loads((folder / "save" / "report.json").read_text())
    assert report["psnr"] == pytest.approx(float(torch.stack(values).mean()), abs=0.02)


def test_transparent_photographs_are_put_on_the_fit_s_background(capture, tmp_path):
    folder = tmp_path / "transparent"
    shutil.copytree(capture, folder)
    for path in (folder / "images").iterdir():
        Image.new("RGBA", (SIZE, SIZE), (255, 0, 0, 0)).save(path)
    data = PhotosData({"cameras": str(folder), "size": SIZE})
    for background in ([0.0, 0.0, 0.0], [0.25, 0.5, 1.0]):
        for photos in data.capture.split(background):
            assert photos.images[0].flatten(0, 1).unique(dim=0).tolist() == [background]
            assert photos.inside[0].all()


@pytest.mark.parametrize(
    ("keys", "what"),
    [({"cameras": ""}, "cameras is empty"), ({"cameras": "x", "size": 4}, "data.size is 4")],
)
def test_photographs_that_cannot_be_used_are_refused(keys, what):
    with pytest.raises(ConfigError) as error:
        PhotosData(keys)
    assert error.value.what == what


def test_a_capture_without_photographs_is_said(tmp_path):
    from threestudio_ssd.toyworld.splat import save_cameras_json

    save_cameras_json(toy_cameras(3), tmp_path / "cameras.json")
    with pytest.raises(ConfigError, match="come without photographs"):
        PhotosData({"cameras": str(tmp_path / "cameras.json")})


def test_the_shipped_capture_has_photographs_and_points():
    data = PhotosData({"cameras": str(REPOSITORY / "data" / "banana"), "size": 64})
    train, judges = data.capture.split((0, 0, 0))
    assert all(inside.all() for inside in train.inside)
    assert (len(train.images), judges.cameras.names) == (12, ["DSC_0423", "DSC_0432"])
    assert {tuple(image.shape) for image in train.images} == {(64, 96, 3)}
    points, rgbs = data.capture.points()
    assert len(points) == len(rgbs) == 6283
    seen = train.cameras.viewmats[0] @ torch.cat([points, torch.ones(len(points), 1)], dim=1).T
    assert (seen[2] > 0).float().mean() > 0.9


def test_a_fit_that_is_not_finite_is_exit_code_three_and_goes_back_to_one_that_is(capture, tmp_path):
    folder = fit(
        capture, tmp_path, "train", "test", "export", expected=3, steps=2, **{"system.learning_rates.sh0": 1e39}
    )
    assert load_gaussians(folder / "save" / "fitted.ply").sh0.isfinite().all()


def test_threads_do_not_change_a_fit(capture, tmp_path):
    """No network takes part in it; see docs/resume.md."""
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            folder = fit(capture, tmp_path / str(number), "train", "export", steps=12)
            results.append((folder / "save" / "fitted.ply").read_bytes())
    finally:
        torch.set_num_threads(threads)
    assert results[0] == results[1]


def test_keys_that_a_fit_would_ignore_are_refused(capture, tmp_path):
    """An edit makes its own steps, with its own optimisers."""
    with pytest.raises(ConfigError, match=r"trainer.gradient_clip_val is 1.0, and an edit makes its own steps"):
        fit(capture, tmp_path, "train", **{"trainer.gradient_clip_val": 1.0})
    with pytest.raises(ValueError, match=r"system.optimizer is set"):
        fit(capture, tmp_path, "train", **{"system.optimizer.name": "Adam"})
