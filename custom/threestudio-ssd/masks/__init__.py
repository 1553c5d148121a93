"""What an edit may change: masks by box, sphere, picture, text or file, traced to Gaussians, combined and cleaned."""

from .box import in_box, in_sphere
from .clean import grown, with_interior, with_seam_by_color, without_floaters
from .outlines import Outline, box_outline, named_outlines
from .picture import load_masks
from .preview import TINT, TINT_STRENGTH, preview_images, save_previews, tinted
from .saved import load_selection, save_selection
from .selection import MaskConfig, MaskPart, Selection, check_mask, find_selection, settle_mask
from .tracing import Trace, trace_views, visible_weights
