"""Product quantisation of several frames at once, and residual coding across the scales of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.entropy.vq.base import Quantized, VectorQuantizer
from triode.entropy.vq.factorised import FactorisedVQ
from triode.entropy.vq.group import GroupVQ


class FoldedVQ(VectorQuantizer):
    """A quantiser of vectors made of consecutive frames, one after the other.

    Args:
        quantizer: Quantiser of dimension ``merge * D``.
        merge: Frames to a vector. The last frame is repeated where they do not divide the number of frames.
    """

    def __init__(self, quantizer: VectorQuantizer, merge: int) -> None:
        if merge < 1 or quantizer.dim % merge:
            raise ValueError(f"Argument `merge` must be a divisor of {quantizer.dim}, but got {merge}")
        dim, strides = quantizer.dim // merge, [merge * inner for inner in quantizer.strides]
        super().__init__(dim, quantizer.codebook_sizes, strides)
        self.quantizer = quantizer
        self.merge = merge

    def _fold(self, x: Tensor) -> Tensor:
        missing = -x.shape[2] % self.merge
        if missing:
            x = F.pad(x, (0, missing), mode="replicate")
        return x.reshape(*x.shape[:2], -1, self.merge).permute(0, 3, 1, 2).flatten(1, 2)

    def _unfold(self, folded: Tensor, frames: int) -> Tensor:
        vectors = folded.reshape(len(folded), self.merge, self.dim, -1)
        return vectors.permute(0, 2, 3, 1).flatten(2)[:, :, :frames]

    def _quantise(self, x: Tensor, path: Tensor, counts: int | Tensor) -> Quantized:
        folded = self._fold(x)
        part = self.quantizer._quantise(folded, folded if path is x else self._fold(path), counts)
        values = self._unfold(part.values, x.shape[2])
        return Quantized(values, part.codes, part.loss, part.usage, part.perplexity)

    def _encode(self, x: Tensor, count: int) -> tuple[Tensor, ...]:
        return self.quantizer._encode(self._fold(x), count)

    def _decode(self, codes: Sequence[Tensor], frames: int) -> Tensor:
        return self._unfold(self.quantizer._decode(codes, -(-frames // self.merge)), frames)

    def _bypass(self, x: Tensor) -> Tensor:
        return self._unfold(self.quantizer._bypass(self._fold(x)), x.shape[2])


class ProductVQ(FoldedVQ):
    """Product quantisation as in ESC (Gu & Diao, EMNLP 2024): frames merged, channels split, factorised cosine codes.

    Args:
        dim: Channels D of the features.
        codebook_size: Number of entries of each codebook.
        codebook_dim: Dimension of the factorised codes.
        groups: Number of codes a merged vector. Groups are equal but for the last, which takes the remainder.
        merge: Frames to a merged vector.
        commitment: Weight of the commitment loss.
        kmeans_iterations: Rounds of the k-means start on the first training batch; 0 for none.
        restart_ratio: Entries whose usage is below this ratio of the mean move to where vectors are; 0 for never.
        restart_every: Training steps between checks of the usage.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int = 1024,
        codebook_dim: int = 8,
        groups: int = 3,
        merge: int = 2,
        *,
        commitment: float = 0.25,
        kmeans_iterations: int = 0,
        restart_ratio: float = 0.0,
        restart_every: int = 10,
    ) -> None:
        if not 1 <= groups <= dim * merge:
            raise ValueError(f"Argument `groups` must be in 1..{dim * merge}, but got {groups}")
        equal = dim * merge // groups
        dims = [equal] * (groups - 1) + [dim * merge - equal * (groups - 1)]
        parts = [
            FactorisedVQ(
                size,
                codebook_size,
                codebook_dim,
                commitment=commitment,
                normalised=False,
                bias=False,
                kmeans_iterations=kmeans_iterations,
                restart_ratio=restart_ratio,
                restart_every=restart_every,
            )
            for size in dims
        ]
        super().__init__(GroupVQ(parts), merge)


class CrossScaleVQ(nn.Module):
    """Residual coding across the scales of an encoder and its decoder (Jiang et al., Interspeech 2022; ESC).

    Stream i codes what the decoder's state lacks of the encoder's features of that scale; the refined state then goes
    up to the next scale. Stages left out add nothing to the state, so any number of leading stages decodes.

    ``forward`` and ``decode`` climb with the same ``expand(i, state)``: what takes the refined state of stream i to
    the scale of stream i + 1. It is not called after the last stream.

    Args:
        quantizers: One a stream, deepest scale first.
    """

    def __init__(self, quantizers: Sequence[VectorQuantizer]) -> None:
        super().__init__()
        if not quantizers:
            raise ValueError("Argument `quantizers` must hold one or more quantisers, but got none")
        self.quantizers = nn.ModuleList(quantizers)
        self.codebook_sizes = tuple(size for quantizer in quantizers for size in quantizer.codebook_sizes)
        self.strides = tuple(stride for quantizer in quantizers for stride in quantizer.strides)

    @property
    def streams(self) -> int:
        """Number of streams."""
        return len(self.quantizers)

    @property
    def stages(self) -> int:
        """Number of code tensors of all streams."""
        return len(self.codebook_sizes)

    def _quantizer(self, index: int) -> VectorQuantizer:
        return cast(VectorQuantizer, self.quantizers[index])

    def _shares(self, stages: int | None) -> list[int]:
        """Tell how many stages each stream has among the leading ones."""
        count = self.stages if stages is None else stages
        if not 1 <= count <= self.stages:
            raise ValueError(f"Argument `stages` must be in 1..{self.stages}, but got {count}")
        return [min(max(count - start, 0), quantizer.stages) for quantizer, start in self._starts()]

    def _starts(self) -> list[tuple[VectorQuantizer, int]]:
        """List the streams' quantisers, each with its first stage."""
        starts = accumulate((self._quantizer(i).stages for i in range(self.streams - 1)), initial=0)
        return [(self._quantizer(i), start) for i, start in enumerate(starts)]

    def _check(self, features: Sequence[Tensor]) -> None:
        if len(features) != self.streams:
            raise ValueError(f"Argument `features` must hold {self.streams} tensors, but got {len(features)}")

    def forward(
        self,
        features: Sequence[Tensor],
        expand: Callable[[int, Tensor], Tensor],
        stages: int | Tensor | None = None,
    ) -> Quantized:
        """Quantise all scales.

        As published, residuals are not detached: the loss also teaches the decoder to predict the encoder.

        Args:
            features: The encoder's (B, D_i, F_i), one a stream, deepest first.
            expand: Takes the index of a stream and its refined state (B, D_i, F_i) to the next scale.
            stages: Number of leading stages to use, 1..stages; or (B,) integers, one a sample; all when absent.

        Returns:
            The refined state of the last scale as ``values``, and the codes, summed losses and metrics of the streams.

        Raises:
            ValueError: If an argument has the wrong shape, type or range.
        """
        self._check(features)
        shares = None if isinstance(stages, Tensor) else self._shares(stages)
        state: Tensor | None = None
        results = []
        for i, (feature, (quantizer, start)) in enumerate(zip(features, self._starts(), strict=True)):
            count = shares[i] if shares else (cast(Tensor, stages) - start).clamp(0, quantizer.stages)
            if isinstance(count, Tensor) or count:
                part = quantizer(feature if state is None else feature - state, count)
                state = part.values if state is None else state + part.values
                results.append(part)
            if i + 1 < self.streams:
                state = expand(i, cast(Tensor, state))
        return Quantized(
            cast(Tensor, state),
            tuple(code for part in results for code in part.codes),
            torch.stack([part.loss for part in results]).sum(0),
            torch.cat([part.usage for part in results]),
            torch.cat([part.perplexity for part in results]),
        )

    def bypass(self, features: Sequence[Tensor], expand: Callable[[int, Tensor], Tensor]) -> Tensor:
        """Run all scales with the quantisers' projections alone, to start training with (ESC's pre-training).

        Args:
            features: The encoder's (B, D_i, F_i), one a stream, deepest first.
            expand: As for ``forward``.

        Returns:
            The refined state of the last scale, differentiable.

        Raises:
            ValueError: If ``features`` has the wrong length.
        """
        self._check(features)
        state = self._quantizer(0).bypass(features[0])
        for i in range(1, self.streams):
            state = expand(i - 1, state)
            state = state + self._quantizer(i).bypass(features[i] - state)
        return state

    @torch.no_grad()
    def encode(
        self,
        features: Sequence[Tensor],
        expand: Callable[[int, Tensor], Tensor],
        stages: int | None = None,
    ) -> tuple[Tensor, ...]:
        """Find the codes of all scales.

        Args:
            features: The encoder's (B, D_i, F_i), one a stream, deepest first.
            expand: As for ``forward``.
            stages: Number of leading stages, 1..stages; all when absent.

        Returns:
            One (B, F_s) int64 tensor a stage, stream by stream.

        Raises:
            ValueError: If an argument has the wrong shape, type or range.
        """
        self._check(features)
        shares = self._shares(stages)
        last = sum(share > 0 for share in shares) - 1
        state: Tensor | None = None
        codes: list[Tensor] = []
        for i, feature in enumerate(features[: last + 1]):
            quantizer = self._quantizer(i)
            found = quantizer.encode(feature if state is None else feature - state, shares[i])
            codes.extend(found)
            if i < last:
                values = quantizer.decode(found, feature.shape[2])
                state = expand(i, values if state is None else state + values)
        return tuple(codes)

    def decode(self, codes: Sequence[Tensor], expand: Callable[[int, Tensor], Tensor], frames: int) -> Tensor:
        """Give the refined state of the last scale.

        Args:
            codes: One (B, F_s) integer tensor a stage, stream by stream; fewer mean a lower rate.
            expand: As for ``forward``.
            frames: Number of frames of the deepest scale.

        Returns:
            (B, D, F) of the last scale.

        Raises:
            ValueError: If codes are missing, out of range, or do not match each other or ``frames``.
        """
        if not 1 <= len(codes) <= self.stages:
            raise ValueError(f"Argument `codes` must hold 1 to {self.stages} tensors, but got {len(codes)}")
        state: Tensor | None = None
        for i, (quantizer, start) in enumerate(self._starts()):
            mine = codes[start : start + quantizer.stages]
            if mine:
                values = quantizer.decode(mine, frames if state is None else state.shape[2])
                state = values if state is None else state + values
            if i + 1 < self.streams:
                state = expand(i, cast(Tensor, state))
        return cast(Tensor, state)
