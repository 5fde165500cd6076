"""From a training checkpoint to a weights file."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any, Final, cast

import lightning as L

from triode.errors import ModelMismatchError
from triode.models.base import AudioModel, ImageModel, VideoModel
from triode.models.complexity import count_macs, count_sound_macs, count_video_macs
from triode.models.registry import create_model
from triode.models.weights import Base, WeightsInfo, find_weights, read_info, save_weights
from triode.train.checkpoint import (
    SmallCheckpoint,
    TrainingFacts,
    float_state,
    load_float_state,
    load_small_checkpoint,
)
from triode.train.image import RateDistortion

_SIDE = 512
_SECONDS = 4
_Model = ImageModel | AudioModel | VideoModel
_TRAINERS: Final = tuple(
    f"triode.train.{name}"
    for name in ("audio", "latents", "perceptual", "symbols", "synthesis", "video", "vq_adversarial", "vq_audio")
)
"""Modules whose classes checkpoints may name; Lightning refuses classes that have not been imported."""


def export_checkpoint(checkpoint: Path, out: Path, name: str, base: str | None = None) -> WeightsInfo:
    """Write the averaged weights of a training run as a weights file.

    Args:
        checkpoint: What a run wrote: a ``.safetensors`` by :class:`~triode.train.checkpoint.SmallCheckpoint`, or a
            ``.ckpt`` by Lightning. The latter is opened without running code from it, but do so with your own only.
        out: Target, ``.safetensors``.
        name: ``family-size.vN``.
        base: Name of weights that the file builds on: it leaves out what they have. Those of images are the part
            ``image`` of a model of video.

    Returns:
        What the weights file says of itself.

    Raises:
        ModelMismatchError: If the checkpoint cannot be read or is of no model here, or there is no such base.
        ValueError: If the name is not a model name, or a weight is not finite.
    """
    model, facts = _small(checkpoint) if checkpoint.suffix == ".safetensors" else _lightning(checkpoint)
    if isinstance(model, AudioModel):
        macs = count_sound_macs(model, _SECONDS * model.sample_rate)
    elif isinstance(model, VideoModel):
        macs = count_video_macs(model, _SIDE, _SIDE)
    else:
        macs = count_macs(model, _SIDE, _SIDE)
    training = dataclasses.asdict(facts)
    del training["model"], training["config"]  # The file has these already.
    kmac = (round(macs.kmac_encode, 3), round(macs.kmac_decode, 3))
    below = None
    if base is not None:
        below = Base(
            base, "image." if isinstance(model, VideoModel) and read_info(find_weights(base)).media == "image" else ""
        )
    return save_weights(model, out, name=name, architecture=facts.model, kmac=kmac, training=training, base=below)


def _small(path: Path) -> tuple[_Model, TrainingFacts]:
    state, facts = load_small_checkpoint(path)
    try:
        model = cast(_Model, create_model(facts.model, **facts.config))
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise ModelMismatchError(f"{path} is of no possible {facts.model}: {error}") from error
    load_float_state(model, state)
    return model, facts


def _lightning(path: Path) -> tuple[_Model, TrainingFacts]:
    for name in _TRAINERS:
        importlib.import_module(name)
    try:
        # The base class loads the checkpoints of all, as what they add has no weights of its own or is left out.
        module = RateDistortion.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # Whatever PyTorch and Lightning make of bytes that are no checkpoint.
        raise ModelMismatchError(f"{path} is no checkpoint of a training run: {error}") from error
    module.ema.copy_to(module.model)
    # As a small checkpoint holds them, so that both make the same weights.
    state = {n: t.half().float() if t.is_floating_point() else t for n, t in float_state(module.model).items()}
    load_float_state(module.model, state)
    data: dict[str, Any] = module.loaded.get(L.LightningDataModule.CHECKPOINT_HYPER_PARAMS_KEY) or {}
    earlier: dict[str, Any] = module.loaded.get("callbacks", {}).get(SmallCheckpoint.__qualname__) or {}
    facts = TrainingFacts(
        model=module.architecture,
        config=dataclasses.asdict(module.model.config),
        steps=int(module.loaded.get("global_step", 0)) + int(earlier.get("steps", 0)),
        seconds=round(float(earlier.get("seconds", 0.0)), 1),
        seed=data.get("seed"),
        data=Path(str(data.get("folder", ""))).name,
        metrics={},
        settings=module.settings(),
    )
    return module.model, facts
