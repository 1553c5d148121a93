"""What a comparison says: means over edits, spread over seeds, tables, pages and the Pareto plot."""

import csv

import numpy as np
import pytest

from threestudio_ssd.benchmarks.grids import image_name
from threestudio_ssd.benchmarks.report import markdown, pareto_front, pareto_svg, summarise, write_report
from threestudio_ssd.files import write_image


def row(**changes):
    base = {
        "method": "dds", "kind": "picture", "edit": "blue-ball", "attribute": "color", "seed": 0, "success": 1.0,
        "shows_word": 1.0, "mottle": 0.05, "kept": 0.5, "truth_psnr": 20.0, "truth_ssim": 0.8, "truth_distance": 0.1,
        "outside_psnr": 30.0, "consistency": None, "saturation_drift": 0.1, "steps_to_90": 40.0,
        "noise_predictions": 600.0, "encodes": 1.0, "seconds": 2.0, "probabilities": [],
    }  # fmt: skip
    return base | changes


ROWS = [
    row(), row(edit="snow", attribute="ground", success=0.0), row(seed=1), row(seed=1, edit="snow", attribute="ground"),
    row(edit="null-ball", attribute="null", success=0.25, outside_psnr=44.0),
    row(method="ssd", outside_psnr=35.0, success=0.9), row(method="sds", outside_psnr=25.0, success=0.5),
]  # fmt: skip


def test_means_over_edits_spread_over_seeds_null_edits_apart():
    means = summarise(ROWS)["picture", "dds"]
    assert means["success"] == pytest.approx((0.75, np.std([0.5, 1.0], ddof=1)))
    assert means["null_success"] == (0.25, 0.0)
    assert means["null_psnr"] == (44.0, 0.0)
    assert means["consistency"] is None
    text = markdown(ROWS, "Title", "note")
    assert "| dds | 0.75 ± 0.35 |" in text
    assert "| method | success | reads as asked | mottle |" in text
    assert "| sds | 0.50 ± 0.00 | 1.00 ± 0.00 | 0.050 ± 0.000 |" in text
    assert "| success by attribute | color | ground | null |" in text
    assert "| dds | 1.00 | 0.50 | 0.25 |" in text


def test_pareto_front_and_plot():
    assert pareto_front({"a": (1, 3), "b": (2, 2), "c": (3, 1), "d": (1, 1)}) == ["a", "b", "c"]
    plot = pareto_svg(ROWS, "picture")
    assert plot.count("<circle") == 3
    assert "<polyline" in plot
    assert pareto_svg(ROWS, "scene") == ""


def test_report_files(tmp_path):
    assert write_report(tmp_path, ROWS, "A < B", "note") == tmp_path / "report.md"
    with (tmp_path / "rows.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(ROWS)
    assert lines[0]["success"] == "1.0"
    with (tmp_path / "table.csv").open() as file:
        means = {line["method"]: line for line in csv.DictReader(file)}
    assert (float(means["dds"]["success"]), float(means["dds"]["success_std"])) == pytest.approx((0.75, 0.5**1.5))
    assert means["dds"]["consistency"] == ""
    page = (tmp_path / "report.html").read_text()
    assert "A &lt; B" in page
    assert 'src="pareto-picture.svg"' in page


def test_the_page_is_in_the_house_style_and_fits(page, tmp_path):
    """Tables and plot in a browser; wide tables scroll in themselves, and a name is text."""
    write_image(tmp_path / "picture" / "dds" / image_name("blue-ball", 0), np.full((8, 8, 3), 200, np.uint8))
    write_report(tmp_path, [*ROWS, row(method="<script>window.hacked=1</script>")], "Title", "note")
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto((tmp_path / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("window.hacked") is None
    assert "0.75 ± 0.35" in page.locator("table").first.inner_text()
    widths = page.locator("img").evaluate_all("images => images.map((image) => image.naturalWidth)")
    assert len(widths) == 2
    assert all(widths)
