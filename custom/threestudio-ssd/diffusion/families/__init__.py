"""Model families: everything that tells one kind of diffusion model from another, one object and one file a family.

A family from outside the package registers itself by ``register_family(MyFamily())``; ``load_backbone`` then reads its
models.
"""

from .family import Family
from .stable_diffusion import SD
from .stable_diffusion_3 import SD3
from .stable_diffusion_xl import SDXL

FAMILIES: dict[str, Family] = {}
"""All families by name, in the order of registration."""


def register_family(family: Family) -> Family:
    """Make a family known; returns it.

    Raises:
        ValueError: If its name or one of its pipeline classes belongs to another family.
    """
    for other in FAMILIES.values():
        taken = {other.name, *other.pipelines} & {family.name, *family.pipelines}
        if taken and type(other) is not type(family):
            raise ValueError(f"{sorted(taken)[0]} belongs to the family {other.name} already")
    FAMILIES[family.name] = family
    return family


def family_of_pipeline(class_name: object) -> Family | None:
    """The family that reads a pipeline class of diffusers, as ``model_index.json`` names it; None for no such."""
    return next((family for family in FAMILIES.values() if class_name in family.pipelines), None)


for _family in (SD, SDXL, SD3):
    register_family(_family)
