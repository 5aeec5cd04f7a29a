"""`SolverStats`: the cost of the solves in the logs."""

from typing import Any

import keras

from tfnode.layers.solve_costs import counting_layers


class SolverStats(keras.callbacks.Callback):
    """The cost of the solves, and how far to trust them, in the logs of every epoch.

    The solvers count in training. The logs have the mean over the solves of each `ODEBlock`,
    summed over the blocks of the model. The blocks are also the layers `ODERNN` and `NeuralCDE`,
    whose solve is a pass through the series:

    - `nfe_forward`, `nfe_backward`: evaluations of the vector field (NFE);
    - `steps_forward`, `steps_backward`: accepted steps;
    - `rejected_forward`, `rejected_backward`: rejected steps;

    and `reconstruction_error`, the largest over the blocks: by how much the states that the
    adjoint integrates backward miss those of the forward solve, relative to them in the
    Euclidean norm. The gradient is no better than that; where it is not small, use more
    steps, tighter tolerances, or the gradient 'checkpoint'.

    A gradient method without a backward solve has costs of 0 there. Steps are left out for
    solvers that do not tell them. Where each sample has its own steps, a solve costs the sum over
    the samples of the batch.

    It belongs before callbacks that read the logs, such as `keras.callbacks.TensorBoard`,
    which writes them as `epoch_nfe_forward` and `epoch_nfe_backward`.

    Example:
    ```python
    model.fit(x, y, callbacks=[tfnode.callbacks.SolverStats(), keras.callbacks.TensorBoard()])
    ```
    """

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        for block in counting_layers(self.model):
            block.reset_costs()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        blocks = counting_layers(self.model)
        if logs is None or not blocks:
            return
        costs = [block.costs() for block in blocks]
        for way in ("forward", "backward"):
            for name, key in (("nfe", ""), ("steps", "_steps"), ("rejected", "_rejected")):
                means = [c[f"{way}{key}"] / max(c[f"{way}_solves"], 1) for c in costs]
                if min(means) >= 0:
                    logs[f"{name}_{way}"] = sum(means)
        logs["reconstruction_error"] = max(
            c["reconstruction_error"] / max(c["backward_solves"], 1) for c in costs
        )
