"""The published scores and one of ours: pure functions over named noise predictions, one file each."""

from .branches import Branch, Predictions, guided, predict_branches
from .cds import CDS
from .csd import CSD
from .dds import DDS
from .dream_catalyst import DreamCatalyst
from .dream_catalyst_instruct_pix2pix import DreamCatalystInstructPix2Pix
from .focused_ssd import FocusedSSD
from .local_ssd import LocalSSD
from .nfsd import NFSD
from .pds import PDS
from .piva import Piva
from .score import SCORES, Score, ScoreInputs, register_score
from .sds import SDS
from .settled_ssd import SettledSSD
from .ssd import SSD, ssd_paper
from .ssd_instruct_pix2pix import SSDInstructPix2Pix
from .vsd import VSD

SCORES |= {
    "sds": SDS,
    "dds": DDS,
    "csd": CSD,
    "nfsd": NFSD,
    "pds": PDS,
    "dream-catalyst": DreamCatalyst,
    "dream-catalyst-ip2p": DreamCatalystInstructPix2Pix,
    "ssd": SSD,
    "ssd-focused": FocusedSSD,
    "ssd-settled": SettledSSD,
    "ssd-local": LocalSSD,
    "ssd-ip2p": SSDInstructPix2Pix,
    "vsd": VSD,
    "piva": Piva,
}
