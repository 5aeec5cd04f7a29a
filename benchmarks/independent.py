"""Time a batch of samples that need very different steps: one step for all, or each its own.

Command: python benchmarks/independent.py
         python benchmarks/independent.py --quick

Van der Pol oscillators with mu from 0.1 to `--stiffest`, evenly on a logarithmic scale, from t = 0
to 20 by Dopri5 at rtol = atol = 1e-6. With a shared step every sample takes the steps that the
stiffest needs; with steps of their own the work is the sum. The dynamics are a few operations on
two numbers, so that what the solver does itself counts as much as it can; `--width` appends a
network of that many units, whose output is multiplied by 0, to show dynamics that cost something.

A row evaluated is one evaluation of the dynamics for one sample. `gradient` is the time of a solve
together with its gradient by 'checkpoint' in the initial states. Not under XLA.
"""

import harness

ROWS = {"shared": "one step for all", "independent": "each its own"}


def oscillators(batch_size, stiffest, width):
    """Return the dynamics, for a scalar time or one for each sample, and the initial states."""
    import numpy as np
    import tensorflow as tf

    mu = np.geomspace(0.1, stiffest, batch_size)
    y0 = tf.constant(np.stack([np.full(batch_size, 2.0), np.zeros(batch_size), mu], 1))
    random = np.random.default_rng(0)
    wide, narrow = (tf.constant(random.normal(size=size)) for size in ((2, width), (width, 1)))

    def func(t, y):
        x, v, mu = tf.unstack(y, axis=1)
        dv = mu * (1.0 - x**2) * v - x
        if width:
            dv += 0.0 * (tf.tanh(y[:, :2] @ wide) @ narrow)[:, 0]
        return tf.stack([v, dv, tf.zeros_like(mu)], 1)

    return func, y0


def solves(arguments):
    """Return for each row a solve and a solve with its gradient, and the rows it evaluates."""
    import tensorflow as tf

    import tfnode

    func, y0 = oscillators(arguments.batch_size, arguments.stiffest, arguments.width)
    solver = tfnode.solvers.Dopri5(rtol=1e-6, atol=1e-6, max_steps=100_000)
    turns, evaluated = {}, {}
    for row in ROWS:

        def solve(y0, row=row):
            return tfnode.odeint(
                func,
                y0,
                [0.0, 20.0],
                solver=solver,
                independent=row == "independent",
                return_stats=True,
            )

        def gradient(y0, solve=solve):
            with tf.GradientTape() as tape:
                tape.watch(y0)
                loss = tf.reduce_sum(solve(y0)[0][-1] ** 2)
            return tape.gradient(loss, y0)

        forward, backward = tf.function(solve), tf.function(gradient)
        _, stats = forward(y0)
        total = tf.reduce_sum(stats.num_evaluations)
        evaluated[row] = int(total) * (1 if row == "independent" else arguments.batch_size)
        turns[row] = lambda forward=forward: harness.seconds(lambda: forward(y0)[0].numpy())
        turns[row + " gradient"] = lambda f=backward: harness.seconds(lambda: f(y0).numpy())
    return turns, evaluated


def main():
    """Parse the flags and print the table."""
    parser = harness.parser(__doc__, batch_size=256, stiffest=50, repeats=9, warmup=2, threads=2)
    parser.add_argument("--width", type=int, default=0, help="of a network in the dynamics")
    parser.add_argument("--quick", action="store_true", help="few samples and one turn")
    arguments = harness.parse(parser)
    if arguments.quick:
        arguments.batch_size, arguments.stiffest = 8, 5
        arguments.repeats, arguments.warmup = 1, 1
    harness.limit_tensorflow(arguments.threads)
    turns, evaluated = solves(arguments)
    times = harness.take_turns(turns, arguments.warmup, arguments.repeats)
    columns = ("steps", "rows evaluated", "solve, ms", "quartiles", "gradient, ms", "quartiles")
    rows = [
        (
            label,
            f"{evaluated[row]:,}",
            *harness.milliseconds(times[row], 1),
            *harness.milliseconds(times[row + " gradient"], 1),
        )
        for row, label in ROWS.items()
    ]
    table = harness.markdown(columns, rows)
    harness.report(arguments, [table], {"evaluated": evaluated, "seconds": times})


if __name__ == "__main__":
    main()
