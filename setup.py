"""What a wheel holds beside its metadata: both packages, and ``configs`` and ``data`` as the folder ``shipped``."""

from setuptools import find_namespace_packages, find_packages, setup

PLUGIN, FOLDER = "threestudio_ssd", "custom/threestudio-ssd"
SHIPPED = {f"{PLUGIN}.shipped.{name}": name for name in ("configs", "data")}

setup(
    packages=[
        *find_packages(include=["threestudio", "threestudio.*"]),
        PLUGIN,
        *(f"{PLUGIN}.{name}" for name in find_namespace_packages(FOLDER, exclude=["*__pycache__*"])),
        *SHIPPED,
    ],
    package_dir={PLUGIN: FOLDER, **SHIPPED},
    package_data={PLUGIN: ["*.yaml", "report/templates/*"], **dict.fromkeys(SHIPPED, ["**/*"])},
)
