"""View data modules."""

from .gs_views import GSViews, SceneViews
from .views import even_orbit, random_orbit, turntable, view_order

__all__ = ["GSViews", "SceneViews", "even_orbit", "random_orbit", "turntable", "view_order"]
