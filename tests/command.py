"""Commands: `train.py` in this process, which is quicker, and any in one of its own."""

import contextlib
import importlib.util
import io
import os
import pathlib
import subprocess
import sys

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


def start(*arguments, cwd=ROOT):
    """Runs Python in a process of its own.

    Returns:
        The status, the text written to stderr, the packages that were imported, and the text
        written to stdout.
    """
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    lines = done.stderr.splitlines()
    imports = [line for line in lines if line.startswith("import time:")]
    messages = "\n".join(line for line in lines if not line.startswith("import time:"))
    packages = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in imports}
    return done.returncode, messages, packages, done.stdout
