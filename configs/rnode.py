"""The Neural ODE classifier with regularised dynamics and an adaptive solver.

Command: python train.py --model=rnode
The same without regularisers, to compare with (a weight of 0 costs nothing):
    python train.py --model=rnode --config.name=unregularized \
        --config.model.regularizers.kineticenergy=0.0 \
        --config.model.regularizers.jacobianfrobenius=0.0
Expected: one step on two cores takes 2.5 to 3 s, with 40 evaluations each way, so an epoch of
MNIST 40 minutes; of scikit-learn's digits, --dataset=digits, one minute.
"""

from tfnode.lab.model_settings.base import Regularizers
from tfnode.lab.model_settings.odenet import OdenetSettings
from tfnode.lab.settings import Settings


def get_config() -> Settings:
    """Return both weights 0.01, as published; group normalisation suits any solver's times."""
    model = OdenetSettings(
        norm="group",
        solver="dopri5",
        gradient="adjoint",
        regularizers=Regularizers(kineticenergy=0.01, jacobianfrobenius=0.01),
    )
    return Settings(name="rnode", model=model)
