"""Which files of a folder of training data are kept for validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["held_back"]


def held_back(names: Sequence[str], every: int, training_only: str) -> list[int]:
    """Choose files: every so many of those that may be held back, and one where there are fewer.

    Args:
        names: Paths of all files below the folder, in a fixed order; at least one.
        every: How many files there are to one that is held back.
        training_only: Files below the folder of this name are left alone, and not counted, unless there are no others.

    Returns:
        Numbers of the files, rising.

    Raises:
        ValueError: If `every` is not positive.
    """
    if every < 1:
        raise ValueError(f"Argument `holdout` must be >= 1, but got {every}")
    candidates = [i for i, name in enumerate(names) if Path(name).parts[0] != training_only]
    return candidates[every - 1 :: every] or candidates[:1] or [0]
