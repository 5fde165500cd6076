"""One picture being encoded: tiles at any rate points, each coded once, and files made of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from triode.codecs.alpha import encode_alpha
from triode.codecs.image_decoding import Decoding
from triode.codecs.refine import encode_refined
from triode.codecs.search import point_to_quality
from triode.codecs.tiles import analyse
from triode.container import (
    ContainerReader,
    ContainerWriter,
    DecodeLimits,
    Head,
    ImageHead,
    Layout,
    MetadataKind,
    Unit,
    tile_grid,
)
from triode.entropy.coder import RangeWriter, SymbolWriter
from triode.media import Picture
from triode.models.restoration_fit import write_restoration
from triode.models.weights import Pretrained

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A coded picture.

    Attributes:
        data: The ``.tri`` file.
        model: Name of the weights.
        rate_point: Rate point of the units, 0 to 63; the lower one where a search gave some of them the next.
        quality: The same as a quality, 0 to 100.
        width: Pixels.
        height: Pixels.
        payload_bytes: Entropy coded bytes, a part of ``data``.
        psnr: PSNR of the 8-bit reconstruction in dB where a search measured it.
    """

    data: bytes
    model: str
    rate_point: int
    quality: float
    width: int
    height: int
    payload_bytes: int
    psnr: float | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """What a tile is coded at.

    Attributes:
        point: Rate point, 0 to 63.
        price: Price of errors in the encoder's choices, over what is usual at the rate point: below 1 for fewer bytes.
    """

    point: int
    price: float = 1.0


@runtime_checkable
class PricedModel(Protocol):
    """Model whose choices between bits and errors can be moved."""

    def encode_priced(self, y: Tensor, q: Tensor, writer: SymbolWriter, price: float) -> Tensor:
        """Write a latent as ``encode`` does, errors at ``price`` times what the rate point says."""
        ...


@dataclass(frozen=True, slots=True)
class _Coded:
    """A coded tile."""

    crc: int
    payload: bytes


class Encoding:
    """One picture, ready to be coded at any rate point.

    Args:
        weights: The model.
        picture: The picture.
        tile_log2: Base-2 logarithm of the tile side.
        effort: How long to search for each tile's latent: ``none``, or a key of
            :data:`~triode.codecs.refine.SCHEDULES`.
    """

    def __init__(self, weights: Pretrained, picture: Picture, tile_log2: int, effort: str = "none") -> None:
        self.model, self.info = weights.model, weights.info
        self.picture, self.effort = picture, effort
        self.colour = picture.pixels[:, :, :1] if picture.is_grey else picture.pixels[:, :, :3]
        self.head = Head(
            self.info.name,
            bytes.fromhex(self.info.entropy_digest)[:4],
            bytes.fromhex(self.info.synthesis_digest)[:4],
            ImageHead(
                picture.width,
                picture.height,
                Layout.GREY if picture.is_grey else Layout.RGB,
                alpha=picture.has_alpha,
                tile_log2=tile_log2,
            ),
        )
        self.tiles = tile_grid(self.head.image)
        self.alpha = encode_alpha(picture.pixels[:, :, -1]) if picture.has_alpha else None
        self._coded: dict[tuple[int, Rate], _Coded] = {}
        self._errors: dict[tuple[Rate, ...], list[float]] = {}

    @property
    def priced(self) -> bool:
        """Whether rates may have prices other than 1."""
        return self.effort != "none" or isinstance(self.model, PricedModel)

    def run(self, point: int, progress: Progress | None = None, *, measure: bool = False) -> Encoded:
        """Code all tiles at one rate point; see :meth:`mix`."""
        return self.mix([Rate(point)] * len(self.tiles), progress, measure=measure)

    def mix(self, rates: Sequence[Rate], progress: Progress | None = None, *, measure: bool = False) -> Encoded:
        """Code each tile at a rate of its own.

        Args:
            rates: One for each tile; prices are all 1 unless :attr:`priced`.
            progress: Called with the share done, 0 to 1.
            measure: Whether to decode the file and measure its PSNR.

        Returns:
            The file and how it came out.
        """
        out = io.BytesIO()
        payload = 0
        with ContainerWriter(out, self.head) as writer:
            blocks = ((MetadataKind.ICC, self.picture.icc), (MetadataKind.EXIF, self.picture.exif))
            for kind, data in (*blocks, (MetadataKind.XMP, self.picture.xmp)):
                if data:
                    writer.metadata(kind, data)
            if self.alpha is not None:
                writer.alpha(self.alpha)
            for index, rate in enumerate(rates):
                coded = self._tile(index, rate, _part(progress, index, len(rates)))
                writer.unit(Unit(index, rate.point, coded.crc, coded.payload))
                payload += len(coded.payload)
                if progress:
                    progress((index + 1) / len(rates))
        data, p, point = out.getvalue(), self.picture, min(rate.point for rate in rates)
        psnr = self._psnr(tuple(rates), data) if measure else None
        return Encoded(data, self.info.name, point, point_to_quality(point), p.width, p.height, payload, psnr)

    def size(self, index: int, rate: Rate, progress: Progress | None = None) -> int:
        """Return the coded bytes of a tile at a rate."""
        return len(self._tile(index, rate, progress).payload)

    def errors(self, rates: Sequence[Rate]) -> list[float]:
        """Return the sum of squared errors of each tile of a file that was measured."""
        return self._errors[tuple(rates)]

    @torch.inference_mode()
    def _tile(self, index: int, rate: Rate, progress: Progress | None) -> _Coded:
        key = index, rate
        if key not in self._coded:
            tile, writer, q = self.tiles[index], RangeWriter(), torch.tensor([rate.point])
            if self.effort != "none":
                args = self.model, self.colour, tile, rate.point, self.effort, progress
                y_hat, writer = encode_refined(*args, price=rate.price)
            elif isinstance(self.model, PricedModel):
                y_hat = self.model.encode_priced(analyse(self.model, self.colour, tile, q), q, writer, rate.price)
            else:
                y_hat = self.model.encode(analyse(self.model, self.colour, tile, q), q, writer)
            pixels = self.colour[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
            write_restoration(self.model, pixels, y_hat, rate.point, writer, rate.price)
            self._coded[key] = _Coded(writer.crc, writer.getvalue())
        return self._coded[key]

    def _psnr(self, rates: tuple[Rate, ...], data: bytes) -> float:
        errors = []
        reader = ContainerReader(io.BytesIO(data), DecodeLimits.unlimited())
        for tile, pixels in Decoding(self.model, reader).tiles():
            reference = self.colour[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
            errors.append(float(np.square(pixels.astype(np.float64) - reference).sum()))
        self._errors[rates] = errors
        return float(-10 * np.log10(max(sum(errors) / self.colour.size, 1e-10) / 255**2))


def _part(progress: Progress | None, index: int, count: int) -> Progress | None:
    """Return what a tile reports its share to."""
    return progress and (lambda share: progress((index + share) / count))
