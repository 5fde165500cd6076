"""Small checkpoints: averaged weights in float16 with the facts of their training, small enough for a repository.

The file is safetensors and holds the facts as metadata; a JSON file beside it says the same to people. It lacks the
state of the optimiser: a run starts from it afresh (`init` of :class:`~triode.train.image.RateDistortion`), and is
resumed from Lightning's own checkpoint instead.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from triode.entropy.vq.codebook import Codebook
from triode.entropy.vq.prior_layers import CodeOrder
from triode.errors import ModelMismatchError
from triode.io.files import atomic_path

if TYPE_CHECKING:
    from triode.train.image import RateDistortion

_KEY = "triode-checkpoint"
_FORMAT = 1
_INTEGERS = ((CodeOrder, "codes"), (Codebook, "steps"))


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """How a model came to be.

    Attributes:
        model: Name of the registered model.
        config: Its whole configuration.
        steps: Training steps, those of earlier runs included.
        seconds: Wall-clock seconds of them.
        seed: Seed of the run; None where it is not known.
        data: Name of the folder of training data, without what lies above it.
        metrics: Latest validation metrics.
        settings: Arguments of the training module.
    """

    model: str
    config: dict[str, Any]
    steps: int
    seconds: float
    seed: int | None
    data: str
    metrics: dict[str, float]
    settings: dict[str, Any]


def float_state(model: nn.Module) -> dict[str, Tensor]:
    """Return what training sets in a model, by name: parameters, float buffers, and what :data:`_INTEGERS` names.

    All other integers come from these when the model is exported.
    """
    kept = {
        f"{name}.{buffer}"
        for name, part in model.named_modules()
        for kind, buffer in _INTEGERS
        if isinstance(part, kind)
    }
    return {name: t for name, t in model.state_dict().items() if t.is_floating_point() or name in kept}


def save_small_checkpoint(path: Path, state: Mapping[str, Tensor], facts: TrainingFacts) -> None:
    """Write a small checkpoint and its JSON file, each whole or not at all.

    Args:
        path: Target, ``.safetensors``; the JSON file gets the same name with ``.json``.
        state: What :func:`float_state` gives, floats of any type.
        facts: How it came to be.

    Raises:
        ValueError: If a weight is not finite in float16.
    """
    detached = {name: tensor.detach().cpu() for name, tensor in state.items()}
    tensors = {n: (t.half() if t.is_floating_point() else t).contiguous() for n, t in detached.items()}
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"Weights must be finite in float16, but {name} is not")
    meta = {"format": _FORMAT, **dataclasses.asdict(facts)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, overwrite=True) as partial:
        partial.write_bytes(save(tensors, {_KEY: json.dumps(meta, sort_keys=True)}))
    with atomic_path(path.with_suffix(".json"), overwrite=True) as partial:
        partial.write_text(json.dumps(meta, indent=2, sort_keys=True) + "\n")


def load_small_checkpoint(path: Path) -> tuple[dict[str, Tensor], TrainingFacts]:
    """Read a small checkpoint.

    Args:
        path: The ``.safetensors`` file; its JSON file is not needed.

    Returns:
        The state, floats in float32, and the facts.

    Raises:
        ModelMismatchError: If the file cannot be read or is no small checkpoint.
    """
    try:
        with safe_open(str(path), "pt") as f:
            meta = json.loads((f.metadata() or {})[_KEY])
            stored = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
        state = {name: t.float() if t.is_floating_point() else t for name, t in stored.items()}
        if meta.pop("format") != _FORMAT:
            raise ModelMismatchError(f"{path}: a checkpoint of an unknown format; this release reads format {_FORMAT}")
        return state, TrainingFacts(**meta)
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ModelMismatchError(f"{path} is not a small checkpoint of a training run: {error}") from error


def load_float_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Set what training sets in a model.

    Raises:
        ModelMismatchError: If a tensor is missing, unknown or of another shape.
    """
    own = float_state(model)
    wrong = sorted(own.keys() ^ state.keys()) or [n for n in own if own[n].shape != state[n].shape]
    if wrong:
        raise ModelMismatchError(f"The checkpoint is of another model: {len(wrong)} tensors differ, as {wrong[0]}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])


class SmallCheckpoint(L.Callback):
    """Writes a small checkpoint every so many steps and at the end of the run.

    Args:
        path: Target, ``.safetensors``.
        every_n_train_steps: Steps between two writes.
    """

    def __init__(self, path: str, every_n_train_steps: int = 1000) -> None:
        if every_n_train_steps < 1:
            raise ValueError(f"Argument `every_n_train_steps` must be >= 1, but got {every_n_train_steps}")
        self.path, self.every = Path(path), every_n_train_steps
        self.earlier_steps, self.earlier_seconds = 0, 0.0
        self._begin: float | None = None
        self._written = -1

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of training so far, earlier runs included."""
        return self.earlier_seconds + (0.0 if self._begin is None else time.monotonic() - self._begin)

    def state_dict(self) -> dict[str, Any]:
        """Return what Lightning's checkpoint keeps of this."""
        return {"steps": self.earlier_steps, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over from an interrupted run."""
        self.earlier_steps, self.earlier_seconds = int(state_dict["steps"]), float(state_dict["seconds"])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock; a run that starts from a small checkpoint counts on from it."""
        module = cast("RateDistortion", pl_module)
        if module.start is not None and trainer.ckpt_path is None:
            self.earlier_steps, self.earlier_seconds = module.start.steps, module.start.seconds
        self._begin = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Write when it is time."""
        if trainer.global_step % self.every == 0 and trainer.global_step != self._written:
            self._write(trainer, cast("RateDistortion", pl_module))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the last state, with the last metrics."""
        self._write(trainer, cast("RateDistortion", pl_module))

    def _write(self, trainer: L.Trainer, module: RateDistortion) -> None:
        self._written = trainer.global_step
        if not trainer.is_global_zero:
            return
        try:
            save_small_checkpoint(self.path, module.averaged_state(), self.facts(trainer, module))
        except ValueError as error:
            rank_zero_warn(f"No small checkpoint at step {trainer.global_step}: {error}")

    def facts(self, trainer: L.Trainer, module: RateDistortion) -> TrainingFacts:
        """Return how the model came to be so far."""
        data = getattr(trainer, "datamodule", None)
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/") and v.isfinite()}
        return TrainingFacts(
            model=module.architecture,
            config=dataclasses.asdict(module.model.config),
            steps=self.earlier_steps + trainer.global_step,
            seconds=round(self.seconds, 1),
            seed=getattr(data, "seed", None),
            data=Path(getattr(data, "folder", "")).name,
            metrics=metrics,
            settings=module.settings(),
        )
