"""`odeint_event`: a falling ball and a pendulum's clock, against closed forms."""

import numpy as np
import pytest
import tensorflow as tf
from problems import MODES

import tfnode
from tfnode import solvers

pytestmark = pytest.mark.few(2)

G = 9.81


def falling(gravity):
    def func(t, y):
        return {"height": y["velocity"], "velocity": -gravity * tf.ones_like(y["height"])}

    return func


def ball(height, velocity=0.0):
    return {
        "height": tf.constant(height, tf.float64),
        "velocity": tf.constant(velocity, tf.float64),
    }


@pytest.mark.parametrize("gradient", ["adjoint", "checkpoint", "backprop"])
@pytest.mark.parametrize("mode", MODES)
def test_time_state_and_gradients(mode, gradient):
    """h = h0 - g t^2 / 2 = c at t = sqrt(2 (h0 - c) / g), with velocity -sqrt(2 g (h0 - c))."""
    gravity, floor = (tf.Variable(x, dtype=tf.float64) for x in (G, 0.5))
    y0, t0 = ball(10.0), tf.constant(1.0, tf.float64)
    sources = [gravity, floor, y0["height"], y0["velocity"], t0]

    def run():
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(sources[2:])
            t, ys = tfnode.odeint_event(
                falling(gravity),
                y0,
                t0,
                lambda t, y: y["height"] - floor,
                solver=solvers.Tsit5(rtol=1e-8, atol=1e-8, max_steps=64),
                gradient=gradient,
            )
            velocity = ys["velocity"][-1]
        return t, ys, tape.gradient(t, sources), tape.gradient(velocity, sources)

    if gradient == "backprop" and mode == "xla":
        pytest.skip("arrays of all steps make it slow to compile")
    t, ys, by_t, by_velocity = MODES[mode](run)()
    elapsed = np.sqrt(2 * 9.5 / G)
    np.testing.assert_allclose(t, 1.0 + elapsed, rtol=1e-12)
    np.testing.assert_allclose(ys["height"], [10.0, 0.5], atol=1e-12)
    np.testing.assert_allclose(ys["velocity"], [0.0, -G * elapsed], atol=1e-12)
    # In g, the floor, the height, the velocity (t = (v + sqrt(v^2 + 2 g h)) / g), and t0.
    expected = [-elapsed / (2 * G), -1 / (G * elapsed), 1 / (G * elapsed), 1 / G, 1.0]
    np.testing.assert_allclose([float(x) for x in by_t], expected, rtol=1e-7)
    expected = [-elapsed / 2, 1 / elapsed, -1 / elapsed, 0.0, 0.0]
    np.testing.assert_allclose([float(x) for x in by_velocity], expected, rtol=1e-7, atol=1e-9)


def test_bouncing_ball():
    """Every bounce loses a quarter of the speed; each solve begins on the floor."""

    @tf.function
    def bounce(t, y):
        t, ys = tfnode.odeint_event(falling(G), y, t, lambda t, y: y["height"])
        return t, {"height": 0.0 * ys["height"][-1], "velocity": -0.75 * ys["velocity"][-1]}

    t, y = tf.constant(0.0, tf.float64), ball(10.0)
    first = np.sqrt(2 * 10.0 / G)
    expected = first
    for i in range(5):
        t, y = bounce(t, y)
        np.testing.assert_allclose(t, expected, rtol=1e-5)
        np.testing.assert_allclose(y["velocity"], 0.75 ** (i + 1) * G * first, rtol=1e-5)
        expected += 2 * first * 0.75 ** (i + 1)


@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.few(1)
def test_the_next_event_begins_where_the_last_ended(independent):
    """The state there is zero but for rounding, on either side."""

    @tf.function
    def swing(t, y):
        def event(t, y):
            return y[..., 0]

        def field(t, y):
            return tf.stack([y[..., 1], -y[..., 0]], -1)

        options = {"independent": True, "t1": t + 100.0} if independent else {}
        found = tfnode.odeint_event(field, y, t, event, solver=solvers.Dopri5(rtol=1e-8), **options)
        return found[0], found[1][-1]

    t, y = tf.zeros([], tf.float64), tf.constant([1.0, 0.0], tf.float64)
    if independent:
        t, y = tf.zeros([2], tf.float64), tf.stack([y, -2.0 * y])
    for i in range(5):
        t, y = swing(t, y)
        np.testing.assert_allclose(t, np.full(t.shape, (i + 0.5) * np.pi), rtol=1e-6)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", sorted(solvers.ADAPTIVE))
def test_first_of_several_events(name, reverse):
    """sin t over steps of any length: zero at pi first, -pi backward; 1/2 at pi/6 earlier."""
    solver = type(solvers.get(name))(rtol=1e-7, atol=1e-7, max_steps=10000)

    @tf.function
    def run(event):
        y0 = tf.constant([0.0, 1.0], tf.float64)
        return tfnode.odeint_event(
            lambda t, y: tf.stack([y[1], -y[0]]),
            y0,
            0.0,
            event,
            reverse_time=reverse,
            solver=solver,
        )

    sign = -1.0 if reverse else 1.0
    t, ys = run(lambda t, y: y[0])
    np.testing.assert_allclose(t, sign * np.pi, atol=1e-5)
    np.testing.assert_allclose(ys, [[0.0, 1.0], [0.0, -1.0]], atol=1e-5)
    t, _ = run(lambda t, y: tf.stack([y[1] + 0.9, y[0] - sign * 0.5]))
    np.testing.assert_allclose(t, sign * np.pi / 6, atol=1e-5)
    t, _ = run(lambda t, y: t - sign * 2.0)
    np.testing.assert_allclose(t, sign * 2.0, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.few(1)
def test_no_event_is_an_error(mode):
    def run():
        return tfnode.odeint_event(
            lambda t, y: -y,
            tf.ones([1]),
            0.0,
            lambda t, y: y + 1.0,
            solver=solvers.Dopri5(max_steps=20),
        )

    if mode == "xla":
        t, ys = MODES[mode](run)()
        assert np.isnan(t)
        assert np.isnan(ys[-1])
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="No event"):
            MODES[mode](run)()


@pytest.mark.parametrize("solver", ["rk4", "bdf"])
def test_solvers_without_events(solver):
    with pytest.raises(ValueError, match=r"adaptive Runge-Kutta.*Received"):
        tfnode.odeint_event(lambda t, y: -y, tf.ones([1]), 0.0, lambda t, y: y, solver=solver)
    with pytest.raises(ValueError, match=r"scalar.*Received"):
        tfnode.odeint_event(lambda t, y: -y, tf.ones([1]), tf.zeros([2]), lambda t, y: y)


def test_no_event_function():
    with pytest.raises(ValueError, match=r"a callable.*Received: event_fn=None"):
        tfnode.odeint_event(lambda t, y: -y, tf.ones([1]), 0.0, None)


@pytest.mark.parametrize("event", [lambda t, y: y[0] > 0.5, lambda t, y: y[:0]])
def test_event_functions_without_a_sign(event):
    with pytest.raises(ValueError, match=r"must return floats.*Received"):
        tfnode.odeint_event(lambda t, y: -y, tf.ones([1]), 0.0, event)


def test_half_precision_and_layers():
    """dy/dt = -y by a layer; y = 1/2 at log 2."""
    import keras

    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer=lambda s, dtype: -tf.ones(s))
    for dtype in (tf.float16, tf.float32):
        t, ys = tfnode.odeint_event(
            layer, tf.ones([1, 1], dtype), 0.0, lambda t, y: y - 0.5, solver="tsit5"
        )
        assert (t.dtype, ys.dtype) == (tf.float32, dtype)
        np.testing.assert_allclose(t, np.log(2.0), rtol=2e-3)
        np.testing.assert_allclose(ys[-1], [[0.5]], rtol=2e-3)


def test_options_of_the_solver():
    def half_life(**options):
        y0 = tf.ones([1], tf.float64)
        return tfnode.odeint_event(lambda t, y: -y, y0, 0.0, lambda t, y: y - 0.5, **options)[0]

    error = abs(half_life(rtol=1e-10, atol=1e-10) - np.log(2.0))
    assert error < 1e-9 < abs(half_life(rtol=1e-2, atol=1e-2) - np.log(2.0))
    with pytest.raises(ValueError, match="options of the solver 'dopri5'.*tolerance=1"):
        half_life(tolerance=1.0)


def test_a_steady_state_of_each_sample():
    """The time at which `1 - y`, which is `exp(-rate t)`, has become 1e-3 / rate."""
    rates = tf.Variable(np.array([0.5, 1.0, 2.0]))

    def filling(t, y):
        return tf.stack([y[:, 1] * (1.0 - y[:, 0]), tf.zeros_like(t)], 1)

    def unsteady(t, y):
        return filling(t, y)[:, 0] - 1e-3

    with tf.GradientTape() as tape:
        y0 = tf.stack([tf.zeros_like(rates), rates], 1)
        event = tfnode.odeint_event(
            filling, y0, 0.0, unsteady, independent=True, t1=100.0, rtol=1e-10, atol=1e-12
        )
        total = tf.reduce_sum(event.times)
    log = np.log(rates.numpy() / 1e-3)
    np.testing.assert_allclose(event.times, log / rates.numpy(), rtol=1e-8)
    by_rate = (1.0 - log) / rates.numpy() ** 2
    np.testing.assert_allclose(tape.gradient(total, rates), by_rate, rtol=1e-7)


@pytest.mark.parametrize("gradient", ["checkpoint", "adjoint", "backprop"])
def test_the_last_time_of_a_sample_without_an_event_has_its_gradient(gradient):
    """The third ball is in the air at `t1`: `h = 30 - 9.81 (t1 - t0)^2 / 2`."""
    y0 = tf.constant([[1.0, 0.0], [2.0, 0.0], [30.0, 0.0]], tf.float64)
    t0, t1 = tf.zeros(3, tf.float64), tf.ones(3, tf.float64)

    def falling(t, y):
        return tf.stack([y[:, 1], -9.81 * tf.ones_like(t)], 1)

    with tf.GradientTape(persistent=True) as tape:
        tape.watch([t0, t1])
        event = tfnode.odeint_event(
            falling, y0, t0, lambda t, y: y[:, 0], independent=True, t1=t1, gradient=gradient
        )
        height = event.states[-1][:, 0]
    np.testing.assert_allclose(tape.gradient(event.times, t0), [1.0, 1.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(tape.gradient(event.times, t1), [0.0, 0.0, 1.0], atol=1e-9)
    np.testing.assert_allclose(tape.gradient(height, t0), [0.0, 0.0, 9.81], atol=1e-6)
    np.testing.assert_allclose(tape.gradient(height, t1), [0.0, 0.0, -9.81], atol=1e-6)


@pytest.mark.parametrize("shape", [(1,), (4, 0), ()])
def test_event_functions_that_are_not_of_the_samples(shape):
    with pytest.raises(ValueError, match="of shape .batch,. or .batch, k.*Received"):
        tfnode.odeint_event(
            lambda t, y: -y, tf.ones([4, 2]), 0.0, lambda t, y: tf.zeros(shape), independent=True
        )
