"""Every command of tfnode: `tfnode COMMAND ...`, or `python -m tfnode COMMAND ...`.

train      trains a model
study      trains models by seeds
tune       searches settings
report     compares runs
export     writes a trained model for other programs
classify   classifies an image file
reproduce  runs a published experiment
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from tfnode.lab.command_line import suggestion

COMMANDS = ("train", "study", "tune", "report", "export", "classify", "reproduce")
# The modules of `tfnode.reproduce` that are commands.
TOPICS = (
    *("augmentation", "batch_norm", "densities", "hare_lynx", "regularization"),
    *("series", "spirals", "step_numbers", "utterance", "vector_field"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    command, rest = _choose("tfnode", __doc__, COMMANDS, arguments)
    if command == "train":
        return importlib.import_module("tfnode.train").main(rest, "tfnode train")
    if command == "reproduce":
        text = "A published experiment, with its figures and table."
        topic, rest = _choose("tfnode reproduce", text, TOPICS, rest)
        command = f"reproduce.{topic}"
    return importlib.import_module(f"tfnode.{command}").main(rest)


def _choose(
    prog: str, description: str | None, names: Sequence[str], arguments: Sequence[str] | None
) -> tuple[str, list[str]]:
    """Return the first argument, one of `names`, and those after it."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=f"{prog} COMMAND --help shows the flags of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", metavar="COMMAND", nargs="?", help=", ".join(names))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the command")
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        parser.print_help(sys.stderr)
        sys.exit(2)
    if chosen.command not in names:
        hint = suggestion(chosen.command, names)
        parser.error(f"expected one of {', '.join(names)}. Received: {chosen.command}.{hint}")
    return chosen.command, chosen.arguments


if __name__ == "__main__":
    sys.exit(main())
