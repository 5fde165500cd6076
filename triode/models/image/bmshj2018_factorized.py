"""``bmshj2018-factorized``: GDN transforms and a factorised prior (Ballé et al., ICLR 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.entropy.exact.layers import from_fixed
from triode.entropy.factorized import FactorizedPrior
from triode.entropy.outputs import HyperOutput
from triode.entropy.relax import Level, Relaxed, SoftQuantiser, relax_prior
from triode.models.image.single_rate import SingleRateConfig, SingleRateModel
from triode.models.layers.gdn import gdn_analysis, gdn_synthesis
from triode.models.registry import register_model


@dataclass(frozen=True, slots=True)
class Bmshj2018FactorizedConfig(SingleRateConfig):
    """Widths and rate of :class:`Bmshj2018Factorized`; qualities 6 to 8 are the wide ones."""


class FactorizedLatent(nn.Module):
    """A factorised prior in the place of a hyperprior: it codes y itself, and there is no z.

    Args:
        prior: Entropy model of y.
    """

    def __init__(self, prior: FactorizedPrior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, y: Tensor, q: Tensor) -> HyperOutput:
        """Quantise y (B, M, h, w) and estimate the bits of ``"y"``; ``q`` is ignored."""
        out = self.prior(y)
        return HyperOutput(out.y_hat, {"y": out.bits})

    def export(self) -> None:
        """Freeze the tables."""
        self.prior.export()

    @torch.no_grad()
    def encode(self, y: Tensor, q: Tensor, writer: SymbolWriter) -> Tensor:
        """Write one latent (1, M, h, w); return it quantised, float32."""
        return from_fixed(self.prior.dequantise(self.prior.encode(y, writer)))

    def targets(self, y: Tensor, q: Tensor, side: Tensor | None = None) -> tuple[Tensor]:
        """Return y, the only level; see :class:`~triode.entropy.relax.RefinableEntropy`."""
        return (y,)

    def relax(self, levels: tuple[Level, ...], q: Tensor, valid: tuple[int, int], soft: SoftQuantiser) -> Relaxed:
        """Quantise y softly; no symbol changes another's code length."""
        y, offset = relax_prior(self.prior, levels[0], soft)
        return Relaxed(y, y.new_zeros(()), y.new_zeros(()), (offset,), (y.detach(),))

    def encode_values(
        self, values: tuple[Tensor, ...], q: Tensor, writer: SymbolWriter, valid: tuple[int, int]
    ) -> Tensor:
        """Write y; see :meth:`encode`."""
        return self.encode(values[0], q, writer)

    @torch.no_grad()
    def decode(self, shape: tuple[int, int], q: Tensor, reader: SymbolReader) -> Tensor:
        """Read one quantised latent (1, M, h, w), float32, given its (h, w)."""
        return from_fixed(self.prior.dequantise(self.prior.decode((self.prior.channels, *shape), reader)))


class Bmshj2018Factorized(SingleRateModel):
    """See the module's text.

    Args:
        config: Widths and lambda.
    """

    multiple = 16
    analysis_halo = 32
    synthesis_halo = 2

    def __init__(self, config: Bmshj2018FactorizedConfig | None = None) -> None:
        c = config or Bmshj2018FactorizedConfig()
        prior = FactorizedPrior(c.M, learned_medians=True)
        super().__init__(c, gdn_analysis(c.N, c.M), gdn_synthesis(c.N, c.M), FactorizedLatent(prior))


@register_model("bmshj2018-factorized", Bmshj2018FactorizedConfig)
def bmshj2018_factorized(config: Bmshj2018FactorizedConfig) -> Bmshj2018Factorized:
    """Build :class:`Bmshj2018Factorized`."""
    return Bmshj2018Factorized(config)
