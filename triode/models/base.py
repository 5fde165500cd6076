"""What every model is to the codecs, the trainer and the bench."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from triode.entropy.coder import SymbolReader, SymbolWriter


@dataclass(frozen=True, slots=True)
class Output:
    """Result of a model's training pass.

    Attributes:
        x_hat: Reconstruction, same shape as the input, unclamped.
        bits: Differentiable code lengths in bits, (B,) each, by part of the bitstream.
    """

    x_hat: Tensor
    bits: dict[str, Tensor]


class ImageModel(nn.Module, ABC):
    """Networks of a learned image codec: transforms around an entropy model.

    Attributes:
        config: Frozen dataclass that the registry builds the model from.
        stride: Pixels that one latent element spans, each way.
        multiple: Sides of the pixels given to :meth:`analysis` must be multiples of this; :meth:`forward` may ask
            for more.
        analysis_halo: Pixels beyond a tile, each way, that its latent depends on; a multiple of ``stride``.
        synthesis_halo: Latent elements beyond a tile, each way, that its pixels depend on.
    """

    config: Any
    stride: int
    multiple: int
    analysis_halo: int
    synthesis_halo: int

    @abstractmethod
    def forward(self, x: Tensor, q: Tensor) -> Output:
        """Code and decode a batch, differentiably.

        Args:
            x: (B, 3, H, W) float in [0, 1], sRGB.
            q: (B,) rate points in [0, 63].
        """

    @abstractmethod
    def rate_lambda(self, q: Tensor) -> Tensor:
        """Return the weight of the distortion (lambda * 255**2 * MSE + bpp) at rate points (B,), as (B,) float."""

    @abstractmethod
    def analysis(self, x: Tensor, q: Tensor) -> Tensor:
        """Map pixels (B, 3, H, W) in [0, 1] to the latent (B, M, h, w) that :meth:`encode` takes."""

    @abstractmethod
    def encode(self, y: Tensor, q: Tensor, writer: SymbolWriter) -> Tensor:
        """Write one latent (1, M, h, w) at the integer rate point (1,); return it as :meth:`decode` will."""

    @abstractmethod
    def decode(self, shape: tuple[int, int], q: Tensor, reader: SymbolReader) -> Tensor:
        """Read a quantised latent (1, M, h, w), float32, given its (h, w)."""

    def scale(self, y: Tensor, q: Tensor) -> Tensor:
        """Bring the latent (B, M, h, w) of :meth:`analysis` to the scale that it is quantised at.

        :meth:`dequantise` leads back, channel by channel.
        """
        return y

    def dequantise(self, y_hat: Tensor, q: Tensor) -> Tensor:
        """Bring a quantised latent (B, M, h, w) to a scale that does not depend on its rate point.

        Neighbouring tiles may have different rate points; the synthesis sees both.
        """
        return y_hat

    @abstractmethod
    def synthesis(self, y: Tensor, q: Tensor) -> Tensor:
        """Map a dequantised latent (B, M, h, w) to pixels (B, 3, H, W), unclamped."""

    @abstractmethod
    def export(self) -> None:
        """Freeze the integer state that :meth:`encode` and :meth:`decode` use."""

    def init_from_data(self, images: Iterable[NDArray[np.uint8]]) -> None:
        """Set parameters that have a closed form from training images, (H, W, 3) uint8 each; none by default."""


class AudioModel(nn.Module, ABC):
    """Networks of a learned audio codec: transforms around an entropy model, on one channel at a time.

    Time runs in frames of ``hop`` samples. Latents are (B, M, 1, F), so that the layers and entropy models of two
    dimensions serve sound as well.

    Attributes:
        config: Frozen dataclass that the registry builds the model from.
        sample_rate: Samples per second that the model works at.
        hop: Samples of a frame.
        multiple: Frames given to :meth:`analysis` and :meth:`decode` must be multiples of this.
        analysis_halo: Frames beyond a chunk, each way, that its latent depends on.
        synthesis_halo: Frames beyond a chunk, each way, that its samples depend on.
    """

    config: Any
    sample_rate: int
    hop: int
    multiple: int
    analysis_halo: int
    synthesis_halo: int

    @abstractmethod
    def forward(self, x: Tensor, q: Tensor) -> Output:
        """Code and decode a batch, differentiably.

        Args:
            x: (B, 1, T) float, nominally in [-1, 1]; T a multiple of ``hop * multiple``.
            q: (B,) rate points in [0, 63].
        """

    @abstractmethod
    def rate_lambda(self, q: Tensor) -> Tensor:
        """Return the weight of the distortion against bits per frame at rate points (B,), as (B,) float."""

    @abstractmethod
    def analysis(self, x: Tensor, q: Tensor) -> Tensor:
        """Map samples (B, 1, F * hop) to the latent (B, M, 1, F) that :meth:`encode` takes."""

    @abstractmethod
    def encode(self, y: Tensor, q: Tensor, writer: SymbolWriter) -> Tensor:
        """Write one latent (1, M, 1, F) at the integer rate point (1,); return it as :meth:`decode` will."""

    @abstractmethod
    def decode(self, frames: int, q: Tensor, reader: SymbolReader) -> Tensor:
        """Read a quantised latent (1, M, 1, F), float32, of this many frames."""

    def dequantise(self, y_hat: Tensor, q: Tensor) -> Tensor:
        """Bring a quantised latent (B, M, 1, F) to a scale that does not depend on its rate point."""
        return y_hat

    @abstractmethod
    def synthesis(self, y: Tensor, q: Tensor) -> Tensor:
        """Map a dequantised latent (B, M, 1, F) to samples (B, 1, F * hop), unclamped."""

    @abstractmethod
    def export(self) -> None:
        """Freeze the integer state that :meth:`encode` and :meth:`decode` use."""

    def init_from_data(self, sounds: Iterable[NDArray[np.float32]]) -> None:
        """Set parameters that have a closed form from training recordings, (T,) float32 each; none by default."""
