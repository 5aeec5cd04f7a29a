"""Pictures of what a trained classifier says of the test set."""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from tfnode.files import plots, style
from tfnode.runs import contents
from tfnode.runs.record import flat

if TYPE_CHECKING:
    from tfnode.lab.run import Run

ROWS, COLUMNS = 4, 8


def write(run: "Run") -> None:
    """Write the pictures of a finished run, and the end of its event files.

    There are pictures for classifiers on one device: a confusion matrix, and for images those
    that were taken for another class.
    """
    images = {}
    if run.strategy is None and run.dataset.score == "accuracy":
        data = run.test or run.dataset
        size = run.settings.batch_size
        inputs = data.test_batches(size).map(lambda x, y: (x,))
        logits = run.model.predict(inputs, verbose=0)  # (samples, classes)
        labels = np.asarray(data.y_test, np.int64)
        figures = {}
        if run.settings.kind == "images":
            figures[contents.PREDICTIONS] = predictions(data.x_test, labels, logits)
        figures[contents.CONFUSION] = confusion(labels, logits)
        for name, figure in figures.items():
            plots.save(figure, run.directory / name)
            images[name.removesuffix(".png")] = (run.directory / name).read_bytes()
    if run.settings.strategy != "multi_worker":
        run.tensor_board.write_end(flat(run.settings.to_dict()), images, run.settings.epochs)


def predictions(images: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> Figure:
    """Return a figure of some images, the wrong ones first, with what they were taken for.

    Args:
        images: uint8, `(samples, height, width, 1)`.
        labels: int, `(samples,)`.
        logits: float, `(samples, classes)`.
    """
    taken = logits.argmax(axis=1)
    order = np.argsort(taken == labels, kind="stable")
    wrong = int((taken != labels).sum())
    title = f"{wrong:,} of {len(labels):,} are wrong (red), and come first"
    figure = plots.blank_figure(style.WIDE, 1.2 * ROWS + 0.4, title)
    axes: Any = figure.subplots(ROWS, COLUMNS)
    for axis in axes.flat:
        axis.axis("off")
    for axis, i in zip(axes.flat, order):
        axis.imshow(images[i, ..., 0], cmap="gray_r")
        right = taken[i] == labels[i]
        text = f"{taken[i]}" if right else f"{taken[i]}, is {labels[i]}"
        axis.set_title(text, color="black" if right else style.RED)
    return figure


def confusion(labels: np.ndarray, logits: np.ndarray) -> Figure:
    """Return a figure of the confusion matrix; arguments as in `predictions`."""
    classes = logits.shape[1]
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, logits.argmax(axis=1)), 1)
    figure = plots.blank_figure(style.NARROW, 5.2)
    axis = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)
    axis.set(xlabel="predicted", ylabel="true", xticks=range(classes), yticks=range(classes))
    return figure
