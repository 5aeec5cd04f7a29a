import json

import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf
from problems import MATRIX, START

import tfnode
from tfnode import gradients, solvers

pytestmark = pytest.mark.few(2)

GRADIENTS = ["adjoint", "checkpoint", "backprop"]


def network(seed=0):
    """A small time-dependent vector field with variables, float64."""
    rng = np.random.default_rng(seed)
    w1, w2 = (tf.Variable(rng.normal(size=s) * 0.5) for s in ((3, 4), (4, 3)))
    b = tf.Variable(rng.normal(size=4))
    return (lambda t, y: tf.tanh(y @ w1 + b * t) @ w2), [w1, w2, b]


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_against_closed_form(gradient):
    """dy/dt = A y: y(T) = expm(A T) y0, so dL/dy0 = expm(A T)^T, and dL/dT = w^T A y(T)."""
    matrix = tf.constant(MATRIX)
    y0, weights, end = tf.constant(START), np.array([1.0, 2.0, -1.0]), 1.5
    with tf.GradientTape() as tape:
        times = tf.constant([0.0, end], tf.float64)
        tape.watch([matrix, y0, times])
        ys = tfnode.odeint(
            lambda t, y: tf.linalg.matvec(matrix, y),
            y0,
            times,
            solver=solvers.RK4(num_steps=100),
            gradient=gradient,
        )
        loss = tf.reduce_sum(weights * ys[-1])
    by_matrix, by_y0, by_times = tape.gradient(loss, [matrix, y0, times])
    final = scipy.linalg.expm(MATRIX * end)
    np.testing.assert_allclose(by_y0, final.T @ weights, rtol=1e-7)
    rate = weights @ MATRIX @ final @ START
    np.testing.assert_allclose(by_times, [-rate, rate], rtol=1e-7)
    expected = np.zeros((3, 3))
    for i, j in np.ndindex(3, 3):
        direction = np.zeros((3, 3))
        direction[i, j] = 1.0
        _, derivative = scipy.linalg.expm_frechet(MATRIX * end, direction * end)
        expected[i, j] = weights @ derivative @ START
    np.testing.assert_allclose(by_matrix, expected, rtol=1e-6)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("mode", ["eager", "function", "xla", "inside"])
def test_everything_the_dynamics_use(gradient, mode):
    """Variables, untrained ones that are watched, closed-over tensors small and large."""
    scale = tf.constant(1.3, tf.float64)  # Small tensors become constants in graphs.
    large = tf.fill([200], tf.constant(0.7, tf.float64))
    trained = tf.Variable(0.9, dtype=tf.float64)
    frozen = tf.Variable(0.4, dtype=tf.float64, trainable=False)
    y0 = tf.ones(200, tf.float64)
    sources = [scale, large, trained, frozen]

    def solve(scale, large):
        def func(t, y):
            return -(scale * large + trained * frozen) * y

        return tf.reduce_sum(
            tfnode.odeint(
                func, y0, [0.0, 1.0], solver=solvers.RK4(num_steps=60), gradient=gradient
            )[-1]
        )

    def gradient_of(solve):
        with tf.GradientTape() as tape:
            tape.watch([scale, large, frozen])
            return tape.gradient(solve(scale, large), sources)

    if mode == "inside":
        result = gradient_of(tf.function(solve))
    else:
        run = {"eager": gradient_of, "function": tf.function(gradient_of)}
        run["xla"] = tf.function(gradient_of, jit_compile=True)
        result = run[mode](solve)
    decay = np.exp(-(1.3 * 0.7 + 0.9 * 0.4))
    expected = [-0.7 * 200 * decay, -1.3 * decay, -0.4 * 200 * decay, -0.9 * 200 * decay]
    for actual, value in zip(result, expected):
        np.testing.assert_allclose(actual, np.broadcast_to(value, actual.shape), rtol=1e-7)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_nested_state_and_gather(gradient):
    """A dict of two shapes; a gather in the field has a sparse gradient."""
    table = tf.Variable(np.array([[0.3], [0.5]]))

    def func(t, y):
        rate = tf.gather(table, [1])[0]
        return {"a": -rate * y["a"], "b": (tf.reduce_sum(y["a"]) * tf.ones([2, 2], tf.float64),)}

    y0 = {"a": tf.ones(1, tf.float64), "b": (tf.zeros([2, 2], tf.float64),)}
    with tf.GradientTape() as tape:
        ys = tfnode.odeint(
            func, y0, [0.0, 1.0], solver=solvers.RK4(num_steps=50), gradient=gradient
        )
        loss = ys["b"][0][-1, 0, 0]
    result = tf.convert_to_tensor(tape.gradient(loss, table))
    np.testing.assert_allclose(loss, (1 - np.exp(-0.5)) / 0.5, rtol=1e-7)
    expected = (np.exp(-0.5) * 0.5 - (1 - np.exp(-0.5))) / 0.25
    np.testing.assert_allclose(result, [[0.0], [expected]], rtol=1e-6, atol=1e-12)


def test_all_agree_on_many_times_known_at_run_time():
    func, variables = network()

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float64), tf.TensorSpec([None, 3], tf.float64)]
    )
    def all_of_them(times, y0):
        results = []
        for gradient in GRADIENTS:
            with tf.GradientTape() as tape:
                tape.watch([times, y0])
                ys = tfnode.odeint(
                    func, y0, times, solver=solvers.RK4(step_size=0.02), gradient=gradient
                )
                loss = tf.reduce_sum(ys**2)
            results.append(tape.gradient(loss, [*variables, y0, times]))
        return results

    for times in (np.linspace(0, 1, 7), np.linspace(1, -1, 4)):
        adjoint, checkpoint, backprop = all_of_them(times, np.ones((2, 3)))
        for a, b in zip(adjoint, backprop):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8)
        for a, b in zip(checkpoint, backprop):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_get_serialize_deserialize():
    assert (
        type(gradients.deserialize(gradients.serialize(gradients.Adjoint()))) is gradients.Adjoint
    )
    copy = gradients.deserialize(gradients.serialize(gradients.Checkpoint(max_states=6)))
    assert (type(copy), copy.max_states) == (gradients.Checkpoint, 6)
    for solver in (solvers.BDF(rtol=0.1), solvers.RK4(step_size=0.5), solvers.Dopri8(atol=0.2)):
        # Through JSON, as in a saved model.
        config = json.loads(json.dumps(gradients.serialize(gradients.Adjoint(solver=solver))))
        copy = gradients.deserialize(config).solver
        assert (type(copy), copy.get_config()) == (type(solver), solver.get_config())
    assert type(gradients.get("backprop")) is gradients.Backprop
    with pytest.raises(ValueError, match="adjoint.*backprop"):
        gradients.get("adjiont")


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("mode", ["eager", "function"])
def test_dynamics_with_a_tape_of_their_own(gradient, mode):
    """Gradient flow of V = k y^4 / 4: dy/dt = -k y^3, y(T) = y0 / sqrt(1 + 2 k T y0^2)."""
    k = tf.Variable(0.7, dtype=tf.float64)
    y0 = tf.constant([1.5], tf.float64)

    def func(t, y):
        with tf.GradientTape() as tape:
            tape.watch(y)
            potential = k * y**4 / 4
        return -tape.gradient(potential, y)

    def run():
        with tf.GradientTape() as tape:
            tape.watch(y0)
            solver = solvers.RK4(num_steps=40)
            y = tfnode.odeint(func, y0, [0.0, 1.0], solver=solver, gradient=gradient)[-1]
        return y, tape.gradient(y, [k, y0])

    y, (by_k, by_y0) = (tf.function(run) if mode == "function" else run)()
    root = np.sqrt(1 + 2 * 0.7 * 1.5**2)
    np.testing.assert_allclose(y, [1.5 / root], rtol=1e-6)
    np.testing.assert_allclose(by_k, -(1.5**3) / root**3, rtol=1e-5)
    np.testing.assert_allclose(by_y0, [root**-3], rtol=1e-5)
