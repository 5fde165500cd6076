"""``mbt2018-mean``: GDN transforms and a hyperprior of means and scales (Minnen et al., NeurIPS 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

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
class Mbt2018MeanConfig(SingleRateConfig):
    """Widths and rate of :class:`Mbt2018Mean`; qualities 5 to 8 are the wide ones."""

    _wide_from: ClassVar[int] = 5


class Mbt2018Mean(SingleRateModel):
    """See the module's text.

    Args:
        config: Widths and lambda.
    """

    multiple = 64
    analysis_halo = 64
    synthesis_halo = 2

    def __init__(self, config: Mbt2018MeanConfig | None = None) -> None:
        c = config or Mbt2018MeanConfig()
        n, m, wide = c.N, c.M, c.M * 3 // 2
        entropy = Hyperprior(
            RateFree(conv(m, n, 3, 1), nn.LeakyReLU(), conv(n, n), nn.LeakyReLU(), conv(n, n)),
            RateFree(deconv(n, m), nn.LeakyReLU(), deconv(m, wide), nn.LeakyReLU(), conv(wide, 2 * m, 3, 1)),
            FactorizedPrior(n, learned_medians=True),
            ContextModel(parallel(m), SplitParameters(means=True)),
            stride=4,
        )
        super().__init__(c, gdn_analysis(n, m), gdn_synthesis(n, m), entropy)


@register_model("mbt2018-mean", Mbt2018MeanConfig)
def mbt2018_mean(config: Mbt2018MeanConfig) -> Mbt2018Mean:
    """Build :class:`Mbt2018Mean`."""
    return Mbt2018Mean(config)
