"""``triode train``: LightningCLI over the training modules."""

from __future__ import annotations

import warnings

from lightning.pytorch.cli import LightningCLI


def train(args: list[str]) -> None:
    """Run LightningCLI (``fit``, ``validate``) on arguments; the YAML files of ``triode/train/configs`` are the start.

    Args:
        args: Command line after ``triode train``.
    """
    # These arguments are a command line, and sys.argv holds them too.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    LightningCLI(args=args, seed_everything_default=0, save_config_kwargs={"overwrite": True})
