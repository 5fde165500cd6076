"""Encoder and decoder that are a chain of layers each, under the names that the weights of DAC and SNAC have."""

from __future__ import annotations

from torch import Tensor, nn

from triode.models.audio.reach import seen

__all__ = ["DecoderChain", "EncoderChain"]


class EncoderChain(nn.Module):
    """Samples (B, 1, F * hop) to features (B, D, F).

    Args:
        layers: The layers in order.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.block = nn.Sequential(*layers)

    def sees(self, first: int, last: int) -> tuple[int, int]:
        """Return the first and last sample that features depend on."""
        return seen(self.block, first, last)

    def forward(self, x: Tensor) -> Tensor:
        """See above."""
        y: Tensor = self.block(x)
        return y


class DecoderChain(nn.Module):
    """Features (B, D, F) to samples (B, 1, F * hop).

    Args:
        layers: The layers in order.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)

    def sees(self, first: int, last: int) -> tuple[int, int]:
        """Return the first and last frame that samples depend on."""
        return seen(self.model, first, last)

    def forward(self, x: Tensor) -> Tensor:
        """See above."""
        y: Tensor = self.model(x)
        return y
