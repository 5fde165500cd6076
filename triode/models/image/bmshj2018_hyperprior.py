"""``bmshj2018-hyperprior``: GDN transforms and a scale hyperprior (Ballé et al., ICLR 2018)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from triode.entropy.context.model import ContextModel
from triode.entropy.context.schedule import parallel
from triode.entropy.context.split import SplitParameters
from triode.entropy.factorized import FactorizedPrior
from triode.entropy.hyperprior import Hyperprior
from triode.models.image.single_rate import SingleRateConfig, SingleRateModel
from triode.models.layers.conv import RateFree, conv, deconv
from triode.models.layers.gdn import gdn_analysis, gdn_synthesis
from triode.models.registry import register_model


@dataclass(frozen=True, slots=True)
class Bmshj2018HyperpriorConfig(SingleRateConfig):
    """Widths and rate of :class:`Bmshj2018Hyperprior`; qualities 6 to 8 are the wide ones."""


class _HyperAnalysis(RateFree):
    """h_a, which sees magnitudes: scales do not depend on signs."""

    def forward(self, x: Tensor, q: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x.abs(), q)


class Bmshj2018Hyperprior(SingleRateModel):
    """See the module's text.

    Args:
        config: Widths and lambda.
    """

    multiple = 64
    analysis_halo = 64
    synthesis_halo = 2

    def __init__(self, config: Bmshj2018HyperpriorConfig | None = None) -> None:
        c = config or Bmshj2018HyperpriorConfig()
        n, m = c.N, c.M
        entropy = Hyperprior(
            _HyperAnalysis(conv(m, n, 3, 1), nn.ReLU(), conv(n, n), nn.ReLU(), conv(n, n)),
            RateFree(deconv(n, n), nn.ReLU(), deconv(n, n), nn.ReLU(), conv(n, m, 3, 1), nn.ReLU()),
            FactorizedPrior(n, learned_medians=True),
            ContextModel(parallel(m), SplitParameters(means=False)),
            stride=4,
        )
        super().__init__(c, gdn_analysis(n, m), gdn_synthesis(n, m), entropy)


@register_model("bmshj2018-hyperprior", Bmshj2018HyperpriorConfig)
def bmshj2018_hyperprior(config: Bmshj2018HyperpriorConfig) -> Bmshj2018Hyperprior:
    """Build :class:`Bmshj2018Hyperprior`."""
    return Bmshj2018Hyperprior(config)
