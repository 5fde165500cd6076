"""What every code prior is: bits for training, and the codes of a vector quantiser to and from the coder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.entropy.vq.base import VectorQuantizer
from triode.errors import BitstreamError

_STAGES_MAX = 256
_SIZE_MAX = 1 << 15


class CodePrior(nn.Module, ABC):
    """Entropy model of the codes of a quantiser with stages.

    Codes go out stage by stage: what the first n stages write does not depend on later ones and comes first, so that a
    stream of fewer stages holds the same symbols up to where it ends.

    Args:
        codebook_sizes: Number of entries of each stage's codebook, 2 to 32768.
        strides: Frames that one code of each stage stands for; all 1 when absent.
    """

    codebook_sizes: tuple[int, ...]
    strides: tuple[int, ...]

    def __init__(self, codebook_sizes: Sequence[int], strides: Sequence[int] | None = None) -> None:
        super().__init__()
        if not 1 <= len(codebook_sizes) <= _STAGES_MAX or not all(2 <= size <= _SIZE_MAX for size in codebook_sizes):
            raise ValueError(
                f"Argument `codebook_sizes` must hold 1 to {_STAGES_MAX} sizes of 2 to {_SIZE_MAX}, "
                f"but got {tuple(codebook_sizes)}"
            )
        steps = (1,) * len(codebook_sizes) if strides is None else tuple(strides)
        if len(steps) != len(codebook_sizes) or min(steps) < 1:
            raise ValueError(f"Argument `strides` must be one of at least 1 a stage, but got {steps}")
        self.codebook_sizes, self.strides = tuple(codebook_sizes), steps

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.codebook_sizes)

    def code_frames(self, frames: int) -> tuple[int, ...]:
        """Return the number of codes F_s of each stage for ``frames`` feature frames."""
        return tuple(-(-frames // stride) for stride in self.strides)

    def forward(self, codes: Sequence[Tensor], stages: int | Tensor | None = None) -> Tensor:
        """Measure the code length, differentiable with respect to the prior's parameters.

        Args:
            codes: One (B, F_s) integer tensor a stage; fewer tensors than stages mean a lower rate.
            stages: Number of leading stages to count, or (B,) integers, one a sample, for quantiser dropout; all that
                are given when absent.

        Returns:
            (B,) float32, cross entropy in bits.

        Raises:
            ValueError: If codes are missing, out of range or of lengths that do not fit each other.
        """
        bits = self.stage_bits(codes)
        if stages is None:
            return bits.sum(1)
        wanted = stages if isinstance(stages, Tensor) else torch.tensor([stages])
        if wanted.dim() != 1 or wanted.is_floating_point() or len(wanted) not in (1, len(bits)):
            raise ValueError(
                f"Argument `stages` must be an integer or {len(bits)} of them, "
                f"but got {wanted.dtype} of shape {tuple(wanted.shape)}"
            )
        counted = torch.arange(bits.shape[1], device=bits.device) < wanted.to(bits.device)[:, None]
        return (bits * counted).sum(1)

    def stage_bits(self, codes: Sequence[Tensor]) -> Tensor:
        """Measure the code length of each stage.

        Args:
            codes: As for :meth:`forward`.

        Returns:
            (B, stages given) float32, in bits.

        Raises:
            ValueError: As for :meth:`forward`.
        """
        values, frames = self._checked(codes)
        with torch.autocast(values[0].device.type, enabled=False):
            return torch.stack(self._bits(values, frames), 1)

    @torch.no_grad()
    def encode(self, codes: Sequence[Tensor], writer: SymbolWriter) -> None:
        """Write the codes of one item.

        Args:
            codes: One (1, F_s) integer tensor a stage; fewer tensors than stages mean a lower rate.
            writer: Where the symbols go.

        Raises:
            ValueError: If codes are missing, out of range, of more than one item or of lengths that do not fit.
            UnsupportedError: If the prior was not exported.
        """
        values, frames = self._checked(codes)
        if values[0].shape[0] != 1:
            raise ValueError(f"Argument `codes` must hold one item, but got {values[0].shape[0]}")
        self._encode(values, frames, writer)

    @torch.no_grad()
    def decode(self, frames: int, stages: int, reader: SymbolReader) -> tuple[Tensor, ...]:
        """Read back what :meth:`encode` wrote.

        Args:
            frames: Number of feature frames F, at least 1.
            stages: Number of leading stages that were written, 1..stages.
            reader: Where the symbols come from.

        Returns:
            One (1, F_s) int64 tensor a stage.

        Raises:
            ValueError: If ``frames`` or ``stages`` is out of range.
            BitstreamError: If the data is corrupt.
            UnsupportedError: If the prior was not exported.
        """
        if frames < 1:
            raise ValueError(f"Argument `frames` must be at least 1, but got {frames}")
        if not 1 <= stages <= self.stages:
            raise ValueError(f"Argument `stages` must be in 1..{self.stages}, but got {stages}")
        return self._decode(frames, stages, reader)

    @torch.no_grad()
    def fit(self, batches: Iterable[Sequence[Tensor]], smoothing: float = 0.5) -> None:
        """Set the distribution of each stage to how often its codes occur; to start training from, or instead of it.

        Args:
            batches: Sets of codes as for :meth:`forward`.
            smoothing: What every count starts from, > 0 (Krichevsky & Trofimov, 1981: 0.5).

        Raises:
            ValueError: If the smoothing is not positive, or codes are not as they must be.
        """
        if not smoothing > 0:
            raise ValueError(f"Argument `smoothing` must be > 0, but got {smoothing}")
        counts = [torch.full((size,), smoothing, dtype=torch.float64) for size in self.codebook_sizes]
        for batch in batches:
            values, _ = self._checked(batch)
            for count, code in zip(counts, values, strict=False):
                count += torch.bincount(code.flatten(), minlength=len(count)).cpu()
        self._set_counts(counts)

    @abstractmethod
    def export(self) -> None:
        """Freeze the integer state that :meth:`encode` and :meth:`decode` use."""

    @abstractmethod
    def _bits(self, codes: Sequence[Tensor], frames: int) -> list[Tensor]:
        """Return (B,) bits of each stage that is given."""

    @abstractmethod
    def _encode(self, codes: Sequence[Tensor], frames: int, writer: SymbolWriter) -> None: ...

    @abstractmethod
    def _decode(self, frames: int, stages: int, reader: SymbolReader) -> tuple[Tensor, ...]: ...

    @abstractmethod
    def _set_counts(self, counts: Sequence[Tensor]) -> None:
        """Take counts, (K_s,) float64 > 0 of each stage, as distributions."""

    def _checked(self, codes: Sequence[Tensor]) -> tuple[list[Tensor], int]:
        """Return codes as int64 and the largest number of frames that they can stand for."""
        if not 1 <= len(codes) <= self.stages:
            raise ValueError(f"Argument `codes` must hold 1 to {self.stages} tensors, but got {len(codes)}")
        for stage, code in enumerate(codes):
            fits = code.dim() == 2 and code.numel() > 0 and code.shape[0] == codes[0].shape[0]
            if not fits or code.is_floating_point() or code.is_complex() or code.dtype == torch.bool:
                raise ValueError(
                    f"Argument `codes` must hold integers of shape (B, F_s), but got {code.dtype} of shape "
                    f"{tuple(code.shape)} for stage {stage}"
                )
        values = [code.detach().long() for code in codes]
        # One transfer for all stages, should they be on another device.
        ranges = torch.stack([torch.stack([code.min(), code.max()]) for code in values]).tolist()
        for stage, ((low, high), size) in enumerate(zip(ranges, self.codebook_sizes, strict=False)):
            if low < 0 or high >= size:
                raise ValueError(f"Codes of stage {stage} must be in 0..{size - 1}, but got {low}..{high}")
        lengths = tuple(code.shape[1] for code in values)
        frames = min(length * stride for length, stride in zip(lengths, self.strides, strict=False))
        if lengths != self.code_frames(frames)[: len(lengths)]:
            raise ValueError(f"Codes of lengths {lengths} do not fit strides {self.strides[: len(lengths)]}")
        return values, frames


def check_symbols(symbols: Tensor, limit: int | Tensor, stage: int) -> Tensor:
    """Check what a reader gave: a table has more entries than there are codes.

    Args:
        symbols: Integers of any shape.
        limit: What they must stay below; a number, or integers of the same shape.
        stage: Number of the stage, for the message.

    Returns:
        ``symbols``.

    Raises:
        BitstreamError: If one is out of range.
    """
    if bool(((symbols < 0) | (symbols >= limit)).any()):
        raise BitstreamError(f"Entropy coded data is corrupt: it decodes to no code of stage {stage}")
    return symbols


def code_vectors(quantizer: VectorQuantizer) -> tuple[Tensor, ...]:
    """Tell what each code adds to the decoded vector, given code 0 in all other stages.

    Args:
        quantizer: A quantiser; where its stages add up, the vectors are those of its codebooks but for a constant.

    Returns:
        One (K_s, D) float tensor a stage.
    """
    return quantizer.code_vectors()
