"""What every vector quantiser is: codes and decoded vectors out of features, with losses for training."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Quantized:
    """Result of a quantiser's training pass.

    Attributes:
        values: (B, D, F) decoded vectors, float32; their gradient is the straight-through one.
        codes: One (B, F_s) int64 tensor a stage. With a count of stages for each sample there is one for every stage;
            beyond a sample's count its codes mean nothing.
        loss: (B,) codebook and commitment losses, weighted as in the quantiser's paper, of the stages in use.
        usage: (stages,) share of the codebook's entries that occur in this batch, 0..1.
        perplexity: (stages,) two to the entropy of the codes of this batch, 1..codebook size.
    """

    values: Tensor
    codes: tuple[Tensor, ...]
    loss: Tensor
    usage: Tensor
    perplexity: Tensor


def straight_through(values: Tensor, path: Tensor) -> Tensor:
    """Return ``values`` bit for bit, with the gradient of ``path`` added to their own (Bengio et al., 2013).

    Args:
        values: Tensor of any shape.
        path: Tensor of the same shape, finite.

    Returns:
        Tensor like ``values``.
    """
    return values + (path - path.detach())


def sample_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of each sample.

    Args:
        a: (B, ...) float.
        b: Like ``a``.

    Returns:
        (B,) float.
    """
    return (a - b).square().flatten(1).mean(1)


@torch.no_grad()
def code_statistics(codes: Tensor, size: int, active: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Measure how much of a codebook a set of codes uses.

    Args:
        codes: (B, F) int64, each in 0..size-1.
        size: Number of entries of the codebook.
        active: (B,) bool, the samples that count; all when absent.

    Returns:
        Share of entries that occur, and perplexity (2 ** entropy); both scalars. No code at all gives 0 and 1.
    """
    weights = torch.ones_like(codes, dtype=torch.float32)
    if active is not None:
        weights = weights * active[:, None]
    counts = torch.zeros(size, device=codes.device).index_add_(0, codes.flatten(), weights.flatten())
    shares = counts / counts.sum().clamp(min=1)
    return (counts > 0).float().mean(), torch.exp(torch.special.entr(shares).sum())


class VectorQuantizer(nn.Module, ABC):
    """Features to codes and back, in stages; the first n stages alone are the same signal at a lower rate.

    Decoded vectors are a function of the codes alone: ``decode(encode(x))`` is what ``forward`` gives in evaluation.
    Everything runs in float32 at least, under autocast too.

    Args:
        dim: Channels D of the features.
        codebook_sizes: Number of entries of each stage's codebook.
        strides: Frames that one code of each stage stands for; the stage has ``ceil(F / stride)`` codes.
    """

    dim: int
    codebook_sizes: tuple[int, ...]
    strides: tuple[int, ...]

    def __init__(self, dim: int, codebook_sizes: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"Argument `dim` must be at least 1, but got {dim}")
        if not codebook_sizes or min(codebook_sizes) < 2:
            raise ValueError(
                f"Argument `codebook_sizes` must hold sizes of at least 2, but got {tuple(codebook_sizes)}"
            )
        if len(strides) != len(codebook_sizes) or min(strides) < 1:
            raise ValueError(f"Argument `strides` must be one of at least 1 a stage, but got {tuple(strides)}")
        self.dim = dim
        self.codebook_sizes = tuple(codebook_sizes)
        self.strides = tuple(strides)

    @property
    def stages(self) -> int:
        """Number of stages, which is the number of code tensors."""
        return len(self.codebook_sizes)

    def code_frames(self, frames: int) -> tuple[int, ...]:
        """Tell how many codes each stage has.

        Args:
            frames: Number of feature frames F, at least 1.

        Returns:
            Number of codes F_s of each stage.
        """
        return tuple(-(-frames // stride) for stride in self.strides)

    def fixed_length_bits(self, frames: int, stages: int | None = None) -> int:
        """Tell what the codes cost without entropy coding: whole bits a code.

        Args:
            frames: Number of feature frames F, at least 1.
            stages: Number of leading stages, all when absent.

        Returns:
            Bits for one sample.
        """
        lengths = self.code_frames(frames)[: self._count(stages)]
        return sum(math.ceil(math.log2(size)) * n for size, n in zip(self.codebook_sizes, lengths, strict=False))

    def forward(self, x: Tensor, stages: int | Tensor | None = None) -> Quantized:
        """Quantise; while training, also update what is learned without gradients.

        Args:
            x: (B, D, F) float.
            stages: Number of leading stages to use, 1..stages; or (B,) integers, one a sample, for quantiser dropout
                (0 gives zeros); all when absent.

        Returns:
            Decoded vectors with straight-through gradients, codes, losses and metrics.

        Raises:
            ValueError: If an argument has the wrong shape, type or range.
        """
        x = self._checked(x)
        if isinstance(stages, Tensor):
            if stages.shape != x.shape[:1] or stages.is_floating_point() or stages.dtype == torch.bool:
                raise ValueError(
                    f"Argument `stages` must be an integer or {len(x)} of them, "
                    f"but got {stages.dtype} of shape {tuple(stages.shape)}"
                )
            counts: int | Tensor = stages.to(x.device)
        else:
            counts = self._count(stages)
        with torch.autocast(x.device.type, enabled=False):
            return self._quantise(x, x, counts)

    @torch.no_grad()
    def encode(self, x: Tensor, stages: int | None = None) -> tuple[Tensor, ...]:
        """Find the codes; nothing is updated, also while training.

        Args:
            x: (B, D, F) float, finite.
            stages: Number of leading stages, 1..stages; all when absent.

        Returns:
            One (B, F_s) int64 tensor a stage.

        Raises:
            ValueError: If an argument has the wrong shape, type or range.
        """
        x = self._checked(x)
        if not bool(torch.isfinite(x).all()):
            raise ValueError("Argument `x` must be finite, but got NaN or infinity")
        with torch.autocast(x.device.type, enabled=False):
            return self._encode(x, self._count(stages))

    def decode(self, codes: Sequence[Tensor], frames: int | None = None) -> Tensor:
        """Give the vectors that codes stand for.

        Args:
            codes: One (B, F_s) integer tensor a stage; fewer tensors than stages mean a lower rate.
            frames: Number of feature frames F; needed where a stage's stride does not divide it. When absent, the
                largest that all given stages allow.

        Returns:
            (B, D, F) decoded vectors.

        Raises:
            ValueError: If codes are missing, out of range, or do not match each other or ``frames``.
        """
        if not 1 <= len(codes) <= self.stages:
            raise ValueError(f"Argument `codes` must hold 1 to {self.stages} tensors, but got {len(codes)}")
        for stage, (code, size) in enumerate(zip(codes, self.codebook_sizes, strict=False)):
            if code.dim() != 2 or code.is_floating_point() or code.shape[0] != codes[0].shape[0] or not code.numel():
                raise ValueError(
                    f"Argument `codes` must hold integers of shape (B, F_s), but got {code.dtype} of shape "
                    f"{tuple(code.shape)} for stage {stage}"
                )
            low, high = int(code.min()), int(code.max())
            if low < 0 or high >= size:
                raise ValueError(f"Codes of stage {stage} must be in 0..{size - 1}, but got {low}..{high}")
        lengths = tuple(code.shape[1] for code in codes)
        if frames is None:
            frames = min(length * stride for length, stride in zip(lengths, self.strides, strict=False))
        if frames < 1 or lengths != self.code_frames(frames)[: len(codes)]:
            raise ValueError(f"Codes of lengths {lengths} with strides {self.strides} do not make {frames} frames")
        with torch.autocast(codes[0].device.type, enabled=False):
            return self._decode([code.long() for code in codes], frames)

    @torch.no_grad()
    def code_vectors(self) -> tuple[Tensor, ...]:
        """Tell what each code adds to the decoded vector, given code 0 in all other stages.

        Returns:
            One (K_s, D) float tensor a stage; where stages add up, those of their codebooks but for a constant. Another
            dimension than that of the features may stand for them, the same for all stages.
        """
        device = next((t.device for t in (*self.parameters(), *self.buffers())), torch.device("cpu"))
        vectors = []
        for stage, size in enumerate(self.codebook_sizes):
            before = [torch.zeros(size, 1, dtype=torch.int64, device=device)] * stage
            mine = torch.arange(size, device=device)[:, None]
            vectors.append(self.decode([*before, mine], 1)[:, :, 0])
        return tuple(vectors)

    def bypass(self, x: Tensor) -> Tensor:
        """Give what an infinitely fine quantiser would: projections and pooling alone, to start training with.

        ESC (Gu & Diao, 2024) trains without quantisers first; this is the same network with ``forward`` left out.

        Args:
            x: (B, D, F) float.

        Returns:
            (B, D, F) float32, differentiable.
        """
        x = self._checked(x)
        with torch.autocast(x.device.type, enabled=False):
            return self._bypass(x)

    def _checked(self, x: Tensor) -> Tensor:
        if x.dim() != 3 or x.shape[1] != self.dim or not x.is_floating_point() or not x.numel():
            raise ValueError(
                f"Argument `x` must be float of shape (B, {self.dim}, F), but got {x.dtype} of shape {tuple(x.shape)}"
            )
        return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x

    def _count(self, stages: int | None) -> int:
        if stages is None:
            return self.stages
        if not 1 <= stages <= self.stages:
            raise ValueError(f"Argument `stages` must be in 1..{self.stages}, but got {stages}")
        return stages

    @abstractmethod
    def _quantise(self, x: Tensor, path: Tensor, counts: int | Tensor) -> Quantized:
        """Quantise ``x``; losses differentiate through ``x``, values through ``path``, which has the same numbers.

        Two arguments, because a residual quantiser wants both: losses that see every stage's residual with what was
        coded before detached, and values whose gradient is the chain rule through all stages.
        """

    @abstractmethod
    def _encode(self, x: Tensor, count: int) -> tuple[Tensor, ...]: ...

    @abstractmethod
    def _decode(self, codes: Sequence[Tensor], frames: int) -> Tensor: ...

    def _bypass(self, x: Tensor) -> Tensor:
        return x


class SingleVQ(VectorQuantizer):
    """A quantiser of one stage and one code a frame: what subclasses need not say again.

    Args:
        dim: Channels D of the features.
        codebook_size: Number of entries.
    """

    def __init__(self, dim: int, codebook_size: int) -> None:
        super().__init__(dim, (codebook_size,), (1,))

    def _quantise(self, x: Tensor, path: Tensor, counts: int | Tensor) -> Quantized:
        active = counts > 0 if isinstance(counts, Tensor) else None
        values, codes, loss = self._assign(x, path, active)
        usage, perplexity = code_statistics(codes, self.codebook_sizes[0], active)
        if active is not None:
            values, loss = values * active[:, None, None], loss * active
        return Quantized(values, (codes,), loss, usage[None], perplexity[None])

    def _encode(self, x: Tensor, count: int) -> tuple[Tensor, ...]:
        return (self._search(x),)

    @abstractmethod
    def _assign(self, x: Tensor, path: Tensor, active: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Give values (B, D, F), codes (B, F) and loss (B,) of all samples; learn from the active ones."""

    @abstractmethod
    def _search(self, x: Tensor) -> Tensor: ...


def vectors(x: Tensor) -> Tensor:
    """Lay out features as vectors, (B, D, F) to (B * F, D).

    Args:
        x: (B, D, F).

    Returns:
        (B * F, D).
    """
    return x.transpose(1, 2).reshape(-1, x.shape[1])
