"""Time the parts of tfnode's step of `mnist_step.py`, each alone.

Command: python benchmarks/mnist_step.py --profile

Each part is a graph of its own that does as many calls as the step has, one after the
other and each on tensors of its own, so that nothing is computed once for all of them and
the caches are no warmer than in the step. Parts and step take turns. What the sum lacks of
the whole step is what TensorFlow takes to run many small operations, and what runs at the
same time as something else.
"""

import functools
import statistics

import harness
import keras
import tensorflow as tf

import tfnode

STAGES = 4  # Of the 3/8 rule.
EVALUATIONS = 2 * STAGES  # Of [conv, ReLU, norm] in one solve: two in each stage.
FILTERS = 64


def measure(step, size, warmup, repeats):
    """Time every part, and the step, in turns.

    Returns:
        A dict: name -> `{"calls": int, "seconds": [float]}`. The last is the whole step.
    """
    parts = {**_dynamics(size), **_solver(size), **_stem(size), **_head(size), **_optimizer()}
    runs = {name: _sequence(f, inputs) for name, (_, f, inputs) in parts.items()}
    runs["whole step"] = step
    turns = {name: functools.partial(harness.seconds, run) for name, run in runs.items()}
    found = harness.take_turns(turns, warmup, repeats)
    counts = {name: count for name, (count, _, _) in parts.items()}
    return {name: {"calls": counts.get(name, 1), "seconds": s} for name, s in found.items()}


def table(results):
    """Return the results as Markdown."""
    medians = {name: statistics.median(r["seconds"]) for name, r in results.items()}
    whole = medians["whole step"]
    parts = {name: value for name, value in medians.items() if name != "whole step"}
    rows = [
        (name, str(results[name]["calls"]), f"{1e3 * value:.1f}", f"{100 * value / whole:.1f} %")
        for name, value in parts.items()
    ]
    convolutions = sum(value for name, value in parts.items() if "convolution" in name)
    for name, value in (
        ("all convolutions", convolutions),
        ("sum of the parts", sum(parts.values())),
        ("the rest", whole - sum(parts.values())),
        ("whole step", whole),
    ):
        rows.append((f"**{name}**", "", f"{1e3 * value:.1f}", f"{100 * value / whole:.1f} %"))
    return harness.markdown(("part of tfnode's step", "calls", "ms", "share"), rows)


def _sequence(function, inputs):
    """Return a call of `function` on each of `inputs`, tuples of tensors, in one graph."""

    @tf.function(autograph=False)
    def graph(inputs):
        results = []
        for arguments in inputs:
            with tf.control_dependencies(tf.nest.flatten(results[-1:])):
                results.append(function(*arguments))
        return results  # All of them, since what is not returned is not computed.

    return lambda: graph(inputs)


def _vjp(function, *inputs):
    """Return the value of a function of all inputs but the last, and its gradient for it."""
    *inputs, cotangent = inputs
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
    return outputs, tape.gradient(outputs, inputs, output_gradients=cotangent)


def _normal(shape, count):
    return [tf.random.normal(shape) for _ in range(count)]


def _dynamics(size):
    shape = (size, 12, 12, FILTERS)
    layer = tfnode.layers.ConvDynamics(FILTERS)
    layer.build((), shape)
    norm, concat = layer.norms[0], layer.convolutions[0]
    kernel = tf.random.normal((3, 3, FILTERS, FILTERS))
    time_kernel = concat.kernel.value
    t = tf.constant(0.5)
    inside = tf.ones((144, 9))

    def convolution(x, w):
        return tf.nn.conv2d(x, w, 1, "SAME")

    def time_and_relu(z, w):
        """Do what `ConcatConv2D` does besides the large convolution."""
        shift = t * tf.matmul(inside, tf.reshape(w[:, :, :1], (9, FILTERS)))
        return tf.nn.relu(z + tf.reshape(shift, (1, 12, 12, FILTERS)))

    def replayed_norm(z):
        with keras.StatelessScope():  # In the backward solve the averages stand still.
            return norm(t, z, training=True)

    def states():
        return _normal(shape, EVALUATIONS)

    forward, back = "forward solve", "backward solve"
    return {
        f"convolutions of the dynamics, {forward}": (
            EVALUATIONS,
            convolution,
            [(x, kernel) for x in states()],
        ),
        f"convolutions of the dynamics, {back}": (
            3 * EVALUATIONS,
            functools.partial(_vjp, convolution),
            [(x, kernel, g) for x, g in zip(states(), states())],
        ),
        f"time channel and ReLU, {forward}": (
            EVALUATIONS,
            time_and_relu,
            [(x, time_kernel) for x in states()],
        ),
        f"time channel and ReLU, {back}": (
            2 * EVALUATIONS,
            functools.partial(_vjp, time_and_relu),
            [(x, time_kernel, g) for x, g in zip(states(), states())],
        ),
        f"norms of the dynamics, {forward}": (
            EVALUATIONS,
            lambda z: norm(t, z, training=True),
            [(x,) for x in states()],
        ),
        f"norms of the dynamics, {back}": (
            2 * EVALUATIONS,
            functools.partial(_vjp, replayed_norm),
            list(zip(states(), states())),
        ),
    }


def _solver(size):
    """Return the sums of the Runge-Kutta steps, with derivatives that cost nothing."""
    shape = (size, 12, 12, FILTERS)
    weights = [(3, 3, 1 + FILTERS, FILTERS), (FILTERS,), (FILTERS,)] * 2
    solver = tfnode.solvers.RK38()

    def integrate(times, y, derivatives, q, integrands):
        stage = iter(zip(derivatives, integrands))

        def field(t, y):
            dy, dq = next(stage)
            # The adjoint's derivatives are the negative products; see `Adjoint`.
            return [*dy[:1], *[-x for x in dy[1:]]], [-x for x in dq]

        return solver.integrate(field, y, times, quadratures=q, final_only=True)[:2]

    forward = (_normal(shape, 1), [_normal(shape, 1) for _ in range(STAGES)], [], [[]] * STAGES)
    gradients = [[tf.random.normal(s) for s in weights] for _ in range(STAGES + 1)]
    backward = (
        _normal(shape, 2),
        [_normal(shape, 2) for _ in range(STAGES)],
        gradients[0],
        gradients[1:],
    )
    return {
        "Runge-Kutta sums, forward solve": (
            1,
            functools.partial(integrate, tf.constant([0.0, 1.0])),
            [forward],
        ),
        "Runge-Kutta sums, backward solve": (
            1,
            functools.partial(integrate, tf.constant([1.0, 0.0])),
            [backward],
        ),
    }


def _stem(size):
    images = _normal((size, 28, 28, 1), 1)[0]
    hidden, hidden_gradient = _normal((size, 26, 26, FILTERS), 2)
    state_gradient = _normal((size, 12, 12, FILTERS), 1)[0]
    first, second = _normal((3, 3, 1, FILTERS), 1)[0], _normal((4, 4, FILTERS, FILTERS), 1)[0]
    bias = tf.zeros(FILTERS)
    norm = tfnode.layers.FusedBatchNormalization(momentum=0.9, epsilon=1e-5)
    norm.build(hidden.shape)

    def first_convolution(w, b):
        return tf.nn.bias_add(tf.nn.conv2d(images, w, 1, "VALID"), b)

    def second_convolution(x, w, b):
        return tf.nn.bias_add(tf.nn.conv2d(x, w, 2, "VALID"), b)

    return {
        "stem: first convolution": (
            2,
            functools.partial(_vjp, first_convolution),
            [(first, bias, hidden_gradient)],
        ),
        "stem: norm and ReLU": (
            2,
            functools.partial(_vjp, lambda x: tf.nn.relu(norm(x, training=True))),
            [(hidden, hidden_gradient)],
        ),
        "stem: second convolution": (
            3,
            functools.partial(_vjp, second_convolution),
            [(hidden, second, bias, state_gradient)],
        ),
    }


def _head(size):
    state, labels = _normal((size, 12, 12, FILTERS), 1)[0], tf.zeros(size, tf.int32)
    kernel, bias = _normal((FILTERS, 10), 1)[0], tf.zeros(10)

    def loss(y, w, b):
        logits = tf.reduce_mean(y, (1, 2)) @ w + b
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(logits=logits, labels=labels)
        )

    return {
        "pool, dense, loss": (
            2,
            functools.partial(_vjp, loss),
            [(state, kernel, bias, tf.constant(1.0))],
        )
    }


def _optimizer():
    variables = [keras.Variable(w.value) for w in tfnode.models.odenet().trainable_variables]
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(variables)

    def update(*gradients):
        optimizer.apply(gradients)
        return optimizer.iterations.value

    return {"Adam": (1, update, [tuple(tf.random.normal(v.shape) for v in variables)])}
