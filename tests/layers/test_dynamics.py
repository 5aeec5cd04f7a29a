"""What the dynamics of an `ODEBlock` may be made of."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfnode

X = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)


class Holder:
    """An object that holds a layer."""

    def __init__(self):
        self.layer = keras.layers.Dense(2)

    def __call__(self, t, y):
        return self.layer(y)


def closure():
    net = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)])
    return lambda t, y: net(y)


def variable():
    weights = keras.Variable(np.ones((2, 2), np.float32), name="weights")
    return lambda t, y: y @ weights


@pytest.mark.parametrize(("make", "count"), [(closure, 4), (Holder, 2), (variable, 1)])
def test_what_a_function_closes_over_trains(make, count):
    model = keras.Sequential([keras.Input((2,)), tfnode.ODEBlock(make())])
    assert len(model.trainable_variables) == count
    model.compile("sgd", "mse")
    before = [w.copy() for w in model.get_weights()]
    model.fit(X, 0.0 * X, verbose=0)
    assert all(np.any(a != b) for a, b in zip(before, model.get_weights()))


def test_variables_that_keras_cannot_train_are_refused():
    class Field(tf.Module):
        def __init__(self):
            self.w = tf.Variable(tf.ones([2, 2]))

        def __call__(self, t, y):
            return y @ self.w

    with pytest.raises(ValueError, match=r"tf\.Variable.*add_weight"):
        tfnode.ODEBlock(Field())(X)


def network(norm):
    return keras.Sequential(
        [keras.layers.Dense(8), norm(), keras.layers.ReLU(), keras.layers.Dense(2)]
    )


@pytest.mark.parametrize("closed_over", [False, True])
def test_plain_batch_normalisation_is_refused_in_training(closed_over):
    net = network(keras.layers.BatchNormalization)
    dynamics = (lambda t, y: net(y, training=True)) if closed_over else net
    with pytest.raises(ValueError, match="GroupNormalization"):
        tfnode.ODEBlock(dynamics)(X, training=True)


def test_plain_batch_normalisation_still_predicts():
    block = tfnode.ODEBlock(network(keras.layers.BatchNormalization))
    assert np.isfinite(block(X, training=False)).all()


def test_the_remedy_is_right_by_fit_alone():
    norm = lambda: keras.layers.GroupNormalization(4)  # noqa: E731
    model = keras.Sequential([keras.Input((2,)), tfnode.ODEBlock(network(norm))])
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    batches = tf.data.Dataset.from_tensors((X, -X)).repeat(10)
    loss = model.fit(batches, epochs=4, verbose=0).history["loss"]
    assert loss[-1] < loss[0] / 2
    np.testing.assert_allclose(model.evaluate(X, -X, verbose=0), loss[-1], rtol=0.3)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_times_of_a_call_keep_their_digits(policy):
    block = tfnode.ODEBlock(lambda t, y: tf.ones_like(y), dtype=policy)
    start = 2.0**20
    times = [start, start + 1.0625]
    for given in (np.array(times), tf.constant(times, tf.float64)):
        np.testing.assert_array_equal(block(tf.zeros([1, 1]), times=given), [[1.0625]])


def test_a_closure_trains_under_a_strategy():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), tfnode.ODEBlock(closure())])
        model.compile("sgd", "mse")
    before = [w.copy() for w in model.get_weights()]
    model.fit(X, 0.0 * X, verbose=0)
    assert len(before) == 4
    assert all(np.any(a != b) for a, b in zip(before, model.get_weights()))
