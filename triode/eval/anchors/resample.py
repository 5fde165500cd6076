"""The resampler of the audio anchors: linear phase and without delay, so that what comes back lies where it was."""

from __future__ import annotations

import functools
import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from triode.errors import UnsupportedError

__all__ = ["RESAMPLER", "resample"]

_CROSSINGS: Final = 64
_CUTOFF: Final = 0.96
_BETA: Final = 10.0
_MOST: Final = 1 << 16

RESAMPLER: Final = (
    f"scipy.signal.resample_poly, Kaiser window (beta {_BETA:g}) of {2 * _CROSSINGS} zero crossings, -6 dB at"
    f" {_CUTOFF:g} of the lower Nyquist frequency"
)
"""What the resampler is, for the options of a coder."""


def resample(samples: NDArray[np.float32], source: int, target: int) -> NDArray[np.float32]:
    """Change the rate of a recording.

    The filter is flat to 0.01 dB up to 0.9 of the lower Nyquist frequency, and 90 dB down from 1.02 of it.

    Args:
        samples: (C, T).
        source: Rate of the samples, in Hz.
        target: Rate wanted, in Hz.

    Returns:
        (C, ceil(T * target / source)) float32; the samples themselves where the rates are equal.

    Raises:
        UnsupportedError: If the rates have too little in common, or SciPy is missing.
    """
    if source == target:
        return samples
    signal = _scipy()
    divisor = math.gcd(source, target)
    up, down = target // divisor, source // divisor
    if max(up, down) > _MOST:
        raise UnsupportedError(
            f"{source} Hz cannot be resampled to {target} Hz: their ratio is no fraction of small numbers"
        )
    return np.asarray(signal.resample_poly(samples, up, down, axis=1, window=_filter(max(up, down))), np.float32)


@functools.lru_cache(maxsize=8)
def _filter(ratio: int) -> NDArray[np.float32]:
    """Return the low-pass filter at `ratio` times the lower rate."""
    taps = 2 * _CROSSINGS * ratio + 1
    return np.asarray(_scipy().firwin(taps, _CUTOFF / ratio, window=("kaiser", _BETA)), np.float32)


def _scipy() -> Any:
    try:
        from scipy import signal
    except ImportError as error:
        raise UnsupportedError("resampling needs SciPy, which is not installed: pip install 'triode[bench]'") from error
    return signal
