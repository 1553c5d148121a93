"""Views, photographs and images that edits are about; the data modules, which need Lightning, are in ``modules``."""

from .scene_views import ViewPlan
from .views import SceneViews, even_orbit, random_orbit, turntable, view_order

__all__ = ["SceneViews", "ViewPlan", "even_orbit", "random_orbit", "turntable", "view_order"]
