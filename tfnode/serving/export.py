"""Export of the model of a run. TensorFlow is loaded once the arguments are checked."""

import importlib.util
import os
import pathlib
import tempfile

from tfnode.lab.command_line import quiet_import, redirected
from tfnode.runs.contents import EXPORTS
from tfnode.runs.errors import RunError
from tfnode.serving import trained

TOLERANCE = 1e-5  # Relative to the largest prediction where that is above 1.


def export(
    run: str | os.PathLike[str],
    file_format: str,
    out: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    quiet: bool = True,
) -> tuple[pathlib.Path, float | None]:
    """Write the model of a run in another format.

    ONNX and TensorFlow Lite have a model in half precision in float32, as its weights are.

    Args:
        run: Path of a run directory.
        file_format: `"saved_model"`, `"onnx"` or `"tflite"`.
        out: Path to write; `None` for that in `tfnode.runs.contents.EXPORTS`, within the run.
        overwrite: Whether an artefact of the same format in `out` may be replaced.
        quiet: Whether to hide the output of the converters.

    Returns:
        `(path, difference)`: the path written, and the result of `runtimes.difference`.

    Raises:
        RunError: If the run holds no model, `out` is taken, the model has no artefact in that
            format, or predictions differ by more than 1e-5. Nothing is written then.
    """
    source = trained.model_file(run)
    out = pathlib.Path(run, EXPORTS[file_format]) if out is None else pathlib.Path(out)
    _check_out(out, file_format, overwrite)
    if file_format == "onnx" and importlib.util.find_spec("tf2onnx") is None:
        raise RunError("--format=onnx needs tf2onnx. Install it by: pip install 'tfnode[export]'")

    with quiet_import(quiet):
        from tfnode.serving import portable, runtimes

    model = trained.load(source)
    portable.check(model, file_format)
    if file_format != "saved_model":
        model = portable.in_float32(model)
    parent = next(p for p in out.absolute().parents if p.exists())
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=parent) as folder:
        new = pathlib.Path(folder, "new")
        try:
            with open(os.devnull, "w") as nowhere, redirected(nowhere, *((1, 2) if quiet else ())):
                runtimes.WRITERS[file_format](model, new)
                difference = runtimes.difference(model, file_format, new)
        except (RunError, OSError):
            raise
        except Exception as error:  # A converter may raise any kind.
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


def _check_out(out: pathlib.Path, file_format: str, overwrite: bool) -> None:
    """Raise an error if anything but an artefact of the same kind would be replaced."""
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
