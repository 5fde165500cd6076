"""What weights files say of themselves."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open

from triode.errors import ModelMismatchError

__all__ = ["FORMATS", "NAME", "SUFFIX", "WeightsInfo", "read_info", "read_meta"]

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
FORMATS: Final = (1, 2, 3)
"""Format 1 has all floats in float16 and no base; format 2 has all integers."""
SUFFIX: Final = ".safetensors"


@dataclass(frozen=True, slots=True)
class WeightsInfo:
    """What a weights file says of itself.

    Attributes:
        name: ``family-size.vN``, immutable once published.
        media: ``image``, ``audio`` or ``video``.
        architecture: Name of the registered model.
        config: Its configuration.
        parameters: Number of parameters.
        entropy_digest: SHA-256 in hex; must match the stream's.
        synthesis_digest: SHA-256 in hex; may differ from the stream's.
        known_answer: CRC-32 that the entropy path must give on the known pattern.
        kmac_encode: Thousand multiplications a pixel, or a sample, to encode, entropy networks included; 0 where not
            counted.
        kmac_decode: The same to decode.
        training: Steps, data, seed and the like, for people.
        path: The file.
        bytes: Its size.
    """

    name: str
    media: str
    architecture: str
    config: dict[str, Any]
    parameters: int
    entropy_digest: str
    synthesis_digest: str
    known_answer: int
    kmac_encode: float
    kmac_decode: float
    training: dict[str, Any]
    path: Path
    bytes: int


def read_info(path: Path) -> WeightsInfo:
    """Read what a weights file says of itself, without its tensors.

    Args:
        path: The file.

    Raises:
        ModelMismatchError: If it cannot be read or is no Triode weights file.
    """
    try:
        meta = read_meta(path)
        for key in ("format", "packed", "base", "derived"):
            meta.pop(key, None)
        info = WeightsInfo(path=Path(path), bytes=Path(path).stat().st_size, **meta)
        _check(info)
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelMismatchError(f"{path} is not a Triode weights file: {error}") from error
    return info


def read_meta(path: Path) -> dict[str, Any]:
    """Return the metadata of a file as they are in it.

    Raises:
        ModelMismatchError: If it is of a format that this release does not read.
        LookupError, TypeError, ValueError, AttributeError, OSError, SafetensorError: If there are none.
    """
    with safe_open(str(path), "pt") as f:
        meta: dict[str, Any] = json.loads((f.metadata() or {})["triode"])
    if meta["format"] not in FORMATS:
        valid = " and ".join(map(str, FORMATS))
        raise ModelMismatchError(f"{path}: weights of an unknown format; this release reads formats {valid}")
    return meta


def _check(info: WeightsInfo) -> None:
    """Check the types of what a file says.

    Raises:
        ValueError: If one is wrong.
    """
    for names, kinds in (
        (("name", "media", "architecture"), str),
        (("config", "training"), dict),
        (("parameters", "known_answer"), int),
        (("kmac_encode", "kmac_decode"), int | float),
    ):
        for name in names:
            if not isinstance(getattr(info, name), kinds):
                raise ValueError(f"its {name} is {getattr(info, name)!r}")
    if not NAME.fullmatch(info.name):
        raise ValueError(f"its name is {info.name!r}")
    if {len(bytes.fromhex(d)) for d in (info.entropy_digest, info.synthesis_digest)} != {32}:
        raise ValueError("its digests are no SHA-256")
