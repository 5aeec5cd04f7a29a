"""Keras masks of an `ODEBlock`'s times: a masked time step is padding."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfnode

X = np.array([[1.0], [2.0], [3.0]], "float32")
PADDED = np.array([[0.0, 1.0, 2.0], [0.0, -0.5, -9.0], [0.0, -9.0, -9.0]], "float32")
MASK = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]], bool)
EXPECTED = X * np.exp([[0.0, 1.0, 2.0], [0.0, -0.5, -0.5], [0.0, 0.0, 0.0]])


@keras.saving.register_keras_serializable("tests")
def growth(t, y):
    return y


def block():
    return tfnode.ODEBlock(growth, solver=tfnode.solvers.Bosh3(1e-7, 1e-7), return_sequences=True)


def test_padding_and_the_mask_of_the_output(tmp_path):
    x, times = keras.Input((1,)), keras.Input((3,))
    mask = keras.ops.not_equal(times, -9.0)
    states = block()(x, times=times, times_mask=mask)
    mean = keras.layers.GlobalAveragePooling1D()(states)  # Over the steps of the mask alone.
    model = keras.Model([x, times], [states, mean])
    model.save(tmp_path / "m.keras")
    for each in (model, keras.models.load_model(tmp_path / "m.keras")):
        states, mean = each.predict([X, PADDED], verbose=0)
        np.testing.assert_allclose(states[..., 0], EXPECTED, rtol=1e-5)
        np.testing.assert_allclose(
            mean[:, 0], [row[m].mean() for row, m in zip(EXPECTED, MASK)], rtol=1e-5
        )
    model.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved")).serve([X, PADDED])
    np.testing.assert_allclose(served[0][..., 0], EXPECTED, rtol=1e-5)


def test_a_mask_that_the_times_carry():
    times = tf.constant(PADDED)
    times._keras_mask = tf.constant(MASK)
    states = block()(X, times=times)
    np.testing.assert_allclose(states[..., 0], EXPECTED, rtol=1e-5)
    np.testing.assert_array_equal(states._keras_mask, MASK)


def test_what_is_no_padding():
    with pytest.raises(tf.errors.InvalidArgumentError, match="last ones of a row alone"):
        block()(X, times=PADDED, times_mask=MASK[:, ::-1])
    with pytest.raises(ValueError, match="needs times of shape"):
        block()(X, times=PADDED[0], times_mask=MASK)


def test_a_mask_of_another_shape():
    block = tfnode.ODEBlock(lambda t, y: -y, solver="dopri5")
    with pytest.raises(
        ValueError, match=r"their shape.*times of shape \(2, 3\), mask of shape \(2, 2"
    ):
        block(tf.ones([2, 1]), times=tf.zeros([2, 3]), times_mask=tf.ones([2, 2], tf.bool))


@pytest.mark.parametrize("padding", [-1.0, np.nan])
def test_a_row_without_a_valid_time_stays(padding):
    times = tf.constant([[0.0, 1.0, 2.0], [padding] * 3])
    mask = tf.constant([[True, True, True], [False] * 3])
    block = tfnode.ODEBlock(lambda t, y: -y, solver="dopri5", rtol=1e-6, atol=1e-8)
    y = block(tf.ones([2, 1]), times=times, times_mask=mask)
    np.testing.assert_allclose(y, [[np.exp(-2.0)], [1.0]], rtol=1e-5)
