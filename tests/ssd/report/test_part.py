"""A part cut out of a splat and put back: bytes outside, rows that go and come, files that do not belong together."""

import numpy as np
import pytest
import torch

from tests.edit_world import overrides
from threestudio.run import main
from threestudio_ssd.errors import SceneFormatError
from threestudio_ssd.gaussians.io import load_gaussians, save_gaussians
from threestudio_ssd.report import part as parts
from threestudio_ssd.report.blend import ROWS
from threestudio_ssd.report.part import cut_part, paste_part, rows_file
from threestudio_ssd.report.results import find_result

BOX = [-1.0, -1.0, -0.2, 1.0, 1.0, 2.5]


def rows_of(path):
    """The raw rows of a binary PLY that may have more behind them."""
    table, content = parts.table_of(path), path.read_bytes()
    body, width = content[table.header.size :], table.dtype.itemsize
    return [body[start : start + width] for start in range(0, table.header.vertex.count * width, width)]


@pytest.fixture
def cut(world, tmp_path, monkeypatch):
    """A scene with a part of it cut out, in blocks that are much smaller than either."""
    monkeypatch.setattr(parts, "BLOCK", 100)
    scene = tmp_path / "scene.ply"
    scene.write_bytes((world / "scene.ply").read_bytes() + b"what follows the rows")
    count, total = cut_part(scene, tmp_path / "part.ply", BOX)
    assert 100 < count < total
    return tmp_path


def test_a_part_is_the_rows_in_the_box_byte_for_byte(cut):
    means = load_gaussians(cut / "scene.ply").means
    low, high = torch.tensor(BOX[:3]), torch.tensor(BOX[3:])
    rows = ((means >= low) & (means <= high)).all(dim=1).nonzero()[:, 0].tolist()
    whole = rows_of(cut / "scene.ply")
    assert rows_of(cut / "part.ply") == [whole[row] for row in rows]
    assert np.load(rows_file(cut / "part.ply"))["rows"].tolist() == rows


def test_a_part_that_was_not_edited_gives_the_very_file(cut):
    told = paste_part(cut / "scene.ply", find_result(cut / "part.ply"), find_result(cut / "part.ply"), cut / "out.ply")
    assert told == (0, 0, 0)
    assert (cut / "out.ply").read_bytes() == (cut / "scene.ply").read_bytes()


def test_an_edit_of_a_part_changes_these_rows_and_no_other(cut, world):
    words = {"scene": cut / "part.ply", "mask.picture": "null", "mask.box": str(BOX).replace(" ", "")}
    given = [f"{key}={value}" for key, value in words.items()]
    base = [word for word in overrides(world, cut / "runs") if word.split("=")[0] not in words]
    assert main(["--config", "configs/smoke/edit.yaml", *base, *given]) == 0
    (run,) = (path.parents[1] for path in (cut / "runs").rglob("edited.ply"))
    assert (
        main(["--run", "paste", str(cut / "scene.ply"), str(cut / "part.ply"), str(run), f"out={cut / 'out.ply'}"]) == 0
    )
    old, new = rows_of(cut / "scene.ply"), rows_of(cut / "out.ply")
    edited = rows_of(run / "save" / "edited.ply")
    rows = np.load(rows_file(cut / "part.ply"))["rows"].tolist()
    assert [new[row] for row in rows] == edited
    assert edited != [old[row] for row in rows]
    assert all(new[row] == old[row] for row in set(range(len(old))) - set(rows))
    assert (cut / "out.ply").read_bytes().endswith(b"what follows the rows")


def test_rows_that_went_are_gone_and_new_ones_follow(cut):
    part = load_gaussians(cut / "part.ply")
    kept = torch.arange(3, len(part))
    grown = part.select(kept).append(part.select(torch.tensor([7, 8])).replace(sh0=torch.ones(2, 1, 3)))
    (cut / "save").mkdir()
    save_gaussians(grown, cut / "save" / "edited.ply")
    np.save(cut / "save" / ROWS, np.concatenate([kept.numpy(), [-1, -1]]))
    told = paste_part(cut / "scene.ply", find_result(cut / "part.ply"), find_result(cut / "save"), cut / "out.ply")
    assert told == (0, 3, 2)
    old, new = rows_of(cut / "scene.ply"), rows_of(cut / "out.ply")
    gone = np.load(rows_file(cut / "part.ply"))["rows"][:3].tolist()
    assert new[:-2] == [row for place, row in enumerate(old) if place not in gone]
    assert new[-2:] == rows_of(cut / "save" / "edited.ply")[-2:]


def test_what_does_not_belong_together_is_refused_and_nothing_is_written(cut):
    part = find_result(cut / "part.ply")
    data = bytearray((cut / "scene.ply").read_bytes())
    data[-60] ^= 1
    (cut / "scene.ply").write_bytes(data)
    with pytest.raises(SceneFormatError, match=r"part.ply was not cut out of .* as it is now"):
        paste_part(cut / "scene.ply", part, part, cut / "out.ply")
    rows_file(cut / "part.ply").unlink()
    with pytest.raises(SceneFormatError, match=r"part.rows.npz cannot be read"):
        paste_part(cut / "scene.ply", part, part, cut / "out.ply")
    assert not (cut / "out.ply").exists()
    (cut / "scene.ply").write_bytes(data[: len(data) // 2])
    with pytest.raises(SceneFormatError, match="rows early"):
        cut_part(cut / "scene.ply", cut / "again.ply", BOX)
    assert not (cut / "again.ply").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["cut"], "error: --run cut was given no scene"),
        (
            ["cut", "no.ply", "box=[0,0,0,1,1,1]"],
            "error: no.ply cannot be read (No such file or directory); expected a",
        ),
        (["cut", "SCENE", "box=[0,0]"], "error: box is [0"),
        (["cut", "SCENE", "box=[90,90,90,91,91,91]"], "error: no Gaussian of "),
        (["paste", "SCENE"], "error: --run paste was given no part and no edited"),
    ],
)
def test_mistakes_cost_a_line(words, line, world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--run", *(word.replace("SCENE", str(world / "scene.ply")) for word in words)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(line)
    assert not list(tmp_path.iterdir())
