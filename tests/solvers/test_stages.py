"""The stages of a step: a loop under XLA where there are many, the same numbers either way."""

import numpy as np
import pytest
import tensorflow as tf

from tfnode import solvers
from tfnode.solvers.stages import STAGES_IN_A_LOOP, stages

Y = [np.array([0.3, -1.2]), np.array([[0.5], [2.0], [-0.1]])]


@pytest.mark.parametrize("name", ["dopri5", "dopri8"])
@pytest.mark.parametrize("known", [False, True])
def test_the_same_under_xla(name, known):
    rows = solvers.get(name).tableau.rows
    traced = []

    def field(t, y):
        traced.append(t)
        a, b = y
        slopes = [tf.sin(t) * a + tf.reduce_sum(b), b * b - t * a[0]]
        return slopes, [tf.reduce_sum(a * a) + t]

    def run():
        t, h = tf.constant(0.7, tf.float64), tf.constant(-0.3, tf.float64)
        y = [tf.constant(x) for x in Y]
        return stages(rows, field, t, y, h, field(t, y) if known else None)

    expected = run()
    assert len(expected[0]) == len(expected[1]) == len(rows) == len(traced)
    traced.clear()
    found = tf.function(run, jit_compile=True)()
    looped = len(rows) >= STAGES_IN_A_LOOP
    assert len(traced) == (2 if looped else len(rows))
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14), found, expected
    )


def test_gradient_of_the_loop():
    rows = solvers.get("dopri8").tableau.rows

    def gradients():
        y, h = tf.constant(Y[0]), tf.constant(0.4, tf.float64)
        with tf.GradientTape() as tape:
            tape.watch([y, h])
            ks, _ = stages(rows, lambda t, y: ([tf.sin(y[0]) * t], []), h, [y], h)
            total = tf.add_n([(i + 1.0) * tf.reduce_sum(k[0]) for i, k in enumerate(ks)])
        return tape.gradient(total, [y, h])

    for a, b in zip(tf.function(gradients, jit_compile=True)(), gradients()):
        np.testing.assert_allclose(a, b, rtol=1e-12)
