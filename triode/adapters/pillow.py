"""Teaches Pillow the `.tri` format: after `import triode.adapters.pillow`, `Image.open` and `Image.save` know it.

    im = Image.open("photo.tri")  # reads the header; the pixels are decoded when they are needed
    im.save("copy.tri", quality=60)

Options of `save`: `quality`, `bpp`, `size` or `psnr`, `model`, `convert`, and `icc_profile`, `exif`, `xmp`, which
default to what the image has in `info`; None or empty leaves one out.
"""

from __future__ import annotations

import io
from typing import IO, Any, BinaryIO, Final, cast

from PIL import Image, ImageFile

from triode.container import SIGNATURE, ContainerReader, Layout
from triode.errors import CodecError

__all__ = ["TriodeImageFile"]

_FORMAT: Final = "TRIODE"
_MODES: Final = {
    (Layout.GREY, False): "L",
    (Layout.GREY, True): "LA",
    (Layout.RGB, False): "RGB",
    (Layout.RGB, True): "RGBA",
}
_TARGETS: Final = ("quality", "bpp", "size", "psnr")


class TriodeImageFile(ImageFile.ImageFile):
    """A `.tri` image that Pillow opens: its size, mode and metadata at once, its pixels when they are needed."""

    format = _FORMAT
    format_description = "Triode learned image"

    def _open(self) -> None:
        """Read the header and the metadata.

        Raises:
            SyntaxError: Not a Triode file.
            OSError: A Triode file that is damaged, or that this release does not read.
        """
        assert self.fp is not None  # noqa: S101
        if not _accept(self.fp.read(len(SIGNATURE))):
            raise SyntaxError("not a Triode file")
        self.fp.seek(0)
        try:
            reader = ContainerReader(self.fp)
            body, metadata = reader.head.image, reader.metadata
        except CodecError as error:
            raise OSError(f"cannot open this Triode file: {error}") from error
        self._size = body.width, body.height
        self._mode = _MODES[body.layout, body.alpha]
        if metadata.icc:
            self.info["icc_profile"] = metadata.icc
        if metadata.exif:
            self.info["exif"] = b"Exif\x00\x00" + metadata.exif
        if metadata.xmp:
            self.info["xmp"] = metadata.xmp
        self._encoded = True

    def load(self) -> Any:
        """Decode the pixels, if that has not been done.

        Raises:
            OSError: The file is damaged, or its model is not installed.
        """
        if self._encoded and self.fp is not None:
            from triode.codecs.image import ImageCodec

            self.fp.seek(0)
            try:
                picture = ImageCodec().decode(cast("BinaryIO", self.fp))
            except CodecError as error:
                raise OSError(f"cannot decode this Triode file: {error}") from error
            self._encoded = False
            if self._exclusive_fp:
                self.fp.close()
            self.fp = io.BytesIO(picture.pixels.tobytes())
            self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), 0, self.mode)]
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Do nothing: the pixels come from memory, from their beginning."""


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(SIGNATURE)


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    """Encode for `Image.save`.

    Raises:
        OSError: The image cannot be encoded, or not as asked.
    """
    from triode.codecs.image import ImageCodec
    from triode.io.pil import picture_from_pil

    options = image.encoderinfo
    source = image.copy()
    for key in ("icc_profile", "exif", "xmp"):
        block = options.get(key, image.info.get(key))
        source.info.pop(key, None)
        if block:
            source.info[key] = block.tobytes() if isinstance(block, Image.Exif) else block
    targets = {key: options[key] for key in _TARGETS if options.get(key) is not None}
    try:
        picture = picture_from_pil(source, convert=bool(options.get("convert", False)))
        fp.write(ImageCodec(options.get("model")).encode(picture, **targets).data)
    except CodecError as error:
        raise OSError(f"cannot write this image as {_FORMAT}: {error}") from error


Image.register_open(_FORMAT, TriodeImageFile, _accept)
Image.register_save(_FORMAT, _save)
Image.register_extension(_FORMAT, ".tri")
Image.register_mime(_FORMAT, "image/x-triode")
