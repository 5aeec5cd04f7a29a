"""What settings may be, checked without TensorFlow."""

import json
import os
import re
from typing import NamedTuple

FIXED_STEP = ("euler", "midpoint", "heun", "rk4", "rk38")
ADAPTIVE = ("heun21", "bosh3", "dopri5", "tsit5", "dopri8")

CHOICES = {
    "dataset": ("auto", "mnist", "digits", "spirals"),
    "precision": ("float32", "mixed_bfloat16", "mixed_float16"),
    "strategy": ("none", "mirrored", "multi_worker"),
    "deterministic": (False, True),
    "jit_compile": (False, True),
    "schedule": ("constant", "one_cycle"),
    "model.name": ("odenet", "ode_tuned", "resnet18", "anode", "latent_ode", "rnn_forecaster"),
    "model.block": (True, False),
    "model.norm": ("batch", "group", "layer", None),
    # Without "bdf", whose dense Jacobian of a batch of images fits into no memory.
    "model.solver": (*FIXED_STEP, *ADAPTIVE),
    "model.gradient": ("adjoint", "checkpoint", "backprop"),
    "model.stem": ("imagenet", "small"),
    "model.cell": ("simple", "gru"),
}

# Name: lowest and highest value.
RANGES = {
    "epochs": (1, 2**31 - 1),
    "batch_size": (1, 2**31 - 1),
    "seed": (0, 2**31 - 1),
    "learning_rate": (1e-30, 1e30),
    "weight_decay": (0.0, 1e30),
    "ema": (0.0, 0.999999),
    "augmentation.shift": (0.0, 28.0),
    "augmentation.rotation": (0.0, 180.0),
    "augmentation.zoom": (0.0, 1.0),
    "validation": (0.0, 0.9),
    "model.filters": (1, 2**16),
    "model.augment": (0, 2**16),
    "model.num_steps": (1, 2**16),
    "model.tol": (1e-12, 1.0),
    "model.latent_units": (1, 2**16),
    "model.hidden_units": (1, 2**16),
    "model.rnn_units": (1, 2**16),
    "model.decoder_units": (0, 2**16),
    "model.duration": (1e-3, 1e3),
    "model.units": (1, 2**16),
    "model.scale": (1e-6, 1e6),
    "data.points": (2, 100),
    "data.noise": (1e-6, 1e6),
    "model.regularizers.kineticenergy": (0.0, 1e30),
    "model.regularizers.jacobianfrobenius": (0.0, 1e30),
}

# The settings of each model beside its name, all of which have a default.
REGULARIZERS = ("regularizers.kineticenergy", "regularizers.jacobianfrobenius")
MODELS = {
    "odenet": (
        *("block", "filters", "norm", "solver", "num_steps", "tol", "gradient", "augment"),
        *REGULARIZERS,
    ),
    "ode_tuned": ("block", "filters", "norm", "solver", "gradient"),
    "resnet18": ("stem",),
    "anode": ("filters", "augment", "tol", "gradient", *REGULARIZERS),
    "latent_ode": (
        *("latent_units", "hidden_units", "rnn_units", "cell", "decoder_units", "duration"),
        *("scale", "tol", "gradient"),
    ),
    "rnn_forecaster": ("units", "cell", "scale"),
}

# The models of time series; the others take images.
SERIES = ("latent_ode", "rnn_forecaster")
SERIES_DATA = ("data.points", "data.noise")

# Of a model: the solver's own value where they are None.
OPTIONAL = {"odenet": ("model.num_steps", "model.tol")}

# What runs of before there were these settings were trained with, and configs without them are.
DEFAULTS = {
    "schedule": "constant",
    "weight_decay": 0.0,
    "ema": 0.0,
    "augmentation": {"shift": 0.0, "rotation": 0.0, "zoom": 0.0},
    "validation": 0.0,
}

GENERAL = (
    "name",
    *(name for name in (*CHOICES, *RANGES) if not name.startswith(("model.", "data."))),
)
REQUIRED = tuple(name for name in GENERAL if name.split(".")[0] not in DEFAULTS)


def names(config):
    """The names of all settings, with dots."""
    return list(_flat(config))


def complete(settings):
    """Settings, a nested dict, with the defaults of those that it may lack."""
    filled = {
        name: {**value, **settings.get(name, {})} if isinstance(value, dict) else value
        for name, value in DEFAULTS.items()
    }
    return {**filled, **{k: v for k, v in settings.items() if not isinstance(filled.get(k), dict)}}


def names_for(model):
    """The names, with dots, of all settings of a model, one of `MODELS`."""
    valid = (*GENERAL, "model.name", *(f"model.{name}" for name in MODELS[model]))
    return valid + (SERIES_DATA if model in SERIES else ())


def check(config):
    """Refuses unknown settings, unknown choices and numbers out of range.

    Raises:
        ValueError: Naming the setting, what it may be, and what was received; or for
            `strategy=multi_worker`, if `TF_CONFIG` is not right.
    """
    settings = _flat(config)
    missing = [name for name in (*REQUIRED, "model.name") if name not in settings]
    if missing:
        raise ValueError(f"Expected the setting {missing[0]}. Received: {' '.join(settings)}")
    name = settings["name"]
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]{0,99}", name, re.ASCII):
        raise ValueError(
            "name must be made of letters, digits, '_', '-' and '.', since it names a folder. "
            f"Received: name={name!r}"
        )
    for name, valid in CHOICES.items():
        check_value(name, settings.get(name, valid[0]))
    model = settings["model.name"]
    valid = names_for(model)
    unknown = [name for name in settings if name not in valid]
    if unknown:
        raise ValueError(
            f"The model {model} takes the settings {', '.join(valid)}. Received: "
            f"{unknown[0]}={settings[unknown[0]]!r}"
        )
    optional = OPTIONAL.get(model, ())
    for name, (low, _) in RANGES.items():
        value = settings.get(name, low)
        if not (value is None and name in optional):
            check_value(name, value)
    if (data_set(config) == "spirals") != (model in SERIES):
        raise ValueError(
            f"The models {', '.join(SERIES)} are for dataset=spirals, the others for images. "
            f"Received: model.name={model}, dataset={settings['dataset']}"
        )
    for name in ("augmentation.shift", "augmentation.rotation", "augmentation.zoom", "validation"):
        if model in SERIES and settings.get(name):
            raise ValueError(
                f"{name} must be 0 for time series, where it has no meaning. Received: "
                f"{name}={settings[name]}"
            )
    if model == "odenet":
        _check_block(settings)
    if settings.get("ema") and settings["strategy"] != "none":
        raise ValueError(
            "Averages of the weights (ema) are kept on one device only. Received: "
            f"ema={settings['ema']}, strategy={settings['strategy']}"
        )
    if settings["strategy"] == "multi_worker":
        cluster()


def check_value(name, value):
    """Refuses what one setting out of `CHOICES` or `RANGES` cannot be, whatever the others are.

    Raises:
        ValueError: Naming the setting, what it may be, and what was received.
    """
    if name in CHOICES:
        valid = CHOICES[name]
        # By type too, since 1 equals True.
        if not any(type(value) is type(v) and value == v for v in valid):
            raise ValueError(
                f"{name} must be one of {', '.join(map(str, valid))}. Received: {name}={value!r}"
            )
        return
    low, high = RANGES[name]
    kind = int if isinstance(low, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        raise ValueError(
            f"{name} must be {'an integer' if kind is int else 'a number'} from {low} to "
            f"{high}. Received: {name}={value!r}"
        )


def data_set(config):
    """The data set of a config, where "auto" is one that its model can take."""
    is_series = config["model"]["name"] in SERIES
    return "spirals" if is_series and config["dataset"] == "auto" else config["dataset"]


def _check_block(settings):
    """Refuses settings of the ODE block that would have no part."""
    block, augment = settings.get("model.block", True), settings.get("model.augment", 0)
    if augment and not block:
        raise ValueError(
            "model.augment must be 0 without the ODE block, since it gives that channels to move "
            f"through. Received: model.augment={augment}, model.block={block}"
        )
    for name in ("num_steps", "tol", *REGULARIZERS):
        value = settings.get(f"model.{name}")
        if value and not block:
            raise ValueError(
                f"model.{name} has no part without the ODE block. "
                f"Received: model.{name}={value}, model.block={block}"
            )
    solver = settings.get("model.solver", "rk38")
    for name, solvers in (("model.num_steps", FIXED_STEP), ("model.tol", ADAPTIVE)):
        if settings.get(name) is not None and solver not in solvers:
            raise ValueError(
                f"{name} is for the solvers {', '.join(solvers)}. Received: "
                f"{name}={settings[name]}, model.solver={solver}"
            )


def _flat(config, prefix=""):
    """All settings by their names with dots."""
    result = {}
    for name, value in config.items():
        nested = hasattr(value, "items")
        result.update(_flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value})
    return result


class Cluster(NamedTuple):
    """The processes of a run on several machines, as `TF_CONFIG` names them.

    Attributes:
        jobs: Job to addresses: `"worker"`, and `"chief"` where there is one.
        job, index: This process.
    """

    jobs: dict
    job: str
    index: int

    @property
    def size(self):
        """Number of processes."""
        return sum(len(addresses) for addresses in self.jobs.values())

    @property
    def is_chief(self):
        """Whether this process writes the run directory: the chief, else the first worker."""
        return self.index == 0 and self.job == min(self.jobs)

    @property
    def name(self):
        """This process, for people."""
        return f"{self.job} {self.index}"


CLUSTER_EXAMPLE = (
    '{"cluster": {"worker": ["localhost:12345", "localhost:12346"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


def cluster():
    """The processes in the environment variable `TF_CONFIG`, a `Cluster`.

    Raises:
        ValueError: If the variable is missing or is not what TensorFlow needs; with an example.
    """
    text = os.environ.get("TF_CONFIG")
    try:
        if not text:
            raise ValueError("it is not set")
        config = json.loads(text)
        jobs, task = config["cluster"], config["task"]
        found = Cluster(dict(jobs), task["type"], task["index"])
        _check_cluster(found)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            "strategy=multi_worker needs the environment variable TF_CONFIG, in JSON: the "
            "addresses of all processes, the same in each, and which of them this one is. "
            f"For the first of two on this machine: TF_CONFIG='{CLUSTER_EXAMPLE}'. "
            f"Received: {reason}: TF_CONFIG={text if text is None else text[:200]!r}"
        ) from error
    return found


def _check_cluster(found):
    if not found.jobs.get("worker") or not set(found.jobs) <= {"chief", "worker"}:
        raise ValueError(f"jobs must be worker and perhaps chief, not {sorted(found.jobs)}")
    if len(found.jobs.get("chief", ["one"])) != 1:
        raise ValueError("there can be one chief only")
    everything = [address for addresses in found.jobs.values() for address in addresses]
    if not all(isinstance(addresses, list) for addresses in found.jobs.values()):
        raise ValueError("addresses must be in lists")
    for address in everything:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise ValueError(f"an address must be host:port, not {address!r}")
    if len(set(everything)) != len(everything):
        raise ValueError("an address occurs twice")
    addresses = found.jobs.get(found.job)
    if addresses is None or type(found.index) is not int or not 0 <= found.index < len(addresses):
        raise ValueError(f"there is no {found.job} {found.index}")
