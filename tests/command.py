"""`train.py` in this process, which is quicker than to start it."""

import contextlib
import copy
import importlib.util
import io
import pathlib
import sys
from unittest import mock

import tfnode

ROOT = pathlib.Path(tfnode.__file__).resolve().parents[1]


def _load():
    """The module without running it, and its flags as they are before any are parsed."""
    spec = importlib.util.spec_from_file_location("tfnode_train", ROOT / "train.py")
    module = importlib.util.module_from_spec(spec)
    with mock.patch.object(sys, "path", [str(ROOT), *sys.path]):
        spec.loader.exec_module(module)
    return module, module.FLAGS


TRAIN, FLAGS = _load()


def run(arguments, main=False):
    """Parses the flags, and calls `main` where that is asked for.

    Returns:
        The status, what was written to stderr, and the flags.
    """
    arguments = ["train.py", *arguments]
    flags = copy.deepcopy(FLAGS)
    messages = io.StringIO()
    status = 0
    with (
        mock.patch.object(TRAIN, "FLAGS", flags),
        mock.patch.object(sys, "argv", arguments),  # Where ml_collections looks.
        mock.patch.object(sys, "path", [str(ROOT), *sys.path]),
        contextlib.redirect_stderr(messages),
    ):
        try:
            rest = TRAIN.parse(arguments)
            if main:
                TRAIN.main(rest)
        except SystemExit as error:
            status = error.code
    return status, messages.getvalue(), flags
