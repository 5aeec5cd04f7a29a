"""The classes that a trained model sees in an image: `python -m tfnode.classify RUN_DIR IMAGE`.

Uses the best model of the run by validation (best.keras), else the final one (model.keras). The
image is made as those were that the model was trained on: grey, white on black, cropped, scaled
and centred, unless it has the size of the model. What was done is printed. The border of the image
tells whether it is black on white; --invert and --noinvert say so.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from PIL import Image

from tfnode.files.whole import replacing
from tfnode.runs.errors import RunError
from tfnode.serving.classify import classify

SHOWN = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tfnode.classify", description=__doc__)
    parser.add_argument("run", metavar="RUN_DIR", help="run directory of a trained model")
    parser.add_argument("image", metavar="IMAGE", help="image file: PNG, JPEG, ...")
    polarity = parser.add_mutually_exclusive_group()
    polarity.add_argument(
        "--invert", action="store_const", const=True, help="the image is black on white"
    )
    polarity.add_argument(
        "--noinvert",
        action="store_const",
        const=False,
        dest="invert",
        help="the image is white on black",
    )
    parser.add_argument("--show", metavar="PNG", help="file for a picture of what the model sees")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)
    try:
        probabilities, prepared = classify(options.run, options.image, invert=options.invert)
        if options.show:
            with replacing(options.show) as temporary:
                Image.fromarray(prepared.pixels).save(temporary, format="PNG")
    except (RunError, OSError) as error:
        if options.debug:
            raise
        print(f"classify: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(f"image: {'; '.join(prepared.steps) or 'as it is'}")
    if options.show:
        print(f"wrote {options.show}")
    for label in np.argsort(-probabilities, kind="stable")[:SHOWN]:
        print(f"{label}  {100 * probabilities[label]:6.2f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
