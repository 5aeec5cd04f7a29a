"""What a `.keras` file may look like before it is loaded. Imports no TensorFlow."""

import pathlib
import zipfile

from tfnode.run_dir import RunError

MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
FOLDER = "assets/"


def check_model(path):
    """Refuses a `.keras` file with other members than Keras writes, or with paths that lead out.

    Keras loads such a file: it ignores what it does not know. Here none of it is ours, so the
    file is not. What is in the members is up to Keras, whose safe mode is on by default.

    Args:
        path: The file.

    Raises:
        RunError: If the file cannot be read, is no `.keras` file, or is refused.
    """
    try:
        if not pathlib.Path(path).is_file():
            raise OSError("there is no such file")
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise RunError(f"Expected a Keras model at {path}. Received: {error}") from error
    missing = [name for name in MEMBERS if name not in names]
    unknown = [
        name
        for name in names
        if name not in MEMBERS
        and (not name.startswith(FOLDER) or ".." in name.split("/") or "\\" in name)
    ]
    if missing or unknown or len(set(names)) < len(names):
        raise RunError(
            f"Expected {', '.join(MEMBERS)} and files below {FOLDER}, each once, in the Keras "
            f"model {path}. Received: {names[:20]}. Do not load it, unless you made it."
        )
