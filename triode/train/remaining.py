"""Where in its data a run begins that was stopped before, and which of it a process takes."""

from __future__ import annotations

from collections.abc import Iterator

import lightning as L
from torch.utils.data import DistributedSampler

__all__ = ["Remaining"]


class Remaining(DistributedSampler[int]):
    """The samples of a run from the step on that its trainer is at, in order, shared by its processes in turn.

    The length is that of the whole run: Lightning counts the batches of a resumed run on from those that it had before,
    and ends where the count is the length of the loader. It is 0 where nothing remains. Lightning leaves a
    :class:`~torch.utils.data.DistributedSampler` as it is; others it shuffles anew where there are several processes.

    Args:
        trainer: The trainer of the run; None for one that begins.
        batch: Samples that one process takes a step.
        steps: Steps of the whole run.

    Attributes:
        total: Samples of the whole run, those of all processes together.
    """

    def __init__(self, trainer: L.Trainer | None, batch: int, steps: int) -> None:
        run = (trainer.global_step, trainer.world_size, trainer.global_rank) if trainer is not None else (0, 1, 0)
        done, processes, rank = run
        self.total = steps * batch * processes
        super().__init__(range(self.total), processes, rank, shuffle=False)  # type: ignore[arg-type]
        self._start = done * batch * processes

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._start + self.rank, self.total, self.num_replicas))

    def __len__(self) -> int:
        return self.total // self.num_replicas if self._start < self.total else 0
