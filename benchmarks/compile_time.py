"""Time tracing and compiling of a small neural ODE: tfnode against diffrax.

Command: python benchmarks/compile_time.py

A batch of 64, 4 states, dynamics of one hidden layer of 32 softplus units and a tanh, from
time 0 to 1 in float32; the result is the state at time 1, summed where it is differentiated.

- tfnode: an `ODEBlock` on a Keras `Sequential`, in `tf.function(jit_compile=True)`.
- diffrax: `diffeqsolve` on an `equinox.nn.MLP`, in `equinox.filter_jit`.

Adaptive solvers go with `rtol = atol = 1e-4`, fixed steps in diffrax by `ConstantStepSize`.
The columns: the forward solve alone; value and gradient in weights and initial state by the
adjoint (`gradient="adjoint"`, `BacksolveAdjoint`); by checkpoints (`gradient="checkpoint"`,
`RecursiveCheckpointAdjoint`).

Each number is the median of some measurements of the seconds that a function new to its
library takes for its first call. That is tracing and compiling; the solve in it takes
milliseconds. The layers and their weights are there already. All run in one process, in
turns, and each library compiles every column once before, so that its start does not count.
"""

import functools
import logging
import os
import statistics

import harness

BATCH, STATES, UNITS = 64, 4, 32
TOLERANCE = 1e-4
STEPS = (1, 10, 100)
# Name in tfnode -> name in diffrax.
ADAPTIVE = {
    "Heun21": "Heun",
    "Bosh3": "Bosh3",
    "Dopri5": "Dopri5",
    "Tsit5": "Tsit5",
    "Dopri8": "Dopri8",
}
FIXED = {"Euler": "Euler", "Midpoint": "Midpoint"}
# Column -> the gradient in tfnode and in diffrax, `None` for none.
GRADIENTS = {
    "forward": (None, None),
    "adjoint": ("adjoint", "BacksolveAdjoint"),
    "checkpoint": ("checkpoint", "RecursiveCheckpointAdjoint"),
}


def tfnode_first_call(solver, num_steps, gradient):
    """Return the seconds of the first call; `num_steps` is `None` for an adaptive solver."""
    import keras
    import tensorflow as tf

    import tfnode

    cls = getattr(tfnode.solvers, solver)
    dynamics = keras.Sequential(
        [keras.layers.Dense(UNITS, "softplus"), keras.layers.Dense(STATES, "tanh")]
    )
    block = tfnode.ODEBlock(
        dynamics,
        solver=cls(num_steps) if num_steps else cls(rtol=TOLERANCE, atol=TOLERANCE),
        gradient=gradient or "adjoint",
    )
    block.build((BATCH, STATES))
    y0 = tf.random.stateless_normal((BATCH, STATES), (0, 1))

    @tf.function(jit_compile=True)
    def solve(y0):
        if gradient is None:
            return block(y0)
        with tf.GradientTape() as tape:
            tape.watch(y0)
            value = tf.reduce_sum(block(y0))
        return value, tape.gradient(value, [*block.trainable_variables, y0])

    return harness.seconds(lambda: tf.nest.map_structure(lambda x: x.numpy(), solve(y0)))


def diffrax_first_call(solver, num_steps, gradient):
    """Return the seconds of the first call; `num_steps` is `None` for an adaptive solver."""
    import diffrax
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    # A class of its own makes all of it new to JAX. Its caches are not cleared on top: small
    # functions compiled along the way would then count every time, as part of the start.
    class Dynamics(eqx.Module):
        network: eqx.nn.MLP

        def __call__(self, t, y, args):
            return jax.vmap(self.network)(y)

    controller = diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE)

    def solve(inputs):
        dynamics, y0 = inputs
        return diffrax.diffeqsolve(
            diffrax.ODETerm(dynamics),
            getattr(diffrax, solver)(),
            t0=0.0,
            t1=1.0,
            dt0=1.0 / num_steps if num_steps else None,
            y0=y0,
            stepsize_controller=diffrax.ConstantStepSize() if num_steps else controller,
            adjoint=getattr(diffrax, gradient or "RecursiveCheckpointAdjoint")(),
        ).ys[0]

    if gradient is None:
        function = eqx.filter_jit(solve)
    else:
        function = eqx.filter_jit(eqx.filter_value_and_grad(lambda inputs: jnp.sum(solve(inputs))))
    network = eqx.nn.MLP(
        STATES, STATES, UNITS, 1, jax.nn.softplus, jnp.tanh, key=jax.random.PRNGKey(0)
    )
    inputs = jax.block_until_ready(
        (Dynamics(network), jax.random.normal(jax.random.PRNGKey(1), (BATCH, STATES)))
    )

    return harness.seconds(lambda: jax.block_until_ready(function(inputs)))


def cases(solvers):
    """Return what is measured: dicts of the solver in both, the steps if fixed, the gradient."""
    kinds = [(ADAPTIVE, (None,)), (FIXED, STEPS)]
    return [
        {"solver": ours, "diffrax_solver": theirs, "num_steps": steps, "gradient": gradient}
        for names, counts in kinds
        for ours, theirs in names.items()
        if ours in solvers
        for steps in counts
        for gradient in GRADIENTS
    ]


def first_calls(case):
    """Return the seconds in tfnode and in diffrax."""
    num_steps, (ours, theirs) = case["num_steps"], GRADIENTS[case["gradient"]]
    return (
        tfnode_first_call(case["solver"], num_steps, ours),
        diffrax_first_call(case["diffrax_solver"], num_steps, theirs),
    )


def measure(solvers, repeats):
    """Return the cases with the seconds of all first calls."""
    results = cases(solvers)
    for case in results[: len(GRADIENTS)]:
        first_calls(case)  # The start of the libraries is no case's.
    turns = {i: functools.partial(first_calls, case) for i, case in enumerate(results)}
    for i, pairs in harness.take_turns(turns, 0, repeats).items():
        results[i]["tfnode"], results[i]["diffrax"] = zip(*pairs)
    return results


def row_name(case):
    """Return what the table calls the solver."""
    steps = case["num_steps"]
    return case["solver"] + (f", {steps} step{'s' if steps > 1 else ''}" if steps else "")


def ratios(results):
    """Return the medians of tfnode by those of diffrax."""
    return {
        f"{row_name(case)}, {case['gradient']}": statistics.median(case["tfnode"])
        / statistics.median(case["diffrax"])
        for case in results
    }


def table(results):
    """Return the results as Markdown: seconds of tfnode and diffrax and their ratio."""
    cells = {}
    for case, ratio in zip(results, ratios(results).values()):
        numbers = [statistics.median(case["tfnode"]), statistics.median(case["diffrax"]), ratio]
        cells.setdefault(row_name(case), []).extend(f"{x:.2f}" for x in numbers)
    columns = ["seconds"]
    for gradient in GRADIENTS:
        columns += [f"{gradient}: tfnode", "diffrax", "ratio"]
    return harness.markdown(columns, [[name, *row] for name, row in cells.items()])


def main():
    """Parse the flags and print the table."""
    parser = harness.parser(__doc__, repeats=3)
    names = [*ADAPTIVE, *FIXED]
    parser.add_argument("--solvers", nargs="+", choices=names, default=names, metavar="SOLVER")
    arguments = harness.parse(parser)
    os.environ.update(harness.NO_GPU)
    logging.getLogger("tensorflow").setLevel("ERROR")  # It warns of many functions traced.
    results = measure(arguments.solvers, arguments.repeats)
    harness.report(arguments, [table(results)], {"results": results}, ratios(results))


if __name__ == "__main__":
    main()
