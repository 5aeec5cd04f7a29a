"""`Settings`: everything that an experiment depends on."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from tfnode.data import KINDS, NAMES
from tfnode.lab.cluster import cluster
from tfnode.lab.data_settings import DATA, SeriesSettings, SpiralsSettings
from tfnode.lab.model_settings import MODELS, ModelSettings
from tfnode.lab.section import Rule, Section, plain
from tfnode.runs.record import check_resume, flat, read_record

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
if TYPE_CHECKING:  # The type checker knows no names that are found at run time.
    Dataset = str
else:
    Dataset = Literal[NAMES]


class AugmentationSettings(Section):
    """How far training images are moved at random."""

    shift: Annotated[float, Field(ge=0.0, le=28.0)] = Field(0.0, description="In pixels.")
    rotation: Annotated[float, Field(ge=0.0, le=180.0)] = Field(0.0, description="In degrees.")
    zoom: Fraction = Field(0.0, description="Fraction of the size.")


class Settings(Section):
    """Everything that an experiment depends on, with the paper's defaults.

    Each value is checked when it is set. `check` compares the settings with one another.

    Example:
    ```python
    config = Settings(name="ode", learning_rate=1e-4, model=OdenetSettings(solver="rk4"))
    config.epochs = 3
    config.check()
    ```
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")] = Field(
        "unnamed", description="Name of the run."
    )
    dataset: Dataset = Field(
        "auto",
        description="auto is the first that suits the model: MNIST where it can be had, "
        "otherwise scikit-learn's digits; spirals; or japanese_vowels.",
    )
    epochs: Count = Field(10, description="Passes over the training data.")
    batch_size: Count = Field(64, description="Samples in a batch.")
    learning_rate: Annotated[float, Field(ge=1e-30, le=1e30)] = Field(
        1e-3, description="Adam's learning rate."
    )
    schedule: Literal["constant", "one_cycle"] = Field(
        "constant", description="Schedule of the learning rate."
    )
    weight_decay: Annotated[float, Field(ge=0.0, le=1e30)] = Field(
        0.0, description="AdamW's weight decay."
    )
    ema: Annotated[float, Field(ge=0.0, le=0.999999)] = Field(
        0.0, description="Momentum of an average of the weights, which is tested and saved."
    )
    augmentation: AugmentationSettings = Field(default_factory=AugmentationSettings)
    validation: Annotated[float, Field(ge=0.0, le=0.9)] = Field(
        0.0, description="Fraction of the training set that is held out, in place of the test set."
    )
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(
        0, description="Seed of weights and shuffling."
    )
    strategy: Literal["none", "mirrored", "multi_worker"] = Field(
        "none",
        description="Devices: one, all of this machine, or those of all processes in TF_CONFIG.",
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "float32", description="Precision of the layers."
    )
    deterministic: bool = Field(False, description="Bit-identical repeats, slower.")
    # XLA makes convolutions slower on CPUs, and small matrices several times faster.
    jit_compile: bool = Field(False, description="Whether XLA compiles the training.")
    coarse_adjoint: bool = Field(
        False, description="Whether fixed steps are meant to be coarse for the adjoint: no warning."
    )
    model: ModelSettings = Field(ModelSettings(name=""), description="Settings of the model.")
    data: SpiralsSettings | SeriesSettings | None = Field(
        None, description="Settings of the data set."
    )

    @field_validator("augmentation", "model", "data", mode="before")
    @classmethod
    def _sections(cls, value: Any, info: Any) -> Any:
        """Take a dict, or a `ml_collections.ConfigDict`, in place of a section."""
        if value is None or isinstance(value, Section):
            return value
        value = plain(value)
        if info.field_name == "augmentation":
            return AugmentationSettings(**value)
        if info.field_name == "model":
            return _model_of({"model": value})(**value)
        # The model comes before the data, and says which they are.
        model = info.data.get("model")
        if model is None or model.kind not in DATA:
            raise ValueError(f"Expected data of a model of time series. Received: data={value}")
        return DATA[model.kind](**value)

    @classmethod
    def read(cls, values: Any) -> "Settings":
        """Return the settings in a nested dict, checked.

        Settings that are missing have their defaults, so that old records can be read.

        Raises:
            ValueError: Naming the setting, the values that it may have, and the one received.
        """
        values = plain(values)
        if not isinstance(values, dict):
            raise ValueError(f"Expected settings, a dict. Received: {values!r:.200}")
        rules = rules_for(_model_of(values).model_fields["name"].default)
        given = flat(values)
        for name in given:
            if name not in rules and not (given[name] is None and _is_section(name)):
                raise ValueError(
                    f"The model {values['model']['name']} takes the settings {', '.join(rules)}. "
                    f"Received: {name}={given[name]!r:.200}"
                )
        if "name" not in given:
            raise ValueError(f"Expected the setting name. Received: {' '.join(given)}")
        for name, value in given.items():
            if name in rules:
                rules[name].check(value)
        settings = cls(**values)
        settings.check()
        return settings

    @property
    def kind(self) -> str:
        """The kind of data that the model takes, one of those in `tfnode.data.KINDS`."""
        return self.model.kind

    @property
    def chosen_data(self) -> str:
        """The data set, where "auto" is the first one that the model can take."""
        if self.dataset != "auto":
            return self.dataset
        return next(name for name, kind in KINDS.items() if kind == self.kind)

    @property
    def data_options(self) -> dict[str, Any]:
        """The options of the data set, for `tfnode.data.load`."""
        if self.kind not in DATA:
            return {}
        return (self.data or DATA[self.kind]()).to_dict()

    def check(self) -> None:
        """Raise an error for settings that contradict each other.

        Raises:
            ValueError: Naming the settings; or for `strategy="multi_worker"`, if `TF_CONFIG` is
                not right.
        """
        if not self.model.name:
            raise ValueError("Expected the setting model.name. Received: no model")
        if KINDS[self.chosen_data] != self.kind:
            raise ValueError(
                f"{_takers()}. Received: model.name={self.model.name}, dataset={self.dataset}"
            )
        if self.data is not None and type(self.data) is not DATA.get(self.kind):
            raise ValueError(
                f"The model {self.model.name} has no such settings of data. "
                f"Received: data={self.data.to_dict()}"
            )
        unfit: dict[str, float] = {}
        if self.kind != "images":
            unfit |= {f"augmentation.{k}": v for k, v in self.augmentation.to_dict().items()}
        if self.kind == "spirals":
            unfit["validation"] = self.validation
        for name, value in unfit.items():
            if value:
                raise ValueError(
                    f"{name} must be 0 for {self.chosen_data}, where it has no meaning. "
                    f"Received: {name}={value}"
                )
        self.model.check()
        if self.ema and self.strategy != "none":
            raise ValueError(
                "Averages of the weights (ema) are kept on one device only. Received: "
                f"ema={self.ema}, strategy={self.strategy}"
            )
        if self.strategy == "multi_worker":
            cluster()


def record_to_resume(path: str | os.PathLike[str], settings: Settings) -> dict[str, Any]:
    """Return the record of a run that is to be resumed with some settings.

    Raises:
        RunError: If it cannot be; see `read_record` and `check_resume`.
    """
    record = read_record(path)
    record["settings"] = Settings.read(record["settings"]).to_dict()
    check_resume(path, record, settings.to_dict())
    return record


def rules_for(model: str) -> dict[str, Rule]:
    """Return the rules for all settings beside a model, by their names with dots."""
    rules = {n: r for n, r in Settings.rules().items() if not n.startswith(("model.", "data."))}
    rules |= MODELS[model].rules("model.")
    kind = MODELS[model].kind
    return rules | (DATA[kind].rules("data.") if kind in DATA else {})


def _model_of(values: Mapping[str, Any]) -> type[ModelSettings]:
    """Return the class of the settings of the model in a nested dict."""
    model = values.get("model")
    if not isinstance(model, Mapping) or "name" not in model:
        raise ValueError(
            f"Expected the setting model.name. Received: model={model!r:.200} among "
            f"{' '.join(map(str, values))}"
        )
    if not isinstance(model["name"], str) or model["name"] not in MODELS:
        raise ValueError(
            f"model.name must be one of {', '.join(MODELS)}. "
            f"Received: model.name={model['name']!r:.200}"
        )
    return MODELS[model["name"]]


def _takers() -> str:
    """Return the models in words, by the kind of data that they take."""
    texts = []
    for kind in DATA:
        models = [name for name, model in MODELS.items() if model.kind == kind]
        data = [name for name, of in KINDS.items() if of == kind]
        if models:
            texts.append(f"the models {', '.join(models)} are for dataset={' or '.join(data)}")
    text = "; ".join([*texts, "the others are for images"])
    return text[0].upper() + text[1:]


def _is_section(name: str) -> bool:
    return name == "data" or name == "model.regularizers"
