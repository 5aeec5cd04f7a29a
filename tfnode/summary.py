"""What an experiment writes down of itself, and what it prints."""

import hashlib
import math
import sys

from tfnode import history_file, plots, run_dir, settings
from tfnode.provenance import provenance

try:
    import resource
except ImportError:  # Windows
    resource = None


def record(config, dataset, test, device, earlier, epoch, step):
    """What goes into `config.json`; of a resumed run, `earlier` is what was there."""
    now = provenance(device)
    if earlier:
        resumed = [*earlier.get("resumed", []), {"epoch": epoch, "step": step, **now}]
        return {**earlier, "settings": config.to_dict(), "resumed": resumed}
    return {
        "settings": config.to_dict(),
        "dataset": {
            "name": dataset.name,
            "source": dataset.source,
            "training_samples": len(dataset.y_train),
            **({} if test is None else {"validation_samples": len(dataset.y_test)}),
            "test_samples": len((dataset if test is None else test).y_test),
            "sha256": sha256(dataset if test is None else test),
        },
        **now,
    }


def sha256(dataset):
    """What tells data sets apart."""
    digest = hashlib.sha256()
    for array in (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test):
        digest.update(array.tobytes())
    return digest.hexdigest()


def announce(config, dataset, test, device, model, directory, epoch, step):
    """Prints what is about to be trained."""
    if settings.data_set(config) == "auto" and dataset.name != "mnist":
        line = "*" * 78
        print(f"{line}\nNOT MNIST: training on {dataset.name} ({dataset.source})\n{line}")
    print(f"device: {device}")
    held_out = "" if test is None else f", {len(dataset.y_test):,} held-out"
    print(
        f"data: {dataset.name}, {len(dataset.y_train):,} training{held_out}"
        f" and {len((test or dataset).y_test):,} test samples, from {dataset.source}"
    )
    print(f"model: {config.name} ({model.name}), {model.count_params():,} parameters")
    print(f"results: {directory}", flush=True)
    if epoch or step:
        print(f"resumed after epoch {epoch}" + (f", step {step}" if step else ""), flush=True)


def metrics(config, dataset, model, directory, ending):
    """What goes into `metrics.json`, from the history on disk."""
    path = directory / run_dir.HISTORY
    rows = history_file.read_history(path) if path.exists() else []
    # JSON has no NaN, which is what a loss that diverged is.
    rows = [{k: v if v is None or math.isfinite(v) else None for k, v in r.items()} for r in rows]
    last = rows[-1] if rows else dict.fromkeys(history_file.history_columns(dataset.score))
    score, best = f"val_{dataset.score}", history_file.best_row(rows) or last
    return {
        "name": config.name,
        "dataset": dataset.name,
        "parameters": model.count_params(),
        "epochs": len(rows),
        "interrupted": ending == "interrupted",
        "diverged": ending == "diverged",
        "final": last,
        "best": {"epoch": best["epoch"], score: best[score]},
        "median_seconds_per_epoch": history_file.median_seconds(rows),
        "peak_memory_mib": _peak_memory(),
    }


def _peak_memory():
    """The most memory that this process had, in MiB, a GPU's aside; `None` where unknown."""
    if resource is None:
        return None
    # Linux counts in KiB, macOS in bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def summarise(config, dataset, metrics, directory):
    """Prints what came out."""
    score = f"val_{dataset.score}"
    final, best = metrics["final"][score], metrics["best"][score]
    files = ", ".join(name for name in run_dir.CONTENTS if (directory / name).exists())
    if final is None:
        print(f"{config.name}: no epoch was finished; wrote {directory}/: {files}")
        return
    split, tested = "validation" if "test" in metrics else "test", ""
    if metrics.get("test"):
        value = history_file.score_text(dataset.score, metrics["test"][dataset.score])
        tested = f"; test {plots.label(dataset.score)} {value}"
    print(
        f"{config.name}: {split} {plots.label(dataset.score)} "
        f"{history_file.score_text(dataset.score, final)} on {metrics['dataset']} after "
        f"{metrics['epochs']} epochs (best {history_file.score_text(dataset.score, best)} in epoch "
        f"{metrics['best']['epoch']:.0f}){tested}, "
        f"{metrics['median_seconds_per_epoch']:.1f} s an epoch; wrote {directory}/: {files}"
    )
