"""View data modules."""

from .gs_views import GSViews, SceneViews
from .photos import Photos, PhotosData
from .views import even_orbit, random_orbit, turntable, view_order

__all__ = ["GSViews", "Photos", "PhotosData", "SceneViews", "even_orbit", "random_orbit", "turntable", "view_order"]
