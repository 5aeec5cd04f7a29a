"""The origin of numbers, to be written beside them."""

import importlib.metadata
import pathlib
import platform
import subprocess
import time
from typing import Any

from tfnode import __version__

PACKAGES = ("tensorflow", "keras", "tensorflow-probability", "numpy")


def provenance(device: str) -> dict[str, Any]:
    """Return the code, the versions, the device and the time, for a JSON file.

    Args:
        device: The result of `tfnode.lab.devices.use_devices`.
    """
    return {
        "device": device,
        "git_commit": git_commit(),
        "versions": {
            "tfnode": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def git_commit() -> str | None:
    """Return the commit of this code, marked if files differ from it; `None` outside of git."""
    command = ["git", "-C", str(pathlib.Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        result = subprocess.run(
            [*command, "--abbrev=40", "--exclude=*"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
