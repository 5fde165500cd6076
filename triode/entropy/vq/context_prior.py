"""Context code prior: an integer network sees codes of coarser stages and of frames around, and predicts the next.

Stages are coded one after the other; within a stage frames go in dyadic order: with three phases every fourth frame,
then those in the middle between, then the odd ones. All codes of a phase are coded in parallel, given everything
before. So most codes see both neighbours in time, and all see past and future of the coarser stages, yet a chunk takes
a few passes a stage instead of one a frame. EnCodec (Défossez et al., 2022) conditions on the past alone, in floating
point; the order of frames is that of hierarchical B frames and of multi-scale autoregression (Reed et al., ICML 2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.entropy.exact.layers import exact_twin
from triode.entropy.tables import CdfTables
from triode.entropy.vq.prior import CodePrior, check_symbols
from triode.entropy.vq.prior_layers import CodeOrder, LeafHead, Powers, digits, similar_order
from triode.entropy.vq.static_prior import StaticPrior
from triode.errors import UnsupportedError

_SLOPE = 0.125
_LN2 = math.log(2)

Visit = Callable[["StageNetwork", int, slice, Tensor], Tensor]
"""Takes a stage's network, its number, the frames of a phase and their features; returns their codes' ranks (B, N)."""


class StageNetwork(nn.Module):
    """Predicts the codes of one stage; becomes integers by :func:`exact_twin`.

    Args:
        size: Number of codes K.
        width: Channels E of code embeddings.
        hidden: Channels H inside.
        taps: Number of frames that each phase sees.
        dropout: Share of embeddings and features that are dropped while training.
        seen: Whether anything that is coded later sees these codes.
    """

    def __init__(self, size: int, width: int, hidden: int, taps: Sequence[int], dropout: float, *, seen: bool) -> None:
        super().__init__()
        self.size, self.dropout = size, dropout
        self.clusters, self.leaves = digits(size)
        self.embedding = nn.Embedding(size, width) if seen else nn.Identity()
        if isinstance(self.embedding, nn.Embedding):
            nn.init.normal_(self.embedding.weight, std=0.3)
        self.first = nn.ModuleList(nn.Conv2d(width * count, hidden, 1) for count in taps)
        self.second = nn.Conv2d(hidden, hidden, 1)
        self.act = nn.LeakyReLU(_SLOPE)
        # Heads start from zero, so that training starts from what `fit` counted.
        self.cluster = _zeroed(nn.Conv2d(hidden, self.clusters, 1)) if self.clusters > 1 else nn.Identity()
        self.leaf = LeafHead(hidden, size)
        _zeroed(self.leaf.rows)

    def features(self, phase: int, taps: Tensor) -> Tensor:
        """Compute what the heads see, from embeddings (B, taps * E, N); gives (B, H, 1, N)."""
        x = self.act(self.first[phase](taps[:, :, None]))
        return self._drop(self.act(self.second(self._drop(x))))

    def embed(self, ranks: Tensor) -> Tensor:
        """Look up ranks (B, N); gives (B, E, N)."""
        out: Tensor = self._drop(self.embedding(ranks)).transpose(1, 2)
        return out

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def sizes(self, cluster: Tensor) -> Tensor | None:
        """Return how many codes the clusters have, int64 like ``cluster``; None where all have as many."""
        whole = self.size // self.leaves
        if whole == self.clusters:
            return None
        return torch.where(cluster < whole, self.leaves, self.size - whole * self.leaves)


class ContextPrior(CodePrior):
    """Codes given coarser stages and frames around, by integer networks; stages beyond ``depth`` are static.

    Args:
        codebook_sizes: Number of entries of each stage's codebook.
        strides: Frames that one code of each stage stands for; all 1 when absent.
        width: Channels of code embeddings.
        hidden: Channels inside of the networks.
        reach: Frames seen to each side, in frames of the stage itself.
        phases: Parts in which the frames of each stage are coded, 1 to 8, the last number for all further stages. With
            1 a stage does not see itself. Coarse stages repeat themselves in time; for fine ones it does not pay.
        depth: Number of leading stages that have a network, all when absent; the others use a :class:`StaticPrior`.
        dropout: Share of embeddings and features that are dropped while training.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        codebook_sizes: Sequence[int],
        strides: Sequence[int] | None = None,
        *,
        width: int = 32,
        hidden: int = 64,
        reach: int = 3,
        phases: Sequence[int] = (4, 2, 2, 1),
        depth: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(codebook_sizes, strides)
        self.depth = self.stages if depth is None else depth
        counts = (*phases, *([phases[-1]] * self.stages if phases else ()))[: self.stages]
        if width < 1 or hidden < 1 or reach < 0:
            raise ValueError(
                "Arguments `width` and `hidden` must be at least 1, and `reach` at least 0, "
                f"but got {width}, {hidden} and {reach}"
            )
        if not 1 <= self.depth <= self.stages:
            raise ValueError(f"Argument `depth` must be in 1..{self.stages}, but got {depth}")
        if not phases or not all(1 <= count <= 8 for count in phases):
            raise ValueError(f"Argument `phases` must hold numbers in 1..8, but got {tuple(phases)}")
        if not 0 <= dropout < 1:
            raise ValueError(f"Argument `dropout` must be in [0, 1), but got {dropout}")
        self.width, self.reach, self.phases = width, reach, counts
        sizes = self.codebook_sizes
        self.networks = nn.ModuleList()
        for stage, count in enumerate(counts[: self.depth]):
            taps = [len(self._offsets(count, phase)) for phase in range(count)]
            seen = count > 1 or stage < self.depth - 1
            self.networks.append(StageNetwork(sizes[stage], width, hidden, taps, dropout, seen=seen))
        self.orders = nn.ModuleList(CodeOrder(size) for size in sizes[: self.depth])
        self.rest = StaticPrior(sizes[self.depth :], self.strides[self.depth :]) if self.depth < self.stages else None
        self.powers = Powers()
        self.exact: nn.ModuleList | None = None

    @torch.no_grad()
    def init_from_vectors(self, vectors: Sequence[Tensor], gain: float = 0.15) -> None:
        """Start from what the codes stand for: codes that are alike get like embeddings, logits and digits.

        Embeddings become the principal components of the vectors, so that their sum over stages is a picture of the
        decoded frame; the heads start as products with the vectors of their own stage. This halves the steps that
        training takes. It changes what codes are written as: not for a prior that is in use.

        Args:
            vectors: One (K_s, D) float tensor a stage, see :func:`code_vectors`; those beyond ``depth`` are not looked
                at.
            gain: Standard deviation of the heads' weights, in octaves.

        Raises:
            ValueError: If vectors are missing, of different dimensions, or not finite.
        """
        sizes = self.codebook_sizes[: self.depth]
        books = [v.detach().float().cpu() for v in vectors[: self.depth]]
        dim = books[0].shape[-1] if books else 0
        if [tuple(book.shape) for book in books] != [(size, dim) for size in sizes]:
            raise ValueError(
                f"Argument `vectors` must hold {sizes} vectors of one dimension, "
                f"but got shapes {[tuple(book.shape) for book in books]}"
            )
        if not all(bool(book.isfinite().all()) for book in books):
            raise ValueError("Argument `vectors` must be finite, but got NaN or infinity")
        books = [book - book.mean(0) for book in books]
        axes = _principal_axes(torch.cat(books), self.width)
        scale = (books[0] @ axes).std().clamp_min(1e-6)
        for book, module, order in zip(books, self.networks, self.orders, strict=True):
            network, codes = cast(StageNetwork, module), similar_order(book)
            cast(CodeOrder, order).codes.copy_(codes)
            sorted_book = book[codes]
            if isinstance(network.embedding, nn.Embedding):
                network.embedding.weight.zero_()
                network.embedding.weight[:, : axes.shape[1]] = (sorted_book @ axes / scale).clamp(-16, 16)
            rows = network.leaf.rows.weight[:, :, 0, 0]
            own = sorted_book @ _principal_axes(sorted_book, rows.shape[1])
            rows.zero_()[:, : own.shape[1]] = own * (gain / own.std().clamp_min(1e-6))
            if network.clusters > 1:
                means = torch.stack([block.mean(0) for block in torch.split(rows, network.leaves)])
                cast(nn.Conv2d, network.cluster).weight[:, :, 0, 0] = means

    def export(self) -> None:
        """Freeze the integer twins of the networks, and the tables of static stages."""
        self.exact = cast(nn.ModuleList, exact_twin(self.networks))
        if self.rest is not None:
            self.rest.export()

    def _set_counts(self, counts: Sequence[Tensor]) -> None:
        for count, module, order in zip(counts, self.networks, self.orders, strict=False):
            network = cast(StageNetwork, module)
            octaves = (count / count.sum()).log2()[cast(CodeOrder, order).codes.cpu().long()]
            cast(Tensor, network.leaf.rows.bias).copy_(octaves)
            if network.clusters > 1:
                sums = [torch.logsumexp(block * _LN2, 0) / _LN2 for block in torch.split(octaves, network.leaves)]
                cast(Tensor, network.cluster.bias).copy_(torch.stack(sums))
        if self.rest is not None:
            self.rest._set_counts(counts[self.depth :])

    @staticmethod
    def _lattice(count: int, phase: int) -> tuple[int, int]:
        """Return the first frame of a phase, and the distance from one of its frames to the next."""
        step = 1 << (count - 1 - max(phase - 1, 0))
        return (0, step) if phase == 0 else (step // 2, step)

    def _offsets(self, count: int, phase: int) -> list[int]:
        """Return the frames that a phase sees, relative to its own; the neighbours coded just before among them."""
        near = set(range(-self.reach, self.reach + 1))
        if phase:
            start, _ = self._lattice(count, phase)
            near |= {-start, start}
        return sorted(near)

    def _walk(self, networks: nn.ModuleList, stages: int, frames: int, canvas: Tensor, visit: Visit) -> None:
        """Go through stages and phases in coding order, and show each phase what is known.

        Args:
            networks: The float networks, or their twins.
            stages: Number of stages to go through, at most ``depth``.
            frames: Number of feature frames F.
            canvas: (B, E, F) zeros, of the networks' type.
            visit: Gives the codes.
        """
        for stage in range(stages):
            network = cast(StageNetwork, networks[stage])
            stride, count = self.strides[stage], self.phases[stage]
            coarser = canvas[:, :, ::stride]
            length = coarser.shape[2]
            own = torch.zeros_like(coarser)
            for phase in range(count):
                start, step = self._lattice(count, phase)
                if start >= length:
                    continue
                here = slice(start, length, step)
                offsets = self._offsets(count, phase)
                margin = offsets[-1]
                seen = F.pad(coarser + own, (margin, margin))
                taps = [seen[:, :, margin + o + start : margin + o + length : step] for o in offsets]
                ranks = visit(network, stage, here, network.features(phase, torch.cat(taps, 1)))
                if stage < self.depth - 1 or phase < count - 1:
                    own[:, :, here] = network.embed(ranks)
            canvas = canvas + own.repeat_interleave(stride, 2)[:, :, :frames]

    def _bits(self, codes: Sequence[Tensor], frames: int) -> list[Tensor]:
        batch, device = codes[0].shape[0], codes[0].device
        stages = min(len(codes), self.depth)
        ranks = [cast(CodeOrder, o).ranks(code) for o, code in zip(self.orders, codes, strict=False)]
        bits = [torch.zeros(batch, device=device) for _ in range(stages)]

        def visit(network: StageNetwork, stage: int, here: slice, features: Tensor) -> Tensor:
            target = ranks[stage][:, here]
            cluster, leaf = target // network.leaves, target % network.leaves
            cost = F.cross_entropy(network.leaf(features, cluster) * _LN2, leaf, reduction="none")
            if network.clusters > 1:
                logits = network.cluster(features)[:, :, 0]
                cost = cost + F.cross_entropy(logits * _LN2, cluster, reduction="none")
            bits[stage] = bits[stage] + cost.sum(1) / _LN2
            return target

        self._walk(self.networks, stages, frames, torch.zeros(batch, self.width, frames, device=device), visit)
        if self.rest is not None and len(codes) > self.depth:
            bits += self.rest._bits(codes[self.depth :], frames)
        return bits

    def _exact(self) -> nn.ModuleList:
        if self.exact is None:
            raise UnsupportedError("This code prior has no integer networks yet: export the model, or load weights")
        return self.exact

    def _tables(self, network: StageNetwork, features: Tensor) -> CdfTables:
        """Return the tables of the first digits."""
        return self.powers.tables(network.cluster(features)[0, :, 0].t())

    def _leaf_tables(self, network: StageNetwork, features: Tensor, cluster: Tensor) -> CdfTables:
        """Return the tables of the second digits, given the first ones (1, N)."""
        limit = network.sizes(cluster[0])
        return self.powers.tables(network.leaf(features, cluster)[0].t(), limit)

    def _canvas(self, frames: int) -> Tensor:
        return torch.zeros((1, self.width, frames), dtype=torch.float64, device=self.powers.value.device)

    def _encode(self, codes: Sequence[Tensor], frames: int, writer: SymbolWriter) -> None:
        canvas, networks = self._canvas(frames), self._exact()
        ranks = [cast(CodeOrder, o).ranks(c.to(canvas.device)) for o, c in zip(self.orders, codes, strict=False)]

        def visit(network: StageNetwork, stage: int, here: slice, features: Tensor) -> Tensor:
            target = ranks[stage][:, here]
            cluster, leaf = target // network.leaves, target % network.leaves
            each = np.arange(target.shape[1], dtype=np.int32)
            if network.clusters > 1:
                writer.write(cluster[0].cpu().numpy(), each, self._tables(network, features))
            writer.write(leaf[0].cpu().numpy(), each, self._leaf_tables(network, features, cluster))
            return target

        self._walk(networks, min(len(codes), self.depth), frames, canvas, visit)
        if self.rest is not None and len(codes) > self.depth:
            self.rest._encode(codes[self.depth :], frames, writer)

    def _decode(self, frames: int, stages: int, reader: SymbolReader) -> tuple[Tensor, ...]:
        canvas, networks = self._canvas(frames), self._exact()
        codes = [torch.empty((1, n), dtype=torch.int64) for n in self.code_frames(frames)[: min(stages, self.depth)]]

        def visit(network: StageNetwork, stage: int, here: slice, features: Tensor) -> Tensor:
            each = np.arange(features.shape[3], dtype=np.int32)

            def read(tables: CdfTables, limit: int | Tensor) -> Tensor:
                symbols = torch.from_numpy(reader.read(each, tables)).long().to(features.device)
                return check_symbols(symbols, limit, stage)[None]

            cluster = torch.zeros((1, len(each)), dtype=torch.int64, device=features.device)
            if network.clusters > 1:
                cluster = read(self._tables(network, features), network.clusters)
            limit = network.sizes(cluster[0])
            leaf = read(self._leaf_tables(network, features, cluster), network.leaves if limit is None else limit)
            ranks = cluster * network.leaves + leaf
            codes[stage][:, here] = cast(CodeOrder, self.orders[stage]).restore(ranks).cpu()
            return ranks

        self._walk(networks, len(codes), frames, canvas, visit)
        if self.rest is not None and stages > self.depth:
            return (*codes, *self.rest._decode(frames, stages - self.depth, reader))
        return tuple(codes)


def _zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _principal_axes(vectors: Tensor, count: int) -> Tensor:
    """Return up to ``count`` principal axes of vectors (K, D), as (D, count) float."""
    axes: Tensor = torch.linalg.eigh(vectors.t() @ vectors).eigenvectors.flip(1)[:, :count]
    return axes * torch.sign(axes.gather(0, axes.abs().argmax(0, keepdim=True)))
