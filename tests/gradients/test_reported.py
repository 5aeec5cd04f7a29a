"""Programs after issues of libraries for ODEs: see docs/reported_programs.md for the sources."""

import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.integrate
import tensorflow as tf

import tfnode
from tfnode import solvers

pytestmark = pytest.mark.few(2)

f64 = tf.float64
GRADIENTS = ["checkpoint", "adjoint", "backprop"]
SELECTED = ["checkpoint", *(pytest.param(g, marks=pytest.mark.slow) for g in GRADIENTS[1:])]
each = pytest.mark.parametrize("gradient", SELECTED)
RATE = 0.7
FIXED = solvers.RK4(num_steps=5)
TIGHT = solvers.Dopri5(rtol=1e-6, atol=1e-8)


def variable(value=RATE):
    return tf.Variable(value, dtype=f64)


def assert_close(got, right, rtol=1e-4):
    np.testing.assert_allclose(np.asarray(got), right, rtol=rtol, atol=1e-9)


# Parameters.


@each
def test_parameters_outside_of_the_module(gradient):
    """dy/dt = a y - b y^2: the logistic equation, of which nothing is told but its closure."""
    a, b = tf.constant(0.4, f64), tf.constant(3.0, f64)

    def solution(a, b):
        return a * 1.4 * np.exp(a) / (a + b * 1.4 * (np.exp(a) - 1.0))

    with tf.GradientTape() as tape:
        tape.watch([a, b])
        y = tfnode.odeint(
            lambda t, y: a * y - b * y**2,
            tf.constant(1.4, f64),
            [0.0, 1.0],
            solver=TIGHT,
            gradient=gradient,
        )[-1]
    h = 1e-6
    right = [
        (solution(0.4 + h, 3.0) - solution(0.4 - h, 3.0)) / (2 * h),
        (solution(0.4, 3.0 + h) - solution(0.4, 3.0 - h)) / (2 * h),
    ]
    assert_close(tape.gradient(y, [a, b]), right)


@each
def test_a_constant_derivative_and_the_initial_state_at_once(gradient):
    scalar, y0 = tf.constant(2.0, f64), tf.constant(1.0, f64)
    with tf.GradientTape() as tape:
        tape.watch([scalar, y0])
        y = tfnode.odeint(lambda t, y: scalar, y0, [0.0, 1.0], solver=FIXED, gradient=gradient)
    assert_close(tape.gradient(y, [scalar, y0]), [1.0, 2.0])


@each
def test_parameters_of_which_one_wants_no_gradient(gradient):
    a, b = tf.constant(RATE, f64), tf.constant(1.0, f64)
    with tf.GradientTape() as tape:
        tape.watch(a)
        y = tfnode.odeint(
            lambda t, y: -a * b * y, tf.ones([], f64), [0.0, 1.0], solver=FIXED, gradient=gradient
        )[-1]
    by_a, by_b = tape.gradient(y, [a, b])
    assert_close(by_a, -np.exp(-RATE))
    assert by_b is None


@each
def test_parameters_that_a_network_gives(gradient):
    """The parameter is a result of the network, which is before the solve."""
    kernel = variable([[0.3], [0.4]])
    with tf.GradientTape() as tape:
        rate = (tf.ones([1, 2], f64) @ kernel)[0, 0]
        y = tfnode.odeint(
            lambda t, y: -rate * y, tf.ones([], f64), [0.0, 1.0], solver=FIXED, gradient=gradient
        )[-1]
    assert_close(tape.gradient(y, kernel), [[-np.exp(-RATE)]] * 2)


@each
def test_an_encoder_before_the_solve(gradient):
    encoder = variable(0.5)
    with tf.GradientTape() as tape:
        y0 = tf.tanh(encoder * tf.ones([3], f64))
        y = tfnode.odeint(lambda t, y: -y, y0, [0.0, 1.0], solver=FIXED, gradient=gradient)
        value = tf.reduce_sum(y[-1])
    assert_close(tape.gradient(value, encoder), 3.0 * np.exp(-1.0) * (1.0 - np.tanh(0.5) ** 2))


@each
def test_other_dynamics_on_each_interval(gradient):
    rates = [variable(0.3), variable(0.7), variable(1.1)]
    with tf.GradientTape() as tape:
        y = tf.ones([], f64)
        for i, rate in enumerate(rates):
            y = tfnode.odeint(
                lambda t, y, rate=rate: -rate * y,
                y,
                [0.5 * i, 0.5 * i + 0.5],
                solver=FIXED,
                gradient=gradient,
            )[-1]
    assert_close(tape.gradient(y, rates), [-0.5 * np.exp(-0.5 * 2.1)] * 3)


# States.


@each
def test_a_state_of_two_parts_of_which_one_stays(gradient):
    w, x, velocity = variable(), tf.ones([3], f64), tf.ones([3], f64)
    with tf.GradientTape() as tape:
        tape.watch([x, velocity])
        states = tfnode.odeint(
            lambda t, state: (-w * state[1], tf.zeros_like(state[1])),
            (x, velocity),
            [0.0, 1.0],
            solver=FIXED,
            gradient=gradient,
        )
        value = tf.reduce_sum(states[0][-1])
    by_w, by_x, by_velocity = tape.gradient(value, [w, x, velocity])
    assert_close(by_w, -3.0)
    assert_close(by_x, [1.0] * 3)
    assert_close(by_velocity, [-RATE] * 3)


@each
def test_the_first_state_is_the_initial_one(gradient):
    y0 = tf.constant([1.0, 2.0], f64)
    with tf.GradientTape() as tape:
        tape.watch(y0)
        states = tfnode.odeint(lambda t, y: -y, y0, [0.0, 1.0], solver=FIXED, gradient=gradient)
        first = tf.reduce_sum(states[0])
    np.testing.assert_array_equal(states[0], y0)
    assert_close(tape.gradient(first, y0), [1.0, 1.0])


@each
def test_a_complex_state_as_pairs(gradient):
    """dz/dt = i w z, z(0) = 1: the real part is cos(w t)."""
    w = variable()

    def func(t, y):
        z = tf.complex(y[0], y[1])
        dz = tf.complex(tf.zeros_like(w), w) * z
        return tf.stack([tf.math.real(dz), tf.math.imag(dz)])

    with tf.GradientTape() as tape:
        y = tfnode.odeint(
            func, tf.constant([1.0, 0.0], f64), [0.0, 2.0], solver=TIGHT, gradient=gradient
        )[-1, 0]
    assert_close(tape.gradient(y, w), -2.0 * np.sin(2.0 * RATE))


@each
def test_several_times_with_a_part_that_stays(gradient):
    """dy/dt = (2 - p y, y - q z, 0): linear, at unequal times."""
    p, q = variable(2.5), variable(1.5)
    t = [0.0, 0.5, 0.75, 3.0]

    def by_scipy(p, q):
        solution = scipy.integrate.solve_ivp(
            lambda t, y: [2.0 - p * y[0], y[0] - q * y[1], 0.0],
            (0.0, 3.0),
            [1.0, 1.0, 2.5],
            t_eval=t,
            rtol=1e-11,
            atol=1e-11,
        )
        return np.sum((solution.y - 1.0) ** 2)

    with tf.GradientTape() as tape:
        y = tfnode.odeint(
            lambda t, y: tf.stack([2.0 - p * y[0], y[0] - q * y[1], 0.0 * y[2]]),
            tf.constant([1.0, 1.0, 2.5], f64),
            t,
            solver=TIGHT,
            gradient=gradient,
        )
        value = tf.reduce_sum((y - 1.0) ** 2)
    h = 1e-5
    right = [
        (by_scipy(2.5 + h, 1.5) - by_scipy(2.5 - h, 1.5)) / (2 * h),
        (by_scipy(2.5, 1.5 + h) - by_scipy(2.5, 1.5 - h)) / (2 * h),
    ]
    assert_close(tape.gradient(value, [p, q]), right, rtol=1e-3)


@pytest.mark.parametrize(
    ("y0", "t", "error", "message"),
    [
        (tf.complex(1.0, 0.0), [0.0, 1.0], TypeError, "float tensors.*complex64"),
        (tf.constant([1, 2]), [0.0, 1.0], TypeError, "float tensors.*int32"),
        ((tf.ones([1]), tf.constant(1)), [0.0, 1.0], TypeError, "float tensors.*int32"),
        (tf.ones([1]), [1.0], ValueError, "at least two times"),
        (tf.ones([1]), [0.0, 1.0, 1.0], ValueError, "strictly"),
    ],
    ids=["complex", "integers", "integers_in_a_tuple", "one_time", "equal_times"],
)
def test_refused(y0, t, error, message):
    with pytest.raises(error, match=message):
        tfnode.odeint(lambda t, y: y, y0, t)


# Times.


@each
def test_gradients_in_the_times(gradient):
    """Without a parameter: y = exp(t - t0)."""
    t = tf.constant([0.0, 0.5, 1.2, 2.0], f64)
    with tf.GradientTape() as tape:
        tape.watch(t)
        states = tfnode.odeint(lambda t, y: y, tf.ones([], f64), t, solver=TIGHT, gradient=gradient)
        value = tf.reduce_sum(states)
    ends = np.exp([0.5, 1.2, 2.0])
    assert_close(tape.gradient(value, t), [-ends.sum(), *ends])


@each
def test_gradients_in_the_time_and_in_variables(gradient):
    w, b, end = variable(0.5), variable(0.2), tf.constant(1.0, f64)

    def func(t, y):
        return tf.sigmoid(w * y + b)

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(end)
        y = tfnode.odeint(
            func, tf.constant(0.4, f64), tf.stack([0.0, end]), solver=TIGHT, gradient=gradient
        )[-1]
    assert_close(tape.gradient(y, end), func(end, y))
    assert all(g is not None for g in tape.gradient(y, [w, b]))


@each
def test_dynamics_that_are_not_defined_before_the_first_time(gradient):
    p = variable(0.5)
    with tf.GradientTape() as tape:
        y = tfnode.odeint(
            lambda t, y: p * tf.sqrt(t),
            tf.ones([], f64),
            [0.0, 8e-3],
            solver=solvers.Dopri5(rtol=1e-8, atol=1e-12),
            gradient=gradient,
        )[-1]
    assert_close(tape.gradient(y, p), 2.0 / 3.0 * 8e-3**1.5)


@each
def test_a_jump_at_a_time_that_is_learned(gradient):
    """Of the growth rate, from 1 to -2 at T: two solves."""
    jump = variable(0.6)
    with tf.GradientTape() as tape:
        y = tf.ones([], f64)
        for rate, t in ((1.0, [0.0, jump]), (-2.0, [jump, 1.0])):
            y = tfnode.odeint(
                lambda t, y, rate=rate: rate * y,
                y,
                [tf.convert_to_tensor(x, f64) for x in t],
                solver=FIXED,
                gradient=gradient,
            )[-1]
    assert_close(tape.gradient(y, jump), 3.0 * np.exp(0.6 - 0.8))


# Failures.


@pytest.mark.parametrize("gradient", GRADIENTS[:2])
def test_stiff_dynamics_on_the_way_back(gradient):
    """Relaxation to cos(t): right, or an error."""
    k = variable(100.0)

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            y = tfnode.odeint(
                lambda t, y: -k * (y - tf.cos(t)),
                tf.zeros([], f64),
                [0.0, 1.0],
                gradient=gradient,
                solver=solvers.Dopri5(rtol=1e-6, atol=1e-8),
            )[-1]
        return tape.gradient(y, k)

    def exact(k):
        return (k**2 * np.cos(1.0) + k * np.sin(1.0)) / (k**2 + 1.0)

    if gradient == "adjoint":
        with pytest.raises(tf.errors.InvalidArgumentError, match="checkpoint"):
            run()
    else:
        assert_close(run(), (exact(100.0 + 1e-3) - exact(100.0 - 1e-3)) / 2e-3, rtol=2e-2)


@pytest.mark.parametrize(
    "func",
    [lambda t, y: y * np.nan, lambda t, y: y * y],
    ids=["nan", "blow_up"],
)
@pytest.mark.parametrize("gradient", GRADIENTS[:2])
def test_a_step_size_that_underflows(func, gradient):
    y0 = tf.ones([1], f64)

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            tape.watch(y0)
            y = tfnode.odeint(func, y0, [0.0, 2.0], gradient=gradient)[-1]
        return tape.gradient(y, y0)

    with pytest.raises(tf.errors.InvalidArgumentError, match="(?i)dopri5 failed"):
        run()


def test_an_implicit_solver():
    y0, w = tf.ones([1], f64), variable(2.0)

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            tape.watch(y0)
            y = tfnode.odeint(lambda t, y: w * y, y0, [0.0, 1.0], solver="bdf")[-1]
        return tape.gradient(y, [y0, w])

    by_y0, by_w = run()
    assert_close(by_y0, [np.exp(2.0)], rtol=2e-2)
    assert_close(by_w, np.exp(2.0), rtol=2e-2)


@pytest.mark.parametrize("call", [lambda y: np.sin(y.numpy()), np.sin], ids=["method", "ufunc"])
def test_numpy_in_the_dynamics(call):
    w = variable()
    with pytest.raises((AttributeError, NotImplementedError, TypeError)):
        tfnode.odeint(lambda t, y: -w * call(y), tf.ones([1], f64), [0.0, 1.0], solver=FIXED)


# Events.


@pytest.mark.slow
@pytest.mark.parametrize("gradient", GRADIENTS[:2])
def test_the_time_at_which_a_cannonball_lands(gradient):
    drag = variable(0.8)

    def field(y, drag, xp):
        speed, angle = y[2], y[3]
        force = 0.5 * 1.225 * speed**2 * 0.005 * drag
        return [
            speed * xp.cos(angle),
            speed * xp.sin(angle),
            -force - 9.80665 * xp.sin(angle),
            -9.80665 * xp.cos(angle) / speed,
        ]

    def by_scipy(drag):
        def height(t, y):
            return y[1]

        height.terminal = True
        solution = scipy.integrate.solve_ivp(
            lambda t, y: field(y, drag, np),
            (0.0, 20.0),
            [0.0, 100.0, 5.0, 0.0],
            events=height,
            rtol=1e-11,
            atol=1e-11,
        )
        return solution.t_events[0][0]

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            t, _ = tfnode.odeint_event(
                lambda t, y: tf.stack(field(y, drag, tf)),
                tf.constant([0.0, 100.0, 5.0, 0.0], f64),
                0.0,
                lambda t, y: y[1],
                solver=TIGHT,
                gradient=gradient,
            )
        return tape.gradient(t, drag)

    assert_close(run(), (by_scipy(0.8 + 1e-4) - by_scipy(0.8 - 1e-4)) / 2e-4)


@each
def test_parameters_of_the_event(gradient):
    """dy/dt = 1 up to q: the derivative is 1 to rounding."""
    q = variable(0.3)
    with tf.GradientTape() as tape:
        t, _ = tfnode.odeint_event(
            lambda t, y: tf.ones_like(y),
            tf.zeros([1], f64),
            0.0,
            lambda t, y: y - q,
            gradient=gradient,
        )
    assert_close([t, tape.gradient(t, q)], [0.3, 1.0], rtol=1e-12)


@each
def test_gradients_in_the_dynamics_and_in_the_event(gradient):
    w = variable()

    def slope(x, scale):
        with tf.GradientTape() as tape:
            tape.watch(x)
            energy = scale * tf.reduce_sum(x**2)
        return tape.gradient(energy, x)

    with tf.GradientTape() as tape:
        t, _ = tfnode.odeint_event(
            lambda t, x: -slope(x, 0.5 * w),
            tf.ones([2], f64),
            0.0,
            lambda t, x: tf.reduce_sum(slope(x, 1.0)) - 1.0,
            solver=TIGHT,
            gradient=gradient,
        )
    assert_close(t, np.log(4.0) / RATE)
    assert_close(tape.gradient(t, w), -np.log(4.0) / RATE**2)


@each
def test_an_event_function_that_begins_at_zero(gradient):
    gravity = variable(9.81)
    with tf.GradientTape() as tape:
        t, _ = tfnode.odeint_event(
            lambda t, y: tf.stack([y[1], -gravity]),
            tf.constant([0.0, 4.0], f64),
            0.0,
            lambda t, y: y[0],
            gradient=gradient,
        )
    assert_close(t, 8.0 / 9.81)
    assert_close(tape.gradient(t, gravity), -8.0 / 9.81**2)


@pytest.mark.parametrize("order", [1, -1])
def test_two_events_in_one_step(order):
    first = variable(0.5)
    with tf.GradientTape() as tape:
        t, _ = tfnode.odeint_event(
            lambda t, y: tf.ones_like(y),
            tf.zeros([1], f64),
            0.0,
            lambda t, y: tf.stack([t - 1.0, t - first][::order]),
        )
    assert_close([t, tape.gradient(t, first)], [0.5, 1.0])


def test_an_event_on_a_step_that_is_rejected():
    """The first step goes far beyond the event, and is rejected."""
    w = variable(5.0)
    with tf.GradientTape() as tape:
        t, _ = tfnode.odeint_event(
            lambda t, y: -w * y,
            tf.ones([1], f64),
            0.0,
            lambda t, y: y - 0.5,
            solver=solvers.Dopri5(rtol=1e-8, atol=1e-10, first_step=3.0),
        )
    assert_close(t, np.log(2.0) / 5.0)
    assert_close(tape.gradient(t, w), -np.log(2.0) / 25.0)


def test_an_event_function_that_changes_its_sign_twice():
    """The limit of docs/gradients.md: the events at 2.5 and 5 lie in one step."""
    t, _ = tfnode.odeint_event(
        lambda t, y: tf.ones_like(y),
        tf.zeros([1], f64),
        0.0,
        lambda t, y: (2.5 - y) * (5.0 - y) * (100.0 - y),
    )
    assert_close(t, 100.0)


# Several devices, in a process of its own, since a process fixes its devices when it begins.


TWO_REPLICAS = """
import contextlib, json
import keras, numpy as np, tensorflow as tf, tfnode

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])
x = np.linspace(-1.0, 1.0, 16).reshape(8, 2)

def trained(kind, gradient, scope):
    keras.utils.set_random_seed(0)
    with scope:
        layer = keras.layers.Dense(2, "tanh")
        layer.build((None, 2))
        dynamics = layer if kind == "layer" else lambda t, y: layer(y)
        block = tfnode.ODEBlock(dynamics, "euler", gradient)
        model = keras.Sequential([keras.Input((2,)), block])
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    model.fit(x, x[:, ::-1], batch_size=8, epochs=2, shuffle=False, verbose=0)
    return np.concatenate([w.ravel() for w in model.get_weights()]).tolist()

def outcome(*arguments):
    try:
        return trained(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

print(json.dumps({
    f"{kind} {gradient}": [
        outcome(kind, gradient, contextlib.nullcontext()),
        outcome(kind, gradient, strategy.scope()),
    ]
    for kind, gradient in (
        ("layer", "checkpoint"), ("layer", "adjoint"), ("closure", "checkpoint")
    )
}))
"""


@pytest.fixture(scope="module")
def two_replicas():
    done = subprocess.run(
        [sys.executable, "-c", TWO_REPLICAS], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "gradient"),
    [("layer", "checkpoint"), ("layer", "adjoint"), ("closure", "checkpoint")],
)
def test_two_replicas_train_as_one(two_replicas, kind, gradient):
    one, two = two_replicas[f"{kind} {gradient}"]
    assert isinstance(two, list), two
    assert_close(two, one)
