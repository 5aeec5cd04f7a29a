"""The classes that a trained model sees in an image: `python -m tfnode.classify RUN_DIR IMAGE`.

Uses the best model of the run by validation (best.keras), else the final one (model.keras). The
image is made grey, scaled to the size that the model takes, and normalised as the training data
are. They are white on black, so give --invert for black on white.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from tfnode.lab.command_line import quiet
from tfnode.runs.errors import RunError
from tfnode.serving.classify import classify

SHOWN = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tfnode.classify", description=__doc__)
    parser.add_argument("run", metavar="RUN_DIR", help="run directory of a trained model")
    parser.add_argument("image", metavar="IMAGE", help="image file: PNG, JPEG, ...")
    parser.add_argument("--invert", action="store_true", help="the image is black on white")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)
    if not options.debug:
        quiet()
    try:
        probabilities = classify(options.run, options.image, invert=options.invert)
    except (RunError, OSError) as error:
        if options.debug:
            raise
        print(f"classify: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    for label in np.argsort(-probabilities, kind="stable")[:SHOWN]:
        print(f"{label}  {100 * probabilities[label]:6.2f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
