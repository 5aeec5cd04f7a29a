"""Programs of eager solves: never those of another problem, and never too many."""

import concurrent.futures

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfnode
from tfnode.gradients import programs

T = [0.0, 0.4, 1.0]
Y0 = np.array([1.0, 2.0])


@pytest.fixture(autouse=True)
def no_programs():
    programs._programs.clear()


def slope(k, read, gradient="checkpoint", y0=Y0, t=T, **options):
    """Return the last state of `dy/dt = -k y`, the gradients in `k` and `y0`, and their values."""
    y0 = tf.constant(y0, tf.float64)
    if options.get("solver") != "rk4":
        options = {"rtol": 1e-10, "atol": 1e-10, **options}
    with tf.GradientTape() as tape:
        tape.watch([y0, k] if tf.is_tensor(k) else y0)
        y = tfnode.odeint(lambda t, y: -read(k) * y, y0, t, gradient=gradient, **options)[-1]
        loss = tf.reduce_sum(y)
    return y, *tape.gradient(loss, [k, y0])


def error(k, results, y0=Y0):
    """The largest relative error of what `slope` returns for the rate `k`, up to the time 1."""
    decay = np.exp(-k)
    wanted = y0 * decay, -y0.sum() * decay, decay
    return max(np.abs(x / w - 1.0).max() for x, w in zip(results, wanted) if x is not None)


class Rate:
    """A rate that can be assigned, and how the dynamics read it."""

    def __init__(self, kind):
        self.variable = kind(1.0, dtype="float64") if kind else None
        self.number = 1.0

    def assign(self, value):
        """Assign the rate, and return the tensor or variable to differentiate in."""
        self.number = value
        if self.variable is None:
            return tf.constant(value, tf.float64)
        self.variable.assign(value)
        return getattr(self.variable, "value", self.variable)

    def read(self, k):
        return k if self.variable is None else self.variable


KINDS = {"tensor": None, "tf.Variable": tf.Variable, "keras.Variable": keras.Variable}


@pytest.mark.few(3)
@pytest.mark.parametrize("gradient", ["checkpoint", "adjoint"])
@pytest.mark.parametrize("kind", KINDS)
def test_another_value_is_another_result(kind, gradient):
    rate = Rate(KINDS[kind])
    for value in (1.0, 2.0, 0.5):
        k = rate.variable if kind == "tf.Variable" else rate.assign(value)
        rate.assign(value)
        assert error(value, slope(k, rate.read, gradient)) < 1e-8
    # The forward and the backward program.
    assert len(programs._programs) == 2


@pytest.mark.parametrize("gradient", ["checkpoint", "adjoint"])
@pytest.mark.few(1)
def test_another_number_is_another_program(gradient):
    numbers = [1.0, 2.0]
    for value in numbers:
        y, _, y_bar = slope(tf.zeros([]), lambda _, value=value: value, gradient)
        assert error(value, (y, None, y_bar)) < 1e-8
    assert len(programs._programs) == 2 * len(numbers)


def test_two_variables_are_not_one():
    for value in (1.0, 2.0):
        variable = tf.Variable(value, dtype=tf.float64)
        assert error(value, slope(variable, lambda k: k)) < 1e-8


def test_other_arguments_after_a_solve():
    """A solve has the same results whether or not others came before it."""
    k = tf.constant(1.3, tf.float64)

    def solve(**options):
        if options.get("solver") != "rk4":
            options = {"solver": "heun21", "rtol": 1e-4, "atol": 1e-4, **options}
        return slope(k, lambda k: k, **options)

    others = [
        {"solver": "bosh3"},
        {"rtol": 1e-3, "atol": 1e-3},
        {"t": [0.0, 0.4, 2.0]},
        {"t": [0.0, 1.0]},
        {"y0": np.array([3.0])},
        {"t": [[0.0, 0.3, 0.5], [0.0, 0.7, 2.0]]},
        {"step_times": [0.3]},
        {"solver": "rk4", "num_steps": 3},
    ]
    solve()
    after = [solve(**options) for options in others]
    again = [solve(**options) for options in others]
    for options, results in zip(others, zip(after, again)):
        programs._programs.clear()
        alone = solve(**options)
        for found in results:
            for a, b in zip(alone, found):
                np.testing.assert_array_equal(a, b, err_msg=str(options))


def test_the_graph_of_a_loop_is_known_again():
    def field(t, y):
        return tf.while_loop(lambda i, z: i < 3, lambda i, z: (i + 1, z / 2), (0, -8.0 * y))[1]

    for _ in range(3):
        y = tfnode.odeint(field, tf.constant([1.0], tf.float64), T, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(y[:, 0], np.exp(-np.array(T)), rtol=1e-7)
    assert len(programs._programs) == 1


def test_no_more_programs_than_allowed(monkeypatch):
    monkeypatch.setattr(programs, "MOST", 3)
    for n in range(2, 8):
        t = np.linspace(0.0, 1.0, n)
        y = tfnode.odeint(lambda t, y: -y, tf.constant([1.0], tf.float64), t, solver="rk4")
        np.testing.assert_allclose(y[-1, 0], np.exp(-1.0), rtol=0.02)
        assert len(programs._programs) <= 3


def test_a_failure_begins_with_what_failed_and_spoils_nothing():
    def field(t, y):
        return y * y

    for start, end in ((1.0, 0.5), (1.0, 2.0), (1.0, 0.5)):
        y0 = tf.constant([start], tf.float64)
        if end > 1.0 / start:
            with pytest.raises(tf.errors.InvalidArgumentError, match=r"^Dopri5 failed"):
                tfnode.odeint(field, y0, [0.0, end])
            continue
        y = tfnode.odeint(field, y0, [0.0, end], rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(y[-1], start / (1 - start * end), rtol=1e-6)


def test_threads():
    def one(value):
        k = tf.constant(value, tf.float64)
        return [np.asarray(x) for x in slope(k, lambda k: k)]

    values = np.linspace(0.5, 2.0, 12)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for value, results in zip(values, pool.map(one, values)):
            assert error(value, results) < 1e-8


def test_weights_of_layers_change():
    layer = keras.layers.Dense(1, use_bias=False, dtype="float64")
    y0 = tf.constant([[1.0]], tf.float64)
    layer.build((1, 1))
    for value in (-1.0, -2.0):
        layer.kernel.assign([[value]])
        with tf.GradientTape() as tape:
            y = tfnode.odeint(layer, y0, [0.0, 1.0], rtol=1e-9, atol=1e-9)[-1]
        np.testing.assert_allclose(y, [[np.exp(value)]], rtol=1e-7)
        (gradient,) = tape.gradient(y, layer.trainable_variables)
        np.testing.assert_allclose(gradient, [[np.exp(value)]], rtol=1e-7)
