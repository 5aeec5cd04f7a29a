"""Programs after issues of TensorFlow and Keras: see docs/reported_programs.md for the sources."""

import functools
import gc

import keras
import numpy as np
import pytest
import scipy.integrate
import tensorflow as tf

import tfnode
from tfnode import solvers

pytestmark = pytest.mark.few(2)

f64 = tf.float64
GRADIENTS = ["checkpoint", "adjoint", "backprop"]
SELECTED = ["checkpoint", *(pytest.param(g, marks=pytest.mark.slow) for g in GRADIENTS[1:])]
each = pytest.mark.parametrize("gradient", SELECTED)
without_backprop = pytest.mark.parametrize("gradient", SELECTED[:2])
RATE = 0.7
SOLVER = solvers.RK4(num_steps=5)
END = 2.0 * np.exp(-RATE)  # The sum of two states that decay from 1 at the RATE, at time 1.


def variable(value=RATE, **kwargs):
    return tf.Variable(value, dtype=f64, **kwargs)


def total(func, gradient, y0=None):
    """Return the sum of the states at time 1."""
    y0 = tf.ones([2], f64) if y0 is None else y0
    return tf.reduce_sum(tfnode.odeint(func, y0, [0.0, 1.0], solver=SOLVER, gradient=gradient)[-1])


def decay(rate, gradient, y0=None):
    return total(lambda t, y: -rate * y, gradient, y0)


def assert_close(got, right, rtol=1e-4):
    np.testing.assert_allclose(np.asarray(got), right, rtol=rtol, atol=1e-9)


# Dynamics of one rate `w`, with the derivative of `total` in it.


def counted(w):
    calls = tf.Variable(0)

    def func(t, y):
        calls.assign_add(1)
        return -w * y

    return func


def looped(w):
    def func(t, y):
        return -tf.while_loop(lambda i, z: i < 3, lambda i, z: (i + 1, w * z), (0, y))[1]

    return func


def nested(w):
    def func(t, y):
        for _ in tf.range(2):
            for _ in tf.range(tf.size(y) // 2):
                y = w * y
        return -y

    return func


def custom(w):
    @tf.custom_gradient
    def times_w(x):
        def grad(upstream, variables=()):
            return upstream * w, [tf.reduce_sum(upstream * x)] * len(variables)

        return w * x, grad

    return lambda t, y: -times_w(y)


def taped(w):
    def func(t, y):
        with tf.GradientTape() as tape:
            tape.watch(y)
            energy = 0.5 * w * tf.reduce_sum(y * y)
        return -tape.gradient(energy, y)

    return func


def forward(w):
    def func(t, y):
        with tf.autodiff.ForwardAccumulator(y, tf.ones_like(y)) as accumulator:
            energy = 0.5 * w * y * y
        return -accumulator.jvp(energy)

    return func


def looked_up(w):
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer([0, 1], tf.constant([1.0, 5.0])), 0.0
    )
    return lambda t, y: -w * tf.cast(table.lookup(tf.cast(0.5 * t, tf.int32)), f64) * y


def branched(w):
    def func(t, y):
        if tf.reduce_sum(y) < 100.0:
            y = -w * y
        return y

    return func


def masked(w):
    """The root has no derivative at zero: it is masked before and after."""

    def func(t, y):
        some = tf.constant([True, False])
        root = tf.sqrt(tf.where(some, y * [1.0, 0.0], tf.ones_like(y)))
        return tf.where(some, -w * root**2, tf.zeros_like(y))

    return func


DYNAMICS = {
    "counter": (counted, -END),
    "while_loop": (looped, -6.0 * RATE**2 * np.exp(-(RATE**3))),
    "nested_loops": (nested, -4.0 * RATE * np.exp(-(RATE**2))),
    "map_fn": (lambda w: lambda t, y: tf.map_fn(lambda x: -w * x, y), -END),
    "custom_gradient": (custom, -END),
    "tape": (taped, -END),
    "forward_accumulator": (forward, -END),
    "recompute_grad": (lambda w: lambda t, y: tf.recompute_grad(lambda x: -w * x)(y), -END),
    "stop_gradient": (
        lambda w: lambda t, y: -w * tf.stop_gradient(y),
        -2.0 * (1.0 - np.exp(-RATE)) / RATE,
    ),
    "lookup_table": (looked_up, -END),
    "branch": (branched, -END),
    "double_where": (masked, -END / 2),
    "embedding": (
        lambda w: lambda t, y: -tf.nn.embedding_lookup(tf.stack([[0.0 * w], [w]]), [1])[0] * y,
        -END,
    ),
}


@pytest.mark.parametrize("name", DYNAMICS)
@each
def test_dynamics(name, gradient):
    build, right = DYNAMICS[name]
    w = variable()
    func = build(w)
    with tf.GradientTape() as tape:
        value = total(func, gradient)
    assert_close(tape.gradient(value, w), right)


# Tensors and variables that the dynamics close over.


@without_backprop
def test_a_table_of_embeddings(gradient):
    table = variable([[0.1], [RATE], [0.3]])
    with tf.GradientTape() as tape:
        value = total(lambda t, y: -tf.gather(table, [1])[0] * y, gradient)
    assert_close(tf.convert_to_tensor(tape.gradient(value, table)), [[0.0], [-END], [0.0]])


@without_backprop
def test_a_sparse_matrix(gradient):
    values = tf.constant([-RATE, -RATE], f64)
    with tf.GradientTape() as tape:
        tape.watch(values)
        matrix = tf.SparseTensor([[0, 0], [1, 1]], values, [2, 2])
        value = total(
            lambda t, y: tf.sparse.sparse_dense_matmul(matrix, y[:, tf.newaxis])[:, 0], gradient
        )
    assert_close(tape.gradient(value, values), [END / 2, END / 2])


@without_backprop
def test_a_ragged_tensor(gradient):
    values = tf.constant([0.3, 0.4, 0.7], f64)
    with tf.GradientTape() as tape:
        tape.watch(values)
        ragged = tf.RaggedTensor.from_row_lengths(values, [2, 1])
        value = total(lambda t, y: -tf.reduce_sum(ragged, 1) * y, gradient)
    assert_close(tape.gradient(value, values), [-END / 2] * 3)


@without_backprop
def test_a_variable_of_unknown_shape(gradient):
    w = tf.Variable(np.full(2, RATE), shape=[None])
    with tf.GradientTape() as tape:
        value = decay(w, gradient)
    assert_close(tape.gradient(value, w), [-END / 2] * 2)


@without_backprop
def test_a_variable_of_half_precision(gradient):
    w = tf.Variable(0.5, dtype=tf.float16)
    with tf.GradientTape() as tape:
        value = decay_in_double(w, gradient)
    assert_close(tape.gradient(value, w), -2.0 * np.exp(-0.5), rtol=2e-3)


def decay_in_double(w, gradient):
    return total(lambda t, y: -tf.cast(w, f64) * y, gradient)


@without_backprop
def test_weights_that_the_dynamics_share(gradient):
    w = variable()
    with tf.GradientTape() as tape:
        value = w * decay(w, gradient, w * tf.ones([2], f64))
    assert_close(tape.gradient(value, w), 2.0 * (2.0 * RATE - RATE**2) * np.exp(-RATE))


@without_backprop
def test_an_attribute_that_is_a_tensor(gradient):
    class Field(tf.Module):
        def __call__(self, t, y):
            return -self.rate * y

    field, w = Field(), variable()
    with tf.GradientTape() as tape:
        field.rate = tf.exp(tf.math.log(w))
        value = total(field, gradient)
        field.rate = 100.0
    assert_close(tape.gradient(value, w), -END)


@without_backprop
def test_closures_over_the_variable_of_a_python_loop(gradient):
    rates = [variable(0.3), variable(0.7)]
    with tf.GradientTape() as tape:
        values = [total(lambda t, y: -w * y, gradient) for w in rates]  # noqa: B023
        first = values[0] + 0.0
    assert_close(
        tape.gradient(first, rates, unconnected_gradients="zero"), [-2.0 * np.exp(-0.3), 0.0]
    )


# Tapes.


@each
def test_a_persistent_tape_inside_of_itself(gradient):
    w = variable()
    with tf.GradientTape(persistent=True) as tape:
        value = decay(w, gradient)
        inside = tape.gradient(value, w)
        square = value * value
    assert_close([inside, tape.gradient(value, w)], [-END, -END])
    assert_close(tape.gradient(square, w), -2.0 * END**2)


@pytest.mark.parametrize(
    ("gradient", "pfor"), [("checkpoint", False), ("checkpoint", True), ("adjoint", False)]
)
def test_a_jacobian(gradient, pfor):
    w = variable()
    with tf.GradientTape(persistent=True) as tape:
        y = tfnode.odeint(
            lambda t, y: -w * y, tf.ones([2], f64), [0.0, 1.0], solver=SOLVER, gradient=gradient
        )[-1]
    assert_close(tape.jacobian(y, w, experimental_use_pfor=pfor), [-END / 2] * 2)


@without_backprop
def test_a_solve_where_the_tape_stands_still(gradient):
    w = variable()
    with tf.GradientTape() as tape:
        with tape.stop_recording():
            constant = decay(w, gradient)
        value = 3.0 * w * constant + decay(w, gradient)
    assert_close(tape.gradient(value, w), 3.0 * END - END)


@without_backprop
def test_a_tape_that_watches_one_variable(gradient):
    w, other, frozen = variable(), variable(1.0), variable(1.0, trainable=False)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([w, frozen])
        value = decay(w * other * frozen, gradient)
        alone = total(lambda t, y: -w * other * frozen * y, gradient)
        value += alone
    by_w, by_other, by_frozen = tape.gradient(value, [w, other, frozen])
    assert_close([by_w, by_frozen], [-2.0 * END, -2.0 * RATE * END])
    assert by_other is None


@without_backprop
def test_the_variables_that_a_tape_watched(gradient):
    w = variable()
    with tf.GradientTape() as tape:
        value = decay(w, gradient)
    (watched,) = tape.watched_variables()
    assert_close(tape.gradient(value, watched), -END)


@without_backprop
def test_a_variable_without_influence(gradient):
    w, other = variable(), variable([1.0, 2.0, 3.0])
    with tf.GradientTape() as tape:
        value = total(lambda t, y: -w * y + tf.stop_gradient(0.0 * other[0]), gradient)
    assert_close(tape.gradient(value, other, unconnected_gradients="zero"), [0.0] * 3)


@without_backprop
def test_symbolic_gradients(gradient):
    w = variable()

    @tf.function
    def run():
        rate = tf.identity(w)
        return tf.gradients(decay(rate, gradient), [rate])

    assert_close(run(), [-END])


@without_backprop
def test_functions_that_run_eagerly(gradient):
    w = variable()
    tf.config.run_functions_eagerly(True)
    try:
        with tf.GradientTape() as tape:
            value = tf.function(lambda: decay(w, gradient))()
        assert_close(tape.gradient(value, w), -END)
    finally:
        tf.config.run_functions_eagerly(False)


@each
def test_second_derivatives(gradient):
    w = variable()
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            value = decay(w, gradient)
        first = inner.gradient(value, w)
    if gradient == "backprop":
        assert_close(outer.gradient(first, w), END)
    else:
        with pytest.raises(NotImplementedError, match="second derivatives.*backprop"):
            outer.gradient(first, w)


@each
@pytest.mark.parametrize("what", ["variable", "tensor", "state"])
def test_forward_mode(gradient, what):
    w = variable() if what == "variable" else tf.constant(RATE, f64)
    y0 = tf.ones([2], f64)
    primal = y0 if what == "state" else w

    def run():
        with tf.autodiff.ForwardAccumulator(primal, tf.ones_like(primal)) as accumulator:
            value = decay(w, gradient, y0)
        return accumulator.jvp(value)

    if gradient == "backprop":
        assert_close(run(), END if what == "state" else -END)
    else:
        with pytest.raises(NotImplementedError, match="forward-mode.*backprop"):
            run()


@without_backprop
def test_an_assignment_before_the_gradient(gradient):
    w = variable()
    with tf.GradientTape() as tape:
        value = decay(w, gradient)
    w.assign(3.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="assigned after|is lost"):
        tape.gradient(value, w)


def test_an_assignment_before_the_gradient_by_backprop():
    w = variable()
    with tf.GradientTape() as tape:
        value = decay(w, "backprop")
    w.assign(3.0)
    assert_close(tape.gradient(value, w), -END)


@each
def test_an_assignment_between_two_solves(gradient):
    """As of a coefficient with a schedule."""
    w, coefficient = variable(), variable(1.0, trainable=False)
    with tf.GradientTape() as tape:
        value = total(lambda t, y: -w * coefficient * y, gradient)
        coefficient.assign(0.5)
        value += total(lambda t, y: -w * coefficient * y, gradient)
    if gradient == "backprop":
        assert_close(tape.gradient(value, w), -END - np.exp(-RATE / 2))
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="assigned after|is lost"):
            tape.gradient(value, w)


@each
@pytest.mark.parametrize("what", ["tensor", "variable"])
def test_a_function_that_was_traced_without_a_tape(gradient, what):
    """A later tape watches what the dynamics close over."""
    w = tf.constant(RATE, f64) if what == "tensor" else variable(trainable=False)
    function = tf.function(lambda: w * decay(w, gradient))
    function()
    with tf.GradientTape() as tape:
        tape.watch(w)
        value = function()
    assert_close(tape.gradient(value, w), END - RATE * END)


# State and foreign code in the dynamics.


@each
def test_a_variable_that_the_dynamics_assign_and_read(gradient):
    """The unrolled program, in NumPy."""
    w, state = variable(), variable(1.0, trainable=False)

    def func(t, y):
        state.assign(0.9 * state)
        return -w * state * y

    def unrolled(w):
        states = iter(0.9 ** np.arange(1, 21))
        y, h = 2.0, 0.2
        for _ in range(5):
            a = -w * next(states) * y
            b = -w * next(states) * (y + h / 2 * a)
            c = -w * next(states) * (y + h / 2 * b)
            d = -w * next(states) * (y + h * c)
            y += h / 6 * (a + 2 * b + 2 * c + d)
        return y

    with tf.GradientTape() as tape:
        try:
            value = total(func, gradient)
        except ValueError:  # Refused.
            return
    right = (unrolled(RATE + 1e-6) - unrolled(RATE - 1e-6)) / 2e-6
    assert_close(value, unrolled(RATE))
    assert_close(tape.gradient(value, w), right)


def spectral(gradient):
    keras.utils.set_random_seed(0)
    layer = keras.layers.SpectralNormalization(keras.layers.Dense(2, "tanh", dtype="float64"))
    layer.build((None, 2))
    solver = solvers.RK4(num_steps=2)
    with tf.GradientTape() as tape:
        y = tfnode.odeint(
            lambda t, y: layer(y, training=True),
            tf.constant([[1.0, -0.5]], f64),
            [0.0, 1.0],
            solver=solver,
            gradient=gradient,
        )
        value = tf.reduce_sum(y[-1] * [1.0, 2.0])
    return tape.gradient(value, layer.trainable_variables[0])


@without_backprop
def test_spectral_normalization(gradient):
    try:
        got = spectral(gradient)
    except ValueError:  # Refused.
        return
    assert_close(got, spectral("backprop"), rtol=1e-2 if gradient == "adjoint" else 1e-6)


def sine_by(kind):
    def func(y):
        if kind == "numpy_function":
            z = tf.numpy_function(np.sin, [y], f64)
        else:
            z = tf.py_function(tf.sin, [y], f64)
        z.set_shape(y.shape)
        return z

    return func


@pytest.mark.parametrize(
    ("kind", "where", "gradient"),
    [
        *(("numpy_function", where, g) for where in ("state", "time") for g in GRADIENTS),
        *(("py_function", where, g) for where in ("state", "time") for g in GRADIENTS),
    ],
)
def test_python_in_the_dynamics(kind, where, gradient):
    """A gradient that is lost in it must be an error."""
    w, sine, end = variable(), sine_by(kind), tf.constant(1.0, f64)

    def run():
        with tf.GradientTape() as tape:
            tape.watch(end)
            y = tfnode.odeint(
                (lambda t, y: -w * sine(y))
                if where == "state"
                else (lambda t, y: w * sine(t) + 0.0 * y),
                tf.ones([2], f64),
                tf.stack([0.0 * end, end]),
                solver=SOLVER,
                gradient=gradient,
            )
            value = tf.reduce_sum(y[-1])
        return tape.gradient(value, w if where == "state" else end)

    def by_scipy(w):
        solution = scipy.integrate.solve_ivp(
            lambda t, y: -w * np.sin(y), (0.0, 1.0), [1.0], rtol=1e-11, atol=1e-11
        )
        return 2.0 * solution.y[0, -1]

    try:
        got = run()
    except (LookupError, ValueError, NotImplementedError):
        return  # Refused.
    if where == "state":
        assert_close(got, (by_scipy(RATE + 1e-4) - by_scipy(RATE - 1e-4)) / 2e-4)
    else:
        assert_close(got, 2.0 * RATE * np.sin(1.0))


@without_backprop
def test_an_iterator_in_the_dynamics(gradient):
    """Every evaluation would see another element."""
    w = variable()
    elements = iter(tf.data.Dataset.range(1000).map(lambda i: tf.cast(i, f64)))
    with pytest.raises(LookupError, match="IteratorGetNext"), tf.GradientTape() as tape:
        tape.gradient(total(lambda t, y: -w * next(elements) * y, gradient), w)


@without_backprop
def test_a_custom_gradient_that_reads_a_variable_in_a_branch(gradient):
    """An error of TensorFlow's; the variable as an argument is right."""
    w, one = variable(), variable(1.0, trainable=False)

    @tf.custom_gradient
    def closed(x):
        return one * x, lambda upstream: upstream * one

    @tf.custom_gradient
    def told(x, factor):
        return factor * x, lambda upstream: (upstream * factor, None)

    def run(function):
        with tf.GradientTape() as tape:
            value = total(
                lambda t, y: -w * tf.cond(t < 5.0, lambda: function(y), lambda: y), gradient
            )
        return tape.gradient(value, w)

    with pytest.raises(AttributeError):
        run(closed)
    assert_close(run(lambda y: told(y, tf.identity(one))), -END)


# Loops, data sets, saved programs.


@without_backprop
def test_three_solves_compiled(gradient):
    w = variable()

    @tf.function(jit_compile=True)
    def run():
        with tf.GradientTape() as tape:
            y = tf.ones([2], f64)
            for _ in range(3):
                y = tfnode.odeint(
                    lambda t, y: -w * y, y, [0.0, 1.0], solver=SOLVER, gradient=gradient
                )[-1]
            value = tf.reduce_sum(y)
        return tape.gradient(value, w)

    assert_close(run(), -6.0 * np.exp(-3.0 * RATE))


@without_backprop
def test_a_loop_over_a_data_set(gradient):
    w = variable()
    batches = tf.data.Dataset.from_tensor_slices(tf.constant([[1.0], [2.0]], f64))

    @tf.function
    def run():
        value = tf.zeros([], f64)
        for batch in batches:
            with tf.GradientTape() as tape:
                loss = decay(w, gradient, batch)
            value += tape.gradient(loss, w)
        return value

    assert_close(run(), -3.0 * np.exp(-RATE))


@without_backprop
def test_a_saved_program(gradient, tmp_path):
    class Program(tf.Module):
        def __init__(self):
            self.w = variable()

        @tf.function(input_signature=[tf.TensorSpec([2], f64)])
        def __call__(self, y0):
            return decay(self.w, gradient, y0)

    options = tf.saved_model.SaveOptions(experimental_custom_gradients=True)
    tf.saved_model.save(Program(), str(tmp_path), options=options)
    loaded = tf.saved_model.load(str(tmp_path))
    with tf.GradientTape() as tape:
        value = loaded(tf.ones([2], f64))
    assert_close(tape.gradient(value, loaded.w), -END)


# Keras.


def block(gradient, units=1):
    layer = keras.layers.Dense(
        units, use_bias=False, kernel_initializer=keras.initializers.Identity(-RATE)
    )
    return layer, keras.Sequential(
        [keras.Input((units,)), tfnode.ODEBlock(layer, SOLVER, gradient, dtype="float64")]
    )


@pytest.fixture
def double():
    keras.config.set_dtype_policy("float64")


@without_backprop
def test_a_stateless_call(gradient, double):
    """The weights are tensors, as a meta-learner wants them."""
    _, model = block(gradient)
    kernel = tf.constant([[-0.3]], f64)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        outputs, _ = model.stateless_call([kernel], [], np.ones((2, 1)))
        value = tf.reduce_sum(outputs)
    assert_close(tape.gradient(value, kernel), [[2.0 * np.exp(-0.3)]])


@without_backprop
def test_a_model_that_is_deleted(gradient, double):
    layer, model = block(gradient)
    kernel = layer.kernel.value
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(model(np.ones((2, 1))))
    del layer, model
    gc.collect()
    assert_close(tape.gradient(value, kernel), [[END]])


@without_backprop
def test_trainable_is_toggled(gradient, double):
    layer, model = block(gradient)
    kernel = layer.kernel.value
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(model(np.ones((2, 1))))
    layer.trainable = False
    assert_close(tape.gradient(value, kernel), [[END]])
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        value = tf.reduce_sum(model(np.ones((2, 1))))
    assert_close(tape.gradient(value, kernel), [[END]])


def test_a_recurrent_layer_in_the_dynamics(double):
    layer = keras.layers.GRU(2, return_sequences=True)
    x = tf.constant(np.random.default_rng(0).normal(size=(1, 3, 2)))
    layer.build(x.shape)

    def run(gradient):
        with tf.GradientTape() as tape:
            value = total(lambda t, y: layer(y), gradient, x)
        gradients = tape.gradient(value, layer.trainable_variables)
        return np.concatenate([np.ravel(g) for g in gradients])

    assert_close(run("checkpoint"), run("backprop"), rtol=1e-9)


AVERAGES = {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2}
X = np.random.default_rng(0).normal(size=(8, 2))


def trained(gradient, batch_size=4, compiled=None, **optimizer):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((2,)), tfnode.ODEBlock(keras.layers.Dense(2, "tanh"), SOLVER, gradient)]
    )
    model.compile(keras.optimizers.SGD(0.1, **optimizer), "mse", **(compiled or {}))
    model.fit(X, X[:, ::-1], batch_size, epochs=2, shuffle=False, verbose=0)
    return np.concatenate([w.ravel() for w in model.get_weights()])


@functools.cache
def reference(averages):
    return trained("backprop", compiled={"jit_compile": False}, **(AVERAGES if averages else {}))


@pytest.mark.parametrize(
    "changed",
    [
        {"batch_size": 2, "gradient_accumulation_steps": 2},
        {"compiled": {"steps_per_execution": 2, "jit_compile": False}},
        {"compiled": {"jit_compile": True}},
        {"compiled": {"run_eagerly": True}},
        {"compiled": {"jit_compile": False}, **AVERAGES},
    ],
    ids=["accumulation", "steps_per_execution", "jit_compile", "run_eagerly", "ema"],
)
@pytest.mark.few(1)
def test_training(changed, double):
    right = reference("use_ema" in changed)
    assert_close(trained("checkpoint", **changed), right, rtol=1e-7)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_times_of_a_call_keep_their_precision(policy):
    initializer = keras.initializers.Constant(-0.5)
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer=initializer, dtype=policy)
    block = tfnode.ODEBlock(layer, SOLVER, dtype=policy)
    outputs = block(tf.ones([1, 1]), times=tf.constant([1000.0, 1001.3]))
    assert_close(tf.cast(outputs, tf.float32), [[np.exp(-0.5 * 1.3)]], rtol=1e-2)
