"""``report.html`` as people see it: in a browser, wide and on a phone, without the network."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from threestudio.utils.saving import SaverMixin
from threestudio_ssd.report.answers import answers_of, tone_of
from threestudio_ssd.report.command import command_of
from threestudio_ssd.report.curves import SMOOTHING, curves_of, draw, read_log
from threestudio_ssd.report.figures import figures_of, others_of, seconds, size
from threestudio_ssd.report.run_page import LARGEST_VIDEO, save_page, views_of

WORDS = ("a photo of a red ball", 'a "blue" <script>window.hacked = 1</script> ball')
REPORT = {
    "scene": "scene.ply", "edit_kind": "recolor", "change_inside": 0.2, "changed_share": 0.97, "change_outside": 1e-5,
    "psnr_outside": 66.61, "changed_visibly": True, "clip_directional_similarity": 0.212, "seconds": 75.4,
    "peak_memory_bytes": 845066240, "steps": 150, "renders": 150, "noise_predictions": 600, "verdicts": [],
    "warnings": [], "versions": {"torch": "2.13.0"}, "command": "python launch.py --config 'my scene.yaml'",
}  # fmt: skip
PHONE = {"width": 390, "height": 844}


def write_run(folder: Path, frames: int = 12, **changes) -> Path:
    """A run's folder with everything a page is made of; returns the page."""
    saver = SaverMixin()
    saver.set_save_dir(folder / "save")
    saver.save_json("report.json", REPORT | changes)
    before = torch.zeros(3, 24, 36, 3)
    before[..., 0] = 1
    after = before.flip(-1)
    for step in (50, 100):
        saver.save_rgb_image(f"progress/step-{step:05d}.png", before[0])
    if frames:
        saver.save_video("before_after.mp4", (torch.cat([before[0], after[0]], dim=1) for _ in range(frames)))
    (folder / "csv_logs" / "version_0").mkdir(parents=True)
    lines = ["epoch,step,train/score,train/change", *(f"0,{step},{1 / (step + 1)},{step / 9}" for step in range(9))]
    (folder / "csv_logs" / "version_0" / "metrics.csv").write_text("\n".join([*lines, ""]))
    selected = torch.zeros(3, 24, 36)
    selected[:, :, :18] = 1
    save_page(folder / "save", WORDS, views_of(["a", "b", "c"], before, after, selected))
    return folder / "save" / "report.html"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


def opened(page, path: Path) -> list[str]:
    """Open a page; returns what it asks for, and goes on to fill the list."""
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    return requests


def test_the_verdict_comes_first_in_words_and_numbers(page, written):
    opened(page, written)
    assert page.locator("#verdict .lead").inner_text() == "The figures find nothing wrong with this result."
    assert page.locator("#verdict").bounding_box()["y"] < page.locator(".pair").first.bounding_box()["y"]
    cards = [text.split("\n") for text in page.locator(".answer").all_inner_texts()]
    assert [[card[0], card[-1]] for card in cards] == [
        ["Did it change?", "The selection's pixels changed by 51.0 of 255 levels on average."],
        ["Did it leak?", "66.6 dB PSNR outside the selection; from 40 on it is kept."],
        ["Did it move towards the words?", "Directional CLIP similarity +0.212, from -1 to 1."],
        ["Is a part of the selection untouched?", "97% of the pixels that show the selection changed visibly."],
    ]


def test_prompts_are_text_and_nothing_else(page, written):
    opened(page, written)
    assert "<script>" in page.locator("h1").inner_text()
    assert page.evaluate("window.hacked") is None


def test_a_slider_moves_by_mouse_and_by_key(page, written):
    opened(page, written)
    pair = page.locator(".pair").first
    clip = "element => getComputedStyle(element).clipPath"
    after = pair.locator(".after")
    assert after.evaluate(clip) == "inset(0px 0px 0px 50%)"
    pair.scroll_into_view_if_needed()
    box = pair.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 20, steps=4)
    page.mouse.up()
    moved = float(after.evaluate(clip).split(" ")[-1].rstrip("%)"))
    assert moved == pytest.approx(80, abs=1)
    pair.locator("input").press("Home")
    assert after.evaluate(clip) == "inset(0px 0px 0px 0%)"


def test_a_slider_moves_by_touch(browser, written):
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(written.as_uri())
    pair = page.locator(".pair").first
    pair.scroll_into_view_if_needed()
    box = pair.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 4, box["y"] + 20)
    value = pair.evaluate("element => element.style.getPropertyValue('--at')")
    context.close()
    assert float(value.rstrip("%")) == pytest.approx(25, abs=1)


@pytest.mark.parametrize("is_inline", [True, False])
def test_the_video_plays(page, tmp_path, is_inline, monkeypatch):
    monkeypatch.setattr("threestudio_ssd.report.run_page.LARGEST_VIDEO", LARGEST_VIDEO if is_inline else 10)
    path = write_run(tmp_path, frames=30)
    requests = opened(page, path)
    video = page.locator("video")
    assert video.get_attribute("src").startswith("data:video/mp4;base64," if is_inline else "before_after.mp4")
    played = video.evaluate(
        """async (video) => {
            await video.play();
            while (video.currentTime < 0.2) await new Promise((done) => setTimeout(done, 20));
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
            const context = canvas.getContext("2d");
            context.drawImage(video, 0, 0);
            let colors = [];
            if (video.src.startsWith("data:"))  // a file beside the page may be shown, and not read
                colors = [4, canvas.width - 4].map((x) => [...context.getImageData(x, 12, 1, 1).data]);
            return {width: video.videoWidth, time: video.currentTime, colors};
        }"""
    )
    assert played["width"] == 72
    assert played["time"] > 0
    if is_inline:
        (left, right) = played["colors"]
        assert left[0] > 200 > 60 > left[2]
        assert right[2] > 200 > 60 > right[0]
    assert {url for url in requests if not url.startswith("data:")} <= {
        path.as_uri(),
        (path.parent / "before_after.mp4").as_uri(),
    }


@pytest.mark.parametrize("viewport", [PHONE, {"width": 320, "height": 640}, {"width": 1280, "height": 800}])
def test_nothing_is_wider_than_the_screen(page, written, viewport):
    page.set_viewport_size(viewport)
    opened(page, written)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert page.locator("meta[name=viewport]").count() == 1


def test_nothing_leaves_the_page_and_every_picture_is_there(page, written, tmp_path):
    alone = tmp_path / "moved.html"
    shutil.copy(written, alone)
    requests = opened(page, alone)
    page.wait_for_load_state("networkidle")
    assert [url for url in requests if not url.startswith("data:")] == [alone.as_uri()]
    widths = page.locator("img").evaluate_all("images => images.map((image) => image.naturalWidth)")
    assert len(widths) == 3 * 2 + 3 + 2
    assert all(widths)
    assert page.locator("svg.curve").count() == 2
    assert page.evaluate("fetch('https://example.org').then(() => 'left', () => 'kept')") == "kept"


def test_the_command_can_be_copied(browser, written):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(written.as_uri())
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    text = page.evaluate("navigator.clipboard.readText()")
    context.close()
    assert text == REPORT["command"]


def test_dark_where_the_system_is(browser, written):
    def paper(scheme):
        page = browser.new_page(color_scheme=scheme)
        page.goto(written.as_uri())
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.close()
        return [int(part) for part in color[4:-1].split(",")]

    assert min(paper("light")) > 220
    assert max(paper("dark")) < 40


@pytest.mark.parametrize(
    ("changes", "place", "tone", "answer"),
    [
        ({"change_inside": 0.001, "changed_visibly": False}, 0, "bad", "No"),
        ({"change_inside": None, "changed_visibly": False, "changed_share": None}, 0, "bad", "Not seen"),
        ({"psnr_outside": 39.9}, 1, "fair", "A little"),
        ({"psnr_outside": 12.0}, 1, "bad", "Yes"),
        ({"clip_directional_similarity": 0.01}, 2, "fair", "Hardly"),
        ({"clip_directional_similarity": -0.2}, 2, "bad", "No, away from it"),
        ({"changed_share": 0.7}, 3, "fair", "A part of it"),
        ({"changed_share": 0.2}, 3, "bad", "Most of it"),
    ],
)
def test_answers_follow_the_figures(changes, place, tone, answer):
    answers = answers_of(REPORT | changes)
    assert (answers[place].tone, answers[place].answer) == (tone, answer)
    assert tone_of(answers, []) == tone


def test_a_remark_of_the_run_is_never_green():
    answers = answers_of(REPORT)
    assert tone_of(answers, []) == "good"
    assert tone_of(answers, ["Colours ran away."]) == "fair"
    assert len(answers_of({"psnr": 26.0, "held_out": ["a"]})) == 1
    assert answers_of(REPORT | {"psnr_outside": None})[1].question == "Did it move towards the words?"


def test_numbers_have_units():
    assert (seconds(3.914), seconds(75.4), seconds(7300)) == ("3.9 s", "1 min 15 s", "2 h 1 min")
    assert (size(26000), size(845066240), size(2.5e9)) == ("26 kB", "845.1 MB", "2.50 GB")
    told = {figure.label: figure.value for figure in figures_of(REPORT | {"psnr_outside": None})}
    assert told["Change inside"] == "51 of 255"
    assert told["PSNR outside"] == "not seen"
    assert ("versions.torch", "2.13.0") in [figure[:2] for figure in others_of(REPORT)]
    assert not {figure.label for figure in others_of(REPORT)} & {"seconds", "command", "verdicts"}


def test_a_curve_goes_through_its_values():
    curve = draw("", "", {0: 1.0, 5: 3.0, 10: 2.0})
    points = [tuple(map(float, point.split(","))) for point in curve.points.split()]
    assert [x for x, _ in points] == [52, 232, 412]
    assert points[1][1] < points[2][1] < points[0][1]
    assert [text for _, text in curve.ticks_x] == ["0", "5", "10"]
    flat = draw("", "", dict.fromkeys(range(4 * SMOOTHING), 2.0))
    assert len(set(point.split(",")[1] for point in flat.smooth.split())) == 1


def test_a_resumed_run_has_one_log(tmp_path):
    for version, rows in ((2, "0,1,5.0\n0,2,6.0\n"), (10, "0,2,7.0\n0,3,nan\n")):
        folder = tmp_path / "csv_logs" / f"version_{version}"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(f"epoch,step,train/loss\n{rows}")
    assert read_log(tmp_path) == {"train/loss": {1: 5.0, 2: 7.0}}
    assert [curve.label for curve in curves_of(tmp_path)] == ["Loss"]
    assert curves_of(tmp_path / "none") == []


def test_the_command_makes_the_run_again(tmp_path):
    words = [
        "./launch.py",
        "--config",
        "my scene.yaml",
        "--train",
        "--resume",
        "auto",
        "target_prompt=a 'blue' ball",
        "$x",
    ]
    assert shlex.split(command_of(tmp_path, words)) == [
        "python",
        "./launch.py",
        "--config",
        "my scene.yaml",
        *words[-2:],
    ]
    words = ["launch.py", "--test", "--resume=a.ckpt", "resume=b", "steps=3"]
    assert command_of(tmp_path, words) == "python launch.py steps=3"
    config = tmp_path / "configs" / "parsed.yaml"
    assert command_of(tmp_path, ["pytest"]) == f"python launch.py --config {config}"


def test_the_page_says_what_report_json_says(tmp_path):
    """Values from the environment are hidden in report.json, so the page is made of that file."""
    page = write_run(tmp_path, frames=0, scene="${oc.env:SECRET}")
    text = page.read_text(encoding="utf-8")
    assert "${oc.env:SECRET}" in text
    assert "<video" not in text
    assert json.loads((page.parent / "report.json").read_text())["scene"] == "${oc.env:SECRET}"
