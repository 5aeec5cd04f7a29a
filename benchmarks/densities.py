"""Time continuous normalizing flows: tfnode against the FFJORD bijector of TensorFlow Probability.

Command: python benchmarks/densities.py

The pinwheel of `python -m tfnode.reproduce.densities`, a perceptron of three hidden layers of 64,
Dormand-Prince 5(4) at `rtol = atol = 1e-5` in float32, batches of 256, Adam.

| row | what |
| --- | --- |
| tfnode, checkpoint | `tfnode.models.NormalizingFlow`, `gradient="checkpoint"`, its default |
| tfnode, adjoint | the same with `gradient="adjoint"` |
| tfp | `tfp.bijectors.FFJORD` with `tfp.math.ode.DormandPrince` and its adjoint |
| tfp, unrolled | the same with a function of ours for the exact trace |

The trace is exact or Hutchinson's estimate, in TFP `trace_jacobian_exact` and
`trace_jacobian_hutchinson`, both with signs as noise. The former is a loop
without a bound, of which XLA takes no gradient, and with the latter 500 steps under XLA did not
end within minutes; so these are run without. Ours for TFP takes one product after the other.

What is fair here, and to whom:

- All rows train the same weights on the same batches with one optimizer and one training step;
  only the function that returns `log p(x)` differs.
- `log-likelihood` is that of held-out samples after `--steps` steps, by the row's own solver;
  `error` the mean distance of these numbers to a solution in float64 at 1e-10 of the same
  weights. Hutchinson's rows are random in both; their held-out numbers are by the exact trace.
- `NFE` are evaluations of the field with its trace on a batch, after training: counted by a
  variable in the field, in a function of its own, for both libraries.
- Times are those of one training step (likelihood, gradient, Adam with a rate of 0), all from the
  same weights, those that the first row came to; so every row solves the same problem. Rows take
  turns in one process; a turn is one step without the clock and one with it. `XLA` is
  `tf.function(jit_compile=True)`, `graph` is without; ratios are to the fastest of TFP's.
- CPU only, and only on a machine that does nothing else.
"""

import functools
import itertools
import statistics

import harness
import numpy as np

TOLERANCE, BATCH_SIZE, HELD_OUT = 1e-5, 256, 4096
SIZES = (2, 64, 64, 64, 2)
DATA = "pinwheel"
ROWS = {
    "tfnode, checkpoint": ("tfnode", "checkpoint"),
    "tfnode, adjoint": ("tfnode", "adjoint"),
    "tfp": ("tfp", None),
    "tfp, unrolled": ("tfp", "unrolled"),
}
TRACES = ("exact", "hutchinson")


def rows():
    """Return `(name, trace)` of all rows."""
    return [(n, t) for t in TRACES for n in ROWS if (n, t) != ("tfp, unrolled", "hutchinson")]


def initial_weights():
    """Return the kernels, the row of the time first, and the biases."""
    rng = np.random.default_rng(0)
    kernels = [
        rng.uniform(-1.0, 1.0, (1 + a, b)) * np.sqrt(6.0 / (a + b))
        for a, b in itertools.pairwise(SIZES)
    ]
    return [x.astype(np.float32) for x in (*kernels, *(np.zeros(b) for b in SIZES[1:]))]


def field(weights):
    """Return the network, `(t, x) -> dx/dt`, in the dtype of `x`."""
    import tensorflow as tf

    half = len(weights) // 2

    def dynamics(t, x):
        for k, (kernel, bias) in enumerate(zip(weights[:half], weights[half:])):
            kernel, bias = tf.cast(kernel, x.dtype), tf.cast(bias, x.dtype)
            x = x @ kernel[1:] + (tf.cast(t, x.dtype) * kernel[0] + bias)
            if k < half - 1:
                x = tf.tanh(x)
        return x

    return dynamics


def counted(function, counter):
    """Return the function, which now adds 1 to a variable whenever it runs."""
    if counter is None:
        return function

    def call(*args):
        counter.assign_add(1)
        return function(*args)

    return call


def tfnode_log_prob(dynamics, gradient, trace, counter=None, tolerance=TOLERANCE, dtype="float32"):
    """Return `log p` of this repository."""
    import tfnode

    solver = tfnode.solvers.Dopri5(rtol=tolerance, atol=tolerance)
    block = tfnode.layers.FlowBlock(
        counted(dynamics, counter), solver, gradient, trace=trace, dtype=dtype
    )
    return tfnode.models.NormalizingFlow((2,), block, dtype=dtype)


def unrolled(ode_fn, state_shape, dtype):
    """Return the exact trace without a loop, for the argument `trace_augmentation_fn`."""
    import tensorflow as tf

    del state_shape, dtype

    def augmented(t, state):
        x, _ = state
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(x)
            parts = tf.unstack(ode_fn(t, x), axis=-1)
        diagonal = [tape.gradient(part, x)[:, k] for k, part in enumerate(parts)]
        return tf.stack(parts, -1), tf.stack(diagonal, -1)

    return augmented


def tfp_log_prob(dynamics, how, trace, counter=None):
    """Return `log p` of TensorFlow Probability, from data to noise along the same field."""
    import tensorflow as tf
    import tensorflow_probability as tfp

    ffjord = tfp.bijectors.ffjord
    hutchinson = functools.partial(
        ffjord.trace_jacobian_hutchinson, sample_fn=tfp.random.rademacher
    )
    augment = {"exact": ffjord.trace_jacobian_exact, "hutchinson": hutchinson}
    augment = unrolled if how == "unrolled" else augment[trace]

    def counted_augment(*args):
        return counted(augment(*args), counter)

    def log_prob(x):
        bijector = tfp.bijectors.FFJORD(
            lambda t, x: -dynamics(1.0 - t, x),
            ode_solve_fn=tfp.math.ode.DormandPrince(rtol=TOLERANCE, atol=TOLERANCE).solve,
            trace_augmentation_fn=counted_augment,
        )
        normal = tfp.distributions.MultivariateNormalDiag(tf.zeros(2))
        return tfp.distributions.TransformedDistribution(normal, bijector).log_prob(x)

    return log_prob


class Row:
    """A row: its weights and what is done with them."""

    def __init__(self, name, trace, learning_rate):
        import keras
        import tensorflow as tf

        self.name, self.trace = name, trace
        framework, how = ROWS[name]
        self.weights = [tf.Variable(w) for w in initial_weights()]
        self.counter = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.optimizer = keras.optimizers.Adam(learning_rate)
        self.optimizer.build(self.weights)
        dynamics = field(self.weights)
        make = tfnode_log_prob if framework == "tfnode" else tfp_log_prob
        log_prob = make(dynamics, how, trace)
        exact = make(dynamics, how, "exact")
        counting = make(dynamics, how, trace, self.counter)

        def gradient(function, x):
            with tf.GradientTape() as tape:
                loss = -tf.reduce_mean(function(x))
            return loss, tape.gradient(loss, self.weights)

        def step(x):
            loss, gradients = gradient(log_prob, x)
            self.optimizer.apply(gradients, self.weights)
            return loss

        self.steps = {mode: tf.function(step, jit_compile=mode == "XLA") for mode in self.modes}
        self.log_prob = tf.function(exact)
        self._forward = tf.function(counting)
        self._both = tf.function(lambda x: gradient(counting, x))

    @property
    def modes(self):
        """Return the ways to compile it; XLA makes nothing useful of TFP's own traces."""
        return ["graph"] if self.name == "tfp" else ["graph", "XLA"]

    def evaluations(self, x):
        """Count those of the field on one batch: in the forward and in the backward solve."""
        counts = []
        for function in (self._forward, self._both):
            self.counter.assign(0)
            function(x)
            counts.append(int(self.counter))
        return counts[0], counts[1] - counts[0]

    def assign(self, weights):
        """Set the weights and make every further step one of size 0."""
        for variable, value in zip(self.weights, weights):
            variable.assign(value)
        self.optimizer.learning_rate = 0.0


def train(row, batches, held_out):
    """Train a row; return the outcome, a dict."""
    import tensorflow as tf

    mode = row.modes[-1]
    losses = []
    seconds = harness.seconds(lambda: losses.extend(float(row.steps[mode](x)) for x in batches))
    log_prob = row.log_prob(held_out).numpy()
    precise = tfnode_log_prob(field(row.weights), "adjoint", "exact", None, 1e-10, "float64")
    exact = tf.function(precise)(tf.cast(held_out, tf.float64)).numpy()
    forward, backward = row.evaluations(batches[-1])
    return {
        "log_likelihood": float(log_prob.mean()),
        "error": float(np.abs(log_prob - exact).mean()),
        "nfe_forward": forward,
        "nfe_backward": backward,
        "training_seconds": seconds,
        "last_loss": losses[-1],
    }


def compare(steps, warmup, repeats):
    """Train, then time all rows in turns; return a list of dicts."""
    import tensorflow as tf

    from tfnode.reproduce import planar

    data = planar.samples(DATA, steps * BATCH_SIZE, 0, 0).reshape(steps, BATCH_SIZE, 2)
    batches = [tf.constant(x) for x in data]
    held_out = tf.constant(planar.samples(DATA, HELD_OUT, 0, 1))
    made, results = [], []
    for name, trace in rows():
        made.append(Row(name, trace, 3e-3))
        results.append({"row": name, "trace": trace, **train(made[-1], batches, held_out)})
        print(results[-1], flush=True)
    trained = [w.numpy() for w in made[0].weights]
    for row, result in zip(made, results):
        row.assign(trained)
        result["seconds"] = {}
        same = row.evaluations(batches[-1])
        result["nfe_forward_same"], result["nfe_backward_same"] = same
    turns = {
        (i, mode): functools.partial(turn, row.steps[mode], batches[-1])
        for i, row in enumerate(made)
        for mode in row.modes
    }
    for (i, mode), seconds in harness.take_turns(turns, warmup, repeats).items():
        results[i]["seconds"][mode] = seconds
    return results


def turn(step, x):
    """Run a step without the clock; return the seconds of another."""
    step(x)
    return harness.seconds(lambda: float(step(x)))


def ratios(results):
    """Return the fastest way of each row by the fastest of TFP's of the same trace."""
    fastest = {}
    for result in results:
        name = f"{result['row']}, {result['trace']} trace"
        fastest[name] = min(map(statistics.median, result["seconds"].values()))
    peers = {
        trace: min(x for name, x in fastest.items() if "tfp" in name and f"{trace} trace" in name)
        for trace in TRACES
    }
    return {name: x / peers[name.split()[-2]] for name, x in fastest.items()}


def table(results):
    """Return the results as Markdown."""
    lines = []
    for result, (name, ratio) in zip(results, ratios(results).items()):
        cells = {
            mode: "{} ({})".format(*harness.milliseconds(times, 1))
            for mode, times in result["seconds"].items()
        }
        lines.append(
            [
                name,
                f"{result['log_likelihood']:.3f}",
                f"{result['error']:.0e}",
                f"{result['nfe_forward']} + {result['nfe_backward']}",
                f"{result['nfe_forward_same']} + {result['nfe_backward_same']}",
                *(cells.get(mode, "-") for mode in ("graph", "XLA")),
                f"{ratio:.2f}",
            ]
        )
    columns = ("row", "log-likelihood", "error", "NFE, own weights", "NFE, same weights")
    return harness.markdown((*columns, "ms a step, graph", "ms a step, XLA", "ratio"), lines)


def main():
    """Parse the flags and print the table."""
    parser = harness.parser(__doc__, threads=2, steps=500, warmup=3, repeats=20)
    arguments = harness.parse(parser)
    harness.limit_tensorflow(arguments.threads)
    results = compare(arguments.steps, arguments.warmup, arguments.repeats)
    found = {name: x for name, x in ratios(results).items() if name.startswith("tfnode")}
    harness.report(arguments, [f"\n{table(results)}"], {"results": results}, found)


if __name__ == "__main__":
    main()
