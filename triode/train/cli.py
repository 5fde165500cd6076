"""``triode train``: LightningCLI over the training modules."""

from __future__ import annotations

import warnings

from lightning.pytorch.cli import LightningCLI


class _CommandLine(LightningCLI):
    """LightningCLI in which a resumed run obeys its command line, not the settings of the run that wrote its start."""

    def _parse_ckpt_path(self) -> None:
        """Leave the settings as they are; Lightning would take those in the checkpoint."""


def train(args: list[str]) -> None:
    """Run LightningCLI (``fit``, ``validate``) on arguments; the YAML files of ``triode/train/configs`` are the start.

    Args:
        args: Command line after ``triode train``.
    """
    # These arguments are a command line, and sys.argv holds them too.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    _CommandLine(args=args, seed_everything_default=0, save_config_kwargs={"overwrite": True})
