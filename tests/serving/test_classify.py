"""Classifying an image file."""

import keras
import numpy as np
import pytest
from PIL import Image, ImageDraw

from tfnode import classify as command
from tfnode.data.dataset import MEAN, STANDARD_DEVIATION, normalize
from tfnode.runs import contents, files
from tfnode.runs.errors import RunError
from tfnode.serving.classify import classify
from tfnode.serving.digit_image import prepare


def _classifier():
    """Takes 28x28, and depends on every pixel."""
    inputs = keras.Input((28, 28, 1))
    outputs = keras.layers.Dense(10)(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, outputs)


def _run(folder, model):
    folder.mkdir()
    model.save(folder / contents.MODEL)
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
    _close(classify(run, tmp_path / "image.png", invert=False).probabilities, expected)


def test_invert(trained, pixels, tmp_path):
    run, model = trained
    Image.fromarray(255 - pixels).save(tmp_path / "image.png")
    _close(
        classify(run, tmp_path / "image.png", invert=True).probabilities, _expected(model, pixels)
    )


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
    _close(
        classify(run, tmp_path / "image.png", invert=False).probabilities, _expected(model, pixels)
    )


def test_models_of_older_versions_take_normalised_images(trained, pixels, tmp_path):
    """Those of now have a layer that does it."""
    run, model = trained
    Image.fromarray(pixels).save(tmp_path / "image.png")
    inputs = keras.Input((28, 28, 1))
    scale, offset = 1 / (255 * STANDARD_DEVIATION), -MEAN / STANDARD_DEVIATION
    outputs = model(keras.layers.Rescaling(scale, offset, name="from_pixels")(inputs))
    new = _run(tmp_path / "new", keras.Model(inputs, outputs))
    old, new = (
        classify(folder, tmp_path / "image.png", invert=False).probabilities
        for folder in (run, new)
    )
    np.testing.assert_allclose(new, old, rtol=1e-4)


def _digit():
    """A stroke as MNIST has it: in a box of 20 pixels, its centre of mass in the middle."""
    large = Image.new("L", (280, 280))
    draw = ImageDraw.Draw(large)
    draw.ellipse((100, 40, 180, 120), outline=255, width=24)
    draw.line((180, 80, 180, 239), fill=255, width=24)
    small = prepare(large, (28, 28), invert=False).pixels
    return large, small


def test_prepared_as_mnist():
    _, small = _digit()
    rows, columns = (np.flatnonzero(small.any(axis=axis)) for axis in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    place = np.arange(28)
    for axis in (0, 1):
        assert small.sum(axis=axis) @ place / small.sum() == pytest.approx(14, abs=0.5)


def test_prepared_as_the_data_of_the_run(tmp_path):
    """scikit-learn's digits fill the image, unlike those of MNIST."""
    large, small = _digit()
    large.save(tmp_path / "image.png")
    run = _run(tmp_path / "run", _classifier())
    for name, height in (("mnist", 20), ("digits", 28)):
        record = {"settings": {}, "versions": {"tfnode": "0.1.0"}, "dataset": {"name": name}}
        files.write_json(run / contents.CONFIG, record)
        pixels = classify(run, tmp_path / "image.png").prepared.pixels
        assert len(np.flatnonzero(pixels.any(axis=1))) == height
        assert (pixels == small).all() == (name == "mnist")


@pytest.mark.parametrize("paper, ink", [(255, 0), (0, 255), (200, 60), (30, 120)])
def test_polarity_place_and_size_do_not_matter(paper, ink):
    """Black on white or white on black, faint or not, large and in a corner."""
    large, small = _digit()
    page = np.full((700, 900), paper, np.float64)
    stroke = np.asarray(large.resize((420, 420)), np.float64) / 255
    page[20:440, 470:890] += (ink - paper) * stroke
    found = prepare(Image.fromarray(page.round().astype(np.uint8)), (28, 28))
    assert np.abs(found.pixels.astype(float) - small).mean() < 4
    assert found.steps[0].startswith("black on white" if ink < paper else "white on black")
    # The flag wins over what is seen.
    given = prepare(Image.fromarray(page.round().astype(np.uint8)), (28, 28), invert=ink > paper)
    assert np.abs(given.pixels.astype(float) - small).mean() > 20


def test_nothing_to_see():
    for value in (0, 255, 100):
        found = prepare(Image.new("L", (50, 40), value), (28, 28))
        assert found.pixels.shape == (28, 28)
        assert "nothing to see" in found.steps[-1]


def test_an_image_of_the_models_size_is_not_moved(pixels):
    np.testing.assert_array_equal(
        prepare(Image.fromarray(pixels), (28, 28), invert=False).pixels, pixels
    )


def test_command_shows_what_the_model_sees(trained, tmp_path, capsys):
    run, _ = trained
    large, small = _digit()
    large.save(tmp_path / "image.png")
    shown = tmp_path / "seen.png"
    assert command.main([str(run), str(tmp_path / "image.png"), "--show", str(shown)]) == 0
    assert "cropped to" in capsys.readouterr().out
    np.testing.assert_array_equal(np.asarray(Image.open(shown)), small)


def test_command_prints_three_classes(trained, pixels, tmp_path, capsys):
    run, model = trained
    Image.fromarray(pixels).save(tmp_path / "image.png")
    assert command.main([str(run), str(tmp_path / "image.png"), "--noinvert"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    expected = _expected(model, pixels)
    first, *lines = printed.out.splitlines()
    assert first == "image: as it is"
    rows = [line.split() for line in lines]
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
