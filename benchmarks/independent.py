"""Time a batch of samples that need very different steps: one step for all, or each its own.

Command: python benchmarks/independent.py
         python benchmarks/independent.py --quick

256 van der Pol oscillators with mu from 0.1 to 20, evenly on a logarithmic scale, from t = 0 to
20 with 50 outputs, by Dormand-Prince 5(4) at rtol = atol = 1e-6 in float64. `solve` is the sum of
the squares of all states; `gradient` is the same with its gradient in the initial states and mu.

| row | what |
| --- | --- |
| torchdiffeq | `odeint`, one step for all |
| torchode | `AutoDiffAdjoint`, each sample its own steps; PyTorch 2.13 cannot script it |
| diffrax | `diffeqsolve` under `jax.vmap` and `jax.jit`, each its own steps |
| tfnode, shared | `tfnode.odeint`, one step for all |
| tfnode | `independent=True`, each its own |
| tfnode, XLA | the same under `tf.function(jit_compile=True)` |

A row evaluated is one evaluation of the dynamics for one sample. With a shared step every sample
takes the steps that the stiffest one needs. Under `vmap`, and under XLA, a sample that is done is
evaluated with the others until the last one is; the count is that of the steps it takes itself.
`alone` is the sum of the evaluations of our solves of each sample alone.

Every framework has a process of its own, and the rows take turns.
"""

import harness
import numpy as np

TOLERANCE, END, OUTPUTS = 1e-6, 20.0, 50
# The largest relative distances to our result. The phase of a stiff oscillator is sensitive.
LIMITS = {"value": 1e-2, "gradient": 1e-1}
ROWS = {
    "torchdiffeq": "torchdiffeq",
    "torchode": "torchode",
    "diffrax": "diffrax",
    "tfnode, shared": "tfnode",
    "tfnode": "tfnode",
    "tfnode, XLA": "tfnode",
}
PEERS = ("torchdiffeq", "torchode", "diffrax")


def problem(batch_size):
    """Return the initial states and mu."""
    y0 = np.stack([np.full(batch_size, 2.0), np.zeros(batch_size)], 1)
    return y0, np.geomspace(0.1, 20.0, batch_size)


# A row is a function of its name and the size of the batch. It returns `solve()`, the value, and
# `gradient()`, the value and the gradients, on the host; and the rows evaluated.


def torchdiffeq_row(name, batch_size):
    """Return the row of torchdiffeq."""
    import torch
    import torchdiffeq

    y0, mu = (torch.tensor(x, requires_grad=True) for x in problem(batch_size))
    times, calls = torch.linspace(0.0, END, OUTPUTS, dtype=torch.float64), []

    def func(t, y):
        calls.append(batch_size)
        x, v = y[:, 0], y[:, 1]
        return torch.stack([v, mu * (1.0 - x**2) * v - x], 1)

    def value():
        calls.clear()
        ys = torchdiffeq.odeint(func, y0, times, rtol=TOLERANCE, atol=TOLERANCE)
        return torch.sum(ys**2)

    return *of_torch(value, [y0, mu]), lambda: sum(calls)


def torchode_row(name, batch_size):
    """Return a row of torchode."""
    import torch
    import torchode

    y0, mu = (torch.tensor(x, requires_grad=True) for x in problem(batch_size))
    times = torch.linspace(0.0, END, OUTPUTS, dtype=torch.float64).repeat(batch_size, 1)

    class Dynamics(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mu = mu

        def forward(self, t, y):
            x, v = y[:, 0], y[:, 1]
            return torch.stack([v, self.mu * (1.0 - x * x) * v - x], 1)

    term = torchode.ODETerm(Dynamics())
    controller = torchode.PIDController(
        TOLERANCE, TOLERANCE, pcoeff=0.2, icoeff=0.5, dcoeff=0.0, term=term
    )
    solver = torchode.AutoDiffAdjoint(torchode.Dopri5(term=term), controller)
    stats = {}

    def value():
        solution = solver.solve(torchode.InitialValueProblem(y0=y0, t_eval=times))
        stats.update(solution.stats)
        return torch.sum(solution.ys**2)

    return *of_torch(value, [y0, mu]), lambda: int(stats["n_f_evals"].sum())


def of_torch(value, inputs):
    """Return the solve and the gradient of a row in PyTorch."""
    import torch

    def solve():
        with torch.no_grad():
            return value().item(), []

    def gradient():
        total = value()
        return total.item(), [g.numpy() for g in torch.autograd.grad(total, inputs)]

    return solve, gradient


def diffrax_row(name, batch_size):
    """Return the row of diffrax."""
    import diffrax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    times = jnp.linspace(0.0, END, OUTPUTS)

    def func(t, y, mu):
        x, v = y
        return jnp.stack([v, mu * (1.0 - x**2) * v - x])

    def one(y0, mu):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(func),
            diffrax.Dopri5(),
            t0=0.0,
            t1=END,
            dt0=None,
            y0=y0,
            args=mu,
            saveat=diffrax.SaveAt(ts=times),
            stepsize_controller=diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE),
        )
        return jnp.sum(solution.ys**2), solution.stats["num_steps"]

    def value(inputs):
        values, steps = jax.vmap(one)(*inputs)
        return jnp.sum(values), steps

    inputs = [jnp.asarray(x) for x in problem(batch_size)]
    forward, backward = jax.jit(value), jax.jit(jax.value_and_grad(value, has_aux=True))
    steps = []

    def solve():
        total, steps[:] = forward(inputs)
        return float(total), []

    def gradient():
        (total, _), gradients = backward(inputs)
        return float(total), [np.asarray(g) for g in gradients]

    # Six new stages a step, and two evaluations for the first one.
    return solve, gradient, lambda: int(sum(6 * int(n) + 2 for n in steps))


def tfnode_row(name, batch_size):
    """Return a row of this repository."""
    import tensorflow as tf

    import tfnode

    inputs = [tf.constant(x) for x in problem(batch_size)]
    solver = tfnode.solvers.Dopri5(rtol=TOLERANCE, atol=TOLERANCE)
    shared = "shared" in name

    def value(y0, mu):
        def func(t, y):
            x, v, mu = tf.unstack(y, axis=1)
            return tf.stack([v, mu * (1.0 - x**2) * v - x, tf.zeros_like(x)], 1)

        # As a part of the state, mu is dropped with the samples that are done; it adds nothing
        # to the error.
        ys, stats = tfnode.odeint(
            func,
            tf.concat([y0, mu[:, tf.newaxis]], 1),
            np.linspace(0.0, END, OUTPUTS),
            solver=solver,
            independent=not shared,
            return_stats=True,
        )
        rows = tf.reduce_sum(stats.num_evaluations) * (batch_size if shared else 1)
        return tf.reduce_sum(ys[:, :, :2] ** 2), rows

    @tf.function(jit_compile="XLA" in name)
    def differentiated(y0, mu):
        with tf.GradientTape() as tape:
            tape.watch([y0, mu])
            total, _ = value(y0, mu)
        return total, tape.gradient(total, [y0, mu])

    forward, rows = tf.function(value, jit_compile="XLA" in name), []

    def solve():
        total, count = forward(*inputs)
        rows[:] = [count]
        return float(total), []

    def gradient():
        total, gradients = differentiated(*inputs)
        return float(total), [g.numpy() for g in gradients]

    return solve, gradient, lambda: int(rows[0])


def alone(batch_size):
    """Return the evaluations of our solves of each sample alone, summed."""
    import tensorflow as tf

    import tfnode

    solver = tfnode.solvers.Dopri5(rtol=TOLERANCE, atol=TOLERANCE)

    @tf.function
    def one(y0, mu):
        def func(t, y):
            # A component that is zero, as mu is one in the batch.
            x, v = y[0], y[1]
            return tf.stack([v, mu * (1.0 - x**2) * v - x, tf.zeros_like(x)])

        y0 = tf.concat([y0, mu[tf.newaxis]], 0)
        times = np.linspace(0.0, END, OUTPUTS)
        return tfnode.odeint(func, y0, times, solver=solver, return_stats=True)[1].num_evaluations

    return sum(int(one(*map(tf.constant, pair))) for pair in zip(*problem(batch_size)))


def start(framework, arguments):
    """Set up a framework in its worker: return `None`, and what answers requests."""
    if framework.startswith("torch"):
        import torch

        torch.set_num_threads(arguments.threads)
    elif framework == "tfnode":
        harness.limit_tensorflow(arguments.threads)
    make = {
        "torchdiffeq": torchdiffeq_row,
        "torchode": torchode_row,
        "diffrax": diffrax_row,
        "tfnode": tfnode_row,
    }[framework]
    rows = {}

    def answer(request):
        kind, name = request
        if kind == "alone":
            return alone(arguments.batch_size)
        if kind == "set_up":
            rows[name] = make(name, arguments.batch_size)
            solve, gradient, evaluated = rows[name]
            value, _ = solve()
            count = evaluated()
            _, gradients = gradient()
            flat = np.concatenate([np.ravel(g) for g in gradients]).tolist()
            return {"value": [value], "evaluated": count, "gradient": flat}
        return harness.seconds(rows[name][0 if kind == "solve" else 1])

    return None, answer


def main():
    """Parse the flags, time the rows and print the table."""
    parser = harness.parser(__doc__, batch_size=256, repeats=7, warmup=2, threads=2)
    parser.add_argument("--quick", action="store_true", help="few samples and one turn")
    arguments = harness.parse(parser)
    if arguments.quick:
        arguments.batch_size, arguments.repeats, arguments.warmup = 8, 1, 1
    if arguments.worker:
        harness.serve(lambda: start(arguments.worker, arguments))
        return
    workers = {
        framework: harness.Worker(framework, environment=harness.NO_GPU.items())
        for framework in dict.fromkeys(ROWS.values())
    }
    facts = {name: workers[framework].ask(["set_up", name]) for name, framework in ROWS.items()}
    for name, fact in facts.items():
        for key, limit in LIMITS.items():
            found, exact = (np.array(x[key]) for x in (fact, facts["tfnode"]))
            error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
            if error > limit:
                raise SystemExit(f"{name}: its {key} is another, by {error:.1e} of it.")
    turns = {
        (kind, name): lambda kind=kind, name=name: workers[ROWS[name]].ask([kind, name])
        for name in ROWS
        for kind in ("solve", "gradient")
    }
    times = harness.take_turns(turns, arguments.warmup, arguments.repeats)
    alone_rows = workers["tfnode"].ask(["alone", ""])
    for worker in workers.values():
        worker.__exit__()
    middle = {key: harness.quartiles(x)[1] for key, x in times.items()}
    best = {kind: min(middle[kind, name] for name in PEERS) for kind in ("solve", "gradient")}
    columns = ("row", "rows evaluated", "solve, ms", "ratio", "gradient, ms", "ratio")
    rows = [
        (
            name,
            f"{facts[name]['evaluated']:,}",
            *(
                cell
                for kind in ("solve", "gradient")
                for cell in (
                    harness.milliseconds(times[kind, name], 0)[0],
                    f"{middle[kind, name] / best[kind]:.2f}",
                )
            ),
        )
        for name in ROWS
    ]
    table = harness.markdown(columns, [*rows, ("alone", f"{alone_rows:,}", "", "", "", "")])
    ratios = {
        f"{name}, {kind}": middle[kind, name] / best[kind]
        for name in ROWS
        for kind in ("solve", "gradient")
        if name not in PEERS
    }
    found = {
        "evaluated": {name: fact["evaluated"] for name, fact in facts.items()},
        "alone": alone_rows,
        "seconds": {f"{name}, {kind}": x for (kind, name), x in times.items()},
    }
    harness.report(arguments, [table], found, ratios, "Ratios are to the fastest peer. ")


if __name__ == "__main__":
    main()
