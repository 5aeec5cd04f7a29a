"""Time eager solves, the first and the later ones, and watch the memory of many.

Command: python benchmarks/eager.py

The predator-prey model of Lotka and Volterra with 100 outputs, by Dormand-Prince 5(4) in
float64, called without `tf.function`, beside torchdiffeq. `short` is a solve to t = 10 at
rtol = atol = 1e-4, `long` one to t = 100 at 1e-6. `solve` is the sum of the last state,
`gradient` the same with its gradient in the initial state and the four rates. `first` is the
first call of a process that has loaded its libraries; the other calls take turns. With every
call the rates have new values, so that nothing may be remembered but the program.

`start` is a process: Python, the imports, and one short solve.

The memory is the growth of a process from solve 50 on: over `--solves` eager solves with their
gradient, and a tenth as many solves, each traced by a `tf.function` of its own.
"""

import gc
import os
import pathlib
import subprocess
import sys
import time

import harness
import numpy as np

CASES = {"short": (10.0, 1e-4), "long": (100.0, 1e-6)}
GRADIENTS = {"torchdiffeq": ("backprop", "adjoint"), "tfnode": ("checkpoint", "adjoint")}
RATES = np.array([1.5, 1.0, 3.0, 1.0])
Y0 = np.array([1.0, 1.0])
OUTPUTS = 100


def torchdiffeq_call(case, method):
    """Return a function of the rates: the value and the gradients, by torchdiffeq."""
    import torch
    import torchdiffeq

    end, tolerance = CASES[case]
    times = torch.linspace(0.0, end, OUTPUTS, dtype=torch.float64)

    class Field(torch.nn.Module):
        def __init__(self, rates):
            super().__init__()
            self.rates = torch.nn.Parameter(torch.tensor(rates))

        def forward(self, t, y):
            a, b, c, d = self.rates
            u, v = y
            return torch.stack([a * u - b * u * v, d * u * v - c * v])

    def call(rates):
        field, y0 = Field(rates), torch.tensor(Y0, requires_grad=True)
        solve = torchdiffeq.odeint_adjoint if method == "adjoint" else torchdiffeq.odeint
        with torch.set_grad_enabled(method is not None):
            ys = solve(field, y0, times, rtol=tolerance, atol=tolerance, method="dopri5")
            total = torch.sum(ys[-1])
        if method is None:
            return total.item(), []
        return total.item(), [g.numpy() for g in torch.autograd.grad(total, [y0, field.rates])]

    return call


def tfnode_call(case, method):
    """Return a function of the rates: the value and the gradients, by tfnode."""
    import tensorflow as tf

    import tfnode

    end, tolerance = CASES[case]
    times = np.linspace(0.0, end, OUTPUTS)

    def call(rates):
        y0, rates = tf.constant(Y0), tf.constant(rates)

        def field(t, y):
            a, b, c, d = tf.unstack(rates)
            u, v = tf.unstack(y)
            return tf.stack([a * u - b * u * v, d * u * v - c * v])

        def value():
            ys = tfnode.odeint(
                field, y0, times, rtol=tolerance, atol=tolerance, gradient=method or "checkpoint"
            )
            return tf.reduce_sum(ys[-1])

        if method is None:
            return float(value()), []
        with tf.GradientTape() as tape:
            tape.watch([y0, rates])
            total = value()
        return float(total), [g.numpy() for g in tape.gradient(total, [y0, rates])]

    return call


def growth(solves):
    """Return the MiB by which a process grows over many solves, eager and traced."""
    import memory
    import tensorflow as tf

    import tfnode

    call = tfnode_call("short", "checkpoint")

    def eager(n):
        call(RATES * (1.0 + 1e-5 * n))

    def traced(n):
        @tf.function
        def solve(y0):
            return tfnode.odeint(lambda t, y: -y, y0, np.linspace(0.0, 1.0, 5))

        solve(tf.constant(Y0))

    found = {}
    for run, count in ((eager, solves), (traced, max(solves // 10, 51))):
        for n in range(count):
            if n == 50:
                gc.collect()
                before = memory.resident_bytes()
            run(n)
        gc.collect()
        found[run.__name__] = (memory.resident_bytes() - before) / memory.MIB
    return found


def start(framework, arguments):
    """Set up a framework in its worker: return `None`, and what answers requests."""
    if framework == "tfnode":
        harness.limit_tensorflow(arguments.threads)
        import tfnode

        assert tfnode.odeint  # Loaded before the clock runs.
    else:
        import torch
        import torchdiffeq  # noqa: F401

        torch.set_num_threads(arguments.threads)
    make = {"tfnode": tfnode_call, "torchdiffeq": torchdiffeq_call}[framework]
    calls, random = {}, np.random.default_rng(0)

    def answer(request):
        kind, *key = request
        if kind == "memory":
            return growth(arguments.solves)
        if kind == "first":
            calls[tuple(key)] = make(*key)
        rates = RATES * (1.0 + 1e-3 * random.normal(size=4)) if kind == "turn" else RATES
        begin = time.perf_counter()
        value, gradients = calls[tuple(key)](rates)
        taken = time.perf_counter() - begin
        return taken if kind == "turn" else [taken, value, [g.tolist() for g in gradients]]

    return None, answer


def whole(framework):
    """Return the seconds of a process that solves once."""
    call = f"eager.{framework}_call('short', None)(eager.RATES)"
    return harness.seconds(
        lambda: subprocess.run(
            [sys.executable, "-c", f"import eager; {call}"],
            cwd=pathlib.Path(__file__).parent,
            env={**os.environ, **dict(harness.NO_GPU)},
            stderr=subprocess.DEVNULL,
            check=True,
        )
    )


def first(framework, case, method):
    """Return the first call of a process of its own: its seconds, value and gradients."""
    with harness.Worker(framework, environment=harness.NO_GPU.items()) as worker:
        return worker.ask(["first", case, method])


def main():
    """Parse the flags, time the rows and print the table."""
    parser = harness.parser(__doc__, repeats=7, warmup=2, threads=2)
    parser.add_argument("--solves", type=harness.positive, default=5000)
    arguments = harness.parse(parser)
    if arguments.worker:
        harness.serve(lambda: start(arguments.worker, arguments))
        return
    rows = [
        (case, framework, method)
        for case in CASES
        for methods in (False, True)
        for framework in GRADIENTS
        for method in (GRADIENTS[framework] if methods else (None,))
    ]
    firsts = {row: first(row[1], row[0], row[2]) for row in rows}
    check(firsts)
    workers = {name: harness.Worker(name, environment=harness.NO_GPU.items()) for name in GRADIENTS}
    for case, framework, method in rows:
        workers[framework].ask(["first", case, method])
    turns = {row: lambda row=row: workers[row[1]].ask(["turn", row[0], row[2]]) for row in rows}
    times = harness.take_turns(turns, arguments.warmup, arguments.repeats)
    for worker in workers.values():
        worker.__exit__()
    starts = harness.take_turns({name: lambda name=name: whole(name) for name in GRADIENTS}, 1, 5)
    with harness.Worker("tfnode", environment=harness.NO_GPU.items()) as worker:
        grown = worker.ask(["memory"])
    middle = {row: harness.quartiles(x)[1] for row, x in times.items()}

    def ratio(row):
        """Return the ratio to torchdiffeq, to its backpropagation where there is a gradient."""
        return middle[row] / middle[row[0], "torchdiffeq", row[2] and "backprop"]

    columns = ("solve", "row", "first, ms", "later, ms", "quartiles", "ratio")
    table = [
        (
            f"{case}, {'solve' if method is None else 'gradient'}",
            framework if method is None else f"{framework}, {method}",
            f"{1e3 * firsts[case, framework, method][0]:.0f}",
            *harness.milliseconds(times[case, framework, method], 0),
            f"{ratio((case, framework, method)):.2f}",
        )
        for case, framework, method in rows
    ]
    facts = [(name, *harness.milliseconds(x, 0)) for name, x in starts.items()]
    kept = [(name, f"{x:.1f}") for name, x in grown.items()]
    tables = [
        harness.markdown(columns, table),
        harness.markdown(("start", "median ms", "quartiles"), facts),
        harness.markdown(("solves", "growth, MiB"), kept),
    ]
    found = {
        "first": {", ".join(map(str, row)): x[0] for row, x in firsts.items()},
        "seconds": {", ".join(map(str, row)): x for row, x in times.items()},
        "start": starts,
        "growth": grown,
    }
    ratios = {", ".join(map(str, row)): ratio(row) for row in rows if row[1] == "tfnode"}
    harness.report(arguments, tables, found, ratios, "Ratios are to torchdiffeq. ")


def check(firsts):
    """Exit if the libraries do not find the same."""
    for (case, framework, method), (_, value, gradients) in firsts.items():
        _, wanted, _ = firsts[case, "torchdiffeq", None]
        flat, exact = (
            np.concatenate([[v], *map(np.ravel, g)]) if g else np.array([v])
            for v, g in (
                (value, gradients),
                (wanted, firsts[case, "torchdiffeq", "backprop"][2] if method else []),
            )
        )
        # The phase of a long solve is sensitive, and its gradient more.
        if not np.linalg.norm(flat - exact) <= 5e-2 * np.linalg.norm(exact):
            sys.exit(f"{case}, {framework}, {method}: {flat}, but torchdiffeq has {exact}.")


if __name__ == "__main__":
    main()
