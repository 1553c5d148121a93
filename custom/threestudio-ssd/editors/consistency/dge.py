"""Direct Gaussian Editor: key views attend to each other, the others copy from them along epipolar lines."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from ...cameras import Cameras
from ...diffusion.attention import Layer
from ...seeds import generator
from ..editor import ImageEditor, Views
from .attention import attend_own, by_azimuth, parts_of, pick, view_attention
from .consistency import Consistency, unet_of

STREAM = "dge"


@dataclass(frozen=True)
class DGE(Consistency):
    """Multi-view consistent editing (Chen et al. 2024, arXiv:2404.18929, section 3.2).

    At every step one view of each run of neighbours is a key view. In every self-attention layer the key views attend
    to the tokens of all of them. A token of another view takes what the most similar token of the two nearest key
    views gives, near its epipolar line. All views go through the network at once, so that key views take part in
    the same call that the others read them in.
    """

    needs = frozenset({"cameras"})

    views_per_key: int = 5
    """Length of the runs of neighbours, one key view each."""
    reach: float = 1.0
    """How far from the epipolar line a token may lie, cells of the layer's feature map."""
    t_min: float = 100.0
    """Timesteps below this have plain attention."""

    def load(self, network: Any, device: torch.device, **options: Any) -> None:
        """See ``Consistency``."""
        unet_of(network, "dge")

    def edit(self, editor: ImageEditor, network: Any, views: Views, own: Any) -> Float[Tensor, "b 3 h w"]:
        """See ``Consistency``."""
        cameras = views.cameras
        assert cameras is not None
        parts = parts_of(by_azimuth(cameras.centers), math.ceil(len(views) / self.views_per_key))
        distances = torch.cdist(cameras.centers, cameras.centers)
        near: dict[tuple[int, int, tuple[int, int]], Tensor] = {}

        def is_near(view: int, key: int, size: tuple[int, int]) -> Tensor:
            if (view, key, size) not in near:
                near[view, key, size] = near_epipolar_lines(cameras[[view, key]], size, self.reach)
            return near[view, key, size]

        def attend(layer: Layer, hidden: Tensor) -> Tensor:
            if layer.timestep < self.t_min:
                return attend_own(layer, hidden)
            keys = pick(parts, generator(views.seeds[0], views.round * 100_003 + layer.call, STREAM))
            joint = hidden[:, keys].flatten(1, 2)
            given = layer.attend(joint, joint).unflatten(1, (len(keys), -1))
            of_null = hidden[min(1, len(hidden) - 1)]  # the second prompt is the empty one, where there is a second
            looks = normalize(of_null.float(), dim=-1)
            out = torch.empty_like(hidden)
            for view in range(len(views)):
                if view in keys:
                    out[:, view] = given[:, keys.index(view)]
                    continue
                nearest = sorted(range(len(keys)), key=lambda place: float(distances[view, keys[place]]))[:2]
                copies = []
                for place in nearest:
                    may_be = is_near(view, keys[place], layer.size).to(hidden.device)
                    similarity = (looks[view] @ looks[keys[place]].T) * may_be
                    copies.append(given[:, place, similarity.argmax(1)])
                out[:, view] = _between(copies, [float(distances[view, keys[place]]) for place in nearest])
            return out

        with view_attention(unet_of(network, "dge"), len(views), attend):
            return editor.edit(network, views)


def _between(copies: list[Tensor], distances: list[float]) -> Tensor:
    """Two matches blended, the nearer key's with sigmoid(d_2 / (d_1 + d_2)); one alone as it is."""
    if len(copies) == 1:
        return copies[0]
    share = 1 / (1 + math.exp(-distances[1] / max(sum(distances), 1e-12)))
    return share * copies[0] + (1 - share) * copies[1]


def near_epipolar_lines(pair: Cameras, size: tuple[int, int], reach: float) -> Bool[Tensor, "n m"]:
    """Which cells of the second view may show what a cell of the first shows, whatever its depth.

    Args:
        pair: Two cameras; their images are as large as the first's.
        size: Height and width of the feature map, cells.
        reach: Distance from the line, cells.

    Returns:
        True near the line; a row without any such cell is true everywhere.
    """
    height, width = size
    scale = torch.tensor([width / int(pair.widths[0]), height / int(pair.heights[0]), 1.0], dtype=torch.float64)
    Ks = pair.Ks.double().cpu() * scale[:, None]
    views = pair.viewmats.double().cpu()
    turn = views[1, :3, :3] @ views[0, :3, :3].T
    x, y, z = (views[1, :3, 3] - turn @ views[0, :3, 3]).tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    fundamental = torch.linalg.inv(Ks[1]).T @ cross @ turn @ torch.linalg.inv(Ks[0])
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    places = torch.stack([columns, rows, torch.ones_like(rows)], -1).double().flatten(0, 1)
    lines = places @ fundamental.T
    lengths = lines[:, :2].norm(dim=1, keepdim=True).clamp_min(1e-12)
    is_near = (lines @ places.T).abs() / lengths <= reach
    return is_near | ~is_near.any(1, keepdim=True)
