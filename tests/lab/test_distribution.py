"""Several devices and several processes: what they compute, write, and do without each other.

Each runs in processes of its own, since TensorFlow's devices are fixed once it has begun.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from run_results import assert_same, results

from tfnode.files import history
from tfnode.lab import cluster, devices
from tfnode.runs import contents

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="module")
def two_devices():
    """What two logical devices computed."""
    result = subprocess.run(
        [sys.executable, HERE / "two_devices.py"], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_replicas_share_every_batch(two_devices):
    assert two_devices["replicas"] == 2
    for training in ("True", "False"):
        shares = two_devices["shares"][training]
        taken = [
            [x for inputs, weights in zip(*batch) for x in np.compress(weights, inputs)]
            for batch in shares
        ]
        assert taken == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2], [0]]
    # The mean over each share, and over replicas, is the mean over the batch.
    for inputs, weights in two_devices["shares"]["True"]:
        count = sum(sum(np.sign(w)) for w in weights)
        means = [np.mean(np.multiply(x, w)) for x, w in zip(inputs, weights)]
        real = [x for part, w in zip(inputs, weights) for x in np.compress(w, part)]
        assert len(real) == count
        assert np.mean(means) == pytest.approx(np.mean(real), rel=1e-6)


def test_two_devices_take_the_steps_of_one(two_devices):
    """On batches of 4, 3 and 1: gradients are means over all samples of the batch."""
    one, two = two_devices["linear"]
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-4, abs=1e-6)
    for name in ("val_loss", "val_mae"):
        assert two[name] == pytest.approx(one[name], rel=1e-5)
    # Every replica solves its part of each of six batches.
    for way in ("forward", "backward"):
        counts = [one["costs"][f"{way}{x}"] for x in ("_solves", "", "_steps", "_rejected")]
        assert counts == [6, 24, 6, 0]
        assert two["costs"][f"{way}_solves"] == 12
    assert set(two["reset"].values()) == {0}


def test_batch_normalization_averages_over_replicas(two_devices):
    """Of halves with means 1 and 15, and variances 1 and 25; the same on every device."""
    averages = two_devices["batch_normalization"]
    assert averages["moving_mean"] == pytest.approx([8.0, 8.0])
    assert averages["moving_variance"] == pytest.approx([13.0, 13.0])


def test_time_batch_normalization_in_a_loop(two_devices):
    found = {name: np.asarray(v) for name, v in two_devices["time_batch_normalization"].items()}
    first, second = found["replicas"]
    assert np.abs(first - second).min() > 0.0  # Each saw its own half.
    np.testing.assert_allclose(found["read"], (first + second) / 2, rtol=1e-5)
    # Recalibrated, all know the same.
    np.testing.assert_array_equal(*found["recalibrated"])
    np.testing.assert_allclose(found["recalibrated_read"], found["recalibrated"][0], rtol=1e-6)


def test_gpu_without_libraries_is_explained_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "version")
    assert devices.use_devices("none").startswith("CPU (")
    assert capsys.readouterr().err == ""  # No driver, no GPU.
    (tmp_path / "version").touch()
    assert devices.use_devices("none").startswith("CPU (")
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "pip install 'tfnode[gpu]'" in message
    # Hidden on purpose.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    devices.use_devices("none")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("begun", [False, True])
def test_gpus_are_chosen_and_shared(monkeypatch, begun):
    """What TensorFlow is asked for; too late, it refuses, and training goes on with what is."""
    gpus = [types.SimpleNamespace(name=f"/physical_device:GPU:{i}") for i in range(2)]
    visible, grows = list(gpus), []

    def set_visible(devices, kind):
        if begun:
            raise RuntimeError("Visible devices cannot be modified after being initialized")
        visible[:] = devices

    config = types.SimpleNamespace(
        list_physical_devices=lambda kind: gpus,
        get_visible_devices=lambda kind: visible,
        set_visible_devices=set_visible,
        experimental=types.SimpleNamespace(
            get_device_details=lambda gpu: {"device_name": f"H{gpu.name[-1]}"},
            set_memory_growth=lambda gpu, enable: grows.append((gpu, enable)),
        ),
    )
    monkeypatch.setattr(devices, "tf", types.SimpleNamespace(config=config))
    if begun:
        assert devices.use_devices("none") == "GPU (H0, H1)"
        return
    assert devices.use_devices("none") == "GPU (H0)"
    assert grows == [(gpus[0], True), (gpus[1], True)]
    visible[:] = gpus
    assert devices.use_devices("mirrored") == "GPU (H0, H1)"


def test_batch_size_that_replicas_cannot_share():
    strategy = types.SimpleNamespace(num_replicas_in_sync=4)
    with pytest.raises(ValueError, match=r"multiple .* 4.*Received: batch_size=50"):
        devices.check_batch_size(strategy, 50)
    devices.check_batch_size(strategy, 48)
    devices.check_batch_size(None, 1)


def test_test_batches_have_a_sample_for_each_replica():
    strategy = types.SimpleNamespace(num_replicas_in_sync=4)
    assert devices.test_batch_size(None, 64, 65) == 64
    for samples in range(4, 40):
        for batch_size in (4, 8, 12):
            size = devices.test_batch_size(strategy, batch_size, samples)
            assert 1 <= size <= batch_size
            assert samples % size == 0 or samples % size >= 4


def _tf_config(**changes):
    config = {
        "cluster": {"worker": ["localhost:12345", "localhost:12346"]},
        "task": {"type": "worker", "index": 0},
    }
    return json.dumps({**config, **changes})


BAD_CLUSTERS = {
    "missing": None,
    "empty": "",
    "no JSON": "{",
    "a list": "[]",
    "no cluster": json.dumps({"task": {"type": "worker", "index": 0}}),
    "no task": json.dumps({"cluster": {"worker": ["localhost:1"]}}),
    "no workers": _tf_config(cluster={}),
    "unknown job": _tf_config(cluster={"worker": ["a:1"], "ps": ["b:1"]}),
    "two chiefs": _tf_config(cluster={"chief": ["a:1", "a:2"], "worker": ["a:3"]}),
    "no list": _tf_config(cluster={"worker": "localhost:12345"}),
    "numbers": _tf_config(cluster={"worker": [1, 2]}),
    "no port": _tf_config(cluster={"worker": ["localhost"]}),
    "bad port": _tf_config(cluster={"worker": ["localhost:99999"]}),
    "twice": _tf_config(cluster={"worker": ["a:1", "a:1"]}),
    "task of another job": _tf_config(task={"type": "evaluator", "index": 0}),
    "index too large": _tf_config(task={"type": "worker", "index": 2}),
    "index negative": _tf_config(task={"type": "worker", "index": -1}),
    "index no number": _tf_config(task={"type": "worker", "index": "0"}),
    "nested deeply": "[" * 100000,
}


@pytest.mark.parametrize("name", BAD_CLUSTERS)
def test_bad_cluster_is_refused_with_an_example(monkeypatch, name):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if BAD_CLUSTERS[name] is not None:
        monkeypatch.setenv("TF_CONFIG", BAD_CLUSTERS[name])
    with pytest.raises(ValueError, match="TF_CONFIG='.*localhost:12345.*Received") as error:
        cluster.cluster()
    assert len(str(error.value)) < 1000
    # The example itself is right.
    monkeypatch.setenv("TF_CONFIG", cluster.EXAMPLE)
    assert cluster.cluster().is_chief


def test_chief(monkeypatch):
    jobs = {"chief": ["a:1"], "worker": ["a:2", "a:3"]}
    for job, index, chief in (("chief", 0, True), ("worker", 0, False), ("worker", 1, False)):
        task = {"type": job, "index": index}
        monkeypatch.setenv("TF_CONFIG", _tf_config(cluster=jobs, task=task))
        found = cluster.cluster()
        assert (found.is_chief, found.size) == (chief, 3)


ARGUMENTS = (
    "--model=ode",
    "--dataset=digits",
    "--config.model.filters=4",
    "--batch_size=48",
    "--learning_rate=0.001",
)
# Has `train.py` see as many devices as the first argument says.
WITH_DEVICES = """
import runpy, sys
import tensorflow as tf
devices = [tf.config.LogicalDeviceConfiguration()] * int(sys.argv.pop(1))
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""


def _start(arguments, devices=1, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", WITH_DEVICES, str(devices), *ARGUMENTS, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def _finish(process, status=0, seconds=600):
    """Waits for the end; returns what was printed."""
    try:
        printed, errors = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert process.returncode == status, errors
    return printed, errors


def _workers(tmp_path, *arguments):
    """Two processes on this machine, each with a folder for temporary files."""
    tmp_path.mkdir(exist_ok=True)
    sockets = [socket.socket() for _ in range(2)]
    for s in sockets:
        s.bind(("localhost", 0))
    addresses = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    processes = []
    for index in range(2):
        temporary = tmp_path / f"temporary-{index}"
        temporary.mkdir()
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        processes.append(
            _start(
                ["--strategy=multi_worker", *arguments],
                TF_CONFIG=json.dumps(task),
                TMPDIR=str(temporary),
            )
        )
    return processes


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_losses_of_one_device_two_devices_and_two_processes(tmp_path, norm):
    arguments = ["--epochs=3", f"--config.model.norm={norm}"]
    _finish(_start([*arguments, f"--log_dir={tmp_path / 'one'}"]))
    _finish(_start([*arguments, "--strategy=mirrored", f"--log_dir={tmp_path / 'two'}"], 2))
    chief, other = _workers(tmp_path, *arguments, f"--log_dir={tmp_path / 'workers'}")
    printed, _ = _finish(chief)
    assert "results: " in printed
    printed, _ = _finish(other)
    assert "results" not in printed
    # The chief alone keeps anything.
    assert {p.name for p in (tmp_path / "workers").iterdir()} >= {
        *("config.json", "history.csv", "curves.png", "metrics.json", "model.keras"),
        *("best.keras", "train", "validation"),
    }
    assert not list((tmp_path / "temporary-1").glob("**/*.keras"))

    rows = {
        name: history.read_history(tmp_path / name / contents.HISTORY)
        for name in ("one", "two", "workers")
    }
    print(
        f"\n| norm={norm} | one device | two devices | two processes |\n| --- | --- | --- | --- |"
    )
    for epoch in range(3):
        for column in ("loss", "val_loss"):
            values = [rows[name][epoch][column] for name in rows]
            print(f"| epoch {epoch + 1}, {column} |", " | ".join(f"{v:.6f}" for v in values), "|")
            assert values[1] == pytest.approx(values[2], rel=1e-5)
            # Batch normalisation takes each replica's share of the batch.
            assert values[0] == pytest.approx(values[1], rel=1e-4 if norm == "group" else 0.05)
    assert {rows[name][-1]["nfe_forward"] for name in rows} == {4}
    two, workers = (
        keras.models.load_model(tmp_path / name / "model.keras").get_weights()
        for name in ("two", "workers")
    )
    for a, b in zip(two, workers):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_process_that_dies_ends_the_other(tmp_path, lost):
    directory = tmp_path / "run"
    workers = _workers(tmp_path, "--epochs=100000", f"--log_dir={directory}")
    for line in workers[0].stdout:
        if line.startswith("epoch 1/"):  # At its end.
            break
    workers[lost].send_signal(signal.SIGKILL)
    _, errors = _finish(workers[1 - lost], status=1, seconds=180)
    assert "Another process of this run was lost" in errors
    assert "--resume" in errors
    assert "Traceback" not in errors
    workers[lost].kill()
    workers[lost].communicate()
    assert len(history.read_history(directory / contents.HISTORY)) >= 1
    assert keras.models.load_model(directory / "best.keras")


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_processes_go_on_after_one_was_killed(tmp_path, lost):
    arguments = ["--epochs=3", "--deterministic"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for worker in _workers(tmp_path / "a", *arguments, f"--log_dir={whole}"):
        _finish(worker)

    workers = _workers(tmp_path / "b", *arguments, f"--log_dir={broken}")
    for line in workers[0].stdout:
        if line.startswith("epoch 1/"):  # At its end.
            break
    workers[lost].send_signal(signal.SIGKILL)
    _finish(workers[1 - lost], status=1, seconds=180)
    workers[lost].communicate()
    assert not (broken / contents.MODEL).exists()

    for worker in _workers(tmp_path / "c", *arguments, "--resume", f"--log_dir={broken}"):
        _finish(worker)
    assert_same(broken, results(whole))


@pytest.mark.slow
def test_chief_that_is_refused_ends_the_other(tmp_path):
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    chief, other = _workers(tmp_path, "--epochs=1", f"--log_dir={directory}")
    _, errors = _finish(chief, status=1)
    assert "--overwrite" in errors
    _, errors = _finish(other, status=1)
    assert "Another process of this run was lost" in errors
