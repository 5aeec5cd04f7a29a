"""`python -m tfnode.export RUN_DIR --format=saved_model|onnx|tflite`: a model to serve.

Writes the best model of the run by validation (best.keras), else the final one
(model.keras), as an artefact that needs neither tfnode nor Keras, and takes batches of any
size. Nothing is kept unless the artefact's predictions are the model's.
"""

import argparse
import contextlib
import importlib.util
import os
import pathlib
import sys
import tempfile

from tfnode import trained
from tfnode.run_dir import EXPORTS, RunError

TOLERANCE = 1e-5  # Relative to the largest prediction where that is above 1.


def main(arguments=None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tfnode.export", description=__doc__)
    parser.add_argument("run", metavar="RUN_DIR", help="run directory of a trained model")
    parser.add_argument("--format", required=True, choices=EXPORTS, help="what to write")
    parser.add_argument(
        "--out",
        metavar="PATH",
        help="file or, for saved_model, folder to write; by default in RUN_DIR: "
        + ", ".join(EXPORTS.values()),
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an artefact in PATH")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)
    try:
        path, difference = export(
            options.run,
            options.format,
            options.out,
            overwrite=options.overwrite,
            quiet=not options.debug,
        )
    except (RunError, OSError) as error:
        if options.debug:
            raise
        print(f"export: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    checked = "not checked: no runtime for it is installed, see pip install 'tfnode[export]'"
    if difference is not None:
        checked = f"predictions differ from the model's by at most {difference:.1e}"
    print(f"wrote {path} ({checked})")
    return 0


def export(run, file_format: str, out=None, *, overwrite: bool = False, quiet: bool = True):
    """Writes the model of a run in another format.

    Args:
        run: Path of a run directory.
        file_format: `"saved_model"`, `"onnx"` or `"tflite"`.
        out: Path to write; `None` for that in `run_dir.EXPORTS`, within the run.
        overwrite: Whether an artefact of the same format in `out` may be replaced.
        quiet: Whether to keep what the converters print from the terminal.

    Returns:
        `(path, difference)`: the `pathlib.Path` written, and the largest difference of a
        prediction, relative to the largest of them where that is above 1; `None` where no
        runtime is installed that could tell.

    Raises:
        RunError: If the run holds no model, `out` is taken, the model has no artefact in
            that format, or predictions differ by more than 1e-5. Nothing is written then.
    """
    source = trained.model_file(run)
    out = pathlib.Path(run, EXPORTS[file_format]) if out is None else pathlib.Path(out)
    _check_out(out, file_format, overwrite)
    if file_format == "onnx" and importlib.util.find_spec("tf2onnx") is None:
        raise RunError("--format=onnx needs tf2onnx. Install it by: pip install 'tfnode[export]'")

    from tfnode import portable

    model = trained.load(source)
    portable.check(model, file_format)
    parent = next(p for p in out.absolute().parents if p.exists())
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=parent) as folder:
        new = pathlib.Path(folder, "new")
        try:
            with _silence() if quiet else contextlib.nullcontext():
                WRITERS[file_format](model, new)
                difference = _difference(model, RUNTIMES[file_format](new))
        except (RunError, OSError):
            raise
        except Exception as error:  # A converter's, of any kind.
            remedy = "" if file_format == "saved_model" else f" {portable.REMEDY}."
            raise RunError(
                f"The model {source} cannot be converted to {file_format}: "
                f"{trained.brief(error)}.{remedy} --debug shows the traceback."
            ) from error
        if difference is not None and not difference <= TOLERANCE:
            raise RunError(
                f"The predictions of the {file_format} artefact differ from those of {source} by "
                f"{difference:.1e}, more than {TOLERANCE:.0e}; it was not kept. {portable.REMEDY}, "
                "or train with a solver of fixed steps."
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir():
            # Folders cannot be exchanged in one step; the old one goes with the temporary.
            os.replace(out, pathlib.Path(folder, "old"))
        os.replace(new, out)
    return out, difference


def _check_out(out, file_format, overwrite):
    """Refuses to write over anything but an artefact of the same kind."""
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise RunError(f"{out} exists already. Choose another --out, or replace it: --overwrite.")
    same = out.is_file()
    if file_format == "saved_model":
        same = out.is_dir() and not out.is_symlink() and (out / "saved_model.pb").is_file()
    if not same:
        kind = "a SavedModel's folder" if file_format == "saved_model" else "a file"
        raise RunError(f"--overwrite replaces {kind}, and {out} is something else.")


@contextlib.contextmanager
def _silence():
    """Keeps what is printed, from C++ too, from the terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in enumerate(saved, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(nowhere)


def _signature(model):
    """The input with a name that does not depend on what else was built before."""
    import keras

    (x,) = model.inputs
    return [keras.InputSpec(shape=(None, *x.shape[1:]), dtype=x.dtype, name="inputs")]


def _write_saved_model(model, path):
    model.export(path, verbose=False, input_signature=_signature(model))


def _write_onnx(model, path):
    from tfnode.portable import portable

    model = portable(model)
    model.export(path, format="onnx", verbose=False, input_signature=_signature(model))


def _write_tflite(model, path):
    import tensorflow as tf

    from tfnode.portable import portable

    # Only TensorFlow Lite's own operations, so that every runtime can run them.
    with tempfile.TemporaryDirectory() as folder:
        _write_saved_model(portable(model), folder)
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


WRITERS = {"saved_model": _write_saved_model, "onnx": _write_onnx, "tflite": _write_tflite}


def _saved_model_runtime(path):
    import tensorflow as tf

    function = tf.saved_model.load(str(path)).signatures["serving_default"]

    def predict(x):
        (y,) = function(inputs=tf.constant(x)).values()
        return y.numpy()

    return predict


def _onnx_runtime(path):
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    return lambda x: session.run(None, {session.get_inputs()[0].name: x})[0]


def _tflite_runtime(path):
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        # On its way out of TensorFlow, in favour of the other.
        Interpreter = getattr(tf.lite, "Interpreter", None)
    if Interpreter is None:
        return None
    interpreter = Interpreter(str(path))
    (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(x):
        interpreter.resize_tensor_input(given["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(found["index"])

    return predict


RUNTIMES = {"saved_model": _saved_model_runtime, "onnx": _onnx_runtime, "tflite": _tflite_runtime}


def _difference(model, predict):
    """The largest difference of a prediction, for two sizes of the batch; NaN is infinite."""
    import numpy as np
    import tensorflow as tf

    if predict is None:
        return None
    original = tf.function(lambda x: model(x, training=False))
    (inputs,) = model.inputs
    generator = np.random.default_rng(0)
    worst = 0.0
    for size in (1, 3):
        shape = [size, *(n or 1 for n in inputs.shape[1:])]
        x = generator.normal(size=shape).astype(inputs.dtype)
        expected, found = original(x).numpy(), predict(x)
        if expected.shape != found.shape:
            return np.inf
        scale = max(1.0, np.abs(expected).max(initial=0.0))
        error = np.abs(found - expected).max(initial=0.0) / scale
        worst = max(worst, float(error) if np.isfinite(error) else np.inf)
    return worst


if __name__ == "__main__":
    sys.exit(main())
