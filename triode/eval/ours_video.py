"""Triode's own codec of video on the bench."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from triode.codecs.video import GOP, VideoCodec
from triode.container import ChunkType, ContainerReader, unpack_video_unit
from triode.eval.anchors.common import torch_threads
from triode.eval.anchors.options import Options
from triode.eval.coder import Coder, CoderFacts, register_coder
from triode.eval.ours import facts_of
from triode.media import Clip
from triode.models.base import ImageModel, VideoModel
from triode.models.weights import Loaded, default_weights, load_weights

__all__ = ["TriodeVideoCoder"]


class TriodeVideoCoder(Coder):
    """The codec of video with one model; its name on the bench is the model's. One of images codes frame by frame.

    Weights are loaded and checked at construction, outside of all timing.

    Args:
        options: ``model`` (name or path of weights), ``target`` (what a quality is: ``quality``, or ``kbps``, thousand
            bits of the whole file over seconds, which the encoder keeps to), ``gop`` (most frames of a group),
            ``scenes`` (``yes`` or ``no``: whether a scene begins a group), ``threads``.

    Raises:
        ValueError: If an option is unknown or invalid.
        ModelMismatchError: If the weights are missing or damaged, or for sound.
    """

    media = "video"
    qualities: tuple[float, ...] = (10.0, 30.0, 50.0, 70.0, 90.0)

    def __init__(self, options: Options) -> None:
        model = options.text("model", default_weights("video"))
        self._target = options.choice("target", "quality", ("quality", "kbps"))
        self._gop = options.integer("gop", GOP, 1, 65535)
        self._scenes = options.choice("scenes", "yes", ("yes", "no")) == "yes"
        self._threads = options.integer("threads", 1, 1, 64)
        options.done()
        weights = load_weights(model, nn.Module)
        self._info = weights.info
        self._codec = VideoCodec(cast("Loaded[ImageModel | VideoModel]", weights), gop=self._gop, scenes=self._scenes)
        if self._target == "kbps":
            self.qualities = (100.0, 200.0, 400.0, 800.0, 1600.0)
        parts = [self._info.name, *([f"gop{self._gop}"] if self._gop != GOP else [])]
        self.name = "-".join([*parts, *([] if self._target == "quality" else [self._target])])

    def encode(self, item: Any, quality: float) -> bytes:
        """Return a ``.tri`` file.

        Args:
            item: A `Clip`.
            quality: 0 to 100, or kb/s.

        Raises:
            ValueError: If the item is no clip, or the quality is out of range.
            UnsupportedError: If no quality is within the kb/s.
        """
        if not isinstance(item, Clip):
            raise ValueError(f"Argument `item` must be a Clip, but got {type(item).__name__}")
        with torch_threads(self._threads):
            if self._target == "kbps":
                coded = self._codec.encode(item, kbps=quality)
            else:
                coded = self._codec.encode(item, quality=quality)
        return cast(bytes, coded.data)

    def decode(self, data: bytes) -> Clip:
        """Return the clip of a ``.tri`` file.

        Raises:
            CodecError: If the file is damaged or of another model.
        """
        with torch_threads(self._threads):
            return self._codec.decode(data)

    def payload_bytes(self, data: bytes) -> int:
        """Return the bytes of all units: coded frames, and what says when they are shown."""
        return self._codec.info(data).payload_bytes

    def parts(self, data: bytes) -> Mapping[str, int]:
        """Return the bytes of ``header`` (all that is nothing else), ``index``, and the frames of each kind."""
        reader = ContainerReader(io.BytesIO(data))
        head, kinds = reader.head.video, Counter[str]()
        for unit in reader.units():
            for frame in unpack_video_unit(unit.payload, head).frames:
                kinds[frame.kind.name.lower()] += len(frame.coded)
        index = sum(chunk.size for chunk in reader.structure() if chunk.type == ChunkType.INDEX)
        return {"header": len(data) - index - kinds.total(), "index": index, **kinds}

    def frame_bytes(self, data: bytes) -> tuple[int, ...]:
        """Return the coded bytes of each frame, in order."""
        return self._codec.info(data).frame_bytes

    def facts(self) -> CoderFacts:
        """Return options, versions, complexity and the SHA-256 of the file of weights."""
        alone = ", frame by frame" if self._info.media == "image" else ""
        return facts_of(
            self._info,
            f"Triode {self._info.name}{alone}{', at kb/s' if self._target == 'kbps' else ''}",
            {
                "model": self._info.name,
                "target": self._target,
                "gop": self._gop,
                "scenes": self._scenes,
                "threads": self._threads,
            },
        )


@register_coder("triode", "video")
def _build(given: Mapping[str, str]) -> Coder:
    # How long a group is says the user; the medium is known.
    return TriodeVideoCoder(Options("triode", given))
