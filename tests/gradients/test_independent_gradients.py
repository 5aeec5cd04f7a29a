"""Gradients of samples with their own clocks: as of each sample alone, and by differences."""

import numpy as np
import pytest
import tensorflow as tf
from problems import MODES, ONE_MODE

import tfnode
from tfnode import gradients, solvers

pytestmark = pytest.mark.few(2)

TIMES = np.array([[0.0, 1.0, 2.0], [0.0, 0.5, 0.5], [1.0, 0.0, -1.0]])
Y0 = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 1.0]])
RATES = np.array([[0.5], [1.0], [1.5]])
WEIGHT = tf.Variable(np.array([[0.3, -1.0], [0.9, -0.2]]))
LOSS = np.random.default_rng(0).normal(size=(3, 3, 2))
METHODS = {
    "checkpoint": "checkpoint",
    "few_states": gradients.Checkpoint(max_states=2),
    "backprop": "backprop",
}
SOLVERS = {
    "dense": solvers.Dopri5(rtol=1e-4, atol=1e-6),
    "lands": solvers.Heun21(rtol=1e-2, atol=1e-2),
    "fixed": solvers.RK4(num_steps=3),
    "step_size": solvers.Midpoint(step_size=0.17),
}


def gradients_of(y0, times, rates, loss, solver, gradient, shared):
    """The gradients in the initial states, the times, a closed-over tensor and a variable."""

    def func(t, y):
        rate = tf.reduce_mean(rates) if shared else rates
        weight, t = tf.cast(WEIGHT, y.dtype), tf.cast(t, y.dtype)[:, tf.newaxis]
        return tf.tanh(y @ weight) * tf.cos(t) - rate * y * t

    with tf.GradientTape() as tape:
        tape.watch([y0, times, rates])
        ys = tfnode.odeint(func, y0, times, solver=solver, gradient=gradient)
        total = tf.reduce_sum(tf.cast(ys, loss.dtype) * loss)
    return tape.gradient(total, [y0, times, rates, WEIGHT])


def each_alone(solver, shared):
    """The same, sample by sample, without the repeated times."""
    results = [np.zeros(x.shape) for x in (Y0, TIMES, RATES, WEIGHT)]
    spec = [tf.TensorSpec(x, tf.float64) for x in ([1, 2], [1, None], [None, 1], [None, 1, 2])]
    run = tf.function(
        lambda *args: gradients_of(*args, solver, "checkpoint", shared), input_signature=spec
    )
    for i, row in enumerate(TIMES):
        n = 1 + np.count_nonzero(np.diff(row))
        loss = np.concatenate([LOSS[: n - 1, i], LOSS[n - 1 :, i].sum(0, keepdims=True)])
        rates = RATES if shared else RATES[i : i + 1]
        alone = run(Y0[i : i + 1], row[np.newaxis, :n], rates, loss[:, np.newaxis])
        results[0][i], results[1][i, :n] = alone[0][0], alone[1][0]
        if shared:
            results[2] += alone[2]
        else:
            results[2][i] = alone[2][0]
        results[3] += alone[3]
    return results


@pytest.mark.few(1)
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "of_the_batch"])
@pytest.mark.parametrize(
    "key",
    [x if x in ("dense", "fixed") else pytest.param(x, marks=pytest.mark.slow) for x in SOLVERS],
)
def test_a_batch_is_its_samples(key, shared):
    """With what is dropped, and with a tensor of the batch in the dynamics."""
    expected = each_alone(SOLVERS[key], shared)
    args = [tf.constant(x) for x in (Y0, TIMES, RATES, LOSS)]
    for gradient in METHODS.values():
        actual = tf.function(
            lambda gradient=gradient: gradients_of(*args, SOLVERS[key], gradient, shared)
        )()
        for a, b in zip(actual, expected):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.few(1)
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("gradient", ["adjoint", "checkpoint", "backprop"])
@pytest.mark.parametrize(("dtype", "limit"), [("float16", 4e-3), ("bfloat16", 4e-2)])
def test_half_precision(dtype, limit, gradient, jit_compile):
    """The dynamics compute in the dtype of the state: gradients differ by its rounding."""
    rounded = [tf.cast(x, dtype) for x in (Y0, TIMES, RATES)]

    def run(wide):
        y0, times, rates = (tf.cast(x, wide) for x in rounded)
        args = y0, tf.cast(times, "float32"), rates, tf.cast(LOSS, "float32")
        fixed = SOLVERS["fixed"]
        run = tf.function(
            lambda: gradients_of(*args, fixed, gradient, False), jit_compile=jit_compile
        )
        return run()

    for half, right in zip(run(dtype), run("float32")):
        right = right.numpy()
        np.testing.assert_allclose(tf.cast(half, "float32"), right, atol=limit * abs(right).max())


@pytest.mark.parametrize(
    ("solver", "limit"),
    [(solvers.Dopri5(rtol=1e-9, atol=1e-11), 1e-6), (solvers.RK4(num_steps=40), 1e-5)],
    ids=["adaptive", "fixed"],
)
def test_the_adjoint(solver, limit):
    """Its own error is that of the solver."""
    args = [tf.constant(x) for x in (Y0, TIMES, RATES, LOSS)]
    actual, exact = (
        tf.function(lambda g=gradient: gradients_of(*args, solver, g, False))()
        for gradient in ("adjoint", "checkpoint")
    )
    for a, b in zip(actual, exact):
        np.testing.assert_allclose(a, b, rtol=limit, atol=limit)


def test_the_adjoint_that_is_lost():
    """Where samples run together, the message has the time of each."""

    @tf.function
    def run(y0):
        with tf.GradientTape() as tape:
            tape.watch(y0)
            ys = tfnode.odeint(
                lambda t, y: -30.0 * y, y0, TIMES, gradient="adjoint", rtol=1e-6, atol=1e-9
            )
        return tape.gradient(ys, y0)

    with pytest.raises(tf.errors.InvalidArgumentError, match="'adjoint' (is lost|failed)|failed"):
        run(tf.constant(Y0))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eager", "xla"])
@pytest.mark.parametrize("method", ["few_states", "backprop"])
def test_modes(method, mode):
    args = [tf.constant(x) for x in (Y0, TIMES, RATES, LOSS)]

    def run(mode, key="dense"):
        return MODES[mode](lambda: gradients_of(*args, SOLVERS[key], METHODS[method], True))()

    for key in ("dense", "fixed"):
        for a, b in zip(run(mode, key), run("function", key)):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_finite_differences():
    """In the initial states and in the times, against solves at tight tolerances."""
    solver = solvers.Dopri5(rtol=1e-10, atol=1e-12)

    @tf.function(
        input_signature=[tf.TensorSpec([3, 2], tf.float64), tf.TensorSpec([3, 3], tf.float64)]
    )
    def value(y0, times):
        def func(t, y):
            return tf.sin(y) * t[:, tf.newaxis] + tf.reverse(y, [1])

        with tf.GradientTape() as tape:
            tape.watch([y0, times])
            loss = tf.reduce_sum(tfnode.odeint(func, y0, times, solver=solver) * LOSS)
        return loss, tape.gradient(loss, [y0, times])

    times = np.array([[0.0, 1.0, 1.5], [0.0, 0.5, 0.9], [1.0, 0.0, -0.5]])
    _, actual = value(Y0, times)
    for which, point in enumerate((Y0, times)):
        for index in np.ndindex(*point.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [Y0.copy(), times.copy()]
                moved[which][index] += step
                ends.append(float(value(*moved)[0]))
            expected = (ends[0] - ends[1]) / 2e-5
            np.testing.assert_allclose(actual[which][index], expected, rtol=1e-5, atol=1e-6)


def explosive(weight):
    return lambda t, y: weight * y**2


@pytest.mark.parametrize("mode", ONE_MODE)
@pytest.mark.parametrize("method", ["checkpoint", "backprop", "adjoint"])
@pytest.mark.parametrize("kind", [solvers.Dopri5, solvers.RK4])
def test_a_failed_sample_that_the_loss_leaves_out(kind, method, mode):
    """The others have their gradient; if the loss counts it, the gradient is NaN."""
    accuracy = {"num_steps": 40} if kind is solvers.RK4 else {"rtol": 1e-8, "atol": 1e-8}
    solver = kind(on_failure="nan", **accuracy)
    start = np.array([[-1.0], [np.nan], [0.3], [5.0]])

    def run(start, all_of_them=False):
        weight, y0 = tf.Variable(1.0, dtype=tf.float64), tf.constant(start)

        def once():
            with tf.GradientTape() as tape:
                tape.watch(y0)
                ys = tfnode.odeint(
                    explosive(weight),
                    y0,
                    [0.0, 1.0],
                    solver=solver,
                    gradient=method,
                    independent=True,
                )[-1]
                kept = ys if all_of_them else tf.where(tf.math.is_nan(ys), tf.zeros_like(ys), ys)
                loss = tf.reduce_sum(
                    kept * tf.constant([[1.0], [2.0], [3.0], [4.0]], ys.dtype)[: len(start)]
                )
            return tape.gradient(loss, [y0, weight])

        return MODES[mode](once)()

    by_y0, by_weight = run(start)
    # y = y0 / (1 - w y0 t), without the last sample and the second.
    good = start[[0, 2], 0]
    expected = np.array([1.0, 3.0]) / (1.0 - good) ** 2
    np.testing.assert_allclose(by_y0[:, 0], [expected[0], 0.0, expected[1], 0.0], 1e-5)
    np.testing.assert_allclose(by_weight, np.sum(expected * good**2), 1e-5)
    if method != "backprop":
        by_y0, by_weight = run(start, all_of_them=True)
        assert np.isnan(by_weight)


def test_second_derivatives():
    """d2/dk2 of exp(-k t), by 'backprop'."""
    k = tf.constant([[0.5], [1.2]], tf.float64)
    times = np.array([[0.0, 1.0], [0.0, 2.0]])

    @tf.function
    def run():
        with tf.GradientTape() as outer:
            outer.watch(k)
            with tf.GradientTape() as inner:
                inner.watch(k)
                solver = solvers.Dopri5(rtol=1e-9, atol=1e-11)
                y0 = tf.ones([2, 1], tf.float64)
                ys = tfnode.odeint(
                    lambda t, y: -k * y, y0, times, solver=solver, gradient="backprop"
                )[-1]
            first = inner.gradient(ys, k)
        return outer.gradient(first, k)

    t = times[:, 1:]
    np.testing.assert_allclose(run(), t**2 * np.exp(-k * t), rtol=1e-5)


def test_the_adjoint_of_the_last_state_alone():
    """A block that returns no sequence goes back through all of its times."""
    block = tfnode.ODEBlock(
        lambda t, y: -y * t[:, tf.newaxis], "rk4", gradient="adjoint", dtype="float64"
    )
    times = tf.constant([[0.0, 1.0, 2.0], [0.0, 2.0, 3.0]], tf.float64)
    y0 = tf.ones([2, 1], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch([y0, times])
        last = block(y0, times=times)
    exact = tfnode.odeint(
        lambda t, y: -y * t[:, tf.newaxis], y0, times, gradient="adjoint", num_steps=1, solver="rk4"
    )
    np.testing.assert_array_equal(last, exact[-1])
    by_y0, by_times = tape.gradient(last, [y0, times])
    assert by_times.shape == times.shape
    np.testing.assert_allclose(by_y0[0], last[0], rtol=0.05)
