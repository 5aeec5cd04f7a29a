"""Measure what only a GPU shows, in one run of a few minutes.

Command: python benchmarks/gpu.py --json gpu.json
         python benchmarks/gpu.py --device cpu --quick     # Runs its code anywhere.

| part | what |
| --- | --- |
| steps | a training step of both models, a batch of 64: each precision, with XLA and without |
| adaptive | a step of the Neural ODE with `dopri5`, each gradient: time and evaluations |
| loss scale | float16 from a loss scale that is too large: where Keras brings it |
| determinism | two trainings with deterministic operations, from the same seed: equal bit by bit |
| memory growth | what TensorFlow holds of the GPU after a small model, and the most it used |

Determinism, memory and each precision have processes of their own, whose settings they are.
A row that fails is written down with its error, and the others go on; the status is then 1.
Without a GPU the script says so and ends with status 1.
"""

import functools
import json
import subprocess
import sys
import time

import harness
import mnist_step

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
GRADIENTS = ("adjoint", "checkpoint", "backprop")
# Seconds for all parts together.
LIMIT = 470
QUICK = "--quick" in sys.argv


def set_up(device):
    """Choose the device as `train.py` does, or the processor; return its name."""
    import tensorflow as tf

    if device == "cpu":
        tf.config.set_visible_devices([], "GPU")
        return "CPU"
    from tfnode.lab import devices

    return devices.use_devices("none")


def network(model, precision="float32", **options):
    """Return a model of the paper under a precision."""
    import keras

    import tfnode

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(precision)
    if model == "odenet" and "filters" not in options:
        options["filters"] = 8 if QUICK else 64
    return getattr(tfnode.models, model)(**options)


def timed(model, jit_compile):
    """Time a training step: compiling, and the median and quartiles of later steps."""
    step, _ = mnist_step.keras_step(model, 8 if QUICK else 64, jit_compile)
    first = harness.seconds(step)
    for _ in range(0 if QUICK else 5):
        step()
    seconds = [harness.seconds(step) for _ in range(2 if QUICK else 30)]
    low, middle, high = (1e3 * x for x in harness.quartiles(seconds))
    return {
        "first_step_s": first,
        "median_ms": middle,
        "quartiles_ms": [low, high],
        "loss": step(),
    }


def steps(model, precision, xla):
    """Measure one row of the training steps."""
    return timed(network(model, precision), xla == "xla")


def adaptive(gradient, xla):
    """Measure a step with an adaptive solver."""
    import tfnode

    solver = tfnode.solvers.Dopri5(rtol=1e-3, atol=1e-3)
    model = network("odenet", solver=solver, gradient=gradient, norm="group")
    result = timed(model, xla == "xla")
    block = next(x for x in model.layers if isinstance(x, tfnode.ODEBlock))
    return {**result, **block.costs()}


def loss_scale():
    """Find where float16's loss scale goes from one that is too large."""
    import keras
    import tensorflow as tf

    model = network("odenet", "mixed_float16")
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    model.optimizer.initial_scale = 2.0**40
    x, y = mnist_step.batch(8 if QUICK else 64)
    data = tf.data.Dataset.from_tensors((x, y)).repeat(40)
    losses = model.fit(data, verbose=0).history["loss"]
    scale = float(model.optimizer.dynamic_scale.numpy())
    if not 1.0 < scale < 2.0**40:
        raise RuntimeError(f"Expected a lower loss scale. Received: {scale}")
    return {"loss": losses[-1], "scale": scale}


def determinism(precision):
    """Compare two trainings with deterministic operations."""
    import keras
    import numpy as np
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    found = {}
    for name in ("odenet", "resnet18"):
        weights = []
        for _ in range(2):
            model = network(name, precision)
            model.compile(
                keras.optimizers.Adam(1e-3),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                jit_compile=False,
            )
            x, y = mnist_step.batch(8 if QUICK else 64)
            model.fit(x, y, batch_size=8, epochs=2, verbose=0)
            weights.append(model.get_weights())
        found[name] = all(np.array_equal(a, b) for a, b in zip(*weights))
    if not all(found.values()):
        raise RuntimeError(f"Expected equal weights. Received: {found}")
    return found


def memory():
    """Return what is held of the GPU's memory, and what was used of it at most."""
    import tensorflow as tf

    timed(network("odenet", filters=8), False)
    if not tf.config.get_visible_devices("GPU"):
        return {}
    info = tf.config.experimental.get_memory_info("GPU:0")
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        text = None
    return {"tensorflow_bytes": info, "nvidia_smi": text and text.strip().splitlines()}


def rows(part):
    """Return the names of the rows of a part, each with the function that measures it."""
    if part == "memory":
        return {"memory growth": memory}
    if part == "determinism":
        return {f"determinism, {p}": functools.partial(determinism, p) for p in PRECISIONS}
    if part == "adaptive":
        return {
            f"dopri5, {gradient}{xla and ', XLA'}": functools.partial(adaptive, gradient, xla)
            for xla in ("", "xla")
            for gradient in GRADIENTS
        }
    found = {
        f"{model}, {part}{xla and ', XLA'}": functools.partial(steps, model, part, xla)
        for xla in ("", "xla")
        for model in ("odenet", "resnet18")
    }
    return found if part != "mixed_float16" else {"loss scale": loss_scale, **found}


def start(device, part):
    """Set up the process of a part: return the device's name, and what measures a row."""
    name = set_up(device)

    def measure(row):
        begin = time.perf_counter()
        try:
            result = {**rows(part)[row](), "device": name}
        except Exception as error:  # The other rows are measured all the same.
            result = {"error": f"{type(error).__name__}: {error}"[:1000]}
        return {**result, "seconds": time.perf_counter() - begin}

    return name, measure


def run_part(part, end):
    """Run a part in a process of its own: return each row's result or error."""
    results = {}

    def left():
        return max(end - time.perf_counter(), 1.0)

    try:
        with harness.Worker(part, left()) as worker:
            for row in rows(part):
                results[row] = worker.ask(row, left())
    except harness.Died as died:
        ending = "; ".join(str(died).strip().splitlines()[-6:-1])
        if time.perf_counter() >= end:
            ending = f"not done after {LIMIT} s"
        results.update({row: {"error": ending} for row in rows(part) if row not in results})
    return results


def table(results):
    """Return the parts that have times, as Markdown."""
    rows = [
        (name, f"{r['median_ms']:.2f}", f"{r['first_step_s']:.1f}")
        for name, r in results.items()
        if "median_ms" in r
    ]
    return harness.markdown(("one training step", "median ms", "first step, s"), rows)


def has_gpu():
    """Return whether TensorFlow sees a GPU; another process asks it."""
    code = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return process.returncode == 0 and int(process.stdout.split()[-1]) > 0


def main():
    """Parse the flags, run the parts, print a table and write the JSON."""
    parser = harness.parser(__doc__)
    parser.set_defaults(json="gpu.json")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--quick", action="store_true", help="small models, a few steps")
    arguments = harness.parse(parser)
    if arguments.worker:
        harness.serve(lambda: start(arguments.device, arguments.worker))
        return
    if arguments.device == "gpu" and not has_gpu():
        sys.exit(
            "TensorFlow sees no GPU here. With one: pip install 'tfnode[gpu]'; without: "
            "--device=cpu --quick runs the same code on the processor."
        )
    begin = time.perf_counter()
    results = {}
    for part in ("memory", "adaptive", *PRECISIONS, "determinism"):
        found = run_part(part, begin + LIMIT)
        for name, result in found.items():
            print(f"{name}: {result.get('error') or json.dumps(result)}", flush=True)
        results.update(found)
        # The file is written after each part, so that nothing is lost.
        harness.write_json(arguments.json, {"machine": arguments.machine, "results": results})
    print(f"\n{table(results)}\n\n{time.perf_counter() - begin:.0f} s in all.")
    failed = [name for name, result in results.items() if "error" in result]
    if failed:
        sys.exit(f"Failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
