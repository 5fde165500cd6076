"""Metrics of video in YUV 4:2:0 with 8 bits: PSNR of planes, MS-SSIM of luma, flicker, and VMAF and XPSNR by FFmpeg."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from triode.errors import CodecError, UnsupportedError
from triode.eval.metrics.base import Metric, MetricInfo, register_metric
from triode.eval.metrics.images import CAP_DB
from triode.eval.metrics.msssim import ms_ssim
from triode.media import Clip

__all__ = [
    "VMAF",
    "XPSNRY",
    "Flicker",
    "VideoMSSSIMY",
    "VideoPSNRY",
    "VideoPSNRYUV611",
    "flicker",
    "frame_psnr",
    "video_ms_ssim_y",
    "video_psnr_y",
    "video_psnr_yuv611",
    "vmaf",
    "xpsnr_y",
]

_PEAK: Final = 255.0
_MIN_MS_SSIM: Final = 161
_MIN_VMAF: Final = 32  # libvmaf crashes on 16 x 16
_VMAF_MODEL: Final = "vmaf_v0.6.1"

_PSNR_YUV: Final = MetricInfo(
    name="psnr-yuv611",
    title="PSNR (YUV 6:1:1)",
    unit="dB",
    media=("video",),
    higher_is_better=True,
    low=0.0,
    high=CAP_DB,
    source="Ohm et al., IEEE TCSVT 22(12), 2012, as in the papers on DCVC: (6 Y + U + V) / 8 of the PSNRs of a frame, "
    "then the mean over frames",
)
_PSNR_Y: Final = MetricInfo(
    name="video-psnr-y",
    title="PSNR (luma)",
    unit="dB",
    media=("video",),
    higher_is_better=True,
    low=0.0,
    high=CAP_DB,
    source="10 log10(255^2 / MSE) of every frame's luma, then the mean over frames",
)
_MS_SSIM_Y: Final = MetricInfo(
    name="ms-ssim-y",
    title="MS-SSIM (luma)",
    unit="",
    media=("video",),
    higher_is_better=True,
    low=0.0,
    high=1.0,
    source="Z. Wang, E. P. Simoncelli, A. C. Bovik, Asilomar 2003; of every frame's luma, then the mean over frames",
)
_FLICKER: Final = MetricInfo(
    name="flicker",
    title="Flicker",
    unit="",
    media=("video",),
    higher_is_better=False,
    low=0.0,
    high=2 * _PEAK,
    source="Defined here: mean |difference of temporal differences| of luma, in steps of 8 bits",
)
_VMAF: Final = MetricInfo(
    name="vmaf",
    title="VMAF",
    unit="",
    media=("video",),
    higher_is_better=True,
    low=0.0,
    high=100.0,
    source=f"Netflix, model {_VMAF_MODEL} as built into libvmaf, by FFmpeg; the mean over frames",
    requires="imageio-ffmpeg",
)
_XPSNR_Y: Final = MetricInfo(
    name="xpsnr-y",
    title="XPSNR (luma)",
    unit="dB",
    media=("video",),
    higher_is_better=True,
    low=0.0,
    high=CAP_DB,
    source="Helmrich et al.: XPSNR, ICASSP 2020, by FFmpeg's filter xpsnr",
    requires="imageio-ffmpeg",
)


def _check(preds: Clip, target: Clip) -> None:
    if preds.y.shape != target.y.shape:
        found = f"{preds.y.shape} for {target.y.shape}"
        raise ValueError(f"Clips must have equal frames, heights and widths, but decoded has {found}")


def frame_psnr(preds: Clip, target: Clip, plane: Literal["y", "u", "v"] = "y") -> NDArray[np.float64]:
    """PSNR of one plane of every frame, ``10 log10(255^2 / MSE)``, on samples as they are stored.

    Args:
        preds: What was decoded.
        target: The original, of the same size and number of frames; rates, matrices and ranges are not compared.
        plane: Which plane.

    Returns:
        (T,) in dB from 0 to 100, which stands for more, such as for identical planes.

    Raises:
        ValueError: If sizes differ or there is no such plane.
    """
    _check(preds, target)
    if plane not in ("y", "u", "v"):
        raise ValueError(f"Argument `plane` must be 'y', 'u' or 'v', but got {plane!r}")
    pairs = zip(getattr(preds, plane), getattr(target, plane), strict=True)
    errors = np.array([np.square(a.astype(np.int32) - b).mean(dtype=np.float64) for a, b in pairs])
    decibels: NDArray[np.float64] = -10 * np.log10(np.maximum(errors / _PEAK**2, 10 ** (-CAP_DB / 10)))
    return decibels


def video_psnr_y(preds: Clip, target: Clip) -> float:
    """PSNR of luma, the mean of the frames' values in dB.

    Args:
        preds: What was decoded.
        target: The original, of the same size and number of frames.

    Returns:
        dB from 0 to 100.

    Raises:
        ValueError: If sizes differ.
    """
    return float(frame_psnr(preds, target).mean())


def video_psnr_yuv611(preds: Clip, target: Clip) -> float:
    """PSNR of luma and chroma as in the papers on DCVC: ``(6 Y + U + V) / 8`` of a frame's PSNRs, then the mean.

    The weights are those of Ohm et al., "Comparison of the coding efficiency of video coding standards", IEEE TCSVT
    22(12), 2012. CompressAI weights 4:1:1, and Cool-chic takes the PSNR of a weighted MSE: three figures that do not
    compare.

    Args:
        preds: What was decoded.
        target: The original, of the same size and number of frames.

    Returns:
        dB from 0 to 100; each plane of each frame counts for at most 100.

    Raises:
        ValueError: If sizes differ.
    """
    y, u, v = (frame_psnr(preds, target, plane) for plane in ("y", "u", "v"))
    return float(((6 * y + u + v) / 8).mean())


def video_ms_ssim_y(preds: Clip, target: Clip) -> float:
    """MS-SSIM of luma, :func:`triode.eval.metrics.msssim.ms_ssim` of every frame, averaged over frames.

    Args:
        preds: What was decoded.
        target: The original, of the same size and number of frames.

    Returns:
        From 0 to 1, higher is better.

    Raises:
        ValueError: If sizes differ.
        UnsupportedError: If frames are under 161 x 161 pixels.
    """
    _check(preds, target)
    if min(target.width, target.height) < _MIN_MS_SSIM:
        least = f"{_MIN_MS_SSIM} x {_MIN_MS_SSIM}"
        raise UnsupportedError(f"MS-SSIM needs frames of at least {least}, but got {target.width} x {target.height}")
    frames = ([torch.from_numpy(y.copy())[None, None] for y in pair] for pair in zip(preds.y, target.y, strict=True))
    return math.fsum(float(ms_ssim(a, b, data_range=_PEAK)) for a, b in frames) / target.frames


def flicker(preds: Clip, target: Clip) -> float:
    """Temporal difference error: how much what was decoded moves where the original does not, and the reverse.

    The mean over pixels and over pairs of frames that follow each other of ``|(d[t] - d[t-1]) - (o[t] - o[t-1])|``,
    where d is the luma of what was decoded and o that of the original. An error that stays as it is from frame to frame
    costs nothing; what comes and goes, such as the pulse of key frames, costs its height. There is no compensation of
    motion, so that an error that moves along with the content counts too.

    Args:
        preds: What was decoded.
        target: The original, of the same size and number of frames.

    Returns:
        Steps of 8-bit luma, from 0 (none) to 510; lower is better.

    Raises:
        ValueError: If sizes differ.
        UnsupportedError: If there are fewer than two frames.
    """
    _check(preds, target)
    if target.frames < 2:
        raise UnsupportedError("Flicker needs at least two frames")
    pixels = target.width * target.height
    last, total = preds.y[0].astype(np.int32) - target.y[0], 0
    for decoded, original in zip(preds.y[1:], target.y[1:], strict=True):
        error = decoded.astype(np.int32) - original
        total += int(np.abs(error - last).sum(dtype=np.int64))
        last = error
    return total / (pixels * (target.frames - 1))


def vmaf(preds: Clip, target: Clip) -> float:
    """VMAF of Netflix, model v0.6.1 (for 1080p at three times the height), by FFmpeg with libvmaf on one thread.

    It looks at luma alone, as stored. Smaller pictures are measured as they are, not scaled up to 1080p.

    Args:
        preds: What was decoded.
        target: The original, of the same size and number of frames.

    Returns:
        The mean over frames, from 0 to 100, higher is better. Identical clips come close to 100, not to it.

    Raises:
        ValueError: If sizes differ.
        UnsupportedError: If there is no FFmpeg with libvmaf, frames are under 32 x 32 pixels, or it fails.
    """
    _check(preds, target)
    if min(target.width, target.height) < _MIN_VMAF:
        raise UnsupportedError(f"VMAF needs frames of at least {_MIN_VMAF} x {_MIN_VMAF} pixels")
    options = f"model=version={_VMAF_MODEL}:n_threads=1:log_fmt=json:log_path="
    log = _by_ffmpeg(preds, target, "libvmaf", options)
    return float(json.loads(log)["pooled_metrics"]["vmaf"]["mean"])


def xpsnr_y(preds: Clip, target: Clip) -> float:
    """XPSNR of luma: PSNR whose errors are weighted by what masks them, by FFmpeg's filter ``xpsnr``.

    Helmrich, Siekmann, Becker, Bosse, Marpe, Wiegand, "XPSNR: a low-complexity extension of the perceptually weighted
    peak signal-to-noise ratio for high-resolution video quality assessment", ICASSP 2020. The rate of the original
    enters: above 32 frames per second, temporal activity is taken over three frames in place of two.

    Args:
        preds: What was decoded.
        target: The original, of the same size and number of frames.

    Returns:
        dB over all frames, from 0 to 100, which stands for more, higher is better.

    Raises:
        ValueError: If sizes differ.
        UnsupportedError: If there is no FFmpeg with this filter, or it fails.
    """
    _check(preds, target)
    log = _by_ffmpeg(preds, target, "xpsnr", "stats_file=")
    found = re.search(r"average.*\by:\s*(\S+)", log)
    if found is None:
        raise UnsupportedError("FFmpeg's filter xpsnr wrote no average")
    value = float(found[1])
    return min(max(value, 0.0), CAP_DB)


def _by_ffmpeg(preds: Clip, target: Clip, name: str, options: str) -> str:
    """Return the log that a filter of FFmpeg writes on two clips; ``options`` end where the log's path is to stand."""
    from triode.eval.anchors.ffmpeg import has_filter, run_ffmpeg

    if not has_filter(name):
        raise UnsupportedError(f"This FFmpeg has no filter {name}; the one of imageio-ffmpeg has")
    with tempfile.TemporaryDirectory(prefix="triode-") as folder:
        log = Path(folder, "log")
        size, rate = f"{target.width}x{target.height}", f"{target.rate.numerator}/{target.rate.denominator}"
        args = []
        for label, clip in (("decoded", preds), ("original", target)):
            path = Path(folder, label)
            _write_raw(clip, path)
            raw = ("-f", "rawvideo", "-pixel_format", "yuv420p", "-video_size", size, "-framerate", rate)
            args += [*raw, "-threads", "1", "-i", f"file:{path}"]
        graph = f"[0:v][1:v]{name}={options}{_escaped(log)}"
        try:
            run_ffmpeg([*args, "-filter_complex_threads", "1", "-lavfi", graph, "-f", "null", "-"])
            return log.read_text("utf-8")
        except (CodecError, OSError) as error:
            raise UnsupportedError(f"FFmpeg's filter {name} failed: {error}") from error


def _write_raw(clip: Clip, path: Path) -> None:
    with path.open("wb") as file:
        for planes in zip(clip.y, clip.u, clip.v, strict=True):
            for plane in planes:
                file.write(plane.tobytes())


def _escaped(path: Path) -> str:
    """Escape a path twice, as an option's value and as a part of a filter graph."""
    value = re.sub(r"([\\':])", r"\\\1", path.as_posix())
    return re.sub(r"([\\'\[\],;])", r"\\\1", value)


class _OfClips(Metric):
    def __init__(self, function: Callable[[Clip, Clip], float]) -> None:
        super().__init__()
        self._function = function

    def values(self, preds: Clip, target: Clip) -> list[float]:
        """Return the metric of one clip."""
        return [self._function(preds, target)]


class VideoPSNRYUV611(_OfClips):
    """Mean of :func:`video_psnr_yuv611` over clips."""

    info = _PSNR_YUV

    def __init__(self) -> None:
        super().__init__(video_psnr_yuv611)


class VideoPSNRY(_OfClips):
    """Mean of :func:`video_psnr_y` over clips."""

    info = _PSNR_Y

    def __init__(self) -> None:
        super().__init__(video_psnr_y)


class VideoMSSSIMY(_OfClips):
    """Mean of :func:`video_ms_ssim_y` over clips."""

    info = _MS_SSIM_Y

    def __init__(self) -> None:
        super().__init__(video_ms_ssim_y)


class Flicker(_OfClips):
    """Mean of :func:`flicker` over clips."""

    info = _FLICKER

    def __init__(self) -> None:
        super().__init__(flicker)


class VMAF(_OfClips):
    """Mean of :func:`vmaf` over clips."""

    info = _VMAF

    def __init__(self) -> None:
        super().__init__(vmaf)


class XPSNRY(_OfClips):
    """Mean of :func:`xpsnr_y` over clips."""

    info = _XPSNR_Y

    def __init__(self) -> None:
        super().__init__(xpsnr_y)


register_metric(_PSNR_YUV)(video_psnr_yuv611)
register_metric(_PSNR_Y)(video_psnr_y)
register_metric(_MS_SSIM_Y)(video_ms_ssim_y)
register_metric(_FLICKER)(flicker)
register_metric(_VMAF)(vmaf)
register_metric(_XPSNR_Y)(xpsnr_y)
