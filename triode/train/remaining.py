"""Where in its data a run begins that was stopped before."""

from __future__ import annotations

from collections.abc import Iterator

import lightning as L
from torch.utils.data import Sampler

__all__ = ["Remaining"]


class Remaining(Sampler[int]):
    """The samples of a run from the step on that its trainer is at, each once and in order.

    The length is that of the whole run: Lightning counts the batches of a resumed run on from those that it had before,
    and ends where the count is the length of the loader. It is 0 where nothing remains.

    Args:
        trainer: The trainer of the run; None for one that begins.
        batch: Samples that one process takes a step.
        steps: Steps of the whole run.
    """

    def __init__(self, trainer: L.Trainer | None, batch: int, steps: int) -> None:
        done, processes = (trainer.global_step, trainer.world_size) if trainer is not None else (0, 1)
        self._samples = range(steps * batch * processes)
        self._start = done * batch * processes

    def __iter__(self) -> Iterator[int]:
        return iter(self._samples[self._start :])

    def __len__(self) -> int:
        return len(self._samples) if self._start < len(self._samples) else 0
