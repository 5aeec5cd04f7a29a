"""Properties of `odeint` that hold for every linear system, all times and all structures."""

import functools

import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import tfnode
from tfnode import solvers

SOLVER = solvers.Dopri5(rtol=1e-8, atol=1e-8, max_steps=500)
ERROR = 1e-5  # Gradients of size up to 100 and growth over the interval included.
SIZE = 3
GRADIENTS = ["adjoint", "checkpoint", "backprop"]


def examples(count):
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        # Shrinking a failure would take minutes where every example is traced or compiled.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def arrays(*shape, bound=1.0):
    # Steps of 1/8 print well, and zeros and equal numbers come up often.
    number = st.integers(-8, 8).map(lambda n: n * bound / 8)
    count = int(np.prod(shape))
    return st.lists(number, min_size=count, max_size=count).map(lambda x: np.reshape(x, shape))


@st.composite
def times(draw, counts=(2, 3, 4, 5)):
    """Times in either direction, at most two apart."""
    count = draw(st.sampled_from(counts))
    gaps = draw(st.lists(st.floats(1e-3, 0.5), min_size=count - 1, max_size=count - 1))
    direction = draw(st.sampled_from([1.0, -1.0]))
    return draw(st.floats(-3.0, 3.0)) + direction * np.cumsum([0.0, *gaps])


class Leaf:
    """The shape of a leaf, which `tf.nest` takes for no structure."""

    def __init__(self, shape):
        self.shape, self.size = shape, int(np.prod(shape))

    def __repr__(self):
        return f"Leaf({self.shape})"


def structures():
    """Nested structures of shapes from scalars to 3-D."""
    leaf = st.lists(st.integers(1, 2), max_size=3).map(lambda shape: Leaf(tuple(shape)))
    return st.recursive(
        leaf,
        lambda inside: st.one_of(
            st.lists(inside, min_size=1, max_size=2),
            st.lists(inside, min_size=1, max_size=2).map(tuple),
            st.dictionaries(st.sampled_from("cab"), inside, min_size=1, max_size=2),
        ),
        max_leaves=3,
    )


def pack(structure, vector):
    """The vector in the structure."""
    leaves = tf.nest.flatten(structure)
    parts = tf.split(vector, [leaf.size for leaf in leaves])
    parts = [tf.reshape(part, leaf.shape) for part, leaf in zip(parts, leaves)]
    return tf.nest.pack_sequence_as(structure, parts)


def unpack(state):
    """The structure as a vector."""
    return tf.concat([tf.reshape(x, [-1]) for x in tf.nest.flatten(state)], 0)


def exact(matrix, y0, t, weights):
    """The states, and the gradients of their sum with weights in the matrix and in y0."""
    spans = t - t[0]
    flows = np.stack([scipy.linalg.expm(matrix * s) for s in spans])
    by_y0 = np.einsum("tij,ti->j", flows, weights)
    by_matrix = np.zeros_like(matrix)
    for s, w in zip(spans, weights):
        # The adjoint of the Frechet derivative of expm at A is that at its transpose.
        direction = np.outer(w, y0) * s
        by_matrix += scipy.linalg.expm_frechet(matrix.T * s, direction, compute_expm=False)
    return flows @ y0, by_matrix, by_y0


def solve(matrix, y0, t, weights, gradient, structure=None):
    """The states as rows, and the gradients of their sum with weights in the matrix and in y0.

    With a structure, the solver sees the state in it.
    """

    def func(t, y):
        del t
        if structure is None:
            return tf.linalg.matvec(matrix, y)
        tf.nest.assert_same_structure(y, structure)
        return pack(structure, tf.linalg.matvec(matrix, unpack(y)))

    with tf.GradientTape() as tape:
        tape.watch([matrix, y0])
        start = y0 if structure is None else pack(structure, y0)
        ys = tfnode.odeint(func, start, t, solver=SOLVER, gradient=gradient)
        if structure is not None:
            tf.nest.assert_same_structure(ys, structure)
            for y, leaf in zip(tf.nest.flatten(ys), tf.nest.flatten(structure)):
                assert y.shape[1:] == leaf.shape
            ys = tf.map_fn(unpack, ys, fn_output_signature=tf.float64)
        loss = tf.reduce_sum(weights * ys)
    return ys, *tape.gradient(loss, [matrix, y0])


MODES = {
    "eager": lambda f, **kwargs: f,
    "function": tf.function,
    "xla": functools.partial(tf.function, jit_compile=True),
}


@functools.cache
def compiled(gradient, mode, count):
    """One trace for all systems; for all times, too, if `count` is `None`."""
    shapes = ([SIZE, SIZE], [SIZE], [count], [count, SIZE])
    signature = [tf.TensorSpec(shape, tf.float64) for shape in shapes]
    return MODES[mode](functools.partial(solve, gradient=gradient), input_signature=signature)


def check_linear_systems(mode, gradient, count, counts=(2, 3, 4, 5)):
    @examples(count)
    @given(
        matrix=arrays(SIZE, SIZE, bound=1.5),
        y0=arrays(SIZE, bound=2.0),
        t=times(counts),
        weights=arrays(5, SIZE),
    )
    def check(matrix, y0, t, weights):
        arguments = (matrix, y0, t, weights[: len(t)])
        # Under XLA 'backprop' needs to know the number of times.
        run = compiled(gradient, mode, len(t) if mode == "xla" else None)
        actual = run(*map(tf.constant, arguments))
        np.testing.assert_array_equal(actual[0][0], y0)
        for found, expected in zip(actual, exact(*arguments)):
            np.testing.assert_allclose(found, expected, rtol=0, atol=ERROR)

    check()


# All pairs are in the slow tests.
@pytest.mark.parametrize(
    ("mode", "gradient"),
    [("eager", "adjoint"), ("function", "backprop"), ("xla", "checkpoint")],
)
def test_linear_systems(mode, gradient):
    if mode == "xla":
        check_linear_systems(mode, gradient, 30, counts=(3,))
    else:
        check_linear_systems(mode, gradient, {"eager": 2, "function": 25}[mode])


@pytest.mark.slow
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("mode", MODES)
def test_many_linear_systems(mode, gradient):
    check_linear_systems(mode, gradient, 40 if mode == "eager" else 400)


@functools.cache
def compiled_for_any_size(gradient):
    signature = [tf.TensorSpec([None] * rank, tf.float64) for rank in (2, 1, 1, 2)]
    return tf.function(functools.partial(solve, gradient=gradient), input_signature=signature)


def check_structures(mode, gradient, count):
    @examples(count)
    @given(structure=structures(), t=times(), seed=st.integers(0, 2**32 - 1))
    def check(structure, t, seed):
        size = sum(leaf.size for leaf in tf.nest.flatten(structure))
        rng = np.random.default_rng(seed)
        matrix = rng.uniform(-1.0, 1.0, (size, size)) / np.sqrt(size)
        arguments = (matrix, rng.normal(size=size), t, rng.normal(size=(len(t), size)))
        run = MODES[mode](functools.partial(solve, gradient=gradient, structure=structure))
        actual = run(*map(tf.constant, arguments))
        flat = compiled_for_any_size(gradient)(*map(tf.constant, arguments))
        for found, same, expected in zip(actual, flat, exact(*arguments)):
            np.testing.assert_allclose(found, expected, rtol=0, atol=ERROR)
            # The steps are those of the flat state but for rounding in the norm of the error.
            np.testing.assert_allclose(found, same, rtol=0, atol=1e-9)

    check()


@pytest.mark.parametrize(
    ("mode", "gradient", "count"),
    [("eager", "adjoint", 1), ("function", "checkpoint", 2)],
)
def test_structures(mode, gradient, count):
    """The values and gradients of a state do not depend on how it is nested."""
    check_structures(mode, gradient, count)


@pytest.mark.slow
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("mode", MODES)
def test_many_structures(mode, gradient):
    check_structures(mode, gradient, 15)


@functools.cache
def there_and_back():
    @tf.function(input_signature=[tf.TensorSpec([None] * rank, tf.float64) for rank in (2, 1, 1)])
    def run(matrix, y0, t):
        def func(t, y):
            # Neither linear nor autonomous: nothing here needs a closed form.
            return tf.tanh(tf.linalg.matvec(matrix, y) + tf.sin(t))

        there = tfnode.odeint(func, y0, t, solver=SOLVER)
        return there, tfnode.odeint(func, there[-1], tf.reverse(t, [0]), solver=SOLVER)

    return run


@examples(30)
@given(matrix=arrays(SIZE, SIZE, bound=1.5), y0=arrays(SIZE, bound=2.0), t=times())
def test_there_and_back(matrix, y0, t):
    there, back = there_and_back()(*map(tf.constant, (matrix, y0, t)))
    np.testing.assert_allclose(back[-1], y0, rtol=0, atol=ERROR)
    np.testing.assert_allclose(tf.reverse(back, [0]), there, rtol=0, atol=ERROR)
