"""Windows onto scenes in a browser: look, select and edit; watch a run; hand a result to another viewer."""

from importlib.util import find_spec

from ..errors import MissingPackageError


def require_viser() -> None:
    """Say in one line what the viewer needs, before anything of it is imported.

    Raises:
        MissingPackageError: If viser is not installed.
    """
    if find_spec("viser") is None:
        fix = "pip install -r requirements-extra.txt, or viser alone"
        raise MissingPackageError(what="the viewer needs viser", expected="viser >= 1", fix=fix)
