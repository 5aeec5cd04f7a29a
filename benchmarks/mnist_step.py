"""One training step of the paper's Neural ODE: tfnode against torchdiffeq.

Command: python benchmarks/mnist_step.py

The network of section 3 of Chen et al. (2018), in float32 on a batch of 64 images of
28x28x1: conv 3x3, batch norm, ReLU, conv 4x4 stride 2, an ODE block on the state of
12x12x64 with the dynamics twice [conv 3x3 with time as a channel, ReLU, batch norm],
average pool, dense; cross entropy, Adam. The solver takes one step of the 3/8 rule, which
torchdiffeq calls `rk4`, and the gradient is the continuous adjoint.

| row | what |
| --- | --- |
| torch | `torchdiffeq.odeint_adjoint`, PyTorch's default layout (NCHW) |
| torch-channels-last | the same, model and images in `torch.channels_last` |
| tfnode | `tfnode.models.odenet()`, compiled as `train.py` does |
| tfnode-backprop | the same with `gradient="backprop"`: no adjoint, no recomputation |
| floor | no ODE: the dynamics called 4 times in sequence, plain backpropagation |

`floor` and `tfnode-backprop` do 8 convolutions forward and 16 backward in the block; an
adjoint has to evaluate the dynamics again on its way back, 8 more forward. What `tfnode`
takes above `floor` is therefore that third, and what the solver costs.

What is fair here, and to whom:

- Every row is a process of its own; they take turns, so that each sees the same machine.
  A turn is one step without the clock, which brings the row's data back into the caches,
  and one with it.
- All get the same number of threads, and no more processors than that. PyTorch's threads
  spin for a moment after a parallel region, which is its default and helps it
  within a step; `OMP_WAIT_POLICY` is left alone, and a pause between turns makes sure that
  nobody else pays for it.
- Nobody has a data pipeline: the batch is in memory as the framework's tensor. A step ends
  when the loss is a Python float.
- `torch` is what a user of torchdiffeq writes: eager mode, `zero_grad(set_to_none=True)`,
  `torch.optim.Adam` with its defaults. `tfnode` is what `train.py` runs, with its accuracy
  metric. The code of the paper has no bias in the convolutions of the dynamics; nor have
  these. All rows must have the same number of trainable parameters, or nothing is timed.
- CPU only, and only on a machine that does nothing else: PyTorch's threads wait for each
  other after every operation, so one busy processor beside them makes it many times slower,
  TensorFlow far less, and the ratio means nothing. `CPU ms` is what a step took of all
  threads together: where it is well below `threads` times the median, the processors were
  elsewhere, or the threads had nothing to do. The load average is printed for the same end.

With `--profile`, the parts of tfnode's step are timed each alone instead; see `mnist_parts`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import common

PAUSE = 0.02  # Seconds between turns.
LEARNING_RATE = 1e-4


def batch(size):
    """Images and labels, NHWC, the same for every row."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.random((size, 28, 28, 1), dtype=np.float32)
    return x, rng.integers(0, 10, size)


def torch_step(size, threads, memory_format="contiguous_format"):
    """The row of torchdiffeq: `(step, parameters)`, where `step()` returns the loss."""
    import torch
    import torchdiffeq
    from torch import nn

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(threads)
    torch.manual_seed(0)
    layout = getattr(torch, memory_format)

    class ConcatConv2d(nn.Module):
        def __init__(self, filters):
            super().__init__()
            self.conv = nn.Conv2d(1 + filters, filters, 3, padding=1, bias=False)

        def forward(self, t, y):
            return self.conv(torch.cat([torch.ones_like(y[:, :1]) * t, y], 1))

    class Dynamics(nn.Module):
        def __init__(self, filters):
            super().__init__()
            self.conv1, self.conv2 = ConcatConv2d(filters), ConcatConv2d(filters)
            self.norm1, self.norm2 = nn.BatchNorm2d(filters), nn.BatchNorm2d(filters)

        def forward(self, t, y):
            y = self.norm1(torch.relu(self.conv1(t, y)))
            return self.norm2(torch.relu(self.conv2(t, y)))

    class ODEBlock(nn.Module):
        def __init__(self, dynamics):
            super().__init__()
            self.dynamics = dynamics
            self.register_buffer("times", torch.tensor([0.0, 1.0]))

        def forward(self, y):
            options = {"step_size": 1.0}
            return torchdiffeq.odeint_adjoint(
                self.dynamics, y, self.times, method="rk4", options=options
            )[1]

    model = nn.Sequential(
        nn.Conv2d(1, 64, 3),  # (64, 26, 26)
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 64, 4, stride=2),  # (64, 12, 12)
        ODEBlock(Dynamics(64)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    ).to(memory_format=layout)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    loss_function = nn.CrossEntropyLoss()
    x, y = batch(size)
    x = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    y = torch.from_numpy(y)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, sum(p.numel() for p in model.parameters() if p.requires_grad)


def limit_tensorflow(threads):
    """The processor alone, and `threads` threads; before TensorFlow does anything."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.set_visible_devices([], "GPU")


def keras_step(model, size, jit_compile=False):
    """The step of a Keras model as `fit` runs it, on a batch in memory."""
    import keras
    import tensorflow as tf

    model.compile(  # As `tfnode.experiment` does.
        optimizer=keras.optimizers.Adam(LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=jit_compile,
    )
    x, y = (tf.constant(value) for value in batch(size))
    train = model.make_train_function() or model.train_function

    def step():
        return float(train(iter([(x, y)]))["loss"])

    return step, sum(int(tf.size(w)) for w in model.trainable_variables)


def tfnode_step(size, threads, gradient="adjoint", precision="float32", model="odenet"):
    """The row of tfnode."""
    limit_tensorflow(threads)
    import keras

    import tfnode

    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(0)
    options = {"gradient": gradient} if model == "odenet" else {}
    return keras_step(getattr(tfnode.models, model)(**options), size)


def floor_step(size, threads):
    """A plain network of the same convolutions, without a solver."""
    limit_tensorflow(threads)
    import keras

    import tfnode

    class InSequence(keras.layers.Layer):
        """The dynamics at each stage time, one after the other: 8 convolutions."""

        def __init__(self, dynamics):
            super().__init__()
            self.dynamics = dynamics

        def build(self, shape):
            self.dynamics.build((), shape)

        def call(self, y, training=None):
            for t in (0.0, 1 / 3, 2 / 3, 1.0):
                y = self.dynamics(keras.ops.convert_to_tensor(t), y, training=training)
            return y

    keras.utils.set_random_seed(0)
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(64, 3)(inputs)  # (26, 26, 64)
    x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Conv2D(64, 4, strides=2)(x)  # (12, 12, 64)
    x = InSequence(tfnode.layers.ConvDynamics(64))(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras_step(keras.Model(inputs, keras.layers.Dense(10)(x)), size)


ROWS = {
    "torch": torch_step,
    "torch-channels-last": lambda *a: torch_step(*a, memory_format="channels_last"),
    "tfnode": tfnode_step,
    "tfnode-backprop": lambda *a: tfnode_step(*a, gradient="backprop"),
    "floor": floor_step,
}
LABELS = {
    "torch": "torchdiffeq, adjoint, NCHW",
    "torch-channels-last": "torchdiffeq, adjoint, channels last",
    "tfnode": "tfnode, adjoint",
    "tfnode-backprop": "tfnode, backprop",
    "floor": "floor: no ODE, plain backpropagation",
}


def serve(row, size, threads):
    """The worker: sets its row up, then runs one turn for every line on standard input."""
    # Whatever the frameworks print must not get among the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    step, parameters = row(size, threads)
    answers.write(json.dumps({"parameters": parameters}) + "\n")
    for _ in sys.stdin:
        step()
        start, cpu_start = time.perf_counter(), time.process_time()
        loss = step()
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        answer = {"seconds": seconds, "cpu_seconds": cpu_seconds, "loss": loss}
        answers.write(json.dumps(answer) + "\n")


class Worker:
    """A row in a process of its own."""

    def __init__(self, name, size, threads):
        self.name = name
        # Open as long as the process, which writes to it.
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        arguments = ["--worker", name, "--batch_size", str(size), "--threads", str(threads)]
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(sys.argv[0]), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ},
        )

    def read(self):
        """The next answer, a dict."""
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        sys.exit(
            f"{self.errors.read()}\nThe row {self.name!r} failed; its output is above. The "
            "packages that it needs come with: pip install -e '.[benchmarks]'"
        )

    def turn(self):
        """One step without the clock and one with it."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        """Ends the process."""
        self.process.kill()
        self.process.wait()


def compare(names, size, threads, warmup, repeats):
    """Times the rows in turns: name -> dict of seconds, losses and parameters."""
    workers = []
    try:
        for name in names:  # One after the other: nothing is timed, but memory is used.
            workers.append(Worker(name, size, threads))
            workers[-1].parameters = workers[-1].read()["parameters"]
        parameters = {worker.name: worker.parameters for worker in workers}
        if len(set(parameters.values())) != 1:
            sys.exit(f"The rows are not the same network: trainable parameters {parameters}")
        lists = ("seconds", "cpu_seconds", "loss")
        results = {
            name: {"parameters": parameters[name], **{key: [] for key in lists}} for name in names
        }
        for turn in range(warmup + repeats):
            for worker in workers:
                answer = worker.turn()
                if turn >= warmup:
                    for key in lists:
                        results[worker.name][key].append(answer[key])
                time.sleep(PAUSE)
        return results
    finally:
        for worker in workers:
            worker.close()


def table(results, labels):
    """The results as Markdown; ratios are to the first row."""
    reference = next(iter(results))
    base = statistics.median(results[reference]["seconds"])
    rows = []
    for name, result in results.items():
        low, middle, high = quartiles(result["seconds"])
        rows.append(
            (
                labels[name],
                f"{1e3 * middle:.1f}",
                f"{1e3 * low:.1f} to {1e3 * high:.1f}",
                f"{middle / base:.2f}",
                f"{1e3 * statistics.median(result['cpu_seconds']):.1f}",
            )
        )
    columns = ("one training step", "median ms", "quartiles", "ratio", "CPU ms")
    return common.markdown(columns, rows)


def quartiles(values):
    """The three quartiles of a sample, of one value too."""
    if len(values) == 1:
        return values * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def positive(text):
    """An int of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1. Received: {text}")
    return value


def main(description=__doc__, rows=ROWS, labels=LABELS, default=tuple(ROWS)):
    """Parses the flags and prints the table.

    Args:
        description: The documentation of the script.
        rows: Name to a function of the batch size and the threads: `(step, parameters)`.
        labels: Name to what the table calls the row.
        default: Names of the rows without `--rows`.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=rows, default=default, metavar="ROW")
    parser.add_argument("--batch_size", type=positive, default=64)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--warmup", type=positive, default=5, help="turns that do not count")
    parser.add_argument("--repeats", type=positive, default=30)
    parser.add_argument("--json", metavar="FILE", help="write the results there too")
    parser.add_argument("--profile", action="store_true", help="time the parts of tfnode's step")
    parser.add_argument("--worker", choices=rows, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size, threads = arguments.batch_size, arguments.threads

    cpus = common.available_cpus()
    facts = common.machine()
    if threads > len(cpus):
        parser.error(f"--threads={threads}, but there are {len(cpus)} processors.")
    if threads < len(cpus) and hasattr(os, "sched_setaffinity"):
        # A framework's helper threads would otherwise have the other processors.
        os.sched_setaffinity(0, cpus[:threads])

    if arguments.worker:
        serve(rows[arguments.worker], size, threads)
        return
    settings = {
        "batch_size": size,
        "threads": threads,
        "warmup": arguments.warmup,
        "repeats": arguments.repeats,
        "machine": facts,
    }
    if arguments.profile:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        limit_tensorflow(threads)
        import mnist_parts

        step, _ = tfnode_step(size, threads)
        results = mnist_parts.measure(step, size, arguments.warmup, arguments.repeats)
        print(mnist_parts.table(results))
    else:
        results = compare(arguments.rows, size, threads, arguments.warmup, arguments.repeats)
        print(table(results, labels))
    print(f"\nBatch of {size}, {arguments.repeats} repeats. {common.footer(facts, threads)}")
    if arguments.json:
        common.write_json(arguments.json, {**settings, "results": results})


if __name__ == "__main__":
    main()
