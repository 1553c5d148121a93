"""What an edit may change: masks by box, picture or text, traced to Gaussians."""

from .box import in_box
from .picture import load_masks
from .selection import MaskConfig, select
from .tracing import trace, visible_weights

__all__ = ["MaskConfig", "in_box", "load_masks", "select", "trace", "visible_weights"]
