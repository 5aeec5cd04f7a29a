"""Artefacts to serve: that they predict what the model does, and what is refused."""

import json
import pathlib
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from run_results import RECORD

import tfnode
from tfnode import export as command
from tfnode import solvers
from tfnode.runs import contents, files, run_dir
from tfnode.runs.errors import RunError
from tfnode.serving import export, portable, runtimes
from tfnode.serving.trained import MEMBERS

pytestmark = pytest.mark.few(3)

FORMATS = ("saved_model", "onnx", "tflite")
SOLVERS = ("euler", "midpoint", "heun", "rk4", "rk38", "heun21", "bosh3", "dopri5", "tsit5")
SOLVERS += ("dopri8",)
NO_FSAL = ("heun21", "dopri8")
SEQUENCE = {"times": (0.0, 0.4, 1.0), "return_sequences": True}


def _model(solver="rk4", gradient="adjoint", policy="float32", **kwargs):
    """Three numbers in, two out."""
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((3,))
    dynamics = tfnode.layers.DenseDynamics(8)
    block = tfnode.ODEBlock(dynamics, solver=solver, gradient=gradient, **kwargs)
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(block(inputs)))
    keras.config.set_dtype_policy("float32")
    return keras.Model(inputs, outputs)


def _run(folder, model, name=contents.BEST):
    """A run directory as far as the export reads it."""
    folder = pathlib.Path(folder)
    folder.mkdir(exist_ok=True)
    model.save(folder / name)
    return folder


def _contents(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def _assert_same_predictions(model, file_format, path):
    """At sizes of the batch that the export itself does not try."""
    predict = runtimes.RUNTIMES[file_format](path)
    original = tf.function(model, reduce_retracing=True)
    for size in (4, 7):
        x = np.random.default_rng(size).normal(size=(size, *model.input_shape[1:]))
        x = x.astype("float32")
        np.testing.assert_allclose(predict(x), original(x).numpy(), rtol=1e-5, atol=1e-5)


def _exported(tmp_path, model, file_format):
    """The path of the artefact of a model, which predicts what the model does."""
    if file_format == "onnx":
        pytest.importorskip("tf2onnx")
        pytest.importorskip("onnxruntime")
    path, difference = export.export(_run(tmp_path / "run", model), file_format)
    assert path == tmp_path / "run" / contents.EXPORTS[file_format]
    assert difference <= 1e-5
    return path


def _check(tmp_path, file_format, solver, gradient, kwargs):
    model = _model(solver, gradient, **kwargs)
    _assert_same_predictions(model, file_format, _exported(tmp_path, model, file_format))


@pytest.mark.parametrize(
    "file_format, solver, gradient, kwargs",
    [
        ("saved_model", "dopri5", "checkpoint", {}),
        ("onnx", solvers.RK4(num_steps=3), "adjoint", SEQUENCE),
        ("onnx", "bosh3", "checkpoint", {}),
        ("tflite", solvers.Midpoint(step_size=0.3), "checkpoint", SEQUENCE),
        ("tflite", solvers.Heun21(rtol=1e-2), "adjoint", {"times": (1.0, 0.0)}),
    ],
)
@pytest.mark.few(2)
def test_predictions(tmp_path, file_format, solver, gradient, kwargs):
    _check(tmp_path, file_format, solver, gradient, kwargs)


@pytest.mark.parametrize("file_format", ["onnx", "tflite"])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.few(2)
def test_half_precision_is_cast(tmp_path, file_format, policy):
    """The artefact is the model of the same weights in float32."""
    half, single = _model(policy=policy), _model()
    single.set_weights(half.get_weights())
    _assert_same_predictions(single, file_format, _exported(tmp_path, half, file_format))


def test_failed_solve_is_not_finite(tmp_path):
    """TensorFlow Lite has no errors; an artefact of a model that fails is written by hand."""
    model = _model(solvers.Heun21(max_steps=1, first_step=0.01))
    runtimes.WRITERS["tflite"](model, tmp_path / "model")
    predict = runtimes.RUNTIMES["tflite"](tmp_path / "model")
    # NaN; infinite with TensorFlow 2.18.
    assert not np.isfinite(predict(np.ones((2, 3), "float32"))).any()


@pytest.mark.slow
@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize("number, solver", enumerate(SOLVERS))
@pytest.mark.parametrize("file_format", FORMATS)
def test_all_solvers(tmp_path, file_format, number, solver, sequence):
    # Each gradient with each format, though not with each solver.
    gradient = ("adjoint", "checkpoint", "backprop")[(number + sequence) % 3]
    kwargs = SEQUENCE if sequence else {}
    refused = SOLVERS.index(solver) >= SOLVERS.index("heun21") and sequence
    refused |= file_format == "onnx" and solver in NO_FSAL
    if refused and file_format != "saved_model":
        with pytest.raises(RunError, match=solver):
            portable.check(_model(solver, gradient, **kwargs), file_format)
    else:
        _check(tmp_path, file_format, solver, gradient, kwargs)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["batch", "group", "layer", None, "resnet"])
@pytest.mark.parametrize("file_format", FORMATS)
def test_image_models(tmp_path, file_format, norm):
    resnet = norm == "resnet"
    model = tfnode.models.resnet18() if resnet else tfnode.models.odenet(filters=16, norm=norm)
    assert _exported(tmp_path, model, file_format).exists()


REFUSED = {
    # What the message must name.
    "bdf in onnx": ("onnx", {"solver": "bdf"}, ("bdf", "batch", "dopri5")),
    "bdf in saved_model": ("saved_model", {"solver": "bdf"}, ("bdf", "batch", "dopri5")),
    "not FSAL": ("onnx", {"solver": "heun21"}, ("heun21", "saved_model", "rk4", "dopri5")),
    "states on the way": (
        "tflite",
        {"solver": "dopri5", **SEQUENCE},
        ("dopri5", "return_sequences", "saved_model", "rk4"),
    ),
    "double": ("onnx", {"policy": "float64"}, ("float64", "--precision=float32")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path, monkeypatch, capsys, case):
    file_format, arguments, names = REFUSED[case]
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: name)
    run = _run(tmp_path / "run", _model(**arguments))
    assert command.main([str(run), "--format", file_format]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("export: ")
    assert printed.err.count("\n") == 1
    for name in names:
        assert name in printed.err
    assert _contents(run) == [contents.BEST]


def test_adaptive_sequence_of_one_interval_is_not_refused():
    portable.check(_model("dopri5", return_sequences=True), "tflite")


@pytest.mark.parametrize("file_format", ["onnx", "tflite"])
def test_two_inputs_are_for_a_saved_model(tmp_path, file_format):
    if file_format == "onnx":
        pytest.importorskip("tf2onnx")
    inputs = [keras.Input((3,), name="left"), keras.Input((3,), name="right")]
    run = _run(tmp_path / "run", keras.Model(inputs, keras.layers.Add()(inputs)))
    with pytest.raises(RunError, match="one input.*left, right"):
        export.export(run, file_format)


@keras.saving.register_keras_serializable("tests")
class Determinant(keras.layers.Layer):
    """Has no operation in TensorFlow Lite."""

    def call(self, x):
        return tf.linalg.det(x)[:, tf.newaxis]


def test_failure_of_a_converter_is_one_line(tmp_path, capfd):
    inputs = keras.Input((3, 3))
    run = _run(tmp_path / "run", keras.Model(inputs, Determinant()(inputs)))
    assert command.main([str(run), "--format=tflite"]) == 1
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "converted to tflite" in printed.err
    assert "--format=saved_model" in printed.err
    assert _contents(run) == [contents.BEST]
    with pytest.raises(RunError) as error:
        command.main([str(run), "--format=tflite", "--debug"])
    assert error.value.__cause__ is not None


@pytest.mark.parametrize("factor", [1.0 + 1e-4, np.nan])
def test_other_predictions_are_refused(tmp_path, monkeypatch, factor):
    runtime = runtimes.RUNTIMES["saved_model"]

    def wrong(path):
        predict = runtime(path)
        return lambda x: predict(x) * np.float32(factor)

    monkeypatch.setitem(runtimes.RUNTIMES, "saved_model", wrong)
    model = _model("euler")
    model.layers[-1].bias.assign([1.0, 2.0])
    run = _run(tmp_path / "run", model)
    with pytest.raises(RunError, match="differ"):
        export.export(run, "saved_model")
    assert _contents(run) == [contents.BEST]


def test_rest_request(tmp_path):
    """What TensorFlow Serving makes of a request, by hand, for the layout MODELNAME/VERSION."""
    model = tfnode.models.odenet((8, 8, 1), filters=4)
    run = _run(tmp_path / "run", model)
    out = tmp_path / "serving" / "digits" / "1"
    assert command.main([str(run), "--format=saved_model", "--out", str(out)]) == 0
    images = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype("float32")
    request = json.dumps({"instances": images.tolist()})

    # A signature with one input takes a list of values without its name, and with one
    # output answers with one. The sizes but the batch's are checked against the signature.
    function = tf.saved_model.load(str(out)).signatures["serving_default"]
    ((name, spec),) = function.structured_input_signature[1].items()
    assert (name, spec.dtype, spec.shape.as_list()) == ("inputs", tf.float32, [None, 8, 8, 1])
    x = tf.constant(json.loads(request)["instances"], spec.dtype)
    (y,) = function(**{name: x}).values()
    response = json.loads(json.dumps({"predictions": y.numpy().tolist()}))
    np.testing.assert_allclose(response["predictions"], model(images), rtol=1e-5, atol=1e-5)


def test_best_before_final(tmp_path):
    best, final = _model("euler"), _model("euler")
    run = _run(_run(tmp_path / "run", final, contents.MODEL), best)
    path, _ = export.export(run, "saved_model")
    _assert_same_predictions(best, "saved_model", path)
    (run / contents.BEST).unlink()
    path, _ = export.export(run, "saved_model", overwrite=True)
    _assert_same_predictions(final, "saved_model", path)
    assert "saved_model/2" not in _contents(run)
    assert not [name for name in _contents(run) if "/." in name or name.startswith(".")]


def _damaged_runs(folder):
    """Run directories that hold no model, and what the message must name."""
    runs = {name: folder / name for name in ("none", "file", "empty", "cut", "zip", "other")}
    (folder / "file").touch()
    for name in ("empty", "cut", "zip", "other"):
        (folder / name).mkdir()
    _run(folder / "cut", _model("euler"))
    whole = (folder / "cut" / contents.BEST).read_bytes()
    (folder / "cut" / contents.BEST).write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(folder / "zip" / contents.BEST, "w") as archive:
        archive.writestr("config.json", "{}")
    (folder / "other" / contents.BEST).write_bytes(b"no model")
    return runs


@pytest.mark.parametrize("case", ["none", "file", "empty", "cut", "zip", "other"])
def test_no_model(tmp_path, capsys, case):
    run = _damaged_runs(tmp_path)[case]
    before = _contents(tmp_path)
    assert command.main([str(run), "--format=saved_model"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("export: Expected ")
    assert printed.err.count("\n") == 1
    assert str(run) in printed.err
    assert _contents(tmp_path) == before


def _writes(text):
    """A writer that is quick."""

    def write(model, path):
        path.mkdir()
        (path / "saved_model.pb").write_text(text)

    return write


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """A run, and an export that takes no time."""
    monkeypatch.setattr(export.trained, "load", lambda path: None)
    monkeypatch.setattr(portable, "check", lambda model, file_format: None)
    monkeypatch.setitem(runtimes.WRITERS, "saved_model", _writes("first"))
    monkeypatch.setitem(runtimes.RUNTIMES, "saved_model", lambda path: None)
    run = tmp_path / "run"
    run.mkdir()
    with zipfile.ZipFile(run / contents.BEST, "w") as archive:
        for name in MEMBERS:
            archive.writestr(name, b"")
    return run


def test_overwrite(quick, tmp_path, monkeypatch):
    out = tmp_path / "new" / "model" / "1"
    assert command.main([str(quick), "--format=saved_model", "--out", str(out)]) == 0
    monkeypatch.setitem(runtimes.WRITERS, "saved_model", _writes("second"))
    with pytest.raises(RunError, match="--overwrite"):
        export.export(quick, "saved_model", out)
    assert (out / "saved_model.pb").read_text() == "first"
    export.export(quick, "saved_model", out, overwrite=True)
    assert (out / "saved_model.pb").read_text() == "second"
    assert _contents(tmp_path / "new") == ["model", "model/1", "model/1/saved_model.pb"]

    def fails(model, path):
        _writes("third")(model, path)
        raise KeyboardInterrupt

    monkeypatch.setitem(runtimes.WRITERS, "saved_model", fails)
    with pytest.raises(KeyboardInterrupt):
        export.export(quick, "saved_model", out, overwrite=True)
    assert (out / "saved_model.pb").read_text() == "second"
    assert _contents(tmp_path / "new") == ["model", "model/1", "model/1/saved_model.pb"]


@pytest.mark.parametrize("file_format", ["saved_model", "tflite"])
def test_overwrite_replaces_artefacts_only(quick, tmp_path, file_format):
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "thesis.tex").touch()
    with pytest.raises(RunError, match="something else"):
        export.export(quick, file_format, precious, overwrite=True)
    assert _contents(precious) == ["thesis.tex"]


def test_not_checked_is_said(quick, capsys):
    assert command.main([str(quick), "--format=saved_model"]) == 0
    assert "not checked" in capsys.readouterr().out


def test_overwriting_a_run_takes_its_artefacts_away(quick):
    export.export(quick, "saved_model")
    files.write_json(quick / contents.CONFIG, RECORD)
    with run_dir.prepare(quick, "ode", overwrite=True):
        assert [x for x in _contents(quick) if x != contents.LOCK] == []


def test_without_the_converter(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    run = tmp_path / "run"
    run.mkdir()
    with zipfile.ZipFile(run / contents.BEST, "w") as archive:
        for name in MEMBERS:
            archive.writestr(name, b"")
    assert command.main([str(run), "--format=onnx"]) == 1
    assert "pip install 'tfnode[export]'" in capsys.readouterr().err
