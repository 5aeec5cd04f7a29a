"""The records that a run writes of itself, and the lines that it prints."""

import hashlib
import math
import os
import sys
from typing import TYPE_CHECKING, Any

from tfnode.files import plots
from tfnode.files.history import (
    best_row,
    history_columns,
    median_seconds,
    read_history,
    score_text,
)
from tfnode.lab.build import Pixels
from tfnode.runs import contents
from tfnode.runs.provenance import provenance
from tfnode.runs.record import INPUTS, PIXELS

if TYPE_CHECKING:
    from tfnode.data import Dataset
    from tfnode.lab.run import Run

try:
    import resource
except ImportError:  # Windows has none.
    resource = None  # type: ignore[assignment]


def record(run: "Run", earlier: dict[str, Any] | None) -> dict[str, Any]:
    """Return the content of `config.json`; `earlier` is that of a run to resume."""
    now, settings = provenance(run.device), run.settings.to_dict()
    if earlier:
        place = {"epoch": len(run.earlier), "step": run.step_backup.step}
        resumed = [*earlier.get("resumed", []), {**place, **now}]
        return {**earlier, "settings": settings, "resumed": resumed}
    whole = run.test or run.dataset
    # A folder in the environment is left out, since it is there when the run is resumed.
    folder = {}
    if run.data_dir is not None and whole.name == "mnist":
        folder["data_dir"] = os.path.abspath(run.data_dir)
    held_out = {} if run.test is None else {"validation_samples": len(run.dataset.y_test)}
    return {
        "settings": settings,
        "dataset": {
            "name": run.dataset.name,
            "source": run.dataset.source,
            **folder,
            "training_samples": len(run.dataset.y_train),
            **held_out,
            "test_samples": len(whole.y_test),
            "sha256": sha256(whole),
        },
        **({INPUTS: PIXELS} if isinstance(run.dataset, Pixels) else {}),
        **now,
    }


def sha256(dataset: "Dataset") -> str:
    """Return a digest that differs between data sets."""
    digest = hashlib.sha256()
    for array in (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test):
        digest.update(array.tobytes())
    return digest.hexdigest()


def announce(run: "Run") -> None:
    """Print what is about to be trained."""
    dataset, epoch, step = run.dataset, len(run.earlier), run.step_backup.step
    origin = f", from {dataset.source}"
    if run.settings.chosen_data == "auto" and dataset.name != "mnist":
        origin = ""  # It is said here, once.
        line = "*" * 78
        print(f"{line}\nNOT MNIST: training on {dataset.name} ({dataset.source})\n{line}")
    print(f"device: {run.device}")
    held_out = "" if run.test is None else f", {len(dataset.y_test):,} held-out"
    print(
        f"data: {dataset.name}, {len(dataset.y_train):,} training{held_out}"
        f" and {len((run.test or dataset).y_test):,} test samples{origin}"
    )
    parameters = f"{run.model.count_params():,} parameters"
    print(f"model: {run.settings.name} ({run.model.name}), {parameters}")
    if run.settings.ema:
        print("tested and saved: averages of the weights (ema), which lag in the first epochs")
    print(f"results: {run.directory}", flush=True)
    if epoch or step:
        print(f"resumed after epoch {epoch}" + (f", step {step}" if step else ""), flush=True)


def metrics(run: "Run", ending: str) -> dict[str, Any]:
    """Return the content of `metrics.json`, from the history on disk."""
    path = run.directory / contents.HISTORY
    rows = read_history(path) if path.exists() else []
    # JSON has no NaN, which a loss that diverged may be.
    rows = [{k: v if v is None or math.isfinite(v) else None for k, v in r.items()} for r in rows]
    last = rows[-1] if rows else dict.fromkeys(history_columns(run.dataset.score))
    score, best = f"val_{run.dataset.score}", best_row(rows) or last
    return {
        "name": run.settings.name,
        "dataset": run.dataset.name,
        "parameters": run.model.count_params(),
        "epochs": len(rows),
        "interrupted": ending == "interrupted",
        "diverged": ending == "diverged",
        "final": last,
        "best": {"epoch": best["epoch"], score: best[score]},
        "constant_score": (run.test or run.dataset).constant_score,
        "median_seconds_per_epoch": median_seconds(rows),
        "peak_memory_mib": _peak_memory(),
    }


def _peak_memory() -> float | None:
    """Return the most memory of this process in MiB, without a GPU's; `None` where unknown."""
    if resource is None:
        return None
    # Linux counts in KiB, macOS in bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def summarise(run: "Run", metrics: dict[str, Any]) -> None:
    """Print the results of a run."""
    name, score = run.settings.name, run.dataset.score
    final, best = (metrics[x][f"val_{score}"] for x in ("final", "best"))
    written = ", ".join(x for x in contents.CONTENTS if (run.directory / x).exists())
    if final is None:
        print(f"{name}: no epoch was finished; wrote {run.directory}/: {written}")
        return
    split, tested = "validation" if "test" in metrics else "test", ""
    if metrics.get("test"):
        tested = f"; test {plots.label(score)} {score_text(score, metrics['test'][score])}"
    print(
        f"{name}: {split} {plots.label(score)} "
        f"{score_text(score, final)} on {metrics['dataset']} after "
        f"{metrics['epochs']} epochs (best {score_text(score, best)} in epoch "
        f"{metrics['best']['epoch']:.0f}){tested}, "
        f"{metrics['median_seconds_per_epoch']:.1f} s an epoch; wrote {run.directory}/: {written}"
    )
