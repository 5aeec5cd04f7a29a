"""Both kinds of averages of batch normalisation in the dynamics."""

import numpy as np
import pytest
import tensorflow as tf

from tfnode.reproduce import batch_norm

RNG = np.random.default_rng(0)


def test_one_average_for_all_times():
    """As PyTorch keeps it: momentum 0.1, whatever the time."""
    layer = batch_norm.two_averages()
    batches = RNG.normal(2.0, 3.0, size=(3, 50, 4)).astype(np.float32)
    mean, variance = np.zeros(4), np.ones(4)
    for t, y in zip((0.0, 0.5, 1.0), batches):
        layer(tf.constant(t), y, training=True)
        mean += 0.1 * (y.mean(0) - mean)
        variance += 0.1 * (y.var(0, ddof=1) - variance)
    y = batches[0]
    layer.single = True
    expected = (y - mean) / np.sqrt(variance + layer.epsilon)
    np.testing.assert_allclose(layer(tf.constant(0.5), y, training=False), expected, rtol=1e-4)


def test_by_time():
    """As `TimeBatchNormalization`: at the time of one batch its statistics, and no others."""
    layer = batch_norm.two_averages()
    batches = [RNG.normal(m, 1.0, size=(50, 4)).astype(np.float32) for m in (-5.0, 5.0)]
    for t, y in zip((0.0, 1.0), batches):
        layer(tf.constant(t), y, training=True)
    for t, y in zip((0.0, 1.0), batches):
        outputs = layer(tf.constant(t), y, training=False)
        np.testing.assert_allclose(np.mean(outputs, 0), 0.0, atol=1e-4)


@pytest.mark.slow
def test_command(tmp_path):
    out = tmp_path / "out"
    assert batch_norm.main([f"--out={out}", "--quick"]) == 0
    names = sorted(p.name for p in out.iterdir())
    assert names == ["batch_norm.png", "results.json", "table.md"]
    header, _, row = (out / "table.md").read_text().splitlines()
    assert [name in header for name in batch_norm.WAYS] == [True] * 4
    assert row.count("%") == 5
