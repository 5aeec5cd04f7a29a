"""`SolverStats`: the cost of the solves in the logs."""

import keras

from tfnode.layers import ODEBlock


class SolverStats(keras.callbacks.Callback):
    """Adds the evaluations of the vector field (NFE) to the logs of every epoch.

    `nfe_forward` and `nfe_backward` are the mean evaluations of one solve in training, summed
    over the `ODEBlock`s of the model, counted by the solver in the forward and in the
    backward solve. A gradient method without a backward solve has none.

    Give it before callbacks that read the logs, such as `keras.callbacks.TensorBoard`,
    which then writes them as `epoch_nfe_forward` and `epoch_nfe_backward`.

    Example:
    ```python
    model.fit(x, y, callbacks=[tfnode.callbacks.SolverStats(), keras.callbacks.TensorBoard()])
    ```
    """

    def on_epoch_begin(self, epoch, logs=None):
        for block in self._blocks():
            block.reset_costs()

    def on_epoch_end(self, epoch, logs=None):
        blocks = self._blocks()
        if logs is None or not blocks:
            return
        costs = [block.costs() for block in blocks]
        for name in ("forward", "backward"):
            logs[f"nfe_{name}"] = sum(c[name] / max(c[f"{name}_solves"], 1) for c in costs)

    def _blocks(self):
        return [layer for layer in self.model._flatten_layers() if isinstance(layer, ODEBlock)]
