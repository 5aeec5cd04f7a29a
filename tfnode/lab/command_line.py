"""Parts of the command lines of several commands."""

import argparse
import os
import pathlib
import signal
import sys
from collections.abc import Callable

DRIVER = pathlib.Path("/proc/driver/nvidia/version")


def quiet() -> None:
    """Hide TensorFlow's log, if the environment does not say otherwise; call it before importing.

    Errors of the log are shown where there is an NVIDIA driver. Without one they are about its
    absence. Errors that matter are exceptions, too.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if DRIVER.exists() else "3")


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


def at_least(lowest: int) -> Callable[[str], int]:
    """Return the type of an argument that is an integer from `lowest` to the largest seed."""

    def integer(text: str) -> int:
        if not text.isdecimal() or not lowest <= int(text) < 2**31:
            raise argparse.ArgumentTypeError(
                f"expected an integer of at least {lowest}. Received: {text}"
            )
        return int(text)

    return integer


def exit_on_sigterm() -> None:
    """Have SIGTERM raise `SystemExit`, so that this process stops those that it started."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
