"""`train.py` in this process, which is quicker than to start it."""

import contextlib
import importlib.util
import io
import pathlib

import tfnode
from tfnode.lab import config_file, flags

ROOT = pathlib.Path(tfnode.__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
MODELS = config_file.experiments(CONFIGS)

_spec = importlib.util.spec_from_file_location("tfnode_train", ROOT / "train.py")
TRAIN = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(TRAIN)


def run(arguments, main=False):
    """Parses the flags, or calls `main` where that is asked for.

    Returns:
        The status, the text written to stderr, and the options; `None` without them.
    """
    messages, options, status = io.StringIO(), None, 0
    with contextlib.redirect_stderr(messages):
        try:
            if main:
                status = TRAIN.main(arguments)
            else:
                options = flags.parse(arguments, CONFIGS, "")
        except SystemExit as error:
            status = error.code
    return status, messages.getvalue(), options
