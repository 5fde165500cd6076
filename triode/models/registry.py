"""Registry of models: a name, a builder and its configuration."""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from triode.errors import ModelMismatchError
from triode.models.plugins import load_plugins

_MODULES = (
    "triode.models.audio.audio_light",
    "triode.models.audio.dac",
    "triode.models.audio.encodec",
    "triode.models.audio.esc",
    "triode.models.audio.hifi_codec",
    "triode.models.audio.language_codec",
    "triode.models.audio.snac",
    "triode.models.image.bmshj2018_factorized",
    "triode.models.image.bmshj2018_hyperprior",
    "triode.models.image.elic2022",
    "triode.models.image.image_light",
    "triode.models.image.mbt2018_mean",
    "triode.models.video.intra",
    "triode.models.video.ssf2020",
    "triode.models.video.stem",
    "triode.models.video.video_light",
)
"""Modules that register models; a new architecture adds its line here."""

Builder = Callable[[Any], nn.Module]


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A registered architecture."""

    name: str
    build: Builder
    config: type
    media: str


_MODELS: dict[str, ModelEntry] = {}


def register_model(name: str, config: type, media: str = "image") -> Callable[[Builder], Builder]:
    """Register a builder under a name.

    Args:
        name: Name as the field writes it, ``bmshj2018-hyperprior`` for example.
        config: Frozen dataclass of its widths, every field with a default.
        media: ``image``, ``audio`` or ``video``.

    Returns:
        A decorator.

    Raises:
        ValueError: If the name is taken.
    """

    def wrap(build: Builder) -> Builder:
        if name in _MODELS:
            raise ValueError(f"Model {name!r} is registered twice")
        _MODELS[name] = ModelEntry(name, build, config, media)
        return build

    return wrap


def _load() -> None:
    for module in _MODULES:
        importlib.import_module(module)
    load_plugins()


def list_architectures(pattern: str = "*") -> list[str]:
    """Return the names of registered architectures that match a shell pattern, sorted."""
    _load()
    return sorted(fnmatch.filter(_MODELS, pattern))


def get_architecture(name: str) -> ModelEntry:
    """Look up an architecture.

    Args:
        name: Its registered name.

    Raises:
        ModelMismatchError: If there is none of that name.
    """
    _load()
    if name not in _MODELS:
        raise ModelMismatchError(f"Unknown model {name!r}; known are: {', '.join(sorted(_MODELS))}")
    return _MODELS[name]


def create_model(name: str, **changes: Any) -> nn.Module:
    """Build a model with fresh weights.

    Args:
        name: Registered name.
        changes: Changes to the default configuration, by field.

    Returns:
        The model.

    Raises:
        ModelMismatchError: If the name or a field is unknown.
    """
    entry = get_architecture(name)
    known = {f.name for f in dataclasses.fields(entry.config)}
    if not set(changes) <= known:
        raise ModelMismatchError(f"Model {name!r} has no option {sorted(set(changes) - known)}; it has {sorted(known)}")
    return entry.build(entry.config(**changes))
