"""Triode's own codecs of images and sound on the bench."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, cast, get_args

import numpy as np
import torch
from torch import nn

from triode.codecs.audio import CHUNK_SECONDS, AudioCodec
from triode.codecs.chunks import Chunking
from triode.codecs.image import ImageCodec
from triode.codecs.refine import Effort
from triode.codecs.search import point_to_quality
from triode.codecs.tiles import latent_size
from triode.container import MAX_CHANNELS, ChunkType, ContainerReader, read_sound_unit, tile_grid
from triode.entropy.coder import RangeReader, RangeWriter
from triode.entropy.hyperprior import Hyperprior
from triode.entropy.tables import CdfTables, Int32Array, IntArray
from triode.eval.anchors.common import Pixels, check_pixels, torch_threads
from triode.eval.anchors.options import Options
from triode.eval.anchors.sounds import check_sound
from triode.eval.coder import Coder, CoderFacts, register_coder
from triode.media import Picture, Sound
from triode.models.base import AudioModel
from triode.models.image.single_rate import SingleRateModel
from triode.models.weights import WeightsInfo, default_weights, load_weights
from triode.version import __version__

__all__ = ["TriodeImageCoder", "TriodeSoundCoder", "facts_of"]

_STAGES_MOST: Final = 8


class TriodeImageCoder(Coder):
    """The image codec with one model; its name on the bench is the model's.

    Weights are loaded and checked at construction, outside of all timing.

    Args:
        options: ``model`` (name or path of weights), ``effort`` (``none``, ``low`` or ``high``), ``threads``.

    Raises:
        ValueError: If an option is unknown or invalid.
        ModelMismatchError: If the weights are missing or damaged.
    """

    media = "image"
    qualities: tuple[float, ...] = (10.0, 30.0, 50.0, 70.0, 90.0)

    def __init__(self, options: Options) -> None:
        model = options.text("model", default_weights("image"))
        self._effort = cast(Effort, options.choice("effort", "none", get_args(Effort)))
        self._threads = options.integer("threads", 1, 1, 64)
        options.done()
        self._weights = load_weights(model)
        self._codec = ImageCodec(model)
        if isinstance(self._weights.model, SingleRateModel):
            self.qualities = (50.0,)  # all qualities are one
        name = self._weights.info.name
        self.name = name if self._effort == "none" else f"{name}-effort-{self._effort}"

    def encode(self, item: Any, quality: float) -> bytes:
        """Return a ``.tri`` file.

        Args:
            item: (H, W, 3) uint8, sRGB.
            quality: 0 to 100.

        Raises:
            ValueError: If the item or the quality is not valid.
        """
        with torch_threads(self._threads):
            return self._codec.encode(Picture(check_pixels(item)), quality=quality, effort=self._effort).data

    def decode(self, data: bytes) -> Pixels:
        """Return the pixels (H, W, 3) uint8 of a ``.tri`` file.

        Raises:
            CodecError: If the file is damaged or of another model.
        """
        with torch_threads(self._threads):
            return self._codec.decode(data).pixels

    def payload_bytes(self, data: bytes) -> int:
        """Return the entropy coded bytes of all units."""
        return self._codec.info(data).payload_bytes

    def parts(self, data: bytes) -> Mapping[str, int]:
        """Return the bytes of ``header`` (all that is no unit's payload), ``z``, ``filter`` (a restoration) and ``y``.

        The range coder makes one string of them, with no border at a byte. z and the coefficients of the filter are
        weighed by coding their symbols again, alone; y is the rest. That is right to within a byte or two a unit.
        """
        reader = ContainerReader(io.BytesIO(data))
        grid = tile_grid(reader.head.image)
        model = self._weights.model
        side = _side_tables(model)
        payload, weights = 0, Counter(dict.fromkeys(side, 0))
        for unit in reader.units():
            symbols = _SideReader(unit.payload, side)
            with torch_threads(self._threads), torch.inference_mode():
                model.decode(latent_size(model, grid[unit.index]), torch.tensor([unit.rate_point]), symbols)
                if model.restoration is not None:
                    model.restoration.read(unit.rate_point, symbols)
            payload += len(unit.payload)
            weights.update(symbols.weights())
        return {"header": len(data) - payload, **_latent_parts(payload, weights)}

    def facts(self) -> CoderFacts:
        """Return options, versions, complexity and the SHA-256 of the file of weights."""
        info = self._weights.info
        return facts_of(
            info,
            f"Triode {info.name}{'' if self._effort == 'none' else f', effort {self._effort}'}",
            {"model": info.name, "effort": self._effort, "threads": self._threads},
        )


class TriodeSoundCoder(Coder):
    """The codec of sound with one model; its name on the bench is the model's.

    Any sample rate and 1 to 8 channels are coded; recordings are resampled to the model's rate and back by the codec
    itself, as its header says. Weights are loaded and checked at construction, outside of all timing.

    Args:
        options: ``model`` (name or path of weights), ``target`` (what a quality is: ``quality``, or ``kbps``, thousand
            bits of the whole file over seconds, which the encoder searches), ``chunk`` (seconds of a unit),
            ``threads``.

    Raises:
        ValueError: If an option is unknown or invalid.
        ModelMismatchError: If the weights are missing or damaged.
    """

    media = "audio"
    qualities: tuple[float, ...] = (0.0, 20.0, 40.0, 60.0, 80.0, 100.0)

    def __init__(self, options: Options) -> None:
        model = options.text("model", "")
        self._target = options.choice("target", "quality", ("quality", "kbps"))
        self._chunk = options.number("chunk", CHUNK_SECONDS, 0.01, 3600)
        self._threads = options.integer("threads", 1, 1, 64)
        options.done()
        self._weights = load_weights(model or default_weights("audio"), AudioModel)  # type: ignore[type-abstract]
        self._codec = AudioCodec(self._weights, chunk_seconds=self._chunk)
        if self._target == "kbps":
            self.qualities = (4.0, 6.0, 9.0, 12.0, 16.0, 24.0)
        elif hasattr(self._weights.model, "rates"):
            self.qualities = _stage_qualities(self._weights.model)
        name = self._weights.info.name
        self.name = name if self._target == "quality" else f"{name}-{self._target}"

    def encode(self, item: Any, quality: float) -> bytes:
        """Return a ``.tri`` file.

        Args:
            item: The recording.
            quality: 0 to 100, or kb/s.

        Raises:
            ValueError: If the item or the quality is not valid.
            UnsupportedError: If there are no samples, or too many channels; if no quality is within the kb/s.
        """
        check_sound(item, self.name, most=MAX_CHANNELS)
        # Without the recording's tags, which none of the anchors keeps.
        with torch_threads(self._threads):
            if self._target == "kbps":
                coded = self._codec.encode(item, kbps=quality, tags=())
            else:
                coded = self._codec.encode(item, quality=quality, tags=())
        return cast(bytes, coded.data)

    def decode(self, data: bytes) -> Sound:
        """Return the recording of a ``.tri`` file, in the rate and length that it had.

        Raises:
            CodecError: If the file is damaged or of another model.
        """
        with torch_threads(self._threads):
            return self._codec.decode(data)

    def payload_bytes(self, data: bytes) -> int:
        """Return the bytes of all units, levels and rotations included: what a stream sends beside its framing."""
        return self._codec.info(data).payload_bytes

    def parts(self, data: bytes) -> Mapping[str, int]:
        """Return the bytes of ``header``, ``index``, ``levels``, ``z`` and ``y``.

        ``header`` is what frames the file and its units, ``index`` what finds units when seeking (none in a short
        file), ``levels`` the loudness and rotation of channels. z is weighed as in :meth:`TriodeImageCoder.parts`.
        """
        reader = ContainerReader(io.BytesIO(data))
        model, head = self._weights.model, reader.head.audio
        chunking = Chunking.of_file(model, head)
        side = _side_tables(model)
        payload, coded, weights = 0, 0, Counter(dict.fromkeys(side, 0))
        for unit in reader.units():
            sound = read_sound_unit(unit.payload, head, unit.index)
            symbols, frames = _SideReader(sound.coded, side), chunking.padded(head.unit_frames(unit.index))
            with torch_threads(self._threads), torch.inference_mode():
                for level in sound.levels:
                    if level is not None:
                        model.decode(frames, torch.tensor([unit.rate_point]), symbols)
            payload += len(unit.payload)
            coded += len(sound.coded)
            weights.update(symbols.weights())
        index = sum(chunk.size for chunk in reader.structure() if chunk.type == ChunkType.INDEX)
        parts = {"header": len(data) - index - payload, "index": index, "levels": payload - coded}
        return {**parts, **_latent_parts(coded, weights)}

    def facts(self) -> CoderFacts:
        """Return options, versions, complexity and the SHA-256 of the file of weights."""
        info, model = self._weights.info, self._weights.model
        return facts_of(
            info,
            f"Triode {info.name}{', searched for kb/s' if self._target == 'kbps' else ''}",
            {
                "model": info.name,
                "target": self._target,
                "chunk": self._chunk,
                "model_rate": model.sample_rate,
                "resampler": "Triode's own, a Kaiser window of 80 zero crossings",
                "threads": self._threads,
            },
        )


def _stage_qualities(model: Any) -> tuple[float, ...]:
    """Return qualities of a model with codebooks; between two numbers of stages all qualities are one."""
    count = min(len(model.rates), _STAGES_MOST)
    places = (round(n * (len(model.rates) - 1) / max(count - 1, 1)) for n in range(count))
    return tuple(point_to_quality(model.rate_point(model.rates[place])) for place in places)


def facts_of(info: WeightsInfo, title: str, options: Mapping[str, Any]) -> CoderFacts:
    """Return what a report says of a codec with weights."""
    return CoderFacts(
        title,
        kind="learned",
        options=options,
        versions={"triode": __version__, "torch": torch.__version__.split("+")[0], "numpy": np.__version__},
        parameters=info.parameters,
        encode_kmac=info.kmac_encode or None,
        decode_kmac=info.kmac_decode or None,
        digest=hashlib.sha256(info.path.read_bytes()).hexdigest(),
    )


def _side_tables(model: nn.Module) -> dict[str, CdfTables]:
    """Return the tables of what is weighed by itself, by its name, in the order of coding."""
    entropy, restoration = getattr(model, "entropy", None), getattr(model, "restoration", None)
    tables = {"z": entropy.prior.tables.get()} if isinstance(entropy, Hyperprior) else {}
    return tables if restoration is None else {**tables, "filter": restoration.tables.get()}


def _latent_parts(coded: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Return what is weighed by itself, at most what there is, and y, the rest."""
    parts, left = {}, coded
    for name, weight in weights.items():
        parts[name] = min(weight, left)
        left -= parts[name]
    return {**parts, "y": left}


class _SideReader(RangeReader):
    """A reader that codes what it reads under certain tables a second time, alone."""

    def __init__(self, data: bytes, tables: Mapping[str, CdfTables]) -> None:
        super().__init__(data)
        self._tables = tables
        self._alone = {name: RangeWriter() for name in tables}

    def read(self, index: IntArray, tables: CdfTables) -> Int32Array:
        symbols = super().read(index, tables)
        for name, known in self._tables.items():
            if tables is known:
                self._alone[name].write(symbols, index, tables)
        return symbols

    def weights(self) -> dict[str, int]:
        """Return the bytes that the symbols of each name take alone."""
        return {name: len(writer.getvalue()) for name, writer in self._alone.items()}


@register_coder("triode", "image", "audio")
def _build(given: Mapping[str, str]) -> Coder:
    options = Options("triode", given)
    return TriodeSoundCoder(options) if given.get("media") == "audio" else TriodeImageCoder(options)
