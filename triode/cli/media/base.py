"""What the media share: options of a conversion, and the record that it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from triode.cli.common import shown
from triode.cli.span import Span
from triode.cli.targets import Job

if TYPE_CHECKING:
    from triode.container import DecodeLimits

__all__ = ["Conversion", "DecodeOptions", "Description", "Effort", "EncodeOptions", "Run", "SoundMode"]

Effort = Literal["none", "low", "high"]
SoundMode = Literal["copy", "triode", "none"]


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How files are encoded.

    Attributes:
        model: Name or path of the weights; None for the default.
        quality: 0 to 100.
        bpp: Largest rate of an image, in bits a pixel.
        kbps: Largest rate of a recording or a video, in thousand bits a second.
        size: Largest file, in bytes.
        psnr: Smallest PSNR of an image, in dB.
        effort: How long to search, with an image.
        verify: Whether to decode the result before it is written.
        force: Whether to overwrite.
        convert: Whether to convert pixels that cannot be stored as they are.
        strip: Whether to leave out metadata.
        sound: What becomes of the sound of a video.
        gop: Most frames of a group of a video; None for the default.
        scenes: Whether a scene of a video begins a group.
        resume: Whether to keep a journal beside the output of a video, and to go on from the one that is there.
        groups: How many groups of a video are coded at a time, in processes; None for threads, as many as there are.
        ray: Whether on Ray, which has been started.
        limits: Bounds on the input.
    """

    model: str | None
    quality: float | None
    bpp: float | None
    kbps: float | None
    size: int | None
    psnr: float | None
    effort: Effort
    verify: bool
    force: bool
    convert: bool
    strip: bool
    sound: SoundMode
    gop: int | None
    scenes: bool
    resume: bool
    groups: int | None
    ray: bool
    limits: DecodeLimits


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How files are decoded.

    Attributes:
        model: Name or path of weights to use; None for what each file names.
        image: Format of images, as a suffix; None to go by each output's own suffix.
        audio: The same of recordings.
        video: The same of videos.
        span: Part of a recording or a video that is wanted; None for all.
        partial: Whether to write what is left of a damaged recording or video.
        force: Whether to overwrite.
        limits: What a file may ask for.
    """

    model: str | None
    image: str | None
    audio: str | None
    video: str | None
    span: Span | None
    partial: bool
    force: bool
    limits: DecodeLimits


@dataclass(frozen=True, slots=True)
class Run:
    """One conversion that is under way.

    Attributes:
        job: Input and output.
        begin: When it began, by `time.perf_counter`.
        progress: Is told the share that is done, 0 to 1.
    """

    job: Job
    begin: float
    progress: Callable[[float], None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What is told of a `.tri` file, and differs between media.

    Attributes:
        media: What it holds.
        units: How many units there are, and of which kind.
        count: Their number.
        rate: Its size over what it holds.
        tags: What it says of what it holds, names and values.
        fields: All that is known of it, for JSON.
        size: The size of what it holds, for JSON.
    """

    media: str
    units: str
    count: int
    rate: str
    tags: tuple[tuple[str, str], ...] = ()
    fields: Mapping[str, Any]
    size: Mapping[str, int | float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """A file that was encoded or decoded.

    Attributes:
        input: The input as it was given.
        output: The output, `-` for standard output.
        media: Kind of media.
        model: Name of the weights.
        quality: Quality of the file, 0 to 100: what was asked for, or what a search came to.
        rate_point: Rate point of the model, 0 to 63.
        bytes: Size of the `.tri` file.
        payload_bytes: Entropy-coded bytes in it.
        text: What came of it, for people; no part of the JSON object.
        seconds: Wall-clock time from opening the input to the finished output.
    """

    input: str
    output: str
    media: str
    model: str
    quality: float | None
    rate_point: int | None
    bytes: int
    payload_bytes: int | None
    text: str
    seconds: float

    def json(self) -> str:
        """Return a JSON object on one line."""
        fields: dict[str, Any] = {key: value for key, value in asdict(self).items() if value is not None}
        del fields["text"]
        fields["seconds"] = fields.pop("seconds")  # behind what only one medium has
        return json.dumps(fields)

    def summary(self) -> str:
        """Return text for people."""
        return f"{shown(self.input, 'input')} -> {shown(self.output, 'output')}: {self.text}, {self.seconds:.2f} s"
