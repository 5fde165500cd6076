"""Which weights there are and where: in the package, then in ``$TRIODE_HOME``, then at a path."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from triode.errors import ModelMismatchError
from triode.models.weights.info import NAME, SUFFIX, WeightsInfo, read_info

__all__ = ["default_weights", "find_weights", "list_weights", "locate"]

IMAGE = "image-light.v5"
"""The weights that an image is coded with when the user names none."""
VIDEO = "video-light.v2"
"""The same for video; where they are not installed, those for images code every frame on its own."""
SPEECH, GENERAL = "audio-light-speech.v1", "audio-light-general.v2"
"""Weights for sound: 16 kHz, trained on speech, and 48 kHz, trained on music too."""
_SPEECH_RATE, _SPEECH_RATE_MONO = 16_000, 24_000


def _folders() -> list[Path]:
    home = os.environ.get("TRIODE_HOME")
    return [Path(__file__).parent, *([Path(home).expanduser()] if home else [])]


def list_weights() -> tuple[WeightsInfo, ...]:
    """Return the weights that a name finds in the package and in ``$TRIODE_HOME``, by name; the package's win.

    Files that are no Triode weights, or that bear another name than the one inside, are left out.
    """
    found: dict[str, WeightsInfo] = {}
    for folder in _folders():
        for path in sorted(folder.glob("*" + SUFFIX)):
            with suppress(ModelMismatchError):
                info = read_info(path)
                if info.name == path.name.removesuffix(SUFFIX):
                    found.setdefault(info.name, info)
    return tuple(found[k] for k in sorted(found))


def default_weights(media: str, *, rate: int | None = None, channels: int = 1) -> str:
    """Return the name of the weights that a medium is coded with by default.

    Sound of up to 16 kHz, and of up to 24 kHz in one channel, which mostly is speech, is coded with the weights for
    speech, any other with the general ones. Where only one of the two is installed, it stands in for the other. Where
    there are no weights for video, those for images code every frame on its own.

    Args:
        media: ``image``, ``audio`` or ``video``.
        rate: Samples per second of a sound; None where no sound is meant in particular.
        channels: Its channels.

    Raises:
        ModelMismatchError: If there are none for it.
    """
    if media == "audio":
        speech = rate is not None and rate <= (_SPEECH_RATE_MONO if channels == 1 else _SPEECH_RATE)
        for name in (SPEECH, GENERAL) if speech else (GENERAL, SPEECH):
            if locate(name) is not None:
                return name
        raise ModelMismatchError(
            f"No weights for sound are installed: neither {SPEECH} nor {GENERAL} is in the package or in $TRIODE_HOME; "
            "other weights are taken by name or path"
        )
    if media not in {"image", "video"}:
        raise ModelMismatchError(f"No weights for {media!r} here; there are some for: image, audio, video")
    return VIDEO if media == "video" and locate(VIDEO) is not None else IMAGE


def locate(name: str) -> Path | None:
    """Return the file that a name finds in the package or in ``$TRIODE_HOME``."""
    paths = (folder / f"{name}{SUFFIX}" for folder in _folders())
    return next((path for path in paths if path.is_file()), None)


def find_weights(name: str) -> Path:
    """Find weights: in the package, then in ``$TRIODE_HOME``, then as a path. Nothing is ever downloaded.

    Args:
        name: Name, or path of a ``.safetensors`` file.

    Raises:
        ModelMismatchError: If there are none.
    """
    if name.endswith(SUFFIX):
        if Path(name).is_file():
            return Path(name)
        raise ModelMismatchError(f"No weights file at {name}")
    if NAME.fullmatch(name) and (path := locate(name)) is not None:
        return path
    known = ", ".join(info.name for info in list_weights()) or "none"
    raise ModelMismatchError(f"No weights named {name!r} here; there are: {known} ($TRIODE_HOME adds a folder)")
