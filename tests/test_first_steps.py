"""What a newcomer meets: names, refusals that tell the remedy, and no noise."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfnode


def test_names():
    names = dir(tfnode)
    assert {"ODEBlock", "callbacks", "data", "odeint", "__version__"} <= set(names)
    public = {name for name in names if not name.startswith("_")}
    assert public == set(tfnode.__all__) - {"__version__"}


@pytest.mark.parametrize("code", ["import tfnode; tfnode.odeint", "import keras, tfnode"])
@pytest.mark.few(1)
def test_another_backend_is_refused(code, tmp_path):
    # Keras itself loads another backend only where its packages are installed.
    (tmp_path / "keras.py").write_text(
        "import types\nconfig = types.SimpleNamespace(backend=lambda: 'numpy')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: tfnode needs") and last.endswith("backend='numpy'")
    assert "KERAS_BACKEND=tensorflow" in last


@pytest.mark.parametrize(
    ("dynamics", "y0"),
    [
        (lambda t, y: [y[1], -y[0]], tf.constant([1.0, 0.0])),
        (lambda t, y: tf.stack([y[1], -y[0]]), [tf.constant(1.0), tf.constant(0.0)]),
    ],
    ids=["derivative", "state"],
)
def test_a_list_for_a_tensor(dynamics, y0):
    with pytest.raises(ValueError, match=r"Received.*tf\.stack"):
        tfnode.odeint(dynamics, y0, [0.0, 1.0])


def test_symbols_are_sent_to_a_layer():
    with pytest.raises(ValueError, match=r"`tfnode.ODEBlock`.*Received: a symbolic.*\(None, 2\)"):
        tfnode.odeint(lambda t, y: -y, keras.Input((2,)), [0.0, 1.0])


# fmt: off
TWO = (lambda t, y: -y, lambda t, y: y)
# fmt: on


def test_autograph_is_quiet_about_two_lambdas_on_one_line(caplog):
    @tf.function
    def solve():
        return [tfnode.odeint(f, tf.constant([1.0]), [0.0, 1.0], solver="euler")[-1] for f in TWO]

    assert [float(y[0]) for y in solve()] == [0.0, 2.0]
    assert "AutoGraph" not in caplog.text


def bounded(y):
    if tf.reduce_sum(y) > 0.0:
        return -y
    return y


FIELD = lambda t, y: bounded(y)  # noqa: E731


def test_a_lambda_is_converted_where_its_source_is_known():
    @tf.function
    def solve():
        return tfnode.odeint(FIELD, tf.constant([1.0]), [0.0, 1.0], solver="euler")[-1]

    assert float(solve()[0]) == 0.0


def test_an_error_begins_with_the_failure():
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        tfnode.odeint(lambda t, y: y**2, tf.ones([1]), [0.0, 2.0])
    assert str(caught.value).startswith("Dopri5 failed: the ")
    assert "time reached = " in str(caught.value)


def test_complex_states_are_solved_as_pairs():
    with pytest.raises(TypeError, match="real and the imaginary part.*complex128"):
        tfnode.odeint(lambda t, y: 1j * y, tf.constant([1j]), [0.0, 1.0])

    def rotation(t, y):
        dz = 1j * tf.complex(y["re"], y["im"])
        return {"re": tf.math.real(dz), "im": tf.math.imag(dz)}

    y0 = {"re": tf.constant([1.0]), "im": tf.constant([0.0])}
    ys = tfnode.odeint(rotation, y0, [0.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(ys["im"][-1], [np.sin(1.0)], rtol=1e-5)
