"""Time one training step of a neural CDE on irregular series: tfnode, torchcde and diffrax.

Command: python benchmarks/series.py
         python benchmarks/series.py --solver=dopri5
         python benchmarks/series.py --quick

The classifier of Kidger et al. (2020), `tfnode.models.neural_cde`, in float32 on a batch of 32
series like utterances: 12 channels, 7 to 29 points. The field is a perceptron with one hidden layer
and tanh at its end; the path is the Hermite spline of backward differences; cross entropy, SGD.

| row | what |
| --- | --- |
| diffrax | `diffrax.ControlTerm`, `vmap`, `jit`, its default gradient |
| torchcde | `torchcde.cdeint`, the adjoint of torchdiffeq, its default |
| torchcde-backprop | the same with `adjoint=False` |
| tfnode | `tfnode.models.neural_cde`, as `fit` runs it, compiled by XLA |
| tfnode-graph | the same without XLA |

With `--solver=midpoint` all take one step from each point to the next, and so compute the same
loss: the script ends if they do not. With `--solver=dopri5` all control their error at the same
tolerances, the defaults of torchcde. But torchcde has one step for the batch, diffrax steps of
each sample, and tfnode steps of each sample that end at its points.

What is fair here, and to whom:

- Every row is a process of its own; they take turns, so that each sees the same machine. A turn is
  one step without the clock and one with it. All have the same number of threads.
- All rows begin with the same weights, and have the same number of parameters.
- torchcde and diffrax get the coefficients of their paths computed before the clock, as they
  advise. tfnode computes them in the step.
- torchcde and diffrax have no series of different lengths. They solve all to the longest, on a path
  that stays where a series ends, and take each state at the end of its series.
- CPU only, and only on a machine that does nothing else.
"""

import contextlib
import sys

import harness
import mnist_step
import numpy as np

CHANNELS, POINTS, SHORTEST, CLASSES = 12, 29, 7, 9
UNITS, HIDDEN, STEP = 16, 32, 0.064
RTOL, ATOL, LEARNING_RATE = 1e-4, 1e-6, 1e-2


def batch(size):
    """Return values, times, lengths and labels, the same for every row.

    Behind its end a series stays at its last value and time.
    """
    rng = np.random.default_rng(0)
    lengths = rng.integers(SHORTEST, POINTS + 1, size)
    last = np.minimum(np.arange(POINTS), lengths[:, None] - 1)
    values = 0.3 * np.cumsum(rng.normal(size=(size, POINTS, CHANNELS)), 1)
    values = np.take_along_axis(values, last[..., None], 1)
    return (
        values.astype(np.float32),
        (STEP * last).astype(np.float32),
        lengths,
        rng.integers(0, CLASSES, size),
    )


def initial_weights():
    """Return kernels and biases: of the first state, the field and the logits."""
    rng = np.random.default_rng(1)
    width = UNITS * (CHANNELS + 1)
    sizes = ((CHANNELS, UNITS), (UNITS, HIDDEN), (HIDDEN, width), (UNITS, CLASSES))
    weights = []
    for size in sizes:
        weights += [rng.normal(size=size) / np.sqrt(size[0]), 0.1 * rng.normal(size=size[1])]
    return [x.astype(np.float32) for x in weights]


def path_points(values, times):
    """Return what the paths of torchcde and diffrax go through: the times and the values."""
    return np.concatenate([times[..., None], values], 2)


def torchcde_step(size, threads, solver, adjoint=True):
    """Return the row of torchcde: `(step, parameters)`; `step()` returns the loss."""
    import torch
    import torchcde

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(threads)

    class Field(torch.nn.Module):
        def __init__(self, weights):
            super().__init__()
            self.weights = torch.nn.ParameterList(weights)

        def forward(self, t, z):
            kernel, bias, last_kernel, last_bias = self.weights
            elements = torch.tanh(torch.relu(z @ kernel + bias) @ last_kernel + last_bias)
            return elements.view(*z.shape, CHANNELS + 1)

    weights = [torch.nn.Parameter(torch.from_numpy(x)) for x in initial_weights()]
    field = Field(weights[2:6])
    optimizer = torch.optim.SGD(weights, lr=LEARNING_RATE)
    values, times, lengths, labels = batch(size)
    points = torch.from_numpy(path_points(values, times))
    coefficients = torchcde.hermite_cubic_coefficients_with_backward_differences(points)
    first, labels = points[:, 0, 1:], torch.from_numpy(labels)
    ends = torch.from_numpy(lengths - 1), torch.arange(size)
    tolerances = {"rtol": RTOL, "atol": ATOL} if solver == "dopri5" else {}

    def step():
        optimizer.zero_grad(set_to_none=True)
        path = torchcde.CubicSpline(coefficients)
        z = torchcde.cdeint(
            *(path, field, first @ weights[0] + weights[1], path.grid_points),
            adjoint=adjoint,
            method=solver,
            **tolerances,
        )
        logits = z[ends[1], ends[0]] @ weights[6] + weights[7]
        loss = torch.nn.functional.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, sum(x.numel() for x in weights)


def diffrax_step(size, threads, solver):
    """Return the row of diffrax."""
    import diffrax
    import jax
    import jax.numpy as jnp

    values, times, lengths, labels = batch(size)
    grid = jnp.asarray(STEP * np.arange(POINTS), jnp.float32)
    coefficients = jax.vmap(lambda x: diffrax.backward_hermite_coefficients(grid, x))(
        jnp.asarray(path_points(values, times))
    )
    first = jnp.asarray(values[:, 0])
    method, controller = diffrax.Midpoint(), diffrax.StepTo(ts=grid)
    if solver == "dopri5":
        method, controller = diffrax.Dopri5(), diffrax.PIDController(rtol=RTOL, atol=ATOL)

    def logits(weights, coefficients, first, length):
        def field(t, z, _):
            hidden = jax.nn.relu(z @ weights[2] + weights[3])
            return jnp.tanh(hidden @ weights[4] + weights[5]).reshape(UNITS, CHANNELS + 1)

        path = diffrax.CubicInterpolation(grid, coefficients)
        solution = diffrax.diffeqsolve(
            diffrax.ControlTerm(field, path).to_ode(),
            method,
            *(grid[0], grid[-1], None if solver == "midpoint" else STEP),
            first @ weights[0] + weights[1],
            stepsize_controller=controller,
            saveat=diffrax.SaveAt(ts=grid),
        )
        return solution.ys[length - 1] @ weights[6] + weights[7]

    def loss(weights):
        found = jax.vmap(logits, (None, 0, 0, 0))(weights, coefficients, first, lengths)
        return -jnp.mean(jax.nn.log_softmax(found)[jnp.arange(size), labels])

    @jax.jit
    def update(weights):
        value, gradients = jax.value_and_grad(loss)(weights)
        return value, [w - LEARNING_RATE * g for w, g in zip(weights, gradients)]

    state = {"weights": [jnp.asarray(x) for x in initial_weights()]}

    def step():
        value, state["weights"] = update(state["weights"])
        return float(value)

    return step, sum(x.size for x in state["weights"])


def tfnode_step(size, threads, solver, jit_compile=True):
    """Return the row of tfnode."""
    harness.limit_tensorflow(threads)
    import keras
    import tensorflow as tf

    import tfnode

    method = tfnode.solvers.get(solver)
    if solver == "dopri5":
        method = tfnode.solvers.Dopri5(rtol=RTOL, atol=ATOL)
    model = tfnode.models.neural_cde(
        (POINTS, CHANNELS), CLASSES, units=UNITS, hidden_units=HIDDEN, solver=method
    )
    model.set_weights(initial_weights())
    model.compile(
        optimizer=keras.optimizers.SGD(LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    values, times, _, labels = (tf.constant(x) for x in batch(size))
    train = model.make_train_function() or model.train_function

    def step():
        return float(train(iter([((values, times), labels)]))["loss"])

    return step, model.count_params()


ROWS = {
    "diffrax": diffrax_step,
    "torchcde": torchcde_step,
    "torchcde-backprop": lambda *a: torchcde_step(*a, adjoint=False),
    "tfnode": tfnode_step,
    "tfnode-graph": lambda *a: tfnode_step(*a, jit_compile=False),
}
LABELS = {
    "diffrax": "diffrax",
    "torchcde": "torchcde, adjoint",
    "torchcde-backprop": "torchcde, backprop",
    "tfnode": "tfnode, XLA",
    "tfnode-graph": "tfnode, without XLA",
}


def start(name, arguments):
    """Set up a row in its worker: return its parameters and its first loss, and a turn."""
    step, parameters = ROWS[name](arguments.batch_size, arguments.threads, arguments.solver)
    ready = [parameters, step()]
    return ready, mnist_step.timed(step)


def compare(arguments):
    """Time the rows in turns: return name -> dict of seconds, losses and parameters."""
    with contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(harness.Worker(name, environment=harness.NO_GPU))
            for name in arguments.rows
        }
        parameters, losses = zip(*(worker.ready for worker in workers.values()))
        tolerance = 1e-4 if arguments.solver == "midpoint" else 1e-2
        if len(set(parameters)) != 1 or np.ptp(losses) > tolerance * abs(losses[0]):
            sys.exit(f"The rows are not the same: parameters {parameters}, first losses {losses}")
        asks = {name: worker.ask for name, worker in workers.items()}
        turns = harness.take_turns(asks, arguments.warmup, arguments.repeats)
    return {
        name: {"loss_at_first": loss, **{key: [x[key] for x in found] for key in found[0]}}
        for (name, found), loss in zip(turns.items(), losses)
    }


def main():
    """Parse the flags and print the table."""
    parser = harness.parser(__doc__, batch_size=32, threads=2, warmup=5, repeats=30)
    parser.add_argument("--solver", choices=("midpoint", "dopri5"), default="midpoint")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--quick", action="store_true", help="few samples and one turn")
    arguments = harness.parse(parser)
    if arguments.quick:
        arguments.batch_size, arguments.repeats, arguments.warmup = 4, 1, 1
    if arguments.worker:
        harness.serve(lambda: start(arguments.worker, arguments))
        return
    results = compare(arguments)
    _, *found = mnist_step.ratios(results, LABELS).items()  # The first row is the peer.
    table = mnist_step.table(results, LABELS)
    harness.report(arguments, [table], {"results": results}, dict(found))


if __name__ == "__main__":
    main()
