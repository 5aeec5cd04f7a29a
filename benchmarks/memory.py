"""Measure the peak memory of one training step against the number of solver steps.

Command: python benchmarks/memory.py

The network of `mnist_step.py` with 1, 4, 16 and 64 steps of the 3/8 rule, for every gradient
method. The adjoint keeps nothing between steps, so its memory does not grow with them;
backpropagation keeps every evaluation; checkpoints keep one state a step, up to `max_states`:
here 16, so that the bound can be seen, and 128 by default.

Every measurement is a process of its own. `before` is the resident memory of the process
with TensorFlow, the compiled model and the batch, before the first step; `peak` is the
largest resident memory that the operating system saw (`ru_maxrss`) after some steps, and
`growth` the difference: what tracing and running a step takes. CPU only.

At the default batch of 64, backpropagation through 64 steps needs about 4 GiB. Unlike times,
the figures of memory do not mind a machine that is busy.
"""

import os
import sys

import harness

GRADIENTS = ("adjoint", "checkpoint", "backprop")
MAX_STATES = 16
MIB = 2**20


def peak_bytes():
    """Return the largest resident memory of this process so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def resident_bytes():
    """Return the resident memory of this process now, or where unknown its peak so far."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_bytes()


def measure(gradient, num_steps, arguments):
    """Return a dict of bytes and of the seconds of a step; the process must be new."""
    import mnist_step

    harness.limit_tensorflow(arguments.threads)
    import tfnode

    solver = tfnode.solvers.RK38(num_steps=num_steps)
    if gradient == "checkpoint":
        gradient = tfnode.gradients.Checkpoint(max_states=MAX_STATES)
    model = tfnode.models.odenet(solver=solver, gradient=gradient)
    step, _ = mnist_step.keras_step(model, arguments.batch_size)
    before = resident_bytes()
    seconds = [harness.seconds(step) for _ in range(arguments.training_steps)]
    peak = peak_bytes()
    return {
        "before": before,
        "peak": peak,
        "growth": peak - before,
        "last_step_seconds": seconds[-1],
    }


def measure_apart(gradient, num_steps):
    """Return what a process of its own measured; nothing if it was killed, as by the system."""
    try:
        with harness.Worker(f"{gradient} {num_steps}") as worker:
            return worker.ready
    except harness.Died as died:
        if died.returncode >= 0:
            raise
        print(f"{gradient}, {num_steps} steps: killed by signal {-died.returncode}")
        return {}


def table(results):
    """Return the results as Markdown."""
    columns = ("gradient", "steps", "before, MiB", "peak, MiB", "growth, MiB", "s a step")
    rows = []
    for result in results:
        numbers = ["out of memory", "", "", ""]
        if "peak" in result:
            numbers = [f"{result[name] / MIB:,.0f}" for name in ("before", "peak", "growth")]
            numbers.append(f"{result['last_step_seconds']:.2f}")
        rows.append((result["gradient"], str(result["num_steps"]), *numbers))
    return harness.markdown(columns, rows)


def main():
    """Parse the flags and print the table."""
    parser = harness.parser(__doc__, batch_size=64, training_steps=3, threads=2)
    parser.add_argument("--gradients", nargs="+", choices=GRADIENTS, default=GRADIENTS)
    parser.add_argument("--steps", nargs="+", type=harness.positive, default=(1, 4, 16, 64))
    arguments = harness.parse(parser)
    if arguments.worker:
        gradient, num_steps = arguments.worker.split()
        harness.serve(lambda: (measure(gradient, int(num_steps), arguments), None))
        return
    results = [
        {"gradient": gradient, "num_steps": num_steps, **measure_apart(gradient, num_steps)}
        for gradient in arguments.gradients
        for num_steps in arguments.steps
    ]
    harness.report(arguments, [table(results)], {"results": results})


if __name__ == "__main__":
    main()
