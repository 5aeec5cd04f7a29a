"""A small neural ODE solved to a tight tolerance: tfnode, diffrax, torchdiffeq and TFP.

Command: python benchmarks/small_ode.py

The case of diffrax's own `benchmarks/small_neural_ode.py`: a batch of 64, 4 states, dynamics
of one hidden layer of 32 softplus units and a tanh, from time 0 to 100 with Dormand-Prince
5(4) at `rtol = atol = 1e-6`, float32. The result is the sum of the last state, or of 100
states equally apart; without the gradient, or with the one in all weights and the initial
state. There is next to nothing to compute here: what is timed is the overhead of a solver.

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
| tfnode, adjoint | `gradient="adjoint"` |
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
  weights, the biases and the initial state. Nothing is timed where one is too large. The
  gradient of the discrete solution (backprop, checkpoint) is not that of the differential
  equation: here they differ by some 1e-4, most of it in the initial state.
- TensorFlow's rows call a concrete function: what `tf.function` does at every call to find
  it, 0.1 ms, `jax.jit` does in compiled code.
- Threads are left as each framework has them by default; `--threads` gives all the same.
  CPU only, and only on a machine that does nothing else.
- XLA splits products of matrices, even these small ones, among threads. With
  `XLA_FLAGS=--xla_cpu_multi_thread_eigen=false` before the command it does not: in TensorFlow
  and in JAX, so for us, TFP and diffrax alike.
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import common
import numpy as np
from mnist_step import limit_tensorflow, positive, quartiles

END = 100.0
SOLVER_TOLERANCE = 1e-6
VALUE_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-3  # Of the results, relative.
TURN = 0.02  # Seconds of calls with the clock.
PAUSE = 0.02  # Seconds between turns, in which the threads of the last one come to rest.
METHODS = {
    "torchdiffeq": ("backprop", "adjoint"),
    "diffrax": ("checkpoint", "adjoint"),
    "tfp": ("adjoint",),
    "tfnode": ("adjoint", "checkpoint"),
}
CASES = [(1, False), (100, False), (1, True), (100, True)]  # Outputs, whether with gradient.
NO_GPU = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}


@functools.cache
def problem():
    """The weights `[w1, b1, w2, b2]` and the initial state, as PyTorch would draw them."""
    rng = np.random.default_rng(0)

    def uniform(*shape, fan_in):
        return (rng.uniform(-1.0, 1.0, shape) / np.sqrt(fan_in)).astype(np.float32)

    weights = [
        uniform(4, 32, fan_in=4),
        uniform(32, fan_in=4),
        uniform(32, 4, fan_in=32),
        uniform(4, fan_in=32),
    ]
    return weights, np.random.default_rng(1).normal(size=(64, 4)).astype(np.float32)


def output_times(outputs):
    """Times from 0 to the end; the state at the last one is the only output if `outputs` is 1."""
    return np.linspace(0.0, END, max(outputs, 2), dtype=np.float32)


# A row is a function of the outputs and the method, `None` for no gradient. It returns
# `(call, costs)`: `call()` the value and the gradients on the host, and `costs()` after it
# the evaluations and the accepted and the rejected steps of the forward solve, `None` where
# unknown.


def torchdiffeq_row(outputs, method, dtype="float32", solver="dopri5", tolerance=SOLVER_TOLERANCE):
    """Eager PyTorch; the dynamics are scripted."""
    import torch
    import torchdiffeq
    from torch import nn

    class Dynamics(nn.Module):
        def __init__(self):
            super().__init__()
            network = nn.Sequential(nn.Linear(4, 32), nn.Softplus(), nn.Linear(32, 4), nn.Tanh())
            with torch.no_grad():
                for parameter, value in zip(network.parameters(), problem()[0]):
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
    y0 = torch.tensor(problem()[1], dtype=dynamics.network[0].weight.dtype, requires_grad=True)
    inputs = [*dynamics.parameters(), y0]
    t = torch.from_numpy(output_times(outputs)).to(y0)
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


def diffrax_row(outputs, method):
    """JAX."""
    import diffrax
    import jax
    import jax.numpy as jnp

    t = output_times(outputs)
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
            t1=END,
            dt0=None,
            y0=y0,
            args=weights,
            saveat=diffrax.SaveAt(ts=t) if outputs > 1 else diffrax.SaveAt(t1=True),
            stepsize_controller=diffrax.PIDController(rtol=SOLVER_TOLERANCE, atol=SOLVER_TOLERANCE),
            adjoint=diffrax.BacksolveAdjoint()
            if method == "adjoint"
            else diffrax.RecursiveCheckpointAdjoint(),
        )
        return jnp.sum(solution.ys), solution.stats

    weights, y0 = problem()
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


def tensorflow_row(solve, outputs, method):
    """TensorFlow, compiled by XLA.

    Args:
        solve: `solve(weights, y0) -> (value, costs)`.
        outputs, method: As in any row.
    """
    import tensorflow as tf

    weights, y0 = problem()
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
    """The network in TensorFlow."""
    import tensorflow as tf

    return tf.tanh(tf.nn.softplus(y @ w1 + b1) @ w2 + b2)


def tfp_row(outputs, method):
    """TensorFlow Probability."""
    import tensorflow as tf
    import tensorflow_probability as tfp

    t = output_times(outputs) if outputs > 1 else [END]

    def solve(weights, y0):
        # Its gradients reach what is given as constants, and nothing else.
        constants = dict(zip(("w1", "b1", "w2", "b2"), [tf.convert_to_tensor(w) for w in weights]))
        solver = tfp.math.ode.DormandPrince(rtol=SOLVER_TOLERANCE, atol=SOLVER_TOLERANCE)
        results = solver.solve(tensorflow_dynamics, 0.0, y0, t, constants=constants)
        costs = [results.diagnostics.num_ode_fn_evaluations, None, None]
        return tf.reduce_sum(results.states), costs

    return tensorflow_row(solve, outputs, method)


def tfnode_row(outputs, method):
    """The library of this repository."""
    import tensorflow as tf

    import tfnode

    t = output_times(outputs)
    solver = tfnode.solvers.Dopri5(rtol=SOLVER_TOLERANCE, atol=SOLVER_TOLERANCE)

    def solve(weights, y0):
        def dynamics(t, y):
            return tensorflow_dynamics(t, y, *weights)

        # Without a gradient, which one it would be does not matter.
        gradient = method or "adjoint"
        ys, stats = tfnode.odeint(
            dynamics, y0, t, solver=solver, gradient=gradient, return_stats=True
        )
        return tf.reduce_sum(ys if outputs > 1 else ys[-1]), list(stats)

    return tensorflow_row(solve, outputs, method)


ROWS = {
    "torchdiffeq": torchdiffeq_row,
    "diffrax": diffrax_row,
    "tfp": tfp_row,
    "tfnode": tfnode_row,
}


def reference(outputs):
    """The value and the gradients in float64 at a tight tolerance."""
    call, _ = torchdiffeq_row(outputs, "backprop", "float64", solver="dopri8", tolerance=1e-10)
    return call()


def limit_threads(framework, threads):
    """Gives the framework that many threads; before it does anything."""
    if framework == "torchdiffeq":
        import torch

        torch.set_num_threads(threads)
        torch.set_num_interop_threads(threads)
    elif framework == "diffrax":
        # JAX has no setting of its own. XLA reads this when it makes its pool.
        os.environ["PJRT_NPROC"] = str(threads)
    else:
        limit_tensorflow(threads)


def distances(value, gradients, exact):
    """Relative distances of the value and of the gradients to the exact ones."""
    pairs = [(np.asarray(value), np.asarray(exact[0])), *zip(gradients, exact[1])]
    found = [float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs]
    return found[0], max(found[1:], default=None)


def set_up(framework, outputs, method, exact):
    """Makes a row: `(call, facts)`."""
    start = time.perf_counter()
    call, costs = ROWS[framework](outputs, method)
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
    """The median seconds of the calls of one turn."""
    call()
    seconds, begin = [], time.perf_counter()
    while not seconds or time.perf_counter() - begin < TURN:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def serve(framework, threads):
    """The worker: answers requests from standard input, until it closes."""
    # Whatever the frameworks print must not get among the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    if threads is not None:
        limit_threads(framework, threads)
    ROWS[framework](1, None)[0]()  # Thrown away: the start of the libraries is no row's.
    answers.write("null\n")
    calls = {}
    for line in sys.stdin:
        kind, outputs, method, exact = json.loads(line)
        if kind == "reference":
            value, gradients = reference(outputs)
            answer = value, [g.tolist() for g in gradients]
        elif kind == "set_up":
            calls[outputs, method], answer = set_up(framework, outputs, method, exact)
        else:
            answer = time_turn(calls[outputs, method])
        answers.write(json.dumps(answer) + "\n")


class Worker:
    """A framework in a process of its own."""

    def __init__(self, framework, threads):
        self.framework = framework
        # Open as long as the process, which writes to it.
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        arguments = ["--worker", framework]
        if threads is not None:
            arguments += ["--threads", str(threads)]
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, **NO_GPU},
        )
        self.read()  # Until it is ready; the next one must not start while this one does.

    def read(self):
        """The next answer."""
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        sys.exit(
            f"{self.errors.read()}\nThe framework {self.framework!r} failed; its output is above. "
            "The packages that it needs come with: pip install -e '.[benchmarks]'"
        )

    def ask(self, kind, outputs, method=None, exact=None):
        """The answer to a request; nobody else runs until it is there."""
        self.process.stdin.write(json.dumps([kind, outputs, method, exact]) + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        """Ends the process."""
        self.process.kill()
        self.process.wait()


def rows_of(case):
    """The rows of a case: `(framework, method)`."""
    _, gradient = case
    return [(f, m) for f, methods in METHODS.items() for m in (methods if gradient else (None,))]


def compare(threads, warmup, repeats):
    """Sets up and times all rows: a list of dicts."""
    workers, results = {}, []
    try:
        for framework in METHODS:
            workers[framework] = Worker(framework, threads)
        exact = {n: workers["torchdiffeq"].ask("reference", n) for n in {n for n, _ in CASES}}
        for case in CASES:
            for framework, method in rows_of(case):
                facts = workers[framework].ask("set_up", case[0], method, exact[case[0]])
                row = {"outputs": case[0], "framework": framework, "method": method}
                results.append({**row, **facts, "seconds": []})
        check(results)
        for case in CASES:
            rows = [r for r in results if (r["outputs"], r["method"] is not None) == case]
            for turn in range(warmup + repeats):
                for row in rows:
                    arguments = row["outputs"], row["method"]
                    seconds = workers[row["framework"]].ask("turn", *arguments)
                    if turn >= warmup:
                        row["seconds"].append(seconds)
                    time.sleep(PAUSE)
        return results
    finally:
        for worker in workers.values():
            worker.close()


def check(results):
    """Exits if a row is far from the exact solution."""
    wrong = [
        f"{name(row)}, {row['outputs']} output(s): {row['value_error']}, {row['gradient_error']}"
        for row in results
        # Not `>`: that would let NaN pass.
        if not (
            row["value_error"] <= VALUE_TOLERANCE
            and (row["method"] is None or row["gradient_error"] <= GRADIENT_TOLERANCE)
        )
    ]
    if wrong:
        message = "\n".join(wrong)
        sys.exit(
            f"Relative errors of the value above {VALUE_TOLERANCE:g} or of the gradient above "
            f"{GRADIENT_TOLERANCE:g}:\n{message}"
        )


def name(row):
    """The row's name in the tables."""
    return row["framework"] + (f", {row['method']}" if row["method"] else "")


def table(rows):
    """A case as Markdown; ratios are to diffrax's faster row."""
    base = min(statistics.median(r["seconds"]) for r in rows if r["framework"] == "diffrax")
    gradient = rows[0]["method"] is not None
    lines = []
    for row in rows:
        low, middle, high = quartiles(row["seconds"])
        steps = "-" if row["accepted"] is None else f"{row['accepted']} + {row['rejected']}"
        line = [
            name(row),
            f"{1e3 * middle:.2f}",
            f"{1e3 * low:.2f} to {1e3 * high:.2f}",
            f"{middle / base:.2f}",
            str(row["evaluations"]),
            steps,
            f"{row['first_seconds']:.1f}",
            f"{row['value_error']:.0e}",
        ]
        lines.append([*line, f"{row['gradient_error']:.0e}"] if gradient else line)
    columns = [
        f"{rows[0]['outputs']} output{'s' if rows[0]['outputs'] > 1 else ''}",
        "median ms",
        "quartiles",
        "ratio",
        "evaluations",
        "steps",
        "first s",
        "error",
    ]
    return common.markdown([*columns, "gradient's"] if gradient else columns, lines)


def main():
    """Parses the flags and prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=positive, help="default: what each framework takes")
    parser.add_argument("--warmup", type=positive, default=5, help="turns that do not count")
    parser.add_argument("--repeats", type=positive, default=30)
    parser.add_argument("--json", metavar="FILE", help="write the results there too")
    parser.add_argument("--worker", choices=METHODS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    threads = arguments.threads

    cpus = common.available_cpus()
    facts = common.machine()
    if threads is not None:
        if threads > len(cpus):
            parser.error(f"--threads={threads}, but there are {len(cpus)} processors.")
        if threads < len(cpus) and hasattr(os, "sched_setaffinity"):
            # A framework's helper threads would otherwise have the other processors.
            os.sched_setaffinity(0, cpus[:threads])
    if arguments.worker:
        serve(arguments.worker, threads)
        return

    results = compare(threads, arguments.warmup, arguments.repeats)
    for case in CASES:
        rows = [r for r in results if (r["outputs"], r["method"] is not None) == case]
        print(table(rows), end="\n\n")
    print(f"{arguments.repeats} repeats. {common.footer(facts, threads or 'default')}")
    if arguments.json:
        settings = {
            "threads": threads,
            "warmup": arguments.warmup,
            "repeats": arguments.repeats,
            "machine": facts,
        }
        common.write_json(arguments.json, {**settings, "results": results})


if __name__ == "__main__":
    main()
