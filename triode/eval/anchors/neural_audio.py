"""EnCodec, DAC and SNAC as learned anchors of sound, through their own packages where these are installed.

Published weights are used where the package's own cache holds them already; nothing is ever downloaded. Without them
the networks have random weights: rate, speed and complexity are what they are, and what comes back means nothing. The
codes are packed in as few bits as their code books need; no entropy coder of ours makes them smaller.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from triode.errors import BitstreamError, UnsupportedError
from triode.eval.anchors.codes_networks import CodesNetwork, DacNetwork, EncodecNetwork, SnacNetwork, Stretch
from triode.eval.anchors.common import container_parts, package_version, torch_threads
from triode.eval.anchors.options import Options
from triode.eval.anchors.resample import RESAMPLER, resample
from triode.eval.anchors.sounds import check_sound
from triode.eval.coder import Coder, CoderFacts, register_coder
from triode.media import Sound

__all__ = ["CodesCoder"]

_HEAD: Final = struct.Struct(">IIBBBH")
_RUN: Final = struct.Struct(">HBI")


class CodesCoder(Coder):
    """A network that makes codes, behind a file of packed bits.

    The file, big-endian: rate, samples, channels, bits of a code, whether there are scales (1 byte each but for the
    first two, 32 bits each), number of runs of equal stretches (16 bits); for each run its length (16 bits), code books
    (8), codes of a book (32); scales as 32-bit floats; then all codes, bit after bit. Channels are coded one by one, or
    together by a stereo network, which gets a mono sound twice and of which the mean is taken.

    Args:
        name: Name in a report.
        title: For people.
        network: What codes.
        options: For the report.
        package: Distribution that the network comes from.
        threads: Threads of torch.
    """

    media = "audio"

    def __init__(
        self, name: str, title: str, network: CodesNetwork, options: Mapping[str, Any], package: str, threads: int
    ) -> None:
        self.name, self.qualities = name, network.qualities
        self._title, self._network, self._options = title, network, dict(options)
        self._package, self._threads = package, threads
        self._counted: tuple[float, float] | None = None
        network.module.eval().requires_grad_(False)

    def encode(self, item: Any, quality: float) -> bytes:
        """Return a file.

        Raises:
            ValueError: If the network has no such operating point.
            UnsupportedError: If there are no samples, or more channels than the network or the file takes.
        """
        network = self._network
        samples = check_sound(item, self.name, most=2 if network.channels == 2 else 255)
        wave = resample(samples, item.rate, network.rate)
        if network.channels == 2:
            wave = np.broadcast_to(wave, (2, wave.shape[1])).copy()
        waves = torch.from_numpy(wave).reshape(-1, network.channels, wave.shape[1])
        with torch_threads(self._threads), torch.inference_mode():
            stretches = network.encode(waves, quality)
        scales = [s.scale for s in stretches if s.scale is not None]
        shapes = [tuple(s.codes.shape[1:]) for s in stretches]
        runs = [(len(list(group)), *shape) for shape, group in groupby(shapes)]
        try:
            head = _HEAD.pack(item.rate, samples.shape[1], item.channels, network.bits, len(scales) > 0, len(runs))
            head += b"".join(_RUN.pack(*run) for run in runs)
        except struct.error as error:
            raise UnsupportedError(f"{self.name} does not code a sound of this length") from error
        floats = b"".join(scale.numpy().astype(">f4").tobytes() for scale in scales)
        return head + floats + _pack([s.codes.numpy() for s in stretches], network.bits)

    def decode(self, data: bytes) -> Sound:
        """Return the sound, in the rate and length that it had.

        Raises:
            BitstreamError: If the file is damaged.
        """
        network = self._network
        rate, frames, channels, shapes, at, scaled = self._parse(data)
        batch = 1 if network.channels == 2 else channels
        sizes = [batch * books * length for books, length in shapes]
        scales: list[Tensor | None] = [None] * len(shapes)
        if scaled:
            count = batch * len(shapes)
            floats = np.frombuffer(data[at : at + 4 * count], ">f4").astype(np.float32).reshape(-1, batch)
            scales, at = list(torch.from_numpy(floats)), at + 4 * count
        codes = np.split(_unpack(data[at:], sum(sizes), network.bits), np.cumsum(sizes)[:-1])
        stretches = [
            Stretch(torch.from_numpy(part.reshape(batch, *shape)), scale)
            for part, shape, scale in zip(codes, shapes, scales, strict=True)
        ]
        with torch_threads(self._threads), torch.inference_mode():
            waves = network.decode(stretches)
        samples = waves.reshape(-1, waves.shape[-1]).float().numpy()
        if network.channels == 2 and channels == 1:
            samples = samples.mean(axis=0, keepdims=True)
        samples = resample(np.ascontiguousarray(samples), network.rate, rate)
        if samples.shape[1] < frames:
            raise BitstreamError(f"the {self.name} file has codes for {samples.shape[1]} samples, not {frames}")
        return Sound(np.ascontiguousarray(samples[:, :frames]), rate)

    def payload_bytes(self, data: bytes) -> int:
        """Return the bytes of scales and codes."""
        return len(data) - self._parse(data)[4]

    def parts(self, data: bytes) -> Mapping[str, int]:
        """Return the bytes of the header and of what follows it."""
        return container_parts(len(data), self.payload_bytes(data))

    def facts(self) -> CoderFacts:
        """Return options, versions and complexity, which is that of the largest rate."""
        if self._counted is None:
            self._counted = self._count()
        random = self._network.digest is None
        return CoderFacts(
            f"{self._title}{', random weights' if random else ''})",
            kind="learned",
            options={
                **self._options,
                "weights": "random" if random else "published",
                "entropy_coding": f"none: {self._network.bits} bits a code",
                "resampler": RESAMPLER,
                "threads": self._threads,
            },
            versions={self._package: package_version(self._package), "torch": torch.__version__.split("+")[0]},
            parameters=sum(p.numel() for p in self._network.module.parameters()),
            encode_kmac=self._counted[0],
            decode_kmac=self._counted[1],
            digest=self._network.digest,
        )

    def _parse(self, data: bytes) -> tuple[int, int, int, list[tuple[int, int]], int, bool]:
        """Return rate, samples, channels, shapes of the stretches, size of the header, and whether there are scales."""
        try:
            rate, frames, channels, bits, scaled, count = _HEAD.unpack_from(data)
            runs = [_RUN.unpack_from(data, _HEAD.size + _RUN.size * i) for i in range(count)]
        except struct.error as error:
            raise BitstreamError(f"{len(data)} bytes are no file of {self.name}") from error
        shapes = [(books, length) for repeat, books, length in runs for _ in range(repeat)]
        batch = 1 if self._network.channels == 2 else channels
        at = _HEAD.size + _RUN.size * count
        size = (bits * batch * sum(books * length for books, length in shapes) + 7) // 8
        size += 4 * batch * len(shapes) * bool(scaled)
        if bits != self._network.bits or not (rate and frames and channels) or at + size != len(data):
            raise BitstreamError(f"{len(data)} bytes are no file of {self.name}")
        return rate, frames, channels, shapes, at, bool(scaled)

    def _count(self) -> tuple[float, float]:
        """Count thousands of multiplications a sample to encode and to decode, on a second of noise."""
        network = self._network
        noise = torch.rand(1, network.channels, network.rate, generator=torch.Generator().manual_seed(0)) - 0.5
        # Without oneDNN recurrent layers are made of multiplications that the counter sees.
        with torch_threads(self._threads), torch.no_grad(), warnings.catch_warnings(), _without_onednn():
            with FlopCounterMode(display=False) as encoding:
                stretches = network.encode(noise, network.qualities[-1])
            with FlopCounterMode(display=False) as decoding:
                network.decode(stretches)
        samples = 2 * 1000 * network.channels * network.rate  # a multiplication with addition counts as two
        return encoding.get_total_flops() / samples, decoding.get_total_flops() / samples


def _without_onednn() -> AbstractContextManager[None]:
    """Return a context in which torch does without oneDNN; setting that warns of GPUs that are not there."""
    warnings.simplefilter("ignore", UserWarning)
    context: AbstractContextManager[None] = torch.backends.mkldnn.flags(enabled=False)
    return context


def _pack(codes: Sequence[NDArray[np.int64]], bits: int) -> bytes:
    """Write codes one after the other, each in `bits` bits, the first bit the highest; the last byte ends in zeros."""
    flat = np.concatenate([part.reshape(-1) for part in codes])
    places = np.arange(bits - 1, -1, -1)
    return np.packbits((flat[:, None] >> places & 1).astype(np.uint8)).tobytes()


def _unpack(data: bytes, count: int, bits: int) -> NDArray[np.int64]:
    """Undo :func:`_pack`."""
    flat = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits).reshape(count, bits)
    return flat.astype(np.int64) @ (1 << np.arange(bits - 1, -1, -1))


def _build(
    kind: Callable[[str, str], CodesNetwork], title: str, package: str, models: Sequence[str], given: Mapping[str, str]
) -> Coder:
    name = title.lower()
    read = Options(name, given)
    model = read.choice("model", models[0], models)
    weights = read.choice("weights", "auto", ("auto", "published", "random"))
    threads = read.integer("threads", 1, 1, 64)
    read.done()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = kind(model, weights)
    return CodesCoder(name, f"{title} ({model}", network, {"model": model}, package, threads)


@register_coder("encodec", "audio")
def _encodec(given: Mapping[str, str]) -> Coder:
    return _build(EncodecNetwork, "EnCodec", "encodec", ("24khz", "48khz"), given)


@register_coder("dac", "audio")
def _dac(given: Mapping[str, str]) -> Coder:
    return _build(DacNetwork, "DAC", "descript-audio-codec", ("44khz", "24khz", "16khz"), given)


@register_coder("snac", "audio")
def _snac(given: Mapping[str, str]) -> Coder:
    return _build(SnacNetwork, "SNAC", "snac", ("24khz", "32khz", "44khz"), given)
