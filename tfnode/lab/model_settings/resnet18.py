"""The settings of `tfnode.models.resnet18`."""

from typing import Literal

from pydantic import Field

from tfnode.lab.model_settings.base import ModelSettings


class Resnet18Settings(ModelSettings):
    """The settings of the baseline for images."""

    name: Literal["resnet18"] = "resnet18"
    stem: Literal["imagenet", "small"] = Field("imagenet", description="First layers.")
