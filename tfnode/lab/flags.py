"""The command line of `train.py`, made from the settings."""

import argparse
import difflib
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from tfnode.lab import command_line, config_file
from tfnode.lab.cluster import cluster
from tfnode.lab.settings import Settings, rules_for
from tfnode.runs import contents, run_dir
from tfnode.runs.errors import OtherSettings, RunError
from tfnode.runs.record import check_resume, flat, read_record

# Settings that have a flag of their own beside `--config.<name>`.
SHORT = (
    *("dataset", "epochs", "batch_size", "learning_rate"),
    *("seed", "strategy", "precision", "deterministic"),
)


class Options(NamedTuple):
    """The command line, parsed and checked.

    Attributes:
        settings: Those of the experiment; with `resume` those of the run.
        log_dir, data_dir: Paths, or `None`; with `resume` the `data_dir` of the run, by default.
        resume, overwrite, debug: Flags.
    """

    settings: Settings
    log_dir: str | None
    data_dir: str | None
    resume: bool
    overwrite: bool
    debug: bool


def parse(
    arguments: Sequence[str] | None,
    configs: pathlib.Path,
    description: str | None,
    prog: str = "train.py",
) -> Options:
    """Return the command line, with the config file of the model that it names.

    Args:
        arguments: The command line without the name of the program; `None` for that of the
            process.
        configs: The folder of config files, one a model.
        description: The docstring of the program, for `--help`.
        prog: The name of the program, for messages.

    Raises:
        SystemExit: With status 2, if a flag or setting is unknown or has a bad value; with status
            1, if the run directory cannot be used; with status 0 after `--help`.
    """
    models = config_file.experiments(configs)
    try:
        # --config.* can be parsed only once the model is known.
        first = _parser(models, description, prog, add_help=False)
        chosen = first.parse_known_args(arguments)[0]
        settings = _begin(chosen, configs, models)
        parser = _parser(models, description, prog, settings=settings)
        options, unknown = parser.parse_known_args(arguments)
        if unknown:
            raise ValueError(_unknown(unknown[0], settings))
        return _check(options, settings)
    except BrokenPipeError:  # The reader of --help has closed the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except RunError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, OtherSettings) else 1)
    except ValueError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        sys.exit(2)


def _unknown(argument: str, settings: Settings) -> str:
    """Return the message for an argument that no flag takes, with those that are alike."""
    names = rules_for(settings.model.name)
    flags = ["model", "log_dir", "data_dir", *_SWITCHES, *SHORT, *(f"config.{n}" for n in names)]
    given = argument.lstrip("-").split("=")[0]
    near = difflib.get_close_matches(given, flags, n=3, cutoff=0.75)
    last = given.rpartition(".")[2]
    # The name of a setting without those of the sections that it is in.
    near += [f for f in flags if f not in near and last and f.rpartition(".")[2] == last][:3]
    hint = f"Did you mean {' or '.join(f'--{name}' for name in near)}? " if near else ""
    return (
        f"Expected flags of the model {settings.name}. Received: {argument[:200]}. {hint}"
        "--help lists all flags."
    )


_SWITCHES = {
    "resume": "Continue the interrupted run in --log_dir, by default logs/<model>, with its "
    "settings.",
    "overwrite": "Replace the run in --log_dir.",
    "debug": "Show tracebacks.",
}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are `ValueError`s."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message[0].upper() + message[1:])


def _parser(
    models: Sequence[str],
    description: str | None,
    prog: str,
    add_help: bool = True,
    settings: Settings | None = None,
) -> _Parser:
    parser = _Parser(
        prog=prog,
        usage=f"{prog} [--FLAG=VALUE ...] [--config.SETTING=VALUE ...]",
        description=description,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32),
        allow_abbrev=False,
        add_help=add_help,
    )
    parser.add_argument(
        "--model",
        type=command_line.one_of(models),
        metavar="NAME",
        help=f"Model to train, which picks configs/<model>.py: {', '.join(models)}. Default: ode.",
    )
    parser.add_argument(
        "--data_dir",
        type=command_line.folder,
        metavar="DIR",
        help="Folder with mnist.npz. Default: $TFNODE_DATA_DIR, or that of the run to resume.",
    )
    parser.add_argument(
        "--log_dir",
        type=command_line.folder,
        metavar="DIR",
        help="Run directory. Default: logs/<model>, or the next free one.",
    )
    for name, meaning in _SWITCHES.items():
        _add_switch(parser, name, name, meaning, False)
    if settings is not None:
        _add_settings(parser, settings)
    return parser


def _add_settings(parser: argparse.ArgumentParser, settings: Settings) -> None:
    """Add the flags of all settings, those of a section in a group of their own."""
    defaults = flat(settings.to_dict())
    groups: dict[str, Any] = {}
    for name, rule in rules_for(settings.model.name).items():
        section = name.rpartition(".")[0]
        if section not in groups:
            of = f" of {section}" if section else ""
            title = f"settings{of}, by default those of the model {settings.name}"
            groups[section] = parser.add_argument_group(title)
        short = [name] if name in SHORT else []
        default = defaults.get(name, rule.field.default)
        meaning = f"{rule.meaning} Must be {rule.expected}. Default: {default}."
        meaning = meaning.replace("%", "%%")
        for flag in (*short, f"config.{name}"):
            text = meaning if flag == name or not short else f"The same as --{name}."
            # The flag wins, wherever it stands.
            place = f"flag {name}" if flag == name else f"setting {name}"
            group = parser if flag == name else groups[section]
            if rule.choices == (True, False):
                _add_switch(group, flag, place, text, None)
            else:
                group.add_argument(f"--{flag}", dest=place, metavar="VALUE", help=text)


def _add_switch(
    parser: "argparse._ActionsContainer", flag: str, place: str, meaning: str, default: bool | None
) -> None:
    """Add a flag that can be written as `--x`, `--nox`, `--x=true` and `--x=false`."""
    parser.add_argument(
        f"--{flag}",
        dest=place,
        nargs="?",
        const="true",
        default=default,
        metavar="true|false",
        help=meaning,
    )
    parser.add_argument(
        f"--no{flag}", dest=place, action="store_const", const="false", help=argparse.SUPPRESS
    )


def _is_set(chosen: argparse.Namespace, name: str) -> bool:
    text = getattr(chosen, name)
    if text not in (False, "true", "false", "1", "0"):
        raise ValueError(f"{name} must be one of true, false. Received: --{name}={text}")
    return text in ("true", "1")


def _begin(chosen: argparse.Namespace, configs: pathlib.Path, models: Sequence[str]) -> Settings:
    """Return the settings of the model's config file, or with --resume those of the run."""
    model = chosen.model or "ode"
    if not _is_set(chosen, "resume"):
        return config_file.load_settings(configs / f"{model}.py")
    if _is_set(chosen, "overwrite"):
        raise ValueError("Expected one of --resume and --overwrite. Received: both")
    path = pathlib.Path(chosen.log_dir or f"logs/{model}")
    record = read_record(path)
    try:
        settings = Settings.read(record["settings"])
    except ValueError as error:
        raise RunError(
            f"Expected settings of this version of tfnode in {path / contents.CONFIG}. "
            f"Received: {error}"
        ) from error
    if chosen.model and settings.name in models and settings.name != chosen.model:
        raise ValueError(f"Expected --model={settings.name} for {path}. Received: {chosen.model}")
    return settings


def _check(chosen: argparse.Namespace, settings: Settings) -> Options:
    """Return the options, once settings and the run directory are checked."""
    rules = rules_for(settings.model.name)
    changes: dict[str, Any] = {}
    for kind in ("setting", "flag"):
        for name, rule in rules.items():
            text = getattr(chosen, f"{kind} {name}", None)
            if text is not None:
                changes[name] = rule.parse(text) if name != "model.name" else text
    begun = settings
    settings = Settings.read(config_file.override(settings, changes))
    resume, overwrite, debug = (_is_set(chosen, name) for name in _SWITCHES)
    log_dir, data_dir = chosen.log_dir, chosen.data_dir
    if resume:
        log_dir = log_dir or f"logs/{chosen.model or 'ode'}"
        record = {**read_record(log_dir), "settings": begun.to_dict()}
        if isinstance(begun_with := record["dataset"].get("data_dir"), str):
            data_dir = data_dir or begun_with
        check_resume(log_dir, record, settings.to_dict())
    # One of several processes writes there, and may have begun already.
    if settings.strategy != "multi_worker" or cluster().is_chief:
        run_dir.check(log_dir, settings.name, resume=resume, overwrite=overwrite)
    return Options(settings, log_dir, data_dir, resume, overwrite, debug)
