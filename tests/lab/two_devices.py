"""What two logical devices of one processor do, as JSON; run by `test_distribution`.

A process of its own, since the devices of a process are fixed once TensorFlow has begun.
"""

import contextlib
import json
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tfnode import callbacks, layers  # noqa: E402
from tfnode.lab import devices  # noqa: E402
from tfnode.solvers import RK38  # noqa: E402

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


def shares(strategy):
    """Inputs and weights that each replica gets, of batches of 4, 3 and 1, in both modes."""
    x = np.arange(8, dtype=np.float32)
    batches = tf.data.Dataset.from_tensor_slices((x, x)).batch(4)
    batches = batches.concatenate(
        tf.data.Dataset.from_tensor_slices((x[:3], x[:3])).batch(3)
    ).concatenate(tf.data.Dataset.from_tensor_slices((x[:1], x[:1])).batch(1))
    result = {}
    for training in (True, False):
        result[str(training)] = [
            [[part.numpy().tolist() for part in local(values)] for values in (x, w)]
            for local in [strategy.experimental_local_results]
            for x, _, w in devices.distribute(strategy, batches, training=training)
        ]
    return result


def linear(strategy):
    """Weights after a step on each of batches of 4, 3 and 1 samples, losses and costs."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 3)).astype("f4"), rng.normal(size=(8, 1)).astype("f4")

    def part(begin, end):
        return tf.data.Dataset.from_tensors((x[begin:end], y[begin:end]))

    batches = part(0, 4).concatenate(part(4, 7)).concatenate(part(7, 8))
    with strategy.scope() if strategy else contextlib.nullcontext():
        block = layers.ODEBlock(keras.layers.Dense(3, "tanh"))
        model = keras.Sequential([keras.Input((3,)), block, keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse", weighted_metrics=["mae"])
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    tests = part(0, 4).concatenate(part(4, 7)).repeat()
    steps = {"steps_per_epoch": 3, "validation_steps": 2, "epochs": 2, "verbose": 0}
    history = model.fit(
        devices.distribute(strategy, batches.repeat(), training=True),
        validation_data=devices.distribute(strategy, tests, training=False),
        **steps,
    ).history
    costs = block.costs()
    block.reset_costs()
    weights = np.concatenate([np.ravel(w) for w in model.get_weights()]).tolist()
    return {"weights": weights, "costs": costs, "reset": block.costs(), **history}


def batch_normalization(strategy):
    """Running averages after a batch of which each replica has half, on each replica."""
    x = np.float32([0.0, 2.0, 10.0, 20.0]).reshape(4, 1, 1, 1)
    with strategy.scope():
        layer = layers.FusedBatchNormalization(momentum=0.0)
        model = keras.Sequential([keras.Input((1, 1, 1)), layer])
        model.compile("sgd", "mse")
    batches = tf.data.Dataset.from_tensors((x, x)).repeat()
    model.fit(devices.distribute(strategy, batches, training=True), steps_per_epoch=1, verbose=0)
    return {
        name: [float(v[0]) for v in getattr(layer, name).value.values]
        for name in ("moving_mean", "moving_variance")
    }


def time_batch_normalization(strategy):
    """The averages of a solve of several steps: of each replica, read, saved, recalibrated."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 6, 6, 2)).astype("f4")
    with strategy.scope():
        block = layers.ODEBlock(layers.ConvDynamics(2), solver=RK38(num_steps=2))
        model = keras.Sequential(
            [keras.Input((6, 6, 2)), block, keras.layers.GlobalAveragePooling2D()]
        )
        model.compile(keras.optimizers.SGD(0.0), "mse")
    batches = tf.data.Dataset.from_tensors((x, x[:, 0, 0])).repeat()
    recalibrate = callbacks.Recalibrate(batches, steps=1)
    averages = block.dynamics.norms[0].moving_mean
    found = {}

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            found["read"] = averages.numpy().tolist()
            found["replicas"] = [v.numpy().tolist() for v in averages.value.values]

    model.fit(
        devices.distribute(strategy, batches, training=True),
        steps_per_epoch=1,
        verbose=0,
        validation_data=devices.distribute(strategy, batches, training=False),
        validation_steps=1,
        callbacks=[Look(), recalibrate],
    )
    found["recalibrated"] = [v.numpy().tolist() for v in averages.value.values]
    found["recalibrated_read"] = averages.numpy().tolist()
    return found


def main():
    """Prints the results."""
    strategy = devices.strategy("mirrored")
    results = {
        "replicas": strategy.num_replicas_in_sync,
        "shares": shares(strategy),
        "linear": [linear(None), linear(strategy)],
        "batch_normalization": batch_normalization(strategy),
        "time_batch_normalization": time_batch_normalization(strategy),
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
