"""The nodes: each writes its splat into a folder of its own, makes one Python call, and reads the result back."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import IO, ComfyExtension
from PIL import Image
from torch import Tensor

import threestudio_ssd as ssd
from threestudio_ssd.cameras import Cameras, save_transforms_json
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.images import save_image

from .splats import Splat, batch_of, save_selection, splats_of

CATEGORY = "3d/gaussian/edit"
UPS = ("auto", "-y", "+y", "+z", "-z", "+x", "-x")
PREVIEWS, PREVIEW_SIZE = 10, 512
"""Previews of a run, and the longer side that they are shown at, pixels."""
EDITED, VIEWS, CAMERAS, MASKS = "edited", "views", "transforms.json", "masks"

CamerasOfViews = IO.Custom("SPLAT_CAMERAS")
"""Cameras of views: ``threestudio_ssd.cameras.Cameras``."""
SelectionOfSplat = IO.Custom("SPLAT_SELECTION")
"""Which Gaussians of each splat of a batch: a list of (n) booleans."""


@contextmanager
def scene_folder(splat: Splat) -> Iterator[tuple[Path, Path]]:
    """A folder that is gone afterwards, and the splat in it."""
    with tempfile.TemporaryDirectory(prefix="splat-edit-") as name:
        folder = Path(name)
        yield folder, splat.save(folder / "scene.ply")


def save_cameras(folder: Path, cameras: Cameras | None) -> Path | None:
    """The cameras as a file that the Python call reads; None for none."""
    if cameras is None:
        return None
    save_transforms_json(folder / CAMERAS, cameras, [f"{VIEWS}/{name}.png" for name in view_names(cameras)])
    return folder / CAMERAS


def view_names(cameras: Cameras) -> list[str]:
    """A plain name for each view."""
    return [f"view-{index:04d}" for index in range(len(cameras))]


def selection_mask(folder: Path, selections: list[Tensor] | None, index: int, splat: Splat) -> ssd.Mask | None:
    """A mask that selects what was selected; None where nothing was said.

    Raises:
        ConfigError: If the selection is of another splat.
    """
    if selections is None:
        return None
    count = len(splat.tensors[0])
    lengths = [len(each) for each in selections]
    if index >= len(lengths) or lengths[index] != count:
        raise ConfigError(
            what=f"the selection is of {lengths} Gaussians, splat {index} has {count}",
            expected="the selection of this very splat", fix="connect the splat that was selected in",
        )  # fmt: skip
    return ssd.Mask(saved=str(save_selection(selections[index], folder / "selection.npy")))


def up_keys(up: str) -> dict[str, Any]:
    """The key that says which way is up, where it is known."""
    return {} if up == "auto" else {"data.up": up}


def run_with_progress(run: Any, bar: Any, begin: int) -> None:
    """Make all steps of a run; show previews, and stop where the user interrupts.

    Args:
        run: A ``SceneRun``.
        bar: ComfyUI's progress bar.
        begin: Steps that the bar has counted already.
    """
    every = max(1, run.num_steps // PREVIEWS)

    def on_step(progress: Any) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        is_shown = progress.step % every == 0 or progress.step == run.num_steps
        bar.update_absolute(begin + progress.step, None, preview_of(run) if is_shown else None)

    run.run(on_step=on_step)


def preview_of(run: Any) -> tuple[str, Image.Image, int]:
    """A held-out view of a run as it is now, as ComfyUI shows it."""
    pixels = (run.images(1)[0].clamp(0, 1) * 255).round().byte().numpy()
    return "JPEG", Image.fromarray(pixels), PREVIEW_SIZE


def edited_batch(gaussian: Any, steps: int, laid_out: Callable[[int, Splat, Path, Path], Any]) -> tuple[Any, Tensor]:
    """Run an edit of each splat.

    Args:
        gaussian: The batch.
        steps: Of each edit.
        laid_out: Gives the run of a splat, from its number, itself, its folder and its file.

    Returns:
        The edited batch, and views of before and after side by side, (v h 2w 3).
    """
    splats, images = [], []
    bar = comfy.utils.ProgressBar(steps * gaussian.positions.shape[0])
    for index, splat in enumerate(splats_of(gaussian)):
        with scene_folder(splat) as (folder, scene):
            run = laid_out(index, splat, folder, scene)
            run_with_progress(run, bar, index * steps)
            splats.append(splat.with_edits(run.result(), scene))
            images.append(torch.cat([run.images(before=True), run.images()], dim=2))
    return batch_of(splats), torch.cat(images).clamp(0, 1)


class EditSplat(IO.ComfyNode):
    """Change a splat by words."""

    @classmethod
    def define_schema(cls) -> Any:
        """What ComfyUI shows of it."""
        return IO.Schema(
            node_id="SSDEditSplat",
            display_name="Edit splat by text",
            category=CATEGORY,
            description="Changes a splat as two sentences differ. colors: Stable Score Distillation, shapes stay. "
            "shape: the views are edited and what is selected is replaced. All other Gaussians keep their values.",
            inputs=[
                IO.Gaussian.Input("gaussian"),
                IO.String.Input("source", multiline=True, default="", tooltip="What is there: a photo of a red ball"),
                IO.String.Input("target", multiline=True, default="", tooltip="What should be there"),
                IO.Combo.Input("method", options=["colors", "shape"], default="colors"),
                IO.String.Input("model", default="data/tiny-ldm", tooltip="Folder or hub id of a diffusion model"),
                IO.Int.Input("steps", default=600, min=1, max=100000),
                IO.Int.Input("seed", default=0, min=0, max=2**31 - 1),
                IO.Combo.Input("up", options=list(UPS), default="auto", tooltip="For views around the splat"),
                SelectionOfSplat.Input("selection", optional=True, tooltip="What may change; nothing: everything"),
                CamerasOfViews.Input("cameras", optional=True, tooltip="Views to edit from; nothing: an orbit"),
            ],
            outputs=[IO.Gaussian.Output(display_name="gaussian"), IO.Image.Output(display_name="before and after")],
        )

    @classmethod
    def execute(
        cls, gaussian: Any, source: str, target: str, method: str, model: str, steps: int, seed: int, up: str,
        selection: list[Tensor] | None = None, cameras: Cameras | None = None,
    ) -> Any:  # fmt: skip
        """Edit every splat of the batch."""
        call = {"colors": ssd.edit_scene, "shape": ssd.refit_scene}[method]

        def laid_out(index: int, splat: Splat, folder: Path, scene: Path) -> Any:
            return call(
                scene, source=source, target=target, cameras=save_cameras(folder, cameras), model=model, steps=steps,
                mask=selection_mask(folder, selection, index, splat), seed=seed, changes=up_keys(up),
            )  # fmt: skip

        return IO.NodeOutput(*edited_batch(gaussian, steps, laid_out))


class SelectInSplat(IO.ComfyNode):
    """Say what may change."""

    @classmethod
    def define_schema(cls) -> Any:
        """What ComfyUI shows of it."""
        return IO.Schema(
            node_id="SSDSelectInSplat",
            display_name="Select in splat",
            category=CATEGORY,
            description="Selects Gaussians by words, by a box, or by masks of views that Splat to views made; with "
            "several of them, what all have.",
            inputs=[
                IO.Gaussian.Input("gaussian"),
                IO.String.Input("text", default="", tooltip="In words; looked for by CLIPSeg, in views"),
                IO.String.Input("box", default="", tooltip="x_min, y_min, z_min, x_max, y_max, z_max"),
                IO.Float.Input("grow", default=0.0, min=-1000.0, max=1000.0, step=0.01, tooltip="World units"),
                IO.Combo.Input("up", options=list(UPS), default="auto"),
                IO.Mask.Input("masks", optional=True, tooltip="One for each of the views that cameras has"),
                CamerasOfViews.Input("cameras", optional=True),
            ],
            outputs=[
                SelectionOfSplat.Output(display_name="selection"),
                IO.Gaussian.Output(display_name="selected"),
                IO.Int.Output(display_name="count"),
            ],
        )

    @classmethod
    def execute(
        cls, gaussian: Any, text: str, box: str, grow: float, up: str,
        masks: Tensor | None = None, cameras: Cameras | None = None,
    ) -> Any:  # fmt: skip
        """Select in every splat of the batch."""
        mask = ssd.Mask(text=text.strip() or None, box=box_of(box), grow=grow)
        selections, selected = [], []
        for splat in splats_of(gaussian):
            comfy.model_management.throw_exception_if_processing_interrupted()
            with scene_folder(splat) as (folder, scene):
                asked = mask if masks is None else replace(mask, picture=save_masks(folder, masks, cameras))
                file = save_cameras(folder, cameras)
                rows = torch.from_numpy(ssd.select_in_scene(scene, asked, cameras=file, changes=up_keys(up)))
            selections.append(rows)
            selected.append([tensor[rows] for tensor in splat.tensors])
        return IO.NodeOutput(selections, batch_of(selected), sum(int(rows.sum()) for rows in selections))


def box_of(text: str) -> list[float] | None:
    """Six numbers, divided by commas or spaces; None for an empty text.

    Raises:
        ConfigError: If they are none.
    """
    words = text.replace(",", " ").strip("[] ").split()
    try:
        return [float(word) for word in words] or None
    except ValueError as cause:
        expected, fix = "x_min, y_min, z_min, x_max, y_max, z_max", "write -1, -1, 0, 1, 1, 2"
        raise ConfigError(what=f"box is {text!r}", expected=expected, fix=fix) from cause


def save_masks(folder: Path, masks: Tensor, cameras: Cameras | None) -> str:
    """The folder of mask pictures, named after the views.

    Raises:
        ConfigError: If the masks have no views, or another number of them.
    """
    count = 0 if cameras is None else len(cameras)
    if cameras is None or len(masks) != count:
        raise ConfigError(
            what=f"there are {len(masks)} masks and {count} cameras", expected="a mask for each view",
            fix="connect the cameras of Splat to views, and a mask of each of its images",
        )  # fmt: skip
    for name, mask in zip(view_names(cameras), masks, strict=True):
        save_image(folder / MASKS / f"{name}.png", mask[..., None].expand(-1, -1, 3).float().cpu())
    return str(folder / MASKS)


class SplatToViews(IO.ComfyNode):
    """Look at a splat."""

    @classmethod
    def define_schema(cls) -> Any:
        """What ComfyUI shows of it."""
        return IO.Schema(
            node_id="SSDSplatToViews",
            display_name="Splat to views",
            category=CATEGORY,
            description="Renders the first splat of a batch from views around it, for mask and image editing nodes.",
            inputs=[
                IO.Gaussian.Input("gaussian"),
                IO.Int.Input("count", default=24, min=1, max=512),
                IO.Int.Input("size", default=512, min=16, max=4096),
                IO.Int.Input("seed", default=0, min=0, max=2**31 - 1),
                IO.Combo.Input("up", options=list(UPS), default="auto"),
            ],
            outputs=[IO.Image.Output(display_name="images"), CamerasOfViews.Output(display_name="cameras")],
        )

    @classmethod
    def execute(cls, gaussian: Any, count: int, size: int, seed: int, up: str) -> Any:
        """Render."""
        with scene_folder(Splat(gaussian, 0)) as (_, scene):
            images, cameras = ssd.views_of_scene(scene, count=count, size=size, seed=seed, changes=up_keys(up))
        return IO.NodeOutput(images, cameras)


class ViewsToSplat(IO.ComfyNode):
    """Have a splat follow its edited views."""

    @classmethod
    def define_schema(cls) -> Any:
        """What ComfyUI shows of it."""
        return IO.Schema(
            node_id="SSDViewsToSplat",
            display_name="Views to splat",
            category=CATEGORY,
            description="Refits the colours of a splat to views of it that other nodes edited.",
            inputs=[
                IO.Gaussian.Input("gaussian"),
                IO.Image.Input("images", tooltip="The edited views, in the order of cameras"),
                CamerasOfViews.Input("cameras"),
                IO.Int.Input("steps", default=400, min=1, max=100000),
                IO.Int.Input("seed", default=0, min=0, max=2**31 - 1),
                SelectionOfSplat.Input("selection", optional=True, tooltip="What may change; nothing: everything"),
            ],
            outputs=[IO.Gaussian.Output(display_name="gaussian"), IO.Image.Output(display_name="before and after")],
        )

    @classmethod
    def execute(
        cls, gaussian: Any, images: Tensor, cameras: Cameras, steps: int, seed: int,
        selection: list[Tensor] | None = None,
    ) -> Any:  # fmt: skip
        """Refit every splat of the batch to the same views."""
        if len(images) != len(cameras):
            raise ConfigError(
                what=f"there are {len(images)} images and {len(cameras)} cameras", expected="an image for each view",
                fix="connect the edited images of Splat to views, all of them and in order",
            )  # fmt: skip

        def laid_out(index: int, splat: Splat, folder: Path, scene: Path) -> Any:
            for name, image in zip(view_names(cameras), images, strict=True):
                save_image(folder / EDITED / f"{name}.png", image[..., :3].float().cpu())
            keys: Mapping[str, Any] = {
                "folder": str(folder), "data.views": "capture", "data.num_train_views": len(cameras),
                "system.editing.editor.image_size": int(torch.stack([cameras.widths, cameras.heights]).min()),
            }  # fmt: skip
            return ssd.refit_scene(
                scene, source="views", target="edited views", cameras=save_cameras(folder, cameras), steps=steps,
                mask=selection_mask(folder, selection, index, splat), seed=seed, config="configs/folder-gs.yaml",
                changes=keys,
            )  # fmt: skip

        return IO.NodeOutput(*edited_batch(gaussian, steps, laid_out))


class RemoveFromSplat(IO.ComfyNode):
    """Take something out."""

    @classmethod
    def define_schema(cls) -> Any:
        """What ComfyUI shows of it."""
        return IO.Schema(
            node_id="SSDRemoveFromSplat",
            display_name="Remove from splat",
            category=CATEGORY,
            description="Takes what is selected out of a splat and closes the hole that it leaves.",
            inputs=[
                IO.Gaussian.Input("gaussian"),
                SelectionOfSplat.Input("selection"),
                IO.Int.Input("steps", default=400, min=1, max=100000),
                IO.Int.Input("seed", default=0, min=0, max=2**31 - 1),
                IO.Combo.Input("up", options=list(UPS), default="auto"),
                CamerasOfViews.Input("cameras", optional=True),
            ],
            outputs=[IO.Gaussian.Output(display_name="gaussian"), IO.Image.Output(display_name="before and after")],
        )

    @classmethod
    def execute(
        cls, gaussian: Any, selection: list[Tensor], steps: int, seed: int, up: str, cameras: Cameras | None = None
    ) -> Any:
        """Remove from every splat of the batch."""

        def laid_out(index: int, splat: Splat, folder: Path, scene: Path) -> Any:
            mask = selection_mask(folder, selection, index, splat)
            return ssd.remove_from_scene(
                scene, mask=mask, cameras=save_cameras(folder, cameras), steps=steps, seed=seed, changes=up_keys(up)
            )

        return IO.NodeOutput(*edited_batch(gaussian, steps, laid_out))


class SplatEditing(ComfyExtension):
    """What ComfyUI loads."""

    async def get_node_list(self) -> list[type]:
        """The nodes."""
        return [EditSplat, SelectInSplat, SplatToViews, ViewsToSplat, RemoveFromSplat]


async def comfy_entrypoint() -> SplatEditing:
    """Where ComfyUI begins."""
    return SplatEditing()
