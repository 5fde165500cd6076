"""What the image models of the literature share: one trained rate, a transform pair around an entropy model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.models.base import ImageModel, Output

LAMBDAS = (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800)
"""Weights of the squared error that CompressAI trained its qualities 1 to 8 with."""


@dataclass(frozen=True, slots=True)
class SingleRateConfig:
    """Widths and rate of a model of the literature.

    Attributes:
        N: Channels inside of the transforms.
        M: Channels of the latent y.
        lmbda: Weight of the distortion (lambda * 255**2 * MSE + bits per pixel) that the model is trained with.
    """

    N: int = 128
    M: int = 192
    lmbda: float = 0.013

    _lambdas: ClassVar[tuple[float, ...]] = LAMBDAS
    _wide_from: ClassVar[int] = 6

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: If a width is below 1 or lambda is not positive.
        """
        if self.N < 1 or self.M < 1:
            raise ValueError(f"Widths must be >= 1, but got N={self.N}, M={self.M}")
        if not self.lmbda > 0:
            raise ValueError(f"Lambda must be > 0, but got {self.lmbda}")

    @classmethod
    def from_quality(cls, quality: int) -> Self:
        """Return the configuration of a published quality.

        Args:
            quality: 1 (smallest) to 8 (best), as in CompressAI's zoo.

        Raises:
            ValueError: If there is no such quality.
        """
        if not 1 <= quality <= len(cls._lambdas):
            raise ValueError(f"Argument `quality` must be in 1..{len(cls._lambdas)}, but got {quality}")
        n, m = cls._widths(quality)
        return cls(N=n, M=m, lmbda=cls._lambdas[quality - 1])

    @classmethod
    def _widths(cls, quality: int) -> tuple[int, int]:
        return (128, 192) if quality < cls._wide_from else (192, 320)


class LatentEntropy(Protocol):
    """What a model's entropy part must be; :class:`~triode.entropy.hyperprior.Hyperprior` for example."""

    def __call__(self, y: Tensor, q: Tensor) -> Any:
        """Return a :class:`~triode.entropy.outputs.HyperOutput` for y (B, M, h, w)."""
        ...

    def encode(self, y: Tensor, q: Tensor, writer: SymbolWriter) -> Tensor:
        """Write one latent (1, M, h, w); return it quantised."""
        ...

    def decode(self, shape: tuple[int, int], q: Tensor, reader: SymbolReader) -> Tensor:
        """Read one quantised latent given its (h, w)."""
        ...

    def export(self) -> None:
        """Freeze integer networks and tables."""
        ...


class SingleRateModel(ImageModel):
    """A transform pair around an entropy model, trained for one rate: rate points have no effect.

    Training quantises y straight-through around its mean and measures the rate with uniform noise; evaluation gives the
    numbers of the original models.

    Args:
        config: Widths and lambda.
        g_a: Analysis, pixels (B, 3, H, W) in [0, 1] to latents (B, M, H/16, W/16).
        g_s: Synthesis, the way back.
        entropy: Entropy model of the latents, a module.
    """

    stride = 16
    entropy: LatentEntropy

    def __init__(self, config: SingleRateConfig, g_a: nn.Module, g_s: nn.Module, entropy: LatentEntropy) -> None:
        super().__init__()
        self.config = config
        self.g_a, self.g_s = g_a, g_s
        self.entropy = entropy

    def forward(self, x: Tensor, q: Tensor) -> Output:
        """Code and decode a batch, differentiably.

        Args:
            x: (B, 3, H, W) float in [0, 1], sRGB; H and W multiples of ``multiple``.
            q: (B,) rate points, not looked at.

        Returns:
            Reconstruction, unclamped, and bits.
        """
        y = self.g_a(x)
        with torch.autocast(x.device.type, enabled=False):
            latent = self.entropy(y.float(), q)
        return Output(self.g_s(latent.y_hat), latent.bits)

    def rate_lambda(self, q: Tensor) -> Tensor:
        """Return the configuration's lambda for each rate point (B,), as (B,) float32."""
        return torch.full(q.shape, self.config.lmbda, device=q.device)

    def analysis(self, x: Tensor, q: Tensor) -> Tensor:
        """Map pixels (B, 3, H, W) in [0, 1], H and W multiples of 16, to the latent (B, M, H/16, W/16)."""
        y: Tensor = self.g_a(x)
        return y.float()

    def encode(self, y: Tensor, q: Tensor, writer: SymbolWriter) -> Tensor:
        """Write one latent (1, M, h, w), any h and w; return it as :meth:`decode` will, float32."""
        return self.entropy.encode(y, q, writer)

    def decode(self, shape: tuple[int, int], q: Tensor, reader: SymbolReader) -> Tensor:
        """Read one quantised latent (1, M, h, w), float32, given its (h, w)."""
        return self.entropy.decode(shape, q, reader)

    def synthesis(self, y: Tensor, q: Tensor) -> Tensor:
        """Map a quantised latent (B, M, h, w) to pixels (B, 3, 16h, 16w), unclamped."""
        x: Tensor = self.g_s(y)
        return x

    def export(self) -> None:
        """Freeze the integer state that :meth:`encode` and :meth:`decode` use."""
        self.entropy.export()
