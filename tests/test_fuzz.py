"""Whatever is put in, there is a result or a short error of a kind that is documented.

Each target takes a random input and checks what comes of it; anything else than the errors that
it names is a failure, and so is a minute of computing. `pytest -m slow -s tests/test_fuzz.py` runs
thousands of inputs and prints how many.
"""

import contextlib
import io
import json
import math
import shutil
import signal
from unittest import mock

import command
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tfnode
from tfnode import report, solvers
from tfnode.data import DataError, mnist
from tfnode.files import history
from tfnode.lab.flags import SHORT
from tfnode.lab.model_settings import MODELS
from tfnode.lab.settings import rules_for
from tfnode.runs import contents
from tfnode.runs.files import read_json
from tfnode.runs.report import _figures

# --- Damage ---------------------------------------------------------------------------


@st.composite
def damaged(draw, contents):
    """Bytes, cut short, changed in some places, or with others put in."""
    content = bytearray(draw(contents))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(["cut", "flip", "insert", "repeat"]))
        if kind == "cut":
            del content[place:]
        elif kind == "flip" and place < len(content):
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "insert":
            content[place:place] = draw(st.binary(max_size=8))
        elif kind == "repeat":
            content[place:place] = content[: draw(st.integers(0, 64))]
    return bytes(content)


ODD_NUMBERS = st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e300, -1e300, 5e-324, 1e-30, 2.0**53]
)
NUMBERS = ODD_NUMBERS | st.floats() | st.integers() | st.integers(-3, 3)

# --- Data files -----------------------------------------------------------------------

ARRAYS = {
    name: np.arange(math.prod(shape), dtype=np.uint8).reshape(shape)
    for name, shape in {
        "x_train": (3, 4, 4),
        "y_train": (3,),
        "x_test": (2, 4, 4),
        "y_test": (2,),
    }.items()
}
CHECKSUMS = {n: (a.shape, mnist.hashlib.sha256(a.tobytes()).hexdigest()) for n, a in ARRAYS.items()}


@st.composite
def npz_files(draw):
    arrays = dict(ARRAYS)
    for name in draw(st.sets(st.sampled_from([*ARRAYS, "more"]))):
        kind = draw(st.sampled_from(["?", "i1", "<u2", "f2", "f8", "c8", "S3", "U2", "O", "M8[s]"]))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        arrays[name] = np.zeros(shape, kind)
    for name in draw(st.sets(st.sampled_from(list(ARRAYS)), max_size=1)):
        del arrays[name]
    buffer = io.BytesIO()
    draw(st.sampled_from([np.savez, np.savez_compressed]))(buffer, **arrays)
    return buffer.getvalue()


def read_npz(content, folder):
    path = folder / "mnist.npz"
    path.write_bytes(content)
    with mock.patch.object(mnist, "ARRAYS", CHECKSUMS):
        try:
            arrays = mnist.read_npz(path)
        except DataError as error:
            assert str(path) in str(error)
            return False
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
    return True


# --- Flags ----------------------------------------------------------------------------


RULES = {name: rule for model in MODELS for name, rule in rules_for(model).items()}
CHOICES = {name: rule.choices for name, rule in RULES.items() if rule.choices}
RANGES = [name for name, rule in RULES.items() if rule.range]
SETTINGS = list(RULES)
WORDS = st.sampled_from(
    ["", "None", "True", "nan", "inf", "1e999", "-1", "0", "()", "{}", "[1]", "../x", "rk4", "x,y"]
    + [str(value) for values in CHOICES.values() for value in values]
)
GOOD_ARGUMENTS = st.one_of(
    [
        st.sampled_from([f"--config.{name}={value}" for value in values])
        for name, values in CHOICES.items()
        if name not in ("model.name", "model.stem")
    ]
    + [st.integers(1, 9).map(lambda n, name=name: f"--config.{name}={n}") for name in RANGES],
)
VALUES = WORDS | NUMBERS.map(str) | st.text(st.characters(exclude_characters="\0"), max_size=9)
SETTING_NAMES = (
    st.sampled_from(SETTINGS)
    | st.tuples(st.sampled_from(SETTINGS), st.sampled_from(["", ".x", "[0]", "[", ".", "__"])).map(
        "".join
    )
    | st.text("abc.[]01_-", max_size=6)
)
ARGUMENTS = st.one_of(
    GOOD_ARGUMENTS,
    GOOD_ARGUMENTS,
    st.tuples(st.just("--config."), SETTING_NAMES, st.just("="), VALUES).map("".join),
    st.tuples(st.just("--config."), SETTING_NAMES).map("".join),
    st.tuples(st.just("--"), st.sampled_from([*SHORT, "model"]), st.just("="), VALUES).map("".join),
    st.just("--model=resnet"),
    VALUES,
)


def parse_flags(arguments, folder):
    del folder
    status, message, options = command.run(arguments)
    if status:
        assert status == 2
        assert message.startswith("train.py: ")
        return False
    if options is not None:  # There are none after `-h`.
        config = options.settings
        config.check()
        assert {type(x) for x in (config.epochs, config.batch_size, config.seed)} == {int}
    return True


# --- Run directories ------------------------------------------------------------------

CELLS = NUMBERS.map(str) | st.text(max_size=5) | st.just("")
ROWS = st.lists(
    st.tuples(
        st.integers(1, 5).map(str),
        st.lists(CELLS | ODD_NUMBERS.map(str), min_size=8, max_size=8),
    ).map(lambda row: ",".join([row[0], *row[1]])),
    max_size=4,
)
NUMERIC_ROWS = st.lists(
    st.tuples(
        st.integers(1, 2**53 - 1) | st.integers(1, 9),
        *[st.floats() | ODD_NUMBERS | st.floats(0, 1) | st.just("")] * 8,
    ).map(lambda row: ",".join(map(str, row))),
    min_size=1,
    max_size=4,
)
HISTORIES = (NUMERIC_ROWS | ROWS).map(
    lambda rows: "\n".join([",".join(history.HISTORY_COLUMNS), *rows, ""]).encode()
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
METRICS = st.one_of(
    st.fixed_dictionaries({"dataset": st.just("mnist"), "parameters": st.integers(0, 10**9)}),
    st.fixed_dictionaries({}, optional={"dataset": JSON, "parameters": JSON, "final": JSON}),
    JSON,
).map(lambda value: json.dumps(value).encode())
RUNS = st.lists(
    st.tuples(
        HISTORIES | damaged(HISTORIES) | st.binary(max_size=50),
        METRICS | damaged(METRICS) | st.binary(max_size=50),
    ),
    min_size=1,
    max_size=2,
)


def write_report(runs, folder):
    shutil.rmtree(folder)
    paths = [folder / str(n) for n in range(len(runs))]
    for path, (rows, metrics) in zip(paths, runs):
        path.mkdir(parents=True)
        (path / contents.HISTORY).write_bytes(rows)
        (path / contents.METRICS).write_bytes(metrics)
    out, messages = folder / "out", io.StringIO()
    with contextlib.redirect_stderr(messages), contextlib.redirect_stdout(io.StringIO()):
        status = report.main([*map(str, paths), "--out", str(out)])
    if status:
        assert status == 1
        assert messages.getvalue().startswith("report: ")
        assert messages.getvalue().count("\n") == 1
        assert not out.exists()
        return False
    files = {"table.md", "table.json", *(f"{name}.png" for name in _figures("accuracy"))}
    assert {path.name for path in out.iterdir()} == files
    assert all(path.stat().st_size for path in out.iterdir())
    table = read_json(out / "table.json")["runs"]
    assert len(table) == len(runs)
    lines = (out / "table.md").read_text().splitlines()
    assert len(lines) == 2 + len(runs)
    return True


# --- odeint ---------------------------------------------------------------------------

DTYPES = st.sampled_from(["float16", "float32", "float64", "int32", "bool", "complex64", "O", "U3"])


@st.composite
def array_values(draw):
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    value = draw(ODD_NUMBERS | st.floats(-2, 2))
    return np.full(shape, value).astype(draw(DTYPES))


def _tensor(array):
    """A tensor where there is one of that dtype."""
    return array if array.dtype.kind == "O" else tf.constant(array)


with np.errstate(all="ignore"):
    THINGS = st.one_of(
        st.none(),
        st.booleans(),
        st.text(max_size=3),
        st.binary(max_size=3),
        NUMBERS,
        st.just(object()),
        st.just(solvers.Euler),
        array_values(),
        array_values().map(_tensor),
    )
STATES = st.one_of(
    st.floats(-2, 2, width=32).map(tf.constant),
    st.recursive(
        THINGS | st.floats(-2, 2, width=32).map(tf.constant),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.tuples(inner, inner),
            st.dictionaries(st.sampled_from(["a", "b", 1, None]), inner, max_size=2),
        ),
        max_leaves=4,
    ),
)
TIMES = st.one_of(
    st.lists(st.floats(-2, 2), min_size=2, max_size=4, unique=True).map(sorted),
    st.lists(NUMBERS, max_size=4),
    st.lists(THINGS, max_size=3),
    st.lists(st.floats(-2, 2), min_size=2, max_size=4).map(tf.constant),
    THINGS,
)
FIELDS_THAT_FIT = st.just(lambda t, y: tf.nest.map_structure(lambda x: -x, y))
FIELDS = st.sampled_from(
    [
        lambda t, y: tf.nest.map_structure(lambda x: -x, y),
        lambda t, y: y,
        lambda t, y: None,
        lambda t, y: 1.0,
        lambda t, y: "text",
        lambda t, y: [y, y],
        lambda t, y: tf.nest.map_structure(lambda x: x[..., None], y),
        lambda t, y: tf.nest.map_structure(lambda x: x * math.nan, y),
        lambda t, y: tf.nest.map_structure(lambda x: tf.cast(x, tf.int32), y),
        lambda y: y,
        None,
        3,
        "tanh",
    ]
)
SOLVERS = st.one_of(
    st.sampled_from(["euler", "Euler", "midpoint", "rk38"]),
    st.builds(lambda kwargs: lambda: solvers.Euler(**kwargs), st.fixed_dictionaries(
        {}, optional={"num_steps": st.integers(-1, 3) | THINGS, "step_size": ODD_NUMBERS | THINGS}
    )),
    st.builds(lambda kwargs: lambda: solvers.Heun21(max_steps=5, **kwargs), st.fixed_dictionaries(
        {}, optional={"rtol": ODD_NUMBERS | THINGS, "atol": ODD_NUMBERS, "first_step": ODD_NUMBERS}
    )),
    st.dictionaries(st.sampled_from(["class_name", "config", "module"]), THINGS | JSON, max_size=3),
    THINGS,
)  # fmt: skip
GRADIENTS = st.one_of(
    st.sampled_from(["adjoint", "checkpoint", "backprop"]),
    st.dictionaries(st.sampled_from(["class_name", "config", "module"]), THINGS | JSON, max_size=3),
    THINGS,
)
# A problem that can be solved, and what takes the place of some of its parts.
GOOD = (
    FIELDS_THAT_FIT,
    st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=3).map(tf.constant),
    st.lists(st.floats(-2, 2), min_size=2, max_size=4, unique=True).map(sorted),
    st.sampled_from(["euler", "midpoint"]),
    st.sampled_from(["adjoint", "checkpoint", "backprop"]),
)
PROBLEMS = st.sets(st.integers(0, 4), max_size=2).flatmap(
    lambda places: st.tuples(
        *[
            fuzzed if place in places else good
            for place, (good, fuzzed) in enumerate(
                zip(GOOD, (FIELDS, STATES, TIMES, SOLVERS, GRADIENTS))
            )
        ]
    )
)


def solve(problem, folder):
    del folder
    func, y0, t, solver, gradient = problem
    try:
        # Where it is one of ours, it is made here, since its arguments are fuzzed too.
        solver = solver() if getattr(solver, "__name__", "") == "<lambda>" else solver
        ys = tfnode.odeint(func, y0, t, solver=solver, gradient=gradient)
    except (ValueError, TypeError, NotImplementedError, tf.errors.InvalidArgumentError) as error:
        assert str(error).strip()
        return False
    tf.nest.assert_same_structure(y0, ys)
    for start, y in zip(tf.nest.flatten(y0), tf.nest.flatten(ys)):
        assert y.shape == (len(t), *np.shape(start))
        # Python's floats become float32, and what is denormal in it perhaps 0.
        start = np.asarray(start).astype(y.dtype.as_numpy_dtype)
        np.testing.assert_allclose(y[0], start, rtol=0, atol=1.2e-38)
    return True


# --- All of them ----------------------------------------------------------------------

# What makes an input, what takes it, and how many of them `-m slow` runs.
TARGETS = {
    "read_npz": (npz_files() | damaged(npz_files()), read_npz, 1000),
    "flags": (st.lists(ARGUMENTS, min_size=1, max_size=2), parse_flags, 1500),
    "report": (RUNS, write_report, 400),
    "odeint": (PROBLEMS, solve, 1000),
}


def _hang(*_):
    raise AssertionError("a minute of computing for one input")


def _fuzz(target, examples, folder):
    """Runs a target; returns how many inputs it took and how many of them were good."""
    inputs, take, _ = TARGETS[target]
    counts = {True: 0, False: 0}

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=examples < 100,  # The usual tests shall not fail by chance.
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(inputs)
    def run(value):
        folder.mkdir(exist_ok=True)
        # Computing time, so that a machine that stands still fails nothing.
        signal.setitimer(signal.ITIMER_PROF, 60)
        try:
            counts[take(value, folder)] += 1
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    before = signal.signal(signal.SIGPROF, _hang)
    try:
        run()
    finally:
        signal.signal(signal.SIGPROF, before)
    return counts


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.filterwarnings("ignore")
def test_some_inputs(tmp_path, target):
    counts = _fuzz(target, 10 if target == "report" else 50, tmp_path / "fuzz")
    assert counts[True] and counts[False]


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.filterwarnings("ignore")
def test_many_inputs(tmp_path, target):
    examples = TARGETS[target][2]
    counts = _fuzz(target, examples, tmp_path / "fuzz")
    print(f"\n{target}: {counts[True]} inputs taken, {counts[False]} refused, nothing else")
    assert sum(counts.values()) >= examples
