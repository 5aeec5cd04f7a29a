"""Settings chosen on a validation split: `python -m tfnode.tune configs/tune.py --out=DIR`.

Optuna proposes settings. Each trial is an experiment in a process and a run directory of its own,
`DIR/runs/trial-N`. Trials that fall behind the median at the same epoch are stopped. They are
judged by their accuracy on a part of the training set; the test set has no part. Called again,
the search goes on where it was. TensorFlow is loaded by those processes alone.
"""

import pathlib
import sys
from collections.abc import Sequence

from tfnode.lab import command_line
from tfnode.lab.search_space import read_config
from tfnode.lab.tune import Search
from tfnode.runs.errors import OtherSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status, 2 for a bad config."""
    parser = command_line.parser("tune", __doc__)
    options = command_line.parse_experiments(parser, arguments, "configs/tune.py")
    space = None
    try:
        space = read_config(options.config)
        search = Search(space, pathlib.Path(options.out), options.data_dir)
        with search.open():
            search.run()
            for path in search.write_results():
                print(f"wrote {path}")
    except ImportError as error:
        if error.name != "optuna":
            raise
        print(f"{parser.prog}: Optuna is missing: pip install -e '.[tuning]'", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2 if space is None or isinstance(error, OtherSettings) else 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
