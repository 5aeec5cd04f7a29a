"""Time one training step of the paper's Neural ODE: tfnode against torchdiffeq.

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

import contextlib
import statistics
import sys
import time

import harness

LEARNING_RATE = 1e-4


def batch(size):
    """Return images and labels, NHWC, the same for every row."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.random((size, 28, 28, 1), dtype=np.float32)
    return x, rng.integers(0, 10, size)


def torch_step(size, threads, memory_format="contiguous_format"):
    """Return the row of torchdiffeq: `(step, parameters)`; `step()` returns the loss."""
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


def keras_step(model, size, jit_compile=False):
    """Return the step of a Keras model as `fit` runs it, on a batch in memory."""
    import keras
    import tensorflow as tf

    model.compile(  # As `train.py` does.
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
    """Return the row of tfnode."""
    harness.limit_tensorflow(threads)
    import keras

    import tfnode

    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(0)
    options = {"gradient": gradient} if model == "odenet" else {}
    return keras_step(getattr(tfnode.models, model)(**options), size)


def floor_step(size, threads):
    """Return the row of a plain network of the same convolutions, without a solver."""
    harness.limit_tensorflow(threads)
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


def start(row, size, threads):
    """Set up a row in its worker: return its parameters, and a turn."""
    step, parameters = row(size, threads)
    return parameters, timed(step)


def timed(step):
    """Return a turn: a step without the clock, and one with it."""

    def turn(_):
        step()
        begin, cpu_begin = time.perf_counter(), time.process_time()
        loss = step()
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
        return {"seconds": seconds, "cpu_seconds": cpu_seconds, "loss": loss}

    return turn


def compare(names, warmup, repeats):
    """Time the rows in turns: return name -> dict of seconds, losses and parameters."""
    with contextlib.ExitStack() as stack:
        # One starts after the other: nothing is timed yet, but memory is used.
        workers = {name: stack.enter_context(harness.Worker(name)) for name in names}
        parameters = {name: worker.ready for name, worker in workers.items()}
        if len(set(parameters.values())) != 1:
            sys.exit(f"The rows are not the same network: trainable parameters {parameters}")
        asks = {name: worker.ask for name, worker in workers.items()}
        return {
            name: {
                "parameters": parameters[name],
                **{key: [turn[key] for turn in turns] for key in turns[0]},
            }
            for name, turns in harness.take_turns(asks, warmup, repeats).items()
        }


def ratios(results, labels):
    """Return the medians of the rows by that of the first, by label."""
    medians = {name: statistics.median(r["seconds"]) for name, r in results.items()}
    base = next(iter(medians.values()))
    return {labels[name]: median / base for name, median in medians.items()}


def table(results, labels):
    """Return the results as Markdown."""
    found = ratios(results, labels)
    rows = []
    for name, result in results.items():
        cpu = f"{1e3 * statistics.median(result['cpu_seconds']):.1f}"
        times = harness.milliseconds(result["seconds"], 1)
        rows.append((labels[name], *times, f"{found[labels[name]]:.2f}", cpu))
    columns = ("one training step", "median ms", "quartiles", "ratio", "CPU ms")
    return harness.markdown(columns, rows)


def main(description=__doc__, rows=ROWS, labels=LABELS, default=tuple(ROWS)):
    """Parse the flags and print the table.

    Args:
        description: The documentation of the script.
        rows: Name to a function of the batch size and the threads: `(step, parameters)`.
        labels: Name to what the table calls the row.
        default: Names of the rows without `--rows`.
    """
    parser = harness.parser(description, batch_size=64, threads=2, warmup=5, repeats=30)
    parser.add_argument("--rows", nargs="+", choices=rows, default=default, metavar="ROW")
    parser.add_argument("--profile", action="store_true", help="time the parts of tfnode's step")
    arguments = harness.parse(parser)
    size, threads, turns = arguments.batch_size, arguments.threads, arguments.repeats
    if arguments.worker:
        harness.serve(lambda: start(rows[arguments.worker], size, threads))
    elif arguments.profile:
        step, _ = tfnode_step(size, threads)
        import mnist_parts  # TensorFlow must know its threads before.

        results = mnist_parts.measure(step, size, arguments.warmup, turns)
        harness.report(arguments, [mnist_parts.table(results)], {"results": results})
    else:
        results = compare(arguments.rows, arguments.warmup, turns)
        _, *found = ratios(results, labels).items()  # The first row is the peer.
        harness.report(arguments, [table(results, labels)], {"results": results}, dict(found))


if __name__ == "__main__":
    main()
