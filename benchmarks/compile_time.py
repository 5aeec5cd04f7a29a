"""Time to trace and compile a small neural ODE: tfnode against diffrax.

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

import argparse
import logging
import os
import statistics
import time

import common
from mnist_step import positive
from small_ode import NO_GPU

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
    """Seconds of the first call; `num_steps` is `None` for an adaptive solver."""
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

    start = time.perf_counter()
    tf.nest.map_structure(lambda x: x.numpy(), solve(y0))
    return time.perf_counter() - start


def diffrax_first_call(solver, num_steps, gradient):
    """Seconds of the first call; `num_steps` is `None` for an adaptive solver."""
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

    start = time.perf_counter()
    jax.block_until_ready(function(inputs))
    return time.perf_counter() - start


def cases(solvers):
    """Rows of the table: the solver in tfnode and in diffrax, and the steps if fixed."""
    adaptive = [(ours, theirs, None) for ours, theirs in ADAPTIVE.items() if ours in solvers]
    fixed = [(o, t, steps) for o, t in FIXED.items() if o in solvers for steps in STEPS]
    return adaptive + fixed


def measure(solvers, repeats):
    """First calls of all rows and columns, a list of dicts."""
    results = [
        {"solver": ours, "diffrax_solver": theirs, "num_steps": num_steps, "gradient": gradient}
        for ours, theirs, num_steps in cases(solvers)
        for gradient in GRADIENTS
    ]
    for result in results[: len(GRADIENTS)]:
        first_calls(result)  # Thrown away.
    seconds = [[first_calls(result) for result in results] for _ in range(repeats)]
    for result, pairs in zip(results, zip(*seconds)):
        result["tfnode"], result["diffrax"] = zip(*pairs)
    return results


def first_calls(result):
    """Seconds in tfnode and in diffrax."""
    num_steps, (ours, theirs) = result["num_steps"], GRADIENTS[result["gradient"]]
    return (
        tfnode_first_call(result["solver"], num_steps, ours),
        diffrax_first_call(result["diffrax_solver"], num_steps, theirs),
    )


def table(results):
    """The results as Markdown: seconds of tfnode and diffrax and their ratio."""
    cells = {}
    for result in results:
        name = result["solver"]
        if result["num_steps"]:
            name += f", {result['num_steps']} step{'s' if result['num_steps'] > 1 else ''}"
        ours, theirs = (statistics.median(result[library]) for library in ("tfnode", "diffrax"))
        cells.setdefault(name, []).extend([f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs:.2f}"])
    columns = ["seconds"]
    for gradient in GRADIENTS:
        columns += [f"{gradient}: tfnode", "diffrax", "ratio"]
    return common.markdown(columns, [[name, *row] for name, row in cells.items()])


def main():
    """Parses the flags and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*ADAPTIVE, *FIXED]
    parser.add_argument("--solvers", nargs="+", choices=names, default=names, metavar="SOLVER")
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--json", metavar="FILE", help="write the results there too")
    arguments = parser.parse_args()

    facts = common.machine()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.update(NO_GPU)
    logging.getLogger("tensorflow").setLevel("ERROR")  # It warns of many functions traced.
    results = measure(arguments.solvers, arguments.repeats)
    print(table(results))
    print(f"\n{arguments.repeats} repeats. {common.footer(facts, 'default')}")
    if arguments.json:
        settings = {"repeats": arguments.repeats, "machine": facts}
        common.write_json(arguments.json, {**settings, "results": results})


if __name__ == "__main__":
    main()
