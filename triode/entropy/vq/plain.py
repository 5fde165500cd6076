"""Plain vector quantisation: the nearest entry in the space of the features."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from triode.entropy.vq.base import SingleVQ, sample_error, straight_through, vectors
from triode.entropy.vq.codebook import Codebook


class PlainVQ(SingleVQ):
    """Nearest entry by Euclidean distance (van den Oord et al., NeurIPS 2017), as EnCodec's and HiFi-Codec's stages.

    The loss is ``commitment * |x - sg(e)|^2``, plus ``|sg(x) - e|^2`` where the entries are learned by gradient; means
    over dimensions and frames. EnCodec: moving averages, commitment 1. HiFi-Codec: gradient, commitment 0.25.

    Args:
        dim: Channels D of the features.
        codebook_size: Number of entries K.
        ema: Learn the entries by moving averages; by gradient otherwise.
        decay: Of the moving averages a step.
        commitment: Weight of the commitment loss.
        kmeans_iterations: Rounds of the k-means start on the first training batch; 0 for none.
        restart_ratio: Entries whose usage is below this ratio of the mean move to where vectors are; 0 for never.
        restart_every: Training steps between checks of the usage.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        ema: bool = True,
        decay: float = 0.99,
        commitment: float = 1.0,
        kmeans_iterations: int = 10,
        restart_ratio: float = 0.1,
        restart_every: int = 10,
    ) -> None:
        super().__init__(dim, codebook_size)
        self.commitment = commitment
        self.codebook = Codebook(
            codebook_size,
            dim,
            ema=ema,
            decay=decay,
            kmeans_iterations=kmeans_iterations,
            restart_ratio=restart_ratio,
            restart_every=restart_every,
            std=dim**-0.5,
        )

    def _assign(self, x: Tensor, path: Tensor, active: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        codes, entries = self.codebook.assign(x, active)
        values = entries.detach()
        loss = self.commitment * sample_error(x, values)
        if not self.codebook.ema:
            loss = loss + sample_error(x.detach(), entries)
        return straight_through(values, path), codes, loss

    def _search(self, x: Tensor) -> Tensor:
        return self.codebook.search(vectors(x)).view(len(x), -1)

    def _decode(self, codes: Sequence[Tensor], frames: int) -> Tensor:
        return self.codebook.lookup(codes[0])
