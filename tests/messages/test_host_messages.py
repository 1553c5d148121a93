"""Every message of the command line that a user can cause, word for word."""

from pathlib import Path

import pytest

from threestudio.plugins import load_plugins
from threestudio.run import main

HOST = Path(__file__).parents[1] / "host"
CONFIG = ["--config", str(HOST / "toy.yaml")]


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path, monkeypatch):
    load_plugins(HOST / "plugins")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("threestudio.run.load_plugins", dict)
    (tmp_path / "broken.yaml").write_text("a: 1\nb: 'x\n")
    (tmp_path / "empty.yaml").write_text("tag: x\n")
    (tmp_path / "half.ckpt").write_bytes(b"PK")


MESSAGES = [
    ([], "--config is missing; expected --config and a YAML file; add --config configs/<name>.yaml"),
    (
        ["--config", "nowhere.yaml"],
        "the config nowhere.yaml does not exist; expected a YAML file; check the path",
    ),
    (
        ["--config", "emtpy.yaml"],
        "the config emtpy.yaml does not exist; expected a YAML file; did you mean empty.yaml?",
    ),
    (
        ["--config", "broken.yaml"],
        "broken.yaml, line 3 is not valid YAML: found unexpected end of stream; "
        "expected keys and values as 'key: value'; mend that line",
    ),
    (
        [*CONFIG, "--train", "--test"],
        "argument --test: not allowed with argument --train; expected the options that launch.py --help lists; "
        "correct the command",
    ),
    (
        [*CONFIG, "--trian"],
        "--trian is not an option; expected one of: -h, --help, --config, --train, --validate, --test, --export, "
        "--run, --resume, --gpu, --device, --progress, --verbose; did you mean --train?",
    ),
    (
        ["--resume", "auto"],
        "--resume auto does not say which run is meant; expected --config and a YAML file; "
        "add --config, or write --resume RUN_FOLDER",
    ),
    (
        ["--resume", "no/run"],
        "--resume no/run: there is nothing there; expected the folder of a run, or a checkpoint in its ckpts; "
        "check the path, or add --config",
    ),
    (
        ["--resume", "half.ckpt", "--export"],
        "--resume half.ckpt: {above} holds no configs/parsed.yaml; expected the folder of a run, or a checkpoint in "
        "its ckpts; check the path, or add --config",
    ),
    ([*CONFIG, "steps"], "'steps' is not an override; expected key=value; write it as key=value"),
    ([*CONFIG, "steps=abc"], "steps is 'abc'; expected a whole number; set steps=12, for example"),
    (
        [*CONFIG, "mask.sise=3"],
        "unknown key mask.sise; expected one of: size; did you mean mask.size?",
    ),
    ([*CONFIG, "data.siz=3"], "unknown key data.siz; expected one of: size, num_test; did you mean data.size?"),
    ([*CONFIG, "data.size=big"], "data.size is 'big'; expected a whole number; change data.size"),
    (
        [*CONFIG, "system.guidance.score.wieght=3"],
        "unknown key system.guidance.score.wieght; expected one of: weight, kind; "
        "did you mean system.guidance.score.weight?",
    ),
    (
        [*CONFIG, "system.guidance.score.kind=sqare"],
        "system.guidance.score.kind is 'sqare'; expected one of: square, abs; did you mean square?",
    ),
    (
        [*CONFIG, "system.lambda_fit=[1,2]"],
        "system.lambda_fit is [1, 2]; expected a number, [value, value, step], or [step, value, value, step, value, "
        "step, ...] with steps that increase; change system.lambda_fit",
    ),
    (
        [*CONFIG, "trainer.max_steps=many"],
        "trainer.max_steps is 'many'; expected a whole number; change trainer.max_steps",
    ),
    (
        [*CONFIG, "system.optimizer.params={value: {lr: 1}}"],
        "system.optimizer.params.value names no member of ToySystem; expected the path of a parameter or module; "
        "did you mean values?",
    ),
    (
        [*CONFIG, "system.optimizer.args={lr: -1}"],
        "system.optimizer.args do not suit Adam: Invalid learning rate: -1; expected arguments of torch's Adam; "
        "mend system.optimizer.args",
    ),
    (
        [*CONFIG, "--test"],
        "there is no checkpoint in outputs/toy/a_red_cube; expected a run that was trained before; "
        "train first, or name a checkpoint with --resume PATH",
    ),
    (
        [*CONFIG, "--resume", "no.ckpt"],
        "there is no checkpoint no.ckpt; expected a .ckpt file of a run; check the path",
    ),
    (
        [*CONFIG, "--resume", "half.ckpt"],
        "half.ckpt cannot be read as a checkpoint (UnpicklingError); expected a .ckpt file of a run, written "
        "completely; use another checkpoint, or start again without --resume",
    ),
    ([*CONFIG, "steps=0"], "steps is 0; expected at least 1; set steps=12"),
    (
        [*CONFIG, "name="],
        "name is ''; expected a name for the folder of runs, with a letter or digit; set name=...",
    ),
    (
        [*CONFIG, "exp_root_dir=/proc/x"],
        "the run folder /proc/x/toy/a_red_cube cannot be written (No such file or directory); expected a folder that "
        "can be made and written, with room for 17 MB; make room, or set exp_root_dir to another folder",
    ),
    (
        [*CONFIG, "exp_root_dir=broken.yaml"],
        "the run folder broken.yaml/toy/a_red_cube cannot be written (Not a directory); expected a folder that "
        "can be made and written, with room for 17 MB; make room, or set exp_root_dir to another folder",
    ),
    (
        [*CONFIG, "tag="],
        "tag is empty and use_timestamp is false; expected a name for the run folder; set tag=..., "
        "or use_timestamp=true",
    ),
]


@pytest.mark.parametrize(
    ("argv", "message"), MESSAGES, ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else ""
)
def test_message(argv, message, capfd, tmp_path):
    assert main(argv) == 2
    assert capfd.readouterr().err == f"error: {message.replace('{above}', str(tmp_path.parent))}\n"
    assert not (tmp_path / "outputs").exists()


def test_names_that_nothing_is_registered_under(capfd):
    assert main([*CONFIG, "system_type=toy-sytem"]) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: system_type: nothing is registered under 'toy-sytem'; expected one of: ")
    assert error.endswith("; did you mean 'toy-system'?\n")
    assert main(["--config", "empty.yaml"]) == 2
    assert capfd.readouterr().err == (
        "error: the config does not set data_type and system_type; expected a whole experiment; "
        "start from configs/ssd-gs.yaml: copy it, or include it\n"
    )
