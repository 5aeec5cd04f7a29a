"""The problems of `augmentation`, its figures, and that an augmented flow solves one."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfnode.files import plots
from tfnode.reproduce import augmentation, augmentation_figures
from tfnode.runs import files


def test_crossing():
    x, y = augmentation.crossing(np.random.default_rng(0), 50)
    assert x.shape == y.shape == (50, 1)
    assert set(x.ravel()) == {-1.0, 1.0}
    np.testing.assert_array_equal(y, -x)


def test_nested():
    x, y = augmentation.nested(np.random.default_rng(0), 40_000)
    assert x.shape == (40_000, 2) and y.shape == (40_000, 1) and x.dtype == np.float32
    radius, inside = np.hypot(*x.T), y[:, 0] < 0
    assert inside.sum() == 10_000
    assert radius[inside].max() <= 0.5
    assert radius[~inside].min() >= 1.0 and radius[~inside].max() <= 1.5
    # Uniform in area: the mean squared radius is halfway between the squares of the ends.
    np.testing.assert_allclose((radius[inside] ** 2).mean(), 0.125, atol=0.004)
    np.testing.assert_allclose((radius[~inside] ** 2).mean(), 1.625, atol=0.02)
    assert np.abs(x.mean(axis=0)).max() < 0.03


def test_readout_of_crossing_is_the_state():
    keras.utils.set_random_seed(0)
    x = np.array([[-1.0], [0.5]], np.float32)
    network = augmentation.model("crossing", 2, 4, jit_compile=False)
    paths = augmentation.flow(network, x, 2)()["paths"]
    assert paths.shape == (augmentation_figures.TIMES, 2, 3)
    np.testing.assert_array_equal(paths[0], [[-1.0, 0.0, 0.0], [0.5, 0.0, 0.0]])
    np.testing.assert_allclose(tf.function(network)(x), paths[-1][:, :1], atol=2e-3)


@pytest.mark.slow
def test_readout_of_nested_is_linear():
    keras.utils.set_random_seed(0)
    x = np.array([[-1.0, 0.3]], np.float32)
    network = augmentation.model("nested", 1, 4, jit_compile=False)
    flow = augmentation.flow(network, x, 1)()
    weights, bias = flow["readout"]
    np.testing.assert_allclose(
        tf.function(network)(x), flow["paths"][-1] @ weights + bias, atol=2e-3
    )


def _flow(dimensions, starts, velocity, readout=None):
    """A flow of constant velocity, in the form of `augmentation.flow`."""
    starts = np.pad(starts, [[0, 0], [0, dimensions - starts.shape[1]]]).astype("float32")
    times = np.linspace(0.0, 1.0, augmentation_figures.TIMES)
    paths = starts + times[:, None, None] * velocity
    grid = augmentation_figures.grid(paths)
    field = [np.broadcast_to(np.float32(velocity), y.shape) for _, y in grid]
    return {"paths": paths, "grid": grid, "field": field, "readout": readout}


def _texts(axis):
    return axis.get_title(), axis.get_xlabel(), axis.get_ylabel()


def test_figure_of_crossing(tmp_path):
    x = augmentation_figures.starts("crossing", None)
    one = {when: _flow(1, x, [0.5]) for when in ("before", "after")}
    two = {when: _flow(2, x, [0.5, 0.2]) for when in ("before", "after")}
    figure = augmentation_figures.crossing(one, two)
    assert len(figure.axes) == 6
    assert all(all(_texts(axis)) for axis in figure.axes)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata()[[0, -1]], [-1.0, -0.5])
    plots.save(figure, tmp_path / "crossing.png")


@pytest.mark.parametrize("augment", [1, 2])
def test_figure_of_nested(augment, tmp_path):
    x, _ = augmentation.nested(np.random.default_rng(0), 40)
    starts = augmentation_figures.starts("nested", x)
    assert len(starts) == 40
    read = [np.array([[1.0], [2.0]]), np.array([0.5])]
    plain = {when: _flow(2, starts, [0.1, 0.0], read) for when in ("before", "after")}
    deep = 2 + augment
    read = [np.ones((deep, 1)), np.zeros(1)]
    augmented = {when: _flow(deep, starts, [0.1] * deep, read) for when in ("before", "after")}
    figure = augmentation_figures.nested(plain, augmented)
    assert len(figure.axes) == 8
    assert all(all(_texts(axis)) for axis in figure.axes)
    # x + 2 y + 1/2 = 0 on the line that is drawn.
    line = np.array(figure.axes[3].lines[0].get_data())
    line = line[:, np.isfinite(line).all(axis=0)]
    np.testing.assert_allclose(line[0] + 2 * line[1], -0.5, atol=1e-6)
    plots.save(figure, tmp_path / "nested.png")


@pytest.mark.slow
def test_command(tmp_path):
    assert augmentation.main([f"--out={tmp_path}", "--quick"]) == 0
    names = ["crossing.png", "nested.png", "results.json", "table.md", "training.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    record = files.read_json(tmp_path / "results.json")
    assert record["quick"] and len(record["results"]["runs"]) == 4
    assert (tmp_path / "table.md").read_text("utf-8").count("\n") == 6


@pytest.mark.slow
def test_only_the_augmented_one_crosses():
    options = types.SimpleNamespace(points=500, epochs=20, hidden=32, seed=1, quick=True)
    plain, augmented = (augmentation.train("crossing", n, 0, options)[0] for n in (0, 1))
    assert plain["largest_error"][-1] > 0.99
    assert augmented["largest_error"][-1] < 0.2
