"""``triode train``: LightningCLI over the training modules."""

from __future__ import annotations

import platform
import warnings

import lightning as L
import torch
from lightning.pytorch.cli import LightningCLI


class _CommandLine(LightningCLI):
    """LightningCLI in which a resumed run obeys its command line, not the settings of the run that wrote its start."""

    def _parse_ckpt_path(self) -> None:
        """Leave the settings as they are; Lightning would take those in the checkpoint."""

    def before_fit(self) -> None:
        """Say so where the precision that was asked for is slow."""
        if emulates_bfloat16(self.trainer):
            warnings.warn(
                "This processor has no AVX-512, without which bfloat16 is slower than float32: "
                "consider --trainer.precision 32-true",
                stacklevel=2,
            )


def emulates_bfloat16(trainer: L.Trainer) -> bool:
    """Say whether a run is to compute in bfloat16 on an x86 processor that converts back and forth for it."""
    on_cpu = trainer.strategy.root_device.type == "cpu" and platform.machine() in {"x86_64", "AMD64"}
    return on_cpu and "bf16" in str(trainer.precision) and "AVX512" not in torch.backends.cpu.get_cpu_capability()


def train(args: list[str]) -> None:
    """Run LightningCLI (``fit``, ``validate``) on arguments; the YAML files of ``triode/train/configs`` are the start.

    Args:
        args: Command line after ``triode train``.
    """
    # These arguments are a command line, and sys.argv holds them too.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    _CommandLine(args=args, seed_everything_default=0, save_config_kwargs={"overwrite": True})
