"""What every model is to the codecs, the trainer and the bench."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from triode.container import FrameKind
from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.models.restoration import Restoration


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
        restoration: Filter of decoded pixels whose coefficients follow each tile's latent; None where there is none.
    """

    config: Any
    stride: int
    multiple: int
    analysis_halo: int
    synthesis_halo: int
    restoration: Restoration | None

    def __init__(self) -> None:
        super().__init__()
        self.restoration = None

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
        bounded: Whether every symbol lies in its table, as codes do: a stream with an escape is corrupt.
    """

    bounded: bool = False
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


@dataclass(frozen=True, slots=True, eq=False)
class Yuv:
    """Frames in YUV 4:2:0, as models of video take and give them.

    Attributes:
        y: (B, 1, H, W) float luma, black 0 and white 1 whatever the range of the samples was; H and W even.
        uv: (B, 2, H / 2, W / 2) float Cb and Cr, nominally in [-0.5, 0.5].
    """

    y: Tensor
    uv: Tensor


@dataclass(frozen=True, slots=True)
class GopFormat:
    """What frames of a group of pictures have in common.

    Attributes:
        height: Rows of luma, a multiple of the model's ``multiple``.
        width: Luma samples of a row, likewise.
        matrix: ``bt709`` or ``bt601``.
    """

    height: int
    width: int
    matrix: str = "bt709"


@dataclass(frozen=True, slots=True)
class FrameStep:
    """How one frame is coded.

    Attributes:
        kind: What it depends on.
        point: Rate point, 0 to 63.
    """

    kind: FrameKind
    point: int


@dataclass(frozen=True, slots=True, eq=False)
class VideoState:
    """What a frame may know of those before it in its group; never changed in place.

    Attributes:
        format: What the frames have in common.
        index: Number of the frame that comes next, 0 for the first of the group.
        integers: What entropy coding may see: tensors of exact integers, the same on every machine.
        features: What only the samples may depend on; may differ in the last bit from machine to machine.
    """

    format: GopFormat
    index: int = 0
    integers: tuple[Tensor, ...] = ()
    features: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class VideoLatent:
    """The decoded symbols of a frame.

    Attributes:
        values: Quantised latents, for the synthesis.
        integers: What :attr:`VideoState.integers` becomes.
        prepared: What encoding made on the way and synthesis would make again; nothing after decoding.
        astray: Distance, in steps of the quantiser, by which the worst element missed what it stands for; 0 after
            decoding. Elements that the entropy model is sure of are not coded: where it is wrong it may miss by far.
    """

    values: tuple[Tensor, ...]
    integers: tuple[Tensor, ...] = ()
    prepared: tuple[Tensor, ...] = ()
    astray: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class VideoOutput:
    """Result of a video model's training pass.

    Attributes:
        frames: Reconstructions, one for each frame given, unclamped.
        bits: Differentiable code lengths in bits, (B, T) each, by part of the bitstream.
    """

    frames: tuple[Yuv, ...]
    bits: dict[str, Tensor]


class VideoModel(nn.Module, ABC):
    """Networks of a learned video codec, run frame by frame in the order of display within a group of pictures.

    The state between frames is a value that goes in and comes out. Coding a frame has two halves: the entropy path,
    which sees integers alone, so that :meth:`decode` and :meth:`skip` go through a group without making a sample, and
    :meth:`synthesis`. The encoder runs both halves, as the next frame starts from what the decoder will have.

    Attributes:
        config: Frozen dataclass that the registry builds the model from.
        stride: Luma samples that one latent element spans, each way.
        multiple: Sides of luma must be multiples of this, an even number.
        kinds: Kinds of frames that the model codes; intra frames always.
        frame_bytes: Bytes that making a frame takes for each sample of luma, latents aside, on the safe side.
    """

    config: Any
    stride: int
    multiple: int
    kinds: frozenset[FrameKind]
    frame_bytes: int = 150

    @abstractmethod
    def forward(self, frames: Sequence[Yuv], q: Tensor) -> VideoOutput:
        """Code and decode a batch of groups, differentiably.

        Args:
            frames: The frames in order, the first of them an intra frame.
            q: (B,) rate points in [0, 63].
        """

    @abstractmethod
    def rate_lambda(self, q: Tensor) -> Tensor:
        """Return the weight of the distortion (lambda * 255**2 * MSE + bpp) at rate points (B,), as (B,) float."""

    @property
    def independent(self) -> bool:
        """Whether the samples of every frame follow from its own symbols alone: frames in between need not be made."""
        return len(self.kinds) == 1

    def start(self, fmt: GopFormat) -> VideoState:
        """Return the state before the first frame of a group."""
        return VideoState(fmt)

    def step(self, index: int, point: int) -> FrameStep:
        """Return how the encoder codes frame ``index`` of a group that is asked for at a rate point."""
        return FrameStep(FrameKind.INTER if index and FrameKind.INTER in self.kinds else FrameKind.INTRA, point)

    def plan(self, count: int, frame: Callable[[int], Yuv], point: int) -> tuple[FrameStep, ...]:
        """Return how the encoder codes a whole group, which it may look at first.

        Args:
            count: Frames of the group, at least 1.
            frame: Gives frame i, batch size 1; called as often as it is wanted.
            point: Rate point that is asked for, 0 to 63.
        """
        return tuple(self.step(index, point) for index in range(count))

    @abstractmethod
    def encode(self, frame: Yuv, step: FrameStep, state: VideoState, writer: SymbolWriter) -> VideoLatent:
        """Write the symbols of one frame, batch size 1; return them as :meth:`decode` will."""

    @abstractmethod
    def decode(self, step: FrameStep, state: VideoState, reader: SymbolReader) -> VideoLatent:
        """Read the symbols of one frame; of the state only ``format``, ``index`` and ``integers`` may be used."""

    @abstractmethod
    def synthesis(self, latent: VideoLatent, step: FrameStep, state: VideoState) -> tuple[Yuv, VideoState]:
        """Make a frame of its symbols, unclamped, and the state for the next one."""

    def skip(self, latent: VideoLatent, state: VideoState) -> VideoState:
        """Return the state for the symbols of the next frame, where no samples are wanted."""
        return replace(state, index=state.index + 1, integers=latent.integers)

    @abstractmethod
    def export(self) -> None:
        """Freeze the integer state that :meth:`encode` and :meth:`decode` use."""
