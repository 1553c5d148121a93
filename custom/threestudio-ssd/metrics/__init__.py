"""Metrics: pure functions on images (b 3 h w) in [0, 1] and on texts; one value per image."""

from .blur import gaussian_blur
from .clip_directional_similarity import clip_direction_consistency, clip_directional_similarity
from .clip_model import ClipModel, check_clip, clip_beside, load_clip, read_clip
from .clip_protocols import clip_scores, edited_region_similarity
from .clip_similarity import clip_similarity
from .colors import ColorReading, hidden_ones, read_colors
from .lpips import Lpips, load_lpips, lpips
from .mask_iou import mask_iou
from .mse import mse
from .psnr import IDENTICAL_PSNR, mean_psnr, psnr
from .regions import edit_regions
from .saturation import saturation_drift
from .ssim import ssim
from .structure_distance import StructureModel, load_structure_model, structure_distance
from .tiny_perceptual import tiny_perceptual_distance
from .view_agreement import ViewAgreement, view_agreement

__all__ = [
    "IDENTICAL_PSNR", "ClipModel", "ColorReading", "Lpips", "StructureModel", "ViewAgreement", "check_clip",
    "clip_beside", "clip_direction_consistency", "clip_directional_similarity", "clip_scores", "clip_similarity",
    "edit_regions", "edited_region_similarity", "gaussian_blur", "hidden_ones", "load_clip", "load_lpips",
    "load_structure_model", "lpips", "mask_iou", "mean_psnr", "mse", "psnr", "read_clip", "read_colors",
    "saturation_drift", "ssim", "structure_distance", "tiny_perceptual_distance", "view_agreement",
]  # fmt: skip
