"""Every solver times every gradient method, in float64."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from problems import central_difference
from scipy.integrate import solve_ivp

import tfnode
from tfnode import gradients, solvers

pytestmark = pytest.mark.few(2)

# Solvers whose solution and gradients are those of the differential equation to `ERROR`.
RUNGE_KUTTA = [*solvers.FIXED_STEP, *solvers.ADAPTIVE]
ADAPTIVE = solvers.ADAPTIVE
ORDER = {name: solvers.get(name).tableau.order for name in RUNGE_KUTTA}
FINE = {name: {"num_steps": {1: 400, 2: 60}.get(ORDER[name], 12)} for name in solvers.FIXED_STEP}
for name in ADAPTIVE:
    FINE[name] = dict.fromkeys(("rtol", "atol"), {2: 1e-5, 3: 1e-7}.get(ORDER[name], 1e-9))
FINE["bdf"] = {"rtol": 1e-8, "atol": 1e-8}
ERROR = {name: {1: 5e-3, 2: 1e-4}.get(order, 1e-6) for name, order in ORDER.items()}
# The sizes of these steps do not depend on the state: the first is given, each further one is
# ten times as large, the most that the controller allows, and the last lands on the last time.
ANY_ERROR = {"rtol": 1e6, "atol": 1e6, "first_step": 0.07}
COARSE = {name: ANY_ERROR if name in ADAPTIVE else {"num_steps": 2} for name in RUNGE_KUTTA}

METHODS = {
    "adjoint": gradients.Adjoint(),
    "adjoint_with_dopri5": gradients.Adjoint(solver=solvers.Dopri5(rtol=1e-9, atol=1e-9)),
    "checkpoint": gradients.Checkpoint(max_states=4),
    "backprop": gradients.Backprop(),
}

# dy/dt = tanh(W y + b t) - c y. One vector holds y0, the times, and what the field uses: W in a
# variable of TensorFlow, b in one of Keras, c in a tensor.
SIZES = {"y0": 2, "times": 3, "w": 4, "b": 2, "c": 1}
FORWARD = np.array([1.5, -0.5, 0.1, 0.5, 1.1, 0.3, -0.8, 0.5, 0.1, 0.6, -0.9, 0.5])
BACKWARD = np.concatenate([FORWARD[:2], FORWARD[4:1:-1], FORWARD[5:]])
VECTOR = tf.TensorSpec([12], tf.float64)


def split(vector):
    return np.split(vector, np.cumsum(list(SIZES.values()))[:-1])


def cells(values, slow):
    """Values of a parameter, some of which are slow."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else [value]), marks=marks)
        for value in values
        for marks in [[pytest.mark.slow] if value in slow else []]
    ]


def make(name, settings):
    return type(solvers.get(name))(**settings[name])


def field(w, b, c):
    def func(t, y):
        return tf.tanh(tf.linalg.matvec(tf.reshape(w, [2, 2]), y) + b * t) - c * y

    return func


def loss_of(ys):
    """A loss that every state takes part in."""
    return tf.reduce_sum(ys[0] * ys[1]) + tf.reduce_sum(ys[1] ** 2) + tf.reduce_sum(tf.sin(ys[2]))


@functools.cache
def solution(name, coarse=False):
    """The loss as a function of the vector, by the forward solve alone."""
    solver = make(name, COARSE if coarse else FINE)

    @tf.function(input_signature=[VECTOR], autograph=False)
    def loss(vector):
        y0, times, w, b, c = tf.split(vector, list(SIZES.values()))
        return loss_of(tfnode.odeint(field(w, b, c), y0, times, solver=solver))

    return loss


class Differentiated:
    """The gradients in the vector, each a vector, by one or more methods in one trace."""

    def __init__(self, solver, methods):
        self.w = tf.Variable(tf.zeros(4, tf.float64))
        self.b = keras.Variable(np.zeros(2), dtype="float64")
        self._solver, self._methods = solver, methods
        self._run = tf.function(self._gradients, autograph=False)

    def __call__(self, vector):
        y0, times, w, b, c = split(vector)
        self.w.assign(w)
        self.b.assign(b)
        return [g.numpy() for g in self._run(*(tf.constant(x) for x in (y0, times, c)))]

    def _gradients(self, y0, times, c):
        results = []
        for method in self._methods:
            with tf.GradientTape() as tape:
                tape.watch([y0, times, c])
                func = field(self.w, self.b, c)
                ys = tfnode.odeint(func, y0, times, solver=self._solver, gradient=method)
                loss = loss_of(ys)
            results.append(tape.gradient(loss, [y0, times, self.w, self.b.value, c]))
        return [tf.concat(result, 0) for result in results]


@functools.cache
def variational():
    """The gradient of the exact solution, by the variational equations: S' = J S + df/dp."""
    y0, times, w, b, c = split(FORWARD)
    w = w.reshape(2, 2)

    def func(t, y):
        return np.tanh(w @ y + b * t) - c * y

    def augmented(t, state):
        y, s = state[:2], state[2:].reshape(2, 9)
        slope = np.diag(1 - np.tanh(w @ y + b * t) ** 2)
        by_parameters = np.hstack([np.zeros((2, 2)), slope @ np.kron(np.eye(2), y)])
        by_parameters = np.hstack([by_parameters, slope * t, -y[:, None]])
        return np.concatenate(
            [func(t, y), ((slope @ w - c * np.eye(2)) @ s + by_parameters).ravel()]
        )

    start = np.concatenate([y0, np.eye(2, 9).ravel()])
    result = solve_ivp(
        augmented, times[[0, -1]], start, "DOP853", t_eval=times, rtol=1e-12, atol=1e-12
    ).y.T
    ys, sensitivities = result[:, :2], result[:, 2:].reshape(3, 2, 9)
    by_ys = [ys[1], ys[0] + 2 * ys[1], np.cos(ys[2])]
    total = sum(g @ s for g, s in zip(by_ys, sensitivities))
    rates = [g @ func(t, y) for g, t, y in zip(by_ys, times, ys)]
    # The same state at a later time: all that follows changes as if it were moved by -f.
    rates[0] = -(total[:2] - by_ys[0]) @ func(times[0], y0)
    return np.concatenate([total[:2], rates, total[2:]])


def assert_close(actual, expected, error):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=error * np.abs(expected).max())


# What differs from other cells in the coefficients alone, and takes long to trace.
@pytest.mark.parametrize("name", cells(RUNGE_KUTTA[::-1], slow=["heun21", "tsit5"]))
@pytest.mark.few(1)
def test_discrete_gradients(name):
    """Equal to each other to rounding, and the derivative of what the solver computes.

    Finite differences see the steps of an adaptive solver change, which the gradient takes for
    constants; here they do not.
    """
    gradient = Differentiated(make(name, COARSE), [METHODS["checkpoint"], METHODS["backprop"]])
    for vector in (FORWARD, BACKWARD):
        checkpoint, backprop = gradient(vector)
        assert_close(checkpoint, backprop, 1e-14)
        assert_close(backprop, central_difference(solution(name, coarse=True), vector), 1e-8)


# 'backprop' equals 'checkpoint' by the test above.
SLOW = [(name, "backprop") for name in ADAPTIVE] + [("tsit5", "adjoint"), ("bdf", "adjoint")]
SLOW += [(name, "adjoint_with_dopri5") for name in ("rk38", "heun21", "tsit5", "dopri8")]


@pytest.mark.parametrize(
    ("name", "method"), cells([(name, method) for name in FINE for method in METHODS], SLOW)
)
def test_every_solver_and_gradient(name, method):
    """Against the variational equations, and finite differences of the same solve."""
    gradient = Differentiated(make(name, FINE), [METHODS[method]])
    if name == "bdf" and "adjoint" not in method:
        with pytest.raises(ValueError, match="Use 'adjoint' instead.*Received: solver"):
            gradient(FORWARD)
        return
    (result,) = gradient(FORWARD)
    error = ERROR.get(name, 1e-6)
    assert_close(result, variational(), error)
    # A wide difference, since the solution of an adaptive solver jumps where its steps change.
    assert_close(result, central_difference(solution(name), FORWARD, 1e-3), max(error, 1e-5))


CHECKPOINTS = [gradients.Checkpoint(n) for n in (2, 4, 6, 128)]


def side_by_side(solver, methods, func=lambda t, y: tf.sin(3.0 * y) - 0.3 * y * t):
    """Stats, and the gradients in y0 and the times by each of the methods."""

    def run(y0, times):
        results = []
        for method in methods:
            with tf.GradientTape() as tape:
                tape.watch([y0, times])
                ys, stats = tfnode.odeint(
                    func, y0, times, solver=solver, gradient=method, return_stats=True
                )
                loss = tf.reduce_sum(tf.sin(ys))
            results.append(tf.concat(tape.gradient(loss, [y0, times]), 0))
        return stats, *results

    return run


def test_windows():
    """One to nine steps, so that none, some, most states are computed again."""
    run = tf.function(
        side_by_side(solvers.Midpoint(step_size=0.1), [gradients.Backprop(), *CHECKPOINTS]),
        input_signature=[tf.TensorSpec([None], tf.float64)] * 2,
    )
    y0 = np.array([0.8, -0.3])
    several = np.array([1.0, 0.75, 0.73, 0.4, 0.3])
    for times, steps in [
        *((np.array([0.2, 0.2 + 0.1 * n]), n) for n in range(1, 10)),
        (several, 9),
    ]:
        stats, backprop, *checkpoints = run(y0, times)
        assert int(stats.num_steps) == steps
        for checkpoint in checkpoints:
            assert_close(checkpoint, backprop, 1e-14)


def test_windows_with_rejected_steps():
    """Rejected steps leave nothing behind; outputs lie anywhere in the steps, or nowhere."""
    solver = solvers.Bosh3(rtol=1e-3, atol=1e-3, first_step=0.3)
    run = tf.function(
        side_by_side(
            solver,
            [gradients.Backprop(), *CHECKPOINTS],
            lambda t, y: y * tf.cos(9.0 * t) * 4.0,
        ),
        input_signature=[tf.TensorSpec([None], tf.float64)] * 2,
    )
    y0, many = np.array([0.8, -0.3]), np.array([0.0, 0.01, 0.02, 0.03, 0.7, 0.9])
    for times in (many, -many, many[[0, -1]]):
        stats, backprop, *checkpoints = run(y0, times)
        assert int(stats.num_steps) > 6
        assert int(stats.num_rejected) >= 2
        for checkpoint in checkpoints:
            assert_close(checkpoint, backprop, 1e-13)


@pytest.mark.parametrize(
    "solver",
    [solvers.RK4(num_steps=3), pytest.param(solvers.Bosh3(max_steps=20), marks=pytest.mark.slow)],
    ids=["rk4", "bosh3"],
)
def test_windows_under_xla(solver):
    """There the arrays have fixed sizes."""
    y0, times = tf.constant([0.8, -0.3], tf.float64), tf.constant([0.0, 0.3, 0.9], tf.float64)
    run = tf.function(side_by_side(solver, [gradients.Checkpoint(2)]), jit_compile=True)
    stats, checkpoint = run(y0, times)
    assert int(stats.num_steps) > 2
    _, backprop = tf.function(side_by_side(solver, [gradients.Backprop()]))(y0, times)
    assert_close(checkpoint, backprop, 1e-12)


@pytest.mark.parametrize("method", ["adjoint", "checkpoint", "backprop"])
@pytest.mark.parametrize(
    "solver", [solvers.RK4(num_steps=3), solvers.Bosh3(rtol=1e-5)], ids=["rk4", "bosh3"]
)
def test_dynamic_and_empty_batches(solver, method):
    """dy/dt = -k y in float32."""
    k, traces, times = tf.Variable(1.0), [], [0.0, 0.5, 1.0]

    @tf.function(input_signature=[tf.TensorSpec([None, 2])])
    def solve(y0):
        traces.append(1)
        with tf.GradientTape() as tape:
            tape.watch(y0)
            ys = tfnode.odeint(lambda t, y: -k * y, y0, times, solver=solver, gradient=method)
            loss = tf.reduce_sum(ys)
        return ys, *tape.gradient(loss, [y0, k])

    values = np.array([[1.0, -0.5], [0.3, 2.0], [0.0, 1.0]], np.float32)
    decay = np.exp(-np.array(times))
    for size in (3, 1, 0):
        ys, by_y0, by_k = solve(values[:size])
        assert ys.shape == (3, size, 2)
        np.testing.assert_allclose(ys, np.multiply.outer(decay, values[:size]), rtol=1e-3)
        np.testing.assert_allclose(by_y0, np.full((size, 2), decay.sum()), rtol=1e-3)
        np.testing.assert_allclose(by_k, -(times * decay).sum() * values[:size].sum(), rtol=1e-3)
    assert len(traces) == 1


def curve(method, solver, times=(0.0, 0.7)):
    """The state at the last time of dy/dt = tanh(w y) - c t as a function of y0, w and c."""

    def last(y0, w, c):
        return tfnode.odeint(
            lambda t, y: tf.tanh(w * tf.reverse(y, [0])) - c * t,
            y0,
            tf.constant(times, tf.float64),
            solver=solver,
            gradient=method,
        )[-1]

    return last


POINT = np.array([0.8, -0.3, 1.2, 0.4])


def unpack(point):
    return tf.split(tf.constant(point), [2, 1, 1])


def jacobian_by_differences(last, epsilon=1e-5):
    steps = epsilon * np.eye(4)
    return np.stack(
        [(last(*unpack(POINT + s)) - last(*unpack(POINT - s))) / (2 * epsilon) for s in steps], 1
    )


@pytest.mark.parametrize("method", ["adjoint", "checkpoint", "backprop"])
@pytest.mark.parametrize(
    ("pfor", "solver"),
    [
        (False, solvers.RK4(num_steps=20)),
        (False, solvers.Bosh3(rtol=1e-7, atol=1e-7)),
        pytest.param(True, solvers.RK4(num_steps=20), marks=pytest.mark.slow),
        pytest.param(True, solvers.Bosh3(rtol=1e-7, atol=1e-7), marks=pytest.mark.slow),
    ],
    ids=["rk4", "bosh3", "rk4_pfor", "bosh3_pfor"],
)
def test_jacobian(solver, pfor, method):
    last, inputs = tf.function(curve(method, solver)), unpack(POINT)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        y = last(*inputs)
    if pfor and solver.adaptive and method == "backprop":
        # TensorFlow does not vectorise the gradient of this loop, and says so.
        with pytest.raises(tf.errors.InvalidArgumentError):
            tape.jacobian(y, inputs[0])
        return
    jacobian = np.concatenate(
        [tape.jacobian(y, x, experimental_use_pfor=pfor) for x in inputs], axis=1
    )
    np.testing.assert_allclose(jacobian, jacobian_by_differences(last, 1e-4), atol=1e-5)


# In eager mode, with the tapes outside a `tf.function`, and with all of it in one.
PLACES = {
    "eager": (lambda f: f, lambda f: f),
    "solve_compiled": (tf.function, lambda f: f),
    "solve_xla": (functools.partial(tf.function, jit_compile=True), lambda f: f),
    "all_compiled": (tf.function, tf.function),
    "all_xla": (lambda f: f, functools.partial(tf.function, jit_compile=True)),
}


@pytest.mark.parametrize("method", ["adjoint", "checkpoint", "backprop"])
@pytest.mark.parametrize("place", PLACES)
def test_two_tapes(place, method):
    """First derivatives are right below a second tape, second ones are so or an error."""
    if method == "backprop" and "xla" in place:
        pytest.skip(
            "TensorFlow cannot differentiate a loop under XLA from outside, nor from inside twice "
            "in float64."
        )
    solve, around = PLACES[place]
    solver = solvers.Heun(num_steps=3)
    last = solve(curve(method, solver))
    inputs = unpack(POINT)

    @around
    def derivatives(second):
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                loss = tf.reduce_sum(last(*inputs) ** 2)
            first = tf.concat(inner.gradient(loss, inputs), 0)
            product = tf.reduce_sum(first * POINT)
        return (first, tf.concat(outer.gradient(product, inputs), 0)) if second else (first,)

    plain = tf.function(curve("backprop", solver))

    def gradient(point):
        values = unpack(point)
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = tf.reduce_sum(plain(*values) ** 2)
        return tf.concat(tape.gradient(loss, values), 0).numpy()

    expected = gradient(POINT)
    (first,) = derivatives(False)
    np.testing.assert_allclose(first, expected, rtol=0.05 if method == "adjoint" else 1e-12)
    if method == "backprop":
        _, second = derivatives(True)
        along = 1e-5 * POINT
        hessian = (gradient(POINT + along) - gradient(POINT - along)) / 2e-5
        np.testing.assert_allclose(second, hessian, rtol=1e-7)
    else:
        # Where the derivative is traced ahead, only running it tells, in TensorFlow's words.
        error = tf.errors.OpError if "solve" in place else NotImplementedError
        with pytest.raises(error, match=f"{method}'?[ _]has[ _]no[ _]second[ _]derivatives"):
            derivatives(True)


@pytest.mark.parametrize(
    ("solver", "times"),
    [
        (solvers.RK4(num_steps=30), [0.0, 1.0]),
        pytest.param(solvers.RK4(), np.linspace(0.0, 1.0, 31), marks=pytest.mark.slow),
        pytest.param(solvers.Dopri5(rtol=1e-6, atol=1e-6), [0.0, 1.0], marks=pytest.mark.slow),
    ],
    ids=["steps", "intervals", "adaptive"],
)
def test_second_derivative_under_xla(solver, times):
    """Of y = 2 / (1 + 2 w), the solution of dy/dt = -w y^2 at 1."""
    w = tf.Variable(0.7)

    @tf.function(jit_compile=True)
    def derivative():
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                y0 = tf.constant([2.0])
                y = tfnode.odeint(
                    lambda t, y: -w * y * y, y0, times, solver=solver, gradient="backprop"
                )[-1, 0]
            slope = inner.gradient(y, w)
        return outer.gradient(slope, w)

    np.testing.assert_allclose(derivative(), 16.0 / 2.4**3, rtol=1e-3)
