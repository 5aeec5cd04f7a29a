"""The command line: what it refuses, how, and that it does so at once."""

import contextlib
import io
import pathlib
import re
import shlex
import signal
import subprocess
import sys
from unittest import mock

import command
import pytest
import tensorflow as tf
from run_results import RECORD

import tfnode
from tfnode.runs import contents, errors, files, run_dir

ROOT = pathlib.Path(tfnode.__file__).resolve().parents[1]


def _train(tmp_path, *arguments):
    """Runs `train.py`; see `command.start`."""
    # Whatever gets through ends at the folder of the data, before any training.
    folders = [f"--data_dir={tmp_path / 'no-data'}", f"--log_dir={tmp_path / 'run'}"]
    return command.start("train.py", *arguments, *folders)


FLAGS = ("model", "config", "dataset", "data_dir", "log_dir", "epochs", "batch_size", "seed")

REFUSED = {
    # An argument, and what the message must name.
    "--nope=1": ("nope", "help"),
    "--epoch=1": ("epoch", "Did", "epochs"),
    "--filters=8": ("filters", "Did", "config.model.filters"),
    "--model=vgg": ("vgg", "ode", "resnet", "anode", "node", "rnode"),
    "--dataset=cifar": ("cifar", "auto", "mnist", "digits"),
    "--strategy=tpu": ("tpu", "none", "mirrored", "multi_worker"),
    "--strategy=multi_worker": ("TF_CONFIG", "cluster", "localhost", "worker", "index"),
    "--precision=float16": ("float32", "mixed_bfloat16", "mixed_float16"),
    "--deterministic=perhaps": ("deterministic", "perhaps"),
    "--epochs=0": ("epochs", "0"),
    "--epochs=ten": ("epochs", "ten"),
    "--batch_size=-1": ("batch_size", "-1"),
    "--learning_rate=0": ("learning_rate",),
    "--learning_rate=nan": ("learning_rate", "nan"),
    "--learning_rate=inf": ("learning_rate", "inf"),
    "--seed=-1": ("seed", "-1"),
    "--seed=99999999999": ("seed", "99999999999"),
    "--config.nope=1": ("nope", "help"),
    "--config.model.solvers=1": ("solvers", "config.model.solver"),
    "--config.epochs=ten": ("epochs", "ten"),
    "--config.epochs=0": ("epochs", "0"),
    "--config.model.filters=many": ("filters", "many"),
    "--config.precision=float16": ("float32", "mixed_bfloat16", "mixed_float16"),
    "--config.dataset=cifar": ("cifar", "auto", "mnist", "digits", "spirals"),
    "--dataset=spirals": ("odenet", "spirals", "latent_ode", "rnn_forecaster"),
    "--config.data.points=30": ("points",),
    "--config.model.filters=0": ("model.filters", "0", "1"),
    "--config.model.norm=instance": ("model.norm", "instance", "batch", "group", "layer"),
    "--config.model.solver=rk5": ("model.solver", "rk5", "rk4", "dopri5"),
    "--config.model.gradient=magic": ("model.gradient", "magic", "adjoint", "checkpoint"),
    "--config.model.augment=-1": ("model.augment", "-1", "0"),
    "--config.model.name=resnet18": ("resnet18", "stem"),
    "--config.name=../up": ("name", "up"),
    "--config.epochs[0]=1": ("epochs[0]", "epochs"),
    "--config=none.py": ("none.py",),
    "--log_dir=": ("log_dir",),
    "--data_dir=": ("data_dir",),
    "word": ("word",),
}


def _assert_refused(status, message, names):
    assert status == 2, message
    assert "Traceback" not in message
    for name in names:
        assert re.search(rf"(?<!\w){re.escape(name)}(?!\w)", message.replace("--", " ")), message


@pytest.mark.parametrize("argument", REFUSED)
def test_refused(tmp_path, argument):
    status, message, _ = command.run([f"--log_dir={tmp_path / 'run'}", argument])
    _assert_refused(status, message, REFUSED[argument])
    assert not (tmp_path / "run").exists()


@pytest.mark.few(4)
@pytest.mark.parametrize("argument", REFUSED)
def test_refused_before_tensorflow(tmp_path, argument):
    status, message, imported, printed = _train(tmp_path, argument)
    _assert_refused(status, message, REFUSED[argument])
    assert not imported & {"tensorflow", "keras"}
    assert printed == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments, name",
    [
        (["--model=latent_ode", "--dataset=mnist"], "mnist"),
        (["--model=rnn", "--dataset=digits"], "digits"),
        (["--model=rnn", "--config.data.points=101"], "data.points"),
        (["--model=latent_ode", "--config.data.noise=0"], "data.noise"),
        (["--model=latent_ode", "--config.model.units=3"], "model.units"),
        (["--model=resnet", "--config.model.filters=8"], "model.filters"),
    ],
)
def test_settings_of_other_models_are_refused(arguments, name):
    status, message, _ = command.run(arguments)
    assert status == 2
    assert name in message.split("Flags:")[0]
    assert "Traceback" not in message


@pytest.mark.parametrize("model", ["anode", "rnode"])
def test_configs_are_accepted(tmp_path, model):
    """The settings pass; what fails is the folder of the data."""
    status, message, _, _ = _train(tmp_path, f"--model={model}", "--dataset=mnist")
    assert status == 1
    assert "The data folder does not exist" in message


def test_bad_data_folder_is_one_line_before_tensorflow(tmp_path):
    expected = f"train.py: The data folder does not exist. Received: {tmp_path / 'no-data'}"
    status, message, imported, _ = _train(tmp_path, "--model=resnet", "--dataset=mnist")
    assert status == 1
    assert expected in message
    assert message.count("\n") == 0
    assert not imported & {"tensorflow", "keras"}
    assert not (tmp_path / "run").exists()


ERRORS = [
    ValueError("Expected a. Received: b"),
    OSError(28, "No space left on device"),
    MemoryError(),
    RuntimeError("from HDF5\nin two lines"),
    tf.errors.ResourceExhaustedError(None, None, "OOM\n\twhen allocating"),
    KeyError("a bug"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_are_one_line_without_debug(tmp_path, error):
    arguments = ["--dataset=digits", f"--log_dir={tmp_path / 'run'}"]
    with mock.patch("tfnode.lab.experiment.run", side_effect=error):
        status, message, _ = command.run(arguments, main=True)
        assert status == 1
        assert message.startswith("train.py: ")
        assert message.count("\n") == 1
        with pytest.raises(type(error)):
            command.run([*arguments, "--debug"], main=True)


def test_a_wrong_flag_is_a_short_message():
    """With what is alike, and without all that is not."""
    for argument in ("--epoch=1", "--config.model.nope=1", "word"):
        _, message, _ = command.run([argument])
        assert message.count("\n") == 1 and len(message) < 200


@pytest.mark.parametrize(
    "argument, meant",
    [("--model=resnt", "resnet"), ("--dataset=mnits", "mnist"), ("--config.data.missing=x", None)],
)
def test_a_wrong_value_has_a_suggestion(argument, meant):
    model = "neural_cde" if "missing" in argument else "ode"
    status, message, _ = command.run([f"--model={model}", argument])
    assert status == 2
    assert ("Did you mean" in message) == (meant is not None)
    assert meant is None or message.rstrip().endswith(f"Did you mean {meant}?")


def test_help_has_the_defaults_of_the_model():
    for model, rate, filters in (("ode", "0.0001", 64), ("ode_tuned", "0.004", 48)):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert command.run([f"--model={model}", "--help"])[0] == 0
        text = " ".join(printed.getvalue().split())
        assert re.search(rf"--learning_rate VALUE Adam's .*? Default: {rate}\.", text)
        assert re.search(rf"--config.model.filters VALUE [^-]* Default: {filters}\.", text)
        assert text.index("settings of model,") < text.index("--config.model.filters")


def test_help_lists_the_flags(tmp_path):
    _, _, imported, printed = _train(tmp_path, "--help")
    for name in (*FLAGS, "learning_rate", "strategy", "precision", "deterministic", "overwrite"):
        assert f"--{name}" in printed
    assert "tensorflow" not in imported


def test_help_into_a_pipe_that_is_closed():
    command = f"{sys.executable} train.py --help | head -n 1"
    result = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.startswith("usage: train.py")
    assert result.stderr == ""


def test_none_is_a_setting_too():
    """The dynamics without a normalisation."""
    for arguments in ([], ["--config.model.norm=None"]):
        status, message, options = command.run(arguments)
        assert status == 0, message
        assert options.settings.model.norm == (None if arguments else "batch")


SETTINGS = {
    "name": "resnet",
    "dataset": "digits",
    "epochs": 3,
    "batch_size": 64,
    "learning_rate": 0.5,
    "seed": 0,
    "strategy": "none",
    "precision": "float32",
    "deterministic": False,
    "jit_compile": False,
    "model": {"name": "resnet18", "stem": "imagenet"},
}


def _begin(path, **settings):
    """The beginning of a run of another model than the default, with settings of its own."""
    record = {**RECORD, "settings": {**SETTINGS, **settings}, "dataset": {"name": "mnist"}}
    path.mkdir()
    files.write_json(path / contents.CONFIG, record)
    return path


REFUSED_TO_RESUME = {
    # Arguments, and what the message must name.
    ("--overwrite",): (2, "Expected one of --resume and --overwrite"),
    ("--model=ode",): (2, "Expected --model=resnet"),
    ("--learning_rate=1",): (2, "Expected learning_rate=0.5. Received: learning_rate=1.0"),
    ("--config.model.stem=small",): (2, "model.stem='imagenet'"),
    ("--epochs=2",): (2, "Expected epochs=3. Received: epochs=2"),
}


@pytest.mark.parametrize("arguments", REFUSED_TO_RESUME, ids=" ".join)
def test_resume_with_other_settings_is_refused_before_tensorflow(tmp_path, arguments):
    _begin(tmp_path / "run")
    status, message, imported, printed = _train(tmp_path, "--resume", *arguments)
    expected_status, expected = REFUSED_TO_RESUME[arguments]
    assert expected in message
    assert status == expected_status
    assert "Traceback" not in message
    assert "tensorflow" not in imported
    assert printed == ""


def test_resume_takes_the_settings_of_the_run(tmp_path):
    """They are those of another model than the default, so that it gets as far as the data."""
    _begin(tmp_path / "run")
    status, message, imported, _ = _train(tmp_path, "--resume", "--epochs=4", "--learning_rate=0.5")
    assert status == 1
    assert f"train.py: The data folder does not exist. Received: {tmp_path / 'no-data'}" in message
    assert "tensorflow" not in imported


def test_resume_remembers_the_folder_of_the_data(tmp_path):
    """Unless another is named."""
    path = _begin(tmp_path / "run")
    record = files.read_json(path / contents.CONFIG)
    record["dataset"]["data_dir"] = "/there"
    files.write_json(path / contents.CONFIG, record)
    for more, expected in (([], "/there"), (["--data_dir=/here"], "/here")):
        _, message, options = command.run(["--resume", f"--log_dir={path}", *more])
        assert options.data_dir == expected, message


def test_a_signal_prints_the_command_that_resumes(tmp_path, capsys):
    error = errors.Interrupted(tmp_path / "a run", signal.SIGTERM)
    with mock.patch("tfnode.lab.experiment.run", side_effect=error):
        arguments = ["--dataset=digits", f"--log_dir={tmp_path / 'a run'}"]
        status, _, _ = command.run(arguments, main=True)
    assert status == 128 + signal.SIGTERM
    line = capsys.readouterr().out.splitlines()[-1]
    program, script, *flags = shlex.split(line.removeprefix("To go on: "))
    assert (program, script) == ("python", "train.py")
    assert flags == ["--resume", f"--log_dir={tmp_path / 'a run'}"]


BAD_RUNS = {
    "none": (None, "holds no run to resume"),
    "no json": ("{", "holds files but no run"),
    "unknown setting": ({**SETTINGS, "more": 1}, "settings of this version"),
    "setting of another type": ({**SETTINGS, "epochs": "ten"}, "settings of this version"),
}


@pytest.mark.parametrize("settings, expected", BAD_RUNS.values(), ids=BAD_RUNS.keys())
def test_resume_of_what_cannot_be(tmp_path, settings, expected):
    if isinstance(settings, dict):
        (tmp_path / "run").mkdir()
        record = {**RECORD, "settings": settings, "dataset": {"name": "mnist"}}
        files.write_json(tmp_path / "run" / contents.CONFIG, record)
    elif settings:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / contents.CONFIG).write_text(settings)
    status, message, imported, _ = _train(tmp_path, "--resume")
    assert status == 1
    assert expected in message
    assert "Traceback" not in message
    assert "tensorflow" not in imported


@pytest.mark.parametrize("flag", ["--resume", "--overwrite"])
def test_a_folder_in_use_is_refused_at_once(tmp_path, flag):
    with run_dir.prepare(_begin(tmp_path / "run"), "resnet", resume=True):
        status, message, imported, _ = _train(tmp_path, flag)
    assert status == 1
    assert "is in use by another process" in message
    assert "tensorflow" not in imported
    assert (tmp_path / "run" / contents.CONFIG).exists()
