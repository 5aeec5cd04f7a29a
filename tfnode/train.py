"""Trains a model: `python train.py --model=ode`, or without a clone `tfnode train --model=ode`."""

import shlex
import sys
from collections.abc import Sequence

from tfnode.data import folder
from tfnode.lab import command_line, config_file, flags
from tfnode.runs.errors import Interrupted, TrainingError


def main(arguments: Sequence[str] | None = None, prog: str = "train.py") -> int:
    """Run the experiment that the flags describe and return the exit status.

    Args:
        arguments: The command line; `None` for that of the process.
        prog: The name of the program, for messages.
    """
    options = flags.parse(arguments, config_file.FOLDER, __doc__, prog)
    try:
        folder.check(options.data_dir, options.settings.chosen_data)
        # TensorFlow is loaded here, once the arguments are checked.
        with command_line.quiet_import(not options.debug):
            from tfnode.lab import experiment

        experiment.run(
            options.settings,
            log_dir=options.log_dir,
            data_dir=options.data_dir,
            resume=options.resume,
            overwrite=options.overwrite,
        )
    except Interrupted as error:
        command = prog if prog.startswith("tfnode") else f"python {prog}"
        resume = shlex.join([*command.split(), "--resume", f"--log_dir={error.directory}"])
        print(f"To go on: {resume}")
        return 128 + error.signal
    except KeyboardInterrupt:
        return 130
    # TensorFlow's and Keras's errors have no common base: no memory, no space left.
    except Exception as error:
        if options.debug:
            raise
        message = str(error)
        if not isinstance(error, (ValueError, OSError, TrainingError)):
            text = " ".join(message.split())[:500]
            message = f"{type(error).__name__}: {text} (--debug shows where)"
        print(f"{prog}: {message}", file=sys.stderr)
        return 1
    return 0
