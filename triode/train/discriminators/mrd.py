"""Multi-resolution discriminator on magnitudes (UnivNet: Jang et al., Interspeech 2021)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from triode.train.discriminators.layers import Judge, Spectrum, conv2d
from triode.train.discriminators.verdict import Discriminator, Verdict

__all__ = ["MultiResolutionDiscriminator"]

_SLOPE = 0.2


class MultiResolutionDiscriminator(Discriminator):
    """A judge for each resolution of the magnitude spectrum, whose layers halve the number of frames.

    Args:
        channels: Channels C of the signals.
        resolutions: Points of the transform, hop and window of each, in samples.
        width: Channels of all layers.
    """

    def __init__(
        self,
        channels: int = 1,
        resolutions: Sequence[tuple[int, int, int]] = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)),
        width: int = 32,
    ) -> None:
        super().__init__()
        self.spectra = nn.ModuleList(Spectrum(*resolution) for resolution in resolutions)
        self.judges = nn.ModuleList(
            Judge(
                [
                    conv2d(channels, width, (3, 9)),
                    *(conv2d(width, width, (3, 9), (1, 2)) for _ in range(3)),
                    conv2d(width, width, (3, 3)),
                ],
                conv2d(width, 1, (3, 3)),
                _SLOPE,
            )
            for _ in resolutions
        )

    def forward(self, x: Tensor) -> Verdict:
        """Judge signals (B, C, T).

        Raises:
            ValueError: If half of the longest transform cannot be mirrored.
        """
        results = [judge(spectrum(x).abs()) for spectrum, judge in zip(self.spectra, self.judges, strict=True)]
        return Verdict(tuple(logits for logits, _ in results), tuple(features for _, features in results))
