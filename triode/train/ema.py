"""Exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema(nn.Module):
    """Averaged copies of parameters, stored as buffers so that checkpoints carry them.

    The decay warms up as ``min(decay, (1 + n) / (10 + n))`` over the updates n, so that the first steps do not linger.

    Args:
        model: The model to average.
        decay: Decay of the average.
    """

    updates: Tensor

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.names = [n for n, _ in model.named_parameters()]
        for i, (_, p) in enumerate(model.named_parameters()):
            self.register_buffer(f"p{i}", p.detach().clone())
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def _average(self) -> list[Tensor]:
        return [getattr(self, f"p{i}") for i in range(len(self.names))]

    def averages(self) -> dict[str, Tensor]:
        """Return the averaged parameters by their names in the model."""
        return dict(zip(self.names, self._average(), strict=True))

    @torch.no_grad()
    def reset(self, model: nn.Module) -> None:
        """Forget the past: set the average to the model's weights."""
        for average, p in zip(self._average(), model.parameters(), strict=True):
            average.copy_(p)
        self.updates.zero_()

    @torch.no_grad()
    def restart(self, model: nn.Module, prefix: str) -> None:
        """Set the average of the parameters whose names begin so to what they are now; all else stays."""
        for name, average, p in zip(self.names, self._average(), model.parameters(), strict=True):
            if name.startswith(prefix):
                average.copy_(p)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's weights by one step."""
        self.updates += 1
        n = int(self.updates)
        decay = min(self.decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(self._average(), [p.detach() for p in model.parameters()], 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Set a model's weights to the average."""
        for average, p in zip(self._average(), model.parameters(), strict=True):
            p.copy_(average)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Put the average into the model for the length of a block."""
        saved = [p.detach().clone() for p in model.parameters()]
        self.copy_to(model)
        try:
            yield
        finally:
            with torch.no_grad():
                for p, s in zip(model.parameters(), saved, strict=True):
                    p.copy_(s)
