"""Plain splat PLY: every variant reads to the truth, and what was not edited keeps its bytes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from threestudio_ssd.errors import SceneFormatError
from threestudio_ssd.gaussians import Gaussians, half_turn_x, load_gaussians, save_gaussians
from threestudio_ssd.gaussians.io import SceneFormatWarning

GOLDEN = Path(__file__).parents[3] / "golden" / "formats"
PLAIN = ["sh0_40", "sh1_40", "sh2_40", "sh3", "quirk_ascii", "quirk_big_endian", "quirk_comments",
         "quirk_extra_element", "quirk_extra_uchar", "quirk_float64", "quirk_shuffled"]  # fmt: skip
DEGREES = {"sh0_40": 0, "sh1_40": 1, "sh2_40": 2}


@pytest.fixture(scope="module")
def truth():
    with np.load(GOLDEN / "truth_sh3.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def rows_of(path):
    """The vertex table as plyfile reads it."""
    import plyfile

    return plyfile.PlyData.read(path)["vertex"].data


@pytest.mark.parametrize("name", PLAIN)
def test_variants_read_to_the_truth(name, truth):
    gaussians = load_gaussians(GOLDEN / f"{name}.ply")
    n, k = len(gaussians), gaussians.shN.shape[1]
    assert n == (1000 if name == "sh3" else 40)
    assert gaussians.sh_degree == DEGREES.get(name, 3)
    assert torch.equal(gaussians.means, truth["means"][:n])
    assert torch.equal(gaussians.log_scales, truth["log_scales"][:n])
    assert torch.equal(gaussians.raw_quats, truth["quats_wxyz"][:n])
    assert torch.equal(gaussians.logit_opacities, truth["opacity_logits"][:n])
    assert torch.equal(gaussians.sh0[:, 0], truth["sh0"][:n])
    assert torch.equal(gaussians.shN, truth["shN"][:n, :k])


def test_eight_bit_colours_are_read(truth):
    gaussians = load_gaussians(GOLDEN / "quirk_rgb_only.ply")
    rgbs = 0.5 + 0.28209479177387814 * gaussians.sh0[:, 0]
    expected = (0.5 + 0.28209479177387814 * truth["sh0"][:40]).clamp(0, 1)
    assert gaussians.sh_degree == 0
    assert (rgbs - expected).abs().max() <= 1 / 255


@pytest.mark.filterwarnings("ignore::threestudio_ssd.gaussians.io.SceneFormatWarning")
@pytest.mark.parametrize("name", [*PLAIN, "quirk_rgb_only", "bad_nan_inf_zeroquat"])
def test_load_save_gives_the_same_bytes(name, tmp_path):
    save_gaussians(load_gaussians(GOLDEN / f"{name}.ply"), tmp_path / "saved.ply")
    assert (tmp_path / "saved.ply").read_bytes() == (GOLDEN / f"{name}.ply").read_bytes()


@pytest.mark.filterwarnings("ignore::threestudio_ssd.gaussians.io.SceneFormatWarning")
@pytest.mark.parametrize("name", [*PLAIN, "quirk_rgb_only", "bad_nan_inf_zeroquat"])
def test_rows_not_edited_keep_their_bytes(name, tmp_path):
    before = load_gaussians(GOLDEN / f"{name}.ply")
    after = before.clone()
    after.sh0[10:20] += 0.25
    after.means[10:20] *= 1.5
    kept = torch.tensor([i for i in range(40) if i != 30])
    after = after.select(kept).append(after.select([12]))
    save_gaussians(after, tmp_path / "edited.ply")
    old, new = rows_of(GOLDEN / f"{name}.ply"), rows_of(tmp_path / "edited.ply")
    assert new.dtype == old.dtype
    assert len(new) == 40
    untouched = [i for i in range(39) if not 10 <= i < 20]
    for place in untouched:
        assert new[place].tobytes() == old[int(kept[place])].tobytes()
    again = load_gaussians(tmp_path / "edited.ply")
    assert torch.equal(again.means, after.means)
    if name == "quirk_rgb_only":  # 8 bits, 0..1
        wanted = (0.5 + 0.28209479 * after.sh0).clamp(0, 1)
        assert (0.5 + 0.28209479 * again.sh0 - wanted).abs().max() <= 0.501 / 255
    else:
        assert torch.equal(again.sh0, after.sh0)


def test_unknown_columns_and_comments_survive_an_edit(tmp_path):
    before = load_gaussians(GOLDEN / "quirk_extra_uchar.ply")
    after = before.replace(sh0=before.sh0 + 1)
    save_gaussians(after, tmp_path / "edited.ply")
    old, new = rows_of(GOLDEN / "quirk_extra_uchar.ply"), rows_of(tmp_path / "edited.ply")
    colors = {"f_dc_0", "f_dc_1", "f_dc_2"}
    for column in set(old.dtype.names) - colors:
        assert np.array_equal(old[column], new[column]), column
    comments = load_gaussians(GOLDEN / "quirk_comments.ply")
    save_gaussians(comments.select([0, 1]), tmp_path / "comments.ply")
    header = (tmp_path / "comments.ply").read_bytes().split(b"end_header")[0]
    assert b"comment Vertical Axis: z\n" in header
    assert b"element vertex 2\n" in header
    assert comments.origin.notes == {"up": "+z"}


def test_undrawable_rows_are_counted_hidden_and_kept(tmp_path):
    with pytest.warns(SceneFormatWarning) as records:
        gaussians = load_gaussians(GOLDEN / "bad_nan_inf_zeroquat.ply")
    path = GOLDEN / "bad_nan_inf_zeroquat.ply"
    assert [str(record.message) for record in records] == [
        f"{path}: 2 of 40 Gaussians hold NaN or infinite values (first: row 3); they stay in the "
        "file and are not drawn",
        f"{path}: 1 of 40 Gaussians have a rotation of length zero; taken as none",
    ]
    assert all(torch.isfinite(tensor).all() for tensor in gaussians.parameters().values())
    assert gaussians.opacities[3] < 1 / 255
    assert gaussians.opacities[5] > 0.999
    assert gaussians.raw_quats[7].tolist() == [1, 0, 0, 0]


def test_new_gaussians_are_written_in_the_classic_layout(tmp_path, truth):
    gaussians = Gaussians(
        truth["means"], truth["log_scales"], truth["quats_wxyz"], truth["opacity_logits"], truth["sh0"][:, None],
        truth["shN"],
    )  # fmt: skip
    save_gaussians(gaussians, tmp_path / "new.ply")
    assert (tmp_path / "new.ply").read_bytes() == (GOLDEN / "sh3.ply").read_bytes()


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("name", ["sh3", "quirk_ascii", "quirk_float64", "quirk_extra_element"])
def test_any_degree_can_be_written_into_any_file(name, degree, tmp_path):
    before = load_gaussians(GOLDEN / f"{name}.ply").with_sh_degree(degree)
    save_gaussians(before, tmp_path / "other.ply")
    after = load_gaussians(tmp_path / "other.ply")
    assert after.sh_degree == degree
    for field, tensor in before.parameters().items():
        assert torch.equal(tensor, getattr(after, field)), field


def test_empty_scene(tmp_path):
    save_gaussians(load_gaussians(GOLDEN / "sh2_40.ply").select(slice(0, 0)), tmp_path / "empty.ply")
    empty = load_gaussians(tmp_path / "empty.ply")
    assert len(empty) == 0
    assert empty.sh_degree == 2


def edited_header(tmp_path, old: bytes, new: bytes) -> Path:
    """A copy of sh1_40.ply with other words in its header."""
    data = (GOLDEN / "sh1_40.ply").read_bytes()
    assert old in data
    path = tmp_path / "broken.ply"
    path.write_bytes(data.replace(old, new, 1))
    return path


def test_messages(tmp_path):
    path = GOLDEN / "bad_truncated.ply"
    with pytest.raises(SceneFormatError) as error:
        load_gaussians(path)
    assert str(error.value) == (
        f"{path} ends after 18 of 1000 Gaussians (6000 bytes); expected 249529 bytes, as the header "
        "promises; "
        "copy or download the file again; it is cut short"
    )
    path = edited_header(tmp_path, b"f_rest_8", b"f_tset_8")
    with pytest.raises(SceneFormatError) as error:
        load_gaussians(path)
    assert str(error.value) == (
        f"{path} has 8 f_rest columns; expected 0, 9, 24, 45 or 72 of them, f_rest_0 upwards (SH "
        "degree 0 to 4); "
        "export the splat again with all coefficients of a degree"
    )
    path = edited_header(tmp_path, b"property float opacity", b"property float opaqueness")
    with pytest.raises(SceneFormatError) as error:
        load_gaussians(path)
    assert str(error.value) == (
        f"{path} has no column opacity; expected a Gaussian splat PLY: x y z, f_dc_0..2 (or red "
        "green blue), opacity, "
        "scale_0..2, rot_0..3; export it as a Gaussian splat, not as a point cloud or mesh"
    )
    path = edited_header(tmp_path, b"property float opacity", b"property half opacity")
    with pytest.raises(SceneFormatError) as error:
        load_gaussians(path)
    assert str(error.value) == (
        f"{path} has the header line 'property half opacity'; expected 'element NAME COUNT' or "
        "'property TYPE NAME' "
        "with a PLY type such as float, double, uchar; export the file again"
    )
    path = edited_header(tmp_path, b"binary_little_endian", b"binary_middle_endian")
    with pytest.raises(SceneFormatError) as error:
        load_gaussians(path)
    assert str(error.value) == (
        f"{path} has the PLY format 'binary_middle_endian'; expected ascii, binary_little_endian or "
        "binary_big_endian; "
        "export the file again"
    )
    path = edited_header(tmp_path, b"end_header", b"fin_header")
    with pytest.raises(SceneFormatError) as error:
        load_gaussians(path)
    assert str(error.value) == (
        f"{path} has no end_header line in its header; expected a PLY header that ends with 'end_header'; "
        "export or download the file again"
    )
    path = edited_header(tmp_path, b"element vertex", b"element points")
    with pytest.raises(SceneFormatError) as error:
        load_gaussians(path)
    assert str(error.value) == (
        f"{path} has no vertex element; expected one row of numbers per Gaussian or point in an element "
        "called vertex; "
        "export it as a Gaussian splat or point cloud, not as a mesh"
    )
    path = edited_header(tmp_path, b"property float nx", b"property list uchar float nx")
    with pytest.raises(SceneFormatError) as error:
        load_gaussians(path)
    assert str(error.value).startswith(f"{path} has lists in its vertex element; expected one row of numbers")
    path = tmp_path / "zip.ply"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(SceneFormatError) as error:
        load_gaussians(path)
    assert str(error.value) == (
        rf"{path} starts with b'PK\x03\x04'; expected a PLY file, which starts with 'ply'; "
        "give the file the suffix of its real format, or download it again"
    )


def test_messages_of_text_files(tmp_path):
    text = (GOLDEN / "quirk_ascii.ply").read_bytes()
    path = tmp_path / "text.ply"
    path.write_bytes(text[: len(text) - 3000])
    with pytest.raises(SceneFormatError) as error:
        load_gaussians(path)
    assert str(error.value).endswith(
        "of 40 Gaussians; expected as many rows as the header promises; copy or download the file "
        "again; it is cut short"
    )
    header, body = text.split(b"end_header\n")
    path.write_bytes(header + b"end_header\n" + body.replace(b" ", b" x ", 1))
    with pytest.raises(SceneFormatError) as error:
        load_gaussians(path)
    assert str(error.value) == (
        f"{path} has a row that is not 62 numbers; expected one number for every property of the "
        "vertex element; "
        "export the file again"
    )


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "scene.ply"
    path.write_bytes(b"old")
    gaussians = load_gaussians(GOLDEN / "sh0_40.ply")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_gaussians(gaussians, path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["scene.ply"]


def test_paths(tmp_path):
    with pytest.raises(SceneFormatError) as error:
        load_gaussians(tmp_path / "none.ply")
    assert str(error.value) == (
        f"{tmp_path / 'none.ply'} does not exist; expected a splat file, or the folder of a field; "
        "check the path given as scene"
    )
    gaussians = load_gaussians(GOLDEN / "sh0_40.ply")
    save_gaussians(gaussians, tmp_path / "new" / "folder" / "scene.PLY")
    assert len(load_gaussians(tmp_path / "new" / "folder" / "scene.PLY")) == 40


@pytest.mark.parametrize(("kind", "white"), [("uchar", 255), ("ushort", 65535), ("float", 1), ("double", 255)])
@pytest.mark.parametrize("form", ["binary_little_endian", "ascii"])
def test_colours_of_any_number_type_are_read_and_kept(kind, white, form, tmp_path):
    rgbs = np.array([[0.8, 0.2, 0.4], [1.0, 0.0, 0.6]])
    names = ["x", "y", "z", "red", "green", "blue", "opacity", "scale_0", "scale_1", "scale_2",
             "rot_0", "rot_1", "rot_2", "rot_3"]  # fmt: skip
    kinds = {name: kind for name in ("red", "green", "blue")}
    dtype = np.dtype([(name, {"uchar": "u1", "ushort": "<u2", "double": "<f8"}.get(kinds.get(name), "<f4"))
                      for name in names])  # fmt: skip
    rows = np.zeros(2, dtype)
    rows["rot_0"] = 1
    for channel, name in enumerate(("red", "green", "blue")):
        rows[name] = np.rint(rgbs[:, channel] * white) if white > 1 else rgbs[:, channel]
    header = ["ply", f"format {form} 1.0", "element vertex 2"]
    header += [f"property {kinds.get(name, 'float')} {name}" for name in names] + ["end_header", ""]
    body = "".join(" ".join(str(value) for value in row) + "\n" for row in rows).encode()
    (tmp_path / "in.ply").write_bytes("\n".join(header).encode() + (body if form == "ascii" else rows.tobytes()))
    gaussians = load_gaussians(tmp_path / "in.ply")
    assert np.abs(0.5 + 0.28209479 * gaussians.sh0[:, 0].numpy() - rgbs).max() < 0.51 / 255
    save_gaussians(gaussians, tmp_path / "out.ply")
    assert (tmp_path / "out.ply").read_bytes() == (tmp_path / "in.ply").read_bytes()
    gaussians.sh0[0, 0] = (0.25 - 0.5) / 0.28209479
    save_gaussians(gaussians, tmp_path / "edited.ply")
    edited = 0.5 + 0.28209479 * load_gaussians(tmp_path / "edited.ply").sh0[:, 0].numpy()
    assert np.abs(edited - [[0.25] * 3, rgbs[1]]).max() < 0.51 / 255


@pytest.fixture
def far(tmp_path):
    """A file in map coordinates, and its table."""
    from plyfile import PlyData, PlyElement

    table = PlyData.read(GOLDEN / "quirk_float64.ply")["vertex"].data.copy()
    table["x"] += 456789.25
    table["y"] += 5432100.5
    PlyData([PlyElement.describe(table, "vertex")]).write(tmp_path / "utm.ply")
    return tmp_path / "utm.ply", table


def test_map_coordinates_are_counted_from_the_middle_and_put_back(far, tmp_path):
    from plyfile import PlyData

    path, table = far
    with pytest.warns(
        SceneFormatWarning, match=r"positions are counted from 4567\d\d, 54321\d\d, -?\d, since float32 cannot"
    ):
        scene = load_gaussians(path)
    near = load_gaussians(GOLDEN / "quirk_float64.ply")
    offset = torch.tensor(scene.offset, dtype=torch.float64)
    shift = torch.tensor([456789.25, 5432100.5, 0], dtype=torch.float64) - offset
    assert (scene.means.double() - shift - near.means).abs().max() < 1e-5
    save_gaussians(scene, tmp_path / "same.ply")
    assert (tmp_path / "same.ply").read_bytes() == path.read_bytes()
    scene.means[3] += torch.tensor([0.125, 0, -1.5])
    scene.sh0[5] += 1
    new = scene.select([0]).replace(origin_rows=torch.tensor([-1]))
    save_gaussians(scene.append(new), tmp_path / "edited.ply")
    edited = PlyData.read(tmp_path / "edited.ply")["vertex"].data
    untouched = np.delete(np.arange(len(table)), 3)
    assert all(np.array_equal(edited[axis][untouched], table[axis][untouched]) for axis in "xyz")
    for axis, moved in zip("xyz", (0.125, 0, -1.5), strict=True):
        assert abs(edited[axis][3] - table[axis][3] - moved) < 1e-5
        assert abs(edited[axis][-1] - table[axis][0]) < 1e-5
    # the edit is read beside its source, even if its own middle is another; other formats are told of
    again = load_gaussians(tmp_path / "edited.ply", beside=scene)
    assert again.offset == scene.offset
    assert torch.equal(again.means[:-1], scene.means)
    with pytest.warns(SceneFormatWarning, match=r"positions are written from 4567\d\d, 54321\d\d, -?\d, since only"):
        save_gaussians(scene, tmp_path / "far.glb")


def test_text_keeps_map_coordinates(far, tmp_path):
    from plyfile import PlyData, PlyElement

    PlyData([PlyElement.describe(far[1], "vertex")], text=True).write(tmp_path / "text.ply")
    with pytest.warns(SceneFormatWarning, match="positions are counted from"):
        scene = load_gaussians(tmp_path / "text.ply")
    scene.means[0, 1] += 0.25
    save_gaussians(scene, tmp_path / "edited.ply")
    before, after = ((tmp_path / name).read_bytes().splitlines() for name in ("text.ply", "edited.ply"))
    changed = [row for row, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
    assert len(changed) == 1
    old, new = (float(lines[changed[0]].split()[1]) for lines in (before, after))
    assert abs(new - old - 0.25) < 1e-5


def test_half_a_turn_of_map_coordinates_turns_their_world(far):
    with pytest.warns(SceneFormatWarning, match="positions are counted from"):
        scene = load_gaussians(far[0])
    turned, (x, y, z) = half_turn_x(scene), scene.offset
    assert turned.offset == (x, -y, -z)
    assert torch.equal(turned.means[:, 1:], -scene.means[:, 1:])
