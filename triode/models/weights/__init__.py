"""Weights: safetensors files with two digests, bundled in the package, in ``$TRIODE_HOME``, or at a path given."""

from triode.models.weights.catalogue import default_weights, find_weights, list_weights
from triode.models.weights.files import (
    Loaded,
    Pretrained,
    PretrainedSound,
    PretrainedVideo,
    load_weights,
    save_weights,
)
from triode.models.weights.info import WeightsInfo, read_info
from triode.models.weights.tensors import Base

__all__ = [
    "Base",
    "Loaded",
    "Pretrained",
    "PretrainedSound",
    "PretrainedVideo",
    "WeightsInfo",
    "default_weights",
    "find_weights",
    "list_weights",
    "load_weights",
    "read_info",
    "save_weights",
]
