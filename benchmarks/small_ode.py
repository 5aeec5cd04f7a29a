"""Time the solve of a small neural ODE: tfnode, diffrax, torchdiffeq and TFP.

Command: python benchmarks/small_ode.py

The dynamics have one hidden layer of softplus units and a tanh, in float32, and the solver is
Dormand-Prince 5(4). There are three shapes:

| shape | batch | states | width | time | `rtol` and `atol` |
| --- | --- | --- | --- | --- | --- |
| small | 64 | 4 | 32 | 0 to 100 | 1e-6 |
| middle | 128 | 6 | 48 | 0 to 40 | 1e-5 |
| large | 1024 | 16 | 128 | 0 to 10 | 1e-5 |

The small one is that of diffrax's own `benchmarks/small_neural_ode.py`. There is next to nothing
to compute in it: the clock sees the overhead of a solver. The result is the sum of the last
state, or of 100 states equally apart; without the gradient, or with the one in all weights and
the initial state.

| row | what |
| --- | --- |
| torchdiffeq | `odeint` under `no_grad`, the network in `torch.jit.script` |
| torchdiffeq, backprop | `odeint`, differentiated step by step |
| torchdiffeq, adjoint | `odeint_adjoint` with the seminorm |
| diffrax | `diffeqsolve` as it is by default, under `jax.jit` |
| diffrax, checkpoint | `RecursiveCheckpointAdjoint`, its default |
| diffrax, adjoint | `BacksolveAdjoint` |
| tfp | `tfp.math.ode.DormandPrince` under `tf.function(jit_compile=True)` |
| tfp, adjoint | the same; the adjoint is the one gradient it has |
| tfnode | `tfnode.odeint` under `tf.function(jit_compile=True)` |
| tfnode, adjoint | `gradient=Adjoint(max_reconstruction_error=None)` |
| tfnode, checkpoint | `gradient="checkpoint"` |

What is fair here, and to whom:

- All have the same weights and initial state, and return value and gradient to the host as
  Python float and NumPy arrays, inside the clock.
- Every framework has a process of its own, and one runs while the others wait. Rows take
  turns, so that each sees the same machine. A turn is one call without the clock, then calls
  with it for `TURN` seconds, one at least; its time is their median.
- `ratio` is to the faster one of diffrax's rows.
- `evaluations` of the dynamics and `steps`, accepted and rejected, are those of the forward
  solve as each library counts them. Torchdiffeq's and diffrax's evaluations are counted in
  the dynamics, diffrax's by a callback in a solve beside the clock; TFP's steps are unknown.
- `first s` is tracing, compiling and the first call, after a throw-away row in each process;
  torchdiffeq scripts its network there.
- `error` is the relative distance to a solution in float64 at a tolerance of 1e-10: of the
  value, and of the gradient, in the Euclidean norm, the largest one among those in the
  weights, the biases and the initial state. Nothing is timed if one is too large. The
  gradient of the discrete solution (backprop, checkpoint) is not that of the differential
  equation: here they differ by some 1e-4, most of it in the initial state.
- TensorFlow's rows call a concrete function: what `tf.function` does at every call to find
  it, 0.1 ms, `jax.jit` does in compiled code.
- Threads are left as each framework has them by default; `--threads` gives all the same.
  CPU only, and only on a machine that does nothing else.
- The flags of XLA are the default ones, unless the command sets others. XLA splits products of
  matrices, even these small ones, among threads. It does not with
  `XLA_FLAGS=--xla_cpu_multi_thread_eigen=false` before the command: neither in TensorFlow nor in
  JAX, so the flag serves us, TFP and diffrax alike.
"""

import contextlib
import functools
import os
import statistics
import sys
import time
from typing import NamedTuple

import harness
import numpy as np


class Shape(NamedTuple):
    """The size of the problem: `states` and `width` are those of the network."""

    batch: int
    states: int
    width: int
    end: float
    tolerance: float  # `rtol` and `atol` of the solvers.


SHAPES = {
    "small": Shape(64, 4, 32, 100.0, 1e-6),
    "middle": Shape(128, 6, 48, 40.0, 1e-5),
    "large": Shape(1024, 16, 128, 10.0, 1e-5),
}
# The largest relative errors of the value and of the gradient, in tolerances of the solver.
VALUE_ERROR, GRADIENT_ERROR = 10.0, 1000.0
TURN = 0.02  # Seconds of calls with the clock.
METHODS = {
    "torchdiffeq": ("backprop", "adjoint"),
    "diffrax": ("checkpoint", "adjoint"),
    "tfp": ("adjoint",),
    "tfnode": ("adjoint", "checkpoint"),
}
CASES = [(1, False), (100, False), (1, True), (100, True)]  # Outputs, whether with gradient.


@functools.cache
def problem(shape):
    """Return the weights `[w1, b1, w2, b2]` and the initial state, as PyTorch would draw them."""
    rng = np.random.default_rng(0)

    def uniform(*sizes, fan_in):
        return (rng.uniform(-1.0, 1.0, sizes) / np.sqrt(fan_in)).astype(np.float32)

    weights = [
        uniform(shape.states, shape.width, fan_in=shape.states),
        uniform(shape.width, fan_in=shape.states),
        uniform(shape.width, shape.states, fan_in=shape.width),
        uniform(shape.states, fan_in=shape.width),
    ]
    y0 = np.random.default_rng(1).normal(size=(shape.batch, shape.states))
    return weights, y0.astype(np.float32)


def output_times(shape, outputs):
    """Return times from 0 to the end; if `outputs` is 1, only the last one is an output."""
    return np.linspace(0.0, shape.end, max(outputs, 2), dtype=np.float32)


# A row is a function of the shape, the outputs and the method, `None` for no gradient. It
# returns `(call, costs)`. `call()` returns the value and the gradients on the host. `costs()`
# returns the evaluations and the accepted and the rejected steps of the last forward solve, or
# `None` for what is unknown.


def torchdiffeq_row(shape, outputs, method, dtype="float32", solver="dopri5", tolerance=None):
    """Return the row of eager PyTorch; the dynamics are scripted."""
    import torch
    import torchdiffeq
    from torch import nn

    class Dynamics(nn.Module):
        def __init__(self):
            super().__init__()
            first = nn.Linear(shape.states, shape.width)
            second = nn.Linear(shape.width, shape.states)
            network = nn.Sequential(first, nn.Softplus(), second, nn.Tanh())
            with torch.no_grad():
                for parameter, value in zip(network.parameters(), problem(shape)[0]):
                    parameter.copy_(torch.from_numpy(value.T))
            self.network = torch.jit.script(network.to(getattr(torch, dtype)))
            self.evaluations = self.accepted = self.rejected = 0

        def forward(self, t, y):
            self.evaluations += 1
            return self.network(y)

        def callback_accept_step(self, t, y, dt):
            self.accepted += 1

        def callback_reject_step(self, t, y, dt):
            self.rejected += 1

    dynamics = Dynamics()
    y0 = torch.tensor(problem(shape)[1], dtype=dynamics.network[0].weight.dtype, requires_grad=True)
    inputs = [*dynamics.parameters(), y0]
    t = torch.from_numpy(output_times(shape, outputs)).to(y0)
    tolerance = tolerance or shape.tolerance
    solve, options = torchdiffeq.odeint, {}
    if method == "adjoint":
        solve, options = torchdiffeq.odeint_adjoint, {"adjoint_options": {"norm": "seminorm"}}
    costs = []

    def call():
        dynamics.evaluations = dynamics.accepted = dynamics.rejected = 0
        with torch.set_grad_enabled(method is not None):
            ys = solve(dynamics, y0, t, method=solver, rtol=tolerance, atol=tolerance, **options)
            value = ys.sum() if outputs > 1 else ys[-1].sum()
        costs[:] = dynamics.evaluations, dynamics.accepted, dynamics.rejected
        if method is None:
            return value.item(), []
        *weights, last = torch.autograd.grad(value, inputs)
        # PyTorch's matrices are transposed.
        return value.item(), [*[g.numpy().T for g in weights], last.numpy()]

    return call, lambda: costs


def diffrax_row(shape, outputs, method):
    """Return the row of JAX."""
    import diffrax
    import jax
    import jax.numpy as jnp

    t = output_times(shape, outputs)
    evaluations = []

    def dynamics(t, y, weights):
        w1, b1, w2, b2 = weights
        return jnp.tanh(jax.nn.softplus(y @ w1 + b1) @ w2 + b2)

    def counted(t, y, weights):
        jax.debug.callback(lambda: evaluations.append(1))
        return dynamics(t, y, weights)

    def solve(inputs, dynamics=dynamics):
        *weights, y0 = inputs
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(dynamics),
            diffrax.Dopri5(),
            t0=0.0,
            t1=shape.end,
            dt0=None,
            y0=y0,
            args=weights,
            saveat=diffrax.SaveAt(ts=t) if outputs > 1 else diffrax.SaveAt(t1=True),
            stepsize_controller=diffrax.PIDController(rtol=shape.tolerance, atol=shape.tolerance),
            adjoint=diffrax.BacksolveAdjoint()
            if method == "adjoint"
            else diffrax.RecursiveCheckpointAdjoint(),
        )
        return jnp.sum(solution.ys), solution.stats

    weights, y0 = problem(shape)
    inputs = [jnp.asarray(x) for x in (*weights, y0)]
    stats = {}
    if method is None:
        compiled = jax.jit(lambda inputs: (solve(inputs), []))
    else:
        compiled = jax.jit(jax.value_and_grad(solve, has_aux=True))

    def call():
        (value, found), gradients = compiled(inputs)
        stats.update(found)
        return float(value), [np.asarray(g) for g in gradients]

    def costs():
        evaluations.clear()
        jax.block_until_ready(jax.jit(lambda inputs: solve(inputs, counted))(inputs))
        jax.effects_barrier()
        steps = (int(stats[f"num_{name}_steps"]) for name in ("accepted", "rejected"))
        return [len(evaluations), *steps]

    return call, costs


def tensorflow_row(solve, shape, method):
    """Return a row of TensorFlow, compiled by XLA.

    Args:
        solve: `solve(weights, y0) -> (value, costs)`.
        shape, method: As in any row.
    """
    import tensorflow as tf

    weights, y0 = problem(shape)
    weights, y0 = [tf.Variable(w) for w in weights], tf.constant(y0)
    last = []

    @tf.function(jit_compile=True)
    def compiled(y0):
        if method is None:
            return *solve(weights, y0), []
        with tf.GradientTape() as tape:
            tape.watch(y0)
            value, costs = solve(weights, y0)
        return value, costs, tape.gradient(value, [*weights, y0])

    concrete = compiled.get_concrete_function(y0)

    def call():
        value, last[:], gradients = concrete(y0)
        return float(value), [g.numpy() for g in gradients]

    return call, lambda: [None if x is None else int(x) for x in last]


def tensorflow_dynamics(t, y, w1, b1, w2, b2):
    """Return the derivative by the network, in TensorFlow."""
    import tensorflow as tf

    return tf.tanh(tf.nn.softplus(y @ w1 + b1) @ w2 + b2)


def tfp_row(shape, outputs, method):
    """Return the row of TensorFlow Probability."""
    import tensorflow as tf
    import tensorflow_probability as tfp

    t = output_times(shape, outputs) if outputs > 1 else [shape.end]

    def solve(weights, y0):
        # Its gradients reach what is given as constants, and nothing else.
        constants = dict(zip(("w1", "b1", "w2", "b2"), [tf.convert_to_tensor(w) for w in weights]))
        solver = tfp.math.ode.DormandPrince(rtol=shape.tolerance, atol=shape.tolerance)
        results = solver.solve(tensorflow_dynamics, 0.0, y0, t, constants=constants)
        costs = [results.diagnostics.num_ode_fn_evaluations, None, None]
        return tf.reduce_sum(results.states), costs

    return tensorflow_row(solve, shape, method)


def tfnode_row(shape, outputs, method):
    """Return the row of this repository."""
    import tensorflow as tf

    import tfnode

    t = output_times(shape, outputs)
    solver = tfnode.solvers.Dopri5(rtol=shape.tolerance, atol=shape.tolerance)

    def solve(weights, y0):
        def dynamics(t, y):
            return tensorflow_dynamics(t, y, *weights)

        gradient = method
        if method == "adjoint":
            # The others' adjoints have no check, which refuses this one where time is long.
            gradient = tfnode.gradients.Adjoint(max_reconstruction_error=None)
        ys, stats = tfnode.odeint(
            dynamics, y0, t, solver=solver, gradient=gradient, return_stats=True
        )
        return tf.reduce_sum(ys if outputs > 1 else ys[-1]), list(stats)

    return tensorflow_row(solve, shape, method)


ROWS = {
    "torchdiffeq": torchdiffeq_row,
    "diffrax": diffrax_row,
    "tfp": tfp_row,
    "tfnode": tfnode_row,
}


def reference(shape, outputs):
    """Return the value and the gradients in float64 at a tight tolerance."""
    return torchdiffeq_row(shape, outputs, "backprop", "float64", "dopri8", 1e-10)[0]()


def limit_threads(framework, threads):
    """Give the framework that many threads, before it does anything."""
    if framework == "torchdiffeq":
        import torch

        torch.set_num_threads(threads)
        torch.set_num_interop_threads(threads)
    elif framework == "diffrax":
        # JAX has no setting of its own. XLA reads this when it makes its pool.
        os.environ["PJRT_NPROC"] = str(threads)
    else:
        harness.limit_tensorflow(threads)


def distances(value, gradients, exact):
    """Return relative distances of the value and of the gradients to the exact ones."""
    pairs = [(np.asarray(value), np.asarray(exact[0])), *zip(gradients, exact[1])]
    found = [float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs]
    return found[0], max(found[1:], default=None)


def set_up(framework, shape, outputs, method, exact):
    """Make a row: return `(call, facts)`."""
    start = time.perf_counter()
    call, costs = ROWS[framework](shape, outputs, method)
    value, gradients = call()
    first = time.perf_counter() - start
    evaluations, accepted, rejected = costs()
    value_error, gradient_error = distances(value, gradients, exact)
    return call, {
        "evaluations": evaluations,
        "accepted": accepted,
        "rejected": rejected,
        "first_seconds": first,
        "value": value,
        "value_error": value_error,
        "gradient_error": gradient_error,
    }


def time_turn(call):
    """Return the median seconds of the calls of one turn."""
    call()
    seconds, begin = [], time.perf_counter()
    while not seconds or time.perf_counter() - begin < TURN:
        seconds.append(harness.seconds(call))
    return statistics.median(seconds)


def start(framework, threads):
    """Set up a framework in its worker: return `None`, and what answers requests."""
    if threads is not None:
        limit_threads(framework, threads)
    ROWS[framework](SHAPES["small"], 1, None)[0]()  # The start of the libraries is no row's.
    calls = {}

    def answer(request):
        kind, name, outputs, method, exact = request
        if kind == "reference":
            value, gradients = reference(SHAPES[name], outputs)
            return value, [g.tolist() for g in gradients]
        if kind == "set_up":
            call, facts = set_up(framework, SHAPES[name], outputs, method, exact)
            calls[name, outputs, method] = call
            return facts
        return time_turn(calls[name, outputs, method])

    return None, answer


def compare(shapes, warmup, repeats):
    """Set up and time all rows: return a list of dicts."""
    results = []
    with contextlib.ExitStack() as stack:
        workers = {
            framework: stack.enter_context(harness.Worker(framework, environment=harness.NO_GPU))
            for framework in METHODS
        }
        for shape in shapes:
            exact = {
                outputs: workers["torchdiffeq"].ask(["reference", shape, outputs, None, None])
                for outputs in {outputs for outputs, _ in CASES}
            }
            for outputs, gradient in CASES:
                for framework, methods in METHODS.items():
                    for method in methods if gradient else (None,):
                        facts = workers[framework].ask(
                            ["set_up", shape, outputs, method, exact[outputs]]
                        )
                        row = {"shape": shape, "outputs": outputs, "framework": framework}
                        results.append({**row, "method": method, **facts})
        check(results)
        for rows in tables_of(results):
            turns = {
                i: functools.partial(
                    workers[row["framework"]].ask,
                    ["turn", row["shape"], row["outputs"], row["method"], None],
                )
                for i, row in enumerate(rows)
            }
            for i, seconds in harness.take_turns(turns, warmup, repeats).items():
                rows[i]["seconds"] = seconds
    return results


def tables_of(results):
    """Return the rows of each table, a list of lists."""
    found = {}
    for row in results:
        key = row["shape"], row["outputs"], row["method"] is not None
        found.setdefault(key, []).append(row)
    return list(found.values())


def check(results):
    """Exit if a row is far from the exact solution."""
    wrong = []
    for row in results:
        tolerance = SHAPES[row["shape"]].tolerance
        errors = row["value_error"] / VALUE_ERROR, (row["gradient_error"] or 0.0) / GRADIENT_ERROR
        if not all(error <= tolerance for error in errors):  # NaN is not.
            errors = f"{row['value_error']}, {row['gradient_error']}"
            wrong.append(f"{row['shape']}, {name(row)}, {row['outputs']} output(s): {errors}")
    if wrong:
        sys.exit(
            f"Relative errors of the value above {VALUE_ERROR:g} tolerances or of the gradient "
            f"above {GRADIENT_ERROR:g}:\n" + "\n".join(wrong)
        )


def name(row):
    """Return the row's name in the tables."""
    return row["framework"] + (f", {row['method']}" if row["method"] else "")


def title(row):
    """Return the name of the row's table."""
    outputs = f"{row['outputs']} output{'s' if row['outputs'] > 1 else ''}"
    return f"{row['shape']}, {outputs}"


def table_ratios(rows):
    """Return the medians of a table's rows by that of diffrax's faster row."""
    medians = [statistics.median(row["seconds"]) for row in rows]
    base = min(m for row, m in zip(rows, medians) if row["framework"] == "diffrax")
    return [median / base for median in medians]


def ratios(results):
    """Return the ratios of tfnode's rows, by name."""
    return {
        f"{title(row)}, {row['method'] or 'forward'}": ratio
        for rows in tables_of(results)
        for row, ratio in zip(rows, table_ratios(rows))
        if row["framework"] == "tfnode"
    }


def table(rows):
    """Return a table as Markdown."""
    lines = []
    for row, ratio in zip(rows, table_ratios(rows)):
        steps = "-" if row["accepted"] is None else f"{row['accepted']} + {row['rejected']}"
        line = [name(row), *harness.milliseconds(row["seconds"], 2), f"{ratio:.2f}"]
        line += [str(row["evaluations"]), steps, f"{row['first_seconds']:.1f}"]
        errors = [row["value_error"], *([row["gradient_error"]] if row["method"] else [])]
        lines.append([*line, *(f"{error:.0e}" for error in errors)])
    columns = [title(rows[0]), "median ms", "quartiles", "ratio", "evaluations", "steps"]
    columns += ["first s", "error", *(["gradient's"] if rows[0]["method"] else [])]
    return harness.markdown(columns, lines)


def main():
    """Parse the flags and print the tables."""
    parser = harness.parser(__doc__, threads=None, warmup=5, repeats=30)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    arguments = harness.parse(parser)
    if arguments.worker:
        harness.serve(lambda: start(arguments.worker, arguments.threads))
        return
    results = compare(arguments.shapes, arguments.warmup, arguments.repeats)
    tables = [table(rows) for rows in tables_of(results)]
    harness.report(arguments, tables, {"results": results}, ratios(results))


if __name__ == "__main__":
    main()
