"""Factorised codes: entries in a few dimensions, found by direction."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from triode.entropy.vq.base import SingleVQ, sample_error, straight_through, vectors
from triode.entropy.vq.codebook import Codebook


class FactorisedVQ(SingleVQ):
    """Projection to a few dimensions, nearest entry by cosine, projection back (Yu et al., ViT-VQGAN, ICLR 2022; DAC).

    The entry is searched by direction and used with its length. The loss, between the projected features p and the
    entry e, is ``|sg(p) - e|^2 + commitment * |p - sg(e)|^2``, means over dimensions and frames; gradients of the
    values pass through both projections. As in DAC (Kumar et al., NeurIPS 2023) there are neither moving averages nor
    restarts unless asked for.

    Args:
        dim: Channels D of the features.
        codebook_size: Number of entries K.
        codebook_dim: Their dimension.
        commitment: Weight of the commitment loss.
        normalised: Keep the projections' weights as direction and length (weight normalisation; DAC and SNAC).
        bias: Whether the projections have one (DAC and SNAC do, ESC does not).
        kmeans_iterations: Rounds of the k-means start on the first training batch; 0 for none.
        restart_ratio: Entries whose usage is below this ratio of the mean move to where vectors are; 0 for never.
        restart_every: Training steps between checks of the usage.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        codebook_dim: int = 8,
        *,
        commitment: float = 0.25,
        normalised: bool = True,
        bias: bool = True,
        kmeans_iterations: int = 0,
        restart_ratio: float = 0.0,
        restart_every: int = 10,
    ) -> None:
        super().__init__(dim, codebook_size)
        self.commitment = commitment
        self.codebook = Codebook(
            codebook_size,
            codebook_dim,
            ema=False,
            cosine=True,
            kmeans_iterations=kmeans_iterations,
            restart_ratio=restart_ratio,
            restart_every=restart_every,
        )
        down, up = nn.Linear(dim, codebook_dim, bias=bias), nn.Linear(codebook_dim, dim, bias=bias)
        self.project_in: nn.Module = weight_norm(down) if normalised else down
        self.project_out: nn.Module = weight_norm(up) if normalised else up

    def _assign(self, x: Tensor, path: Tensor, active: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        low = self._down(x)
        codes, entries = self.codebook.assign(low, active)
        values = entries.detach()
        loss = sample_error(low.detach(), entries) + self.commitment * sample_error(low, values)
        route = low if path is x else self._down(path)
        return self._up(straight_through(values, route)), codes, loss

    def _search(self, x: Tensor) -> Tensor:
        return self.codebook.search(vectors(self._down(x))).view(len(x), -1)

    def _decode(self, codes: Sequence[Tensor], frames: int) -> Tensor:
        return self._up(self.codebook.lookup(codes[0]))

    def _bypass(self, x: Tensor) -> Tensor:
        return self._up(self._down(x))

    def _down(self, x: Tensor) -> Tensor:
        low: Tensor = self.project_in(x.transpose(1, 2))
        return low.transpose(1, 2)

    def _up(self, low: Tensor) -> Tensor:
        x: Tensor = self.project_out(low.transpose(1, 2))
        return x.transpose(1, 2)
