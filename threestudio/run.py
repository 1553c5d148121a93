"""The command line: ``launch.py --config X --train|--validate|--test|--export|--run NAME``, then dotted overrides."""

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from threestudio import log
from threestudio.errors import ConfigError, InterruptedRun, is_user_error, one_line
from threestudio.plugins import load_plugins, plugin_names
from threestudio.registry import EARLY_CHECKS, did_you_mean

DONE, OUR_BUG, USER_INPUT, INTERRUPTED = 0, 1, 2, 130

EPILOG = """\
overrides are dotted keys: steps=500 system.guidance.score.enhance_weight=3
exit codes: 0 done; 1 a bug of ours; 2 something in the input; 3 it ran, but there is no usable result; 130 interrupted
"""
LIST_APPS = ""
"""What ``--run`` holds when no name follows it."""


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing a usage text, so that a mistake costs one line."""

    def error(self, message: str) -> None:
        raise ConfigError(what=message, expected="the options that launch.py --help lists", fix="correct the command")


def build_parser() -> argparse.ArgumentParser:
    """The options of ``launch.py``."""
    parser = _Parser(
        prog="launch.py",
        usage="launch.py --config X [--train | --validate | --test | --export | --run NAME] [options] [key=value ...]",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this; after --run NAME: the app's keys")
    parser.add_argument("--config", metavar="X", help="the experiment, a YAML file")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--train", action="store_true", help="train, then test, then export (the default)")
    mode.add_argument("--validate", action="store_true", help="validate a checkpoint")
    mode.add_argument("--test", action="store_true", help="test a checkpoint: render, measure, report")
    mode.add_argument("--export", action="store_true", help="write the result of a checkpoint")
    mode.add_argument("--run", nargs="?", const=LIST_APPS, metavar="NAME", help="start an app; no name lists them")
    parser.add_argument("--resume", metavar="PATH|auto", help="go on from a checkpoint; auto: the run folder's last")
    parser.add_argument(
        "--gpu", nargs="?", const="0", metavar="IDS", help="GPUs to use, as 0 or 0,1 (default: the first, if any)"
    )
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


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Returns:
        The exit code: 0 done, 1 a bug of ours, 2 the user's input, 3 no usable result, 130 interrupted.
    """
    is_verbose = "--verbose" in (sys.argv[1:] if argv is None else argv)
    try:
        args, overrides = parse_arguments(sys.argv[1:] if argv is None else argv)
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
        if is_user_error(error):
            if is_verbose:
                traceback.print_exc()
            sys.stderr.write(one_line(error) + "\n")
            return USER_INPUT
        traceback.print_exc()
        return OUR_BUG


def _interrupted(stop: BaseException) -> int:
    """Say how to go on after Ctrl-C; returns the exit code."""
    saved = getattr(stop, "checkpoint", None)
    how = f"go on with --resume {saved}" if saved else None
    how = "the same command goes on from here" if getattr(stop, "is_kept", False) else how
    sys.stderr.write(f"interrupted; {how}\n" if how else "interrupted before there was a checkpoint\n")
    return INTERRUPTED


def _interruption(error: BaseException | None) -> BaseException | None:
    """The Ctrl-C that an error came of: a library that was stopped in its midst may raise something else instead."""
    while error is not None and not isinstance(error, KeyboardInterrupt | InterruptedRun):
        error = error.__cause__ or error.__context__
    return error


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
    if args.config is None:
        raise _no_config("--config is missing", "add --config configs/<name>.yaml")
    cfg = _load(args, overrides)
    from threestudio.trainer import run_experiment

    stages = [name for name in ("validate", "test", "export") if getattr(args, name)]
    return run_experiment(cfg, stages or ["train", "test", "export"], wants_gpu=args.gpu is not None)


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
    cfg = _load(args, of_experiment) if args.config is not None else None
    try:
        return apps.start(args.run, cfg, of_app)
    except BaseException as error:
        stop = _interruption(error)
        if stop is None:
            raise
        is_kept = getattr(app, "is_resumable", False)
        raise InterruptedRun(getattr(stop, "checkpoint", None), is_kept=is_kept) from stop


def _top_keys(config: str) -> dict[str, bool]:
    """The keys at the top of an experiment, its own and the words of its file, and whether each is a group."""
    from omegaconf import OmegaConf

    from threestudio.utils.config import ExperimentConfig
    from threestudio.utils.config_files import read_file
    from threestudio.utils.config_strict import field_hints

    tree = read_file(config)
    words = {str(key): OmegaConf.is_dict(tree._get_node(key)) for key in tree}
    return words | {key: hint is dict for key, hint in field_hints(ExperimentConfig).items()}


def _load(args: argparse.Namespace, overrides: list[str]):
    from threestudio.utils.config import config_to_primitive, load_config
    from threestudio.utils.config_tree import complete
    from threestudio.utils.places import folders_of

    if args.resume is not None:
        overrides = [*overrides, f"resume={args.resume}"]
    n_gpus = len(args.gpu.split(",")) if args.gpu is not None else 1
    cfg = load_config(args.config, cli_args=overrides, n_gpus=n_gpus)
    looked_in = [str(folder) for folder in folders_of([args.config])]
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
