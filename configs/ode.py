"""The paper's Neural ODE classifier.

Command: python train.py --model=ode
The controls that belong beside it, without the ODE block and with a residual block in its place:
    python train.py --model=ode --config.name=no_block --config.model.block=False
    python train.py --model=ode --config.name=residual --config.model.solver=euler \
        --config.model.gradient=backprop
Expected: 98.85 % test accuracy on MNIST after ten epochs, 150 to 300 s an epoch on
two cores, by what else they do. TensorBoard shows the `reconstruction_error` of its coarse
adjoint; `--config.coarse_adjoint=False` warns of it.
"""

from tfnode.lab.model_settings.odenet import OdenetSettings
from tfnode.lab.settings import Settings


def get_config() -> Settings:
    """Return the paper's settings: learning rate 1e-4, one Runge-Kutta step, the adjoint."""
    # The batch normalisation of the paper; `train.py` takes its averages again.
    model = OdenetSettings(
        filters=64, norm="batch", renorm=False, solver="rk38", gradient="adjoint"
    )
    # One step is coarse for the adjoint, and it is the paper's choice.
    return Settings(name="ode", learning_rate=1e-4, coarse_adjoint=True, model=model)
