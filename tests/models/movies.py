"""Small video files with sound, made by PyAV."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from models.tiny import smooth_image


def movie(
    frames: int = 24,
    *,
    fmt: str = "mp4",
    sound: str | None = "aac",
    stamps: Sequence[int] | None = None,
    clock: Fraction = Fraction(1001, 30000),
    seconds: float = 0.8,
) -> bytes:
    """Return a video file.

    Args:
        frames: How many frames there are.
        fmt: FFmpeg's name of the container.
        sound: Encoder of the sound; None for none.
        stamps: Time stamps of the frames in ticks of `clock`; None for one a tick.
        clock: Seconds of a tick.
        seconds: Length of the sound.
    """
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=fmt) as out:
        video = out.add_stream("ffv1" if fmt == "matroska" else "mpeg4", rate=Fraction(30000, 1001))
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        video.codec_context.time_base = clock
        track = None
        if sound is not None:
            track = out.add_stream(sound, rate=48_000)
            track.layout = "mono"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(smooth_image(32, 48, 3, seed=number // 9), format="rgb24")
            frame.pts, frame.time_base = (number if stamps is None else stamps[number]), clock
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if track is not None:
            wave = (0.3 * np.sin(np.arange(int(seconds * 48_000)) * 0.05)).astype(np.float32)
            for start in range(0, len(wave) - 959, 960):
                piece = av.AudioFrame.from_ndarray(wave[None, start : start + 960], format="fltp", layout="mono")
                piece.sample_rate, piece.pts = 48_000, start
                if sound != "aac":
                    piece = av.AudioResampler(track.format.name, "mono", 48_000).resample(piece)[0]
                    piece.pts = start
                out.mux(track.encode(piece))
            out.mux(track.encode(None))
    return file.getvalue()
