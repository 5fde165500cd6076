"""Images: encoded, decoded, described."""

from __future__ import annotations

import io
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from triode.cli.common import STDIO, UsageError, first_bytes, sniff
from triode.cli.media.base import Conversion, DecodeOptions, Description, EncodeOptions, Run
from triode.cli.text import size_text
from triode.errors import CodecError, UnsupportedError, VerifyError

if TYPE_CHECKING:
    from triode.codecs.image import Encoded, ImageCodec, ImageInfo
    from triode.media import Picture

__all__ = ["ImageConversion", "ImageDecoder", "ImageEncoder", "describe_image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConversion(Conversion):
    """An image that was encoded or decoded.

    Attributes:
        bpp: Bits of the file over pixels.
        width: Pixels.
        height: Pixels.
        psnr: PSNR in dB, where a search measured it.
        effort: How long the encoder searched: `none`, `low` or `high`.
    """

    bpp: float
    width: int
    height: int
    psnr: float | None = None
    effort: str | None = None


@dataclass(frozen=True)
class ImageEncoder:
    """Encodes images.

    Attributes:
        options: How.
    """

    options: EncodeOptions

    @cached_property
    def codec(self) -> ImageCodec:
        """The codec, made when the first input needs it."""
        from triode.codecs.image import ImageCodec

        return ImageCodec(self.options.model, limits=self.options.limits)

    def encode(self, file: BinaryIO, run: Run) -> ImageConversion:
        """Encode one input."""
        options, job = self.options, run.job
        if options.kbps is not None:
            raise UsageError("--kbps is for recordings and videos; images take -q, --bpp, --size or --psnr")
        picture = self._read(file)
        encoded = self.codec.encode(
            picture,
            quality=options.quality,
            bpp=options.bpp,
            size=options.size,
            psnr=options.psnr,
            effort=options.effort,
            progress=run.progress,
        )
        if options.verify:
            self._verify(encoded, picture)
        with job.writing(overwrite=options.force) as out:
            out.write(encoded.data)
        size = len(encoded.data)
        bpp = 8 * size / (encoded.width * encoded.height)
        psnr = f", {encoded.psnr:.2f} dB" if encoded.psnr is not None else ""
        return ImageConversion(
            input=job.source,
            output=job.target,
            media="image",
            model=encoded.model,
            quality=encoded.quality,
            rate_point=encoded.rate_point,
            bytes=size,
            payload_bytes=encoded.payload_bytes,
            bpp=round(bpp, 6),
            width=encoded.width,
            height=encoded.height,
            psnr=None if encoded.psnr is None else round(encoded.psnr, 4),
            effort=options.effort,
            text=f"{size_text(size)}, {bpp:.3f} bpp, quality {encoded.quality:g}{psnr}",
            seconds=round(time.perf_counter() - run.begin, 4),
        )

    def _read(self, file: BinaryIO) -> Picture:
        from triode.io.image import read_picture

        options = self.options
        if sniff(first_bytes(file)) == "triode":
            raise UnsupportedError("this is a Triode file already; `triode decode` reads it")
        return read_picture(file, convert=options.convert, strip=options.strip, max_pixels=options.limits.max_pixels)

    def _verify(self, encoded: Encoded, picture: Picture) -> None:
        """Decode, and compare what must come back as it was: size, channels, alpha and metadata."""
        try:
            decoded = self.codec.decode(io.BytesIO(encoded.data))
        except CodecError as error:
            raise VerifyError(f"what was encoded does not decode: {error}") from error
        if decoded.pixels.shape != picture.pixels.shape:
            raise VerifyError(f"encoded {picture.pixels.shape} (H, W, C), but decoded {decoded.pixels.shape}")
        if picture.has_alpha and (decoded.pixels[:, :, -1] != picture.pixels[:, :, -1]).any():
            raise VerifyError("the decoded alpha plane is not the one that was encoded")
        for kind in ("icc", "exif", "xmp"):
            if getattr(decoded, kind) != getattr(picture, kind):
                raise VerifyError(f"the decoded {kind.upper()} block is not the one that was encoded")


@dataclass(frozen=True)
class ImageDecoder:
    """Decodes images.

    Attributes:
        options: How.
    """

    options: DecodeOptions

    @cached_property
    def codec(self) -> ImageCodec:
        """The codec, made when the first input needs it."""
        from triode.codecs.image import ImageCodec

        return ImageCodec(self.options.model, limits=self.options.limits)

    def decode(self, file: BinaryIO, run: Run) -> ImageConversion:
        """Decode one input."""
        from triode.codecs.search import point_to_quality

        job = run.job
        for option, given in (("--range", self.options.span is not None), ("--partial", self.options.partial)):
            if given:
                raise UsageError(f"{option} is for recordings and videos, and this is an image")
        suffix = self._suffix(job.target)
        info = self.codec.info(file)
        file.seek(0)
        picture = self.codec.decode(file, progress=run.progress)
        with job.writing(overwrite=self.options.force) as out:
            self._write(picture, out, suffix, piped=job.target == STDIO)
        return ImageConversion(
            input=job.source,
            output=job.target,
            media=info.media,
            model=info.model,
            quality=point_to_quality(info.rate_points[0]),
            rate_point=info.rate_points[0],
            bytes=info.bytes,
            payload_bytes=info.payload_bytes,
            bpp=round(8 * info.bytes / (info.width * info.height), 6),
            width=info.width,
            height=info.height,
            text=f"{info.width} x {info.height} from {size_text(info.bytes)}",
            seconds=round(time.perf_counter() - run.begin, 4),
        )

    def _suffix(self, target: str) -> str | None:
        """Return the format of an output, None for the default.

        Raises:
            UsageError: Images are not written in it.
        """
        from triode.io.image import find_format

        suffix = self.options.image or (None if target == STDIO else Path(target).suffix)
        try:
            find_format(suffix or "")
        except UnsupportedError as error:
            raise UsageError(str(error)) from None
        return suffix

    @staticmethod
    def _write(picture: Picture, out: BinaryIO, suffix: str | None, *, piped: bool) -> None:
        from triode.io.image import write_picture

        if not piped:
            write_picture(picture, out, suffix)
            return
        buffer = io.BytesIO()
        write_picture(picture, buffer, suffix)
        out.write(buffer.getvalue())


def describe_image(info: ImageInfo) -> Description:
    """Describe a file that holds an image."""
    colour = ("grey" if info.channels == 1 else "RGB") + (" with alpha" if info.has_alpha else "")
    bpp = 8 * info.bytes / (info.width * info.height)
    return Description(
        media=f"{info.media}, {info.width} x {info.height} pixels, {colour}",
        units=f"{info.tiles} {'tile' if info.tiles == 1 else 'tiles'}",
        count=info.tiles,
        rate=f"{bpp:.4f} bpp",
        fields={**asdict(info), "bpp": round(bpp, 6)},
        size={"width": info.width, "height": info.height},
    )
