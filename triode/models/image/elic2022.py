"""``elic2022``: residual and attention blocks, unevenly grouped space-channel context (He et al., CVPR 2022).

Layers and widths are those of CompressAI's ``elic2022-official``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from triode.entropy.context.model import ContextModel
from triode.entropy.context.schedule import space_channel
from triode.entropy.context.space_channel import SpaceChannelParameters
from triode.entropy.factorized import FactorizedPrior
from triode.entropy.hyperprior import Hyperprior
from triode.models.image.single_rate import SingleRateConfig, SingleRateModel
from triode.models.layers.attention import AttentionBlock, ResidualBottleneck
from triode.models.layers.conv import RateFree, conv, deconv
from triode.models.registry import register_model

_FIRST_GROUPS = (16, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Elic2022Config(SingleRateConfig):
    """Widths and rate of :class:`Elic2022`; all qualities have the same widths, with the paper's lambdas.

    Attributes:
        groups: Channels of each group of y, in coding order; 16, 16, 32, 64 and the rest of M when empty.
    """

    N: int = 192
    M: int = 320
    lmbda: float = 0.0075
    groups: tuple[int, ...] = ()

    _lambdas: ClassVar[tuple[float, ...]] = (0.0004, 0.0008, 0.0016, 0.0032, 0.0075, 0.0150, 0.0300, 0.0450)

    def __post_init__(self) -> None:
        """Check the values, and fill in the groups.

        Raises:
            ValueError: If a width is too small, or the groups do not add up to M.
        """
        # The zero-argument super() does not work in a dataclass with slots.
        SingleRateConfig.__post_init__(self)
        groups = tuple(self.groups) or (*_FIRST_GROUPS, self.M - sum(_FIRST_GROUPS))
        if min(groups) < 1 or sum(groups) != self.M:
            raise ValueError(f"Groups must be >= 1 and add up to M={self.M}, but got {groups}")
        if self.N < 2 or self.M < 2:
            raise ValueError(f"Bottlenecks halve the widths, which must be >= 2, but got N={self.N}, M={self.M}")
        object.__setattr__(self, "groups", groups)

    @classmethod
    def _widths(cls, quality: int) -> tuple[int, int]:
        return 192, 320


def _bottlenecks(channels: int) -> tuple[nn.Module, ...]:
    return tuple(ResidualBottleneck(channels) for _ in range(3))


def _analysis(n: int, m: int) -> nn.Sequential:
    """g_a; latent i depends on pixels 16 i - 132 to 16 i + 132."""
    return nn.Sequential(
        conv(3, n),
        *_bottlenecks(n),
        conv(n, n),
        *_bottlenecks(n),
        AttentionBlock(n),
        conv(n, n),
        *_bottlenecks(n),
        conv(n, m),
        AttentionBlock(m),
    )


def _synthesis(n: int, m: int) -> nn.Sequential:
    """g_s; pixels 16 i to 16 i + 15 depend on latents i - 8 to i + 8."""
    return nn.Sequential(
        AttentionBlock(m),
        deconv(m, n),
        *_bottlenecks(n),
        deconv(n, n),
        AttentionBlock(n),
        *_bottlenecks(n),
        deconv(n, n),
        *_bottlenecks(n),
        deconv(n, 3),
    )


class Elic2022(SingleRateModel):
    """See the module's text.

    Args:
        config: Widths, groups and lambda.
    """

    multiple = 64
    analysis_halo = 192
    synthesis_halo = 8

    def __init__(self, config: Elic2022Config | None = None) -> None:
        c = config or Elic2022Config()
        n, m, wide = c.N, c.M, c.N * 3 // 2
        entropy = Hyperprior(
            RateFree(conv(m, n, 3, 1), nn.ReLU(), conv(n, n), nn.ReLU(), conv(n, n)),
            RateFree(deconv(n, n), nn.ReLU(), deconv(n, wide), nn.ReLU(), deconv(wide, 2 * n, 3, 1)),
            FactorizedPrior(n, learned_medians=True),
            ContextModel(space_channel(c.groups), SpaceChannelParameters(c.groups, 2 * n)),
            stride=4,
        )
        super().__init__(c, _analysis(n, m), _synthesis(n, m), entropy)


@register_model("elic2022", Elic2022Config)
def elic2022(config: Elic2022Config) -> Elic2022:
    """Build :class:`Elic2022`."""
    return Elic2022(config)
