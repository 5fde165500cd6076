"""Metrics of speech by way of the packages pesq and pystoi: PESQ-WB, STOI and extended STOI."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
import warnings
from types import ModuleType
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triode.errors import UnsupportedError
from triode.eval.metrics.base import Metric, MetricInfo, register_metric
from triode.eval.metrics.signal import channels_of, pair_of
from triode.media import Sound

__all__ = ["ESTOI", "PESQ", "STOI", "estoi", "pesq", "stoi"]

_PESQ_RATE: Final = 16_000
_RATES: Final = range(8_000, 192_001)  # beyond these, resampling would take minutes or gigabytes
# The package's C code overruns a table of 50 utterances, which takes longer than this, and ends the process.
_SAFE_SECONDS: Final = 20
_CHILD: Final = """
import sys, numpy, pesq
pair = numpy.frombuffer(sys.stdin.buffer.read(), "<f4").reshape(2, -1)
print(pesq.pesq(16000, pair[0], pair[1], "wb"))
"""

_PESQ: Final = MetricInfo(
    name="pesq",
    title="PESQ-WB",
    unit="MOS-LQO",
    media=("audio",),
    higher_is_better=True,
    low=1.0,
    high=4.65,
    source="ITU-T P.862.2 (2007), by the package pesq; mono at 16 kHz",
    requires="pesq",
)
_STOI: Final = MetricInfo(
    name="stoi",
    title="STOI",
    unit="",
    media=("audio",),
    higher_is_better=True,
    low=-1.0,
    high=1.0,
    source="Taal, Hendriks, Heusdens, Jensen, IEEE TASLP 19(7), 2011, by the package pystoi; mono at 10 kHz",
    requires="pystoi",
)
_ESTOI: Final = MetricInfo(
    name="estoi",
    title="Extended STOI",
    unit="",
    media=("audio",),
    higher_is_better=True,
    low=-1.0,
    high=1.0,
    source="Jensen, Taal, IEEE/ACM TASLP 24(11), 2016, by the package pystoi; mono at 10 kHz",
    requires="pystoi",
)


def pesq(preds: Tensor, target: Tensor, rate: int) -> Tensor:
    """PESQ-WB: what listeners would say of the quality of speech, by ITU-T P.862.2.

    Channels are averaged to mono, which SciPy's ``resample_poly`` (its default filter) brings to 16 kHz, and the pair
    goes to the package ``pesq`` whole. The standard is made for 8 to 30 seconds of speech at telephone bandwidths; of
    music it says little. Sounds of more than 20 s are measured in a process of their own, as the package's C code may
    end the one it runs in.

    Args:
        preds: (B, T) or (B, C, T) floating point, nominally in [-1, 1]; what was decoded.
        target: The same shape; the originals.
        rate: Samples per second.

    Returns:
        (B,) float64, MOS-LQO from 1.0 (bad) to 4.64 (no audible difference).

    Raises:
        ValueError: If the shapes are wrong, as in :func:`~triode.eval.metrics.signal.channels_of`, or the rate is not
            positive.
        UnsupportedError: If a package is missing, or PESQ is not defined for an item: no speech is found in it, what
            was decoded is silent, it is shorter than a quarter of a second, has too many utterances, or its rate is
            not 8 to 192 kHz.
    """
    pairs = _mono(preds, target, rate)
    package = _package("pesq")
    return torch.tensor([_pesq_of(package, *pair, rate) for pair in pairs], dtype=torch.float64)


def stoi(preds: Tensor, target: Tensor, rate: int) -> Tensor:
    """Short-time objective intelligibility of Taal et al., 2011: how much of the speech can be understood.

    Channels are averaged to mono, which the package ``pystoi`` brings to 10 kHz with Octave's resampling filter; frames
    in which the original is 40 dB under its loudest are left out.

    Args:
        preds: (B, T) or (B, C, T) floating point, nominally in [-1, 1]; what was decoded.
        target: The same shape; the originals.
        rate: Samples per second.

    Returns:
        (B,) float64: a mean of correlations, up to 1 (all is understood), in practice above 0.

    Raises:
        ValueError: If the shapes are wrong, as in :func:`~triode.eval.metrics.signal.channels_of`, or the rate is not
            positive.
        UnsupportedError: If the package is missing, an item holds less than 0.4 s that is not silent, or the
            rate is not 8 to 192 kHz.
    """
    return _stoi(preds, target, rate, extended=False)


def estoi(preds: Tensor, target: Tensor, rate: int) -> Tensor:
    """Extended STOI of Jensen and Taal, 2016, which follows noise that comes and goes better than STOI does.

    Args:
        preds: (B, T) or (B, C, T) floating point, nominally in [-1, 1]; what was decoded.
        target: The same shape; the originals.
        rate: Samples per second.

    Returns:
        (B,) float64: a mean of correlations, up to 1 (all is understood), in practice above 0.

    Raises:
        ValueError: As :func:`stoi`.
        UnsupportedError: As :func:`stoi`.
    """
    return _stoi(preds, target, rate, extended=True)


def _mono(preds: Tensor, target: Tensor, rate: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return (decoded, original) of every item, each (T,)."""
    if rate < 1:
        raise ValueError(f"Argument `rate` must be positive, but got {rate}")
    sides = [batch.detach().double().mean(1).cpu().numpy() for batch in channels_of(preds, target)]
    if not all(np.isfinite(side).all() for side in sides):
        raise ValueError("Arguments `preds` and `target` must be finite")
    return list(zip(*sides, strict=True))


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UnsupportedError(f"This metric needs the package {name}: pip install 'triode[bench]'") from error


def _refuse_rate(rate: int) -> None:
    if rate not in _RATES:
        raise UnsupportedError(f"Metrics of speech take {_RATES[0]} to {_RATES[-1]} Hz, but this item has {rate} Hz")


def _pesq_of(package: Any, decoded: NDArray[np.float64], original: NDArray[np.float64], rate: int) -> float:
    _refuse_rate(rate)
    for side, what in ((original, "the original"), (decoded, "what was decoded")):
        if not side.any():
            raise UnsupportedError(f"PESQ is not defined for this item: {what} is silent")
    pair = np.stack([_at_16_khz(side, rate) for side in (original, decoded)]).astype("<f4")
    if pair.shape[1] > _SAFE_SECONDS * _PESQ_RATE:
        return _pesq_apart(pair)
    try:
        return float(package.pesq(_PESQ_RATE, pair[0], pair[1], "wb"))
    except (package.PesqError, ValueError) as error:
        raise UnsupportedError(f"PESQ is not defined for this item: {_said(error)}") from error


def _pesq_apart(pair: NDArray[np.float32]) -> float:
    """Take PESQ of a long pair (2, T) in a child process, which the package may end."""
    command = [sys.executable, "-c", _CHILD]
    done = subprocess.run(command, input=pair.tobytes(), capture_output=True, check=False)  # noqa: S603
    try:
        return float(done.stdout)
    except ValueError:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        said = lines[-1] if done.returncode > 0 and lines else "it has too many utterances; cut it into shorter items"
        raise UnsupportedError(f"PESQ is not defined for this item: {said}") from None


def _said(error: Exception) -> str:
    text = error.args[0] if error.args else ""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(error)


def _at_16_khz(x: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    if rate == _PESQ_RATE:
        return x
    try:
        from scipy.signal import resample_poly
    except ImportError as error:
        raise UnsupportedError("Resampling needs the package scipy: pip install 'triode[bench]'") from error
    common = math.gcd(rate, _PESQ_RATE)
    resampled: NDArray[np.float64] = resample_poly(x, _PESQ_RATE // common, rate // common)
    return resampled


def _stoi(preds: Tensor, target: Tensor, rate: int, *, extended: bool) -> Tensor:
    pairs = _mono(preds, target, rate)
    package = _package("pystoi")
    found = [_stoi_of(package, *pair, rate, extended=extended) for pair in pairs]
    return torch.tensor(found, dtype=torch.float64)


def _stoi_of(
    package: Any, decoded: NDArray[np.float64], original: NDArray[np.float64], rate: int, *, extended: bool
) -> float:
    _refuse_rate(rate)
    if not original.any():
        raise UnsupportedError("STOI is not defined for this item: the original is silent")
    if not decoded.any():
        return 0.0
    # ESTOI adds noise of 1e-16 out of NumPy's global generator, which comes to show where what was decoded is silent.
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            # It warns and returns 1e-5 where there are too few frames.
            warnings.simplefilter("error", RuntimeWarning)
            return float(package.stoi(original, decoded, rate, extended=extended))
    except (RuntimeWarning, ValueError, IndexError) as error:
        raise UnsupportedError("STOI is not defined for this item: less than 0.4 s of it is not silent") from error
    finally:
        np.random.set_state(state)  # noqa: NPY002


class _OfSpeech(Metric):
    def __init__(self, rate: int) -> None:
        """Make an empty mean.

        Args:
            rate: Samples per second of all items.
        """
        super().__init__()
        self.rate = rate


class PESQ(_OfSpeech):
    """Mean of :func:`pesq` over items."""

    info = _PESQ

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return :func:`pesq` of every item."""
        return [float(value) for value in pesq(preds, target, self.rate)]


class STOI(_OfSpeech):
    """Mean of :func:`stoi` over items."""

    info = _STOI

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return :func:`stoi` of every item."""
        return [float(value) for value in stoi(preds, target, self.rate)]


class ESTOI(_OfSpeech):
    """Mean of :func:`estoi` over items."""

    info = _ESTOI

    def values(self, preds: Tensor, target: Tensor) -> list[float]:
        """Return :func:`estoi` of every item."""
        return [float(value) for value in estoi(preds, target, self.rate)]


@register_metric(_PESQ)
def _measure_pesq(decoded: Sound, original: Sound) -> float:
    return float(pesq(*pair_of(decoded, original), original.rate))


@register_metric(_STOI)
def _measure_stoi(decoded: Sound, original: Sound) -> float:
    return float(stoi(*pair_of(decoded, original), original.rate))


@register_metric(_ESTOI)
def _measure_estoi(decoded: Sound, original: Sound) -> float:
    return float(estoi(*pair_of(decoded, original), original.rate))
