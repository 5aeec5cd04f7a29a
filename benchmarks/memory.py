"""Peak memory of one training step against the number of solver steps.

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

import argparse
import json
import os
import subprocess
import sys
import time

import common

GRADIENTS = ("adjoint", "checkpoint", "backprop")
MAX_STATES = 16
MIB = 2**20


def peak_bytes():
    """The largest resident memory of this process so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def resident_bytes():
    """The resident memory of this process now, or where unknown its peak so far."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_bytes()


def measure(gradient, num_steps, size, training_steps, threads):
    """Runs in a fresh process; returns a dict of bytes and of the seconds of a step."""
    import mnist_step

    mnist_step.limit_tensorflow(threads)
    import tfnode

    solver = tfnode.solvers.RK38(num_steps=num_steps)
    if gradient == "checkpoint":
        gradient = tfnode.gradients.Checkpoint(max_states=MAX_STATES)
    model = tfnode.models.odenet(solver=solver, gradient=gradient)
    step, _ = mnist_step.keras_step(model, size)
    before = resident_bytes()
    for _ in range(training_steps):
        start = time.perf_counter()
        step()
        seconds = time.perf_counter() - start
    peak = peak_bytes()
    return {"before": before, "peak": peak, "growth": peak - before, "last_step_seconds": seconds}


def measure_apart(gradient, num_steps, arguments):
    """`measure` in a process of its own; `None` if it died, of memory most likely."""
    command = [sys.executable, os.path.abspath(__file__), "--worker", gradient, str(num_steps)]
    for name in ("batch_size", "training_steps", "threads"):
        command += [f"--{name}", str(getattr(arguments, name))]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ},
    )
    if result.returncode < 0:
        print(f"{gradient}, {num_steps} steps: killed by signal {-result.returncode}")
        return None
    if result.returncode:
        sys.exit(f"{result.stderr}\n{gradient} with {num_steps} steps failed; see above.")
    return json.loads(result.stdout.splitlines()[-1])


def table(results):
    """The results as Markdown."""
    columns = ("gradient", "steps", "before, MiB", "peak, MiB", "growth, MiB", "s a step")
    rows = []
    for result in results:
        numbers = ["out of memory", "", "", ""]
        if "peak" in result:
            numbers = [f"{result[name] / MIB:,.0f}" for name in ("before", "peak", "growth")]
            numbers.append(f"{result['last_step_seconds']:.2f}")
        rows.append((result["gradient"], str(result["num_steps"]), *numbers))
    return common.markdown(columns, rows)


def main():
    """Parses the flags and prints the table."""
    from mnist_step import positive

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gradients", nargs="+", choices=GRADIENTS, default=GRADIENTS)
    parser.add_argument("--steps", nargs="+", type=positive, default=(1, 4, 16, 64))
    parser.add_argument("--batch_size", type=positive, default=64)
    parser.add_argument(
        "--training_steps", type=positive, default=3, help="the peak is that of all of them"
    )
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--json", metavar="FILE", help="write the results there too")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size, threads = arguments.batch_size, arguments.threads

    if arguments.worker:
        gradient, num_steps = arguments.worker
        result = measure(gradient, int(num_steps), size, arguments.training_steps, threads)
        print(json.dumps(result))
        return
    facts = common.machine()
    results = []
    for gradient in arguments.gradients:
        for num_steps in arguments.steps:
            found = measure_apart(gradient, num_steps, arguments) or {}
            results.append({"gradient": gradient, "num_steps": num_steps, **found})
    print(table(results))
    print(f"\nBatch of {size}. {common.footer(facts, threads)}")
    if arguments.json:
        settings = {
            "batch_size": size,
            "training_steps": arguments.training_steps,
            "threads": threads,
            "machine": facts,
        }
        common.write_json(arguments.json, {**settings, "results": results})


if __name__ == "__main__":
    main()
