"""View data modules, in ``gs_views`` and ``photos``; what is here needs no Lightning."""

from .views import SceneViews, even_orbit, random_orbit, turntable, view_order

__all__ = ["SceneViews", "even_orbit", "random_orbit", "turntable", "view_order"]
