"""What the commands share: no noise before the first line."""

import os
import subprocess
import sys

import pytest

from tfnode.lab.command_line import quiet_import


def test_libraries_are_not_heard(capfd, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    with quiet_import():
        os.write(2, b"noise")
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] in "23"
    os.write(2, b"ours")
    assert capfd.readouterr().err == "ours"
    with quiet_import(hide=False):
        os.write(2, b"for debugging")
    assert capfd.readouterr().err == "for debugging"


def test_an_error_shows_what_was_hidden(capfd):
    with pytest.raises(ImportError), quiet_import():
        os.write(2, b"the reason")
        raise ImportError
    assert capfd.readouterr().err == "the reason"


@pytest.mark.slow
def test_the_first_line_of_a_run_is_ours(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    arguments = ["--model=rnn", "--epochs=1", "--config.jit_compile=False", "--batch_size=500"]
    done = subprocess.run(
        [sys.executable, "-m", "tfnode", "train", *arguments, f"--log_dir={tmp_path / 'run'}"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.startswith("device: ")
