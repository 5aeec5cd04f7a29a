"""Classifying an image file."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import tfnode
from tfnode import classify as command
from tfnode.data.dataset import normalize
from tfnode.runs import run_dir
from tfnode.runs.errors import RunError
from tfnode.serving.classify import classify

ROOT = pathlib.Path(tfnode.__file__).resolve().parents[1]


def _classifier():
    """Takes 28x28, and depends on every pixel."""
    inputs = keras.Input((28, 28, 1))
    outputs = keras.layers.Dense(10)(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, outputs)


def _run(folder, model):
    folder.mkdir()
    model.save(folder / run_dir.MODEL)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run directory and its model."""
    model = _classifier()
    return _run(tmp_path_factory.mktemp("runs") / "run", model), model


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)


def _expected(model, pixels):
    logits = model(normalize(pixels[np.newaxis, ..., np.newaxis]))
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0]


def _close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_probabilities_are_those_of_the_data(trained, pixels, tmp_path):
    run, model = trained
    Image.fromarray(pixels).save(tmp_path / "image.png")
    expected = _expected(model, pixels)
    assert expected.max() - expected.min() > 0.01
    _close(classify(run, tmp_path / "image.png"), expected)


def test_invert(trained, pixels, tmp_path):
    run, model = trained
    Image.fromarray(255 - pixels).save(tmp_path / "image.png")
    _close(classify(run, tmp_path / "image.png", invert=True), _expected(model, pixels))


def _kinds(pixels):
    """The same grey image in other kinds of PNG."""
    grey = Image.fromarray(pixels)
    transparent = Image.new("RGBA", grey.size, (0, 0, 0, 0))
    transparent.putalpha(Image.fromarray(255 - pixels))  # Black ink on nothing.
    return {
        "RGB": grey.convert("RGB"),
        "RGBA": grey.convert("RGBA"),
        "palette": grey.convert("P"),
        "16 bits": Image.fromarray(pixels.astype(np.uint16) * 257),
        "transparent": transparent,
    }


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "palette", "16 bits", "transparent"])
def test_kinds_of_images(trained, pixels, tmp_path, kind):
    run, model = trained
    _kinds(pixels)[kind].save(tmp_path / "image.png")
    _close(classify(run, tmp_path / "image.png"), _expected(model, pixels))


def test_resized(trained, tmp_path):
    """Twice as large, and not square: halves of a picture stay halves."""
    run, model = trained
    pixels = np.zeros((28, 28), np.uint8)
    pixels[:, 14:] = 200
    large = np.zeros((56, 84), np.uint8)
    large[:, 42:] = 200
    Image.fromarray(large).save(tmp_path / "image.png")
    found = classify(run, tmp_path / "image.png")
    # The edge is smooth, no more.
    np.testing.assert_allclose(found, _expected(model, pixels), atol=0.2)
    assert np.argmax(found) == np.argmax(_expected(model, pixels))


def test_command_prints_three_classes(trained, pixels, tmp_path, capsys):
    run, model = trained
    Image.fromarray(pixels).save(tmp_path / "image.png")
    assert command.main([str(run), str(tmp_path / "image.png")]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    expected = _expected(model, pixels)
    rows = [line.split() for line in printed.out.splitlines()]
    assert [int(row[0]) for row in rows] == list(np.argsort(-expected)[:3])
    for label, percent, sign in rows:
        assert float(percent) == pytest.approx(100 * expected[int(label)], abs=0.006)
        assert sign == "%"


def _bad_images(folder):
    good = folder / "good.png"
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(noise).save(good)
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("a digit")
    (folder / "cut.png").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    Image.fromarray(noise.astype(np.float32)).save(folder / "float.tiff")
    return {
        "missing": folder / "none.png",
        "folder": folder,
        "empty": folder / "empty.png",
        "text": folder / "text.png",
        "cut": folder / "cut.png",
        "float": folder / "float.tiff",
    }


@pytest.mark.parametrize("case", ["missing", "folder", "empty", "text", "cut", "float"])
def test_bad_image(trained, tmp_path, capsys, case):
    path = _bad_images(tmp_path)[case]
    assert command.main([str(trained[0]), str(path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("classify: Expected an image")
    assert printed.err.count("\n") == 1
    assert str(path) in printed.err
    with pytest.raises(RunError):
        command.main([str(trained[0]), str(path), "--debug"])


@pytest.mark.parametrize("shape", [(28,), (28, 28, 3), (None, None, 1)])
def test_model_of_something_else(tmp_path, pixels, capsys, shape):
    inputs = keras.Input(shape)
    outputs = (
        keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(inputs))
        if (len(shape) == 3)
        else keras.layers.Dense(2)(inputs)
    )
    run = _run(tmp_path / "run", keras.Model(inputs, outputs))
    Image.fromarray(pixels).save(tmp_path / "image.png")
    assert command.main([str(run), str(tmp_path / "image.png")]) == 1
    message = capsys.readouterr().err
    assert message.startswith("classify: Expected a classifier of grey images")
    assert message.count("\n") == 1


def test_diverged_model(tmp_path, pixels):
    model = _classifier()
    model.layers[-1].bias.assign([np.nan] * 10)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    with pytest.raises(RunError, match="diverge"):
        classify(_run(tmp_path / "run", model), tmp_path / "image.png")


@pytest.mark.parametrize(
    "arguments, status, name",
    [
        (["none", "image.png"], 1, "classify: Expected a run directory. Received: none"),
        (["none"], 2, "IMAGE"),
        (["none", "image.png", "--nope"], 2, "--nope"),
    ],
)
def test_refused_before_tensorflow(tmp_path, arguments, status, name):
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tfnode.classify", *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == status
    lines = result.stderr.splitlines()
    message = "\n".join(line for line in lines if not line.startswith("import time:"))
    assert name in message
    assert "Traceback" not in message
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines if "|" in line}
    assert "tfnode" in imported
    assert not imported & {"tensorflow", "keras"}
