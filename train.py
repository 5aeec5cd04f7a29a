"""Trains a model: `python train.py --model=ode`. See `python train.py --help`."""

import os
import pathlib
import runpy
import sys

from absl import app, flags
from ml_collections import config_flags

ROOT = pathlib.Path(__file__).resolve().parent
# Run as a file, since importing it from the package would load TensorFlow.
SETTING_RULES = runpy.run_path(str(ROOT / "tfnode" / "settings.py"))
RUN_DIR = runpy.run_path(str(ROOT / "tfnode" / "run_dir.py"))
DATA_FOLDER = runpy.run_path(str(ROOT / "tfnode" / "data" / "folder.py"))
MODELS = ("ode", "ode_tuned", "resnet", "anode", "node", "rnode", "latent_ode", "rnn")
# Flags that stand for a setting of the same name.
SETTINGS = (
    "dataset",
    "epochs",
    "batch_size",
    "learning_rate",
    "seed",
    "strategy",
    "precision",
    "deterministic",
)

flags.DEFINE_enum("model", "ode", MODELS, "What to train: picks configs/<model>.py.")
flags.DEFINE_enum(
    "dataset",
    None,
    ("auto", "mnist", "digits", "spirals"),
    "auto is MNIST where it can be had, otherwise scikit-learn's digits; spirals for latent_ode "
    "and rnn.",
)
flags.DEFINE_string("data_dir", None, "Folder with mnist.npz or MNIST's four IDX files.")
flags.DEFINE_string(
    "log_dir",
    None,
    "Run directory. Default: logs/<model>, or the next free one.",
    allow_override=True,  # absl's own logging has a flag of this name.
)
flags.DEFINE_integer("epochs", None, "Passes over the training data.", lower_bound=1)
flags.DEFINE_integer("batch_size", None, "Samples in a batch.", lower_bound=1)
flags.DEFINE_float("learning_rate", None, "Adam's learning rate.", lower_bound=1e-30)
flags.DEFINE_integer("seed", None, "Seed of weights and shuffling.", lower_bound=0)
flags.DEFINE_enum(
    "strategy",
    None,
    ("none", "mirrored", "multi_worker"),
    "Devices: one, all of this machine, or those of all processes in TF_CONFIG.",
)
flags.DEFINE_enum(
    "precision", None, ("float32", "mixed_bfloat16", "mixed_float16"), "Precision of the layers."
)
flags.DEFINE_bool("deterministic", None, "Bit-identical repeats, slower.")
flags.DEFINE_bool(
    "resume",
    False,
    "Continue the interrupted run in --log_dir, by default logs/<model>, with its settings.",
)
flags.DEFINE_bool("overwrite", False, "Replace the run in --log_dir.")
flags.DEFINE_bool("debug", False, "Show tracebacks.")
FLAGS = flags.FLAGS
for name in ("data_dir", "log_dir"):
    flags.register_validator(name, lambda path: path != "", "Expected the path of a folder.")


def parse(arguments):
    """Parses the flags, with the config file of the model that they name.

    Sets `FLAGS.config` to every resolved setting; with --resume these are the settings that
    the run was begun with, and `FLAGS.log_dir` is where it is.

    Raises:
        SystemExit: With status 2, if a flag or setting is unknown or has a bad value; with
            status 1, if the run directory cannot be used.
    """
    # --config.* can be parsed only once the model's file is known.
    config = record = None
    try:
        known = flags.FlagValues()
        flags.DEFINE_enum("model", FLAGS["model"].default, MODELS, "", flag_values=known)
        flags.DEFINE_string("log_dir", None, "", flag_values=known)
        flags.DEFINE_bool("resume", False, "", flag_values=known)
        flags.DEFINE_bool("overwrite", False, "", flag_values=known)
        known(arguments, known_only=True)
        if known.resume and known.overwrite:
            raise flags.Error("Expected one of --resume and --overwrite. Received: both")
        model, path = known.model, pathlib.Path(known.log_dir or f"logs/{known.model}")
        if known.resume:
            record = RUN_DIR["read_record"](path)
            record["settings"] = SETTING_RULES["complete"](record["settings"])
            begun = record["settings"].get("name")
            if begun in MODELS and begun != model:
                if known["model"].present:
                    raise flags.Error(f"Expected --model={begun} for {path}. Received: {model}")
                model = begun
        config = runpy.run_path(str(ROOT / "configs" / f"{model}.py"))["get_config"]()
        if record:
            _take_up(config, record, path)
        config_flags.DEFINE_config_dict("config", config, flag_values=FLAGS)
        rest = FLAGS(arguments)
        if len(rest) > 1:
            raise flags.Error(f"Unexpected argument: {rest[1]}")
        for name in SETTINGS:
            if FLAGS[name].value is not None:
                FLAGS.config[name] = FLAGS[name].value
        if FLAGS.config.model.get("norm") == "None":  # What ml_collections leaves as text.
            FLAGS.config.model.norm = None
        SETTING_RULES["check"](FLAGS.config)
        if record:
            RUN_DIR["check_resume"](path, record, FLAGS.config.to_dict())
            # Which may be that of another model than the flag's.
            FLAGS.log_dir = str(path)
        # Of several processes one writes there, which may have begun already.
        if FLAGS.config.strategy != "multi_worker" or SETTING_RULES["cluster"]().is_chief:
            RUN_DIR["check"](
                FLAGS.log_dir, FLAGS.config.name, resume=known.resume, overwrite=known.overwrite
            )
    except BrokenPipeError:  # Of --help, by `| head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except RUN_DIR["RunError"] as error:
        print(f"train.py: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, RUN_DIR["OtherSettings"]) else 1)
    except (flags.Error, AttributeError, LookupError, TypeError, ValueError) as error:
        message = str(error)
        if isinstance(error, (AttributeError, LookupError, TypeError)):
            # What ml_collections makes of a name it does not know.
            given = [a.split("=")[0] for a in arguments if a.startswith("--config.")]
            message = f"Unknown setting among {' '.join(given)}"
        print(f"train.py: {message}", file=sys.stderr)
        module = FLAGS.find_module_defining_flag("model")
        ours = sorted(f.name for f in FLAGS.flags_by_module_dict()[module])
        print(f"Flags: {' '.join('--' + name for name in ours)}", file=sys.stderr)
        if config is not None:
            overrides = " ".join(f"--config.{name}" for name in SETTING_RULES["names"](config))
            print(f"Settings: {overrides}", file=sys.stderr)
        sys.exit(2)
    return rest


def _take_up(config, record, path):
    """Sets a config to what the run in `path` was begun with."""
    try:
        config.lock().update(record["settings"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RUN_DIR["RunError"](
            f"Expected settings of this version of tfnode in {path / RUN_DIR['CONFIG']}. "
            f"Received: {error}"
        ) from error


def main(arguments):
    """Runs the experiment that the flags describe."""
    del arguments
    try:
        data_dir = DATA_FOLDER["named"](FLAGS.data_dir)
        if data_dir and SETTING_RULES["data_set"](FLAGS.config) in ("auto", "mnist"):
            DATA_FOLDER["find"](data_dir)
    except (ValueError, OSError) as error:
        _fail(error)
    # Here, so that all of this is refused before TensorFlow is loaded.
    from tfnode import experiment

    try:
        experiment.run(
            FLAGS.config,
            log_dir=FLAGS.log_dir,
            data_dir=FLAGS.data_dir,
            resume=FLAGS.resume,
            overwrite=FLAGS.overwrite,
        )
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError, experiment.TrainingError) as error:
        _fail(error)
    except Exception as error:
        # What TensorFlow and Keras raise has no common base: no memory, no space left.
        message = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        _fail(error, f"{message} (--debug shows where)")


def _fail(error, message=None):
    """Ends the program with one line for an error; with all of it under --debug."""
    if FLAGS.debug:
        raise error
    print(f"train.py: {message or error}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
