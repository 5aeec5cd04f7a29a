"""A model to serve: `python -m tfnode.export RUN_DIR --format=saved_model|onnx|tflite`.

Writes the best model of the run by validation (best.keras), else the final one (model.keras), as
an artefact that needs neither tfnode nor Keras. The artefact takes batches of any size. It is
kept only if its predictions are the model's.
"""

import argparse
import sys
from collections.abc import Sequence

from tfnode.runs.contents import EXPORTS
from tfnode.runs.errors import RunError
from tfnode.serving.export import export


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tfnode.export", description=__doc__)
    parser.add_argument("run", metavar="RUN_DIR", help="run directory of a trained model")
    parser.add_argument("--format", required=True, choices=EXPORTS, help="format to write")
    parser.add_argument(
        "--out",
        metavar="PATH",
        help="file or, for saved_model, folder to write; by default in RUN_DIR: "
        + ", ".join(EXPORTS.values()),
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an artefact in PATH")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)
    try:
        path, difference = export(
            options.run,
            options.format,
            options.out,
            overwrite=options.overwrite,
            quiet=not options.debug,
        )
    except (RunError, OSError) as error:
        if options.debug:
            raise
        print(f"export: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    checked = "not checked: no runtime for it is installed, see pip install 'tfnode[export]'"
    if difference is not None:
        checked = f"predictions differ from the model's by at most {difference:.1e}"
    print(f"wrote {path} ({checked})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
