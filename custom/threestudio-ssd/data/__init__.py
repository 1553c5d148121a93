"""View data modules."""

from .scene_views import GSViewsConfig, SceneViews, ViewPlan
from .views import even_orbit, random_orbit, turntable, view_order

__all__ = ["GSViewsConfig", "SceneViews", "ViewPlan", "even_orbit", "random_orbit", "turntable", "view_order"]
