"""What the bench measures: anything that turns an item into bytes and bytes into an item."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Coder", "CoderFacts", "FunctionCoder", "create_coder", "list_coders", "register_coder"]

_MODULES: Final = (
    "triode.eval.ours",
    "triode.eval.ours_video",
    "triode.eval.anchors.pillow",
    "triode.eval.anchors.jxl",
    "triode.eval.anchors.heif",
    "triode.eval.anchors.vvc",
    "triode.eval.anchors.compressai",
    "triode.eval.anchors.audio",
    "triode.eval.anchors.neural_audio",
    "triode.eval.anchors.video",
)
"""Modules that register coders; a new family adds its line here."""


@dataclass(frozen=True, slots=True)
class CoderFacts:
    """What a report says of a coder beside its measurements.

    Attributes:
        title: For people, such as ``AVIF (libaom, speed 6, 4:4:4)``.
        kind: ``learned``, ``classical`` or ``custom``.
        options: Exact options of the encoder.
        versions: Versions of the libraries that do the work, by name.
        parameters: Number of parameters of a network.
        encode_kmac: Thousands of multiplications with addition to encode, a pixel or sample.
        decode_kmac: The same to decode.
        digest: SHA-256 of the weights, or what else identifies them.
    """

    title: str
    kind: str = "classical"
    options: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    parameters: int | None = None
    encode_kmac: float | None = None
    decode_kmac: float | None = None
    digest: str | None = None


class Coder(ABC):
    """A codec under test. An item is pixels (H, W, 3) uint8 sRGB, a ``Sound`` or a ``Clip``; see ``triode.media``.

    Attributes:
        name: Short and unique in a report: letters, digits, ``.``, ``_``, ``-``.
        media: ``image``, ``audio`` or ``video``.
        qualities: Operating points measured when the user names none, from the lowest rate to the highest.
    """

    name: str
    media: str
    qualities: tuple[float, ...]

    @abstractmethod
    def encode(self, item: Any, quality: float) -> bytes:
        """Return a complete file."""

    @abstractmethod
    def decode(self, data: bytes) -> Any:
        """Return an item of the same kind and shape from what :meth:`encode` returned."""

    @abstractmethod
    def facts(self) -> CoderFacts:
        """Return what a report says of this coder."""

    def payload_bytes(self, data: bytes) -> int:
        """Return the bytes of a file that carry the medium: without container, header and metadata where known."""
        return len(data)

    def parts(self, data: bytes) -> Mapping[str, int]:
        """Return the file's bytes by part, such as ``header``, ``z``, ``y``, summing to its size; empty if unknown."""
        return {}

    def frame_bytes(self, data: bytes) -> Sequence[int]:
        """Return the coded bytes of each frame of a clip, in the order of display; empty if unknown."""
        return ()

    def close(self) -> None:  # noqa: B027 - most coders hold nothing
        """Release what the coder holds."""


class FunctionCoder(Coder):
    """A coder made of two functions, so that any codec joins a report.

    Args:
        name: See :class:`Coder`.
        encode: Takes an item and a quality, returns bytes.
        decode: Takes these bytes, returns an item.
        qualities: Operating points from the lowest rate to the highest.
        media: ``image``, ``audio`` or ``video``.
        facts: What the report says; by default the name alone.
    """

    def __init__(
        self,
        name: str,
        encode: Callable[[Any, float], bytes],
        decode: Callable[[bytes], Any],
        qualities: Sequence[float],
        media: str = "image",
        facts: CoderFacts | None = None,
    ) -> None:
        self.name, self.media, self.qualities = name, media, tuple(qualities)
        self._encode, self._decode = encode, decode
        self._facts = facts or CoderFacts(name, kind="custom")

    def encode(self, item: Any, quality: float) -> bytes:
        """Call the function that encodes."""
        return bytes(self._encode(item, quality))

    def decode(self, data: bytes) -> Any:
        """Call the function that decodes."""
        return self._decode(data)

    def facts(self) -> CoderFacts:
        """Return what was given."""
        return self._facts


Builder = Callable[[Mapping[str, str]], Coder]
_CODERS: dict[tuple[str, str], Builder] = {}


def register_coder(name: str, *media: str) -> Callable[[Builder], Builder]:
    """Register a builder of coders under a name.

    The builder takes the options of the specification, all of them strings, and raises ``ValueError`` for one that it
    does not know or whose value is not valid, and ``UnsupportedError`` where a package that it needs is missing.

    Args:
        name: As in ``--anchors``.
        *media: Media that it codes; a builder for several finds the one wanted under the option ``media``.

    Raises:
        ValueError: If the name is taken.
    """

    def register(build: Builder) -> Builder:
        for medium in media:
            if (name, medium) in _CODERS:
                raise ValueError(f"A coder named {name!r} is registered already for {medium}")
            _CODERS[name, medium] = build
        return build

    return register


def create_coder(spec: str, media: str) -> Coder:
    """Build a coder of a specification: ``name`` or ``name:option=value,option=value``.

    Args:
        spec: Such as ``jpeg``, ``avif:speed=4,subsampling=4:2:0`` or ``triode:model=image-light.v5``.
        media: ``image``, ``audio`` or ``video``.

    Raises:
        ValueError: If the name, an option or a value is not known.
        UnsupportedError: If a package that it needs is missing.
    """
    name, _, rest = spec.partition(":")
    options: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"Options of a codec are written name:option=value, but got {spec!r}")
        options[key] = value
    if name not in list_coders(media):
        raise ValueError(f"Unknown codec {name!r} for {media}; there are {', '.join(list_coders(media))}")
    return _CODERS[name, media]({**options, "media": media})


def list_coders(media: str) -> tuple[str, ...]:
    """Return the names of the registered coders of a medium."""
    for module in _MODULES:
        importlib.import_module(module)
    return tuple(name for name, medium in _CODERS if medium == media)
