"""The published scores and one of ours: pure functions over named noise predictions, one file each."""

from .branches import Branch, guided, predict_branches
from .cds import CDS
from .csd import CSD
from .dds import DDS
from .dream_catalyst import DreamCatalyst
from .focused_ssd import FocusedSSD
from .nfsd import NFSD
from .pds import PDS
from .sds import SDS
from .ssd import SSD, ssd_paper
from .ssd_instruct_pix2pix import SSDInstructPix2Pix
from .vsd import VSD

SCORES = {
    "sds": SDS,
    "dds": DDS,
    "csd": CSD,
    "nfsd": NFSD,
    "pds": PDS,
    "dream-catalyst": DreamCatalyst,
    "ssd": SSD,
    "ssd-focused": FocusedSSD,
    "ssd-ip2p": SSDInstructPix2Pix,
    "vsd": VSD,
}
"""Score classes by the name configs use."""

__all__ = [
    "CDS",
    "CSD",
    "DDS",
    "NFSD",
    "PDS",
    "SCORES",
    "SDS",
    "SSD",
    "VSD",
    "Branch",
    "DreamCatalyst",
    "FocusedSSD",
    "SSDInstructPix2Pix",
    "guided",
    "predict_branches",
    "ssd_paper",
]
