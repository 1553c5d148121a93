"""The system that makes a splat from posed photographs, for those who have no splat yet (Kerbl et al. 2023)."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

import threestudio

from ..edits.edit import Edit
from ..edits.fit import FitConfig, SceneFit
from ..metrics import psnr, ssim
from ..metrics.ssim import WINDOW
from ..rendering import render_each
from ..report.edit_report import grid_row
from ..report.run_page import save_page, views_of
from .edit_base import EditSystem
from .identity import Identity, of_cameras, of_files

PROGRESS_VIEWS, GRID_VIEWS = 4, 8
PAIR_NAMES = ("photograph", "render")


@threestudio.register("gs-fit-system")
class SceneFitSystem(EditSystem):
    """Fits Gaussians to photographs; ``save/fitted.ply`` is the result."""

    Config = FitConfig
    progress_bar = ("psnr", "gaussians")
    made, counted = "A splat", "num_gaussians"
    """What the page calls the result, and what the report calls its size."""
    job: Any

    def make(self) -> None:
        """Check the keys."""
        self.job = SceneFit(self.cfg)

    def open(self, data: Any, stage: str) -> Edit:
        """Read the photographs and place the first Gaussians."""
        self.job.open(data.capture)
        return self.job.edit

    def identity(self, data: Any) -> Identity:
        """The photographs and their cameras."""
        capture = data.capture.capture
        photographs = of_files(path for path in capture.image_paths if path is not None)
        return {"photographs": photographs, "cameras": of_cameras(capture)}

    def training_step(self, batch: dict, batch_idx: int) -> None:
        """One step of the fit, and how many Gaussians there are."""
        super().training_step(batch, batch_idx)
        self.log("train/gaussians", float(len(self.job.editable)), prog_bar=True)

    def validation_step(self, batch: dict, batch_idx: int) -> None:
        """One picture of where the run stands."""
        self.save_progress()

    def progress_images(self) -> list[Sequence[Float[Tensor, "_ _ 3"]]]:
        """Some photographs that judge, and renders below."""
        return self._rows(self._judge_renders()[:PROGRESS_VIEWS])

    def _judge_renders(self) -> list[Float[Tensor, "_ _ 3"]]:
        job = self.job
        return [image.cpu() for image in render_each(job.scene(), job.judges.cameras, job.background)]

    def _rows(self, images: list[Tensor]) -> list[Sequence[Tensor]]:
        """Photographs on top, renders below."""
        return [self.job.judges.images[: len(images)], images]

    def report(self) -> None:
        """Compare held-out photographs, write ``grid.png``, ``report.json`` and ``report.html``."""
        job, images = self.job, self._judge_renders()
        pairs = [
            (image.permute(2, 0, 1)[None], photo.permute(2, 0, 1)[None], inside[None])
            for image, photo, inside in zip(images, job.judges.images, job.judges.inside, strict=True)
        ]
        similarities = [float(ssim(*pair)) for pair in pairs if min(pair[0].shape[-2:]) >= WINDOW]
        is_held_out = job.judges.cameras.names != job.photos.cameras.names
        self.save_image_grid("grid.png", [grid_row(row) for row in self._rows(images[:GRID_VIEWS])])
        report = {
            self.counted: len(job.scene()),
            "sh_degree": job.sh_degree_reached,
            "photos": len(job.photos.images),
            "held_out": job.judges.cameras.names if is_held_out else [],
            "psnr": sum(float(psnr(*pair)) for pair in pairs) / len(pairs),
            "ssim": sum(similarities) / len(similarities) if similarities else None,
            **self.facts(),
            **self.run_facts(),
        }
        self.save_json("report.json", report)
        views = views_of(job.judges.cameras.names, job.judges.images, images)
        save_page(self.save_folder, (None, f"{self.made} of {len(job.photos.images)} images"), views, PAIR_NAMES)
        of_what = "held-out photographs" if is_held_out else "the fitted photographs"
        threestudio.info(f"PSNR {report['psnr']:.2f} dB on {of_what}.")

    def facts(self) -> dict[str, Any]:
        """Override: what the report says beside its figures."""
        return {}

    def export(self) -> str:
        """Write the splat."""
        return self.save_splat("fitted.ply", self.job.editable.result())
