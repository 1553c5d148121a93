"""Masks by words: images and a text in, the pixels that the text names out.

Three kinds of networks, told apart by their own config: CLIPSeg (and the embedded tiny-seg), SAM 3, and the pair of
GroundingDINO (boxes) and SAM 2 (masks in boxes). Images are prepared here, because the library's own preparation of
the SAM family needs torchvision.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from threestudio.utils.misc import cleanup

from ..errors import ConfigError
from ..pretrained import ALIASES, ModelLocation, ModelUse, frozen, locate

SEGMENTER = ModelUse(
    key="mask.segmenter",
    expected="clipseg, sam3, grounded-sam2, a folder in the transformers format, or a hub id",
    fix="check the name, or give a local folder",
)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


def segment(
    images: Float[Tensor, "c 3 h w"],
    text: str,
    segmenter: str = "clipseg",
    threshold: float | None = None,
    *,
    revision: str | None = None,
    is_offline: bool = False,
) -> Bool[Tensor, "c h w"]:
    """The pixels of each view that the text names; none in views where it is not found.

    The segmenter is loaded for this and let go: the edit that follows needs the memory.

    Args:
        images: Views in [0, 1].
        text: A short noun phrase, such as "the statue" or "face".
        segmenter: ``clipseg``, ``tiny-seg`` (embedded, toy world), ``sam3``, ``grounded-sam2``, a hub id or folder of
            a CLIPSeg or SAM 3, or ``DETECTOR+SAM2``, two hub ids or folders joined by a plus.
        threshold: How sure the network must be, in (0, 1): per pixel for CLIPSeg, per object for SAM 3 and
            GroundingDINO; None: what is usual for it, 0.3 for GroundingDINO and 0.5 for the others.
        revision: Branch, tag or commit of a hub id; for ``DETECTOR+SAM2`` two, joined by a plus.
        is_offline: Whether to look only into the local hub cache.

    Returns:
        One mask per view.

    Raises:
        ConfigError: If the text is empty, nothing is found in any view, or the segmenter cannot be loaded.
    """
    if not text.strip():
        raise ConfigError(what="mask.text is empty", expected="a noun phrase", fix='set mask.text="the statue"')
    masks = _find(images, text.strip(), threshold, segmenter, revision, is_offline)
    cleanup()
    if not masks.any():
        what = f'mask.text "{text}" is not found in any of {len(images)} views by {segmenter}'
        fix = "say it in other words, choose another mask.segmenter, or use mask.box or mask.picture"
        raise ConfigError(what=what, expected="something that can be seen in them", fix=fix)
    return masks


@torch.no_grad()
def _find(
    images: Tensor, text: str, threshold: float | None, segmenter: str, revision: str | None, is_offline: bool
) -> Bool[Tensor, "c h w"]:
    """Nothing holds the segmenter when this returns."""
    loaded = load_segmenter(segmenter, str(images.device), revision=revision, is_offline=is_offline)
    return loaded.find(images, text, loaded.CONFIDENCE if threshold is None else threshold)


class Segmenter(ABC):
    """A loaded network that finds what a text names.

    Attributes:
        CONFIDENCE: How sure it usually has to be, in (0, 1), where nothing else is asked for.
    """

    CONFIDENCE = 0.5

    @abstractmethod
    def find(self, images: Float[Tensor, "c 3 h w"], text: str, threshold: float) -> Bool[Tensor, "c h w"]:
        """The pixels of each view that the text names."""


class ByWords(Segmenter):
    """A network that reads the image and the text together, one image at a time.

    Attributes:
        network: Of transformers.
        tokenizer: Its tokenizer.
        size: Height and width of the images that it reads, pixels.
        mean: Of its images' channels.
        std: Their standard deviations.
        text_length: Tokens of a text.
    """

    network: Any
    tokenizer: Any
    size: tuple[int, int]
    mean: Any = HALF
    std: Any = HALF
    text_length: int

    @abstractmethod
    def mask(self, outputs: Any, threshold: float, size: torch.Size) -> Bool[Tensor, "h w"]:
        """The pixels that the outputs for one image select, at the image's size."""

    def find(self, images: Float[Tensor, "c 3 h w"], text: str, threshold: float) -> Bool[Tensor, "c h w"]:
        """See ``Segmenter.find``."""
        padding = {"padding": "max_length", "truncation": True, "max_length": self.text_length}
        tokens = self.tokenizer(text, return_tensors="pt", **padding).to(images.device)
        inputs = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
        masks = []
        for image in images:
            pixels = _normalise(_resize(image[None], self.size), self.mean, self.std)
            masks.append(self.mask(self.network(pixel_values=pixels, **inputs), threshold, images.shape[-2:]))
        return torch.stack(masks)


class ClipSeg(ByWords):
    """CLIPSeg (Lüddecke and Ecker 2022, arXiv:2112.10003): one probability per pixel.

    Args:
        source: Where it is.
        device: Where to put it.
    """

    def __init__(self, source: ModelLocation, device: str) -> None:
        from transformers import AutoTokenizer, CLIPSegForImageSegmentation, ImageProcessingMixin

        self.network = frozen(source.read(CLIPSegForImageSegmentation.from_pretrained), device)
        self.tokenizer = source.read(AutoTokenizer.from_pretrained)
        settings, _ = source.read(ImageProcessingMixin.get_image_processor_dict)
        size = settings["size"]
        self.size = _square(size if isinstance(size, int) else (size["height"], size["width"]))
        self.mean, self.std = settings["image_mean"], settings["image_std"]
        self.text_length = self.network.config.text_config.max_position_embeddings

    def mask(self, outputs: Any, threshold: float, size: torch.Size) -> Bool[Tensor, "h w"]:
        """Pixels whose probability is above the threshold."""
        logits = outputs.logits.reshape(1, 1, *outputs.logits.shape[-2:])
        return _resize(logits, size)[0, 0].sigmoid() > threshold


class Sam3(ByWords):
    """SAM 3: every instance of a concept; an instance counts if its score is above the threshold.

    Args:
        source: Where it is.
        device: Where to put it.
    """

    text_length = 32

    def __init__(self, source: ModelLocation, device: str) -> None:
        from transformers import AutoTokenizer, Sam3Model

        self.network = frozen(source.read(Sam3Model.from_pretrained), device)
        self.tokenizer = source.read(AutoTokenizer.from_pretrained)
        self.size = _square(self.network.config.vision_config.backbone_config.image_size)

    def mask(self, outputs: Any, threshold: float, size: torch.Size) -> Bool[Tensor, "h w"]:
        """Union of the instances' masks."""
        scores = outputs.pred_logits.sigmoid()
        if outputs.presence_logits is not None:
            scores = scores * outputs.presence_logits.sigmoid()
        return _union(outputs.pred_masks[0][scores[0] > threshold], size)


class GroundedSam2(Segmenter):
    """Boxes by GroundingDINO (Liu et al. 2023, arXiv:2303.05499), a mask in each by SAM 2 (arXiv:2408.00714).

    Args:
        detector: Where the GroundingDINO is.
        segmenter: Where the SAM 2 is.
        device: Where to put them.
    """

    SHORT_SIDE, LONG_SIDE = 800, 1333
    CONFIDENCE = 0.3

    def __init__(self, detector: ModelLocation, segmenter: ModelLocation, device: str) -> None:
        from transformers import AutoModelForZeroShotObjectDetection, AutoTokenizer, Sam2Model

        self.detector = frozen(detector.read(AutoModelForZeroShotObjectDetection.from_pretrained), device)
        self.tokenizer = detector.read(AutoTokenizer.from_pretrained)
        self.network = frozen(segmenter.read(Sam2Model.from_pretrained), device)
        self.size = _square(self.network.config.prompt_encoder_config.image_size)

    def find(self, images: Float[Tensor, "c 3 h w"], text: str, threshold: float) -> Bool[Tensor, "c h w"]:
        """Union of the masks in the boxes whose score is above the threshold."""
        masks = []
        for image in images:
            boxes = self._boxes(image, text, threshold)
            if not len(boxes):
                masks.append(torch.zeros(image.shape[-2:], dtype=torch.bool, device=image.device))
                continue
            pixels = _normalise(_resize(image[None], self.size), IMAGENET_MEAN, IMAGENET_STD)
            width_height = boxes.new_tensor([self.size[1], self.size[0]] * 2)
            outputs = self.network(
                pixel_values=pixels, input_boxes=(boxes * width_height)[None], multimask_output=False
            )
            masks.append(_union(outputs.pred_masks[0, :, 0], image.shape[-2:]))
        return torch.stack(masks)

    def _boxes(self, image: Float[Tensor, "3 h w"], text: str, threshold: float) -> Float[Tensor, "n 4"]:
        """Left, top, right, bottom in [0, 1]; the detector wants lower case and a full stop."""
        height, width = image.shape[-2:]
        scale = min(self.SHORT_SIDE / min(height, width), self.LONG_SIDE / max(height, width))
        size = (round(height * scale), round(width * scale))
        pixels = _normalise(_resize(image[None], size), IMAGENET_MEAN, IMAGENET_STD)
        tokens = self.tokenizer(text.lower().rstrip(".") + ".", return_tensors="pt").to(image.device)
        outputs = self.detector(pixel_values=pixels, **tokens)
        is_found = outputs.logits[0].sigmoid().amax(-1) > threshold
        center, extent = outputs.pred_boxes[0][is_found].split(2, dim=-1)
        return torch.cat([center - extent / 2, center + extent / 2], -1).clamp(0, 1)


def load_segmenter(
    segmenter: str, device: str = "cpu", *, revision: str | None = None, is_offline: bool = False
) -> Segmenter:
    """Load a segmenter; it stays in memory for as long as it is held.

    Args:
        segmenter: As for ``segment``.
        device: Where to put it.
        revision: As for ``segment``.
        is_offline: Whether to look only into the local hub cache.

    Raises:
        ConfigError: If it cannot be loaded, or is of a kind that finds nothing by words.
        MissingPackageError: If the library needs another package for it (SAM 3: torchvision).
    """
    from transformers import AutoConfig

    source, *more = locate_segmenter(segmenter, revision=revision, is_offline=is_offline)
    if more:
        return GroundedSam2(source, more[0], device)
    kind = source.read(AutoConfig.from_pretrained).model_type
    if kind == "clipseg":
        return ClipSeg(source, device)
    if kind.startswith("sam3"):
        return Sam3(source, device)
    what = f"mask.segmenter {segmenter} is a {kind} model, which finds nothing by words"
    expected = "a CLIPSeg or SAM 3, or DETECTOR+SAM2 such as " + ALIASES["grounded-sam2"]
    raise ConfigError(what=what, expected=expected, fix="set mask.segmenter to one of these")


def locate_segmenter(
    segmenter: str, *, revision: str | None = None, is_offline: bool = False
) -> tuple[ModelLocation, ...]:
    """Where the networks of a segmenter are: one, or detector and SAM 2. Nothing is loaded.

    Args:
        segmenter: As for ``segment``.
        revision: As for ``segment``.
        is_offline: Whether to look only into the local hub cache.

    Raises:
        ConfigError: If one is not to be had.
    """
    name = segmenter if Path(segmenter).exists() else ALIASES.get(segmenter.rstrip("/"), segmenter)
    if "+" in name and not Path(name).exists():
        names, revisions = name.split("+", 1), revision.split("+", 1) if revision else ["", ""]
        if len(revisions) != 2:
            what = f"mask.revision is {revision}, but mask.segmenter {segmenter} names two models"
            expected = "two revisions joined by a plus, either of which may be empty"
            raise ConfigError(what=what, expected=expected, fix=f"set mask.revision={revision}+")
        return tuple(
            locate(each, SEGMENTER, revision=pin or None, is_offline=is_offline)
            for each, pin in zip(names, revisions, strict=True)
        )
    return (locate(segmenter, SEGMENTER, revision=revision, is_offline=is_offline),)


def _square(size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _resize(maps: Float[Tensor, "b c h w"], size: tuple[int, int] | torch.Size) -> Float[Tensor, "b c h2 w2"]:
    """Bilinear, antialiased where it shrinks."""
    if maps.shape[-2:] == torch.Size(size):
        return maps
    return interpolate(maps, tuple(size), mode="bilinear", align_corners=False, antialias=True)


def _normalise(images: Float[Tensor, "b 3 h w"], mean: Any, std: Any) -> Float[Tensor, "b 3 h w"]:
    mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    return (images - mean) / std


def _union(logits: Float[Tensor, "n h w"], size: torch.Size) -> Bool[Tensor, "h2 w2"]:
    """Pixels in any of the masks, at another size; none if there are no masks."""
    if not len(logits):
        return torch.zeros(size, dtype=torch.bool, device=logits.device)
    return (_resize(logits[None], size)[0] > 0).any(0)
