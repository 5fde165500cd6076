"""`triode encode`: media files to `.tri` files."""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, get_args

from triode.cli import arguments
from triode.cli.batch import Report, run
from triode.cli.common import STDIO, UsageError, limits_of, open_any, shown, sniff, write_stdout
from triode.cli.targets import Job, plan
from triode.cli.text import size_text
from triode.errors import CodecError, UnsupportedError, VerifyError

if TYPE_CHECKING:
    from triode.codecs.image import Encoded, ImageCodec
    from triode.container import DecodeLimits
    from triode.media import Picture

__all__ = ["EncodeRecord", "EncodeTask", "add_parser"]

Effort = Literal["none", "low", "high"]


@dataclass(frozen=True, slots=True)
class EncodeRecord:
    """A file that was encoded.

    Attributes:
        input: The input as it was given.
        output: The output, `-` for standard output.
        media: Kind of media.
        model: Name of the weights.
        quality: Quality that was asked for, or that a search came to, 0 to 100.
        rate_point: Rate point of the model, 0 to 63.
        bytes: Size of the file.
        payload_bytes: Entropy-coded bytes in it.
        bpp: Bits of the file over pixels.
        width: Pixels.
        height: Pixels.
        psnr: PSNR in dB, where a search measured it.
        effort: How long the encoder searched: `none`, `low` or `high`.
        seconds: Wall-clock time from opening the input to the finished output.
    """

    input: str
    output: str
    media: str
    model: str
    quality: float
    rate_point: int
    bytes: int
    payload_bytes: int
    bpp: float
    width: int
    height: int
    psnr: float | None
    effort: str
    seconds: float

    def json(self) -> str:
        """Return a JSON object on one line."""
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None})

    def summary(self) -> str:
        """Return text for people."""
        psnr = f", {self.psnr:.2f} dB" if self.psnr is not None else ""
        return (
            f"{shown(self.input, 'input')} -> {shown(self.output, 'output')}: {size_text(self.bytes)}, "
            f"{self.bpp:.3f} bpp, quality {self.quality:g}{psnr}, {self.seconds:.2f} s"
        )


@dataclass(frozen=True)
class EncodeTask:
    """Encodes images.

    Attributes:
        model: Name or path of the weights; None for the default.
        quality: 0 to 100.
        bpp: Largest rate, in bits a pixel.
        size: Largest file, in bytes.
        psnr: Smallest PSNR, in dB.
        effort: How long to search: `none`, `low` or `high`.
        verify: Whether to decode the result before it is written.
        force: Whether to overwrite.
        convert: Whether to convert pixels that cannot be stored as they are.
        strip: Whether to leave out metadata.
        limits: Bounds on the pixels of the input.
    """

    model: str | None
    quality: float | None
    bpp: float | None
    size: int | None
    psnr: float | None
    effort: Effort
    verify: bool
    force: bool
    convert: bool
    strip: bool
    limits: DecodeLimits

    @cached_property
    def codec(self) -> ImageCodec:
        """The codec, made when the first input needs it."""
        from triode.codecs.image import ImageCodec

        return ImageCodec(self.model, limits=self.limits)

    def run(self, job: Job, progress: Callable[[float], None] | None) -> EncodeRecord:
        """Encode one input."""
        from triode.io.files import atomic_write

        begin = time.perf_counter()
        job.claim(overwrite=self.force)
        with open_any(job.source) as file:
            picture = self._read(file)
        encoded = self.codec.encode(
            picture,
            quality=self.quality,
            bpp=self.bpp,
            size=self.size,
            psnr=self.psnr,
            effort=self.effort,
            progress=progress,
        )
        if self.verify:
            self._verify(encoded, picture)
        if job.target == STDIO:
            write_stdout(encoded.data)
        else:
            with atomic_write(Path(job.target), overwrite=self.force) as out:
                out.write(encoded.data)
        return EncodeRecord(
            input=job.source,
            output=job.target,
            media="image",
            model=encoded.model,
            quality=encoded.quality,
            rate_point=encoded.rate_point,
            bytes=len(encoded.data),
            payload_bytes=encoded.payload_bytes,
            bpp=round(8 * len(encoded.data) / (encoded.width * encoded.height), 6),
            width=encoded.width,
            height=encoded.height,
            psnr=None if encoded.psnr is None else round(encoded.psnr, 4),
            effort=self.effort,
            seconds=round(time.perf_counter() - begin, 4),
        )

    def _read(self, file: BinaryIO) -> Picture:
        from triode.container import identify
        from triode.io.image import read_picture

        start = file.read(16)
        file.seek(0)
        kind = sniff(start)
        if kind == "triode":
            raise UnsupportedError("this is a Triode file already; `triode decode` reads it")
        try:
            return read_picture(file, convert=self.convert, strip=self.strip, max_pixels=self.limits.max_pixels)
        except CodecError:
            if kind in {"audio", "video"}:
                raise UnsupportedError(f"this is {identify(start)}; this release encodes images") from None
            raise

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


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "encode",
        help="encode images to .tri files",
        description="Encode images (PNG, JPEG, WebP, AVIF, TIFF and whatever else Pillow reads) to .tri files.",
    )
    parser.add_argument("inputs", nargs="+", metavar="IN", help="file, folder (with -r), or - for standard input")
    arguments.add_output_options(parser, ".tri as its suffix")
    parser.add_argument("-m", "--model", help="name of weights (see `triode models`) or path of a .safetensors")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("-q", "--quality", type=arguments.quality, metavar="0..100", help="quality (default 50)")
    target.add_argument("--bpp", type=arguments.positive, metavar="X", help="largest rate, in bits a pixel")
    target.add_argument("--size", type=arguments.count, metavar="N", help="largest file, for example 20k or 1.5M")
    target.add_argument("--psnr", type=arguments.positive, metavar="DB", help="smallest PSNR, in dB")
    parser.add_argument(
        "--effort",
        choices=get_args(Effort),
        default="none",
        help="how long to search for a smaller file of equal quality (default none)",
    )
    parser.add_argument("--verify", action="store_true", help="decode the result and compare before it is written")
    parser.add_argument(
        "--convert", action="store_true", help="convert CMYK, Lab, 16-bit and float pixels instead of refusing them"
    )
    parser.add_argument("--strip", action="store_true", help="leave out ICC, EXIF and XMP")
    arguments.add_batch_options(parser)
    arguments.add_limit_options(parser)
    arguments.add_report_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from triode.io.image import READABLE

    jobs = plan(
        args.inputs,
        output=args.output,
        output_dir=args.output_dir,
        recursive=args.recursive,
        rename=lambda path: path.with_suffix(".tri"),
        wanted=lambda path: path.suffix.lower() in READABLE,
    )
    if args.json and any(job.target == STDIO for job in jobs):
        raise UsageError("--json and the encoded file both want standard output; name a file with -o")
    task = EncodeTask(
        model=args.model,
        quality=args.quality,
        bpp=args.bpp,
        size=args.size,
        psnr=args.psnr,
        effort=args.effort,
        verify=args.verify,
        force=args.force,
        convert=args.convert,
        strip=args.strip,
        limits=limits_of(args),
    )
    report = Report(json=args.json, quiet=args.quiet, verbose=args.verbose)
    return run(task, jobs, report, workers=args.jobs)
