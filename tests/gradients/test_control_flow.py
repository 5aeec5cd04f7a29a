"""Solves inside of loops and branches: the gradient is that of the unrolled program."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import MODES, ONE_MODE

import tfnode
from tfnode import solvers

pytestmark = pytest.mark.few(2)

GRADIENTS = ["adjoint", "checkpoint", "backprop"]
RATE, SPAN, REPEATS = 0.7, 0.5, 3
SOLVER = solvers.RK4(num_steps=10)


def solve(rate, y, gradient, solver=SOLVER, offset=0.0):
    return tfnode.odeint(
        lambda t, y: -rate * y + offset, y, [0.0, SPAN], solver=solver, gradient=gradient
    )[-1]


def while_loop(step, y):
    return tf.while_loop(
        lambda i, y: i < REPEATS,
        lambda i, y: (i + 1, step(y)),
        (0, y),
        maximum_iterations=REPEATS,
    )[1]


def range_loop(step, y):
    for _ in tf.range(REPEATS):
        y = step(y)
    return y


def scan(step, y):
    return tf.scan(lambda y, _: step(y), tf.zeros([REPEATS]), y)[-1]


def nested_loops(step, y):
    def outer(i, y):
        inner = tf.while_loop(
            lambda j, y: j < 1 + 0 * i,
            lambda j, y: (j + 1, step(y)),
            (0, y),
            maximum_iterations=1,
        )
        return i + 1, inner[1]

    return tf.while_loop(lambda i, y: i < REPEATS, outer, (0, y), maximum_iterations=REPEATS)[1]


def cond(step, y):
    for _ in range(REPEATS):
        y = tf.cond(tf.reduce_sum(y) > 0.0, lambda y=y: step(y), lambda y=y: 2.0 * y)
    return y


def cond_in_loop(step, y):
    def body(i, y):
        return i + 1, tf.cond(i < REPEATS, lambda: step(y), lambda: y)

    return tf.while_loop(lambda i, y: i < 5, body, (0, y), maximum_iterations=5)[1]


def switch_case(step, y):
    for _ in range(REPEATS):
        y = tf.switch_case(tf.size(y) - 1, [lambda y=y: 2.0 * y, lambda y=y: step(y)])
    return y


def function_in_loop(step, y):
    function = tf.function(step)
    function(y)  # Traced outside of the loop.
    return while_loop(function, y)


LOOPS = [
    while_loop,
    range_loop,
    scan,
    nested_loops,
    cond,
    cond_in_loop,
    switch_case,
    function_in_loop,
]


def expected(y0):
    """The sum of the last state, and its derivatives in the rate and in `y0`."""
    decay = np.exp(-RATE * SPAN * REPEATS)
    return y0.sum() * decay, -SPAN * REPEATS * y0.sum() * decay, np.full(2, decay)


@pytest.mark.parametrize("mode", ONE_MODE)
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("kind", ["variable", "tensor"])
@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
def test_loops_and_branches(loop, kind, gradient, mode):
    if mode == "xla" and (gradient == "backprop" or loop is scan):
        pytest.skip("TensorFlow cannot differentiate these loops under XLA.")
    rate = (
        tf.Variable(RATE, dtype=tf.float64) if kind == "variable" else tf.constant(RATE, "float64")
    )
    y0 = tf.constant([1.0, 2.0], tf.float64)

    @MODES[mode]
    def run():
        with tf.GradientTape() as tape:
            tape.watch([y0] if kind == "variable" else [y0, rate])
            value = tf.reduce_sum(loop(lambda y: solve(rate, y, gradient), y0))
        return value, *tape.gradient(value, [rate, y0])

    for got, right in zip(run(), expected(y0.numpy())):
        np.testing.assert_allclose(got, right, rtol=1e-5)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("solver", ["rk4", pytest.param("bosh3", marks=pytest.mark.slow)])
def test_tensors_of_an_iteration(gradient, solver):
    """The dynamics close over tensors that the loop computes, integers among them."""
    rate = tf.Variable(RATE, dtype=tf.float64)
    rates = tf.constant([0.3, 0.5, 0.9], tf.float64)

    @tf.function
    def run(rolled):
        with tf.GradientTape() as tape:
            tape.watch(rates)

            def body(i, y):
                here = rates[i] * rate
                power = i + 1

                def field(t, y):
                    return -here * y / tf.cast(power, y.dtype) + tf.sin(t)

                times = tf.stack([0.0, 0.5 + 0.1 * tf.cast(i, tf.float64)])
                states = tfnode.odeint(field, y, times, solver=solver, gradient=gradient)
                return i + 1, states[-1]

            y = tf.ones([2], tf.float64)
            if rolled:
                y = tf.while_loop(lambda i, y: i < 3, body, (0, y))[1]
            else:
                for i in range(3):
                    y = body(tf.constant(i), y)[1]
            value = tf.reduce_sum(y)
        return tape.gradient(value, [rate, rates])

    for rolled, unrolled in zip(run(True), run(False)):
        np.testing.assert_allclose(rolled, unrolled, rtol=1e-12)


def test_map_fn_over_samples():
    rate = tf.Variable(RATE, dtype=tf.float64)
    spans = tf.constant([0.5, 1.0, 2.0], tf.float64)

    @tf.function
    def run(gradient):
        with tf.GradientTape() as tape:
            tape.watch(spans)
            ends = tf.map_fn(
                lambda span: tfnode.odeint(
                    lambda t, y: -rate * y,
                    tf.ones([], tf.float64),
                    tf.stack([tf.zeros_like(span), span]),
                    solver=SOLVER,
                    gradient=gradient,
                )[-1],
                spans,
            )
            value = tf.reduce_sum(ends)
        return tape.gradient(value, [rate, spans])

    decay = np.exp(-RATE * spans.numpy())
    for gradient in GRADIENTS:
        by_rate, by_spans = run(gradient)
        np.testing.assert_allclose(by_rate, -(spans.numpy() * decay).sum(), rtol=1e-4)
        np.testing.assert_allclose(by_spans, -RATE * decay, rtol=1e-4)


@pytest.mark.parametrize("gradient", ["adjoint", "checkpoint"])
@pytest.mark.few(1)
def test_vectorized_map_is_refused(gradient):
    rate = tf.Variable(RATE)
    with (
        pytest.raises(LookupError, match=r"vectorized_map.*map_fn"),
        tf.GradientTape() as tape,
    ):
        y = tf.vectorized_map(lambda y: solve(rate, y, gradient), tf.ones([3, 1]))
        tape.gradient(y, rate)


@pytest.mark.parametrize("mode", ONE_MODE)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_recompute_grad(gradient, mode):
    rate = tf.Variable(RATE, dtype=tf.float64)

    @MODES[mode]
    def run():
        with tf.GradientTape() as tape:
            y = tf.recompute_grad(lambda y: solve(rate, y, gradient))(tf.ones([2], tf.float64))
            value = tf.reduce_sum(y)
        return tape.gradient(value, rate)

    np.testing.assert_allclose(run(), -2.0 * SPAN * np.exp(-RATE * SPAN), rtol=1e-6)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        pytest.param(a, b, marks=[] if a == b else pytest.mark.slow)
        for a in GRADIENTS
        for b in GRADIENTS
    ],
)
def test_nested_solves(outer, inner):
    """dy/dt = -z(1) with dz/ds = -rate z, z(0) = y: y(T) = exp(-exp(-rate) T)."""
    rate = tf.Variable(RATE, dtype=tf.float64)

    def field(t, y):
        z = tfnode.odeint(lambda s, z: -rate * z, y, [0.0, 1.0], solver=SOLVER, gradient=inner)
        return -z[-1]

    @tf.function
    def run():
        y0 = tf.ones([1], tf.float64)
        with tf.GradientTape() as tape:
            y = tfnode.odeint(field, y0, [0.0, 1.5], solver=SOLVER, gradient=outer)[-1, 0]
        return y, tape.gradient(y, rate)

    y, slope = run()
    k = np.exp(-RATE)
    np.testing.assert_allclose(y, np.exp(-1.5 * k), rtol=1e-6)
    np.testing.assert_allclose(slope, 1.5 * k * np.exp(-1.5 * k), rtol=1e-5)


class Cell(keras.layers.Layer):
    """The state moves by an ODE, then jumps."""

    def __init__(self, gradient, solver):
        super().__init__()
        self.state_size = 4
        self.block = tfnode.ODEBlock(keras.layers.Dense(4, "tanh"), solver, gradient)
        self.cell = keras.layers.GRUCell(4)

    def build(self, inputs_shape):
        self.block.build((None, 4))
        self.cell.build(inputs_shape)
        self.built = True

    def call(self, x, states, training=None):
        moved = self.block(states[0], training=training)
        output, _ = self.cell(x, [moved])
        return output, [output]


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "solver",
    [solvers.RK4(), pytest.param(solvers.Bosh3(max_steps=64), marks=pytest.mark.slow)],
    ids=["fixed", "a"],
)
@pytest.mark.parametrize(
    ("unroll", "points"),
    [(False, 2), *(pytest.param(x, 5, marks=pytest.mark.slow) for x in (False, True))],
)
def test_cells_of_recurrent_layers(solver, jit_compile, unroll, points):
    x = np.random.default_rng(0).normal(size=(8, points, 2)).astype(np.float32)

    def trained(gradient, unroll):
        keras.utils.set_random_seed(0)
        layer = keras.layers.RNN(Cell(gradient, solver), unroll=unroll)
        model = keras.Sequential([keras.Input((points, 2)), layer, keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
        model.fit(x, x[:, 0, :1], epochs=2, verbose=0)
        costs = layer.cell.block.costs()
        return np.concatenate([w.ravel() for w in model.get_weights()]), costs

    right, _ = trained("backprop", unroll=True)
    for gradient, tolerance in (("checkpoint", 1e-5), ("adjoint", 1e-2)):
        weights, costs = trained(gradient, unroll)
        np.testing.assert_allclose(weights, right, atol=tolerance)
        # Of two steps of training on all points in time. Keras's loop begins with a call
        # of the cell that has no gradient.
        assert costs["forward_solves"] == 2 * (points if unroll else points + 1)
        assert costs["backward_solves"] == 2 * points


def test_time_distributed():
    layer = keras.layers.TimeDistributed(tfnode.ODEBlock(keras.layers.Dense(2, "tanh")))
    model = keras.Sequential([keras.Input((4, 2)), layer])
    model.compile("sgd", "mse")
    before = [w.copy() for w in model.get_weights()]
    model.fit(np.ones((3, 4, 2)), np.zeros((3, 4, 2)), verbose=0)
    assert all(np.any(a != b) for a, b in zip(before, model.get_weights()))


def test_gradient_accumulation():
    """The tape inside of the loop, the sum of its gradients outside."""
    rate = tf.Variable(RATE, dtype=tf.float64)
    batches = tf.constant([[1.0], [2.0], [3.0]], tf.float64)

    @tf.function
    def run(gradient):
        total = tf.zeros([], tf.float64)
        for batch in batches:
            with tf.GradientTape() as tape:
                value = tf.reduce_sum(solve(rate, batch, gradient))
            total += tape.gradient(value, rate)
        return total

    for gradient in GRADIENTS:
        right = -SPAN * 6.0 * np.exp(-RATE * SPAN)
        np.testing.assert_allclose(run(gradient), right, rtol=1e-5)


OPERATIONS = st.lists(
    st.sampled_from(["solve", "cond", "scale", "inner loop"]), min_size=1, max_size=3
)


@pytest.mark.parametrize(
    ("examples", "names", "most"),
    [
        (2, ["euler", "heun"], 2),
        pytest.param(20, ["euler", "rk4", "bosh3", "dopri5"], 4, marks=pytest.mark.slow),
    ],
)
def test_random_programs(examples, names, most):
    """Unrolled or not, a program has the same gradient."""

    @settings(max_examples=examples, deadline=None)
    @given(
        operations=OPERATIONS,
        repeats=st.integers(1, most),
        gradient=st.sampled_from(GRADIENTS),
        solver=st.sampled_from(names),
        rate=st.floats(0.1, 1.5),
    )
    def check(**drawn):
        check_program(**drawn)

    check()


def check_program(operations, repeats, gradient, solver, rate):
    rate = tf.Variable(rate, dtype=tf.float64)
    gain = tf.constant(0.9, tf.float64)

    def apply(name, y):
        if name == "solve":
            return solve(rate, y, gradient, solver, offset=gain)
        if name == "cond":
            return tf.cond(
                y[0] > y[1], lambda: solve(gain, y, gradient, solver), lambda: tf.sin(rate * y)
            )
        if name == "inner loop":
            return tf.while_loop(
                lambda i, y: i < 2,
                lambda i, y: (i + 1, solve(rate * gain, y, gradient, solver)),
                (0, y),
                maximum_iterations=2,
            )[1]
        return gain * y

    @tf.function
    def run(rolled):
        with tf.GradientTape() as tape:
            y0 = tf.constant([1.0, 0.8], tf.float64)
            tape.watch([y0, gain])

            def body(i, y):
                for name in operations:
                    y = apply(name, y)
                return i + 1, y

            y = y0
            if rolled:
                y = tf.while_loop(lambda i, y: i < repeats, body, (0, y))[1]
            else:
                for _ in range(repeats):
                    y = body(0, y)[1]
            value = tf.reduce_sum(y * tf.constant([1.0, -0.5], tf.float64))
        return tape.gradient(value, [y0, rate, gain], unconnected_gradients="zero")

    for rolled, unrolled in zip(run(True), run(False)):
        np.testing.assert_allclose(rolled, unrolled, rtol=1e-9, atol=1e-12)
