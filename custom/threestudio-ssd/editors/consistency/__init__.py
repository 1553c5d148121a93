"""How views are edited together, so that they agree with each other; round any editor, one method a file."""

from .consistency import CONSISTENCIES, Consistency, Independent, register_consistency
from .dge import DGE
from .gauss_ctrl import GaussCtrl
from .grid import Grid
from .ray_map import RaysSeen
from .shared_noise import SharedNoise
from .view_adapter import DrawnTogether

CONSISTENCIES |= {
    "none": Independent, "shared-noise": SharedNoise, "grid": Grid, "dge": DGE, "gaussctrl": GaussCtrl,
    "view-adapter": DrawnTogether, "ray-map": RaysSeen,
}  # fmt: skip
