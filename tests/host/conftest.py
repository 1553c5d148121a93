"""The command line on the toy plugin, in this process."""

from pathlib import Path

import pytest

from threestudio.run import main

TOY = str(Path(__file__).parent / "toy.yaml")


@pytest.fixture
def launch(capfd):
    """Run the command line in this process; returns exit code, standard output and standard error."""

    def launch(*argv):
        code = main(list(argv))
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return launch


@pytest.fixture
def whole(launch):
    """The result of a run that nothing stopped."""
    launch("--config", TOY, "exp_root_dir=whole")
    return Path("whole/toy/a_red_cube/save/values.npy").read_bytes()
