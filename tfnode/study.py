"""Models by seeds, with mean and spread: `python -m tfnode.study configs/study.py --out=DIR`.

Every model and seed is an experiment in a process and a run directory of its own,
`DIR/runs/MODEL-SEED`. Called again, finished runs stay, interrupted runs are resumed, and the
figures and tables are made again from the files. An experiment that fails is reported and stops
no other. TensorFlow is loaded by those processes alone.
"""

import pathlib
import sys
from collections.abc import Sequence

from tfnode.lab import command_line
from tfnode.lab.study import Study
from tfnode.runs.errors import OtherSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    It is 2 for a bad config, and 1 if an experiment failed.
    """
    parser = command_line.parser("study", __doc__)
    parser.add_argument(
        "--jobs", type=command_line.at_least(1), default=1, help="processes at the same time"
    )
    options = command_line.parse_experiments(parser, arguments, "configs/study.py")
    study = None
    try:
        study = Study(options.config, pathlib.Path(options.out), options.data_dir)
        with study.open():
            failures = study.train(options.jobs)
            for path in study.write_results(failures):
                print(f"wrote {path}")
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2 if study is None or isinstance(error, OtherSettings) else 1
    except KeyboardInterrupt:
        return 130
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
