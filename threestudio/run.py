"""The command line: ``launch.py --config X --train|--validate|--test|--export|--run NAME``, then dotted overrides."""

import argparse
import atexit
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from threestudio import log, progress
from threestudio.errors import CheckpointError, ConfigError, InterruptedRun, chain_of, is_user_error, one_line
from threestudio.plugins import load_plugins, plugin_names
from threestudio.registry import EARLY_CHECKS, did_you_mean
from threestudio.run_folder import CONFIG_OF_RUN, NAMES_A_FOLDER, folder_of_run, set_run_folder
from threestudio.signals import stopping
from threestudio.streams import lasting_streams

PROGRAM = "ssd-edit" if Path(sys.argv[0]).stem == "ssd-edit" else "launch.py"
"""What the user called: the script of an install, or the file of a checkout."""
DONE, OUR_BUG, USER_INPUT, STOPPED = 0, 1, 2, 128
"""Exit codes; a run that was stopped by a signal ends with ``STOPPED`` and its number, 130 for Ctrl-C."""

EPILOG = """\
overrides are dotted keys: steps=500 system.guidance.score.enhance_weight=3
exit codes: 0 done; 1 a bug of ours; 2 something in the input; 3 it ran, but there is no usable result; 4 the result is
elsewhere, since its folder cannot be written; 130 Ctrl-C; 143 SIGTERM; 128 + n any other signal n that stops a run
"""
LIST_APPS = ""
"""What ``--run`` holds when no name follows it."""


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing a usage text, so that a mistake costs one line."""

    def error(self, message: str) -> None:
        raise ConfigError(what=message, expected=f"the options that {PROGRAM} --help lists", fix="correct the command")


def build_parser() -> argparse.ArgumentParser:
    """The options of ``launch.py``."""
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} --config X [--train | --validate | --test | --export | --run NAME] [options] [key=value ...]",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this; after --run NAME: the app's keys")
    parser.add_argument("--config", metavar="X", help="the experiment, a YAML file, or a shipped one's name")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--train", action="store_true", help="train, then test, then export (the default)")
    mode.add_argument("--validate", action="store_true", help="validate a checkpoint")
    mode.add_argument("--test", action="store_true", help="test a checkpoint: render, measure, report")
    mode.add_argument("--export", action="store_true", help="write the result of a checkpoint")
    mode.add_argument("--run", nargs="?", const=LIST_APPS, metavar="NAME", help="start an app; no name lists them")
    parser.add_argument(
        "--resume", metavar="PATH|auto",
        help="go on from a checkpoint or a run folder, without --config with its own; auto: the run folder's last",
    )  # fmt: skip
    parser.add_argument(
        "--gpu", nargs="?", const="0", metavar="IDS", help="GPUs to use, as 0 or 0,1 (default: the first, if any)"
    )
    parser.add_argument("--device", metavar="NAME", help="cuda (ROCm too), mps or cpu (default: cuda if any)")
    parser.add_argument("--progress", choices=["bar", "json"], help="json: a JSON object a line, for other programs")
    parser.add_argument("--verbose", action="store_true", help="show detail, and tracebacks of errors in the input")
    return parser


def parse_arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options and the overrides.

    Raises:
        ConfigError: For an option that does not exist or does not fit.
    """
    parser = build_parser()
    args, rest = parser.parse_known_args(list(argv))
    overrides = []
    if args.gpu is not None and "=" in args.gpu:
        overrides, args.gpu = [args.gpu], "0"
    for text in rest:
        if text.startswith("-"):
            options = [option for action in parser._actions for option in action.option_strings]
            near = did_you_mean(text.split("=")[0], options)
            expected, fix = f"one of: {', '.join(options)}", f"did you mean {near}?" if near else "remove it"
            raise ConfigError(what=f"{text} is not an option", expected=expected, fix=fix)
        overrides.append(text)
    return args, overrides


def command() -> None:
    """The program: ``python launch.py`` in a checkout, ``ssd-edit`` in an install; ends with the exit code."""
    # Waiting threads sleep, but not at once: spinning ones fight with any other busy process for the cores, and ones
    # that sleep immediately are slow to wake on an idle machine (docs/embedded-models.md). torch reads it when loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    code = OUR_BUG

    def leave() -> None:
        # To take the objects of a process apart takes seconds with torch loaded, and nothing waits for that. Threads
        # were waited for, files are closed, and whatever registered after this had its turn.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # nobody reads it any more; it is closed; there is none
                stream.flush()
        os._exit(code)

    atexit.register(leave)
    code = main()
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Returns:
        The exit code: 0 done, 1 a bug of ours, 2 the user's input, 3 no usable result, 4 a result that is elsewhere,
        128 + n stopped by signal n. A process that helps another one leaves it to that to say how the run ended, and
        ends with 0, unless it met a bug.
    """
    argv = sys.argv[1:] if argv is None else argv
    code = OUR_BUG
    with lasting_streams():
        if "--progress=json" in argv or ("--progress", "json") in pairwise(argv):  # also for what cannot be parsed
            progress.use_json()
        try:
            with stopping():
                code = _main(argv)
        except InterruptedRun as stop:  # it came while another was answered
            code = _interrupted(stop)
        finally:
            progress.finish(code)
    return code if code == OUR_BUG or log.is_first_process() else DONE


def _main(argv: Sequence[str]) -> int:
    try:
        args, overrides = parse_arguments(argv)
        log.show_messages(args.verbose)
        if not args.verbose:
            quiet_libraries()
        return dispatch(args, overrides)
    except (KeyboardInterrupt, InterruptedRun) as stop:
        return _interrupted(stop)
    except Exception as error:
        stop = _interruption(error)
        if stop is not None:
            return _interrupted(stop)
        return _failed(error, "--verbose" in argv)


def _failed(error: Exception, is_verbose: bool) -> int:
    """Say what is wrong; returns the exit code."""
    if not is_user_error(error):
        progress.event("error", kind="bug", what=f"{type(error).__name__}: {error}")
        traceback.print_exception(error)
        return OUR_BUG
    if is_verbose:
        traceback.print_exception(error)
    texts = {name: getattr(error, name) for name in ("what", "expected", "fix")}
    progress.event("error", kind="input", **texts)
    if log.is_first_process():
        sys.stderr.write(one_line(error) + "\n")
    return USER_INPUT


def _interrupted(stop: BaseException) -> int:
    """Say how to go on after Ctrl-C or another signal; returns the exit code."""
    saved = getattr(stop, "checkpoint", None)
    how = f"go on with --resume {shlex.quote(str(saved))}" if saved else None
    how = "the same command goes on from here" if getattr(stop, "is_kept", False) else how
    progress.event("error", kind="interrupted", what="interrupted", fix=how or "start again", checkpoint=saved)
    if log.is_first_process():
        sys.stderr.write(f"interrupted; {how}\n" if how else "interrupted before there was a checkpoint\n")
    return STOPPED + getattr(stop, "signum", signal.SIGINT)


def _interruption(error: BaseException) -> BaseException | None:
    """The signal that an error came of: a library that was stopped in its midst may raise something else instead."""
    return next((each for each in chain_of(error) if isinstance(each, KeyboardInterrupt | InterruptedRun)), None)


def dispatch(args: argparse.Namespace, overrides: list[str]) -> int:
    """Load plugins and config, then train, test, export or start an app; returns the exit code."""
    if args.gpu is not None:
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        os.environ["CUDA_VISIBLE_DEVICES"] = args.gpu
    if args.help and not args.run:
        sys.stdout.write(build_parser().format_help())
    load_plugins()
    if args.help or args.run == LIST_APPS:
        return _help(args)
    if args.run is not None:
        return _run_app(args, overrides)
    run_dir = None
    if args.config is None:
        run_dir = _resumed_folder(args.resume)
        args.config = str(run_dir / CONFIG_OF_RUN)
    cfg = _load(args, overrides)
    if run_dir is not None and not any(text.partition("=")[0] in NAMES_A_FOLDER for text in overrides):
        set_run_folder(cfg, run_dir)
    _use_device(args)
    from threestudio.trainer import run_experiment

    stages = [name for name in ("validate", "test", "export") if getattr(args, name)]
    return run_experiment(cfg, stages or ["train", "test", "export"])


def _use_device(args: argparse.Namespace) -> None:
    """Work on the device that the command line asks for, if it does; ``--gpu`` is one of CUDA."""
    if args.gpu is not None and args.device not in (None, "cuda"):
        fix = "leave one of them out"
        raise ConfigError(what=f"--gpu with --device {args.device}", expected="--gpu with --device cuda", fix=fix)
    if args.gpu is not None or args.device is not None:
        from threestudio.utils.misc import use_device

        use_device(args.device or "cuda", is_usual=True)


def _resumed_folder(resume: str | None) -> Path:
    """The run folder whose own config is meant where ``--config`` is left out.

    Raises:
        ConfigError: If there is neither a config nor a run to go on with.
        CheckpointError: If the run is not there, or does not hold its config.
    """
    if resume is None:
        raise _no_config("--config is missing", "add --config configs/<name>.yaml")
    if resume == "auto":
        raise _no_config("--resume auto does not say which run is meant", "add --config, or write --resume RUN_FOLDER")
    run_dir = folder_of_run(resume)
    if not (run_dir / CONFIG_OF_RUN).is_file():
        there = f"{run_dir} holds no {CONFIG_OF_RUN}" if Path(resume).exists() else "there is nothing there"
        what = f"--resume {resume}: {there}"
        expected = "the folder of a run, or a checkpoint in its ckpts"
        raise CheckpointError(what=what, expected=expected, fix="check the path, or add --config")
    return run_dir


def _no_config(what: str, fix: str) -> ConfigError:
    return ConfigError(what=what, expected="--config and a YAML file", fix=fix)


def _help(args: argparse.Namespace) -> int:
    from threestudio import apps

    sys.stdout.write(f"{apps.app_help(args.run)}\n" if args.run else f"\napps, for --run NAME:\n{apps.list_apps()}\n")
    return DONE


def _run_app(args: argparse.Namespace, overrides: list[str]) -> int:
    from threestudio import apps

    app = apps.find_app(args.run)
    args.config = args.config or apps.usual_config(app)
    if args.config is None and apps.needs_config(app):
        raise _no_config(f"--run {args.run} needs --config", "add --config")
    keys = _top_keys(args.config) if args.config is not None else None
    of_experiment, of_app = apps.split_overrides(args.run, overrides, keys)
    read = _words if getattr(app, "takes_words", False) else _load
    cfg = read(args, of_experiment) if args.config is not None else None
    if not getattr(app, "takes_words", False):
        _use_device(args)
    try:
        return apps.start(args.run, cfg, of_app)
    except BaseException as error:
        stop = _interruption(error)
        if stop is None:
            raise
        is_kept = getattr(app, "is_resumable", False)
        signum = getattr(stop, "signum", signal.SIGINT)
        raise InterruptedRun(getattr(stop, "checkpoint", None), is_kept=is_kept, signum=signum) from stop


def _top_keys(config: str) -> dict[str, bool]:
    """The keys at the top of an experiment, its own and the words of its file, and whether each is a group."""
    from omegaconf import OmegaConf

    from threestudio.utils.config import ExperimentConfig
    from threestudio.utils.config_files import read_file
    from threestudio.utils.config_strict import field_hints

    tree = read_file(config)
    words = {str(key): OmegaConf.is_dict(tree._get_node(key)) for key in tree}
    return words | {key: hint is dict for key, hint in field_hints(ExperimentConfig).items()}


def _words(args: argparse.Namespace, overrides: list[str]):
    from threestudio.apps import Words

    resume = [f"resume={args.resume}"] if args.resume is not None else []
    return Words(args.config, (*overrides, *resume), args.gpu)


def _load(args: argparse.Namespace, overrides: list[str]):
    return load_checked(*_words(args, overrides))


def load_checked(config: str, overrides: Sequence[str], gpu: str | None = None):
    """The complete experiment of a command line, its files looked for before anything heavy is imported.

    Args:
        config: The file.
        overrides: ``key=value`` texts.
        gpu: What ``--gpu`` names.

    Raises:
        ConfigError: For anything in it that cannot be used.
    """
    from threestudio.utils.config import config_to_primitive, load_config
    from threestudio.utils.config_tree import complete
    from threestudio.utils.places import folders_of

    cfg = load_config(config, cli_args=overrides, n_gpus=len(gpu.split(",")) if gpu is not None else 1)
    looked_in = [str(folder) for folder in folders_of([config])]
    for check in EARLY_CHECKS.values():
        check({**config_to_primitive(cfg), "looked_in": looked_in})
    return complete(cfg)


def quiet_libraries() -> None:
    """Silence what libraries say on their own account, before they are imported; warnings of ours are logged."""
    warnings.showwarning = show_own_warning
    levels = {"TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error", "OPENCV_LOG_LEVEL": "ERROR"}
    levels["HF_HUB_VERBOSITY"] = "error"
    switches = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    for name, value in (levels | switches).items():
        os.environ.setdefault(name, value)


def show_own_warning(message: Warning | str, category: type[Warning], *place: object) -> None:
    """Log a warning whose kind the host or a plugin defines; takes what ``warnings.showwarning`` takes."""
    if category.__module__.partition(".")[0] in {"threestudio", *plugin_names()}:
        log.warn("%s", message)
