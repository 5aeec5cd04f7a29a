"""Parts of the command lines of several commands."""

import argparse
import contextlib
import difflib
import os
import pathlib
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

DRIVER = pathlib.Path("/proc/driver/nvidia/version")


@contextlib.contextmanager
def quiet_import(hide: bool = True) -> Iterator[None]:
    """Hide what TensorFlow's libraries print while they are imported within the context.

    Later messages are hidden by TensorFlow's own variable, if the environment does not set it.
    With an NVIDIA driver errors are shown; without one they are about its absence. An exception
    in the context shows everything.
    """
    if not hide:
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if DRIVER.exists() else "3")
    with tempfile.TemporaryFile() as log:
        try:
            with redirected(log, 2):
                yield
        except BaseException:
            log.seek(0)
            os.write(2, log.read())
            raise


@contextlib.contextmanager
def redirected(file: IO[Any], *numbers: int) -> Iterator[None]:
    """Have file descriptors of this process lead to a file; libraries in C++ write to them, too."""
    saved = {number: os.dup(number) for number in numbers}
    try:
        _flush(numbers)
        for number in numbers:
            os.dup2(file.fileno(), number)
        yield
    finally:
        _flush(numbers)
        for number, descriptor in saved.items():
            os.dup2(descriptor, number)
            os.close(descriptor)


def _flush(numbers: Sequence[int]) -> None:
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        if number in numbers:
            stream.flush()


def parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser for `python -m tfnode.<module>`, with the text of a docstring."""
    return argparse.ArgumentParser(
        prog=f"python -m tfnode.{module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def folder(text: str) -> str:
    """Return the path of a folder, the type of an argument; the empty text is an error."""
    if not text:
        raise argparse.ArgumentTypeError("expected the path of a folder. Received: nothing")
    return text


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """Return the type of an argument that is one of some names."""

    def name(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(
                f"expected one of {', '.join(names)}. Received: {text}.{suggestion(text, names)}"
            )
        return text

    return name


def suggestion(given: str, names: Sequence[str]) -> str:
    """Return the question whether the most similar of some names was meant, or nothing."""
    near = difflib.get_close_matches(given, names, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def at_least(lowest: int) -> Callable[[str], int]:
    """Return the type of an argument that is an integer from `lowest` to the largest seed."""

    def integer(text: str) -> int:
        if not text.isdecimal() or not lowest <= int(text) < 2**31:
            raise argparse.ArgumentTypeError(
                f"expected an integer of at least {lowest}. Received: {text}"
            )
        return int(text)

    return integer


def parse_experiments(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, example: str
) -> argparse.Namespace:
    """Return the arguments of a command that runs experiments; SIGTERM ends it and its workers.

    Args:
        parser: The parser of the command, to which `config`, `--out` and `--data_dir` are added.
        arguments: The command line; `None` for that of the process.
        example: A config file that the command takes.
    """
    parser.add_argument("config", help=f"file such as {example}")
    parser.add_argument(
        "--out", type=folder, required=True, metavar="DIR", help="folder for runs and results"
    )
    parser.add_argument("--data_dir", help="folder of mnist.npz")
    options = parser.parse_args(arguments)
    # As an exception, so that this process stops those that it started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    return options
